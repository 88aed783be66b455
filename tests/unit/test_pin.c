/* pin: what libcurl would take for something else than a public key's digest is refused */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cpool.h>

#include "http/pin.h"

#define DIGEST "sha256//YhKJKSzoTt2b5FP18fvpHo7fJYqQCjAa3HWY3tvRMwE="
#define OTHER "sha256//t62CeU2tQiqkexU74Gxa2eg7fRbEgoChTociMee9wno="

static void one_digest_and_several_are_taken(void **state)
{
  (void) state;
  assert_int_equal(cpool__pins_check(NULL), CPOOL_OK);
  assert_int_equal(cpool__pins_check(DIGEST), CPOOL_OK);
  assert_int_equal(cpool__pins_check(DIGEST ";" OTHER), CPOOL_OK);
  assert_int_equal(cpool__pins_check(DIGEST ";" DIGEST ";" OTHER), CPOOL_OK);
}

static void everything_else_is_refused(void **state)
{
  static const char *const bad[] = {
      "",
      "/etc/ssl/key.pem",
      "sha256//",
      "sha256//=",
      "sha1//YhKJKSzoTt2b5FP18fvpHo7fJYqQCjAa3HWY3tvRMwE=",
      "SHA256//YhKJKSzoTt2b5FP18fvpHo7fJYqQCjAa3HWY3tvRMwE=",
      "sha256//YhKJKSzoTt2b5FP18fvpHo7fJYqQCjAa3HWY3tvRMwE",
      "sha256//YhKJKSzoTt2b5FP18fvpHo7fJYqQCjAa3HWY3tvRMw==",
      "sha256//YhKJKSzoTt2b5FP18fvpHo7fJYqQCjAa3HWY3tvRMwEE=",
      "sha256//YhKJKSzoTt2b5FP18fvpHo7fJYqQCjAa3HWY3tvRMwF=", /* two bits too many */
      "sha256//YhKJKSzoTt2b5FP18fvpHo7fJYqQCjAa3HWY3tv-MwE=", /* base64url */
      DIGEST ";",
      ";" DIGEST,
      DIGEST ";;" DIGEST,
      DIGEST "; " OTHER,
      DIGEST " ",
      DIGEST "," OTHER,
      DIGEST OTHER,
  };
  (void) state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    cpool_error error;
    cpool_error_init(&error);
    if (cpool__pins_check(bad[i]) != CPOOL_EINVAL)
      fail_msg("taken: %s", bad[i]);
    assert_int_equal(cpool_last_error(&error), CPOOL_OK);
    assert_non_null(strstr(error.text, "pinned_public_key"));
  }
}

static void the_number_of_digests_is_bounded(void **state)
{
  enum { PAIR = sizeof DIGEST, MANY = 4096 / PAIR };
  char *pins = calloc(MANY + 2, PAIR + 1);
  (void) state;
  assert_non_null(pins);
  for (int i = 0; i < MANY; i++) {
    strcat(pins, i == 0 ? "" : ";");
    strcat(pins, DIGEST);
  }
  assert_int_equal(cpool__pins_check(pins), CPOOL_OK);
  strcat(pins, ";" DIGEST);
  assert_int_equal(cpool__pins_check(pins), CPOOL_EINVAL);
  free(pins);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_digest_and_several_are_taken),
      cmocka_unit_test(everything_else_is_refused),
      cmocka_unit_test(the_number_of_digests_is_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
