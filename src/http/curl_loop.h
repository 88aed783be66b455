/* curl_loop: one multi handle per identity, driven by the runtime's poller and wheel */
#ifndef CPOOL_HTTP_CURL_LOOP_H
#define CPOOL_HTTP_CURL_LOOP_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "core/runtime.h"
#include "http/identity.h"
#include "http/tls_sessions.h"

struct cpool__conn;
struct cpool__route;
struct cpool__transfer;

/* Whether the libcurl in use is this version (0xXXYYZZ) or newer; how it differs is said where it matters. */
bool cpool__curl_since(unsigned int version);

struct cpool__curl {
  cpool_http *pool;
  struct cpool__identity *identity;
  CURLM *multi;
  struct cpool__link link;   /* pool->identities_used */
  struct cpool__list active; /* transfers in the multi */
  struct cpool__list free;   /* transfers ready for use, last used first */
  struct cpool__list routes;
  struct cpool__timer timer;    /* libcurl's wish */
  struct cpool__task kick_task; /* libcurl wants to run now */
  uint32_t run_count;           /* calls of libcurl that may read, see tls.h */
  uint32_t kick_count;          /* of them without anything else in between */
  struct cpool__task done_task; /* libcurl may have finished transfers */
  struct cpool__list closing;   /* connections shut down that libcurl was not made to look at yet */
  struct cpool__task reap_task; /* has it look */
  struct cpool__list unread;    /* idle HTTP/2 connections with something to read, which is libcurl's */
  struct cpool__list corked;    /* HTTP/2 connections that send all requests of this call of libcurl together */
  struct cpool__list unheard;   /* HTTP/2 connections whose server has not said yet how many streams it allows */
  struct cpool__timer prune_timer;
  struct cpool__route *reaped;    /* what the pruner's URL belongs to; NULL: none */
  struct cpool__transfer *pruner; /* a handle that never connects: it makes libcurl close what is dead */
  struct cpool__tls_sessions tls_sessions;
  uint32_t closing_count, idle_count;
  long cap;                /* of sockets, as libcurl was told */
  int32_t untouched_count; /* transfers that libcurl has not begun: held back by its own queue */
};

/* The identity's curl part, made when missing. CPOOL_ENOMEM. */
int cpool__curl_get(struct cpool__identity *identity, struct cpool__curl **out);
/* No transfer is active. Closes all its connections. */
void cpool__curl_free(struct cpool__curl *curl, int reason);
void cpool__curl_configure(struct cpool__curl *curl); /* after the pool's limits changed */
/* A connection was shut down: libcurl is made to close it, most often within this turn, within two seconds in any case. */
void cpool__curl_closing(struct cpool__curl *curl, struct cpool__conn *conn);
/* Something came on an idle HTTP/2 connection: libcurl is made to read it, within about a second. */
void cpool__curl_unread(struct cpool__curl *curl, struct cpool__conn *conn);
void cpool__curl_pruned(struct cpool__curl *curl); /* the pruner has ended */
/* A transfer was added or removed: libcurl may have finished others meanwhile. */
void cpool__curl_check_done(struct cpool__curl *curl);
/* A request is about to be sent on a shared connection: if others may follow at once, they go out together. */
void cpool__curl_cork(struct cpool__curl *curl, struct cpool__conn *conn);
/* libcurl's socket events of a connection that is in use. */
void cpool__curl_socket_event(void *conn, int fd, uint32_t events);

#endif
