/* ws_library: a server on cpool_ws: sends messages back, or to everybody; what bench_ws measures
 *
 *   bench_ws_library echo|publish RECEIVE_BUFFER_BYTES (0: the default)
 *
 * Prints its port; then, for each line that comes on its standard input, what the C library's heap holds in bytes, by how
 * much the last published text made it grow before any of it was sent, and what the manager has counted for that. Ends with
 * its input. */
#include "measure.h"

#include <malloc.h>
#include <stdatomic.h>

#include <cpool.h>

#include "ws/manager.h"

enum { MOST_CONNECTIONS = 16384 };

static cpool_ws *manager; /* set before anybody can connect */
static bool publishes;
static _Atomic long long growth_bytes, counted_bytes;

static long long heap_bytes(void)
{
  struct mallinfo2 info = mallinfo2();
  return (long long) (info.uordblks + info.hblkhd);
}

/* On the loop's thread: the frames are queued when the call returns, and go out at the end of the turn. */
static void publish(const cpool_event *event)
{
  bool measures = event->ws_kind == CPOOL_WS_TEXT;
  long long before = measures ? heap_bytes() : 0, counted = atomic_load(&manager->queued_bytes);
  if (cpool_ws_publish(manager, NULL, event->ws_kind, event->data, event->len) != CPOOL_OK)
    give_up("ws_library: a message is not published");
  if (!measures)
    return;
  atomic_store(&growth_bytes, heap_bytes() - before);
  atomic_store(&counted_bytes, atomic_load(&manager->queued_bytes) - counted);
}

static void on_event(const cpool_event *event)
{
  if (event->kind != CPOOL_EVENT_WS_MESSAGE)
    return;
  if (publishes)
    publish(event);
  else if (cpool_ws_send(manager, event->source, event->ws_kind, event->data, event->len) != CPOOL_OK)
    give_up("ws_library: a message is not sent");
}

int main(int argc, char **argv)
{
  char line[64];
  if (argc != 3)
    give_up("usage: echo|publish RECEIVE_BUFFER_BYTES");
  publishes = strcmp(argv[1], "publish") == 0;

  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.max_connections = options.max_handshakes = MOST_CONNECTIONS;
  options.receive_buffer_bytes = atoi(argv[2]);
  options.on_event = on_event;
  if (cpool_ws_new(&manager, NULL, &options) != CPOOL_OK)
    give_up("ws_library: no manager");

  cpool_ws_listen_options listen;
  cpool_ws_listen_options_init(&listen);
  listen.decide = CPOOL_OFF;
  int port = cpool_ws_listen(manager, &listen);
  if (port < 0)
    give_up("ws_library: cannot listen");
  printf("%d\n", port);
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    printf("%lld %lld %lld\n", heap_bytes(), atomic_load(&growth_bytes), atomic_load(&counted_bytes));
    fflush(stdout);
  }
  return cpool_ws_close(manager, 0) == CPOOL_OK ? 0 : 1;
}
