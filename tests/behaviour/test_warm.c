/* warm: connections are made ahead of requests, within all limits, are used without a wait, and die without doing harm */
#include "support/pool_fixture.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/blackhole.h"
#include "support/certs.h"
#include "support/fault_proxy.h"
#include "support/process.h"

enum { STOCK = 8, CAP = 4, BURST = 500, WARM = 100 };

static struct certs *certs;

static int group_setup(void **state)
{
  certs = certs_new();
  return certs != NULL ? pool_warm_up(state) : -1;
}

static int group_teardown(void **state)
{
  (void) state;
  certs_free(certs);
  return 0;
}

static void open_warm_pool(struct pool_fixture *f, int32_t min_idle, int32_t cap)
{
  cpool_http_options options = pool_options();
  options.min_idle_per_host = min_idle;
  options.max_connecting_per_host = cap;
  options.max_connections = options.max_connections_per_host = 2 * WARM;
  open_pool(f, &options);
}

static const char *origin_of(uint16_t port, bool tls)
{
  static _Thread_local char texts[4][64];
  static _Thread_local unsigned next;
  char *text = texts[next++ % 4];
  snprintf(text, sizeof texts[0], "http%s://127.0.0.1:%u", tls ? "s" : "", (unsigned) port);
  return text;
}

static void set_origin(struct pool_fixture *f, uint16_t port, bool tls, const char *key, const char *value)
{
  assert_int_equal(cpool_http_origin_set(f->pool, origin_of(port, tls), key, value), CPOOL_OK);
}

static cpool_session *session_of(struct pool_fixture *f, int version)
{
  cpool_session_options options = session_options();
  options.ca_file = certs->ca_file;
  options.http_version = version;
  return session_open(f->pool, &options);
}

static cpool_response_info get_info(struct pool_fixture *f, cpool_session *session, const char *url)
{
  cpool_request req = request_to(f, url);
  submit_in(session != NULL ? session : cpool_http_session(f->pool), &req);
  struct outcome out = take(f);
  cpool_error error = error_of(&out);
  if (out.status != CPOOL_OK)
    print_error("%s: %s\n", cpool_status_name(out.status), error.text);
  assert_int_equal(out.status, CPOOL_OK);
  cpool_response_info info = info_of(&out);
  cpool_response_free(out.resp);
  return info;
}

static const char *tls_url(uint16_t port, const char *path)
{
  static _Thread_local char text[256];
  snprintf(text, sizeof text, "%s%s", origin_of(port, true), path);
  return text;
}

/* Every snapshot on the way there is in order. */
#define await_idle(f, count)                                                                                           \
  eventually((assert_balanced((f)->pool),                                                                              \
              stats_of(f).idle_connections == (count) && stats_of(f).total_connections == (count)))

/* So many or more, whatever was used meanwhile, and nothing is being made. */
#define await_at_least(f, count)                                                                                       \
  eventually((assert_balanced((f)->pool), stats_of(f).idle_connections >= (count) &&                                   \
                                              stats_of(f).idle_connections == stats_of(f).total_connections))

/* ---- filled, used, refilled */

static void a_host_is_warm_from_its_first_request_on(void **state)
{
  struct pool_fixture *f = *state;
  open_warm_pool(f, STOCK, 0);
  assert_int_equal(stats_of(f).opened, 0);
  uint64_t first = get_ok(f, "/ok");
  await_idle(f, STOCK + 1);                  /* they were made while it was in use */
  assert_int_equal(get_ok(f, "/ok"), first); /* a used one is preferred, and the others are enough */
  eventually(stats_of(f).succeeded == 2);
  await_idle(f, STOCK + 1);
  assert_int_equal(stats_of(f).opened, STOCK + 1);
  assert_int_equal(stats_of(f).requests, 2);
  assert_int_equal(counts_of(f).requests, 2);
}

static void a_host_that_is_named_is_warm_before_any_request(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  set_origin(f, fault_server_port(f->server), false, "min_idle_per_host", "3");
  await_idle(f, 3);
  cpool_response_info info = get_info(f, NULL, url_of(f, "/ok"));
  assert_int_equal(info.dns_us, CPOOL_OFF); /* what was done ahead is not this request's time */
  assert_int_equal(info.connect_us, CPOOL_OFF);
  assert_int_equal(info.reused, 0);
  assert_int_equal(info.attempts, 1);
  await_idle(f, 4); /* there were two while it was in use */
  assert_int_equal(stats_of(f).opened, 4);
}

