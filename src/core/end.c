/* end: the closed event of a pool or manager, and those who wait for it */
#include "core/end.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/memory.h"
#include "core/queue.h"
#include "core/wait.h"

struct cpool__end {
  struct cpool__event event;
  _Atomic uint32_t refs;
  pthread_mutex_t lock;
  pthread_cond_t cond;
  bool delivered;
};

struct cpool__end *cpool__end_new(void)
{
  struct cpool__end *end = cpool__calloc(1, sizeof *end);
  if (end == NULL)
    return NULL;
  atomic_init(&end->refs, 2);
  pthread_mutex_init(&end->lock, NULL);
  pthread_cond_init(&end->cond, NULL);
  return end;
}

void cpool__end_unref(struct cpool__end *end)
{
  if (atomic_fetch_sub(&end->refs, 1) > 1)
    return;
  pthread_mutex_destroy(&end->lock);
  pthread_cond_destroy(&end->cond);
  cpool__free(end);
}

static void released(struct cpool__event *event)
{
  cpool__end_unref(cpool__container_of(event, struct cpool__end, event));
}

void cpool__end_sink(struct cpool__end *end, int kind, cpool_queue *queue, cpool_event_fn *fn, void *user)
{
  end->event.event.kind = kind;
  end->event.event.user = user;
  end->event.queue = queue;
  end->event.fn = fn;
  end->event.bytes = sizeof *end;
  end->event.release = released;
  if (queue != NULL)
    cpool__queue_hold(queue);
}

void cpool__end_deliver(struct cpool__end *end)
{
  struct cpool__event *event = &end->event;
  atomic_fetch_add(&end->refs, 1); /* the event may be released at once */
  if (event->queue != NULL) {
    struct cpool__list one;
    cpool_queue *queue = event->queue;
    cpool__list_init(&one);
    cpool__list_push_back(&one, &event->link);
    cpool__queue_push(queue, &one);
  } else {
    if (event->fn != NULL)
      event->fn(&event->event);
    released(event);
  }
  pthread_mutex_lock(&end->lock);
  end->delivered = true;
  pthread_cond_broadcast(&end->cond);
  pthread_mutex_unlock(&end->lock);
  cpool__end_unref(end);
}

void cpool__end_skip(struct cpool__end *end)
{
  if (end->event.queue != NULL)
    cpool__queue_drop(end->event.queue);
  cpool__end_unref(end);
}

void cpool__end_wait(struct cpool__end *end, cpool_runtime *rt)
{
  cpool__wait(rt, &end->lock, &end->cond, &end->delivered);
}
