/* decompress: coded bodies arrive decoded when the request asks for it, whole or in pieces, and no bomb goes off */
#include "support/stream_fixture.h"

#include "support/coded.h"
#include "support/process.h"

enum { WINDOW = 65536, PIECE = 16384, BIG = 1000000, BOMB = 64 * 1024 * 1024 };

static const char *const all[] = {"gzip", "deflate", "bare", "br", "zstd"};

/* What the header calls it. */
static const char *token_of(const char *coding)
{
  return strcmp(coding, "bare") == 0 ? "deflate" : coding;
}

static char *pattern(size_t len)
{
  char *text = malloc(len);
  assert_non_null(text);
  for (size_t i = 0; i < len; i++)
    text[i] = fault_pattern((int64_t) i);
  return text;
}

/* The server answers `path` with these bytes, `status` and other lines before them. */
static void serve(struct pool_fixture *f, const char *path, const char *status, const char *lines, const void *data,
                  size_t len)
{
  char head[512];
  int head_len = snprintf(head, sizeof head, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n", status, lines, len);
  char *all_bytes = malloc((size_t) head_len + len);
  assert_non_null(all_bytes);
  memcpy(all_bytes, head, (size_t) head_len);
  memcpy(all_bytes + head_len, data, len);
  fault_server_answer_bytes(f->server, path, all_bytes, (size_t) head_len + len);
  free(all_bytes);
}

static void serve_coded(struct pool_fixture *f, const char *path, const char *coding, const void *data, size_t len)
{
  char lines[64];
  size_t coded_len;
  void *bytes = coded(coding, data, len, &coded_len);
  snprintf(lines, sizeof lines, "Content-Encoding: %s\r\n", token_of(coding));
  serve(f, path, "200 OK", lines, bytes, coded_len);
  free(bytes);
}

static cpool_request decoding(struct pool_fixture *f, const char *path)
{
  cpool_request req = request_of(f, path);
  req.flags = CPOOL_REQUEST_DECOMPRESS;
  return req;
}

/* The whole answer; its response is the caller's. */
static struct outcome fetch(struct pool_fixture *f, const cpool_request *req)
{
  cpool_op op = submit(f, req);
  struct outcome out = take(f);
  assert_true(out.op == op);
  return out;
}

#define expect_body(f, req, wanted, wanted_len, wanted_decoded)                                                        \
  do {                                                                                                                 \
    struct outcome out_ = fetch(f, req);                                                                               \
    size_t len_;                                                                                                       \
    const void *body_ = cpool_response_body(out_.resp, &len_);                                                         \
    if (out_.status != CPOOL_OK)                                                                                       \
      print_error("%s\n", error_of(&out_).text);                                                                       \
    assert_int_equal(out_.status, CPOOL_OK);                                                                           \
    assert_int_equal(len_, wanted_len);                                                                                \
    assert_true(memcmp(body_, wanted, len_) == 0);                                                                     \
    assert_int_equal(cpool_response_decoded(out_.resp), wanted_decoded);                                               \
    cpool_response_free(out_.resp);                                                                                    \
  } while (0)

#define expect_fault(f, req, wanted_status, wanted_text)                                                               \
  do {                                                                                                                 \
    struct outcome out_ = fetch(f, req);                                                                               \
    cpool_error error_ = error_of(&out_);                                                                              \
    if (out_.status != (wanted_status) || strstr(error_.text, wanted_text) == NULL)                                    \
      fail_msg("%s: %s", cpool_status_name(out_.status), error_.text);                                                 \
    cpool_response_free(out_.resp);                                                                                    \
  } while (0)

/* ---- real servers */

static void nginx_bodies_are_decoded(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx =
      nginx_start(&(struct nginx_options){.server_lines = "gzip on; gzip_min_length 1; gzip_types text/plain;"});
  char *big = pattern(1024 * 1024);
  assert_non_null(nginx);
  open_pool(f, NULL);
  for (int i = 0; i < 3; i++) {
    cpool_request req = request_to(f, url_at(process_port(nginx), "/big"));
    req.flags = CPOOL_REQUEST_DECOMPRESS;
    struct outcome out = fetch(f, &req);
    size_t len;
    const void *body = cpool_response_body(out.resp, &len);
    assert_int_equal(out.status, CPOOL_OK);
    assert_string_equal(cpool_response_header(out.resp, "Content-Encoding"), "gzip"); /* as received */
    assert_int_equal(cpool_response_decoded(out.resp), 1);
    assert_int_equal(len, 1024 * 1024);
    assert_true(memcmp(body, big, len) == 0);
    assert_true(info_of(&out).bytes_received < 100000);
    assert_int_equal(info_of(&out).reused, i > 0);
    cpool_response_free(out.resp);
  }
  eventually(stats_of(f).bytes_decoded == 3 * 1024 * 1024);
  cpool_request plain = request_to(f, url_at(process_port(nginx), "/big")); /* not asked for: not offered */
  struct outcome out = fetch(f, &plain);
  assert_null(cpool_response_header(out.resp, "Content-Encoding"));
  assert_int_equal(cpool_response_decoded(out.resp), 0);
  cpool_response_free(out.resp);
  process_stop(nginx);
  free(big);
  assert_balanced(f->pool);
}

static void nginx_bodies_are_decoded_as_streams(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx =
      nginx_start(&(struct nginx_options){.server_lines = "gzip on; gzip_min_length 1; gzip_types text/plain;"});
  assert_non_null(nginx);
  open_pool(f, NULL);
  cpool_request req = request_to(f, url_at(process_port(nginx), "/big"));
  req.flags = CPOOL_REQUEST_DECOMPRESS | CPOOL_REQUEST_STREAM;
  submit(f, &req);
  struct got got = drain(f);
  assert_int_equal(got.status, CPOOL_OK);
  assert_int_equal(got.bytes, 1024 * 1024);
  assert_true(got.as_pattern);
  assert_int_equal(cpool_response_decoded(got.resp), 1);
  cpool_response_free(got.resp);
  process_stop(nginx);
}

/* ---- what is asked, and what is left as it is */

static void what_is_sent_is_what_can_be_decoded_unless_the_caller_says_otherwise(void **state)
{
  struct pool_fixture *f = *state;
  cpool_header own = {"Accept-Encoding", "identity;q=0"};
  char expected[64];
  open_pool(f, NULL);
  snprintf(expected, sizeof expected, "\r\nAccept-Encoding: gzip, deflate%s%s\r\n", coded_has("br") ? ", br" : "",
           coded_has("zstd") ? ", zstd" : "");
  cpool_request req = decoding(f, "/echo-head");
  struct outcome out = fetch(f, &req);
  assert_non_null(strstr(cpool_response_body(out.resp, NULL), expected));
  cpool_response_free(out.resp);
  req.headers = &own;
  req.header_count = 1;
  out = fetch(f, &req);
  const char *first = strstr(cpool_response_body(out.resp, NULL), "Accept-Encoding:");
  assert_non_null(first);
  assert_memory_equal(first, "Accept-Encoding: identity;q=0\r\n", 31);
  assert_null(strstr(first + 1, "Accept-Encoding"));
  cpool_response_free(out.resp);
  req = request_of(f, "/echo-head");
  out = fetch(f, &req);
  assert_null(strstr(cpool_response_body(out.resp, NULL), "Accept-Encoding"));
  cpool_response_free(out.resp);
}

static void every_coding_comes_back_whole_and_in_pieces(void **state)
{
  struct pool_fixture *f = *state;
  char *big = pattern(BIG);
  cpool_http_options options = pool_options();
  options.max_decompress_ratio = CPOOL_OFF; /* the alphabet compresses well */
  open_pool(f, &options);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    if (!coded_has(all[i]))
      continue;
    serve_coded(f, "/coded", all[i], big, BIG);
    cpool_request req = decoding(f, "/coded");
    expect_body(f, &req, big, BIG, 1);
    req.flags |= CPOOL_REQUEST_STREAM;
    submit(f, &req);
    struct got got = drain(f);
    assert_int_equal(got.status, CPOOL_OK);
    assert_int_equal(got.bytes, BIG);
    assert_true(got.as_pattern);
    cpool_response_free(got.resp);
  }
  free(big);
}

