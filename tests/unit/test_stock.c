/* test_stock: how much is kept ahead of requests, at whose expense it is not, and what failures do */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "pool/stock.h"

enum { PLACES = 32, LIMIT = 20 };

struct fixture {
  struct cpool__admission adm;
  struct cpool__origin_policy hosts[2];
  struct cpool__group groups[2], other; /* other: of hosts[0] */
  struct cpool__waiter requests[PLACES];
  struct cpool__place places[PLACES];
};

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  assert_non_null(f);
  cpool__admission_init(&f->adm, LIMIT, 100);
  for (int i = 0; i < 2; i++) {
    cpool__origin_policy_init(&f->hosts[i], LIMIT);
    cpool__group_init(&f->groups[i], &f->hosts[i]);
    cpool__stock_begin(&f->adm, &f->groups[i]);
  }
  cpool__group_init(&f->other, &f->hosts[0]);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  free(*state);
  return 0;
}

static struct cpool__place *open_one(struct fixture *f, struct cpool__group *group)
{
  int i = 0;
  while (f->places[i].state != CPOOL__PLACE_NONE)
    assert_true(++i < PLACES);
  cpool__place_open(&f->adm, &f->places[i], group);
  return &f->places[i];
}

/* Opens what may be opened ahead now; how many. */
static int fill(struct fixture *f)
{
  struct cpool__group *group;
  int count = 0;
  while ((group = cpool__stock_next(&f->adm)) != NULL) {
    cpool__place_ahead(&f->adm, open_one(f, group), true);
    count++;
  }
  return count;
}

static void connect_all(struct fixture *f)
{
  for (int i = 0; i < PLACES; i++)
    if (f->places[i].state == CPOOL__PLACE_DIALLING)
      cpool__place_idle(&f->adm, &f->places[i]);
}

static struct cpool__decision ask(struct fixture *f, int request, struct cpool__group *group)
{
  cpool__admission_wait(&f->adm, &f->requests[request], group);
  return cpool__admission_next(&f->adm);
}

static void as_many_are_made_as_are_wanted(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(fill(f), 0);
  cpool__stock_want(&f->adm, &f->hosts[0], 5);
  assert_int_equal(fill(f), 5);
  connect_all(f);
  assert_int_equal(f->adm.idle_count, 5);
  assert_int_equal(fill(f), 0);
  assert_int_equal(ask(f, 0, &f->groups[0]).kind, CPOOL__DECISION_REUSE);
  assert_int_equal(fill(f), 1); /* for the one that was taken */
  cpool__place_close(&f->adm, cpool__container_of(cpool__list_first(&f->adm.idle), struct cpool__place, lru_link),
                     false);
  assert_int_equal(fill(f), 1); /* for the one that died */
  cpool__stock_want(&f->adm, &f->hosts[0], 2);
  connect_all(f);
  assert_int_equal(fill(f), 0);
  assert_int_equal(f->adm.idle_count, 5); /* what is there stays */
}

static void all_limits_bind_and_nothing_is_evicted(void **state)
{
  struct fixture *f = *state;
  cpool__stock_want(&f->adm, &f->hosts[0], 100);
  cpool__origin_limit(&f->adm, &f->hosts[0], 3, INT32_MAX);
  assert_int_equal(fill(f), 3);
  connect_all(f);
  cpool__origin_limit(&f->adm, &f->hosts[0], INT32_MAX, INT32_MAX);
  assert_int_equal(fill(f), LIMIT - 3);
  connect_all(f);
  cpool__stock_want(&f->adm, &f->hosts[1], 1);
  assert_int_equal(fill(f), 0);
  cpool__place_close(&f->adm, &f->places[0], true);
  f->adm.closing_limit = 1;
  assert_int_equal(fill(f), 0);
  cpool__admission_closed(&f->adm);
  assert_int_equal(fill(f), 1);
}

