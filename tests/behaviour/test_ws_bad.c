/* ws_bad: peers that are wrong as a WebSocket: what they break ends them with its code and reason, and nobody else notices */
#include "ws_fixture.h"

#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "ws/frame.h"

enum { MESSAGE_BYTES = 65536, QUEUE_BYTES = 100000 };

#define MASK "\0\0\0\0"
#define BYTES(text) (text), sizeof(text) - 1

/* Each case is run twice: plain, and over TLS. */
static struct certs *certs;
static struct ws_peer_options how;

static int use_tls(void **state)
{
  (void) state;
  certs = certs_new();
  how.ca_file = certs->ca_file;
  return 0;
}

static int drop_tls(void **state)
{
  (void) state;
  certs_free(certs);
  certs = NULL;
  return 0;
}

static int stop(void **state)
{
  (void) state;
  if (fixture.ws != NULL)
    ws_stop();
  fixture.react = NULL;
  return 0;
}

static void start_with(int on_overflow)
{
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  options.max_message_bytes = MESSAGE_BYTES;
  options.max_send_queue_bytes = QUEUE_BYTES;
  options.on_overflow = on_overflow;
  listen.decide = CPOOL_OFF;
  if (certs != NULL) {
    listen.tls_cert_file = certs->good.cert_file;
    listen.tls_key_file = certs->good.key_file;
  }
  ws_start(&options, NULL);
  ws_listen(&listen);
}

static void start(void)
{
  start_with(CPOOL_WS_OVERFLOW_REFUSE);
}

