/* fault_server: an HTTP/1.1 server on loopback that misbehaves on request, and counts what its clients do */
#ifndef CPOOL_SUPPORT_FAULT_SERVER_H
#define CPOOL_SUPPORT_FAULT_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The request's path says what happens. Bodies of N bytes are fault_pattern() bytes; every answer keeps the connection
 * unless said otherwise; a well-formed answer to HEAD has no body. N, MS, CODE, S are decimal; a missing one has the
 * default in brackets. The query string is ignored, absolute-form targets (as sent to a proxy) are understood, an
 * unknown path is 404. `Expect: 100-continue` is obeyed wherever the body is read.
 *
 * Answers
 *   /ok                   200 "hello"
 *   /bytes/N              N bytes with Content-Length [5]
 *   /chunked/N            N bytes in chunks of 1000 [5]
 *   /trailers             chunked "hello" and the trailer X-Trailer: end
 *   /delay/MS             "hello" after MS ms [100]
 *   /hold                 "hello" once fault_server_release lets it go
 *   /hold-body            head and "hel" at once, "lo" once fault_server_release lets it go
 *   /status/CODE          that status, "hello" where the status may carry a body [200]
 *   /204 /304             without a body
 *   /head-with-length     Content-Length: 12345; 12345 bytes follow unless the method is HEAD
 *   /echo  /echo-head     the request's body; its request line and headers
 *   /continue  /interim   100 or 103 first, then 200 "hello"
 *   /early-413            413 before the body is read, then a lingering close
 *   /redirect/N           N < 300: 302 to /redirect/N-1, and at 0 to /ok; N >= 300: status N to /ok [302]
 *   /redirect-to?URL      302 to URL;  /redirect-loop: 302 to itself
 *   /no-reason  /folded-header     legal oddities: empty reason phrase, obsolete line folding in X-Folded
 *   /close  /http10       "hello" and an announced close; an HTTP/1.0 answer ended by the close
 *   /keepalive-hint/S     "hello" with Keep-Alive: timeout=S [1]; the server itself does not act on it
 * Slow
 *   /drip/MS/N            N body bytes [10], one each MS ms [10];  /drip-header/MS: the same with the head's bytes
 *   /blackhole            never an answer
 * Broken off
 *   /reset-before-answer  RST instead of an answer;  /fin-before-answer: FIN
 *   /reset-midbody  /fin-midbody   half of the promised 10 bytes, then RST or FIN (no TLS close_notify)
 *   /fin-midheader        FIN inside the head
 *   /lying-length         Content-Length 10^15, 10 bytes, FIN
 * Malformed or hostile
 *   /garbage              512 bytes that are no HTTP, then FIN
 *   /endless-headers  /endless-body   until the peer closes;  /huge-header/N: one header of N bytes [1 MiB]
 *   /bad-chunk            a chunk size that is no number
 *   /extra-bytes          an answer and an unsolicited second one ("poisoned") in one write
 *   /extra-record/N/M     the same, over TLS the first N bytes in a record of their own [the head] and the others in the
 *                         next; then M bytes [0] of a third one that never ends
 * After a correct "hello"
 *   /poison/MS            an unsolicited answer ("poisoned") after MS ms; without MS when fault_server_poison is called
 *   /close-idle/MS  /reset-idle/MS    FIN or RST after MS idle ms [0]
 *   /reset-on-reuse  /fin-on-reuse    the connection's next request is read whole, then RST or FIN
 *   /reset-on-reuse-unread            RST as soon as bytes of the next request arrive, without reading them
 */

enum fault_behaviour {
  FAULT_BY_PATH,      /* the table above */
  FAULT_ACCEPT_NEVER, /* the kernel completes connects, nothing is ever read */
  FAULT_ACCEPT_RESET, /* accepted, then RST */
  FAULT_ACCEPT_CLOSE, /* accepted, then FIN */
  FAULT_SILENT,       /* accepted, never read, never answered: a TLS handshake that does not begin */
  FAULT_GARBAGE       /* the first bytes are answered with garbage: a TLS handshake that cannot go on */
};

