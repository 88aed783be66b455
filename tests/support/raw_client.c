/* raw_client: a blocking socket with deadlines that shows a test exactly what a server sends, and how it ends */
#include "support/raw_client.h"

#include "support/wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_DEADLINE_MS = 5000 };

int raw_connect(const char *address, uint16_t port, int64_t timeout_ms)
{
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  bool is_v4 = inet_pton(AF_INET, address != NULL ? address : "127.0.0.1", &v4.sin_addr) == 1;
  if (!is_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1) {
    errno = EINVAL;
    return -1;
  }
  int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return -1;
  int error = 0;
  socklen_t len = sizeof error;
  if (connect(fd, is_v4 ? (struct sockaddr *) &v4 : (struct sockaddr *) &v6, is_v4 ? sizeof v4 : sizeof v6) != 0)
    error = errno;
  if (error == EINPROGRESS) {
    error = ETIMEDOUT;
    if (wait_fd(fd, POLLOUT, timeout_ms) != 0)
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
  }
  if (error == 0)
    return fd;
  close(fd);
  errno = error;
  return -1;
}

int raw_connect_unix(const char *path)
{
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *) &addr, sizeof addr) == 0)
    return fd;
  if (fd >= 0)
    close(fd);
  return -1;
}

bool raw_send(int fd, const char *text)
{
  size_t len = strlen(text);
  while (len > 0) {
    ssize_t put = send(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0 && errno == EAGAIN && wait_fd(fd, POLLOUT, ANSWER_DEADLINE_MS) != 0)
      continue;
    if (put < 0)
      return false;
    text += put;
    len -= (size_t) put;
  }
  return true;
}

enum raw_end raw_read(int fd, size_t max, int64_t timeout_ms, char **text, size_t *len)
{
  enum { STEP_BYTES = 64 * 1024 };
  int64_t end_ms = now_ms() + timeout_ms;
  *text = NULL;
  *len = 0;
  for (;;) {
    char *grown = realloc(*text, *len + STEP_BYTES + 1);
    if (grown == NULL)
      support_die("out of memory");
    *text = grown;
    grown[*len] = '\0';
    if (max != 0 && *len >= max)
      return RAW_OPEN;
    size_t want = max != 0 && max - *len < STEP_BYTES ? max - *len : STEP_BYTES;
    if (wait_fd(fd, POLLIN, end_ms - now_ms()) == 0)
      return RAW_OPEN;
    ssize_t got = recv(fd, grown + *len, want, MSG_DONTWAIT);
    if (got == 0)
      return RAW_FIN;
    if (got < 0 && errno != EAGAIN && errno != EINTR)
      return RAW_RESET;
    if (got > 0)
      *len += (size_t) got;
  }
}

int raw_request(int fd, const char *method, const char *path, char *body, size_t body_bytes)
{
  char *request = NULL, head[8192];
  size_t head_len = 0;
  if (asprintf(&request, "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n", method, path) < 0)
    return -1;
  bool sent = raw_send(fd, request);
  free(request);
  /* Byte by byte, so that nothing behind the head is taken. */
  while (sent && (head_len < 4 || memcmp(head + head_len - 4, "\r\n\r\n", 4) != 0)) {
    if (head_len + 1 == sizeof head || wait_fd(fd, POLLIN, ANSWER_DEADLINE_MS) == 0 ||
        recv(fd, head + head_len, 1, 0) != 1)
      return -1;
    head_len++;
  }
  if (!sent)
    return -1;
  head[head_len] = '\0';
  const char *length = strcasestr(head, "\r\nContent-Length:");
  size_t want = length != NULL ? (size_t) strtoull(length + 17, NULL, 10) : 0, len = 0;
  char *all = NULL;
  if (want > 0 && strcmp(method, "HEAD") != 0)
    (void) raw_read(fd, want, ANSWER_DEADLINE_MS, &all, &len);
  if (body != NULL)
    snprintf(body, body_bytes, "%s", all != NULL ? all : "");
  free(all);
  return len == want || strcmp(method, "HEAD") == 0 ? atoi(head + 9) : -1;
}
