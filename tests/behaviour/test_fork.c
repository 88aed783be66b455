/* test_fork: a forked child is told that the objects are its parent's, and nothing it does reaches the parent's sockets */
#include "support/pool_fixture.h"

#include <sys/wait.h>
#include <unistd.h>

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

int main(void)
{
  const struct CMUnitTest tests[] = {
    POOL_CASE(child_is_refused_and_parent_goes_on),
#if !defined(__SANITIZE_THREAD__)
    POOL_CASE(child_makes_its_own_pool),
#endif
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
