/* fault_h2: one HTTP/2 connection of the fault server: frames in, frames out, and the orders of other threads
 *
 * The connection's thread alone reads and writes. Another thread leaves an order with it and rings its kick_fd; it is
 * obeyed between two frames. */
#include "support/fault_h2_session.h"

#include "support/wait.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

enum { FRAME_HEAD_BYTES = 9, FRAME_MAX_BYTES = 16384, PREFACE_BYTES = 24 };

enum order_kind { ORDER_RELEASE, ORDER_GOAWAY, ORDER_MAX_STREAMS, ORDER_PING };

struct fault_h2_order {
  struct fault_h2_order *next;
  enum order_kind kind;
  int32_t stream;
  uint32_t value;
};

/* Out */

static void append(struct h2_session *h2, const void *data, size_t len)
{
  if (h2->out_cap - h2->out_len < len) {
    h2->out_cap = h2->out_cap * 2 + len;
    h2->out = realloc(h2->out, h2->out_cap);
    if (h2->out == NULL)
      support_die("out of memory");
  }
  if (len > 0)
    memcpy(h2->out + h2->out_len, data, len);
  h2->out_len += len;
}

static void put_u32(uint8_t *to, uint32_t value)
{
  for (int i = 0; i < 4; i++)
    to[i] = (uint8_t) (value >> (24 - 8 * i));
}

static uint32_t u32_at(const uint8_t *from)
{
  return (uint32_t) from[0] << 24 | (uint32_t) from[1] << 16 | (uint32_t) from[2] << 8 | from[3];
}

void h2_put(struct h2_session *h2, enum h2_type type, int flags, int32_t stream, const void *payload, size_t len)
{
  uint8_t head[FRAME_HEAD_BYTES] = {(uint8_t) (len >> 16), (uint8_t) (len >> 8), (uint8_t) len, (uint8_t) type,
                                    (uint8_t) flags};
  put_u32(head + 5, (uint32_t) stream);
  append(h2, head, sizeof head);
  append(h2, payload, len);
}

void h2_put_u32(struct h2_session *h2, enum h2_type type, int32_t stream, uint32_t value)
{
  uint8_t payload[4];
  put_u32(payload, value);
  h2_put(h2, type, 0, stream, payload, sizeof payload);
}

void h2_put_setting(struct h2_session *h2, enum h2_setting setting, uint32_t value)
{
  uint8_t payload[6] = {0, (uint8_t) setting};
  put_u32(payload + 2, value);
  h2_put(h2, H2_SETTINGS, 0, 0, payload, sizeof payload);
}

void h2_put_goaway(struct h2_session *h2, int32_t last_stream, uint32_t code)
{
  uint8_t payload[8];
  put_u32(payload, (uint32_t) last_stream);
  put_u32(payload + 4, code);
  h2_put(h2, H2_GOAWAY, 0, 0, payload, sizeof payload);
  h2->last_stream = last_stream;
}

bool h2_flush(struct h2_session *h2)
{
  bool written = h2->out_len == 0 || fault_conn_write(h2->conn, h2->out, h2->out_len);
  h2->out_len = 0;
  return written;
}

static size_t text_field(uint8_t *to, const char *text)
{
  size_t len = strlen(text), at = 0;
  if (len < 127) {
    to[at++] = (uint8_t) len;
  } else { /* RFC 7541 section 5.1 */
    size_t rest = len - 127;
    to[at++] = 127;
    for (; rest >= 128; rest /= 128)
      to[at++] = (uint8_t) (rest % 128 + 128);
    to[at++] = (uint8_t) rest;
  }
  memcpy(to + at, text, len);
  return at + len;
}

size_t h2_field(uint8_t *to, const char *name, const char *value)
{
  to[0] = 0;
  size_t at = 1 + text_field(to + 1, name);
  return at + text_field(to + at, value);
}

/* Streams */

static struct h2_stream *find(struct h2_session *h2, int32_t id)
{
  struct h2_stream *stream = h2->streams;
  while (stream != NULL && stream->id != id)
    stream = stream->next;
  return stream;
}

static struct h2_stream *open_stream(struct h2_session *h2, int32_t id)
{
  struct h2_stream **at = &h2->streams;
  while (*at != NULL)
    at = &(*at)->next;
  *at = calloc(1, sizeof **at);
  if (*at == NULL)
    support_die("out of memory");
  (*at)->id = id;
  h2->stream_count++;
  return *at;
}