static struct ws_peer *open_one(void)
{
  int on = 1;
  struct ws_peer *peer = ws_peer_open(fixture.port, &how);
  assert_int_equal(ws_peer_status(peer), 101);
  setsockopt(ws_peer_fd(peer), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ws_next(CPOOL_EVENT_WS_OPEN);
  return peer;
}

/* Answers the close, and waits for the final event. */
static struct seen *leave(struct ws_peer *peer)
{
  ws_peer_send_close(peer, 1000, NULL);
  shutdown(ws_peer_fd(peer),
           SHUT_WR); /* libwebsockets, where its parser has failed, would wait 5 s for an answer it can read */
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  ws_peer_free(peer);
  return closed;
}

/* What was sent is answered by a close frame of this code (WS_END: by none), and the connection ends for this reason. */
static void check_end(const char *name, struct ws_peer *peer, int code, int reason)
{
  struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
  int got = frame.first < 0 ? frame.first : ws_frame_code(&frame);
  struct seen *closed = leave(peer);
  if (got != code || closed->reason != reason || closed->close_code != (code > 0 ? code : 1006))
    fail_msg("%s: answered %d instead of %d; reason %d, code %d", name, got, code, closed->reason, closed->close_code);
}

struct row {
  const char *name, *bytes;
  size_t len;
  int code, reason;
};

static void check_rows(const struct row *rows, size_t count)
{
  start();
  for (size_t i = 0; i < count; i++) {
    struct ws_peer *peer = open_one();
    assert_true(ws_peer_send_raw(peer, rows[i].bytes, rows[i].len));
    check_end(rows[i].name, peer, rows[i].code, rows[i].reason);
  }
  cpool_ws_stats before = ws_stats();
  uint64_t protocol = 0, too_big = 0, by_peer = 0, lost = 0;
  for (size_t i = 0; i < count; i++) {
    protocol += rows[i].reason == CPOOL_WS_PROTOCOL ? 1 : 0;
    too_big += rows[i].reason == CPOOL_WS_TOO_BIG ? 1 : 0;
    by_peer += rows[i].reason == CPOOL_WS_BY_PEER ? 1 : 0;
    lost += rows[i].reason == CPOOL_WS_LOST ? 1 : 0;
  }
  assert_int_equal(before.closed_protocol, protocol);
  assert_int_equal(before.closed_too_big, too_big);
  assert_int_equal(before.closed_by_peer, by_peer);
  assert_int_equal(before.closed_lost, lost);
  assert_int_equal(before.messages_received, 0);
  assert_int_equal(ws_serves_on(&how).closed, count + 1);
}

/* ------------------------------------------------------------------------------------------------------------- frames */

static void what_breaks_the_protocol_ends_with_1002(void **state)
{
  (void) state;
  static const struct row rows[] = {
      {"reserved bit 1", BYTES("\xC1\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"reserved bit 2", BYTES("\xA1\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"reserved bit 3", BYTES("\x91\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"reserved bit of a ping", BYTES("\xC9\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"opcode 3", BYTES("\x83\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"opcode 7", BYTES("\x87\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"opcode 11", BYTES("\x8B\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"opcode 15", BYTES("\x8F\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"ping in fragments", BYTES("\x09\x80" MASK "\x80\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"pong in fragments", BYTES("\x0A\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"close in fragments", BYTES("\x08\x80" MASK), 1002, CPOOL_WS_PROTOCOL},
      {"continuation of nothing", BYTES("\x80\x81" MASK "x"), 1002, CPOOL_WS_PROTOCOL},
      {"continuation of nothing that goes on", BYTES("\x00\x81" MASK "x"), 1002, CPOOL_WS_PROTOCOL},
      {"continuation behind a message", BYTES("\x01\x80" MASK "\x00\x81" MASK "x\x81\x80" MASK), 1002,
       CPOOL_WS_PROTOCOL},
      {"text within a text", BYTES("\x01\x81" MASK "x\x81\x81" MASK "y"), 1002, CPOOL_WS_PROTOCOL},
      {"binary within a text", BYTES("\x01\x81" MASK "x\x02\x81" MASK "y"), 1002, CPOOL_WS_PROTOCOL},
      /* libwebsockets ends these without a word, and without telling us why */
      {"ping of 126 bytes", BYTES("\x89\xFE\0\x7E" MASK), WS_END, CPOOL_WS_LOST},
      {"pong of 65536 bytes", BYTES("\x8A\xFF\0\0\0\0\0\1\0\0" MASK), WS_END, CPOOL_WS_LOST},
      {"close of 126 bytes", BYTES("\x88\xFE\0\x7E" MASK), WS_END, CPOOL_WS_LOST},
      {"length above 2^63", BYTES("\x82\xFF\x80\0\0\0\0\0\0\1" MASK "x"), WS_END, CPOOL_WS_LOST},
      {"length of all bits", BYTES("\x82\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF" MASK "x"), WS_END, CPOOL_WS_LOST},
  };
  check_rows(rows, sizeof rows / sizeof *rows);
}

static void closes_that_say_nonsense_are_answered(void **state)
{
  (void) state;
  static const struct row rows[] = {
      {"one byte", BYTES("\x88\x81" MASK "\x03"), 1002, CPOOL_WS_PROTOCOL},
      {"code 5000", BYTES("\x88\x82" MASK "\x13\x88"), 1002, CPOOL_WS_PROTOCOL},
      {"code 65535", BYTES("\x88\x82" MASK "\xFF\xFF"), 1002, CPOOL_WS_PROTOCOL},
      {"no UTF-8", BYTES("\x88\x84" MASK "\x03\xE8\xFF\xFE"), 1007, CPOOL_WS_PROTOCOL},
      {"half a character", BYTES("\x88\x83" MASK "\x03\xE8\xC3"), 1007, CPOOL_WS_PROTOCOL},
      {"a surrogate", BYTES("\x88\x85" MASK "\x03\xE8\xED\xA0\x80"), 1007, CPOOL_WS_PROTOCOL},
      {"within a text", BYTES("\x01\x81" MASK "\xC3\x88\x82" MASK "\x13\x88"), 1002, CPOOL_WS_PROTOCOL},
      /* in these libwebsockets has put 1002 itself, before it tells of them: it is as if the peer had said that */
      {"code 0", BYTES("\x88\x82" MASK "\0\0"), 1002, CPOOL_WS_BY_PEER},
      {"code 999", BYTES("\x88\x82" MASK "\x03\xE7"), 1002, CPOOL_WS_BY_PEER},
      {"code 1004", BYTES("\x88\x82" MASK "\x03\xEC"), 1002, CPOOL_WS_BY_PEER},
      {"code 1005", BYTES("\x88\x82" MASK "\x03\xED"), 1002, CPOOL_WS_BY_PEER},
      {"code 1006", BYTES("\x88\x82" MASK "\x03\xEE"), 1002, CPOOL_WS_BY_PEER},
      {"code 1015", BYTES("\x88\x82" MASK "\x03\xF7"), 1002, CPOOL_WS_BY_PEER},
      {"code 1016", BYTES("\x88\x82" MASK "\x03\xF8"), 1002, CPOOL_WS_BY_PEER},
      {"code 2999", BYTES("\x88\x82" MASK "\x0B\xB7"), 1002, CPOOL_WS_BY_PEER},
      /* in these, too, though they are registered now */
      {"code 1012", BYTES("\x88\x82" MASK "\x03\xF4"), 1002, CPOOL_WS_BY_PEER},
      {"code 1014", BYTES("\x88\x82" MASK "\x03\xF6"), 1002, CPOOL_WS_BY_PEER},
  };
  check_rows(rows, sizeof rows / sizeof *rows);
}

/* By the declared length of a frame, when its first byte is there: libwebsockets tells of no frame before that. */
static void what_is_too_large_is_refused_before_it_comes(void **state)
{
  (void) state;
  static const struct row rows[] = {
      {"65537", BYTES("\x82\xFF\0\0\0\0\0\1\0\1" MASK "x"), 1009, CPOOL_WS_TOO_BIG},
      {"2^32", BYTES("\x82\xFF\0\0\0\1\0\0\0\0" MASK "x"), 1009, CPOOL_WS_TOO_BIG},
      {"2^32 + 1", BYTES("\x82\xFF\0\0\0\1\0\0\0\1" MASK "x"), 1009, CPOOL_WS_TOO_BIG},
      {"2^63 - 1", BYTES("\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF" MASK "x"), 1009, CPOOL_WS_TOO_BIG},
      {"2^63 - 1 of text", BYTES("\x81\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF" MASK "x"), 1009, CPOOL_WS_TOO_BIG},
      {"65535 behind 2", BYTES("\x02\x82" MASK "xx\x80\xFE\xFF\xFF" MASK "x"), 1009, CPOOL_WS_TOO_BIG},
      {"2^63 - 1 behind 1", BYTES("\x02\x81" MASK "x\x80\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF" MASK "x"), 1009,
       CPOOL_WS_TOO_BIG},
  };
  check_rows(rows, sizeof rows / sizeof *rows);
}

static void the_largest_message_is_taken_and_one_byte_more_is_not(void **state)
{
  (void) state;
  static char payload[MESSAGE_BYTES + 1];
  start();
  struct ws_peer *peer = open_one();
  assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, payload, MESSAGE_BYTES));
  assert_int_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->len, MESSAGE_BYTES);
  assert_true(ws_peer_send(peer, WS_BINARY, payload, MESSAGE_BYTES - 1));
  assert_true(ws_peer_send(peer, WS_FIN, payload, 1));
  assert_int_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->len, MESSAGE_BYTES);
  ws_peer_send(peer, WS_FIN | WS_BINARY, payload, MESSAGE_BYTES + 1);
  check_end("one frame", peer, 1009, CPOOL_WS_TOO_BIG);
  peer = open_one();
  for (int i = 0; i < 8; i++)
    ws_peer_send(peer, i == 0 ? WS_BINARY : 0, payload, MESSAGE_BYTES / 8);
  ws_peer_send(peer, WS_FIN, payload, MESSAGE_BYTES / 8);
  check_end("frames", peer, 1009, CPOOL_WS_TOO_BIG);
  ws_serves_on(&how);
}

/* RFC 6455 wants an end of these, libwebsockets does not look, and no callback can see it. */
static void frames_that_libwebsockets_takes_against_the_rfc(void **state)
{
  (void) state;
  static const struct {
    const char *name, *bytes;
    size_t len;
  } rows[] = {
      {"not masked (section 5.1)", BYTES("\x82\x02hi")},
      {"not masked, in fragments", BYTES("\x02\x01h\x80\x81" MASK "i")},
      {"2 bytes with a length of 16 bits (section 5.2)", BYTES("\x82\xFE\0\2" MASK "hi")},
      {"2 bytes with a length of 64 bits", BYTES("\x82\xFF\0\0\0\0\0\0\0\2" MASK "hi")},
  };
  start();
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct ws_peer *peer = open_one();
    assert_true(ws_peer_send_raw(peer, rows[i].bytes, rows[i].len));
    struct seen *seen = ws_next(CPOOL_EVENT_WS_MESSAGE);
    if (seen->len != 2 || strcmp(seen->data, "hi") != 0)
      fail_msg("%s: %zu bytes", rows[i].name, seen->len);
    assert_int_equal(leave(peer)->reason, CPOOL_WS_BY_PEER);
  }
  ws_serves_on(&how);
}

/* With a length of 16 or 64 bits that is 0, and no mask, libwebsockets skips it: what is around it does not fit together. */
static void a_skipped_frame_is_found_out(void **state)
{
  (void) state;
  static const struct row rows[] = {
      {"the first of a text", BYTES("\x01\x7E\0\0\x80\x82" MASK "\xFF\xFF"), 1002, CPOOL_WS_PROTOCOL},
      {"the first of a binary, and a pong", BYTES("\x02\x7F\0\0\0\0\0\0\0\0\x8A\x81" MASK "x\x80\x81" MASK "x"), 1002,
       CPOOL_WS_PROTOCOL},
      {"the last, before another", BYTES("\x01\x81" MASK "x\x80\x7E\0\0\x82\x81" MASK "\xFF"), 1002, CPOOL_WS_PROTOCOL},
  };
  check_rows(rows, sizeof rows / sizeof *rows);
}

/* -------------------------------------------------------------------------------------------------------------- texts */

static void send_in_fragments(struct ws_peer *peer, const char *text, size_t len, size_t cut)
{
  ws_peer_send(peer, WS_TEXT, text, cut);
  ws_peer_send(peer, WS_FIN, text + cut, len - cut);
}

static void send_in_segments(struct ws_peer *peer, const char *text, size_t len, size_t cut)
{
  char frame[64] = {(char) (WS_FIN | WS_TEXT), (char) (0x80 | len)};
  memcpy(frame + 6, text, len);
  ws_peer_send_raw(peer, frame, 6 + cut);
  ws_peer_send_raw(peer, frame + 6 + cut, len - cut);
}

static const char *const no_texts[] = {"a\x80z",
                                       "a\xC0\xAFz",
                                       "a\xC1\xBFz",
                                       "a\xE0\x9F\xBFz",
                                       "a\xED\xA0\x80z",
                                       "a\xED\xBF\xBFz",
                                       "a\xF0\x8F\xBFz",
                                       "a\xF4\x90\x80\x80z",
                                       "a\xF5\x80\x80\x80",
                                       "\xF8\x88\x80\x80\x80",
                                       "a\xFF",
                                       "a\xC3",
                                       "a\xE2\x82",
                                       "a\xF0\x9F\x98",
                                       "a\xC3\xC3\xA4",
                                       "\xE2\x82\xE2\x82\xAC"};

static void what_is_no_utf8_ends_with_1007_wherever_it_is_cut(void **state)
{
  (void) state;
  static const struct {
    const char *name;
    void (*send)(struct ws_peer *peer, const char *text, size_t len, size_t cut);
  } ways[] = {{"fragments", send_in_fragments}, {"segments", send_in_segments}};
  uint64_t count = 0;
  start();
  for (size_t i = 0; i < sizeof no_texts / sizeof *no_texts; i++)
    for (size_t way = 0; way < 2; way++)
      for (size_t cut = 0; cut <= strlen(no_texts[i]); cut++, count++) {
        char name[64];
        struct ws_peer *peer = open_one();
        snprintf(name, sizeof name, "text %zu in %s at %zu", i, ways[way].name, cut);
        ways[way].send(peer, no_texts[i], strlen(no_texts[i]), cut);
        check_end(name, peer, 1007, CPOOL_WS_PROTOCOL);
      }
  assert_int_equal(ws_stats().closed_protocol, count);
  assert_int_equal(ws_stats().messages_received, 0);
  ws_serves_on(&how);
}

/* Texts that are right come through, cut anywhere; what went wrong before is not held against what follows. */
static void what_is_utf8_is_taken_wherever_it_is_cut(void **state)
{
  (void) state;
  static const char text[] = "a\xC3\xA4\xE2\x82\xAC\xED\x9F\xBF\xF0\x9F\x98\x80\xF4\x8F\xBF\xBF";
  start();
  struct ws_peer *peer = open_one();
  for (size_t cut = 0; cut <= strlen(text); cut++) {
    send_in_fragments(peer, text, strlen(text), cut);
    send_in_segments(peer, text, strlen(text), cut);
    assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, "\xC3", 1)); /* no text */
    assert_true(ws_peer_send(peer, WS_FIN | WS_PONG, "\xC3", 1));
    assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, text);
    assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, text);
    assert_int_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->ws_kind, CPOOL_WS_BINARY);
  }
  assert_int_equal(leave(peer)->reason, CPOOL_WS_BY_PEER);
  ws_serves_on(&how);
}

