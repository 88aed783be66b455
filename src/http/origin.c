/* origin: hosts, their routes and their published rows */
#include "http/origin.h"

#include <assert.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/options.h"
#include "http/conn.h"
#include "http/curl_loop.h"
#include "http/http_options.h"
#include "http/overrides.h"
#include "http/pool.h"
#include "pool/stock.h"

_Static_assert(sizeof(cpool_origin_stats) ==
                   sizeof(((cpool_origin_stats *) 0)->origin) + CPOOL__ORIGIN_WORDS * sizeof(uint64_t),
               "a row is a name and 64-bit words");

int cpool__origin_same(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct cpool__origin *org = cpool__container_of(entry, const struct cpool__origin, entry);
  return strlen(org->key) == len && memcmp(org->key, key, len) == 0;
}

static void configure(struct cpool__origin *org)
{
  cpool_http_options own = org->pool->options;
  cpool__overrides_apply(org->pool, org->key, &own);
  cpool__http_janitor_rules(&own, &org->rules);
  cpool__origin_limit(&org->pool->admission, &org->policy, cpool__limit32(own.max_connections_per_host),
                      cpool__limit32(own.max_connecting_per_host));
  cpool__stock_want(&org->pool->admission, &org->policy,
                    org->local || own.min_idle_per_host == CPOOL_OFF ? 0 : own.min_idle_per_host);
  for (struct cpool__link *link = cpool__list_first(&org->policy.idle); link != NULL;
       link = cpool__list_next(&org->policy.idle, link))
    cpool__idle_rules_changed(cpool__conn_of_place(cpool__container_of(link, struct cpool__place, own_link)));
  cpool__origin_touch(org);
}

/* Out of all tables, so that its place is free at once: sockets that are being closed keep nobody out. */
static void forget(struct cpool__origin *org)
{
  cpool_http *pool = org->pool;
  pthread_mutex_lock(&pool->origins_lock);
  cpool__link_remove(&org->link);
  pthread_mutex_unlock(&pool->origins_lock);
  cpool__link_remove(&org->spare_link);
  cpool__table_remove(&pool->origins, &org->entry);
  pool->origin_count--;
  org->forgotten = true;
  cpool__stock_want(&pool->admission, &org->policy, 0);
  cpool__runtime_disarm(pool->rt, &org->warm_timer);
}

static void origin_free(struct cpool__origin *org)
{
  struct cpool__link *link;
  assert(org->forgotten);
  while ((link = cpool__list_first(&org->routes)) != NULL)
    cpool__route_free(cpool__container_of(link, struct cpool__route, link));
  assert(org->policy.place_count == 0 && cpool__list_empty(&org->policy.waiters));
  cpool__link_remove(&org->policy.link);
  cpool__link_remove(&org->dirty_link);
  curl_url_cleanup(org->url);
  cpool__free(org);
}

static int make_room(cpool_http *pool)
{
  while (pool->origin_count >= pool->options.max_origins) { /* more than once after the limit was lowered */
    struct cpool__link *idle, *oldest = cpool__list_first(&pool->origins_unused);
    if (oldest == NULL)
      oldest = cpool__list_first(&pool->origins_idle);
    if (oldest == NULL)
      return CPOOL_EFULL;
    struct cpool__origin *org = cpool__container_of(oldest, struct cpool__origin, spare_link);
    while ((idle = cpool__list_first(&org->policy.idle)) != NULL)
      cpool__conn_retire(cpool__conn_of_place(cpool__container_of(idle, struct cpool__place, own_link)),
                         CPOOL__CLOSE_EVICTED);
    forget(org);
    if (org->use_count == 0)
      origin_free(org);
  }
  return CPOOL_OK;
}

