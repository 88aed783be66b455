/* test_sessions: what a session adds to each request, and that identities never share a connection */
#include "support/pool_fixture.h"

/* One GET through the session; what the server saw of it. The text is the caller's. */
static char *head_through(struct pool_fixture *f, cpool_session *session, const char *url, const cpool_header *headers,
                          size_t header_count)
{
  cpool_request req = request_to(f, url);
  req.headers = headers;
  req.header_count = header_count;
  submit_in(session, &req);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_OK);
  cpool_response_free(out.resp);
  return fault_server_last_head(f->server);
}

static int occurrences(const char *text, const char *part)
{
  int count = 0;
  while ((text = strstr(text, part)) != NULL) {
    count++;
    text += strlen(part);
  }
  return count;
}

static void base_url_is_put_before_relative_urls(void **state)
{
  static const struct {
    const char *base, *url, *target;
  } cases[] = {{"", "/x", "/x"},
               {"/", "/x", "/x"},
               {"/api", "/x", "/api/x"},
               {"/api/", "/x", "/api/x"},
               {"/api", "?q=1", "/api?q=1"},
               {"", "?q=1", "/?q=1"},
               {"/a/b", "/../c", "/a/b/../c"},
               {"/api", "/x?y=/z#part", "/api/x?y=/z"},
               {"/a%20b", "/%2F", "/a%20b/%2F"}};
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char wanted[128];
    cpool_session_options options = session_options();
    options.base_url = url_of(f, cases[i].base);
    cpool_session *session = session_open(f->pool, &options);
    char *head = head_through(f, session, cases[i].url, NULL, 0);
    snprintf(wanted, sizeof wanted, "GET %s HTTP/1.1\r\n", cases[i].target);
    if (strncmp(head, wanted, strlen(wanted)) != 0)
      fail_msg("%s + %s: %.60s", cases[i].base, cases[i].url, head);
    snprintf(wanted, sizeof wanted, "Host: 127.0.0.1:%u\r\n", (unsigned) fault_server_port(f->server));
    assert_non_null(strstr(head, wanted));
    free(head);
    head = head_through(f, session, url_of(f, "/absolute"), NULL, 0); /* the base is not in the way of other URLs */
    assert_int_equal(strncmp(head, "GET /absolute HTTP/1.1\r\n", 24), 0);
    free(head);
    cpool_session_free(session);
  }
}

static void default_headers_are_sent_unless_the_request_sets_them(void **state)
{
  struct pool_fixture *f = *state;
  const cpool_header defaults[] = {{"X-One", "1"}, {"X-Two", "2"}, {"X-Empty", ""}, {"User-Agent", "session/1"}};
  const cpool_header own[] = {{"x-two", "mine"}, {"X-Three", "3"}, {"X-Three", "again"}};
  cpool_session_options options = session_options();
  options.headers = defaults;
  options.header_count = 4;
  open_pool(f, NULL);
  cpool_session *session = session_open(f->pool, &options);
  char *head = head_through(f, session, url_of(f, "/ok"), NULL, 0);
  assert_non_null(strstr(head, "X-One: 1\r\n"));
  assert_non_null(strstr(head, "X-Two: 2\r\n"));
  assert_non_null(strstr(head, "X-Empty:"));
  assert_non_null(strstr(head, "User-Agent: session/1\r\n"));
  assert_int_equal(occurrences(head, "User-Agent:"), 1);
  free(head);
  head = head_through(f, session, url_of(f, "/ok"), own, 3);
  assert_non_null(strstr(head, "X-One: 1\r\n"));
  assert_non_null(strstr(head, "x-two: mine\r\n"));
  assert_null(strstr(head, "X-Two"));
  assert_non_null(strstr(head, "X-Three: 3\r\n"));
  assert_non_null(strstr(head, "X-Three: again\r\n"));
  free(head);
  head = head_through(f, cpool_http_session(f->pool), url_of(f, "/ok"), NULL, 0); /* they are the session's alone */
  assert_null(strstr(head, "X-One"));
  assert_non_null(strstr(head, "User-Agent: libcpool/"));
  free(head);
  assert_int_equal(counts_of(f).accepted, 1); /* headers do not keep connections apart */
  cpool_session_free(session);
}

