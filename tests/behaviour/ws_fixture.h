/* ws_fixture: a manager with a listener, and what became of each of its events */
#ifndef CPOOL_TESTS_WS_FIXTURE_H
#define CPOOL_TESTS_WS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

#include <cpool.h>

#include "support/certs.h"
#include "support/wait.h"
#include "support/ws_peer.h"

enum { DEADLINE_MS = 20000, EVENTS = 4096 };

struct seen {
  int32_t kind, status, ws_kind, close_code, reason, http_status;
  int64_t retry_ms;
  cpool_conn conn;
  void *user;
  char id[256], data[256]; /* the start of it */
  size_t len;
};

/* What a test does inside a callback, before the event is noted. */
typedef void react_fn(const cpool_event *event);

struct ws_fixture {
  cpool_ws *ws;
  cpool_queue *queue; /* NULL: by callback */
  uint16_t port;
  react_fn *react;
  pthread_mutex_t lock;
  int count;
  struct seen events[EVENTS];
  int next; /* of the events, for ws_next */
};

static struct ws_fixture fixture = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void note_event(const cpool_event *event)
{
  struct ws_fixture *f = &fixture;
  pthread_mutex_lock(&f->lock);
  assert_in_range(f->count, 0, EVENTS - 1);
  struct seen *seen = &f->events[f->count++];
  *seen = (struct seen){.kind = event->kind,
                        .status = event->status,
                        .http_status = event->http_status,
                        .retry_ms = event->retry_ms,
                        .ws_kind = event->ws_kind,
                        .close_code = event->close_code,
                        .reason = event->reason,
                        .conn = event->source,
                        .user = event->user,
                        .len = event->len};
  snprintf(seen->id, sizeof seen->id, "%s", event->conn_id != NULL ? event->conn_id : "");
  if (event->data != NULL)
    memcpy(seen->data, event->data, event->len < sizeof seen->data - 1 ? event->len : sizeof seen->data - 1);
  pthread_mutex_unlock(&f->lock);
}

static inline void on_ws_event(const cpool_event *event)
{
  if (fixture.react != NULL)
    fixture.react(event);
  note_event(event);
}

static inline void ws_start(cpool_ws_options *options, cpool_runtime *rt)
{
  struct ws_fixture *f = &fixture;
  if (options->queue == NULL)
    options->on_event = on_ws_event;
  f->queue = options->queue;
  f->count = f->next = 0;
  assert_int_equal(cpool_ws_new(&f->ws, rt, options), CPOOL_OK);
}

static inline void ws_listen(const cpool_ws_listen_options *options)
{
  int port = cpool_ws_listen(fixture.ws, options);
  assert_in_range(port, 1, 65535);
  fixture.port = (uint16_t) port;
}

/* A manager by callback, on a thread of its own; `decide` as in the listener's options. */
static inline void ws_start_simple(int32_t decide)
{
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  listen.decide = decide;
  ws_start(&options, NULL);
  ws_listen(&listen);
}

static inline void ws_stop(void)
{
  assert_int_equal(cpool_ws_close(fixture.ws, 0), CPOOL_OK);
  fixture.ws = NULL;
}

/* With a queue: takes what is there, so that it is noted. */
static inline void ws_pump(void)
{
  const cpool_event *events[16];
  int count;
  while (fixture.queue != NULL && (count = cpool_queue_wait(fixture.queue, events, 16, 0)) > 0) {
    for (int i = 0; i < count; i++)
      on_ws_event(events[i]);
    cpool_queue_release(fixture.queue, events, count);
  }
}

static inline bool has_next(void *ctx)
{
  struct ws_fixture *f = ctx;
  ws_pump();
  pthread_mutex_lock(&f->lock);
  bool has = f->next < f->count;
  pthread_mutex_unlock(&f->lock);
  return has;
}

/* The next event, which has to be of this kind. */
static inline struct seen *ws_next(int kind)
{
  struct ws_fixture *f = &fixture;
  if (!wait_until(has_next, f, DEADLINE_MS))
    fail_msg("no event of kind %d has come", kind);
  struct seen *seen = &f->events[f->next++];
  assert_int_equal(seen->kind, kind);
  return seen;
}

static inline cpool_ws_stats ws_stats(void)
{
  cpool_ws_stats stats;
  cpool_ws_stats_init(&stats);
  assert_int_equal(cpool_ws_stats_get(fixture.ws, &stats), CPOOL_OK);
  uint64_t closed = stats.closed_by_peer + stats.closed_by_caller + stats.closed_lost + stats.closed_no_pong +
                    stats.closed_idle + stats.closed_expired + stats.closed_protocol + stats.closed_too_big +
                    stats.closed_overflow + stats.closed_replaced + stats.closed_refused + stats.closed_handshake +
                    stats.closed_no_memory + stats.closed_manager;
  assert_int_equal(stats.closed, closed);
  assert_int_equal(stats.opened - stats.closed, stats.total_connections + stats.handshaking_connections +
                                                    stats.closing_connections + stats.waiting_connections);
  return stats;
}

static inline bool is_heard(void *ctx)
{
  struct ws_fixture *f = ctx;
  bool heard = false;
  ws_pump();
  pthread_mutex_lock(&f->lock);
  for (int i = 0; i < f->count && !heard; i++)
    heard = f->events[i].kind == CPOOL_EVENT_WS_MESSAGE && strcmp(f->events[i].data, "a good client") == 0;
  pthread_mutex_unlock(&f->lock);
  return heard;
}

static inline bool all_are_gone(void *ctx)
{
  (void) ctx;
  ws_pump();
  cpool_ws_stats stats = ws_stats();
  return stats.opened == stats.closed;
}

/* A client that does everything right is let in (at "/", without a decision or by the reaction) and heard; then everybody
 * leaves. What is left in the statistics is the end. Forgets all events. */
static inline cpool_ws_stats ws_serves_on(const struct ws_peer_options *how)
{
  struct ws_peer *peer = ws_peer_open(fixture.port, how);
  assert_int_equal(ws_peer_status(peer), 101);
  assert_true(ws_peer_send_text(peer, "a good client"));
  assert_true(wait_until(is_heard, &fixture, DEADLINE_MS));
  ws_peer_free(peer);
  assert_true(wait_until(all_are_gone, NULL, DEADLINE_MS));
  pthread_mutex_lock(&fixture.lock);
  fixture.count = fixture.next = 0;
  pthread_mutex_unlock(&fixture.lock);
  return ws_stats();
}

#endif
