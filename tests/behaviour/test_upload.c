/* upload: a body written piece by piece: whole, in order, no faster than it can be sent, and never sent twice */
#include "support/stream_fixture.h"

#include "support/process.h"

enum { WINDOW = 65536, WRITERS = 4, SILENCE_MS = 1000 /* a busy server answers within it */ };

static cpool_request upload_to(struct pool_fixture *f, const char *path, size_t len)
{
  cpool_request req = request_of(f, path);
  req.flags = CPOOL_REQUEST_UPLOAD;
  req.body_len = len;
  return req;
}

static void open_windowed(struct pool_fixture *f)
{
  cpool_http_options options = pool_options();
  options.stream_window_bytes = WINDOW;
  open_pool(f, &options);
}

static const char *pattern(size_t at, size_t len)
{
  static char bytes[1 << 20];
  for (size_t i = 0; i < len; i++)
    bytes[i] = fault_pattern((int64_t) (at + i));
  return bytes;
}

/* Takes events until the room is told. */
static void await_room(struct pool_fixture *f, cpool_op op)
{
  const cpool_event *event = next_event(f);
  assert_int_equal(event->kind, CPOOL_EVENT_WRITABLE);
  assert_true(event->source == op);
  assert_null(event->response);
  cpool_queue_release(f->queue, &event, 1);
}

/* Writes `total` bytes in pieces of `piece`, waiting whenever there is no room; how often that was. */
static int write_all(struct pool_fixture *f, cpool_op op, size_t total, size_t piece)
{
  int waits = 0;
  for (size_t at = 0; at < total;) {
    size_t len = piece < total - at ? piece : total - at;
    int rc = cpool_body_write(f->pool, op, pattern(at, len), len, at + len == total);
    if (rc == CPOOL_EAGAIN) {
      await_room(f, op);
      waits++;
      continue;
    }
    assert_int_equal(rc, CPOOL_OK);
    at += len;
  }
  return waits;
}

static void ends_with_the_echo_of(struct pool_fixture *f, size_t bytes)
{
  struct outcome out = take(f);
  size_t len = 0;
  const char *body = cpool_response_body(out.resp, &len);
  assert_int_equal(out.kind, CPOOL_EVENT_RESPONSE);
  assert_int_equal(out.status, CPOOL_OK);
  assert_int_equal(len, bytes);
  for (size_t i = 0; i < len; i++)
    if (body[i] != fault_pattern((int64_t) i))
      fail_msg("byte %zu of %zu", i, len);
  cpool_response_free(out.resp);
}

static void bodies_arrive_whole_with_and_without_a_length(void **state)
{
  struct pool_fixture *f = *state;
  static const size_t sizes[] = {1, 1000, 65536, 3000000};
  open_windowed(f);
  for (int known = 0; known < 2; known++)
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      cpool_request req = upload_to(f, "/echo", known ? sizes[i] : 0);
      cpool_op op = submit(f, &req);
      (void) write_all(f, op, sizes[i], 10007);
      ends_with_the_echo_of(f, sizes[i]);
    }
  assert_int_equal(counts_of(f).accepted, 1);
  assert_int_equal(counts_of(f).by_method[FAULT_POST], 8);
  assert_balanced(f->pool);
}

