/* queue: completions on their way from loops to consumers; its producers' side */
#ifndef CPOOL_CORE_QUEUE_H
#define CPOOL_CORE_QUEUE_H

#include <stdbool.h>
#include <cpool.h>

#include "base/list.h"
#include "core/options.h"
#include "core/water.h"

extern const struct cpool__option_table cpool__queue_option_table;

/* An event and its way to the consumer; embedded in the object that it tells of, so that delivery needs no memory. */
struct cpool__event {
  cpool_event event; /* first: a cpool_event * that a consumer hands back is a struct cpool__event * */
  struct cpool__link link;
  cpool_queue *queue; /* exactly one of queue and fn */
  cpool_event_fn *fn;
  size_t bytes; /* counted by the queue from push, or cpool__queue_count, to release */
  bool counted;
  void (*release)(struct cpool__event *event); /* any thread: nobody looks at the event any more */
};

/* Any thread: an object names the queue (cpool_queue_free is CPOOL_EBUSY). After its drop the holder does not touch
 * the queue. */
void cpool__queue_hold(cpool_queue *queue);
void cpool__queue_drop(cpool_queue *queue);
/* Loop thread: appends all of `events` (linked by .link) under one lock with at most one wake-up; `events` ends up empty. The queue
 * is held once per event; these holds are dropped with it, and the queue must not be touched afterwards. */
void cpool__queue_push(cpool_queue *queue, struct cpool__list *events);
/* Loop thread: an event that will be pushed counts from now on, so that those who look at the marks meanwhile know. */
void cpool__queue_count(cpool_queue *queue, struct cpool__event *event);
/* Any thread, no lock: above the high mark and not yet back at the low one. */
bool cpool__queue_above(const cpool_queue *queue);
/* Loop thread, for a transfer whose final event goes to this queue: as cpool__water_pause and cpool__water_unpause. */
bool cpool__queue_pause(cpool_queue *queue, struct cpool__water_waiter *waiter);
bool cpool__queue_unpause(cpool_queue *queue, struct cpool__water_waiter *waiter);

#endif
