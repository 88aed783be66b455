/* redirects: what is followed, by which method, how often; nginx as the other side */
#include "redirect_fixture.h"

#include "support/certs.h"
#include "support/process.h"

/* -------------------------------------------------------------------------------------------------------- following */

static void nobody_who_did_not_ask_is_redirected(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  moved(f, "/from", 302, "/ok");
  cpool_request req = request_to(f, on_host(f, 1, "/from"));
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 302);
  assert_string_equal(cpool_response_body(out.resp, NULL), "moved");
  assert_string_equal(cpool_response_url(out.resp), on_host(f, 1, "/from"));
  assert_int_equal(info_of(&out).redirects, 0);
  assert_refused(cpool_response_redirect_at(out.resp, 0, NULL, NULL), CPOOL_EINVAL, "redirects");
  cpool_response_free(out.resp);
  assert_int_equal(stats_of(f).redirects, 0);
}

static void a_chain_is_followed_and_told(void **state)
{
  struct pool_fixture *f = *state;
  static const char *const paths[] = {"/redirect/2", "/redirect/1", "/redirect/0"};
  open_pool(f, NULL);
  cpool_request req = follow(f, "/redirect/2");
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  assert_string_equal(cpool_response_body(out.resp, NULL), "hello");
  assert_string_equal(cpool_response_url(out.resp), on_host(f, 1, "/ok"));
  cpool_response_info info = info_of(&out);
  assert_int_equal(info.redirects, 3);
  assert_int_equal(info.attempts, 4);
  assert_int_equal(info.reused, 1);
  for (size_t i = 0; i < 3; i++) {
    int32_t status = 0;
    const char *url = NULL;
    assert_int_equal(cpool_response_redirect_at(out.resp, i, &status, &url), CPOOL_OK);
    assert_int_equal(status, 302);
    assert_string_equal(url, on_host(f, 1, paths[i]));
  }
  assert_int_equal(cpool_response_redirect_at(out.resp, 0, NULL, NULL), CPOOL_OK);
  assert_refused(cpool_response_redirect_at(out.resp, 3, NULL, NULL), CPOOL_EINVAL, "3");
  cpool_response_free(out.resp);
  assert_int_equal(counts_of(f).accepted, 1);
}

static void redirects_are_counted_once_and_hosts_add_up(void **state)
{
  struct pool_fixture *f = *state;
  uint64_t cursor = 0, requests = 0, succeeded = 0, failed = 0;
  cpool_origin_stats row;
  cpool_histogram queued, total;
  open_pool(f, NULL);
  moved(f, "/from", 302, on_host(f, 2, "/redirect/1"));
  cpool_request req = follow(f, "/from");
  for (int i = 0; i < 5; i++)
    cpool_response_free(end_of(f, &req).resp);
  req.max_redirects = 2;
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_EREDIRECT, 302);
  cpool_response_free(out.resp);
  eventually(stats_of(f).failed == 1);
  cpool_http_stats stats = stats_of(f);
  assert_int_equal(stats.redirects, 5 * 3 + 2);
  assert_int_equal(stats.requests, 6);
  assert_int_equal(stats.succeeded, 5);
  assert_int_equal(stats.repeated, 0);
  while (cpool_http_origins_get(f->pool, &cursor, &row, sizeof row, 1) == 1) {
    requests += row.requests;
    succeeded += row.succeeded;
    failed += row.failed;
  }
  assert_int_equal(requests, stats.requests + stats.redirects);
  assert_int_equal(succeeded, stats.succeeded + stats.redirects);
  assert_int_equal(failed, stats.failed);
  cpool_histogram_init(&queued);
  cpool_histogram_init(&total);
  assert_int_equal(cpool_http_histogram_get(f->pool, CPOOL_PHASE_QUEUE, &queued), CPOOL_OK);
  assert_int_equal(cpool_http_histogram_get(f->pool, CPOOL_PHASE_TOTAL, &total), CPOOL_OK);
  assert_int_equal(queued.count, stats.requests + stats.redirects);
  assert_int_equal(total.count, stats.requests);
  assert_balanced(f->pool);
}

