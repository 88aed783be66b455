/* idle_watch: whatever a peer does on an idle connection ends that connection and never touches the next request */
#include "support/peer_fixture.h"

#include "support/certs.h"

enum { ROUNDS = 40, MANY = 20 };

struct tls {
  struct certs *certs;
  cpool_session *session;
};

static int setup_tls(void **state)
{
  struct peer *f = peer_new();
  struct tls *tls = calloc(1, sizeof *tls);
  assert_non_null(tls);
  tls->certs = certs_new();
  f->server = fault_server_start(
      &(struct fault_options){.tls_cert_file = tls->certs->good.cert_file, .tls_key_file = tls->certs->good.key_file});
  assert_non_null(f->server);
  peer_open_pool(f, NULL);
  tls->session = session_trusting(f->pool, tls->certs->ca_file);
  f->extra = tls;
  *state = f;
  return 0;
}

static int teardown_tls(void **state)
{
  struct peer *f = *state;
  struct tls *tls = f->extra;
  cpool_session_free(tls->session);
  peer_close_pool(f);
  certs_free(tls->certs);
  free(tls);
  peer_free(f);
  return 0;
}

/* On plain HTTP or over TLS, as the fixture is. */
static struct ask on(struct peer *f, const char *path)
{
  struct tls *tls = f->extra;
  if (tls == NULL)
    return (struct ask){.url = path};
  return (struct ask){.session = tls->session,
                      .url = peer_text(f, "https://127.0.0.1:%u%s", fault_server_port(f->server), path)};
}

static struct answer get(struct peer *f, const char *path)
{
  struct ask ask = on(f, path);
  return peer_ask(f, &ask);
}

struct held {
  struct fault_server *server;
  int count;
};

static bool all_are_held(void *ctx)
{
  struct held *held = ctx;
  return peer_counts(held->server).held == held->count;
}

/* `count` idle connections, each after a request for `path`. */
static void fill(struct peer *f, const char *path, int count)
{
  for (int i = 0; i < count; i++) {
    struct ask ask = on(f, "/hold");
    peer_start(f, &ask);
  }
  struct held held = {f->server, count};
  assert_true(wait_until(all_are_held, &held, PEER_GONE_MS)); /* one that is answered before would serve the next */
  assert_int_equal(fault_server_release(f->server, count), count);
  for (int i = 0; i < count; i++)
    peer_is_200(peer_next(f), "hello");
  peer_await(f, idle_connections, count);
  if (path == NULL)
    return;
  for (int i = 0; i < count; i++) {
    struct ask ask = on(f, path);
    peer_start(f, &ask);
  }
  for (int i = 0; i < count; i++)
    peer_is_200(peer_next(f), "hello");
}

static bool nothing_is_open(void *ctx)
{
  return fault_server_open(ctx) == 0;
}

static bool fds_fell(void *ctx)
{
  const int32_t *most = ctx;
  return open_fd_count() <= *most;
}

/* ---- bytes that nobody asked for */

static void bytes_sent_on_an_idle_connection_are_not_the_next_answer(void **state)
{
  struct peer *f = *state;
  bool tls = f->extra != NULL;
  for (int i = 0; i < ROUNDS; i++) {
    peer_is_200(get(f, "/poison"), "hello");
    assert_int_equal(fault_server_poison(f->server), 1);
    struct answer next = get(f, "/status/201");
    peer_is(next, CPOOL_OK);
    assert_int_equal(next.code, 201);
    assert_string_equal(next.body, "hello");
    assert_int_equal(next.info.reused, 0);
    /* so that the next round does not meet this one's connection */
    assert_true(fault_server_drop_all(f->server) >= 1);
    peer_await(f, idle_connections, 0);
  }
  peer_await(f, succeeded, 2 * ROUNDS);
  peer_await(f, closing_connections, 0);
  cpool_http_stats stats = peer_stats(f);
  assert_int_equal(tls ? stats.closed_peer + stats.closed_unsolicited : stats.closed_unsolicited,
                   tls ? 2 * ROUNDS : ROUNDS);
}

static void bytes_behind_an_answer_in_one_write_are_not_the_next_answer(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < ROUNDS; i++) {
    peer_is_200(get(f, "/extra-bytes"), "hello");
    struct answer next = get(f, "/status/201");
    peer_is(next, CPOOL_OK);
    assert_int_equal(next.code, 201);
    assert_string_equal(next.body, "hello");
  }
}

static void bytes_on_an_idle_connection_close_it_without_a_request(void **state)
{
  struct peer *f = *state;
  peer_is_200(get(f, "/poison/20"), "hello");
  if (f->extra == NULL)
    peer_await(f, closed_unsolicited, 1);
  peer_await(f, closing_connections, 0);
  peer_await(f, total_connections, 0);
  peer_await(f, closed, 1);
  peer_is_200(get(f, "/ok"), "hello");
}

static void bytes_on_many_idle_connections_close_them_all(void **state)
{
  struct peer *f = *state;
  fill(f, NULL, MANY);
  for (int i = 0; i < MANY; i++) {
    struct ask ask = on(f, "/poison");
    peer_start(f, &ask);
  }
  for (int i = 0; i < MANY; i++)
    peer_is_200(peer_next(f), "hello");
  int poisoned = fault_server_poison(f->server);
  assert_in_range(poisoned, 1, MANY);
  for (int i = 0; i < MANY; i++) {
    struct ask ask = on(f, "/status/201");
    peer_start(f, &ask);
  }
  for (int i = 0; i < MANY; i++) {
    struct answer next = peer_next(f);
    peer_is(next, CPOOL_OK);
    assert_int_equal(next.code, 201);
  }
  if (f->extra == NULL)
    peer_await(f, closed_unsolicited, poisoned);
  peer_await(f, closed, poisoned);
}