/* It is refused with the first byte that makes it wrong, not at its end. */
static void a_text_is_refused_before_its_end(void **state)
{
  (void) state;
  start();
  struct ws_peer *peer = open_one();
  assert_true(ws_peer_send_raw(peer, BYTES("\x81\xFE\x40\x00" MASK "some\xFFthing")));
  check_end("the rest to come", peer, 1007, CPOOL_WS_PROTOCOL);
  peer = open_one();
  assert_true(ws_peer_send(peer, WS_TEXT, "some\xFFthing", 10));
  check_end("the last frame to come", peer, 1007, CPOOL_WS_PROTOCOL);
  ws_serves_on(&how);
}

/* ------------------------------------------------------------------------------------------------------------- floods */

/* Of the heap, in use; 0 where an allocator of a sanitizer counts for itself. */
static size_t heap_bytes(void)
{
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

static char *repeat(const char *what, size_t len, size_t count)
{
  char *all = malloc(len * count);
  assert_non_null(all);
  for (size_t i = 0; i < count; i++)
    memcpy(all + i * len, what, len);
  return all;
}

/* Each counts more than its bytes, so that those without any have an end. */
static void empty_fragments_have_an_end(void **state)
{
  (void) state;
  enum { SOME = 900, MANY = 100000 };
  char *fragments = repeat(BYTES("\x00\x80" MASK), MANY);
  start();
  struct ws_peer *peer = open_one();
  assert_true(ws_peer_send_text(peer, "before"));
  ws_next(CPOOL_EVENT_WS_MESSAGE);
  assert_true(ws_peer_send(peer, WS_BINARY, "", 0));
  assert_true(ws_peer_send_raw(peer, fragments, SOME * 6));
  assert_true(ws_peer_send(peer, WS_FIN, "end", 3));
  assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "end");

  size_t before = heap_bytes();
  assert_true(ws_peer_send(peer, WS_BINARY, "", 0));
  ws_peer_send_raw(peer, fragments, MANY * 6);
  struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1009);
  size_t after = heap_bytes();
  assert_in_range(after, 0, before + 1000000);
  struct seen *closed = leave(peer);
  assert_int_equal(closed->reason, CPOOL_WS_TOO_BIG);
  assert_int_equal(ws_stats().messages_received, 2);
  ws_serves_on(&how);
  free(fragments);
}

