/* test_url: what a URL names, what is refused and with which words, and the cache under many threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>

#include <cmocka.h>
#include <cpool.h>

#include "base/memory.h"
#include "web/url.h"

enum { THREADS = 4, ROUNDS = 2000, HOSTS = 400 };

struct fixture {
  struct cpool__url_cache cache;
  long blocks;
  long refuse_after; /* allocations until they fail; -1: never */
};

static void *hook(void *context, void *ptr, size_t size)
{
  struct fixture *f = context;
  if (size == 0) {
    f->blocks--;
    free(ptr);
    return NULL;
  }
  if (f->refuse_after == 0)
    return NULL;
  if (f->refuse_after > 0)
    f->refuse_after--;
  f->blocks += ptr == NULL;
  return realloc(ptr, size);
}

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL)
    return -1;
  f->refuse_after = -1;
  cpool__url_cache_init(&f->cache);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct fixture *f = *state;
  cpool__url_cache_fini(&f->cache);
  cpool__memory_hook(NULL, NULL);
  free(f);
  return 0;
}

static void parses(struct fixture *f, const char *text, const char *origin, const char *host, const char *target)
{
  struct cpool__url url;
  assert_int_equal(cpool__url_parse(&f->cache, text, "url", &url), CPOOL_OK);
  assert_string_equal(url.authority->origin, origin);
  assert_string_equal(url.authority->host, host);
  assert_int_equal(url.target_len, strlen(target));
  assert_memory_equal(url.target, target, url.target_len);
  assert_int_equal(url.authority->tls, strncmp(origin, "https", 5) == 0);
  assert_int_equal(url.authority->port, atoi(strrchr(origin, ':') + 1));
  cpool__authority_free(url.owned);
}

static void is_refused(struct fixture *f, const char *text, const char *because)
{
  struct cpool__url url = {.target = "untouched"};
  cpool_error err;
  cpool_error_init(&err);
  assert_int_equal(cpool__url_parse(&f->cache, text, "base_url", &url), CPOOL_EINVAL);
  assert_string_equal(url.target, "untouched");
  assert_int_equal(cpool_last_error(&err), CPOOL_OK);
  assert_int_equal(err.status, CPOOL_EINVAL);
  assert_int_equal(err.layer, CPOOL_LAYER_CALLER);
  assert_ptr_equal(strstr(err.text, "base_url: "), err.text);
  if (strstr(err.text, because) == NULL)
    fail_msg("\"%s\" is refused with \"%s\", not \"%s\"", text, err.text, because);
}

static void a_url_names_an_origin_and_a_target(void **state)
{
  struct fixture *f = *state;
  for (int again = 0; again < 2; again++) { /* the second time from the cache */
    parses(f, "http://example.com", "http://example.com:80", "example.com", "");
    parses(f, "https://example.com/", "https://example.com:443", "example.com", "/");
    parses(f, "HTTPS://EXAMPLE.com:8443/A/%2e%2E/b?c=D", "https://example.com:8443", "example.com", "/A/%2e%2E/b?c=D");
    parses(f, "http://example.com?q=1/2", "http://example.com:80", "example.com", "?q=1/2");
    parses(f, "http://example.com#frag", "http://example.com:80", "example.com", "");
    parses(f, "http://example.com/a?b#c?d/e#f", "http://example.com:80", "example.com", "/a?b");
    parses(f, "http://example.com/user@host:p", "http://example.com:80", "example.com", "/user@host:p");
    parses(f, "http://example.com:/x", "http://example.com:80", "example.com", "/x");
    parses(f, "http://example.com:0081/x", "http://example.com:81", "example.com", "/x");
    parses(f, "http://a_b-c.9:65535//x//", "http://a_b-c.9:65535", "a_b-c.9", "//x//");
    parses(f, "https://xn--bcher-kva.example/", "https://xn--bcher-kva.example:443", "xn--bcher-kva.example", "/");
  }
}

