/* transfer_result: from libcurl's result codes to our statuses, and the replay guard
 *
 * The guard (RFC 9112 section 9.3.1, RFC 9110 section 9.2.2): a request whose reused connection died without a byte of an answer is sent again
 *   - when nothing of it had been written, whatever its method;
 *   - when it had, only if repeating is safe: idempotent method, idempotency key, or the caller's word.
 * A new connection that dies is the peer's answer: never repeated. libcurl's own repetition, which asks none of this, is stopped before it sends. */
#include "http/transfer_result.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/error.h"
#include "http/body.h"
#include "http/conn.h"
#include "http/events.h"
#include "http/pool.h"
#include "http/proxy_result.h"
#include "http/request.h"
#include "http/tls.h"
#include "http/transfer.h"
#include "http/upload.h"
#include "pool/stock.h"

/* libcurl sends a smaller body together with the head, and counts both as the request's size; from 8.8 on any body. */
enum { BODY_APART_BYTES = 64 * 1024, BODY_COUNTED_SINCE = 0x080800 };

enum { HEAD_TOO_LARGE = 100 /* CURLE_TOO_LARGE, of libcurl 8.6 and newer */ };

void cpool__transfer_begun(struct cpool__transfer *transfer, struct cpool__conn *conn, bool reused)
{
  struct cpool__request *req = transfer->req;
  struct cpool_response *resp = &req->resp;
  cpool_http *pool = req->pool;
  resp->connection = conn->number;
  resp->remote = conn->remote;
  resp->reused = reused;
  if (reused) {
    pool->stats.now.reused++;
    conn->route->origin->reused++;
  } else if (transfer->fresh_connect && !transfer->waited) {
    resp->dns_us = conn->dns_us;
    resp->connect_us = conn->connect_us;
  }
  if (transfer->fresh_connect) { /* the handshake was this one's */
    curl_off_t connected = 0, secured = 0;
    if (conn->route->origin->tls &&
        curl_easy_getinfo(transfer->easy, CURLINFO_APPCONNECT_TIME_T, &secured) == CURLE_OK &&
        curl_easy_getinfo(transfer->easy, CURLINFO_CONNECT_TIME_T, &connected) == CURLE_OK && secured >= connected)
      resp->tls_us = secured - connected;
    if (conn->tls != NULL && cpool__tls_resumed(conn->tls))
      pool->stats.now.tls_resumed++;
  }
  if (transfer->waited)
    cpool__stock_proved(&pool->admission, &conn->route->origin->policy);
  cpool__request_sending(req);
}

void cpool__transfer_measure(struct cpool__transfer *transfer)
{
  struct cpool__request *req = transfer->req;
  long sent = 0;
  if (transfer->begin_count == 0)
    return; /* what was sent, if anything, asked a proxy for a tunnel */
  curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &sent);
  req->resp.bytes_sent += (uint64_t) (sent - transfer->tunnel_bytes);
  if ((req->body_len >= BODY_APART_BYTES || req->upload != NULL) && !cpool__curl_since(BODY_COUNTED_SINCE)) {
    curl_off_t uploaded = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
    req->resp.bytes_sent += (uint64_t) uploaded;
  }
}

/* libcurl 7 says so, and no more, when a GOAWAY has ended the last stream, which it was before, or was reset in the same moment. */
static bool left_behind(const struct cpool__transfer *transfer, CURLcode code)
{
  return code == CURLE_HTTP2 && transfer->error_text[0] == '\0';
}

