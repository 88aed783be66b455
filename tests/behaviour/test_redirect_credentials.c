/* redirect_credentials: what another origin must not see, and the ways that are no way: https to http */
#include "redirect_fixture.h"

#include "support/certs.h"

/* ------------------------------------------------------------------------------------------------------ credentials */

static const cpool_header confidential[] = {{"Authorization", "secret-1"}, {"Cookie", "secret-2"},
                                            {"X-Auth-Key", "secret-3"},    {"X-Api-Key", "secret-4"},
                                            {"Private-Token", "secret-5"}, {"X-Amz-Security-Token", "secret-6"},
                                            {"Host", "secret-7"},          {"Idempotency-Key", "plain-1"},
                                            {"Accept", "plain-2"},         {"X-Trace", "plain-3"}};
enum { CONFIDENTIAL = 7, ALL_HEADERS = 10 };

static void assert_headers_arrived(struct pool_fixture *f, bool confidential_too)
{
  char *head = fault_server_last_head(f->server);
  for (size_t i = 0; i < ALL_HEADERS; i++) {
    bool there = strstr(head, confidential[i].value) != NULL;
    if (there != (i >= CONFIDENTIAL || confidential_too))
      fail_msg("%s is %sthere: %s", confidential[i].name, there ? "" : "not ", head);
  }
  free(head);
}

static void credentials_go_to_the_first_origin_alone(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = follow(f, "/from");
  req.headers = confidential;
  req.header_count = ALL_HEADERS;
  moved(f, "/from", 302, "/ok");
  cpool_response_free(end_of(f, &req).resp);
  assert_headers_arrived(f, true);
  moved(f, "/from", 302, on_host(f, 2, "/ok"));
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_free(out.resp);
  assert_headers_arrived(f, false);
  char host[64];
  snprintf(host, sizeof host, "\r\nHost: 127.0.0.2:%u\r\n", (unsigned) fault_server_port(f->server));
  assert_true(last_head_has(f, host));
  moved(f, "/from", 302, on_host(f, 2, "/back")); /* a way back does not bring them back */
  moved(f, "/back", 302, on_host(f, 1, "/ok"));
  cpool_response_free(end_of(f, &req).resp);
  assert_headers_arrived(f, false);
  struct fault_server *other = fault_server_start(&(struct fault_options){0}); /* the port is part of the origin */
  char url[64];
  snprintf(url, sizeof url, "http://127.0.0.1:%u/ok", (unsigned) fault_server_port(other));
  moved(f, "/from", 307, url);
  struct fault_server *first = f->server;
  cpool_response_free(end_of(f, &req).resp);
  f->server = other;
  assert_headers_arrived(f, false);
  f->server = first;
  fault_server_stop(other);
}

/* The one GET of the session, and whether its credentials reached the last host. */
static bool arrive_with_credentials(struct pool_fixture *f, cpool_session *session, const char *url)
{
  cpool_request req = request_to(f, url);
  submit_in(session, &req);
  struct outcome out = take(f);
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_free(out.resp);
  return last_head_has(f, "\r\nAuthorization: ");
}

static void a_session_s_credentials_stay_at_home_too(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  moved(f, "/near", 302, "/ok");
  moved(f, "/far", 302, on_host(f, 2, "/ok"));
  moved(f, "/home", 302, on_host(f, 1, "/ok"));
  for (int way = 0; way < 4; way++) {
    cpool_session_options options = session_options();
    options.max_redirects = LIMIT;
    if (way == 3) {
      options.headers = confidential;
      options.header_count = 1;
    } else if (way == 2) {
      options.bearer_token = "token";
    } else {
      options.username = "user";
    }
    options.base_url = way == 0 ? on_host(f, 1, "") : NULL;
    cpool_session *session = session_open(f->pool, &options);
    assert_true(arrive_with_credentials(f, session, on_host(f, 1, "/near")));
    assert_false(arrive_with_credentials(f, session, on_host(f, 1, "/far")));
    /* from elsewhere to the origin of the base URL: a peer must not choose what they are used for */
    if (way == 0)
      assert_false(arrive_with_credentials(f, session, on_host(f, 2, "/home")));
    assert_true(arrive_with_credentials(f, session, on_host(f, 1, "/ok"))); /* the session itself keeps them */
    cpool_session_free(session);
  }
}

/* ---------------------------------------------------------------------------------------------- schemes and sockets */

struct secure {
  struct certs *certs;
  struct fault_server *server;
  cpool_session *session;
  char url[64];
};

