/* sse: events arrive one by one, and the stream is asked for again where it ended, until something says that it is over */
#include "support/stream_fixture.h"

#include "support/coded.h"
#include "support/process.h"

enum { MANY = 20000, WINDOW = 4096, WAIT_LEAST_MS = 100 };

#define STREAM_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"

/* The server answers with this stream of events, and the stream ends. */
static void serve_events(struct pool_fixture *f, const char *path, const char *events)
{
  size_t len = strlen(events);
  char *answer = malloc(len + 256);
  assert_non_null(answer);
  sprintf(answer, STREAM_HEAD "Content-Length: %zu\r\n\r\n%s", len, events);
  fault_server_answer(f->server, path, answer);
  free(answer);
}

static cpool_request events_of(struct pool_fixture *f, const char *path)
{
  cpool_request req = request_of(f, path);
  req.flags = CPOOL_REQUEST_SSE;
  return req;
}

/* Once, whatever comes. */
static cpool_request events_once(struct pool_fixture *f, const char *path)
{
  cpool_request req = events_of(f, path);
  req.sse_reconnect = CPOOL_OFF;
  return req;
}

static void expect_event(struct pool_fixture *f, const char *type, const char *id, const char *data)
{
  const cpool_event *event = next_event(f);
  cpool_sse_event sse;
  cpool_sse_event_init(&sse);
  if (event->kind != CPOOL_EVENT_SSE)
    fail_msg("kind %d, %s", event->kind, cpool_status_name(event->status));
  assert_int_equal(cpool_event_sse_get(event, &sse), CPOOL_OK);
  assert_string_equal(sse.type, type);
  assert_string_equal(sse.id, id);
  assert_int_equal(sse.data_len, strlen(data));
  assert_string_equal(sse.data, data);
  assert_true(event->data == sse.data && event->len == sse.data_len);
  assert_true(sse.bytes >= sse.data_len + strlen(type) + strlen(id));
  cpool_queue_release(f->queue, &event, 1);
}

/* ---- one stream */

static void events_arrive_with_type_id_and_data_and_the_end_comes_last(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  serve_events(f, "/events",
               "\xef\xbb\xbf: hello\n\ndata: one\n\nevent: add\nid: 7\ndata: two\ndata: lines\n\n"
               "data\r\n\r\nevent: last\ndata: not complete");
  cpool_request req = events_once(f, "/events");
  cpool_op op = submit(f, &req);
  expect_event(f, "message", "", "one");
  expect_event(f, "add", "7", "two\nlines");
  expect_event(f, "message", "7", "");
  struct outcome out = take(f);
  assert_int_equal(out.kind, CPOOL_EVENT_RESPONSE);
  assert_int_equal(out.status, CPOOL_OK);
  assert_true(out.op == op);
  assert_int_equal(cpool_response_status(out.resp), 200);
  assert_string_equal(cpool_response_body(out.resp, NULL), "");
  cpool_response_free(out.resp);
  eventually(stats_of(f).sse_events == 3);
  assert_balanced(f->pool);
}

static void a_stream_of_events_is_asked_for_by_its_headers(void **state)
{
  struct pool_fixture *f = *state;
  cpool_header own[] = {{"Accept", "text/plain"}, {"Last-Event-ID", "42"}};
  open_pool(f, NULL);
  serve_events(f, "/events", "data: a\n\n");
  cpool_request req = events_once(f, "/events");
  submit(f, &req);
  expect_event(f, "message", "", "a");
  expect_end(f, out_.op, CPOOL_OK);
  char *head = fault_server_last_head(f->server);
  assert_non_null(strstr(head, "\r\nAccept: text/event-stream\r\n"));
  assert_non_null(strstr(head, "\r\nCache-Control: no-cache\r\n"));
  assert_null(strstr(head, "Last-Event-ID"));
  free(head);
  req.headers = own;
  req.header_count = 2;
  submit(f, &req);
  expect_event(f, "message", "42", "a"); /* where the caller went on */
  expect_end(f, out_.op, CPOOL_OK);
  head = fault_server_last_head(f->server);
  assert_non_null(strstr(head, "\r\nAccept: text/plain\r\n"));
  assert_non_null(strstr(head, "\r\nLast-Event-ID: 42\r\n"));
  free(head);
}

