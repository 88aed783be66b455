/* ws_health: who is silent is asked, who stays silent goes; times run out; nothing that is not due costs anything */
#include "ws_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int stop(void **state)
{
  (void) state;
  if (fixture.ws != NULL)
    ws_stop();
  fixture.react = NULL;
  return 0;
}

static void start(int64_t interval_ms, int64_t pong_ms, int64_t timeout_ms)
{
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  options.health_check_interval_ms = interval_ms;
  options.pong_timeout_ms = pong_ms;
  options.connection_timeout_ms = timeout_ms;
  options.close_timeout_ms = 300;
  listen.decide = CPOOL_OFF;
  ws_start(&options, NULL);
  ws_listen(&listen);
}

static bool measured(void *ctx)
{
  cpool_ws_info info;
  cpool_ws_info_init(&info);
  assert_int_equal(cpool_ws_get(fixture.ws, *(const cpool_conn *) ctx, &info), CPOOL_OK);
  return info.round_trip_us >= 0;
}

static bool counted(void *ctx)
{
  (void) ctx;
  cpool_ws_stats stats = ws_stats(); /* at most a turn old */
  return stats.pings >= 2 && stats.pongs == 1;
}

static void a_silent_peer_is_pinged_and_its_answer_timed(void **state)
{
  (void) state;
  start(50, 5000, CPOOL_OFF);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  cpool_conn conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(frame.first, WS_FIN | WS_PING);
  assert_int_equal(frame.len, 8); /* a number of its own, so that the answer can be told */
  assert_true(ws_peer_send(peer, WS_FIN | WS_PONG, frame.payload, frame.len));
  assert_true(wait_until(measured, &conn, DEADLINE_MS));
  frame = ws_peer_read(peer, DEADLINE_MS); /* silent again */
  assert_int_equal(frame.first, WS_FIN | WS_PING);
  assert_true(wait_until(counted, NULL, DEADLINE_MS));
  ws_peer_free(peer);
}

/* libwebsockets' own check of texts would take a pong for a part of the text before it. */
static void pongs_are_no_part_of_the_texts_before_them(void **state)
{
  (void) state;
  start(50, 1000, CPOOL_OFF);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  ws_next(CPOOL_EVENT_WS_OPEN);
  for (int i = 0; i < 3; i++) {
    assert_true(ws_peer_send_text(peer, "a text"));
    assert_true(ws_peer_send(peer, WS_FIN | WS_PONG, "\xff\xfe", 2));
    ws_next(CPOOL_EVENT_WS_MESSAGE);
    struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
    assert_int_equal(frame.first, WS_FIN | WS_PING);
    for (size_t j = 0; j < frame.len; j++)
      assert_in_range(frame.payload[j], 0, 0x7F);
    assert_true(ws_peer_send(peer, WS_FIN | WS_PONG, frame.payload, frame.len));
  }
  assert_true(ws_peer_send_text(peer, "still here"));
  assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "still here");
  ws_peer_free(peer);
}

static void a_peer_that_does_not_answer_is_cut(void **state)
{
  (void) state;
  start(100, 100, CPOOL_OFF);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  ws_next(CPOOL_EVENT_WS_OPEN);
  int64_t from_ms = now_ms();
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(closed->reason, CPOOL_WS_NO_PONG);
  assert_int_equal(closed->close_code, 1006);
  assert_in_range(now_ms() - from_ms, 190, 2000);
  ws_peer_free(peer);
}

/* Any message is life, a pong is not needed. */
static void a_peer_that_talks_is_not_pinged(void **state)
{
  (void) state;
  start(400, 400, CPOOL_OFF);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  ws_next(CPOOL_EVENT_WS_OPEN);
  for (int64_t from_ms = now_ms(); now_ms() - from_ms < 1200;) {
    assert_true(ws_peer_send_text(peer, "x"));
    ws_next(CPOOL_EVENT_WS_MESSAGE);
    assert_int_equal(ws_peer_read(peer, 50).first, WS_NOTHING);
  }
  assert_int_equal(ws_stats().pings, 0);
  ws_peer_free(peer);
}

static void silence_ends_a_connection_without_pings(void **state)
{
  (void) state;
  start(CPOOL_OFF, CPOOL_OFF, 200);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  ws_next(CPOOL_EVENT_WS_OPEN);
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1001);
  assert_true(ws_peer_send_close(peer, 1001, NULL));
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_IDLE);
  ws_peer_free(peer);
}

static void a_connection_expires(void **state)
{
  (void) state;
  start(CPOOL_OFF, CPOOL_OFF, CPOOL_OFF);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL), *other = ws_peer_open(fixture.port, NULL);
  cpool_conn conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn, kept = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  assert_int_equal(cpool_ws_expire(fixture.ws, kept, 100), CPOOL_OK);
  assert_int_equal(cpool_ws_expire(fixture.ws, kept, CPOOL_OFF), CPOOL_OK);
  assert_int_equal(cpool_ws_expire(fixture.ws, conn, 200), CPOOL_OK);
  assert_int_equal(cpool_ws_expire(fixture.ws, conn, -2), CPOOL_EINVAL);
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(closed->conn, conn);
  assert_int_equal(closed->reason, CPOOL_WS_EXPIRED);
  assert_int_equal(closed->close_code, 1008);
  ws_peer_free(peer);
  ws_peer_free(other);
}

