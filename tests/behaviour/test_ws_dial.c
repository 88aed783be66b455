/* ws_dial: connections that are dialled: what is asked, who is trusted, what failing tells */
#include "ws_dial_fixture.h"

#include <poll.h>
#include <sys/socket.h>

#include "support/blackhole.h"
#include "support/dns_server.h"
#include "support/proxies.h"
#include "support/raw_client.h"

static void expect_message(struct ws_peer *peer, const char *text)
{
  struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
  assert_int_equal(frame.first, WS_FIN | WS_TEXT);
  assert_string_equal((char *) frame.payload, text);
  assert_true(frame.masked);
}

static void send_text(cpool_conn conn, const char *text)
{
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, text, strlen(text)), CPOOL_OK);
}

static void messages_go_both_ways(void **state)
{
  (void) state;
  cpool_conn conn, found;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  assert_int_equal(cpool_ws_find(fixture.ws, "id", &found), CPOOL_OK);
  assert_int_equal(found, conn);
  send_text(conn, "to the server");
  expect_message(peer, "to the server");
  assert_true(ws_peer_send_text(peer, "to the client"));
  assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "to the client");
  assert_true(ws_peer_send(peer, WS_FIN | WS_PING, "are you there", 13));
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(frame.first, WS_FIN | WS_PONG);
  assert_string_equal((char *) frame.payload, "are you there");
  assert_true(frame.masked);
  cpool_ws_stats stats = ws_stats();
  assert_int_equal(stats.dials, 1);
  assert_int_equal(stats.dials_failed, 0);
  assert_int_equal(stats.total_connections, 1);
  ws_peer_free(peer);
}

/* Around the limits of the frame's length, and above what goes into one frame. */
static void long_messages_are_masked_whole(void **state)
{
  (void) state;
  static const size_t lengths[] = {0, 1, 3, 125, 126, 127, 4095, 32768, 65519, 65520, 65521, 65536, 1000000};
  cpool_conn conn;
  dialer.options.max_send_queue_bytes = 10000000;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  unsigned char *payload = malloc(1000000), *got = malloc(1000000);
  assert_true(payload != NULL && got != NULL);
  for (size_t i = 0; i < 1000000; i++)
    payload[i] = (unsigned char) (i * 2654435761u >> 24);
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
    assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, payload, lengths[i]), CPOOL_OK);
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    size_t len = 0;
    struct ws_frame frame;
    do {
      frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
      assert_true(frame.first >= 0 && frame.masked && len + frame.len <= lengths[i]);
      memcpy(got + len, frame.payload, frame.len);
      len += frame.len;
    } while ((frame.first & WS_FIN) == 0);
    assert_int_equal(len, lengths[i]);
    assert_memory_equal(got, payload, len);
  }
  free(payload);
  free(got);
  ws_peer_free(peer);
}

static void the_request_says_what_it_shall(void **state)
{
  (void) state;
  char url[160], host[64];
  const cpool_header headers[] = {{"X-Token", "a b"}, {"Origin", "https://example.com"}, {"X-Empty", ""}};
  snprintf(url, sizeof url, "ws://127.0.0.1:%u/chat/room%%20one?user=1&x#fragment", dialer.port);
  snprintf(host, sizeof host, "\r\nHost: 127.0.0.1:%u\r\n", dialer.port);
  dialer.connect.url = url;
  dialer.connect.headers = headers;
  dialer.connect.header_count = 3;
  dialer.connect.subprotocols = "chat, soap";
  manager_start();
  dial_start("id");
  struct ws_peer *peer = server_accept(&(struct ws_accept_options){.headers = "Sec-WebSocket-Protocol: soap\r\n"});
  const char *request = ws_peer_request(peer);
  assert_memory_equal(request, "GET /chat/room%20one?user=1&x HTTP/1.1\r\n", 40);
  assert_non_null(strstr(request, host));
  assert_non_null(strstr(request, "\r\nX-Token: a b\r\n"));
  assert_non_null(strstr(request, "\r\nOrigin: https://example.com\r\n"));
  assert_non_null(strstr(request, "\r\nX-Empty: \r\n"));
  assert_non_null(strstr(request, "\r\nSec-WebSocket-Protocol: chat, soap\r\n"));
  assert_non_null(strstr(request, "\r\nSec-WebSocket-Version: 13\r\n"));
  assert_null(strstr(request, "Sec-WebSocket-Extensions"));
  assert_string_equal(ws_next(CPOOL_EVENT_WS_OPEN)->data, "soap");
  ws_peer_free(peer);
}

