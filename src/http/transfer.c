/* transfer: one request on one connection through a recycled easy handle */
#include "http/transfer.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/memory.h"
#include "http/conn.h"
#include "http/hop.h"
#include "http/pool.h"
#include "http/proxy_result.h"
#include "http/request.h"
#include "http/stream.h"
#include "http/tls.h"
#include "http/transfer_result.h"
#include "http/upload.h"

/* A head that is longer than what libcurl 7 reads at a time leaves it asleep with the rest, over HTTP/2. nghttp2 takes no longer ones than 64
 * KiB, which become somewhat more as text. */
enum { HTTP2_READ_BYTES = 80 * 1024 };

static void set_identity(CURL *easy, const struct cpool__identity *identity)
{
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, identity->tls_verify ? 1L : 0L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, identity->tls_verify ? 2L : 0L);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION,
                   identity->tls_min_version == CPOOL_TLS_1_3 ? CURL_SSLVERSION_TLSv1_3 : CURL_SSLVERSION_TLSv1_2);
  if (identity->ca_file != NULL) {
    curl_easy_setopt(easy, CURLOPT_CAINFO, identity->ca_file);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
  }
  if (identity->client_cert_file != NULL) {
    curl_easy_setopt(easy, CURLOPT_SSLCERT, identity->client_cert_file);
    curl_easy_setopt(easy, CURLOPT_SSLKEY,
                     identity->client_key_file != NULL ? identity->client_key_file : identity->client_cert_file);
    if (identity->client_key_password != NULL)
      curl_easy_setopt(easy, CURLOPT_KEYPASSWD, identity->client_key_password);
  }
  if (identity->unix_socket_path != NULL)
    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, identity->unix_socket_path);
  if (identity->pinned_public_key != NULL)
    curl_easy_setopt(easy, CURLOPT_PINNEDPUBLICKEY, identity->pinned_public_key);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                   identity->http_version == CPOOL_HTTP_2 ? (long) CURL_HTTP_VERSION_2TLS
                                                          : (long) CURL_HTTP_VERSION_1_1);
  if (identity->http_version == CPOOL_HTTP_2)
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long) HTTP2_READ_BYTES);
}

/* An https proxy is verified whatever tls_verify says, which is about the hosts; it gets neither the pin nor the client
 * certificate. */
static void set_proxy_rules(CURL *easy, const struct cpool__identity *identity)
{
  curl_easy_setopt(easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
  curl_easy_setopt(easy, CURLOPT_HEADEROPT, (long) CURLHEADER_SEPARATE); /* no header of a request goes to the proxy */
  curl_easy_setopt(easy, CURLOPT_PROXYAUTH, (long) CURLAUTH_BASIC);
  curl_easy_setopt(easy, CURLOPT_SOCKS5_AUTH, (long) CURLAUTH_BASIC);
  curl_easy_setopt(easy, CURLOPT_PROXY_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(easy, CURLOPT_PROXY_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(easy, CURLOPT_PROXY_SSLVERSION,
                   identity->tls_min_version == CPOOL_TLS_1_3 ? CURL_SSLVERSION_TLSv1_3 : CURL_SSLVERSION_TLSv1_2);
  if (identity->ca_file != NULL) {
    curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, identity->ca_file);
    curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, NULL);
  }
}

/* What never changes between the requests of one identity is set once. */
struct cpool__transfer *cpool__transfer_new(struct cpool__curl *curl)
{
  struct cpool__transfer *transfer = cpool__calloc(1, sizeof *transfer);
  if (transfer == NULL)
    return NULL;
  CURL *easy = transfer->easy = curl_easy_init();
  if (easy == NULL) {
    cpool__free(transfer);
    return NULL;
  }
  transfer->curl = curl;
  transfer->connect_to.data = transfer->connect_to_text;
  curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error_text);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* also keeps libcurl from reading the environment for each request */
  curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long) INT_MAX);
  curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, 0L);
  transfer->shows_heads = !cpool__curl_since(CPOOL__FOLDING_SHOWN_BEFORE);
  transfer->once = !transfer->shows_heads && !cpool__curl_since(CPOOL__FOLDING_SAFE_SINCE);
  curl_easy_setopt(easy, CURLOPT_HEADER, transfer->shows_heads ? 1L : 0L);
  cpool__transfer_set_callbacks(transfer);
  set_identity(easy, curl->identity);
  if (curl->identity->http_proxy != NULL || curl->identity->https_proxy != NULL)
    set_proxy_rules(easy, curl->identity);
  return transfer;
}

