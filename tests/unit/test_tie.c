/* tie: who is told that its address has left, and who is not since addresses take turns */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/memory.h"
#include "dns/tie.h"

enum { NOW = 5000000, MOST = 40 };

static struct cpool__ties ties;
static struct cpool__left *left;
static int told;

static int setup(void **state)
{
  (void) state;
  cpool__ties_init(&ties);
  left = NULL;
  told = 0;
  return 0;
}

static int teardown(void **state)
{
  (void) state;
  cpool__ties_fini(&ties);
  cpool__free(left);
  return 0;
}

static void goes(struct cpool__tie *tie)
{
  told++;
  cpool__ties_remove(&ties, tie);
}

static void stays(struct cpool__tie *tie)
{
  (void) tie;
  told++;
}

static void tie_to(struct cpool__tie *tie, const char *name, const char *address, void (*fn)(struct cpool__tie *tie))
{
  *tie = (struct cpool__tie){.left = fn};
  assert_true(cpool__address_parse(&tie->address, address, 0));
  cpool__ties_add(&ties, tie, name);
}

/* A new answer of "a.test". */
static int answer(const char *const *addresses, int count, uint64_t now_ms)
{
  struct cpool__address list[MOST];
  for (int i = 0; i < count; i++)
    assert_true(cpool__address_parse(&list[i], addresses[i], 0));
  struct cpool__family_answer what = {.ended = true, .count = count, .addresses = list};
  told = 0;
  cpool__ties_answer(&ties, "a.test", CPOOL__FAMILY_V4, &what, &left, now_ms);
  return told;
}

static void those_of_missing_addresses_are_told(void **state)
{
  (void) state;
  struct cpool__tie t[5];
  tie_to(&t[0], "a.test", "192.0.2.1", goes);
  tie_to(&t[1], "a.test", "192.0.2.1", goes);
  tie_to(&t[2], "a.test", "192.0.2.2", goes);
  tie_to(&t[3], "a.test", "2001:db8::1", goes); /* another family's answer */
  tie_to(&t[4], "b.test", "192.0.2.1", goes);
  assert_int_equal(answer((const char *[]){"192.0.2.2", "192.0.2.1"}, 2, NOW), 0);
  assert_int_equal(answer((const char *[]){"192.0.2.2", "192.0.2.3"}, 2, NOW), 2);
  assert_true(cpool__ties_any(&ties, "a.test"));
  assert_int_equal(answer((const char *[]){"192.0.2.9"}, 1, NOW), 1);
  cpool__ties_remove(&ties, &t[3]);
  assert_false(cpool__ties_any(&ties, "a.test"));
  assert_int_equal(answer((const char *[]){"192.0.2.9"}, 1, NOW), 0);
  cpool__ties_remove(&ties, &t[4]);
  cpool__ties_remove(&ties, &t[4]); /* harmless */
}

static void addresses_that_come_back_take_turns(void **state)
{
  (void) state;
  struct cpool__tie t;
  static const char *const one[] = {"192.0.2.1"}, *const two[] = {"192.0.2.2"};
  tie_to(&t, "a.test", "192.0.2.1", stays);
  assert_int_equal(answer(two, 1, NOW), 1);
  assert_int_equal(answer(one, 1, NOW + 1000), 0); /* it is back */
  assert_int_equal(answer(two, 1, NOW + 2000), 0);
  assert_int_equal(answer(one, 1, NOW + 300000), 0);
  assert_int_equal(answer(two, 1, NOW + 301000), 0);
  assert_int_equal(answer(two, 1, NOW + 300000 + CPOOL__TIE_LEFT_MS), 1);     /* it came back no more */
  assert_int_equal(answer(one, 1, NOW + 302000 + 2 * CPOOL__TIE_LEFT_MS), 0); /* much later: no turn */
  assert_int_equal(answer(two, 1, NOW + 303000 + 2 * CPOOL__TIE_LEFT_MS), 1);
  cpool__ties_remove(&ties, &t);
}

static void an_answer_that_may_be_cut_shows_nothing(void **state)
{
  (void) state;
  struct cpool__tie t;
  const char *full[CPOOL__DNS_ADDRESSES];
  for (int i = 0; i < CPOOL__DNS_ADDRESSES; i++)
    full[i] = "192.0.2.2";
  tie_to(&t, "a.test", "192.0.2.1", goes);
  assert_int_equal(answer(full, CPOOL__DNS_ADDRESSES, NOW), 0);
  assert_int_equal(answer(full, CPOOL__DNS_ADDRESSES - 1, NOW), 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(those_of_missing_addresses_are_told, setup, teardown),
      cmocka_unit_test_setup_teardown(addresses_that_come_back_take_turns, setup, teardown),
      cmocka_unit_test_setup_teardown(an_answer_that_may_be_cut_shows_nothing, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
