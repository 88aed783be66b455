/* test_janitor: due times as tables, overflow included; lifetimes inside their bounds; hints from hostile servers */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pool/janitor.h"

#define ROWS(table) (sizeof(table) / sizeof(table)[0])

static const struct cpool__janitor_rules OFF = {-1, -1, -1, -1};

static struct cpool__janitor_life newborn(uint64_t now_ms)
{
  struct cpool__janitor_life life;
  cpool__janitor_born(&life, &OFF, now_ms, 0);
  return life;
}

static void connection_without_rules_lives_for_ever(void **state)
{
  (void) state;
  struct cpool__janitor_life life = newborn(1234);
  enum cpool__janitor_reason reason = CPOOL__JANITOR_IDLE;
  assert_int_equal(life.born_ms, 1234);
  assert_int_equal(life.idle_since_ms, 1234);
  assert_int_equal(life.request_count, 0);
  assert_true(life.dies_ms == UINT64_MAX);
  life.request_count = UINT32_MAX;
  assert_true(cpool__janitor_idle_due(&life, &OFF, &reason) == UINT64_MAX);
  assert_int_equal(reason, CPOOL__JANITOR_KEEP);
  assert_int_equal(cpool__janitor_last_use(&life, &OFF, UINT64_MAX), CPOOL__JANITOR_KEEP);
}

static void lifetime_is_cut_by_at_most_the_jitter(void **state)
{
  (void) state;
  const struct {
    int64_t lifetime_ms;
    double jitter_ratio;
    uint64_t now_ms, random, dies_ms;
  } rows[] = {
      {1000, -1, 50, UINT64_MAX, 1050},
      {1000, 0, 50, UINT64_MAX, 1050},
      {1000, 0.5, 50, 0, 1050},
      {1000, 0.5, 50, UINT64_C(1) << 63, 800},
      {1000, 0.5, 50, UINT64_MAX, 551},
      {1000, 1, 50, UINT64_MAX, 51},
      {0, 1, 50, UINT64_MAX, 50},
      {-1, 1, 50, UINT64_MAX, UINT64_MAX},
      {INT64_MAX, -1, 50, 0, (uint64_t) INT64_MAX + 50},
      {INT64_MAX, -1, UINT64_MAX - 5, 0, UINT64_MAX},
      {10, -1, UINT64_MAX - 5, 0, UINT64_MAX},
  };
  for (size_t i = 0; i < ROWS(rows); i++) {
    struct cpool__janitor_rules rules = OFF;
    struct cpool__janitor_life life;
    rules.max_lifetime_ms = rows[i].lifetime_ms;
    rules.max_lifetime_jitter_ratio = rows[i].jitter_ratio;
    cpool__janitor_born(&life, &rules, rows[i].now_ms, rows[i].random);
    assert_true(life.dies_ms == rows[i].dies_ms);
  }
}

static void lifetimes_are_spread_over_the_whole_jitter(void **state)
{
  (void) state;
  const struct cpool__janitor_rules rules = {-1, 10000, 0.2, -1};
  uint64_t seed = 7;
  int quarters[4] = {0};
  for (int i = 0; i < 4000; i++) {
    struct cpool__janitor_life life;
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    cpool__janitor_born(&life, &rules, 0, seed);
    assert_in_range(life.dies_ms, 8000, 10000);
    quarters[life.dies_ms == 10000 ? 3 : (life.dies_ms - 8000) / 500]++;
  }
  for (int i = 0; i < 4; i++)
    assert_in_range(quarters[i], 850, 1150);
}

static void extreme_lifetime_with_jitter_stays_in_bounds(void **state)
{
  (void) state;
  const struct cpool__janitor_rules rules = {-1, INT64_MAX, 1, -1};
  const uint64_t randoms[] = {0, 1, UINT64_C(1) << 63, UINT64_MAX};
  for (size_t i = 0; i < ROWS(randoms); i++) {
    struct cpool__janitor_life life;
    cpool__janitor_born(&life, &rules, 10, randoms[i]);
    assert_true(life.dies_ms >= 10 && life.dies_ms <= (uint64_t) INT64_MAX + 10);
  }
}