static void a_url_without_a_path_asks_for_the_root(void **state)
{
  (void) state;
  char url[64];
  snprintf(url, sizeof url, "ws://127.0.0.1:%u?q=1", dialer.port);
  dialer.connect.url = url;
  manager_start();
  dial_start("id");
  struct ws_peer *peer = server_accept(NULL);
  assert_memory_equal(ws_peer_request(peer), "GET /?q=1 HTTP/1.1\r\n", 20);
  assert_string_equal(ws_next(CPOOL_EVENT_WS_OPEN)->data, "");
  ws_peer_free(peer);
}

static void ipv6_is_dialled_too(void **state)
{
  (void) state;
  char url[64], host[64];
  uint16_t port;
  int listener = ws_peer_listen("::1", &port);
  snprintf(url, sizeof url, "ws://[::1]:%u/", port);
  snprintf(host, sizeof host, "\r\nHost: [::1]:%u\r\n", port);
  dialer.connect.url = url;
  manager_start();
  cpool_conn conn = dial_start("id");
  struct ws_peer *peer = ws_peer_accept(listener, NULL, DEADLINE_MS);
  assert_non_null(peer);
  assert_non_null(strstr(ws_peer_request(peer), host));
  ws_next(CPOOL_EVENT_WS_OPEN);
  send_text(conn, "six");
  expect_message(peer, "six");
  ws_peer_free(peer);
  close(listener);
}

static void names_are_resolved_and_raced(void **state)
{
  (void) state;
  char url[64], servers[64];
  struct dns_server *dns = dns_server_start(NULL, 0);
  assert_non_null(dns);
  dns_server_set_addresses(dns, "ws.test", "127.0.0.1", 60);
  snprintf(servers, sizeof servers, "127.0.0.1:%u", dns_server_port(dns));
  snprintf(url, sizeof url, "ws://ws.test:%u/", dialer.port);
  dialer.options.dns_servers = servers;
  dialer.options.dns_hosts_file = "/dev/null";
  dialer.connect.url = url;
  manager_start();
  dial_start("id");
  struct ws_peer *peer = server_accept(NULL);
  ws_next(CPOOL_EVENT_WS_OPEN);
  dialer.connect.url = "ws://nowhere.test/";
  dial_start("none");
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->status, CPOOL_EDNS_NOTFOUND);
  assert_int_equal(seen->reason, CPOOL_WS_HANDSHAKE);
  assert_non_null(strstr(seen->data, "nowhere.test"));
  ws_peer_free(peer);
  ws_stop();
  dns_server_stop(dns);
}

/* ----------------------------------------------------------------------------------------------------------------- TLS */

static struct certs *certs;

static void dial_tls(const char *host)
{
  static char url[128];
  snprintf(url, sizeof url, "wss://%s:%u/", host, dialer.port);
  dialer.connect.url = url;
  dial_start("id");
}

static void tls_ends(const struct ws_accept_options *how, const char *host, int32_t status)
{
  dial_tls(host);
  ws_peer_free(server_accept(how));
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->status, status);
  assert_int_equal(seen->reason, CPOOL_WS_HANDSHAKE);
}

static void tls_opens(const struct ws_accept_options *how, const char *host)
{
  dial_tls(host);
  struct ws_peer *peer = server_accept(how);
  cpool_conn conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  send_text(conn, "secret");
  expect_message(peer, "secret");
  assert_true(ws_peer_send_text(peer, "indeed"));
  assert_string_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->data, "indeed");
  ws_peer_free(peer);
  ws_next(CPOOL_EVENT_WS_CLOSED);
}

