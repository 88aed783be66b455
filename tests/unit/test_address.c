/* test_address: literals and their text, and every special-purpose range with its borders */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dns/address.h"

static bool public(const char *literal)
{
  struct cpool__address address;
  if (!cpool__address_parse(&address, literal, 443))
    fail_msg("%s is a literal", literal);
  return cpool__address_public(&address);
}

static void literal_survives_the_way_to_text_and_back(void **state)
{
  (void) state;
  static const char *const same[] = {"192.0.2.1", "0.0.0.0",     "255.255.255.255", "::",
                                     "::1",       "2001:db8::1", "::ffff:10.0.0.1"};
  for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
    struct cpool__address address;
    char text[CPOOL__ADDRESS_TEXT];
    assert_true(cpool__address_parse(&address, same[i], 8443));
    cpool__address_host_text(&address, text);
    assert_string_equal(text, same[i]);
    assert_int_equal(cpool__address_port(&address), 8443);
    assert_int_equal(address.len,
                     strchr(same[i], ':') != NULL ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
  }
}

static void text_with_port_has_brackets_around_ipv6(void **state)
{
  (void) state;
  struct cpool__address address;
  char text[CPOOL__ADDRESS_TEXT];
  assert_true(cpool__address_parse(&address, "192.0.2.1", 443));
  cpool__address_text(&address, text);
  assert_string_equal(text, "192.0.2.1:443");
  assert_true(cpool__address_parse(&address, "2001:db8::1", 443));
  cpool__address_text(&address, text);
  assert_string_equal(text, "[2001:db8::1]:443");
  assert_true(cpool__address_parse(&address, "1111:2222:3333:4444:5555:6666:177.177.177.177", 65535));
  cpool__address_text(&address, text);
  assert_string_equal(text, "[1111:2222:3333:4444:5555:6666:b1b1:b1b1]:65535");
  memset(&address, 0, sizeof address);
  cpool__address_text(&address, text);
  assert_string_equal(text, "");
  cpool__address_host_text(&address, text);
  assert_string_equal(text, "");
}

static void what_is_no_plain_literal_is_refused(void **state)
{
  (void) state;
  static const char *const wrong[] = {"",          "1.2.3",      "127.1",     "0x7f.0.0.1", "2130706433", "1.2.3.4.5",
                                      "1.2.3.256", "1.2.3.4 ",   " 1.2.3.4",  "01.2.3.4",   "[::1]",      "fe80::1%lo",
                                      ":::",       "1.2.3.4:80", "localhost", "::1::"};
  struct cpool__address address;
  memset(&address, 0x5a, sizeof address);
  const struct cpool__address before = address;
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    if (cpool__address_parse(&address, wrong[i], 1))
      fail_msg("\"%s\" was taken", wrong[i]);
  assert_memory_equal(&address, &before, sizeof address);
}

static void equality_includes_the_port_and_the_family(void **state)
{
  (void) state;
  struct cpool__address a, b;
  assert_true(cpool__address_parse(&a, "10.0.0.1", 80));
  assert_true(cpool__address_parse(&b, "10.0.0.1", 80));
  assert_true(cpool__address_equal(&a, &b));
  cpool__address_set_port(&b, 81);
  assert_false(cpool__address_equal(&a, &b));
  assert_true(cpool__address_parse(&b, "::ffff:10.0.0.1", 80));
  assert_false(cpool__address_equal(&a, &b));
  assert_true(cpool__address_parse(&a, "::ffff:10.0.0.1", 80));
  assert_true(cpool__address_equal(&a, &b));
  assert_true(cpool__address_parse(&a, "::ffff:10.0.0.2", 80));
  assert_false(cpool__address_equal(&a, &b));
}

