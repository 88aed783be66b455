/* dialled: from the wish for a connection to its end, over and over */
#include "ws/dialled.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "core/error.h"
#include "dns/peers.h"
#include "ws/stream.h"
#include "ws/topic.h"
#include "ws/tunnel.h"

enum { RACE_DELAY_MS = 300, TEXT_BYTES = 200, SUBPROTOCOL_BYTES = 128 };

/* What is needed only until it is open. */
struct cpool__attempt {
  struct cpool__dial dial;
  struct cpool__tunnel tunnel;
  struct cpool__ws_conn *conn;
  bool secured; /* TLS is done, if there is any: the upgrade was asked for */
  bool known;   /* why it fails: status and text are set */
  char subprotocol[SUBPROTOCOL_BYTES];
};

/* ------------------------------------------------------------------------------------------------------ what is known */

static void tell(struct cpool__dialled *dialled, int status, const char *text)
{
  dialled->attempt->known = true;
  dialled->status = status;
  cpool__free(dialled->text);
  dialled->text = cpool__strdup(text);
}

/* An attempt has failed of which nothing more is known. */
static void guess(struct cpool__dialled *dialled)
{
  const struct cpool__attempt *attempt = dialled->attempt;
  char text[TEXT_BYTES];
  const char *what = "the server closed the connection before it answered";
  int status = CPOOL_ERESET;
  if (dialled->conn->reason == CPOOL_WS_HANDSHAKE) {
    what = "not open within handshake_timeout_ms";
    status = CPOOL_ETIMEOUT_CONNECT;
  } else if (dialled->conn->reason != 0) {
    what = "given up";
    status = CPOOL_ECANCELLED;
  } else if (dialled->plan->tls && !attempt->secured) {
    what = "the TLS handshake failed";
    status = CPOOL_ETLS_HANDSHAKE;
  }
  snprintf(text, sizeof text, "%.119s: %s", dialled->plan->authority, what);
  tell(dialled, status, text);
}

bool cpool__dialled_judge(struct cpool__wire *wire, void *context, bool trusted)
{
  struct cpool__dialled *dialled = cpool__container_of(wire, struct cpool__ws_conn, wire)->dialled;
  char why[CPOOL__CLIENT_TLS_TEXT] = "", text[TEXT_BYTES];
  if (dialled == NULL || dialled->attempt == NULL ||
      cpool__client_tls_judge(dialled->plan->client_tls, dialled->plan->server, context, trusted, why))
    return true;
  snprintf(text, sizeof text, "%.60s: %.130s", dialled->plan->authority, why);
  tell(dialled, CPOOL_ETLS_VERIFY, text);
  return false;
}

size_t cpool__dialled_ask(struct cpool__wire *wire, char *out, size_t room)
{
  struct cpool__dialled *dialled = cpool__container_of(wire, struct cpool__ws_conn, wire)->dialled;
  dialled->attempt->secured = true;
  if (dialled->plan->headers_len > room)
    return 0; /* it was checked */
  memcpy(out, dialled->plan->headers, dialled->plan->headers_len);
  return dialled->plan->headers_len;
}

void cpool__dialled_answered(struct cpool__wire *wire, const char *subprotocol)
{
  struct cpool__dialled *dialled = cpool__container_of(wire, struct cpool__ws_conn, wire)->dialled;
  snprintf(dialled->attempt->subprotocol, sizeof dialled->attempt->subprotocol, "%s", subprotocol);
}

void cpool__dialled_unanswered(struct cpool__wire *wire, int status, int64_t retry_after_s, const char *text)
{
  struct cpool__ws_conn *conn = cpool__container_of(wire, struct cpool__ws_conn, wire);
  struct cpool__dialled *dialled = conn->dialled;
  char line[TEXT_BYTES];
  if (dialled == NULL || dialled->attempt == NULL || dialled->attempt->known || conn->reason != 0)
    return;
  if (status != 0 && status != 101) {
    dialled->http_status = status;
    dialled->retry_after_s = retry_after_s;
    snprintf(line, sizeof line, "%.119s: the upgrade was refused with status %d", dialled->plan->authority, status);
    tell(dialled, CPOOL_EREFUSED, line);
  } else if (status == 101 || strncmp(text, "HS:", 3) == 0) {
    snprintf(line, sizeof line, "%.100s: the answer is no valid upgrade (%.60s)", dialled->plan->authority, text);
    tell(dialled, CPOOL_EPROTOCOL, line);
  }
}