static void certificates_are_judged(void **state)
{
  (void) state;
  dialer.connect.ca_file = certs->ca_file;
  manager_start();
  tls_opens(&(struct ws_accept_options){.pair = &certs->good}, "localhost");
  tls_opens(&(struct ws_accept_options){.pair = &certs->good}, "127.0.0.1"); /* an address of the certificate */
  tls_ends(&(struct ws_accept_options){.pair = &certs->wrong_name}, "localhost", CPOOL_ETLS_VERIFY);
  tls_ends(&(struct ws_accept_options){.pair = &certs->expired}, "localhost", CPOOL_ETLS_VERIFY);
  tls_ends(&(struct ws_accept_options){.pair = &certs->self_signed}, "localhost", CPOOL_ETLS_VERIFY);
  dialer.connect.ca_file = certs->other_ca_file;
  tls_ends(&(struct ws_accept_options){.pair = &certs->good}, "localhost", CPOOL_ETLS_VERIFY);
  dialer.connect.ca_file = NULL; /* the system's, which know nothing of it */
  tls_ends(&(struct ws_accept_options){.pair = &certs->good}, "localhost", CPOOL_ETLS_VERIFY);
  dialer.connect.tls_verify = CPOOL_OFF;
  tls_opens(&(struct ws_accept_options){.pair = &certs->expired}, "localhost");
  tls_opens(&(struct ws_accept_options){.pair = &certs->wrong_name}, "localhost");
}

/* A server name is a name, without the last dot (RFC 6066 section 3); an address is none. */
static void tls_is_told_a_name(void **state)
{
  (void) state;
  static const struct {
    const char *host, *told;
  } cases[] = {{"localhost", "localhost"}, {"localhost.", "localhost"}, {"127.0.0.1", NULL}};
  dialer.connect.ca_file = certs->ca_file;
  manager_start();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    dial_tls(cases[i].host);
    struct ws_peer *peer = server_accept(&(struct ws_accept_options){.pair = &certs->good});
    ws_next(CPOOL_EVENT_WS_OPEN);
    const char *told = ws_peer_server_name(peer);
    assert_int_equal(told == NULL, cases[i].told == NULL);
    if (told != NULL)
      assert_string_equal(told, cases[i].told);
    ws_peer_free(peer);
    ws_next(CPOOL_EVENT_WS_CLOSED);
  }
}

static void a_server_may_ask_for_a_certificate(void **state)
{
  (void) state;
  struct ws_accept_options how = {.pair = &certs->good, .client_ca_file = certs->ca_file};
  dialer.connect.ca_file = certs->ca_file;
  manager_start();
  dial_tls("localhost");
  ws_peer_free(server_accept(&how));
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED); /* TLS 1.3: the client is done before the server refuses */
  assert_int_equal(seen->reason, CPOOL_WS_HANDSHAKE);
  assert_true(seen->status == CPOOL_ERESET || seen->status == CPOOL_ETLS_HANDSHAKE);
  dialer.connect.client_cert_file = certs->client.cert_file;
  dialer.connect.client_key_file = certs->client.key_file;
  tls_opens(&how, "localhost");
}

/* More than the kernel takes at once, so that writes over TLS stop in their middle. */
static void a_slow_server_gets_all_over_tls(void **state)
{
  (void) state;
  enum { MESSAGES = 200, BYTES = 100000 };
  dialer.options.max_send_queue_bytes = 2 * MESSAGES * BYTES;
  dialer.connect.ca_file = certs->ca_file;
  manager_start();
  dial_tls("localhost");
  struct ws_peer *peer = server_accept(&(struct ws_accept_options){.pair = &certs->good});
  cpool_conn conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  unsigned char *payload = malloc(BYTES);
  assert_non_null(payload);
  for (int i = 0; i < MESSAGES; i++) {
    memset(payload, i, BYTES);
    assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, payload, BYTES), CPOOL_OK);
  }
  for (int i = 0; i < MESSAGES; i++)
    for (size_t len = 0; len < BYTES;) {
      struct ws_frame frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
      assert_true(frame.first >= 0 && len + frame.len <= BYTES);
      memset(payload, i, BYTES);
      assert_memory_equal(frame.payload, payload, frame.len);
      len += frame.len;
    }
  free(payload);
  ws_peer_free(peer);
}

