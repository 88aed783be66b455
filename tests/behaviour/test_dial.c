/* test_dial: from a name to one socket: the straight way, every failure, cancel, and the books that must balance */
#include "dial_fixture.h"

/* ---- the straight way */

static void literal_is_dialled_without_dns(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.1", &port), six = listener("::1", &port);
  prepare(f, "127.0.0.1", port);
  start(f);
  finish(f);
  int on = 0;
  socklen_t len = sizeof on;
  assert_int_equal(getsockopt(f->dial.result.fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
  assert_int_equal(on, 1);
  assert_true((fcntl(f->dial.result.fd, F_GETFL) & O_NONBLOCK) != 0);
  assert_string_equal(winner(f), "127.0.0.1");
  assert_int_equal(f->dial.result.dns_us, 0);
  assert_true(f->dial.result.connect_us > 0);
  prepare(f, "::1", port);
  start(f);
  finish(f);
  assert_string_equal(winner(f), "::1");
  assert_int_equal(dns_server_queries(f->server, NULL, 0), 0);
  close(fd);
  close(six);
}

static void ipv6_is_preferred_unless_it_was_found_dead(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.1", &port), six = listener("::1", &port);
  dns_server_set_addresses(f->server, "both.test", "127.0.0.1 ::1", 60);
  for (int i = 0; i < 2; i++) {
    prepare(f, "both.test", port);
    start(f);
    finish(f);
    assert_string_equal(winner(f), "::1");
    assert_int_equal(f->opened, 1);
  }
  prepare(f, "both.test", port);
  f->dial.prefer_family = AF_INET;
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.1");
  assert_int_equal(f->opened, 1);
  close(fd);
  close(six);
}

static void silent_aaaa_costs_little_patience(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.1", &port);
  dns_server_set(f->server, &(struct dns_rule){.name = "half.test",
                                               .a = {.addresses = "127.0.0.1", .ttl_s = 60},
                                               .aaaa.answer = DNS_SILENT});
  prepare(f, "half.test", port);
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.1");
  assert_in_range(f->dial.result.dns_us, CPOOL__DIAL_V6_PATIENCE_MS * 1000 - 2000, 1500000);
  close(fd);
}

static void missing_aaaa_costs_no_patience(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.1", &port);
  int64_t best_us = INT64_MAX;
  for (int i = 0; i < 10; i++) { /* a busy machine may be slow, but not every time */
    char name[32];
    snprintf(name, sizeof name, "four%d.test", i);
    dns_server_set_addresses(f->server, name, "127.0.0.1", 60);
    prepare(f, name, port);
    start(f);
    finish(f);
    assert_string_equal(winner(f), "127.0.0.1");
    if (f->dial.result.dns_us < best_us)
      best_us = f->dial.result.dns_us;
  }
  assert_in_range(best_us, 0, (CPOOL__DIAL_V6_PATIENCE_MS - 10) * 1000);
  close(fd);
}

/* ---- failures */

static void all_refused_says_how_many_and_why(void **state)
{
  struct fixture *f = *state;
  uint16_t port;
  int fd = refusing_port_open(&port);
  dns_server_set_addresses(f->server, "two.test", "127.0.0.1 127.0.0.2", 60);
  char text[128];
  prepare(f, "two.test", port);
  start(f);
  finish(f);
  expect_error(f, CPOOL_ECONNECT, CPOOL_LAYER_CONNECT, ECONNREFUSED);
  snprintf(text, sizeof text, "two.test:%u: connection refused (127.0.0.2:%u, last of 2 addresses)", (unsigned) port,
           (unsigned) port);
  assert_string_equal(f->dial.result.error.text, text);
  prepare(f, "127.0.0.1", port);
  start(f);
  finish(f);
  expect_error(f, CPOOL_ECONNECT, CPOOL_LAYER_CONNECT, ECONNREFUSED);
  snprintf(text, sizeof text, "127.0.0.1:%u: connection refused (127.0.0.1:%u)", (unsigned) port, (unsigned) port);
  assert_string_equal(f->dial.result.error.text, text);
  close(fd);
}

static void dns_failures_are_told_apart(void **state)
{
  struct fixture *f = *state;
  prepare(f, "none.test", 80);
  start(f);
  finish(f);
  expect_error(f, CPOOL_EDNS_NOTFOUND, CPOOL_LAYER_DNS, -1);
  assert_int_equal(f->opened, 0);
  assert_non_null(strstr(f->dial.result.error.text, "none.test"));
  dns_server_set(f->server, &(struct dns_rule){.name = "bad.test", .aaaa.answer = DNS_SERVFAIL});
  prepare(f, "bad.test", 80);
  start(f);
  finish(f);
  expect_error(f, CPOOL_EDNS_FAILED, CPOOL_LAYER_DNS, -1);
  assert_int_equal(f->dial.result.connect_us, 0);
}

static void public_policy_refuses_names_that_point_inside(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.1", &port);
  dns_server_set_addresses(f->server, "rebind.test", "127.0.0.1 10.0.0.1 169.254.169.254 ::1 ::ffff:127.0.0.1", 60);
  static const char *const hosts[] = {"rebind.test", "localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1"};
  for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
    prepare(f, hosts[i], port);
    f->dial.policy = CPOOL_ADDRESS_PUBLIC;
    start(f);
    finish(f);
    expect_error(f, CPOOL_EADDRESS, CPOOL_LAYER_CONNECT, -1);
    assert_int_equal(f->opened, 0);
  }
  close(fd);
}

static void forbidden_addresses_are_skipped_when_there_are_others(void **state)
{
  struct fixture *f = *state;
  dns_server_set_addresses(f->server, "mixed.test", "127.0.0.1 1.2.3.4 ::1", 60);
  prepare(f, "mixed.test", 9);
  f->stay_on_loopback = true;
  f->dial.policy = CPOOL_ADDRESS_PUBLIC;
  start(f);
  assert_true(turn_until(f, opened_one, DEADLINE_MS));
  if (f->done == 0) {
    char text[CPOOL__ADDRESS_TEXT];
    for (int i = 0; i < CPOOL__DIAL_RACE; i++)
      if (f->dial.attempts[i].fd >= 0) {
        cpool__address_host_text(&f->dial.attempts[i].address, text);
        assert_string_equal(text, "1.2.3.4");
      }
    on_loop(f, do_cancel);
  } else { /* refused on the spot */
    expect_error(f, CPOOL_ECONNECT, CPOOL_LAYER_CONNECT, -1);
    assert_non_null(strstr(f->dial.result.error.text, "1.2.3.4:9"));
  }
  assert_int_equal(f->opened, 1);
  assert_int_equal(f->closed, 1);
}

static void no_descriptor_left_is_a_system_error(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.1", &port);
  dns_server_set_addresses(f->server, "a.test", "127.0.0.1 127.0.0.2", 60);
  struct rlimit before, none;
  prepare(f, "a.test", port); /* into the cache first: name servers need descriptors too */
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.1");

  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  none = before;
  int lowest = dup(0);
  assert_true(lowest >= 0);
  close(lowest);
  none.rlim_cur = (rlim_t) lowest;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  prepare(f, "a.test", port);
  on_loop(f, do_start);
  bool over = turn_until(f, is_done, DEADLINE_MS);
  setrlimit(RLIMIT_NOFILE, &before);
  assert_true(over);
  expect_error(f, CPOOL_ESYSTEM, CPOOL_LAYER_SYSTEM, EMFILE);
  assert_int_equal(f->opened, 0);
  assert_int_equal(f->closed, 0);

  prepare(f, "a.test", port);
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.1");
  close(fd);
}

static void socket_connected_to_itself_is_refused(void **state)
{
  struct fixture *f = *state;
  f->near_port = unused_port(); /* both ends alike: a simultaneous open with itself (RFC 9293 section 3.5) */
  prepare(f, "127.0.0.1", f->near_port);
  start(f);
  finish(f);
  expect_error(f, CPOOL_ECONNECT, CPOOL_LAYER_CONNECT, ECONNREFUSED);
}

/* ---- cancel */

static void cancel_leaves_nothing_behind_in_any_state(void **state)
{
  struct fixture *f = *state;
  struct blackhole *dead = hole("127.0.0.1", 0), *dead6 = hole("::1", blackhole_port(dead));
  dns_server_set_addresses(f->server, "hole.test", "127.0.0.1 ::1", 60);
  dns_server_set(f->server,
                 &(struct dns_rule){.name = "silent.test", .a.answer = DNS_SILENT, .aaaa.answer = DNS_SILENT});
  dns_server_set(f->server, &(struct dns_rule){.name = "half.test",
                                               .a = {.addresses = "127.0.0.1", .ttl_s = 60},
                                               .aaaa.answer = DNS_SILENT});
  static const char *const hosts[] = {"127.0.0.1", "hole.test", "silent.test", "half.test"};
  int32_t fds = 0;
  for (int round = 0; round < 2; round++) { /* the first one opens the name server's socket */
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
      for (int steps = 0; steps < 60; steps = steps * 2 + 1) {
        prepare(f, hosts[i], blackhole_port(dead));
        f->dial.race_delay_ms = 10;
        start(f);
        for (int k = 0; k < steps; k++)
          cpool_runtime_step(f->rt, 2);
        on_loop(f, do_cancel);
        on_loop(f, do_cancel);
        assert_int_equal(f->opened, f->closed);
        assert_int_equal(f->done, 0);
        assert_false(cpool__timer_armed(&f->dial.timer));
        cpool_runtime_step(f->rt, 0);
        assert_int_equal(f->done, 0);
      }
    }
    if (round == 0)
      fds = open_fd_count();
  }
  assert_int_equal(open_fd_count(), fds);
  blackhole_stop(dead);
  blackhole_stop(dead6);
}

