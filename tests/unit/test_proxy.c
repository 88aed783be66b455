/* proxy: URLs of proxies are read strictly, into one canonical text each */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cpool.h>

#include "http/pool.h"
#include "http/proxy.h"

static int setup(void **state)
{
  cpool_http *pool = NULL;
  int rc = cpool_http_new(&pool, NULL, NULL);
  *state = pool;
  return rc;
}

static int teardown(void **state)
{
  return cpool_http_close(*state, 0);
}

static cpool_session_options with(const char *proxy, const char *user, const char *password)
{
  cpool_session_options options = {.size = sizeof options,
                                   .proxy = proxy,
                                   .proxy_username = user,
                                   .proxy_password = password,
                                   .proxy_from_env = CPOOL_OFF};
  return options;
}

static void a_url_has_one_canonical_text(void **state)
{
  static const char *const rows[][2] = {
      {"http://Proxy.Test", "http://proxy.test:80"},
      {"HTTP://proxy.test/", "http://proxy.test:80"},
      {"http://proxy.test:", "http://proxy.test:80"},
      {"http://proxy.test:3128", "http://proxy.test:3128"},
      {"https://proxy.test", "https://proxy.test:443"},
      {"https://proxy.test:80/", "https://proxy.test:80"},
      {"socks5://proxy.test", "socks5h://proxy.test:1080"},
      {"socks5h://proxy.test:1", "socks5h://proxy.test:1"},
      {"Socks5H://127.1", "socks5h://127.0.0.1:1080"},
      {"http://[::1]", "http://[::1]:80"},
      {"http://[2001:DB8::0:1]:8080", "http://[2001:db8::1]:8080"},
      {"http://10.0.0.1:00080", "http://10.0.0.1:80"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct cpool__proxy_settings settings;
    cpool_session_options options = with(rows[i][0], NULL, NULL);
    assert_int_equal(cpool__proxy_settings_make(&settings, *state, &options), CPOOL_OK);
    assert_string_equal(settings.http_proxy, rows[i][1]);
    assert_string_equal(settings.https_proxy, rows[i][1]);
    assert_null(settings.http_proxy_userpwd);
    assert_null(settings.no_proxy);
    cpool__proxy_settings_fini(&settings);
  }
}

static void credentials_are_encoded_for_libcurl(void **state)
{
  struct cpool__proxy_settings settings;
  cpool_session_options options = with("socks5://proxy.test", "a:b@c/%41\xc3\xa4 -._~", "");
  assert_int_equal(cpool__proxy_settings_make(&settings, *state, &options), CPOOL_OK);
  assert_string_equal(settings.http_proxy_userpwd, "a%3Ab%40c%2F%2541%C3%A4%20-._~:");
  assert_string_equal(settings.https_proxy_userpwd, settings.http_proxy_userpwd);
  cpool__proxy_settings_fini(&settings);
  assert_null(settings.http_proxy);
}

static void nothing_is_made_without_a_proxy(void **state)
{
  struct cpool__proxy_settings settings;
  cpool_session_options options = with(NULL, NULL, NULL);
  setenv("http_proxy", "http://proxy.test", 1);
  assert_int_equal(cpool__proxy_settings_make(&settings, *state, &options), CPOOL_OK);
  assert_null(settings.http_proxy);
  unsetenv("http_proxy");
  setenv("no_proxy", "a.test", 1);
  options.proxy_from_env = 1;
  assert_int_equal(cpool__proxy_settings_make(&settings, *state, &options), CPOOL_OK);
  assert_null(settings.http_proxy);
  assert_null(settings.no_proxy); /* an identity of its own for nothing */
  unsetenv("no_proxy");
}

static void the_options_come_before_the_environment(void **state)
{
  struct cpool__proxy_settings settings;
  cpool_session_options options = with("http://one.test", NULL, NULL);
  options.proxy_from_env = 1;
  setenv("https_proxy", "http://two.test", 1);
  setenv("no_proxy", "from.env", 1);
  assert_int_equal(cpool__proxy_settings_make(&settings, *state, &options), CPOOL_OK);
  assert_string_equal(settings.https_proxy, "http://one.test:80");
  assert_string_equal(settings.no_proxy, "from.env");
  cpool__proxy_settings_fini(&settings);
  options.no_proxy = "own";
  options.proxy = NULL;
  assert_int_equal(cpool__proxy_settings_make(&settings, *state, &options), CPOOL_OK);
  assert_null(settings.http_proxy);
  assert_string_equal(settings.https_proxy, "http://two.test:80");
  assert_string_equal(settings.no_proxy, "own");
  cpool__proxy_settings_fini(&settings);
  unsetenv("https_proxy");
  unsetenv("no_proxy");
}

static void a_canonical_text_is_split_again(void **state)
{
  static const struct {
    const char *url, *host;
    enum cpool__proxy_kind kind;
    uint16_t port;
  } rows[] = {{"http://proxy.test:80", "proxy.test", CPOOL__PROXY_HTTP, 80},
              {"https://10.0.0.1:65535", "10.0.0.1", CPOOL__PROXY_HTTPS, 65535},
              {"socks5h://[2001:db8::1]:1080", "2001:db8::1", CPOOL__PROXY_SOCKS5, 1080}};
  (void) state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char host[CPOOL__PROXY_HOST_BYTES];
    uint16_t port;
    assert_int_equal(cpool__proxy_split(rows[i].url, host, &port), rows[i].kind);
    assert_string_equal(host, rows[i].host);
    assert_int_equal(port, rows[i].port);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_url_has_one_canonical_text),    cmocka_unit_test(credentials_are_encoded_for_libcurl),
      cmocka_unit_test(nothing_is_made_without_a_proxy), cmocka_unit_test(the_options_come_before_the_environment),
      cmocka_unit_test(a_canonical_text_is_split_again),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
