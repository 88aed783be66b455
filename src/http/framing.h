/* framing: what a response's head says of where its body ends, judged more strictly than libcurl does (RFC 9112 section 6.3): two readings of one
 * length are how answers get mixed up */
#ifndef CPOOL_HTTP_FRAMING_H
#define CPOOL_HTTP_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpool__framing {
  int64_t content_length; /* -1: none */
  bool transfer_encoding;
  bool http_1, http_1_0;  /* the version of the status line: HTTP/1.x; HTTP/1.0 */
  bool close, keep_alive; /* options of the Connection field */
};

void cpool__framing_init(struct cpool__framing *framing);
/* One line of the head, with or without its line end. A status line begins anew. False: a Content-Length that is no number, or a second one
 * that differs: the message must not be taken for valid. */
bool cpool__framing_line(struct cpool__framing *framing, const char *line, size_t len);
/* Whether the connection must not be used again although libcurl would: a length beside a transfer coding, or a body announced where there is
 * none (204). */
bool cpool__framing_doubtful(const struct cpool__framing *framing, int status_code);
/* Whether the connection ends with this response (RFC 9112 sections 6.3 and 9.3). `head`: it answers a HEAD request. */
bool cpool__framing_last(const struct cpool__framing *framing, int status_code, bool head);

#endif
