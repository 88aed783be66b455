/* The fault server does what its header promises, seen through a raw socket. */
#include "support/blackhole.h"
#include "support/fault_server.h"
#include "support/raw_client.h"
#include "support/wait.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { DEADLINE_MS = 5000, QUIET_MS = 30 };

static int start_plain(void **state)
{
  *state = fault_server_start(&(struct fault_options){0});
  return *state != NULL ? 0 : -1;
}

static int stop_server(void **state)
{
  int64_t before_ms = now_ms();
  fault_server_stop(*state);
  return now_ms() - before_ms < 1000 ? 0 : -1;
}

static int dial(struct fault_server *server)
{
  int fd = raw_connect(NULL, fault_server_port(server), DEADLINE_MS);
  assert_true(fd >= 0);
  return fd;
}

static struct fault_counts counts_of(struct fault_server *server)
{
  struct fault_counts counts;
  fault_server_counts(server, &counts);
  return counts;
}

struct expected_count {
  struct fault_server *server;
  int64_t open, held, requests; /* -1: any */
};

static bool counts_match(void *ctx)
{
  const struct expected_count *want = ctx;
  struct fault_counts got = counts_of(want->server);
  return (want->open < 0 || want->open == got.open) && (want->held < 0 || want->held == got.held) &&
         (want->requests < 0 || want->requests == got.requests);
}

static void await_counts(struct fault_server *server, int64_t open, int64_t held, int64_t requests)
{
  struct expected_count want = {server, open, held, requests};
  assert_true(wait_until(counts_match, &want, DEADLINE_MS));
}

/* What a fresh connection shows after `request_text`. */
static enum raw_end see(struct fault_server *server, const char *request_text, size_t max, int64_t timeout_ms,
                        char **text)
{
  size_t len;
  int fd = dial(server);
  assert_true(raw_send(fd, request_text));
  enum raw_end end = raw_read(fd, max, timeout_ms, text, &len);
  close(fd);
  return end;
}

