/* fuzz_responses: whatever bytes a server sends, in whatever pieces, each request ends once, within its caps, and the numbers add up
 *
 * One thread: the pool in manual mode, and between its steps the server's part on the same loopback. Both requests of a run are answered from
 * the one input, so that what is left of the first answer meets the second request. First byte: methods, how the server
 * ends, and whether redirects are followed: then by a unix socket, so that whatever host a Location names is this server,
 * or through this server as a proxy; second: the sizes of the pieces; the rest is sent. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <cpool.h>

enum {
  REQUESTS = 2,
  CONNS = 4,
  BODY_CAP = 4096,
  HEADER_CAP = 1024,
  READ_MS = 2,
  REDIRECTS = 4,
  CONNECT_MS = 20,
  BOUND_MS = 8000,
  INPUT_MAX = 16384
};
enum { END_FIN, END_RESET, END_SILENT, ENDS };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition) ((condition) ? (void) 0 : give_up(#condition, __LINE__))

static void give_up(const char *condition, int line)
{
  fprintf(stderr, "fuzz_responses.c:%d: not so: %s\n", line, condition);
  abort();
}

struct conn {
  int fd; /* -1: none */
  bool asked;
  char tail[4];
};

struct run {
  const uint8_t *bytes;
  size_t left;
  uint32_t pieces; /* state of a small generator */
  int end;
  cpool_session *session; /* that follows redirects; NULL: the pool's own */
  bool by_unix, by_socks;
  struct conn conns[CONNS];
  cpool_op ops[REQUESTS];
  int ends[REQUESTS];
  int closed;
};

static cpool_runtime *rt;
static int listener = -1, unix_listener = -1;
static uint16_t port;
static char unix_dir[] = "/tmp/fuzz_responses.XXXXXX", unix_path[sizeof unix_dir + 2];

static int64_t now_ms(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void remove_socket(void)
{
  unlink(unix_path);
  rmdir(unix_dir);
}

static void start_unix(void)
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  CHECK(mkdtemp(unix_dir) != NULL);
  snprintf(unix_path, sizeof unix_path, "%s/s", unix_dir);
  memcpy(address.sun_path, unix_path, sizeof unix_path);
  unix_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  CHECK(unix_listener >= 0 && bind(unix_listener, (struct sockaddr *) &address, sizeof address) == 0 &&
        listen(unix_listener, 64) == 0);
  atexit(remove_socket);
}

static void start(void)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  cpool_runtime_options options;
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_MANUAL;
  CHECK(cpool_runtime_new(&rt, &options) == CPOOL_OK);
  listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  CHECK(listener >= 0 && bind(listener, (struct sockaddr *) &address, sizeof address) == 0 &&
        listen(listener, 64) == 0);
  CHECK(getsockname(listener, (struct sockaddr *) &address, &len) == 0);
  port = ntohs(address.sin_port);
  start_unix();
}

/* --------------------------------------------------------------------------------------------------------- the server */

static void hang_up(struct conn *conn, bool reset)
{
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  if (reset)
    setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  close(conn->fd);
  conn->fd = -1;
}

