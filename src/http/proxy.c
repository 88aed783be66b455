/* proxy: which proxy a session's requests go through
 *
 * A URL is cut by hand: scheme, credentials (in the environment alone), authority, an empty path. The authority is read
 * as that of an http URL (http/url), so that its host is a name or an address and nothing else. No text is ever quoted in
 * an error: a password with a '/' in it would make any part of it look like a host. */
#include "http/proxy.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "core/error.h"
#include "http/no_proxy.h"
#include "http/pool.h"

enum { SOCKS_CREDENTIAL_BYTES = 255 /* RFC 1929 section 2 */ };

static const struct scheme {
  const char *prefix, *canonical;
  enum cpool__proxy_kind kind;
  uint16_t port;
} schemes[] = {
    {"http://", "http", CPOOL__PROXY_HTTP, 80},
    {"https://", "https", CPOOL__PROXY_HTTPS, 443},
    {"socks5h://", "socks5h", CPOOL__PROXY_SOCKS5, 1080},
    {"socks5://", "socks5h", CPOOL__PROXY_SOCKS5, 1080}, /* names are the proxy's to resolve all the same */
};

static int refuse(const char *what, const char *text)
{
  return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: %s", what, text);
}

static int no_memory(void)
{
  return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a session's proxy");
}

static const struct scheme *scheme_of(const char *text)
{
  for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
    if (strncasecmp(text, schemes[i].prefix, strlen(schemes[i].prefix)) == 0)
      return &schemes[i];
  return NULL;
}

/* ---- credentials */

static bool has_control_bytes(const char *text)
{
  for (; *text != '\0'; text++)
    if ((unsigned char) *text < 0x20 || *text == 0x7f)
      return true;
  return false;
}

static int check_credential(const char *text, const char *what, enum cpool__proxy_kind kind)
{
  size_t most = kind == CPOOL__PROXY_SOCKS5 ? SOCKS_CREDENTIAL_BYTES : CPOOL__PROXY_CREDENTIAL_BYTES;
  if (strlen(text) > most)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: longer than %zu bytes", what, most);
  if (has_control_bytes(text))
    return refuse(what, "control bytes are not allowed in it");
  return CPOOL_OK;
}

static char *put_encoded(char *at, const char *text)
{
  static const char digits[] = "0123456789ABCDEF";
  static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  for (; *text != '\0'; text++) {
    unsigned char byte = (unsigned char) *text;
    if (strchr(plain, byte) != NULL) {
      *at++ = *text;
    } else {
      *at++ = '%';
      *at++ = digits[byte >> 4];
      *at++ = digits[byte & 15];
    }
  }
  return at;
}

/* libcurl splits at the first ':' and decodes both halves. NULL: out of memory. */
static char *encode(const char *user, const char *password)
{
  char *userpwd = cpool__malloc(3 * (strlen(user) + strlen(password)) + 2);
  if (userpwd == NULL)
    return NULL;
  char *at = put_encoded(userpwd, user);
  *at++ = ':';
  at = put_encoded(at, password);
  *at = '\0';
  return userpwd;
}

static int hex_digit(char byte)
{
  return byte >= '0' && byte <= '9'                     ? byte - '0'
         : (byte | 0x20) >= 'a' && (byte | 0x20) <= 'f' ? (byte | 0x20) - 'a' + 10
                                                        : -1;
}

/* Percent-decodes `len` bytes. False: too long, malformed, or a NUL. */
static bool decode(char out[CPOOL__PROXY_CREDENTIAL_BYTES + 1], const char *text, size_t len)
{
  size_t to = 0;
  for (size_t at = 0; at < len; at++, to++) {
    if (to == CPOOL__PROXY_CREDENTIAL_BYTES)
      return false;
    out[to] = text[at];
    if (text[at] != '%')
      continue;
    int high = at + 2 < len ? hex_digit(text[at + 1]) : -1, low = high < 0 ? -1 : hex_digit(text[at + 2]);
    if (low < 0 || (high == 0 && low == 0))
      return false;
    out[to] = (char) (high << 4 | low);
    at += 2;
  }
  out[to] = '\0';
  return true;
}

/* "user" or "user:password", percent-encoded, as it stands in a variable. */
static int read_userinfo(char **out, const char *text, size_t len, const char *what, enum cpool__proxy_kind kind)
{
  char user[CPOOL__PROXY_CREDENTIAL_BYTES + 1], password[CPOOL__PROXY_CREDENTIAL_BYTES + 1] = "";
  const char *colon = memchr(text, ':', len);
  size_t user_len = colon != NULL ? (size_t) (colon - text) : len;
  int status = CPOOL_OK;
  if (!decode(user, text, user_len) || (colon != NULL && !decode(password, colon + 1, len - user_len - 1)))
    status = refuse(what, "its user or password is too long or not percent-encoded as it should be");
  if (status == CPOOL_OK && kind != CPOOL__PROXY_SOCKS5 && strchr(user, ':') != NULL)
    status = refuse(what, "':' is not allowed in its user");
  if (status == CPOOL_OK)
    status = check_credential(user, what, kind);
  if (status == CPOOL_OK)
    status = check_credential(password, what, kind);
  if (status == CPOOL_OK) {
    *out = encode(user, password);
    status = *out == NULL ? no_memory() : CPOOL_OK;
  }
  explicit_bzero(user, sizeof user);
  explicit_bzero(password, sizeof password);
  return status;
}

