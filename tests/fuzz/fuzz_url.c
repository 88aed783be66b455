/* fuzz_url: a URL that gets through has a clean host, a port, and an origin that parses to itself */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cpool.h>

#include "web/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
  if (!holds)
    abort();
}

static void check(struct cpool__url_cache *cache, const char *text, const struct cpool__url *url)
{
  const struct cpool__authority *authority = url->authority;
  must(authority->port != 0);
  must(authority->host[0] != '\0' && strlen(authority->host) <= 253);
  must(strspn(authority->host, "abcdefghijklmnopqrstuvwxyz0123456789._-:") == strlen(authority->host));
  must(url->target >= text && url->target + url->target_len <= text + strlen(text));
  must(memchr(url->target, '#', url->target_len) == NULL);
  must(url->target_len == 0 || url->target[0] == '/' || url->target[0] == '?');
  for (size_t i = 0; i < url->target_len; i++)
    must(url->target[i] > 0x20 && url->target[i] < 0x7f);

  struct cpool__url again;
  must(cpool__url_parse(cache, authority->origin, "origin", &again) == CPOOL_OK);
  must(strcmp(again.authority->origin, authority->origin) == 0);
  must(strcmp(again.authority->host, authority->host) == 0);
  must(again.authority->tls == authority->tls && again.target_len == 0);
  cpool__authority_free(again.owned);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  char *text = malloc(size + 1);
  if (text == NULL)
    return 0;
  if (size > 0)
    memcpy(text, data, size);
  text[size] = '\0';
  struct cpool__url_cache cache;
  cpool__url_cache_init(&cache);
  for (int again = 0; again < 2; again++) { /* the second time from the cache */
    struct cpool__url url;
    int status = cpool__url_parse(&cache, text, "url", &url);
    must(status == CPOOL_OK || status == CPOOL_EINVAL);
    if (status == CPOOL_OK) {
      check(&cache, text, &url);
      cpool__authority_free(url.owned);
    }
    size_t len;
    if (cpool__url_target(text, "url", &len) == CPOOL_OK)
      must(len <= strlen(text));
  }
  cpool__url_cache_fini(&cache);
  free(text);
  return 0;
}
