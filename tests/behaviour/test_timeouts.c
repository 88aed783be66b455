/* test_timeouts: each time limit ends a request against a peer that is really silent, in time, with its own status */
#include "support/pool_fixture.h"

#include "support/blackhole.h"

enum { LIMIT_MS = 150 };

/* Takes the end of the only request in flight: this status, this layer, not before and not long after LIMIT_MS. */
static struct outcome take_timeout(struct pool_fixture *f, int64_t start_ms, int status, int layer)
{
  struct outcome out = take(f);
  int64_t took_ms = now_ms() - start_ms;
  cpool_error error = error_of(&out);
  assert_int_equal(out.status, status);
  assert_int_equal(error.status, status);
  assert_int_equal(error.layer, layer);
  assert_in_range(took_ms, LIMIT_MS - 2, LIMIT_MS + SLACK_MS);
  assert_in_range(info_of(&out).total_us, (LIMIT_MS - 2) * 1000, (LIMIT_MS + SLACK_MS) * 1000);
  return out;
}

static void full_host_ends_the_wait_for_a_connection(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections = 3;
  options.max_connections_per_host = 2;
  open_pool(f, &options);
  ask(f, "/hold");
  ask(f, "/hold");
  eventually(counts_of(f).held == 2);
  cpool_request req = request_of(f, "/ok");
  req.acquire_timeout_ms = LIMIT_MS;
  int64_t start_ms = now_ms();
  submit(f, &req);
  struct outcome out = take_timeout(f, start_ms, CPOOL_ETIMEOUT_ACQUIRE, CPOOL_LAYER_POOL);
  cpool_error error = error_of(&out);
  char wanted[128];
  snprintf(wanted, sizeof wanted, "%s: open 2 of 2, busy 2, idle 0, waiting 1; pool open 2 of 3", url_of(f, ""));
  assert_string_equal(error.text, wanted);
  assert_int_equal(error.flags, CPOOL_ERROR_RETRIABLE | CPOOL_ERROR_NOTHING_SENT);
  assert_int_equal(info_of(&out).attempts, 0);
  assert_int_equal(info_of(&out).connection, 0);
  cpool_response_free(out.resp);
  eventually(stats_of(f).timeout_acquire == 1);
  eventually(stats_of(f).pending_requests == 0);
  assert_int_equal(fault_server_release(f->server, 2), 2); /* those that had a connection are untouched */
  for (int i = 0; i < 2; i++) {
    out = take(f);
    assert_int_equal(out.status, CPOOL_OK);
    cpool_response_free(out.resp);
  }
}

static void swallowed_connect_ends_in_time(void **state)
{
  struct pool_fixture *f = *state;
  struct blackhole *hole = blackhole_start(NULL, 0);
  assert_non_null(hole);
  open_pool(f, NULL);
  cpool_request req = request_to(f, url_at(blackhole_port(hole), "/"));
  req.connect_timeout_ms = LIMIT_MS;
  int64_t start_ms = now_ms();
  submit(f, &req);
  struct outcome out = take_timeout(f, start_ms, CPOOL_ETIMEOUT_CONNECT, CPOOL_LAYER_CONNECT);
  assert_true((error_of(&out).flags & CPOOL_ERROR_NOTHING_SENT) != 0);
  assert_int_equal(info_of(&out).bytes_sent, 0);
  cpool_response_free(out.resp);
  eventually(stats_of(f).closed_dial == 1);
  eventually(stats_of(f).timeout_connect == 1);
  eventually(stats_of(f).total_connections == 0);
  blackhole_stop(hole);
}

static void silent_tls_handshake_ends_in_time(void **state)
{
  struct pool_fixture *f = *state;
  struct fault_server *silent = fault_server_start(&(struct fault_options){.behaviour = FAULT_SILENT});
  char url[64];
  snprintf(url, sizeof url, "https://127.0.0.1:%u/", (unsigned) fault_server_port(silent));
  open_pool(f, NULL);
  cpool_request req = request_to(f, url);
  req.connect_timeout_ms = LIMIT_MS;
  int64_t start_ms = now_ms();
  submit(f, &req);
  struct outcome out = take_timeout(f, start_ms, CPOOL_ETIMEOUT_CONNECT, CPOOL_LAYER_CONNECT);
  assert_non_null(strstr(error_of(&out).text, "TLS"));
  cpool_response_free(out.resp);
  assert_int_equal(fault_server_requests(silent), 0);
  eventually(stats_of(f).total_connections == 0);
  fault_server_stop(silent);
}

static void silent_server_ends_in_time(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = request_of(f, "/blackhole");
  req.sock_read_timeout_ms = LIMIT_MS;
  int64_t start_ms = now_ms();
  submit(f, &req);
  struct outcome out = take_timeout(f, start_ms, CPOOL_ETIMEOUT_READ, CPOOL_LAYER_HTTP);
  assert_int_equal(error_of(&out).flags & CPOOL_ERROR_NOTHING_SENT, 0);
  cpool_response_free(out.resp);
  eventually(stats_of(f).timeout_read == 1);
  eventually(stats_of(f).closed_cancelled == 1);
  eventually(fault_server_open(f->server) == 0);
}

