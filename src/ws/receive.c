/* receive: what comes in from a socket: messages, pongs, the peer's close
 *
 *   a piece that is a whole message -> an event; others -> gathered in one that grows, within max_message_bytes
 *   before the caller has accepted  -> whole messages are held, reading is paused
 *   the queue is above its mark     -> reading is paused until it is at the low one
 *   with stream_messages            -> ws/stream: pieces at once; their window's mark is as the queue's
 *
 * Reading is paused and goes on in a task of the turn: inside of a callback of libwebsockets, over TLS, it would look for ever
 * at what it has read already. */
#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "core/water.h"
#include "ws/dialled.h"
#include "ws/stream.h"

enum { FRAGMENT_BYTES = 64 /* that each fragment of a message counts beside its own */ };

struct cpool__message {
  struct cpool__event event; /* first; its link also holds it in `held` */
  struct cpool__ws_conn *conn;
  size_t capacity, fragments;
  size_t checked; /* of a text: so many bytes are UTF-8 */
  char data[];
};

/* Only while a connection waits: thousands of idle ones do not. */
struct cpool__ws_pause {
  struct cpool__water_waiter waiter;
  struct cpool__ws_conn *conn;
  struct cpool__budget *window; /* that it waits at; NULL: at the queue */
};

/* ---------------------------------------------------------------------------------------------------------- messages */

static void message_released(struct cpool__event *event)
{
  struct cpool__message *message = cpool__container_of(event, struct cpool__message, event);
  cpool__ws_conn_drop(message->conn);
  cpool__free(message);
}

/* Room for `capacity` bytes in all and a NUL. False: out of memory, nothing changed. */
static bool reserve(struct cpool__message **message, size_t capacity)
{
  bool fresh = *message == NULL;
  if (!fresh && (*message)->capacity >= capacity)
    return true;
  struct cpool__message *grown = cpool__realloc(*message, sizeof *grown + capacity + 1);
  if (grown == NULL)
    return false;
  if (fresh)
    memset(grown, 0, sizeof *grown);
  grown->capacity = capacity;
  *message = grown;
  return true;
}

static void deliver(struct cpool__ws_conn *conn, struct cpool__message *message)
{
  message->event.bytes = sizeof *message + message->event.event.len;
  message->event.release = message_released;
  cpool__ws_conn_deliver(conn, &message->event, CPOOL_EVENT_WS_MESSAGE);
}

static void complete(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  struct cpool__message *message = conn->incoming;
  conn->incoming = NULL;
  message->conn = conn;
  message->event.event.data = message->data;
  message->data[message->event.event.len] = '\0';
  ws->now.messages_received++;
  ws->now.bytes_received += message->event.event.len;
  atomic_fetch_add_explicit(&conn->messages_received, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&conn->bytes_received, message->event.event.len, memory_order_relaxed);
  cpool__ws_changed(ws);
  if (cpool__ws_phase(conn) == CPOOL__WS_UP) {
    deliver(conn, message);
    if (cpool__ws_above(conn))
      cpool__ws_pause(conn, true);
  } else {
    cpool__list_push_back(&conn->held, &message->event.link);
  }
}

void cpool__ws_release_held(struct cpool__ws_conn *conn)
{
  for (struct cpool__link *link; (link = cpool__list_pop_front(&conn->held)) != NULL;) {
    struct cpool__event *event = cpool__container_of(link, struct cpool__event, link);
    if (conn->ws->options.stream_messages == 1)
      cpool__ws_stream_deliver(conn, event);
    else
      deliver(conn, cpool__container_of(event, struct cpool__message, event));
  }
  cpool__ws_pause(conn, cpool__ws_above(conn));
}

void cpool__ws_forget_incoming(struct cpool__ws_conn *conn)
{
  cpool__free(conn->incoming);
  conn->incoming = NULL;
  cpool__ws_stream_forget(conn);
  for (struct cpool__link *link; (link = cpool__list_pop_front(&conn->held)) != NULL;)
    cpool__free(cpool__container_of(link, struct cpool__event, link)); /* first in a message, and in a piece */
}

/* Room to take: what the first frame declares; then twice what there is, so that a message of many small frames is not copied
 * with each of them. */