static void ordinary_addresses_are_public(void **state)
{
  (void) state;
  static const char *const good[] = {"1.1.1.1",         "8.8.8.8",         "93.184.216.34",
                                     "223.255.255.255", "2606:4700::1111", "2a00:1450::1",
                                     "2400:cb00::1",    "2001:200::1",     "2001:4860:4860::8888"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    if (!public(good[i]))
      fail_msg("%s is public", good[i]);
}

/* First and last address inside; the neighbours outside are public where they are listed. */
static void special_ranges_are_not_public_up_to_their_borders(void **state)
{
  (void) state;
  static const char *const ranges[][4] = {
      {"0.0.0.0", "0.255.255.255", NULL, "1.0.0.0"},
      {"10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"},
      {"100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"},
      {"127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"},
      {"168.63.129.16", "168.63.129.16", "168.63.129.15", "168.63.129.17"},
      {"169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"},
      {"172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"},
      {"192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"},
      {"192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"},
      {"192.31.196.0", "192.31.196.255", "192.31.195.255", "192.31.197.0"},
      {"192.52.193.0", "192.52.193.255", "192.52.192.255", "192.52.194.0"},
      {"192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"},
      {"192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"},
      {"192.175.48.0", "192.175.48.255", "192.175.47.255", "192.175.49.0"},
      {"198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"},
      {"198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"},
      {"203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"},
      {"224.0.0.0", "255.255.255.255", "223.255.255.255", NULL},
      {"::", "1fff:ffff::", NULL, "2000::"},
      {"2001::", "2001:1ff:ffff::", "2000:ffff::", "2001:200::"},
      {"2001:db8::", "2001:db8:ffff::", "2001:db7:ffff::", "2001:db9::"},
      {"2002::", "2002:ffff::", "2001:ffff::", "2003::"},
      {"2620:4f:8000::", "2620:4f:8000:ffff::", "2620:4f:7fff:ffff::", "2620:4f:8001::"},
      {"3fff::", "3fff:fff:ffff::", "3ffe:ffff::", "3fff:1000::"},
      {"4000::", "ffff:ffff::", "3fff:ffff::", NULL},
  };
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
    for (int side = 0; side < 4; side++)
      if (ranges[i][side] != NULL && public(ranges[i][side]) != (side >= 2))
        fail_msg("%s", ranges[i][side]);
}

static void metadata_services_are_not_public(void **state)
{
  (void) state;
  assert_false(public("169.254.169.254"));
  assert_false(public("fd00:ec2::254"));
  assert_false(public("100.100.100.200"));
  assert_false(public("::ffff:169.254.169.254"));
  assert_false(public("64:ff9b::169.254.169.254"));
}

static void ipv6_forms_that_carry_ipv4_are_not_public(void **state)
{
  (void) state;
  assert_false(public("64:ff9b::8.8.8.8"));
  assert_false(public("64:ff9b::10.0.0.1"));
  assert_false(public("64:ff9b::127.0.0.1"));
  assert_false(public("64:ff9b:1::8.8.8.8"));                   /* local use, never globally routed */
  assert_false(public("::ffff:8.8.8.8"));                       /* mapped: no form for the wire */
  assert_false(public("::8.8.8.8"));                            /* compatible: obsolete */
  assert_false(public("2002:a00:1::"));                         /* 6to4 of 10.0.0.1 */
  assert_false(public("2001:0:4136:e378:8000:63bf:3fff:fdd2")); /* Teredo */
}

static void no_address_is_not_public(void **state)
{
  (void) state;
  struct cpool__address none;
  memset(&none, 0, sizeof none);
  assert_false(cpool__address_public(&none));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(literal_survives_the_way_to_text_and_back),
      cmocka_unit_test(text_with_port_has_brackets_around_ipv6),
      cmocka_unit_test(what_is_no_plain_literal_is_refused),
      cmocka_unit_test(equality_includes_the_port_and_the_family),
      cmocka_unit_test(ordinary_addresses_are_public),
      cmocka_unit_test(special_ranges_are_not_public_up_to_their_borders),
      cmocka_unit_test(metadata_services_are_not_public),
      cmocka_unit_test(ipv6_forms_that_carry_ipv4_are_not_public),
      cmocka_unit_test(no_address_is_not_public),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
