/* origins: the hosts that a pool remembers: who makes room when max_origins is reached, whom options of one host reach,
 * and what pages of rows show while hosts come and go */
#include "support/pool_fixture.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* Hosts are addresses of 127.0.0.0/8, all served by one server. */
static int hosts_setup(void **state)
{
  if (pool_setup(state) != 0)
    return -1;
  struct pool_fixture *f = *state;
  fault_server_stop(f->server);
  f->server = fault_server_start(&(struct fault_options){.address = "0.0.0.0"});
  return f->server != NULL ? 0 : -1;
}

#define HOSTS_CASE(name) cmocka_unit_test_setup_teardown(name, hosts_setup, pool_teardown)

static const char *url_on(struct pool_fixture *f, int host, const char *path)
{
  static char text[200];
  snprintf(text, sizeof text, "http://127.1.%d.%d:%u%s", host / 250, host % 250 + 1,
           (unsigned) fault_server_port(f->server), path);
  return text;
}

static cpool_op ask_on(struct pool_fixture *f, int host, const char *path)
{
  cpool_request req = request_to(f, url_on(f, host, path));
  return submit(f, &req);
}

/* The number of the connection that it came over. */
static uint64_t get_on(struct pool_fixture *f, int host)
{
  cpool_op op = ask_on(f, host, "/ok");
  struct outcome out = take(f);
  if (out.status != CPOOL_OK)
    print_error("host %d: %s\n", host, error_of(&out).text);
  assert_int_equal(out.status, CPOOL_OK);
  assert_true(out.op == op);
  uint64_t connection = info_of(&out).connection;
  cpool_response_free(out.resp);
  return connection;
}

static void open_for(struct pool_fixture *f, int32_t max_origins)
{
  cpool_http_options options = pool_options();
  options.max_origins = max_origins;
  open_pool(f, &options);
}

/* The row of a host; false: it is not remembered. */
static bool row_of(struct pool_fixture *f, int host, cpool_origin_stats *row)
{
  uint64_t cursor = 0;
  while (cpool_http_origins_get(f->pool, &cursor, row, sizeof *row, 1) == 1)
    if (strcmp(row->origin, url_on(f, host, "")) == 0)
      return true;
  return false;
}

static bool remembers(struct pool_fixture *f, int host)
{
  cpool_origin_stats row;
  return row_of(f, host, &row);
}

static int64_t limit_of(struct pool_fixture *f, int host)
{
  cpool_origin_stats row;
  return row_of(f, host, &row) ? row.max_connections : -1;
}

/* ----------------------------------------------------------------------------------------------------------- making room */

static void hosts_with_nothing_but_idle_connections_make_room(void **state)
{
  enum { HOSTS = 100, REMEMBERED = 10 };
  struct pool_fixture *f = *state;
  open_for(f, REMEMBERED);
  for (int i = 0; i < HOSTS; i++) {
    get_on(f, i);
    assert_in_range(stats_of(f).origins, 0, REMEMBERED);
    assert_balanced(f->pool);
  }
  eventually(stats_of(f).succeeded == HOSTS);
  assert_int_equal(stats_of(f).origins, REMEMBERED);
  eventually(stats_of(f).closing_connections == 0);
  cpool_http_stats stats = stats_of(f);
  assert_int_equal(stats.closed_evicted, HOSTS - REMEMBERED);
  assert_int_equal(stats.idle_connections, REMEMBERED);
  eventually(counts_of(f).open == REMEMBERED);
}

static void least_recently_used_host_is_the_one_to_go(void **state)
{
  struct pool_fixture *f = *state;
  open_for(f, 3);
  uint64_t first = get_on(f, 1);
  get_on(f, 2);
  uint64_t third = get_on(f, 3);
  assert_true(get_on(f, 1) == first);
  get_on(f, 4);
  assert_false(remembers(f, 2));
  assert_true(remembers(f, 1) && remembers(f, 3) && remembers(f, 4));
  assert_true(get_on(f, 3) == third);
  assert_true(get_on(f, 1) == first);
}

