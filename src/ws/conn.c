/* conn: one WebSocket connection's life and its place in the registry */
#include "ws/conn.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "core/log.h"
#include "ws/hosted.h"
#include "ws/listen.h"
#include "ws/stream.h"
#include "ws/topic.h"

static int same_id(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct cpool__ws_conn *conn = cpool__container_of(entry, const struct cpool__ws_conn, by_id);
  return conn->id_len == len && memcmp(conn->id, key, len) == 0;
}

cpool__table_equal_fn *const cpool__ws_same_id = same_id;

/* Which phases may follow which, as bits. */
#ifndef NDEBUG
static const unsigned char legal[] = {
    [CPOOL__WS_HANDSHAKE] = 1 << CPOOL__WS_UNDECIDED | 1 << CPOOL__WS_UP | 1 << CPOOL__WS_GONE,
    [CPOOL__WS_UNDECIDED] = 1 << CPOOL__WS_UP | 1 << CPOOL__WS_CLOSING | 1 << CPOOL__WS_GONE,
    [CPOOL__WS_UP] = 1 << CPOOL__WS_CLOSING | 1 << CPOOL__WS_GONE,
    [CPOOL__WS_CLOSING] = 1 << CPOOL__WS_GONE,
};
#endif

static int32_t *gauge_of(cpool_ws *ws, int phase)
{
  switch (phase) {
  case CPOOL__WS_HANDSHAKE:
    return &ws->handshake_count;
  case CPOOL__WS_UNDECIDED:
    return &ws->undecided_count;
  case CPOOL__WS_UP:
    return &ws->open_count;
  case CPOOL__WS_CLOSING:
    return &ws->closing_count;
  default:
    return NULL;
  }
}

void cpool__ws_conn_move(struct cpool__ws_conn *conn, int to)
{
  static const char *const names[] = {"handshake", "undecided", "open", "closing", "gone"};
  int from = cpool__ws_phase(conn);
  assert(legal[from] & 1u << to);
  cpool__log(cpool__runtime_log(conn->ws->rt), CPOOL_LOG_DEBUG, "ws", "%llu %s: %s -> %s",
             (unsigned long long) conn->handle, conn->remote_address, names[from], names[to]);
  (*gauge_of(conn->ws, from))--;
  int32_t *gauge = gauge_of(conn->ws, to);
  if (gauge != NULL)
    (*gauge)++;
  atomic_store_explicit(&conn->phase, (uint8_t) to, memory_order_relaxed);
  if (from == CPOOL__WS_HANDSHAKE || from == CPOOL__WS_UNDECIDED)
    cpool__listeners_room(conn->ws);
  cpool__ws_touch(conn->ws);
}

/* ---------------------------------------------------------------------------------------------------- make and free */

static void event_released(struct cpool__event *event)
{
  cpool__ws_conn_drop(cpool__container_of(event, struct cpool__ws_conn, closed));
}

static void drained_released(struct cpool__event *event)
{
  struct cpool__ws_conn *conn = cpool__container_of(event, struct cpool__ws_conn, drained);
  atomic_store(&conn->drained_out, false);
  cpool__ws_conn_drop(conn);
}

struct cpool__ws_conn *cpool__ws_conn_new(cpool_ws *ws)
{
  struct cpool__ws_conn *conn = cpool__calloc(1, sizeof *conn);
  if (conn == NULL)
    return NULL;
  pthread_mutex_lock(&ws->lock);
  conn->handle = cpool__ids_take(&ws->ids, conn);
  pthread_mutex_unlock(&ws->lock);
  if (conn->handle == 0) {
    cpool__free(conn);
    return NULL;
  }
  conn->ws = ws;
  atomic_init(&conn->refs, 1);
  atomic_init(&conn->round_trip_us, CPOOL_OFF);
  conn->opened_ms = cpool__runtime_now_ms(ws->rt);
  atomic_init(&conn->heard_ms, conn->opened_ms);
  cpool__list_init(&conn->held);
  cpool__list_init(&conn->memberships);
  conn->closed.release = event_released;
  conn->closed.bytes = sizeof *conn;
  conn->drained.release = drained_released;
  conn->drained.bytes = sizeof conn->drained;
  conn->user = ws->options.user;
  cpool__list_push_back(&ws->conns, &conn->link);
  ws->handshake_count++;
  ws->now.opened++;
  cpool__ws_touch(ws);
  return conn;
}

void cpool__ws_conn_hold(struct cpool__ws_conn *conn)
{
  atomic_fetch_add_explicit(&conn->refs, 1, memory_order_relaxed);
}

void cpool__ws_conn_drop(struct cpool__ws_conn *conn)
{
  if (atomic_fetch_sub_explicit(&conn->refs, 1, memory_order_acq_rel) > 1)
    return;
  cpool__free(conn->id);
  cpool__free(conn->peer_text);
  cpool__ws_upgrade_free(conn->upgrade);
  cpool__frame_drop(conn->close_frame);
  cpool__free(conn);
}

struct cpool__ws_conn *cpool__ws_conn_of(cpool_ws *ws, cpool_conn handle)
{
  return cpool__ids_get(&ws->ids, handle);
}

