/* frame: messages as they go over the wire */
#include "ws/frame.h"

#include <string.h>

#include "base/memory.h"

enum { FIN = 0x80, SHORT_MOST = 125, MEDIUM = 126, LONG = 127, MEDIUM_MOST = 65535 };

static size_t head_len(size_t len)
{
  return len <= SHORT_MOST ? 2 : len <= MEDIUM_MOST ? 4 : CPOOL__FRAME_HEAD;
}

static unsigned char *put_head(unsigned char *at, unsigned first, size_t len)
{
  *at++ = (unsigned char) first;
  if (len <= SHORT_MOST) {
    *at++ = (unsigned char) len;
    return at;
  }
  int bytes = len <= MEDIUM_MOST ? 2 : 8;
  *at++ = bytes == 2 ? MEDIUM : LONG;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    *at++ = (unsigned char) ((uint64_t) len >> shift);
  return at;
}

struct cpool__frame *cpool__frame_new(int opcode, const void *payload, size_t len, _Atomic int64_t *counter)
{
  size_t pieces = len <= CPOOL__FRAME_PIECE ? 1 : (len + CPOOL__FRAME_PIECE - 1) / CPOOL__FRAME_PIECE;
  struct cpool__frame *frame = cpool__malloc(sizeof *frame + len + pieces * CPOOL__FRAME_HEAD);
  if (frame == NULL)
    return NULL;
  atomic_init(&frame->refs, 1);
  frame->opcode = (uint8_t) opcode;
  frame->payload_len = len;
  frame->counter = counter;
  unsigned char *at = frame->bytes;
  size_t done = 0;
  do {
    size_t piece = len - done < CPOOL__FRAME_PIECE ? len - done : CPOOL__FRAME_PIECE;
    at = put_head(at, (done == 0 ? (unsigned) opcode : 0) | (done + piece == len ? FIN : 0), piece);
    if (piece > 0)
      memcpy(at, (const char *) payload + done, piece);
    at += piece;
    done += piece;
  } while (done < len);
  frame->len = (size_t) (at - frame->bytes);
  if (counter != NULL)
    atomic_fetch_add_explicit(counter, (int64_t) (sizeof *frame + frame->len), memory_order_relaxed);
  return frame;
}

struct cpool__frame *cpool__frame_close(int code, const char *text, size_t text_len)
{
  unsigned char payload[CPOOL__FRAME_CONTROL] = {(unsigned char) (code >> 8), (unsigned char) code};
  if (code == 1005)
    return cpool__frame_new(CPOOL__FRAME_CLOSE, NULL, 0, NULL);
  if (text_len > 0)
    memcpy(payload + 2, text, text_len);
  return cpool__frame_new(CPOOL__FRAME_CLOSE, payload, text_len + 2, NULL);
}

void cpool__frame_drop(struct cpool__frame *frame)
{
  if (frame == NULL || atomic_fetch_sub_explicit(&frame->refs, 1, memory_order_acq_rel) > 1)
    return;
  if (frame->counter != NULL)
    atomic_fetch_sub_explicit(frame->counter, (int64_t) (sizeof *frame + frame->len), memory_order_relaxed);
  cpool__free(frame);
}

size_t cpool__frame_piece(const struct cpool__frame *frame, size_t offset)
{
  const unsigned char *at = frame->bytes + offset;
  size_t len = at[1];
  if (len == MEDIUM)
    len = (size_t) at[2] << 8 | at[3];
  return head_len(len) + len; /* no piece is longer than what 16 bits say */
}

bool cpool__close_code_valid(int code)
{
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

bool cpool__utf8_part(const void *text, size_t len, size_t *whole)
{
  const unsigned char *at = text, *end = len > 0 ? at + len : at;
  *whole = len;
  while (at < end) {
    uint64_t word;
    if (end - at >= 8 && (memcpy(&word, at, sizeof word), (word & UINT64_C(0x8080808080808080)) == 0)) {
      at += 8;
      continue;
    }
    const unsigned char *first = at;
    unsigned lead = *at++;
    if (lead < 0x80)
      continue;
    int more = lead >= 0xC2 && lead < 0xE0 ? 1 : lead >= 0xE0 && lead < 0xF0 ? 2 : lead >= 0xF0 && lead < 0xF5 ? 3 : 0;
    if (more == 0)
      return false;
    unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;  /* no overlong forms */
    unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF; /* no surrogates, nothing above U+10FFFF */
    for (; more > 0 && at < end; more--, at++, low = 0x80, high = 0xBF)
      if (*at < low || *at > high)
        return false;
    if (more > 0)
      *whole = (size_t) (first - (const unsigned char *) text);
  }
  return true;
}

bool cpool__utf8_valid(const void *text, size_t len)
{
  size_t whole;
  return cpool__utf8_part(text, len, &whole) && whole == len;
}
