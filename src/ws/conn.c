/* conn: one WebSocket connection's life and its place in the registry */
#include "ws/conn.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "core/log.h"
#include "ws/dialled.h"
#include "ws/hosted.h"
#include "ws/listen.h"
#include "ws/stream.h"
#include "ws/topic.h"

static int same_id(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct cpool__ws_conn *conn = cpool__container_of(entry, const struct cpool__ws_conn, by_id);
  const char *id = len < sizeof conn->short_id ? conn->short_id : conn->id; /* the address needs no look at memory */
  return conn->id_len == len && memcmp(id, key, len) == 0;
}

cpool__table_equal_fn *const cpool__ws_same_id = same_id;

/* Which phases may follow which, as bits. */
#ifndef NDEBUG
static const unsigned char legal[] = {
    [CPOOL__WS_WAITING] = 1 << CPOOL__WS_HANDSHAKE | 1 << CPOOL__WS_GONE,
    [CPOOL__WS_HANDSHAKE] = 1 << CPOOL__WS_UNDECIDED | 1 << CPOOL__WS_UP | 1 << CPOOL__WS_WAITING | 1 << CPOOL__WS_GONE,
    [CPOOL__WS_UNDECIDED] = 1 << CPOOL__WS_UP | 1 << CPOOL__WS_CLOSING | 1 << CPOOL__WS_GONE,
    [CPOOL__WS_UP] = 1 << CPOOL__WS_CLOSING | 1 << CPOOL__WS_WAITING | 1 << CPOOL__WS_GONE,
    [CPOOL__WS_CLOSING] = 1 << CPOOL__WS_WAITING | 1 << CPOOL__WS_GONE,
    [CPOOL__WS_GONE] = 0,
};
#endif

