/* stream: pieces, and the credit that lets more of them come
 *
 * A piece is one event with its bytes behind it, and counts as both: a peer that sends single bytes must not fill the
 * memory with events. With a queue it counts from its making to its release, on whatever thread, perhaps after the end
 * of request and pool: so it holds what it counts in. With a callback it is freed when the callback returns, and what
 * its bytes counted stays until the caller gives it back, or until the end. */
#include "http/stream.h"

#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/fork.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/sse.h"

struct piece {
  struct cpool__event event; /* first */
  struct cpool__budget *window, *pool;
  char data[]; /* of a server-sent event also its id and type, each with a NUL before it and one at the end */
};

int64_t cpool__stream_low(int64_t window_bytes)
{
  return window_bytes >= 2 ? window_bytes / 2 : 1;
}

struct cpool__stream *cpool__stream_new(int64_t window_bytes, struct cpool__budget *pool)
{
  struct cpool__stream *stream = cpool__calloc(1, sizeof *stream);
  if (stream == NULL)
    return NULL;
  stream->window = cpool__budget_new(window_bytes, cpool__stream_low(window_bytes));
  if (stream->window == NULL) {
    cpool__free(stream);
    return NULL;
  }
  stream->pool = cpool__budget_hold(pool);
  return stream;
}

static void give_credit(struct cpool__stream *stream, int64_t bytes)
{
  stream->credit_bytes -= bytes;
  cpool__budget_fall(stream->pool, bytes);
  cpool__budget_fall(stream->window, bytes);
}

void cpool__stream_end(struct cpool__stream *stream)
{
  if (stream == NULL)
    return;
  give_credit(stream, stream->credit_bytes);
  cpool__budget_drop(stream->window);
  cpool__budget_drop(stream->pool);
  stream->window = stream->pool = NULL;
}

/* ---------------------------------------------------------------------------------------------------------- events */

static void deliver(struct cpool__request *req, struct cpool__event *event, int kind)
{
  event->event.kind = kind;
  event->event.source = req->op;
  event->event.user = req->event.event.user;
  event->queue = req->event.queue;
  event->fn = req->event.fn;
  if (event->queue != NULL)
    cpool__queue_hold(event->queue);
  cpool__runtime_deliver(req->pool->rt, event);
}

static void head_released(struct cpool__event *event)
{
  cpool__request_unref(cpool__container_of(event->event.response, struct cpool__request, resp));
}

void cpool__stream_head(struct cpool__request *req)
{
  struct cpool__stream *stream = req->stream;
  if (stream->head_sent)
    return;
  stream->head_sent = true;
  stream->head.event.response = &req->resp;
  stream->head.release = head_released;
  atomic_fetch_add_explicit(&req->refs, 1, memory_order_relaxed);
  deliver(req, &stream->head, CPOOL_EVENT_HEAD);
}

static void piece_released(struct cpool__event *event)
{
  struct piece *piece = cpool__container_of(event, struct piece, event);
  int64_t bytes = (int64_t) (event->queue != NULL ? event->bytes : sizeof *piece);
  cpool__budget_fall(piece->pool, bytes);
  cpool__budget_fall(piece->window, bytes);
  cpool__budget_drop(piece->pool);
  cpool__budget_drop(piece->window);
  cpool__free(piece);
}

/* NULL: out of memory. */
static struct piece *piece_new(struct cpool__request *req, size_t bytes)
{
  struct piece *piece = cpool__malloc(sizeof *piece + bytes);
  if (piece == NULL)
    return NULL;
  memset(piece, 0, sizeof *piece);
  piece->window = cpool__budget_hold(req->stream->window);
  piece->pool = cpool__budget_hold(req->stream->pool);
  piece->event.event.data = piece->data;
  piece->event.bytes = sizeof *piece + bytes;
  piece->event.release = piece_released;
  return piece;
}

