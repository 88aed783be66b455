/* listen: sockets that clients come in by. Loop thread only. */
#ifndef CPOOL_WS_LISTEN_H
#define CPOOL_WS_LISTEN_H

#include "ws/conn.h"

struct cpool__listener {
  struct cpool__link link; /* ws->listeners */
  cpool_ws *ws;
  struct cpool__gate *gate;
  struct cpool__timer timer; /* after a failure that may last */
  int fd;                    /* -1: no further accepts */
  int port;                  /* 0: of those that callers accept by themselves */
  bool tls;
  int32_t decide, max_per_address;
  char *path, *origins; /* NULL: any */
  char *header_text;    /* behind header_names */
  const char **header_names;
  int header_count;
};

extern cpool__table_equal_fn *const cpool__address_same;

void cpool__listeners_stop(cpool_ws *ws); /* no further accepts */
void cpool__listeners_free(cpool_ws *ws);
void cpool__listeners_room(cpool_ws *ws);               /* a handshake has ended */
void cpool__listener_left(struct cpool__ws_conn *conn); /* a connection of it has gone */

#endif
