/* ws: the life of a manager: made on any thread, worked on the loop, closed in steps, freed
 *
 *   OPEN     -> DRAINING  cpool_ws_close_start: nothing new; connections are closed one after another, spread over half of the
 *                         time
 *   DRAINING -> CUT       the time is over: what is left is cut
 *   DRAINING, CUT
 *            -> FREEING   no connection is left, and no message is on its way: libwebsockets is taken down
 *   FREEING  -> CLOSED    it is; the closed event is handed over, after all others, as the loop's last touch of the manager
 */
#include "base/memory.h"
#include "core/error.h"
#include "core/wait.h"
#include "ws/dialled.h"
#include "ws/hosted.h"
#include "ws/listen.h"
#include "ws/topic.h"

enum { DRAIN_STEP_MS = 10, IDS_LOOP = 2 };

/* --------------------------------------------------------------------------------------------------------- any thread */

int cpool__ws_readable(cpool_ws *ws)
{
  if (ws == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "the manager is NULL");
  if (!cpool__fork_mark_same_process(&ws->fork_mark))
    return cpool__refuse(CPOOL_EFORK, CPOOL_LAYER_CALLER, "the manager belongs to the parent process");
  return CPOOL_OK;
}

int cpool__ws_usable(cpool_ws *ws)
{
  int rc = cpool__ws_readable(ws);
  if (rc == CPOOL_OK && (atomic_load(&ws->inflight_count) & CPOOL__WS_CLOSING_BIT) != 0)
    rc = cpool__refuse(CPOOL_ECLOSED, CPOOL_LAYER_WS, "the manager is closing");
  return rc;
}

