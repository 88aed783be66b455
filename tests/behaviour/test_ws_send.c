/* ws_send: messages to one and to many; what has no room; slow peers, who cost neither others nor memory */
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

static void start(cpool_ws_options *options)
{
  cpool_ws_listen_options listen;
  cpool_ws_listen_options_init(&listen);
  listen.decide = CPOOL_OFF;
  ws_start(options, NULL);
  ws_listen(&listen);
}

static struct ws_peer *open_one(cpool_conn *conn)
{
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  assert_int_equal(ws_peer_status(peer), 101);
  *conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  return peer;
}

static void messages_of_one_thread_stay_in_order(void **state)
{
  (void) state;
  enum { MANY = 2000 };
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  start(&options);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  char text[32];
  for (int i = 0; i < MANY; i++) {
    snprintf(text, sizeof text, "message %d", i);
    assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, text, strlen(text)), CPOOL_OK);
  }
  for (int i = 0; i < MANY; i++) {
    struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
    snprintf(text, sizeof text, "message %d", i);
    assert_int_equal(frame.first, WS_FIN | WS_TEXT);
    assert_string_equal((char *) frame.payload, text);
  }
  ws_peer_free(peer);
}

static void arguments_are_checked(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.max_send_queue_bytes = 1000;
  start(&options);
  cpool_conn conn;
  char bytes[1001] = {0};
  struct ws_peer *peer = open_one(&conn);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, 0, "x", 1), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "\xc3", 1), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, NULL, 1), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, bytes, 1001), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_PING, bytes, 126), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_send(fixture.ws, conn + 1, CPOOL_WS_TEXT, "x", 1), CPOOL_ESTALE);
  assert_int_equal(cpool_ws_send_id(fixture.ws, "nobody", CPOOL_WS_TEXT, "x", 1), CPOOL_ENOTFOUND);
  assert_int_equal(cpool_ws_publish(fixture.ws, "", CPOOL_WS_TEXT, "x", 1), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_subscribe(fixture.ws, conn, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 1005, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 999, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 1000, "\xff"), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_send(NULL, conn, CPOOL_WS_TEXT, "x", 1), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, NULL, 0), CPOOL_OK);
  assert_int_equal(ws_peer_read(peer, DEADLINE_MS).len, 0);
  ws_peer_free(peer);
}

static int fill(cpool_conn conn, int *sent)
{
  static char block[10000];
  int rc;
  for (*sent = 0; (rc = cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, block, sizeof block)) == CPOOL_OK; ++*sent)
    assert_in_range(*sent, 0, 100000);
  return rc;
}

static void a_full_queue_refuses_and_tells_of_room(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.max_send_queue_bytes = 100000;
  start(&options);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  int sent, more = 0;
  assert_int_equal(fill(conn, &sent), CPOOL_EAGAIN);
  for (int got = 0; got < sent; got++)
    assert_int_equal(ws_peer_read_past_pings(peer, DEADLINE_MS).len, 10000);
  ws_next(CPOOL_EVENT_WS_DRAINED);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "x", 1), CPOOL_OK);
  struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
  assert_int_equal(frame.first, WS_FIN | WS_TEXT);
  assert_int_equal(fill(conn, &more), CPOOL_EAGAIN); /* and once again */
  for (int got = 0; got < more; got++)
    assert_int_equal(ws_peer_read_past_pings(peer, DEADLINE_MS).len, 10000);
  ws_next(CPOOL_EVENT_WS_DRAINED);
  ws_peer_free(peer);
}

static bool nothing_waits(void *ctx)
{
  cpool_ws_info info;
  cpool_ws_info_init(&info);
  assert_int_equal(cpool_ws_get(fixture.ws, *(cpool_conn *) ctx, &info), CPOOL_OK);
  return info.queued_messages == 0;
}

static void read_blocks(struct ws_peer *peer, int count)
{
  for (int got = 0; got < count; got++)
    assert_int_equal(ws_peer_read_past_pings(peer, DEADLINE_MS).len, 10000);
}

