/* ws_guests: sockets that the caller has accepted, and connections of the caller's own libwebsockets on the same loop */
#include "ws_fixture.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libwebsockets.h>
#include <uv.h>

static int stop(void **state)
{
  (void) state;
  if (fixture.ws != NULL)
    ws_stop();
  fixture.react = NULL;
  return 0;
}

static void echo(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_WS_MESSAGE)
    assert_int_equal(cpool_ws_send(fixture.ws, event->source, event->ws_kind, event->data, event->len), CPOOL_OK);
  if (event->kind == CPOOL_EVENT_WS_ACCEPT)
    assert_int_equal(cpool_ws_accept(fixture.ws, event->source, "guest", NULL), CPOOL_OK);
}

/* ------------------------------------------------------------------------------------------------------------- sockets */

static int listen_here(uint16_t *port)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
  assert_int_equal(listen(fd, 8), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &len), 0);
  *port = ntohs(address.sin_port);
  return fd;
}

/* Accepts one, reads `most` bytes of its head, and hands it over. */
struct acceptor {
  pthread_t thread;
  int listener;
  size_t most;
  cpool_conn conn;
  int rc;
};

static void *accept_one(void *arg)
{
  struct acceptor *acceptor = arg;
  char head[4096];
  int fd = accept(acceptor->listener, NULL, NULL);
  ssize_t got = acceptor->most > 0 ? recv(fd, head, acceptor->most, 0) : 0;
  cpool_ws_adopt_options options;
  cpool_ws_adopt_options_init(&options);
  options.data = head;
  options.len = got > 0 ? (size_t) got : 0;
  acceptor->rc = cpool_ws_adopt(fixture.ws, fd, &options, &acceptor->conn);
  if (acceptor->rc != CPOOL_OK)
    close(fd);
  return NULL;
}

static void a_socket_that_the_caller_accepted(void **state)
{
  (void) state;
  static const size_t read_before[] = {0, 1, 20, 4096};
  fixture.react = echo;
  ws_start_simple(0);
  uint16_t port;
  int listener = listen_here(&port);
  for (size_t i = 0; i < sizeof read_before / sizeof *read_before; i++) {
    struct acceptor acceptor = {.listener = listener, .most = read_before[i]};
    assert_int_equal(pthread_create(&acceptor.thread, NULL, accept_one, &acceptor), 0);
    struct ws_peer *peer = ws_peer_open(port, NULL);
    pthread_join(acceptor.thread, NULL);
    assert_int_equal(acceptor.rc, CPOOL_OK);
    assert_int_equal(ws_peer_status(peer), 101);
    ws_next(CPOOL_EVENT_WS_ACCEPT);
    assert_int_equal(ws_next(CPOOL_EVENT_WS_OPEN)->conn, acceptor.conn);
    assert_true(ws_peer_send_text(peer, "hello"));
    assert_string_equal((char *) ws_peer_read_past_pings(peer, DEADLINE_MS).payload, "hello");
    ws_next(CPOOL_EVENT_WS_MESSAGE);
    ws_peer_free(peer);
    assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_LOST);
  }
  close(listener);
}

static void what_cannot_be_adopted_stays_the_callers(void **state)
{
  (void) state;
  cpool_conn conn = 0;
  cpool_ws_adopt_options options;
  int ends[2];
  ws_start_simple(0);
  cpool_ws_adopt_options_init(&options);
  assert_int_equal(pipe(ends), 0);
  assert_int_equal(cpool_ws_adopt(fixture.ws, ends[0], &options, &conn), CPOOL_EINVAL);
  assert_int_equal(fcntl(ends[0], F_GETFD) >= 0, 1);
  close(ends[0]);
  close(ends[1]);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  assert_int_equal(cpool_ws_adopt(fixture.ws, ends[0], &options, &conn), CPOOL_EINVAL);
  close(ends[0]);
  close(ends[1]);
  assert_int_equal(cpool_ws_adopt(fixture.ws, -1, &options, &conn), CPOOL_EINVAL);
  uint16_t port;
  int listener = listen_here(&port);
  assert_int_equal(cpool_ws_adopt(fixture.ws, listener, &options, &conn), CPOOL_EINVAL);
  close(listener);
}

/* ------------------------------------------------------------------------------------------- the host's libwebsockets */

static struct {
  uv_loop_t loop;
  uv_timer_t pulse;
  struct lws_context *context;
  int port, next_id;
  _Atomic bool done;
  bool ending;
} host;

static int on_host(struct lws *wsi, enum lws_callback_reasons reason, void *session, void *in, size_t len)
{
  char id[32];
  (void) session;
  if (reason == LWS_CALLBACK_ESTABLISHED) {
    snprintf(id, sizeof id, "hosted-%d", host.next_id++);
    if (cpool_ws_add(fixture.ws, id, NULL, wsi, NULL) != CPOOL_OK)
      return -1;
  } /* and that goes to the manager, too, as from a host that forwards all there is */
  return fixture.ws != NULL ? cpool_ws_lws_event(fixture.ws, wsi, (int32_t) reason, in, len) : 0;
}

