/* test_trace: the grammar of traceparent and tracestate */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/trace.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"
#define GOOD "00-" TRACE "-" PARENT "-01"

static void well_formed_traceparents_pass(void **state)
{
  static const char *const good[] = {
      GOOD,
      "00-" TRACE "-" PARENT "-00",
      "00-" TRACE "-" PARENT "-ff", /* unknown flags are the receiver's to ignore */
      "00-00000000000000000000000000000001-0000000000000001-00",
      "01-" TRACE "-" PARENT "-01", /* a later version */
      "fe-" TRACE "-" PARENT "-01-what-the-future-will-be-like",
      "cc-" TRACE "-" PARENT "-01-",
  };
  (void) state;
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    if (!cpool__traceparent_valid(good[i]))
      fail_msg("%s", good[i]);
}

static void malformed_traceparents_do_not(void **state)
{
  static const char *const bad[] = {
      "",
      "00",
      "00-" TRACE "-" PARENT,
      "00-" TRACE "-" PARENT "-0",
      "00-" TRACE "-" PARENT "-011",
      "00-" TRACE "-" PARENT "-01-", /* version 00 ends here */
      "00-" TRACE "-" PARENT "-01 ",
      " " GOOD,
      "ff-" TRACE "-" PARENT "-01",
      "0-" TRACE "-" PARENT "-001",
      "000-" TRACE "-" PARENT "-01",
      "0x-" TRACE "-" PARENT "-01",
      "0A-" TRACE "-" PARENT "-01",
      "00_" TRACE "-" PARENT "-01",
      "00-" TRACE "_" PARENT "-01",
      "00-" TRACE "-" PARENT "_01",
      "00-0AF7651916CD43DD8448EB211C80319C-" PARENT "-01",
      "00-0af7651916cd43dd8448eb211c80319-b" PARENT "-01",
      "00-0af7651916cd43dd8448eb211c80319g-" PARENT "-01",
      "00-00000000000000000000000000000000-" PARENT "-01",
      "00-" TRACE "-0000000000000000-01",
      "00-" TRACE "-B7AD6B7169203331-01",
      "00-" TRACE "-" PARENT "-0G",
      "01-" TRACE "-" PARENT "-01x",
      "01-" TRACE "-" PARENT "-01- x",
      "01-" TRACE "-" PARENT "-01-\r\nX: y",
      "01-" TRACE "-" PARENT "-01-\xc3\xa9",
  };
  (void) state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (cpool__traceparent_valid(bad[i]))
      fail_msg("%s", bad[i]);
  char text[] = GOOD; /* cut off anywhere */
  for (size_t len = strlen(text); len-- > 0;) {
    text[len] = '\0';
    assert_false(cpool__traceparent_valid(text));
  }
}

static void well_formed_tracestates_pass(void **state)
{
  static const char *const good[] = {
      "",
      " ",
      ",",
      "rojo=00f067aa0ba902b7",
      "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
      "rojo=1 , \t congo=2",
      "rojo=1,,congo=2,",
      "a_b-c*d/e=1",
      "fw529a3039@dt=FfAAAAAAAA",
      "1tenant@system=x",
      "a=b c",
      "a= b",
      "a=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~",
  };
  (void) state;
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    if (!cpool__tracestate_valid(good[i]))
      fail_msg("%s", good[i]);
}

static void malformed_tracestates_do_not(void **state)
{
  static const char *const bad[] = {
      "a",       "a=",
      "=1",      "a=1;b=2=3",
      "A=1",     "1a=1",
      "a=1,a=2", "a=b=c",
      "a b=1",   "a =1",
      "@a=1",    "a@=1",
      "a@b@c=1", "a@1=1",
      "a@B=1",   "a=\x01",
      "a=1\r\n", "a=\xc3\xa9",
      "a=\x7f",  "a\t=1",
      "a.b=1",   "a@123456789012345=1",
      "a=\tb",
  };
  (void) state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (cpool__tracestate_valid(bad[i]))
      fail_msg("%s", bad[i]);
}

/* "k00=1,k01=1 ...", or one member with a key and a value of these lengths. */
static bool members_valid(int count, size_t key_len, size_t value_len)
{
  char text[1024] = "";
  size_t len = 0;
  for (int i = 0; i < count; i++)
    len += (size_t) snprintf(text + len, sizeof text - len, "%sk%02d=1", i == 0 ? "" : ",", i);
  if (count == 0) {
    memset(text, 'k', key_len);
    text[key_len] = '=';
    memset(text + key_len + 1, 'v', value_len);
    text[key_len + 1 + value_len] = '\0';
  }
  return cpool__tracestate_valid(text);
}

static void sizes_are_those_of_the_standard(void **state)
{
  (void) state;
  assert_true(members_valid(32, 0, 0));
  assert_false(members_valid(33, 0, 0));
  assert_true(members_valid(0, 256, 256));
  assert_false(members_valid(0, 257, 256));
  assert_false(members_valid(0, 256, 257));
  char text[512];
  for (size_t tenant = 241; tenant <= 242; tenant++)
    for (size_t system = 14; system <= 15; system++) {
      memset(text, 'a', sizeof text);
      text[tenant] = '@';
      strcpy(text + tenant + 1 + system, "=1");
      assert_int_equal(cpool__tracestate_valid(text), tenant == 241 && system == 14);
    }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(well_formed_traceparents_pass),   cmocka_unit_test(malformed_traceparents_do_not),
      cmocka_unit_test(well_formed_tracestates_pass),    cmocka_unit_test(malformed_tracestates_do_not),
      cmocka_unit_test(sizes_are_those_of_the_standard),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
