/* allocation_failure: whichever allocation fails, a call says CPOOL_ENOMEM or a request ends with it, once; nothing leaks, hangs or crashes
 *
 * One scenario uses each part of the library. It is run again and again while allocation 1, 2, 3 ... fails, alone or with those after it, until
 * a run is over before the failing one is reached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <unistd.h>

#include <cpool.h>

#include "support/coded.h"
#include "support/dns_server.h"
#include "support/fault_proxy.h"
#include "support/fault_server.h"
#include "support/wait.h"

enum {
  DEADLINE_MS = 10000,
  BLOCKED_MS = 300,
  MOST_RUNS = 3000,
  BYTES = 20000,
  ROUNDS = 2,
  BATCH = 8,
  LEFT_MS = 5000,
  MANY_HEADERS = 20
};

/* ------------------------------------------------------------------------------------------------------------- memory */

/* From the first to before the last: fails. Counts all that is asked for, frees not. */
static struct {
  _Atomic int64_t asked, blocks, failed;
  int64_t first, last;
} memory;

static void *fallible(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0) {
    atomic_fetch_sub(&memory.blocks, 1);
    free(ptr);
    return NULL;
  }
  int64_t number = atomic_fetch_add(&memory.asked, 1) + 1;
  if (number >= memory.first && number < memory.last) {
    atomic_fetch_add(&memory.failed, 1);
    return NULL;
  }
  void *block = realloc(ptr, size);
  if (block != NULL && ptr == NULL)
    atomic_fetch_add(&memory.blocks, 1);
  return block;
}

/* Which failure it was, for the messages. */
#define SAY(...)                                                                                                       \
  do {                                                                                                                 \
    print_error("mode %d, allocations %lld to %lld fail: ", run->mode, (long long) memory.first,                       \
                (long long) memory.last - 1);                                                                          \
    fail_msg(__VA_ARGS__);                                                                                             \
  } while (0)

/* ----------------------------------------------------------------------------------------------------------- scenario */

struct peers {
  struct fault_server *server;
  struct fault_proxy *proxy;
  struct dns_server *dns;
  char *dir, hosts_file[512], dns_address[32];
  uint16_t refusing_port;
  int refusing_fd;
};

enum {
  GET_OK,
  POST_ECHO,
  GET_BYTES,
  GET_REFUSED,
  GET_BY_FILE,
  GET_BY_DNS,
  GET_UNKNOWN,
  GET_CALLBACK,
  GET_ELSEWHERE,
  POST_AGAIN,
  GET_PROXIED,
  GET_PAST_PROXY,
  STREAM_BYTES,
  STREAM_CALLBACK,
  UPLOAD_ECHO,
  GET_CODED,
  STREAM_CODED,
  EVENTS,
  CANCELLED,
  ASKS
};

static const struct {
  const char *host; /* NULL: the server's address; "": the session's base URL */
  const char *path;
  int expected;
} asks[ASKS] = {
    [GET_OK] = {NULL, "/ok", CPOOL_OK},
    [POST_ECHO] = {"", "/echo", CPOOL_OK},
    [GET_BYTES] = {NULL, "/chunked/20000", CPOOL_OK},
    [GET_REFUSED] = {NULL, "/ok", CPOOL_ECONNECT},
    [GET_BY_FILE] = {"file.test", "/ok", CPOOL_OK},
    [GET_BY_DNS] = {"dns.test", "/close", CPOOL_OK},
    [GET_UNKNOWN] = {"unknown.test", "/ok", CPOOL_EDNS_NOTFOUND},
    [GET_CALLBACK] = {NULL, "/status/404", CPOOL_OK},
    [GET_ELSEWHERE] = {NULL, "/elsewhere#there", CPOOL_OK}, /* redirected to another host, and from there to /ok */
    [POST_AGAIN] = {"", "/redirect/1", CPOOL_OK},           /* as a GET */
    [GET_PROXIED] = {"nowhere.test", "/ok", CPOOL_OK},      /* a name of the proxy's */
    [GET_PAST_PROXY] = {NULL, "/close", CPOOL_OK},
    [STREAM_BYTES] = {NULL, "/chunked/20000", CPOOL_OK},
    [STREAM_CALLBACK] = {NULL, "/bytes/20000", CPOOL_OK},
    [UPLOAD_ECHO] = {NULL, "/echo", CPOOL_OK},
    [GET_CODED] = {NULL, "/coded", CPOOL_OK},
    [STREAM_CODED] = {NULL, "/coded", CPOOL_OK},
    [EVENTS] = {NULL, "/events", CPOOL_ECANCELLED}, /* by whoever takes the second event, after a reconnect */
    [CANCELLED] = {NULL, "/blackhole", CPOOL_ECANCELLED},
};

