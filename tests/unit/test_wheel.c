/* test_wheel: no timer early, none late, none lost; then 200 000 random operations against a plain array */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/wheel.h"

#define SPAN_MS (UINT64_C(1) << 36)

enum { PROBES = 64 };

struct probe {
  struct cpool__timer timer;
  struct fixture *f;
  int fired;
  uint64_t fired_ms, again_ms;
  struct probe *victim;
};

struct fixture {
  struct cpool__wheel wheel;
  struct probe probes[PROBES];
  int order[PROBES];
  size_t order_count;
};

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL)
    return -1;
  for (size_t i = 0; i < PROBES; i++)
    f->probes[i].f = f;
  cpool__wheel_init(&f->wheel, 1000);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  free(*state);
  return 0;
}

static struct probe *probe_of(struct cpool__timer *timer)
{
  return cpool__container_of(timer, struct probe, timer);
}

static void note(struct cpool__timer *timer)
{
  struct probe *probe = probe_of(timer);
  struct fixture *f = probe->f;
  assert_false(cpool__timer_armed(timer));
  probe->fired++;
  probe->fired_ms = f->wheel.now_ms;
  if (f->order_count < PROBES)
    f->order[f->order_count++] = (int) (probe - f->probes);
}

static void note_and_arm_again(struct cpool__timer *timer)
{
  struct probe *probe = probe_of(timer);
  note(timer);
  cpool__wheel_arm(&probe->f->wheel, timer, probe->f->wheel.now_ms + probe->again_ms, note_and_arm_again);
}

static void note_and_cancel_victim(struct cpool__timer *timer)
{
  note(timer);
  cpool__wheel_cancel(&probe_of(timer)->f->wheel, &probe_of(timer)->victim->timer);
}

static void note_and_move_victim(struct cpool__timer *timer)
{
  struct probe *probe = probe_of(timer);
  note(timer);
  cpool__wheel_arm(&probe->f->wheel, &probe->victim->timer, probe->f->wheel.now_ms + 10, note);
}

static void fires_at_its_time_and_not_before(void **state)
{
  struct fixture *f = *state;
  const uint64_t delays_ms[] = {1, 2, 63, 64, 65, 4095, 4096, 4097, 262143, 262144, 16777216, 1073741824, SPAN_MS - 1};
  for (size_t i = 0; i < sizeof delays_ms / sizeof delays_ms[0]; i++) {
    struct probe *probe = &f->probes[i];
    uint64_t due_ms = f->wheel.now_ms + delays_ms[i];
    cpool__wheel_arm(&f->wheel, &probe->timer, due_ms, note);
    assert_true(cpool__timer_armed(&probe->timer));
    assert_int_equal(cpool__wheel_advance(&f->wheel, due_ms - 1), 0);
    assert_int_equal(probe->fired, 0);
    assert_int_equal(cpool__wheel_next(&f->wheel), due_ms);
    assert_int_equal(cpool__wheel_advance(&f->wheel, due_ms), 1);
    assert_int_equal(probe->fired, 1);
    assert_false(cpool__timer_armed(&probe->timer));
    assert_int_equal(cpool__wheel_next(&f->wheel), UINT64_MAX);
  }
}

static void fires_once_after_a_jump_of_hours(void **state)
{
  struct fixture *f = *state;
  for (size_t i = 0; i < PROBES; i++)
    cpool__wheel_arm(&f->wheel, &f->probes[i].timer, 1000 + (uint64_t) i * i * i * 40, note);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1000 + 9 * 3600 * 1000), PROBES);
  for (size_t i = 0; i < PROBES; i++)
    assert_int_equal(f->probes[i].fired, 1);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1000 + 99 * 3600 * 1000), 0);
}

static void an_idle_wheel_jumps_any_distance(void **state)
{
  struct fixture *f = *state;
  for (uint64_t now_ms = 2000; now_ms < UINT64_MAX / 9; now_ms *= 7) {
    assert_int_equal(cpool__wheel_advance(&f->wheel, now_ms), 0);
    cpool__wheel_arm(&f->wheel, &f->probes[0].timer, now_ms + 5, note);
    assert_int_equal(cpool__wheel_advance(&f->wheel, now_ms + 4), 0);
    assert_int_equal(cpool__wheel_advance(&f->wheel, now_ms + 5), 1);
  }
}

