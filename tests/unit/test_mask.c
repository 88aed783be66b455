/* mask: frames with a mask are those without one, once it is taken off; no two masks are foreseeable */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ws/frame.h"
#include "ws/mask.h"

static void taking_the_mask_off_gives_the_frame(void **state)
{
  (void) state;
  static const size_t lengths[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 125, 126, 127, 1000, 65520};
  struct cpool__masks masks;
  unsigned char payload[65520], out[65536 + 16];
  cpool__masks_init(&masks);
  for (size_t i = 0; i < sizeof payload; i++)
    payload[i] = (unsigned char) (i * 31 + (i >> 8));
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    struct cpool__frame *frame = cpool__frame_new(2, payload, lengths[i], NULL);
    assert_non_null(frame);
    size_t len = cpool__mask_frame(&masks, out, frame->bytes, frame->len), head = frame->len - lengths[i];
    assert_int_equal(len, frame->len + CPOOL__MASK_BYTES);
    assert_int_equal(out[0], frame->bytes[0]);
    assert_int_equal(out[1], frame->bytes[1] | 0x80);
    assert_memory_equal(out + 2, frame->bytes + 2, head - 2);
    for (size_t at = 0; at < lengths[i]; at++)
      assert_int_equal(out[head + 4 + at] ^ out[head + at % 4], payload[at]);
    cpool__frame_drop(frame);
  }
}

static void draws_differ_and_so_do_keys(void **state)
{
  (void) state;
  enum { DRAWS = 1000 };
  struct cpool__masks a, b;
  uint64_t seen[DRAWS];
  cpool__masks_init(&a);
  cpool__masks_init(&b);
  int ones = 0;
  for (int i = 0; i < DRAWS; i++) {
    seen[i] = cpool__masks_draw(&a);
    assert_int_not_equal(seen[i], cpool__masks_draw(&b));
    for (int before = 0; before < i; before++)
      assert_int_not_equal(seen[before], seen[i]);
    ones += __builtin_popcountll(seen[i]);
  }
  assert_in_range(ones, DRAWS * 31, DRAWS * 33);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(taking_the_mask_off_gives_the_frame),
                                     cmocka_unit_test(draws_differ_and_so_do_keys)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
