/* http_real: requests reach servers as written, answers come back as sent, connections are reused exactly */
#include "support/peer_fixture.h"

#include <signal.h>

#include "support/process.h"

static struct process *nginx_of(struct peer *f)
{
  return f->extra;
}

static int setup_nginx(void **state)
{
  struct peer *f = peer_new();
  peer_open_pool(f, NULL);
  *state = f;
  return 0;
}

static int teardown_nginx(void **state)
{
  struct peer *f = *state;
  peer_close_pool(f);
  process_stop(nginx_of(f));
  peer_free(f);
  return 0;
}

static void start_nginx(struct peer *f, struct nginx_options options)
{
  options.server_lines = "location = /n { return 200 \"$connection $connection_requests\"; }\n"
                         "location = /m { return 200 \"$request_method\"; }\n"
                         "location = /len { return 200 \"$request_method $content_length\"; }\n";
  f->extra = nginx_start(&options);
  assert_non_null(f->extra);
}

static const char *at(struct peer *f, const char *path)
{
  return peer_text(f, "http://127.0.0.1:%u%s", process_port(nginx_of(f)), path);
}

/* ---- nginx */

static void every_method_reaches_nginx(void **state)
{
  struct peer *f = *state;
  static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"};
  start_nginx(f, (struct nginx_options){0});
  for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
    struct answer answer = peer_ask(f, &(struct ask){.method = methods[i], .url = at(f, "/m")});
    peer_is_200(answer, methods[i]);
    assert_int_equal(answer.info.reused, i > 0);
    assert_int_equal(answer.info.http_version, 11);
  }
  struct answer head = peer_ask(f, &(struct ask){.method = "HEAD", .url = at(f, "/big")});
  peer_is(head, CPOOL_OK);
  assert_int_equal(head.len, 0);
  assert_string_equal(cpool_response_header(head.resp, "content-length"), "1048576");
  struct answer trace = peer_ask(f, &(struct ask){.method = "TRACE", .url = at(f, "/m")});
  peer_is(trace, CPOOL_OK);
  assert_int_equal(trace.code, 405);
  /* methods with different framing on one recycled connection and handle */
  for (int i = 0; i < 30; i++) {
    const char *method = methods[i * 5 % 7];
    peer_is_200(peer_ask(f,
                         &(struct ask){.method = method, .url = at(f, "/m"), .body = "x", .body_len = (size_t) i % 2}),
                method);
    peer_is(peer_ask(f, &(struct ask){.method = "HEAD", .url = at(f, "/m")}), CPOOL_OK);
  }
}

static void requests_in_turn_use_one_connection_of_nginx(void **state)
{
  struct peer *f = *state;
  start_nginx(f, (struct nginx_options){0});
  char first[64] = "";
  for (int i = 1; i <= 50; i++) {
    struct answer answer = peer_get(f, at(f, "/n"));
    peer_is(answer, CPOOL_OK);
    int requests = 0, connection = 0;
    assert_int_equal(sscanf(answer.body, "%d %d", &connection, &requests), 2);
    assert_int_equal(requests, i);
    char now[64];
    snprintf(now, sizeof now, "%d", connection);
    if (i == 1)
      strcpy(first, now);
    assert_string_equal(now, first);
  }
  peer_await(f, reused, 49);
  assert_int_equal(peer_stats(f).opened, 1);
}

static void nginx_ends_connections_after_its_limit_of_requests(void **state)
{
  struct peer *f = *state;
  start_nginx(f, (struct nginx_options){.keepalive_requests = 10});
  for (int i = 0; i < 50; i++) {
    struct answer answer = peer_post(f, at(f, "/n"), "body", 4); /* none may be lost */
    peer_is(answer, CPOOL_OK);
    int requests = 0;
    assert_int_equal(sscanf(answer.body, "%*d %d", &requests), 1);
    assert_int_equal(requests, i % 10 + 1);
  }
  peer_await(f, closed_response, 5);
  peer_await(f, opened, 5);
}

