/* test_submit: what is refused at the call, by name and without any effect, and what holds when it is accepted */
#include "support/pool_fixture.h"

#include <unistd.h>

static void ignore(const cpool_event *event)
{
  (void) event;
}

/* ----------------------------------------------------------------------------------------------------------- refusals */

/* One refused submit; the statements before it spoil a good request. */
#define refuse_submit(culprit, ...)                                                                                    \
  do {                                                                                                                 \
    cpool_request req = request_of(f, "/ok");                                                                          \
    cpool_op op = 77;                                                                                                  \
    __VA_ARGS__;                                                                                                       \
    assert_refused(cpool_submit(cpool_http_session(f->pool), &req, &op), CPOOL_EINVAL, culprit);                       \
    assert_true(op == 77);                                                                                             \
    refused_count++;                                                                                                   \
  } while (0)

static void assert_nothing_happened(struct pool_fixture *f, int refused_count)
{
  cpool_http_stats stats = stats_of(f);
  assert_int_equal(stats.refused, refused_count);
  assert_int_equal(stats.requests, 0);
  assert_int_equal(stats.opened, 0);
  assert_int_equal(counts_of(f).accepted, 0);
  assert_true(queue_is_empty(f));
  get_ok(f, "/ok");
}

static void bad_url_is_refused(void **state)
{
  struct pool_fixture *f = *state;
  static const char *const urls[] = {"ftp://127.0.0.1/",
                                     "file:///etc/passwd",
                                     "127.0.0.1/ok",
                                     "http:///ok",
                                     "http://",
                                     "http:/127.0.0.1/",
                                     "",
                                     "http://user:secret@127.0.0.1/",
                                     "http://user@127.0.0.1/",
                                     "http://127.0.0.1:0/",
                                     "http://127.0.0.1:65536/",
                                     "http://127.0.0.1:x/",
                                     "http://a b/",
                                     " http://127.0.0.1/",
                                     "http://127.0.0.1/\r\nX-Evil: 1",
                                     "http://127.0.0.1/\n",
                                     "http://127.0.0.1/\x01",
                                     "http://127.0.0.1/a b",
                                     "http://127.0.0.1/\x7f",
                                     "http://127.0.0.1/?\t",
                                     "http://127.0.0.1/\xc3\xa9",
                                     "http://127.0.0.1/#\r\n",
                                     "http://[::1/",
                                     "http://%31/",
                                     "gopher://x/",
                                     "//127.0.0.1/"};
  int refused_count = 0;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
    refuse_submit("url", req.url = urls[i]);
  char *longest = malloc(100000);
  memset(longest, 'a', 99999);
  memcpy(longest, "http://127.0.0.1/", 17);
  longest[99999] = '\0';
  refuse_submit("url", req.url = longest);
  free(longest);
  refuse_submit("url", req.url = NULL);
  refuse_submit("base_url", req.url = "/ok");
  refuse_submit("base_url", req.url = "?ok");
  assert_nothing_happened(f, refused_count);
}

static void bad_method_body_or_flags_are_refused(void **state)
{
  struct pool_fixture *f = *state;
  static const char *const methods[] = {"",        "GE T",
                                        "GET\r\n", "GET /evil HTTP/1.1\r\n",
                                        "G\x01",   "G\xc3\xa9T",
                                        "GET:",    "CONNECT",
                                        "connect", "METHODMETHODMETHODMETHODMETHODMETHOD"};
  int refused_count = 0;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
    refuse_submit("method", req.method = methods[i]);
  refuse_submit("body", req.body_len = 5);
  refuse_submit("body_len", req.body = "x"; req.body_len = SIZE_MAX);
  refuse_submit("HEAD", req.method = "HEAD"; req.body = "x"; req.body_len = 1);
  refuse_submit("flags", req.flags = 0x80);
  refuse_submit("flags", req.flags = -1);
  assert_nothing_happened(f, refused_count);
}