static void what_is_taken_is_made_up_for(void **state)
{
  struct pool_fixture *f = *state;
  open_warm_pool(f, STOCK, 0);
  set_origin(f, fault_server_port(f->server), false, "min_idle_per_host", "8");
  await_idle(f, STOCK);
  for (int i = 0; i < STOCK; i++)
    ask(f, "/hold");
  eventually(counts_of(f).held == STOCK);
  eventually(stats_of(f).acquired_connections == STOCK && stats_of(f).idle_connections == STOCK);
  assert_int_equal(fault_server_release(f->server, STOCK), STOCK);
  for (int i = 0; i < STOCK; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_OK);
    assert_int_equal(info_of(&out).connect_us, CPOOL_OFF);
    cpool_response_free(out.resp);
  }
  await_idle(f, 2 * STOCK); /* more than are wanted are kept as any idle ones */
  assert_int_equal(stats_of(f).opened, 2 * STOCK);
}

static void one_whose_time_is_over_is_replaced(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  set_origin(f, fault_server_port(f->server), false, "keepalive_timeout_ms", "50");
  set_origin(f, fault_server_port(f->server), false, "min_idle_per_host", "2");
  eventually(stats_of(f).closed_idle >= 4);
  eventually(stats_of(f).idle_connections == 2);
  cpool_http_stats stats = stats_of(f);
  assert_int_equal(stats.closed, stats.closed_idle);
  assert_in_range(stats.opened - stats.closed, 0, 2);
}

static void names_are_dialled_by_their_addresses(void **state)
{
  struct pool_fixture *f = *state;
  char name[64], url[96];
  snprintf(name, sizeof name, "http://localhost:%u", (unsigned) fault_server_port(f->server));
  snprintf(url, sizeof url, "%s/ok", name);
  open_pool(f, NULL);
  assert_int_equal(cpool_http_origin_set(f->pool, name, "min_idle_per_host", "2"), CPOOL_OK);
  await_idle(f, 2);
  assert_int_equal(get_info(f, NULL, url).connect_us, CPOOL_OFF);
}

/* ---- dead ones */

static void one_that_the_peer_ends_serves_nobody_and_is_replaced(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  set_origin(f, fault_server_port(f->server), false, "min_idle_per_host", "4");
  await_idle(f, 4);
  for (int i = 0; i < 4; i++) { /* each is a failure, and waited out longer than the last */
    cpool_http_stats before = stats_of(f);
    eventually(counts_of(f).open == before.total_connections); /* the server has accepted all of them */
    int32_t count = i % 2 == 0 ? fault_server_drop_all(f->server) : fault_server_reset_all(f->server);
    assert_true(count >= 1);
    cpool_response_info info = get_info(f, NULL, url_of(f, "/ok")); /* the dead ones still there, perhaps */
    assert_in_range(info.attempts, 1, 3);
    eventually(stats_of(f).closed >= before.closed + (uint64_t) count);
    await_at_least(f, 4);
  }
  cpool_http_stats stats = stats_of(f);
  assert_int_equal(stats.failed, 0);
  assert_true(stats.closed_peer >= 4);
}

/* A listener whose connections are ours to misuse. */
static int accept_one(int fd)
{
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  assert_int_equal(poll(&wait, 1, DEADLINE_MS), 1);
  int conn = accept(fd, NULL, NULL);
  assert_true(conn >= 0);
  return conn;
}

static void bytes_on_an_unused_one_are_nobodys_answer(void **state)
{
  static const char poison[] = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";
  static const char good[] = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
  struct pool_fixture *f = *state;
  uint16_t port = 0;
  int listener = listen_on("127.0.0.1", &port, 16);
  assert_true(listener >= 0);
  open_pool(f, NULL);
  set_origin(f, port, false, "min_idle_per_host", "1");
  int first = accept_one(listener);
  await_idle(f, 1);
  assert_int_equal(send(first, poison, sizeof poison - 1, 0), sizeof poison - 1);
  cpool_request req = request_to(f, url_at(port, "/"));
  submit(f, &req); /* at once: the watch has not seen the bytes yet */
  int second = accept_one(listener);
  char head[1024];
  assert_true(recv(second, head, sizeof head, 0) > 0);
  assert_int_equal(send(second, good, sizeof good - 1, 0), sizeof good - 1);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_OK);
  assert_string_equal(cpool_response_body(out.resp, NULL), "good");
  cpool_response_free(out.resp);
  assert_int_equal(recv(first, head, sizeof head, MSG_DONTWAIT) > 0, 0); /* it got no request */
  assert_int_equal(stats_of(f).closed_unsolicited, 1);
  close_pool(f);
  close(first);
  close(second);
  close(listener);
}

