/* ws_allocation_failure: whichever allocation fails, a call says CPOOL_ENOMEM or a connection ends, once; nothing leaks or hangs
 *
 * One scenario uses each part of the manager. It is run again and again while allocation 1, 2, 3 ... fails, alone or with
 * those after it, until a run is over before the failing one is reached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdatomic.h>

#include <cpool.h>

#include "support/wait.h"
#include "support/ws_peer.h"

enum { DEADLINE_MS = 10000, LEFT_MS = 5000, MOST_RUNS = 2000, BATCH = 8, CLIENTS = 2 };

/* From the first to before the last: fails. Counts all that is asked for, frees not. */
static struct {
  _Atomic int64_t asked, blocks, failed;
  int64_t first, last;
} memory;

static void *fallible(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0) {
    atomic_fetch_sub(&memory.blocks, 1);
    free(ptr);
    return NULL;
  }
  int64_t number = atomic_fetch_add(&memory.asked, 1) + 1;
  if (number >= memory.first && number < memory.last) {
    atomic_fetch_add(&memory.failed, 1);
    return NULL;
  }
  void *block = realloc(ptr, size);
  if (block != NULL && ptr == NULL)
    atomic_fetch_add(&memory.blocks, 1);
  return block;
}

#define SAY(...)                                                                                                       \
  do {                                                                                                                 \
    print_error("allocations %lld to %lld fail: ", (long long) memory.first, (long long) memory.last - 1);             \
    fail_msg(__VA_ARGS__);                                                                                             \
  } while (0)

struct run {
  cpool_queue *queue;
  cpool_ws *ws;
  int told, closed, manager_closed;
  bool gave_up; /* neither answered nor ended, for want of memory */
  cpool_conn dialled;
  bool dialled_open, dialled_over;
};

static void must_or_no_memory(int status, const char *what)
{
  if (status < 0 && status != CPOOL_ENOMEM && status != CPOOL_ESTALE)
    SAY("%s: %s", what, cpool_status_name(status));
}

static void on_accept(struct run *run, const cpool_event *event)
{
  char id[32];
  run->told++;
  if (run->ws == NULL)
    return;
  snprintf(id, sizeof id, "client-%llu", (unsigned long long) event->source);
  must_or_no_memory(cpool_ws_subscribe(run->ws, event->source, "all of them"), "subscribe");
  if (cpool_ws_accept(run->ws, event->source, id, NULL) != CPOOL_OK)
    (void) cpool_ws_refuse(run->ws, event->source, 0); /* for want of memory, too: then its time runs out */
}

static void on_event(struct run *run, const cpool_event *event)
{
  switch (event->kind) {
  case CPOOL_EVENT_WS_ACCEPT:
    on_accept(run, event);
    break;
  case CPOOL_EVENT_WS_MESSAGE:
  case CPOOL_EVENT_WS_PIECE: /* each goes back as a message of its own */
    if (run->ws != NULL && cpool_ws_send(run->ws, event->source, event->ws_kind, event->data, event->len) != CPOOL_OK &&
        cpool_ws_remove(run->ws, event->source, 1011, "no memory") != CPOOL_OK)
      run->gave_up = true;
    break;
  case CPOOL_EVENT_WS_OPEN:
    run->dialled_open = run->dialled_open || event->source == run->dialled;
    break;
  case CPOOL_EVENT_WS_CLOSED:
    run->closed++;
    run->dialled_over = run->dialled_over || event->source == run->dialled;
    break;
  case CPOOL_EVENT_WS_MANAGER_CLOSED:
    run->manager_closed++;
    break;
  default:
    break;
  }
}

static void take_events(struct run *run, int64_t wait_ms)
{
  const cpool_event *events[BATCH];
  int count = cpool_queue_wait(run->queue, events, BATCH, wait_ms);
  for (int i = 0; i < count; i++)
    on_event(run, events[i]);
  if (count > 0)
    cpool_queue_release(run->queue, events, count);
}

