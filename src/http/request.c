/* request: one submit from call to final event */
#include "http/request.h"

#include <assert.h>
#include <stdalign.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"
#include "http/conn.h"
#include "http/curl_loop.h"
#include "http/dispatch.h"
#include "http/http_options.h"
#include "http/pool.h"
#include "http/session.h"
#include "http/transfer.h"

/* ---------------------------------------------------------------------------------------------------- loop thread */

void cpool__request_unref(struct cpool__request *req)
{
  if (atomic_fetch_sub_explicit(&req->refs, 1, memory_order_acq_rel) > 1)
    return;
  cpool__response_fini(&req->resp);
  cpool__free(req);
}

static void event_released(struct cpool__event *event)
{
  cpool__request_unref(cpool__container_of(event, struct cpool__request, event));
}

/* Another request of another thread may be waiting for what this one held. */
static void give_back_pending(struct cpool__request *req)
{
  if (!req->pending_counted)
    return;
  req->pending_counted = false;
  atomic_fetch_sub_explicit(&req->pool->pending_count, 1, memory_order_relaxed);
}

static void count_end(struct cpool__request *req)
{
  cpool_http *pool = req->pool;
  cpool_http_stats *stats = &pool->stats.now;
  struct cpool_response *resp = &req->resp;
  stats->bytes_sent += resp->bytes_sent;
  stats->bytes_received += resp->bytes_received;
  if (req->dispatched)
    stats->active_requests--;
  switch (resp->status) {
  case CPOOL_ECANCELLED:
    stats->cancelled++;
    break;
  case CPOOL_ETIMEOUT_ACQUIRE:
    stats->timeout_acquire++;
    break;
  case CPOOL_ETIMEOUT_CONNECT:
    stats->timeout_connect++;
    break;
  case CPOOL_ETIMEOUT_READ:
    stats->timeout_read++;
    break;
  case CPOOL_ETIMEOUT_TOTAL:
    stats->timeout_total++;
    break;
  default:
    break;
  }
  if (resp->status == CPOOL_OK)
    stats->succeeded++;
  else
    stats->failed++;
  if (req->dispatched)
    cpool__histogram_record(&pool->stats.phases[CPOOL_PHASE_QUEUE], resp->queue_us);
  if (resp->tls_us >= 0)
    cpool__histogram_record(&pool->stats.phases[CPOOL_PHASE_TLS], resp->tls_us);
  if (resp->first_byte_us >= 0)
    cpool__histogram_record(&pool->stats.phases[CPOOL_PHASE_FIRST_BYTE], resp->first_byte_us);
  cpool__histogram_record(&pool->stats.phases[CPOOL_PHASE_TOTAL], resp->total_us);
  if (req->route != NULL) {
    if (resp->status == CPOOL_OK)
      req->route->origin->succeeded++;
    else
      req->route->origin->failed++;
    cpool__origin_touch(req->route->origin);
  }
}

void cpool__request_finish(struct cpool__request *req, const cpool_error *error)
{
  cpool_http *pool = req->pool;
  cpool_runtime *rt = pool->rt;
  uint64_t now_us = cpool__clock_us(); /* as submit_us: a busy turn is long enough to show in a duration */
  assert(req->state != CPOOL__REQUEST_DONE && req->transfer == NULL && req->dialling == NULL);
  req->resp.total_us = now_us > req->submit_us ? (int64_t) (now_us - req->submit_us) : 0;
  if (error != NULL)
    cpool__response_fail(&req->resp, error);
  give_back_pending(req);
  count_end(req);
  req->state = CPOOL__REQUEST_DONE;
  cpool__runtime_disarm(rt, &req->total_timer);
  cpool__runtime_disarm(rt, &req->phase_timer);
  cpool__link_remove(&req->link);
  if (req->route != NULL)
    cpool__route_unuse(req->route);
  req->route = NULL;
  cpool__ids_give(&pool->ids, req->op);
  cpool__authority_free(req->owned_authority);
  req->owned_authority = NULL;
  /* from here on nothing of the request points into the pool: the event may outlive it */
  cpool_session *session = req->session;
  req->session = NULL;
  req->pool = NULL;
  req->event.event.status = req->resp.status;
  req->event.bytes = sizeof *req + cpool__response_bytes(&req->resp);
  cpool__runtime_keep(rt, -1);
  cpool__runtime_deliver(rt, &req->event);
  cpool__session_drop(session);
  cpool__http_touch(pool);
  cpool__http_leave_on_loop(pool);
}

