/* dispatch: carries out what admission decides: reuse, dial, evict */
#ifndef CPOOL_HTTP_DISPATCH_H
#define CPOOL_HTTP_DISPATCH_H

#include "base/wheel.h"
#include "dns/dial.h"
#include "http/conn.h"

struct cpool__request;

/* A dial under way: for one request, or for whoever comes next: made ahead, or its request was served otherwise. */
struct cpool__dialling {
  struct cpool__dial dial;
  struct cpool__link link; /* pool->dials */
  struct cpool__route *route;
  struct cpool__request *req;                  /* NULL: for nobody */
  struct cpool__conn *conn;                    /* holds the first place */
  struct cpool__place extra[CPOOL__DIAL_RACE]; /* of the raced sockets beyond the first */
  int socket_count, extra_count;
  struct cpool__timer timer; /* for nobody: connect_timeout_ms */
};

/* The pool's task. */
void cpool__dispatch(struct cpool__task *task);
/* Dials for nobody. False: out of memory, the record is gone. */
bool cpool__dial_ahead(struct cpool__conn *conn);
/* The request does not need its dial any more: given up, or left to others. */
void cpool__dialling_cancel(struct cpool__dialling *dialling);
void cpool__dialling_orphan(struct cpool__dialling *dialling);

#endif