static void one_that_dies_over_tls_is_repeated_whatever_the_method(void **state)
{
  struct pool_fixture *f = *state;
  struct fault_server *server = fault_server_start(
      &(struct fault_options){.tls_cert_file = certs->good.cert_file, .tls_key_file = certs->good.key_file});
  assert_non_null(server);
  open_warm_pool(f, 3, 0);
  cpool_session *session = session_of(f, CPOOL_HTTP_1_1);
  get_info(f, session, tls_url(fault_server_port(server), "/ok"));
  await_idle(f, 4);
  for (int i = 0; i < 4; i++) { /* each is a failure, and waited out longer than the last */
    assert_true(fault_server_reset_all(server) >= 1);
    cpool_request req = request_to(f, tls_url(fault_server_port(server), "/ok"));
    req.method = "POST";
    req.body = "x";
    req.body_len = 1;
    cpool_op op = submit_in(session, &req);
    expect_end(f, op, CPOOL_OK);
    await_at_least(f, 3);
  }
  cpool_session_free(session);
  close_pool(f);
  fault_server_stop(server);
}

static void a_handshake_that_an_unused_one_does_not_survive_is_repeated(void **state)
{
  struct pool_fixture *f = *state;
  struct fault_server *garbage = fault_server_start(&(struct fault_options){.behaviour = FAULT_GARBAGE});
  assert_non_null(garbage);
  open_pool(f, NULL);
  set_origin(f, fault_server_port(garbage), true, "min_idle_per_host", "1");
  await_idle(f, 1);
  cpool_request req = request_to(f, tls_url(fault_server_port(garbage), "/"));
  submit(f, &req);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_ETLS_HANDSHAKE);
  assert_in_range(info_of(&out).attempts, 2, 3);
  cpool_response_free(out.resp);
  close_pool(f);
  fault_server_stop(garbage);
}

/* ---- limits */

struct most {
  struct pool_fixture *f;
  int64_t connecting, total;
};

/* From outside a moment is easily missed; the counters of admission are asserted inside, in every state. */
static void look(struct most *most)
{
  cpool_http_stats stats = stats_of(most->f);
  assert_null(imbalance_of(&stats));
  most->connecting = stats.connecting_connections > most->connecting ? stats.connecting_connections : most->connecting;
  most->total = stats.total_connections > most->total ? stats.total_connections : most->total;
}

static void connects_in_flight_stay_within_half_of_the_cap(void **state)
{
  struct pool_fixture *f = *state;
  struct blackhole *hole = blackhole_start(NULL, 0);
  assert_non_null(hole);
  open_warm_pool(f, STOCK, CAP);
  struct most most = {.f = f};
  set_origin(f, blackhole_port(hole), false, "min_idle_per_host", "8");
  eventually((look(&most), stats_of(f).opened == CAP / 2));
  cpool_op ops[STOCK];
  for (int i = 0; i < STOCK; i++) { /* requests have the other half */
    cpool_request req = request_to(f, url_at(blackhole_port(hole), "/"));
    ops[i] = submit(f, &req);
  }
  eventually((look(&most), stats_of(f).opened == CAP));
  for (int i = 0; i < STOCK; i++)
    assert_int_equal(cpool_cancel(f->pool, ops[i]), CPOOL_OK);
  for (int i = 0; i < STOCK; i++)
    expect_end(f, ops[i], CPOOL_ECANCELLED);
  look(&most);
  assert_in_range(most.connecting, 1, CAP);
  close_pool(f);
  blackhole_stop(hole);
}

