/* test_hosts: what a hosts file says, however it is written, and when it is read again */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <cpool.h>

#include "base/memory.h"
#include "dns/hosts.h"
#include "support/wait.h"

struct fixture {
  struct cpool__hosts_map map;
  struct cpool__hosts hosts;
  char *dir, path[256];
};

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  f->dir = temp_dir_new();
  snprintf(f->path, sizeof f->path, "%s/hosts", f->dir);
  cpool__hosts_map_init(&f->map);
  *state = f;
  return cpool__hosts_init(&f->hosts, f->path);
}

static int teardown(void **state)
{
  struct fixture *f = *state;
  cpool__hosts_map_fini(&f->map);
  cpool__hosts_fini(&f->hosts);
  temp_dir_free(f->dir);
  free(f);
  return 0;
}

static void parse(struct fixture *f, const char *text, size_t len)
{
  char *exact = malloc(len + 1); /* a heap block of just this size: a byte too far is found */
  memcpy(exact, text, len);
  char *shrunk = realloc(exact, len > 0 ? len : 1);
  assert_int_equal(cpool__hosts_map_parse(&f->map, shrunk, len), CPOOL_OK);
  free(shrunk);
}

/* "a b": the addresses of the name, "" when it is not there. */
static const char *addresses(const struct cpool__hosts_name *name)
{
  static char text[CPOOL__HOSTS_ADDRESSES * CPOOL__ADDRESS_TEXT];
  text[0] = '\0';
  for (int i = 0; name != NULL && i < name->count; i++) {
    char one[CPOOL__ADDRESS_TEXT];
    cpool__address_host_text(&name->addresses[i], one);
    if (i > 0)
      strcat(text, " ");
    strcat(text, one);
  }
  return text;
}

static const char *in_map(struct fixture *f, const char *name)
{
  return addresses(cpool__hosts_map_find(&f->map, name));
}

static const char *in_file(struct fixture *f, const char *name, uint64_t now)
{
  const struct cpool__hosts_name *found = NULL;
  assert_int_equal(cpool__hosts_find(&f->hosts, name, now, &found), CPOOL_OK);
  return addresses(found);
}

static void all_names_of_all_lines_are_found(void **state)
{
  struct fixture *f = *state;
  static const char text[] =
      "127.0.0.1 localhost\n::1\tlocalhost ip6-localhost\n\n  10.0.0.1   a.test \t b.test  # c.test\n#10.0.0.2 d.test\n"
      "10.0.0.3 a.test\n10.0.0.1 a.test\nfd00::1 a.test";
  parse(f, text, sizeof text - 1);
  assert_string_equal(in_map(f, "localhost"), "127.0.0.1 ::1");
  assert_string_equal(in_map(f, "ip6-localhost"), "::1");
  assert_string_equal(in_map(f, "a.test"), "10.0.0.1 10.0.0.3 fd00::1");
  assert_string_equal(in_map(f, "b.test"), "10.0.0.1");
  assert_string_equal(in_map(f, "c.test"), "");
  assert_string_equal(in_map(f, "d.test"), "");
  assert_string_equal(in_map(f, "test"), "");
}

static void case_final_dots_and_crlf_do_not_matter(void **state)
{
  struct fixture *f = *state;
  static const char text[] = "10.0.0.1 A.Test.\r\n10.0.0.2 b.test#tight\r\n10.0.0.3 c.test \r";
  parse(f, text, sizeof text - 1);
  assert_string_equal(in_map(f, "a.test"), "10.0.0.1");
  assert_string_equal(in_map(f, "b.test"), "10.0.0.2");
  assert_string_equal(in_map(f, "c.test"), "10.0.0.3");
}

static void lines_that_make_no_sense_are_passed_over(void **state)
{
  struct fixture *f = *state;
  static const char text[] = "a.test 10.0.0.1\n10.0.0.256 b.test\n10.0.0.1\n fe80::1%lo "
                             "c.test\n\0\0\377\376junk\n10.0.0.2\0d.test\n.\n10.0.0.3 .\n"
                             "10.0.0.4 e.test\n";
  parse(f, text, sizeof text - 1);
  parse(f, "", 0);
  assert_string_equal(in_map(f, "b.test"), "");
  assert_string_equal(in_map(f, "c.test"), "");
  assert_string_equal(in_map(f, "10.0.0.1"), "");
  assert_string_equal(in_map(f, "d.test"), "10.0.0.2");
  assert_string_equal(in_map(f, "e.test"), "10.0.0.4");
}

/* Exactly `len` bytes, without a NUL. */
__attribute__((format(printf, 3, 0))) static void put_line(char *at, size_t len, const char *format, int number)
{
  char line[64];
  assert_int_equal(snprintf(line, sizeof line, format, number), len);
  memcpy(at, line, len);
}

static void huge_lines_and_names_are_harmless(void **state)
{
  struct fixture *f = *state;
  enum { SIZE = 300000 };
  char *text = malloc(SIZE);
  memset(text, 'x', SIZE);
  memcpy(text, "10.0.0.1 ", 9); /* a name of nearly 200 000 bytes */
  text[200000] = '\n';
  memset(text + 200001, '1', 50000); /* an address of 50 000 bytes */
  memcpy(text + 250001, " a.test\n10.0.0.2", 16);
  for (int i = 0; i < 4000; i++) /* 4000 names on one line */
    put_line(text + 250017 + i * 12, 12, " n%05d.test", i);
  parse(f, text, 250017 + 4000 * 12);
  assert_string_equal(in_map(f, "a.test"), "");
  assert_string_equal(in_map(f, "n00000.test"), "10.0.0.2");
  assert_string_equal(in_map(f, "n03999.test"), "10.0.0.2");
  free(text);
}