/* ---------------------------------------------------------------------------------------------------------- attempts */

static void end_attempt(struct cpool__dialled *dialled)
{
  struct cpool__attempt *attempt = dialled->attempt;
  cpool_ws *ws = dialled->conn->ws;
  if (attempt == NULL)
    return;
  cpool__dial_cancel(&attempt->dial);
  int fd = attempt->tunnel.fd;
  cpool__tunnel_cancel(&attempt->tunnel);
  if (fd >= 0)
    close(fd);
  cpool__free(attempt);
  dialled->attempt = NULL;
  ws->dial_count--;
  if (!cpool__list_empty(&ws->to_dial)) /* in a task: who gives a place back is in the middle of something */
    cpool__runtime_defer(ws->rt, &ws->dial_task);
}

static void give_back_peer(struct cpool__dialled *dialled)
{
  if (dialled->peer != NULL)
    cpool__peers_close(cpool__resolver_peers(dialled->conn->ws->resolver), dialled->peer);
  dialled->peer = NULL;
}

/* The socket is the attempt's: libwebsockets gets it. */
static void hand_over(struct cpool__attempt *attempt, int fd)
{
  struct cpool__ws_conn *conn = attempt->conn;
  struct cpool__dialled *dialled = conn->dialled;
  const struct cpool__dial_plan *plan = dialled->plan;
  struct cpool__wire_request request = {.host = plan->authority,
                                        .path = plan->path,
                                        .subprotocols = plan->subprotocols};
  struct cpool__gate *gate = plan->client_tls != NULL ? plan->client_tls->gate : conn->ws->plain_gate;
  attempt->tunnel.fd = -1;
  conn->wire = (struct cpool__wire){0};
  int rc = cpool__wire_dial(&conn->wire, gate, fd, &request);
  if (rc == CPOOL_OK)
    return;
  tell(dialled, rc, rc == CPOOL_ENOMEM ? "out of memory" : "no descriptors");
  cpool__dialled_down(conn);
}

static void on_tunnel(struct cpool__tunnel *tunnel)
{
  struct cpool__attempt *attempt = cpool__container_of(tunnel, struct cpool__attempt, tunnel);
  struct cpool__dialled *dialled = attempt->conn->dialled;
  if (tunnel->error.status == CPOOL_OK) {
    hand_over(attempt, tunnel->fd);
    return;
  }
  tell(dialled, tunnel->error.status, tunnel->error.text);
  cpool__dialled_down(attempt->conn);
}

static bool may_race(struct cpool__dial *dial)
{
  struct cpool__attempt *attempt = cpool__container_of(dial, struct cpool__attempt, dial);
  const cpool_ws *ws = attempt->conn->ws;
  return ws->dial_sockets < 2 * (int64_t) ws->options.max_handshakes;
}

static void socket_opened(struct cpool__dial *dial, int fd)
{
  (void) fd;
  cpool__container_of(dial, struct cpool__attempt, dial)->conn->ws->dial_sockets++;
}

static void socket_closed(struct cpool__dial *dial, int fd)
{
  (void) fd;
  cpool__container_of(dial, struct cpool__attempt, dial)->conn->ws->dial_sockets--;
}

