/* test_resolver_stale: answers in use are renewed before they end, and outlive name servers that fail */
#include "resolver_fixture.h"

enum { STALE_MS = 600000 };

static void use_options(struct fixture *f, int64_t ttl_max_ms, int64_t timeout_ms, int64_t stale_ms)
{
  f->options.ttl_max_ms = ttl_max_ms;
  f->options.timeout_ms = timeout_ms;
  f->options.stale_ms = stale_ms;
  renew(f);
}

static void set_answer(struct fixture *f, const char *name, enum dns_answer answer)
{
  dns_server_set(f->server, &(struct dns_rule){.name = name, .a.answer = answer, .aaaa.answer = answer});
}

static struct cpool__dns_stats stats_of(struct fixture *f)
{
  return *cpool__resolver_stats(f->resolver);
}

/* Turns the loop for a time in which nothing must happen. */
static bool never(void *ctx)
{
  (void) ctx;
  return false;
}

/* ---- renewal */

struct refreshed {
  struct fixture *f;
  uint64_t count;
};

static bool asks_and_is_refreshed(void *ctx)
{
  struct refreshed *refreshed = ctx;
  expect(refreshed->f, "warm.test", "10.0.0.1", "fd00::1");
  return stats_of(refreshed->f).refreshes >= refreshed->count;
}

static void name_in_use_is_renewed_before_its_end_and_nobody_waits(void **state)
{
  struct fixture *f = *state;
  dns_server_set_addresses(f->server, "warm.test", "10.0.0.1 fd00::1", 4);
  int64_t begun = now_ms();
  struct refreshed refreshed = {f, 2};
  assert_true(turn_until(f, asks_and_is_refreshed, &refreshed, DEADLINE_MS));
  assert_in_range(now_ms() - begun, 2900, 4000);
  /* The answer to it comes late, in the middle of lookups. */
  dns_server_set(f->server, &(struct dns_rule){.name = "warm.test",
                                               .a = {.addresses = "10.0.0.1", .ttl_s = 4, .delay_ms = 100},
                                               .aaaa = {.addresses = "fd00::1", .ttl_s = 4, .delay_ms = 100}});
  refreshed.count = 4;
  assert_true(turn_until(f, asks_and_is_refreshed, &refreshed, DEADLINE_MS));
  (void) turn_until(f, never, NULL, 300);
  expect(f, "warm.test", "10.0.0.1", "fd00::1");
  assert_int_equal(stats_of(f).misses, 1);
  assert_int_equal(stats_of(f).stale, 0);
}

static void name_that_nobody_asks_for_is_left_to_end(void **state)
{
  struct fixture *f = *state;
  dns_server_set_addresses(f->server, "once.test", "10.0.0.1 fd00::1", 1);
  expect(f, "once.test", "10.0.0.1", "fd00::1");
  (void) turn_until(f, never, NULL, 1500);
  assert_int_equal(queries(f, "once.test"), 1);
  assert_int_equal(stats_of(f).refreshes, 0);
}

struct wanted {
  struct fixture *f;
  const char *name, *v4, *v6;
};

/* Families are renewed apart: for a moment one is new and the other old. */
static bool answers_are(void *ctx)
{
  struct wanted *wanted = ctx;
  struct asked asked;
  begin(wanted->f, &asked, wanted->name);
  finish(wanted->f, &asked);
  bool same = strcmp(answer(&asked, V4), wanted->v4) == 0 && strcmp(answer(&asked, V6), wanted->v6) == 0;
  on_loop(wanted->f, do_cancel, &asked);
  return same;
}

static void renewal_brings_the_new_addresses(void **state)
{
  struct fixture *f = *state;
  dns_server_set_addresses(f->server, "moves.test", "10.0.0.1 fd00::1", 1);
  expect(f, "moves.test", "10.0.0.1", "fd00::1");
  dns_server_set_addresses(f->server, "moves.test", "10.0.0.2", 60);
  struct again again = {f, "moves.test", 2};
  assert_true(turn_until(f, asked_again, &again, DEADLINE_MS));
  struct wanted wanted = {f, "moves.test", "10.0.0.2", "CPOOL_EDNS_NOTFOUND"};
  assert_true(turn_until(f, answers_are, &wanted, DEADLINE_MS));
}