void cpool__transfer_classify(struct cpool__transfer *transfer, CURLcode code, bool tls, const char *subject,
                              cpool_error *error)
{
  struct cpool__request *req = transfer->req;
  const char *detail = transfer->error_text[0] != '\0' ? transfer->error_text : curl_easy_strerror(code);
  int status, layer = CPOOL_LAYER_HTTP, native = (int) code;
  char reason[128];
  switch ((int) code) {
  case CURLE_COULDNT_CONNECT:
  case CURLE_COULDNT_RESOLVE_HOST:
    if (req->open_errno == ENOMEM) {
      status = CPOOL_ENOMEM;
      layer = CPOOL_LAYER_SYSTEM;
      detail = "no memory for a socket";
    } else if (req->open_errno != 0) {
      status = CPOOL_ESYSTEM;
      layer = CPOOL_LAYER_SYSTEM;
      native = req->open_errno;
      detail = strerror_r(native, reason, sizeof reason);
    } else if (req->route->identity->unix_socket_path != NULL) {
      status = CPOOL_ECONNECT;
      layer = CPOOL_LAYER_CONNECT;
    } else { /* it was connected when libcurl got it; what the peer did since would else show as this or that by chance */
      status = tls ? CPOOL_ETLS_HANDSHAKE : CPOOL_ERESET;
      layer = tls ? CPOOL_LAYER_TLS : CPOOL_LAYER_HTTP;
    }
    break;
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_ISSUER_ERROR:
  case CURLE_SSL_INVALIDCERTSTATUS:
    status = CPOOL_ETLS_VERIFY;
    layer = CPOOL_LAYER_TLS;
    break;
  case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    status = CPOOL_ETLS_VERIFY;
    layer = CPOOL_LAYER_TLS;
    detail = "the peer's public key is none of pinned_public_key";
    break;
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_ENGINE_NOTFOUND:
  case CURLE_SSL_ENGINE_SETFAILED:
  case CURLE_SSL_ENGINE_INITFAILED:
  case CURLE_SSL_CRL_BADFILE:
    status = CPOOL_ETLS_CONFIG;
    layer = CPOOL_LAYER_TLS;
    break;
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_SSL_CIPHER:
  case CURLE_USE_SSL_FAILED:
  case CURLE_SSL_CLIENTCERT:
    status = CPOOL_ETLS_HANDSHAKE;
    layer = CPOOL_LAYER_TLS;
    break;
  case CURLE_OK: /* libcurl takes an end inside the head for the end of the answer */
    status = req->resp.head_begun ? CPOOL_ETRUNCATED : CPOOL_EPROTOCOL;
    detail = "the connection ended inside the head of the answer";
    break;
  case CURLE_SEND_ERROR: /* HTTP/2: it may be the first to notice, whatever had come */
    status = req->resp.http_version == 20 && req->resp.head_begun ? CPOOL_ETRUNCATED : CPOOL_ERESET;
    break;
  case CURLE_GOT_NOTHING:
  case CURLE_SEND_FAIL_REWIND:
    status = CPOOL_ERESET;
    break;
  case CURLE_HTTP2:
    status = !left_behind(transfer, code) ? CPOOL_EPROTOCOL : req->resp.head_begun ? CPOOL_ETRUNCATED : CPOOL_ERESET;
    break;
  case CURLE_PARTIAL_FILE: /* 7.88 says so of a lost HTTP/2 connection too, whatever had come */
    status = req->resp.head_begun ? CPOOL_ETRUNCATED : CPOOL_ERESET;
    break;
  case CURLE_HTTP2_STREAM: /* reset by the peer, or by nghttp2, which found fault with its answer */
    status = strstr(detail, "PROTOCOL_ERROR") != NULL || strcasestr(detail, "invalid") != NULL ? CPOOL_EPROTOCOL
             : req->resp.head_begun                                                            ? CPOOL_ETRUNCATED
                                                                                               : CPOOL_ERESET;
    break;
  case CURLE_RECV_ERROR:
    /* also what libcurl says of a malformed chunk, and of a head beyond its own cap of 300 KiB */
    status = strstr(detail, "chunk") != NULL                        ? CPOOL_EPROTOCOL
             : strstr(detail, "Too large response headers") != NULL ? CPOOL_EHEADERS_TOO_LARGE
             : req->resp.status_code != 0 || req->resp.header_count > 0 || req->resp.head_complete ? CPOOL_ETRUNCATED
                                                                                                   : CPOOL_ERESET;
    break;
  case CURLE_UPLOAD_FAILED: /* HTTP/1.0 has no chunks */
  case CURLE_WEIRD_SERVER_REPLY:
  case CURLE_UNSUPPORTED_PROTOCOL:
  case CURLE_BAD_CONTENT_ENCODING:
  case CURLE_FILESIZE_EXCEEDED:
  case CURLE_HTTP_RETURNED_ERROR:
    status = CPOOL_EPROTOCOL;
    break;
  case HEAD_TOO_LARGE:
    status = CPOOL_EHEADERS_TOO_LARGE;
    break;
  case CURLE_OUT_OF_MEMORY:
    /* libcurl 7.88 reports a single header line beyond its own cap like this */
    status = req->sending && !req->resp.head_complete ? CPOOL_EHEADERS_TOO_LARGE : CPOOL_ENOMEM;
    layer = status == CPOOL_ENOMEM ? CPOOL_LAYER_SYSTEM : CPOOL_LAYER_HTTP;
    break;
  case CURLE_BAD_FUNCTION_ARGUMENT: /* libcurl's own store of headers, of a line in a head or trailer that is none */
    status = req->sending ? CPOOL_EPROTOCOL : CPOOL_EINTERNAL;
    break;
  default:
    status = tls && !req->sending ? CPOOL_ETLS_HANDSHAKE : CPOOL_EINTERNAL;
    layer = tls && !req->sending ? CPOOL_LAYER_TLS : CPOOL_LAYER_HTTP;
  }
  cpool__error_set(error, status, layer, native, 0, "%s: %s", subject, detail);
}

