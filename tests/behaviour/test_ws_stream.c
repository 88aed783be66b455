/* ws_stream: messages in pieces: in order and whole, within their window, each connection for itself */
#include "ws_fixture.h"

#include <unistd.h>

enum { WINDOW = 65536, SLACK = 65536 /* what was being read when the window was full */, LARGE = 32 << 20 };

/* What came of a connection: written where events are taken, looked at anywhere. */
struct inflow {
  cpool_conn conn;
  size_t at, message_len[512]; /* `at`: in the message that comes in */
  _Atomic uint64_t bytes, pieces, wrong;
  _Atomic int messages, kind, closed, reason, close_code;
};

static struct inflow inflows[4];
static _Atomic int inflow_count;
static _Atomic bool gives_credit;

static char byte_at(size_t at)
{
  return (char) (at * 31 + at / 251);
}

static void piece(struct inflow *in, const cpool_event *event)
{
  const char *data = event->data;
  for (size_t i = 0; i < event->len; i++)
    in->wrong += data[i] != byte_at(in->at + i) ? 1 : 0;
  in->wrong += data[event->len] != '\0' || event->len > 16384 || (event->len == 0 && event->more != 0) ? 1 : 0;
  in->at += event->len;
  in->kind = event->ws_kind;
  in->pieces++;
  if (event->more == 0) {
    in->message_len[in->messages] = in->at;
    in->at = 0;
    in->messages++;
  }
  in->bytes += event->len; /* the last: a test waits for it */
}

static void on_piece_event(const cpool_event *event)
{
  struct inflow *in = NULL;
  for (int i = 0; i < inflow_count; i++)
    if (inflows[i].conn == event->source)
      in = &inflows[i];
  switch (event->kind) {
  case CPOOL_EVENT_WS_OPEN:
    inflows[inflow_count].conn = event->source;
    inflow_count++;
    break;
  case CPOOL_EVENT_WS_PIECE:
    assert_non_null(in);
    piece(in, event);
    if (gives_credit && fixture.ws != NULL && event->len > 0) {
      int rc = cpool_ws_credit(fixture.ws, event->source, event->len);
      assert_true(rc == CPOOL_OK || rc == CPOOL_ESTALE); /* it may have ended meanwhile */
    }
    break;
  case CPOOL_EVENT_WS_MESSAGE:
    fail_msg("a whole message has come");
    break;
  case CPOOL_EVENT_WS_CLOSED:
    if (in == NULL)
      break;
    in->reason = event->reason;
    in->close_code = event->close_code;
    in->closed = 1;
    break;
  default:
    break;
  }
}

/* With a queue: takes what is there. */
static void pump(void)
{
  const cpool_event *events[16];
  int count;
  while (fixture.queue != NULL && (count = cpool_queue_wait(fixture.queue, events, 16, 0)) > 0) {
    for (int i = 0; i < count; i++)
      on_piece_event(events[i]);
    cpool_queue_release(fixture.queue, events, count);
  }
}

static cpool_ws_options options;
static cpool_ws_listen_options listen_options;

static int setup(void **state)
{
  (void) state;
  for (size_t i = 0; i < sizeof inflows / sizeof *inflows; i++)
    inflows[i] = (struct inflow){0};
  inflow_count = 0;
  gives_credit = true;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen_options);
  options.stream_messages = 1;
  options.stream_window_bytes = WINDOW;
  options.max_message_bytes = CPOOL_OFF;
  listen_options.decide = CPOOL_OFF;
  return 0;
}

static int teardown(void **state)
{
  (void) state;
  if (fixture.ws != NULL)
    ws_stop();
  pump();
  if (fixture.queue != NULL)
    assert_int_equal(cpool_queue_free(fixture.queue), CPOOL_OK);
  fixture.queue = NULL;
  return 0;
}

static void start(bool with_queue)
{
  if (with_queue)
    assert_int_equal(cpool_queue_new(&fixture.queue, NULL), CPOOL_OK);
  options.queue = fixture.queue;
  options.on_event = with_queue ? NULL : on_piece_event;
  assert_int_equal(cpool_ws_new(&fixture.ws, NULL, &options), CPOOL_OK);
  ws_listen(&listen_options);
}

