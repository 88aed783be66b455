/* ws_bad_heads: peers that are wrong before they are a WebSocket: each gets its answer or its end, and nobody else notices */
#include "ws_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "support/raw_client.h"

enum { HANDSHAKE_MS = 300, BIG = 100000 };

#define GET "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"
#define CONNECTION "Connection: Upgrade\r\n"
#define UPGRADE "Upgrade: websocket\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define RIGHT HOST CONNECTION UPGRADE VERSION KEY

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

/* Who is asked for is counted: wrong requests never come so far. */
static int asked_count, next_id;

static void accept_all(const cpool_event *event)
{
  char id[16];
  if (event->kind != CPOOL_EVENT_WS_ACCEPT)
    return;
  asked_count++;
  snprintf(id, sizeof id, "id-%d", next_id++);
  assert_int_equal(cpool_ws_accept(fixture.ws, event->source, id, NULL), CPOOL_OK);
}

static void start_with(const struct cert_pair *pair, int32_t max_handshakes, int64_t handshake_ms)
{
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  options.handshake_timeout_ms = handshake_ms;
  if (max_handshakes > 0)
    options.max_handshakes = max_handshakes;
  listen.subprotocols = "chat, superchat";
  if (pair != NULL) {
    listen.tls_cert_file = pair->cert_file;
    listen.tls_key_file = pair->key_file;
  }
  asked_count = 0;
  fixture.react = accept_all;
  ws_start(&options, NULL);
  ws_listen(&listen);
}

static int status_of(const char *head)
{
  struct ws_peer_options how = {.head = head};
  struct ws_peer *peer = ws_peer_open(fixture.port, &how);
  int status = ws_peer_status(peer);
  ws_peer_free(peer);
  return status;
}

/* What comes back before the end. The caller's. */
static char *answer_to(const void *bytes, size_t len)
{
  int fd = raw_connect(NULL, fixture.port, DEADLINE_MS);
  char *text = NULL;
  size_t got = 0;
  assert_true(fd >= 0);
  for (size_t at = 0; at < len;) {
    ssize_t put = send(fd, (const char *) bytes + at, len - at, MSG_NOSIGNAL);
    if (put <= 0 && !(put < 0 && wait_fd(fd, POLLOUT, 0) == 0 && wait_fd(fd, POLLOUT, DEADLINE_MS) == POLLOUT))
      break; /* it has ended */
    at += put > 0 ? (size_t) put : 0;
  }
  assert_true(raw_read(fd, 0, DEADLINE_MS, &text, &got) != RAW_OPEN);
  close(fd);
  return text;
}

