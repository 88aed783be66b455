/* transfer: one request on one connection through a recycled easy handle, and libcurl's callbacks about it */
#ifndef CPOOL_HTTP_TRANSFER_H
#define CPOOL_HTTP_TRANSFER_H

#include <curl/curl.h>
#include <stdbool.h>

#include "dns/address.h"
#include "http/curl_loop.h"
#include "http/folding.h"
#include "http/framing.h"
#include "http/header_list.h"
#include "http/origin.h"

struct cpool__conn;
struct cpool__request;

enum cpool__transfer_abort { /* why we made libcurl give up */
                             CPOOL__ABORT_NONE,
                             CPOOL__ABORT_STALE, /* the connection turned out dead or poisoned before anything was sent */
                             CPOOL__ABORT_REPLAY,  /* libcurl was about to send the request again by itself */
                             CPOOL__ABORT_HEADERS, /* too large */
                             CPOOL__ABORT_BODY,    /* too large */
                             CPOOL__ABORT_MEMORY,
                             CPOOL__ABORT_FRAMING,  /* the length of the body is not to be trusted */
                             CPOOL__ABORT_ANSWERED, /* no failure: the peer wanted no more of the request's body */
                             CPOOL__ABORT_REDIRECT, /* no failure: a long body of an answer that is left for the next */
                             CPOOL__ABORT_ENCODING, /* the coded body is no good, see encoding_fault */
                             CPOOL__ABORT_EVENT,    /* a server-sent event is too large */
                             CPOOL__ABORT_TUNNEL,   /* the proxy's answer to CONNECT is too large */
                             CPOOL__ABORT_FOLDED,   /* a head begins with the continuation of no field */
                             CPOOL__ABORT_WARM,     /* no failure: the handshake was all that was wanted */
                             CPOOL__ABORT_CALLER    /* cancel, timeout, close: the request has its status already */
};

struct cpool__transfer {
  struct cpool__link link; /* curl->active or curl->free */
  struct cpool__curl *curl;
  CURL *easy;
  struct cpool__request *req;     /* NULL: free, or the pruner */
  struct cpool__conn *conn;       /* in use, or reserved for it */
  struct cpool__link stream_link; /* conn->streams */
  bool begun;                     /* counted in conn->begun_count */
  struct cpool__framing framing;
  struct cpool__folding folding;
  bool hand_over;     /* conn is ours still: OPENSOCKET gives its socket to libcurl */
  bool confirmed;     /* libcurl really uses conn */
  bool refused_open;  /* libcurl wanted to dial by itself */
  int32_t begun_then; /* and how many streams it had begun on the shared connection at that moment */
  bool complained;    /* and this is because it has lost the one that it had sent on */
  bool touched;       /* libcurl has begun it */
  bool paused;        /* reading */
  bool send_paused;   /* the caller has had nothing to send */
  bool last;          /* the head says that the connection ends with this response */
  bool tunnel_open;   /* the proxy's answer to CONNECT was read whole, and is 2xx */
  bool waited; /* its new connection had waited for a request: the peer may have given it up as if it had been used */
  enum cpool__transfer_abort abort;
  const char *encoding_fault; /* static */
  int begin_count;            /* times libcurl was about to send */
  int64_t tunnel_looks;       /* libcurl's calls while the tunnel is made: one per byte that it reads, and some more */
  long tunnel_bytes; /* of the CONNECT request and the head of its answer; libcurl counts the first as the request's */
  /* what the easy handle is set to */
  uint64_t origin_number;
  CURLSH *tls_sessions; /* the share that it names */
  struct cpool__address connect_address;
  struct curl_slist connect_to;
  char connect_to_text[CPOOL__ADDRESS_TEXT + 8];
  const char *proxy;          /* the identity's text, or the pruner's; NULL: none */
  struct curl_slist *resolve; /* the proxy's name with the address that was dialled; in one block */
  int kind;                   /* enum cpool__request_kind */
  bool custom_method, forbid_reuse, fresh_connect, watches_tls, watches_tunnel, streams;
  bool shows_heads; /* to the body callback, before libcurl stores them */
  bool once;        /* not to be used again: see folding.h */
  char error_text[CURL_ERROR_SIZE];
};

/* Begins `req` on `conn` (STOCK: handed over; IDLE or reserved BUSY: reused). False: out of memory, nothing changed. */
bool cpool__transfer_start(struct cpool__request *req, struct cpool__conn *conn);
/* libcurl reported the end. */
void cpool__transfer_done(struct cpool__transfer *transfer, CURLcode code);
/* The request ends without libcurl's word: out of the multi; the connection, if in use, is closed. */
void cpool__transfer_abort(struct cpool__transfer *transfer);
/* The low mark is reached: reading goes on. */
void cpool__transfer_resume(struct cpool__transfer *transfer);
/* There is more to send. */
void cpool__transfer_send_more(struct cpool__transfer *transfer);
/* libcurl has begun it. */
static inline void cpool__transfer_touch(struct cpool__transfer *transfer)
{
  if (!transfer->touched) {
    transfer->touched = true;
    transfer->curl->untouched_count--;
  }
}
/* What a callback returns that makes libcurl give up. */
static inline size_t cpool__transfer_give_up(struct cpool__transfer *transfer, enum cpool__transfer_abort why)
{
  transfer->abort = why;
  return 0;
}
void cpool__transfer_set_callbacks(struct cpool__transfer *transfer);
/* libcurl tells that this transfer uses that socket. */
void cpool__transfer_uses(struct cpool__transfer *transfer, struct cpool__conn *conn);
/* The way to the host: the proxy of its route, or none. */
void cpool__transfer_set_route(struct cpool__transfer *transfer, const struct cpool__route *route);
void cpool__transfer_set_proxy(struct cpool__transfer *transfer, const char *url, const char *userpwd);
/* The address that libcurl is to look up its connections by, and to connect to. */
void cpool__transfer_set_address(struct cpool__transfer *transfer, const struct cpool__conn *conn);
struct cpool__transfer *cpool__transfer_new(struct cpool__curl *curl);
void cpool__transfer_free(struct cpool__transfer *transfer);

#endif
