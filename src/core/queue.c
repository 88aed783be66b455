/* queue: completions on their way from loops to consumers: a list, one lock, and wake-ups only for those who wait
 *
 * Life of an event     push (counted in bytes) -> waiting in `events` -> wait takes it (taken_count) -> release
 *                      (counted off), then its own release function, which no longer knows the queue.
 * Who wakes consumers  A push or wake signals at most one thread that waits; a thread that leaves something behind
 *                      signals the next. A push signals without the lock, into which the woken thread would run: the
 *                      queue is not freed before it has. A descriptor is made only when asked for, and is readable
 *                      exactly while an event waits or a wake is pending: it is written and drained under the lock, so
 *                      that the two cannot cross.
 * The marks            Bytes rise with a push and fall with a release. At the low mark paused transfers are woken under
 *                      the lock, since afterwards nothing would keep their runtimes alive: a transfer that resumes ends
 *                      in a push to this queue, and its pool, and so its runtime, cannot be freed before that push has
 *                      had the lock. */
#include "core/queue.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "core/allocator.h"
#include "core/error.h"
#include "core/fork.h"
#include "core/options.h"
#include "core/runtime.h"
#include "core/structs.h"

enum { HIGH_WATER_BYTES_DEFAULT = 64 << 20, HIGH_WATER_BYTES_MIN = 4096 };
#define WATER_BYTES_MAX 1125899906842624.0        /* 1 PiB: no practical bound, but sums cannot overflow */
static const int64_t LONGEST_WAIT_S = 1000000000; /* 31 years; the deadline fits a 32-bit time_t */

struct cpool_queue {
  struct cpool__fork_mark fork;
  _Atomic int64_t holders;  /* pools and requests that name the queue */
  pthread_mutex_t lock;     /* all below */
  pthread_cond_t something; /* an event or a wake, for the waiting threads */
  struct cpool__list events;
  struct cpool__water water; /* bytes of events that wait or are taken; transfers pause at its marks */
  int64_t taken_count;       /* events taken and not released */
  int32_t waiting_threads;
  int32_t wakes; /* waits that have to return 0 early */
  _Atomic int32_t
      signalling; /* pushes that have let go of the lock and are about to signal: the queue stays for them */
  int fd;         /* eventfd; -1: nobody asked */
  bool fd_readable;
};

static const struct cpool__option option_rows[] = {
    {.key = "high_water_bytes",
     .type = CPOOL__OPTION_INT64,
     .offset = offsetof(cpool_queue_options, high_water_bytes),
     .unit = "bytes",
     .minimum = HIGH_WATER_BYTES_MIN,
     .maximum = WATER_BYTES_MAX,
     .standard = HIGH_WATER_BYTES_DEFAULT,
     .meaning = "above it transfers stop reading and new submits are refused"},
    {.key = "low_water_bytes",
     .type = CPOOL__OPTION_INT64,
     .offset = offsetof(cpool_queue_options, low_water_bytes),
     .unit = "bytes",
     .minimum = 1,
     .maximum = WATER_BYTES_MAX,
     .standard = HIGH_WATER_BYTES_DEFAULT / 2,
     .standard_text = "half of high_water_bytes",
     .meaning = "at it they go on; at most high_water_bytes"},
    {.key = NULL},
};

const struct cpool__option_table cpool__queue_option_table = {"queue", option_rows};

static struct cpool__event *event_of(struct cpool__link *link)
{
  return cpool__container_of(link, struct cpool__event, link);
}

/* ---------------------------------------------------------------------------------------------------- make and free */

static int resolve(cpool_queue_options *own, const cpool_queue_options *options)
{
  *own = (cpool_queue_options){.size = sizeof *own};
  int status = options == NULL ? CPOOL_OK : cpool__struct_read(own, sizeof *own, options, "cpool_queue_options");
  if (status == CPOOL_OK && own->low_water_bytes == 0 && own->high_water_bytes >= HIGH_WATER_BYTES_MIN)
    own->low_water_bytes = own->high_water_bytes / 2;
  if (status == CPOOL_OK)
    status = cpool__options_resolve(&cpool__queue_option_table, own);
  if (status == CPOOL_OK && own->low_water_bytes > own->high_water_bytes)
    status = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                           "queue option low_water_bytes: %lld is more than high_water_bytes, %lld",
                           (long long) own->low_water_bytes, (long long) own->high_water_bytes);
  return status;
}