static struct secure secure_open(struct pool_fixture *f)
{
  struct secure tls = {.certs = certs_new()};
  cpool_session_options options = session_options();
  tls.server = fault_server_start(
      &(struct fault_options){.tls_cert_file = tls.certs->good.cert_file, .tls_key_file = tls.certs->good.key_file});
  assert_non_null(tls.server);
  options.ca_file = tls.certs->ca_file;
  options.max_redirects = LIMIT;
  options.username = "user";
  open_pool(f, NULL);
  tls.session = session_open(f->pool, &options);
  snprintf(tls.url, sizeof tls.url, "https://127.0.0.1:%u/ok", (unsigned) fault_server_port(tls.server));
  return tls;
}

static void secure_close(struct pool_fixture *f, struct secure *tls)
{
  cpool_session_free(tls->session);
  close_pool(f);
  fault_server_stop(tls->server);
  certs_free(tls->certs);
}

static void http_may_lead_to_https_and_never_back(void **state)
{
  struct pool_fixture *f = *state;
  struct secure tls = secure_open(f);
  moved(f, "/up", 301, tls.url);
  cpool_request req = request_to(f, on_host(f, 1, "/up"));
  submit_in(tls.session, &req);
  struct outcome out = take(f);
  assert_ended(&out, CPOOL_OK, 200);
  assert_string_equal(cpool_response_url(out.resp), tls.url);
  cpool_response_free(out.resp);
  char *head = fault_server_last_head(tls.server);
  assert_null(strstr(head, "Authorization"));
  free(head);
  char text[512];
  snprintf(text, sizeof text, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", on_host(f, 1, "/ok"));
  fault_server_answer(tls.server, "/ok", text);
  int64_t before = counts_of(f).requests;
  req.url = tls.url;
  submit_in(tls.session, &req);
  out = take(f);
  assert_ended(&out, CPOOL_EREDIRECT, 302);
  assert_named(&out, "https to http");
  cpool_response_free(out.resp);
  req.url = on_host(f, 1, "/up"); /* nor at a later hop */
  submit_in(tls.session, &req);
  out = take(f);
  assert_ended(&out, CPOOL_EREDIRECT, 302);
  assert_named(&out, "redirect 2");
  cpool_response_free(out.resp);
  assert_int_equal(counts_of(f).requests, before + 1);
  secure_close(f, &tls);
}

static void https_keeps_its_credentials_at_the_same_origin(void **state)
{
  struct pool_fixture *f = *state;
  struct secure tls = secure_open(f);
  fault_server_answer(tls.server, "/from", "HTTP/1.1 302 Found\r\nLocation: ok\r\nContent-Length: 0\r\n\r\n");
  char url[96];
  snprintf(url, sizeof url, "https://127.0.0.1:%u/from", (unsigned) fault_server_port(tls.server));
  cpool_request req = request_to(f, url);
  submit_in(tls.session, &req);
  struct outcome out = take(f);
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_free(out.resp);
  char *head = fault_server_last_head(tls.server);
  assert_non_null(strstr(head, "Authorization: Basic "));
  free(head);
  secure_close(f, &tls);
}

static void a_unix_socket_stays_the_way_to_all_hosts(void **state)
{
  struct pool_fixture *f = *state;
  char *dir = temp_dir_new(), path[256];
  snprintf(path, sizeof path, "%s/socket", dir);
  struct fault_server *server = fault_server_start(&(struct fault_options){.unix_path = path});
  cpool_session_options options = session_options();
  options.unix_socket_path = path;
  options.max_redirects = LIMIT;
  open_pool(f, NULL);
  cpool_session *session = session_open(f->pool, &options);
  fault_server_answer(server, "/from",
                      "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.test/ok\r\nContent-Length: 0\r\n\r\n");
  cpool_request req = request_to(f, "http://here.test/from");
  submit_in(session, &req);
  struct outcome out = take(f);
  assert_ended(&out, CPOOL_OK, 200);
  assert_string_equal(info_of(&out).remote_address, "unix");
  cpool_response_free(out.resp);
  char *head = fault_server_last_head(server);
  assert_non_null(strstr(head, "\r\nHost: elsewhere.test\r\n"));
  free(head);
  cpool_session_free(session);
  close_pool(f);
  fault_server_stop(server);
  temp_dir_free(dir);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      REDIRECT_CASE(credentials_go_to_the_first_origin_alone),
      REDIRECT_CASE(a_session_s_credentials_stay_at_home_too),
      REDIRECT_CASE(http_may_lead_to_https_and_never_back),
      REDIRECT_CASE(https_keeps_its_credentials_at_the_same_origin),
      REDIRECT_CASE(a_unix_socket_stays_the_way_to_all_hosts),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
