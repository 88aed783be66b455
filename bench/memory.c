/* memory: what a waiting request and an idle connection take of the library's own memory
 *
 * The allocator hook counts what the C library sets aside for each block, its own header included. libcurl's and the
 * kernel's share of a connection are not in it. The peer is this program: it accepts, and answers when told. */
#include "measure.h"

#include <malloc.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cpool.h>

#include "support/blackhole.h"
#include "support/wait.h"

enum {
  WAITING = 10000,
  BUSY = 8, /* connections of the silent host */
  IDLE = 200,
  DEADLINE_MS = 20000,
  HEAD_BYTES = 4096,
  CHUNK_HEADER_BYTES = 8 /* of the C library, beyond what a block can hold */
};

static atomic_llong bytes_now;
static atomic_int ended_count;

static void *count_bytes(void *context, void *ptr, size_t size)
{
  (void) context;
  long long before = ptr == NULL ? 0 : (long long) malloc_usable_size(ptr) + CHUNK_HEADER_BYTES;
  if (size == 0) {
    free(ptr);
    atomic_fetch_sub(&bytes_now, before);
    return NULL;
  }
  void *block = realloc(ptr, size);
  if (block != NULL)
    atomic_fetch_add(&bytes_now, (long long) malloc_usable_size(block) + CHUNK_HEADER_BYTES - before);
  return block;
}

static void on_event(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_RESPONSE)
    atomic_fetch_add(&ended_count, 1);
}

struct world {
  cpool_http *pool;
  char url[64];
  int listen_fd;
  int peers[IDLE + 1];
};

static void submit(const struct world *world, int count)
{
  cpool_request request;
  cpool_request_init(&request);
  request.url = world->url;
  request.on_event = on_event;
  for (int i = 0; i < count; i++) {
    if (cpool_submit(cpool_http_session(world->pool), &request, NULL) != CPOOL_OK)
      give_up("memory: a request was refused");
  }
}

struct expected {
  cpool_http *pool;
  int64_t pending, active, idle;
};

static bool arrived(void *ctx)
{
  const struct expected *expected = ctx;
  cpool_http_stats stats;
  cpool_http_stats_init(&stats);
  cpool_http_stats_get(expected->pool, &stats);
  return stats.pending_requests == expected->pending && stats.active_requests == expected->active &&
         stats.idle_connections == expected->idle;
}

static void wait_for(struct expected expected)
{
  if (!wait_until(arrived, &expected, DEADLINE_MS))
    give_up("memory: the pool does not get to %lld waiting, %lld active, %lld idle", (long long) expected.pending,
            (long long) expected.active, (long long) expected.idle);
}

static void open_world(struct world *world, int connections)
{
  uint16_t port = 0;
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.max_connections = options.max_connections_per_host = connections;
  options.max_pending = WAITING + BUSY;
  *world = (struct world){.listen_fd = listen_on("127.0.0.1", &port, IDLE + 1)};
  if (world->listen_fd < 0 || cpool_http_new(&world->pool, NULL, &options) != CPOOL_OK)
    give_up("memory: cannot begin");
  snprintf(world->url, sizeof world->url, "http://127.0.0.1:%u/item/12345", port);
}

static void close_world(struct world *world, int submitted)
{
  cpool_http_close(world->pool, 0);
  for (int i = 0; i <= IDLE; i++) {
    if (world->peers[i] > 0)
      close(world->peers[i]);
  }
  close(world->listen_fd);
  if (atomic_exchange(&ended_count, 0) != submitted)
    give_up("memory: the requests did not end once each");
}

static void measure_waiting(void)
{
  struct world world;
  open_world(&world, BUSY); /* the kernel accepts, nobody answers */
  submit(&world, BUSY);
  wait_for((struct expected){world.pool, 0, BUSY, 0});
  long long before = atomic_load(&bytes_now);
  submit(&world, WAITING);
  wait_for((struct expected){world.pool, WAITING, BUSY, 0});
  double each = (double) (atomic_load(&bytes_now) - before) / WAITING;
  report("memory of a waiting request, 10000 of them, no body", "<= 1024 bytes", each <= 1024, "%.0f bytes", each);
  close_world(&world, BUSY + WAITING);
}

static void read_request(int fd)
{
  char head[HEAD_BYTES];
  size_t len = 0;
  while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0) {
    ssize_t more = wait_fd(fd, POLLIN, DEADLINE_MS) != 0 ? recv(fd, head + len, sizeof head - len, 0) : 0;
    if (more <= 0)
      give_up("memory: a request does not arrive");
    len += (size_t) more;
  }
}

/* Requests in flight on connections [0, count), the last ones new; all have arrived before the first is answered. */
static void serve(struct world *world, int known, int count)
{
  static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  for (int i = known; i < count; i++) {
    if (wait_fd(world->listen_fd, POLLIN, DEADLINE_MS) == 0)
      give_up("memory: a connection does not arrive");
    world->peers[i] = accept(world->listen_fd, NULL, NULL);
  }
  for (int i = 0; i < count; i++)
    read_request(world->peers[i]);
  for (int i = 0; i < count; i++) {
    if (send(world->peers[i], answer, sizeof answer - 1, MSG_NOSIGNAL) != (ssize_t) sizeof answer - 1)
      give_up("memory: an answer cannot be sent");
  }
}

static void measure_idle(void)
{
  struct world world;
  open_world(&world, IDLE + 1);
  submit(&world, 1);
  serve(&world, 0, 1);
  wait_for((struct expected){world.pool, 0, 0, 1});
  long long before = atomic_load(&bytes_now);
  submit(&world, IDLE + 1);
  serve(&world, 1, IDLE + 1);
  wait_for((struct expected){world.pool, 0, 0, IDLE + 1});
  double each = (double) (atomic_load(&bytes_now) - before) / IDLE;
  report("memory of an idle connection, 200 of them, without libcurl's", "<= 2048 bytes", each <= 2048, "%.0f bytes",
         each);
  close_world(&world, 1 + IDLE + 1);
}

int main(void)
{
  if (cpool_allocator_set(count_bytes, NULL) != CPOOL_OK)
    give_up("memory: the allocator is in use");
  measure_waiting();
  measure_idle();
  if (atomic_load(&bytes_now) != 0)
    printf("memory left after the pools were closed|%lld bytes|0|missed\n", (long long) atomic_load(&bytes_now));
  return 0;
}
