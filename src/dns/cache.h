/* cache: what is known of each name, family by family, and what is being asked; time is an argument. Loop thread only.
 *
 *   name -- known[family] -- answer  the last one that counts: fresh, or stale and kept for a failure of the servers
 *                         `- asked   a question under way, which may replace it
 *
 * A record is asked for once and answered once; from then on it does not change. When the cache lets it go, whoever
 * still reads it keeps it by a reference. Names being asked for are never evicted: their waiters are to share one
 * query. */
#ifndef CPOOL_DNS_CACHE_H
#define CPOOL_DNS_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/table.h"
#include "base/wheel.h"
#include "dns/freshness.h"
#include "dns/host_name.h"
#include "dns/resolver.h"

struct cpool__dns_cache;
struct cpool__dns_name;
struct cpool__left;

struct cpool__dns_record {
  struct cpool__list waits;      /* cpool__lookup_wait, until answered */
  struct cpool__timer timer;     /* while asked for: the end of patience */
  struct cpool__resolver *owner; /* while asked for */
  struct cpool__dns_name *name;  /* asked for, or answered and in the cache; NULL: in no cache */
  enum cpool__family family;
  int references;
  struct cpool__family_answer answer;
};

/* One family of a name. */
struct cpool__dns_known {
  struct cpool__dns_name *name;
  struct cpool__dns_record *answer, *asked; /* NULL: none; a reference each */
  struct cpool__freshness freshness;        /* of the answer */
  struct cpool__timer timer;                /* the owner's: when to ask again, or not to wait any longer */
  bool used;                                /* since the owner last looked */
  struct cpool__left *left;                 /* the owner's, in plain memory: goes with the name */
};

struct cpool__dns_name {
  struct cpool__table_entry entry;
  struct cpool__link link;     /* nothing asked: its place by last use */
  struct cpool__link row_link; /* the board's */
  uint64_t number;             /* the board's */
  struct cpool__dns_cache *cache;
  struct cpool__dns_known known[CPOOL__FAMILIES];
  uint32_t turn;                   /* lookups so far: which address is first in turn */
  _Atomic uint64_t hits, failures; /* lookups that did not wait; questions that were not answered */
  char text[];                     /* lower case */
};

/* What is known at a time. */
enum cpool__dns_state {
  CPOOL__DNS_NOTHING, /* or a failure whose time is over */
  CPOOL__DNS_GOOD,
  CPOOL__DNS_STALE /* addresses past their time */
};

struct cpool__dns_cache {
  struct cpool__table names;
  struct cpool__list used; /* names with nothing asked; first: not used for the longest time */
  int64_t max_names;       /* negative: no bound */
  /* May be NULL. The name came, with nothing known; the name goes. */
  void (*added)(struct cpool__dns_cache *cache, struct cpool__dns_name *name);
  void (*removed)(struct cpool__dns_cache *cache, struct cpool__dns_name *name);
};

/* One reference, the caller's; not answered, in no cache. NULL: out of memory. */
struct cpool__dns_record *cpool__dns_record_new(enum cpool__family family);
void cpool__dns_record_hold(struct cpool__dns_record *record);
void cpool__dns_record_drop(struct cpool__dns_record *record); /* NULL is legal */
/* The one answer; copies. When memory for the addresses is short the answer is CPOOL_ENOMEM. */
void cpool__dns_record_answer(struct cpool__dns_record *record, int status, int native,
                              const struct cpool__address *addresses, int count);

void cpool__dns_cache_init(struct cpool__dns_cache *cache, int64_t max_names);
void cpool__dns_cache_fini(struct cpool__dns_cache *cache);
void cpool__dns_cache_set_max(struct cpool__dns_cache *cache, int64_t max_names);
int64_t cpool__dns_cache_count(const struct cpool__dns_cache *cache);
/* Finds, or makes one without anything known: something is to be asked of it at once. It counts as used now. The text is
 * in lower case, CPOOL__DNS_NAME_BYTES at most. CPOOL_EFULL: all others are being asked for; CPOOL_ENOMEM. */
int cpool__dns_cache_get(struct cpool__dns_cache *cache, const char *text, struct cpool__dns_name **out);
/* One with nothing known and nothing asked goes. */
void cpool__dns_name_tidy(struct cpool__dns_name *name);

enum cpool__dns_state cpool__dns_known_state(const struct cpool__dns_known *known, uint64_t now_ms, int64_t stale_ms);
/* Takes in a record that is not answered yet, with a reference of its own; nothing else is being asked. */
void cpool__dns_known_ask(struct cpool__dns_known *known, struct cpool__dns_record *record);
/* The record being asked for was answered. An answer of the servers, "no such name" too, replaces what was known, for
 * `ttl_ms` (0 or less: it is not kept). A failure replaces nothing that may still be served: then the next try is put
 * off, and the result is true. */
bool cpool__dns_known_answered(struct cpool__dns_known *known, uint64_t now_ms, int64_t ttl_ms, int64_t stale_ms,
                               uint64_t random);

#endif