/* `proxy`: the URL of the proxy behind "via" in the key; NULL: there is none. */
static int origin_new(cpool_http *pool, const struct cpool__authority *authority, const char *key, size_t len,
                      const char *proxy, struct cpool__origin **out)
{
  int rc = make_room(pool);
  if (rc != CPOOL_OK)
    return rc;
  struct cpool__address address;
  char proxy_host[CPOOL__PROXY_HOST_BYTES];
  uint16_t port = authority->port;
  enum cpool__proxy_kind kind = proxy != NULL ? cpool__proxy_split(proxy, proxy_host, &port) : CPOOL__PROXY_NONE;
  const char *host = proxy != NULL ? proxy_host : authority->host;
  size_t host_len = strlen(host);
  struct cpool__origin *org = cpool__calloc(1, sizeof *org + len + 1 + host_len + 1);
  if (org == NULL)
    return CPOOL_ENOMEM;
  memcpy(org->key, key, len);
  org->host = org->key + len + 1;
  memcpy(org->host, host, host_len);
  org->pool = pool;
  org->tls = authority->tls;
  org->proxy = kind;
  org->local = proxy == NULL && len > strlen(authority->origin);
  org->port = port;
  org->inside = cpool__address_parse(&address, authority->host, authority->port) && !cpool__address_public(&address);
  org->literal = cpool__address_parse(&address, host, port);
  cpool__list_init(&org->routes);
  cpool__origin_policy_init(&org->policy, 1);
  org->url = curl_url();
  if (org->url == NULL || curl_url_set(org->url, CURLUPART_URL, authority->origin, 0) != CURLUE_OK ||
      cpool__table_insert(&pool->origins, &org->entry, key, len) != 0) {
    curl_url_cleanup(org->url);
    cpool__free(org);
    return CPOOL_ENOMEM;
  }
  org->number = ++pool->last_origin;
  pool->origin_count++;
  pthread_mutex_lock(&pool->origins_lock);
  cpool__list_push_back(&pool->origins_list, &org->link);
  pthread_mutex_unlock(&pool->origins_lock);
  cpool__list_push_back(&pool->origins_unused, &org->spare_link);
  *out = org;
  return CPOOL_OK;
}

static int route_new(struct cpool__origin *org, struct cpool__identity *identity, struct cpool__route **out)
{
  struct cpool__curl *curl;
  int rc = cpool__curl_get(identity, &curl);
  if (rc != CPOOL_OK)
    return rc;
  struct cpool__route *route = cpool__calloc(1, sizeof *route);
  if (route == NULL)
    return CPOOL_ENOMEM;
  if (cpool__list_empty(&org->routes)) /* new, or nobody could tell it of new overrides */
    configure(org);
  route->origin = org;
  route->identity = identity;
  cpool__group_init(&route->group, &org->policy);
  route->group.multiplex = org->tls && identity->http_version == CPOOL_HTTP_2;
  cpool__list_init(&route->dialling);
  cpool__list_push_back(&org->routes, &route->link);
  cpool__list_push_back(&curl->routes, &route->identity_link);
  *out = route;
  return CPOOL_OK;
}

/* Host, path and proxy are bounded: 253, 107 and CPOOL__PROXY_URL_BYTES. */
enum { KEY_BYTES = 288 + CPOOL__PROXY_URL_BYTES };

static size_t make_key(char key[KEY_BYTES], const char *name, const char *via)
{
  return (size_t) snprintf(key, KEY_BYTES, "%s via %s", name, via);
}

static struct cpool__origin *find(cpool_http *pool, const char *key, size_t len)
{
  struct cpool__table_entry *entry = cpool__table_find(&pool->origins, key, len);
  return entry != NULL ? cpool__container_of(entry, struct cpool__origin, entry) : NULL;
}

static struct cpool__route *find_route(struct cpool__origin *org, const struct cpool__identity *identity)
{
  for (struct cpool__link *link = cpool__list_first(&org->routes); link != NULL;
       link = cpool__list_next(&org->routes, link)) {
    struct cpool__route *route = cpool__container_of(link, struct cpool__route, link);
    if (route->identity == identity)
      return route;
  }
  return NULL;
}

int cpool__route_get(cpool_http *pool, const struct cpool__authority *authority, struct cpool__identity *identity,
                     struct cpool__route **out)
{
  char joined[KEY_BYTES];
  const char *key = authority->origin;
  size_t len = strlen(key);
  const char *proxy = cpool__proxy_for(identity, authority);
  const char *via = proxy != NULL ? proxy : identity->unix_socket_path;
  if (via != NULL) {
    len = make_key(joined, authority->origin, via);
    key = joined;
  }
  struct cpool__origin *org = find(pool, key, len);
  if (org == NULL) {
    int rc = origin_new(pool, authority, key, len, proxy, &org);
    if (rc != CPOOL_OK)
      return rc;
  }
  struct cpool__route *route = find_route(org, identity);
  if (route == NULL) {
    int rc = route_new(org, identity, &route);
    if (rc != CPOOL_OK)
      return rc;
  }
  cpool__link_remove(&org->spare_link);
  *out = route;
  return CPOOL_OK;
}

