/* ids: 64-bit handles, loop | slot | generation: taken and checked on any thread, stale ones never match */
#ifndef CPOOL_CORE_IDS_H
#define CPOOL_CORE_IDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <pthread.h>

/* Chunk c holds CPOOL__IDS_CHUNK << c slots, so that a few chunks reach almost 2^24 slots and a small table stays
 * small. */
enum {
  CPOOL__IDS_CHUNK = 1024,
  CPOOL__IDS_CHUNKS = 14,
  CPOOL__IDS_SLOTS = CPOOL__IDS_CHUNK * ((1 << CPOOL__IDS_CHUNKS) - 1)
};

struct cpool__id_slot {
  _Atomic uint32_t uses;      /* takes and gives so far: odd while taken. generation = first_generation + uses */
  _Atomic uint32_t next_free; /* index + 1 of the next free slot; 0: none */
  _Atomic(void *) object;
};

/* Chunks are added under the lock and never freed before fini, so that any thread may look at any slot. Free slots
 * form a lock-free stack whose head carries a tag against ABA. */
struct cpool__ids {
  uint64_t loop;               /* shifted into place */
  uint32_t first_generation;   /* random, even: handles of two tables rarely match */
  _Atomic uint64_t free_head;  /* tag (32) | index + 1 (32) */
  _Atomic uint32_t slot_count; /* slots that were ever taken */
  pthread_mutex_t grow;
  _Atomic(struct cpool__id_slot *) chunks[CPOOL__IDS_CHUNKS];
};

/* loop: below 256. */
void cpool__ids_init(struct cpool__ids *ids, uint32_t loop);
void cpool__ids_fini(struct cpool__ids *ids);
/* Any thread. 0: out of memory or of slots. */
uint64_t cpool__ids_take(struct cpool__ids *ids, void *object);
/* Any thread: whether the handle is taken at this moment. */
bool cpool__ids_valid(struct cpool__ids *ids, uint64_t id);
/* Loop thread: its object, or NULL when stale. */
void *cpool__ids_get(struct cpool__ids *ids, uint64_t id);
/* Loop thread: the object of the next handle taken at or behind slot *index, which is left behind it; NULL: none. */
void *cpool__ids_next(struct cpool__ids *ids, uint32_t *index);
/* Loop thread, or the taker before it published the handle: frees a handle that is valid. */
void cpool__ids_give(struct cpool__ids *ids, uint64_t id);

#endif
