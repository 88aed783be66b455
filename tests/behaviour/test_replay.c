/* replay: a request whose reused connection died is sent again when that is safe, never otherwise, and not for ever */
#include "support/peer_fixture.h"

enum { MOST_ATTEMPTS = 3, WARM = 25 };

static const char *const deaths[] = {"/reset-on-reuse", "/fin-on-reuse", "/reset-on-reuse-unread"};
enum { DEATHS = sizeof deaths / sizeof deaths[0] };

/* One idle connection whose next request meets the end. */
static void prime(struct peer *f, const char *death)
{
  fault_server_drop_all(f->server);
  peer_await(f, idle_connections, 0);
  peer_is_200(peer_get(f, death), "hello");
  peer_await(f, idle_connections, 1);
}

static int64_t by_method(struct peer *f, enum fault_method method)
{
  return peer_counts(f->server).by_method[method];
}

static void a_get_is_repeated(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < DEATHS; i++) {
    prime(f, deaths[i]);
    struct answer answer = peer_get(f, "/ok");
    peer_is_200(answer, "hello");
    assert_int_equal(answer.info.attempts, 2);
    assert_int_equal(answer.info.reused, 0);
    peer_await(f, repeated, i + 1);
  }
  assert_int_equal(peer_stats(f).failed, 0);
  assert_int_equal(peer_stats(f).repeat_refused, 0);
}

static void a_request_repeated_after_its_head_was_read_reaches_the_server_twice(void **state)
{
  struct peer *f = *state;
  prime(f, "/reset-on-reuse");
  int64_t before = by_method(f, FAULT_GET);
  peer_is_200(peer_get(f, "/ok"), "hello");
  assert_int_equal(by_method(f, FAULT_GET), before + 2);
}

static void a_post_is_not_repeated(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < DEATHS; i++) {
    prime(f, deaths[i]);
    int64_t before = by_method(f, FAULT_POST);
    struct answer answer = peer_post(f, "/echo", "payment", 7);
    peer_is(answer, CPOOL_ERESET);
    assert_int_equal(answer.code, 0);
    assert_int_equal(answer.error.flags, 0);
    assert_int_equal(answer.info.attempts, 1);
    assert_int_equal(answer.info.reused, 1);
    assert_int_equal(by_method(f, FAULT_POST), before + (i < 2)); /* the third dies unread */
    peer_await(f, repeat_refused, i + 1);
    peer_is_200(peer_post(f, "/echo", "payment", 7), "payment");
  }
  assert_int_equal(peer_stats(f).repeated, 0);
}

static void idempotent_methods_are_repeated_and_others_are_not(void **state)
{
  struct peer *f = *state;
  static const struct {
    const char *method;
    bool repeated;
  } methods[] = {{"GET", true},      {"HEAD", true},  {"PUT", true},   {"DELETE", true},
                 {"OPTIONS", true},  {"TRACE", true}, {"POST", false}, {"PATCH", false},
                 {"MKTHING", false}, {"get", false},  {"LOCK", false}};
  for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
    prime(f, "/reset-on-reuse");
    struct answer answer = peer_ask(f, &(struct ask){.method = methods[i].method, .url = "/ok"});
    if (answer.status != (methods[i].repeated ? CPOOL_OK : CPOOL_ERESET))
      fail_msg("%s: %s", methods[i].method, cpool_status_name(answer.status));
    assert_int_equal(answer.info.attempts, methods[i].repeated ? 2 : 1);
  }
}

static void a_post_with_a_key_or_the_caller_s_word_is_repeated(void **state)
{
  struct peer *f = *state;
  const cpool_header key = {"Idempotency-Key", "8e03978e-40d5-43dd-bc93-6894a57f9324"};
  const cpool_header lower = {"idempotency-key", "1"};
  const struct ask asks[] = {
      {.method = "POST", .url = "/echo", .body = "order", .body_len = 5, .headers = &key, .header_count = 1},
      {.method = "POST", .url = "/echo", .body = "order", .body_len = 5, .headers = &lower, .header_count = 1},
      {.method = "POST", .url = "/echo", .body = "order", .body_len = 5, .flags = CPOOL_REQUEST_REPEATABLE},
      {.method = "PATCH", .url = "/echo", .body = "order", .body_len = 5, .flags = CPOOL_REQUEST_REPEATABLE},
  };
  for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++)
    for (int death = 0; death < DEATHS; death++) {
      prime(f, deaths[death]);
      struct answer answer = peer_ask(f, &asks[i]);
      peer_is_200(answer, "order");
      assert_int_equal(answer.info.attempts, 2);
    }
}

