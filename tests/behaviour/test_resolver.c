/* test_resolver: answers of a scripted name server, good and bad: shared, kept for their time, and ended in time */
#include "resolver_fixture.h"

/* ---- sharing and caching */

static void one_query_serves_many_waiters(void **state)
{
  struct fixture *f = *state;
  enum { MANY = 100 };
  static struct asked asked[MANY];
  dns_server_set(f->server, &(struct dns_rule){.name = "slow.test",
                                               .a = {.addresses = "10.0.0.9", .ttl_s = 60, .delay_ms = 50},
                                               .aaaa = {.addresses = "fd00::9", .ttl_s = 60, .delay_ms = 50}});
  for (int i = 0; i < MANY; i++)
    begin(f, &asked[i], "slow.test");
  for (int i = 0; i < MANY; i++) {
    finish(f, &asked[i]);
    assert_string_equal(answer(&asked[i], V4), "10.0.0.9");
    assert_string_equal(answer(&asked[i], V6), "fd00::9");
    on_loop(f, do_cancel, &asked[i]);
  }
  expect(f, "slow.test", "10.0.0.9", "fd00::9");
  assert_int_equal(dns_server_queries(f->server, "slow.test", 0), 2);
  const struct cpool__dns_stats *stats = cpool__resolver_stats(f->resolver);
  assert_int_equal(stats->misses, 1);
  assert_int_equal(stats->hits, MANY);
  assert_int_equal(stats->failures, 0);
}

static void names_do_not_differ_by_case_or_final_dot(void **state)
{
  struct fixture *f = *state;
  expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  expect(f, "A.tEst", "10.0.0.1 10.0.0.2", "fd00::1");
  expect(f, "a.test.", "10.0.0.1 10.0.0.2", "fd00::1");
  assert_int_equal(queries(f, "a.test"), 1);
}

/* Asks on and on, until the server hears of it again. Returns the milliseconds since the first answer. */
static int64_t time_until_asked_again(struct fixture *f, const char *name)
{
  struct again again = {f, name, 1};
  assert_true(asked_again(&again));
  int64_t begun = now_ms();
  again.count = 2;
  assert_true(turn_until(f, asked_again, &again, DEADLINE_MS));
  return now_ms() - begun;
}

static void ttl_of_the_record_bounds_the_cache(void **state)
{
  struct fixture *f = *state;
  dns_server_set_addresses(f->server, "short.test", "10.0.0.1 fd00::1", 1);
  assert_in_range(time_until_asked_again(f, "short.test"), 700, 3000);
}

static void shortest_ttl_of_a_cname_chain_counts(void **state)
{
  struct fixture *f = *state;
  dns_server_set(f->server, &(struct dns_rule){.name = "alias.test",
                                               .cname = "b.test c.test",
                                               .cname_ttl_s = 1,
                                               .a = {.addresses = "10.0.0.1", .ttl_s = 3600}});
  assert_in_range(time_until_asked_again(f, "alias.test"), 700, 3000);
  expect(f, "alias.test", "10.0.0.1", "CPOOL_EDNS_NOTFOUND");
}

static void longest_use_of_an_answer_is_the_callers(void **state)
{
  struct fixture *f = *state;
  f->options.ttl_max_ms = 300;
  renew(f);
  assert_in_range(time_until_asked_again(f, "a.test"), 250, 3000);
}

static void shortest_use_of_an_answer_is_the_callers(void **state)
{
  struct fixture *f = *state;
  f->options.ttl_min_ms = 60000;
  renew(f);
  dns_server_set_addresses(f->server, "zero.test", "10.0.0.1 fd00::1", 0);
  for (int i = 0; i < 5; i++)
    expect(f, "zero.test", "10.0.0.1", "fd00::1");
  assert_int_equal(queries(f, "zero.test"), 1);
}

static void zero_ttl_is_never_cached(void **state)
{
  struct fixture *f = *state;
  dns_server_set_addresses(f->server, "zero.test", "10.0.0.1 fd00::1", 0);
  for (int i = 1; i <= 3; i++) {
    expect(f, "zero.test", "10.0.0.1", "fd00::1");
    assert_int_equal(queries(f, "zero.test"), i);
  }
}

static void cache_that_is_off_still_shares_what_is_in_flight(void **state)
{
  struct fixture *f = *state;
  static struct asked asked[10];
  f->options.ttl_max_ms = CPOOL_OFF;
  renew(f);
  dns_server_set(f->server, &(struct dns_rule){.name = "slow.test",
                                               .a = {.addresses = "10.0.0.9", .ttl_s = 60, .delay_ms = 50},
                                               .aaaa = {.delay_ms = 50}});
  for (int round = 1; round <= 2; round++) {
    for (int i = 0; i < 10; i++)
      begin(f, &asked[i], "slow.test");
    for (int i = 0; i < 10; i++) {
      finish(f, &asked[i]);
      assert_string_equal(answer(&asked[i], V4), "10.0.0.9");
      on_loop(f, do_cancel, &asked[i]);
    }
    assert_int_equal(queries(f, "slow.test"), round);
  }
}

