/* test_examples: every example does what its first comment says, and cpool-fetch what its usage says */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <sys/stat.h>

#include <cjson/cJSON.h>

#include "behaviour/examples_fixture.h"
#include "support/certs.h"
#include "support/process.h"
#include "support/fault_proxy.h"
#include "support/process.h"

static void assert_contains(const char *text, const char *part)
{
  if (strstr(text, part) == NULL)
    fail_msg("\"%s\" is not in: %s", part, text);
}

static int count_of(const char *text, const char *part)
{
  int count = 0;
  for (; (text = strstr(text, part)) != NULL; text += strlen(part))
    count++;
  return count;
}

/* A URL that nobody listens on, for as long as the returned fd is open. */
static int refusing_url(char out[64])
{
  uint16_t port;
  int fd = refusing_port_open(&port);
  snprintf(out, 64, "http://127.0.0.1:%u/", port);
  return fd;
}

/* ------------------------------------------------------------------------------------------------- the short examples */

static void get_prints_the_body(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(RUN(f, "get", url(f, "/ok")), 0);
  assert_string_equal(f->out, "hello");
  assert_contains(f->err, "HTTP 200, 5 bytes");
}

static void get_tells_answered_failed_and_refused_apart(void **state)
{
  struct fixture *f = *state;
  char closed[64];
  int fd = refusing_url(closed);
  assert_int_equal(RUN(f, "get", url(f, "/status/404")), 0);
  assert_contains(f->err, "HTTP 404");
  assert_int_equal(RUN(f, "get", closed), 1);
  assert_contains(f->err, "CPOOL_ECONNECT: ");
  assert_int_equal(RUN(f, "get", "ftp://127.0.0.1/"), 1);
  assert_contains(f->err, "cpool_get: CPOOL_EINVAL: ");
  assert_string_equal(f->out, "");
  assert_int_equal(RUN(f, "get"), 2);
  close(fd);
}

static void many_prints_each_outcome_once(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(RUN(f, "many", url(f, "/delay/50"), url(f, "/status/500"), url(f, "/ok")), 0);
  assert_int_equal(count_of(f->out, "\n"), 3);
  assert_contains(f->out, "/delay/50: HTTP 200 in ");
  assert_contains(f->out, "/status/500: HTTP 500 in ");
  assert_contains(f->out, "/ok: HTTP 200 in ");
  assert_int_equal(RUN(f, "many", "bad:", url(f, "/reset-before-answer"), url(f, "/ok")), 1);
  assert_int_equal(count_of(f->out, "\n"), 2);
  assert_contains(f->err, "bad:: CPOOL_EINVAL: ");
}

static void uv_loop_returns_by_itself_and_runs_the_hosts_timer_meanwhile(void **state)
{
  struct fixture *f = *state;
  int ticks = 0;
  assert_int_equal(RUN(f, "uv_loop", url(f, "/delay/100"), url(f, "/ok")), 0);
  assert_string_equal(f->out, "HTTP 200, 5 bytes\nHTTP 200, 5 bytes\n");
  assert_int_equal(sscanf(f->err, "the timer of the host ran %d times", &ticks), 1);
  assert_true(ticks > 1);
  assert_int_equal(RUN(f, "uv_loop", "bad:"), 1);
  assert_int_equal(RUN(f, "uv_loop", url(f, "/reset-before-answer")), 1);
}

static void poll_loop_fetches_its_url_and_each_line_of_its_input(void **state)
{
  struct fixture *f = *state;
  char input[512];
  assert_int_equal(RUN(f, "poll_loop", url(f, "/delay/50")), 0);
  assert_string_equal(f->out, "HTTP 200\n");
  snprintf(input, sizeof input, "%s\n\n%s\n%s", url(f, "/ok"), url(f, "/ok"), url(f, "/ok"));
  assert_int_equal(RUN_INPUT(f, input, "poll_loop", "-"), 0);
  assert_string_equal(f->out, "HTTP 200\nHTTP 200\nHTTP 200\n");
  assert_int_equal(RUN_INPUT(f, "bad:\n", "poll_loop", "-"), 1);
}

static void download_makes_a_file_of_a_whole_answer_alone(void **state)
{
  struct fixture *f = *state;
  static const char *const failing[] = {"/status/404", "/fin-midbody", "/reset-before-answer"};
  static const char *const reasons[] = {"HTTP 404", "lost in the middle", "lost before"};
  char path[PATH_BYTES], part[PATH_BYTES + 8];
  snprintf(path, sizeof path, "%s/body", f->dir);
  snprintf(part, sizeof part, "%s.part", path);
  assert_int_equal(RUN(f, "download", url(f, "/redirect-to?/bytes/3000000"), path), 0);
  assert_string_equal(f->err, ""); /* no bar without a terminal */
  char *body = read_text(f, "body");
  assert_int_equal(strlen(body), 3000000);
  for (int i = 0; i < 3000000; i++)
    if (body[i] != fault_pattern(i))
      fail_msg("byte %d", i);
  free(body);
  for (size_t i = 0; i < sizeof failing / sizeof *failing; i++) {
    assert_int_equal(RUN(f, "download", url(f, failing[i]), path), 1);
    assert_contains(f->err, reasons[i]);
    body = read_text(f, "body");
    assert_int_equal(strlen(body), 3000000); /* the old one */
    free(body);
    assert_int_equal(access(part, F_OK), -1);
  }
  assert_int_equal(RUN(f, "download", "ftp://127.0.0.1/", path), 1);
  assert_contains(f->err, "CPOOL_EINVAL");
  assert_int_equal(RUN(f, "download", url(f, "/ok"), "/does/not/exist"), 1);
  assert_contains(f->err, "No such file");
  assert_int_equal(RUN(f, "download", url(f, "/ok")), 2);
}

