/* send: messages on their way out
 *
 *   caller's thread   counts the message against its connection, makes the frame, posts it
 *   loop              into the backlog; the connections that have something are flushed together, once per turn: small
 *                     frames in one write, and nothing more while libwebsockets still has a rest of the last one
 *
 * What a connection may have waiting is counted in payloads (queued_bytes, queued_messages of it), what all of them take
 * together in memory (queued_bytes of the manager), since a message to many is there once. */
#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "ws/dialled.h"
#include "ws/topic.h"

enum {
  WRITES_PER_TURN = 4,
  EXTRA = 2 /* times the cap: where the loop makes room, senders on other threads may be ahead of it by as much again */
};

/* -------------------------------------------------------------------------------------------------------- loop thread */

static void uncount(struct cpool__ws_conn *conn, int32_t messages, int64_t bytes)
{
  atomic_fetch_sub(&conn->queued_messages, messages);
  atomic_fetch_sub(&conn->queued_bytes, bytes);
  atomic_fetch_sub_explicit(&conn->ws->queued_messages, messages, memory_order_relaxed);
}

/* What libwebsockets took and may still hold. */
static void hold(struct cpool__ws_conn *conn, size_t bytes)
{
  atomic_fetch_add_explicit(&conn->ws->queued_bytes, (int64_t) bytes - (int64_t) conn->held_bytes,
                            memory_order_relaxed);
  conn->held_bytes = (uint32_t) bytes;
}

void cpool__ws_clear_backlog(struct cpool__ws_conn *conn)
{
  int64_t bytes;
  int32_t messages = cpool__backlog_clear(&conn->backlog, &bytes);
  uncount(conn, messages, bytes);
  conn->ws->now.messages_dropped += (uint64_t) messages;
  hold(conn, 0);
}

static int64_t waiting_bytes(cpool_ws *ws)
{
  int64_t posted_bytes = atomic_load(&ws->posted_bytes); /* first: what it has is in the other one already */
  return atomic_load(&ws->queued_bytes) - posted_bytes;
}

/* Above the manager's cap: the connection that has most waiting pays for all. */
static void shed(cpool_ws *ws)
{
  while (waiting_bytes(ws) > ws->limits.max_queued_bytes) {
    struct cpool__ws_conn *largest = NULL;
    int64_t most = 0;
    for (struct cpool__link *link = cpool__list_first(&ws->conns); link != NULL;
         link = cpool__list_next(&ws->conns, link)) {
      struct cpool__ws_conn *conn = cpool__container_of(link, struct cpool__ws_conn, link);
      int64_t bytes = atomic_load(&conn->queued_bytes) + (int64_t) conn->held_bytes;
      if (bytes > most && conn->reason == 0 && cpool__ws_phase(conn) == CPOOL__WS_UP) {
        most = bytes;
        largest = conn;
      }
    }
    if (largest == NULL)
      return;
    cpool__ws_clear_backlog(largest);
    if (largest->close_code == 0)
      largest->close_code = 1008;
    cpool__ws_conn_cut(largest, CPOOL_WS_OVERFLOW);
  }
}

void cpool__ws_flush_soon(struct cpool__ws_conn *conn)
{
  if (!cpool__link_in(&conn->flush_link))
    cpool__list_push_back(&conn->ws->to_flush, &conn->flush_link);
  cpool__runtime_defer(conn->ws->rt, &conn->ws->flush_task);
}

static void sent(struct cpool__ws_conn *conn)
{
  int64_t payload = cpool__backlog_sent(&conn->backlog);
  if (payload < 0)
    return;
  uncount(conn, 1, payload);
  conn->ws->now.messages_sent++;
  conn->ws->now.bytes_sent += (uint64_t) payload;
  atomic_fetch_add_explicit(&conn->messages_sent, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&conn->bytes_sent, (uint64_t) payload, memory_order_relaxed);
}

bool cpool__ws_write_frame(struct cpool__ws_conn *conn, const unsigned char *frame, size_t len)
{
  cpool_ws *ws = conn->ws;
  if (conn->dialled == NULL)
    return cpool__wire_write(&conn->wire, frame, len);
  assert(len + CPOOL__MASK_BYTES <= CPOOL__WS_SCRATCH_BYTES);
  return cpool__wire_write(&conn->wire, ws->scratch, cpool__mask_frame(&ws->masks, ws->scratch, frame, len));
}

