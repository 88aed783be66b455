/* queue_items: events to push, a queue to push them to, and the double of a runtime, for the tests of the queue */
#ifndef CPOOL_TEST_QUEUE_ITEMS_H
#define CPOOL_TEST_QUEUE_ITEMS_H

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/queue.h"
#include "core/runtime.h"

enum { DEADLINE_MS = 20000 };

/* The two things that a queue needs of a runtime; linked instead of it. */
_Thread_local int cpool__callback_depth;

static _Atomic int posts;
static struct cpool__msg *last_posted;

void cpool__runtime_post(cpool_runtime *rt, struct cpool__msg *msg)
{
  (void) rt;
  last_posted = msg;
  atomic_fetch_add(&posts, 1);
}

struct item {
  struct cpool__event event; /* first, as in every object that has one */
  int producer, number;
  _Atomic int releases;
};

static inline void item_release(struct cpool__event *event)
{
  atomic_fetch_add(&((struct item *) event)->releases, 1);
}

static inline void item_init(struct item *item, cpool_queue *q, int number, size_t bytes)
{
  memset(item, 0, sizeof *item);
  item->event.event.kind = CPOOL_EVENT_RESPONSE;
  item->event.event.user = item;
  item->event.queue = q;
  item->event.bytes = bytes;
  item->event.release = item_release;
  item->number = number;
}

static inline void push(cpool_queue *q, struct item *items, int count)
{
  struct cpool__list list;
  cpool__list_init(&list);
  for (int i = 0; i < count; i++)
    cpool__list_push_back(&list, &items[i].event.link);
  for (struct cpool__link *link = cpool__list_first(&list); link != NULL; link = cpool__list_next(&list, link))
    cpool__queue_hold(q);
  cpool__queue_push(q, &list);
}

static inline int64_t clock_ms(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline bool readable(int fd)
{
  struct pollfd entry = {.fd = fd, .events = POLLIN};
  return poll(&entry, 1, 0) == 1 && (entry.revents & POLLIN) != 0;
}

static inline int queue_set_up(void **state)
{
  cpool_queue_options options;
  cpool_queue_options_init(&options);
  options.high_water_bytes = 10000;
  options.low_water_bytes = 4000;
  atomic_store(&posts, 0);
  last_posted = NULL;
  cpool_queue *q = NULL;
  int status = cpool_queue_new(&q, &options);
  *state = q;
  return status;
}

/* Every test leaves the queue free to go. */
static inline int queue_tear_down(void **state)
{
  return cpool_queue_free(*state);
}

static inline const char *last_text(void)
{
  static cpool_error err;
  cpool_error_init(&err);
  assert_int_equal(cpool_last_error(&err), CPOOL_OK);
  return err.text;
}

#define QUEUE_TEST(name) cmocka_unit_test_setup_teardown(name, queue_set_up, queue_tear_down)

#endif
