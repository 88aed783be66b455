/* water: two marks and who waits at them */
#include "core/water.h"

#include <assert.h>

#include "base/memory.h"
#include "core/runtime.h"

void cpool__water_init(struct cpool__water *water, int64_t high_bytes, int64_t low_bytes)
{
  assert(low_bytes > 0 && low_bytes <= high_bytes);
  water->high_bytes = high_bytes;
  water->low_bytes = low_bytes;
  water->bytes = 0;
  atomic_init(&water->above, false);
  cpool__list_init(&water->paused);
}

static void settle(struct cpool__water *water)
{
  if (water->bytes > water->high_bytes) {
    atomic_store_explicit(&water->above, true, memory_order_relaxed);
    return;
  }
  if (!cpool__water_above(water) || water->bytes > water->low_bytes)
    return;
  atomic_store_explicit(&water->above, false, memory_order_relaxed);
  for (struct cpool__link *link; (link = cpool__list_pop_front(&water->paused)) != NULL;) {
    struct cpool__water_waiter *waiter = cpool__container_of(link, struct cpool__water_waiter, link);
    cpool__runtime_post(waiter->runtime, &waiter->msg); /* the waiter is its loop's from here on */
  }
}

void cpool__water_rise(struct cpool__water *water, int64_t bytes)
{
  water->bytes += bytes;
  settle(water);
}

void cpool__water_fall(struct cpool__water *water, int64_t bytes)
{
  assert(water->bytes >= bytes);
  water->bytes -= bytes;
  settle(water);
}

void cpool__water_marks(struct cpool__water *water, int64_t high_bytes, int64_t low_bytes)
{
  assert(low_bytes > 0 && low_bytes <= high_bytes);
  water->high_bytes = high_bytes;
  water->low_bytes = low_bytes;
  settle(water);
}

bool cpool__water_pause(struct cpool__water *water, struct cpool__water_waiter *waiter)
{
  assert(!cpool__link_in(&waiter->link));
  if (!cpool__water_above(water))
    return false;
  cpool__list_push_back(&water->paused, &waiter->link);
  return true;
}

bool cpool__water_unpause(struct cpool__water *water, struct cpool__water_waiter *waiter)
{
  (void) water;
  bool paused = cpool__link_in(&waiter->link);
  cpool__link_remove(&waiter->link);
  return paused;
}

/* ----------------------------------------------------------------------------------------------------------- budget */

struct cpool__budget *cpool__budget_new(int64_t high_bytes, int64_t low_bytes)
{
  struct cpool__budget *budget = cpool__calloc(1, sizeof *budget);
  if (budget == NULL)
    return NULL;
  atomic_init(&budget->refs, 1);
  pthread_mutex_init(&budget->lock, NULL);
  cpool__water_init(&budget->water, high_bytes, low_bytes);
  return budget;
}

struct cpool__budget *cpool__budget_hold(struct cpool__budget *budget)
{
  atomic_fetch_add_explicit(&budget->refs, 1, memory_order_relaxed);
  return budget;
}

void cpool__budget_drop(struct cpool__budget *budget)
{
  if (budget == NULL || atomic_fetch_sub_explicit(&budget->refs, 1, memory_order_acq_rel) > 1)
    return;
  assert(cpool__list_empty(&budget->water.paused));
  pthread_mutex_destroy(&budget->lock);
  cpool__free(budget);
}

void cpool__budget_rise(struct cpool__budget *budget, int64_t bytes)
{
  pthread_mutex_lock(&budget->lock);
  cpool__water_rise(&budget->water, bytes);
  pthread_mutex_unlock(&budget->lock);
}

void cpool__budget_fall(struct cpool__budget *budget, int64_t bytes)
{
  pthread_mutex_lock(&budget->lock);
  cpool__water_fall(&budget->water, bytes);
  pthread_mutex_unlock(&budget->lock);
}

void cpool__budget_marks(struct cpool__budget *budget, int64_t high_bytes, int64_t low_bytes)
{
  pthread_mutex_lock(&budget->lock);
  cpool__water_marks(&budget->water, high_bytes, low_bytes);
  pthread_mutex_unlock(&budget->lock);
}

bool cpool__budget_pause(struct cpool__budget *budget, struct cpool__water_waiter *waiter)
{
  pthread_mutex_lock(&budget->lock);
  bool paused = cpool__water_pause(&budget->water, waiter);
  pthread_mutex_unlock(&budget->lock);
  return paused;
}

bool cpool__budget_unpause(struct cpool__budget *budget, struct cpool__water_waiter *waiter)
{
  pthread_mutex_lock(&budget->lock);
  bool paused = cpool__water_unpause(&budget->water, waiter);
  pthread_mutex_unlock(&budget->lock);
  return paused;
}

int64_t cpool__budget_bytes(struct cpool__budget *budget)
{
  pthread_mutex_lock(&budget->lock);
  int64_t bytes = budget->water.bytes;
  pthread_mutex_unlock(&budget->lock);
  return bytes;
}
