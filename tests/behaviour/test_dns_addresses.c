/* dns_addresses: which addresses of a host get connections, and what becomes of those whose address has left the answer
 *
 * 127.0.0.9 counts as public in this program: what leaves the machine is no matter for a test. */
#include "dns_fixture.h"

#include <arpa/inet.h>

#include "dns/address.h"

bool __real_cpool__address_public(const struct cpool__address *address);
bool __wrap_cpool__address_public(const struct cpool__address *address);
bool __wrap_cpool__address_public(const struct cpool__address *address)
{
  return __real_cpool__address_public(address) ||
         (address->sock.any.sa_family == AF_INET && address->sock.v4.sin_addr.s_addr == htonl(0x7f000009));
}

/* A pool whose answers live for so long at most. */
static void reopen(struct peer *f, int64_t ttl_ms, int32_t policy)
{
  cpool_http_options options = options_of(f);
  options.ttl_dns_cache_ms = ttl_ms;
  options.address_policy = policy;
  options.max_connections_per_host = 40;
  peer_close_pool(f);
  peer_open_pool(f, &options);
}

static struct fault_server *serve_at(const char *address, uint16_t port)
{
  struct fault_server *server = fault_server_start(&(struct fault_options){.address = address, .port = port});
  assert_non_null(server);
  return server;
}

struct wish {
  struct peer *f;
  uint64_t closed_address;
  int64_t queries;
};

static bool has_closed(void *ctx)
{
  struct wish *wish = ctx;
  return peer_stats(wish->f).closed_address == wish->closed_address;
}

/* The snapshot may be a turn older than the answer. */
static bool one_was_reused(void *ctx)
{
  return peer_stats(ctx).reused == 1;
}

static bool has_asked(void *ctx)
{
  struct wish *wish = ctx;
  return dns_server_queries(dns_of(wish->f), "host.test", DNS_TYPE_A) >= wish->queries;
}

struct held_wish {
  struct fault_server *server;
  int64_t count;
};

static bool holds(void *ctx)
{
  struct held_wish *wish = ctx;
  struct fault_counts counts;
  fault_server_counts(wish->server, &counts);
  return counts.held == wish->count;
}

static void start_held(struct peer *f)
{
  (void) peer_start(f, &(struct ask){.url = peer_text(f, "http://host.test:%u/hold", fault_server_port(f->server))});
}

static bool two_are_idle(void *ctx)
{
  return peer_stats(ctx).idle_connections == 2;
}

static void get_ok(struct peer *f, const char *host)
{
  peer_is(peer_get(f, url_of(f, host)), CPOOL_OK);
}

/* ---- addresses that leave */

static void idle_connections_of_an_address_that_left_go(void **state)
{
  struct peer *f = *state;
  reopen(f, 1000, CPOOL_ADDRESS_ANY);
  dns_server_set_addresses(dns_of(f), "host.test", "127.0.0.1", 1);
  dns_server_set_addresses(dns_of(f), "other.test", "127.0.0.1", 1);
  get_ok(f, "host.test");
  get_ok(f, "other.test");
  assert_true(wait_until(two_are_idle, f, PEER_DEADLINE_MS));
  dns_server_set_addresses(dns_of(f), "host.test", "127.0.0.2 127.0.0.3", 1);
  assert_true(
      wait_until(has_closed, &(struct wish){.f = f, .closed_address = 1}, PEER_DEADLINE_MS)); /* nobody asked for it */
  assert_int_equal(peer_stats(f).idle_connections, 1);
  assert_int_equal(peer_stats(f).total_connections, 1);
  get_ok(f, "other.test");
  assert_true(wait_until(one_was_reused, f, PEER_DEADLINE_MS));
}

