/* test_exactly_once: an accepted submit ends in exactly one event, a refused one in none, however it ends */
#include "support/pool_fixture.h"

#include <unistd.h>

#include "support/blackhole.h"

enum { CONSUMERS = 2, SUBMITTERS = 4 };

/* One request: what was said about it at submit, and what came. Its address is the request's `user`. */
struct ticket {
  struct record record;
  int rc;
  cpool_op op;
};

static void on_ticket(const cpool_event *event)
{
  on_record(event);
}

/* Takes everything that comes into the queue until told to stop. */
struct consumer {
  pthread_t thread;
  cpool_queue *queue;
  _Atomic bool *stop;
  int taken;
};

static void *consume(void *arg)
{
  struct consumer *me = arg;
  const cpool_event *events[16];
  for (;;) {
    bool last = atomic_load(me->stop);
    int count = cpool_queue_wait(me->queue, events, 16, last ? 0 : 50);
    for (int i = 0; i < count; i++)
      on_ticket(events[i]);
    if (count > 0)
      cpool_queue_release(me->queue, events, count);
    me->taken += count > 0 ? count : 0;
    if (last && count <= 0)
      return NULL;
  }
}

struct crowd {
  struct pool_fixture *f;
  struct ticket *tickets;
  int count; /* per thread */
  const char *const *urls;
  int url_count;
  _Atomic int next_thread;
  _Atomic bool stop_submitting;
};

static void *submit_crowd(void *arg)
{
  struct crowd *crowd = arg;
  struct pool_fixture *f = crowd->f;
  int me = atomic_fetch_add(&crowd->next_thread, 1);
  struct ticket *mine = crowd->tickets + (size_t) me * (size_t) crowd->count;
  for (int i = 0; i < crowd->count; i++) {
    struct ticket *t = &mine[i];
    t->rc = -1000;
    if (atomic_load(&crowd->stop_submitting))
      continue;
    cpool_request req = request_to(f, crowd->urls[(i + me) % crowd->url_count]);
    req.user = t;
    if (i % 2 == 0) {
      req.queue = NULL;
      req.on_event = on_ticket;
    }
    req.total_timeout_ms = 50 + i % 100;
    t->rc = cpool_submit(cpool_http_session(f->pool), &req, &t->op);
    if (t->rc == CPOOL_OK && i % 5 == 4)
      (void) cpool_cancel(f->pool, t->op);
  }
  return NULL;
}

static void assert_each_once(const struct crowd *crowd, bool may_refuse)
{
  int accepted = 0;
  for (int i = 0; i < crowd->count * SUBMITTERS; i++) {
    const struct ticket *t = &crowd->tickets[i];
    if (!may_refuse)
      assert_int_equal(t->rc, CPOOL_OK);
    assert_int_equal(atomic_load(&t->record.ends), t->rc == CPOOL_OK ? 1 : 0);
    if (t->rc == CPOOL_OK)
      assert_true(atomic_load(&t->record.op) == t->op);
    accepted += t->rc == CPOOL_OK;
  }
  assert_true(accepted > 0);
}

