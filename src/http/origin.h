/* origin: one host of the pool: its limits, its parsed URL, its counters, and a route per identity that talks to it.
 * Loop thread, but for the published rows.
 *
 *   in use      a request or a dial names it                 -> idle, unused
 *   idle        nothing but connections without a request    -> in use, unused, forgotten
 *   unused      nothing at all                               -> in use, forgotten
 *   forgotten   its place among max_origins was needed: in no table, its connections are shut down, and it ends with
 *               the last of them. The host's next request makes a new origin.
 */
#ifndef CPOOL_HTTP_ORIGIN_H
#define CPOOL_HTTP_ORIGIN_H

#include <curl/curl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <cpool.h>

#include "base/list.h"
#include "base/table.h"
#include "http/identity.h"
#include "http/proxy.h"
#include "web/url.h"
#include "pool/admission.h"
#include "pool/janitor.h"

enum {
  CPOOL__ORIGIN_WORDS = (sizeof(cpool_origin_stats) - sizeof(((cpool_origin_stats *) 0)->origin)) / sizeof(uint64_t)
};

struct cpool__origin {
  struct cpool__table_entry entry;
  struct cpool__link link;       /* pool->origins_list, under origins_lock */
  struct cpool__link spare_link; /* pool->origins_unused or origins_idle */
  struct cpool__link dirty_link; /* pool->origins_dirty: its row is to be published */
  cpool_http *pool;
  uint64_t number; /* position for cpool_http_origins_get, from 1 */
  struct cpool__origin_policy policy;
  struct cpool__janitor_rules rules;
  struct cpool__list routes;
  uint32_t use_count; /* requests, connections, dials */
  bool forgotten;
  bool tls;
  enum cpool__proxy_kind proxy; /* what its key says behind "via" */
  bool local;                   /* behind a unix socket */
  bool inside;                  /* the URL's host is an address, and not a public one */
  bool literal;                 /* `host` is an address */
  uint16_t port;
  int prefer_family; /* AF_INET once IPv6 was found dead */
  CURLU *url;
  char *host; /* to connect to, the proxy's if there is one; in the key's block */
  uint64_t requests, succeeded, failed, opened, reused; /* the first less the next two are in flight */
  char last_error[64];                                  /* of its dials, for the text of a queue timeout */
  struct cpool__timer warm_timer;                       /* the next try to make a connection ahead, after a failure */
  _Atomic uint64_t row[CPOOL__ORIGIN_WORDS];
  char key[]; /* "https://host:port", with " via /path" for a unix socket or " via URL" for a proxy */
};

/* Its connections begin with the TLS handshake of the host or of the proxy. */
static inline bool cpool__origin_encrypted(const struct cpool__origin *org)
{
  return org->tls || org->proxy == CPOOL__PROXY_HTTPS;
}

/* An origin under one identity: its connections are interchangeable. */
struct cpool__route {
  struct cpool__link link;          /* origin->routes */
  struct cpool__link identity_link; /* identity's curl part */
  struct cpool__group group;
  struct cpool__origin *origin;
  struct cpool__identity *identity;
  struct cpool__list dialling; /* requests that dial, oldest first */
  uint32_t use_count;
};

int cpool__origin_same(const struct cpool__table_entry *entry, const void *key, size_t len); /* for pool->origins */
/* For a request, or another one who uses it at once. Finds or makes, and forgets an origin without requests if it needs the room.
 * CPOOL_EFULL: max_origins are in use; CPOOL_ENOMEM. */
int cpool__route_get(cpool_http *pool, const struct cpool__authority *authority, struct cpool__identity *identity,
                     struct cpool__route **out);
/* Keeps it in memory: for a request, a dial, a connection, or whoever closes one, even of a forgotten origin. */
void cpool__route_use(struct cpool__route *route);
void cpool__route_unuse(struct cpool__route *route); /* may free the route */
/* No request, dial or connection uses it: its identity goes. */
void cpool__route_free(struct cpool__route *route);
/* The row changed: it is published at the end of the turn. */
void cpool__origin_touch(struct cpool__origin *origin);
void cpool__origins_publish(cpool_http *pool);
/* New pool options: limits and rules of all again. */
void cpool__origins_configure(cpool_http *pool);
/* New overrides for this "https://host:port": the same for it, also behind unix sockets and proxies. */
void cpool__origins_configure_named(cpool_http *pool, const char *name);
void cpool__origins_fini(cpool_http *pool);

#endif
