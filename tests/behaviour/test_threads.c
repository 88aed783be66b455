/* test_threads: any thread may call anything at any time; run it under ThreadSanitizer too */
#include "support/pool_fixture.h"

enum { THREADS = 8, PER_THREAD = 1000 };

struct worker {
  struct pool_fixture *f;
  struct record *records;
  cpool_queue *own_queue;
  _Atomic bool *stop;
  uint32_t random;
  int ok, cancelled, other, wrong;
};

static uint32_t next_random(uint32_t *state)
{
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

static void run_workers(void *(*fn)(void *), struct worker *workers, struct pool_fixture *f)
{
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    workers[i].f = f;
    workers[i].random = (uint32_t) i + 1;
    pthread_create(&threads[i], NULL, fn, &workers[i]);
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
}

static void *submit_and_cancel(void *arg)
{
  struct worker *me = arg;
  cpool_op ops[PER_THREAD];
  cpool_session *session = cpool_http_session(me->f->pool);
  cpool_request req = request_of(me->f, "/ok");
  req.queue = NULL;
  req.on_event = on_record;
  for (int i = 0; i < PER_THREAD; i++) {
    req.user = &me->records[i];
    me->wrong += cpool_submit(session, &req, &ops[i]) != CPOOL_OK;
    if (next_random(&me->random) % 2 == 0) {
      int rc = cpool_cancel(me->f->pool, ops[next_random(&me->random) % (uint32_t) (i + 1)]);
      me->wrong += rc != CPOOL_OK && rc != CPOOL_ESTALE;
    }
  }
  return NULL;
}

static void submits_and_cancels_from_eight_threads_end_once_each(void **state)
{
  struct pool_fixture *f = *state;
  struct worker workers[THREADS] = {{0}};
  cpool_http_options options = pool_options();
  options.max_connections = 16;
  options.max_connections_per_host = 16;
  struct record *records = calloc((size_t) THREADS * PER_THREAD, sizeof *records);
  open_pool(f, &options);
  for (int i = 0; i < THREADS; i++)
    workers[i].records = records + (size_t) i * PER_THREAD;
  run_workers(submit_and_cancel, workers, f);
  eventually(stats_of(f).succeeded + stats_of(f).failed == (uint64_t) THREADS * PER_THREAD);
  assert_balanced(f->pool);
  cpool_http_stats stats = stats_of(f);
  close_pool(f);
  uint64_t ok = 0, cancelled = 0;
  for (int i = 0; i < THREADS * PER_THREAD; i++) {
    assert_int_equal(atomic_load(&records[i].ends), 1);
    ok += atomic_load(&records[i].status) == CPOOL_OK;
    cancelled += atomic_load(&records[i].status) == CPOOL_ECANCELLED;
  }
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(workers[i].wrong, 0);
  assert_int_equal(ok + cancelled, THREADS * PER_THREAD);
  assert_true(ok == stats.succeeded && cancelled == stats.cancelled);
  free(records);
}

static void *perform_many(void *arg)
{
  struct worker *me = arg;
  char url[256];
  for (int i = 0; i < 200; i++) {
    cpool_response *resp = NULL;
    size_t wanted = next_random(&me->random) % 3000, len = 0;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/bytes/%zu", (unsigned) fault_server_port(me->f->server), wanted);
    int rc = cpool_get(cpool_http_session(me->f->pool), url, &resp);
    const char *body = cpool_response_body(resp, &len);
    me->wrong += rc != CPOOL_OK || len != wanted || (len > 0 && body[len - 1] != fault_pattern((int64_t) len - 1));
    cpool_response_free(resp);
  }
  return NULL;
}

static void waiting_calls_of_eight_threads_get_their_own_answers(void **state)
{
  struct pool_fixture *f = *state;
  struct worker workers[THREADS] = {{0}};
  cpool_http_options options = pool_options();
  options.max_connections = 5;
  open_pool(f, &options);
  run_workers(perform_many, workers, f);
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(workers[i].wrong, 0);
  assert_true(counts_of(f).most_open <= 5);
}

/* One thread of each trade on one pool and one queue. */
static void *change_all_the_time(void *arg)
{
  struct worker *me = arg;
  while (!atomic_load(me->stop)) {
    cpool_http_options options = pool_options();
    me->wrong += cpool_http_options_get(me->f->pool, &options) != CPOOL_OK;
    options.max_connections = 1 + (int32_t) (next_random(&me->random) % 20);
    options.max_connections_per_host = options.max_connections;
    options.keepalive_timeout_ms = 1 + (int64_t) (next_random(&me->random) % 100);
    me->wrong += cpool_http_reconfigure(me->f->pool, &options) != CPOOL_OK;
    while (stats_of(me->f).max_connections != options.max_connections && !atomic_load(me->stop))
      poll(NULL, 0, 1); /* the loop is not buried in changes */
    me->wrong += cpool_http_origin_set(me->f->pool, url_of(me->f, ""), "max_requests_per_connection",
                                       next_random(&me->random) % 2 == 0 ? "5" : NULL) != CPOOL_OK;
  }
  return NULL;
}

static void *look_all_the_time(void *arg)
{
  struct worker *me = arg;
  while (!atomic_load(me->stop)) {
    cpool_http_stats stats = stats_of(me->f);
    me->wrong += imbalance_of(&stats) != NULL;
    cpool_origin_stats rows[4];
    uint64_t cursor = 0;
    while (cpool_http_origins_get(me->f->pool, &cursor, rows, sizeof *rows, 4) > 0)
      me->ok++;
    cpool_histogram histogram;
    cpool_histogram_init(&histogram);
    me->wrong += cpool_http_histogram_get(me->f->pool, CPOOL_PHASE_TOTAL, &histogram) != CPOOL_OK;
  }
  return NULL;
}

static void *make_sessions_all_the_time(void *arg)
{
  struct worker *me = arg;
  cpool_request req = request_of(me->f, "/ok");
  req.queue = me->own_queue;
  while (!atomic_load(me->stop)) {
    cpool_session *session = NULL;
    cpool_session_options options;
    cpool_session_options_init(&options);
    options.tls_verify = next_random(&me->random) % 2 == 0 ? CPOOL_OFF : 0;
    if (cpool_session_new(&session, me->f->pool, &options) != CPOOL_OK) {
      me->wrong++;
      continue;
    }
    if (cpool_submit(session, &req, NULL) == CPOOL_OK)
      me->ok++;
    cpool_session_free(session); /* with its request in flight */
    const cpool_event *event;
    if (cpool_queue_wait(me->own_queue, &event, 1, DEADLINE_MS) == 1) {
      me->other += event->status == CPOOL_OK;
      cpool_queue_release(me->own_queue, &event, 1);
    }
  }
  return NULL;
}

static void every_call_may_run_beside_every_other(void **state)
{
  struct pool_fixture *f = *state;
  _Atomic bool stop = false;
  struct worker workers[4] = {{0}}, submitters[THREADS] = {{0}};
  void *(*const trades[4])(void *) = {change_all_the_time, look_all_the_time, make_sessions_all_the_time,
                                      make_sessions_all_the_time};
  pthread_t threads[4];
  struct record *records = calloc((size_t) THREADS * PER_THREAD, sizeof *records);
  open_pool(f, NULL);
  for (int i = 0; i < 4; i++) {
    workers[i] = (struct worker){.f = f, .stop = &stop, .random = (uint32_t) i + 77};
    assert_int_equal(cpool_queue_new(&workers[i].own_queue, NULL), CPOOL_OK);
    pthread_create(&threads[i], NULL, trades[i], &workers[i]);
  }
  for (int i = 0; i < THREADS; i++)
    submitters[i].records = records + (size_t) i * PER_THREAD;
  run_workers(submit_and_cancel, submitters, f);
  eventually(stats_of(f).succeeded + stats_of(f).failed >= (uint64_t) THREADS * PER_THREAD);
  atomic_store(&stop, true);
  for (int i = 0; i < 4; i++)
    pthread_join(threads[i], NULL);
  close_pool(f);
  for (int i = 0; i < THREADS * PER_THREAD; i++)
    assert_int_equal(atomic_load(&records[i].ends), 1);
  for (int i = 0; i < 4; i++) {
    assert_int_equal(workers[i].wrong, 0);
    assert_int_equal(cpool_queue_free(workers[i].own_queue), CPOOL_OK);
  }
  for (int i = 2; i < 4; i++) {
    assert_true(workers[i].ok > 0);
    assert_int_equal(workers[i].ok, workers[i].other);
  }
  free(records);
}

static void last_error_belongs_to_the_thread(void **state)
{
  struct pool_fixture *f = *state;
  struct worker workers[THREADS] = {{0}};
  open_pool(f, NULL);
  assert_refused(cpool_cancel(f->pool, 0), CPOOL_ESTALE, "ended");
  run_workers(perform_many, workers, f);
  cpool_error error;
  cpool_error_init(&error);
  assert_int_equal(cpool_last_error(&error), CPOOL_OK);
  assert_int_equal(error.status, CPOOL_ESTALE);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(submits_and_cancels_from_eight_threads_end_once_each),
      POOL_CASE(waiting_calls_of_eight_threads_get_their_own_answers),
      POOL_CASE(every_call_may_run_beside_every_other),
      POOL_CASE(last_error_belongs_to_the_thread),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
