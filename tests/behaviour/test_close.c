/* test_close: closing a pool always finishes, at every stage of its requests; then nothing of it runs any more */
#include "support/pool_fixture.h"

#include "support/blackhole.h"

/* The pool's own events go to the queue of the fixture. */
static void open_with_events(struct pool_fixture *f, int32_t max_connections)
{
  cpool_http_options options = pool_options();
  options.max_connections = max_connections;
  options.queue = f->queue;
  options.user = f;
  open_pool(f, &options);
}

static void expect_closed_event(struct pool_fixture *f)
{
  struct outcome out = take(f);
  assert_int_equal(out.kind, CPOOL_EVENT_HTTP_CLOSED);
  assert_int_equal(out.status, CPOOL_OK);
  assert_true(out.op == 0);
  assert_ptr_equal(out.user, f);
  assert_null(out.resp);
}

static void expect_all_closed(struct pool_fixture *f, int count)
{
  for (int i = 0; i < count; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.kind, CPOOL_EVENT_RESPONSE);
    assert_int_equal(out.status, CPOOL_ECLOSED);
    assert_int_equal(error_of(&out).layer, CPOOL_LAYER_POOL);
    cpool_response_free(out.resp);
  }
}

/* One request at every stage: waiting, connecting, in the TLS handshake, sent, receiving; and an idle connection. */
struct stages {
  struct blackhole *hole;
  struct fault_server *silent;
  int count;
};

static struct stages ask_at_every_stage(struct pool_fixture *f)
{
  struct stages s = {.hole = blackhole_start(NULL, 0),
                     .silent = fault_server_start(&(struct fault_options){.behaviour = FAULT_SILENT})};
  struct fault_counts counts;
  char tls_url[64];
  get_ok(f, "/ok");
  snprintf(tls_url, sizeof tls_url, "https://127.0.0.1:%u/", (unsigned) fault_server_port(s.silent));
  const char *urls[] = {url_of(f, "/blackhole"), url_of(f, "/hold-body"), url_at(blackhole_port(s.hole), "/"), tls_url,
                        url_of(f, "/ok"),        url_of(f, "/ok")};
  s.count = sizeof urls / sizeof *urls;
  for (int i = 0; i < s.count; i++) {
    cpool_request req = request_to(f, urls[i]);
    submit(f, &req);
    if (i == 1)
      eventually(counts_of(f).held == 1 && counts_of(f).requests == 3);
  }
  eventually((fault_server_counts(s.silent, &counts), counts.accepted == 1));
  eventually(stats_of(f).pending_requests == 2);
  return s;
}

static void stages_end(struct stages *s)
{
  blackhole_stop(s->hole);
  fault_server_stop(s->silent);
}

static void every_stage_is_cut_at_once_without_drain(void **state)
{
  struct pool_fixture *f = *state;
  open_with_events(f, 4);
  struct stages s = ask_at_every_stage(f);
  int64_t start_ms = now_ms();
  close_pool(f);
  assert_in_range(now_ms() - start_ms, 0, SLACK_MS);
  expect_all_closed(f, s.count);
  expect_closed_event(f);
  assert_true(queue_is_empty(f));
  eventually(fault_server_open(f->server) == 0);
  stages_end(&s);
}

static void every_stage_is_cut_at_the_end_of_the_drain(void **state)
{
  enum { DRAIN_MS = 200 };
  struct pool_fixture *f = *state;
  open_with_events(f, 4);
  struct stages s = ask_at_every_stage(f);
  int64_t start_ms = now_ms();
  assert_int_equal(cpool_http_close(f->pool, DRAIN_MS), CPOOL_OK);
  f->pool = NULL;
  assert_in_range(now_ms() - start_ms, DRAIN_MS - 2, DRAIN_MS + SLACK_MS);
  expect_all_closed(f, s.count);
  expect_closed_event(f);
  assert_true(queue_is_empty(f));
  stages_end(&s);
}

static void drain_lets_requests_finish_and_then_ends_early(void **state)
{
  struct pool_fixture *f = *state;
  open_with_events(f, 1);
  cpool_op held = ask(f, "/hold"), waiting = ask(f, "/ok");
  eventually(counts_of(f).held == 1);
  assert_int_equal(cpool_http_close_start(f->pool, CPOOL_OFF), CPOOL_OK);
  cpool_request req = request_of(f, "/ok");
  cpool_op op = 5;
  cpool_session *session = NULL;
  cpool_http_options options = pool_options();
  assert_refused(cpool_submit(cpool_http_session(f->pool), &req, &op), CPOOL_ECLOSED, "clos");
  assert_true(op == 5);
  assert_refused(cpool_session_new(&session, f->pool, NULL), CPOOL_ECLOSED, "clos");
  assert_refused(cpool_http_reconfigure(f->pool, &options), CPOOL_ECLOSED, "clos");
  assert_refused(cpool_http_origin_set(f->pool, "http://a.test", "max_connections_per_host", "1"), CPOOL_ECLOSED,
                 "clos");
  assert_null(session);
  assert_int_equal(fault_server_release(f->server, 1), 1);
  expect_end(f, held, CPOOL_OK);
  expect_end(f, waiting, CPOOL_OK);
  expect_closed_event(f);
  cpool_http_stats stats = stats_of(f); /* the pool can still be read */
  assert_int_equal(stats.total_connections + stats.closing_connections, 0);
  assert_int_equal(stats.opened, stats.closed);
  assert_int_equal(stats.succeeded, 2);
  assert_balanced(f->pool);
  assert_refused(cpool_cancel(f->pool, held), CPOOL_ESTALE, "ended");
  cpool_http_free(f->pool);
  f->pool = NULL;
  assert_true(queue_is_empty(f));
}