/* Reads pongs up to the one with this payload: how many. */
static int read_pongs(struct ws_peer *peer, const char *last)
{
  int count = 0;
  for (;;) {
    struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
    assert_int_equal(frame.first, WS_FIN | WS_PONG);
    count++;
    if (strcmp((char *) frame.payload, last) == 0)
      return count;
  }
}

/* Pings may be dropped (RFC 6455 section 5.5.3: the last one is answered), messages between them may not. */
static void pings_in_masses_are_answered_or_dropped(void **state)
{
  (void) state;
  enum { MANY = 100000 };
  char *pings = repeat(BYTES("\x89\x84" MASK "many"), MANY);
  start();
  struct ws_peer *peer = open_one();
  size_t before = heap_bytes();
  assert_true(ws_peer_send_raw(peer, pings, MANY * 10));
  assert_true(ws_peer_send_text(peer, "still here"));
  assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "still here");
  assert_in_range(heap_bytes(), 0, before + 1000000);
  while (ws_peer_read(peer, 0).first >= 0) /* some were answered */
    ;
  assert_true(ws_peer_send(peer, WS_FIN | WS_PING, "last", 4));
  assert_in_range(read_pongs(peer, "last"), 1, MANY);
  assert_int_equal(ws_stats().messages_received, 1);
  assert_int_equal(leave(peer)->reason, CPOOL_WS_BY_PEER);
  ws_serves_on(&how);
  free(pings);
}

