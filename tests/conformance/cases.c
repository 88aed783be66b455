/* cases: groups 1 to 7, 9 and 10 of the Autobahn test suite; 12 and 13 are about compression, which is not offered */
#include "conformance/cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct conformance_case before_text[] = {
    {.number = "1.1.1", .say = "t"},
    {.number = "1.1.2", .say = "t=*125"},
    {.number = "1.1.3", .say = "t=*126"},
    {.number = "1.1.4", .say = "t=*127"},
    {.number = "1.1.5", .say = "t=*128"},
    {.number = "1.1.6", .say = "t=*65535"},
    {.number = "1.1.7", .say = "t=*65536"},
    {.number = "1.1.8", .say = "t=*65536", .cut = 997},
    {.number = "1.2.1", .say = "b"},
    {.number = "1.2.2", .say = "b=*125"},
    {.number = "1.2.3", .say = "b=*126"},
    {.number = "1.2.4", .say = "b=*127"},
    {.number = "1.2.5", .say = "b=*128"},
    {.number = "1.2.6", .say = "b=*65535"},
    {.number = "1.2.7", .say = "b=*65536"},
    {.number = "1.2.8", .say = "b=*65536", .cut = 997},
    {.number = "2.1", .say = "p", .strict = "P"},
    {.number = "2.2", .say = "p=Hello,world!", .strict = "P=Hello,world!"},
    {.number = "2.3", .say = "p=#00fffefdfcfb00ff", .strict = "P=#00fffefdfcfb00ff"},
    {.number = "2.4", .say = "p=*125", .strict = "P=*125"},
    {.number = "2.5", .say = "p=*126", .strict = "x1002"},
    {.number = "2.6", .say = "p=*125", .strict = "P=*125", .cut = 1},
    {.number = "2.7", .say = "P", .strict = ""},
    {.number = "2.8", .say = "P=unasked", .strict = ""},
    {.number = "2.9", .say = "P=unasked p=asked", .strict = "P=asked"},
    {"2.10",
     "p=payload-0 p=payload-1 p=payload-2 p=payload-3 p=payload-4 p=payload-5 p=payload-6 p=payload-7 p=payload-8 "
     "p=payload-9",
     .strict = "P=payload-0 P=payload-1 P=payload-2 P=payload-3 P=payload-4 P=payload-5 P=payload-6 P=payload-7 "
               "P=payload-8 P=payload-9"},
    {"2.11",
     "p=payload-0 p=payload-1 p=payload-2 p=payload-3 p=payload-4 p=payload-5 p=payload-6 p=payload-7 p=payload-8 "
     "p=payload-9",
     .strict = "P=payload-0 P=payload-1 P=payload-2 P=payload-3 P=payload-4 P=payload-5 P=payload-6 P=payload-7 "
               "P=payload-8 P=payload-9",
     .cut = 1},
    {.number = "3.1", .say = "91=small", .strict = "x1002"},
    {.number = "3.2", .say = "t=small a1=small p", .strict = "t=small x1002", .lenient = {"x1002"}},
    {.number = "3.3", .say = "t=small b1=small p", .strict = "t=small x1002", .lenient = {"x1002"}, .cut = CUT_FRAMES},
    {.number = "3.4", .say = "t=small c1=small p", .strict = "t=small x1002", .lenient = {"x1002"}, .cut = 1},
    {.number = "3.5", .say = "d2=#00fffefdfcfb00ff", .strict = "x1002"},
    {.number = "3.6", .say = "e9=small", .strict = "x1002"},
    {.number = "3.7", .say = "f8", .strict = "x1002"},
    {.number = "4.1.1", .say = "83", .strict = "x1002"},
    {.number = "4.1.2", .say = "84=reserved", .strict = "x1002"},
    {.number = "4.1.3", .say = "t=small 85 p", .strict = "t=small x1002", .lenient = {"x1002"}},
    {.number = "4.1.4",
     .say = "t=small 86=reserved p",
     .strict = "t=small x1002",
     .lenient = {"x1002"},
     .cut = CUT_FRAMES},
    {.number = "4.1.5", .say = "t=small 87=reserved p", .strict = "t=small x1002", .lenient = {"x1002"}, .cut = 1},
    {.number = "4.2.1", .say = "8b", .strict = "x1002"},
    {.number = "4.2.2", .say = "8c=reserved", .strict = "x1002"},
    {.number = "4.2.3", .say = "t=small 8d p", .strict = "t=small x1002", .lenient = {"x1002"}},
    {.number = "4.2.4",
     .say = "t=small 8e=reserved p",
     .strict = "t=small x1002",
     .lenient = {"x1002"},
     .cut = CUT_FRAMES},
    {.number = "4.2.5", .say = "t=small 8f=reserved p", .strict = "t=small x1002", .lenient = {"x1002"}, .cut = 1},
    {.number = "5.1", .say = "p-=one c=two", .strict = "x1002"},
    {.number = "5.2", .say = "P-=one c=two", .strict = "x1002"},
    {.number = "5.3", .say = "t-=one c=two", .strict = "t=onetwo"},
    {.number = "5.4", .say = "t-=one c=two", .strict = "t=onetwo", .cut = CUT_FRAMES},
    {.number = "5.5", .say = "t-=one c=two", .strict = "t=onetwo", .cut = 1},
    {.number = "5.6", .say = "t-=one p=ping c=two", .strict = "P=ping t=onetwo"},
    {.number = "5.7", .say = "t-=one p=ping c=two", .strict = "P=ping t=onetwo", .cut = CUT_FRAMES},
    {.number = "5.8", .say = "t-=one p=ping c=two", .strict = "P=ping t=onetwo", .cut = 1},
    {.number = "5.9", .say = "c=stray t=whole", .strict = "x1002"},
    {.number = "5.10", .say = "c=stray t=whole", .strict = "x1002", .cut = CUT_FRAMES},
    {.number = "5.11", .say = "c=stray t=whole", .strict = "x1002", .cut = 1},
    {.number = "5.12", .say = "c-=stray t=whole", .strict = "x1002"},
    {.number = "5.13", .say = "c-=stray t=whole", .strict = "x1002", .cut = CUT_FRAMES},
    {.number = "5.14", .say = "c-=stray t=whole", .strict = "x1002", .cut = 1},
    {.number = "5.15", .say = "t-=one c=two c-=stray t=whole", .strict = "t=onetwo x1002", .lenient = {"x1002"}},
    {.number = "5.16", .say = "2:c-=stray t-=one c=two", .strict = "x1002"},
    {.number = "5.17", .say = "2:c=stray t-=one c=two", .strict = "x1002"},
    {.number = "5.18", .say = "t-=one t=two", .strict = "x1002"},
    {.number = "5.19", .say = "t-=1 c-=2 p=first c-=3 c-=4 p=second c=5", .strict = "P=first P=second t=12345"},
    {.number = "5.20",
     .say = "t-=1 c-=2 p=first c-=3 c-=4 p=second c=5",
     .strict = "P=first P=second t=12345",
     .cut = CUT_FRAMES},
    {.number = "6.1.1", .say = "t"},
    {.number = "6.1.2", .say = "t- c- c", .strict = "t"},
    {.number = "6.1.3", .say = "t- c-=middle c", .strict = "t=middle"},
    {.number = "6.2.1", .say = "t=#48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121"},
    {.number = "6.2.2",
     .say = "t-=#48656c6c6f2dc2b540c3 c=#9fc3b6c3a4c3bcc3a0c3a12d5554462d382121",
     .strict = "t=#48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121"},
    {.number = "6.2.3", .say = "t=#48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121/1"},
    {.number = "6.2.4", .say = "t=#cebae1bdb9cf83cebcceb5/1"},
    {.number = "6.3.1", .say = "t=#cebae1bdb9cf83cebcceb5eda080656469746564", .strict = "x1007"},
    {.number = "6.3.2", .say = "t=#cebae1bdb9cf83cebcceb5eda080656469746564/1", .strict = "x1007"},
    {.number = "6.4.1",
     .say = "t-=#cebae1bdb9cf83cebcceb5 c-=#f4908080 c=edited",
     .strict = "x1007",
     .cut = CUT_FRAMES},
    {.number = "6.4.2",
     .say = "t-=#cebae1bdb9cf83cebcceb5f4 c-=#90 c=#8080656469746564",
     .strict = "x1007",
     .cut = CUT_FRAMES},
    {.number = "6.4.3", .say = "t=#cebae1bdb9cf83cebcceb5f4908080656469746564", .strict = "x1007", .cut = 17},
    {.number = "6.4.4", .say = "t=#cebae1bdb9cf83cebcceb5f4908080656469746564", .strict = "x1007", .cut = 18},
};

