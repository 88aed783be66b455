/* test_table: the hash against the published one, growth in small steps, and 200 000 random operations against a set */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/list.h"
#include "base/memory.h"
#include "base/table.h"

enum { ITEMS = 90000, SOME = 20000, OPERATIONS = 200000 };

struct item {
  struct cpool__table_entry entry;
  char key[32];
  bool in, met;
};

struct fixture {
  struct cpool__table table;
  struct item items[ITEMS];
  long blocks; /* allocated through the hook, not freed yet */
  long asked, made_smaller;
  bool refuse;
};

static int compared;

static struct item *item_of(const struct cpool__table_entry *entry)
{
  return cpool__container_of(entry, struct item, entry);
}

static int same_key(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct item *item = item_of(entry);
  compared++;
  return strlen(item->key) == len && memcmp(item->key, key, len) == 0;
}

static void *hook(void *context, void *ptr, size_t size)
{
  struct fixture *f = context;
  if (size == 0) {
    f->blocks--;
    free(ptr);
    return NULL;
  }
  f->asked++;
  if (f->refuse)
    return NULL;
  f->blocks += ptr == NULL;
  f->made_smaller += ptr != NULL;
  return realloc(ptr, size);
}

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL)
    return -1;
  cpool__memory_hook(hook, f);
  cpool__table_init(&f->table, same_key);
  for (int i = 0; i < ITEMS; i++)
    snprintf(f->items[i].key, sizeof f->items[i].key, "%.*shost-%d", i % 9, "wwwwwwww", i);
  *state = f;
  return 0;
}

/* Every block that the table took is given back. */
static int teardown(void **state)
{
  struct fixture *f = *state;
  cpool__table_fini(&f->table);
  cpool__table_fini(&f->table);
  long blocks = f->blocks;
  cpool__memory_hook(NULL, NULL);
  free(f);
  return blocks == 0 ? 0 : -1;
}

static int insert(struct fixture *f, int i)
{
  int result = cpool__table_insert(&f->table, &f->items[i].entry, f->items[i].key, strlen(f->items[i].key));
  f->items[i].in = result == 0;
  return result;
}

static void drop(struct fixture *f, int i)
{
  cpool__table_remove(&f->table, &f->items[i].entry);
  f->items[i].in = false;
}

static struct item *find(struct fixture *f, int i)
{
  struct cpool__table_entry *entry = cpool__table_find(&f->table, f->items[i].key, strlen(f->items[i].key));
  return entry == NULL ? NULL : item_of(entry);
}

/* A whole walk meets each item that is in once, and no other. */
static void check_walk(struct fixture *f)
{
  size_t met = 0, in = 0;
  for (int i = 0; i < ITEMS; i++)
    f->items[i].met = false;
  for (struct cpool__table_entry *entry = cpool__table_next(&f->table, NULL); entry != NULL;
       entry = cpool__table_next(&f->table, entry)) {
    struct item *item = item_of(entry);
    assert_true(item->in);
    assert_false(item->met);
    item->met = true;
    met++;
  }
  for (int i = 0; i < ITEMS; i++)
    in += f->items[i].in;
  assert_int_equal(met, in);
  assert_int_equal(f->table.count, in);
}

/* ---- the hash ---- */

/* SipHash as the paper words it, any number of rounds, a byte at a time. */
static uint64_t plain_siphash(int c, int d, const uint64_t key[2], const unsigned char *data, size_t len)
{
  uint64_t v0 = key[0] ^ 0x736f6d6570736575, v1 = key[1] ^ 0x646f72616e646f6d;
  uint64_t v2 = key[0] ^ 0x6c7967656e657261, v3 = key[1] ^ 0x7465646279746573;
  size_t words = len / 8 + 1;
  for (size_t w = 0; w <= words; w++) {
    uint64_t m = 0;
    if (w < words) {
      for (size_t b = 0; b < 8 && w * 8 + b < len; b++)
        m += (uint64_t) data[w * 8 + b] << (8 * b);
      if (w == words - 1)
        m += (uint64_t) (len % 256) << 56;
      v3 ^= m;
    } else {
      v2 ^= 0xff;
    }
    for (int round = 0; round < (w < words ? c : d); round++) {
      v0 += v1, v1 = (v1 << 13) + (v1 >> 51), v1 ^= v0, v0 = (v0 << 32) + (v0 >> 32);
      v2 += v3, v3 = (v3 << 16) + (v3 >> 48), v3 ^= v2;
      v0 += v3, v3 = (v3 << 21) + (v3 >> 43), v3 ^= v0;
      v2 += v1, v1 = (v1 << 17) + (v1 >> 47), v1 ^= v2, v2 = (v2 << 32) + (v2 >> 32);
    }
    v0 ^= m;
  }
  return v0 ^ v1 ^ v2 ^ v3;
}