static void host_without_connections_goes_before_one_that_keeps_some(void **state)
{
  struct pool_fixture *f = *state;
  open_for(f, 2);
  uint64_t kept = get_on(f, 1);
  cpool_op op = ask_on(f, 2, "/close");
  expect_end(f, op, CPOOL_OK);
  get_on(f, 3);
  assert_false(remembers(f, 2));
  assert_true(get_on(f, 1) == kept);
}

static void host_with_a_request_in_flight_stays_with_all_its_connections(void **state)
{
  struct pool_fixture *f = *state;
  open_for(f, 2);
  cpool_op first = ask_on(f, 1, "/hold");
  eventually(counts_of(f).held == 1);
  cpool_op second = ask_on(f, 1, "/hold");
  eventually(counts_of(f).held == 2);
  assert_int_equal(fault_server_release(f->server, 1), 1);
  expect_end(f, first, CPOOL_OK);
  for (int i = 2; i < 10; i++)
    get_on(f, i);
  cpool_origin_stats row;
  assert_true(row_of(f, 1, &row));
  assert_int_equal(row.acquired_connections, 1);
  assert_int_equal(row.idle_connections, 1);
  assert_int_equal(fault_server_release(f->server, 1), 1);
  expect_end(f, second, CPOOL_OK);
}

static void new_host_is_refused_while_every_other_has_a_request_and_only_then(void **state)
{
  struct pool_fixture *f = *state;
  open_for(f, 2);
  get_on(f, 2); /* an idle connection next to the busy one */
  cpool_op ops[] = {ask_on(f, 1, "/hold"), ask_on(f, 2, "/hold")};
  eventually(counts_of(f).held == 2);
  ask_on(f, 3, "/ok");
  struct outcome out = take(f);
  cpool_error error = error_of(&out);
  assert_int_equal(out.status, CPOOL_EFULL);
  assert_int_equal(error.layer, CPOOL_LAYER_POOL);
  assert_true((error.flags & CPOOL_ERROR_NOTHING_SENT) != 0);
  assert_non_null(strstr(error.text, "max_origins"));
  cpool_response_free(out.resp);
  assert_int_equal(cpool_cancel(f->pool, ops[0]), CPOOL_OK);
  expect_end(f, ops[0], CPOOL_ECANCELLED);
  get_on(f, 3);
  assert_false(remembers(f, 1));
  eventually(counts_of(f).held == 1); /* the server has noticed the cancel */
  assert_int_equal(fault_server_release(f->server, 2), 1);
  expect_end(f, ops[1], CPOOL_OK);
}

static void host_that_waits_is_in_use(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_origins = 2;
  options.max_connections = 1;
  open_pool(f, &options);
  cpool_op held = ask_on(f, 1, "/hold"), given_up = ask_on(f, 2, "/ok"), waiting = ask_on(f, 2, "/ok");
  eventually(counts_of(f).held == 1 && stats_of(f).pending_requests == 2);
  assert_int_equal(cpool_cancel(f->pool, given_up), CPOOL_OK);
  expect_end(f, given_up, CPOOL_ECANCELLED);
  cpool_op refused = ask_on(f, 3, "/ok");
  expect_end(f, refused, CPOOL_EFULL);
  assert_int_equal(fault_server_release(f->server, 1), 1);
  expect_end(f, held, CPOOL_OK);
  expect_end(f, waiting, CPOOL_OK);
}

/* A server by hand: whoever connects is accepted when the test says so. */
static int accept_within(int listener)
{
  struct pollfd ready = {.fd = listener, .events = POLLIN};
  assert_int_equal(poll(&ready, 1, DEADLINE_MS), 1);
  int fd = accept(listener, NULL, NULL);
  assert_true(fd >= 0);
  return fd;
}

static void answer(int fd)
{
  static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  char head[2000];
  size_t len = 0;
  do { /* a GET ends with its head */
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, DEADLINE_MS), 1);
    ssize_t got = recv(fd, head + len, sizeof head - 1 - len, 0);
    assert_true(got > 0);
    head[len += (size_t) got] = '\0';
  } while (strstr(head, "\r\n\r\n") == NULL);
  assert_int_equal(send(fd, text, sizeof text - 1, MSG_NOSIGNAL), sizeof text - 1);
}

