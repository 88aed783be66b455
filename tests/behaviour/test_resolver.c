/* test_resolver: lookups against a scripted name server, a hosts file, and dnsmasq */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <cpool.h>

#include "base/memory.h"
#include "dns/resolver.h"
#include "support/dns_server.h"
#include "support/process.h"
#include "support/wait.h"

enum { DEADLINE_MS = 10000, OVER = 3 };

static const enum cpool__family V6 = CPOOL__FAMILY_V6, V4 = CPOOL__FAMILY_V4;

struct fixture {
  cpool_runtime *rt;
  struct cpool__resolver *resolver;
  struct dns_server *server;
  struct cpool__dns_options options;
  char *dir, hosts[256], servers[128];
};

struct asked {
  struct cpool__lookup lookup;
  struct fixture *f;
  const char *name;
  int status, calls;
  unsigned told;
  bool cancel_inside, free_inside;
};

/* ---- the loop, turned by this thread */

struct call {
  struct cpool__msg msg;
  void (*fn)(void *argument);
  void *argument;
  bool done;
};

static void run_call(struct cpool__msg *msg)
{
  struct call *call = cpool__container_of(msg, struct call, msg);
  call->fn(call->argument);
  call->done = true;
}

static void on_loop(struct fixture *f, void (*fn)(void *), void *argument)
{
  struct call call = {.msg.fn = run_call, .fn = fn, .argument = argument};
  cpool__runtime_post(f->rt, &call.msg);
  while (!call.done)
    assert_int_equal(cpool_runtime_step(f->rt, 1000), CPOOL_OK);
}

/* Turns the loop until `holds` or the deadline. */
static bool turn_until(struct fixture *f, bool (*holds)(void *), void *ctx, int64_t timeout_ms)
{
  int64_t end = now_ms() + timeout_ms;
  while (!holds(ctx)) {
    int64_t left = end - now_ms();
    if (left <= 0)
      return false;
    cpool_runtime_step(f->rt, left < 20 ? left : 20);
  }
  return true;
}

/* ---- lookups */

static void free_resolver(void *argument)
{
  struct fixture *f = argument;
  cpool__resolver_free(f->resolver);
  f->resolver = NULL;
}

static void on_told(struct cpool__lookup *lookup)
{
  struct asked *asked = cpool__container_of(lookup, struct asked, lookup);
  asked->calls++;
  asked->told = lookup->told;
  if (asked->cancel_inside)
    cpool__lookup_cancel(lookup);
  if (asked->free_inside)
    free_resolver(asked->f);
}

static void do_ask(void *argument)
{
  struct asked *asked = argument;
  asked->status = cpool__lookup_start(asked->f->resolver, &asked->lookup, asked->name, on_told);
}

static void do_cancel(void *argument)
{
  cpool__lookup_cancel(&((struct asked *) argument)->lookup);
}

static void begin(struct fixture *f, struct asked *asked, const char *name)
{
  memset(asked, 0, sizeof *asked);
  asked->f = f;
  asked->name = name;
  on_loop(f, do_ask, asked);
  assert_int_equal(asked->status, CPOOL_OK);
}

static bool is_over(void *ctx)
{
  return ((struct asked *) ctx)->told == OVER;
}

static void finish(struct fixture *f, struct asked *asked)
{
  assert_true(turn_until(f, is_over, asked, DEADLINE_MS));
  assert_int_equal(asked->calls, 2);
}

/* "status: address address" of one family. */
static const char *answer(struct asked *asked, enum cpool__family family)
{
  static char text[4096];
  const struct cpool__family_answer *found = cpool__lookup_answer(&asked->lookup, family);
  assert_true(found->ended);
  if (found->status != CPOOL_OK) {
    assert_int_equal(found->count, 0);
    return cpool_status_name(found->status);
  }
  text[0] = '\0';
  for (int i = 0; i < found->count; i++) {
    char one[CPOOL__ADDRESS_TEXT];
    cpool__address_host_text(&found->addresses[i], one);
    if (i > 0)
      strcat(text, " ");
    strcat(text, one);
  }
  return text;
}

