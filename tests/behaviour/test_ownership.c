/* test_ownership: what is copied may go at once, what is given stays, and a queue that nobody empties bounds memory */
#include "support/pool_fixture.h"

#include "support/process.h"

enum { BIG_BYTES = 1 << 20 };

/* ---------------------------------------------------------------------------------------------------------- arguments */

static char *heap_text(const char *text)
{
  return strdup(text);
}

static void spoil(char *text)
{
  memset(text, 0xee, strlen(text));
  free(text);
}

static void everything_of_a_submit_is_copied(void **state)
{
  struct pool_fixture *f = *state;
  enum { BODY_BYTES = 100000 };
  cpool_http_options options = pool_options();
  options.max_connections = 1;
  open_pool(f, &options);
  cpool_op held = ask(f, "/hold");
  eventually(counts_of(f).held == 1); /* what follows is sent after all of it is gone */
  char *method = heap_text("PUT"), *url = heap_text(url_of(f, "/echo?q=1")), *name = heap_text("X-Mine"),
       *value = heap_text("kept"), *body = malloc(BODY_BYTES);
  cpool_header *header = malloc(sizeof *header);
  cpool_request *req = malloc(sizeof *req);
  for (int i = 0; i < BODY_BYTES; i++)
    body[i] = fault_pattern(i);
  *header = (cpool_header){name, value};
  *req = request_to(f, url);
  req->method = method;
  req->headers = header;
  req->header_count = 1;
  req->body = body;
  req->body_len = BODY_BYTES;
  cpool_op op = submit(f, req);
  memset(req, 0xee, sizeof *req);
  free(req);
  free(header);
  spoil(method);
  spoil(url);
  spoil(name);
  spoil(value);
  memset(body, 0xee, BODY_BYTES);
  free(body);
  fault_server_release(f->server, 1);
  expect_end(f, held, CPOOL_OK);
  struct outcome out = take(f);
  size_t len = 0;
  const char *echo = cpool_response_body(out.resp, &len);
  assert_true(out.op == op);
  assert_int_equal(out.status, CPOOL_OK);
  assert_int_equal(len, BODY_BYTES);
  for (int i = 0; i < BODY_BYTES; i++)
    assert_int_equal(echo[i], fault_pattern(i));
  assert_int_equal(echo[len], '\0');
  char *head = fault_server_last_head(f->server);
  assert_non_null(strstr(head, "PUT /echo?q=1 HTTP/1.1\r\n"));
  assert_non_null(strstr(head, "X-Mine: kept\r\n"));
  free(head);
  cpool_response_free(out.resp);
}

static void options_of_pool_and_session_are_copied(void **state)
{
  struct pool_fixture *f = *state;
  cpool_session *session = NULL;
  char *agent = heap_text("agent/7"), *hosts = heap_text("/dev/null"), *base = heap_text(url_of(f, "/echo-head")),
       *name = heap_text("X-Default"), *value = heap_text("yes"), *token = heap_text("abc.def");
  cpool_http_options options = pool_options();
  options.user_agent = agent;
  options.dns_hosts_file = hosts;
  open_pool(f, &options);
  spoil(agent);
  spoil(hosts);
  memset(&options, 0xee, sizeof options);
  cpool_header header = {name, value};
  cpool_session_options defaults = session_options();
  defaults.base_url = base;
  defaults.headers = &header;
  defaults.header_count = 1;
  defaults.bearer_token = token;
  session = session_open(f->pool, &defaults);
  spoil(base);
  spoil(name);
  spoil(value);
  spoil(token);
  memset(&header, 0xee, sizeof header);
  memset(&defaults, 0xee, sizeof defaults);
  cpool_request req = request_to(f, "?x");
  submit_in(session, &req);
  struct outcome out = take(f);
  assert_int_equal(out.status, CPOOL_OK);
  const char *head = cpool_response_body(out.resp, NULL);
  assert_non_null(strstr(head, "User-Agent: agent/7\r\n"));
  assert_non_null(strstr(head, "X-Default: yes\r\n"));
  assert_non_null(strstr(head, "Authorization: Bearer abc.def\r\n"));
  cpool_response_free(out.resp);
  cpool_session_free(session);
}

/* ---------------------------------------------------------------------------------------------------------- responses */

static void taken_response_outlives_event_queue_and_pool(void **state)
{
  struct pool_fixture *f = *state;
  const cpool_event *event = NULL;
  open_pool(f, NULL);
  ask(f, "/bytes/50000");
  assert_int_equal(cpool_queue_wait(f->queue, &event, 1, DEADLINE_MS), 1);
  assert_non_null(event->response);
  cpool_response *resp = cpool_event_take_response(event);
  assert_non_null(resp);
  assert_null(cpool_event_take_response(event));
  cpool_queue_release(f->queue, &event, 1);
  close_pool(f);
  assert_int_equal(cpool_queue_free(f->queue), CPOOL_OK);
  f->queue = NULL;
  size_t len = 0;
  const char *body = cpool_response_body(resp, &len);
  assert_int_equal(len, 50000);
  assert_int_equal(body[49999], fault_pattern(49999));
  assert_string_equal(cpool_response_header(resp, "content-length"), "50000");
  cpool_response_free(resp);
}

