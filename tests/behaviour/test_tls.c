/* tls: whom the pool trusts, what it shows of itself, and how each way to fail is told apart */
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

static void serve(struct peer *f, const struct cert_pair *pair, struct fault_options options)
{
  options.tls_cert_file = pair->cert_file;
  options.tls_key_file = pair->key_file;
  fault_server_stop(f->server);
  f->server = fault_server_start(&options);
  assert_non_null(f->server);
}

static cpool_session_options trusting(struct peer *f)
{
  cpool_session_options options = session_options();
  options.ca_file = certs_of(f)->ca_file;
  return options;
}

static struct answer get_from(struct peer *f, const cpool_session_options *options, uint16_t port, const char *host)
{
  cpool_session *session = session_open(f->pool, options);
  struct answer answer =
      peer_ask(f, &(struct ask){.session = session, .url = peer_text(f, "https://%s:%u/ok", host, port)});
  cpool_session_free(session);
  return answer;
}

static struct answer get(struct peer *f, const cpool_session_options *options)
{
  return get_from(f, options, fault_server_port(f->server), "127.0.0.1");
}

static void is_tls_failure(struct answer answer, int status)
{
  peer_is(answer, status);
  assert_int_equal(answer.error.layer, CPOOL_LAYER_TLS);
  assert_int_equal(answer.code, 0);
  assert_true((answer.error.flags & CPOOL_ERROR_NOTHING_SENT) != 0);
  assert_string_not_equal(answer.error.text, "");
  assert_int_equal(answer.info.bytes_sent, 0);
}

/* ---- trust */

static void a_trusted_certificate_is_accepted_and_its_time_measured(void **state)
{
  struct peer *f = *state;
  cpool_session_options options = trusting(f);
  serve(f, &certs_of(f)->good, (struct fault_options){0});
  struct answer answer = get(f, &options);
  peer_is_200(answer, "hello");
  assert_true(answer.info.tls_us > 0);
  assert_true(answer.info.connect_us >= 0);
}

static void a_certificate_that_does_not_fit_is_refused(void **state)
{
  struct peer *f = *state;
  cpool_session_options trust = trusting(f), other = trust, system;
  other.ca_file = certs_of(f)->other_ca_file;
  cpool_session_options_init(&system);
  const struct {
    const struct cert_pair *pair;
    const cpool_session_options *options;
  } wrong[] = {
      {&certs_of(f)->wrong_name, &trust}, {&certs_of(f)->expired, &trust}, {&certs_of(f)->self_signed, &trust},
      {&certs_of(f)->good, &other},       {&certs_of(f)->good, &system},
  };
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    serve(f, wrong[i].pair, (struct fault_options){0});
    struct answer answer = get(f, wrong[i].options);
    if (answer.status != CPOOL_ETLS_VERIFY)
      print_error("case %zu\n", i);
    is_tls_failure(answer, CPOOL_ETLS_VERIFY);
    assert_int_equal(answer.error.flags & CPOOL_ERROR_RETRIABLE, 0);
    assert_int_equal(fault_server_requests(f->server), 0);
  }
}

static void verification_can_be_switched_off(void **state)
{
  struct peer *f = *state;
  cpool_session_options options = trusting(f);
  options.ca_file = NULL;
  options.tls_verify = CPOOL_OFF;
  const struct cert_pair *pairs[] = {&certs_of(f)->wrong_name, &certs_of(f)->expired, &certs_of(f)->self_signed};
  for (int i = 0; i < 3; i++) {
    serve(f, pairs[i], (struct fault_options){0});
    peer_is_200(get(f, &options), "hello");
  }
}

/* ---- files */

