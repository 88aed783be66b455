/* test_fork: a forked child is told that the objects are its parent's, and nothing it does reaches the parent's sockets */
#include "support/pool_fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

/* Runs in the child; returns the number of the first expectation that failed, 0 for none. */
static int child_main(struct pool_fixture *f, cpool_runtime *rt, cpool_session *session, cpool_op op,
                      const cpool_event *event)
{
  cpool_request req = request_of(f, "/ok");
  cpool_response *resp = NULL;
  cpool_http_stats stats;
  cpool_histogram histogram;
  cpool_http_options options = pool_options();
  const cpool_event *other;
  cpool_http *pool = NULL;
  cpool_session *made = NULL;
  cpool_origin_stats row;
  cpool_error error;
  uint64_t cursor = 0;
  cpool_http_stats_init(&stats);
  cpool_histogram_init(&histogram);
  cpool_error_init(&error);
  const int results[] = {
      cpool_submit(session, &req, NULL),
      cpool_submit(cpool_http_session(f->pool), &req, NULL),
      cpool_get(session, req.url, &resp),
      cpool_cancel(f->pool, op),
      cpool_http_stats_get(f->pool, &stats),
      cpool_http_histogram_get(f->pool, 0, &histogram),
      cpool_http_origins_get(f->pool, &cursor, &row, sizeof row, 1),
      cpool_http_options_get(f->pool, &options),
      cpool_http_reconfigure(f->pool, &options),
      cpool_http_origin_set(f->pool, "http://a.test", "max_connections_per_host", "1"),
      cpool_session_new(&made, f->pool, NULL),
      cpool_http_new(&pool, rt, NULL),
      cpool_http_close_start(f->pool, 0),
      cpool_http_close(f->pool, 0),
      cpool_runtime_free(rt),
      cpool_queue_fd(f->queue),
      cpool_queue_wait(f->queue, &other, 1, 0),
      cpool_queue_free(f->queue),
  };
  for (size_t i = 0; i < sizeof results / sizeof *results; i++)
    if (results[i] != CPOOL_EFORK)
      return (int) i + 1;
  if (cpool_last_error(&error) != CPOOL_OK || error.status != CPOOL_EFORK || strstr(error.text, "parent") == NULL)
    return 100;
  if (resp != NULL || made != NULL || pool != NULL)
    return 101;
  cpool_queue_wake(f->queue); /* all without effect */
  cpool_queue_release(f->queue, &event, 1);
  cpool_session_free(session);
  cpool_http_free(f->pool);
  return 0;
}

static void child_is_refused_and_parent_goes_on(void **state)
{
  struct pool_fixture *f = *state;
  cpool_runtime *rt = NULL;
  cpool_session *session = NULL;
  const cpool_event *event = NULL;
  assert_int_equal(cpool_runtime_new(&rt, NULL), CPOOL_OK);
  assert_int_equal(cpool_http_new(&f->pool, rt, NULL), CPOOL_OK);
  assert_int_equal(cpool_session_new(&session, f->pool, NULL), CPOOL_OK);
  uint64_t connection = get_ok(f, "/ok");
  ask(f, "/ok");
  assert_int_equal(cpool_queue_wait(f->queue, &event, 1, DEADLINE_MS), 1);
  cpool_op held = ask(f, "/hold");
  eventually(counts_of(f).held == 1);
  pid_t pid = fork();
  if (pid == 0)
    _exit(child_main(f, rt, session, held, event));
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  cpool_queue_release(f->queue, &event, 1);
  assert_int_equal(fault_server_release(f->server, 1), 1);
  expect_end(f, held, CPOOL_OK);
  assert_int_equal(get_ok(f, "/ok"), connection); /* the connection that was open at the fork */
  assert_int_equal(counts_of(f).accepted, 1);
  assert_balanced(f->pool);
  cpool_session_free(session);
  close_pool(f);
  assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
}

#if !defined(__SANITIZE_THREAD__) /* which does not follow threads started after a fork */
static void child_makes_its_own_pool(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  get_ok(f, "/ok");
  pid_t pid = fork();
  if (pid == 0) {
    cpool_http *own = NULL;
    cpool_response *resp = NULL;
    int rc = cpool_http_new(&own, NULL, NULL);
    if (rc == CPOOL_OK)
      rc = cpool_get(cpool_http_session(own), url_of(f, "/ok"), &resp);
    if (rc == CPOOL_OK && cpool_response_status(resp) != 200)
      rc = 1;
    cpool_response_free(resp);
    if (rc == CPOOL_OK)
      rc = cpool_http_close(own, 0);
    _exit(rc == CPOOL_OK ? 0 : 1);
  }
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  get_ok(f, "/ok");
  assert_int_equal(counts_of(f).accepted, 2);
}
#endif

/* ---- a child that returns from the callback which forked it: the child is inside a turn of the parent's loop */

enum { FORKED_ASKS = 20, LEFT_AS_IT_SHOULD = 42, WENT_ON = 43 };

/* Shared with the child. */
static struct fork_record {
  _Atomic pid_t child;
  _Atomic int child_events, ends, failed_ends;
} * forked;
static pid_t parent;

static void leaves(void)
{
  _exit(LEFT_AS_IT_SHOULD);
}

/* Counts the parent's ends, and forks at the first. */
static void fork_at_first_end(const cpool_event *event)
{
  if (getpid() != parent) {
    atomic_fetch_add(&forked->child_events, 1);
    return;
  }
  if (atomic_load(&forked->child) == 0) {
    pid_t pid = fork();
    if (pid == 0) {
      atexit(leaves); /* the way out of thread mode; before what the sanitizers do there */
      return;
    }
    atomic_store(&forked->child, pid);
  }
  if (event->status != CPOOL_OK)
    atomic_fetch_add(&forked->failed_ends, 1);
  atomic_fetch_add(&forked->ends, 1);
}

