/* runtime_fixture: a runtime in one of its modes, the test's part in running it, and work to give it */
#ifndef CPOOL_TESTS_RUNTIME_FIXTURE_H
#define CPOOL_TESTS_RUNTIME_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <uv.h>

#include "core/loop.h"
#include "support/wait.h"

enum { DEADLINE_MS = 20000, PULSE_MS = 20 };

/* ------------------------------------------------------------------------------------ a runtime in one of its modes */

struct fixture {
  int mode;
  cpool_runtime *rt;
  uv_loop_t uv;     /* the host's */
  uv_timer_t pulse; /* wakes the host's loop while a test waits for something */
  int fds_before;
};

/* Objects, since a case's mode is what its initial state points to. */
static const int THREAD = CPOOL_LOOP_THREAD, UV = CPOOL_LOOP_UV, MANUAL = CPOOL_LOOP_MANUAL;

/* For the group: what libuv opens once per process is there before descriptors are counted. */
static inline int warm_up(void **state)
{
  (void) state;
  uv_loop_t uv;
  return uv_loop_init(&uv) == 0 ? uv_loop_close(&uv) : -1;
}

static inline void on_pulse(uv_timer_t *timer)
{
  (void) timer;
}

static inline int setup(void **state)
{
  static struct fixture f;
  memset(&f, 0, sizeof f);
  f.mode = *(const int *) *state;
  f.fds_before = open_fd_count();
  cpool_runtime_options options;
  cpool_runtime_options_init(&options);
  options.loop_mode = f.mode;
  if (f.mode == UV) {
    uv_loop_init(&f.uv);
    uv_timer_init(&f.uv, &f.pulse);
    uv_timer_start(&f.pulse, on_pulse, PULSE_MS, PULSE_MS);
    uv_unref((uv_handle_t *) &f.pulse);
    options.uv_loop = &f.uv;
  }
  *state = &f;
  return cpool_runtime_new(&f.rt, &options);
}

static inline void host_turns_and_closes(struct fixture *f)
{
  uv_close((uv_handle_t *) &f->pulse, NULL);
  uv_run(&f->uv, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&f->uv), 0);
}

static inline int teardown(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(cpool_runtime_free(f->rt), CPOOL_OK);
  if (f->mode == UV)
    host_turns_and_closes(f);
  assert_int_equal(open_fd_count(), f->fds_before);
  return 0;
}

/* Runs the loop, if it is the test that runs it, until the flag is set. */
static inline bool flag_set(void *flag)
{
  return atomic_load((atomic_bool *) flag);
}

static inline void run_until(struct fixture *f, atomic_bool *flag)
{
  int64_t deadline_ms = now_ms() + DEADLINE_MS;
  if (f->mode == THREAD)
    wait_until(flag_set, flag, DEADLINE_MS);
  if (f->mode == UV)
    uv_ref((uv_handle_t *) &f->pulse);
  while (!atomic_load(flag) && now_ms() < deadline_ms) {
    if (f->mode == UV)
      uv_run(&f->uv, UV_RUN_ONCE);
    else if (f->mode == MANUAL)
      assert_int_equal(cpool_runtime_step(f->rt, DEADLINE_MS), CPOOL_OK);
  }
  if (f->mode == UV)
    uv_unref((uv_handle_t *) &f->pulse);
  assert_true(atomic_load(flag));
}

/* A function of the test, run on the loop by a message. */
struct call {
  struct cpool__msg msg;
  void (*fn)(struct fixture *f, void *arg);
  struct fixture *f;
  void *arg;
  atomic_bool done;
};

static inline void on_call(struct cpool__msg *msg)
{
  struct call *call = cpool__container_of(msg, struct call, msg);
  call->fn(call->f, call->arg);
  atomic_store(&call->done, true);
}

static inline void call_init(struct call *call, struct fixture *f, void (*fn)(struct fixture *f, void *arg), void *arg)
{
  memset(call, 0, sizeof *call);
  call->msg.fn = on_call;
  call->fn = fn;
  call->f = f;
  call->arg = arg;
}

static inline void on_loop(struct fixture *f, void (*fn)(struct fixture *f, void *arg), void *arg)
{
  struct call call;
  call_init(&call, f, fn, arg);
  cpool__runtime_post(f->rt, &call.msg);
  run_until(f, &call.done);
}

static inline void *post_call(void *arg)
{
  struct call *call = arg;
  cpool__runtime_post(call->f->rt, &call->msg);
  return NULL;
}

static inline void post_from_another_thread(struct call *call)
{
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, post_call, call), 0);
  pthread_join(thread, NULL);
}

static inline void do_nothing(struct fixture *f, void *arg)
{
  (void) f, (void) arg;
}

/* ------------------------------------------------------------------------------------------------------------ tasks */

struct chores {
  struct cpool__task once, cancelled, late, again;
  int once_count, cancelled_count, late_count, again_count;
  int order, once_order, late_order;
  uint64_t deferred_turn, once_turn, late_turn;
  struct fixture *f;
  atomic_bool done;
};

static inline void on_once(struct cpool__task *task)
{
  struct chores *chores = cpool__container_of(task, struct chores, once);
  chores->once_count++;
  chores->once_order = ++chores->order;
  chores->once_turn = chores->f->rt->turn_count;
}

