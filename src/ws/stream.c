/* stream: messages in pieces
 *
 * libwebsockets gives as little as receive_buffer_bytes at a time: what comes in one turn is gathered, and goes out as one
 * piece at its end, when the piece is full, or with the end of the message.
 *
 * A piece counts as its bytes and its event: a peer that sends single bytes must not fill the memory with events. With a
 * queue it counts until its release, on whatever thread, perhaps after the end of connection and manager: so it holds what it
 * counts in. With a callback it is freed when the callback returns, and what its bytes counted stays until the caller
 * gives it back, or until the end. */
#include "ws/stream.h"

#include <string.h>

#include "base/memory.h"

enum { PART_BYTES = 16384, FIRST_BYTES = 4096 /* what libwebsockets reads at once, at least */ };

struct cpool__ws_part {
  struct cpool__event event; /* first; its link also holds it in `held` */
  struct cpool__ws_conn *conn;
  struct cpool__budget *window;
  size_t capacity;
  char data[];
};

static bool stream_new(struct cpool__ws_conn *conn)
{
  int64_t window_bytes = conn->ws->options.stream_window_bytes;
  struct cpool__ws_stream *stream = cpool__calloc(1, sizeof *stream);
  if (stream == NULL)
    return false;
  stream->window = cpool__budget_new(window_bytes, window_bytes / 2);
  if (stream->window == NULL) {
    cpool__free(stream);
    return false;
  }
  conn->stream = stream;
  return true;
}

void cpool__ws_stream_credit(struct cpool__ws_conn *conn, int64_t bytes)
{
  struct cpool__ws_stream *stream = conn->stream;
  if (stream == NULL)
    return;
  if (bytes > stream->credit_bytes)
    bytes = stream->credit_bytes;
  stream->credit_bytes -= bytes;
  cpool__budget_fall(stream->window, bytes);
}

void cpool__ws_stream_marks(struct cpool__ws_stream *stream, int64_t window_bytes)
{
  cpool__budget_marks(stream->window, window_bytes, window_bytes / 2);
}

void cpool__ws_stream_forget(struct cpool__ws_conn *conn)
{
  if (conn->stream == NULL)
    return;
  cpool__free(conn->stream->part);
  conn->stream->part = NULL;
}

void cpool__ws_stream_end(struct cpool__ws_conn *conn)
{
  if (conn->stream == NULL)
    return;
  cpool__ws_stream_forget(conn);
  cpool__budget_drop(conn->stream->window);
  cpool__free(conn->stream);
  conn->stream = NULL;
}

/* ------------------------------------------------------------------------------------------------------------- pieces */

static void released(struct cpool__event *event)
{
  struct cpool__ws_part *part = cpool__container_of(event, struct cpool__ws_part, event);
  cpool__budget_fall(part->window, (int64_t) (event->queue != NULL ? event->bytes : sizeof *part));
  cpool__budget_drop(part->window);
  cpool__ws_conn_drop(part->conn);
  cpool__free(part);
}

void cpool__ws_stream_deliver(struct cpool__ws_conn *conn, struct cpool__event *event)
{
  struct cpool__ws_part *part = cpool__container_of(event, struct cpool__ws_part, event);
  struct cpool__ws_stream *stream = conn->stream;
  part->conn = conn;
  part->window = cpool__budget_hold(stream->window);
  event->event.data = part->data;
  event->bytes = sizeof *part + event->event.len;
  event->release = released;
  cpool__budget_rise(stream->window, (int64_t) event->bytes);
  if (conn->ws->options.queue == NULL)
    stream->credit_bytes += (int64_t) event->event.len;
  cpool__ws_conn_deliver(conn, event, CPOOL_EVENT_WS_PIECE);
}

static void count(struct cpool__ws_conn *conn, size_t bytes, bool last)
{
  conn->ws->now.bytes_received += bytes;
  atomic_fetch_add_explicit(&conn->bytes_received, bytes, memory_order_relaxed);
  if (last) {
    conn->ws->now.messages_received++;
    atomic_fetch_add_explicit(&conn->messages_received, 1, memory_order_relaxed);
  }
  cpool__ws_changed(conn->ws);
}

/* Without the room that it did not need, which nobody would count. */
static struct cpool__ws_part *fit(struct cpool__ws_part *part)
{
  if (part->capacity == part->event.event.len)
    return part;
  struct cpool__ws_part *smaller = cpool__realloc(part, sizeof *part + part->event.event.len + 1);
  return smaller != NULL ? smaller : part;
}

