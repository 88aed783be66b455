/* cache: what is known of each family of a name, and for how long; time is an argument. Loop thread only.
 *
 * A record is asked for once and answered once; from then on it does not change. When its time is over the cache lets
 * it go, and whoever still reads it keeps it by a reference. Records being asked for are never evicted: their waiters
 * are to share one query. */
#ifndef CPOOL_DNS_CACHE_H
#define CPOOL_DNS_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/table.h"
#include "base/wheel.h"
#include "dns/resolver.h"

enum { CPOOL__DNS_NAME_BYTES = 253 };

struct cpool__dns_record {
  struct cpool__table_entry entry;
  struct cpool__link link;       /* in the cache and answered: its place by last use */
  struct cpool__list waits;      /* cpool__lookup_wait, until answered */
  struct cpool__timer timer;     /* while asked for: the end of patience */
  struct cpool__resolver *owner; /* while asked for */
  int references;
  bool cached; /* the cache holds it, and one of the references */
  uint64_t expires_ms;
  struct cpool__family_answer answer;
  size_t key_len;
  char key[]; /* family digit, then the name, NUL-terminated */
};

struct cpool__dns_cache {
  struct cpool__table records;
  struct cpool__list used; /* answered ones; first: not used for the longest time */
  int64_t max_records;     /* two per name; negative: no bound */
};

/* One reference, the caller's; not answered, in no cache. NULL: out of memory. */
struct cpool__dns_record *cpool__dns_record_new(const char *name, enum cpool__family family);
void cpool__dns_record_hold(struct cpool__dns_record *record);
void cpool__dns_record_drop(struct cpool__dns_record *record); /* NULL is legal */
const char *cpool__dns_record_name(const struct cpool__dns_record *record);
enum cpool__family cpool__dns_record_family(const struct cpool__dns_record *record);
/* The one answer; copies. When memory for the addresses is short the answer is CPOOL_ENOMEM. */
void cpool__dns_record_answer(struct cpool__dns_record *record, int status, int native,
                              const struct cpool__address *addresses, int count);

void cpool__dns_cache_init(struct cpool__dns_cache *cache, int64_t max_names);
void cpool__dns_cache_fini(struct cpool__dns_cache *cache);
void cpool__dns_cache_set_max(struct cpool__dns_cache *cache, int64_t max_names);
int64_t cpool__dns_cache_count(const struct cpool__dns_cache *cache);
/* One that is being asked for, or answered and still good; no reference is added. NULL: none. Names are in lower
 * case. */
struct cpool__dns_record *cpool__dns_cache_find(struct cpool__dns_cache *cache, const char *name,
                                                enum cpool__family family, uint64_t now_ms);
/* Takes in a record that is not answered yet, with a reference of its own. CPOOL_OK; CPOOL_EFULL: all others are
 * being asked for; CPOOL_ENOMEM. */
int cpool__dns_cache_add(struct cpool__dns_cache *cache, struct cpool__dns_record *record);
/* The record was answered: keeps it until now + ttl, or lets it go when ttl is 0. Harmless when the cache does not
 * hold it. */
void cpool__dns_cache_answered(struct cpool__dns_cache *cache, struct cpool__dns_record *record, uint64_t now_ms,
                               int64_t ttl_ms);

#endif
