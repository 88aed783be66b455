/* water: above the high mark until at the low one, and everybody who paused is woken once */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cpool.h>
#include <string.h>

#include "core/runtime.h"
#include "core/water.h"

struct sleeper {
  struct cpool__water_waiter waiter;
  int woken;
};

static void on_woken(struct cpool__msg *msg)
{
  cpool__container_of(msg, struct sleeper, waiter.msg)->woken++;
}

static cpool_runtime *runtime;

static void sleeper_init(struct sleeper *sleeper)
{
  memset(sleeper, 0, sizeof *sleeper);
  sleeper->waiter.msg.fn = on_woken;
  sleeper->waiter.runtime = runtime;
}

static int setup(void **state)
{
  cpool_runtime_options options;
  (void) state;
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_MANUAL;
  return cpool_runtime_new(&runtime, &options);
}

static int teardown(void **state)
{
  (void) state;
  return cpool_runtime_free(runtime);
}

static void step(void)
{
  assert_int_equal(cpool_runtime_step(runtime, 0), CPOOL_OK);
}

static void it_is_above_from_the_high_mark_to_the_low_one(void **state)
{
  (void) state;
  struct cpool__water water;
  cpool__water_init(&water, 100, 40);
  cpool__water_rise(&water, 100);
  assert_false(cpool__water_above(&water));
  cpool__water_rise(&water, 1);
  assert_true(cpool__water_above(&water));
  cpool__water_fall(&water, 60);
  assert_true(cpool__water_above(&water));
  cpool__water_fall(&water, 1);
  assert_false(cpool__water_above(&water));
  cpool__water_rise(&water, 60);
  assert_false(cpool__water_above(&water)); /* 100: not above */
}

static void all_who_paused_are_woken_once_at_the_low_mark(void **state)
{
  (void) state;
  struct cpool__water water;
  struct sleeper sleepers[3];
  cpool__water_init(&water, 10, 5);
  for (int i = 0; i < 3; i++)
    sleeper_init(&sleepers[i]);
  assert_false(cpool__water_pause(&water, &sleepers[0].waiter)); /* nothing to wait for */
  cpool__water_rise(&water, 11);
  for (int i = 0; i < 3; i++)
    assert_true(cpool__water_pause(&water, &sleepers[i].waiter));
  assert_true(cpool__water_unpause(&water, &sleepers[1].waiter));
  cpool__water_fall(&water, 5);
  step();
  assert_int_equal(sleepers[0].woken, 0);
  cpool__water_fall(&water, 1);
  assert_false(cpool__water_unpause(&water, &sleepers[0].waiter)); /* its message is on its way */
  step();
  assert_int_equal(sleepers[0].woken, 1);
  assert_int_equal(sleepers[1].woken, 0);
  assert_int_equal(sleepers[2].woken, 1);
}

static void new_marks_count_at_once(void **state)
{
  (void) state;
  struct sleeper sleeper;
  struct cpool__budget *budget = cpool__budget_new(10, 5);
  assert_non_null(budget);
  sleeper_init(&sleeper);
  cpool__budget_rise(budget, 20);
  assert_true(cpool__budget_pause(budget, &sleeper.waiter));
  cpool__budget_marks(budget, 100, 50);
  assert_false(cpool__water_above(&budget->water));
  step();
  assert_int_equal(sleeper.woken, 1);
  cpool__budget_marks(budget, 10, 5);
  assert_true(cpool__water_above(&budget->water));
  cpool__budget_fall(budget, 20);
  assert_int_equal(cpool__budget_bytes(budget), 0);
  cpool__budget_drop(budget);
}

static void a_budget_lives_as_long_as_anybody_holds_it(void **state)
{
  (void) state;
  struct cpool__budget *budget = cpool__budget_new(10, 5);
  assert_ptr_equal(cpool__budget_hold(budget), budget);
  cpool__budget_drop(budget);
  cpool__budget_rise(budget, 3);
  cpool__budget_fall(budget, 3);
  cpool__budget_drop(budget);
  cpool__budget_drop(NULL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_is_above_from_the_high_mark_to_the_low_one),
      cmocka_unit_test(all_who_paused_are_woken_once_at_the_low_mark),
      cmocka_unit_test(new_marks_count_at_once),
      cmocka_unit_test(a_budget_lives_as_long_as_anybody_holds_it),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