static void handshakes_on_stock_stay_within_the_cap(void **state)
{
  struct pool_fixture *f = *state;
  struct fault_server *silent = fault_server_start(&(struct fault_options){.behaviour = FAULT_SILENT});
  assert_non_null(silent);
  open_warm_pool(f, 5 * CAP, CAP);
  set_origin(f, fault_server_port(silent), true, "min_idle_per_host", "20");
  await_idle(f, 5 * CAP);
  cpool_op ops[5 * CAP];
  for (int i = 0; i < 5 * CAP; i++) {
    cpool_request req = request_to(f, tls_url(fault_server_port(silent), "/"));
    ops[i] = submit(f, &req);
  }
  eventually(stats_of(f).active_requests == CAP);
  assert_int_equal(stats_of(f).acquired_connections, CAP);
  assert_true(stats_of(f).idle_connections >= 4 * CAP); /* they wait beside them for their turn */
  for (int i = 0; i < 5 * CAP; i++) {                   /* each gives its turn to the next */
    assert_int_equal(cpool_cancel(f->pool, ops[i]), CPOOL_OK);
    expect_end(f, ops[i], CPOOL_ECANCELLED);
    assert_in_range(stats_of(f).acquired_connections, 0, CAP);
  }
  close_pool(f);
  fault_server_stop(silent);
}

static void limits_hold_in_a_burst_on_a_warm_host(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.min_idle_per_host = WARM;
  options.max_connections = options.max_connections_per_host = WARM;
  options.max_connecting_per_host = CAP;
  open_pool(f, &options);
  struct most most = {.f = f};
  get_ok(f, "/ok");
  await_idle(f, WARM);
  for (int i = 0; i < BURST; i++)
    ask(f, "/ok");
  for (int i = 0; i < BURST; i++) {
    struct outcome out = take(f);
    look(&most);
    assert_int_equal(out.status, CPOOL_OK);
    assert_int_equal(info_of(&out).connect_us, CPOOL_OFF);
    cpool_response_free(out.resp);
  }
  await_idle(f, WARM);
  assert_int_equal(stats_of(f).opened, WARM);
  assert_in_range(most.total, 1, WARM);
  assert_in_range(counts_of(f).most_open, 1, WARM);
}

static void other_hosts_take_room_from_stock(void **state)
{
  struct pool_fixture *f = *state;
  struct fault_server *other = fault_server_start(&(struct fault_options){0});
  assert_non_null(other);
  cpool_http_options options = pool_options();
  options.max_connections = 4;
  open_pool(f, &options);
  set_origin(f, fault_server_port(f->server), false, "min_idle_per_host", "10");
  await_idle(f, 4);
  for (int i = 0; i < 20; i++)
    get_info(f, NULL, url_at(fault_server_port(other), "/ok"));
  cpool_http_stats stats = stats_of(f);
  assert_int_equal(stats.closed_evicted, 1); /* once: what is evicted is not made again at another one's expense */
  assert_int_equal(stats.opened, 5);
  close_pool(f);
  fault_server_stop(other);
}

/* ---- TLS done ahead */

/* What a request that takes a warm connection shows: nothing was left to be made for it. */
static void assert_nothing_was_made(const cpool_response_info *info)
{
  assert_int_equal(info->dns_us, CPOOL_OFF);
  assert_int_equal(info->connect_us, CPOOL_OFF);
  assert_int_equal(info->tls_us, CPOOL_OFF);
  assert_int_equal(info->attempts, 1);
}

static void tls_is_done_ahead_for_http_2(void **state)
{
  struct pool_fixture *f = *state;
  for (int i = 0; i < 2; i++) {
    struct process *server = i == 0 ? nghttpd_start(&(struct nghttpd_options){.certs = certs})
                                    : nginx_start(&(struct nginx_options){.certs = certs, .http2 = true});
    assert_non_null(server);
    uint16_t port = i == 0 ? process_port(server) : process_tls_port(server);
    open_warm_pool(f, 3, 0);
    set_origin(f, port, true, "max_requests_per_connection", "1"); /* each one takes another connection */
    cpool_session *session = session_of(f, CPOOL_HTTP_2);
    get_info(f, session, tls_url(port, "/"));
    for (int j = 0; j < 5; j++) {
      eventually(stats_of(f).closed_requests == (uint64_t) j + 1);
      await_idle(f, 3);
      cpool_response_info info = get_info(f, session, tls_url(port, "/"));
      assert_int_equal(info.http_version, 20);
      assert_int_equal(info.reused, 0);
      assert_nothing_was_made(&info);
    }
    eventually(stats_of(f).closed_requests == 6);
    assert_int_equal(stats_of(f).closed, 6);
    assert_int_equal(stats_of(f).requests, 6);
    cpool_session_free(session);
    close_pool(f);
    process_stop(server);
  }
}

