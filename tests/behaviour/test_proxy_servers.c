/* proxy_servers: haproxy in front of nginx, with its own ideas of when a connection ends, loses no request */
#include "support/peer_fixture.h"

#include "support/process.h"

struct chain {
  struct process *nginx, *haproxy;
};

static int setup(void **state)
{
  struct peer *f = peer_new();
  struct chain *chain = calloc(1, sizeof *chain);
  assert_non_null(chain);
  chain->nginx =
      nginx_start(&(struct nginx_options){.server_lines = "location = /m { return 200 \"$request_method\"; }"});
  assert_non_null(chain->nginx);
  f->extra = chain;
  peer_open_pool(f, NULL);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct peer *f = *state;
  struct chain *chain = f->extra;
  peer_close_pool(f);
  process_stop(chain->haproxy);
  process_stop(chain->nginx);
  free(chain);
  peer_free(f);
  return 0;
}

static void start(struct peer *f, struct haproxy_options options)
{
  struct chain *chain = f->extra;
  process_stop(chain->haproxy);
  options.backend_port = process_port(chain->nginx);
  chain->haproxy = haproxy_start(&options);
  assert_non_null(chain->haproxy);
}

static const char *at(struct peer *f, const char *path)
{
  return peer_text(f, "http://127.0.0.1:%u%s", process_port(((struct chain *) f->extra)->haproxy), path);
}

static void every_way_of_reuse_behind_the_proxy_serves_all(void **state)
{
  struct peer *f = *state;
  static const char *const ways[] = {"never", "safe", "aggressive", "always"};
  for (int way = 0; way < 4; way++) {
    start(f, (struct haproxy_options){.http_reuse = ways[way]});
    for (int i = 0; i < 100; i++)
      peer_start(f, &(struct ask){.method = i % 3 ? NULL : "POST", .url = at(f, i % 10 ? "/m" : "/big")});
    for (int i = 0; i < 100; i++)
      peer_is(peer_next(f), CPOOL_OK);
  }
  assert_int_equal(peer_stats(f).failed, 0);
}

static void a_short_keep_alive_costs_no_post(void **state)
{
  struct peer *f = *state;
  start(f, (struct haproxy_options){.http_keep_alive_ms = 40});
  for (int i = 0; i < 20; i++) {
    peer_is_200(peer_post(f, at(f, "/m"), "body", 4), "POST");
    peer_await(f, succeeded, i + 1); /* a snapshot of the time before it would show nothing idle */
    peer_await(f, idle_connections, 0);
  }
  peer_await(f, total_connections, 0);
  peer_await(f, closing_connections, 0);
  cpool_http_stats stats = peer_stats(f);
  assert_int_equal(stats.closed_peer, stats.opened);
  assert_true(stats.opened > 1);
  assert_int_equal(stats.failed, 0);
}

static bool a_while_passed(void *ctx)
{
  return now_ms() >= *(int64_t *) ctx;
}

static void requests_at_the_moment_of_its_close_all_succeed(void **state)
{
  struct peer *f = *state;
  enum { KEEP_MS = 30 };
  start(f, (struct haproxy_options){.http_keep_alive_ms = KEEP_MS});
  for (int i = 0; i < 60; i++) {
    struct answer answer = peer_get(f, at(f, "/ok"));
    peer_is_200(answer, "hello\n");
    int64_t until_ms = now_ms() + KEEP_MS - 1 + i % 3; /* the two ends meet in the middle now and then */
    (void) wait_until(a_while_passed, &until_ms, 1000);
  }
  assert_int_equal(peer_stats(f).failed, 0);
}

static void a_proxy_that_closes_each_connection_is_obeyed(void **state)
{
  struct peer *f = *state;
  start(f, (struct haproxy_options){.http_close = true});
  for (int i = 0; i < 20; i++) {
    struct answer answer = peer_get(f, at(f, "/ok"));
    peer_is_200(answer, "hello\n");
    assert_int_equal(answer.info.reused, 0);
    assert_int_equal(answer.info.attempts, 1);
  }
  peer_await(f, closed_response, 20);
  peer_await(f, total_connections, 0);
}

static void a_proxy_without_its_backend_answers(void **state)
{
  struct peer *f = *state;
  struct chain *chain = f->extra;
  start(f, (struct haproxy_options){0});
  peer_is_200(peer_get(f, at(f, "/ok")), "hello\n");
  process_stop(chain->nginx);
  chain->nginx = NULL;
  struct answer answer = peer_get(f, at(f, "/ok"));
  peer_is(answer, CPOOL_OK);
  assert_true(answer.code == 502 || answer.code == 503);
}

static void a_proxy_that_is_gone_and_comes_back_is_used_again(void **state)
{
  struct peer *f = *state;
  struct chain *chain = f->extra;
  start(f, (struct haproxy_options){0});
  const char *url = at(f, "/ok");
  for (int i = 0; i < 10; i++)
    peer_is_200(peer_get(f, url), "hello\n");
  process_stop(chain->haproxy);
  chain->haproxy = NULL;
  struct answer answer = peer_get(f, url);
  peer_is(answer, CPOOL_ECONNECT);
  assert_int_equal(answer.error.flags, CPOOL_ERROR_NOTHING_SENT | CPOOL_ERROR_RETRIABLE);
  start(f, (struct haproxy_options){0});
  peer_is_200(peer_get(f, at(f, "/ok")), "hello\n");
}

static void a_body_larger_than_every_buffer_passes(void **state)
{
  struct peer *f = *state;
  size_t len = 10 * 1024 * 1024;
  char *body = calloc(1, len);
  assert_non_null(body);
  start(f, (struct haproxy_options){0});
  peer_is_200(peer_post(f, at(f, "/m"), body, len), "POST");
  free(body);
  struct answer answer = peer_get(f, at(f, "/big"));
  peer_is(answer, CPOOL_OK);
  peer_is_pattern(&answer, 1048576);
}

#define chain_case(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      chain_case(every_way_of_reuse_behind_the_proxy_serves_all),
      chain_case(a_short_keep_alive_costs_no_post),
      chain_case(requests_at_the_moment_of_its_close_all_succeed),
      chain_case(a_proxy_that_closes_each_connection_is_obeyed),
      chain_case(a_proxy_without_its_backend_answers),
      chain_case(a_proxy_that_is_gone_and_comes_back_is_used_again),
      chain_case(a_body_larger_than_every_buffer_passes),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
