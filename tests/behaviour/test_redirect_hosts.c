/* redirect_hosts: each redirect is a new request to its host: admission, addresses, time, repeats, ends in between */
#include "redirect_fixture.h"

#include <unistd.h>

#include "dns/address.h"
#include "support/blackhole.h"
#include "support/dns_server.h"

enum { SHORT_MS = 300, READ_MS = 3000, STEP_MS = 1100 };

/* 127.0.0.2 counts as public in this program: what leaves the machine is no matter for a test. */
bool __real_cpool__address_public(const struct cpool__address *address);
bool __wrap_cpool__address_public(const struct cpool__address *address);
bool __wrap_cpool__address_public(const struct cpool__address *address)
{
  return __real_cpool__address_public(address) ||
         (address->sock.any.sa_family == AF_INET && address->sock.v4.sin_addr.s_addr == htonl(0x7f000002));
}

static void open_with(struct pool_fixture *f, int32_t per_host, int32_t total, int32_t max_origins)
{
  cpool_http_options options = pool_options();
  options.max_connections_per_host = per_host;
  options.max_connections = total;
  options.max_origins = max_origins;
  open_pool(f, &options);
}

static cpool_op ask_host(struct pool_fixture *f, int host, const char *path)
{
  cpool_request req = request_to(f, on_host(f, host, path));
  req.max_redirects = LIMIT;
  return submit(f, &req);
}

/* -------------------------------------------------------------------------------------------------------- admission */

static void each_redirect_waits_its_turn_at_the_next_host(void **state)
{
  struct pool_fixture *f = *state;
  open_with(f, 1, 10, 0);
  cpool_op holder = ask_host(f, 2, "/hold");
  await_held(f);
  moved(f, "/from", 302, on_host(f, 2, "/ok"));
  cpool_op redirected = ask_host(f, 1, "/from");
  eventually(stats_of(f).redirects == 1);
  cpool_http_stats stats = stats_of(f);
  assert_int_equal(stats.total_connections, 2);
  assert_int_equal(stats.idle_connections, 1); /* it holds no connection while it waits */
  assert_balanced(f->pool);
  assert_true(queue_is_empty(f));
  assert_int_equal(fault_server_release(f->server, 1), 1);
  expect_end(f, holder, CPOOL_OK);
  expect_end(f, redirected, CPOOL_OK);
  assert_int_equal(counts_of(f).accepted, 2);
}

static void one_connection_in_all_is_enough_for_a_chain(void **state)
{
  struct pool_fixture *f = *state;
  open_with(f, 1, 1, 1); /* and one host remembered */
  moved(f, "/a", 302, on_host(f, 2, "/b"));
  moved(f, "/b", 302, on_host(f, 3, "/c"));
  moved(f, "/c", 302, on_host(f, 1, "/ok"));
  cpool_request req = follow(f, "/a");
  for (int i = 0; i < 3; i++) {
    struct outcome out = end_of(f, &req);
    assert_ended(&out, CPOOL_OK, 200);
    assert_int_equal(info_of(&out).redirects, 3);
    cpool_response_free(out.resp);
    assert_balanced(f->pool);
    assert_true(stats_of(f).total_connections <= 1);
    assert_true(stats_of(f).origins <= 1);
  }
}

static void a_full_table_of_hosts_ends_it_with_the_last_answer(void **state)
{
  struct pool_fixture *f = *state;
  open_with(f, 4, 10, 2);
  cpool_op first = ask_host(f, 1, "/hold");
  await_held(f);
  moved(f, "/from", 302, on_host(f, 3, "/ok"));
  cpool_request req = request_to(f, on_host(f, 2, "/from"));
  req.max_redirects = LIMIT;
  struct outcome out = end_of(f, &req); /* host 2 makes room for host 3 */
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_free(out.resp);
  cpool_op second = ask_host(f, 2, "/hold");
  eventually(counts_of(f).held == 2);
  req.method = "POST";
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_EFULL, 302);
  assert_named(&out, "max_origins");
  assert_int_equal(error_of(&out).flags, 0); /* the first host has the request */
  assert_non_null(cpool_response_header(out.resp, "Location"));
  assert_int_equal(info_of(&out).redirects, 0);
  cpool_response_free(out.resp);
  assert_int_equal(fault_server_release(f->server, 2), 2);
  for (int i = 0; i < 2; i++) {
    out = take(f);
    assert_true(out.op == first || out.op == second);
    assert_ended(&out, CPOOL_OK, 200);
    cpool_response_free(out.resp);
  }
  assert_balanced(f->pool);
}

