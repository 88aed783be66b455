/* coded: bodies in the content codings of HTTP, by the libraries' own encoders */
#ifndef CPOOL_SUPPORT_CODED_H
#define CPOOL_SUPPORT_CODED_H

#include <stdbool.h>
#include <stddef.h>

/* coding: "gzip", "deflate" (zlib's format), "bare" (deflate without it), "br", "zstd". */
bool coded_has(const char *coding); /* this build knows it */
/* The caller frees. Ends the process when memory is short. */
void *coded(const char *coding, const void *data, size_t len, size_t *coded_len);
/* `len` zero bytes, coded as small as can be. */
void *coded_bomb(const char *coding, size_t len, size_t *coded_len);

#endif
