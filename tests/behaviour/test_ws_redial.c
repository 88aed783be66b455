/* ws_redial: dialled connections that come back: when, how often, with what, and when not */
#include "ws_dial_fixture.h"

#include <stdatomic.h>

static int redial_setup(void **state)
{
  dial_setup(state);
  dialer.connect.reconnect_ms = 30;
  dialer.connect.max_reconnect_ms = 60;
  return 0;
}

static void ends_with(struct ws_peer *peer, int code)
{
  assert_true(ws_peer_send_close(peer, code, NULL));
  assert_int_equal(ws_peer_read(peer, DEADLINE_MS).first, WS_FIN | WS_CLOSE);
  ws_peer_free(peer);
}

static struct seen *disconnected(int32_t reason, int32_t status)
{
  struct seen *seen = ws_next(CPOOL_EVENT_WS_DISCONNECTED);
  assert_int_equal(seen->reason, reason);
  assert_int_equal(seen->status, status);
  return seen;
}

static struct ws_peer *opens_again(cpool_conn conn)
{
  struct ws_peer *peer = server_accept(NULL);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_OPEN)->conn, conn);
  return peer;
}

static void what_went_down_comes_back_with_its_id(void **state)
{
  (void) state;
  cpool_conn conn, found;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  ends_with(peer, 1001);
  struct seen *seen = disconnected(CPOOL_WS_BY_PEER, CPOOL_OK);
  assert_int_equal(seen->conn, conn);
  assert_string_equal(seen->id, "id");
  assert_int_equal(seen->close_code, 1001);
  assert_in_range(seen->retry_ms, 0, 30);
  assert_int_equal(cpool_ws_find(fixture.ws, "id", &found), CPOOL_OK);
  assert_int_equal(found, conn);
  peer = opens_again(conn);
  assert_true(ws_peer_send_text(peer, "again"));
  assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "again");
  ws_peer_reset(peer);
  disconnected(CPOOL_WS_LOST, CPOOL_OK);
  ws_peer_free(opens_again(conn));
  disconnected(CPOOL_WS_LOST, CPOOL_OK);
  cpool_ws_stats stats = ws_stats();
  assert_int_equal(stats.opened, 1);
  assert_int_equal(stats.closed, 0);
}

static void failing_is_told_each_time(void **state)
{
  (void) state;
  uint16_t port;
  char url[64];
  int held = refusing_port_open(&port);
  snprintf(url, sizeof url, "ws://127.0.0.1:%u/", port);
  dialer.connect.url = url;
  dialer.connect.max_attempts = 4;
  manager_start();
  dial_start("id");
  for (int i = 0; i < 3; i++)
    assert_in_range(disconnected(CPOOL_WS_HANDSHAKE, CPOOL_ECONNECT)->retry_ms, 0, 60);
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->reason, CPOOL_WS_HANDSHAKE);
  assert_int_equal(seen->status, CPOOL_ECONNECT);
  cpool_ws_stats stats = ws_stats();
  assert_int_equal(stats.dials, 4);
  assert_int_equal(stats.dials_failed, 4);
  assert_int_equal(stats.disconnects, 3);
  assert_int_equal(stats.closed_handshake, 1);
  close(held);
}

static void max_attempts_counts_failures_in_a_row(void **state)
{
  (void) state;
  cpool_conn conn = 0;
  dialer.connect.max_attempts = 2;
  manager_start();
  conn = dial_start("id");
  for (int i = 0; i < 3; i++) {
    ws_peer_free(server_accept(&(struct ws_accept_options){.answer = ""}));
    disconnected(CPOOL_WS_HANDSHAKE, CPOOL_ERESET);
    ends_with(opens_again(conn), 1011);
    disconnected(CPOOL_WS_BY_PEER, CPOOL_OK);
  }
}

static void codes_decide(void **state)
{
  (void) state;
  static const int stops[] = {1000, 1003, 1007, 1008, 1009, 4242}, goes_on[] = {1001, 1011, 4000, 3000};
  cpool_conn conn;
  dialer.connect.stop_codes = "1000, 1003, 1007-1009, 4242";
  manager_start();
  for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
    ends_with(dial_open(&conn), stops[i]);
    struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
    assert_int_equal(seen->reason, CPOOL_WS_BY_PEER);
    assert_int_equal(seen->close_code, stops[i]);
  }
  struct ws_peer *peer = dial_open(&conn);
  for (size_t i = 0; i < sizeof goes_on / sizeof *goes_on; i++) {
    ends_with(peer, goes_on[i]);
    disconnected(CPOOL_WS_BY_PEER, CPOOL_OK);
    peer = opens_again(conn);
  }
  ws_peer_free(peer);
}

