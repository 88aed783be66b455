/* runtime: an event loop's life: made in one of three modes, stepped or run, ended
 *
 *   mode     loop     who runs it         who ends it, and how
 *   thread   own      its thread          any thread: a stop message, then join; the thread closes the handles. A
 *                                         private one dropped where joining is not allowed is freed by its thread
 *   uv       host's   the host            the loop's thread; libuv closes handles in its next turn, the last one frees
 *   manual   own      cpool_runtime_step  any thread that may step, at once
 *
 * In thread and manual mode the loop always counts as alive; in UV mode only while work is in flight
 * (cpool__runtime_keep), a nudge is pending, or handles are closing.
 *
 * In a forked child nothing can be ended safely: uv_close would take descriptors out of epoll sets that the parent
 * shares. The child's copy stays as it is until the child executes another program or exits; cpool_runtime_free is
 * CPOOL_EFORK there. */
#include "core/loop.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "base/memory.h"
#include "core/allocator.h"
#include "core/error.h"
#include "core/structs.h"

enum { THREAD_NAME_BYTES = sizeof((cpool_runtime *) NULL)->thread_name - 1 };

/* -------------------------------------------------------------------------------------------------------------- end */

static void on_stop(struct cpool__msg *msg)
{
  cpool__container_of(msg, cpool_runtime, stop_msg)->stopping = true;
}

static void end_thread(cpool_runtime *rt, bool wait)
{
  pthread_t thread = rt->thread;
  rt->frees_itself = !wait; /* published by the post */
  rt->stop_msg.fn = on_stop;
  cpool__runtime_post(rt, &rt->stop_msg);
  if (!wait)
    return;
  pthread_join(thread, NULL);
  cpool__loop_destroy(rt);
}

int cpool_runtime_free(cpool_runtime *rt)
{
  if (rt == NULL)
    return CPOOL_OK;
  if (!cpool__runtime_alive(rt))
    return cpool__refuse(CPOOL_EFORK, CPOOL_LAYER_CALLER, "the runtime belongs to the parent process");
  if (cpool__callback_depth > 0)
    return cpool__refuse(CPOOL_EDEADLK, CPOOL_LAYER_CALLER, "a runtime cannot be freed inside a callback");
  if (rt->mode == CPOOL_LOOP_UV && !cpool__runtime_on_loop(rt))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "a runtime on a host's loop is freed on the loop's thread");
  int holder_count = atomic_load_explicit(&rt->holder_count, memory_order_acquire);
  if (holder_count > 0)
    return cpool__refuse(CPOOL_EBUSY, CPOOL_LAYER_CALLER, "pools on the runtime not freed yet: %d", holder_count);

  switch (rt->mode) {
  case CPOOL_LOOP_THREAD:
    end_thread(rt, true);
    break;
  case CPOOL_LOOP_UV:
    cpool__loop_close(rt);
    break;
  default:
    if (atomic_exchange_explicit(&rt->stepping, true, memory_order_acquire))
      return cpool__refuse(CPOOL_EBUSY, CPOOL_LAYER_CALLER, "another thread is stepping the runtime");
    cpool__loop_close(rt);
    cpool__loop_destroy(rt);
  }
  return CPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------ thread mode */

static void *run_thread(void *arg)
{
  cpool_runtime *rt = arg;
  cpool__loop_of_thread = rt;
  pthread_setname_np(pthread_self(), rt->thread_name);
  uv_run(rt->loop, UV_RUN_DEFAULT);
  if (!cpool__runtime_alive(rt)) /* a callback forked and returned in the child, whose only thread this is */
    return NULL;
  bool frees_itself = rt->frees_itself;
  cpool__loop_close(rt);
  cpool__loop_of_thread = NULL;
  if (frees_itself) {
    pthread_detach(pthread_self());
    cpool__loop_destroy(rt);
  }
  return NULL;
}

/* 0 or an errno. The host's signals are for the host's threads: in this one all are blocked from the start. */
static int start_thread(cpool_runtime *rt)
{
  sigset_t all, before;
  sigfillset(&all);
  int error = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (error != 0)
    return error;
  error = pthread_create(&rt->thread, NULL, run_thread, rt);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return error;
}

/* ------------------------------------------------------------------------------------------------------ manual mode */

