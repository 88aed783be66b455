/* wait: time, waiting on a condition with a deadline, scratch directories, ports and counts that every test needs */
#include "support/wait.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_EVERY_MS = 1 };

int64_t now_us(void)
{
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t now_ms(void)
{
  return now_us() / 1000;
}

bool wait_until(wait_fn *holds, void *ctx, int64_t timeout_ms)
{
  int64_t end_ms = now_ms() + timeout_ms;
  for (;;) {
    if (holds(ctx))
      return true;
    if (now_ms() >= end_ms)
      return false;
    (void) poll(NULL, 0, LOOK_EVERY_MS);
  }
}

short wait_fd(int fd, short events, int64_t timeout_ms)
{
  struct pollfd pfd = {.fd = fd, .events = events};
  int64_t end_ms = now_ms() + timeout_ms;
  for (;;) {
    int64_t left_ms = end_ms - now_ms();
    int ready = poll(&pfd, 1, left_ms < 0 ? 0 : left_ms > INT_MAX ? INT_MAX : (int) left_ms);
    if (ready > 0)
      return pfd.revents;
    if (ready == 0 || errno != EINTR)
      return 0;
  }
}

void support_die(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  fputs("test support: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  abort();
}

char *temp_dir_new(void)
{
  const char *root = getenv("TMPDIR");
  if (root == NULL || root[0] == '\0')
    root = "/tmp";
  char *dir = NULL;
  if (asprintf(&dir, "%s/cpool-test-XXXXXX", root) < 0 || mkdtemp(dir) == NULL)
    support_die("no temporary directory in %s: %s", root, strerror(errno));
  return dir;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
  (void) st;
  (void) type;
  (void) at;
  (void) remove(path);
  return 0;
}

void temp_dir_free(char *dir)
{
  if (dir == NULL)
    return;
  (void) nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  free(dir);
}

void write_file(const char *path, const void *data, size_t len)
{
  FILE *file = fopen(path, "we");
  if (file == NULL || fwrite(data, 1, len, file) != len || fclose(file) != 0)
    support_die("cannot write %s: %s", path, strerror(errno));
}

/* A bound loopback socket; *port 0 takes a free one and tells it. -1: the port is taken. */
static int bound_socket(int type, uint16_t *port)
{
  struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(*port)};
  socklen_t len = sizeof addr;
  addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
  if (fd < 0)
    support_die("no socket: %s", strerror(errno));
  if (bind(fd, (struct sockaddr *) &addr, sizeof addr) != 0 || getsockname(fd, (struct sockaddr *) &addr, &len) != 0) {
    close(fd);
    return -1;
  }
  *port = ntohs(addr.sin_port);
  return fd;
}

uint16_t unused_port(void)
{
  for (int tries = 0; tries < 100; tries++) {
    uint16_t port = 0;
    int tcp = bound_socket(SOCK_STREAM, &port);
    int udp = tcp < 0 ? -1 : bound_socket(SOCK_DGRAM, &port);
    if (tcp >= 0)
      close(tcp);
    if (udp >= 0) {
      close(udp);
      return port;
    }
  }
  support_die("no free loopback port");
}

int refusing_port_open(uint16_t *port)
{
  *port = 0;
  int fd = bound_socket(SOCK_STREAM, port);
  if (fd < 0)
    support_die("no free loopback port");
  return fd;
}

static int32_t entry_count(const char *path)
{
  DIR *dir = opendir(path);
  if (dir == NULL)
    support_die("cannot read %s: %s", path, strerror(errno));
  int32_t count = 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
    count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

int32_t open_fd_count(void)
{
  return entry_count("/proc/self/fd") - 1;
}

int32_t thread_count(void)
{
  return entry_count("/proc/self/task");
}