static void the_head_says_how_the_body_comes(void **state)
{
  struct pool_fixture *f = *state;
  open_windowed(f);
  cpool_request req = upload_to(f, "/echo", 0);
  req.method = "PUT";
  cpool_op op = submit(f, &req);
  assert_int_equal(cpool_body_write(f->pool, op, NULL, 0, 1), CPOOL_OK);
  ends_with_the_echo_of(f, 0);
  char *head = fault_server_last_head(f->server);
  assert_non_null(strstr(head, "PUT /echo HTTP/1.1\r\n"));
  assert_non_null(strstr(head, "Transfer-Encoding: chunked\r\n"));
  assert_null(strstr(head, "Expect"));
  assert_null(strstr(head, "Content-"));
  free(head);
  req = upload_to(f, "/echo", 5);
  op = submit(f, &req);
  assert_int_equal(cpool_body_write(f->pool, op, pattern(0, 5), 5, 0), CPOOL_OK);
  assert_int_equal(cpool_body_write(f->pool, op, NULL, 0, 1), CPOOL_OK); /* a last word that says nothing new */
  ends_with_the_echo_of(f, 5);
  head = fault_server_last_head(f->server);
  assert_non_null(strstr(head, "POST /echo HTTP/1.1\r\n"));
  assert_non_null(strstr(head, "Content-Length: 5\r\n"));
  assert_null(strstr(head, "Transfer-Encoding"));
  free(head);
  /* the next request of the same handle is none */
  assert_true(get_ok(f, "/ok") > 0);
  head = fault_server_last_head(f->server);
  assert_non_null(strstr(head, "GET /ok HTTP/1.1\r\n"));
  assert_null(strstr(head, "Content-Length"));
  free(head);
}

static void a_full_window_refuses_and_tells_once_when_there_is_room(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.stream_window_bytes = WINDOW;
  options.max_connections = 1;
  open_pool(f, &options);
  ask(f, "/hold"); /* the upload waits for its connection: nothing can be sent */
  cpool_request req = upload_to(f, "/echo", 0);
  cpool_op op = submit(f, &req);
  size_t written = 0;
  while (cpool_body_write(f->pool, op, pattern(written, 20000), 20000, 0) == CPOOL_OK)
    written += 20000;
  assert_in_range(written, WINDOW, WINDOW + 20000);
  for (int i = 0; i < 3; i++)
    assert_refused(cpool_body_write(f->pool, op, pattern(0, 1), 1, 0), CPOOL_EAGAIN, "stream_window_bytes");
  eventually(counts_of(f).held == 1);
  fault_server_release(f->server, 1);
  struct outcome held = take(f);
  assert_int_equal(held.kind, CPOOL_EVENT_RESPONSE);
  cpool_response_free(held.resp);
  await_room(f, op); /* one, for all that were refused */
  eventually(stats_of(f).bytes_sent > 0);
  assert_true(queue_is_empty(f));
  assert_int_equal(cpool_body_write(f->pool, op, NULL, 0, 1), CPOOL_OK);
  ends_with_the_echo_of(f, written);
}

static void a_silent_caller_is_no_time_out(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.sock_read_timeout_ms = SILENCE_MS;
  open_pool(f, &options);
  cpool_request req = upload_to(f, "/echo", 0);
  cpool_op op = submit(f, &req);
  assert_int_equal(cpool_body_write(f->pool, op, pattern(0, 3), 3, 0), CPOOL_OK);
  int64_t until_ms = now_ms() + 2 * SILENCE_MS;
  while (now_ms() < until_ms)
    assert_true(queue_is_empty(f));
  assert_int_equal(cpool_body_write(f->pool, op, pattern(3, 2), 2, 1), CPOOL_OK);
  ends_with_the_echo_of(f, 5);
  req = upload_to(f, "/blackhole", 0); /* the peer's silence still is */
  op = submit(f, &req);
  assert_int_equal(cpool_body_write(f->pool, op, pattern(0, 3), 3, 1), CPOOL_OK);
  expect_end(f, op, CPOOL_ETIMEOUT_READ);
}