/* ------------------------------------------------------------------------------------------------------------ waiting */

struct wish {
  struct inflow *in;
  uint64_t bytes;
  int messages;
};

static bool has_come(void *ctx)
{
  const struct wish *wish = ctx;
  pump();
  return wish->in->bytes >= wish->bytes && wish->in->messages >= wish->messages;
}

static void expect_messages(struct inflow *in, int messages, uint64_t bytes)
{
  struct wish wish = {in, bytes, messages};
  if (!wait_until(has_come, &wish, DEADLINE_MS))
    fail_msg("%d messages, %llu bytes have come", (int) in->messages, (unsigned long long) in->bytes);
  assert_int_equal(in->messages, messages);
  assert_int_equal(in->bytes, bytes);
  assert_int_equal(in->wrong, 0);
}

static bool is_paused(void *ctx)
{
  (void) ctx;
  return ws_stats().paused_connections == 1;
}

static bool is_closed(void *ctx)
{
  pump();
  return ((struct inflow *) ctx)->closed != 0;
}

static void expect_closed(struct inflow *in, int reason, int close_code)
{
  assert_true(wait_until(is_closed, in, DEADLINE_MS));
  assert_int_equal(in->reason, reason);
  assert_int_equal(in->close_code, close_code);
}

static bool is_open(void *ctx)
{
  pump();
  return inflow_count >= *(int *) ctx;
}

static struct ws_peer *open_peer(const char *ca_file)
{
  struct ws_peer_options how = {.ca_file = ca_file};
  int count = inflow_count + 1;
  struct ws_peer *peer = ws_peer_open(fixture.port, &how);
  assert_true(wait_until(is_open, &count, DEADLINE_MS));
  return peer;
}

static char *pattern(size_t len)
{
  char *bytes = malloc(len + 1);
  assert_non_null(bytes);
  for (size_t i = 0; i < len; i++)
    bytes[i] = byte_at(i);
  return bytes;
}

/* One message that is sent from a thread, which waits where it has to. */
struct sender {
  pthread_t thread;
  struct ws_peer *peer;
  size_t len;
  _Atomic bool done, sent;
};

static void *send_one(void *arg)
{
  struct sender *sender = arg;
  char *bytes = malloc(sender->len);
  for (size_t i = 0; bytes != NULL && i < sender->len; i++)
    bytes[i] = byte_at(i);
  sender->sent = bytes != NULL && ws_peer_send(sender->peer, WS_FIN | WS_BINARY, bytes, sender->len);
  free(bytes);
  sender->done = true;
  return NULL;
}

static void start_sender(struct sender *sender, struct ws_peer *peer, size_t len)
{
  *sender = (struct sender){.peer = peer, .len = len};
  assert_int_equal(pthread_create(&sender->thread, NULL, send_one, sender), 0);
}

static void join_sender(struct sender *sender)
{
  assert_int_equal(pthread_join(sender->thread, NULL), 0);
  assert_true(sender->sent);
}

/* -------------------------------------------------------------------------------------------------------------- cases */

static void large_message(bool with_queue, const char *ca_file)
{
  enum { LEN = 10 << 20 };
  struct sender sender;
  start(with_queue);
  struct ws_peer *peer = open_peer(ca_file);
  start_sender(&sender, peer, LEN);
  expect_messages(&inflows[0], 1, LEN);
  join_sender(&sender);
  assert_int_equal(inflows[0].kind, CPOOL_WS_BINARY);
  assert_in_range(inflows[0].pieces, LEN / 16384, LEN / 16);
  cpool_ws_stats stats = ws_stats();
  assert_int_equal(stats.messages_received, 1);
  assert_int_equal(stats.bytes_received, LEN);
  ws_peer_free(peer);
}

static void a_large_message_comes_in_order_by_callback(void **state)
{
  (void) state;
  large_message(false, NULL);
}

static void a_large_message_comes_in_order_through_a_queue(void **state)
{
  (void) state;
  large_message(true, NULL);
}

