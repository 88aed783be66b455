/* test_cancel: a request can be ended at every stage of its life: once, soon, and at nobody else's cost */
#include "support/pool_fixture.h"

#include "support/blackhole.h"
#include "support/dns_server.h"

/* Cancels the only request in flight and sees it end. */
static void cancel_and_expect(struct pool_fixture *f, cpool_op op)
{
  int64_t start_ms = now_ms();
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_ECANCELLED);
  assert_true(out.op == op);
  assert_in_range(now_ms() - start_ms, 0, SLACK_MS);
  cpool_error error = error_of(&out);
  assert_int_equal(error.status, CPOOL_ECANCELLED);
  assert_int_equal(error.layer, CPOOL_LAYER_CALLER);
  assert_int_equal(error.flags & CPOOL_ERROR_RETRIABLE, 0);
  cpool_response_free(out.resp);
  assert_refused(cpool_cancel(f->pool, op), CPOOL_ESTALE, "ended");
  assert_true(queue_is_empty(f));
  eventually(stats_of(f).active_requests == 0 && stats_of(f).pending_requests == 0);
  eventually(stats_of(f).cancelled == 1);
  assert_int_equal(stats_of(f).failed, 1);
  assert_balanced(f->pool);
}

static void waiting_request_is_cancelled(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections = 1;
  open_pool(f, &options);
  cpool_op held = ask(f, "/hold");
  eventually(counts_of(f).held == 1);
  cpool_op op = ask(f, "/ok"), last = ask(f, "/ok");
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  expect_end(f, op, CPOOL_ECANCELLED);
  assert_int_equal(fault_server_release(f->server, 1), 1);
  expect_end(f, held, CPOOL_OK);
  expect_end(f, last, CPOOL_OK);
  assert_int_equal(counts_of(f).requests, 2);
  assert_int_equal(counts_of(f).accepted, 1);
}

static void request_is_cancelled_while_its_name_is_looked_up(void **state)
{
  struct pool_fixture *f = *state;
  struct dns_server *dns = dns_server_start(NULL, 0);
  char servers[32], url[64];
  dns_server_set(dns, &(struct dns_rule){.name = "silent.test", .a.answer = DNS_SILENT, .aaaa.answer = DNS_SILENT});
  snprintf(servers, sizeof servers, "127.0.0.1:%u", (unsigned) dns_server_port(dns));
  snprintf(url, sizeof url, "http://silent.test:%u/ok", (unsigned) fault_server_port(f->server));
  cpool_http_options options = pool_options();
  options.dns_servers = servers;
  options.dns_hosts_file = "/dev/null";
  open_pool(f, &options);
  cpool_request req = request_to(f, url);
  cpool_op op = submit(f, &req);
  eventually(dns_server_queries(dns, "silent.test", 0) > 0);
  cancel_and_expect(f, op);
  assert_int_equal(stats_of(f).opened, 0);
  close_pool(f);
  dns_server_stop(dns);
}

static void request_is_cancelled_while_it_connects(void **state)
{
  struct pool_fixture *f = *state;
  struct blackhole *hole = blackhole_start(NULL, 0);
  open_pool(f, NULL);
  cpool_request req = request_to(f, url_at(blackhole_port(hole), "/"));
  cpool_op op = submit(f, &req);
  eventually(stats_of(f).opened == 1);
  cancel_and_expect(f, op);
  close_pool(f);
  blackhole_stop(hole);
}

static void request_is_cancelled_in_the_tls_handshake(void **state)
{
  struct pool_fixture *f = *state;
  struct fault_server *silent = fault_server_start(&(struct fault_options){.behaviour = FAULT_SILENT});
  struct fault_counts counts;
  char url[64];
  snprintf(url, sizeof url, "https://127.0.0.1:%u/", (unsigned) fault_server_port(silent));
  open_pool(f, NULL);
  cpool_request req = request_to(f, url);
  cpool_op op = submit(f, &req);
  eventually((fault_server_counts(silent, &counts), counts.accepted == 1));
  cancel_and_expect(f, op);
  eventually(stats_of(f).total_connections == 0 && stats_of(f).closing_connections == 0);
  fault_server_stop(silent);
}

static void request_is_cancelled_before_its_answer(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_op op = ask(f, "/blackhole");
  eventually(counts_of(f).requests == 1);
  cancel_and_expect(f, op);
  eventually(fault_server_open(f->server) == 0); /* its connection is of no use to anybody */
  eventually(stats_of(f).closed_cancelled == 1);
  get_ok(f, "/ok");
}

static void request_is_cancelled_inside_its_answer(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_op op = ask(f, "/hold-body");
  eventually(counts_of(f).held == 1);
  cancel_and_expect(f, op);
  eventually(fault_server_open(f->server) == 0);
  get_ok(f, "/ok");
}

static void request_is_cancelled_inside_its_upload(void **state)
{
  struct pool_fixture *f = *state;
  enum { BODY_BYTES = 8 << 20 };
  struct fault_server *deaf = fault_server_start(&(struct fault_options){.behaviour = FAULT_ACCEPT_NEVER});
  char *body = calloc(1, BODY_BYTES);
  open_pool(f, NULL);
  cpool_request req = request_to(f, url_at(fault_server_port(deaf), "/"));
  req.body = body;
  req.body_len = BODY_BYTES;
  cpool_op op = submit(f, &req);
  free(body);
  eventually(stats_of(f).acquired_connections == 1);
  cancel_and_expect(f, op);
  eventually(stats_of(f).total_connections == 0 && stats_of(f).closing_connections == 0);
  fault_server_stop(deaf);
}

