/* test_queue_threads: with many threads on both sides no event is lost, and nobody sleeps through one */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "queue_items.h"

static bool reaches(_Atomic int *value, int wanted)
{
  for (int64_t end = clock_ms() + DEADLINE_MS; atomic_load(value) < wanted;) {
    if (clock_ms() > end)
      return false;
    sched_yield();
  }
  return true;
}

/* True once the thread, which is on its way into cpool_queue_wait and takes no other lock, sleeps. */
static bool falls_asleep(pid_t tid)
{
  char path[64], text[256];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int) tid);
  for (int64_t end = clock_ms() + DEADLINE_MS; clock_ms() <= end; sched_yield()) {
    FILE *file = fopen(path, "r");
    size_t len = file == NULL ? 0 : fread(text, 1, sizeof text - 1, file);
    text[len] = '\0';
    if (file != NULL)
      fclose(file);
    const char *name_end = strrchr(text, ')');
    if (name_end != NULL && name_end[2] == 'S')
      return true;
  }
  return false;
}

struct sleeper {
  cpool_queue *q;
  _Atomic int tid, zeroes, done;
  pthread_t thread;
};

/* Counts waits that end with nothing; an event ends it. */
static void *sleep_until_event(void *arg)
{
  struct sleeper *sleeper = arg;
  atomic_store(&sleeper->tid, (int) syscall(SYS_gettid));
  for (;;) {
    const cpool_event *event;
    int count = cpool_queue_wait(sleeper->q, &event, 1, CPOOL_OFF);
    if (count != 0) {
      if (count == 1)
        cpool_queue_release(sleeper->q, &event, 1);
      break;
    }
    atomic_fetch_add(&sleeper->zeroes, 1);
  }
  atomic_store(&sleeper->done, 1);
  return NULL;
}

static void sleepers_start(struct sleeper *sleepers, int count, cpool_queue *q)
{
  for (int i = 0; i < count; i++) {
    memset(&sleepers[i], 0, sizeof sleepers[i]);
    sleepers[i].q = q;
    assert_int_equal(pthread_create(&sleepers[i].thread, NULL, sleep_until_event, &sleepers[i]), 0);
  }
  for (int i = 0; i < count; i++) {
    assert_true(reaches(&sleepers[i].tid, 1));
    assert_true(falls_asleep(atomic_load(&sleepers[i].tid)));
  }
}

static int zeroes_of(struct sleeper *sleepers, int count)
{
  int sum = 0;
  for (int i = 0; i < count; i++)
    sum += atomic_load(&sleepers[i].zeroes);
  return sum;
}

/* One push of several events must reach several sleepers, each of which takes only one. */
static void sleepers_stop(struct sleeper *sleepers, int count, struct item *items)
{
  for (int i = 0; i < count; i++)
    item_init(&items[i], sleepers[0].q, i, 1);
  push(sleepers[0].q, items, count);
  for (int i = 0; i < count; i++)
    assert_true(reaches(&sleepers[i].done, 1));
  for (int i = 0; i < count; i++)
    assert_int_equal(pthread_join(sleepers[i].thread, NULL), 0);
}

static void each_wake_ends_exactly_one_wait(void **state)
{
  cpool_queue *q = *state;
  struct sleeper sleepers[3];
  struct item items[3];
  sleepers_start(sleepers, 3, q);
  for (int wakes = 1; wakes <= 200; wakes++) {
    cpool_queue_wake(q);
    int64_t end = clock_ms() + DEADLINE_MS;
    while (zeroes_of(sleepers, 3) < wakes && clock_ms() < end)
      sched_yield();
    assert_int_equal(zeroes_of(sleepers, 3), wakes);
  }
  sleepers_stop(sleepers, 3, items);
  assert_int_equal(zeroes_of(sleepers, 3), 200);
}

static void as_many_wakes_as_sleepers_end_all_their_waits(void **state)
{
  cpool_queue *q = *state;
  struct sleeper sleepers[3];
  struct item items[3];
  sleepers_start(sleepers, 3, q);
  for (int round = 1; round <= 100; round++) {
    for (int i = 0; i < 3; i++)
      cpool_queue_wake(q);
    int64_t end = clock_ms() + DEADLINE_MS;
    while (zeroes_of(sleepers, 3) < 3 * round && clock_ms() < end)
      sched_yield();
    assert_int_equal(zeroes_of(sleepers, 3), 3 * round);
    for (int i = 0; i < 3; i++)
      assert_true(falls_asleep(atomic_load(&sleepers[i].tid)));
  }
  sleepers_stop(sleepers, 3, items);
}

static void queue_with_a_sleeper_is_not_freed(void **state)
{
  cpool_queue *q = *state;
  struct sleeper sleeper;
  struct item item;
  sleepers_start(&sleeper, 1, q);
  assert_int_equal(cpool_queue_free(q), CPOOL_EBUSY);
  assert_non_null(strstr(last_text(), "thread waits"));
  sleepers_stop(&sleeper, 1, &item);
}

enum { PRODUCERS = 3, CONSUMERS = 3, EACH = 20000, BATCH = 7 };

struct crowd {
  cpool_queue *q;
  struct item (*items)[EACH];
  _Atomic int next_producer, received, out_of_order;
};

