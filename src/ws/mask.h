/* mask: frames as clients send them (RFC 6455 section 5.3), and chance that no peer foresees. Loop thread only. */
#ifndef CPOOL_WS_MASK_H
#define CPOOL_WS_MASK_H

#include <stddef.h>
#include <stdint.h>

enum { CPOOL__MASK_BYTES = 4 }; /* what a frame grows by */

struct cpool__masks {
  uint64_t key[2], count;
};

void cpool__masks_init(struct cpool__masks *masks);
uint64_t cpool__masks_draw(struct cpool__masks *masks);
/* One whole frame that has no mask, with one; returns its length. */
size_t cpool__mask_frame(struct cpool__masks *masks, unsigned char *out, const unsigned char *frame, size_t len);

#endif
