/* headers: what names and values of header fields may be (RFC 9110 section 5), and which are the library's own. Any thread. */
#ifndef CPOOL_WEB_HEADERS_H
#define CPOOL_WEB_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <cpool.h>

enum { CPOOL__HEAD_MAX_BYTES = 512 * 1024 }; /* target and headers of one request; libcurl's own cap is 1 MiB */

/* Checks names (token; Content-Length, Transfer-Encoding, Connection, Keep-Alive, Proxy-Connection, Proxy-Authorization, Upgrade, TE,
 * Trailer and Expect are the library's), values (no control bytes but TAB) and that all of them fit into
 * CPOOL__HEAD_MAX_BYTES. CPOOL_OK or CPOOL_EINVAL (recorded, names the header, never its value). */
int cpool__headers_check(const cpool_header *headers, size_t count);
bool cpool__headers_find(const cpool_header *headers, size_t count, const char *name);
bool cpool__headers_find_span(const cpool_header *headers, size_t count, const char *name, size_t len);
bool cpool__token_valid(const char *text); /* RFC 9110 section 5.6.2; "" is not */
bool cpool__token_span_valid(const char *text, size_t len);
/* ASCII letters without case, everything else as it is. */
bool cpool__names_equal(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
