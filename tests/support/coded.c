/* coded: the encoders of zlib, brotli and zstd, each in one call */
#include "support/coded.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#ifdef CPOOL_HAVE_BROTLI
#include <brotli/encode.h>
#endif
#ifdef CPOOL_HAVE_ZSTD
#include <zstd.h>
#endif

#include "support/wait.h"

static const struct {
  const char *name;
  int window_bits; /* of zlib; 0: another library */
} codings[] = {
    {"gzip", MAX_WBITS + 16},
    {"deflate", MAX_WBITS},
    {"bare", -MAX_WBITS},
#ifdef CPOOL_HAVE_BROTLI
    {"br", 0},
#endif
#ifdef CPOOL_HAVE_ZSTD
    {"zstd", 0},
#endif
};

bool coded_has(const char *coding)
{
  for (size_t i = 0; i < sizeof codings / sizeof *codings; i++)
    if (strcmp(coding, codings[i].name) == 0)
      return true;
  return false;
}

static void *room(size_t size)
{
  void *out = malloc(size + 1);
  if (out == NULL)
    support_die("out of memory");
  return out;
}

static void *by_zlib(int window_bits, const void *data, size_t len, size_t *coded_len)
{
  z_stream z = {0};
  if (deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, window_bits, 9, Z_DEFAULT_STRATEGY) != Z_OK)
    support_die("deflateInit2 fails");
  size_t size = deflateBound(&z, (uLong) len);
  unsigned char *out = room(size);
  z.next_in = (unsigned char *) data;
  z.avail_in = (uInt) len;
  z.next_out = out;
  z.avail_out = (uInt) size;
  if (deflate(&z, Z_FINISH) != Z_STREAM_END)
    support_die("deflate fails");
  *coded_len = z.total_out;
  deflateEnd(&z);
  return out;
}

void *coded(const char *coding, const void *data, size_t len, size_t *coded_len)
{
  for (size_t i = 0; i < sizeof codings / sizeof *codings; i++)
    if (strcmp(coding, codings[i].name) == 0 && codings[i].window_bits != 0)
      return by_zlib(codings[i].window_bits, data, len, coded_len);
#ifdef CPOOL_HAVE_BROTLI
  if (strcmp(coding, "br") == 0) {
    *coded_len = BrotliEncoderMaxCompressedSize(len) + 16;
    unsigned char *out = room(*coded_len);
    if (!BrotliEncoderCompress(9, BROTLI_DEFAULT_WINDOW, BROTLI_MODE_GENERIC, len, data, coded_len, out))
      support_die("brotli fails");
    return out;
  }
#endif
#ifdef CPOOL_HAVE_ZSTD
  if (strcmp(coding, "zstd") == 0) {
    size_t size = ZSTD_compressBound(len);
    void *out = room(size);
    *coded_len = ZSTD_compress(out, size, data, len, 3);
    if (ZSTD_isError(*coded_len))
      support_die("zstd fails");
    return out;
  }
#endif
  support_die("unknown coding %s", coding);
  return NULL;
}

void *coded_bomb(const char *coding, size_t len, size_t *coded_len)
{
  void *zeros = calloc(1, len), *out;
  if (zeros == NULL)
    support_die("out of memory");
  out = coded(coding, zeros, len, coded_len);
  free(zeros);
  return out;
}
