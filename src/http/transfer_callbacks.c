/* transfer_callbacks: libcurl's calls into us: response data, sockets, and the last look before a request is sent. None of them fails or calls libcurl
 * back but to ask and to set options. */
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/body.h"
#include "http/conn.h"
#include "http/events.h"
#include "http/hop.h"
#include "http/pool.h"
#include "http/proxy_result.h"
#include "http/request.h"
#include "http/stream.h"
#include "http/tls.h"
#include "http/transfer.h"
#include "http/transfer_result.h"
#include "http/upload.h"

/* How long the server means to keep the connection, and for how many requests (RFC 2068 section 19.7.1.1). */
static void note_keep_alive(struct cpool__transfer *transfer, const char *line, size_t len)
{
  static const char name[] = "keep-alive:";
  size_t name_len = sizeof name - 1;
  while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n'))
    len--;
  if (len > name_len && (line[0] | 0x20) == 'k' && strncasecmp(line, name, name_len) == 0 && transfer->conn != NULL)
    cpool__janitor_hint(&transfer->conn->life, line + name_len, len - name_len);
}

/* The connection ends with this response. */
static void forbid_reuse(struct cpool__transfer *transfer, enum cpool__close_reason reason)
{
  if (transfer->conn != NULL && transfer->conn->http2) { /* libcurl would end the others' streams with it */
    cpool__conn_drain(transfer->conn, reason);
    return;
  }
  if (transfer->conn != NULL && transfer->conn->reason == CPOOL__CLOSE_NONE)
    transfer->conn->reason = reason;
  curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE, 1L);
  transfer->forbid_reuse = true;
}

/* Something of the answer has come. */
static void note_life(struct cpool__transfer *transfer)
{
  uint64_t now_ms = cpool__runtime_now_ms(transfer->req->pool->rt);
  transfer->req->activity_ms = now_ms;
  if (transfer->conn != NULL)
    transfer->conn->heard_ms = now_ms;
}

/* HTTP/2: the answer is whole, and the peer did not wait for all of the request's body. libcurl 7.88 goes on waiting for
 * room to send the rest, which does not come. */
static bool answered_early(const struct cpool__transfer *transfer)
{
  const struct cpool__request *req = transfer->req;
  curl_off_t received = 0, sent = 0;
  if (transfer->conn == NULL || !transfer->conn->http2 || req->body_len == 0 || transfer->framing.content_length < 0)
    return false;
  curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_DOWNLOAD_T, &received);
  curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
  return received >= transfer->framing.content_length && (uint64_t) sent < req->body_len;
}

static size_t on_header(char *line, size_t one, size_t len, void *user)
{
  struct cpool__transfer *transfer = user;
  struct cpool__request *req = transfer->req;
  (void) one;
  if (req == NULL)
    return len;
  if (!transfer->shows_heads && !req->resp.head_complete && !cpool__folding_piece(&transfer->folding, line, len))
    return cpool__transfer_give_up(transfer, CPOOL__ABORT_FOLDED);
  if (transfer->begin_count == 0) /* nothing was sent yet: the proxy answers a CONNECT */
    return cpool__proxy_head_line(transfer, line, len) ? len : 0;
  if (req->resp.first_byte_us == CPOOL_OFF)
    req->resp.first_byte_us = (int64_t) (cpool__runtime_now_us(req->pool->rt) - req->begin_us);
  req->resp.bytes_received += len;
  note_life(transfer);
  note_keep_alive(transfer, line, len);
  if (!req->resp.head_complete && !cpool__framing_line(&transfer->framing, line, len))
    return cpool__transfer_give_up(transfer, CPOOL__ABORT_FRAMING);
  bool trailer = req->resp.head_complete;
  switch (cpool__response_head_line(&req->resp, line, len, (size_t) req->pool->options.max_header_bytes)) {
  case CPOOL__RESPONSE_OK:
    if (trailer || !req->resp.head_complete)
      return len;
    if (cpool__framing_doubtful(&transfer->framing, req->resp.status_code))
      forbid_reuse(transfer, CPOOL__CLOSE_RESPONSE);
    transfer->last = cpool__framing_last(&transfer->framing, req->resp.status_code, req->kind == CPOOL__KIND_HEAD);
    if (cpool__hop_due(req))
      return len;
    if (!cpool__body_begin(transfer))
      return 0;
    if (req->stream != NULL && req->events == NULL)
      cpool__stream_head(req);
    return answered_early(transfer) ? cpool__transfer_give_up(transfer, CPOOL__ABORT_ANSWERED) : len;
  case CPOOL__RESPONSE_NO_MEMORY:
    return cpool__transfer_give_up(transfer, CPOOL__ABORT_MEMORY);
  case CPOOL__RESPONSE_OVER_CAP:
    break;
  }
  return cpool__transfer_give_up(transfer, CPOOL__ABORT_HEADERS);
}

