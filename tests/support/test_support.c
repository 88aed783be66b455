/* The real servers start, serve what process.h says, and are gone after the stop; so are their files and fds. */
#include "support/fault_server.h"
#include "support/process.h"
#include "support/raw_client.h"
#include "support/wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { DEADLINE_MS = 5000, QUIET_MS = 30 };

static bool never(void *ctx)
{
  ++*(int *) ctx;
  return false;
}

static bool is_gone(void *ctx)
{
  return kill(*(pid_t *) ctx, 0) != 0 && errno == ESRCH;
}

static void wait_until_ends_at_the_deadline(void **state)
{
  int looks = 0;
  (void) state;
  int64_t before_ms = now_ms();
  assert_false(wait_until(never, &looks, 20));
  assert_in_range(now_ms() - before_ms, 20, 2000);
  assert_true(looks > 1);
  looks = 0;
  assert_false(wait_until(never, &looks, 0));
  assert_true(looks >= 1);
}

static void temp_dirs_vanish_with_their_contents(void **state)
{
  char path[256];
  (void) state;
  char *dir = temp_dir_new();
  char *copy = strdup(dir);
  snprintf(path, sizeof path, "%s/file", dir);
  write_file(path, "x", 1);
  assert_int_equal(access(path, R_OK), 0);
  temp_dir_free(dir);
  assert_int_not_equal(access(copy, F_OK), 0);
  free(copy);
}

static int dial(uint16_t port)
{
  int fd = raw_connect(NULL, port, DEADLINE_MS);
  assert_true(fd >= 0);
  return fd;
}

static void assert_serves(int fd, const char *path)
{
  char body[64];
  assert_true(fd >= 0);
  assert_int_equal(raw_request(fd, "GET", path, body, sizeof body), 200);
  assert_string_equal(body, "hello\n");
}

static bool holds_text(const char *dir, const char *name, const char *text)
{
  char path[300], all[4096];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return false;
  size_t len = fread(all, 1, sizeof all - 1, file);
  all[len] = '\0';
  fclose(file);
  return strstr(all, text) != NULL;
}

static bool log_has_requests(void *ctx)
{
  return holds_text(ctx, "access.log", " 1 \"GET / HTTP/1.1\" 200 localhost") &&
         holds_text(ctx, "access.log", " 2 \"GET /ok HTTP/1.1\" 200 localhost");
}

static void nginx_serves_on_all_its_listeners(void **state)
{
  (void) state;
  int32_t fds = open_fd_count();
  struct certs *certs = certs_new();
  struct process *nginx = nginx_start(
      &(struct nginx_options){.certs = certs, .unix_listener = true, .http2 = true, .access_log = true, .workers = 2});
  assert_non_null(nginx);
  int plain = dial(process_port(nginx)), tls = dial(process_tls_port(nginx));
  int local = raw_connect_unix(process_unix_path(nginx));
  char *big;
  size_t len;
  assert_serves(plain, "/");
  assert_serves(plain, "/ok");
  assert_int_equal(raw_request(plain, "POST", "/ok", NULL, 0), 200);
  assert_serves(local, "/");
  assert_int_equal(raw_request(plain, "GET", "/stats", NULL, 0), 200);
  assert_true(raw_send(plain, "GET /big HTTP/1.0\r\n\r\n"));
  assert_int_equal(raw_read(plain, 0, DEADLINE_MS, &big, &len), RAW_FIN);
  assert_true(len > 1024 * 1024);
  for (size_t i = 0; i < 1024 * 1024; i++)
    assert_true(big[len - 1024 * 1024 + i] == fault_pattern((int64_t) i));
  free(big);
  assert_int_equal(raw_request(tls, "GET", "/", NULL, 0), 400); /* nginx answers plain HTTP on a TLS port so */
  assert_true(wait_until(log_has_requests, (char *) (uintptr_t) process_dir(nginx), DEADLINE_MS));
  close(plain);
  close(tls);
  close(local);
  char *dir = strdup(process_dir(nginx));
  pid_t pid = process_pid(nginx);
  process_stop(nginx);
  assert_true(is_gone(&pid));
  assert_int_not_equal(access(dir, F_OK), 0);
  free(dir);
  certs_free(certs);
  assert_int_equal(open_fd_count(), fds);
}

static void nginx_closes_idle_connections_as_told(void **state)
{
  char *text;
  size_t len;
  (void) state;
  struct process *nginx = nginx_start(&(struct nginx_options){.keepalive_timeout_ms = 50, .keepalive_requests = 3});
  assert_non_null(nginx);
  int fd = dial(process_port(nginx));
  assert_serves(fd, "/");
  assert_int_equal(raw_read(fd, 0, DEADLINE_MS, &text, &len), RAW_FIN);
  assert_int_equal(len, 0);
  free(text);
  close(fd);
  fd = dial(process_port(nginx));
  for (int i = 0; i < 3; i++)
    assert_serves(fd, "/ok");
  assert_int_equal(raw_read(fd, 0, DEADLINE_MS, &text, &len), RAW_FIN);
  free(text);
  close(fd);
  process_stop(nginx);
}

