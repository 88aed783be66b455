/* test_queue: what a queue promises to one thread: order, marks, and a descriptor that tells the truth */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "queue_items.h"

static void events_come_oldest_first_and_at_most_max(void **state)
{
  cpool_queue *q = *state;
  struct item items[5];
  const cpool_event *events[8];
  for (int i = 0; i < 5; i++)
    item_init(&items[i], q, i, 10);
  push(q, items, 2);
  push(q, items + 2, 3);
  assert_int_equal(cpool_queue_wait(q, events, 3, 1000), 3);
  assert_int_equal(cpool_queue_wait(q, events + 3, 5, 1000), 2);
  for (int i = 0; i < 5; i++)
    assert_ptr_equal(events[i], &items[i].event.event);
  assert_int_equal(cpool_queue_wait(q, events, 8, 0), 0);
  cpool_queue_release(q, (const cpool_event *const[]){&items[4].event.event, &items[0].event.event}, 2);
  cpool_queue_release(q,
                      (const cpool_event *const[]){&items[1].event.event, &items[2].event.event, &items[3].event.event},
                      3);
  for (int i = 0; i < 5; i++)
    assert_int_equal(items[i].releases, 1);
}

static void empty_wait_ends_at_its_time_and_not_before(void **state)
{
  cpool_queue *q = *state;
  const cpool_event *event;
  int64_t begin = clock_ms();
  assert_int_equal(cpool_queue_wait(q, &event, 1, 0), 0);
  assert_int_equal(cpool_queue_wait(q, &event, 1, 30), 0);
  int64_t took = clock_ms() - begin;
  assert_true(took >= 29 && took < DEADLINE_MS);
}

