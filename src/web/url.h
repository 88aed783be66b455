/* url: a URL becomes an authority (who), parsed by libcurl once and then cached, and a target (what). Any thread. */
#ifndef CPOOL_WEB_URL_H
#define CPOOL_WEB_URL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CPOOL__URL_CACHE_SLOTS = 256, CPOOL__URL_MAX_BYTES = 64 * 1024 };

/* Immutable once made. */
struct cpool__authority {
  bool tls; /* https */
  uint16_t port;
  const char *host;   /* lower case, without brackets */
  const char *origin; /* "https://host:port", brackets around IPv6, the port always there */
  const char *prefix; /* the text that it was parsed from: scheme://authority */
  size_t prefix_len;
  uint64_t hash;
};

/* Entries are added once and never replaced, so readers need no lock and no reference; what finds no slot is the
 * caller's own to free. */
struct cpool__url_cache {
  uint64_t key[2];
  _Atomic(struct cpool__authority *) slots[CPOOL__URL_CACHE_SLOTS];
};

struct cpool__url {
  const struct cpool__authority *authority;
  struct cpool__authority *owned; /* equal to authority when no slot was free: cpool__authority_free; else NULL */
  const char *target;             /* path and query, within the given text; "" or begins with '/' or '?' */
  size_t target_len;              /* the fragment is cut off */
};

void cpool__url_cache_init(struct cpool__url_cache *cache);
void cpool__url_cache_fini(struct cpool__url_cache *cache);
/* Parses an absolute http or https URL. The target is sent as written: every byte must be printable ASCII. A
 * trailing dot of the host is kept. CPOOL_EINVAL (recorded; `what` names the field: "url", "base_url", "origin"): no
 * or other scheme, user or password, bad host or port, control bytes, blanks or bytes above 0x7e, too long.
 * CPOOL_ENOMEM (recorded). *out is untouched on failure. */
int cpool__url_parse(struct cpool__url_cache *cache, const char *text, const char *what, struct cpool__url *out);
/* The same, looking into the cache (may be NULL) but leaving nothing there: for what a peer chose, who could fill it. */
int cpool__url_parse_once(struct cpool__url_cache *cache, const char *text, const char *what, struct cpool__url *out);
/* A ws or wss URL: the authority is that of http or https. No cache. */
int cpool__url_parse_ws(const char *text, const char *what, struct cpool__url *out);
/* Checks a target alone, which begins with '/' or '?' (used with a base URL). CPOOL_OK or CPOOL_EINVAL (recorded);
 * *len without the fragment. */
int cpool__url_target(const char *text, const char *what, size_t *len);
void cpool__authority_free(struct cpool__authority *authority); /* NULL is legal */

#endif
