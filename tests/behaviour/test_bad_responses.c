/* bad_responses: whatever a broken or hostile server answers ends in one exact status, in time, and the pool goes on */
#include "support/peer_fixture.h"

#include "support/certs.h"

enum {
  SENT = 0,
  AGAIN = CPOOL_ERROR_RETRIABLE,
  READ_MS = 300 /* sock_read_timeout_ms where silence is the point */
};

struct bad {
  const char *path;
  int status, code;  /* expected */
  int32_t get_flags; /* cpool_error.flags of a GET; a POST has AGAIN taken off */
  const char *body;  /* that arrived before the failure; NULL: not looked at */
  int64_t read_ms;   /* 0: the pool's */
  int64_t at_least_ms, at_most_ms;
};

static const struct bad bads[] = {
    {"/reset-before-answer", CPOOL_ERESET, 0, AGAIN, "", 0, 0, 1000},
    {"/fin-before-answer", CPOOL_ERESET, 0, AGAIN, "", 0, 0, 1000},
    {"/fin-midheader", CPOOL_ETRUNCATED, 0, AGAIN, "", 0, 0, 1000},
    {"/reset-midbody", CPOOL_ETRUNCATED, 200, AGAIN, NULL, 0, 0, 1000},
    {"/fin-midbody", CPOOL_ETRUNCATED, 200, AGAIN, "hello", 0, 0, 1000},
    {"/lying-length", CPOOL_EBODY_TOO_LARGE, 200, SENT, NULL, 0, 0, 1000},
    {"/garbage", CPOOL_EPROTOCOL, 0, SENT, "", 0, 0, 1000},
    {"/bad-chunk", CPOOL_EPROTOCOL, 200, SENT, "", 0, 0, 1000},
    {"/endless-headers", CPOOL_EHEADERS_TOO_LARGE, 0, SENT, "", 0, 0, 2000},
    {"/huge-header/70000", CPOOL_EHEADERS_TOO_LARGE, 0, SENT, "", 0, 0, 2000},
    {"/huge-header/200000", CPOOL_EHEADERS_TOO_LARGE, 0, SENT, "", 0, 0, 2000},
    {"/huge-header", CPOOL_EHEADERS_TOO_LARGE, 0, SENT, "", 0, 0, 2000},
    {"/blackhole", CPOOL_ETIMEOUT_READ, 0, SENT, "", READ_MS, READ_MS, READ_MS + 700},
    {"/drip/450/10", CPOOL_ETIMEOUT_READ, 200, SENT, NULL, READ_MS, READ_MS, READ_MS + 700},
    {"/drip-header/450", CPOOL_ETIMEOUT_READ, 0, SENT, "", READ_MS, READ_MS, READ_MS + 700},
    {"/hold-body", CPOOL_ETIMEOUT_READ, 200, SENT, "hel", READ_MS, READ_MS, READ_MS + 700},
};

static void expect(struct peer *f, const struct bad *bad, const char *url, const char *method)
{
  bool post = strcmp(method, "POST") == 0;
  struct answer answer = peer_ask(f, &(struct ask){.method = method,
                                                   .url = url,
                                                   .body = post ? "body" : NULL,
                                                   .body_len = post ? 4 : 0,
                                                   .read_ms = bad->read_ms});
  if (answer.status != bad->status)
    fail_msg("%s %s: %s, not %s (%s)", method, bad->path, cpool_status_name(answer.status),
             cpool_status_name(bad->status), answer.error.text);
  if (answer.code != bad->code)
    fail_msg("%s %s: code %d, not %d", method, bad->path, answer.code, bad->code);
  if (answer.error.flags != (post ? bad->get_flags & ~AGAIN : bad->get_flags))
    fail_msg("%s %s: flags %d (%s)", method, bad->path, (int) answer.error.flags, answer.error.text);
  if (bad->body != NULL && strcmp(answer.body, bad->body) != 0)
    fail_msg("%s %s: body \"%.40s\"", method, bad->path, answer.body);
  if (answer.took_ms < bad->at_least_ms || answer.took_ms > bad->at_most_ms)
    fail_msg("%s %s: took %lld ms", method, bad->path, (long long) answer.took_ms);
  assert_int_equal(answer.error.layer, CPOOL_LAYER_HTTP);
  assert_int_equal(answer.info.attempts, 1);
  assert_string_not_equal(answer.error.text, "");
}

