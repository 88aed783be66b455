/* lws_loop: all that is asked of libwebsockets: TLS, the upgrade, and what comes in. Loop thread only.
 *
 * What goes out is ours: whole frames, written as they are. So are all times: a connection ends when it is cut, or the
 * peer ends it. Another transport could be put under these calls. */
#ifndef CPOOL_WS_LWS_LOOP_H
#define CPOOL_WS_LWS_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cpool.h>

struct cpool__address;
struct lws;

/* A socket; embedded in the connection, which is its owner. */
struct cpool__wire {
  struct lws *wsi; /* NULL: gone, or not begun */
  bool ended;      /* gone */
};

struct cpool__wire_piece {
  const void *data;
  size_t len;
  size_t rest;            /* of its frame: declared by the peer, and still to come */
  bool text, first, last; /* of its message */
};

/* Each call comes from libuv's poll phase, or from within a call below where that is said. Only `gone` may free the
 * connection. */
struct cpool__wire_events {
  /* The head is complete. 0: the upgrade goes on; else the status of the answer that refuses it. */
  int (*upgrade)(struct cpool__wire *wire);
  void (*opened)(struct cpool__wire *wire);
  /* Of dials, before `opened`: whether OpenSSL's certificate will do (context: its X509_STORE_CTX); all header lines of the
   * request, of which the length is returned; the answer, with the subprotocol that it chose, or ""; and instead, when it
   * refuses or none comes, its status (0: none) and Retry-After in seconds (negative: none). `gone` follows. */
  bool (*judge)(struct cpool__wire *wire, void *context, bool trusted);
  size_t (*ask)(struct cpool__wire *wire, char *out, size_t room);
  void (*answered)(struct cpool__wire *wire, const char *subprotocol);
  void (*unanswered)(struct cpool__wire *wire, int status, int64_t retry_after_s, const char *text);
  void (*received)(struct cpool__wire *wire, const struct cpool__wire_piece *piece);
  void (*pong)(struct cpool__wire *wire, const void *data, size_t len);
  /* The peer's close frame. True: its payload is sent back and the connection ends; false: it ends as it is. */
  bool (*peer_closes)(struct cpool__wire *wire, const unsigned char *payload, size_t len);
  void (*writable)(struct cpool__wire *wire); /* all that was written has gone to the kernel */
  /* libwebsockets ends it by itself; `code`: of the close frame that it has sent, 0: none. `gone` follows. */
  void (*failed)(struct cpool__wire *wire, int code);
  void (*gone)(struct cpool__wire *wire); /* the last: the descriptor is closed */
};

struct cpool__wires; /* a context of libwebsockets on the runtime's loop */

/* CPOOL_ENOMEM or CPOOL_ESYSTEM (recorded). */
int cpool__wires_new(struct cpool__wires **out, cpool_runtime *rt, const struct cpool__wire_events *events,
                     int receive_buffer_bytes);
/* No wire is left. `done` follows when libuv has closed what was libwebsockets', some turns later. */
void cpool__wires_free(struct cpool__wires *wires, void (*done)(void *user), void *user);

struct cpool__gate; /* what sockets that are accepted share: certificate, subprotocols */

/* CPOOL_ETLS_CONFIG or CPOOL_ENOMEM (recorded). It goes with the wires. `subprotocols`: names with commas, or NULL. */
int cpool__gate_new(struct cpool__gate **out, struct cpool__wires *wires, const char *cert_file, const char *key_file,
                    const char *subprotocols);
/* Takes an accepted socket, of which `data` was read already. False: it is closed, and no call of the events was made or follows; else `gone` comes, perhaps has
 * come already. */
bool cpool__wire_adopt(struct cpool__wire *wire, struct cpool__gate *gate, int fd, const void *data, size_t len);

/* For dials: the context of OpenSSL that they use, which must outlive the wires; NULL: without TLS. CPOOL_ENOMEM
 * (recorded). */
int cpool__gate_new_client(struct cpool__gate **out, struct cpool__wires *wires, void *ssl_context);
/* Texts are copied. They must fit: host with its port into 119 bytes, path and query into 1999. */
struct cpool__wire_request {
  const char *host, *path;
  const char *subprotocols; /* NULL: none */
};
/* Takes a connected socket and asks for the upgrade, after TLS where the gate has it. CPOOL_OK; CPOOL_ESYSTEM or
 * CPOOL_ENOMEM: it is closed, and no call of the events was made or follows. */
int cpool__wire_dial(struct cpool__wire *wire, struct cpool__gate *gate, int fd,
                     const struct cpool__wire_request *request);

/* A connection of another context on the same loop, whose callbacks come by cpool__wires_event. False: not by HTTP/1.1. */
bool cpool__wire_host(struct cpool__wire *wire, struct lws *wsi);
void cpool__wire_remote(struct cpool__wire *wire, struct cpool__address *out); /* len 0: not by IP */
bool cpool__wire_tls(struct cpool__wire *wire);
bool cpool__wires_forwarded(int reason); /* whether the host's callbacks of this reason are ours */
/* What the callback has to return. */
int cpool__wires_event(struct cpool__wires *wires, struct cpool__wire *wire, struct lws *wsi, int reason, void *in,
                       size_t len);

/* Of the upgrade request, inside `upgrade` alone. Length, or -1: not sent. `out` ends with a NUL and is "" on failure. */
enum cpool__wire_field { CPOOL__WIRE_PATH, CPOOL__WIRE_QUERY, CPOOL__WIRE_SUBPROTOCOLS };
int cpool__wire_field(struct cpool__wire *wire, enum cpool__wire_field field, char *out, size_t size);
int cpool__wire_header(struct cpool__wire *wire, const char *name, char *out, size_t size); /* lower case */
int cpool__wire_fd(struct cpool__wire *wire);

/* Whole frames. False: it is dead. Nothing may be written while cpool__wire_full. */
bool cpool__wire_write(struct cpool__wire *wire, const unsigned char *frames, size_t len);
bool cpool__wire_full(struct cpool__wire *wire);           /* something is left of the last write: `writable` follows */
void cpool__wire_pause(struct cpool__wire *wire, bool on); /* reading; not inside a call of the events */
/* The socket is shut down: `gone` follows. Legal anywhere. */
void cpool__wire_cut(struct cpool__wire *wire);

#endif