struct keeper {
  _Atomic(cpool_response *) resp;
  _Atomic int done;
};

static void on_keep(const cpool_event *event)
{
  struct keeper *keeper = event->user;
  atomic_store(&keeper->resp, cpool_event_take_response(event));
  atomic_store(&keeper->done, 1);
}

static void response_is_taken_inside_a_callback(void **state)
{
  struct pool_fixture *f = *state;
  struct keeper keeper = {.done = 0};
  open_pool(f, NULL);
  cpool_request req = request_of(f, "/chunked/5000");
  req.queue = NULL;
  req.on_event = on_keep;
  req.user = &keeper;
  submit(f, &req);
  eventually(atomic_load(&keeper.done) == 1);
  close_pool(f);
  size_t len = 0;
  assert_non_null(cpool_response_body(atomic_load(&keeper.resp), &len));
  assert_int_equal(len, 5000);
  cpool_response_free(atomic_load(&keeper.resp));
}

static void queue_in_use_is_not_freed(void **state)
{
  struct pool_fixture *f = *state;
  const cpool_event *event = NULL;
  cpool_http_options options = pool_options();
  options.queue = f->queue;
  open_pool(f, &options);
  assert_refused(cpool_queue_free(f->queue), CPOOL_EBUSY, "pool");
  close_pool(f);
  assert_int_equal(cpool_queue_wait(f->queue, &event, 1, DEADLINE_MS), 1);
  cpool_queue_release(f->queue, &event, 1);
  open_pool(f, NULL);
  cpool_op op = ask(f, "/hold");
  assert_refused(cpool_queue_free(f->queue), CPOOL_EBUSY, "request");
  eventually(fault_server_release(f->server, 1) == 1);
  assert_int_equal(cpool_queue_wait(f->queue, &event, 1, DEADLINE_MS), 1);
  assert_true(event->source == op);
  assert_refused(cpool_queue_free(f->queue), CPOOL_EBUSY, "released");
  cpool_queue_release(f->queue, &event, 1);
  ask(f, "/ok");
  eventually(stats_of(f).succeeded == 2);
  eventually(cpool_queue_free(f->queue) == CPOOL_OK); /* what still waited is released with it */
  f->queue = NULL;
}

/* ------------------------------------------------------------------------------------------------- the queue's marks */

/* An nginx with big bodies, and a queue that has room for two of them. */
static struct process *start_big(struct pool_fixture *f, int32_t connections)
{
  cpool_queue_options queue_options;
  cpool_queue_options_init(&queue_options);
  queue_options.high_water_bytes = 2 * BIG_BYTES;
  queue_options.low_water_bytes = BIG_BYTES;
  assert_int_equal(cpool_queue_free(f->queue), CPOOL_OK);
  f->queue = NULL;
  assert_int_equal(cpool_queue_new(&f->queue, &queue_options), CPOOL_OK);
  cpool_http_options options = pool_options();
  options.max_connections = connections;
  options.sock_read_timeout_ms = 300;
  open_pool(f, &options);
  struct process *nginx = nginx_start(NULL);
  assert_non_null(nginx);
  return nginx;
}

static void take_big(struct pool_fixture *f)
{
  struct outcome out = take(f);
  size_t len = 0;
  const char *body = cpool_response_body(out.resp, &len);
  if (out.status != CPOOL_OK)
    print_error("%s\n", error_of(&out).text);
  assert_int_equal(out.status, CPOOL_OK);
  assert_int_equal(len, BIG_BYTES);
  for (size_t i = 0; i < len; i += 4093)
    assert_int_equal(body[i], fault_pattern((int64_t) i));
  cpool_response_free(out.resp);
}

static void queue_that_nobody_empties_stops_its_transfers_and_submits(void **state)
{
  enum { COUNT = 30, CONNECTIONS = 8 };
  struct pool_fixture *f = *state;
  struct process *nginx = start_big(f, CONNECTIONS);
  cpool_request req = request_to(f, url_at(process_port(nginx), "/big"));
  for (int i = 0; i < COUNT; i++)
    submit(f, &req);
  eventually(cpool_submit(cpool_http_session(f->pool), &req, NULL) == CPOOL_EFULL);
  uint64_t accepted = COUNT;
  assert_refused(cpool_submit(cpool_http_session(f->pool), &req, NULL), CPOOL_EFULL, "high mark");
  int64_t until_ms = now_ms() + 700; /* longer than the peer's silence is allowed to last: this one is ours */
  while (now_ms() < until_ms) {
    cpool_http_stats stats = stats_of(f);
    accepted = stats.requests;
    assert_in_range(stats.succeeded, 0, 2 + CONNECTIONS);
    assert_int_equal(stats.failed, 0);
    poll(NULL, 0, 5);
  }
  for (uint64_t i = 0; i < accepted; i++)
    take_big(f);
  assert_true(queue_is_empty(f));
  submit(f, &req);
  take_big(f);
  close_pool(f);
  process_stop(nginx);
}

