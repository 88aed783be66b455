/* url: the prefix scheme://authority is cut off by hand, read once by libcurl, and found again by its bytes
 *
 * What is refused before libcurl sees the prefix: '@' (credentials), '%' (encoded hosts, zone ids), and whatever
 * libcurl would forgive ("http:/host", a missing scheme). What libcurl returns is checked again: only a name or an
 * address gets through, so that the name looked up, the name verified by TLS and the name shown are the same bytes.
 * "127.1", "0x7f000001" and the like leave libcurl as dotted quads and meet the address policy as such. A trailing
 * dot is kept: "example.com." is another origin than "example.com", as it is another name to a resolver. */
#include "web/url.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <curl/curl.h>
#include <cpool.h>

#include "base/memory.h"
#include "base/table.h"
#include "core/error.h"

/* PREFIX_BYTES: "https://", the longest host in brackets and a port, with room for leading zeros. */
enum { PROBES = 8, HOST_BYTES = 253, PREFIX_BYTES = 320 };

static int refuse(const char *what, const char *text)
{
  return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: %s", what, text);
}

/* Length up to the end or the fragment, when all bytes are printable ASCII, those of the fragment too. */
static int check_bytes(const char *text, const char *what, size_t *len)
{
  size_t at = 0, end = SIZE_MAX;
  for (; text[at] != '\0'; at++) {
    unsigned char byte = (unsigned char) text[at];
    if (byte <= 0x20 || byte >= 0x7f)
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: byte 0x%02x at position %zu is not printable ASCII%s",
                           what, byte, at, byte >= 0x80 ? "; write it percent-encoded, in a host name as xn--" : "");
    if (at >= CPOOL__URL_MAX_BYTES)
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: longer than %d bytes", what, CPOOL__URL_MAX_BYTES);
    if (byte == '#' && end == SIZE_MAX)
      end = at;
  }
  *len = end == SIZE_MAX ? at : end;
  return CPOOL_OK;
}

static char lower(char byte)
{
  return byte >= 'A' && byte <= 'Z' ? (char) (byte - 'A' + 'a') : byte;
}

/* Without and with TLS. */
struct schemes {
  const char *names[2];
};

static const struct schemes http_schemes = {{"http://", "https://"}}, ws_schemes = {{"ws://", "wss://"}};

/* Length of one of them at the start, and which it is; else 0. */
static size_t scheme_len(const struct schemes *schemes, const char *text, size_t *which)
{
  for (*which = 0; *which < 2; ++*which) {
    const char *scheme = schemes->names[*which];
    size_t at = 0;
    while (scheme[at] != '\0' && lower(text[at]) == scheme[at])
      at++;
    if (scheme[at] == '\0')
      return at;
  }
  return 0;
}