/* ---- the end */

static void a_connection_closed_while_idle_is_counted_and_gone(void **state)
{
  struct peer *f = *state;
  static const char *const paths[] = {"/close-idle/0", "/reset-idle/0"};
  peer_is_200(get(f, "/close"), "hello"); /* makes what the pool keeps open besides connections */
  peer_await(f, closed, 1);
  assert_int_equal(wait_until(nothing_is_open, f->server, PEER_GONE_MS), true);
  for (int i = 0; i < 2; i++) {
    int32_t fds = open_fd_count();
    peer_is_200(get(f, paths[i]), "hello");
    peer_await(f, closed_peer, i + 1);
    peer_await(f, closing_connections, 0);
    peer_await(f, total_connections, 0);
    assert_true(wait_until(fds_fell, &fds, PEER_GONE_MS));
    struct answer next = get(f, "/close");
    peer_is_200(next, "hello");
    assert_int_equal(next.info.reused, 0);
    assert_int_equal(next.info.attempts, 1);
    peer_await(f, total_connections, 0);
  }
  assert_int_equal(peer_stats(f).failed, 0);
}

static void a_get_right_behind_the_end_of_its_connection_succeeds(void **state)
{
  struct peer *f = *state;
  static const char *const paths[] = {"/close-idle/0", "/reset-idle/0", "/close-idle/1", "/reset-idle/1"};
  for (int i = 0; i < ROUNDS; i++)
    peer_is_200(get(f, paths[i % 4]), "hello");
  peer_is_200(get(f, "/ok"), "hello");
  assert_int_equal(peer_stats(f).failed, 0);
}

static void a_post_behind_a_known_end_is_sent_once_and_succeeds(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < ROUNDS; i++) {
    peer_is_200(get(f, "/ok"), "hello");
    assert_true((i % 2 ? fault_server_drop_all(f->server) : fault_server_reset_all(f->server)) >= 1);
    /* the FIN or RST is in our socket: it is seen before anything is sent */
    struct ask ask = on(f, "/echo");
    ask.method = "POST";
    ask.body = "once";
    ask.body_len = 4;
    peer_is_200(peer_ask(f, &ask), "once");
    assert_int_equal(peer_counts(f->server).by_method[FAULT_POST], i + 1);
    assert_true(fault_server_drop_all(f->server) >= 1);
    peer_await(f, idle_connections, 0);
  }
  assert_int_equal(peer_stats(f).failed, 0);
}

static void many_ends_at_once_are_all_noticed(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < 2; i++) {
    fill(f, NULL, MANY);
    assert_int_equal(i == 0 ? fault_server_drop_all(f->server) : fault_server_reset_all(f->server), MANY);
    peer_await(f, idle_connections, 0);
    peer_await(f, closing_connections, 0);
    peer_await(f, closed_peer, MANY * (i + 1));
    assert_true(fault_server_open(f->server) <= MANY);
  }
  peer_is_200(get(f, "/ok"), "hello");
}

static void an_idle_connection_that_is_left_alone_stays(void **state)
{
  struct peer *f = *state;
  struct answer first = get(f, "/ok");
  for (int i = 0; i < ROUNDS; i++) {
    struct answer next = get(f, "/ok");
    peer_is_200(next, "hello");
    assert_int_equal(next.info.reused, 1);
    assert_int_equal(next.info.connection, first.info.connection);
  }
  assert_int_equal(peer_counts(f->server).accepted, 1);
  assert_int_equal(peer_stats(f).closed, 0);
}

#define tls_case(test)                                                                                                 \
  {                                                                                                                    \
    "tls:" #test, test, setup_tls, teardown_tls, NULL                                                                  \
  }

int main(void)
{
  const struct CMUnitTest tests[] = {
      peer_case(bytes_sent_on_an_idle_connection_are_not_the_next_answer),
      tls_case(bytes_sent_on_an_idle_connection_are_not_the_next_answer),
      peer_case(bytes_behind_an_answer_in_one_write_are_not_the_next_answer),
      tls_case(bytes_behind_an_answer_in_one_write_are_not_the_next_answer),
      peer_case(bytes_on_an_idle_connection_close_it_without_a_request),
      tls_case(bytes_on_an_idle_connection_close_it_without_a_request),
      peer_case(bytes_on_many_idle_connections_close_them_all),
      tls_case(bytes_on_many_idle_connections_close_them_all),
      peer_case(a_connection_closed_while_idle_is_counted_and_gone),
      tls_case(a_connection_closed_while_idle_is_counted_and_gone),
      peer_case(a_get_right_behind_the_end_of_its_connection_succeeds),
      tls_case(a_get_right_behind_the_end_of_its_connection_succeeds),
      peer_case(a_post_behind_a_known_end_is_sent_once_and_succeeds),
      tls_case(a_post_behind_a_known_end_is_sent_once_and_succeeds),
      peer_case(many_ends_at_once_are_all_noticed),
      tls_case(many_ends_at_once_are_all_noticed),
      peer_case(an_idle_connection_that_is_left_alone_stays),
      tls_case(an_idle_connection_that_is_left_alone_stays),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