/* Until the message has come back, or the connection is over. */
static void talk(struct run *run, struct ws_peer *peer, const char *payload, size_t len)
{
  size_t got = 0;
  if (ws_peer_status(peer) != 101 || !ws_peer_send(peer, WS_BINARY, payload, len / 2) ||
      !ws_peer_send(peer, WS_FIN, payload + len / 2, len - len / 2))
    return;
  for (int64_t until_ms = now_ms() + DEADLINE_MS; got < len && !run->gave_up;) {
    struct ws_frame frame = ws_peer_read(peer, 1);
    if (frame.first == WS_NOTHING && now_ms() > until_ms)
      SAY("a message of %zu bytes has neither come back nor ended its connection", len);
    if (frame.first == WS_NOTHING)
      take_events(run, 5);
    else if (frame.first < 0 || frame.first == (WS_FIN | WS_CLOSE))
      return;
    else if ((frame.first & 0x0F) <= WS_BINARY)
      got += frame.len;
  }
}

/* The manager's own listener, until it is open or over. */
static void dial(struct run *run, uint16_t port)
{
  char url[64];
  cpool_ws_connect_options options;
  cpool_header header = {"X-User", "bert"};
  cpool_ws_connect_options_init(&options);
  snprintf(url, sizeof url, "ws://localhost:%u/a?b=c", port);
  options.url = url;
  options.headers = &header;
  options.header_count = 1;
  options.subprotocols = "chat";
  options.reconnect_ms = options.max_reconnect_ms = 1;
  options.max_attempts = 2;
  int rc = cpool_ws_connect(run->ws, "dialled", &options, &run->dialled);
  must_or_no_memory(rc, "connect");
  if (rc != CPOOL_OK)
    return;
  run->told++;
  must_or_no_memory(cpool_ws_subscribe(run->ws, run->dialled, "all of them"), "subscribe");
  for (int64_t until_ms = now_ms() + DEADLINE_MS; !run->dialled_open && !run->dialled_over;) {
    if (now_ms() > until_ms)
      SAY("a dial is neither open nor over");
    take_events(run, 5);
  }
  if (run->dialled_open)
    (void) cpool_ws_send(run->ws, run->dialled, CPOOL_WS_TEXT, "x", 1);
}

static void use_all(struct run *run, uint16_t port, size_t most)
{
  struct ws_peer_options how = {.headers = "X-User: anna\r\nOrigin: https://a.example\r\n", .path = "/a?b=c"};
  struct ws_peer *peers[CLIENTS];
  cpool_ws_health health;
  cpool_conn external = 0, found;
  char *payload = calloc(1, 100000);
  assert_non_null(payload);
  for (int i = 0; i < CLIENTS; i++) {
    peers[i] = ws_peer_open(port, &how);
    talk(run, peers[i], payload, i == 0 ? 10 : most);
  }
  dial(run, port);
  must_or_no_memory(cpool_ws_publish(run->ws, "all of them", CPOOL_WS_TEXT, "x", 1), "publish");
  must_or_no_memory(cpool_ws_publish(run->ws, NULL, CPOOL_WS_PING, "x", 1), "publish");
  must_or_no_memory(cpool_ws_add_external(run->ws, "external", NULL, &external), "add_external");
  cpool_ws_health_init(&health);
  must_or_no_memory(cpool_ws_health_check(run->ws, &health), "health_check");
  must_or_no_memory(cpool_ws_health_check(run->ws, NULL), "health_check");
  if (external != 0) {
    run->told++;
    must_or_no_memory(cpool_ws_touch(run->ws, external), "touch");
    must_or_no_memory(cpool_ws_expire(run->ws, external, 100000), "expire");
    if (cpool_ws_find(run->ws, "external", &found) == CPOOL_OK)
      must_or_no_memory(cpool_ws_remove_id(run->ws, "external", 1000, "good bye"), "remove");
  }
  take_events(run, 0);
  for (int i = 0; i < CLIENTS; i++)
    ws_peer_free(peers[i]);
  free(payload);
}

