/* test_admission: who is served, where, and at whose expense; then 300 000 random steps against brute force */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../fuzz/fuzz_admission.c" /* the model that no_wakeup_is_lost drives */
#include "pool/admission.h"

enum { HOSTS = 24, REQUESTS = 2000, SOCKETS = 64, OTHER_IDENTITY = HOSTS };

struct fixture {
  struct cpool__admission adm;
  struct cpool__origin_policy hosts[HOSTS];
  struct cpool__group identities[2 * HOSTS]; /* the second half: another identity of the same hosts */
  struct cpool__waiter requests[REQUESTS];
  int request_count;
  struct cpool__place sockets[SOCKETS];
  int served[REQUESTS]; /* requests in the order in which they were served */
  int served_count, opened_count, reused_count, evicted_count;
  int served_at[HOSTS];
  bool slow_close; /* evicted sockets go on closing */
  uint64_t seed;
};

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL)
    return -1;
  cpool__admission_init(&f->adm, SOCKETS, INT32_MAX);
  for (int i = 0; i < HOSTS; i++) {
    cpool__origin_policy_init(&f->hosts[i], INT32_MAX);
    cpool__group_init(&f->identities[i], &f->hosts[i]);
    cpool__group_init(&f->identities[OTHER_IDENTITY + i], &f->hosts[i]);
  }
  f->seed = 42;
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  free(*state);
  return 0;
}

static unsigned below(struct fixture *f, unsigned limit)
{
  f->seed = f->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (unsigned) (f->seed >> 33) % limit;
}

static int host_of(const struct fixture *f, const struct cpool__group *group)
{
  return (int) (group->origin - f->hosts);
}

/* Number of the first. */
static int ask(struct fixture *f, int identity, int count)
{
  int first = f->request_count;
  for (int i = 0; i < count; i++) {
    assert_true(f->request_count < REQUESTS);
    cpool__admission_wait(&f->adm, &f->requests[f->request_count++], &f->identities[identity]);
  }
  return first;
}

/* One decision carried out: sockets connect at once. */
static enum cpool__decision_kind advance(struct fixture *f)
{
  struct cpool__decision decision = cpool__admission_next(&f->adm);
  if (decision.kind == CPOOL__DECISION_EVICT) {
    f->evicted_count++;
    cpool__place_close(&f->adm, decision.place, f->slow_close);
  } else if (decision.kind != CPOOL__DECISION_NONE) {
    f->served[f->served_count++] = (int) (decision.waiter - f->requests);
    f->served_at[host_of(f, decision.waiter->group)]++;
    f->reused_count += decision.kind == CPOOL__DECISION_REUSE;
  }
  if (decision.kind == CPOOL__DECISION_OPEN) {
    int free_at = 0;
    while (f->sockets[free_at].state != CPOOL__PLACE_NONE)
      assert_true(++free_at < SOCKETS);
    cpool__place_open(&f->adm, &f->sockets[free_at], decision.waiter->group);
    cpool__place_busy(&f->adm, &f->sockets[free_at]);
    f->opened_count++;
  }
  assert_true(f->adm.place_count <= SOCKETS);
  return decision.kind;
}

static void settle(struct fixture *f)
{
  while (advance(f) != CPOOL__DECISION_NONE)
    continue;
}

static struct cpool__place *busy_socket(struct fixture *f, int host)
{
  for (int i = 0; i < SOCKETS; i++)
    if (f->sockets[i].state == CPOOL__PLACE_BUSY && host_of(f, f->sockets[i].group) == host)
      return &f->sockets[i];
  return NULL;
}

static void end_request(struct fixture *f, int host)
{
  struct cpool__place *socket = busy_socket(f, host);
  assert_non_null(socket);
  cpool__place_idle(&f->adm, socket);
}

static struct cpool__place *random_busy(struct fixture *f)
{
  assert_true(f->adm.busy_count > 0);
  unsigned skip = below(f, (unsigned) f->adm.busy_count);
  for (int i = 0; i < SOCKETS; i++)
    if (f->sockets[i].state == CPOOL__PLACE_BUSY && skip-- == 0)
      return &f->sockets[i];
  return NULL;
}

/* ---- One host ---- */

static void oldest_waiter_is_served_first(void **state)
{
  struct fixture *f = *state;
  cpool__origin_limit(&f->adm, &f->hosts[0], 3, INT32_MAX);
  ask(f, 0, 100);
  settle(f);
  assert_int_equal(f->served_count, 3);
  while (f->served_count < 100) {
    cpool__place_idle(&f->adm, random_busy(f));
    settle(f);
  }
  for (int i = 0; i < 100; i++)
    assert_int_equal(f->served[i], i);
  assert_int_equal(f->opened_count, 3);
}

