/* http_stats: plain counters on the loop thread, published once per turn for readers on any thread */
#ifndef CPOOL_HTTP_HTTP_STATS_H
#define CPOOL_HTTP_HTTP_STATS_H

#include <stdatomic.h>
#include <cpool.h>

#include "base/histogram.h"

enum { CPOOL__HTTP_STATS_WORDS = (sizeof(cpool_http_stats) - sizeof(size_t)) / sizeof(uint64_t) };

struct cpool__http_stats {
  cpool_http_stats now;      /* loop thread: the counters themselves; gauges are filled at publication */
  _Atomic uint32_t sequence; /* odd while a snapshot is being written */
  _Atomic uint64_t words[CPOOL__HTTP_STATS_WORDS];
  struct cpool__histogram phases[CPOOL_PHASES];
};

/* Loop thread: copies `now` into the snapshot. */
void cpool__http_stats_publish(struct cpool__http_stats *stats);
/* Any thread: a consistent copy; zeros before the first publication. */
void cpool__http_stats_read(struct cpool__http_stats *stats, cpool_http_stats *out);

#endif
