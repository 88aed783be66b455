/* http2_faults: what a bad HTTP/2 peer does ends the request that it does it to, in time and with an exact status, and harms no other one
 *
 * libcurl 7 and 8 tell apart different things: where a status depends on that, the table has both. */
#include "support/pool_fixture.h"

#include <curl/curl.h>
#include <time.h>

#include "support/certs.h"
#include "support/fault_h2.h"

enum { STREAMS = 100, SHORT_MS = 300, BODY_BYTES = 100000, RETRIABLE = CPOOL_ERROR_RETRIABLE };

static struct certs *certs;

static int group_setup(void **state)
{
  certs = certs_new();
  return certs != NULL ? pool_warm_up(state) : -1;
}

static int group_teardown(void **state)
{
  (void) state;
  certs_free(certs);
  return 0;
}

static bool libcurl_8(void)
{
  return curl_version_info(CURLVERSION_NOW)->version_num >= 0x080000;
}

/* ------------------------------------------------------------------------------------------------------------- a case */

struct h2_case {
  struct pool_fixture *f;
  struct fault_server *server;
  cpool_session *session;
};

static struct h2_case begin(struct pool_fixture *f, struct fault_options server, const cpool_http_options *options)
{
  struct h2_case c = {.f = f};
  cpool_session_options session;
  server.http2 = true;
  server.tls_cert_file = certs->good.cert_file;
  server.tls_key_file = certs->good.key_file;
  c.server = fault_server_start(&server);
  assert_non_null(c.server);
  open_pool(f, options);
  cpool_session_options_init(&session);
  session.ca_file = certs->ca_file;
  session.http_version = CPOOL_HTTP_2;
  assert_int_equal(cpool_session_new(&c.session, f->pool, &session), CPOOL_OK);
  return c;
}

static void end(struct h2_case *c)
{
  assert_true(queue_is_empty(c->f));
  eventually(stats_of(c->f).active_requests == 0 && stats_of(c->f).pending_requests == 0);
  assert_balanced(c->f->pool);
  cpool_session_free(c->session);
  close_pool(c->f);
  fault_server_stop(c->server);
}

static const char *url_in(const struct h2_case *c, const char *path)
{
  static _Thread_local char texts[8][256];
  static _Thread_local unsigned next;
  char *text = texts[next++ % 8];
  snprintf(text, sizeof texts[0], "https://127.0.0.1:%u%s", (unsigned) fault_server_port(c->server), path);
  return text;
}

/* body NULL: a GET, else a POST. */
static cpool_op send_in(const struct h2_case *c, const char *path, const char *body)
{
  cpool_request req = request_to(c->f, url_in(c, path));
  req.body = body;
  req.body_len = body != NULL ? strlen(body) : 0;
  return submit_in(c->session, &req);
}

static void send_many(const struct h2_case *c, const char *path, const char *body, int count)
{
  for (int i = 0; i < count; i++)
    send_in(c, path, body);
}

/* The next end: its status, flags and attempts, and how much of a body there is. */
struct ending {
  int32_t status, flags, attempts;
  size_t body_len;
  uint64_t connection;
};

static struct ending take_end(const struct h2_case *c)
{
  struct outcome out = take(c->f);
  struct ending ending = {.status = out.status, .flags = error_of(&out).flags, .attempts = info_of(&out).attempts};
  cpool_response_body(out.resp, &ending.body_len);
  ending.connection = info_of(&out).connection;
  assert_int_equal(error_of(&out).status, out.status);
  cpool_response_free(out.resp);
  return ending;
}

static void take_good(const struct h2_case *c, int count)
{
  for (int i = 0; i < count; i++) {
    struct ending ending = take_end(c);
    if (ending.status != CPOOL_OK)
      print_error("%s\n", cpool_status_name(ending.status));
    assert_int_equal(ending.status, CPOOL_OK);
    assert_int_equal(ending.body_len, 5);
  }
}

/* A connection that has carried a request. */
static void warm_up(const struct h2_case *c)
{
  send_in(c, "/ok", NULL);
  take_good(c, 1);
}

static struct fault_h2_counts h2_counts(const struct h2_case *c)
{
  struct fault_h2_counts counts;
  fault_h2_counts(c->server, &counts);
  return counts;
}

static int64_t held(const struct h2_case *c)
{
  struct fault_counts counts;
  fault_server_counts(c->server, &counts);
  return counts.held;
}