static void a_session_follows_and_a_request_has_the_last_word(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_session *session = following(f, 1);
  cpool_request req = request_to(f, on_host(f, 1, "/redirect/0"));
  static const struct {
    int32_t max;
    const char *path;
    int status, code;
  } cases[] = {{0, "/redirect/0", CPOOL_OK, 200},
               {0, "/redirect/1", CPOOL_EREDIRECT, 302},
               {CPOOL_OFF, "/redirect/1", CPOOL_OK, 302},
               {2, "/redirect/1", CPOOL_OK, 200}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    req.url = on_host(f, 1, cases[i].path);
    req.max_redirects = cases[i].max;
    submit_in(session, &req);
    struct outcome out = take(f);
    assert_ended(&out, cases[i].status, cases[i].code);
    cpool_response_free(out.resp);
  }
  req.max_redirects = 51;
  assert_refused(cpool_submit(session, &req, NULL), CPOOL_EINVAL, "max_redirects");
  req.max_redirects = -2;
  assert_refused(cpool_submit(session, &req, NULL), CPOOL_EINVAL, "max_redirects");
  cpool_session_free(session);
}

static void each_code_keeps_or_changes_the_method_as_it_must(void **state)
{
  static const struct {
    int code;
    const char *method, *arrives;
    bool body;
  } cases[] = {
      {301, "GET", "GET", false},      {301, "HEAD", "HEAD", false},  {301, "POST", "GET", false},
      {301, "PUT", "PUT", true},       {302, "GET", "GET", false},    {302, "HEAD", "HEAD", false},
      {302, "POST", "GET", false},     {302, "PATCH", "PATCH", true}, {302, "DELETE", "DELETE", false},
      {303, "GET", "GET", false},      {303, "HEAD", "HEAD", false},  {303, "POST", "GET", false},
      {303, "PUT", "GET", false},      {303, "DELETE", "GET", false}, {303, "REPORT", "GET", false},
      {307, "GET", "GET", false},      {307, "HEAD", "HEAD", false},  {307, "POST", "POST", true},
      {307, "PUT", "PUT", true},       {308, "POST", "POST", true},   {308, "DELETE", "DELETE", false},
      {308, "REPORT", "REPORT", true},
  };
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  const cpool_header headers[] = {{"Content-Type", "text/x-test"}, {"Content-Language", "de"}, {"X-Kept", "yes"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char wanted[64];
    bool has_body = strcmp(cases[i].method, "GET") != 0 && strcmp(cases[i].method, "HEAD") != 0 &&
                    strcmp(cases[i].method, "DELETE") != 0;
    moved(f, "/from", cases[i].code, "/to");
    fault_server_answer(f->server, "/to", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nto");
    cpool_request req = follow(f, "/from");
    req.method = cases[i].method;
    req.headers = headers;
    req.header_count = 3;
    if (has_body) {
      req.body = "payload";
      req.body_len = 7;
    }
    struct outcome out = end_of(f, &req);
    assert_ended(&out, CPOOL_OK, 200);
    cpool_response_free(out.resp);
    size_t len = 0;
    char *head = fault_server_last_head(f->server), *body = fault_server_last_body(f->server, &len);
    snprintf(wanted, sizeof wanted, "%s /to HTTP/1.1\r\n", cases[i].arrives);
    if (strncmp(head, wanted, strlen(wanted)) != 0)
      fail_msg("%d %s: %.80s", cases[i].code, cases[i].method, head);
    assert_int_equal(len, cases[i].body ? 7 : 0);
    bool changed = strcmp(cases[i].method, cases[i].arrives) != 0;
    assert_int_equal(strstr(head, "Content-Language: de\r\n") != NULL, !changed);
    assert_int_equal(strstr(head, "Content-Type: text/x-test\r\n") != NULL, !changed);
    assert_int_equal(strstr(head, "Content-Length:") != NULL, cases[i].body);
    assert_non_null(strstr(head, "X-Kept: yes\r\n"));
    free(head);
    free(body);
  }
}

static void a_body_dropped_by_a_redirect_stays_away(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  moved(f, "/from", 303, "/more");
  moved(f, "/more", 307, "/to");
  cpool_request req = follow(f, "/from");
  req.body = "payload";
  req.body_len = 7;
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 404);
  cpool_response_free(out.resp);
  assert_true(last_head_has(f, "GET /to HTTP/1.1\r\n"));
  moved(f, "/from", 308, "/echo"); /* and one that is kept is sent again whole */
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  assert_string_equal(cpool_response_body(out.resp, NULL), "payload");
  cpool_response_free(out.resp);
}

static void a_large_body_is_sent_again(void **state)
{
  struct pool_fixture *f = *state;
  size_t size = 300000, len = 0;
  char *body = malloc(size);
  assert_non_null(body);
  for (size_t i = 0; i < size; i++)
    body[i] = fault_pattern((int64_t) i);
  open_pool(f, NULL);
  moved(f, "/from", 307, on_host(f, 2, "/echo"));
  cpool_request req = follow(f, "/from");
  req.method = "PUT";
  req.body = body;
  req.body_len = size;
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  const char *echoed = cpool_response_body(out.resp, &len);
  assert_int_equal(len, size);
  assert_memory_equal(echoed, body, size);
  assert_true(info_of(&out).bytes_sent > 2 * size);
  cpool_response_free(out.resp);
  free(body);
}

/* ------------------------------------------------------------------------------------------------------------- ends */

static void one_redirect_too_many_ends_with_the_last_answer(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = follow(f, "/redirect/20");
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_EREDIRECT, 302);
  assert_named(&out, "redirect 11");
  assert_named(&out, "max_redirects");
  assert_int_equal(info_of(&out).redirects, LIMIT);
  assert_string_equal(cpool_response_url(out.resp), on_host(f, 1, "/redirect/10"));
  assert_string_equal(cpool_response_header(out.resp, "Location"), "/redirect/9");
  cpool_response_free(out.resp);
  req = follow(f, "/redirect/49");
  req.max_redirects = 50;
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  assert_int_equal(info_of(&out).redirects, 50);
  cpool_response_free(out.resp);
}