static size_t on_body(char *data, size_t one, size_t len, void *user)
{
  struct cpool__transfer *transfer = user;
  struct cpool__request *req = transfer->req;
  (void) one;
  if (req == NULL)
    return len;
  if (transfer->shows_heads && !req->resp.head_complete) { /* it comes to on_header afterwards */
    if (cpool__folding_piece(&transfer->folding, data, len))
      return len;
    return cpool__transfer_give_up(transfer, CPOOL__ABORT_FOLDED);
  }
  if (cpool__brake_check(transfer))
    return CURL_WRITEFUNC_PAUSE;
  note_life(transfer);
  size_t taken = cpool__body_take(transfer, data, len);
  if (taken != CURL_WRITEFUNC_PAUSE) /* else it will be offered again */
    req->resp.bytes_received += len;
  return taken == len && answered_early(transfer) ? cpool__transfer_give_up(transfer, CPOOL__ABORT_ANSWERED) : taken;
}

/* libcurl wants more of the body to send. */
static size_t on_read(char *to, size_t one, size_t max, void *user)
{
  struct cpool__transfer *transfer = user;
  size_t len;
  if (transfer->req == NULL || transfer->req->upload == NULL)
    return CURL_READFUNC_ABORT;
  switch (cpool__upload_take(transfer->req->upload, to, one * max, &len)) {
  case CPOOL__UPLOAD_BYTES:
    return len;
  case CPOOL__UPLOAD_END:
    return 0;
  case CPOOL__UPLOAD_WAIT:
    break;
  }
  transfer->send_paused = true;
  return CURL_READFUNC_PAUSE;
}

/* libcurl is about to send a body from its beginning: of one that it has begun to take, nothing is left. libcurl 8 still
 * asks for the body of an upload that failed when its handle goes to the next request, which would fail, too. */
static int on_rewind(void *user, curl_off_t offset, int origin)
{
  struct cpool__transfer *transfer = user;
  bool begun = transfer->req != NULL && transfer->req->upload != NULL && transfer->req->upload->touched;
  (void) offset;
  (void) origin;
  return begun ? CURL_SEEKFUNC_FAIL : CURL_SEEKFUNC_OK;
}

static curl_socket_t open_unix(struct cpool__transfer *transfer)
{
  struct cpool__conn *conn = transfer->conn;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    transfer->req->open_errno = errno;
    return CURL_SOCKET_BAD;
  }
  if (!cpool__conn_attach(conn, fd, NULL, NULL)) {
    transfer->req->open_errno = ENOMEM;
    close(fd);
    return CURL_SOCKET_BAD;
  }
  cpool__count_opened(conn->route);
  return fd;
}

enum { SAYS_WHY_IT_GAVE_UP_SINCE = 0x080000 };

/* libcurl turns to another connection for a request that it has sent. It does so in silence when the stream was refused;
 * when the connection was lost, it has said why: here, or (7) to the peer alone, as nghttp2 does before it gives one up. */
static bool has_complained(const struct cpool__transfer *transfer)
{
  struct cpool__conn *conn = transfer->conn;
  if (transfer->error_text[0] != '\0' || conn == NULL || cpool__curl_since(SAYS_WHY_IT_GAVE_UP_SINCE))
    return transfer->error_text[0] != '\0';
  conn->watch.judged = true; /* what follows is libcurl leaving the streams that were refused */
  return conn->watch.spoke;
}

