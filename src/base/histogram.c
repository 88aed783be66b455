/* histogram: the value's power of two picks a row of 16 buckets, its next four bits the bucket in the row
 *
 * Values below 16 have a bucket each. One writer, so an increment is a relaxed load and a relaxed store: no locked
 * instruction. A reader sees each number whole, and none ever shrink, but not all of one moment. */
#include "base/histogram.h"

#include <assert.h>
#include <stddef.h>

enum {
  STEP_BITS = 4,
  STEPS = 1 << STEP_BITS,
  ROWS = 28, /* powers 4..31 */
  LAST = CPOOL__HISTOGRAM_BUCKETS - 1
};

static_assert(CPOOL__HISTOGRAM_BUCKETS == STEPS + ROWS * STEPS, "the bucket array and its layout disagree");

static size_t bucket_of(uint64_t us)
{
  if (us < STEPS)
    return (size_t) us;
  unsigned power = 63u - (unsigned) __builtin_clzll(us);
  unsigned shift = power - STEP_BITS;
  if (shift >= ROWS)
    return LAST;
  return STEPS + (size_t) shift * STEPS + (size_t) ((us >> shift) & (STEPS - 1));
}

static uint64_t upper_bound_us(size_t bucket)
{
  if (bucket < STEPS)
    return bucket;
  size_t shift = (bucket - STEPS) / STEPS, step = (bucket - STEPS) % STEPS;
  return ((uint64_t) (STEPS + step + 1) << shift) - 1;
}

static uint64_t get(const _Atomic uint64_t *number)
{
  return atomic_load_explicit(number, memory_order_relaxed);
}

static void add(_Atomic uint64_t *number, uint64_t by)
{
  atomic_store_explicit(number, get(number) + by, memory_order_relaxed);
}

void cpool__histogram_record(struct cpool__histogram *histogram, int64_t us)
{
  uint64_t value_us = us < 0 ? 0 : (uint64_t) us;
  if (value_us > get(&histogram->max_us))
    atomic_store_explicit(&histogram->max_us, value_us, memory_order_relaxed);
  add(&histogram->sum_us, value_us);
  add(&histogram->buckets[bucket_of(value_us)], 1);
  add(&histogram->count, 1);
}

uint64_t cpool__histogram_percentile(const struct cpool__histogram *histogram, double ratio)
{
  /* Summed here rather than read from `count`, so that the rank below is always reached. */
  uint64_t total = 0;
  for (size_t i = 0; i < CPOOL__HISTOGRAM_BUCKETS; i++)
    total += get(&histogram->buckets[i]);
  if (total == 0)
    return 0;

  if (!(ratio > 0)) /* NaN too */
    ratio = 0;
  double wanted = (ratio < 1 ? ratio : 1) * (double) total;
  uint64_t rank = (uint64_t) wanted;
  if ((double) rank < wanted)
    rank++;
  if (rank == 0)
    rank = 1;
  if (rank > total) /* a double holds 53 bits of it */
    rank = total;

  size_t bucket = 0;
  for (uint64_t seen = 0; bucket < LAST; bucket++) {
    seen += get(&histogram->buckets[bucket]);
    if (seen >= rank)
      break;
  }
  uint64_t max_us = get(&histogram->max_us);
  if (bucket == LAST) /* open above: only the maximum bounds it */
    return max_us;
  uint64_t bound_us = upper_bound_us(bucket);
  return bound_us < max_us ? bound_us : max_us;
}
