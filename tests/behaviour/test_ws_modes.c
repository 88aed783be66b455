/* ws_modes: the same manager on each kind of loop, beside an HTTP pool, over TLS, from many threads */
#include "ws_fixture.h"

#include <poll.h>
#include <uv.h>

#include "support/process.h"

static int stop(void **state)
{
  (void) state;
  if (fixture.ws != NULL)
    ws_stop();
  fixture.react = NULL;
  if (fixture.queue != NULL)
    assert_int_equal(cpool_queue_free(fixture.queue), CPOOL_OK);
  fixture.queue = NULL;
  return 0;
}

static void echo(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_WS_MESSAGE)
    assert_int_equal(cpool_ws_send(fixture.ws, event->source, event->ws_kind, event->data, event->len), CPOOL_OK);
}

static void start_on(cpool_runtime *rt)
{
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  listen.decide = CPOOL_OFF;
  ws_start(&options, rt);
  ws_listen(&listen);
}

/* What a client does on a thread of its own, while the test turns the loop. */
struct client {
  pthread_t thread;
  uint16_t port;
  const char *ca_file;
  _Atomic bool done;
};

enum { ROUNDS = 50 };

static void *talk(void *arg)
{
  struct client *client = arg;
  struct ws_peer_options how = {.ca_file = client->ca_file};
  struct ws_peer *peer = ws_peer_open(client->port, &how);
  char text[32];
  assert_int_equal(ws_peer_status(peer), 101);
  for (int i = 0; i < ROUNDS; i++) {
    snprintf(text, sizeof text, "%d", i);
    assert_true(ws_peer_send_text(peer, text));
    assert_string_equal((char *) ws_peer_read_past_pings(peer, DEADLINE_MS).payload, text);
  }
  size_t len = 300000, got = 0;
  char *payload = calloc(1, len);
  assert_non_null(payload);
  assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, payload, len));
  while (got < len)
    got += ws_peer_read_past_pings(peer, DEADLINE_MS).len;
  free(payload);
  assert_true(ws_peer_send_close(peer, 1000, NULL));
  (void) ws_peer_read_past_pings(peer, DEADLINE_MS);
  ws_peer_free(peer);
  client->done = true;
  return NULL;
}

static void start_client(struct client *client, const char *ca_file)
{
  client->port = fixture.port;
  client->ca_file = ca_file;
  client->done = false;
  assert_int_equal(pthread_create(&client->thread, NULL, talk, client), 0);
}

static void on_pulse(uv_timer_t *timer)
{
  const struct client *client = timer->data;
  if (client->done)
    (void) cpool_ws_close_start(fixture.ws, 0);
}

static void the_hosts_libuv_loop(void **state)
{
  (void) state;
  uv_loop_t loop;
  uv_timer_t pulse;
  cpool_runtime *rt = NULL;
  cpool_runtime_options options;
  struct client client;
  assert_int_equal(uv_loop_init(&loop), 0);
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_UV;
  options.uv_loop = &loop;
  assert_int_equal(cpool_runtime_new(&rt, &options), CPOOL_OK);
  fixture.react = echo;
  start_on(rt);
  start_client(&client, NULL);
  uv_timer_init(&loop, &pulse);
  pulse.data = &client;
  uv_timer_start(&pulse, on_pulse, 20, 20);
  uv_unref((uv_handle_t *) &pulse);
  uv_run(&loop, UV_RUN_DEFAULT); /* returns when nothing is left */
  pthread_join(client.thread, NULL);
  assert_true(client.done);
  cpool_ws_free(fixture.ws);
  fixture.ws = NULL;
  uv_close((uv_handle_t *) &pulse, NULL);
  assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&loop), 0);
}

static void a_foreign_loop_by_its_descriptor(void **state)
{
  (void) state;
  cpool_runtime *rt = NULL;
  cpool_runtime_options options;
  struct client client;
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_MANUAL;
  assert_int_equal(cpool_runtime_new(&rt, &options), CPOOL_OK);
  fixture.react = echo;
  start_on(rt);
  start_client(&client, NULL);
  struct pollfd poll_fd = {.fd = cpool_runtime_fd(rt), .events = POLLIN};
  for (int64_t end_ms = now_ms() + DEADLINE_MS; !client.done;) {
    assert_true(now_ms() < end_ms);
    if (poll(&poll_fd, 1, 100) > 0) /* the descriptor alone says when there is something to do */
      assert_int_equal(cpool_runtime_step(rt, 0), CPOOL_OK);
  }
  pthread_join(client.thread, NULL);
  ws_stop(); /* steps */
  assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
}