static void over_tls(bool with_queue)
{
  struct certs *certs = certs_new();
  listen_options.tls_cert_file = certs->good.cert_file;
  listen_options.tls_key_file = certs->good.key_file;
  large_message(with_queue, certs->ca_file);
  certs_free(certs);
}

static void over_tls_by_callback(void **state)
{
  (void) state;
  over_tls(false);
}

static void over_tls_through_a_queue(void **state)
{
  (void) state;
  over_tls(true);
}

static void small_messages_are_one_piece(void **state)
{
  (void) state;
  start(false);
  struct ws_peer *peer = open_peer(NULL);
  char *bytes = pattern(100);
  for (int i = 0; i < 20; i++) {
    assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, bytes, 100));
    expect_messages(&inflows[0], i + 1, (uint64_t) (i + 1) * 100);
    assert_int_equal(inflows[0].pieces, i + 1);
  }
  assert_true(ws_peer_send(peer, WS_FIN | WS_TEXT, NULL, 0));
  expect_messages(&inflows[0], 21, 2000);
  assert_int_equal(inflows[0].pieces, 21);
  assert_int_equal(inflows[0].kind, CPOOL_WS_TEXT);
  free(bytes);
  ws_peer_free(peer);
}

static const size_t mixed_lens[] = {1, 0, 4096, 16384, 16385, 125, 126, 65536, 0, 40000};
enum { MIXED_KINDS = sizeof mixed_lens / sizeof *mixed_lens, MIXED = 300 };

/* From a thread: where it has to wait, others take what has come. */
static void *send_mixed(void *arg)
{
  struct ws_peer *peer = arg;
  char *bytes = pattern(65536);
  bool sent = true;
  for (int i = 0; i < MIXED && sent; i++) {
    size_t len = mixed_lens[i % MIXED_KINDS], cut = i % 3 == 0 ? len / 2 : 0;
    if (i % 3 == 0) /* in three frames, the middle one without bytes */
      sent = ws_peer_send(peer, WS_BINARY, bytes, cut) && ws_peer_send(peer, 0, NULL, 0) &&
             ws_peer_send(peer, WS_FIN, bytes + cut, len - cut);
    else
      sent = ws_peer_send(peer, WS_FIN | WS_BINARY, bytes, len);
  }
  free(bytes);
  return sent ? peer : NULL;
}

static void messages_back_to_back_stay_apart(void **state)
{
  (void) state;
  uint64_t in_all = 0;
  pthread_t thread;
  void *sent;
  start(true);
  struct ws_peer *peer = open_peer(NULL);
  for (int i = 0; i < MIXED; i++)
    in_all += mixed_lens[i % MIXED_KINDS];
  assert_int_equal(pthread_create(&thread, NULL, send_mixed, peer), 0);
  expect_messages(&inflows[0], MIXED, in_all);
  pthread_join(thread, &sent);
  assert_non_null(sent);
  for (int i = 0; i < MIXED; i++)
    assert_int_equal(inflows[0].message_len[i], mixed_lens[i % MIXED_KINDS]);
  ws_peer_free(peer);
}

static void text_is_checked_across_pieces(void **state)
{
  (void) state;
  start(true);
  struct ws_peer *peer = open_peer(NULL);
  char *text = malloc(40001);
  assert_non_null(text);
  text[0] = 'x'; /* so that pieces end inside of a character */
  for (int i = 0; i < 20000; i++)
    memcpy(text + 1 + 2 * i, "\xc3\xa4", 2);
  assert_true(ws_peer_send(peer, WS_FIN | WS_TEXT, text, 40001));
  struct wish wish = {&inflows[0], 40001, 1};
  assert_true(wait_until(has_come, &wish, DEADLINE_MS));
  assert_int_equal(inflows[0].kind, CPOOL_WS_TEXT);
  text[30000] = '\xff';
  assert_true(ws_peer_send(peer, WS_FIN | WS_TEXT, text, 40001));
  struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1007);
  ws_peer_free(peer);
  expect_closed(&inflows[0], CPOOL_WS_PROTOCOL, 1007);
  assert_int_equal(inflows[0].messages, 1);
  free(text);
}

