/* warm: connections made ahead of requests */
#include "http/warm.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "http/curl_loop.h"
#include "http/dispatch.h"
#include "http/http_options.h"
#include "http/overrides.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/session.h"
#include "http/transfer.h"
#include "pool/stock.h"

enum { ANSWER_BYTES = 64 * 1024 }; /* of a warm-up request: more is not waited for */

/* ---- failures ---- */

static void on_retry_time(struct cpool__timer *timer)
{
  struct cpool__origin *org = cpool__container_of(timer, struct cpool__origin, warm_timer);
  cpool__stock_release(&org->pool->admission, &org->policy);
  cpool__http_touch(org->pool);
}

void cpool__warm_failed(struct cpool__origin *org)
{
  cpool_http *pool = org->pool;
  int64_t wait_ms = cpool__stock_failed(&org->policy, cpool__pool_random(pool));
  if (wait_ms == 0)
    return;
  cpool__log(cpool__runtime_log(pool->rt), CPOOL_LOG_INFO, "warm",
             "%s: no connection could be kept ahead of requests; next try in %lld ms", org->key, (long long) wait_ms);
  cpool__runtime_arm(pool->rt, &org->warm_timer, cpool__runtime_now_ms(pool->rt) + (uint64_t) wait_ms, on_retry_time);
}

void cpool__warm_lost(struct cpool__conn *conn)
{
  struct cpool__origin *org = conn->route->origin;
  conn->waited = false;
  switch (conn->reason) {
  case CPOOL__CLOSE_IDLE:
  case CPOOL__CLOSE_LIFETIME:
  case CPOOL__CLOSE_ADDRESS:
  case CPOOL__CLOSE_EVICTED:
  case CPOOL__CLOSE_POOL:
    return; /* our own doing */
  default:
    break;
  }
  if (conn->life.born_ms + CPOOL__STOCK_STABLE_MS <= cpool__runtime_now_ms(conn->pool->rt))
    cpool__stock_proved(&conn->pool->admission, &org->policy);
  else
    cpool__warm_failed(org);
}

/* ---- dials ---- */

void cpool__warm_begin(cpool_http *pool, const char *name)
{
  struct cpool__url url = {0};
  struct cpool__route *route;
  if (cpool__url_parse(&pool->urls, name, "origin", &url) != CPOOL_OK)
    return; /* no memory: the first request makes up for it */
  if (cpool__route_get(pool, url.authority, pool->session->identity, &route) == CPOOL_OK) {
    cpool__route_use(route);
    cpool__stock_begin(&pool->admission, &route->group);
    cpool__route_unuse(route);
    cpool__http_touch(pool);
  }
  cpool__authority_free(url.owned);
}

static void open_ahead(struct cpool__route *route)
{
  struct cpool__origin *org = route->origin;
  cpool_http *pool = org->pool;
  struct cpool__conn *conn = cpool__conn_new(route);
  if (conn == NULL) {
    cpool__warm_failed(org);
    return;
  }
  cpool__link_remove(&org->spare_link); /* in use, until the dial has ended */
  cpool__place_open(&pool->admission, &conn->place, &route->group);
  cpool__place_ahead(&pool->admission, &conn->place, true);
  cpool__origin_touch(org);
  if (!cpool__dial_ahead(conn))
    cpool__warm_failed(org);
}

void cpool__warm_fill(cpool_http *pool)
{
  struct cpool__group *group;
  if (pool->state != CPOOL__HTTP_OPEN || atomic_load_explicit(&pool->closing, memory_order_relaxed))
    return;
  while ((group = cpool__stock_next(&pool->admission)) != NULL)
    open_ahead(cpool__container_of(group, struct cpool__route, group));
}

/* ---- requests of our own ---- */

/* The request and its texts in one block. */
struct warm_request {
  struct cpool__request req;
  struct curl_slist agent;
  char warm_up[CPOOL__WARM_UP_BYTES]; /* "METHOD target"; the blank becomes a NUL */
  char agent_line[];
};

static const char agent_name[] = "User-Agent: ";

/* `warm_up` empty: libcurl is stopped when it is about to send. */
static struct cpool__request *request_new(struct cpool__route *route, const char *warm_up)
{
  cpool_http *pool = route->origin->pool;
  const char *agent = pool->options.user_agent;
  size_t agent_size = sizeof agent_name + strlen(agent);
  struct warm_request *warm = cpool__calloc(1, sizeof *warm + agent_size);
  if (warm == NULL)
    return NULL;
  struct cpool__request *req = &warm->req;
  cpool__request_init(req);
  if (warm_up[0] != '\0') {
    memcpy(warm->warm_up, warm_up, strlen(warm_up) + 1);
    char *blank = strchr(warm->warm_up, ' ');
    *blank = '\0';
    req->kind = strcmp(warm->warm_up, "HEAD") == 0 ? CPOOL__KIND_HEAD : CPOOL__KIND_GET;
    req->method = strcmp(warm->warm_up, "OPTIONS") == 0 ? warm->warm_up : NULL;
    req->target = blank + 1;
  }
  if (agent[0] != '\0') {
    snprintf(warm->agent_line, agent_size, "%s%s", agent_name, agent);
    warm->agent.data = warm->agent_line;
    req->headers.nodes = &warm->agent;
  }
  req->pool = pool;
  req->route = route;
  req->warms = true;
  req->dispatched = true;
  req->max_response_bytes = ANSWER_BYTES;
  req->connect_timeout_ms = pool->options.connect_timeout_ms;
  req->sock_read_timeout_ms = pool->options.sock_read_timeout_ms;
  cpool__route_use(route);
  cpool__list_push_back(&pool->requests, &req->link);
  return req;
}

bool cpool__warm_up(struct cpool__conn *conn)
{
  struct cpool__route *route = conn->route;
  const struct cpool__origin *org = route->origin;
  char warm_up[CPOOL__WARM_UP_BYTES];
  if (!org->tls || org->policy.stock.wanted == 0 || conn->pool->state != CPOOL__HTTP_OPEN ||
      route->identity->curl->idle_count >= CPOOL__IDLE_PER_IDENTITY)
    return false;
  cpool__overrides_warm_up(conn->pool, org->key, warm_up);
  if (warm_up[0] == '\0' && !route->group.multiplex)
    return false;
  struct cpool__request *req = request_new(route, warm_up);
  if (req == NULL)
    return false;
  cpool__request_connecting(req);
  if (!cpool__transfer_start(req, conn)) {
    cpool__warm_request_end(req);
    return false;
  }
  return true;
}

void cpool__warm_request_end(struct cpool__request *req)
{
  cpool_http *pool = req->pool;
  assert(req->warms && req->transfer == NULL);
  cpool__runtime_disarm(pool->rt, &req->phase_timer);
  cpool__link_remove(&req->link);
  cpool__route_unuse(req->route);
  cpool__http_touch(pool);
  cpool__request_unref(req);
}

void cpool__warm_stop(struct cpool__curl *curl)
{
  struct cpool__link *link, *next;
  for (link = cpool__list_first(&curl->active); link != NULL; link = next) {
    struct cpool__request *req = cpool__container_of(link, struct cpool__transfer, link)->req;
    next = cpool__list_next(&curl->active, link);
    if (req != NULL && req->warms)
      cpool__request_cut(req, CPOOL_ECLOSED, CPOOL_LAYER_POOL, "its identity is not in use any more");
  }
}
