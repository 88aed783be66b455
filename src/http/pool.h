/* pool: the HTTP pool's own struct; which thread may touch which part */
#ifndef CPOOL_HTTP_POOL_H
#define CPOOL_HTTP_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <cpool.h>

#include "base/histogram.h"
#include "base/list.h"
#include "base/table.h"
#include "core/end.h"
#include "core/fork.h"
#include "core/ids.h"
#include "core/runtime.h"
#include "core/water.h"
#include "dns/board.h"
#include "dns/resolver.h"
#include "http/http_stats.h"
#include "http/identity.h"
#include "web/url.h"
#include "pool/admission.h"

struct cpool__conn;

#define CPOOL__CLOSING_BIT UINT32_C(0x80000000)
#define CPOOL__CLOSED_BIT UINT32_C(0x40000000) /* nothing was in flight any more: the loop will not look again */

enum cpool__http_state {
  CPOOL__HTTP_OPEN,
  CPOOL__HTTP_DRAINING, /* no new requests; those in flight go on until the deadline */
  CPOOL__HTTP_CUT,      /* requests ended, connections being closed */
  CPOOL__HTTP_CLOSED    /* nothing of it left on the loop; the event is on its way or delivered */
};

/* X(key): what a request may override; kept where any thread reads it without a lock. */
#define CPOOL__REQUEST_DEFAULT_KEYS(X)                                                                                 \
  X(acquire_timeout_ms)                                                                                                \
  X(connect_timeout_ms)                                                                                                \
  X(sock_read_timeout_ms)                                                                                              \
  X(total_timeout_ms)                                                                                                  \
  X(max_response_bytes)                                                                                                \
  X(stream_window_bytes)
enum { CPOOL__REQUEST_DEFAULTS = 6 };

struct cpool_http {
  cpool_runtime *rt;
  cpool_session *session; /* the default one */
  struct cpool__fork_mark fork_mark;

  /* any thread */
  struct cpool__ids ids;
  struct cpool__url_cache urls;
  struct cpool__identities identities;
  _Atomic uint32_t inflight_count; /* what the close waits for: requests, messages under way; the two bits on top */
  _Atomic int32_t pending_count, max_pending; /* reserved by submit, given back at dispatch */
  _Atomic uint32_t refs; /* the pool itself until it is freed, and each session but the default one */
  _Atomic int32_t max_overrides;
  _Atomic int64_t request_defaults[CPOOL__REQUEST_DEFAULTS];
  _Atomic int64_t max_sse_event_bytes, sse_retry_ms; /* as last set */
  _Atomic uint64_t refused_count;
  _Atomic bool closing;         /* submits are refused */
  _Atomic uint64_t close_at_us; /* earliest deadline asked for; UINT64_MAX: none */
  _Atomic int end_state;        /* enum cpool__end_state */
  struct cpool__msg leave;      /* gives back the last count when that happens off the loop */
  _Atomic bool nudged;          /* nudge is posted and not yet looked at */
  struct cpool__msg nudge;      /* look at the flags above */
  pthread_mutex_t options_lock; /* guards: */
  cpool_http_options wanted;    /* resolved, as last set; its texts are those of options */
  struct cpool__http_stats stats;
  struct cpool__budget *stream_budget; /* bytes of streamed answers with their consumers; outlives the pool with them */
  pthread_mutex_t uploads_lock;        /* guards: */
  struct cpool__table uploads;         /* by handle, of requests in flight */
  pthread_mutex_t origins_lock;        /* origins_list, when read off the loop thread or changed on it */
  struct cpool__dns_board names;
  _Atomic int64_t dns_stale_ms;

  /* loop thread */
  enum cpool__http_state state;
  cpool_http_options options; /* resolved, in force; the texts never change */
  struct cpool__admission admission;
  struct cpool__resolver *resolver;
  struct cpool__table origins;       /* by key */
  struct cpool__list origins_list;   /* by number, ascending */
  struct cpool__list origins_dirty;  /* rows to publish at the end of the turn */
  struct cpool__list origins_unused; /* no request, no connection: least recently used first */
  struct cpool__list origins_idle;   /* nothing but connections that are idle or closing: least recently used first */
  struct cpool__table overrides;     /* of cpool_http_origin_set, by origin; under options_lock */
  int32_t origin_count;
  uint64_t last_origin, last_connection;
  struct cpool__list requests;        /* in flight, known to the loop */
  struct cpool__list identities_used; /* with a curl part */
  struct cpool__list dials;
  struct cpool__conn **conns; /* by fd */
  int conns_capacity;
  int64_t gone_count; /* closed, their reason not known yet: shown as closing until they are counted */
  struct cpool__list conns_by_port[256]; /* by local port */
  bool fell_idle;                        /* a connection did since the sockets were last looked at */
  struct cpool__task dispatch_task, publish_task, close_task;
  struct cpool__timer close_timer;
  uint64_t random; /* state of a small generator: jitter only */

  struct cpool__end *end; /* the closed event and those who wait for it; may outlive the pool */
  struct cpool__task end_task;
};

/* Any thread: CPOOL_OK, and the pool does not finish closing until cpool__http_leave; or CPOOL_ECLOSED (recorded). */
int cpool__http_enter(cpool_http *pool);
/* Any thread: gives up what keeps the close from finishing (inflight_count), and has the loop look if it was the last. */
void cpool__http_leave(cpool_http *pool);
void cpool__http_leave_on_loop(cpool_http *pool); /* the same on the loop thread */
/* Any thread: posts a message that names the pool and a request. It counts for the close, and is given up on the loop
 * with cpool__http_leave_on_loop. False: the request has ended, nothing was posted. */
bool cpool__http_post(cpool_http *pool, struct cpool__msg *msg, cpool_op op);
/* Any thread: the memory goes with the last reference. */
void cpool__http_unref(cpool_http *pool);
/* Any thread: CPOOL_OK, or CPOOL_ECLOSED or CPOOL_EFORK (recorded): for public calls, before anything else of the pool is touched. */
int cpool__http_usable(cpool_http *pool);
/* The same for [reads] calls: they answer until the pool is freed. */
int cpool__http_readable(cpool_http *pool);
/* Any thread, under options_lock: what submit reads without a lock. */
void cpool__http_options_publish(cpool_http *pool);
/* Loop thread: spreads what would else happen at once; protects nothing. */
uint64_t cpool__pool_random(cpool_http *pool);
/* Loop thread: something changed that may let a waiter go on, or that the snapshot shows. */
void cpool__http_touch(cpool_http *pool);

#endif
