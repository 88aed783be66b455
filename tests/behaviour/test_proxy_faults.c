/* proxy_faults: a proxy that refuses, hangs, lies or goes away costs the request a clear status and nothing else */
#include "proxy_fixture.h"

#include <unistd.h>

static cpool_session *behind(struct peer *f, const char *scheme, struct fault_proxy_options options)
{
  options.socks = strncmp(scheme, "socks", 5) == 0;
  if (strcmp(scheme, "https") == 0)
    proxied_start_tls(f, &proxied_of(f)->certs->good, options);
  else
    proxied_start(f, options);
  return proxied_by(f, scheme);
}

static void is_proxy_failure_at(struct answer answer, int native, int flags, const char *text, const char *file,
                                int line)
{
  peer_is_at(answer, CPOOL_EPROXY, file, line);
  _assert_int_equal((uint64_t) answer.error.layer, CPOOL_LAYER_CONNECT, file, line);
  _assert_int_equal((uint64_t) answer.error.native, (uint64_t) native, file, line);
  _assert_int_equal((uint64_t) answer.error.flags, (uint64_t) (flags | CPOOL_ERROR_NOTHING_SENT), file, line);
  _assert_int_equal((uint64_t) answer.code, 0, file, line);
  _assert_int_equal(answer.info.bytes_sent, 0, file, line);
  _assert_int_equal(answer.info.bytes_received, 0, file, line);
  if (strstr(answer.error.text, text) == NULL || strstr(answer.error.text, " via ") == NULL)
    fail_msg("%s:%d: \"%s\" does not say \"%s\" and by which proxy", file, line, answer.error.text, text);
}

#define is_proxy_failure(answer, native, flags, text)                                                                  \
  is_proxy_failure_at(answer, native, flags, text, __FILE__, __LINE__)

static void nothing_is_left(struct peer *f)
{
  peer_await(f, total_connections, 0);
  peer_await(f, closing_connections, 0);
  assert_int_equal(fault_server_requests(f->server) + fault_server_requests(proxied_of(f)->secure), 0);
}

/* ---- it says no */

static void a_refused_tunnel_has_the_status_of_the_proxy(void **state)
{
  struct peer *f = *state;
  static const int codes[] = {100, 199, 302, 400, 403, 404, 407, 500, 502, 503, 504, 999};
  for (int tls = 0; tls < 2; tls++)
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
      cpool_session *session = behind(f, i % 3 ? "http" : "https",
                                      (struct fault_proxy_options){.behaviour = PROXY_REFUSES, .code = codes[i]});
      char text[32];
      snprintf(text, sizeof text, "HTTP %d", codes[i]);
      is_proxy_failure(proxied_post(f, session, tls, "/ok"), codes[i], codes[i] >= 500 ? CPOOL_ERROR_RETRIABLE : 0,
                       text);
      assert_int_equal(fault_proxy_accepted(proxied_of(f)->proxy), 1);
      cpool_session_free(session);
      nothing_is_left(f);
    }
}

static void a_refusal_of_socks_has_its_reply(void **state)
{
  struct peer *f = *state;
  for (int code = 1; code <= 8; code++) {
    cpool_session *session =
        behind(f, "socks5", (struct fault_proxy_options){.behaviour = PROXY_REFUSES, .code = code});
    bool again = code == 1 || (code >= 3 && code <= 6);
    is_proxy_failure(proxied_post(f, session, code % 2, "/ok"), code, again ? CPOOL_ERROR_RETRIABLE : 0, "SOCKS5");
    cpool_session_free(session);
    nothing_is_left(f);
  }
}

static void wrong_credentials_are_told_and_not_shown(void **state)
{
  struct peer *f = *state;
  static const char *const schemes[] = {"http", "https", "socks5"};
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 2; k++) {
      cpool_session_free(behind(f, schemes[i], (struct fault_proxy_options){.user = "user", .password = "right"}));
      cpool_session_options options = proxied_options(f, schemes[i], "127.0.0.1");
      if (k > 0) {
        options.proxy_username = "user";
        options.proxy_password = "hidden";
      }
      cpool_session *session = proxied_session(f, &options);
      struct answer answer = proxied_ask(f, session, k, "/ok");
      is_proxy_failure(answer, i < 2 ? 407 : 0, 0, "proxy");
      assert_null(strstr(answer.error.text, "hidden"));
      assert_null(strstr(answer.error.text, "right"));
      cpool_session_free(session);
      nothing_is_left(f);
    }
}

