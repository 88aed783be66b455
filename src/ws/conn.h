/* conn: one WebSocket connection, from the accept of its socket until its last event is released
 *
 *   HANDSHAKE   TLS, the request's head, by callback the decision   -> UNDECIDED, UP, GONE
 *   UNDECIDED   upgraded; the caller has not answered yet           -> UP, CLOSING, GONE
 *   UP          in the registry                                     -> CLOSING, GONE
 *   CLOSING     our close frame is out, or is behind what waits     -> GONE
 *   GONE        the socket is closed, the final event on its way
 *
 * One that is cut keeps its phase until its socket is closed.
 */
#ifndef CPOOL_WS_CONN_H
#define CPOOL_WS_CONN_H

#include "base/wheel.h"
#include "ws/backlog.h"
#include "ws/manager.h"

enum cpool__ws_phase { CPOOL__WS_HANDSHAKE, CPOOL__WS_UNDECIDED, CPOOL__WS_UP, CPOOL__WS_CLOSING, CPOOL__WS_GONE };

struct cpool__listener;
struct cpool__message;
struct cpool__upgrade;
struct cpool__ws_pause;
struct cpool__ws_stream;

struct cpool__ws_conn {
  struct cpool__table_entry by_id;
  cpool_ws *ws;
  cpool_conn handle;
  struct cpool__link link;
  struct cpool__wire wire;
  struct cpool__timer timer;        /* the earliest time at which something of it may be due */
  struct cpool__listener *listener; /* NULL: external, or the host's */
  struct cpool__hosted *hosted;     /* the host's: its entry in the manager's table */
  char *id;                         /* NULL: none yet */
  size_t id_len;
  void *user;

  /* any thread: the loop alone writes, but for what is said */
  _Atomic uint32_t refs;      /* the loop's until it is gone; each event on its way, and each message to the loop */
  _Atomic uint8_t phase;      /* enum cpool__ws_phase */
  _Atomic bool wants_drained; /* any thread: a message had no room: tell when there is */
  _Atomic bool drained_out;   /* the drained event is with its consumer */
  _Atomic int32_t queued_messages; /* any thread: reserved by who sends */
  _Atomic int64_t queued_bytes;    /* the same: payloads that wait */
  _Atomic uint64_t heard_ms;
  _Atomic int64_t round_trip_us;
  _Atomic uint64_t messages_received, bytes_received, messages_sent, bytes_sent;

  /* loop thread */
  uint8_t reason; /* enum cpool_ws_reason, once it is known; 0 */
  bool registered, external, tls;
  bool told;    /* the caller knows of it, and will hear of its end */
  bool refused; /* by the caller, with refuse_status */
  bool close_sent;
  bool paused, wants_pause; /* reading: as it is, as it shall be */
  bool unheard;             /* pinged, and nothing has come since */
  int32_t refuse_status;
  int32_t close_code;               /* sent or received first; 0: none yet */
  struct cpool__frame *close_frame; /* the caller's; NULL: one is made of the code */
  char *peer_text;                  /* of the close frame that came or goes; NULL: none */
  uint64_t opened_ms;
  uint64_t deadline_ms; /* of the handshake, the decision, the pong or the close */
  uint64_t expires_ms;  /* 0: never */
  uint64_t pinged_us, nonce;
  struct cpool__link flush_link, settle_link;
  struct cpool__backlog backlog;
  size_t held_bytes;               /* of what was written, at most so much is with libwebsockets yet */
  struct cpool__upgrade *upgrade;  /* what it asks for, until that is with the caller */
  struct cpool__message *incoming; /* the message that comes in */
  struct cpool__list held;         /* whole ones that came before the caller has accepted */
  struct cpool__list memberships;
  struct cpool__ws_pause *pause;       /* while it waits at a low mark, and then holds it; NULL */
  struct cpool__ws_stream *stream;     /* with stream_messages, from its first message on; NULL */
  struct cpool__event closed, drained; /* embedded, so that their delivery cannot fail */
  char remote_address[64];
};

/* An event without data that is made for one delivery. */
struct cpool__ws_note {
  struct cpool__event event;
  struct cpool__ws_conn *conn;
};

static inline int cpool__ws_phase(const struct cpool__ws_conn *conn)
{
  return atomic_load_explicit(&conn->phase, memory_order_relaxed);
}

extern cpool__table_equal_fn *const cpool__ws_same_id;

