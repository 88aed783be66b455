/* turn: the order of work within one turn of the loop, and what puts work into it
 *
 * What wakes whom:
 *   another thread posts      the first message of a batch writes to the eventfd; the turn follows in the same iteration
 *   within a turn             nothing: the turn looks again before it ends, and what it leaves over nudges
 *   loop thread, no turn yet  (a host's own code) nudges: an idle handle makes libuv poll without waiting and keeps
 *                             uv_run from returning, also when the host's prepare callbacks run after ours
 *   manual mode, no step      the eventfd again: only a descriptor can be seen by a foreign loop
 *
 * Time: libuv computes how long to sleep from the time that it cached at the start of the iteration; work done since
 * then would make timers late. After a turn the cache is refreshed when it is behind, and the delay counts from our
 * clock, so that a timer may be early by the age of libuv's clock (it finds nothing due and is set again), not late.
 *
 * A callback may fork and return in the child, too. The child's copies are the parent's sockets, epoll sets and
 * deadlines: whatever called the host looks at the fork mark before it goes on, and the turn is left where it is. */
#include "core/loop.h"

#include <assert.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
  /* Of inbox, tasks and events per turn: a callback that always posts again leaves the host its share. */
  MAX_ROUNDS = 8,
  /* What is known of the sockets counts as fresh for so long; epoll_wait costs a hundredth of it. */
  POLL_AGAIN_AFTER_US = 50
};

_Thread_local int cpool__callback_depth;
_Thread_local const cpool_runtime *cpool__loop_of_thread;

/* ------------------------------------------------------------------------------------------------------- any thread */