static int32_t *gauge_of(cpool_ws *ws, int phase)
{
  switch (phase) {
  case CPOOL__WS_WAITING:
    return &ws->waiting_count;
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
  static const char *const names[] = {"waiting", "handshake", "undecided", "open", "closing", "gone"};
  int from = cpool__ws_phase(conn);
  assert(legal[from] & 1u << to);
  cpool__log(cpool__runtime_log(conn->ws->rt), CPOOL_LOG_DEBUG, "ws", "%llu: %s -> %s",
             (unsigned long long) conn->handle, names[from], names[to]);
  (*gauge_of(conn->ws, from))--;
  int32_t *gauge = gauge_of(conn->ws, to);
  if (gauge != NULL)
    (*gauge)++;
  atomic_store_explicit(&conn->phase, (uint8_t) to, memory_order_relaxed);
  if (from == CPOOL__WS_HANDSHAKE || from == CPOOL__WS_UNDECIDED)
    cpool__listeners_room(conn->ws);
  cpool__ws_changed(conn->ws);
}

/* ---------------------------------------------------------------------------------------------------- make and free */

static void event_released(struct cpool__event *event)
{
  cpool__ws_conn_drop(cpool__container_of(event, struct cpool__ws_conn, closed));
}

void cpool__ws_conn_set_remote(struct cpool__ws_conn *conn, const struct cpool__address *address)
{
  pthread_mutex_lock(&conn->ws->lock);
  conn->remote = *address;
  pthread_mutex_unlock(&conn->ws->lock);
}

void cpool__ws_conn_remote(struct cpool__ws_conn *conn, char out[CPOOL__ADDRESS_TEXT])
{
  pthread_mutex_lock(&conn->ws->lock);
  struct cpool__address remote = conn->remote;
  pthread_mutex_unlock(&conn->ws->lock);
  if (remote.len != 0)
    cpool__address_text(&remote, out);
  else
    snprintf(out, CPOOL__ADDRESS_TEXT, "unix");
}

struct cpool__ws_conn *cpool__ws_conn_new(cpool_ws *ws, int phase)
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
  atomic_init(&conn->phase, (uint8_t) phase);
  atomic_init(&conn->round_trip_us, CPOOL_OFF);
  conn->opened_ms = cpool__runtime_now_ms(ws->rt);
  atomic_init(&conn->heard_ms, conn->opened_ms);
  cpool__list_init(&conn->held);
  cpool__list_init(&conn->memberships);
  conn->user = ws->options.user;
  cpool__list_push_back(&ws->conns, &conn->link);
  (*gauge_of(ws, phase))++;
  ws->now.opened++;
  cpool__ws_changed(ws);
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
  if (conn->id != conn->short_id)
    cpool__free(conn->id);
  cpool__free(conn->peer_text);
  cpool__ws_upgrade_free(conn->upgrade);
  cpool__dialled_free(conn->dialled);
  cpool__frame_drop(conn->close_frame);
  cpool__free(conn);
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

/* The name is free afterwards. */
static void replace(struct cpool__ws_conn *conn)
{
  bool ends = conn->reason != 0 || cpool__ws_phase(conn) > CPOOL__WS_UP;
  if (ends && cpool__dialled_returns(conn))
    cpool__dialled_stop(conn, CPOOL_WS_REPLACED);
  else
    cpool__ws_conn_close(conn, CPOOL_WS_REPLACED, 4001, NULL);
}

int cpool__ws_conn_register(struct cpool__ws_conn *conn, const char *id, void *user)
{
  cpool_ws *ws = conn->ws;
  size_t len = strlen(id);
  struct cpool__table_entry *entry = cpool__table_find(&ws->by_id, id, len);
  if (entry != NULL && ws->options.on_duplicate == CPOOL_WS_REJECT)
    return CPOOL_EEXIST;
  if (entry == NULL && ws->registered_count >= ws->options.max_connections)
    return CPOOL_EFULL;
  char *own = len < sizeof conn->short_id ? conn->short_id : cpool__malloc(len + 1);
  if (own == NULL)
    return CPOOL_ENOMEM;
  if (entry != NULL)
    replace(cpool__container_of(entry, struct cpool__ws_conn, by_id));
  pthread_mutex_lock(&ws->lock);
  if (conn->id != conn->short_id)
    cpool__free(conn->id);
  memcpy(own, id, len + 1);
  conn->id = own;
  conn->id_len = (uint8_t) len;
  bool inserted = cpool__table_insert(&ws->by_id, &conn->by_id, own, len) == 0;
  pthread_mutex_unlock(&ws->lock);
  if (!inserted)
    return CPOOL_ENOMEM;
  ws->registered_count++;
  conn->registered = conn->told = true;
  conn->user = user != NULL ? user : ws->options.user;
  cpool__ws_changed(ws);
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
  cpool__ws_changed(ws);
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

/* NULL: out of memory. */
static struct cpool__ws_note *note_new(struct cpool__ws_conn *conn, const char *text)
{
  size_t len = text != NULL ? strlen(text) : 0;
  struct cpool__ws_note *note = cpool__calloc(1, sizeof *note + len + 1);
  if (note == NULL)
    return NULL;
  note->conn = conn;
  note->event.bytes = sizeof *note + len;
  note->event.release = note_released;
  if (text != NULL) {
    note->event.event.data = memcpy(note->text, text, len);
    note->event.event.len = len;
  }
  return note;
}

/* Bears its message to the loop, so that a release cannot fail. */
struct drained {
  struct cpool__event event;
  struct cpool__ws_conn *conn;
  struct cpool__msg msg;
};

static void drained_free(struct drained *drained)
{
  cpool__ws_conn_drop(drained->conn);
  cpool__free(drained);
}

static void on_drained_released(struct cpool__msg *msg)
{
  struct drained *drained = cpool__container_of(msg, struct drained, msg);
  cpool_ws *ws = drained->conn->ws;
  cpool__ws_conn_drained(drained->conn);
  drained_free(drained);
  cpool__ws_leave(ws);
}

/* Any thread. The manager is looked at only when it waits for the message. */
static void drained_released(struct cpool__event *event)
{
  struct drained *drained = cpool__container_of(event, struct drained, event);
  if (atomic_exchange(&drained->conn->drained, CPOOL__WS_DRAINED_NONE) == CPOOL__WS_DRAINED_AGAIN)
    cpool__runtime_post(drained->conn->ws->rt, &drained->msg);
  else
    drained_free(drained);
}

/* True: the last event is with its consumer still; the next one comes with its release. */
static bool after_the_last(struct cpool__ws_conn *conn)
{
  uint8_t last = CPOOL__WS_DRAINED_OUT;
  atomic_fetch_add(&conn->ws->inflight_count, 1);
  if (atomic_compare_exchange_strong(&conn->drained, &last, CPOOL__WS_DRAINED_AGAIN))
    return true;
  atomic_fetch_sub(&conn->ws->inflight_count, 1);
  return last == CPOOL__WS_DRAINED_AGAIN;
}

/* Its last event may be released whenever: nobody waits for that any more. */
static void forget_drained(struct cpool__ws_conn *conn)
{
  uint8_t last = CPOOL__WS_DRAINED_AGAIN;
  if (atomic_compare_exchange_strong(&conn->drained, &last, CPOOL__WS_DRAINED_OUT))
    atomic_fetch_sub(&conn->ws->inflight_count, 1);
}

bool cpool__ws_conn_note(struct cpool__ws_conn *conn, int kind, const char *text)
{
  struct cpool__ws_note *note = note_new(conn, text);
  if (note != NULL)
    cpool__ws_conn_deliver(conn, &note->event, kind);
  return note != NULL;
}

/* Why it ended, or is down. */
static void describe_end(const struct cpool__ws_conn *conn, cpool_event *event)
{
  event->reason = conn->reason;
  event->close_code = conn->close_code != 0 ? conn->close_code : 1006;
  if (conn->dialled == NULL)
    return;
  event->status = conn->dialled->status;
  event->http_status = conn->dialled->http_status;
}

/* The peer's text, or what became of the dial. */
static const char *end_text(const struct cpool__ws_conn *conn)
{
  if (conn->peer_text != NULL)
    return conn->peer_text;
  const struct cpool__dialled *dialled = conn->dialled;
  return dialled != NULL && dialled->status != CPOOL_OK && dialled->text != NULL ? dialled->text : "";
}

bool cpool__ws_conn_disconnected(struct cpool__ws_conn *conn, int64_t retry_ms)
{
  struct cpool__ws_note *note = note_new(conn, end_text(conn));
  if (note == NULL)
    return false;
  describe_end(conn, &note->event.event);
  note->event.event.retry_ms = retry_ms;
  cpool__ws_conn_deliver(conn, &note->event, CPOOL_EVENT_WS_DISCONNECTED);
  return true;
}

void cpool__ws_conn_drained(struct cpool__ws_conn *conn)
{
  if (!atomic_load(&conn->wants_drained) || cpool__ws_phase(conn) != CPOOL__WS_UP || conn->reason != 0 ||
      !cpool__ws_half_empty(conn) || (atomic_load(&conn->drained) != CPOOL__WS_DRAINED_NONE && after_the_last(conn)))
    return;
  struct drained *drained = cpool__calloc(1, sizeof *drained);
  if (drained == NULL) { /* who waits for it would wait for ever */
    cpool__ws_conn_cut(conn, CPOOL_WS_NO_MEMORY);
    return;
  }
  atomic_store(&conn->wants_drained, false);
  atomic_store(&conn->drained, CPOOL__WS_DRAINED_OUT);
  drained->conn = conn;
  drained->msg.fn = on_drained_released;
  drained->event.bytes = sizeof *drained;
  drained->event.release = drained_released;
  cpool__ws_conn_deliver(conn, &drained->event, CPOOL_EVENT_WS_DRAINED);
}

/* --------------------------------------------------------------------------------------------------------------- end */

void cpool__ws_conn_open(struct cpool__ws_conn *conn, const char *text)
{
  cpool__ws_conn_move(conn, CPOOL__WS_UP);
  conn->unheard = false;
  atomic_store_explicit(&conn->heard_ms, cpool__runtime_now_ms(conn->ws->rt), memory_order_relaxed);
  if (!cpool__ws_conn_note(conn, CPOOL_EVENT_WS_OPEN, text)) {
    cpool__ws_conn_cut(conn, CPOOL_WS_NO_MEMORY);
    return;
  }
  cpool__ws_watch(conn);
  cpool__ws_release_held(conn);
}

/* Its name and its topics are free, unless it comes back. */
static void depart(struct cpool__ws_conn *conn)
{
  if (cpool__dialled_returns(conn))
    return;
  cpool__ws_conn_unregister(conn);
  cpool__topic_leave_all(conn);
}

/* One without a socket, or with one that is not open yet. */
static void give_up(struct cpool__ws_conn *conn)
{
  if (conn->external)
    cpool__ws_conn_gone(conn);
  else if (conn->dialled != NULL && conn->wire.wsi == NULL)
    cpool__dialled_down(conn);
  else
    cpool__wire_cut(&conn->wire);
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
  depart(conn);
  cpool__ws_forget_incoming(conn);
  if (phase <= CPOOL__WS_HANDSHAKE) {
    cpool__frame_drop(frame);
    give_up(conn);
    return;
  }
  cpool__ws_conn_move(conn, CPOOL__WS_CLOSING);
  if (conn->close_code == 0)
    conn->close_code = (int16_t) code;
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
  depart(conn);
  if (conn->wire.wsi != NULL) {
    cpool__runtime_disarm(conn->ws->rt, &conn->timer);
    cpool__ws_pause(conn, false); /* else nobody would look at the socket's end */
  }
  give_up(conn);
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

void cpool__ws_conn_clear(struct cpool__ws_conn *conn)
{
  cpool__runtime_disarm(conn->ws->rt, &conn->timer);
  cpool__ws_forget_incoming(conn);
  cpool__ws_pause_over(conn);
  cpool__ws_stream_end(conn);
  cpool__ws_clear_backlog(conn);
  cpool__link_remove(&conn->flush_link);
}

void cpool__ws_conn_gone(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  if (conn->reason == 0)
    conn->reason = cpool__ws_phase(conn) <= CPOOL__WS_HANDSHAKE ? CPOOL_WS_HANDSHAKE : CPOOL_WS_LOST;
  cpool__ws_conn_move(conn, CPOOL__WS_GONE);
  cpool__ws_conn_unregister(conn);
  cpool__topic_leave_all(conn);
  forget_drained(conn);
  cpool__ws_conn_clear(conn);
  cpool__link_remove(&conn->link);
  cpool__listener_left(conn);
  cpool__hosted_left(conn);
  pthread_mutex_lock(&ws->lock);
  cpool__ids_give(&ws->ids, conn->handle);
  pthread_mutex_unlock(&ws->lock);
  count_end(conn);
  if (conn->told) {
    conn->closed = (struct cpool__event){.release = event_released, .bytes = sizeof *conn};
    describe_end(conn, &conn->closed.event);
    conn->closed.event.data = end_text(conn);
    conn->closed.event.len = strlen(end_text(conn));
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
