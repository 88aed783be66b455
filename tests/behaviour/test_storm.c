/* storm: whatever many threads do to pools at once, each accepted request ends once, limits hold, and nothing is left behind
 *
 * The seed of a run is printed; STORM_SEED or the first argument repeats its choices, though not the order of its threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/storm.h"

enum { REQUESTS = 30000, LOAD_MS = 12000 };

static const char *seed_text;

static void each_request_ends_once_and_nothing_is_left(void **state)
{
  (void) state;
  struct storm_options options = {.seed = storm_seed(seed_text), .requests = REQUESTS, .deadline_ms = LOAD_MS};
  struct storm_result result;
  printf("storm: seed %llu\n", (unsigned long long) options.seed);
  fflush(stdout);
  storm_run(&options, &result);
  storm_print(&result);
  assert_int_equal(result.lost, 0);
  assert_int_equal(result.doubled, 0);
  assert_int_equal(result.wrong, 0);
  assert_int_equal(result.miscounted, 0);
  assert_int_equal(result.limits, 0);
  assert_int_equal(result.closes, 0);
  assert_true(storm_clean(&result));
  assert_true(result.succeeded > result.accepted / 10); /* it was not all errors */
  assert_true(result.failed > result.accepted / 100);
  assert_true(result.streams > result.accepted / 100);
  assert_true(result.cancels > 0 && result.reconfigures > 0 && result.sessions > 0 && result.snapshots > 0);
}

int main(int argc, char **argv)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(each_request_ends_once_and_nothing_is_left)};
  seed_text = argc > 1 ? argv[1] : getenv("STORM_SEED");
  return cmocka_run_group_tests(tests, NULL, NULL);
}