static void many_streams_share_what_was_made_ahead(void **state)
{
  struct pool_fixture *f = *state;
  struct process *server = nghttpd_start(&(struct nghttpd_options){.certs = certs});
  assert_non_null(server);
  open_warm_pool(f, 2, 0);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  const char *url = tls_url(process_port(server), "/");
  get_info(f, session, url);
  await_at_least(f, 2);
  uint64_t opened = stats_of(f).opened;
  for (int i = 0; i < WARM; i++) {
    cpool_request req = request_to(f, url);
    submit_in(session, &req);
  }
  for (int i = 0; i < WARM; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_OK);
    cpool_response_free(out.resp);
  }
  await_at_least(f, 2);
  assert_in_range(stats_of(f).opened, opened, opened + 1); /* one with streams to spare is as good as an idle one */
  cpool_session_free(session);
  close_pool(f);
  process_stop(server);
}

static void idle_http_2_stock_stays(void **state)
{
  struct pool_fixture *f = *state;
  struct process *server = nghttpd_start(&(struct nghttpd_options){.certs = certs});
  assert_non_null(server);
  open_warm_pool(f, 3, 0);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  get_info(f, session, tls_url(process_port(server), "/"));
  await_at_least(f, 3);
  uint64_t opened = stats_of(f).opened;
  int64_t until_ms = now_ms() + 2500; /* libcurl is made to look at what came on them within about a second */
  while (now_ms() < until_ms) {
    assert_balanced(f->pool);
    assert_int_equal(stats_of(f).closed, 0);
    poll(NULL, 0, 20);
  }
  assert_int_equal(stats_of(f).opened, opened);
  cpool_session_free(session);
  close_pool(f);
  process_stop(server);
}

static void a_host_without_http_2_is_connected_ahead_alone(void **state)
{
  struct pool_fixture *f = *state;
  struct fault_server *server = fault_server_start(
      &(struct fault_options){.tls_cert_file = certs->good.cert_file, .tls_key_file = certs->good.key_file});
  assert_non_null(server);
  open_warm_pool(f, 3, 0);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  get_info(f, session, tls_url(fault_server_port(server), "/close"));
  await_idle(f, 3);
  cpool_response_info info = get_info(f, session, tls_url(fault_server_port(server), "/close"));
  assert_int_equal(info.connect_us, CPOOL_OFF);
  assert_true(info.tls_us > 0);
  await_idle(f, 3);
  cpool_session_free(session);
  close_pool(f);
  fault_server_stop(server);
}

static void a_warm_up_request_makes_tls_ahead_for_http_1(void **state)
{
  static const char *const warm_ups[] = {"HEAD /ok", "GET /ok", "OPTIONS *", "GET /status/404"};
  struct pool_fixture *f = *state;
  for (size_t i = 0; i < sizeof warm_ups / sizeof *warm_ups; i++) {
    struct fault_server *server = fault_server_start(
        &(struct fault_options){.tls_cert_file = certs->good.cert_file, .tls_key_file = certs->good.key_file});
    assert_non_null(server);
    uint16_t port = fault_server_port(server);
    open_warm_pool(f, 3, 0);
    set_origin(f, port, true, "warm_up_request", warm_ups[i]);
    cpool_session *session = session_of(f, CPOOL_HTTP_1_1);
    get_info(f, session, tls_url(port, "/close"));
    eventually(stats_of(f).closed_response == 1);
    await_idle(f, 3);
    cpool_response_info info = get_info(f, session, tls_url(port, "/close"));
    assert_nothing_was_made(&info);
    assert_int_equal(info.reused, 1);
    eventually(stats_of(f).closed_response == 2);
    await_idle(f, 3); /* the latest request is one of the pool's own */
    char *head = fault_server_last_head(server);
    assert_memory_equal(head, warm_ups[i], strlen(warm_ups[i]));
    assert_non_null(strstr(head, "User-Agent: libcpool/"));
    free(head);
    assert_int_equal(stats_of(f).requests, 2);
    assert_int_equal(stats_of(f).succeeded, 2);
    cpool_session_free(session);
    close_pool(f);
    fault_server_stop(server);
  }
}

/* ---- failures */