/* Each failure costs its connection and nothing else. */
static void fails_alone(struct peer *f, const struct bad *bad, const char *url, const char *ok_url, const char *method)
{
  cpool_http_stats before = peer_stats(f);
  expect(f, bad, url, method);
  peer_await(f, failed, (int64_t) before.failed + 1);
  peer_await(f, closing_connections, 0);
  peer_await(f, total_connections, 0);
  cpool_http_stats after = peer_stats(f);
  if (after.opened != before.opened + 1)
    fail_msg("%s: opened %llu -> %llu", bad->path, (unsigned long long) before.opened,
             (unsigned long long) after.opened);
  assert_int_equal(after.repeated, before.repeated);
  assert_int_equal(after.closed_error + after.closed_cancelled, before.closed_error + before.closed_cancelled + 1);
  struct answer good = peer_ask(f, &(struct ask){.url = ok_url});
  peer_is_200(good, "hello");
  assert_int_equal(good.info.reused, 0);
}

static void run_all(struct peer *f, const char *scheme, const char *method)
{
  uint16_t port = fault_server_port(f->server);
  for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
    /* a connection that the pool closes itself after a good answer leaves nothing idle behind */
    const char *ok_url = peer_text(f, "%s://127.0.0.1:%u/close", scheme, port);
    fails_alone(f, &bads[i], peer_text(f, "%s://127.0.0.1:%u%s", scheme, port, bads[i].path), ok_url, method);
  }
}

static void every_bad_answer_to_a_get_has_its_status(void **state)
{
  run_all(*state, "http", "GET");
}

static void every_bad_answer_to_a_post_has_its_status_and_is_not_retriable(void **state)
{
  run_all(*state, "http", "POST");
}

static void every_bad_answer_over_tls_has_its_status(void **state)
{
  struct peer *f = *state;
  struct certs *certs = certs_new();
  f->server = fault_server_start(
      &(struct fault_options){.tls_cert_file = certs->good.cert_file, .tls_key_file = certs->good.key_file});
  assert_non_null(f->server);
  peer_open_pool(f, NULL);
  cpool_session *session = session_trusting(f->pool, certs->ca_file);
  uint16_t port = fault_server_port(f->server);
  for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
    const struct bad *bad = &bads[i];
    struct answer answer = peer_ask(f, &(struct ask){.session = session,
                                                     .url = peer_text(f, "https://127.0.0.1:%u%s", port, bad->path),
                                                     .read_ms = bad->read_ms});
    if (answer.status != bad->status)
      fail_msg("%s over TLS: %s, not %s (%s)", bad->path, cpool_status_name(answer.status),
               cpool_status_name(bad->status), answer.error.text);
    assert_int_equal(answer.error.flags, bad->get_flags);
    assert_in_range(answer.took_ms, bad->at_least_ms, bad->at_most_ms + 1000);
    peer_is_200(peer_ask(f, &(struct ask){.session = session, .url = peer_text(f, "https://127.0.0.1:%u/ok", port)}),
                "hello");
  }
  cpool_session_free(session);
  peer_close_pool(f);
  certs_free(certs);
}

/* ---- slow, but alive */

static void a_slow_body_that_never_pauses_too_long_succeeds(void **state)
{
  struct peer *f = *state;
  struct answer answer = peer_ask(f, &(struct ask){.url = "/drip/60/12", .read_ms = READ_MS});
  peer_is(answer, CPOOL_OK);
  peer_is_pattern(&answer, 12);
  assert_true(answer.took_ms >= 12 * 60); /* longer than the timeout of one pause */
}

static void a_slow_head_that_never_pauses_too_long_succeeds(void **state)
{
  struct peer *f = *state;
  peer_is_200(peer_ask(f, &(struct ask){.url = "/drip-header/30", .read_ms = READ_MS}), "hello");
}

static void a_drip_without_end_meets_the_total_timeout(void **state)
{
  struct peer *f = *state;
  struct answer answer =
      peer_ask(f, &(struct ask){.url = "/drip/20/100000", .read_ms = READ_MS, .total_ms = 2 * READ_MS});
  peer_is(answer, CPOOL_ETIMEOUT_TOTAL);
  assert_int_equal(answer.error.layer, CPOOL_LAYER_POOL);
  assert_in_range(answer.took_ms, 2 * READ_MS, 2 * READ_MS + 700);
  assert_true(answer.len > 5);
  peer_await(f, closed_cancelled, 1);
}

/* ---- caps */

static void an_endless_body_ends_at_the_cap(void **state)
{
  struct peer *f = *state;
  struct answer answer = peer_ask(f, &(struct ask){.url = "/endless-body", .max_bytes = 100000});
  peer_is(answer, CPOOL_EBODY_TOO_LARGE);
  assert_int_equal(answer.code, 200);
  assert_int_equal(answer.error.flags, SENT);
  peer_is_pattern(&answer, 100000);
  peer_await(f, total_connections, 0);
}

