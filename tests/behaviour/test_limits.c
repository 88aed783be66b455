/* test_limits: limits on connections and waiters hold exactly, counted at the server; waiters are served in order and in turns */
#include "support/pool_fixture.h"

#include <unistd.h>

/* Names of one server: several hosts to the pool, one count of connections at the server. */
struct names {
  char *dir, hosts_file[256];
};

static struct names names_make(void)
{
  static const char text[] = "127.0.0.1 a.test b.test c.test\n";
  struct names names = {.dir = temp_dir_new()};
  snprintf(names.hosts_file, sizeof names.hosts_file, "%s/hosts", names.dir);
  write_file(names.hosts_file, text, sizeof text - 1);
  return names;
}

static cpool_op ask_named(struct pool_fixture *f, const char *name, const char *path, void *user)
{
  char url[128];
  snprintf(url, sizeof url, "http://%s:%u%s", name, (unsigned) fault_server_port(f->server), path);
  cpool_request req = request_to(f, url);
  req.user = user;
  return submit(f, &req);
}

static void take_ok(struct pool_fixture *f, int count)
{
  for (int i = 0; i < count; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_OK);
    cpool_response_free(out.resp);
  }
}

static void release_all(struct pool_fixture *f, int count)
{
  for (int done = 0; done < count;) {
    eventually(counts_of(f).held > 0);
    done += fault_server_release(f->server, count - done);
  }
}

/* ------------------------------------------------------------------------------------------------------- connections */

static void total_and_host_limits_bind_at_the_server(void **state)
{
  static const char *const hosts[] = {"a.test", "b.test", "c.test"};
  struct pool_fixture *f = *state;
  struct names names = names_make();
  cpool_http_options options = pool_options();
  options.max_connections = 5;
  options.max_connections_per_host = 2;
  options.dns_hosts_file = names.hosts_file;
  open_pool(f, &options);
  for (int i = 0; i < 10; i++)
    ask_named(f, hosts[0], "/hold", NULL);
  eventually(counts_of(f).held == 2); /* the host's limit */
  eventually(stats_of(f).pending_requests == 8);
  for (int i = 0; i < 20; i++)
    ask_named(f, hosts[1 + i % 2], "/hold", NULL);
  eventually(counts_of(f).held == 5); /* the pool's */
  eventually(stats_of(f).pending_requests == 25);
  assert_int_equal(counts_of(f).most_open, 5);
  cpool_http_stats stats = stats_of(f);
  assert_int_equal(stats.acquired_connections, 5);
  assert_int_equal(stats.active_requests, 5);
  assert_int_equal(stats.max_connections, 5);
  assert_int_equal(stats.max_connections_per_host, 2);
  for (int done = 0; done < 30; done++) {
    release_all(f, 1);
    take_ok(f, 1);
    stats = stats_of(f);
    assert_in_range(stats.total_connections, 0, 5);
  }
  assert_true(counts_of(f).most_open <= 5 + (int64_t) stats_of(f).closed_evicted);
  assert_balanced(f->pool);
  temp_dir_free(names.dir);
}

static void host_limit_is_never_exceeded_in_a_burst(void **state)
{
  enum { COUNT = 2000 };
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections_per_host = 7;
  open_pool(f, &options);
  for (int i = 0; i < COUNT; i++)
    ask(f, i % 3 == 0 ? "/delay/1" : "/ok");
  take_ok(f, COUNT);
  assert_int_equal(counts_of(f).most_open, 7);
  assert_int_equal(counts_of(f).accepted, 7); /* kept alive: none was opened twice */
  assert_int_equal(counts_of(f).requests, COUNT);
}

static void idle_connection_of_another_host_makes_room(void **state)
{
  struct pool_fixture *f = *state;
  struct names names = names_make();
  cpool_http_options options = pool_options();
  options.max_connections = 1;
  options.dns_hosts_file = names.hosts_file;
  open_pool(f, &options);
  for (int i = 0; i < 6; i++) {
    ask_named(f, i % 2 == 0 ? "a.test" : "b.test", "/ok", NULL);
    take_ok(f, 1);
  }
  eventually(stats_of(f).closed_evicted == 5);
  assert_int_equal(counts_of(f).accepted, 6);
  temp_dir_free(names.dir);
}

/* ------------------------------------------------------------------------------------------------------------ waiters */

struct flood {
  struct pool_fixture *f;
  struct record *records;
  _Atomic int next, accepted, full, other;
};

enum { FLOOD = 100000, FLOOD_THREADS = 4, FLOOD_PENDING = 1000 };

static void *flood_main(void *arg)
{
  struct flood *flood = arg;
  cpool_request req = request_of(flood->f, "/ok");
  req.queue = NULL;
  req.on_event = on_record;
  for (int at; (at = atomic_fetch_add(&flood->next, 1)) < FLOOD;) {
    req.user = &flood->records[at];
    int rc = cpool_submit(cpool_http_session(flood->f->pool), &req, NULL);
    atomic_fetch_add(rc == CPOOL_OK ? &flood->accepted : rc == CPOOL_EFULL ? &flood->full : &flood->other, 1);
  }
  return NULL;
}