static void warm_up_requests_that_fail_are_failures(void **state)
{
  static const char *const paths[] = {"GET /close", "GET /reset-before-answer", "GET /bytes/100000", "GET /garbage"};
  struct pool_fixture *f = *state;
  struct fault_server *server = fault_server_start(
      &(struct fault_options){.tls_cert_file = certs->good.cert_file, .tls_key_file = certs->good.key_file});
  assert_non_null(server);
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    open_warm_pool(f, 1, 0);
    set_origin(f, fault_server_port(server), true, "warm_up_request", paths[i]);
    cpool_session *session = session_of(f, CPOOL_HTTP_1_1);
    int64_t begin_ms = now_ms();
    get_info(f, session, tls_url(fault_server_port(server), "/close"));
    eventually((assert_balanced(f->pool), stats_of(f).closed >= 1 + 3));
    assert_in_range(now_ms() - begin_ms, 50 + 100, DEADLINE_MS);
    assert_int_equal(stats_of(f).requests, 1);
    cpool_session_free(session); /* and the identity with it, perhaps in the middle of one */
    close_pool(f);
  }
  fault_server_stop(server);
}

static void a_handshake_that_never_ends_is_given_up(void **state)
{
  struct pool_fixture *f = *state;
  struct fault_server *silent = fault_server_start(&(struct fault_options){.behaviour = FAULT_SILENT});
  assert_non_null(silent);
  cpool_http_options options = pool_options();
  options.connect_timeout_ms = 200;
  options.warm_up_request = "HEAD /ok";
  open_pool(f, &options);
  set_origin(f, fault_server_port(silent), true, "min_idle_per_host", "2");
  eventually(stats_of(f).closed_cancelled >= 2);
  assert_balanced(f->pool);
  assert_int_equal(stats_of(f).requests, 0);
  close_pool(f); /* another one may be under way */
  fault_server_stop(silent);
}

static void a_host_that_is_down_is_tried_less_and_less_and_recovers(void **state)
{
  struct pool_fixture *f = *state;
  uint16_t port = fault_server_port(f->server);
  fault_server_stop(f->server);
  open_pool(f, NULL);
  set_origin(f, port, false, "min_idle_per_host", "5");
  eventually(stats_of(f).closed_dial >= 3);
  assert_true(stats_of(f).closed_dial < 20); /* four tries take at least 50 + 100 + 200 ms, and the first may be five */
  f->server = fault_server_start(&(struct fault_options){.port = port});
  assert_non_null(f->server);
  await_idle(f, 5);
}

static void one_that_is_closed_at_once_is_a_failure(void **state)
{
  struct pool_fixture *f = *state;
  fault_server_stop(f->server);
  f->server = fault_server_start(&(struct fault_options){.behaviour = FAULT_ACCEPT_CLOSE});
  open_pool(f, NULL);
  int64_t begin_ms = now_ms();
  set_origin(f, fault_server_port(f->server), false, "min_idle_per_host", "1");
  eventually(stats_of(f).closed_peer >= 4);
  assert_in_range(now_ms() - begin_ms, 50 + 100 + 200, DEADLINE_MS);
}

/* ---- life */

static void the_number_is_changed_on_a_living_pool(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  open_pool(f, NULL);
  get_ok(f, "/ok");
  assert_int_equal(stats_of(f).total_connections, 1);
  assert_int_equal(cpool_http_options_get(f->pool, &options), CPOOL_OK);
  assert_int_equal(options.min_idle_per_host, CPOOL_OFF);
  options.min_idle_per_host = 6;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  await_idle(f, 6);
  options.min_idle_per_host = 2;
  options.keepalive_timeout_ms = 500;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  eventually(stats_of(f).closed_idle >= 6);
  await_idle(f, 2);
  set_origin(f, fault_server_port(f->server), false, "min_idle_per_host", "off");
  eventually(stats_of(f).total_connections == 0);
}

static void a_pool_is_closed_with_its_stock(void **state)
{
  struct pool_fixture *f = *state;
  struct blackhole *hole = blackhole_start(NULL, 0);
  assert_non_null(hole);
  for (int i = 0; i < 3; i++) { /* ready, being connected, and in the middle of either */
    open_warm_pool(f, STOCK, 0);
    set_origin(f, i == 1 ? blackhole_port(hole) : fault_server_port(f->server), false, "min_idle_per_host", "8");
    if (i == 0)
      await_idle(f, STOCK);
    else if (i == 1)
      eventually(stats_of(f).connecting_connections == STOCK);
    close_pool(f);
  }
  blackhole_stop(hole);
}

static void nothing_is_made_while_the_pool_drains(void **state)
{
  struct pool_fixture *f = *state;
  open_warm_pool(f, STOCK, 0);
  cpool_op held = ask(f, "/hold");
  eventually(counts_of(f).held == 1 && counts_of(f).open == STOCK + 1 && stats_of(f).idle_connections == STOCK);
  assert_int_equal(cpool_http_close_start(f->pool, DEADLINE_MS), CPOOL_OK);
  assert_int_equal(fault_server_drop_all(f->server), STOCK + 1);
  expect_end(f, held, CPOOL_ERESET);
  close_pool(f);
  assert_int_equal(counts_of(f).accepted, STOCK + 1);
}