static void cache_is_bounded_by_the_number_of_names(void **state)
{
  struct fixture *f = *state;
  enum { NAMES = 10000, AT_ONCE = 50 };
  static struct asked asked[AT_ONCE];
  static char names[AT_ONCE][32];
  f->options.max_entries = 100;
  renew(f);
  dns_server_set_addresses(f->server, "*", "10.0.0.1 fd00::1", 3600);
  for (int base = 0; base < NAMES; base += AT_ONCE) {
    for (int i = 0; i < AT_ONCE; i++) {
      snprintf(names[i], sizeof names[i], "n%d.test", base + i);
      begin(f, &asked[i], names[i]);
    }
    for (int i = 0; i < AT_ONCE; i++) {
      finish(f, &asked[i]);
      assert_string_equal(answer(&asked[i], V4), "10.0.0.1");
      on_loop(f, do_cancel, &asked[i]);
    }
  }
  expect(f, "n9999.test", "10.0.0.1", "fd00::1");
  assert_int_equal(queries(f, "n9999.test"), 1);
  expect(f, "n9000.test", "10.0.0.1", "fd00::1");
  assert_int_equal(queries(f, "n9000.test"), 2);
}

static void more_lookups_than_places_in_the_cache_are_all_answered(void **state)
{
  struct fixture *f = *state;
  enum { NAMES = 20 };
  static struct asked asked[NAMES];
  static char names[NAMES][32];
  f->options.max_entries = 2;
  renew(f);
  dns_server_set_addresses(f->server, "*", "10.0.0.1", 3600);
  for (int i = 0; i < NAMES; i++) {
    snprintf(names[i], sizeof names[i], "n%d.test", i);
    begin(f, &asked[i], names[i]);
  }
  for (int i = 0; i < NAMES; i++) {
    finish(f, &asked[i]);
    assert_string_equal(answer(&asked[i], V4), "10.0.0.1");
    on_loop(f, do_cancel, &asked[i]);
  }
}

/* ---- bad answers */

static void missing_name_is_not_found_and_remembered(void **state)
{
  struct fixture *f = *state;
  f->options.negative_ttl_ms = 300;
  renew(f);
  expect(f, "none.test", "CPOOL_EDNS_NOTFOUND", "CPOOL_EDNS_NOTFOUND");
  expect(f, "none.test", "CPOOL_EDNS_NOTFOUND", "CPOOL_EDNS_NOTFOUND");
  assert_int_equal(queries(f, "none.test"), 1);
  assert_int_equal(cpool__resolver_stats(f->resolver)->failures, 2);
  dns_server_set_addresses(f->server, "none.test", "10.0.0.1", 60);
  struct again again = {f, "none.test", 2};
  assert_true(turn_until(f, asked_again, &again, 3000));
  expect(f, "none.test", "10.0.0.1", "CPOOL_EDNS_NOTFOUND");
}

static void name_without_addresses_is_not_found(void **state)
{
  struct fixture *f = *state;
  dns_server_set(f->server, &(struct dns_rule){.name = "empty.test"});
  expect(f, "empty.test", "CPOOL_EDNS_NOTFOUND", "CPOOL_EDNS_NOTFOUND");
  dns_server_set(f->server, &(struct dns_rule){.name = "nowhere.test", .cname = "gone.test", .cname_ttl_s = 60});
  expect(f, "nowhere.test", "CPOOL_EDNS_NOTFOUND", "CPOOL_EDNS_NOTFOUND");
}

static void failing_servers_are_no_answer_and_soon_asked_again(void **state)
{
  struct fixture *f = *state;
  f->options.timeout_ms = 1000;
  f->options.negative_ttl_ms = 60000;
  renew(f);
  static const enum dns_answer kinds[] = {DNS_SERVFAIL, DNS_REFUSED};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char name[32];
    snprintf(name, sizeof name, "bad%zu.test", i);
    dns_server_set(f->server, &(struct dns_rule){.name = name, .a.answer = kinds[i], .aaaa.answer = kinds[i]});
    expect(f, name, "CPOOL_EDNS_FAILED", "CPOOL_EDNS_FAILED");
    int64_t count = queries(f, name);
    expect(f, name, "CPOOL_EDNS_FAILED", "CPOOL_EDNS_FAILED");
    assert_int_equal(queries(f, name), count);
    struct again again = {f, name, count + 1};
    assert_true(turn_until(f, asked_again, &again, 4000));
  }
}

static void useless_answers_end_in_time(void **state)
{
  struct fixture *f = *state;
  f->options.timeout_ms = 300;
  renew(f);
  static const enum dns_answer kinds[] = {DNS_SILENT, DNS_GARBAGE, DNS_WRONG_ID, DNS_TCP_CLOSED};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char name[32];
    snprintf(name, sizeof name, "bad%zu.test", i);
    dns_server_set(f->server, &(struct dns_rule){.name = name,
                                                 .a = {.answer = kinds[i], .addresses = "10.0.0.1", .ttl_s = 60},
                                                 .aaaa = {.answer = kinds[i], .addresses = "fd00::1", .ttl_s = 60}});
    int64_t begun = now_ms();
    expect(f, name, "CPOOL_EDNS_FAILED", "CPOOL_EDNS_FAILED");
    if (now_ms() - begun > 2000)
      fail_msg("%s took %d ms", name, (int) (now_ms() - begun));
  }
}

