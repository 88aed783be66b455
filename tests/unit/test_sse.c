/* sse: events are read as the standard says, wherever the stream is cut; what is too large is never held */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "http/sse.h"

enum { CAP = 4096 };

/* "type|id|data" of each event, one behind the other, each with a ';'. */
static void write_event(char *out, const struct cpool__sse_text *event)
{
  char text[512];
  snprintf(text, sizeof text, "%.*s|%.*s|%.*s;", (int) event->type_len, event->type != NULL ? event->type : "",
           (int) event->id_len, event->id != NULL ? event->id : "", (int) event->data_len, event->data);
  strcat(out, text);
}

static enum cpool__sse_result feed(struct cpool__sse *sse, const char *bytes, size_t len, char *out)
{
  struct cpool__sse_text event;
  enum cpool__sse_result result = CPOOL__SSE_MORE;
  while (len > 0 && (result == CPOOL__SSE_MORE || result == CPOOL__SSE_EVENT)) {
    result = cpool__sse_feed(sse, &bytes, &len, &event);
    if (result == CPOOL__SSE_EVENT)
      write_event(out, &event);
  }
  return result;
}

static struct cpool__sse reader(void)
{
  return (struct cpool__sse){.cap = CAP, .retry_ms = -1};
}

/* Whole, cut at each byte, cut at each two, and byte by byte. */
static void assert_reads_as(const char *stream, size_t len, const char *wanted)
{
  for (size_t first = 0; first <= len; first++) {
    for (size_t second = first; second <= len; second++) {
      char out[2048] = "";
      struct cpool__sse sse = reader();
      feed(&sse, stream, first, out);
      feed(&sse, stream + first, second - first, out);
      feed(&sse, stream + second, len - second, out);
      assert_string_equal(out, wanted);
      cpool__sse_fini(&sse);
    }
  }
  char out[2048] = "";
  struct cpool__sse sse = reader();
  for (size_t i = 0; i < len; i++)
    feed(&sse, stream + i, 1, out);
  assert_string_equal(out, wanted);
  cpool__sse_fini(&sse);
}

#define READS_AS(stream, wanted) assert_reads_as(stream, sizeof(stream) - 1, wanted)

static void the_examples_of_the_standard_read_as_it_says(void **state)
{
  (void) state;
  READS_AS("data: This is the first message.\n\ndata: This is the second message, it\ndata: has two lines.\n\n"
           "data: This is the third message.\n\n",
           "||This is the first message.;||This is the second message, it\nhas two lines.;"
           "||This is the third message.;");
  READS_AS("event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
           "add||73857293;remove||2153;add||113411;");
  READS_AS("data: YHOO\ndata: +2\ndata: 10\n\n", "||YHOO\n+2\n10;");
  READS_AS(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
           "|1|first event;||second event;|| third event;");
  READS_AS("data\n\ndata\ndata\n\ndata:", "||;||\n;"); /* the last one is not complete */
  READS_AS("data:test\n\ndata: test\n\n", "||test;||test;");
}

static void lines_end_in_each_of_three_ways(void **state)
{
  (void) state;
  READS_AS("data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", "||a\nb;||c;");
  READS_AS("data: a\rdata: b\r\rdata: c\r\r", "||a\nb;||c;");
  READS_AS("data: a\r\ndata: b\n\rdata: c\n\n", "||a\nb;||c;");
  READS_AS("\n\n\r\r\ndata:x\r\r\n\n", "||x;");
}

static void the_mark_is_skipped_once_and_only_at_the_beginning(void **state)
{
  (void) state;
  READS_AS("\xef\xbb\xbf"
           "data: a\n\n",
           "||a;");
  READS_AS("\xef\xbb\xbf\xef\xbb\xbf"
           "data: a\n\ndata: b\n\n",
           "||b;");
  READS_AS("\xef\xbb"
           "data: a\n\ndata: b\n\n",
           "||b;");
  READS_AS("data: a\n\n\xef\xbb\xbf"
           "data: b\n\ndata: c\n\n",
           "||a;||c;");
}

static void an_id_stays_and_one_with_a_nul_is_ignored(void **state)
{
  (void) state;
  READS_AS("id: 7\ndata: a\n\ndata: b\n\n", "|7|a;|7|b;");
  READS_AS("id: 7\ndata: a\n\nid: 8\0009\ndata: b\n\nid\ndata: c\n\n", "|7|a;|7|b;||c;");
  READS_AS("id: 7\n\ndata: a\n\n", "|7|a;"); /* without data there is no event, but an id */
  READS_AS("id: 1\nid: 2\ndata: a\n\n", "|2|a;");
}

static void types_are_of_one_event(void **state)
{
  (void) state;
  READS_AS("event: x\n\ndata: a\n\n", "||a;");
  READS_AS("event: x\nevent: y\ndata: a\n\ndata: b\n\n", "y||a;||b;");
  READS_AS("event: x\nevent\ndata: a\n\n", "||a;");
}

static void what_is_not_known_is_ignored(void **state)
{
  (void) state;
  READS_AS("foo: bar\nDATA: a\ndata : a\n data: a\ndatas: a\n:\n::\ndata:a:b\n\n", "||a:b;");
  READS_AS("averylongfieldname: x\ndata: a\n\n", "||a;");
}