/* The client has read all that was sent to it. */
static void sync_with_client(const struct h2_case *c)
{
  int64_t before = h2_counts(c).pings_acknowledged;
  int32_t connections = fault_h2_ping(c->server);
  eventually(h2_counts(c).pings_acknowledged == before + connections);
}

/* --------------------------------------------------------------------------------------------------- one bad stream */

static const struct fault_row {
  const char *path;
  int status, status_8; /* with libcurl 7 and 8; the latter 0: the same */
  bool floods;
} ROWS[] = {
    {"/refuse", CPOOL_EREFUSED, 0, false},
    {"/rst/0", CPOOL_ERESET, 0, false},
    {"/rst/1", CPOOL_EPROTOCOL, 0, false},
    {"/rst/2", CPOOL_ERESET, 0, false},
    {"/rst/8", CPOOL_ERESET, 0, false},
    {"/rst/11", CPOOL_ERESET, 0, false},
    {"/rst/13", CPOOL_ERESET, 0, false},
    {"/no-status", CPOOL_EPROTOCOL, 0, false},
    {"/bad-status", CPOOL_EPROTOCOL, 0, false},
    {"/bad-header", CPOOL_EPROTOCOL, 0, false},
    {"/short", CPOOL_EPROTOCOL, 0, false},
    {"/long", CPOOL_EPROTOCOL, 0, false},
    {"/data-first", CPOOL_ERESET, CPOOL_EPROTOCOL, false},
    {"/goaway-without", CPOOL_ERESET, CPOOL_EREFUSED, false},
    {"/goaway-without/2", CPOOL_ERESET, CPOOL_EREFUSED, false},
    {"/reset", CPOOL_ERESET, 0, false},
    {"/fin", CPOOL_ERESET, 0, false},
    {"/garbage", CPOOL_ERESET, CPOOL_EPROTOCOL, false},
    {"/big-frame", CPOOL_ETRUNCATED, CPOOL_EPROTOCOL, false},
    {"/window-overflow", CPOOL_ERESET, CPOOL_EPROTOCOL, false},
    {"/idle-stream", CPOOL_ERESET, CPOOL_EPROTOCOL, false},
    {"/push", CPOOL_ERESET, CPOOL_EPROTOCOL, false},
    {"/continuation-flood", CPOOL_ERESET, CPOOL_EPROTOCOL, false},
    {"/huge-header/70000", CPOOL_ERESET, CPOOL_EPROTOCOL, false},
    {"/reset-flood", CPOOL_ERESET, 0, true},
    {"/endless-body", CPOOL_EBODY_TOO_LARGE, 0, true},
};

static void meet(struct pool_fixture *f, const struct fault_row *row, const char *body, bool warm)
{
  int wanted = libcurl_8() && row->status_8 != 0 ? row->status_8 : row->status;
  bool repeatable = body == NULL, lost = wanted == CPOOL_ERESET || wanted == CPOOL_ETRUNCATED;
  cpool_http_options options = pool_options();
  options.max_response_bytes = 1000000;
  options.sock_read_timeout_ms = SHORT_MS;
  struct h2_case c = begin(f, (struct fault_options){0}, &options);
  if (warm)
    warm_up(&c);
  send_in(&c, row->path, body);
  struct ending ending = take_end(&c);
  if (libcurl_8() && wanted == CPOOL_EPROTOCOL && ending.status == CPOOL_ETIMEOUT_READ)
    wanted = CPOOL_ETIMEOUT_READ; /* it sees some of them only when more comes */
  if (ending.status != wanted)
    print_error("%s, %s, %s: %s\n", row->path, body != NULL ? "POST" : "GET", warm ? "warm" : "cold",
                cpool_status_name(ending.status));
  assert_int_equal(ending.status, wanted);
  assert_int_equal(ending.flags, wanted == CPOOL_EREFUSED || (lost && repeatable) ? RETRIABLE : 0);
  if (body != NULL) /* sent once and no more */
    assert_int_equal(ending.attempts, 1);
  else
    assert_in_range(ending.attempts, 1, 3);
  /* What comes next is served. Where a flood goes on, nobody serves that connection: the first one to notice is the last one. */
  if (row->floods) {
    send_in(&c, "/ok", NULL);
    ending = take_end(&c);
    assert_true(ending.status == CPOOL_ETIMEOUT_READ || ending.status == CPOOL_OK);
  }
  warm_up(&c);
  end(&c);
}

