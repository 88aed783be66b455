/* submit: what a caller asks for is checked, laid out in one block, and posted to the loop; cancel. Any thread. */
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"
#include "http/coding.h"
#include "http/events.h"
#include "http/http_options.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/session.h"
#include "http/stream.h"
#include "http/trace.h"
#include "http/upload.h"

enum {
  FLAGS_KNOWN = CPOOL_REQUEST_REPEATABLE | CPOOL_REQUEST_STREAM | CPOOL_REQUEST_UPLOAD | CPOOL_REQUEST_DECOMPRESS |
                CPOOL_REQUEST_SSE
};

static bool idempotent(const char *method)
{
  static const char *const methods[] = {"GET",   "HEAD", "OPTIONS",
                                        "TRACE", "PUT",  "DELETE"}; /* RFC 9110 section 9.2.2 */
  for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
    if (strcmp(method, methods[i]) == 0)
      return true;
  return false;
}

static int check(const cpool_request *own)
{
  if ((own->queue == NULL) == (own->on_event == NULL))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: exactly one of queue and on_event is needed");
  if (own->url == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: url is missing");
  if (own->method != NULL && (!cpool__token_valid(own->method) || strlen(own->method) > 32))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: method is not a token of at most 32 bytes");
  if (own->method != NULL && strcasecmp(own->method, "CONNECT") == 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: method CONNECT is not available");
  bool upload = (own->flags & CPOOL_REQUEST_UPLOAD) != 0;
  if (upload && own->body != NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: body is given beside CPOOL_REQUEST_UPLOAD");
  if (own->body == NULL && own->body_len > 0 && !upload)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: body is NULL and body_len is %zu", own->body_len);
  if (own->method != NULL && strcmp(own->method, "HEAD") == 0 && (own->body_len > 0 || upload))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: HEAD has no body");
  if (own->body_len > INT64_MAX / 2)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: body_len is out of range");
  if ((own->flags & ~FLAGS_KNOWN) != 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: flags 0x%x are unknown", (unsigned) own->flags);
  if (own->sse_reconnect != 0 && own->sse_reconnect != CPOOL_OFF)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: sse_reconnect %d is neither 0 nor off",
                         (int) own->sse_reconnect);
  if (own->headers == NULL && own->header_count > 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: headers is NULL and header_count is %zu",
                         own->header_count);
  return cpool__headers_check(own->headers, own->header_count);
}

/* One override of a request: 0 is the standard value; the table's range holds. */
static int pick(const struct cpool__option_table *table, const char *key, int64_t wanted, int64_t standard,
                int64_t *out)
{
  if (wanted == 0) {
    *out = standard;
    return CPOOL_OK;
  }
  const struct cpool__option *option = cpool__options_find(table, key);
  if (!(wanted == CPOOL_OFF && (option->flags & CPOOL__OPTION_OFF) != 0) &&
      ((double) wanted < option->minimum || (double) wanted > option->maximum))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: %s %lld is out of range %.0f..%.0f%s", key,
                         (long long) wanted, option->minimum, option->maximum,
                         option->flags & CPOOL__OPTION_OFF ? " (or off)" : "");
  *out = wanted;
  return CPOOL_OK;
}

static int pick_all(const cpool_session *session, const cpool_request *own, struct cpool__request *limits)
{
  cpool_http *pool = session->pool;
  int64_t redirects;
  static const struct {
    const char *key;
    size_t wanted, chosen;
  } overrides[CPOOL__REQUEST_DEFAULTS] = {
#define OVERRIDE(key) {#key, offsetof(cpool_request, key), offsetof(struct cpool__request, key)},
      CPOOL__REQUEST_DEFAULT_KEYS(OVERRIDE)
#undef OVERRIDE
  };
  for (int i = 0; i < CPOOL__REQUEST_DEFAULTS; i++) {
    int64_t standard = atomic_load_explicit(&pool->request_defaults[i], memory_order_relaxed);
    const int64_t *wanted = (const void *) ((const char *) own + overrides[i].wanted);
    int64_t *chosen = (void *) ((char *) limits + overrides[i].chosen);
    int rc = pick(&cpool__http_option_table, overrides[i].key, *wanted, standard, chosen);
    if (rc != CPOOL_OK)
      return rc;
  }
  limits->max_response_bytes = cpool__limit64(limits->max_response_bytes);
  bool events = (own->flags & CPOOL_REQUEST_SSE) != 0;
  if ((own->flags & CPOOL_REQUEST_STREAM) != 0 && !events && own->max_response_bytes == 0) /* nothing collects it */
    limits->max_response_bytes = INT64_MAX;
  if (events && own->total_timeout_ms == 0) /* it is to go on */
    limits->total_timeout_ms = CPOOL_OFF;
  int rc = pick(&cpool__session_option_table, "max_redirects", own->max_redirects, session->max_redirects, &redirects);
  if (rc == CPOOL_OK)
    limits->max_redirects =
        (uint8_t) (redirects == CPOOL_OFF || (own->flags & CPOOL_REQUEST_UPLOAD) != 0 ? 0 : redirects);
  return rc;
}

/* What of the request decides its layout in memory. */
struct shape {
  const char *method;
  enum cpool__request_kind kind;
  struct cpool__url url;
  const char *base_path;
  size_t base_len, target_len, fragment_len, method_len, headers_bytes;
  const char *extra[5];
  size_t extra_count;
  struct cpool__header_list defaults; /* the session's, or without its credentials */
  bool repeatable, plain_headers;
};

static int shape_url(cpool_session *session, const cpool_request *own, struct shape *shape)
{
  if (own->url[0] != '/' && own->url[0] != '?')
    return cpool__url_parse(&session->pool->urls, own->url, "url", &shape->url);
  if (session->base.authority == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "url: it is relative and the session has no base_url");
  shape->url.authority = session->base.authority;
  shape->url.target = own->url;
  shape->base_path = session->base_path;
  shape->base_len = session->base_path_len;
  return cpool__url_target(own->url, "url", &shape->url.target_len);
}

static int shape_request(cpool_session *session, const cpool_request *own, struct shape *shape)
{
  bool upload = (own->flags & CPOOL_REQUEST_UPLOAD) != 0;
  const char *method = own->method != NULL ? own->method : own->body_len > 0 || upload ? "POST" : "GET";
  int rc = shape_url(session, own, shape);
  if (rc != CPOOL_OK)
    return rc;
  bool takes_body = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
  shape->kind = upload                            ? CPOOL__KIND_UPLOAD
                : own->body_len > 0 || takes_body ? CPOOL__KIND_BODY
                : strcmp(method, "HEAD") == 0     ? CPOOL__KIND_HEAD
                                                  : CPOOL__KIND_GET;
  const char *implied[] = {"GET", "HEAD", "POST", "PUT"};
  shape->method = strcmp(method, implied[shape->kind]) == 0 ? NULL : method;
  shape->method_len = shape->method != NULL ? strlen(method) + 1 : 0;
  /* "" needs the '/' that RFC 9112 section 3.2.1 wants, and so does a bare query */
  bool slash = shape->base_len == 0 && (shape->url.target_len == 0 || shape->url.target[0] == '?');
  if (slash) {
    shape->base_path = "/";
    shape->base_len = 1;
  }
  shape->target_len = shape->base_len + shape->url.target_len;
  shape->fragment_len = strlen(shape->url.target + shape->url.target_len);
  if (shape->kind == CPOOL__KIND_BODY || upload) { /* what libcurl would add by itself */
    shape->extra[shape->extra_count++] = "Expect:";
    if (!cpool__headers_find(own->headers, own->header_count, "Content-Type"))
      shape->extra[shape->extra_count++] = "Content-Type:";
  }
  if ((own->flags & CPOOL_REQUEST_DECOMPRESS) != 0)
    shape->extra[shape->extra_count++] = cpool__codings_header();
  if ((own->flags & CPOOL_REQUEST_SSE) != 0) {
    shape->extra[shape->extra_count++] = "Accept: text/event-stream";
    shape->extra[shape->extra_count++] = "Cache-Control: no-cache";
  }
  shape->defaults = session->headers;
  bool foreign = session->has_credentials && session->base.authority != NULL &&
                 strcmp(session->base.authority->origin, shape->url.authority->origin) != 0;
  if (foreign)
    shape->defaults.count--;
  shape->plain_headers = own->header_count == 0 && shape->extra_count == 0 && !foreign;
  if (!shape->plain_headers)
    shape->headers_bytes =
        cpool__headers_size(&shape->defaults, own->headers, own->header_count, shape->extra, shape->extra_count);
  shape->repeatable = idempotent(method) || (own->flags & CPOOL_REQUEST_REPEATABLE) != 0 ||
                      cpool__headers_find(own->headers, own->header_count, "Idempotency-Key");
  if (shape->target_len + shape->headers_bytes > CPOOL__HEAD_MAX_BYTES)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: url and headers exceed %d bytes",
                         (int) CPOOL__HEAD_MAX_BYTES);
  return CPOOL_OK;
}

/* Writes the target, and its NUL; returns what follows. */
static char *write_target(char *at, const struct shape *shape)
{
  if (shape->base_len > 0)
    memcpy(at, shape->base_path, shape->base_len);
  if (shape->url.target_len > 0)
    memcpy(at + shape->base_len, shape->url.target, shape->url.target_len);
  at[shape->target_len] = '\0';
  return at + shape->target_len + 1;
}

/* The URL, whose end is the target; where a fragment follows it there, the target stands once more behind. */
static char *write_url(struct cpool__request *req, char *at, const struct shape *shape)
{
  const struct cpool__authority *authority = shape->url.authority;
  const char *fragment = shape->url.target + shape->url.target_len;
  req->resp.url = at;
  memcpy(at, authority->prefix, authority->prefix_len);
  at += authority->prefix_len;
  req->target = at;
  at = write_target(at, shape);
  if (shape->fragment_len == 0)
    return at;
  memcpy(at - 1, fragment, shape->fragment_len + 1);
  at += shape->fragment_len;
  req->target = at;
  return write_target(at, shape);
}

/* One block: the struct, the header list, URL, method; and the body, which goes earlier. NULL: out of memory. */
static struct cpool__request *build(cpool_session *session, const cpool_request *own, const struct shape *shape)
{
  size_t head = cpool__align_up(sizeof(struct cpool__request)) + cpool__align_up(shape->headers_bytes);
  size_t url_size = shape->url.authority->prefix_len + shape->target_len + 1;
  if (shape->fragment_len > 0)
    url_size += shape->fragment_len + shape->target_len + 1;
  size_t total = head + url_size + shape->method_len;
  struct cpool__request *req = cpool__malloc(total);
  void *body = own->body != NULL && own->body_len > 0 ? cpool__malloc(own->body_len) : NULL;
  if (req == NULL || (own->body != NULL && own->body_len > 0 && body == NULL)) {
    cpool__free(req);
    cpool__free(body);
    return NULL;
  }
  memset(req, 0, sizeof *req);
  req->block_bytes = total;
  char *at = (char *) req + head;
  if (shape->plain_headers)
    req->headers = session->headers;
  else
    cpool__headers_build(&req->headers, (char *) req + cpool__align_up(sizeof *req), &shape->defaults, own->headers,
                         own->header_count, shape->extra, shape->extra_count);
  at = write_url(req, at, shape);
  if (shape->method != NULL)
    req->method = memcpy(at, shape->method, shape->method_len);
  if (body != NULL) {
    req->body = memcpy(body, own->body, own->body_len);
    req->body_len = own->body_len;
  }
  return req;
}

/* What streams need beyond the block. False: out of memory. */
static bool build_streams(struct cpool__request *req, const cpool_request *own, int64_t window_bytes)
{
  cpool_http *pool = req->pool;
  if ((own->flags & CPOOL_REQUEST_SSE) != 0) {
    req->events = cpool__events_new(own, atomic_load_explicit(&pool->sse_retry_ms, memory_order_relaxed),
                                    atomic_load_explicit(&pool->max_sse_event_bytes, memory_order_relaxed));
    if (req->events == NULL)
      return false;
    if (!req->repeatable || req->kind == CPOOL__KIND_UPLOAD) /* as it would not be sent again after a reset */
      req->events->reconnect = false;
  }
  if ((own->flags & (CPOOL_REQUEST_STREAM | CPOOL_REQUEST_SSE)) != 0) {
    req->stream = cpool__stream_new(window_bytes, pool->stream_budget);
    if (req->stream == NULL)
      return false;
    atomic_init(&req->resp.open, true);
  }
  if ((own->flags & CPOOL_REQUEST_UPLOAD) != 0) {
    req->upload = cpool__upload_new(own->body_len > 0 ? (int64_t) own->body_len : -1, window_bytes);
    if (req->upload == NULL || !cpool__upload_start(req->upload, req))
      return false;
  }
  return true;
}

static bool reserve_pending(cpool_http *pool)
{
  int32_t max = atomic_load_explicit(&pool->max_pending, memory_order_relaxed);
  if (atomic_fetch_add_explicit(&pool->pending_count, 1, memory_order_relaxed) < max)
    return true;
  atomic_fetch_sub_explicit(&pool->pending_count, 1, memory_order_relaxed);
  return false;
}

static int submit(cpool_session *session, const cpool_request *own, cpool_op *out)
{
  cpool_http *pool = session->pool;
  struct shape shape = {0};
  struct cpool__request limits = {0};
  struct cpool__request *req = NULL;
  int rc = pick_all(session, own, &limits);
  if (rc != CPOOL_OK)
    return rc;
  rc = cpool__http_enter(pool);
  if (rc != CPOOL_OK)
    return rc;
  if (own->queue != NULL && cpool__queue_above(own->queue)) {
    rc = cpool__refuse(CPOOL_EFULL, CPOOL_LAYER_POOL, "the queue is above its high mark: release events");
    goto leave;
  }
  if (!reserve_pending(pool)) {
    rc = cpool__refuse(CPOOL_EFULL, CPOOL_LAYER_POOL, "max_pending (%d) requests wait",
                       (int) atomic_load_explicit(&pool->max_pending, memory_order_relaxed));
    goto leave;
  }
  rc = shape_request(session, own, &shape);
  if (rc != CPOOL_OK)
    goto unreserve;
  req = build(session, own, &shape);
  cpool_op op = req != NULL ? cpool__ids_take(&pool->ids, req) : 0;
  if (op == 0)
    goto no_memory;
  cpool__request_init(req);
  req->event.event.source = op;
  req->event.event.user = own->user;
  req->event.queue = own->queue;
  req->event.fn = own->on_event;
  req->pool = pool;
  req->session = session;
  req->op = op;
  req->pending_counted = true;
  req->repeatable = req->safe_again = shape.repeatable;
  req->max_redirects = limits.max_redirects;
  req->decompress = (own->flags & CPOOL_REQUEST_DECOMPRESS) != 0;
  req->kind = shape.kind;
  req->submit_us = cpool__clock_us();
  req->acquire_timeout_ms = limits.acquire_timeout_ms;
  req->connect_timeout_ms = limits.connect_timeout_ms;
  req->sock_read_timeout_ms = limits.sock_read_timeout_ms;
  req->total_timeout_ms = limits.total_timeout_ms;
  req->max_response_bytes = limits.max_response_bytes;
  req->authority = shape.url.authority;
  req->owned_authority = shape.url.owned;
  if (!build_streams(req, own, limits.stream_window_bytes)) {
    cpool__ids_give(&pool->ids, op);
    goto no_memory;
  }
  cpool__session_hold(session);
  if (own->queue != NULL)
    cpool__queue_hold(own->queue);
  if (out != NULL)
    *out = op;
  cpool__runtime_post(pool->rt, &req->msg);
  return CPOOL_OK;

no_memory:
  rc = cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a request");
unreserve:
  if (req != NULL) {
    cpool__stream_end(req->stream);
    cpool__events_free(req->events);
    cpool__upload_end(req->upload, pool);
    cpool__free(req->stream);
    cpool__free(req->body);
  }
  cpool__free(req);
  cpool__authority_free(shape.url.owned);
  atomic_fetch_sub_explicit(&pool->pending_count, 1, memory_order_relaxed);
leave:
  cpool__http_leave(pool);
  return rc;
}

int cpool_submit(cpool_session *session, const cpool_request *request, cpool_op *out)
{
  cpool_request own;
  if (session == NULL || request == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "submit: session and request are needed");
  int rc = cpool__http_usable(session->pool);
  if (rc == CPOOL_OK)
    rc = cpool__struct_read(&own, sizeof own, request, "request");
  if (rc == CPOOL_OK)
    rc = check(&own);
  if (rc == CPOOL_OK) {
    struct cpool__trace_headers trace;
    rc = cpool__trace_add(&trace, &own);
    if (rc == CPOOL_OK)
      rc = submit(session, &own, out);
    cpool__trace_fini(&trace);
  }
  if (rc != CPOOL_OK && rc != CPOOL_EFORK)
    atomic_fetch_add_explicit(&session->pool->refused_count, 1, memory_order_relaxed);
  return rc;
}

struct cancel_msg {
  struct cpool__msg msg;
  cpool_http *pool;
  cpool_op op;
};

static void on_cancel(struct cpool__msg *msg)
{
  struct cancel_msg *cancel = cpool__container_of(msg, struct cancel_msg, msg);
  cpool_http *pool = cancel->pool;
  struct cpool__request *req = cpool__ids_get(&pool->ids, cancel->op);
  cpool__free(cancel);
  if (req != NULL && req->state == CPOOL__REQUEST_POSTED)
    req->cancelled = true; /* another thread overtook the submitting one */
  else if (req != NULL)
    cpool__request_cut(req, CPOOL_ECANCELLED, CPOOL_LAYER_CALLER, "cancelled by the caller");
  cpool__http_leave_on_loop(pool);
}

int cpool_cancel(cpool_http *pool, cpool_op op)
{
  if (pool == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cancel: pool is needed");
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  struct cancel_msg *cancel = cpool__malloc(sizeof *cancel);
  if (cancel == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "cancel: no memory");
  cancel->msg.fn = on_cancel;
  cancel->pool = pool;
  cancel->op = op;
  if (cpool__http_post(pool, &cancel->msg, op))
    return CPOOL_OK;
  cpool__free(cancel);
  return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "cancel: the request has ended");
}

cpool_response *cpool_event_take_response(const cpool_event *event)
{
  if (event == NULL || event->kind != CPOOL_EVENT_RESPONSE || event->response == NULL)
    return NULL;
  struct cpool__event *own = cpool__container_of(event, struct cpool__event, event);
  struct cpool__request *req = cpool__container_of(own, struct cpool__request, event);
  own->event.response = NULL;
  atomic_fetch_add_explicit(&req->refs, 1, memory_order_relaxed);
  return &req->resp;
}

void cpool_response_free(cpool_response *resp)
{
  if (resp != NULL)
    cpool__request_unref(cpool__container_of(resp, struct cpool__request, resp));
}
