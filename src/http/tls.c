/* tls: a look behind libcurl at its OpenSSL connection */
#include "http/tls.h"

#include <stdint.h>
#include <string.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>

void *cpool__tls_of(CURL *easy)
{
  struct curl_tlssessioninfo *info = NULL;
  if (curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &info) != CURLE_OK || info == NULL)
    return NULL;
  return info->backend == CURLSSLBACKEND_OPENSSL ? info->internals : NULL;
}

bool cpool__tls_http2(void *tls)
{
  const unsigned char *name = NULL;
  unsigned int len = 0;
  if (tls != NULL)
    SSL_get0_alpn_selected(tls, &name, &len);
  return len == 2 && memcmp(name, "h2", 2) == 0;
}

/* Where an SSL_CTX, which libcurl makes for each handshake, keeps the address to write to. */
static pthread_once_t index_once = PTHREAD_ONCE_INIT;
static int outer_index;

static void make_index(void)
{
  outer_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static void on_info(const SSL *tls, int where, int value)
{
  (void) value;
  void **outer = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(tls), outer_index);
  if (where == SSL_CB_HANDSHAKE_START && outer != NULL && *outer == NULL)
    *outer = (void *) (uintptr_t) tls;
}

static CURLcode on_context(CURL *easy, void *context, void *outer)
{
  (void) easy;
  if (SSL_CTX_set_ex_data(context, outer_index, outer) != 1)
    return CURLE_OUT_OF_MEMORY;
  SSL_CTX_set_info_callback(context, on_info);
  return CURLE_OK;
}

void cpool__tls_watch_outer(CURL *easy, void **outer)
{
  pthread_once(&index_once, make_index);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, outer);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, outer != NULL ? on_context : NULL);
}

enum { READ_BYTES = 128 * 1024 }; /* in one call of libcurl */

static long on_bio(BIO *bio, int what, const char *data, size_t len, int number, long arg, int result,
                   size_t *processed)
{
  struct cpool__tls_watch *watch = (struct cpool__tls_watch *) (uintptr_t) BIO_get_callback_arg(bio);
  (void) data;
  (void) len;
  (void) number;
  (void) arg;
  if (what == (BIO_CB_READ | BIO_CB_RETURN) && result > 0 && processed != NULL)
    watch->left_bytes -= (int64_t) *processed;
  if (what != BIO_CB_READ)
    return result;
  if (watch->call != *watch->calls) {
    watch->call = *watch->calls;
    watch->left_bytes = READ_BYTES;
  }
  if (watch->left_bytes > 0)
    return result;
  BIO_clear_retry_flags(bio);
  BIO_set_retry_read(bio);
  return -1;
}

/* The type of a record stands in its head; since TLS 1.3 behind its data. */
static void on_record(int sent, int version, int what, const void *data, size_t len, SSL *tls, void *user)
{
  struct cpool__tls_watch *watch = user;
  int where = SSL_version(tls) >= TLS1_3_VERSION ? SSL3_RT_INNER_CONTENT_TYPE : SSL3_RT_HEADER;
  (void) version;
  if (what != where || len == 0 || *(const unsigned char *) data != SSL3_RT_APPLICATION_DATA)
    return;
  if (sent == 0)
    watch->spoke = watch->judged = false;
  else if (!watch->judged)
    watch->spoke = true;
  watch->heard = watch->heard || sent == 0;
}

void cpool__tls_watch(void *tls, struct cpool__tls_watch *watch, const uint32_t *calls)
{
  BIO *bio = SSL_get_rbio(tls);
  if (bio == NULL)
    return;
  *watch = (struct cpool__tls_watch){.calls = calls, .call = *calls, .left_bytes = READ_BYTES};
  BIO_set_callback_arg(bio, (char *) watch);
  BIO_set_callback_ex(bio, on_bio);
  SSL_set_msg_callback(tls, on_record);
  SSL_set_msg_callback_arg(tls, watch);
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