static void who_waits_comes_first(void **state)
{
  struct fixture *f = *state;
  cpool__stock_want(&f->adm, &f->hosts[0], 2);
  cpool__origin_limit(&f->adm, &f->hosts[0], 3, 2);
  assert_int_equal(ask(f, 0, &f->groups[0]).kind, CPOOL__DECISION_OPEN);
  struct cpool__place *dialled = open_one(f, &f->groups[0]);
  assert_int_equal(ask(f, 1, &f->groups[0]).kind, CPOOL__DECISION_OPEN);
  (void) open_one(f, &f->groups[0]);
  assert_int_equal(ask(f, 2, &f->groups[0]).kind, CPOOL__DECISION_NONE); /* the cap */
  assert_int_equal(fill(f), 0);
  cpool__place_busy(&f->adm, dialled);
  cpool__place_idle(&f->adm, dialled);
  assert_int_equal(fill(f), 0);
  assert_int_equal(cpool__admission_next(&f->adm).kind, CPOOL__DECISION_REUSE);
  assert_int_equal(fill(f), 0); /* half of the cap is one, and one is being connected */
  connect_all(f);
  assert_int_equal(fill(f), 1);
}

static void who_waits_for_a_shared_connection_comes_first_too(void **state)
{
  struct fixture *f = *state;
  f->groups[0].multiplex = true;
  cpool__stock_want(&f->adm, &f->hosts[0], 2);
  assert_int_equal(ask(f, 0, &f->groups[0]).kind, CPOOL__DECISION_OPEN);
  struct cpool__place *fresh = open_one(f, &f->groups[0]);
  cpool__place_busy(&f->adm, fresh);
  assert_int_equal(ask(f, 1, &f->groups[0]).kind, CPOOL__DECISION_NONE);
  assert_int_equal(fill(f), 0);
  cpool__place_known(&f->adm, fresh, 3);
  assert_int_equal(cpool__admission_next(&f->adm).kind, CPOOL__DECISION_REUSE);
  assert_int_equal(fill(f), 1); /* the shared one takes one more, and counts as one */
  assert_int_equal(ask(f, 2, &f->groups[0]).kind, CPOOL__DECISION_REUSE);
  assert_int_equal(fill(f), 1); /* now it is full */
}

static void half_of_the_connecting_limit_is_left_to_others(void **state)
{
  struct fixture *f = *state;
  cpool__stock_want(&f->adm, &f->hosts[0], 10);
  cpool__origin_limit(&f->adm, &f->hosts[0], LIMIT, 5);
  assert_int_equal(fill(f), 3);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(ask(f, i, &f->groups[0]).kind, CPOOL__DECISION_OPEN);
    (void) open_one(f, &f->groups[0]);
  }
  assert_int_equal(ask(f, 2, &f->groups[0]).kind, CPOOL__DECISION_NONE);
}

static void used_ones_serve_before_unused_ones(void **state)
{
  struct fixture *f = *state;
  cpool__stock_want(&f->adm, &f->hosts[0], 3);
  assert_int_equal(fill(f), 3);
  connect_all(f);
  struct cpool__place *used = ask(f, 0, &f->groups[0]).place, *next;
  assert_ptr_equal(used, &f->places[0]); /* the oldest: its time is over first */
  cpool__place_idle(&f->adm, used);
  assert_int_equal(fill(f), 0);
  assert_ptr_equal(ask(f, 1, &f->groups[0]).place, used);
  next = ask(f, 2, &f->groups[0]).place;
  assert_ptr_equal(next, &f->places[1]);
}

