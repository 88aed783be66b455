/* tls: a look behind libcurl at its OpenSSL connection */
#include "http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

void *cpool__tls_of(CURL *easy)
{
  struct curl_tlssessioninfo *info = NULL;
  if (curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &info) != CURLE_OK || info == NULL)
    return NULL;
  return info->backend == CURLSSLBACKEND_OPENSSL ? info->internals : NULL;
}

bool cpool__tls_pending(void *tls)
{
  return SSL_has_pending(tls) != 0;
}

bool cpool__tls_resumed(void *tls)
{
  return SSL_session_reused(tls) != 0;
}

void cpool__tls_drain(void *tls)
{
  /* No more than is decrypted already: a read beyond would go through libcurl's own layers, outside of a call of libcurl. */
  char scrap[4096];
  int waiting;
  while ((waiting = SSL_pending(tls)) > 0)
    if (SSL_read(tls, scrap, waiting < (int) sizeof scrap ? waiting : (int) sizeof scrap) <= 0)
      break;
  ERR_clear_error(); /* the queue of errors is the thread's, and may be the host's */
}