static void upload_sends_files_with_their_length_and_pipes_chunked(void **state)
{
  struct fixture *f = *state;
  enum { BYTES = 3000000 };
  char path[PATH_BYTES], *sent = malloc(BYTES + 1);
  assert_non_null(sent);
  for (int i = 0; i < BYTES; i++)
    sent[i] = fault_pattern(i);
  sent[BYTES] = '\0';
  snprintf(path, sizeof path, "%s/body", f->dir);
  write_file(path, sent, BYTES);
  assert_int_equal(RUN(f, "upload", path, url(f, "/echo")), 0);
  assert_true(strcmp(f->out, sent) == 0);
  char *head = fault_server_last_head(f->server);
  assert_contains(head, "PUT /echo ");
  assert_contains(head, "\r\nContent-Length: 3000000\r\n");
  free(head);
  int pipe_fds[2];
  assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
  snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), pipe_fds[0]); /* a file whose length nobody knows */
  start(f, "upload", (const char *const[]){path, url(f, "/echo"), NULL}, NULL, -1);
  for (size_t at = 0; at < 200000;) {
    ssize_t written = write(pipe_fds[1], sent + at, 200000 - at);
    assert_true(written > 0);
    at += (size_t) written;
  }
  close(pipe_fds[1]);
  assert_int_equal(end(f), 0);
  close(pipe_fds[0]);
  assert_int_equal(strlen(f->out), 200000);
  assert_true(strncmp(f->out, sent, 200000) == 0);
  head = fault_server_last_head(f->server);
  assert_contains(head, "\r\nTransfer-Encoding: chunked\r\n");
  free(head);
  free(sent);
}

static void upload_tells_what_became_of_it(void **state)
{
  struct fixture *f = *state;
  char path[PATH_BYTES], closed[64];
  int fd = refusing_url(closed);
  snprintf(path, sizeof path, "%s/body", f->dir);
  write_file(path, "hello", 5);
  assert_int_equal(RUN(f, "upload", path, closed), 1);
  assert_contains(f->err, "no address of the host accepted");
  assert_int_equal(RUN(f, "upload", path, url(f, "/status/500")), 1);
  assert_contains(f->err, "HTTP 500");
  assert_int_equal(RUN_INPUT(f, "", "upload", "-", url(f, "/echo")), 0); /* an empty body is one, too */
  assert_string_equal(f->out, "");
  assert_int_equal(RUN(f, "upload", "/does/not/exist", url(f, "/echo")), 1);
  assert_contains(f->err, "No such file");
  assert_int_equal(RUN(f, "upload", f->dir, url(f, "/echo")), 1);
  assert_contains(f->err, "Is a directory");
  assert_int_equal(RUN(f, "upload", path), 2);
  close(fd);
}

/* -------------------------------------------------------------------------------------------------------- cpool-fetch */

static double number(const cJSON *object, const char *key)
{
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
  if (!cJSON_IsNumber(item))
    fail_msg("no number %s", key);
  return cJSON_GetNumberValue(item);
}

/* RUN_JSON(f, status, ...): the object that `cpool-fetch --json ...` prints; the caller deletes it. */
#define RUN_JSON(f, status, ...)                                                                                       \
  json_of((f), (status), (const char *const[]){"cpool-fetch", "--json", __VA_ARGS__, NULL})

static cJSON *parse_output(struct fixture *f)
{
  cJSON *json = cJSON_Parse(f->out);
  if (json == NULL)
    fail_msg("not JSON: %s%s", f->out, f->err);
  assert_int_equal(number(json, "requests"), number(json, "ok") + number(json, "failed"));
  return json;
}

static cJSON *json_of(struct fixture *f, int status, const char *const *args)
{
  assert_int_equal(run_with_input(f, NULL, args), status);
  return parse_output(f);
}

