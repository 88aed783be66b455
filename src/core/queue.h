/* queue: completions on their way from loops to consumers; its producers' side */
#ifndef CPOOL_CORE_QUEUE_H
#define CPOOL_CORE_QUEUE_H

#include <stdbool.h>
#include <cpool.h>

#include "base/list.h"
#include "core/inbox.h"
#include "core/options.h"

struct cpool_runtime;

extern const struct cpool__option_table cpool__queue_option_table;

/* An event and its way to the consumer; embedded in the object that it tells of, so that delivery needs no memory. */
struct cpool__event {
  cpool_event event; /* first: a cpool_event * that a consumer hands back is a struct cpool__event * */
  struct cpool__link link;
  cpool_queue *queue; /* exactly one of queue and fn */
  cpool_event_fn *fn;
  size_t bytes;                                /* counted by the queue from push to release */
  void (*release)(struct cpool__event *event); /* any thread: nobody looks at the event any more */
};

/* A transfer that stopped reading for the queue's high mark; embedded in it, zeroed before first use. Its final
 * event goes to the same queue. */
struct cpool__queue_waiter {
  struct cpool__link link; /* in the queue's list: under the queue's lock, and so is the answer of unpause */
  struct cpool__msg msg;   /* fn set by the owner; posted to the runtime, under the lock, at the low mark */
  struct cpool_runtime *runtime;
};

/* Any thread: an object names the queue (cpool_queue_free is CPOOL_EBUSY). After its drop the holder does not touch
 * the queue. */
void cpool__queue_hold(cpool_queue *queue);
void cpool__queue_drop(cpool_queue *queue);
/* Loop thread: appends all of `events` (linked by .link) under one lock with at most one wake-up; `events` ends up empty. The queue
 * is held once per event; these holds are dropped with it, and the queue must not be touched afterwards. */
void cpool__queue_push(cpool_queue *queue, struct cpool__list *events);
/* Any thread, no lock: above the high mark and not yet back at the low one. */
bool cpool__queue_above(const cpool_queue *queue);
/* Loop thread: asks for waiter->msg once the low mark is reached. False: it is reached already, nothing was noted. */
bool cpool__queue_pause(cpool_queue *queue, struct cpool__queue_waiter *waiter);
/* Loop thread: takes a waiter back. False: its message has been posted and will arrive, the waiter must stay until
 * then. */
bool cpool__queue_unpause(cpool_queue *queue, struct cpool__queue_waiter *waiter);

#endif
