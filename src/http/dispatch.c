/* dispatch: carries out what admission decides */
#include "http/dispatch.h"

#include <assert.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "dns/peers.h"
#include "http/http_options.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/transfer.h"
#include "http/warm.h"
#include "pool/stock.h"

static void dialling_free(struct cpool__dialling *dialling)
{
  cpool_http *pool = dialling->route->origin->pool;
  while (dialling->extra_count > 0)
    cpool__place_close(&pool->admission, &dialling->extra[--dialling->extra_count], false);
  if (dialling->conn != NULL)
    cpool__conn_free(dialling->conn, CPOOL__CLOSE_DIAL);
  if (dialling->req != NULL) {
    dialling->req->dialling = NULL;
    cpool__link_remove(&dialling->req->dial_link);
  }
  cpool__link_remove(&dialling->link);
  cpool__runtime_disarm(pool->rt, &dialling->timer);
  cpool__route_unuse(dialling->route);
  cpool__free(dialling);
  cpool__http_touch(pool);
}

void cpool__dialling_cancel(struct cpool__dialling *dialling)
{
  cpool__dial_cancel(&dialling->dial);
  dialling_free(dialling);
}

static void on_time(struct cpool__timer *timer)
{
  struct cpool__dialling *dialling = cpool__container_of(timer, struct cpool__dialling, timer);
  struct cpool__origin *org = dialling->route->origin;
  cpool__warm_failed(org);
  cpool__dialling_cancel(dialling);
}

static void limit_time(struct cpool__dialling *dialling)
{
  cpool_http *pool = dialling->route->origin->pool;
  int64_t limit = cpool__limit64(pool->options.connect_timeout_ms);
  if (limit != INT64_MAX)
    cpool__runtime_arm(pool->rt, &dialling->timer, cpool__runtime_now_ms(pool->rt) + (uint64_t) limit, on_time);
}

void cpool__dialling_orphan(struct cpool__dialling *dialling)
{
  dialling->req->dialling = NULL;
  cpool__link_remove(&dialling->req->dial_link);
  dialling->req = NULL;
  if (dialling->conn == NULL) { /* it dialled nothing: its request waited for a full unix listener */
    dialling_free(dialling);
    return;
  }
  cpool__place_ahead(&dialling->route->origin->pool->admission, &dialling->conn->place, true);
  limit_time(dialling);
}

static bool on_grant(struct cpool__dial *dial)
{
  struct cpool__dialling *dialling = cpool__container_of(dial, struct cpool__dialling, dial);
  cpool_http *pool = dialling->route->origin->pool;
  if (dialling->extra_count == CPOOL__DIAL_RACE ||
      !cpool__place_try_open(&pool->admission, &dialling->extra[dialling->extra_count], &dialling->route->group))
    return false;
  dialling->extra_count++;
  return true;
}

static void on_opened(struct cpool__dial *dial, int fd)
{
  struct cpool__dialling *dialling = cpool__container_of(dial, struct cpool__dialling, dial);
  (void) fd;
  dialling->socket_count++;
  cpool__count_opened(dialling->route);
}

static void on_closed(struct cpool__dial *dial, int fd)
{
  struct cpool__dialling *dialling = cpool__container_of(dial, struct cpool__dialling, dial);
  cpool_http *pool = dialling->route->origin->pool;
  (void) fd;
  dialling->socket_count--;
  cpool__count_closed(pool, CPOOL__CLOSE_DIAL);
  while (dialling->extra_count > 0 && dialling->extra_count > dialling->socket_count - 1)
    cpool__place_close(&pool->admission, &dialling->extra[--dialling->extra_count], false);
}

/* The one that dialled, or the oldest one of its route that still does: its own dial then serves whoever comes next. */
static struct cpool__request *taker(struct cpool__dialling *dialling)
{
  struct cpool__link *first = cpool__list_first(&dialling->route->dialling);
  if (dialling->req != NULL || first == NULL)
    return dialling->req;
  struct cpool__request *req = cpool__container_of(first, struct cpool__request, dial_link);
  cpool__dialling_orphan(req->dialling);
  return req;
}

