/* tls_sessions: connections of one identity take up each other's TLS sessions, those of another never; pinned keys */
#include "support/peer_fixture.h"

#include <openssl/ssl.h>

#include "support/certs.h"
#include "support/process.h"

struct tls {
  struct certs *certs;
  struct process *nginx;
};

static struct certs *certs_of(struct peer *f)
{
  return ((struct tls *) f->extra)->certs;
}

static int setup(void **state)
{
  struct peer *f = peer_new();
  struct tls *tls = calloc(1, sizeof *tls);
  assert_non_null(tls);
  tls->certs = certs_new();
  f->extra = tls;
  peer_open_pool(f, NULL);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct peer *f = *state;
  struct tls *tls = f->extra;
  peer_close_pool(f);
  process_stop(tls->nginx);
  certs_free(tls->certs);
  free(tls);
  peer_free(f);
  return 0;
}

static void serve(struct peer *f, const struct cert_pair *pair, int32_t max_version)
{
  fault_server_stop(f->server);
  f->server = fault_server_start(&(struct fault_options){.tls_cert_file = pair->cert_file,
                                                         .tls_key_file = pair->key_file,
                                                         .tls_max_version = max_version});
  assert_non_null(f->server);
}

static cpool_session *session_with(struct peer *f, const char *pins, int32_t min_version)
{
  cpool_session_options options = session_options();
  options.ca_file = certs_of(f)->ca_file;
  options.pinned_public_key = pins;
  options.tls_min_version = min_version;
  cpool_session *session = session_open(f->pool, &options);
  return session;
}

static const char *https(struct peer *f, const char *path)
{
  return peer_text(f, "https://127.0.0.1:%u%s", fault_server_port(f->server), path);
}

struct held {
  struct peer *f;
  int64_t count;
};

static bool are_held(void *ctx)
{
  const struct held *held = ctx;
  return peer_counts(held->f->server).held == held->count;
}

/* Each needs a handle of its own, none of which made an earlier connection. One after the other: OpenSSL lets go of a
 * TLS 1.2 session once a handshake has taken it up and got a newer one, so that others may come too late for it. */
static void hold_four(struct peer *f, cpool_session *session)
{
  for (int i = 1; i <= 4; i++) {
    peer_start(f, &(struct ask){.session = session, .url = https(f, "/hold")});
    assert_true(wait_until(are_held, &(struct held){f, i}, PEER_DEADLINE_MS));
  }
  assert_int_equal(fault_server_release(f->server, 4), 4);
  for (int i = 0; i < 4; i++)
    peer_is_200(peer_next(f), "hello");
}

static void every_connection_of_an_identity_takes_up_its_session(void **state)
{
  struct peer *f = *state;
  static const int32_t versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
  uint64_t resumed = 0;
  for (int i = 0; i < 2; i++) {
    serve(f, &certs_of(f)->good, versions[i]);
    cpool_session *session = session_with(f, NULL, 0);
    peer_is_200(peer_ask(f, &(struct ask){.session = session, .url = https(f, "/close")}), "hello");
    assert_int_equal(peer_counts(f->server).tls_resumed, 0);
    hold_four(f, session);
    assert_int_equal(peer_counts(f->server).tls_handshakes, 5);
    assert_int_equal(peer_counts(f->server).tls_resumed, 4);
    cpool_session_free(session);
    resumed += 4;
    peer_await(f, tls_resumed, (int64_t) resumed);
  }
}

static void another_identity_begins_anew(void **state)
{
  struct peer *f = *state;
  serve(f, &certs_of(f)->good, 0);
  cpool_session *one = session_with(f, NULL, 0), *two = session_with(f, certs_of(f)->good.pin, 0);
  peer_is_200(peer_ask(f, &(struct ask){.session = one, .url = https(f, "/close")}), "hello");
  peer_is_200(peer_ask(f, &(struct ask){.session = two, .url = https(f, "/close")}), "hello");
  assert_int_equal(peer_counts(f->server).tls_handshakes, 2);
  assert_int_equal(peer_counts(f->server).tls_resumed, 0);
  peer_is_200(peer_ask(f, &(struct ask){.session = one, .url = https(f, "/close")}), "hello");
  peer_is_200(peer_ask(f, &(struct ask){.session = two, .url = https(f, "/close")}), "hello");
  assert_int_equal(peer_counts(f->server).tls_resumed, 2);
  cpool_session_free(one);
  cpool_session_free(two);
}

/* An identity that ends takes its sessions along. */
static void an_identity_that_comes_again_begins_anew(void **state)
{
  struct peer *f = *state;
  serve(f, &certs_of(f)->good, 0);
  for (int i = 0; i < 3; i++) {
    cpool_session *session = session_with(f, NULL, 0);
    peer_is_200(peer_ask(f, &(struct ask){.session = session, .url = https(f, "/ok")}), "hello");
    cpool_session_free(session);
    peer_await(f, closed, i + 1); /* it goes with its identity */
  }
  assert_int_equal(peer_counts(f->server).tls_handshakes, 3);
  assert_int_equal(peer_counts(f->server).tls_resumed, 0);
}

/* The `$ssl_session_reused` that nginx answers: "r", or "." for a new session. */
static struct answer reused_at(struct peer *f, cpool_session *session)
{
  struct tls *tls = f->extra;
  return peer_ask(f, &(struct ask){.session = session,
                                   .url = peer_text(f, "https://127.0.0.1:%u/reused", process_tls_port(tls->nginx))});
}