static void a_cancelled_request_leaves_the_stock_as_it_is(void **state)
{
  struct pool_fixture *f = *state;
  open_warm_pool(f, STOCK, 0);
  get_ok(f, "/ok");
  await_idle(f, STOCK + 1);
  for (int i = 0; i < 20; i++) {
    cpool_op op = ask(f, "/hold");
    if (i % 2 == 0)
      eventually(counts_of(f).held == 1);
    assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
    expect_end(f, op, CPOOL_ECANCELLED);
    eventually(counts_of(f).held == 0);
    await_at_least(f, STOCK);
  }
}

static void a_forgotten_host_keeps_no_stock(void **state)
{
  struct pool_fixture *f = *state;
  struct fault_server *other = fault_server_start(&(struct fault_options){0});
  assert_non_null(other);
  cpool_http_options options = pool_options();
  options.max_origins = 1;
  options.min_idle_per_host = 3;
  open_pool(f, &options);
  for (int i = 0; i < 4; i++) {
    get_info(f, NULL, url_at(fault_server_port(i % 2 == 0 ? f->server : other), "/ok"));
    await_idle(f, 4);
  }
  close_pool(f);
  fault_server_stop(other);
}

static void it_ends_with_its_identity(void **state)
{
  struct pool_fixture *f = *state;
  struct process *server = nghttpd_start(&(struct nghttpd_options){.certs = certs});
  struct fault_server *silent = fault_server_start(&(struct fault_options){.behaviour = FAULT_SILENT});
  assert_true(server != NULL && silent != NULL);
  open_warm_pool(f, 3, 0);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  cpool_request req = request_to(f, tls_url(fault_server_port(silent), "/"));
  cpool_op op = submit_in(session, &req);
  get_info(f, session, tls_url(process_port(server), "/"));
  eventually(stats_of(f).idle_connections >= 3 && stats_of(f).acquired_connections == 1 + 3); /* in handshakes */
  assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
  expect_end(f, op, CPOOL_ECANCELLED);
  cpool_session_free(session);
  eventually(stats_of(f).identities == 1 && stats_of(f).total_connections == 0);
  uint64_t opened = stats_of(f).opened;
  get_ok(f, "/ok"); /* another host's stock is made, which theirs would have been before */
  await_idle(f, 3 + 1);
  assert_int_equal(stats_of(f).opened, opened + 3 + 1);
  close_pool(f);
  process_stop(server);
  fault_server_stop(silent);
}

static void proxies_are_connected_ahead(void **state)
{
  struct pool_fixture *f = *state;
  struct fault_proxy *proxy = fault_proxy_start(&(struct fault_proxy_options){0});
  char url[64];
  snprintf(url, sizeof url, "http://127.0.0.1:%u", (unsigned) fault_proxy_port(proxy));
  open_warm_pool(f, 3, 0);
  cpool_session_options options = session_options();
  options.proxy = url;
  cpool_session *session = session_open(f->pool, &options);
  get_info(f, session, url_of(f, "/close"));
  eventually(stats_of(f).closed_response == 1);
  await_idle(f, 3);
  cpool_response_info info = get_info(f, session, url_of(f, "/close"));
  assert_int_equal(info.connect_us, CPOOL_OFF);
  assert_int_equal(info.attempts, 1);
  eventually(stats_of(f).closed_response == 2);
  await_idle(f, 3);
  cpool_session_free(session);
  close_pool(f);
  fault_proxy_stop(proxy);
}