/* Whether a unix socket could not be connected because the listener's backlog is full. libcurl 7 takes EAGAIN for a connect
 * under way, and fails without the reason (CURLINFO_OS_ERRNO keeps that of an earlier one): a connect of our own asks
 * again. One that goes through may mean that there is room by now, or a peer that hangs up at once: worth a few tries. */
static bool listener_full(const struct cpool__transfer *transfer, CURLcode code)
{
  struct cpool__request *req = transfer->req;
  const char *path = req->route->identity->unix_socket_path;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (code != CURLE_COULDNT_CONNECT || path == NULL || req->open_errno != 0 || transfer->hand_over ||
      transfer->begin_count > 0 || strlen(path) >= sizeof address.sun_path)
    return false;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return false;
  memcpy(address.sun_path, path, strlen(path) + 1);
  bool connected = connect(fd, (const struct sockaddr *) &address, sizeof address) == 0;
  bool full = !connected && errno == EAGAIN;
  close(fd);
  if (connected && req->room_count < CPOOL__ATTEMPTS) {
    req->room_count++;
    return true;
  }
  return full;
}

static void encoding_failure(struct cpool__request *req, const char *fault, cpool_error *error)
{
  const char *coding = cpool_response_header(&req->resp, "Content-Encoding");
  cpool__error_set(error, CPOOL_EENCODING, CPOOL_LAYER_HTTP, 0, 0, "%.120s: the body cannot be decoded (%.40s): %s",
                   req->route->origin->key, coding != NULL ? coding : "", fault);
}