static void what_is_not_asked_for_or_not_known_stays_as_it_is(void **state)
{
  struct pool_fixture *f = *state;
  size_t len;
  char *data = coded("gzip", "hello", 5, &len);
  open_pool(f, NULL);
  serve(f, "/gzip", "200 OK", "Content-Encoding: gzip\r\n", data, len);
  cpool_request req = request_of(f, "/gzip");
  expect_body(f, &req, data, len, 0);
  req = decoding(f, "/gzip");
  expect_body(f, &req, "hello", 5, 1);
  static const char *const unknown[] = {"Content-Encoding: compress\r\n", "Content-Encoding: compress, gzip\r\n",
                                        "Content-Encoding: gzip\r\nContent-Encoding: aes128gcm\r\n"};
  for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
    serve(f, "/unknown", "200 OK", unknown[i], data, len);
    req = decoding(f, "/unknown");
    expect_body(f, &req, data, len, 0);
  }
  serve(f, "/identity", "200 OK", "Content-Encoding: identity\r\n", "hello", 5);
  req = decoding(f, "/identity");
  expect_body(f, &req, "hello", 5, 0);
  serve(f, "/404", "404 Not Found", "Content-Encoding: GZIP\r\n", data, len); /* an answer as any other */
  req = decoding(f, "/404");
  expect_body(f, &req, "hello", 5, 1);
  serve(f, "/206", "206 Partial Content", "Content-Encoding: gzip\r\n", data, len); /* a part of coded bytes */
  req = decoding(f, "/206");
  expect_body(f, &req, data, len, 0);
  free(data);
}