static void expect(struct fixture *f, const char *name, const char *v4, const char *v6)
{
  struct asked asked;
  begin(f, &asked, name);
  finish(f, &asked);
  assert_string_equal(answer(&asked, V4), v4);
  assert_string_equal(answer(&asked, V6), v6);
  on_loop(f, do_cancel, &asked);
}

static int64_t queries(struct fixture *f, const char *name)
{
  return dns_server_queries(f->server, name, DNS_TYPE_A);
}

/* ---- the fixture */

static void make_resolver(void *argument)
{
  struct fixture *f = argument;
  if (cpool__resolver_new(&f->resolver, f->rt, &f->options) != CPOOL_OK)
    abort();
}

static void renew(struct fixture *f)
{
  on_loop(f, free_resolver, f);
  on_loop(f, make_resolver, f);
}

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  f->server = dns_server_start(NULL, 0);
  assert_non_null(f->server);
  f->dir = temp_dir_new();
  snprintf(f->hosts, sizeof f->hosts, "%s/hosts", f->dir);
  snprintf(f->servers, sizeof f->servers, "127.0.0.1:%u", (unsigned) dns_server_port(f->server));
  f->options = (struct cpool__dns_options){.ttl_max_ms = 300000,
                                           .negative_ttl_ms = 5000,
                                           .timeout_ms = 5000,
                                           .max_entries = 1000,
                                           .servers = f->servers,
                                           .hosts_file = f->hosts};
  cpool_runtime_options options;
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_MANUAL;
  assert_int_equal(cpool_runtime_new(&f->rt, &options), CPOOL_OK);
  on_loop(f, make_resolver, f);
  dns_server_set_addresses(f->server, "a.test", "10.0.0.1 10.0.0.2 fd00::1", 60);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct fixture *f = *state;
  on_loop(f, free_resolver, f);
  assert_int_equal(cpool_runtime_free(f->rt), CPOOL_OK);
  dns_server_stop(f->server);
  temp_dir_free(f->dir);
  free(f);
  return 0;
}

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

struct again {
  struct fixture *f;
  const char *name;
  int64_t count;
};

static bool asked_again(void *ctx)
{
  struct again *again = ctx;
  struct asked asked;
  begin(again->f, &asked, again->name);
  finish(again->f, &asked);
  on_loop(again->f, do_cancel, &asked);
  return queries(again->f, again->name) >= again->count;
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
  assert_in_range(time_until_asked_again(f, "short.test"), 900, 3000);
}

