/* fault_conn: reading requests and writing bytes, plain or TLS, such that a stop of the server ends every wait */
#include "support/fault_conn.h"

#include "support/wait.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_MAX_BYTES = 1024 * 1024, BODY_MAX_BYTES = 16 * 1024 * 1024, READ_BYTES = 16 * 1024, LINGER_MS = 2000 };

enum fault_wake fault_conn_wait(struct fault_conn *conn, short events, int64_t end_ms)
{
  struct pollfd fds[3] = {{.fd = conn->server->stop_fd, .events = POLLIN},
                          {.fd = conn->fd, .events = events},
                          {.fd = conn->kick_fd, .events = POLLIN}};
  for (;;) {
    int timeout_ms = -1;
    if (end_ms >= 0) {
      int64_t left_ms = end_ms - now_ms();
      timeout_ms = left_ms < 0 ? 0 : left_ms > INT_MAX ? INT_MAX : (int) left_ms;
    }
    int ready = poll(fds, 3, timeout_ms);
    if (ready < 0 && errno == EINTR)
      continue;
    if (ready < 0 || fds[0].revents != 0)
      return FAULT_WAKE_STOP;
    if (fds[2].revents != 0)
      return FAULT_WAKE_KICK;
    if (fds[1].revents != 0)
      return FAULT_WAKE_READY;
    if (end_ms >= 0 && now_ms() >= end_ms)
      return FAULT_WAKE_TIMEOUT;
  }
}

/* Waits for what a TLS call wants. A kick is for the behaviours, not for the bytes: the pending byte still comes. */
static bool wait_tls(struct fault_conn *conn, int result)
{
  int error = SSL_get_error(conn->ssl, result);
  if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
    return false;
  struct pollfd fds[2] = {{.fd = conn->server->stop_fd, .events = POLLIN},
                          {.fd = conn->fd, .events = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT}};
  int ready;
  do
    ready = poll(fds, 2, -1);
  while (ready < 0 && errno == EINTR);
  return ready > 0 && fds[0].revents == 0;
}

static bool wait_plain(struct fault_conn *conn, short events)
{
  struct pollfd fds[2] = {{.fd = conn->server->stop_fd, .events = POLLIN}, {.fd = conn->fd, .events = events}};
  int ready;
  do
    ready = poll(fds, 2, -1);
  while (ready < 0 && errno == EINTR);
  return ready > 0 && fds[0].revents == 0;
}

bool fault_conn_handshake(struct fault_conn *conn)
{
  for (;;) {
    ERR_clear_error();
    int result = SSL_accept(conn->ssl);
    if (result == 1)
      return true;
    if (!wait_tls(conn, result))
      return false;
  }
}

bool fault_conn_read_more(struct fault_conn *conn)
{
  if (conn->in_cap - conn->in_len < READ_BYTES) {
    size_t cap = conn->in_cap * 2 + READ_BYTES;
    char *grown = realloc(conn->in, cap);
    if (grown == NULL)
      return false;
    conn->in = grown;
    conn->in_cap = cap;
  }
  for (;;) {
    char *to = conn->in + conn->in_len;
    if (conn->ssl != NULL) {
      ERR_clear_error();
      int got = SSL_read(conn->ssl, to, READ_BYTES);
      if (got > 0) {
        conn->in_len += (size_t) got;
        return true;
      }
      if (!wait_tls(conn, got))
        return false;
      continue;
    }
    ssize_t got = recv(conn->fd, to, READ_BYTES, 0);
    if (got > 0) {
      conn->in_len += (size_t) got;
      return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR) || !wait_plain(conn, POLLIN))
      return false;
  }
}

bool fault_conn_write(struct fault_conn *conn, const void *data, size_t len)
{
  const char *from = data;
  while (len > 0) {
    if (conn->ssl != NULL) {
      ERR_clear_error();
      int put = SSL_write(conn->ssl, from, len > INT_MAX ? INT_MAX : (int) len);
      if (put <= 0) {
        if (!wait_tls(conn, put))
          return false;
        continue;
      }
      from += put;
      len -= (size_t) put;
      continue;
    }
    ssize_t put = send(conn->fd, from, len, MSG_NOSIGNAL);
    if (put >= 0) {
      from += put;
      len -= (size_t) put;
    } else if ((errno != EAGAIN && errno != EINTR) || !wait_plain(conn, POLLOUT)) {
      return false;
    }
  }
  return true;
}

bool fault_conn_pause(struct fault_conn *conn, int64_t ms)
{
  return fault_conn_wait(conn, POLLRDHUP, now_ms() + ms) == FAULT_WAKE_TIMEOUT;
}

static void consume(struct fault_conn *conn, size_t len)
{
  conn->in_len -= len;
  memmove(conn->in, conn->in + len, conn->in_len);
}

static const char *find_header(const char *head, const char *name)
{
  size_t len = strlen(name);
  for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
    line += 2;
    if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
      line += len + 1;
      return line + strspn(line, " \t");
    }
  }
  return NULL;
}

static bool header_is(const char *head, const char *name, const char *value)
{
  const char *found = find_header(head, name);
  return found != NULL && strncasecmp(found, value, strlen(value)) == 0;
}

