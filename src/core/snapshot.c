/* snapshot: a sequence lock over words
 *
 * The order comes from the words themselves, without fences: a word that is read with acquire and holds a value of a
 * newer snapshot makes the odd sequence before it visible, so that the second look at the sequence cannot miss it. */
#include "core/snapshot.h"

#include <sched.h>
#include <string.h>

enum { TRIES = 64 }; /* then the writer was put aside by the scheduler */

void cpool__snapshot_write(_Atomic uint32_t *sequence, _Atomic uint64_t *words, const void *from, int count)
{
  uint32_t before = atomic_load_explicit(sequence, memory_order_relaxed);
  atomic_store_explicit(sequence, before + 1, memory_order_relaxed);
  for (int i = 0; i < count; i++) {
    uint64_t word;
    memcpy(&word, (const char *) from + (size_t) i * sizeof word, sizeof word);
    atomic_store_explicit(&words[i], word, memory_order_release);
  }
  atomic_store_explicit(sequence, before + 2, memory_order_release);
}

void cpool__snapshot_read(_Atomic uint32_t *sequence, _Atomic uint64_t *words, void *to, int count)
{
  for (int tries = 1;; tries++) {
    uint32_t before = atomic_load_explicit(sequence, memory_order_acquire);
    for (int i = 0; i < count; i++) {
      uint64_t word = atomic_load_explicit(&words[i], memory_order_acquire);
      memcpy((char *) to + (size_t) i * sizeof word, &word, sizeof word);
    }
    if ((before & 1) == 0 && atomic_load_explicit(sequence, memory_order_relaxed) == before)
      return;
    if (tries % TRIES == 0)
      sched_yield();
  }
}