/* RFC 6455 section 4.2.1, and what is no upgrade at all. Where libwebsockets answers before anybody is asked, it is with 403. */
static void wrong_requests_are_refused(void **state)
{
  (void) state;
  static const struct {
    const char *head;
    int status; /* 0: the connection ends without an answer */
  } cases[] = {
      {GET RIGHT "\r\n", 101},
      {GET HOST "Connection: keep-alive, Upgrade\r\n" UPGRADE VERSION KEY "\r\n", 101},
      {GET HOST "Connection: keep-alive\r\n" CONNECTION UPGRADE VERSION KEY "\r\n", 101},
      {GET HOST "connection: UPGRADE\r\nupgrade: WebSocket\r\n" VERSION KEY "\r\n", 101},
      {GET RIGHT "Sec-WebSocket-Protocol: nobody\r\nSec-WebSocket-Protocol: superchat\r\n\r\n", 101},
      {GET RIGHT "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n", 101},
      {"get / HTTP/1.1\r\n" RIGHT "\r\n", 101}, /* libwebsockets knows no case of methods */

      {GET HOST "\r\n", 426},
      {GET HOST CONNECTION VERSION KEY "\r\n", 426},
      {GET HOST CONNECTION "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n", 426},
      {GET HOST CONNECTION "Upgrade: something\r\n" VERSION KEY "\r\n", 403},
      {GET HOST UPGRADE VERSION KEY "\r\n", 400},
      {GET HOST "Connection: close\r\n" UPGRADE VERSION KEY "\r\n", 400},
      {GET HOST "Connection: upgraded\r\n" UPGRADE VERSION KEY "\r\n", 400},
      {GET CONNECTION UPGRADE VERSION KEY "\r\n", 400},
      {GET "Host:\r\n" CONNECTION UPGRADE VERSION KEY "\r\n", 400},
      {GET HOST RIGHT "\r\n", 400},

      {GET HOST CONNECTION UPGRADE KEY "\r\n", 426},
      {GET HOST CONNECTION UPGRADE "Sec-WebSocket-Version: 8\r\n" KEY "\r\n", 426},
      {GET HOST CONNECTION UPGRADE "Sec-WebSocket-Version: 12\r\n" KEY "\r\n", 426},
      {GET HOST CONNECTION UPGRADE "Sec-WebSocket-Version: 013\r\n" KEY "\r\n", 426},
      {GET HOST CONNECTION UPGRADE "Sec-WebSocket-Version: 13, 8\r\n" KEY "\r\n", 426},
      {GET RIGHT VERSION "\r\n", 426},

      {GET HOST CONNECTION UPGRADE VERSION "\r\n", 400},
      {GET HOST CONNECTION UPGRADE VERSION "Sec-WebSocket-Key:\r\n\r\n", 400},
      {GET HOST CONNECTION UPGRADE VERSION "Sec-WebSocket-Key: abc\r\n\r\n", 400},
      {GET HOST CONNECTION UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n\r\n", 400},
      {GET HOST CONNECTION UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQdd\r\n\r\n", 400},
      {GET RIGHT KEY "\r\n", 400},
      {GET RIGHT "Sec-WebSocket-Protocol: nobody\r\n\r\n", 400},
      {GET RIGHT "Sec-WebSocket-Protocol: ,;\"x\r\n\r\n", 400},

      {"POST / HTTP/1.1\r\n" RIGHT "\r\n", 400},
      {"HEAD / HTTP/1.1\r\n" RIGHT "\r\n", 400},
      {"OPTIONS / HTTP/1.1\r\n" RIGHT "\r\n", 400},
      {"CONNECT a:1 HTTP/1.1\r\n" RIGHT "\r\n", 0},
      {"NOTHING / HTTP/1.1\r\n" RIGHT "\r\n", 403},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 403},
      {"GET / HTTP/1.0\r\n" RIGHT "\r\n", 400},
      {"GET / HTTP/2.0\r\n" RIGHT "\r\n", 400},
      {"GET /\r\n\r\n", 426},
      {"GET /%zz HTTP/1.1\r\n" RIGHT "\r\n", 403},
      {GET GET RIGHT "\r\n", 0},
      {GET RIGHT "X-Folded: a\r\n b\r\n\r\n", 0}, /* until the deadline: to libwebsockets the head has no end */
      {GET HOST, 0},
      {"", 0},
  };
  int upgraded_count = 0, count = sizeof cases / sizeof *cases;
  start_with(NULL, 0, HANDSHAKE_MS);
  for (int i = 0; i < count; i++) {
    int status = status_of(cases[i].head);
    if (status != cases[i].status)
      fail_msg("case %d: %d instead of %d", i, status, cases[i].status);
    upgraded_count += status == 101 ? 1 : 0;
  }
  cpool_ws_stats stats = ws_serves_on(NULL);
  assert_int_equal(asked_count, upgraded_count + 1);
  assert_int_equal(stats.closed_lost, upgraded_count + 1);
  assert_int_equal(stats.closed_handshake, count - upgraded_count);
}

static void a_wrong_version_is_told_the_right_one(void **state)
{
  (void) state;
  start_with(NULL, 0, HANDSHAKE_MS);
  char *answer = answer_to(GET HOST CONNECTION UPGRADE "Sec-WebSocket-Version: 12\r\n" KEY "\r\n",
                           strlen(GET HOST CONNECTION UPGRADE "Sec-WebSocket-Version: 12\r\n" KEY "\r\n"));
  assert_non_null(strstr(answer, "HTTP/1.1 426 "));
  assert_non_null(strstr(answer, "\r\nUpgrade: websocket\r\n"));
  assert_non_null(strstr(answer, "\r\nSec-WebSocket-Version: 13\r\n"));
  free(answer);
  assert_int_equal(ws_serves_on(NULL).closed_handshake, 1);
}

/* Each ends before the deadline, without having been asked for. */
static void junk_is_no_request(void **state)
{
  (void) state;
  static const unsigned char tls_hello[] = {0x16, 3, 1, 0, 0xF4, 1, 0, 0, 0xF0, 3, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  static const int fillers[] = {'\0', '\n', '\r', ' ', 'A', 0xFF, -1};
  unsigned char *junk = malloc(BIG);
  assert_non_null(junk);
  start_with(NULL, 0, DEADLINE_MS);
  char *answer = answer_to(tls_hello, sizeof tls_hello);
  assert_int_equal(strncmp(answer, "HTTP/1.0 403 ", 13), 0);
  free(answer);
  for (size_t i = 0; i < sizeof fillers / sizeof *fillers; i++) {
    uint32_t seed = 4711;
    for (size_t j = 0; j < BIG; j++)
      junk[j] = (unsigned char) (fillers[i] >= 0 ? fillers[i] : (int) ((seed = seed * 1664525u + 1013904223u) >> 24));
    answer = answer_to(junk, BIG); /* what it says can be lost: the rest of the junk resets the connection */
    assert_null(strstr(answer, " 101 "));
    free(answer);
  }
  free(junk);
  assert_int_equal(ws_serves_on(NULL).closed_handshake, 1 + sizeof fillers / sizeof *fillers);
  assert_int_equal(asked_count, 1);
}

static char *repeat(const char *before, const char *what, int count, const char *behind)
{
  char *text = malloc(strlen(before) + strlen(what) * (size_t) count + strlen(behind) + 1);
  assert_non_null(text);
  char *at = stpcpy(text, before);
  for (int i = 0; i < count; i++)
    at = stpcpy(at, what);
  strcpy(at, behind);
  return text;
}

/* 8 KiB of head are kept, and 100 headers. */
static void heads_that_are_too_large_end_without_an_answer(void **state)
{
  (void) state;
  static const struct {
    const char *before, *what;
    int count;
    const char *behind;
    int status;
  } cases[] = {{GET RIGHT "X-Long: ", "a", 7000, "\r\n\r\n", 101},
               {GET RIGHT "X-Long: ", "a", BIG, "\r\n\r\n", 0},
               {GET RIGHT "Cookie: ", "a", BIG, "\r\n\r\n", 0},
               {"GET /", "a", BIG, " HTTP/1.1\r\n" RIGHT "\r\n", 0},
               {"GET /?", "&", BIG, " HTTP/1.1\r\n" RIGHT "\r\n", 0},
               {GET RIGHT, "Y: a\r\n", 10000, "\r\n", 0},
               {GET RIGHT, "Cookie: a\r\n", 50, "\r\n", 101},
               {GET RIGHT, "Cookie: a\r\n", 10000, "\r\n", 0},
               {GET, "Y", BIG, "", 0}};
  int upgraded_count = 0, count = sizeof cases / sizeof *cases;
  start_with(NULL, 0, DEADLINE_MS);
  for (int i = 0; i < count; i++) {
    char *head = repeat(cases[i].before, cases[i].what, cases[i].count, cases[i].behind);
    int status = status_of(head);
    if (status != cases[i].status)
      fail_msg("case %d: %d instead of %d", i, status, cases[i].status);
    upgraded_count += status == 101 ? 1 : 0;
    free(head);
  }
  assert_int_equal(ws_serves_on(NULL).closed_handshake, count - upgraded_count);
}

static void a_head_that_drips_ends_at_the_deadline(void **state)
{
  (void) state;
  static const char head[] = GET RIGHT "\r\n";
  start_with(NULL, 0, HANDSHAKE_MS);
  int fd = raw_connect(NULL, fixture.port, DEADLINE_MS);
  int64_t from_ms = now_ms();
  size_t at = 0;
  while (at < sizeof head - 1 && wait_fd(fd, POLLIN, 10) == 0 && send(fd, head + at, 1, MSG_NOSIGNAL) == 1)
    at++;
  assert_in_range(now_ms() - from_ms, HANDSHAKE_MS - 50, 1200); /* all of it would take more */
  assert_in_range(at, 10, sizeof head - 2);
  close(fd);
  assert_int_equal(ws_serves_on(NULL).closed_handshake, 1);
}

static void what_comes_with_the_request_is_heard(void **state)
{
  (void) state;
  enum { LONG = 50000 };
  static const char texts[] =
      GET RIGHT "\r\n"
                "\x81\x83\0\0\0\0one\x81\x83\0\0\0\0two\x89\x80\0\0\0\0\x82\xFE\xC3\x50\0\0\0\0";
  char *all = calloc(1, sizeof texts - 1 + LONG);
  assert_non_null(all);
  memcpy(all, texts, sizeof texts - 1);
  for (int with_queue = 0; with_queue < 2; with_queue++) {
    cpool_ws_options options;
    cpool_ws_options_init(&options);
    if (with_queue)
      assert_int_equal(cpool_queue_new(&options.queue, NULL), CPOOL_OK);
    fixture.react = accept_all;
    ws_start(&options, NULL);
    ws_listen(NULL);
    int fd = raw_connect(NULL, fixture.port, DEADLINE_MS);
    assert_int_equal(send(fd, all, sizeof texts - 1 + LONG, MSG_NOSIGNAL), sizeof texts - 1 + LONG);
    ws_next(CPOOL_EVENT_WS_ACCEPT);
    ws_next(CPOOL_EVENT_WS_OPEN);
    assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "one");
    assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "two");
    assert_int_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->len, LONG);
    close(fd);
    assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_LOST);
    ws_serves_on(NULL);
    stop(NULL);
  }
  free(all);
}

