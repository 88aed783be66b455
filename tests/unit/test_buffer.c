/* test_buffer: growth, the cap, and an unchanged buffer on failure */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"

static void *refuse(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0)
    free(ptr);
  return NULL;
}

static int hook_off(void **state)
{
  (void) state;
  cpool__memory_hook(NULL, NULL);
  return 0;
}

static void keeps_what_was_appended_in_order(void **state)
{
  (void) state;
  struct cpool__buffer buffer = {0};
  char piece[37];
  size_t total = 0;
  for (size_t i = 0; i < 1000; i++) {
    size_t len = i % sizeof piece;
    memset(piece, (int) (i & 0x7f), sizeof piece);
    assert_int_equal(cpool__buffer_append(&buffer, piece, len, SIZE_MAX), CPOOL__BUFFER_OK);
    total += len;
    assert_int_equal(buffer.len, total);
    assert_true(buffer.capacity >= buffer.len);
  }
  size_t at = 0;
  for (size_t i = 0; i < 1000; i++)
    for (size_t j = 0; j < i % sizeof piece; j++)
      assert_int_equal(buffer.data[at++], (int) (i & 0x7f));
  cpool__buffer_fini(&buffer);
  assert_null(buffer.data);
  assert_int_equal(buffer.len + buffer.capacity, 0);
}

static void growth_is_by_doubling(void **state)
{
  (void) state;
  struct cpool__buffer buffer = {0};
  int changes = 0;
  size_t capacity = 0;
  for (size_t i = 0; i < 1 << 20; i++) {
    assert_int_equal(cpool__buffer_append(&buffer, "x", 1, SIZE_MAX), CPOOL__BUFFER_OK);
    if (buffer.capacity != capacity)
      changes++;
    capacity = buffer.capacity;
  }
  assert_in_range(changes, 2, 21);
  assert_true(buffer.capacity <= 2 * buffer.len);
  cpool__buffer_fini(&buffer);
}

static void the_cap_is_reached_exactly_and_never_passed(void **state)
{
  (void) state;
  struct cpool__buffer buffer = {0};
  const char bytes[700] = {0};
  assert_int_equal(cpool__buffer_append(&buffer, bytes, 700, 699), CPOOL__BUFFER_OVER_CAP);
  assert_null(buffer.data);
  assert_int_equal(cpool__buffer_append(&buffer, bytes, 690, 700), CPOOL__BUFFER_OK);
  assert_int_equal(cpool__buffer_append(&buffer, bytes, 11, 700), CPOOL__BUFFER_OVER_CAP);
  assert_int_equal(buffer.len, 690);
  assert_int_equal(cpool__buffer_append(&buffer, bytes, 10, 700), CPOOL__BUFFER_OK);
  assert_int_equal(buffer.len, 700);
  assert_true(buffer.capacity <= 700); /* no memory beyond the cap either */
  assert_int_equal(cpool__buffer_append(&buffer, bytes, 1, 700), CPOOL__BUFFER_OVER_CAP);
  assert_int_equal(cpool__buffer_append(&buffer, bytes, 1, 100), CPOOL__BUFFER_OVER_CAP); /* a cap lowered meanwhile */
  assert_int_equal(cpool__buffer_append(&buffer, bytes, SIZE_MAX, SIZE_MAX), CPOOL__BUFFER_OVER_CAP);
  cpool__buffer_fini(&buffer);
}

static void nothing_appended_is_fine(void **state)
{
  (void) state;
  struct cpool__buffer buffer = {0};
  assert_int_equal(cpool__buffer_append(&buffer, NULL, 0, 0), CPOOL__BUFFER_OK);
  assert_null(buffer.data);
  cpool__buffer_fini(&buffer);
}

static void reserve_spares_the_growth(void **state)
{
  (void) state;
  struct cpool__buffer buffer = {0};
  assert_int_equal(cpool__buffer_reserve(&buffer, 10000), CPOOL__BUFFER_OK);
  assert_true(buffer.capacity >= 10000);
  const char *data = buffer.data;
  for (int i = 0; i < 10000; i++)
    assert_int_equal(cpool__buffer_append(&buffer, "y", 1, SIZE_MAX), CPOOL__BUFFER_OK);
  assert_ptr_equal(buffer.data, data);
  assert_int_equal(cpool__buffer_reserve(&buffer, 5), CPOOL__BUFFER_OK);
  assert_int_equal(buffer.len, 10000);
  cpool__buffer_fini(&buffer);
}

static void shortage_leaves_the_buffer_as_it_was(void **state)
{
  (void) state;
  struct cpool__buffer buffer = {0};
  assert_int_equal(cpool__buffer_append(&buffer, "kept", 4, SIZE_MAX), CPOOL__BUFFER_OK);
  struct cpool__buffer before = buffer;
  char more[4096] = {0};
  cpool__memory_hook(refuse, NULL);
  assert_int_equal(cpool__buffer_append(&buffer, more, sizeof more, SIZE_MAX), CPOOL__BUFFER_NO_MEMORY);
  assert_int_equal(cpool__buffer_reserve(&buffer, sizeof more), CPOOL__BUFFER_NO_MEMORY);
  assert_ptr_equal(buffer.data, before.data);
  assert_int_equal(buffer.len, before.len);
  assert_int_equal(buffer.capacity, before.capacity);
  assert_memory_equal(buffer.data, "kept", 4);
  cpool__buffer_fini(&buffer);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keeps_what_was_appended_in_order),
      cmocka_unit_test(growth_is_by_doubling),
      cmocka_unit_test(the_cap_is_reached_exactly_and_never_passed),
      cmocka_unit_test(nothing_appended_is_fine),
      cmocka_unit_test(reserve_spares_the_growth),
      cmocka_unit_test_teardown(shortage_leaves_the_buffer_as_it_was, hook_off),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
