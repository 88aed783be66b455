/* The DNS server answers each name as its rule says, seen through raw UDP and TCP messages. */
#include "support/dns_server.h"
#include "support/raw_client.h"
#include "support/wait.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { DEADLINE_MS = 5000, QUIET_MS = 30, SERVFAIL = 2, NXDOMAIN = 3, REFUSED = 5, TYPE_MX = 15 };

struct answer {
  size_t len; /* 0: none within the deadline */
  int id, rcode, answers, authority;
  bool truncated;
  uint8_t bytes[65535];
};

static size_t make_query(uint8_t *out, const char *name, uint16_t type, uint16_t edns_bytes)
{
  static const uint8_t head[12] = {0x12, 0x34, 0x01, 0x00, 0, 1};
  size_t len = sizeof head;
  memcpy(out, head, len);
  while (*name != '\0') {
    size_t label_len = strcspn(name, ".");
    out[len++] = (uint8_t) label_len;
    memcpy(out + len, name, label_len);
    len += label_len;
    name += label_len + (name[label_len] == '.');
  }
  const uint8_t tail[] = {0, (uint8_t) (type >> 8), (uint8_t) type, 0, 1};
  memcpy(out + len, tail, sizeof tail);
  len += sizeof tail;
  if (edns_bytes != 0) {
    const uint8_t opt[] = {0, 0, 41, (uint8_t) (edns_bytes >> 8), (uint8_t) edns_bytes, 0, 0, 0, 0, 0, 0};
    memcpy(out + len, opt, sizeof opt);
    len += sizeof opt;
    out[11] = 1;
  }
  return len;
}

static void parse(struct answer *a)
{
  if (a->len < 12)
    return;
  a->id = a->bytes[0] << 8 | a->bytes[1];
  a->truncated = (a->bytes[2] & 2) != 0;
  a->rcode = a->bytes[3] & 15;
  a->answers = a->bytes[6] << 8 | a->bytes[7];
  a->authority = a->bytes[8] << 8 | a->bytes[9];
}

static void ask_udp(struct dns_server *server, const char *name, uint16_t type, uint16_t edns_bytes, int64_t timeout_ms,
                    struct answer *a)
{
  uint8_t query[512];
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(dns_server_port(server))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  memset(a, 0, sizeof *a);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  size_t len = make_query(query, name, type, edns_bytes);
  assert_int_equal(sendto(fd, query, len, 0, (struct sockaddr *) &to, sizeof to), len);
  if (wait_fd(fd, POLLIN, timeout_ms) != 0)
    a->len = (size_t) recv(fd, a->bytes, sizeof a->bytes, 0);
  close(fd);
  parse(a);
}

static enum raw_end ask_tcp(struct dns_server *server, const char *name, uint16_t type, struct answer *a)
{
  uint8_t query[514];
  char *text = NULL;
  size_t len;
  memset(a, 0, sizeof *a);
  int fd = raw_connect(NULL, dns_server_port(server), DEADLINE_MS);
  assert_true(fd >= 0);
  len = make_query(query + 2, name, type, 0);
  query[0] = (uint8_t) (len >> 8);
  query[1] = (uint8_t) len;
  assert_int_equal(send(fd, query, len + 2, MSG_NOSIGNAL), len + 2);
  enum raw_end end = raw_read(fd, 2, DEADLINE_MS, &text, &len);
  if (end == RAW_OPEN && len == 2) {
    a->len = (size_t) ((uint8_t) text[0] << 8 | (uint8_t) text[1]);
    free(text);
    end = raw_read(fd, a->len, DEADLINE_MS, &text, &len);
    assert_int_equal(len, a->len);
    memcpy(a->bytes, text, len);
  }
  free(text);
  close(fd);
  parse(a);
  return end;
}

static bool ends_with(const struct answer *a, int family, const char *address)
{
  uint8_t bytes[16];
  size_t len = family == AF_INET ? 4 : 16;
  return inet_pton(family, address, bytes) == 1 && a->len > len && memcmp(a->bytes + a->len - len, bytes, len) == 0;
}

static int start(void **state)
{
  *state = dns_server_start(NULL, 0);
  return *state != NULL ? 0 : -1;
}

static int stop(void **state)
{
  dns_server_stop(*state);
  return 0;
}

static struct answer answer; /* 64 KiB: too much for a careful stack */

