/* client_tls: contexts of OpenSSL for dials
 *
 * libwebsockets would check names by itself, but cuts hosts at their first ':', so that none is ever right for an IPv6
 * address, and takes certificates of the future. So it is told not to, and each certificate is judged here. */
#include "ws/client_tls.h"

#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "base/memory.h"
#include "core/error.h"

enum { SETTINGS_FIXED = 64, HOST_BYTES = 256 };

/* NULL: out of memory. */
static char *settings_of(const cpool_ws_connect_options *options)
{
  const char *const texts[] = {options->ca_file, options->client_cert_file, options->client_key_file,
                               options->client_key_password};
  size_t size = SETTINGS_FIXED;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    size += texts[i] != NULL ? strlen(texts[i]) : 0;
  char *out = cpool__malloc(size);
  if (out == NULL)
    return NULL;
  char *at = out + sprintf(out, "%d %d", (int) options->tls_verify, (int) options->tls_min_version);
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) /* no text has a control byte */
    at = stpcpy(stpcpy(at, texts[i] != NULL ? "\n=" : "\n"), texts[i] != NULL ? texts[i] : "");
  return out;
}

static void wipe(char *text)
{
  if (text != NULL)
    explicit_bzero(text, strlen(text));
  cpool__free(text);
}

static int refuse(const char *option)
{
  char reason[120] = "";
  unsigned long code = ERR_peek_last_error();
  if (code != 0)
    snprintf(reason, sizeof reason, ": %s", ERR_reason_error_string(code) != NULL ? ERR_reason_error_string(code) : "");
  ERR_clear_error();
  return cpool__refuse(CPOOL_ETLS_CONFIG, CPOOL_LAYER_TLS, "ws_connect option %s: it cannot be used%s", option, reason);
}

static int give_password(char *out, int size, int writes, void *user)
{
  const char *password = user;
  size_t len = password != NULL ? strlen(password) : 0;
  (void) writes;
  if (len == 0 || len > (size_t) size)
    return -1; /* and never ask at a terminal */
  memcpy(out, password, len);
  return (int) len;
}

static bool is_address(const char *host)
{
  struct in6_addr address;
  return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

/* A server name is a name, without a last dot (RFC 6066 section 3); libwebsockets sends addresses, and halves of them, as
 * well. */
static void on_info(const SSL *ssl, int where, int value)
{
  (void) value;
  if ((where & SSL_CB_HANDSHAKE_START) == 0)
    return;
  const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  size_t len = name != NULL ? strlen(name) : 0;
  char own[HOST_BYTES];
  if (len == 0 || len >= sizeof own)
    return;
  memcpy(own, name, len + 1);
  if (*own == '[' || is_address(own)) {
    (void) SSL_set_tlsext_host_name((SSL *) (uintptr_t) ssl, NULL);
  } else if (own[len - 1] == '.') {
    own[len - 1] = '\0';
    (void) SSL_set_tlsext_host_name((SSL *) (uintptr_t) ssl, own);
  }
}

static int set_up(SSL_CTX *context, const cpool_ws_connect_options *options)
{
  int version = options->tls_min_version == CPOOL_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
  const char *key = options->client_key_file != NULL ? options->client_key_file : options->client_cert_file;
  SSL_CTX_set_info_callback(context, on_info);
  (void) SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  (void) SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  (void) SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION); /* a certificate is judged once */
  if (SSL_CTX_set_min_proto_version(context, version) != 1)
    return refuse("tls_min_version");
  int loaded = 1;
  if (options->ca_file != NULL)
    loaded = SSL_CTX_load_verify_file(context, options->ca_file);
  else if (options->tls_verify != CPOOL_OFF)
    loaded = SSL_CTX_set_default_verify_paths(context);
  if (loaded != 1)
    return refuse("ca_file");
  if (options->client_cert_file == NULL)
    return CPOOL_OK;
  SSL_CTX_set_default_passwd_cb(context, give_password);
  SSL_CTX_set_default_passwd_cb_userdata(context, (void *) (uintptr_t) options->client_key_password);
  int rc = CPOOL_OK;
  if (SSL_CTX_use_certificate_chain_file(context, options->client_cert_file) != 1)
    rc = refuse("client_cert_file");
  else if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(context) != 1)
    rc = refuse(options->client_key_file != NULL ? "client_key_file" : "client_cert_file");
  SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
  return rc;
}

int cpool__client_tls_new(struct cpool__client_tls **out, const cpool_ws_connect_options *options)
{
  struct cpool__client_tls *tls = cpool__calloc(1, sizeof *tls);
  if (tls != NULL)
    tls->settings = settings_of(options);
  if (tls == NULL || tls->settings == NULL || (tls->context = SSL_CTX_new(TLS_client_method())) == NULL) {
    cpool__client_tls_free(tls);
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_connect: no memory");
  }
  tls->verify = options->tls_verify != CPOOL_OFF;
  int rc = set_up(tls->context, options);
  if (rc != CPOOL_OK) {
    cpool__client_tls_free(tls);
    return rc;
  }
  *out = tls;
  return CPOOL_OK;
}

void cpool__client_tls_free(struct cpool__client_tls *tls)
{
  if (tls == NULL)
    return;
  SSL_CTX_free(tls->context);
  wipe(tls->settings);
  cpool__free(tls);
}

bool cpool__client_tls_fits(const struct cpool__client_tls *tls, const cpool_ws_connect_options *options)
{
  char *settings = settings_of(options);
  bool fits = settings != NULL && strcmp(settings, tls->settings) == 0;
  wipe(settings);
  return fits;
}

static bool is_for(X509 *certificate, const char *host)
{
  char name[HOST_BYTES];
  if (is_address(host))
    return X509_check_ip_asc(certificate, host, 0) == 1;
  size_t len = strlen(host);
  snprintf(name, sizeof name, "%.*s", (int) (len > 0 && host[len - 1] == '.' ? len - 1 : len), host);
  return X509_check_host(certificate, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

bool cpool__client_tls_judge(const struct cpool__client_tls *tls, const char *host, void *store_context, bool trusted,
                             char text[CPOOL__CLIENT_TLS_TEXT])
{
  X509_STORE_CTX *store = store_context;
  if (!tls->verify) {
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return true;
  }
  if (!trusted) {
    snprintf(text, CPOOL__CLIENT_TLS_TEXT, "%s", X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
    return false;
  }
  if (X509_STORE_CTX_get_error_depth(store) > 0 || is_for(X509_STORE_CTX_get_current_cert(store), host))
    return true;
  X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
  snprintf(text, CPOOL__CLIENT_TLS_TEXT, "the certificate is for another name than %.80s", host);
  return false;
}
