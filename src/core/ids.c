/* ids: a slot's count of takes and gives makes each handle differ from those before it in the same slot
 *
 *   63      56 55        32 31          0
 *   |  loop   |    slot    | generation |     generation is odd, so that no handle is 0; it wraps after 2^31 uses
 *
 * take  pops the stack of free slots, or else claims the next slot that was never used; only a new chunk needs the lock
 * give  counts the slot even, then pushes it: whoever pops it sees all that its last user wrote */
#include "core/ids.h"

#include <assert.h>
#include <stddef.h>
#include <sys/random.h>
#include <time.h>

#include "base/memory.h"

enum { LOOP_SHIFT = 56, SLOT_SHIFT = 32, SLOT_MASK = 0xffffff };

static uint32_t random_even(const struct cpool__ids *ids)
{
  uint32_t value;
  if (getrandom(&value, sizeof value, GRND_NONBLOCK) != (ssize_t) sizeof value) {
    struct timespec now; /* rarely equal is enough */
    clock_gettime(CLOCK_MONOTONIC, &now);
    value = (uint32_t) now.tv_nsec * 2654435761u ^ (uint32_t) ((uintptr_t) ids >> 4);
  }
  return value & ~1u;
}

static uint32_t chunk_of(uint32_t index)
{
  return 31u - (uint32_t) __builtin_clz(index / CPOOL__IDS_CHUNK + 1);
}

static uint32_t chunk_first(uint32_t chunk)
{
  return CPOOL__IDS_CHUNK * ((1u << chunk) - 1);
}

/* NULL: the chunk does not exist. */
static struct cpool__id_slot *slot_at(struct cpool__ids *ids, uint32_t index)
{
  if (index >= CPOOL__IDS_SLOTS)
    return NULL;
  uint32_t chunk = chunk_of(index);
  struct cpool__id_slot *slots = atomic_load_explicit(&ids->chunks[chunk], memory_order_acquire);
  return slots == NULL ? NULL : slots + (index - chunk_first(chunk));
}

/* The slot that the handle names and holds, or NULL. */
static struct cpool__id_slot *slot_of(struct cpool__ids *ids, uint64_t id)
{
  if (id >> LOOP_SHIFT << LOOP_SHIFT != ids->loop)
    return NULL;
  struct cpool__id_slot *slot = slot_at(ids, (uint32_t) (id >> SLOT_SHIFT) & SLOT_MASK);
  uint32_t uses = (uint32_t) id - ids->first_generation;
  if (slot == NULL || uses % 2 == 0 || atomic_load_explicit(&slot->uses, memory_order_acquire) != uses)
    return NULL;
  return slot;
}

void cpool__ids_init(struct cpool__ids *ids, uint32_t loop)
{
  assert(loop < 256);
  ids->loop = (uint64_t) loop << LOOP_SHIFT;
  ids->first_generation = random_even(ids);
  atomic_init(&ids->free_head, 0);
  atomic_init(&ids->slot_count, 0);
  pthread_mutex_init(&ids->grow, NULL);
  for (size_t chunk = 0; chunk < CPOOL__IDS_CHUNKS; chunk++)
    atomic_init(&ids->chunks[chunk], NULL);
}

void cpool__ids_fini(struct cpool__ids *ids)
{
  for (size_t chunk = 0; chunk < CPOOL__IDS_CHUNKS; chunk++)
    cpool__free(atomic_load_explicit(&ids->chunks[chunk], memory_order_relaxed));
  pthread_mutex_destroy(&ids->grow);
}

/* Index + 1 of a slot that is the caller's now; 0: the stack is empty. */
static uint32_t pop_free(struct cpool__ids *ids)
{
  uint64_t head = atomic_load_explicit(&ids->free_head, memory_order_acquire);
  while ((uint32_t) head != 0) {
    /* Another thread may pop this slot meanwhile, and use or push it: then the head is another one, for each push counts
     * up the tag, and the exchange fails. */
    uint32_t next = atomic_load_explicit(&slot_at(ids, (uint32_t) head - 1)->next_free, memory_order_relaxed);
    uint64_t rest = head >> 32 << 32 | next;
    if (atomic_compare_exchange_weak_explicit(&ids->free_head, &head, rest, memory_order_acquire, memory_order_acquire))
      return (uint32_t) head;
  }
  return 0;
}