struct ask {
  struct run *run;
  int kind;
  bool accepted;
  bool written; /* all of the body of an upload */
  cpool_op op;
  _Atomic int ends, status, wrong, streamed, events;
};

struct run {
  const struct peers *peers;
  int mode;
  cpool_queue *queue;
  cpool_runtime *rt;
  cpool_http *pool;
  cpool_session *session;
  cpool_session *proxied; /* NULL: there was no memory for it */
  bool closed;
  bool reconnects; /* streams of events, which takes its time */
  struct ask asks[ROUNDS][ASKS];
};

/* CPOOL_OK is true; refused for want of memory is false; all else is not allowed. */
static bool done(struct run *run, const char *call, int rc)
{
  cpool_error error;
  if (rc >= CPOOL_OK)
    return true;
  cpool_error_init(&error);
  cpool_last_error(&error);
  if (rc != CPOOL_ENOMEM || error.status != CPOOL_ENOMEM || atomic_load(&memory.failed) == 0)
    SAY("%s: %s, %s", call, cpool_status_name(rc), error.text);
  return false;
}

static bool is_stream(int kind)
{
  return kind == STREAM_BYTES || kind == STREAM_CALLBACK || kind == STREAM_CODED;
}

static bool answer_right(int kind, const cpool_response *resp)
{
  size_t len = 0;
  const char *body = cpool_response_body(resp, &len);
  if (is_stream(kind) || kind == EVENTS)
    return len == 0;
  if (kind == POST_ECHO || kind == UPLOAD_ECHO)
    return strcmp(body, "echoed") == 0;
  if (kind != GET_BYTES && kind != GET_CODED)
    return strcmp(body, "hello") == 0;
  for (size_t i = 0; i < len; i++)
    if (body[i] != fault_pattern((int64_t) i))
      return false;
  return len == BYTES;
}

/* Any thread. */
static void take(const cpool_event *event)
{
  struct ask *ask = event->user;
  if (event->kind == CPOOL_EVENT_BODY) {
    for (size_t i = 0; i < event->len; i++)
      if (((const char *) event->data)[i] != fault_pattern(ask->streamed + (int64_t) i))
        atomic_store(&ask->wrong, 1);
    ask->streamed += (int) event->len;
    if (ask->kind == STREAM_CALLBACK)
      (void) cpool_body_credit(ask->run->pool, event->source, event->len);
  }
  if (event->kind == CPOOL_EVENT_SSE) {
    ask->events++;
    if (ask->events == 2 && cpool_cancel(ask->run->pool, event->source) == CPOOL_ENOMEM)
      ask->events = 1; /* again with the next */
  }
  if (event->kind != CPOOL_EVENT_RESPONSE)
    return;
  if (event->source != ask->op || event->response == NULL ||
      (event->status == CPOOL_OK && !answer_right(ask->kind, event->response)) ||
      (event->status == CPOOL_OK && ask->streamed != (is_stream(ask->kind) ? BYTES : 0)))
    atomic_store(&ask->wrong, 1);
  atomic_store(&ask->status, event->status);
  atomic_fetch_add(&ask->ends, 1);
}

/* In the first round alone. */
static bool reconnects(const struct run *run, const struct ask *ask)
{
  return run->reconnects && ask == &run->asks[0][EVENTS];
}

