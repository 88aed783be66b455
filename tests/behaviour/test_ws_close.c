/* ws_close: how connections and managers end: what is owed goes out, every end has its reason, and it always ends */
#include "ws_fixture.h"

#include <sys/socket.h>

static int stop(void **state)
{
  (void) state;
  if (fixture.ws != NULL)
    ws_stop();
  fixture.react = NULL;
  return 0;
}

static bool queue_is_free(void *queue)
{
  const cpool_event *event;
  while (cpool_queue_wait(queue, &event, 1, 0) == 1)
    cpool_queue_release(queue, &event, 1);
  return cpool_queue_free(queue) == CPOOL_OK;
}

static void start(int64_t close_ms)
{
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  options.close_timeout_ms = close_ms;
  options.max_send_queue_bytes = 100000000;
  listen.decide = CPOOL_OFF;
  ws_start(&options, NULL);
  ws_listen(&listen);
}

static struct ws_peer *open_one(cpool_conn *conn)
{
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  assert_int_equal(ws_peer_status(peer), 101);
  *conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  return peer;
}

static void what_it_is_owed_goes_out_before_the_close_frame(void **state)
{
  (void) state;
  enum { MESSAGES = 300, BYTES = 100000 };
  start(DEADLINE_MS);
  cpool_conn conn, found;
  struct ws_peer *peer = open_one(&conn);
  char *payload = calloc(1, BYTES), id[32];
  assert_non_null(payload);
  for (int i = 0; i < MESSAGES; i++)
    assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, payload, BYTES), CPOOL_OK);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 4242, "good night"), CPOOL_OK);
  snprintf(id, sizeof id, "%llu", (unsigned long long) conn);
  size_t got = 0;
  struct ws_frame frame;
  while ((frame = ws_peer_read(peer, DEADLINE_MS)).first != (WS_FIN | WS_CLOSE)) {
    assert_true(frame.first >= 0);
    got += frame.len;
  }
  assert_int_equal(cpool_ws_find(fixture.ws, id, &found), CPOOL_ENOTFOUND); /* free at once */
  assert_int_equal(got, (size_t) MESSAGES * BYTES);
  assert_int_equal(ws_frame_code(&frame), 4242);
  assert_string_equal((char *) frame.payload + 2, "good night");
  assert_true(ws_peer_send_close(peer, 4242, NULL));
  assert_int_equal(ws_peer_read(peer, DEADLINE_MS).first, WS_END);
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(closed->reason, CPOOL_WS_BY_CALLER);
  assert_int_equal(closed->close_code, 4242);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "x", 1), CPOOL_ESTALE);
  free(payload);
  ws_peer_free(peer);
}

static void a_peer_that_does_not_answer_the_close_is_cut(void **state)
{
  (void) state;
  start(200);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 0, NULL), CPOOL_OK);
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1000);
  assert_int_equal(ws_peer_read(peer, DEADLINE_MS).first, WS_END);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_BY_CALLER);
  ws_peer_free(peer);
}

static void a_peer_that_does_not_read_is_cut_too(void **state)
{
  (void) state;
  start(200);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  char *payload = calloc(1, 20000000);
  assert_non_null(payload);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, payload, 20000000), CPOOL_OK);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 0, NULL), CPOOL_OK);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_BY_CALLER);
  assert_int_equal(ws_stats().messages_dropped, 1);
  assert_int_equal(ws_stats().queued_bytes, 0);
  free(payload);
  ws_peer_free(peer);
}

/* Codes that nobody may send are answered with 1002; those below 3000 libwebsockets itself has turned into it before. */
static void the_peers_close_is_answered(void **state)
{
  (void) state;
  static const struct {
    int code, answer, reason, said;
  } cases[] = {{1000, 1000, CPOOL_WS_BY_PEER, 1000}, {1001, 1001, CPOOL_WS_BY_PEER, 1001},
               {3000, 3000, CPOOL_WS_BY_PEER, 3000}, {4999, 4999, CPOOL_WS_BY_PEER, 4999},
               {0, 1005, CPOOL_WS_BY_PEER, 1005},    {5000, 1002, CPOOL_WS_PROTOCOL, 1002},
               {999, 1002, CPOOL_WS_BY_PEER, 1002},  {1005, 1002, CPOOL_WS_BY_PEER, 1002}};
  start(DEADLINE_MS);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    cpool_conn conn;
    struct ws_peer *peer = open_one(&conn);
    assert_true(ws_peer_send_close(peer, cases[i].code, NULL));
    struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
    struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
    if (ws_frame_code(&frame) != cases[i].answer || closed->reason != cases[i].reason ||
        closed->close_code != cases[i].said)
      fail_msg("%d: answered %d, reason %d, code %d", cases[i].code, ws_frame_code(&frame), closed->reason,
               closed->close_code);
    ws_peer_free(peer);
  }
}