void h2_forget(struct h2_session *h2, struct h2_stream *stream)
{
  struct h2_stream **at = &h2->streams;
  while (*at != stream)
    at = &(*at)->next;
  *at = stream->next;
  if (stream->held)
    atomic_fetch_sub(&h2->conn->server->held, 1);
  free(stream);
  h2->stream_count--;
}

/* In */

/* Reads the block into the stream's path; the method is counted. */
static bool read_head(struct h2_session *h2, struct h2_stream *stream, const uint8_t *block, size_t len)
{
  char method[16] = "";
  for (;;) {
    nghttp2_nv field;
    int flags = 0;
    ssize_t used = nghttp2_hd_inflate_hd2(h2->inflater, &field, &flags, block, len, 1);
    if (used < 0)
      return false;
    block += used;
    len -= (size_t) used;
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
      char *to = field.namelen == 5 && memcmp(field.name, ":path", 5) == 0     ? stream->path
                 : field.namelen == 7 && memcmp(field.name, ":method", 7) == 0 ? method
                                                                               : NULL;
      size_t room = to == method ? sizeof method : sizeof stream->path;
      if (to != NULL && field.valuelen < room)
        memcpy(to, field.value, field.valuelen);
    }
    if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0)
      break;
  }
  nghttp2_hd_inflate_end_headers(h2->inflater);
  stream->path[strcspn(stream->path, "?")] = '\0';
  fault_count_request(h2->conn->server, method);
  return true;
}

static enum fault_end on_headers(struct h2_session *h2, int flags, int32_t id, const uint8_t *payload, size_t len)
{
  struct fault_server *server = h2->conn->server;
  size_t skip = (flags & H2_PADDED ? 1U : 0U) + (flags & H2_WITH_PRIORITY ? 5U : 0U);
  size_t padding = flags & H2_PADDED && len > 0 ? payload[0] : 0;
  if ((flags & H2_END_HEADERS) == 0 || skip + padding > len || find(h2, id) != NULL)
    return FAULT_CUT; /* no client here has such long heads, or trailers */
  struct h2_stream *stream = open_stream(h2, id);
  atomic_fetch_add(&server->h2_streams, 1);
  if (!read_head(h2, stream, payload + skip, len - skip - padding))
    return FAULT_CUT;
  stream->whole = (flags & H2_END_STREAM) != 0;
  if (id > h2->last_stream || server->options.h2_mute) {
    h2_forget(h2, stream);
    return FAULT_KEEP;
  }
  if (h2->stream_count > h2->max_streams) {
    atomic_fetch_add(&server->h2_refused, 1);
    h2_put_u32(h2, H2_RST_STREAM, id, FAULT_H2_REFUSED_STREAM);
    h2_forget(h2, stream);
    return FAULT_KEEP;
  }
  enum fault_end end = h2_path_begin(h2, stream);
  stream = find(h2, id);
  return end == FAULT_KEEP && stream != NULL && stream->whole ? h2_path_answer(h2, stream) : end;
}

static enum fault_end on_data(struct h2_session *h2, int flags, int32_t id, size_t len)
{
  struct h2_stream *stream = find(h2, id);
  bool last = (flags & H2_END_STREAM) != 0;
  if (len > 0 && !h2->conn->server->options.h2_no_window) {
    h2_put_u32(h2, H2_WINDOW_UPDATE, 0, (uint32_t) len);
    if (stream != NULL && !last)
      h2_put_u32(h2, H2_WINDOW_UPDATE, id, (uint32_t) len);
  }
  if (stream == NULL || !last)
    return FAULT_KEEP;
  stream->whole = true;
  return h2_path_answer(h2, stream);
}

