/* folding: a head whose first field is the continuation of none is refused before libcurl stores it
 *
 * libcurl before 8.10 appends a folded line to the field that it stored last, and does not forget that one between two
 * transfers of a handle, when it has freed it long since. Handles are used again, and what comes first is up to the peer. */
#ifndef CPOOL_HTTP_FOLDING_H
#define CPOOL_HTTP_FOLDING_H

#include <stdbool.h>
#include <stddef.h>

enum {
  CPOOL__FOLDING_SAFE_SINCE = 0x080a00,  /* it forgets */
  CPOOL__FOLDING_SHOWN_BEFORE = 0x080600 /* heads asked for as part of the body are shown before they are stored */
};

/* Of one transfer; zeroed at its start. */
struct cpool__folding {
  bool inside_line, inside_head;
  bool stored; /* a field of this transfer */
};

/* A piece of a head, at most one line. False: libcurl must not get to store it. */
bool cpool__folding_piece(struct cpool__folding *folding, const char *piece, size_t len);

#endif