static void addresses_of_a_name_are_bounded(void **state)
{
  struct fixture *f = *state;
  for (int i = 0; i < 2 * CPOOL__HOSTS_ADDRESSES; i++) {
    char line[64];
    int len = snprintf(line, sizeof line, "10.0.0.%d a.test\n", i);
    parse(f, line, (size_t) len);
  }
  assert_int_equal(cpool__hosts_map_find(&f->map, "a.test")->count, CPOOL__HOSTS_ADDRESSES);
}

static void missing_file_is_an_empty_one(void **state)
{
  struct fixture *f = *state;
  assert_string_equal(in_file(f, "a.test", 0), "");
  write_file(f->path, "10.0.0.1 a.test\n", 16);
  assert_string_equal(in_file(f, "a.test", CPOOL__HOSTS_CHECK_MS), "10.0.0.1");
  assert_int_equal(unlink(f->path), 0);
  assert_string_equal(in_file(f, "a.test", 2 * CPOOL__HOSTS_CHECK_MS), "");
}

static void what_is_no_regular_file_is_an_empty_one(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(mkfifo(f->path, 0600), 0); /* opening it to read would wait for a writer */
  assert_string_equal(in_file(f, "a.test", 0), "");
  assert_int_equal(unlink(f->path), 0);
  assert_int_equal(mkdir(f->path, 0700), 0);
  assert_string_equal(in_file(f, "a.test", 5000), "");
}

static void changed_file_is_read_again_within_the_check_time(void **state)
{
  struct fixture *f = *state;
  write_file(f->path, "10.0.0.1 a.test\n", 16);
  assert_string_equal(in_file(f, "a.test", 100), "10.0.0.1");
  write_file(f->path, "10.0.0.22 a.test\n", 17);
  assert_string_equal(in_file(f, "a.test", 99 + CPOOL__HOSTS_CHECK_MS), "10.0.0.1");
  assert_string_equal(in_file(f, "a.test", 100 + CPOOL__HOSTS_CHECK_MS), "10.0.0.22");
}

static void file_beyond_the_cap_counts_up_to_it_in_whole_lines(void **state)
{
  struct fixture *f = *state;
  enum { LINE = 32, LINES = CPOOL__HOSTS_CAP_BYTES / LINE };
  char *text = malloc((size_t) (LINES + 1) * LINE + 1);
  text[0] = '\n'; /* so that the cap falls into a line */
  for (int i = 0; i <= LINES; i++)
    put_line(text + 1 + i * LINE, LINE, "10.0.0.1 name%07d.aaaaa.test\n", i);
  write_file(f->path, text, (size_t) (LINES + 1) * LINE + 1);
  free(text);
  char last[64];
  snprintf(last, sizeof last, "name%07d.aaaaa.test", LINES - 2);
  assert_string_equal(in_file(f, last, 0), "10.0.0.1");
  snprintf(last, sizeof last, "name%07d.aaaaa.test", LINES - 1);
  assert_string_equal(in_file(f, last, 0), "");
  last[strlen(last) - 1] = '\0';
  assert_string_equal(in_file(f, last, 0), "");
}

static int allocations_left;

static void *failing(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  return allocations_left-- > 0 ? realloc(ptr, size) : NULL;
}

static void short_memory_is_reported_and_keeps_what_was_read(void **state)
{
  struct fixture *f = *state;
  write_file(f->path, "10.0.0.1 a.test b.test c.test\n10.0.0.2 a.test\n", 46);
  cpool__memory_hook(failing, NULL);
  const struct cpool__hosts_name *name = NULL;
  int failures = 0, status;
  do {
    allocations_left = failures;
    status = cpool__hosts_find(&f->hosts, "a.test", 0, &name);
    assert_true(status == CPOOL_OK || (status == CPOOL_ENOMEM && name == NULL));
    failures += status == CPOOL_ENOMEM;
    assert_in_range(failures, 0, 100);
  } while (status != CPOOL_OK);
  assert_true(failures >= 8); /* the text, three names with an address each, the table */
  assert_string_equal(addresses(name), "10.0.0.1 10.0.0.2");
  write_file(f->path, "10.0.0.3 a.test\n", 16);
  allocations_left = 1;
  assert_int_equal(cpool__hosts_find(&f->hosts, "a.test", 5000, &name), CPOOL_ENOMEM);
  assert_string_equal(addresses(cpool__hosts_map_find(&f->hosts.map, "a.test")), "10.0.0.1 10.0.0.2");
  cpool__memory_hook(NULL, NULL);
  assert_string_equal(in_file(f, "a.test", 5001), "10.0.0.3");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(all_names_of_all_lines_are_found, setup, teardown),
      cmocka_unit_test_setup_teardown(case_final_dots_and_crlf_do_not_matter, setup, teardown),
      cmocka_unit_test_setup_teardown(lines_that_make_no_sense_are_passed_over, setup, teardown),
      cmocka_unit_test_setup_teardown(huge_lines_and_names_are_harmless, setup, teardown),
      cmocka_unit_test_setup_teardown(addresses_of_a_name_are_bounded, setup, teardown),
      cmocka_unit_test_setup_teardown(missing_file_is_an_empty_one, setup, teardown),
      cmocka_unit_test_setup_teardown(what_is_no_regular_file_is_an_empty_one, setup, teardown),
      cmocka_unit_test_setup_teardown(changed_file_is_read_again_within_the_check_time, setup, teardown),
      cmocka_unit_test_setup_teardown(file_beyond_the_cap_counts_up_to_it_in_whole_lines, setup, teardown),
      cmocka_unit_test_setup_teardown(short_memory_is_reported_and_keeps_what_was_read, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
