/* test_options: every value is checked and refused by name, from a struct as from text, and never corrected */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cpool.h>

#include "core/options.h"

struct pool_options {
  size_t size;
  int32_t max_connections;
  int32_t policy;
  int64_t timeout_ms;
  double jitter_ratio;
  const char *agent;
};

static const struct cpool__choice policies[] = {{"any", 1}, {"public", 2}, {NULL, 0}};

static const struct cpool__option rows[] = {
    {"max_connections", CPOOL__OPTION_INT32, offsetof(struct pool_options, max_connections), "", 1, 1000000, 100, NULL,
     NULL, CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF, "sockets open at a time"},
    {"policy", CPOOL__OPTION_CHOICE, offsetof(struct pool_options, policy), "", 0, 0, 1, NULL, policies, 0,
     "which addresses"},
    {"timeout_ms", CPOOL__OPTION_INT64, offsetof(struct pool_options, timeout_ms), "ms", 1, 1e15, -1, NULL, NULL,
     CPOOL__OPTION_OFF, "longest time"},
    {"jitter_ratio", CPOOL__OPTION_DOUBLE, offsetof(struct pool_options, jitter_ratio), "", 0.001, 0.5, 0.1, NULL, NULL,
     CPOOL__OPTION_OFF, "share taken off"},
    {"agent", CPOOL__OPTION_TEXT, offsetof(struct pool_options, agent), "", 0, 0, 0, "cpool/VERSION", NULL, 0,
     "name given"},
    {.key = NULL},
};

static const struct cpool__option_table table = {"pool", rows};

static const char *last_text(void)
{
  static cpool_error err;
  cpool_error_init(&err);
  assert_int_equal(cpool_last_error(&err), CPOOL_OK);
  return err.text;
}

static int set(struct pool_options *options, const char *key, const char *value)
{
  return cpool__options_set(&table, options, sizeof *options, key, value);
}

static void zero_becomes_the_default(void **state)
{
  (void) state;
  struct pool_options options = {0};
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_OK);
  assert_int_equal(options.max_connections, 100);
  assert_int_equal(options.policy, 1);
  assert_int_equal(options.timeout_ms, CPOOL_OFF);
  assert_true(options.jitter_ratio > 0.0999 && options.jitter_ratio < 0.1001);
  assert_null(options.agent);
  struct pool_options again = options;
  assert_int_equal(cpool__options_resolve(&table, &again), CPOOL_OK);
  assert_memory_equal(&again, &options, sizeof options);
}

static void set_values_and_off_are_kept(void **state)
{
  (void) state;
  struct pool_options options = {sizeof options, CPOOL_OFF, 2, (int64_t) 1e15, CPOOL_OFF, "agent \xc3\xbc"};
  const struct pool_options before = options;
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_OK);
  assert_memory_equal(&options, &before, sizeof options);
}

static void value_out_of_range_is_refused_with_key_value_and_range(void **state)
{
  (void) state;
  struct pool_options options = {.max_connections = 1000001};
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_EINVAL);
  assert_string_equal(last_text(), "pool option max_connections: 1000001 is out of range 1..1000000 (or off)");
  options = (struct pool_options){.max_connections = -2};
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_EINVAL);
  options = (struct pool_options){.policy = 3};
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_EINVAL);
  assert_string_equal(last_text(), "pool option policy: 3 is none of any, public");
  options = (struct pool_options){.policy = CPOOL_OFF}; /* not for this one */
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_EINVAL);
  options = (struct pool_options){.timeout_ms = INT64_MIN};
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_EINVAL);
  assert_non_null(strstr(last_text(), "-9223372036854775808"));
  options = (struct pool_options){.timeout_ms = (int64_t) 1e15 + 1};
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_EINVAL);
}