static void nginx_without_keep_alive_costs_a_connection_each(void **state)
{
  struct peer *f = *state;
  start_nginx(f, (struct nginx_options){.keepalive_timeout_ms = -1});
  for (int i = 0; i < 10; i++) {
    struct answer answer = peer_get(f, at(f, "/ok"));
    peer_is_200(answer, "hello\n");
    assert_int_equal(answer.info.reused, 0);
  }
  peer_await(f, closed_response, 10);
  peer_await(f, total_connections, 0);
}

static void idle_connections_that_nginx_closes_cost_no_post(void **state)
{
  struct peer *f = *state;
  start_nginx(f, (struct nginx_options){.keepalive_timeout_ms = 60});
  for (int i = 0; i < 8; i++) {
    peer_is_200(peer_post(f, at(f, "/m"), "body", 4), "POST");
    peer_await(f, succeeded, i + 1);    /* a snapshot of the time before it would show nothing idle */
    peer_await(f, idle_connections, 0); /* by its FIN or its hint */
  }
  assert_int_equal(peer_stats(f).failed, 0);
}

static void a_reload_of_nginx_costs_no_get(void **state)
{
  struct peer *f = *state;
  start_nginx(f, (struct nginx_options){0});
  for (int i = 0; i < 200; i++) {
    if (i == 100)
      assert_true(process_signal(nginx_of(f), SIGHUP));
    peer_start(f, &(struct ask){.url = at(f, "/ok")});
  }
  for (int i = 0; i < 200; i++)
    peer_is_200(peer_next(f), "hello\n");
}

static void bodies_of_nginx_arrive_whole(void **state)
{
  struct peer *f = *state;
  start_nginx(f, (struct nginx_options){0});
  for (int i = 0; i < 40; i++)
    peer_start(f, &(struct ask){.url = at(f, i % 2 ? "/big" : "/")});
  int big = 0;
  for (int i = 0; i < 40; i++) {
    struct answer answer = peer_next(f);
    peer_is(answer, CPOOL_OK);
    if (answer.len > 6) {
      peer_is_pattern(&answer, 1048576);
      big++;
    } else {
      assert_string_equal(answer.body, "hello\n");
    }
  }
  assert_int_equal(big, 20);
  assert_true(peer_stats(f).opened <= 30);
}

static void nginx_counts_each_byte_of_an_upload(void **state)
{
  struct peer *f = *state;
  static const size_t sizes[] = {0, 1, 65535, 65536, 10 * 1024 * 1024};
  static const char *const methods[] = {"POST", "PUT", "PATCH"};
  start_nginx(f, (struct nginx_options){0});
  char *body = calloc(1, sizes[4]);
  assert_non_null(body);
  for (int i = 0; i < 15; i++) {
    char expected[64];
    snprintf(expected, sizeof expected, "%s %zu", methods[i % 3], sizes[i / 3]);
    peer_is_200(
        peer_ask(f,
                 &(struct ask){.method = methods[i % 3], .url = at(f, "/len"), .body = body, .body_len = sizes[i / 3]}),
        expected);
  }
  free(body);
}

/* ---- what is sent, byte by byte */

static void is_sent(struct peer *f, const struct ask *ask, const char *line, const char *after_host)
{
  peer_is(peer_ask(f, ask), CPOOL_OK);
  char expected[1024], *head = fault_server_last_head(f->server);
  snprintf(expected, sizeof expected, "%s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s\r\n", line, fault_server_port(f->server),
           after_host);
  assert_string_equal(head, expected);
  free(head);
}

#define AGENT "User-Agent: libcpool/0.1.0\r\n"
#define ACCEPT "Accept: */*\r\n"

