/* http2: requests share connections of hosts that speak HTTP/2, within their limits, and nothing is lost when those end */
#include "support/pool_fixture.h"

#include <signal.h>

#include "support/certs.h"
#include "support/process.h"

enum { BURST = 64, MANY = 300, FEW_STREAMS = 10 };

static struct certs *certs;

static int group_setup(void **state)
{
  certs = certs_new();
  return certs != NULL ? pool_warm_up(state) : -1;
}

static int group_teardown(void **state)
{
  (void) state;
  certs_free(certs);
  return 0;
}

static cpool_session *session_of(struct pool_fixture *f, int version)
{
  cpool_session_options options;
  cpool_session *session = NULL;
  cpool_session_options_init(&options);
  options.ca_file = certs->ca_file;
  options.http_version = version;
  assert_int_equal(cpool_session_new(&session, f->pool, &options), CPOOL_OK);
  return session;
}

static const char *tls_url(uint16_t port, const char *path)
{
  static _Thread_local char texts[8][256];
  static _Thread_local unsigned next;
  char *text = texts[next++ % 8];
  snprintf(text, sizeof texts[0], "https://127.0.0.1:%u%s", (unsigned) port, path);
  return text;
}

static struct process *start_nghttpd(int max_streams)
{
  struct process *server = nghttpd_start(&(struct nghttpd_options){.certs = certs, .max_streams = max_streams});
  assert_non_null(server);
  return server;
}

static struct process *start_nginx(const char *lines)
{
  struct process *server = nginx_start(&(struct nginx_options){.certs = certs, .http2 = true, .server_lines = lines});
  assert_non_null(server);
  return server;
}

static void submit_many(struct pool_fixture *f, cpool_session *session, const char *url, int count)
{
  for (int i = 0; i < count; i++) {
    cpool_request req = request_to(f, url);
    submit_in(session, &req);
  }
}

/* Takes so many answers, all of them good. */
static void take_answers(struct pool_fixture *f, int count, int version)
{
  for (int i = 0; i < count; i++) {
    struct outcome out = take(f);
    cpool_error error = error_of(&out);
    if (out.status != CPOOL_OK)
      print_error("%s: %s\n", cpool_status_name(out.status), error.text);
    assert_int_equal(out.status, CPOOL_OK);
    assert_int_equal(cpool_response_status(out.resp), 200);
    assert_int_equal(info_of(&out).http_version, version);
    cpool_response_free(out.resp);
  }
}

static void a_burst_shares_one_connection(void **state)
{
  struct pool_fixture *f = *state;
  struct process *servers[2] = {start_nghttpd(0), start_nginx(NULL)};
  open_pool(f, NULL);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  for (int i = 0; i < 2; i++) {
    uint16_t port = i == 0 ? process_port(servers[i]) : process_tls_port(servers[i]);
    submit_many(f, session, tls_url(port, "/index.html"), BURST);
    take_answers(f, BURST, 20);
    assert_int_equal(stats_of(f).opened, i + 1);
    submit_many(f, session, tls_url(port, "/index.html"), BURST); /* and goes on with it */
    take_answers(f, BURST, 20);
    assert_int_equal(stats_of(f).opened, i + 1);
    assert_balanced(f->pool);
  }
  assert_int_equal(stats_of(f).repeated, 0);
  cpool_session_free(session);
  close_pool(f);
  process_stop(servers[0]);
  process_stop(servers[1]);
}

static void a_host_without_it_is_asked_in_http_1(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = nginx_start(&(struct nginx_options){.certs = certs});
  assert_non_null(nginx);
  open_pool(f, NULL);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  submit_many(f, session, tls_url(process_tls_port(nginx), "/ok"), BURST);
  take_answers(f, BURST, 11);
  assert_in_range(stats_of(f).opened, 2, 30); /* it multiplexes nothing, so they dial */
  submit_many(f, session, url_at(process_port(nginx), "/ok"), 3);
  take_answers(f, 3, 11);
  cpool_session_free(session);
  close_pool(f);
  process_stop(nginx);
}

static void it_is_spoken_only_when_asked_for(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = start_nginx(NULL);
  open_pool(f, NULL);
  cpool_session *old = session_of(f, CPOOL_HTTP_1_1), *new = session_of(f, CPOOL_HTTP_2);
  submit_many(f, old, tls_url(process_tls_port(nginx), "/ok"), 1);
  take_answers(f, 1, 11);
  submit_many(f, new, tls_url(process_tls_port(nginx), "/ok"), 1);
  take_answers(f, 1, 20);
  assert_int_equal(stats_of(f).opened, 2); /* identities of their own */
  cpool_session_free(old);
  cpool_session_free(new);
  close_pool(f);
  process_stop(nginx);
}