/* A consumer sends until it is refused, and releases the event that told of room afterwards: when there is room again. */
static void room_is_told_though_its_last_event_is_released_late(void **state)
{
  (void) state;
  cpool_queue *queue = NULL;
  cpool_ws_options options;
  const cpool_event *event;
  cpool_conn conn;
  int sent;
  cpool_ws_options_init(&options);
  options.max_send_queue_bytes = 100000;
  assert_int_equal(cpool_queue_new(&queue, NULL), CPOOL_OK);
  options.queue = queue;
  start(&options);
  struct ws_peer *peer = open_one(&conn);
  assert_int_equal(fill(conn, &sent), CPOOL_EAGAIN);
  read_blocks(peer, sent);
  assert_int_equal(cpool_queue_wait(queue, &event, 1, DEADLINE_MS), 1);
  assert_int_equal(event->kind, CPOOL_EVENT_WS_DRAINED);
  assert_int_equal(fill(conn, &sent), CPOOL_EAGAIN);
  read_blocks(peer, sent);
  assert_true(wait_until(nothing_waits, &conn, DEADLINE_MS));
  cpool_queue_release(queue, &event, 1);
  ws_next(CPOOL_EVENT_WS_DRAINED);
  assert_int_equal(cpool_queue_wait(queue, &event, 1, 0), 0); /* once */
  ws_peer_free(peer);
  ws_next(CPOOL_EVENT_WS_CLOSED);
  ws_stop();
  assert_int_equal(cpool_queue_free(queue), CPOOL_OK);
}

/* The event is released when the connection has gone, and when the manager has. */
static void an_event_of_room_may_outlive_all(void **state)
{
  (void) state;
  cpool_queue *queue = NULL;
  cpool_ws_options options;
  const cpool_event *event;
  cpool_conn conn;
  int sent;
  cpool_ws_options_init(&options);
  options.max_send_queue_bytes = 100000;
  assert_int_equal(cpool_queue_new(&queue, NULL), CPOOL_OK);
  options.queue = queue;
  for (int i = 0; i < 2; i++) {
    start(&options);
    struct ws_peer *peer = open_one(&conn);
    assert_int_equal(fill(conn, &sent), CPOOL_EAGAIN);
    read_blocks(peer, sent);
    assert_int_equal(cpool_queue_wait(queue, &event, 1, DEADLINE_MS), 1);
    assert_int_equal(event->kind, CPOOL_EVENT_WS_DRAINED);
    assert_int_equal(fill(conn, &sent), CPOOL_EAGAIN);
    read_blocks(peer, sent);
    assert_true(wait_until(nothing_waits, &conn, DEADLINE_MS));
    ws_peer_free(peer);
    ws_next(CPOOL_EVENT_WS_CLOSED);
    if (i == 0)
      cpool_queue_release(queue, &event, 1);
    ws_stop();
    ws_next(CPOOL_EVENT_WS_MANAGER_CLOSED);
    if (i == 1)
      cpool_queue_release(queue, &event, 1);
  }
  assert_int_equal(cpool_queue_free(queue), CPOOL_OK);
}

static void a_full_queue_drops_the_oldest(void **state)
{
  (void) state;
  enum { MANY = 2000 };
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.max_send_queue_messages = 10;
  options.on_overflow = CPOOL_WS_OVERFLOW_DROP_OLDEST;
  start(&options);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  char block[10000] = {0};
  int sent = 0;
  for (int i = 1; i <= MANY; i++) {
    int rc;
    memcpy(block, &i, sizeof i);
    do /* the loop drops them: another thread may be ahead of it by as many again */
      rc = cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, block, sizeof block);
    while (rc == CPOOL_EAGAIN);
    assert_int_equal(rc, CPOOL_OK);
    sent++;
  }
  assert_int_equal(sent, MANY);
  int last = 0, got = 0;
  while (last < MANY) {
    struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
    assert_int_equal(frame.len, sizeof block);
    int number;
    memcpy(&number, frame.payload, sizeof number);
    assert_true(number > last);
    last = number;
    got++;
  }
  assert_true(got < MANY);
  assert_int_equal(ws_stats().messages_dropped, MANY - got);
  ws_peer_free(peer);
}