static void idle_connection_goes_at_the_earliest_of_its_ends(void **state)
{
  (void) state;
  const struct {
    int64_t keepalive_ms, hint_ms;
    uint64_t idle_since_ms, dies_ms, due_ms;
    enum cpool__janitor_reason reason;
  } rows[] = {
      {-1, -1, 100, UINT64_MAX, UINT64_MAX, CPOOL__JANITOR_KEEP},
      {500, -1, 100, UINT64_MAX, 600, CPOOL__JANITOR_IDLE},
      {0, -1, 100, UINT64_MAX, 100, CPOOL__JANITOR_IDLE},
      {500, -1, 100, 599, 599, CPOOL__JANITOR_LIFETIME},
      {500, -1, 100, 600, 600, CPOOL__JANITOR_IDLE},
      {500, -1, 100, 50, 50, CPOOL__JANITOR_LIFETIME},
      {-1, -1, 100, 7000, 7000, CPOOL__JANITOR_LIFETIME},
      /* a hint is cut by a second, or by half of one shorter than two */
      {-1, 5000, 100, UINT64_MAX, 4100, CPOOL__JANITOR_IDLE},
      {-1, 2000, 100, UINT64_MAX, 1100, CPOOL__JANITOR_IDLE},
      {-1, 1999, 100, UINT64_MAX, 1100, CPOOL__JANITOR_IDLE},
      {-1, 1000, 100, UINT64_MAX, 600, CPOOL__JANITOR_IDLE},
      {-1, 1, 100, UINT64_MAX, 101, CPOOL__JANITOR_IDLE},
      {-1, 0, 100, UINT64_MAX, 100, CPOOL__JANITOR_IDLE},
      {3000, 5000, 100, UINT64_MAX, 3100, CPOOL__JANITOR_IDLE},
      {9000, 5000, 100, UINT64_MAX, 4100, CPOOL__JANITOR_IDLE},
      {9000, 5000, 100, 2000, 2000, CPOOL__JANITOR_LIFETIME},
      /* sums beyond the end of time */
      {INT64_MAX, -1, UINT64_MAX - 5, UINT64_MAX, UINT64_MAX, CPOOL__JANITOR_KEEP},
      {-1, INT64_MAX, UINT64_MAX - 5, UINT64_MAX, UINT64_MAX, CPOOL__JANITOR_KEEP},
      {INT64_MAX, INT64_MAX, 0, UINT64_MAX, (uint64_t) INT64_MAX - 1000, CPOOL__JANITOR_IDLE},
  };
  for (size_t i = 0; i < ROWS(rows); i++) {
    struct cpool__janitor_rules rules = OFF;
    struct cpool__janitor_life life = newborn(0);
    enum cpool__janitor_reason reason = CPOOL__JANITOR_REQUESTS;
    rules.keepalive_timeout_ms = rows[i].keepalive_ms;
    life.hint_timeout_ms = rows[i].hint_ms;
    life.idle_since_ms = rows[i].idle_since_ms;
    life.dies_ms = rows[i].dies_ms;
    assert_true(cpool__janitor_idle_due(&life, &rules, &reason) == rows[i].due_ms);
    assert_int_equal(reason, rows[i].reason);
  }
}

static void last_use_is_known_when_the_request_begins(void **state)
{
  (void) state;
  const struct {
    int32_t max_requests;
    int64_t hint_max_count;
    uint32_t request_count;
    uint64_t now_ms, dies_ms;
    enum cpool__janitor_reason reason;
  } rows[] = {
      {3, -1, 2, 0, UINT64_MAX, CPOOL__JANITOR_KEEP},
      {3, -1, 3, 0, UINT64_MAX, CPOOL__JANITOR_REQUESTS},
      {1, -1, 1, 0, UINT64_MAX, CPOOL__JANITOR_REQUESTS},
      {3, -1, UINT32_MAX, 0, UINT64_MAX, CPOOL__JANITOR_REQUESTS},
      {INT32_MAX, -1, INT32_MAX - 1, 0, UINT64_MAX, CPOOL__JANITOR_KEEP},
      {-1, 5, 4, 0, UINT64_MAX, CPOOL__JANITOR_KEEP},
      {-1, 5, 5, 0, UINT64_MAX, CPOOL__JANITOR_REQUESTS},
      {3, 5, 3, 0, UINT64_MAX, CPOOL__JANITOR_REQUESTS},
      {-1, -1, 1, 99, 100, CPOOL__JANITOR_KEEP},
      {-1, -1, 1, 100, 100, CPOOL__JANITOR_LIFETIME},
      {-1, -1, 1, UINT64_MAX, UINT64_MAX, CPOOL__JANITOR_KEEP},
  };
  for (size_t i = 0; i < ROWS(rows); i++) {
    struct cpool__janitor_rules rules = OFF;
    struct cpool__janitor_life life = newborn(0);
    rules.max_requests_per_connection = rows[i].max_requests;
    life.hint_max_count = rows[i].hint_max_count;
    life.request_count = rows[i].request_count;
    life.dies_ms = rows[i].dies_ms;
    assert_int_equal(cpool__janitor_last_use(&life, &rules, rows[i].now_ms), rows[i].reason);
  }
}

static void used_up_connection_does_not_idle(void **state)
{
  (void) state;
  struct cpool__janitor_life life = newborn(0);
  enum cpool__janitor_reason reason = CPOOL__JANITOR_KEEP;
  life.request_count = 4;
  life.idle_since_ms = 900;
  cpool__janitor_hint(&life, "max=1", 5);
  assert_true(cpool__janitor_idle_due(&life, &OFF, &reason) == UINT64_MAX);
  life.request_count++; /* the one that was left */
  assert_int_equal(cpool__janitor_last_use(&life, &OFF, 0), CPOOL__JANITOR_REQUESTS);
  assert_true(cpool__janitor_idle_due(&life, &OFF, &reason) == 900);
  assert_int_equal(reason, CPOOL__JANITOR_REQUESTS);
}