static size_t wanted(const struct cpool__message *message, size_t have, const struct cpool__wire_piece *piece,
                     size_t cap)
{
  size_t now = have + piece->len;
  if (message == NULL)
    return now + piece->rest;
  if (now <= message->capacity || piece->last)
    return now;
  size_t doubled = message->capacity < cap / 2 ? message->capacity * 2 : cap;
  return now > doubled ? now : doubled;
}

/* libwebsockets could check texts, but it takes pongs behind a text for parts of it, and misses a character that is cut off
 * before an empty last frame. False: it is no text. */
static bool check_text(struct cpool__message *message, bool last)
{
  const struct cpool_event *event = &message->event.event;
  size_t left = event->len - message->checked, whole;
  if (event->ws_kind != CPOOL_WS_TEXT)
    return true;
  if (!cpool__utf8_part(message->data + message->checked, left, &whole))
    return false;
  message->checked += whole;
  return !last || whole == left;
}

static void take(struct cpool__ws_conn *conn, const struct cpool__wire_piece *piece)
{
  size_t cap = (size_t) conn->ws->options.max_message_bytes;
  size_t have = conn->incoming != NULL ? conn->incoming->event.event.len : 0;
  size_t overhead = conn->incoming != NULL ? conn->incoming->fragments * FRAGMENT_BYTES : 0;
  if (piece->len > cap || piece->rest > cap || have + piece->len + piece->rest > cap ||
      have + piece->len + piece->rest + overhead > cap + FRAGMENT_BYTES) {
    cpool__ws_conn_close(conn, CPOOL_WS_TOO_BIG, 1009, NULL);
    return;
  }
  if (!reserve(&conn->incoming, wanted(conn->incoming, have, piece, cap))) {
    cpool__ws_conn_close(conn, CPOOL_WS_NO_MEMORY, 1011, NULL);
    return;
  }
  struct cpool_event *event = &conn->incoming->event.event;
  if (piece->first)
    event->ws_kind = piece->text ? CPOOL_WS_TEXT : CPOOL_WS_BINARY;
  if (piece->len > 0)
    memcpy(conn->incoming->data + have, piece->data, piece->len);
  event->len = have + piece->len;
  if (!check_text(conn->incoming, piece->last)) {
    cpool__ws_conn_close(conn, CPOOL_WS_PROTOCOL, 1007, NULL);
    return;
  }
  if (piece->rest == 0)
    conn->incoming->fragments++;
  if (piece->last)
    complete(conn);
}

static void received(struct cpool__wire *wire, const struct cpool__wire_piece *piece)
{
  struct cpool__ws_conn *conn = cpool__container_of(wire, struct cpool__ws_conn, wire);
  cpool__ws_conn_heard(conn);
  int phase = cpool__ws_phase(conn);
  if ((phase != CPOOL__WS_UP && phase != CPOOL__WS_UNDECIDED) || conn->reason != 0)
    return; /* behind a close frame, ours or the peer's, or a cut, nothing is read */
  bool begun = conn->incoming != NULL || cpool__ws_stream_begun(conn);
  if (piece->first == begun) { /* libwebsockets has skipped an empty frame without a mask */
    cpool__ws_conn_close(conn, CPOOL_WS_PROTOCOL, 1002, NULL);
    return;
  }
  if (conn->ws->options.stream_messages == 1)
    cpool__ws_stream_take(conn, piece);
  else
    take(conn, piece);
}

/* ------------------------------------------------------------------------------------------------------------- pauses */

bool cpool__ws_above(const struct cpool__ws_conn *conn)
{
  const cpool_queue *queue = conn->ws->options.queue;
  return !conn->external && ((queue != NULL && cpool__queue_above(queue)) || cpool__ws_stream_above(conn));
}

void cpool__ws_pause(struct cpool__ws_conn *conn, bool on)
{
  conn->wants_pause = on && conn->reason == 0; /* the end of a socket is seen by reading */
  cpool__ws_flush_soon(conn);
}

static void pause_free(struct cpool__ws_pause *pause)
{
  pause->conn->pause = NULL;
  cpool__budget_drop(pause->window);
  cpool__ws_conn_drop(pause->conn);
  cpool__free(pause);
}