static void an_endless_body_ends_at_the_default_cap(void **state)
{
  struct peer *f = *state;
  struct answer answer = peer_ask(f, &(struct ask){.url = "/endless-body", .total_ms = 60000});
  peer_is(answer, CPOOL_EBODY_TOO_LARGE);
  assert_int_equal(answer.len, 64 * 1024 * 1024);
}

static void a_body_of_exactly_the_cap_is_taken_and_one_byte_more_is_not(void **state)
{
  struct peer *f = *state;
  static const char *const paths[] = {"/bytes/5000", "/chunked/5000"};
  for (int i = 0; i < 2; i++) {
    const char *path = paths[i];
    struct answer answer = peer_ask(f, &(struct ask){.url = path, .max_bytes = 5000});
    peer_is(answer, CPOOL_OK);
    peer_is_pattern(&answer, 5000);
    peer_is(peer_ask(f, &(struct ask){.url = path, .max_bytes = 4999}), CPOOL_EBODY_TOO_LARGE);
  }
}

static void a_lying_length_without_a_cap_takes_no_memory_in_advance(void **state)
{
  struct peer *f = *state;
  struct answer answer = peer_ask(f, &(struct ask){.url = "/lying-length", .max_bytes = CPOOL_OFF});
  peer_is(answer, CPOOL_ETRUNCATED);
  assert_string_equal(answer.body, "hellohello");
}

static void a_long_answer_to_head_is_not_measured_against_the_cap(void **state)
{
  struct peer *f = *state;
  struct answer answer = peer_ask(f, &(struct ask){.method = "HEAD", .url = "/head-with-length", .max_bytes = 10});
  peer_is(answer, CPOOL_OK);
  assert_int_equal(answer.len, 0);
  assert_string_equal(cpool_response_header(answer.resp, "content-length"), "12345");
  answer = peer_get(f, "/ok");
  peer_is_200(answer, "hello");
  assert_int_equal(answer.info.reused, 1);
}

static void a_header_line_below_the_cap_is_taken_whole(void **state)
{
  struct peer *f = *state;
  struct answer answer = peer_get(f, "/huge-header/60000");
  peer_is_200(answer, "hello");
  const char *value = cpool_response_header(answer.resp, "X-Huge");
  assert_non_null(value);
  assert_int_equal(strlen(value), 60000);
}

static void the_cap_on_headers_is_an_option(void **state)
{
  struct peer *f = *state;
  f->server = fault_server_start(&(struct fault_options){0});
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.max_header_bytes = 1024;
  peer_open_pool(f, &options);
  peer_is_200(peer_get(f, "/huge-header/900"), "hello");
  peer_is(peer_get(f, "/huge-header/1000"), CPOOL_EHEADERS_TOO_LARGE);
  peer_close_pool(f);
  options.max_header_bytes = 256 * 1024;
  peer_open_pool(f, &options);
  peer_is(peer_get(f, "/endless-headers"), CPOOL_EHEADERS_TOO_LARGE);
}

/* ---- a whole answer, at an unexpected time or place */

static void bytes_behind_an_answer_are_nobody_s_answer(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < 20; i++) {
    peer_is_200(peer_get(f, "/extra-bytes"), "hello");
    struct answer next = peer_get(f, "/status/201");
    peer_is(next, CPOOL_OK);
    assert_int_equal(next.code, 201);
    assert_string_equal(next.body, "hello");
  }
}

static void an_early_refusal_of_a_long_body_is_the_answer(void **state)
{
  struct peer *f = *state;
  size_t len = 10 * 1024 * 1024;
  char *body = calloc(1, len);
  assert_non_null(body);
  struct answer answer = peer_post(f, "/early-413", body, len);
  free(body);
  peer_is(answer, CPOOL_OK);
  assert_int_equal(answer.code, 413);
  assert_string_equal(answer.body, "hello");
  assert_in_range(answer.took_ms, 0, 3000);
  peer_await(f, closed_response, 1);
  peer_is_200(peer_get(f, "/ok"), "hello");
}

/* ---- servers that do not get as far as a request */

