/* test_resolver_life: names that need no server, cancelled lookups, ends in the middle, short memory, and dnsmasq */
#include "resolver_fixture.h"

#include <fcntl.h>

#include "base/memory.h"
#include "support/process.h"

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
    if (cpool__resolver_new(&resolver, f->rt, &options, NULL) != CPOOL_EINVAL || resolver != NULL)
      support_die("taken: \"%s\"", bad[i]);
  }
  static const char *const good[] = {"127.0.0.1", "127.0.0.1:5353", "::1",
                                     "[::1]",     "[::1]:53",       " 127.0.0.1 , [::1]:5353"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    struct cpool__resolver *resolver = NULL;
    options.servers = good[i];
    if (cpool__resolver_new(&resolver, f->rt, &options, NULL) != CPOOL_OK)
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

static void search_domains_together_end_in_time(void **state)
{
  struct fixture *f = *state;
  f->options.timeout_ms = 700;
  f->options.negative_ttl_ms = CPOOL_OFF;
  setenv("LOCALDOMAIN", "x.test y.test", 1); /* resolv.conf's "search" */
  renew(f);
  const struct dns_type_rule none = {.answer = DNS_NXDOMAIN, .delay_ms = 80}; /* of the 100 ms of the first try */
  const struct dns_type_rule late = {.addresses = "10.0.0.1", .ttl_s = 60, .delay_ms = 690};
  const struct dns_type_rule soon = {.delay_ms = 200};
  dns_server_set(f->server, &(struct dns_rule){.name = "n.x.test", .a = none, .aaaa = none});
  dns_server_set(f->server, &(struct dns_rule){.name = "n.y.test", .a = late});
  dns_server_set(f->server, &(struct dns_rule){.name = "after.test", .a = soon, .aaaa = soon});
  struct asked asked;
  begin(f, &asked, "n");
  finish(f, &asked);
  unsetenv("LOCALDOMAIN");
  assert_string_equal(answer(&asked, V4), "CPOOL_EDNS_FAILED");
  assert_int_equal(cpool__lookup_answer(&asked.lookup, V4)->native, 0);  /* not c-ares' own end, which comes later */
  expect(f, "after.test", "CPOOL_EDNS_NOTFOUND", "CPOOL_EDNS_NOTFOUND"); /* the late answer comes meanwhile */
  assert_string_equal(answer(&asked, V4), "CPOOL_EDNS_FAILED");
  on_loop(f, do_cancel, &asked);
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

int main(void)
{
  const struct CMUnitTest tests[] = {
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
      TEST(search_domains_together_end_in_time),
      TEST(sockets_are_closed_on_exec),
      TEST(short_memory_is_a_status_wherever_it_strikes),
      TEST(dnsmasq_is_understood),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
