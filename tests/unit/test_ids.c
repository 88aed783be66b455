/* test_ids: a handle matches its object while it is taken, and never again */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "core/ids.h"

static int ids_set_up(void **state)
{
  struct cpool__ids *ids = malloc(sizeof *ids);
  if (ids == NULL)
    return -1;
  memset(ids, 0xa5, sizeof *ids); /* init may not rely on zeroes */
  cpool__ids_init(ids, 7);
  *state = ids;
  return 0;
}

static int ids_tear_down(void **state)
{
  cpool__ids_fini(*state);
  free(*state);
  return 0;
}

static void taken_handle_gives_its_object(void **state)
{
  struct cpool__ids *ids = *state;
  int object;
  uint64_t id = cpool__ids_take(ids, &object);
  assert_true(id != 0);
  assert_int_equal(id >> 56, 7);
  assert_true((uint32_t) id % 2 == 1);
  assert_true(cpool__ids_valid(ids, id));
  assert_ptr_equal(cpool__ids_get(ids, id), &object);
}

static void given_handle_is_stale_for_ever(void **state)
{
  struct cpool__ids *ids = *state;
  int old_object, new_object;
  uint64_t first = cpool__ids_take(ids, &old_object);
  cpool__ids_give(ids, first);
  assert_false(cpool__ids_valid(ids, first));
  assert_false(cpool__ids_valid(ids, first + 1)); /* the free slot's own count */
  for (int i = 0; i < 1000; i++) {
    uint64_t id = cpool__ids_take(ids, &new_object);
    assert_int_equal(id >> 32, first >> 32); /* the slot is used again */
    assert_true(id != first);
    assert_false(cpool__ids_valid(ids, first));
    assert_null(cpool__ids_get(ids, first));
    cpool__ids_give(ids, id);
  }
}

static void wrong_numbers_name_nothing(void **state)
{
  struct cpool__ids *ids = *state;
  int object;
  uint64_t id = cpool__ids_take(ids, &object);
  const uint64_t wrong[] = {
      0,      UINT64_MAX, id ^ (uint64_t) 1 << 56, id ^ (uint64_t) 1 << 32,    id ^ (uint64_t) 1 << 50, id + 1,
      id - 1, id + 2,     id & 0xffffffff,         id & ~(uint64_t) 0xffffffff};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    assert_false(cpool__ids_valid(ids, wrong[i]));
    assert_null(cpool__ids_get(ids, wrong[i]));
  }
  assert_true(cpool__ids_valid(ids, id));
}

static void tables_do_not_know_each_others_handles(void **state)
{
  struct cpool__ids *ids = *state, other;
  int object, matches = 0;
  for (int i = 0; i < 16; i++) { /* first generations are random: one match in 2^31 */
    cpool__ids_init(&other, 7);
    uint64_t id = cpool__ids_take(&other, &object);
    matches += cpool__ids_valid(ids, id);
    cpool__ids_fini(&other);
  }
  assert_int_equal(matches, 0);
}

static void generation_wraps_without_becoming_invalid(void **state)
{
  struct cpool__ids *ids = *state;
  int object;
  uint64_t first = cpool__ids_take(ids, &object);
  cpool__ids_give(ids, first);
  /* As after 2^31 - 1 uses of the slot. */
  struct cpool__id_slot *slots = atomic_load(&ids->chunks[0]);
  atomic_store(&slots[first >> 32 & 0xffffff].uses, UINT32_MAX - 1);
  uint64_t last = cpool__ids_take(ids, &object);
  assert_true(cpool__ids_valid(ids, last));
  cpool__ids_give(ids, last);
  assert_false(cpool__ids_valid(ids, last));
  uint64_t wrapped = cpool__ids_take(ids, &object);
  assert_true(wrapped != 0 && wrapped != last);
  assert_true((uint32_t) wrapped % 2 == 1);
  assert_true(cpool__ids_valid(ids, wrapped));
  assert_false(cpool__ids_valid(ids, last));
}

static void many_handles_live_side_by_side(void **state)
{
  struct cpool__ids *ids = *state;
  enum { MANY = 100000 }; /* over seven chunks */
  static uint64_t taken[MANY];
  static char objects[MANY];
  for (int i = 0; i < MANY; i++) {
    taken[i] = cpool__ids_take(ids, &objects[i]);
    assert_true(taken[i] != 0);
  }
  for (int i = 0; i < MANY; i++)
    assert_ptr_equal(cpool__ids_get(ids, taken[i]), &objects[i]);
  for (int i = 0; i < MANY; i += 2)
    cpool__ids_give(ids, taken[i]);
  for (int i = 0; i < MANY; i++)
    assert_int_equal(cpool__ids_valid(ids, taken[i]), i % 2);
  uint32_t slots = atomic_load(&ids->slot_count);
  for (int i = 0; i < MANY; i += 2)
    taken[i] = cpool__ids_take(ids, &objects[i]);
  assert_int_equal(atomic_load(&ids->slot_count), slots); /* freed slots came first */
  for (int i = 0; i < MANY; i++)
    assert_ptr_equal(cpool__ids_get(ids, taken[i]), &objects[i]);
}