static void host_that_a_connection_is_being_made_to_is_in_use(void **state)
{
  struct pool_fixture *f = *state;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
      filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(listener, (struct sockaddr *) &address, len), 0);
  assert_int_equal(listen(listener, 0), 0); /* one connection may wait to be accepted; for more, connects hang */
  assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &len), 0);
  open_for(f, 1);
  cpool_request req = request_to(f, url_at(ntohs(address.sin_port), "/"));
  cpool_op first = submit(f, &req);
  int fd = accept_within(listener);
  assert_int_equal(connect(filler, (struct sockaddr *) &address, len), 0);
  cpool_op second = submit(f, &req);
  eventually(stats_of(f).connecting_connections == 1);
  answer(fd);
  expect_end(f, first, CPOOL_OK);
  answer(fd); /* the second one did not wait for its own connection */
  expect_end(f, second, CPOOL_OK);
  assert_int_equal(stats_of(f).connecting_connections, 1);
  cpool_op refused = ask_on(f, 1, "/ok");
  expect_end(f, refused, CPOOL_EFULL);
  close(accept_within(listener)); /* the filler: now there is room for the hanging one, when the kernel tries again */
  eventually(stats_of(f).connecting_connections == 0);
  get_on(f, 1);
  eventually(stats_of(f).closing_connections == 0);
  close(fd);
  close(filler);
  close(listener);
}

static void host_that_was_just_forgotten_can_come_back_at_once(void **state)
{
  enum { ROUNDS = 60 };
  struct pool_fixture *f = *state;
  uint64_t last = 0;
  open_for(f, 1);
  for (int i = 0; i < ROUNDS; i++) {
    uint64_t connection = get_on(f, i % 2);
    assert_true(connection > last);
    last = connection;
    assert_balanced(f->pool);
  }
  eventually(stats_of(f).closing_connections == 0);
  assert_int_equal(stats_of(f).closed_evicted, ROUNDS - 1);
  assert_int_equal(stats_of(f).origins, 1);
}

static void sockets_being_closed_refuse_no_new_host(void **state)
{
  enum { HOSTS = 12, EACH = 8 };
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  options.max_origins = 2;
  options.max_closing = 1; /* far fewer than are closed at once here */
  open_pool(f, &options);
  for (int i = 0; i < HOSTS; i++) {
    for (int n = 0; n < EACH; n++)
      ask_on(f, i, "/hold");
    eventually(counts_of(f).held == EACH);
    assert_int_equal(fault_server_release(f->server, EACH), EACH);
    for (int n = 0; n < EACH; n++) {
      struct outcome out = take(f);
      assert_int_equal(out.status, CPOOL_OK);
      cpool_response_free(out.resp);
    }
    assert_in_range(stats_of(f).origins, 0, 2);
  }
  eventually(stats_of(f).closing_connections == 0);
  assert_int_equal(stats_of(f).closed_evicted, (HOSTS - 2) * EACH);
}

static void hosts_at_once_take_turns_in_a_small_memory(void **state)
{
  enum { HOSTS = 40, EACH = 3 };
  struct pool_fixture *f = *state;
  int ok = 0, full = 0;
  open_for(f, HOSTS / 2);
  for (int i = 0; i < HOSTS * EACH; i++)
    ask_on(f, i % HOSTS, "/ok");
  for (int i = 0; i < HOSTS * EACH; i++) {
    struct outcome out = take(f);
    ok += out.status == CPOOL_OK;
    full += out.status == CPOOL_EFULL;
    cpool_response_free(out.resp);
  }
  assert_int_equal(ok + full, HOSTS * EACH);
  assert_true(ok >= HOSTS / 2);
  for (int i = 0; i < HOSTS; i++) /* nothing is in flight: nobody is refused */
    get_on(f, i);
  assert_in_range(stats_of(f).origins, 0, HOSTS / 2);
  eventually(stats_of(f).closing_connections == 0);
}

static void lowered_max_origins_holds_from_the_next_new_host_on(void **state)
{
  struct pool_fixture *f = *state;
  cpool_http_options options = pool_options();
  open_for(f, 20);
  for (int i = 0; i < 20; i++)
    get_on(f, i);
  options.max_origins = 5;
  assert_int_equal(cpool_http_reconfigure(f->pool, &options), CPOOL_OK);
  get_on(f, 20);
  eventually(stats_of(f).origins == 5);
  for (int i = 16; i <= 20; i++)
    assert_true(remembers(f, i));
  eventually(stats_of(f).total_connections == 5);
}