/* -------------------------------------------------------------------------------------------------------- addresses */

struct names {
  struct dns_server *dns;
  char servers[32];
};

static void open_public(struct pool_fixture *f, struct names *names)
{
  cpool_http_options options = pool_options();
  names->dns = dns_server_start(NULL, 0);
  assert_non_null(names->dns);
  snprintf(names->servers, sizeof names->servers, "127.0.0.1:%u", (unsigned) dns_server_port(names->dns));
  options.dns_servers = names->servers;
  options.dns_hosts_file = "/dev/null";
  options.dns_min_ttl_ms = CPOOL_OFF;
  options.address_policy = CPOOL_ADDRESS_PUBLIC;
  open_pool(f, &options);
}

static const char *on_name(struct pool_fixture *f, const char *name, const char *path)
{
  static char texts[4][256];
  static unsigned next;
  char *text = texts[next++ % 4];
  snprintf(text, sizeof texts[0], "http://%s:%u%s", name, (unsigned) fault_server_port(f->server), path);
  return text;
}

static void a_public_host_cannot_lead_to_a_private_one(void **state)
{
  struct pool_fixture *f = *state;
  struct names names;
  open_public(f, &names);
  dns_server_set_addresses(names.dns, "inside.test", "127.0.0.1", 60);
  dns_server_set_addresses(names.dns, "outside.test", "127.0.0.2", 60);
  const char *const inside[] = {on_host(f, 1, "/ok"), on_name(f, "inside.test", "/ok"),
                                on_name(f, "[::ffff:127.0.0.1]", "/ok"), on_name(f, "127.1", "/ok"),
                                on_name(f, "0x7f000001", "/ok")};
  for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
    int64_t before = counts_of(f).requests;
    moved(f, "/from", 307, inside[i]);
    cpool_request req = request_to(f, on_host(f, 2, "/from"));
    req.max_redirects = LIMIT;
    struct outcome out = end_of(f, &req);
    assert_ended(&out, CPOOL_EADDRESS, 0);
    assert_int_equal(error_of(&out).flags & CPOOL_ERROR_NOTHING_SENT, 0);
    assert_int_equal(info_of(&out).redirects, 1);
    assert_int_equal(info_of(&out).connection, 0);
    cpool_response_free(out.resp);
    assert_int_equal(counts_of(f).requests, before + 1);
  }
  moved(f, "/from", 307, on_name(f, "outside.test", "/ok"));
  cpool_request req = request_to(f, on_host(f, 2, "/from"));
  req.max_redirects = LIMIT;
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_free(out.resp);
  close_pool(f);
  dns_server_stop(names.dns);
}

/* The first connection is gone when the name is looked up again, and by then it points inside. */
static void a_name_that_turns_inside_between_two_hops_is_refused(void **state)
{
  struct pool_fixture *f = *state;
  struct names names;
  char text[512];
  open_public(f, &names);
  for (int round = 0; round < 3; round++) {
    char name[32];
    snprintf(name, sizeof name, "rebind%d.test", round);
    dns_server_set_addresses(names.dns, name, "127.0.0.2", 0);
    snprintf(text, sizeof text, "HTTP/1.1 302 Found\r\nLocation: %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
             round == 0 ? "/ok" : on_name(f, name, "/ok"));
    fault_server_answer_held(f->server, "/from", text);
    cpool_request req = request_to(f, on_name(f, name, "/from"));
    req.max_redirects = LIMIT;
    cpool_op op = submit(f, &req);
    await_held(f);
    dns_server_set_addresses(names.dns, name, round == 2 ? "127.0.0.2" : "127.0.0.1", 0);
    assert_int_equal(fault_server_release(f->server, 1), 1);
    expect_end(f, op, round == 2 ? CPOOL_OK : CPOOL_EADDRESS);
    assert_int_equal(dns_server_queries(names.dns, name, DNS_TYPE_A), 2);
  }
  close_pool(f);
  dns_server_stop(names.dns);
}

/* ------------------------------------------------------------------------------------------------------------- time */