static void bad_header_is_refused_by_its_index(void **state)
{
  struct pool_fixture *f = *state;
  static const cpool_header bad[] = {{NULL, "v"},   {"X", NULL},     {"", "v"},          {"X Y", "v"},
                                     {"X:", "v"},   {"X\r\nY", "v"}, {"X\xc3\xa9", "v"}, {"X", "a\r\nEvil: 1"},
                                     {"X", "a\nb"}, {"X", "a\rb"},   {"X", "\x01"},      {"X", "\x7f"}};
  static const char *const forbidden[] = {
      "Content-Length", "content-length", "Transfer-Encoding", "CONNECTION", "Keep-Alive", "Upgrade", "TE",
      "Trailer",        "Expect",         "Proxy-Connection"};
  int refused_count = 0;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    cpool_header headers[2] = {{"X-Good", "v"}, bad[i]};
    refuse_submit("headers[1]", req.headers = headers; req.header_count = 2);
  }
  for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
    cpool_header header = {forbidden[i], "1"};
    refuse_submit(forbidden[i], req.headers = &header; req.header_count = 1);
  }
  refuse_submit("headers", req.header_count = 1);
  assert_nothing_happened(f, refused_count);
}

static void destination_must_be_exactly_one(void **state)
{
  struct pool_fixture *f = *state;
  int refused_count = 0;
  open_pool(f, NULL);
  refuse_submit("queue and on_event", req.on_event = ignore);
  refuse_submit("queue and on_event", req.queue = NULL);
  assert_nothing_happened(f, refused_count);
}

static void limits_out_of_range_are_refused_by_their_key(void **state)
{
  struct pool_fixture *f = *state;
  static const int64_t bad_ms[] = {-2, INT64_MIN, 24 * 60 * 60 * 1000 + 1, INT64_MAX};
  int refused_count = 0;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof bad_ms / sizeof *bad_ms; i++) {
    refuse_submit("acquire_timeout_ms", req.acquire_timeout_ms = bad_ms[i]);
    refuse_submit("connect_timeout_ms", req.connect_timeout_ms = bad_ms[i]);
    refuse_submit("sock_read_timeout_ms", req.sock_read_timeout_ms = bad_ms[i]);
    refuse_submit("total_timeout_ms", req.total_timeout_ms = bad_ms[i]);
  }
  refuse_submit("max_response_bytes", req.max_response_bytes = -2);
  refuse_submit("max_response_bytes", req.max_response_bytes = INT64_MAX);
  assert_nothing_happened(f, refused_count);
}

static void wrong_size_fields_are_refused(void **state)
{
  struct pool_fixture *f = *state;
  struct {
    cpool_request req;
    int64_t later;
  } newer;
  int refused_count = 0;
  open_pool(f, NULL);
  refuse_submit("size", req.size = 0);
  refuse_submit("size", req.size = 3);
  refuse_submit("size", req.size = SIZE_MAX);
  newer.req = request_of(f, "/ok");
  newer.req.size = sizeof newer;
  newer.later = 1;
  assert_refused(cpool_submit(cpool_http_session(f->pool), &newer.req, NULL), CPOOL_EINVAL, "version");
  refused_count++;
  assert_nothing_happened(f, refused_count);
  newer.later = 0; /* a newer caller that uses nothing new */
  assert_int_equal(cpool_submit(cpool_http_session(f->pool), &newer.req, NULL), CPOOL_OK);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_OK);
  cpool_response_free(out.resp);
  cpool_http_stats stats = {.size = 0};
  assert_refused(cpool_http_stats_get(f->pool, &stats), CPOOL_EINVAL, "size");
  cpool_histogram histogram = {.size = 0};
  assert_refused(cpool_http_histogram_get(f->pool, CPOOL_PHASE_QUEUE, &histogram), CPOOL_EINVAL, "size");
  cpool_http_options options = {.size = 0};
  assert_refused(cpool_http_options_get(f->pool, &options), CPOOL_EINVAL, "size");
  cpool_http *pool = (void *) f;
  assert_refused(cpool_http_new(&pool, NULL, &options), CPOOL_EINVAL, "size");
  assert_ptr_equal(pool, f);
}

