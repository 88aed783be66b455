/* upload: chunks between the writers and libcurl, under one lock
 *
 *   writer: cpool_body_write   -> a chunk at the end; libcurl that waits is woken by the message
 *                                 the window is full: CPOOL_EAGAIN, `refused`
 *   libcurl: take              -> from the first chunk; none and not the last: WAIT, `starved`
 *                                 half of the window is free again and a writer was refused: the event
 *   the event is released      -> another one, if a writer was refused meanwhile and has room by now
 *
 * There is one message and one event; both hold the upload, and so does a writer that has found it in the table. `rt` is
 * cleared under the lock when the request ends: nobody posts to a runtime that may be gone. */
#include "http/upload.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/transfer.h"

struct chunk {
  struct cpool__link link;
  size_t len, taken;
  char data[];
};

int cpool__upload_same(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct cpool__upload *upload = cpool__container_of(entry, const struct cpool__upload, entry);
  return len == sizeof upload->op && memcmp(key, &upload->op, len) == 0;
}

static void unref(struct cpool__upload *upload)
{
  if (atomic_fetch_sub_explicit(&upload->refs, 1, memory_order_acq_rel) > 1)
    return;
  pthread_mutex_destroy(&upload->lock);
  cpool__free(upload);
}

static void hold(struct cpool__upload *upload)
{
  atomic_fetch_add_explicit(&upload->refs, 1, memory_order_relaxed);
}

static bool room_again(const struct cpool__upload *upload)
{
  return upload->refused && !upload->out && upload->held_bytes <= upload->window_bytes / 2;
}

/* Under the lock: the loop looks at what has changed. */
static void post(struct cpool__upload *upload)
{
  if (upload->rt == NULL || upload->posted)
    return;
  upload->posted = true;
  hold(upload);
  cpool__runtime_post(upload->rt, &upload->msg);
}

static void event_released(struct cpool__event *event)
{
  struct cpool__upload *upload = cpool__container_of(event, struct cpool__upload, event);
  pthread_mutex_lock(&upload->lock);
  upload->out = false;
  if (room_again(upload))
    post(upload);
  pthread_mutex_unlock(&upload->lock);
  unref(upload);
}

/* Loop thread: tells a refused writer that there is room. */
static void tell_room(struct cpool__upload *upload)
{
  struct cpool__request *req = upload->req;
  pthread_mutex_lock(&upload->lock);
  bool due = room_again(upload);
  if (due) {
    upload->refused = false;
    upload->out = true;
  }
  pthread_mutex_unlock(&upload->lock);
  if (!due)
    return;
  hold(upload);
  upload->event.event = (cpool_event){.kind = CPOOL_EVENT_WRITABLE, .source = req->op, .user = req->event.event.user};
  upload->event.queue = req->event.queue;
  upload->event.fn = req->event.fn;
  upload->event.bytes = sizeof upload->event;
  upload->event.release = event_released;
  if (req->event.queue != NULL)
    cpool__queue_hold(req->event.queue);
  cpool__runtime_deliver(req->pool->rt, &upload->event);
}

static void on_change(struct cpool__msg *msg)
{
  struct cpool__upload *upload = cpool__container_of(msg, struct cpool__upload, msg);
  pthread_mutex_lock(&upload->lock);
  upload->posted = false;
  bool more = !upload->starved;
  pthread_mutex_unlock(&upload->lock);
  if (upload->req != NULL && more && upload->req->transfer != NULL)
    cpool__transfer_send_more(upload->req->transfer);
  if (upload->req != NULL)
    tell_room(upload);
  unref(upload);
}

struct cpool__upload *cpool__upload_new(int64_t length, int64_t window_bytes)
{
  struct cpool__upload *upload = cpool__calloc(1, sizeof *upload);
  if (upload == NULL)
    return NULL;
  atomic_init(&upload->refs, 1);
  pthread_mutex_init(&upload->lock, NULL);
  cpool__list_init(&upload->chunks);
  upload->length = length;
  upload->window_bytes = window_bytes;
  upload->msg.fn = on_change;
  return upload;
}

bool cpool__upload_start(struct cpool__upload *upload, struct cpool__request *req)
{
  cpool_http *pool = req->pool;
  upload->op = req->op;
  upload->rt = pool->rt;
  pthread_mutex_lock(&pool->uploads_lock);
  int rc = cpool__table_insert(&pool->uploads, &upload->entry, &upload->op, sizeof upload->op);
  pthread_mutex_unlock(&pool->uploads_lock);
  if (rc == 0)
    upload->req = req;
  return rc == 0;
}