static void silence_is_counted_for_each_hop_and_time_for_all(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  /* three hops, each nearly as slow as is allowed */
  moved(f, "/a", 302, on_host(f, 2, "/b"));
  moved(f, "/b", 302, on_host(f, 3, "/c"));
  cpool_request req = follow(f, "/a");
  fault_server_answer_held(f->server, "/a", "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n");
  fault_server_answer_held(f->server, "/b", "HTTP/1.1 302 Found\r\nLocation: /c\r\nContent-Length: 0\r\n\r\n");
  fault_server_answer_held(f->server, "/c", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  req.sock_read_timeout_ms = READ_MS;
  cpool_op op = submit(f, &req);
  for (int i = 0; i < 3; i++) {
    await_held(f);
    poll(NULL, 0, STEP_MS); /* not to wait for something, but to be slow */
    assert_int_equal(fault_server_release(f->server, 1), 1);
  }
  struct outcome out = take(f);
  assert_true(out.op == op);
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_info info = info_of(&out);
  assert_true(info.total_us >= 3 * STEP_MS * 1000);
  assert_in_range(info.first_byte_us, STEP_MS * 1000 - 100000, info.total_us - 2 * STEP_MS * 1000);
  cpool_response_free(out.resp);

  moved(f, "/from", 302, "/blackhole");
  req = follow(f, "/from");
  req.total_timeout_ms = SHORT_MS;
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_ETIMEOUT_TOTAL, 0);
  assert_int_equal(error_of(&out).flags, 0);
  assert_int_equal(info_of(&out).redirects, 1);
  assert_string_equal(cpool_response_url(out.resp), on_host(f, 1, "/blackhole"));
  cpool_response_free(out.resp);

  req.total_timeout_ms = 0;
  req.sock_read_timeout_ms = SHORT_MS;
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_ETIMEOUT_READ, 0);
  cpool_response_free(out.resp);
  assert_balanced(f->pool);
}

static void a_wait_at_the_next_host_has_the_acquire_time(void **state)
{
  struct pool_fixture *f = *state;
  open_with(f, 1, 10, 0);
  cpool_op holder = ask_host(f, 2, "/hold");
  await_held(f);
  moved(f, "/from", 302, on_host(f, 2, "/ok"));
  cpool_request req = follow(f, "/from");
  req.acquire_timeout_ms = SHORT_MS;
  req.connect_timeout_ms = 10;
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_ETIMEOUT_ACQUIRE, 0);
  assert_int_equal(error_of(&out).flags, CPOOL_ERROR_RETRIABLE); /* a GET, and the first host had it */
  cpool_response_info info = info_of(&out);
  assert_true(info.queue_us >= SHORT_MS * 1000);
  assert_int_equal(info.attempts, 1);
  cpool_response_free(out.resp);
  req.body = "payload";
  req.body_len = 7;
  out = end_of(f, &req); /* a POST that has become a GET is still one that was sent */
  assert_ended(&out, CPOOL_ETIMEOUT_ACQUIRE, 0);
  assert_int_equal(error_of(&out).flags, 0);
  cpool_response_free(out.resp);
  assert_int_equal(fault_server_release(f->server, 1), 1);
  expect_end(f, holder, CPOOL_OK);
  eventually(stats_of(f).timeout_acquire == 2);
  assert_balanced(f->pool);
}

static void a_slow_first_host_takes_nothing_from_the_wait_at_the_next(void **state)
{
  struct pool_fixture *f = *state;
  char text[256];
  open_with(f, 1, 10, 0);
  snprintf(text, sizeof text, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", on_host(f, 2, "/ok"));
  fault_server_answer_held(f->server, "/from", text);
  cpool_request req = follow(f, "/from");
  req.acquire_timeout_ms = STEP_MS;
  cpool_op op = submit(f, &req);
  await_held(f);
  poll(NULL, 0, STEP_MS + SHORT_MS); /* not to wait for something, but to be slow */
  cpool_op holder = ask_host(f, 2, "/hold");
  eventually(counts_of(f).held == 2);
  assert_int_equal(fault_server_release(f->server, 1), 1); /* the one that is held longer */
  eventually(stats_of(f).redirects == 1);
  assert_int_equal(fault_server_release(f->server, 1), 1);
  expect_end(f, holder, CPOOL_OK);
  expect_end(f, op, CPOOL_OK);
}

static void a_connect_to_the_next_host_has_the_connect_time(void **state)
{
  struct pool_fixture *f = *state;
  struct blackhole *hole = blackhole_start(NULL, 0);
  assert_non_null(hole);
  open_pool(f, NULL);
  moved(f, "/from", 302, url_at(blackhole_port(hole), "/"));
  cpool_request req = follow(f, "/from");
  req.connect_timeout_ms = SHORT_MS;
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_ETIMEOUT_CONNECT, 0);
  assert_named(&out, "connecting");
  cpool_response_free(out.resp);
  close_pool(f);
  blackhole_stop(hole);
}

