/* loop: the descriptors and libuv handles behind a runtime, opened and closed */
#include "core/loop.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/memory.h"
#include "core/allocator.h"

/* Of a libuv loop, those that libuv opens once per process included, and some to spare. */
enum { LOOP_DESCRIPTORS = 8 };

static void on_sockets(uv_poll_t *handle, int status, int events)
{
  (void) status, (void) events;
  ((cpool_runtime *) handle->data)->ready = true;
}

static void on_clock(uv_poll_t *handle, int status, int events)
{
  (void) status, (void) events;
  cpool_runtime *rt = handle->data;
  rt->ready = true;
  rt->armed_ms = 0;
}

static void on_wake(void *owner, int fd, uint32_t events)
{
  (void) fd, (void) events;
  ((cpool_runtime *) owner)->wake_count++; /* the messages themselves are the work */
}

static void on_prepare(uv_prepare_t *handle)
{
  cpool_runtime *rt = handle->data;
  if (cpool__loop_has_work(rt))
    cpool__loop_turn(rt);
}

static void on_check(uv_check_t *handle)
{
  cpool_runtime *rt = handle->data;
  if (cpool__loop_has_work(rt))
    cpool__loop_turn(rt);
}

static void add_handle(cpool_runtime *rt, uv_handle_t *handle)
{
  assert(rt->handle_count < CPOOL__LOOP_HANDLES);
  rt->handles[rt->handle_count++] = handle;
  handle->data = rt;
  /* A nudge keeps the host's uv_run going for as long as it is active; all else only if cpool__runtime_keep says so. */
  if (rt->mode == CPOOL_LOOP_UV && handle->type != UV_IDLE)
    uv_unref(handle);
}

/* 0 or libuv's error; the handles opened until then are listed. */
static int open_handles(cpool_runtime *rt)
{
  int error;
  if ((error = uv_poll_init(rt->loop, &rt->sockets, rt->poller.epoll_fd)) != 0)
    return error;
  add_handle(rt, (uv_handle_t *) &rt->sockets);
  uv_prepare_init(rt->loop, &rt->prepare);
  add_handle(rt, (uv_handle_t *) &rt->prepare);
  uv_check_init(rt->loop, &rt->check);
  add_handle(rt, (uv_handle_t *) &rt->check);
  if (rt->mode == CPOOL_LOOP_MANUAL) {
    if ((error = uv_poll_init(rt->loop, &rt->clock, rt->timer_fd)) != 0)
      return error;
    add_handle(rt, (uv_handle_t *) &rt->clock);
    uv_poll_start(&rt->clock, UV_READABLE, on_clock);
  } else {
    uv_timer_init(rt->loop, &rt->timer);
    add_handle(rt, (uv_handle_t *) &rt->timer);
    uv_idle_init(rt->loop, &rt->nudge);
    add_handle(rt, (uv_handle_t *) &rt->nudge);
  }
  uv_poll_start(&rt->sockets, UV_READABLE, on_sockets);
  uv_prepare_start(&rt->prepare, on_prepare);
  uv_check_start(&rt->check, on_check);
  return 0;
}

/* libuv 1.44 loses descriptors when uv_loop_init fails for want of more, so that each try would make a shortage worse:
 * whether there is room is tried first. 0 or an errno. */
static int try_room(void)
{
  int fds[LOOP_DESCRIPTORS], count = 0, error = 0;
  while (count < LOOP_DESCRIPTORS && error == 0) {
    fds[count] = eventfd(0, EFD_CLOEXEC);
    if (fds[count] < 0)
      error = errno;
    else
      count++;
  }
  while (count > 0)
    close(fds[--count]);
  return error;
}

int cpool__loop_open(cpool_runtime *rt, struct uv_loop_s *host_loop, const char **what)
{
  *what = "an epoll set cannot be made";
  if (cpool__poller_init(&rt->poller) != CPOOL_OK)
    return errno;
  *what = "a wake-up cannot be made";
  rt->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (rt->wake_fd < 0)
    return errno;
  if (cpool__poller_watch(&rt->poller, rt->wake_fd, EPOLLIN | EPOLLET, on_wake, rt) != CPOOL_OK)
    return ENOMEM;
  cpool__poller_apply(&rt->poller);
  *what = "a timer cannot be made";
  if (rt->mode == CPOOL_LOOP_MANUAL) {
    rt->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (rt->timer_fd < 0)
      return errno;
  }
  *what = "an event loop cannot be made";
  if (host_loop == NULL) {
    int error = try_room();
    if (error == 0)
      error = -uv_loop_init(&rt->own_loop);
    if (error != 0)
      return error;
  }
  rt->loop = host_loop != NULL ? host_loop : &rt->own_loop;
  return -open_handles(rt);
}

void cpool__loop_destroy(cpool_runtime *rt)
{
  assert(cpool__inbox_empty(&rt->inbox));
  cpool__poller_fini(&rt->poller);
  if (rt->timer_fd >= 0)
    close(rt->timer_fd);
  if (rt->wake_fd >= 0)
    close(rt->wake_fd);
  cpool__fork_mark_fini(&rt->fork_mark);
  cpool__free(rt);
  cpool__objects_add(-1);
}

static void on_closed(uv_handle_t *handle)
{
  cpool_runtime *rt = handle->data;
  if (--rt->handle_count == 0 && rt->mode == CPOOL_LOOP_UV)
    cpool__loop_destroy(rt);
}

void cpool__loop_close(cpool_runtime *rt)
{
  /* A poster whose message led here may still be sending its wake-up. */
  while (atomic_load_explicit(&rt->posting_count, memory_order_acquire) != 0)
    sched_yield();
  if (rt->mode == CPOOL_LOOP_UV && rt->handle_count == 0) {
    cpool__loop_destroy(rt);
    return;
  }
  for (int i = 0; i < rt->handle_count; i++)
    uv_close(rt->handles[i], on_closed);
  if (rt->mode == CPOOL_LOOP_UV || rt->loop == NULL)
    return;
  uv_run(rt->loop, UV_RUN_DEFAULT);
  int error = uv_loop_close(rt->loop);
  assert(error == 0);
  (void) error;
}
