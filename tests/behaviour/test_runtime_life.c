/* test_runtime_life: how a runtime comes to be, is refused, is held, and ends without a trace */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "behaviour/runtime_fixture.h"

/* --------------------------------------------------------------------------------------------------- life and death */

static void a_held_runtime_cannot_be_freed(void **state)
{
  struct fixture *f = *state;
  cpool__runtime_hold(f->rt);
  cpool__runtime_hold(f->rt);
  assert_int_equal(cpool_runtime_free(f->rt), CPOOL_EBUSY);
  cpool__runtime_drop(f->rt);
  assert_int_equal(cpool_runtime_free(f->rt), CPOOL_EBUSY);
  on_loop(f, do_nothing, NULL); /* the refused call changed nothing */
  cpool__runtime_drop(f->rt);
}

static void a_forked_child_is_refused(void **state)
{
  struct fixture *f = *state;
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    int wrong = cpool__runtime_alive(f->rt);
    wrong |= (cpool_runtime_free(f->rt) != CPOOL_EFORK) << 1;
    wrong |= (cpool_runtime_step(f->rt, 0) != CPOOL_EFORK) << 2;
    wrong |= (cpool_runtime_fd(f->rt) != CPOOL_EFORK) << 3;
    _exit(wrong);
  }
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  assert_true(cpool__runtime_alive(f->rt));
  on_loop(f, do_nothing, NULL); /* the parent's loop was left alone */
}

static cpool_runtime *new_private(void)
{
  cpool_runtime *rt = NULL;
  assert_int_equal(cpool_runtime_new(&rt, NULL), CPOOL_OK);
  cpool__runtime_make_private(rt);
  cpool__runtime_hold(rt);
  return rt;
}

static bool fds_are(void *count)
{
  return open_fd_count() == *(const int32_t *) count;
}

static bool threads_are(void *count)
{
  return thread_count() == *(const int32_t *) count;
}

static void the_last_drop_ends_a_private_runtime(void **state)
{
  (void) state;
  int32_t fds = open_fd_count(), threads = thread_count() + 1;
  for (int i = 0; i < 20; i++) {
    cpool_runtime *rt = new_private();
    cpool__runtime_hold(rt);
    cpool__runtime_drop(rt);
    assert_true(wait_until(threads_are, &threads, DEADLINE_MS)); /* a joined thread may show for a moment more */
    cpool__runtime_drop(rt);
    assert_int_equal(open_fd_count(), fds);
  }
}

struct last_word {
  struct cpool__msg msg;
  cpool_runtime *rt;
};

static void drop_in_message(struct cpool__msg *msg)
{
  cpool__runtime_drop(cpool__container_of(msg, struct last_word, msg)->rt);
}

/* The post that leads to the end may still be in its wake-up when the loop gets there. */
static void a_private_runtime_may_be_dropped_on_its_own_loop(void **state)
{
  (void) state;
  int32_t fds = open_fd_count(), threads = thread_count();
  enum { TIMES = 300 };
  static struct last_word words[TIMES]; /* one each: no lock tells this thread that the loop is done with it */
  for (int i = 0; i < TIMES; i++) {
    words[i] = (struct last_word){.msg.fn = drop_in_message, .rt = new_private()};
    cpool__runtime_post(words[i].rt, &words[i].msg);
    assert_true(wait_until(fds_are, &fds, DEADLINE_MS));
    assert_true(wait_until(threads_are, &threads, DEADLINE_MS));
  }
}

static void drop_other(struct fixture *f, void *arg)
{
  (void) f;
  cpool__runtime_drop(arg);
}

static void a_private_runtime_dropped_in_anothers_callback_does_not_hold_that_loop(void **state)
{
  struct fixture *f = *state;
  int32_t fds = open_fd_count(), threads = thread_count();
  cpool_runtime *rt = new_private();
  on_loop(f, drop_other, rt);
  assert_true(wait_until(fds_are, &fds, DEADLINE_MS));
  assert_true(wait_until(threads_are, &threads, DEADLINE_MS));
}

static void what_was_posted_before_the_free_has_run(void **state)
{
  (void) state;
  for (int i = 0; i < 50; i++) {
    struct fixture f = {.mode = THREAD};
    assert_int_equal(cpool_runtime_new(&f.rt, NULL), CPOOL_OK);
    struct call call;
    call_init(&call, &f, do_nothing, NULL);
    cpool__runtime_post(f.rt, &call.msg);
    assert_int_equal(cpool_runtime_free(f.rt), CPOOL_OK);
    assert_true(atomic_load(&call.done));
  }
}

/* --------------------------------------------------------------------------------------------------------- refusals */