static void shortest_ttl_of_a_cname_chain_counts(void **state)
{
  struct fixture *f = *state;
  dns_server_set(f->server, &(struct dns_rule){.name = "alias.test",
                                               .cname = "b.test c.test",
                                               .cname_ttl_s = 1,
                                               .a = {.addresses = "10.0.0.1", .ttl_s = 3600}});
  assert_in_range(time_until_asked_again(f, "alias.test"), 900, 3000);
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

/* ---- without DNS */

static void hosts_file_comes_before_dns(void **state)
{
  struct fixture *f = *state;
  static const char text[] = "192.0.2.7 a.test b.test\nfd00::7 b.test\n192.0.2.8 b.test\n";
  write_file(f->hosts, text, sizeof text - 1);
  renew(f);
  expect(f, "A.test", "192.0.2.7", "CPOOL_EDNS_NOTFOUND");
  expect(f, "b.test.", "192.0.2.7 192.0.2.8", "fd00::7");
  assert_int_equal(dns_server_queries(f->server, NULL, 0), 0);
  assert_int_equal(cpool__resolver_stats(f->resolver)->hits, 2);
}

static void localhost_is_loopback_unless_the_hosts_file_says_more(void **state)
{
  struct fixture *f = *state;
  dns_server_set_addresses(f->server, "*", "10.6.6.6", 60);
  expect(f, "localhost", "127.0.0.1", "::1");
  expect(f, "LOCALHOST.", "127.0.0.1", "::1");
  expect(f, "x.y.localhost", "127.0.0.1", "::1");
  assert_int_equal(dns_server_queries(f->server, NULL, 0), 0);
  expect(f, "notlocalhost", "10.6.6.6", "CPOOL_EDNS_NOTFOUND");
  write_file(f->hosts, "127.0.0.9 localhost\n", 20);
  renew(f);
  expect(f, "localhost", "127.0.0.9", "CPOOL_EDNS_NOTFOUND");
  expect(f, "x.localhost", "127.0.0.1", "::1");
}

static void malformed_names_are_never_asked_for(void **state)
{
  struct fixture *f = *state;
  char label[65], name[300];
  memset(label, 'a', 64);
  label[64] = '\0';
  memset(name, 'a', sizeof name);
  for (int i = 50; i < 254; i += 50)
    name[i] = '.';
  name[254] = '\0';
  const char *const bad[] = {"",         ".",       "..",   "a..test", ".a.test",       "a.test..", "a b.test",
                             "a\n.test", "a.test/", "a:80", "[::1]",   "\xc3\xa4.test", label,      name};
  dns_server_set_addresses(f->server, "*", "10.0.0.1", 60);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    expect(f, bad[i], "CPOOL_EDNS_NOTFOUND", "CPOOL_EDNS_NOTFOUND");
  assert_int_equal(dns_server_queries(f->server, NULL, 0), 0);
  name[253] = '\0';
  expect(f, name, "10.0.0.1", "CPOOL_EDNS_NOTFOUND");
  expect(f, "_srv.a-b.test", "10.0.0.1", "CPOOL_EDNS_NOTFOUND");
}

/* ---- life */

static void do_bad_servers(void *argument)
{
  struct fixture *f = argument;
  static const char *const bad[] = {"",           ",",           "127.0.0.1,",      "name.test",
                                    "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:5x",
                                    "[::1",       "[::1]53",     "::1:x",           "127.0.0.1 127.0.0.2",
                                    "[127.0.0.1", "1.2.3"};
  struct cpool__dns_options options = f->options;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct cpool__resolver *resolver = NULL;
    options.servers = bad[i];
    if (cpool__resolver_new(&resolver, f->rt, &options) != CPOOL_EINVAL || resolver != NULL)
      support_die("taken: \"%s\"", bad[i]);
  }
  static const char *const good[] = {"127.0.0.1", "127.0.0.1:5353", "::1",
                                     "[::1]",     "[::1]:53",       " 127.0.0.1 , [::1]:5353"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    struct cpool__resolver *resolver = NULL;
    options.servers = good[i];
    if (cpool__resolver_new(&resolver, f->rt, &options) != CPOOL_OK)
      support_die("refused: \"%s\"", good[i]);
    cpool__resolver_free(resolver);
  }
}

static void bad_server_lists_are_refused(void **state)
{
  struct fixture *f = *state;
  on_loop(f, do_bad_servers, f);
  cpool_error error;
  cpool_error_init(&error);
  assert_int_equal(cpool_last_error(&error), CPOOL_OK);
  assert_int_equal(error.status, CPOOL_EINVAL);
  assert_non_null(strstr(error.text, "dns_servers"));
}

static void cancelled_lookup_is_never_told_and_its_answer_is_cached(void **state)
{
  struct fixture *f = *state;
  dns_server_set(f->server, &(struct dns_rule){.name = "slow.test",
                                               .a = {.addresses = "10.0.0.9", .ttl_s = 60, .delay_ms = 50},
                                               .aaaa = {.addresses = "fd00::9", .ttl_s = 60, .delay_ms = 50}});
  struct asked cancelled, other;
  begin(f, &cancelled, "slow.test");
  begin(f, &other, "slow.test");
  on_loop(f, do_cancel, &cancelled);
  on_loop(f, do_cancel, &cancelled);
  finish(f, &other);
  assert_int_equal(cancelled.calls, 0);
  on_loop(f, do_cancel, &other);
  begin(f, &cancelled, "a.test");
  on_loop(f, do_cancel, &cancelled);
  struct again again = {f, "a.test", 1}; /* nobody waited for the first query; its answer serves this one */
  assert_true(asked_again(&again));
  expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  assert_int_equal(queries(f, "a.test"), 1);
}