/* Messages, in hex: + is UTF-8 and comes back, - is not. Each gets the next number of its group. */
static const struct {
  const char *group, *payloads;
} texts[] = {
    {"6.5", "+68656c6c6f24776f726c64 +68656c6c6fc2a2776f726c64 +68656c6c6fe282ac776f726c64 "
            "+68656c6c6ff0a4ada2776f726c64 +cebae1bdb9cf83cebcceb5"},
    {"6.6", "-ce +ceba -cebae1 -cebae1bd +cebae1bdb9 -cebae1bdb9cf +cebae1bdb9cf83 -cebae1bdb9cf83ce "
            "+cebae1bdb9cf83cebc -cebae1bdb9cf83cebcce +cebae1bdb9cf83cebcceb5"},
    {"6.7", "+00 +c280 +e0a080 +f0908080"},
    {"6.8", "-f888808080 -fc8480808080"},
    {"6.9", "+7f +dfbf +efbfbf +f48fbfbf"},
    {"6.10", "-f7bfbfbf -fbbfbfbfbf -fdbfbfbfbfbf"},
    {"6.11", "+ed9fbf +ee8080 +efbfbd +f48fbfbf -f4908080"},
    {"6.12", "-80 -bf -80bf -80bf80 -80bf80bf -80bf80bf80 -80bf80bf80bf "
             "-808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3"
             "b4b5b6b7b8b9babbbcbdbebf"},
    {"6.13", "-c020c120c220c320c420c520c620c720c820c920ca20cb20cc20cd20ce20cf20d020d120d220d320d420d520d620d720d820d920"
             "da20db20dc20dd20de20df20 -e020e120e220e320e420e520e620e720e820e920ea20eb20ec20ed20ee20ef20 "
             "-f020f120f220f320f420f520f620f720 -f820f920fa20fb20 -fc20fd20"},
    {"6.14", "-c0 -e080 -f08080 -f8808080 -fc80808080 -df -efbf -f7bfbf -fbbfbfbf -fdbfbfbfbf"},
    {"6.15", "-c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf"},
    {"6.16", "-fe -ff -fefeffff"},
    {"6.17", "-c0af -e080af -f08080af -f8808080af -fc80808080af"},
    {"6.18", "-c1bf -e09fbf -f08fbfbf -f887bfbfbf -fc83bfbfbfbf"},
    {"6.19", "-c080 -e08080 -f0808080 -f880808080 -fc8080808080"},
    {"6.20", "-eda080 -edadbf -edae80 -edafbf -edb080 -edbe80 -edbfbf"},
    {"6.21",
     "-eda080edb080 -eda080edbfbf -edadbfedb080 -edadbfedbfbf -edae80edb080 -edae80edbfbf -edafbfedb080 -edafbfedbfbf"},
    {"6.22", "+efbfbe +efbfbf +f09fbfbe +f09fbfbf +f0afbfbe +f0afbfbf +f0bfbfbe +f0bfbfbf +f18fbfbe +f18fbfbf "
             "+f19fbfbe +f19fbfbf +f1afbfbe +f1afbfbf +f1bfbfbe +f1bfbfbf +f28fbfbe +f28fbfbf +f29fbfbe +f29fbfbf "
             "+f2afbfbe +f2afbfbf +f2bfbfbe +f2bfbfbf +f38fbfbe +f38fbfbf +f39fbfbe +f39fbfbf +f3afbfbe +f3afbfbf "
             "+f3bfbfbe +f3bfbfbf +f48fbfbe +f48fbfbf"},
    {"6.23", "+efbfb9 +efbfba +efbfbb +efbfbc +efbfbd +efbfbe +efbfbf"},
};