static void on_closed(const cpool_event *event)
{
  atomic_store((atomic_bool *) event->user, true);
}

/* Runs the loop, where it is the test that runs it, until all have ended. The child comes here in those modes. */
static void run_all(cpool_runtime *rt, int mode, uv_loop_t *host)
{
  int64_t deadline_ms = now_ms() + DEADLINE_MS;
  while (atomic_load(&forked->ends) < FORKED_ASKS && now_ms() < deadline_ms) {
    int rc = CPOOL_OK;
    if (mode == CPOOL_LOOP_MANUAL)
      rc = cpool_runtime_step(rt, 10);
    else if (mode == CPOOL_LOOP_UV)
      uv_run(host, UV_RUN_DEFAULT);
    else
      poll(NULL, 0, 1);
    if (getpid() == parent)
      continue;
    if (mode == CPOOL_LOOP_MANUAL)
      _exit(rc == CPOOL_EFORK && cpool_runtime_step(rt, 10) == CPOOL_EFORK ? LEFT_AS_IT_SHOULD : WENT_ON);
    uv_run(host, UV_RUN_DEFAULT); /* finds nothing of the library's to run */
    _exit(cpool_runtime_free(rt) == CPOOL_EFORK ? LEFT_AS_IT_SHOULD : WENT_ON);
  }
}

/* The child's exit code; -1: it did not end, and was killed. */
static int child_exit(pid_t pid)
{
  int64_t deadline_ms = now_ms() + DEADLINE_MS;
  int status = 0;
  pid_t ended;
  if (pid <= 0)
    return -1;
  while ((ended = waitpid(pid, &status, WNOHANG)) == 0 && now_ms() < deadline_ms)
    poll(NULL, 0, 1);
  if (ended == pid)
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  return -1;
}

static void child_leaves_the_loop(struct pool_fixture *f, int mode)
{
  uv_loop_t host;
  cpool_runtime *rt = NULL;
  cpool_runtime_options runtime_options;
  cpool_http_options options = pool_options();
  cpool_runtime_options_init(&runtime_options);
  runtime_options.loop_mode = mode;
  if (mode == CPOOL_LOOP_UV) {
    assert_int_equal(uv_loop_init(&host), 0);
    runtime_options.uv_loop = &host;
  }
  parent = getpid();
  forked = mmap(NULL, sizeof *forked, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(forked, MAP_FAILED);
  assert_int_equal(cpool_runtime_new(&rt, &runtime_options), CPOOL_OK);
  atomic_bool closed = false;
  options.on_event = on_closed;
  options.user = &closed;
  options.sock_read_timeout_ms = DEADLINE_MS; /* an answer that the child ate is missed for so long */
  assert_int_equal(cpool_http_new(&f->pool, rt, &options), CPOOL_OK);

  cpool_request req = request_of(f, "/delay/30");
  req.queue = NULL;
  req.on_event = fork_at_first_end;
  for (int i = 0; i < FORKED_ASKS; i++)
    submit(f, &req);
  run_all(rt, mode, &host);
  int child_code = child_exit(atomic_load(&forked->child)); /* first: a failed case leaves no child behind */
  assert_int_equal(child_code, LEFT_AS_IT_SHOULD);
  assert_int_equal(atomic_load(&forked->ends), FORKED_ASKS);
  assert_int_equal(atomic_load(&forked->failed_ends), 0);
  assert_int_equal(atomic_load(&forked->child_events), 0);

  assert_int_equal(cpool_http_close_start(f->pool, 0), CPOOL_OK);
  int64_t deadline_ms = now_ms() + DEADLINE_MS;
  while (!atomic_load(&closed) && now_ms() < deadline_ms) {
    if (mode == CPOOL_LOOP_UV)
      uv_run(&host, UV_RUN_DEFAULT);
    else if (mode == CPOOL_LOOP_MANUAL)
      assert_int_equal(cpool_runtime_step(rt, 10), CPOOL_OK);
    else
      poll(NULL, 0, 1);
  }
  assert_true(atomic_load(&closed));
  cpool_http_free(f->pool);
  f->pool = NULL;
  assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
  if (mode == CPOOL_LOOP_UV) {
    uv_run(&host, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&host), 0);
  }
  munmap(forked, sizeof *forked);
}

#if !defined(__SANITIZE_ADDRESS__)
static void child_that_returns_from_a_callback_leaves_the_loops_thread(void **state)
{
  child_leaves_the_loop(*state, CPOOL_LOOP_THREAD);
}
#endif

static void child_that_returns_from_a_callback_leaves_the_step(void **state)
{
  child_leaves_the_loop(*state, CPOOL_LOOP_MANUAL);
}

static void child_that_returns_from_a_callback_leaves_the_hosts_loop_alone(void **state)
{
  child_leaves_the_loop(*state, CPOOL_LOOP_UV);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
    POOL_CASE(child_is_refused_and_parent_goes_on),
#if !defined(__SANITIZE_ADDRESS__) /* whose locks stay locked in the child, which ends a thread there */
    POOL_CASE(child_that_returns_from_a_callback_leaves_the_loops_thread),
#endif
    POOL_CASE(child_that_returns_from_a_callback_leaves_the_step),
    POOL_CASE(child_that_returns_from_a_callback_leaves_the_hosts_loop_alone),
#if !defined(__SANITIZE_THREAD__)
    POOL_CASE(child_makes_its_own_pool),
#endif
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