static void pongs_in_masses_are_no_answers(void **state)
{
  (void) state;
  enum { MANY = 100000 };
  char *pongs = repeat(BYTES("\x8A\x88" MASK "\xFF\0\0\0\0\0\0\0"), MANY);
  start();
  struct ws_peer *peer = open_one();
  size_t before = heap_bytes();
  assert_true(ws_peer_send_raw(peer, pongs, MANY * 14));
  assert_true(ws_peer_send_text(peer, "still here"));
  assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "still here");
  assert_in_range(heap_bytes(), 0, before + 1000000);
  assert_int_equal(ws_stats().pongs, 0);
  assert_int_equal(leave(peer)->reason, CPOOL_WS_BY_PEER);
  ws_serves_on(&how);
  free(pongs);
}

/* Its pongs fill both sockets, and no more. */
static void a_peer_that_pings_and_never_reads_costs_nothing(void **state)
{
  (void) state;
  enum { PINGS = 1000, ROUNDS = 60, LONG = 131 };
  char ping[LONG] = {(char) (WS_FIN | WS_PING), (char) (0x80 | (LONG - 6))};
  char *pings = repeat(ping, sizeof ping, PINGS);
  start();
  struct ws_peer *peer = open_one();
  size_t before = heap_bytes();
  for (int i = 0; i < ROUNDS; i++)
    assert_true(ws_peer_send_raw(peer, pings, PINGS * sizeof ping));
  assert_true(ws_peer_send_text(peer, "still here"));
  assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "still here");
  assert_in_range(heap_bytes(), 0, before + 1000000);
  ws_peer_free(peer);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_LOST);
  ws_serves_on(&how);
  free(pings);
}