struct cpool__ws_conn *cpool__ws_conn_borrow(cpool_ws *ws, cpool_conn handle)
{
  bool on_loop = cpool__runtime_on_loop(ws->rt);
  if (!on_loop)
    pthread_mutex_lock(&ws->lock);
  struct cpool__ws_conn *conn = cpool__ids_get(&ws->ids, handle);
  if (conn != NULL)
    cpool__ws_conn_hold(conn);
  if (!on_loop)
    pthread_mutex_unlock(&ws->lock);
  return conn;
}

/* ---------------------------------------------------------------------------------------------------------- registry */

int cpool__ws_conn_register(struct cpool__ws_conn *conn, const char *id, void *user)
{
  cpool_ws *ws = conn->ws;
  size_t len = strlen(id);
  struct cpool__table_entry *entry = cpool__table_find(&ws->by_id, id, len);
  if (entry != NULL && ws->options.on_duplicate == CPOOL_WS_REJECT)
    return CPOOL_EEXIST;
  if (entry == NULL && ws->registered_count >= ws->options.max_connections)
    return CPOOL_EFULL;
  char *own = cpool__strdup(id);
  if (own == NULL)
    return CPOOL_ENOMEM;
  if (entry != NULL)
    cpool__ws_conn_close(cpool__container_of(entry, struct cpool__ws_conn, by_id), CPOOL_WS_REPLACED, 4001, NULL);
  pthread_mutex_lock(&ws->lock);
  cpool__free(conn->id);
  conn->id = own;
  conn->id_len = len;
  bool inserted = cpool__table_insert(&ws->by_id, &conn->by_id, own, len) == 0;
  pthread_mutex_unlock(&ws->lock);
  if (!inserted)
    return CPOOL_ENOMEM;
  ws->registered_count++;
  conn->registered = conn->told = true;
  conn->user = user != NULL ? user : ws->options.user;
  cpool__ws_touch(ws);
  return CPOOL_OK;
}

void cpool__ws_conn_unregister(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  if (!conn->registered)
    return;
  pthread_mutex_lock(&ws->lock);
  cpool__table_remove(&ws->by_id, &conn->by_id);
  pthread_mutex_unlock(&ws->lock);
  ws->registered_count--;
  conn->registered = false;
  cpool__ws_touch(ws);
}

/* ------------------------------------------------------------------------------------------------------------ events */

void cpool__ws_conn_deliver(struct cpool__ws_conn *conn, struct cpool__event *event, int kind)
{
  cpool_ws *ws = conn->ws;
  cpool__ws_conn_hold(conn);
  event->event.kind = kind;
  event->event.source = conn->handle;
  event->event.user = conn->user;
  event->event.conn_id = conn->id != NULL ? conn->id : "";
  event->queue = ws->options.queue;
  event->fn = ws->options.on_event;
  if (event->queue != NULL) {
    cpool__queue_hold(event->queue);
    if (!event->counted)
      cpool__queue_count(event->queue, event);
  }
  cpool__runtime_deliver(ws->rt, event);
}

static void note_released(struct cpool__event *event)
{
  struct cpool__ws_note *note = cpool__container_of(event, struct cpool__ws_note, event);
  cpool__ws_conn_drop(note->conn);
  cpool__free(note);
}

bool cpool__ws_conn_note(struct cpool__ws_conn *conn, int kind)
{
  struct cpool__ws_note *note = cpool__calloc(1, sizeof *note);
  if (note == NULL)
    return false;
  note->conn = conn;
  note->event.bytes = sizeof *note;
  note->event.release = note_released;
  cpool__ws_conn_deliver(conn, &note->event, kind);
  return true;
}

void cpool__ws_conn_drained(struct cpool__ws_conn *conn)
{
  if (!atomic_load(&conn->wants_drained) || cpool__ws_phase(conn) != CPOOL__WS_UP || conn->reason != 0 ||
      atomic_load(&conn->drained_out) || !cpool__ws_half_empty(conn))
    return;
  atomic_store(&conn->wants_drained, false);
  atomic_store(&conn->drained_out, true);
  conn->drained.counted = false;
  cpool__ws_conn_deliver(conn, &conn->drained, CPOOL_EVENT_WS_DRAINED);
}

/* --------------------------------------------------------------------------------------------------------------- end */

void cpool__ws_conn_open(struct cpool__ws_conn *conn)
{
  cpool__ws_conn_move(conn, CPOOL__WS_UP);
  conn->unheard = false;
  atomic_store_explicit(&conn->heard_ms, cpool__runtime_now_ms(conn->ws->rt), memory_order_relaxed);
  if (!cpool__ws_conn_note(conn, CPOOL_EVENT_WS_OPEN)) {
    cpool__ws_conn_cut(conn, CPOOL_WS_NO_MEMORY);
    return;
  }
  cpool__ws_watch(conn);
  cpool__ws_release_held(conn);
}

