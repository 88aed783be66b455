/* trace: the two headers of W3C Trace Context (Level 1), checked and put beside a caller's headers. Any thread. */
#ifndef CPOOL_HTTP_TRACE_H
#define CPOOL_HTTP_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <cpool.h>

enum { CPOOL__TRACE_STACK = 16 };

/* Headers of a request with those of its trace. */
struct cpool__trace_headers {
  cpool_header few[CPOOL__TRACE_STACK];
  cpool_header *many; /* NULL: `few` has room for all */
};

bool cpool__traceparent_valid(const char *text);
bool cpool__tracestate_valid(const char *text);
/* Has request->headers tell of its traceparent and tracestate, by a list in *out; the texts stay the caller's. To be
 * freed in every case. CPOOL_EINVAL (recorded): one of them is malformed, is among the headers too, or a tracestate
 * has no traceparent. CPOOL_ENOMEM (recorded). */
int cpool__trace_add(struct cpool__trace_headers *out, cpool_request *request);
void cpool__trace_fini(struct cpool__trace_headers *headers);

#endif
