/* stream: an answer in pieces: in order, whole, and no faster than its consumer takes them */
#include "support/stream_fixture.h"

#include <sys/resource.h>

#include "support/process.h"

enum { WINDOW = 65536, PIECE = 16384 + 512 /* of libcurl, at most, and its event */, STREAMS = 20, THREADS = 4 };

static cpool_http_options with_window(void)
{
  cpool_http_options options = pool_options();
  options.stream_window_bytes = WINDOW;
  return options;
}

/* ---- order */

static void head_pieces_and_end_come_in_order(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = stream_of(f, "/bytes/1000000");
  cpool_op op = submit(f, &req);
  const cpool_event *event = next_event(f);
  assert_int_equal(event->kind, CPOOL_EVENT_HEAD);
  assert_true(event->source == op);
  assert_string_equal(cpool_response_header(event->response, "Content-Length"), "1000000");
  struct got got = {0};
  note(&got, event);
  cpool_queue_release(f->queue, &event, 1);
  while (got.ends == 0) {
    event = next_event(f);
    assert_true(event->source == op);
    note(&got, event);
    cpool_queue_release(f->queue, &event, 1);
  }
  size_t len = 1;
  assert_int_equal(got.status, CPOOL_OK);
  assert_int_equal(got.code, 200);
  assert_int_equal(got.bytes, 1000000);
  assert_true(got.as_pattern);
  assert_string_equal(cpool_response_body(got.resp, &len), "");
  assert_int_equal(len, 0);
  assert_int_equal(cpool_response_status(got.resp), 200);
  cpool_response_free(got.resp);
  assert_balanced(f->pool);
}

static void what_the_end_decides_cannot_be_read_before(void **state)
{
  struct pool_fixture *f = *state;
  cpool_response_info info;
  cpool_error error;
  const char *name, *value;
  size_t len = 1;
  cpool_response_info_init(&info);
  cpool_error_init(&error);
  open_pool(f, NULL);
  cpool_request req = stream_of(f, "/hold-body");
  submit(f, &req);
  const cpool_event *head = next_event(f);
  assert_int_equal(head->kind, CPOOL_EVENT_HEAD);
  assert_refused(cpool_response_info_get(head->response, &info), CPOOL_EBUSY, "not ended");
  assert_refused(cpool_response_error_get(head->response, &error), CPOOL_EBUSY, "not ended");
  assert_refused(cpool_response_trailer_at(head->response, 0, &name, &value), CPOOL_EINVAL, "trailer_count");
  assert_null(cpool_response_trailer(head->response, "x-trailer"));
  assert_string_equal(cpool_response_body(head->response, &len), "");
  assert_int_equal(len, 0);
  fault_server_release(f->server, 1);
  struct got got = {.heads = 1};
  while (got.ends == 0) {
    const cpool_event *event = next_event(f);
    note(&got, event);
    cpool_queue_release(f->queue, &event, 1);
  }
  assert_int_equal(cpool_response_info_get(head->response, &info), CPOOL_OK); /* the same response */
  assert_int_equal(info.http_version, 11);
  cpool_queue_release(f->queue, &head, 1);
  cpool_response_free(got.resp);
}

static void an_answer_without_body_has_a_head_and_an_end(void **state)
{
  struct pool_fixture *f = *state;
  static const char *const paths[] = {"/204", "/304", "/bytes/0"};
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    cpool_request req = stream_of(f, paths[i]);
    submit(f, &req);
    struct got got = drain(f);
    assert_int_equal(got.heads, 1);
    assert_int_equal(got.status, CPOOL_OK);
    assert_int_equal(got.bytes, 0);
    cpool_response_free(got.resp);
  }
  cpool_request req = stream_of(f, "/head-with-length");
  req.method = "HEAD";
  submit(f, &req);
  expect_stream(f, CPOOL_OK, 0);
}

static void a_failure_before_the_head_has_only_the_end(void **state)
{
  struct pool_fixture *f = *state;
  static const char *const paths[] = {"/reset-before-answer", "/fin-before-answer", "/fin-midheader"};
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    cpool_request req = stream_of(f, paths[i]);
    submit(f, &req);
    struct got got = drain(f);
    assert_int_equal(got.heads, 0);
    assert_int_not_equal(got.status, CPOOL_OK);
    cpool_response_free(got.resp);
  }
}

