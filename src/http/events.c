/* events: from one stream of events to the next
 *
 *   first answer is no stream, or there is none   -> the request ends with it
 *   the stream ends or breaks                     -> wait -> sent again, as a new admission -> the next stream
 *   sent again: no connection, no answer          -> wait, twice as long each time -> sent again
 *               an answer that is no stream       -> the request ends with it
 *
 * While it waits it holds neither connection nor place, but stays active and keeps its route. */
#include "http/events.h"

#include <stdalign.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"
#include "http/body.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/stream.h"

enum {
  LEAST_RETRY_MS = 100, /* whatever a server says: it is not to have itself or the loop hammered */
  MOST_DOUBLINGS = 4,
  MOST_ID_BYTES = 8192 /* of a header that servers read */
};

struct cpool__events *cpool__events_new(const cpool_request *own, int64_t retry_ms, int64_t max_event_bytes)
{
  struct cpool__events *events = cpool__calloc(1, sizeof *events);
  if (events == NULL)
    return NULL;
  events->parser.cap = max_event_bytes > (int64_t) (SIZE_MAX / 4) ? SIZE_MAX / 4 : (size_t) max_event_bytes;
  events->parser.retry_ms = -1;
  events->retry_ms = retry_ms;
  events->reconnect = own->sse_reconnect != CPOOL_OFF;
  for (size_t i = 0; i < own->header_count; i++) { /* where the caller goes on is an id like those that will come */
    const char *value = own->headers[i].value;
    if (strcasecmp(own->headers[i].name, "Last-Event-ID") == 0 &&
        cpool__buffer_append(&events->parser.last_id, value, strlen(value), SIZE_MAX) != CPOOL__BUFFER_OK) {
      cpool__events_free(events);
      return NULL;
    }
    if (strcasecmp(own->headers[i].name, "Last-Event-ID") == 0)
      break;
  }
  return events;
}

void cpool__events_free(struct cpool__events *events)
{
  if (events == NULL)
    return;
  cpool__sse_fini(&events->parser);
  cpool__free(events->block);
  cpool__free(events);
}

static bool is_event_stream(const char *type)
{
  static const char wanted[] = "text/event-stream";
  size_t len = sizeof wanted - 1;
  return type != NULL && strncasecmp(type, wanted, len) == 0 &&
         (type[len] == '\0' || type[len] == ';' || type[len] == ' ' || type[len] == '\t');
}

void cpool__events_begin(struct cpool__request *req)
{
  struct cpool__events *events = req->events;
  events->open = req->resp.status_code == 200 && is_event_stream(cpool_response_header(&req->resp, "Content-Type"));
  if (!events->open)
    return;
  events->opened = true;
  events->failures = 0;
  cpool__sse_restart(&events->parser);
}

enum cpool__sse_result cpool__events_take(struct cpool__request *req, const char **in, size_t *len)
{
  struct cpool__sse_text text;
  enum cpool__sse_result result = cpool__sse_feed(&req->events->parser, in, len, &text);
  if (result != CPOOL__SSE_EVENT)
    return result;
  if (!cpool__stream_event(req, &text))
    return CPOOL__SSE_NO_MEMORY;
  req->pool->stats.now.sse_events++;
  return result;
}

/* -------------------------------------------------------------------------------------------------------- reconnect */

/* What time may mend. */
static bool passes(int status)
{
  switch (status) {
  case CPOOL_ETIMEOUT_ACQUIRE:
  case CPOOL_ETIMEOUT_CONNECT:
  case CPOOL_ETIMEOUT_READ:
  case CPOOL_EDNS_NOTFOUND:
  case CPOOL_EDNS_FAILED:
  case CPOOL_ECONNECT:
  case CPOOL_ETLS_HANDSHAKE:
  case CPOOL_ERESET:
  case CPOOL_ETRUNCATED:
  case CPOOL_ESYSTEM:
    return true;
  default:
    return false;
  }
}

/* In a header of one line, and of a length that servers take. */
static bool id_can_be_sent(const struct cpool__buffer *id)
{
  for (size_t i = 0; i < id->len; i++) {
    unsigned char byte = (unsigned char) id->data[i];
    if ((byte < 0x20 && byte != '\t') || byte == 0x7f)
      return false;
  }
  return id->len > 0 && id->len <= MOST_ID_BYTES;
}

static bool is_last_event_id(const char *line)
{
  return strncasecmp(line, "Last-Event-ID", 13) == 0 && (line[13] == ':' || line[13] == ';');
}