void cpool__upload_end(struct cpool__upload *upload, cpool_http *pool)
{
  if (upload == NULL)
    return;
  if (upload->req != NULL) {
    pthread_mutex_lock(&pool->uploads_lock);
    cpool__table_remove(&pool->uploads, &upload->entry);
    pthread_mutex_unlock(&pool->uploads_lock);
  }
  upload->req = NULL;
  pthread_mutex_lock(&upload->lock);
  upload->rt = NULL;
  for (struct cpool__link *link; (link = cpool__list_pop_front(&upload->chunks)) != NULL;)
    cpool__free(cpool__container_of(link, struct chunk, link));
  pthread_mutex_unlock(&upload->lock);
  unref(upload);
}

enum cpool__upload_result cpool__upload_take(struct cpool__upload *upload, char *to, size_t max, size_t *len)
{
  struct cpool__link *link;
  size_t total = 0;
  pthread_mutex_lock(&upload->lock);
  while (total < max && (link = cpool__list_first(&upload->chunks)) != NULL) {
    struct chunk *chunk = cpool__container_of(link, struct chunk, link);
    size_t part = chunk->len - chunk->taken < max - total ? chunk->len - chunk->taken : max - total;
    memcpy(to + total, chunk->data + chunk->taken, part);
    chunk->taken += part;
    total += part;
    if (chunk->taken == chunk->len) {
      cpool__link_remove(link);
      cpool__free(chunk);
    }
  }
  upload->held_bytes -= (int64_t) total;
  bool end = upload->last && cpool__list_empty(&upload->chunks);
  upload->starved = total == 0 && !end;
  bool due = room_again(upload);
  pthread_mutex_unlock(&upload->lock);
  *len = total;
  upload->touched = upload->touched || total > 0;
  if (due)
    tell_room(upload);
  return total > 0 ? CPOOL__UPLOAD_BYTES : end ? CPOOL__UPLOAD_END : CPOOL__UPLOAD_WAIT;
}

/* ------------------------------------------------------------------------------------------------------- the writers */

static struct cpool__upload *find(cpool_http *pool, cpool_op op)
{
  pthread_mutex_lock(&pool->uploads_lock);
  struct cpool__table_entry *entry = cpool__table_find(&pool->uploads, &op, sizeof op);
  struct cpool__upload *upload = entry != NULL ? cpool__container_of(entry, struct cpool__upload, entry) : NULL;
  if (upload != NULL)
    hold(upload);
  pthread_mutex_unlock(&pool->uploads_lock);
  return upload;
}

/* Under the lock. */
static int check(const struct cpool__upload *upload, size_t len, bool last)
{
  if (upload->rt == NULL)
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "cpool_body_write: the request has ended");
  if (upload->last && (len > 0 || upload->length < 0))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_body_write: the last part has been written");
  int64_t left = upload->length - upload->written_bytes;
  if (upload->length >= 0 && (len > (uint64_t) left || (last && len < (uint64_t) left)))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                         "cpool_body_write: %zu bytes%s, where %lld are left of body_len %lld", len,
                         last ? " and the end" : "", (long long) left, (long long) upload->length);
  return CPOOL_OK;
}

static int append(struct cpool__upload *upload, const void *data, size_t len, bool last)
{
  int rc = check(upload, len, last);
  if (rc != CPOOL_OK)
    return rc;
  if (len > 0 && upload->held_bytes >= upload->window_bytes) {
    upload->refused = true;
    return cpool__refuse(CPOOL_EAGAIN, CPOOL_LAYER_POOL,
                         "cpool_body_write: stream_window_bytes (%lld) or more wait to be sent",
                         (long long) upload->window_bytes);
  }
  if (len > 0) {
    struct chunk *chunk = len <= SIZE_MAX - sizeof *chunk ? cpool__malloc(sizeof *chunk + len) : NULL;
    if (chunk == NULL)
      return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "cpool_body_write: no memory");
    memset(chunk, 0, sizeof *chunk);
    chunk->len = len;
    memcpy(chunk->data, data, len);
    cpool__list_push_back(&upload->chunks, &chunk->link);
    upload->held_bytes += (int64_t) len;
    upload->written_bytes += (int64_t) len;
  }
  upload->last = last || upload->written_bytes == upload->length;
  if (upload->starved) {
    upload->starved = false;
    post(upload);
  }
  return CPOOL_OK;
}

int cpool_body_write(cpool_http *pool, cpool_op op, const void *data, size_t len, int32_t last)
{
  if (pool == NULL || (data == NULL && len > 0) || (len == 0 && last == 0))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_body_write: %s",
                         pool == NULL ? "the pool is NULL"
                         : len > 0    ? "data is NULL"
                                      : "nothing to write, and not the last part");
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  struct cpool__upload *upload = find(pool, op);
  if (upload == NULL && cpool__ids_valid(&pool->ids, op))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_body_write: the request has no CPOOL_REQUEST_UPLOAD");
  if (upload == NULL)
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "cpool_body_write: the request has ended");
  pthread_mutex_lock(&upload->lock);
  rc = append(upload, data, len, last != 0);
  pthread_mutex_unlock(&upload->lock);
  unref(upload);
  return rc;
}
