/* hosted: connections of the host's own context of libwebsockets
 *
 * The one pointer that a struct lws has room for is the host's: ours are found by a table. */
#include "ws/hosted.h"

#include "base/memory.h"
#include "core/error.h"

struct cpool__hosted {
  struct cpool__table_entry entry;
  struct lws *wsi;
  struct cpool__ws_conn *conn;
};

static int same(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  (void) len;
  return cpool__container_of(entry, const struct cpool__hosted, entry)->wsi == *(struct lws *const *) key;
}

cpool__table_equal_fn *const cpool__hosted_same = same;

static struct cpool__hosted *find(cpool_ws *ws, struct lws *wsi)
{
  struct cpool__table_entry *entry = cpool__table_find(&ws->hosted, &wsi, sizeof wsi);
  return entry != NULL ? cpool__container_of(entry, struct cpool__hosted, entry) : NULL;
}

void cpool__hosted_left(struct cpool__ws_conn *conn)
{
  if (conn->hosted == NULL)
    return;
  cpool__table_remove(&conn->ws->hosted, &conn->hosted->entry);
  cpool__free(conn->hosted);
  conn->hosted = NULL;
}

/* NULL: out of memory. */
static struct cpool__ws_conn *hosted_new(cpool_ws *ws, struct lws *wsi)
{
  struct cpool__hosted *hosted = cpool__calloc(1, sizeof *hosted);
  struct cpool__ws_conn *conn = hosted != NULL ? cpool__ws_conn_new(ws, CPOOL__WS_HANDSHAKE) : NULL;
  if (conn != NULL) {
    hosted->wsi = wsi;
    hosted->conn = conn;
    if (cpool__table_insert(&ws->hosted, &hosted->entry, &wsi, sizeof wsi) == 0) {
      conn->hosted = hosted;
      return conn;
    }
    conn->reason = CPOOL_WS_NO_MEMORY;
    cpool__ws_conn_gone(conn);
  }
  cpool__free(hosted);
  return NULL;
}

int cpool_ws_add(cpool_ws *ws, const char *id, void *user, struct lws *wsi, cpool_conn *out)
{
  int rc = cpool__ws_usable(ws);
  if (rc == CPOOL_OK)
    rc = cpool__ws_check_id("ws_add", id);
  if (rc != CPOOL_OK)
    return rc;
  if (wsi == NULL || !cpool__runtime_on_loop(ws->rt))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_add: on the loop thread, with a connection");
  if (find(ws, wsi) != NULL)
    return cpool__refuse(CPOOL_EEXIST, CPOOL_LAYER_WS, "ws_add: the connection is there already");
  struct cpool__wire wire = {0};
  if (!cpool__wire_host(&wire, wsi))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_add: the connection is a stream of HTTP/2");
  cpool__runtime_enter(ws->rt);
  struct cpool__ws_conn *conn = hosted_new(ws, wsi);
  if (conn == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_add: no memory");
  rc = cpool__ws_conn_register(conn, id, user);
  if (rc != CPOOL_OK) {
    conn->reason = CPOOL_WS_REFUSED;
    cpool__ws_conn_gone(conn);
    return cpool__ws_refuse_place("ws_add", rc, ws, id);
  }
  conn->wire = wire;
  conn->tls = cpool__wire_tls(&wire);
  struct cpool__address remote;
  cpool__wire_remote(&conn->wire, &remote);
  cpool__ws_conn_set_remote(conn, &remote);
  cpool_conn handle = conn->handle;
  cpool__ws_conn_open(conn, NULL);
  if (out != NULL)
    *out = handle;
  return CPOOL_OK;
}

int cpool_ws_lws_event(cpool_ws *ws, struct lws *wsi, int32_t reason, void *in, size_t len)
{
  if (ws == NULL || !cpool__fork_mark_same_process(&ws->fork_mark) || !cpool__runtime_on_loop(ws->rt) ||
      !cpool__wires_forwarded(reason))
    return 0;
  struct cpool__hosted *hosted = find(ws, wsi);
  return hosted != NULL ? cpool__wires_event(ws->wires, &hosted->conn->wire, wsi, reason, in, len) : 0;
}