static void lookup_near_the_end_renews_without_waiting(void **state)
{
  struct fixture *f = *state;
  dns_server_set_addresses(f->server, "late.test", "10.0.0.1 fd00::1", 4);
  expect(f, "late.test", "10.0.0.1", "fd00::1");
  (void) turn_until(f, never, NULL, 3450); /* nobody asked when the time to ask again came */
  int64_t before = queries(f, "late.test");
  expect(f, "late.test", "10.0.0.1", "fd00::1");
  (void) turn_until(f, never, NULL, 50);
  assert_int_equal(before, 1);
  assert_int_equal(queries(f, "late.test"), 2);
}

/* ---- servers that fail */

static bool answer_is_v4(void *ctx)
{
  struct again *again = ctx;
  struct asked asked;
  begin(again->f, &asked, again->name);
  finish(again->f, &asked);
  bool same = strcmp(answer(&asked, V4), "10.0.0.7") == 0;
  on_loop(again->f, do_cancel, &asked);
  return same;
}

static void failing_servers_leave_the_old_answer_until_they_are_back(void **state)
{
  struct fixture *f = *state;
  static const enum dns_answer kinds[] = {DNS_SERVFAIL, DNS_REFUSED, DNS_GARBAGE, DNS_TCP_CLOSED};
  use_options(f, 300, 1000, STALE_MS);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char name[32];
    snprintf(name, sizeof name, "n%zu.test", i);
    dns_server_set_addresses(f->server, name, "10.0.0.1 fd00::1", 60);
    expect(f, name, "10.0.0.1", "fd00::1");
    set_answer(f, name, kinds[i]);
    uint64_t stale = stats_of(f).stale;
    int64_t end = now_ms() + 800;
    while (now_ms() < end)
      expect(f, name, "10.0.0.1", "fd00::1");
    assert_true(stats_of(f).stale > stale);
    dns_server_set_addresses(f->server, name, "10.0.0.7", 60);
    struct again again = {f, name, 0};
    assert_true(turn_until(f, answer_is_v4, &again, DEADLINE_MS));
  }
  assert_int_equal(stats_of(f).failures, 0);
}

static void silent_servers_cost_one_short_wait(void **state)
{
  struct fixture *f = *state;
  use_options(f, 300, 60000, STALE_MS);
  expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  set_answer(f, "a.test", DNS_SILENT);
  (void) turn_until(f, never, NULL, 350);
  int64_t begun = now_ms();
  for (int i = 0; i < 100; i++)
    expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  assert_in_range(now_ms() - begun, 1500, 8000);
  assert_int_equal(stats_of(f).stale, 100);
}

static void tries_are_bounded_while_servers_fail(void **state)
{
  struct fixture *f = *state;
  int lookups = 0;
  use_options(f, 200, 5000, STALE_MS);
  expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  set_answer(f, "a.test", DNS_SERVFAIL);
  int64_t before = queries(f, "a.test"), end = now_ms() + 2500;
  for (; now_ms() < end; lookups++)
    expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  assert_in_range(queries(f, "a.test") - before, 1, 12); /* at 0.2 and 1.2 s, each with the tries of c-ares */
  assert_true(lookups > 20);
}

static void no_such_name_ends_the_old_answer(void **state)
{
  struct fixture *f = *state;
  use_options(f, 300, 5000, STALE_MS);
  expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  set_answer(f, "a.test", DNS_NXDOMAIN);
  (void) turn_until(f, never, NULL, 350);
  expect(f, "a.test", "CPOOL_EDNS_NOTFOUND", "CPOOL_EDNS_NOTFOUND");
  assert_int_equal(stats_of(f).stale, 0);
}

static bool name_has_failed(void *ctx)
{
  struct again *again = ctx;
  struct asked asked;
  begin(again->f, &asked, again->name);
  finish(again->f, &asked);
  bool failed = strcmp(answer(&asked, V4), "CPOOL_EDNS_FAILED") == 0;
  on_loop(again->f, do_cancel, &asked);
  return failed;
}

