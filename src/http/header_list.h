/* header_list: request headers are merged and laid out in one block as the list that libcurl reads. Any thread. */
#ifndef CPOOL_HTTP_HEADER_LIST_H
#define CPOOL_HTTP_HEADER_LIST_H

#include <stddef.h>
#include <curl/curl.h>
#include <cpool.h>

#include "web/headers.h"

/* A list of lines in one block of memory. Lines are in libcurl's notation: "Name: value", "Name;" for an empty
 * value, "Name:" for do not send. */
struct cpool__header_list {
  struct curl_slist *nodes; /* nodes[i].next == &nodes[i + 1], NULL behind the last; NULL when empty */
  size_t count, bytes;      /* bytes: of the lines, each with its CRLF */
};

/* Bytes that the build of the same arguments may need: `base` (may be NULL) merged with the caller's headers (base
 * lines whose name the caller sets are left out) and `extra` lines, which yield to lines of the same name. */
size_t cpool__headers_size(const struct cpool__header_list *base, const cpool_header *headers, size_t count,
                           const char *const *extra, size_t extra_count);
/* Lays the merged list out in `memory` (aligned for pointers, of that size). An empty value is sent as such. Blanks
 * before a value are cut. */
void cpool__headers_build(struct cpool__header_list *out, void *memory, const struct cpool__header_list *base,
                          const cpool_header *headers, size_t count, const char *const *extra, size_t extra_count);

#endif
