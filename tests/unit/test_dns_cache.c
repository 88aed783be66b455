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

enum { MAX_NAMES = 4 };

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

/* Asked for, in the cache, the caller's reference given. */
static struct cpool__dns_record *ask(struct fixture *f, const char *name, enum cpool__family family)
{
  struct cpool__dns_record *record = cpool__dns_record_new(name, family);
  assert_non_null(record);
  assert_int_equal(cpool__dns_cache_add(&f->cache, record), CPOOL_OK);
  return record;
}

static void answer(struct fixture *f, struct cpool__dns_record *record, uint64_t now, int64_t ttl_ms)
{
  struct cpool__address address;
  assert_true(cpool__address_parse(&address, "192.0.2.1", 0));
  cpool__dns_record_answer(record, CPOOL_OK, 0, &address, 1);
  cpool__dns_cache_answered(&f->cache, record, now, ttl_ms);
}

static void put(struct fixture *f, const char *name, uint64_t now, int64_t ttl_ms)
{
  struct cpool__dns_record *record = ask(f, name, CPOOL__FAMILY_V4);
  answer(f, record, now, ttl_ms);
  cpool__dns_record_drop(record);
}

static struct cpool__dns_record *find(struct fixture *f, const char *name, uint64_t now)
{
  return cpool__dns_cache_find(&f->cache, name, CPOOL__FAMILY_V4, now);
}

static void answer_lives_for_its_time_and_not_longer(void **state)
{
  struct fixture *f = *state;
  put(f, "a.test", 1000, 50);
  assert_non_null(find(f, "a.test", 1000));
  assert_non_null(find(f, "a.test", 1049));
  assert_null(find(f, "a.test", 1050));
  assert_int_equal(cpool__dns_cache_count(&f->cache), 0);
}

static void answer_without_time_is_not_kept(void **state)
{
  struct fixture *f = *state;
  put(f, "a.test", 1000, 0);
  assert_null(find(f, "a.test", 1000));
  assert_int_equal(cpool__dns_cache_count(&f->cache), 0);
}

static void families_of_a_name_are_apart(void **state)
{
  struct fixture *f = *state;
  put(f, "a.test", 0, 100);
  assert_null(cpool__dns_cache_find(&f->cache, "a.test", CPOOL__FAMILY_V6, 0));
  assert_non_null(find(f, "a.test", 0));
  assert_string_equal(cpool__dns_record_name(find(f, "a.test", 0)), "a.test");
  assert_int_equal(cpool__dns_record_family(find(f, "a.test", 0)), CPOOL__FAMILY_V4);
}

static void record_being_asked_for_is_shared(void **state)
{
  struct fixture *f = *state;
  struct cpool__dns_record *record = ask(f, "a.test", CPOOL__FAMILY_V4);
  assert_ptr_equal(find(f, "a.test", 5), record);
  assert_ptr_equal(find(f, "a.test", UINT64_MAX), record);
  answer(f, record, 10, 5);
  assert_ptr_equal(find(f, "a.test", 14), record);
  cpool__dns_record_drop(record);
}

static void reader_keeps_what_the_cache_lets_go(void **state)
{
  struct fixture *f = *state;
  struct cpool__dns_record *record = ask(f, "a.test", CPOOL__FAMILY_V4);
  answer(f, record, 0, 10);
  assert_null(find(f, "a.test", 10));
  assert_int_equal(record->answer.count, 1);
  char text[CPOOL__ADDRESS_TEXT];
  cpool__address_host_text(&record->answer.addresses[0], text);
  assert_string_equal(text, "192.0.2.1");
  cpool__dns_record_drop(record);
}

static void longest_unused_answer_is_evicted_first(void **state)
{
  struct fixture *f = *state;
  char name[32];
  for (int i = 0; i < 2 * MAX_NAMES; i++) {
    snprintf(name, sizeof name, "n%d.test", i);
    put(f, name, 0, 1000);
  }
  assert_non_null(find(f, "n0.test", 1));
  put(f, "new.test", 1, 1000);
  assert_non_null(find(f, "n0.test", 1));
  assert_null(find(f, "n1.test", 1));
  assert_non_null(find(f, "n2.test", 1));
  assert_int_equal(cpool__dns_cache_count(&f->cache), 2 * MAX_NAMES);
}