static void submit(struct run *run, struct ask *ask, int kind)
{
  static const cpool_header headers[] = {{"X-Test", "yes"}};
  cpool_header many[MANY_HEADERS];
  for (int i = 0; i < MANY_HEADERS; i++)
    many[i] = headers[0];
  char url[128];
  cpool_request request;
  uint16_t port = kind == GET_REFUSED ? run->peers->refusing_port : fault_server_port(run->peers->server);
  const char *host = asks[kind].host == NULL ? "127.0.0.1" : asks[kind].host;
  bool relative = host[0] == '\0' && run->session != cpool_http_session(run->pool);
  if (relative)
    snprintf(url, sizeof url, "%s", asks[kind].path);
  else
    snprintf(url, sizeof url, "http://%s:%u%s", host[0] == '\0' ? "127.0.0.1" : host, port, asks[kind].path);
  cpool_request_init(&request);
  request.url = url;
  if (kind == GET_ELSEWHERE || kind == POST_AGAIN)
    request.max_redirects = 3;
  if (kind == GET_ELSEWHERE) { /* with more headers than the trace has room for on the stack */
    request.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.headers = many;
    request.header_count = MANY_HEADERS;
  }
  if (kind == POST_ECHO || kind == POST_AGAIN) {
    request.body = "echoed";
    request.body_len = 6;
    request.headers = headers;
    request.header_count = 1;
  }
  if (kind == CANCELLED)
    request.total_timeout_ms = BLOCKED_MS; /* should the cancel fail */
  if (is_stream(kind))
    request.flags = CPOOL_REQUEST_STREAM;
  if (kind == EVENTS)
    request.flags = CPOOL_REQUEST_SSE;
  if (kind == EVENTS && !reconnects(run, ask))
    request.sse_reconnect = CPOOL_OFF;
  if (kind == GET_CODED || kind == STREAM_CODED)
    request.flags |= CPOOL_REQUEST_DECOMPRESS;
  if (kind == UPLOAD_ECHO)
    request.flags = CPOOL_REQUEST_UPLOAD;
  if (kind == GET_CALLBACK || kind == STREAM_CALLBACK)
    request.on_event = take;
  else
    request.queue = run->queue;
  request.user = ask;
  ask->run = run;
  ask->kind = kind;
  bool proxied = kind == GET_PROXIED || kind == GET_PAST_PROXY;
  if (proxied && run->proxied == NULL)
    return;
  ask->accepted = done(run, "submit", cpool_submit(proxied ? run->proxied : run->session, &request, &ask->op));
  if (kind == UPLOAD_ECHO && ask->accepted)
    ask->written = done(run, "body_write", cpool_body_write(run->pool, ask->op, "echo", 4, 0)) &&
                   done(run, "body_write", cpool_body_write(run->pool, ask->op, "ed", 2, 1));
}

static void take_events(struct run *run, int64_t wait_ms)
{
  const cpool_event *events[BATCH];
  if (run->mode == CPOOL_LOOP_MANUAL)
    assert_int_equal(cpool_runtime_step(run->rt, wait_ms), CPOOL_OK);
  int count = cpool_queue_wait(run->queue, events, BATCH, run->mode == CPOOL_LOOP_MANUAL ? 0 : wait_ms);
  for (int i = 0; i < count; i++) {
    if (events[i]->kind == CPOOL_EVENT_HTTP_CLOSED)
      run->closed = true;
    else
      take(events[i]);
  }
  if (count > 0)
    cpool_queue_release(run->queue, events, count);
}

static bool round_over(struct ask *round)
{
  for (int i = 0; i < ASKS; i++)
    if (round[i].accepted && atomic_load(&round[i].ends) == 0)
      return false;
  return true;
}

