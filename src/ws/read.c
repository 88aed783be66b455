/* read: what any thread may look at: ids, one connection, the statistics */
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/snapshot.h"
#include "core/structs.h"
#include "ws/conn.h"

static_assert(offsetof(cpool_ws_stats, total_connections) == sizeof(size_t), "words follow the size");
static_assert(sizeof(cpool_ws_stats) == sizeof(size_t) + CPOOL__WS_STATS_WORDS * sizeof(uint64_t), "nothing but words");

void cpool__ws_stats_publish(struct cpool__task *task)
{
  cpool_ws *ws = cpool__container_of(task, cpool_ws, publish_task);
  cpool_ws_stats snapshot = ws->now;
  snapshot.total_connections = ws->open_count;
  snapshot.handshaking_connections = ws->handshake_count + ws->undecided_count;
  snapshot.closing_connections = ws->closing_count;
  snapshot.waiting_connections = ws->waiting_count;
  snapshot.max_connections = ws->options.max_connections;
  snapshot.topics = ws->topic_count;
  int64_t posted_bytes = atomic_load(&ws->posted_bytes); /* first: what it has is in the other one already */
  snapshot.queued_bytes = atomic_load(&ws->queued_bytes) - posted_bytes;
  snapshot.queued_messages = atomic_load_explicit(&ws->queued_messages, memory_order_relaxed);
  snapshot.paused_connections = ws->paused_count;
  cpool__snapshot_write(&ws->sequence, ws->words, &snapshot.total_connections, CPOOL__WS_STATS_WORDS);
}

int cpool_ws_stats_get(cpool_ws *ws, cpool_ws_stats *out)
{
  cpool_ws_stats own = {.size = sizeof own};
  int rc = cpool__ws_readable(ws);
  if (rc == CPOOL_OK && out == NULL)
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_stats_get: out is needed");
  if (rc != CPOOL_OK)
    return rc;
  cpool__snapshot_read(&ws->sequence, ws->words, &own.total_connections, CPOOL__WS_STATS_WORDS);
  own.messages_dropped +=
      atomic_load_explicit(&ws->dropped_count, memory_order_relaxed); /* no turn need follow these */
  return cpool__struct_write(out, &own, sizeof own, "cpool_ws_stats");
}

int cpool_ws_find(cpool_ws *ws, const char *id, cpool_conn *out)
{
  int rc = cpool__ws_readable(ws);
  if (rc == CPOOL_OK && (id == NULL || out == NULL))
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_find: id and out are needed");
  if (rc != CPOOL_OK)
    return rc;
  bool on_loop = cpool__runtime_on_loop(ws->rt);
  if (!on_loop)
    pthread_mutex_lock(&ws->lock);
  struct cpool__table_entry *entry = cpool__table_find(&ws->by_id, id, strlen(id));
  cpool_conn handle = entry != NULL ? cpool__container_of(entry, struct cpool__ws_conn, by_id)->handle : 0;
  if (!on_loop)
    pthread_mutex_unlock(&ws->lock);
  if (handle == 0)
    return cpool__refuse(CPOOL_ENOTFOUND, CPOOL_LAYER_WS, "no connection has that id");
  *out = handle;
  return CPOOL_OK;
}

static int64_t since(uint64_t from_ms)
{
  uint64_t now_ms = cpool__clock_us() / 1000;
  return now_ms > from_ms ? (int64_t) (now_ms - from_ms) : 0;
}

int cpool_ws_get(cpool_ws *ws, cpool_conn handle, cpool_ws_info *out)
{
  static const int32_t states[] = {
      [CPOOL__WS_WAITING] = CPOOL_WS_WAITING,     [CPOOL__WS_HANDSHAKE] = CPOOL_WS_HANDSHAKING,
      [CPOOL__WS_UNDECIDED] = CPOOL_WS_UNDECIDED, [CPOOL__WS_UP] = CPOOL_WS_OPENED,
      [CPOOL__WS_CLOSING] = CPOOL_WS_CLOSING,     [CPOOL__WS_GONE] = CPOOL_WS_CLOSING};
  int rc = cpool__ws_readable(ws);
  if (rc == CPOOL_OK && out == NULL)
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_get: out is needed");
  if (rc != CPOOL_OK)
    return rc;
  struct cpool__ws_conn *conn = cpool__ws_conn_borrow(ws, handle);
  if (conn == NULL)
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "ws_get: the connection has ended");
  cpool_ws_info own = {.size = sizeof own,
                       .state = states[cpool__ws_phase(conn)],
                       .tls = conn->tls,
                       .age_ms = since(conn->opened_ms),
                       .silent_ms = since(atomic_load(&conn->heard_ms)),
                       .round_trip_us = atomic_load(&conn->round_trip_us),
                       .queued_bytes = atomic_load(&conn->queued_bytes),
                       .queued_messages = atomic_load(&conn->queued_messages),
                       .messages_received = atomic_load(&conn->messages_received),
                       .bytes_received = atomic_load(&conn->bytes_received),
                       .messages_sent = atomic_load(&conn->messages_sent),
                       .bytes_sent = atomic_load(&conn->bytes_sent)};
  cpool__ws_conn_remote(conn, own.remote_address);
  cpool__ws_conn_drop(conn);
  return cpool__struct_write(out, &own, sizeof own, "cpool_ws_info");
}

int cpool_ws_ids(cpool_ws *ws, uint64_t *cursor, char *buffer, size_t len)
{
  int rc = cpool__ws_readable(ws);
  if (rc == CPOOL_OK && (cursor == NULL || (buffer == NULL && len > 0) || *cursor > UINT32_MAX))
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_ids: cursor and buffer are needed");
  if (rc != CPOOL_OK)
    return rc;
  uint32_t index = (uint32_t) *cursor;
  size_t used = 0;
  int count = 0;
  struct cpool__ws_conn *conn;
  pthread_mutex_lock(&ws->lock);
  while ((conn = cpool__ids_next(&ws->ids, &index)) != NULL) {
    if (conn->id == NULL || cpool__ws_phase(conn) != CPOOL__WS_UP)
      continue;
    if (len - used < conn->id_len + 1u) {
      index--; /* it comes first next time */
      break;
    }
    memcpy(buffer + used, conn->id, conn->id_len + 1);
    used += conn->id_len + 1;
    count++;
  }
  pthread_mutex_unlock(&ws->lock);
  if (count == 0 && conn != NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_ids: no id fits into %zu bytes", len);
  *cursor = index;
  return count;
}
