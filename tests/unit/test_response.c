/* test_response: heads from friendly and hostile peers, bodies up to their cap, and what a caller reads of them */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <cpool.h>

#include "base/memory.h"
#include "core/error.h"
#include "http/response.h"

enum { CAP = 64 * 1024 };

struct fixture {
  struct cpool_response resp;
  bool refuse;
};

static void *hook(void *context, void *ptr, size_t size)
{
  struct fixture *f = context;
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  return f->refuse ? NULL : realloc(ptr, size);
}

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL)
    return -1;
  cpool__response_init(&f->resp);
  cpool__memory_hook(hook, f);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct fixture *f = *state;
  cpool__response_fini(&f->resp);
  cpool__memory_hook(NULL, NULL);
  free(f);
  return 0;
}

/* Bytes of a fresh heap block, so that reading beyond them shows. */
static enum cpool__response_result line_of(struct fixture *f, const char *line, size_t len, size_t cap)
{
  char *copy = malloc(len == 0 ? 1 : len);
  assert_non_null(copy);
  memcpy(copy, line, len);
  enum cpool__response_result result = cpool__response_head_line(&f->resp, copy, len, cap);
  free(copy);
  return result;
}

static void line(struct fixture *f, const char *text)
{
  assert_int_equal(line_of(f, text, strlen(text), CAP), CPOOL__RESPONSE_OK);
}

static void has_headers(struct fixture *f, size_t count, const char *const (*expected)[2])
{
  const char *name = "", *value = "";
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(cpool_response_header_at(&f->resp, i, &name, &value), CPOOL_OK);
    assert_string_equal(name, expected[i][0]);
    assert_string_equal(value, expected[i][1]);
  }
  assert_int_equal(cpool_response_header_at(&f->resp, count, &name, &value), CPOOL_EINVAL);
  cpool_response_info info;
  cpool_response_info_init(&info);
  assert_int_equal(cpool_response_info_get(&f->resp, &info), CPOOL_OK);
  assert_int_equal(info.header_count, count);
}

static void an_answer_is_read_as_it_was_sent(void **state)
{
  struct fixture *f = *state;
  line(f, "HTTP/1.1 404 Not Found\r\n");
  assert_int_equal(cpool_response_status(&f->resp), 0); /* its head is not complete */
  line(f, "Content-Type: text/plain\r\n");
  line(f, "Set-Cookie: a=b:c\r\n");
  line(f, "set-cookie:   second  \t\r\n");
  line(f, "X-Empty:\r\n");
  line(f, "X-Bare: newline\n");
  line(f, "\r\n");
  assert_int_equal(cpool_response_status(&f->resp), 404);
  has_headers(f, 5,
              (const char *const[][2]){{"Content-Type", "text/plain"},
                                       {"Set-Cookie", "a=b:c"},
                                       {"set-cookie", "second"},
                                       {"X-Empty", ""},
                                       {"X-Bare", "newline"}});
  assert_string_equal(cpool_response_header(&f->resp, "SET-COOKIE"), "a=b:c");
  assert_string_equal(cpool_response_header(&f->resp, "x-empty"), "");
  assert_null(cpool_response_header(&f->resp, "X-Emptyy"));
  assert_null(cpool_response_header(&f->resp, "a=b:c"));
  assert_null(cpool_response_header(&f->resp, ""));
}

static void versions_are_10_and_11(void **state)
{
  struct fixture *f = *state;
  static const struct {
    const char *line;
    int32_t version, status;
  } rows[] = {{"HTTP/1.0 200 OK\r\n", 10, 200}, {"HTTP/1.1 204\r\n", 11, 204}, {"HTTP/1.1 999 \n", 11, 999}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    cpool_response_info info;
    cpool_response_info_init(&info);
    cpool__response_restart(&f->resp);
    line(f, rows[i].line);
    assert_int_equal(cpool_response_info_get(&f->resp, &info), CPOOL_OK);
    assert_int_equal(info.http_version, 0);
    line(f, "\r\n");
    assert_int_equal(cpool_response_info_get(&f->resp, &info), CPOOL_OK);
    assert_int_equal(info.http_version, rows[i].version);
    assert_int_equal(cpool_response_status(&f->resp), rows[i].status);
  }
}