static void a_warm_up_request_is_checked_and_belongs_to_a_host_or_to_all(void **state)
{
  static const char *const bad[] = {"POST /",  "HEAD",       "HEAD ok", "GET /a b",
                                    "GET /#a", "OPTIONS *x", "GET /\t", "get /"};
  struct pool_fixture *f = *state;
  struct fault_server *server = fault_server_start(
      &(struct fault_options){.tls_cert_file = certs->good.cert_file, .tls_key_file = certs->good.key_file});
  assert_non_null(server);
  uint16_t port = fault_server_port(server);
  cpool_http_options options = pool_options();
  options.warm_up_request = "POST /";
  assert_int_equal(cpool_http_new(&f->pool, NULL, &options), CPOOL_EINVAL);
  options.warm_up_request = "HEAD /ok";
  options.min_idle_per_host = 2;
  open_pool(f, &options);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_refused(cpool_http_origin_set(f->pool, origin_of(port, true), "warm_up_request", bad[i]), CPOOL_EINVAL,
                   "warm_up_request");
  set_origin(f, port, true, "warm_up_request", "off");
  cpool_session *session = session_of(f, CPOOL_HTTP_1_1);
  get_info(f, session, tls_url(port, "/ok"));
  await_idle(f, 3);
  struct fault_counts counts;
  fault_server_counts(server, &counts);
  assert_int_equal(counts.by_method[FAULT_HEAD], 0);
  set_origin(f, port, true, "warm_up_request", NULL); /* the pool's */
  eventually(fault_server_open(server) == 3);
  assert_int_equal(fault_server_drop_all(server), 3);
  await_idle(f, 2);
  eventually((fault_server_counts(server, &counts), counts.by_method[FAULT_HEAD] == 2));
  cpool_session_free(session);
  close_pool(f);
  fault_server_stop(server);
}

static void unix_sockets_have_none(void **state)
{
  struct pool_fixture *f = *state;
  char path[96];
  snprintf(path, sizeof path, "/tmp/cpool-warm-%d.sock", (int) getpid());
  struct fault_server *local = fault_server_start(&(struct fault_options){.unix_path = path});
  assert_non_null(local);
  open_warm_pool(f, STOCK, 0);
  cpool_session_options options = session_options();
  options.unix_socket_path = path;
  cpool_session *session = session_open(f->pool, &options);
  for (int i = 0; i < 3; i++)
    get_info(f, session, "http://local/ok");
  get_ok(f, "/ok"); /* its stock is made after theirs would have been */
  eventually(stats_of(f).idle_connections == 1 + STOCK + 1);
  assert_int_equal(fault_server_open(local), 1);
  cpool_session_free(session);
  close_pool(f);
  fault_server_stop(local);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(a_host_is_warm_from_its_first_request_on),
      POOL_CASE(a_host_that_is_named_is_warm_before_any_request),
      POOL_CASE(what_is_taken_is_made_up_for),
      POOL_CASE(one_whose_time_is_over_is_replaced),
      POOL_CASE(names_are_dialled_by_their_addresses),
      POOL_CASE(one_that_the_peer_ends_serves_nobody_and_is_replaced),
      POOL_CASE(bytes_on_an_unused_one_are_nobodys_answer),
      POOL_CASE(one_that_dies_over_tls_is_repeated_whatever_the_method),
      POOL_CASE(a_handshake_that_an_unused_one_does_not_survive_is_repeated),
      POOL_CASE(handshakes_on_stock_stay_within_the_cap),
      POOL_CASE(connects_in_flight_stay_within_half_of_the_cap),
      POOL_CASE(limits_hold_in_a_burst_on_a_warm_host),
      POOL_CASE(other_hosts_take_room_from_stock),
      POOL_CASE(tls_is_done_ahead_for_http_2),
      POOL_CASE(many_streams_share_what_was_made_ahead),
      POOL_CASE(idle_http_2_stock_stays),
      POOL_CASE(a_host_without_http_2_is_connected_ahead_alone),
      POOL_CASE(a_warm_up_request_makes_tls_ahead_for_http_1),
      POOL_CASE(warm_up_requests_that_fail_are_failures),
      POOL_CASE(a_handshake_that_never_ends_is_given_up),
      POOL_CASE(a_host_that_is_down_is_tried_less_and_less_and_recovers),
      POOL_CASE(one_that_is_closed_at_once_is_a_failure),
      POOL_CASE(the_number_is_changed_on_a_living_pool),
      POOL_CASE(a_pool_is_closed_with_its_stock),
      POOL_CASE(nothing_is_made_while_the_pool_drains),
      POOL_CASE(a_cancelled_request_leaves_the_stock_as_it_is),
      POOL_CASE(a_forgotten_host_keeps_no_stock),
      POOL_CASE(it_ends_with_its_identity),
      POOL_CASE(proxies_are_connected_ahead),
      POOL_CASE(a_warm_up_request_is_checked_and_belongs_to_a_host_or_to_all),
      POOL_CASE(unix_sockets_have_none),
  };
  return cmocka_run_group_tests_name("warm", tests, group_setup, group_teardown);
}