static bool v4_told(void *ctx)
{
  return (((struct asked *) ctx)->told & (1u << V4)) != 0;
}

static void silent_aaaa_does_not_delay_a(void **state)
{
  struct fixture *f = *state;
  dns_server_set(f->server, &(struct dns_rule){.name = "half.test",
                                               .a = {.addresses = "10.0.0.1", .ttl_s = 60},
                                               .aaaa.answer = DNS_SILENT});
  struct asked asked;
  int64_t begun = now_ms();
  begin(f, &asked, "half.test");
  assert_true(turn_until(f, v4_told, &asked, DEADLINE_MS));
  assert_in_range(now_ms() - begun, 0, 2000); /* of a timeout of 5000 */
  assert_int_equal(asked.calls, 1);
  assert_string_equal(answer(&asked, V4), "10.0.0.1");
  assert_false(cpool__lookup_answer(&asked.lookup, V6)->ended);
  on_loop(f, do_cancel, &asked);
}

static void answer_after_the_timeout_is_dropped(void **state)
{
  struct fixture *f = *state;
  f->options.timeout_ms = 150;
  f->options.negative_ttl_ms = CPOOL_OFF;
  renew(f);
  dns_server_set(f->server, &(struct dns_rule){.name = "late.test",
                                               .a = {.addresses = "10.0.0.1", .ttl_s = 60, .delay_ms = 400},
                                               .aaaa = {.addresses = "fd00::1", .ttl_s = 60, .delay_ms = 400}});
  expect(f, "late.test", "CPOOL_EDNS_FAILED", "CPOOL_EDNS_FAILED");
  struct again again = {f, "late.test", queries(f, "late.test") + 1}; /* and is not cached */
  assert_true(asked_again(&again));
}

static void truncated_answer_is_asked_for_over_tcp(void **state)
{
  struct fixture *f = *state;
  dns_server_set(f->server, &(struct dns_rule){.name = "tcp.test",
                                               .a = {.answer = DNS_TRUNCATED, .addresses = "10.0.0.1", .ttl_s = 60}});
  expect(f, "tcp.test", "10.0.0.1", "CPOOL_EDNS_NOTFOUND");
  assert_int_equal(dns_server_tcp_queries(f->server), 1);
}

static void answer_of_more_than_512_bytes_needs_no_tcp(void **state)
{
  struct fixture *f = *state;
  dns_server_set(f->server, &(struct dns_rule){.name = "big.test", .a = {.made_count = 60, .ttl_s = 60}});
  struct asked asked;
  begin(f, &asked, "big.test");
  finish(f, &asked);
  assert_int_equal(cpool__lookup_answer(&asked.lookup, V4)->count, CPOOL__DNS_ADDRESSES);
  assert_int_equal(dns_server_tcp_queries(f->server), 0);
  on_loop(f, do_cancel, &asked);
}

static void dead_server_is_passed_over(void **state)
{
  struct fixture *f = *state;
  char servers[256];
  uint16_t silent_port;
  int fd = refusing_port_open(&silent_port); /* TCP; nobody answers UDP there */
  assert_true(fd >= 0);
  snprintf(servers, sizeof servers, "127.0.0.1:%u, %s", (unsigned) silent_port, f->servers);
  f->options.servers = servers;
  renew(f);
  expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  snprintf(servers, sizeof servers, "127.0.0.1:%u", (unsigned) silent_port);
  renew(f);
  expect(f, "a.test", "CPOOL_EDNS_FAILED", "CPOOL_EDNS_FAILED");
  close(fd);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(one_query_serves_many_waiters),
      TEST(names_do_not_differ_by_case_or_final_dot),
      TEST(ttl_of_the_record_bounds_the_cache),
      TEST(shortest_ttl_of_a_cname_chain_counts),
      TEST(longest_use_of_an_answer_is_the_callers),
      TEST(shortest_use_of_an_answer_is_the_callers),
      TEST(zero_ttl_is_never_cached),
      TEST(cache_that_is_off_still_shares_what_is_in_flight),
      TEST(cache_is_bounded_by_the_number_of_names),
      TEST(more_lookups_than_places_in_the_cache_are_all_answered),
      TEST(missing_name_is_not_found_and_remembered),
      TEST(name_without_addresses_is_not_found),
      TEST(failing_servers_are_no_answer_and_soon_asked_again),
      TEST(useless_answers_end_in_time),
      TEST(silent_aaaa_does_not_delay_a),
      TEST(answer_after_the_timeout_is_dropped),
      TEST(truncated_answer_is_asked_for_over_tcp),
      TEST(answer_of_more_than_512_bytes_needs_no_tcp),
      TEST(dead_server_is_passed_over),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
