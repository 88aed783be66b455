/* tls_sessions: the TLS sessions of one identity */
#include "http/tls_sessions.h"

#include <assert.h>
#include <stddef.h>

CURLSH *cpool__tls_sessions_of(struct cpool__tls_sessions *sessions, uint64_t host_number)
{
  CURLSH **share = &sessions->shares[host_number % CPOOL__TLS_SHARES];
  if (*share != NULL)
    return *share;
  *share = curl_share_init(); /* without locks: one thread uses it */
  if (*share != NULL && curl_share_setopt(*share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK) {
    curl_share_cleanup(*share);
    *share = NULL;
  }
  return *share;
}

void cpool__tls_sessions_fini(struct cpool__tls_sessions *sessions)
{
  for (int i = 0; i < CPOOL__TLS_SHARES; i++) {
    CURLSHcode code = curl_share_cleanup(sessions->shares[i]);
    assert(sessions->shares[i] == NULL || code == CURLSHE_OK);
    (void) code;
    sessions->shares[i] = NULL;
  }
}
