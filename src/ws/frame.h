/* frame: messages as they go over the wire (RFC 6455 section 5), made once and shared by all receivers */
#ifndef CPOOL_WS_FRAME_H
#define CPOOL_WS_FRAME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  CPOOL__FRAME_HEAD = 10,        /* most bytes before a payload, without a mask */
  CPOOL__FRAME_PIECE = 65520,    /* payload of one frame; a longer message has several, so that pings get through */
  CPOOL__FRAME_CONTROL = 125,    /* payload of a control frame */
  CPOOL__FRAME_CLOSE_TEXT = 123, /* of it: behind the code */
  CPOOL__FRAME_CLOSE = 8         /* opcode, beside those of enum cpool_ws_kind */
};

/* Whole frames, one after another, unmasked. Not changed once it is made. */
struct cpool__frame {
  _Atomic uint32_t refs;
  uint8_t opcode;           /* of the first */
  _Atomic int64_t *counter; /* of memory in use: has counted this, until it is freed; NULL: none */
  size_t payload_len, len;
  unsigned char bytes[];
};

/* One reference. NULL: out of memory. */
struct cpool__frame *cpool__frame_new(int opcode, const void *payload, size_t len, _Atomic int64_t *counter);
/* code 1005: no payload. `text` at most CPOOL__FRAME_CLOSE_TEXT bytes. */
struct cpool__frame *cpool__frame_close(int code, const char *text, size_t text_len);
static inline struct cpool__frame *cpool__frame_hold(struct cpool__frame *frame)
{
  atomic_fetch_add_explicit(&frame->refs, 1, memory_order_relaxed);
  return frame;
}
void cpool__frame_drop(struct cpool__frame *frame); /* any thread */
/* The length of the frame at `offset`, its header included. */
size_t cpool__frame_piece(const struct cpool__frame *frame, size_t offset);

/* Whether a close frame may carry the code (RFC 6455 section 7.4 and the registry of IANA). */
bool cpool__close_code_valid(int code);
/* UTF-8 (RFC 3629), as far as it goes: behind its `whole` first bytes is at most the beginning of a character. */
bool cpool__utf8_part(const void *text, size_t len, size_t *whole);
/* UTF-8, whole. */
bool cpool__utf8_valid(const void *text, size_t len);

#endif