void cpool__transfer_free(struct cpool__transfer *transfer)
{
  struct cpool__curl *curl = transfer->curl;
  curl_multi_remove_handle(curl->multi, transfer->easy);
  cpool__link_remove(&transfer->link);
  curl_easy_cleanup(transfer->easy);
  cpool__free(transfer->resolve);
  cpool__free(transfer);
}

static void set_method(struct cpool__transfer *transfer, const struct cpool__request *req)
{
  CURL *easy = transfer->easy;
  if (req->kind == CPOOL__KIND_UPLOAD) {
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) req->upload->length);
  } else if (transfer->kind == (int) CPOOL__KIND_UPLOAD) {
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 0L);
  }
  if (req->kind == CPOOL__KIND_BODY) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) req->body_len);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, req->body_len > 0 ? req->body : "");
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
  } else if (transfer->kind != (int) req->kind && req->kind != CPOOL__KIND_UPLOAD) {
    curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L); /* undoes POST and NOBODY */
    if (req->kind == CPOOL__KIND_HEAD)
      curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  }
  transfer->kind = (int) req->kind;
  if (req->method != NULL || transfer->custom_method)
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, req->method);
  transfer->custom_method = req->method != NULL;
}

void cpool__transfer_set_proxy(struct cpool__transfer *transfer, const char *url, const char *userpwd)
{
  CURL *easy = transfer->easy;
  if (url == transfer->proxy)
    return;
  curl_easy_setopt(easy, CURLOPT_PROXY, url != NULL ? url : "");
  curl_easy_setopt(easy, CURLOPT_NOPROXY, url != NULL ? "" : "*"); /* either keeps libcurl from the environment */
  curl_easy_setopt(easy, CURLOPT_PROXYUSERPWD, userpwd);
  transfer->proxy = url;
}

void cpool__transfer_set_route(struct cpool__transfer *transfer, const struct cpool__route *route)
{
  const struct cpool__identity *identity = route->identity;
  if (route->origin->proxy == CPOOL__PROXY_NONE)
    cpool__transfer_set_proxy(transfer, NULL, NULL);
  else if (route->origin->tls)
    cpool__transfer_set_proxy(transfer, identity->https_proxy, identity->https_proxy_userpwd);
  else
    cpool__transfer_set_proxy(transfer, identity->http_proxy, identity->http_proxy_userpwd);
}

/* A proxy goes by its name, which an https one's certificate is for. libcurl would look that up before it asks for the
 * socket: it is told the address that was dialled, in "name:port:address", and remembers it without end. False: out of
 * memory. */
static bool set_resolve(struct cpool__transfer *transfer, const struct cpool__conn *conn)
{
  const struct cpool__origin *org = conn->route->origin;
  bool wanted = transfer->hand_over && org->proxy != CPOOL__PROXY_NONE && !org->literal;
  if (wanted) {
    char address[CPOOL__ADDRESS_TEXT];
    cpool__address_host_text(&conn->remote, address);
    size_t size = strlen(org->host) + sizeof address + 16;
    struct curl_slist *resolve = cpool__malloc(sizeof *resolve + size);
    if (resolve == NULL)
      return false;
    resolve->next = NULL;
    resolve->data = (char *) (resolve + 1);
    bool v6 = conn->remote.sock.any.sa_family == AF_INET6;
    snprintf(resolve->data, size, "%s:%u:%s%s%s", org->host, (unsigned) org->port, v6 ? "[" : "", address,
             v6 ? "]" : "");
    cpool__free(transfer->resolve);
    transfer->resolve = resolve;
    curl_easy_setopt(transfer->easy, CURLOPT_RESOLVE, resolve);
  } else if (transfer->resolve != NULL) {
    curl_easy_setopt(transfer->easy, CURLOPT_RESOLVE, NULL); /* it would be read again each time */
    cpool__free(transfer->resolve);
    transfer->resolve = NULL;
  }
  return true;
}