static void max_pending_is_exact_from_many_threads(void **state)
{
  struct pool_fixture *f = *state;
  pthread_t threads[FLOOD_THREADS];
  struct flood flood = {.f = f, .records = calloc(FLOOD, sizeof(struct record))};
  cpool_http_options options = pool_options();
  options.max_connections = 1;
  options.max_pending = FLOOD_PENDING;
  open_pool(f, &options);
  cpool_op held = ask(f, "/hold");
  eventually(counts_of(f).held == 1);
  eventually(stats_of(f).pending_requests == 0);
  for (int i = 0; i < FLOOD_THREADS; i++)
    pthread_create(&threads[i], NULL, flood_main, &flood);
  for (int i = 0; i < FLOOD_THREADS; i++)
    pthread_join(threads[i], NULL);
  assert_int_equal(atomic_load(&flood.accepted), FLOOD_PENDING);
  assert_int_equal(atomic_load(&flood.full), FLOOD - FLOOD_PENDING);
  assert_int_equal(atomic_load(&flood.other), 0);
  eventually(stats_of(f).pending_requests == FLOOD_PENDING);
  assert_int_equal(stats_of(f).refused, FLOOD - FLOOD_PENDING);
  release_all(f, 1);
  expect_end(f, held, CPOOL_OK);
  eventually(stats_of(f).succeeded == FLOOD_PENDING + 1);
  close_pool(f);
  int ends = 0;
  for (int i = 0; i < FLOOD; i++)
    ends += atomic_load(&flood.records[i].ends);
  assert_int_equal(ends, FLOOD_PENDING);
  free(flood.records);
}

static void waiters_of_a_host_are_served_in_order(void **state)
{
  enum { COUNT = 200 };
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections = 1;
  open_pool(f, &options);
  cpool_op held = ask(f, "/hold"), ops[COUNT];
  eventually(counts_of(f).held == 1);
  for (int i = 0; i < COUNT; i++)
    ops[i] = ask(f, "/ok");
  for (int i = 3; i < COUNT; i += 7) /* those who leave do not disturb the order of the others */
    assert_int_equal(cpool_cancel(f->pool, ops[i]), CPOOL_OK);
  for (int i = 3; i < COUNT; i += 7)
    expect_end(f, ops[i], CPOOL_ECANCELLED);
  release_all(f, 1);
  expect_end(f, held, CPOOL_OK);
  for (int i = 0; i < COUNT; i++)
    if (i % 7 != 3)
      expect_end(f, ops[i], CPOOL_OK);
}

static void hosts_take_turns_when_the_total_binds(void **state)
{
  enum { MANY = 60, FEW = 5 };
  struct pool_fixture *f = *state;
  struct names names = names_make();
  int first_b = -1, last_a = -1, last_b = -1;
  cpool_http_options options = pool_options();
  options.max_connections = 1;
  options.dns_hosts_file = names.hosts_file;
  open_pool(f, &options);
  ask_named(f, "a.test", "/hold", NULL);
  eventually(counts_of(f).held == 1);
  for (int i = 0; i < MANY; i++)
    ask_named(f, "a.test", "/ok", &first_b);
  for (int i = 0; i < FEW; i++)
    ask_named(f, "b.test", "/ok", &last_b);
  release_all(f, 1);
  for (int i = 0; i < 1 + MANY + FEW; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_OK);
    bool of_b = out.user == &last_b;
    first_b = of_b && first_b < 0 ? i : first_b;
    last_b = of_b ? i : last_b;
    last_a = of_b ? last_a : i;
    cpool_response_free(out.resp);
  }
  assert_in_range(first_b, 1, 8); /* not after the sixty that came before it */
  assert_true(last_b < last_a);
  temp_dir_free(names.dir);
}

static void hosts_beyond_max_origins_are_refused_while_all_are_in_use(void **state)
{
  struct pool_fixture *f = *state;
  struct names names = names_make();
  cpool_http_options options = pool_options();
  options.max_origins = 1;
  options.dns_hosts_file = names.hosts_file;
  open_pool(f, &options);
  cpool_op held = ask_named(f, "a.test", "/hold", NULL);
  eventually(counts_of(f).held == 1);
  cpool_op refused = ask_named(f, "b.test", "/ok", NULL);
  expect_end(f, refused, CPOOL_EFULL);
  release_all(f, 1);
  expect_end(f, held, CPOOL_OK);
  close_pool(f);
  temp_dir_free(names.dir);
}

/* ------------------------------------------------------------------------------------------------- a connection's life */

