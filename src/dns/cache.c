/* cache: what is known of each family of a name, and for how long; time is an argument, not read here */
#include "dns/cache.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

static struct cpool__dns_record *record_of(const struct cpool__table_entry *entry)
{
  return cpool__container_of(entry, struct cpool__dns_record, entry);
}

static int same_key(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct cpool__dns_record *record = record_of(entry);
  return record->key_len == len && memcmp(record->key, key, len) == 0;
}

static char family_digit(enum cpool__family family)
{
  return family == CPOOL__FAMILY_V6 ? '6' : '4';
}

/* ---- one record */

struct cpool__dns_record *cpool__dns_record_new(const char *name, enum cpool__family family)
{
  size_t len = strlen(name);
  struct cpool__dns_record *record = cpool__calloc(1, sizeof *record + len + 2);
  if (record == NULL)
    return NULL;
  record->references = 1;
  record->key_len = len + 1;
  record->key[0] = family_digit(family);
  memcpy(record->key + 1, name, len + 1);
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
  assert(!record->cached && cpool__list_empty(&record->waits) && !cpool__timer_armed(&record->timer));
  cpool__free(record->answer.addresses);
  cpool__free(record);
}

const char *cpool__dns_record_name(const struct cpool__dns_record *record)
{
  return record->key + 1;
}

enum cpool__family cpool__dns_record_family(const struct cpool__dns_record *record)
{
  return record->key[0] == '6' ? CPOOL__FAMILY_V6 : CPOOL__FAMILY_V4;
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

/* ---- all of them */

static int64_t records_for(int64_t max_names)
{
  return max_names < 0 ? -1 : 2 * max_names;
}

static void remove_record(struct cpool__dns_cache *cache, struct cpool__dns_record *record)
{
  cpool__table_remove(&cache->records, &record->entry);
  cpool__link_remove(&record->link);
  record->cached = false;
  cpool__dns_record_drop(record);
}

/* Evicts until `count` records are left, or only such as are being asked for. */
static void shrink(struct cpool__dns_cache *cache, int64_t count)
{
  while (cpool__dns_cache_count(cache) > count) {
    struct cpool__link *oldest = cpool__list_first(&cache->used);
    if (oldest == NULL)
      return;
    remove_record(cache, cpool__container_of(oldest, struct cpool__dns_record, link));
  }
}

void cpool__dns_cache_init(struct cpool__dns_cache *cache, int64_t max_names)
{
  cpool__table_init(&cache->records, same_key);
  cpool__list_init(&cache->used);
  cache->max_records = records_for(max_names);
}

void cpool__dns_cache_fini(struct cpool__dns_cache *cache)
{
  struct cpool__table_entry *entry = cpool__table_next(&cache->records, NULL);
  while (entry != NULL) {
    struct cpool__table_entry *next = cpool__table_next(&cache->records, entry);
    remove_record(cache, record_of(entry));
    entry = next;
  }
  cpool__table_fini(&cache->records);
}

void cpool__dns_cache_set_max(struct cpool__dns_cache *cache, int64_t max_names)
{
  cache->max_records = records_for(max_names);
  if (cache->max_records >= 0)
    shrink(cache, cache->max_records);
}

int64_t cpool__dns_cache_count(const struct cpool__dns_cache *cache)
{
  return (int64_t) cache->records.count;
}

struct cpool__dns_record *cpool__dns_cache_find(struct cpool__dns_cache *cache, const char *name,
                                                enum cpool__family family, uint64_t now_ms)
{
  char key[CPOOL__DNS_NAME_BYTES + 1];
  size_t len = strlen(name);
  assert(len <= CPOOL__DNS_NAME_BYTES);
  key[0] = family_digit(family);
  memcpy(key + 1, name, len);
  struct cpool__table_entry *entry = cpool__table_find(&cache->records, key, len + 1);
  if (entry == NULL)
    return NULL;

  struct cpool__dns_record *record = record_of(entry);
  if (!record->answer.ended)
    return record;
  if (now_ms >= record->expires_ms) {
    remove_record(cache, record);
    return NULL;
  }
  cpool__link_remove(&record->link);
  cpool__list_push_back(&cache->used, &record->link);
  return record;
}

int cpool__dns_cache_add(struct cpool__dns_cache *cache, struct cpool__dns_record *record)
{
  assert(!record->cached && !record->answer.ended);
  if (cache->max_records >= 0) {
    shrink(cache, cache->max_records - 1);
    if (cpool__dns_cache_count(cache) >= cache->max_records)
      return CPOOL_EFULL;
  }
  if (cpool__table_insert(&cache->records, &record->entry, record->key, record->key_len) != 0)
    return CPOOL_ENOMEM;
  record->cached = true;
  cpool__dns_record_hold(record);
  return CPOOL_OK;
}

void cpool__dns_cache_answered(struct cpool__dns_cache *cache, struct cpool__dns_record *record, uint64_t now_ms,
                               int64_t ttl_ms)
{
  assert(record->answer.ended);
  if (!record->cached)
    return;
  if (ttl_ms <= 0) {
    remove_record(cache, record);
    return;
  }
  record->expires_ms = now_ms + (uint64_t) ttl_ms;
  cpool__list_push_back(&cache->used, &record->link);
}