static void earlier_deadline_counts_and_a_later_one_does_not(void **state)
{
  struct pool_fixture *f = *state;
  open_with_events(f, 1);
  cpool_op op = ask(f, "/blackhole");
  eventually(counts_of(f).requests == 1);
  int64_t start_ms = now_ms();
  assert_int_equal(cpool_http_close_start(f->pool, 60000), CPOOL_OK);
  assert_int_equal(cpool_http_close_start(f->pool, 100), CPOOL_OK);
  assert_int_equal(cpool_http_close_start(f->pool, 60000), CPOOL_OK);
  assert_int_equal(cpool_http_close_start(f->pool, CPOOL_OFF), CPOOL_OK);
  expect_end(f, op, CPOOL_ECLOSED);
  assert_in_range(now_ms() - start_ms, 98, 100 + SLACK_MS);
  expect_closed_event(f);
  assert_int_equal(cpool_http_close_start(f->pool, 0), CPOOL_OK); /* nothing is left to do */
  cpool_http_free(f->pool);
  f->pool = NULL;
  assert_true(queue_is_empty(f));
}

static void free_without_close_still_ends_every_request(void **state)
{
  struct pool_fixture *f = *state;
  open_with_events(f, 4);
  struct stages s = ask_at_every_stage(f);
  cpool_http_free(f->pool);
  f->pool = NULL;
  expect_all_closed(f, s.count);
  eventually(fault_server_open(f->server) == 0);
  stages_end(&s);
  eventually(cpool_queue_free(f->queue) == CPOOL_OK); /* nothing names it any more, and no closed event was made */
  f->queue = NULL;
}

static void free_during_the_drain_cuts_it(void **state)
{
  struct pool_fixture *f = *state;
  open_with_events(f, 4);
  cpool_op op = ask(f, "/blackhole");
  eventually(counts_of(f).requests == 1);
  assert_int_equal(cpool_http_close_start(f->pool, CPOOL_OFF), CPOOL_OK);
  cpool_http_free(f->pool);
  f->pool = NULL;
  expect_end(f, op, CPOOL_ECLOSED);
  eventually(cpool_queue_free(f->queue) == CPOOL_OK);
  f->queue = NULL;
}

static void events_in_the_queue_outlive_their_pool(void **state)
{
  struct pool_fixture *f = *state;
  enum { COUNT = 20 };
  const cpool_event *events[COUNT + 1];
  int taken = 0;
  open_with_events(f, 4);
  for (int i = 0; i < COUNT; i++)
    ask(f, i % 2 == 0 ? "/bytes/5000" : "/blackhole");
  eventually(stats_of(f).succeeded > 0);
  while (taken < 1)
    taken += cpool_queue_wait(f->queue, events, 1, DEADLINE_MS);
  cpool_http_close(f->pool, 0);
  f->pool = NULL;
  while (taken < COUNT + 1) {
    int got = cpool_queue_wait(f->queue, events + taken, COUNT + 1 - taken, 0);
    assert_true(got > 0); /* all were there when the close returned */
    taken += got;
  }
  cpool_response *kept = cpool_event_take_response(events[0]);
  assert_null(cpool_event_take_response(events[0]));
  for (int i = 0; i < COUNT; i++) {
    size_t len = 0;
    const cpool_response *resp = i == 0 ? kept : events[i]->response;
    const char *body = cpool_response_body(resp, &len);
    if (events[i]->status == CPOOL_OK)
      assert_int_equal(len, 5000);
    for (size_t at = 0; at < len; at++)
      assert_int_equal(body[at], fault_pattern((int64_t) at));
  }
  assert_int_equal(events[COUNT]->kind, CPOOL_EVENT_HTTP_CLOSED);
  assert_refused(cpool_queue_free(f->queue), CPOOL_EBUSY, "released");
  cpool_queue_release(f->queue, events, COUNT + 1);
  assert_int_equal(cpool_queue_free(f->queue), CPOOL_OK);
  f->queue = NULL;
  size_t len = 0;
  assert_non_null(cpool_response_body(kept, &len)); /* without pool and queue */
  cpool_response_free(kept);
}

/* ----------------------------------------------------------------------------------------------------- from callbacks */

struct closing {
  struct pool_fixture *f;
  _Atomic int responses, closed, free_it;
  int start_rc, close_rc, last_kind;
};

