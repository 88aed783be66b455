/* test_dial: from a name to one socket: the race, its ends, and the books that the owner keeps on it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <cpool.h>

#include "base/list.h"
#include "dns/dial.h"
#include "support/blackhole.h"
#include "support/dns_server.h"
#include "support/wait.h"

enum { DEADLINE_MS = 10000, RACE_MS = 150 };

struct fixture {
  cpool_runtime *rt;
  struct cpool__resolver *resolver;
  struct dns_server *server;
  char *dir, hosts[256], servers[64];
  /* what the owner saw */
  struct cpool__dial dial;
  int opened, closed, done, granted, refused, most_open, places, start_status;
  bool stay_on_loopback; /* whatever the address, no packet leaves this machine */
  uint16_t near_port;    /* bind the near end to it; 0: the kernel's choice */
};

/* ---- the loop, turned by this thread */

struct call {
  struct cpool__msg msg;
  void (*fn)(struct fixture *f);
  struct fixture *f;
  bool done;
};

static void run_call(struct cpool__msg *msg)
{
  struct call *call = cpool__container_of(msg, struct call, msg);
  call->fn(call->f);
  call->done = true;
}

static void on_loop(struct fixture *f, void (*fn)(struct fixture *))
{
  struct call call = {.msg.fn = run_call, .fn = fn, .f = f};
  cpool__runtime_post(f->rt, &call.msg);
  while (!call.done)
    assert_int_equal(cpool_runtime_step(f->rt, 1000), CPOOL_OK);
}

static bool turn_until(struct fixture *f, bool (*holds)(struct fixture *), int64_t timeout_ms)
{
  int64_t end = now_ms() + timeout_ms;
  while (!holds(f)) {
    int64_t left = end - now_ms();
    if (left <= 0)
      return false;
    cpool_runtime_step(f->rt, left < 20 ? left : 20);
  }
  return true;
}

/* ---- the owner */

static struct fixture *fixture_of(struct cpool__dial *dial)
{
  return cpool__container_of(dial, struct fixture, dial);
}

static bool grant(struct cpool__dial *dial)
{
  struct fixture *f = fixture_of(dial);
  bool place = f->opened - f->closed < f->places;
  f->granted += place;
  f->refused += !place;
  return place;
}

static void opened(struct cpool__dial *dial, int fd)
{
  struct fixture *f = fixture_of(dial);
  if (fcntl(fd, F_GETFD) != FD_CLOEXEC)
    support_die("fd %d", fd);
  if (f->stay_on_loopback && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) != 0)
    support_die("SO_BINDTODEVICE: %s", strerror(errno));
  if (f->near_port != 0) {
    struct sockaddr_in near = {.sin_family = AF_INET,
                               .sin_port = htons(f->near_port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *) &near, sizeof near) != 0)
      support_die("bind: %s", strerror(errno));
  }
  f->opened++;
  if (f->opened - f->closed > f->most_open)
    f->most_open = f->opened - f->closed;
}

static void closed(struct cpool__dial *dial, int fd)
{
  if (fcntl(fd, F_GETFD) < 0)
    support_die("fd %d was closed before its report", fd);
  fixture_of(dial)->closed++;
}

static void done(struct cpool__dial *dial)
{
  fixture_of(dial)->done++;
}

static const struct cpool__dial_owner owner = {grant, opened, closed, done};

static bool is_done(struct fixture *f)
{
  return f->done > 0;
}

static void do_start(struct fixture *f)
{
  int before = f->opened + f->done;
  f->start_status = cpool__dial_start(&f->dial);
  if (f->opened + f->done != before)
    support_die("called back from inside start");
}

static void do_cancel(struct fixture *f)
{
  cpool__dial_cancel(&f->dial);
}

static void prepare(struct fixture *f, const char *host, uint16_t port)
{
  f->dial = (struct cpool__dial){.rt = f->rt,
                                 .resolver = f->resolver,
                                 .owner = &owner,
                                 .host = host,
                                 .port = port,
                                 .policy = CPOOL_ADDRESS_ANY,
                                 .race_delay_ms = RACE_MS};
  f->opened = f->closed = f->done = f->granted = f->refused = f->most_open = 0;
}

