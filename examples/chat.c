/* chat: a chat room: what one says, all in the same room hear
 *
 *     chat PORT
 *     then, with any WebSocket client: ws://127.0.0.1:PORT/ROOM?NAME
 *
 * The path is the room, a topic; what is behind the question mark is the id. Events come out of a queue, so that a client is
 * upgraded first and let in by cpool_ws_accept, when this program comes to it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cpool.h>

enum { BATCH = 64, WAIT_MS = 200, DRAIN_MS = 1000, ROOM_BYTES = 256, LINE_BYTES = 4096 };

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
  (void) signal;
  interrupted = 1;
}

static int print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "%s: %s: %s\n", what, cpool_status_name(err.status), err.text);
  return 1;
}

static void say(cpool_ws *ws, const char *room, const char *who, const char *what, size_t len)
{
  char line[LINE_BYTES];
  int used = snprintf(line, sizeof line, "%s: %.*s", who, (int) (len < 1024 ? len : 1024), what);
  /* refused when what came is cut inside of a character: then nobody hears it */
  (void) cpool_ws_publish(ws, room, CPOOL_WS_TEXT, line, (size_t) used);
}

/* The room is kept as the connection's `user`, and freed with it. */
static void on_accept(cpool_ws *ws, const cpool_event *event)
{
  cpool_ws_upgrade upgrade;
  cpool_ws_upgrade_init(&upgrade);
  if (cpool_event_upgrade_get(event, &upgrade) != CPOOL_OK)
    return;
  char *room = upgrade.path[1] != '\0' && strlen(upgrade.path) <= ROOM_BYTES ? strdup(upgrade.path + 1) : NULL;
  if (room == NULL || upgrade.query[0] == '\0' || cpool_ws_subscribe(ws, event->source, room) != CPOOL_OK ||
      cpool_ws_accept(ws, event->source, upgrade.query, room) != CPOOL_OK) {
    free(room);
    (void) cpool_ws_refuse(ws, event->source, 0);
  }
}

static void on_event(cpool_ws *ws, const cpool_event *event)
{
  const char *room = event->user;
  switch (event->kind) {
  case CPOOL_EVENT_WS_ACCEPT:
    on_accept(ws, event);
    break;
  case CPOOL_EVENT_WS_OPEN:
    say(ws, room, event->conn_id, "came in", 7);
    break;
  case CPOOL_EVENT_WS_MESSAGE:
    if (event->ws_kind == CPOOL_WS_TEXT)
      say(ws, room, event->conn_id, event->data, event->len);
    break;
  case CPOOL_EVENT_WS_CLOSED:
    if (event->conn_id[0] != '\0') /* it had been let in */
      say(ws, room, event->conn_id, "went away", 9);
    free(event->user);
    break;
  default: /* CPOOL_EVENT_WS_DRAINED: who reads too slowly misses something; CPOOL_EVENT_WS_MANAGER_CLOSED */
    break;
  }
}

/* Takes what is there; 1 when the manager has closed. */
static int take_events(cpool_ws *ws, cpool_queue *q)
{
  const cpool_event *events[BATCH];
  int count = cpool_queue_wait(q, events, BATCH, WAIT_MS), closed = 0;
  for (int i = 0; i < count; i++) {
    closed |= events[i]->kind == CPOOL_EVENT_WS_MANAGER_CLOSED;
    on_event(ws, events[i]);
  }
  if (count > 0)
    cpool_queue_release(q, events, count);
  return closed;
}

int main(int argc, char **argv)
{
  cpool_queue *q = NULL;
  cpool_ws *ws = NULL;
  if (argc != 2) {
    fprintf(stderr, "usage: %s PORT\n", argv[0]);
    return 2;
  }
  signal(SIGINT, on_interrupt);
  signal(SIGTERM, on_interrupt);

  cpool_ws_options options;
  cpool_ws_options_init(&options);
  if (cpool_queue_new(&q, NULL) != CPOOL_OK)
    return print_error("setting up");
  options.queue = q;
  options.on_overflow = CPOOL_WS_OVERFLOW_DROP_OLDEST; /* the last lines are those that matter */
  if (cpool_ws_new(&ws, NULL, &options) != CPOOL_OK)
    return print_error("setting up");

  cpool_ws_listen_options listen;
  cpool_ws_listen_options_init(&listen);
  listen.port = atoi(argv[1]);
  int port = cpool_ws_listen(ws, &listen);
  int result = port < 0 ? print_error("listening") : 0;
  if (port >= 0) {
    printf("ws://127.0.0.1:%d/ROOM?NAME\n", port);
    fflush(stdout);
  }
  while (!interrupted && port >= 0)
    (void) take_events(ws, q);
  if (cpool_ws_close_start(ws, DRAIN_MS) != CPOOL_OK)
    return print_error("closing");
  while (!take_events(ws, q))
    continue;
  cpool_ws_free(ws);
  if (cpool_queue_free(q) != CPOOL_OK)
    return print_error("closing");
  return result;
}