static void old_answers_end_at_their_limit(void **state)
{
  struct fixture *f = *state;
  use_options(f, 200, 5000, 700);
  expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  set_answer(f, "a.test", DNS_SERVFAIL);
  int64_t begun = now_ms();
  struct again again = {f, "a.test", 0};
  assert_true(turn_until(f, name_has_failed, &again, DEADLINE_MS));
  assert_true(now_ms() - begun >= 850);
}

static void nothing_is_served_past_its_end_when_that_is_off(void **state)
{
  struct fixture *f = *state;
  use_options(f, 200, 5000, CPOOL_OFF);
  expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  set_answer(f, "a.test", DNS_SERVFAIL);
  (void) turn_until(f, never, NULL, 250);
  expect(f, "a.test", "CPOOL_EDNS_FAILED", "CPOOL_EDNS_FAILED");
  assert_int_equal(stats_of(f).stale, 0);
}

/* ---- the name servers' own file */

enum { PRIVILEGED_PORT = 53 };

static void changed_resolv_conf_is_followed_while_old_questions_end(void **state)
{
  struct fixture *f = *state;
  static const char first_text[] = "nameserver 127.53.0.1\n", second_text[] = "nameserver 127.53.0.2\n";
  struct dns_server *first = dns_server_start("127.53.0.1", PRIVILEGED_PORT);
  struct dns_server *second = dns_server_start("127.53.0.2", PRIVILEGED_PORT);
  if (first == NULL || second == NULL) {
    dns_server_stop(first);
    dns_server_stop(second);
    skip(); /* port 53 is not ours */
  }
  char path[300];
  snprintf(path, sizeof path, "%s/resolv.conf", f->dir);
  write_file(path, first_text, sizeof first_text - 1);
  f->options.servers = NULL;
  f->options.resolv_conf = path;
  renew(f);
  dns_server_set_addresses(first, "*", "10.0.0.1", 60);
  dns_server_set(first, &(struct dns_rule){.name = "slow.test",
                                           .a = {.addresses = "10.0.0.1", .ttl_s = 60, .delay_ms = 1800},
                                           .aaaa = {.ttl_s = 60}});
  dns_server_set_addresses(second, "*", "10.0.0.2", 60);
  expect(f, "one.test", "10.0.0.1", "CPOOL_EDNS_NOTFOUND");
  struct asked slow;
  begin(f, &slow, "slow.test");
  write_file(path, second_text, sizeof second_text - 1);
  (void) turn_until(f, never, NULL, 1100); /* it is looked at once a second */
  expect(f, "two.test", "10.0.0.2", "CPOOL_EDNS_NOTFOUND");
  assert_int_equal(dns_server_queries(first, "two.test", 0), 0);
  finish(f, &slow); /* by the old server */
  assert_string_equal(answer(&slow, V4), "10.0.0.1");
  on_loop(f, do_cancel, &slow);
  dns_server_stop(first);
  dns_server_stop(second);
}

static void missing_resolv_conf_is_none(void **state)
{
  struct fixture *f = *state;
  char path[300];
  snprintf(path, sizeof path, "%s/no-such-file", f->dir);
  f->options.servers = NULL;
  f->options.resolv_conf = path;
  f->options.timeout_ms = 300;
  renew(f);
  struct asked asked;
  begin(f, &asked, "a.test"); /* c-ares asks 127.0.0.1 then, where somebody may answer */
  finish(f, &asked);
  on_loop(f, do_cancel, &asked);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(name_in_use_is_renewed_before_its_end_and_nobody_waits),
      TEST(name_that_nobody_asks_for_is_left_to_end),
      TEST(renewal_brings_the_new_addresses),
      TEST(lookup_near_the_end_renews_without_waiting),
      TEST(failing_servers_leave_the_old_answer_until_they_are_back),
      TEST(silent_servers_cost_one_short_wait),
      TEST(tries_are_bounded_while_servers_fail),
      TEST(no_such_name_ends_the_old_answer),
      TEST(old_answers_end_at_their_limit),
      TEST(nothing_is_served_past_its_end_when_that_is_off),
      TEST(changed_resolv_conf_is_followed_while_old_questions_end),
      TEST(missing_resolv_conf_is_none),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