static void bad_usage_is_one_reason_and_status_2(void **state)
{
  struct fixture *f = *state;
  static const struct {
    const char *args[5], *reason;
  } cases[] = {
      {{NULL}, "no URL"},
      {{"-"}, "no URL on standard input"},
      {{"-", "-"}, "-: standard input can be read once only"},
      {{"-n", "0", "http://u/"}, "-n 0: not a number from 1 to "},
      {{"-n", "-5", "http://u/"}, "-n -5: not a number"},
      {{"-n", "3x", "http://u/"}, "-n 3x: not a number"},
      {{"-n", "", "http://u/"}, "-n : not a number"},
      {{"-n", "99999999999999999999999", "http://u/"}, "-n 99999999999999999999999: not a number"},
      {{"-c", "0", "http://u/"}, "-c 0: not a number"},
      {{"-c", "1000000000", "http://u/"}, "-c 1000000000: not a number from 1 to 100000"},
      {{"--timeout", "0", "http://u/"}, "--timeout 0: not a number"},
      {{"--max-per-host", "x", "http://u/"}, "--max-per-host x: not a number"},
      {{"-H", "no colon", "http://u/"}, "-H no colon: not of the form"},
      {{"-d", "@/does/not/exist", "http://u/"}, "-d @/does/not/exist: No such file"},
      {{"-d", "@/", "http://u/"}, "-d @/: Is a directory"},
      {{"--cacert", "/does/not/exist", "http://u/"}, "--cacert /does/not/exist: No such file"},
      {{"http://u/", "-n"}, "-n needs a value"},
      {{"-z", "http://u/"}, "unknown option -z"},
      {{"--nonsense", "http://u/"}, "--nonsense: unknown option"},
      {{"--json=3", "http://u/"}, "--json takes no value"},
      {{"--proxy"}, "--proxy needs a value"},
      {{"--help=3", "http://u/"}, "--help takes no value"},
      {{"--cacert", "/", "http://u/"}, "--cacert /: Is a directory"},
      {{"-L", "-z", "http://u/"}, "unknown option -z"},
      {{"--location=3", "http://u/"}, "--location takes no value"},
      {{"-o"}, "-o needs a value"},
      {{"-o", "file", "-n", "2", "http://u/"}, "-o file: for one request only"},
      {{"-o", "file", "http://u/", "http://u/"}, "-o file: for one request only"},
      {{"-X", "G T", "http://u/"}, "-X G T: not a method"},
      {{"-X", "", "http://u/"}, "-X : not a method"},
      {{"-X", "CONNECT", "http://u/"}, "-X CONNECT: not available"},
      {{"nonsense"}, "nonsense: not an http or https URL"},
      {{"ftp://x/"}, "ftp://x/: not an http or https URL"},
      {{"http:///path"}, "http:///path: not an http or https URL"},
      {{"http://127.0.0.1:1/", "http//x"}, "http//x: not an http or https URL"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    start(f, "cpool-fetch", cases[i].args, NULL, -1);
    assert_int_equal(end(f), 2);
    char expected[128];
    snprintf(expected, sizeof expected, "cpool-fetch: %s", cases[i].reason);
    if (strncmp(f->err, expected, strlen(expected)) != 0)
      fail_msg("expected \"%s\": %s", expected, f->err);
    assert_string_equal(strchr(f->err, '\n'), "\ntry cpool-fetch --help\n");
    assert_string_equal(f->out, "");
  }
  assert_int_equal(RUN(f, "cpool-fetch", "-H", "Content-Length: 1", url(f, "/ok")), 2); /* the library refuses it */
  assert_int_equal(RUN(f, "cpool-fetch", "--proxy", "http://me:secret@127.0.0.1:1", url(f, "/ok")), 2);
  assert_contains(f->err, "cpool-fetch: session option proxy: user and password are not allowed in it");
  assert_int_equal(RUN(f, "cpool-fetch", "--proxy-user", "me:secret", url(f, "/ok")), 2);
  assert_string_equal(f->err, "cpool-fetch: session option proxy_username: not without proxy\n");
  assert_int_equal(RUN(f, "cpool-fetch", "-n", "100", "http://127.0.0.1:99999/"), 2);
  assert_int_equal(count_of(f->err, "\n"), 1);
  assert_int_equal(RUN(f, "cpool-fetch", "-n", "100", "-X", "HEAD", "-d", "body", url(f, "/ok")), 2);
  assert_contains(f->err, "cpool-fetch: request: HEAD has no body\n");
  assert_string_equal(f->out, "");
  assert_int_equal(fault_server_requests(f->server), 0);
  assert_int_equal(RUN(f, "cpool-fetch", "--help"), 0);
  assert_ptr_equal(strstr(f->out, "usage: "), f->out);
  assert_int_equal(RUN(f, "cpool-fetch", "--version"), 0);
  assert_contains(f->out, "cpool-fetch ");
}

static void answers_of_2xx_and_3xx_are_status_0(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(RUN(f, "cpool-fetch", url(f, "/ok"), url(f, "/204"), url(f, "/status/302")), 0);
  assert_contains(f->out, "requests        3 in ");
  assert_contains(f->out, "answered        3 ");
  assert_contains(f->out, "failed          0\n");
  assert_string_equal(f->err, ""); /* no bar without a terminal */
}

static void failures_are_one_line_for_each_reason(void **state)
{
  struct fixture *f = *state;
  char closed[64];
  int fd = refusing_url(closed);
  assert_int_equal(RUN(f, "cpool-fetch", "-n", "400", url(f, "/ok"), url(f, "/status/404"), url(f, "/status/503"),
                       closed),
                   1);
  assert_contains(f->out, "failed          300\n");
  assert_contains(f->out, "       100  HTTP 404\n");
  assert_contains(f->out, "       100  HTTP 503\n");
  assert_contains(f->out, "       100  CPOOL_ECONNECT  first: ");
  assert_true(count_of(f->out, "\n") < 20);
  assert_string_equal(f->err, "");
  close(fd);
}

static void lines_of_a_list_that_are_no_urls_are_counted_failures(void **state)
{
  struct fixture *f = *state;
  char input[512];
  snprintf(input, sizeof input, "no url\n%s\nftp://127.0.0.1/\n", url(f, "/ok"));
  assert_int_equal(RUN_INPUT(f, input, "cpool-fetch", "-"), 1);
  assert_contains(f->out, "requests        3 in ");
  assert_contains(f->out, "answered        1 ");
  assert_contains(f->out, "         2  CPOOL_EINVAL  first: no url refused: ");
  assert_contains(f->out, "\nsockets opened  1; ");
}

static void json_has_counts_errors_and_times(void **state)
{
  struct fixture *f = *state;
  cJSON *json = RUN_JSON(f, 1, "-n", "90", "-c", "3", url(f, "/delay/2"), url(f, "/status/404"), url(f, "/ok"));
  const cJSON *errors = cJSON_GetObjectItemCaseSensitive(json, "errors");
  assert_int_equal(number(json, "requests"), 90);
  assert_int_equal(number(json, "ok"), 60);
  assert_int_equal(number(errors, "HTTP 404"), 30);
  assert_int_equal(cJSON_GetArraySize(errors), 1);
  assert_true(number(json, "opened") >= 1 && number(json, "opened") <= 3);
  assert_int_equal(number(json, "opened") + number(json, "reused"), 90);
  assert_true(number(json, "bytes") > 90 * 5);
  assert_true(number(json, "wall_s") >= 0.02 && number(json, "cpu_s") > 0);
  static const char *const phases[] = {"latency_ms", "queue_ms", "connect_ms", "first_byte_ms"};
  for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) {
    const cJSON *phase = cJSON_GetObjectItemCaseSensitive(json, phases[i]);
    assert_true(number(phase, "count") > 0);
    assert_true(number(phase, "p50") <= number(phase, "p90") && number(phase, "p90") <= number(phase, "p99"));
    assert_true(number(phase, "p99") <= number(phase, "max"));
  }
  assert_true(number(cJSON_GetObjectItemCaseSensitive(json, "latency_ms"), "max") >= 2);
  cJSON_Delete(json);
}

