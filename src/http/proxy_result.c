/* proxy_result: how the making of a tunnel goes
 *
 * libcurl asks for the tunnel and reads the answer. An HTTP proxy's head comes to our header callback before the request
 * is begun, which tells it from the answer's. What a SOCKS5 proxy says is seen in libcurl's result alone. */
#include "http/proxy_result.h"

#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "http/conn.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/transfer.h"
#include "http/transfer_result.h"

static enum cpool__proxy_kind kind_of(const struct cpool__transfer *transfer)
{
  return transfer->req->route->origin->proxy;
}

/* The last status that the proxy gave; 0: none. */
static long answer_of(const struct cpool__transfer *transfer)
{
  long code = 0;
  curl_easy_getinfo(transfer->easy, CURLINFO_HTTP_CONNECTCODE, &code);
  return code;
}

bool cpool__proxy_head_line(struct cpool__transfer *transfer, const char *line, size_t len)
{
  transfer->tunnel_bytes += (long) len;
  if (transfer->tunnel_bytes > (long) transfer->req->pool->options.max_header_bytes) {
    transfer->abort = CPOOL__ABORT_TUNNEL;
    return false;
  }
  /* as libcurl sees it: the code of the last line that looks like a status line, and an empty line */
  if ((line[0] == '\r' || line[0] == '\n') && answer_of(transfer) / 100 == 2)
    transfer->tunnel_open = true;
  return true;
}

static int on_progress(void *user, curl_off_t wanted, curl_off_t got, curl_off_t to_send, curl_off_t sent)
{
  struct cpool__transfer *transfer = user;
  (void) wanted, (void) got, (void) to_send, (void) sent;
  if (transfer->req == NULL || transfer->begin_count > 0 || transfer->tunnel_open ||
      ++transfer->tunnel_looks <= 2 * transfer->req->pool->options.max_header_bytes)
    return 0;
  transfer->abort = CPOOL__ABORT_TUNNEL;
  return 1;
}

void cpool__proxy_watch(struct cpool__transfer *transfer, bool on)
{
  curl_easy_setopt(transfer->easy, CURLOPT_XFERINFODATA, transfer);
  curl_easy_setopt(transfer->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(transfer->easy, CURLOPT_NOPROGRESS, on ? 0L : 1L);
}

void cpool__proxy_tunnel_used(struct cpool__transfer *transfer)
{
  transfer->tunnel_open = true;
  transfer->tunnel_bytes = 0;
  curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &transfer->tunnel_bytes);
}

/* On a connection that was made for this transfer, before anything of the request. */
static bool before_use(const struct cpool__transfer *transfer)
{
  return kind_of(transfer) != CPOOL__PROXY_NONE && transfer->fresh_connect && !transfer->hand_over &&
         transfer->begin_count == 0 && !transfer->tunnel_open;
}

const char *cpool__proxy_waits(const struct cpool__request *req)
{
  if (req->transfer == NULL || !before_use(req->transfer))
    return NULL;
  return kind_of(req->transfer) == CPOOL__PROXY_SOCKS5 && req->route->origin->tls
             ? "waiting for the proxy's tunnel, or in the TLS handshake behind it"
             : "waiting for the proxy's tunnel";
}

bool cpool__proxy_failed(const struct cpool__transfer *transfer, CURLcode code)
{
  if (!before_use(transfer))
    return false;
  /* Behind a SOCKS5 proxy's word there is the TLS handshake with the host. */
  return kind_of(transfer) != CPOOL__PROXY_SOCKS5 || code == CURLE_PROXY || code == CURLE_COULDNT_CONNECT;
}

/* RFC 1928 section 6; 0: the proxy gave none. */
static int socks_reply(CURLproxycode code)
{
  static const struct {
    CURLproxycode code;
    int reply;
  } replies[] = {
      {CURLPX_REPLY_GENERAL_SERVER_FAILURE, 1}, {CURLPX_REPLY_NOT_ALLOWED, 2},
      {CURLPX_REPLY_NETWORK_UNREACHABLE, 3},    {CURLPX_REPLY_HOST_UNREACHABLE, 4},
      {CURLPX_REPLY_CONNECTION_REFUSED, 5},     {CURLPX_REPLY_TTL_EXPIRED, 6},
      {CURLPX_REPLY_COMMAND_NOT_SUPPORTED, 7},  {CURLPX_REPLY_ADDRESS_TYPE_NOT_SUPPORTED, 8},
  };
  for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
    if (replies[i].code == code)
      return replies[i].reply;
  return 0;
}

