/* tunnel: an HTTP proxy is asked to connect a socket through to a host (CONNECT, RFC 9110 section 9.3.6). Loop thread only. */
#ifndef CPOOL_WS_TUNNEL_H
#define CPOOL_WS_TUNNEL_H

#include <cpool.h>

#include "core/runtime.h"

enum { CPOOL__TUNNEL_HEAD_BYTES = 8192 }; /* of its answer */

struct cpool__tunnel {
  cpool_runtime *rt;
  int fd;                                     /* connected to the proxy; -1: not running */
  const char *request;                        /* all of it; borrowed until done or cancel */
  void (*done)(struct cpool__tunnel *tunnel); /* once, never from inside start; the fd is the owner's again */
  /* CPOOL_OK, or CPOOL_EPROXY with the proxy's status, if there was one, as native. */
  cpool_error error;
  /* private */
  size_t sent, head_len;
  char head[CPOOL__TUNNEL_HEAD_BYTES];
};

/* The fields before `private` are set, the others zero. CPOOL_OK or CPOOL_ENOMEM. */
int cpool__tunnel_start(struct cpool__tunnel *tunnel);
/* No call follows; the fd is the owner's again. Harmless when it is not running. */
void cpool__tunnel_cancel(struct cpool__tunnel *tunnel);

#endif