static void bad_arguments_are_refused(void **state)
{
  cpool_queue *q = *state;
  const cpool_event *event;
  assert_int_equal(cpool_queue_wait(NULL, &event, 1, 0), CPOOL_EINVAL);
  assert_int_equal(cpool_queue_wait(q, NULL, 1, 0), CPOOL_EINVAL);
  assert_int_equal(cpool_queue_wait(q, &event, 0, 0), CPOOL_EINVAL);
  assert_int_equal(cpool_queue_wait(q, &event, 1, -2), CPOOL_EINVAL);
  assert_non_null(strstr(last_text(), "timeout_ms"));
  assert_int_equal(cpool_queue_fd(NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_queue_new(NULL, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_queue_free(NULL), CPOOL_OK);
  cpool_queue_release(q, NULL, 1);
  cpool_queue_release(NULL, &event, 1);
  cpool_queue_wake(NULL);
}

static void bad_options_are_refused_by_name(void **state)
{
  (void) state;
  cpool_queue *const untouched = (cpool_queue *) (uintptr_t) 64, *q = untouched;
  cpool_queue_options options;
  cpool_queue_options_init(&options);
  options.high_water_bytes = 4095;
  assert_int_equal(cpool_queue_new(&q, &options), CPOOL_EINVAL);
  assert_string_equal(last_text(), "queue option high_water_bytes: 4095 is out of range 4096..1125899906842624");
  options.high_water_bytes = 4096;
  options.low_water_bytes = 4097;
  assert_int_equal(cpool_queue_new(&q, &options), CPOOL_EINVAL);
  assert_non_null(strstr(last_text(), "low_water_bytes"));
  options.low_water_bytes = CPOOL_OFF;
  assert_int_equal(cpool_queue_new(&q, &options), CPOOL_EINVAL);
  options.size = 0;
  assert_int_equal(cpool_queue_new(&q, &options), CPOOL_EINVAL);
  assert_ptr_equal(q, untouched);
}

static void low_mark_defaults_to_half_of_the_high_one(void **state)
{
  (void) state;
  cpool_queue *q;
  cpool_queue_options options;
  cpool_queue_options_init(&options);
  options.high_water_bytes = 5000; /* the fixed default of the low mark would be above it */
  assert_int_equal(cpool_queue_new(&q, &options), CPOOL_OK);
  struct item items[2];
  const cpool_event *events[2];
  item_init(&items[0], q, 0, 2501);
  item_init(&items[1], q, 1, 2500);
  push(q, items, 2);
  assert_true(cpool__queue_above(q));
  assert_int_equal(cpool_queue_wait(q, events, 2, 0), 2);
  cpool_queue_release(q, events, 1); /* 2500 are left */
  assert_false(cpool__queue_above(q));
  cpool_queue_release(q, events + 1, 1);
  assert_int_equal(cpool_queue_free(q), CPOOL_OK);
}

static void descriptor_is_readable_exactly_while_something_waits(void **state)
{
  cpool_queue *q = *state;
  struct item items[3];
  const cpool_event *events[3];
  for (int i = 0; i < 3; i++)
    item_init(&items[i], q, i, 1);
  int fd = cpool_queue_fd(q);
  assert_true(fd >= 0);
  assert_int_equal(cpool_queue_fd(q), fd);
  assert_false(readable(fd));
  push(q, items, 2);
  assert_true(readable(fd));
  assert_true(readable(fd)); /* level, not edge */
  assert_int_equal(cpool_queue_wait(q, events, 1, 0), 1);
  assert_true(readable(fd));
  assert_int_equal(cpool_queue_wait(q, events + 1, 1, 0), 1);
  assert_false(readable(fd)); /* emptied, though max was not exceeded */
  push(q, items + 2, 1);
  assert_true(readable(fd));
  assert_int_equal(cpool_queue_wait(q, events + 2, 1, 0), 1);
  assert_false(readable(fd));
  cpool_queue_wake(q);
  assert_true(readable(fd));
  assert_int_equal(cpool_queue_wait(q, events, 1, 0), 0);
  assert_false(readable(fd));
  cpool_queue_release(q, (const cpool_event *const[]){events[0], events[1], events[2]}, 3);
}

static void descriptor_made_late_knows_what_waits(void **state)
{
  cpool_queue *q = *state;
  struct item item;
  const cpool_event *event;
  item_init(&item, q, 0, 1);
  push(q, &item, 1);
  assert_true(readable(cpool_queue_fd(q)));
  assert_int_equal(cpool_queue_wait(q, &event, 1, 0), 1);
  assert_false(readable(cpool_queue_fd(q)));
  cpool_queue_release(q, &event, 1);
}

/* The counter of the eventfd counts its writes; a host that drains it itself does no harm. */
static void descriptor_is_written_once_until_emptied(void **state)
{
  cpool_queue *q = *state;
  struct item items[3];
  const cpool_event *events[3];
  for (int i = 0; i < 3; i++)
    item_init(&items[i], q, i, 1);
  int fd = cpool_queue_fd(q);
  push(q, items, 2);
  push(q, items + 2, 1);
  cpool_queue_wake(q);
  uint64_t writes = 0;
  assert_int_equal(read(fd, &writes, sizeof writes), sizeof writes);
  assert_int_equal(writes, 1);
  assert_int_equal(cpool_queue_wait(q, events, 3, 0), 3);
  assert_int_equal(cpool_queue_wait(q, events, 3, 0), 0);
  cpool_queue_release(q,
                      (const cpool_event *const[]){&items[0].event.event, &items[1].event.event, &items[2].event.event},
                      3);
}

static void wake_ends_one_wait_and_is_then_spent(void **state)
{
  cpool_queue *q = *state;
  const cpool_event *event;
  int64_t begin = clock_ms();
  cpool_queue_wake(q);
  cpool_queue_wake(q); /* nobody sleeps: one is enough */
  assert_int_equal(cpool_queue_wait(q, &event, 1, DEADLINE_MS), 0);
  assert_true(clock_ms() - begin < DEADLINE_MS / 2);
  begin = clock_ms();
  assert_int_equal(cpool_queue_wait(q, &event, 1, 20), 0);
  assert_true(clock_ms() - begin >= 19);
}

static void wake_does_not_hide_events(void **state)
{
  cpool_queue *q = *state;
  struct item item;
  const cpool_event *event;
  item_init(&item, q, 0, 1);
  cpool_queue_wake(q);
  push(q, &item, 1);
  assert_int_equal(cpool_queue_wait(q, &event, 1, DEADLINE_MS), 1);
  cpool_queue_release(q, &event, 1);
  int64_t begin = clock_ms();
  assert_int_equal(cpool_queue_wait(q, &event, 1, DEADLINE_MS), 0);
  assert_true(clock_ms() - begin < DEADLINE_MS / 2);
}

static void waiting_inside_a_callback_is_refused(void **state)
{
  cpool_queue *q = *state;
  const cpool_event *event;
  cpool__callback_depth++;
  int waited = cpool_queue_wait(q, &event, 1, 10), for_ever = cpool_queue_wait(q, &event, 1, CPOOL_OFF);
  int looked = cpool_queue_wait(q, &event, 1, 0);
  cpool__callback_depth--;
  assert_int_equal(waited, CPOOL_EDEADLK);
  assert_int_equal(for_ever, CPOOL_EDEADLK);
  assert_int_equal(looked, 0);
}

/* ---------------------------------------------------------------------------------------------------------- the
 * marks */

static void marks_have_hysteresis(void **state)
{
  cpool_queue *q = *state;
  struct item items[4];
  const cpool_event *events[4];
  for (int i = 0; i < 4; i++)
    item_init(&items[i], q, i, i == 3 ? 1 : 3334 - (i == 2) * 2); /* 3334 + 3334 + 3332 = 10000, then 1 */
  push(q, items, 3);
  assert_false(cpool__queue_above(q)); /* at the high mark is not above it */
  push(q, items + 3, 1);
  assert_true(cpool__queue_above(q));
  assert_int_equal(cpool_queue_wait(q, events, 4, 0), 4);
  assert_true(cpool__queue_above(q)); /* taken is not released */
  cpool_queue_release(q, events, 1);
  assert_true(cpool__queue_above(q)); /* 6667 */
  cpool_queue_release(q, events + 1, 1);
  assert_false(cpool__queue_above(q)); /* 3333 */
  cpool_queue_release(q, events + 2, 2);
}

static void paused_transfers_are_told_at_the_low_mark_and_once(void **state)
{
  cpool_queue *q = *state;
  struct item item;
  const cpool_event *event;
  struct cpool__water_waiter first, second, gone;
  memset(&first, 0, sizeof first);
  first.runtime = (struct cpool_runtime *) (uintptr_t) 64;
  second = gone = first;
  assert_false(cpool__queue_pause(q, &first)); /* nothing to wait for */
  item_init(&item, q, 0, 10001);
  push(q, &item, 1);
  assert_true(cpool__queue_pause(q, &first));
  assert_true(cpool__queue_pause(q, &gone));
  assert_true(cpool__queue_pause(q, &second));
  assert_true(cpool__queue_unpause(q, &gone));
  assert_int_equal(cpool_queue_wait(q, &event, 1, 0), 1);
  assert_int_equal(posts, 0);
  cpool_queue_release(q, &event, 1);
  assert_int_equal(posts, 2);
  assert_ptr_equal(last_posted, &second.msg);
  assert_false(cpool__queue_unpause(q, &first)); /* its message is on its way */
  assert_false(cpool__queue_unpause(q, &second));
  item_init(&item, q, 0, 10001);
  push(q, &item, 1);
  assert_int_equal(cpool_queue_wait(q, &event, 1, 0), 1);
  cpool_queue_release(q, &event, 1);
  assert_int_equal(posts, 2);
}

/* -------------------------------------------------------------------------------------------------------------
 * freeing */

static void queue_in_use_is_not_freed_and_says_why(void **state)
{
  cpool_queue *q = *state;
  struct item item;
  const cpool_event *event;
  cpool__queue_hold(q);
  assert_int_equal(cpool_queue_free(q), CPOOL_EBUSY);
  assert_non_null(strstr(last_text(), "names it"));
  item_init(&item, q, 0, 1);
  push(q, &item, 1);
  cpool__queue_drop(q);
  assert_int_equal(cpool_queue_wait(q, &event, 1, 0), 1);
  assert_int_equal(cpool_queue_free(q), CPOOL_EBUSY);
  assert_non_null(strstr(last_text(), "not released"));
  cpool_queue_release(q, &event, 1);
}

static void waiting_events_are_released_by_the_free(void **state)
{
  (void) state;
  cpool_queue *q;
  struct item items[2];
  assert_int_equal(cpool_queue_new(&q, NULL), CPOOL_OK);
  item_init(&items[0], q, 0, 1);
  item_init(&items[1], q, 1, 1);
  push(q, items, 2);
  assert_true(cpool_queue_fd(q) >= 0);
  assert_int_equal(cpool_queue_free(q), CPOOL_OK);
  assert_int_equal(items[0].releases, 1);
  assert_int_equal(items[1].releases, 1);
}

static void forked_child_is_refused(void **state)
{
  cpool_queue *q = *state;
  struct item item;
  const cpool_event *event;
  item_init(&item, q, 0, 1);
  push(q, &item, 1);
  int fd = cpool_queue_fd(q);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    int wrong = 0;
    wrong |= cpool_queue_wait(q, &event, 1, 0) != CPOOL_EFORK ? 1 : 0;
    wrong |= cpool_queue_fd(q) != CPOOL_EFORK ? 2 : 0;
    wrong |= cpool_queue_free(q) != CPOOL_EFORK ? 4 : 0;
    cpool_queue_wake(q);
    cpool_queue *own = NULL; /* a child's own queue works */
    wrong |= cpool_queue_new(&own, NULL) != CPOOL_OK || cpool_queue_wait(own, &event, 1, 0) != 0 ||
                     cpool_queue_free(own) != CPOOL_OK
                 ? 8
                 : 0;
    _exit(wrong);
  }
  int result;
  assert_int_equal(waitpid(child, &result, 0), child);
  assert_true(WIFEXITED(result));
  assert_int_equal(WEXITSTATUS(result), 0);
  assert_true(readable(fd)); /* the child drained nothing */
  assert_int_equal(cpool_queue_wait(q, &event, 1, 0), 1);
  cpool_queue_release(q, &event, 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      QUEUE_TEST(events_come_oldest_first_and_at_most_max),
      QUEUE_TEST(empty_wait_ends_at_its_time_and_not_before),
      QUEUE_TEST(bad_arguments_are_refused),
      cmocka_unit_test(bad_options_are_refused_by_name),
      cmocka_unit_test(low_mark_defaults_to_half_of_the_high_one),
      QUEUE_TEST(descriptor_is_readable_exactly_while_something_waits),
      QUEUE_TEST(descriptor_made_late_knows_what_waits),
      QUEUE_TEST(descriptor_is_written_once_until_emptied),
      QUEUE_TEST(wake_ends_one_wait_and_is_then_spent),
      QUEUE_TEST(wake_does_not_hide_events),
      QUEUE_TEST(waiting_inside_a_callback_is_refused),
      QUEUE_TEST(marks_have_hysteresis),
      QUEUE_TEST(paused_transfers_are_told_at_the_low_mark_and_once),
      QUEUE_TEST(queue_in_use_is_not_freed_and_says_why),
      cmocka_unit_test(waiting_events_are_released_by_the_free),
      QUEUE_TEST(forked_child_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