static int64_t retry_after(const char *stream)
{
  char out[256] = "";
  struct cpool__sse sse = reader();
  for (const char *at = stream; *at != '\0'; at++)
    feed(&sse, at, 1, out);
  int64_t retry_ms = sse.retry_ms;
  cpool__sse_fini(&sse);
  return retry_ms;
}

static void retry_is_a_number_or_nothing(void **state)
{
  (void) state;
  assert_int_equal(retry_after("retry: 1500\n"), 1500);
  assert_int_equal(retry_after("retry:0\r\n"), 0);
  assert_int_equal(retry_after("retry: 1500\nretry: x\n"), 1500);
  assert_int_equal(retry_after("retry: 15 \n"), -1);
  assert_int_equal(retry_after("retry: -1\n"), -1);
  assert_int_equal(retry_after("retry: 1.5\n"), -1);
  assert_int_equal(retry_after("retry\n"), -1);
  assert_int_equal(retry_after("retry:\n"), -1);
  assert_int_equal(retry_after("retry: 1500"), -1); /* the line has no end */
  assert_int_equal(retry_after("retry: 99999999999999999999999\n"), 24 * 60 * 60 * 1000);
}

static void a_new_stream_begins_afresh_with_the_old_id(void **state)
{
  (void) state;
  char out[256] = "";
  struct cpool__sse sse = reader();
  static const char first[] = "id: 5\nretry: 9\ndata: a\n\nid: 6\nevent: x\ndata: lost", next[] = "\xef\xbb\xbf"
                                                                                                  "data: b\n\n";
  feed(&sse, first, sizeof first - 1, out);
  cpool__sse_restart(&sse);
  feed(&sse, next, sizeof next - 1, out);
  assert_string_equal(out, "|5|a;|5|b;");
  assert_int_equal(sse.retry_ms, 9);
  cpool__sse_fini(&sse);
}

static enum cpool__sse_result feed_long(const char *begin, size_t len)
{
  char out[256] = "", block[1000];
  struct cpool__sse sse = reader();
  memset(block, 'x', sizeof block);
  enum cpool__sse_result result = feed(&sse, begin, strlen(begin), out);
  for (size_t fed = 0; fed < len && result == CPOOL__SSE_MORE; fed += sizeof block)
    result = feed(&sse, block, sizeof block, out);
  assert_true(sse.data.capacity + sse.type.capacity + sse.id.capacity + sse.last_id.capacity + sse.new_id.capacity <=
              5 * CAP);
  cpool__sse_fini(&sse);
  return result;
}

static void no_line_is_held_beyond_the_cap(void **state)
{
  (void) state;
  static const char *const begins[] = {"data: ", "event: ", "id: ", "retry: ", ": ", "unknown", "unknown: ", ""};
  for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
    assert_int_equal(feed_long(begins[i], 100 * 1000 * 1000), CPOOL__SSE_OVER_CAP);
}

static void the_cap_is_on_all_lines_of_an_event(void **state)
{
  (void) state;
  char out[256] = "", line[200];
  struct cpool__sse sse = reader();
  enum cpool__sse_result result = CPOOL__SSE_MORE;
  int lines = 0;
  memset(line, 'x', sizeof line);
  memcpy(line, "data: ", 6);
  line[sizeof line - 1] = '\n';
  for (; result == CPOOL__SSE_MORE; lines++)
    result = feed(&sse, line, sizeof line, out);
  assert_int_equal(result, CPOOL__SSE_OVER_CAP);
  assert_in_range(lines, CAP / 194, CAP / 194 + 1);
  cpool__sse_fini(&sse);
}

static void *no_memory(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0)
    free(ptr);
  return NULL;
}

static void want_of_memory_is_told(void **state)
{
  (void) state;
  static const char *const streams[] = {"data: a\n\n", "event: a\n", "id: a\n", "data\n"};
  for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
    char out[64] = "";
    struct cpool__sse sse = reader();
    cpool__memory_hook(no_memory, NULL);
    enum cpool__sse_result result = feed(&sse, streams[i], strlen(streams[i]), out);
    cpool__sse_fini(&sse);
    cpool__memory_hook(NULL, NULL);
    assert_int_equal(result, CPOOL__SSE_NO_MEMORY);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_examples_of_the_standard_read_as_it_says),
      cmocka_unit_test(lines_end_in_each_of_three_ways),
      cmocka_unit_test(the_mark_is_skipped_once_and_only_at_the_beginning),
      cmocka_unit_test(an_id_stays_and_one_with_a_nul_is_ignored),
      cmocka_unit_test(types_are_of_one_event),
      cmocka_unit_test(what_is_not_known_is_ignored),
      cmocka_unit_test(retry_is_a_number_or_nothing),
      cmocka_unit_test(a_new_stream_begins_afresh_with_the_old_id),
      cmocka_unit_test(no_line_is_held_beyond_the_cap),
      cmocka_unit_test(the_cap_is_on_all_lines_of_an_event),
      cmocka_unit_test(want_of_memory_is_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