static void siphash_is_the_published_function(void **state)
{
  (void) state;
  /* The paper's appendix and the first of its authors' test vectors, for 2-4: they check the plain form. */
  const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
  unsigned char data[300];
  for (size_t i = 0; i < sizeof data; i++)
    data[i] = (unsigned char) i;
  assert_true(plain_siphash(2, 4, key, data, 0) == 0x726fdb47dd0e0e31);
  assert_true(plain_siphash(2, 4, key, data, 1) == 0x74f839c593dc67fd);
  assert_true(plain_siphash(2, 4, key, data, 15) == 0xa129ca6149be45e5);

  /* CPython's hash of bytes is SipHash-1-3, under the key 0 with PYTHONHASHSEED=0. */
  const uint64_t zero[2] = {0, 0};
  assert_true(cpool__siphash(zero, "a", 1) == 0x407448d2b89b1813);
  assert_true(cpool__siphash(zero, "hello, w", 8) == 0x7b573ed2c3b4ab30);
  assert_true(cpool__siphash(zero, data, 15) == 0xf30eb725bb91c9ea);
  assert_true(cpool__siphash(zero, data, 64) == 0x75e05fd5bbc870c6);

  for (size_t offset = 0; offset < 8; offset++)
    for (size_t len = 0; len + offset <= sizeof data; len++)
      assert_true(cpool__siphash(key, data + offset, len) == plain_siphash(1, 3, key, data + offset, len));
}

static void no_two_tables_share_a_key(void **state)
{
  struct fixture *f = *state;
  struct cpool__table other;
  cpool__table_init(&other, same_key);
  assert_memory_not_equal(other.key, f->table.key, sizeof other.key);
  assert_true(other.key[0] != other.key[1]);
  cpool__table_fini(&other);
}

/* ---- the table ---- */

static void an_empty_table_takes_no_memory(void **state)
{
  struct fixture *f = *state;
  assert_null(find(f, 0));
  assert_null(cpool__table_next(&f->table, NULL));
  assert_int_equal(f->asked, 0);
}

static void finds_what_was_inserted_until_it_is_removed(void **state)
{
  struct fixture *f = *state;
  for (int i = 0; i < ITEMS; i++) {
    assert_null(find(f, i));
    assert_int_equal(insert(f, i), 0);
    assert_ptr_equal(find(f, i), &f->items[i]);
    assert_ptr_equal(find(f, i / 2), &f->items[i / 2]);
  }
  check_walk(f);
  for (int i = 0; i < ITEMS; i++) {
    drop(f, i);
    assert_null(find(f, i));
  }
  check_walk(f);
}

static void keys_are_bytes_of_a_given_length(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(insert(f, 10), 0);
  const char *key = f->items[10].key;
  assert_null(cpool__table_find(&f->table, key, strlen(key) - 1));
  assert_null(cpool__table_find(&f->table, key, 0));
  strcpy(f->items[11].key, "");
  assert_int_equal(insert(f, 11), 0);
  assert_ptr_equal(cpool__table_find(&f->table, "", 0), &f->items[11].entry);
}

static void keys_are_compared_only_when_the_whole_hash_agrees(void **state)
{
  struct fixture *f = *state;
  for (int i = 0; i < 5000; i++)
    assert_int_equal(insert(f, i), 0);
  compared = 0;
  for (int i = 5000; i < 10000; i++)
    assert_null(find(f, i));
  assert_int_equal(compared, 0);
  for (int i = 0; i < 5000; i++)
    assert_non_null(find(f, i));
  assert_int_equal(compared, 5000);
}

static void no_insertion_moves_more_than_a_few_buckets(void **state)
{
  struct fixture *f = *state;
  for (int i = 0; i < ITEMS; i++) {
    size_t before = f->table.old_buckets != NULL ? f->table.moved : 0;
    size_t old_buckets = f->table.old_buckets != NULL ? f->table.old_mask + 1 : 0;
    assert_int_equal(insert(f, i), 0);
    size_t after = f->table.old_buckets != NULL ? f->table.moved : old_buckets;
    assert_true(after <= before + 4);
    /* and the chains stay short all the same */
    assert_true(f->table.count <= f->table.mask + 2);
  }
  assert_true(f->table.mask + 1 >= ITEMS / 2);
}

/* From `from` until the old array is gone. */
static int grow_through(struct fixture *f, int from)
{
  int i = from;
  assert_int_equal(insert(f, i), 0);
  assert_non_null(f->table.old_buckets);
  for (i++; f->table.old_buckets != NULL; i++) {
    assert_int_equal(insert(f, i), 0);
    assert_ptr_equal(find(f, i / 2), &f->items[i / 2]);
  }
  return i;
}

