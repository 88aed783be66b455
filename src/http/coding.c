/* coding: zlib, brotli and zstd behind one step
 *
 *   gzip     one member or several, one behind the other (RFC 1952 section 2.2); the check sums are verified
 *   deflate  in zlib's format (RFC 1950), which it should be, or bare (RFC 1951), which many mean by it
 *   br       RFC 7932; windows up to 16 MiB
 *   zstd     one frame or several (RFC 8878); windows up to 8 MiB, as RFC 9659 has it
 *
 * Other bytes behind the end are malformed: recipients disagree about them. zlib and brotli take their memory from the
 * library's allocator; zstd offers that to static linking alone and keeps its own. */
#include "http/coding.h"

#include <limits.h>
#include <string.h>

#ifdef CPOOL_HAVE_BROTLI
#include <brotli/decode.h>
#endif
#ifdef CPOOL_HAVE_ZSTD
#include <zstd.h>
#include <zstd_errors.h>
#endif

#include "base/memory.h"
#include "http/header_list.h"

/* zlib's: window bits 15, plus 16 for gzip's format, negative for none */
enum { ZLIB_FORMAT = MAX_WBITS, GZIP_FORMAT = MAX_WBITS + 16, BARE_FORMAT = -MAX_WBITS };

const char *cpool__codings_header(void)
{
  return "Accept-Encoding: gzip, deflate"
#ifdef CPOOL_HAVE_BROTLI
         ", br"
#endif
#ifdef CPOOL_HAVE_ZSTD
         ", zstd"
#endif
      ;
}

enum cpool__coding_kind cpool__coding_named(const char *name, size_t len)
{
  static const struct {
    const char *name;
    enum cpool__coding_kind kind;
  } names[] = {
      {"gzip", CPOOL__CODING_GZIP},         {"x-gzip", CPOOL__CODING_GZIP}, {"deflate", CPOOL__CODING_DEFLATE},
#ifdef CPOOL_HAVE_BROTLI
      {"br", CPOOL__CODING_BROTLI},
#endif
#ifdef CPOOL_HAVE_ZSTD
      {"zstd", CPOOL__CODING_ZSTD},
#endif
      {"identity", CPOOL__CODING_IDENTITY},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (cpool__names_equal(name, len, names[i].name, strlen(names[i].name)))
      return names[i].kind;
  }
  return CPOOL__CODING_UNKNOWN;
}

/* ------------------------------------------------------------------------------------------------------------- zlib */

static voidpf zlib_alloc(voidpf context, uInt count, uInt size)
{
  (void) context;
  return cpool__calloc(count, size);
}

static void zlib_free(voidpf context, voidpf block)
{
  (void) context;
  cpool__free(block);
}

/* Compression method 8 and a window of at most 32 KiB begin zlib's format; bare data that begins so would be a stored
 * block with padding that no encoder writes. */
static bool begins_as_zlib(unsigned char first)
{
  return (first & 0x0f) == Z_DEFLATED && first >> 4 <= 7;
}

static enum cpool__coding_result zlib_begin(struct cpool__coding *coding, unsigned char first)
{
  int format = coding->kind == CPOOL__CODING_GZIP ? GZIP_FORMAT : begins_as_zlib(first) ? ZLIB_FORMAT : BARE_FORMAT;
  coding->z.zalloc = zlib_alloc;
  coding->z.zfree = zlib_free;
  return inflateInit2(&coding->z, format) == Z_OK ? CPOOL__CODING_OK : CPOOL__CODING_NO_MEMORY;
}

static enum cpool__coding_result zlib_step(struct cpool__coding *coding)
{
  z_stream *z = &coding->z;
  while (z->avail_in > 0 || !coding->ended) {
    if (coding->ended && (coding->kind != CPOOL__CODING_GZIP || inflateReset(z) != Z_OK))
      return CPOOL__CODING_MALFORMED;
    coding->ended = false;
    int rc = inflate(z, Z_NO_FLUSH);
    if (rc == Z_MEM_ERROR)
      return CPOOL__CODING_NO_MEMORY;
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
      return CPOOL__CODING_MALFORMED;
    coding->ended = rc == Z_STREAM_END;
    if (z->avail_out == 0 || (rc != Z_STREAM_END && z->avail_in == 0) || rc == Z_BUF_ERROR)
      break;
  }
  return CPOOL__CODING_OK;
}

static enum cpool__coding_result step_zlib(struct cpool__coding *coding, const unsigned char **in, size_t *in_len,
                                           unsigned char *out, size_t room, size_t *made)
{
  z_stream *z = &coding->z;
  if (!coding->begun) {
    if (*in_len == 0)
      return CPOOL__CODING_OK;
    enum cpool__coding_result result = zlib_begin(coding, **in);
    if (result != CPOOL__CODING_OK)
      return result;
    coding->begun = true;
  }
  z->next_in = (unsigned char *) *in; /* zlib does not write there */
  z->avail_in = *in_len < UINT_MAX ? (uInt) *in_len : UINT_MAX;
  z->next_out = out;
  z->avail_out = room < UINT_MAX ? (uInt) room : UINT_MAX;
  enum cpool__coding_result result = zlib_step(coding);
  *in_len -= (size_t) (z->next_in - *in);
  *in = z->next_in;
  *made = (size_t) (z->next_out - out);
  return result;
}