/* Loop thread. With a handle, in HANDSHAKE, on the manager's list. NULL: out of memory. */
struct cpool__ws_conn *cpool__ws_conn_new(cpool_ws *ws);
void cpool__ws_conn_hold(struct cpool__ws_conn *conn);
void cpool__ws_conn_drop(struct cpool__ws_conn *conn); /* any thread */
/* Loop thread, or under the manager's lock; NULL: gone. */
struct cpool__ws_conn *cpool__ws_conn_of(cpool_ws *ws, cpool_conn handle);
/* Any thread: held for the caller, who drops it. NULL: gone. */
struct cpool__ws_conn *cpool__ws_conn_borrow(cpool_ws *ws, cpool_conn handle);
void cpool__ws_conn_move(struct cpool__ws_conn *conn, int to);

/* Loop thread: an id, and with it a place. CPOOL_OK, CPOOL_EEXIST, CPOOL_EFULL or CPOOL_ENOMEM, not recorded. The one
 * that is replaced is closed. */
int cpool__ws_conn_register(struct cpool__ws_conn *conn, const char *id, void *user);
void cpool__ws_conn_unregister(struct cpool__ws_conn *conn);
/* Accepted and upgraded: its open event goes out, then what was held back. */
void cpool__ws_conn_open(struct cpool__ws_conn *conn);
/* What it is owed goes out, then a close frame. `frame` (may be NULL) is taken. Harmless when it is closing. */
void cpool__ws_conn_close(struct cpool__ws_conn *conn, int reason, int code, struct cpool__frame *frame);
/* At once, without a word. */
void cpool__ws_conn_cut(struct cpool__ws_conn *conn, int reason);
/* Its socket is closed, or it has none: the final event. */
void cpool__ws_conn_gone(struct cpool__ws_conn *conn);
/* Delivers an event of its own, which holds it until the event's release drops it. */
void cpool__ws_conn_deliver(struct cpool__ws_conn *conn, struct cpool__event *event, int kind);
bool cpool__ws_conn_note(struct cpool__ws_conn *conn, int kind); /* false: out of memory */
/* Tells of room for messages, if that is wanted and there is. */
void cpool__ws_conn_drained(struct cpool__ws_conn *conn);
static inline bool cpool__ws_half_empty(const struct cpool__ws_conn *conn)
{
  return atomic_load(&conn->queued_bytes) <= conn->ws->limits.max_send_queue_bytes / 2 &&
         atomic_load(&conn->queued_messages) <= conn->ws->limits.max_send_queue_messages / 2;
}
/* The peer has shown life. */
void cpool__ws_conn_heard(struct cpool__ws_conn *conn);

/* control.c */
/* Any thread: CPOOL_OK or CPOOL_EINVAL (recorded). */
int cpool__ws_check_id(const char *call, const char *id);
/* Records why there is no place: what cpool__ws_conn_register has returned. */
int cpool__ws_refuse_place(const char *call, int status, const cpool_ws *ws, const char *id);

/* receive.c */
extern const struct cpool__wire_events cpool__ws_wire_events;
void cpool__ws_release_held(struct cpool__ws_conn *conn);
void cpool__ws_forget_incoming(struct cpool__ws_conn *conn);
void cpool__ws_pause(struct cpool__ws_conn *conn, bool on); /* applied in this turn; UP: if it is above a mark */
void cpool__ws_settle_soon(struct cpool__ws_conn *conn);
bool cpool__ws_above(const struct cpool__ws_conn *conn); /* the mark of its queue, or of its window */
void cpool__ws_settle(struct cpool__task *task);
void cpool__ws_pause_over(struct cpool__ws_conn *conn); /* it has gone */

/* send.c */
/* Takes the node of a message for which there is room. */
void cpool__ws_conn_queue(struct cpool__ws_conn *conn, struct cpool__backlog_node *node);
/* Takes the frame, for which there is room. False: out of memory, it is dropped. */
bool cpool__ws_conn_send(struct cpool__ws_conn *conn, struct cpool__frame *frame);
void cpool__ws_flush(struct cpool__task *task);
void cpool__ws_flush_soon(struct cpool__ws_conn *conn);
/* As much as the socket takes now. */
void cpool__ws_conn_flush(struct cpool__ws_conn *conn);
void cpool__ws_writable(struct cpool__ws_conn *conn); /* all that was written has gone to the kernel */
void cpool__ws_clear_backlog(struct cpool__ws_conn *conn);

/* sweep.c */
/* Sets its timer to what is due next. */
void cpool__ws_watch(struct cpool__ws_conn *conn);

/* accept.c */
/* The head is complete: 0, or the status of a refusal. */
int cpool__ws_decide(struct cpool__ws_conn *conn);
void cpool__ws_upgraded(struct cpool__ws_conn *conn);
void cpool__ws_upgrade_free(struct cpool__upgrade *upgrade); /* NULL is legal */

#endif