static void a_trailing_dot_is_another_origin(void **state)
{
  parses(*state, "http://example.com./", "http://example.com.:80", "example.com.", "/");
}

static void addresses_are_made_canonical(void **state)
{
  struct fixture *f = *state;
  parses(f, "http://[::1]/", "http://[::1]:80", "::1", "/");
  parses(f, "https://[2001:DB8:0:0:0:0:0:1]:8443/", "https://[2001:db8::1]:8443", "2001:db8::1", "/");
  parses(f, "http://[::ffff:10.0.0.1]/", "http://[::ffff:10.0.0.1]:80", "::ffff:10.0.0.1", "/");
  parses(f, "http://127.0.0.1/", "http://127.0.0.1:80", "127.0.0.1", "/");
  parses(f, "http://127.1/", "http://127.0.0.1:80", "127.0.0.1", "/");
  parses(f, "http://0x7f000001/", "http://127.0.0.1:80", "127.0.0.1", "/");
  parses(f, "http://2130706433/", "http://127.0.0.1:80", "127.0.0.1", "/");
}

static void what_is_no_http_url_is_refused(void **state)
{
  struct fixture *f = *state;
  static const char *const wrong[] = {"",
                                      "example.com",
                                      "//example.com/",
                                      "/path",
                                      "ftp://example.com/",
                                      "file:///etc/passwd",
                                      "http:/example.com/",
                                      "http:example.com",
                                      "httpss://x/",
                                      "http//x",
                                      "gopher://x"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    is_refused(f, wrong[i], "does not begin with http:// or https://");
  is_refused(f, NULL, "NULL");
  is_refused(f, "http://", "there is no host");
  is_refused(f, "http:///path", "there is no host");
  is_refused(f, "https://?q", "there is no host");
}

static void credentials_are_refused_and_never_repeated(void **state)
{
  struct fixture *f = *state;
  static const char *const wrong[] = {"http://sesame@example.com/", "http://u:sesame@example.com/",
                                      "http://@sesame.com/", "http://:sesame@example.com",
                                      "https://sesame%40@example.com?x"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    is_refused(f, wrong[i], "user and password are not allowed in a URL");
    cpool_error err;
    cpool_error_init(&err);
    cpool_last_error(&err);
    assert_null(strstr(err.text, "sesame"));
  }
}

static void bad_hosts_are_refused(void **state)
{
  struct fixture *f = *state;
  static const char *const wrong[] = {"http://:80/",         "http://exa$mple/",  "http://a,b/",    "http://a\\b/",
                                      "http://.a/",          "http://a..b/",      "http://./",      "http://[::1/",
                                      "http://::1/",         "http://[1.2.3.4]/", "http://[v1.a]/", "http://[]/",
                                      "http://[::1]x/",      "http://a;b/",       "http://a*b/",    "http://a'b/",
                                      "http://[fe80::1:zz]/"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    is_refused(f, wrong[i], "");
  is_refused(f, "http://ex%61mple/", "percent-encoding and zone ids");
  is_refused(f, "http://[fe80::1%25eth0]/", "percent-encoding and zone ids");
  is_refused(f,
             "http://b\xc3\xbc"
             "cher.example/",
             "byte 0xc3 at position 8 is not printable ASCII; write it percent-encoded, in a host name as xn--");
}

static void the_longest_host_is_253_bytes(void **state)
{
  struct fixture *f = *state;
  char text[1024] = "http://";
  for (int i = 0; i < 127; i++)
    strcat(text, i % 32 == 31 ? ".b" : "aa");
  size_t len = strlen("http://");
  strcpy(text + len + 253, "/");
  struct cpool__url url;
  assert_int_equal(cpool__url_parse(&f->cache, text, "url", &url), CPOOL_OK);
  assert_int_equal(strlen(url.authority->host), 253);
  cpool__authority_free(url.owned);
  strcpy(text + len + 253, "c/");
  is_refused(f, text, "the host");
  memset(text + len, 'a', 600);
  text[len + 600] = '\0';
  is_refused(f, text, "the host is longer than 253 bytes");
}

static void ports_are_1_to_65535(void **state)
{
  struct fixture *f = *state;
  is_refused(f, "http://a:0/", "the port is 0, not 1..65535");
  static const char *const wrong[] = {"http://a:65536/", "http://a:-1/",  "http://a:99999999999999999999/",
                                      "http://a:8o/",    "http://a:+80/", "http://a:80:80/"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    is_refused(f, wrong[i], "");
}

static void no_byte_that_could_split_a_request_gets_through(void **state)
{
  struct fixture *f = *state;
  char text[64];
  size_t len;
  for (int byte = 1; byte < 256; byte++) {
    bool good = byte > 0x20 && byte < 0x7f;
    snprintf(text, sizeof text, "http://h/a%cb#%c", byte, byte);
    struct cpool__url url = {0};
    assert_int_equal(cpool__url_parse(&f->cache, text, "url", &url), good ? CPOOL_OK : CPOOL_EINVAL);
    cpool__authority_free(url.owned);
    assert_int_equal(cpool__url_target(text + 8, "url", &len), good ? CPOOL_OK : CPOOL_EINVAL);
  }
  is_refused(f, "http://h/a\r\nX: y", "byte 0x0d at position 10");
  is_refused(f, "http://h/#a b", "byte 0x20 at position 11");
}

static void a_url_may_be_64_kib_long(void **state)
{
  struct fixture *f = *state;
  char *text = malloc(CPOOL__URL_MAX_BYTES + 2);
  assert_non_null(text);
  memset(text, 'x', CPOOL__URL_MAX_BYTES + 1);
  memcpy(text, "http://h/", 9);
  text[CPOOL__URL_MAX_BYTES + 1] = '\0';
  is_refused(f, text, "longer than 65536 bytes");
  text[CPOOL__URL_MAX_BYTES] = '\0';
  struct cpool__url url;
  assert_int_equal(cpool__url_parse(&f->cache, text, "url", &url), CPOOL_OK);
  cpool__authority_free(url.owned);
  free(text);
}

static void targets_begin_with_a_slash_or_a_question_mark(void **state)
{
  (void) state;
  size_t len = 0;
  assert_int_equal(cpool__url_target("/a?b#c", "url", &len), CPOOL_OK);
  assert_int_equal(len, 4);
  assert_int_equal(cpool__url_target("?b", "url", &len), CPOOL_OK);
  assert_int_equal(len, 2);
  assert_int_equal(cpool__url_target("", "url", &len), CPOOL_EINVAL);
  assert_int_equal(cpool__url_target("a/b", "url", &len), CPOOL_EINVAL);
  assert_int_equal(cpool__url_target(NULL, "url", &len), CPOOL_EINVAL);
  assert_int_equal(cpool__url_target("/a b", "url", &len), CPOOL_EINVAL);
}

static void a_prefix_is_parsed_once(void **state)
{
  struct fixture *f = *state;
  struct cpool__url first, second;
  assert_int_equal(cpool__url_parse(&f->cache, "http://example.com/a", "url", &first), CPOOL_OK);
  f->blocks = 0;
  f->refuse_after = 0; /* a hit takes no memory */
  cpool__memory_hook(hook, f);
  assert_int_equal(cpool__url_parse(&f->cache, "http://example.com/b", "url", &second), CPOOL_OK);
  cpool__memory_hook(NULL, NULL);
  assert_ptr_equal(first.authority, second.authority);
  assert_null(second.owned);
}

static void what_a_peer_chose_leaves_no_entry(void **state)
{
  struct fixture *f = *state;
  struct cpool__url url, known;
  cpool__memory_hook(hook, f);
  for (int again = 0; again < 2; again++) {
    assert_int_equal(cpool__url_parse_once(&f->cache, "http://example.com/a", "url", &url), CPOOL_OK);
    assert_non_null(url.owned);
    assert_ptr_equal(url.owned, url.authority);
    cpool__authority_free(url.owned);
    assert_int_equal(f->blocks, 0);
  }
  assert_int_equal(cpool__url_parse(&f->cache, "http://example.com/b", "url", &known), CPOOL_OK);
  assert_int_equal(cpool__url_parse_once(&f->cache, "http://example.com/c", "url", &url), CPOOL_OK);
  assert_ptr_equal(url.authority, known.authority); /* but it finds one */
  assert_null(url.owned);
  assert_int_equal(cpool__url_parse_once(&f->cache, "http://a..b/", "url", &url), CPOOL_EINVAL);
}

static void a_full_cache_only_costs_time(void **state)
{
  struct fixture *f = *state;
  int owned = 0;
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 4 * CPOOL__URL_CACHE_SLOTS; i++) {
      char text[64], origin[64];
      snprintf(text, sizeof text, "http://host%d/x", i);
      snprintf(origin, sizeof origin, "http://host%d:80", i);
      struct cpool__url url;
      assert_int_equal(cpool__url_parse(&f->cache, text, "url", &url), CPOOL_OK);
      assert_string_equal(url.authority->origin, origin);
      assert_true(url.owned == NULL || url.owned == url.authority);
      owned += url.owned != NULL;
      cpool__authority_free(url.owned);
    }
  }
  assert_true(owned >= 2 * 3 * CPOOL__URL_CACHE_SLOTS);
}

static void shortage_of_memory_is_told(void **state)
{
  struct fixture *f = *state;
  f->refuse_after = 0;
  cpool__memory_hook(hook, f);
  struct cpool__url url;
  int status = cpool__url_parse(&f->cache, "http://example.com/", "url", &url);
  cpool__memory_hook(NULL, NULL);
  assert_int_equal(status, CPOOL_ENOMEM);
  assert_int_equal(cpool__url_parse(&f->cache, "http://example.com/", "url", &url), CPOOL_OK);
}

struct racer {
  struct cpool__url_cache *cache;
  unsigned seed;
  int wrong;
};

static void *race(void *arg)
{
  struct racer *racer = arg;
  for (int i = 0; i < ROUNDS; i++) {
    racer->seed = racer->seed * 1103515245u + 12345u;
    char text[64], host[32];
    snprintf(host, sizeof host, "host%u", (racer->seed >> 8) % HOSTS);
    snprintf(text, sizeof text, "http://%s/", host);
    struct cpool__url url;
    if (cpool__url_parse(racer->cache, text, "url", &url) != CPOOL_OK || strcmp(url.authority->host, host) != 0)
      racer->wrong++;
    else
      cpool__authority_free(url.owned);
  }
  return NULL;
}

static void threads_may_fill_the_cache_at_once(void **state)
{
  struct fixture *f = *state;
  struct racer racers[THREADS];
  pthread_t threads[THREADS];
  for (unsigned i = 0; i < THREADS; i++) {
    racers[i] = (struct racer){&f->cache, 1 + i / 2, 0}; /* pairs ask for the same hosts at the same time */
    assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(racers[i].wrong, 0);
  }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      CASE(a_url_names_an_origin_and_a_target),
      CASE(a_trailing_dot_is_another_origin),
      CASE(addresses_are_made_canonical),
      CASE(what_is_no_http_url_is_refused),
      CASE(credentials_are_refused_and_never_repeated),
      CASE(bad_hosts_are_refused),
      CASE(the_longest_host_is_253_bytes),
      CASE(ports_are_1_to_65535),
      CASE(no_byte_that_could_split_a_request_gets_through),
      CASE(a_url_may_be_64_kib_long),
      CASE(targets_begin_with_a_slash_or_a_question_mark),
      CASE(a_prefix_is_parsed_once),
      CASE(what_a_peer_chose_leaves_no_entry),
      CASE(a_full_cache_only_costs_time),
      CASE(shortage_of_memory_is_told),
      CASE(threads_may_fill_the_cache_at_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