static void waiter_sent_back_goes_first(void **state)
{
  struct fixture *f = *state;
  cpool__origin_limit(&f->adm, &f->hosts[0], 1, INT32_MAX);
  ask(f, 0, 3);
  settle(f);
  cpool__admission_wait_first(&f->adm, &f->requests[0], &f->identities[0]);
  cpool__place_close(&f->adm, busy_socket(f, 0), false);
  settle(f);
  assert_int_equal(f->served_count, 2);
  assert_int_equal(f->served[1], 0);
}

static void cancel_while_waiting_keeps_order(void **state)
{
  struct fixture *f = *state;
  cpool__origin_limit(&f->adm, &f->hosts[0], 1, INT32_MAX);
  ask(f, 0, 8);
  settle(f);
  const int gone[] = {1, 4, 7}; /* first, middle, last of those that wait */
  for (int i = 0; i < 3; i++) {
    cpool__admission_leave(&f->adm, &f->requests[gone[i]]);
    cpool__admission_leave(&f->adm, &f->requests[gone[i]]);
  }
  cpool__admission_leave(&f->adm, &f->requests[0]); /* served already */
  assert_int_equal(f->adm.waiting_count, 4);
  while (f->served_count < 5) {
    end_request(f, 0);
    settle(f);
  }
  const int order[] = {0, 2, 3, 5, 6};
  assert_memory_equal(f->served, order, sizeof order);
}

static void most_recently_used_place_is_taken(void **state)
{
  struct fixture *f = *state;
  ask(f, 0, 3);
  settle(f);
  for (int i = 0; i < 3; i++)
    cpool__place_idle(&f->adm, &f->sockets[(i + 1) % 3]);
  ask(f, 0, 1);
  struct cpool__decision decision = cpool__admission_next(&f->adm);
  assert_int_equal(decision.kind, CPOOL__DECISION_REUSE);
  assert_ptr_equal(decision.place, &f->sockets[0]);
}

static void limit_per_host_is_never_exceeded(void **state)
{
  struct fixture *f = *state;
  for (int host = 0; host < 3; host++) {
    cpool__origin_limit(&f->adm, &f->hosts[host], 2 + host, INT32_MAX);
    ask(f, host, 100);
    ask(f, OTHER_IDENTITY + host, 100);
  }
  while (f->served_count < 600) {
    settle(f);
    for (int host = 0; host < 3; host++)
      assert_true(f->hosts[host].place_count <= 2 + host);
    struct cpool__place *socket = random_busy(f);
    if (below(f, 3) == 0)
      cpool__place_close(&f->adm, socket, false);
    else
      cpool__place_idle(&f->adm, socket);
  }
}

static void waiter_of_another_identity_evicts_on_its_own_host(void **state)
{
  struct fixture *f = *state;
  cpool__origin_limit(&f->adm, &f->hosts[0], 2, INT32_MAX);
  ask(f, 1, 1);
  settle(f);
  end_request(f, 1); /* idle for longest, and of no help */
  ask(f, 0, 2);
  settle(f);
  end_request(f, 0);
  int other = ask(f, OTHER_IDENTITY, 1);
  struct cpool__decision decision = cpool__admission_next(&f->adm);
  assert_int_equal(decision.kind, CPOOL__DECISION_EVICT);
  assert_ptr_equal(decision.place->group, &f->identities[0]);
  settle(f);
  assert_int_equal(f->served[f->served_count - 1], other);
  assert_int_equal(f->hosts[0].place_count, 2);
  assert_int_equal(f->hosts[1].place_count, 1);
}

/* ---- Many hosts ---- */

static void total_limit_is_never_exceeded(void **state)
{
  struct fixture *f = *state;
  cpool__admission_limits(&f->adm, 5, INT32_MAX);
  for (int host = 0; host < HOSTS; host++)
    ask(f, host, 40);
  while (f->served_count < 40 * HOSTS) {
    settle(f);
    assert_true(f->adm.place_count <= 5);
    struct cpool__place *socket = random_busy(f);
    if (below(f, 3) == 0)
      cpool__place_close(&f->adm, socket, false);
    else
      cpool__place_idle(&f->adm, socket);
  }
}