void cpool__request_fail(struct cpool__request *req, int status, int layer, int native, int flags, const char *format,
                         ...)
{
  char text[sizeof((cpool_error *) 0)->text];
  cpool_error error;
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  cpool__error_set(&error, status, layer, native, flags, "%s", text);
  cpool__request_finish(req, &error);
}

static void stop(struct cpool__request *req)
{
  cpool__admission_leave(&req->pool->admission, &req->waiter);
  if (req->dialling != NULL)
    cpool__dialling_cancel(req->dialling);
  if (req->transfer != NULL)
    cpool__transfer_abort(req->transfer);
}

void cpool__request_cut(struct cpool__request *req, int status, int layer, const char *text)
{
  stop(req);
  cpool__request_fail(req, status, layer, 0, req->resp.bytes_sent == 0 ? CPOOL_ERROR_NOTHING_SENT : 0, "%s", text);
}

static void on_total_time(struct cpool__timer *timer)
{
  struct cpool__request *req = cpool__container_of(timer, struct cpool__request, total_timer);
  cpool__request_cut(req, CPOOL_ETIMEOUT_TOTAL, CPOOL_LAYER_POOL, "total_timeout_ms is over");
}

static void acquire_timed_out(struct cpool__request *req)
{
  struct cpool__route *route = req->route;
  const struct cpool__admission *adm = &req->pool->admission;
  const struct cpool__origin_policy *policy = &route->origin->policy;
  int open = policy->place_count, busy = policy->busy_count, idle = policy->idle_count, waiting = policy->waiting_count;
  char last[96] = "";
  if (route->origin->last_error[0] != '\0')
    snprintf(last, sizeof last, "; last connect error: %.60s", route->origin->last_error);
  stop(req);
  cpool__request_fail(req, CPOOL_ETIMEOUT_ACQUIRE, CPOOL_LAYER_POOL, 0,
                      CPOOL_ERROR_NOTHING_SENT | CPOOL_ERROR_RETRIABLE,
                      "%.80s: open %d of %d, busy %d, idle %d, waiting %d; pool open %d of %d%s", route->origin->key,
                      open, policy->limit, busy, idle, waiting, adm->place_count, adm->limit, last);
}