static void handshakes_that_stock_still_needs_count_as_well(void **state)
{
  struct fixture *f = *state;
  cpool__stock_want(&f->adm, &f->hosts[0], 6);
  cpool__origin_limit(&f->adm, &f->hosts[0], LIMIT, 2);
  while (f->adm.idle_count < 6) {
    assert_int_equal(fill(f), 1);
    f->places[f->adm.idle_count].raw = true;
    connect_all(f);
  }
  struct cpool__place *first = ask(f, 0, &f->groups[0]).place;
  assert_non_null(first);
  assert_non_null(ask(f, 1, &f->groups[0]).place);
  assert_int_equal(f->hosts[0].connecting_count, 2);
  assert_int_equal(ask(f, 2, &f->groups[0]).kind, CPOOL__DECISION_NONE);
  cpool__place_known(&f->adm, first, 1);
  assert_int_equal(cpool__admission_next(&f->adm).kind, CPOOL__DECISION_REUSE);
  assert_int_equal(f->hosts[0].connecting_count, 2);
}

static void failures_are_waited_out_longer_and_longer(void **state)
{
  struct fixture *f = *state;
  int64_t longest = CPOOL__STOCK_WAIT_MS;
  assert_int_equal(cpool__stock_failed(&f->hosts[0], 0), 0); /* nothing is wanted */
  cpool__stock_want(&f->adm, &f->hosts[0], 4);
  for (int i = 0; i < 12; i++) {
    int64_t wait_ms = cpool__stock_failed(&f->hosts[0], i % 2 == 0 ? 0 : UINT64_MAX / 3 * (uint64_t) i);
    assert_in_range(wait_ms, longest / 2 + 1, longest);
    assert_true(i % 2 != 0 || wait_ms == longest);
    assert_int_equal(cpool__stock_failed(&f->hosts[0], 0), 0); /* others of the same outage */
    assert_int_equal(fill(f), 0);
    cpool__stock_release(&f->adm, &f->hosts[0]);
    assert_int_equal(fill(f), 1); /* one alone is a try */
    cpool__place_close(&f->adm, &f->places[0], false);
    longest = 2 * longest < CPOOL__STOCK_WAIT_MAX_MS ? 2 * longest : CPOOL__STOCK_WAIT_MAX_MS;
  }
  assert_int_equal(fill(f), 1);
  connect_all(f);
  assert_int_equal(fill(f), 1);
  connect_all(f);
  cpool__stock_proved(&f->adm, &f->hosts[0]);
  assert_int_equal(fill(f), 2);
  assert_int_equal(cpool__stock_failed(&f->hosts[0], 0), CPOOL__STOCK_WAIT_MS);
}

static void stock_is_made_for_who_came_last(void **state)
{
  struct fixture *f = *state;
  cpool__stock_want(&f->adm, &f->hosts[0], 1);
  assert_int_equal(ask(f, 0, &f->other).kind, CPOOL__DECISION_OPEN);
  assert_ptr_equal(cpool__stock_next(&f->adm), &f->other);
  cpool__stock_begin(&f->adm, &f->groups[0]);
  assert_ptr_equal(cpool__stock_next(&f->adm), &f->other);
  cpool__stock_forget(&f->groups[0]);
  assert_ptr_equal(cpool__stock_next(&f->adm), &f->other);
  cpool__stock_forget(&f->other);
  assert_null(cpool__stock_next(&f->adm));
}

static void hosts_are_stocked_by_turns(void **state)
{
  struct fixture *f = *state;
  cpool__stock_want(&f->adm, &f->hosts[0], LIMIT);
  cpool__stock_want(&f->adm, &f->hosts[1], LIMIT);
  assert_int_equal(fill(f), LIMIT);
  assert_int_equal(f->hosts[0].place_count, LIMIT / 2);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(as_many_are_made_as_are_wanted),
      CASE(all_limits_bind_and_nothing_is_evicted),
      CASE(who_waits_comes_first),
      CASE(who_waits_for_a_shared_connection_comes_first_too),
      CASE(half_of_the_connecting_limit_is_left_to_others),
      CASE(used_ones_serve_before_unused_ones),
      CASE(handshakes_that_stock_still_needs_count_as_well),
      CASE(failures_are_waited_out_longer_and_longer),
      CASE(stock_is_made_for_who_came_last),
      CASE(hosts_are_stocked_by_turns),
  };
  return cmocka_run_group_tests_name("stock", tests, NULL, NULL);
}