/* ---- one proxy */

/* "host", "host:port", "[v6]", "[v6]:port". */
static int read_authority(char **out, cpool_http *pool, const char *text, size_t len, const char *what,
                          const struct scheme *scheme)
{
  char http[CPOOL__PROXY_URL_BYTES], canonical[CPOOL__PROXY_URL_BYTES], port[8] = "";
  struct cpool__url url = {0};
  const char *bracket = memchr(text, ']', len);
  const char *rest = bracket != NULL ? bracket + 1 : text;
  const char *colon = memchr(rest, ':', len - (size_t) (rest - text));
  if (colon == NULL || colon + 1 == text + len) {
    len -= colon != NULL;
    snprintf(port, sizeof port, ":%u", (unsigned) scheme->port);
  }
  if (len == 0 || len > sizeof http - 32)
    return refuse(what, len == 0 ? "there is no host" : "the host is too long");
  snprintf(http, sizeof http, "http://%.*s%s", (int) len, text, port);
  int status = cpool__url_parse(&pool->urls, http, what, &url);
  if (status == CPOOL_EINVAL) /* which has quoted it */
    return refuse(what, "its host or port cannot be used");
  if (status != CPOOL_OK)
    return status;
  snprintf(canonical, sizeof canonical, "%s%s", scheme->canonical, url.authority->origin + strlen("http"));
  cpool__authority_free(url.owned);
  *out = cpool__strdup(canonical);
  return *out == NULL ? no_memory() : CPOOL_OK;
}

struct one {
  char *url, *userpwd;
  enum cpool__proxy_kind kind;
};

static void one_fini(struct one *one)
{
  if (one->userpwd != NULL)
    explicit_bzero(one->userpwd, strlen(one->userpwd));
  cpool__free(one->userpwd);
  cpool__free(one->url);
  *one = (struct one){NULL, NULL, CPOOL__PROXY_NONE};
}

/* In a variable the scheme may be missing (http), and credentials may stand in it. */
static int read_proxy(struct one *out, cpool_http *pool, const char *text, const char *what, bool variable)
{
  const struct scheme *scheme = scheme_of(text);
  if (scheme == NULL && (!variable || strstr(text, "://") != NULL))
    return refuse(what, "does not begin with http://, https://, socks5:// or socks5h://");
  const char *authority = scheme != NULL ? text + strlen(scheme->prefix) : text;
  if (scheme == NULL)
    scheme = &schemes[0];
  const char *at_sign = strrchr(authority, '@');
  if (at_sign != NULL && !variable)
    return refuse(what, "user and password are not allowed in it; use proxy_username and proxy_password");
  if (at_sign != NULL && strcspn(authority, "/?#") < (size_t) (at_sign - authority))
    return refuse(what, "'/', '?' and '#' are percent-encoded in its user and password");
  const char *host = at_sign != NULL ? at_sign + 1 : authority;
  size_t len = strcspn(host, "/?#");
  if (host[len] != '\0' && strcmp(host + len, "/") != 0)
    return refuse(what, "a path, query or fragment is not allowed in it");
  out->kind = scheme->kind;
  int status = read_authority(&out->url, pool, host, len, what, scheme);
  if (status == CPOOL_OK && at_sign != NULL)
    status = read_userinfo(&out->userpwd, authority, (size_t) (at_sign - authority), what, scheme->kind);
  if (status != CPOOL_OK)
    one_fini(out);
  return status;
}

/* ---- options and environment */

#define OPTION "session option "

static int check_options(const cpool_session_options *own)
{
  bool from_env = own->proxy_from_env == 1;
  if (own->proxy != NULL && own->unix_socket_path != NULL)
    return refuse(OPTION "proxy", "not together with unix_socket_path");
  if (from_env && own->unix_socket_path != NULL)
    return refuse(OPTION "proxy_from_env", "not together with unix_socket_path");
  if (own->proxy_username != NULL && own->proxy == NULL)
    return refuse(OPTION "proxy_username", "not without proxy");
  if (own->proxy_password != NULL && own->proxy_username == NULL)
    return refuse(OPTION "proxy_password", "not without proxy_username");
  if (own->no_proxy != NULL && own->proxy == NULL && !from_env)
    return refuse(OPTION "no_proxy", "not without proxy or proxy_from_env");
  return CPOOL_OK;
}