static void a_loop_is_recognised(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = follow(f, "/redirect-loop");
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_EREDIRECT, 302);
  assert_named(&out, "redirect 1");
  assert_named(&out, "loop");
  cpool_response_free(out.resp);
  assert_int_equal(counts_of(f).requests, 1);

  moved(f, "/a", 302, "/b");
  moved(f, "/b", 307, on_host(f, 2, "/c"));
  moved(f, "/c", 301, on_host(f, 1, "/b#again"));
  req = follow(f, "/a");
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_EREDIRECT, 301);
  assert_named(&out, "redirect 3");
  assert_string_equal(cpool_response_url(out.resp), on_host(f, 2, "/c"));
  cpool_response_free(out.resp);
}

static void the_same_url_by_another_method_is_no_loop(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  moved(f, "/a", 303, "/b");
  moved(f, "/b", 302, "/a");
  cpool_request req = follow(f, "/a");
  req.body = "payload";
  req.body_len = 7;
  struct outcome out = end_of(f, &req); /* POST /a, GET /b, GET /a, GET /b */
  assert_ended(&out, CPOOL_EREDIRECT, 303);
  assert_int_equal(info_of(&out).redirects, 2);
  cpool_response_free(out.resp);
}

static void a_long_body_of_a_redirect_is_not_waited_for(void **state)
{
  static const char head[] = "HTTP/1.1 302 Found\r\nLocation: /ok\r\n";
  struct pool_fixture *f = *state;
  char *text = malloc(400000);
  assert_non_null(text);
  open_pool(f, NULL);
  cpool_request req = follow(f, "/from");
  /* announced, and never sent whole */
  snprintf(text, 400000, "%sContent-Length: 1000000000\r\n\r\nx", head);
  fault_server_answer(f->server, "/from", text);
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  assert_string_equal(cpool_response_body(out.resp, NULL), "hello");
  cpool_response_free(out.resp);
  /* of unknown length */
  int len = snprintf(text, 400000, "%sConnection: close\r\n\r\n", head);
  memset(text + len, 'x', 300000);
  text[len + 300000] = '\0';
  fault_server_answer(f->server, "/from", text);
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_free(out.resp);
  eventually(stats_of(f).closed_response == 2);
  /* beyond the caller's own cap, which is for what the caller gets */
  moved(f, "/from", 302, "/204");
  req.max_response_bytes = 1;
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 204);
  cpool_response_free(out.resp);
  free(text);
  assert_balanced(f->pool);
}