static void a_large_old_array_is_given_back_in_steps(void **state)
{
  struct fixture *f = *state;
  for (int i = 0; i < 32768; i++)
    assert_int_equal(insert(f, i), 0);
  assert_int_equal(insert(f, 32768), 0);
  f->refuse = true; /* then it stays whole */
  int count = grow_through(f, 32769);
  f->refuse = false;
  assert_int_equal(f->made_smaller, 0);
  check_walk(f);
  for (int i = count; i < 65536; i++)
    assert_int_equal(insert(f, i), 0);
  count = grow_through(f, 65536);
  assert_int_equal(f->made_smaller, 3);
  check_walk(f);
  for (int i = 0; i < count; i++)
    assert_ptr_equal(find(f, i), &f->items[i]);
}

static void shortage_at_the_first_insertion_is_told(void **state)
{
  struct fixture *f = *state;
  f->refuse = true;
  assert_int_equal(insert(f, 0), -1);
  assert_int_equal(f->table.count, 0);
  assert_null(find(f, 0));
  f->refuse = false;
  assert_int_equal(insert(f, 0), 0);
  assert_ptr_equal(find(f, 0), &f->items[0]);
}

static void shortage_later_only_puts_growth_off(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(insert(f, 0), 0);
  f->refuse = true;
  for (int i = 1; i < 2000; i++)
    assert_int_equal(insert(f, i), 0);
  size_t mask = f->table.mask;
  check_walk(f);
  f->refuse = false;
  for (int i = 2000; i < 6000; i++)
    assert_int_equal(insert(f, i), 0);
  assert_true(f->table.mask > mask);
  assert_true(f->table.count <= 2 * (f->table.mask + 1));
  check_walk(f);
  for (int i = 0; i < 6000; i++)
    assert_ptr_equal(find(f, i), &f->items[i]);
}

static void a_walk_may_remove_behind_itself(void **state)
{
  struct fixture *f = *state;
  /* 16, 32, ... entries fill the array; one more starts to empty it, so that two arrays are walked. */
  const int counts[] = {1, 16, 17, 18, 1025, 1026, 1100, 9000};
  for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
    for (int i = 0; i < counts[c]; i++)
      assert_int_equal(insert(f, i), 0);
    int left = counts[c];
    struct cpool__table_entry *next = NULL;
    for (struct cpool__table_entry *entry = cpool__table_next(&f->table, NULL); entry != NULL; entry = next) {
      next = cpool__table_next(&f->table, entry);
      drop(f, (int) (item_of(entry) - f->items));
      left--;
    }
    assert_int_equal(left, 0);
    check_walk(f);
  }
}

static void agrees_with_a_plain_set(void **state)
{
  struct fixture *f = *state;
  uint64_t random = 20240229;
  for (int op = 0; op < OPERATIONS; op++) {
    random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
    /* Tides: some thousands of operations that mostly insert, then as many that mostly remove. */
    bool rising = op / 12000 % 2 == 0;
    int i = (int) (random >> 33) % SOME;
    struct item *item = &f->items[i];
    bool insert_now = (random >> 20) % 8 < (rising ? 7u : 2u);
    if (insert_now && !item->in)
      assert_int_equal(insert(f, i), 0);
    else if (!insert_now && item->in)
      drop(f, i);
    assert_ptr_equal(find(f, i), item->in ? item : NULL);
    int j = (int) (random >> 7 & 0xffff) % SOME;
    assert_ptr_equal(find(f, j), f->items[j].in ? &f->items[j] : NULL);
    f->refuse = (random >> 50) % 4 == 0 && f->table.buckets != NULL;
    if (op % 997 == 0)
      check_walk(f);
  }
  f->refuse = false;
  check_walk(f);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(siphash_is_the_published_function),
      cmocka_unit_test_setup_teardown(no_two_tables_share_a_key, setup, teardown),
      cmocka_unit_test_setup_teardown(an_empty_table_takes_no_memory, setup, teardown),
      cmocka_unit_test_setup_teardown(finds_what_was_inserted_until_it_is_removed, setup, teardown),
      cmocka_unit_test_setup_teardown(keys_are_bytes_of_a_given_length, setup, teardown),
      cmocka_unit_test_setup_teardown(keys_are_compared_only_when_the_whole_hash_agrees, setup, teardown),
      cmocka_unit_test_setup_teardown(no_insertion_moves_more_than_a_few_buckets, setup, teardown),
      cmocka_unit_test_setup_teardown(a_large_old_array_is_given_back_in_steps, setup, teardown),
      cmocka_unit_test_setup_teardown(shortage_at_the_first_insertion_is_told, setup, teardown),
      cmocka_unit_test_setup_teardown(shortage_later_only_puts_growth_off, setup, teardown),
      cmocka_unit_test_setup_teardown(a_walk_may_remove_behind_itself, setup, teardown),
      cmocka_unit_test_setup_teardown(agrees_with_a_plain_set, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