/* Splits "POST http://host/path?query HTTP/1.1" and reads what the framing needs. */
static bool parse_head(struct fault_request *request)
{
  const char *head = request->head;
  size_t method_len = strcspn(head, " \r\n");
  if (method_len == 0 || method_len >= sizeof request->method || head[method_len] != ' ')
    return false;
  memcpy(request->method, head, method_len);
  const char *target = head + method_len + 1;
  size_t target_len = strcspn(target, " \r\n");
  const char *version = target + target_len;
  if (strncmp(version, " HTTP/1.", 8) != 0)
    return false;
  const char *scheme_end = memmem(target, target_len, "://", 3);
  const char *query = memchr(target, '?', target_len);
  if (scheme_end != NULL && (query == NULL || scheme_end < query)) {
    const char *slash = memchr(scheme_end + 3, '/', (size_t) (version - scheme_end) - 3);
    target = slash != NULL ? slash : version;
    target_len = (size_t) (version - target);
  }
  size_t path_len = query != NULL ? (size_t) (query - target) : target_len;
  if (query != NULL && (size_t) (version - query - 1) < sizeof request->query)
    memcpy(request->query, query + 1, (size_t) (version - query - 1));
  if (path_len >= sizeof request->path)
    return false;
  memcpy(request->path, target, path_len);
  const char *length = find_header(head, "Content-Length");
  request->content_length = length != NULL ? strtoll(length, NULL, 10) : 0;
  request->chunked = header_is(head, "Transfer-Encoding", "chunked");
  request->close = header_is(head, "Connection", "close") || version[8] == '0';
  request->expect_continue = header_is(head, "Expect", "100-continue");
  return true;
}

void fault_request_fini(struct fault_request *request)
{
  free(request->head);
  free(request->body);
  *request = (struct fault_request){0};
}

bool fault_conn_read_head(struct fault_conn *conn)
{
  struct fault_request *request = &conn->request;
  fault_request_fini(request);
  char *end;
  while ((end = conn->in_len == 0 ? NULL : memmem(conn->in, conn->in_len, "\r\n\r\n", 4)) == NULL)
    if (conn->in_len > HEAD_MAX_BYTES || !fault_conn_read_more(conn))
      return false;
  size_t head_len = (size_t) (end - conn->in) + 4;
  request->head = malloc(head_len + 1); /* not strndup: the stream has no NUL for it to stop at */
  if (request->head != NULL) {
    memcpy(request->head, conn->in, head_len);
    request->head[head_len] = '\0';
  }
  consume(conn, head_len);
  return request->head != NULL && parse_head(request);
}

/* Moves `len` body bytes out of the stream; what exceeds BODY_MAX_BYTES is read and dropped. */
static bool take_body(struct fault_conn *conn, int64_t len)
{
  struct fault_request *request = &conn->request;
  while (len > 0) {
    if (conn->in_len == 0 && !fault_conn_read_more(conn))
      return false;
    size_t take = (int64_t) conn->in_len < len ? conn->in_len : (size_t) len;
    size_t keep = request->body_len + take > BODY_MAX_BYTES ? BODY_MAX_BYTES - request->body_len : take;
    if (keep > 0) {
      char *grown = realloc(request->body, request->body_len + keep);
      if (grown == NULL)
        return false;
      memcpy(grown + request->body_len, conn->in, keep);
      request->body = grown;
      request->body_len += keep;
    }
    consume(conn, take);
    len -= (int64_t) take;
  }
  return true;
}

/* One CRLF-ended line without the CRLF; longer ones are cut. */
static bool take_line(struct fault_conn *conn, char *line, size_t line_bytes)
{
  char *end;
  while ((end = conn->in_len == 0 ? NULL : memmem(conn->in, conn->in_len, "\r\n", 2)) == NULL)
    if (conn->in_len > HEAD_MAX_BYTES || !fault_conn_read_more(conn))
      return false;
  size_t len = (size_t) (end - conn->in);
  size_t copy = len < line_bytes ? len : line_bytes - 1;
  memcpy(line, conn->in, copy);
  line[copy] = '\0';
  consume(conn, len + 2);
  return true;
}

bool fault_conn_read_body(struct fault_conn *conn)
{
  struct fault_request *request = &conn->request;
  if (!request->chunked)
    return take_body(conn, request->content_length);
  char line[64];
  for (;;) {
    if (!take_line(conn, line, sizeof line))
      return false;
    int64_t chunk_bytes = strtoll(line, NULL, 16);
    if (chunk_bytes <= 0)
      break;
    if (!take_body(conn, chunk_bytes) || !take_line(conn, line, sizeof line))
      return false;
  }
  while (line[0] != '\0') /* the last-chunk line is not empty: trailers up to the empty line */
    if (!take_line(conn, line, sizeof line))
      return false;
  return true;
}

void fault_conn_close(struct fault_conn *conn, enum fault_end end)
{
  if (end == FAULT_RESET) {
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  } else if (conn->ssl != NULL && end != FAULT_CUT) {
    ERR_clear_error();
    (void) SSL_shutdown(conn->ssl);
  }
  if (end == FAULT_LINGER) {
    int64_t end_ms = now_ms() + LINGER_MS;
    char sink[4096];
    shutdown(conn->fd, SHUT_WR);
    while (fault_conn_wait(conn, POLLIN, end_ms) == FAULT_WAKE_READY && recv(conn->fd, sink, sizeof sink, 0) > 0) {
    }
  }
  SSL_free(conn->ssl);
  conn->ssl = NULL;
  /* Counted first: whoever sees the FIN finds the connection gone from the counts. */
  atomic_fetch_sub(&conn->server->open, 1);
  pthread_mutex_lock(&conn->server->mutex);
  close(conn->fd);
  conn->fd = -1;
  pthread_mutex_unlock(&conn->server->mutex);
}