void cpool__route_use(struct cpool__route *route)
{
  assert(!route->origin->forgotten || route->use_count > 0); /* a forgotten one lives by those who use it still */
  route->use_count++;
  route->origin->use_count++;
}

/* No request is in flight, and no dial: that one holds a place which is neither busy nor idle. */
static bool at_rest(const struct cpool__origin *org)
{
  return org->requests == org->succeeded + org->failed && org->policy.place_count == org->policy.idle_count;
}

void cpool__route_unuse(struct cpool__route *route)
{
  struct cpool__origin *org = route->origin;
  assert(route->use_count > 0 && org->use_count > 0);
  route->use_count--;
  if (--org->use_count == 0 && org->forgotten) {
    origin_free(org);
  } else if (org->use_count == 0) {
    cpool__link_remove(&org->spare_link);
    cpool__list_push_back(&org->pool->origins_unused, &org->spare_link);
  } else if (at_rest(org) && !org->forgotten && !cpool__link_in(&org->spare_link)) {
    cpool__list_push_back(&org->pool->origins_idle, &org->spare_link);
  }
}

void cpool__route_free(struct cpool__route *route)
{
  assert(route->use_count == 0 && cpool__list_empty(&route->dialling));
  cpool__stock_forget(&route->group);
  cpool__link_remove(&route->link);
  cpool__link_remove(&route->identity_link);
  cpool__free(route);
}

void cpool__origin_touch(struct cpool__origin *org)
{
  if (!cpool__link_in(&org->dirty_link))
    cpool__list_push_back(&org->pool->origins_dirty, &org->dirty_link);
  cpool__http_touch(org->pool);
}

void cpool__origins_publish(cpool_http *pool)
{
  struct cpool__link *link;
  while ((link = cpool__list_pop_front(&pool->origins_dirty)) != NULL) {
    struct cpool__origin *org = cpool__container_of(link, struct cpool__origin, dirty_link);
    const struct cpool__origin_policy *policy = &org->policy;
    const uint64_t row[CPOOL__ORIGIN_WORDS] = {
        (uint64_t) policy->place_count,
        (uint64_t) policy->busy_count,
        (uint64_t) policy->idle_count,
        (uint64_t) (policy->place_count - policy->busy_count - policy->idle_count),
        (uint64_t) policy->waiting_count,
        (uint64_t) policy->limit,
        org->requests,
        org->succeeded,
        org->failed,
        org->opened,
        org->reused,
    };
    for (int i = 0; i < CPOOL__ORIGIN_WORDS; i++)
      atomic_store_explicit(&org->row[i], row[i], memory_order_relaxed);
  }
}

void cpool__origins_configure(cpool_http *pool)
{
  for (struct cpool__link *link = cpool__list_first(&pool->origins_list); link != NULL;
       link = cpool__list_next(&pool->origins_list, link))
    configure(cpool__container_of(link, struct cpool__origin, link));
}

static void configure_via(cpool_http *pool, const char *name, const char *via)
{
  char key[KEY_BYTES];
  if (via == NULL)
    return;
  struct cpool__origin *org = find(pool, key, make_key(key, name, via));
  if (org != NULL)
    configure(org);
}

void cpool__origins_configure_named(cpool_http *pool, const char *name)
{
  struct cpool__origin *org = find(pool, name, strlen(name));
  if (org != NULL)
    configure(org);
  /* Through unix sockets and proxies. An origin that no identity talks to is not found: it is configured with its next
   * route. */
  for (struct cpool__link *link = cpool__list_first(&pool->identities_used); link != NULL;
       link = cpool__list_next(&pool->identities_used, link)) {
    const struct cpool__identity *identity = cpool__container_of(link, struct cpool__curl, link)->identity;
    configure_via(pool, name, identity->unix_socket_path);
    configure_via(pool, name, identity->http_proxy);
    configure_via(pool, name, identity->https_proxy);
  }
}

void cpool__origins_fini(cpool_http *pool)
{
  struct cpool__link *link;
  while ((link = cpool__list_first(&pool->origins_list)) != NULL) {
    struct cpool__origin *org = cpool__container_of(link, struct cpool__origin, link);
    forget(org);
    origin_free(org);
  }
}