static void nothing_but_basic_is_ever_tried(void **state)
{
  struct peer *f = *state;
  static const char *const challenges[] = {"NTLM", "Negotiate", "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256",
                                           "Bearer", "NTLM TlRMTVNTUAACAAAADAAMADgAAAA1goriAAAAAA=="};
  for (size_t i = 0; i < sizeof challenges / sizeof *challenges; i++)
    for (int k = 0; k < 2; k++) {
      proxied_start(f,
                    (struct fault_proxy_options){.behaviour = PROXY_REFUSES, .code = 407, .challenge = challenges[i]});
      cpool_session_options options = proxied_options(f, "http", "127.0.0.1");
      options.proxy_username = k ? "domain\\user" : NULL;
      options.proxy_password = k ? "password" : NULL;
      cpool_session *session = proxied_session(f, &options);
      is_proxy_failure(proxied_ask(f, session, i % 2, "/ok"), 407, 0, "HTTP 407");
      const char *asked = fault_proxy_asked(proxied_of(f)->proxy);
      const char *sent = strstr(asked, "Proxy-Authorization: ");
      assert_int_equal(sent != NULL, k);
      assert_true(sent == NULL || strncmp(sent, "Proxy-Authorization: Basic ", 27) == 0);
      assert_int_equal(fault_proxy_accepted(proxied_of(f)->proxy), 1); /* no second round */
      cpool_session_free(session);
      nothing_is_left(f);
    }
}

/* ---- it does not say yes */

static void a_proxy_that_breaks_off_is_no_answer(void **state)
{
  struct peer *f = *state;
  static const char *const schemes[] = {"http", "https", "socks5"};
  static const enum fault_proxy_behaviour kinds[] = {PROXY_GARBAGE, PROXY_CLOSES, PROXY_RESETS, PROXY_CLOSES_MIDWAY};
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 4; k++)
      for (int tls = 0; tls < 2; tls++) {
        cpool_session *session = behind(f, schemes[i], (struct fault_proxy_options){.behaviour = kinds[k]});
        struct answer answer = proxied_post(f, session, tls, "/ok");
        if (i == 2 && kinds[k] == PROXY_GARBAGE)
          is_proxy_failure(answer, 0, 0, "version");
        else
          is_proxy_failure(answer, 0, CPOOL_ERROR_RETRIABLE, "");
        assert_int_equal(fault_proxy_accepted(proxied_of(f)->proxy), 1);
        cpool_session_free(session);
        nothing_is_left(f);
      }
}

static void a_proxy_that_hangs_meets_the_connect_timeout(void **state)
{
  struct peer *f = *state;
  static const char *const schemes[] = {"http", "https", "socks5"};
  for (int i = 0; i < 3; i++) {
    cpool_session *session = behind(f, schemes[i], (struct fault_proxy_options){.behaviour = PROXY_SILENT});
    struct answer answer =
        peer_ask(f, &(struct ask){.session = session, .url = proxied_url(f, i % 2, "/ok"), .connect_ms = 200});
    peer_is(answer, CPOOL_ETIMEOUT_CONNECT);
    assert_true(answer.took_ms >= 200);
    assert_non_null(strstr(answer.error.text, "proxy's tunnel"));
    assert_true((answer.error.flags & CPOOL_ERROR_NOTHING_SENT) != 0);
    assert_int_equal(answer.info.bytes_sent, 0);
    cpool_session_free(session);
    nothing_is_left(f);
  }
}

static void endless_answers_are_cut_off(void **state)
{
  struct peer *f = *state;
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.max_header_bytes = 2000;
  proxied_open_pool(f, &options);
  for (int tls = 0; tls < 2; tls++) {
    cpool_session *session = behind(f, "http", (struct fault_proxy_options){.behaviour = PROXY_ENDLESS_HEADERS});
    is_proxy_failure(proxied_ask(f, session, tls, "/ok"), 200, 0, "max_header_bytes (2000)");
    cpool_session_free(session);
    session = behind(f, "http", (struct fault_proxy_options){.behaviour = PROXY_ENDLESS_LINE});
    is_proxy_failure(proxied_ask(f, session, tls, "/ok"), 200, 0, "max_header_bytes (2000)");
    cpool_session_free(session);
    session = behind(f, "http", (struct fault_proxy_options){.behaviour = PROXY_ENDLESS_BODY});
    is_proxy_failure(proxied_ask(f, session, tls, "/ok"), 407, 0, "HTTP 407");
    cpool_session_free(session);
    nothing_is_left(f);
  }
}