static void a_long_body_is_sent_again_from_its_start(void **state)
{
  struct peer *f = *state;
  size_t len = 3 * 1024 * 1024;
  char *body = malloc(len);
  assert_non_null(body);
  for (size_t i = 0; i < len; i++)
    body[i] = fault_pattern((int64_t) i);
  for (int death = 0; death < DEATHS; death++) {
    prime(f, deaths[death]);
    struct answer answer = peer_ask(f, &(struct ask){.method = "PUT", .url = "/echo", .body = body, .body_len = len});
    peer_is(answer, CPOOL_OK);
    assert_int_equal(answer.info.attempts, 2);
    peer_is_pattern(&answer, len);
  }
  free(body);
}

static void a_connection_found_poisoned_before_sending_costs_a_post_nothing(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < 20; i++) {
    prime(f, "/poison");
    assert_int_equal(fault_server_poison(f->server), 1);
    peer_is_200(peer_post(f, "/echo", "once", 4), "once");
    assert_int_equal(by_method(f, FAULT_POST), i + 1);
  }
}

static void a_new_connection_that_dies_is_not_repeated(void **state)
{
  struct peer *f = *state;
  static const char *const paths[] = {"/reset-before-answer", "/fin-before-answer"};
  for (int i = 0; i < 2; i++) {
    int64_t before = by_method(f, FAULT_GET);
    struct answer answer = peer_get(f, paths[i]);
    peer_is(answer, CPOOL_ERESET);
    assert_int_equal(answer.error.flags, CPOOL_ERROR_RETRIABLE);
    assert_int_equal(answer.info.attempts, 1);
    assert_int_equal(answer.info.reused, 0);
    assert_int_equal(by_method(f, FAULT_GET), before + 1);
  }
}

static void an_answer_that_began_is_not_repeated(void **state)
{
  struct peer *f = *state;
  static const char *const paths[] = {"/reset-midbody", "/fin-midbody", "/fin-midheader"};
  for (int i = 0; i < 3; i++) {
    peer_is_200(peer_get(f, "/ok"), "hello");
    int64_t before = by_method(f, FAULT_GET);
    struct answer answer = peer_get(f, paths[i]);
    peer_is(answer, CPOOL_ETRUNCATED);
    assert_int_equal(answer.info.attempts, 1);
    assert_int_equal(answer.info.reused, 1);
    assert_int_equal(by_method(f, FAULT_GET), before + 1);
  }
}

struct held {
  struct fault_server *server;
  int count;
};

static bool all_held(void *ctx)
{
  const struct held *held = ctx;
  struct fault_counts counts;
  fault_server_counts(held->server, &counts);
  return counts.held >= held->count;
}

/* `count` idle connections at once. */
static void warm(struct peer *f, int count)
{
  for (int i = 0; i < count; i++)
    peer_start(f, &(struct ask){.url = "/hold"});
  /* all of them first: one that is answered early would serve another */
  struct held held = {f->server, count};
  assert_true(wait_until(all_held, &held, PEER_DEADLINE_MS));
  assert_int_equal(fault_server_release(f->server, count), count);
  for (int i = 0; i < count; i++)
    peer_is_200(peer_next(f), "hello");
  peer_await(f, idle_connections, count);
}

static void attempts_are_bounded_and_the_last_one_is_on_a_new_connection(void **state)
{
  struct peer *f = *state;
  enum { MINES = 10 };
  warm(f, MINES);
  for (int i = 0; i < MINES; i++)
    peer_start(f, &(struct ask){.url = "/reset-on-reuse"});
  int mined = 0;
  for (int i = 0; i < MINES; i++)
    mined += peer_next(f).info.reused; /* some may have met a mine themselves */
  assert_true(mined > 0);
  for (int i = 0; i < 5; i++) {
    struct answer answer = peer_get(f, "/ok");
    peer_is_200(answer, "hello");
    assert_in_range(answer.info.attempts, 1, MOST_ATTEMPTS);
  }
  assert_int_equal(peer_stats(f).failed, 0);
}