static void idle_place_of_another_host_makes_room(void **state)
{
  struct fixture *f = *state;
  cpool__admission_limits(&f->adm, 3, INT32_MAX);
  for (int host = 0; host < 3; host++)
    ask(f, host, 1);
  settle(f);
  end_request(f, 2);
  end_request(f, 0);
  ask(f, 3, 1);
  struct cpool__decision decision = cpool__admission_next(&f->adm);
  assert_int_equal(decision.kind, CPOOL__DECISION_EVICT);
  assert_ptr_equal(decision.place->group, &f->identities[2]); /* the one idle for longest */
  settle(f);
  assert_int_equal(f->evicted_count, 1);
  assert_int_equal(f->served_at[3], 1);
}

static void idle_place_with_a_waiter_of_its_own_is_left_to_it(void **state)
{
  struct fixture *f = *state;
  cpool__admission_limits(&f->adm, 2, INT32_MAX);
  ask(f, 0, 1);
  ask(f, 1, 1);
  settle(f);
  end_request(f, 0);
  end_request(f, 1);
  ask(f, 2, 1); /* looked at first, and without any place */
  ask(f, 0, 1);
  settle(f);
  assert_int_equal(f->served_at[0], 2);
  assert_int_equal(f->served_at[2], 1);
  assert_int_equal(f->hosts[1].place_count, 0);
  assert_int_equal(f->opened_count, 3);
}

static void starved_origin_gets_a_turn(void **state)
{
  struct fixture *f = *state;
  cpool__admission_limits(&f->adm, 1, INT32_MAX);
  ask(f, 0, 100);
  settle(f);
  ask(f, 1, 100);
  for (int turn = 0; turn < 20; turn++) {
    int host = turn % 2;
    for (int i = 0; i < CPOOL__TURN_REQUESTS; i++) {
      assert_int_equal(f->hosts[host].busy_count, 1);
      end_request(f, host);
      settle(f);
    }
    assert_int_equal(f->hosts[1 - host].busy_count, 1);
  }
  assert_int_equal(f->served_at[0], f->served_at[1] + 1);
  assert_int_equal(f->opened_count, 21);
}

static void host_that_never_keeps_alive_does_not_starve_others(void **state)
{
  struct fixture *f = *state;
  cpool__admission_limits(&f->adm, 4, INT32_MAX);
  ask(f, 0, 100);
  settle(f);
  ask(f, 1, 100);
  for (int i = 0; i < 8; i++) {
    struct cpool__place *socket = busy_socket(f, 0);
    assert_non_null(socket);
    cpool__place_close(&f->adm, socket, false);
    settle(f);
    if (i == 0)
      assert_int_equal(f->hosts[1].place_count, 1);
  }
  assert_int_equal(f->hosts[0].place_count, 2);
  assert_int_equal(f->hosts[1].place_count, 2);
}

static void check_shares_settle(struct fixture *f, bool in_order)
{
  cpool__admission_limits(&f->adm, 9, INT32_MAX);
  ask(f, 0, 600);
  settle(f);
  assert_int_equal(f->hosts[0].place_count, 9);
  ask(f, 1, 600);
  ask(f, 2, 600);
  for (int i = 0; i < 1000; i++) {
    cpool__place_idle(&f->adm, in_order ? &f->sockets[i % 9] : random_busy(f));
    settle(f);
    if (i < 100)
      continue;
    for (int host = 0; host < 3; host++)
      assert_int_equal(f->hosts[host].place_count, 3);
    assert_int_equal(f->evicted_count, 6);
  }
  assert_int_equal(f->opened_count, 9 + 6);
}

static void connections_settle_at_fair_shares_without_thrash(void **state)
{
  check_shares_settle(*state, false);
}

static void shares_settle_also_when_requests_end_in_order(void **state)
{
  check_shares_settle(*state, true);
}

static void host_near_its_share_does_not_hide_a_hungrier_one(void **state)
{
  struct fixture *f = *state;
  const int places[] = {5, 4, 1};
  cpool__admission_limits(&f->adm, 10, INT32_MAX);
  for (int host = 0; host < 3; host++)
    ask(f, host, places[host]);
  settle(f);
  ask(f, 1, 10); /* parked first; its own requests do not end */
  settle(f);
  ask(f, 2, 10);
  ask(f, 0, 100);
  settle(f);
  for (int i = 0; i < 20; i++) {
    end_request(f, 0);
    settle(f);
  }
  assert_int_equal(f->hosts[0].place_count, 3);
  assert_int_equal(f->hosts[1].place_count, 4);
  assert_int_equal(f->hosts[2].place_count, 3);
}