static void start(struct fixture *f)
{
  on_loop(f, do_start);
  assert_int_equal(f->start_status, CPOOL_OK);
}

static void finish(struct fixture *f)
{
  assert_true(turn_until(f, is_done, DEADLINE_MS));
  assert_int_equal(f->done, 1);
  assert_int_equal(f->opened, f->closed + (f->dial.result.fd >= 0 ? 1 : 0));
  assert_false(cpool__timer_armed(&f->dial.timer));
  assert_null(f->dial.lookup.records[0]);
}

static const char *winner(struct fixture *f)
{
  static char text[CPOOL__ADDRESS_TEXT];
  assert_int_equal(f->dial.result.error.status, CPOOL_OK);
  assert_true(f->dial.result.fd >= 0);
  struct cpool__address peer;
  peer.len = sizeof peer.sock;
  assert_int_equal(getpeername(f->dial.result.fd, &peer.sock.any, &peer.len), 0);
  assert_true(cpool__address_equal(&peer, &f->dial.result.address));
  close(f->dial.result.fd);
  cpool__address_host_text(&f->dial.result.address, text);
  return text;
}

static void expect_error(struct fixture *f, int status, int layer, int native)
{
  assert_int_equal(f->dial.result.fd, -1);
  assert_string_equal(cpool_status_name(f->dial.result.error.status), cpool_status_name(status));
  assert_int_equal(f->dial.result.error.layer, layer);
  if (native >= 0)
    assert_int_equal(f->dial.result.error.native, native);
  assert_true((f->dial.result.error.flags & CPOOL_ERROR_NOTHING_SENT) != 0);
}

/* ---- the fixture */

static void make_resolver(struct fixture *f)
{
  const struct cpool__dns_options options = {.ttl_max_ms = 300000,
                                             .negative_ttl_ms = 5000,
                                             .timeout_ms = 3000,
                                             .max_entries = 100,
                                             .servers = f->servers,
                                             .hosts_file = f->hosts};
  if (cpool__resolver_new(&f->resolver, f->rt, &options) != CPOOL_OK)
    abort();
}

static void free_resolver(struct fixture *f)
{
  cpool__resolver_free(f->resolver);
}

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  f->places = 100;
  f->server = dns_server_start(NULL, 0);
  assert_non_null(f->server);
  f->dir = temp_dir_new();
  snprintf(f->hosts, sizeof f->hosts, "%s/hosts", f->dir);
  snprintf(f->servers, sizeof f->servers, "127.0.0.1:%u", (unsigned) dns_server_port(f->server));
  cpool_runtime_options options;
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_MANUAL;
  assert_int_equal(cpool_runtime_new(&f->rt, &options), CPOOL_OK);
  on_loop(f, make_resolver);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct fixture *f = *state;
  on_loop(f, free_resolver);
  assert_int_equal(cpool_runtime_free(f->rt), CPOOL_OK);
  dns_server_stop(f->server);
  temp_dir_free(f->dir);
  free(f);
  return 0;
}

static int listener(const char *address, uint16_t *port)
{
  int fd = listen_on(address, port, 16);
  assert_true(fd >= 0);
  return fd;
}

static struct blackhole *hole(const char *address, uint16_t port)
{
  struct blackhole *made = blackhole_start(address, port);
  assert_non_null(made);
  return made;
}

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

/* ---- the race */

static void dead_ipv6_costs_one_race_delay(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.1", &port);
  struct blackhole *dead = hole("::1", port);
  dns_server_set_addresses(f->server, "both.test", "127.0.0.1 ::1", 60);
  prepare(f, "both.test", port);
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.1");
  assert_in_range(f->dial.result.connect_us, (RACE_MS - 2) * 1000, 2000000);
  assert_int_equal(f->opened, 2);
  assert_int_equal(f->closed, 1);
  assert_int_equal(f->granted, 1);
  blackhole_stop(dead);
  close(fd);
}

