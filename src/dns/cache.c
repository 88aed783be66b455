/* cache: what is known of each name and what is being asked; time is an argument, not read here */
#include "dns/cache.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

/* ---- one record */

struct cpool__dns_record *cpool__dns_record_new(enum cpool__family family)
{
  struct cpool__dns_record *record = cpool__calloc(1, sizeof *record);
  if (record == NULL)
    return NULL;
  record->references = 1;
  record->family = family;
  cpool__list_init(&record->waits);
  return record;
}

void cpool__dns_record_hold(struct cpool__dns_record *record)
{
  record->references++;
}

void cpool__dns_record_drop(struct cpool__dns_record *record)
{
  if (record == NULL || --record->references > 0)
    return;
  assert(record->name == NULL && cpool__list_empty(&record->waits) && !cpool__timer_armed(&record->timer));
  cpool__free(record->answer.addresses);
  cpool__free(record);
}

void cpool__dns_record_answer(struct cpool__dns_record *record, int status, int native,
                              const struct cpool__address *addresses, int count)
{
  assert(!record->answer.ended && (status == CPOOL_OK) == (count > 0));
  if (count > CPOOL__DNS_ADDRESSES)
    count = CPOOL__DNS_ADDRESSES;
  if (count > 0) {
    size_t size = (size_t) count * sizeof *addresses;
    record->answer.addresses = cpool__malloc(size);
    if (record->answer.addresses != NULL) {
      memcpy(record->answer.addresses, addresses, size);
    } else {
      status = CPOOL_ENOMEM;
      count = 0;
    }
  }
  record->answer.status = status;
  record->answer.native = native;
  record->answer.count = count;
  record->answer.ended = true;
}

/* ---- one family of a name */

static void let_go(struct cpool__dns_record **record)
{
  if (*record == NULL)
    return;
  (*record)->name = NULL;
  cpool__dns_record_drop(*record);
  *record = NULL;
}

enum cpool__dns_state cpool__dns_known_state(const struct cpool__dns_known *known, uint64_t now_ms, int64_t stale_ms)
{
  if (known->answer == NULL)
    return CPOOL__DNS_NOTHING;
  switch (cpool__freshness_at(&known->freshness, now_ms, stale_ms)) {
  case CPOOL__FRESH:
    return CPOOL__DNS_GOOD;
  case CPOOL__STALE:
    return known->answer->answer.status == CPOOL_OK ? CPOOL__DNS_STALE : CPOOL__DNS_NOTHING;
  case CPOOL__OVER:
    break;
  }
  return CPOOL__DNS_NOTHING;
}

void cpool__dns_known_ask(struct cpool__dns_known *known, struct cpool__dns_record *record)
{
  assert(known->asked == NULL && record->name == NULL && !record->answer.ended);
  known->asked = record;
  record->name = known->name;
  cpool__dns_record_hold(record);
  cpool__link_remove(&known->name->link);
}

bool cpool__dns_known_answered(struct cpool__dns_known *known, uint64_t now_ms, int64_t ttl_ms, int64_t stale_ms,
                               uint64_t random)
{
  struct cpool__dns_record *record = known->asked;
  struct cpool__dns_name *name = known->name;
  assert(record != NULL && record->answer.ended);
  bool answer = record->answer.status == CPOOL_OK || record->answer.status == CPOOL_EDNS_NOTFOUND;
  bool kept = !answer && known->answer != NULL && known->answer->answer.status == CPOOL_OK &&
              cpool__dns_known_state(known, now_ms, stale_ms) != CPOOL__DNS_NOTHING;
  known->asked = NULL;
  if (kept) {
    cpool__freshness_failed(&known->freshness, now_ms);
    let_go(&record);
  } else {
    let_go(&known->answer);
    if (ttl_ms > 0) {
      known->answer = record;
      cpool__freshness_answered(&known->freshness, now_ms, ttl_ms, random);
    } else {
      let_go(&record);
    }
  }
  if (name->known[0].asked == NULL && name->known[1].asked == NULL)
    cpool__list_push_back(&name->cache->used, &name->link);
  return kept;
}