static void answers_without_body_are_complete(void **state)
{
  struct pool_fixture *f = *state;
  size_t len;
  char *data = coded("gzip", "hello", 5, &len);
  open_pool(f, NULL);
  fault_server_answer(f->server, "/204", "HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n");
  fault_server_answer(f->server, "/304", "HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\n\r\n");
  serve(f, "/head", "200 OK", "Content-Encoding: gzip\r\n", data, len);
  serve(f, "/empty", "200 OK", "Content-Encoding: gzip\r\n", "", 0);
  static const char *const paths[] = {"/204", "/304", "/empty", "/head"};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    cpool_request req = decoding(f, paths[i]);
    if (strcmp(paths[i], "/head") == 0)
      req.method = "HEAD";
    struct outcome out = fetch(f, &req);
    assert_int_equal(out.status, CPOOL_OK);
    cpool_response_body(out.resp, &len);
    assert_int_equal(len, 0);
    cpool_response_free(out.resp);
  }
  free(data);
}

static void several_codings_are_undone_and_too_many_refused(void **state)
{
  struct pool_fixture *f = *state;
  size_t first, second;
  char *a = coded("gzip", "hello", 5, &first), *b = coded("deflate", a, first, &second);
  open_pool(f, NULL);
  serve(f, "/two", "200 OK", "Content-Encoding: gzip\r\nContent-Encoding: deflate\r\n", b, second);
  cpool_request req = decoding(f, "/two");
  expect_body(f, &req, "hello", 5, 1);
  serve(f, "/four", "200 OK", "Content-Encoding: gzip, gzip, gzip, gzip\r\n", b, second);
  req = decoding(f, "/four");
  expect_fault(f, &req, CPOOL_EENCODING, "more than 3 codings");
  get_ok(f, "/ok");
  free(a);
  free(b);
}

static void only_the_last_body_behind_redirects_is_decoded(void **state)
{
  struct pool_fixture *f = *state;
  size_t len;
  char *data = coded("gzip", "hello", 5, &len);
  open_pool(f, NULL);
  serve(f, "/there", "200 OK", "Content-Encoding: gzip\r\n", data, len);
  serve(f, "/here", "302 Found", "Location: /there\r\nContent-Encoding: gzip\r\n", "no gzip", 7);
  cpool_request req = decoding(f, "/here");
  req.max_redirects = 1;
  expect_body(f, &req, "hello", 5, 1);
  req.flags |= CPOOL_REQUEST_STREAM;
  submit(f, &req);
  expect_stream(f, CPOOL_OK, 5);
  free(data);
}

/* ---- bad peers */