static void files_that_cannot_be_used_are_told(void **state)
{
  struct peer *f = *state;
  char empty[CERTS_PATH_BYTES + 16], garbage[CERTS_PATH_BYTES + 16];
  snprintf(empty, sizeof empty, "%s/empty.pem", certs_of(f)->dir);
  snprintf(garbage, sizeof garbage, "%s/garbage.pem", certs_of(f)->dir);
  write_file(empty, "", 0);
  write_file(garbage, "no certificate\n", 15);
  const struct cert_pair *client = &certs_of(f)->client;
  const struct {
    const char *ca, *cert, *key;
  } bad[] = {
      {"/nonexistent/ca.pem", NULL, NULL},
      {empty, NULL, NULL},
      {garbage, NULL, NULL},
      {NULL, "/nonexistent/cert.pem", NULL},
      {NULL, garbage, client->key_file},
      {NULL, client->cert_file, "/nonexistent/key.pem"},
      {NULL, client->cert_file, garbage},
      {NULL, client->cert_file, NULL},                       /* no key in it */
      {NULL, client->cert_file, certs_of(f)->good.key_file}, /* another one's key */
  };
  serve(f, &certs_of(f)->good, (struct fault_options){0});
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    cpool_session_options options = trusting(f);
    if (bad[i].ca != NULL)
      options.ca_file = bad[i].ca;
    options.client_cert_file = bad[i].cert;
    options.client_key_file = bad[i].key;
    struct answer answer = get(f, &options);
    if (answer.status != CPOOL_ETLS_CONFIG)
      print_error("case %zu\n", i);
    is_tls_failure(answer, CPOOL_ETLS_CONFIG);
    assert_int_equal(answer.error.flags & CPOOL_ERROR_RETRIABLE, 0);
  }
  cpool_session_options good = trusting(f);
  peer_is_200(get(f, &good), "hello");
}

/* ---- versions and other ends of a handshake */

static void a_server_below_the_lowest_version_is_refused(void **state)
{
  struct peer *f = *state;
  cpool_session_options options = trusting(f);
  options.tls_min_version = CPOOL_TLS_1_3;
  serve(f, &certs_of(f)->good, (struct fault_options){.tls_max_version = TLS1_2_VERSION});
  is_tls_failure(get(f, &options), CPOOL_ETLS_HANDSHAKE);
  options.tls_min_version = CPOOL_TLS_1_2;
  peer_is_200(get(f, &options), "hello");
  serve(f, &certs_of(f)->good, (struct fault_options){.tls_min_version = TLS1_3_VERSION});
  options.tls_min_version = CPOOL_TLS_1_3;
  peer_is_200(get(f, &options), "hello");
}

static void a_server_without_tls_fails_the_handshake(void **state)
{
  struct peer *f = *state;
  cpool_session_options options = trusting(f);
  static const enum fault_behaviour kinds[] = {FAULT_GARBAGE, FAULT_ACCEPT_CLOSE, FAULT_BY_PATH};
  for (int i = 0; i < 3; i++) {
    fault_server_stop(f->server);
    f->server = fault_server_start(&(struct fault_options){.behaviour = kinds[i]});
    cpool_session *session = session_open(f->pool, &options);
    struct answer answer =
        peer_ask(f, &(struct ask){.session = session,
                                  .url = peer_text(f, "https://127.0.0.1:%u/ok", fault_server_port(f->server)),
                                  .connect_ms = 2000});
    cpool_session_free(session);
    /* an HTTP server may wait for more of what is no request to it */
    if (kinds[i] != FAULT_BY_PATH || answer.status != CPOOL_ETIMEOUT_CONNECT)
      is_tls_failure(answer, CPOOL_ETLS_HANDSHAKE);
  }
}

static void plain_http_to_a_tls_server_is_no_success(void **state)
{
  struct peer *f = *state;
  serve(f, &certs_of(f)->good, (struct fault_options){0});
  struct answer answer = peer_ask(f, &(struct ask){.url = "/ok", .read_ms = 1000});
  assert_true(answer.status == CPOOL_EPROTOCOL || answer.status == CPOOL_ERESET);
  assert_int_equal(answer.code, 0);
}

static void a_silent_handshake_meets_the_connect_timeout(void **state)
{
  struct peer *f = *state;
  f->server = fault_server_start(&(struct fault_options){.behaviour = FAULT_SILENT});
  struct answer answer =
      peer_ask(f, &(struct ask){.url = peer_text(f, "https://127.0.0.1:%u/", fault_server_port(f->server)),
                                .connect_ms = 200});
  peer_is(answer, CPOOL_ETIMEOUT_CONNECT);
  assert_in_range(answer.took_ms, 200, 900);
  assert_true((answer.error.flags & CPOOL_ERROR_NOTHING_SENT) != 0);
  peer_await(f, total_connections, 0);
  peer_await(f, closed, 1);
}

/* ---- client certificates and identities */

