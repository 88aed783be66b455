/* table: chained buckets under SipHash-1-3, doubled in small steps
 *
 * The array doubles when there is more than one entry per bucket. The old array is then emptied MOVES buckets per
 * insertion, from its end: the last `moved` old buckets are empty, and their entries live in the new array; all others,
 * the newly inserted too, still live in the old one. So a hash names exactly one chain at any time, and a look-up
 * during growth costs one comparison more. From n to 2n entries takes n insertions at least, so that the old array
 * of n buckets is empty long before the next doubling. What is empty of it is given back in steps of GIVE_BACK buckets: the
 * kernel takes about a millisecond for four megabytes at once. The table never shrinks. */
#include "base/table.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <time.h>

#include "base/memory.h"

enum { FIRST_BUCKETS = 16, MOVES = 4, GIVE_BACK = 16384 };

/* ---- SipHash (Aumasson, Bernstein 2012), one compression round per word and three to finish ---- */

static inline uint64_t rotate(uint64_t word, int bits)
{
  return word << bits | word >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
  v[0] += v[1];
  v[2] += v[3];
  v[1] = rotate(v[1], 13) ^ v[0];
  v[3] = rotate(v[3], 16) ^ v[2];
  v[0] = rotate(v[0], 32);
  v[2] += v[1];
  v[0] += v[3];
  v[1] = rotate(v[1], 17) ^ v[2];
  v[3] = rotate(v[3], 21) ^ v[0];
  v[2] = rotate(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
  v[3] ^= word;
  sip_round(v);
  v[0] ^= word;
}

uint64_t cpool__siphash(const uint64_t key[2], const void *data, size_t len)
{
  uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u,
                   key[1] ^ 0x7465646279746573u};
  const unsigned char *at = data;
  size_t left = len;
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    sip_word(v, le64toh(word));
  }
  uint64_t tail = (uint64_t) len << 56; /* the length's low byte, above the 0 to 7 bytes left */
  while (left > 0) {
    left--;
    tail |= (uint64_t) at[left] << (8 * left);
  }
  sip_word(v, tail);
  v[2] ^= 0xff;
  sip_round(v);
  sip_round(v);
  sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- the table ---- */

