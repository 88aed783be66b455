/* warm: connections made ahead of requests: dialled when pool/stock says so, taken as far as the host allows
 *
 *   http                  connected, to the host or the proxy           conn STOCK
 *   https, HTTP/2         TLS (and the tunnel) done, no request sent    conn IDLE: libcurl has it
 *   https, HTTP/1.1       connected                                     conn STOCK
 *     warm_up_request     TLS done, that request answered               conn IDLE
 *   unix sockets          none: their connects do not take time
 *
 * What libcurl has to do ahead, it does for a request of the pool's own: it has no session, no handle and no event, and
 * is in no count of requests. Loop thread. */
#ifndef CPOOL_HTTP_WARM_H
#define CPOOL_HTTP_WARM_H

#include <stdbool.h>

#include "base/wheel.h"
#include "http/conn.h"
#include "http/origin.h"

struct cpool__curl;
struct cpool__request;

/* The host "https://name:port" is known from now on, to the identity of the pool's default session. */
void cpool__warm_begin(cpool_http *pool, const char *name);
/* Nobody waits for a connection any more: dials what hosts lack. */
void cpool__warm_fill(cpool_http *pool);
/* For a connection that was just dialled, and that nobody waits for. True: a request of our own has begun on it, and it
 * will fall idle, or go, with that. */
bool cpool__warm_up(struct cpool__conn *conn);
/* That request has ended, out of its transfer. */
void cpool__warm_request_end(struct cpool__request *req);
/* Those of an identity end, before its libcurl part does. */
void cpool__warm_stop(struct cpool__curl *curl);
/* A dial for nobody failed, or took too long. */
void cpool__warm_failed(struct cpool__origin *org);
/* A connection that waited for a request ends without one, for its `reason` if that is known. */
void cpool__warm_lost(struct cpool__conn *conn);

#endif