static void over_tls(void **state)
{
  (void) state;
  struct certs *certs = certs_new();
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  struct client clients[4];
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  listen.decide = CPOOL_OFF;
  listen.tls_cert_file = certs->good.cert_file;
  listen.tls_key_file = certs->good.key_file;
  fixture.react = echo;
  ws_start(&options, NULL);
  ws_listen(&listen);
  for (int i = 0; i < 4; i++)
    start_client(&clients[i], certs->ca_file);
  for (int i = 0; i < 4; i++)
    pthread_join(clients[i].thread, NULL);
  struct ws_peer *plain = ws_peer_open(fixture.port, NULL); /* no TLS at all */
  assert_int_equal(ws_peer_status(plain), 0);
  ws_peer_free(plain);
  ws_stop();
  certs_free(certs);
}

static bool closed_all(void *ctx)
{
  ws_pump();
  return ws_stats().closed >= *(const uint64_t *) ctx;
}

static void a_queue_that_is_not_emptied_pauses_reading(void **state)
{
  (void) state;
  enum { MESSAGES = 200, BYTES = 50000 };
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_queue_options marks;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  cpool_queue_options_init(&marks);
  marks.high_water_bytes = 1000000;
  listen.decide = CPOOL_OFF;
  assert_int_equal(cpool_queue_new(&options.queue, &marks), CPOOL_OK);
  ws_start(&options, NULL);
  ws_listen(&listen);
  struct client {
    struct ws_peer *peer;
  } sender = {ws_peer_open(fixture.port, NULL)};
  char *payload = calloc(1, BYTES);
  assert_non_null(payload);
  int sent = 0; /* until the sockets are full: the manager does not read on */
  while (sent < MESSAGES * 10 && wait_fd(ws_peer_fd(sender.peer), POLLOUT, 300) != 0) {
    assert_true(ws_peer_send(sender.peer, WS_FIN | WS_BINARY, payload, BYTES));
    sent++;
  }
  assert_in_range(sent, 20, MESSAGES * 10 - 1);
  cpool_ws_stats stats = ws_stats();
  assert_int_equal(stats.paused_connections, 1);
  assert_in_range(stats.bytes_received, 1000000 - BYTES, 3000000);
  ws_next(CPOOL_EVENT_WS_OPEN);
  for (int i = 0; i < sent; i++)
    assert_int_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->len, BYTES);
  ws_peer_free(sender.peer);
  uint64_t one = 1;
  assert_true(wait_until(closed_all, &one, DEADLINE_MS));
  assert_int_equal(ws_stats().paused_connections, 0);
  free(payload);
}

static bool closed_one(void *ctx)
{
  (void) ctx;
  return ws_stats().closed == 1;
}

static void one_that_is_cut_while_it_is_paused_ends(void **state)
{
  (void) state;
  enum { BYTES = 50000 };
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_queue_options marks;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  cpool_queue_options_init(&marks);
  marks.high_water_bytes = BYTES;
  listen.decide = CPOOL_OFF;
  options.max_queued_bytes = 65536;
  options.max_send_queue_bytes = 64 << 20;
  assert_int_equal(cpool_queue_new(&options.queue, &marks), CPOOL_OK);
  ws_start(&options, NULL);
  ws_listen(&listen);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  char *payload = calloc(1, 32 << 20);
  assert_non_null(payload);
  cpool_conn conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  while (wait_fd(ws_peer_fd(peer), POLLOUT, 300) != 0) /* more waits in the sockets than the queue takes */
    assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, payload, BYTES));
  assert_int_equal(ws_stats().paused_connections, 1);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, payload, 32 << 20), CPOOL_OK);
  assert_true(wait_until(closed_one, NULL, DEADLINE_MS));
  assert_int_equal(ws_stats().closed_overflow, 1);
  assert_int_equal(ws_stats().paused_connections, 0);
  ws_peer_free(peer);
  ws_pump();
  free(payload);
}

/* ------------------------------------------------------------------------------------------- HTTP and WebSockets */

static cpool_http *pool;
static char url[64];

static void on_answer(const cpool_event *event)
{
  size_t len;
  const char *body = cpool_response_body(event->response, &len);
  assert_int_equal(event->status, CPOOL_OK);
  assert_int_equal(cpool_ws_send(fixture.ws, (cpool_conn) (uintptr_t) event->user, CPOOL_WS_TEXT, body, len), CPOOL_OK);
}

static void ask(const cpool_event *event)
{
  if (event->kind != CPOOL_EVENT_WS_MESSAGE)
    return;
  cpool_request request;
  cpool_request_init(&request);
  request.url = url;
  request.on_event = on_answer;
  request.user = (void *) (uintptr_t) event->source;
  assert_int_equal(cpool_submit(cpool_http_session(pool), &request, NULL), CPOOL_OK);
}

