/* tls: what libcurl does not tell of a TLS connection: whether bytes behind an answer are decrypted already and wait inside OpenSSL, where no
 * look at the socket finds them */
#ifndef CPOOL_HTTP_TLS_H
#define CPOOL_HTTP_TLS_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

/* What is seen of a connection with HTTP/2. */
struct cpool__tls_watch {
  const uint32_t *calls; /* a count of libcurl's calls */
  uint32_t call;         /* the one that left_bytes is of */
  int64_t left_bytes;    /* that may still be read in it */
  bool heard;            /* something was received; tickets and alerts do not count, here and below */
  bool spoke;            /* something was sent since then, before it was looked at first */
  bool judged;           /* it was */
};

/* The OpenSSL object of the connection that the handle is about to send on (in the pre-request callback); valid for as long as libcurl keeps
 * that connection. NULL: libcurl was built with another TLS library. */
void *cpool__tls_of(CURL *easy);
/* Has OpenSSL write the first object with which the handle's next connection begins a handshake to *outer, which is NULL
 * and stays until the socket of that connection is closed: where TLS to a host runs inside of TLS to a proxy, libcurl
 * shows the inner object alone. outer NULL: no more of that. */
void cpool__tls_watch_outer(CURL *easy, void **outer);
/* Whether HTTP/2 was agreed upon (ALPN). */
bool cpool__tls_http2(void *tls);
/* Whether the connection holds bytes that were received and not asked for. */
bool cpool__tls_pending(void *tls);
/* From now on one call of libcurl, as `calls` counts them, reads no more than 128 KiB from the socket, and then finds nothing to read until
 * the next: libcurl 7 would go on for as long as the peer is fast enough. Both must outlive the object. */
void cpool__tls_watch(void *tls, struct cpool__tls_watch *watch, const uint32_t *calls);
/* Whether its handshake took up an earlier session. */
bool cpool__tls_resumed(void *tls);
/* Throws away what is decrypted, so that libcurl does not take the connection for alive. */
void cpool__tls_drain(void *tls);

#endif