static void a_server_without_tls_is_no_wss(void **state)
{
  (void) state;
  dialer.connect.ca_file = certs->ca_file;
  manager_start();
  dial_tls("localhost");
  assert_int_not_equal(wait_fd(dialer.listener, POLLIN, DEADLINE_MS), 0);
  int server = accept4(dialer.listener, NULL, NULL, SOCK_CLOEXEC);
  assert_true(server >= 0 && raw_send(server, "HTTP/1.1 400 Bad Request\r\n\r\n"));
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->status, CPOOL_ETLS_HANDSHAKE);
  close(server);
}

static void bad_files_are_refused_at_once(void **state)
{
  (void) state;
  cpool_conn conn;
  dialer.connect.url = "wss://localhost/";
  manager_start();
  dialer.connect.ca_file = "/nonexistent/ca.pem";
  assert_int_equal(cpool_ws_connect(fixture.ws, "id", &dialer.connect, &conn), CPOOL_ETLS_CONFIG);
  dialer.connect.ca_file = NULL;
  dialer.connect.client_cert_file = certs->client.key_file;
  assert_int_equal(cpool_ws_connect(fixture.ws, "id", &dialer.connect, &conn), CPOOL_ETLS_CONFIG);
  dialer.connect.client_cert_file = certs->client.cert_file;
  dialer.connect.client_key_file = certs->good.key_file; /* of another certificate */
  assert_int_equal(cpool_ws_connect(fixture.ws, "id", &dialer.connect, &conn), CPOOL_ETLS_CONFIG);
  assert_int_equal(ws_stats().opened, 0);
}

/* ------------------------------------------------------------------------------------------------------------ failures */

static void a_refused_connect_says_so(void **state)
{
  (void) state;
  uint16_t port;
  char url[64];
  int held = refusing_port_open(&port);
  snprintf(url, sizeof url, "ws://127.0.0.1:%u/", port);
  dialer.connect.url = url;
  manager_start();
  dial_start("id");
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->status, CPOOL_ECONNECT);
  assert_non_null(strstr(seen->data, "refused"));
  assert_int_equal(ws_stats().dials_failed, 1);
  close(held);
}

static void the_address_policy_holds(void **state)
{
  (void) state;
  dialer.connect.address_policy = CPOOL_ADDRESS_PUBLIC;
  manager_start();
  dial_start("id");
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->status, CPOOL_EADDRESS);
}

static void answers_that_are_no_upgrade_have_their_status(void **state)
{
  (void) state;
  manager_start();
  struct seen *seen =
      dial_ends("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", CPOOL_WS_REFUSED, CPOOL_EREFUSED);
  assert_int_equal(seen->http_status, 403);
  seen = dial_ends("HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", CPOOL_WS_REFUSED,
                   CPOOL_EREFUSED);
  assert_int_equal(seen->http_status, 302);
  seen = dial_ends("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", CPOOL_WS_HANDSHAKE, CPOOL_EREFUSED);
  assert_int_equal(seen->http_status, 503);
  seen = dial_ends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", CPOOL_WS_HANDSHAKE, CPOOL_EREFUSED);
  assert_int_equal(seen->http_status, 200);
  dial_ends("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: d3JvbmcgYWNjZXB0IGhlcmU=\r\n\r\n",
            CPOOL_WS_HANDSHAKE, CPOOL_EPROTOCOL);
  dial_ends("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", CPOOL_WS_HANDSHAKE,
            CPOOL_EPROTOCOL);
  dial_ends("", CPOOL_WS_HANDSHAKE, CPOOL_ERESET);
}

static void garbage_is_no_answer(void **state)
{
  (void) state;
  manager_start();
  dial_start("id");
  ws_peer_free(server_accept(&(struct ws_accept_options){.answer = "SSH-2.0-OpenSSH_9.2\r\n\r\n"}));
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->reason, CPOOL_WS_HANDSHAKE);
  assert_true(seen->status == CPOOL_ERESET || seen->status == CPOOL_EPROTOCOL);
}

static void a_subprotocol_that_was_not_offered_is_refused(void **state)
{
  (void) state;
  manager_start();
  dial_start("id");
  ws_peer_free(server_accept(&(struct ws_accept_options){.headers = "Sec-WebSocket-Protocol: chat\r\n"}));
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->status, CPOOL_EPROTOCOL);
}