/* One mark is low: the other one need not be. */
static void on_low_water(struct cpool__msg *msg)
{
  struct cpool__ws_pause *pause = cpool__container_of(msg, struct cpool__ws_pause, waiter.msg);
  struct cpool__ws_conn *conn = pause->conn;
  if (cpool__ws_phase(conn) != CPOOL__WS_GONE)
    cpool__ws_pause(conn, cpool__ws_phase(conn) == CPOOL__WS_UP);
  pause_free(pause);
}

/* False: both are low already. */
static bool wait_with(struct cpool__ws_pause *pause)
{
  cpool_queue *queue = pause->conn->ws->options.queue;
  struct cpool__ws_stream *stream = pause->conn->stream;
  if (queue != NULL && cpool__queue_pause(queue, &pause->waiter))
    return true;
  if (stream == NULL || !cpool__budget_pause(stream->window, &pause->waiter))
    return false;
  pause->window = cpool__budget_hold(stream->window);
  return true;
}

/* At the mark of queue or window until it is low. False: both are low already, or for want of memory the connection is
 * closed. */
static bool wait_at_mark(struct cpool__ws_conn *conn)
{
  if (conn->pause != NULL)
    return true;
  if (!cpool__ws_above(conn))
    return false;
  struct cpool__ws_pause *pause = cpool__calloc(1, sizeof *pause);
  if (pause == NULL) {
    cpool__ws_conn_close(conn, CPOOL_WS_NO_MEMORY, 1011, NULL); /* it would go on beyond the mark */
    return false;
  }
  pause->conn = conn;
  pause->waiter.runtime = conn->ws->rt;
  pause->waiter.msg.fn = on_low_water;
  conn->pause = pause;
  cpool__ws_conn_hold(conn);
  if (wait_with(pause))
    return true;
  pause_free(pause);
  return false;
}

static void stop_waiting(struct cpool__ws_conn *conn)
{
  struct cpool__ws_pause *pause = conn->pause;
  if (pause == NULL)
    return;
  if (pause->window != NULL ? cpool__budget_unpause(pause->window, &pause->waiter)
                            : cpool__queue_unpause(conn->ws->options.queue, &pause->waiter))
    pause_free(pause); /* else its message is on the way, and finds nothing to do */
}

void cpool__ws_settle(struct cpool__ws_conn *conn)
{
  cpool__ws_stream_flush(conn);
  bool on = conn->wants_pause;
  if (on && cpool__ws_phase(conn) == CPOOL__WS_UP)
    on = wait_at_mark(conn);
  else if (!on)
    stop_waiting(conn);
  if (on == conn->paused)
    return;
  conn->paused = on;
  conn->ws->paused_count += on ? 1 : -1;
  cpool__wire_pause(&conn->wire, on);
  if (on || cpool__ws_phase(conn) != CPOOL__WS_UP || conn->reason != 0)
    return;
  cpool__ws_conn_heard(conn); /* while it was not listened to it was not silent */
  cpool__ws_watch(conn);
}

void cpool__ws_pause_over(struct cpool__ws_conn *conn)
{
  conn->wants_pause = false;
  cpool__ws_settle(conn);
}

/* -------------------------------------------------------------------------------------------------- pongs and the close */

static void pong(struct cpool__wire *wire, const void *data, size_t len)
{
  struct cpool__ws_conn *conn = cpool__container_of(wire, struct cpool__ws_conn, wire);
  uint64_t nonce;
  cpool__ws_conn_heard(conn);
  if (len != sizeof nonce || conn->pinged_us == 0)
    return;
  memcpy(&nonce, data, sizeof nonce);
  if (nonce != cpool__ws_nonce(conn))
    return;
  conn->ws->now.pongs++;
  uint64_t us = cpool__runtime_now_us(conn->ws->rt) - conn->pinged_us;
  conn->pinged_us = 0;
  atomic_store_explicit(&conn->round_trip_us, us < INT32_MAX ? (int32_t) us : INT32_MAX, memory_order_relaxed);
  cpool__ws_changed(conn->ws);
}