static void heads_hold_what_is_documented_and_nothing_else(void **state)
{
  struct peer *f = *state;
  const cpool_header own[] = {{"User-Agent", "me"},
                              {"Accept", "text/plain"},
                              {"X-Empty", ""},
                              {"Content-Type", "text/x"}};
  is_sent(f, &(struct ask){.url = "/ok"}, "GET /ok", ACCEPT AGENT);
  is_sent(f, &(struct ask){.method = "HEAD", .url = "/ok"}, "HEAD /ok", ACCEPT AGENT);
  is_sent(f, &(struct ask){.method = "DELETE", .url = "/ok"}, "DELETE /ok", ACCEPT AGENT);
  is_sent(f, &(struct ask){.method = "POST", .url = "/ok"}, "POST /ok", ACCEPT AGENT "Content-Length: 0\r\n");
  is_sent(f, &(struct ask){.url = "/ok", .body = "abc", .body_len = 3}, "POST /ok",
          ACCEPT AGENT "Content-Length: 3\r\n");
  is_sent(f, &(struct ask){.method = "DELETE", .url = "/ok", .body = "abc", .body_len = 3}, "DELETE /ok",
          ACCEPT AGENT "Content-Length: 3\r\n");
  is_sent(f, &(struct ask){.url = "/ok", .headers = own, .header_count = 3}, "GET /ok",
          "User-Agent: me\r\nAccept: text/plain\r\nX-Empty:\r\n");
  is_sent(
      f,
      &(struct ask){.method = "PUT", .url = "/ok", .headers = own + 3, .header_count = 1, .body = "a", .body_len = 1},
      "PUT /ok", ACCEPT AGENT "Content-Type: text/x\r\nContent-Length: 1\r\n");
}

static void the_target_is_sent_as_written_without_its_fragment(void **state)
{
  struct peer *f = *state;
  static const struct {
    const char *url, *target;
  } kinds[] = {
      {"/a/../b/./c?x=%2F%2f&y=[1]", "/a/../b/./c?x=%2F%2f&y=[1]"},
      {"/p?q#fragment", "/p?q"},
      {"", "/"},
      {"?q=1", "/?q=1"},
      {"//two//slashes", "//two//slashes"},
      {"/%C3%A9;v=1,2", "/%C3%A9;v=1,2"},
  };
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    const char *url = peer_text(f, "http://127.0.0.1:%u%s", fault_server_port(f->server), kinds[i].url);
    char line[128];
    snprintf(line, sizeof line, "GET %s", kinds[i].target);
    is_sent(f, &(struct ask){.url = url}, line, ACCEPT AGENT);
  }
}

static void the_host_header_may_be_set_by_the_caller(void **state)
{
  struct peer *f = *state;
  const cpool_header host = {"Host", "virtual.example"};
  peer_is(peer_ask(f, &(struct ask){.url = "/ok", .headers = &host, .header_count = 1}), CPOOL_OK);
  char *head = fault_server_last_head(f->server);
  assert_non_null(strstr(head, "\r\nHost: virtual.example\r\n"));
  assert_null(strstr(head, "127.0.0.1"));
  free(head);
}

static void bodies_come_back_byte_by_byte(void **state)
{
  struct peer *f = *state;
  static const size_t sizes[] = {0, 1, 16384, 65535, 65536, 1048577, 10 * 1024 * 1024};
  char *body = malloc(sizes[6]);
  assert_non_null(body);
  for (size_t i = 0; i < sizes[6]; i++)
    body[i] = fault_pattern((int64_t) i);
  for (int i = 0; i < 7; i++) {
    struct answer answer = peer_post(f, "/echo", body, sizes[i]);
    peer_is(answer, CPOOL_OK);
    peer_is_pattern(&answer, sizes[i]);
    assert_true(answer.info.bytes_sent > sizes[i] && answer.info.bytes_sent < sizes[i] + 300);
    assert_true(answer.info.bytes_received > sizes[i]);
  }
  free(body);
  assert_int_equal(peer_counts(f->server).accepted, 1);
}

/* ---- answers of every shape, all on one connection */

