/* ws_reconfigure: options change while a manager works: all of a change or nothing, and nobody is ended for it */
#include "ws_fixture.h"

enum { BLOCK = 100000 };

static int stop(void **state)
{
  (void) state;
  if (fixture.ws != NULL)
    ws_stop();
  return 0;
}

static cpool_ws_options defaults(void)
{
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  return options;
}

static void start(cpool_ws_options *options)
{
  cpool_ws_listen_options listen;
  cpool_ws_listen_options_init(&listen);
  listen.decide = CPOOL_OFF;
  ws_start(options, NULL);
  ws_listen(&listen);
}

static cpool_ws_options in_force(void)
{
  cpool_ws_options options = defaults();
  assert_int_equal(cpool_ws_options_get(fixture.ws, &options), CPOOL_OK);
  return options;
}

static void change(const char *key, const char *value)
{
  cpool_ws_options options = in_force();
  assert_int_equal(cpool_ws_options_set(&options, key, value), CPOOL_OK);
  assert_int_equal(cpool_ws_reconfigure(fixture.ws, &options), CPOOL_OK);
}

static struct ws_peer *open_peer(cpool_conn *conn)
{
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  assert_int_equal(ws_peer_status(peer), 101);
  *conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  return peer;
}

/* Rooms that came while a queue was swinging. */
static void forget_events(void)
{
  pthread_mutex_lock(&fixture.lock);
  fixture.next = fixture.count = 0;
  pthread_mutex_unlock(&fixture.lock);
}

static void the_values_in_force_are_told(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  options.max_connections = 42;
  options.pong_timeout_ms = CPOOL_OFF;
  start(&options);
  options = in_force();
  assert_int_equal(options.max_connections, 42);
  assert_int_equal(options.pong_timeout_ms, CPOOL_OFF);
  assert_int_equal(options.max_message_bytes, 1048576);
  assert_ptr_equal(options.on_event, on_ws_event);
  change("max_connections", "43");
  assert_int_equal(in_force().max_connections, 43); /* before the loop has seen it */
  change("max_connections", "");
  assert_int_equal(in_force().max_connections, 1000);
}

static bool in_statistics(void *ctx)
{
  return ws_stats().max_connections == *(const int *) ctx;
}

static void a_bad_change_changes_nothing(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  start(&options);
  cpool_ws_options bad = in_force();
  bad.max_connections = 7;
  bad.receive_buffer_bytes = 4096;
  assert_int_equal(cpool_ws_reconfigure(fixture.ws, &bad), CPOOL_EINVAL);
  cpool_error error;
  cpool_error_init(&error);
  assert_int_equal(cpool_last_error(&error), CPOOL_OK);
  assert_non_null(strstr(error.text, "receive_buffer_bytes"));
  bad = in_force();
  bad.max_connections = 7;
  bad.stream_messages = 1;
  assert_int_equal(cpool_ws_reconfigure(fixture.ws, &bad), CPOOL_EINVAL);
  bad = in_force();
  bad.max_connections = 7;
  bad.close_timeout_ms = -2;
  assert_int_equal(cpool_ws_reconfigure(fixture.ws, &bad), CPOOL_EINVAL);
  bad = in_force();
  bad.max_connections = 7;
  bad.max_message_bytes = CPOOL_OFF; /* messages are whole */
  assert_int_equal(cpool_ws_reconfigure(fixture.ws, &bad), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_reconfigure(fixture.ws, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_reconfigure(NULL, &bad), CPOOL_EINVAL);
  assert_int_equal(in_force().max_connections, 1000);
  int thousand = 1000;
  assert_true(wait_until(in_statistics, &thousand, DEADLINE_MS));
  bad = in_force();
  assert_int_equal(cpool_ws_close_start(fixture.ws, 0), CPOOL_OK);
  assert_int_equal(cpool_ws_reconfigure(fixture.ws, &bad), CPOOL_ECLOSED);
}

static void places_come_and_go_and_nobody_is_ended(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  cpool_conn conn;
  options.max_connections = 1;
  start(&options);
  struct ws_peer *first = open_peer(&conn), *refused = ws_peer_open(fixture.port, NULL);
  assert_int_equal(ws_peer_status(refused), 503);
  ws_peer_free(refused);
  change("max_connections", "2");
  struct ws_peer *second = open_peer(&conn);
  change("max_connections", "1");
  int one = 1;
  assert_true(wait_until(in_statistics, &one, DEADLINE_MS));
  refused = ws_peer_open(fixture.port, NULL);
  assert_int_equal(ws_peer_status(refused), 503);
  assert_int_equal(ws_stats().total_connections, 2);
  ws_peer_free(refused);
  ws_peer_free(first);
  ws_peer_free(second);
}

static void a_cap_holds_for_what_comes_next(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  cpool_conn conn;
  start(&options);
  struct ws_peer *peer = open_peer(&conn);
  assert_true(ws_peer_send_text(peer, "0123456789"));
  ws_next(CPOOL_EVENT_WS_MESSAGE);
  change("max_message_bytes", "9");
  change("max_connections", "999");
  int seen = 999;
  assert_true(wait_until(in_statistics, &seen, DEADLINE_MS));
  assert_true(ws_peer_send_text(peer, "012345678"));
  assert_int_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->len, 9);
  assert_true(ws_peer_send_text(peer, "0123456789"));
  struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1009);
  ws_peer_free(peer);
}