/* libcurl asks for a socket: it gets the one that was connected for this transfer, or none. */
static curl_socket_t on_open(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
  struct cpool__transfer *transfer = user;
  (void) purpose;
  (void) address;
  if (transfer->req != NULL)
    cpool__transfer_touch(transfer);
  if (transfer->req == NULL || !transfer->hand_over) {
    transfer->refused_open = true;
    transfer->complained = has_complained(transfer);
    transfer->begun_then = transfer->conn != NULL ? transfer->conn->begun_count : 0;
    return CURL_SOCKET_BAD;
  }
  curl_socket_t fd = transfer->conn->unix_socket ? open_unix(transfer) : transfer->conn->fd;
  if (fd == CURL_SOCKET_BAD)
    return fd;
  transfer->hand_over = false;
  transfer->confirmed = true;
  transfer->conn->in_curl = true;
  return fd;
}

static int on_close(void *user, curl_socket_t fd)
{
  struct cpool__curl *curl = user;
  struct cpool__conn *conn = cpool__conn_by_fd(curl->pool, fd);
  if (conn != NULL)
    cpool__conn_gone(conn);
  else
    close(fd);
  return 0;
}

/* One of the two is shared: the transfer leaves the one and joins the other. */
static void change_shared(struct cpool__transfer *transfer, struct cpool__conn *conn)
{
  struct cpool__conn *reserved = transfer->conn;
  transfer->conn = conn;
  cpool__place_busy(&conn->pool->admission, &conn->place);
  if (reserved != NULL && reserved->http2) {
    cpool__conn_leave(reserved, transfer, CPOOL__CLOSE_PEER);
  } else if (reserved != NULL && reserved->state == CPOOL__CONN_GONE) {
    reserved->owner = NULL;
    cpool__conn_free(reserved, CPOOL__CLOSE_PEER);
  } else if (reserved != NULL) {
    cpool__conn_unreserve(reserved);
  }
  cpool__conn_begin(conn, transfer);
}

void cpool__transfer_uses(struct cpool__transfer *transfer, struct cpool__conn *conn)
{
  struct cpool__conn *reserved = transfer->conn;
  struct cpool__transfer *other = conn->owner;
  transfer->confirmed = true;
  if (conn == reserved)
    return;
  if (conn->http2) {
    change_shared(transfer, conn);
    return;
  }
  if (reserved != NULL && reserved->http2) { /* libcurl went on to one that is not shared */
    cpool__conn_leave(reserved, transfer, CPOOL__CLOSE_PEER);
    transfer->conn = reserved = NULL;
  }
  if (reserved != NULL && reserved->state == CPOOL__CONN_GONE) { /* libcurl found it dead and went on to another one */
    reserved->owner = NULL;
    cpool__conn_free(reserved, CPOOL__CLOSE_PEER);
    reserved = NULL;
  }
  transfer->conn = conn;
  cpool__conn_begin(conn, transfer);
  if (other != NULL) {
    /* it had reserved this one, or has ended on it and was not looked at yet: either way they change places */
    other->conn = reserved;
    if (reserved != NULL)
      reserved->owner = other;
  } else if (reserved != NULL && reserved->state == CPOOL__CONN_BUSY) {
    cpool__conn_unreserve(reserved);
  }
}

/* TLS is done, and the connection speaks one of the two. True: nothing more was wanted of it. libcurl keeps one that speaks
 * HTTP/2 then, and closes the other. */
static bool warmed(struct cpool__transfer *transfer, struct cpool__conn *conn)
{
  if (!transfer->req->warms || (!conn->http2 && transfer->req->target != NULL))
    return false;
  if (!conn->http2) {
    cpool__place_known(&conn->pool->admission, &conn->place, 1);
    conn->reason = CPOOL__CLOSE_DIAL;
  }
  transfer->abort = CPOOL__ABORT_WARM;
  return true;
}

/* A request goes out on a connection that it shares with others. */
static void begin_stream(struct cpool__transfer *transfer, struct cpool__conn *conn)
{
  uint64_t now_ms = cpool__runtime_now_ms(conn->pool->rt);
  bool reused = conn->life.request_count++ > 0;
  conn->begun_count++;
  transfer->begun = true;
  cpool__curl_cork(transfer->curl, conn);
  cpool__transfer_begun(transfer, conn, reused);
  enum cpool__janitor_reason last = cpool__janitor_last_use(&conn->life, &conn->route->origin->rules, now_ms);
  if (last != CPOOL__JANITOR_KEEP)
    cpool__conn_drain(conn,
                      last == CPOOL__JANITOR_LIFETIME ? cpool__conn_lifetime_reason(conn) : CPOOL__CLOSE_REQUESTS);
}