void cpool__transfer_set_address(struct cpool__transfer *transfer, const struct cpool__conn *conn)
{
  const struct cpool__origin *org = conn->route->origin;
  bool as_url = org->literal || org->proxy != CPOOL__PROXY_NONE;
  if (conn->unix_socket || (!as_url && cpool__address_equal(&transfer->connect_address, &conn->remote)))
    return;
  if (as_url) { /* the URL says it all, and libcurl has one thing less to parse per request; the proxy has its own way */
    if (transfer->connect_address.len > 0)
      curl_easy_setopt(transfer->easy, CURLOPT_CONNECT_TO, NULL);
    /* equal to none: its length alone would say nothing */
    memset(&transfer->connect_address, 0, sizeof transfer->connect_address);
    return;
  }
  transfer->connect_address = conn->remote;
  /* "::ADDRESS:PORT": whatever the URL's host and port are */
  transfer->connect_to_text[0] = transfer->connect_to_text[1] = ':';
  cpool__address_text(&conn->remote, transfer->connect_to_text + 2);
  curl_easy_setopt(transfer->easy, CURLOPT_CONNECT_TO, &transfer->connect_to);
}

/* A handle names a share also where there is no TLS: see tls_sessions.h. False: out of memory. */
static bool set_tls_sessions(struct cpool__transfer *transfer, const struct cpool__origin *org)
{
  if (transfer->tls_sessions != NULL && !org->tls)
    return true;
  CURLSH *share = cpool__tls_sessions_of(&transfer->curl->tls_sessions, org->tls ? org->number : 0);
  if (share == NULL)
    return false;
  if (share != transfer->tls_sessions)
    curl_easy_setopt(transfer->easy, CURLOPT_SHARE, share);
  transfer->tls_sessions = share;
  return true;
}

/* What is to be seen of a tunnel in the making: the proxy's answer, and TLS that will have TLS inside. */
static void set_watch(struct cpool__transfer *transfer, struct cpool__conn *conn)
{
  const struct cpool__origin *org = conn->route->origin;
  bool tunnel = transfer->hand_over && (org->proxy == CPOOL__PROXY_HTTP || org->proxy == CPOOL__PROXY_HTTPS);
  bool tls = transfer->hand_over && org->tls && org->proxy == CPOOL__PROXY_HTTPS;
  if (tunnel != transfer->watches_tunnel)
    cpool__proxy_watch(transfer, tunnel);
  if (tls || transfer->watches_tls)
    cpool__tls_watch_outer(transfer->easy, tls ? &conn->outer_tls : NULL);
  transfer->watches_tunnel = tunnel;
  transfer->watches_tls = tls;
}

static void set_request(struct cpool__transfer *transfer, const struct cpool__request *req, struct cpool__conn *conn)
{
  CURL *easy = transfer->easy;
  const struct cpool__origin *org = req->route->origin;
  if (transfer->origin_number != org->number) { /* not its address, which another one may have had before */
    curl_easy_setopt(easy, CURLOPT_CURLU, org->url);
    transfer->origin_number = org->number;
  }
  if (transfer->fresh_connect != transfer->hand_over) {
    /* All times are ours. 0 means five minutes for a new connection, but for a reused one it saves libcurl a timer per request. */
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, transfer->hand_over ? (long) INT_MAX : 0L);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, transfer->hand_over ? 1L : 0L);
    transfer->fresh_connect = transfer->hand_over;
  }
  if (transfer->forbid_reuse) {
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 0L);
    transfer->forbid_reuse = false;
  }
  if (transfer->streams != (req->stream != NULL)) {
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, req->stream != NULL ? (long) CPOOL__STREAM_READ_BYTES : 0L);
    transfer->streams = req->stream != NULL;
  }
  set_method(transfer, req);
  cpool__transfer_set_route(transfer, req->route);
  set_watch(transfer, conn);
  cpool__transfer_set_address(transfer, conn);
  curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET, req->target);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, req->headers.nodes);
}

/* ------------------------------------------------------------------------------------------------------- begin and end */