static void records_being_asked_for_are_never_evicted(void **state)
{
  struct fixture *f = *state;
  struct cpool__dns_record *asked[2 * MAX_NAMES];
  char name[32];
  for (int i = 0; i < 2 * MAX_NAMES; i++) {
    snprintf(name, sizeof name, "n%d.test", i);
    asked[i] = ask(f, name, CPOOL__FAMILY_V4);
  }
  struct cpool__dns_record *extra = cpool__dns_record_new("extra.test", CPOOL__FAMILY_V4);
  assert_int_equal(cpool__dns_cache_add(&f->cache, extra), CPOOL_EFULL);
  cpool__dns_cache_set_max(&f->cache, 1);
  assert_int_equal(cpool__dns_cache_count(&f->cache), 2 * MAX_NAMES);
  answer(f, extra, 0, 100); /* one that the cache did not take may be answered all the same */
  assert_null(find(f, "extra.test", 0));
  cpool__dns_record_drop(extra);
  for (int i = 0; i < 2 * MAX_NAMES; i++) {
    answer(f, asked[i], 0, 100);
    cpool__dns_record_drop(asked[i]);
  }
  put(f, "last.test", 0, 100);
  assert_int_equal(cpool__dns_cache_count(&f->cache), 2);
  assert_non_null(find(f, "last.test", 0));
}

static void ten_thousand_names_stay_within_the_bound(void **state)
{
  struct fixture *f = *state;
  cpool__dns_cache_set_max(&f->cache, 100);
  char name[32];
  for (int i = 0; i < 10000; i++) {
    snprintf(name, sizeof name, "name-%d.test", i);
    put(f, name, (uint64_t) i, 60000);
    assert_in_range(cpool__dns_cache_count(&f->cache), 1, 200);
  }
  assert_non_null(find(f, "name-9999.test", 10000));
  assert_non_null(find(f, "name-9800.test", 10000));
  assert_null(find(f, "name-9799.test", 10000));
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
  struct cpool__dns_record *record = cpool__dns_record_new("a.test", CPOOL__FAMILY_V6);
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
  struct cpool__dns_record *record = ask(f, "a.test", CPOOL__FAMILY_V4);
  cpool__memory_hook(no_memory, NULL);
  answer(f, record, 0, 0);
  assert_null(cpool__dns_record_new("b.test", CPOOL__FAMILY_V4));
  cpool__memory_hook(NULL, NULL);
  assert_true(record->answer.ended);
  assert_int_equal(record->answer.status, CPOOL_ENOMEM);
  assert_int_equal(record->answer.count, 0);
  cpool__dns_record_drop(record);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(answer_lives_for_its_time_and_not_longer, setup, teardown),
      cmocka_unit_test_setup_teardown(answer_without_time_is_not_kept, setup, teardown),
      cmocka_unit_test_setup_teardown(families_of_a_name_are_apart, setup, teardown),
      cmocka_unit_test_setup_teardown(record_being_asked_for_is_shared, setup, teardown),
      cmocka_unit_test_setup_teardown(reader_keeps_what_the_cache_lets_go, setup, teardown),
      cmocka_unit_test_setup_teardown(longest_unused_answer_is_evicted_first, setup, teardown),
      cmocka_unit_test_setup_teardown(records_being_asked_for_are_never_evicted, setup, teardown),
      cmocka_unit_test_setup_teardown(ten_thousand_names_stay_within_the_bound, setup, teardown),
      cmocka_unit_test_setup_teardown(negative_bound_is_no_bound, setup, teardown),
      cmocka_unit_test_setup_teardown(addresses_beyond_the_bound_are_dropped, setup, teardown),
      cmocka_unit_test_setup_teardown(short_memory_is_an_answer_too, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