static _Atomic int echoed_count, refused_count;

static void echo(const cpool_event *event)
{
  if (event->kind != CPOOL_EVENT_WS_MESSAGE)
    return;
  int rc = cpool_ws_send(fixture.ws, event->source, event->ws_kind, event->data, event->len);
  if (rc == CPOOL_OK)
    echoed_count++;
  else if (rc == CPOOL_EAGAIN)
    refused_count++;
  else
    assert_int_equal(rc, CPOOL_ECLOSED);
}

static bool was_refused(void *ctx)
{
  (void) ctx;
  return refused_count >= 10;
}

static struct seen *next_but_messages(void)
{
  do
    assert_true(wait_until(has_next, &fixture, DEADLINE_MS));
  while (fixture.events[fixture.next++].kind == CPOOL_EVENT_WS_MESSAGE);
  return &fixture.events[fixture.next - 1];
}

static void a_peer_that_never_reads_meets_the_overflow_policy(void **state)
{
  (void) state;
  enum { BYTES_EACH = 50000, MOST = 1000 };
  static char payload[BYTES_EACH];
  fixture.react = echo;
  echoed_count = refused_count = 0;
  start_with(CPOOL_WS_OVERFLOW_CLOSE);
  struct ws_peer *peer = open_one();
  for (int i = 0; i < MOST && ws_peer_send(peer, WS_FIN | WS_BINARY, payload, BYTES_EACH); i++)
    assert_in_range(ws_stats().queued_bytes, 0, QUEUE_BYTES + 2 * BYTES_EACH);
  ws_peer_free(peer);
  struct seen *seen = next_but_messages();
  assert_int_equal(seen->kind, CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->reason, CPOOL_WS_OVERFLOW);
  assert_int_equal(seen->close_code, 1008);
  ws_serves_on(&how);
  ws_stop();

  fixture.react = echo;
  start_with(CPOOL_WS_OVERFLOW_REFUSE);
  peer = open_one();
  for (int i = 0; i < MOST && refused_count < 10; i++)
    assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, payload, BYTES_EACH));
  assert_true(wait_until(was_refused, NULL, DEADLINE_MS));
  assert_in_range(ws_stats().queued_bytes, 1, QUEUE_BYTES + 2 * BYTES_EACH);
  ws_peer_free(peer);
  ws_serves_on(&how);
}

/* ----------------------------------------------------------------------------------------------------------- nonsense */

static uint32_t dice = 18u * 2654435761u; /* libwebsockets skips some of these */

static uint32_t any(uint32_t below)
{
  dice = dice * 1664525u + 1013904223u;
  return (uint32_t) ((uint64_t) dice * below >> 32);
}

/* A frame that is right, or nearly so, `within` a message in fragments or not. Its length. */
static size_t put_frame(unsigned char *at, bool *within)
{
  static const unsigned char firsts[2][6] = {{0x81, 0x81, 0x82, 0x01, 0x02, 0x89},
                                             {0x00, 0x00, 0x80, 0x80, 0x89, 0x8A}};
  static const char *const texts[] = {"plain", "\xC3\xA4", "\xE2\x82", "\xAC", "\xF0\x9F\x98\x80", "\xFF", ""};
  unsigned char *from = at, payload[512];
  size_t len = 0;
  for (uint32_t parts = any(any(8) == 0 ? 80 : 4); parts > 0; parts--) {
    const char *text = texts[any(any(30) == 0 ? sizeof texts / sizeof *texts : 2)];
    memcpy(payload + len, text, strlen(text));
    len += strlen(text);
  }
  *at = any(40) == 0 ? (unsigned char) any(256) : any(40) == 0 ? 0x88 : firsts[*within][any(6)];
  if ((*at & 8) == 0)
    *within = (*at & WS_FIN) == 0;
  at++;
  unsigned mask_bit = any(30) == 0 ? 0 : 0x80;
  uint64_t said = any(60) == 0 ? (uint64_t) any(UINT32_MAX) << any(32) : len;
  int more = said > 65535 || any(20) == 0 ? 8 : said > 125 || any(20) == 0 ? 2 : 0;
  *at++ = (unsigned char) (mask_bit | (more == 8 ? 127 : more == 2 ? 126 : said));
  while (more > 0)
    *at++ = (unsigned char) (said >> 8 * --more);
  unsigned char mask[4] = {(unsigned char) any(256), 0, (unsigned char) any(256), 0};
  if (mask_bit == 0)
    memset(mask, 0, sizeof mask);
  else
    at = mempcpy(at, mask, sizeof mask);
  for (size_t i = 0; i < len; i++)
    *at++ = payload[i] ^ mask[i % 4];
  return (size_t) (at - from);
}

