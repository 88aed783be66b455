/* test_headers: which headers are refused, and the list that libcurl gets: merged, in one block, in its notation */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cpool.h>

#include "http/header_list.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void is_refused(const char *name, const char *value, const char *because)
{
  cpool_header headers[] = {{"Accept", "*/*"}, {name, value}};
  cpool_error err;
  cpool_error_init(&err);
  assert_int_equal(cpool__headers_check(headers, 2), CPOOL_EINVAL);
  cpool_last_error(&err);
  assert_int_equal(err.status, CPOOL_EINVAL);
  assert_non_null(strstr(err.text, "headers[1]"));
  assert_non_null(strstr(err.text, because));
}

/* Builds into exactly the bytes that were asked for; free(*memory). */
static struct cpool__header_list build(void **memory, const struct cpool__header_list *base,
                                       const cpool_header *headers, size_t count, const char *const *extra,
                                       size_t extra_count)
{
  struct cpool__header_list list;
  size_t size = cpool__headers_size(base, headers, count, extra, extra_count);
  *memory = size == 0 ? NULL : malloc(size);
  assert_true(size == 0 || *memory != NULL);
  cpool__headers_build(&list, *memory, base, headers, count, extra, extra_count);
  return list;
}

static void has_lines(const struct cpool__header_list *list, const char *const *lines, size_t count)
{
  size_t i = 0, bytes = 0;
  for (const struct curl_slist *node = list->nodes; node != NULL; node = node->next) {
    assert_true(i < count);
    assert_string_equal(node->data, lines[i]);
    bytes += strlen(lines[i]) + 2;
    i++;
  }
  assert_int_equal(i, count);
  assert_int_equal(list->count, count);
  assert_int_equal(list->bytes, bytes);
}

static void ordinary_headers_are_accepted(void **state)
{
  (void) state;
  const cpool_header headers[] = {{"Accept", "*/*"},
                                  {"X-Empty", ""},
                                  {"Host", "other"},
                                  {"x", "tab\there"},
                                  {"Y!#$%&'*+-.^_`|~9", "caf\xc3\xa9"},
                                  {"User-Agent", "a; b:c"},
                                  {"Content-Type", "text/plain"},
                                  {"TEA", "x"}};
  assert_int_equal(cpool__headers_check(headers, COUNT(headers)), CPOOL_OK);
  assert_int_equal(cpool__headers_check(NULL, 0), CPOOL_OK);
}

static void names_are_tokens(void **state)
{
  (void) state;
  static const char *const wrong[] = {"",     " X", "X ",  "X:",    "X Y", "X\r\nY", "X\tY", "caf\xc3\xa9",
                                      "X(Y)", "X;", "X/Y", "\"X\"", "X=Y", "X,Y",    "X@",   "{X}"};
  for (size_t i = 0; i < COUNT(wrong); i++) {
    is_refused(wrong[i], "v", "is not a token");
    assert_false(cpool__token_valid(wrong[i]));
  }
  assert_true(cpool__token_valid("GET"));
  is_refused(NULL, "v", "its name is NULL");
  is_refused("X", NULL, "its value is NULL");
  assert_int_equal(cpool__headers_check(NULL, 1), CPOOL_EINVAL);
}

static void values_have_no_control_bytes(void **state)
{
  (void) state;
  for (int byte = 1; byte < 256; byte++) {
    char value[] = {'s', 'e', 'c', (char) byte, 'r', '\0'};
    if (byte == '\t' || (byte >= 0x20 && byte != 0x7f)) {
      const cpool_header header = {"X", value};
      assert_int_equal(cpool__headers_check(&header, 1), CPOOL_OK);
    } else {
      is_refused("X-Name", value, "the value of X-Name has a control byte");
      cpool_error err;
      cpool_error_init(&err);
      cpool_last_error(&err);
      assert_null(strstr(err.text, "sec")); /* it may be a secret */
    }
  }
}

static void framing_headers_are_the_librarys(void **state)
{
  (void) state;
  static const char *const wrong[] = {"Content-Length",
                                      "content-length",
                                      "Transfer-Encoding",
                                      "CONNECTION",
                                      "Keep-Alive",
                                      "Proxy-Connection",
                                      "Proxy-Authorization",
                                      "Upgrade",
                                      "TE",
                                      "te",
                                      "Trailer",
                                      "Expect"};
  for (size_t i = 0; i < COUNT(wrong); i++)
    is_refused(wrong[i], "1", "is set by the library alone");
}

