/* proxy: requests go through the tunnel of the session's proxy, and everything that the pool promises holds there */
#include "proxy_fixture.h"

#include "support/process.h"

struct kind {
  const char *scheme;
  bool socks, tls;
};

static const struct kind kinds[] = {{"http", false, false},
                                    {"https", false, true},
                                    {"socks5", true, false},
                                    {"socks5h", true, false}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static cpool_session *start_kind(struct peer *f, const struct kind *kind)
{
  if (kind->tls)
    proxied_start_tls(f, &proxied_of(f)->certs->good, (struct fault_proxy_options){0});
  else
    proxied_start(f, (struct fault_proxy_options){.socks = kind->socks});
  return proxied_by(f, kind->scheme);
}

static void the_row_is(struct peer *f, const char *name, int64_t opened)
{
  cpool_origin_stats rows[8];
  uint64_t cursor = 0;
  int count = cpool_http_origins_get(f->pool, &cursor, rows, sizeof rows[0], 8);
  for (int i = 0; i < count; i++)
    if (strcmp(rows[i].origin, name) == 0) {
      assert_int_equal(rows[i].opened, opened);
      return;
    }
  fail_msg("no row %s", name);
}

/* ---- the way */

static void http_and_https_go_through_one_tunnel_each(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < KINDS; i++) {
    cpool_session *session = start_kind(f, &kinds[i]);
    struct fault_proxy *proxy = proxied_of(f)->proxy;
    for (int tls = 0; tls < 2; tls++) {
      uint64_t number = 0;
      const char *url = proxied_url(f, tls, "");
      const char *target = strstr(url, "a.test");
      for (int k = 0; k < 3; k++) {
        struct answer answer = proxied_ask(f, session, tls, "/ok");
        peer_is_200(answer, "hello");
        assert_int_equal(answer.info.reused, k > 0);
        if (k > 0)
          assert_int_equal(answer.info.connection, number);
        number = answer.info.connection;
        assert_string_equal(answer.info.remote_address, peer_text(f, "127.0.0.1:%u", fault_proxy_port(proxy)));
      }
      assert_int_equal(fault_proxy_tunnels(proxy), tls + 1);
      assert_int_equal(fault_proxy_accepted(proxy), tls + 1);
      assert_non_null(
          strstr(fault_proxy_asked(proxy), peer_text(f, "%s%s", kinds[i].socks ? "SOCKS5 " : "CONNECT ", target)));
      peer_await(f, idle_connections, tls + 1);
      the_row_is(f,
                 peer_text(f, "%s via %s://127.0.0.1:%u", url, kinds[i].socks ? "socks5h" : kinds[i].scheme,
                           fault_proxy_port(proxy)),
                 1);
    }
    cpool_session_free(session);
    peer_await(f, total_connections, 0);
    peer_await(f, closing_connections, 0);
  }
  cpool_http_stats stats = peer_stats(f);
  assert_int_equal(stats.dns_hits + stats.dns_misses, 0); /* a.test is the proxy's to look up, 127.0.0.1 nobody's */
  assert_int_equal(stats.failed, 0);
}

static void a_proxy_goes_by_its_name_and_is_looked_up_by_the_pool(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < KINDS; i++) {
    cpool_session_free(start_kind(f, &kinds[i]));
    uint64_t before = peer_stats(f).dns_hits + peer_stats(f).dns_misses;
    cpool_session_options options = proxied_options(f, kinds[i].scheme, "proxy.test");
    cpool_session *session = proxied_session(f, &options);
    for (int k = 0; k < 4; k++)
      peer_is_200(proxied_ask(f, session, k % 2, k < 2 ? "/ok" : "/close"), "hello");
    peer_is_200(proxied_ask(f, session, true, "/ok"), "hello"); /* a new connection on a used handle */
    assert_true(peer_stats(f).dns_hits + peer_stats(f).dns_misses > before);
    cpool_session_free(session);
    peer_await(f, total_connections, 0);
  }
}

