/* ws_accept: who is let in, under which name, and what those hear who are not */
#include "ws_fixture.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

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

static struct ws_peer *open_with(const char *path, const char *headers)
{
  struct ws_peer_options how = {.path = path, .headers = headers};
  return ws_peer_open(fixture.port, &how);
}

/* Accepts under the path without its slash; refuses "/no" with 429 and "/quiet" not at all. */
static void by_path(const cpool_event *event)
{
  cpool_ws_upgrade upgrade;
  if (event->kind != CPOOL_EVENT_WS_ACCEPT)
    return;
  cpool_ws_upgrade_init(&upgrade);
  assert_int_equal(cpool_event_upgrade_get(event, &upgrade), CPOOL_OK);
  if (strcmp(upgrade.path, "/no") == 0)
    assert_int_equal(cpool_ws_refuse(fixture.ws, event->source, 429), CPOOL_OK);
  else if (strcmp(upgrade.path, "/quiet") != 0)
    (void) cpool_ws_accept(fixture.ws, event->source, upgrade.path + 1, &fixture);
}

static void the_callback_names_and_refuses(void **state)
{
  (void) state;
  fixture.react = by_path;
  ws_start_simple(0);
  struct ws_peer *peer = open_with("/anna", NULL), *other = open_with("/no", NULL), *third = open_with("/quiet", NULL);
  assert_int_equal(ws_peer_status(peer), 101);
  assert_int_equal(ws_peer_status(other), 429);
  assert_int_equal(ws_peer_status(third), 403);
  assert_string_equal(ws_next(CPOOL_EVENT_WS_ACCEPT)->id, "");
  struct seen *open = ws_next(CPOOL_EVENT_WS_OPEN);
  assert_string_equal(open->id, "anna");
  assert_ptr_equal(open->user, &fixture);
  cpool_conn conn = 0;
  assert_int_equal(cpool_ws_find(fixture.ws, "anna", &conn), CPOOL_OK);
  assert_int_equal(conn, open->conn);
  assert_int_equal(cpool_ws_find(fixture.ws, "no", &conn), CPOOL_ENOTFOUND);
  ws_peer_free(other);
  ws_peer_free(third);
  ws_peer_free(peer);
  ws_next(CPOOL_EVENT_WS_ACCEPT);
  ws_next(CPOOL_EVENT_WS_ACCEPT);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_LOST);
  assert_int_equal(ws_stats().closed_refused, 2);
}

static void look_at_the_request(const cpool_event *event)
{
  cpool_ws_upgrade upgrade;
  if (event->kind != CPOOL_EVENT_WS_ACCEPT)
    return;
  cpool_ws_upgrade_init(&upgrade);
  assert_int_equal(cpool_event_upgrade_get(event, &upgrade), CPOOL_OK);
  assert_string_equal(upgrade.path, "/a/b");
  assert_string_equal(upgrade.query, "x=1&y=2");
  assert_string_equal(upgrade.origin, "https://example.com");
  assert_string_equal(upgrade.subprotocols, "soap, chat");
  assert_int_equal(strncmp(upgrade.host, "localhost:", 10), 0);
  assert_int_equal(strncmp(upgrade.remote_address, "127.0.0.1:", 10), 0);
  assert_string_equal(cpool_event_upgrade_header(event, "X-User"), "anna");
  assert_string_equal(cpool_event_upgrade_header(event, "cookie"), "a=b; c=d");
  assert_string_equal(cpool_event_upgrade_header(event, "Authorization"), "Bearer xyz");
  assert_null(cpool_event_upgrade_header(event, "x-other"));
  assert_int_equal(cpool_ws_accept(fixture.ws, event->source, "one", NULL), CPOOL_OK);
  assert_int_equal(cpool_ws_accept(fixture.ws, event->source, "two", NULL), CPOOL_ESTALE);
}

static void the_request_can_be_read(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  listen.headers = "X-User, x-other";
  listen.subprotocols = "chat, superchat";
  fixture.react = look_at_the_request;
  ws_start(&options, NULL);
  ws_listen(&listen);
  struct ws_peer *peer =
      open_with("/a/b?x=1&y=2", "Origin: https://example.com\r\nX-User: anna\r\nCookie: a=b; c=d\r\n"
                                "Authorization: Bearer xyz\r\nSec-WebSocket-Protocol: soap, chat\r\n");
  assert_int_equal(ws_peer_status(peer), 101);
  assert_non_null(strcasestr(ws_peer_head(peer), "Sec-WebSocket-Protocol: chat\r\n"));
  ws_next(CPOOL_EVENT_WS_ACCEPT);
  ws_next(CPOOL_EVENT_WS_OPEN);
  ws_peer_free(peer);
}

