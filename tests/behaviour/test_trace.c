/* trace: a trace context is sent once, as it was given, with each repeat and redirect; a malformed one never */
#include "redirect_fixture.h"

#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define STATE "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"

static int occurrences(struct pool_fixture *f, const char *part)
{
  char *head = fault_server_last_head(f->server);
  int count = 0;
  for (const char *at = head; (at = strcasestr(at, part)) != NULL; at++)
    count++;
  free(head);
  return count;
}

static void assert_sent(struct pool_fixture *f, const cpool_request *req)
{
  struct outcome out = end_of(f, req);
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_free(out.resp);
  assert_int_equal(occurrences(f, "traceparent:"), 1);
  assert_int_equal(occurrences(f, "\r\ntraceparent: " PARENT "\r\n"), 1);
  assert_int_equal(occurrences(f, "tracestate:"), 1);
  assert_int_equal(occurrences(f, "\r\ntracestate: " STATE "\r\n"), 1);
}

static cpool_request traced(struct pool_fixture *f, const char *path)
{
  cpool_request req = follow(f, path);
  req.traceparent = PARENT;
  req.tracestate = STATE;
  return req;
}

static void a_trace_is_sent_once_beside_any_headers(void **state)
{
  enum { MANY = 60 };
  struct pool_fixture *f = *state;
  cpool_header headers[MANY];
  for (size_t i = 0; i < MANY; i++)
    headers[i] = (cpool_header){"X-Filler", "x"};
  open_pool(f, NULL);
  for (size_t count = 0; count < MANY; count += 7) {
    cpool_request req = traced(f, "/ok");
    req.headers = headers;
    req.header_count = count;
    assert_sent(f, &req);
    assert_int_equal(occurrences(f, "X-Filler: x\r\n"), (int) count);
  }
  cpool_request req = traced(f, "/echo");
  req.body = "payload";
  req.body_len = 7;
  assert_sent(f, &req);
  req = traced(f, "/ok");
  req.tracestate = NULL;
  struct outcome out = end_of(f, &req);
  cpool_response_free(out.resp);
  assert_int_equal(occurrences(f, "traceparent:"), 1);
  assert_int_equal(occurrences(f, "tracestate:"), 0);
  req.tracestate = ""; /* what an empty header of an incoming request gives */
  out = end_of(f, &req);
  cpool_response_free(out.resp);
  assert_int_equal(occurrences(f, "tracestate:"), 0);
}

static void a_trace_replaces_that_of_the_session(void **state)
{
  struct pool_fixture *f = *state;
  const cpool_header defaults[] = {{"Traceparent", "another"}, {"TraceState", "another"}};
  cpool_session_options options = session_options();
  options.headers = defaults;
  options.header_count = 2;
  open_pool(f, NULL);
  cpool_session *session = session_open(f->pool, &options);
  cpool_request req = traced(f, "/ok");
  submit_in(session, &req);
  struct outcome out = take(f);
  assert_ended(&out, CPOOL_OK, 200);
  cpool_response_free(out.resp);
  assert_int_equal(occurrences(f, "traceparent:"), 1);
  assert_int_equal(occurrences(f, PARENT), 1);
  assert_int_equal(occurrences(f, "another"), 0);
  cpool_session_free(session);
}

static void a_trace_goes_with_redirects_and_repeats(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  moved(f, "/from", 302, on_host(f, 2, "/to"));
  moved(f, "/to", 303, on_host(f, 3, "/ok"));
  cpool_request req = traced(f, "/from");
  req.body = "payload";
  req.body_len = 7;
  assert_sent(f, &req);
  cpool_response_free(end_of(f, &(cpool_request){.size = sizeof(cpool_request),
                                                 .url = on_host(f, 1, "/reset-on-reuse"),
                                                 .queue = f->queue})
                          .resp);
  req = traced(f, "/ok");
  assert_sent(f, &req);
  eventually(stats_of(f).repeated == 1);
}

static void a_malformed_trace_is_refused_by_name(void **state)
{
  static const cpool_header parent[] = {{"X-One", "1"}, {"TraceParent", PARENT}}, members[] = {{"TRACESTATE", STATE}};
  const struct {
    const char *traceparent, *tracestate;
    const cpool_header *headers;
    size_t header_count;
    const char *culprit;
  } cases[] = {{"", NULL, NULL, 0, "traceparent"},
               {"00-00000000000000000000000000000000-b7ad6b7169203331-01", STATE, NULL, 0, "traceparent"},
               {PARENT "\r\nX: y", NULL, NULL, 0, "traceparent"},
               {PARENT, "A=1", NULL, 0, "tracestate"},
               {PARENT, "a=1\r\nX: y", NULL, 0, "tracestate"},
               {NULL, STATE, NULL, 0, "tracestate"},
               {PARENT, NULL, parent, 2, "traceparent"},
               {PARENT, STATE, members, 1, "tracestate"}};
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    cpool_request req = request_of(f, "/ok");
    req.traceparent = cases[i].traceparent;
    req.tracestate = cases[i].tracestate;
    req.headers = cases[i].headers;
    req.header_count = cases[i].header_count;
    assert_refused(cpool_submit(cpool_http_session(f->pool), &req, NULL), CPOOL_EINVAL, cases[i].culprit);
  }
  assert_int_equal(counts_of(f).requests, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      REDIRECT_CASE(a_trace_is_sent_once_beside_any_headers),
      REDIRECT_CASE(a_trace_replaces_that_of_the_session),
      REDIRECT_CASE(a_trace_goes_with_redirects_and_repeats),
      REDIRECT_CASE(a_malformed_trace_is_refused_by_name),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
