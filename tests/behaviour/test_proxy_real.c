/* proxy_real: tinyproxy, microsocks and haproxy as an https front carry requests to nginx, with credentials and without */
#include "support/peer_fixture.h"

#include <unistd.h>

#include "support/certs.h"
#include "support/proxies.h"

struct real {
  struct certs *certs;
  struct process *nginx, *proxy, *front;
};

static int setup(void **state)
{
  struct peer *f = peer_new();
  struct real *real = calloc(1, sizeof *real);
  assert_non_null(real);
  real->certs = certs_new();
  real->nginx = nginx_start(
      &(struct nginx_options){.certs = real->certs, .server_lines = "location = /who { return 200 \"$connection\"; }"});
  assert_non_null(real->nginx);
  f->extra = real;
  peer_open_pool(f, NULL);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct peer *f = *state;
  struct real *real = f->extra;
  peer_close_pool(f);
  process_stop(real->front);
  process_stop(real->proxy);
  process_stop(real->nginx);
  certs_free(real->certs);
  free(real);
  peer_free(f);
  return 0;
}

static void stop_proxy(struct real *real)
{
  process_stop(real->front);
  process_stop(real->proxy);
  real->front = real->proxy = NULL;
}

static cpool_session *session_of(struct peer *f, const char *proxy, const char *user, const char *password)
{
  cpool_session_options options;
  cpool_session *session = NULL;
  cpool_session_options_init(&options);
  options.ca_file = ((struct real *) f->extra)->certs->ca_file;
  options.proxy = proxy;
  options.proxy_username = user;
  options.proxy_password = password;
  assert_int_equal(cpool_session_new(&session, f->pool, &options), CPOOL_OK);
  return session;
}

static const char *nginx_url(struct peer *f, bool tls, const char *path)
{
  struct process *nginx = ((struct real *) f->extra)->nginx;
  return peer_text(f, "%s://localhost:%u%s", tls ? "https" : "http",
                   (unsigned) (tls ? process_tls_port(nginx) : process_port(nginx)), path);
}

/* One host after the other: each with one connection through the proxy, then with many requests at a time. */
static void serves(struct peer *f, const char *proxy, const char *user, const char *password)
{
  cpool_session *session = session_of(f, proxy, user, password);
  for (int tls = 0; tls < 2; tls++) {
    char who[32] = "";
    for (int i = 0; i < 5; i++) {
      struct answer answer = peer_ask(f, &(struct ask){.session = session, .url = nginx_url(f, tls, "/who")});
      peer_is(answer, CPOOL_OK);
      if (i == 0)
        snprintf(who, sizeof who, "%s", answer.body);
      assert_string_equal(answer.body, who); /* nginx sees one connection */
      assert_int_equal(answer.info.reused, i > 0);
    }
    for (int i = 0; i < 40; i++)
      peer_start(f, &(struct ask){.session = session,
                                  .method = i % 4 ? NULL : "POST",
                                  .url = nginx_url(f, tls, i % 2 ? "/big" : "/ok")});
    for (int i = 0; i < 40; i++) {
      struct answer answer = peer_next(f);
      peer_is(answer, CPOOL_OK);
      if (answer.len > 100) {
        assert_int_equal(answer.code, 200);
        peer_is_pattern(&answer, 1024 * 1024);
      }
    }
  }
  cpool_session_free(session);
  peer_await(f, total_connections, 0);
  peer_await(f, closing_connections, 0);
}

static void refuses(struct peer *f, const char *proxy, const char *user, const char *password, int native)
{
  cpool_session *session = session_of(f, proxy, user, password);
  for (int tls = 0; tls < 2; tls++) {
    struct answer answer = peer_ask(f, &(struct ask){.session = session, .url = nginx_url(f, tls, "/ok")});
    peer_is(answer, CPOOL_EPROXY);
    assert_int_equal(answer.error.native, native);
    assert_true((answer.error.flags & CPOOL_ERROR_NOTHING_SENT) != 0);
  }
  cpool_session_free(session);
}

