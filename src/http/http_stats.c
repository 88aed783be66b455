/* http_stats: plain counters on the loop thread, published once per turn for readers on any thread */
#include "http/http_stats.h"

#include <assert.h>
#include <stddef.h>

#include "core/snapshot.h"

static_assert(offsetof(cpool_http_stats, total_connections) == sizeof(size_t), "words follow the size");
static_assert(sizeof(cpool_http_stats) == sizeof(size_t) + CPOOL__HTTP_STATS_WORDS * sizeof(uint64_t),
              "nothing but words");
static_assert(sizeof(int64_t) == sizeof(uint64_t) && sizeof(uint64_t) == 8, "gauges and counters are words alike");

void cpool__http_stats_publish(struct cpool__http_stats *stats)
{
  cpool__snapshot_write(&stats->sequence, stats->words, &stats->now.total_connections, CPOOL__HTTP_STATS_WORDS);
}

void cpool__http_stats_read(struct cpool__http_stats *stats, cpool_http_stats *out)
{
  out->size = sizeof *out;
  cpool__snapshot_read(&stats->sequence, stats->words, &out->total_connections, CPOOL__HTTP_STATS_WORDS);
}
