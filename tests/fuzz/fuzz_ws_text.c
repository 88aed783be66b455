/* fuzz_ws_text: UTF-8, whole and in pieces, against a decoder that keeps the values that a character can still have */
#include <stdlib.h>
#include <string.h>

#include "ws/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
  if (!holds)
    abort();
}

struct decoder {
  uint32_t value, least;
  int left; /* bytes of the character to come */
};

static bool begin(struct decoder *decoder, unsigned byte)
{
  static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
  int left = byte < 0x80 ? 0 : byte >> 5 == 6 ? 1 : byte >> 4 == 14 ? 2 : byte >> 3 == 30 ? 3 : -1;
  if (left < 0)
    return false;
  *decoder = (struct decoder){.value = left == 0 ? byte : byte & (0x3Fu >> left), .least = least[left], .left = left};
  return true;
}

/* False: it is no UTF-8, whatever follows. */
static bool decode(struct decoder *decoder, unsigned byte)
{
  if (decoder->left == 0) {
    if (!begin(decoder, byte))
      return false;
  } else {
    if (byte >> 6 != 2)
      return false;
    decoder->value = decoder->value << 6 | (byte & 0x3F);
    decoder->left--;
  }
  uint32_t low = decoder->value << 6 * decoder->left, high = low | ((1u << 6 * decoder->left) - 1);
  return high >= decoder->least && low <= 0x10FFFF && !(low >= 0xD800 && high <= 0xDFFF);
}

/* As messages are checked that come in pieces: what is not whole is looked at again with the next. */
static bool valid_in_pieces(const uint8_t *text, size_t len, size_t piece)
{
  size_t checked = 0;
  for (size_t have = 0; have < len;) {
    size_t whole;
    have = len - have < piece ? len : have + piece;
    if (!cpool__utf8_part(text + checked, have - checked, &whole))
      return false;
    checked += whole;
    must(checked <= have && have - checked < 4);
  }
  return checked == len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct decoder decoder = {0};
  bool good = true;
  size_t boundary = 0, whole;
  for (size_t i = 0; i < size && good; i++) {
    good = decode(&decoder, data[i]);
    if (good && decoder.left == 0)
      boundary = i + 1;
    uint8_t *copy = malloc(i + 1); /* of this length, so that a read behind it is seen */
    if (copy == NULL)
      return 0;
    memcpy(copy, data, i + 1);
    must(cpool__utf8_part(copy, i + 1, &whole) == good);
    must(!good || whole == boundary);
    free(copy);
  }
  bool valid = good && boundary == size;
  must(cpool__utf8_valid(data, size) == valid);
  for (size_t piece = 1; piece <= 9; piece++)
    must(valid_in_pieces(data, size, piece) == valid);
  return 0;
}