static void an_answer_that_is_no_stream_ends_the_request_with_it(void **state)
{
  struct pool_fixture *f = *state;
  static const struct {
    const char *head;
    int code;
  } answers[] = {{"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", 200},
                 {"HTTP/1.1 200 OK\r\n", 200},
                 {"HTTP/1.1 200 OK\r\nContent-Type: text/event-streams\r\n", 200},
                 {"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/event-stream\r\n", 401},
                 {"HTTP/1.1 503 Busy\r\n", 503}};
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    char answer[256];
    snprintf(answer, sizeof answer, "%sContent-Length: 9\r\n\r\ndata: a\n\n", answers[i].head);
    fault_server_answer(f->server, "/answer", answer);
    cpool_request req = events_of(f, "/answer");
    submit(f, &req);
    struct outcome out = take(f);
    assert_int_equal(out.kind, CPOOL_EVENT_RESPONSE);
    assert_int_equal(out.status, CPOOL_OK);
    assert_int_equal(cpool_response_status(out.resp), answers[i].code);
    assert_string_equal(cpool_response_body(out.resp, NULL), "data: a\n\n");
    cpool_response_free(out.resp);
  }
  cpool_request req = events_of(f, "/204");
  submit(f, &req);
  expect_end(f, out_.op, CPOOL_OK);
  req = events_of(f, "/reset-before-answer"); /* nor is the first failure repeated */
  submit(f, &req);
  expect_end(f, out_.op, CPOOL_ERESET);
  assert_int_equal(stats_of(f).sse_reconnects, 0);
}

static void a_coded_stream_is_decoded(void **state)
{
  struct pool_fixture *f = *state;
  size_t len;
  char head[256], *text = malloc(MANY * 16), *at = text;
  assert_non_null(text);
  for (int i = 0; i < MANY; i++)
    at += sprintf(at, "data: %d\n\n", i);
  char *data = coded("gzip", text, (size_t) (at - text), &len);
  int head_len = snprintf(head, sizeof head, STREAM_HEAD "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", len);
  char *answer = malloc((size_t) head_len + len);
  assert_non_null(answer);
  memcpy(answer, head, (size_t) head_len);
  memcpy(answer + head_len, data, len);
  fault_server_answer_bytes(f->server, "/coded", answer, (size_t) head_len + len);
  cpool_http_options options = pool_options();
  options.stream_window_bytes = WINDOW; /* held back within pieces, wire bytes and decoded ones */
  open_pool(f, &options);
  cpool_request req = events_once(f, "/coded");
  req.flags |= CPOOL_REQUEST_DECOMPRESS;
  submit(f, &req);
  for (int i = 0; i < MANY; i++) {
    char number[16];
    snprintf(number, sizeof number, "%d", i);
    expect_event(f, "message", "", number);
  }
  expect_end(f, out_.op, CPOOL_OK);
  free(answer);
  free(data);
  free(text);
}

static void a_slow_consumer_holds_the_stream_back_between_two_events(void **state)
{
  struct pool_fixture *f = *state;
  char *text = malloc(MANY * 16), *at = text;
  assert_non_null(text);
  for (int i = 0; i < MANY; i++)
    at += sprintf(at, "data:%d\n\n", i);
  serve_events(f, "/many", text);
  free(text);
  cpool_http_options options = pool_options();
  options.stream_window_bytes = WINDOW;
  open_pool(f, &options);
  cpool_request req = events_once(f, "/many");
  submit(f, &req);
  eventually(stats_of(f).paused_requests == 1);
  int64_t most = 0;
  for (int i = 0; i < MANY; i++) {
    char number[16];
    int64_t held = stats_of(f).stream_bytes;
    most = held > most ? held : most;
    snprintf(number, sizeof number, "%d", i);
    expect_event(f, "message", "", number);
  }
  assert_true(most <= WINDOW + 512);
  expect_end(f, out_.op, CPOOL_OK);
  eventually(stats_of(f).paused_requests == 0);
  eventually(stats_of(f).sse_events == MANY);
}