static bool name_valid(const char *host)
{
  size_t len = strlen(host), label = 0;
  for (size_t at = 0; at < len; at++) {
    char byte = lower(host[at]);
    if (byte == '.' && label == 0)
      return false;
    label = byte == '.' ? 0 : label + 1;
    if (!(byte == '.' || byte == '-' || byte == '_' || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9')))
      return false;
  }
  return len > 0 && len <= HOST_BYTES;
}

/* Lower-case name, or the canonical text of an IPv6 address without brackets. */
static bool host_copy(char out[HOST_BYTES + 1], const char *host, bool *v6)
{
  size_t len = strlen(host);
  *v6 = host[0] == '[';
  if (*v6) {
    char literal[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (len < 2 || len - 2 >= sizeof literal || host[len - 1] != ']')
      return false;
    memcpy(literal, host + 1, len - 2);
    literal[len - 2] = '\0';
    return inet_pton(AF_INET6, literal, &address) == 1 && inet_ntop(AF_INET6, &address, out, HOST_BYTES + 1) != NULL;
  }
  if (!name_valid(host))
    return false;
  for (size_t at = 0; at <= len; at++)
    out[at] = lower(host[at]);
  return true;
}

static int authority_new(struct cpool__authority **out, const char *prefix, bool tls, const char *host, bool v6,
                         uint16_t port, uint64_t hash)
{
  char origin[HOST_BYTES + 32];
  int origin_len = snprintf(origin, sizeof origin, "%s://%s%s%s:%u", tls ? "https" : "http", v6 ? "[" : "", host,
                            v6 ? "]" : "", (unsigned) port);
  assert(origin_len > 0 && (size_t) origin_len < sizeof origin);
  size_t host_size = strlen(host) + 1, origin_size = (size_t) origin_len + 1, prefix_size = strlen(prefix) + 1;
  struct cpool__authority *authority = cpool__malloc(sizeof *authority + host_size + origin_size + prefix_size);
  if (authority == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a URL");
  char *texts = (char *) (authority + 1);
  *authority = (struct cpool__authority){.tls = tls,
                                         .port = port,
                                         .host = texts,
                                         .origin = texts + host_size,
                                         .prefix = texts + host_size + origin_size,
                                         .prefix_len = prefix_size - 1,
                                         .hash = hash};
  memcpy(texts, host, host_size);
  memcpy(texts + host_size, origin, origin_size);
  memcpy(texts + host_size + origin_size, prefix, prefix_size);
  *out = authority;
  return CPOOL_OK;
}

/* The slow way: libcurl reads scheme, host and port. `prefix` holds neither '@' nor '%' and begins with a known
 * scheme. */
static int authority_parse(struct cpool__authority **out, const char *prefix, const char *what, uint64_t hash)
{
  char *scheme = NULL, *host = NULL, *port_text = NULL;
  char own_host[HOST_BYTES + 1];
  bool v6 = false;
  int status;
  CURLU *url = curl_url();
  CURLUcode code = url == NULL ? CURLUE_OUT_OF_MEMORY : curl_url_set(url, CURLUPART_URL, prefix, CURLU_DISALLOW_USER);
  if (code == CURLUE_OK)
    code = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);
  if (code == CURLUE_OK)
    code = curl_url_get(url, CURLUPART_HOST, &host, 0);
  if (code == CURLUE_OK)
    code = curl_url_get(url, CURLUPART_PORT, &port_text, CURLU_DEFAULT_PORT);
  if (code == CURLUE_OUT_OF_MEMORY) {
    status = cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a URL");
    goto done;
  }
  if (code != CURLUE_OK) {
    status = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: \"%.160s\" cannot be used: %s", what, prefix,
                           curl_url_strerror(code));
    goto done;
  }
  long port = strtol(port_text, NULL, 10);
  if (port < 1 || port > UINT16_MAX) {
    status = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: the port is %.8s, not 1..65535", what, port_text);
    goto done;
  }
  if (!host_copy(own_host, host, &v6)) {
    status = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                           "%s: the host \"%.160s\" is no IP address and no name of letters, digits, '-', '_' and '.'",
                           what, host);
    goto done;
  }
  status = authority_new(out, prefix, strcmp(scheme, "https") == 0, own_host, v6, (uint16_t) port, hash);

done:
  curl_free(port_text);
  curl_free(host);
  curl_free(scheme);
  curl_url_cleanup(url);
  return status;
}

static bool is_prefix(const struct cpool__authority *authority, const char *prefix, size_t len, uint64_t hash)
{
  return authority->hash == hash && authority->prefix_len == len && memcmp(authority->prefix, prefix, len) == 0;
}

/* The published entry, or NULL. */
static struct cpool__authority *cache_find(struct cpool__url_cache *cache, const char *prefix, size_t len,
                                           uint64_t hash)
{
  for (uint64_t probe = 0; probe < PROBES; probe++) {
    struct cpool__authority *found =
        atomic_load_explicit(&cache->slots[(hash + probe) % CPOOL__URL_CACHE_SLOTS], memory_order_acquire);
    if (found == NULL)
      return NULL; /* slots fill in the order of the probes and never empty */
    if (is_prefix(found, prefix, len, hash))
      return found;
  }
  return NULL;
}

/* The entry that stands in the cache for these bytes: `authority`, one that was faster, or NULL when no slot is
 * free. */
static struct cpool__authority *cache_publish(struct cpool__url_cache *cache, struct cpool__authority *authority)
{
  for (uint64_t probe = 0; probe < PROBES; probe++) {
    struct cpool__authority *found = NULL;
    if (atomic_compare_exchange_strong_explicit(&cache->slots[(authority->hash + probe) % CPOOL__URL_CACHE_SLOTS],
                                                &found, authority, memory_order_release, memory_order_acquire))
      return authority;
    if (is_prefix(found, authority->prefix, authority->prefix_len, authority->hash))
      return found;
  }
  return NULL;
}

void cpool__url_cache_init(struct cpool__url_cache *cache)
{
  struct cpool__table table; /* draws the secret key */
  cpool__table_init(&table, NULL);
  *cache = (struct cpool__url_cache){.key = {table.key[0], table.key[1]}};
  cpool__table_fini(&table);
}

void cpool__url_cache_fini(struct cpool__url_cache *cache)
{
  for (size_t i = 0; i < CPOOL__URL_CACHE_SLOTS; i++)
    cpool__authority_free(atomic_exchange_explicit(&cache->slots[i], NULL, memory_order_relaxed));
}

void cpool__authority_free(struct cpool__authority *authority)
{
  cpool__free(authority);
}

static int parse(struct cpool__url_cache *cache, const struct schemes *schemes, const char *text, const char *what,
                 bool publish, struct cpool__url *out)
{
  if (text == NULL)
    return refuse(what, "NULL");
  size_t len, which;
  int status = check_bytes(text, what, &len);
  if (status != CPOOL_OK)
    return status;
  size_t scheme = scheme_len(schemes, text, &which);
  if (scheme == 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: does not begin with %s or %s", what, schemes->names[0],
                         schemes->names[1]);
  size_t prefix_len = scheme + strcspn(text + scheme, "/?#");
  if (memchr(text + scheme, '@', prefix_len - scheme) != NULL)
    return refuse(what, "user and password are not allowed in a URL");
  if (memchr(text + scheme, '%', prefix_len - scheme) != NULL)
    return refuse(what, "percent-encoding and zone ids are not allowed in the host");
  if (prefix_len == scheme)
    return refuse(what, "there is no host");
  if (prefix_len > PREFIX_BYTES)
    return refuse(what, "the host is longer than 253 bytes");

  uint64_t hash = cache != NULL ? cpool__siphash(cache->key, text, prefix_len) : 0;
  struct cpool__authority *authority = cache != NULL ? cache_find(cache, text, prefix_len, hash) : NULL, *owned = NULL;
  if (authority == NULL) {
    bool ws = schemes == &ws_schemes; /* libcurl knows none; a cached text is its own key, and stays as it is */
    size_t cut = ws ? scheme : 0;
    char prefix[PREFIX_BYTES + 16];
    snprintf(prefix, sizeof prefix, "%s%.*s", ws ? http_schemes.names[which] : "", (int) (prefix_len - cut),
             text + cut);
    status = authority_parse(&owned, prefix, what, hash);
    if (status != CPOOL_OK)
      return status;
    authority = publish ? cache_publish(cache, owned) : NULL;
    if (authority != NULL && authority != owned)
      cpool__authority_free(owned);
    if (authority != NULL)
      owned = NULL;
    else
      authority = owned;
  }
  *out = (struct cpool__url){.authority = authority,
                             .owned = owned,
                             .target = text + prefix_len,
                             .target_len = len - prefix_len};
  return CPOOL_OK;
}

int cpool__url_parse(struct cpool__url_cache *cache, const char *text, const char *what, struct cpool__url *out)
{
  return parse(cache, &http_schemes, text, what, true, out);
}

int cpool__url_parse_once(struct cpool__url_cache *cache, const char *text, const char *what, struct cpool__url *out)
{
  return parse(cache, &http_schemes, text, what, false, out);
}

int cpool__url_parse_ws(const char *text, const char *what, struct cpool__url *out)
{
  return parse(NULL, &ws_schemes, text, what, false, out);
}

int cpool__url_target(const char *text, const char *what, size_t *len)
{
  if (text == NULL)
    return refuse(what, "NULL");
  if (text[0] != '/' && text[0] != '?')
    return refuse(what, "begins neither with http:// or https:// nor, after a base URL, with '/' or '?'");
  return check_bytes(text, what, len);
}
