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

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_length_in_digits_is_taken),
      cmocka_unit_test(other_lengths_are_refused),
      cmocka_unit_test(a_second_length_that_differs_is_refused),
      cmocka_unit_test(an_interim_answer_does_not_count),
      cmocka_unit_test(a_length_beside_a_coding_and_a_body_of_a_204_end_the_connection),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