static void a_required_client_certificate_is_shown_when_given(void **state)
{
  struct peer *f = *state;
  const char *ca = certs_of(f)->ca_file;
  serve(f, &certs_of(f)->good, (struct fault_options){.tls_client_ca_file = ca});
  cpool_session_options options = trusting(f);
  struct answer answer = get(f, &options);
  assert_true(answer.status == CPOOL_ETLS_HANDSHAKE || answer.status == CPOOL_ERESET); /* TLS 1.3 refuses later */
  assert_int_equal(fault_server_requests(f->server), 0);
  options.client_cert_file = certs_of(f)->client.cert_file;
  options.client_key_file = certs_of(f)->client.key_file;
  peer_is_200(get(f, &options), "hello");
  assert_int_equal(fault_server_requests(f->server), 1);
  serve(f, &certs_of(f)->good, (struct fault_options){.tls_client_ca_file = ca, .tls_max_version = TLS1_2_VERSION});
  cpool_session_options none = trusting(f);
  is_tls_failure(get(f, &none), CPOOL_ETLS_HANDSHAKE);
}

static void nginx_sees_the_client_certificate(void **state)
{
  struct peer *f = *state;
  struct tls *tls = f->extra;
  tls->nginx = nginx_start(&(struct nginx_options){.certs = tls->certs,
                                                   .verify_client = true,
                                                   .server_lines = "location = /who { return 200 $ssl_client_s_dn; }"});
  assert_non_null(tls->nginx);
  uint16_t port = process_tls_port(tls->nginx);
  cpool_session_options options = trusting(f);
  struct answer answer = get_from(f, &options, port, "127.0.0.1");
  peer_is(answer, CPOOL_OK);
  assert_int_equal(answer.code, 400);
  options.client_cert_file = tls->certs->client.cert_file;
  options.client_key_file = tls->certs->client.key_file;
  cpool_session *session = session_open(f->pool, &options);
  peer_is_200(peer_ask(f, &(struct ask){.session = session, .url = peer_text(f, "https://127.0.0.1:%u/who", port)}),
              "CN=client");
  cpool_session_free(session);
}

static void nginx_of_one_version_only_is_served(void **state)
{
  struct peer *f = *state;
  struct tls *tls = f->extra;
  static const char *const versions[] = {"TLSv1.2", "TLSv1.3"};
  for (int i = 0; i < 2; i++) {
    tls->nginx = nginx_start(&(struct nginx_options){.certs = tls->certs,
                                                     .tls_protocols = versions[i],
                                                     .server_lines = "location = /v { return 200 $ssl_protocol; }"});
    assert_non_null(tls->nginx);
    cpool_session_options options = trusting(f);
    cpool_session *session = session_open(f->pool, &options);
    for (int k = 0; k < 20; k++) {
      struct answer answer =
          peer_ask(f, &(struct ask){.session = session,
                                    .url = peer_text(f, "https://127.0.0.1:%u/v", process_tls_port(tls->nginx))});
      peer_is_200(answer, versions[i]);
      assert_int_equal(answer.info.reused, k > 0);
    }
    cpool_session_free(session);
    process_stop(tls->nginx);
    tls->nginx = NULL;
  }
}

static void sessions_of_different_identity_never_share_a_connection(void **state)
{
  struct peer *f = *state;
  enum { KINDS = 5 };
  serve(f, &certs_of(f)->good, (struct fault_options){0});
  char copy[CERTS_PATH_BYTES + 16], pem[8192];
  snprintf(copy, sizeof copy, "%s/copy.pem", certs_of(f)->dir);
  FILE *in = fopen(certs_of(f)->ca_file, "r");
  assert_non_null(in);
  size_t len = fread(pem, 1, sizeof pem, in);
  fclose(in);
  write_file(copy, pem, len);

  cpool_session_options options[KINDS];
  cpool_session *sessions[KINDS], *twins[KINDS];
  for (int i = 0; i < KINDS; i++)
    options[i] = trusting(f);
  options[1].ca_file = copy; /* the same certificates behind another name */
  options[2].tls_verify = CPOOL_OFF;
  options[3].client_cert_file = certs_of(f)->client.cert_file;
  options[3].client_key_file = certs_of(f)->client.key_file;
  options[4].tls_min_version = CPOOL_TLS_1_3;
  uint64_t numbers[KINDS];
  const char *url = peer_text(f, "https://127.0.0.1:%u/ok", fault_server_port(f->server));
  for (int i = 0; i < KINDS; i++) {
    sessions[i] = session_open(f->pool, &options[i]);
    twins[i] = session_open(f->pool, &options[i]);
    struct answer answer = peer_ask(f, &(struct ask){.session = sessions[i], .url = url});
    peer_is_200(answer, "hello");
    assert_int_equal(answer.info.reused, 0);
    numbers[i] = answer.info.connection;
  }
  assert_int_equal(peer_counts(f->server).accepted, KINDS);
  for (int i = 0; i < KINDS; i++) {
    struct answer answer = peer_ask(f, &(struct ask){.session = twins[i], .url = url});
    assert_int_equal(answer.info.reused, 1);
    assert_int_equal(answer.info.connection, numbers[i]);
  }
  assert_int_equal(peer_counts(f->server).accepted, KINDS);
  /* nor does one that trusts nobody ride on a connection of one that does */
  cpool_session_options strict = trusting(f);
  strict.ca_file = certs_of(f)->other_ca_file;
  is_tls_failure(get(f, &strict), CPOOL_ETLS_VERIFY);
  for (int i = 0; i < KINDS; i++) {
    cpool_session_free(sessions[i]);
    cpool_session_free(twins[i]);
  }
}