/* The failure by our own decision; false when there was none. */
static bool own_failure(struct cpool__transfer *transfer, cpool_error *error)
{
  struct cpool__request *req = transfer->req;
  const char *origin = req->route->origin->key;
  switch (transfer->abort) {
  case CPOOL__ABORT_HEADERS:
    cpool__error_set(error, CPOOL_EHEADERS_TOO_LARGE, CPOOL_LAYER_HTTP, 0, 0,
                     "%s: headers exceed max_header_bytes (%lld)", origin,
                     (long long) req->pool->options.max_header_bytes);
    return true;
  case CPOOL__ABORT_BODY:
    cpool__error_set(error, CPOOL_EBODY_TOO_LARGE, CPOOL_LAYER_HTTP, 0, 0, "%s: body exceeds max_response_bytes (%lld)",
                     origin, (long long) req->max_response_bytes);
    return true;
  case CPOOL__ABORT_FRAMING:
    cpool__error_set(error, CPOOL_EPROTOCOL, CPOOL_LAYER_HTTP, 0, 0,
                     "%s: Content-Length is no number, or there are two that differ", origin);
    return true;
  case CPOOL__ABORT_EVENT:
    cpool__error_set(error, CPOOL_EBODY_TOO_LARGE, CPOOL_LAYER_HTTP, 0, 0,
                     "%s: an event, or a line, exceeds max_sse_event_bytes (%lld)", origin,
                     (long long) req->events->parser.cap);
    return true;
  case CPOOL__ABORT_ENCODING:
    encoding_failure(req, transfer->encoding_fault, error);
    return true;
  case CPOOL__ABORT_FOLDED:
    cpool__error_set(error, CPOOL_EPROTOCOL, CPOOL_LAYER_HTTP, 0, 0,
                     "%s: the first line of the head begins with a blank and continues nothing", origin);
    return true;
  case CPOOL__ABORT_MEMORY:
    cpool__error_set(error, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, 0, "%s: no memory for the response", origin);
    return true;
  default:
    return false;
  }
}

/* Repeats within the bound, or says why not; elsewhere: libcurl 7.88 gives a connection with a refused stream no other, and after
 * GOAWAY none is allowed. */
static void refused(struct cpool__transfer *transfer, CURLcode code, struct cpool__outcome *out)
{
  struct cpool__request *req = transfer->req;
  cpool__conn_drain(transfer->conn, CPOOL__CLOSE_ERROR);
  out->repeat = req->repeatable && cpool__request_attempts(req) < CPOOL__ATTEMPTS;
  if (out->repeat)
    return;
  if (!req->repeatable)
    req->pool->stats.now.repeat_refused++;
  cpool__error_set(&out->error, CPOOL_EREFUSED, CPOOL_LAYER_HTTP, (int) code, 0,
                   "%s: the peer refused the stream, or went away without processing it", req->route->origin->key);
  out->error.flags |= CPOOL_ERROR_RETRIABLE;
}

/* On a shared connection: what its streams meet, and others do not.
 *   libcurl wants another connection before it sent anything   no stream is free: that many are allowed; or it takes none
 *                                                              any more, then this goes on elsewhere
 *   the same after it sent, without a complaint                the stream was refused (RFC 9113 section 8.7)
 *   no answer, and not for a stream's reason                   the connection is lost: the replay guard decides; of a new one, too,
 *                                                              when it was left by a GOAWAY */
static bool http2_outcome(struct cpool__transfer *transfer, CURLcode code, bool answered, struct cpool__outcome *out)
{
  struct cpool__request *req = transfer->req;
  struct cpool__conn *conn = transfer->conn;
  if (conn == NULL || !conn->http2)
    return false;
  bool elsewhere = transfer->refused_open || transfer->abort == CPOOL__ABORT_REPLAY;
  if (transfer->refused_open && transfer->begin_count == 0 && conn->state == CPOOL__CONN_BUSY &&
      transfer->begun_then > 0) {
    if (conn->place.stream_limit > transfer->begun_then)
      cpool__place_streams(&req->pool->admission, &conn->place, transfer->begun_then);
    req->no_stream = out->repeat = true;
    return true;
  }
  if (transfer->abort == CPOOL__ABORT_STALE && conn->state == CPOOL__CONN_BUSY) { /* it was drained meanwhile */
    req->no_stream = out->repeat = true;
    return true;
  }
  if (elsewhere && transfer->begin_count > 0 && !transfer->complained) {
    refused(transfer, code, out);
    return true;
  }
  bool lost = code == CURLE_HTTP2 || code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING ||
              code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR;
  if (elsewhere || lost)
    cpool__conn_drain(conn, CPOOL__CLOSE_ERROR);
  if (answered || !lost || (conn->life.request_count < 2 && !left_behind(transfer, code)) || !req->repeatable ||
      cpool__request_attempts(req) >= CPOOL__ATTEMPTS)
    return false;
  out->repeat = true;
  return true;
}

