/* runtime: one event loop on libuv in its three modes, and the order of work within a turn
 *
 * One turn, the only place where the library's work happens (run from uv_prepare or uv_check, whichever comes first
 * after an fd, a timer or a message asked for it):
 *   1. now is read once                        5. deferred tasks run
 *   2. ready sockets are served (poller)       6. events are delivered: callbacks called, one lock per queue
 *   3. due timers fire (wheel)                 7. back to 4 while there is more, a bounded number of rounds;
 *   4. the inbox is emptied                       then an immediate next turn
 *                                              8. late tasks (statistics) run, interest is applied, the timer is set
 * Nothing is dispatched before the sockets were looked at: a round that follows slow callbacks goes back to 2.
 */
#ifndef CPOOL_CORE_RUNTIME_H
#define CPOOL_CORE_RUNTIME_H

#include <stdbool.h>
#include <stdint.h>
#include <cpool.h>

#include "base/list.h"
#include "base/wheel.h"
#include "core/inbox.h"
#include "core/log.h"
#include "core/poller.h"
#include "core/queue.h"

/* Work put off to stage 5 or 8 of the same turn; embedded in its owner, zeroed before first use. */
struct cpool__task {
  struct cpool__link link;
  void (*fn)(struct cpool__task *task);
};

/* ---- any thread */
/* Above 0 while this thread is inside a turn of any runtime, callbacks included: no [waits] call may block then. */
extern _Thread_local int cpool__callback_depth;

/* False in a forked child: the object must not be touched. No system call. */
bool cpool__runtime_alive(const cpool_runtime *rt);
/* CLOCK_MONOTONIC in microseconds. */
uint64_t cpool__clock_us(void);
/* The runtime may be freed by what the message does, even before this returns. A host's loop in which nothing is live
 * does not wait for posts of other threads: uv_run returns, and the message runs when the host runs its loop again. */
void cpool__runtime_post(cpool_runtime *rt, struct cpool__msg *msg);
bool cpool__runtime_on_loop(const cpool_runtime *rt);
/* Whether a [waits] call may block on this runtime from this thread: not on its loop thread (manual mode: not inside
 * step), not inside any callback. */
bool cpool__runtime_may_wait(const cpool_runtime *rt);
bool cpool__runtime_is_manual(const cpool_runtime *rt);
/* An object lives on the runtime: cpool_runtime_free is CPOOL_EBUSY. */
void cpool__runtime_hold(cpool_runtime *rt);
void cpool__runtime_drop(cpool_runtime *rt);
/* Thread mode: the runtime is freed when its last holder drops it (a private runtime of a pool). The drop waits for the
 * thread's end, except on the loop thread and inside callbacks: there the thread frees all at its end. Either way it is
 * the holder's last touch. */
void cpool__runtime_make_private(cpool_runtime *rt);
const struct cpool__log *cpool__runtime_log(const cpool_runtime *rt);

/* ---- loop thread */
uint64_t cpool__runtime_now_us(const cpool_runtime *rt); /* of this turn */
uint64_t cpool__runtime_now_ms(const cpool_runtime *rt);
struct cpool__poller *cpool__runtime_poller(cpool_runtime *rt);
/* `due_ms` is absolute, as now_ms. */
void cpool__runtime_arm(cpool_runtime *rt, struct cpool__timer *timer, uint64_t due_ms, cpool__timer_fn *fn);
void cpool__runtime_disarm(cpool_runtime *rt, struct cpool__timer *timer);
/* Runs the task once, at stage 5 of this turn (or the next when there is none). Harmless while it is queued. */
void cpool__runtime_defer(cpool_runtime *rt, struct cpool__task *task);
void cpool__runtime_defer_late(cpool_runtime *rt, struct cpool__task *task); /* stage 8 */
void cpool__task_cancel(struct cpool__task *task);
/* Hands an event over at stage 6: its callback is called and then its release, or its queue gets it. The queue must be
 * held until then; this drops it. */
void cpool__runtime_deliver(cpool_runtime *rt, struct cpool__event *event);
/* libuv's loop, for a library with handles of its own on it. */
struct uv_loop_s *cpool__runtime_uv_loop(cpool_runtime *rt);
/* Such a library comes (+1) or is gone (-1). */
void cpool__runtime_guest(cpool_runtime *rt, int delta);
/* Begins work outside a turn, in a callback of such a library: the time is read, and a turn follows in the same
 * iteration. Harmless inside one. */
void cpool__runtime_enter(cpool_runtime *rt);
/* Work in flight keeps a host's uv_run from returning: +1 when it begins, -1 when it ends. */
void cpool__runtime_keep(cpool_runtime *rt, int delta);

#endif