struct held {
  struct fault_server *server;
  int64_t count;
};

static bool holds(void *arg)
{
  struct held *held = arg;
  struct fault_counts counts;
  fault_server_counts(held->server, &counts);
  return counts.held == held->count;
}

static void assert_held(struct fixture *f, int64_t count)
{
  struct held held = {f->server, count};
  assert_true(wait_until(holds, &held, RUN_MS));
}

static void the_concurrency_is_reached_and_never_exceeded(void **state)
{
  struct fixture *f = *state;
  const char *args[] = {"-n", "100", "-c", "40", "--json", url(f, "/hold"), NULL};
  start(f, "cpool-fetch", args, NULL, -1);
  assert_held(f, 40);
  for (int64_t left = 60; left > 0; left -= 15) {
    fault_server_release(f->server, 15);
    assert_held(f, 40); /* each that ends is followed by another */
  }
  fault_server_release(f->server, 40);
  assert_int_equal(end(f), 0);
  struct fault_counts counts;
  fault_server_counts(f->server, &counts);
  assert_int_equal(counts.requests, 100);
  assert_int_equal(counts.most_open, 40);
}

static void max_per_host_limits_the_connections(void **state)
{
  struct fixture *f = *state;
  cJSON *json = RUN_JSON(f, 0, "-n", "60", "-c", "20", "--max-per-host", "2", url(f, "/delay/1"));
  struct fault_counts counts;
  fault_server_counts(f->server, &counts);
  assert_int_equal(counts.most_open, 2);
  assert_int_equal(number(json, "opened"), 2);
  cJSON_Delete(json);
}

static void more_concurrency_than_requests_is_fine(void **state)
{
  struct fixture *f = *state;
  cJSON *json = RUN_JSON(f, 0, "-n", "3", "-c", "1000", url(f, "/ok"));
  assert_int_equal(number(json, "ok"), 3);
  cJSON_Delete(json);
}

