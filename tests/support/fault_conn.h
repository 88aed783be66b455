/* fault_conn: one connection of the fault server, as its owner, its thread, its bytes and its answers share it */
#ifndef CPOOL_SUPPORT_FAULT_CONN_H
#define CPOOL_SUPPORT_FAULT_CONN_H

#include "support/fault_server.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

enum fault_end {
  FAULT_KEEP,   /* wait for the next request */
  FAULT_CLOSE,  /* TLS close_notify, FIN */
  FAULT_CUT,    /* FIN */
  FAULT_LINGER, /* FIN, then read until the peer closes, so that unread bytes do not turn the FIN into a RST */
  FAULT_RESET   /* RST */
};

/* What fault_server_release and fault_server_poison look for. */
enum fault_kick { FAULT_KICK_NONE, FAULT_KICK_HOLD, FAULT_KICK_POISON };

struct fault_request {
  char *head; /* request line and headers, NUL-terminated */
  char *body; /* may be NULL */
  size_t body_len;
  char method[16];
  char path[1024]; /* without scheme, authority and query */
  char query[1024];
  int64_t content_length;
  bool chunked, close, expect_continue;
};

struct fault_conn {
  struct fault_server *server;
  struct fault_conn *next; /* server's list; server->mutex */
  pthread_t thread;
  int fd;           /* changed under server->mutex by the connection's thread, read by others under it */
  SSL *ssl;         /* NULL: plain */
  atomic_bool done; /* its thread has nothing left to do but be joined */
  char *in;         /* received, not yet consumed */
  size_t in_len, in_cap;
  int64_t request_count;
  struct fault_request request;

  enum fault_end next_request; /* what the next request meets instead of an answer; FAULT_KEEP: nothing */
  bool next_unread;            /* ... before it is read */
  enum fault_end idle_end;     /* what happens when idle until idle_end_ms; FAULT_KEEP: a poisonous answer */
  int64_t idle_end_ms;         /* -1: never */

  int kick_fd;          /* eventfd, made when first needed; -1 before */
  enum fault_kick kick; /* server->mutex */
  bool kick_due;        /* server->mutex; cleared by the connection's thread once obeyed */
  int64_t kick_order;   /* server->mutex; smaller waits longer */

  struct fault_h2_order *orders; /* HTTP/2: server->mutex; oldest first */
  bool takes_orders;             /* the same */
};

struct fault_script { /* an answer of fault_server_answer */
  struct fault_script *next;
  char *path, *text; /* a NUL follows its `len` bytes */
  size_t len;
  bool held;
};

struct fault_server {
  struct fault_options options;
  char *path, *unix_path;
  SSL_CTX *tls;
  int listen_fd;
  int stop_fd; /* eventfd; readable from the stop on, never read */
  int reap_fd; /* eventfd; a connection's thread is about to end */
  uint16_t port;
  pthread_t acceptor;
  bool acceptor_runs;

  _Atomic int64_t accepted, open, most_open, tls_handshakes, tls_resumed, requests, held;
  _Atomic int64_t by_method[FAULT_METHODS];
  _Atomic int64_t h2_streams, h2_refused, h2_pings, h2_resets, h2_refusals_by_path;

  pthread_mutex_t mutex;
  pthread_cond_t kicked; /* some kick_due was cleared */
  struct fault_conn *conns;
  int64_t kick_count; /* arms so far: the next kick_order */
  int32_t kicks_due;  /* connections whose kick_due is set */
  char *last_head, *last_body, *last_tls_name;
  size_t last_body_len;
  struct fault_script *scripts; /* mutex */
};

enum fault_wake { FAULT_WAKE_READY, FAULT_WAKE_TIMEOUT, FAULT_WAKE_KICK, FAULT_WAKE_STOP };

/* fault_conn.c: bytes. All but _wait return false when the connection or the server ends. */
enum fault_wake fault_conn_wait(struct fault_conn *conn, short events, int64_t end_ms /* -1: none */);
bool fault_conn_handshake(struct fault_conn *conn);
bool fault_conn_read_more(struct fault_conn *conn);
bool fault_conn_read_head(struct fault_conn *conn);
bool fault_conn_read_body(struct fault_conn *conn);
bool fault_conn_write(struct fault_conn *conn, const void *data, size_t len);
bool fault_conn_pause(struct fault_conn *conn, int64_t ms); /* false also when the peer closes meanwhile */
void fault_conn_close(struct fault_conn *conn, enum fault_end end);
void fault_request_fini(struct fault_request *request);

/* fault_paths.c: behaviours. */
bool fault_path_wants_body(const char *path);
enum fault_end fault_path_serve(struct fault_conn *conn, const char *path);
bool fault_write_poison(struct fault_conn *conn);

/* fault_h2.c: an HTTP/2 connection, from its preface on. */
enum fault_end fault_h2_serve(struct fault_conn *conn);
void fault_h2_end(struct fault_conn *conn); /* nobody waits for it any more */

/* fault_life.c: the connection's thread, and kicks: arm before the peer can know, await, done after obeying. */
void fault_kick_arm(struct fault_conn *conn, enum fault_kick kick);
bool fault_kick_await(struct fault_conn *conn);
void fault_kick_done(struct fault_conn *conn);
void *fault_conn_main(void *conn);
void fault_count_request(struct fault_server *server, const char *method);

/* fault_server.c: makes an eventfd readable; makes it unreadable. */
void fault_ring(int fd);
void fault_silence(int fd);

#endif
