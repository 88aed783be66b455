/* dns_pool: names become connections through the pool's own resolver: shared, timed, raced, and held to the policy */
#include "dns_fixture.h"

#include <unistd.h>

#include "support/blackhole.h"

enum { RACE_MS = 300 };

static void a_name_is_asked_of_the_given_server(void **state)
{
  struct peer *f = *state;
  dns_server_set_addresses(dns_of(f), "a.test", "127.0.0.1", 60);
  struct answer answer = peer_get(f, url_of(f, "a.test"));
  peer_is_200(answer, "hello");
  assert_true(answer.info.dns_us > 0);
  char expected[64];
  snprintf(expected, sizeof expected, "127.0.0.1:%u", fault_server_port(f->server));
  assert_string_equal(answer.info.remote_address, expected);
  assert_int_equal(dns_server_queries(dns_of(f), "a.test", DNS_TYPE_A), 1);
  assert_int_equal(dns_server_queries(dns_of(f), "a.test", DNS_TYPE_AAAA), 1);
  char *head = fault_server_last_head(f->server);
  snprintf(expected, sizeof expected, "\r\nHost: a.test:%u\r\n", fault_server_port(f->server));
  assert_non_null(strstr(head, expected));
  free(head);
}

static void a_hundred_requests_at_once_ask_once(void **state)
{
  struct peer *f = *state;
  dns_server_set(dns_of(f), &(struct dns_rule){.name = "a.test",
                                               .a = {.addresses = "127.0.0.1", .ttl_s = 60, .delay_ms = 100},
                                               .aaaa = {.ttl_s = 60, .delay_ms = 100}});
  const char *url = url_of(f, "a.test");
  for (int i = 0; i < 100; i++)
    peer_start(f, &(struct ask){.url = url});
  for (int i = 0; i < 100; i++)
    peer_is_200(peer_next(f), "hello");
  assert_int_equal(dns_server_queries(dns_of(f), NULL, DNS_TYPE_A), 1);
  assert_int_equal(dns_server_queries(dns_of(f), NULL, DNS_TYPE_AAAA), 1);
}

static void each_failure_of_dns_has_its_status(void **state)
{
  struct peer *f = *state;
  static const struct {
    enum dns_answer answer;
    int status;
    int32_t retriable;
  } kinds[] = {
      {DNS_NXDOMAIN, CPOOL_EDNS_NOTFOUND, 0},
      {DNS_ADDRESSES, CPOOL_EDNS_NOTFOUND, 0}, /* none */
      {DNS_SERVFAIL, CPOOL_EDNS_FAILED, CPOOL_ERROR_RETRIABLE},
      {DNS_REFUSED, CPOOL_EDNS_FAILED, CPOOL_ERROR_RETRIABLE},
  };
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    char name[32];
    snprintf(name, sizeof name, "n%zu.test", i);
    dns_server_set(dns_of(f), &(struct dns_rule){.name = name,
                                                 .a = {.answer = kinds[i].answer},
                                                 .aaaa = {.answer = kinds[i].answer}});
    struct answer answer = peer_get(f, url_of(f, name));
    peer_is(answer, kinds[i].status);
    assert_int_equal(answer.error.layer, CPOOL_LAYER_DNS);
    assert_int_equal(answer.error.flags, CPOOL_ERROR_NOTHING_SENT | kinds[i].retriable);
    assert_non_null(strstr(answer.error.text, name));
    assert_in_range(answer.took_ms, 0, 2000);
    assert_int_equal(answer.info.connection, 0);
  }
  peer_await(f, opened, 0);
}

static void a_silent_name_server_meets_its_timeout_or_the_connect_timeout(void **state)
{
  struct peer *f = *state;
  peer_close_pool(f);
  cpool_http_options options = options_of(f);
  options.dns_timeout_ms = 500;
  peer_open_pool(f, &options);
  dns_server_set(dns_of(f),
                 &(struct dns_rule){.name = "*", .a = {.answer = DNS_SILENT}, .aaaa = {.answer = DNS_SILENT}});
  struct answer answer = peer_get(f, url_of(f, "silent.test"));
  peer_is(answer, CPOOL_EDNS_FAILED);
  assert_in_range(answer.took_ms, 400, 1500);
  answer = peer_ask(f, &(struct ask){.url = url_of(f, "quiet.test"), .connect_ms = 200});
  peer_is(answer, CPOOL_ETIMEOUT_CONNECT);
  assert_in_range(answer.took_ms, 200, 900);
}

/* ---- addresses */