static void each_fault_has_its_status(void **state)
{
  for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
    for (int kind = 0; kind < 4; kind++)
      meet(*state, &ROWS[i], kind % 2 == 0 ? NULL : "body", kind >= 2);
}

static void what_is_odd_and_legal_is_an_answer(void **state)
{
  static const char *const paths[] = {"/ok",    "/interim",           "/unknown",
                                      "/early", "/huge-header/20000", "/huge-header/60000"};
  struct h2_case c = begin(*state, (struct fault_options){0}, NULL);
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
    for (int kind = 0; kind < 2; kind++) {
      send_in(&c, paths[i], kind == 0 ? NULL : "body");
      take_good(&c, 1);
    }
  assert_int_equal(stats_of(c.f).opened, 1);
  end(&c);
}

static void a_refused_stream_is_repeated_when_that_is_safe(void **state)
{
  for (int kind = 0; kind < 4; kind++) { /* GET and POST, on a new connection and on a used one */
    struct h2_case c = begin(*state, (struct fault_options){0}, NULL);
    bool get = kind % 2 == 0;
    if (kind >= 2)
      warm_up(&c);
    send_in(&c, "/refuse/1", get ? NULL : "body");
    struct ending ending = take_end(&c);
    assert_int_equal(ending.status, get ? CPOOL_OK : CPOOL_EREFUSED);
    assert_int_equal(ending.flags, get ? 0 : RETRIABLE);
    assert_in_range(ending.attempts, get ? 2 : 1, get ? 3 : 1);
    eventually(stats_of(c.f).repeated == (unsigned) ending.attempts - 1 &&
               stats_of(c.f).repeat_refused == (get ? 0 : 1));
    end(&c);
  }
}

static void a_reset_within_the_answer_leaves_what_has_come(void **state)
{
  static const char *const paths[] = {"/rst-head/2", "/rst-body/2", "/rst-body/8"};
  for (int kind = 0; kind < 6; kind++) {
    struct h2_case c = begin(*state, (struct fault_options){0}, NULL);
    warm_up(&c);
    send_in(&c, paths[kind / 2], kind % 2 == 0 ? NULL : "body");
    eventually(held(&c) == 1);
    sync_with_client(&c);
    fault_h2_release(c.server);
    struct ending ending = take_end(&c);
    assert_int_equal(ending.status, CPOOL_ETRUNCATED);
    assert_int_equal(ending.flags, kind % 2 == 0 ? RETRIABLE : 0);
    assert_int_equal(ending.attempts, 1);
    assert_int_equal(ending.body_len, kind < 2 ? 0 : 5);
    warm_up(&c);
    assert_int_equal(stats_of(c.f).opened, 1); /* one stream's end is nobody else's */
    end(&c);
  }
}

/* ------------------------------------------------------------------------------------------------------------ GOAWAY */

static void goaway_divides_the_streams(void **state)
{
  static const uint32_t codes[] = {FAULT_H2_NO_ERROR, FAULT_H2_ENHANCE_YOUR_CALM};
  for (int kind = 0; kind < 2; kind++) {
    struct h2_case c = begin(*state, (struct fault_options){0}, NULL);
    int good = 0, repeated = 0, refused = 0;
    warm_up(&c);                       /* stream 1 */
    send_many(&c, "/hold", NULL, 3);   /* 3 5 7 */
    send_many(&c, "/hold", "body", 3); /* 9 11 13 */
    send_many(&c, "/hold", NULL, 4);   /* 15 17 19 21 */
    send_many(&c, "/hold", "body", 4); /* 23 25 27 29 */
    eventually(held(&c) == 14);
    fault_h2_goaway(c.server, 13, codes[kind]);
    eventually(held(&c) == 10); /* those that may be repeated have come again, elsewhere */
    assert_int_equal(stats_of(c.f).opened, 2);
    fault_h2_release(c.server);
    for (int i = 0; i < 14; i++) {
      struct ending ending = take_end(&c);
      good += ending.status == CPOOL_OK && ending.attempts == 1 ? 1 : 0;
      repeated += ending.status == CPOOL_OK && ending.attempts == 2 ? 1 : 0;
      refused += ending.status == CPOOL_EREFUSED && ending.flags == RETRIABLE && ending.attempts == 1 ? 1 : 0;
    }
    assert_int_equal(good, 6);
    assert_int_equal(repeated, 4);
    assert_int_equal(refused, 4);
    eventually(stats_of(c.f).total_connections == 1 && stats_of(c.f).closing_connections == 0);
    end(&c);
  }
}