static void on_dialled(struct cpool__dial *dial)
{
  struct cpool__attempt *attempt = cpool__container_of(dial, struct cpool__attempt, dial);
  struct cpool__ws_conn *conn = attempt->conn;
  struct cpool__dialled *dialled = conn->dialled;
  if (dial->result.fd < 0) {
    tell(dialled, dial->result.error.status, dial->result.error.text);
    cpool__dialled_down(conn);
    return;
  }
  conn->ws->dial_sockets--; /* one of those that are open from here on */
  dialled->peer = dial->result.peer;
  cpool__ws_conn_set_remote(conn, &dial->result.address);
  if (dialled->plan->tunnel == NULL) {
    hand_over(attempt, dial->result.fd);
    return;
  }
  attempt->tunnel.fd = dial->result.fd;
  attempt->tunnel.request = dialled->plan->tunnel;
  if (cpool__tunnel_start(&attempt->tunnel) == CPOOL_OK)
    return;
  tell(dialled, CPOOL_ENOMEM, "out of memory");
  cpool__dialled_down(conn);
}

static const struct cpool__dial_owner owner = {.grant = may_race,
                                               .opened = socket_opened,
                                               .closed = socket_closed,
                                               .done = on_dialled};

static void dial(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  struct cpool__dialled *dialled = conn->dialled;
  const struct cpool__dial_plan *plan = dialled->plan;
  cpool__ws_conn_move(conn, CPOOL__WS_HANDSHAKE);
  conn->deadline_ms = cpool__runtime_now_ms(ws->rt) + (uint64_t) ws->options.handshake_timeout_ms;
  dialled->opened_ms = dialled->retry_after_s = -1;
  dialled->status = dialled->http_status = 0;
  ws->now.dials++;
  struct cpool__attempt *attempt = cpool__calloc(1, sizeof *attempt);
  if (attempt == NULL) {
    dialled->status = CPOOL_ENOMEM;
    cpool__dialled_down(conn);
    return;
  }
  ws->dial_count++;
  dialled->attempt = attempt;
  attempt->conn = conn;
  attempt->tunnel.rt = ws->rt;
  attempt->tunnel.fd = -1;
  attempt->tunnel.done = on_tunnel;
  attempt->dial = (struct cpool__dial){.rt = ws->rt,
                                       .resolver = ws->resolver,
                                       .owner = &owner,
                                       .host = plan->host,
                                       .port = plan->port,
                                       .policy = plan->address_policy,
                                       .race_delay_ms = RACE_DELAY_MS};
  if (cpool__dial_start(&attempt->dial) == CPOOL_OK) {
    cpool__ws_watch(conn);
    return;
  }
  tell(dialled, CPOOL_ENOMEM, "out of memory");
  cpool__dialled_down(conn);
}

void cpool__dialled_begin(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  if (ws->dial_count < ws->options.max_handshakes && cpool__list_empty(&ws->to_dial)) {
    dial(conn);
    return;
  }
  conn->deadline_ms = UINT64_MAX;
  cpool__list_push_back(&ws->to_dial, &conn->dialled->place_link);
  cpool__ws_watch(conn);
}

void cpool__ws_dial_more(struct cpool__task *task)
{
  cpool_ws *ws = cpool__container_of(task, cpool_ws, dial_task);
  struct cpool__link *link;
  while (ws->dial_count < ws->options.max_handshakes && (link = cpool__list_pop_front(&ws->to_dial)) != NULL)
    dial(cpool__container_of(link, struct cpool__dialled, place_link)->conn);
}

/* --------------------------------------------------------------------------------------------------------------- life */

void cpool__dialled_opened(struct cpool__ws_conn *conn)
{
  struct cpool__dialled *dialled = conn->dialled;
  char subprotocol[SUBPROTOCOL_BYTES];
  memcpy(subprotocol, dialled->attempt->subprotocol, sizeof subprotocol);
  dialled->opened_ms = (int64_t) cpool__runtime_now_ms(conn->ws->rt);
  dialled->status = 0;
  atomic_store(&conn->wants_drained, false); /* of the last one's messages, which were on their way to it */
  end_attempt(dialled);
  cpool__ws_conn_open(conn, subprotocol);
}

