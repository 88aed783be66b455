/* proxy_storm: random requests through good and bad proxies, cancelled and cut at random, each end once and leave nothing
 *
 * The seed is printed; the first argument repeats it. */
#include "support/peer_fixture.h"

#include <time.h>

#include "support/certs.h"
#include "support/fault_proxy.h"

enum { PROXIES = 7, SESSIONS = 20, REQUESTS = 4000, AT_A_TIME = 40, MOST_SOCKETS = 16, PER_HOST = 3 };

static const struct way {
  const char *scheme;
  bool socks, tls;
  enum fault_proxy_behaviour behaviour;
  int code;
} ways[PROXIES] = {
    {"http", false, false, PROXY_TUNNELS, 0},       {"https", false, true, PROXY_TUNNELS, 0},
    {"socks5", true, false, PROXY_TUNNELS, 0},      {"http", false, false, PROXY_CLOSES_TUNNEL, 0},
    {"http", false, false, PROXY_REFUSES, 503},     {"socks5", true, false, PROXY_CLOSES_MIDWAY, 0},
    {"https", false, true, PROXY_CLOSES_MIDWAY, 0},
};

struct storm {
  struct certs *certs;
  struct fault_server *secure;
  struct fault_proxy *proxies[PROXIES];
  cpool_session *sessions[SESSIONS];
  cpool_op ops[REQUESTS];
  unsigned char ends[REQUESTS];
  uint64_t seed;
};

