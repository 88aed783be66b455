/* conn: the record of one socket, from the moment it is connected until it is closed; every socket of the pool has one place and one reason to go
 *
 *   STOCK    connected by us, not given to libcurl yet       -> BUSY, GONE
 *   BUSY     a transfer uses it (TLS handshake included)     -> IDLE, CLOSING, GONE
 *   IDLE     kept alive in libcurl's cache, watched by us    -> BUSY, CLOSING, GONE
 *   CLOSING  shut down, not yet closed by libcurl            -> GONE
 *   GONE     closed; the record ends with the transfer that used it
 */
#ifndef CPOOL_HTTP_CONN_H
#define CPOOL_HTTP_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/wheel.h"
#include "dns/address.h"
#include "dns/tie.h"
#include "http/origin.h"
#include "http/tls.h"
#include "pool/admission.h"
#include "pool/janitor.h"

struct cpool__transfer;
struct cpool__peer;

enum cpool__conn_state { CPOOL__CONN_STOCK, CPOOL__CONN_BUSY, CPOOL__CONN_IDLE, CPOOL__CONN_CLOSING, CPOOL__CONN_GONE };

/* X(name, field of cpool_http_stats) */
#define CPOOL__CLOSE_REASONS(X)                                                                                        \
  X(PEER, closed_peer)                                                                                                 \
  X(UNSOLICITED, closed_unsolicited)                                                                                   \
  X(IDLE, closed_idle)                                                                                                 \
  X(LIFETIME, closed_lifetime)                                                                                         \
  X(REQUESTS, closed_requests)                                                                                         \
  X(RESPONSE, closed_response)                                                                                         \
  X(ERROR, closed_error)                                                                                               \
  X(CANCELLED, closed_cancelled)                                                                                       \
  X(EVICTED, closed_evicted)                                                                                           \
  X(DIAL, closed_dial)                                                                                                 \
  X(POOL, closed_pool)                                                                                                 \
  X(ADDRESS, closed_address)

enum cpool__close_reason {
  CPOOL__CLOSE_NONE,
#define CPOOL__CLOSE_ENUM(name, field) CPOOL__CLOSE_##name,
  CPOOL__CLOSE_REASONS(CPOOL__CLOSE_ENUM)
#undef CPOOL__CLOSE_ENUM
};

struct cpool__conn {
  cpool_http *pool;
  struct cpool__route *route;
  struct cpool__place place;
  struct cpool__link port_link; /* pool->conns_by_port */
  /* in a list of its libcurl part: the closing, the unread when idle, the unheard */
  struct cpool__link closing_link;
  struct cpool__link corked_link; /* curl->corked */
  struct cpool__timer timer;      /* when idle: the time to go */
  struct cpool__janitor_life life;
  struct cpool__transfer *owner; /* BUSY, GONE; none for HTTP/2, see streams */
  struct cpool__list streams;    /* HTTP/2: transfers that use it, or have it reserved */
  int32_t begun_count;           /* of these, libcurl has begun to send */
  uint64_t number;
  int fd; /* -1: a unix socket that libcurl has not asked for yet, or GONE */
  enum cpool__conn_state state;
  enum cpool__close_reason reason; /* why it goes, once that is known */
  bool in_curl;                    /* libcurl has it and will close it */
  bool unix_socket;
  bool http2;    /* known since its first request was about to be sent */
  bool waited;   /* kept, or being made, for a request to come, and none has */
  bool departed; /* its address has left the answer: its lifetime is over */
  uint16_t local_port;
  uint64_t heard_ms; /* HTTP/2: when anything of an answer came last */
  ino_t inode;       /* of the socket: libcurl 7 closes one whose connect it found failed without a word */
  void *tls;         /* OpenSSL's object, libcurl's own; NULL: plain, not begun yet, or another TLS library */
  void *outer_tls;   /* the same of the connection to an https proxy, when `tls` is that to the host inside of it */
  struct cpool__tls_watch watch; /* HTTP/2 */
  int64_t dns_us, connect_us;
  struct cpool__tie tie;    /* to the name that it was dialled by */
  struct cpool__peer *peer; /* counts it */
  struct cpool__address remote;
  char remote_host[CPOOL__ADDRESS_TEXT];
};