static _Atomic int strange_count;

static void check_message(const cpool_event *event)
{
  if (event->kind != CPOOL_EVENT_WS_MESSAGE)
    return;
  if ((event->ws_kind != CPOOL_WS_TEXT && event->ws_kind != CPOOL_WS_BINARY) || event->len > MESSAGE_BYTES ||
      (event->ws_kind == CPOOL_WS_TEXT && !cpool__utf8_valid(event->data, event->len)))
    strange_count++;
}

/* Whatever is said, in whatever pieces: what is delivered is a message, and each connection ends once. */
static void any_nonsense_ends_once(void **state)
{
  (void) state;
  enum { PEERS = 150, FRAMES = 12 };
  static unsigned char bytes[FRAMES * 600];
  fixture.react = check_message;
  strange_count = 0;
  start();
  for (int i = 0; i < PEERS; i++) {
    struct ws_peer *peer = open_one();
    size_t len = 0;
    bool within = false;
    for (int j = 0; j < FRAMES; j++)
      len += put_frame(bytes + len, &within);
    for (size_t at = 0, piece; at < len; at += piece) {
      piece = any(2) == 0 ? len - at : 1 + any((uint32_t) (len - at));
      if (!ws_peer_send_raw(peer, bytes + at, piece))
        break;
    }
    shutdown(ws_peer_fd(peer), SHUT_WR);
    while (ws_peer_read(peer, DEADLINE_MS).first >= 0)
      ;
    assert_int_equal(next_but_messages()->kind, CPOOL_EVENT_WS_CLOSED);
    ws_peer_free(peer);
  }
  assert_int_equal(strange_count, 0);
  cpool_ws_stats stats = ws_serves_on(&how);
  assert_in_range(stats.messages_received, PEERS, PEERS * FRAMES);
  assert_in_range(stats.closed_protocol, PEERS / 10, PEERS - 1);
}

/* --------------------------------------------------------------------------------------------------------------- ends */

static void resets_at_any_time_are_losses(void **state)
{
  (void) state;
  static const struct {
    const char *name, *bytes;
    size_t len;
  } rows[] = {{"at once", "", 0},
              {"in a frame's head", BYTES("\x82")},
              {"in its length", BYTES("\x82\xFF\0\0")},
              {"in its mask", BYTES("\x82\x85\0")},
              {"in its payload", BYTES("\x82\x85" MASK "he")},
              {"between fragments", BYTES("\x02\x85" MASK "hello")},
              {"in a ping", BYTES("\x89\x85" MASK "he")},
              {"in a close", BYTES("\x88\x82" MASK "\x03")}};
  start();
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (int with_reset = 0; with_reset < 2; with_reset++) {
      struct ws_peer *peer = open_one();
      assert_true(ws_peer_send_raw(peer, rows[i].bytes, rows[i].len));
      if (with_reset)
        ws_peer_reset(peer);
      else
        ws_peer_free(peer);
      struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
      if (closed->reason != CPOOL_WS_LOST || closed->close_code != 1006)
        fail_msg("%s: reason %d, code %d", rows[i].name, closed->reason, closed->close_code);
    }
  assert_int_equal(ws_serves_on(&how).messages_received, 1);
}

/* It has answered our close with a part of a frame, or with nothing. */
static void a_reset_in_the_close_keeps_the_callers_reason(void **state)
{
  (void) state;
  static const char *const answers[] = {"", "\x88", "\x88\x82\x01\x02", "\x82\x81\x01"};
  start();
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    struct ws_peer *peer = ws_peer_open(fixture.port, &how);
    cpool_conn conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
    assert_int_equal(cpool_ws_remove(fixture.ws, conn, 4000, "bye"), CPOOL_OK);
    struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
    assert_int_equal(ws_frame_code(&frame), 4000);
    assert_true(ws_peer_send_raw(peer, answers[i], strlen(answers[i])));
    ws_peer_reset(peer);
    struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
    assert_int_equal(closed->reason, CPOOL_WS_BY_CALLER);
    assert_int_equal(closed->close_code, 4000);
  }
  ws_serves_on(&how);
}