/* The request's headers, with the id in the place of what it said before. False: out of memory. */
static bool set_headers(struct cpool__request *req)
{
  static const char name[] = "Last-Event-ID: ";
  struct cpool__events *events = req->events;
  const struct cpool__buffer *id = &events->parser.last_id;
  if (events->block == NULL || req->headers.nodes != events->block) /* the first time, or a redirect chose others */
    events->plain = req->headers;
  size_t nodes_bytes = (events->plain.count + 1) * sizeof(struct curl_slist);
  size_t id_len = id_can_be_sent(id) ? id->len : 0;
  char *block = cpool__malloc(nodes_bytes + sizeof name + id_len);
  if (block == NULL)
    return false;
  struct curl_slist *nodes = (struct curl_slist *) (void *) block;
  struct cpool__header_list list = {.nodes = nodes};
  for (size_t i = 0; i < events->plain.count; i++) {
    if (id->data != NULL && is_last_event_id(events->plain.nodes[i].data))
      continue;
    nodes[list.count++].data = events->plain.nodes[i].data;
    list.bytes += strlen(events->plain.nodes[i].data) + 2;
  }
  if (id_len > 0) {
    char *line = block + nodes_bytes;
    memcpy(line, name, sizeof name - 1);
    memcpy(line + sizeof name - 1, id->data, id_len);
    line[sizeof name - 1 + id_len] = '\0';
    nodes[list.count++].data = line;
    list.bytes += sizeof name + 1 + id_len;
  }
  for (size_t i = 0; i < list.count; i++)
    nodes[i].next = i + 1 < list.count ? &nodes[i + 1] : NULL;
  if (list.count == 0)
    list.nodes = NULL;
  cpool__free(events->block);
  events->block = block;
  req->headers = list;
  return true;
}

static void on_retry_time(struct cpool__timer *timer)
{
  struct cpool__request *req = cpool__container_of(timer, struct cpool__request, phase_timer);
  if (req->pool->state != CPOOL__HTTP_OPEN)
    cpool__request_fail(req, CPOOL_ECLOSED, CPOOL_LAYER_POOL, 0, 0, "the pool is closing");
  else
    cpool__request_again(req, !req->events->broke);
}

/* Up to a fifth longer: those who were cut off together do not come back together. */
static int64_t wait_ms(struct cpool__request *req)
{
  struct cpool__events *events = req->events;
  int64_t retry_ms = events->parser.retry_ms >= 0 ? events->parser.retry_ms : events->retry_ms;
  int doublings = events->failures < MOST_DOUBLINGS ? events->failures : MOST_DOUBLINGS;
  if (retry_ms < LEAST_RETRY_MS)
    retry_ms = LEAST_RETRY_MS;
  retry_ms <<= doublings;
  return retry_ms + (int64_t) (cpool__pool_random(req->pool) % (uint64_t) (retry_ms / 5 + 1));
}

bool cpool__events_again(struct cpool__request *req, const cpool_error *error)
{
  struct cpool__events *events = req->events;
  cpool_http *pool = req->pool;
  if (!events->reconnect || !events->opened || pool->state != CPOOL__HTTP_OPEN || !req->dispatched ||
      !(error == NULL ? events->open : passes(error->status)))
    return false;
  if (!set_headers(req)) {
    events->reconnect = false;
    cpool__request_fail(req, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, 0, "no memory to ask for the events again");
    return true;
  }
  int64_t delay_ms = wait_ms(req);
  events->failures++;
  events->open = false;
  events->broke = error != NULL;
  cpool__body_forget(req);
  req->state = CPOOL__REQUEST_WAITING;
  req->sending = false;
  req->hop_waiting = true; /* for a connection, from now on */
  req->begin_us = cpool__clock_us();
  req->phase_due_ms = UINT64_MAX;
  cpool__runtime_disarm(pool->rt, &req->phase_timer);
  cpool__runtime_arm(pool->rt, &req->phase_timer, cpool__runtime_now_ms(pool->rt) + (uint64_t) delay_ms, on_retry_time);
  pool->stats.now.sse_reconnects++;
  cpool__log(cpool__runtime_log(pool->rt), CPOOL_LOG_INFO, "sse", "%s: the stream of events %s (%s): again in %lld ms",
             req->route->origin->key, error == NULL ? "ended" : "failed",
             cpool_status_name(error == NULL ? CPOOL_OK : error->status), (long long) delay_ms);
  cpool__http_touch(pool);
  return true;
}

/* ------------------------------------------------------------------------------------------------------- public calls */

int cpool_event_sse_get(const cpool_event *event, cpool_sse_event *out)
{
  if (event == NULL || event->kind != CPOOL_EVENT_SSE)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_event_sse_get: it is no CPOOL_EVENT_SSE");
  cpool_sse_event own = {.size = sizeof own, .data = event->data, .data_len = event->len};
  cpool__stream_event_texts(event, &own.id, &own.type, &own.bytes);
  return cpool__struct_write(out, &own, sizeof own, "cpool_sse_event");
}