bool cpool__transfer_start(struct cpool__request *req, struct cpool__conn *conn)
{
  struct cpool__curl *curl = req->route->identity->curl;
  struct cpool__link *link = cpool__list_pop_front(&curl->free);
  struct cpool__transfer *transfer =
      link != NULL ? cpool__container_of(link, struct cpool__transfer, link) : cpool__transfer_new(curl);
  if (transfer == NULL)
    return false;
  transfer->hand_over = !conn->in_curl;
  if (!set_tls_sessions(transfer, req->route->origin) || !set_resolve(transfer, conn)) {
    cpool__list_push_front(&curl->free, &transfer->link);
    return false;
  }
  transfer->req = req;
  transfer->conn = conn;
  transfer->tunnel_open = false;
  transfer->tunnel_bytes = 0;
  transfer->tunnel_looks = 0;
  transfer->confirmed = transfer->refused_open = transfer->paused = transfer->send_paused = transfer->touched =
      transfer->last = false;
  transfer->abort = CPOOL__ABORT_NONE;
  transfer->begin_count = 0;
  transfer->begun = transfer->complained = false;
  transfer->waited = conn->waited;
  cpool__framing_init(&transfer->framing);
  transfer->folding = (struct cpool__folding){0};
  transfer->error_text[0] = '\0';
  set_request(transfer, req, conn);
  if (curl_multi_add_handle(curl->multi, transfer->easy) != CURLM_OK) {
    transfer->req = NULL;
    transfer->conn = NULL;
    cpool__list_push_front(&curl->free, &transfer->link);
    return false;
  }
  curl->untouched_count++;
  curl->kick_count = 0;
  cpool__runtime_defer(req->pool->rt,
                       &curl->kick_task); /* libcurl says nothing when it wanted to run at once already */
  cpool__list_push_back(&curl->active, &transfer->link);
  conn->waited = req->warms;
  cpool__conn_begin(conn, transfer);
  cpool__request_active(req, transfer);
  return true;
}

/* Out of the multi, which closes the connection unless it was kept; what is left of it is looked at by the caller. */
static void detach(struct cpool__transfer *transfer)
{
  struct cpool__request *req = transfer->req;
  struct cpool__curl *curl = transfer->curl;
  if (transfer->paused) {
    transfer->paused = false;
    curl->pool->stats.now.paused_requests--;
    cpool__brake_off(req);
  }
  transfer->req = NULL; /* callbacks from here on are nobody's */
  curl_multi_remove_handle(curl->multi, transfer->easy);
  if (transfer != curl->pruner)
    cpool__transfer_touch(transfer);
  cpool__link_remove(&transfer->link);
}

/* What becomes of the connection, now that libcurl has let go of the transfer. `broken`: libcurl took for success what was none. */
static void settle_conn(struct cpool__transfer *transfer, bool succeeded, bool broken)
{
  struct cpool__conn *conn = transfer->conn;
  enum cpool__close_reason gone = succeeded                                ? CPOOL__CLOSE_RESPONSE
                                  : transfer->abort == CPOOL__ABORT_CALLER ? CPOOL__CLOSE_CANCELLED
                                                                           : CPOOL__CLOSE_ERROR;
  transfer->conn = NULL;
  if (conn == NULL)
    return;
  if (conn->http2) {
    cpool__conn_leave(conn, transfer, gone);
    return;
  }
  if (conn->state == CPOOL__CONN_BUSY && !transfer->hand_over && conn->life.request_count == 0)
    cpool__conn_vanished(conn); /* libcurl took it and never came to sending on it: no such connection is kept */
  if (conn->state == CPOOL__CONN_GONE) {
    conn->owner = NULL;
    cpool__conn_free(conn, gone);
  } else if (transfer->hand_over) { /* libcurl never took the socket */
    conn->owner = NULL;
    if (conn->fd >= 0) {
      conn->reason = CPOOL__CLOSE_DIAL;
      cpool__conn_gone(conn);
    } else {
      cpool__conn_free(conn, CPOOL__CLOSE_DIAL);
    }
  } else if (transfer->confirmed && broken) { /* libcurl would use it again */
    cpool__conn_unreserve(conn);
    cpool__conn_retire(conn, CPOOL__CLOSE_ERROR);
  } else if (transfer->confirmed && cpool__conn_tls_pending(conn)) { /* bytes behind the answer */
    cpool__conn_unreserve(conn);
    cpool__conn_retire(conn, CPOOL__CLOSE_UNSOLICITED);
  } else if (transfer->confirmed &&
             (transfer->last || transfer->forbid_reuse)) { /* libcurl 8 takes its time over TLS */
    cpool__conn_unreserve(conn);
    cpool__conn_retire(conn, conn->reason != CPOOL__CLOSE_NONE ? conn->reason : CPOOL__CLOSE_RESPONSE);
  } else if (transfer->confirmed) {
    cpool__conn_end(conn);
  } else if (transfer->abort == CPOOL__ABORT_CALLER) { /* reserved, libcurl had not come to it */
    cpool__conn_unreserve(conn);
  } else { /* reserved, but libcurl had no use for it: it will have none for the next request */
    cpool__conn_unreserve(conn);
    cpool__conn_retire(conn, CPOOL__CLOSE_PEER);
  }
}

