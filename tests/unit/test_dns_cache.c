/* test_dns_cache: how long an answer lives, who is evicted, what readers may keep; the clock is only a number */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cpool.h>

#include "base/memory.h"
#include "dns/cache.h"

enum { MAX_NAMES = 4, STALE_MS = 5000 };

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

struct fixture {
  struct cpool__dns_cache cache;
};

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  cpool__dns_cache_init(&f->cache, MAX_NAMES);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct fixture *f = *state;
  cpool__dns_cache_fini(&f->cache);
  free(f);
  return 0;
}

static struct cpool__dns_name *get(struct fixture *f, const char *text)
{
  struct cpool__dns_name *name = NULL;
  assert_int_equal(cpool__dns_cache_get(&f->cache, text, &name), CPOOL_OK);
  assert_string_equal(name->text, text);
  return name;
}

/* Being asked for, the caller's reference given. */
static struct cpool__dns_known *ask(struct fixture *f, const char *text, enum cpool__family family)
{
  struct cpool__dns_known *known = &get(f, text)->known[family];
  struct cpool__dns_record *record = cpool__dns_record_new(family);
  assert_non_null(record);
  cpool__dns_known_ask(known, record);
  cpool__dns_record_drop(record);
  return known;
}

static bool cannot_answer(struct cpool__dns_known *known, int status, uint64_t now, int64_t ttl_ms)
{
  struct cpool__dns_name *name = known->name;
  cpool__dns_record_answer(known->asked, status, 0, NULL, 0);
  bool kept = cpool__dns_known_answered(known, now, ttl_ms, STALE_MS, 0);
  cpool__dns_name_tidy(name);
  return kept;
}

static void answer(struct cpool__dns_known *known, uint64_t now, int64_t ttl_ms)
{
  struct cpool__dns_name *name = known->name;
  struct cpool__address address;
  assert_true(cpool__address_parse(&address, "192.0.2.1", 0));
  cpool__dns_record_answer(known->asked, CPOOL_OK, 0, &address, 1);
  assert_false(cpool__dns_known_answered(known, now, ttl_ms, STALE_MS, 0));
  cpool__dns_name_tidy(name);
}

static void put(struct fixture *f, const char *text, uint64_t now, int64_t ttl_ms)
{
  answer(ask(f, text, CPOOL__FAMILY_V4), now, ttl_ms);
}

static enum cpool__dns_state state_of(struct fixture *f, const char *text, uint64_t now)
{
  struct cpool__dns_name *name = get(f, text);
  enum cpool__dns_state state = cpool__dns_known_state(&name->known[CPOOL__FAMILY_V4], now, STALE_MS);
  cpool__dns_name_tidy(name);
  return state;
}

static void answer_is_good_for_its_time_then_stale_then_nothing(void **state)
{
  struct fixture *f = *state;
  put(f, "a.test", 1000, 50);
  assert_int_equal(state_of(f, "a.test", 1000), CPOOL__DNS_GOOD);
  assert_int_equal(state_of(f, "a.test", 1049), CPOOL__DNS_GOOD);
  assert_int_equal(state_of(f, "a.test", 1050), CPOOL__DNS_STALE);
  assert_int_equal(state_of(f, "a.test", 1049 + STALE_MS), CPOOL__DNS_STALE);
  assert_int_equal(state_of(f, "a.test", 1050 + STALE_MS), CPOOL__DNS_NOTHING);
}

static void answer_without_time_is_not_kept(void **state)
{
  struct fixture *f = *state;
  put(f, "a.test", 1000, 0);
  assert_int_equal(cpool__dns_cache_count(&f->cache), 0);
}

static void families_of_a_name_are_apart(void **state)
{
  struct fixture *f = *state;
  put(f, "a.test", 0, 100);
  struct cpool__dns_name *name = get(f, "a.test");
  assert_int_equal(cpool__dns_known_state(&name->known[CPOOL__FAMILY_V6], 0, STALE_MS), CPOOL__DNS_NOTHING);
  assert_int_equal(cpool__dns_known_state(&name->known[CPOOL__FAMILY_V4], 0, STALE_MS), CPOOL__DNS_GOOD);
  assert_int_equal(cpool__dns_cache_count(&f->cache), 1);
}

static void name_being_asked_for_is_shared(void **state)
{
  struct fixture *f = *state;
  struct cpool__dns_known *known = ask(f, "a.test", CPOOL__FAMILY_V4);
  assert_ptr_equal(&get(f, "a.test")->known[CPOOL__FAMILY_V4], known);
  assert_non_null(known->asked);
  answer(known, 10, 5);
  assert_null(known->asked);
  assert_int_equal(state_of(f, "a.test", 14), CPOOL__DNS_GOOD);
}

