/* pool_fixture: a fault server, a queue and a pool, and the few words in which a test asks, waits and looks */
#ifndef CPOOL_SUPPORT_POOL_FIXTURE_H
#define CPOOL_SUPPORT_POOL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <cpool.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "support/fault_server.h"
#include "support/sessions.h"
#include "support/wait.h"

enum { DEADLINE_MS = 20000, SLACK_MS = 3000 /* what a busy machine may add to a time-out */ };

#if defined(__SANITIZE_THREAD__)
/* libuv closes its descriptors by bare system calls, which the sanitizer does not see: whoever gets the number next looks
 * like a racer of the call that made it. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
  return "race:epoll_create1\nrace:epoll_ctl\nrace:eventfd\nrace:accept4\nrace:open_fd_count\n";
}
#endif

struct pool_fixture {
  struct fault_server *server;
  cpool_queue *queue;
  cpool_http *pool;
  int32_t fds_before;
};

/* ----------------------------------------------------------------------------------------------------------- waiting */

/* The condition is the proof; the pace between two looks is not. */
#define eventually_within(limit_ms, expression)                                                                        \
  do {                                                                                                                 \
    int64_t deadline_ms_ = now_ms() + (limit_ms);                                                                      \
    while (!(expression)) {                                                                                            \
      if (now_ms() > deadline_ms_)                                                                                     \
        fail_msg("not within %d ms: %s", (int) (limit_ms), #expression);                                               \
      poll(NULL, 0, 1);                                                                                                \
    }                                                                                                                  \
  } while (0)
#define eventually(expression) eventually_within(DEADLINE_MS, expression)

/* --------------------------------------------------------------------------------------------------- the pool's life */

/* For the group: what libcurl, c-ares and libuv open once per process is there before descriptors are counted. */
static inline int pool_warm_up(void **state)
{
  cpool_http *pool = NULL;
  (void) state;
  return cpool_http_new(&pool, NULL, NULL) == CPOOL_OK ? cpool_http_close(pool, 0) : -1;
}

static inline cpool_http_options pool_options(void)
{
  cpool_http_options options;
  cpool_http_options_init(&options);
  return options;
}

/* options NULL: all defaults. */
static inline void open_pool(struct pool_fixture *f, const cpool_http_options *options)
{
  assert_null(f->pool);
  assert_int_equal(cpool_http_new(&f->pool, NULL, options), CPOOL_OK);
}

static inline void close_pool(struct pool_fixture *f)
{
  assert_int_equal(cpool_http_close(f->pool, 0), CPOOL_OK);
  f->pool = NULL;
}

/* A server and a queue; the case opens the pool with the options it is about. */
static inline int pool_setup(void **state)
{
  static struct pool_fixture fixture;
  fixture = (struct pool_fixture){.fds_before = open_fd_count()};
  fixture.server = fault_server_start(&(struct fault_options){0});
  *state = &fixture;
  return fixture.server != NULL ? cpool_queue_new(&fixture.queue, NULL) : -1;
}

static inline bool no_fd_is_left(void *fixture)
{
  return open_fd_count() == ((struct pool_fixture *) fixture)->fds_before;
}

static inline int pool_teardown(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_close(f->pool, 0);
  int status = cpool_queue_free(f->queue);
  fault_server_stop(f->server);
  /* A pool that was freed without a close ends behind its owner's back. */
  return status == CPOOL_OK && wait_until(no_fd_is_left, f, DEADLINE_MS) ? 0 : -1;
}

#define POOL_CASE(name) cmocka_unit_test_setup_teardown(name, pool_setup, pool_teardown)

/* ------------------------------------------------------------------------------------------------------------ asking */

/* One of many texts that live long enough for a call. */
static inline const char *url_at(uint16_t port, const char *path)
{
  static _Thread_local char texts[16][256];
  static _Thread_local unsigned next;
  char *text = texts[next++ % 16];
  snprintf(text, sizeof texts[0], "http://127.0.0.1:%u%s", (unsigned) port, path);
  return text;
}

static inline const char *url_of(struct pool_fixture *f, const char *path)
{
  return url_at(fault_server_port(f->server), path);
}

static inline cpool_request request_to(struct pool_fixture *f, const char *url)
{
  cpool_request req;
  cpool_request_init(&req);
  req.url = url;
  req.queue = f->queue;
  return req;
}

static inline cpool_request request_of(struct pool_fixture *f, const char *path)
{
  return request_to(f, url_of(f, path));
}

static inline cpool_op submit_in(cpool_session *session, const cpool_request *req)
{
  cpool_op op = 0;
  assert_int_equal(cpool_submit(session, req, &op), CPOOL_OK);
  assert_true(op != 0);
  return op;
}

static inline cpool_op submit(struct pool_fixture *f, const cpool_request *req)
{
  return submit_in(cpool_http_session(f->pool), req);
}

static inline cpool_op ask(struct pool_fixture *f, const char *path)
{
  cpool_request req = request_of(f, path);
  return submit(f, &req);
}

/* ------------------------------------------------------------------------------------------------------------ endings */

struct outcome {
  int32_t kind, status;
  cpool_op op;
  void *user;
  cpool_response *resp;
};

/* The next event of the queue; its response is the caller's. */
static inline struct outcome take_within(struct pool_fixture *f, int64_t limit_ms)
{
  const cpool_event *event = NULL;
  int64_t deadline_ms = now_ms() + limit_ms, left_ms;
  while (event == NULL && (left_ms = deadline_ms - now_ms()) > 0)
    if (cpool_queue_wait(f->queue, &event, 1, left_ms) < 0)
      break;
  if (event == NULL)
    fail_msg("no event within %lld ms", (long long) limit_ms);
  struct outcome out = {event->kind, event->status, event->source, event->user, cpool_event_take_response(event)};
  cpool_queue_release(f->queue, &event, 1);
  return out;
}

static inline struct outcome take(struct pool_fixture *f)
{
  return take_within(f, DEADLINE_MS);
}

static inline bool queue_is_empty(struct pool_fixture *f)
{
  const cpool_event *event;
  int count = cpool_queue_wait(f->queue, &event, 1, 0);
  if (count == 1)
    cpool_queue_release(f->queue, &event, 1);
  return count == 0;
}

static inline cpool_error error_of(const struct outcome *out)
{
  cpool_error error;
  cpool_error_init(&error);
  cpool_response_error_get(out->resp, &error);
  return error;
}

static inline cpool_response_info info_of(const struct outcome *out)
{
  cpool_response_info info;
  cpool_response_info_init(&info);
  cpool_response_info_get(out->resp, &info);
  return info;
}

/* Takes one event and checks that it ends this request in this way. */
#define expect_end(f, wanted_op, wanted_status)                                                                        \
  do {                                                                                                                 \
    struct outcome out_ = take(f);                                                                                     \
    cpool_error error_ = error_of(&out_);                                                                              \
    if (out_.status != (wanted_status))                                                                                \
      print_error("%s: %s\n", cpool_status_name(out_.status), error_.text);                                            \
    assert_int_equal(out_.status, wanted_status);                                                                      \
    assert_int_equal(error_.status, wanted_status);                                                                    \
    assert_int_equal(out_.kind, CPOOL_EVENT_RESPONSE);                                                                 \
    assert_true(out_.op == (wanted_op));                                                                               \
    assert_non_null(out_.resp);                                                                                        \
    cpool_response_free(out_.resp);                                                                                    \
  } while (0)

/* One answered GET; the number of its connection. */
static inline uint64_t get_ok(struct pool_fixture *f, const char *path)
{
  cpool_op op = ask(f, path);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_OK);
  assert_true(out.op == op);
  uint64_t connection = info_of(&out).connection;
  cpool_response_free(out.resp);
  return connection;
}

