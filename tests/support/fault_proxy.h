/* fault_proxy: an HTTP or SOCKS5 proxy on loopback that takes every host name for 127.0.0.1, misbehaves on request, and
 * keeps what it was asked */
#ifndef CPOOL_SUPPORT_FAULT_PROXY_H
#define CPOOL_SUPPORT_FAULT_PROXY_H

#include <stdbool.h>
#include <stdint.h>

enum fault_proxy_behaviour {
  PROXY_TUNNELS,         /* as it should */
  PROXY_REFUSES,         /* answers with `code`, an HTTP status or a SOCKS5 reply, and closes */
  PROXY_SILENT,          /* reads, never answers */
  PROXY_GARBAGE,         /* answers with 512 bytes that are neither HTTP nor SOCKS5, and closes */
  PROXY_CLOSES,          /* reads the request, then FIN */
  PROXY_RESETS,          /* reads the request, then RST */
  PROXY_CLOSES_MIDWAY,   /* FIN in the middle of its answer */
  PROXY_ENDLESS_HEADERS, /* HTTP/1.1 200 and headers until the peer closes */
  PROXY_ENDLESS_LINE,    /* the same in one line */
  PROXY_ENDLESS_BODY,    /* 407 and a body until the peer closes */
  PROXY_TALKS_ON,        /* HTTP/1.1 200 with Content-Length: 5 and "early" in one write, then tunnels */
  PROXY_CLOSES_TUNNEL    /* makes the tunnel, then FIN */
};

struct fault_proxy_options {
  enum fault_proxy_behaviour behaviour;
  bool socks;
  int code;
  int32_t collect_ms;          /* what the host sends is handed on in one write, once it has been silent for so long */
  const char *address;         /* to listen on; NULL: 127.0.0.1 */
  const char *user, *password; /* asked for when set */
  const char *challenge;       /* what a 407 wants; NULL: Basic */
  const char *tls_cert_file, *tls_key_file; /* set: TLS towards the client */
};

struct fault_proxy;

struct fault_proxy *
fault_proxy_start(const struct fault_proxy_options *options); /* keeps the texts; aborts on failure */
uint16_t fault_proxy_port(const struct fault_proxy *proxy);
void fault_proxy_stop(struct fault_proxy *proxy); /* NULL is fine */

int64_t fault_proxy_accepted(struct fault_proxy *proxy);
int64_t fault_proxy_tunnels(struct fault_proxy *proxy);
/* Of the latest client: the head of its CONNECT, or "SOCKS5 host:port user:password". Valid until the next call. */
const char *fault_proxy_asked(struct fault_proxy *proxy);
/* FIN on all tunnels, at their client's side. */
void fault_proxy_drop_all(struct fault_proxy *proxy);

#endif