static void what_is_malformed_or_ends_early_ends_with_its_reason(void **state)
{
  struct pool_fixture *f = *state;
  char *text = pattern(5000);
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    if (!coded_has(all[i]))
      continue;
    char lines[64];
    size_t len;
    char *data = coded(all[i], text, 5000, &len), *more = malloc(len + 4);
    memcpy(more, data, len);
    memcpy(more + len, "more", 4);
    snprintf(lines, sizeof lines, "Content-Encoding: %s\r\n", token_of(all[i]));
    serve(f, "/early", "200 OK", lines, data, len - 1);
    serve(f, "/more", "200 OK", lines, more, len + 4);
    cpool_request req = decoding(f, "/early");
    expect_fault(f, &req, CPOOL_EENCODING, "ends early");
    req = decoding(f, "/more");
    expect_fault(f, &req, CPOOL_EENCODING, "malformed");
    free(data);
    free(more);
  }
  serve(f, "/bad", "200 OK", "Content-Encoding: gzip\r\n", "<html>hello</html>", 18);
  cpool_request req = decoding(f, "/bad");
  expect_fault(f, &req, CPOOL_EENCODING, "malformed");
  req.flags |= CPOOL_REQUEST_STREAM;
  submit(f, &req);
  expect_stream(f, CPOOL_EENCODING, 0);
  get_ok(f, "/ok");
  assert_balanced(f->pool);
  free(text);
}

/* The most memory since the last reset; the sanitizers keep what was freed. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MEMORY_SHOWS = 0 };
#else
enum { MEMORY_SHOWS = 1 };
#endif

static long peak_kb(bool reset)
{
  char line[256];
  long kb = -1;
  if (reset) {
    FILE *refs = fopen("/proc/self/clear_refs", "w");
    assert_non_null(refs);
    fputs("5", refs);
    fclose(refs);
  }
  FILE *status = fopen("/proc/self/status", "r");
  assert_non_null(status);
  while (fgets(line, sizeof line, status) != NULL)
    sscanf(line, "VmHWM: %ld", &kb);
  fclose(status);
  assert_true(kb > 0);
  return kb;
}

static void bombs_end_at_a_cap_and_in_bounded_memory(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    if (!coded_has(all[i]))
      continue;
    char lines[96];
    size_t len, nested_len;
    char *data = coded_bomb(all[i], BOMB, &len), *nested = coded(all[i], data, len, &nested_len);
    snprintf(lines, sizeof lines, "Content-Encoding: %s\r\n", token_of(all[i]));
    serve(f, "/bomb", "200 OK", lines, data, len);
    snprintf(lines, sizeof lines, "Content-Encoding: %s, %s\r\n", token_of(all[i]), token_of(all[i]));
    serve(f, "/nested", "200 OK", lines, nested, nested_len);
    free(data);
    free(nested);
    long before_kb = peak_kb(true);
    cpool_request req = decoding(f, "/bomb");
    expect_fault(f, &req, CPOOL_EENCODING, "max_decompress_ratio");
    req.flags |= CPOOL_REQUEST_STREAM;
    submit(f, &req);
    struct got got = drain(f);
    assert_int_equal(got.status, CPOOL_EENCODING);
    assert_true(got.bytes < BOMB / 2);
    cpool_response_free(got.resp);
    req = decoding(f, "/nested");
    expect_fault(f, &req, CPOOL_EENCODING, "max_decompress_ratio");
    assert_true(!MEMORY_SHOWS || peak_kb(false) - before_kb < BOMB / 2 / 1024);
  }
  get_ok(f, "/ok");
}

static void the_cap_is_on_the_decoded_body(void **state)
{
  struct pool_fixture *f = *state;
  char *big = pattern(BIG);
  cpool_http_options options = pool_options();
  options.max_decompress_ratio = CPOOL_OFF;
  open_pool(f, &options);
  serve_coded(f, "/big", "gzip", big, BIG);
  cpool_request req = decoding(f, "/big");
  req.max_response_bytes = BIG - 1;
  struct outcome out = fetch(f, &req);
  size_t len;
  assert_int_equal(out.status, CPOOL_EBODY_TOO_LARGE);
  cpool_response_body(out.resp, &len);
  assert_true(len <= BIG - 1);
  cpool_response_free(out.resp);
  req.flags |= CPOOL_REQUEST_STREAM;
  submit(f, &req);
  struct got got = drain(f);
  assert_int_equal(got.status, CPOOL_EBODY_TOO_LARGE);
  assert_true(got.bytes <= BIG - 1);
  cpool_response_free(got.resp);
  req = decoding(f, "/big");
  req.max_response_bytes = BIG;
  expect_body(f, &req, big, BIG, 1);
  free(big);
}

/* ---- held back */