/* With a queue a client is upgraded first, and nothing of it is looked at before it is accepted. */
static void what_is_wrong_before_the_decision_ends_it_after(void **state)
{
  (void) state;
  static const struct {
    const char *bytes;
    size_t len;
    int reason, code;
  } rows[] = {
#define ROW(text) GET RIGHT "\r\n" text, sizeof(GET RIGHT "\r\n" text) - 1
      {ROW("\x81\x81\0\0\0\0\xFF"), CPOOL_WS_PROTOCOL, 1007},
      {ROW("\xC1\x80\0\0\0\0"), CPOOL_WS_PROTOCOL, 1002},
      {ROW("\x82\xFF\0\0\0\0\xFF\0\0\0\0\0\0\0x"), CPOOL_WS_TOO_BIG, 1009},
      {ROW("\x88\x82\0\0\0\0\x03\xE9"), CPOOL_WS_BY_PEER, 1001},
#undef ROW
  };
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  assert_int_equal(cpool_queue_new(&options.queue, NULL), CPOOL_OK);
  ws_start(&options, NULL);
  ws_listen(NULL);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    int fd = raw_connect(NULL, fixture.port, DEADLINE_MS);
    assert_int_equal(send(fd, rows[i].bytes, rows[i].len, MSG_NOSIGNAL), rows[i].len);
    cpool_conn conn = ws_next(CPOOL_EVENT_WS_ACCEPT)->conn;
    shutdown(fd, SHUT_WR);
    assert_int_equal(cpool_ws_accept(fixture.ws, conn, "id", NULL), CPOOL_OK);
    assert_int_equal(ws_next(CPOOL_EVENT_WS_OPEN)->conn, conn);
    struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
    if (closed->reason != rows[i].reason || closed->close_code != rows[i].code)
      fail_msg("case %zu: reason %d, code %d", i, closed->reason, closed->close_code);
    close(fd);
  }
  fixture.react = accept_all;
  ws_serves_on(NULL);
}

