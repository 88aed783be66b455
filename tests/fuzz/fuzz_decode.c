/* fuzz_decode: any bytes, in any parts, through any codings: pieces stay bounded, the ratio holds, nothing hangs
 *
 * The first byte chooses how many codings, the next ones which; then one byte for the size of the parts. The same bytes
 * in one part and in small ones have the same end. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RATIO = 50 };

struct end {
  enum cpool__decode_result result;
  bool complete;
  size_t made;
};

static struct end run(const struct cpool__codings *codings, const char *data, size_t len, size_t part)
{
  struct end end = {.result = CPOOL__DECODE_OK};
  struct cpool__decode *decode = cpool__decode_new(codings, RATIO);
  if (decode == NULL)
    abort();
  for (size_t at = 0; at < len && end.result == CPOOL__DECODE_OK; at += part) {
    const char *in = data + at, *out;
    size_t left = len - at < part ? len - at : part, made = 1;
    while (end.result == CPOOL__DECODE_OK && made > 0) {
      end.result = cpool__decode_step(decode, &in, &left, &out, &made);
      if (end.result != CPOOL__DECODE_OK)
        break;
      assert(made <= CPOOL__DECODE_PIECE_BYTES);
      end.made += made;
      assert(end.made <= CPOOL__DECODE_FREE_BYTES || end.made <= RATIO * len);
    }
    assert(end.result != CPOOL__DECODE_OK || left == 0);
  }
  end.complete = end.result == CPOOL__DECODE_OK && cpool__decode_complete(decode);
  cpool__decode_free(decode);
  return end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const char *const names[] = {"gzip", "deflate", "br", "zstd"};
  struct cpool__codings codings = {.count = 0};
  if (size < 5)
    return 0;
  for (size_t i = 0; i <= data[0] % CPOOL__DECODE_CODINGS; i++)
    cpool__codings_add(&codings, names[data[1 + i] % 4]);
  size_t part = data[4] + 1u;
  if (codings.unknown || codings.count == 0)
    return 0;
  struct end parts = run(&codings, (const char *) data + 5, size - 5, part);
  struct end whole = run(&codings, (const char *) data + 5, size - 5, size);
  if (parts.result != CPOOL__DECODE_OVER_RATIO && whole.result != CPOOL__DECODE_OVER_RATIO) {
    assert(parts.result == whole.result && parts.complete == whole.complete);
    assert(parts.result != CPOOL__DECODE_OK || parts.made == whole.made);
  }
  return 0;
}