static void times_meet_those_who_are_there(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  cpool_conn conn;
  options.health_check_interval_ms = options.connection_timeout_ms = CPOOL_OFF;
  start(&options);
  struct ws_peer *peer = open_peer(&conn); /* answers no ping */
  cpool_ws_options shorter = in_force();
  shorter.health_check_interval_ms = shorter.pong_timeout_ms = 50;
  assert_int_equal(cpool_ws_reconfigure(fixture.ws, &shorter), CPOOL_OK);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_NO_PONG);
  ws_peer_free(peer);
  change("health_check_interval_ms", "off");
  peer = open_peer(&conn);
  change("connection_timeout_ms", "50");
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_IDLE);
  ws_peer_free(peer);
}

static void senders_meet_new_limits_at_once(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  cpool_conn conn;
  options.max_send_queue_bytes = 10;
  start(&options);
  struct ws_peer *peer = open_peer(&conn);
  for (int i = 0; i < 50; i++) {
    assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "0123456789a", 11), CPOOL_EINVAL);
    change("max_send_queue_bytes", "1000000");
    assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "0123456789a", 11), CPOOL_OK);
    assert_int_equal(ws_peer_read_past_pings(peer, DEADLINE_MS).len, 11);
    change("max_send_queue_bytes", "10");
  }
  ws_peer_free(peer);
}

struct filling {
  cpool_conn conn;
  const char *block;
  int64_t last_ms;
};

static bool takes_no_more(void *ctx)
{
  struct filling *filling = ctx;
  int rc;
  while ((rc = cpool_ws_send(fixture.ws, filling->conn, CPOOL_WS_BINARY, filling->block, BLOCK)) == CPOOL_OK)
    filling->last_ms = now_ms();
  assert_int_equal(rc, CPOOL_EAGAIN);
  return now_ms() - filling->last_ms > 200;
}

/* Sends to one who does not read, until queue and sockets have taken nothing for a while. */
static void fill(cpool_conn conn, const char *block)
{
  struct filling filling = {conn, block, now_ms()};
  assert_true(wait_until(takes_no_more, &filling, DEADLINE_MS));
}

static bool one_was_shed(void *ctx)
{
  (void) ctx;
  return ws_stats().closed_overflow == 1;
}

static void who_waits_for_room_is_told_when_a_limit_makes_it(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  cpool_conn conn;
  options.max_send_queue_messages = 3;
  start(&options);
  struct ws_peer *peer = open_peer(&conn);
  char *block = calloc(1, BLOCK);
  assert_non_null(block);
  fill(conn, block);
  forget_events();
  change("max_send_queue_messages", "1000");
  ws_next(CPOOL_EVENT_WS_DRAINED);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, block, BLOCK), CPOOL_OK);
  free(block);
  ws_peer_free(peer);
}

static void what_a_full_queue_means_can_change(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  cpool_conn conn;
  options.max_send_queue_messages = 3;
  start(&options);
  struct ws_peer *peer = open_peer(&conn);
  char *block = calloc(1, BLOCK);
  assert_non_null(block);
  fill(conn, block);
  change("on_overflow", "drop_newest");
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, block, BLOCK), CPOOL_OK);
  change("on_overflow", "close");
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, block, BLOCK), CPOOL_ECLOSED);
  assert_true(wait_until(one_was_shed, NULL, DEADLINE_MS));
  free(block);
  ws_peer_free(peer);
}