static void idle_connection_is_closed_in_time_and_really(void **state)
{
  enum { IDLE_MS = 200 };
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.keepalive_timeout_ms = IDLE_MS;
  open_pool(f, &options);
  get_ok(f, "/ok");
  int64_t start_ms = now_ms();
  int32_t fds = open_fd_count();
  assert_int_equal(stats_of(f).closed_idle, 0);
  eventually_within(IDLE_MS + 2000, counts_of(f).open == 0);
  assert_true(now_ms() - start_ms >= IDLE_MS - 20);
  eventually_within(2000, stats_of(f).closing_connections == 0);
  eventually(stats_of(f).closed_idle == 1);
  assert_int_equal(stats_of(f).total_connections, 0);
  eventually(open_fd_count() <= fds - 2); /* both ends were this process's */
}

static void keep_alive_hint_of_the_server_is_obeyed(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  int64_t start_ms = now_ms();
  get_ok(f, "/keepalive-hint/1");
  eventually_within(1000, counts_of(f).open == 0); /* before the server's second is over */
  assert_true(now_ms() - start_ms < 1000 + SLACK_MS);
  eventually(stats_of(f).closed_idle == 1);
}

static void lifetime_ends_a_busy_connection_between_requests(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_lifetime_ms = 100;
  options.max_lifetime_jitter_ratio = CPOOL_OFF;
  open_pool(f, &options);
  int64_t until_ms = now_ms() + 500;
  while (now_ms() < until_ms)
    get_ok(f, "/ok");
  assert_in_range(counts_of(f).accepted, 3, 7);
  eventually(stats_of(f).closed == stats_of(f).closed_lifetime && stats_of(f).closed_lifetime >= 3);
  assert_int_equal(stats_of(f).repeated, 0);
  assert_int_equal(stats_of(f).failed, 0);
}

static void connection_carries_so_many_requests_and_no_more(void **state)
{
  struct pool_fixture *f = *state;
  uint64_t numbers[10];
  cpool_http_options options = pool_options();
  options.max_requests_per_connection = 3;
  open_pool(f, &options);
  for (int i = 0; i < 10; i++) {
    numbers[i] = get_ok(f, "/ok");
    assert_int_equal(numbers[i], 1 + i / 3);
  }
  assert_int_equal(counts_of(f).accepted, 4);
  eventually(stats_of(f).closed_requests == 3);
  eventually_within(2000 + SLACK_MS, counts_of(f).open == 1);
}

/* libcurl looks at all of them about once a second, so they are not kept in any number. */
static void idle_connections_are_capped(void **state)
{
  enum { CAP = 1000, COUNT = CAP + 40 };
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_connections = options.max_connections_per_host = COUNT;
  open_pool(f, &options);
  for (int i = 0; i < COUNT; i++)
    ask(f, "/hold");
  eventually(counts_of(f).held == COUNT);
  release_all(f, COUNT);
  take_ok(f, COUNT);
  eventually(stats_of(f).closed_evicted == COUNT - CAP);
  assert_int_equal(stats_of(f).idle_connections, CAP);
  eventually_within(2000 + SLACK_MS, counts_of(f).open == CAP);
}

static void connections_being_made_are_capped_per_host(void **state)
{
  struct pool_fixture *f = *state;
  enum { CAP = 4, ASKED = 20 };
  struct fault_server *silent = fault_server_start(&(struct fault_options){.behaviour = FAULT_SILENT});
  assert_non_null(silent);
  cpool_http_options options = pool_options();
  options.max_connecting_per_host = CAP;
  options.connect_timeout_ms = 300; /* no handshake begins */
  open_pool(f, &options);
  char url[64];
  snprintf(url, sizeof url, "https://127.0.0.1:%u/", (unsigned) fault_server_port(silent));
  for (int i = 0; i < ASKED; i++) {
    cpool_request req = request_to(f, url);
    submit(f, &req);
  }
  cpool_http_stats stats;
  do {
    stats = stats_of(f);
    assert_true(stats.total_connections <= CAP);
  } while (stats.failed < ASKED);
  for (int i = 0; i < ASKED; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_ETIMEOUT_CONNECT);
    cpool_response_free(out.resp);
  }
  assert_balanced(f->pool);
  close_pool(f);
  fault_server_stop(silent);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(total_and_host_limits_bind_at_the_server),
      POOL_CASE(host_limit_is_never_exceeded_in_a_burst),
      POOL_CASE(idle_connection_of_another_host_makes_room),
      POOL_CASE(max_pending_is_exact_from_many_threads),
      POOL_CASE(waiters_of_a_host_are_served_in_order),
      POOL_CASE(hosts_take_turns_when_the_total_binds),
      POOL_CASE(hosts_beyond_max_origins_are_refused_while_all_are_in_use),
      POOL_CASE(idle_connection_is_closed_in_time_and_really),
      POOL_CASE(keep_alive_hint_of_the_server_is_obeyed),
      POOL_CASE(lifetime_ends_a_busy_connection_between_requests),
      POOL_CASE(connection_carries_so_many_requests_and_no_more),
      POOL_CASE(idle_connections_are_capped),
      POOL_CASE(connections_being_made_are_capped_per_host),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