int cpool_queue_new(cpool_queue **out, const cpool_queue_options *options)
{
  cpool_queue_options own;
  if (out == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_queue_new: out is NULL");
  int status = resolve(&own, options);
  if (status != CPOOL_OK)
    return status;
  cpool_queue *q = cpool__calloc(1, sizeof *q);
  if (q == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "cpool_queue_new: out of memory");
  cpool__fork_mark_init(&q->fork);
  cpool__water_init(&q->water, own.high_water_bytes, own.low_water_bytes);
  atomic_init(&q->holders, 0);
  pthread_mutex_init(&q->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&q->something, &attr);
  pthread_condattr_destroy(&attr);
  cpool__list_init(&q->events);
  q->fd = -1;
  cpool__objects_add(1);
  *out = q;
  return CPOOL_OK;
}

/* NULL, or what the queue is still used for. Under the lock. */
static const char *use_of(const struct cpool_queue *q)
{
  if (q->waiting_threads > 0)
    return "a thread waits in it";
  if (q->taken_count > 0)
    return "events taken from it are not released";
  /* Last: its last holder's push is under the lock, and has been counted above. */
  return atomic_load_explicit(&q->holders, memory_order_acquire) > 0 ? "a request in flight or a pool names it" : NULL;
}

static int refuse_fork(const char *call)
{
  return cpool__refuse(CPOOL_EFORK, CPOOL_LAYER_CALLER, "%s: the queue belongs to the parent process", call);
}

int cpool_queue_free(cpool_queue *q)
{
  if (q == NULL)
    return CPOOL_OK;
  if (!cpool__fork_mark_same_process(&q->fork))
    return refuse_fork("cpool_queue_free");
  pthread_mutex_lock(&q->lock);
  const char *use = use_of(q);
  pthread_mutex_unlock(&q->lock);
  if (use != NULL)
    return cpool__refuse(CPOOL_EBUSY, CPOOL_LAYER_CALLER, "cpool_queue_free: %s", use);
  while (atomic_load_explicit(&q->signalling, memory_order_acquire) > 0)
    sched_yield();                             /* a few instructions of another thread */
  assert(cpool__list_empty(&q->water.paused)); /* paused transfers are requests in flight */
  for (struct cpool__link *link; (link = cpool__list_pop_front(&q->events)) != NULL;)
    event_of(link)->release(event_of(link));
  if (q->fd >= 0)
    close(q->fd);
  pthread_cond_destroy(&q->something);
  cpool__objects_add(-1);
  pthread_mutex_destroy(&q->lock);
  cpool__fork_mark_fini(&q->fork);
  cpool__free(q);
  return CPOOL_OK;
}

void cpool__queue_hold(cpool_queue *q)
{
  atomic_fetch_add_explicit(&q->holders, 1, memory_order_relaxed);
}

void cpool__queue_drop(cpool_queue *q)
{
  int64_t before = atomic_fetch_sub_explicit(&q->holders, 1, memory_order_release);
  assert(before > 0);
  (void) before;
}

/* --------------------------------------------------------------------------------------------------------- wake-ups */

/* Makes the descriptor say what is so. Under the lock. */
static void fd_settle(struct cpool_queue *q)
{
  bool readable = !cpool__list_empty(&q->events) || q->wakes > 0;
  if (q->fd < 0 || q->fd_readable == readable)
    return;
  eventfd_t count;
  if (readable)
    eventfd_write(q->fd, 1); /* from 0 to 1: cannot fail */
  else
    eventfd_read(q->fd, &count); /* fails only when the host has drained it, which is as good */
  q->fd_readable = readable;
}

int cpool_queue_fd(cpool_queue *q)
{
  if (q == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_queue_fd: the queue is NULL");
  if (!cpool__fork_mark_same_process(&q->fork))
    return refuse_fork("cpool_queue_fd");
  pthread_mutex_lock(&q->lock);
  int error = 0;
  if (q->fd < 0) {
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = q->fd < 0 ? errno : 0;
    fd_settle(q);
  }
  int fd = q->fd;
  pthread_mutex_unlock(&q->lock);
  if (fd >= 0)
    return fd;
  cpool_error refusal;
  cpool__error_set(&refusal, CPOOL_ESYSTEM, CPOOL_LAYER_SYSTEM, error, 0, "cpool_queue_fd: no descriptor (errno %d)",
                   error);
  return cpool__refuse_with(&refusal);
}

void cpool_queue_wake(cpool_queue *q)
{
  if (q == NULL || !cpool__fork_mark_same_process(&q->fork))
    return;
  pthread_mutex_lock(&q->lock);
  int32_t sleepers = q->waiting_threads;
  if (q->wakes < (sleepers > 1 ? sleepers : 1)) /* more would be left over for nobody */
    q->wakes++;
  fd_settle(q);
  if (sleepers > 0)
    pthread_cond_signal(&q->something); /* under the lock: the woken thread may free the queue */
  pthread_mutex_unlock(&q->lock);
}

void cpool__queue_push(cpool_queue *q, struct cpool__list *events)
{
  int64_t bytes = 0;
  int count = 0;
  if (cpool__list_empty(events))
    return;
  for (struct cpool__link *link = cpool__list_first(events); link != NULL; link = cpool__list_next(events, link)) {
    assert(event_of(link)->queue == q);
    bytes += event_of(link)->counted ? 0 : (int64_t) event_of(link)->bytes;
    count++;
  }
  pthread_mutex_lock(&q->lock);
  cpool__list_splice(&q->events, events);
  cpool__water_rise(&q->water, bytes);
  fd_settle(q);
  bool sleepers = q->waiting_threads > 0;
  if (sleepers)
    atomic_fetch_add_explicit(&q->signalling, 1, memory_order_relaxed);
  /* All before the lock is let go: a consumer that has released these events may free the queue the moment after. */
  atomic_fetch_sub_explicit(&q->holders, count, memory_order_release);
  pthread_mutex_unlock(&q->lock);
  if (!sleepers)
    return;
  pthread_cond_signal(&q->something); /* without the lock, which the woken thread would run into */
  atomic_fetch_sub_explicit(&q->signalling, 1, memory_order_release);
}

/* -------------------------------------------------------------------------------------------------------- consumers */

static struct timespec deadline_in(int64_t timeout_ms)
{
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  int64_t seconds = timeout_ms / 1000;
  at.tv_sec += (time_t) (seconds < LONGEST_WAIT_S ? seconds : LONGEST_WAIT_S);
  at.tv_nsec += (long) (timeout_ms % 1000) * 1000000;
  if (at.tv_nsec >= 1000000000) {
    at.tv_sec++;
    at.tv_nsec -= 1000000000;
  }
  return at;
}

/* Waits until there is something or the time is over. Under the lock. */
static void sleep_on(struct cpool_queue *q, int64_t timeout_ms)
{
  struct timespec deadline = timeout_ms == CPOOL_OFF ? (struct timespec){0, 0} : deadline_in(timeout_ms);
  int result = 0;
  q->waiting_threads++;
  while (cpool__list_empty(&q->events) && q->wakes == 0 && result != ETIMEDOUT)
    result = timeout_ms == CPOOL_OFF ? pthread_cond_wait(&q->something, &q->lock)
                                     : pthread_cond_timedwait(&q->something, &q->lock, &deadline);
  q->waiting_threads--;
}

int cpool_queue_wait(cpool_queue *q, const cpool_event **events, int32_t max, int64_t timeout_ms)
{
  if (q == NULL || events == NULL || max <= 0 || timeout_ms < CPOOL_OFF)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_queue_wait: %s",
                         q == NULL        ? "the queue is NULL"
                         : events == NULL ? "events is NULL"
                         : max <= 0       ? "max is below 1"
                                          : "timeout_ms is below -1 (off)");
  if (!cpool__fork_mark_same_process(&q->fork))
    return refuse_fork("cpool_queue_wait");
  if (timeout_ms != 0 && cpool__callback_depth > 0)
    return cpool__refuse(CPOOL_EDEADLK, CPOOL_LAYER_CALLER, "cpool_queue_wait: inside a callback timeout_ms must be 0");
  int32_t count = 0;
  pthread_mutex_lock(&q->lock);
  if (timeout_ms != 0 && cpool__list_empty(&q->events) && q->wakes == 0)
    sleep_on(q, timeout_ms);
  for (struct cpool__link *link; count < max && (link = cpool__list_pop_front(&q->events)) != NULL;)
    events[count++] = &event_of(link)->event;
  if (count == 0 && q->wakes > 0) /* a wake counts for a wait that has nothing else to return */
    q->wakes--;
  q->taken_count += count;
  fd_settle(q);
  if (q->waiting_threads > 0 && (!cpool__list_empty(&q->events) || q->wakes > 0))
    pthread_cond_signal(&q->something);
  pthread_mutex_unlock(&q->lock);
  return count;
}

void cpool_queue_release(cpool_queue *q, const cpool_event *const *events, int32_t count)
{
  if (q == NULL || events == NULL || count <= 0 || !cpool__fork_mark_same_process(&q->fork))
    return;
  int64_t bytes = 0;
  for (int32_t i = 0; i < count; i++) {
    const struct cpool__event *event = (const struct cpool__event *) events[i];
    assert(event->queue == q && !cpool__link_in(&event->link));
    bytes += (int64_t) event->bytes;
  }
  pthread_mutex_lock(&q->lock);
  assert(q->taken_count >= count);
  q->taken_count -= count;
  cpool__water_fall(&q->water, bytes);
  pthread_mutex_unlock(&q->lock);
  /* The queue may be freed by now. */
  for (int32_t i = 0; i < count; i++) {
    struct cpool__event *event = (struct cpool__event *) (uintptr_t) events[i];
    event->release(event);
  }
}

/* ------------------------------------------------------------------------------------------------- the marks' other
 * side */

void cpool__queue_count(cpool_queue *q, struct cpool__event *event)
{
  event->counted = true;
  pthread_mutex_lock(&q->lock);
  cpool__water_rise(&q->water, (int64_t) event->bytes);
  pthread_mutex_unlock(&q->lock);
}

bool cpool__queue_above(const cpool_queue *q)
{
  return cpool__water_above(&q->water);
}

bool cpool__queue_pause(cpool_queue *q, struct cpool__water_waiter *waiter)
{
  pthread_mutex_lock(&q->lock);
  bool paused = cpool__water_pause(&q->water, waiter);
  pthread_mutex_unlock(&q->lock);
  return paused;
}

bool cpool__queue_unpause(cpool_queue *q, struct cpool__water_waiter *waiter)
{
  pthread_mutex_lock(&q->lock);
  bool paused = cpool__water_unpause(&q->water, waiter);
  pthread_mutex_unlock(&q->lock);
  return paused;
}
