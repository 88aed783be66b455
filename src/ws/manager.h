/* manager: the WebSocket manager's own struct; which thread may touch which part */
#ifndef CPOOL_WS_MANAGER_H
#define CPOOL_WS_MANAGER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <cpool.h>

#include "base/list.h"
#include "base/table.h"
#include "core/end.h"
#include "core/fork.h"
#include "core/ids.h"
#include "core/options.h"
#include "core/queue.h"
#include "core/runtime.h"
#include "dns/resolver.h"
#include "ws/lws_loop.h"
#include "ws/mask.h"

struct cpool__ws_conn;

extern const struct cpool__option_table cpool__ws_option_table, cpool__ws_connect_option_table;

enum { CPOOL__WS_STATS_WORDS = (sizeof(cpool_ws_stats) - sizeof(size_t)) / sizeof(uint64_t) };

enum { CPOOL__WS_SCRATCH_BYTES = 65536 }; /* one frame of a message, with its head and mask */

enum cpool__ws_life {
  CPOOL__WS_OPEN,
  CPOOL__WS_DRAINING, /* nothing new; connections are closed one after another */
  CPOOL__WS_CUT,      /* what is left was cut, or is waited for */
  CPOOL__WS_FREEING,  /* no connection is left: libwebsockets is being taken down */
  CPOOL__WS_CLOSED
};

#define CPOOL__WS_CLOSING_BIT UINT32_C(0x80000000)
#define CPOOL__WS_CLOSED_BIT UINT32_C(0x40000000) /* nothing is on its way any more: the loop will not look again */

/* Of the options what senders read on any thread. */
struct cpool__ws_limits {
  _Atomic int64_t max_send_queue_bytes, max_queued_bytes;
  _Atomic int32_t max_send_queue_messages, on_overflow;
};

struct cpool_ws {
  cpool_runtime *rt;
  _Atomic uint32_t refs; /* its owner's or, once that has let go, its close's; and calls to free it */
  struct cpool__fork_mark fork_mark;
  cpool_ws_options options; /* resolved; what is live is the loop's, the rest does not change */

  /* any thread */
  pthread_mutex_t options_lock; /* guards: */
  cpool_ws_options wanted;      /* resolved, as last set */
  struct cpool__ws_limits limits;
  pthread_mutex_t lock;      /* the registry: ids and by_id change under it on the loop; others look under it */
  struct cpool__ids ids;     /* connections by handle, from their accept until they are gone */
  struct cpool__table by_id; /* those that have an id */
  int32_t registered_count;
  _Atomic int64_t
      queued_bytes; /* of memory: frames once, a node for each backlog that they are in, what libwebsockets holds */
  _Atomic int64_t posted_bytes; /* of these: on their way to the loop */
  _Atomic int64_t queued_messages;
  _Atomic uint64_t dropped_count;  /* messages, off the loop */
  _Atomic uint32_t inflight_count; /* messages on their way to the loop that name the manager; the bits on top */
  _Atomic uint64_t close_at_us;
  _Atomic uint32_t sequence; /* of the snapshot */
  _Atomic uint64_t words[CPOOL__WS_STATS_WORDS];
  pthread_mutex_t client_tls_lock; /* the two below: settings of TLS, each for as long as the manager is there */
  struct cpool__list client_tls;
  int client_tls_count;
  struct cpool__end *end;
  _Atomic int end_state; /* enum cpool__end_state */
  struct cpool__msg close_msg;
  _Atomic bool close_posted; /* and not looked at yet */

  /* loop thread */
  enum cpool__ws_life life;
  struct cpool__wires *wires;
  cpool_ws_stats now;
  struct cpool__list conns; /* all that are not gone, oldest first */
  struct cpool__list listeners;
  struct cpool__list to_flush;      /* that may send something, or whose reading is to be paused or to go on */
  struct cpool__table topics;       /* by name */
  struct cpool__table hosted;       /* connections of the host's own libwebsockets, by their struct lws */
  struct cpool__table addresses;    /* of listeners with max_per_address, by text */
  struct cpool__resolver *resolver; /* of dials */
  struct cpool__gate *plain_gate;   /* the same, without TLS */
  struct cpool__list to_dial;       /* whose time has come, and that wait for a place */
  int32_t dial_count;               /* under way */
  int64_t dial_sockets;             /* of these, while they are being connected */
  struct cpool__masks masks;
  uint64_t nonce;                  /* of this manager's pings */
  unsigned char *scratch;          /* frames that go out together; CPOOL__WS_SCRATCH_BYTES */
  struct cpool__ws_conn *deciding; /* inside its CPOOL_EVENT_WS_ACCEPT, by callback */
  int32_t waiting_count, handshake_count, undecided_count, closing_count, open_count, topic_count, paused_count;
  int64_t drain_from_ms, drain_ms, drain_count, drained_count;
  bool kept; /* a host's loop is kept from returning */
  struct cpool__task flush_task, dial_task, publish_task, close_task;
  struct cpool__timer close_timer;
};

/* Any thread, for public calls: CPOOL_OK, or CPOOL_EFORK, or, if it is to change something, CPOOL_ECLOSED (recorded). */
int cpool__ws_readable(cpool_ws *ws);
int cpool__ws_usable(cpool_ws *ws);
/* Any thread: the manager does not finish closing until the message has been worked on, which ends with cpool__ws_leave. CPOOL_ECLOSED
 * (recorded): nothing was posted. */
int cpool__ws_post(cpool_ws *ws, struct cpool__msg *msg);
void cpool__ws_leave(cpool_ws *ws); /* loop thread */
/* Loop thread: a number has changed. */
void cpool__ws_changed(cpool_ws *ws);
/* Loop thread: a connection has gone; the last one may have been waited for. */
void cpool__ws_go_on_closing(cpool_ws *ws);
void cpool__ws_stats_publish(struct cpool__task *task); /* the snapshot */
/* Checked, with defaults. CPOOL_EINVAL (recorded). */
int cpool__ws_options_make(cpool_ws_options *own, const cpool_ws_options *options);
void cpool__ws_limits_set(cpool_ws *ws, const cpool_ws_options *options); /* under options_lock */

#endif