static void one_round(struct run *run, struct ask *round)
{
  int64_t until_ms = now_ms() + DEADLINE_MS;
  for (int i = 0; i < ASKS; i++)
    submit(run, &round[i], i);
  bool cancelled = false;
  if (round[CANCELLED].accepted) {
    int rc = cpool_cancel(run->pool, round[CANCELLED].op);
    cancelled = rc == CPOOL_ESTALE || done(run, "cancel", rc);
  }
  struct ask *upload = &round[UPLOAD_ECHO];
  if (upload->accepted && !upload->written) /* nobody else would end it */
    while (cpool_cancel(run->pool, upload->op) == CPOOL_ENOMEM)
      continue;
  while (!round_over(round) && now_ms() < until_ms)
    take_events(run, 20);
  for (int i = 0; i < ASKS; i++) {
    int ends = atomic_load(&round[i].ends), status = atomic_load(&round[i].status);
    if (ends != (round[i].accepted ? 1 : 0))
      SAY("%s: accepted %d, ended %d times", asks[i].path, round[i].accepted, ends);
    if (round[i].accepted && status != asks[i].expected &&
        !(status == CPOOL_ENOMEM && atomic_load(&memory.failed) > 0) &&
        !(i == EVENTS && status == CPOOL_OK && !reconnects(run, &round[i])) &&
        !(i == CANCELLED && !cancelled && status == CPOOL_ETIMEOUT_TOTAL) &&
        !(i == UPLOAD_ECHO && !round[i].written && status == CPOOL_ECANCELLED))
      SAY("%s%s ended with %s", asks[i].host == NULL ? "" : asks[i].host, asks[i].path, cpool_status_name(status));
    if (atomic_load(&round[i].wrong))
      SAY("%s: another answer than its own", asks[i].path);
  }
}

static void read_and_change(struct run *run)
{
  cpool_http_stats stats;
  cpool_histogram histogram;
  cpool_origin_stats hosts[4];
  cpool_http_options options;
  uint64_t cursor = 0;
  cpool_response *resp = NULL;
  char url[64];
  cpool_http_stats_init(&stats);
  cpool_histogram_init(&histogram);
  cpool_http_options_init(&options);
  assert_int_equal(cpool_http_stats_get(run->pool, &stats), CPOOL_OK);
  assert_int_equal(stats.requests,
                   stats.succeeded + stats.failed + (uint64_t) (stats.pending_requests + stats.active_requests));
  assert_int_equal(stats.opened - stats.closed, stats.total_connections + stats.closing_connections);
  assert_int_equal(cpool_http_histogram_get(run->pool, CPOOL_PHASE_TOTAL, &histogram), CPOOL_OK);
  assert_true(cpool_http_origins_get(run->pool, &cursor, hosts, sizeof *hosts, 4) >= 0);
  (void) done(run, "origin_set",
              cpool_http_origin_set(run->pool, "http://127.0.0.1:1", "max_connections_per_host", "2"));
  (void) done(run, "origin_set", cpool_http_origin_set(run->pool, "https://file.test", "warm_up_request", "HEAD /"));
  (void) done(run, "origin_set", cpool_http_origin_set(run->pool, "https://file.test", "min_idle_per_host", "2"));
  assert_int_equal(cpool_http_options_get(run->pool, &options), CPOOL_OK);
  options.max_connections_per_host = 2;
  options.min_idle_per_host = 1;
  (void) done(run, "reconfigure", cpool_http_reconfigure(run->pool, &options));
  snprintf(url, sizeof url, "http://127.0.0.1:%u/ok", fault_server_port(run->peers->server));
  int rc = cpool_get(run->session, url, &resp);
  if (rc != CPOOL_OK && (rc != CPOOL_ENOMEM || atomic_load(&memory.failed) == 0))
    SAY("cpool_get: %s", cpool_status_name(rc));
  cpool_response_free(resp);
}