/* ------------------------------------------------------------------------------------------------------------ looking */

static inline cpool_http_stats stats_in(cpool_http *pool)
{
  cpool_http_stats stats;
  cpool_http_stats_init(&stats);
  cpool_http_stats_get(pool, &stats);
  return stats;
}

static inline cpool_http_stats stats_of(struct pool_fixture *f)
{
  return stats_in(f->pool);
}

static inline struct fault_counts counts_of(struct pool_fixture *f)
{
  struct fault_counts counts;
  fault_server_counts(f->server, &counts);
  return counts;
}

static inline uint64_t closed_sum(const cpool_http_stats *s)
{
  return s->closed_peer + s->closed_unsolicited + s->closed_idle + s->closed_lifetime + s->closed_requests +
         s->closed_response + s->closed_error + s->closed_cancelled + s->closed_evicted + s->closed_dial +
         s->closed_pool + s->closed_address;
}

/* NULL, or which promise of every snapshot does not hold. */
static inline const char *imbalance_of(const cpool_http_stats *s)
{
  if ((int64_t) (s->opened - s->closed) != s->total_connections + s->closing_connections)
    return "opened - closed == total_connections + closing_connections";
  if (closed_sum(s) != s->closed)
    return "closed is the sum of the closed_* fields";
  if ((int64_t) (s->requests - s->succeeded - s->failed) != s->pending_requests + s->active_requests)
    return "requests == succeeded + failed + pending_requests + active_requests";
  if (s->acquired_connections + s->idle_connections + s->connecting_connections != s->total_connections)
    return "total_connections == acquired + idle + connecting";
  if (s->acquired_connections < 0 || s->idle_connections < 0 || s->connecting_connections < 0 ||
      s->closing_connections < 0 || s->pending_requests < 0 || s->active_requests < 0)
    return "no gauge is negative";
  if (s->cancelled + s->timeout_acquire + s->timeout_connect + s->timeout_read + s->timeout_total > s->failed)
    return "cancelled and timed out requests are failed ones";
  return s->curl_pending == 0 ? NULL : "curl_pending is 0 for HTTP/1.1";
}

static inline void assert_balanced(cpool_http *pool)
{
  cpool_http_stats stats = stats_in(pool);
  const char *broken = imbalance_of(&stats);
  if (broken != NULL)
    fail_msg("does not hold: %s", broken);
}

/* The call was refused with this status, and the detail names the culprit. */
#define assert_refused(call, wanted_status, culprit)                                                                   \
  do {                                                                                                                 \
    int rc_ = (call);                                                                                                  \
    cpool_error error_;                                                                                                \
    cpool_error_init(&error_);                                                                                         \
    assert_int_equal(cpool_last_error(&error_), CPOOL_OK);                                                             \
    if (rc_ != (wanted_status))                                                                                        \
      print_error("%s gave %s\n", #call, cpool_status_name(rc_));                                                      \
    assert_int_equal(rc_, wanted_status);                                                                              \
    assert_int_equal(error_.status, wanted_status);                                                                    \
    if (strstr(error_.text, culprit) == NULL)                                                                          \
      fail_msg("%s: \"%s\" does not name \"%s\"", #call, error_.text, culprit);                                        \
  } while (0)

/* ---------------------------------------------------------------------------------------------------------- callbacks */

/* What one request ended in, counted on the loop thread: give its address as `user`. */
struct record {
  _Atomic int ends;
  _Atomic int status;
  _Atomic uint64_t op;
};

static inline void on_record(const cpool_event *event)
{
  struct record *record = event->user;
  atomic_store(&record->status, event->status);
  atomic_store(&record->op, event->source);
  atomic_fetch_add(&record->ends, 1);
}

#endif
