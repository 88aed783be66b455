/* accept: who is let in, and under which name
 *
 *   the listener's filters  path, origin, room in the registry       an HTTP status refuses
 *   by callback             inside of CPOOL_EVENT_WS_ACCEPT          an HTTP status refuses
 *   with a queue            after the upgrade; until then nothing    a close frame refuses
 *                           of the client is delivered
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"
#include "ws/dialled.h"
#include "ws/listen.h"

enum { FIELD_BYTES = 8192, TEXTS_BYTES = 65536 };

static const char *const kept_always[] = {"host", "origin", "user-agent", "cookie", "authorization", "x-forwarded-for"};
enum { KEPT_ALWAYS = sizeof kept_always / sizeof *kept_always };

struct field {
  const char *name; /* lives as long as the manager */
  const char *value;
};

/* What a client asks for: copied, since libwebsockets forgets it with the upgrade. */
struct cpool__upgrade {
  struct cpool__event event;
  struct cpool__ws_conn *conn; /* NULL: not delivered yet */
  cpool_ws_upgrade what;
  struct cpool__buffer texts;
  char remote[CPOOL__ADDRESS_TEXT];
  int field_count;
  struct field fields[];
};

void cpool__ws_upgrade_free(struct cpool__upgrade *upgrade)
{
  if (upgrade == NULL)
    return;
  cpool__buffer_fini(&upgrade->texts);
  cpool__free(upgrade);
}

static void released(struct cpool__event *event)
{
  struct cpool__upgrade *upgrade = cpool__container_of(event, struct cpool__upgrade, event);
  cpool__ws_conn_drop(upgrade->conn);
  cpool__ws_upgrade_free(upgrade);
}

/* Appends a text with its NUL, and tells where it begins; -1: out of memory, or the request is too large. */
static long put(struct cpool__upgrade *upgrade, const char *text)
{
  size_t at = upgrade->texts.len;
  return cpool__buffer_append(&upgrade->texts, text, strlen(text) + 1, TEXTS_BYTES) == CPOOL__BUFFER_OK ? (long) at
                                                                                                        : -1;
}

/* The texts move while they grow: their places are noted first. NULL: as above. */
static struct cpool__upgrade *upgrade_new(struct cpool__ws_conn *conn)
{
  static const enum cpool__wire_field parts[] = {CPOOL__WIRE_PATH, CPOOL__WIRE_QUERY, CPOOL__WIRE_SUBPROTOCOLS};
  struct cpool__listener *listener = conn->listener;
  int header_count = KEPT_ALWAYS + listener->header_count, count = 0;
  char text[FIELD_BYTES];
  struct cpool__upgrade *upgrade = cpool__calloc(1, sizeof *upgrade + (size_t) header_count * sizeof *upgrade->fields);
  long *places = cpool__calloc((size_t) header_count + 3, sizeof *places);
  if (upgrade == NULL || places == NULL)
    goto failed;
  for (int i = 0; i < 3; i++) {
    (void) cpool__wire_field(&conn->wire, parts[i], text, sizeof text);
    if ((places[i] = put(upgrade, text)) < 0)
      goto failed;
  }
  for (int i = 0; i < header_count; i++) {
    const char *name = i < KEPT_ALWAYS ? kept_always[i] : listener->header_names[i - KEPT_ALWAYS];
    if (cpool__wire_header(&conn->wire, name, text, sizeof text) < 0)
      continue;
    if ((places[3 + count] = put(upgrade, text)) < 0)
      goto failed;
    upgrade->fields[count++].name = name;
  }
  cpool__ws_conn_remote(conn, upgrade->remote);
  upgrade->field_count = count;
  for (int i = 0; i < count; i++)
    upgrade->fields[i].value = upgrade->texts.data + places[3 + i];
  upgrade->what = (cpool_ws_upgrade){.size = sizeof upgrade->what,
                                     .path = upgrade->texts.data + places[0],
                                     .query = upgrade->texts.data + places[1],
                                     .subprotocols = upgrade->texts.data + places[2],
                                     .host = "",
                                     .origin = "",
                                     .remote_address = upgrade->remote,
                                     .tls = conn->tls};
  for (int i = 0; i < count; i++) {
    if (strcmp(upgrade->fields[i].name, "host") == 0)
      upgrade->what.host = upgrade->fields[i].value;
    else if (strcmp(upgrade->fields[i].name, "origin") == 0)
      upgrade->what.origin = upgrade->fields[i].value;
  }
  upgrade->event.bytes = sizeof *upgrade + upgrade->texts.capacity;
  upgrade->event.release = released;
  cpool__free(places);
  return upgrade;
failed:
  cpool__free(places);
  cpool__ws_upgrade_free(upgrade);
  return NULL;
}

/* ----------------------------------------------------------------------------------------------------------- decisions */