/* A process that is stopped neither reads nor answers, and its socket stays open: found out in twice the interval and little more. */
static void a_peer_that_vanished_is_found_out_in_time(void **state)
{
  (void) state;
  start(1000, 1000, CPOOL_OFF);
  int ready[2];
  assert_int_equal(pipe(ready), 0);
  pid_t child = fork();
  if (child == 0) {
    struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
    char yes = 1;
    if (ws_peer_status(peer) == 101 && write(ready[1], &yes, 1) == 1)
      for (;;)
        (void) ws_peer_read_past_pings(peer, DEADLINE_MS);
    _exit(1);
  }
  char yes;
  assert_int_equal(read(ready[0], &yes, 1), 1);
  ws_next(CPOOL_EVENT_WS_OPEN);
  kill(child, SIGSTOP);
  int64_t from_ms = now_ms();
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_NO_PONG);
  assert_in_range(now_ms() - from_ms, 900, 2200);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  close(ready[0]);
  close(ready[1]);
}

static void a_check_can_be_asked_for(void **state)
{
  (void) state;
  start(CPOOL_OFF, 100, CPOOL_OFF);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  ws_next(CPOOL_EVENT_WS_OPEN);
  cpool_ws_health health;
  cpool_ws_health_init(&health);
  do
    assert_int_equal(cpool_ws_health_check(fixture.ws, &health), CPOOL_OK);
  while (health.pinged == 0 && health.checked == 1); /* the open was life, a moment ago */
  assert_int_equal(health.checked, 1);
  assert_int_equal(ws_peer_read(peer, DEADLINE_MS).first, WS_FIN | WS_PING);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_NO_PONG);
  assert_int_equal(cpool_ws_health_check(fixture.ws, NULL), CPOOL_OK);
  assert_int_equal(cpool_ws_health_check(fixture.ws, &health), CPOOL_OK);
  assert_int_equal(health.checked, 0);
  ws_peer_free(peer);
}

static void an_external_connection_is_told_to_ping(void **state)
{
  (void) state;
  start(100, 300, CPOOL_OFF);
  cpool_conn lively, silent;
  assert_int_equal(cpool_ws_add_external(fixture.ws, "lively", NULL, &lively), CPOOL_OK);
  ws_next(CPOOL_EVENT_WS_OPEN);
  for (int i = 0; i < 5; i++) {
    assert_int_equal(ws_next(CPOOL_EVENT_WS_PING_DUE)->conn, lively);
    assert_int_equal(cpool_ws_touch(fixture.ws, lively), CPOOL_OK);
  }
  assert_int_equal(cpool_ws_remove(fixture.ws, lively, 0, NULL), CPOOL_OK);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_BY_CALLER);
  assert_int_equal(cpool_ws_add_external(fixture.ws, "silent", NULL, &silent), CPOOL_OK);
  ws_next(CPOOL_EVENT_WS_OPEN);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_PING_DUE)->conn, silent);
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(closed->conn, silent);
  assert_int_equal(closed->reason, CPOOL_WS_NO_PONG);
  assert_int_equal(cpool_ws_touch(fixture.ws, silent), CPOOL_ESTALE);
}

static void handshakes_have_a_deadline(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.handshake_timeout_ms = 200;
  ws_start(&options, NULL);
  ws_listen(NULL);
  int64_t from_ms = now_ms();
  struct ws_peer_options how = {.head = "GET / HTTP/1.1\r\n"};
  struct ws_peer *peer = ws_peer_open(fixture.port, &how); /* until the end, as no answer comes */
  assert_int_equal(ws_peer_status(peer), 0);
  assert_in_range(now_ms() - from_ms, 190, 5000);
  ws_peer_free(peer);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(a_silent_peer_is_pinged_and_its_answer_timed, stop),
      cmocka_unit_test_teardown(pongs_are_no_part_of_the_texts_before_them, stop),
      cmocka_unit_test_teardown(a_peer_that_does_not_answer_is_cut, stop),
      cmocka_unit_test_teardown(a_peer_that_talks_is_not_pinged, stop),
      cmocka_unit_test_teardown(silence_ends_a_connection_without_pings, stop),
      cmocka_unit_test_teardown(a_connection_expires, stop),
      cmocka_unit_test_teardown(a_peer_that_vanished_is_found_out_in_time, stop),
      cmocka_unit_test_teardown(a_check_can_be_asked_for, stop),
      cmocka_unit_test_teardown(an_external_connection_is_told_to_ping, stop),
      cmocka_unit_test_teardown(handshakes_have_a_deadline, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
