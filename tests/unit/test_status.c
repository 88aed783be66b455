/* test_status: every status has its own number, name and sentence */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <cpool.h>

struct row {
  int value;
  const char *name;
};

static const struct row rows[] = {
#define ROW(name, value, text) {value, #name},
    CPOOL_STATUS_MAP(ROW)
#undef ROW
};

enum { ROWS = sizeof rows / sizeof rows[0] };

static void version_is_that_of_the_header(void **state)
{
  (void) state;
  char expected[32];
  snprintf(expected, sizeof expected, "%d.%d.%d", CPOOL_VERSION_MAJOR, CPOOL_VERSION_MINOR, CPOOL_VERSION_PATCH);
  assert_string_equal(cpool_version(), expected);
}

static void every_status_has_its_name_and_its_own_sentence(void **state)
{
  (void) state;
  for (size_t i = 0; i < ROWS; i++) {
    assert_string_equal(cpool_status_name(rows[i].value), rows[i].name);
    assert_true(strlen(cpool_status_text(rows[i].value)) > 6);
    for (size_t j = 0; j < i; j++) {
      assert_int_not_equal(rows[i].value, rows[j].value);
      assert_string_not_equal(cpool_status_text(rows[i].value), cpool_status_text(rows[j].value));
    }
  }
}

static void only_success_is_not_negative(void **state)
{
  (void) state;
  for (size_t i = 0; i < ROWS; i++)
    assert_true(rows[i].value < 0 || strcmp(rows[i].name, "CPOOL_OK") == 0);
  assert_int_equal(CPOOL_OK, 0);
  assert_int_equal(CPOOL_ETIMEOUT_CONNECT, -21);
}

static void unknown_numbers_have_a_name_too(void **state)
{
  (void) state;
  assert_string_equal(cpool_status_name(1), "CPOOL_E?");
  assert_string_equal(cpool_status_name(-9999), "CPOOL_E?");
  assert_true(strlen(cpool_status_text(INT32_MIN)) > 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(version_is_that_of_the_header),
      cmocka_unit_test(every_status_has_its_name_and_its_own_sentence),
      cmocka_unit_test(only_success_is_not_negative),
      cmocka_unit_test(unknown_numbers_have_a_name_too),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
