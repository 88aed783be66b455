/* backlog: in order, control frames between the frames of a message, and what may be dropped */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ws/backlog.h"

static _Atomic int64_t counter;

static void add(struct cpool__backlog *backlog, int opcode, const char *text, size_t len)
{
  struct cpool__frame *frame = cpool__frame_new(opcode, text, len, &counter);
  assert_non_null(frame);
  struct cpool__backlog_node *node = cpool__backlog_node_new(frame);
  assert_non_null(node);
  cpool__backlog_add(backlog, node);
}

/* The first byte of the next payload; 0: none. */
static int first_of(struct cpool__backlog *backlog, int64_t *sent)
{
  size_t len;
  const unsigned char *next = cpool__backlog_next(backlog, &len);
  if (next == NULL)
    return 0;
  int first = next[next[1] < 126 ? 2 : 4];
  *sent = cpool__backlog_sent(backlog);
  return first;
}

static void messages_go_in_order_and_pings_ahead(void **state)
{
  (void) state;
  struct cpool__backlog backlog = {0};
  int64_t sent;
  add(&backlog, 1, "a", 1);
  add(&backlog, 1, "b", 1);
  add(&backlog, 9, "p", 1);
  add(&backlog, 9, "q", 1);
  assert_int_equal(first_of(&backlog, &sent), 'p');
  assert_int_equal(sent, -1);
  assert_int_equal(first_of(&backlog, &sent), 'q');
  assert_int_equal(first_of(&backlog, &sent), 'a');
  assert_int_equal(sent, 1);
  add(&backlog, 1, "c", 1);
  assert_int_equal(first_of(&backlog, &sent), 'b');
  assert_int_equal(first_of(&backlog, &sent), 'c');
  assert_int_equal(first_of(&backlog, &sent), 0);
  assert_true(cpool__backlog_empty(&backlog));
  assert_int_equal(counter, 0);
}

static void a_message_of_several_frames_is_not_cut(void **state)
{
  (void) state;
  enum { LONG = CPOOL__FRAME_PIECE + 10 };
  struct cpool__backlog backlog = {0};
  char *payload = malloc(LONG);
  int64_t sent;
  assert_non_null(payload);
  memset(payload, 'l', LONG);
  add(&backlog, 2, payload, LONG);
  add(&backlog, 2, "n", 1);
  assert_int_equal(first_of(&backlog, &sent), 'l');
  assert_int_equal(sent, -1); /* the rest follows */
  add(&backlog, 9, "p", 1);
  assert_int_equal(first_of(&backlog, &sent), 'p');
  assert_int_equal(cpool__backlog_drop_oldest(&backlog), 1); /* the one that has not begun */
  assert_int_equal(cpool__backlog_drop_oldest(&backlog), -1);
  assert_int_equal(first_of(&backlog, &sent), 'l');
  assert_int_equal(sent, LONG);
  assert_true(cpool__backlog_empty(&backlog));
  free(payload);
  assert_int_equal(counter, 0);
}

static void the_oldest_goes_first(void **state)
{
  (void) state;
  struct cpool__backlog backlog = {0};
  int64_t sent, bytes;
  add(&backlog, 1, "abc", 3);
  add(&backlog, 1, "de", 2);
  add(&backlog, 9, "p", 1);
  assert_int_equal(cpool__backlog_drop_oldest(&backlog), 3);
  assert_int_equal(first_of(&backlog, &sent), 'p');
  add(&backlog, 1, "f", 1);
  assert_int_equal(cpool__backlog_clear(&backlog, &bytes), 2);
  assert_int_equal(bytes, 3);
  assert_int_equal(cpool__backlog_drop_oldest(&backlog), -1);
  add(&backlog, 1, "g", 1); /* and it goes on */
  assert_int_equal(first_of(&backlog, &sent), 'g');
  assert_int_equal(counter, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(messages_go_in_order_and_pings_ahead),
      cmocka_unit_test(a_message_of_several_frames_is_not_cut),
      cmocka_unit_test(the_oldest_goes_first),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