static void silence_inside_the_body_ends_in_time_and_keeps_what_came(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = request_of(f, "/hold-body");
  req.sock_read_timeout_ms = LIMIT_MS;
  int64_t start_ms = now_ms();
  submit(f, &req);
  struct outcome out = take_timeout(f, start_ms, CPOOL_ETIMEOUT_READ, CPOOL_LAYER_HTTP);
  size_t len = 0;
  assert_int_equal(cpool_response_status(out.resp), 200);
  assert_memory_equal(cpool_response_body(out.resp, &len), "hel", 4);
  assert_int_equal(len, 3);
  cpool_response_free(out.resp);
}

static void slow_peer_that_shows_life_meets_only_the_total_limit(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = request_of(f, "/drip/10/100000");
  req.sock_read_timeout_ms = LIMIT_MS / 2;
  req.total_timeout_ms = LIMIT_MS;
  int64_t start_ms = now_ms();
  submit(f, &req);
  struct outcome out = take_timeout(f, start_ms, CPOOL_ETIMEOUT_TOTAL, CPOOL_LAYER_POOL);
  cpool_response_free(out.resp);
  eventually(stats_of(f).timeout_total == 1);
}

static void total_limit_counts_the_wait_for_a_connection(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections = 1;
  open_pool(f, &options);
  cpool_op held = ask(f, "/hold");
  eventually(counts_of(f).held == 1);
  cpool_request req = request_of(f, "/ok");
  req.total_timeout_ms = LIMIT_MS;
  int64_t start_ms = now_ms();
  submit(f, &req);
  struct outcome out = take_timeout(f, start_ms, CPOOL_ETIMEOUT_TOTAL, CPOOL_LAYER_POOL);
  assert_true((error_of(&out).flags & CPOOL_ERROR_NOTHING_SENT) != 0);
  cpool_response_free(out.resp);
  fault_server_release(f->server, 1);
  expect_end(f, held, CPOOL_OK);
}

static void total_limit_counts_the_connect(void **state)
{
  struct pool_fixture *f = *state;
  struct blackhole *hole = blackhole_start(NULL, 0);
  assert_non_null(hole);
  open_pool(f, NULL);
  cpool_request req = request_to(f, url_at(blackhole_port(hole), "/"));
  req.total_timeout_ms = LIMIT_MS;
  int64_t start_ms = now_ms();
  submit(f, &req);
  struct outcome out = take_timeout(f, start_ms, CPOOL_ETIMEOUT_TOTAL, CPOOL_LAYER_POOL);
  cpool_response_free(out.resp);
  blackhole_stop(hole);
}

static void pool_limits_hold_for_requests_without_their_own(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.sock_read_timeout_ms = LIMIT_MS;
  open_pool(f, &options);
  int64_t start_ms = now_ms();
  ask(f, "/blackhole");
  struct outcome out = take_timeout(f, start_ms, CPOOL_ETIMEOUT_READ, CPOOL_LAYER_HTTP);
  cpool_response_free(out.resp);
  cpool_request req = request_of(f, "/delay/400");
  req.sock_read_timeout_ms = CPOOL_OFF;
  cpool_op op = submit(f, &req);
  expect_end(f, op, CPOOL_OK);
}

static void timed_out_connection_is_never_used_again(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections = 1;
  open_pool(f, &options);
  uint64_t first = get_ok(f, "/ok");
  cpool_request req = request_of(f, "/delay/300");
  req.sock_read_timeout_ms = LIMIT_MS;
  cpool_op op = submit(f, &req);
  expect_end(f, op, CPOOL_ETIMEOUT_READ);
  assert_true(get_ok(f, "/bytes/10") != first);
  assert_int_equal(counts_of(f).accepted, 2);
  assert_balanced(f->pool);
}

static void thousand_time_limits_end_together(void **state)
{
  struct pool_fixture *f = *state;
  enum { COUNT = 1000 };
  cpool_http_options options = pool_options();
  options.max_connections = 4;
  open_pool(f, &options);
  for (int i = 0; i < COUNT; i++) {
    cpool_request req = request_of(f, "/blackhole");
    req.total_timeout_ms = LIMIT_MS + i % 50;
    submit(f, &req);
  }
  int64_t start_ms = now_ms();
  for (int i = 0; i < COUNT; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_ETIMEOUT_TOTAL);
    cpool_response_free(out.resp);
  }
  assert_in_range(now_ms() - start_ms, 0, LIMIT_MS + 50 + SLACK_MS);
  assert_true(queue_is_empty(f));
  eventually(stats_of(f).timeout_total == COUNT);
  assert_balanced(f->pool);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(full_host_ends_the_wait_for_a_connection),
      POOL_CASE(swallowed_connect_ends_in_time),
      POOL_CASE(silent_tls_handshake_ends_in_time),
      POOL_CASE(silent_server_ends_in_time),
      POOL_CASE(silence_inside_the_body_ends_in_time_and_keeps_what_came),
      POOL_CASE(slow_peer_that_shows_life_meets_only_the_total_limit),
      POOL_CASE(total_limit_counts_the_wait_for_a_connection),
      POOL_CASE(total_limit_counts_the_connect),
      POOL_CASE(pool_limits_hold_for_requests_without_their_own),
      POOL_CASE(timed_out_connection_is_never_used_again),
      POOL_CASE(thousand_time_limits_end_together),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