static bool called(void *ctx)
{
  return ((struct asked *) ctx)->calls > 0;
}

static void lookup_may_be_cancelled_inside_its_first_call(void **state)
{
  struct fixture *f = *state;
  struct asked asked;
  expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1"); /* from the cache both families are due at once */
  asked = (struct asked){.f = f, .name = "a.test", .cancel_inside = true};
  on_loop(f, do_ask, &asked);
  assert_true(turn_until(f, called, &asked, DEADLINE_MS));
  expect(f, "a.test", "10.0.0.1 10.0.0.2", "fd00::1");
  assert_int_equal(asked.calls, 1);
}

static void resolver_may_be_freed_inside_a_call(void **state)
{
  struct fixture *f = *state;
  struct asked asked = {.f = f, .name = "a.test", .cancel_inside = true, .free_inside = true};
  on_loop(f, do_ask, &asked);
  assert_true(turn_until(f, called, &asked, DEADLINE_MS));
  assert_null(f->resolver);
  assert_int_equal(asked.calls, 1);
}

static void resolver_may_be_freed_with_queries_in_flight(void **state)
{
  struct fixture *f = *state;
  int32_t fds = open_fd_count();
  dns_server_set(f->server,
                 &(struct dns_rule){.name = "silent.test", .a.answer = DNS_SILENT, .aaaa.answer = DNS_SILENT});
  struct asked asked;
  begin(f, &asked, "silent.test");
  assert_true(open_fd_count() > fds);
  on_loop(f, do_cancel, &asked);
  on_loop(f, free_resolver, f);
  assert_int_equal(open_fd_count(), fds);
  assert_int_equal(asked.calls, 0);
}

static void answers_outlive_the_cache_for_who_holds_them(void **state)
{
  struct fixture *f = *state;
  struct asked asked;
  begin(f, &asked, "a.test");
  finish(f, &asked);
  on_loop(f, free_resolver, f);
  assert_string_equal(answer(&asked, V4), "10.0.0.1 10.0.0.2");
  on_loop(f, do_cancel, &asked);
}

static void do_configure(void *argument)
{
  struct fixture *f = argument;
  cpool__resolver_configure(f->resolver, &f->options);
}

static void changed_timeout_leaves_queries_in_flight_alone(void **state)
{
  struct fixture *f = *state;
  dns_server_set(f->server, &(struct dns_rule){.name = "slow.test",
                                               .a = {.addresses = "10.0.0.9", .ttl_s = 60, .delay_ms = 200},
                                               .aaaa = {.addresses = "fd00::9", .ttl_s = 60, .delay_ms = 200}});
  dns_server_set(f->server,
                 &(struct dns_rule){.name = "silent.test", .a.answer = DNS_SILENT, .aaaa.answer = DNS_SILENT});
  struct asked slow;
  begin(f, &slow, "slow.test");
  f->options.timeout_ms = 100;
  on_loop(f, do_configure, f);
  int64_t begun = now_ms();
  expect(f, "silent.test", "CPOOL_EDNS_FAILED", "CPOOL_EDNS_FAILED");
  assert_in_range(now_ms() - begun, 0, 3000); /* of 5000 before */
  finish(f, &slow);
  assert_string_equal(answer(&slow, V4), "10.0.0.9");
  on_loop(f, do_cancel, &slow);
}