static void streams_have_connections_of_their_own(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = start_nginx(NULL);
  open_pool(f, NULL);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  cpool_request req = request_to(f, tls_url(process_tls_port(nginx), "/ok"));
  req.flags = CPOOL_REQUEST_STREAM;
  submit_in(session, &req);
  for (bool ended = false; !ended;) {
    const cpool_event *event = NULL;
    assert_int_equal(cpool_queue_wait(f->queue, &event, 1, DEADLINE_MS), 1);
    ended = event->kind == CPOOL_EVENT_RESPONSE;
    if (ended) {
      struct outcome out = {.resp = event->response};
      assert_int_equal(event->status, CPOOL_OK);
      assert_int_equal(info_of(&out).http_version, 11);
    }
    cpool_queue_release(f->queue, &event, 1);
  }
  cpool_session_free(session);
  close_pool(f);
  process_stop(nginx);
}

static void a_lower_limit_of_the_server_is_learned(void **state)
{
  struct pool_fixture *f = *state;
  struct process *server = start_nghttpd(FEW_STREAMS);
  cpool_http_options options = pool_options();
  options.max_connections_per_host = MANY;
  open_pool(f, &options);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  submit_many(f, session, tls_url(process_port(server), "/index.html"), MANY);
  take_answers(f, MANY, 20);
  assert_in_range(stats_of(f).opened, 1,
                  MANY / FEW_STREAMS);       /* each is opened when those there are full, and only then */
  assert_int_equal(stats_of(f).repeated, 0); /* a stream that was refused would be sent again */
  assert_balanced(f->pool);
  cpool_session_free(session);
  close_pool(f);
  process_stop(server);
}

static void our_own_limit_opens_more_connections_when_it_is_reached(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = start_nginx(NULL);
  cpool_http_options options = pool_options();
  options.max_streams_per_connection = FEW_STREAMS;
  options.max_connections_per_host = 4;
  open_pool(f, &options);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  submit_many(f, session, tls_url(process_tls_port(nginx), "/big"), MANY);
  take_answers(f, MANY, 20);
  assert_in_range(stats_of(f).opened, 1, 4);
  assert_balanced(f->pool);
  cpool_session_free(session);
  close_pool(f);
  process_stop(nginx);
}

static void bodies_go_both_ways(void **state)
{
  struct pool_fixture *f = *state;
  char lines[256];
  snprintf(lines, sizeof lines, "location = /echo { client_max_body_size 0; proxy_pass http://127.0.0.1:%u/echo; }",
           (unsigned) fault_server_port(f->server));
  struct process *nginx = start_nginx(lines);
  open_pool(f, NULL);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  static char body[1000000];
  for (size_t i = 0; i < sizeof body; i++)
    body[i] = fault_pattern((int64_t) i);
  cpool_request req = request_to(f, tls_url(process_tls_port(nginx), "/echo"));
  req.body = body;
  req.body_len = sizeof body;
  submit_in(session, &req);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_OK);
  size_t echoed = 0;
  assert_memory_equal(cpool_response_body(out.resp, &echoed), body, sizeof body);
  assert_int_equal(echoed, sizeof body);
  cpool_response_free(out.resp);
  for (int i = 0; i < 30; i++) {
    req = request_to(f, tls_url(process_tls_port(nginx), "/big"));
    submit_in(session, &req);
  }
  for (int i = 0; i < 30; i++) {
    size_t len = 0;
    out = take(f);
    const char *big = cpool_response_body(out.resp, &len);
    assert_int_equal(len, 1048576);
    for (size_t at = 0; at < len; at += 4099)
      assert_int_equal(big[at], 'a' + at % 26);
    cpool_response_free(out.resp);
  }
  assert_int_equal(stats_of(f).opened, 1);
  cpool_session_free(session);
  close_pool(f);
  process_stop(nginx);
}

static void an_answer_may_come_before_the_body_is_sent(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = start_nginx("location = /early { client_max_body_size 0; return 200 \"early\"; }\n"
                                      "location = /full { client_max_body_size 1k; }");
  open_pool(f, NULL);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  static char body[1000000];
  static const char *const paths[] = {"/early", "/full"};
  for (int i = 0; i < 4; i++) {
    cpool_request req = request_to(f, tls_url(process_tls_port(nginx), paths[i % 2]));
    req.body = body;
    req.body_len = sizeof body;
    submit_in(session, &req);
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_OK);
    assert_int_equal(cpool_response_status(out.resp), i % 2 == 0 ? 200 : 413);
    if (i % 2 == 0)
      assert_string_equal(cpool_response_body(out.resp, NULL), "early");
    cpool_response_free(out.resp);
  }
  submit_many(f, session, tls_url(process_tls_port(nginx), "/ok"), 10); /* the connection, if kept, is not harmed */
  take_answers(f, 10, 20);
  assert_balanced(f->pool);
  cpool_session_free(session);
  close_pool(f);
  process_stop(nginx);
}

