/* http_stats: a sequence lock over the words of the struct: the writer never waits, a reader may have to read again
 *
 * The order comes from the words themselves, without fences: a word that is read with acquire and holds a value of a
 * newer snapshot makes the odd sequence before it visible, so that the second look at the sequence cannot miss it.
 * On x86 all of these are plain moves. */
#include "http/http_stats.h"

#include <assert.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>

enum { TRIES = 64 }; /* then the writer was put aside by the scheduler */

static_assert(offsetof(cpool_http_stats, total_connections) == sizeof(size_t), "words follow the size");
static_assert(sizeof(cpool_http_stats) == sizeof(size_t) + CPOOL__HTTP_STATS_WORDS * sizeof(uint64_t),
              "nothing but words");
static_assert(sizeof(int64_t) == sizeof(uint64_t) && sizeof(uint64_t) == 8, "gauges and counters are words alike");

void cpool__http_stats_publish(struct cpool__http_stats *stats)
{
  uint64_t words[CPOOL__HTTP_STATS_WORDS];
  memcpy(words, (const char *) &stats->now + offsetof(cpool_http_stats, total_connections), sizeof words);
  uint32_t sequence = atomic_load_explicit(&stats->sequence, memory_order_relaxed);
  atomic_store_explicit(&stats->sequence, sequence + 1, memory_order_relaxed);
  for (int i = 0; i < CPOOL__HTTP_STATS_WORDS; i++)
    atomic_store_explicit(&stats->words[i], words[i], memory_order_release);
  atomic_store_explicit(&stats->sequence, sequence + 2, memory_order_release);
}

void cpool__http_stats_read(struct cpool__http_stats *stats, cpool_http_stats *out)
{
  uint64_t words[CPOOL__HTTP_STATS_WORDS];
  for (int tries = 1;; tries++) {
    uint32_t before = atomic_load_explicit(&stats->sequence, memory_order_acquire);
    for (int i = 0; i < CPOOL__HTTP_STATS_WORDS; i++)
      words[i] = atomic_load_explicit(&stats->words[i], memory_order_acquire);
    if ((before & 1) == 0 && atomic_load_explicit(&stats->sequence, memory_order_relaxed) == before)
      break;
    if (tries % TRIES == 0)
      sched_yield();
  }
  out->size = sizeof *out;
  memcpy((char *) out + offsetof(cpool_http_stats, total_connections), words, sizeof words);
}