static void silence_ends_with_the_handshakes_time(void **state)
{
  (void) state;
  dialer.options.handshake_timeout_ms = 200;
  manager_start();
  dial_start("id");
  struct ws_peer *peer = server_accept(&(struct ws_accept_options){.answer = ""});
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->status, CPOOL_ETIMEOUT_CONNECT);
  assert_int_equal(ws_peer_read(peer, DEADLINE_MS).first, WS_END);
  ws_peer_free(peer);
}

static bool shake_hands(void *ctx)
{
  return ws_stats().handshaking_connections == *(int *) ctx;
}

/* libwebsockets has times of its own, which are shorter: a dial that waits for its answer, one for TLS, and clients that
 * say nothing, over TLS too, are all there when they are over. */
static void the_handshakes_time_is_what_was_asked_for(void **state)
{
  (void) state;
  enum { OTHERS_MS = 5500 };
  cpool_ws_listen_options listen;
  cpool_ws_listen_options_init(&listen);
  listen.tls_cert_file = certs->good.cert_file;
  listen.tls_key_file = certs->good.key_file;
  dialer.options.handshake_timeout_ms = 10 * DEADLINE_MS;
  manager_start();
  ws_listen(&listen);
  dial_start("id");
  struct ws_peer *peer = server_accept(&(struct ws_accept_options){.answer = ""});
  char url[64];
  snprintf(url, sizeof url, "wss://127.0.0.1:%u/", dialer.port);
  dialer.connect.url = url;
  dial_start("tls");
  int silent = raw_connect(NULL, fixture.port, DEADLINE_MS);
  assert_true(silent >= 0);
  int three = 3;
  assert_true(wait_until(shake_hands, &three, DEADLINE_MS));
  assert_false(wait_until(has_next, &fixture, OTHERS_MS));
  assert_int_equal(ws_stats().handshaking_connections, three);
  close(silent);
  ws_peer_free(peer);
}

static void a_host_that_does_not_answer_ends_it_too(void **state)
{
  (void) state;
  char url[64];
  struct blackhole *hole = blackhole_start(NULL, 0);
  assert_non_null(hole);
  snprintf(url, sizeof url, "ws://127.0.0.1:%u/", blackhole_port(hole));
  dialer.connect.url = url;
  dialer.options.handshake_timeout_ms = 200;
  manager_start();
  dial_start("id");
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->status, CPOOL_ETIMEOUT_CONNECT);
  dialer.connect.url = dialer.url;
  blackhole_stop(hole);
}

/* --------------------------------------------------------------------------------------------------------------- proxy */

static void set_proxy(char url[64], uint16_t port)
{
  snprintf(url, 64, "http://127.0.0.1:%u", port);
  dialer.connect.proxy = url;
}

static void a_real_proxy_makes_the_tunnel(void **state)
{
  (void) state;
  char proxy_url[64];
  cpool_conn conn;
  struct process *proxy = tinyproxy_start("user", "password");
  assert_non_null(proxy);
  set_proxy(proxy_url, process_port(proxy));
  manager_start();
  dial_start("id");
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->status, CPOOL_EPROXY);
  assert_non_null(strstr(seen->data, "407"));
  dialer.connect.proxy_username = "user";
  dialer.connect.proxy_password = "password";
  struct ws_peer *peer = dial_open(&conn);
  assert_null(strstr(ws_peer_request(peer), "Proxy-Authorization"));
  send_text(conn, "through");
  expect_message(peer, "through");
  ws_peer_free(peer);
  ws_next(CPOOL_EVENT_WS_CLOSED);
  process_stop(proxy);
}

static void proxies_that_misbehave_end_the_dial(void **state)
{
  (void) state;
  static const char *const answers[] = {"HTTP/1.1 502 Bad Gateway\r\n\r\n", "nonsense\r\n\r\n", "",
                                        "HTTP/1.1 20 What\r\n\r\n", "HTTP/1.1 099 What\r\n\r\n"};
  char proxy_url[64];
  set_proxy(proxy_url, dialer.port);
  dialer.connect.url = "ws://example.test:81/";
  manager_start();
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    dial_start("id");
    struct ws_peer *peer = server_accept(&(struct ws_accept_options){.answer = answers[i]});
    assert_memory_equal(ws_peer_request(peer), "CONNECT example.test:81 HTTP/1.1\r\nHost: example.test:81\r\n", 57);
    ws_peer_free(peer);
    assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->status, CPOOL_EPROXY);
  }
  dial_start("id"); /* a head without an end */
  struct ws_peer *peer = server_accept(&(struct ws_accept_options){.answer = "HTTP/1.1 200 OK\r\n"});
  char *flood = malloc(20000);
  assert_non_null(flood);
  memset(flood, 'x', 20000);
  (void) ws_peer_send_raw(peer, flood, 20000);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->status, CPOOL_EPROXY);
  free(flood);
  ws_peer_free(peer);
}

