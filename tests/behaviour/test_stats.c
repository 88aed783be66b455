/* test_stats: the numbers add up in every snapshot and agree with what the server counted */
#include "support/pool_fixture.h"

#include <unistd.h>

struct watcher {
  struct pool_fixture *f;
  _Atomic bool stop;
  _Atomic(const char *) broken;
  _Atomic uint64_t looks;
  bool backwards;
};

/* Polls snapshots as fast as it can. */
static void *watch(void *arg)
{
  struct watcher *me = arg;
  cpool_http_stats last = stats_of(me->f);
  while (!atomic_load(&me->stop)) {
    cpool_http_stats stats = stats_of(me->f);
    const char *broken = imbalance_of(&stats);
    if (broken != NULL)
      atomic_store(&me->broken, broken);
    me->backwards = me->backwards || stats.requests < last.requests || stats.opened < last.opened ||
                    stats.closed < last.closed || stats.succeeded < last.succeeded || stats.failed < last.failed ||
                    stats.bytes_received < last.bytes_received;
    if (stats.total_connections > stats.max_connections)
      atomic_store(&me->broken, "total_connections <= max_connections");
    last = stats;
    atomic_fetch_add(&me->looks, 1);
  }
  return NULL;
}

static void every_snapshot_adds_up_during_traffic(void **state)
{
  static const char *const paths[] = {"/ok",          "/bytes/2000",   "/close",      "/reset-before-answer",
                                      "/fin-midbody", "/http10",       "/delay/3",    "/blackhole",
                                      "/garbage",     "/close-idle/1", "/status/500", "/keepalive-hint/1"};
  enum { COUNT = 3000 };
  struct pool_fixture *f = *state;
  struct watcher watcher = {.f = f};
  cpool_http_options options = pool_options();
  pthread_t thread;
  uint16_t port;
  int port_fd = refusing_port_open(&port);
  uint64_t ok = 0, cancelled = 0, bad = 0;
  options.max_connections = 10;
  options.max_requests_per_connection = 3;
  open_pool(f, &options);
  pthread_create(&thread, NULL, watch, &watcher);
  for (int i = 0; i < COUNT; i++) {
    cpool_request req = request_of(f, paths[i % 12]);
    if (i % 50 == 7)
      req.url = url_at(port, "/");
    req.sock_read_timeout_ms = i % 12 == 7 ? 5 : 0;
    cpool_op op = submit(f, &req);
    if (i % 9 == 4)
      (void) cpool_cancel(f->pool, op);
  }
  for (int i = 0; i < COUNT; i++) {
    struct outcome out = take(f);
    ok += out.status == CPOOL_OK;
    cancelled += out.status == CPOOL_ECANCELLED;
    bad += out.status != CPOOL_OK;
    cpool_response_free(out.resp);
  }
  eventually(stats_of(f).succeeded + stats_of(f).failed == COUNT);
  cpool_http_stats stats = stats_of(f);
  assert_true(stats.succeeded == ok && stats.failed == bad && stats.cancelled == cancelled);
  assert_int_equal(stats.requests, COUNT);
  assert_true(stats.closed_cancelled > 0 && stats.closed_response > 0 && stats.closed_error > 0 &&
              stats.closed_requests > 0 && stats.closed_peer > 0 && stats.closed_dial > 0 && stats.timeout_read > 0);
  assert_int_equal(stats.pending_requests + stats.active_requests + stats.acquired_connections, 0);
  assert_int_equal(cpool_http_close_start(f->pool, 0), CPOOL_OK);
  eventually(stats_of(f).closed == stats_of(f).opened);
  atomic_store(&watcher.stop, true);
  pthread_join(thread, NULL);
  if (atomic_load(&watcher.broken) != NULL)
    fail_msg("does not hold: %s", atomic_load(&watcher.broken));
  assert_false(watcher.backwards);
  assert_true(atomic_load(&watcher.looks) > 100);
  close(port_fd);
}