static void on_pool_event(const cpool_event *event)
{
  struct closing *c = event->user;
  c->last_kind = event->kind;
  if (atomic_load(&c->free_it) != 0) {
    cpool_http_free(c->f->pool);
    c->f->pool = NULL;
  }
  atomic_fetch_add(&c->closed, 1);
}

static void on_answer_close(const cpool_event *event)
{
  struct closing *c = event->user;
  c->last_kind = event->kind;
  if (atomic_fetch_add(&c->responses, 1) == 0) {
    c->close_rc = cpool_http_close(c->f->pool, 0);
    c->start_rc = cpool_http_close_start(c->f->pool, 0);
  }
}

static void on_answer_free(const cpool_event *event)
{
  struct closing *c = event->user;
  if (atomic_load(&c->responses) == 0) {
    cpool_http *pool = c->f->pool;
    c->f->pool = NULL;
    cpool_http_free(pool);
  }
  atomic_fetch_add(&c->responses, 1);
}

static void open_with_callback(struct pool_fixture *f, struct closing *c)
{
  cpool_http_options options = pool_options();
  options.on_event = on_pool_event;
  options.user = c;
  open_pool(f, &options);
}

static void ask_calling_back(struct pool_fixture *f, const char *path, cpool_event_fn *fn, void *user)
{
  cpool_request req = request_of(f, path);
  req.queue = NULL;
  req.on_event = fn;
  req.user = user;
  submit(f, &req);
}

static void pool_is_closed_and_freed_inside_callbacks(void **state)
{
  struct pool_fixture *f = *state;
  struct closing c = {.f = f};
  atomic_store(&c.free_it, 1);
  open_with_callback(f, &c);
  for (int i = 0; i < 5; i++)
    ask_calling_back(f, "/blackhole", on_answer_close, &c);
  eventually(counts_of(f).requests == 5);
  ask_calling_back(f, "/ok", on_answer_close, &c);
  eventually(atomic_load(&c.closed) == 1);
  assert_int_equal(c.close_rc, CPOOL_EDEADLK);
  assert_int_equal(c.start_rc, CPOOL_OK);
  assert_int_equal(atomic_load(&c.responses), 6);
  assert_int_equal(c.last_kind, CPOOL_EVENT_HTTP_CLOSED);
  assert_null(f->pool);
  eventually(fault_server_open(f->server) == 0);
}

static void pool_is_freed_inside_the_callback_of_a_request(void **state)
{
  struct pool_fixture *f = *state;
  struct closing c = {.f = f};
  open_with_callback(f, &c);
  for (int i = 0; i < 5; i++)
    ask_calling_back(f, "/blackhole", on_answer_free, &c);
  eventually(counts_of(f).requests == 5);
  ask_calling_back(f, "/ok", on_answer_free, &c);
  eventually(atomic_load(&c.responses) == 6);
  assert_int_equal(atomic_load(&c.closed), 0);
  eventually(fault_server_open(f->server) == 0);
}

static void no_callback_runs_after_close(void **state)
{
  struct pool_fixture *f = *state;
  for (int round = 0; round < 30; round++) {
    struct record *records = calloc(100, sizeof *records); /* freed at once: a late callback is a use after free */
    struct closing *c = calloc(1, sizeof *c);
    c->f = f;
    open_with_callback(f, c);
    for (int i = 0; i < 100; i++)
      ask_calling_back(f, i % 3 == 0 ? "/blackhole" : "/ok", on_record, &records[i]);
    assert_int_equal(cpool_http_close(f->pool, round % 3), CPOOL_OK);
    f->pool = NULL;
    for (int i = 0; i < 100; i++)
      assert_int_equal(atomic_load(&records[i].ends), 1);
    assert_int_equal(atomic_load(&c->closed), 1);
    free(records);
    free(c);
  }
}

static void unused_pool_closes(void **state)
{
  struct pool_fixture *f = *state;
  for (int i = 0; i < 20; i++) {
    open_with_events(f, 1);
    close_pool(f);
    expect_closed_event(f);
    open_with_events(f, 1);
    cpool_http_free(f->pool);
    f->pool = NULL;
  }
  eventually(cpool_queue_free(f->queue) == CPOOL_OK);
  f->queue = NULL;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(every_stage_is_cut_at_once_without_drain),
      POOL_CASE(every_stage_is_cut_at_the_end_of_the_drain),
      POOL_CASE(drain_lets_requests_finish_and_then_ends_early),
      POOL_CASE(earlier_deadline_counts_and_a_later_one_does_not),
      POOL_CASE(free_without_close_still_ends_every_request),
      POOL_CASE(free_during_the_drain_cuts_it),
      POOL_CASE(events_in_the_queue_outlive_their_pool),
      POOL_CASE(pool_is_closed_and_freed_inside_callbacks),
      POOL_CASE(pool_is_freed_inside_the_callback_of_a_request),
      POOL_CASE(no_callback_runs_after_close),
      POOL_CASE(unused_pool_closes),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