static void secret_key(const struct cpool__table *table, uint64_t key[2])
{
  size_t size = 2 * sizeof key[0];
  ssize_t got;
  do
    got = getrandom(key, size, 0);
  while (got < 0 && errno == EINTR);
  if (got == (ssize_t) size)
    return;

  /* A sandbox may forbid the call: the kernel's 16 random bytes of this process are secret as well. Address and time
   * keep two tables apart. */
  struct timespec now = {0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  key[0] = key[1] = 0;
  const void *kernel_bytes = (const void *) getauxval(AT_RANDOM);
  if (kernel_bytes != NULL)
    memcpy(key, kernel_bytes, size);
  const uint64_t salt[3] = {(uint64_t) now.tv_sec, (uint64_t) now.tv_nsec, (uint64_t) (uintptr_t) table};
  uint64_t first = cpool__siphash(key, salt, sizeof salt);
  key[1] ^= first;
  key[0] ^= cpool__siphash(key, salt, sizeof salt);
}

void cpool__table_init(struct cpool__table *table, cpool__table_equal_fn *equal)
{
  *table = (struct cpool__table){.equal = equal};
  secret_key(table, table->key);
}

void cpool__table_fini(struct cpool__table *table)
{
  cpool__free(table->old_buckets);
  cpool__free(table->buckets);
  table->old_buckets = table->buckets = NULL;
  table->mask = table->old_mask = table->moved = table->count = 0;
}

/* The one chain that entries of this hash live in. */
static inline struct cpool__table_entry **chain_of(const struct cpool__table *table, uint64_t hash)
{
  if (table->old_buckets != NULL && ((size_t) hash & table->old_mask) + table->moved <= table->old_mask)
    return &table->old_buckets[(size_t) hash & table->old_mask];
  return &table->buckets[(size_t) hash & table->mask];
}

static void move_some(struct cpool__table *table)
{
  for (int i = 0; i < MOVES && table->moved <= table->old_mask; i++) {
    struct cpool__table_entry *entry = table->old_buckets[table->old_mask - table->moved];
    table->moved++;
    while (entry != NULL) {
      struct cpool__table_entry *next = entry->next;
      struct cpool__table_entry **to = &table->buckets[(size_t) entry->hash & table->mask];
      entry->next = *to;
      *to = entry;
      entry = next;
    }
  }
  if (table->moved > table->old_mask) {
    cpool__free(table->old_buckets);
    table->old_buckets = NULL;
    table->old_mask = table->moved = 0;
  } else if (table->moved % GIVE_BACK == 0) {
    size_t left = table->old_mask + 1 - table->moved;
    struct cpool__table_entry **smaller =
        cpool__realloc(table->old_buckets, left * sizeof(struct cpool__table_entry *));
    if (smaller != NULL)
      table->old_buckets = smaller;
  }
}

/* Makes the first array, or starts a doubling. Without memory nothing changes. */
static void grow(struct cpool__table *table)
{
  size_t bucket_count = table->buckets == NULL ? FIRST_BUCKETS : 2 * (table->mask + 1);
  struct cpool__table_entry **buckets = cpool__calloc(bucket_count, sizeof(struct cpool__table_entry *));
  if (buckets == NULL)
    return;
  table->old_buckets = table->buckets;
  table->old_mask = table->mask;
  table->moved = 0;
  table->buckets = buckets;
  table->mask = bucket_count - 1;
}

struct cpool__table_entry *cpool__table_find(struct cpool__table *table, const void *key, size_t len)
{
  if (table->count == 0)
    return NULL;
  uint64_t hash = cpool__siphash(table->key, key, len);
  struct cpool__table_entry *entry = *chain_of(table, hash);
  while (entry != NULL && (entry->hash != hash || !table->equal(entry, key, len)))
    entry = entry->next;
  return entry;
}

int cpool__table_insert(struct cpool__table *table, struct cpool__table_entry *entry, const void *key, size_t len)
{
  if (table->old_buckets != NULL)
    move_some(table);
  else if (table->buckets == NULL || table->count > table->mask)
    grow(table);
  if (table->buckets == NULL)
    return -1;

  entry->hash = cpool__siphash(table->key, key, len);
  struct cpool__table_entry **chain = chain_of(table, entry->hash);
  entry->next = *chain;
  *chain = entry;
  table->count++;
  return 0;
}

void cpool__table_remove(struct cpool__table *table, struct cpool__table_entry *entry)
{
  assert(table->count > 0);
  struct cpool__table_entry **at = chain_of(table, entry->hash);
  while (*at != entry) {
    assert(*at != NULL && "the entry is not in this table");
    at = &(*at)->next;
  }
  *at = entry->next;
  entry->next = NULL;
  table->count--;
}

static struct cpool__table_entry *first_from(struct cpool__table_entry **buckets, size_t from, size_t mask)
{
  for (size_t i = from; i <= mask; i++)
    if (buckets[i] != NULL)
      return buckets[i];
  return NULL;
}

struct cpool__table_entry *cpool__table_next(struct cpool__table *table, struct cpool__table_entry *after)
{
  if (table->count == 0)
    return NULL;
  if (after != NULL && after->next != NULL)
    return after->next;

  /* The order: what the old array still holds, then the new array. */
  size_t new_from = 0;
  bool in_old = table->old_buckets != NULL;
  size_t old_from = 0;
  if (after != NULL) {
    size_t old_at = (size_t) after->hash & table->old_mask;
    if (in_old && old_at + table->moved <= table->old_mask) {
      old_from = old_at + 1;
    } else {
      in_old = false;
      new_from = ((size_t) after->hash & table->mask) + 1;
    }
  }
  struct cpool__table_entry *entry =
      in_old ? first_from(table->old_buckets, old_from, table->old_mask - table->moved) : NULL;
  return entry != NULL ? entry : first_from(table->buckets, new_from, table->mask);
}