enum fault_method {
  FAULT_GET,
  FAULT_HEAD,
  FAULT_POST,
  FAULT_PUT,
  FAULT_DELETE,
  FAULT_PATCH,
  FAULT_OTHER,
  FAULT_METHODS
};

/* All zero: plain HTTP on 127.0.0.1 and a free port. */
struct fault_options {
  enum fault_behaviour behaviour;
  const char *path;                         /* serve every request as if it asked for this path */
  const char *address;                      /* numeric: "127.0.0.2", "::1" ... NULL: 127.0.0.1 */
  uint16_t port;                            /* 0: a free one */
  const char *unix_path;                    /* listen here instead */
  int32_t backlog;                          /* 0: as long as the kernel allows */
  int32_t max_connections;                  /* 0: 4096; one more is accepted and closed at once */
  const char *tls_cert_file, *tls_key_file; /* set: TLS */
  const char *tls_client_ca_file;           /* set: a client certificate signed by it is required */
  int32_t tls_min_version, tls_max_version; /* TLS1_2_VERSION ...; 0: OpenSSL's choice */
  bool http2;                               /* and nothing else, over TLS: see fault_h2.h */
  bool h2_mute;                             /* it reads, and says nothing, not even SETTINGS */
  int32_t h2_max_streams; /* SETTINGS_MAX_CONCURRENT_STREAMS, above which streams are refused; 0: no limit; -1: 0 */
  bool h2_no_window;      /* SETTINGS_INITIAL_WINDOW_SIZE 0, and no window is ever opened */
};

struct fault_counts {
  int64_t accepted;                    /* connections */
  int64_t open, most_open;             /* now; the most ever at one moment */
  int64_t tls_handshakes, tls_resumed; /* finished; thereof from a session */
  int64_t requests;                    /* heads read whole */
  int64_t by_method[FAULT_METHODS];    /* their sum is requests */
  int64_t held;                        /* requests waiting for fault_server_release now */
};

struct fault_server;

/* Copies the options. NULL: could not be started, the reason is on stderr. */
struct fault_server *fault_server_start(const struct fault_options *options);
uint16_t fault_server_port(const struct fault_server *server);

/* Ends every connection and thread at once, whatever they are doing, and frees. NULL is fine. */
void fault_server_stop(struct fault_server *server);

/* Any thread. A connection or request is counted before its peer can see any effect of it. */
void fault_server_counts(struct fault_server *server, struct fault_counts *out);
int64_t fault_server_requests(struct fault_server *server);
int64_t fault_server_open(struct fault_server *server);

/* Of the latest request that was read whole, "" when there was none; bodies up to 16 MiB. The caller frees. */
char *fault_server_last_head(struct fault_server *server);
char *fault_server_last_body(struct fault_server *server, size_t *len);
/* The name the latest TLS client asked for (SNI), "" for none. */
char *fault_server_last_tls_name(struct fault_server *server);

/* From now on requests for exactly this path (without query) get these bytes, HEAD those of the head, and keep the
 * connection. Again: replaces the text. The held form: once fault_server_release lets it go. */
void fault_server_answer(struct fault_server *server, const char *path, const char *text);
void fault_server_answer_bytes(struct fault_server *server, const char *path, const void *bytes, size_t len);
void fault_server_answer_held(struct fault_server *server, const char *path, const char *text);

/* Both return how many connections they reached, after the bytes were handed to the kernel. poison waits a little for the
 * first; release lets go up to
 * `max` held requests, longest held first. */
int32_t fault_server_poison(struct fault_server *server);
int32_t fault_server_release(struct fault_server *server, int32_t max);

/* FIN or RST on all connections open now, sent before the return (unix sockets know FIN only). Returns how many. */
int32_t fault_server_drop_all(struct fault_server *server);
int32_t fault_server_reset_all(struct fault_server *server);

/* Byte `at` of a made body. */
static inline char fault_pattern(int64_t at)
{
  return (char) ('a' + at % 26);
}

#endif