static void refused_address_gives_way_at_once(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.3", &port);
  dns_server_set_addresses(f->server, "three.test", "127.0.0.1 127.0.0.2 127.0.0.3", 60);
  prepare(f, "three.test", port);
  f->dial.race_delay_ms = 60000;
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.3");
  assert_int_equal(f->opened, 3);
  assert_int_equal(f->most_open, 1);
  close(fd);
}

static void late_a_joins_the_race(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.1", &port);
  struct blackhole *dead = hole("::1", port);
  dns_server_set(f->server, &(struct dns_rule){.name = "late.test",
                                               .a = {.addresses = "127.0.0.1", .ttl_s = 60, .delay_ms = 2 * RACE_MS},
                                               .aaaa = {.addresses = "::1", .ttl_s = 60}});
  prepare(f, "late.test", port);
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.1");
  assert_int_equal(f->opened, 2);
  assert_in_range(f->dial.result.connect_us, RACE_MS * 1000, 3000000);
  blackhole_stop(dead);
  close(fd);
}

static void only_four_sockets_race_at_a_time(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.7", &port);
  struct blackhole *dead[6];
  for (int i = 0; i < 6; i++) {
    char address[32];
    snprintf(address, sizeof address, "127.0.0.%d", i + 1);
    dead[i] = hole(address, port);
  }
  dns_server_set_addresses(f->server, "seven.test",
                           "127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.4 127.0.0.5 127.0.0.6 127.0.0.7", 60);
  prepare(f, "seven.test", port);
  f->dial.race_delay_ms = 20;
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.7");
  assert_int_equal(f->opened, 7);
  assert_int_equal(f->most_open, CPOOL__DIAL_RACE);
  for (int i = 0; i < 6; i++)
    blackhole_stop(dead[i]);
  close(fd);
}

static void without_a_place_the_oldest_attempt_is_given_up(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.2", &port);
  struct blackhole *dead = hole("127.0.0.1", port);
  dns_server_set_addresses(f->server, "two.test", "127.0.0.1 127.0.0.2", 60);
  prepare(f, "two.test", port);
  f->places = 1;
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.2");
  assert_int_equal(f->most_open, 1);
  assert_int_equal(f->refused, 1);
  blackhole_stop(dead);
  close(fd);
}

static bool opened_three(struct fixture *f)
{
  return f->opened == 3;
}

static void given_up_address_is_tried_again_when_all_others_failed(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  struct blackhole *dead = hole("127.0.0.1", port);
  port = blackhole_port(dead);
  dns_server_set_addresses(f->server, "two.test", "127.0.0.1 127.0.0.2", 60); /* the second refuses */
  prepare(f, "two.test", port);
  f->places = 1;
  start(f);
  assert_true(turn_until(f, opened_three, DEADLINE_MS));
  assert_int_equal(f->opened - f->closed, 1);
  assert_int_equal(f->done, 0);
  on_loop(f, do_cancel);
  assert_int_equal(f->opened, f->closed);
  blackhole_stop(dead);
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

static bool opened_one(struct fixture *f)
{
  return f->opened > 0;
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
  f->near_port =
      unused_port(); /* far and near end alike: the kernel connects it to itself (RFC 9293 section 3.5, simultaneous open) */
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
  assert_int_equal(all_opened, 100);
  assert_int_equal(open_fd_count(), fds);
  close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(literal_is_dialled_without_dns),
      TEST(ipv6_is_preferred_unless_it_was_found_dead),
      TEST(silent_aaaa_costs_little_patience),
      TEST(missing_aaaa_costs_no_patience),
      TEST(dead_ipv6_costs_one_race_delay),
      TEST(refused_address_gives_way_at_once),
      TEST(late_a_joins_the_race),
      TEST(only_four_sockets_race_at_a_time),
      TEST(without_a_place_the_oldest_attempt_is_given_up),
      TEST(given_up_address_is_tried_again_when_all_others_failed),
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