/* libuv puts descriptors into its epoll set only when it next polls; from then on the set, and with it
 * cpool_runtime_fd, is complete: the three descriptors of this mode stay in it to the end. */
static void register_descriptors(cpool_runtime *rt)
{
  uv_run(rt->loop, UV_RUN_NOWAIT);
}

int cpool_runtime_fd(cpool_runtime *rt)
{
  if (rt == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "the runtime is NULL");
  if (!cpool__runtime_alive(rt))
    return cpool__refuse(CPOOL_EFORK, CPOOL_LAYER_CALLER, "the runtime belongs to the parent process");
  if (rt->mode != CPOOL_LOOP_MANUAL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "only a runtime in manual mode has a descriptor");
  return uv_backend_fd(rt->loop);
}

/* Waits until the descriptor is readable. False: a signal arrived, or the deadline did (UINT64_MAX: there is none). */
static bool wait_readable(cpool_runtime *rt, uint64_t deadline_us)
{
  struct timespec timeout = {0};
  if (deadline_us != UINT64_MAX) {
    uint64_t now_us = cpool__clock_us(), left_us = deadline_us > now_us ? deadline_us - now_us : 0;
    timeout.tv_sec = (time_t) (left_us / 1000000);
    timeout.tv_nsec = (long) (left_us % 1000000) * 1000;
  }
  struct pollfd poll_fd = {.fd = uv_backend_fd(rt->loop), .events = POLLIN};
  return ppoll(&poll_fd, 1, deadline_us == UINT64_MAX ? NULL : &timeout, NULL) > 0;
}

/* What guests now wait for gets into libuv's epoll set, and so into the descriptor, when libuv polls again. That may
 * make them wait for something else: then the host shall step once more. */
static void show_guests(cpool_runtime *rt)
{
  uint64_t turn_count = rt->turn_count;
  uv_run(rt->loop, UV_RUN_NOWAIT);
  if (rt->turn_count != turn_count)
    cpool__loop_nudge(rt);
}

static void step(cpool_runtime *rt, int64_t max_wait_ms)
{
  uint64_t turn_count = rt->turn_count, deadline_us = UINT64_MAX;
  if (max_wait_ms > 0 && max_wait_ms < INT64_MAX / 2000)
    deadline_us = cpool__clock_us() + (uint64_t) max_wait_ms * 1000;
  do {
    /* The wait is apart from uv_run, which would do what is pending and then wait for more. */
    bool ready = max_wait_ms == 0 || cpool__loop_has_work(rt) || wait_readable(rt, deadline_us);
    uv_run(rt->loop, UV_RUN_NOWAIT);
    if (!ready)
      break;
  } while (max_wait_ms != 0 && rt->turn_count == turn_count);
  if (rt->guest_count > 0)
    show_guests(rt);
}

int cpool_runtime_step(cpool_runtime *rt, int64_t max_wait_ms)
{
  if (rt == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "the runtime is NULL");
  if (!cpool__runtime_alive(rt))
    return cpool__refuse(CPOOL_EFORK, CPOOL_LAYER_CALLER, "the runtime belongs to the parent process");
  if (rt->mode != CPOOL_LOOP_MANUAL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "only a runtime in manual mode is stepped");
  if (max_wait_ms < CPOOL_OFF)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "runtime_step: max_wait_ms %lld is below -1 (off)",
                         (long long) max_wait_ms);
  if (cpool__callback_depth > 0)
    return cpool__refuse(CPOOL_EDEADLK, CPOOL_LAYER_CALLER, "a runtime cannot be stepped inside a callback");
  if (atomic_exchange_explicit(&rt->stepping, true, memory_order_acquire))
    return cpool__refuse(CPOOL_EBUSY, CPOOL_LAYER_CALLER, "another thread is stepping the runtime");
  cpool__loop_of_thread = rt;
  step(rt, max_wait_ms);
  cpool__loop_of_thread = NULL;
  atomic_store_explicit(&rt->stepping, false, memory_order_release);
  if (!cpool__runtime_alive(rt))
    return cpool__refuse(CPOOL_EFORK, CPOOL_LAYER_CALLER, "a callback has forked: the runtime is the parent's");
  return CPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------------- new */

