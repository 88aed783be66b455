/* reconfigure: options of a living manager, read and changed */
#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"
#include "ws/conn.h"
#include "ws/listen.h"
#include "ws/stream.h"

struct change_msg {
  struct cpool__msg msg;
  cpool_ws *ws;
  cpool_ws_options options;
};

int cpool_ws_options_get(cpool_ws *ws, cpool_ws_options *out)
{
  int rc = cpool__ws_readable(ws);
  if (rc != CPOOL_OK)
    return rc;
  pthread_mutex_lock(&ws->options_lock);
  cpool_ws_options own = ws->wanted;
  pthread_mutex_unlock(&ws->options_lock);
  return cpool__struct_write(out, &own, sizeof own, "cpool_ws_options");
}

void cpool__ws_limits_set(cpool_ws *ws, const cpool_ws_options *options)
{
  struct cpool__ws_limits *limits = &ws->limits;
  atomic_store(&limits->max_send_queue_bytes, options->max_send_queue_bytes);
  atomic_store(&limits->max_send_queue_messages, options->max_send_queue_messages);
  atomic_store(&limits->max_queued_bytes, options->max_queued_bytes);
  atomic_store(&limits->on_overflow, options->on_overflow);
}

static void apply_to(struct cpool__ws_conn *conn)
{
  if (conn->stream != NULL)
    cpool__ws_stream_marks(conn->stream, conn->ws->options.stream_window_bytes);
  if (cpool__ws_phase(conn) != CPOOL__WS_UP || conn->reason != 0)
    return;
  cpool__ws_watch(conn);
  cpool__ws_conn_drained(conn); /* there may be room by the new limits */
}

static void on_change(struct cpool__msg *msg)
{
  struct change_msg *change = cpool__container_of(msg, struct change_msg, msg);
  cpool_ws *ws = change->ws;
  cpool__options_take_live(&cpool__ws_option_table, &ws->options, &change->options);
  for (struct cpool__link *link = cpool__list_first(&ws->conns); link != NULL;
       link = cpool__list_next(&ws->conns, link))
    apply_to(cpool__container_of(link, struct cpool__ws_conn, link));
  cpool__listeners_room(ws);
  cpool__runtime_defer(ws->rt, &ws->dial_task);  /* there may be more places */
  cpool__runtime_defer(ws->rt, &ws->flush_task); /* which sees to max_queued_bytes */
  cpool__ws_changed(ws);
  cpool__free(change);
  cpool__ws_leave(ws);
}

/* Under the lock: changes reach the loop in the order in which they show. */
static int put(cpool_ws *ws, struct change_msg *change)
{
  cpool_ws_options wanted = ws->wanted;
  const char *frozen = cpool__options_frozen_change(&cpool__ws_option_table, &wanted, &change->options);
  if (frozen != NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_reconfigure: ws option %s is not live", frozen);
  cpool__options_take_live(&cpool__ws_option_table, &wanted, &change->options);
  change->msg.fn = on_change;
  change->ws = ws;
  cpool__ws_limits_set(ws, &wanted); /* before the loop looks at who waits for room */
  int rc = cpool__ws_post(ws, &change->msg);
  if (rc == CPOOL_OK)
    ws->wanted = wanted;
  else
    cpool__ws_limits_set(ws, &ws->wanted);
  return rc;
}

int cpool_ws_reconfigure(cpool_ws *ws, const cpool_ws_options *options)
{
  int rc = cpool__ws_usable(ws);
  if (rc == CPOOL_OK && options == NULL)
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_reconfigure: options are needed");
  if (rc != CPOOL_OK)
    return rc;
  struct change_msg *change = cpool__calloc(1, sizeof *change);
  if (change == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_reconfigure: no memory");
  rc = cpool__ws_options_make(&change->options, options);
  if (rc == CPOOL_OK) {
    pthread_mutex_lock(&ws->options_lock);
    rc = put(ws, change);
    pthread_mutex_unlock(&ws->options_lock);
  }
  if (rc != CPOOL_OK)
    cpool__free(change);
  return rc;
}