/* Whichever of its addresses was reached, the connections are the same proxy's. */
static void a_proxy_of_many_addresses_is_raced_like_a_host(void **state)
{
  struct peer *f = *state;
  static const struct {
    const char *host, *address;
  } rows[] = {{"[::1]", "::1"}, {"six.test", "::1"}, {"both.test", "127.0.0.1"}};
  for (int i = 0; i < KINDS; i++)
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
      struct fault_proxy_options o = {.socks = kinds[i].socks, .address = rows[k].address};
      if (kinds[i].tls)
        proxied_start_tls(f, &proxied_of(f)->certs->good, o);
      else
        proxied_start(f, o);
      cpool_session_options options = proxied_options(f, kinds[i].scheme, rows[k].host);
      cpool_session *session = proxied_session(f, &options);
      for (int n = 0; n < 6; n++) {
        struct answer answer = proxied_ask(f, session, n % 2, n < 4 ? "/ok" : "/close");
        if (kinds[i].tls && rows[k].host[0] == '[' && answer.status == CPOOL_ETLS_VERIFY)
          break; /* libcurl 7 looks for a name there */
        peer_is_200(answer, "hello");
        assert_int_equal(answer.info.reused, n >= 2);
        assert_non_null(strstr(answer.info.remote_address, rows[k].address));
      }
      cpool_session_free(session);
      peer_await(f, total_connections, 0);
      peer_await(f, closing_connections, 0);
    }
}

static void addresses_as_hosts_are_told_as_such(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < KINDS; i++) {
    cpool_session *session = start_kind(f, &kinds[i]);
    const char *url = peer_text(f, "http://127.0.0.7:%u/ok", fault_server_port(f->server));
    peer_is_200(peer_ask(f, &(struct ask){.session = session, .url = url}), "hello");
    assert_non_null(strstr(fault_proxy_asked(proxied_of(f)->proxy), " 127.0.0.7:"));
    url = peer_text(f, "http://[2001:db8::7]:%u/ok", fault_server_port(f->server));
    peer_is_200(peer_ask(f, &(struct ask){.session = session, .url = url}), "hello");
    assert_non_null(strstr(fault_proxy_asked(proxied_of(f)->proxy), "2001:db8::7"));
    cpool_session_free(session);
  }
}

static void many_requests_share_the_tunnels_that_the_limits_allow(void **state)
{
  struct peer *f = *state;
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.max_connections_per_host = 3;
  proxied_open_pool(f, &options);
  for (int i = 0; i < KINDS; i++) {
    cpool_session *session = start_kind(f, &kinds[i]);
    for (int k = 0; k < 200; k++)
      peer_start(f, &(struct ask){.session = session, .url = proxied_url(f, k % 2, "/bytes/20000")});
    for (int k = 0; k < 200; k++) {
      struct answer answer = peer_next(f);
      peer_is(answer, CPOOL_OK);
      peer_is_pattern(&answer, 20000);
    }
    assert_in_range(fault_proxy_accepted(proxied_of(f)->proxy), 2, 6);
    cpool_session_free(session);
  }
}

static void an_option_of_one_host_holds_behind_a_proxy(void **state)
{
  struct peer *f = *state;
  cpool_session *session = start_kind(f, &kinds[0]);
  peer_is_200(proxied_ask(f, session, false, "/ok"), "hello");
  const char *host = proxied_url(f, false, "");
  assert_int_equal(cpool_http_origin_set(f->pool, host, "max_requests_per_connection", "1"), CPOOL_OK);
  peer_await(f, total_connections, 0); /* the idle one has carried its number already */
  for (int i = 0; i < 3; i++)
    assert_int_equal(proxied_ask(f, session, false, "/ok").info.reused, 0);
  assert_int_equal(fault_proxy_tunnels(proxied_of(f)->proxy), 4);
  cpool_session_free(session);
}