/* ---------------------------------------------------------------------------------------------------------- repeats */

/* Host 2 has an idle connection that it resets when it is used again. */
static void prepare_reset(struct pool_fixture *f)
{
  cpool_request req = request_to(f, on_host(f, 2, "/reset-on-reuse"));
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_free(out.resp);
}

static void the_replay_guard_judges_each_hop_by_its_own_method(void **state)
{
  static const struct {
    int code;
    const char *method;
    int status;
    int32_t flags;
  } cases[] = {{302, "GET", CPOOL_OK, 0},
               {307, "PUT", CPOOL_OK, 0},
               {303, "POST", CPOOL_OK, 0}, /* a GET when it is repeated */
               {307, "POST", CPOOL_ERESET, 0}};
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint64_t repeated = stats_of(f).repeated;
    prepare_reset(f);
    moved(f, "/from", cases[i].code, on_host(f, 2, "/ok"));
    cpool_request req = follow(f, "/from");
    req.method = cases[i].method;
    struct outcome out = end_of(f, &req);
    assert_ended(&out, cases[i].status, cases[i].status == CPOOL_OK ? 200 : 0);
    assert_int_equal(error_of(&out).flags, cases[i].flags);
    assert_int_equal(info_of(&out).attempts, cases[i].status == CPOOL_OK ? 3 : 2);
    cpool_response_free(out.resp);
    eventually(stats_of(f).repeated == repeated + (cases[i].status == CPOOL_OK));
  }
}

static void each_hop_has_all_of_its_attempts(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  moved(f, "/a", 302, on_host(f, 2, "/b"));
  moved(f, "/b", 302, on_host(f, 3, "/ok"));
  for (int host = 1; host <= 3; host++) {
    cpool_request req = request_to(f, on_host(f, host, "/reset-on-reuse"));
    cpool_response_free(end_of(f, &req).resp);
  }
  cpool_request req = follow(f, "/a");
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  assert_int_equal(info_of(&out).attempts, 6);
  cpool_response_free(out.resp);
  eventually(stats_of(f).repeated == 3);
  assert_int_equal(stats_of(f).redirects, 2);
}

static void what_a_caller_may_do_is_told_of_the_whole(void **state)
{
  static const struct {
    int code;
    const char *method;
    int32_t flags;
  } cases[] = {{302, "GET", CPOOL_ERROR_RETRIABLE},
               {307, "PUT", CPOOL_ERROR_RETRIABLE},
               {307, "POST", 0},
               {303, "POST", 0}};
  struct pool_fixture *f = *state;
  uint16_t port;
  int fd = refusing_port_open(&port);
  char url[64];
  snprintf(url, sizeof url, "http://127.0.0.1:%u/ok", (unsigned) port);
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moved(f, "/from", cases[i].code, url);
    cpool_request req = follow(f, "/from");
    req.method = cases[i].method;
    struct outcome out = end_of(f, &req);
    assert_ended(&out, CPOOL_ECONNECT, 0);
    assert_int_equal(error_of(&out).flags, cases[i].flags);
    assert_string_equal(cpool_response_url(out.resp), url);
    cpool_response_free(out.resp);
  }
  close(fd);
}

/* ------------------------------------------------------------------------------------------------------- in between */

static void a_cancel_between_two_hops_ends_it(void **state)
{
  struct pool_fixture *f = *state;
  open_with(f, 1, 10, 0);
  cpool_op holder = ask_host(f, 2, "/hold");
  await_held(f);
  moved(f, "/from", 302, on_host(f, 2, "/ok"));
  cpool_op op = ask_host(f, 1, "/from");
  eventually(stats_of(f).redirects == 1);
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  expect_end(f, op, CPOOL_ECANCELLED);
  assert_int_equal(cpool_cancel(f->pool, holder), CPOOL_OK);
  expect_end(f, holder, CPOOL_ECANCELLED);
  moved(f, "/from", 302, "/blackhole");
  op = ask_host(f, 1, "/from");
  eventually(stats_of(f).redirects == 2);
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  expect_end(f, op, CPOOL_ECANCELLED);
  assert_balanced(f->pool);
}