static void senseless_options_are_refused(void **state)
{
  (void) state;
  uv_loop_t uv;
  uv_loop_init(&uv);
  cpool_runtime *rt = NULL;
  cpool_runtime_options options;
#define REFUSED(...)                                                                                                   \
  do {                                                                                                                 \
    cpool_runtime_options_init(&options);                                                                              \
    __VA_ARGS__;                                                                                                       \
    assert_int_equal(cpool_runtime_new(&rt, &options), CPOOL_EINVAL);                                                  \
    assert_null(rt);                                                                                                   \
  } while (0)
  REFUSED(options.loop_mode = 4);
  REFUSED(options.loop_mode = -1);
  REFUSED(options.loop_mode = CPOOL_LOOP_UV);
  REFUSED(options.uv_loop = &uv);
  REFUSED(options.log_level = 5);
  REFUSED(options.log_level = CPOOL_OFF);
  REFUSED(options.thread_name = "sixteen bytes...");
  REFUSED(options.size = 3);
#undef REFUSED
  assert_int_equal(cpool_runtime_new(NULL, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_runtime_fd(NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_runtime_step(NULL, 0), CPOOL_EINVAL);
  assert_int_equal(cpool_runtime_free(NULL), CPOOL_OK);
  assert_int_equal(uv_loop_close(&uv), 0);
}

static void a_negative_wait_is_refused(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(cpool_runtime_step(f->rt, -2), CPOOL_EINVAL);
}

static int try_new(int mode)
{
  uv_loop_t uv;
  cpool_runtime *rt = NULL;
  cpool_runtime_options options;
  cpool_runtime_options_init(&options);
  options.loop_mode = mode;
  if (mode == UV) {
    /* The host's loop must come into being; what is tested is what follows. */
    struct rlimit limit, room;
    getrlimit(RLIMIT_NOFILE, &limit);
    room = limit;
    room.rlim_cur = room.rlim_max;
    setrlimit(RLIMIT_NOFILE, &room);
    assert_int_equal(uv_loop_init(&uv), 0);
    setrlimit(RLIMIT_NOFILE, &limit);
    options.uv_loop = &uv;
  }
  int status = cpool_runtime_new(&rt, &options);
  if (status == CPOOL_OK)
    assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
  else
    assert_null(rt);
  if (mode == UV) {
    uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&uv), 0);
  }
  return status;
}

static void every_shortage_of_descriptors_is_a_status(void **state)
{
  int mode = *(const int *) *state;
  assert_int_equal(try_new(mode), CPOOL_OK); /* what libuv makes once per process is there from now on */
  int32_t fds = open_fd_count();
  struct rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  int refused = 0, status = CPOOL_ESYSTEM;
  int probe = dup(0);
  close(probe); /* the lowest free number; the numbers above it are free too, or count as made */
  for (int room = 0; room < 64 && status != CPOOL_OK; room++) {
    struct rlimit limit = {.rlim_cur = (rlim_t) (probe + room), .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &limit);
    status = try_new(mode);
    setrlimit(RLIMIT_NOFILE, &before);
    if (status != CPOOL_OK)
      assert_int_equal(status, CPOOL_ESYSTEM);
    refused += status != CPOOL_OK;
    assert_int_equal(open_fd_count(), fds);
  }
  assert_int_equal(status, CPOOL_OK);
  assert_true(refused >= 2);
}

static void *no_memory(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0)
    free(ptr);
  return NULL;
}

static void no_memory_is_a_status(void **state)
{
  int mode = *(const int *) *state;
  cpool__memory_hook(no_memory, NULL);
  int status = try_new(mode);
  cpool__memory_hook(NULL, NULL);
  assert_int_equal(status, CPOOL_ENOMEM);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      IN(MANUAL, a_negative_wait_is_refused),
      IN_ALL(a_held_runtime_cannot_be_freed),
      IN_ALL(a_forked_child_is_refused),
      IN_ALL(a_private_runtime_dropped_in_anothers_callback_does_not_hold_that_loop),
      BARE(THREAD, the_last_drop_ends_a_private_runtime),
      BARE(THREAD, a_private_runtime_may_be_dropped_on_its_own_loop),
      BARE(THREAD, what_was_posted_before_the_free_has_run),
      BARE(THREAD, senseless_options_are_refused),
      BARE(THREAD, every_shortage_of_descriptors_is_a_status),
      BARE(UV, every_shortage_of_descriptors_is_a_status),
      BARE(MANUAL, every_shortage_of_descriptors_is_a_status),
      BARE(THREAD, no_memory_is_a_status),
      BARE(UV, no_memory_is_a_status),
      BARE(MANUAL, no_memory_is_a_status),
  };
  return cmocka_run_group_tests(tests, warm_up, NULL);
}