static void hints_are_read_whatever_their_spelling(void **state)
{
  (void) state;
  const struct {
    const char *value;
    int64_t timeout_ms, max_count;
  } rows[] = {
      {"timeout=5, max=100", 5000, 100},
      {"max=100,timeout=5", 5000, 100},
      {"timeout=5", 5000, -1},
      {"max=7", -1, 7},
      {"TimeOut=5,MAX=7", 5000, 7},
      {" \ttimeout = 5 \t, \t max\t=\t7 ", 5000, 7},
      {"timeout=0, max=0", 0, 0},
      {"timeout=0005", 5000, -1},
      {"timeout=60, timeout=5, timeout=30", 5000, -1},
      {"max=9, x=1, foo, =3, ,,, timeout=5", 5000, 9},
      {"timeout=5,", 5000, -1},
      /* nothing to be read */
      {"", -1, -1},
      {",", -1, -1},
      {"=", -1, -1},
      {"timeout", -1, -1},
      {"timeout=", -1, -1},
      {"timeout= ", -1, -1},
      {"timeout=-5", -1, -1},
      {"timeout=+5", -1, -1},
      {"timeout=5s", -1, -1},
      {"timeout=5.0", -1, -1},
      {"timeout=0x10", -1, -1},
      {"timeout=5 5", -1, -1},
      {"timeout==5", -1, -1},
      {"timeout=5=5", -1, -1},
      {"timeout=\"5\"", -1, -1},
      {"timeouts=5, atimeout=5, time=5", -1, -1},
      {"timeout=5; max=3", -1, -1},
      {"timeout=\xd9\xa5", -1, -1},
      {"timeout=x, max=3", -1, 3},
      /* more than fits */
      {"timeout=9223372036854775807", INT64_MAX / 1000 * 1000, -1},
      {"timeout=9223372036854776", INT64_MAX / 1000 * 1000, -1},
      {"timeout=9223372036854774", INT64_C(9223372036854774000), -1},
      {"max=99999999999999999999999999999999999999999999999999", -1, INT64_MAX / 1000},
  };
  for (size_t i = 0; i < ROWS(rows); i++) {
    struct cpool__janitor_life life = newborn(0);
    size_t len = strlen(rows[i].value);
    char *exact = malloc(len + 1); /* so that a read behind the end is seen by AddressSanitizer */
    assert_non_null(exact);
    memcpy(exact + 1, rows[i].value, len);
    cpool__janitor_hint(&life, exact + 1, len);
    free(exact);
    if (life.hint_timeout_ms != rows[i].timeout_ms || life.hint_max_count != rows[i].max_count)
      fail_msg("\"%s\": %lld, %lld", rows[i].value, (long long) life.hint_timeout_ms, (long long) life.hint_max_count);
  }
}

static void hint_with_nul_bytes_is_malformed(void **state)
{
  (void) state;
  struct cpool__janitor_life life = newborn(0);
  cpool__janitor_hint(&life, "timeout\0=5,max=5\0", 17);
  assert_int_equal(life.hint_timeout_ms, -1);
  assert_int_equal(life.hint_max_count, -1);
}

static void later_hint_replaces_what_it_names(void **state)
{
  (void) state;
  struct cpool__janitor_life life = newborn(0);
  life.request_count = 1;
  cpool__janitor_hint(&life, "timeout=5, max=100", 18);
  assert_int_equal(life.hint_max_count, 101);
  life.request_count = 2;
  cpool__janitor_hint(&life, "timeout=8", 9);
  assert_int_equal(life.hint_timeout_ms, 8000);
  assert_int_equal(life.hint_max_count, 101);
  cpool__janitor_hint(&life, "max=1, timeout=x", 16);
  assert_int_equal(life.hint_timeout_ms, 8000);
  assert_int_equal(life.hint_max_count, 3);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(connection_without_rules_lives_for_ever),
      cmocka_unit_test(lifetime_is_cut_by_at_most_the_jitter),
      cmocka_unit_test(lifetimes_are_spread_over_the_whole_jitter),
      cmocka_unit_test(extreme_lifetime_with_jitter_stays_in_bounds),
      cmocka_unit_test(idle_connection_goes_at_the_earliest_of_its_ends),
      cmocka_unit_test(last_use_is_known_when_the_request_begins),
      cmocka_unit_test(used_up_connection_does_not_idle),
      cmocka_unit_test(hints_are_read_whatever_their_spelling),
      cmocka_unit_test(hint_with_nul_bytes_is_malformed),
      cmocka_unit_test(later_hint_replaces_what_it_names),
  };
  return cmocka_run_group_tests_name("janitor", tests, NULL, NULL);
}
