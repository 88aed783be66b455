/* peer_fixture: one pool, one fault server and short ways to ask, for tests that look at a pool from its peers' side
 *
 * Uses cpool.h alone. Each test begins with a new pool (its own thread) and a new server and ends with both closed, the
 * counts of the pool in order and every file descriptor closed. Answers belong to the fixture. */
#ifndef CPOOL_SUPPORT_PEER_FIXTURE_H
#define CPOOL_SUPPORT_PEER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cpool.h>

#include "support/fault_server.h"
#include "support/sessions.h"
#include "support/wait.h"

enum { PEER_DEADLINE_MS = 10000, PEER_GONE_MS = 2000, PEER_URLS = 16, PEER_ANSWERS = 4096 };

struct peer {
  cpool_http *pool;
  cpool_queue *queue;
  struct fault_server *server;
  int32_t fds; /* open before anything of the test was */
  char urls[PEER_URLS][512];
  unsigned url_count;
  cpool_response *answers[PEER_ANSWERS];
  int answer_count;
  void *extra; /* the test file's own */
};

struct answer {
  int status, code; /* of the library; of HTTP */
  const char *body; /* NUL-terminated */
  size_t len;
  int64_t took_ms;
  cpool_error error;
  cpool_response_info info;
  const cpool_response *resp;
};

struct ask {
  cpool_session *session; /* NULL: the pool's */
  const char *method, *url;
  const cpool_header *headers;
  size_t header_count;
  const void *body;
  size_t body_len;
  int32_t flags;
  int64_t connect_ms, read_ms, total_ms, max_bytes;
};

/* ---- life */

static inline void peer_open_pool(struct peer *f, const cpool_http_options *options)
{
  assert_null(f->pool);
  assert_int_equal(cpool_http_new(&f->pool, NULL, options), CPOOL_OK);
}

static inline cpool_http_stats peer_stats(const struct peer *f)
{
  cpool_http_stats stats;
  cpool_http_stats_init(&stats);
  assert_int_equal(cpool_http_stats_get(f->pool, &stats), CPOOL_OK);
  uint64_t by_reason = stats.closed_peer + stats.closed_unsolicited + stats.closed_idle + stats.closed_lifetime +
                       stats.closed_requests + stats.closed_response + stats.closed_error + stats.closed_cancelled +
                       stats.closed_evicted + stats.closed_dial + stats.closed_pool + stats.closed_address;
  assert_int_equal(stats.closed, by_reason);
  assert_int_equal(stats.opened - stats.closed, stats.total_connections + stats.closing_connections);
  assert_int_equal(stats.requests,
                   stats.succeeded + stats.failed + (uint64_t) (stats.pending_requests + stats.active_requests));
  assert_int_equal(stats.curl_pending, 0);
  return stats;
}

static inline void peer_close_pool(struct peer *f)
{
  if (f->pool == NULL)
    return;
  (void) peer_stats(f);
  assert_int_equal(cpool_http_close(f->pool, 0), CPOOL_OK);
  f->pool = NULL;
}

static inline bool peer_fds_are_back(void *ctx)
{
  return open_fd_count() <= ((struct peer *) ctx)->fds;
}

/* Without pool and server. */
static inline struct peer *peer_new(void)
{
  struct peer *f = calloc(1, sizeof *f);
  assert_non_null(f);
  f->fds = open_fd_count();
  assert_int_equal(cpool_queue_new(&f->queue, NULL), CPOOL_OK);
  return f;
}

static inline void peer_free(struct peer *f)
{
  peer_close_pool(f);
  fault_server_stop(f->server);
  while (f->answer_count > 0)
    cpool_response_free(f->answers[--f->answer_count]);
  assert_int_equal(cpool_queue_free(f->queue), CPOOL_OK);
  if (!wait_until(peer_fds_are_back, f, PEER_GONE_MS))
    fail_msg("%d file descriptors are open, %d were at the start", (int) open_fd_count(), (int) f->fds);
  free(f);
}

static inline int peer_setup_bare(void **state)
{
  *state = peer_new();
  return 0;
}

static inline int peer_setup(void **state)
{
  struct peer *f = peer_new();
  peer_open_pool(f, NULL);
  f->server = fault_server_start(&(struct fault_options){0});
  assert_non_null(f->server);
  *state = f;
  return 0;
}

static inline int peer_teardown(void **state)
{
  peer_free(*state);
  return 0;
}

/* What the process opens once and keeps must not look like a leak of the first test. */
static inline int peer_warm_up(void **state)
{
  cpool_http *pool = NULL;
  (void) state;
  assert_int_equal(cpool_http_new(&pool, NULL, NULL), CPOOL_OK);
  assert_int_equal(cpool_http_close(pool, 0), CPOOL_OK);
  return 0;
}

/* ---- asking */

__attribute__((format(printf, 2, 3))) static inline const char *peer_text(struct peer *f, const char *format, ...)
{
  char *text = f->urls[f->url_count++ % PEER_URLS];
  va_list args;
  va_start(args, format);
  int len = vsnprintf(text, sizeof f->urls[0], format, args);
  va_end(args);
  assert_in_range(len, 1, sizeof f->urls[0] - 1);
  return text;
}

/* A path is one of the fixture's server. */
static inline const char *peer_url(struct peer *f, const char *url)
{
  return url[0] == '/' ? peer_text(f, "http://127.0.0.1:%u%s", fault_server_port(f->server), url) : url;
}