/* The second is not looked at: a proxy in front could have taken it for a part of the first. */
static void what_comes_behind_a_refused_request_is_no_request(void **state)
{
  (void) state;
  static const char two[] = "POST / HTTP/1.1\r\n" RIGHT "Content-Length: 0\r\n\r\n" GET RIGHT "\r\n";
  start_with(NULL, 0, HANDSHAKE_MS);
  char *answer = answer_to(two, sizeof two - 1);
  assert_int_equal(strncmp(answer, "HTTP/1.1 400 ", 13), 0);
  assert_null(strstr(answer + 1, "HTTP/"));
  free(answer);
  ws_serves_on(NULL);
  assert_int_equal(asked_count, 1);
}

static uint32_t dice = 20240229;

static size_t any(size_t below)
{
  dice = dice * 1664525u + 1013904223u;
  return (size_t) ((uint64_t) dice * below >> 32);
}

/* A right head in which up to three places were changed. Its length. */
static size_t put_head(char *head)
{
  static const char right[] =
      "GET /a/../b?x=1&y=%41 HTTP/1.1\r\n" RIGHT "Origin: https://a.example\r\nCookie: a=b; c=d\r\n"
      "Sec-WebSocket-Protocol: chat, soap\r\nX-Own: 1\r\n\r\n";
  size_t len = sizeof right - 1;
  memcpy(head, right, len);
  for (size_t changes = any(4); changes > 0; changes--) {
    size_t at = any(len - 40), span = 1 + any(30);
    switch (any(4)) {
    case 0: /* another byte */
      head[at] = (char) any(256);
      break;
    case 1: /* a piece is missing */
      memmove(head + at, head + at + span, len - at - span);
      len -= span;
      break;
    case 2: /* or there twice */
      memmove(head + at + span, head + at, len - at);
      len += span;
      break;
    default: /* junk between */
      memmove(head + at + span, head + at, len - at);
      for (size_t i = 0; i < span; i++)
        head[at + i] = "\r\n :,;/%?&=\0"[any(12)];
      len += span;
    }
  }
  return len;
}