static void interim_answers_leave_nothing_behind(void **state)
{
  struct fixture *f = *state;
  line(f, "HTTP/1.1 100 Continue\r\n");
  line(f, "X-Interim: 1\r\n");
  line(f, "\r\n");
  assert_int_equal(cpool_response_status(&f->resp), 0);
  has_headers(f, 0, NULL);
  line(f, "HTTP/1.1 103 Early Hints\r\n");
  line(f, "Link: x\r\n");
  line(f, "\r\n");
  line(f, "HTTP/1.1 200 OK\r\n");
  line(f, "A: b\r\n");
  line(f, "\r\n");
  assert_int_equal(cpool_response_status(&f->resp), 200);
  has_headers(f, 1, (const char *const[][2]){{"A", "b"}});
}

static void interim_answers_count_against_the_cap(void **state)
{
  struct fixture *f = *state;
  enum cpool__response_result result = CPOOL__RESPONSE_OK;
  size_t sent = 0;
  while (result == CPOOL__RESPONSE_OK && sent < 10000) {
    static const char *const lines[] = {"HTTP/1.1 100 Continue\r\n", "\r\n"};
    for (int i = 0; i < 2 && result == CPOOL__RESPONSE_OK; i++) {
      result = line_of(f, lines[i], strlen(lines[i]), 1000);
      sent += strlen(lines[i]);
    }
  }
  assert_int_equal(result, CPOOL__RESPONSE_OVER_CAP);
  assert_in_range(sent, 1001, 1025);
}

static void trailers_are_ignored(void **state)
{
  struct fixture *f = *state;
  line(f, "HTTP/1.1 200 OK\r\n");
  line(f, "A: b\r\n");
  line(f, "\r\n");
  line(f, "Authorization: late\r\n");
  line(f, " folded\r\n");
  line(f, "HTTP/1.1 500 Late\r\n");
  line(f, "\r\n");
  assert_int_equal(cpool_response_status(&f->resp), 200);
  has_headers(f, 1, (const char *const[][2]){{"A", "b"}});
}

static void malformed_lines_are_ignored(void **state)
{
  struct fixture *f = *state;
  line(f, " leading fold\r\n"); /* before any head */
  line(f, "HTTP/1.1 200 OK\r\n");
  line(f, " fold without a header\r\n");
  line(f, "no colon at all\r\n");
  line(f, ": no name\r\n");
  line(f, "Content-Length : 5\r\n");
  line(f, "Bad\tName: x\r\n");
  line(f, "HTTP/1.1 500 In the middle\r\n");
  line(f, "HTTP/1.1 500: x\r\n");
  line(f, "caf\xc3\xa9: x\r\n");
  line(f, " fold of an ignored line\r\n");
  line(f, "Good: yes\r\n");
  assert_int_equal(line_of(f, "Na\0me: x\r\n", 10, CAP), CPOOL__RESPONSE_OK);
  line(f, "\tfold of an ignored line\r\n");
  line(f, "\r\n");
  assert_int_equal(cpool_response_status(&f->resp), 200);
  has_headers(f, 1, (const char *const[][2]){{"Good", "yes"}});
}

static void values_hold_no_control_bytes(void **state)
{
  struct fixture *f = *state;
  line(f, "HTTP/1.1 200 OK\r\n");
  assert_int_equal(line_of(f, "A: x\0y\r\n", 8, CAP), CPOOL__RESPONSE_OK);
  assert_int_equal(line_of(f, "B: x\ry\x01\x7f\tz\xff\r\r\n", 14, CAP), CPOOL__RESPONSE_OK);
  assert_int_equal(line_of(f, "C:", 2, CAP), CPOOL__RESPONSE_OK);
  line(f, "\r\n");
  has_headers(f, 3, (const char *const[][2]){{"A", "x y"}, {"B", "x y  \tz\xff"}, {"C", ""}});
}