static bool make_all(struct run *run)
{
  static const cpool_header headers[] = {{"X-Session", "yes"}};
  char base[64];
  cpool_runtime_options runtime;
  cpool_http_options options;
  cpool_session_options session;
  cpool_runtime_options_init(&runtime);
  runtime.loop_mode = run->mode;
  cpool_http_options_init(&options);
  options.max_connections_per_host = 3;
  options.dns_hosts_file = run->peers->hosts_file;
  options.dns_servers = run->peers->dns_address;
  cpool_session_options_init(&session);
  snprintf(base, sizeof base, "http://127.0.0.1:%u/", fault_server_port(run->peers->server));
  session.base_url = base;
  session.headers = headers;
  session.header_count = 1;
  session.tls_verify = CPOOL_OFF; /* an identity of its own */
  session.username = "user";
  if (!done(run, "queue_new", cpool_queue_new(&run->queue, NULL)) ||
      !done(run, "runtime_new", cpool_runtime_new(&run->rt, &runtime)))
    return false;
  options.queue = run->queue;
  if (!done(run, "http_new", cpool_http_new(&run->pool, run->rt, &options)))
    return false;
  if (!done(run, "session_new", cpool_session_new(&run->session, run->pool, &session)))
    run->session = cpool_http_session(run->pool);
  cpool_session_options_init(&session);
  snprintf(base, sizeof base, "http://file.test:%u", fault_proxy_port(run->peers->proxy));
  session.proxy = base;
  session.proxy_username = "user";
  session.proxy_password = "password";
  session.no_proxy = "127.0.0.1";
  (void) done(run, "session_new with a proxy", cpool_session_new(&run->proxied, run->pool, &session));
  return true;
}

static bool all_freed(void *arg)
{
  const int32_t *fds_before = arg;
  return atomic_load(&memory.blocks) == 0 && open_fd_count() == *fds_before;
}

/* True: an allocation failed. */
static bool scenario(const struct peers *peers, int mode, int64_t first, int64_t width)
{
  struct run *run = calloc(1, sizeof *run);
  int32_t fds_before = open_fd_count();
  assert_non_null(run);
  run->peers = peers;
  run->mode = mode;
  run->reconnects = mode == CPOOL_LOOP_MANUAL && width == 1;
  atomic_store(&memory.asked, 0);
  atomic_store(&memory.failed, 0);
  memory.first = first;
  memory.last = first + width;
  if (make_all(run)) {
    one_round(run, run->asks[0]);
    read_and_change(run);
    one_round(run, run->asks[1]);
  }
  if (run->pool != NULL) {
    if (run->session != cpool_http_session(run->pool))
      cpool_session_free(run->session);
    cpool_session_free(run->proxied);
    assert_int_equal(cpool_http_close(run->pool, 0), CPOOL_OK);
    for (int64_t until_ms = now_ms() + DEADLINE_MS; !run->closed && now_ms() < until_ms;)
      take_events(run, 20);
    if (!run->closed)
      SAY("no closed event");
  }
  if (cpool_runtime_free(run->rt) != CPOOL_OK || cpool_queue_free(run->queue) != CPOOL_OK)
    SAY("the runtime or the queue is still in use");
  if (!wait_until(all_freed, &fds_before, LEFT_MS))
    SAY("%lld blocks and %d descriptors are left", (long long) atomic_load(&memory.blocks),
        open_fd_count() - fds_before);
  free(run);
  return atomic_load(&memory.failed) > 0;
}

static void sweep(const struct peers *peers, int mode, int64_t width, int64_t step)
{
  int64_t first = 1;
  for (int runs = 0; scenario(peers, mode, first, width); first += step)
    assert_true(++runs < MOST_RUNS);
  print_message("%lld allocations\n", (long long) first - 1);
  assert_true(first > 20); /* the hook is in force */
}

/* -------------------------------------------------------------------------------------------------------------- cases */

static void each_allocation_may_fail_in_manual_mode(void **state)
{
  sweep(*state, CPOOL_LOOP_MANUAL, 1, 1);
}

static void each_run_of_allocations_may_fail_in_manual_mode(void **state)
{
  sweep(*state, CPOOL_LOOP_MANUAL, 4, 1);
  sweep(*state, CPOOL_LOOP_MANUAL, 30, 7);
}

static void each_allocation_may_fail_with_a_thread(void **state)
{
  sweep(*state, CPOOL_LOOP_THREAD, 1, 1);
}

static void each_run_of_allocations_may_fail_with_a_thread(void **state)
{
  sweep(*state, CPOOL_LOOP_THREAD, 5, 3);
}