static void a_connection_in_use_goes_with_its_request(void **state)
{
  struct peer *f = *state;
  reopen(f, 1000, CPOOL_ADDRESS_ANY);
  dns_server_set_addresses(dns_of(f), "host.test", "127.0.0.1", 1);
  start_held(f);
  assert_true(wait_until(holds, &(struct held_wish){f->server, 1}, PEER_DEADLINE_MS));
  int64_t asked = dns_server_queries(dns_of(f), "host.test", DNS_TYPE_A);
  dns_server_set_addresses(dns_of(f), "host.test", "127.0.0.2", 1);
  assert_true(wait_until(has_asked, &(struct wish){.f = f, .queries = asked + 1}, PEER_DEADLINE_MS));
  assert_int_equal(peer_stats(f).closed_address, 0);
  fault_server_release(f->server, 1);
  peer_is(peer_next(f), CPOOL_OK);
  assert_true(wait_until(has_closed, &(struct wish){.f = f, .closed_address = 1}, PEER_DEADLINE_MS));
  assert_int_equal(peer_stats(f).total_connections, 0);
}

/* Each answer has another one of three: what has left comes back, and is kept from then on. */
static void addresses_that_take_turns_are_kept(void **state)
{
  static const char *const turns[] = {"127.0.0.1", "127.0.0.2", "127.0.0.3"};
  struct peer *f = *state;
  uint16_t port = fault_server_port(f->server);
  struct fault_server *others[] = {serve_at("127.0.0.2", port), serve_at("127.0.0.3", port)};
  reopen(f, 1000, CPOOL_ADDRESS_ANY);
  uint64_t closed = 0;
  for (int turn = 0; turn < 6; turn++) {
    dns_server_set_addresses(dns_of(f), "host.test", turns[turn % 3], 1);
    int64_t asked = dns_server_queries(dns_of(f), "host.test", DNS_TYPE_A);
    do /* a connection has to be open, or nobody asks */
      get_ok(f, "host.test");
    while (!wait_until(has_asked, &(struct wish){.f = f, .queries = asked + 1}, 50));
    if (turn == 3)
      closed = peer_stats(f).closed_address;
  }
  assert_in_range(closed, 1, 3);
  assert_int_equal(peer_stats(f).closed_address, closed);
  for (int i = 0; i < 2; i++)
    fault_server_stop(others[i]);
}

static void name_servers_that_fail_end_nothing(void **state)
{
  struct peer *f = *state;
  reopen(f, 1000, CPOOL_ADDRESS_ANY);
  dns_server_set_addresses(dns_of(f), "host.test", "127.0.0.1", 1);
  get_ok(f, "host.test");
  int64_t asked = dns_server_queries(dns_of(f), "host.test", DNS_TYPE_A);
  dns_server_set(dns_of(f), &(struct dns_rule){.name = "host.test",
                                               .a = {.answer = DNS_SERVFAIL},
                                               .aaaa = {.answer = DNS_SERVFAIL}});
  assert_true(wait_until(has_asked, &(struct wish){.f = f, .queries = asked + 1}, PEER_DEADLINE_MS));
  get_ok(f, "host.test");
  assert_true(wait_until(one_was_reused, f, PEER_DEADLINE_MS));
  assert_int_equal(peer_stats(f).closed_address, 0);
}

/* ---- which address is next */

static void connections_are_spread_over_all_addresses(void **state)
{
  enum { ADDRESSES = 4, EACH = 5 };
  static const char *const addresses[] = {"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"};
  struct peer *f = *state;
  uint16_t port = fault_server_port(f->server);
  struct fault_server *servers[ADDRESSES] = {f->server};
  reopen(f, 60000, CPOOL_ADDRESS_ANY);
  for (int i = 1; i < ADDRESSES; i++)
    servers[i] = serve_at(addresses[i], port);
  dns_server_set_addresses(dns_of(f), "host.test", "127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.4", 60);
  for (int i = 0; i < ADDRESSES * EACH; i++)
    start_held(f);
  for (int i = 0; i < ADDRESSES; i++) {
    struct held_wish wish = {servers[i], EACH};
    assert_true(wait_until(holds, &wish, PEER_DEADLINE_MS));
  }
  for (int i = 0; i < ADDRESSES; i++)
    fault_server_release(servers[i], EACH);
  for (int i = 0; i < ADDRESSES * EACH; i++)
    peer_is(peer_next(f), CPOOL_OK);
  for (int i = 1; i < ADDRESSES; i++)
    fault_server_stop(servers[i]);
}