static void open_host(void)
{
  static const struct lws_protocols protocols[] = {{.name = "host", .callback = on_host, .rx_buffer_size = 1024},
                                                   {.name = NULL}};
  static const lws_retry_bo_t no_pings;
  void *loops[] = {&host.loop};
  lws_set_log_level(0, NULL);
  struct lws_context_creation_info info = {.port = 0,
                                           .iface = "127.0.0.1",
                                           .protocols = protocols,
                                           .gid = -1,
                                           .uid = -1,
                                           .retry_and_idle_policy = &no_pings,
                                           .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_VALIDATE_UTF8,
                                           .foreign_loops = loops};
  host.context = lws_create_context(&info);
  assert_non_null(host.context);
  host.port = lws_get_vhost_listen_port(lws_get_vhost_by_name(host.context, "default"));
  assert_in_range(host.port, 1, 65535);
}

static void *talk(void *arg)
{
  enum { ROUNDS = 30 };
  struct ws_peer *peers[2];
  char text[32];
  (void) arg;
  for (int i = 0; i < 2; i++)
    peers[i] = ws_peer_open((uint16_t) host.port, NULL);
  for (int i = 0; i < ROUNDS; i++)
    for (int j = 0; j < 2; j++) {
      snprintf(text, sizeof text, "%d of %d", i, j);
      assert_true(ws_peer_send_text(peers[j], text));
      assert_string_equal((char *) ws_peer_read_past_pings(peers[j], DEADLINE_MS).payload, text);
    }
  assert_int_equal(cpool_ws_send_id(fixture.ws, "hosted-0", CPOOL_WS_TEXT, "by id", 5), CPOOL_OK);
  assert_string_equal((char *) ws_peer_read_past_pings(peers[0], DEADLINE_MS).payload, "by id");
  assert_true(ws_peer_send_close(peers[0], 1000, NULL));
  struct ws_frame frame = ws_peer_read_past_pings(peers[0], DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1000);
  ws_peer_free(peers[0]);
  assert_int_equal(cpool_ws_remove_id(fixture.ws, "hosted-1", 1000, "enough"), CPOOL_OK);
  frame = ws_peer_read_past_pings(peers[1], DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1000);
  assert_true(ws_peer_send_close(peers[1], 1000, NULL));
  assert_int_equal(ws_peer_read_past_pings(peers[1], DEADLINE_MS).first, WS_END);
  ws_peer_free(peers[1]);
  host.done = true;
  return NULL;
}

static void on_pulse(uv_timer_t *timer)
{
  (void) timer;
  if (host.done && !host.ending) {
    host.ending = true;
    assert_int_equal(cpool_ws_close_start(fixture.ws, 0), CPOOL_OK);
  }
}

static bool manager_closed(void)
{
  return fixture.count > 0 && fixture.events[fixture.count - 1].kind == CPOOL_EVENT_WS_MANAGER_CLOSED;
}

static void connections_of_the_hosts_libwebsockets(void **state)
{
  (void) state;
  cpool_runtime *rt = NULL;
  cpool_runtime_options options;
  cpool_ws_options ws_options;
  pthread_t thread;
  assert_int_equal(uv_loop_init(&host.loop), 0);
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_UV;
  options.uv_loop = &host.loop;
  assert_int_equal(cpool_runtime_new(&rt, &options), CPOOL_OK);
  cpool_ws_options_init(&ws_options);
  fixture.react = echo;
  ws_start(&ws_options, rt);
  open_host();
  uv_timer_init(&host.loop, &host.pulse);
  uv_timer_start(&host.pulse, on_pulse, 10, 10);
  assert_int_equal(pthread_create(&thread, NULL, talk, NULL), 0);
  for (int64_t end_ms = now_ms() + DEADLINE_MS; !manager_closed() && now_ms() < end_ms;)
    uv_run(&host.loop, UV_RUN_ONCE);
  pthread_join(thread, NULL);
  assert_true(manager_closed());
  int closed_count = 0;
  for (int i = 0; i < fixture.count; i++) {
    if (fixture.events[i].kind != CPOOL_EVENT_WS_CLOSED)
      continue;
    closed_count++;
    assert_int_equal(fixture.events[i].reason,
                     strcmp(fixture.events[i].id, "hosted-0") == 0 ? CPOOL_WS_BY_PEER : CPOOL_WS_BY_CALLER);
  }
  assert_int_equal(closed_count, 2);
  cpool_ws_free(fixture.ws);
  fixture.ws = NULL;
  uv_close((uv_handle_t *) &host.pulse, NULL);
  lws_context_destroy(host.context);
  for (int i = 0; i < 10; i++)
    uv_run(&host.loop, UV_RUN_NOWAIT);
  lws_context_destroy(host.context);
  assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
  uv_run(&host.loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&host.loop), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(a_socket_that_the_caller_accepted, stop),
      cmocka_unit_test_teardown(what_cannot_be_adopted_stays_the_callers, stop),
      cmocka_unit_test_teardown(connections_of_the_hosts_libwebsockets, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
