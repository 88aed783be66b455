/* sse: text/event-stream (WHATWG HTML, "Server-sent events") read as it comes, in any parts. Bytes in, events out. */
#ifndef CPOOL_HTTP_SSE_H
#define CPOOL_HTTP_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum cpool__sse_result {
  CPOOL__SSE_MORE, /* all bytes are taken */
  CPOOL__SSE_EVENT,
  CPOOL__SSE_OVER_CAP,
  CPOOL__SSE_NO_MEMORY
};

enum cpool__sse_field { /* where the bytes of a value go */
                        CPOOL__SSE_IGNORED,
                        CPOOL__SSE_DATA,
                        CPOOL__SSE_TYPE,
                        CPOOL__SSE_ID,
                        CPOOL__SSE_RETRY
};

enum cpool__sse_place { CPOOL__SSE_BOM, CPOOL__SSE_NAME, CPOOL__SSE_BLANK, CPOOL__SSE_VALUE };

/* Zeroed before first use, and `cap` set: of one line, and of data, type and id of one event together. */
struct cpool__sse {
  size_t cap;
  enum cpool__sse_place place;
  enum cpool__sse_field field;
  bool after_cr; /* a LF now belongs to the line end before it */
  bool id_bad;   /* this one has a NUL */
  bool has_data; /* a data line has come, if an empty one */
  bool shown;    /* the last event was given out: its buffers are to be emptied */
  uint8_t name_len, bom_len;
  char name[8]; /* of the field; longer ones are unknown */
  size_t line_len;
  bool id_set;                                          /* id is that of the event to come; else last_id is */
  struct cpool__buffer data, type, id, last_id, new_id; /* new_id: within its line */
  int64_t retry_ms;                                     /* the last that the server set; -1: none */
  int64_t retry_new;                                    /* within its line; -1: no number */
};

struct cpool__sse_text {
  const char *data, *type, *id; /* type and id may be NULL: empty */
  size_t data_len, type_len, id_len;
};

/* Takes bytes up to the end of the next event, and moves *in on. The event lives until the next call. */
enum cpool__sse_result cpool__sse_feed(struct cpool__sse *sse, const char **in, size_t *len,
                                       struct cpool__sse_text *event);
/* A new stream begins: what of the last one was not complete is lost, id and retry stay. */
void cpool__sse_restart(struct cpool__sse *sse);
void cpool__sse_fini(struct cpool__sse *sse);

#endif
