/* folding: only what continues a field of the same transfer may be folded */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "http/folding.h"

/* The lines up to the first that is refused; '|' ends a piece. */
static int taken(const char *lines)
{
  struct cpool__folding folding = {0};
  int count = 0;
  while (*lines != '\0') {
    size_t len = strcspn(lines, "|");
    if (!cpool__folding_piece(&folding, lines, len))
      return count;
    count++;
    lines += len + (lines[len] == '|');
  }
  return count;
}

static void a_folded_line_behind_a_field_is_taken(void **state)
{
  (void) state;
  assert_int_equal(taken("HTTP/1.1 200 OK\r\n|A: b\r\n| c\r\n|\td\r\n|\r\n"), 5);
  assert_int_equal(taken("HTTP/1.1 100 C\r\n|A: b\r\n|\r\n|HTTP/1.1 200 OK\r\n| c\r\n"), 5); /* of the same transfer */
}

static void a_folded_line_behind_none_is_refused(void **state)
{
  (void) state;
  assert_int_equal(taken("HTTP/1.1 200 OK\r\n| c\r\n"), 1);
  assert_int_equal(taken("HTTP/1.1 200 OK\r\n|\tc: d\r\n"), 1);
  assert_int_equal(taken("HTTP/1.1 200 OK\n| c\n"), 1);
  assert_int_equal(taken("HTTP/1.1 100 C\r\n|\r\n|HTTP/1.1 200 OK\r\n| c\r\n"), 3);
  assert_int_equal(taken("Foo: bar\r\n| c\r\n"), 1); /* no status line, but not stored either */
}

static void a_long_line_in_pieces_is_one_line(void **state)
{
  (void) state;
  assert_int_equal(taken("HTTP/1.1 200 |  very OK\r\n|A: b\r\n| c\r\n"), 4);
  assert_int_equal(taken("HTTP/1.1 200 |  very OK\r\n| c\r\n"), 2);
  assert_int_equal(taken("HTTP/1.1 200 OK\r\n|A: b| c| d\r\n| e\r\n"), 5);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_folded_line_behind_a_field_is_taken),
      cmocka_unit_test(a_folded_line_behind_none_is_refused),
      cmocka_unit_test(a_long_line_in_pieces_is_one_line),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