static void connections_agree_with_the_server(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (int i = 0; i < 50; i++)
    get_ok(f, "/ok");
  for (int i = 0; i < 10; i++)
    get_ok(f, "/close");
  eventually(stats_of(f).closed_response == 10);
  cpool_http_stats stats = stats_of(f);
  struct fault_counts counts = counts_of(f);
  assert_int_equal(stats.opened, counts.accepted);
  assert_int_equal(stats.opened, 10);
  assert_int_equal(stats.reused, 50);
  assert_int_equal(stats.succeeded, counts.requests);
  assert_int_equal(stats.repeated, 0);
  assert_int_equal(stats.total_connections, 0);
  get_ok(f, "/ok");
  eventually(stats_of(f).idle_connections == 1);
  assert_int_equal(stats_of(f).total_connections, 1);
  assert_int_equal(stats_of(f).acquired_connections, 0);
  ask(f, "/hold");
  eventually(stats_of(f).acquired_connections == 1);
  assert_int_equal(stats_of(f).idle_connections, 0);
  assert_int_equal(stats_of(f).active_requests, 1);
}

static void bytes_are_counted_both_ways(void **state)
{
  struct pool_fixture *f = *state;
  static char body[10000];
  open_pool(f, NULL);
  cpool_request req = request_of(f, "/echo");
  req.body = body;
  req.body_len = sizeof body;
  submit(f, &req);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_OK);
  cpool_response_info info = info_of(&out);
  assert_in_range(info.bytes_sent, sizeof body + 20, sizeof body + 500);
  assert_in_range(info.bytes_received, sizeof body + 20, sizeof body + 500);
  eventually(stats_of(f).bytes_sent == info.bytes_sent);
  assert_int_equal(stats_of(f).bytes_received, info.bytes_received);
  cpool_response_free(out.resp);
}

static cpool_histogram histogram_of(struct pool_fixture *f, int32_t phase)
{
  cpool_histogram histogram;
  cpool_histogram_init(&histogram);
  assert_int_equal(cpool_http_histogram_get(f->pool, phase, &histogram), CPOOL_OK);
  return histogram;
}

static void histograms_count_each_phase_as_often_as_it_happened(void **state)
{
  struct pool_fixture *f = *state;
  uint16_t port;
  int port_fd = refusing_port_open(&port);
  cpool_http_options options = pool_options();
  options.max_connections = 2;
  open_pool(f, &options);
  for (int i = 0; i < 20; i++)
    get_ok(f, i % 5 == 0 ? "/delay/30" : "/ok");
  cpool_request req = request_to(f, url_at(port, "/"));
  submit(f, &req);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_ECONNECT);
  cpool_response_free(out.resp);
  eventually(stats_of(f).failed == 1);
  assert_int_equal(histogram_of(f, CPOOL_PHASE_QUEUE).count, 21);
  assert_int_equal(histogram_of(f, CPOOL_PHASE_TOTAL).count, 21);
  assert_int_equal(histogram_of(f, CPOOL_PHASE_FIRST_BYTE).count, 20);
  assert_int_equal(histogram_of(f, CPOOL_PHASE_CONNECT).count, 1);
  assert_int_equal(histogram_of(f, CPOOL_PHASE_TLS).count, 0);
  cpool_histogram total = histogram_of(f, CPOOL_PHASE_TOTAL);
  assert_true(total.max_us >= 29000 && total.p99_us >= 29000 && total.p50_us <= total.p90_us &&
              total.p90_us <= total.p99_us && total.p99_us <= total.p999_us && total.sum_us >= 4 * 29000);
  close(port_fd);
}