int cpool__ws_post(cpool_ws *ws, struct cpool__msg *msg)
{
  uint32_t count = atomic_load(&ws->inflight_count);
  do {
    if ((count & CPOOL__WS_CLOSING_BIT) != 0)
      return cpool__refuse(CPOOL_ECLOSED, CPOOL_LAYER_WS, "the manager is closing");
  } while (!atomic_compare_exchange_weak(&ws->inflight_count, &count, count + 1));
  cpool__runtime_post(ws->rt, msg);
  return CPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------- loop thread */

void cpool__ws_leave(cpool_ws *ws)
{
  atomic_fetch_sub(&ws->inflight_count, 1);
  cpool__ws_go_on_closing(ws);
}

/* A host's loop does not return while there are connections, or may be. */
static void settle_keep(cpool_ws *ws)
{
  bool keep = ws->life != CPOOL__WS_CLOSED &&
              (ws->life != CPOOL__WS_OPEN || !cpool__list_empty(&ws->conns) || !cpool__list_empty(&ws->listeners));
  if (keep != ws->kept)
    cpool__runtime_keep(ws->rt, keep ? 1 : -1);
  ws->kept = keep;
}

static void publish(struct cpool__task *task)
{
  cpool_ws *ws = cpool__container_of(task, cpool_ws, publish_task);
  settle_keep(ws);
  cpool__ws_stats_publish(task);
}

void cpool__ws_changed(cpool_ws *ws)
{
  cpool__runtime_defer_late(ws->rt, &ws->publish_task);
}

void cpool__ws_go_on_closing(cpool_ws *ws)
{
  if (ws->life != CPOOL__WS_OPEN && ws->life < CPOOL__WS_FREEING)
    cpool__runtime_defer(ws->rt, &ws->close_task);
}

/* The memory goes with the owner's call, or with the loop's last touch when that came first. */
static void ws_free(cpool_ws *ws)
{
  cpool_runtime *rt = ws->rt;
  if (atomic_fetch_sub(&ws->refs, 1) > 1)
    return;
  for (struct cpool__link *link; (link = cpool__list_pop_front(&ws->client_tls)) != NULL;)
    cpool__client_tls_free(cpool__container_of(link, struct cpool__client_tls, link));
  pthread_mutex_destroy(&ws->client_tls_lock);
  cpool__free((char *) (uintptr_t) ws->options.dns_servers);
  cpool__free((char *) (uintptr_t) ws->options.dns_hosts_file);
  cpool__end_unref(ws->end);
  cpool__table_fini(&ws->by_id);
  cpool__table_fini(&ws->topics);
  cpool__table_fini(&ws->addresses);
  cpool__table_fini(&ws->hosted);
  cpool__ids_fini(&ws->ids);
  cpool__fork_mark_fini(&ws->fork_mark);
  pthread_mutex_destroy(&ws->lock);
  pthread_mutex_destroy(&ws->options_lock);
  cpool__free(ws->scratch);
  cpool__free(ws);
  cpool__runtime_drop(rt);
}

static void on_end(struct cpool__task *task)
{
  cpool_ws *ws = cpool__container_of(task, cpool_ws, close_task);
  struct cpool__end *end = ws->end;
  int open = CPOOL__END_OPEN;
  if (atomic_compare_exchange_strong(&ws->end_state, &open, CPOOL__END_CLOSED)) {
    cpool__end_deliver(end); /* the manager may be freed from here on */
    return;
  }
  cpool__end_skip(end);
  ws_free(ws);
}

static void on_wires_free(void *user)
{
  cpool_ws *ws = user;
  ws->life = CPOOL__WS_CLOSED;
  cpool__resolver_free(ws->resolver);
  ws->resolver = NULL;
  cpool__listeners_free(ws);
  cpool__task_cancel(&ws->publish_task);
  publish(&ws->publish_task);
  ws->close_task.fn = on_end;
  cpool__runtime_defer(ws->rt, &ws->close_task); /* in the next round: after the events of connections */
}

static void cut_all(cpool_ws *ws, bool handshakes_only)
{
  struct cpool__link *next;
  for (struct cpool__link *link = cpool__list_first(&ws->conns); link != NULL; link = next) {
    struct cpool__ws_conn *conn = cpool__container_of(link, struct cpool__ws_conn, link);
    next = cpool__list_next(&ws->conns, link);
    if (handshakes_only && cpool__ws_phase(conn) > CPOOL__WS_UNDECIDED)
      continue;
    cpool__ws_conn_cut(conn, CPOOL_WS_MANAGER);
    if (conn->hosted != NULL) /* its host may forward nothing any more */
      cpool__ws_conn_gone(conn);
  }
}

/* Closes so many that what is due by now has been told to go: the first at once, all by the half of the time. */
static void close_some(cpool_ws *ws)
{
  int64_t elapsed = (int64_t) cpool__runtime_now_ms(ws->rt) - ws->drain_from_ms, half = ws->drain_ms / 2;
  int64_t due = half <= 0 || elapsed >= half ? ws->drain_count : 1 + (ws->drain_count - 1) * elapsed / half;
  struct cpool__link *next;
  for (struct cpool__link *link = cpool__list_first(&ws->conns); link != NULL && ws->drained_count < due; link = next) {
    struct cpool__ws_conn *conn = cpool__container_of(link, struct cpool__ws_conn, link);
    next = cpool__list_next(&ws->conns, link);
    if (cpool__ws_phase(conn) != CPOOL__WS_UP || conn->reason != 0)
      continue;
    ws->drained_count++;
    cpool__ws_conn_close(conn, CPOOL_WS_MANAGER, 1001, NULL);
  }
}

static void begin_draining(cpool_ws *ws, uint64_t at_us)
{
  uint64_t now_us = cpool__runtime_now_us(ws->rt);
  ws->life = CPOOL__WS_DRAINING;
  cpool__listeners_stop(ws);
  cut_all(ws, true);
  ws->drain_count = ws->open_count;
  ws->drain_from_ms = (int64_t) (now_us / 1000);
  ws->drain_ms = at_us == UINT64_MAX ? 0 : at_us > now_us ? (int64_t) ((at_us - now_us) / 1000) : 0;
  cpool__ws_changed(ws);
}

static void on_close_time(struct cpool__timer *timer)
{
  cpool_ws *ws = cpool__container_of(timer, cpool_ws, close_timer);
  cpool__runtime_defer(ws->rt, &ws->close_task);
}

static void work_on_close(struct cpool__task *task)
{
  cpool_ws *ws = cpool__container_of(task, cpool_ws, close_task);
  uint64_t now_us = cpool__runtime_now_us(ws->rt), at_us = atomic_load(&ws->close_at_us);
  if (ws->life == CPOOL__WS_OPEN)
    begin_draining(ws, at_us);
  if (ws->life == CPOOL__WS_DRAINING) {
    close_some(ws);
    if (now_us >= at_us) {
      ws->life = CPOOL__WS_CUT;
      cut_all(ws, false);
    }
  }
  uint32_t none = CPOOL__WS_CLOSING_BIT;
  if (cpool__list_empty(&ws->conns) &&
      atomic_compare_exchange_strong(&ws->inflight_count, &none, CPOOL__WS_CLOSING_BIT | CPOOL__WS_CLOSED_BIT)) {
    ws->life = CPOOL__WS_FREEING;
    cpool__runtime_disarm(ws->rt, &ws->close_timer);
    cpool__wires_free(ws->wires, on_wires_free, ws);
  } else if (ws->life == CPOOL__WS_DRAINING) {
    cpool__runtime_arm(ws->rt, &ws->close_timer, now_us / 1000 + DRAIN_STEP_MS, on_close_time);
  }
}

static void on_close_msg(struct cpool__msg *msg)
{
  cpool_ws *ws = cpool__container_of(msg, cpool_ws, close_msg);
  atomic_store(&ws->close_posted, false);
  cpool__runtime_defer(ws->rt, &ws->close_task);
  cpool__ws_leave(ws);
}

/* ------------------------------------------------------------------------------------------------------- public calls */

static int begin_on_loop(void *arg)
{
  cpool_ws *ws = arg;
  const struct cpool__dns_options dns = {.ttl_max_ms = 300000, /* as pools by default */
                                         .ttl_min_ms = 1000,
                                         .negative_ttl_ms = 5000,
                                         .timeout_ms = 5000,
                                         .stale_ms = 3600000,
                                         .max_entries = 1000,
                                         .servers = ws->options.dns_servers,
                                         .hosts_file = ws->options.dns_hosts_file};
  int rc = cpool__resolver_new(&ws->resolver, ws->rt, &dns, NULL);
  if (rc != CPOOL_OK)
    return rc == CPOOL_ENOMEM ? cpool__refuse(rc, CPOOL_LAYER_SYSTEM, "ws_new: no memory") : rc;
  rc = cpool__wires_new(&ws->wires, ws->rt, &cpool__ws_wire_events, ws->options.receive_buffer_bytes);
  if (rc != CPOOL_OK) {
    cpool__resolver_free(ws->resolver);
    ws->resolver = NULL;
  }
  return rc;
}

static int read_options(cpool_ws_options *own, const cpool_ws_options *options)
{
  int rc = cpool__ws_options_make(own, options);
  if (rc == CPOOL_OK && (own->queue == NULL) == (own->on_event == NULL))
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_new: exactly one of queue and on_event is needed");
  return rc;
}

static void init(cpool_ws *ws, cpool_runtime *rt)
{
  ws->rt = rt;
  atomic_init(&ws->refs, 1);
  atomic_init(&ws->close_at_us, UINT64_MAX);
  cpool__fork_mark_init(&ws->fork_mark);
  pthread_mutex_init(&ws->lock, NULL);
  pthread_mutex_init(&ws->options_lock, NULL);
  cpool__ids_init(&ws->ids, IDS_LOOP);
  cpool__table_init(&ws->by_id, cpool__ws_same_id);
  cpool__table_init(&ws->topics, cpool__topic_same);
  cpool__table_init(&ws->addresses, cpool__address_same);
  cpool__table_init(&ws->hosted, cpool__hosted_same);
  cpool__list_init(&ws->conns);
  cpool__list_init(&ws->listeners);
  cpool__list_init(&ws->to_flush);
  cpool__list_init(&ws->to_dial);
  cpool__list_init(&ws->client_tls);
  pthread_mutex_init(&ws->client_tls_lock, NULL);
  cpool__masks_init(&ws->masks);
  ws->nonce = cpool__clock_us() << 16 | 1;
  ws->close_msg.fn = on_close_msg;
  ws->flush_task.fn = cpool__ws_flush;
  ws->dial_task.fn = cpool__ws_dial_more;
  ws->publish_task.fn = publish;
  ws->close_task.fn = work_on_close;
}

int cpool_ws_new(cpool_ws **out, cpool_runtime *runtime, const cpool_ws_options *options)
{
  cpool_ws_options own;
  cpool_runtime *rt = runtime;
  int rc = read_options(&own, options);
  if (rc == CPOOL_OK && out == NULL)
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_new: out is needed");
  if (rc == CPOOL_OK && rt != NULL && !cpool__runtime_alive(rt))
    rc = cpool__refuse(CPOOL_EFORK, CPOOL_LAYER_CALLER, "the runtime belongs to the parent process");
  if (rc == CPOOL_OK && rt == NULL)
    rc = cpool_runtime_new(&rt, NULL);
  if (rc != CPOOL_OK)
    return rc;
  cpool__runtime_hold(rt);
  if (runtime == NULL)
    cpool__runtime_make_private(rt);
  cpool_ws *ws = cpool__calloc(1, sizeof *ws);
  unsigned char *scratch = cpool__malloc(CPOOL__WS_SCRATCH_BYTES);
  struct cpool__end *end = cpool__end_new();
  if (ws == NULL || scratch == NULL || end == NULL) {
    cpool__free(ws);
    cpool__free(scratch);
    if (end != NULL) {
      cpool__end_unref(end);
      cpool__end_unref(end);
    }
    cpool__runtime_drop(rt);
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_new: no memory");
  }
  init(ws, rt);
  ws->options = own;
  ws->options.dns_servers = cpool__strdup(own.dns_servers);
  ws->options.dns_hosts_file = cpool__strdup(own.dns_hosts_file);
  ws->wanted = ws->options;
  cpool__ws_limits_set(ws, &own);
  ws->scratch = scratch;
  ws->end = end;
  bool copied = (own.dns_servers == NULL) == (ws->options.dns_servers == NULL) &&
                (own.dns_hosts_file == NULL) == (ws->options.dns_hosts_file == NULL);
  rc = copied ? cpool__call(rt, begin_on_loop, ws)
              : cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_new: no memory");
  if (rc != CPOOL_OK) {
    cpool__end_unref(end); /* the event's */
    ws_free(ws);
    return rc;
  }
  cpool__end_sink(end, CPOOL_EVENT_WS_MANAGER_CLOSED, own.queue, own.on_event, own.user);
  *out = ws;
  return CPOOL_OK;
}

int cpool_ws_close_start(cpool_ws *ws, int64_t drain_ms)
{
  int rc = cpool__ws_readable(ws);
  if (rc == CPOOL_OK && drain_ms < CPOOL_OFF)
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_close_start: drain_ms %lld is below -1 (off)",
                       (long long) drain_ms);
  if (rc != CPOOL_OK)
    return rc;
  uint64_t at_us = UINT64_MAX, known = atomic_load(&ws->close_at_us);
  if (drain_ms != CPOOL_OFF && drain_ms < INT64_MAX / 2000)
    at_us = cpool__clock_us() + (uint64_t) drain_ms * 1000;
  while (at_us < known && !atomic_compare_exchange_weak(&ws->close_at_us, &known, at_us))
    continue;
  if (atomic_exchange(&ws->close_posted, true))
    return CPOOL_OK;
  uint32_t count = atomic_load(&ws->inflight_count);
  do {
    if ((count & CPOOL__WS_CLOSED_BIT) != 0)
      return CPOOL_OK;
  } while (!atomic_compare_exchange_weak(&ws->inflight_count, &count, (count + 1) | CPOOL__WS_CLOSING_BIT));
  cpool__runtime_post(ws->rt, &ws->close_msg);
  return CPOOL_OK;
}

