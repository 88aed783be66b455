/* tls_sessions: the TLS sessions of one identity, so that each of its connections can take up what an earlier one to the
 * same host has agreed on. Loop thread only.
 *
 * libcurl keeps sessions per easy handle; a share keeps them for all handles that name it, up to eight hosts. So hosts
 * are spread over a few shares, which belong to the identity's libcurl part: none is ever seen by another identity. */
#ifndef CPOOL_HTTP_TLS_SESSIONS_H
#define CPOOL_HTTP_TLS_SESSIONS_H

#include <curl/curl.h>
#include <stdint.h>

enum { CPOOL__TLS_SHARES = 16 };

struct cpool__tls_sessions {
  CURLSH *shares[CPOOL__TLS_SHARES]; /* made when first needed */
};

/* The share for the host of this number. NULL: out of memory. A handle must name one before its first transfer: libcurl
 * 7 leaks the place for sessions of its own when a share comes later. */
CURLSH *cpool__tls_sessions_of(struct cpool__tls_sessions *sessions, uint64_t host_number);
/* After the last handle that named one, and the last connection. */
void cpool__tls_sessions_fini(struct cpool__tls_sessions *sessions);

#endif
