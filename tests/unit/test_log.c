/* test_log: what was not asked for costs nothing, what was comes as one clean line */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <cpool.h>

#include "core/log.h"

struct sink {
  int calls;
  int32_t level;
  char category[16];
  char line[1024];
};

static void keep(void *user, int32_t level, const char *category, const char *line)
{
  struct sink *sink = user;
  sink->calls++;
  sink->level = level;
  snprintf(sink->category, sizeof sink->category, "%s", category);
  snprintf(sink->line, sizeof sink->line, "%s", line);
}

static void only_wanted_levels_arrive(void **state)
{
  (void) state;
  struct sink sink = {0};
  const struct cpool__log log = {keep, &sink, CPOOL_LOG_WARNING};
  cpool__log(&log, CPOOL_LOG_INFO, "conn", "no");
  cpool__log(&log, CPOOL_LOG_DEBUG, "conn", "no");
  assert_int_equal(sink.calls, 0);
  cpool__log(&log, CPOOL_LOG_WARNING, "conn", "%d -> %s", 7, "idle");
  assert_int_equal(sink.calls, 1);
  assert_int_equal(sink.level, CPOOL_LOG_WARNING);
  assert_string_equal(sink.category, "conn");
  assert_string_equal(sink.line, "7 -> idle");
  cpool__log(&log, CPOOL_LOG_ERROR, "dns", "yes");
  assert_int_equal(sink.calls, 2);
}

static void silent_without_a_sink(void **state)
{
  (void) state;
  const struct cpool__log log = {NULL, NULL, CPOOL_LOG_DEBUG};
  cpool__log(&log, CPOOL_LOG_ERROR, "conn", "nobody hears this");
}

static void line_is_cut_and_clean(void **state)
{
  (void) state;
  struct sink sink = {0};
  const struct cpool__log log = {keep, &sink, CPOOL_LOG_DEBUG};
  char text[900];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  text[3] = '\n';
  cpool__log(&log, CPOOL_LOG_DEBUG, "conn", "%s", text);
  assert_int_equal(strlen(sink.line), 511);
  assert_memory_equal(sink.line, "xxx?xxx", 7);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_wanted_levels_arrive),
      cmocka_unit_test(silent_without_a_sink),
      cmocka_unit_test(line_is_cut_and_clean),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
