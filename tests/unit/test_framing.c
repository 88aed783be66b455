/* framing: lengths that could be read in two ways are not read at all */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "http/framing.h"

static bool line(struct cpool__framing *framing, const char *text)
{
  return cpool__framing_line(framing, text, strlen(text));
}

static void one_length_in_digits_is_taken(void **state)
{
  (void) state;
  struct cpool__framing framing;
  cpool__framing_init(&framing);
  assert_true(line(&framing, "HTTP/1.1 200 OK\r\n"));
  assert_true(line(&framing, "Content-Length: 5\r\n"));
  assert_true(line(&framing, "content-length:\t5 \r\n"));
  assert_true(line(&framing, "Content-Lengthy: x\r\n"));
  assert_true(line(&framing, "\r\n"));
  assert_true(line(&framing, ""));
  assert_int_equal(framing.content_length, 5);
  assert_false(cpool__framing_doubtful(&framing, 200));
}

static void other_lengths_are_refused(void **state)
{
  static const char *const bad[] = {"Content-Length: +5",   "Content-Length: -1",
                                    "Content-Length: 5x",   "Content-Length:",
                                    "Content-Length: 5,5",  "Content-Length: 0x5",
                                    "CONTENT-LENGTH: 5 5",  "Content-Length: 9999999999999999999",
                                    "Content-Length: \r\n", "Content-Length: ５"};
  (void) state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct cpool__framing framing;
    cpool__framing_init(&framing);
    assert_false(line(&framing, bad[i]));
  }
}

static void a_second_length_that_differs_is_refused(void **state)
{
  (void) state;
  struct cpool__framing framing;
  cpool__framing_init(&framing);
  assert_true(line(&framing, "Content-Length: 5"));
  assert_false(line(&framing, "Content-Length: 7"));
}

static void an_interim_answer_does_not_count(void **state)
{
  (void) state;
  struct cpool__framing framing;
  cpool__framing_init(&framing);
  assert_true(line(&framing, "HTTP/1.1 103 Early Hints"));
  assert_true(line(&framing, "Content-Length: 5"));
  assert_true(line(&framing, "HTTP/1.1 200 OK"));
  assert_true(line(&framing, "Content-Length: 7"));
  assert_int_equal(framing.content_length, 7);
}

static void a_length_beside_a_coding_and_a_body_of_a_204_end_the_connection(void **state)
{
  (void) state;
  struct cpool__framing framing;
  cpool__framing_init(&framing);
  assert_true(line(&framing, "Transfer-Encoding: chunked"));
  assert_false(cpool__framing_doubtful(&framing, 200));
  assert_true(cpool__framing_doubtful(&framing, 204));
  assert_true(line(&framing, "Content-Length: 0"));
  assert_true(cpool__framing_doubtful(&framing, 200));
  cpool__framing_init(&framing);
  assert_true(line(&framing, "Content-Length: 0"));
  assert_false(cpool__framing_doubtful(&framing, 204));
  cpool__framing_init(&framing);
  assert_true(line(&framing, "Content-Length: 1"));
  assert_true(cpool__framing_doubtful(&framing, 204));
  assert_false(cpool__framing_doubtful(&framing, 304));
}

/* Lines separated by '|'. */
static bool last(const char *head, int status_code, bool to_head)
{
  struct cpool__framing framing;
  cpool__framing_init(&framing);
  while (*head != '\0') {
    size_t len = strcspn(head, "|");
    assert_true(cpool__framing_line(&framing, head, len));
    head += head[len] == '|' ? len + 1 : len;
  }
  return cpool__framing_last(&framing, status_code, to_head);
}

static void the_head_tells_whether_the_connection_goes_on(void **state)
{
  (void) state;
  assert_false(last("HTTP/1.1 200 OK|Content-Length: 5", 200, false));
  assert_false(last("HTTP/1.1 200 OK|Transfer-Encoding: chunked", 200, false));
  assert_false(last("HTTP/1.1 200 OK|Content-Length: 5|Connection: keep-alive, closed", 200, false));
  assert_true(last("HTTP/1.1 200 OK|Content-Length: 5|Connection: close", 200, false));
  assert_true(last("HTTP/1.1 200 OK|Content-Length: 5|CONNECTION:\tfoo ,\tClose\r\n", 200, false));
  assert_true(last("HTTP/1.0 200 OK|Content-Length: 5", 200, false));
  assert_false(last("HTTP/1.0 200 OK|Content-Length: 5|Connection: Keep-Alive", 200, false));
}

static void a_body_that_lasts_to_the_end_is_the_last(void **state)
{
  (void) state;
  assert_true(last("HTTP/1.1 200 OK", 200, false));
  assert_false(last("HTTP/1.1 200 OK", 200, true));
  assert_false(last("HTTP/1.1 204 No Content", 204, false));
  assert_false(last("HTTP/1.1 304 Not Modified", 304, false));
  assert_false(last("HTTP/2 200", 200, false));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_length_in_digits_is_taken),
      cmocka_unit_test(other_lengths_are_refused),
      cmocka_unit_test(a_second_length_that_differs_is_refused),
      cmocka_unit_test(an_interim_answer_does_not_count),
      cmocka_unit_test(a_length_beside_a_coding_and_a_body_of_a_204_end_the_connection),
      cmocka_unit_test(the_head_tells_whether_the_connection_goes_on),
      cmocka_unit_test(a_body_that_lasts_to_the_end_is_the_last),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
