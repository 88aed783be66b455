/* redial: delays double within their bounds and are drawn from all of them; codes, statuses and counts that stop it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <cpool.h>

#include "ws/redial.h"

static struct cpool__redial standard(void)
{
  return (struct cpool__redial){.base_ms = 1000, .most_ms = 60000, .stable_ms = 30000, .max_attempts = CPOOL_OFF};
}

/* The most that may be drawn next. */
static int64_t most(struct cpool__redial *redial, int64_t open_ms)
{
  struct cpool__redial copy = *redial;
  int64_t high = 0;
  for (uint64_t chance = 0; chance < 200000; chance += 1) {
    struct cpool__redial again = copy;
    int64_t delay = cpool__redial_next(&again, open_ms, 0, chance);
    if (delay > high)
      high = delay;
    assert_true(delay >= 0);
  }
  (void) cpool__redial_next(redial, open_ms, 0, 0);
  return high;
}

static void the_delay_doubles_up_to_its_most(void **state)
{
  (void) state;
  static const int64_t wanted[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
  struct cpool__redial redial = standard();
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
    assert_int_equal(most(&redial, -1), wanted[i]);
  for (int i = 0; i < 1000; i++)
    assert_in_range(cpool__redial_next(&redial, -1, 0, UINT64_MAX - (uint64_t) i), 0, 60000);
}

static void a_stable_connection_begins_anew_a_short_one_does_not(void **state)
{
  (void) state;
  struct cpool__redial redial = standard();
  assert_int_equal(most(&redial, -1), 1000);
  assert_int_equal(most(&redial, -1), 2000);
  assert_int_equal(most(&redial, 29999), 4000);
  assert_int_equal(most(&redial, 30000), 1000);
  assert_int_equal(most(&redial, 0), 2000);
}

static void what_the_server_asks_for_comes_on_top(void **state)
{
  (void) state;
  struct cpool__redial redial = standard();
  for (uint64_t chance = 0; chance < 5000; chance++)
    assert_true(cpool__redial_next(&redial, 40000, 5000, chance) >= 5000);
  assert_in_range(cpool__redial_next(&redial, 40000, INT64_MAX / 2, 7), 86400000, 86401000);
}

static void attempts_are_counted_in_a_row(void **state)
{
  (void) state;
  struct cpool__redial redial = standard();
  redial.max_attempts = 2;
  assert_true(cpool__redial_again(&redial, false));
  (void) cpool__redial_next(&redial, -1, 0, 0);
  assert_false(cpool__redial_again(&redial, false));
  assert_true(cpool__redial_again(&redial, true));
  (void) cpool__redial_next(&redial, 10, 0, 0); /* it was open */
  assert_true(cpool__redial_again(&redial, false));
  redial.base_ms = CPOOL_OFF;
  assert_false(cpool__redial_again(&redial, true));
}

static void stop_codes_are_read(void **state)
{
  (void) state;
  static const char *const wrong[] = {"x",         "1000-",     "-1000",       "999",   "5000",       "1000,,x",
                                      "2000-1000", "1000 1x01", "1000-4999-1", "1000;", "99999999999"};
  struct cpool__redial redial = standard();
  assert_int_equal(cpool__redial_stops(&redial, "1000, 4000-4999 ,1008"), CPOOL_OK);
  assert_int_equal(redial.stop_count, 3);
  assert_true(cpool__redial_stops_at(&redial, 1000) && cpool__redial_stops_at(&redial, 4999));
  assert_true(cpool__redial_stops_at(&redial, 1008));
  assert_false(cpool__redial_stops_at(&redial, 1001) || cpool__redial_stops_at(&redial, 3999));
  assert_int_equal(cpool__redial_stops(&redial, ""), CPOOL_OK);
  assert_int_equal(redial.stop_count, 0);
  assert_int_equal(cpool__redial_stops(&redial, NULL), CPOOL_OK);
  assert_true(cpool__redial_stops_at(&redial, 1000) && cpool__redial_stops_at(&redial, 1009));
  assert_false(cpool__redial_stops_at(&redial, 1001) || cpool__redial_stops_at(&redial, 1006));
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    assert_int_equal(cpool__redial_stops(&redial, wrong[i]), CPOOL_EINVAL);
  assert_int_equal(cpool__redial_stops(&redial, "1000,1001,1002,1003,1004,1005,1006,1007,1008,1009,1010,1011,1012,1013,"
                                                "1014,1015,1016"),
                   CPOOL_EINVAL);
}

static void statuses_that_may_pass_are_no_refusal(void **state)
{
  (void) state;
  static const int refused[] = {300, 302, 400, 401, 403, 404, 426}, passing[] = {0, 200, 408, 425, 429, 500, 503};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
    assert_true(cpool__redial_refused(refused[i]));
  for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
    assert_false(cpool__redial_refused(passing[i]));
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_delay_doubles_up_to_its_most),
                                     cmocka_unit_test(a_stable_connection_begins_anew_a_short_one_does_not),
                                     cmocka_unit_test(what_the_server_asks_for_comes_on_top),
                                     cmocka_unit_test(attempts_are_counted_in_a_row),
                                     cmocka_unit_test(stop_codes_are_read),
                                     cmocka_unit_test(statuses_that_may_pass_are_no_refusal)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
