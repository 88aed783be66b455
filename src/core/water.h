/* water: bytes held against two marks: those who feed them pause above the high mark and are woken at the low one
 *
 * struct cpool__water has no lock: all calls but cpool__water_above are made under its owner's. struct cpool__budget is
 * one with a lock and references, for bytes that outlive whoever set the marks. */
#ifndef CPOOL_CORE_WATER_H
#define CPOOL_CORE_WATER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "core/inbox.h"

struct cpool_runtime;

struct cpool__water {
  int64_t high_bytes, low_bytes, bytes;
  _Atomic bool above; /* from above the high mark until at the low one */
  struct cpool__list paused;
};

/* One who stopped; embedded in it, zeroed before first use. */
struct cpool__water_waiter {
  struct cpool__link link; /* under the owner's lock, and so is the answer of unpause */
  struct cpool__msg msg;   /* fn set by the waiter; posted to the runtime, under the lock, at the low mark */
  struct cpool_runtime *runtime;
};

void cpool__water_init(struct cpool__water *water, int64_t high_bytes, int64_t low_bytes);
void cpool__water_rise(struct cpool__water *water, int64_t bytes);
/* Posts the messages of all who paused when the low mark is reached. Under the lock, since afterwards nothing may keep
 * their runtimes alive: whoever resumes or ends takes the lock first. */
void cpool__water_fall(struct cpool__water *water, int64_t bytes);
void cpool__water_marks(struct cpool__water *water, int64_t high_bytes, int64_t low_bytes); /* new ones */
/* Asks for waiter->msg once the low mark is reached. False: it is reached already, nothing was noted. */
bool cpool__water_pause(struct cpool__water *water, struct cpool__water_waiter *waiter);
/* Takes a waiter back. False: its message has been posted and will arrive, the waiter must stay until then. */
bool cpool__water_unpause(struct cpool__water *water, struct cpool__water_waiter *waiter);
/* Any thread, no lock. */
static inline bool cpool__water_above(const struct cpool__water *water)
{
  return atomic_load_explicit(&water->above, memory_order_relaxed);
}

struct cpool__budget {
  _Atomic uint32_t refs;
  pthread_mutex_t lock;
  struct cpool__water water;
};

/* With one reference. NULL: out of memory. */
struct cpool__budget *cpool__budget_new(int64_t high_bytes, int64_t low_bytes);
struct cpool__budget *cpool__budget_hold(struct cpool__budget *budget);
void cpool__budget_drop(struct cpool__budget *budget); /* NULL is legal */
/* As those of water, any thread. */
void cpool__budget_rise(struct cpool__budget *budget, int64_t bytes);
void cpool__budget_fall(struct cpool__budget *budget, int64_t bytes);
void cpool__budget_marks(struct cpool__budget *budget, int64_t high_bytes, int64_t low_bytes);
bool cpool__budget_pause(struct cpool__budget *budget, struct cpool__water_waiter *waiter);
bool cpool__budget_unpause(struct cpool__budget *budget, struct cpool__water_waiter *waiter);
int64_t cpool__budget_bytes(struct cpool__budget *budget);

#endif