static enum fault_end on_frame(struct h2_session *h2, int type, int flags, int32_t id, const uint8_t *payload,
                               size_t len)
{
  struct fault_server *server = h2->conn->server;
  struct h2_stream *stream = find(h2, id);
  switch (type) {
  case H2_HEADERS:
    return on_headers(h2, flags, id, payload, len);
  case H2_DATA:
    return on_data(h2, flags, id, len);
  case H2_RST_STREAM:
    atomic_fetch_add(&server->h2_resets, 1);
    if (stream != NULL)
      h2_forget(h2, stream);
    return FAULT_KEEP;
  case H2_SETTINGS:
    if ((flags & H2_ACK) == 0 && !server->options.h2_mute)
      h2_put(h2, H2_SETTINGS, H2_ACK, 0, NULL, 0);
    return FAULT_KEEP;
  case H2_PING:
    if ((flags & H2_ACK) != 0)
      atomic_fetch_add(&server->h2_pings, 1);
    else
      h2_put(h2, H2_PING, H2_ACK, 0, payload, len);
    return FAULT_KEEP;
  default:
    return FAULT_KEEP;
  }
}

/* Serves the frames that are there whole. */
static enum fault_end serve_frames(struct h2_session *h2)
{
  struct fault_conn *conn = h2->conn;
  enum fault_end end = FAULT_KEEP;
  size_t at = 0;
  while (end == FAULT_KEEP && conn->in_len - at >= FRAME_HEAD_BYTES) {
    const uint8_t *head = (const uint8_t *) conn->in + at;
    size_t len = u32_at(head) >> 8;
    if (len > FRAME_MAX_BYTES)
      return FAULT_CUT;
    if (conn->in_len - at < FRAME_HEAD_BYTES + len)
      break;
    end = on_frame(h2, head[3], head[4], (int32_t) (u32_at(head + 5) & INT32_MAX), head + FRAME_HEAD_BYTES, len);
    at += FRAME_HEAD_BYTES + len;
  }
  if (end != FAULT_KEEP) {
    (void) h2_flush(h2);
    return end;
  }
  conn->in_len -= at;
  memmove(conn->in, conn->in + at, conn->in_len);
  return h2_flush(h2) ? FAULT_KEEP : FAULT_CUT;
}

bool h2_read_some(struct h2_session *h2)
{
  struct fault_conn *conn = h2->conn;
  conn->in_len = 0; /* during a flood nothing that the peer says matters */
  while (SSL_pending(conn->ssl) > 0 || fault_conn_wait(conn, POLLIN, 0) == FAULT_WAKE_READY) {
    if (!fault_conn_read_more(conn))
      return false;
    conn->in_len = 0;
  }
  return true;
}

/* Orders */

static void release_all(struct h2_session *h2)
{
  for (struct h2_stream *stream = h2->streams, *next; stream != NULL; stream = next) {
    next = stream->next;
    if (stream->held)
      h2_path_release(h2, stream);
  }
}

static bool obey(struct h2_session *h2)
{
  struct fault_conn *conn = h2->conn;
  struct fault_server *server = conn->server;
  bool written = true;
  pthread_mutex_lock(&server->mutex);
  fault_silence(conn->kick_fd);
  struct fault_h2_order *order;
  while ((order = conn->orders) != NULL) {
    pthread_mutex_unlock(&server->mutex);
    switch (order->kind) {
    case ORDER_RELEASE:
      release_all(h2);
      break;
    case ORDER_GOAWAY:
      h2_put_goaway(h2, order->stream, order->value);
      for (struct h2_stream *stream = h2->streams, *next; stream != NULL; stream = next) {
        next = stream->next;
        if (stream->id > order->stream)
          h2_forget(h2, stream);
      }
      break;
    case ORDER_MAX_STREAMS:
      h2_put_setting(h2, H2_MAX_STREAMS, order->value);
      h2->max_streams = (int32_t) order->value;
      break;
    case ORDER_PING:
      h2_put(h2, H2_PING, 0, 0, "\0\0\0\0\0\0\0\1", 8);
      break;
    }
    written = h2_flush(h2) && written;
    pthread_mutex_lock(&server->mutex);
    conn->orders = order->next;
    free(order);
  }
  pthread_cond_broadcast(&server->kicked);
  pthread_mutex_unlock(&server->mutex);
  return written;
}

void fault_h2_end(struct fault_conn *conn)
{
  struct fault_server *server = conn->server;
  pthread_mutex_lock(&server->mutex);
  conn->takes_orders = false;
  for (struct fault_h2_order *order; (order = conn->orders) != NULL;) {
    conn->orders = order->next;
    free(order);
  }
  pthread_cond_broadcast(&server->kicked);
  pthread_mutex_unlock(&server->mutex);
}

static bool orders_are_left(const struct fault_server *server)
{
  for (const struct fault_conn *conn = server->conns; conn != NULL; conn = conn->next)
    if (conn->orders != NULL)
      return true;
  return false;
}