static void folded_lines_continue_the_value(void **state)
{
  struct fixture *f = *state;
  line(f, "HTTP/1.1 200 OK\r\n");
  line(f, "A: one\r\n");
  line(f, "  two\t\r\n");
  line(f, "\tthree\r\n");
  line(f, "   \r\n");
  line(f, "B:\r\n");
  line(f, " late\r\n");
  line(f, "C: 3\r\n");
  line(f, "\r\n");
  has_headers(f, 3, (const char *const[][2]){{"A", "one two three"}, {"B", "late"}, {"C", "3"}});
}

static void every_byte_of_a_head_counts_against_the_cap(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(line_of(f, "HTTP/1.1 200 OK\r\n", 17, 40), CPOOL__RESPONSE_OK);
  assert_int_equal(line_of(f, "ignored line\r\n", 14, 40), CPOOL__RESPONSE_OK);
  assert_int_equal(line_of(f, "A: 4567\r\n", 9, 40), CPOOL__RESPONSE_OK);
  assert_int_equal(line_of(f, "\r\n", 2, 40), CPOOL__RESPONSE_OVER_CAP);
  assert_int_equal(cpool_response_status(&f->resp), 0);
  has_headers(f, 1, (const char *const[][2]){{"A", "4567"}}); /* what arrived is there */
  cpool__response_restart(&f->resp);
  assert_int_equal(line_of(f, "HTTP/1.1 200 OK\r\n", 17, 40), CPOOL__RESPONSE_OK);
}

static void as_many_headers_as_fit_are_read_in_linear_time(void **state)
{
  struct fixture *f = *state;
  enum { LARGEST_CAP = 1024 * 1024 };
  size_t count = 0;
  line(f, "HTTP/1.1 200 OK\r\n");
  while (line_of(f, "a:\n", 3, LARGEST_CAP) == CPOOL__RESPONSE_OK)
    count++;
  assert_in_range(count, 340000, 350000);
  clock_t begin = clock();
  const char *name, *value;
  for (size_t i = 0; i < count; i++)
    assert_int_equal(cpool_response_header_at(&f->resp, i, &name, &value), CPOOL_OK);
  assert_true(clock() - begin < 20 * CLOCKS_PER_SEC); /* from the front each time it would be minutes */
  assert_int_equal(cpool_response_header_at(&f->resp, 1, &name, &value), CPOOL_OK); /* backwards too */
  assert_ptr_equal(name, f->resp.head.data + 3);
  assert_true(f->resp.head.capacity <= 2 * LARGEST_CAP);
}

static void a_repeated_attempt_starts_clean(void **state)
{
  struct fixture *f = *state;
  line(f, "HTTP/1.1 200 OK\r\n");
  line(f, "A: 1\r\n");
  line(f, "B: 2\r\n");
  line(f, "\r\n");
  has_headers(f, 2, (const char *const[][2]){{"A", "1"}, {"B", "2"}});
  assert_int_equal(cpool__response_body_data(&f->resp, "body", 4, 100, -1), CPOOL__RESPONSE_OK);
  f->resp.queue_us = f->resp.dns_us = f->resp.connect_us = f->resp.tls_us = f->resp.first_byte_us = 5;
  cpool__response_restart(&f->resp);
  cpool_response_info info;
  cpool_response_info_init(&info);
  assert_int_equal(cpool_response_info_get(&f->resp, &info), CPOOL_OK);
  assert_int_equal(info.queue_us, 5);
  assert_true(info.dns_us == CPOOL_OFF && info.connect_us == CPOOL_OFF && info.tls_us == CPOOL_OFF &&
              info.first_byte_us == CPOOL_OFF);
  size_t len = 9;
  assert_string_equal(cpool_response_body(&f->resp, &len), "");
  assert_int_equal(len, 0);
  has_headers(f, 0, NULL);
  line(f, "HTTP/1.1 201 Created\r\n");
  line(f, "CC: 3\r\n");
  line(f, "\r\n");
  has_headers(f, 1, (const char *const[][2]){{"CC", "3"}});
  assert_int_equal(cpool_response_status(&f->resp), 201);
}

