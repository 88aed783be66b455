/* lws_context: what the files that speak to libwebsockets share */
#ifndef CPOOL_WS_LWS_CONTEXT_H
#define CPOOL_WS_LWS_CONTEXT_H

#include <libwebsockets.h>

#include "core/runtime.h"
#include "ws/lws_loop.h"

/* Where connected sockets are handed to libwebsockets, which makes its own for dials: see lws_dial.c. */
struct cpool__dock {
  int fd, filler; /* 0: not made yet */
  char name[16];  /* as libwebsockets takes it */
};

enum { CPOOL__LWS_HANDLES = 16 };

struct cpool__wires {
  cpool_runtime *rt;
  struct lws_context *context;
  const struct cpool__wire_events *events;
  int receive_buffer_bytes;
  struct cpool__gate *gates;
  struct cpool__wire *adopting;
  struct cpool__dock dock;
  struct uv_handle_s *handles[CPOOL__LWS_HANDLES]; /* that the context has made on the loop; the pipe is one of them */
  struct uv_handle_s *pipe;
  int handle_count;
  bool stranded;  /* cannot be freed: see keep_number */
  int turns_left; /* after the first destroy */
  struct cpool__timer timer;
  void (*done)(void *user);
  void *user;
};

struct cpool__gate {
  struct cpool__wires *wires;
  struct cpool__gate *next;
  struct lws_vhost *vhost;
  bool tls;
  struct lws_protocols *protocols; /* the first is the one without a name of its own; the last is empty */
  char *names;
};

/* One that has `info`, its protocols and its TLS still to be completed. CPOOL_ENOMEM (recorded). */
int cpool__gate_make(struct cpool__gate **out, struct cpool__wires *wires, const char *subprotocols,
                     struct lws_context_creation_info *info);
void cpool__dock_close(struct cpool__dock *dock);
/* The callbacks that dials alone have. */
int cpool__wires_dial_event(struct cpool__wires *wires, struct cpool__wire *wire, struct lws *wsi, int reason, void *in,
                            size_t len);

#endif