static void reader_keeps_what_the_cache_lets_go(void **state)
{
  struct fixture *f = *state;
  put(f, "a.test", 0, 10);
  struct cpool__dns_record *record = get(f, "a.test")->known[CPOOL__FAMILY_V4].answer;
  cpool__dns_record_hold(record);
  cpool__dns_cache_set_max(&f->cache, 0);
  assert_int_equal(cpool__dns_cache_count(&f->cache), 0);
  assert_null(record->name);
  assert_int_equal(record->answer.count, 1);
  char text[CPOOL__ADDRESS_TEXT];
  cpool__address_host_text(&record->answer.addresses[0], text);
  assert_string_equal(text, "192.0.2.1");
  cpool__dns_record_drop(record);
}

/* ---- what replaces an answer, and what does not */

static void failure_leaves_the_answer_until_its_last_moment(void **state)
{
  struct fixture *f = *state;
  static const int failures[] = {CPOOL_EDNS_FAILED, CPOOL_ENOMEM, CPOOL_ESYSTEM};
  put(f, "a.test", 0, 100);
  for (uint64_t i = 0; i < sizeof failures / sizeof *failures; i++)
    assert_true(
        cannot_answer(ask(f, "a.test", CPOOL__FAMILY_V4), failures[i], 90 + i * 10, 1000)); /* fresh, then stale */
  assert_int_equal(state_of(f, "a.test", 200), CPOOL__DNS_STALE);
  assert_int_equal(state_of(f, "a.test", 99 + STALE_MS), CPOOL__DNS_STALE);
  struct cpool__dns_known *known = ask(f, "a.test", CPOOL__FAMILY_V4);
  assert_false(cannot_answer(known, CPOOL_EDNS_FAILED, 100 + STALE_MS, 1000));
  assert_int_equal(known->answer->answer.status, CPOOL_EDNS_FAILED);
}

static void no_such_name_is_an_answer(void **state)
{
  struct fixture *f = *state;
  put(f, "a.test", 0, 100);
  struct cpool__dns_known *known = ask(f, "a.test", CPOOL__FAMILY_V4);
  assert_false(cannot_answer(known, CPOOL_EDNS_NOTFOUND, 90, 50));
  assert_int_equal(known->answer->answer.status, CPOOL_EDNS_NOTFOUND);
  assert_int_equal(state_of(f, "a.test", 139), CPOOL__DNS_GOOD);
  assert_int_equal(state_of(f, "a.test", 140), CPOOL__DNS_NOTHING); /* and is never stale */
  put(f, "b.test", 0, 100);
  assert_false(cannot_answer(ask(f, "b.test", CPOOL__FAMILY_V4), CPOOL_EDNS_NOTFOUND, 90, 0));
  assert_int_equal(cpool__dns_cache_count(&f->cache), 1);
}

static void failure_is_replaced_by_anything(void **state)
{
  struct fixture *f = *state;
  struct cpool__dns_known *known = ask(f, "a.test", CPOOL__FAMILY_V4);
  assert_false(cannot_answer(known, CPOOL_EDNS_FAILED, 0, 1000));
  known = ask(f, "a.test", CPOOL__FAMILY_V4);
  assert_false(cannot_answer(known, CPOOL_EDNS_NOTFOUND, 10, 1000));
  put(f, "a.test", 20, 1000);
  assert_int_equal(known->answer->answer.status, CPOOL_OK);
}

static void without_a_limit_for_stale_answers_there_are_none(void **state)
{
  struct fixture *f = *state;
  put(f, "a.test", 0, 100);
  struct cpool__dns_known *known = &get(f, "a.test")->known[CPOOL__FAMILY_V4];
  assert_int_equal(cpool__dns_known_state(known, 99, 0), CPOOL__DNS_GOOD);
  assert_int_equal(cpool__dns_known_state(known, 100, 0), CPOOL__DNS_NOTHING);
  assert_int_equal(cpool__dns_known_state(known, 100, -1), CPOOL__DNS_NOTHING);
}

/* ---- bounds */

static bool is_kept(struct fixture *f, const char *text)
{
  int64_t before = cpool__dns_cache_count(&f->cache);
  struct cpool__dns_name *name = NULL;
  int64_t bound = f->cache.max_names;
  f->cache.max_names = -1;
  assert_int_equal(cpool__dns_cache_get(&f->cache, text, &name), CPOOL_OK);
  f->cache.max_names = bound;
  bool kept = cpool__dns_cache_count(&f->cache) == before;
  cpool__dns_name_tidy(name);
  return kept;
}

static void longest_unused_name_is_evicted_first(void **state)
{
  struct fixture *f = *state;
  char name[32];
  for (int i = 0; i < MAX_NAMES; i++) {
    snprintf(name, sizeof name, "n%d.test", i);
    put(f, name, 0, 1000);
  }
  (void) get(f, "n0.test");
  put(f, "new.test", 1, 1000);
  assert_true(is_kept(f, "n0.test"));
  assert_false(is_kept(f, "n1.test"));
  assert_true(is_kept(f, "n2.test"));
  assert_int_equal(cpool__dns_cache_count(&f->cache), MAX_NAMES);
}