static void send_out(struct cpool__ws_conn *conn, bool last)
{
  struct cpool__ws_stream *stream = conn->stream;
  struct cpool__ws_part *part = fit(stream->part);
  stream->part = NULL;
  part->data[part->event.event.len] = '\0';
  part->event.event.ws_kind = stream->kind;
  part->event.event.more = !last;
  count(conn, part->event.event.len, last);
  if (last)
    stream->taken_bytes = stream->kind = 0;
  if (cpool__ws_phase(conn) != CPOOL__WS_UP) {
    cpool__list_push_back(&conn->held, &part->event.link);
    return;
  }
  cpool__ws_stream_deliver(conn, &part->event);
  if (cpool__ws_above(conn))
    cpool__ws_pause(conn, true);
}

void cpool__ws_stream_flush(struct cpool__ws_conn *conn)
{
  if (conn->stream != NULL && conn->stream->part != NULL)
    send_out(conn, false);
}

/* Room for at least one more byte, and for `wanted` more if a piece takes so many. */
static bool reserve(struct cpool__ws_part **part, size_t wanted)
{
  bool fresh = *part == NULL;
  size_t have = fresh ? 0 : (*part)->event.event.len;
  size_t capacity = have + wanted > FIRST_BYTES ? PART_BYTES : FIRST_BYTES;
  if (!fresh && ((*part)->capacity >= have + wanted || (*part)->capacity == PART_BYTES))
    return true;
  struct cpool__ws_part *grown = cpool__realloc(*part, sizeof *grown + capacity + 1);
  if (grown == NULL)
    return false;
  if (fresh)
    memset(grown, 0, sizeof *grown);
  grown->capacity = capacity;
  *part = grown;
  return true;
}

/* False: out of memory. */
static bool gather(struct cpool__ws_conn *conn, const struct cpool__wire_piece *piece)
{
  struct cpool__ws_stream *stream = conn->stream;
  const char *data = piece->data;
  size_t left = piece->len;
  do {
    if (!reserve(&stream->part, left))
      return false;
    cpool_event *event = &stream->part->event.event;
    size_t room = stream->part->capacity - event->len, now = left < room ? left : room;
    if (now > 0)
      memcpy(stream->part->data + event->len, data, now);
    event->len += now;
    data += now;
    left -= now;
    if (left == 0 && piece->last)
      send_out(conn, true);
    else if (event->len == PART_BYTES)
      send_out(conn, false);
  } while (left > 0);
  return true;
}

/* Of a text: whether this may be the next of it. */
static bool check_text(struct cpool__ws_stream *stream, const char *data, size_t len, bool last)
{
  size_t whole, left = stream->cut_len;
  if (left > 0) { /* the character is completed by at most three bytes more */
    char text[sizeof stream->cut + 3];
    size_t more = len < 3 ? len : 3;
    memcpy(text, stream->cut, left);
    if (more > 0)
      memcpy(text + left, data, more);
    if (!cpool__utf8_part(text, left + more, &whole))
      return false;
    if (whole == 0) { /* still not */
      memcpy(stream->cut, text, left + more);
      stream->cut_len = (uint8_t) (left + more);
      return !last;
    }
    data += whole - left; /* what of `text` is more than the character is looked at again */
    len -= whole - left;
    stream->cut_len = 0;
  }
  if (!cpool__utf8_part(data, len, &whole))
    return false;
  stream->cut_len = (uint8_t) (len - whole);
  if (len > whole)
    memcpy(stream->cut, data + whole, len - whole);
  return !last || whole == len;
}

static bool above_cap(const struct cpool__ws_conn *conn, const struct cpool__wire_piece *piece)
{
  int64_t cap = conn->ws->options.max_message_bytes, taken = conn->stream->taken_bytes;
  if (cap == CPOOL_OFF)
    return false;
  uint64_t room = cap > taken ? (uint64_t) (cap - taken) : 0;
  return piece->len > room || piece->rest > room - piece->len;
}

void cpool__ws_stream_take(struct cpool__ws_conn *conn, const struct cpool__wire_piece *piece)
{
  if (conn->stream == NULL && !stream_new(conn)) {
    cpool__ws_conn_close(conn, CPOOL_WS_NO_MEMORY, 1011, NULL);
    return;
  }
  if (piece->first)
    conn->stream->kind = piece->text ? CPOOL_WS_TEXT : CPOOL_WS_BINARY;
  if (above_cap(conn, piece)) {
    cpool__ws_conn_close(conn, CPOOL_WS_TOO_BIG, 1009, NULL);
    return;
  }
  if (piece->len == 0 && !piece->last)
    return; /* a frame without bytes */
  if (conn->stream->kind == CPOOL_WS_TEXT && !check_text(conn->stream, piece->data, piece->len, piece->last)) {
    cpool__ws_conn_close(conn, CPOOL_WS_PROTOCOL, 1007, NULL);
    return;
  }
  conn->stream->taken_bytes += (int64_t) piece->len;
  if (!gather(conn, piece))
    cpool__ws_conn_close(conn, CPOOL_WS_NO_MEMORY, 1011, NULL);
  else if (conn->stream->part != NULL)
    cpool__ws_flush_soon(conn); /* at the end of the turn it goes out */
}