/* What a popper remembers of the stack must not come back while it hesitates (ABA). */
static void free_stack_never_looks_the_same_twice(void **state)
{
  struct cpool__ids *ids = *state;
  int object;
  cpool__ids_give(ids, cpool__ids_take(ids, &object));
  uint64_t before = atomic_load(&ids->free_head);
  cpool__ids_give(ids, cpool__ids_take(ids, &object));
  uint64_t after = atomic_load(&ids->free_head);
  assert_true((uint32_t) before == (uint32_t) after); /* the same slot on top */
  assert_true(before != after);
}

/* The last slot of the last chunk, without a table of that size. */
static void slots_end_below_their_24_bits(void **state)
{
  struct cpool__ids *ids = *state;
  int object;
  assert_true(CPOOL__IDS_SLOTS < 1 << 24);
  atomic_store(&ids->slot_count, CPOOL__IDS_SLOTS - 1);
  uint64_t last = cpool__ids_take(ids, &object);
  assert_int_equal(last >> 32 & 0xffffff, CPOOL__IDS_SLOTS - 1);
  assert_ptr_equal(cpool__ids_get(ids, last), &object);
  assert_true(cpool__ids_take(ids, &object) == 0);
  cpool__ids_give(ids, last);
  assert_true(cpool__ids_take(ids, &object) != 0);
}

static void *no_memory(void *context, void *ptr, size_t size)
{
  (void) context;
  (void) ptr;
  (void) size;
  return NULL;
}

static void out_of_memory_is_no_handle_and_passes(void **state)
{
  struct cpool__ids *ids = *state;
  int object;
  cpool__memory_hook(no_memory, NULL);
  uint64_t refused = cpool__ids_take(ids, &object);
  cpool__memory_hook(NULL, NULL);
  assert_true(refused == 0);
  assert_true(cpool__ids_take(ids, &object) != 0);
}

enum { THREADS = 4, ROUNDS = 3000, HELD = 12 };

struct worker {
  struct cpool__ids *ids;
  _Atomic uint64_t *published; /* handles that other threads look at */
  int index;
  int wrong;
};

/* Takers free what they took themselves, as a submit that fails does; meanwhile the others check handles, stale ones
 * among them. */
static void *take_and_give(void *arg)
{
  struct worker *worker = arg;
  uint64_t held[HELD];
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < HELD; i++) {
      held[i] = cpool__ids_take(worker->ids, &held[i]);
      worker->wrong += held[i] == 0;
      atomic_store(&worker->published[worker->index], held[i]);
      (void) cpool__ids_valid(worker->ids, atomic_load(&worker->published[(worker->index + i) % THREADS]));
    }
    for (int i = 0; i < HELD; i++) { /* two takers of one slot would see each other's object */
      worker->wrong += cpool__ids_get(worker->ids, held[i]) != &held[i];
      cpool__ids_give(worker->ids, held[i]);
      worker->wrong += cpool__ids_valid(worker->ids, held[i]);
    }
  }
  return NULL;
}

static void threads_never_share_a_handle(void **state)
{
  struct cpool__ids *ids = *state;
  _Atomic uint64_t published[THREADS] = {0};
  struct worker workers[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (struct worker){ids, published, i, 0};
    assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &workers[i]), 0);
  }
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_join(threads[i], NULL), 0);
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(workers[i].wrong, 0);
  assert_true(atomic_load(&ids->slot_count) <= THREADS * HELD);
}

#define IDS_TEST(name) cmocka_unit_test_setup_teardown(name, ids_set_up, ids_tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      IDS_TEST(taken_handle_gives_its_object),
      IDS_TEST(given_handle_is_stale_for_ever),
      IDS_TEST(wrong_numbers_name_nothing),
      IDS_TEST(tables_do_not_know_each_others_handles),
      IDS_TEST(generation_wraps_without_becoming_invalid),
      IDS_TEST(many_handles_live_side_by_side),
      IDS_TEST(free_stack_never_looks_the_same_twice),
      IDS_TEST(slots_end_below_their_24_bits),
      IDS_TEST(out_of_memory_is_no_handle_and_passes),
      IDS_TEST(threads_never_share_a_handle),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
