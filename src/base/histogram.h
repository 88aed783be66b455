/* histogram: log-linear counts of microseconds, written by one thread, read by any (relaxed atomics, no lock) */
#ifndef CPOOL_BASE_HISTOGRAM_H
#define CPOOL_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

/* 16 steps per power of two (error <= 1/16), from 1 us to 2^32 us (about 71 minutes); above: the last bucket. */
enum { CPOOL__HISTOGRAM_BUCKETS = 16 + 28 * 16 };

struct cpool__histogram {
  _Atomic uint64_t count, sum_us, max_us;
  _Atomic uint64_t buckets[CPOOL__HISTOGRAM_BUCKETS];
};

/* Writer thread only. Negative values count as 0. */
void cpool__histogram_record(struct cpool__histogram *histogram, int64_t us);
/* Any thread. The value below or at which `ratio` (0..1) of the recorded values lie: the upper bound of its bucket,
 * never more than the recorded maximum, which also stands for the last bucket; 0 when empty. */
uint64_t cpool__histogram_percentile(const struct cpool__histogram *histogram, double ratio);

#endif
