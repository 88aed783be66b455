/* tunnel: one request, and the head of its answer; not a byte behind that is read */
#include "ws/tunnel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/error.h"

static void end(struct cpool__tunnel *tunnel)
{
  cpool__poller_forget(cpool__runtime_poller(tunnel->rt), tunnel->fd);
  tunnel->done(tunnel);
}

static void fail(struct cpool__tunnel *tunnel, int native, const char *text)
{
  cpool__error_set(&tunnel->error, CPOOL_EPROXY, CPOOL_LAYER_CONNECT, native, CPOOL_ERROR_NOTHING_SENT, "proxy: %s",
                   text);
  end(tunnel);
}

/* "HTTP/1.1 200 ...": the status, or -1. */
static int status_of(const char *head)
{
  if (strncmp(head, "HTTP/1.", 7) != 0 || (head[7] != '0' && head[7] != '1') || head[8] != ' ' ||
      strspn(head + 9, "0123456789") != 3)
    return -1;
  return head[9] != '0' ? atoi(head + 9) : -1;
}

static void judge(struct cpool__tunnel *tunnel)
{
  char text[64];
  int status = status_of(tunnel->head);
  if (status >= 100 && status < 200) { /* another head follows */
    tunnel->head_len = 0;
    return;
  }
  if (status < 0) {
    fail(tunnel, 0, "its answer is no HTTP/1");
  } else if (status >= 300) {
    snprintf(text, sizeof text, "it makes no tunnel: status %d", status);
    fail(tunnel, status, text);
  } else {
    tunnel->error = (cpool_error){.size = sizeof tunnel->error};
    end(tunnel);
  }
}

/* Takes what belongs to the head. True: there may be more to read. */
static bool read_some(struct cpool__tunnel *tunnel)
{
  size_t before = tunnel->head_len, room = sizeof tunnel->head - 1 - before;
  ssize_t got = recv(tunnel->fd, tunnel->head + before, room, MSG_PEEK);
  if (got < 0 && (errno == EAGAIN || errno == EINTR))
    return false;
  if (got <= 0) {
    fail(tunnel, got < 0 ? errno : 0, "it closed the connection");
    return false;
  }
  tunnel->head[before + (size_t) got] = '\0';
  const char *close = strstr(tunnel->head + (before > 3 ? before - 3 : 0), "\r\n\r\n");
  size_t take = close != NULL ? (size_t) (close + 4 - tunnel->head) - before : (size_t) got;
  (void) recv(tunnel->fd, tunnel->head + before, take, 0); /* they are there */
  tunnel->head_len = before + take;
  tunnel->head[tunnel->head_len] = '\0';
  if (memchr(tunnel->head + before, '\0', take) != NULL) {
    fail(tunnel, 0, "its answer is no HTTP/1");
    return false;
  }
  if (close == NULL && tunnel->head_len == sizeof tunnel->head - 1) {
    fail(tunnel, 0, "the head of its answer is too long");
    return false;
  }
  if (close == NULL)
    return true;
  judge(tunnel);
  return false; /* after an interim answer the next event goes on */
}

static void on_ready(void *owner, int fd, uint32_t events)
{
  struct cpool__tunnel *tunnel = owner;
  size_t len = strlen(tunnel->request);
  if (tunnel->sent < len && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
    ssize_t sent = send(fd, tunnel->request + tunnel->sent, len - tunnel->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      fail(tunnel, errno, "it closed the connection");
      return;
    }
    tunnel->sent += sent > 0 ? (size_t) sent : 0;
    if (tunnel->sent == len)
      cpool__poller_want(cpool__runtime_poller(tunnel->rt), fd, EPOLLIN);
    return;
  }
  while (read_some(tunnel))
    continue;
}

int cpool__tunnel_start(struct cpool__tunnel *tunnel)
{
  return cpool__poller_watch(cpool__runtime_poller(tunnel->rt), tunnel->fd, EPOLLOUT, on_ready, tunnel);
}

void cpool__tunnel_cancel(struct cpool__tunnel *tunnel)
{
  if (tunnel->fd >= 0)
    cpool__poller_forget(cpool__runtime_poller(tunnel->rt), tunnel->fd);
  tunnel->fd = -1;
}