static void haproxy_forwards_and_reuses(void **state)
{
  char *text;
  size_t len;
  struct fault_counts counts;
  (void) state;
  struct fault_server *origin = fault_server_start(&(struct fault_options){0});
  struct process *haproxy = haproxy_start(&(struct haproxy_options){.backend_port = fault_server_port(origin),
                                                                    .http_reuse = "always",
                                                                    .http_keep_alive_ms = 50});
  assert_non_null(haproxy);
  int fd = dial(process_port(haproxy));
  for (int i = 0; i < 3; i++)
    assert_int_equal(raw_request(fd, "GET", "/ok", NULL, 0), 200);
  assert_int_equal(raw_read(fd, 0, DEADLINE_MS, &text, &len), RAW_FIN);
  free(text);
  close(fd);
  fault_server_counts(origin, &counts);
  assert_int_equal(counts.requests, 3);
  assert_int_equal(counts.accepted, 1);
  process_stop(haproxy);
  haproxy = haproxy_start(&(struct haproxy_options){.backend_port = fault_server_port(origin), .http_close = true});
  assert_non_null(haproxy);
  fd = dial(process_port(haproxy));
  assert_int_equal(raw_request(fd, "GET", "/ok", NULL, 0), 200);
  assert_int_equal(raw_read(fd, 0, DEADLINE_MS, &text, &len), RAW_FIN);
  free(text);
  close(fd);
  process_stop(haproxy);
  fault_server_stop(origin);
}

static void dnsmasq_answers_its_records(void **state)
{
  static const uint8_t query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01"
                                 "a\x04test\x00\x00\x01\x00";
  uint8_t answer[512];
  (void) state;
  struct process *dnsmasq = dnsmasq_start(
      &(struct dnsmasq_options){.lines = (const char *const[]){"address=/a.test/127.0.0.5", NULL}, .local_ttl_s = 33});
  assert_non_null(dnsmasq);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(process_port(dnsmasq))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(fd, (struct sockaddr *) &to, sizeof to), 0);
  uint8_t message[sizeof query];
  memcpy(message, query, sizeof query);
  message[sizeof query - 1] = 1; /* class IN, in place of the literal's NUL */
  assert_int_equal(send(fd, message, sizeof message, 0), sizeof message);
  assert_true(wait_fd(fd, POLLIN, DEADLINE_MS) != 0);
  ssize_t len = recv(fd, answer, sizeof answer, 0);
  assert_true(len > 10);
  static const uint8_t tail[] = {0, 0, 0, 33, 0, 4, 127, 0, 0, 5};
  assert_memory_equal(answer + len - 10, tail, 10);
  close(fd);
  process_stop(dnsmasq);
}

static void nghttpd_speaks_http2(void **state)
{
  static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  char *text;
  size_t len;
  (void) state;
  struct process *nghttpd = nghttpd_start(&(struct nghttpd_options){.max_streams = 7});
  assert_non_null(nghttpd);
  int fd = dial(process_port(nghttpd));
  assert_true(raw_send(fd, preface));
  assert_int_equal(raw_read(fd, 9, DEADLINE_MS, &text, &len), RAW_OPEN);
  assert_int_equal(len, 9);
  assert_int_equal(text[3], 4); /* SETTINGS */
  free(text);
  close(fd);
  process_stop(nghttpd);
}

static void a_child_that_cannot_start_is_reported(void **state)
{
  (void) state;
  int32_t fds = open_fd_count();
  int saved = dup(2);
  assert_non_null(freopen("/dev/null", "w", stderr));
  struct process *nginx = nginx_start(&(struct nginx_options){.server_lines = "no_such_directive on;"});
  fflush(stderr);
  dup2(saved, 2);
  close(saved);
  assert_null(nginx);
  assert_int_equal(open_fd_count(), fds);
}

/* A middle process starts the servers and is killed; as the subreaper this test inherits what it leaves behind. */
static void servers_die_with_the_test(void **state)
{
  enum { SERVERS = 4 };
  pid_t pids[SERVERS] = {0};
  int ends[2];
  (void) state;
  char *dir = temp_dir_new();
  assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  assert_int_equal(pipe(ends), 0);
  pid_t middle = fork();
  if (middle == 0) {
    setenv("TMPDIR", dir, 1); /* nobody is left to remove the servers' directories */
    struct process *started[SERVERS] = {nginx_start(NULL), haproxy_start(NULL), dnsmasq_start(NULL),
                                        nghttpd_start(NULL)};
    for (int i = 0; i < SERVERS; i++)
      pids[i] = started[i] != NULL ? process_pid(started[i]) : -1;
    (void) !write(ends[1], pids, sizeof pids);
    for (;;)
      pause();
  }
  assert_true(wait_fd(ends[0], POLLIN, DEADLINE_MS) != 0);
  assert_int_equal(read(ends[0], pids, sizeof pids), sizeof pids);
  assert_int_equal(kill(middle, SIGKILL), 0);
  assert_int_equal(waitpid(middle, NULL, 0), middle);
  int64_t end_ms = now_ms() + DEADLINE_MS;
  for (int i = 0; i < SERVERS; i++) {
    assert_true(pids[i] > 0);
    pid_t ended;
    while ((ended = waitpid(pids[i], NULL, WNOHANG)) == 0 && now_ms() < end_ms)
      (void) poll(NULL, 0, 1);
    assert_int_equal(ended, pids[i]);
  }
  while (waitpid(-1, NULL, WNOHANG) > 0) { /* their workers, if they came here */
  }
  close(ends[0]);
  close(ends[1]);
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  temp_dir_free(dir);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(wait_until_ends_at_the_deadline),
      cmocka_unit_test(temp_dirs_vanish_with_their_contents),
      cmocka_unit_test(nginx_serves_on_all_its_listeners),
      cmocka_unit_test(nginx_closes_idle_connections_as_told),
      cmocka_unit_test(haproxy_forwards_and_reuses),
      cmocka_unit_test(dnsmasq_answers_its_records),
      cmocka_unit_test(nghttpd_speaks_http2),
      cmocka_unit_test(a_child_that_cannot_start_is_reported),
      cmocka_unit_test(servers_die_with_the_test),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