void cpool__transfer_outcome(struct cpool__transfer *transfer, CURLcode code, bool tls, struct cpool__outcome *out)
{
  struct cpool__request *req = transfer->req;
  cpool_http *pool = req->pool;
  bool reused = transfer->begin_count > 0 && (req->resp.reused || transfer->waited);
  uint64_t before = req->resp.bytes_sent;
  cpool__transfer_measure(transfer);
  bool sent = req->resp.bytes_sent > before;
  bool answered = req->resp.header_count > 0 || req->resp.status_code != 0 || req->resp.body.len > 0;
  bool again = (!sent || req->repeatable) && (req->upload == NULL || !req->upload->touched);
  out->repeat = false;
  if (transfer->abort == CPOOL__ABORT_WARM) {
    out->error.status = CPOOL_OK;
    return;
  }
  if (req->resp.head_complete &&
      (transfer->abort == CPOOL__ABORT_REDIRECT || transfer->abort == CPOOL__ABORT_ANSWERED ||
       (code == CURLE_OK && transfer->abort == CPOOL__ABORT_NONE))) {
    const char *fault = transfer->abort != CPOOL__ABORT_REDIRECT ? cpool__body_end_fault(req) : NULL;
    out->error.status = CPOOL_OK;
    if (fault != NULL)
      encoding_failure(req, fault, &out->error);
    return;
  }
  if (cpool__proxy_failed(transfer, code)) {
    cpool__proxy_outcome(transfer, code, &out->error);
    /* it had waited for a request, and the proxy may have given it up before */
    out->repeat = transfer->waited && out->error.native == 0 && (out->error.flags & CPOOL_ERROR_RETRIABLE) != 0 &&
                  cpool__request_attempts(req) < CPOOL__ATTEMPTS && again;
    return;
  }
  if (own_failure(transfer, &out->error))
    return;
  if (listener_full(transfer, code)) {
    if (transfer->conn != NULL)
      transfer->conn->reason = CPOOL__CLOSE_DIAL;
    req->listener_full = out->repeat = true;
    return;
  }
  if (http2_outcome(transfer, code, answered, out))
    return;
  /* the connection was no good: found before sending, by libcurl's attempt to go on elsewhere, by its end without an answer,
   * or it had waited and the peer did not want it any more when TLS began */
  bool stale =
      (transfer->waited && transfer->begin_count == 0 && code == CURLE_SSL_CONNECT_ERROR) ||
      transfer->abort == CPOOL__ABORT_STALE || transfer->abort == CPOOL__ABORT_REPLAY || transfer->refused_open ||
      (reused && !answered && (code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR));
  if (!stale) {
    cpool__transfer_classify(transfer, code, tls, req->route->origin->key, &out->error);
  } else if (cpool__request_attempts(req) < CPOOL__ATTEMPTS && again) {
    out->repeat = true;
    return;
  } else {
    if (!again)
      pool->stats.now.repeat_refused++;
    cpool__error_set(&out->error, CPOOL_ERESET, CPOOL_LAYER_HTTP, (int) code, 0,
                     "%s: the connection was lost before an answer began%s", req->route->origin->key,
                     again                      ? ""
                     : !sent || req->repeatable ? "; its body has gone and cannot be sent again"
                                                : "; the request was sent and is not safe to repeat");
  }
  if (!sent)
    out->error.flags |= CPOOL_ERROR_NOTHING_SENT;
  if ((!sent || req->repeatable) && (out->error.status == CPOOL_ERESET || out->error.status == CPOOL_ETRUNCATED ||
                                     out->error.status == CPOOL_ECONNECT || out->error.status == CPOOL_ESYSTEM ||
                                     out->error.status == CPOOL_ETLS_HANDSHAKE))
    out->error.flags |= CPOOL_ERROR_RETRIABLE;
}
