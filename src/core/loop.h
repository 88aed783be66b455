/* loop: what a runtime is made of; for loop.c (its parts), turn.c (its work) and runtime.c (its life) alone */
#ifndef CPOOL_CORE_LOOP_H
#define CPOOL_CORE_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "core/fork.h"
#include "core/runtime.h"

enum { CPOOL__LOOP_HANDLES = 5 };

struct cpool_runtime {
  /* Fixed before a second thread sees the runtime. */
  int mode;         /* enum cpool_loop_mode */
  bool is_private;  /* see cpool__runtime_make_private */
  uv_loop_t *loop;  /* own_loop or the host's; NULL: not made yet */
  pthread_t thread; /* UV mode: the thread that made it; thread mode: the loop's, for its joiner */
  char thread_name[16];
  struct cpool__log log;
  struct cpool__fork_mark fork_mark;

  /* Any thread. */
  struct cpool__inbox inbox;
  _Atomic int holder_count;
  _Atomic int posting_count; /* threads between a push and the end of its wake-up: the runtime outlives them */
  _Atomic bool stepping;     /* manual mode: a thread is the loop thread */

  /* Loop thread. */
  bool ready; /* a socket, the timer or what the last turn left over asks for a turn */
  bool in_turn;
  bool stopping;     /* thread mode: the loop ends as soon as no work is left */
  bool frees_itself; /* thread mode: nobody joins the thread */
  int keep_count, guest_count;
  uint64_t now_us;
  uint64_t armed_ms; /* what the timer below is set to; UINT64_MAX: it is not set; 0: it has fired */
  uint64_t turn_count, wake_count;
  struct cpool__poller poller;
  struct cpool__wheel wheel;
  struct cpool__list tasks, late_tasks; /* struct cpool__task.link */
  struct cpool__list events;            /* struct cpool__event.link */
  struct cpool__msg stop_msg;

  /* libuv. All are open from new until the end; handles lists those that need closing. */
  uv_loop_t own_loop;
  uv_poll_t sockets; /* on the poller's epoll set; also what keeps uv_run going, see cpool__runtime_keep */
  uv_prepare_t prepare;
  uv_check_t check;
  uv_idle_t nudge;  /* active: a turn is due at once. Host's and own thread's loops */
  uv_timer_t timer; /* host's and own thread's loops */
  uv_poll_t clock;  /* manual mode: on timer_fd, since a uv_timer_t does not show in the loop's descriptor */
  int timer_fd;     /* -1: none */
  int wake_fd; /* an eventfd in the poller's set, edge-triggered: written by any thread, read by nobody; -1: none */
  uv_handle_t *handles[CPOOL__LOOP_HANDLES];
  int handle_count;
};

/* The runtime whose loop thread this thread is, in thread and manual mode; else NULL. */
extern _Thread_local const cpool_runtime *cpool__loop_of_thread;

/* Opens all that needs no second thread, on the host's loop or, NULL, on its own. 0 or an errno; `*what` then says in
 * words what failed. The end is the same in either case: */
int cpool__loop_open(cpool_runtime *rt, uv_loop_t *host_loop, const char **what);
/* Closes the handles. On the loop thread, outside a turn. In UV mode this frees the runtime, at once or in the loop's
 * next turn. */
void cpool__loop_close(cpool_runtime *rt);
/* The other modes: frees the runtime, after the close. */
void cpool__loop_destroy(cpool_runtime *rt);

/* Any thread: makes libuv's wait end. */
void cpool__loop_wake(cpool_runtime *rt);
/* Loop thread, outside a turn: asks for one at once. In manual mode any thread: makes the descriptor readable. */
void cpool__loop_nudge(cpool_runtime *rt);
bool cpool__loop_has_work(const cpool_runtime *rt);
/* Loop thread: one turn, unless one is under way. */
void cpool__loop_turn(cpool_runtime *rt);

#endif