/* One write: a frame as it lies, or several in the scratch. False: the socket is dead. */
static bool write_some(struct cpool__ws_conn *conn)
{
  unsigned char *scratch = conn->ws->scratch;
  size_t len, used = 0;
  const unsigned char *next = cpool__backlog_next(&conn->backlog, &len);
  if (len > CPOOL__WS_SCRATCH_BYTES / 2) {
    bool alive = cpool__ws_write_frame(conn, next, len);
    used = len;
    sent(conn);
    if (!alive)
      return false;
  } else {
    do {
      if (conn->dialled != NULL) {
        used += cpool__mask_frame(&conn->ws->masks, scratch + used, next, len);
      } else {
        memcpy(scratch + used, next, len);
        used += len;
      }
      sent(conn);
      next = cpool__backlog_next(&conn->backlog, &len);
    } while (next != NULL && used + len + CPOOL__MASK_BYTES <= CPOOL__WS_SCRATCH_BYTES);
    if (!cpool__wire_write(&conn->wire, scratch, used))
      return false;
  }
  hold(conn, cpool__wire_full(&conn->wire) ? used : 0);
  cpool__ws_changed(conn->ws);
  return true;
}

/* The close frame, once nothing is before it. */
static void say_goodbye(struct cpool__ws_conn *conn)
{
  struct cpool__frame *frame = conn->close_frame;
  conn->close_frame = NULL;
  if (frame == NULL)
    frame = cpool__frame_close(conn->close_code, NULL, 0);
  conn->close_sent = true;
  if (frame == NULL || !cpool__ws_write_frame(conn, frame->bytes, frame->len))
    cpool__wire_cut(&conn->wire);
  cpool__frame_drop(frame);
}

void cpool__ws_conn_flush(struct cpool__ws_conn *conn)
{
  if (conn->wire.wsi == NULL || conn->close_sent || cpool__ws_phase(conn) <= CPOOL__WS_HANDSHAKE)
    return;
  for (int writes = 0; !cpool__wire_full(&conn->wire); writes++) {
    if (cpool__backlog_empty(&conn->backlog)) {
      if (cpool__ws_phase(conn) == CPOOL__WS_CLOSING)
        say_goodbye(conn);
      break;
    }
    if (writes == WRITES_PER_TURN) {
      cpool__ws_flush_soon(conn);
      break;
    }
    if (!write_some(conn)) {
      cpool__ws_conn_cut(conn, CPOOL_WS_LOST);
      break;
    }
  }
  cpool__ws_conn_drained(conn);
}

void cpool__ws_flush(struct cpool__task *task)
{
  cpool_ws *ws = cpool__container_of(task, cpool_ws, flush_task);
  struct cpool__list due;
  cpool__list_init(&due);
  cpool__list_splice(&due, &ws->to_flush);
  for (struct cpool__link *link; (link = cpool__list_pop_front(&due)) != NULL;) {
    struct cpool__ws_conn *conn = cpool__container_of(link, struct cpool__ws_conn, flush_link);
    cpool__ws_settle(conn);
    cpool__ws_conn_flush(conn);
  }
  shed(ws);
}

void cpool__ws_writable(struct cpool__ws_conn *conn)
{
  if (cpool__wire_full(&conn->wire))
    return;
  hold(conn, 0);
  cpool__ws_flush_soon(conn);
}

static void drop_message(struct cpool__ws_conn *conn, int64_t payload)
{
  uncount(conn, 1, payload);
  conn->ws->now.messages_dropped++;
  atomic_store(&conn->wants_drained, true);
  cpool__ws_changed(conn->ws);
}

static void make_room(struct cpool__ws_conn *conn)
{
  const struct cpool__ws_limits *limits = &conn->ws->limits;
  while (atomic_load(&conn->queued_bytes) > limits->max_send_queue_bytes ||
         atomic_load(&conn->queued_messages) > limits->max_send_queue_messages) {
    int64_t dropped = cpool__backlog_drop_oldest(&conn->backlog);
    if (dropped < 0)
      return; /* what is too much is still on its way here */
    drop_message(conn, dropped);
  }
}

/* Takes the node of a message for which there is room. */
static void queue_message(struct cpool__ws_conn *conn, struct cpool__backlog_node *node)
{
  int64_t payload = (int64_t) node->frame->payload_len;
  bool control = (node->frame->opcode & 8) != 0;
  if (cpool__ws_phase(conn) != CPOOL__WS_UP || conn->reason != 0) {
    cpool__backlog_node_free(node);
    if (!control)
      drop_message(conn, payload);
    return;
  }
  cpool__backlog_add(&conn->backlog, node);
  if (conn->ws->limits.on_overflow == CPOOL_WS_OVERFLOW_DROP_OLDEST)
    make_room(conn);
  cpool__ws_flush_soon(conn);
}