static void a_far_timer_is_reached_in_a_step_per_level(void **state)
{
  struct fixture *f = *state;
  uint64_t due_ms = 1000 + SPAN_MS - 12345;
  cpool__wheel_arm(&f->wheel, &f->probes[0].timer, due_ms, note);
  int steps = 0;
  while (f->probes[0].fired == 0) {
    uint64_t next_ms = cpool__wheel_next(&f->wheel);
    assert_true(next_ms > f->wheel.now_ms && next_ms <= due_ms);
    cpool__wheel_advance(&f->wheel, next_ms);
    assert_true(++steps <= CPOOL__WHEEL_LEVELS);
  }
  assert_int_equal(f->probes[0].fired_ms, due_ms);
}

static void fires_in_order_of_time_then_of_arming(void **state)
{
  struct fixture *f = *state;
  cpool__wheel_arm(&f->wheel, &f->probes[3].timer, 9000, note);
  cpool__wheel_arm(&f->wheel, &f->probes[0].timer, 5000, note); /* from afar */
  cpool__wheel_arm(&f->wheel, &f->probes[4].timer, 700000, note);
  cpool__wheel_advance(&f->wheel, 4990);
  cpool__wheel_arm(&f->wheel, &f->probes[1].timer, 5000, note); /* from near by */
  cpool__wheel_arm(&f->wheel, &f->probes[2].timer, 5001, note);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 800000), 5);
  for (int i = 0; i < 5; i++)
    assert_int_equal(f->order[i], i);
}

static void a_time_already_past_fires_at_the_next_advance(void **state)
{
  struct fixture *f = *state;
  cpool__wheel_arm(&f->wheel, &f->probes[0].timer, 1000, note);
  cpool__wheel_arm(&f->wheel, &f->probes[1].timer, 3, note);
  assert_int_equal(f->probes[0].fired, 0);
  assert_int_equal(cpool__wheel_next(&f->wheel), 1000);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1000), 2); /* the same millisecond will do */
  assert_int_equal(cpool__wheel_next(&f->wheel), UINT64_MAX);
}

static void rearming_without_delay_does_not_hold_the_loop(void **state)
{
  struct fixture *f = *state;
  f->probes[0].again_ms = 0;
  cpool__wheel_arm(&f->wheel, &f->probes[0].timer, 0, note_and_arm_again);
  for (int i = 1; i <= 5; i++) {
    assert_int_equal(cpool__wheel_advance(&f->wheel, 1000), 1);
    assert_int_equal(f->probes[0].fired, i);
    assert_int_equal(cpool__wheel_next(&f->wheel), 1000);
  }
}

static void rearmed_in_its_function_it_keeps_its_beat(void **state)
{
  struct fixture *f = *state;
  f->probes[0].again_ms = 250;
  cpool__wheel_arm(&f->wheel, &f->probes[0].timer, 1250, note_and_arm_again);
  for (uint64_t now_ms = 1001; now_ms <= 11000; now_ms++)
    cpool__wheel_advance(&f->wheel, now_ms);
  assert_int_equal(f->probes[0].fired, 40);
}

static void a_cancelled_timer_never_fires(void **state)
{
  struct fixture *f = *state;
  cpool__wheel_cancel(&f->wheel, &f->probes[0].timer); /* never armed */
  for (size_t i = 0; i < PROBES; i++)
    cpool__wheel_arm(&f->wheel, &f->probes[i].timer, 900 + (UINT64_C(1) << i % 40), note);
  for (size_t i = 0; i < PROBES; i++)
    cpool__wheel_cancel(&f->wheel, &f->probes[i].timer);
  cpool__wheel_cancel(&f->wheel, &f->probes[0].timer);
  assert_int_equal(cpool__wheel_next(&f->wheel), UINT64_MAX);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1000 + 2 * SPAN_MS), 0);
}

static void one_due_now_can_still_be_cancelled_or_moved(void **state)
{
  struct fixture *f = *state;
  struct probe *p = f->probes;
  p[0].victim = &p[1];
  p[2].victim = &p[3];
  cpool__wheel_arm(&f->wheel, &p[0].timer, 1100, note_and_cancel_victim);
  cpool__wheel_arm(&f->wheel, &p[1].timer, 1100, note);
  cpool__wheel_arm(&f->wheel, &p[2].timer, 1101, note_and_move_victim);
  cpool__wheel_arm(&f->wheel, &p[3].timer, 1102, note);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1200), 2);
  assert_int_equal(p[1].fired, 0);
  assert_int_equal(p[3].fired, 0);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1209), 0);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1210), 1);
  assert_int_equal(p[3].fired, 1);
}

