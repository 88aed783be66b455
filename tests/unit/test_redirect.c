/* test_redirect: where a Location leads, as which method, and which headers may go there */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/redirect.h"

static void five_codes_are_followed(void **state)
{
  (void) state;
  int count = 0;
  for (int code = 0; code < 1000; code++)
    count += cpool__redirect_code(code);
  assert_int_equal(count, 5);
  assert_true(cpool__redirect_code(301) && cpool__redirect_code(302) && cpool__redirect_code(303) &&
              cpool__redirect_code(307) && cpool__redirect_code(308));
}

static void methods_are_compared_as_they_are_written(void **state)
{
  static const struct {
    int code;
    const char *method;
    bool get;
  } cases[] = {{301, "POST", true},  {302, "POST", true}, {301, "post", false}, {301, "PUT", false},
               {302, "GET", false},  {303, "POST", true}, {303, "PUT", true},   {303, "GET", true},
               {303, "HEAD", false}, {303, "post", true}, {307, "POST", false}, {308, "POST", false}};
  (void) state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    assert_int_equal(cpool__redirect_becomes_get(cases[i].code, cases[i].method), cases[i].get);
}

static void leads(const char *base, const char *location, const char *wanted)
{
  char out[CPOOL__REDIRECT_URL_BYTES + 1];
  const char *why = cpool__redirect_resolve(out, base, location);
  if (why != NULL)
    fail_msg("%s: %s", location, why);
  assert_string_equal(out, wanted);
}

static void is_refused(const char *base, const char *location, const char *reason)
{
  char out[CPOOL__REDIRECT_URL_BYTES + 1];
  const char *why = cpool__redirect_resolve(out, base, location);
  if (why == NULL)
    fail_msg("%s leads to %s", location, out);
  if (strstr(why, reason) == NULL)
    fail_msg("%s: %s", location, why);
}

static void the_examples_of_rfc_3986_hold(void **state)
{
  /* sections 5.4.1 and 5.4.2, those that name no other scheme; what is strict there is strict here */
  static const char *const cases[][2] = {
      {"g", "/b/c/g"},
      {"./g", "/b/c/g"},
      {"g/", "/b/c/g/"},
      {"/g", "/g"},
      {"?y", "/b/c/d;p?y"},
      {"g?y", "/b/c/g?y"},
      {"#s", "/b/c/d;p?q#s"},
      {"g#s", "/b/c/g#s"},
      {"g?y#s", "/b/c/g?y#s"},
      {";x", "/b/c/;x"},
      {"g;x", "/b/c/g;x"},
      {"g;x?y#s", "/b/c/g;x?y#s"},
      {"", "/b/c/d;p?q"},
      {".", "/b/c/"},
      {"./", "/b/c/"},
      {"..", "/b/"},
      {"../", "/b/"},
      {"../g", "/b/g"},
      {"../..", "/"},
      {"../../", "/"},
      {"../../g", "/g"},
      {"../../../g", "/g"},
      {"../../../../g", "/g"},
      {"/./g", "/g"},
      {"/../g", "/g"},
      {"g.", "/b/c/g."},
      {".g", "/b/c/.g"},
      {"g..", "/b/c/g.."},
      {"..g", "/b/c/..g"},
      {"./../g", "/b/g"},
      {"./g/.", "/b/c/g/"},
      {"g/./h", "/b/c/g/h"},
      {"g/../h", "/b/c/h"},
      {"g;x=1/./y", "/b/c/g;x=1/y"},
      {"g;x=1/../y", "/b/c/y"},
      {"g?y/./x", "/b/c/g?y/./x"},
      {"g?y/../x", "/b/c/g?y/../x"},
      {"g#s/./x", "/b/c/g#s/./x"},
      {"g#s/../x", "/b/c/g#s/../x"},
  };
  (void) state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char wanted[128] = "http://a";
    strcat(wanted, cases[i][1]);
    leads("http://a/b/c/d;p?q", cases[i][0], wanted);
  }
  leads("http://a/b/c/d;p?q", "//g", "http://g/");
}

static void what_is_not_there_differs_from_what_is_empty(void **state)
{
  (void) state;
  leads("http://a/b?q#f", "?", "http://a/b?#f");
  leads("http://a/b?q#f", "#", "http://a/b?q#");
  leads("http://a/b?q#f", "c", "http://a/c#f");
  leads("http://a/b?q#f", "c#", "http://a/c#");
  leads("http://a/b?q#f", "//b", "http://b/#f");
  leads("http://a/", "", "http://a/");
}

static void other_hosts_and_schemes(void **state)
{
  (void) state;
  leads("http://a/", "https://b:8443/x?y", "https://b:8443/x?y");
  leads("https://a/", "//b/x", "https://b/x");
  leads("https://a/", "HTTPS://b", "HTTPS://b/");
  leads("http://a/", "http://[::1]:80", "http://[::1]:80/");
  leads("http://a/b", "/c:d", "http://a/c:d");
  leads("http://a/b", "./c:d", "http://a/c:d");
  leads("http://a/b", "1c:d", "http://a/1c:d"); /* a scheme begins with a letter */
  is_refused("https://a/", "http://b/", "https to http");
  is_refused("https://a/", "http://a:443/", "https to http");
  is_refused("HTTPS://a/", "http://a/", "https to http");
  is_refused("http://a/", "c:d", "neither");
  is_refused("http://a/", "ftp://b/", "neither");
  is_refused("http://a/", "httpx://b/", "neither");
  is_refused("http://a/", "http:b", "no host");
  is_refused("http://a/", "http:/b", "no host");
  is_refused("http://a/", "http:///b", "no host");
  is_refused("http://a/", "//?b", "no host");
  is_refused("http://a/", "//b@c/", "user");
  is_refused("http://a/", "//@/", "user");
  leads("http://a/", "/@b", "http://a/@b");
}