static void push_free(struct cpool__ids *ids, struct cpool__id_slot *slot, uint32_t index)
{
  uint64_t head = atomic_load_explicit(&ids->free_head, memory_order_relaxed);
  uint64_t fresh;
  do {
    atomic_store_explicit(&slot->next_free, (uint32_t) head, memory_order_relaxed);
    fresh = ((head >> 32) + 1) << 32 | (index + 1);
  } while (!atomic_compare_exchange_weak_explicit(&ids->free_head, &head, fresh, memory_order_release,
                                                  memory_order_relaxed));
}

/* Makes the chunk of `index` unless another thread has. */
static bool grow(struct cpool__ids *ids, uint32_t index)
{
  uint32_t chunk = chunk_of(index);
  pthread_mutex_lock(&ids->grow);
  struct cpool__id_slot *slots = atomic_load_explicit(&ids->chunks[chunk], memory_order_relaxed);
  if (slots == NULL) {
    slots = cpool__calloc((size_t) CPOOL__IDS_CHUNK << chunk, sizeof *slots);
    atomic_store_explicit(&ids->chunks[chunk], slots, memory_order_release);
  }
  pthread_mutex_unlock(&ids->grow);
  return slots != NULL;
}

/* Index + 1 of a slot that was never used; 0: no memory, no slots. */
static uint32_t claim_new(struct cpool__ids *ids)
{
  uint32_t index = atomic_load_explicit(&ids->slot_count, memory_order_relaxed);
  do {
    if (index >= CPOOL__IDS_SLOTS || (slot_at(ids, index) == NULL && !grow(ids, index)))
      return 0;
  } while (!atomic_compare_exchange_weak_explicit(&ids->slot_count, &index, index + 1, memory_order_relaxed,
                                                  memory_order_relaxed));
  return index + 1;
}

uint64_t cpool__ids_take(struct cpool__ids *ids, void *object)
{
  uint32_t taken = pop_free(ids);
  if (taken == 0)
    taken = claim_new(ids);
  if (taken == 0)
    return 0;
  uint32_t index = taken - 1;
  struct cpool__id_slot *slot = slot_at(ids, index);
  uint32_t uses = atomic_load_explicit(&slot->uses, memory_order_relaxed) + 1;
  assert(uses % 2 == 1);
  atomic_store_explicit(&slot->object, object, memory_order_relaxed);
  atomic_store_explicit(&slot->uses, uses, memory_order_release);
  return ids->loop | (uint64_t) index << SLOT_SHIFT | (uint32_t) (ids->first_generation + uses);
}

bool cpool__ids_valid(struct cpool__ids *ids, uint64_t id)
{
  return slot_of(ids, id) != NULL;
}

void *cpool__ids_get(struct cpool__ids *ids, uint64_t id)
{
  struct cpool__id_slot *slot = slot_of(ids, id);
  return slot == NULL ? NULL : atomic_load_explicit(&slot->object, memory_order_relaxed);
}

void *cpool__ids_next(struct cpool__ids *ids, uint32_t *index)
{
  uint32_t count = atomic_load_explicit(&ids->slot_count, memory_order_relaxed);
  while (*index < count) {
    struct cpool__id_slot *slot = slot_at(ids, (*index)++);
    if (slot != NULL && atomic_load_explicit(&slot->uses, memory_order_acquire) % 2 == 1)
      return atomic_load_explicit(&slot->object, memory_order_relaxed);
  }
  return NULL;
}

void cpool__ids_give(struct cpool__ids *ids, uint64_t id)
{
  struct cpool__id_slot *slot = slot_of(ids, id);
  assert(slot != NULL);
  if (slot == NULL)
    return;
  atomic_store_explicit(&slot->object, NULL, memory_order_relaxed);
  atomic_fetch_add_explicit(&slot->uses, 1, memory_order_release);
  push_free(ids, slot, (uint32_t) (id >> SLOT_SHIFT) & SLOT_MASK);
}