static unsigned below(struct storm *storm, unsigned limit)
{
  storm->seed ^= storm->seed >> 12;
  storm->seed ^= storm->seed << 25;
  storm->seed ^= storm->seed >> 27;
  return (unsigned) ((storm->seed * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % limit;
}

static void make_session(struct peer *f, int at)
{
  struct storm *storm = f->extra;
  int way = at < PROXIES ? at : (int) below(storm, 3);
  cpool_session_options options;
  cpool_session_options_init(&options);
  options.ca_file = storm->certs->ca_file;
  options.proxy = peer_text(f, "%s://%s:%u", ways[way].scheme, below(storm, 2) ? "127.0.0.1" : "localhost",
                            (unsigned) fault_proxy_port(storm->proxies[way]));
  options.proxy_username = below(storm, 2) ? "user" : NULL;
  options.no_proxy = below(storm, 3) ? NULL : "127.0.0.2";
  if (storm->sessions[at] != NULL)
    cpool_session_free(storm->sessions[at]);
  assert_int_equal(cpool_session_new(&storm->sessions[at], f->pool, &options), CPOOL_OK);
}

static int setup(void **state)
{
  struct peer *f = peer_new();
  struct storm *storm = calloc(1, sizeof *storm);
  cpool_http_options options;
  assert_non_null(storm);
  f->extra = storm;
  storm->certs = certs_new();
  f->server = fault_server_start(&(struct fault_options){0});
  storm->secure = fault_server_start(&(struct fault_options){.tls_cert_file = storm->certs->good.cert_file,
                                                             .tls_key_file = storm->certs->good.key_file});
  assert_non_null(f->server);
  assert_non_null(storm->secure);
  for (int i = 0; i < PROXIES; i++)
    storm->proxies[i] = fault_proxy_start(&(struct fault_proxy_options){
        .behaviour = ways[i].behaviour,
        .socks = ways[i].socks,
        .code = ways[i].code,
        .tls_cert_file = ways[i].tls ? storm->certs->good.cert_file : NULL,
        .tls_key_file = ways[i].tls ? storm->certs->good.key_file : NULL,
    });
  cpool_http_options_init(&options);
  options.max_connections = MOST_SOCKETS;
  options.max_connections_per_host = PER_HOST;
  options.keepalive_timeout_ms = 50;
  options.max_lifetime_ms = 300;
  options.max_origins = 12;
  peer_open_pool(f, &options);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct peer *f = *state;
  struct storm *storm = f->extra;
  peer_close_pool(f);
  for (int i = 0; i < PROXIES; i++)
    fault_proxy_stop(storm->proxies[i]);
  fault_server_stop(storm->secure);
  certs_free(storm->certs);
  free(storm);
  peer_free(f);
  return 0;
}

static void start_one(struct peer *f, int number)
{
  struct storm *storm = f->extra;
  static const char *const paths[] = {"/ok",
                                      "/ok",
                                      "/echo",
                                      "/bytes/30000",
                                      "/chunked/2000",
                                      "/close",
                                      "/delay/3",
                                      "/reset-midbody",
                                      "/extra-bytes",
                                      "/reset-on-reuse",
                                      "/blackhole",
                                      "/close-idle/2",
                                      "/fin-before-answer"};
  bool tls = below(storm, 2);
  const char *url = peer_text(f, "%s://127.0.0.%u:%u%s", tls ? "https" : "http", tls ? 1 : 1 + below(storm, 2),
                              (unsigned) fault_server_port(tls ? storm->secure : f->server),
                              paths[below(storm, sizeof paths / sizeof *paths)]);
  struct ask ask = {.session = storm->sessions[below(storm, SESSIONS)],
                    .url = url,
                    .connect_ms = below(storm, 8) ? 2000 : 1 + below(storm, 20),
                    .read_ms = 1 + below(storm, 200),
                    .total_ms = below(storm, 8) ? 3000 : 1 + below(storm, 30)};
  if (below(storm, 3) == 0) {
    ask.method = "POST";
    ask.body = "hello";
    ask.body_len = 5;
  }
  cpool_request request = peer_request(f, &ask);
  request.queue = f->queue;
  request.user = (void *) (uintptr_t) number;
  assert_int_equal(cpool_submit(ask.session, &request, &storm->ops[number]), CPOOL_OK);
}

static void take_one(struct peer *f)
{
  struct storm *storm = f->extra;
  const cpool_event *event = NULL;
  assert_int_equal(cpool_queue_wait(f->queue, &event, 1, PEER_DEADLINE_MS), 1);
  uintptr_t number = (uintptr_t) event->user;
  cpool_error error;
  cpool_error_init(&error);
  assert_int_equal(cpool_response_error_get(event->response, &error), CPOOL_OK);
  assert_true(number < REQUESTS);
  assert_true(storm->ops[number] == event->source);
  assert_int_equal(storm->ends[number]++, 0);
  assert_int_equal(error.status, event->status);
  assert_null(strstr((const char *) cpool_response_body(event->response, NULL), "poisoned"));
  if (event->status == CPOOL_EPROXY) {
    assert_true((error.flags & CPOOL_ERROR_NOTHING_SENT) != 0);
    assert_non_null(strstr(error.text, " via "));
  }
  assert_int_not_equal(event->status, CPOOL_EINTERNAL);
  cpool_queue_release(f->queue, &event, 1);
}

static void look(struct peer *f)
{
  cpool_http_stats stats = peer_stats(f); /* whose sums it checks */
  cpool_origin_stats rows[4];
  uint64_t cursor = 0;
  int count;
  assert_true(stats.total_connections <= MOST_SOCKETS);
  while ((count = cpool_http_origins_get(f->pool, &cursor, rows, sizeof rows[0], 4)) > 0)
    for (int i = 0; i < count; i++)
      assert_true(rows[i].total_connections <= PER_HOST);
}

static uint64_t first_seed;

static void each_request_ends_once_and_nothing_is_left(void **state)
{
  struct peer *f = *state;
  struct storm *storm = f->extra;
  int started = 0, ended = 0;
  storm->seed = first_seed;
  print_message("seed %llu\n", (unsigned long long) first_seed);
  for (int i = 0; i < SESSIONS; i++)
    make_session(f, i);
  while (ended < REQUESTS) {
    while (started < REQUESTS && started - ended < AT_A_TIME)
      start_one(f, started++);
    unsigned dice = below(storm, 100);
    if (dice < 20) {
      int rc = cpool_cancel(f->pool, storm->ops[below(storm, (unsigned) started)]);
      assert_true(rc == CPOOL_OK || rc == CPOOL_ESTALE);
    } else if (dice < 22) {
      fault_proxy_drop_all(storm->proxies[below(storm, 3)]);
    } else if (dice < 24) {
      fault_server_reset_all(below(storm, 2) ? f->server : storm->secure);
    } else if (dice < 26) {
      make_session(f, (int) below(storm, SESSIONS));
    } else if (dice < 30) {
      look(f);
    }
    take_one(f);
    ended++;
  }
  cpool_http_stats stats = peer_stats(f);
  print_message("%llu succeeded, %llu failed, %llu opened, %llu reused\n", (unsigned long long) stats.succeeded,
                (unsigned long long) stats.failed, (unsigned long long) stats.opened,
                (unsigned long long) stats.reused);
  assert_true(stats.succeeded > REQUESTS / 10);
  for (int i = 0; i < SESSIONS; i++)
    cpool_session_free(storm->sessions[i]);
  peer_await(f, total_connections, 0);
  peer_await(f, closing_connections, 0);
}

int main(int argc, char **argv)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(each_request_ends_once_and_nothing_is_left, setup, teardown),
  };
  first_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t) time(NULL) * 2654435761u + (uint64_t) now_us();
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
