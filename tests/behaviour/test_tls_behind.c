/* tls_behind: bytes behind an answer never become the next one, also where libcurl leaves them decrypted inside OpenSSL,
 * out of sight of every look at the socket */
#include "support/peer_fixture.h"

#include <openssl/ssl.h>

#include "support/certs.h"

/* "HTTP/1.1 200 OK", Content-Length, the empty line: from here on libcurl asks for no more than the body's rest. */
enum { HEAD_BYTES = 38, REUSES = 200 };

static const int TLS_1_2 = TLS1_2_VERSION, TLS_1_3 = TLS1_3_VERSION;

struct behind {
  struct certs *certs;
  cpool_session *session;
};

static cpool_session *session_of(struct peer *f)
{
  return ((struct behind *) f->extra)->session;
}

/* The initial state is the version of TLS. */
static int setup(void **state)
{
  int version = *(const int *) *state;
  struct peer *f = peer_new();
  struct behind *behind = calloc(1, sizeof *behind);
  assert_non_null(behind);
  f->extra = behind;
  behind->certs = certs_new();
  f->server = fault_server_start(&(struct fault_options){.tls_cert_file = behind->certs->good.cert_file,
                                                         .tls_key_file = behind->certs->good.key_file,
                                                         .tls_min_version = version,
                                                         .tls_max_version = version});
  assert_non_null(f->server);
  peer_open_pool(f, NULL);
  behind->session = session_trusting(f->pool, behind->certs->ca_file);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct peer *f = *state;
  struct behind *behind = f->extra;
  cpool_session_free(behind->session);
  peer_close_pool(f);
  certs_free(behind->certs);
  free(behind);
  peer_free(f);
  return 0;
}

static struct answer get(struct peer *f, const char *path)
{
  const char *url = peer_text(f, "https://127.0.0.1:%u%s", fault_server_port(f->server), path);
  return peer_ask(f, &(struct ask){.session = session_of(f), .url = url});
}

/* `path` answers "hello" and more than was asked for: the next request knows nothing of it. */
static void next_is_clean(struct peer *f, const char *path)
{
  cpool_http_stats before = peer_stats(f);
  struct answer behind = get(f, path), next = get(f, "/bytes/7");
  peer_is_200(behind, "hello");
  peer_is_200(next, "abcdefg");
  assert_int_equal(next.info.reused, 0);
  assert_true(next.info.connection != behind.info.connection);
  struct answer last = get(f, "/close"); /* the next round begins on a new connection */
  peer_is_200(last, "hello");
  assert_int_equal(last.info.connection, next.info.connection);
  peer_await(f, closed_unsolicited, (int64_t) before.closed_unsolicited + 1);
  peer_await(f, closed_response, (int64_t) before.closed_response + 1);
  assert_int_equal(peer_stats(f).repeated, before.repeated);
}

static void bytes_in_the_record_of_the_bodys_rest_end_the_connection(void **state)
{
  struct peer *f = *state;
  for (int round = 0; round < 10; round++)
    for (int body_bytes = 0; body_bytes < 5; body_bytes++)
      next_is_clean(f, peer_text(f, "/extra-record/%d", HEAD_BYTES + body_bytes));
}

static void an_unfinished_record_behind_them_changes_nothing(void **state)
{
  struct peer *f = *state;
  for (int round = 0; round < 10; round++) {
    next_is_clean(f, peer_text(f, "/extra-record/%d/3", HEAD_BYTES)); /* less than a record's header */
    next_is_clean(f, peer_text(f, "/extra-record/%d/5", HEAD_BYTES));
    next_is_clean(f, peer_text(f, "/extra-record/%d/20", HEAD_BYTES + 2));
  }
}

/* libcurl reads them with the head, and throws them away. */
static void bytes_in_the_record_of_the_heads_end_never_reach_the_next_request(void **state)
{
  struct peer *f = *state;
  const int splits[] = {1, 17, HEAD_BYTES - 2, HEAD_BYTES - 1};
  for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
    peer_is_200(get(f, peer_text(f, "/extra-record/%d", splits[i])), "hello");
    peer_is_200(get(f, "/bytes/7"), "abcdefg");
  }
}

static void ordinary_answers_keep_the_connection(void **state)
{
  struct peer *f = *state;
  const char *paths[] = {"/ok", "/bytes/40000", "/chunked/20000", "/204", "/trailers", "/drip/0/20"};
  for (int i = 0; i < REUSES; i++) {
    struct answer answer = get(f, paths[(size_t) i % (sizeof paths / sizeof *paths)]);
    peer_is(answer, CPOOL_OK);
    assert_int_equal(answer.info.reused, i > 0);
  }
  assert_int_equal(peer_stats(f).opened, 1);
  assert_int_equal(peer_stats(f).closed, 0);
  assert_int_equal(peer_counts(f->server).accepted, 1);
  assert_int_equal(peer_counts(f->server).tls_handshakes, 1);
}

#define BEHIND_CASE(test, version)                                                                                     \
  {                                                                                                                    \
#test "[" #version "]", test, setup, teardown, (void *) (uintptr_t) & (version)                                    \
  }
#define BEHIND_CASES(test) BEHIND_CASE(test, TLS_1_2), BEHIND_CASE(test, TLS_1_3)

int main(void)
{
  const struct CMUnitTest tests[] = {
      BEHIND_CASES(bytes_in_the_record_of_the_bodys_rest_end_the_connection),
      BEHIND_CASES(an_unfinished_record_behind_them_changes_nothing),
      BEHIND_CASES(bytes_in_the_record_of_the_heads_end_never_reach_the_next_request),
      BEHIND_CASES(ordinary_answers_keep_the_connection),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