static void bodies_beyond_the_queues_high_mark_are_no_failure(void **state)
{
  struct fixture *f = *state;
  cJSON *json = RUN_JSON(f, 0, "-n", "80", "-c", "40", url(f, "/bytes/4000000"));
  assert_int_equal(number(json, "ok"), 80);
  assert_true(number(json, "bytes") > 80 * 4e6);
  cJSON_Delete(json);
}

static void sse_prints_events_until_there_are_no_more(void **state)
{
  struct fixture *f = *state;
  const char *args[] = {url(f, "/events"), NULL};
  fault_server_answer_held(f->server, "/events",
                           "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 200\r\n\r\n"
                           "retry: 100\n\nid: 7\ndata: one\n\nevent: add\ndata: two\ndata: lines\n\n");
  start(f, "sse", args, NULL, -1);
  assert_held(f, 1);
  fault_server_release(f->server, 1);
  fault_server_answer(f->server, "/events", "HTTP/1.1 204 No Content\r\n\r\n"); /* to the next request: it is over */
  fault_server_drop_all(f->server);
  assert_int_equal(end(f), 0);
  assert_string_equal(f->out, "message [7] one\nadd [7] two\nlines\n");
  assert_int_equal(RUN(f, "sse", url(f, "/204")), 0);
  assert_string_equal(f->out, "");
  assert_int_equal(RUN(f, "sse", url(f, "/ok"), "41"), 1);
  assert_contains(f->err, "HTTP 200");
  char *head = fault_server_last_head(f->server);
  assert_contains(head, "\r\nLast-Event-ID: 41\r\n");
  free(head);
  assert_int_equal(RUN(f, "sse"), 2);
  assert_contains(f->err, "usage: ");
  assert_int_equal(RUN(f, "sse", "ftp://127.0.0.1/"), 1);
}

static void an_interrupt_cancels_reports_and_is_status_130(void **state)
{
  struct fixture *f = *state;
  const char *args[] = {"-n", "1000", "-c", "8", "--json", url(f, "/hold"), NULL};
  start(f, "cpool-fetch", args, NULL, -1);
  assert_held(f, 8);
  fault_server_release(f->server, 5);
  assert_held(f, 8);
  kill(f->pid, SIGINT);
  assert_int_equal(end(f), 130);
  cJSON *json = parse_output(f);
  assert_int_equal(number(json, "ok"), 5);
  assert_int_equal(number(cJSON_GetObjectItemCaseSensitive(json, "errors"), "CPOOL_ECANCELLED"), 8);
  cJSON_Delete(json);
}

static void a_server_that_dies_becomes_counted_failures(void **state)
{
  struct fixture *f = *state;
  const char *args[] = {"-n", "100", "-c", "8", "--json", url(f, "/hold"), NULL};
  start(f, "cpool-fetch", args, NULL, -1);
  assert_held(f, 8);
  fault_server_release(f->server, 2);
  assert_held(f, 8);
  fault_server_stop(f->server);
  f->server = NULL;
  assert_int_equal(end(f), 1);
  cJSON *json = parse_output(f);
  assert_int_equal(number(json, "requests"), 100);
  assert_int_equal(number(json, "ok"), 2);
  assert_true(number(cJSON_GetObjectItemCaseSensitive(json, "errors"), "CPOOL_ECONNECT") > 0);
  cJSON_Delete(json);
}

static void urls_come_from_standard_input(void **state)
{
  struct fixture *f = *state;
  char input[1024];
  snprintf(input, sizeof input, "%s\r\n\n  \t%s  \n \r\n%s", url(f, "/ok"), url(f, "/status/404"), url(f, "/ok"));
  assert_int_equal(RUN_INPUT(f, input, "cpool-fetch", "--json", "-"), 1);
  cJSON *json = parse_output(f);
  assert_int_equal(number(json, "requests"), 3);
  assert_int_equal(number(json, "ok"), 2);
  cJSON_Delete(json);
}

static void a_list_of_100_000_urls_is_fetched_as_far_as_n_says(void **state)
{
  struct fixture *f = *state;
  size_t line_bytes = strlen(url(f, "/ok")) + 1;
  char *input = malloc(100000 * line_bytes + 1);
  assert_non_null(input);
  for (int i = 0; i < 100000; i++)
    snprintf(input + (size_t) i * line_bytes, line_bytes + 1, "%s\n", url(f, "/ok"));
  int status = RUN_INPUT(f, input, "cpool-fetch", "--json", "-n", "200", "-");
  free(input);
  assert_int_equal(status, 0);
  assert_int_equal(fault_server_requests(f->server), 200);
}