bool cpool__ws_conn_send(struct cpool__ws_conn *conn, struct cpool__frame *frame)
{
  struct cpool__backlog_node *node = cpool__backlog_node_new(frame);
  if (node != NULL) {
    queue_message(conn, node);
    return true;
  }
  if ((frame->opcode & 8) == 0)
    drop_message(conn, (int64_t) frame->payload_len);
  cpool__frame_drop(frame);
  return false;
}

/* --------------------------------------------------------------------------------------------------------- any thread */

enum room { ROOM, ROOM_NONE, ROOM_TOO_LONG };

/* Counts a message, if it may come. */
static enum room count_message(struct cpool__ws_conn *conn, int64_t bytes, bool drops_oldest)
{
  const struct cpool__ws_limits *limits = &conn->ws->limits;
  int factor = drops_oldest ? EXTRA : 1;
  if (bytes > limits->max_send_queue_bytes)
    return ROOM_TOO_LONG;
  int64_t in_all = atomic_fetch_add(&conn->queued_bytes, bytes) + bytes;
  int32_t messages = atomic_fetch_add(&conn->queued_messages, 1) + 1;
  atomic_fetch_add_explicit(&conn->ws->queued_messages, 1, memory_order_relaxed);
  if (in_all <= factor * limits->max_send_queue_bytes && messages <= factor * limits->max_send_queue_messages)
    return ROOM;
  uncount(conn, 1, bytes);
  return ROOM_NONE;
}

/* The same; without room the wish to be told is left, and room that came meanwhile is seen. Then the wish stays all the
 * same: it may be another thread's as well. */
static enum room find_room(struct cpool__ws_conn *conn, int64_t bytes, int on_overflow)
{
  bool drops_oldest = on_overflow == CPOOL_WS_OVERFLOW_DROP_OLDEST;
  enum room room = count_message(conn, bytes, drops_oldest);
  if (room != ROOM_NONE || on_overflow == CPOOL_WS_OVERFLOW_CLOSE)
    return room;
  atomic_store(&conn->wants_drained, true);
  return cpool__ws_half_empty(conn) ? count_message(conn, bytes, drops_oldest) : ROOM_NONE;
}

