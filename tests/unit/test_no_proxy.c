/* no_proxy: which hosts a list names, and which lists are none */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cpool.h>

#include "http/no_proxy.h"

static bool matches(const char *list, const char *host, uint16_t port)
{
  const struct cpool__authority target = {.host = host, .port = port};
  assert_int_equal(cpool__no_proxy_check(list, "no_proxy"), CPOOL_OK);
  return cpool__no_proxy_match(list, &target);
}

static void a_name_stands_for_itself_and_all_below(void **state)
{
  static const char *const forms[] = {"a.test", ".a.test", "*.a.test", "A.TEST", "a.test.", "x, a.test", "x a.test ,,"};
  (void) state;
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    assert_true(matches(forms[i], "a.test", 80));
    assert_true(matches(forms[i], "b.a.test", 80));
    assert_true(matches(forms[i], "c.b.a.test.", 80));
    assert_false(matches(forms[i], "ba.test", 80));
    assert_false(matches(forms[i], "a.test.b", 80));
    assert_false(matches(forms[i], "test", 80));
    assert_false(matches(forms[i], "10.0.0.1", 80));
  }
  assert_true(matches("localhost", "localhost", 1));
  assert_false(matches("", "localhost", 1));
  assert_false(matches(" , ", "localhost", 1));
}

static void a_star_stands_for_everything(void **state)
{
  (void) state;
  assert_true(matches("*", "a.test", 80));
  assert_true(matches("x,*", "10.0.0.1", 80));
  assert_true(matches("*", "2001:db8::1", 80));
}

static void addresses_are_compared_as_addresses(void **state)
{
  (void) state;
  assert_true(matches("10.0.0.1", "10.0.0.1", 80));
  assert_false(matches("10.0.0.1", "10.0.0.10", 80));
  assert_false(matches("10.0.0.1", "x.10.0.0.1", 80));
  assert_false(matches("0.1", "10.0.0.1", 80)); /* no name, no suffix of one */
  assert_true(matches("2001:DB8:0::1", "2001:db8::1", 80));
  assert_true(matches("[2001:db8::1]", "2001:db8::1", 80));
  assert_false(matches("::1", "2001:db8::1", 80));
}

static void blocks_hold_their_addresses(void **state)
{
  (void) state;
  assert_true(matches("10.0.0.0/8", "10.255.0.1", 80));
  assert_false(matches("10.0.0.0/8", "11.0.0.1", 80));
  assert_true(matches("192.168.4.0/22", "192.168.7.255", 80));
  assert_false(matches("192.168.4.0/22", "192.168.8.0", 80));
  assert_true(matches("0.0.0.0/0", "8.8.8.8", 80));
  assert_false(matches("0.0.0.0/0", "2001:db8::1", 80));
  assert_true(matches("10.0.0.1/32", "10.0.0.1", 80));
  assert_true(matches("2001:db8::/32", "2001:db8:ffff::1", 80));
  assert_false(matches("2001:db8::/33", "2001:db8:8000::1", 80));
  assert_true(matches("::1/128", "::1", 80));
  assert_false(matches("10.0.0.0/8", "ten.test", 80)); /* names are not looked up for this */
}

static void a_port_limits_an_entry(void **state)
{
  (void) state;
  assert_true(matches("a.test:8080", "a.test", 8080));
  assert_true(matches("a.test:8080", "b.a.test", 8080));
  assert_false(matches("a.test:8080", "a.test", 80));
  assert_true(matches("10.0.0.1:443", "10.0.0.1", 443));
  assert_false(matches("10.0.0.1:443", "10.0.0.1", 80));
  assert_true(matches("[::1]:443", "::1", 443));
  assert_false(matches("[::1]:443", "::1", 80));
}

static void what_is_no_entry_is_refused(void **state)
{
  static const char *const bad[] = {"a..b",     "..a",        "*a",          "a*",         "**",       "http://a",
                                    "a/b",      "10.0.0.0/",  "10.0.0.0/33", "10.0.0.0/x", "::/129",   "a.test:",
                                    "a.test:0", "a.test:x",   "a:65536",     "[::1",       "[a.test]", "[::1]x",
                                    "a@b",      "\xc3\xa4.b", "10.0.0.0/-1", ".",          "*.",       "<local>"};
  (void) state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    cpool_error error;
    cpool_error_init(&error);
    if (cpool__no_proxy_check(bad[i], "session option no_proxy") != CPOOL_EINVAL)
      fail_msg("taken: %s", bad[i]);
    assert_int_equal(cpool_last_error(&error), CPOOL_OK);
    assert_non_null(strstr(error.text, "session option no_proxy"));
  }
  char *list = malloc(CPOOL__NO_PROXY_BYTES + 2);
  assert_non_null(list);
  memset(list, ',', CPOOL__NO_PROXY_BYTES + 1);
  list[CPOOL__NO_PROXY_BYTES + 1] = '\0';
  assert_int_equal(cpool__no_proxy_check(list, "x"), CPOOL_EINVAL);
  assert_int_equal(cpool__no_proxy_check(list + 1, "x"), CPOOL_OK);
  free(list);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_name_stands_for_itself_and_all_below),
      cmocka_unit_test(a_star_stands_for_everything),
      cmocka_unit_test(addresses_are_compared_as_addresses),
      cmocka_unit_test(blocks_hold_their_addresses),
      cmocka_unit_test(a_port_limits_an_entry),
      cmocka_unit_test(what_is_no_entry_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
