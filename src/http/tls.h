/* tls: what libcurl does not tell of a TLS connection: whether bytes behind an answer are decrypted already and wait inside OpenSSL, where no
 * look at the socket finds them */
#ifndef CPOOL_HTTP_TLS_H
#define CPOOL_HTTP_TLS_H

#include <curl/curl.h>
#include <stdbool.h>

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
/* Whether its handshake took up an earlier session. */
bool cpool__tls_resumed(void *tls);
/* Throws away what is decrypted, so that libcurl does not take the connection for alive. */
void cpool__tls_drain(void *tls);

#endif