static bool in_list(const char *list, const char *text)
{
  size_t len = strlen(text);
  for (const char *at = list; *at != '\0';) {
    size_t skip = strspn(at, ", \t"), item = strcspn(at + skip, ", \t");
    if (item == len && strncasecmp(at + skip, text, len) == 0)
      return true;
    at += skip + item;
  }
  return false;
}

/* 0, or a status and its count. */
static int filter(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  const struct cpool__listener *listener = conn->listener;
  char text[FIELD_BYTES];
  (void) cpool__wire_field(&conn->wire, CPOOL__WIRE_PATH, text, sizeof text);
  if (listener->path != NULL && strcmp(listener->path, text) != 0) {
    ws->now.refused_path++;
    cpool__ws_changed(ws);
    return 404;
  }
  if (listener->origins != NULL && cpool__wire_header(&conn->wire, "origin", text, sizeof text) >= 0 &&
      !in_list(listener->origins, text)) {
    ws->now.refused_origin++;
    cpool__ws_changed(ws);
    return 403;
  }
  if (ws->life != CPOOL__WS_OPEN || ws->registered_count >= ws->options.max_connections) {
    ws->now.refused_full++;
    return 503;
  }
  return 0;
}

static int by_callback(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  struct cpool__event *event = &conn->upgrade->event;
  event->event =
      (cpool_event){.kind = CPOOL_EVENT_WS_ACCEPT, .source = conn->handle, .user = ws->options.user, .conn_id = ""};
  ws->deciding = conn;
  cpool__callback_depth++;
  ws->options.on_event(&event->event);
  cpool__callback_depth--;
  ws->deciding = NULL;
  if (!cpool__runtime_alive(ws->rt)) /* it has forked: the child has nothing to say */
    return 503;
  cpool__ws_upgrade_free(conn->upgrade);
  conn->upgrade = NULL;
  if (conn->registered)
    return 0;
  return conn->refuse_status != 0 ? conn->refuse_status : 403;
}

int cpool__ws_decide(struct cpool__ws_conn *conn)
{
  cpool_ws *ws = conn->ws;
  cpool__ws_conn_heard(conn);
  int status = filter(conn);
  if (status == 0 && conn->listener->decide == CPOOL_OFF) {
    char id[32];
    snprintf(id, sizeof id, "%llu", (unsigned long long) conn->handle);
    status = cpool__ws_conn_register(conn, id, NULL) == CPOOL_OK ? 0 : 503;
  } else if (status == 0) {
    conn->upgrade = upgrade_new(conn);
    if (conn->upgrade == NULL)
      status = 503;
    else if (ws->options.queue == NULL)
      status = by_callback(conn);
  }
  if (status != 0 && conn->reason == 0)
    conn->reason = CPOOL_WS_REFUSED;
  return status;
}

void cpool__ws_upgraded(struct cpool__ws_conn *conn)
{
  cpool__ws_conn_heard(conn);
  if (conn->reason != 0) { /* removed, replaced or cut meanwhile */
    cpool__wire_cut(&conn->wire);
    return;
  }
  if (conn->dialled != NULL) {
    cpool__dialled_opened(conn);
    return;
  }
  if (conn->registered) {
    cpool__ws_conn_open(conn, NULL);
    return;
  }
  struct cpool__upgrade *upgrade = conn->upgrade;
  conn->upgrade = NULL;
  cpool__ws_conn_move(conn, CPOOL__WS_UNDECIDED);
  cpool__ws_pause(conn, true);
  conn->told = true;
  upgrade->conn = conn;
  cpool__ws_conn_deliver(conn, &upgrade->event, CPOOL_EVENT_WS_ACCEPT);
}

/* ---------------------------------------------------------------------------------------------------------- any thread */

static const struct cpool__upgrade *upgrade_of(const cpool_event *event)
{
  if (event == NULL || event->kind != CPOOL_EVENT_WS_ACCEPT)
    return NULL;
  return cpool__container_of(cpool__container_of(event, const struct cpool__event, event), const struct cpool__upgrade,
                             event);
}

int cpool_event_upgrade_get(const cpool_event *event, cpool_ws_upgrade *out)
{
  const struct cpool__upgrade *upgrade = upgrade_of(event);
  if (upgrade == NULL || out == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "event_upgrade_get: a CPOOL_EVENT_WS_ACCEPT is needed");
  return cpool__struct_write(out, &upgrade->what, sizeof upgrade->what, "cpool_ws_upgrade");
}

const char *cpool_event_upgrade_header(const cpool_event *event, const char *name)
{
  const struct cpool__upgrade *upgrade = upgrade_of(event);
  if (upgrade == NULL || name == NULL)
    return NULL;
  for (int i = 0; i < upgrade->field_count; i++)
    if (strcasecmp(upgrade->fields[i].name, name) == 0)
      return upgrade->fields[i].value;
  return NULL;
}
