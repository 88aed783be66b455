/* storm_lives: how pools come and go in a storm, and what a closed one must say of itself */
#include "support/certs.h"
#include "support/storm_parts.h"
#include "support/wait.h"

/* The slot's lock is held for writing. The socket bound of the slot covers a predecessor that may still be closing. */
void storm_pool_new(struct storm_thread *t, struct slot *slot, bool predecessor_lives)
{
  struct storm *s = t->s;
  cpool_http_options options;
  struct life *life = slot->next_life++;
  *life = (struct life){.storm = s};
  storm_pool_options(t, &options);
  if (storm_below(t, 2) == 0)
    options.queue = s->queue;
  else
    options.on_event = storm_callback;
  options.user = life;
  int before = predecessor_lives ? atomic_load(&slot->life->most_connections) : 0;
  int before_host = predecessor_lives ? atomic_load(&slot->life->most_per_host) : 0;
  atomic_store(&life->most_connections, options.max_connections);
  atomic_store(&life->most_per_host, options.max_connections_per_host);
  slot->life = life;
  atomic_store(&slot->ghosts, before);
  atomic_store(&slot->ghosts_per_host, before_host);
  atomic_store(&slot->most, options.max_connections);
  atomic_store(&slot->most_per_host, options.max_connections_per_host);
  int rc = cpool_http_new(&slot->pool, slot->runtime, &options);
  if (rc != CPOOL_OK)
    support_die("storm: no pool: %s", cpool_status_name(rc));
  life->pool = slot->pool;
  atomic_fetch_add(&s->pools, 1);
  cpool_session_options http2;
  cpool_session_options_init(&http2);
  http2.ca_file = s->certs->ca_file;
  http2.http_version = CPOOL_HTTP_2;
  rc = cpool_session_new(&slot->http2, slot->pool, &http2);
  if (rc != CPOOL_OK && rc != CPOOL_EFULL)
    storm_trouble(s, &s->result->wrong, "session_new: %s", cpool_status_name(rc));
}

static void sessions_free(struct slot *slot)
{
  for (int i = 0; i < STORM_WORKERS; i++) {
    cpool_session_free(slot->sessions[i]);
    slot->sessions[i] = NULL;
  }
  cpool_session_free(slot->http2);
  slot->http2 = NULL;
}

static void wait_closed(struct storm *s, struct life *life)
{
  int64_t until_ms = now_ms() + STORM_DEADLINE_MS;
  while (atomic_load(&life->closed_events) == 0 && now_ms() < until_ms)
    storm_rest(s, 20);
  if (atomic_load(&life->closed_events) == 0)
    storm_trouble(s, &s->result->closes, "a pool did not close in %d ms", STORM_DEADLINE_MS);
}

static void compare_totals(struct storm *s, struct slot *slot)
{
  struct life *life = slot->life;
  cpool_http_stats stats;
  cpool_http_stats_init(&stats);
  cpool_http_stats_get(slot->pool, &stats);
  if ((int64_t) stats.requests != atomic_load(&life->accepted) ||
      (int64_t) stats.refused != atomic_load(&life->refused) || stats.succeeded + stats.failed != stats.requests ||
      stats.opened != stats.closed || stats.total_connections != 0 || stats.closing_connections != 0)
    storm_trouble(
        s, &s->result->miscounted,
        "closed pool: requests %llu of %lld, refused %llu of %lld, ended %llu, opened %llu, closed %llu, closing %lld",
        (unsigned long long) stats.requests, (long long) atomic_load(&life->accepted),
        (unsigned long long) stats.refused, (long long) atomic_load(&life->refused),
        (unsigned long long) (stats.succeeded + stats.failed), (unsigned long long) stats.opened,
        (unsigned long long) stats.closed, (long long) stats.closing_connections);
  life->stats_succeeded = (int64_t) stats.succeeded;
  life->compared = true;
}

/* Ends the slot's pool in one of the four ways. The slot's replacing lock is held; true: it may still be closing. */
bool storm_pool_end(struct storm_thread *t, struct slot *slot)
{
  struct storm *s = t->s;
  struct life *life = slot->life;
  cpool_http *pool = slot->pool;
  int64_t drain_ms = storm_below(t, 20) == 0 ? CPOOL_OFF : storm_below(t, 3) * 10;
  bool lives_on = false;
  life->wants_event = true;
  switch (storm_below(t, 4)) {
  case 0: /* others go on calling meanwhile */
    (void) cpool_http_close_start(pool, drain_ms);
    if (storm_below(t, 2) == 0)
      (void) cpool_http_close_start(pool, 0);
    wait_closed(s, life);
    pthread_rwlock_wrlock(&slot->lock);
    compare_totals(s, slot);
    sessions_free(slot);
    cpool_http_free(pool);
    break;
  case 1:
    pthread_rwlock_wrlock(&slot->lock);
    sessions_free(slot);
    if (cpool_http_close(pool, drain_ms) != CPOOL_OK)
      storm_trouble(s, &s->result->closes, "cpool_http_close failed");
    break;
  case 2:
    pthread_rwlock_wrlock(&slot->lock);
    sessions_free(slot);
    life->wants_event = false;
    cpool_http_free(pool);
    lives_on = true;
    break;
  default:
    pthread_rwlock_wrlock(&slot->lock);
    sessions_free(slot);
    life->free_at_event = true;
    slot->pool = NULL;
    pthread_rwlock_unlock(&slot->lock);
    (void) cpool_http_close_start(pool, drain_ms);
    wait_closed(s, life);
    pthread_rwlock_wrlock(&slot->lock);
    break;
  }
  slot->pool = NULL;
  return lives_on;
}

void storm_pool_replace(struct storm_thread *t, struct slot *slot)
{
  if (pthread_mutex_trylock(&slot->replacing) != 0)
    return;
  if (slot->next_life < slot->lives + STORM_LIVES) {
    bool lives_on = storm_pool_end(t, slot);
    storm_pool_new(t, slot, lives_on);
    pthread_rwlock_unlock(&slot->lock);
  }
  pthread_mutex_unlock(&slot->replacing);
}
