/* redirect_locations: where a Location leads, and which ones lead nowhere */
#include "redirect_fixture.h"

static void answers_that_lead_nowhere_are_final(void **state)
{
  static const char *const answers[] = {
      "HTTP/1.1 300 Choices\r\nLocation: /ok\r\nContent-Length: 5\r\n\r\nfinal",
      "HTTP/1.1 304 Same\r\nLocation: /ok\r\n\r\n",
      "HTTP/1.1 305 Proxy\r\nLocation: /ok\r\nContent-Length: 5\r\n\r\nfinal",
      "HTTP/1.1 306 Unused\r\nLocation: /ok\r\nContent-Length: 5\r\n\r\nfinal",
      "HTTP/1.1 399 New\r\nLocation: /ok\r\nContent-Length: 5\r\n\r\nfinal",
      "HTTP/1.1 201 Made\r\nLocation: /ok\r\nContent-Length: 5\r\n\r\nfinal",
      "HTTP/1.1 302 Found\r\nContent-Length: 5\r\n\r\nfinal",
      "HTTP/1.1 302 Found\r\nLocation:\r\nContent-Length: 5\r\n\r\nfinal",
      "HTTP/1.1 302 Found\r\nLocation:  \t \r\nContent-Length: 5\r\n\r\nfinal",
      "HTTP/1.1 302 Found\r\nLocation : /ok\r\nContent-Length: 5\r\n\r\nfinal",
      "HTTP/1.1 302 Found\r\nContent-Location: /ok\r\nContent-Length: 5\r\n\r\nfinal",
  };
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    fault_server_answer(f->server, "/from", answers[i]);
    cpool_request req = follow(f, "/from");
    struct outcome out = end_of(f, &req);
    assert_ended(&out, CPOOL_OK, atoi(answers[i] + 9));
    if (cpool_response_status(out.resp) != 304)
      assert_string_equal(cpool_response_body(out.resp, NULL), "final");
    assert_int_equal(info_of(&out).redirects, 0);
    cpool_response_free(out.resp);
  }
}

static void locations_are_resolved(void **state)
{
  /* RFC 3986 section 5.4, seen from /b/c/d;p?q; and what servers write */
  static const struct {
    const char *location, *path;
  } cases[] = {
      {"g", "/b/c/g"},
      {"./g", "/b/c/g"},
      {"g/", "/b/c/g/"},
      {"/g", "/g"},
      {"?y", "/b/c/d;p?y"},
      {"g?y", "/b/c/g?y"},
      {"#s", NULL},
      {"g#s", "/b/c/g#s"},
      {"g?y#s", "/b/c/g?y#s"},
      {";x", "/b/c/;x"},
      {"g;x?y#s", "/b/c/g;x?y#s"},
      {".", "/b/c/"},
      {"./", "/b/c/"},
      {"..", "/b/"},
      {"../", "/b/"},
      {"../g", "/b/g"},
      {"../..", "/"},
      {"../../g", "/g"},
      {"../../../../g", "/g"},
      {"/./g", "/g"},
      {"/../g", "/g"},
      {"g.", "/b/c/g."},
      {"..g", "/b/c/..g"},
      {"./../g", "/b/g"},
      {"g/./h", "/b/c/g/h"},
      {"g;x=1/../y", "/b/c/y"},
      {"g?y/../x", "/b/c/g?y/../x"},
      {"g/%2E%2E/h", "/b/c/g/%2E%2E/h"},
      {"a b", "/b/c/a%20b"},
      {"/caf\xc3\xa9?\xe4", "/caf%C3%A9?%E4"},
      {"/\\x", "/\\x"},
      {"//HOST", "/"},
      {"//HOST?x", "/?x"},
      {"//HOST/x", "/x"},
      {"http://HOST", "/"},
      {"HTTP://HOST/y#z", "/y#z"},
  };
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char location[256], host[64], wanted[256];
    const char *mark = strstr(cases[i].location, "HOST");
    snprintf(host, sizeof host, "127.0.0.1:%u", (unsigned) fault_server_port(f->server));
    if (mark == NULL)
      snprintf(location, sizeof location, "%s", cases[i].location);
    else
      snprintf(location, sizeof location, "%.*s%s%s", (int) (mark - cases[i].location), cases[i].location, host,
               mark + 4);
    moved(f, "/b/c/d;p", 302, location);
    cpool_request req = follow(f, "/b/c/d;p?q");
    req.max_redirects = 1;
    struct outcome out = end_of(f, &req);
    if (cases[i].path == NULL) { /* the same document */
      assert_ended(&out, CPOOL_EREDIRECT, 302);
    } else {
      if (strncmp(cases[i].path, "/b/c/d;p", 8) == 0) /* redirected once more, elsewhere */
        assert_ended(&out, CPOOL_EREDIRECT, 302);
      else
        assert_ended(&out, CPOOL_OK, 404);
      snprintf(wanted, sizeof wanted, "%s", cpool_response_url(out.resp));
      if (strcmp(strstr(wanted, host) + strlen(host), cases[i].path) != 0)
        fail_msg("%s: %s, not %s", cases[i].location, wanted, cases[i].path);
      snprintf(wanted, sizeof wanted, "GET %.*s HTTP/1.1\r\n", (int) strcspn(cases[i].path, "#"), cases[i].path);
      assert_true(last_head_has(f, wanted));
    }
    cpool_response_free(out.resp);
  }
}