static void keep_text(struct cpool__ws_conn *conn, const unsigned char *text, size_t len)
{
  cpool__free(conn->peer_text);
  conn->peer_text = cpool__malloc(len + 1);
  if (conn->peer_text == NULL)
    return;
  memcpy(conn->peer_text, text, len);
  conn->peer_text[len] = '\0';
}

/* The answer to its first close goes out by libwebsockets, and may take as long as one of ours. */
static void await_end(struct cpool__ws_conn *conn, int reason)
{
  if (conn->reason != 0)
    return;
  conn->reason = (uint8_t) reason;
  if (cpool__ws_phase(conn) != CPOOL__WS_UP)
    return;
  conn->deadline_ms = cpool__runtime_now_ms(conn->ws->rt) + (uint64_t) conn->ws->options.close_timeout_ms;
  cpool__ws_watch(conn);
}

/* libwebsockets would send back what it got: codes that nobody may send, and texts that are none, too. */
static bool peer_closes(struct cpool__wire *wire, const unsigned char *payload, size_t len)
{
  struct cpool__ws_conn *conn = cpool__container_of(wire, struct cpool__ws_conn, wire);
  cpool__ws_conn_heard(conn);
  if (conn->close_sent)
    return false;
  int code = len >= 2 ? payload[0] << 8 | payload[1] : 1005;
  bool valid = len != 1 && (len == 0 || cpool__close_code_valid(code));
  bool readable = len <= 2 || cpool__utf8_valid(payload + 2, len - 2);
  cpool__ws_conn_flush(conn); /* libwebsockets drops what it still has then */
  if (conn->close_sent)       /* ours was behind that */
    return false;
  await_end(conn, valid && readable ? CPOOL_WS_BY_PEER : CPOOL_WS_PROTOCOL);
  if (valid && readable) {
    if (conn->close_code == 0)
      conn->close_code = (int16_t) code;
    if (len > 2)
      keep_text(conn, payload + 2, len - 2);
    return true;
  }
  if (conn->close_code == 0)
    conn->close_code = valid ? 1007 : 1002;
  struct cpool__frame *frame = cpool__frame_close(conn->close_code, NULL, 0);
  if (frame != NULL && !cpool__wire_full(wire))
    (void) cpool__ws_write_frame(conn, frame->bytes, frame->len);
  cpool__frame_drop(frame);
  return false;
}

static void failed(struct cpool__wire *wire, int code)
{
  struct cpool__ws_conn *conn = cpool__container_of(wire, struct cpool__ws_conn, wire);
  if (conn->reason != 0 || cpool__ws_phase(conn) == CPOOL__WS_HANDSHAKE)
    return;
  conn->reason = code != 0 ? CPOOL_WS_PROTOCOL : CPOOL_WS_LOST;
  if (code != 0 && conn->close_code == 0) /* a client's libwebsockets has masked it where it lies */
    conn->close_code = (int16_t) (conn->dialled == NULL ? code : 1002);
}

static int upgrade(struct cpool__wire *wire)
{
  return cpool__ws_decide(cpool__container_of(wire, struct cpool__ws_conn, wire));
}

static void opened(struct cpool__wire *wire)
{
  cpool__ws_upgraded(cpool__container_of(wire, struct cpool__ws_conn, wire));
}

static void writable(struct cpool__wire *wire)
{
  cpool__ws_writable(cpool__container_of(wire, struct cpool__ws_conn, wire));
}

static void gone(struct cpool__wire *wire)
{
  struct cpool__ws_conn *conn = cpool__container_of(wire, struct cpool__ws_conn, wire);
  if (conn->dialled != NULL)
    cpool__dialled_down(conn);
  else
    cpool__ws_conn_gone(conn);
}

const struct cpool__wire_events cpool__ws_wire_events = {.upgrade = upgrade,
                                                         .opened = opened,
                                                         .judge = cpool__dialled_judge,
                                                         .ask = cpool__dialled_ask,
                                                         .answered = cpool__dialled_answered,
                                                         .unanswered = cpool__dialled_unanswered,
                                                         .received = received,
                                                         .pong = pong,
                                                         .peer_closes = peer_closes,
                                                         .writable = writable,
                                                         .failed = failed,
                                                         .gone = gone};