static void odd_doubles_are_refused(void **state)
{
  (void) state;
  const double odd[] = {0.51, -0.5, -1.0001, 0.0009, NAN, INFINITY, -INFINITY, 1e300, 5e-324};
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
    struct pool_options options = {.jitter_ratio = odd[i]};
    assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_EINVAL);
    assert_non_null(strstr(last_text(), "out of range 0.001..0.5 (or off)"));
  }
  struct pool_options options = {.jitter_ratio = -0.0};
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_OK);
  assert_true(options.jitter_ratio > 0);
}

static void text_is_parsed_into_its_field(void **state)
{
  (void) state;
  struct pool_options options = {0};
  assert_int_equal(set(&options, "max_connections", "250"), CPOOL_OK);
  assert_int_equal(set(&options, "policy", "public"), CPOOL_OK);
  assert_int_equal(set(&options, "timeout_ms", "0001500"), CPOOL_OK);
  assert_int_equal(set(&options, "jitter_ratio", "0.25"), CPOOL_OK);
  const char *agent = "me";
  assert_int_equal(set(&options, "agent", agent), CPOOL_OK);
  assert_int_equal(options.max_connections, 250);
  assert_int_equal(options.policy, 2);
  assert_int_equal(options.timeout_ms, 1500);
  assert_memory_equal(&options.jitter_ratio, &(double){0.25}, sizeof(double));
  assert_ptr_equal(options.agent, agent);
  assert_int_equal(set(&options, "max_connections", "off"), CPOOL_OK);
  assert_int_equal(set(&options, "jitter_ratio", "off"), CPOOL_OK);
  assert_int_equal(options.max_connections, CPOOL_OFF);
  assert_memory_equal(&options.jitter_ratio, &(double){-1}, sizeof(double));
}

static void decimals_are_the_nearest_double(void **state)
{
  (void) state;
  const char *const texts[] = {"0.1", "0.33333333333333", "0.00123456789", "0.49999999999999", "0.05"};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    struct pool_options options = {0};
    double expected = strtod(texts[i], NULL);
    assert_int_equal(set(&options, "jitter_ratio", texts[i]), CPOOL_OK);
    assert_memory_equal(&options.jitter_ratio, &expected, sizeof expected);
  }
}

static void malformed_text_is_refused_and_changes_nothing(void **state)
{
  (void) state;
  static const char *const cases[][2] = {
      {"max_connections", "0"},
      {"max_connections", "1000001"},
      {"max_connections", "-2"},
      {"max_connections", "4294967297"},
      {"max_connections", "12x"},
      {"max_connections", " 12"},
      {"max_connections", "12 "},
      {"max_connections", "+12"},
      {"max_connections", "1e3"},
      {"max_connections", "0x10"},
      {"max_connections", "1.5"},
      {"max_connections", "OFF"},
      {"max_connections", "-"},
      {"max_connections", "--1"},
      {"policy", "off"},
      {"policy", "1"},
      {"policy", "publi"},
      {"policy", "publicc"},
      {"timeout_ms", "0"},
      {"timeout_ms", "-0"},
      {"jitter_ratio", "0.6"},
      {"jitter_ratio", "0,3"},
      {"jitter_ratio", ".3"},
      {"jitter_ratio", "0."},
      {"jitter_ratio", "0.3.1"},
      {"jitter_ratio", "3e-1"},
      {"jitter_ratio", "nan"},
      {"jitter_ratio", "0"},
      {"jitter_ratio", "inf"},
      {"jitter_ratio", "0.0"},
      {"agent", "a\nb"},
      {"agent", "a\x7f"},
      {"timeout_ms", "99999999999999999999999999"},
      {"jitter_ratio", "0.1000000000000000"},
      {"max_connection", "1"},
      {"", "1"},
      {"size", "1"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct pool_options options = {sizeof options, 7, 2, 8, 0.5, "x"};
    const struct pool_options before = options;
    assert_int_equal(set(&options, cases[i][0], cases[i][1]), CPOOL_EINVAL);
    assert_memory_equal(&options, &before, sizeof options);
    assert_non_null(strstr(last_text(), cases[i][0]));
  }
  struct pool_options options = {0};
  assert_int_equal(set(&options, NULL, "1"), CPOOL_EINVAL);
  assert_int_equal(set(&options, "policy", NULL), CPOOL_EINVAL);
}

static void refusals_read_well(void **state)
{
  (void) state;
  struct pool_options options = {0};
  set(&options, "max_connections", "0");
  assert_string_equal(last_text(), "pool option max_connections: 0 is out of range 1..1000000 (or off)");
  set(&options, "timeout_ms", "soon");
  assert_string_equal(last_text(), "pool option timeout_ms: \"soon\" is no whole number (or off)");
  set(&options, "policy", "none");
  assert_string_equal(last_text(), "pool option policy: none is none of any, public");
  set(&options, "max", "1");
  assert_string_equal(last_text(), "pool options have no key \"max\"");
}

static void refused_text_value_is_not_quoted(void **state)
{
  (void) state;
  struct pool_options options = {0};
  assert_int_equal(set(&options, "agent", "secret\r\n"), CPOOL_EINVAL);
  assert_null(strstr(last_text(), "secret"));
  options.agent = "secret\x01";
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_EINVAL);
  assert_null(strstr(last_text(), "secret"));
  assert_non_null(strstr(last_text(), "agent"));
}