static void connected(struct cpool__dialling *dialling)
{
  struct cpool__dial_result *result = &dialling->dial.result;
  struct cpool__conn *conn = dialling->conn;
  struct cpool__request *req = taker(dialling);
  cpool_http *pool = conn->pool;
  dialling->conn = NULL;
  conn->dns_us = result->dns_us;
  conn->connect_us = result->connect_us;
  conn->route->origin->prefer_family = result->address.sock.any.sa_family == AF_INET ? AF_INET : 0;
  if (result->dns_us > 0)
    cpool__histogram_record(&pool->stats.phases[CPOOL_PHASE_DNS], result->dns_us);
  cpool__histogram_record(&pool->stats.phases[CPOOL_PHASE_CONNECT], result->connect_us);
  dialling->req = NULL;
  if (req != NULL) {
    req->dialling = NULL;
    cpool__link_remove(&req->dial_link);
  }
  if (!cpool__conn_attach(conn, result->fd, &result->address, result->peer)) {
    cpool__peers_close(cpool__resolver_peers(pool->resolver), result->peer);
    close(result->fd);
    cpool__count_closed(pool, CPOOL__CLOSE_DIAL);
    cpool__conn_free(conn, CPOOL__CLOSE_DIAL);
    if (req != NULL)
      cpool__request_fail(req, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, CPOOL_ERROR_NOTHING_SENT,
                          "no memory for a connection");
    return;
  }
  if (req == NULL) {
    if (conn->route->origin->policy.waiting_count > 0 || !cpool__warm_up(conn))
      cpool__conn_end(conn);
    return;
  }
  cpool__place_ahead(&pool->admission, &conn->place, false);
  if (!cpool__transfer_start(req, conn)) {
    cpool__conn_end(conn);
    cpool__request_fail(req, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, CPOOL_ERROR_NOTHING_SENT, "no memory for a transfer");
  }
}

static void on_done(struct cpool__dial *dial)
{
  struct cpool__dialling *dialling = cpool__container_of(dial, struct cpool__dialling, dial);
  struct cpool__request *req = dialling->req;
  if (dial->result.fd >= 0) {
    connected(dialling);
    dialling_free(dialling);
    return;
  }
  cpool_error error = dial->result.error;
  if (dialling->route->origin->proxy != CPOOL__PROXY_NONE) /* the text names the host that was dialled */
    snprintf(error.text, sizeof error.text, "proxy %.248s", dial->result.error.text);
  error.flags |= CPOOL_ERROR_NOTHING_SENT;
  if (error.status == CPOOL_ECONNECT || error.status == CPOOL_EDNS_FAILED)
    error.flags |= CPOOL_ERROR_RETRIABLE;
  snprintf(dialling->route->origin->last_error, sizeof dialling->route->origin->last_error, "%s",
           cpool_status_name(error.status));
  if (req == NULL)
    cpool__warm_failed(dialling->route->origin);
  dialling_free(dialling);
  if (req != NULL)
    cpool__request_finish(req, &error);
}

static const struct cpool__dial_owner dial_owner = {.grant = on_grant,
                                                    .opened = on_opened,
                                                    .closed = on_closed,
                                                    .done = on_done};

/* What a proxy makes of a name is not seen here. */
static bool forbidden(const struct cpool__route *route)
{
  return route->origin->proxy != CPOOL__PROXY_NONE && route->origin->inside &&
         route->identity->address_policy == CPOOL_ADDRESS_PUBLIC;
}

/* NULL: out of memory, the record is gone. */
static struct cpool__dialling *dial(struct cpool__conn *conn)
{
  cpool_http *pool = conn->pool;
  struct cpool__route *route = conn->route;
  struct cpool__dialling *dialling = cpool__calloc(1, sizeof *dialling);
  if (dialling == NULL) {
    cpool__conn_free(conn, CPOOL__CLOSE_DIAL);
    return NULL;
  }
  dialling->route = route;
  cpool__route_use(route);
  dialling->conn = conn;
  dialling->dial.rt = pool->rt;
  dialling->dial.resolver = pool->resolver;
  dialling->dial.owner = &dial_owner;
  dialling->dial.host = route->origin->host;
  dialling->dial.port = route->origin->port;
  dialling->dial.policy = route->identity->address_policy;
  dialling->dial.race_delay_ms = pool->options.race_delay_ms;
  dialling->dial.prefer_family = route->origin->prefer_family;
  cpool__list_push_back(&pool->dials, &dialling->link);
  if (cpool__dial_start(&dialling->dial) == CPOOL_OK)
    return dialling;
  dialling_free(dialling);
  return NULL;
}

bool cpool__dial_ahead(struct cpool__conn *conn)
{
  if (forbidden(conn->route)) {
    cpool__conn_free(conn, CPOOL__CLOSE_DIAL);
    return false;
  }
  struct cpool__dialling *dialling = dial(conn);
  if (dialling != NULL)
    limit_time(dialling);
  return dialling != NULL;
}