static void a_body_is_followed_by_a_nul(void **state)
{
  struct fixture *f = *state;
  size_t len = 1;
  assert_string_equal(cpool_response_body(&f->resp, &len), "");
  assert_int_equal(len, 0);
  for (size_t i = 1; i <= 5000; i++) {
    assert_int_equal(cpool__response_body_data(&f->resp, "x", 1, 5000, i == 1 ? 3 : -1), CPOOL__RESPONSE_OK);
    const char *body = cpool_response_body(&f->resp, &len);
    assert_int_equal(len, i);
    assert_true(f->resp.body.capacity > len);
    assert_int_equal(body[len], '\0');
  }
  assert_int_equal(cpool__response_body_data(&f->resp, NULL, 0, 5000, -1), CPOOL__RESPONSE_OK);
  assert_int_equal(cpool__response_body_data(&f->resp, "x", 1, 5000, -1), CPOOL__RESPONSE_OVER_CAP);
}

static void a_body_is_kept_up_to_its_cap(void **state)
{
  struct fixture *f = *state;
  size_t len;
  assert_int_equal(cpool__response_body_data(&f->resp, "12345", 5, 8, -1), CPOOL__RESPONSE_OK);
  assert_int_equal(cpool__response_body_data(&f->resp, "67890", 5, 8, -1), CPOOL__RESPONSE_OVER_CAP);
  assert_string_equal(cpool_response_body(&f->resp, &len), "12345678");
  assert_int_equal(len, 8);
  cpool__response_restart(&f->resp);
  assert_int_equal(cpool__response_body_data(&f->resp, "12345", 5, SIZE_MAX, INT64_MAX), CPOOL__RESPONSE_OK);
}

static void an_announced_length_is_believed_up_to_a_mebibyte(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(cpool__response_body_data(&f->resp, "x", 1, (size_t) INT64_MAX, INT64_MAX), CPOOL__RESPONSE_OK);
  assert_int_equal(f->resp.body.capacity, 1024 * 1024 + 1);
  cpool__response_fini(&f->resp);
  assert_int_equal(cpool__response_body_data(&f->resp, "x", 1, 1 << 20, 1000), CPOOL__RESPONSE_OK);
  assert_int_equal(f->resp.body.capacity, 1001);
  cpool__response_fini(&f->resp);
  assert_int_equal(cpool__response_body_data(&f->resp, "xyz", 3, 10, 1000), CPOOL__RESPONSE_OK);
  assert_int_equal(f->resp.body.capacity, 11);
}

static void shortage_of_memory_is_told_and_changes_nothing(void **state)
{
  struct fixture *f = *state;
  line(f, "HTTP/1.1 200 OK\r\n");
  f->refuse = true;
  assert_int_equal(line_of(f, "A: b\r\n", 6, CAP), CPOOL__RESPONSE_NO_MEMORY);
  assert_int_equal(cpool__response_body_data(&f->resp, "x", 1, CAP, -1), CPOOL__RESPONSE_NO_MEMORY);
  assert_string_equal(cpool_response_body(&f->resp, NULL), "");
  has_headers(f, 0, NULL);
  f->refuse = false;
  line(f, "A: b\r\n");
  has_headers(f, 1, (const char *const[][2]){{"A", "b"}});
}

static void a_failure_tells_its_detail(void **state)
{
  struct fixture *f = *state;
  cpool_error detail, out;
  cpool_error_init(&out);
  assert_int_equal(cpool_response_error_get(&f->resp, &out), CPOOL_OK);
  assert_int_equal(out.status, CPOOL_OK);
  assert_string_equal(out.text, "");
  cpool__error_set(&detail, CPOOL_ERESET, CPOOL_LAYER_HTTP, 104, CPOOL_ERROR_RETRIABLE, "reset by %s", "peer");
  cpool__response_fail(&f->resp, &detail);
  assert_int_equal(cpool_response_error_get(&f->resp, &out), CPOOL_OK);
  assert_memory_equal(&out, &detail, sizeof out);
  assert_int_equal(f->resp.status, CPOOL_ERESET);
}

static void without_memory_a_failure_still_has_its_status(void **state)
{
  struct fixture *f = *state;
  cpool_error detail, out;
  cpool_error_init(&out);
  cpool__error_set(&detail, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, 0, "detail");
  f->refuse = true;
  cpool__response_fail(&f->resp, &detail);
  assert_int_equal(cpool_response_error_get(&f->resp, &out), CPOOL_OK);
  assert_int_equal(out.status, CPOOL_ENOMEM);
  assert_string_equal(out.text, "out of memory");
}