static void statuses_decide(void **state)
{
  (void) state;
  manager_start();
  cpool_conn conn = dial_start("id");
  static const char *const passing[] = {"HTTP/1.1 503 Busy\r\n\r\n", "HTTP/1.1 429 Slow\r\n\r\n",
                                        "HTTP/1.1 408 Late\r\n\r\n", "HTTP/1.1 500 Broken\r\n\r\n"};
  for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) {
    ws_peer_free(server_accept(&(struct ws_accept_options){.answer = passing[i]}));
    assert_int_equal(disconnected(CPOOL_WS_HANDSHAKE, CPOOL_EREFUSED)->http_status, atoi(passing[i] + 9));
  }
  ws_peer_free(server_accept(&(struct ws_accept_options){.answer = "HTTP/1.1 401 Who\r\n\r\n"}));
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->conn, conn);
  assert_int_equal(seen->http_status, 401);
}

static void retry_after_is_obeyed(void **state)
{
  (void) state;
  manager_start();
  cpool_conn conn = dial_start("id");
  ws_peer_free(server_accept(&(struct ws_accept_options){.answer = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n"}));
  int64_t began_ms = now_ms();
  assert_in_range(disconnected(CPOOL_WS_HANDSHAKE, CPOOL_EREFUSED)->retry_ms, 1000, 1030);
  struct ws_peer *peer = opens_again(conn);
  assert_true(now_ms() - began_ms >= 900);
  ws_peer_free(peer);
}

static void a_retry_after_of_centuries_is_a_day(void **state)
{
  (void) state;
  enum { DAY_MS = 24 * 60 * 60 * 1000 };
  manager_start();
  dial_start("id");
  ws_peer_free(
      server_accept(&(struct ws_accept_options){.answer = "HTTP/1.1 503 Busy\r\nRetry-After: 99999999999\r\n\r\n"}));
  assert_in_range(disconnected(CPOOL_WS_HANDSHAKE, CPOOL_EREFUSED)->retry_ms, DAY_MS, DAY_MS + 30);
}

static void topics_stay(void **state)
{
  (void) state;
  cpool_conn conn;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  assert_int_equal(cpool_ws_subscribe(fixture.ws, conn, "before"), CPOOL_OK);
  ends_with(peer, 1001);
  disconnected(CPOOL_WS_BY_PEER, CPOOL_OK);
  assert_int_equal(cpool_ws_subscribe(fixture.ws, conn, "while it is down"), CPOOL_OK);
  assert_int_equal(cpool_ws_publish(fixture.ws, "before", CPOOL_WS_TEXT, "lost", 4), CPOOL_OK);
  peer = opens_again(conn);
  assert_int_equal(cpool_ws_publish(fixture.ws, "before", CPOOL_WS_TEXT, "one", 3), CPOOL_OK);
  assert_int_equal(cpool_ws_publish(fixture.ws, "while it is down", CPOOL_WS_TEXT, "two", 3), CPOOL_OK);
  assert_string_equal((char *) ws_peer_read(peer, DEADLINE_MS).payload, "one");
  assert_string_equal((char *) ws_peer_read(peer, DEADLINE_MS).payload, "two");
  ws_peer_free(peer);
}

/* A server that does not read: what waits for it is not what the next connection sends. */
static void what_it_was_owed_is_dropped(void **state)
{
  (void) state;
  enum { BYTES = 100000 };
  cpool_conn conn;
  dialer.options.max_send_queue_bytes = 100000000;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  char *payload = calloc(1, BYTES);
  assert_non_null(payload);
  for (int i = 0; i < 300; i++)
    assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, payload, BYTES), CPOOL_OK);
  assert_int_equal(cpool_ws_health_check(fixture.ws, &(cpool_ws_health){.size = sizeof(cpool_ws_health)}), CPOOL_OK);
  ws_peer_reset(peer);
  disconnected(CPOOL_WS_LOST, CPOOL_OK);
  peer = opens_again(conn);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "fresh", 5), CPOOL_OK);
  assert_string_equal((char *) ws_peer_read_past_pings(peer, DEADLINE_MS).payload, "fresh");
  cpool_ws_stats stats = ws_stats();
  assert_true(stats.messages_dropped > 0);
  assert_in_range(stats.queued_bytes, 0, 1000);
  free(payload);
  ws_peer_free(peer);
}