static void a_dead_ipv6_address_costs_one_race_delay(void **state)
{
  struct peer *f = *state;
  struct blackhole *hole = blackhole_start("::1", fault_server_port(f->server));
  if (hole == NULL)
    skip(); /* no IPv6 here, or the port is taken there */
  dns_server_set_addresses(dns_of(f), "dual.test", "::1 127.0.0.1", 60);
  struct answer answer = peer_get(f, url_of(f, "dual.test"));
  peer_is_200(answer, "hello");
  assert_in_range(answer.took_ms, RACE_MS - 5, RACE_MS + 400);
  peer_await(f, closed_dial, 1);
  peer_await(f, total_connections, 1);
  blackhole_stop(hole);
}

static void a_refused_ipv6_address_costs_nothing(void **state)
{
  struct peer *f = *state;
  int64_t least_ms = INT64_MAX; /* of several hosts: the machine may be busy */
  for (int i = 0; i < 5; i++) {
    char name[32];
    snprintf(name, sizeof name, "dual%d.test", i);
    dns_server_set_addresses(dns_of(f), name, "::1 127.0.0.1", 60);
    struct answer answer = peer_get(f, url_of(f, name));
    peer_is_200(answer, "hello");
    least_ms = answer.took_ms < least_ms ? answer.took_ms : least_ms;
  }
  assert_in_range(least_ms, 0, RACE_MS / 2);
}

static void refused_everywhere_is_one_status(void **state)
{
  struct peer *f = *state;
  uint16_t port;
  int fd = refusing_port_open(&port);
  assert_true(fd >= 0);
  dns_server_set_addresses(dns_of(f), "down.test", "127.0.0.1 127.0.0.2", 60);
  struct answer answer = peer_get(f, peer_text(f, "http://down.test:%u/", port));
  peer_is(answer, CPOOL_ECONNECT);
  assert_int_equal(answer.error.layer, CPOOL_LAYER_CONNECT);
  assert_int_equal(answer.error.flags, CPOOL_ERROR_NOTHING_SENT | CPOOL_ERROR_RETRIABLE);
  close(fd);
}

static void raced_sockets_stay_within_the_limit(void **state)
{
  struct peer *f = *state;
  peer_close_pool(f);
  cpool_http_options options = options_of(f);
  options.max_connections = 2;
  options.race_delay_ms = 20;
  peer_open_pool(f, &options);
  struct blackhole *holes[3];
  static const char *const dead[] = {"127.0.0.2", "127.0.0.3", "127.0.0.4"};
  for (int i = 0; i < 3; i++) {
    holes[i] = blackhole_start(dead[i], fault_server_port(f->server));
    assert_non_null(holes[i]);
  }
  dns_server_set_addresses(dns_of(f), "many.test", "127.0.0.2 127.0.0.3 127.0.0.4 127.0.0.1", 60);
  peer_start(f, &(struct ask){.url = url_of(f, "many.test")});
  int64_t most = 0;
  const cpool_event *event = NULL;
  int64_t end_ms = now_ms() + PEER_DEADLINE_MS;
  while (cpool_queue_wait(f->queue, &event, 1, 1) == 0 && now_ms() < end_ms) {
    cpool_http_stats stats = peer_stats(f);
    if (stats.total_connections > most)
      most = stats.total_connections;
  }
  assert_non_null(event);
  assert_int_equal(event->status, CPOOL_OK);
  cpool_queue_release(f->queue, &event, 1);
  assert_int_equal(most, 2);
  for (int i = 0; i < 3; i++)
    blackhole_stop(holes[i]);
}

/* ---- policy */

static void the_public_policy_refuses_loopback_by_name_and_by_address(void **state)
{
  struct peer *f = *state;
  cpool_session_options options = session_options();
  options.address_policy = CPOOL_ADDRESS_PUBLIC;
  cpool_session *session = session_open(f->pool, &options);
  dns_server_set_addresses(dns_of(f), "inside.test", "127.0.0.1 10.0.0.1 ::1 169.254.169.254 ::ffff:127.0.0.1", 60);
  static const char *const hosts[] = {"inside.test", "127.0.0.1",  "[::1]", "[::ffff:127.0.0.1]",
                                      "0.0.0.0",     "2130706433", "0x7f.1"};
  for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
    cpool_request request;
    cpool_request_init(&request);
    request.url = url_of(f, hosts[i]);
    cpool_response *resp = NULL;
    int status = cpool_perform(session, &request, &resp);
    if (i < 5)
      peer_is(peer_answer(f, status, resp), CPOOL_EADDRESS);
    else { /* old notations of an address: refused, or names that do not exist; never a connection */
      assert_true(status == CPOOL_EADDRESS || status == CPOOL_EINVAL || status == CPOOL_EDNS_NOTFOUND);
      cpool_response_free(resp);
    }
  }
  assert_int_equal(peer_counts(f->server).accepted, 0);
  peer_await(f, opened, 0);
  peer_is_200(peer_get(f, url_of(f, "inside.test")), "hello"); /* the pool's own session may */
  struct answer answer = peer_ask(f, &(struct ask){.session = session, .url = url_of(f, "inside.test")});
  peer_is(answer, CPOOL_EADDRESS); /* and what it opened is not for the other */
  cpool_session_free(session);
}

