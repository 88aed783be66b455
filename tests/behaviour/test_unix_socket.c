/* unix_socket: a session with a socket path talks HTTP there, and to nobody else */
#include "support/peer_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "support/process.h"

struct local {
  char *dir;
  char path[64];
  cpool_session *session;
};

static cpool_session *session_to(struct peer *f, const char *path)
{
  cpool_session_options options = session_options();
  options.unix_socket_path = path;
  cpool_session *session = session_open(f->pool, &options);
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

/* ---- a listener whose backlog is full: nobody accepts, and the room is taken by connections of the test's own */

enum { FILLERS = 4 };

struct crowd {
  struct local local; /* first: on() finds the session here */
  int listener, fillers[FILLERS], filler_count;
  bool keep_alive;
  pthread_t thread;
  bool running;
};

static int crowd_connect(struct crowd *crowd)
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", crowd->local.path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  if (connect(fd, (struct sockaddr *) &address, sizeof address) == 0)
    return fd;
  assert_int_equal(errno, EAGAIN);
  close(fd);
  return -1;
}

static void crowd_fill(struct crowd *crowd)
{
  int fd;
  while ((fd = crowd_connect(crowd)) >= 0) {
    assert_in_range(crowd->filler_count, 0, FILLERS - 1);
    crowd->fillers[crowd->filler_count++] = fd;
  }
}

static void crowd_leave(struct crowd *crowd)
{
  while (crowd->filler_count > 0)
    close(crowd->fillers[--crowd->filler_count]);
}

static void answer_all(int fd, bool keep_alive)
{
  char text[4096];
  const char *answer = keep_alive ? "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
                                  : "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
  while (read(fd, text, sizeof text) > 0) { /* a head of a few bytes comes in one piece */
    if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0 || !keep_alive)
      break;
  }
  close(fd);
}

