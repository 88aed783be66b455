/* test_reconfigure: limits change under traffic: all of a change or nothing, at once, and without an ended request */
#include "support/pool_fixture.h"

static cpool_http_options options_of(struct pool_fixture *f)
{
  cpool_http_options options = pool_options();
  assert_int_equal(cpool_http_options_get(f->pool, &options), CPOOL_OK);
  return options;
}

static void take_ok(struct pool_fixture *f, int count)
{
  for (int i = 0; i < count; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_OK);
    cpool_response_free(out.resp);
  }
}

static void release(struct pool_fixture *f, int count)
{
  eventually(counts_of(f).held >= count);
  assert_int_equal(fault_server_release(f->server, count), count);
}

static void options_get_tells_the_values_in_force(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections = 42;
  options.total_timeout_ms = CPOOL_OFF;
  options.user_agent = "mine/1";
  open_pool(f, &options);
  options = options_of(f);
  assert_int_equal(options.max_connections, 42);
  assert_int_equal(options.total_timeout_ms, CPOOL_OFF);
  assert_string_equal(options.user_agent, "mine/1");
  assert_int_equal(options.max_connections_per_host, 30);
  assert_int_equal(options.keepalive_timeout_ms, 30000);
  assert_int_equal(options.address_policy, CPOOL_ADDRESS_ANY);
  options.max_connections = 43;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  assert_int_equal(options_of(f).max_connections, 43); /* before the loop has seen it */
  eventually(stats_of(f).max_connections == 43);
  struct {
    size_t size;
    int32_t max_connections;
  } older = {sizeof older, 0}; /* a caller that knows one field */
  assert_int_equal(cpool_http_options_get(f->pool, (cpool_http_options *) (void *) &older), CPOOL_OK);
  assert_int_equal(older.max_connections, 43);
  assert_int_equal(older.size, sizeof older);
}

static void higher_limit_lets_waiters_go_at_once(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections = 2;
  open_pool(f, &options);
  for (int i = 0; i < 10; i++)
    ask(f, "/hold");
  eventually(counts_of(f).held == 2);
  options = options_of(f);
  options.max_connections = 6;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  eventually(counts_of(f).held == 6);
  assert_int_equal(counts_of(f).most_open, 6);
  options.max_connections = 10;
  options.max_connections_per_host = 8;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  eventually(counts_of(f).held == 8);
  release(f, 8);
  release(f, 2);
  take_ok(f, 10);
}

static void lower_limit_ends_idle_ones_now_and_busy_ones_after_their_response(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (int i = 0; i < 10; i++)
    ask(f, "/hold");
  release(f, 5);
  take_ok(f, 5);
  eventually(counts_of(f).held == 5 && stats_of(f).idle_connections == 5);
  cpool_http_options options = options_of(f);
  options.max_connections = 3;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  eventually_within(2000 + SLACK_MS, counts_of(f).open == 5);
  eventually(stats_of(f).closed_evicted == 5);
  assert_int_equal(counts_of(f).held, 5); /* none of them was cut */
  release(f, 5);
  take_ok(f, 5);
  eventually_within(2000 + SLACK_MS, counts_of(f).open == 3);
  eventually(stats_of(f).total_connections == 3 && stats_of(f).closing_connections == 0);
  assert_balanced(f->pool);
}

static void limits_swing_under_traffic_and_every_request_succeeds(void **state)
{
  enum { COUNT = 3000 };
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_http_options options = options_of(f);
  for (int i = 0; i < COUNT; i++) {
    ask(f, "/ok");
    if (i % 10 == 0) {
      options.max_connections = 1 + i % 37;
      options.max_requests_per_connection = 1 + i % 11;
      assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
      assert_balanced(f->pool);
    }
  }
  take_ok(f, COUNT);
  assert_true(counts_of(f).most_open <= 30 + 100);
  assert_int_equal(counts_of(f).requests, COUNT);
}

static void new_time_limits_apply_to_later_requests_only(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_op before = ask(f, "/hold");
  eventually(counts_of(f).held == 1);
  cpool_http_options options = options_of(f);
  options.sock_read_timeout_ms = 100;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  cpool_op after = ask(f, "/blackhole");
  expect_end(f, after, CPOOL_ETIMEOUT_READ);
  release(f, 1);
  expect_end(f, before, CPOOL_OK);
}