void cpool_ws_free(cpool_ws *ws)
{
  int open = CPOOL__END_OPEN;
  if (ws == NULL || !cpool__fork_mark_same_process(&ws->fork_mark))
    return;
  atomic_fetch_add(&ws->refs, 1); /* a close under way may end, and free, in the middle of this */
  if (atomic_compare_exchange_strong(&ws->end_state, &open, CPOOL__END_FREED))
    (void) cpool_ws_close_start(ws, 0);
  else
    ws_free(ws);
  ws_free(ws);
}

int cpool_ws_close(cpool_ws *ws, int64_t drain_ms)
{
  if (ws == NULL)
    return CPOOL_OK;
  int rc = cpool__ws_readable(ws);
  if (rc == CPOOL_OK && !cpool__runtime_may_wait(ws->rt))
    rc = cpool__refuse(CPOOL_EDEADLK, CPOOL_LAYER_CALLER, "ws_close: would wait for the thread that it runs on");
  struct cpool__end *end = rc == CPOOL_OK ? ws->end : NULL;
  if (rc == CPOOL_OK)
    rc = cpool_ws_close_start(ws, drain_ms);
  if (rc != CPOOL_OK)
    return rc;
  cpool__end_wait(end, ws->rt);
  cpool_ws_free(ws);
  return CPOOL_OK;
}