/* ---- credentials and headers */

static void credentials_of_each_side_stay_there(void **state)
{
  struct peer *f = *state;
  static const char user[] = "us%r @", password[] = "p:a%00ss/\303\244?";
  for (int i = 0; i < KINDS; i++) {
    struct fault_proxy_options o = {.socks = kinds[i].socks, .user = user, .password = password};
    if (kinds[i].tls)
      proxied_start_tls(f, &proxied_of(f)->certs->good, o);
    else
      proxied_start(f, o);
    cpool_session_options options = proxied_options(f, kinds[i].scheme, "127.0.0.1");
    options.proxy_username = user;
    options.proxy_password = password;
    options.username = "origin";
    options.password = "secret";
    cpool_session *session = proxied_session(f, &options);
    const cpool_header header = {"X-Private", "of the host"};
    for (int k = 0; k < 4; k++) { /* twice on a new connection of a used handle */
      peer_is_200(peer_ask(f, &(struct ask){.session = session,
                                            .url = proxied_url(f, k % 2, "/close"),
                                            .headers = &header,
                                            .header_count = 1}),
                  "hello");
      const char *asked = fault_proxy_asked(proxied_of(f)->proxy);
      assert_null(strstr(asked, "\r\nAuthorization"));
      assert_null(strstr(asked, "X-Private"));
      assert_null(strstr(asked, "User-Agent"));
      char *head = fault_server_last_head(k % 2 ? proxied_of(f)->secure : f->server);
      assert_non_null(strstr(head, "\r\nAuthorization: Basic b3JpZ2luOnNlY3JldA==\r\n"));
      assert_non_null(strstr(head, "X-Private"));
      assert_null(strstr(head, "Proxy-"));
      free(head);
    }
    if (kinds[i].socks)
      assert_non_null(strstr(fault_proxy_asked(proxied_of(f)->proxy), password));
    cpool_session_free(session);
  }
}

static void a_header_for_the_proxy_is_refused(void **state)
{
  struct peer *f = *state;
  const cpool_header header = {"Proxy-Authorization", "Basic eDp5"};
  cpool_request request = peer_request(f, &(struct ask){.url = "/ok", .headers = &header, .header_count = 1});
  cpool_response *resp = NULL;
  assert_int_equal(cpool_perform(cpool_http_session(f->pool), &request, &resp), CPOOL_EINVAL);
  assert_null(resp);
}

/* ---- what holds without a proxy holds with one */

static void an_end_of_an_idle_tunnel_is_noticed(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < KINDS; i++) {
    cpool_session *session = start_kind(f, &kinds[i]);
    uint64_t closed = peer_stats(f).closed_peer;
    peer_is_200(proxied_ask(f, session, false, "/ok"), "hello");
    peer_is_200(proxied_ask(f, session, true, "/ok"), "hello");
    peer_await(f, idle_connections, 2);
    fault_proxy_drop_all(proxied_of(f)->proxy);
    peer_await(f, closed_peer, (int64_t) closed + 2);
    peer_await(f, closing_connections, 0);
    peer_is_200(proxied_post(f, session, false, "/ok"), "hello");
    peer_is_200(proxied_post(f, session, true, "/ok"), "hello");
    cpool_session_free(session);
    peer_await(f, total_connections, 0);
  }
}

static void not_poisoned(struct peer *f, cpool_session *session, bool tls, const char *path)
{
  for (int i = 0; i < 2; i++) {
    struct answer answer = proxied_ask(f, session, tls, path);
    peer_is(answer, CPOOL_OK);
    assert_string_equal(answer.body, "hello");
  }
  peer_is_200(proxied_ask(f, session, tls, "/ok"), "hello");
}

static void bytes_behind_an_answer_are_nobody_s_answer(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < KINDS; i++) {
    cpool_session *session = start_kind(f, &kinds[i]);
    not_poisoned(f, session, false, "/extra-bytes");
    not_poisoned(f, session, true, "/extra-bytes");
    cpool_session_free(session);
  }
}