static void a_silent_server_is_dialled_again(void **state)
{
  (void) state;
  cpool_conn conn;
  dialer.options.health_check_interval_ms = 50;
  dialer.options.pong_timeout_ms = 50;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  assert_int_equal(ws_peer_read(peer, DEADLINE_MS).first, WS_FIN | WS_PING);
  disconnected(CPOOL_WS_NO_PONG, CPOOL_OK);
  ws_peer_free(peer);
  peer = server_accept(NULL);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_OPEN)->conn, conn);
  ws_peer_free(peer);
}

static void a_server_that_breaks_the_protocol_too(void **state)
{
  (void) state;
  cpool_conn conn;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  assert_true(ws_peer_send(peer, WS_FIN | WS_TEXT, "\xff", 1));
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1007);
  ws_peer_free(peer);
  assert_int_equal(disconnected(CPOOL_WS_PROTOCOL, CPOOL_OK)->close_code, 1007);
  ws_peer_free(opens_again(conn));
}

/* Long delays: down, and waiting. */
static void wait_long(cpool_conn *conn)
{
  dialer.connect.reconnect_ms = dialer.connect.max_reconnect_ms = 24 * 60 * 60 * 1000;
  manager_start();
  ends_with(dial_open(conn), 1001);
  disconnected(CPOOL_WS_BY_PEER, CPOOL_OK);
}

static int32_t state_of(cpool_conn conn)
{
  cpool_ws_info info;
  cpool_ws_info_init(&info);
  assert_int_equal(cpool_ws_get(fixture.ws, conn, &info), CPOOL_OK);
  return info.state;
}

static bool waits(void *ctx)
{
  return ws_stats().waiting_connections == *(int *) ctx;
}

static void one_that_waits_can_be_removed(void **state)
{
  (void) state;
  cpool_conn conn;
  int one = 1;
  wait_long(&conn);
  assert_int_equal(state_of(conn), CPOOL_WS_WAITING);
  assert_true(wait_until(waits, &one, DEADLINE_MS));
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "x", 1), CPOOL_EAGAIN);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 0, NULL), CPOOL_OK);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_BY_CALLER);
  assert_int_equal(cpool_ws_find(fixture.ws, "id", &conn), CPOOL_ENOTFOUND);
}

static void one_that_waits_expires(void **state)
{
  (void) state;
  cpool_conn conn;
  wait_long(&conn);
  assert_int_equal(cpool_ws_expire(fixture.ws, conn, 50), CPOOL_OK);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_EXPIRED);
}

static void one_that_waits_is_replaced(void **state)
{
  (void) state;
  cpool_conn conn;
  dialer.options.on_duplicate = CPOOL_WS_REPLACE;
  wait_long(&conn);
  cpool_conn next = dial_start("id");
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->conn, conn);
  assert_int_equal(seen->reason, CPOOL_WS_REPLACED);
  ws_peer_free(opens_again(next));
}

static void a_drain_ends_one_that_waits(void **state)
{
  (void) state;
  cpool_conn conn;
  wait_long(&conn);
  assert_int_equal(cpool_ws_close(fixture.ws, 5000), CPOOL_OK);
  fixture.ws = NULL;
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_MANAGER);
}

/* Closed for silence, and removed before its socket is closed: it does not come back. */
static void one_that_goes_down_can_be_removed(void **state)
{
  (void) state;
  cpool_conn conn;
  dialer.options.close_timeout_ms = DEADLINE_MS;
  dialer.options.connection_timeout_ms = 100;
  dialer.options.health_check_interval_ms = CPOOL_OFF;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1001); /* idle: it is closing, and would be dialled again */
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 0, NULL), CPOOL_OK);
  ws_peer_free(peer);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_BY_CALLER);
}

/* Closed for a message that is too long, with a server that does not answer that, so that it would be dialled again. */
static void one_that_goes_down_is_replaced(void **state)
{
  (void) state;
  cpool_conn conn, next, found;
  dialer.options.on_duplicate = CPOOL_WS_REPLACE;
  dialer.options.close_timeout_ms = DEADLINE_MS;
  dialer.options.max_message_bytes = 10;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  assert_true(ws_peer_send_text(peer, "eleven bytes"));
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1009);
  assert_int_equal(cpool_ws_add_external(fixture.ws, "id", NULL, &next), CPOOL_OK);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_OPEN)->conn, next);
  ws_peer_free(peer);
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->conn, conn);
  assert_int_equal(seen->reason, CPOOL_WS_REPLACED);
  assert_int_equal(cpool_ws_find(fixture.ws, "id", &found), CPOOL_OK);
  assert_int_equal(found, next);
}