/* One connection after the other, until the listener is shut down. */
static void *serve(void *user)
{
  struct crowd *crowd = user;
  int fd;
  while ((fd = accept4(crowd->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
    answer_all(fd, crowd->keep_alive);
  return NULL;
}

static void crowd_serve(struct crowd *crowd)
{
  assert_int_equal(pthread_create(&crowd->thread, NULL, serve, crowd), 0);
  crowd->running = true;
}

static int crowd_setup(void **state)
{
  struct peer *f = peer_new();
  struct crowd *crowd = calloc(1, sizeof *crowd);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  assert_non_null(crowd);
  crowd->local.dir = temp_dir_new();
  snprintf(crowd->local.path, sizeof crowd->local.path, "%s/s", crowd->local.dir);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", crowd->local.path);
  crowd->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(crowd->listener, (struct sockaddr *) &address, sizeof address), 0);
  assert_int_equal(listen(crowd->listener, 1), 0);
  peer_open_pool(f, NULL);
  crowd->local.session = session_to(f, crowd->local.path);
  f->extra = crowd;
  *state = f;
  return 0;
}

static int crowd_teardown(void **state)
{
  struct peer *f = *state;
  struct crowd *crowd = f->extra;
  cpool_session_free(crowd->local.session);
  peer_close_pool(f);
  crowd_leave(crowd);
  shutdown(crowd->listener, SHUT_RDWR);
  if (crowd->running)
    pthread_join(crowd->thread, NULL);
  close(crowd->listener);
  temp_dir_free(crowd->local.dir);
  free(crowd);
  peer_free(f);
  return 0;
}

/* So many connects have failed, or any request has ended. */
struct tries {
  struct peer *f;
  uint64_t count;
};

static bool has_tried(void *ctx)
{
  const struct tries *tries = ctx;
  cpool_http_stats stats = peer_stats(tries->f);
  return stats.opened >= tries->count || stats.failed > 0;
}

static void tries_without_an_end(struct peer *f, uint64_t count)
{
  assert_true(wait_until(has_tried, &(struct tries){f, count}, PEER_DEADLINE_MS));
  assert_int_equal(peer_stats(f).failed, 0);
}

static void a_full_backlog_is_waited_for_and_is_no_attempt(void **state)
{
  struct peer *f = *state;
  struct crowd *crowd = f->extra;
  crowd_fill(crowd);
  for (int i = 0; i < 100; i++) {
    struct ask ask = on(f, "/ok");
    ask.method = i % 2 == 0 ? "GET" : "POST"; /* nothing is sent: what may not be repeated waits as well */
    ask.body = i % 2 == 0 ? NULL : "once";
    ask.body_len = i % 2 == 0 ? 0 : 4;
    peer_start(f, &ask);
  }
  tries_without_an_end(f, 200);
  cpool_http_stats stats = peer_stats(f);
  assert_int_equal(stats.pending_requests, 70); /* 30 keep their places: those behind do not pass */
  crowd_leave(crowd);
  crowd_serve(crowd);
  for (int i = 0; i < 100; i++) {
    struct answer answer = peer_next(f);
    peer_is_200(answer, "hello");
    assert_int_equal(answer.info.attempts, 1);
  }
  stats = peer_stats(f);
  assert_int_equal(stats.repeated, 0);
  assert_true(stats.closed_dial >= 100);
  peer_await(f, total_connections, 0);
}

static void a_backlog_that_stays_full_ends_with_the_connect_timeout(void **state)
{
  struct peer *f = *state;
  crowd_fill(f->extra);
  struct ask ask = on(f, "/ok");
  ask.connect_ms = 150;
  struct answer answer = peer_ask(f, &ask);
  peer_is(answer, CPOOL_ETIMEOUT_CONNECT);
  assert_in_range(answer.took_ms, 150, 2000);
  assert_int_equal(answer.error.layer, CPOOL_LAYER_CONNECT);
  assert_true((answer.error.flags & CPOOL_ERROR_NOTHING_SENT) != 0);
  assert_in_range(peer_stats(f).opened, 3, 40); /* waits grow: not a tight loop */
  ask.connect_ms = 0;
  ask.total_ms = 150;
  answer = peer_ask(f, &ask);
  peer_is(answer, CPOOL_ETIMEOUT_TOTAL);
  assert_in_range(answer.took_ms, 150, 2000);
  peer_await(f, total_connections, 0);
  ask.connect_ms = 200;
  ask.total_ms = 5000;
  for (int i = 0; i < 90; i++) /* more than the limit: passing through the queue does not begin the time anew */
    peer_start(f, &ask);
  for (int i = 0; i < 90; i++)
    peer_is(peer_next(f), CPOOL_ETIMEOUT_CONNECT);
  peer_await(f, total_connections, 0);
}

static void a_wait_for_a_full_listener_can_be_cancelled(void **state)
{
  struct peer *f = *state;
  crowd_fill(f->extra);
  for (uint64_t i = 0; i < 40; i++) { /* at many moments: waiting and trying */
    uint64_t before = peer_stats(f).opened;
    struct ask ask = on(f, "/ok");
    cpool_op op = peer_start(f, &ask);
    assert_true(wait_until(has_tried, &(struct tries){f, before + 1 + i % 4}, PEER_DEADLINE_MS));
    assert_int_equal(cpool_cancel(f->pool, op), CPOOL_OK);
    peer_is(peer_next(f), CPOOL_ECANCELLED);
  }
  peer_await(f, total_connections, 0);
}

static void a_close_ends_the_waits_for_a_full_listener(void **state)
{
  struct peer *f = *state;
  struct crowd *crowd = f->extra;
  crowd_fill(crowd);
  for (int i = 0; i < 50; i++) {
    struct ask ask = on(f, "/ok");
    peer_start(f, &ask);
  }
  tries_without_an_end(f, 100);
  cpool_session_free(crowd->local.session);
  crowd->local.session = NULL;
  peer_close_pool(f);
  for (int i = 0; i < 50; i++)
    peer_is(peer_next(f), CPOOL_ECLOSED);
}

static void who_waits_for_a_full_listener_gets_the_next_free_connection(void **state)
{
  struct peer *f = *state;
  struct crowd *crowd = f->extra;
  crowd->keep_alive = true;
  crowd_serve(crowd);
  peer_is_200(get(f, "/ok"), "hello"); /* the only connection that the server ever takes */
  crowd_fill(crowd);
  for (int i = 0; i < 60; i++) {
    struct ask ask = on(f, "/ok");
    peer_start(f, &ask);
  }
  for (int i = 0; i < 60; i++) {
    struct answer answer = peer_next(f);
    peer_is_200(answer, "hello");
    assert_int_equal(answer.info.reused, 1);
    assert_int_equal(answer.info.attempts, 1);
  }
  peer_await(f, total_connections, 1);
}

#define crowd_case(test) cmocka_unit_test_setup_teardown(test, crowd_setup, crowd_teardown)
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
      crowd_case(a_full_backlog_is_waited_for_and_is_no_attempt),
      crowd_case(a_backlog_that_stays_full_ends_with_the_connect_timeout),
      crowd_case(a_wait_for_a_full_listener_can_be_cancelled),
      crowd_case(a_close_ends_the_waits_for_a_full_listener),
      crowd_case(who_waits_for_a_full_listener_gets_the_next_free_connection),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