/* The loop sees both at once when it comes late: the part that was written, and the time that has passed before. */
static void a_part_that_meets_the_end_of_the_silence_is_no_time_out(void **state)
{
  enum { READ_MS = 500 };
  struct pool_fixture *f = *state;
  cpool_runtime *rt = NULL;
  cpool_runtime_options manual;
  cpool_runtime_options_init(&manual);
  manual.loop_mode = CPOOL_LOOP_MANUAL;
  assert_int_equal(cpool_runtime_new(&rt, &manual), CPOOL_OK);
  cpool_http_options options = pool_options();
  options.sock_read_timeout_ms = READ_MS;
  assert_int_equal(cpool_http_new(&f->pool, rt, &options), CPOOL_OK);
  cpool_request req = upload_to(f, "/echo", 0);
  cpool_op op = submit(f, &req);
  assert_int_equal(cpool_body_write(f->pool, op, pattern(0, 3), 3, 0), CPOOL_OK);
  for (int64_t until_ms = now_ms() + DEADLINE_MS; counts_of(f).accepted == 0 && now_ms() < until_ms;)
    assert_true(cpool_runtime_step(rt, 10) >= 0);
  for (int64_t until_ms = now_ms() + READ_MS + 200; now_ms() < until_ms;) /* the first bytes have been noticed */
    assert_true(cpool_runtime_step(rt, 10) >= 0);
  poll(NULL, 0, READ_MS + 200); /* nobody turns the loop */
  assert_int_equal(cpool_body_write(f->pool, op, pattern(3, 2), 2, 1), CPOOL_OK);
  for (int64_t until_ms = now_ms() + DEADLINE_MS; stats_of(f).active_requests > 0 && now_ms() < until_ms;)
    assert_true(cpool_runtime_step(rt, 10) >= 0);
  ends_with_the_echo_of(f, 5);
  close_pool(f);
  assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
}

static void what_does_not_fit_the_length_is_refused(void **state)
{
  struct pool_fixture *f = *state;
  open_windowed(f);
  cpool_request req = upload_to(f, "/echo", 5);
  cpool_op op = submit(f, &req);
  assert_refused(cpool_body_write(f->pool, op, pattern(0, 6), 6, 0), CPOOL_EINVAL, "body_len 5");
  assert_refused(cpool_body_write(f->pool, op, pattern(0, 4), 4, 1), CPOOL_EINVAL, "body_len 5");
  assert_refused(cpool_body_write(f->pool, op, NULL, 0, 1), CPOOL_EINVAL, "body_len 5");
  assert_refused(cpool_body_write(f->pool, op, NULL, 0, 0), CPOOL_EINVAL, "nothing to write");
  assert_refused(cpool_body_write(f->pool, op, NULL, 3, 0), CPOOL_EINVAL, "data");
  assert_refused(cpool_body_write(NULL, op, "a", 1, 0), CPOOL_EINVAL, "pool");
  assert_int_equal(cpool_body_write(f->pool, op, pattern(0, 5), 5, 1), CPOOL_OK);
  assert_refused(cpool_body_write(f->pool, op, "a", 1, 0), CPOOL_EINVAL, "last part");
  ends_with_the_echo_of(f, 5);
  assert_refused(cpool_body_write(f->pool, op, "a", 1, 0), CPOOL_ESTALE, "ended");
  assert_refused(cpool_body_write(f->pool, 0, "a", 1, 0), CPOOL_ESTALE, "ended");
}

static void only_uploads_can_be_written_to(void **state)
{
  struct pool_fixture *f = *state;
  cpool_response *resp = NULL;
  open_windowed(f);
  cpool_op op = ask(f, "/hold");
  assert_refused(cpool_body_write(f->pool, op, "a", 1, 0), CPOOL_EINVAL, "CPOOL_REQUEST_UPLOAD");
  eventually(counts_of(f).held == 1);
  fault_server_release(f->server, 1);
  expect_end(f, op, CPOOL_OK);
  cpool_request req = upload_to(f, "/echo", 0);
  req.body = "abc";
  assert_refused(cpool_submit(cpool_http_session(f->pool), &req, &op), CPOOL_EINVAL, "CPOOL_REQUEST_UPLOAD");
  req.body = NULL;
  req.method = "HEAD";
  assert_refused(cpool_submit(cpool_http_session(f->pool), &req, &op), CPOOL_EINVAL, "HEAD");
  req.method = NULL;
  req.queue = NULL;
  assert_refused(cpool_perform(cpool_http_session(f->pool), &req, &resp), CPOOL_EINVAL, "CPOOL_REQUEST_UPLOAD");
}