static void any_head_is_let_in_or_ends(void **state)
{
  (void) state;
  enum { HEADS = 500 };
  int upgraded_count = 0;
  char head[1024], *answer;
  start_with(NULL, 0, DEADLINE_MS);
  for (int i = 0; i < HEADS; i++) {
    size_t len = put_head(head), first = any(len), got;
    int fd = raw_connect(NULL, fixture.port, DEADLINE_MS);
    if (send(fd, head, first, MSG_NOSIGNAL) == (ssize_t) first)
      (void) send(fd, head + first, len - first, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    assert_true(raw_read(fd, 0, DEADLINE_MS, &answer, &got) != RAW_OPEN);
    if (strncmp(answer, "HTTP/1.1 101 ", 13) == 0)
      upgraded_count++;
    else if (got != 0 && strncmp(answer, "HTTP/1.1 4", 10) != 0 && strncmp(answer, "HTTP/1.0 4", 10) != 0)
      fail_msg("head %d: %s", i, answer);
    free(answer);
    close(fd);
  }
  assert_in_range(upgraded_count, HEADS / 5, HEADS * 4 / 5);
  cpool_ws_stats stats = ws_serves_on(NULL);
  assert_in_range(asked_count, upgraded_count + 1, HEADS);
  assert_in_range(stats.closed - stats.closed_handshake, upgraded_count, asked_count); /* junk may follow the head */
}

static void resets_before_the_upgrade_leave_nothing(void **state)
{
  (void) state;
  static const char head[] = GET RIGHT "\r\n";
  static const size_t lengths[] = {0, 1, 30, sizeof head - 2, sizeof head - 1};
  enum { ROUNDS = 20, COUNT = sizeof lengths / sizeof *lengths };
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  start_with(NULL, 0, DEADLINE_MS);
  for (int i = 0; i < ROUNDS * COUNT; i++) {
    int fd = raw_connect(NULL, fixture.port, DEADLINE_MS);
    size_t len = lengths[i % COUNT];
    assert_int_equal(send(fd, head, len, MSG_NOSIGNAL), len);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
  }
  cpool_ws_stats stats = ws_serves_on(NULL);
  assert_int_equal(stats.closed, stats.closed_handshake + stats.closed_lost);
  assert_in_range(stats.closed_handshake, ROUNDS * (COUNT - 1), ROUNDS * COUNT);
}

/* They have a place each until the deadline; who comes later waits in the backlog, and gets in. */
static void a_thousand_silent_clients_keep_nobody_out(void **state)
{
  (void) state;
  enum { SILENT = 1000, PLACES = 250 };
  static int fds[SILENT];
  start_with(NULL, PLACES, HANDSHAKE_MS);
  for (int i = 0; i < SILENT; i++) {
    fds[i] = raw_connect(NULL, fixture.port, DEADLINE_MS);
    assert_true(fds[i] >= 0);
  }
  assert_in_range(ws_stats().handshaking_connections, 0, PLACES);
  cpool_ws_stats stats = ws_serves_on(NULL);
  assert_int_equal(stats.closed_handshake, SILENT);
  for (int i = 0; i < SILENT; i++) {
    char byte;
    assert_int_equal(wait_fd(fds[i], POLLIN, DEADLINE_MS) & POLLIN, POLLIN);
    assert_int_equal(recv(fds[i], &byte, 1, 0), 0);
    close(fds[i]);
  }
}

/* ---------------------------------------------------------------------------------------------------------------- TLS */

/* A blocking TLS client of these versions that trusts everybody. NULL: no handshake. Frees the context at once. */
static SSL *tls_open(int fd, int min_version, int max_version)
{
  struct timeval most = {.tv_sec = DEADLINE_MS / 1000};
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  assert_int_equal(SSL_CTX_set_min_proto_version(context, min_version), 1);
  assert_int_equal(SSL_CTX_set_max_proto_version(context, max_version), 1);
  assert_int_equal(SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0"), 1);
  SSL *tls = SSL_new(context);
  SSL_CTX_free(context);
  assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
  SSL_set_fd(tls, fd);
  if (SSL_connect(tls) == 1)
    return tls;
  SSL_free(tls);
  return NULL;
}

static void tls_that_fails_ends_the_handshake(void **state)
{
  (void) state;
  static const unsigned char half_hello[] = {0x16, 3, 1, 0, 0xF4, 1, 0, 0, 0xF0, 3, 3};
  struct certs *certs = certs_new();
  struct ws_peer_options good = {.ca_file = certs->ca_file}, doubtful = {.ca_file = certs->other_ca_file};
  start_with(&certs->good, 0, HANDSHAKE_MS);

  char *answer = answer_to(GET RIGHT "\r\n", strlen(GET RIGHT "\r\n")); /* no TLS */
  assert_null(strstr(answer, "HTTP/"));
  free(answer);
  answer = answer_to(half_hello, sizeof half_hello); /* until the deadline */
  assert_string_equal(answer, "");
  free(answer);
  struct ws_peer *peer = ws_peer_open(fixture.port, &doubtful); /* ends it by an alert */
  assert_int_equal(ws_peer_status(peer), 0);
  ws_peer_free(peer);
  int fd = raw_connect(NULL, fixture.port, DEADLINE_MS);
  assert_null(tls_open(fd, TLS1_VERSION, TLS1_VERSION));
  close(fd);

  assert_int_equal(ws_serves_on(&good).closed_handshake, 4);
  assert_int_equal(asked_count, 1);
  certs_free(certs);
}

static void garbage_inside_of_tls_ends_its_connection(void **state)
{
  (void) state;
  static const char garbage[] = "\x17\x03\x03\x00\x20 this was not encrypted by us.....";
  struct certs *certs = certs_new();
  struct ws_peer_options good = {.ca_file = certs->ca_file}, junk = {.ca_file = certs->ca_file, .head = "\x01\x02\x03"};
  start_with(&certs->good, 0, HANDSHAKE_MS);
  struct ws_peer *peer = ws_peer_open(fixture.port, &junk); /* encrypted as it should be */
  assert_int_equal(ws_peer_status(peer), 403);
  ws_peer_free(peer);
  peer = ws_peer_open(fixture.port, &good);
  assert_int_equal(ws_peer_status(peer), 101);
  assert_int_equal(send(ws_peer_fd(peer), garbage, sizeof garbage - 1, MSG_NOSIGNAL), sizeof garbage - 1);
  assert_true(ws_peer_read(peer, DEADLINE_MS).first < 0);
  ws_peer_free(peer);
  cpool_ws_stats stats = ws_serves_on(&good);
  assert_int_equal(stats.closed_handshake, 1);
  assert_int_equal(stats.closed_lost, 2);
  certs_free(certs);
}

/* OpenSSL refuses it: nobody makes the server work by asking for one after another. */
static void tls_is_not_negotiated_again(void **state)
{
  (void) state;
  struct certs *certs = certs_new();
  struct ws_peer_options good = {.ca_file = certs->ca_file};
  start_with(&certs->good, 0, HANDSHAKE_MS);
  int fd = raw_connect(NULL, fixture.port, DEADLINE_MS);
  SSL *tls = tls_open(fd, TLS1_2_VERSION, TLS1_2_VERSION);
  assert_non_null(tls);
  assert_int_equal(SSL_renegotiate(tls), 1);
  assert_int_equal(SSL_do_handshake(tls), -1);
  SSL_free(tls);
  close(fd);
  assert_int_equal(ws_serves_on(&good).closed_handshake, 1);
  certs_free(certs);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(wrong_requests_are_refused, stop),
      cmocka_unit_test_teardown(a_wrong_version_is_told_the_right_one, stop),
      cmocka_unit_test_teardown(junk_is_no_request, stop),
      cmocka_unit_test_teardown(heads_that_are_too_large_end_without_an_answer, stop),
      cmocka_unit_test_teardown(a_head_that_drips_ends_at_the_deadline, stop),
      cmocka_unit_test_teardown(what_comes_with_the_request_is_heard, stop),
      cmocka_unit_test_teardown(what_is_wrong_before_the_decision_ends_it_after, stop),
      cmocka_unit_test_teardown(what_comes_behind_a_refused_request_is_no_request, stop),
      cmocka_unit_test_teardown(any_head_is_let_in_or_ends, stop),
      cmocka_unit_test_teardown(resets_before_the_upgrade_leave_nothing, stop),
      cmocka_unit_test_teardown(a_thousand_silent_clients_keep_nobody_out, stop),
      cmocka_unit_test_teardown(tls_that_fails_ends_the_handshake, stop),
      cmocka_unit_test_teardown(garbage_inside_of_tls_ends_its_connection, stop),
      cmocka_unit_test_teardown(tls_is_not_negotiated_again, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
