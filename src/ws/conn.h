/* conn: one WebSocket connection, from the accept of its socket, or the wish to dial, until its last event is released
 *
 *   WAITING     dialled, and down: see dialled.h            -> HANDSHAKE, GONE
 *   HANDSHAKE   TLS, the request's head, by callback the decision   -> UNDECIDED, UP, WAITING, GONE
 *   UNDECIDED   upgraded; the caller has not answered yet           -> UP, CLOSING, GONE
 *   UP          in the registry                                     -> CLOSING, WAITING, GONE
 *   CLOSING     our close frame is out, or is behind what waits     -> WAITING, GONE
 *   GONE        the socket is closed, the final event on its way
 *
 * One that is cut keeps its phase until its socket is closed.
 */
#ifndef CPOOL_WS_CONN_H
#define CPOOL_WS_CONN_H

#include "base/wheel.h"
#include "dns/address.h"
#include "ws/backlog.h"
#include "ws/manager.h"

enum cpool__ws_phase {
  CPOOL__WS_WAITING,
  CPOOL__WS_HANDSHAKE,
  CPOOL__WS_UNDECIDED,
  CPOOL__WS_UP,
  CPOOL__WS_CLOSING,
  CPOOL__WS_GONE
};

enum cpool__ws_drained {
  CPOOL__WS_DRAINED_NONE,
  CPOOL__WS_DRAINED_OUT,  /* it is with its consumer */
  CPOOL__WS_DRAINED_AGAIN /* the same, and another one is due: its release sends for the loop, which counts on that */
};

struct cpool__dialled;
struct cpool__listener;
struct cpool__message;
struct cpool__upgrade;
struct cpool__ws_pause;
struct cpool__ws_stream;

struct cpool__ws_conn {
  /* what a look-up by id needs, in a line of memory or two */
  struct cpool__table_entry by_id;
  cpool_conn handle;
  char *id;          /* NULL: none yet; short_id, or a block of its own */
  char short_id[24]; /* those that are handles in decimal fit */

  cpool_ws *ws;
  struct cpool__link link;
  struct cpool__wire wire;
  struct cpool__listener *listener; /* NULL: dialled, external, or the host's */
  struct cpool__dialled *dialled;   /* NULL: not dialled */
  struct cpool__hosted *hosted;     /* the host's: its entry in the manager's table */
  void *user;

  /* any thread: the loop alone writes, but for what is said */
  _Atomic uint32_t refs;      /* the loop's until it is gone; each event on its way, and each message to the loop */
  _Atomic uint8_t phase;      /* enum cpool__ws_phase */
  _Atomic bool wants_drained; /* any thread: a message had no room: tell when there is */
  _Atomic uint8_t drained;    /* enum cpool__ws_drained, of its event */
  uint8_t id_len;
  _Atomic int32_t queued_messages; /* any thread: reserved by who sends */
  _Atomic int32_t round_trip_us;   /* CPOOL_OFF: none yet */
  _Atomic int64_t queued_bytes;    /* the same: payloads that wait */
  _Atomic uint64_t heard_ms;
  _Atomic uint64_t messages_received, bytes_received, messages_sent, bytes_sent;

  /* loop thread */
  uint8_t reason; /* enum cpool_ws_reason, once it is known; 0 */
  bool registered, external, tls;
  bool told; /* the caller knows of it, and will hear of its end */
  bool close_sent;
  bool paused, wants_pause; /* reading: as it is, as it shall be */
  bool unheard;             /* pinged, and nothing has come since */
  int16_t refuse_status;
  int16_t close_code;               /* sent or received first; 0: none yet */
  struct cpool__frame *close_frame; /* the caller's; NULL: one is made of the code */
  char *peer_text;                  /* of the close frame that came or goes; NULL: none */
  uint64_t opened_ms;
  uint64_t deadline_ms;           /* of the handshake, the decision, the pong or the close */
  uint64_t expires_ms;            /* 0: never */
  uint64_t pinged_us;             /* what is asked by its ping; 0: it has answered, or was not asked */
  uint32_t held_bytes;            /* of what was written, at most so much is with libwebsockets yet */
  struct cpool__upgrade *upgrade; /* what it asks for, until that is with the caller */
  struct cpool__ws_pause *pause;  /* while it waits at a low mark, and then holds it; NULL */
  struct cpool__address remote;   /* under the manager's lock; len 0: none */
  union {
    struct {                     /* until it is GONE */
      struct cpool__timer timer; /* the earliest time at which something of it may be due */
      struct cpool__link flush_link;
      struct cpool__backlog backlog;
      struct cpool__list held; /* whole messages that came before the caller has accepted */
      struct cpool__list memberships;
      struct cpool__message *incoming; /* the message that comes in */
      struct cpool__ws_stream *stream; /* with stream_messages, from its first message on; NULL */
    };
    struct cpool__event closed; /* from then on: in the connection, so that its delivery cannot fail */
  };
};