static void all_headers_together_are_capped(void **state)
{
  (void) state;
  char *value = malloc(CPOOL__HEAD_MAX_BYTES + 1);
  assert_non_null(value);
  memset(value, 'v', CPOOL__HEAD_MAX_BYTES);
  value[CPOOL__HEAD_MAX_BYTES] = '\0';
  is_refused("X", value, "longer than 524288 bytes in all");
  value[CPOOL__HEAD_MAX_BYTES - 5] = '\0';
  const cpool_header fits = {"X", value};
  assert_int_equal(cpool__headers_check(&fits, 1), CPOOL_OK);
  const cpool_header two[] = {{"X", value}, {"Y", ""}};
  assert_int_equal(cpool__headers_check(two, 2), CPOOL_EINVAL);
  free(value);
}

static void names_are_found_whatever_their_case(void **state)
{
  (void) state;
  const cpool_header headers[] = {{"X-One", "1"}, {"Accept", "2"}};
  assert_true(cpool__headers_find(headers, 2, "accept"));
  assert_true(cpool__headers_find(headers, 2, "x-ONE"));
  assert_false(cpool__headers_find(headers, 2, "X-On"));
  assert_false(cpool__headers_find(headers, 2, "X-One2"));
  assert_false(cpool__headers_find(NULL, 0, "X-One"));
  assert_false(cpool__names_equal("a^", 2, "A~", 2)); /* only letters have a case: these two differ by 0x20 */
  assert_true(cpool__names_equal("aZ", 2, "Az", 2));
}

static void lines_are_in_libcurls_notation(void **state)
{
  (void) state;
  void *memory;
  const cpool_header headers[] = {{"A", "1"}, {"B", ""}, {"C", "  \t"}, {"D", "  x y "}};
  static const char *const lines[] = {"A: 1", "B;", "C;", "D: x y "};
  struct cpool__header_list list = build(&memory, NULL, headers, COUNT(headers), NULL, 0);
  has_lines(&list, lines, COUNT(lines));
  assert_ptr_equal(list.nodes[0].next, &list.nodes[1]);
  free(memory);
}

static void an_empty_list_is_null(void **state)
{
  (void) state;
  void *memory;
  struct cpool__header_list list = build(&memory, NULL, NULL, 0, NULL, 0);
  assert_null(list.nodes);
  has_lines(&list, NULL, 0);
  struct cpool__header_list merged = build(&memory, &list, NULL, 0, NULL, 0);
  assert_null(merged.nodes);
}

static void the_callers_headers_replace_those_of_the_base(void **state)
{
  (void) state;
  void *base_memory, *memory;
  const cpool_header of_base[] = {{"Accept", "a"}, {"X-Key", "base"}, {"X-Key", "again"}, {"Empty", ""}, {"Keep", "1"}};
  const cpool_header of_caller[] = {{"x-key", "mine"}, {"EMPTY", "full"}, {"New", "2"}};
  static const char *const extra[] = {"Expect:", "content-type:", "accept: extra", "new: extra", "Last: 9"};
  static const char *const lines[] = {"Accept: a", "Keep: 1", "x-key: mine",   "EMPTY: full",
                                      "New: 2",    "Expect:", "content-type:", "Last: 9"};
  struct cpool__header_list base = build(&base_memory, NULL, of_base, COUNT(of_base), NULL, 0);
  struct cpool__header_list list = build(&memory, &base, of_caller, COUNT(of_caller), extra, COUNT(extra));
  has_lines(&list, lines, COUNT(lines));
  free(base_memory); /* the list is a copy */
  has_lines(&list, lines, COUNT(lines));
  free(memory);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ordinary_headers_are_accepted),
      cmocka_unit_test(names_are_tokens),
      cmocka_unit_test(values_have_no_control_bytes),
      cmocka_unit_test(framing_headers_are_the_librarys),
      cmocka_unit_test(all_headers_together_are_capped),
      cmocka_unit_test(names_are_found_whatever_their_case),
      cmocka_unit_test(lines_are_in_libcurls_notation),
      cmocka_unit_test(an_empty_list_is_null),
      cmocka_unit_test(the_callers_headers_replace_those_of_the_base),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