static void an_early_answer_ends_the_upload(void **state)
{
  struct pool_fixture *f = *state;
  open_windowed(f);
  cpool_request req = upload_to(f, "/early-413", 50000000);
  cpool_op op = submit(f, &req);
  int rc;
  do {
    rc = cpool_body_write(f->pool, op, pattern(0, 30000), 30000, 0);
    if (rc == CPOOL_EAGAIN)
      poll(NULL, 0, 1);
  } while (rc == CPOOL_OK || rc == CPOOL_EAGAIN);
  assert_int_equal(rc, CPOOL_ESTALE);
  const cpool_event *event = next_event(f);
  if (event->kind == CPOOL_EVENT_WRITABLE) {
    cpool_queue_release(f->queue, &event, 1);
    event = next_event(f);
  }
  assert_int_equal(event->status, CPOOL_OK);
  assert_int_equal(cpool_response_status(event->response), 413);
  cpool_queue_release(f->queue, &event, 1);
  assert_true(get_ok(f, "/ok") > 0);
}

static void a_body_that_has_begun_is_never_sent_again(void **state)
{
  struct pool_fixture *f = *state;
  open_windowed(f);
  static const char *const paths[] = {"/reset-on-reuse", "/fin-on-reuse"};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    get_ok(f, paths[i]);
    int64_t before = counts_of(f).by_method[FAULT_PUT];
    cpool_request req = upload_to(f, "/echo", 3);
    req.method = "PUT"; /* a collected one would be repeated */
    cpool_op op = submit(f, &req);
    assert_int_equal(cpool_body_write(f->pool, op, "abc", 3, 1), CPOOL_OK);
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_ERESET);
    assert_int_equal(info_of(&out).attempts, 1);
    assert_int_equal(error_of(&out).flags & CPOOL_ERROR_RETRIABLE, CPOOL_ERROR_RETRIABLE); /* by the caller */
    cpool_response_free(out.resp);
    assert_int_equal(counts_of(f).by_method[FAULT_PUT], before + 1);
  }
}

static void uploads_end_whenever_they_are_cancelled_or_cut(void **state)
{
  struct pool_fixture *f = *state;
  open_windowed(f);
  for (int stage = 0; stage < 4; stage++) {
    cpool_request req = upload_to(f, "/echo", 0);
    cpool_op op = submit(f, &req);
    if (stage > 0)
      assert_int_equal(cpool_body_write(f->pool, op, pattern(0, 1000), 1000, 0), CPOOL_OK);
    if (stage > 1)
      eventually(stats_of(f).acquired_connections == 1);
    if (stage == 3) {
      close_pool(f);
      expect_end(f, op, CPOOL_ECLOSED);
      return;
    }
    assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
    expect_end(f, op, CPOOL_ECANCELLED);
    assert_refused(cpool_body_write(f->pool, op, "a", 1, 0), CPOOL_ESTALE, "ended");
    assert_balanced(f->pool);
  }
}

/* ---- both ways, threads, callbacks, a real server */

static void both_bodies_can_stream_at_once(void **state)
{
  struct pool_fixture *f = *state;
  open_windowed(f);
  cpool_request req = upload_to(f, "/echo", 0);
  req.flags |= CPOOL_REQUEST_STREAM;
  cpool_op op = submit(f, &req);
  (void) write_all(f, op, 200000, 5000);
  struct got got = drain(f);
  assert_int_equal(got.status, CPOOL_OK);
  assert_int_equal(got.bytes, 200000);
  assert_true(got.as_pattern);
  cpool_response_free(got.resp);
}

struct writer {
  pthread_t thread;
  cpool_http *pool;
  cpool_op op;
  _Atomic bool *stop;
};

static void *write_always(void *arg)
{
  struct writer *writer = arg;
  while (!atomic_load(writer->stop)) {
    int rc = cpool_body_write(writer->pool, writer->op, "0123456789", 10, 0);
    if (rc == CPOOL_ESTALE)
      break;
    if (rc == CPOOL_EAGAIN)
      poll(NULL, 0, 1);
  }
  return NULL;
}