static void nginx_sees_the_session_of_the_same_identity_alone(void **state)
{
  struct peer *f = *state;
  struct tls *tls = f->extra;
  static const char *const versions[] = {"TLSv1.2", "TLSv1.3"};
  for (int i = 0; i < 2; i++) {
    tls->nginx =
        nginx_start(&(struct nginx_options){.certs = tls->certs,
                                            .tls_protocols = versions[i],
                                            .keepalive_timeout_ms = -1,
                                            .server_lines = "location = /reused { return 200 $ssl_session_reused; }"});
    assert_non_null(tls->nginx);
    cpool_session *one = session_with(f, NULL, 0), *two = session_with(f, tls->certs->good.pin, 0);
    peer_is_200(reused_at(f, one), ".");
    peer_is_200(reused_at(f, one), "r");
    peer_is_200(reused_at(f, two), ".");
    peer_is_200(reused_at(f, two), "r");
    peer_is_200(reused_at(f, one), "r");
    cpool_session_free(one);
    cpool_session_free(two);
    process_stop(tls->nginx);
    tls->nginx = NULL;
  }
}

/* More hosts than one share holds, each with its own number. */
static void the_sessions_of_many_hosts_are_kept(void **state)
{
  struct peer *f = *state;
  enum { HOSTS = 40 };
  struct fault_server *servers[HOSTS];
  cpool_session *session = session_with(f, NULL, 0);
  for (int i = 0; i < HOSTS; i++) {
    servers[i] = fault_server_start(&(struct fault_options){.tls_cert_file = certs_of(f)->good.cert_file,
                                                            .tls_key_file = certs_of(f)->good.key_file});
    assert_non_null(servers[i]);
  }
  for (int round = 0; round < 2; round++)
    for (int i = 0; i < HOSTS; i++)
      peer_is_200(peer_ask(f, &(struct ask){.session = session,
                                            .url = peer_text(f, "https://127.0.0.1:%u/close",
                                                             fault_server_port(servers[i]))}),
                  "hello");
  for (int i = 0; i < HOSTS; i++) {
    assert_int_equal(peer_counts(servers[i]).tls_resumed, 1);
    fault_server_stop(servers[i]);
  }
  peer_await(f, tls_resumed, HOSTS);
  cpool_session_free(session);
}

/* ---- pins */

static void a_key_that_is_pinned_is_accepted_among_others(void **state)
{
  struct peer *f = *state;
  serve(f, &certs_of(f)->good, 0);
  const char *both = peer_text(f, "%s;%s", certs_of(f)->expired.pin, certs_of(f)->good.pin);
  const char *pins[] = {certs_of(f)->good.pin, both};
  for (int i = 0; i < 2; i++) {
    cpool_session *session = session_with(f, pins[i], 0);
    /* also on a connection that takes up a session */
    for (int k = 0; k < 3; k++)
      peer_is_200(peer_ask(f, &(struct ask){.session = session, .url = https(f, "/close")}), "hello");
    cpool_session_free(session);
  }
  assert_int_equal(peer_counts(f->server).tls_resumed, 4);
}

static void a_key_that_is_not_pinned_is_refused_by_that_name(void **state)
{
  struct peer *f = *state;
  serve(f, &certs_of(f)->good, 0);
  for (int verify = 0; verify < 2; verify++) {
    cpool_session_options options = session_options();
    options.ca_file = certs_of(f)->ca_file;
    options.tls_verify = verify ? 1 : CPOOL_OFF;
    options.pinned_public_key = certs_of(f)->expired.pin;
    cpool_session *session = session_open(f->pool, &options);
    struct answer answer = peer_ask(f, &(struct ask){.session = session, .url = https(f, "/ok")});
    peer_is(answer, CPOOL_ETLS_VERIFY);
    assert_int_equal(answer.error.layer, CPOOL_LAYER_TLS);
    assert_int_equal(answer.error.flags, CPOOL_ERROR_NOTHING_SENT);
    assert_non_null(strstr(answer.error.text, "pinned_public_key"));
    cpool_session_free(session);
  }
  assert_int_equal(fault_server_requests(f->server), 0);
}

static void a_pin_that_is_none_is_refused_at_once(void **state)
{
  struct peer *f = *state;
  cpool_session_options options = session_options();
  cpool_session *session = NULL;
  cpool_error error;
  cpool_error_init(&error);
  options.pinned_public_key = "/etc/ssl/some.pem";
  assert_int_equal(cpool_session_new(&session, f->pool, &options), CPOOL_EINVAL);
  assert_null(session);
  assert_int_equal(cpool_last_error(&error), CPOOL_OK);
  assert_non_null(strstr(error.text, "pinned_public_key"));
}

#define tls_case(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      tls_case(every_connection_of_an_identity_takes_up_its_session),
      tls_case(another_identity_begins_anew),
      tls_case(an_identity_that_comes_again_begins_anew),
      tls_case(nginx_sees_the_session_of_the_same_identity_alone),
      tls_case(the_sessions_of_many_hosts_are_kept),
      tls_case(a_key_that_is_pinned_is_accepted_among_others),
      tls_case(a_key_that_is_not_pinned_is_refused_by_that_name),
      tls_case(a_pin_that_is_none_is_refused_at_once),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