static void each_path_answers_as_written(void **state)
{
  static const struct {
    const char *request, *contains;
    enum raw_end end;
  } cases[] = {
      {"GET /ok HTTP/1.1\r\n\r\n", "\r\n\r\nhello", RAW_OPEN},
      {"GET http://proxied.test/ok?x HTTP/1.1\r\n\r\n", "\r\n\r\nhello", RAW_OPEN},
      {"GET /nowhere HTTP/1.1\r\n\r\n", "HTTP/1.1 404", RAW_OPEN},
      {"GET /bytes/30 HTTP/1.1\r\n\r\n", "\r\n\r\nabcdefghijklmnopqrstuvwxyzabcd", RAW_OPEN},
      {"GET /chunked/1001 HTTP/1.1\r\n\r\n", "\r\n1\r\nm\r\n0\r\n\r\n", RAW_OPEN},
      {"GET /trailers HTTP/1.1\r\n\r\n", "0\r\nX-Trailer: end\r\n\r\n", RAW_OPEN},
      {"GET /delay/1 HTTP/1.1\r\n\r\n", "hello", RAW_OPEN},
      {"GET /status/503 HTTP/1.1\r\n\r\n", "HTTP/1.1 503 ", RAW_OPEN},
      {"GET /204 HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", RAW_OPEN},
      {"HEAD /head-with-length HTTP/1.1\r\n\r\n", "Content-Length: 12345\r\n\r\n", RAW_OPEN},
      {"POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "\r\n\r\nabc", RAW_OPEN},
      {"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "\r\n\r\nabcde",
       RAW_OPEN},
      {"GET /echo-head HTTP/1.1\r\nX-Mine: 1\r\n\r\n", "\r\n\r\nGET /echo-head HTTP/1.1\r\nX-Mine: 1", RAW_OPEN},
      {"GET /continue HTTP/1.1\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", RAW_OPEN},
      {"POST /ok HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n",
       RAW_OPEN},
      {"GET /interim HTTP/1.1\r\n\r\n", "HTTP/1.1 103 ", RAW_OPEN},
      {"GET /redirect/2 HTTP/1.1\r\n\r\n", "Location: /redirect/1\r\n", RAW_OPEN},
      {"GET /redirect/307 HTTP/1.1\r\n\r\n", "HTTP/1.1 307 ", RAW_OPEN},
      {"GET /redirect-to?http://a.test/b HTTP/1.1\r\n\r\n", "Location: http://a.test/b\r\n", RAW_OPEN},
      {"GET /no-reason HTTP/1.1\r\n\r\n", "HTTP/1.1 200\r\n", RAW_OPEN},
      {"GET /folded-header HTTP/1.1\r\n\r\n", "X-Folded: one\r\n two\r\n", RAW_OPEN},
      {"GET /keepalive-hint/7 HTTP/1.1\r\n\r\n", "Keep-Alive: timeout=7\r\n", RAW_OPEN},
      {"GET /close HTTP/1.1\r\n\r\n", "Connection: close\r\n", RAW_FIN},
      {"GET /ok HTTP/1.1\r\nConnection: close\r\n\r\n", "hello", RAW_FIN},
      {"GET /http10 HTTP/1.1\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nhello", RAW_FIN},
      {"GET /drip/1/3 HTTP/1.1\r\n\r\n", "\r\n\r\nabc", RAW_OPEN},
      {"GET /drip-header/1 HTTP/1.1\r\n\r\n", "hello", RAW_OPEN},
      {"GET /blackhole HTTP/1.1\r\n\r\n", "", RAW_OPEN},
      {"GET /reset-before-answer HTTP/1.1\r\n\r\n", "", RAW_RESET},
      {"GET /fin-before-answer HTTP/1.1\r\n\r\n", "", RAW_FIN},
      {"GET /reset-midbody HTTP/1.1\r\n\r\n", "", RAW_RESET},
      {"GET /fin-midbody HTTP/1.1\r\n\r\n", "Content-Length: 10\r\n\r\nhello", RAW_FIN},
      {"GET /fin-midheader HTTP/1.1\r\n\r\n", "Content-Le", RAW_FIN},
      {"GET /lying-length HTTP/1.1\r\n\r\n", "Content-Length: 1000000000000000\r\n", RAW_FIN},
      {"GET /garbage HTTP/1.1\r\n\r\n", "\x01", RAW_FIN},
      {"GET /bad-chunk HTTP/1.1\r\n\r\n", "\r\n\r\nzz\r\n", RAW_OPEN},
      {"GET /extra-bytes HTTP/1.1\r\n\r\n", "helloHTTP/1.1 200 OK", RAW_OPEN},
      {"GET /poison/1 HTTP/1.1\r\n\r\n", "helloHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned", RAW_OPEN},
      {"GET /close-idle/1 HTTP/1.1\r\n\r\n", "hello", RAW_FIN},
      {"GET /reset-idle/1 HTTP/1.1\r\n\r\n", "", RAW_RESET},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char *text = NULL;
    int64_t timeout_ms = cases[i].end == RAW_OPEN ? QUIET_MS : DEADLINE_MS;
    enum raw_end end = see(*state, cases[i].request, 0, timeout_ms, &text);
    for (int tries = 0; end == RAW_OPEN && strstr(text, cases[i].contains) == NULL && tries < 3; tries++) {
      free(text); /* a loaded machine: the answer had not come within the quiet time */
      end = see(*state, cases[i].request, 0, QUIET_MS * 20, &text);
    }
    if (end != cases[i].end || strstr(text, cases[i].contains) == NULL)
      fail_msg("%s: end %d, answer %s", cases[i].request, end, text);
    free(text);
  }
}

static void endless_answers_outlast_any_reader(void **state)
{
  enum { PLENTY_BYTES = 3000000 };
  char *text;
  assert_int_equal(see(*state, "GET /endless-body HTTP/1.1\r\n\r\n", PLENTY_BYTES, DEADLINE_MS, &text), RAW_OPEN);
  free(text);
  assert_int_equal(see(*state, "GET /endless-headers HTTP/1.1\r\n\r\n", PLENTY_BYTES, DEADLINE_MS, &text), RAW_OPEN);
  assert_null(strstr(text, "\r\n\r\n"));
  free(text);
  assert_int_equal(see(*state, "GET /huge-header HTTP/1.1\r\n\r\n", 1024 * 1024, DEADLINE_MS, &text), RAW_OPEN);
  assert_null(strstr(text, "\r\n\r\n"));
  free(text);
  await_counts(*state, 0, -1, -1);
}

static void early_413_comes_before_the_body(void **state)
{
  char *text;
  enum raw_end end =
      see(*state, "POST /early-413 HTTP/1.1\r\nContent-Length: 1000000\r\n\r\npart", 0, DEADLINE_MS, &text);
  assert_int_equal(end, RAW_FIN);
  assert_non_null(strstr(text, "HTTP/1.1 413 "));
  free(text);
}

static void counters_know_connections_and_methods(void **state)
{
  struct fault_server *server = *state;
  char body[64];
  size_t len;
  int one = dial(server), two = dial(server);
  assert_int_equal(raw_request(one, "GET", "/ok", body, sizeof body), 200);
  assert_string_equal(body, "hello");
  assert_int_equal(raw_request(two, "POST", "/ok", NULL, 0), 200);
  assert_int_equal(raw_request(two, "HEAD", "/ok", NULL, 0), 200);
  struct fault_counts counts = counts_of(server);
  assert_int_equal(counts.accepted, 2);
  assert_int_equal(counts.open, 2);
  assert_int_equal(counts.requests, 3);
  assert_int_equal(counts.by_method[FAULT_GET], 1);
  assert_int_equal(counts.by_method[FAULT_POST], 1);
  assert_int_equal(counts.by_method[FAULT_HEAD], 1);
  close(one);
  await_counts(server, 1, 0, 3);
  close(two);
  await_counts(server, 0, 0, 3);
  assert_int_equal(counts_of(server).most_open, 2);
  int three = dial(server);
  assert_true(raw_send(three, "POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"));
  await_counts(server, 1, 0, 4);
  char *text;
  assert_int_equal(raw_read(three, 1, DEADLINE_MS, &text, &len), RAW_OPEN);
  free(text);
  char *head = fault_server_last_head(server), *last = fault_server_last_body(server, &len);
  assert_string_equal(head, "POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\n");
  assert_int_equal(len, 3);
  assert_memory_equal(last, "abc", 3);
  free(head);
  free(last);
  close(three);
}

static void held_requests_go_on_oldest_first(void **state)
{
  struct fault_server *server = *state;
  int one = dial(server), two = dial(server);
  char *text;
  size_t len;
  assert_true(raw_send(one, "GET /hold HTTP/1.1\r\n\r\n"));
  await_counts(server, -1, 1, -1);
  assert_true(raw_send(two, "GET /hold-body HTTP/1.1\r\n\r\n"));
  await_counts(server, -1, 2, -1);
  assert_int_equal(fault_server_release(server, 1), 1);
  assert_int_equal(counts_of(server).held, 1);
  assert_true(wait_fd(one, POLLIN, DEADLINE_MS) != 0);
  assert_int_equal(fault_server_release(server, 10), 1);
  assert_int_equal(raw_read(two, strlen("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), DEADLINE_MS, &text, &len),
                   RAW_OPEN);
  assert_string_equal(text + len - 5, "hello");
  free(text);
  assert_true(raw_send(two, "GET /hold HTTP/1.1\r\n\r\n"));
  await_counts(server, -1, 1, -1);
  close(two); /* a held request whose peer goes is not held any more */
  await_counts(server, -1, 0, -1);
  close(one);
}

static void poison_comes_when_asked_for(void **state)
{
  struct fault_server *server = *state;
  int fd = dial(server);
  char *text;
  size_t len;
  assert_int_equal(raw_request(fd, "GET", "/poison", NULL, 0), 200);
  assert_int_equal(wait_fd(fd, POLLIN, QUIET_MS), 0);
  assert_int_equal(fault_server_poison(server), 1);
  assert_int_equal(fault_server_poison(server), 0);
  assert_int_equal(raw_read(fd, 46, DEADLINE_MS, &text, &len), RAW_OPEN);
  assert_non_null(strstr(text, "poisoned"));
  free(text);
  assert_int_equal(raw_request(fd, "GET", "/ok", NULL, 0), 200);
  close(fd);
}

static void second_request_meets_what_the_first_ordered(void **state)
{
  static const struct {
    const char *path;
    enum raw_end end;
    int64_t requests; /* unread ones are not counted */
  } cases[] = {{"/reset-on-reuse", RAW_RESET, 2},
               {"/fin-on-reuse", RAW_FIN, 2},
               {"/reset-on-reuse-unread", RAW_RESET, 1}};
  struct fault_server *server = *state;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int64_t before = fault_server_requests(server);
    int fd = dial(server);
    char *text;
    size_t len;
    assert_int_equal(raw_request(fd, "GET", cases[i].path, NULL, 0), 200);
    assert_true(raw_send(fd, "POST /ok HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"));
    assert_int_equal(raw_read(fd, 0, DEADLINE_MS, &text, &len), cases[i].end);
    assert_int_equal(len, 0);
    assert_int_equal(fault_server_requests(server) - before, cases[i].requests);
    free(text);
    close(fd);
  }
}

static void all_connections_end_at_once(void **state)
{
  struct fault_server *server = *state;
  for (int reset = 0; reset < 2; reset++) {
    int idle = dial(server), busy = dial(server);
    char *text;
    size_t len;
    assert_int_equal(raw_request(idle, "GET", "/ok", NULL, 0), 200);
    assert_true(raw_send(busy, "GET /blackhole HTTP/1.1\r\n\r\n"));
    await_counts(server, 2, -1, 2 + 2 * reset);
    assert_int_equal(reset ? fault_server_reset_all(server) : fault_server_drop_all(server), 2);
    assert_int_equal(raw_read(idle, 0, DEADLINE_MS, &text, &len), reset ? RAW_RESET : RAW_FIN);
    free(text);
    assert_int_equal(raw_read(busy, 0, DEADLINE_MS, &text, &len), reset ? RAW_RESET : RAW_FIN);
    free(text);
    await_counts(server, 0, -1, -1);
    close(idle);
    close(busy);
  }
}

static void stop_ends_blocked_connections_and_leaves_nothing(void **state)
{
  static const char *const requests[] = {"GET /blackhole HTTP/1.1\r\n\r\n",  "GET /delay/100000 HTTP/1.1\r\n\r\n",
                                         "GET /hold HTTP/1.1\r\n\r\n",       "GET /endless-body HTTP/1.1\r\n\r\n",
                                         "GET /drip/50000 HTTP/1.1\r\n\r\n", "GET /ha"};
  enum { COUNT = sizeof requests / sizeof requests[0] };
  (void) state;
  int fds[COUNT];
  int32_t fds_before = open_fd_count(), threads_before = thread_count();
  struct fault_server *server = fault_server_start(&(struct fault_options){0});
  for (int i = 0; i < COUNT; i++) {
    fds[i] = dial(server);
    assert_true(raw_send(fds[i], requests[i]));
  }
  await_counts(server, COUNT, 1, COUNT - 1);
  int64_t before_ms = now_ms();
  fault_server_stop(server);
  assert_in_range(now_ms() - before_ms, 0, 1000);
  for (int i = 0; i < COUNT; i++)
    close(fds[i]);
  assert_int_equal(open_fd_count(), fds_before);
  assert_int_equal(thread_count(), threads_before);
}

static enum raw_end end_of(const struct fault_options *options, const char *send_text, int64_t timeout_ms, size_t *len)
{
  struct fault_server *server = fault_server_start(options);
  assert_non_null(server);
  int fd = options->unix_path != NULL ? raw_connect_unix(options->unix_path)
                                      : raw_connect(options->address, fault_server_port(server), DEADLINE_MS);
  assert_true(fd >= 0);
  if (send_text != NULL)
    assert_true(raw_send(fd, send_text));
  char *text;
  enum raw_end end = raw_read(fd, 0, timeout_ms, &text, len);
  free(text);
  close(fd);
  fault_server_stop(server);
  return end;
}

static void listeners_behave_as_chosen(void **state)
{
  size_t len;
  (void) state;
  assert_int_equal(end_of(&(struct fault_options){.behaviour = FAULT_ACCEPT_NEVER}, "x", QUIET_MS, &len), RAW_OPEN);
  assert_int_equal(end_of(&(struct fault_options){.behaviour = FAULT_ACCEPT_RESET}, NULL, DEADLINE_MS, &len),
                   RAW_RESET);
  assert_int_equal(end_of(&(struct fault_options){.behaviour = FAULT_ACCEPT_CLOSE}, NULL, DEADLINE_MS, &len), RAW_FIN);
  assert_int_equal(end_of(&(struct fault_options){.behaviour = FAULT_SILENT}, "x", QUIET_MS, &len), RAW_OPEN);
  assert_int_equal(end_of(&(struct fault_options){.behaviour = FAULT_GARBAGE}, "x", DEADLINE_MS, &len), RAW_FIN);
  assert_int_equal(len, 512);
  const char *get = "GET / HTTP/1.1\r\n\r\n";
  assert_int_equal(end_of(&(struct fault_options){.path = "/close", .address = "::1"}, get, DEADLINE_MS, &len),
                   RAW_FIN);
  assert_true(len > 5);
  assert_int_equal(end_of(&(struct fault_options){.path = "/close", .address = "127.0.0.2"}, get, DEADLINE_MS, &len),
                   RAW_FIN);
  assert_true(len > 5);
  char *dir = temp_dir_new(), path[100];
  snprintf(path, sizeof path, "%s/s", dir);
  assert_int_equal(end_of(&(struct fault_options){.path = "/close", .unix_path = path}, get, DEADLINE_MS, &len),
                   RAW_FIN);
  assert_true(len > 5);
  temp_dir_free(dir);
}

static void connects_can_be_refused_or_swallowed(void **state)
{
  uint16_t port;
  (void) state;
  int held = refusing_port_open(&port);
  assert_int_equal(raw_connect(NULL, port, DEADLINE_MS), -1);
  assert_int_equal(errno, ECONNREFUSED);
  close(held);
  static const char *const addresses[] = {"127.0.0.1", "::1"};
  for (int i = 0; i < 2; i++) {
    struct blackhole *hole = blackhole_start(addresses[i], 0);
    assert_non_null(hole);
    for (int tries = 0; tries < 3; tries++) {
      assert_int_equal(raw_connect(addresses[i], blackhole_port(hole), QUIET_MS), -1);
      assert_int_equal(errno, ETIMEDOUT);
    }
    blackhole_stop(hole);
  }
}

int main(void)
{
#define fresh(test) cmocka_unit_test_setup_teardown(test, start_plain, stop_server)
  const struct CMUnitTest tests[] = {
      fresh(each_path_answers_as_written),
      fresh(endless_answers_outlast_any_reader),
      fresh(early_413_comes_before_the_body),
      fresh(counters_know_connections_and_methods),
      fresh(held_requests_go_on_oldest_first),
      fresh(poison_comes_when_asked_for),
      fresh(second_request_meets_what_the_first_ordered),
      fresh(all_connections_end_at_once),
      cmocka_unit_test(stop_ends_blocked_connections_and_leaves_nothing),
      cmocka_unit_test(listeners_behave_as_chosen),
      cmocka_unit_test(connects_can_be_refused_or_swallowed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