static void what_a_proxy_says_of_a_length_is_not_believed(void **state)
{
  struct peer *f = *state;
  cpool_session *session = behind(f, "http", (struct fault_proxy_options){.behaviour = PROXY_TALKS_ON});
  struct answer secure = proxied_ask(f, session, true, "/ok"), plain = proxied_ask(f, session, false, "/ok");
  peer_is(secure, CPOOL_ETLS_HANDSHAKE); /* "early" is the host's first word then, and no handshake */
  assert_int_not_equal(plain.status, CPOOL_OK);
  assert_int_equal(plain.code, 0);
  cpool_session_free(session);
}

static void a_tunnel_that_ends_at_once_is_the_host_s_failure(void **state)
{
  struct peer *f = *state;
  static const char *const schemes[] = {"http", "https", "socks5"};
  for (int i = 0; i < 3; i++) {
    cpool_session *session = behind(f, schemes[i], (struct fault_proxy_options){.behaviour = PROXY_CLOSES_TUNNEL});
    struct answer secure = proxied_post(f, session, true, "/ok"), plain = proxied_post(f, session, false, "/ok");
    peer_is(secure, CPOOL_ETLS_HANDSHAKE);
    assert_true((secure.error.flags & CPOOL_ERROR_NOTHING_SENT) != 0);
    peer_is(plain, CPOOL_ERESET);
    cpool_session_free(session);
    nothing_is_left(f);
  }
}

/* ---- it cannot be reached, or not be trusted */

static void a_proxy_that_cannot_be_reached_is_named(void **state)
{
  struct peer *f = *state;
  uint16_t port;
  int fd = refusing_port_open(&port);
  const struct {
    const char *proxy;
    int status;
  } rows[] = {
      {peer_text(f, "http://127.0.0.1:%u", port), CPOOL_ECONNECT},
      {peer_text(f, "socks5://proxy.test:%u", port), CPOOL_ECONNECT},
      {"https://nowhere.test:3128", CPOOL_EDNS_FAILED},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    cpool_session_options options;
    cpool_session_options_init(&options);
    options.proxy = rows[i].proxy;
    cpool_session *session = proxied_session(f, &options);
    struct answer answer = proxied_ask(f, session, i % 2, "/ok");
    peer_is(answer, rows[i].status);
    assert_int_equal(strncmp(answer.error.text, "proxy ", 6), 0);
    cpool_session_free(session);
  }
  close(fd);
  nothing_is_left(f);
}

static void an_https_proxy_is_verified_whatever_the_hosts_are(void **state)
{
  struct peer *f = *state;
  struct certs *certs = proxied_of(f)->certs;
  const struct cert_pair *wrong[] = {&certs->wrong_name, &certs->expired, &certs->self_signed};
  for (int verify = 0; verify < 2; verify++)
    for (int i = 0; i < 3; i++) {
      proxied_start_tls(f, wrong[i], (struct fault_proxy_options){0});
      cpool_session_options options = proxied_options(f, "https", "127.0.0.1");
      options.tls_verify = verify ? 1 : CPOOL_OFF;
      cpool_session *session = proxied_session(f, &options);
      struct answer answer = proxied_ask(f, session, i % 2, "/ok");
      peer_is(answer, CPOOL_ETLS_VERIFY);
      assert_int_equal(answer.error.layer, CPOOL_LAYER_TLS);
      assert_int_equal(answer.error.flags, CPOOL_ERROR_NOTHING_SENT);
      assert_non_null(strstr(answer.error.text, "proxy https://127.0.0.1:"));
      cpool_session_free(session);
    }
  /* by its name, which is not that of any address of it */
  proxied_start_tls(f, &certs->wrong_name, (struct fault_proxy_options){0});
  cpool_session_options options = proxied_options(f, "https", "proxy.test");
  cpool_session *session = proxied_session(f, &options);
  peer_is(proxied_ask(f, session, true, "/ok"), CPOOL_ETLS_VERIFY);
  cpool_session_free(session);
  nothing_is_left(f);
}

