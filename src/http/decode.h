/* decode: the codings of a body undone one behind the other, in bounded pieces, within a ratio. Bytes in, bytes out. */
#ifndef CPOOL_HTTP_DECODE_H
#define CPOOL_HTTP_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/coding.h"

enum {
  CPOOL__DECODE_CODINGS = 3,         /* of one body, at most */
  CPOOL__DECODE_PIECE_BYTES = 16384, /* that a step makes, at most: what libcurl gives at a time */
  CPOOL__DECODE_FREE_BYTES = 65536   /* that may come out whatever the ratio: small bodies compress as they like */
};

enum cpool__decode_result {
  CPOOL__DECODE_OK,
  CPOOL__DECODE_NO_MEMORY,
  CPOOL__DECODE_MALFORMED,
  CPOOL__DECODE_OVER_RATIO
};

struct cpool__decode;

/* The values of all Content-Encoding fields of one answer, in order of arrival. Zeroed before the first. */
struct cpool__codings {
  enum cpool__coding_kind kinds[CPOOL__DECODE_CODINGS]; /* in the order in which they were applied */
  int count;                                            /* may exceed the array: too many of them */
  bool unknown;                                         /* one is not known: none can be undone */
};
void cpool__codings_add(struct cpool__codings *codings, const char *value);

/* `codings`: at least one, not too many, none unknown. max_ratio: of bytes made to bytes taken; INT64_MAX: none. NULL:
 * out of memory. */
struct cpool__decode *cpool__decode_new(const struct cpool__codings *codings, int64_t max_ratio);
/* Takes from *in (moved on) and makes the next piece, *out, which lives until the next call. *made 0: all of the input
 * was taken and nothing is left to come of it. After a failure: free it. */
enum cpool__decode_result cpool__decode_step(struct cpool__decode *decode, const char **in, size_t *in_len,
                                             const char **out, size_t *made);
/* The body may end here. */
bool cpool__decode_complete(const struct cpool__decode *decode);
void cpool__decode_free(struct cpool__decode *decode); /* NULL is legal */

#endif
