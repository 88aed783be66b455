/* table: an intrusive hash table under a secret key (SipHash-1-3), so that no peer or caller can choose collisions;
 * it grows a few buckets per insertion, so that no insertion stalls the loop */
#ifndef CPOOL_BASE_TABLE_H
#define CPOOL_BASE_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct cpool__table_entry {
  struct cpool__table_entry *next;
  uint64_t hash;
};

/* True when the entry is the one that `key` (of `len` bytes) names. */
typedef int cpool__table_equal_fn(const struct cpool__table_entry *entry, const void *key, size_t len);

struct cpool__table {
  struct cpool__table_entry **buckets, **old_buckets; /* old: the smaller array still being emptied */
  size_t mask, old_mask, moved, count;
  uint64_t key[2];
  cpool__table_equal_fn *equal;
};

/* The key comes from getrandom(2). No memory is taken before the first insertion. */
void cpool__table_init(struct cpool__table *table, cpool__table_equal_fn *equal);
/* Frees the buckets, not the entries. */
void cpool__table_fini(struct cpool__table *table);
struct cpool__table_entry *cpool__table_find(struct cpool__table *table, const void *key, size_t len);
/* Inserts without looking for an equal one; the bytes of the key are not kept. 0, or -1 when memory is short at the
 * very first insertion; a later growth that fails is put off and the chains grow longer instead. */
int cpool__table_insert(struct cpool__table *table, struct cpool__table_entry *entry, const void *key, size_t len);
void cpool__table_remove(struct cpool__table *table, struct cpool__table_entry *entry);
/* Walks all entries in no order: start with NULL, ends with NULL; a whole walk costs O(entries + buckets). A removal
 * leaves the walk intact as long as the removed entry is not passed as `after`: to empty a table, ask for the next one,
 * then remove the one before it (starting over after each removal is quadratic). After an insertion only a new walk is
 * sure to meet each entry once. */
struct cpool__table_entry *cpool__table_next(struct cpool__table *table, struct cpool__table_entry *after);
/* SipHash-1-3; the key's words are little-endian, as in the paper. */
uint64_t cpool__siphash(const uint64_t key[2], const void *data, size_t len);

#endif