static bool all_freed(void *ctx)
{
  return atomic_load(&memory.blocks) == 0 && open_fd_count() == *(const int *) ctx;
}

/* False: nothing failed. */
static bool scenario(int64_t first, int64_t width, bool in_pieces)
{
  struct run run = {0};
  int fds_before = open_fd_count();
  memory.first = first;
  memory.last = first + width;
  atomic_store(&memory.asked, 0);
  atomic_store(&memory.failed, 0);
  cpool_queue_options marks;
  cpool_queue_options_init(&marks);
  marks.high_water_bytes = 65536; /* a long message is above it: reading is paused */
  if (cpool_queue_new(&run.queue, &marks) == CPOOL_OK) {
    cpool_ws_options options;
    cpool_ws_options_init(&options);
    options.queue = run.queue;
    options.handshake_timeout_ms = 1000;
    options.close_timeout_ms = 1000;
    options.stream_messages = in_pieces ? 1 : 0;
    options.stream_window_bytes = 8192; /* it is used up twice */
    must_or_no_memory(cpool_ws_new(&run.ws, NULL, &options), "ws_new");
  }
  if (run.ws != NULL) {
    cpool_ws_listen_options listen;
    cpool_ws_listen_options_init(&listen);
    listen.headers = "x-user";
    listen.subprotocols = "chat";
    listen.max_per_address = 10;
    int port = cpool_ws_listen(run.ws, &listen);
    must_or_no_memory(port, "listen");
    if (port > 0)
      use_all(&run, (uint16_t) port, in_pieces ? 20000 : 100000);
    if (cpool_ws_close(run.ws, 0) != CPOOL_OK)
      SAY("close");
    run.ws = NULL; /* what is still in the queue is not answered */
    for (int64_t until_ms = now_ms() + DEADLINE_MS; run.manager_closed == 0 && now_ms() < until_ms;)
      take_events(&run, 20);
    if (run.manager_closed != 1 || run.closed != run.told)
      SAY("%d connections were told of, %d ended; the manager ended %d times", run.told, run.closed,
          run.manager_closed);
  }
  if (cpool_queue_free(run.queue) != CPOOL_OK)
    SAY("the queue is still in use");
  if (!wait_until(all_freed, &fds_before, LEFT_MS))
    SAY("%lld blocks and %d descriptors are left", (long long) atomic_load(&memory.blocks),
        open_fd_count() - fds_before);
  return atomic_load(&memory.failed) > 0;
}

static void sweep(int64_t width, int64_t step, bool in_pieces)
{
  int64_t first = 1;
  for (int runs = 0; scenario(first, width, in_pieces); first += step)
    assert_true(++runs < MOST_RUNS);
  print_message("%lld allocations\n", (long long) first - 1);
  assert_true(first > 20); /* the hook is in force */
}

static void each_allocation_may_fail(void **state)
{
  (void) state;
  sweep(1, 1, false);
}

static void each_run_of_allocations_may_fail(void **state)
{
  (void) state;
  sweep(5, 3, false);
}

static void each_allocation_may_fail_while_messages_come_in_pieces(void **state)
{
  (void) state;
  sweep(1, 1, true);
}

static void ignore(const cpool_event *event)
{
  (void) event;
}

static int setup(void **state)
{
  (void) state;
  cpool_ws *ws;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.on_event = ignore;
  if (cpool_ws_new(&ws, NULL, &options) != CPOOL_OK || cpool_ws_close(ws, 0) != CPOOL_OK)
    return -1; /* what libraries open once per process is open before descriptors are counted */
  return cpool_allocator_set(fallible, NULL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_allocation_may_fail),
      cmocka_unit_test(each_run_of_allocations_may_fail),
      cmocka_unit_test(each_allocation_may_fail_while_messages_come_in_pieces),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