static void a_close_lets_a_chain_finish_or_cuts_it(void **state)
{
  struct pool_fixture *f = *state;
  for (int drained = 0; drained < 2; drained++) {
    open_with(f, 1, 10, 0);
    fault_server_answer_held(f->server, "/from",
                             "HTTP/1.1 302 Found\r\nLocation: /redirect/1\r\nContent-Length: 0\r\n\r\n");
    cpool_op op = ask_host(f, 1, "/from");
    await_held(f);
    assert_int_equal(cpool_http_close_start(f->pool, drained ? DEADLINE_MS : 0), CPOOL_OK);
    if (drained)
      assert_int_equal(fault_server_release(f->server, 1), 1);
    expect_end(f, op, drained ? CPOOL_OK : CPOOL_ECLOSED);
    close_pool(f);
    eventually(fault_server_open(f->server) == 0);
  }
}

static void a_response_outlives_its_pool(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = follow(f, "/redirect/2");
  struct outcome out = end_of(f, &req);
  close_pool(f);
  const char *url = NULL;
  assert_string_equal(cpool_response_url(out.resp), on_host(f, 1, "/ok"));
  assert_int_equal(cpool_response_redirect_at(out.resp, 2, NULL, &url), CPOOL_OK);
  assert_string_equal(url, on_host(f, 1, "/redirect/0"));
  cpool_response_free(out.resp);
}

/* Many chains over few places, some of them cancelled: each ends once, and nothing is left. */
static void many_chains_at_once_all_end(void **state)
{
  enum { CHAINS = 300 };
  struct pool_fixture *f = *state;
  cpool_op ops[CHAINS];
  int ended = 0, followed = 0;
  open_with(f, 2, 5, 4);
  for (int host = 1; host <= 8; host++) {
    char path[32];
    snprintf(path, sizeof path, "/step%d", host);
    moved(f, path, host % 2 == 0 ? 302 : 307, host == 8 ? "/ok" : on_host(f, host + 1, "/step"));
  }
  for (int host = 2; host <= 8; host++) {
    char path[32], next[32];
    snprintf(path, sizeof path, "/step%d", host - 1);
    snprintf(next, sizeof next, "/step%d", host);
    moved(f, path, 302, on_host(f, host, next));
  }
  for (int i = 0; i < CHAINS; i++) {
    cpool_request req = follow(f, "/step1");
    if (i % 3 == 0) {
      req.body = "payload";
      req.body_len = 7;
    }
    ops[i] = submit(f, &req);
    if (i % 5 == 4)
      (void) !cpool_cancel(f->pool, ops[i - 2]);
  }
  for (; ended < CHAINS; ended++) {
    struct outcome out = take(f);
    if (out.status == CPOOL_OK)
      followed++;
    else
      assert_true(out.status == CPOOL_ECANCELLED || out.status == CPOOL_EFULL);
    cpool_response_free(out.resp);
    if (ended % 50 == 0)
      assert_balanced(f->pool);
  }
  assert_true(followed > 0);
  assert_true(queue_is_empty(f));
  assert_balanced(f->pool);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      REDIRECT_CASE(each_redirect_waits_its_turn_at_the_next_host),
      REDIRECT_CASE(one_connection_in_all_is_enough_for_a_chain),
      REDIRECT_CASE(a_full_table_of_hosts_ends_it_with_the_last_answer),
      REDIRECT_CASE(a_public_host_cannot_lead_to_a_private_one),
      REDIRECT_CASE(a_name_that_turns_inside_between_two_hops_is_refused),
      REDIRECT_CASE(silence_is_counted_for_each_hop_and_time_for_all),
      REDIRECT_CASE(a_wait_at_the_next_host_has_the_acquire_time),
      REDIRECT_CASE(a_slow_first_host_takes_nothing_from_the_wait_at_the_next),
      REDIRECT_CASE(a_connect_to_the_next_host_has_the_connect_time),
      REDIRECT_CASE(the_replay_guard_judges_each_hop_by_its_own_method),
      REDIRECT_CASE(each_hop_has_all_of_its_attempts),
      REDIRECT_CASE(what_a_caller_may_do_is_told_of_the_whole),
      REDIRECT_CASE(a_cancel_between_two_hops_ends_it),
      REDIRECT_CASE(a_close_lets_a_chain_finish_or_cuts_it),
      REDIRECT_CASE(a_response_outlives_its_pool),
      REDIRECT_CASE(many_chains_at_once_all_end),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