static void null_is_refused_everywhere(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_session *session = cpool_http_session(f->pool);
  cpool_request req = request_of(f, "/ok");
  cpool_http_stats stats;
  cpool_http_stats_init(&stats);
  cpool_histogram histogram;
  cpool_histogram_init(&histogram);
  cpool_http_options options = pool_options();
  cpool_origin_stats row;
  cpool_response *resp = NULL;
  const cpool_event *event;
  uint64_t cursor = 0;
  assert_refused(cpool_last_error(NULL), CPOOL_EINVAL, "");
  assert_refused(cpool_submit(NULL, &req, NULL), CPOOL_EINVAL, "session");
  assert_refused(cpool_submit(session, NULL, NULL), CPOOL_EINVAL, "request");
  assert_refused(cpool_perform(NULL, &req, &resp), CPOOL_EINVAL, "session");
  assert_refused(cpool_perform(session, NULL, &resp), CPOOL_EINVAL, "request");
  assert_refused(cpool_perform(session, &req, NULL), CPOOL_EINVAL, "out");
  assert_refused(cpool_get(session, NULL, &resp), CPOOL_EINVAL, "url");
  assert_null(resp);
  assert_refused(cpool_cancel(NULL, 1), CPOOL_EINVAL, "pool");
  assert_refused(cpool_http_new(NULL, NULL, NULL), CPOOL_EINVAL, "out");
  assert_refused(cpool_session_new(NULL, f->pool, NULL), CPOOL_EINVAL, "out");
  assert_refused(cpool_session_new(&session, NULL, NULL), CPOOL_EINVAL, "pool");
  assert_refused(cpool_http_stats_get(NULL, &stats), CPOOL_EINVAL, "pool");
  assert_refused(cpool_http_stats_get(f->pool, NULL), CPOOL_EINVAL, "out");
  assert_refused(cpool_http_histogram_get(f->pool, 0, NULL), CPOOL_EINVAL, "out");
  assert_refused(cpool_http_histogram_get(f->pool, CPOOL_PHASES, &histogram), CPOOL_EINVAL, "phase");
  assert_refused(cpool_http_histogram_get(f->pool, -1, &histogram), CPOOL_EINVAL, "phase");
  assert_refused(cpool_http_origins_get(f->pool, NULL, &row, sizeof row, 1), CPOOL_EINVAL, "cursor");
  assert_refused(cpool_http_origins_get(f->pool, &cursor, NULL, sizeof row, 1), CPOOL_EINVAL, "rows");
  assert_refused(cpool_http_origins_get(f->pool, &cursor, &row, 1, 1), CPOOL_EINVAL, "row_size");
  assert_refused(cpool_http_origins_get(f->pool, &cursor, &row, sizeof row, 0), CPOOL_EINVAL, "max 0 is below 1");
  assert_refused(cpool_http_options_get(NULL, &options), CPOOL_EINVAL, "pool");
  assert_refused(cpool_http_options_get(f->pool, NULL), CPOOL_EINVAL, "out");
  assert_refused(cpool_http_reconfigure(f->pool, NULL), CPOOL_EINVAL, "options");
  assert_refused(cpool_http_close_start(NULL, 0), CPOOL_EINVAL, "pool");
  assert_refused(cpool_http_close_start(f->pool, -3), CPOOL_EINVAL, "close_start: drain_ms -3 is below -1 (off)");
  assert_refused(cpool_http_close(f->pool, -2), CPOOL_EINVAL, "drain_ms");
  assert_refused(cpool_queue_new(NULL, NULL), CPOOL_EINVAL, "out");
  assert_refused(cpool_queue_fd(NULL), CPOOL_EINVAL, "queue");
  assert_refused(cpool_queue_wait(NULL, &event, 1, 0), CPOOL_EINVAL, "queue");
  assert_refused(cpool_queue_wait(f->queue, NULL, 1, 0), CPOOL_EINVAL, "events");
  assert_refused(cpool_queue_wait(f->queue, &event, 0, 0), CPOOL_EINVAL, "max");
  assert_refused(cpool_queue_wait(f->queue, &event, 1, -2), CPOOL_EINVAL, "timeout_ms");
  assert_null(cpool_http_session(NULL));
  assert_null(cpool_event_take_response(NULL));
  cpool_http_free(NULL);
  cpool_session_free(NULL);
  cpool_response_free(NULL);
  cpool_queue_release(NULL, NULL, 0);
  assert_int_equal(cpool_http_close(NULL, 0), CPOOL_OK);
  assert_int_equal(cpool_queue_free(NULL), CPOOL_OK);
  assert_int_equal(cpool_runtime_free(NULL), CPOOL_OK);
  assert_int_equal(cpool_response_status(NULL), 0);
  get_ok(f, "/ok");
}