static int32_t order_all(struct fault_server *server, enum order_kind kind, int32_t stream, uint32_t value)
{
  int32_t count = 0;
  pthread_mutex_lock(&server->mutex);
  for (struct fault_conn *conn = server->conns; conn != NULL; conn = conn->next) {
    if (!conn->takes_orders)
      continue;
    struct fault_h2_order **at = &conn->orders;
    while (*at != NULL)
      at = &(*at)->next;
    *at = malloc(sizeof **at);
    if (*at == NULL)
      support_die("out of memory");
    **at = (struct fault_h2_order){.kind = kind, .stream = stream, .value = value};
    fault_ring(conn->kick_fd);
    count++;
  }
  while (orders_are_left(server))
    pthread_cond_wait(&server->kicked, &server->mutex);
  pthread_mutex_unlock(&server->mutex);
  return count;
}

int32_t fault_h2_release(struct fault_server *server)
{
  return order_all(server, ORDER_RELEASE, 0, 0);
}

int32_t fault_h2_goaway(struct fault_server *server, int32_t last_stream, uint32_t code)
{
  return order_all(server, ORDER_GOAWAY, last_stream, code);
}

int32_t fault_h2_max_streams(struct fault_server *server, uint32_t limit)
{
  return order_all(server, ORDER_MAX_STREAMS, 0, limit);
}

int32_t fault_h2_ping(struct fault_server *server)
{
  return order_all(server, ORDER_PING, 0, 0);
}

void fault_h2_counts(struct fault_server *server, struct fault_h2_counts *out)
{
  *out = (struct fault_h2_counts){.streams = atomic_load(&server->h2_streams),
                                  .refused_streams = atomic_load(&server->h2_refused),
                                  .pings_acknowledged = atomic_load(&server->h2_pings),
                                  .resets = atomic_load(&server->h2_resets)};
}

/* One connection */

static bool greet(struct h2_session *h2)
{
  const struct fault_options *options = &h2->conn->server->options;
  if (options->h2_mute)
    return true;
  h2_put(h2, H2_SETTINGS, 0, 0, NULL, 0);
  if (options->h2_max_streams != 0)
    h2_put_setting(h2, H2_MAX_STREAMS, (uint32_t) h2->max_streams);
  if (options->h2_no_window)
    h2_put_setting(h2, H2_INITIAL_WINDOW, 0);
  return h2_flush(h2);
}

static enum fault_end serve(struct h2_session *h2)
{
  struct fault_conn *conn = h2->conn;
  while (conn->in_len < PREFACE_BYTES)
    if (!fault_conn_read_more(conn))
      return FAULT_CUT;
  conn->in_len -= PREFACE_BYTES;
  memmove(conn->in, conn->in + PREFACE_BYTES, conn->in_len);
  if (!greet(h2))
    return FAULT_CUT;
  for (;;) {
    enum fault_end end = serve_frames(h2);
    if (end != FAULT_KEEP)
      return end;
    enum fault_wake wake = SSL_pending(conn->ssl) > 0 ? FAULT_WAKE_READY : fault_conn_wait(conn, POLLIN, -1);
    if (wake == FAULT_WAKE_STOP || (wake == FAULT_WAKE_KICK && !obey(h2)) ||
        (wake == FAULT_WAKE_READY && !fault_conn_read_more(conn)))
      return FAULT_CUT;
  }
}

enum fault_end fault_h2_serve(struct fault_conn *conn)
{
  struct fault_server *server = conn->server;
  int32_t limit = server->options.h2_max_streams;
  struct h2_session h2 = {.conn = conn,
                          .last_stream = INT32_MAX,
                          .max_streams = limit > 0   ? limit
                                         : limit < 0 ? 0
                                                     : INT32_MAX};
  if (nghttp2_hd_inflate_new(&h2.inflater) != 0)
    return FAULT_CUT;
  pthread_mutex_lock(&server->mutex);
  conn->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  conn->takes_orders = true;
  pthread_mutex_unlock(&server->mutex);
  enum fault_end end = serve(&h2);
  while (h2.streams != NULL)
    h2_forget(&h2, h2.streams);
  nghttp2_hd_inflate_del(h2.inflater);
  free(h2.out);
  return end;
}