static inline cpool_request peer_request(struct peer *f, const struct ask *ask)
{
  cpool_request request;
  cpool_request_init(&request);
  request.method = ask->method;
  request.url = peer_url(f, ask->url);
  request.headers = ask->headers;
  request.header_count = ask->header_count;
  request.body = ask->body;
  request.body_len = ask->body_len;
  request.flags = ask->flags;
  request.connect_timeout_ms = ask->connect_ms;
  request.sock_read_timeout_ms = ask->read_ms;
  request.total_timeout_ms = ask->total_ms != 0 ? ask->total_ms : PEER_DEADLINE_MS;
  request.max_response_bytes = ask->max_bytes;
  return request;
}

static inline struct answer peer_answer(struct peer *f, int status, cpool_response *resp)
{
  struct answer answer = {.status = status, .resp = resp};
  assert_non_null(resp);
  assert_in_range(f->answer_count, 0, PEER_ANSWERS - 1);
  f->answers[f->answer_count++] = resp;
  answer.code = cpool_response_status(resp);
  answer.body = cpool_response_body(resp, &answer.len);
  cpool_error_init(&answer.error);
  cpool_response_info_init(&answer.info);
  assert_int_equal(cpool_response_error_get(resp, &answer.error), CPOOL_OK);
  assert_int_equal(cpool_response_info_get(resp, &answer.info), CPOOL_OK);
  assert_int_equal(answer.error.status, status);
  return answer;
}

static inline struct answer peer_ask(struct peer *f, const struct ask *ask)
{
  cpool_request request = peer_request(f, ask);
  cpool_response *resp = NULL;
  int64_t begin_ms = now_ms();
  int status = cpool_perform(ask->session != NULL ? ask->session : cpool_http_session(f->pool), &request, &resp);
  int64_t took_ms = now_ms() - begin_ms;
  if (resp == NULL) {
    cpool_error error;
    cpool_error_init(&error);
    cpool_last_error(&error);
    fail_msg("%s was refused: %s", ask->url, error.text);
  }
  struct answer answer = peer_answer(f, status, resp);
  answer.took_ms = took_ms;
  return answer;
}

static inline struct answer peer_get(struct peer *f, const char *url)
{
  return peer_ask(f, &(struct ask){.url = url});
}

static inline struct answer peer_post(struct peer *f, const char *url, const void *body, size_t len)
{
  return peer_ask(f, &(struct ask){.method = "POST", .url = url, .body = body, .body_len = len});
}

/* Starts a request whose end peer_next takes. */
static inline cpool_op peer_start(struct peer *f, const struct ask *ask)
{
  cpool_request request = peer_request(f, ask);
  cpool_op op = 0;
  request.queue = f->queue;
  assert_int_equal(cpool_submit(ask->session != NULL ? ask->session : cpool_http_session(f->pool), &request, &op),
                   CPOOL_OK);
  return op;
}

static inline struct answer peer_next(struct peer *f)
{
  const cpool_event *event = NULL;
  assert_int_equal(cpool_queue_wait(f->queue, &event, 1, PEER_DEADLINE_MS + 2000), 1);
  int status = event->status;
  cpool_response *resp = cpool_event_take_response(event);
  cpool_queue_release(f->queue, &event, 1);
  return peer_answer(f, status, resp);
}

/* ---- checking */

static inline void peer_is_at(struct answer answer, int wanted, const char *file, int line)
{
  if (answer.status != wanted) {
    print_error("%s, not %s: %s\n", cpool_status_name(answer.status), cpool_status_name(wanted), answer.error.text);
    _fail(file, line);
  }
}

static inline void peer_is_200_at(struct answer answer, const char *text, const char *file, int line)
{
  peer_is_at(answer, CPOOL_OK, file, line);
  _assert_int_equal((uint64_t) answer.code, 200, file, line);
  _assert_string_equal(answer.body, text, file, line);
}

#define peer_is(answer, wanted) peer_is_at(answer, wanted, __FILE__, __LINE__)
#define peer_is_200(answer, text) peer_is_200_at(answer, text, __FILE__, __LINE__)

static inline void peer_is_pattern(const struct answer *answer, size_t len)
{
  assert_int_equal(answer->len, len);
  for (size_t i = 0; i < len; i++)
    if (answer->body[i] != fault_pattern((int64_t) i))
      fail_msg("byte %zu of %zu is wrong", i, len);
}

struct peer_wish {
  struct peer *f;
  size_t offset; /* of an 8-byte field of cpool_http_stats */
  int64_t value;
};

static inline bool peer_stat_is(void *ctx)
{
  const struct peer_wish *wish = ctx;
  cpool_http_stats stats = peer_stats(wish->f);
  int64_t value;
  memcpy(&value, (const char *) &stats + wish->offset, sizeof value);
  return value == wish->value;
}

#define peer_await(f, field, wanted)                                                                                   \
  do {                                                                                                                 \
    if (!wait_until(peer_stat_is, &(struct peer_wish){f, offsetof(cpool_http_stats, field), wanted}, PEER_GONE_MS))    \
      fail_msg(#field " is %lld, not %lld", (long long) peer_stats(f).field, (long long) (wanted));                    \
  } while (0)

static inline struct fault_counts peer_counts(struct fault_server *server)
{
  struct fault_counts counts;
  fault_server_counts(server, &counts);
  return counts;
}

#define peer_case(test) cmocka_unit_test_setup_teardown(test, peer_setup, peer_teardown)
#define peer_case_bare(test) cmocka_unit_test_setup_teardown(test, peer_setup_bare, peer_teardown)

#endif