static const struct conformance_case closes[] = {
    {.number = "7.1.1", .say = "t=Hello x=#03e8", .strict = "t=Hello x1000"},
    {.number = "7.1.2", .say = "x=#03e8 x=#03e8", .strict = "x1000"},
    {.number = "7.1.3", .say = "x=#03e8 p=late", .strict = "x1000"},
    {.number = "7.1.4", .say = "x=#03e8 t=late", .strict = "x1000"},
    {.number = "7.1.5", .say = "t-=one x=#03e8 c=two", .strict = "x1000"},
    {.number = "7.1.6",
     .say = "t=*262144 t=Hello x=#03e8 p=late",
     .strict = "t=*262144 t=Hello x1000",
     .lenient = {"x1000", "t=*262144 x1000"}},
    {.number = "7.3.1", .say = "x", .strict = "x1005"},
    {.number = "7.3.2", .say = "x=#03", .strict = "x1002"},
    {.number = "7.3.3", .say = "x=#03e8", .strict = "x1000"},
    {.number = "7.3.4", .say = "x=#03e86f6b", .strict = "x1000"},
    {.number = "7.3.5",
     .say = "x=#"
            "03e82a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a"
            "2a2a2a2"
            "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2"
            "a2a2a2a"
            "2a2a2a2a2a2a2a2a2a2a2a2a",
     .strict = "x1000"},
    {.number = "7.3.6",
     .say = "x=#"
            "03e82a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a"
            "2a2a2a2"
            "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2"
            "a2a2a2a"
            "2a2a2a2a2a2a2a2a2a2a2a2a2a",
     .strict = "x1002"},
    {.number = "7.5.1",
     .say = "x=#03e8cebae1bdb9cf83cebcceb5eda080656469746564",
     .strict = "x1007",
     .lenient = {"x1002"}},
};