/* A sender that has to wait, since nothing is given back. */
static struct ws_peer *pause_one(struct sender *sender, const char *ca_file)
{
  gives_credit = false;
  struct ws_peer *peer = open_peer(ca_file);
  start_sender(sender, peer, LARGE);
  assert_true(wait_until(is_paused, NULL, DEADLINE_MS));
  return peer;
}

static void check_paused(const struct sender *sender)
{
  struct inflow *in = &inflows[0];
  if (fixture.queue == NULL)
    assert_in_range(in->bytes, WINDOW / 2, WINDOW + SLACK);
  assert_in_range(ws_stats().bytes_received, WINDOW / 2, WINDOW + SLACK + 400);
  struct ws_peer *other = open_peer(NULL); /* takes no notice */
  char *bytes = pattern(1000);
  for (int i = 0; i < 20; i++) {
    assert_true(ws_peer_send(other, WS_FIN | WS_BINARY, bytes, 1000));
    struct wish wish = {&inflows[1], (uint64_t) (i + 1) * 1000, i + 1};
    if (fixture.queue == NULL)
      assert_true(wait_until(has_come, &wish, DEADLINE_MS));
  }
  free(bytes);
  assert_false(sender->done);
  assert_int_equal(ws_stats().paused_connections, 1);
  ws_peer_free(other);
}

static void a_used_up_window_holds_back_that_peer_alone_until_credit(void **state)
{
  (void) state;
  struct sender sender;
  start(false);
  struct ws_peer *peer = pause_one(&sender, NULL);
  check_paused(&sender);
  gives_credit = true;
  assert_int_equal(cpool_ws_credit(fixture.ws, inflows[0].conn, SIZE_MAX), CPOOL_OK);
  expect_messages(&inflows[0], 1, LARGE);
  join_sender(&sender);
  ws_peer_free(peer);
}

static void credit_in_parts_lets_on_at_half(void **state)
{
  (void) state;
  struct sender sender;
  start(false);
  struct ws_peer *peer = pause_one(&sender, NULL);
  uint64_t given = 0, before = inflows[0].bytes;
  while (ws_stats().paused_connections == 1 && given < before) {
    assert_int_equal(cpool_ws_credit(fixture.ws, inflows[0].conn, 1000), CPOOL_OK);
    given += 1000;
  }
  assert_in_range(given, before - WINDOW / 2, before + 1000);
  gives_credit = true;
  assert_int_equal(cpool_ws_credit(fixture.ws, inflows[0].conn, SIZE_MAX), CPOOL_OK);
  expect_messages(&inflows[0], 1, LARGE);
  join_sender(&sender);
  ws_peer_free(peer);
}

static void a_queue_gives_back_with_each_release(void **state)
{
  (void) state;
  struct sender sender;
  start(true);
  struct ws_peer *peer = pause_one(&sender, NULL);
  assert_false(sender.done);
  assert_in_range(ws_stats().bytes_received, WINDOW / 2, WINDOW + SLACK);
  expect_messages(&inflows[0], 1, LARGE);
  join_sender(&sender);
  ws_peer_free(peer);
}

static void tls_is_held_back_and_goes_on(void **state)
{
  (void) state;
  struct sender sender;
  struct certs *certs = certs_new();
  listen_options.tls_cert_file = certs->good.cert_file;
  listen_options.tls_key_file = certs->good.key_file;
  start(false);
  struct ws_peer *peer = pause_one(&sender, certs->ca_file);
  assert_in_range(ws_stats().bytes_received, WINDOW / 2, WINDOW + SLACK);
  assert_false(sender.done);
  gives_credit = true;
  assert_int_equal(cpool_ws_credit(fixture.ws, inflows[0].conn, SIZE_MAX), CPOOL_OK);
  expect_messages(&inflows[0], 1, LARGE);
  join_sender(&sender);
  ws_peer_free(peer);
  certs_free(certs);
}

