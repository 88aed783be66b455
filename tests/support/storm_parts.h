/* storm_parts: what the storm's account and its load share */
#ifndef CPOOL_SUPPORT_STORM_PARTS_H
#define CPOOL_SUPPORT_STORM_PARTS_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <cpool.h>

#include "support/blackhole.h"
#include "support/dns_server.h"
#include "support/fault_server.h"
#include "support/storm.h"

enum {
  STORM_SLOTS = 3,
  STORM_WORKERS = 4,
  STORM_CONSUMERS = 2,
  STORM_SERVERS = 3,
  STORM_LIVES = 4000,
  STORM_RECENT = 16,
  STORM_DEADLINE_MS = 30000
};

enum storm_answer {
  STORM_ANY,       /* only the status is looked at */
  STORM_HELLO,     /* "hello" */
  STORM_BYTES,     /* `number` bytes of the pattern */
  STORM_ECHO,      /* `number` in words */
  STORM_REDIRECTED /* "hello" behind one or more redirects */
};

struct life {
  struct storm *storm;
  cpool_http *pool;
  _Atomic int64_t accepted, refused, succeeded;
  _Atomic int closed_events;
  _Atomic int most_connections, most_per_host; /* ever in force */
  atomic_bool lowered;                         /* a limit was, so that surplus is legal */
  bool wants_event, free_at_event, compared;
  int64_t stats_succeeded;
};

struct slot {
  pthread_rwlock_t lock;
  cpool_http *pool; /* NULL: away */
  struct life *life;
  cpool_session *sessions[STORM_WORKERS];
  cpool_session *http2;                  /* NULL: there was no room for its identity */
  _Atomic uint64_t recent[STORM_RECENT]; /* handles worth cancelling; of older pools too */
  pthread_mutex_t replacing;             /* the thread that holds it alone changes pool and life */
  cpool_runtime *runtime;                /* NULL: each pool has its own */
  struct life *lives, *next_life;
  _Atomic int most, most_per_host, ghosts, ghosts_per_host; /* sockets that the pool, and one still closing, may have */
};

struct storm_op {
  struct life *life;
  cpool_op op;
  int32_t number;
  uint8_t answer, slot, accepted; /* accepted: the submitter's, read at the end */
  uint8_t streamed, in_order;     /* its pieces come one after the other: by callbacks */
  _Atomic uint8_t ends, heads, answered;
  _Atomic int32_t body_bytes; /* of the pieces */
};

struct storm {
  const struct storm_options *options;
  struct storm_result *result; /* lock */
  struct slot slots[STORM_SLOTS];
  struct storm_op *ops;
  int64_t op_capacity;
  _Atomic int64_t next_op, accepted, refused, ended, cancels, pools, sessions, reconfigures, snapshots, bytes, blocks;
  _Atomic int64_t by_status[128];
  cpool_queue *queue;
  cpool_runtime *shared, *manual;
  pthread_mutex_t lock;
  pthread_cond_t news; /* something ended */
  _Atomic int resting;
  atomic_bool stop_consumers, stop_stepper, stop_sampler;
  int replace_share; /* of 10000 steps */
  int64_t load_until_ms, report_ms;
  int32_t fds_before, threads_before;

  struct fault_server *servers[STORM_SERVERS];
  struct fault_server *resetting, *garbage, *http2;
  struct certs *certs; /* of http2 */
  struct blackhole *hole;
  struct dns_server *dns;
  char dns_address[32];
  uint16_t ports[STORM_SERVERS], refusing_port;
  int refusing_fd;
};

struct storm_thread {
  struct storm *s;
  int number;
  uint64_t random;
  pthread_t thread;
};

uint64_t storm_random(struct storm_thread *t);
int storm_below(struct storm_thread *t, int bound);
/* Counts one of a kind of trouble (a field of the result). */
__attribute__((format(printf, 3, 4))) void storm_trouble(struct storm *s, int64_t *kind, const char *format, ...);
/* Until something ended, at most so long. */
void storm_rest(struct storm *s, int64_t most_ms);
void storm_event(const cpool_event *event);
/* The same on a loop, with the calls that are legal there. */
void storm_callback(const cpool_event *event);

/* The slot's lock is held for writing. predecessor_lives: its last pool may still be closing. */
void storm_pool_new(struct storm_thread *t, struct slot *slot, bool predecessor_lives);
/* Ends the slot's pool in one of the four ways; the lock is held for writing afterwards. True: it may still be closing. */
bool storm_pool_end(struct storm_thread *t, struct slot *slot);
/* Unless another thread is at it. */
void storm_pool_replace(struct storm_thread *t, struct slot *slot);

void storm_peers_start(struct storm *s);
bool storm_peers_quiet(void *storm); /* the servers have noticed that nobody is there */
void storm_peers_stop(struct storm *s);

/* The slot is locked for reading, and has a pool, in all of these but pool_options. */
void storm_pool_options(struct storm_thread *t, cpool_http_options *out);
bool storm_submit(struct storm_thread *t, struct slot *slot, cpool_session *session, cpool_queue *queue,
                  cpool_event_fn *fn);
void storm_cancel(struct storm_thread *t, struct slot *slot);
void storm_reconfigure(struct storm_thread *t, struct slot *slot);
bool storm_session_new(struct storm_thread *t, cpool_session **out, cpool_http *pool);
void storm_check_stats(struct storm_thread *t, struct slot *slot);
/* A head or a piece. */
void storm_check_part(struct storm *s, struct storm_op *op, const cpool_event *event);
/* NULL, or what is wrong with what has come of a stream that has ended. */
const char *storm_stream_trouble(const struct storm_op *op);
void storm_check_response(struct storm *s, const struct storm_op *op, const cpool_event *event);
void storm_anger(struct storm_thread *t);

#endif
