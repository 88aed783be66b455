/* peers: fewest connections first, failed ones last, nothing remembered without need */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dns/peers.h"

enum { NOW = 1000000 };

static struct cpool__address address(const char *text, uint16_t port)
{
  struct cpool__address out;
  assert_true(cpool__address_parse(&out, text, port));
  return out;
}

static void fewest_connections_come_first(void **state)
{
  (void) state;
  struct cpool__peers peers;
  struct cpool__address a = address("192.0.2.1", 80), b = address("192.0.2.2", 80),
                        other_port = address("192.0.2.1", 81);
  cpool__peers_init(&peers);
  struct cpool__peer *one = cpool__peers_open(&peers, &a), *two = cpool__peers_open(&peers, &a);
  assert_ptr_equal(one, two);
  assert_int_equal(cpool__peers_rank(&peers, &a, NOW).open_count, 2);
  assert_int_equal(cpool__peers_rank(&peers, &b, NOW).open_count, 0);
  assert_int_equal(cpool__peers_rank(&peers, &other_port, NOW).open_count, 0);
  assert_true(cpool__peer_better(cpool__peers_rank(&peers, &b, NOW), cpool__peers_rank(&peers, &a, NOW)));
  assert_false(cpool__peer_better(cpool__peers_rank(&peers, &b, NOW), cpool__peers_rank(&peers, &other_port, NOW)));
  cpool__peers_close(&peers, one);
  cpool__peers_close(&peers, two);
  cpool__peers_close(&peers, NULL);
  assert_int_equal(peers.table.count, 0);
  cpool__peers_fini(&peers);
}

static void a_failure_counts_for_a_while_or_until_it_works(void **state)
{
  (void) state;
  struct cpool__peers peers;
  struct cpool__address a = address("2001:db8::1", 443), b = address("2001:db8::2", 443);
  cpool__peers_init(&peers);
  struct cpool__peer *busy = cpool__peers_open(&peers, &b);
  cpool__peers_failed(&peers, &a, NOW);
  assert_true(cpool__peer_better(cpool__peers_rank(&peers, &b, NOW), cpool__peers_rank(&peers, &a, NOW)));
  assert_true(cpool__peers_rank(&peers, &a, NOW + CPOOL__PEERS_AVOID_MS - 1).failed);
  assert_false(cpool__peers_rank(&peers, &a, NOW + CPOOL__PEERS_AVOID_MS).failed);
  assert_int_equal(peers.table.count, 1);
  cpool__peers_failed(&peers, &b, NOW);
  cpool__peers_worked(&peers, &b);
  assert_false(cpool__peers_rank(&peers, &b, NOW).failed);
  assert_int_equal(cpool__peers_rank(&peers, &b, NOW).open_count, 1);
  cpool__peers_close(&peers, busy);
  cpool__peers_fini(&peers);
}

static void failures_are_bounded(void **state)
{
  (void) state;
  struct cpool__peers peers;
  cpool__peers_init(&peers);
  for (int i = 0; i < 3 * CPOOL__PEERS_AVOIDED; i++) {
    struct cpool__address a = address("192.0.2.1", (uint16_t) (i + 1));
    cpool__peers_failed(&peers, &a, NOW);
    assert_in_range(peers.table.count, 1, CPOOL__PEERS_AVOIDED);
  }
  struct cpool__address first = address("192.0.2.1", 1), last = address("192.0.2.1", 3 * CPOOL__PEERS_AVOIDED);
  assert_false(cpool__peers_rank(&peers, &first, NOW).failed);
  assert_true(cpool__peers_rank(&peers, &last, NOW).failed);
  cpool__peers_fini(&peers);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fewest_connections_come_first),
      cmocka_unit_test(a_failure_counts_for_a_while_or_until_it_works),
      cmocka_unit_test(failures_are_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