static void with_a_queue_nothing_comes_before_the_accept(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  assert_int_equal(cpool_queue_new(&options.queue, NULL), CPOOL_OK);
  ws_start(&options, NULL);
  ws_listen(NULL);
  struct ws_peer *peer = open_with("/", NULL), *other = open_with("/", NULL);
  assert_int_equal(ws_peer_status(peer), 101);
  assert_true(ws_peer_send_text(peer, "early"));
  assert_true(ws_peer_send_text(peer, "bird"));
  cpool_conn first = ws_next(CPOOL_EVENT_WS_ACCEPT)->conn, second = ws_next(CPOOL_EVENT_WS_ACCEPT)->conn;
  assert_int_equal(cpool_ws_send(fixture.ws, first, CPOOL_WS_TEXT, "x", 1), CPOOL_EAGAIN);
  assert_int_equal(cpool_ws_accept(fixture.ws, first, "first", NULL), CPOOL_OK);
  assert_string_equal(ws_next(CPOOL_EVENT_WS_OPEN)->id, "first");
  assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "early");
  assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "bird");
  assert_int_equal(cpool_ws_refuse(fixture.ws, second, 0), CPOOL_OK);
  struct ws_frame frame = ws_peer_read(other, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1008);
  ws_peer_free(other);
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(closed->conn, second);
  assert_int_equal(closed->reason, CPOOL_WS_REFUSED);
  ws_peer_free(peer);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->conn, first);
}

static void who_is_not_decided_in_time_is_refused(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.handshake_timeout_ms = 300;
  assert_int_equal(cpool_queue_new(&options.queue, NULL), CPOOL_OK);
  ws_start(&options, NULL);
  ws_listen(NULL);
  struct ws_peer *peer = open_with("/", NULL);
  cpool_conn conn = ws_next(CPOOL_EVENT_WS_ACCEPT)->conn;
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1008);
  ws_peer_free(peer);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_REFUSED);
  assert_int_equal(cpool_ws_accept(fixture.ws, conn, "late", NULL), CPOOL_ESTALE);
}

static void an_id_that_is_taken_stays_or_moves(void **state)
{
  (void) state;
  fixture.react = by_path;
  ws_start_simple(0);
  struct ws_peer *peer = open_with("/x", NULL), *other = open_with("/x", NULL);
  assert_int_equal(ws_peer_status(peer), 101);
  assert_int_equal(ws_peer_status(other), 403); /* the callback took no other id */
  ws_peer_free(other);
  ws_peer_free(peer);
  ws_stop();

  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.on_duplicate = CPOOL_WS_REPLACE;
  options.close_timeout_ms = 200;
  fixture.react = by_path;
  ws_start(&options, NULL);
  ws_listen(NULL);
  peer = open_with("/x", NULL); /* never answers the close frame */
  ws_next(CPOOL_EVENT_WS_ACCEPT);
  cpool_conn old = ws_next(CPOOL_EVENT_WS_OPEN)->conn, now = 0;
  other = open_with("/x", NULL);
  assert_int_equal(ws_peer_status(other), 101);
  ws_next(CPOOL_EVENT_WS_ACCEPT);
  cpool_conn fresh = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  assert_int_equal(cpool_ws_find(fixture.ws, "x", &now), CPOOL_OK);
  assert_int_equal(now, fresh);
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 4001);
  struct seen *closed = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(closed->conn, old);
  assert_int_equal(closed->reason, CPOOL_WS_REPLACED);
  assert_string_equal(closed->id, "x");
  ws_peer_free(peer);
  ws_peer_free(other);
}

