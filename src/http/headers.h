/* headers: request headers are checked, merged and laid out in one block as the list that libcurl reads. Any thread. */
#ifndef CPOOL_HTTP_HEADERS_H
#define CPOOL_HTTP_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <curl/curl.h>
#include <cpool.h>

enum { CPOOL__HEAD_MAX_BYTES = 512 * 1024 }; /* target and headers of one request; libcurl's own cap is 1 MiB */

/* A list of lines in one block of memory. Lines are in libcurl's notation: "Name: value", "Name;" for an empty
 * value, "Name:" for do not send. */
struct cpool__header_list {
  struct curl_slist *nodes; /* nodes[i].next == &nodes[i + 1], NULL behind the last; NULL when empty */
  size_t count, bytes;      /* bytes: of the lines, each with its CRLF */
};

/* Checks names (token; Content-Length, Transfer-Encoding, Connection, Keep-Alive, Proxy-Connection, Proxy-Authorization, Upgrade, TE,
 * Trailer and Expect are the library's), values (no control bytes but TAB) and that all of them fit into
 * CPOOL__HEAD_MAX_BYTES. CPOOL_OK or CPOOL_EINVAL (recorded, names the header, never its value). */
int cpool__headers_check(const cpool_header *headers, size_t count);
bool cpool__headers_find(const cpool_header *headers, size_t count, const char *name);
/* Bytes that the build of the same arguments may need: `base` (may be NULL) merged with the caller's headers (base
 * lines whose name the caller sets are left out) and `extra` lines, which yield to lines of the same name. */
size_t cpool__headers_size(const struct cpool__header_list *base, const cpool_header *headers, size_t count,
                           const char *const *extra, size_t extra_count);
/* Lays the merged list out in `memory` (aligned for pointers, of that size). An empty value is sent as such. Blanks
 * before a value are cut. */
void cpool__headers_build(struct cpool__header_list *out, void *memory, const struct cpool__header_list *base,
                          const cpool_header *headers, size_t count, const char *const *extra, size_t extra_count);
bool cpool__token_valid(const char *text); /* RFC 9110 section 5.6.2; "" is not */
bool cpool__token_span_valid(const char *text, size_t len);
/* ASCII letters without case, everything else as it is. */
bool cpool__names_equal(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