static void the_marks_of_the_queue_hold_it_back_too(void **state)
{
  (void) state;
  struct sender sender;
  cpool_queue_options marks;
  cpool_queue_options_init(&marks);
  marks.high_water_bytes = 100000;
  assert_int_equal(cpool_queue_new(&fixture.queue, &marks), CPOOL_OK);
  options.queue = fixture.queue;
  options.stream_window_bytes = LARGE * 2;
  assert_int_equal(cpool_ws_new(&fixture.ws, NULL, &options), CPOOL_OK);
  ws_listen(&listen_options);
  struct ws_peer *peer = pause_one(&sender, NULL);
  assert_in_range(ws_stats().bytes_received, 50000, 100000 + SLACK);
  expect_messages(&inflows[0], 1, LARGE);
  join_sender(&sender);
  ws_peer_free(peer);
}

static void an_end_in_mid_message_brings_no_last_piece(void **state)
{
  (void) state;
  start(false);
  struct ws_peer *peer = open_peer(NULL);
  char *bytes = pattern(50000);
  assert_true(ws_peer_send(peer, WS_BINARY, bytes, 50000));
  struct wish wish = {&inflows[0], 50000, 0};
  assert_true(wait_until(has_come, &wish, DEADLINE_MS));
  ws_peer_reset(peer);
  expect_closed(&inflows[0], CPOOL_WS_LOST, 1006);
  peer = open_peer(NULL);
  assert_true(ws_peer_send(peer, WS_BINARY, bytes, 50000));
  assert_true(ws_peer_send_close(peer, 1001, "enough"));
  expect_closed(&inflows[1], CPOOL_WS_BY_PEER, 1001);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(inflows[i].messages, 0);
    assert_int_equal(inflows[i].wrong, 0);
  }
  free(bytes);
  ws_peer_free(peer);
}

static void the_cap_is_of_the_whole_message(void **state)
{
  (void) state;
  options.max_message_bytes = 100000;
  start(false);
  struct ws_peer *peer = open_peer(NULL);
  char *bytes = pattern(100001);
  assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, bytes, 100000));
  assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, bytes, 100000));
  expect_messages(&inflows[0], 2, 200000);
  assert_true(ws_peer_send(peer, WS_BINARY, bytes, 60000));
  struct wish wish = {&inflows[0], 260000, 2};
  assert_true(wait_until(has_come, &wish, DEADLINE_MS));
  assert_true(ws_peer_send(peer, WS_FIN, bytes + 60000, 40001));
  struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1009);
  (void) ws_peer_send_close(peer, 1009, NULL);
  expect_closed(&inflows[0], CPOOL_WS_TOO_BIG, 1009);
  assert_int_equal(inflows[0].messages, 2);
  free(bytes);
  ws_peer_free(peer);
}

static void one_that_is_paused_closes_as_any(void **state)
{
  (void) state;
  struct sender sender;
  start(false);
  struct ws_peer *peer = pause_one(&sender, NULL);
  assert_int_equal(cpool_ws_remove(fixture.ws, inflows[0].conn, 1000, NULL), CPOOL_OK);
  join_sender(&sender); /* what it sends is read, and dropped */
  struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1000);
  assert_true(ws_peer_send_close(peer, 1000, NULL));
  expect_closed(&inflows[0], CPOOL_WS_BY_CALLER, 1000);
  assert_int_equal(inflows[0].messages, 0);
  assert_int_equal(ws_stats().paused_connections, 0);
  assert_int_equal(cpool_ws_credit(fixture.ws, inflows[0].conn, 1), CPOOL_ESTALE);
  ws_peer_free(peer);
}

static void a_manager_closes_with_one_that_is_paused(void **state)
{
  (void) state;
  struct sender sender;
  start(true);
  struct ws_peer *peer = pause_one(&sender, NULL);
  ws_stop(); /* its pieces are in the queue yet */
  pthread_join(sender.thread, NULL);
  expect_closed(&inflows[0], CPOOL_WS_MANAGER, 1001);
  assert_int_equal(inflows[0].messages, 0);
  assert_int_equal(inflows[0].wrong, 0);
  ws_peer_free(peer);
}

