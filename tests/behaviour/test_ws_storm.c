/* ws_storm: clients and callers that do anything at any time: each connection that was told of ends once, and the counts add up
 *
 *   behaviour_ws_storm [OPERATIONS [SEED]]
 */
#include "ws_fixture.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>

enum {
  CLIENTS = 6,
  CALLERS = 2,
  OPERATIONS = 8000, /* connects and what follows on them, of all clients; as many calls come from other threads */
  IDS = 12,
  BATCH = 32,
  SLOTS = 1 << 16
};

static struct {
  cpool_ws *ws;
  cpool_queue *queue;
  uint16_t port;
  _Atomic uint64_t told, opened, ended, messages;
  _Atomic int state[SLOTS]; /* by slot of the handle: 0 none, 1 told, 2 open */
  _Atomic uint64_t dialled, disconnected, operations, calls, most;
  uint32_t seed;
  _Atomic bool manager_closed, clients_done;
  _Atomic cpool_conn last;
} storm = {.most = OPERATIONS, .seed = 1};

/* Counts one. False: it was the last. */
static bool goes_on(void)
{
  return atomic_fetch_add(&storm.operations, 1) < storm.most;
}

static uint32_t next_random(uint32_t *seed)
{
  *seed = *seed * 1664525u + 1013904223u;
  return *seed >> 8;
}

static size_t slot_of(cpool_conn conn)
{
  return (size_t) (conn >> 32) % SLOTS;
}

static void *id_of(uint32_t number, char id[16])
{
  snprintf(id, 16, "id-%u", (unsigned) (number % IDS));
  return id;
}

/* ------------------------------------------------------------------------------------------------------------ consumers */

static void on_told(const cpool_event *event)
{
  char id[16];
  int none = 0;
  if (!atomic_compare_exchange_strong(&storm.state[slot_of(event->source)], &none, 1))
    fail_msg("a connection was told of twice");
  storm.told++;
  storm.last = event->source;
  uint32_t seed = (uint32_t) (event->source * 2654435761u);
  (void) cpool_ws_subscribe(storm.ws, event->source, next_random(&seed) % 2 == 0 ? "even" : "odd");
  if (next_random(&seed) % 8 == 0)
    (void) cpool_ws_refuse(storm.ws, event->source, 0);
  else if (next_random(&seed) % 16 != 0) /* else its time runs out */
    (void) cpool_ws_accept(storm.ws, event->source, id_of(next_random(&seed), id), NULL);
}

static void on_event(const cpool_event *event)
{
  int told = 1;
  switch (event->kind) {
  case CPOOL_EVENT_WS_ACCEPT:
    on_told(event);
    break;
  case CPOOL_EVENT_WS_OPEN:
    atomic_compare_exchange_strong(&storm.state[slot_of(event->source)], &told, 2);
    storm.opened++;
    break;
  case CPOOL_EVENT_WS_MESSAGE:
    storm.messages++;
    (void) cpool_ws_send(storm.ws, event->source, event->ws_kind, event->data, event->len);
    break;
  case CPOOL_EVENT_WS_DISCONNECTED:
    storm.disconnected++;
    break;
  case CPOOL_EVENT_WS_CLOSED:
    assert_in_range(event->reason, CPOOL_WS_BY_PEER, CPOOL_WS_MANAGER);
    storm.ended++;
    atomic_store(&storm.state[slot_of(event->source)], 0);
    break;
  case CPOOL_EVENT_WS_MANAGER_CLOSED:
    storm.manager_closed = true;
    break;
  default:
    break;
  }
}