static void bytes_that_no_url_has(void **state)
{
  (void) state;
  leads("http://a/", "/b c", "http://a/b%20c");
  leads("http://a/", "/\xc3\xbc?\xff#\x80", "http://a/%C3%BC?%FF#%80");
  leads("http://a/b", " ", "http://a/%20");
  leads("http://a/", "/\"<>\\^`{|}", "http://a/\"<>\\^`{|}"); /* as in a URL of the caller */
  for (int byte = 1; byte < 0x20; byte++) {
    char location[] = {'/', (char) byte, 'x', '\0'};
    is_refused("http://a/", location, "control");
  }
  is_refused("http://a/", "/x\x7f", "control");
  is_refused("http://a/", "//b c/", "ASCII");
  is_refused("http://a/", "//\xc3\xbc/", "ASCII");
}

static void a_long_way_ends(void **state)
{
  (void) state;
  char location[3 * CPOOL__REDIRECT_URL_BYTES + 1];
  size_t fits = CPOOL__REDIRECT_URL_BYTES - strlen("http://a");
  memset(location, 'x', sizeof location);
  location[0] = '/';
  location[fits] = '\0';
  char out[CPOOL__REDIRECT_URL_BYTES + 1];
  assert_null(cpool__redirect_resolve(out, "http://a/", location));
  assert_int_equal(strlen(out), CPOOL__REDIRECT_URL_BYTES);
  location[fits] = 'x';
  location[fits + 1] = '\0';
  is_refused("http://a/", location, "too long");
  memset(location, ' ', sizeof location - 1);
  location[sizeof location - 1] = '\0';
  is_refused("http://a/", location, "too long");
  for (size_t i = 0; i < sizeof location - 1; i++)
    location[i] = "/.."[i % 3];
  location[CPOOL__REDIRECT_URL_BYTES / 3 * 3 - 30] = '\0';
  leads("http://a/", location, "http://a/");
}

static void confidential_headers_are_known_by_their_names(void **state)
{
  static const char *const confidential[] = {"Authorization",
                                             "authorization",
                                             "PROXY-AUTHORIZATION",
                                             "Cookie",
                                             "Cookie2",
                                             "Host",
                                             "X-Api-Key",
                                             "api-key",
                                             "apikey",
                                             "X-Auth-Token",
                                             "X-Amz-Security-Token",
                                             "X-Vault-Token",
                                             "Private-Token",
                                             "X-CSRF-Token",
                                             "Ocp-Apim-Subscription-Key",
                                             "X-Functions-Key",
                                             "X-Session-Id",
                                             "X-Hub-Signature-256",
                                             "X-Client-Secret",
                                             "X-Password"};
  static const char *const plain[] = {"Accept",  "User-Agent",  "Content-Type", "Idempotency-Key", "If-None-Match",
                                      "Range",   "traceparent", "tracestate",   "X-Request-Id",    "Key",
                                      "Keyword", "X-Hosted",    "Via"};
  (void) state;
  for (size_t i = 0; i < sizeof confidential / sizeof *confidential; i++)
    if (!cpool__redirect_confides(confidential[i], strlen(confidential[i])))
      fail_msg("%s", confidential[i]);
  for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
    if (cpool__redirect_confides(plain[i], strlen(plain[i])))
      fail_msg("%s", plain[i]);
}

static void headers_about_a_body_go_with_it(void **state)
{
  static const char *const about[] = {"Content-Type",     "content-encoding", "Content-Language",
                                      "Content-Location", "Content-MD5",      "Digest",
                                      "Repr-Digest",      "Last-Modified",    "Expect"};
  static const char *const plain[] = {"Accept", "Content", "Content-", "X-Content-Type", "Authorization"};
  (void) state;
  for (size_t i = 0; i < sizeof about / sizeof *about; i++)
    if (!cpool__redirect_describes_body(about[i], strlen(about[i])))
      fail_msg("%s", about[i]);
  for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
    if (cpool__redirect_describes_body(plain[i], strlen(plain[i])))
      fail_msg("%s", plain[i]);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(five_codes_are_followed),
      cmocka_unit_test(methods_are_compared_as_they_are_written),
      cmocka_unit_test(the_examples_of_rfc_3986_hold),
      cmocka_unit_test(what_is_not_there_differs_from_what_is_empty),
      cmocka_unit_test(other_hosts_and_schemes),
      cmocka_unit_test(bytes_that_no_url_has),
      cmocka_unit_test(a_long_way_ends),
      cmocka_unit_test(confidential_headers_are_known_by_their_names),
      cmocka_unit_test(headers_about_a_body_go_with_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