static void empty_text_is_the_default_but_stays_a_text(void **state)
{
  (void) state;
  struct pool_options options = {0, 5, 2, 5, 0.3, NULL};
  assert_int_equal(set(&options, "max_connections", ""), CPOOL_OK);
  assert_int_equal(set(&options, "policy", ""), CPOOL_OK);
  assert_int_equal(set(&options, "timeout_ms", ""), CPOOL_OK);
  assert_int_equal(set(&options, "jitter_ratio", ""), CPOOL_OK);
  assert_int_equal(set(&options, "agent", ""), CPOOL_OK);
  assert_non_null(options.agent);
  assert_int_equal(cpool__options_resolve(&table, &options), CPOOL_OK);
  assert_int_equal(options.max_connections, 100);
  assert_int_equal(options.policy, 1);
  assert_string_equal(options.agent, "");
}

static void field_beyond_the_callers_struct_is_not_written(void **state)
{
  (void) state;
  struct pool_options options = {0};
  size_t size = offsetof(struct pool_options, jitter_ratio);
  assert_int_equal(cpool__options_set(&table, &options, size, "timeout_ms", "9"), CPOOL_OK);
  assert_int_equal(cpool__options_set(&table, &options, size, "jitter_ratio", "0.2"), CPOOL_EINVAL);
  assert_int_equal(cpool__options_set(&table, &options, size + 4, "jitter_ratio", "0.2"), CPOOL_EINVAL);
  assert_memory_equal(&options.jitter_ratio, &(double){0}, sizeof(double));
}

static void only_frozen_changes_are_named(void **state)
{
  (void) state;
  char agent[] = "me", same_agent[] = "me";
  struct pool_options in_force = {0, 5, 2, 5, 0.3, agent}, wanted = in_force;
  wanted.agent = same_agent;  /* another pointer, the same text */
  wanted.max_connections = 9; /* live */
  assert_null(cpool__options_frozen_change(&table, &in_force, &wanted));
  wanted.agent = NULL;
  assert_string_equal(cpool__options_frozen_change(&table, &in_force, &wanted), "agent");
  wanted.policy = 1;
  assert_string_equal(cpool__options_frozen_change(&table, &in_force, &wanted), "policy");
}