static void a_decoded_stream_waits_in_the_middle_of_a_piece(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_decompress_ratio = CPOOL_OFF;
  options.stream_window_bytes = WINDOW;
  open_pool(f, &options);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    if (!coded_has(all[i]))
      continue;
    size_t len; /* a few of libcurl's pieces, or less than one */
    char *data = coded_bomb(all[i], BOMB, &len), lines[64];
    snprintf(lines, sizeof lines, "Content-Encoding: %s\r\n", token_of(all[i]));
    serve(f, "/bomb", "200 OK", lines, data, len);
    free(data);
    cpool_request req = decoding(f, "/bomb");
    req.flags |= CPOOL_REQUEST_STREAM;
    submit(f, &req);
    eventually(stats_of(f).paused_requests == 1);
    long before_kb = peak_kb(true);
    int64_t most = 0, bytes = 0;
    for (bool over = false; !over;) {
      const cpool_event *event = next_event(f);
      int64_t held = stats_of(f).stream_bytes;
      most = held > most ? held : most;
      over = event->kind == CPOOL_EVENT_RESPONSE;
      if (over)
        assert_int_equal(event->status, CPOOL_OK);
      if (event->kind == CPOOL_EVENT_BODY) {
        assert_true(event->len <= PIECE);
        bytes += (int64_t) event->len;
      }
      cpool_queue_release(f->queue, &event, 1);
    }
    assert_int_equal(bytes, BOMB);
    assert_true(most <= WINDOW + PIECE);
    assert_true(!MEMORY_SHOWS || peak_kb(false) - before_kb < BOMB / 2 / 1024);
  }
  eventually(stats_of(f).paused_requests == 0);
  assert_balanced(f->pool);
}

static void a_held_back_decoded_stream_can_be_cancelled(void **state)
{
  struct pool_fixture *f = *state;
  size_t len;
  char *data = coded_bomb("gzip", BOMB, &len);
  cpool_http_options options = pool_options();
  options.max_decompress_ratio = CPOOL_OFF;
  options.stream_window_bytes = WINDOW;
  open_pool(f, &options);
  serve(f, "/bomb", "200 OK", "Content-Encoding: gzip\r\n", data, len);
  free(data);
  cpool_request req = decoding(f, "/bomb");
  req.flags |= CPOOL_REQUEST_STREAM;
  cpool_op op = submit(f, &req);
  eventually(stats_of(f).paused_requests == 1);
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  struct got got = drain(f);
  assert_int_equal(got.status, CPOOL_ECANCELLED);
  assert_true(got.bytes <= WINDOW + PIECE);
  cpool_response_free(got.resp);
  eventually(stats_of(f).paused_requests == 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(nginx_bodies_are_decoded),
      POOL_CASE(nginx_bodies_are_decoded_as_streams),
      POOL_CASE(what_is_sent_is_what_can_be_decoded_unless_the_caller_says_otherwise),
      POOL_CASE(every_coding_comes_back_whole_and_in_pieces),
      POOL_CASE(what_is_not_asked_for_or_not_known_stays_as_it_is),
      POOL_CASE(answers_without_body_are_complete),
      POOL_CASE(several_codings_are_undone_and_too_many_refused),
      POOL_CASE(only_the_last_body_behind_redirects_is_decoded),
      POOL_CASE(what_is_malformed_or_ends_early_ends_with_its_reason),
      POOL_CASE(bombs_end_at_a_cap_and_in_bounded_memory),
      POOL_CASE(the_cap_is_on_the_decoded_body),
      POOL_CASE(a_decoded_stream_waits_in_the_middle_of_a_piece),
      POOL_CASE(a_held_back_decoded_stream_can_be_cancelled),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
