/* response: what a request ended with; filled on the loop thread, then only read */
#ifndef CPOOL_HTTP_RESPONSE_H
#define CPOOL_HTTP_RESPONSE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <cpool.h>

#include "base/buffer.h"
#include "dns/address.h"

struct cpool__hop;

struct cpool_response {
  int32_t status_code, http_version; /* 0: no complete head */
  uint32_t header_count, trailer_count;
  bool head_begun, head_complete; /* the status line of a head; the empty line that ends a final (not 1xx) one */
  bool decoded;                   /* the body is given without its content codings */
  bool may_fold;                  /* the last header line was kept: a folded line continues it */
  bool had_control;               /* a value had a control byte, which became a blank */
  size_t head_bytes;         /* that arrived in this attempt, interim answers, ignored lines and trailers included */
  _Atomic uint64_t mark;     /* where header_at was last: index (32) | offset in head (32) */
  struct cpool__buffer head; /* "name\0value\0" per header, in order of arrival */
  struct cpool__buffer body; /* always has room for the NUL that follows */
  struct cpool__buffer trailers; /* as head */
  _Atomic bool open;  /* of a stream, shown to its consumer before the end: head is settled, all else is not */
  int32_t status;     /* enum cpool_status */
  cpool_error *error; /* NULL: none, or no memory for the detail: then `status` is all that is known */
  bool reused;
  int32_t attempts;
  uint64_t connection;
  int64_t queue_us, dns_us, connect_us, tls_us, first_byte_us, total_us; /* CPOOL_OFF: did not happen */
  uint64_t bytes_sent, bytes_received;
  struct cpool__address remote; /* len 0: none; AF_UNIX family for a unix socket */
  const char *url;              /* of the request, or after redirects of the last one; with its fragment */
  struct cpool__hop *hops;      /* redirects that were followed, the last one; NULL: none */
};

enum cpool__response_result { CPOOL__RESPONSE_OK, CPOOL__RESPONSE_NO_MEMORY, CPOOL__RESPONSE_OVER_CAP };

void cpool__response_init(struct cpool_response *resp); /* zeroed memory; timings to CPOOL_OFF */
void cpool__response_fini(struct cpool_response *resp);
/* Forgets head, body and the attempt's timings (dns, connect, tls, first byte), before it is repeated. */
void cpool__response_restart(struct cpool_response *resp);
/* The same before the next request of a redirect: what is told of the connection and the memory of the body go, too. */
void cpool__response_next_hop(struct cpool_response *resp);
/* One line as libcurl's header callback gives it: the status line begins the head, a folded line continues the last
 * value, an empty line completes the head, or forgets that of an interim (1xx) answer. What arrives after the head are
 * trailers. `cap` bounds head_bytes; at most 2^32. */
enum cpool__response_result cpool__response_head_line(struct cpool_response *resp, const char *line, size_t len,
                                                      size_t cap);
/* Appends to the body, as much as the cap allows; `expected` (Content-Length, -1 unknown) only guides the first
 * allocation (at most 1 MiB is believed). */
enum cpool__response_result cpool__response_body_data(struct cpool_response *resp, const void *data, size_t len,
                                                      size_t cap, int64_t expected);
/* Records a failure; the detail is dropped when memory is short. */
void cpool__response_fail(struct cpool_response *resp, const cpool_error *error);
size_t cpool__response_bytes(const struct cpool_response *resp); /* beyond the struct itself, for the queue's count */

#endif