static void names_being_asked_for_are_never_evicted(void **state)
{
  struct fixture *f = *state;
  struct cpool__dns_known *asked[MAX_NAMES];
  struct cpool__dns_name *extra = NULL;
  char name[32];
  for (int i = 0; i < MAX_NAMES; i++) {
    snprintf(name, sizeof name, "n%d.test", i);
    asked[i] = ask(f, name, i % 2 == 0 ? CPOOL__FAMILY_V4 : CPOOL__FAMILY_V6);
  }
  assert_int_equal(cpool__dns_cache_get(&f->cache, "extra.test", &extra), CPOOL_EFULL);
  assert_null(extra);
  cpool__dns_cache_set_max(&f->cache, 1);
  assert_int_equal(cpool__dns_cache_count(&f->cache), MAX_NAMES);
  for (int i = 0; i < MAX_NAMES; i++)
    answer(asked[i], 0, 100);
  put(f, "last.test", 0, 100);
  assert_int_equal(cpool__dns_cache_count(&f->cache), 1);
  assert_int_equal(state_of(f, "last.test", 0), CPOOL__DNS_GOOD);
}

static void ten_thousand_names_stay_within_the_bound(void **state)
{
  struct fixture *f = *state;
  cpool__dns_cache_set_max(&f->cache, 100);
  char name[32];
  for (int i = 0; i < 10000; i++) {
    snprintf(name, sizeof name, "name-%d.test", i);
    put(f, name, (uint64_t) i, 60000);
    assert_in_range(cpool__dns_cache_count(&f->cache), 1, 100);
  }
  assert_true(is_kept(f, "name-9999.test"));
  assert_true(is_kept(f, "name-9900.test"));
  assert_false(is_kept(f, "name-9899.test"));
}

static void negative_bound_is_no_bound(void **state)
{
  struct fixture *f = *state;
  cpool__dns_cache_set_max(&f->cache, -1);
  char name[32];
  for (int i = 0; i < 1000; i++) {
    snprintf(name, sizeof name, "name-%d.test", i);
    put(f, name, 0, 60000);
  }
  assert_int_equal(cpool__dns_cache_count(&f->cache), 1000);
}

static void addresses_beyond_the_bound_are_dropped(void **state)
{
  (void) state;
  struct cpool__address many[CPOOL__DNS_ADDRESSES + 8];
  for (int i = 0; i < CPOOL__DNS_ADDRESSES + 8; i++)
    assert_true(cpool__address_parse(&many[i], "192.0.2.1", (uint16_t) i));
  struct cpool__dns_record *record = cpool__dns_record_new(CPOOL__FAMILY_V6);
  cpool__dns_record_answer(record, CPOOL_OK, 0, many, CPOOL__DNS_ADDRESSES + 8);
  assert_int_equal(record->answer.count, CPOOL__DNS_ADDRESSES);
  cpool__dns_record_drop(record);
}

static void *no_memory(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0)
    free(ptr);
  return NULL;
}

static void short_memory_is_an_answer_too(void **state)
{
  struct fixture *f = *state;
  struct cpool__dns_known *known = ask(f, "a.test", CPOOL__FAMILY_V4);
  struct cpool__dns_record *record = known->asked;
  struct cpool__dns_name *none = NULL;
  cpool__dns_record_hold(record);
  cpool__memory_hook(no_memory, NULL);
  struct cpool__address address;
  assert_true(cpool__address_parse(&address, "192.0.2.1", 0));
  cpool__dns_record_answer(record, CPOOL_OK, 0, &address, 1);
  assert_null(cpool__dns_record_new(CPOOL__FAMILY_V4));
  assert_int_equal(cpool__dns_cache_get(&f->cache, "b.test", &none), CPOOL_ENOMEM);
  cpool__memory_hook(NULL, NULL);
  assert_int_equal(record->answer.status, CPOOL_ENOMEM);
  assert_int_equal(record->answer.count, 0);
  assert_false(cpool__dns_known_answered(known, 0, 0, STALE_MS, 0));
  cpool__dns_name_tidy(known->name);
  assert_int_equal(cpool__dns_cache_count(&f->cache), 0);
  cpool__dns_record_drop(record);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(answer_is_good_for_its_time_then_stale_then_nothing),
      CASE(answer_without_time_is_not_kept),
      CASE(families_of_a_name_are_apart),
      CASE(name_being_asked_for_is_shared),
      CASE(reader_keeps_what_the_cache_lets_go),
      CASE(failure_leaves_the_answer_until_its_last_moment),
      CASE(no_such_name_is_an_answer),
      CASE(failure_is_replaced_by_anything),
      CASE(without_a_limit_for_stale_answers_there_are_none),
      CASE(longest_unused_name_is_evicted_first),
      CASE(names_being_asked_for_are_never_evicted),
      CASE(ten_thousand_names_stay_within_the_bound),
      CASE(negative_bound_is_no_bound),
      CASE(addresses_beyond_the_bound_are_dropped),
      CASE(short_memory_is_an_answer_too),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