/* Refused at once, and then not tried again for a while: new connections go to the other one alone. */
static void an_address_that_failed_is_tried_last(void **state)
{
  struct peer *f = *state;
  uint16_t port = fault_server_port(f->server);
  reopen(f, 60000, CPOOL_ADDRESS_ANY);
  dns_server_set_addresses(dns_of(f), "host.test", "127.0.0.2 127.0.0.1", 60); /* nobody listens at the first */
  for (int i = 0; i < 5; i++)
    peer_is(peer_get(f, peer_text(f, "http://host.test:%u/close", port)), CPOOL_OK);
  assert_int_equal(peer_stats(f).closed_dial, 1);
  assert_int_equal(peer_stats(f).opened, 6);
}

/* ---- policy `public` */

static void answers_that_alternate_lead_to_public_addresses_only(void **state)
{
  struct peer *f = *state;
  uint16_t port = fault_server_port(f->server);
  struct fault_server *outside = serve_at("127.0.0.9", port);
  reopen(f, CPOOL_OFF, CPOOL_ADDRESS_PUBLIC); /* each request asks anew */
  for (int i = 0; i < 6; i++) {
    bool inside = i % 2 == 1;
    dns_server_set_addresses(dns_of(f), "host.test", inside ? "127.0.0.1" : "127.0.0.9", 0);
    struct answer answer = peer_get(f, peer_text(f, "http://host.test:%u/close", port));
    peer_is(answer, inside ? CPOOL_EADDRESS : CPOOL_OK);
  }
  struct fault_counts counts;
  fault_server_counts(f->server, &counts);
  assert_int_equal(counts.accepted, 0);
  fault_server_stop(outside);
}

static void of_a_mixed_answer_public_addresses_only_are_dialled(void **state)
{
  struct peer *f = *state;
  uint16_t port = fault_server_port(f->server);
  struct fault_server *outside = serve_at("127.0.0.9", port);
  reopen(f, 60000, CPOOL_ADDRESS_PUBLIC);
  dns_server_set_addresses(dns_of(f), "mixed.test", "127.0.0.1 10.0.0.1 127.0.0.9 ::1 fe80::1", 60);
  dns_server_set_addresses(dns_of(f), "inside.test", "127.0.0.1 10.0.0.1 169.254.169.254 ::1", 60);
  for (int i = 0; i < 4; i++)
    peer_is(peer_get(f, peer_text(f, "http://mixed.test:%u/close", port)), CPOOL_OK);
  peer_is(peer_get(f, peer_text(f, "http://inside.test:%u/close", port)), CPOOL_EADDRESS);
  fault_server_stop(outside); /* the public one is gone: the others are no way out */
  peer_is(peer_get(f, peer_text(f, "http://mixed.test:%u/close", port)), CPOOL_ECONNECT);
  struct fault_counts counts;
  fault_server_counts(f->server, &counts);
  assert_int_equal(counts.accepted, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      dns_case(idle_connections_of_an_address_that_left_go),
      dns_case(a_connection_in_use_goes_with_its_request),
      dns_case(addresses_that_take_turns_are_kept),
      dns_case(name_servers_that_fail_end_nothing),
      dns_case(connections_are_spread_over_all_addresses),
      dns_case(an_address_that_failed_is_tried_last),
      dns_case(answers_that_alternate_lead_to_public_addresses_only),
      dns_case(of_a_mixed_answer_public_addresses_only_are_dialled),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