static void a_failure_within_the_body_comes_after_its_pieces(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = stream_of(f, "/fin-midbody");
  submit(f, &req);
  expect_stream(f, CPOOL_ETRUNCATED, 5);
  req = stream_of(f, "/reset-midbody");
  submit(f, &req);
  struct got got = drain(f);
  assert_int_equal(got.status, CPOOL_ETRUNCATED);
  assert_int_equal(got.code, got.heads == 1 ? 200 : 0);
  cpool_response_free(got.resp);
  assert_balanced(f->pool);
}

static void each_piece_comes_when_it_arrives(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = stream_of(f, "/hold-body");
  submit(f, &req);
  struct got got = {0};
  while (got.bytes < 3) { /* the rest is held back until we have these */
    const cpool_event *event = next_event(f);
    note(&got, event);
    cpool_queue_release(f->queue, &event, 1);
  }
  fault_server_release(f->server, 1);
  while (got.ends == 0) {
    const cpool_event *event = next_event(f);
    note(&got, event);
    cpool_queue_release(f->queue, &event, 1);
  }
  assert_int_equal(got.status, CPOOL_OK);
  assert_int_equal(got.bytes, 5);
  cpool_response_free(got.resp);
}

static void a_redirect_that_cannot_be_followed_is_only_an_end(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  fault_server_answer(f->server, "/from",
                      "HTTP/1.1 302 Found\r\nLocation: ftp://a.test/\r\nContent-Length: 5\r\n\r\nmoved");
  cpool_request req = stream_of(f, "/from");
  req.max_redirects = 5;
  submit(f, &req);
  struct got got = drain(f);
  assert_int_equal(got.status, CPOOL_EREDIRECT);
  assert_int_equal(got.heads, 0);
  assert_int_equal(cpool_response_status(got.resp), 302);
  assert_string_equal(cpool_response_header(got.resp, "Location"), "ftp://a.test/");
  assert_string_equal(cpool_response_body(got.resp, NULL), "");
  cpool_response_free(got.resp);
  req.max_redirects = CPOOL_OFF; /* and one that nobody wants to follow is an answer as any other */
  submit(f, &req);
  got = drain(f);
  assert_int_equal(got.status, CPOOL_OK);
  assert_int_equal(got.code, 302);
  assert_int_equal(got.bytes, 5);
  cpool_response_free(got.resp);
}

static void only_the_last_answer_of_a_redirect_is_streamed(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  cpool_request req = stream_of(f, "/redirect/3");
  req.max_redirects = 5;
  submit(f, &req);
  struct got got = drain(f);
  assert_int_equal(got.heads, 1);
  assert_int_equal(got.code, 200);
  assert_int_equal(got.bytes, 5);
  cpool_response_free(got.resp);
}

static void trailers_are_there_at_the_end(void **state)
{
  struct pool_fixture *f = *state;
  const char *name, *value;
  open_pool(f, NULL);
  for (int streamed = 0; streamed < 2; streamed++) {
    cpool_request req = request_of(f, "/trailers");
    req.flags = streamed ? CPOOL_REQUEST_STREAM : 0;
    submit(f, &req);
    struct got got = drain(f);
    assert_int_equal(got.status, CPOOL_OK);
    assert_string_equal(cpool_response_trailer(got.resp, "x-trailer"), "end");
    assert_null(cpool_response_header(got.resp, "x-trailer"));
    assert_int_equal(cpool_response_trailer_at(got.resp, 0, &name, &value), CPOOL_OK);
    assert_string_equal(name, "X-Trailer");
    assert_string_equal(value, "end");
    assert_refused(cpool_response_trailer_at(got.resp, 1, &name, &value), CPOOL_EINVAL, "trailer_count");
    cpool_response_free(got.resp);
  }
}

/* ---- no faster than the consumer */

