/* fuzz_proxy: a proxy that gets through, by option or by variable, has one canonical text that reads as itself, and credentials that
 * cannot be taken for anything else; a list of exceptions that gets through can be matched
 *
 * Input: lines for URL, user, password, exceptions. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cpool.h>

#include "http/no_proxy.h"
#include "http/pool.h"
#include "http/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
  if (!holds)
    abort();
}

static char *next_line(char **at)
{
  char *line = *at, *end = line == NULL ? NULL : strchr(line, '\n');
  if (end != NULL)
    *end = '\0';
  *at = end == NULL ? NULL : end + 1;
  return line;
}

static void check(cpool_http *pool, const struct cpool__proxy_settings *settings)
{
  char host[CPOOL__PROXY_HOST_BYTES];
  uint16_t port;
  must(settings->http_proxy != NULL);
  enum cpool__proxy_kind kind = cpool__proxy_split(settings->http_proxy, host, &port);
  must(kind != CPOOL__PROXY_NONE && port != 0 && host[0] != '\0');
  must(strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789._-:") == strlen(host));
  if (settings->http_proxy_userpwd != NULL) {
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%:";
    const char *userpwd = settings->http_proxy_userpwd, *colon = strchr(userpwd, ':');
    must(strspn(userpwd, safe) == strlen(userpwd));
    must(colon != NULL && strchr(colon + 1, ':') == NULL);
  }
  if (settings->no_proxy != NULL) {
    static const char *const hosts[] = {"a.test", "localhost", "127.0.0.1", "2001:db8::1", "."};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
      (void) cpool__no_proxy_match(settings->no_proxy, &(struct cpool__authority){.host = hosts[i], .port = 80});
  }
  struct cpool__proxy_settings again;
  cpool_session_options options = {.size = sizeof options, .proxy = settings->http_proxy};
  must(cpool__proxy_settings_make(&again, pool, &options) == CPOOL_OK);
  must(strcmp(again.http_proxy, settings->http_proxy) == 0);
  cpool__proxy_settings_fini(&again);
}

static void try(cpool_http *pool, const cpool_session_options *options, bool complete)
{
  struct cpool__proxy_settings settings;
  int status = cpool__proxy_settings_make(&settings, pool, options);
  must(status == CPOOL_OK || status == CPOOL_EINVAL);
  if (status != CPOOL_OK)
    return;
  if (complete || settings.http_proxy != NULL)
    check(pool, &settings);
  cpool__proxy_settings_fini(&settings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static cpool_http pool; /* of which only the cache of URLs is used */
  char *text = malloc(size + 1), *at = text;
  if (text == NULL)
    return 0;
  if (size > 0)
    memcpy(text, data, size);
  text[size] = '\0';
  cpool__url_cache_init(&pool.urls);
  cpool_session_options options = {.size = sizeof options};
  options.proxy = next_line(&at);
  options.proxy_username = next_line(&at);
  options.proxy_password = next_line(&at);
  options.no_proxy = next_line(&at);
  try(&pool, &options, true);
  setenv("http_proxy", options.proxy, 1);
  setenv("no_proxy", options.no_proxy != NULL ? options.no_proxy : "", 1);
  options = (cpool_session_options){.size = sizeof options, .proxy_from_env = 1};
  try(&pool, &options, false);
  cpool__url_cache_fini(&pool.urls);
  free(text);
  return 0;
}