static void stopped_transfers_can_be_cancelled_timed_out_and_closed(void **state)
{
  enum { COUNT = 9, BIG = 2 };
  struct pool_fixture *f = *state;
  struct process *nginx = start_big(f, COUNT + BIG);
  cpool_op ops[COUNT];
  int ok = 0, cancelled = 0, timed_out = 0, closed = 0;
  for (int i = 0; i < COUNT; i++) {
    cpool_request req = request_of(f, "/hold-body");
    req.sock_read_timeout_ms = CPOOL_OFF;
    req.total_timeout_ms = i % 3 == 1 ? 1000 : CPOOL_OFF;
    ops[i] = submit(f, &req);
  }
  eventually(counts_of(f).held == COUNT);
  cpool_request big = request_to(f, url_at(process_port(nginx), "/big"));
  for (int i = 0; i < BIG; i++) {
    submit(f, &big);
    eventually(stats_of(f).succeeded == (uint64_t) i + 1);
  }
  assert_int_equal(fault_server_release(f->server, COUNT),
                   COUNT); /* the rest of their bodies meets a queue above its mark */
  eventually(counts_of(f).held == 0);
  for (int i = 0; i < COUNT; i += 3)
    assert_int_equal(cpool_cancel(f->pool, ops[i]), CPOOL_OK);
  eventually(stats_of(f).cancelled == COUNT / 3 && stats_of(f).timeout_total == COUNT / 3);
  assert_int_equal(stats_of(f).active_requests, COUNT / 3);
  close_pool(f);
  for (int i = 0; i < COUNT + BIG; i++) {
    struct outcome out = take(f);
    ok += out.status == CPOOL_OK;
    cancelled += out.status == CPOOL_ECANCELLED;
    timed_out += out.status == CPOOL_ETIMEOUT_TOTAL;
    closed += out.status == CPOOL_ECLOSED;
    cpool_response_free(out.resp);
  }
  assert_true(queue_is_empty(f));
  assert_true(ok == BIG && cancelled == COUNT / 3 && timed_out == COUNT / 3 && closed == COUNT / 3);
  process_stop(nginx);
}

/* ------------------------------------------------------------------------------------------------------ the descriptor */

static void descriptor_is_readable_exactly_while_an_event_waits(void **state)
{
  struct pool_fixture *f = *state;
  const cpool_event *events[4];
  int fd = cpool_queue_fd(f->queue);
  assert_true(fd >= 0);
  assert_int_equal(cpool_queue_fd(f->queue), fd);
  open_pool(f, NULL);
  assert_int_equal(wait_fd(fd, POLLIN, 0), 0);
  for (int i = 0; i < 3; i++)
    ask(f, "/ok");
  assert_int_equal(wait_fd(fd, POLLIN, DEADLINE_MS), POLLIN);
  eventually(stats_of(f).succeeded == 3);
  int taken = cpool_queue_wait(f->queue, events, 1, 0);
  assert_int_equal(taken, 1);
  assert_int_equal(wait_fd(fd, POLLIN, 0), POLLIN);
  while (taken < 3)
    taken += cpool_queue_wait(f->queue, events + taken, 4 - taken, 0);
  assert_int_equal(wait_fd(fd, POLLIN, 0), 0);
  cpool_queue_release(f->queue, events, 3);
  cpool_queue_wake(f->queue);
  assert_int_equal(wait_fd(fd, POLLIN, 0), POLLIN);
  assert_int_equal(cpool_queue_wait(f->queue, events, 4, DEADLINE_MS), 0);
  assert_int_equal(wait_fd(fd, POLLIN, 0), 0);
}

static void wait_returns_in_time_and_when_woken(void **state)
{
  struct pool_fixture *f = *state;
  const cpool_event *event;
  int64_t start_ms = now_ms();
  assert_int_equal(cpool_queue_wait(f->queue, &event, 1, 50), 0);
  assert_in_range(now_ms() - start_ms, 49, 50 + SLACK_MS);
  cpool_queue_wake(f->queue);
  start_ms = now_ms();
  assert_int_equal(cpool_queue_wait(f->queue, &event, 1, DEADLINE_MS), 0);
  assert_in_range(now_ms() - start_ms, 0, SLACK_MS);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(everything_of_a_submit_is_copied),
      POOL_CASE(options_of_pool_and_session_are_copied),
      POOL_CASE(taken_response_outlives_event_queue_and_pool),
      POOL_CASE(response_is_taken_inside_a_callback),
      POOL_CASE(queue_in_use_is_not_freed),
      POOL_CASE(queue_that_nobody_empties_stops_its_transfers_and_submits),
      POOL_CASE(stopped_transfers_can_be_cancelled_timed_out_and_closed),
      POOL_CASE(descriptor_is_readable_exactly_while_an_event_waits),
      POOL_CASE(wait_returns_in_time_and_when_woken),
  };
  return cmocka_run_group_tests(tests, pool_warm_up, NULL);
}