static void a_fragment_is_inherited_unless_there_is_a_new_one(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  moved(f, "/a", 302, "/b");
  moved(f, "/b", 302, "/ok");
  moved(f, "/c", 302, "/ok#new");
  static const struct {
    const char *from, *to;
  } cases[] = {{"/a", "/ok"}, {"/a#old", "/ok#old"}, {"/c#old", "/ok#new"}, {"/ok?x#old", "/ok?x#old"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    cpool_request req = follow(f, cases[i].from);
    struct outcome out = end_of(f, &req);
    assert_ended(&out, CPOOL_OK, 200);
    assert_string_equal(cpool_response_url(out.resp), on_host(f, 1, cases[i].to));
    cpool_response_free(out.resp);
    assert_false(last_head_has(f, "#"));
  }
}

static void a_base_url_is_part_of_the_url_that_answers(void **state)
{
  struct pool_fixture *f = *state;
  cpool_session_options options = session_options();
  options.base_url = on_host(f, 1, "/api/");
  options.max_redirects = 1;
  open_pool(f, NULL);
  moved(f, "/api/from", 302, "to");
  cpool_session *session = session_open(f->pool, &options);
  cpool_request req = request_to(f, "/from");
  submit_in(session, &req);
  struct outcome out = take(f);
  assert_ended(&out, CPOOL_OK, 404);
  const char *from = NULL;
  assert_int_equal(cpool_response_redirect_at(out.resp, 0, NULL, &from), CPOOL_OK);
  assert_string_equal(from, on_host(f, 1, "/api/from"));
  assert_string_equal(cpool_response_url(out.resp), on_host(f, 1, "/api/to"));
  cpool_response_free(out.resp);
  cpool_session_free(session);
}

static void a_location_that_cannot_be_used_ends_with_its_reason(void **state)
{
  static const struct {
    const char *location, *reason;
  } cases[] = {
      {"ftp://127.0.0.1/x", "neither http nor https"},
      {"file:///etc/passwd", "neither http nor https"},
      {"javascript:alert(1)", "neither http nor https"},
      {"localhost:80/x", "neither http nor https"},
      {"http:/ok", "no host"},
      {"http:ok", "no host"},
      {"http://", "no host"},
      {"///ok", "no host"},
      {"//", "no host"},
      {"http://user@127.0.0.1/ok", "user or password"},
      {"http://user:secret@127.0.0.1/ok", "user or password"},
      {"//user:secret@127.0.0.1/ok", "user or password"},
      {"http://127.0.0.1\\@localhost/ok", "user or password"},
      {"http://127.0.0.1 .test/ok", "not printable ASCII"},
      {"http://caf\xc3\xa9.test/ok", "not printable ASCII"},
      {"http://a%2eb/ok", "percent-encoding"},
      {"http://a\\b/ok", "cannot be used"},
      {"http://a..b/ok", "no name"},
      {"http://127.0.0.1:0/ok", "port"},
      {"http://127.0.0.1:65536/ok", ""},
      {"http://[::1/ok", ""},
      {"/a\x01"
       "b",
       "control byte"},
      {"/a\tb", "control byte"},
      {"/a\x7f"
       "b",
       "control byte"},
  };
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moved(f, "/from", 302, cases[i].location);
    cpool_request req = follow(f, "/from");
    struct outcome out = end_of(f, &req);
    if (out.status != CPOOL_EREDIRECT)
      fail_msg("%s: %s", cases[i].location, cpool_status_name(out.status));
    assert_ended(&out, CPOOL_EREDIRECT, 302);
    assert_named(&out, cases[i].reason);
    assert_named(&out, "redirect 1");
    cpool_error error = error_of(&out);
    assert_int_equal(error.layer, CPOOL_LAYER_HTTP);
    assert_int_equal(error.flags, 0);
    assert_null(strstr(error.text, "secret"));
    assert_non_null(cpool_response_header(out.resp, "Location"));
    assert_string_equal(cpool_response_body(out.resp, NULL), "moved");
    cpool_response_free(out.resp);
  }
  eventually(stats_of(f).failed == sizeof cases / sizeof *cases);
  assert_int_equal(counts_of(f).requests, sizeof cases / sizeof *cases);
  assert_int_equal(counts_of(f).accepted, 1); /* the connection was not to blame */
}