static int check_message(const char *call, int32_t kind, const void *data, size_t len)
{
  if (kind != CPOOL_WS_TEXT && kind != CPOOL_WS_BINARY && kind != CPOOL_WS_PING)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: kind %d is none", call, (int) kind);
  if (data == NULL && len > 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: data is NULL and len is %zu", call, len);
  if (kind == CPOOL_WS_PING && len > CPOOL__FRAME_CONTROL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: a ping has at most 125 bytes", call);
  if (kind == CPOOL_WS_TEXT && !cpool__utf8_valid(data, len))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: the text is no UTF-8", call);
  return CPOOL_OK;
}

struct send_msg {
  struct cpool__msg msg;
  struct cpool__ws_conn *conn;
  struct cpool__backlog_node *node; /* NULL: it had no room, and the connection is to go for it */
  int64_t posted_bytes;
};

static void overflowed(struct cpool__ws_conn *conn)
{
  if (cpool__ws_phase(conn) != CPOOL__WS_UP || conn->reason != 0)
    return; /* it ends already, or, dialled, is down: what had no room was the last connection's */
  cpool__ws_conn_close(conn, CPOOL_WS_OVERFLOW, 1008, NULL);
  cpool__ws_conn_cut(conn, CPOOL_WS_OVERFLOW);
}

static void carry_out(struct cpool__ws_conn *conn, struct cpool__backlog_node *node)
{
  if (node != NULL)
    queue_message(conn, node);
  else
    overflowed(conn);
}

/* In memory, as long as no backlog has it. */
static int64_t weight(const struct cpool__frame *frame)
{
  return (int64_t) (sizeof *frame + frame->len);
}

static void on_send(struct cpool__msg *msg)
{
  struct send_msg *send = cpool__container_of(msg, struct send_msg, msg);
  cpool_ws *ws = send->conn->ws;
  atomic_fetch_sub(&ws->posted_bytes, send->posted_bytes);
  carry_out(send->conn, send->node);
  cpool__ws_conn_drop(send->conn);
  cpool__free(send);
  cpool__ws_leave(ws);
}

/* To the loop; takes the node on success. */
static int hand_over(struct cpool__ws_conn *conn, struct cpool__backlog_node *node)
{
  if (cpool__runtime_on_loop(conn->ws->rt)) {
    carry_out(conn, node);
    return CPOOL_OK;
  }
  struct send_msg *send = cpool__malloc(sizeof *send);
  if (send == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_send: no memory");
  int64_t bytes = node != NULL ? weight(node->frame) + CPOOL__BACKLOG_NODE_BYTES : 0;
  *send = (struct send_msg){.msg.fn = on_send, .conn = conn, .node = node, .posted_bytes = bytes};
  cpool__ws_conn_hold(conn);
  atomic_fetch_add(&conn->ws->posted_bytes, bytes);
  int rc = cpool__ws_post(conn->ws, &send->msg);
  if (rc != CPOOL_OK) {
    atomic_fetch_sub(&conn->ws->posted_bytes, bytes);
    cpool__ws_conn_drop(conn);
    cpool__free(send);
  }
  return rc;
}

static int no_room(struct cpool__ws_conn *conn, enum room room, int on_overflow)
{
  const struct cpool__ws_limits *limits = &conn->ws->limits;
  if (room == ROOM_TOO_LONG)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                         "ws_send: the message is longer than max_send_queue_bytes (%lld)",
                         (long long) limits->max_send_queue_bytes);
  switch (on_overflow) {
  case CPOOL_WS_OVERFLOW_DROP_NEWEST:
    atomic_fetch_add_explicit(&conn->ws->dropped_count, 1, memory_order_relaxed);
    return CPOOL_OK;
  case CPOOL_WS_OVERFLOW_CLOSE:
    (void) hand_over(conn, NULL);
    return cpool__refuse(CPOOL_ECLOSED, CPOOL_LAYER_WS, "ws_send: the connection's queue was full: it is closed");
  default:
    return cpool__refuse(CPOOL_EAGAIN, CPOOL_LAYER_WS,
                         "ws_send: the connection's queue is full: max_send_queue_bytes (%lld) or "
                         "max_send_queue_messages (%d)",
                         (long long) limits->max_send_queue_bytes, (int) limits->max_send_queue_messages);
  }
}

/* Twice the cap: the loop, which would cut somebody, is behind. */
static int check_total(const cpool_ws *ws, const char *call)
{
  if (atomic_load_explicit(&ws->queued_bytes, memory_order_relaxed) <= EXTRA * ws->limits.max_queued_bytes)
    return CPOOL_OK;
  return cpool__refuse(CPOOL_EFULL, CPOOL_LAYER_WS, "%s: twice max_queued_bytes (%lld) wait", call,
                       (long long) ws->limits.max_queued_bytes);
}

static int send_to(struct cpool__ws_conn *conn, int32_t kind, const void *data, size_t len)
{
  int phase = cpool__ws_phase(conn);
  if (conn->external)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_send: the connection is external");
  if (phase < CPOOL__WS_UP)
    return cpool__refuse(CPOOL_EAGAIN, CPOOL_LAYER_WS, "ws_send: the connection is not open");
  if (phase > CPOOL__WS_UP)
    return cpool__refuse(CPOOL_ECLOSED, CPOOL_LAYER_WS, "ws_send: the connection is closing");
  if (kind != CPOOL_WS_PING) {
    int on_overflow = atomic_load(&conn->ws->limits.on_overflow); /* once: it may change meanwhile */
    enum room room = find_room(conn, (int64_t) len, on_overflow);
    if (room != ROOM)
      return no_room(conn, room, on_overflow);
  }
  int rc;
  struct cpool__frame *frame = cpool__frame_new(kind, data, len, &conn->ws->queued_bytes);
  struct cpool__backlog_node *node = frame != NULL ? cpool__backlog_node_new(frame) : NULL;
  if (node != NULL) {
    rc = hand_over(conn, node);
    if (rc == CPOOL_OK)
      return rc;
    cpool__backlog_node_free(node);
  } else {
    cpool__frame_drop(frame);
    rc = cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_send: no memory");
  }
  if (kind != CPOOL_WS_PING)
    uncount(conn, 1, (int64_t) len);
  return rc;
}

int cpool_ws_send(cpool_ws *ws, cpool_conn handle, int32_t kind, const void *data, size_t len)
{
  int rc = cpool__ws_usable(ws);
  if (rc == CPOOL_OK)
    rc = check_message("ws_send", kind, data, len);
  if (rc == CPOOL_OK)
    rc = check_total(ws, "ws_send");
  if (rc != CPOOL_OK)
    return rc;
  struct cpool__ws_conn *conn = cpool__ws_conn_borrow(ws, handle);
  if (conn == NULL)
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "ws_send: the connection has ended");
  rc = send_to(conn, kind, data, len);
  cpool__ws_conn_drop(conn);
  return rc;
}

int cpool_ws_send_id(cpool_ws *ws, const char *id, int32_t kind, const void *data, size_t len)
{
  cpool_conn handle;
  int rc = cpool_ws_find(ws, id, &handle);
  return rc == CPOOL_OK ? cpool_ws_send(ws, handle, kind, data, len) : rc;
}

/* ----------------------------------------------------------------------------------------------------------- publish */

struct publish_msg {
  struct cpool__msg msg;
  cpool_ws *ws;
  struct cpool__frame *frame;
  size_t topic_len;
  bool to_all;
  char topic[];
};

static void publish_to(struct cpool__ws_conn *conn, void *arg)
{
  struct cpool__frame *frame = arg;
  if (cpool__ws_phase(conn) != CPOOL__WS_UP || conn->external || conn->reason != 0)
    return;
  int on_overflow = atomic_load(&conn->ws->limits.on_overflow);
  if (frame->opcode == CPOOL_WS_PING || find_room(conn, (int64_t) frame->payload_len, on_overflow) == ROOM) {
    (void) cpool__ws_conn_send(conn, cpool__frame_hold(frame));
  } else if (on_overflow == CPOOL_WS_OVERFLOW_CLOSE) {
    overflowed(conn);
  } else {
    conn->ws->now.messages_dropped++;
    cpool__ws_changed(conn->ws);
  }
}

static void publish(cpool_ws *ws, bool to_all, const char *topic, size_t topic_len, struct cpool__frame *frame)
{
  struct cpool__link *next;
  ws->now.published++;
  cpool__ws_changed(ws);
  if (!to_all) {
    cpool__topic_each(ws, topic, topic_len, publish_to, frame);
  } else {
    for (struct cpool__link *link = cpool__list_first(&ws->conns); link != NULL; link = next) {
      next = cpool__list_next(&ws->conns, link);
      publish_to(cpool__container_of(link, struct cpool__ws_conn, link), frame);
    }
  }
  cpool__frame_drop(frame);
  shed(ws);
}

static void on_publish(struct cpool__msg *msg)
{
  struct publish_msg *own = cpool__container_of(msg, struct publish_msg, msg);
  cpool_ws *ws = own->ws;
  atomic_fetch_sub(&ws->posted_bytes, weight(own->frame));
  publish(ws, own->to_all, own->topic, own->topic_len, own->frame);
  cpool__free(own);
  cpool__ws_leave(ws);
}

int cpool_ws_publish(cpool_ws *ws, const char *topic, int32_t kind, const void *data, size_t len)
{
  int rc = cpool__ws_usable(ws);
  if (rc == CPOOL_OK)
    rc = check_message("ws_publish", kind, data, len);
  if (rc == CPOOL_OK && topic != NULL)
    rc = cpool__topic_check("ws_publish", topic);
  if (rc == CPOOL_OK)
    rc = check_total(ws, "ws_publish");
  if (rc != CPOOL_OK)
    return rc;
  if ((int64_t) len > ws->limits.max_send_queue_bytes && kind != CPOOL_WS_PING)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                         "ws_publish: the message is longer than max_send_queue_bytes (%lld)",
                         (long long) ws->limits.max_send_queue_bytes);
  struct cpool__frame *frame = cpool__frame_new(kind, data, len, &ws->queued_bytes);
  size_t topic_len = topic != NULL ? strlen(topic) : 0;
  if (frame != NULL && cpool__runtime_on_loop(ws->rt)) {
    publish(ws, topic == NULL, topic, topic_len, frame);
    return CPOOL_OK;
  }
  struct publish_msg *msg = frame != NULL ? cpool__malloc(sizeof *msg + topic_len + 1) : NULL;
  if (msg == NULL) {
    cpool__frame_drop(frame);
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_publish: no memory");
  }
  *msg = (struct publish_msg){
      .msg.fn = on_publish, .ws = ws, .frame = frame, .topic_len = topic_len, .to_all = topic == NULL};
  memcpy(msg->topic, topic != NULL ? topic : "", topic_len + 1);
  int64_t bytes = weight(frame);
  atomic_fetch_add(&ws->posted_bytes, bytes);
  rc = cpool__ws_post(ws, &msg->msg);
  if (rc != CPOOL_OK) {
    atomic_fetch_sub(&ws->posted_bytes, bytes);
    cpool__frame_drop(frame);
    cpool__free(msg);
  }
  return rc;
}