static void credentials_are_sent_and_can_be_overridden(void **state)
{
  struct pool_fixture *f = *state;
  const cpool_header own = {"authorization", "Custom x"};
  open_pool(f, NULL);
  cpool_session_options basic = session_options(), bearer = session_options();
  basic.username = "Aladdin";
  basic.password = "open sesame";
  bearer.bearer_token = "mF_9.B5f-4.1JqM";
  cpool_session *first = session_open(f->pool, &basic), *second = session_open(f->pool, &bearer);
  char *head = head_through(f, first, url_of(f, "/ok"), NULL, 0);
  assert_non_null(strstr(head, "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n")); /* RFC 7617 section 2 */
  free(head);
  head = head_through(f, second, url_of(f, "/ok"), NULL, 0);
  assert_non_null(strstr(head, "Authorization: Bearer mF_9.B5f-4.1JqM\r\n")); /* RFC 6750 section 2.1 */
  free(head);
  head = head_through(f, first, url_of(f, "/ok"), &own, 1);
  assert_non_null(strstr(head, "authorization: Custom x\r\n"));
  assert_null(strstr(head, "Basic"));
  free(head);
  head = head_through(f, cpool_http_session(f->pool), url_of(f, "/ok"), NULL, 0);
  assert_null(strstr(head, "uthorization"));
  free(head);
  basic = session_options();
  basic.username = "user"; /* without a password */
  cpool_session *third = session_open(f->pool, &basic);
  head = head_through(f, third, url_of(f, "/ok"), NULL, 0);
  assert_non_null(strstr(head, "Authorization: Basic dXNlcjo=\r\n"));
  free(head);
  cpool_session_free(first);
  cpool_session_free(second);
  cpool_session_free(third);
}

static void credentials_go_to_the_host_of_the_base_url_alone(void **state)
{
  struct pool_fixture *f = *state;
  char base[64], elsewhere[64];
  open_pool(f, NULL);
  snprintf(base, sizeof base, "http://127.0.0.1:%d", (int) fault_server_port(f->server));
  snprintf(elsewhere, sizeof elsewhere, "http://localhost:%d/ok", (int) fault_server_port(f->server));
  const cpool_header both[] = {{"X-One", "1"}};
  cpool_session_options bearer = session_options();
  bearer.base_url = base;
  bearer.bearer_token = "secret";
  bearer.headers = both;
  bearer.header_count = 1;
  cpool_session *session = session_open(f->pool, &bearer);
  const char *own[] = {"/ok", url_of(f, "/ok")};
  for (int i = 0; i < 2; i++) {
    char *head = head_through(f, session, own[i], NULL, 0);
    assert_non_null(strstr(head, "Authorization: Bearer secret\r\n"));
    free(head);
  }
  char *head = head_through(f, session, elsewhere, NULL, 0);
  assert_null(strstr(head, "Authorization"));
  assert_null(strstr(head, "secret"));
  assert_non_null(strstr(head, "X-One: 1\r\n"));
  assert_non_null(strstr(head, "User-Agent: libcpool/"));
  free(head);
  cpool_session_free(session);
}

static void identities_never_share_connections_and_equal_ones_do(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_session_options strict = session_options(), loose = session_options(), loose_too = session_options();
  loose.tls_verify = loose_too.tls_verify = CPOOL_OFF;
  loose_too.bearer_token = "x";
  cpool_session *sessions[] = {session_open(f->pool, &strict), session_open(f->pool, &loose),
                               session_open(f->pool, &loose_too)};
  uint64_t connections[3];
  for (int round = 0; round < 5; round++)
    for (int i = 0; i < 3; i++) {
      cpool_request req = request_of(f, "/ok");
      submit_in(sessions[i], &req);
      struct outcome out = take(f);
      assert_int_equal(out.status, CPOOL_OK);
      connections[i] = info_of(&out).connection;
      cpool_response_free(out.resp);
    }
  assert_true(connections[0] != connections[1]);
  assert_true(connections[1] == connections[2]);
  assert_int_equal(counts_of(f).accepted, 2);
  eventually(stats_of(f).identities == 2);
  for (int i = 0; i < 3; i++)
    cpool_session_free(sessions[i]);
  eventually(stats_of(f).identities == 1);
}

