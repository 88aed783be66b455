/* identity: settings are one identity exactly when all of them are equal, whatever their texts are made of */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cpool.h>

#include "http/identity.h"
#include "http/proxy.h"

enum { PAIRS = 100000, TEXTS = 8 };

/* Ends, beginnings and lengths that could be taken for each other where texts stand side by side. */
static const char *const texts[TEXTS] = {NULL, "", "a", "b", "ab", "aa", "a\1", "\377\377\377\377"};

/* X(a text of the identity, the struct that it comes from) */
#define TEXT_FIELDS(X)                                                                                                 \
  X(ca_file, options)                                                                                                  \
  X(client_cert_file, options)                                                                                         \
  X(client_key_file, options)                                                                                          \
  X(client_key_password, options)                                                                                      \
  X(unix_socket_path, options)                                                                                         \
  X(pinned_public_key, options)                                                                                        \
  X(http_proxy, proxies)                                                                                               \
  X(https_proxy, proxies)                                                                                              \
  X(http_proxy_userpwd, proxies)                                                                                       \
  X(https_proxy_userpwd, proxies)                                                                                      \
  X(no_proxy, proxies)

struct settings {
  cpool_session_options options;
  struct cpool__proxy_settings proxies;
};

static uint64_t seed = 20240229;

static unsigned below(unsigned limit)
{
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return (unsigned) ((seed * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % limit;
}

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

static struct settings any_settings(void)
{
  static const int32_t switches[] = {1, CPOOL_OFF}, versions[] = {CPOOL_TLS_1_2, CPOOL_TLS_1_3},
                       policies[] = {CPOOL_ADDRESS_ANY, CPOOL_ADDRESS_PUBLIC};
  struct settings s = {.options = {.size = sizeof s.options}};
  s.options.tls_verify = switches[below(2)];
  s.options.tls_min_version = versions[below(2)];
  s.options.address_policy = policies[below(2)];
#define ANY(field, from) s.from.field = (char *) (uintptr_t) texts[below(TEXTS)];
  TEXT_FIELDS(ANY)
#undef ANY
  return s;
}

/* Changes one of the texts, to another one or to itself. */
static void change_one(struct settings *s)
{
  unsigned at = below(11), i = 0;
#define CHANGE(field, from)                                                                                            \
  if (i++ == at)                                                                                                       \
    s->from.field = (char *) (uintptr_t) texts[below(TEXTS)];
  TEXT_FIELDS(CHANGE)
#undef CHANGE
}

static bool same_text(const char *a, const char *b)
{
  return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same(const struct settings *a, const struct settings *b)
{
  bool equal = a->options.tls_verify == b->options.tls_verify &&
               a->options.tls_min_version == b->options.tls_min_version &&
               a->options.address_policy == b->options.address_policy;
#define COMPARE(field, from) equal = equal && same_text(a->from.field, b->from.field);
  TEXT_FIELDS(COMPARE)
#undef COMPARE
  return equal;
}

static void holds(const struct cpool__identity *identity, const struct settings *s)
{
  assert_int_equal(identity->tls_verify, s->options.tls_verify == 1);
  assert_int_equal(identity->tls_min_version, s->options.tls_min_version);
  assert_int_equal(identity->address_policy, s->options.address_policy);
#define HOLDS(field, from)                                                                                             \
  if (!same_text(identity->field, s->from.field))                                                                      \
    fail_msg("the identity's " #field " is not the session's");
  TEXT_FIELDS(HOLDS)
#undef HOLDS
}

static void a_hundred_thousand_pairs_are_equal_only_when_all_is_equal(void **state)
{
  cpool_http *pool = *state;
  int equal = 0;
  for (int i = 0; i < PAIRS; i++) {
    struct settings a = any_settings(), b = i % 2 ? a : any_settings();
    struct cpool__identity *one = NULL, *two = NULL;
    if (i % 2)
      change_one(&b);
    assert_int_equal(cpool__identity_take(pool, &a.options, &a.proxies, &one), CPOOL_OK);
    assert_int_equal(cpool__identity_take(pool, &b.options, &b.proxies, &two), CPOOL_OK);
    if ((one == two) != same(&a, &b))
      fail_msg("pair %d: %s", i, one == two ? "one identity for different settings" : "two identities for equal ones");
    holds(one, &a);
    holds(two, &b);
    equal += one == two;
    cpool__identity_drop(one);
    cpool__identity_drop(two);
  }
  assert_in_range(equal, PAIRS / 32, PAIRS / 4); /* both outcomes were tried */
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_hundred_thousand_pairs_are_equal_only_when_all_is_equal),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