static void arming_an_armed_one_moves_it(void **state)
{
  struct fixture *f = *state;
  struct cpool__timer *timer = &f->probes[0].timer;
  cpool__wheel_arm(&f->wheel, timer, 2000, note);
  cpool__wheel_arm(&f->wheel, timer, 900000, note);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 5000), 0);
  cpool__wheel_arm(&f->wheel, timer, 5001, note);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 5001), 1);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1000000), 0);
}

static void time_going_backwards_does_nothing(void **state)
{
  struct fixture *f = *state;
  cpool__wheel_arm(&f->wheel, &f->probes[0].timer, 1010, note);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1005), 0);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 3), 0);
  assert_int_equal(f->wheel.now_ms, 1005);
  assert_int_equal(cpool__wheel_next(&f->wheel), 1010);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1010), 1);
}

static void beyond_the_span_is_cut_to_it(void **state)
{
  struct fixture *f = *state;
  cpool__wheel_arm(&f->wheel, &f->probes[0].timer, UINT64_MAX, note);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1000 + SPAN_MS - 2), 0);
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1000 + SPAN_MS - 1), 1);
}

static void free_it(struct cpool__timer *timer)
{
  free(timer);
}

static void a_function_may_free_its_timer(void **state)
{
  struct fixture *f = *state;
  for (uint64_t i = 0; i < 3; i++) {
    struct cpool__timer *timer = calloc(1, sizeof *timer);
    assert_non_null(timer);
    cpool__wheel_arm(&f->wheel, timer, 1000 + i, free_it);
  }
  assert_int_equal(cpool__wheel_advance(&f->wheel, 1002), 3);
}

/* ---- the comparison: every timer as a row of an array, searched from end to end ---- */

enum { ROWS = 200, OPERATIONS = 200000 };

struct row {
  struct cpool__timer timer;
  struct model *model;
  bool armed, was_past; /* was_past: its time had come when it was armed */
  uint64_t due_ms, sequence;
};

struct model {
  struct cpool__wheel wheel;
  struct row rows[ROWS];
  uint64_t random, now_ms, sequence, advance_began; /* rows armed from this sequence on are the next advance's */
  uint32_t fired_count;
};

static uint64_t draw(struct model *m) /* xorshift64* */
{
  m->random ^= m->random >> 12;
  m->random ^= m->random << 25;
  m->random ^= m->random >> 27;
  return m->random * UINT64_C(2685821657736338717);
}

/* Any magnitude is as likely as any other. */
static uint64_t draw_span(struct model *m, unsigned bits)
{
  uint64_t limit = UINT64_C(1) << (draw(m) >> 32) % (bits + 1);
  return (draw(m) >> 8) & (limit - 1);
}

static void row_fired(struct cpool__timer *timer);

static void random_arm(struct model *m, struct row *row)
{
  uint64_t due_ms = m->now_ms + draw_span(m, 37);
  if (draw(m) >> 60 == 0)
    due_ms = m->now_ms - draw_span(m, 9);
  cpool__wheel_arm(&m->wheel, &row->timer, due_ms, row_fired);
  row->armed = true;
  row->was_past = due_ms <= m->now_ms;
  row->due_ms = !row->was_past && due_ms - m->now_ms >= SPAN_MS ? m->now_ms + SPAN_MS - 1 : due_ms;
  row->sequence = m->sequence++;
}

static void random_cancel(struct model *m, struct row *row)
{
  cpool__wheel_cancel(&m->wheel, &row->timer);
  row->armed = false;
}

static bool is_owed(const struct model *m, const struct row *row)
{
  return row->armed && row->due_ms <= m->now_ms && row->sequence < m->advance_began;
}

static bool comes_before(const struct row *a, const struct row *b)
{
  if (a->was_past != b->was_past)
    return a->was_past;
  if (!a->was_past && a->due_ms != b->due_ms)
    return a->due_ms < b->due_ms;
  return a->sequence < b->sequence;
}

static void row_fired(struct cpool__timer *timer)
{
  struct row *row = cpool__container_of(timer, struct row, timer);
  struct model *m = row->model;
  assert_true(is_owed(m, row));
  assert_int_equal(m->wheel.now_ms, m->now_ms);
  for (size_t i = 0; i < ROWS; i++)
    if (&m->rows[i] != row && is_owed(m, &m->rows[i]))
      assert_true(comes_before(row, &m->rows[i]));
  row->armed = false;
  m->fired_count++;
  if (draw(m) % 2 == 0)
    random_arm(m, row);
  if (draw(m) % 4 == 0)
    random_arm(m, &m->rows[draw(m) % ROWS]);
  if (draw(m) % 4 == 0)
    random_cancel(m, &m->rows[draw(m) % ROWS]);
}