static void a_lower_total_cuts_who_has_most(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  cpool_conn conn;
  options.max_send_queue_messages = 3;
  start(&options);
  struct ws_peer *peer = open_peer(&conn), *other = open_peer(&(cpool_conn){0});
  char *block = calloc(1, BLOCK);
  assert_non_null(block);
  fill(conn, block);
  change("max_queued_bytes", "65536");
  assert_true(wait_until(one_was_shed, NULL, DEADLINE_MS));
  assert_int_equal(ws_stats().total_connections, 1);
  free(block);
  ws_peer_free(other);
  ws_peer_free(peer);
}

static bool came(void *ctx)
{
  return ws_stats().bytes_received >= *(const uint64_t *) ctx;
}

static void a_wider_window_lets_a_stream_go_on(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  cpool_conn conn;
  uint64_t more = 5 * BLOCK;
  options.stream_messages = 1;
  options.stream_window_bytes = 65536; /* nothing is given back */
  options.max_message_bytes = CPOOL_OFF;
  start(&options);
  struct ws_peer *peer = open_peer(&conn);
  char *block = calloc(1, 5 * BLOCK);
  assert_non_null(block);
  assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, block, 5 * BLOCK));
  for (int64_t end_ms = now_ms() + DEADLINE_MS; ws_stats().paused_connections == 0;)
    assert_true(now_ms() < end_ms);
  assert_in_range(ws_stats().bytes_received, 32768, 200000);
  change("stream_window_bytes", "10000000");
  assert_true(wait_until(came, &more, DEADLINE_MS));
  free(block);
  ws_peer_free(peer);
}

/* -------------------------------------------------------------------------------------------------------- with traffic */

enum { THREADS = 2, PER_THREAD = 3000 };

static void *send_many(void *arg)
{
  cpool_conn conn = *(const cpool_conn *) arg;
  for (int i = 0; i < PER_THREAD; i++) {
    int rc;
    do
      rc = cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "x", 1);
    while (rc == CPOOL_EAGAIN);
    if (rc != CPOOL_OK)
      return arg;
  }
  return NULL;
}

static void limits_swing_under_traffic(void **state)
{
  (void) state;
  cpool_ws_options options = defaults();
  cpool_conn conn;
  start(&options);
  struct ws_peer *peer = open_peer(&conn);
  pthread_t threads[THREADS];
  void *failed;
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, send_many, &conn), 0);
  options = in_force();
  for (int i = 0; i < THREADS * PER_THREAD; i++) {
    assert_int_equal(ws_peer_read_past_pings(peer, DEADLINE_MS).first, WS_FIN | WS_TEXT);
    options.max_send_queue_bytes = 1 + i % 7 * 100;
    options.max_send_queue_messages = 1 + i % 5 * 10;
    options.health_check_interval_ms = 1000 + i % 10;
    options.max_message_bytes = 1000 + i;
    if (i % 8 == 0)
      assert_int_equal(cpool_ws_reconfigure(fixture.ws, &options), CPOOL_OK);
    if (i % 64 == 0)
      forget_events();
  }
  for (int i = 0; i < THREADS; i++) {
    assert_int_equal(pthread_join(threads[i], &failed), 0);
    assert_null(failed);
  }
  assert_int_equal(ws_stats().messages_dropped, 0);
  ws_peer_free(peer);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(the_values_in_force_are_told, stop),
      cmocka_unit_test_teardown(a_bad_change_changes_nothing, stop),
      cmocka_unit_test_teardown(places_come_and_go_and_nobody_is_ended, stop),
      cmocka_unit_test_teardown(a_cap_holds_for_what_comes_next, stop),
      cmocka_unit_test_teardown(times_meet_those_who_are_there, stop),
      cmocka_unit_test_teardown(senders_meet_new_limits_at_once, stop),
      cmocka_unit_test_teardown(who_waits_for_room_is_told_when_a_limit_makes_it, stop),
      cmocka_unit_test_teardown(what_a_full_queue_means_can_change, stop),
      cmocka_unit_test_teardown(a_lower_total_cuts_who_has_most, stop),
      cmocka_unit_test_teardown(a_wider_window_lets_a_stream_go_on, stop),
      cmocka_unit_test_teardown(limits_swing_under_traffic, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