static void accept_all(struct run *run)
{
  for (int i = 0; i < CONNS; i++) {
    if (run->conns[i].fd >= 0)
      continue;
    int fd = accept4(run->by_unix ? unix_listener : listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int on = 1;
    if (fd < 0)
      return;
    if (!run->by_unix)
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    run->conns[i] = (struct conn){.fd = fd};
  }
}

/* True once a head (for a SOCKS5 proxy any byte) has arrived; the end of the connection closes it. */
static bool read_request(struct conn *conn, bool any)
{
  char data[4096];
  ssize_t got;
  while ((got = recv(conn->fd, data, sizeof data, 0)) > 0)
    for (ssize_t i = 0; i < got; i++) {
      memmove(conn->tail, conn->tail + 1, 3);
      conn->tail[3] = data[i];
      conn->asked |= any || memcmp(conn->tail, "\r\n\r\n", 4) == 0;
    }
  if (got == 0)
    hang_up(conn, false);
  return conn->fd >= 0 && conn->asked;
}

static void send_piece(struct run *run, struct conn *conn)
{
  run->pieces = run->pieces * 1664525 + 1013904223;
  size_t len = 1 + (run->pieces >> 16) % ((run->pieces >> 30) == 0 ? 3 : 2000);
  len = len > run->left ? run->left : len;
  ssize_t sent = len == 0 ? 0 : send(conn->fd, run->bytes, len, MSG_NOSIGNAL);
  if (sent > 0) {
    run->bytes += sent;
    run->left -= (size_t) sent;
  }
  if (run->left == 0 && run->end != END_SILENT)
    hang_up(conn, run->end == END_RESET);
}

static void serve(struct run *run)
{
  accept_all(run);
  for (int i = 0; i < CONNS; i++)
    if (run->conns[i].fd >= 0 && read_request(&run->conns[i], run->by_socks))
      send_piece(run, &run->conns[i]);
}

/* --------------------------------------------------------------------------------------------------------- the client */

static void check_stats(cpool_http *pool)
{
  cpool_http_stats st;
  cpool_http_stats_init(&st);
  CHECK(cpool_http_stats_get(pool, &st) == CPOOL_OK);
  CHECK((int64_t) (st.opened - st.closed) == st.total_connections + st.closing_connections);
  CHECK(st.closed == st.closed_peer + st.closed_unsolicited + st.closed_idle + st.closed_lifetime + st.closed_requests +
                         st.closed_response + st.closed_error + st.closed_cancelled + st.closed_evicted +
                         st.closed_dial + st.closed_pool + st.closed_address);
  CHECK(st.requests == st.succeeded + st.failed + (uint64_t) (st.pending_requests + st.active_requests));
  CHECK(st.pending_requests >= 0 && st.active_requests >= 0 && st.acquired_connections >= 0 &&
        st.idle_connections >= 0);
  CHECK(st.total_connections <= 1 && st.curl_pending == 0);
}

static void check_response(const cpool_event *event)
{
  const cpool_response *resp = event->response;
  const char *name, *value;
  size_t len = 0, head = 0;
  cpool_response_info info;
  cpool_error error;
  cpool_response_info_init(&info);
  cpool_error_init(&error);
  CHECK(resp != NULL);
  CHECK(cpool_response_info_get(resp, &info) == CPOOL_OK && cpool_response_error_get(resp, &error) == CPOOL_OK);
  CHECK(error.status == event->status);
  if (event->status == CPOOL_EINTERNAL || event->status == CPOOL_ENOMEM)
    give_up(error.text, __LINE__);
  const char *body = cpool_response_body(resp, &len);
  CHECK(len <= BODY_CAP && body[len] == '\0');
  for (int32_t i = 0; i < info.header_count; i++) {
    CHECK(cpool_response_header_at(resp, (size_t) i, &name, &value) == CPOOL_OK);
    CHECK(strpbrk(name, "\r\n: ") == NULL && strpbrk(value, "\r\n") == NULL && name[0] != '\0');
    head += strlen(name) + strlen(value);
  }
  CHECK(head <= HEADER_CAP);
  CHECK(info.redirects <= REDIRECTS && cpool_response_url(resp) != NULL);
  for (int32_t i = 0; i < info.redirects; i++) {
    int32_t status = 0;
    CHECK(cpool_response_redirect_at(resp, (size_t) i, &status, &value) == CPOOL_OK);
    CHECK(status >= 301 && status <= 308 && value != NULL);
  }
  CHECK(event->status != CPOOL_OK || (cpool_response_status(resp) >= 200 && cpool_response_status(resp) <= 999));
}

static void on_event(const cpool_event *event)
{
  struct run *run = event->user;
  if (event->kind == CPOOL_EVENT_HTTP_CLOSED) {
    run->closed++;
    return;
  }
  int which = event->source == run->ops[0] ? 0 : 1;
  CHECK(event->source == run->ops[which]);
  CHECK(++run->ends[which] == 1);
  check_response(event);
}

static void submit(struct run *run, cpool_http *pool, int which, int method)
{
  static const char *const methods[] = {"GET", "HEAD", "POST", "PUT"};
  char url[64];
  cpool_request request;
  snprintf(url, sizeof url, "http://127.0.0.1:%u/%d", port, which);
  cpool_request_init(&request);
  request.method = methods[method];
  request.url = url;
  request.body = method >= 2 ? "body" : NULL;
  request.body_len = method >= 2 ? 4 : 0;
  request.connect_timeout_ms = run->session != NULL ? CONNECT_MS : 0; /* this server takes no part in TLS */
  request.on_event = on_event;
  request.user = run;
  CHECK(cpool_submit(run->session != NULL ? run->session : cpool_http_session(pool), &request, &run->ops[which]) ==
        CPOOL_OK);
}

static void run_until(struct run *run, cpool_http *pool, const int *what)
{
  int64_t until_ms = now_ms() + BOUND_MS;
  while (*what == 0) {
    CHECK(now_ms() < until_ms);
    CHECK(cpool_runtime_step(rt, 0) == CPOOL_OK);
    check_stats(pool);
    serve(run);
    if (run->left == 0)
      CHECK(cpool_runtime_step(rt, 1) == CPOOL_OK);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct run run = {.bytes = data + 2};
  cpool_http *pool = NULL;
  cpool_http_options options;
  if (size < 2 || size > INPUT_MAX)
    return 0;
  if (rt == NULL)
    start();
  run.left = size - 2;
  run.end = (data[0] >> 4 & 3) % ENDS;
  run.pieces = data[1];
  for (int i = 0; i < CONNS; i++)
    run.conns[i].fd = -1;
  cpool_http_options_init(&options);
  options.max_connections = 1;
  options.sock_read_timeout_ms = READ_MS;
  options.max_response_bytes = BODY_CAP;
  options.max_header_bytes = HEADER_CAP;
  options.on_event = on_event;
  options.user = &run;
  CHECK(cpool_http_new(&pool, rt, &options) == CPOOL_OK);

  if ((data[0] & 0x80) != 0) {
    cpool_session_options following;
    cpool_session_options_init(&following);
    char proxy[64];
    run.by_unix = (data[0] >> 4 & 3) != 3;
    run.by_socks = !run.by_unix && (data[1] & 1) != 0;
    snprintf(proxy, sizeof proxy, "%s://127.0.0.1:%u", run.by_socks ? "socks5" : "http", port);
    following.unix_socket_path = run.by_unix ? unix_path : NULL;
    following.proxy = run.by_unix ? NULL : proxy;
    following.proxy_username = run.by_unix ? NULL : "user";
    following.max_redirects = REDIRECTS;
    following.username = "user";
    CHECK(cpool_session_new(&run.session, pool, &following) == CPOOL_OK);
  }

  bool together = (data[0] & 0x40) != 0; /* else the second comes when the first has ended */
  submit(&run, pool, 0, data[0] & 3);
  if (together)
    submit(&run, pool, 1, data[0] >> 2 & 3);
  run_until(&run, pool, &run.ends[0]);
  if (!together)
    submit(&run, pool, 1, data[0] >> 2 & 3);
  run_until(&run, pool, &run.ends[1]);

  cpool_session_free(run.session);
  CHECK(cpool_http_close_start(pool, 0) == CPOOL_OK);
  run_until(&run, pool, &run.closed);
  cpool_http_stats stats;
  cpool_http_stats_init(&stats);
  CHECK(cpool_http_stats_get(pool, &stats) == CPOOL_OK);
  CHECK(stats.opened == stats.closed && stats.succeeded + stats.failed == REQUESTS);
  cpool_http_free(pool);
  CHECK(run.ends[0] == 1 && run.ends[1] == 1 && run.closed == 1);
  accept_all(&run);
  for (int i = 0; i < CONNS; i++)
    if (run.conns[i].fd >= 0)
      hang_up(&run.conns[i], true); /* no TIME_WAIT: the ports last */
  return 0;
}