static void *produce(void *arg)
{
  struct crowd *crowd = arg;
  int producer = atomic_fetch_add(&crowd->next_producer, 1);
  for (int i = 0; i < EACH; i += BATCH) {
    int count = EACH - i < BATCH ? EACH - i : BATCH;
    for (int j = i; j < i + count; j++) {
      item_init(&crowd->items[producer][j], crowd->q, j, 100);
      crowd->items[producer][j].producer = producer;
    }
    push(crowd->q, &crowd->items[producer][i], count);
  }
  return NULL;
}

static void *consume(void *arg)
{
  struct crowd *crowd = arg;
  int last[PRODUCERS] = {-1, -1, -1};
  const cpool_event *events[5];
  while (atomic_load(&crowd->received) < PRODUCERS * EACH) {
    int count = cpool_queue_wait(crowd->q, events, 5, CPOOL_OFF);
    for (int i = 0; i < count; i++) {
      const struct item *item = events[i]->user;
      if (item->number <= last[item->producer])
        atomic_fetch_add(&crowd->out_of_order, 1);
      last[item->producer] = item->number;
    }
    cpool_queue_release(crowd->q, events, count);
    if (count > 0 && atomic_fetch_add(&crowd->received, count) + count == PRODUCERS * EACH) {
      for (int i = 0; i < CONSUMERS; i++)
        cpool_queue_wake(crowd->q);
    }
    if (count == 0) /* a wake: pass it on, the others may not have slept when it came */
      cpool_queue_wake(crowd->q);
  }
  return NULL;
}

static struct item crowd_items[PRODUCERS][EACH];

static void many_threads_lose_nothing_and_keep_each_producers_order(void **state)
{
  cpool_queue *q = *state;
  struct crowd crowd = {.q = q, .items = crowd_items};
  pthread_t producers[PRODUCERS], consumers[CONSUMERS];
  for (int i = 0; i < CONSUMERS; i++)
    assert_int_equal(pthread_create(&consumers[i], NULL, consume, &crowd), 0);
  for (int i = 0; i < PRODUCERS; i++)
    assert_int_equal(pthread_create(&producers[i], NULL, produce, &crowd), 0);
  for (int i = 0; i < PRODUCERS; i++)
    assert_int_equal(pthread_join(producers[i], NULL), 0);
  for (int i = 0; i < CONSUMERS; i++)
    assert_int_equal(pthread_join(consumers[i], NULL), 0);
  assert_int_equal(crowd.received, PRODUCERS * EACH);
  assert_int_equal(crowd.out_of_order, 0);
  for (int i = 0; i < PRODUCERS * EACH; i++)
    assert_int_equal(crowd_items[i / EACH][i % EACH].releases, 1);
  assert_false(cpool__queue_above(q));
}

/* A host that sleeps in poll and never in the queue. */
static void poller_of_the_descriptor_misses_nothing(void **state)
{
  cpool_queue *q = *state;
  struct crowd crowd = {.q = q, .items = crowd_items};
  pthread_t producer;
  int fd = cpool_queue_fd(q), received = 0;
  assert_int_equal(pthread_create(&producer, NULL, produce, &crowd), 0);
  while (received < EACH) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    const cpool_event *events[16];
    int ready = poll(&entry, 1, DEADLINE_MS);
    assert_int_equal(ready, 1);
    int count = cpool_queue_wait(q, events, 16, 0);
    for (int i = 0; i < count; i++)
      assert_int_equal(((const struct item *) events[i]->user)->number, received + i);
    cpool_queue_release(q, events, count);
    received += count;
  }
  assert_int_equal(pthread_join(producer, NULL), 0);
  assert_false(readable(fd));
}

/* A loop that pauses while a consumer brings the queue to its low mark: each pause that was not taken back ends in
 * one message. */
static void paused_producer_is_always_told(void **state)
{
  cpool_queue *q = *state;
  struct crowd crowd = {.q = q, .items = crowd_items};
  enum { ROUNDS = 3000 };
  pthread_t consumer;
  struct cpool__water_waiter waiter;
  int expected = 0;
  memset(&waiter, 0, sizeof waiter);
  atomic_store(&crowd.received, PRODUCERS * EACH - ROUNDS); /* the consumer ends after ROUNDS events */
  assert_int_equal(pthread_create(&consumer, NULL, consume, &crowd), 0);
  for (int i = 0; i < ROUNDS; i++) {
    item_init(&crowd_items[0][i], q, i, 10001);
    push(q, &crowd_items[0][i], 1);
    if (!cpool__queue_pause(q, &waiter) || (i % 3 == 0 && cpool__queue_unpause(q, &waiter)))
      continue;
    assert_true(reaches(&posts, ++expected));
    assert_false(cpool__queue_unpause(q, &waiter));
  }
  assert_int_equal(pthread_join(consumer, NULL), 0);
  assert_int_equal(posts, expected);
  assert_true(expected > 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      QUEUE_TEST(each_wake_ends_exactly_one_wait),
      QUEUE_TEST(as_many_wakes_as_sleepers_end_all_their_waits),
      QUEUE_TEST(queue_with_a_sleeper_is_not_freed),
      QUEUE_TEST(many_threads_lose_nothing_and_keep_each_producers_order),
      QUEUE_TEST(poller_of_the_descriptor_misses_nothing),
      QUEUE_TEST(paused_producer_is_always_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