/* Coded three times over, so that each decoder needs its memory. */
static void serve_coded(struct fault_server *server)
{
  static const char *const codings[] = {"gzip", "br", "deflate"};
  char head[160] = "HTTP/1.1 200 OK\r\nContent-Encoding: ", *body = malloc(BYTES);
  size_t len = BYTES;
  assert_non_null(body);
  for (int i = 0; i < BYTES; i++)
    body[i] = fault_pattern(i);
  for (size_t i = 0; i < sizeof codings / sizeof *codings; i++) {
    if (!coded_has(codings[i]))
      continue;
    char *once_more = coded(codings[i], body, len, &len);
    free(body);
    body = once_more;
    snprintf(head + strlen(head), sizeof head - strlen(head), "%s,", codings[i]);
  }
  snprintf(head + strlen(head), sizeof head - strlen(head), "\r\nContent-Length: %zu\r\n\r\n", len);
  size_t head_len = strlen(head);
  char *all = malloc(head_len + len);
  assert_non_null(all);
  memcpy(all, head, head_len);
  memcpy(all + head_len, body, len);
  fault_server_answer_bytes(server, "/coded", all, head_len + len);
  free(all);
  free(body);
}

static int setup(void **state)
{
  static struct peers peers;
  char hosts[64], elsewhere[128];
  struct fault_options options = {.backlog = 0};
  cpool_runtime *rt = NULL;
  cpool_http *warm = NULL;
  peers.server = fault_server_start(&options);
  peers.proxy = fault_proxy_start(&(struct fault_proxy_options){.user = "user", .password = "password"});
  peers.dns = dns_server_start(NULL, 0);
  peers.refusing_fd = refusing_port_open(&peers.refusing_port);
  peers.dir = temp_dir_new();
  if (peers.server == NULL || peers.dns == NULL || peers.refusing_fd < 0 || peers.dir == NULL)
    return -1;
  snprintf(peers.hosts_file, sizeof peers.hosts_file, "%s/hosts", peers.dir);
  snprintf(hosts, sizeof hosts, "127.0.0.1 file.test\n");
  write_file(peers.hosts_file, hosts, strlen(hosts));
  snprintf(peers.dns_address, sizeof peers.dns_address, "127.0.0.1:%u", dns_server_port(peers.dns));
  snprintf(elsewhere, sizeof elsewhere,
           "HTTP/1.1 302 Found\r\nLocation: http://file.test:%u/redirect/0\r\nContent-Length: 5\r\n\r\nmoved",
           fault_server_port(peers.server));
  fault_server_answer(peers.server, "/elsewhere", elsewhere);
  serve_coded(peers.server);
  fault_server_answer(peers.server, "/events",
                      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 37\r\n\r\n"
                      "retry: 1\nid: 1\nevent: x\ndata: hello\n\n");
  dns_server_set_addresses(peers.dns, "dns.test", "127.0.0.1", 60);
  *state = &peers;
  /* what libuv, libcurl and OpenSSL keep for good is there before descriptors are counted */
  if (cpool_runtime_new(&rt, NULL) != CPOOL_OK || cpool_http_new(&warm, rt, NULL) != CPOOL_OK ||
      cpool_http_close(warm, 0) != CPOOL_OK || cpool_runtime_free(rt) != CPOOL_OK)
    return -1;
  return cpool_allocator_set(fallible, NULL);
}

static bool server_quiet(void *server)
{
  return fault_server_open(server) == 0;
}

/* Descriptors are those of the server, too. */
static int before_case(void **state)
{
  struct peers *peers = *state;
  return wait_until(server_quiet, peers->server, DEADLINE_MS) ? 0 : -1;
}

static int teardown(void **state)
{
  struct peers *peers = *state;
  fault_server_stop(peers->server);
  fault_proxy_stop(peers->proxy);
  dns_server_stop(peers->dns);
  close(peers->refusing_fd);
  temp_dir_free(peers->dir);
  return cpool_allocator_set(NULL, NULL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(each_allocation_may_fail_in_manual_mode, before_case),
      cmocka_unit_test_setup(each_run_of_allocations_may_fail_in_manual_mode, before_case),
      cmocka_unit_test_setup(each_allocation_may_fail_with_a_thread, before_case),
      cmocka_unit_test_setup(each_run_of_allocations_may_fail_with_a_thread, before_case),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