static void piece_deliver(struct cpool__request *req, struct piece *piece, int kind)
{
  struct cpool__stream *stream = req->stream;
  cpool__budget_rise(stream->window, (int64_t) piece->event.bytes);
  cpool__budget_rise(stream->pool, (int64_t) piece->event.bytes);
  if (req->event.queue == NULL)
    stream->credit_bytes += (int64_t) (piece->event.bytes - sizeof *piece);
  deliver(req, &piece->event, kind);
  if (piece->event.queue != NULL)
    cpool__queue_count(piece->event.queue, &piece->event);
}

enum cpool__stream_result cpool__stream_piece(struct cpool__request *req, const void *data, size_t len)
{
  struct cpool__stream *stream = req->stream;
  if (len == 0)
    return CPOOL__STREAM_OK;
  if ((int64_t) len > req->max_response_bytes - stream->taken_bytes)
    return CPOOL__STREAM_OVER_CAP;
  struct piece *piece = piece_new(req, len);
  if (piece == NULL)
    return CPOOL__STREAM_NO_MEMORY;
  memcpy(piece->data, data, len);
  piece->event.event.len = len;
  stream->taken_bytes += (int64_t) len;
  piece_deliver(req, piece, CPOOL_EVENT_BODY);
  return CPOOL__STREAM_OK;
}

static char *put(char *at, const char *text, size_t len)
{
  if (len > 0)
    memcpy(at, text, len);
  at[len] = '\0';
  return at + len + 1;
}

bool cpool__stream_event(struct cpool__request *req, const struct cpool__sse_text *text)
{
  static const char standard[] = "message";
  const char *type = text->type_len > 0 ? text->type : standard;
  size_t type_len = text->type_len > 0 ? text->type_len : sizeof standard - 1;
  struct piece *piece = piece_new(req, text->data_len + text->id_len + type_len + 3);
  if (piece == NULL)
    return false;
  put(put(put(piece->data, text->data, text->data_len), text->id, text->id_len), type, type_len);
  piece->event.event.len = text->data_len;
  piece_deliver(req, piece, CPOOL_EVENT_SSE);
  return true;
}

void cpool__stream_event_texts(const cpool_event *event, const char **id, const char **type, size_t *bytes)
{
  const struct cpool__event *own = cpool__container_of(event, const struct cpool__event, event);
  const struct piece *piece = cpool__container_of(own, const struct piece, event);
  *id = piece->data + event->len + 1;
  *type = *id + strlen(*id) + 1; /* an id has no NUL */
  *bytes = own->bytes - sizeof *piece;
}

/* ---------------------------------------------------------------------------------------------------------- credit */

struct credit_msg {
  struct cpool__msg msg;
  cpool_http *pool;
  cpool_op op;
  int64_t bytes;
};

static void on_credit(struct cpool__msg *msg)
{
  struct credit_msg *credit = cpool__container_of(msg, struct credit_msg, msg);
  cpool_http *pool = credit->pool;
  struct cpool__request *req = cpool__ids_get(&pool->ids, credit->op);
  if (req != NULL && req->stream != NULL)
    give_credit(req->stream, credit->bytes < req->stream->credit_bytes ? credit->bytes : req->stream->credit_bytes);
  cpool__free(credit);
  cpool__http_leave_on_loop(pool);
}

int cpool_body_credit(cpool_http *pool, cpool_op op, size_t bytes)
{
  if (pool == NULL || bytes == 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_body_credit: %s",
                         pool == NULL ? "the pool is NULL" : "bytes is 0");
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  struct credit_msg *credit = cpool__malloc(sizeof *credit);
  if (credit == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "cpool_body_credit: no memory");
  *credit = (struct credit_msg){.msg.fn = on_credit,
                                .pool = pool,
                                .op = op,
                                .bytes = bytes > INT64_MAX ? INT64_MAX : (int64_t) bytes};
  if (!cpool__http_post(pool, &credit->msg, op)) {
    cpool__free(credit);
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "cpool_body_credit: the request has ended");
  }
  return CPOOL_OK;
}