static void recycle(struct cpool__transfer *transfer)
{
  if (transfer->once)
    cpool__transfer_free(transfer);
  else
    cpool__list_push_front(&transfer->curl->free, &transfer->link);
}

void cpool__transfer_done(struct cpool__transfer *transfer, CURLcode code)
{
  struct cpool__request *req = transfer->req;
  if (req == NULL) { /* the pruner */
    detach(transfer);
    cpool__curl_pruned(transfer->curl);
    return;
  }
  bool tls_failed = transfer->conn != NULL && transfer->conn->route->origin->tls;
  struct cpool__outcome outcome;
  cpool__transfer_outcome(transfer, code, tls_failed, &outcome);
  req->transfer = NULL;
  detach(transfer);
  bool succeeded = !outcome.repeat && outcome.error.status == CPOOL_OK;
  settle_conn(transfer, succeeded, code == CURLE_OK && !succeeded);
  recycle(transfer);
  if (outcome.repeat)
    cpool__request_repeat(req);
  else if (succeeded && cpool__hop_due(req))
    cpool__hop_follow(req);
  else
    cpool__request_finish(req, outcome.error.status == CPOOL_OK ? NULL : &outcome.error);
}

void cpool__transfer_abort(struct cpool__transfer *transfer)
{
  cpool__transfer_measure(transfer);
  transfer->abort = CPOOL__ABORT_CALLER;
  transfer->req->transfer = NULL;
  detach(transfer);
  settle_conn(transfer, false, false);
  cpool__curl_check_done(transfer->curl);
  recycle(transfer);
}

void cpool__transfer_resume(struct cpool__transfer *transfer)
{
  struct cpool__conn *conn = transfer->conn;
  transfer->paused = false;
  transfer->curl->pool->stats.now.paused_requests--;
  cpool__http_touch(transfer->curl->pool);
  transfer->curl->kick_count = 0;
  transfer->req->activity_ms = cpool__runtime_now_ms(transfer->req->pool->rt);
  if (conn != NULL && conn->fd >= 0 && !conn->http2)
    cpool__poller_want(cpool__runtime_poller(transfer->req->pool->rt), conn->fd, EPOLLIN);
  CURLcode code = curl_easy_pause(transfer->easy, CURLPAUSE_CONT); /* hands over what was held back; may pause again */
  if (transfer->paused && transfer->conn != NULL &&
      !transfer->conn->http2) /* libcurl wanted nothing before and says nothing now */
    cpool__poller_want(cpool__runtime_poller(transfer->req->pool->rt), transfer->conn->fd, 0);
  if (code != CURLE_OK || transfer->abort != CPOOL__ABORT_NONE) /* libcurl would go on without the piece that failed */
    cpool__transfer_done(transfer, code != CURLE_OK ? code : CURLE_WRITE_ERROR);
  else
    cpool__curl_check_done(transfer->curl);
}

void cpool__transfer_send_more(struct cpool__transfer *transfer)
{
  if (!transfer->send_paused)
    return;
  transfer->send_paused = false;
  transfer->curl->kick_count = 0;
  transfer->req->activity_ms = cpool__runtime_now_ms(transfer->req->pool->rt);
  /* what it says of an error comes again with the end of the transfer */
  (void) curl_easy_pause(transfer->easy, transfer->paused ? CURLPAUSE_RECV : CURLPAUSE_CONT);
  cpool__curl_check_done(transfer->curl);
}