static int64_t busy_ms(void)
{
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

static void a_stream_whose_consumer_has_enough_waits(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = with_window();
  options.sock_read_timeout_ms = 300;
  open_pool(f, &options);
  cpool_request req = stream_of(f, "/bytes/3000000");
  submit(f, &req);
  eventually(stats_of(f).paused_requests == 1);
  assert_in_range(stats_of(f).stream_bytes, WINDOW, WINDOW + PIECE);
  int64_t before_ms = busy_ms(), until_ms = now_ms() + 1000;
  while (now_ms() < until_ms) { /* others go on meanwhile, and the silence is nobody's time-out */
    struct pool_fixture others = *f;
    assert_int_equal(cpool_queue_new(&others.queue, NULL), CPOOL_OK);
    cpool_request other = stream_of(&others, "/bytes/200000");
    other.url = url_of(f, "/bytes/200000");
    submit(&others, &other);
    expect_stream(&others, CPOOL_OK, 200000);
    assert_int_equal(cpool_queue_free(others.queue), CPOOL_OK);
    poll(NULL, 0, 50);
  }
  assert_true(busy_ms() - before_ms < 800);
  assert_int_equal(stats_of(f).paused_requests, 1);
  struct got got = drain(f);
  assert_int_equal(got.status, CPOOL_OK);
  assert_int_equal(got.bytes, 3000000);
  assert_true(got.as_pattern);
  cpool_response_free(got.resp);
  eventually(stats_of(f).stream_bytes == 0 && stats_of(f).paused_requests == 0);
}

struct sink {
  _Atomic size_t bytes;
  _Atomic int heads, ends, status;
  cpool_http *pool;
  bool gives;
};

static void on_stream(const cpool_event *event)
{
  struct sink *sink = event->user;
  if (event->kind == CPOOL_EVENT_HEAD)
    atomic_fetch_add(&sink->heads, 1);
  if (event->kind == CPOOL_EVENT_BODY) {
    atomic_fetch_add(&sink->bytes, event->len);
    int rc = sink->gives ? cpool_body_credit(sink->pool, event->source, event->len) : CPOOL_OK;
    if (rc != CPOOL_OK && rc != CPOOL_ESTALE) /* the last pieces may come after the end on the loop */
      atomic_fetch_add(&sink->heads, 100);    /* seen by the test */
  }
  if (event->kind == CPOOL_EVENT_RESPONSE) {
    atomic_store(&sink->status, event->status);
    atomic_fetch_add(&sink->ends, 1);
  }
}

/* A chunk of one byte each: what the events take is what counts, not what is in them. */
static void a_body_of_single_bytes_is_held_back_by_the_memory_it_takes(void **state)
{
  enum { BYTES = 100000, MOST = WINDOW / sizeof(cpool_event) };
  static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk[] = "1\r\n?\r\n";
  struct pool_fixture *f = *state;
  char *answer = malloc(sizeof head + BYTES * (sizeof chunk - 1) + 8), *at = answer;
  assert_non_null(answer);
  at += sprintf(at, "%s", head);
  for (int i = 0; i < BYTES; i++) {
    at += sprintf(at, "%s", chunk);
    at[-3] = fault_pattern(i);
  }
  sprintf(at, "0\r\n\r\n");
  fault_server_answer(f->server, "/single", answer);
  free(answer);
  cpool_http_options options = with_window();
  open_pool(f, &options);
  cpool_request req = stream_of(f, "/single");
  submit(f, &req);
  eventually(stats_of(f).paused_requests == 1);
  static const cpool_event *kept[BYTES];
  int count = cpool_queue_wait(f->queue, kept, BYTES, 0);
  assert_in_range(count, 3, MOST);
  struct got got = {0};
  for (int i = 0; i < count; i++)
    note(&got, kept[i]);
  cpool_queue_release(f->queue, kept, count);
  while (got.ends == 0) {
    const cpool_event *event = next_event(f);
    note(&got, event);
    cpool_queue_release(f->queue, &event, 1);
  }
  assert_int_equal(got.status, CPOOL_OK);
  assert_int_equal(got.bytes, BYTES);
  assert_true(got.as_pattern);
  cpool_response_free(got.resp);

  struct sink sink = {.pool = f->pool, .gives = true}; /* with callbacks the events are gone at once */
  req.queue = NULL;
  req.on_event = on_stream;
  req.user = &sink;
  submit(f, &req);
  eventually(atomic_load(&sink.ends) == 1);
  assert_int_equal(atomic_load(&sink.bytes), BYTES);
  eventually(stats_of(f).stream_bytes == 0);
}

static void all_streams_together_stay_within_the_pools_bytes(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = with_window();
  options.max_stream_bytes = 4 * WINDOW;
  open_pool(f, &options);
  struct got got[STREAMS] = {0};
  for (int i = 0; i < STREAMS; i++) {
    cpool_request req = stream_of(f, "/bytes/300000");
    req.user = &got[i];
    submit(f, &req);
  }
  eventually(stats_of(f).paused_requests == STREAMS);
  assert_true(stats_of(f).stream_bytes <= 4 * WINDOW + PIECE);
  for (int ended = 0; ended < STREAMS;) {
    const cpool_event *event = next_event(f);
    note(event->user, event);
    ended += event->kind == CPOOL_EVENT_RESPONSE;
    cpool_queue_release(f->queue, &event, 1);
  }
  for (int i = 0; i < STREAMS; i++) {
    assert_int_equal(got[i].bytes, 300000);
    assert_true(got[i].as_pattern);
    cpool_response_free(got[i].resp);
  }
}

static void the_marks_of_the_queue_hold_streams_back_too(void **state)
{
  struct pool_fixture *f = *state;
  cpool_queue_options marks;
  cpool_queue_options_init(&marks);
  marks.high_water_bytes = 2 * PIECE;
  assert_int_equal(cpool_queue_free(f->queue), CPOOL_OK);
  assert_int_equal(cpool_queue_new(&f->queue, &marks), CPOOL_OK);
  open_pool(f, NULL);
  cpool_request req = stream_of(f, "/bytes/500000");
  submit(f, &req);
  eventually(stats_of(f).paused_requests == 1);
  assert_true(stats_of(f).stream_bytes <= 3 * PIECE);
  expect_stream(f, CPOOL_OK, 500000);
}

static void new_marks_let_streams_go_on(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = with_window();
  options.stream_window_bytes = 1 << 20;
  options.max_stream_bytes = WINDOW;
  open_pool(f, &options);
  cpool_request req = stream_of(f, "/bytes/400000");
  submit(f, &req);
  eventually(stats_of(f).paused_requests == 1);
  options.max_stream_bytes = 64 << 20;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  eventually(stats_of(f).succeeded == 1);
  expect_stream(f, CPOOL_OK, 400000);
}

static void the_cap_counts_only_when_the_request_sets_it(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_response_bytes = 1000;
  open_pool(f, &options);
  cpool_request req = stream_of(f, "/bytes/50000");
  submit(f, &req);
  expect_stream(f, CPOOL_OK, 50000);
  req.max_response_bytes = 40000;
  submit(f, &req);
  struct got got = drain(f);
  assert_int_equal(got.status, CPOOL_EBODY_TOO_LARGE);
  assert_true(got.bytes <= 40000);
  cpool_response_free(got.resp);
}

/* ---- callbacks and credit */

static void callbacks_give_credit_themselves(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = with_window();
  open_pool(f, &options);
  struct sink giving = {.pool = f->pool, .gives = true}, keeping = {.pool = f->pool};
  cpool_request req = stream_of(f, "/bytes/1000000");
  req.queue = NULL;
  req.on_event = on_stream;
  req.user = &giving;
  submit(f, &req);
  eventually(atomic_load(&giving.ends) == 1);
  assert_int_equal(atomic_load(&giving.status), CPOOL_OK);
  assert_int_equal(atomic_load(&giving.bytes), 1000000);
  assert_int_equal(atomic_load(&giving.heads), 1);

  req.user = &keeping;
  cpool_op op = submit(f, &req);
  eventually(stats_of(f).paused_requests == 1);
  size_t before = atomic_load(&keeping.bytes);
  assert_in_range(before, WINDOW - PIECE, WINDOW + PIECE);
  assert_int_equal(cpool_body_credit(f->pool, op, before), CPOOL_OK);
  eventually(atomic_load(&keeping.bytes) > before);
  while (atomic_load(&keeping.ends) == 0) { /* more than is out counts as all */
    int rc = cpool_body_credit(f->pool, op, SIZE_MAX);
    assert_true(rc == CPOOL_OK || rc == CPOOL_ESTALE);
    poll(NULL, 0, 1);
  }
  assert_int_equal(atomic_load(&keeping.bytes), 1000000);
  assert_refused(cpool_body_credit(f->pool, op, 1), CPOOL_ESTALE, "ended");
  assert_refused(cpool_body_credit(f->pool, op, 0), CPOOL_EINVAL, "bytes");
  eventually(stats_of(f).stream_bytes == 0);
}

/* ---- ends */

static void a_stream_that_waits_can_be_cancelled_and_cut(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = with_window();
  open_pool(f, &options);
  cpool_request req = stream_of(f, "/endless-body");
  cpool_op op = submit(f, &req);
  eventually(stats_of(f).paused_requests == 1);
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  struct got got = drain(f);
  assert_int_equal(got.status, CPOOL_ECANCELLED);
  cpool_response_free(got.resp);
  req.total_timeout_ms = 200;
  submit(f, &req);
  eventually(stats_of(f).failed == 2);
  got = drain(f);
  assert_int_equal(got.status, CPOOL_ETIMEOUT_TOTAL);
  cpool_response_free(got.resp);
  assert_balanced(f->pool);
}

static void pieces_outlive_their_pool(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = with_window();
  open_pool(f, &options);
  cpool_request req = stream_of(f, "/endless-body");
  submit(f, &req);
  eventually(stats_of(f).paused_requests == 1);
  const cpool_event *kept[64];
  int count = cpool_queue_wait(f->queue, kept, 64, 0);
  assert_true(count > 2);
  close_pool(f);
  struct got got = drain(f);
  assert_int_equal(got.status, CPOOL_ECLOSED);
  cpool_response_free(got.resp);
  for (int i = 0; i < count; i++)
    if (kept[i]->kind == CPOOL_EVENT_BODY)
      assert_true(kept[i]->len > 0 && ((const char *) kept[i]->data)[0] != '\0');
  cpool_queue_release(f->queue, kept, count);
}

static void streams_need_a_place_for_their_events(void **state)
{
  struct pool_fixture *f = *state;
  cpool_response *resp = NULL;
  open_pool(f, NULL);
  cpool_request req = stream_of(f, "/ok");
  req.queue = NULL;
  assert_refused(cpool_perform(cpool_http_session(f->pool), &req, &resp), CPOOL_EINVAL, "CPOOL_REQUEST_STREAM");
  assert_null(resp);
}

/* ---- many consumers, a real server */

struct taker {
  pthread_t thread;
  cpool_queue *queue;
  _Atomic int64_t *bytes;
  _Atomic int *ends;
};

static void *take_all(void *arg)
{
  struct taker *taker = arg;
  const cpool_event *events[16];
  while (atomic_load(taker->ends) < STREAMS) {
    int count = cpool_queue_wait(taker->queue, events, 16, 50);
    for (int i = 0; i < count; i++) {
      if (events[i]->kind == CPOOL_EVENT_BODY)
        atomic_fetch_add(taker->bytes, (int64_t) events[i]->len);
      if (events[i]->kind == CPOOL_EVENT_HEAD && cpool_response_header(events[i]->response, "content-length") == NULL)
        atomic_fetch_add(taker->bytes, INT64_MIN / 4); /* seen by the test */
      if (events[i]->kind == CPOOL_EVENT_RESPONSE)
        atomic_fetch_add(taker->ends, 1);
    }
    cpool_queue_release(taker->queue, events, count);
  }
  return NULL;
}

static void many_threads_take_the_pieces_of_nginx(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = nginx_start(NULL);
  assert_non_null(nginx);
  cpool_http_options options = with_window();
  open_pool(f, &options);
  _Atomic int64_t bytes = 0;
  _Atomic int ends = 0;
  struct taker takers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    takers[i] = (struct taker){.queue = f->queue, .bytes = &bytes, .ends = &ends};
    assert_int_equal(pthread_create(&takers[i].thread, NULL, take_all, &takers[i]), 0);
  }
  for (int i = 0; i < STREAMS; i++) {
    cpool_request req = stream_of(f, "");
    req.url = url_at(process_port(nginx), "/big");
    submit(f, &req);
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(takers[i].thread, NULL);
  assert_int_equal(atomic_load(&bytes), (int64_t) STREAMS * 1048576);
  eventually(stats_of(f).stream_bytes == 0);
  assert_balanced(f->pool);
  process_stop(nginx);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(head_pieces_and_end_come_in_order),
      POOL_CASE(what_the_end_decides_cannot_be_read_before),
      POOL_CASE(an_answer_without_body_has_a_head_and_an_end),
      POOL_CASE(a_failure_before_the_head_has_only_the_end),
      POOL_CASE(a_failure_within_the_body_comes_after_its_pieces),
      POOL_CASE(each_piece_comes_when_it_arrives),
      POOL_CASE(a_redirect_that_cannot_be_followed_is_only_an_end),
      POOL_CASE(only_the_last_answer_of_a_redirect_is_streamed),
      POOL_CASE(trailers_are_there_at_the_end),
      POOL_CASE(a_stream_whose_consumer_has_enough_waits),
      POOL_CASE(a_body_of_single_bytes_is_held_back_by_the_memory_it_takes),
      POOL_CASE(all_streams_together_stay_within_the_pools_bytes),
      POOL_CASE(the_marks_of_the_queue_hold_streams_back_too),
      POOL_CASE(new_marks_let_streams_go_on),
      POOL_CASE(the_cap_counts_only_when_the_request_sets_it),
      POOL_CASE(callbacks_give_credit_themselves),
      POOL_CASE(a_stream_that_waits_can_be_cancelled_and_cut),
      POOL_CASE(pieces_outlive_their_pool),
      POOL_CASE(streams_need_a_place_for_their_events),
      POOL_CASE(many_threads_take_the_pieces_of_nginx),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