static void a_full_registry_refuses_before_the_upgrade(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  options.max_connections = 2;
  listen.decide = CPOOL_OFF;
  ws_start(&options, NULL);
  ws_listen(&listen);
  struct ws_peer *one = open_with("/", NULL), *two = open_with("/", NULL), *three = open_with("/", NULL);
  assert_int_equal(ws_peer_status(two), 101);
  assert_int_equal(ws_peer_status(three), 503);
  assert_non_null(strcasestr(ws_peer_head(three), "Retry-After:"));
  ws_peer_free(three);
  cpool_conn gone = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  ws_next(CPOOL_EVENT_WS_OPEN);
  ws_peer_free(one);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->conn, gone);
  one = open_with("/", NULL);
  assert_int_equal(ws_peer_status(one), 101);
  ws_peer_free(one);
  ws_peer_free(two);
  assert_int_equal(ws_stats().refused_full, 1);
}

static bool filtered(void *ctx)
{
  (void) ctx;
  cpool_ws_stats stats = ws_stats();
  return stats.refused_origin == 2 && stats.refused_path == 1;
}

static void filters_of_the_listener(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  listen.decide = CPOOL_OFF;
  listen.path = "/chat";
  listen.origins = "https://a.example, null";
  ws_start(&options, NULL);
  ws_listen(&listen);
  static const struct {
    const char *path, *headers;
    int status;
  } cases[] = {{"/chat", NULL, 101},
               {"/chat?x=1", NULL, 101},
               {"/other", NULL, 404},
               {"/chat", "Origin: https://a.example\r\n", 101},
               {"/chat", "Origin: null\r\n", 101},
               {"/chat", "Origin: https://b.example\r\n", 403},
               {"/chat", "Origin: https://a.example.b.example\r\n", 403}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct ws_peer *peer = open_with(cases[i].path, cases[i].headers);
    assert_int_equal(ws_peer_status(peer), cases[i].status);
    ws_peer_free(peer);
  }
  assert_true(wait_until(filtered, NULL, DEADLINE_MS));
}

static bool turned_away(void *ctx)
{
  return ws_stats().refused_address == *(const uint64_t *) ctx;
}

static void one_address_has_so_many_and_no_more(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  listen.decide = CPOOL_OFF;
  listen.max_per_address = 2;
  ws_start(&options, NULL);
  ws_listen(&listen);
  struct ws_peer *one = open_with("/", NULL), *two = open_with("/", NULL), *three = open_with("/", NULL);
  uint64_t once = 1;
  assert_int_equal(ws_peer_status(two), 101);
  assert_int_equal(ws_peer_status(three), 0);
  assert_true(wait_until(turned_away, &once, DEADLINE_MS));
  ws_peer_free(three);
  ws_next(CPOOL_EVENT_WS_OPEN);
  ws_next(CPOOL_EVENT_WS_OPEN);
  ws_peer_free(one);
  ws_next(CPOOL_EVENT_WS_CLOSED);
  one = open_with("/", NULL);
  assert_int_equal(ws_peer_status(one), 101);
  ws_peer_free(one);
  ws_peer_free(two);
}

/* The other end of the peer's socket, which is in this process. -1: there is none. */
static int server_end(const struct ws_peer *peer)
{
  struct sockaddr_in own, other;
  socklen_t len = sizeof own;
  assert_int_equal(getsockname(ws_peer_fd(peer), (struct sockaddr *) &own, &len), 0);
  for (int fd = 0; fd < 1024; fd++) {
    len = sizeof other;
    if (getpeername(fd, (struct sockaddr *) &other, &len) == 0 && other.sin_family == AF_INET &&
        other.sin_port == own.sin_port)
      return fd;
  }
  return -1;
}

/* Else two small messages in a row take as long as the peer's system delays its acknowledgements: 40 ms. */
static void small_messages_do_not_wait_for_acknowledgements(void **state)
{
  (void) state;
  int no_delay = 0;
  socklen_t len = sizeof no_delay;
  ws_start_simple(CPOOL_OFF);
  struct ws_peer *peer = open_with("/", NULL);
  assert_int_equal(getsockopt(server_end(peer), IPPROTO_TCP, TCP_NODELAY, &no_delay, &len), 0);
  assert_true(no_delay != 0);
  ws_peer_free(peer);
}