static void goaway_lets_a_busy_connection_finish_and_take_no_more(void **state)
{
  struct h2_case c = begin(*state, (struct fault_options){0}, NULL);
  warm_up(&c);
  send_many(&c, "/hold", NULL, 20);
  eventually(held(&c) == 20);
  fault_h2_goaway(c.server, INT32_MAX, FAULT_H2_NO_ERROR);
  sync_with_client(&c);
  for (int i = 0; i < 10; i++) {
    send_in(&c, "/ok", NULL);
    struct ending ending = take_end(&c);
    assert_int_equal(ending.status, CPOOL_OK);
    assert_int_equal(ending.attempts, 1);
    assert_int_equal(ending.connection, 2);
  }
  fault_h2_release(c.server);
  take_good(&c, 20);
  assert_int_equal(stats_of(c.f).opened, 2);
  assert_int_equal(stats_of(c.f).repeated, 0);
  eventually(stats_of(c.f).total_connections == 1 && stats_of(c.f).closing_connections == 0);
  end(&c);
}

static void goaway_ends_an_idle_connection(void **state)
{
  static const uint32_t codes[] = {FAULT_H2_NO_ERROR, FAULT_H2_ENHANCE_YOUR_CALM};
  for (int kind = 0; kind < 2; kind++) {
    struct h2_case c = begin(*state, (struct fault_options){0}, NULL);
    warm_up(&c);
    fault_h2_goaway(c.server, 1, codes[kind]);
    eventually(stats_of(c.f).total_connections == 0 && stats_of(c.f).closing_connections == 0);
    send_in(&c, "/ok", "body");
    struct ending ending = take_end(&c);
    assert_int_equal(ending.status, CPOOL_OK);
    assert_int_equal(ending.connection, 2);
    end(&c);
  }
}

/* --------------------------------------------------------------------------------------------------- connection lost */

static void a_cut_ends_each_of_many_streams_once(void **state)
{
  for (int kind = 0; kind < 2; kind++) {
    struct h2_case c = begin(*state, (struct fault_options){0}, NULL);
    int good = 0, reset = 0;
    warm_up(&c);
    for (int i = 0; i < STREAMS / 2; i++) {
      send_in(&c, "/hold", NULL);
      send_in(&c, "/hold", "body");
    }
    eventually(held(&c) == STREAMS);
    assert_int_equal(stats_of(c.f).opened, 1);
    assert_int_equal(kind == 0 ? fault_server_reset_all(c.server) : fault_server_drop_all(c.server), 1);
    for (int i = 0; i < STREAMS / 2; i++) {
      struct ending ending = take_end(&c);
      assert_int_equal(ending.status, CPOOL_ERESET);
      assert_int_equal(ending.flags, 0);
      assert_int_equal(ending.attempts, 1);
      reset++;
    }
    eventually(held(&c) == STREAMS / 2); /* the others, again */
    fault_h2_release(c.server);
    for (int i = 0; i < STREAMS / 2; i++) {
      struct ending ending = take_end(&c);
      assert_int_equal(ending.status, CPOOL_OK);
      assert_int_equal(ending.attempts, 2);
      good++;
    }
    assert_int_equal(good + reset, STREAMS);
    eventually(stats_of(c.f).repeated == STREAMS / 2 && stats_of(c.f).opened == 2);
    end(&c);
  }
}

static void a_cut_within_the_answers_ends_each_with_what_has_come(void **state)
{
  struct h2_case c = begin(*state, (struct fault_options){0}, NULL);
  warm_up(&c);
  send_many(&c, "/hold-body", NULL, STREAMS);
  eventually(held(&c) == STREAMS);
  sync_with_client(&c);
  fault_server_drop_all(c.server);
  for (int i = 0; i < STREAMS; i++) {
    struct ending ending = take_end(&c);
    assert_int_equal(ending.status, CPOOL_ETRUNCATED);
    assert_int_equal(ending.flags, RETRIABLE);
    assert_int_equal(ending.attempts, 1);
    assert_int_equal(ending.body_len, 3);
  }
  end(&c);
}

/* ------------------------------------------------------------------------------------------------- silence, windows */