/* An interim answer, then the real one, in pieces, and the server's first bytes right behind it. */
static void nothing_behind_the_proxys_answer_is_lost(void **state)
{
  (void) state;
  char proxy_url[64], head[2048], key[64] = "";
  set_proxy(proxy_url, dialer.port);
  dialer.connect.url = "ws://example.test/";
  manager_start();
  dial_start("id");
  struct ws_peer *peer = server_accept(&(struct ws_accept_options){.answer = "HTTP/1.1 102 Wait\r\n\r"});
  assert_true(ws_peer_send_raw(peer, "\nHTTP/1.1 200 OK\r\nVia: x\r", 25));
  assert_true(ws_peer_send_raw(peer, "\n\r\n", 3));
  ssize_t got = 0;
  head[0] = 0;
  while (strstr(head, "\r\n\r\n") == NULL || got == 0) {
    assert_int_not_equal(wait_fd(ws_peer_fd(peer), POLLIN, DEADLINE_MS), 0);
    ssize_t more = recv(ws_peer_fd(peer), head + got, sizeof head - 1 - (size_t) got, MSG_DONTWAIT);
    assert_true(more > 0);
    got += more;
    head[got] = '\0';
  }
  assert_int_equal(sscanf(strstr(head, "Sec-WebSocket-Key: "), "Sec-WebSocket-Key: %63s", key), 1);
  ws_peer_free(peer);
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->status, CPOOL_ERESET);
}

/* -------------------------------------------------------------------------------------------------------------- callers */

