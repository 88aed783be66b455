/* sse: from the server's write of an event until its consumer has it, against a bare socket reader
 *
 * The server is a thread on the other CPU. It writes one event at a time, to the pool's stream and to a bare connection in
 * turn, and notes the time before each; the consumer notes it when the queue, or recv, gives the event. */
#include "measure.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cpool.h>

enum { SAMPLES = 5001, QUICK_SAMPLES = 101, WARM_UP = 50, BYTES = 4096 };

#define REACH_RATIO 2.0

static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
static const char text[] = "id: 1\ndata: an event of common length, with a number and a name\n\n";

static struct {
  int listen_fd, go_fd;
  int sockets[2];    /* of the pool; bare */
  int which;         /* the next is for */
  double written_us; /* before the write; read after the event has come */
} server;

static void write_all(int fd, const char *bytes, size_t len)
{
  if (send(fd, bytes, len, MSG_NOSIGNAL) != (ssize_t) len)
    give_up("sse: send");
}

static void *run_server(void *user)
{
  char request[BYTES];
  (void) user;
  pin_to(SERVER_CPU);
  for (int i = 0; i < 2; i++) {
    server.sockets[i] = accept(server.listen_fd, NULL, NULL);
    if (server.sockets[i] < 0 || recv(server.sockets[i], request, sizeof request, 0) <= 0)
      give_up("sse: no request");
    write_all(server.sockets[i], head, sizeof head - 1);
  }
  for (;;) {
    uint64_t go;
    if (read(server.go_fd, &go, sizeof go) != (ssize_t) sizeof go)
      give_up("sse: eventfd");
    usleep(50); /* so that the reader waits */
    server.written_us = clock_as_us(CLOCK_MONOTONIC);
    write_all(server.sockets[server.which], text, sizeof text - 1);
  }
  return NULL;
}

static void ask_for(int which)
{
  uint64_t one = 1;
  server.which = which;
  if (write(server.go_fd, &one, sizeof one) != (ssize_t) sizeof one)
    give_up("sse: eventfd");
}

static double by_pool(cpool_queue *q)
{
  const cpool_event *event = NULL;
  cpool_sse_event sse;
  cpool_sse_event_init(&sse);
  ask_for(0);
  if (cpool_queue_wait(q, &event, 1, 5000) != 1 || cpool_event_sse_get(event, &sse) != CPOOL_OK)
    give_up("sse: no event");
  double us = clock_as_us(CLOCK_MONOTONIC) - server.written_us;
  cpool_queue_release(q, &event, 1);
  return us;
}

static double by_socket(int fd)
{
  char bytes[BYTES];
  ask_for(1);
  if (recv(fd, bytes, sizeof bytes, 0) != (ssize_t) sizeof text - 1)
    give_up("sse: no event on the bare socket");
  return clock_as_us(CLOCK_MONOTONIC) - server.written_us;
}

static int bare_socket(const struct sockaddr_in *address)
{
  static const char request[] = "GET / HTTP/1.1\r\nHost: bare\r\n\r\n";
  char bytes[BYTES];
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (const struct sockaddr *) address, sizeof *address) != 0)
    give_up("sse: connect");
  write_all(fd, request, sizeof request - 1);
  if (recv(fd, bytes, sizeof bytes, 0) != (ssize_t) sizeof head - 1)
    give_up("sse: no head");
  return fd;
}

static void listen_on(struct sockaddr_in *address)
{
  socklen_t len = sizeof *address;
  *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  server.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  server.go_fd = eventfd(0, EFD_CLOEXEC);
  if (server.go_fd < 0 || bind(server.listen_fd, (const struct sockaddr *) address, len) != 0 ||
      listen(server.listen_fd, 2) != 0 || getsockname(server.listen_fd, (struct sockaddr *) address, &len) != 0)
    give_up("sse: listen");
}

int main(int argc, char **argv)
{
  static double pool_us[SAMPLES], bare_us[SAMPLES];
  int samples = is_quick(argc, argv) ? QUICK_SAMPLES : SAMPLES;
  struct sockaddr_in address;
  pthread_t thread;
  cpool_queue *q = NULL;
  cpool_http *pool = NULL;
  cpool_op op = 0;
  cpool_request req;
  char url[64];
  pin_to(CLIENT_CPU);
  listen_on(&address);
  if (pthread_create(&thread, NULL, run_server, NULL) != 0 || cpool_queue_new(&q, NULL) != CPOOL_OK ||
      cpool_http_new(&pool, NULL, NULL) != CPOOL_OK)
    give_up("sse: setting up");
  snprintf(url, sizeof url, "http://127.0.0.1:%u/", (unsigned) ntohs(address.sin_port));
  cpool_request_init(&req);
  req.url = url;
  req.flags = CPOOL_REQUEST_SSE;
  req.queue = q;
  if (cpool_submit(cpool_http_session(pool), &req, &op) != CPOOL_OK)
    give_up("sse: submit");
  cpool_http_stats stats;
  cpool_http_stats_init(&stats);
  while (cpool_http_stats_get(pool, &stats) == CPOOL_OK && stats.acquired_connections == 0)
    usleep(1000); /* its connection is the server's first */
  int fd = bare_socket(&address);
  for (int i = -WARM_UP; i < samples; i++) {
    double by_one = by_pool(q), by_other = by_socket(fd);
    if (i >= 0) {
      pool_us[i] = by_one;
      bare_us[i] = by_other;
    }
  }
  double pool_median = median(pool_us, (size_t) samples), bare_median = median(bare_us, (size_t) samples);
  report("an event from the server's write until its consumer has it, against a bare socket reader", "<= 2.00",
         pool_median <= REACH_RATIO * bare_median,
         "%.2f; %.1f us (p10 %.1f, p90 %.1f) against %.1f us (p10 %.1f, p90 %.1f)", pool_median / bare_median,
         pool_median, pool_us[samples / 10], pool_us[samples * 9 / 10], bare_median, bare_us[samples / 10],
         bare_us[samples * 9 / 10]);
  cpool_http_close(pool, 0);
  cpool_queue_free(q);
  close(fd);
  return 0;
}