static void a_plain_proxy_taken_for_an_https_one_fails_the_handshake(void **state)
{
  struct peer *f = *state;
  proxied_start(f, (struct fault_proxy_options){.behaviour = PROXY_GARBAGE, .socks = true});
  cpool_session *session = proxied_by(f, "https");
  struct answer answer =
      peer_ask(f, &(struct ask){.session = session, .url = proxied_url(f, false, "/ok"), .connect_ms = 3000});
  assert_true(answer.status == CPOOL_ETLS_HANDSHAKE || answer.status == CPOOL_EPROXY);
  cpool_session_free(session);
}

static void a_pin_is_about_the_host(void **state)
{
  struct peer *f = *state;
  struct certs *certs = proxied_of(f)->certs;
  proxied_start_tls(f, &certs->good, (struct fault_proxy_options){0});
  cpool_session_options options = proxied_options(f, "https", "127.0.0.1");
  options.pinned_public_key = certs->expired.pin;
  cpool_session *session = proxied_session(f, &options);
  struct answer answer = proxied_ask(f, session, true, "/ok");
  peer_is(answer, CPOOL_ETLS_VERIFY);
  assert_non_null(strstr(answer.error.text, "pinned_public_key"));
  peer_is_200(proxied_ask(f, session, false, "/ok"), "hello");
  cpool_session_free(session);
}

/* ---- policy */

static void the_public_policy_judges_the_proxy_and_addresses_in_urls(void **state)
{
  struct peer *f = *state;
  proxied_start(f, (struct fault_proxy_options){0});
  for (int i = 0; i < 2; i++) {
    cpool_session_options options = proxied_options(f, "http", i ? "proxy.test" : "127.0.0.1");
    options.address_policy = CPOOL_ADDRESS_PUBLIC;
    cpool_session *session = proxied_session(f, &options);
    struct answer answer = proxied_ask(f, session, false, "/ok");
    peer_is(answer, CPOOL_EADDRESS);
    assert_int_equal(strncmp(answer.error.text, "proxy ", 6), 0);
    answer = peer_ask(f, &(struct ask){.session = session, .url = "http://169.254.169.254/latest"});
    peer_is(answer, CPOOL_EADDRESS);
    assert_int_equal(strncmp(answer.error.text, "http://169.254.169.254:80 via ", 30), 0);
    cpool_session_free(session);
  }
  assert_int_equal(fault_proxy_accepted(proxied_of(f)->proxy), 0);
}

/* ---- the caller gives up */

static bool one_has_come(void *ctx)
{
  return fault_proxy_accepted(proxied_of(ctx)->proxy) > 0;
}

static void a_tunnel_in_the_making_can_be_cancelled_and_closed(void **state)
{
  struct peer *f = *state;
  static const char *const schemes[] = {"http", "https", "socks5"};
  for (int i = 0; i < 6; i++) {
    cpool_session *session = behind(f, schemes[i % 3], (struct fault_proxy_options){.behaviour = PROXY_SILENT});
    cpool_op op = peer_start(f, &(struct ask){.session = session, .url = proxied_url(f, i % 2, "/ok")});
    assert_true(wait_until(one_has_come, f, PEER_DEADLINE_MS));
    if (i < 3) {
      assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
      peer_is(peer_next(f), CPOOL_ECANCELLED);
      cpool_session_free(session);
      nothing_is_left(f);
    } else {
      peer_close_pool(f);
      peer_is(peer_next(f), CPOOL_ECLOSED);
      cpool_session_free(session);
      proxied_open_pool(f, NULL);
    }
  }
}

/* ---- bad options */