/* Compiles a locale with a decimal comma, xx_XX, into `dir`; nothing needs to be installed but localedef. */
static bool comma_locale_make(const char *dir)
{
  char path[128], command[512];
  snprintf(path, sizeof path, "%s/source", dir);
  FILE *source = fopen(path, "w");
  snprintf(path, sizeof path, "%s/charmap", dir);
  FILE *charmap = fopen(path, "w");
  assert_non_null(source);
  assert_non_null(charmap);
  fputs("comment_char %\nescape_char /\nLC_NUMERIC\ndecimal_point \",\"\nthousands_sep \"\"\ngrouping -1\nEND "
        "LC_NUMERIC\n",
        source);
  fputs("<code_set_name> ANSI_X3.4-1968\n<comment_char> %\n<escape_char> /\nCHARMAP\n", charmap);
  for (unsigned i = 0; i < 128; i++)
    fprintf(charmap, "<U%04X> /x%02x X\n", i, i);
  fputs("END CHARMAP\n", charmap);
  fclose(source);
  fclose(charmap);
  snprintf(command, sizeof command, "localedef -c -i %s/source -f %s/charmap %s/xx_XX >/dev/null 2>&1", dir, dir, dir);
  (void) !system(command); /* it warns of the categories that are missing: setlocale tells whether it worked */
  setenv("LOCPATH", dir, 1);
  return setlocale(LC_NUMERIC, "xx_XX") != NULL;
}

static void decimal_comma_of_the_host_changes_nothing(void **state)
{
  (void) state;
  char dir[] = "/tmp/cpool-locale-XXXXXX", command[64], shown[16];
  assert_non_null(mkdtemp(dir));
  bool made = comma_locale_make(dir);
  snprintf(command, sizeof command, "rm -r %s", dir);
  assert_int_equal(system(command), 0);
  if (!made)
    skip(); /* no localedef */
  snprintf(shown, sizeof shown, "%.2f", 0.25);
  struct pool_options options = {0};
  int point = set(&options, "jitter_ratio", "0.25"), comma = set(&options, "jitter_ratio", "0,25");
  options.jitter_ratio = 0.75;
  int refused = cpool__options_resolve(&table, &options);
  setlocale(LC_NUMERIC, "C");
  assert_string_equal(shown, "0,25"); /* the locale was in force */
  assert_int_equal(point, CPOOL_OK);
  assert_int_equal(comma, CPOOL_EINVAL);
  assert_int_equal(refused, CPOOL_EINVAL);
  assert_string_equal(last_text(), "pool option jitter_ratio: 0.75 is out of range 0.001..0.5 (or off)");
}

static void document_has_one_row_per_option(void **state)
{
  (void) state;
  char *text = NULL;
  size_t len = 0;
  FILE *out = open_memstream(&text, &len);
  assert_non_null(out);
  cpool__options_document(&table, out);
  fclose(out);
  static const char expected[] = "## pool options\n\n"
                                 "| key | unit | default | allowed | live | meaning |\n"
                                 "|---|---|---|---|---|---|\n"
                                 "| `max_connections` |  | 100 | 1..1000000 (or off) | yes | sockets open at a time |\n"
                                 "| `policy` |  | any | any, public | no | which addresses |\n"
                                 "| `timeout_ms` | ms | off | 1..1000000000000000 (or off) | no | longest time |\n"
                                 "| `jitter_ratio` |  | 0.1 | 0.001..0.5 (or off) | no | share taken off |\n"
                                 "| `agent` |  | cpool/VERSION | text | no | name given |\n\n";
  assert_string_equal(text, expected);
  free(text);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(zero_becomes_the_default),
      cmocka_unit_test(set_values_and_off_are_kept),
      cmocka_unit_test(value_out_of_range_is_refused_with_key_value_and_range),
      cmocka_unit_test(odd_doubles_are_refused),
      cmocka_unit_test(text_is_parsed_into_its_field),
      cmocka_unit_test(decimals_are_the_nearest_double),
      cmocka_unit_test(malformed_text_is_refused_and_changes_nothing),
      cmocka_unit_test(refusals_read_well),
      cmocka_unit_test(refused_text_value_is_not_quoted),
      cmocka_unit_test(empty_text_is_the_default_but_stays_a_text),
      cmocka_unit_test(field_beyond_the_callers_struct_is_not_written),
      cmocka_unit_test(only_frozen_changes_are_named),
      cmocka_unit_test(decimal_comma_of_the_host_changes_nothing),
      cmocka_unit_test(document_has_one_row_per_option),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