static void shorter_idle_time_meets_connections_that_are_idle(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  get_ok(f, "/ok");
  cpool_http_options options = options_of(f);
  options.keepalive_timeout_ms = 50;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  eventually_within(2000 + SLACK_MS, counts_of(f).open == 0);
  eventually(stats_of(f).closed_idle == 1);
}

static void bad_change_changes_nothing(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_http_options good = options_of(f), bad = good;
  bad.max_connections = 7;
  bad.race_delay_ms = 1;
  assert_refused(cpool_http_reconfigure(f->pool, &bad), CPOOL_EINVAL, "race_delay_ms");
  bad = good;
  bad.max_connections = 7;
  bad.size = 0;
  assert_refused(cpool_http_reconfigure(f->pool, &bad), CPOOL_EINVAL, "size");
  static const char *const frozen[] = {"max_identities", "address_policy", "dns_servers", "dns_hosts_file",
                                       "user_agent"};
  static const char *const values[] = {"5", "public", "127.0.0.1:53", "/dev/null", "other/1"};
  for (size_t i = 0; i < sizeof frozen / sizeof *frozen; i++) {
    bad = good;
    bad.max_connections = 7;
    assert_int_equal(cpool_http_options_set(&bad, frozen[i], values[i]), CPOOL_OK);
    assert_refused(cpool_http_reconfigure(f->pool, &bad), CPOOL_EINVAL, frozen[i]);
  }
  get_ok(f, "/ok");
  assert_int_equal(options_of(f).max_connections, good.max_connections);
  assert_int_equal(stats_of(f).max_connections, good.max_connections);
}

static void zero_fields_go_back_to_their_defaults(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections = 5;
  options.max_pending = 5;
  open_pool(f, &options);
  options.max_connections = 0;
  options.max_pending = 6;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  assert_int_equal(options_of(f).max_connections, 100);
  assert_int_equal(options_of(f).max_pending, 6);
}

/* ------------------------------------------------------------------------------------------------------ one host's own */

static void host_has_its_own_limits_until_they_are_taken_back(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  assert_int_equal(cpool_http_origin_set(f->pool, url_of(f, ""), "max_connections_per_host", "2"), CPOOL_OK);
  for (int i = 0; i < 6; i++)
    ask(f, "/hold");
  eventually(counts_of(f).held == 2);
  eventually(stats_of(f).pending_requests == 4);
  assert_int_equal(cpool_http_origin_set(f->pool, url_of(f, "/"), "max_connections_per_host", "4"), CPOOL_OK);
  eventually(counts_of(f).held == 4);
  cpool_origin_stats row;
  uint64_t cursor = 0;
  assert_int_equal(cpool_http_origins_get(f->pool, &cursor, &row, sizeof row, 1), 1);
  assert_int_equal(row.max_connections, 4);
  assert_int_equal(cpool_http_origin_set(f->pool, url_of(f, ""), "max_connections_per_host", NULL), CPOOL_OK);
  eventually(counts_of(f).held == 6);
  release(f, 6);
  take_ok(f, 6);
  assert_int_equal(cpool_http_origin_set(f->pool, url_of(f, ""), "keepalive_timeout_ms", "20"), CPOOL_OK);
  eventually_within(2000 + SLACK_MS, counts_of(f).open == 0);
  assert_int_equal(cpool_http_origin_set(f->pool, url_of(f, ""), "max_requests_per_connection", "1"), CPOOL_OK);
  uint64_t first = get_ok(f, "/ok");
  assert_true(get_ok(f, "/ok") != first);
}

static void own_limits_do_not_touch_other_hosts(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  assert_int_equal(cpool_http_origin_set(f->pool, "http://127.0.0.1:1", "max_connections_per_host", "1"), CPOOL_OK);
  assert_int_equal(cpool_http_origin_set(f->pool, "https://127.0.0.1", "max_connections_per_host", "1"), CPOOL_OK);
  for (int i = 0; i < 4; i++)
    ask(f, "/hold");
  eventually(counts_of(f).held == 4);
  release(f, 4);
  take_ok(f, 4);
}

