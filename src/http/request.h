/* request: one submit from call to final event
 *
 *   POSTED    on its way to the loop               -> WAITING, DONE
 *   WAITING   in its origin's queue                -> DIALLING, ACTIVE, DONE
 *   DIALLING  a socket is being connected for it   -> ACTIVE, WAITING (full listener), DONE
 *   ACTIVE    a transfer runs                      -> WAITING (repeated, redirected), DIALLING (full listener), DONE
 *   DONE      its final event is on its way or delivered; only the response is left
 *
 * libcurl connects unix sockets, within the transfer. While the backlog of the listener is full, the request goes back
 * from ACTIVE to DIALLING and tries again after 1, 2, 4 .. 50 ms. As one that dials TCP it keeps a place, unless that
 * has gone to another one before libcurl reported the failure (it queues in front for one then), and is given the first
 * connection of its route that falls free. Its connect phase goes on counting. Nothing was sent: it is no attempt.
 */
#ifndef CPOOL_HTTP_REQUEST_H
#define CPOOL_HTTP_REQUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <cpool.h>

#include "core/queue.h"
#include "core/runtime.h"
#include "http/brake.h"
#include "http/header_list.h"
#include "http/origin.h"
#include "http/response.h"
#include "web/url.h"
#include "pool/admission.h"

struct cpool__decode;
struct cpool__dialling;
struct cpool__events;
struct cpool__stream;
struct cpool__transfer;
struct cpool__upload;

enum cpool__request_state {
  CPOOL__REQUEST_POSTED,
  CPOOL__REQUEST_WAITING,
  CPOOL__REQUEST_DIALLING,
  CPOOL__REQUEST_ACTIVE,
  CPOOL__REQUEST_DONE
};

/* How libcurl is told. */
enum cpool__request_kind { CPOOL__KIND_GET, CPOOL__KIND_HEAD, CPOOL__KIND_BODY, CPOOL__KIND_UPLOAD };

enum { CPOOL__ATTEMPTS = 3 }; /* the last one on a new connection */

struct cpool__request {
  struct cpool__event event; /* first */
  struct cpool_response resp;
  _Atomic uint32_t refs; /* the event, a taken response, a message on its way */
  enum cpool__request_state state;
  struct cpool__msg msg;
  struct cpool__water_waiter brake_waiter;
  enum cpool__brake brake;      /* where it waits with the body of its answer */
  bool brake_posted;            /* the waiter's message is on its way */
  struct cpool__stream *stream; /* NULL: the body is collected */
  struct cpool__upload *upload; /* NULL: the body to be sent is `body` */
  struct cpool__decode *decode; /* NULL: the body is taken as it comes */
  struct cpool__events *events; /* NULL: the answer is no stream of events */
  size_t body_skip;             /* what is taken of the piece that libcurl holds back */
  const char *body_rest;        /* what is not yet taken of a decoded piece */
  size_t body_rest_len;
  cpool_http *pool;
  cpool_session *session;
  cpool_op op;
  struct cpool__link link;      /* pool->requests */
  struct cpool__link dial_link; /* route->dialling */
  struct cpool__waiter waiter;
  struct cpool__route *route;
  struct cpool__dialling *dialling;
  struct cpool__transfer *transfer;
  struct cpool__timer total_timer, phase_timer;
  bool pending_counted, repeatable, dispatched, cancelled;
  bool warms;               /* the pool's own: see warm.h. Without a target it is over when it is about to be sent */
  bool listener_full;       /* its transfer ended for that */
  bool no_stream;           /* or since its HTTP/2 connection takes no more at a time: it waits again, as before */
  uint8_t room_count;       /* failed connects to a unix listener that had room when looked at */
  uint16_t retry_ms;        /* the last wait for a unix listener */
  uint8_t max_redirects;    /* 0: 3xx answers are delivered */
  bool became_get;          /* by a redirect */
  bool hop_waiting;         /* after a redirect for a connection to the next host, or again for a stream */
  bool safe_again;          /* the request as it was submitted, `repeatable` is about the hop */
  bool decompress;          /* CPOOL_REQUEST_DECOMPRESS */
  int32_t earlier_attempts; /* those before the last redirect, or before it was sent again for events */
  int open_errno;           /* why its transfer got no unix socket; 0: it got one */
  bool sending;             /* libcurl has begun to send: sock_read_timeout_ms counts */
  enum cpool__request_kind kind;
  uint64_t submit_us, begin_us; /* begin: dispatch, then the first byte sent */
  uint64_t phase_due_ms;        /* of acquire, connect or silence; UINT64_MAX: never. phase_timer may be due earlier */
  uint64_t activity_ms, uploaded;
  int64_t acquire_timeout_ms, connect_timeout_ms, sock_read_timeout_ms, total_timeout_ms, max_response_bytes,
      stream_window_bytes;
  const struct cpool__authority *authority;
  struct cpool__authority *owned_authority;
  const char *method; /* NULL: what the kind implies */
  const char *target;
  struct cpool__header_list headers;
  void *body; /* its own, until the end */
  size_t body_len;
  size_t block_bytes; /* of this struct and the texts that follow */
};

/* Any thread: what every request begins with; zeroed memory. */
void cpool__request_init(struct cpool__request *req);
/* Loop thread. Ends the request: counts, gives its handle back, hands the event over. `error` NULL: success. */
void cpool__request_finish(struct cpool__request *req, const cpool_error *error);
/* The same with a status and text made here. */
void cpool__request_fail(struct cpool__request *req, int status, int layer, int native, int flags, const char *format,
                         ...) __attribute__((format(printf, 6, 7)));
/* A transfer has begun for it. */
void cpool__request_active(struct cpool__request *req, struct cpool__transfer *transfer);
/* It got its right to a connection. */
void cpool__request_dispatched(struct cpool__request *req);
/* A new connection is being made for it. */
void cpool__request_connecting(struct cpool__request *req);
/* libcurl begins to send it. */
void cpool__request_sending(struct cpool__request *req);
/* It is through with its host: a redirect, as a success. */
void cpool__request_leave_host(struct cpool__request *req, bool succeeded);
/* A new request of the same host, after one that succeeded or not. */
void cpool__request_again(struct cpool__request *req, bool succeeded);
/* There is no route to the host: cpool__route_get said `status`. */
void cpool__request_fail_host(struct cpool__request *req, int status);
/* It waits there for a connection, in every way as a new request does. */
void cpool__request_next_host(struct cpool__request *req, struct cpool__route *route);
/* Again, at the head of its origin's queue; with listener_full set: again after a while, see above. */
void cpool__request_repeat(struct cpool__request *req);
/* Attempts at this host, since the last redirect. */
static inline int cpool__request_attempts(const struct cpool__request *req)
{
  return req->resp.attempts - req->earlier_attempts;
}
/* Its last attempt is due, which must not meet another dead connection. */
static inline bool cpool__request_wants_new(const struct cpool__request *req)
{
  return cpool__request_attempts(req) >= CPOOL__ATTEMPTS - 1;
}
/* Whose connections it may use. */
struct cpool__identity *cpool__request_identity(const struct cpool__request *req);
/* Stops what works for it (waiting, dial, transfer) and ends it as cpool__request_fail. */
void cpool__request_cut(struct cpool__request *req, int status, int layer, const char *text);
void cpool__request_unref(struct cpool__request *req);

#endif
