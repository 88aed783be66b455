/* http: the life of a pool: made on any thread, worked on the loop, closed in steps, freed
 *
 *   OPEN      -> DRAINING  cpool_http_close_start: submits are refused, requests in flight go on
 *   DRAINING  -> CUT       none is left, or the deadline is over: the rest ends with CPOOL_ECLOSED
 *   CUT       -> CLOSED    nothing that names the pool is under way any more: connections, resolver and hosts go, then the closed event is
 *                          handed over, after all events of requests, as the loop's last touch of the pool
 */
#include <assert.h>
#include <curl/curl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "core/end.h"
#include "core/error.h"
#include "core/structs.h"
#include "http/conn.h"
#include "http/curl_loop.h"
#include "http/dispatch.h"
#include "http/http_options.h"
#include "http/origin.h"
#include "http/overrides.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/stream.h"
#include "http/upload.h"
#include "http/session.h"

enum { KEPT_BYTES = 4 * 1024 * 1024 };

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_process(void)
{
  struct sigaction action;
  curl_global_init(CURL_GLOBAL_DEFAULT);
  /* A turn ends many transfers and then begins as many: libcurl and OpenSSL free and take megabytes of buffers each
   * time, and glibc would give them back in between. It keeps twice of what it once saw mapped and freed as one. */
  void *volatile piece = malloc(KEPT_BYTES);
  free(piece);
  /* OpenSSL writes by write(2): a peer that has gone must not end the process. A handler of the program's own stays. */
  if (sigaction(SIGPIPE, NULL, &action) == 0 && (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == SIG_DFL) {
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
  }
}

/* -------------------------------------------------------------------------------------------------------- any thread */

int cpool__http_usable(cpool_http *pool)
{
  int rc = cpool__http_readable(pool);
  if (rc == CPOOL_OK && atomic_load(&pool->closing))
    rc = cpool__refuse(CPOOL_ECLOSED, CPOOL_LAYER_POOL, "the pool is closing");
  return rc;
}

int cpool__http_readable(cpool_http *pool)
{
  if (!cpool__fork_mark_same_process(&pool->fork_mark))
    return cpool__refuse(CPOOL_EFORK, CPOOL_LAYER_CALLER, "the pool belongs to the parent process");
  return CPOOL_OK;
}

int cpool__http_enter(cpool_http *pool)
{
  if ((atomic_fetch_add(&pool->inflight_count, 1) & CPOOL__CLOSING_BIT) == 0)
    return CPOOL_OK;
  cpool__http_leave(pool);
  return cpool__refuse(CPOOL_ECLOSED, CPOOL_LAYER_POOL, "the pool is closing");
}

void cpool__http_leave(cpool_http *pool)
{
  uint32_t count = atomic_load(&pool->inflight_count);
  do {
    if (count == (CPOOL__CLOSING_BIT | 1)) {
      /* The last one while closing: the loop gives it back, as the pool may be gone right after. Nobody else can be here until it has. */
      cpool__runtime_post(pool->rt, &pool->leave);
      return;
    }
  } while (!atomic_compare_exchange_weak(&pool->inflight_count, &count, count - 1));
}

bool cpool__http_post(cpool_http *pool, struct cpool__msg *msg, cpool_op op)
{
  if (!cpool__ids_valid(&pool->ids, op))
    return false;
  atomic_fetch_add(&pool->inflight_count, 1); /* the message names the pool */
  if (!cpool__ids_valid(&pool->ids, op)) { /* it ended meanwhile, and with it perhaps what kept the pool from closing */
    cpool__http_leave(pool);
    return false;
  }
  cpool__runtime_post(pool->rt, msg);
  return true;
}

void cpool__http_unref(cpool_http *pool)
{
  if (atomic_fetch_sub(&pool->refs, 1) > 1)
    return;
  cpool__identities_fini(&pool->identities);
  cpool__url_cache_fini(&pool->urls);
  cpool__ids_fini(&pool->ids);
  cpool__http_options_fini(&pool->options);
  cpool__fork_mark_fini(&pool->fork_mark);
  pthread_mutex_destroy(&pool->options_lock);
  pthread_mutex_destroy(&pool->origins_lock);
  pthread_mutex_destroy(&pool->uploads_lock);
  cpool__table_fini(&pool->uploads);
  cpool__budget_drop(pool->stream_budget);
  cpool__dns_board_fini(&pool->names);
  cpool__free(pool);
}

/* The owner's part, after the loop's is gone. */
static void owner_free(cpool_http *pool)
{
  cpool_runtime *rt = pool->rt;
  cpool__end_unref(pool->end);
  if (pool->session != NULL)
    cpool__session_drop(pool->session);
  cpool__http_unref(pool);
  if (rt != NULL)
    cpool__runtime_drop(rt);
}

/* -------------------------------------------------------------------------------------------------------- loop thread */

static void publish(struct cpool__task *task)
{
  cpool_http *pool = cpool__container_of(task, cpool_http, publish_task);
  cpool_http_stats *now = &pool->stats.now;
  const struct cpool__admission *adm = &pool->admission;
  now->closing_connections = adm->closing_count + pool->gone_count;
  now->total_connections = (int64_t) (now->opened - now->closed) - now->closing_connections;
  now->acquired_connections = adm->busy_count;
  now->idle_connections = adm->idle_count;
  now->connecting_connections = now->total_connections - adm->busy_count - adm->idle_count;
  now->pending_requests = (int64_t) (now->requests - now->succeeded - now->failed) - now->active_requests;
  now->max_connections = pool->options.max_connections;
  now->max_connections_per_host = pool->options.max_connections_per_host;
  now->max_pending = pool->options.max_pending;
  now->origins = pool->origin_count;
  pthread_mutex_lock(&pool->identities.lock);
  now->identities = pool->identities.count;
  pthread_mutex_unlock(&pool->identities.lock);
  now->curl_pending = 0;
  for (struct cpool__link *link = cpool__list_first(&pool->identities_used); link != NULL;
       link = cpool__list_next(&pool->identities_used, link)) {
    const struct cpool__curl *curl = cpool__container_of(link, struct cpool__curl, link);
    if (!cpool__link_in(&curl->kick_task.link)) /* else libcurl has not had its chance yet */
      now->curl_pending += curl->untouched_count;
  }
  if (pool->resolver != NULL) {
    const struct cpool__dns_stats *dns = cpool__resolver_stats(pool->resolver);
    now->dns_hits = dns->hits;
    now->dns_misses = dns->misses;
    now->dns_failures = dns->failures;
    now->dns_stale = dns->stale;
    now->dns_refreshes = dns->refreshes;
  }
  cpool__http_stats_publish(&pool->stats);
  cpool__origins_publish(pool);
}

void cpool__http_touch(cpool_http *pool)
{
  cpool__runtime_defer(pool->rt, &pool->dispatch_task);
  cpool__runtime_defer_late(pool->rt, &pool->publish_task);
}

void cpool__http_leave_on_loop(cpool_http *pool)
{
  if (atomic_fetch_sub(&pool->inflight_count, 1) == (CPOOL__CLOSING_BIT | 1))
    cpool__runtime_defer(pool->rt, &pool->close_task);
}

static void on_leave(struct cpool__msg *msg)
{
  cpool__http_leave_on_loop(cpool__container_of(msg, cpool_http, leave));
}

static void on_close_time(struct cpool__timer *timer)
{
  cpool_http *pool = cpool__container_of(timer, cpool_http, close_timer);
  cpool__runtime_defer(pool->rt, &pool->close_task);
}

static void cut(cpool_http *pool)
{
  struct cpool__link *link;
  pool->state = CPOOL__HTTP_CUT;
  while ((link = cpool__list_first(&pool->requests)) != NULL)
    cpool__request_cut(cpool__container_of(link, struct cpool__request, link), CPOOL_ECLOSED, CPOOL_LAYER_POOL,
                       "the pool is closing");
  while ((link = cpool__list_first(&pool->dials)) != NULL)
    cpool__dialling_cancel(cpool__container_of(link, struct cpool__dialling, link));
}

static void close_all(cpool_http *pool)
{
  struct cpool__link *link;
  cpool__runtime_disarm(pool->rt, &pool->close_timer);
  while ((link = cpool__list_first(&pool->identities_used)) != NULL)
    cpool__curl_free(cpool__container_of(link, struct cpool__curl, link), CPOOL__CLOSE_POOL);
  cpool__origins_fini(pool);
  cpool__overrides_fini(pool);
  cpool__task_cancel(&pool->publish_task);
  publish(&pool->publish_task);
  cpool__resolver_free(pool->resolver);
  pool->resolver = NULL;
  cpool__table_fini(&pool->origins);
  cpool__free(pool->conns);
  pool->conns = NULL;
  pool->conns_capacity = 0;
  cpool__task_cancel(&pool->dispatch_task);
  cpool__task_cancel(&pool->publish_task);
  pool->state = CPOOL__HTTP_CLOSED;
  cpool__runtime_keep(pool->rt, -1);
  cpool__runtime_defer(pool->rt, &pool->end_task); /* in the next round: after the events of requests */
}

static void on_end(struct cpool__task *task)
{
  cpool_http *pool = cpool__container_of(task, cpool_http, end_task);
  struct cpool__end *end = pool->end;
  int open = CPOOL__END_OPEN;
  if (atomic_compare_exchange_strong(&pool->end_state, &open, CPOOL__END_CLOSED)) {
    cpool__end_deliver(end); /* the pool may be freed from here on */
    return;
  }
  cpool__end_skip(end);
  owner_free(pool);
}

static void work_on_close(struct cpool__task *task)
{
  cpool_http *pool = cpool__container_of(task, cpool_http, close_task);
  uint64_t now_us = cpool__runtime_now_us(pool->rt), at_us = atomic_load(&pool->close_at_us);
  if (pool->state == CPOOL__HTTP_OPEN) {
    pool->state = CPOOL__HTTP_DRAINING;
    cpool__runtime_keep(pool->rt, 1);
  }
  bool quiet = atomic_load(&pool->inflight_count) == CPOOL__CLOSING_BIT;
  if (pool->state == CPOOL__HTTP_DRAINING) {
    if (quiet || now_us >= at_us)
      cut(pool);
    else if (at_us != UINT64_MAX)
      cpool__runtime_arm(pool->rt, &pool->close_timer, at_us / 1000 + 1, on_close_time);
  }
  uint32_t none = CPOOL__CLOSING_BIT;
  if (pool->state == CPOOL__HTTP_CUT &&
      atomic_compare_exchange_strong(&pool->inflight_count, &none, CPOOL__CLOSING_BIT | CPOOL__CLOSED_BIT))
    close_all(pool);
}

static void on_nudge(struct cpool__msg *msg)
{
  cpool_http *pool = cpool__container_of(msg, cpool_http, nudge);
  atomic_store(&pool->nudged, false);
  cpool__runtime_defer(pool->rt, &pool->close_task);
  cpool__http_leave_on_loop(pool);
}

/* ------------------------------------------------------------------------------------------------------- public calls */

static void init_lists(cpool_http *pool)
{
  cpool__list_init(&pool->origins_list);
  cpool__list_init(&pool->origins_dirty);
  cpool__list_init(&pool->origins_unused);
  cpool__list_init(&pool->origins_idle);
  cpool__list_init(&pool->requests);
  cpool__list_init(&pool->identities_used);
  cpool__list_init(&pool->dials);
  for (size_t i = 0; i < sizeof pool->conns_by_port / sizeof *pool->conns_by_port; i++)
    cpool__list_init(&pool->conns_by_port[i]);
}

void cpool__http_options_publish(cpool_http *pool)
{
  const cpool_http_options *options = &pool->wanted;
  const int64_t defaults[] = {
#define DEFAULT(key) options->key,
      CPOOL__REQUEST_DEFAULT_KEYS(DEFAULT)
#undef DEFAULT
  };
  for (int i = 0; i < CPOOL__REQUEST_DEFAULTS; i++)
    atomic_store_explicit(&pool->request_defaults[i], defaults[i], memory_order_relaxed);
  atomic_store_explicit(&pool->max_sse_event_bytes, pool->wanted.max_sse_event_bytes, memory_order_relaxed);
  atomic_store_explicit(&pool->sse_retry_ms, pool->wanted.sse_retry_ms, memory_order_relaxed);
  atomic_store_explicit(&pool->max_pending, cpool__limit32(options->max_pending), memory_order_relaxed);
  atomic_store_explicit(&pool->max_overrides, options->max_origins, memory_order_relaxed);
  atomic_store_explicit(&pool->dns_stale_ms, options->dns_stale_ms, memory_order_relaxed);
}

static int make(cpool_http *pool, const cpool_http_options *options)
{
  struct cpool__dns_options dns;
  int rc = cpool__http_options_make(&pool->options, options);
  if (rc != CPOOL_OK)
    return rc;
  pool->wanted = pool->options;
  cpool__http_options_publish(pool);
  cpool__identities_init(&pool->identities, pool->options.max_identities);
  cpool__admission_init(&pool->admission, cpool__limit32(pool->options.max_connections), pool->options.max_closing);
  cpool__http_dns_options(&pool->options, &dns);
  pool->end = cpool__end_new();
  pool->stream_budget =
      cpool__budget_new(pool->options.max_stream_bytes, cpool__stream_low(pool->options.max_stream_bytes));
  if (pool->end == NULL || pool->stream_budget == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "http: no memory");
  rc = cpool__resolver_new(&pool->resolver, pool->rt, &dns, &pool->names);
  if (rc != CPOOL_OK)
    return rc;
  return cpool__session_make(&pool->session, pool, NULL);
}

int cpool_http_new(cpool_http **out, cpool_runtime *runtime, const cpool_http_options *options)
{
  cpool_runtime *rt = runtime;
  int rc;
  if (out == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "http_new: out is needed");
  if (rt != NULL && !cpool__runtime_alive(rt))
    return cpool__refuse(CPOOL_EFORK, CPOOL_LAYER_CALLER, "the runtime belongs to the parent process");
  pthread_once(&once, init_process);
  cpool_http *pool = cpool__calloc(1, sizeof *pool);
  if (pool == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "http_new: no memory");
  if (rt == NULL) {
    rc = cpool_runtime_new(&rt, NULL);
    if (rc != CPOOL_OK) {
      cpool__free(pool);
      return rc;
    }
  }
  cpool__runtime_hold(rt);
  if (runtime == NULL)
    cpool__runtime_make_private(rt);
  pool->rt = rt;
  atomic_init(&pool->refs, 1);
  atomic_init(&pool->close_at_us, UINT64_MAX);
  cpool__fork_mark_init(&pool->fork_mark);
  pthread_mutex_init(&pool->options_lock, NULL);
  pthread_mutex_init(&pool->origins_lock, NULL);
  pthread_mutex_init(&pool->uploads_lock, NULL);
  cpool__table_init(&pool->uploads, cpool__upload_same);
  cpool__dns_board_init(&pool->names);
  cpool__ids_init(&pool->ids, 1);
  cpool__url_cache_init(&pool->urls);
  cpool__table_init(&pool->origins, cpool__origin_same);
  cpool__table_init(&pool->overrides, cpool__override_same);
  init_lists(pool);
  pool->random = cpool__clock_us() | 1;
  pool->nudge.fn = on_nudge;
  pool->leave.fn = on_leave;
  pool->dispatch_task.fn = cpool__dispatch;
  pool->publish_task.fn = publish;
  pool->close_task.fn = work_on_close;
  pool->end_task.fn = on_end;
  rc = make(pool, options);
  if (rc != CPOOL_OK) {
    if (pool->session != NULL)
      cpool__session_drop(pool->session);
    if (pool->resolver != NULL)
      cpool__resolver_free(pool->resolver);
    if (pool->end != NULL) {
      cpool__end_unref(pool->end);
      cpool__end_unref(pool->end);
    }
    cpool__table_fini(&pool->origins);
    cpool__http_unref(pool);
    cpool__runtime_drop(rt);
    return rc;
  }
  cpool__end_sink(pool->end, CPOOL_EVENT_HTTP_CLOSED, pool->options.queue, pool->options.on_event, pool->options.user);
  pool->stats.now.max_connections = pool->options.max_connections;
  pool->stats.now.max_connections_per_host = pool->options.max_connections_per_host;
  pool->stats.now.max_pending = pool->options.max_pending;
  pool->stats.now.identities = 1;
  cpool__http_stats_publish(&pool->stats);
  *out = pool;
  return CPOOL_OK;
}

int cpool_http_close_start(cpool_http *pool, int64_t drain_ms)
{
  if (pool == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "close_start: pool is needed");
  if (drain_ms < CPOOL_OFF)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "close_start: drain_ms %lld is below -1 (off)",
                         (long long) drain_ms);
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  uint64_t at_us = UINT64_MAX, known = atomic_load(&pool->close_at_us);
  if (drain_ms != CPOOL_OFF && drain_ms < INT64_MAX / 2000)
    at_us = cpool__clock_us() + (uint64_t) drain_ms * 1000;
  while (at_us < known && !atomic_compare_exchange_weak(&pool->close_at_us, &known, at_us))
    continue;
  uint32_t before = atomic_fetch_add(&pool->inflight_count, 1); /* the nudge names the pool */
  atomic_store(&pool->closing, true);
  atomic_fetch_or(&pool->inflight_count, CPOOL__CLOSING_BIT);
  if ((before & CPOOL__CLOSED_BIT) == 0 && !atomic_exchange(&pool->nudged, true))
    cpool__runtime_post(pool->rt, &pool->nudge);
  else
    cpool__http_leave(pool);
  return CPOOL_OK;
}

void cpool_http_free(cpool_http *pool)
{
  int open = CPOOL__END_OPEN;
  if (pool == NULL || !cpool__fork_mark_same_process(&pool->fork_mark))
    return;                         /* a child's copy of the pool stays as it is: it names the parent's sockets */
  atomic_fetch_add(&pool->refs, 1); /* a close under way may end, and free, as soon as it finds the pool left */
  if (atomic_compare_exchange_strong(&pool->end_state, &open, CPOOL__END_FREED))
    (void) cpool_http_close_start(pool, 0);
  else
    owner_free(pool);
  cpool__http_unref(pool);
}

int cpool_http_close(cpool_http *pool, int64_t drain_ms)
{
  if (pool == NULL)
    return CPOOL_OK;
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  if (!cpool__runtime_may_wait(pool->rt))
    return cpool__refuse(CPOOL_EDEADLK, CPOOL_LAYER_CALLER, "close: would wait for the thread that it runs on");
  struct cpool__end *end = pool->end;
  rc = cpool_http_close_start(pool, drain_ms);
  if (rc != CPOOL_OK)
    return rc;
  cpool__end_wait(end, pool->rt);
  cpool_http_free(pool);
  return CPOOL_OK;
}
