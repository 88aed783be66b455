/* events: a request whose answer is a stream of server-sent events, and which is sent again when that stream ends. Loop
 * thread once submitted. */
#ifndef CPOOL_HTTP_EVENTS_H
#define CPOOL_HTTP_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <cpool.h>

#include "http/header_list.h"
#include "http/sse.h"

struct cpool__request;

/* Of a request with CPOOL_REQUEST_SSE. */
struct cpool__events {
  struct cpool__sse parser;
  bool reconnect; /* it may be sent again */
  bool open;      /* this answer is a stream of events */
  bool opened;    /* an answer was */
  bool broke;     /* the last one failed */
  int failures;   /* tries in a row that opened no stream */
  int64_t retry_ms;
  struct cpool__header_list plain; /* headers without Last-Event-ID */
  void *block;                     /* of the list that has it */
};

/* NULL: out of memory. */
struct cpool__events *cpool__events_new(const cpool_request *own, int64_t retry_ms, int64_t max_event_bytes);
void cpool__events_free(struct cpool__events *events); /* NULL is legal */
/* The head is complete: is it a stream of events? */
void cpool__events_begin(struct cpool__request *req);
/* Takes bytes up to the end of the next event and delivers that; *in is moved on. */
enum cpool__sse_result cpool__events_take(struct cpool__request *req, const char **in, size_t *len);
/* The request would end like that (NULL: success); true: it does not, since it will be sent again, or has ended for want
 * of memory. */
bool cpool__events_again(struct cpool__request *req, const cpool_error *error);

#endif