static void what_is_not_read_is_no_silence(void **state)
{
  (void) state;
  struct sender sender;
  options.health_check_interval_ms = options.connection_timeout_ms = CPOOL_OFF;
  start(false);
  struct ws_peer *peer = pause_one(&sender, NULL);
  struct ws_peer *silent = open_peer(NULL); /* younger, and goes first */
  cpool_ws_options shorter;
  cpool_ws_options_init(&shorter);
  assert_int_equal(cpool_ws_options_get(fixture.ws, &shorter), CPOOL_OK);
  shorter.health_check_interval_ms = shorter.pong_timeout_ms = 100;
  shorter.connection_timeout_ms = 1000;
  assert_int_equal(cpool_ws_reconfigure(fixture.ws, &shorter), CPOOL_OK);
  expect_closed(&inflows[1], CPOOL_WS_NO_PONG, 1006);
  assert_int_equal(inflows[0].closed, 0);
  assert_int_equal(ws_stats().paused_connections, 1);
  gives_credit = true;
  assert_int_equal(cpool_ws_credit(fixture.ws, inflows[0].conn, SIZE_MAX), CPOOL_OK);
  expect_messages(&inflows[0], 1, LARGE);
  join_sender(&sender);
  ws_peer_free(silent);
  ws_peer_free(peer);
}

static void what_came_before_the_accept_comes_after_it(void **state)
{
  (void) state;
  enum { LEN = 300000 };
  struct sender sender;
  listen_options.decide = 0;
  start(true);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  start_sender(&sender, peer, LEN);
  const cpool_event *event;
  assert_int_equal(cpool_queue_wait(fixture.queue, &event, 1, DEADLINE_MS), 1);
  assert_int_equal(event->kind, CPOOL_EVENT_WS_ACCEPT);
  assert_int_equal(cpool_ws_accept(fixture.ws, event->source, "late", NULL), CPOOL_OK);
  cpool_queue_release(fixture.queue, &event, 1);
  expect_messages(&inflows[0], 1, LEN);
  join_sender(&sender);
  ws_peer_free(peer);
}

static void misuse_is_refused(void **state)
{
  (void) state;
  cpool_ws *ws = NULL;
  options.on_event = on_piece_event;
  options.stream_messages = 0;
  assert_int_equal(cpool_ws_new(&ws, NULL, &options), CPOOL_EINVAL); /* max_message_bytes is off */
  assert_int_equal(cpool_ws_options_set(&options, "stream_messages", "on"), CPOOL_OK);
  assert_int_equal(options.stream_messages, 1);
  options.stream_window_bytes = 1;
  assert_int_equal(cpool_ws_new(&ws, NULL, &options), CPOOL_EINVAL);
  options.stream_window_bytes = 0;
  start(false);
  assert_int_equal(cpool_ws_credit(fixture.ws, 1, 0), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_credit(fixture.ws, 12345, 1), CPOOL_ESTALE);
  assert_int_equal(cpool_ws_credit(NULL, 12345, 1), CPOOL_EINVAL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(a_large_message_comes_in_order_by_callback),
      CASE(a_large_message_comes_in_order_through_a_queue),
      CASE(over_tls_by_callback),
      CASE(over_tls_through_a_queue),
      CASE(small_messages_are_one_piece),
      CASE(messages_back_to_back_stay_apart),
      CASE(text_is_checked_across_pieces),
      CASE(a_used_up_window_holds_back_that_peer_alone_until_credit),
      CASE(credit_in_parts_lets_on_at_half),
      CASE(a_queue_gives_back_with_each_release),
      CASE(tls_is_held_back_and_goes_on),
      CASE(the_marks_of_the_queue_hold_it_back_too),
      CASE(an_end_in_mid_message_brings_no_last_piece),
      CASE(the_cap_is_of_the_whole_message),
      CASE(one_that_is_paused_closes_as_any),
      CASE(a_manager_closes_with_one_that_is_paused),
      CASE(what_is_not_read_is_no_silence),
      CASE(what_came_before_the_accept_comes_after_it),
      CASE(misuse_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