static void a_server_that_says_nothing_meets_the_read_timeout(void **state)
{
  cpool_http_options options = pool_options();
  options.sock_read_timeout_ms = SHORT_MS;
  struct h2_case c = begin(*state, (struct fault_options){.h2_mute = true}, &options);
  int64_t begun_ms = now_ms();
  send_many(&c, "/ok", NULL, 2);
  for (int i = 0; i < 2; i++) {
    struct ending ending = take_end(&c);
    assert_int_equal(ending.status, CPOOL_ETIMEOUT_READ);
    assert_int_equal(ending.flags, 0);
  }
  assert_in_range(now_ms() - begun_ms, SHORT_MS, 3 * SHORT_MS + SLACK_MS);
  eventually(stats_of(c.f).total_connections == 0); /* nothing was heard on them: they take no more */
  end(&c);
}

static void a_window_that_stays_shut_stops_one_upload_alone(void **state)
{
  static char body[BODY_BYTES + 1];
  cpool_http_options options = pool_options();
  options.sock_read_timeout_ms = SHORT_MS;
  struct h2_case c = begin(*state, (struct fault_options){.h2_no_window = true}, &options);
  memset(body, 'b', BODY_BYTES);
  warm_up(&c);
  int64_t begun_ms = now_ms();
  cpool_op upload = send_in(&c, "/ok", body);
  for (bool ended = false; !ended;) {
    cpool_op other = send_in(&c, "/ok", NULL);
    for (bool answered = false; !answered;) {
      struct outcome out = take(c.f);
      assert_int_equal(out.status, out.op == upload ? CPOOL_ETIMEOUT_READ : CPOOL_OK);
      ended = ended || out.op == upload;
      answered = out.op == other;
      cpool_response_free(out.resp);
    }
  }
  assert_in_range(now_ms() - begun_ms, SHORT_MS, 3 * SHORT_MS + SLACK_MS);
  warm_up(&c);
  assert_int_equal(stats_of(c.f).opened, 1);
  end(&c);
}

/* ------------------------------------------------------------------------------------------------------------ floods */

struct clock_record {
  struct record record;
  _Atomic int64_t cpu_us;
};

static void on_clock(const cpool_event *event)
{
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  atomic_store(&((struct clock_record *) event->user)->cpu_us, now.tv_sec * 1000000 + now.tv_nsec / 1000);
  on_record(event);
}

/* What the loop's thread has used: a request asks it, to another host. */
static int64_t loop_cpu_us(struct pool_fixture *f)
{
  struct clock_record clock = {.cpu_us = 0};
  cpool_request req = request_of(f, "/ok");
  req.queue = NULL;
  req.on_event = on_clock;
  req.user = &clock;
  submit(f, &req);
  eventually(atomic_load(&clock.record.ends) == 1);
  assert_int_equal(atomic_load(&clock.record.status), CPOOL_OK);
  return atomic_load(&clock.cpu_us);
}

/* A sanitizer keeps freed memory for a while. */
static int64_t resident_bytes(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return 0;
#else
  long pages = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  assert_non_null(file);
  assert_int_equal(fscanf(file, "%ld %ld", &pages, &resident), 2);
  fclose(file);
  return (int64_t) resident * 4096;
#endif
}

/* The request ends by its own time, others go on meanwhile, and when it is over the loop rests. */
static void a_flood_is_its_own_request_s_trouble_alone(void **state)
{
  static const char *const paths[] = {"/settings-flood", "/ping-flood", "/empty-data"};
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
    cpool_http_options options = pool_options();
    options.sock_read_timeout_ms = 2 * SHORT_MS;
    struct h2_case c = begin(*state, (struct fault_options){0}, &options);
    int64_t before_bytes = resident_bytes(), begun_ms = now_ms();
    int others = 0;
    cpool_op flooded = send_in(&c, paths[i], NULL);
    for (bool ended = false; !ended;) {
      cpool_op other = ask(c.f, "/ok");
      for (bool answered = false; !answered;) {
        struct outcome out = take(c.f);
        if (out.op == flooded) /* libcurl 8 gives up when acknowledgements pile up */
          assert_true(out.status == CPOOL_ETIMEOUT_READ || (libcurl_8() && out.status == CPOOL_EPROTOCOL));
        else
          assert_int_equal(out.status, CPOOL_OK);
        ended = ended || out.op == flooded;
        answered = out.op == other;
        others += answered ? 1 : 0;
        cpool_response_free(out.resp);
      }
    }
    assert_true(now_ms() - begun_ms < 2 * SHORT_MS + SLACK_MS);
    assert_true(others >= 2 || libcurl_8());
    int64_t cpu_us = loop_cpu_us(c.f), rest_ms = now_ms();
    while (now_ms() - rest_ms < SHORT_MS)
      poll(NULL, 0, SHORT_MS);
    assert_true(loop_cpu_us(c.f) - cpu_us < 1000 * (now_ms() - rest_ms) / 2);
    assert_true(resident_bytes() - before_bytes < 64 * 1024 * 1024);
    end(&c);
  }
}