static void each_shape_of_answer_keeps_the_connection(void **state)
{
  struct peer *f = *state;
  static const struct {
    const char *method, *path, *body;
    int code;
  } kinds[] = {
      {"GET", "/ok", "hello", 200},
      {"GET", "/204", "", 204},
      {"GET", "/304", "", 304},
      {"GET", "/continue", "hello", 200},
      {"GET", "/interim", "hello", 200},
      {"GET", "/trailers", "hello", 200},
      {"GET", "/chunked/5", "abcde", 200},
      {"GET", "/chunked/0", "", 200},
      {"GET", "/bytes/0", "", 200},
      {"GET", "/bytes/1", "a", 200},
      {"HEAD", "/chunked/5", "", 200},
      {"HEAD", "/head-with-length", "", 200},
      {"GET", "/no-reason", "hello", 200},
      {"GET", "/folded-header", "hello", 200},
      {"GET", "/status/404", "hello", 404},
      {"GET", "/status/500", "hello", 500},
      {"GET", "/status/599", "hello", 599},
      {"GET", "/redirect", "", 302},
      {"POST", "/continue", "hello", 200},
      {"GET", "/unknown", "hello", 404},
      {"OPTIONS", "/ok", "hello", 200},
      {"TRACE", "/ok", "hello", 200},
      {"PURGE", "/ok", "hello", 200},
      {"HEAD", "/304", "", 304},
  };
  for (int round = 0; round < 3; round++)
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
      struct answer answer = peer_ask(f, &(struct ask){.method = kinds[i].method, .url = kinds[i].path});
      if (answer.status != CPOOL_OK || answer.code != kinds[i].code || strcmp(answer.body, kinds[i].body) != 0)
        fail_msg("%s %s: %s, %d, \"%s\"", kinds[i].method, kinds[i].path, cpool_status_name(answer.status), answer.code,
                 answer.body);
    }
  assert_int_equal(peer_counts(f->server).accepted, 1);
  struct answer folded = peer_get(f, "/folded-header");
  assert_string_equal(cpool_response_header(folded.resp, "x-folded"), "one two");
  struct answer interim = peer_get(f, "/interim");
  assert_null(cpool_response_header(interim.resp, "link"));
}

static void an_announced_close_is_obeyed(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < 10; i++) {
    struct answer answer = peer_get(f, i % 2 ? "/close" : "/http10");
    peer_is_200(answer, "hello");
    assert_int_equal(answer.info.reused, 0);
    assert_int_equal(answer.info.http_version, i % 2 ? 11 : 10);
  }
  peer_await(f, closed_response, 10);
  assert_int_equal(peer_counts(f->server).accepted, 10);
}

static void an_unasked_switch_of_protocols_is_no_answer(void **state)
{
  struct peer *f = *state;
  struct answer answer = peer_ask(f, &(struct ask){.url = "/status/101", .read_ms = 300});
  assert_true(answer.status == CPOOL_EPROTOCOL || answer.status == CPOOL_ETIMEOUT_READ);
  struct answer next = peer_get(f, "/ok");
  peer_is_200(next, "hello");
  assert_int_equal(next.info.reused, 0);
}

#define nginx_case(test) cmocka_unit_test_setup_teardown(test, setup_nginx, teardown_nginx)

int main(void)
{
  const struct CMUnitTest tests[] = {
      nginx_case(every_method_reaches_nginx),
      nginx_case(requests_in_turn_use_one_connection_of_nginx),
      nginx_case(nginx_ends_connections_after_its_limit_of_requests),
      nginx_case(nginx_without_keep_alive_costs_a_connection_each),
      nginx_case(idle_connections_that_nginx_closes_cost_no_post),
      nginx_case(a_reload_of_nginx_costs_no_get),
      nginx_case(bodies_of_nginx_arrive_whole),
      nginx_case(nginx_counts_each_byte_of_an_upload),
      peer_case(heads_hold_what_is_documented_and_nothing_else),
      peer_case(the_target_is_sent_as_written_without_its_fragment),
      peer_case(the_host_header_may_be_set_by_the_caller),
      peer_case(bodies_come_back_byte_by_byte),
      peer_case(each_shape_of_answer_keeps_the_connection),
      peer_case(an_announced_close_is_obeyed),
      peer_case(an_unasked_switch_of_protocols_is_no_answer),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