static void tinyproxy_carries_http_and_https(void **state)
{
  struct peer *f = *state;
  struct real *real = f->extra;
  real->proxy = tinyproxy_start(NULL, NULL);
  assert_non_null(real->proxy);
  serves(f, peer_text(f, "http://127.0.0.1:%u", process_port(real->proxy)), NULL, NULL);
  stop_proxy(real);
  real->proxy = tinyproxy_start("user", "pa55word");
  assert_non_null(real->proxy);
  const char *url = peer_text(f, "http://127.0.0.1:%u", process_port(real->proxy));
  char kept[64];
  snprintf(kept, sizeof kept, "%s", url);
  serves(f, kept, "user", "pa55word");
  refuses(f, kept, "user", "wrong", 401); /* as tinyproxy 1.11 puts it */
  refuses(f, kept, NULL, NULL, 407);
}

static void tinyproxy_behind_tls_carries_http_and_https(void **state)
{
  struct peer *f = *state;
  struct real *real = f->extra;
  real->proxy = tinyproxy_start("user", "pa55word");
  assert_non_null(real->proxy);
  real->front = tls_front_start(&real->certs->good, process_port(real->proxy));
  assert_non_null(real->front);
  char url[64];
  snprintf(url, sizeof url, "https://127.0.0.1:%u", (unsigned) process_port(real->front));
  serves(f, url, "user", "pa55word");
  refuses(f, url, NULL, NULL, 407);
}

static void microsocks_carries_http_and_https(void **state)
{
  struct peer *f = *state;
  struct real *real = f->extra;
  char url[64];
  real->proxy = microsocks_start(NULL, NULL);
  assert_non_null(real->proxy);
  snprintf(url, sizeof url, "socks5://127.0.0.1:%u", (unsigned) process_port(real->proxy));
  serves(f, url, NULL, NULL);
  stop_proxy(real);
  real->proxy = microsocks_start("user", "pa55word");
  assert_non_null(real->proxy);
  snprintf(url, sizeof url, "socks5h://127.0.0.1:%u", (unsigned) process_port(real->proxy));
  serves(f, url, "user", "pa55word");
  refuses(f, url, "user", "wrong", 0);
  refuses(f, url, NULL, NULL, 0);
}

static void a_host_that_the_proxy_cannot_reach_is_its_refusal(void **state)
{
  struct peer *f = *state;
  struct real *real = f->extra;
  uint16_t port;
  int fd = refusing_port_open(&port);
  const char *target = peer_text(f, "http://127.0.0.1:%u/", port);
  real->proxy = tinyproxy_start(NULL, NULL);
  cpool_session *session = session_of(f, peer_text(f, "http://127.0.0.1:%u", process_port(real->proxy)), NULL, NULL);
  struct answer answer = peer_ask(f, &(struct ask){.session = session, .url = target});
  peer_is(answer, CPOOL_EPROXY);
  assert_true(answer.error.native >= 500);
  assert_true((answer.error.flags & CPOOL_ERROR_RETRIABLE) != 0);
  cpool_session_free(session);
  stop_proxy(real);
  real->proxy = microsocks_start(NULL, NULL);
  session = session_of(f, peer_text(f, "socks5://127.0.0.1:%u", process_port(real->proxy)), NULL, NULL);
  answer = peer_ask(f, &(struct ask){.session = session, .url = target});
  peer_is(answer, CPOOL_EPROXY);
  assert_int_equal(answer.error.native, 5);
  cpool_session_free(session);
  close(fd);
}

/* The proxy goes while its tunnels are idle, and comes back under another port. */
static void a_proxy_that_goes_takes_its_connections_along(void **state)
{
  struct peer *f = *state;
  struct real *real = f->extra;
  real->proxy = microsocks_start(NULL, NULL);
  cpool_session *session = session_of(f, peer_text(f, "socks5://127.0.0.1:%u", process_port(real->proxy)), NULL, NULL);
  peer_is(peer_ask(f, &(struct ask){.session = session, .url = nginx_url(f, true, "/ok")}), CPOOL_OK);
  peer_await(f, idle_connections, 1);
  stop_proxy(real);
  peer_await(f, total_connections, 0);
  peer_is(peer_ask(f, &(struct ask){.session = session, .url = nginx_url(f, true, "/ok")}), CPOOL_ECONNECT);
  cpool_session_free(session);
}

#define real_case(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      real_case(tinyproxy_carries_http_and_https),
      real_case(tinyproxy_behind_tls_carries_http_and_https),
      real_case(microsocks_carries_http_and_https),
      real_case(a_host_that_the_proxy_cannot_reach_is_its_refusal),
      real_case(a_proxy_that_goes_takes_its_connections_along),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