/* Codes of close frames: + comes back, - is answered by 1002. */
static const struct {
  const char *group, *codes;
} codes[] = {
    {"7.7", "+1000 +1001 +1002 +1003 +1007 +1008 +1009 +1010 +1011 +3000 +3999 +4000 +4999"},
    {"7.9", "-0 -999 -1004 -1005 -1006 -1016 -1100 -2000 -2999"},
    {"7.13", "-5000 -65535"},
};

static const struct conformance_case loads[] = {
    {.number = "9.1.1", .say = "t=*65536"},
    {.number = "9.1.2", .say = "t=*262144"},
    {.number = "9.1.3", .say = "t=*1048576"},
    {.number = "9.1.4", .say = "t=*4194304"},
    {.number = "9.1.5", .say = "t=*8388608"},
    {.number = "9.1.6", .say = "t=*16777216"},
    {.number = "9.2.1", .say = "b=*65536"},
    {.number = "9.2.2", .say = "b=*262144"},
    {.number = "9.2.3", .say = "b=*1048576"},
    {.number = "9.2.4", .say = "b=*4194304"},
    {.number = "9.2.5", .say = "b=*8388608"},
    {.number = "9.2.6", .say = "b=*16777216"},
    {.number = "9.3.1", .say = "t=*4194304/64"},
    {.number = "9.3.2", .say = "t=*4194304/256"},
    {.number = "9.3.3", .say = "t=*4194304/1024"},
    {.number = "9.3.4", .say = "t=*4194304/4096"},
    {.number = "9.3.5", .say = "t=*4194304/16384"},
    {.number = "9.3.6", .say = "t=*4194304/65536"},
    {.number = "9.3.7", .say = "t=*4194304/262144"},
    {.number = "9.3.8", .say = "t=*4194304/1048576"},
    {.number = "9.3.9", .say = "t=*4194304/4194304"},
    {.number = "9.4.1", .say = "b=*4194304/64"},
    {.number = "9.4.2", .say = "b=*4194304/256"},
    {.number = "9.4.3", .say = "b=*4194304/1024"},
    {.number = "9.4.4", .say = "b=*4194304/4096"},
    {.number = "9.4.5", .say = "b=*4194304/16384"},
    {.number = "9.4.6", .say = "b=*4194304/65536"},
    {.number = "9.4.7", .say = "b=*4194304/262144"},
    {.number = "9.4.8", .say = "b=*4194304/1048576"},
    {.number = "9.4.9", .say = "b=*4194304/4194304"},
    {.number = "9.5.1", .say = "t=*1048576", .cut = 64},
    {.number = "9.5.2", .say = "t=*1048576", .cut = 128},
    {.number = "9.5.3", .say = "t=*1048576", .cut = 256},
    {.number = "9.5.4", .say = "t=*1048576", .cut = 512},
    {.number = "9.5.5", .say = "t=*1048576", .cut = 1024},
    {.number = "9.5.6", .say = "t=*1048576", .cut = 2048},
    {.number = "9.6.1", .say = "b=*1048576", .cut = 64},
    {.number = "9.6.2", .say = "b=*1048576", .cut = 128},
    {.number = "9.6.3", .say = "b=*1048576", .cut = 256},
    {.number = "9.6.4", .say = "b=*1048576", .cut = 512},
    {.number = "9.6.5", .say = "b=*1048576", .cut = 1024},
    {.number = "9.6.6", .say = "b=*1048576", .cut = 2048},
    {.number = "9.7.1", .say = "1000:t"},
    {.number = "9.7.2", .say = "1000:t=*16"},
    {.number = "9.7.3", .say = "1000:t=*64"},
    {.number = "9.7.4", .say = "1000:t=*256"},
    {.number = "9.7.5", .say = "1000:t=*1024"},
    {.number = "9.7.6", .say = "1000:t=*4096"},
    {.number = "9.8.1", .say = "1000:b"},
    {.number = "9.8.2", .say = "1000:b=*16"},
    {.number = "9.8.3", .say = "1000:b=*64"},
    {.number = "9.8.4", .say = "1000:b=*256"},
    {.number = "9.8.5", .say = "1000:b=*1024"},
    {.number = "9.8.6", .say = "1000:b=*4096"},
    {.number = "10.1.1", .say = "t=*65536/1300"},
};

