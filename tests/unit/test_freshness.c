/* test_freshness: when an answer is asked for again, and for how long it may stand in; the clock is only a number */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dns/freshness.h"

enum { TTL_MS = 60000, STALE_MS = 600000 };

static uint64_t next_random(uint64_t *random)
{
  *random ^= *random >> 12;
  *random ^= *random << 25;
  *random ^= *random >> 27;
  return *random * UINT64_C(0x2545F4914F6CDD1D);
}

static void states_follow_the_time(void **state)
{
  (void) state;
  struct cpool__freshness fresh = {0};
  cpool__freshness_answered(&fresh, 1000, TTL_MS, 7);
  assert_int_equal(cpool__freshness_at(&fresh, 1000, STALE_MS), CPOOL__FRESH);
  assert_int_equal(cpool__freshness_at(&fresh, 1000 + TTL_MS - 1, STALE_MS), CPOOL__FRESH);
  assert_int_equal(cpool__freshness_at(&fresh, 1000 + TTL_MS, STALE_MS), CPOOL__STALE);
  assert_int_equal(cpool__freshness_at(&fresh, 1000 + TTL_MS + STALE_MS - 1, STALE_MS), CPOOL__STALE);
  assert_int_equal(cpool__freshness_at(&fresh, 1000 + TTL_MS + STALE_MS, STALE_MS), CPOOL__OVER);
  assert_int_equal(cpool__freshness_at(&fresh, 1000 + TTL_MS, 0), CPOOL__OVER);
  assert_int_equal(cpool__freshness_at(&fresh, 1000 + TTL_MS, -1), CPOOL__OVER);
}

static void asked_again_at_four_fifths_spread_over_a_tenth(void **state)
{
  (void) state;
  uint64_t random = 42, least = UINT64_MAX, most = 0;
  for (int i = 0; i < 10000; i++) {
    struct cpool__freshness fresh = {0};
    cpool__freshness_answered(&fresh, 0, TTL_MS, next_random(&random));
    least = fresh.ask_ms < least ? fresh.ask_ms : least;
    most = fresh.ask_ms > most ? fresh.ask_ms : most;
    assert_false(cpool__freshness_due(&fresh, fresh.ask_ms - 1));
    assert_true(cpool__freshness_due(&fresh, fresh.ask_ms));
  }
  assert_in_range(least, TTL_MS / 4 * 3, TTL_MS / 100 * 76);
  assert_in_range(most, TTL_MS / 100 * 84, TTL_MS / 100 * 85);
}

static void short_lives_are_not_asked_for_ahead(void **state)
{
  (void) state;
  struct cpool__freshness fresh = {0};
  cpool__freshness_answered(&fresh, 0, CPOOL__FRESHNESS_AHEAD_MS - 1, 99);
  assert_int_equal(fresh.ask_ms, fresh.expires_ms);
  cpool__freshness_answered(&fresh, 0, CPOOL__FRESHNESS_AHEAD_MS, 99);
  assert_true(fresh.ask_ms < fresh.expires_ms);
}

static void tries_become_rarer_up_to_a_bound(void **state)
{
  (void) state;
  static const uint64_t waits_s[] = {1, 2, 4, 8, 16, 30, 30, 30};
  struct cpool__freshness fresh = {0};
  uint64_t now = TTL_MS;
  cpool__freshness_answered(&fresh, 0, TTL_MS, 0);
  for (unsigned i = 0; i < sizeof waits_s / sizeof *waits_s; i++) {
    cpool__freshness_failed(&fresh, now);
    assert_int_equal(fresh.ask_ms - now, waits_s[i] * 1000);
    now = fresh.ask_ms;
  }
  cpool__freshness_answered(&fresh, now, TTL_MS, 0);
  cpool__freshness_failed(&fresh, now);
  assert_int_equal(fresh.ask_ms - now, 1000);
}

static void ten_minutes_of_outage_cost_two_dozen_tries(void **state)
{
  (void) state;
  struct cpool__freshness fresh = {0};
  int tries = 0;
  cpool__freshness_answered(&fresh, 0, TTL_MS, 3);
  for (uint64_t now = 0; now < TTL_MS + 600000; now += 10) {
    assert_int_not_equal(cpool__freshness_at(&fresh, now, 3600000), CPOOL__OVER);
    if (!cpool__freshness_due(&fresh, now))
      continue;
    cpool__freshness_failed(&fresh, now);
    tries++;
  }
  assert_in_range(tries, 20, 28);
}

static void failing_is_forgotten_when_nobody_tries(void **state)
{
  (void) state;
  struct cpool__freshness fresh = {0};
  cpool__freshness_answered(&fresh, 0, TTL_MS, 0);
  assert_false(cpool__freshness_failing(&fresh, TTL_MS));
  cpool__freshness_failed(&fresh, TTL_MS);
  assert_true(cpool__freshness_failing(&fresh, TTL_MS + 1));
  assert_true(cpool__freshness_failing(&fresh, TTL_MS + 30999));
  assert_false(cpool__freshness_failing(&fresh, TTL_MS + 31000));
}

static void far_times_do_not_wrap(void **state)
{
  (void) state;
  struct cpool__freshness fresh = {0};
  cpool__freshness_answered(&fresh, UINT64_MAX - 5, INT64_MAX, UINT64_MAX);
  assert_true(fresh.expires_ms == UINT64_MAX);
  cpool__freshness_failed(&fresh, UINT64_MAX - 1);
  assert_true(fresh.ask_ms == UINT64_MAX);
  assert_int_equal(cpool__freshness_at(&fresh, UINT64_MAX - 1, INT64_MAX), CPOOL__FRESH);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(states_follow_the_time),
      cmocka_unit_test(asked_again_at_four_fifths_spread_over_a_tenth),
      cmocka_unit_test(short_lives_are_not_asked_for_ahead),
      cmocka_unit_test(tries_become_rarer_up_to_a_bound),
      cmocka_unit_test(ten_minutes_of_outage_cost_two_dozen_tries),
      cmocka_unit_test(failing_is_forgotten_when_nobody_tries),
      cmocka_unit_test(far_times_do_not_wrap),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