/* ------------------------------------------------------------------------------------------------- limits of streams */

static void a_limit_is_learned_without_a_refusal(void **state)
{
  cpool_http_options options = pool_options();
  options.max_connections_per_host = 50;
  struct h2_case c = begin(*state, (struct fault_options){.h2_max_streams = 10}, &options);
  warm_up(&c);
  for (int round = 0; round < 3; round++) {
    send_many(&c, "/hold", NULL, 30);
    eventually(held(&c) == 30);
    fault_h2_release(c.server);
    take_good(&c, 30);
  }
  assert_int_equal(h2_counts(&c).refused_streams, 0);
  assert_int_equal(stats_of(c.f).opened, 3);
  assert_int_equal(stats_of(c.f).repeated, 0);
  end(&c);
}

static bool queue_would_wait(struct pool_fixture *f)
{
  return wait_fd(cpool_queue_fd(f->queue), POLLIN, 20) == 0;
}

static void a_limit_lowered_while_busy_is_obeyed(void **state)
{
  cpool_http_options options = pool_options();
  options.max_connections_per_host = 1;
  struct h2_case c = begin(*state, (struct fault_options){.h2_max_streams = 20}, &options);
  warm_up(&c);
  send_many(&c, "/hold", NULL, 20);
  eventually(held(&c) == 20);
  fault_h2_max_streams(c.server, 5);
  sync_with_client(&c);
  send_many(&c, "/hold", NULL, 20);
  for (int ended = 0; ended < 40; ended++) {
    while (queue_would_wait(c.f)) { /* those that were let go have all been taken */
      assert_true(ended == 0 || held(&c) <= 5);
      fault_h2_release(c.server);
    }
    take_good(&c, 1);
  }
  assert_int_equal(h2_counts(&c).refused_streams, 0);
  assert_int_equal(stats_of(c.f).opened, 1);
  end(&c);
}

static void a_limit_of_none_ends_in_time(void **state)
{
  cpool_http_options options = pool_options();
  options.acquire_timeout_ms = SHORT_MS;
  options.connect_timeout_ms = SHORT_MS;
  struct h2_case c = begin(*state, (struct fault_options){.h2_max_streams = -1}, &options);
  send_many(&c, "/ok", NULL, 10);
  for (int i = 0; i < 10; i++) {
    struct ending ending = take_end(&c);
    assert_true(ending.status == CPOOL_EREFUSED || ending.status == CPOOL_ETIMEOUT_ACQUIRE ||
                ending.status == CPOOL_ETIMEOUT_CONNECT || ending.status == CPOOL_ERESET);
  }
  assert_true(stats_of(c.f).opened <= 40);
  end(&c);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(each_fault_has_its_status),
      POOL_CASE(what_is_odd_and_legal_is_an_answer),
      POOL_CASE(a_refused_stream_is_repeated_when_that_is_safe),
      POOL_CASE(a_reset_within_the_answer_leaves_what_has_come),
      POOL_CASE(goaway_divides_the_streams),
      POOL_CASE(goaway_lets_a_busy_connection_finish_and_take_no_more),
      POOL_CASE(goaway_ends_an_idle_connection),
      POOL_CASE(a_cut_ends_each_of_many_streams_once),
      POOL_CASE(a_cut_within_the_answers_ends_each_with_what_has_come),
      POOL_CASE(a_server_that_says_nothing_meets_the_read_timeout),
      POOL_CASE(a_window_that_stays_shut_stops_one_upload_alone),
      POOL_CASE(a_flood_is_its_own_request_s_trouble_alone),
      POOL_CASE(a_limit_is_learned_without_a_refusal),
      POOL_CASE(a_limit_lowered_while_busy_is_obeyed),
      POOL_CASE(a_limit_of_none_ends_in_time),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