/* ----------------------------------------------------------------------------------------------------------- brotli */

#ifdef CPOOL_HAVE_BROTLI
static void *brotli_alloc(void *context, size_t size)
{
  (void) context;
  return cpool__malloc(size);
}

static void brotli_free(void *context, void *block)
{
  (void) context;
  cpool__free(block);
}

static enum cpool__coding_result step_brotli(struct cpool__coding *coding, const unsigned char **in, size_t *in_len,
                                             unsigned char *out, size_t room, size_t *made)
{
  size_t left = room;
  if (coding->ended)
    return *in_len > 0 ? CPOOL__CODING_MALFORMED : CPOOL__CODING_OK;
  coding->begun = coding->begun || *in_len > 0;
  BrotliDecoderResult rc = BrotliDecoderDecompressStream(coding->other, in_len, in, &left, &out, NULL);
  *made = room - left;
  if (rc == BROTLI_DECODER_RESULT_ERROR) {
    BrotliDecoderErrorCode code = BrotliDecoderGetErrorCode(coding->other);
    return code <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES && code >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES
               ? CPOOL__CODING_NO_MEMORY
               : CPOOL__CODING_MALFORMED;
  }
  coding->ended = rc == BROTLI_DECODER_RESULT_SUCCESS;
  return CPOOL__CODING_OK;
}
#endif

/* ------------------------------------------------------------------------------------------------------------- zstd */

#ifdef CPOOL_HAVE_ZSTD
enum { ZSTD_WINDOW_LOG = 23 };

static enum cpool__coding_result step_zstd(struct cpool__coding *coding, const unsigned char **in, size_t *in_len,
                                           unsigned char *out, size_t room, size_t *made)
{
  ZSTD_inBuffer input = {*in, *in_len, 0};
  ZSTD_outBuffer output = {out, room, 0};
  enum cpool__coding_result result = CPOOL__CODING_OK;
  coding->begun = coding->begun || *in_len > 0;
  while (coding->begun && output.pos < output.size && (input.pos < input.size || !coding->ended)) {
    size_t in_before = input.pos, out_before = output.pos;
    size_t rc = ZSTD_decompressStream(coding->other, &output, &input);
    if (ZSTD_isError(rc)) {
      result =
          ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation ? CPOOL__CODING_NO_MEMORY : CPOOL__CODING_MALFORMED;
      break;
    }
    coding->ended = rc == 0; /* at the end of a frame */
    if (input.pos == in_before && output.pos == out_before)
      break;
  }
  *in += input.pos;
  *in_len -= input.pos;
  *made = output.pos;
  return result;
}
#endif

/* ------------------------------------------------------------------------------------------------------------ any one */

enum cpool__coding_result cpool__coding_open(struct cpool__coding *coding, enum cpool__coding_kind kind)
{
  coding->kind = kind;
#ifdef CPOOL_HAVE_BROTLI
  if (kind == CPOOL__CODING_BROTLI) {
    coding->other = BrotliDecoderCreateInstance(brotli_alloc, brotli_free, NULL);
    return coding->other != NULL ? CPOOL__CODING_OK : CPOOL__CODING_NO_MEMORY;
  }
#endif
#ifdef CPOOL_HAVE_ZSTD
  if (kind == CPOOL__CODING_ZSTD) {
    coding->other = ZSTD_createDCtx();
    return coding->other != NULL &&
                   !ZSTD_isError(ZSTD_DCtx_setParameter(coding->other, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG))
               ? CPOOL__CODING_OK
               : CPOOL__CODING_NO_MEMORY;
  }
#endif
  return CPOOL__CODING_OK; /* zlib begins with the first byte */
}

enum cpool__coding_result cpool__coding_step(struct cpool__coding *coding, const unsigned char **in, size_t *in_len,
                                             unsigned char *out, size_t room, size_t *made)
{
  enum cpool__coding_result result;
  *made = 0;
  switch (coding->kind) {
#ifdef CPOOL_HAVE_BROTLI
  case CPOOL__CODING_BROTLI:
    result = step_brotli(coding, in, in_len, out, room, made);
    break;
#endif
#ifdef CPOOL_HAVE_ZSTD
  case CPOOL__CODING_ZSTD:
    result = step_zstd(coding, in, in_len, out, room, made);
    break;
#endif
  default:
    result = step_zlib(coding, in, in_len, out, room, made);
  }
  /* one that stands still with bytes before it would do so for ever */
  return result == CPOOL__CODING_OK && *made == 0 && *in_len > 0 ? CPOOL__CODING_MALFORMED : result;
}

bool cpool__coding_complete(const struct cpool__coding *coding)
{
  return !coding->begun || coding->ended;
}

void cpool__coding_close(struct cpool__coding *coding)
{
  switch (coding->kind) {
#ifdef CPOOL_HAVE_BROTLI
  case CPOOL__CODING_BROTLI:
    if (coding->other != NULL)
      BrotliDecoderDestroyInstance(coding->other);
    break;
#endif
#ifdef CPOOL_HAVE_ZSTD
  case CPOOL__CODING_ZSTD:
    ZSTD_freeDCtx(coding->other);
    break;
#endif
  default:
    if (coding->begun)
      inflateEnd(&coding->z);
  }
  *coding = (struct cpool__coding){0};
}
