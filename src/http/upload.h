/* upload: a request's body that its caller writes piece by piece, on its way to libcurl */
#ifndef CPOOL_HTTP_UPLOAD_H
#define CPOOL_HTTP_UPLOAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cpool.h>

#include "base/list.h"
#include "base/table.h"
#include "core/queue.h"

struct cpool__request;

struct cpool__upload {
  struct cpool__table_entry entry; /* pool->uploads, under uploads_lock, while the request is in flight */
  cpool_op op;
  _Atomic uint32_t refs; /* the request, each writer, the message, the event */
  pthread_mutex_t lock;  /* all down to the next heading */
  struct cpool__list chunks;
  int64_t length; /* announced; -1: unknown */
  int64_t window_bytes, held_bytes, written_bytes;
  bool last;         /* all has been written */
  bool starved;      /* libcurl waits for more */
  bool refused;      /* a writer waits for the event */
  bool posted;       /* msg is on its way */
  bool out;          /* the event is */
  cpool_runtime *rt; /* NULL: the request has ended */
  struct cpool__msg msg;
  /* loop thread */
  struct cpool__request *req; /* NULL: it has ended */
  struct cpool__event event;
  bool touched; /* libcurl has taken some of it: the body cannot be sent from its beginning any more */
};

int cpool__upload_same(const struct cpool__table_entry *entry, const void *key, size_t len); /* for pool->uploads */
/* With one reference, and not in the table yet. NULL: out of memory. */
struct cpool__upload *cpool__upload_new(int64_t length, int64_t window_bytes);
/* Any thread, before the request is posted. False: out of memory. */
bool cpool__upload_start(struct cpool__upload *upload, struct cpool__request *req);
/* Loop thread, or the submitter before the post: no more of it is wanted. Gives the request's reference up; NULL is
 * legal. */
void cpool__upload_end(struct cpool__upload *upload, cpool_http *pool);
enum cpool__upload_result { CPOOL__UPLOAD_BYTES, CPOOL__UPLOAD_WAIT, CPOOL__UPLOAD_END };
/* Loop thread: the next bytes for libcurl, at most `max`. WAIT: it is asked again when there is more. */
enum cpool__upload_result cpool__upload_take(struct cpool__upload *upload, char *to, size_t max, size_t *len);

#endif
