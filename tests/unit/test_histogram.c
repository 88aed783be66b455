/* test_histogram: bounds of the error, the ends of the range, and a reader beside the writer */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/histogram.h"

static int setup(void **state)
{
  static struct cpool__histogram histogram;
  memset(&histogram, 0, sizeof histogram);
  *state = &histogram;
  return 0;
}

static void an_empty_one_answers_zero(void **state)
{
  struct cpool__histogram *histogram = *state;
  assert_int_equal(cpool__histogram_percentile(histogram, 0), 0);
  assert_int_equal(cpool__histogram_percentile(histogram, 1), 0);
}

static void counts_sum_and_maximum_are_exact(void **state)
{
  struct cpool__histogram *histogram = *state;
  cpool__histogram_record(histogram, 7);
  cpool__histogram_record(histogram, 123456);
  cpool__histogram_record(histogram, 1);
  cpool__histogram_record(histogram, -5);
  assert_int_equal(histogram->count, 4);
  assert_int_equal(histogram->sum_us, 7 + 123456 + 1);
  assert_int_equal(histogram->max_us, 123456);
  assert_int_equal(histogram->buckets[0], 1);
}

/* Two values, so that the maximum does not hide the bound of the first one's bucket. */
static void every_bound_is_within_a_sixteenth(void **state)
{
  struct cpool__histogram *histogram = *state;
  for (uint64_t value = 0; value < UINT64_C(1) << 32; value += value / 37 + 1) {
    memset(histogram, 0, sizeof *histogram);
    cpool__histogram_record(histogram, (int64_t) value);
    cpool__histogram_record(histogram, INT64_C(1) << 40);
    uint64_t bound = cpool__histogram_percentile(histogram, 0.5);
    if (value >= UINT64_C(31) << 27) /* the last bucket is open above */
      assert_int_equal(bound, UINT64_C(1) << 40);
    else
      assert_in_range(bound, value, value + value / 16);
  }
}

static void buckets_never_overlap_and_leave_no_gap(void **state)
{
  struct cpool__histogram *histogram = *state;
  uint64_t value = 0;
  int buckets = 1;
  for (;;) {
    memset(histogram, 0, sizeof *histogram);
    cpool__histogram_record(histogram, (int64_t) value);
    cpool__histogram_record(histogram, INT64_MAX);
    uint64_t bound = cpool__histogram_percentile(histogram, 0.5);
    if (bound == INT64_MAX)
      break;
    assert_true(bound >= value);
    memset(histogram, 0, sizeof *histogram);
    cpool__histogram_record(histogram, (int64_t) bound);
    cpool__histogram_record(histogram, INT64_MAX);
    assert_int_equal(cpool__histogram_percentile(histogram, 0.5), bound);
    value = bound + 1;
    buckets++;
  }
  assert_int_equal(buckets, CPOOL__HISTOGRAM_BUCKETS);
  assert_int_equal(value, UINT64_C(31) << 27);
}

static void values_beyond_the_range_land_in_the_last_bucket(void **state)
{
  struct cpool__histogram *histogram = *state;
  cpool__histogram_record(histogram, (INT64_C(1) << 32) - 1);
  cpool__histogram_record(histogram, INT64_C(1) << 32);
  cpool__histogram_record(histogram, INT64_MAX);
  assert_int_equal(histogram->buckets[CPOOL__HISTOGRAM_BUCKETS - 1], 3);
  assert_int_equal(cpool__histogram_percentile(histogram, 0.1), INT64_MAX);
}

static void percentiles_of_a_known_series(void **state)
{
  struct cpool__histogram *histogram = *state;
  for (int64_t us = 1; us <= 10000; us++)
    cpool__histogram_record(histogram, us);
  const double ratios[] = {0.01, 0.25, 0.5, 0.9, 0.99, 0.999};
  for (size_t i = 0; i < sizeof ratios / sizeof ratios[0]; i++) {
    uint64_t exact = (uint64_t) (ratios[i] * 10000);
    assert_in_range(cpool__histogram_percentile(histogram, ratios[i]), exact, exact + exact / 16);
  }
  assert_int_equal(cpool__histogram_percentile(histogram, 1), 10000);
  assert_int_equal(cpool__histogram_percentile(histogram, 0), 1);
  assert_int_equal(cpool__histogram_percentile(histogram, -3), 1);
  assert_int_equal(cpool__histogram_percentile(histogram, 17), 10000);
}

static void small_values_are_exact_and_ranks_round_up(void **state)
{
  struct cpool__histogram *histogram = *state;
  for (int64_t us = 1; us <= 4; us++)
    cpool__histogram_record(histogram, us);
  assert_int_equal(cpool__histogram_percentile(histogram, 0.25), 1);
  assert_int_equal(cpool__histogram_percentile(histogram, 0.26), 2);
  assert_int_equal(cpool__histogram_percentile(histogram, 0.5), 2);
  assert_int_equal(cpool__histogram_percentile(histogram, 0.75), 3);
  assert_int_equal(cpool__histogram_percentile(histogram, 0.76), 4);
}

enum { RECORDS = 200000 };

static void *write_all(void *arg)
{
  struct cpool__histogram *histogram = arg;
  for (int64_t i = 0; i < RECORDS; i++)
    cpool__histogram_record(histogram, 1000 + i % 1000);
  return NULL;
}

static void a_reader_beside_the_writer_sees_sane_values(void **state)
{
  struct cpool__histogram *histogram = *state;
  pthread_t writer;
  assert_int_equal(pthread_create(&writer, NULL, write_all, histogram), 0);
  uint64_t count = 0, worst = 0;
  int shrunk = 0;
  while (count < RECORDS) {
    uint64_t now = atomic_load_explicit(&histogram->count, memory_order_relaxed);
    shrunk += now < count;
    count = now;
    uint64_t p99 = cpool__histogram_percentile(histogram, 0.99);
    worst = p99 > worst ? p99 : worst;
  }
  pthread_join(writer, NULL);
  assert_int_equal(shrunk, 0);
  assert_in_range(worst, 1900, 1999);
  assert_int_equal(cpool__histogram_percentile(histogram, 1), 1999);
  assert_int_equal(histogram->count, RECORDS);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(an_empty_one_answers_zero, setup),
      cmocka_unit_test_setup(counts_sum_and_maximum_are_exact, setup),
      cmocka_unit_test_setup(every_bound_is_within_a_sixteenth, setup),
      cmocka_unit_test_setup(buckets_never_overlap_and_leave_no_gap, setup),
      cmocka_unit_test_setup(values_beyond_the_range_land_in_the_last_bucket, setup),
      cmocka_unit_test_setup(percentiles_of_a_known_series, setup),
      cmocka_unit_test_setup(small_values_are_exact_and_ranks_round_up, setup),
      cmocka_unit_test_setup(a_reader_beside_the_writer_sees_sane_values, setup),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
