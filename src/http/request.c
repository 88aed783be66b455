/* request: one submit from call to final event */
#include "http/request.h"

#include <assert.h>
#include <stdio.h>

#include "base/memory.h"
#include "core/error.h"
#include "http/body.h"
#include "http/conn.h"
#include "http/curl_loop.h"
#include "http/dispatch.h"
#include "http/events.h"
#include "http/pool.h"
#include "http/proxy_result.h"
#include "http/session.h"
#include "http/stream.h"
#include "http/transfer.h"
#include "http/upload.h"
#include "http/warm.h"

enum { RETRY_MAX_MS = 50 }; /* between two tries to connect to a full unix listener */

void cpool__request_unref(struct cpool__request *req)
{
  if (atomic_fetch_sub_explicit(&req->refs, 1, memory_order_acq_rel) > 1)
    return;
  cpool__response_fini(&req->resp);
  cpool__free(req->stream);
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

/* Of the hop that ends. */
static void count_phases(struct cpool__request *req)
{
  const struct cpool_response *resp = &req->resp;
  cpool_http *pool = req->pool;
  cpool__histogram_record(&pool->stats.phases[CPOOL_PHASE_QUEUE], resp->queue_us);
  if (resp->tls_us >= 0)
    cpool__histogram_record(&pool->stats.phases[CPOOL_PHASE_TLS], resp->tls_us);
  if (resp->first_byte_us >= 0)
    cpool__histogram_record(&pool->stats.phases[CPOOL_PHASE_FIRST_BYTE], resp->first_byte_us);
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
  count_phases(req);
  cpool__histogram_record(&pool->stats.phases[CPOOL_PHASE_TOTAL], resp->total_us);
  if (req->route != NULL) {
    if (resp->status == CPOOL_OK)
      req->route->origin->succeeded++;
    else
      req->route->origin->failed++;
    cpool__origin_touch(req->route->origin);
  }
}

static int64_t since(uint64_t from_us, uint64_t now_us)
{
  return now_us > from_us ? (int64_t) (now_us - from_us) : 0;
}

/* What a caller may do is told of the whole: an earlier hop of a redirect was sent, by another method perhaps. */
static void fail_response(struct cpool__request *req, const cpool_error *error)
{
  cpool_error own = *error;
  if (req->earlier_attempts > 0)
    own.flags &= ~(CPOOL_ERROR_NOTHING_SENT | (req->safe_again ? 0 : CPOOL_ERROR_RETRIABLE));
  cpool__response_fail(&req->resp, &own);
}

void cpool__request_finish(struct cpool__request *req, const cpool_error *error)
{
  cpool_http *pool = req->pool;
  cpool_runtime *rt = pool->rt;
  uint64_t now_us = cpool__clock_us(); /* as submit_us: a busy turn is long enough to show in a duration */
  assert(req->state != CPOOL__REQUEST_DONE && req->transfer == NULL && req->dialling == NULL);
  if (req->warms) { /* what became of its connection says how it went */
    cpool__warm_request_end(req);
    return;
  }
  if (req->events != NULL && cpool__events_again(req, error))
    return;
  req->resp.total_us = since(req->submit_us, now_us);
  if (!req->dispatched || req->hop_waiting) /* it waited to the end */
    req->resp.queue_us = req->dispatched ? since(req->begin_us, now_us) : req->resp.total_us;
  if (error != NULL)
    fail_response(req, error);
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
  cpool__free(req->body);
  req->body = NULL;
  cpool__body_forget(req);
  cpool__events_free(req->events);
  req->events = NULL;
  cpool__stream_end(req->stream);
  cpool__upload_end(req->upload, pool);
  req->upload = NULL;
  atomic_store_explicit(&req->resp.open, false, memory_order_release);
  req->event.bytes = req->block_bytes + cpool__response_bytes(&req->resp);
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

/* The first millisecond of the loop's clock at which `limit_ms` have passed since `from_us`: never early. */
static uint64_t due_after(uint64_t from_us, int64_t limit_ms)
{
  return (from_us + 999) / 1000 + (uint64_t) limit_ms;
}

static void timed_out(struct cpool__request *req, int status, int layer, const char *key, int64_t limit_ms)
{
  const char *proxy = cpool__proxy_waits(req);
  const char *doing = !req->dispatched || req->hop_waiting ? "waiting for a connection"
                      : req->dialling != NULL              ? "connecting"
                      : proxy != NULL                      ? proxy
                      : !req->sending                      ? "in the TLS handshake"
                      : req->resp.head_complete            ? "receiving the body"
                                                           : "waiting for the answer";
  char text[sizeof((cpool_error *) 0)->text];
  snprintf(text, sizeof text, "%.140s: %s (%lld) is over: %s", req->route->origin->key, key, (long long) limit_ms,
           doing);
  cpool__request_cut(req, status, layer, text);
}

static void on_total_time(struct cpool__timer *timer)
{
  struct cpool__request *req = cpool__container_of(timer, struct cpool__request, total_timer);
  timed_out(req, CPOOL_ETIMEOUT_TOTAL, CPOOL_LAYER_POOL, "total_timeout_ms", req->total_timeout_ms);
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

/* A shared connection on which nothing of any answer came for so long gets no further request: what else may come there, pings or settings,
 * helps nobody. */
static void suspect(struct cpool__request *req, uint64_t now_ms)
{
  struct cpool__conn *conn = req->transfer != NULL ? req->transfer->conn : NULL;
  if (conn != NULL && conn->http2 && conn->heard_ms + (uint64_t) req->sock_read_timeout_ms <= now_ms)
    cpool__conn_drain(conn, CPOOL__CLOSE_ERROR);
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
  if (!req->dispatched || req->hop_waiting) {
    acquire_timed_out(req);
    return;
  }
  if (!req->sending) {
    timed_out(req, CPOOL_ETIMEOUT_CONNECT, CPOOL_LAYER_CONNECT, "connect_timeout_ms", req->connect_timeout_ms);
    return;
  }
  if (req->transfer != NULL && (req->transfer->paused || req->transfer->send_paused))
    req->activity_ms = now_ms; /* the silence is ours */
  if ((req->body_len > 0 || req->upload != NULL) && req->transfer != NULL) {
    curl_off_t uploaded = 0;
    curl_easy_getinfo(req->transfer->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
    if ((uint64_t) uploaded != req->uploaded) {
      req->uploaded = (uint64_t) uploaded;
      req->activity_ms = now_ms;
    }
  }
  req->phase_due_ms = req->activity_ms + 1 + (uint64_t) req->sock_read_timeout_ms; /* 1: the ms is cut off */
  if (req->phase_due_ms > now_ms)
    cpool__runtime_arm(rt, timer, req->phase_due_ms, on_phase_time);
  else {
    suspect(req, now_ms);
    timed_out(req, CPOOL_ETIMEOUT_READ, CPOOL_LAYER_HTTP, "sock_read_timeout_ms", req->sock_read_timeout_ms);
  }
}

/* A timer that is due earlier stays as it is and looks again then: a phase costs no timer most of the time. */
static void arm_phase(struct cpool__request *req, int64_t limit_ms)
{
  cpool_runtime *rt = req->pool->rt;
  req->phase_due_ms = limit_ms == CPOOL_OFF ? UINT64_MAX : due_after(cpool__runtime_now_us(rt), limit_ms);
  if (limit_ms != CPOOL_OFF && (!cpool__timer_armed(&req->phase_timer) || req->phase_timer.due_ms > req->phase_due_ms))
    cpool__runtime_arm(rt, &req->phase_timer, req->phase_due_ms, on_phase_time);
}

void cpool__request_dispatched(struct cpool__request *req)
{
  uint64_t now_us = cpool__clock_us();
  if (!req->dispatched) {
    req->dispatched = true;
    req->resp.queue_us = since(req->submit_us, now_us);
    req->pool->stats.now.active_requests++;
    give_back_pending(req);
  } else if (req->hop_waiting) {
    req->hop_waiting = false;
    req->resp.queue_us = since(req->begin_us, now_us);
  }
  req->begin_us = now_us;
}

void cpool__request_connecting(struct cpool__request *req)
{
  if (req->retry_ms == 0) /* else it came by the queue from a full unix listener: the phase goes on */
    arm_phase(req, req->connect_timeout_ms);
}

void cpool__request_active(struct cpool__request *req, struct cpool__transfer *transfer)
{
  struct cpool__dialling *dialling = req->dialling;
  if (dialling != NULL && dialling->conn != NULL && dialling->conn->unix_socket) {
    cpool__conn_free(dialling->conn, CPOOL__CLOSE_DIAL); /* another connection serves it: the kept place is free */
    dialling->conn = NULL;
  }
  req->state = CPOOL__REQUEST_ACTIVE;
  req->transfer = transfer;
  req->open_errno = 0;
  req->resp.attempts++;
  if (cpool__request_attempts(req) > 1)
    req->pool->stats.now.repeated++;
}

void cpool__request_sending(struct cpool__request *req)
{
  req->sending = true;
  req->begin_us = cpool__runtime_now_us(req->pool->rt);
  req->activity_ms = cpool__runtime_now_ms(req->pool->rt);
  arm_phase(req, req->sock_read_timeout_ms);
}

/* A record with a place for the next try. NULL: there is no place, or no memory. */
static struct cpool__conn *keep_place(struct cpool__request *req)
{
  struct cpool__admission *adm = &req->pool->admission;
  struct cpool__route *route = req->route;
  const struct cpool__origin_policy *policy = &route->origin->policy;
  if (adm->place_count >= adm->limit || policy->place_count >= policy->limit || policy->state == CPOOL__ORIGIN_STARVED)
    return NULL;
  struct cpool__conn *conn = cpool__conn_new(route);
  if (conn == NULL)
    return NULL;
  conn->unix_socket = true;
  cpool__place_open(adm, &conn->place, &route->group);
  return conn;
}

/* First in the queue, for a place or an idle connection; its connect phase goes on. */
static void queue_first(struct cpool__request *req)
{
  req->state = CPOOL__REQUEST_WAITING;
  cpool__admission_wait_first(&req->pool->admission, &req->waiter, &req->route->group);
  cpool__http_touch(req->pool);
}

/* The wait is over: libcurl may try to connect again. */
static void on_listener_time(struct cpool__timer *timer)
{
  struct cpool__dialling *dialling = cpool__container_of(timer, struct cpool__dialling, timer);
  struct cpool__request *req = dialling->req;
  struct cpool__conn *conn = dialling->conn;
  assert(req != NULL || conn == NULL);
  dialling->conn = NULL;
  cpool__dialling_cancel(dialling);
  if (req == NULL)
    return;
  if (conn == NULL || !cpool__list_empty(&req->route->group.idle)) {
    if (conn != NULL)
      cpool__conn_free(conn, CPOOL__CLOSE_DIAL);
    queue_first(req);
    return;
  }
  if (cpool__transfer_start(req, conn))
    return;
  cpool__conn_free(conn, CPOOL__CLOSE_DIAL);
  cpool__request_fail(req, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, CPOOL_ERROR_NOTHING_SENT, "no memory for a transfer");
}

/* A dial without a dial: it holds the turn of the request, and the place that the failed connect has just let go, unless
 * that has gone to another one meanwhile. */
static void await_listener(struct cpool__request *req)
{
  cpool_runtime *rt = req->pool->rt;
  if (!cpool__list_empty(&req->route->group.idle)) { /* it fell idle while this one tried to connect */
    queue_first(req);
    return;
  }
  struct cpool__dialling *dialling = cpool__calloc(1, sizeof *dialling);
  if (dialling == NULL) {
    cpool__request_fail(req, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, CPOOL_ERROR_NOTHING_SENT, "no memory for a dial");
    return;
  }
  dialling->route = req->route;
  cpool__route_use(req->route);
  dialling->conn = keep_place(req);
  dialling->req = req;
  req->dialling = dialling;
  req->state = CPOOL__REQUEST_DIALLING;
  cpool__list_push_back(&req->pool->dials, &dialling->link);
  cpool__list_push_back(&req->route->dialling, &req->dial_link);
  if (req->retry_ms == 0)
    req->retry_ms = 1;
  else
    req->retry_ms = (uint16_t) (req->retry_ms > RETRY_MAX_MS / 2 ? RETRY_MAX_MS : 2 * req->retry_ms);
  cpool__runtime_arm(rt, &dialling->timer, cpool__runtime_now_ms(rt) + req->retry_ms, on_listener_time);
  cpool__http_touch(req->pool);
}

/* It was dispatched, and found no room: nothing was sent, it is no attempt, and its wait counts as one for a connection. */
static void await_stream(struct cpool__request *req)
{
  req->no_stream = false;
  req->resp.attempts--;
  if (cpool__request_attempts(req) > 0)
    req->pool->stats.now.repeated--;
  req->hop_waiting = true;
  req->begin_us = cpool__clock_us();
  arm_phase(req, req->acquire_timeout_ms);
  cpool__admission_wait_first(&req->pool->admission, &req->waiter, &req->route->group);
  cpool__http_touch(req->pool);
}

void cpool__request_repeat(struct cpool__request *req)
{
  if (req->warms) { /* another one is made for another connection */
    cpool__request_finish(req, NULL);
    return;
  }
  cpool__response_restart(&req->resp);
  if (req->listener_full) {
    req->listener_full = false;
    req->resp.attempts--;
    if (cpool__request_attempts(req) > 0)
      req->pool->stats.now.repeated--;
    await_listener(req);
    return;
  }
  req->sending = false;
  req->retry_ms = 0;
  req->state = CPOOL__REQUEST_WAITING;
  req->uploaded = 0;
  if (req->no_stream) {
    await_stream(req);
    return;
  }
  if (cpool__request_wants_new(req)) {
    struct cpool__link *link, *next;
    for (link = cpool__list_first(&req->route->group.idle); link != NULL; link = next) {
      struct cpool__place *place = cpool__container_of(link, struct cpool__place, idle_link);
      next = cpool__list_next(&req->route->group.idle, link);
      if (place->state == CPOOL__PLACE_IDLE)
        cpool__conn_retire(cpool__conn_of_place(place), CPOOL__CLOSE_ERROR);
    }
  }
  arm_phase(req, req->connect_timeout_ms);
  cpool__admission_wait_first(&req->pool->admission, &req->waiter, &req->route->group);
  cpool__http_touch(req->pool);
}

/* A connection of the route is waited for, from `since_us` on. */
static void wait_at_host(struct cpool__request *req, struct cpool__route *route, uint64_t since_us)
{
  cpool_http *pool = req->pool;
  req->route = route;
  cpool__route_use(route);
  route->origin->requests++;
  req->state = CPOOL__REQUEST_WAITING;
  req->phase_due_ms = UINT64_MAX;
  if (req->acquire_timeout_ms != CPOOL_OFF) {
    req->phase_due_ms = due_after(since_us, req->acquire_timeout_ms);
    cpool__runtime_arm(pool->rt, &req->phase_timer, req->phase_due_ms, on_phase_time);
  }
  cpool__admission_wait(&pool->admission, &req->waiter, &route->group);
  cpool__origin_touch(route->origin);
}

void cpool__request_fail_host(struct cpool__request *req, int status)
{
  bool full = status == CPOOL_EFULL;
  cpool__request_fail(req, status, full ? CPOOL_LAYER_POOL : CPOOL_LAYER_SYSTEM, 0, CPOOL_ERROR_NOTHING_SENT, "%s",
                      full ? "max_origins hosts are in use" : "no memory for a host");
}

void cpool__request_leave_host(struct cpool__request *req, bool succeeded)
{
  struct cpool__origin *org = req->route->origin;
  if (succeeded)
    org->succeeded++;
  else
    org->failed++;
  cpool__origin_touch(org);
  cpool__route_unuse(req->route);
  req->route = NULL;
  req->earlier_attempts = req->resp.attempts;
}

void cpool__request_next_host(struct cpool__request *req, struct cpool__route *route)
{
  count_phases(req);
  cpool__response_next_hop(&req->resp);
  req->hop_waiting = true;
  req->sending = false;
  req->retry_ms = req->room_count = 0;
  req->uploaded = 0;
  req->begin_us = cpool__clock_us();
  wait_at_host(req, route, req->begin_us);
}

void cpool__request_again(struct cpool__request *req, bool succeeded)
{
  struct cpool__route *route = req->route;
  cpool__route_use(route); /* until it waits there */
  cpool__request_leave_host(req, succeeded);
  cpool__request_next_host(req, route);
  cpool__route_unuse(route);
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
  struct cpool__route *route;
  int rc = cpool__route_get(pool, req->authority, cpool__request_identity(req), &route);
  if (rc != CPOOL_OK) {
    cpool__request_fail_host(req, rc);
    return;
  }
  if (req->total_timeout_ms != CPOOL_OFF)
    cpool__runtime_arm(pool->rt, &req->total_timer, due_after(req->submit_us, req->total_timeout_ms), on_total_time);
  wait_at_host(req, route, req->submit_us);
}

struct cpool__identity *cpool__request_identity(const struct cpool__request *req)
{
  bool streamed = req->stream != NULL || req->upload != NULL;
  return streamed && req->session->stream_identity != NULL ? req->session->stream_identity : req->session->identity;
}

void cpool__request_init(struct cpool__request *req)
{
  atomic_init(&req->refs, 1);
  req->event.event.kind = CPOOL_EVENT_RESPONSE;
  req->event.event.response = &req->resp;
  req->event.release = event_released;
  req->msg.fn = on_posted;
  cpool__brake_init(req);
  cpool__response_init(&req->resp);
}
