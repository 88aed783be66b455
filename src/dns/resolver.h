/* resolver: one lookup for many waiters; answers are kept for as long as their records allow, asked for again before they
 * end while they are in use, and stand in when the name servers fail. Loop thread only. */
#ifndef CPOOL_DNS_RESOLVER_H
#define CPOOL_DNS_RESOLVER_H

#include <stdbool.h>
#include <stdint.h>
#include <cpool.h>

#include "base/list.h"
#include "core/runtime.h"
#include "dns/address.h"

enum { CPOOL__DNS_ADDRESSES = 32 }; /* kept per family of a name */

/* Times of 0 or less are off: ttl_max keeps nothing, ttl_min raises nothing, negative_ttl keeps no failure, timeout
 * leaves it to c-ares, stale lets no answer outlive its time. */
struct cpool__dns_options {
  int64_t ttl_max_ms, ttl_min_ms, negative_ttl_ms, timeout_ms, stale_ms;
  int32_t max_entries;     /* names; negative: no bound */
  const char *servers;     /* csv with ports, NULL: those of resolv_conf; copied */
  const char *resolv_conf; /* NULL: /etc/resolv.conf; copied */
  const char *hosts_file;  /* NULL: /etc/hosts; copied */
};

struct cpool__dns_stats {
  uint64_t hits;      /* lookups that sent no query: cache, hosts file, localhost, bad name, another lookup's query */
  uint64_t misses;    /* lookups that sent at least one */
  uint64_t failures;  /* lookups that ended without an address; cancelled ones do not count */
  uint64_t stale;     /* lookups that were given an answer past its time; hits or misses as well */
  uint64_t refreshes; /* questions asked for no lookup, so that an answer in use does not end */
};

enum cpool__family { CPOOL__FAMILY_V6, CPOOL__FAMILY_V4, CPOOL__FAMILIES };

/* What is known of one family of a name at the moment. */
struct cpool__family_answer {
  bool ended; /* an answer, or a failure, is there */
  int status; /* CPOOL_OK (count > 0), CPOOL_EDNS_NOTFOUND, CPOOL_EDNS_FAILED, CPOOL_ENOMEM, CPOOL_ESYSTEM */
  int native; /* c-ares code; errno for CPOOL_ESYSTEM */
  int count;
  struct cpool__address *addresses; /* port 0 */
};

struct cpool__resolver;
struct cpool__dns_record;
struct cpool__tie;
struct cpool__peers;
struct cpool__lookup;
typedef void cpool__lookup_fn(struct cpool__lookup *lookup);

/* One caller's wish; embedded in it, zeroed before first use. */
struct cpool__lookup_wait {
  struct cpool__link link; /* in the record's waits, then among those to be told */
  struct cpool__lookup *lookup;
};

struct cpool__lookup {
  cpool__lookup_fn *fn;
  struct cpool__resolver *resolver;
  struct cpool__dns_record *records[CPOOL__FAMILIES]; /* held from start to cancel */
  struct cpool__lookup_wait waits[CPOOL__FAMILIES];
  uint32_t turn; /* of the name: which of its addresses comes first for this one */
  unsigned told; /* families already told, as bits */
  bool stale;    /* counted as such */
};

struct cpool__dns_board;

/* CPOOL_OK; CPOOL_EINVAL (recorded) for a bad servers text; CPOOL_ENOMEM. The channel of c-ares is made with the
 * first query. What is known of names is put on the board (may be NULL), which outlives the resolver. */
int cpool__resolver_new(struct cpool__resolver **out, cpool_runtime *rt, const struct cpool__dns_options *options,
                        struct cpool__dns_board *board);
/* All lookups must have been cancelled or ended; those that ended are still readable, and cancelled later. NULL is
 * legal. */
void cpool__resolver_free(struct cpool__resolver *resolver);
/* Live options; texts are not changed. */
void cpool__resolver_configure(struct cpool__resolver *resolver, const struct cpool__dns_options *options);
/* Begins a lookup of a host name (not a literal; at most 253 bytes, labels of 1 to 63; letters, digits, '-', '_',
 * '.', one '.' at the end; anything else ends as NOTFOUND). Order: hosts file, "localhost" and its subdomains
 * (loopback, RFC 6761), cache, query. `fn` is called once per family when it has ended, never from inside this call,
 * and at most twice; inside it every call is legal, cpool__resolver_free too. When the second family was told the
 * lookup is over. CPOOL_OK or CPOOL_ENOMEM (nothing began). */
int cpool__lookup_start(struct cpool__resolver *resolver, struct cpool__lookup *lookup, const char *name,
                        cpool__lookup_fn *fn);
/* No call follows, and the answers are given back: each lookup that was started needs it in the end, one that is over
 * too. The query goes on for others and for the cache. Harmless when never begun, or again. */
void cpool__lookup_cancel(struct cpool__lookup *lookup);
/* Valid from start until cancel. */
const struct cpool__family_answer *cpool__lookup_answer(const struct cpool__lookup *lookup, enum cpool__family family);
/* A connection to an address of the name is open (see tie.h), until it is untied. A name that is none of the name servers',
 * in the hosts file for one, ties to nothing. */
void cpool__resolver_tie(struct cpool__resolver *resolver, struct cpool__tie *tie, const char *name);
void cpool__resolver_untie(struct cpool__resolver *resolver, struct cpool__tie *tie);
struct cpool__peers *cpool__resolver_peers(struct cpool__resolver *resolver);
const struct cpool__dns_stats *cpool__resolver_stats(const struct cpool__resolver *resolver);

#endif