/* Two records of the host in one of the proxy: the second is decrypted already on the outside, and still a record on the
 * inside. */
static void records_behind_an_answer_within_tls_are_nobody_s_answer(void **state)
{
  struct peer *f = *state;
  proxied_start_tls(f, &proxied_of(f)->certs->good, (struct fault_proxy_options){.collect_ms = 300});
  cpool_session *session = proxied_by(f, "https");
  char whole[64];
  snprintf(whole, sizeof whole, "/extra-record/%zu", strlen("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"));
  not_poisoned(f, session, true, whole);
  not_poisoned(f, session, true, "/extra-record");
  assert_true(peer_stats(f).closed_unsolicited > 0);
  cpool_session_free(session);
}

static void bytes_on_an_idle_tunnel_end_it(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < KINDS; i++) {
    cpool_session *session = start_kind(f, &kinds[i]);
    peer_is_200(proxied_ask(f, session, false, "/poison"), "hello");
    peer_await(f, idle_connections, 1);
    assert_int_equal(fault_server_poison(f->server), 1);
    peer_await(f, total_connections, 0);
    peer_is_200(proxied_ask(f, session, false, "/ok"), "hello");
    cpool_session_free(session);
    peer_await(f, total_connections, 0);
  }
}

static void the_replay_guard_holds(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < KINDS; i++)
    for (int tls = 0; tls < 2; tls++) {
      cpool_session *session = start_kind(f, &kinds[i]);
      struct fault_server *host = tls ? proxied_of(f)->secure : f->server;
      peer_is_200(proxied_ask(f, session, tls, "/reset-on-reuse"), "hello");
      int64_t before = peer_counts(host).by_method[FAULT_POST];
      struct answer answer = proxied_post(f, session, tls, "/ok");
      assert_true(answer.status == CPOOL_ERESET || answer.status == CPOOL_OK);
      assert_int_equal(peer_counts(host).by_method[FAULT_POST], before + 1);
      peer_is_200(proxied_ask(f, session, tls, "/reset-on-reuse"), "hello");
      peer_is_200(proxied_ask(f, session, tls, "/ok"), "hello");
      cpool_session_free(session);
    }
}

static void bytes_are_counted_without_those_of_the_tunnel(void **state)
{
  struct peer *f = *state;
  cpool_session *session = start_kind(f, &kinds[0]);
  struct answer first = proxied_ask(f, session, false, "/ok"), second = proxied_ask(f, session, false, "/ok");
  assert_int_equal(first.info.reused, 0);
  assert_int_equal(second.info.reused, 1);
  assert_int_equal(first.info.bytes_sent, second.info.bytes_sent);
  assert_int_equal(first.info.bytes_received, second.info.bytes_received);
  cpool_session_free(session);
}

