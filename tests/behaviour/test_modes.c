/* test_modes: a pool keeps its promises on its own thread, on a host's libuv loop, and in any loop that polls one descriptor */
#include "support/pool_fixture.h"

#include <unistd.h>
#include <uv.h>

enum { PULSE_MS = 20 };

static const int THREAD = CPOOL_LOOP_THREAD, UV = CPOOL_LOOP_UV, MANUAL = CPOOL_LOOP_MANUAL;

struct mode_fixture {
  struct pool_fixture pool;
  int mode;
  cpool_runtime *rt;
  uv_loop_t uv;
  uv_timer_t pulse; /* lets the host look at its own conditions while nothing else happens */
};

static void on_pulse(uv_timer_t *timer)
{
  (void) timer;
}

static int mode_setup(void **state)
{
  static struct mode_fixture fixture;
  int mode = *(const int *) *state;
  void *inner;
  if (pool_setup(&inner) != 0)
    return -1;
  fixture = (struct mode_fixture){.mode = mode, .pool = *(struct pool_fixture *) inner};
  cpool_runtime_options options;
  cpool_runtime_options_init(&options);
  options.loop_mode = mode;
  if (mode == UV) {
    uv_loop_init(&fixture.uv);
    uv_timer_init(&fixture.uv, &fixture.pulse);
    uv_timer_start(&fixture.pulse, on_pulse, PULSE_MS, PULSE_MS);
    options.uv_loop = &fixture.uv;
  }
  *state = &fixture;
  return cpool_runtime_new(&fixture.rt, &options);
}

static void host_turns(struct mode_fixture *m)
{
  if (m->mode == UV)
    uv_run(&m->uv, UV_RUN_ONCE);
  else if (m->mode == MANUAL && wait_fd(cpool_runtime_fd(m->rt), POLLIN, PULSE_MS) != 0) {
    int rc = cpool_runtime_step(m->rt, 0);
    assert_true(rc == CPOOL_OK || rc == CPOOL_EBUSY); /* a waiting call of another thread steps */
  }
}

static int mode_teardown(void **state)
{
  struct mode_fixture *m = *state;
  int64_t deadline_ms = now_ms() + DEADLINE_MS;
  cpool_http_free(m->pool.pool);
  int rc;
  while ((rc = cpool_runtime_free(m->rt)) == CPOOL_EBUSY && now_ms() < deadline_ms)
    if (m->mode == THREAD)
      poll(NULL, 0, 1);
    else
      host_turns(m);
  if (m->mode == UV) {
    uv_close((uv_handle_t *) &m->pulse, NULL);
    uv_run(&m->uv, UV_RUN_DEFAULT);
    rc = rc == CPOOL_OK ? uv_loop_close(&m->uv) : rc;
  }
  m->pool.pool = NULL;
  void *inner = &m->pool;
  return pool_teardown(&inner) == 0 ? rc : -1;
}

/* Turns the loop where it is the test's, until the condition holds. */
#define turn_until(m, expression)                                                                                      \
  do {                                                                                                                 \
    int64_t until_ms_ = now_ms() + DEADLINE_MS;                                                                        \
    while (!(expression)) {                                                                                            \
      if (now_ms() > until_ms_)                                                                                        \
        fail_msg("not in time: %s", #expression);                                                                      \
      if ((m)->mode == THREAD)                                                                                         \
        poll(NULL, 0, 1);                                                                                              \
      else                                                                                                             \
        host_turns(m);                                                                                                 \
    }                                                                                                                  \
  } while (0)

static void open_on(struct mode_fixture *m, const cpool_http_options *options)
{
  assert_int_equal(cpool_http_new(&m->pool.pool, m->rt, options), CPOOL_OK);
}

static void ask_calling_back(struct mode_fixture *m, const char *path, struct record *record)
{
  cpool_request req = request_of(&m->pool, path);
  req.queue = NULL;
  req.on_event = on_record;
  req.user = record;
  submit(&m->pool, &req);
}

static void requests_are_answered(void **state)
{
  enum { COUNT = 200 };
  struct mode_fixture *m = *state;
  struct record records[COUNT] = {{0}};
  open_on(m, NULL);
  for (int i = 0; i < COUNT; i++)
    ask_calling_back(m, "/bytes/1000", &records[i]);
  for (int i = 0; i < COUNT; i++) {
    turn_until(m, atomic_load(&records[i].ends) == 1);
    assert_int_equal(atomic_load(&records[i].status), CPOOL_OK);
  }
  assert_balanced(m->pool.pool);
}

static void timers_fire_without_other_work(void **state)
{
  struct mode_fixture *m = *state;
  struct record record = {0};
  cpool_http_options options = pool_options();
  options.sock_read_timeout_ms = 100;
  open_on(m, &options);
  ask_calling_back(m, "/blackhole", &record);
  turn_until(m, atomic_load(&record.ends) == 1);
  assert_int_equal(atomic_load(&record.status), CPOOL_ETIMEOUT_READ);
}

static void *get_in_thread(void *arg)
{
  struct mode_fixture *m = arg;
  cpool_response *resp = NULL;
  intptr_t rc = cpool_get(cpool_http_session(m->pool.pool), url_of(&m->pool, "/ok"), &resp);
  if (rc == CPOOL_OK && cpool_response_status(resp) != 200)
    rc = 1;
  cpool_response_free(resp);
  return (void *) rc;
}

struct get_call {
  struct mode_fixture *m;
  _Atomic bool done;
  intptr_t rc;
};

static void *run_get(void *arg)
{
  struct get_call *call = arg;
  call->rc = (intptr_t) get_in_thread(call->m);
  atomic_store(&call->done, true);
  return NULL;
}

static void waiting_call_of_another_thread_returns(void **state)
{
  struct mode_fixture *m = *state;
  struct get_call call = {.m = m};
  pthread_t thread;
  open_on(m, NULL);
  pthread_create(&thread, NULL, run_get, &call);
  turn_until(m, atomic_load(&call.done));
  pthread_join(thread, NULL);
  assert_int_equal(call.rc, CPOOL_OK);
}

static void waiting_call_steps_a_manual_loop_and_is_refused_on_a_hosts(void **state)
{
  struct mode_fixture *m = *state;
  cpool_response *resp = NULL;
  open_on(m, NULL);
  int rc = cpool_get(cpool_http_session(m->pool.pool), url_of(&m->pool, "/ok"), &resp);
  assert_int_equal(rc, m->mode == UV ? CPOOL_EDEADLK : CPOOL_OK);
  assert_true((resp != NULL) == (rc == CPOOL_OK));
  cpool_response_free(resp);
  if (m->mode == UV)
    assert_refused(cpool_http_close(m->pool.pool, 0), CPOOL_EDEADLK, "close");
}

static void close_finishes_with_requests_in_flight(void **state)
{
  struct mode_fixture *m = *state;
  struct record records[3] = {{0}}, closed = {0};
  cpool_http_options options = pool_options();
  options.max_connections = 2;
  options.on_event = on_record;
  options.user = &closed;
  open_on(m, &options);
  ask_calling_back(m, "/blackhole", &records[0]);
  ask_calling_back(m, "/hold-body", &records[1]);
  ask_calling_back(m, "/ok", &records[2]);
  turn_until(m, counts_of(&m->pool).requests == 2);
  assert_refused(cpool_runtime_free(m->rt), CPOOL_EBUSY, "pools on the runtime not freed yet: 1");
  if (m->mode == UV) {
    assert_int_equal(cpool_http_close_start(m->pool.pool, 50), CPOOL_OK);
    turn_until(m, atomic_load(&closed.ends) == 1);
    cpool_http_free(m->pool.pool);
  } else {
    assert_int_equal(cpool_http_close(m->pool.pool, 50), CPOOL_OK);
  }
  m->pool.pool = NULL;
  assert_int_equal(atomic_load(&closed.ends), 1);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(atomic_load(&records[i].ends), 1);
    assert_int_equal(atomic_load(&records[i].status), CPOOL_ECLOSED);
  }
}

