/* test_inbox: every message arrives once, in order per sender, and the first of a batch is told so */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "core/inbox.h"

static void a_new_inbox_is_empty(void **state)
{
  (void) state;
  struct cpool__inbox inbox = {NULL};
  assert_true(cpool__inbox_empty(&inbox));
  assert_null(cpool__inbox_take(&inbox));
}

static void messages_leave_in_the_order_of_their_push(void **state)
{
  (void) state;
  struct cpool__inbox inbox = {NULL};
  struct cpool__msg msgs[3] = {0};
  for (int i = 0; i < 3; i++)
    cpool__inbox_push(&inbox, &msgs[i]);
  assert_false(cpool__inbox_empty(&inbox));
  struct cpool__msg *msg = cpool__inbox_take(&inbox);
  for (int i = 0; i < 3; i++) {
    assert_ptr_equal(msg, &msgs[i]);
    msg = msg->next;
  }
  assert_null(msg);
  assert_true(cpool__inbox_empty(&inbox));
}

static void only_the_first_push_of_a_batch_asks_for_a_wake_up(void **state)
{
  (void) state;
  struct cpool__inbox inbox = {NULL};
  struct cpool__msg msgs[3] = {0};
  assert_true(cpool__inbox_push(&inbox, &msgs[0]));
  assert_false(cpool__inbox_push(&inbox, &msgs[1]));
  cpool__inbox_take(&inbox);
  assert_true(cpool__inbox_push(&inbox, &msgs[2]));
}

enum { SENDERS = 4, PER_SENDER = 25000 };

struct numbered {
  struct cpool__msg msg;
  int sender, number;
};

struct sender {
  pthread_t thread;
  struct cpool__inbox *inbox;
  struct numbered *msgs;
  int wake_ups;
};

static void *send_all(void *arg)
{
  struct sender *sender = arg;
  for (int i = 0; i < PER_SENDER; i++)
    sender->wake_ups += cpool__inbox_push(sender->inbox, &sender->msgs[i].msg);
  return NULL;
}

static void four_senders_lose_nothing_and_keep_their_order(void **state)
{
  (void) state;
  struct cpool__inbox inbox = {NULL};
  struct sender senders[SENDERS] = {0};
  for (int s = 0; s < SENDERS; s++) {
    senders[s].inbox = &inbox;
    senders[s].msgs = calloc(PER_SENDER, sizeof *senders[s].msgs);
    assert_non_null(senders[s].msgs);
    for (int i = 0; i < PER_SENDER; i++)
      senders[s].msgs[i] = (struct numbered){.sender = s, .number = i};
  }
  for (int s = 0; s < SENDERS; s++)
    assert_int_equal(pthread_create(&senders[s].thread, NULL, send_all, &senders[s]), 0);

  int next[SENDERS] = {0}, received = 0, batches = 0, disorders = 0;
  while (received < SENDERS * PER_SENDER) {
    struct cpool__msg *msg = cpool__inbox_take(&inbox);
    if (msg == NULL)
      sched_yield();
    batches += msg != NULL;
    for (; msg != NULL; msg = msg->next, received++) {
      const struct numbered *numbered = (const struct numbered *) msg;
      disorders += numbered->number != next[numbered->sender]++;
    }
  }
  int wake_ups = 0;
  for (int s = 0; s < SENDERS; s++) {
    pthread_join(senders[s].thread, NULL);
    wake_ups += senders[s].wake_ups;
    assert_int_equal(next[s], PER_SENDER);
    free(senders[s].msgs);
  }
  assert_int_equal(disorders, 0);
  assert_int_equal(wake_ups, batches);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_new_inbox_is_empty),
      cmocka_unit_test(messages_leave_in_the_order_of_their_push),
      cmocka_unit_test(only_the_first_push_of_a_batch_asks_for_a_wake_up),
      cmocka_unit_test(four_senders_lose_nothing_and_keep_their_order),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