static void an_event_above_the_cap_ends_the_request(void **state)
{
  struct pool_fixture *f = *state;
  char *text = malloc(5000);
  assert_non_null(text);
  cpool_http_options options = pool_options();
  options.max_sse_event_bytes = 1024;
  open_pool(f, &options);
  strcpy(text, "data: a\n\ndata: ");
  memset(text + 15, 'x', 4000);
  strcpy(text + 4015, "\n\n");
  serve_events(f, "/large", text);
  cpool_request req = events_of(f, "/large");
  submit(f, &req);
  expect_event(f, "message", "", "a");
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_EBODY_TOO_LARGE);
  assert_non_null(strstr(error_of(&out).text, "max_sse_event_bytes (1024)"));
  cpool_response_free(out.resp);
  free(text);
  assert_int_equal(stats_of(f).sse_reconnects, 0);
}

static struct {
  cpool_http *pool;
  _Atomic int events, ends, wrong;
} counted;

static void count_event(const cpool_event *event)
{
  cpool_sse_event sse;
  cpool_sse_event_init(&sse);
  if (event->kind == CPOOL_EVENT_RESPONSE) {
    atomic_fetch_add(&counted.ends, 1);
    return;
  }
  if (cpool_event_sse_get(event, &sse) != CPOOL_OK)
    atomic_fetch_add(&counted.wrong, 1);
  int rc = cpool_body_credit(counted.pool, event->source, sse.bytes);
  if (rc != CPOOL_OK && rc != CPOOL_ESTALE) /* stale: the last events of a request that has ended */
    atomic_fetch_add(&counted.wrong, 1);
  atomic_fetch_add(&counted.events, 1);
}

static void callbacks_give_the_bytes_of_events_back(void **state)
{
  struct pool_fixture *f = *state;
  char *text = malloc(MANY * 16), *at = text;
  assert_non_null(text);
  for (int i = 0; i < MANY; i++)
    at += sprintf(at, "data\n\n");
  serve_events(f, "/many", text);
  free(text);
  cpool_http_options options = pool_options();
  options.stream_window_bytes = WINDOW;
  open_pool(f, &options);
  memset(&counted, 0, sizeof counted);
  counted.pool = f->pool;
  cpool_request req = events_once(f, "/many");
  req.queue = NULL;
  req.on_event = count_event;
  submit(f, &req);
  eventually(atomic_load(&counted.ends) == 1);
  assert_int_equal(atomic_load(&counted.events), MANY);
  assert_int_equal(atomic_load(&counted.wrong), 0);
  eventually(stats_of(f).stream_bytes == 0);
}

/* ---- again */

static void a_stream_that_ends_is_asked_for_again_with_the_last_id(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  serve_events(f, "/events", "retry: 1\nid: a b\ndata: 1\n\nid: never\ndata: not complete");
  cpool_request req = events_of(f, "/events");
  cpool_op op = submit(f, &req);
  int64_t began_ms = now_ms();
  for (int i = 0; i < 3; i++)
    expect_event(f, "message", "a b", "1");
  assert_true(now_ms() - began_ms >= 2 * WAIT_LEAST_MS); /* whatever the server says */
  char *head = fault_server_last_head(f->server);
  const char *first = strstr(head, "\r\nLast-Event-ID: ");
  assert_non_null(first);
  assert_null(strstr(first + 2, "\r\nLast-Event-ID"));
  free(head);
  fault_server_answer(f->server, "/events", "HTTP/1.1 204 No Content\r\n\r\n"); /* the server's word for: no more */
  for (;;) {
    struct outcome out = take(f);
    if (out.kind == CPOOL_EVENT_SSE)
      continue;
    assert_int_equal(out.status, CPOOL_OK);
    assert_true(out.op == op);
    assert_int_equal(cpool_response_status(out.resp), 204);
    assert_int_equal(info_of(&out).attempts, fault_server_requests(f->server));
    cpool_response_free(out.resp);
    break;
  }
  assert_true(queue_is_empty(f));
  assert_int_equal(stats_of(f).requests, 1);
  eventually(stats_of(f).sse_reconnects >= 3);
  assert_balanced(f->pool);
}