static void two_pools_share_one_runtime(void **state)
{
  struct mode_fixture *m = *state;
  struct record records[2] = {{0}};
  cpool_http *other = NULL;
  open_on(m, NULL);
  assert_int_equal(cpool_http_new(&other, m->rt, NULL), CPOOL_OK);
  ask_calling_back(m, "/ok", &records[0]);
  cpool_request req = request_of(&m->pool, "/ok");
  req.queue = NULL;
  req.on_event = on_record;
  req.user = &records[1];
  submit_in(cpool_http_session(other), &req);
  turn_until(m, atomic_load(&records[0].ends) == 1 && atomic_load(&records[1].ends) == 1);
  turn_until(m, counts_of(&m->pool).accepted == 2);
  cpool_http_free(other);
  struct record again = {0};
  ask_calling_back(m, "/ok", &again);
  turn_until(m, atomic_load(&again.ends) == 1);
  assert_int_equal(atomic_load(&again.status), CPOOL_OK);
}

/* The host's uv_run returns by itself when the pool has nothing in flight, idle connections notwithstanding. */
static void idle_pool_does_not_hold_a_hosts_loop(void **state)
{
  struct mode_fixture *m = *state;
  struct record record = {0};
  open_on(m, NULL);
  uv_unref((uv_handle_t *) &m->pulse);
  ask_calling_back(m, "/ok", &record);
  turn_until(m, atomic_load(&record.ends) == 1);
  int64_t start_ms = now_ms();
  uv_run(&m->uv, UV_RUN_DEFAULT);
  assert_in_range(now_ms() - start_ms, 0, SLACK_MS);
  assert_int_equal(stats_of(&m->pool).idle_connections, 1);
  uv_ref((uv_handle_t *) &m->pulse);
}

static void manual_descriptor_is_quiet_when_nothing_is_due(void **state)
{
  struct mode_fixture *m = *state;
  struct record record = {0};
  open_on(m, NULL);
  ask_calling_back(m, "/ok", &record);
  turn_until(m, atomic_load(&record.ends) == 1);
  int64_t until_ms = now_ms() + 200;
  int steps = 0;
  while (now_ms() < until_ms) {
    if (wait_fd(cpool_runtime_fd(m->rt), POLLIN, until_ms - now_ms()) == 0)
      break;
    cpool_runtime_step(m->rt, 0);
    steps++;
  }
  assert_in_range(steps, 0, 20);
}

#define IN(mode, name)                                                                                                 \
  {                                                                                                                    \
#name " (" #mode ")", name, mode_setup, mode_teardown, (void *) (uintptr_t) &mode                                  \
  }
#define IN_ALL(name) IN(THREAD, name), IN(UV, name), IN(MANUAL, name)

int main(void)
{
  const struct CMUnitTest tests[] = {
      IN_ALL(requests_are_answered),
      IN_ALL(timers_fire_without_other_work),
      IN_ALL(waiting_call_of_another_thread_returns),
      IN_ALL(waiting_call_steps_a_manual_loop_and_is_refused_on_a_hosts),
      IN_ALL(close_finishes_with_requests_in_flight),
      IN_ALL(two_pools_share_one_runtime),
      IN(UV, idle_pool_does_not_hold_a_hosts_loop),
      IN(MANUAL, manual_descriptor_is_quiet_when_nothing_is_due),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