/* (sum x)^2 / (n * sum x^2): 1 when all got the same, 1/n when one got everything. */
static double jain_index(const int *got, int count)
{
  double sum = 0, squares = 0;
  for (int i = 0; i < count; i++) {
    sum += got[i];
    squares += (double) got[i] * got[i];
  }
  return sum * sum / (count * squares);
}

static void jain_index_of_equal_hosts_is_near_one(void **state)
{
  struct fixture *f = *state;
  enum { RIVALS = 20 };
  cpool__admission_limits(&f->adm, 6, INT32_MAX); /* most hosts are without a place most of the time */
  for (int host = 0; host < RIVALS; host++)
    ask(f, host, REQUESTS / RIVALS);
  for (int i = 0; i < 1200; i++) {
    settle(f);
    cpool__place_idle(&f->adm, random_busy(f));
  }
  assert_true(jain_index(f->served_at, RIVALS) > 0.98);
  assert_true(f->opened_count <= f->served_count / CPOOL__TURN_REQUESTS + 6);
}

/* ---- Limits that move, sockets that close slowly ---- */

static void lowered_limit_retires_idle_places(void **state)
{
  struct fixture *f = *state;
  ask(f, 0, 6);
  ask(f, 1, 4);
  settle(f);
  for (int i = 0; i < 4; i++)
    end_request(f, 0);
  end_request(f, 1);
  cpool__origin_limit(&f->adm, &f->hosts[0], 3, INT32_MAX);
  settle(f);
  assert_int_equal(f->hosts[0].place_count, 3);
  assert_int_equal(f->hosts[1].place_count, 4);

  cpool__admission_limits(&f->adm, 2, 1); /* goes before the closing limit */
  f->slow_close = true;
  settle(f);
  assert_int_equal(f->adm.idle_count, 0);
  assert_int_equal(f->adm.place_count, 5); /* all busy */
  ask(f, 1, 1);
  for (int i = 0; i < 3; i++) {
    end_request(f, 1);
    assert_int_equal(advance(f), CPOOL__DECISION_EVICT);
  }
  assert_int_equal(f->adm.place_count, 2);
  assert_int_equal(f->hosts[1].waiting_count, 1);
}

static void raised_limit_lets_waiters_go(void **state)
{
  struct fixture *f = *state;
  cpool__admission_limits(&f->adm, 2, INT32_MAX);
  cpool__origin_limit(&f->adm, &f->hosts[0], 1, INT32_MAX);
  ask(f, 0, 5);
  ask(f, 1, 5);
  settle(f);
  assert_int_equal(f->served_count, 2);
  cpool__origin_limit(&f->adm, &f->hosts[0], 3, INT32_MAX);
  settle(f);
  assert_int_equal(f->served_count, 2);
  cpool__admission_limits(&f->adm, 7, INT32_MAX);
  settle(f);
  assert_int_equal(f->hosts[0].place_count, 3);
  assert_int_equal(f->hosts[1].place_count, 4);
}

static void closing_cap_holds_back_new_places(void **state)
{
  struct fixture *f = *state;
  f->slow_close = true;
  cpool__admission_limits(&f->adm, 4, 2);
  ask(f, 0, 4);
  settle(f);
  for (int i = 0; i < 4; i++)
    end_request(f, 0);
  for (int host = 1; host < 5; host++)
    ask(f, host, 1);
  settle(f);
  assert_int_equal(f->adm.closing_count, 2);
  assert_int_equal(f->served_count, 4 + 1); /* for the second one the place is free, its socket not yet gone */
  ask(f, 0, 1);
  settle(f); /* an idle place needs no new socket */
  assert_int_equal(f->served_at[0], 5);
  assert_int_equal(f->served_at[2], 0);

  cpool__admission_closed(&f->adm);
  settle(f);
  assert_int_equal(f->served_at[2], 1);
  assert_int_equal(f->adm.closing_count, 2); /* host 0 lost its last idle place to host 3 */
  assert_int_equal(f->served_at[3], 0);
  cpool__admission_closed(&f->adm);
  settle(f);
  assert_int_equal(f->served_at[3], 1);
  assert_int_equal(f->adm.closing_count, 1);
  assert_int_equal(f->adm.place_count, 4);
}

