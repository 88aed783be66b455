/* admission: who gets a connection next. Policy alone: integers in, decisions out; no socket, no clock, no memory.
 *
 * A *place* is the right to one open socket, from before it is dialled until it is shut down. Places are counted per
 * origin and in all, and never exceed the limits. A *group* is the part of an origin whose connections are
 * interchangeable (one identity). A *waiter* is a request that has no connection. Waiters of an origin are served
 * strictly in order of arrival.
 *
 *   caller                                     admission
 *   waiter arrives: cpool__admission_wait      -> queued at its origin
 *   loop: cpool__admission_next                -> REUSE  an idle place of its group serves the waiter
 *                                                 OPEN   the waiter may dial: call cpool__place_open at once
 *                                                 EVICT  close this idle place (cpool__place_close), then ask again
 *                                                 NONE   nobody can go on
 *   connection falls idle / ends               cpool__place_idle / cpool__place_close, then ask again
 *
 * When the total limit binds, origins take turns: an origin without any place, or with at least two fewer than the
 * origin that just had a connection fall idle, gets that place. An origin without any place waits for at most
 * CPOOL__TURN_REQUESTS requests on the only connection of another one, so that turns do not cost a new connection per
 * request. No turn is taken while an idle place can be had instead, one of an origin that nobody waits at. Room that
 * appears goes to origins without any place first.
 *
 * A place carries one request at a time, or, once its connection is known to multiplex (cpool__place_known), up to its
 * number of streams; then it is SHARED while it has some to spare. In a group that may multiplex, one place at a time is
 * opened, and the waiters behind it wait until it is known: they will most likely share it.
 *
 * Of an origin's places at most connecting_limit are being connected at a time; its waiters wait for one of these, or for
 * one that falls idle. A dial begins when another one has ended: a burst does not fall upon a host all at once.
 *
 * A connection may be made before anybody asks for it; pool/stock says when. Its place is idle then as others are, and
 * is used after those that have served. If it still needs a handshake (`raw`), that begins with its first request and
 * counts against connecting_limit: while the limit binds, nobody is given such a place.
 *
 * While the closing limit binds, nothing is opened, and nothing evicted to make room; waiters that an idle place of
 * their group can serve go on.
 *
 * An origin without waiters and places may be freed after cpool__stock_want(.., 0): it is in no list then. So may a
 * group without, after cpool__stock_forget, and a place in state NONE. Every call is O(1) (amortised), whatever the number of waiters and origins. */
#ifndef CPOOL_POOL_ADMISSION_H
#define CPOOL_POOL_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

enum {
  CPOOL__TURN_REQUESTS = 4,
  CPOOL__AHEAD = 8 /* waiters: how long before its turn the memory of one is fetched; a power of two */
};

struct cpool__origin_policy;

struct cpool__group {
  struct cpool__origin_policy *origin;
  struct cpool__list idle; /* places that can take a request, idle and shared ones, most recently used first, those that
                              never were last */
  bool multiplex;          /* its connections may carry several requests: not known yet, or so */
  int32_t fresh_count;     /* places that are not known yet */
};

struct cpool__waiter {
  struct cpool__link link; /* in origin->waiters */
  struct cpool__group *group;
  const void *ahead; /* who came CPOOL__AHEAD waiters later, for prefetching only: it may be gone. NULL: none yet */
};

enum cpool__place_state {
  CPOOL__PLACE_NONE,
  CPOOL__PLACE_DIALLING,
  CPOOL__PLACE_BUSY,   /* takes no further request */
  CPOOL__PLACE_SHARED, /* has requests, and streams to spare */
  CPOOL__PLACE_IDLE
};

struct cpool__place {
  struct cpool__group *group;
  struct cpool__link idle_link; /* in group->idle */
  struct cpool__link lru_link;  /* in admission->idle, least recently used first */
  struct cpool__link own_link;  /* in origin->idle, least recently used first */
  enum cpool__place_state state;
  uint32_t turn_count; /* requests that it served, the present ones included */
  int32_t stream_count, stream_limit;
  bool fresh;      /* counted in group->fresh_count */
  bool connecting; /* counted in origin->connecting_count */
  bool ahead;      /* counted in origin->ahead_count */
  bool raw;        /* idle or dialled, and its first request will begin with a handshake; set by the caller */
};

/* Which list of the admission holds the origin. */
enum cpool__origin_state {
  CPOOL__ORIGIN_QUIET, /* none: no waiter, its own limit binds and no place of it is idle, or fresh places are awaited */
  CPOOL__ORIGIN_READY,   /* to be looked at by the next cpool__admission_next */
  CPOOL__ORIGIN_STARVED, /* the total or the closing limit binds, and it has no place at all */
  CPOOL__ORIGIN_HUNGRY   /* the same, and it has some */
};