uint64_t cpool__clock_us(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

bool cpool__runtime_on_loop(const cpool_runtime *rt)
{
  if (rt->mode == CPOOL_LOOP_UV)
    return pthread_equal(rt->thread, pthread_self());
  return cpool__loop_of_thread == rt;
}

bool cpool__runtime_may_wait(const cpool_runtime *rt)
{
  return cpool__callback_depth == 0 && !cpool__runtime_on_loop(rt);
}

void cpool__runtime_post(cpool_runtime *rt, struct cpool__msg *msg)
{
  if (cpool__runtime_on_loop(rt)) {
    cpool__inbox_push(&rt->inbox, msg);
    if (!rt->in_turn)
      cpool__loop_nudge(rt);
    return;
  }
  /* Once pushed, the message may end the runtime: the count makes its end wait for the wake-up. */
  atomic_fetch_add_explicit(&rt->posting_count, 1, memory_order_relaxed);
  if (cpool__inbox_push(&rt->inbox, msg))
    cpool__loop_wake(rt);
  atomic_fetch_sub_explicit(&rt->posting_count, 1, memory_order_release);
}

/* ------------------------------------------------------------------------------------------------------ loop thread */

static void on_nudge(uv_idle_t *handle)
{
  (void) handle; /* being active is all it does */
}

void cpool__loop_wake(cpool_runtime *rt)
{
  /* Not uv_async: where poster and loop share a processor, libuv 1.44 spins in the loop for a poster that it has just
   * preempted. Each write is an edge of its own, so that nobody has to read; the counter never fills. */
  const uint64_t one = 1;
  ssize_t written = write(rt->wake_fd, &one, sizeof one);
  assert(written == sizeof one);
  (void) written;
}

void cpool__loop_nudge(cpool_runtime *rt)
{
  if (rt->mode == CPOOL_LOOP_MANUAL)
    cpool__loop_wake(rt);
  else
    uv_idle_start(&rt->nudge, on_nudge); /* harmless while active */
}

bool cpool__loop_has_work(const cpool_runtime *rt)
{
  return rt->ready || !cpool__inbox_empty(&rt->inbox) || !cpool__list_empty(&rt->tasks) ||
         !cpool__list_empty(&rt->events) || !cpool__list_empty(&rt->late_tasks);
}

static void ask_for_turn(cpool_runtime *rt)
{
  if (!rt->in_turn)
    cpool__loop_nudge(rt);
}

uint64_t cpool__runtime_now_us(const cpool_runtime *rt)
{
  assert(cpool__runtime_on_loop(rt));
  return rt->now_us;
}

uint64_t cpool__runtime_now_ms(const cpool_runtime *rt)
{
  return cpool__runtime_now_us(rt) / 1000;
}

struct cpool__poller *cpool__runtime_poller(cpool_runtime *rt)
{
  assert(cpool__runtime_on_loop(rt));
  return &rt->poller;
}

void cpool__runtime_arm(cpool_runtime *rt, struct cpool__timer *timer, uint64_t due_ms, cpool__timer_fn *fn)
{
  assert(cpool__runtime_on_loop(rt));
  cpool__wheel_arm(&rt->wheel, timer, due_ms, fn);
  if (!rt->in_turn) {
    rt->ready = true; /* the turn sets the clock */
    cpool__loop_nudge(rt);
  }
}

void cpool__runtime_disarm(cpool_runtime *rt, struct cpool__timer *timer)
{
  assert(cpool__runtime_on_loop(rt));
  cpool__wheel_cancel(&rt->wheel, timer);
}

static void defer(cpool_runtime *rt, struct cpool__list *list, struct cpool__task *task)
{
  assert(cpool__runtime_on_loop(rt) && task->fn != NULL);
  if (cpool__link_in(&task->link))
    return;
  cpool__list_push_back(list, &task->link);
  ask_for_turn(rt);
}

void cpool__runtime_defer(cpool_runtime *rt, struct cpool__task *task)
{
  defer(rt, &rt->tasks, task);
}

void cpool__runtime_defer_late(cpool_runtime *rt, struct cpool__task *task)
{
  defer(rt, &rt->late_tasks, task);
}

void cpool__task_cancel(struct cpool__task *task)
{
  cpool__link_remove(&task->link);
}

void cpool__runtime_deliver(cpool_runtime *rt, struct cpool__event *event)
{
  assert(cpool__runtime_on_loop(rt) && (event->queue == NULL) != (event->fn == NULL));
  cpool__list_push_back(&rt->events, &event->link);
  ask_for_turn(rt);
}

struct uv_loop_s *cpool__runtime_uv_loop(cpool_runtime *rt)
{
  return rt->loop;
}

void cpool__runtime_guest(cpool_runtime *rt, int delta)
{
  assert(cpool__runtime_on_loop(rt) && rt->guest_count + delta >= 0);
  rt->guest_count += delta;
}

void cpool__runtime_enter(cpool_runtime *rt)
{
  assert(cpool__runtime_on_loop(rt));
  if (rt->in_turn || rt->ready)
    return;
  rt->now_us = cpool__clock_us();
  rt->ready = true;
}

void cpool__runtime_keep(cpool_runtime *rt, int delta)
{
  assert(cpool__runtime_on_loop(rt) && rt->keep_count + delta >= 0);
  rt->keep_count += delta;
  if (rt->mode != CPOOL_LOOP_UV)
    return;
  if (rt->keep_count > 0)
    uv_ref((uv_handle_t *) &rt->sockets);
  else
    uv_unref((uv_handle_t *) &rt->sockets);
}

/* --------------------------------------------------------------------------------------------------------- the turn */

/* These three return false in a forked child: the turn must be left. */

static bool run_inbox(cpool_runtime *rt)
{
  struct cpool__msg *msg = cpool__inbox_take(&rt->inbox);
  while (msg != NULL) {
    struct cpool__msg *next = msg->next;
    msg->fn(msg); /* may free it */
    if (!cpool__runtime_alive(rt))
      return false;
    msg = next;
  }
  return true;
}

/* What the tasks put off again waits for the next round, or turn. */
static bool run_tasks(cpool_runtime *rt, struct cpool__list *tasks)
{
  struct cpool__list due;
  cpool__list_init(&due);
  cpool__list_splice(&due, tasks);
  struct cpool__link *link;
  while ((link = cpool__list_pop_front(&due)) != NULL) {
    struct cpool__task *task = cpool__container_of(link, struct cpool__task, link);
    task->fn(task); /* may free it, and may cancel those that still wait */
    if (!cpool__runtime_alive(rt))
      return false;
  }
  return true;
}

/* Hands `first` and all later events for its queue over, under one lock of the queue. */
static void fill_queue(struct cpool__event *first, struct cpool__list *others)
{
  cpool_queue *queue = first->queue;
  struct cpool__list batch;
  cpool__list_init(&batch);
  cpool__list_push_back(&batch, &first->link);
  struct cpool__link *next;
  for (struct cpool__link *link = cpool__list_first(others); link != NULL; link = next) {
    next = cpool__list_next(others, link);
    if (cpool__container_of(link, struct cpool__event, link)->queue != queue)
      continue;
    cpool__link_remove(link);
    cpool__list_push_back(&batch, link);
  }
  cpool__queue_push(queue, &batch); /* from here on the events belong to the consumers, and the queue to its owner */
}

static bool run_events(cpool_runtime *rt)
{
  struct cpool__list due;
  cpool__list_init(&due);
  cpool__list_splice(&due, &rt->events);
  struct cpool__link *link;
  while ((link = cpool__list_pop_front(&due)) != NULL) {
    struct cpool__event *event = cpool__container_of(link, struct cpool__event, link);
    if (event->queue != NULL) {
      fill_queue(event, &due);
      continue;
    }
    event->fn(&event->event);
    if (!cpool__runtime_alive(rt)) /* the release may take locks whose holders do not exist here */
      return false;
    event->release(event);
  }
  return true;
}

static void on_timer(uv_timer_t *handle)
{
  cpool_runtime *rt = handle->data;
  rt->ready = true;
  rt->armed_ms = 0;
}

static void set_clock(cpool_runtime *rt, uint64_t due_ms, uint64_t now_ms)
{
  rt->armed_ms = due_ms;
  if (rt->mode == CPOOL_LOOP_MANUAL) {
    struct itimerspec at = {0}; /* all 0: unset */
    if (due_ms != UINT64_MAX) {
      at.it_value.tv_sec = (time_t) (due_ms / 1000);
      at.it_value.tv_nsec = (long) (due_ms % 1000) * 1000000;
    }
    timerfd_settime(rt->timer_fd, TFD_TIMER_ABSTIME, &at, NULL); /* also takes back an expiry that is not read yet */
  } else if (due_ms == UINT64_MAX) {
    uv_timer_stop(&rt->timer);
  } else {
    uv_timer_start(&rt->timer, on_timer, due_ms - now_ms, 0);
  }
}

static void update_clock(cpool_runtime *rt)
{
  uint64_t due_ms = cpool__wheel_next(&rt->wheel), now_ms = cpool__clock_us() / 1000;
  if (rt->mode != CPOOL_LOOP_MANUAL && uv_now(rt->loop) < now_ms)
    uv_update_time(rt->loop);
  if (due_ms <= now_ms) /* overdue, or became due within this turn */
    rt->ready = true;
  else if (due_ms < rt->armed_ms || rt->armed_ms <= now_ms)
    set_clock(rt, due_ms, now_ms);
}

/* Stages 2 to 8. False in a forked child. */
static bool run_stages(cpool_runtime *rt)
{
  uint64_t polled_us = rt->now_us;
  cpool__poller_poll(&rt->poller);
  cpool__wheel_advance(&rt->wheel, rt->now_us / 1000);
  for (int round = 1;; round++) {
    if (!run_inbox(rt) || !run_tasks(rt, &rt->tasks) || !run_events(rt))
      return false;
    bool more = !cpool__inbox_empty(&rt->inbox) || !cpool__list_empty(&rt->tasks) || !cpool__list_empty(&rt->events);
    if (!more || round == MAX_ROUNDS)
      break;
    rt->now_us = cpool__clock_us(); /* a busy turn lasts milliseconds: its later rounds would measure durations of 0 */
    if (rt->now_us - polled_us > POLL_AGAIN_AFTER_US) {
      cpool__poller_poll(&rt->poller);
      polled_us = rt->now_us;
    }
  }
  if (!run_tasks(rt, &rt->late_tasks))
    return false;
  cpool__poller_apply(&rt->poller);
  update_clock(rt);
  return true;
}

/* In a forked child: memory is all that may be touched. A host's loop no longer counts us as alive; our own thread,
 * which is the child's, leaves its loop. */
static void abandon(cpool_runtime *rt)
{
  if (rt->mode == CPOOL_LOOP_UV) {
    uv_idle_stop(&rt->nudge);
    uv_unref((uv_handle_t *) &rt->sockets);
  } else {
    uv_stop(rt->loop);
  }
}

void cpool__loop_turn(cpool_runtime *rt)
{
  if (rt->in_turn) /* a callback runs the host's loop, which libuv forbids */
    return;
  if (!cpool__runtime_alive(rt)) { /* the host's loop goes on in a forked child */
    abandon(rt);
    return;
  }
  rt->in_turn = true;
  rt->ready = false;
  rt->turn_count++;
  cpool__callback_depth++;
  if (rt->mode != CPOOL_LOOP_MANUAL)
    uv_idle_stop(&rt->nudge);

  rt->now_us = cpool__clock_us();
  bool in_parent = run_stages(rt);

  cpool__callback_depth--;
  rt->in_turn = false;
  if (!in_parent)
    abandon(rt);
  else if (cpool__loop_has_work(rt))
    cpool__loop_nudge(rt);
  else if (rt->stopping)
    uv_stop(rt->loop);
}