static void ids_are_checked(void **state)
{
  (void) state;
  cpool_conn conn = 0;
  char long_id[257];
  memset(long_id, 'x', sizeof long_id);
  long_id[256] = '\0';
  ws_start_simple(0);
  assert_int_equal(cpool_ws_add_external(fixture.ws, "", NULL, &conn), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_add_external(fixture.ws, NULL, NULL, &conn), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_add_external(fixture.ws, long_id, NULL, &conn), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_add_external(fixture.ws, "\xff", NULL, &conn), CPOOL_EINVAL);
  long_id[255] = '\0';
  assert_int_equal(cpool_ws_add_external(fixture.ws, long_id, &conn, &conn), CPOOL_OK);
  assert_int_equal(cpool_ws_add_external(fixture.ws, long_id, NULL, NULL), CPOOL_EEXIST);
  struct seen *open = ws_next(CPOOL_EVENT_WS_OPEN);
  assert_ptr_equal(open->user, &conn);
  assert_string_equal(open->id, long_id);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "x", 1), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 0, NULL), CPOOL_OK);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_BY_CALLER);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 0, NULL), CPOOL_ESTALE);
  assert_int_equal(cpool_ws_remove_id(fixture.ws, long_id, 0, NULL), CPOOL_ENOTFOUND);
  assert_int_equal(cpool_ws_accept(fixture.ws, 12345, "x", NULL), CPOOL_ESTALE);
}

static void ids_can_be_paged_through(void **state)
{
  (void) state;
  enum { MANY = 1000 };
  char id[16], page[64], met[MANY] = {0};
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  ws_start(&options, NULL);
  for (int i = 0; i < MANY; i++) {
    snprintf(id, sizeof id, "id-%d", i);
    assert_int_equal(cpool_ws_add_external(fixture.ws, id, NULL, NULL), CPOOL_OK);
  }
  uint64_t cursor = 0;
  int count, sum = 0;
  while ((count = cpool_ws_ids(fixture.ws, &cursor, page, sizeof page)) > 0) {
    const char *at = page;
    for (int i = 0; i < count; i++, at += strlen(at) + 1)
      met[atoi(at + 3)]++;
    sum += count;
  }
  assert_int_equal(count, 0);
  assert_int_equal(sum, MANY);
  for (int i = 0; i < MANY; i++)
    assert_int_equal(met[i], 1);
  cursor = 0;
  assert_int_equal(cpool_ws_ids(fixture.ws, &cursor, page, 2), CPOOL_EINVAL);
}

static void listening_is_refused_with_a_reason(void **state)
{
  (void) state;
  cpool_ws_listen_options listen;
  cpool_error error;
  ws_start_simple(0);
  cpool_ws_listen_options_init(&listen);
  listen.port = fixture.port;
  assert_int_equal(cpool_ws_listen(fixture.ws, &listen), CPOOL_ESYSTEM);
  cpool_error_init(&error);
  cpool_last_error(&error);
  assert_non_null(strstr(error.text, "Address already in use"));
  listen.port = 0;
  listen.address = "localhost";
  assert_int_equal(cpool_ws_listen(fixture.ws, &listen), CPOOL_EINVAL);
  listen.address = "::1";
  assert_in_range(cpool_ws_listen(fixture.ws, &listen), 1, 65535);
  listen.tls_cert_file = "/nowhere.pem";
  assert_int_equal(cpool_ws_listen(fixture.ws, &listen), CPOOL_EINVAL);
  listen.tls_key_file = "/nowhere.key";
  assert_int_equal(cpool_ws_listen(fixture.ws, &listen), CPOOL_ETLS_CONFIG);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(the_callback_names_and_refuses, stop),
      cmocka_unit_test_teardown(the_request_can_be_read, stop),
      cmocka_unit_test_teardown(with_a_queue_nothing_comes_before_the_accept, stop),
      cmocka_unit_test_teardown(who_is_not_decided_in_time_is_refused, stop),
      cmocka_unit_test_teardown(an_id_that_is_taken_stays_or_moves, stop),
      cmocka_unit_test_teardown(a_full_registry_refuses_before_the_upgrade, stop),
      cmocka_unit_test_teardown(filters_of_the_listener, stop),
      cmocka_unit_test_teardown(one_address_has_so_many_and_no_more, stop),
      cmocka_unit_test_teardown(small_messages_do_not_wait_for_acknowledgements, stop),
      cmocka_unit_test_teardown(ids_are_checked, stop),
      cmocka_unit_test_teardown(ids_can_be_paged_through, stop),
      cmocka_unit_test_teardown(listening_is_refused_with_a_reason, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