static void a_stream_that_breaks_is_asked_for_again(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.sse_retry_ms = 100;
  open_pool(f, &options);
  fault_server_answer(f->server, "/events", STREAM_HEAD "Content-Length: 1000\r\n\r\nid: 5\ndata: a\n\nid: 6\nda");
  cpool_request req = events_of(f, "/events");
  cpool_op op = submit(f, &req);
  expect_event(f, "message", "5", "a");
  fault_server_reset_all(f->server);
  expect_event(f, "message", "5", "a");
  char *head = fault_server_last_head(f->server);
  assert_non_null(strstr(head, "\r\nLast-Event-ID: 5\r\n")); /* not 6, whose event never came */
  free(head);
  fault_server_drop_all(f->server);
  expect_event(f, "message", "5", "a");
  eventually(stats_of(f).sse_reconnects == 2);
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  expect_end(f, op, CPOOL_ECANCELLED);
}

static void a_silent_stream_breaks_and_is_asked_for_again(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.sse_retry_ms = 100;
  open_pool(f, &options);
  fault_server_answer(f->server, "/events", STREAM_HEAD "Content-Length: 1000\r\n\r\ndata: a\n\n");
  cpool_request req = events_of(f, "/events");
  req.sock_read_timeout_ms = 100;
  cpool_op op = submit(f, &req);
  for (int i = 0; i < 3; i++)
    expect_event(f, "message", "", "a");
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  for (struct outcome out = {0}; out.kind != CPOOL_EVENT_RESPONSE;) {
    out = take(f);
    assert_int_equal(out.status, out.kind == CPOOL_EVENT_RESPONSE ? CPOOL_ECANCELLED : CPOOL_OK);
    cpool_response_free(out.resp);
  }
  assert_int_equal(stats_of(f).timeout_read, 0); /* the request did not end by it */
  assert_balanced(f->pool);
}

static void a_server_that_is_away_for_a_while_is_found_again(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.sse_retry_ms = 100;
  open_pool(f, &options);
  serve_events(f, "/events", "id: 1\ndata: a\n\n");
  uint16_t port = fault_server_port(f->server);
  cpool_request req = events_of(f, "/events");
  cpool_op op = submit(f, &req);
  expect_event(f, "message", "1", "a");
  fault_server_stop(f->server);
  uint64_t before = stats_of(f).sse_reconnects;
  while (stats_of(f).sse_reconnects < before + 2) { /* events may still be under way */
    const cpool_event *event;
    if (cpool_queue_wait(f->queue, &event, 1, 10) == 1) {
      assert_int_equal(event->kind, CPOOL_EVENT_SSE);
      cpool_queue_release(f->queue, &event, 1);
    }
  }
  f->server = fault_server_start(&(struct fault_options){.port = port});
  assert_non_null(f->server);
  serve_events(f, "/events", "id: 2\ndata: b\n\n");
  expect_event(f, "message", "2", "b");
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  for (struct outcome out = {0}; out.kind != CPOOL_EVENT_RESPONSE;) {
    out = take(f);
    cpool_response_free(out.resp);
  }
  assert_balanced(f->pool);
}

static void what_is_not_safe_to_repeat_ends_with_its_stream(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  serve_events(f, "/events", "retry: 1\ndata: a\n\n");
  cpool_request req = events_of(f, "/events");
  req.method = "POST";
  req.body = "prompt";
  req.body_len = 6;
  submit(f, &req);
  expect_event(f, "message", "", "a");
  expect_end(f, out_.op, CPOOL_OK);
  assert_int_equal(fault_server_requests(f->server), 1);
}