/* Another try may find it better: it was unreachable or overloaded, or lost the connection, or could not reach the host. */
static bool socks_may_recover(CURLproxycode code)
{
  switch (code) {
  case CURLPX_CLOSED:
  case CURLPX_RECV_ADDRESS:
  case CURLPX_RECV_AUTH:
  case CURLPX_RECV_CONNECT:
  case CURLPX_RECV_REQACK:
  case CURLPX_SEND_AUTH:
  case CURLPX_SEND_CONNECT:
  case CURLPX_SEND_REQUEST:
  case CURLPX_REPLY_GENERAL_SERVER_FAILURE:
  case CURLPX_REPLY_NETWORK_UNREACHABLE:
  case CURLPX_REPLY_HOST_UNREACHABLE:
  case CURLPX_REPLY_CONNECTION_REFUSED:
  case CURLPX_REPLY_TTL_EXPIRED:
    return true;
  default:
    return false;
  }
}

static void socks_outcome(struct cpool__transfer *transfer, CURLcode code, const char *origin, cpool_error *error)
{
  long detail = 0;
  if (code == CURLE_PROXY)
    curl_easy_getinfo(transfer->easy, CURLINFO_PROXY_ERROR, &detail);
  int reply = socks_reply((CURLproxycode) detail);
  bool again = code != CURLE_PROXY || socks_may_recover((CURLproxycode) detail);
  const char *text = detail == CURLPX_USER_REJECTED    ? "the proxy does not accept proxy_username and proxy_password"
                     : detail == CURLPX_NO_AUTH        ? "the proxy wants other credentials than it was given"
                     : transfer->error_text[0] != '\0' ? transfer->error_text
                                                       : curl_easy_strerror(code);
  cpool__error_set(error, CPOOL_EPROXY, CPOOL_LAYER_CONNECT, reply, again ? CPOOL_ERROR_RETRIABLE : 0, "%s: %s", origin,
                   text);
}

/* libcurl's codes for a handshake that failed, and for what it cannot load. */
static bool is_tls(CURLcode code)
{
  switch (code) {
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CIPHER:
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_ISSUER_ERROR:
  case CURLE_SSL_INVALIDCERTSTATUS:
    return true;
  default:
    return false;
  }
}

void cpool__proxy_outcome(struct cpool__transfer *transfer, CURLcode code, cpool_error *error)
{
  struct cpool__request *req = transfer->req;
  const char *origin = req->route->origin->key;
  const char *via = strstr(origin, " via ");
  long answer = answer_of(transfer);
  if (code == CURLE_OUT_OF_MEMORY) {
    cpool__error_set(error, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, (int) code, 0, "%s: no memory for a tunnel", origin);
  } else if (kind_of(transfer) == CPOOL__PROXY_SOCKS5) {
    socks_outcome(transfer, code, origin, error);
  } else if (is_tls(code)) {
    char subject[CPOOL__PROXY_URL_BYTES + 8];
    snprintf(subject, sizeof subject, "proxy %s", via + sizeof " via " - 1);
    cpool__transfer_classify(transfer, code, true, subject, error);
    if (error->status == CPOOL_ETLS_HANDSHAKE)
      error->flags |= CPOOL_ERROR_RETRIABLE;
  } else if (transfer->abort == CPOOL__ABORT_FOLDED) {
    cpool__error_set(error, CPOOL_EPROXY, CPOOL_LAYER_CONNECT, (int) answer, 0,
                     "%s: the first line of the proxy's headers begins with a blank and continues nothing", origin);
  } else if (answer > 0 && answer / 100 != 2) {
    cpool__error_set(error, CPOOL_EPROXY, CPOOL_LAYER_CONNECT, (int) answer, answer >= 500 ? CPOOL_ERROR_RETRIABLE : 0,
                     "%s: the proxy refused a tunnel with HTTP %ld%s", origin, answer,
                     answer == 407 ? ": it wants other credentials than it was given" : "");
  } else if (transfer->abort == CPOOL__ABORT_TUNNEL) {
    cpool__error_set(error, CPOOL_EPROXY, CPOOL_LAYER_CONNECT, (int) answer, 0,
                     "%s: the proxy's answer exceeds max_header_bytes (%lld)", origin,
                     (long long) req->pool->options.max_header_bytes);
  } else {
    cpool__error_set(error, CPOOL_EPROXY, CPOOL_LAYER_CONNECT, 0, CPOOL_ERROR_RETRIABLE,
                     "%s: no answer from the proxy: %s", origin,
                     transfer->error_text[0] != '\0' ? transfer->error_text : curl_easy_strerror(code));
  }
  error->flags |= CPOOL_ERROR_NOTHING_SENT;
}