static bool stands_still(void *ctx)
{
  static uint64_t last;
  static int64_t since_ms;
  cpool_ws_info info;
  cpool_ws_info_init(&info);
  assert_int_equal(cpool_ws_get(fixture.ws, *(cpool_conn *) ctx, &info), CPOOL_OK);
  if (info.bytes_sent != last || info.bytes_sent == 0)
    since_ms = now_ms();
  last = info.bytes_sent;
  return now_ms() - since_ms > 300;
}

static int count_sent(cpool_conn conn)
{
  cpool_ws_info info;
  cpool_ws_info_init(&info);
  assert_int_equal(cpool_ws_get(fixture.ws, conn, &info), CPOOL_OK);
  return (int) info.messages_sent;
}

/* So much is on its way to it that the kernel lets nobody write, though all that was written has gone to the kernel. */
static void a_peer_that_closes_and_does_not_read_is_cut(void **state)
{
  (void) state;
  static char block[10000];
  cpool_conn conn;
  start(200);
  struct ws_peer *peer = open_one(&conn);
  for (int i = 0; i < 2000; i++)
    assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, block, sizeof block), CPOOL_OK);
  assert_true(wait_until(stands_still, &conn, DEADLINE_MS));
  int most = count_sent(conn);
  ws_peer_reset(peer);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->conn, conn);
  for (int share = 60; share < 100; share += 5) {
    peer = open_one(&conn);
    for (int i = 0; i < most * share / 100; i++)
      assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, block, sizeof block), CPOOL_OK);
    assert_true(wait_until(stands_still, &conn, DEADLINE_MS));
    assert_true(ws_peer_send_close(peer, 1000, NULL));
    struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
    assert_int_equal(closed->conn, conn);
    assert_true(closed->reason == CPOOL_WS_BY_PEER || closed->reason == CPOOL_WS_LOST);
    ws_peer_free(peer);
  }
}

static void an_end_without_a_close_frame_is_a_loss(void **state)
{
  (void) state;
  start(DEADLINE_MS);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  ws_peer_free(peer);
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(closed->reason, CPOOL_WS_LOST);
  assert_int_equal(closed->close_code, 1006);
  peer = open_one(&conn);
  ws_peer_reset(peer);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_LOST);
  peer = open_one(&conn);
  shutdown(ws_peer_fd(peer), SHUT_WR);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_LOST);
  ws_peer_free(peer);
}

static void remove_inside_a_callback(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_WS_MESSAGE)
    assert_int_equal(cpool_ws_remove(fixture.ws, event->source, 1000, "enough"), CPOOL_OK);
}

static void a_callback_may_remove_the_connection(void **state)
{
  (void) state;
  fixture.react = remove_inside_a_callback;
  start(DEADLINE_MS);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  assert_true(ws_peer_send_text(peer, "x"));
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1000);
  assert_true(ws_peer_send_text(peer, "behind it"));
  assert_true(ws_peer_send_close(peer, 1000, NULL));
  ws_next(CPOOL_EVENT_WS_MESSAGE);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_BY_CALLER);
  ws_peer_free(peer);
}

static void close_inside_a_callback(const cpool_event *event)
{
  if (event->kind != CPOOL_EVENT_WS_MESSAGE)
    return;
  assert_int_equal(cpool_ws_close(fixture.ws, 0), CPOOL_EDEADLK);
  assert_int_equal(cpool_ws_close_start(fixture.ws, 0), CPOOL_OK);
  assert_int_equal(cpool_ws_send(fixture.ws, event->source, CPOOL_WS_TEXT, "x", 1), CPOOL_ECLOSED);
}

static void the_manager_can_be_closed_from_a_callback(void **state)
{
  (void) state;
  fixture.react = close_inside_a_callback;
  start(DEADLINE_MS);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  assert_true(ws_peer_send_text(peer, "x"));
  ws_next(CPOOL_EVENT_WS_MESSAGE);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_MANAGER);
  ws_next(CPOOL_EVENT_WS_MANAGER_CLOSED);
  assert_int_equal(ws_stats().closed_manager, 1);
  cpool_ws_free(fixture.ws);
  fixture.ws = NULL;
  ws_peer_free(peer);
}