static void method_headers_and_body_reach_the_server(void **state)
{
  struct fixture *f = *state;
  char path[PATH_BYTES], from_file[PATH_BYTES + 1];
  snprintf(path, sizeof path, "%s/body", f->dir);
  snprintf(from_file, sizeof from_file, "@%s", path);
  write_file(path, "a\0b", 3);
  assert_int_equal(RUN(f, "cpool-fetch", "-X", "PUT", "-H", "X-One: 1", "-H", "X-Two:2", "-d", from_file,
                       url(f, "/echo")),
                   0);
  size_t len = 0;
  char *head = fault_server_last_head(f->server), *body = fault_server_last_body(f->server, &len);
  assert_contains(head, "PUT /echo ");
  assert_contains(head, "\r\nX-One: 1\r\n");
  assert_contains(head, "\r\nX-Two: 2\r\n");
  assert_int_equal(len, 3);
  assert_memory_equal(body, "a\0b", 3);
  free(head);
  free(body);
  assert_int_equal(RUN(f, "cpool-fetch", "-d", "text", url(f, "/echo")), 0);
  head = fault_server_last_head(f->server);
  assert_contains(head, "POST /echo ");
  free(head);
}

static void a_request_ends_at_the_timeout(void **state)
{
  struct fixture *f = *state;
  cJSON *json = RUN_JSON(f, 1, "--timeout", "50", url(f, "/blackhole"));
  assert_int_equal(number(cJSON_GetObjectItemCaseSensitive(json, "errors"), "CPOOL_ETIMEOUT_TOTAL"), 1);
  cJSON_Delete(json);
}

static void cacert_decides_whom_to_trust(void **state)
{
  struct fixture *f = *state;
  struct certs *certs = certs_new();
  start_server(f,
               &(struct fault_options){.tls_cert_file = certs->good.cert_file, .tls_key_file = certs->good.key_file});
  int trusted = RUN(f, "cpool-fetch", "--cacert", certs->ca_file, url(f, "/ok"));
  int untrusted = RUN(f, "cpool-fetch", "--cacert", certs->other_ca_file, url(f, "/ok"));
  certs_free(certs);
  assert_int_equal(trusted, 0);
  assert_int_equal(untrusted, 1);
  assert_contains(f->out, "CPOOL_ETLS_VERIFY");
}

static void proxy_is_what_requests_go_through(void **state)
{
  struct fixture *f = *state;
  struct fault_proxy *proxies[] = {fault_proxy_start(&(struct fault_proxy_options){.user = "me", .password = "a:b"}),
                                   fault_proxy_start(
                                       &(struct fault_proxy_options){.socks = true, .user = "me", .password = "a:b"})};
  static const char *const schemes[] = {"http", "socks5"};
  for (int i = 0; i < 2; i++) {
    char proxy[64];
    snprintf(proxy, sizeof proxy, "%s://127.0.0.1:%u", schemes[i], (unsigned) fault_proxy_port(proxies[i]));
    int known = RUN(f, "cpool-fetch", "-n", "20", "-c", "1", "--proxy", proxy, "--proxy-user", "me:a:b", url(f, "/ok"));
    int64_t tunnels = fault_proxy_tunnels(proxies[i]);
    int unknown = RUN(f, "cpool-fetch", "--proxy", proxy, "--proxy-user", "me", url(f, "/ok"));
    fault_proxy_stop(proxies[i]);
    assert_int_equal(known, 0);
    assert_int_equal(tunnels, 1);
    assert_int_equal(unknown, 1);
    assert_contains(f->out, "CPOOL_EPROXY");
  }
}

static void http2_is_offered_when_asked_for(void **state)
{
  struct fixture *f = *state;
  struct certs *certs = certs_new();
  struct process *server = nghttpd_start(&(struct nghttpd_options){.certs = certs});
  assert_non_null(server);
  char text[64];
  snprintf(text, sizeof text, "https://127.0.0.1:%u/", process_port(server));
  int status = RUN(f, "cpool-fetch", "--json", "--http2", "--cacert", certs->ca_file, "-n", "40", "-c", "8", text);
  process_stop(server); /* speaks nothing else */
  certs_free(certs);
  assert_int_equal(status, 0);
  cJSON *json = parse_output(f);
  assert_int_equal(number(json, "ok"), 40);
  assert_int_equal(number(json, "opened"), 1);
  cJSON_Delete(json);
}

/* Reads on until the text read so far has `part`. */
static void read_until(int fd, char *text, size_t size, const char *part)
{
  size_t len = strlen(text);
  for (int64_t deadline_ms = now_ms() + RUN_MS; strstr(text, part) == NULL; text[len] = '\0') {
    if (len + 1 >= size || wait_fd(fd, POLLIN, deadline_ms - now_ms()) == 0)
      fail_msg("\"%s\" did not come: %s", part, text);
    ssize_t got = read(fd, text + len, size - 1 - len);
    len += got > 0 ? (size_t) got : 0;
  }
}