static void a_caller_s_last_error_is_not_touched_by_a_redirect(void **state)
{
  struct pool_fixture *f = *state;
  cpool_runtime *rt = NULL;
  cpool_runtime_options runtime;
  cpool_error error;
  cpool_runtime_options_init(&runtime);
  runtime.loop_mode = CPOOL_LOOP_MANUAL;
  assert_int_equal(cpool_runtime_new(&rt, &runtime), CPOOL_OK);
  assert_int_equal(cpool_http_new(&f->pool, rt, NULL), CPOOL_OK);
  moved(f, "/from", 302, "http://a..b/ok");
  cpool_request req = follow(f, "/from");
  submit(f, &req);
  assert_refused(cpool_get(NULL, NULL, NULL), CPOOL_EINVAL, "perform");
  const cpool_event *event = NULL;
  while (cpool_queue_wait(f->queue, &event, 1, 0) == 0)
    assert_int_equal(cpool_runtime_step(rt, 1000), CPOOL_OK);
  assert_int_equal(event->status, CPOOL_EREDIRECT);
  cpool_queue_release(f->queue, &event, 1);
  cpool_error_init(&error);
  assert_int_equal(cpool_last_error(&error), CPOOL_OK);
  assert_non_null(strstr(error.text, "perform"));
  close_pool(f);
  assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
}

static void two_locations_have_to_agree(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = follow(f, "/from");
  fault_server_answer(f->server, "/from",
                      "HTTP/1.1 302 Found\r\nLocation: /ok\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n");
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_EREDIRECT, 302);
  assert_named(&out, "differ");
  cpool_response_free(out.resp);
  fault_server_answer(f->server, "/from",
                      "HTTP/1.1 302 Found\r\nLocation: /ok\r\nlocation: /ok\r\nContent-Length: 0\r\n\r\n");
  out = end_of(f, &req);
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_free(out.resp);
}

static void an_endless_location_is_refused(void **state)
{
  struct pool_fixture *f = *state;
  char text[10000] = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /";
  open_pool(f, NULL);
  size_t len = strlen(text);
  memset(text + len, 'x', 9000);
  strcpy(text + len + 9000, "\r\n\r\n");
  fault_server_answer(f->server, "/from", text);
  cpool_request req = follow(f, "/from");
  struct outcome out = end_of(f, &req);
  assert_ended(&out, CPOOL_EREDIRECT, 302);
  assert_named(&out, "too long");
  cpool_response_free(out.resp);
  strcpy(text + len + 8000, "\r\n\r\n"); /* what RFC 9110 section 4.1 asks for */
  fault_server_answer(f->server, "/from", text);
  fault_server_answer(f->server, "/x", "");
  out = end_of(f, &req);
  assert_int_equal(info_of(&out).redirects, 1);
  cpool_response_free(out.resp);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      REDIRECT_CASE(answers_that_lead_nowhere_are_final),
      REDIRECT_CASE(locations_are_resolved),
      REDIRECT_CASE(a_fragment_is_inherited_unless_there_is_a_new_one),
      REDIRECT_CASE(a_base_url_is_part_of_the_url_that_answers),
      REDIRECT_CASE(a_location_that_cannot_be_used_ends_with_its_reason),
      REDIRECT_CASE(a_caller_s_last_error_is_not_touched_by_a_redirect),
      REDIRECT_CASE(two_locations_have_to_agree),
      REDIRECT_CASE(an_endless_location_is_refused),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
