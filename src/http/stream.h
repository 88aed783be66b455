/* stream: the body of an answer on its way to its consumer, in pieces that count against marks until they are released */
#ifndef CPOOL_HTTP_STREAM_H
#define CPOOL_HTTP_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/queue.h"
#include "core/water.h"

struct cpool__request;
struct cpool__sse_text;

/* Of a request with CPOOL_REQUEST_STREAM. Loop thread once submitted. */
struct cpool__stream {
  struct cpool__event head; /* as the final one: embedded, so that its delivery cannot fail */
  bool head_sent;
  struct cpool__budget *window, *pool; /* bytes with the consumer: of this stream, of all of the pool */
  int64_t credit_bytes;                /* with a callback: what cpool_body_credit has to give back */
  int64_t taken_bytes;                 /* of the body so far */
};

/* What libcurl reads at a time; it hands out 16 KiB at most. Twice that saves half of its calls to the kernel. While a
 * stream is held back, so much of it lies with libcurl. */
enum { CPOOL__STREAM_READ_BYTES = 32768 };

enum cpool__stream_result { CPOOL__STREAM_OK, CPOOL__STREAM_NO_MEMORY, CPOOL__STREAM_OVER_CAP };

/* NULL: out of memory. Holds `pool`. */
struct cpool__stream *cpool__stream_new(int64_t window_bytes, struct cpool__budget *pool);
/* The request has ended, or was never posted; NULL is legal. Pieces on their way live on. */
void cpool__stream_end(struct cpool__stream *stream);
/* The head of the answer is complete: its event goes out, once. */
void cpool__stream_head(struct cpool__request *req);
/* Copies a piece of the body into an event. */
enum cpool__stream_result cpool__stream_piece(struct cpool__request *req, const void *data, size_t len);
/* One event, copied; counts with its texts. False: out of memory. */
bool cpool__stream_event(struct cpool__request *req, const struct cpool__sse_text *text);
void cpool__stream_event_texts(const cpool_event *event, const char **id, const char **type, size_t *bytes);
int64_t cpool__stream_low(int64_t window_bytes); /* the low mark that belongs to a high one */

#endif