static bool somebody_is_gone(void *ctx)
{
  (void) ctx;
  return ws_stats().closed > 0;
}

static bool nobody_is_paused(void *ctx)
{
  (void) ctx;
  return ws_stats().paused_connections == 0;
}

/* Its pongs are behind messages that we do not read: that is no silence of its. */
static void who_is_not_read_is_not_taken_for_dead(void **state)
{
  (void) state;
  enum { BYTES = 5000, MOST = 1000, HEALTH_MS = 100 };
  static char payload[BYTES];
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_queue_options marks;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  cpool_queue_options_init(&marks);
  options.health_check_interval_ms = options.pong_timeout_ms = HEALTH_MS;
  options.connection_timeout_ms = 3 * HEALTH_MS;
  marks.high_water_bytes = 10000;
  listen.decide = CPOOL_OFF;
  assert_int_equal(cpool_queue_new(&options.queue, &marks), CPOOL_OK);
  ws_start(&options, NULL);
  ws_listen(&listen);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  int sent = 0;
  for (; sent < MOST && ws_stats().paused_connections == 0; sent++)
    assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, payload, BYTES));
  assert_in_range(sent, 2, MOST - 1);
  assert_false(wait_until(somebody_is_gone, NULL, 6 * HEALTH_MS));
  ws_next(CPOOL_EVENT_WS_OPEN);
  for (int i = 0; i < sent; i++)
    assert_int_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->len, BYTES);
  assert_true(wait_until(nobody_is_paused, NULL, DEADLINE_MS));
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_NO_PONG); /* it answers no ping: now that counts */
  ws_peer_free(peer);
}

static void one_loop_serves_both(void **state)
{
  (void) state;
  struct process *nginx = nginx_start(NULL);
  cpool_runtime *rt = NULL;
  assert_non_null(nginx);
  snprintf(url, sizeof url, "http://127.0.0.1:%u/", process_port(nginx));
  assert_int_equal(cpool_runtime_new(&rt, NULL), CPOOL_OK);
  assert_int_equal(cpool_http_new(&pool, rt, NULL), CPOOL_OK);
  fixture.react = ask;
  start_on(rt);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  for (int i = 0; i < 20; i++) {
    assert_true(ws_peer_send_text(peer, "?"));
    assert_string_equal((char *) ws_peer_read_past_pings(peer, DEADLINE_MS).payload, "hello\n");
  }
  ws_peer_free(peer);
  assert_int_equal(cpool_runtime_free(rt), CPOOL_EBUSY);
  ws_stop();
  assert_int_equal(cpool_http_close(pool, 0), CPOOL_OK);
  assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
  process_stop(nginx);
}

/* ---------------------------------------------------------------------------------------------------------- threads */

enum { THREADS = 4, PER_THREAD = 2000 };

static void *send_many(void *arg)
{
  cpool_conn conn = *(const cpool_conn *) arg;
  for (int i = 0; i < PER_THREAD; i++) {
    int rc;
    do
      rc = i % 3 == 0 ? cpool_ws_publish(fixture.ws, NULL, CPOOL_WS_TEXT, "x", 1)
                      : cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "x", 1);
    while (rc == CPOOL_EAGAIN);
    assert_int_equal(rc, CPOOL_OK);
    cpool_conn found;
    cpool_ws_info info;
    cpool_ws_info_init(&info);
    assert_int_equal(cpool_ws_get(fixture.ws, conn, &info), CPOOL_OK);
    (void) cpool_ws_find(fixture.ws, "nobody", &found);
  }
  return NULL;
}

static void any_thread_may_send(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  listen.decide = CPOOL_OFF;
  options.max_send_queue_messages = THREADS * PER_THREAD;
  ws_start(&options, NULL);
  ws_listen(&listen);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  cpool_conn conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, send_many, &conn), 0);
  for (int i = 0; i < THREADS * PER_THREAD; i++)
    assert_int_equal(ws_peer_read_past_pings(peer, DEADLINE_MS).first, WS_FIN | WS_TEXT);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  ws_peer_free(peer);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(the_hosts_libuv_loop, stop),
      cmocka_unit_test_teardown(a_foreign_loop_by_its_descriptor, stop),
      cmocka_unit_test_teardown(over_tls, stop),
      cmocka_unit_test_teardown(a_queue_that_is_not_emptied_pauses_reading, stop),
      cmocka_unit_test_teardown(who_is_not_read_is_not_taken_for_dead, stop),
      cmocka_unit_test_teardown(one_that_is_cut_while_it_is_paused_ends, stop),
      cmocka_unit_test_teardown(one_loop_serves_both, stop),
      cmocka_unit_test_teardown(any_thread_may_send, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