static inline void on_cancelled(struct cpool__task *task)
{
  cpool__container_of(task, struct chores, cancelled)->cancelled_count++;
}

static inline void on_late(struct cpool__task *task)
{
  struct chores *chores = cpool__container_of(task, struct chores, late);
  chores->late_count++;
  chores->late_order = ++chores->order;
  chores->late_turn = chores->f->rt->turn_count;
}

static inline void on_again(struct cpool__task *task)
{
  struct chores *chores = cpool__container_of(task, struct chores, again);
  if (++chores->again_count < 100)
    cpool__runtime_defer(chores->f->rt, task);
  else
    atomic_store(&chores->done, true);
}

static inline void give_chores(struct fixture *f, void *arg)
{
  struct chores *chores = arg;
  chores->f = f;
  chores->once.fn = on_once;
  chores->cancelled.fn = on_cancelled;
  chores->late.fn = on_late;
  chores->again.fn = on_again;
  cpool__runtime_defer_late(f->rt, &chores->late);
  cpool__runtime_defer(f->rt, &chores->once);
  cpool__runtime_defer(f->rt, &chores->once);
  cpool__runtime_defer(f->rt, &chores->cancelled);
  cpool__runtime_defer(f->rt, &chores->again);
  cpool__task_cancel(&chores->cancelled);
  chores->deferred_turn = f->rt->turn_count;
}

/* ----------------------------------------------------------------------------------------------------------- timers */

enum { TIMERS = 8 };

struct alarm {
  struct cpool__timer timer;
  struct alarms *all;
  uint64_t due_ms, fired_us;
};

struct alarms {
  struct fixture *f;
  struct alarm alarms[TIMERS];
  struct cpool__timer cancelled;
  int fired, cancelled_fired;
  atomic_bool done;
};

static inline void on_alarm(struct cpool__timer *timer)
{
  struct alarm *alarm = cpool__container_of(timer, struct alarm, timer);
  alarm->fired_us = cpool__clock_us();
  if (++alarm->all->fired == TIMERS)
    atomic_store(&alarm->all->done, true);
}

static inline void on_cancelled_timer(struct cpool__timer *timer)
{
  cpool__container_of(timer, struct alarms, cancelled)->cancelled_fired++;
}

static inline void arm_all(struct fixture *f, void *arg)
{
  static const uint64_t delays_ms[TIMERS] = {70, 20, 1, 5, 64, 3, 0, 150};
  struct alarms *all = arg;
  uint64_t now_ms = cpool__runtime_now_ms(f->rt);
  for (int i = 0; i < TIMERS; i++) {
    struct alarm *alarm = &all->alarms[i];
    alarm->all = all;
    alarm->due_ms = now_ms + delays_ms[i];
    cpool__runtime_arm(f->rt, &alarm->timer, alarm->due_ms, on_alarm);
  }
  cpool__runtime_arm(f->rt, &all->cancelled, now_ms + 10, on_cancelled_timer);
  cpool__runtime_disarm(f->rt, &all->cancelled);
}

/* ---------------------------------------------------------------------------------------------------------- sockets */

struct door {
  int fd; /* an eventfd */
  int order, rung_order, message_order;
  atomic_bool rung;
};

static inline void on_ring(void *owner, int fd, uint32_t events)
{
  struct door *door = owner;
  uint64_t count;
  if ((events & EPOLLIN) != 0 && read(fd, &count, sizeof count) == sizeof count) {
    door->rung_order = ++door->order;
    atomic_store(&door->rung, true);
  }
}

static inline void watch_door(struct fixture *f, void *arg)
{
  struct door *door = arg;
  cpool__poller_watch(cpool__runtime_poller(f->rt), door->fd, EPOLLIN, on_ring, door);
}

static inline void leave_door(struct fixture *f, void *arg)
{
  struct door *door = arg;
  cpool__poller_forget(cpool__runtime_poller(f->rt), door->fd);
}

static inline void note_message(struct fixture *f, void *arg)
{
  (void) f;
  struct door *door = arg;
  door->message_order = ++door->order;
}

static inline void open_door(struct fixture *f, struct door *door)
{
  *door = (struct door){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  assert_true(door->fd >= 0);
  on_loop(f, watch_door, door);
  on_loop(f, do_nothing, NULL); /* its turn has applied the interest of the one before */
}

static inline void close_door(struct fixture *f, struct door *door)
{
  on_loop(f, leave_door, door);
  close(door->fd);
}

/* ------------------------------------------------------------------------------------------------------------ cases */

/* One case per mode; the names tell them apart. */
#define IN(mode, test)                                                                                                 \
  {                                                                                                                    \
#test " (" #mode ")", test, setup, teardown, (void *) (uintptr_t) &mode                                            \
  }
#define IN_ALL(test) IN(THREAD, test), IN(UV, test), IN(MANUAL, test)
#define BARE(mode, test)                                                                                               \
  {                                                                                                                    \
#test " (" #mode ")", test, NULL, NULL, (void *) (uintptr_t) &mode                                                 \
  }

#endif