static void bad_options_are_refused_by_their_key(void **state)
{
  struct peer *f = *state;
  char long_text[300];
  memset(long_text, 'a', sizeof long_text - 1);
  long_text[sizeof long_text - 1] = '\0';
#define P "http://127.0.0.1:1"
#define S "socks5://127.0.0.1:1"
  const struct {
    const char *key;
    cpool_session_options options;
  } rows[] = {
      {"proxy", {.proxy = ""}},
      {"proxy", {.proxy = "127.0.0.1:1"}},
      {"proxy", {.proxy = "ftp://127.0.0.1:1"}},
      {"proxy", {.proxy = "socks4://127.0.0.1:1"}},
      {"proxy", {.proxy = "http://"}},
      {"proxy", {.proxy = "http://:1"}},
      {"proxy", {.proxy = "http://host:0"}},
      {"proxy", {.proxy = "http://host:65536"}},
      {"proxy", {.proxy = "http://host:x"}},
      {"proxy", {.proxy = "http://ho st:1"}},
      {"proxy", {.proxy = "http://[::1"}},
      {"proxy", {.proxy = "http://host/path"}},
      {"proxy", {.proxy = "http://host/?q"}},
      {"proxy", {.proxy = "http://host#f"}},
      {"proxy", {.proxy = "http://u:hidden@host:1"}},
      {"proxy", {.proxy = "http://host:1\r\nX: hidden"}},
      {"proxy", {.proxy = long_text}},
      {"proxy", {.proxy = P, .unix_socket_path = "/tmp/x"}},
      {"proxy_from_env", {.proxy_from_env = 1, .unix_socket_path = "/tmp/x"}},
      {"proxy_from_env", {.proxy_from_env = 7}},
      {"proxy_username", {.proxy_username = "u"}},
      {"proxy_username", {.proxy_username = "u", .proxy_from_env = 1}},
      {"proxy_username", {.proxy = P, .proxy_username = "", .proxy_password = "hidden"}},
      {"proxy_username", {.proxy = P, .proxy_username = "u:v", .proxy_password = "hidden"}},
      {"proxy_username", {.proxy = S, .proxy_username = long_text, .proxy_password = "hidden"}},
      {"proxy_password", {.proxy = P, .proxy_password = "hidden"}},
      {"proxy_password", {.proxy = P, .proxy_username = "u", .proxy_password = "hid\nden"}},
      {"proxy_password", {.proxy = S, .proxy_username = "u", .proxy_password = long_text}},
      {"no_proxy", {.no_proxy = "a"}},
      {"no_proxy", {.proxy = P, .no_proxy = "a b/c"}},
      {"no_proxy", {.proxy = P, .no_proxy = "10.0.0.0/33"}},
      {"pinned_public_key", {.proxy = P, .pinned_public_key = "sha256//hidden"}},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    cpool_session_options options = rows[i].options;
    cpool_session *session = NULL;
    cpool_error error;
    cpool_error_init(&error);
    options.size = sizeof options;
    if (cpool_session_new(&session, f->pool, &options) != CPOOL_EINVAL)
      fail_msg("row %zu was taken", i);
    assert_null(session);
    assert_int_equal(cpool_last_error(&error), CPOOL_OK);
    if (strstr(error.text, rows[i].key) == NULL || strstr(error.text, "hid") != NULL)
      fail_msg("row %zu: %s", i, error.text);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      proxied_case(a_refused_tunnel_has_the_status_of_the_proxy),
      proxied_case(a_refusal_of_socks_has_its_reply),
      proxied_case(wrong_credentials_are_told_and_not_shown),
      proxied_case(nothing_but_basic_is_ever_tried),
      proxied_case(a_proxy_that_breaks_off_is_no_answer),
      proxied_case(a_proxy_that_hangs_meets_the_connect_timeout),
      proxied_case(endless_answers_are_cut_off),
      proxied_case(what_a_proxy_says_of_a_length_is_not_believed),
      proxied_case(a_tunnel_that_ends_at_once_is_the_host_s_failure),
      proxied_case(a_proxy_that_cannot_be_reached_is_named),
      proxied_case(an_https_proxy_is_verified_whatever_the_hosts_are),
      proxied_case(a_plain_proxy_taken_for_an_https_one_fails_the_handshake),
      proxied_case(a_pin_is_about_the_host),
      proxied_case(the_public_policy_judges_the_proxy_and_addresses_in_urls),
      proxied_case(a_tunnel_in_the_making_can_be_cancelled_and_closed),
      proxied_case(bad_options_are_refused_by_their_key),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