/* One thread takes the events, so that they are seen in order; the manager outlives it. */
static void *consume(void *arg)
{
  const cpool_event *events[BATCH];
  (void) arg;
  while (!storm.manager_closed) {
    int count = cpool_queue_wait(storm.queue, events, BATCH, 100);
    for (int i = 0; i < count; i++)
      on_event(events[i]);
    if (count > 0)
      cpool_queue_release(storm.queue, events, count);
  }
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------- callers */

/* A connection to the manager's own listener, or to nobody. */
static void dial(uint32_t *seed)
{
  char id[16], url[64];
  cpool_conn conn;
  cpool_ws_connect_options options;
  cpool_ws_connect_options_init(&options);
  snprintf(url, sizeof url, "ws://127.0.0.1:%u/", next_random(seed) % 8 == 0 ? 1 : storm.port);
  options.url = url;
  options.reconnect_ms = next_random(seed) % 4 == 0 ? CPOOL_OFF : 5;
  options.max_reconnect_ms = 20;
  options.max_attempts = 2;
  if (cpool_ws_connect(storm.ws, id_of(next_random(seed), id), &options, &conn) != CPOOL_OK)
    return;
  storm.told++;
  storm.dialled++;
  (void) cpool_ws_subscribe(storm.ws, conn, "odd");
  (void) cpool_ws_expire(storm.ws, conn, 20 + next_random(seed) % 200); /* else they fill the registry */
}

static void *call(void *arg)
{
  uint32_t seed = storm.seed * 31 + (uint32_t) (uintptr_t) arg * 7919;
  char id[16], page[64], bytes[2000] = {0};
  cpool_ws_info info;
  cpool_ws_health health;
  cpool_ws_info_init(&info);
  cpool_ws_health_init(&health);
  while (!storm.clients_done) {
    if (storm.calls > storm.operations) { /* else there are nothing but calls */
      sched_yield();
      continue;
    }
    storm.calls++;
    cpool_conn conn = storm.last;
    uint64_t cursor = next_random(&seed) % 8;
    (void) cpool_ws_find(storm.ws, id_of(next_random(&seed), id), &conn);
    switch (next_random(&seed) % 13) {
    case 0:
      (void) cpool_ws_remove(storm.ws, conn, 4000, "storm");
      break;
    case 1:
      (void) cpool_ws_expire(storm.ws, conn, next_random(&seed) % 50);
      break;
    case 2:
      (void) cpool_ws_get(storm.ws, conn, &info);
      break;
    case 3:
      (void) cpool_ws_ids(storm.ws, &cursor, page, sizeof page);
      break;
    case 4:
      (void) cpool_ws_unsubscribe(storm.ws, conn, "even");
      break;
    case 5:
      if (next_random(&seed) % 16 == 0)
        assert_int_equal(cpool_ws_health_check(storm.ws, next_random(&seed) % 2 == 0 ? NULL : &health), CPOOL_OK);
      break;
    case 6:
    case 7:
      (void) cpool_ws_publish(storm.ws, next_random(&seed) % 2 == 0 ? "odd" : NULL, CPOOL_WS_BINARY, bytes,
                              next_random(&seed) % sizeof bytes);
      break;
    case 8:
      if (cpool_ws_add_external(storm.ws, id_of(next_random(&seed), id), NULL, &conn) == CPOOL_OK)
        storm.told++;
      break;
    case 9:
      (void) cpool_ws_touch(storm.ws, conn);
      break;
    case 10:
      if (next_random(&seed) % 8 == 0)
        dial(&seed);
      break;
    default:
      (void) cpool_ws_send(storm.ws, conn, CPOOL_WS_TEXT, "from a caller", 13);
    }
  }
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------- clients */

static void live(struct ws_peer *peer, uint32_t *seed)
{
  char payload[3000] = {0};
  for (uint32_t steps = next_random(seed) % 12; steps > 0 && goes_on(); steps--) {
    size_t len = next_random(seed) % sizeof payload;
    switch (next_random(seed) % 10) {
    case 0:
      (void) ws_peer_send(peer, WS_FIN | WS_PING, payload, len % 125);
      break;
    case 1:
      (void) ws_peer_send(peer, WS_TEXT, payload, len / 2);
      (void) ws_peer_send(peer, WS_FIN, payload, len / 2);
      break;
    case 2:
      (void) ws_peer_send(peer, (int) (next_random(seed) & 0xFF), payload, len % 125); /* anything */
      break;
    case 3:
      (void) ws_peer_send_raw(peer, payload, len % 7);
      break;
    case 4:
      (void) ws_peer_send(peer, WS_FIN | WS_BINARY, payload, sizeof payload); /* above the cap */
      break;
    default:
      (void) ws_peer_send(peer, WS_FIN | WS_BINARY, payload, len % 2000);
      (void) ws_peer_read(peer, 1);
    }
  }
}

static void *visit(void *arg)
{
  static const char *const heads[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "junk\r\n\r\n", "\x16\x03\x01", ""};
  uint32_t seed = storm.seed * 17 + (uint32_t) (uintptr_t) arg * 104729;
  while (goes_on()) {
    uint32_t kind = next_random(&seed);
    struct ws_peer_options how = {.head = kind % 16 == 0 ? heads[kind / 16 % 4] : NULL};
    struct ws_peer *peer = ws_peer_open(storm.port, &how);
    if (ws_peer_status(peer) == 101)
      live(peer, &seed);
    switch (next_random(&seed) % 5) {
    case 4: /* vanishes: says nothing more, and is cut for that */
      if (next_random(&seed) % 8 == 0)
        while (ws_peer_read(peer, 300).first >= 0)
          continue;
      ws_peer_free(peer);
      break;
    case 0:
      (void) ws_peer_send_close(peer, next_random(&seed) % 2 == 0 ? 1000 : 5000, "bye");
      (void) ws_peer_read(peer, 5);
      ws_peer_free(peer);
      break;
    case 1:
      ws_peer_reset(peer);
      break;
    case 2:
      shutdown(ws_peer_fd(peer), SHUT_WR);
      (void) ws_peer_read(peer, 5);
      ws_peer_free(peer);
      break;
    default:
      ws_peer_free(peer);
    }
  }
  return NULL;
}

static void each_connection_ends_once(void **state)
{
  (void) state;
  pthread_t consumer, callers[CALLERS], clients[CLIENTS];
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  assert_int_equal(cpool_queue_new(&storm.queue, NULL), CPOOL_OK);
  options.queue = storm.queue;
  options.on_duplicate = CPOOL_WS_REPLACE;
  options.on_overflow = CPOOL_WS_OVERFLOW_DROP_OLDEST;
  options.max_connections = 10;
  options.max_handshakes = 8;
  options.max_message_bytes = 2500;
  options.max_send_queue_messages = 20;
  options.handshake_timeout_ms = 300;
  options.close_timeout_ms = 200;
  options.health_check_interval_ms = 50;
  options.pong_timeout_ms = 50;
  assert_int_equal(cpool_ws_new(&storm.ws, NULL, &options), CPOOL_OK);
  fixture.ws = storm.ws;
  int port = cpool_ws_listen(storm.ws, &listen);
  assert_in_range(port, 1, 65535);
  storm.port = (uint16_t) port;
  assert_int_equal(pthread_create(&consumer, NULL, consume, NULL), 0);
  for (int i = 0; i < CLIENTS; i++)
    assert_int_equal(pthread_create(&clients[i], NULL, visit, (void *) (uintptr_t) (i + 1)), 0);
  for (int i = 0; i < CALLERS; i++)
    assert_int_equal(pthread_create(&callers[i], NULL, call, (void *) (uintptr_t) (i + 1)), 0);
  for (int i = 0; i < CLIENTS; i++)
    pthread_join(clients[i], NULL);
  storm.clients_done = true;
  for (int i = 0; i < CALLERS; i++)
    pthread_join(callers[i], NULL);
  assert_int_equal(cpool_ws_close_start(storm.ws, 200), CPOOL_OK);
  pthread_join(consumer, NULL);
  cpool_ws_stats stats = ws_stats(); /* adds up */
  print_message(
      "%llu operations, %llu calls: %llu connections, %llu dialled and %llu times down, %llu told of, %llu opened, "
      "%llu messages, %llu cut for silence\n",
      (unsigned long long) storm.operations, (unsigned long long) storm.calls, (unsigned long long) stats.opened,
      (unsigned long long) storm.dialled, (unsigned long long) storm.disconnected, (unsigned long long) storm.told,
      (unsigned long long) storm.opened, (unsigned long long) storm.messages,
      (unsigned long long) stats.closed_no_pong);
  assert_int_equal(stats.opened, stats.closed);
  assert_int_equal(stats.opened - stats.closed, 0);
  assert_int_equal(stats.queued_bytes, 0);
  assert_int_equal(stats.queued_messages, 0);
  assert_int_equal(stats.topics, 0);
  assert_int_equal(stats.paused_connections, 0);
  assert_int_equal(storm.ended, storm.told);
  assert_true(storm.opened > CLIENTS && storm.messages > CLIENTS && storm.dialled > 0);
  cpool_ws_free(storm.ws);
  fixture.ws = NULL;
  assert_int_equal(cpool_queue_free(storm.queue), CPOOL_OK);
}

int main(int argc, char **argv)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(each_connection_ends_once)};
  if (argc > 1)
    storm.most = strtoull(argv[1], NULL, 10);
  if (argc > 2)
    storm.seed = (uint32_t) strtoul(argv[2], NULL, 10);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
