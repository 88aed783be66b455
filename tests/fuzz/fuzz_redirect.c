/* fuzz_redirect: whatever a peer writes into Location, what comes of it is a clean URL of http or https. The input is
 * the base's path, a NUL, and the Location. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <cpool.h>

#include "http/redirect.h"
#include "web/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
  if (!holds)
    abort();
}

static char *text_of(const char *prefix, const uint8_t *data, size_t size)
{
  char *text = malloc(strlen(prefix) + size + 1);
  if (text == NULL)
    abort();
  strcpy(text, prefix);
  if (size > 0)
    memcpy(text + strlen(prefix), data, size);
  text[strlen(prefix) + size] = '\0';
  return text;
}

/* A base is always a URL that got through before. */
static bool clean(const char *url)
{
  for (; *url != '\0'; url++) {
    if ((unsigned char) *url <= 0x20 || (unsigned char) *url >= 0x7f)
      return false;
  }
  return true;
}

static void check(struct cpool__url_cache *cache, const char *base, const char *location)
{
  char out[CPOOL__REDIRECT_URL_BYTES + 1], again[CPOOL__REDIRECT_URL_BYTES + 1];
  const char *why = cpool__redirect_resolve(out, base, location);
  if (why != NULL) {
    must(why[0] != '\0');
    return;
  }
  must(strlen(out) <= CPOOL__REDIRECT_URL_BYTES && clean(out));
  must(strncasecmp(out, "http://", 7) == 0 || strncasecmp(out, "https://", 8) == 0);
  must(strncasecmp(base, "https://", 8) != 0 || strncasecmp(out, "https://", 8) == 0);
  const char *path = strchr(out, ':') + 3;
  path += strcspn(path, "/?#");
  must(*path == '/');             /* there is always a path */
  if (strstr(base, "/.") != NULL) /* a caller's dots stay where a Location has no path */
    return;
  why = cpool__redirect_resolve(again, base, out);
  must(why == NULL && strncmp(again, out, strcspn(out, "?#")) == 0); /* it is absolute, and has no dots left */
  struct cpool__url url;
  int rc = cpool__url_parse_once(cache, out, "Location", &url);
  must(rc == CPOOL_OK || rc == CPOOL_EINVAL);
  if (rc == CPOOL_OK) {
    must(url.target_len > 0 && url.target[0] == '/');
    must(memchr(url.authority->prefix, '@', url.authority->prefix_len) == NULL);
    cpool__authority_free(url.owned);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const uint8_t *split = size > 0 ? memchr(data, '\0', size) : NULL;
  size_t base_size = split != NULL ? (size_t) (split - data) : 0, at = split != NULL ? base_size + 1 : 0;
  char *location = text_of("", data + at, size - at);
  struct cpool__url_cache cache;
  cpool__url_cache_init(&cache);
  for (int tls = 0; tls < 2; tls++) {
    char *base = text_of(tls ? "https://a.test/" : "http://a.test:8080/", data, base_size);
    if (clean(base))
      check(&cache, base, location);
    free(base);
  }
  cpool__url_cache_fini(&cache);
  free(location);
  return 0;
}
