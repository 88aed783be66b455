/* test_structs: callers older and newer than the library are understood, and never overrun */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <cpool.h>

#include "core/structs.h"

struct own {
  size_t size;
  int64_t a, b;
};

struct newer {
  struct own own;
  int64_t c;
};

static void read_of_equal_size_copies_all(void **state)
{
  (void) state;
  struct own own, caller = {sizeof caller, 1, 2};
  assert_int_equal(cpool__struct_read(&own, sizeof own, &caller, "thing"), CPOOL_OK);
  assert_memory_equal(&own, &caller, sizeof own);
}

static void older_caller_misses_fields_that_become_zero(void **state)
{
  (void) state;
  struct own own, caller = {offsetof(struct own, b), 1, 2};
  memset(&own, 0x5a, sizeof own);
  assert_int_equal(cpool__struct_read(&own, sizeof own, &caller, "thing"), CPOOL_OK);
  assert_int_equal(own.size, sizeof own);
  assert_int_equal(own.a, 1);
  assert_int_equal(own.b, 0);
}

static void newer_caller_is_served_until_it_sets_an_unknown_field(void **state)
{
  (void) state;
  struct own own, before;
  struct newer caller = {{sizeof caller, 1, 2}, 0};
  assert_int_equal(cpool__struct_read(&own, sizeof own, &caller, "thing"), CPOOL_OK);
  assert_int_equal(own.size, sizeof own);
  assert_int_equal(own.b, 2);
  caller.c = 1;
  before = own;
  assert_int_equal(cpool__struct_read(&own, sizeof own, &caller, "thing"), CPOOL_EINVAL);
  assert_memory_equal(&own, &before, sizeof own);
  cpool_error err;
  cpool_error_init(&err);
  assert_int_equal(cpool_last_error(&err), CPOOL_OK);
  assert_non_null(strstr(err.text, "thing"));
  assert_non_null(strstr(err.text, "24"));
}

static void uninitialised_size_is_refused_and_not_followed(void **state)
{
  (void) state;
  struct own own, caller = {0, 1, 2};
  const size_t sizes[] = {0, 1, sizeof(size_t) - 1, SIZE_MAX, (size_t) 1 << 40};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    caller.size = sizes[i];
    assert_int_equal(cpool__struct_read(&own, sizeof own, &caller, "thing"), CPOOL_EINVAL);
    assert_int_equal(cpool__struct_write(&caller, &own, sizeof own, "thing"), CPOOL_EINVAL);
    assert_int_equal(caller.a, 1);
  }
  assert_int_equal(cpool__struct_read(&own, sizeof own, NULL, "thing"), CPOOL_EINVAL);
  assert_int_equal(cpool__struct_write(NULL, &own, sizeof own, "thing"), CPOOL_EINVAL);
}

static void write_stays_within_the_caller_and_keeps_its_size(void **state)
{
  (void) state;
  const struct own own = {sizeof own, 7, 8};
  struct own caller = {offsetof(struct own, b), 1, 2};
  assert_int_equal(cpool__struct_write(&caller, &own, sizeof own, "thing"), CPOOL_OK);
  assert_int_equal(caller.size, offsetof(struct own, b));
  assert_int_equal(caller.a, 7);
  assert_int_equal(caller.b, 2);
  struct newer newer = {{sizeof newer, 0, 0}, 5};
  assert_int_equal(cpool__struct_write(&newer, &own, sizeof own, "thing"), CPOOL_OK);
  assert_int_equal(newer.own.size, sizeof newer);
  assert_int_equal(newer.own.b, 8);
  assert_int_equal(newer.c, 5);
}

/* Whole and cut: the struct is zeroed up to the given size, and not a byte beyond. */
#define CHECK_INIT(type)                                                                                               \
  do {                                                                                                                 \
    struct {                                                                                                           \
      type value;                                                                                                      \
      unsigned char after[16];                                                                                         \
    } box;                                                                                                             \
    memset(&box, 0x5a, sizeof box);                                                                                    \
    type##_init(&box.value);                                                                                           \
    check_inited(&box.value, sizeof box.value, box.after[0]);                                                          \
    memset(&box, 0x5a, sizeof box);                                                                                    \
    type##_init_sized(&box.value, sizeof(size_t) + 4);                                                                 \
    check_inited(&box.value, sizeof(size_t) + 4, ((unsigned char *) &box.value)[sizeof(size_t) + 4]);                  \
    memset(&box, 0x5a, sizeof box);                                                                                    \
    type##_init_sized(&box.value, sizeof(size_t) - 1);                                                                 \
    assert_int_equal(*(unsigned char *) &box.value, 0x5a);                                                             \
    type##_init_sized(NULL, sizeof(type));                                                                             \
  } while (0)

static void check_inited(const void *value, size_t size, unsigned char after)
{
  size_t recorded;
  memcpy(&recorded, value, sizeof recorded);
  assert_int_equal(recorded, size);
  for (size_t at = sizeof recorded; at < size; at++)
    assert_int_equal(((const unsigned char *) value)[at], 0);
  assert_int_equal(after, 0x5a);
}

static void every_init_zeroes_its_size_and_no_more(void **state)
{
  (void) state;
  CHECK_INIT(cpool_error);
  CHECK_INIT(cpool_runtime_options);
  CHECK_INIT(cpool_queue_options);
  CHECK_INIT(cpool_http_options);
  CHECK_INIT(cpool_http_stats);
  CHECK_INIT(cpool_histogram);
  CHECK_INIT(cpool_session_options);
  CHECK_INIT(cpool_request);
  CHECK_INIT(cpool_response_info);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(read_of_equal_size_copies_all),
      cmocka_unit_test(older_caller_misses_fields_that_become_zero),
      cmocka_unit_test(newer_caller_is_served_until_it_sets_an_unknown_field),
      cmocka_unit_test(uninitialised_size_is_refused_and_not_followed),
      cmocka_unit_test(write_stays_within_the_caller_and_keeps_its_size),
      cmocka_unit_test(every_init_zeroes_its_size_and_no_more),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
