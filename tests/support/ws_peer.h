/* ws_peer: a scripted WebSocket client or server: says exactly what a test wants, right or wrong, and shows every frame that comes */
#ifndef CPOOL_SUPPORT_WS_PEER_H
#define CPOOL_SUPPORT_WS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cert_pair;
struct ws_peer;

/* Of a frame's first byte. */
enum { WS_FIN = 0x80, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

struct ws_peer_options {
  const char *address; /* NULL: 127.0.0.1 */
  const char *ca_file; /* set: over TLS, as "localhost" */
  const char *path;    /* NULL: "/" */
  const char *headers; /* more lines, each with CRLF; NULL: none */
  const char *head;    /* all of the request, instead; NULL: a right one */
};

/* Connects and asks for an upgrade; waits for the answer's head. Aborts when there is nobody to connect to. */
struct ws_peer *ws_peer_open(uint16_t port, const struct ws_peer_options *options);
/* The other side: a server's. */
struct ws_accept_options {
  const struct cert_pair *pair; /* set: over TLS */
  const char *client_ca_file;   /* set: and only with a client certificate of this */
  const char *headers;          /* more lines of the answer, each with CRLF; NULL: none */
  const char *answer;           /* all of it, instead, sent behind the request's head; "": none is; NULL: a right one */
};

/* Listens on a free port of `address` (NULL: 127.0.0.1). */
int ws_peer_listen(const char *address, uint16_t *port);
/* The next who connects; reads the request's head and answers. NULL: nobody came in time. */
struct ws_peer *ws_peer_accept(int listener, const struct ws_accept_options *options, int64_t timeout_ms);
const char *ws_peer_request(const struct ws_peer *peer); /* the head that came, "" */
int ws_peer_status(const struct ws_peer *peer);          /* of the answer; 0: the connection ended without one */
const char *ws_peer_head(const struct ws_peer *peer);    /* of the answer, "" */
bool ws_peer_is_server(const struct ws_peer *peer);
const char *ws_peer_server_name(const struct ws_peer *peer); /* that a client of TLS has told; NULL: none */
int ws_peer_fd(const struct ws_peer *peer);
void ws_peer_free(struct ws_peer *peer);  /* closes; NULL is harmless */
void ws_peer_reset(struct ws_peer *peer); /* the same with an RST */

/* One frame, masked when it is a client's. `first` is its first byte. False: the connection is dead. */
bool ws_peer_send(struct ws_peer *peer, int first, const void *payload, size_t len);
bool ws_peer_send_text(struct ws_peer *peer, const char *text);            /* a whole message */
bool ws_peer_send_close(struct ws_peer *peer, int code, const char *text); /* code 0: an empty payload */
bool ws_peer_send_raw(struct ws_peer *peer, const void *bytes, size_t len);

struct ws_frame {
  int first; /* its first byte; -1: the peer closed the connection, -2: it was reset, -3: nothing came in time */
  bool masked;
  size_t len;
  unsigned char *payload; /* the peer's until its next read; a NUL behind it */
};
enum { WS_END = -1, WS_RESET = -2, WS_NOTHING = -3 };

/* The next frame as it is. */
struct ws_frame ws_peer_read(struct ws_peer *peer, int64_t timeout_ms);
/* The next that is no ping; pings are answered. */
struct ws_frame ws_peer_read_past_pings(struct ws_peer *peer, int64_t timeout_ms);
/* Code of a close frame: 1005 without one, -1: no close frame. */
int ws_frame_code(const struct ws_frame *frame);

#endif
