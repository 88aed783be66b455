/* blackhole: a port that swallows connects: they neither finish nor fail until the kernel gives up after minutes */
#include "support/blackhole.h"

#include "support/wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FILL_MAX = 16, FULL_DEADLINE_MS = 2000 };

struct blackhole {
  int listen_fd;
  int fill_fds[FILL_MAX]; /* fill the accept queue for as long as they are open */
  int fill_count;
  uint16_t port;
};

union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

static bool parse_address(const char *text, uint16_t port, union address *out, socklen_t *len)
{
  memset(out, 0, sizeof *out);
  if (text == NULL)
    text = "127.0.0.1";
  if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons(port);
    *len = sizeof out->v4;
    return true;
  }
  if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) == 1) {
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons(port);
    *len = sizeof out->v6;
    return true;
  }
  errno = EINVAL;
  return false;
}

int listen_on(const char *address, uint16_t *port, int backlog)
{
  union address addr;
  socklen_t len;
  int on = 1;
  if (!parse_address(address, *port, &addr, &len))
    return -1;
  int fd = socket(addr.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, &addr.any, len) != 0 || listen(fd, backlog) != 0 || getsockname(fd, &addr.any, &len) != 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  *port = ntohs(addr.any.sa_family == AF_INET ? addr.v4.sin_port : addr.v6.sin6_port);
  return fd;
}

/* For a listener tcpi_unacked is the length of its accept queue and tcpi_sacked its limit; a SYN is dropped beyond. */
static bool is_full(void *ctx)
{
  int listen_fd = *(int *) ctx;
  struct tcp_info info;
  socklen_t len = sizeof info;
  return getsockopt(listen_fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_unacked > info.tcpi_sacked;
}

struct blackhole *blackhole_start(const char *address, uint16_t port)
{
  union address addr;
  socklen_t len;
  struct blackhole *hole = calloc(1, sizeof *hole);
  if (hole == NULL)
    return NULL;
  hole->port = port;
  hole->listen_fd = listen_on(address, &hole->port, 0);
  if (hole->listen_fd < 0 || !parse_address(address, hole->port, &addr, &len)) {
    fprintf(stderr, "blackhole: cannot listen: %s\n", strerror(errno));
    free(hole);
    return NULL;
  }
  while (!is_full(&hole->listen_fd) && hole->fill_count < FILL_MAX) {
    int fd = socket(addr.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
      break;
    hole->fill_fds[hole->fill_count++] = fd;
    (void) connect(fd, &addr.any, len); /* on an idle loopback the handshake is over when this returns */
  }
  if (wait_until(is_full, &hole->listen_fd, FULL_DEADLINE_MS))
    return hole;
  fprintf(stderr, "blackhole: the accept queue does not fill\n");
  blackhole_stop(hole);
  return NULL;
}

uint16_t blackhole_port(const struct blackhole *hole)
{
  return hole->port;
}

void blackhole_stop(struct blackhole *hole)
{
  if (hole == NULL)
    return;
  for (int i = 0; i < hole->fill_count; i++)
    close(hole->fill_fds[i]);
  close(hole->listen_fd);
  free(hole);
}