static void names_resolve_in_any_case(void **state)
{
  struct dns_server *server = *state;
  dns_server_set_addresses(server, "a.test", "127.0.0.1 ::1 127.0.0.2", 60);
  ask_udp(server, "A.tEst", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.id, 0x1234);
  assert_int_equal(answer.answers, 2);
  assert_true(ends_with(&answer, AF_INET, "127.0.0.2"));
  assert_memory_equal(answer.bytes + 13, "A\x04tEst", 6);
  ask_udp(server, "a.test", DNS_TYPE_AAAA, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.answers, 1);
  assert_true(ends_with(&answer, AF_INET6, "::1"));
  assert_int_equal(ask_tcp(server, "a.test", DNS_TYPE_A, &answer), RAW_OPEN);
  assert_int_equal(answer.answers, 2);
  ask_udp(server, "a.test", TYPE_MX, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.rcode, 0);
  assert_int_equal(answer.answers, 0);
  assert_int_equal(dns_server_queries(server, "a.test", DNS_TYPE_A), 2);
  assert_int_equal(dns_server_queries(server, "a.test", 0), 4);
  assert_int_equal(dns_server_queries(server, NULL, 0), 4);
  assert_int_equal(dns_server_tcp_queries(server), 1);
}

static void rules_can_change_while_running(void **state)
{
  struct dns_server *server = *state;
  dns_server_set_addresses(server, "a.test", "127.0.0.1", 1);
  dns_server_set_addresses(server, "a.test", "127.0.0.9", 1);
  ask_udp(server, "a.test", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.answers, 1);
  assert_true(ends_with(&answer, AF_INET, "127.0.0.9"));
  dns_server_remove(server, "a.test");
  ask_udp(server, "a.test", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.rcode, NXDOMAIN);
  dns_server_set_addresses(server, "*", "127.0.0.3", 1);
  ask_udp(server, "any.thing.test", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_true(ends_with(&answer, AF_INET, "127.0.0.3"));
}

static void failures_are_per_type(void **state)
{
  struct dns_server *server = *state;
  dns_server_set(server,
                 &(struct dns_rule){.name = "f.test", .a = {.answer = DNS_SERVFAIL}, .aaaa = {.answer = DNS_REFUSED}});
  ask_udp(server, "f.test", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.rcode, SERVFAIL);
  ask_udp(server, "f.test", DNS_TYPE_AAAA, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.rcode, REFUSED);
  dns_server_set(server,
                 &(struct dns_rule){.name = "f.test", .a = {.addresses = "127.0.0.1"}, .aaaa = {.answer = DNS_SILENT}});
  ask_udp(server, "f.test", DNS_TYPE_AAAA, 0, QUIET_MS, &answer);
  assert_int_equal(answer.len, 0);
  ask_udp(server, "f.test", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.answers, 1);
  dns_server_set(server,
                 &(struct dns_rule){.name = "f.test", .a = {.answer = DNS_GARBAGE}, .aaaa = {.answer = DNS_WRONG_ID}});
  ask_udp(server, "f.test", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.answers, 0xffff);
  ask_udp(server, "f.test", DNS_TYPE_AAAA, 0, DEADLINE_MS, &answer);
  assert_true(answer.len > 0 && answer.id != 0x1234);
}

static void negative_answers_carry_their_ttl(void **state)
{
  struct dns_server *server = *state;
  dns_server_set(server, &(struct dns_rule){.name = "n.test", .negative_ttl_s = 7, .a = {.answer = DNS_NXDOMAIN}});
  ask_udp(server, "n.test", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.rcode, NXDOMAIN);
  assert_int_equal(answer.authority, 1);
  assert_int_equal(answer.bytes[answer.len - 1], 7);
  ask_udp(server, "n.test", DNS_TYPE_AAAA, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.rcode, 0);
  assert_int_equal(answer.answers, 0);
  assert_int_equal(answer.authority, 1);
}

static void cname_chains_end_in_addresses(void **state)
{
  struct dns_server *server = *state;
  dns_server_set(server, &(struct dns_rule){.name = "c.test",
                                            .cname = "d.test e.test",
                                            .cname_ttl_s = 5,
                                            .a = {.addresses = "127.0.0.1", .ttl_s = 60}});
  ask_udp(server, "c.test", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.answers, 3);
  assert_true(ends_with(&answer, AF_INET, "127.0.0.1"));
  assert_memory_equal(answer.bytes + answer.len - 14 - 8,
                      "\x01"
                      "e\x04test\0",
                      8);
}

static void large_answers_go_by_edns_or_tcp(void **state)
{
  struct dns_server *server = *state;
  dns_server_set(server,
                 &(struct dns_rule){.name = "l.test", .a = {.made_count = 60}, .aaaa = {.answer = DNS_TRUNCATED}});
  ask_udp(server, "l.test", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_true(answer.truncated);
  assert_int_equal(answer.answers, 0);
  ask_udp(server, "l.test", DNS_TYPE_A, 900, DEADLINE_MS, &answer);
  assert_true(answer.truncated);
  ask_udp(server, "l.test", DNS_TYPE_A, 1232, DEADLINE_MS, &answer);
  assert_false(answer.truncated);
  assert_int_equal(answer.answers, 60);
  assert_int_equal(ask_tcp(server, "l.test", DNS_TYPE_A, &answer), RAW_OPEN);
  assert_int_equal(answer.answers, 60);
  assert_true(ends_with(&answer, AF_INET, "10.0.0.60"));
  ask_udp(server, "l.test", DNS_TYPE_AAAA, 1232, DEADLINE_MS, &answer);
  assert_true(answer.truncated);
  assert_int_equal(ask_tcp(server, "l.test", DNS_TYPE_AAAA, &answer), RAW_OPEN);
  assert_false(answer.truncated);
  dns_server_set(server, &(struct dns_rule){.name = "l.test", .a = {.answer = DNS_TCP_CLOSED}});
  ask_udp(server, "l.test", DNS_TYPE_A, 0, DEADLINE_MS, &answer);
  assert_true(answer.truncated);
  assert_int_equal(ask_tcp(server, "l.test", DNS_TYPE_A, &answer), RAW_FIN);
}

static void delays_hold_one_type_and_not_the_other(void **state)
{
  enum { DELAY_MS = 80 };
  struct dns_server *server = *state;
  dns_server_set(server, &(struct dns_rule){.name = "s.test",
                                            .a = {.addresses = "127.0.0.1"},
                                            .aaaa = {.addresses = "::1", .delay_ms = DELAY_MS}});
  int64_t before_ms = now_ms();
  ask_udp(server, "s.test", DNS_TYPE_AAAA, 0, DEADLINE_MS, &answer);
  assert_int_equal(answer.answers, 1);
  assert_true(now_ms() - before_ms >= DELAY_MS);
  before_ms = now_ms();
  assert_int_equal(ask_tcp(server, "s.test", DNS_TYPE_AAAA, &answer), RAW_OPEN);
  assert_int_equal(answer.answers, 1);
  assert_true(now_ms() - before_ms >= DELAY_MS);
  /* An answer that never becomes due does not hold up the stop. */
  dns_server_set(server, &(struct dns_rule){.name = "s.test", .a = {.delay_ms = 1000000}});
  ask_udp(server, "s.test", DNS_TYPE_A, 0, QUIET_MS, &answer);
  assert_int_equal(answer.len, 0);
}

static void stop_leaves_nothing_and_frees_the_port(void **state)
{
  (void) state;
  int32_t fds = open_fd_count(), threads = thread_count();
  struct dns_server *server = dns_server_start("127.0.0.2", 0);
  assert_non_null(server);
  uint16_t port = dns_server_port(server);
  dns_server_stop(server);
  assert_int_equal(open_fd_count(), fds);
  assert_int_equal(thread_count(), threads);
  server = dns_server_start("127.0.0.2", port);
  assert_non_null(server);
  assert_int_equal(dns_server_port(server), port);
  dns_server_stop(server);
}

int main(void)
{
#define fresh(test) cmocka_unit_test_setup_teardown(test, start, stop)
  const struct CMUnitTest tests[] = {
      fresh(names_resolve_in_any_case),
      fresh(rules_can_change_while_running),
      fresh(failures_are_per_type),
      fresh(negative_answers_carry_their_ttl),
      fresh(cname_chains_end_in_addresses),
      fresh(large_answers_go_by_edns_or_tcp),
      fresh(delays_hold_one_type_and_not_the_other),
      cmocka_unit_test(stop_leaves_nothing_and_frees_the_port),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