static void what_waits_to_be_sent_again_ends_with_cancel_time_and_close(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL); /* again after three seconds and more */
  serve_events(f, "/events", "data: a\n\n");
  cpool_request req = events_of(f, "/events");
  cpool_op op = submit(f, &req);
  expect_event(f, "message", "", "a");
  eventually(stats_of(f).sse_reconnects == 1);
  cpool_http_stats stats = stats_of(f);
  assert_int_equal(stats.active_requests, 1);
  assert_int_equal(stats.acquired_connections, 0);
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  expect_end(f, op, CPOOL_ECANCELLED);
  req.total_timeout_ms = 200;
  op = submit(f, &req);
  expect_event(f, "message", "", "a");
  expect_end(f, op, CPOOL_ETIMEOUT_TOTAL);
  req.total_timeout_ms = 0;
  op = submit(f, &req);
  expect_event(f, "message", "", "a");
  eventually(stats_of(f).sse_reconnects == 3);
  close_pool(f);
  expect_end(f, op, CPOOL_ECLOSED);
  assert_int_equal(fault_server_requests(f->server), 3);
}

static void nginx_passes_events_on(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = nginx_start(&(struct nginx_options){
      .server_lines = "location = /events { default_type text/event-stream; return 200 \"id: 1\\ndata: a\\n\\n\"; }"});
  assert_non_null(nginx);
  open_pool(f, NULL);
  cpool_request req = request_to(f, url_at(process_port(nginx), "/events"));
  req.flags = CPOOL_REQUEST_SSE;
  req.sse_reconnect = CPOOL_OFF;
  submit(f, &req);
  expect_event(f, "message", "1", "a");
  expect_end(f, out_.op, CPOOL_OK);
  process_stop(nginx);
}

static void misuse_is_refused(void **state)
{
  struct pool_fixture *f = *state;
  cpool_sse_event sse;
  cpool_response *resp = NULL;
  open_pool(f, NULL);
  cpool_request req = events_of(f, "/ok");
  req.sse_reconnect = 7;
  assert_refused(cpool_submit(cpool_http_session(f->pool), &req, NULL), CPOOL_EINVAL, "sse_reconnect");
  req.sse_reconnect = 0;
  req.queue = NULL;
  assert_refused(cpool_perform(cpool_http_session(f->pool), &req, &resp), CPOOL_EINVAL, "CPOOL_REQUEST_SSE");
  cpool_sse_event_init(&sse);
  ask(f, "/ok");
  const cpool_event *event = next_event(f);
  assert_refused(cpool_event_sse_get(event, &sse), CPOOL_EINVAL, "CPOOL_EVENT_SSE");
  assert_refused(cpool_event_sse_get(NULL, &sse), CPOOL_EINVAL, "CPOOL_EVENT_SSE");
  cpool_queue_release(f->queue, &event, 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(events_arrive_with_type_id_and_data_and_the_end_comes_last),
      POOL_CASE(a_stream_of_events_is_asked_for_by_its_headers),
      POOL_CASE(an_answer_that_is_no_stream_ends_the_request_with_it),
      POOL_CASE(a_coded_stream_is_decoded),
      POOL_CASE(a_slow_consumer_holds_the_stream_back_between_two_events),
      POOL_CASE(an_event_above_the_cap_ends_the_request),
      POOL_CASE(callbacks_give_the_bytes_of_events_back),
      POOL_CASE(a_stream_that_ends_is_asked_for_again_with_the_last_id),
      POOL_CASE(a_stream_that_breaks_is_asked_for_again),
      POOL_CASE(a_silent_stream_breaks_and_is_asked_for_again),
      POOL_CASE(a_server_that_is_away_for_a_while_is_found_again),
      POOL_CASE(what_is_not_safe_to_repeat_ends_with_its_stream),
      POOL_CASE(what_waits_to_be_sent_again_ends_with_cancel_time_and_close),
      POOL_CASE(nginx_passes_events_on),
      POOL_CASE(misuse_is_refused),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