static void writers_on_many_threads_meet_the_end(void **state)
{
  struct pool_fixture *f = *state;
  open_windowed(f);
  for (int round = 0; round < 5; round++) {
    struct writer writers[WRITERS];
    _Atomic bool stop = false;
    cpool_request req = upload_to(f, "/echo", 0);
    cpool_op op = submit(f, &req);
    for (int i = 0; i < WRITERS; i++) {
      writers[i] = (struct writer){.pool = f->pool, .op = op, .stop = &stop};
      assert_int_equal(pthread_create(&writers[i].thread, NULL, write_always, &writers[i]), 0);
    }
    eventually(stats_of(f).acquired_connections == 1);
    assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
    for (int i = 0; i < WRITERS; i++)
      pthread_join(writers[i].thread, NULL);
    for (bool ended = false; !ended;) {
      const cpool_event *event = next_event(f);
      ended = event->kind == CPOOL_EVENT_RESPONSE;
      cpool_queue_release(f->queue, &event, 1);
    }
    atomic_store(&stop, true);
  }
}

struct source {
  _Atomic size_t written, rooms;
  _Atomic int ends, status;
  size_t total;
  cpool_http *pool;
  cpool_op op;
};

static void feed(struct source *source)
{
  static const char block[7000];
  while (source->written < source->total) {
    size_t len = source->total - source->written < sizeof block ? source->total - source->written : sizeof block;
    if (cpool_body_write(source->pool, source->op, block, len, source->written + len == source->total) != CPOOL_OK)
      return;
    source->written += len;
  }
}

static void on_source(const cpool_event *event)
{
  struct source *source = event->user;
  if (event->kind == CPOOL_EVENT_WRITABLE) {
    source->rooms++;
    source->op = event->source;
    feed(source);
  } else {
    source->status = event->status;
    source->ends++;
  }
}

static void callbacks_write_when_there_is_room(void **state)
{
  struct pool_fixture *f = *state;
  open_windowed(f);
  struct source source = {.total = 2000000, .pool = f->pool};
  cpool_request req = upload_to(f, "/echo", source.total);
  req.queue = NULL;
  req.on_event = on_source;
  req.user = &source;
  cpool_op op = submit(f, &req);
  static const char block[1000];
  int rc; /* from here until the first refusal, from there in callbacks */
  do {
    source.op = op;
    rc = cpool_body_write(f->pool, op, block, sizeof block, 0);
    if (rc == CPOOL_OK)
      source.written += sizeof block;
  } while (rc == CPOOL_OK && source.written < source.total);
  eventually(source.ends == 1);
  assert_int_equal(source.status, CPOOL_OK);
  assert_int_equal(source.written, source.total);
}

static void nginx_counts_every_byte(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = nginx_start(
      &(struct nginx_options){.server_lines = "location = /len { proxy_pass http://127.0.0.1:$server_port/counted; }\n"
                                              "location = /counted { return 200 \"$http_content_length\"; }"});
  assert_non_null(nginx);
  open_windowed(f);
  cpool_request req = upload_to(f, "", 0);
  req.url = url_at(process_port(nginx), "/len");
  cpool_op op = submit(f, &req);
  (void) write_all(f, op, 5000000, 300000);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_OK);
  assert_string_equal(cpool_response_body(out.resp, NULL), "5000000");
  assert_true(info_of(&out).bytes_sent >= 5000000);
  cpool_response_free(out.resp);
  process_stop(nginx);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(bodies_arrive_whole_with_and_without_a_length),
      POOL_CASE(the_head_says_how_the_body_comes),
      POOL_CASE(a_full_window_refuses_and_tells_once_when_there_is_room),
      POOL_CASE(a_silent_caller_is_no_time_out),
      POOL_CASE(a_part_that_meets_the_end_of_the_silence_is_no_time_out),
      POOL_CASE(what_does_not_fit_the_length_is_refused),
      POOL_CASE(only_uploads_can_be_written_to),
      POOL_CASE(an_early_answer_ends_the_upload),
      POOL_CASE(a_body_that_has_begun_is_never_sent_again),
      POOL_CASE(uploads_end_whenever_they_are_cancelled_or_cut),
      POOL_CASE(both_bodies_can_stream_at_once),
      POOL_CASE(writers_on_many_threads_meet_the_end),
      POOL_CASE(callbacks_write_when_there_is_room),
      POOL_CASE(nginx_counts_every_byte),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