static void random_advance(struct model *m)
{
  uint64_t to_ms, kind = draw(m) % 16;
  uint64_t next_ms = cpool__wheel_next(&m->wheel);
  if (kind < 8 && next_ms != UINT64_MAX)
    to_ms = next_ms;
  else if (kind == 8)
    to_ms = m->now_ms - draw_span(m, 6); /* mostly backwards */
  else
    to_ms = m->now_ms + draw_span(m, kind == 9 ? 38 : 12);

  m->fired_count = 0;
  if (to_ms >= m->now_ms) {
    m->now_ms = to_ms;
    m->advance_began = m->sequence;
  } else {
    m->advance_began = 0;
  }
  uint32_t fired_count = cpool__wheel_advance(&m->wheel, to_ms);
  assert_int_equal(fired_count, m->fired_count);
  for (size_t i = 0; i < ROWS; i++)
    assert_false(is_owed(m, &m->rows[i]));
}

static void check_next(const struct model *m)
{
  uint64_t earliest_ms = UINT64_MAX, next_ms = cpool__wheel_next(&m->wheel);
  for (size_t i = 0; i < ROWS; i++) {
    assert_int_equal(cpool__timer_armed(&m->rows[i].timer), m->rows[i].armed);
    if (m->rows[i].armed && m->rows[i].due_ms < earliest_ms)
      earliest_ms = m->rows[i].due_ms;
  }
  if (earliest_ms == UINT64_MAX)
    assert_int_equal(next_ms, UINT64_MAX);
  else if (earliest_ms <= m->now_ms)
    assert_int_equal(next_ms, m->now_ms);
  else
    assert_true(next_ms > m->now_ms && next_ms <= earliest_ms);
}

static void agrees_with_a_plain_array(void **state)
{
  (void) state;
  for (uint64_t seed = 1; seed <= 4; seed++) {
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->random = seed * UINT64_C(0x9e3779b97f4a7c15);
    m->now_ms = SPAN_MS * seed - 100; /* the top ring wraps soon */
    cpool__wheel_init(&m->wheel, m->now_ms);
    for (size_t i = 0; i < ROWS; i++)
      m->rows[i].model = m;
    for (int i = 0; i < OPERATIONS / 4; i++) {
      uint64_t kind = draw(m) % 8;
      if (kind < 4)
        random_arm(m, &m->rows[draw(m) % ROWS]);
      else if (kind < 5)
        random_cancel(m, &m->rows[draw(m) % ROWS]);
      else
        random_advance(m);
      check_next(m);
    }
    free(m);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(fires_at_its_time_and_not_before, setup, teardown),
      cmocka_unit_test_setup_teardown(fires_once_after_a_jump_of_hours, setup, teardown),
      cmocka_unit_test_setup_teardown(an_idle_wheel_jumps_any_distance, setup, teardown),
      cmocka_unit_test_setup_teardown(a_far_timer_is_reached_in_a_step_per_level, setup, teardown),
      cmocka_unit_test_setup_teardown(fires_in_order_of_time_then_of_arming, setup, teardown),
      cmocka_unit_test_setup_teardown(a_time_already_past_fires_at_the_next_advance, setup, teardown),
      cmocka_unit_test_setup_teardown(rearming_without_delay_does_not_hold_the_loop, setup, teardown),
      cmocka_unit_test_setup_teardown(rearmed_in_its_function_it_keeps_its_beat, setup, teardown),
      cmocka_unit_test_setup_teardown(a_cancelled_timer_never_fires, setup, teardown),
      cmocka_unit_test_setup_teardown(one_due_now_can_still_be_cancelled_or_moved, setup, teardown),
      cmocka_unit_test_setup_teardown(arming_an_armed_one_moves_it, setup, teardown),
      cmocka_unit_test_setup_teardown(time_going_backwards_does_nothing, setup, teardown),
      cmocka_unit_test_setup_teardown(beyond_the_span_is_cut_to_it, setup, teardown),
      cmocka_unit_test_setup_teardown(a_function_may_free_its_timer, setup, teardown),
      cmocka_unit_test(agrees_with_a_plain_array),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