static void bad_session_options_are_refused_by_name(void **state)
{
  struct pool_fixture *f = *state;
  static const struct {
    const char *key, *value, *culprit;
  } bad[] = {{"base_url", "ftp://x", "base_url"},
             {"base_url", "/relative", "base_url"},
             {"base_url", "http://h/?q", "base_url"},
             {"base_url", "http://h/#f", "base_url"},
             {"base_url", "http://u@h/", "base_url"},
             {"base_url", "http://h/\r\n", "base_url"},
             {"username", "a:b", "username"},
             {"username", "a\nb", "username"},
             {"password", "x", "password"},
             {"bearer_token", "a b", "bearer_token"},
             {"bearer_token", "", "bearer_token"},
             {"bearer_token", "a\r\nEvil: 1", "bearer_token"},
             {"tls_min_version", "1.1", "tls_min_version"},
             {"tls_verify", "maybe", "tls_verify"},
             {"ca_file", "", "ca_file"},
             {"client_key_file", "x", "client_key_file"},
             {"address_policy", "private", "address_policy"},
             {"unix_socket_path",
              "/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012"
              "345678901",
              "unix_socket_path"},
             {"headers", "x", "headers"}};
  cpool_session *session = (void *) f;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    cpool_session_options options = session_options();
    int rc = cpool_session_options_set(&options, bad[i].key, bad[i].value);
    if (rc == CPOOL_OK)
      rc = cpool_session_new(&session, f->pool, &options);
    assert_refused(rc, CPOOL_EINVAL, bad[i].culprit);
    assert_ptr_equal(session, f);
  }
  cpool_session_options options = session_options();
  options.username = "u";
  options.bearer_token = "t";
  assert_refused(cpool_session_new(&session, f->pool, &options), CPOOL_EINVAL, "bearer_token");
  options = session_options();
  options.username = "u\x01";
  assert_refused(cpool_session_new(&session, f->pool, &options), CPOOL_EINVAL, "username");
  options = session_options();
  options.username = "u";
  options.password = "p\n";
  assert_refused(cpool_session_new(&session, f->pool, &options), CPOOL_EINVAL, "password");
  options = session_options();
  options.header_count = 1;
  assert_refused(cpool_session_new(&session, f->pool, &options), CPOOL_EINVAL, "headers");
  const cpool_header header = {"Content-Length", "1"};
  options.headers = &header;
  assert_refused(cpool_session_new(&session, f->pool, &options), CPOOL_EINVAL, "Content-Length");
  options = session_options();
  options.size = 1;
  assert_refused(cpool_session_new(&session, f->pool, &options), CPOOL_EINVAL, "size");
  assert_ptr_equal(session, f);
  assert_int_equal(stats_of(f).identities, 1);
}

static void identities_are_capped_and_come_free(void **state)
{
  struct pool_fixture *f = *state;
  cpool_session *sessions[3], *session = NULL;
  cpool_http_options pool = pool_options();
  pool.max_identities = 3;
  open_pool(f, &pool);
  cpool_session_options options = session_options();
  for (int i = 0; i < 2; i++) {
    options.ca_file = i == 0 ? "/a" : "/b";
    sessions[i] = session_open(f->pool, &options);
  }
  options.ca_file = "/c";
  assert_refused(cpool_session_new(&session, f->pool, &options), CPOOL_EFULL, "max_identities");
  assert_null(session);
  options.ca_file = "/b"; /* equal ones do not count twice */
  sessions[2] = session_open(f->pool, &options);
  cpool_session_free(sessions[0]);
  options.ca_file = "/c";
  eventually(cpool_session_new(&session, f->pool, &options) == CPOOL_OK);
  cpool_session_free(session);
  cpool_session_free(sessions[1]);
  cpool_session_free(sessions[2]);
}

static void session_may_go_while_its_requests_run(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options pool = pool_options();
  pool.max_connections = 2;
  open_pool(f, &pool);
  const cpool_header header = {"X-Kept", "yes"};
  for (int round = 0; round < 20; round++) {
    cpool_session_options options = session_options();
    options.base_url = url_of(f, "");
    options.headers = &header;
    options.header_count = 1;
    options.tls_verify = round % 2 == 0 ? 0 : CPOOL_OFF;
    cpool_session *session = session_open(f->pool, &options);
    cpool_request req = request_to(f, "/echo-head");
    for (int i = 0; i < 10; i++)
      submit_in(session, &req);
    cpool_session_free(session);
    for (int i = 0; i < 10; i++) {
      struct outcome out = take(f);
      assert_int_equal(out.status, CPOOL_OK);
      assert_non_null(strstr(cpool_response_body(out.resp, NULL), "X-Kept: yes\r\n"));
      cpool_response_free(out.resp);
    }
  }
  eventually(stats_of(f).identities == 1);
}

static void session_freed_late_does_no_harm(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_session_options options = session_options();
  options.tls_verify = CPOOL_OFF;
  cpool_session *session = session_open(f->pool, &options);
  cpool_request req = request_of(f, "/blackhole");
  submit_in(session, &req);
  eventually(counts_of(f).requests == 1);
  close_pool(f);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_ECLOSED);
  cpool_response_free(out.resp);
  cpool_op op = 9;
  assert_refused(cpool_submit(session, &req, &op), CPOOL_ECLOSED, "clos");
  cpool_session_free(session);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(base_url_is_put_before_relative_urls),
      POOL_CASE(default_headers_are_sent_unless_the_request_sets_them),
      POOL_CASE(credentials_are_sent_and_can_be_overridden),
      POOL_CASE(credentials_go_to_the_host_of_the_base_url_alone),
      POOL_CASE(identities_never_share_connections_and_equal_ones_do),
      POOL_CASE(bad_session_options_are_refused_by_name),
      POOL_CASE(identities_are_capped_and_come_free),
      POOL_CASE(session_may_go_while_its_requests_run),
      POOL_CASE(session_freed_late_does_no_harm),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