/* ---- all names */

static struct cpool__dns_name *name_of(const struct cpool__table_entry *entry)
{
  return cpool__container_of(entry, struct cpool__dns_name, entry);
}

static int same_text(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct cpool__dns_name *name = name_of(entry);
  return strlen(name->text) == len && memcmp(name->text, key, len) == 0;
}

static void remove_name(struct cpool__dns_name *name)
{
  struct cpool__dns_cache *cache = name->cache;
  if (cache->removed != NULL)
    cache->removed(cache, name);
  cpool__table_remove(&cache->names, &name->entry);
  cpool__link_remove(&name->link);
  for (int family = 0; family < CPOOL__FAMILIES; family++) {
    let_go(&name->known[family].answer);
    let_go(&name->known[family].asked);
  }
  for (int family = 0; family < CPOOL__FAMILIES; family++)
    cpool__free(name->known[family].left);
  cpool__free(name);
}

void cpool__dns_name_tidy(struct cpool__dns_name *name)
{
  for (int family = 0; family < CPOOL__FAMILIES; family++)
    if (name->known[family].answer != NULL || name->known[family].asked != NULL)
      return;
  remove_name(name);
}

/* Evicts until `count` names are left, or only such as are being asked for. */
static void shrink(struct cpool__dns_cache *cache, int64_t count)
{
  while (cpool__dns_cache_count(cache) > count) {
    struct cpool__link *oldest = cpool__list_first(&cache->used);
    if (oldest == NULL)
      return;
    remove_name(cpool__container_of(oldest, struct cpool__dns_name, link));
  }
}

void cpool__dns_cache_init(struct cpool__dns_cache *cache, int64_t max_names)
{
  *cache = (struct cpool__dns_cache){.max_names = max_names};
  cpool__table_init(&cache->names, same_text);
  cpool__list_init(&cache->used);
}

void cpool__dns_cache_fini(struct cpool__dns_cache *cache)
{
  struct cpool__table_entry *entry = cpool__table_next(&cache->names, NULL);
  while (entry != NULL) {
    struct cpool__table_entry *next = cpool__table_next(&cache->names, entry);
    remove_name(name_of(entry));
    entry = next;
  }
  cpool__table_fini(&cache->names);
}

void cpool__dns_cache_set_max(struct cpool__dns_cache *cache, int64_t max_names)
{
  cache->max_names = max_names;
  if (max_names >= 0)
    shrink(cache, max_names);
}

int64_t cpool__dns_cache_count(const struct cpool__dns_cache *cache)
{
  return (int64_t) cache->names.count;
}

int cpool__dns_cache_get(struct cpool__dns_cache *cache, const char *text, struct cpool__dns_name **out)
{
  size_t len = strlen(text);
  assert(len <= CPOOL__DNS_NAME_BYTES);
  struct cpool__table_entry *entry = cpool__table_find(&cache->names, text, len);
  if (entry != NULL) {
    *out = name_of(entry);
    if (cpool__link_in(&(*out)->link)) {
      cpool__link_remove(&(*out)->link);
      cpool__list_push_back(&cache->used, &(*out)->link);
    }
    return CPOOL_OK;
  }
  if (cache->max_names >= 0) {
    shrink(cache, cache->max_names - 1);
    if (cpool__dns_cache_count(cache) >= cache->max_names)
      return CPOOL_EFULL;
  }
  struct cpool__dns_name *name = cpool__calloc(1, sizeof *name + len + 1);
  if (name == NULL)
    return CPOOL_ENOMEM;
  name->cache = cache;
  memcpy(name->text, text, len + 1);
  for (int family = 0; family < CPOOL__FAMILIES; family++)
    name->known[family].name = name;
  if (cpool__table_insert(&cache->names, &name->entry, text, len) != 0) {
    cpool__free(name);
    return CPOOL_ENOMEM;
  }
  if (cache->added != NULL)
    cache->added(cache, name);
  *out = name;
  return CPOOL_OK;
}