bool cpool__dialled_returns(const struct cpool__ws_conn *conn)
{
  const struct cpool__dialled *dialled = conn->dialled;
  if (dialled == NULL || dialled->stopped || conn->ws->life != CPOOL__WS_OPEN)
    return false;
  switch (conn->reason) {
  case CPOOL_WS_BY_CALLER:
  case CPOOL_WS_EXPIRED:
  case CPOOL_WS_REPLACED:
  case CPOOL_WS_MANAGER:
    return false;
  case CPOOL_WS_BY_PEER:
    if (cpool__redial_stops_at(&dialled->plan->redial, conn->close_code))
      return false;
    break;
  default:
    break;
  }
  return !cpool__redial_refused(dialled->http_status) &&
         cpool__redial_again(&dialled->plan->redial, dialled->opened_ms >= 0);
}

void cpool__dialled_stop(struct cpool__ws_conn *conn, int reason)
{
  conn->dialled->stopped = true;
  conn->reason = (uint8_t) reason;
  cpool__ws_conn_unregister(conn);
  cpool__topic_leave_all(conn);
}

static int reason_of(const struct cpool__ws_conn *conn)
{
  const struct cpool__dialled *dialled = conn->dialled;
  if (dialled->opened_ms >= 0)
    return CPOOL_WS_LOST;
  return cpool__redial_refused(dialled->http_status) ? CPOOL_WS_REFUSED : CPOOL_WS_HANDSHAKE;
}

/* As new, but for its id, topics and counts. */
static void reset(struct cpool__ws_conn *conn)
{
  cpool__frame_drop(conn->close_frame);
  cpool__free(conn->peer_text);
  conn->close_frame = NULL;
  conn->peer_text = NULL;
  conn->reason = 0;
  conn->close_code = 0;
  conn->close_sent = conn->unheard = false;
  conn->pinged_us = 0;
  atomic_store(&conn->wants_drained, false);
  conn->wire = (struct cpool__wire){0};
}

static void wait_for_next(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  struct cpool__dialled *dialled = conn->dialled;
  uint64_t now_ms = cpool__runtime_now_ms(ws->rt);
  int64_t open_ms = dialled->opened_ms >= 0 ? (int64_t) now_ms - dialled->opened_ms : -1;
  int64_t after_s = dialled->retry_after_s < INT32_MAX ? dialled->retry_after_s : INT32_MAX;
  int64_t at_least_ms = after_s > 0 ? after_s * 1000 : 0;
  int64_t delay_ms = cpool__redial_next(&dialled->plan->redial, open_ms, at_least_ms, cpool__masks_draw(&ws->masks));
  if (!cpool__ws_conn_disconnected(conn, delay_ms)) {
    dialled->stopped = true;
    conn->reason = CPOOL_WS_NO_MEMORY;
    cpool__ws_conn_gone(conn);
    return;
  }
  ws->now.disconnects++;
  reset(conn);
  cpool__ws_conn_move(conn, CPOOL__WS_WAITING);
  conn->deadline_ms = now_ms + (uint64_t) delay_ms;
  cpool__ws_watch(conn);
}

void cpool__dialled_down(struct cpool__ws_conn *conn)
{
  struct cpool__dialled *dialled = conn->dialled;
  bool failed = cpool__ws_phase(conn) == CPOOL__WS_HANDSHAKE;
  if (failed)
    conn->ws->now.dials_failed++;
  if (failed && dialled->attempt != NULL && !dialled->attempt->known)
    guess(dialled);
  if (conn->reason == 0 && cpool__ws_phase(conn) != CPOOL__WS_WAITING)
    conn->reason = (uint8_t) reason_of(conn);
  cpool__link_remove(&dialled->place_link);
  give_back_peer(dialled);
  end_attempt(dialled);
  if (!cpool__dialled_returns(conn)) {
    cpool__ws_conn_gone(conn);
    return;
  }
  cpool__ws_conn_clear(conn);
  wait_for_next(conn);
}

void cpool__dialled_free(struct cpool__dialled *dialled)
{
  if (dialled == NULL)
    return;
  cpool__free(dialled->text);
  cpool__dial_plan_free(dialled->plan);
  cpool__free(dialled);
}