static void the_name_asked_for_is_the_one_of_the_url(void **state)
{
  struct peer *f = *state;
  char hosts[CERTS_PATH_BYTES + 16];
  snprintf(hosts, sizeof hosts, "%s/hosts", certs_of(f)->dir);
  write_file(hosts, "127.0.0.1 a.test b.test\n", 24);
  peer_close_pool(f);
  cpool_http_options pool_options;
  cpool_http_options_init(&pool_options);
  pool_options.dns_hosts_file = hosts;
  peer_open_pool(f, &pool_options);
  serve(f, &certs_of(f)->good, (struct fault_options){0});
  cpool_session_options options = trusting(f);
  cpool_session *session = session_open(f->pool, &options);
  static const char *const names[] = {"a.test", "b.test", "127.0.0.1"};
  for (int i = 0; i < 3; i++) {
    const char *url = peer_text(f, "https://%s:%u/ok", names[i], fault_server_port(f->server));
    struct answer answer = peer_ask(f, &(struct ask){.session = session, .url = url});
    peer_is_200(answer, "hello");
    assert_int_equal(answer.info.reused, 0); /* another name, another connection */
    char *sni = fault_server_last_tls_name(f->server);
    assert_string_equal(sni, i < 2 ? names[i] : "");
    free(sni);
  }
  cpool_session_free(session);
  peer_close_pool(f);
}

static void a_hundred_requests_over_tls_share_their_connections(void **state)
{
  struct peer *f = *state;
  enum { REQUESTS = 100 };
  serve(f, &certs_of(f)->good, (struct fault_options){0});
  cpool_session_options options = trusting(f);
  cpool_session *session = session_open(f->pool, &options);
  const char *url = peer_text(f, "https://127.0.0.1:%u/bytes/70000", fault_server_port(f->server));
  for (int i = 0; i < REQUESTS; i++)
    peer_start(f, &(struct ask){.session = session, .url = url});
  for (int i = 0; i < REQUESTS; i++) {
    struct answer answer = peer_next(f);
    peer_is(answer, CPOOL_OK);
    peer_is_pattern(&answer, 70000);
  }
  struct fault_counts counts = peer_counts(f->server);
  assert_true(counts.accepted <= 30);
  assert_int_equal(counts.requests, REQUESTS);
  cpool_session_free(session);
}

#define tls_case(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      tls_case(a_trusted_certificate_is_accepted_and_its_time_measured),
      tls_case(a_certificate_that_does_not_fit_is_refused),
      tls_case(verification_can_be_switched_off),
      tls_case(files_that_cannot_be_used_are_told),
      tls_case(a_server_below_the_lowest_version_is_refused),
      tls_case(a_server_without_tls_fails_the_handshake),
      tls_case(plain_http_to_a_tls_server_is_no_success),
      tls_case(a_silent_handshake_meets_the_connect_timeout),
      tls_case(a_required_client_certificate_is_shown_when_given),
      tls_case(nginx_sees_the_client_certificate),
      tls_case(nginx_of_one_version_only_is_served),
      tls_case(sessions_of_different_identity_never_share_a_connection),
      tls_case(the_name_asked_for_is_the_one_of_the_url),
      tls_case(a_hundred_requests_over_tls_share_their_connections),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
