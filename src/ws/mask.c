/* mask: frames as clients send them: SipHash of a count, under a key that is drawn once */
#include "ws/mask.h"

#include <string.h>

#include "base/table.h"

enum { MASKED = 0x80, MEDIUM = 126, LONG = 127 };

void cpool__masks_init(struct cpool__masks *masks)
{
  struct cpool__table table; /* draws the key */
  cpool__table_init(&table, NULL);
  *masks = (struct cpool__masks){.key = {table.key[0], table.key[1]}};
  cpool__table_fini(&table);
}

uint64_t cpool__masks_draw(struct cpool__masks *masks)
{
  masks->count++;
  return cpool__siphash(masks->key, &masks->count, sizeof masks->count);
}

size_t cpool__mask_frame(struct cpool__masks *masks, unsigned char *out, const unsigned char *frame, size_t len)
{
  size_t head = frame[1] == LONG ? 10 : frame[1] == MEDIUM ? 4 : 2;
  uint32_t mask = (uint32_t) cpool__masks_draw(masks);
  uint64_t wide = (uint64_t) mask << 32 | mask, word;
  memcpy(out, frame, head);
  out[1] |= MASKED;
  memcpy(out + head, &mask, sizeof mask);
  const unsigned char *from = frame + head, *end = frame + len;
  unsigned char *to = out + head + sizeof mask, bytes[sizeof mask];
  for (; end - from >= (ptrdiff_t) sizeof word; from += sizeof word, to += sizeof word) {
    memcpy(&word, from, sizeof word);
    word ^= wide;
    memcpy(to, &word, sizeof word);
  }
  memcpy(bytes, &mask, sizeof mask);
  for (size_t i = 0; from < end; i++)
    *to++ = *from++ ^ bytes[i % sizeof mask];
  return len + sizeof mask;
}