static void second_socket_takes_only_free_room(void **state)
{
  struct fixture *f = *state;
  struct cpool__place *extra = &f->sockets[SOCKETS - 1];
  cpool__admission_limits(&f->adm, 3, 1);
  cpool__origin_limit(&f->adm, &f->hosts[0], 2, INT32_MAX);
  ask(f, 0, 1);
  assert_false(cpool__place_try_open(&f->adm, extra, &f->identities[0])); /* somebody waits */
  settle(f);
  assert_true(cpool__place_try_open(&f->adm, extra, &f->identities[0]));
  assert_int_equal(extra->state, CPOOL__PLACE_DIALLING);
  ask(f, 0, 1); /* its own host is full: no rival for the last place */
  settle(f);
  assert_false(cpool__place_try_open(&f->adm, &f->sockets[SOCKETS - 2], &f->identities[0]));
  assert_true(cpool__place_try_open(&f->adm, &f->sockets[SOCKETS - 2], &f->identities[1]));
  assert_false(cpool__place_try_open(&f->adm, &f->sockets[SOCKETS - 3], &f->identities[2]));
  cpool__place_close(&f->adm, &f->sockets[SOCKETS - 2], true);
  assert_false(cpool__place_try_open(&f->adm, &f->sockets[SOCKETS - 3], &f->identities[2]));
  cpool__admission_closed(&f->adm);
  assert_true(cpool__place_try_open(&f->adm, &f->sockets[SOCKETS - 3], &f->identities[2]));
}

/* ---- Places that carry several requests ---- */

static struct cpool__place *socket_of(struct fixture *f, int host)
{
  for (int i = 0; i < SOCKETS; i++)
    if (f->sockets[i].state != CPOOL__PLACE_NONE && host_of(f, f->sockets[i].group) == host)
      return &f->sockets[i];
  return NULL;
}

static void first_connection_learns_for_all_that_wait(void **state)
{
  struct fixture *f = *state;
  f->identities[0].multiplex = true;
  ask(f, 0, 20);
  settle(f);
  assert_int_equal(f->opened_count, 1);
  assert_int_equal(f->served_at[0], 1);
  cpool__place_known(&f->adm, socket_of(f, 0), 10);
  settle(f);
  assert_int_equal(f->served_at[0], 11); /* ten on the first, and the next place is opened: it is full */
  assert_int_equal(f->opened_count, 2);
  for (int i = 0; i < 11; i++)
    assert_int_equal(f->served[i], i);
}

static void first_connection_that_carries_one_lets_all_dial(void **state)
{
  struct fixture *f = *state;
  f->identities[0].multiplex = true;
  ask(f, 0, 5);
  settle(f);
  assert_int_equal(f->opened_count, 1);
  cpool__place_known(&f->adm, socket_of(f, 0), 1);
  settle(f);
  assert_int_equal(f->opened_count, 5);
}

static void first_connection_that_fails_leaves_the_turn_to_the_next(void **state)
{
  struct fixture *f = *state;
  f->identities[0].multiplex = true;
  ask(f, 0, 3);
  for (int i = 1; i <= 3; i++) {
    settle(f);
    assert_int_equal(f->opened_count, i);
    cpool__place_close(&f->adm, socket_of(f, 0), false);
  }
  settle(f);
  assert_int_equal(f->served_at[0], 3);
}

static void ended_streams_serve_who_waits_and_the_last_leaves_it_idle(void **state)
{
  struct fixture *f = *state;
  cpool__origin_limit(&f->adm, &f->hosts[0], 1, INT32_MAX);
  f->identities[0].multiplex = true;
  ask(f, 0, 30);
  settle(f);
  struct cpool__place *socket = socket_of(f, 0);
  cpool__place_known(&f->adm, socket, 4);
  for (int served = 4; served < 30; served++) {
    settle(f);
    assert_int_equal(f->served_at[0], served);
    assert_int_equal(socket->stream_count, 4);
    cpool__place_idle(&f->adm, socket);
  }
  settle(f);
  for (int left = 4; left > 0; left--) {
    assert_int_equal(socket->stream_count, left);
    assert_int_equal(f->adm.busy_count, 1);
    cpool__place_idle(&f->adm, socket);
  }
  assert_int_equal(socket->state, CPOOL__PLACE_IDLE);
  assert_int_equal(f->adm.idle_count, 1);
  assert_int_equal(f->adm.busy_count, 0);
}

static void place_without_streams_takes_nobody_any_more(void **state)
{
  struct fixture *f = *state;
  f->identities[0].multiplex = true;
  ask(f, 0, 3);
  settle(f);
  struct cpool__place *socket = socket_of(f, 0);
  cpool__place_known(&f->adm, socket, 10);
  settle(f);
  assert_int_equal(socket->state, CPOOL__PLACE_SHARED);
  cpool__place_streams(&f->adm, socket, 0);
  assert_int_equal(socket->state, CPOOL__PLACE_BUSY);
  ask(f, 0, 1);
  settle(f);
  assert_int_equal(f->opened_count, 2);
}

