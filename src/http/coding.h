/* coding: one content coding (RFC 9110 section 8.4.1) undone in bounded steps, by the library that knows it */
#ifndef CPOOL_HTTP_CODING_H
#define CPOOL_HTTP_CODING_H

#include <stdbool.h>
#include <stddef.h>
#include <zlib.h>

enum cpool__coding_kind {
  CPOOL__CODING_UNKNOWN,
  CPOOL__CODING_IDENTITY,
  CPOOL__CODING_GZIP,
  CPOOL__CODING_DEFLATE,
  CPOOL__CODING_BROTLI,
  CPOOL__CODING_ZSTD
};

enum cpool__coding_result { CPOOL__CODING_OK, CPOOL__CODING_NO_MEMORY, CPOOL__CODING_MALFORMED };

/* Stays where it is from open to close: zlib points back into it. */
struct cpool__coding {
  enum cpool__coding_kind kind;
  bool begun; /* a byte has come */
  bool ended; /* the coded data is complete, and nothing has come behind it */
  z_stream z; /* gzip, deflate */
  void *other;
};

/* What a request says of this build: "Accept-Encoding: gzip, deflate, br, zstd", or less. */
const char *cpool__codings_header(void);
/* By its registered name; case does not matter. One that this build lacks is unknown. */
enum cpool__coding_kind cpool__coding_named(const char *name, size_t len);
/* `coding` is zeroed; not for unknown and identity. What it needs is allocated here or within the steps. */
enum cpool__coding_result cpool__coding_open(struct cpool__coding *coding, enum cpool__coding_kind kind);
/* Takes bytes from *in (moved on) and makes at most `room` (at least 1) at `out`; *made 0: all of the input is taken,
 * and more is needed. */
enum cpool__coding_result cpool__coding_step(struct cpool__coding *coding, const unsigned char **in, size_t *in_len,
                                             unsigned char *out, size_t room, size_t *made);
/* May the data end here? No data at all may. */
bool cpool__coding_complete(const struct cpool__coding *coding);
void cpool__coding_close(struct cpool__coding *coding); /* zeroed is legal */

#endif
