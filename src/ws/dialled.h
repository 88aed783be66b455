/* dialled: a connection that we open, and open again: DNS and raced connects (dns/dial), the proxy's tunnel, then TLS and
 * upgrade by libwebsockets. Loop thread only, but for what is said.
 *
 *   WAITING    its time has come, and a place is free       -> HANDSHAKE
 *   HANDSHAKE  it is open                                   -> UP
 *   HANDSHAKE, UP, CLOSING
 *              it is down: redial.h says whether and when   -> WAITING, or GONE
 */
#ifndef CPOOL_WS_DIALLED_H
#define CPOOL_WS_DIALLED_H

#include "dns/dial.h"
#include "ws/client_tls.h"
#include "ws/conn.h"
#include "ws/mask.h"
#include "ws/redial.h"

/* What a connection is dialled by: one block with its texts. */
struct cpool__dial_plan {
  const char *host; /* that is connected to: the server, or the proxy */
  uint16_t port;
  int32_t address_policy;
  bool tls;
  struct cpool__client_tls *client_tls; /* the manager's; NULL: without TLS */
  const char *server;                   /* for the certificate */
  const char *authority, *path;         /* for the upgrade */
  const char *subprotocols;             /* NULL: none */
  const char *headers;                  /* lines */
  size_t headers_len;
  const char *tunnel; /* the request for one; NULL: no proxy */
  struct cpool__redial redial;
  size_t bytes; /* of the block */
};

struct cpool__attempt;

struct cpool__dialled {
  struct cpool__ws_conn *conn;
  struct cpool__dial_plan *plan;  /* its own */
  struct cpool__attempt *attempt; /* NULL: down */
  struct cpool__link place_link;  /* waits for a place */
  struct cpool__peer *peer;       /* counts its address */
  char *text;                     /* why the last attempt failed; NULL: no memory for it */
  int64_t retry_after_s;          /* that the server asked for; negative: not */
  int64_t opened_ms;              /* when it was; negative: not yet */
  int32_t status, http_status;    /* of the last attempt */
  bool stopped;                   /* not dialled again, whatever ends it */
};

/* Any thread; wipes. NULL is legal. */
void cpool__dial_plan_free(struct cpool__dial_plan *plan);
/* Any thread: gives everything back. NULL is legal. */
void cpool__dialled_free(struct cpool__dialled *dialled);
/* When the plan's gate and the resolver are there: begins, or waits for a place. */
void cpool__dialled_begin(struct cpool__ws_conn *conn);
/* Whether it will be dialled again after its end, the reason of which is set. */
bool cpool__dialled_returns(const struct cpool__ws_conn *conn);
/* One that is going down will not come back, and this is why. */
void cpool__dialled_stop(struct cpool__ws_conn *conn, int reason);
/* It is down, or gives up what is under way: WAITING, or its end. */
void cpool__dialled_down(struct cpool__ws_conn *conn);
void cpool__dialled_opened(struct cpool__ws_conn *conn);
void cpool__ws_dial_more(struct cpool__task *task); /* a place is free */

/* The wire's events that dials alone have. */
bool cpool__dialled_judge(struct cpool__wire *wire, void *context, bool trusted);
size_t cpool__dialled_ask(struct cpool__wire *wire, char *out, size_t room);
void cpool__dialled_answered(struct cpool__wire *wire, const char *subprotocol);
void cpool__dialled_unanswered(struct cpool__wire *wire, int status, int64_t retry_after_s, const char *text);

#endif