static void options_out_of_range_are_refused_by_their_key(void **state)
{
  struct pool_fixture *f = *state;
  static const struct {
    const char *key, *value;
  } bad[] = {{"max_connections", "0x10"},
             {"max_connections", "-1"},
             {"max_connections", "off"},
             {"max_pending", "16000001"},
             {"connect_timeout_ms", "-5"},
             {"connect_timeout_ms", "1s"},
             {"race_delay_ms", "9"},
             {"max_lifetime_jitter_ratio", "1.5"},
             {"max_lifetime_jitter_ratio", "nan"},
             {"address_policy", "private"},
             {"max_header_bytes", "99999999999999999999"},
             {"no_such_option", "1"}};
  cpool_http *pool = (void *) f;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    cpool_http_options options = pool_options(), before = options;
    assert_refused(cpool_http_options_set(&options, bad[i].key, bad[i].value), CPOOL_EINVAL, bad[i].key);
    assert_memory_equal(&options, &before, sizeof options);
  }
  cpool_http_options options = pool_options();
  options.max_connections = -7;
  assert_refused(cpool_http_new(&pool, NULL, &options), CPOOL_EINVAL, "max_connections");
  options = pool_options();
  options.sock_read_timeout_ms = INT64_MAX;
  assert_refused(cpool_http_new(&pool, NULL, &options), CPOOL_EINVAL, "sock_read_timeout_ms");
  options = pool_options();
  options.queue = f->queue;
  options.on_event = ignore;
  assert_refused(cpool_http_new(&pool, NULL, &options), CPOOL_EINVAL, "queue and on_event");
  options = pool_options();
  options.user_agent = "a\r\nEvil: 1";
  assert_refused(cpool_http_new(&pool, NULL, &options), CPOOL_EINVAL, "user_agent");
  options = pool_options();
  options.dns_servers = "not an address";
  assert_refused(cpool_http_new(&pool, NULL, &options), CPOOL_EINVAL, "dns_servers");
  assert_ptr_equal(pool, f);
  cpool_queue *q = (void *) f;
  cpool_queue_options queue_options;
  cpool_queue_options_init(&queue_options);
  queue_options.high_water_bytes = 4095;
  assert_refused(cpool_queue_new(&q, &queue_options), CPOOL_EINVAL, "high_water_bytes");
  queue_options.high_water_bytes = 4096;
  queue_options.low_water_bytes = 4097;
  assert_refused(cpool_queue_new(&q, &queue_options), CPOOL_EINVAL, "low_water_bytes");
  assert_ptr_equal(q, f);
}

/* ----------------------------------------------------------------------------------------------------- what is accepted */

static void out_is_set_before_the_request_can_complete(void **state)
{
  struct pool_fixture *f = *state;
  enum { COUNT = 500 };
  static struct late {
    struct record record;
    cpool_op op;
    _Atomic bool same;
  } late[COUNT];
  open_pool(f, NULL);
  int port_fd;
  uint16_t port;
  port_fd = refusing_port_open(&port);
  memset(late, 0, sizeof late);
  for (int i = 0; i < COUNT; i++) {
    cpool_request req = request_to(f, url_at(port, "/"));
    req.queue = NULL;
    req.on_event = on_record;
    req.user = &late[i].record;
    assert_int_equal(cpool_submit(cpool_http_session(f->pool), &req, &late[i].op), CPOOL_OK);
    eventually(atomic_load(&late[i].record.ends) == 1);
    assert_true(atomic_load(&late[i].record.op) == late[i].op);
    assert_int_equal(atomic_load(&late[i].record.status), CPOOL_ECONNECT);
  }
  close(port_fd);
}

struct inner {
  struct pool_fixture *f;
  struct record second;
  cpool_op op, out_in_callback;
  int depth, deepest, rc[10];
  cpool_response *resp;
  _Atomic int done;
};