static void nothing_is_heard_behind_a_close(void **state)
{
  (void) state;
#define BYE "\x88\x82" MASK "\x03\xE8"
  static const struct {
    const char *bytes;
    size_t len;
    int answer;
  } rows[] = {{BYTES(BYE "\x81\x84" MASK "late\x89\x80" MASK), 1000},
              {BYTES(BYE "\x88\x82" MASK "\x03\xE9"), 1000},
              {BYTES(BYE "\xFF\xFF\xFF\xFF"), WS_END}}; /* libwebsockets drops its answer for that */
#undef BYE
  start();
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct ws_peer *peer = open_one();
    assert_true(ws_peer_send_raw(peer, rows[i].bytes, rows[i].len));
    struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
    assert_int_equal(frame.first < 0 ? frame.first : ws_frame_code(&frame), rows[i].answer);
    assert_true(frame.first < 0 || ws_peer_read(peer, DEADLINE_MS).first < 0);
    ws_peer_send_text(peer, "later still");
    ws_peer_free(peer);
    struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
    assert_int_equal(closed->reason, CPOOL_WS_BY_PEER);
    assert_int_equal(closed->close_code, 1000);
  }
  assert_int_equal(ws_serves_on(&how).messages_received, 1);
}

/* Reading goes on until its answer comes, but nothing else is heard. */
static void nothing_is_heard_behind_our_close(void **state)
{
  (void) state;
  start();
  struct ws_peer *peer = ws_peer_open(fixture.port, &how);
  cpool_conn conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 4000, NULL), CPOOL_OK);
  struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 4000);
  for (int i = 0; i < 100; i++)
    assert_true(ws_peer_send_text(peer, "late"));
  assert_true(ws_peer_send(peer, WS_FIN | WS_TEXT, "\xFF\xFF", 2));
  assert_true(ws_peer_send_close(peer, 1000, NULL));
  assert_true(ws_peer_read(peer, DEADLINE_MS).first < 0);
  ws_peer_free(peer);
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(closed->reason, CPOOL_WS_BY_CALLER);
  assert_int_equal(closed->close_code, 4000);
  assert_int_equal(ws_serves_on(&how).messages_received, 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(what_breaks_the_protocol_ends_with_1002, stop),
      cmocka_unit_test_teardown(closes_that_say_nonsense_are_answered, stop),
      cmocka_unit_test_teardown(what_is_too_large_is_refused_before_it_comes, stop),
      cmocka_unit_test_teardown(the_largest_message_is_taken_and_one_byte_more_is_not, stop),
      cmocka_unit_test_teardown(frames_that_libwebsockets_takes_against_the_rfc, stop),
      cmocka_unit_test_teardown(a_skipped_frame_is_found_out, stop),
      cmocka_unit_test_teardown(what_is_no_utf8_ends_with_1007_wherever_it_is_cut, stop),
      cmocka_unit_test_teardown(what_is_utf8_is_taken_wherever_it_is_cut, stop),
      cmocka_unit_test_teardown(a_text_is_refused_before_its_end, stop),
      cmocka_unit_test_teardown(empty_fragments_have_an_end, stop),
      cmocka_unit_test_teardown(pings_in_masses_are_answered_or_dropped, stop),
      cmocka_unit_test_teardown(pongs_in_masses_are_no_answers, stop),
      cmocka_unit_test_teardown(a_peer_that_pings_and_never_reads_costs_nothing, stop),
      cmocka_unit_test_teardown(a_peer_that_never_reads_meets_the_overflow_policy, stop),
      cmocka_unit_test_teardown(any_nonsense_ends_once, stop),
      cmocka_unit_test_teardown(resets_at_any_time_are_losses, stop),
      cmocka_unit_test_teardown(a_reset_in_the_close_keeps_the_callers_reason, stop),
      cmocka_unit_test_teardown(nothing_is_heard_behind_a_close, stop),
      cmocka_unit_test_teardown(nothing_is_heard_behind_our_close, stop),
  };
  int failed_count = cmocka_run_group_tests_name("plain", tests, NULL, NULL);
  return failed_count + cmocka_run_group_tests_name("over TLS", tests, use_tls, drop_tls);
}