static int read_options(struct one *one, cpool_http *pool, const cpool_session_options *own)
{
  int status = read_proxy(one, pool, own->proxy, OPTION "proxy", false);
  if (status != CPOOL_OK || own->proxy_username == NULL)
    return status;
  const char *password = own->proxy_password != NULL ? own->proxy_password : "";
  if (own->proxy_username[0] == '\0')
    status = refuse(OPTION "proxy_username", "an empty name");
  else if (one->kind != CPOOL__PROXY_SOCKS5 && strchr(own->proxy_username, ':') != NULL)
    status = refuse(OPTION "proxy_username", "':' is not allowed in it");
  if (status == CPOOL_OK)
    status = check_credential(own->proxy_username, OPTION "proxy_username", one->kind);
  if (status == CPOOL_OK)
    status = check_credential(password, OPTION "proxy_password", one->kind);
  if (status == CPOOL_OK && (one->userpwd = encode(own->proxy_username, password)) == NULL)
    status = no_memory();
  return status;
}

/* The first of the variables that is set and not empty, and its name. */
static const char *variable(const char *const *names, char what[64])
{
  for (; *names != NULL; names++) {
    const char *value = getenv(*names);
    if (value != NULL && value[0] != '\0') {
      snprintf(what, 64, "environment variable %s", *names);
      return value;
    }
  }
  return NULL;
}

/* HTTP_PROXY is left out on purpose: a web server hands the header "Proxy" of a request to its CGI programs under that
 * name. */
static const char *const http_names[] = {"http_proxy", "all_proxy", "ALL_PROXY", NULL},
                         *const https_names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL},
                         *const no_names[] = {"no_proxy", "NO_PROXY", NULL};

static int read_variable(struct one *one, cpool_http *pool, const char *const *names)
{
  char what[64];
  const char *value = variable(names, what);
  return value != NULL ? read_proxy(one, pool, value, what, true) : CPOOL_OK;
}

static int read_no_proxy(char **out, const cpool_session_options *own)
{
  char what[64] = OPTION "no_proxy";
  const char *list = own->no_proxy;
  if (list == NULL && own->proxy_from_env == 1)
    list = variable(no_names, what);
  if (list == NULL)
    return CPOOL_OK;
  int status = cpool__no_proxy_check(list, what);
  if (status == CPOOL_OK && (*out = cpool__strdup(list)) == NULL)
    status = no_memory();
  return status;
}

int cpool__proxy_settings_make(struct cpool__proxy_settings *out, cpool_http *pool, const cpool_session_options *own)
{
  struct one http = {0}, https = {0};
  *out = (struct cpool__proxy_settings){0};
  int status = check_options(own);
  if (status != CPOOL_OK || (own->proxy == NULL && own->proxy_from_env != 1))
    return status;
  if (own->proxy != NULL) {
    status = read_options(&http, pool, own);
    if (status == CPOOL_OK)
      status = read_options(&https, pool, own);
  } else {
    status = read_variable(&http, pool, http_names);
    if (status == CPOOL_OK)
      status = read_variable(&https, pool, https_names);
  }
  char *no_proxy = NULL;
  if (status == CPOOL_OK)
    status = read_no_proxy(&no_proxy, own);
  if (status != CPOOL_OK) {
    one_fini(&http);
    one_fini(&https);
    return status;
  }
  *out = (struct cpool__proxy_settings){http.url, https.url, http.userpwd, https.userpwd, no_proxy};
  if (http.url == NULL && https.url == NULL) /* no exceptions from nothing */
    cpool__proxy_settings_fini(out);
  return CPOOL_OK;
}

void cpool__proxy_settings_fini(struct cpool__proxy_settings *settings)
{
  struct one http = {settings->http_proxy, settings->http_proxy_userpwd, CPOOL__PROXY_NONE},
             https = {settings->https_proxy, settings->https_proxy_userpwd, CPOOL__PROXY_NONE};
  one_fini(&http);
  one_fini(&https);
  cpool__free(settings->no_proxy);
  *settings = (struct cpool__proxy_settings){0};
}

/* ---- use */

const char *cpool__proxy_for(const struct cpool__identity *identity, const struct cpool__authority *target)
{
  const char *url = target->tls ? identity->https_proxy : identity->http_proxy;
  if (url == NULL || (identity->no_proxy != NULL && cpool__no_proxy_match(identity->no_proxy, target)))
    return NULL;
  return url;
}

enum cpool__proxy_kind cpool__proxy_split(const char *url, char host[CPOOL__PROXY_HOST_BYTES], uint16_t *port)
{
  const struct scheme *scheme = scheme_of(url);
  const char *from = url + strlen(scheme->prefix), *colon = strrchr(from, ':');
  size_t len = (size_t) (colon - from);
  if (from[0] == '[') {
    from++;
    len -= 2;
  }
  memcpy(host, from, len);
  host[len] = '\0';
  *port = (uint16_t) strtoul(colon + 1, NULL, 10);
  return scheme->kind;
}
