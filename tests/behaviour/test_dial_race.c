/* test_dial_race: several addresses, some dead: who is tried when, who wins, and how many sockets are open meanwhile */
#include "dial_fixture.h"

/* ---- the race */

static void dead_ipv6_costs_one_race_delay(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.1", &port);
  struct blackhole *dead = hole("::1", port);
  dns_server_set_addresses(f->server, "both.test", "127.0.0.1 ::1", 60);
  prepare(f, "both.test", port);
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.1");
  assert_in_range(f->dial.result.connect_us, (RACE_MS - 2) * 1000, 2000000);
  assert_int_equal(f->opened, 2);
  assert_int_equal(f->closed, 1);
  assert_int_equal(f->granted, 1);
  blackhole_stop(dead);
  close(fd);
}

static void refused_address_gives_way_at_once(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.3", &port);
  dns_server_set_addresses(f->server, "three.test", "127.0.0.1 127.0.0.2 127.0.0.3", 60);
  prepare(f, "three.test", port);
  f->dial.race_delay_ms = 60000;
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.3");
  assert_int_equal(f->opened, 3);
  assert_int_equal(f->most_open, 1);
  close(fd);
}

static void late_a_joins_the_race(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.1", &port);
  struct blackhole *dead = hole("::1", port);
  dns_server_set(f->server, &(struct dns_rule){.name = "late.test",
                                               .a = {.addresses = "127.0.0.1", .ttl_s = 60, .delay_ms = 2 * RACE_MS},
                                               .aaaa = {.addresses = "::1", .ttl_s = 60}});
  prepare(f, "late.test", port);
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.1");
  assert_int_equal(f->opened, 2);
  assert_in_range(f->dial.result.connect_us, RACE_MS * 1000, 3000000);
  blackhole_stop(dead);
  close(fd);
}

static void only_four_sockets_race_at_a_time(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.7", &port);
  struct blackhole *dead[6];
  for (int i = 0; i < 6; i++) {
    char address[32];
    snprintf(address, sizeof address, "127.0.0.%d", i + 1);
    dead[i] = hole(address, port);
  }
  dns_server_set_addresses(f->server, "seven.test",
                           "127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.4 127.0.0.5 127.0.0.6 127.0.0.7", 60);
  prepare(f, "seven.test", port);
  f->dial.race_delay_ms = 20;
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.7");
  assert_int_equal(f->opened, 7);
  assert_int_equal(f->most_open, CPOOL__DIAL_RACE);
  for (int i = 0; i < 6; i++)
    blackhole_stop(dead[i]);
  close(fd);
}

static void without_a_place_the_oldest_attempt_is_given_up(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.2", &port);
  struct blackhole *dead = hole("127.0.0.1", port);
  dns_server_set_addresses(f->server, "two.test", "127.0.0.1 127.0.0.2", 60);
  prepare(f, "two.test", port);
  f->places = 1;
  start(f);
  finish(f);
  assert_string_equal(winner(f), "127.0.0.2");
  assert_int_equal(f->most_open, 1);
  assert_int_equal(f->refused, 1);
  blackhole_stop(dead);
  close(fd);
}

static bool opened_three(struct fixture *f)
{
  return f->opened == 3;
}

static void given_up_address_is_tried_again_when_all_others_failed(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  struct blackhole *dead = hole("127.0.0.1", port);
  port = blackhole_port(dead);
  dns_server_set_addresses(f->server, "two.test", "127.0.0.1 127.0.0.2", 60); /* the second refuses */
  prepare(f, "two.test", port);
  f->places = 1;
  start(f);
  assert_true(turn_until(f, opened_three, DEADLINE_MS));
  assert_int_equal(f->opened - f->closed, 1);
  assert_int_equal(f->done, 0);
  on_loop(f, do_cancel);
  assert_int_equal(f->opened, f->closed);
  blackhole_stop(dead);
}

static bool asked_for_a_place(struct fixture *f)
{
  return f->granted > 0;
}

static bool never(struct fixture *f)
{
  (void) f;
  return false;
}

static void race_without_descriptors_waits_for_what_is_open(void **state)
{
  struct fixture *f = *state;
  uint16_t port = 0;
  int fd = listener("127.0.0.2", &port);
  struct blackhole *dead = hole("127.0.0.1", port);
  dns_server_set_addresses(f->server, "two.test", "127.0.0.1 127.0.0.2", 60);
  prepare(f, "two.test", port);
  f->dial.race_delay_ms = 50;
  start(f);
  assert_true(turn_until(f, opened_one, DEADLINE_MS));

  struct rlimit before, none;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  none = before;
  int lowest = dup(0);
  assert_true(lowest >= 0);
  close(lowest);
  none.rlim_cur = (rlim_t) lowest;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  bool asked = turn_until(f, asked_for_a_place, DEADLINE_MS);
  bool ended = turn_until(f, never, 200); /* several more turns of the race */
  setrlimit(RLIMIT_NOFILE, &before);
  assert_true(asked && !ended);
  assert_int_equal(f->done, 0);
  assert_int_equal(f->opened, 1);
  assert_int_equal(f->granted, 1);

  finish(f);
  assert_string_equal(winner(f), "127.0.0.2");
  assert_int_equal(f->opened, 2);
  assert_int_equal(f->granted, 1);
  blackhole_stop(dead);
  close(fd);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(dead_ipv6_costs_one_race_delay),
      TEST(refused_address_gives_way_at_once),
      TEST(late_a_joins_the_race),
      TEST(only_four_sockets_race_at_a_time),
      TEST(without_a_place_the_oldest_attempt_is_given_up),
      TEST(given_up_address_is_tried_again_when_all_others_failed),
      TEST(race_without_descriptors_waits_for_what_is_open),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