/* Writes PIECES of PIECE_BYTES, each of one letter, as the stream lets it, and reads them back. */
static void bodies_stream_through_a_tunnel_both_ways(void **state)
{
  struct peer *f = *state;
  enum { PIECES = 40, PIECE_BYTES = 10000, KEPT = 2 };
  for (int i = 0; i < KINDS; i++)
    for (int tls = 0; tls < 2; tls++) {
      cpool_session *session = start_kind(f, &kinds[i]);
      cpool_request request = peer_request(f, &(struct ask){.url = proxied_url(f, tls, "/echo")});
      char piece[PIECE_BYTES];
      const cpool_event *kept[KEPT] = {0};
      int written = 0, heads = 0, events = 0;
      size_t got = 0;
      bool writable = true, over = false;
      cpool_op op = 0;
      request.flags = CPOOL_REQUEST_STREAM | CPOOL_REQUEST_UPLOAD;
      request.queue = f->queue;
      assert_int_equal(cpool_submit(session, &request, &op), CPOOL_OK);
      while (!over) {
        while (writable && written < PIECES) {
          memset(piece, 'a' + written % 26, sizeof piece);
          int rc = cpool_body_write(f->pool, op, piece, sizeof piece, written == PIECES - 1);
          assert_true(rc == CPOOL_OK || rc == CPOOL_EAGAIN);
          written += rc == CPOOL_OK;
          writable = rc == CPOOL_OK;
        }
        const cpool_event *event = NULL;
        assert_int_equal(cpool_queue_wait(f->queue, &event, 1, PEER_DEADLINE_MS), 1);
        if (event->kind == CPOOL_EVENT_WRITABLE) {
          writable = true;
        } else if (event->kind == CPOOL_EVENT_HEAD) {
          heads++;
        } else if (event->kind == CPOOL_EVENT_BODY) {
          for (size_t k = 0; k < event->len; k++, got++)
            assert_int_equal(((const char *) event->data)[k], 'a' + (int) (got / PIECE_BYTES) % 26);
        } else {
          assert_int_equal(event->status, CPOOL_OK);
          over = true;
        }
        /* a consumer that is behind: some are released late */
        if (kept[events % KEPT] != NULL)
          cpool_queue_release(f->queue, &kept[events % KEPT], 1);
        kept[events++ % KEPT] = event;
      }
      for (int k = 0; k < KEPT; k++)
        if (kept[k] != NULL)
          cpool_queue_release(f->queue, &kept[k], 1);
      assert_int_equal(written, PIECES);
      assert_int_equal(heads, 1);
      assert_int_equal(got, PIECES * PIECE_BYTES);
      peer_is_200(proxied_ask(f, session, tls, "/ok"), "hello");
      assert_int_equal(fault_proxy_accepted(proxied_of(f)->proxy), 1);
      cpool_session_free(session);
    }
}

/* All streams of a host share one tunnel, and a host without TLS has its own as before. */
static void http_2_goes_through_one_tunnel(void **state)
{
  struct peer *f = *state;
  enum { STREAMS = 60 };
  struct process *nginx =
      nginx_start(&(struct nginx_options){.certs = proxied_of(f)->certs, .http2 = true, .keepalive_requests = 100000});
  assert_non_null(nginx);
  for (int i = 0; i < KINDS; i++) {
    cpool_session_free(start_kind(f, &kinds[i]));
    cpool_session_options options = proxied_options(f, kinds[i].scheme, "127.0.0.1");
    options.http_version = CPOOL_HTTP_2;
    cpool_session *session = proxied_session(f, &options);
    for (int k = 0; k < STREAMS; k++)
      peer_start(f, &(struct ask){.session = session,
                                  .url = peer_text(f, "https://127.0.0.1:%u/%s", (unsigned) process_tls_port(nginx),
                                                   k % 4 ? "ok" : "big")});
    for (int k = 0; k < STREAMS; k++) {
      struct answer answer = peer_next(f);
      peer_is(answer, CPOOL_OK);
      assert_int_equal(answer.info.http_version, 20);
      if (answer.len > 100)
        peer_is_pattern(&answer, 1024 * 1024);
    }
    assert_int_equal(fault_proxy_tunnels(proxied_of(f)->proxy), 1);
    struct answer plain = proxied_ask(f, session, false, "/ok");
    peer_is_200(plain, "hello");
    assert_int_equal(plain.info.http_version, 11);
    fault_proxy_drop_all(proxied_of(f)->proxy);
    peer_await(f, total_connections, 0);
    peer_await(f, closing_connections, 0);
    cpool_session_free(session);
  }
  process_stop(nginx);
}

/* ---- without proxy */