/* See pool/stock. */
struct cpool__stock {
  struct cpool__link link;     /* in admission->short_of_stock */
  struct cpool__group *group;  /* whose connections are made ahead: that of the latest waiter; NULL: of none */
  int32_t wanted, ahead_count; /* places; those that are being connected for nobody yet */
  uint32_t failure_count;      /* since one proved of use */
  bool held;                   /* after a failure, until cpool__stock_release */
};

struct cpool__origin_policy {
  struct cpool__link link;
  enum cpool__origin_state state;
  struct cpool__list waiters, idle;
  int32_t limit;                              /* places; the pool's per-host limit unless overridden */
  int32_t connecting_limit, connecting_count; /* places whose connections are being made, until known or idle */
  int32_t place_count, idle_count, busy_count, shared_count, waiting_count; /* shared ones are busy */
  struct cpool__waiter *latest[CPOOL__AHEAD]; /* a ring: who came last, if still waiting */
  uint32_t arrival_count;
  struct cpool__stock stock;
};

struct cpool__admission {
  struct cpool__list ready, starved, hungry; /* origins */
  struct cpool__list idle;                   /* places of all origins, least recently used first */
  struct cpool__list short_of_stock;         /* origins, perhaps: to be looked at by cpool__stock_next */
  int32_t limit, closing_limit;
  int32_t place_count, idle_count, busy_count, closing_count;
  int32_t spare_count; /* idle places of origins that have no waiter */
  int64_t waiting_count;
};

enum cpool__decision_kind { CPOOL__DECISION_NONE, CPOOL__DECISION_REUSE, CPOOL__DECISION_OPEN, CPOOL__DECISION_EVICT };

struct cpool__decision {
  enum cpool__decision_kind kind;
  struct cpool__waiter *waiter; /* REUSE, OPEN: taken out of its queue */
  struct cpool__place *place;   /* REUSE: now busy; EVICT: still idle */
};

void cpool__admission_init(struct cpool__admission *adm, int32_t limit, int32_t closing_limit);
void cpool__origin_policy_init(struct cpool__origin_policy *origin, int32_t limit);
void cpool__group_init(struct cpool__group *group, struct cpool__origin_policy *origin);

/* The waiter's link is zeroed before first use. */
void cpool__admission_wait(struct cpool__admission *adm, struct cpool__waiter *waiter, struct cpool__group *group);
/* To the head of its origin's queue: a request that was dispatched and has to be dispatched again. */
void cpool__admission_wait_first(struct cpool__admission *adm, struct cpool__waiter *waiter,
                                 struct cpool__group *group);
/* Takes a waiter out (cancel, timeout). Harmless when it does not wait. */
void cpool__admission_leave(struct cpool__admission *adm, struct cpool__waiter *waiter);
struct cpool__decision cpool__admission_next(struct cpool__admission *adm);

/* After OPEN, at once: the place counts from here on, state DIALLING. Zeroed before first use. */
void cpool__place_open(struct cpool__admission *adm, struct cpool__place *place, struct cpool__group *group);
/* One more place, beyond a waiter's own, if the limits allow it without any eviction and nobody waits for it: a second
 * raced socket. */
bool cpool__place_try_open(struct cpool__admission *adm, struct cpool__place *place, struct cpool__group *group);
/* One request more, which got the connection without a decision; a full one, too, if somebody else chose it. */
void cpool__place_busy(struct cpool__admission *adm, struct cpool__place *place);
/* One request less: BUSY or SHARED -> SHARED or IDLE; or DIALLING -> IDLE. */
void cpool__place_idle(struct cpool__admission *adm, struct cpool__place *place);
/* Its connection turns out to carry so many requests at a time; from 2 on it multiplexes, and the group with it. */
void cpool__place_known(struct cpool__admission *adm, struct cpool__place *place, int32_t stream_limit);
/* Another number of streams; 0: no further request, it is on its way out. */
void cpool__place_streams(struct cpool__admission *adm, struct cpool__place *place, int32_t stream_limit);
/* Any -> NONE: the socket is shut down, or was never made; harmless when NONE already. `closing`: it counts as closing
 * until cpool__admission_closed. */
void cpool__place_close(struct cpool__admission *adm, struct cpool__place *place, bool closing);
void cpool__admission_closed(struct cpool__admission *adm);

/* New limits: idle places above them are returned by cpool__admission_next as EVICT, whatever the closing limit; busy
 * ones go when they fall idle. */
void cpool__admission_limits(struct cpool__admission *adm, int32_t limit, int32_t closing_limit);
void cpool__origin_limit(struct cpool__admission *adm, struct cpool__origin_policy *origin, int32_t limit,
                         int32_t connecting_limit);

#endif