static void dial_for(struct cpool__request *req, struct cpool__conn *conn)
{
  struct cpool__route *route = req->route;
  if (forbidden(route)) {
    cpool__conn_free(conn, CPOOL__CLOSE_DIAL);
    cpool__request_fail(req, CPOOL_EADDRESS, CPOOL_LAYER_CONNECT, 0, CPOOL_ERROR_NOTHING_SENT,
                        "%.200s: the address policy allows public addresses only", route->origin->key);
    return;
  }
  struct cpool__dialling *dialling = dial(conn);
  if (dialling == NULL) {
    cpool__request_fail(req, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, CPOOL_ERROR_NOTHING_SENT, "no memory for a dial");
    return;
  }
  dialling->req = req;
  req->dialling = dialling;
  req->state = CPOOL__REQUEST_DIALLING;
  cpool__list_push_back(&route->dialling, &req->dial_link);
}

static void open_place(cpool_http *pool, struct cpool__request *req)
{
  struct cpool__conn *conn = cpool__conn_new(req->route);
  cpool__request_dispatched(req);
  cpool__request_connecting(req);
  if (conn == NULL) {
    cpool__request_fail(req, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, CPOOL_ERROR_NOTHING_SENT,
                        "no memory for a connection");
    return;
  }
  cpool__place_open(&pool->admission, &conn->place, &req->route->group);
  cpool__origin_touch(req->route->origin);
  if (req->route->identity->unix_socket_path == NULL) {
    dial_for(req, conn);
    return;
  }
  conn->unix_socket = true; /* libcurl connects it: a unix socket connects at once or not at all */
  if (!cpool__transfer_start(req, conn)) {
    cpool__conn_free(conn, CPOOL__CLOSE_DIAL);
    cpool__request_fail(req, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, CPOOL_ERROR_NOTHING_SENT, "no memory for a transfer");
  }
}

static void reuse_place(struct cpool__request *req, struct cpool__conn *conn)
{
  if ((conn->in_curl || conn->waited) && !conn->http2 &&
      cpool__request_wants_new(req)) { /* its place goes to a new connection */
    cpool__place_idle(&conn->pool->admission, &conn->place);
    cpool__conn_retire(conn, CPOOL__CLOSE_EVICTED);
    cpool__admission_wait_first(&req->pool->admission, &req->waiter, &req->route->group);
    return;
  }
  cpool__request_dispatched(req);
  if (!conn->in_curl)
    cpool__request_connecting(req); /* connected, but TLS is still to come */
  cpool__origin_touch(req->route->origin);
  if (cpool__transfer_start(req, conn))
    return;
  cpool__place_idle(&conn->pool->admission, &conn->place); /* the record never left its idle state */
  if (!conn->in_curl) /* the handshake before it would not be counted the next time */
    cpool__conn_retire(conn, CPOOL__CLOSE_DIAL);
  cpool__request_fail(req, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, CPOOL_ERROR_NOTHING_SENT, "no memory for a transfer");
}

void cpool__dispatch(struct cpool__task *task)
{
  cpool_http *pool = cpool__container_of(task, cpool_http, dispatch_task);
  if (pool->admission.waiting_count > 0 && pool->admission.idle_count > 0) {
    /* One more look at the sockets: what came since the turn's first look, behind a response or ahead of a submit, ends its
     * connection before it is used again. The interest in a connection that was opened and answered within this turn is
     * not in the epoll set yet. */
    if (pool->fell_idle)
      cpool__poller_apply(cpool__runtime_poller(pool->rt));
    pool->fell_idle = false;
    cpool__poller_poll(cpool__runtime_poller(pool->rt));
  }
  for (;;) {
    struct cpool__decision decision = cpool__admission_next(&pool->admission);
    struct cpool__request *req =
        decision.waiter != NULL ? cpool__container_of(decision.waiter, struct cpool__request, waiter) : NULL;
    switch (decision.kind) {
    case CPOOL__DECISION_NONE:
      cpool__warm_fill(pool);
      return;
    case CPOOL__DECISION_REUSE:
      reuse_place(req, cpool__conn_of_place(decision.place));
      break;
    case CPOOL__DECISION_OPEN:
      open_place(pool, req);
      break;
    case CPOOL__DECISION_EVICT:
      cpool__conn_retire(cpool__conn_of_place(decision.place), CPOOL__CLOSE_EVICTED);
      break;
    }
  }
}