static void a_server_that_never_serves_has_an_exact_status(void **state)
{
  struct peer *f = *state;
  static const struct {
    enum fault_behaviour behaviour;
    int status, or_status;
  } kinds[] = {
      {FAULT_ACCEPT_NEVER, CPOOL_ETIMEOUT_READ, CPOOL_ETIMEOUT_READ},
      {FAULT_SILENT, CPOOL_ETIMEOUT_READ, CPOOL_ETIMEOUT_READ},
      {FAULT_ACCEPT_RESET, CPOOL_ERESET, CPOOL_ECONNECT}, /* the RST may arrive before the connect was looked at */
      {FAULT_ACCEPT_CLOSE, CPOOL_ERESET, CPOOL_ERESET},
      {FAULT_GARBAGE, CPOOL_EPROTOCOL, CPOOL_EPROTOCOL},
  };
  peer_open_pool(f, NULL);
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    struct fault_server *server = fault_server_start(&(struct fault_options){.behaviour = kinds[i].behaviour});
    assert_non_null(server);
    const char *url = peer_text(f, "http://127.0.0.1:%u/", fault_server_port(server));
    struct answer answer = peer_ask(f, &(struct ask){.url = url, .read_ms = READ_MS});
    if (answer.status != kinds[i].status && answer.status != kinds[i].or_status)
      fail_msg("behaviour %d: %s, not %s (%s)", (int) kinds[i].behaviour, cpool_status_name(answer.status),
               cpool_status_name(kinds[i].status), answer.error.text);
    assert_in_range(answer.info.attempts, 0, 1);
    fault_server_stop(server);
  }
}

static void many_failures_at_once_leave_a_working_pool(void **state)
{
  struct peer *f = *state;
  enum { ROUNDS = 10 };
  static const char *const paths[] = {
      "/reset-before-answer", "/fin-midheader", "/reset-midbody",  "/ok",          "/garbage",   "/endless-headers",
      "/bad-chunk",           "/close",         "/reset-on-reuse", "/extra-bytes", "/close-idle"};
  enum { PATHS = sizeof paths / sizeof paths[0] };
  for (int i = 0; i < ROUNDS * PATHS; i++)
    peer_start(f, &(struct ask){.url = paths[i % PATHS]});
  int good = 0;
  for (int i = 0; i < ROUNDS * PATHS; i++) {
    struct answer answer = peer_next(f);
    if (answer.status == CPOOL_OK) {
      good++;
      assert_string_equal(answer.body, "hello");
    }
  }
  assert_int_equal(good, ROUNDS * 5);
  peer_is_200(peer_get(f, "/ok"), "hello");
}

/* libcurl appends such a line to the last field that it has stored, and may have freed that one long since. */
static void a_head_that_begins_with_a_folded_line_is_no_answer(void **state)
{
  struct peer *f = *state;
  static const char *const heads[] = {
      "HTTP/1.1 200 OK\r\n folded: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nContent-Length: 5\r\n\r\nhello",
      "HTTP/1.1 200 OK\r\n\tfolded\r\nContent-Length: 5\r\n\r\nhello",
      "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n folded\r\nContent-Length: 5\r\n\r\nhello",
  };
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 4; k++) { /* on a handle that is new, and on one that has stored fields before */
      fault_server_answer(f->server, "/folded-first", heads[i]);
      peer_is(peer_get(f, "/folded-first"), CPOOL_EPROTOCOL);
      peer_is_200(peer_get(f, "/ok"), "hello");
      struct answer answer = peer_get(f, "/folded-header"); /* which continues something */
      peer_is(answer, CPOOL_OK);
      assert_non_null(cpool_response_header(answer.resp, "X-Folded"));
    }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      peer_case(every_bad_answer_to_a_get_has_its_status),
      peer_case(a_head_that_begins_with_a_folded_line_is_no_answer),
      peer_case(every_bad_answer_to_a_post_has_its_status_and_is_not_retriable),
      peer_case_bare(every_bad_answer_over_tls_has_its_status),
      peer_case(a_slow_body_that_never_pauses_too_long_succeeds),
      peer_case(a_slow_head_that_never_pauses_too_long_succeeds),
      peer_case(a_drip_without_end_meets_the_total_timeout),
      peer_case(an_endless_body_ends_at_the_cap),
      peer_case(an_endless_body_ends_at_the_default_cap),
      peer_case(a_body_of_exactly_the_cap_is_taken_and_one_byte_more_is_not),
      peer_case(a_lying_length_without_a_cap_takes_no_memory_in_advance),
      peer_case(a_long_answer_to_head_is_not_measured_against_the_cap),
      peer_case(a_header_line_below_the_cap_is_taken_whole),
      peer_case_bare(the_cap_on_headers_is_an_option),
      peer_case(bytes_behind_an_answer_are_nobody_s_answer),
      peer_case(an_early_refusal_of_a_long_body_is_the_answer),
      peer_case_bare(a_server_that_never_serves_has_an_exact_status),
      peer_case(many_failures_at_once_leave_a_working_pool),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