static void a_server_that_resets_every_second_request_fails_no_get(void **state)
{
  struct peer *f = *state;
  enum { REQUESTS = 100 };
  for (int i = 0; i < REQUESTS; i++)
    peer_start(f, &(struct ask){.url = deaths[i % DEATHS]});
  for (int i = 0; i < REQUESTS; i++) {
    struct answer answer = peer_next(f);
    peer_is_200(answer, "hello");
    assert_in_range(answer.info.attempts, 1, MOST_ATTEMPTS);
  }
}

static void a_server_that_resets_everything_ends_every_request(void **state)
{
  struct peer *f = *state;
  enum { REQUESTS = 100 };
  for (int i = 0; i < REQUESTS; i++)
    peer_start(f, &(struct ask){.url = "/reset-before-answer"});
  for (int i = 0; i < REQUESTS; i++) {
    struct answer answer = peer_next(f);
    peer_is(answer, CPOOL_ERESET);
    assert_in_range(answer.info.attempts, 1, MOST_ATTEMPTS);
  }
  assert_int_equal(peer_counts(f->server).requests, REQUESTS);
}

static void a_restarted_server_costs_no_get(void **state)
{
  struct peer *f = *state;
  enum { REQUESTS = 100 };
  for (int round = 0; round < 3; round++) {
    warm(f, WARM);
    uint16_t port = fault_server_port(f->server);
    fault_server_stop(f->server);
    f->server = fault_server_start(&(struct fault_options){.port = port});
    assert_non_null(f->server);
    for (int i = 0; i < REQUESTS; i++)
      peer_start(f, &(struct ask){.url = "/ok"});
    for (int i = 0; i < REQUESTS; i++)
      peer_is_200(peer_next(f), "hello");
    fault_server_drop_all(f->server);
    peer_await(f, idle_connections, 0);
  }
  assert_int_equal(peer_stats(f).failed, 0);
}

static void connections_reset_under_load_cost_no_get_more_than_once(void **state)
{
  struct peer *f = *state;
  enum { ROUNDS = 10, REQUESTS = 40 };
  for (int round = 0; round < ROUNDS; round++) {
    warm(f, WARM);
    for (int i = 0; i < REQUESTS; i++) {
      if (i == REQUESTS / 2)
        fault_server_reset_all(f->server);
      peer_start(f, &(struct ask){.url = "/ok"});
    }
    for (int i = 0; i < REQUESTS; i++) {
      struct answer answer = peer_next(f);
      /* on a new connection the reset is the answer */
      assert_true(answer.status == CPOOL_OK || ((answer.status == CPOOL_ERESET || answer.status == CPOOL_ETRUNCATED) &&
                                                (answer.error.flags & CPOOL_ERROR_RETRIABLE) != 0));
    }
    fault_server_drop_all(f->server);
    peer_await(f, idle_connections, 0);
    peer_await(f, closing_connections, 0);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      peer_case(a_get_is_repeated),
      peer_case(a_request_repeated_after_its_head_was_read_reaches_the_server_twice),
      peer_case(a_post_is_not_repeated),
      peer_case(idempotent_methods_are_repeated_and_others_are_not),
      peer_case(a_post_with_a_key_or_the_caller_s_word_is_repeated),
      peer_case(a_long_body_is_sent_again_from_its_start),
      peer_case(a_connection_found_poisoned_before_sending_costs_a_post_nothing),
      peer_case(a_new_connection_that_dies_is_not_repeated),
      peer_case(an_answer_that_began_is_not_repeated),
      peer_case(attempts_are_bounded_and_the_last_one_is_on_a_new_connection),
      peer_case(a_server_that_resets_every_second_request_fails_no_get),
      peer_case(a_server_that_resets_everything_ends_every_request),
      peer_case(a_restarted_server_costs_no_get),
      peer_case(connections_reset_under_load_cost_no_get_more_than_once),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
