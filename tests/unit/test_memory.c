/* test_memory: sizes are checked, and the hook sees every allocation */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"

struct counting {
  int allocations, resizes, frees;
  size_t last_size;
  int refuse; /* answer NULL to whatever asks for memory */
};

static void *counting_realloc(void *context, void *ptr, size_t size)
{
  struct counting *counting = context;
  if (size == 0) {
    counting->frees++;
    free(ptr);
    return NULL;
  }
  counting->last_size = size;
  if (counting->refuse)
    return NULL;
  *(ptr == NULL ? &counting->allocations : &counting->resizes) += 1;
  void *fresh = realloc(ptr, size);
  if (fresh != NULL && ptr == NULL)
    memset(fresh, 0xa5, size); /* nobody may rely on zeroes */
  return fresh;
}

static int hook_on(void **state)
{
  static struct counting counting;
  counting = (struct counting){0};
  *state = &counting;
  cpool__memory_hook(counting_realloc, &counting);
  return 0;
}

static int hook_off(void **state)
{
  (void) state;
  cpool__memory_hook(NULL, NULL);
  return 0;
}

static void round_trip(void)
{
  char *text = cpool__strdup("origin");
  assert_string_equal(text, "origin");
  text = cpool__realloc(text, 4096);
  assert_non_null(text);
  assert_string_equal(text, "origin");
  cpool__free(text);

  unsigned char *zeroes = cpool__calloc(33, 31);
  assert_non_null(zeroes);
  for (size_t i = 0; i < 33 * 31; i++)
    assert_int_equal(zeroes[i], 0);
  cpool__free(zeroes);
}

static void works_on_the_c_library_without_a_hook(void **state)
{
  (void) state;
  round_trip();
}

static void the_hook_sees_every_call(void **state)
{
  struct counting *counting = *state;
  round_trip();
  assert_int_equal(counting->allocations, 2);
  assert_int_equal(counting->resizes, 1);
  assert_int_equal(counting->frees, 2);
}

static void size_zero_is_asked_as_one(void **state)
{
  struct counting *counting = *state;
  void *blocks[] = {cpool__malloc(0), cpool__calloc(0, 8), cpool__calloc(8, 0), cpool__realloc(NULL, 0)};
  for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
    assert_non_null(blocks[i]);
    blocks[i] = cpool__realloc(blocks[i], 0); /* not a free */
    assert_non_null(blocks[i]);
    assert_int_equal(counting->last_size, 1);
    cpool__free(blocks[i]);
  }
  assert_int_equal(counting->allocations, 4);
  assert_int_equal(counting->frees, 4);
}

static void size_zero_gives_a_block_without_a_hook(void **state)
{
  (void) state;
  void *blocks[] = {cpool__malloc(0), cpool__calloc(0, 8), cpool__realloc(NULL, 0)};
  for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
    assert_non_null(blocks[i]);
    cpool__free(blocks[i]);
  }
}

static void calloc_refuses_an_overflow_before_it_asks(void **state)
{
  struct counting *counting = *state;
  volatile size_t half = SIZE_MAX / 2 + 1; /* volatile: the compiler would warn of the size */
  assert_null(cpool__calloc(half, 2));
  assert_null(cpool__calloc(2, half));
  assert_null(cpool__calloc(half, half));
  assert_int_equal(counting->last_size, 0);
  cpool__memory_hook(NULL, NULL);
  assert_null(cpool__calloc(half, 2));
}

static void shortage_is_null_and_keeps_the_old_block(void **state)
{
  struct counting *counting = *state;
  char *text = cpool__strdup("kept");
  counting->refuse = 1;
  assert_null(cpool__malloc(1));
  assert_null(cpool__calloc(1, 1));
  assert_null(cpool__strdup("x"));
  assert_null(cpool__realloc(text, 100));
  assert_string_equal(text, "kept");
  cpool__free(text);
  assert_int_equal(counting->allocations, 1);
  assert_int_equal(counting->frees, 1);
}

static void null_is_legal_where_the_header_says_so(void **state)
{
  struct counting *counting = *state;
  cpool__free(NULL);
  assert_null(cpool__strdup(NULL));
  assert_int_equal(counting->frees + counting->allocations, 0);
}

static void a_null_hook_restores_the_c_library(void **state)
{
  struct counting *counting = *state;
  cpool__memory_hook(NULL, NULL);
  cpool__free(cpool__malloc(10));
  assert_int_equal(counting->allocations, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(works_on_the_c_library_without_a_hook),
      cmocka_unit_test_setup_teardown(the_hook_sees_every_call, hook_on, hook_off),
      cmocka_unit_test_setup_teardown(size_zero_is_asked_as_one, hook_on, hook_off),
      cmocka_unit_test(size_zero_gives_a_block_without_a_hook),
      cmocka_unit_test_setup_teardown(calloc_refuses_an_overflow_before_it_asks, hook_on, hook_off),
      cmocka_unit_test_setup_teardown(shortage_is_null_and_keeps_the_old_block, hook_on, hook_off),
      cmocka_unit_test_setup_teardown(null_is_legal_where_the_header_says_so, hook_on, hook_off),
      cmocka_unit_test_setup_teardown(a_null_hook_restores_the_c_library, hook_on, hook_off),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