static void pool_closes_while_forgotten_hosts_still_have_sockets(void **state)
{
  struct pool_fixture *f = *state;
  open_for(f, 2);
  for (int i = 0; i < 30; i++)
    get_on(f, i);
  close_pool(f);
  eventually(counts_of(f).open == 0);
}

/* ------------------------------------------------------------------------------------------------ options of one host */

static void own_option_reaches_its_host_alone_before_and_after_it_is_met(void **state)
{
  struct pool_fixture *f = *state;
  open_for(f, 3);
  get_on(f, 1);
  get_on(f, 2);
  assert_int_equal(cpool_http_origin_set(f->pool, url_on(f, 1, ""), "max_connections_per_host", "7"), CPOOL_OK);
  assert_int_equal(cpool_http_origin_set(f->pool, url_on(f, 3, ""), "max_connections_per_host", "8"), CPOOL_OK);
  eventually(limit_of(f, 1) == 7);
  assert_int_equal(limit_of(f, 2), 30);
  get_on(f, 3);
  eventually(limit_of(f, 3) == 8);
  for (int i = 4; i < 8; i++)
    get_on(f, i);
  assert_false(remembers(f, 1));
  get_on(f, 1);
  eventually(limit_of(f, 1) == 7);
  assert_int_equal(cpool_http_origin_set(f->pool, url_on(f, 1, ""), "max_connections_per_host", NULL), CPOOL_OK);
  eventually(limit_of(f, 1) == 30);
}

static int64_t limit_through(struct pool_fixture *f, const char *path)
{
  cpool_origin_stats row;
  uint64_t cursor = 0;
  while (cpool_http_origins_get(f->pool, &cursor, &row, sizeof row, 1) == 1)
    if (strncmp(row.origin, "http://inside.test", 18) == 0 && strstr(row.origin, path) != NULL)
      return row.max_connections;
  return -1;
}

static void get_through(struct pool_fixture *f, cpool_session *session)
{
  cpool_request req = request_to(f, "http://inside.test/ok");
  cpool_op op = submit_in(session, &req);
  expect_end(f, op, CPOOL_OK);
}

static void own_option_reaches_the_host_behind_unix_sockets(void **state)
{
  struct pool_fixture *f = *state;
  char *dir = temp_dir_new(), paths[2][200];
  struct fault_server *servers[2];
  cpool_session *sessions[2];
  cpool_session_options options;
  open_for(f, 10);
  for (int i = 0; i < 2; i++) {
    snprintf(paths[i], sizeof paths[i], "%s/%c.sock", dir, 'a' + i);
    servers[i] = fault_server_start(&(struct fault_options){.unix_path = paths[i]});
    assert_non_null(servers[i]);
    cpool_session_options_init(&options);
    options.unix_socket_path = paths[i];
    sessions[i] = session_open(f->pool, &options);
    get_through(f, sessions[i]);
  }
  assert_int_equal(cpool_http_origin_set(f->pool, "http://inside.test", "max_connections_per_host", "3"), CPOOL_OK);
  eventually(limit_through(f, paths[0]) == 3);
  eventually(limit_through(f, paths[1]) == 3);
  /* nobody talks to it while the option changes, and it is remembered */
  cpool_session_free(sessions[1]);
  eventually(stats_of(f).identities == 2);
  eventually(counts_of(f).open + fault_server_open(servers[1]) == 0);
  assert_int_equal(cpool_http_origin_set(f->pool, "http://inside.test", "max_connections_per_host", "4"), CPOOL_OK);
  eventually(limit_through(f, paths[0]) == 4);
  sessions[1] = session_open(f->pool, &options);
  get_through(f, sessions[1]);
  eventually(limit_through(f, paths[1]) == 4);
  cpool_session_free(sessions[0]);
  cpool_session_free(sessions[1]);
  close_pool(f);
  fault_server_stop(servers[0]);
  fault_server_stop(servers[1]);
  temp_dir_free(dir);
}

