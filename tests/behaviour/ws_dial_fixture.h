/* ws_dial_fixture: a manager that dials scripted servers */
#ifndef CPOOL_TESTS_WS_DIAL_FIXTURE_H
#define CPOOL_TESTS_WS_DIAL_FIXTURE_H

#include "ws_fixture.h"

#include <unistd.h>

struct dial_fixture {
  int listener; /* -1: none */
  uint16_t port;
  char url[128];
  cpool_ws_options options;
  cpool_ws_connect_options connect;
};

static struct dial_fixture dialer = {.listener = -1};

/* Options as they are by default, and a listener for "ws://127.0.0.1:PORT/". */
static inline int dial_setup(void **state)
{
  (void) state;
  cpool_ws_options_init(&dialer.options);
  cpool_ws_connect_options_init(&dialer.connect);
  dialer.listener = ws_peer_listen(NULL, &dialer.port);
  snprintf(dialer.url, sizeof dialer.url, "ws://127.0.0.1:%u/", dialer.port);
  dialer.connect.url = dialer.url;
  dialer.connect.reconnect_ms = CPOOL_OFF;
  return 0;
}

static inline int dial_teardown(void **state)
{
  (void) state;
  if (fixture.ws != NULL)
    ws_stop();
  fixture.react = NULL;
  close(dialer.listener);
  return 0;
}

static inline void manager_start(void)
{
  ws_start(&dialer.options, NULL);
}

static inline cpool_conn dial_start(const char *id)
{
  cpool_conn conn = 0;
  assert_int_equal(cpool_ws_connect(fixture.ws, id, &dialer.connect, &conn), CPOOL_OK);
  assert_int_not_equal(conn, 0);
  return conn;
}

static inline struct ws_peer *server_accept(const struct ws_accept_options *options)
{
  struct ws_peer *peer = ws_peer_accept(dialer.listener, options, DEADLINE_MS);
  assert_non_null(peer);
  return peer;
}

/* Dials "id", and is open. */
static inline struct ws_peer *dial_open(cpool_conn *conn)
{
  *conn = dial_start("id");
  struct ws_peer *peer = server_accept(NULL);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_OPEN)->conn, *conn);
  return peer;
}

/* The server answers so, and the connection ends so. */
static inline struct seen *dial_ends(const char *answer, int32_t reason, int32_t status)
{
  dial_start("id");
  struct ws_peer *peer = server_accept(&(struct ws_accept_options){.answer = answer});
  ws_peer_free(peer);
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->reason, reason);
  assert_int_equal(seen->status, status);
  return seen;
}

#endif
