/* unix_socket: a session with a socket path talks HTTP there, and to nobody else */
#include "support/peer_fixture.h"

#include "support/process.h"

struct local {
  char *dir;
  char path[64];
  cpool_session *session;
};

static cpool_session *session_to(struct peer *f, const char *path)
{
  cpool_session *session = NULL;
  cpool_session_options options;
  cpool_session_options_init(&options);
  options.unix_socket_path = path;
  assert_int_equal(cpool_session_new(&session, f->pool, &options), CPOOL_OK);
  return session;
}

static int setup(void **state)
{
  struct peer *f = peer_new();
  struct local *local = calloc(1, sizeof *local);
  assert_non_null(local);
  local->dir = temp_dir_new();
  snprintf(local->path, sizeof local->path, "%s/s", local->dir);
  f->server = fault_server_start(&(struct fault_options){.unix_path = local->path});
  assert_non_null(f->server);
  peer_open_pool(f, NULL);
  local->session = session_to(f, local->path);
  f->extra = local;
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct peer *f = *state;
  struct local *local = f->extra;
  cpool_session_free(local->session);
  peer_close_pool(f);
  temp_dir_free(local->dir);
  free(local);
  peer_free(f);
  return 0;
}

static struct ask on(struct peer *f, const char *path)
{
  return (struct ask){.session = ((struct local *) f->extra)->session, .url = peer_text(f, "http://name.test%s", path)};
}

static struct answer get(struct peer *f, const char *path)
{
  struct ask ask = on(f, path);
  return peer_ask(f, &ask);
}

static void requests_go_to_the_socket_and_reuse_their_connection(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < 50; i++) {
    struct answer answer = get(f, "/ok");
    peer_is_200(answer, "hello");
    assert_int_equal(answer.info.reused, i > 0);
    assert_string_equal(answer.info.remote_address, "unix");
  }
  assert_int_equal(peer_counts(f->server).accepted, 1);
  char *head = fault_server_last_head(f->server);
  assert_non_null(strstr(head, "\r\nHost: name.test\r\n"));
  free(head);
}

static void many_at_once_keep_the_limit(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < 200; i++) {
    struct ask ask = on(f, "/bytes/10000");
    peer_start(f, &ask);
  }
  for (int i = 0; i < 200; i++) {
    struct answer answer = peer_next(f);
    peer_is(answer, CPOOL_OK);
    peer_is_pattern(&answer, 10000);
    assert_in_range(peer_stats(f).total_connections, 0, 30);
  }
}

static void a_path_without_a_listener_is_a_failed_connect(void **state)
{
  struct peer *f = *state;
  cpool_session *session = session_to(f, "/nonexistent/socket");
  for (int i = 0; i < 5; i++) {
    struct answer answer = peer_ask(f, &(struct ask){.session = session, .url = "http://name.test/"});
    peer_is(answer, CPOOL_ECONNECT);
    assert_int_equal(answer.error.layer, CPOOL_LAYER_CONNECT);
    assert_int_equal(answer.error.flags, CPOOL_ERROR_NOTHING_SENT | CPOOL_ERROR_RETRIABLE);
  }
  cpool_session_free(session);
  peer_await(f, total_connections, 0);
  peer_await(f, closing_connections, 0);
  peer_is_200(get(f, "/ok"), "hello");
}

static void bytes_on_an_idle_socket_are_not_the_next_answer(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < 40; i++) {
    peer_is_200(get(f, "/poison"), "hello");
    assert_int_equal(fault_server_poison(f->server), 1);
    struct answer next = get(f, "/status/201");
    peer_is(next, CPOOL_OK);
    assert_int_equal(next.code, 201);
    assert_int_equal(next.info.reused, 0);
    assert_true(fault_server_drop_all(f->server) >= 1);
    peer_await(f, idle_connections, 0);
  }
}

static void the_end_of_an_idle_socket_is_noticed(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < 3; i++) {
    peer_is_200(get(f, "/close-idle/0"), "hello");
    peer_await(f, closed_peer, i + 1);
    peer_await(f, total_connections, 0);
    peer_await(f, closing_connections, 0);
  }
  struct ask ask = on(f, "/echo");
  ask.method = "POST";
  ask.body = "once";
  ask.body_len = 4;
  peer_is_200(peer_ask(f, &ask), "once");
  assert_int_equal(peer_counts(f->server).by_method[FAULT_POST], 1);
}

static void a_dead_reused_socket_repeats_a_get_and_no_post(void **state)
{
  struct peer *f = *state;
  peer_is_200(get(f, "/fin-on-reuse"), "hello");
  struct answer answer = get(f, "/fin-on-reuse");
  peer_is_200(answer, "hello");
  assert_int_equal(answer.info.attempts, 2);
  struct ask ask = on(f, "/echo");
  ask.method = "POST";
  ask.body = "once";
  ask.body_len = 4;
  peer_is(peer_ask(f, &ask), CPOOL_ERESET);
  assert_int_equal(peer_counts(f->server).by_method[FAULT_POST], 1);
}

static void two_sockets_and_a_port_do_not_share(void **state)
{
  struct peer *f = *state;
  struct process *nginx = nginx_start(&(struct nginx_options){.unix_listener = true});
  assert_non_null(nginx);
  cpool_session *session = session_to(f, process_unix_path(nginx));
  for (int i = 0; i < 5; i++) {
    peer_is_200(peer_ask(f, &(struct ask){.session = session, .url = "http://name.test/ok"}), "hello\n");
    peer_is_200(get(f, "/ok"), "hello");
    struct answer port = peer_ask(f, &(struct ask){.url = peer_text(f, "http://127.0.0.1:%u/ok", process_port(nginx))});
    peer_is_200(port, "hello\n");
    assert_string_not_equal(port.info.remote_address, "unix");
  }
  struct answer big = peer_ask(f, &(struct ask){.session = session, .url = "http://name.test/big"});
  peer_is(big, CPOOL_OK);
  peer_is_pattern(&big, 1048576);
  assert_int_equal(peer_stats(f).opened, 3);
  cpool_session_free(session);
  process_stop(nginx);
}

#define unix_case(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      unix_case(requests_go_to_the_socket_and_reuse_their_connection),
      unix_case(many_at_once_keep_the_limit),
      unix_case(a_path_without_a_listener_is_a_failed_connect),
      unix_case(bytes_on_an_idle_socket_are_not_the_next_answer),
      unix_case(the_end_of_an_idle_socket_is_noticed),
      unix_case(a_dead_reused_socket_repeats_a_get_and_no_post),
      unix_case(two_sockets_and_a_port_do_not_share),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