static void options_of_many_hosts_do_not_hold_up_requests(void **state)
{
  enum { HOSTS = 2000, BATCH = 100, MOST_MS = 1000 };
  struct pool_fixture *f = *state;
  uint16_t port;
  int port_fd = refusing_port_open(&port);
  char url[100];
  open_for(f, HOSTS + 10);
  for (int i = 0; i < HOSTS; i++) { /* remembered although nobody answers */
    snprintf(url, sizeof url, "http://127.2.%d.%d:%u/", i / 250, i % 250 + 1, (unsigned) port);
    cpool_request req = request_to(f, url);
    submit(f, &req);
    if ((i + 1) % BATCH == 0)
      for (int n = 0; n < BATCH; n++)
        cpool_response_free(take(f).resp);
  }
  eventually(stats_of(f).origins == HOSTS);
  get_on(f, 0);
  int64_t start_ms = now_ms();
  for (int i = 0; i < HOSTS; i++) {
    snprintf(url, sizeof url, "http://127.2.%d.%d:%u", i / 250, i % 250 + 1, (unsigned) port);
    assert_int_equal(cpool_http_origin_set(f->pool, url, "max_connections_per_host", "5"), CPOOL_OK);
  }
  get_on(f, 0);
  assert_in_range(now_ms() - start_ms, 0, MOST_MS);
  close(port_fd);
}

/* -------------------------------------------------------------------------------------------------------------- paging */

static void pages_show_no_host_twice_while_hosts_come_and_go(void **state)
{
  enum { HOSTS = 24, REMEMBERED = 8, PASSES = 60 };
  struct pool_fixture *f = *state;
  int next = 0;
  open_for(f, REMEMBERED);
  for (; next < REMEMBERED; next++)
    get_on(f, next);
  for (int pass = 0; pass < PASSES; pass++) {
    char seen[2 * HOSTS][sizeof((cpool_origin_stats *) 0)->origin];
    cpool_origin_stats rows[3];
    uint64_t cursor = 0;
    int count = 0, got;
    while ((got = cpool_http_origins_get(f->pool, &cursor, rows, sizeof *rows, 3)) > 0) {
      for (int i = 0; i < got; i++) {
        for (int n = 0; n < count; n++)
          assert_string_not_equal(seen[n], rows[i].origin);
        assert_in_range(count, 0, 2 * HOSTS - 1);
        memcpy(seen[count++], rows[i].origin, sizeof seen[0]);
      }
      for (int i = 0; i < 1 + pass % REMEMBERED; i++) /* the hosts shown may go and come back before the pass ends */
        get_on(f, next++ % (REMEMBERED + 1 + pass % (HOSTS - REMEMBERED)));
    }
    assert_in_range(count, 1, REMEMBERED);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      HOSTS_CASE(hosts_with_nothing_but_idle_connections_make_room),
      HOSTS_CASE(least_recently_used_host_is_the_one_to_go),
      HOSTS_CASE(host_without_connections_goes_before_one_that_keeps_some),
      HOSTS_CASE(host_with_a_request_in_flight_stays_with_all_its_connections),
      HOSTS_CASE(new_host_is_refused_while_every_other_has_a_request_and_only_then),
      HOSTS_CASE(host_that_waits_is_in_use),
      HOSTS_CASE(host_that_a_connection_is_being_made_to_is_in_use),
      HOSTS_CASE(host_that_was_just_forgotten_can_come_back_at_once),
      HOSTS_CASE(sockets_being_closed_refuse_no_new_host),
      HOSTS_CASE(hosts_at_once_take_turns_in_a_small_memory),
      HOSTS_CASE(lowered_max_origins_holds_from_the_next_new_host_on),
      HOSTS_CASE(pool_closes_while_forgotten_hosts_still_have_sockets),
      HOSTS_CASE(own_option_reaches_its_host_alone_before_and_after_it_is_met),
      HOSTS_CASE(own_option_reaches_the_host_behind_unix_sockets),
      HOSTS_CASE(options_of_many_hosts_do_not_hold_up_requests),
      HOSTS_CASE(pages_show_no_host_twice_while_hosts_come_and_go),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