static void location_follows_redirects(void **state)
{
  struct fixture *f = *state;
  cJSON *json = RUN_JSON(f, 0, "-n", "20", url(f, "/redirect/2"));
  assert_int_equal(number(json, "redirects"), 0);
  assert_int_equal(fault_server_requests(f->server), 20);
  cJSON_Delete(json);
  json = RUN_JSON(f, 0, "-n", "20", "-L", url(f, "/redirect/2"));
  assert_int_equal(number(json, "redirects"), 60);
  assert_int_equal(number(json, "ok"), 20);
  assert_int_equal(fault_server_requests(f->server), 100);
  cJSON_Delete(json);
  json = RUN_JSON(f, 1, "--location", url(f, "/redirect/10"), url(f, "/redirect/9"), url(f, "/redirect-loop"));
  assert_int_equal(number(cJSON_GetObjectItemCaseSensitive(json, "errors"), "CPOOL_EREDIRECT"), 2);
  cJSON_Delete(json);
  assert_int_equal(RUN(f, "cpool-fetch", "-L", url(f, "/redirect/0")), 0);
  assert_contains(f->out, "redirects       1\n");
}

static void compressed_asks_for_coded_bodies_and_keeps_them_decoded(void **state)
{
  struct fixture *f = *state;
  char path[PATH_BYTES], big[64];
  struct process *nginx =
      nginx_start(&(struct nginx_options){.server_lines = "gzip on; gzip_min_length 1; gzip_types text/plain;"});
  assert_non_null(nginx);
  snprintf(path, sizeof path, "%s/body", f->dir);
  snprintf(big, sizeof big, "http://127.0.0.1:%u/big", (unsigned) process_port(nginx));
  int status = RUN(f, "cpool-fetch", "--compressed", "-o", path, big);
  cJSON *json = RUN_JSON(f, 0, "--compressed", big);
  process_stop(nginx);
  assert_int_equal(status, 0);
  char *body = read_text(f, "body");
  assert_int_equal(strlen(body), 1024 * 1024);
  assert_int_equal(body[1000000], fault_pattern(1000000));
  free(body);
  assert_true(number(json, "bytes") < 100000);
  cJSON_Delete(json);
}

/* Of the directory that the child's files are in, too. */
static int files_in(struct fixture *f)
{
  int count = 0;
  DIR *dir = opendir(f->dir);
  assert_non_null(dir);
  while (readdir(dir) != NULL)
    count++;
  closedir(dir);
  return count;
}

static void output_is_a_file_when_the_answer_is_whole(void **state)
{
  struct fixture *f = *state;
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/body", f->dir);
  assert_int_equal(RUN(f, "cpool-fetch", "-o", path, url(f, "/ok")), 0);
  assert_contains(f->out, "answered        1 ");
  char *body = read_text(f, "body");
  assert_string_equal(body, "hello");
  free(body);
  int files = files_in(f);
  assert_int_equal(RUN(f, "cpool-fetch", "-L", "-o", path, url(f, "/redirect-to?/bytes/3000000")), 0);
  body = read_text(f, "body");
  assert_int_equal(strlen(body), 3000000);
  assert_int_equal(body[2999999], fault_pattern(2999999));
  free(body);
  assert_int_equal(RUN(f, "cpool-fetch", "-o", "/dev/null", url(f, "/bytes/100000000")),
                   0); /* more than is collected */
  /* what fails leaves the old one, and nothing beside it */
  static const char *const failing[] = {"/status/404", "/fin-midbody", "/reset-before-answer"};
  for (size_t i = 0; i < sizeof failing / sizeof *failing; i++) {
    assert_int_equal(RUN(f, "cpool-fetch", "-o", path, url(f, failing[i])), 1);
    body = read_text(f, "body");
    assert_int_equal(strlen(body), 3000000);
    free(body);
  }
  assert_int_equal(files_in(f), files);
  assert_int_equal(RUN(f, "cpool-fetch", "-o", "/does/not/exist", url(f, "/ok")), 2);
  assert_contains(f->err, "cpool-fetch: -o /does/not/exist: No such file");
  assert_int_equal(RUN(f, "cpool-fetch", "-o", f->dir, url(f, "/ok")), 2);
  assert_contains(f->err, "Is a directory");
}