static _Atomic int edge; /* 1: the loop is about to note that a connection is down, and waits; 2: it goes on */

static bool at_the_edge(void *ctx)
{
  return atomic_load(&edge) == *(int *) ctx;
}

static void wait_at_the_edge(void *user, int32_t level, const char *category, const char *line)
{
  int untouched = 0, over = 2;
  (void) user, (void) level, (void) category;
  if (strstr(line, "open -> waiting") != NULL && atomic_compare_exchange_strong(&edge, &untouched, 1))
    (void) wait_until(at_the_edge, &over, DEADLINE_MS);
}

/* A message had no room on a connection that is down when the loop hears of it. */
static void an_overflow_of_the_last_connection_is_forgotten(void **state)
{
  (void) state;
  cpool_conn conn;
  cpool_runtime *rt = NULL;
  cpool_runtime_options runtime;
  int reached = 1;
  cpool_runtime_options_init(&runtime);
  runtime.log = wait_at_the_edge;
  runtime.log_level = CPOOL_LOG_DEBUG;
  assert_int_equal(cpool_runtime_new(&rt, &runtime), CPOOL_OK);
  dialer.options.on_overflow = CPOOL_WS_OVERFLOW_CLOSE;
  dialer.options.max_send_queue_messages = 1;
  atomic_store(&edge, 0);
  ws_start(&dialer.options, rt);
  ws_peer_reset(dial_open(&conn));
  assert_true(wait_until(at_the_edge, &reached, DEADLINE_MS));
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "one", 3), CPOOL_OK);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "two", 3), CPOOL_ECLOSED);
  atomic_store(&edge, 2);
  disconnected(CPOOL_WS_LOST, CPOOL_OK);
  ws_peer_free(opens_again(conn));
  disconnected(CPOOL_WS_LOST, CPOOL_OK);
  assert_int_equal(ws_stats().disconnects, 2);
  ws_stop();
  assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
}

/* Many that lost their server together come back spread over the time, not at once. */
static void many_come_back_spread(void **state)
{
  (void) state;
  enum { DIALS = 200 };
  uint16_t port;
  char url[64], id[16];
  int held = refusing_port_open(&port), early = 0, late = 0;
  snprintf(url, sizeof url, "ws://127.0.0.1:%u/", port);
  dialer.connect.url = url;
  dialer.connect.reconnect_ms = dialer.connect.max_reconnect_ms = 1000000;
  manager_start();
  for (int i = 0; i < DIALS; i++) {
    snprintf(id, sizeof id, "%d", i);
    dial_start(id);
  }
  for (int i = 0; i < DIALS; i++) {
    int64_t retry_ms = disconnected(CPOOL_WS_HANDSHAKE, CPOOL_ECONNECT)->retry_ms;
    early += retry_ms < 250000;
    late += retry_ms >= 750000;
  }
  assert_in_range(early, 20, 90);
  assert_in_range(late, 20, 90);
  close(held);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, redial_setup, dial_teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {TEST(what_went_down_comes_back_with_its_id),
                                     TEST(failing_is_told_each_time),
                                     TEST(max_attempts_counts_failures_in_a_row),
                                     TEST(codes_decide),
                                     TEST(statuses_decide),
                                     TEST(retry_after_is_obeyed),
                                     TEST(a_retry_after_of_centuries_is_a_day),
                                     TEST(topics_stay),
                                     TEST(what_it_was_owed_is_dropped),
                                     TEST(a_silent_server_is_dialled_again),
                                     TEST(a_server_that_breaks_the_protocol_too),
                                     TEST(one_that_waits_can_be_removed),
                                     TEST(one_that_waits_expires),
                                     TEST(one_that_waits_is_replaced),
                                     TEST(a_drain_ends_one_that_waits),
                                     TEST(one_that_goes_down_can_be_removed),
                                     TEST(one_that_goes_down_is_replaced),
                                     TEST(an_overflow_of_the_last_connection_is_forgotten),
                                     TEST(many_come_back_spread)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