static void info_names_the_peer(void **state)
{
  struct fixture *f = *state;
  cpool_response_info info;
  cpool_response_info_init(&info);
  assert_int_equal(cpool_response_info_get(&f->resp, &info), CPOOL_OK);
  assert_string_equal(info.remote_address, "");
  assert_int_equal(info.queue_us, CPOOL_OFF);
  assert_int_equal(info.total_us, CPOOL_OFF);
  assert_true(cpool__address_parse(&f->resp.remote, "2001:db8::1", 443));
  assert_int_equal(cpool_response_info_get(&f->resp, &info), CPOOL_OK);
  assert_string_equal(info.remote_address, "[2001:db8::1]:443");
  f->resp.remote.sock.any.sa_family = AF_UNIX;
  assert_int_equal(cpool_response_info_get(&f->resp, &info), CPOOL_OK);
  assert_string_equal(info.remote_address, "unix");
}

static void an_older_callers_info_is_filled_as_far_as_it_goes(void **state)
{
  struct fixture *f = *state;
  cpool_response_info info;
  memset(&info, 0x55, sizeof info);
  cpool_response_info_init_sized(&info, offsetof(cpool_response_info, bytes_sent));
  f->resp.attempts = 2;
  f->resp.bytes_sent = 9;
  assert_int_equal(cpool_response_info_get(&f->resp, &info), CPOOL_OK);
  assert_int_equal(info.attempts, 2);
  assert_int_equal(info.bytes_sent, UINT64_C(0x5555555555555555));
}

static void null_is_tolerated(void **state)
{
  struct fixture *f = *state;
  size_t len = 7;
  const char *name;
  cpool_response_info info;
  cpool_error err;
  cpool_response_info_init(&info);
  cpool_error_init(&err);
  assert_int_equal(cpool_response_status(NULL), 0);
  assert_null(cpool_response_body(NULL, &len));
  assert_int_equal(len, 0);
  assert_null(cpool_response_body(NULL, NULL));
  assert_null(cpool_response_header(NULL, "A"));
  assert_null(cpool_response_header(&f->resp, NULL));
  assert_int_equal(cpool_response_header_at(NULL, 0, &name, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_response_info_get(NULL, &info), CPOOL_EINVAL);
  assert_int_equal(cpool_response_info_get(&f->resp, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_response_error_get(NULL, &err), CPOOL_EINVAL);
  assert_int_equal(cpool_response_error_get(&f->resp, NULL), CPOOL_EINVAL);
  line(f, "HTTP/1.1 200 OK\r\n");
  line(f, "A: b\r\n");
  assert_int_equal(cpool_response_header_at(&f->resp, 0, NULL, NULL), CPOOL_OK);
  assert_int_equal(cpool_response_header_at(&f->resp, SIZE_MAX, NULL, NULL), CPOOL_EINVAL);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      CASE(an_answer_is_read_as_it_was_sent),
      CASE(versions_are_10_and_11),
      CASE(interim_answers_leave_nothing_behind),
      CASE(interim_answers_count_against_the_cap),
      CASE(trailers_are_ignored),
      CASE(malformed_lines_are_ignored),
      CASE(values_hold_no_control_bytes),
      CASE(folded_lines_continue_the_value),
      CASE(every_byte_of_a_head_counts_against_the_cap),
      CASE(as_many_headers_as_fit_are_read_in_linear_time),
      CASE(a_repeated_attempt_starts_clean),
      CASE(a_body_is_followed_by_a_nul),
      CASE(a_body_is_kept_up_to_its_cap),
      CASE(an_announced_length_is_believed_up_to_a_mebibyte),
      CASE(shortage_of_memory_is_told_and_changes_nothing),
      CASE(a_failure_tells_its_detail),
      CASE(without_memory_a_failure_still_has_its_status),
      CASE(info_names_the_peer),
      CASE(an_older_callers_info_is_filled_as_far_as_it_goes),
      CASE(null_is_tolerated),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