enum { SAY_BYTES = 256 };
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void each_of(const struct conformance_case *cases, size_t count, conformance_fn *fn, void *ctx)
{
  for (size_t i = 0; i < count; i++)
    fn(&cases[i], ctx);
}

/* One case for each word of the list. */
static void each_word(const char *group, const char *words, conformance_fn *fn, void *ctx)
{
  int text = strchr(group, '.')[-1] == '6';
  int number = 0;
  for (const char *word = words; word != NULL; word = strchr(word, ' ')) {
    word += *word == ' ' ? 1 : 0;
    int len = (int) strcspn(word + 1, " ");
    char say[SAY_BYTES], answer[16];
    struct conformance_case one = {.say = say};
    snprintf(one.number, sizeof one.number, "%s.%d", group, ++number);
    if (text)
      snprintf(say, sizeof say, "t=#%.*s", len, word + 1);
    else
      snprintf(say, sizeof say, "x=#%04x", (unsigned) strtoul(word + 1, NULL, 10));
    if (text)
      snprintf(answer, sizeof answer, "x1007");
    else
      snprintf(answer, sizeof answer, "x%.*s", *word == '+' ? len : 4, *word == '+' ? word + 1 : "1002");
    one.strict = text && *word == '+' ? NULL : answer;
    fn(&one, ctx);
  }
}

void conformance_each(conformance_fn *fn, void *ctx)
{
  each_of(before_text, COUNT(before_text), fn, ctx);
  for (size_t i = 0; i < COUNT(texts); i++)
    each_word(texts[i].group, texts[i].payloads, fn, ctx);
  each_of(closes, COUNT(closes), fn, ctx);
  for (size_t i = 0; i < COUNT(codes); i++)
    each_word(codes[i].group, codes[i].codes, fn, ctx);
  each_of(loads, COUNT(loads), fn, ctx);
}
