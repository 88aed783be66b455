/* Each certificate is right or wrong in the way its name says, as a verifying TLS client sees it. */
#include "support/certs.h"
#include "support/fault_server.h"
#include "support/raw_client.h"
#include "support/wait.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { DEADLINE_MS = 5000 };

/* One GET over TLS; false when the handshake or the verification fails. */
static bool tls_get(struct fault_server *server, const char *ca_file, const struct cert_pair *client, const char *host)
{
  char answer[256] = "";
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  SSL_CTX_load_verify_locations(ctx, ca_file, NULL);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  if (client != NULL) {
    SSL_CTX_use_certificate_file(ctx, client->cert_file, SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(ctx, client->key_file, SSL_FILETYPE_PEM);
  }
  int fd = raw_connect(NULL, fault_server_port(server), DEADLINE_MS);
  assert_true(fd >= 0);
  SSL *ssl = SSL_new(ctx);
  SSL_set_fd(ssl, fd);
  SSL_set1_host(ssl, host);
  SSL_set_tlsext_host_name(ssl, host);
  int64_t end_ms = now_ms() + DEADLINE_MS;
  int done;
  while ((done = SSL_connect(ssl)) != 1 && SSL_get_error(ssl, done) == SSL_ERROR_WANT_READ)
    if (wait_fd(fd, POLLIN, end_ms - now_ms()) == 0)
      break;
  if (done == 1) {
    static const char request[] = "GET /ok HTTP/1.1\r\n\r\n";
    SSL_write(ssl, request, sizeof request - 1);
    while ((done = SSL_read(ssl, answer, sizeof answer - 1)) <= 0 && SSL_get_error(ssl, done) == SSL_ERROR_WANT_READ)
      if (wait_fd(fd, POLLIN, end_ms - now_ms()) == 0)
        break;
  }
  SSL_free(ssl);
  SSL_CTX_free(ctx);
  close(fd);
  return done > 0 && strncmp(answer, "HTTP/1.1 200", 12) == 0;
}

static bool tls_works(const struct cert_pair *pair, const char *ca_file, const char *client_ca_file,
                      const struct cert_pair *client, const char *host)
{
  struct fault_server *server = fault_server_start(&(struct fault_options){.tls_cert_file = pair->cert_file,
                                                                           .tls_key_file = pair->key_file,
                                                                           .tls_client_ca_file = client_ca_file});
  assert_non_null(server);
  struct fault_counts counts;
  bool works = tls_get(server, ca_file, client, host);
  char *name = fault_server_last_tls_name(server);
  if (works) {
    assert_string_equal(name, host);
    fault_server_counts(server, &counts);
    assert_int_equal(counts.tls_handshakes, 1);
  }
  free(name);
  fault_server_stop(server);
  return works;
}

/* With nothing special about client certificates. */
static bool trusts(const struct cert_pair *pair, const char *ca_file, const char *host)
{
  return tls_works(pair, ca_file, NULL, NULL, host);
}

static void each_certificate_is_right_or_wrong_as_named(void **state)
{
  struct certs *certs = *state;
  assert_true(trusts(&certs->good, certs->ca_file, "localhost"));
  assert_false(trusts(&certs->good, certs->other_ca_file, "localhost"));
  assert_false(trusts(&certs->wrong_name, certs->ca_file, "localhost"));
  assert_false(trusts(&certs->expired, certs->ca_file, "localhost"));
  assert_false(trusts(&certs->self_signed, certs->ca_file, "localhost"));
  assert_true(trusts(&certs->self_signed, certs->self_signed.cert_file, "localhost"));
}

static void good_covers_its_names_and_the_added_ones(void **state)
{
  struct certs *certs = *state;
  assert_true(trusts(&certs->good, certs->ca_file, "a.test"));
  assert_true(trusts(&certs->good, certs->ca_file, "any.origin.test"));
  assert_true(trusts(&certs->good, certs->ca_file, "added.example"));
  assert_false(trusts(&certs->good, certs->ca_file, "d.test"));
}

static void client_certificates_are_asked_for_and_checked(void **state)
{
  struct certs *certs = *state;
  assert_true(tls_works(&certs->good, certs->ca_file, certs->ca_file, &certs->client, "localhost"));
  assert_false(tls_works(&certs->good, certs->ca_file, certs->ca_file, NULL, "localhost"));
  assert_false(tls_works(&certs->good, certs->ca_file, certs->other_ca_file, &certs->client, "localhost"));
}

static void pins_have_the_form_that_libcurl_reads(void **state)
{
  struct certs *certs = *state;
  assert_int_equal(strncmp(certs->good.pin, "sha256//", 8), 0);
  assert_int_equal(strlen(certs->good.pin), 8 + 44);
  assert_string_not_equal(certs->good.pin, certs->expired.pin);
}

static int make_certs(void **state)
{
  *state = certs_new_with("DNS:added.example");
  return 0;
}

static int free_certs(void **state)
{
  certs_free(*state);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_certificate_is_right_or_wrong_as_named),
      cmocka_unit_test(good_covers_its_names_and_the_added_ones),
      cmocka_unit_test(client_certificates_are_asked_for_and_checked),
      cmocka_unit_test(pins_have_the_form_that_libcurl_reads),
  };
  return cmocka_run_group_tests(tests, make_certs, free_certs);
}
