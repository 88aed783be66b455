/* resolver_fixture: a resolver on a loop that the test turns itself, a scripted name server, and lookups as one line */
#ifndef CPOOL_BEHAVIOUR_RESOLVER_FIXTURE_H
#define CPOOL_BEHAVIOUR_RESOLVER_FIXTURE_H

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

#include "dns/resolver.h"
#include "support/dns_server.h"
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

static inline void run_call(struct cpool__msg *msg)
{
  struct call *call = cpool__container_of(msg, struct call, msg);
  call->fn(call->argument);
  call->done = true;
}

static inline void on_loop(struct fixture *f, void (*fn)(void *), void *argument)
{
  struct call call = {.msg.fn = run_call, .fn = fn, .argument = argument};
  cpool__runtime_post(f->rt, &call.msg);
  while (!call.done)
    assert_int_equal(cpool_runtime_step(f->rt, 1000), CPOOL_OK);
}

/* Turns the loop until `holds` or the deadline. */
static inline bool turn_until(struct fixture *f, bool (*holds)(void *), void *ctx, int64_t timeout_ms)
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

static inline void free_resolver(void *argument)
{
  struct fixture *f = argument;
  cpool__resolver_free(f->resolver);
  f->resolver = NULL;
}

static inline void on_told(struct cpool__lookup *lookup)
{
  struct asked *asked = cpool__container_of(lookup, struct asked, lookup);
  asked->calls++;
  asked->told = lookup->told;
  if (asked->cancel_inside)
    cpool__lookup_cancel(lookup);
  if (asked->free_inside)
    free_resolver(asked->f);
}

static inline void do_ask(void *argument)
{
  struct asked *asked = argument;
  asked->status = cpool__lookup_start(asked->f->resolver, &asked->lookup, asked->name, on_told);
}

static inline void do_cancel(void *argument)
{
  cpool__lookup_cancel(&((struct asked *) argument)->lookup);
}

static inline void begin(struct fixture *f, struct asked *asked, const char *name)
{
  memset(asked, 0, sizeof *asked);
  asked->f = f;
  asked->name = name;
  on_loop(f, do_ask, asked);
  assert_int_equal(asked->status, CPOOL_OK);
}

static inline bool is_over(void *ctx)
{
  return ((struct asked *) ctx)->told == OVER;
}

static inline void finish(struct fixture *f, struct asked *asked)
{
  assert_true(turn_until(f, is_over, asked, DEADLINE_MS));
  assert_int_equal(asked->calls, 2);
}

/* "status: address address" of one family. */
static inline const char *answer(struct asked *asked, enum cpool__family family)
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

static inline void expect(struct fixture *f, const char *name, const char *v4, const char *v6)
{
  struct asked asked;
  begin(f, &asked, name);
  finish(f, &asked);
  assert_string_equal(answer(&asked, V4), v4);
  assert_string_equal(answer(&asked, V6), v6);
  on_loop(f, do_cancel, &asked);
}

static inline int64_t queries(struct fixture *f, const char *name)
{
  return dns_server_queries(f->server, name, DNS_TYPE_A);
}

/* ---- the fixture */

static inline void make_resolver(void *argument)
{
  struct fixture *f = argument;
  if (cpool__resolver_new(&f->resolver, f->rt, &f->options, NULL) != CPOOL_OK)
    abort();
}

static inline void renew(struct fixture *f)
{
  on_loop(f, free_resolver, f);
  on_loop(f, make_resolver, f);
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
  struct fixture *f = *state;
  on_loop(f, free_resolver, f);
  assert_int_equal(cpool_runtime_free(f->rt), CPOOL_OK);
  dns_server_stop(f->server);
  temp_dir_free(f->dir);
  free(f);
  return 0;
}

/* ---- asking on and on */

struct again {
  struct fixture *f;
  const char *name;
  int64_t count;
};

/* Asks once more; true when the server has heard of it `count` times. */
static inline bool asked_again(void *ctx)
{
  struct again *again = ctx;
  struct asked asked;
  begin(again->f, &asked, again->name);
  finish(again->f, &asked);
  on_loop(again->f, do_cancel, &asked);
  return queries(again->f, again->name) >= again->count;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