/* ---- files and time */

static void a_hosts_file_answers_without_a_query(void **state)
{
  struct peer *f = *state;
  struct dns *dns = f->extra;
  peer_close_pool(f);
  write_file(dns->hosts, "127.0.0.1 filed.test other.test # comment\n", 42);
  cpool_http_options options = options_of(f);
  options.dns_hosts_file = dns->hosts;
  peer_open_pool(f, &options);
  peer_is_200(peer_get(f, url_of(f, "filed.test")), "hello");
  peer_is_200(peer_get(f, url_of(f, "OTHER.test")), "hello");
  assert_int_equal(dns_server_queries(dns_of(f), NULL, 0), 0);
}

struct again {
  struct peer *f;
  const char *url;
  int64_t wanted;
};

static bool was_asked_again(void *ctx)
{
  struct again *again = ctx;
  fault_server_drop_all(again->f->server);
  (void) peer_get(again->f, again->url);
  return dns_server_queries(dns_of(again->f), NULL, DNS_TYPE_A) >= again->wanted;
}

static void an_answer_is_asked_for_again_when_its_time_is_over(void **state)
{
  struct peer *f = *state;
  dns_server_set(dns_of(f), &(struct dns_rule){.name = "brief.test",
                                               .a = {.addresses = "127.0.0.1", .ttl_s = 1},
                                               .aaaa = {.ttl_s = 1}});
  const char *url = peer_text(f, "http://brief.test:%u/close", fault_server_port(f->server));
  int64_t begin_ms = now_ms();
  for (int i = 0; i < 5; i++)
    peer_is_200(peer_get(f, url), "hello");
  if (now_ms() - begin_ms < 500)
    assert_int_equal(dns_server_queries(dns_of(f), NULL, DNS_TYPE_A), 1);
  struct again again = {f, url, 2};
  assert_true(wait_until(was_asked_again, &again, 3000));
  assert_true(now_ms() - begin_ms >= 500); /* it may be refreshed ahead of its end */
}

static void no_thread_is_made_for_names(void **state)
{
  struct peer *f = *state;
  dns_server_set_addresses(dns_of(f), "*", "127.0.0.1", 60);
  peer_is_200(peer_get(f, url_of(f, "first.test")), "hello");
  fault_server_drop_all(f->server);
  peer_await(f, idle_connections, 0);
  peer_await(f, closing_connections, 0);
  dns_server_set(dns_of(f),
                 &(struct dns_rule){.name = "*", .a = {.answer = DNS_SILENT}, .aaaa = {.answer = DNS_SILENT}});
  int32_t threads = thread_count();
  for (int i = 0; i < 20; i++)
    peer_start(f, &(struct ask){.url = peer_text(f, "http://h%d.test/", i), .connect_ms = 300});
  int32_t most = 0;
  const cpool_event *event = NULL;
  while (cpool_queue_wait(f->queue, &event, 1, 5) == 0) {
    int32_t now = thread_count();
    most = now > most ? now : most;
  }
  cpool_queue_release(f->queue, &event, 1);
  for (int i = 1; i < 20; i++)
    peer_is(peer_next(f), CPOOL_ETIMEOUT_CONNECT);
  assert_true(most <= threads);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      dns_case(a_name_is_asked_of_the_given_server),
      dns_case(a_hundred_requests_at_once_ask_once),
      dns_case(each_failure_of_dns_has_its_status),
      dns_case(a_silent_name_server_meets_its_timeout_or_the_connect_timeout),
      dns_case(a_dead_ipv6_address_costs_one_race_delay),
      dns_case(a_refused_ipv6_address_costs_nothing),
      dns_case(refused_everywhere_is_one_status),
      dns_case(raced_sockets_stay_within_the_limit),
      dns_case(the_public_policy_refuses_loopback_by_name_and_by_address),
      dns_case(a_hosts_file_answers_without_a_query),
      dns_case(an_answer_is_asked_for_again_when_its_time_is_over),
      dns_case(no_thread_is_made_for_names),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
