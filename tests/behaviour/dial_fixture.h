/* dial_fixture: a dial on a loop that the test turns itself, and an owner that keeps books on its sockets */
#ifndef CPOOL_BEHAVIOUR_DIAL_FIXTURE_H
#define CPOOL_BEHAVIOUR_DIAL_FIXTURE_H

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

static inline void run_call(struct cpool__msg *msg)
{
  struct call *call = cpool__container_of(msg, struct call, msg);
  call->fn(call->f);
  call->done = true;
}

static inline void on_loop(struct fixture *f, void (*fn)(struct fixture *))
{
  struct call call = {.msg.fn = run_call, .fn = fn, .f = f};
  cpool__runtime_post(f->rt, &call.msg);
  while (!call.done)
    assert_int_equal(cpool_runtime_step(f->rt, 1000), CPOOL_OK);
}

static inline bool turn_until(struct fixture *f, bool (*holds)(struct fixture *), int64_t timeout_ms)
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

static inline struct fixture *fixture_of(struct cpool__dial *dial)
{
  return cpool__container_of(dial, struct fixture, dial);
}

static inline bool grant(struct cpool__dial *dial)
{
  struct fixture *f = fixture_of(dial);
  bool place = f->opened - f->closed < f->places;
  f->granted += place;
  f->refused += !place;
  return place;
}

static inline void opened(struct cpool__dial *dial, int fd)
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

static inline void closed(struct cpool__dial *dial, int fd)
{
  if (fcntl(fd, F_GETFD) < 0)
    support_die("fd %d was closed before its report", fd);
  fixture_of(dial)->closed++;
}

static inline void done(struct cpool__dial *dial)
{
  fixture_of(dial)->done++;
}

static const struct cpool__dial_owner owner = {grant, opened, closed, done};

static inline bool is_done(struct fixture *f)
{
  return f->done > 0;
}

static inline bool opened_one(struct fixture *f)
{
  return f->opened > 0;
}

static inline void do_start(struct fixture *f)
{
  int before = f->opened + f->done;
  f->start_status = cpool__dial_start(&f->dial);
  if (f->opened + f->done != before)
    support_die("called back from inside start");
}

static inline void do_cancel(struct fixture *f)
{
  cpool__dial_cancel(&f->dial);
}

static inline void prepare(struct fixture *f, const char *host, uint16_t port)
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

static inline void start(struct fixture *f)
{
  on_loop(f, do_start);
  assert_int_equal(f->start_status, CPOOL_OK);
}

static inline void finish(struct fixture *f)
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

static inline void expect_error(struct fixture *f, int status, int layer, int native)
{
  assert_int_equal(f->dial.result.fd, -1);
  assert_string_equal(cpool_status_name(f->dial.result.error.status), cpool_status_name(status));
  assert_int_equal(f->dial.result.error.layer, layer);
  if (native >= 0)
    assert_int_equal(f->dial.result.error.native, native);
  assert_true((f->dial.result.error.flags & CPOOL_ERROR_NOTHING_SENT) != 0);
}

/* ---- the fixture */

static inline void make_resolver(struct fixture *f)
{
  const struct cpool__dns_options options = {.ttl_max_ms = 300000,
                                             .negative_ttl_ms = 5000,
                                             .timeout_ms = 3000,
                                             .max_entries = 100,
                                             .servers = f->servers,
                                             .hosts_file = f->hosts};
  if (cpool__resolver_new(&f->resolver, f->rt, &options, NULL) != CPOOL_OK)
    abort();
}

static inline void free_resolver(struct fixture *f)
{
  cpool__resolver_free(f->resolver);
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
  struct fixture *f = *state;
  on_loop(f, free_resolver);
  assert_int_equal(cpool_runtime_free(f->rt), CPOOL_OK);
  dns_server_stop(f->server);
  temp_dir_free(f->dir);
  free(f);
  return 0;
}

static inline int listener(const char *address, uint16_t *port)
{
  int fd = listen_on(address, port, 16);
  assert_true(fd >= 0);
  return fd;
}

static inline struct blackhole *hole(const char *address, uint16_t port)
{
  struct blackhole *made = blackhole_start(address, port);
  assert_non_null(made);
  return made;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