static void bad_options_are_refused(void **state)
{
  (void) state;
  static const cpool_header bad_header[] = {{"Sec-WebSocket-Key", "x"}}, host[] = {{"host", "x"}},
                            line[] = {{"X-A", "a\r\nb"}};
  const cpool_ws_connect_options none = dialer.connect;
  cpool_ws_connect_options tries[20];
  int count = 0;
  manager_start();
#define TRY(field, value)                                                                                              \
  tries[count] = none;                                                                                                 \
  tries[count++].field = (value)
  TRY(url, NULL);
  TRY(url, "http://127.0.0.1/");
  TRY(url, "ws://user@127.0.0.1/");
  TRY(url, "ws:///path");
  TRY(url, "ws://127.0.0.1:99999/");
  TRY(proxy, "socks5://127.0.0.1");
  TRY(proxy, "https://127.0.0.1");
  TRY(proxy, "http://127.0.0.1/path");
  TRY(proxy_username, "without proxy");
  TRY(client_key_file, "without certificate");
  TRY(ca_file, "");
  TRY(subprotocols, "a,,b");
  TRY(subprotocols, "a b");
  TRY(subprotocols, "a, b, a");
  TRY(stop_codes, "1000-");
  TRY(stop_codes, "999");
  TRY(max_attempts, -5);
  TRY(tls_min_version, 77);
#undef TRY
  for (int i = 0; i < count; i++)
    assert_int_equal(cpool_ws_connect(fixture.ws, "id", &tries[i], NULL), CPOOL_EINVAL);
  const cpool_header *const lists[] = {bad_header, host, line};
  for (size_t i = 0; i < 3; i++) {
    dialer.connect.headers = lists[i];
    dialer.connect.header_count = 1;
    assert_int_equal(cpool_ws_connect(fixture.ws, "id", &dialer.connect, NULL), CPOOL_EINVAL);
  }
  assert_int_equal(cpool_ws_connect(fixture.ws, "", &none, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_connect(fixture.ws, "id", NULL, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_ws_connect(NULL, "id", &none, NULL), CPOOL_EINVAL);
  assert_int_equal(ws_stats().opened, 0);
}

static void bad_name_servers_are_refused_with_the_manager(void **state)
{
  (void) state;
  static const char *const wrong[] = {"", "nonsense", "127.0.0.1:99999"};
  cpool_ws *ws;
  dialer.options.on_event = on_ws_event;
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    dialer.options.dns_servers = wrong[i];
    assert_int_equal(cpool_ws_new(&ws, NULL, &dialer.options), CPOOL_EINVAL);
  }
}

static void what_has_no_room_in_the_request_is_refused(void **state)
{
  (void) state;
  char url[4096] = "ws://127.0.0.1/", value[9000];
  manager_start();
  memset(url + strlen(url), 'x', 1998);
  dialer.connect.url = url;
  assert_int_equal(cpool_ws_connect(fixture.ws, "id", &dialer.connect, NULL), CPOOL_EINVAL);
  memset(value, 'v', sizeof value - 1);
  value[sizeof value - 1] = '\0';
  dialer.connect.url = dialer.url;
  dialer.connect.headers = &(cpool_header){"X-Long", value};
  dialer.connect.header_count = 1;
  assert_int_equal(cpool_ws_connect(fixture.ws, "id", &dialer.connect, NULL), CPOOL_EINVAL);
  value[8192 - 10] = '\0'; /* with ": " and CRLF just what is allowed */
  dial_start("id");
  struct ws_peer *peer = server_accept(NULL);
  assert_non_null(strstr(ws_peer_request(peer), value));
  ws_next(CPOOL_EVENT_WS_OPEN);
  ws_peer_free(peer);
}

static void an_id_is_taken_from_the_start(void **state)
{
  (void) state;
  manager_start();
  cpool_conn conn = dial_start("id");
  assert_int_equal(cpool_ws_connect(fixture.ws, "id", &dialer.connect, NULL), CPOOL_EEXIST);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "x", 1), CPOOL_EAGAIN); /* or it were open */
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 0, NULL), CPOOL_OK);
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->reason, CPOOL_WS_BY_CALLER);
  dial_start("id"); /* it is free again */
}

static void close_ends_dials_under_way(void **state)
{
  (void) state;
  enum { DIALS = 50 };
  char id[16];
  manager_start();
  for (int i = 0; i < DIALS; i++) {
    snprintf(id, sizeof id, "%d", i);
    dial_start(id);
  }
  assert_int_equal(cpool_ws_close(fixture.ws, 0), CPOOL_OK);
  fixture.ws = NULL;
  for (int i = 0; i < DIALS; i++)
    assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_MANAGER);
  ws_next(CPOOL_EVENT_WS_MANAGER_CLOSED);
}

/* To a listener of the same manager, with few places. */
static void more_than_there_are_places_wait_for_one(void **state)
{
  (void) state;
  enum { DIALS = 300 };
  char id[32], url[64];
  cpool_ws_listen_options listen;
  cpool_ws_listen_options_init(&listen);
  listen.decide = CPOOL_OFF;
  dialer.options.max_handshakes = 3;
  manager_start();
  ws_listen(&listen);
  snprintf(url, sizeof url, "ws://127.0.0.1:%u/", fixture.port);
  dialer.connect.url = url;
  for (int i = 0; i < DIALS; i++) {
    snprintf(id, sizeof id, "dial-%d", i);
    dial_start(id);
  }
  for (int i = 0; i < 2 * DIALS; i++)
    ws_next(CPOOL_EVENT_WS_OPEN);
  cpool_ws_stats stats = ws_stats();
  assert_int_equal(stats.total_connections, 2 * DIALS);
  assert_int_equal(stats.dials, DIALS);
}

static void the_servers_close_is_heard(void **state)
{
  (void) state;
  cpool_conn conn;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  assert_true(ws_peer_send_close(peer, 4100, "good night"));
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 4100);
  assert_true(frame.masked);
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->reason, CPOOL_WS_BY_PEER);
  assert_int_equal(seen->close_code, 4100);
  assert_string_equal(seen->data, "good night");
  assert_int_equal(seen->status, CPOOL_OK);
  ws_peer_free(peer);
  peer = dial_open(&conn);
  assert_int_equal(cpool_ws_remove(fixture.ws, conn, 4000, "bye"), CPOOL_OK);
  frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 4000);
  assert_true(frame.masked);
  assert_true(ws_peer_send_close(peer, 4000, NULL));
  assert_int_equal(ws_next(CPOOL_EVENT_WS_CLOSED)->reason, CPOOL_WS_BY_CALLER);
  ws_peer_free(peer);
}