static void origins_are_paged_without_doubles(void **state)
{
  enum { ORIGINS = 25 };
  struct pool_fixture *f = *state;
  bool seen[ORIGINS] = {false};
  int total = 0, calls = 0, got;
  uint64_t cursor = 0;
  cpool_origin_stats rows[4];
  char dir_hosts[300], *dir = temp_dir_new(), text[ORIGINS * 40], *at = text;
  for (int i = 0; i < ORIGINS; i++)
    at += sprintf(at, "127.0.0.1 h%d.test\n", i);
  snprintf(dir_hosts, sizeof dir_hosts, "%s/hosts", dir);
  write_file(dir_hosts, text, (size_t) (at - text));
  cpool_http_options options = pool_options();
  options.dns_hosts_file = dir_hosts;
  open_pool(f, &options);
  assert_int_equal(cpool_http_origins_get(f->pool, &cursor, rows, sizeof *rows, 4), 0);
  for (int i = 0; i < ORIGINS; i++) {
    char url[100];
    snprintf(url, sizeof url, "http://h%d.test:%u/ok", i, (unsigned) fault_server_port(f->server));
    cpool_request req = request_to(f, url);
    for (int n = 0; n <= i % 3; n++) {
      submit(f, &req);
      struct outcome out = take(f);
      assert_int_equal(out.status, CPOOL_OK);
      cpool_response_free(out.resp);
    }
  }
  eventually(stats_of(f).succeeded == ORIGINS + 8 + 2 * 8 && stats_of(f).origins == ORIGINS);
  for (cursor = 0; (got = cpool_http_origins_get(f->pool, &cursor, rows, sizeof *rows, 4)) > 0; calls++) {
    assert_in_range(got, 1, 4);
    for (int i = 0; i < got; i++) {
      int number = -1, end = 0;
      assert_int_equal(sscanf(rows[i].origin, "http://h%d.test:%*u%n", &number, &end), 1);
      assert_int_equal(rows[i].origin[end], '\0');
      assert_in_range(number, 0, ORIGINS - 1);
      assert_false(seen[number]);
      seen[number] = true;
      assert_int_equal(rows[i].requests, 1 + number % 3);
      assert_int_equal(rows[i].succeeded, 1 + number % 3);
      assert_int_equal(rows[i].failed, 0);
      assert_int_equal(rows[i].opened, 1);
      assert_int_equal(rows[i].reused, number % 3);
      assert_int_equal(rows[i].total_connections, 1);
      assert_int_equal(rows[i].idle_connections, 1);
      assert_int_equal(rows[i].max_connections, 30);
      total++;
    }
  }
  assert_int_equal(total, ORIGINS);
  assert_int_equal(calls, (ORIGINS + 3) / 4);
  temp_dir_free(dir);
}

/* A caller that knows only the start of a row, and one that knows more than this version. */
static void rows_of_other_sizes_are_filled_as_far_as_they_go(void **state)
{
  struct pool_fixture *f = *state;
  struct {
    char origin[304];
    int64_t total_connections;
  } shorter[2];
  struct {
    cpool_origin_stats row;
    int64_t later;
  } longer;
  uint64_t cursor = 0;
  open_pool(f, NULL);
  get_ok(f, "/ok");
  eventually(stats_of(f).idle_connections == 1);
  memset(shorter, 0x55, sizeof shorter);
  assert_int_equal(cpool_http_origins_get(f->pool, &cursor, (cpool_origin_stats *) (void *) shorter, sizeof *shorter,
                                          2),
                   1);
  assert_int_equal(shorter[0].total_connections, 1);
  assert_string_equal(shorter[0].origin, url_of(f, ""));
  assert_int_equal(shorter[1].total_connections, 0x5555555555555555);
  longer.later = 7;
  cursor = 0;
  assert_int_equal(cpool_http_origins_get(f->pool, &cursor, &longer.row, sizeof longer, 1), 1);
  assert_int_equal(longer.row.idle_connections, 1);
  assert_int_equal(longer.later, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(every_snapshot_adds_up_during_traffic), POOL_CASE(connections_agree_with_the_server),
      POOL_CASE(bytes_are_counted_both_ways),           POOL_CASE(histograms_count_each_phase_as_often_as_it_happened),
      POOL_CASE(origins_are_paged_without_doubles),     POOL_CASE(rows_of_other_sizes_are_filled_as_far_as_they_go),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
