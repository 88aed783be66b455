/* handoff: from a submit on one thread until the peer has the request, against a bare eventfd, epoll and send
 *
 * The peer is a thread on the other CPU that notes when bytes arrive. The submitting thread, the pool's and the bare
 * loop's share one CPU. Samples of both kinds alternate, one at a time, on connections that are open and idle. */
#include "measure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cpool.h>

#include "support/blackhole.h"

enum { SAMPLES = 5001, QUICK_SAMPLES = 101, WARM_UP = 50, EVENTS = 4, MESSAGE_BYTES = 4096 };

#define REACH_RATIO 2.0

struct peer {
  int listen_fd, epoll_fd;
  uint16_t port;
  int arrived_fd;    /* an eventfd, counted up for each message */
  double arrived_us; /* of the message that arrived_fd tells of */
};

struct bare {
  int wake_fd, epoll_fd, socket;
  const char *message;
  size_t len;
};

static void add(int epoll_fd, int fd)
{
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
    give_up("handoff: epoll_ctl");
}

static void signal_fd(int fd)
{
  uint64_t one = 1;
  if (write(fd, &one, sizeof one) != (ssize_t) sizeof one)
    give_up("handoff: eventfd");
}

static void wait_signal(int fd)
{
  uint64_t count;
  if (read(fd, &count, sizeof count) != (ssize_t) sizeof count)
    give_up("handoff: eventfd");
}

/* Answers each message; the bare loop's connection does not look at the answer. It ends with the process. */
static void *run_peer(void *user)
{
  static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  struct peer *peer = user;
  struct epoll_event events[EVENTS];
  char message[MESSAGE_BYTES];
  pin_to(SERVER_CPU);
  for (;;) {
    int count = epoll_wait(peer->epoll_fd, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == peer->listen_fd) {
        add(peer->epoll_fd, accept(fd, NULL, NULL));
        continue;
      }
      ssize_t len = recv(fd, message, sizeof message, 0);
      double now_us = clock_as_us(CLOCK_MONOTONIC);
      if (len <= 0) {
        close(fd);
        continue;
      }
      peer->arrived_us = now_us;
      signal_fd(peer->arrived_fd);
      (void) !send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
    }
  }
  return NULL;
}

static void *run_bare(void *user)
{
  struct bare *bare = user;
  struct epoll_event events[EVENTS];
  char answer[MESSAGE_BYTES];
  for (;;) {
    int count = epoll_wait(bare->epoll_fd, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd == bare->socket) {
        (void) !recv(bare->socket, answer, sizeof answer, 0);
        continue;
      }
      wait_signal(bare->wake_fd);
      if (send(bare->socket, bare->message, bare->len, MSG_NOSIGNAL) != (ssize_t) bare->len)
        give_up("handoff: send");
    }
  }
  return NULL;
}

static void start_peer(struct peer *peer)
{
  pthread_t thread;
  *peer = (struct peer){.epoll_fd = epoll_create1(EPOLL_CLOEXEC), .arrived_fd = eventfd(0, EFD_CLOEXEC)};
  peer->listen_fd = listen_on("127.0.0.1", &peer->port, EVENTS);
  if (peer->listen_fd < 0 || peer->epoll_fd < 0 || peer->arrived_fd < 0)
    give_up("handoff: cannot begin");
  add(peer->epoll_fd, peer->listen_fd);
  if (pthread_create(&thread, NULL, run_peer, peer) != 0)
    give_up("handoff: no thread");
}

static void start_bare(struct bare *bare, uint16_t port)
{
  static const char message[] = "GET /item/12345 HTTP/1.1\r\nHost: 127.0.0.1:12345\r\nAccept: */*\r\n\r\n";
  struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  pthread_t thread;
  *bare = (struct bare){.wake_fd = eventfd(0, EFD_CLOEXEC), .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
  bare->message = message;
  bare->len = sizeof message - 1;
  bare->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bare->socket < 0 || connect(bare->socket, (struct sockaddr *) &addr, sizeof addr) != 0)
    give_up("handoff: connect");
  add(bare->epoll_fd, bare->wake_fd);
  add(bare->epoll_fd, bare->socket);
  if (pthread_create(&thread, NULL, run_bare, bare) != 0)
    give_up("handoff: no thread");
}

static double bare_us(const struct bare *bare, const struct peer *peer)
{
  double began_us = clock_as_us(CLOCK_MONOTONIC);
  signal_fd(bare->wake_fd);
  wait_signal(peer->arrived_fd);
  return peer->arrived_us - began_us;
}

static double pool_us(cpool_http *pool, const cpool_request *request, const struct peer *peer)
{
  const cpool_event *event = NULL;
  double began_us = clock_as_us(CLOCK_MONOTONIC);
  if (cpool_submit(cpool_http_session(pool), request, NULL) != CPOOL_OK)
    give_up("handoff: refused");
  wait_signal(peer->arrived_fd);
  double took_us = peer->arrived_us - began_us;
  if (cpool_queue_wait(request->queue, &event, 1, CPOOL_OFF) != 1 || event->status != CPOOL_OK)
    give_up("handoff: the request failed");
  cpool_queue_release(request->queue, &event, 1);
  return took_us;
}

int main(int argc, char **argv)
{
  size_t count = is_quick(argc, argv) ? QUICK_SAMPLES : SAMPLES;
  static double pool_samples[SAMPLES], bare_samples[SAMPLES];
  struct peer peer;
  struct bare bare;
  cpool_http *pool = NULL;
  cpool_queue *queue = NULL;
  cpool_http_options options;
  cpool_request request;
  char url[64];
  pin_to(CLIENT_CPU);
  start_peer(&peer);
  start_bare(&bare, peer.port);
  cpool_http_options_init(&options);
  options.user_agent = ""; /* about as many bytes as the bare message */
  if (cpool_queue_new(&queue, NULL) != CPOOL_OK || cpool_http_new(&pool, NULL, &options) != CPOOL_OK)
    give_up("handoff: no pool");
  snprintf(url, sizeof url, "http://127.0.0.1:%u/item/12345", peer.port);
  cpool_request_init(&request);
  request.url = url;
  request.queue = queue;

  for (int i = 0; i < WARM_UP; i++) {
    pool_us(pool, &request, &peer);
    bare_us(&bare, &peer);
  }
  for (size_t i = 0; i < count; i++) {
    pool_samples[i] = pool_us(pool, &request, &peer);
    bare_samples[i] = bare_us(&bare, &peer);
  }
  double ours_us = median(pool_samples, count), theirs_us = median(bare_samples, count);
  report("submit on another thread until the peer has the request, against eventfd + epoll + send", "<= 2.00",
         ours_us <= REACH_RATIO * theirs_us, "%.2f; %.1f us (p10 %.1f, p90 %.1f) against %.1f us (p10 %.1f, p90 %.1f)",
         ours_us / theirs_us, ours_us, pool_samples[count / 10], pool_samples[count * 9 / 10], theirs_us,
         bare_samples[count / 10], bare_samples[count * 9 / 10]);
  if (cpool_http_close(pool, 0) != CPOOL_OK || cpool_queue_free(queue) != CPOOL_OK)
    return 1;
  return 0;
}