/* Sending or receiving: silence is counted from the last byte either way. */
static void on_phase_time(struct cpool__timer *timer)
{
  struct cpool__request *req = cpool__container_of(timer, struct cpool__request, phase_timer);
  cpool_runtime *rt = req->pool->rt;
  uint64_t now_ms = cpool__runtime_now_ms(rt);
  if (req->phase_due_ms > now_ms) {
    if (req->phase_due_ms != UINT64_MAX)
      cpool__runtime_arm(rt, timer, req->phase_due_ms, on_phase_time);
    return;
  }
  if (!req->dispatched) {
    acquire_timed_out(req);
    return;
  }
  if (!req->sending) {
    cpool__request_cut(req, CPOOL_ETIMEOUT_CONNECT, CPOOL_LAYER_CONNECT,
                       req->dialling != NULL ? "connect_timeout_ms is over: not connected"
                                             : "connect_timeout_ms is over: TLS not done");
    return;
  }
  if (req->transfer != NULL && req->transfer->paused)
    req->activity_ms = now_ms; /* the silence is ours */
  if (req->body_len > 0 && req->transfer != NULL) {
    curl_off_t uploaded = 0;
    curl_easy_getinfo(req->transfer->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
    if ((uint64_t) uploaded != req->uploaded) {
      req->uploaded = (uint64_t) uploaded;
      req->activity_ms = now_ms;
    }
  }
  req->phase_due_ms = req->activity_ms + (uint64_t) req->sock_read_timeout_ms;
  if (req->phase_due_ms > now_ms)
    cpool__runtime_arm(rt, timer, req->phase_due_ms, on_phase_time);
  else
    cpool__request_cut(req, CPOOL_ETIMEOUT_READ, CPOOL_LAYER_HTTP, "sock_read_timeout_ms is over: the peer is silent");
}

/* A timer that is due earlier stays as it is and looks again then: a phase costs no timer most of the time. */
static void arm_phase(struct cpool__request *req, int64_t limit_ms)
{
  cpool_runtime *rt = req->pool->rt;
  req->phase_due_ms = limit_ms == CPOOL_OFF ? UINT64_MAX : cpool__runtime_now_ms(rt) + (uint64_t) limit_ms;
  if (limit_ms != CPOOL_OFF && (!cpool__timer_armed(&req->phase_timer) || req->phase_timer.due_ms > req->phase_due_ms))
    cpool__runtime_arm(rt, &req->phase_timer, req->phase_due_ms, on_phase_time);
}

void cpool__request_dispatched(struct cpool__request *req)
{
  uint64_t now_us = cpool__clock_us();
  if (!req->dispatched) {
    req->dispatched = true;
    req->resp.queue_us = now_us > req->submit_us ? (int64_t) (now_us - req->submit_us) : 0;
    req->pool->stats.now.active_requests++;
    give_back_pending(req);
  }
  req->begin_us = now_us;
}

void cpool__request_connecting(struct cpool__request *req)
{
  arm_phase(req, req->connect_timeout_ms);
}

void cpool__request_active(struct cpool__request *req, struct cpool__transfer *transfer)
{
  req->state = CPOOL__REQUEST_ACTIVE;
  req->transfer = transfer;
  if (req->resp.attempts++ > 0)
    req->pool->stats.now.repeated++;
}

void cpool__request_sending(struct cpool__request *req)
{
  req->sending = true;
  req->begin_us = cpool__runtime_now_us(req->pool->rt);
  req->activity_ms = cpool__runtime_now_ms(req->pool->rt);
  arm_phase(req, req->sock_read_timeout_ms);
}

void cpool__request_repeat(struct cpool__request *req)
{
  cpool__response_restart(&req->resp);
  req->sending = false;
  req->state = CPOOL__REQUEST_WAITING;
  req->uploaded = 0;
  if (cpool__request_wants_new(req)) {
    struct cpool__link *link;
    while ((link = cpool__list_first(&req->route->group.idle)) != NULL)
      cpool__conn_retire(cpool__conn_of_place(cpool__container_of(link, struct cpool__place, idle_link)),
                         CPOOL__CLOSE_ERROR);
  }
  arm_phase(req, req->connect_timeout_ms);
  cpool__admission_wait_first(&req->pool->admission, &req->waiter, &req->route->group);
  cpool__http_touch(req->pool);
}

static void on_low_water(struct cpool__msg *msg)
{
  struct cpool__request *req = cpool__container_of(msg, struct cpool__request, queue_waiter.msg);
  if (req->state == CPOOL__REQUEST_ACTIVE && req->transfer != NULL && req->transfer->paused)
    cpool__transfer_resume(req->transfer);
  cpool__request_unref(req);
}

/* The message of a submit has arrived. */
static void on_posted(struct cpool__msg *msg)
{
  struct cpool__request *req = cpool__container_of(msg, struct cpool__request, msg);
  cpool_http *pool = req->pool;
  cpool__list_push_back(&pool->requests, &req->link);
  cpool__runtime_keep(pool->rt, 1);
  pool->stats.now.requests++;
  if (req->cancelled) {
    cpool__request_fail(req, CPOOL_ECANCELLED, CPOOL_LAYER_CALLER, 0, CPOOL_ERROR_NOTHING_SENT,
                        "cancelled by the caller");
    return;
  }
  if (pool->state != CPOOL__HTTP_OPEN && pool->state != CPOOL__HTTP_DRAINING) {
    cpool__request_fail(req, CPOOL_ECLOSED, CPOOL_LAYER_POOL, 0, CPOOL_ERROR_NOTHING_SENT, "the pool is closing");
    return;
  }
  int rc = cpool__route_get(pool, req->authority, req->session->identity, &req->route);
  if (rc != CPOOL_OK) {
    cpool__request_fail(req, rc, rc == CPOOL_EFULL ? CPOOL_LAYER_POOL : CPOOL_LAYER_SYSTEM, 0, CPOOL_ERROR_NOTHING_SENT,
                        rc == CPOOL_EFULL ? "max_origins hosts are in use" : "no memory for a host");
    return;
  }
  cpool__route_use(req->route);
  req->route->origin->requests++;
  req->state = CPOOL__REQUEST_WAITING;
  uint64_t submit_ms = req->submit_us / 1000;
  if (req->total_timeout_ms != CPOOL_OFF)
    cpool__runtime_arm(pool->rt, &req->total_timer, submit_ms + (uint64_t) req->total_timeout_ms, on_total_time);
  req->phase_due_ms = UINT64_MAX;
  if (req->acquire_timeout_ms != CPOOL_OFF) {
    req->phase_due_ms = submit_ms + (uint64_t) req->acquire_timeout_ms;
    cpool__runtime_arm(pool->rt, &req->phase_timer, req->phase_due_ms, on_phase_time);
  }
  cpool__admission_wait(&pool->admission, &req->waiter, &req->route->group);
  cpool__origin_touch(req->route->origin);
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

/* ----------------------------------------------------------------------------------------------------- any thread */

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
  if (own->body == NULL && own->body_len > 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: body is NULL and body_len is %zu", own->body_len);
  if (own->method != NULL && strcmp(own->method, "HEAD") == 0 && own->body_len > 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: HEAD has no body");
  if (own->body_len > INT64_MAX / 2)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: body_len is out of range");
  if ((own->flags & ~CPOOL_REQUEST_REPEATABLE) != 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: flags 0x%x are unknown", (unsigned) own->flags);
  if (own->headers == NULL && own->header_count > 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: headers is NULL and header_count is %zu",
                         own->header_count);
  return cpool__headers_check(own->headers, own->header_count);
}

/* One override of a request: 0 is the pool's value; the table's range holds. */
static int pick(const char *key, int64_t wanted, int64_t standard, int64_t *out)
{
  if (wanted == 0) {
    *out = standard;
    return CPOOL_OK;
  }
  const struct cpool__option *option = cpool__options_find(&cpool__http_option_table, key);
  if (!(wanted == CPOOL_OFF && (option->flags & CPOOL__OPTION_OFF) != 0) &&
      ((double) wanted < option->minimum || (double) wanted > option->maximum))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: %s %lld is out of range %.0f..%.0f%s", key,
                         (long long) wanted, option->minimum, option->maximum,
                         option->flags & CPOOL__OPTION_OFF ? " (or off)" : "");
  *out = wanted;
  return CPOOL_OK;
}

static int pick_all(cpool_http *pool, const cpool_request *own, struct cpool__request *limits)
{
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
    int rc = pick(overrides[i].key, *wanted, standard, chosen);
    if (rc != CPOOL_OK)
      return rc;
  }
  limits->max_response_bytes = cpool__limit64(limits->max_response_bytes);
  return CPOOL_OK;
}

/* What of the request decides its layout in memory. */
struct shape {
  const char *method;
  enum cpool__request_kind kind;
  struct cpool__url url;
  const char *base_path;
  size_t base_len, target_len, method_len, headers_bytes;
  const char *extra[2];
  size_t extra_count;
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
  const char *method = own->method != NULL ? own->method : own->body_len > 0 ? "POST" : "GET";
  int rc = shape_url(session, own, shape);
  if (rc != CPOOL_OK)
    return rc;
  bool takes_body = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
  shape->kind = own->body_len > 0 || takes_body ? CPOOL__KIND_BODY
                : strcmp(method, "HEAD") == 0   ? CPOOL__KIND_HEAD
                                                : CPOOL__KIND_GET;
  const char *implied[] = {"GET", "HEAD", "POST"};
  shape->method = strcmp(method, implied[shape->kind]) == 0 ? NULL : method;
  shape->method_len = shape->method != NULL ? strlen(method) + 1 : 0;
  /* "" needs the '/' that RFC 9112 section 3.2.1 wants, and so does a bare query */
  bool slash = shape->base_len == 0 && (shape->url.target_len == 0 || shape->url.target[0] == '?');
  if (slash) {
    shape->base_path = "/";
    shape->base_len = 1;
  }
  shape->target_len = shape->base_len + shape->url.target_len;
  if (shape->kind == CPOOL__KIND_BODY) { /* what libcurl would add by itself */
    shape->extra[shape->extra_count++] = "Expect:";
    if (!cpool__headers_find(own->headers, own->header_count, "Content-Type"))
      shape->extra[shape->extra_count++] = "Content-Type:";
  }
  shape->plain_headers = own->header_count == 0 && shape->extra_count == 0;
  if (!shape->plain_headers)
    shape->headers_bytes =
        cpool__headers_size(&session->headers, own->headers, own->header_count, shape->extra, shape->extra_count);
  shape->repeatable = idempotent(method) || (own->flags & CPOOL_REQUEST_REPEATABLE) != 0 ||
                      cpool__headers_find(own->headers, own->header_count, "Idempotency-Key");
  if (shape->target_len + shape->headers_bytes > CPOOL__HEAD_MAX_BYTES)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: url and headers exceed %d bytes",
                         (int) CPOOL__HEAD_MAX_BYTES);
  return CPOOL_OK;
}

static size_t aligned(size_t size)
{
  return (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
}

/* One block: the struct, the header list, target, method, body. NULL: out of memory. */
static struct cpool__request *build(cpool_session *session, const cpool_request *own, const struct shape *shape)
{
  size_t head = aligned(sizeof(struct cpool__request)) + aligned(shape->headers_bytes);
  size_t total = head + shape->target_len + 1 + shape->method_len + own->body_len;
  struct cpool__request *req = cpool__malloc(total);
  if (req == NULL)
    return NULL;
  memset(req, 0, sizeof *req);
  char *at = (char *) req + head;
  if (shape->plain_headers)
    req->headers = session->headers;
  else
    cpool__headers_build(&req->headers, (char *) req + aligned(sizeof *req), &session->headers, own->headers,
                         own->header_count, shape->extra, shape->extra_count);
  req->target = at;
  if (shape->base_len > 0)
    memcpy(at, shape->base_path, shape->base_len);
  if (shape->url.target_len > 0)
    memcpy(at + shape->base_len, shape->url.target, shape->url.target_len);
  at[shape->target_len] = '\0';
  at += shape->target_len + 1;
  if (shape->method != NULL) {
    req->method = memcpy(at, shape->method, shape->method_len);
    at += shape->method_len;
  }
  if (own->body_len > 0)
    req->body = memcpy(at, own->body, own->body_len);
  req->body_len = own->body_len;
  return req;
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
  int rc = check(own);
  if (rc == CPOOL_OK)
    rc = pick_all(pool, own, &limits);
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
  if (op == 0) {
    rc = cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a request");
    goto unreserve;
  }
  atomic_init(&req->refs, 1);
  req->event.event.kind = CPOOL_EVENT_RESPONSE;
  req->event.event.source = op;
  req->event.event.user = own->user;
  req->event.event.response = &req->resp;
  req->event.queue = own->queue;
  req->event.fn = own->on_event;
  req->event.release = event_released;
  cpool__response_init(&req->resp);
  req->msg.fn = on_posted;
  req->queue_waiter.msg.fn = on_low_water;
  req->pool = pool;
  req->session = session;
  req->op = op;
  req->pending_counted = true;
  req->repeatable = shape.repeatable;
  req->kind = shape.kind;
  req->submit_us = cpool__clock_us();
  req->acquire_timeout_ms = limits.acquire_timeout_ms;
  req->connect_timeout_ms = limits.connect_timeout_ms;
  req->sock_read_timeout_ms = limits.sock_read_timeout_ms;
  req->total_timeout_ms = limits.total_timeout_ms;
  req->max_response_bytes = limits.max_response_bytes;
  req->authority = shape.url.authority;
  req->owned_authority = shape.url.owned;
  cpool__session_hold(session);
  if (own->queue != NULL)
    cpool__queue_hold(own->queue);
  if (out != NULL)
    *out = op;
  cpool__runtime_post(pool->rt, &req->msg);
  return CPOOL_OK;

unreserve:
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
    rc = submit(session, &own, out);
  if (rc != CPOOL_OK && rc != CPOOL_EFORK)
    atomic_fetch_add_explicit(&session->pool->refused_count, 1, memory_order_relaxed);
  return rc;
}

int cpool_cancel(cpool_http *pool, cpool_op op)
{
  if (pool == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cancel: pool is needed");
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  if (!cpool__ids_valid(&pool->ids, op))
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "cancel: the request has ended");
  struct cancel_msg *cancel = cpool__malloc(sizeof *cancel);
  if (cancel == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "cancel: no memory");
  atomic_fetch_add(&pool->inflight_count, 1); /* the message names the pool */
  if (!cpool__ids_valid(&pool->ids, op)) { /* it ended meanwhile, and with it perhaps what kept the pool from closing */
    cpool__free(cancel);
    cpool__http_leave(pool);
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "cancel: the request has ended");
  }
  cancel->msg.fn = on_cancel;
  cancel->pool = pool;
  cancel->op = op;
  cpool__runtime_post(pool->rt, &cancel->msg);
  return CPOOL_OK;
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