static void the_last_answer_is_judged_by_itself_alone(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  moved(f, "/from", 302, "/lying-length");
  cpool_request req = follow(f, "/from");
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_EBODY_TOO_LARGE, 200); /* by its announced length, not when its bytes have come */
  cpool_response_free(out.resp);
  moved(f, "/from", 302, "/204");
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 204);
  assert_string_equal(cpool_response_body(out.resp, NULL), "");
  assert_null(cpool_response_header(out.resp, "Location"));
  cpool_response_free(out.resp);
}

static void the_body_of_a_redirect_is_not_decoded(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  fault_server_answer(
      f->server, "/from",
      "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nmoved");
  cpool_request req = follow(f, "/from");
  req.flags = CPOOL_REQUEST_DECOMPRESS;
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  assert_string_equal(cpool_response_body(out.resp, NULL), "hello");
  cpool_response_free(out.resp);
  assert_true(last_head_has(f, "\r\nAccept-Encoding: "));
  fault_server_answer(f->server, "/ok", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello");
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_EENCODING, 200); /* that of the last answer is */
  cpool_response_free(out.resp);
}

static void a_redirect_cut_short_is_no_redirect(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  fault_server_answer(f->server, "/from",
                      "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nmoved");
  cpool_request req = follow(f, "/from");
  struct outcome out = end_of(f, &req);
  assert_int_equal(out.status, CPOOL_EPROTOCOL);
  cpool_response_free(out.resp);
  fault_server_answer(f->server, "/from", "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 9\r\n\r\nmoved");
  submit(f, &req);
  eventually(counts_of(f).requests == 2);
  eventually(fault_server_drop_all(f->server) > 0);
  out = take(f);
  assert_true(out.status == CPOOL_ETRUNCATED ||
              out.status == CPOOL_ERESET); /* the server may have been cut off before */
  cpool_response_free(out.resp);
  assert_int_equal(stats_of(f).redirects, 0);
}

/* ------------------------------------------------------------------------------------------------------------ nginx */