/* Four threads submit, two take; the pool is closed after or in the middle of it. */
static void run_crowd(struct pool_fixture *f, int count, bool close_in_the_middle)
{
  int32_t closed_port_fd;
  uint16_t closed_port;
  struct blackhole *hole = blackhole_start(NULL, 0);
  closed_port_fd = refusing_port_open(&closed_port);
  const char *urls[] = {url_of(f, "/ok"),
                        url_of(f, "/bytes/3000"),
                        url_of(f, "/status/503"),
                        url_of(f, "/reset-midbody"),
                        url_of(f, "/fin-before-answer"),
                        url_of(f, "/blackhole"),
                        url_of(f, "/delay/20"),
                        url_of(f, "/garbage"),
                        url_of(f, "/close"),
                        url_at(closed_port, "/"),
                        url_at(blackhole_port(hole), "/"),
                        url_of(f, "/drip/5/30")};
  struct crowd crowd = {.f = f, .count = count, .urls = urls, .url_count = sizeof urls / sizeof *urls};
  struct consumer consumers[CONSUMERS];
  pthread_t submitters[SUBMITTERS];
  _Atomic bool stop = false;
  cpool_http_options options = pool_options();
  options.max_connections = 20;
  options.max_connections_per_host = 10;
  crowd.tickets = calloc((size_t) count * SUBMITTERS, sizeof *crowd.tickets);
  open_pool(f, &options);
  for (int i = 0; i < CONSUMERS; i++) {
    consumers[i] = (struct consumer){.queue = f->queue, .stop = &stop};
    pthread_create(&consumers[i].thread, NULL, consume, &consumers[i]);
  }
  for (int i = 0; i < SUBMITTERS; i++)
    pthread_create(&submitters[i], NULL, submit_crowd, &crowd);
  if (close_in_the_middle) {
    eventually(stats_of(f).requests > (uint64_t) count / 2);
    assert_int_equal(cpool_http_close_start(f->pool, 0), CPOOL_OK);
  }
  for (int i = 0; i < SUBMITTERS; i++)
    pthread_join(submitters[i], NULL);
  if (!close_in_the_middle) {
    eventually(stats_of(f).succeeded + stats_of(f).failed == (uint64_t) count * SUBMITTERS);
    assert_balanced(f->pool);
  }
  close_pool(f);
  atomic_store(&stop, true);
  for (int i = 0; i < CONSUMERS; i++)
    pthread_join(consumers[i].thread, NULL);
  assert_each_once(&crowd, close_in_the_middle);
  free(crowd.tickets);
  blackhole_stop(hole);
  close(closed_port_fd);
}

static void every_way_to_end_ends_once(void **state)
{
  run_crowd(*state, 300, false);
}

static void every_request_in_flight_ends_once_at_close(void **state)
{
  for (int round = 0; round < 5; round++)
    run_crowd(*state, 400, true);
}

static void refused_submit_never_completes(void **state)
{
  struct pool_fixture *f = *state;
  struct ticket refused = {.op = 0};
  cpool_http_options options = pool_options();
  options.max_connections = 1;
  options.max_pending = 1;
  open_pool(f, &options);
  ask(f, "/hold");
  eventually(counts_of(f).held == 1);
  eventually(stats_of(f).pending_requests == 0);
  ask(f, "/ok");
  for (int i = 0; i < 100; i++) {
    cpool_request req = request_of(f, "/ok");
    req.queue = NULL;
    req.on_event = on_ticket;
    req.user = &refused.record;
    assert_refused(cpool_submit(cpool_http_session(f->pool), &req, &refused.op), CPOOL_EFULL, "max_pending");
  }
  assert_true(refused.op == 0);
  fault_server_release(f->server, 1);
  for (int i = 0; i < 2; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_OK);
    cpool_response_free(out.resp);
  }
  close_pool(f);
  assert_int_equal(atomic_load(&refused.record.ends), 0);
}

static void complete_answers_of_any_status_code_are_successes(void **state)
{
  static const int codes[] = {200, 204, 301, 304, 400, 404, 429, 500, 503, 599};
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    char path[32];
    snprintf(path, sizeof path, "/status/%d", codes[i]);
    cpool_op op = ask(f, path);
    struct outcome out = take(f);
    assert_true(out.op == op);
    assert_int_equal(out.status, CPOOL_OK);
    assert_int_equal(cpool_response_status(out.resp), codes[i]);
    cpool_response_free(out.resp);
  }
  eventually(stats_of(f).succeeded == sizeof codes / sizeof *codes);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(every_way_to_end_ends_once),
      POOL_CASE(every_request_in_flight_ends_once_at_close),
      POOL_CASE(refused_submit_never_completes),
      POOL_CASE(complete_answers_of_any_status_code_are_successes),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