/* A record without a socket, its place not open yet. NULL: out of memory. */
struct cpool__conn *cpool__conn_new(struct cpool__route *route);
static inline struct cpool__conn *cpool__conn_of_place(struct cpool__place *place)
{
  return cpool__container_of(place, struct cpool__conn, place);
}
/* Gives it its connected socket, with what counts it (may be NULL), and puts it into the tables. False: out of memory,
 * neither is taken. */
bool cpool__conn_attach(struct cpool__conn *conn, int fd, const struct cpool__address *remote,
                        struct cpool__peer *peer);
void cpool__conn_begin(struct cpool__conn *conn, struct cpool__transfer *owner); /* STOCK, IDLE -> BUSY */
/* The transfer is over and the socket is still open: the oldest request that still dials this route gets it, else it falls idle, or goes when
 * its time has come. */
void cpool__conn_end(struct cpool__conn *conn);
/* HTTP/2. Its first request is about to be sent. */
void cpool__conn_share(struct cpool__conn *conn, struct cpool__transfer *first);
/* The first thing that a server says is how many streams it allows (RFC 9113 section 3.4): libcurl knows, others may come. */
void cpool__conn_heard(struct cpool__conn *conn);
/* One transfer less; the last one leaves it idle, or takes it along when it is to go. `reason`: should it be gone already. */
void cpool__conn_leave(struct cpool__conn *conn, struct cpool__transfer *transfer, enum cpool__close_reason reason);
/* It takes no further request, and goes with its last one. */
void cpool__conn_drain(struct cpool__conn *conn, enum cpool__close_reason reason);
/* A BUSY one that libcurl turned out not to use -> IDLE, without looking further: legal inside libcurl's callbacks. */
void cpool__conn_unreserve(struct cpool__conn *conn);
/* IDLE (or STOCK) -> shut down, place free at once; libcurl closes it within two seconds (STOCK: closed here). */
void cpool__conn_retire(struct cpool__conn *conn, enum cpool__close_reason reason);
/* The socket was closed by libcurl (its callback), or is closed by us: out of all tables. The record is freed, or stays with its owner as GONE. */
void cpool__conn_gone(struct cpool__conn *conn);
/* A socket that libcurl took and gave up before sending, perhaps without its close callback: BUSY -> GONE; closed here only if
 * libcurl left it open. */
void cpool__conn_vanished(struct cpool__conn *conn);
/* Frees a GONE one or one that never had a socket; a socket's end is counted under `reason` unless it had one. */
void cpool__conn_free(struct cpool__conn *conn, enum cpool__close_reason reason);
struct cpool__conn *cpool__conn_by_fd(cpool_http *pool, int fd);
/* The connection between these ends, or NULL: what libcurl tells about a reused connection. */
struct cpool__conn *cpool__conn_by_ends(cpool_http *pool, const char *remote_host, int remote_port, int local_port);
/* OpenSSL holds bytes of it that were received and not asked for. */
bool cpool__conn_tls_pending(const struct cpool__conn *conn);
/* Why its lifetime is over. */
static inline enum cpool__close_reason cpool__conn_lifetime_reason(const struct cpool__conn *conn)
{
  return conn->departed ? CPOOL__CLOSE_ADDRESS : CPOOL__CLOSE_LIFETIME;
}
void cpool__count_opened(struct cpool__route *route);
void cpool__count_closed(cpool_http *pool, enum cpool__close_reason reason);

/* idle.c: the watch over connections without a request */

/* More idle connections than this in one multi handle and libcurl's own check of them, once a second, shows in the latency of a request. */
enum { CPOOL__IDLE_PER_IDENTITY = 1000 };

void cpool__idle_begin(struct cpool__conn *conn);
void cpool__idle_end(struct cpool__conn *conn);
/* Its time to go is looked up again, soon. */
void cpool__idle_rules_changed(struct cpool__conn *conn);
/* Something happened on an idle socket. */
void cpool__idle_event(struct cpool__conn *conn);
/* Something can be read from it (bytes, end, error): it must not be used again. */
bool cpool__idle_peek(const struct cpool__conn *conn);
/* Why a connection that is or should have been idle has to go. */
enum cpool__close_reason cpool__idle_verdict(const struct cpool__conn *conn);

#endif