/* libcurl is about to send: on which connection, for which time, and may it? */
static int on_begin(void *user, char *remote_host, char *local_host, int remote_port, int local_port)
{
  struct cpool__transfer *transfer = user;
  struct cpool__request *req = transfer->req;
  (void) local_host;
  if (req == NULL)
    return CURL_PREREQFUNC_ABORT;
  cpool__transfer_touch(transfer);
  if (++transfer->begin_count > 1) { /* a second attempt of libcurl's own: whether to repeat is ours to say */
    transfer->abort = CPOOL__ABORT_REPLAY;
    transfer->complained = has_complained(transfer);
    return CURL_PREREQFUNC_ABORT;
  }
  if (!transfer->confirmed && local_port != 0) {
    struct cpool__conn *conn = cpool__conn_by_ends(req->pool, remote_host, remote_port, local_port);
    if (conn != NULL && conn->state != CPOOL__CONN_CLOSING)
      cpool__transfer_uses(transfer, conn);
  }
  struct cpool__conn *conn = transfer->conn;
  /* a unix socket shows no ends: it is the reserved one until the socket callback says otherwise */
  if (local_port == 0)
    transfer->confirmed = true;
  if (conn == NULL || !transfer->confirmed || conn->state != CPOOL__CONN_BUSY) {
    transfer->abort = CPOOL__ABORT_STALE;
    return CURL_PREREQFUNC_ABORT;
  }
  bool reused = conn->life.request_count > 0;
  bool tls = cpool__origin_encrypted(conn->route->origin);
  if (conn->http2) {
    if (conn->place.stream_limit == 0) { /* drained meanwhile */
      transfer->abort = CPOOL__ABORT_STALE;
      return CURL_PREREQFUNC_ABORT;
    }
    begin_stream(transfer, conn);
    return CURL_PREREQFUNC_OK;
  }
  if (!reused)
    cpool__proxy_tunnel_used(transfer);
  /* The last look before sending. Over TLS not at the socket, where a ticket may be on its way: there the look of the
   * dispatch has to do. */
  if ((reused || transfer->waited) && (tls ? cpool__conn_tls_pending(conn) : cpool__idle_peek(conn))) {
    transfer->abort = CPOOL__ABORT_STALE;
    conn->reason = cpool__idle_verdict(conn);
    return CURL_PREREQFUNC_ABORT;
  }
  if (tls && !reused)
    conn->tls = cpool__tls_of(transfer->easy);
  if (!reused && conn->route->origin->tls && cpool__tls_http2(conn->tls))
    cpool__conn_share(conn, transfer);
  if (warmed(transfer, conn))
    return CURL_PREREQFUNC_ABORT;
  if (conn->http2) {
    begin_stream(transfer, conn);
    return CURL_PREREQFUNC_OK;
  }
  if (!reused && conn->place.fresh)
    cpool__place_known(&req->pool->admission, &conn->place, 1);
  conn->life.request_count++;
  cpool__transfer_begun(transfer, conn, reused);
  enum cpool__janitor_reason last =
      cpool__janitor_last_use(&conn->life, &conn->route->origin->rules, cpool__runtime_now_ms(req->pool->rt));
  bool doubly = conn->route->origin->tls && conn->route->origin->proxy == CPOOL__PROXY_HTTPS;
  if ((tls && conn->tls == NULL) ||
      (doubly && conn->outer_tls == NULL)) /* what waits behind an answer could not be seen */
    forbid_reuse(transfer, CPOOL__CLOSE_RESPONSE);
  else if (last != CPOOL__JANITOR_KEEP)
    forbid_reuse(transfer, last == CPOOL__JANITOR_LIFETIME ? cpool__conn_lifetime_reason(conn) : CPOOL__CLOSE_REQUESTS);
  return CURL_PREREQFUNC_OK;
}

void cpool__transfer_set_callbacks(struct cpool__transfer *transfer)
{
  CURL *easy = transfer->easy;
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
  curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_rewind);
  curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_begin);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, transfer->curl); /* outlives the transfer that made the connection */
}