static void sockets_are_closed_on_exec(void **state)
{
  struct fixture *f = *state;
  enum { FDS = 256 };
  bool before[FDS];
  for (int fd = 0; fd < FDS; fd++)
    before[fd] = fcntl(fd, F_GETFD) >= 0;
  dns_server_set(f->server,
                 &(struct dns_rule){.name = "silent.test", .a.answer = DNS_SILENT, .aaaa.answer = DNS_SILENT});
  struct asked asked;
  begin(f, &asked, "silent.test");
  int found = 0;
  for (int fd = 0; fd < FDS; fd++) {
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0 || before[fd])
      continue;
    found++;
    assert_true((flags & FD_CLOEXEC) != 0);
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  }
  assert_true(found > 0);
  on_loop(f, do_cancel, &asked);
}

static int allocations_left;

static void *failing(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  return allocations_left-- > 0 ? realloc(ptr, size) : NULL;
}

static void short_memory_is_a_status_wherever_it_strikes(void **state)
{
  struct fixture *f = *state;
  int succeeded_at = -1;
  f->options.ttl_max_ms = CPOOL_OFF; /* so that each round does it all */
  for (int round = 0; round < 200 && succeeded_at < 0; round++) {
    renew(f);
    struct asked asked = {.f = f, .name = "a.test"};
    allocations_left = round;
    cpool__memory_hook(failing, NULL);
    on_loop(f, do_ask, &asked);
    bool over = asked.status == CPOOL_OK && turn_until(f, is_over, &asked, DEADLINE_MS);
    bool found = false;
    if (asked.status == CPOOL_OK) {
      int v4 = cpool__lookup_answer(&asked.lookup, V4)->status, v6 = cpool__lookup_answer(&asked.lookup, V6)->status;
      found = v4 == CPOOL_OK && v6 == CPOOL_OK;
      over = over &&
             (found || v4 == CPOOL_ENOMEM || v6 == CPOOL_ENOMEM || v4 == CPOOL_EDNS_FAILED || v6 == CPOOL_EDNS_FAILED);
    } else {
      over = asked.status == CPOOL_ENOMEM;
    }
    on_loop(f, do_cancel, &asked);
    cpool__memory_hook(NULL, NULL);
    assert_true(over);
    if (found)
      succeeded_at = round;
  }
  assert_in_range(succeeded_at, 6, 199);
}

static void dnsmasq_is_understood(void **state)
{
  struct fixture *f = *state;
  static const char *const lines[] = {"host-record=b.test,127.0.0.2,::1,60", "cname=c.test,b.test",
                                      "host-record=only4.test,127.0.0.3", "local=/test/", NULL};
  const struct dnsmasq_options options = {.lines = lines, .local_ttl_s = 60};
  struct process *dnsmasq = dnsmasq_start(&options);
  assert_non_null(dnsmasq);
  snprintf(f->servers, sizeof f->servers, "127.0.0.1:%u", (unsigned) process_port(dnsmasq));
  renew(f);
  expect(f, "b.test", "127.0.0.2", "::1");
  expect(f, "c.test", "127.0.0.2", "::1");
  expect(f, "only4.test", "127.0.0.3", "CPOOL_EDNS_NOTFOUND");
  process_stop(dnsmasq);
  expect(f, "b.test", "127.0.0.2", "::1");
  expect(f, "d.test", "CPOOL_EDNS_FAILED", "CPOOL_EDNS_FAILED");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
      TEST(hosts_file_comes_before_dns),
      TEST(localhost_is_loopback_unless_the_hosts_file_says_more),
      TEST(malformed_names_are_never_asked_for),
      TEST(bad_server_lists_are_refused),
      TEST(cancelled_lookup_is_never_told_and_its_answer_is_cached),
      TEST(lookup_may_be_cancelled_inside_its_first_call),
      TEST(resolver_may_be_freed_inside_a_call),
      TEST(resolver_may_be_freed_with_queries_in_flight),
      TEST(answers_outlive_the_cache_for_who_holds_them),
      TEST(changed_timeout_leaves_queries_in_flight_alone),
      TEST(sockets_are_closed_on_exec),
      TEST(short_memory_is_a_status_wherever_it_strikes),
      TEST(dnsmasq_is_understood),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