static void a_full_queue_drops_the_newest(void **state)
{
  (void) state;
  enum { MANY = 2000 };
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.max_send_queue_messages = 10;
  options.on_overflow = CPOOL_WS_OVERFLOW_DROP_NEWEST;
  start(&options);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  char block[10000] = {0};
  for (int i = 1; i <= MANY; i++) {
    memcpy(block, &i, sizeof i);
    assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, block, sizeof block), CPOOL_OK);
  }
  int number = 0, first;
  struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
  memcpy(&first, frame.payload, sizeof first);
  assert_int_equal(first, 1);
  int64_t end_ms = now_ms() + DEADLINE_MS;
  for (int got = 1; (uint64_t) got < MANY - ws_stats().messages_dropped && now_ms() < end_ms;) {
    frame = ws_peer_read_past_pings(peer, 50);
    if (frame.first == WS_NOTHING)
      continue; /* the statistics were of the turn before */
    memcpy(&number, frame.payload, sizeof number);
    assert_true(number > got);
    assert_true(got >= 10 || number == got + 1); /* those for which there was room */
    got++;
  }
  assert_true(now_ms() < end_ms);
  assert_in_range(ws_stats().messages_dropped, 1, MANY - 10);
  ws_next(CPOOL_EVENT_WS_DRAINED);
  ws_peer_free(peer);
}

static void a_full_queue_can_cost_the_connection(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.max_send_queue_bytes = 100000;
  options.on_overflow = CPOOL_WS_OVERFLOW_CLOSE;
  start(&options);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  int sent;
  assert_int_equal(fill(conn, &sent), CPOOL_ECLOSED);
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(closed->reason, CPOOL_WS_OVERFLOW);
  assert_int_equal(closed->close_code, 1008);
  ws_peer_free(peer);
}

static void above_the_managers_cap_the_largest_goes(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.max_send_queue_bytes = 100000000;
  options.max_queued_bytes = 1000000;
  start(&options);
  cpool_conn small, large;
  struct ws_peer *one = open_one(&small), *two = open_one(&large);
  static char block[10000];
  assert_int_equal(cpool_ws_send(fixture.ws, small, CPOOL_WS_BINARY, block, sizeof block), CPOOL_OK);
  int rc = CPOOL_OK;
  for (int i = 0; i < 100000 && rc == CPOOL_OK; i++)
    rc = cpool_ws_send(fixture.ws, large, CPOOL_WS_BINARY, block, sizeof block);
  assert_true(rc == CPOOL_ECLOSED || rc == CPOOL_ESTALE || rc == CPOOL_EFULL);
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(closed->conn, large);
  assert_int_equal(closed->reason, CPOOL_WS_OVERFLOW);
  assert_int_equal(ws_peer_read_past_pings(one, DEADLINE_MS).len, sizeof block);
  ws_peer_free(one);
  ws_peer_free(two);
}

static void publish_reaches_members_and_nobody_else(void **state)
{
  (void) state;
  enum { PEERS = 10 };
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  start(&options);
  struct ws_peer *peers[PEERS];
  cpool_conn conns[PEERS];
  for (int i = 0; i < PEERS; i++) {
    peers[i] = open_one(&conns[i]);
    assert_int_equal(cpool_ws_subscribe(fixture.ws, conns[i], i % 2 == 0 ? "even" : "odd"), CPOOL_OK);
  }
  assert_int_equal(cpool_ws_subscribe(fixture.ws, conns[0], "even"), CPOOL_OK); /* again: no matter */
  assert_int_equal(cpool_ws_subscribe(fixture.ws, conns[0], "odd"), CPOOL_OK);
  assert_int_equal(cpool_ws_unsubscribe(fixture.ws, conns[2], "even"), CPOOL_OK);
  assert_int_equal(cpool_ws_publish(fixture.ws, "even", CPOOL_WS_TEXT, "2", 1), CPOOL_OK);
  assert_int_equal(cpool_ws_publish(fixture.ws, "odd", CPOOL_WS_TEXT, "1", 1), CPOOL_OK);
  assert_int_equal(cpool_ws_publish(fixture.ws, "nobody", CPOOL_WS_TEXT, "0", 1), CPOOL_OK);
  assert_int_equal(cpool_ws_publish(fixture.ws, NULL, CPOOL_WS_TEXT, "all", 3), CPOOL_OK);
  for (int i = 0; i < PEERS; i++) {
    const char *expected = i == 0 ? "21" : i == 2 ? "" : i % 2 == 0 ? "2" : "1";
    for (; *expected != '\0'; expected++)
      assert_int_equal(*ws_peer_read_past_pings(peers[i], DEADLINE_MS).payload, *expected);
    assert_string_equal((char *) ws_peer_read_past_pings(peers[i], DEADLINE_MS).payload, "all");
  }
  assert_int_equal(ws_stats().topics, 2);
  for (int i = 0; i < PEERS; i++)
    ws_peer_free(peers[i]);
  for (int i = 0; i < PEERS; i++)
    ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(ws_stats().topics, 0); /* they went with their members */
}