void cpool__ws_conn_close(struct cpool__ws_conn *conn, int reason, int code, struct cpool__frame *frame)
{
  cpool_ws *ws = conn->ws;
  int phase = cpool__ws_phase(conn);
  if (phase == CPOOL__WS_GONE || phase == CPOOL__WS_CLOSING) {
    cpool__frame_drop(frame);
    return;
  }
  if (conn->reason == 0)
    conn->reason = (uint8_t) reason;
  cpool__ws_conn_unregister(conn);
  cpool__topic_leave_all(conn);
  cpool__ws_forget_incoming(conn);
  if (phase == CPOOL__WS_HANDSHAKE) {
    cpool__frame_drop(frame);
    cpool__wire_cut(&conn->wire);
    return;
  }
  cpool__ws_conn_move(conn, CPOOL__WS_CLOSING);
  if (conn->close_code == 0)
    conn->close_code = code;
  if (conn->external) {
    cpool__frame_drop(frame);
    cpool__ws_conn_gone(conn);
    return;
  }
  conn->close_frame = frame;
  conn->deadline_ms = cpool__runtime_now_ms(ws->rt) + (uint64_t) ws->options.close_timeout_ms;
  cpool__ws_pause(conn, false); /* the peer's answer is wanted */
  cpool__ws_flush_soon(conn);
  cpool__ws_watch(conn);
}

void cpool__ws_conn_cut(struct cpool__ws_conn *conn, int reason)
{
  if (cpool__ws_phase(conn) == CPOOL__WS_GONE)
    return;
  if (conn->reason == 0)
    conn->reason = (uint8_t) reason;
  cpool__ws_conn_unregister(conn);
  cpool__topic_leave_all(conn);
  if (conn->external) {
    cpool__ws_conn_gone(conn);
    return;
  }
  cpool__runtime_disarm(conn->ws->rt, &conn->timer);
  cpool__ws_pause(conn, false); /* else nobody would look at the socket's end */
  cpool__wire_cut(&conn->wire);
}

static void count_end(struct cpool__ws_conn *conn)
{
  cpool_ws_stats *now = &conn->ws->now;
  uint64_t *const counters[] = {
      [CPOOL_WS_BY_PEER] = &now->closed_by_peer,     [CPOOL_WS_BY_CALLER] = &now->closed_by_caller,
      [CPOOL_WS_LOST] = &now->closed_lost,           [CPOOL_WS_NO_PONG] = &now->closed_no_pong,
      [CPOOL_WS_IDLE] = &now->closed_idle,           [CPOOL_WS_EXPIRED] = &now->closed_expired,
      [CPOOL_WS_PROTOCOL] = &now->closed_protocol,   [CPOOL_WS_TOO_BIG] = &now->closed_too_big,
      [CPOOL_WS_OVERFLOW] = &now->closed_overflow,   [CPOOL_WS_REPLACED] = &now->closed_replaced,
      [CPOOL_WS_REFUSED] = &now->closed_refused,     [CPOOL_WS_HANDSHAKE] = &now->closed_handshake,
      [CPOOL_WS_NO_MEMORY] = &now->closed_no_memory, [CPOOL_WS_MANAGER] = &now->closed_manager};
  assert(conn->reason > 0 && conn->reason < sizeof counters / sizeof *counters);
  now->closed++;
  (*counters[conn->reason])++;
}

void cpool__ws_conn_gone(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  if (conn->reason == 0)
    conn->reason = cpool__ws_phase(conn) == CPOOL__WS_HANDSHAKE ? CPOOL_WS_HANDSHAKE : CPOOL_WS_LOST;
  cpool__ws_conn_move(conn, CPOOL__WS_GONE);
  cpool__runtime_disarm(ws->rt, &conn->timer);
  cpool__ws_conn_unregister(conn);
  cpool__topic_leave_all(conn);
  cpool__ws_forget_incoming(conn);
  cpool__ws_pause_over(conn);
  cpool__ws_stream_end(conn);
  cpool__ws_clear_backlog(conn);
  cpool__link_remove(&conn->flush_link);
  cpool__link_remove(&conn->link);
  cpool__listener_left(conn);
  cpool__hosted_left(conn);
  pthread_mutex_lock(&ws->lock);
  cpool__ids_give(&ws->ids, conn->handle);
  pthread_mutex_unlock(&ws->lock);
  count_end(conn);
  if (conn->told) {
    conn->closed.event.reason = conn->reason;
    conn->closed.event.close_code = conn->close_code != 0 ? conn->close_code : 1006;
    conn->closed.event.data = conn->peer_text != NULL ? conn->peer_text : "";
    conn->closed.event.len = conn->peer_text != NULL ? strlen(conn->peer_text) : 0;
    cpool__ws_conn_deliver(conn, &conn->closed, CPOOL_EVENT_WS_CLOSED);
  }
  cpool__ws_conn_drop(conn);
  cpool__ws_go_on_closing(ws);
}

void cpool__ws_conn_heard(struct cpool__ws_conn *conn)
{
  atomic_store_explicit(&conn->heard_ms, cpool__runtime_now_ms(conn->ws->rt), memory_order_relaxed);
  conn->unheard = false;
}