static void follow_nginx(struct pool_fixture *f, int32_t http_version)
{
  struct certs *certs = certs_new();
  struct process *nginx = nginx_start(
      &(struct nginx_options){.certs = certs,
                              .http2 = http_version == CPOOL_HTTP_2,
                              .server_lines = "location = /moved { return 301 /ok; }\n" /* made absolute by nginx */
                                              "location = /to { return 302 $arg_to; }\n"
                                              "location = /method { return 200 $request_method; }\n"
                                              "location = /see { return 303 /method; }\n"
                                              "location = /again { return 308 /method; }\n"
                                              "rewrite ^/old/(.*)$ /$1 permanent;\n"});
  assert_non_null(nginx);
  cpool_session_options options = session_options();
  options.ca_file = certs->ca_file;
  options.max_redirects = LIMIT;
  options.http_version = http_version;
  open_pool(f, NULL);
  cpool_session *session = session_open(f->pool, &options);
  char plain[64], secured[64], up[160], down[160];
  snprintf(plain, sizeof plain, "http://127.0.0.1:%u", (unsigned) process_port(nginx));
  snprintf(secured, sizeof secured, "https://127.0.0.1:%u", (unsigned) process_tls_port(nginx));
  snprintf(up, sizeof up, "/to?to=%s/ok", secured);
  snprintf(down, sizeof down, "/to?to=%s/ok", plain);
  const struct {
    const char *base, *path, *method, *body;
    int status, code;
    const char *end;
  } cases[] = {{plain, "/moved", "GET", NULL, CPOOL_OK, 200, "hello\n"},
               {plain, "/old/old/moved", "GET", NULL, CPOOL_OK, 200, "hello\n"},
               {secured, "/moved", "GET", NULL, CPOOL_OK, 200, "hello\n"},
               {plain, up, "GET", NULL, CPOOL_OK, 200, "hello\n"},
               {secured, down, "GET", NULL, CPOOL_EREDIRECT, 302, NULL},
               {plain, "/see", "POST", "payload", CPOOL_OK, 200, "GET"},
               {secured, "/see", "POST", "payload", CPOOL_OK, 200, "GET"},
               {secured, "/again", "POST", "payload", CPOOL_OK, 200, "POST"},
               {plain, "/again", "POST", "payload", CPOOL_OK, 200, "POST"},
               {plain, "/again", "PUT", "payload", CPOOL_OK, 200, "PUT"},
               {plain, "/moved", "POST", "payload", CPOOL_OK, 200, "hello\n"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char url[256];
    snprintf(url, sizeof url, "%s%s", cases[i].base, cases[i].path);
    cpool_request req = request_to(f, url);
    req.method = cases[i].method;
    req.body = cases[i].body;
    req.body_len = cases[i].body != NULL ? strlen(cases[i].body) : 0;
    submit_in(session, &req);
    struct outcome out = take(f);
    assert_ended(&out, cases[i].status, cases[i].code);
    if (cases[i].end != NULL)
      assert_string_equal(cpool_response_body(out.resp, NULL), cases[i].end);
    if (strncmp(cpool_response_url(out.resp), "https", 5) == 0)
      assert_int_equal(info_of(&out).http_version, http_version == CPOOL_HTTP_2 ? 20 : 11);
    cpool_response_free(out.resp);
  }
  cpool_session_free(session);
  close_pool(f);
  process_stop(nginx);
  certs_free(certs);
}

static void nginx_s_redirects_are_followed(void **state)
{
  follow_nginx(*state, CPOOL_HTTP_1_1);
}

static void those_over_http2_are_too(void **state)
{
  follow_nginx(*state, CPOOL_HTTP_2);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      REDIRECT_CASE(nobody_who_did_not_ask_is_redirected),
      REDIRECT_CASE(a_chain_is_followed_and_told),
      REDIRECT_CASE(redirects_are_counted_once_and_hosts_add_up),
      REDIRECT_CASE(a_session_follows_and_a_request_has_the_last_word),
      REDIRECT_CASE(each_code_keeps_or_changes_the_method_as_it_must),
      REDIRECT_CASE(a_body_dropped_by_a_redirect_stays_away),
      REDIRECT_CASE(a_large_body_is_sent_again),
      REDIRECT_CASE(one_redirect_too_many_ends_with_the_last_answer),
      REDIRECT_CASE(a_loop_is_recognised),
      REDIRECT_CASE(the_same_url_by_another_method_is_no_loop),
      REDIRECT_CASE(a_long_body_of_a_redirect_is_not_waited_for),
      REDIRECT_CASE(the_last_answer_is_judged_by_itself_alone),
      REDIRECT_CASE(the_body_of_a_redirect_is_not_decoded),
      REDIRECT_CASE(a_redirect_cut_short_is_no_redirect),
      REDIRECT_CASE(nginx_s_redirects_are_followed),
      REDIRECT_CASE(those_over_http2_are_too),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