/* It closes, and reads nothing any more: not even the answer, for which there is no room. */
static void a_server_that_closes_and_does_not_read_is_cut(void **state)
{
  (void) state;
  enum { BYTES = 20000000 };
  cpool_conn conn;
  dialer.options.close_timeout_ms = 200;
  dialer.options.max_send_queue_bytes = BYTES;
  manager_start();
  struct ws_peer *peer = dial_open(&conn);
  char *payload = calloc(1, BYTES);
  assert_non_null(payload);
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_BINARY, payload, BYTES), CPOOL_OK);
  assert_true(ws_peer_send_close(peer, 1001, NULL));
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->reason, CPOOL_WS_BY_PEER);
  assert_int_equal(seen->close_code, 1001);
  free(payload);
  ws_peer_free(peer);
}

/* One place is taken by a dial that gets no answer; a second place lets the next one begin. */
static void a_new_place_is_taken_at_once(void **state)
{
  (void) state;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  dialer.options.max_handshakes = 1;
  dialer.options.handshake_timeout_ms = 10 * DEADLINE_MS;
  manager_start();
  dial_start("first");
  struct ws_peer *silent = server_accept(&(struct ws_accept_options){.answer = ""});
  dial_start("second");
  assert_int_equal(cpool_ws_options_get(fixture.ws, &options), CPOOL_OK);
  options.max_handshakes = 2;
  assert_int_equal(cpool_ws_reconfigure(fixture.ws, &options), CPOOL_OK);
  struct ws_peer *peer = server_accept(NULL);
  assert_string_equal(ws_next(CPOOL_EVENT_WS_OPEN)->id, "second");
  ws_peer_free(peer);
  ws_peer_free(silent);
}

static int group_setup(void **state)
{
  (void) state;
  certs = certs_new();
  return 0;
}

static int group_teardown(void **state)
{
  (void) state;
  certs_free(certs);
  return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, dial_setup, dial_teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {TEST(messages_go_both_ways),
                                     TEST(long_messages_are_masked_whole),
                                     TEST(the_request_says_what_it_shall),
                                     TEST(a_url_without_a_path_asks_for_the_root),
                                     TEST(ipv6_is_dialled_too),
                                     TEST(names_are_resolved_and_raced),
                                     TEST(certificates_are_judged),
                                     TEST(tls_is_told_a_name),
                                     TEST(a_server_may_ask_for_a_certificate),
                                     TEST(a_slow_server_gets_all_over_tls),
                                     TEST(a_server_without_tls_is_no_wss),
                                     TEST(bad_files_are_refused_at_once),
                                     TEST(a_refused_connect_says_so),
                                     TEST(the_address_policy_holds),
                                     TEST(answers_that_are_no_upgrade_have_their_status),
                                     TEST(garbage_is_no_answer),
                                     TEST(a_subprotocol_that_was_not_offered_is_refused),
                                     TEST(silence_ends_with_the_handshakes_time),
                                     TEST(the_handshakes_time_is_what_was_asked_for),
                                     TEST(a_host_that_does_not_answer_ends_it_too),
                                     TEST(a_real_proxy_makes_the_tunnel),
                                     TEST(proxies_that_misbehave_end_the_dial),
                                     TEST(nothing_behind_the_proxys_answer_is_lost),
                                     TEST(bad_options_are_refused),
                                     TEST(bad_name_servers_are_refused_with_the_manager),
                                     TEST(what_has_no_room_in_the_request_is_refused),
                                     TEST(an_id_is_taken_from_the_start),
                                     TEST(close_ends_dials_under_way),
                                     TEST(more_than_there_are_places_wait_for_one),
                                     TEST(a_new_place_is_taken_at_once),
                                     TEST(the_servers_close_is_heard),
                                     TEST(a_server_that_closes_and_does_not_read_is_cut)};
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