static void a_cancel_ends_one_stream_and_no_other(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = start_nginx(NULL);
  open_pool(f, NULL);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  submit_many(f, session, tls_url(process_tls_port(nginx), "/ok"), 1);
  take_answers(f, 1, 20);
  cpool_op slow[20];
  for (int i = 0; i < 20; i++) {
    cpool_request req = request_to(f, tls_url(process_tls_port(nginx), "/slow"));
    slow[i] = submit_in(session, &req);
  }
  eventually(stats_of(f).active_requests == 20);
  for (int i = 0; i < 20; i += 2)
    assert_int_equal(cpool_cancel(f->pool, slow[i]), CPOOL_OK);
  for (int i = 0; i < 10; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_ECANCELLED);
    cpool_response_free(out.resp);
  }
  submit_many(f, session, tls_url(process_tls_port(nginx), "/ok"), 10);
  take_answers(f, 10, 20);
  for (int i = 1; i < 20; i += 2)
    assert_int_equal(cpool_cancel(f->pool, slow[i]), CPOOL_OK);
  for (int i = 0; i < 10; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_ECANCELLED);
    cpool_response_free(out.resp);
  }
  assert_int_equal(stats_of(f).opened, 1);
  assert_int_equal(stats_of(f).total_connections, 1);
  assert_balanced(f->pool);
  cpool_session_free(session);
  close_pool(f);
  process_stop(nginx);
}

static void a_reload_of_the_server_costs_no_request(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = start_nginx(NULL);
  open_pool(f, NULL);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  for (int round = 0; round < 5; round++) { /* each reload says GOAWAY to the connections of the old workers */
    submit_many(f, session, tls_url(process_tls_port(nginx), "/big"), 40);
    assert_true(process_signal(nginx, SIGHUP));
    submit_many(f, session, tls_url(process_tls_port(nginx), "/ok"), 40);
    take_answers(f, 80, 20);
    assert_balanced(f->pool);
  }
  cpool_session_free(session);
  close_pool(f);
  process_stop(nginx);
}

static void an_idle_connection_that_the_server_ends_is_noticed(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx =
      nginx_start(&(struct nginx_options){.certs = certs, .http2 = true, .keepalive_timeout_ms = 200});
  assert_non_null(nginx);
  open_pool(f, NULL);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  for (int round = 0; round < 2; round++) {
    submit_many(f, session, tls_url(process_tls_port(nginx), "/ok"), 5);
    take_answers(f, 5, 20);
    eventually(stats_of(f).total_connections == 0 && stats_of(f).closing_connections == 0);
    assert_balanced(f->pool);
  }
  assert_int_equal(stats_of(f).repeated, 0);
  cpool_session_free(session);
  close_pool(f);
  process_stop(nginx);
}

static void connections_end_after_their_requests_and_their_time(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = start_nginx(NULL);
  cpool_http_options options = pool_options();
  options.max_requests_per_connection = 20;
  open_pool(f, &options);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  submit_many(f, session, tls_url(process_tls_port(nginx), "/ok"), 100);
  take_answers(f, 100, 20);
  assert_in_range(stats_of(f).opened, 5, 8);
  eventually(stats_of(f).closed_requests >= 4);
  assert_balanced(f->pool);
  cpool_session_free(session);
  close_pool(f);
  process_stop(nginx);
}

static void close_ends_every_stream_once(void **state)
{
  struct pool_fixture *f = *state;
  struct process *nginx = start_nginx(NULL);
  open_pool(f, NULL);
  cpool_session *session = session_of(f, CPOOL_HTTP_2);
  submit_many(f, session, tls_url(process_tls_port(nginx), "/slow"), 50);
  eventually(stats_of(f).active_requests == 50);
  close_pool(f);
  for (int i = 0; i < 50; i++) {
    struct outcome out = take(f);
    assert_int_equal(out.status, CPOOL_ECLOSED);
    cpool_response_free(out.resp);
  }
  assert_true(queue_is_empty(f));
  cpool_session_free(session);
  process_stop(nginx);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(a_burst_shares_one_connection),
      POOL_CASE(a_host_without_it_is_asked_in_http_1),
      POOL_CASE(it_is_spoken_only_when_asked_for),
      POOL_CASE(streams_have_connections_of_their_own),
      POOL_CASE(a_lower_limit_of_the_server_is_learned),
      POOL_CASE(our_own_limit_opens_more_connections_when_it_is_reached),
      POOL_CASE(bodies_go_both_ways),
      POOL_CASE(an_answer_may_come_before_the_body_is_sent),
      POOL_CASE(a_cancel_ends_one_stream_and_no_other),
      POOL_CASE(a_reload_of_the_server_costs_no_request),
      POOL_CASE(an_idle_connection_that_the_server_ends_is_noticed),
      POOL_CASE(connections_end_after_their_requests_and_their_time),
      POOL_CASE(close_ends_every_stream_once),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
