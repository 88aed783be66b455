/* sweep: what is due with a connection: pings, and the ends of patience
 *
 *   WAITING                         its next dial, or expired
 *   HANDSHAKE, UNDECIDED, CLOSING   a deadline, then it is cut
 *   UP, closed by its peer          the same
 *   UP                              silent for health_check_interval_ms -> pinged; pong_timeout_ms later -> cut
 *                                   silent for connection_timeout_ms, or expired -> closed
 *                                   while reading is paused nobody can be heard: silence counts from its end
 *
 * Each connection has one timer, set to the earliest time at which something may be due. Life that it shows moves no timer:
 * the timer finds out, and is set anew. So what is not due costs nothing. */
#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"
#include "core/wait.h"
#include "ws/dialled.h"

enum { RECENT_MS = 10 /* a check that is asked for pings nobody heard of so shortly before */ };

static uint64_t heard(const struct cpool__ws_conn *conn)
{
  return atomic_load_explicit(&conn->heard_ms, memory_order_relaxed);
}

static uint64_t after(uint64_t from_ms, int64_t ms)
{
  return ms == CPOOL_OFF ? UINT64_MAX : from_ms + (uint64_t) ms;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

static uint64_t next_due(const struct cpool__ws_conn *conn)
{
  const cpool_ws_options *options = &conn->ws->options;
  if (cpool__ws_phase(conn) == CPOOL__WS_WAITING && conn->expires_ms != 0)
    return earlier(conn->deadline_ms, conn->expires_ms);
  if (cpool__ws_phase(conn) != CPOOL__WS_UP || conn->reason != 0)
    return conn->deadline_ms;
  if (conn->paused)
    return conn->expires_ms != 0 ? conn->expires_ms : UINT64_MAX;
  uint64_t due = conn->unheard ? conn->deadline_ms : after(heard(conn), options->health_check_interval_ms);
  due = earlier(due, after(heard(conn), options->connection_timeout_ms));
  return conn->expires_ms != 0 ? earlier(due, conn->expires_ms) : due;
}

/* Of ASCII: where libwebsockets checks texts, in a context of the host's, it checks the pongs behind them, too. */
uint64_t cpool__ws_nonce(const struct cpool__ws_conn *conn)
{
  uint64_t nonce = 0, left = conn->ws->nonce ^ conn->pinged_us; /* the time is nobody's business */
  for (int shift = 0; shift < 64; shift += 8, left >>= 7)
    nonce |= (left & 0x7F) << shift;
  return nonce;
}

static void ping(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  uint64_t now_ms = cpool__runtime_now_ms(ws->rt);
  if (conn->external) {
    if (!cpool__ws_conn_note(conn, CPOOL_EVENT_WS_PING_DUE, NULL))
      return;
  } else {
    conn->pinged_us = cpool__runtime_now_us(ws->rt);
    uint64_t nonce = cpool__ws_nonce(conn);
    struct cpool__frame *frame = cpool__frame_new(CPOOL_WS_PING, &nonce, sizeof nonce, &ws->queued_bytes);
    if (frame == NULL || !cpool__ws_conn_send(conn, frame))
      return; /* what is due stays due */
  }
  conn->unheard = true;
  conn->deadline_ms = after(now_ms, ws->options.pong_timeout_ms);
  ws->now.pings++;
  cpool__ws_changed(ws);
}

enum due { DUE_NOTHING, DUE_PING, DUE_END };

static enum due check(struct cpool__ws_conn *conn, uint64_t silence_ms)
{
  uint64_t now_ms = cpool__runtime_now_ms(conn->ws->rt);
  switch (cpool__ws_phase(conn)) {
  case CPOOL__WS_WAITING:
    if (conn->expires_ms != 0 && now_ms >= conn->expires_ms)
      cpool__ws_conn_close(conn, CPOOL_WS_EXPIRED, 1008, NULL);
    else if (now_ms >= conn->deadline_ms)
      cpool__dialled_begin(conn);
    return DUE_NOTHING;
  case CPOOL__WS_HANDSHAKE:
    if (now_ms >= conn->deadline_ms)
      cpool__ws_conn_cut(conn, CPOOL_WS_HANDSHAKE);
    return DUE_NOTHING;
  case CPOOL__WS_UNDECIDED:
    if (now_ms >= conn->deadline_ms)
      cpool__ws_conn_close(conn, CPOOL_WS_REFUSED, 1008, NULL);
    return DUE_NOTHING;
  case CPOOL__WS_CLOSING:
    if (now_ms >= conn->deadline_ms)
      cpool__ws_conn_cut(conn, CPOOL_WS_LOST);
    return DUE_NOTHING;
  case CPOOL__WS_UP:
    break;
  default:
    return DUE_NOTHING;
  }
  if (conn->reason != 0) { /* cut, and soon gone, or closed by its peer, who may read no answer */
    if (now_ms >= conn->deadline_ms)
      cpool__wire_cut(&conn->wire);
    return DUE_NOTHING;
  }
  if (!conn->paused && conn->unheard && now_ms >= conn->deadline_ms) {
    cpool__ws_conn_cut(conn, CPOOL_WS_NO_PONG);
    return DUE_END;
  }
  if (!conn->paused && now_ms >= after(heard(conn), conn->ws->options.connection_timeout_ms)) {
    cpool__ws_conn_close(conn, CPOOL_WS_IDLE, 1001, NULL);
    return DUE_END;
  }
  if (conn->expires_ms != 0 && now_ms >= conn->expires_ms) {
    cpool__ws_conn_close(conn, CPOOL_WS_EXPIRED, 1008, NULL);
    return DUE_END;
  }
  if (conn->paused || conn->unheard || now_ms - heard(conn) < silence_ms)
    return DUE_NOTHING;
  ping(conn);
  return DUE_PING;
}

static uint64_t interval(const cpool_ws *ws)
{
  int64_t ms = ws->options.health_check_interval_ms;
  return ms == CPOOL_OFF ? UINT64_MAX : (uint64_t) ms;
}

static void on_due(struct cpool__timer *timer)
{
  struct cpool__ws_conn *conn = cpool__container_of(timer, struct cpool__ws_conn, timer);
  cpool_ws *ws = conn->ws;
  cpool__ws_conn_hold(conn);
  (void) check(conn, interval(ws));
  if (cpool__ws_phase(conn) != CPOOL__WS_GONE && (conn->reason == 0 || cpool__ws_phase(conn) == CPOOL__WS_CLOSING))
    cpool__ws_watch(conn);
  cpool__ws_conn_drop(conn);
}

void cpool__ws_watch(struct cpool__ws_conn *conn)
{
  cpool_runtime *rt = conn->ws->rt;
  uint64_t due = next_due(conn), now_ms = cpool__runtime_now_ms(rt);
  if (due == UINT64_MAX)
    cpool__runtime_disarm(rt, &conn->timer);
  else
    cpool__runtime_arm(rt, &conn->timer, due > now_ms ? due : now_ms + 1, on_due);
}

/* -------------------------------------------------------------------------------------------------- the check, now */

struct health_call {
  struct cpool__msg msg;
  cpool_ws *ws;
  cpool_ws_health health;
};

static int check_all(void *arg)
{
  struct health_call *call = arg;
  struct cpool__link *next;
  for (struct cpool__link *link = cpool__list_first(&call->ws->conns); link != NULL; link = next) {
    struct cpool__ws_conn *conn = cpool__container_of(link, struct cpool__ws_conn, link);
    next = cpool__list_next(&call->ws->conns, link);
    if (cpool__ws_phase(conn) != CPOOL__WS_UP)
      continue;
    call->health.checked++;
    switch (check(conn, RECENT_MS)) {
    case DUE_PING:
      call->health.pinged++;
      cpool__ws_watch(conn);
      break;
    case DUE_END:
      call->health.removed++;
      break;
    case DUE_NOTHING:
      break;
    }
  }
  return CPOOL_OK;
}

static void on_check(struct cpool__msg *msg)
{
  struct health_call *call = cpool__container_of(msg, struct health_call, msg);
  cpool_ws *ws = call->ws;
  (void) check_all(call);
  cpool__free(call);
  cpool__ws_leave(ws);
}

int cpool_ws_health_check(cpool_ws *ws, cpool_ws_health *out)
{
  int rc = cpool__ws_usable(ws);
  if (rc != CPOOL_OK)
    return rc;
  if (out == NULL) {
    struct health_call *call = cpool__calloc(1, sizeof *call);
    if (call == NULL)
      return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_health_check: no memory");
    call->msg.fn = on_check;
    call->ws = ws;
    rc = cpool__ws_post(ws, &call->msg);
    if (rc != CPOOL_OK)
      cpool__free(call);
    return rc;
  }
  struct health_call call = {.ws = ws, .health.size = sizeof call.health};
  rc = cpool__call(ws->rt, check_all, &call);
  return rc == CPOOL_OK ? cpool__struct_write(out, &call.health, sizeof call.health, "cpool_ws_health") : rc;
}