static int check_options(cpool_runtime_options *options, const cpool_runtime_options *given)
{
  *options = (cpool_runtime_options){.size = sizeof *options};
  int status = given == NULL ? CPOOL_OK : cpool__struct_read(options, sizeof *options, given, "cpool_runtime_options");
  if (status != CPOOL_OK)
    return status;
  if (options->loop_mode == 0)
    options->loop_mode = CPOOL_LOOP_THREAD;
  if (options->log_level == 0)
    options->log_level = CPOOL_LOG_WARNING;
  if (options->thread_name == NULL)
    options->thread_name = "cpool";
  if (options->loop_mode < CPOOL_LOOP_THREAD || options->loop_mode > CPOOL_LOOP_MANUAL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "loop_mode: %d is no mode", (int) options->loop_mode);
  if (options->log_level < CPOOL_LOG_ERROR || options->log_level > CPOOL_LOG_DEBUG)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "log_level: %d is no level", (int) options->log_level);
  if ((options->loop_mode == CPOOL_LOOP_UV) != (options->uv_loop != NULL))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "uv_loop goes with CPOOL_LOOP_UV, and only with it");
  if (strlen(options->thread_name) > THREAD_NAME_BYTES)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "thread_name: longer than 15 bytes");
  return CPOOL_OK;
}

static int refuse_system(int error, const char *what)
{
  cpool_error err;
  int status = error == ENOMEM ? CPOOL_ENOMEM : CPOOL_ESYSTEM;
  cpool__error_set(&err, status, CPOOL_LAYER_SYSTEM, error, 0, "%s: %s", what, strerror(error));
  return cpool__refuse_with(&err);
}

int cpool_runtime_new(cpool_runtime **out, const cpool_runtime_options *given)
{
  if (out == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "out is NULL");
  cpool_runtime_options options;
  int status = check_options(&options, given);
  if (status != CPOOL_OK)
    return status;
  cpool_runtime *rt = cpool__calloc(1, sizeof *rt);
  if (rt == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a runtime");

  cpool__objects_add(1);
  rt->mode = options.loop_mode;
  rt->thread = pthread_self();
  strcpy(rt->thread_name, options.thread_name);
  rt->log = (struct cpool__log){.fn = options.log, .user = options.log_user, .level = options.log_level};
  cpool__fork_mark_init(&rt->fork_mark);
  rt->timer_fd = rt->wake_fd = -1;
  rt->armed_ms = UINT64_MAX;
  rt->now_us = cpool__clock_us();
  cpool__wheel_init(&rt->wheel, rt->now_us / 1000);
  cpool__list_init(&rt->tasks);
  cpool__list_init(&rt->late_tasks);
  cpool__list_init(&rt->events);

  const char *what;
  int error = cpool__loop_open(rt, options.uv_loop, &what);
  if (error == 0 && rt->mode == CPOOL_LOOP_MANUAL)
    register_descriptors(rt);
  if (error == 0 && rt->mode == CPOOL_LOOP_THREAD) {
    what = "a thread cannot be made";
    error = start_thread(rt);
  }
  if (error != 0) {
    cpool__loop_close(rt);
    if (options.loop_mode != CPOOL_LOOP_UV)
      cpool__loop_destroy(rt);
    return refuse_system(error, what);
  }
  *out = rt;
  return CPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------------- holders */

bool cpool__runtime_alive(const cpool_runtime *rt)
{
  return cpool__fork_mark_same_process(&rt->fork_mark);
}

bool cpool__runtime_is_manual(const cpool_runtime *rt)
{
  return rt->mode == CPOOL_LOOP_MANUAL;
}

const struct cpool__log *cpool__runtime_log(const cpool_runtime *rt)
{
  return &rt->log;
}

void cpool__runtime_hold(cpool_runtime *rt)
{
  atomic_fetch_add_explicit(&rt->holder_count, 1, memory_order_relaxed);
}

void cpool__runtime_make_private(cpool_runtime *rt)
{
  assert(rt->mode == CPOOL_LOOP_THREAD);
  rt->is_private = true;
}

void cpool__runtime_drop(cpool_runtime *rt)
{
  bool is_private = rt->is_private; /* once dropped, another thread may free the runtime */
  int before = atomic_fetch_sub_explicit(&rt->holder_count, 1, memory_order_acq_rel);
  assert(before > 0);
  if (before == 1 && is_private)
    end_thread(rt, cpool__runtime_may_wait(rt));
}