static void bad_own_limit_is_refused(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  assert_refused(cpool_http_origin_set(f->pool, "127.0.0.1", "max_lifetime_ms", "5"), CPOOL_EINVAL, "origin");
  assert_refused(cpool_http_origin_set(f->pool, "ftp://a.test", "max_lifetime_ms", "5"), CPOOL_EINVAL, "origin");
  assert_refused(cpool_http_origin_set(f->pool, "http://a.test/path", "max_lifetime_ms", "5"), CPOOL_EINVAL, "origin");
  assert_refused(cpool_http_origin_set(f->pool, "http://a.test", "max_connections", "5"), CPOOL_EINVAL,
                 "max_connections");
  assert_refused(cpool_http_origin_set(f->pool, "http://a.test", "no_such_key", "5"), CPOOL_EINVAL, "no_such_key");
  assert_refused(cpool_http_origin_set(f->pool, "http://a.test", "max_lifetime_ms", "-5"), CPOOL_EINVAL,
                 "max_lifetime_ms");
  assert_refused(cpool_http_origin_set(f->pool, "http://a.test", "max_lifetime_ms", "x"), CPOOL_EINVAL,
                 "max_lifetime_ms");
  assert_refused(cpool_http_origin_set(NULL, "http://a.test", "max_lifetime_ms", "5"), CPOOL_EINVAL, "pool");
  assert_refused(cpool_http_origin_set(f->pool, NULL, "max_lifetime_ms", "5"), CPOOL_EINVAL, "origin");
  assert_refused(cpool_http_origin_set(f->pool, "http://a.test", NULL, "5"), CPOOL_EINVAL, "key");
}

static void full_table_of_overrides_still_changes_and_forgets(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_origins = 2;
  open_pool(f, &options);
  assert_int_equal(cpool_http_origin_set(f->pool, "http://a.test", "max_lifetime_ms", "5"), CPOOL_OK);
  assert_int_equal(cpool_http_origin_set(f->pool, "http://b.test", "max_lifetime_ms", "5"), CPOOL_OK);
  assert_refused(cpool_http_origin_set(f->pool, "http://c.test", "max_lifetime_ms", "5"), CPOOL_EFULL, "max_origins");
  for (int i = 0; i < 1000; i++)
    assert_int_equal(cpool_http_origin_set(f->pool, "http://a.test:80/", "max_lifetime_ms", "6"), CPOOL_OK);
  assert_int_equal(cpool_http_origin_set(f->pool, "http://a.test", "keepalive_timeout_ms", "off"), CPOOL_OK);
  assert_int_equal(cpool_http_origin_set(f->pool, "http://c.test", "max_lifetime_ms", NULL), CPOOL_OK);
  assert_int_equal(cpool_http_origin_set(f->pool, "http://a.test", "keepalive_timeout_ms", NULL), CPOOL_OK);
  assert_refused(cpool_http_origin_set(f->pool, "http://c.test", "max_lifetime_ms", "5"), CPOOL_EFULL, "max_origins");
  assert_int_equal(cpool_http_origin_set(f->pool, "http://a.test", "max_lifetime_ms", NULL), CPOOL_OK);
  assert_int_equal(cpool_http_origin_set(f->pool, "http://c.test", "max_lifetime_ms", "5"), CPOOL_OK);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(options_get_tells_the_values_in_force),
      POOL_CASE(higher_limit_lets_waiters_go_at_once),
      POOL_CASE(lower_limit_ends_idle_ones_now_and_busy_ones_after_their_response),
      POOL_CASE(limits_swing_under_traffic_and_every_request_succeeds),
      POOL_CASE(new_time_limits_apply_to_later_requests_only),
      POOL_CASE(shorter_idle_time_meets_connections_that_are_idle),
      POOL_CASE(bad_change_changes_nothing),
      POOL_CASE(zero_fields_go_back_to_their_defaults),
      POOL_CASE(host_has_its_own_limits_until_they_are_taken_back),
      POOL_CASE(own_limits_do_not_touch_other_hosts),
      POOL_CASE(bad_own_limit_is_refused),
      POOL_CASE(full_table_of_overrides_still_changes_and_forgets),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