static void a_slow_member_holds_up_nobody(void **state)
{
  (void) state;
  enum { ROUNDS = 500 };
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.max_send_queue_bytes = 200000;
  start(&options);
  cpool_conn slow, quick;
  struct ws_peer *one = open_one(&slow), *two = open_one(&quick);
  static char block[20000];
  for (int i = 0; i < ROUNDS; i++) {
    assert_int_equal(cpool_ws_publish(fixture.ws, NULL, CPOOL_WS_BINARY, block, sizeof block), CPOOL_OK);
    assert_int_equal(ws_peer_read_past_pings(two, DEADLINE_MS).len, sizeof block);
  }
  cpool_ws_stats stats = ws_stats();
  assert_in_range(stats.queued_bytes, 1, 1000000);
  assert_true(stats.messages_dropped > 0);
  cpool_ws_info info;
  cpool_ws_info_init(&info);
  assert_int_equal(cpool_ws_get(fixture.ws, slow, &info), CPOOL_OK);
  assert_in_range(info.queued_bytes, 1, 200000);
  ws_peer_free(one);
  ws_peer_free(two);
}

/* Control frames pass between the frames of a long message. */
static void a_ping_overtakes(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.max_send_queue_bytes = 20000000;
  start(&options);
  cpool_conn conn;
  struct ws_peer *peer = open_one(&conn);
  size_t len = 10000000, got = 0;
  char *payload = calloc(1, len);
  bool pinged = false;
  assert_non_null(payload);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, payload, len), CPOOL_OK);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_PING, "now", 3), CPOOL_OK);
  while (got < len) {
    struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
    if (frame.first == (WS_FIN | WS_PING)) {
      assert_string_equal((char *) frame.payload, "now");
      assert_true(got < len);
      pinged = true;
    } else {
      assert_in_range(frame.len, 1, 65536);
      got += frame.len;
    }
  }
  assert_true(pinged);
  free(payload);
  ws_peer_free(peer);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(messages_of_one_thread_stay_in_order, stop),
      cmocka_unit_test_teardown(arguments_are_checked, stop),
      cmocka_unit_test_teardown(a_full_queue_refuses_and_tells_of_room, stop),
      cmocka_unit_test_teardown(room_is_told_though_its_last_event_is_released_late, stop),
      cmocka_unit_test_teardown(an_event_of_room_may_outlive_all, stop),
      cmocka_unit_test_teardown(a_full_queue_drops_the_oldest, stop),
      cmocka_unit_test_teardown(a_full_queue_drops_the_newest, stop),
      cmocka_unit_test_teardown(a_full_queue_can_cost_the_connection, stop),
      cmocka_unit_test_teardown(above_the_managers_cap_the_largest_goes, stop),
      cmocka_unit_test_teardown(publish_reaches_members_and_nobody_else, stop),
      cmocka_unit_test_teardown(a_slow_member_holds_up_nobody, stop),
      cmocka_unit_test_teardown(a_ping_overtakes, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