static void starved_origin_gets_the_place_of_a_shared_one(void **state)
{
  struct fixture *f = *state;
  enum { STREAMS = 2 };
  cpool__admission_limits(&f->adm, 1, INT32_MAX);
  f->identities[0].multiplex = true;
  ask(f, 0, 60);
  settle(f);
  struct cpool__place *socket = socket_of(f, 0);
  cpool__place_known(&f->adm, socket, STREAMS);
  settle(f);
  ask(f, 1, 1);
  for (int ended = 0; f->served_at[1] == 0; ended++) { /* it is never idle by itself */
    assert_true(ended <= STREAMS * (CPOOL__TURN_REQUESTS + 1));
    cpool__place_idle(&f->adm, socket);
    settle(f);
  }
  assert_int_equal(f->hosts[0].place_count, 0);
}

static void connections_being_made_are_capped(void **state)
{
  struct fixture *f = *state;
  cpool__origin_limit(&f->adm, &f->hosts[0], SOCKETS, 3);
  ask(f, 0, 20);
  ask(f, 1, 5);
  settle(f);
  assert_int_equal(f->hosts[0].connecting_count, 3);
  assert_int_equal(f->served_at[0], 3);
  assert_int_equal(f->served_at[1], 5); /* another host has a cap of its own */
  cpool__place_known(&f->adm, busy_socket(f, 0), 1);
  settle(f);
  assert_int_equal(f->hosts[0].connecting_count, 3); /* the next one begins */
  assert_int_equal(f->served_at[0], 4);
  end_request(f, 0); /* what falls idle serves whoever waits */
  settle(f);
  assert_int_equal(f->served_at[0], 5);
  cpool__place_close(&f->adm, busy_socket(f, 0), false); /* one that failed counts no more */
  settle(f);
  assert_true(f->hosts[0].connecting_count <= 3);
  while (f->served_at[0] < 20) {
    cpool__place_idle(&f->adm, busy_socket(f, 0));
    settle(f);
    assert_true(f->hosts[0].connecting_count <= 3);
  }
}

static void no_wakeup_is_lost(void **state)
{
  struct fixture *f = *state;
  enum { ROUNDS = 400, ROUND_BYTES = 2000 }; /* at most 2.5 bytes a step */
  uint8_t *bytes = malloc(ROUND_BYTES);
  assert_non_null(bytes);
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < ROUND_BYTES; i++)
      bytes[i] = (uint8_t) below(f, 256);
    LLVMFuzzerTestOneInput(bytes, ROUND_BYTES);
  }
  free(bytes);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(oldest_waiter_is_served_first),
      CASE(waiter_sent_back_goes_first),
      CASE(cancel_while_waiting_keeps_order),
      CASE(most_recently_used_place_is_taken),
      CASE(limit_per_host_is_never_exceeded),
      CASE(waiter_of_another_identity_evicts_on_its_own_host),
      CASE(total_limit_is_never_exceeded),
      CASE(idle_place_of_another_host_makes_room),
      CASE(idle_place_with_a_waiter_of_its_own_is_left_to_it),
      CASE(starved_origin_gets_a_turn),
      CASE(host_that_never_keeps_alive_does_not_starve_others),
      CASE(connections_settle_at_fair_shares_without_thrash),
      CASE(shares_settle_also_when_requests_end_in_order),
      CASE(host_near_its_share_does_not_hide_a_hungrier_one),
      CASE(jain_index_of_equal_hosts_is_near_one),
      CASE(lowered_limit_retires_idle_places),
      CASE(raised_limit_lets_waiters_go),
      CASE(closing_cap_holds_back_new_places),
      CASE(second_socket_takes_only_free_room),
      CASE(first_connection_learns_for_all_that_wait),
      CASE(first_connection_that_carries_one_lets_all_dial),
      CASE(first_connection_that_fails_leaves_the_turn_to_the_next),
      CASE(ended_streams_serve_who_waits_and_the_last_leaves_it_idle),
      CASE(place_without_streams_takes_nobody_any_more),
      CASE(starved_origin_gets_the_place_of_a_shared_one),
      CASE(connections_being_made_are_capped),
      CASE(no_wakeup_is_lost),
  };
  return cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}
