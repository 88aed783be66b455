/* test_list: order, membership, and leaving without knowing which list */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
  char name;
  struct cpool__link link;
};

struct fixture {
  struct cpool__list list, other;
  struct item a, b, c;
};

static int setup(void **state)
{
  static struct fixture f;
  f = (struct fixture){.a.name = 'a', .b.name = 'b', .c.name = 'c'};
  cpool__list_init(&f.list);
  cpool__list_init(&f.other);
  *state = &f;
  return 0;
}

/* The names in order, read in both directions. */
static void assert_names(const struct cpool__list *list, const char *names)
{
  size_t len = strlen(names), i = 0;
  for (struct cpool__link *link = cpool__list_first(list); link != NULL; link = cpool__list_next(list, link)) {
    assert_true(i < len);
    assert_int_equal(cpool__container_of(link, struct item, link)->name, names[i]);
    assert_true(cpool__link_in(link));
    assert_ptr_equal(link->next->prev, link);
    assert_ptr_equal(link->prev->next, link);
    i++;
  }
  assert_int_equal(i, len);
  assert_int_equal(cpool__list_empty(list), len == 0);
  struct cpool__link *last = cpool__list_last(list);
  if (len == 0)
    assert_null(last);
  else
    assert_int_equal(cpool__container_of(last, struct item, link)->name, names[len - 1]);
}

static void pushes_keep_their_order(void **state)
{
  struct fixture *f = *state;
  assert_names(&f->list, "");
  cpool__list_push_back(&f->list, &f->b.link);
  cpool__list_push_back(&f->list, &f->c.link);
  cpool__list_push_front(&f->list, &f->a.link);
  assert_names(&f->list, "abc");
}

static void insert_before_puts_it_there(void **state)
{
  struct fixture *f = *state;
  cpool__list_push_back(&f->list, &f->a.link);
  cpool__list_push_back(&f->list, &f->c.link);
  cpool__list_insert_before(&f->c.link, &f->b.link);
  assert_names(&f->list, "abc");
}

static void a_link_leaves_without_its_list(void **state)
{
  struct fixture *f = *state;
  cpool__list_push_back(&f->list, &f->a.link);
  cpool__list_push_back(&f->list, &f->b.link);
  cpool__list_push_back(&f->list, &f->c.link);
  cpool__link_remove(&f->b.link);
  assert_false(cpool__link_in(&f->b.link));
  assert_names(&f->list, "ac");
  cpool__link_remove(&f->a.link);
  cpool__link_remove(&f->c.link);
  assert_names(&f->list, "");
}

static void removing_twice_is_harmless(void **state)
{
  struct fixture *f = *state;
  cpool__link_remove(&f->a.link); /* zeroed, never in a list */
  cpool__list_push_back(&f->list, &f->a.link);
  cpool__list_push_back(&f->list, &f->b.link);
  cpool__link_remove(&f->a.link);
  cpool__link_remove(&f->a.link);
  assert_names(&f->list, "b");
}

static void pop_takes_the_first_until_empty(void **state)
{
  struct fixture *f = *state;
  cpool__list_push_back(&f->list, &f->a.link);
  cpool__list_push_back(&f->list, &f->b.link);
  assert_ptr_equal(cpool__list_pop_front(&f->list), &f->a.link);
  assert_false(cpool__link_in(&f->a.link));
  assert_ptr_equal(cpool__list_pop_front(&f->list), &f->b.link);
  assert_null(cpool__list_pop_front(&f->list));
}

static void splice_appends_all_and_empties_the_source(void **state)
{
  struct fixture *f = *state;
  cpool__list_push_back(&f->list, &f->a.link);
  cpool__list_push_back(&f->other, &f->b.link);
  cpool__list_push_back(&f->other, &f->c.link);
  cpool__list_splice(&f->list, &f->other);
  assert_names(&f->list, "abc");
  assert_names(&f->other, "");
  cpool__list_splice(&f->list, &f->other);
  assert_names(&f->list, "abc");
  cpool__list_splice(&f->other, &f->list);
  assert_names(&f->other, "abc");
  assert_names(&f->list, "");
  cpool__link_remove(&f->c.link);
  assert_names(&f->other, "ab");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(pushes_keep_their_order, setup),
      cmocka_unit_test_setup(insert_before_puts_it_there, setup),
      cmocka_unit_test_setup(a_link_leaves_without_its_list, setup),
      cmocka_unit_test_setup(removing_twice_is_harmless, setup),
      cmocka_unit_test_setup(pop_takes_the_first_until_empty, setup),
      cmocka_unit_test_setup(splice_appends_all_and_empties_the_source, setup),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