/* An event that is made for one delivery. */
struct cpool__ws_note {
  struct cpool__event event;
  struct cpool__ws_conn *conn;
  char text[];
};

static inline int cpool__ws_phase(const struct cpool__ws_conn *conn)
{
  return atomic_load_explicit(&conn->phase, memory_order_relaxed);
}

extern cpool__table_equal_fn *const cpool__ws_same_id;

/* Loop thread. With a handle, in this phase, on the manager's list. NULL: out of memory. */
struct cpool__ws_conn *cpool__ws_conn_new(cpool_ws *ws, int phase);
void cpool__ws_conn_hold(struct cpool__ws_conn *conn);
void cpool__ws_conn_drop(struct cpool__ws_conn *conn); /* any thread */
/* Any thread: held for the caller, who drops it. NULL: gone. */
struct cpool__ws_conn *cpool__ws_conn_borrow(cpool_ws *ws, cpool_conn handle);
void cpool__ws_conn_move(struct cpool__ws_conn *conn, int to);
/* Loop thread: who the peer is. */
void cpool__ws_conn_set_remote(struct cpool__ws_conn *conn, const struct cpool__address *address);
/* Any thread: "192.0.2.1:443", or "unix". */
void cpool__ws_conn_remote(struct cpool__ws_conn *conn, char out[CPOOL__ADDRESS_TEXT]);

/* Loop thread: an id, and with it a place. CPOOL_OK, CPOOL_EEXIST, CPOOL_EFULL or CPOOL_ENOMEM, not recorded. The one
 * that is replaced is closed. */
int cpool__ws_conn_register(struct cpool__ws_conn *conn, const char *id, void *user);
void cpool__ws_conn_unregister(struct cpool__ws_conn *conn);
/* Accepted and upgraded: its open event goes out, with the text, then what was held back. */
void cpool__ws_conn_open(struct cpool__ws_conn *conn, const char *text);
/* Tells that it is down until then. False: out of memory. */
bool cpool__ws_conn_disconnected(struct cpool__ws_conn *conn, int64_t retry_ms);
/* What it is owed goes out, then a close frame. `frame` (may be NULL) is taken. Harmless when it is closing. A dialled one
 * may come back from this and the next, as its reason says. */
void cpool__ws_conn_close(struct cpool__ws_conn *conn, int reason, int code, struct cpool__frame *frame);
/* At once, without a word. */
void cpool__ws_conn_cut(struct cpool__ws_conn *conn, int reason);
/* What belongs to its socket, which is closed, ends: what waits, pauses, the timer. */
void cpool__ws_conn_clear(struct cpool__ws_conn *conn);
/* Its socket is closed, or it has none: the final event. */
void cpool__ws_conn_gone(struct cpool__ws_conn *conn);
/* Delivers an event of its own, which holds it until the event's release drops it. */
void cpool__ws_conn_deliver(struct cpool__ws_conn *conn, struct cpool__event *event, int kind);
/* One made for it; `text` (may be NULL) is copied. False: out of memory. */
bool cpool__ws_conn_note(struct cpool__ws_conn *conn, int kind, const char *text);
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
bool cpool__ws_above(const struct cpool__ws_conn *conn);    /* the mark of its queue, or of its window */
void cpool__ws_settle(struct cpool__ws_conn *conn);     /* what was gathered goes out, and reading is as it shall be */
void cpool__ws_pause_over(struct cpool__ws_conn *conn); /* it has gone */

/* send.c */
/* Takes the frame, for which there is room. False: out of memory, it is dropped. */
bool cpool__ws_conn_send(struct cpool__ws_conn *conn, struct cpool__frame *frame);
void cpool__ws_flush(struct cpool__task *task);
void cpool__ws_flush_soon(struct cpool__ws_conn *conn);
/* As much as the socket takes now. */
void cpool__ws_conn_flush(struct cpool__ws_conn *conn);
void cpool__ws_writable(struct cpool__ws_conn *conn); /* all that was written has gone to the kernel */
void cpool__ws_clear_backlog(struct cpool__ws_conn *conn);
/* One whole frame, masked where it must be. False: the socket is dead. */
bool cpool__ws_write_frame(struct cpool__ws_conn *conn, const unsigned char *frame, size_t len);

/* sweep.c */
/* What its ping says, and the pong has to: 8 bytes of ASCII. */
uint64_t cpool__ws_nonce(const struct cpool__ws_conn *conn);
/* Sets its timer to what is due next. */
void cpool__ws_watch(struct cpool__ws_conn *conn);

/* accept.c */
/* The head is complete: 0, or the status of a refusal. */
int cpool__ws_decide(struct cpool__ws_conn *conn);
void cpool__ws_upgraded(struct cpool__ws_conn *conn);
void cpool__ws_upgrade_free(struct cpool__upgrade *upgrade); /* NULL is legal */

#endif