static void hosts_of_no_proxy_are_reached_directly(void **state)
{
  struct peer *f = *state;
  proxied_start(f, (struct fault_proxy_options){0});
  cpool_session_options options = proxied_options(f, "http", "127.0.0.1");
  options.no_proxy = "other.test, proxy.test";
  cpool_session *session = proxied_session(f, &options);
  const char *direct = peer_text(f, "http://proxy.test:%u/ok", fault_server_port(f->server));
  for (int i = 0; i < 4; i++) { /* in turn on one handle */
    peer_is_200(peer_ask(f, &(struct ask){.session = session, .url = direct}), "hello");
    peer_is_200(proxied_ask(f, session, false, "/ok"), "hello");
    assert_int_equal(fault_proxy_accepted(proxied_of(f)->proxy), 1);
  }
  assert_int_equal(peer_stats(f).opened, 2);
  cpool_session_free(session);
}

/* By tunnel to a.test, directly to 127.0.0.1, by another tunnel to https. */
static void each_redirect_takes_the_way_of_its_host(void **state)
{
  struct peer *f = *state;
  struct fault_proxy *proxy = proxied_start(f, (struct fault_proxy_options){0});
  cpool_session_options options = proxied_options(f, "http", "127.0.0.1");
  options.no_proxy = "127.0.0.1";
  options.max_redirects = 3;
  cpool_session *session = proxied_session(f, &options);
  const char *const to[] = {peer_text(f, "http://127.0.0.1:%u/b", fault_server_port(f->server)),
                            proxied_url(f, true, "/ok")};
  static const char *const from[] = {"/a", "/b"};
  for (int i = 0; i < 2; i++)
    fault_server_answer(f->server, from[i],
                        peer_text(f, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", to[i]));
  struct answer answer = proxied_ask(f, session, false, "/a");
  peer_is_200(answer, "hello");
  assert_int_equal(answer.info.redirects, 2);
  assert_string_equal(cpool_response_url(answer.resp), to[1]);
  assert_int_equal(fault_proxy_tunnels(proxy), 2);
  assert_int_equal(peer_counts(f->server).accepted, 2); /* one by the tunnel */
  cpool_session_free(session);
}

/* ---- the environment */

static void clear_environment(void)
{
  static const char *const names[] = {"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY",
                                      "all_proxy",  "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    unsetenv(names[i]);
}

static int environment_teardown(void **state)
{
  clear_environment();
  return proxied_teardown(state);
}

static int64_t tunnels_after(struct peer *f, bool tls, int32_t from_env)
{
  struct fault_proxy *proxy = proxied_of(f)->proxy;
  int64_t before = fault_proxy_tunnels(proxy);
  cpool_session_options options;
  cpool_session_options_init(&options);
  options.ca_file = proxied_of(f)->certs->ca_file;
  options.proxy_from_env = from_env;
  cpool_session *session = proxied_session(f, &options);
  const char *url = peer_text(f, "%s://127.0.0.1:%u/ok", tls ? "https" : "http",
                              fault_server_port(tls ? proxied_of(f)->secure : f->server));
  peer_is_200(peer_ask(f, &(struct ask){.session = session, .url = url}), "hello");
  cpool_session_free(session);
  return fault_proxy_tunnels(proxy) - before;
}

static void the_environment_is_read_when_asked_alone(void **state)
{
  struct peer *f = *state;
  struct fault_proxy *proxy = proxied_start(f, (struct fault_proxy_options){.user = "me", .password = "a@b"});
  char url[80], bare[80];
  snprintf(url, sizeof url, "http://me:a%%40b@127.0.0.1:%u/", (unsigned) fault_proxy_port(proxy));
  snprintf(bare, sizeof bare, "me:a%%40b@127.0.0.1:%u", (unsigned) fault_proxy_port(proxy));
  static const struct {
    const char *name;
    int http, https;
  } rows[] = {
      {"http_proxy", 1, 0}, {"HTTP_PROXY", 0, 0}, {"https_proxy", 0, 1}, {"HTTPS_PROXY", 0, 1},
      {"all_proxy", 1, 1},  {"ALL_PROXY", 1, 1},  {"no_proxy", 0, 0},
  };
  clear_environment();
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    setenv(rows[i].name, strcmp(rows[i].name, "no_proxy") == 0 ? "a.test" : i % 2 ? bare : url, 1);
    assert_int_equal(tunnels_after(f, false, 0), 0);
    assert_int_equal(tunnels_after(f, true, CPOOL_OFF), 0);
    assert_int_equal(tunnels_after(f, false, 1), rows[i].http);
    assert_int_equal(tunnels_after(f, true, 1), rows[i].https);
    setenv("NO_PROXY", "a.test,127.0.0.0/8", 1);
    assert_int_equal(tunnels_after(f, false, 1), 0);
    setenv("no_proxy", "a.test", 1); /* before the other */
    assert_int_equal(tunnels_after(f, false, 1), rows[i].http);
    clear_environment();
    setenv(rows[i].name, "", 1);
    assert_int_equal(tunnels_after(f, true, 1), 0);
    clear_environment();
  }
}

static void a_variable_that_cannot_be_used_is_named_and_not_shown(void **state)
{
  struct peer *f = *state;
  static const char *const bad[] = {"ftp://u:hidden@127.0.0.1:1",
                                    "http://u:hidden/x@127.0.0.1:1",
                                    "u:hidden@",
                                    "http://u:hidden@host name",
                                    "http://u:%zzhidden@127.0.0.1",
                                    "http://u:hidden@h:99999",
                                    "http://u:hidden@h/path",
                                    "u:hid\1den@h",
                                    "socks4://u:hidden@h"};
  cpool_session_options options;
  cpool_session_options_init(&options);
  options.proxy_from_env = 1;
  clear_environment();
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    cpool_session *session = NULL;
    cpool_error error;
    cpool_error_init(&error);
    setenv("https_proxy", bad[i], 1);
    assert_int_equal(cpool_session_new(&session, f->pool, &options), CPOOL_EINVAL);
    assert_null(session);
    assert_int_equal(cpool_last_error(&error), CPOOL_OK);
    assert_non_null(strstr(error.text, "environment variable https_proxy"));
    assert_null(strstr(error.text, "hid"));
  }
  clear_environment();
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  setenv("no_proxy", "10.0.0.0/33", 1);
  cpool_session *session = NULL;
  assert_int_equal(cpool_session_new(&session, f->pool, &options), CPOOL_EINVAL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      proxied_case(http_and_https_go_through_one_tunnel_each),
      proxied_case(a_proxy_goes_by_its_name_and_is_looked_up_by_the_pool),
      proxied_case(a_proxy_of_many_addresses_is_raced_like_a_host),
      proxied_case(addresses_as_hosts_are_told_as_such),
      proxied_case(many_requests_share_the_tunnels_that_the_limits_allow),
      proxied_case(an_option_of_one_host_holds_behind_a_proxy),
      proxied_case(credentials_of_each_side_stay_there),
      proxied_case(a_header_for_the_proxy_is_refused),
      proxied_case(an_end_of_an_idle_tunnel_is_noticed),
      proxied_case(bytes_behind_an_answer_are_nobody_s_answer),
      proxied_case(records_behind_an_answer_within_tls_are_nobody_s_answer),
      proxied_case(bytes_on_an_idle_tunnel_end_it),
      proxied_case(the_replay_guard_holds),
      proxied_case(bytes_are_counted_without_those_of_the_tunnel),
      proxied_case(bodies_stream_through_a_tunnel_both_ways),
      proxied_case(http_2_goes_through_one_tunnel),
      proxied_case(hosts_of_no_proxy_are_reached_directly),
      proxied_case(each_redirect_takes_the_way_of_its_host),
      cmocka_unit_test_setup_teardown(the_environment_is_read_when_asked_alone, proxied_setup, environment_teardown),
      cmocka_unit_test_setup_teardown(a_variable_that_cannot_be_used_is_named_and_not_shown, proxied_setup,
                                      environment_teardown),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