static void the_bar_of_an_output_is_of_its_bytes(void **state)
{
  struct fixture *f = *state;
  int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  assert_true(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
  int far_end = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
  static const struct {
    const char *path, *drawn;
  } cases[] = {{"/bytes/3000000", "] 100 %  3.0 of 3.0 MB  "}, {"/chunked/3000000", "\r3.0 MB  "}};
  for (size_t i = 0; i < 2; i++) {
    const char *args[] = {"-o", "/dev/null", url(f, cases[i].path), NULL};
    char drawn[16384] = "";
    start(f, "cpool-fetch", args, NULL, far_end);
    read_until(terminal, drawn, sizeof drawn, cases[i].drawn);
    read_until(terminal, drawn, sizeof drawn, "\n");
    assert_int_equal(end(f), 0);
  }
  close(far_end);
  close(terminal);
}

static void an_interrupted_output_leaves_nothing(void **state)
{
  struct fixture *f = *state;
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/body", f->dir);
  assert_int_equal(RUN(f, "cpool-fetch", url(f, "/ok")), 0);
  int files = files_in(f);
  const char *args[] = {"-o", path, url(f, "/hold-body"), NULL};
  start(f, "cpool-fetch", args, NULL, -1);
  assert_held(f, 1);
  kill(f->pid, SIGINT);
  assert_int_equal(end(f), 130);
  assert_int_equal(files_in(f), files);
}

static void output_to_what_is_no_file_is_written_in_place(void **state)
{
  struct fixture *f = *state;
  struct stat status;
  assert_int_equal(RUN(f, "cpool-fetch", "-o", "-", url(f, "/ok")), 0);
  assert_string_equal(f->out, "hello"); /* and the report is out of the way */
  assert_contains(f->err, "answered        1 ");
  assert_int_equal(RUN(f, "cpool-fetch", "--json", "-o", "-", url(f, "/status/404")), 1);
  assert_string_equal(f->out, "");
  assert_contains(f->err, "\"HTTP 404\":1");
  assert_int_equal(RUN(f, "cpool-fetch", "-o", "/dev/null", url(f, "/ok")), 0);
  assert_true(stat("/dev/null", &status) == 0 && S_ISCHR(status.st_mode));
  assert_int_equal(RUN(f, "cpool-fetch", "-o", "/dev/full", url(f, "/ok")), 1);
  assert_contains(f->err, "cpool-fetch: -o /dev/full: No space left");
  char path[PATH_BYTES], link[PATH_BYTES];
  snprintf(path, sizeof path, "%s/body", f->dir);
  snprintf(link, sizeof link, "%s/link", f->dir);
  write_file(path, "old", 3);
  assert_int_equal(symlink(path, link), 0);
  assert_int_equal(RUN(f, "cpool-fetch", "-o", link, url(f, "/ok")), 0);
  assert_true(lstat(link, &status) == 0 && S_ISLNK(status.st_mode));
  char *body = read_text(f, "body");
  assert_string_equal(body, "hello");
  free(body);
}

static void the_bar_is_for_terminals(void **state)
{
  struct fixture *f = *state;
  int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  assert_true(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
  int far_end = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
  const char *args[] = {"-n", "2", "-c", "1", url(f, "/hold"), NULL};
  char drawn[16384] = "";
  start(f, "cpool-fetch", args, NULL, far_end);
  for (int done = 0; done < 2; done++) {
    char progress[32];
    snprintf(progress, sizeof progress, "] %3d %%  %d/2  ", 50 * done, done);
    read_until(terminal, drawn, sizeof drawn, progress);
    assert_held(f, 1);
    fault_server_release(f->server, 1);
  }
  read_until(terminal, drawn, sizeof drawn, "] 100 %  2/2  ");
  read_until(terminal, drawn, sizeof drawn, "\n");
  assert_int_equal(end(f), 0);
  close(far_end);
  close(terminal);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest cases[] = {
      CASE(get_prints_the_body),
      CASE(get_tells_answered_failed_and_refused_apart),
      CASE(many_prints_each_outcome_once),
      CASE(uv_loop_returns_by_itself_and_runs_the_hosts_timer_meanwhile),
      CASE(poll_loop_fetches_its_url_and_each_line_of_its_input),
      CASE(sse_prints_events_until_there_are_no_more),
      CASE(download_makes_a_file_of_a_whole_answer_alone),
      CASE(upload_sends_files_with_their_length_and_pipes_chunked),
      CASE(upload_tells_what_became_of_it),
      CASE(bad_usage_is_one_reason_and_status_2),
      CASE(answers_of_2xx_and_3xx_are_status_0),
      CASE(failures_are_one_line_for_each_reason),
      CASE(lines_of_a_list_that_are_no_urls_are_counted_failures),
      CASE(json_has_counts_errors_and_times),
      CASE(the_concurrency_is_reached_and_never_exceeded),
      CASE(max_per_host_limits_the_connections),
      CASE(more_concurrency_than_requests_is_fine),
      CASE(bodies_beyond_the_queues_high_mark_are_no_failure),
      CASE(an_interrupt_cancels_reports_and_is_status_130),
      CASE(a_server_that_dies_becomes_counted_failures),
      CASE(urls_come_from_standard_input),
      CASE(a_list_of_100_000_urls_is_fetched_as_far_as_n_says),
      CASE(method_headers_and_body_reach_the_server),
      CASE(a_request_ends_at_the_timeout),
      CASE(cacert_decides_whom_to_trust),
      CASE(proxy_is_what_requests_go_through),
      CASE(location_follows_redirects),
      CASE(http2_is_offered_when_asked_for),
      CASE(compressed_asks_for_coded_bodies_and_keeps_them_decoded),
      CASE(output_is_a_file_when_the_answer_is_whole),
      CASE(the_bar_of_an_output_is_of_its_bytes),
      CASE(an_interrupted_output_leaves_nothing),
      CASE(output_to_what_is_no_file_is_written_in_place),
      CASE(the_bar_is_for_terminals),
  };
  return cmocka_run_group_tests(cases, NULL, NULL);
}