static void books_balance_over_many_dials(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.2", &port);
  dns_server_set_addresses(f->server, "two.test", "127.0.0.1 127.0.0.2", 60);
  int all_opened = 0, all_closed = 0, handed_over = 0;
  int32_t fds = 0;
  for (int i = 0; i < 50; i++) {
    prepare(f, "two.test", port);
    start(f);
    finish(f);
    assert_string_equal(winner(f), "127.0.0.2");
    all_opened += f->opened;
    all_closed += f->closed;
    handed_over++;
    int peer = accept(fd, NULL, NULL);
    if (peer >= 0)
      close(peer);
    if (i == 0)
      fds = open_fd_count();
  }
  assert_int_equal(all_opened, all_closed + handed_over);
  assert_int_equal(all_opened, 51); /* the one that refused is not tried again so soon */
  assert_int_equal(open_fd_count(), fds);
  close(fd);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(literal_is_dialled_without_dns),
      TEST(ipv6_is_preferred_unless_it_was_found_dead),
      TEST(silent_aaaa_costs_little_patience),
      TEST(missing_aaaa_costs_no_patience),
      TEST(all_refused_says_how_many_and_why),
      TEST(dns_failures_are_told_apart),
      TEST(public_policy_refuses_names_that_point_inside),
      TEST(forbidden_addresses_are_skipped_when_there_are_others),
      TEST(no_descriptor_left_is_a_system_error),
      TEST(socket_connected_to_itself_is_refused),
      TEST(cancel_leaves_nothing_behind_in_any_state),
      TEST(books_balance_over_many_dials),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