static void ended_request_cannot_be_cancelled(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_op op = ask(f, "/ok");
  expect_end(f, op, CPOOL_OK);
  assert_refused(cpool_cancel(f->pool, op), CPOOL_ESTALE, "ended");
  assert_refused(cpool_cancel(f->pool, 0), CPOOL_ESTALE, "ended");
  assert_refused(cpool_cancel(f->pool, UINT64_MAX), CPOOL_ESTALE, "ended");
  cpool_op next = ask(f, "/hold"); /* may use the slot again: the old handle must not reach it */
  for (int i = 0; i < 100; i++)
    assert_refused(cpool_cancel(f->pool, op), CPOOL_ESTALE, "ended");
  eventually(fault_server_release(f->server, 1) == 1);
  expect_end(f, next, CPOOL_OK);
  assert_int_equal(stats_of(f).cancelled, 0);
}

static void cancelling_twice_ends_once(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (int i = 0; i < 200; i++) {
    cpool_op op = ask(f, "/blackhole");
    assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
    int again = cpool_cancel(f->pool, op);
    assert_true(again == CPOOL_OK || again == CPOOL_ESTALE);
    expect_end(f, op, CPOOL_ECANCELLED);
  }
  close_pool(f);
  assert_true(queue_is_empty(f));
}

/* A callback that submits, and cancels before the loop has even seen the request. */
struct at_once {
  struct pool_fixture *f;
  cpool_op op;
  int submit_rc, cancel_rc;
  struct record record;
};

static void submit_and_cancel(const cpool_event *event)
{
  struct at_once *at = event->user;
  cpool_request req = request_of(at->f, "/ok");
  at->submit_rc = cpool_submit(cpool_http_session(at->f->pool), &req, &at->op);
  at->cancel_rc = cpool_cancel(at->f->pool, at->op);
  event = &(cpool_event){.user = &at->record, .status = event->status, .source = event->source};
  on_record(event);
}

static void request_is_cancelled_before_the_loop_has_seen_it(void **state)
{
  struct pool_fixture *f = *state;
  struct at_once at = {.f = f};
  open_pool(f, NULL);
  cpool_request req = request_of(f, "/ok");
  req.queue = NULL;
  req.on_event = submit_and_cancel;
  req.user = &at;
  submit(f, &req);
  eventually(atomic_load(&at.record.ends) == 1);
  assert_int_equal(at.submit_rc, CPOOL_OK);
  assert_int_equal(at.cancel_rc, CPOOL_OK);
  expect_end(f, at.op, CPOOL_ECANCELLED);
  assert_int_equal(counts_of(f).requests, 1);
}

static void cancelled_place_goes_to_the_next_waiter(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections = 1;
  open_pool(f, &options);
  cpool_op stuck = ask(f, "/blackhole");
  cpool_op next = ask(f, "/ok");
  eventually(counts_of(f).requests == 1);
  assert_int_equal(stats_of(f).succeeded, 0);
  assert_int_equal(cpool_cancel(f->pool, stuck), CPOOL_OK);
  expect_end(f, stuck, CPOOL_ECANCELLED);
  expect_end(f, next, CPOOL_OK);
}

static void cancel_that_meets_the_answer_ends_once(void **state)
{
  struct pool_fixture *f = *state;
  int ok = 0, cancelled = 0;
  open_pool(f, NULL);
  for (int i = 0; i < 1000; i++) {
    cpool_op op = ask(f, "/ok");
    int64_t until_us = now_us() + i % 50 * 10;
    while (now_us() < until_us)
      continue;
    int rc = cpool_cancel(f->pool, op);
    struct outcome out = take(f);
    assert_true(out.op == op);
    assert_true(out.status == CPOOL_OK || (out.status == CPOOL_ECANCELLED && rc == CPOOL_OK));
    if (out.status == CPOOL_OK)
      assert_string_equal(cpool_response_body(out.resp, NULL), "hello");
    ok += out.status == CPOOL_OK;
    cancelled += out.status == CPOOL_ECANCELLED;
    cpool_response_free(out.resp);
  }
  eventually(stats_of(f).cancelled == (uint64_t) cancelled && stats_of(f).succeeded == (uint64_t) ok);
  close_pool(f);
  assert_true(queue_is_empty(f));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(waiting_request_is_cancelled),
      POOL_CASE(request_is_cancelled_while_its_name_is_looked_up),
      POOL_CASE(request_is_cancelled_while_it_connects),
      POOL_CASE(request_is_cancelled_in_the_tls_handshake),
      POOL_CASE(request_is_cancelled_before_its_answer),
      POOL_CASE(request_is_cancelled_inside_its_answer),
      POOL_CASE(request_is_cancelled_inside_its_upload),
      POOL_CASE(ended_request_cannot_be_cancelled),
      POOL_CASE(cancelling_twice_ends_once),
      POOL_CASE(request_is_cancelled_before_the_loop_has_seen_it),
      POOL_CASE(cancelled_place_goes_to_the_next_waiter),
      POOL_CASE(cancel_that_meets_the_answer_ends_once),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
