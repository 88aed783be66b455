/* stream: messages in pieces on their way to the caller, counted in their connection's window until they are given back */
#ifndef CPOOL_WS_STREAM_H
#define CPOOL_WS_STREAM_H

#include "core/water.h"
#include "ws/conn.h"

struct cpool__ws_part;

/* Of a connection whose messages come in pieces, from its first one on. Loop thread. */
struct cpool__ws_stream {
  struct cpool__budget *window; /* pieces that are with the caller */
  int64_t credit_bytes;         /* with a callback: what cpool_ws_credit has to give back */
  int64_t taken_bytes;          /* of the message that comes in */
  int32_t kind;                 /* enum cpool_ws_kind of it; 0: none comes in */
  uint8_t cut_len;              /* of a text: the start of a character that goes on in the next piece */
  char cut[4];
  struct cpool__ws_part *part; /* what is gathered in this turn; NULL */
};

/* Takes what came in. Too much, or out of memory: the connection is closed. */
void cpool__ws_stream_take(struct cpool__ws_conn *conn, const struct cpool__wire_piece *piece);
/* What was gathered goes out. */
void cpool__ws_stream_flush(struct cpool__ws_conn *conn);
void cpool__ws_stream_deliver(struct cpool__ws_conn *conn, struct cpool__event *event); /* a piece that was held */
void cpool__ws_stream_forget(struct cpool__ws_conn *conn); /* what was gathered is dropped */
void cpool__ws_stream_credit(struct cpool__ws_conn *conn, int64_t bytes);
void cpool__ws_stream_marks(struct cpool__ws_stream *stream, int64_t window_bytes); /* another window */
void cpool__ws_stream_end(struct cpool__ws_conn *conn);                             /* pieces on their way live on */
/* In the middle of a message. */
static inline bool cpool__ws_stream_begun(const struct cpool__ws_conn *conn)
{
  return conn->stream != NULL && conn->stream->kind != 0;
}
static inline bool cpool__ws_stream_above(const struct cpool__ws_conn *conn)
{
  return conn->stream != NULL && cpool__water_above(&conn->stream->window->water);
}

#endif