static void on_inner_end(const cpool_event *event)
{
  struct inner *in = event->user;
  in->deepest = in->depth > in->deepest ? in->depth : in->deepest;
  in->out_in_callback = in->op; /* the submit wrote it */
  atomic_fetch_add(&in->done, 1);
}

static void on_outer_end(const cpool_event *event)
{
  struct inner *in = event->user;
  const cpool_event *other;
  cpool_session *session = cpool_http_session(in->f->pool);
  cpool_request req = request_of(in->f, "/ok");
  cpool_http_stats stats;
  cpool_http_stats_init(&stats);
  in->depth++;
  req.queue = NULL;
  req.on_event = on_inner_end;
  req.user = in;
  in->rc[0] = cpool_submit(session, &req, &in->op);
  in->rc[1] = cpool_cancel(in->f->pool, in->op);
  in->rc[2] = cpool_get(session, req.url, &in->resp);
  req.on_event = NULL;
  req.user = NULL;
  in->rc[3] = cpool_perform(session, &req, &in->resp);
  in->rc[4] = cpool_http_close(in->f->pool, 0);
  in->rc[5] = cpool_queue_wait(in->f->queue, &other, 1, 1);
  in->rc[6] = cpool_queue_wait(in->f->queue, &other, 1, 0);
  in->rc[7] = cpool_http_stats_get(in->f->pool, &stats);
  in->rc[8] = cpool_cancel(in->f->pool, event->source);
  in->depth--;
  atomic_fetch_add(&in->done, 1);
}

static void callbacks_never_nest_and_waiting_calls_are_refused_in_them(void **state)
{
  struct pool_fixture *f = *state;
  struct inner in = {.f = f};
  open_pool(f, NULL);
  cpool_request req = request_of(f, "/ok");
  req.queue = NULL;
  req.on_event = on_outer_end;
  req.user = &in;
  submit(f, &req);
  eventually(atomic_load(&in.done) == 2);
  assert_int_equal(in.deepest, 0);
  assert_true(in.out_in_callback == in.op && in.op != 0);
  assert_null(in.resp);
  const int wanted[] = {CPOOL_OK,      CPOOL_OK, CPOOL_EDEADLK, CPOOL_EDEADLK, CPOOL_EDEADLK,
                        CPOOL_EDEADLK, 0,        CPOOL_OK,      CPOOL_ESTALE};
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
    assert_int_equal(in.rc[i], wanted[i]);
  get_ok(f, "/ok"); /* nothing was closed */
}

static void perform_gives_a_response_unless_it_was_refused(void **state)
{
  struct pool_fixture *f = *state;
  cpool_response *resp = (void *) f;
  uint16_t port;
  int port_fd = refusing_port_open(&port);
  open_pool(f, NULL);
  cpool_session *session = cpool_http_session(f->pool);
  cpool_request req = request_of(f, "/ok");
  assert_refused(cpool_perform(session, &req, &resp), CPOOL_EINVAL, "queue");
  assert_null(resp);
  assert_int_equal(cpool_get(session, url_of(f, "/status/404"), &resp), CPOOL_OK);
  assert_int_equal(cpool_response_status(resp), 404);
  cpool_response_free(resp);
  assert_int_equal(cpool_get(session, url_at(port, "/"), &resp), CPOOL_ECONNECT);
  assert_non_null(resp);
  assert_int_equal(cpool_response_status(resp), 0);
  assert_string_equal(cpool_response_body(resp, NULL), "");
  cpool_response_free(resp);
  close(port_fd);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(bad_url_is_refused),
      POOL_CASE(bad_method_body_or_flags_are_refused),
      POOL_CASE(bad_header_is_refused_by_its_index),
      POOL_CASE(destination_must_be_exactly_one),
      POOL_CASE(limits_out_of_range_are_refused_by_their_key),
      POOL_CASE(wrong_size_fields_are_refused),
      POOL_CASE(null_is_refused_everywhere),
      POOL_CASE(options_out_of_range_are_refused_by_their_key),
      POOL_CASE(out_is_set_before_the_request_can_complete),
      POOL_CASE(callbacks_never_nest_and_waiting_calls_are_refused_in_them),
      POOL_CASE(perform_gives_a_response_unless_it_was_refused),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