static void a_drain_is_spread_and_ends_in_time(void **state)
{
  (void) state;
  enum { PEERS = 20, DRAIN_MS = 1000 };
  start(DEADLINE_MS);
  struct ws_peer *peers[PEERS];
  cpool_conn conn;
  for (int i = 0; i < PEERS; i++)
    peers[i] = open_one(&conn);
  int64_t from_ms = now_ms(), first_ms = 0, last_ms = 0;
  assert_int_equal(cpool_ws_close_start(fixture.ws, DRAIN_MS), CPOOL_OK);
  assert_int_equal(cpool_ws_listen(fixture.ws, NULL), CPOOL_ECLOSED);
  for (int i = 0; i < PEERS; i++) {
    struct ws_frame frame = ws_peer_read(peers[i], DEADLINE_MS);
    assert_int_equal(ws_frame_code(&frame), 1001);
    last_ms = now_ms() - from_ms;
    if (i == 0)
      first_ms = last_ms;
    if (i != 7) /* one stays silent */
      assert_true(ws_peer_send_close(peers[i], 1001, NULL));
  }
  assert_in_range(last_ms - first_ms, DRAIN_MS / 4, DRAIN_MS);
  for (int i = 0; i < PEERS; i++)
    assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_MANAGER);
  ws_next(CPOOL_EVENT_WS_MANAGER_CLOSED);
  assert_in_range(now_ms() - from_ms, DRAIN_MS - 50, DRAIN_MS + 1000);
  for (int i = 0; i < PEERS; i++)
    ws_peer_free(peers[i]);
  cpool_ws_free(fixture.ws);
  fixture.ws = NULL;
}

static void every_stage_can_be_closed(void **state)
{
  (void) state;
  start(DEADLINE_MS);
  ws_stop(); /* nobody came */
  start(DEADLINE_MS);

  cpool_conn conn;
  struct ws_peer *open = open_one(&conn);
  char *payload = calloc(1, 20000000);
  assert_non_null(payload);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, payload, 20000000), CPOOL_OK);
  free(payload);
  struct ws_peer *closing = open_one(&conn);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 0, NULL), CPOOL_OK);

  ws_stop();
  ws_next(CPOOL_EVENT_WS_CLOSED);
  ws_next(CPOOL_EVENT_WS_CLOSED);
  ws_next(CPOOL_EVENT_WS_MANAGER_CLOSED);
  ws_peer_free(open);
  ws_peer_free(closing);
  start(DEADLINE_MS);
  cpool_ws_free(fixture.ws); /* without a close: it goes in the background, without an event */
  fixture.ws = NULL;
}

/* The loop may come to the end of the close in the middle of the call that frees. */
static void freed_while_a_close_is_under_way(void **state)
{
  (void) state;
  enum { TIMES = 30 };
  cpool_queue *queue;
  cpool_ws_options options;
  assert_int_equal(cpool_queue_new(&queue, NULL), CPOOL_OK);
  cpool_ws_options_init(&options);
  options.queue = queue;
  for (int i = 0; i < TIMES; i++) {
    cpool_ws *ws;
    assert_int_equal(cpool_ws_new(&ws, NULL, &options), CPOOL_OK);
    assert_int_equal(cpool_ws_close_start(ws, 0), CPOOL_OK);
    cpool_ws_free(ws);
  }
  assert_true(wait_until(queue_is_free, queue, DEADLINE_MS));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(what_it_is_owed_goes_out_before_the_close_frame, stop),
      cmocka_unit_test_teardown(a_peer_that_does_not_answer_the_close_is_cut, stop),
      cmocka_unit_test_teardown(a_peer_that_does_not_read_is_cut_too, stop),
      cmocka_unit_test_teardown(the_peers_close_is_answered, stop),
      cmocka_unit_test_teardown(a_peer_that_closes_and_does_not_read_is_cut, stop),
      cmocka_unit_test_teardown(an_end_without_a_close_frame_is_a_loss, stop),
      cmocka_unit_test_teardown(a_callback_may_remove_the_connection, stop),
      cmocka_unit_test_teardown(the_manager_can_be_closed_from_a_callback, stop),
      cmocka_unit_test_teardown(a_drain_is_spread_and_ends_in_time, stop),
      cmocka_unit_test_teardown(every_stage_can_be_closed, stop),
      cmocka_unit_test_teardown(freed_while_a_close_is_under_way, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
