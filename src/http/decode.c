/* decode: a row of stages, the coding that was applied last first; each makes a piece at a time out of the pieces of the
 * one before it, and is asked from the end
 *
 *   wire bytes -> [gzip] -> piece -> [br] -> piece -> the body
 *
 * No stage runs ahead, so a body needs one piece per stage and what its codings remember, whatever it inflates to. Every
 * stage is held to the ratio, counted against what was taken from the wire: bombs within bombs end at the first that
 * goes off. */
#include "http/decode.h"

#include <string.h>

#include "base/memory.h"

struct stage {
  struct cpool__coding coding;
  const unsigned char *in;
  size_t in_len;
  uint64_t made_bytes;
  unsigned char piece[CPOOL__DECODE_PIECE_BYTES];
};

struct cpool__decode {
  int64_t max_ratio;
  uint64_t taken_bytes; /* from the wire */
  int count;
  struct stage stages[];
};

void cpool__codings_add(struct cpool__codings *codings, const char *value)
{
  while (*value != '\0') {
    size_t len = strcspn(value, ",");
    const char *name = value, *end = value + len;
    name += strspn(name, " \t");
    while (end > name && (end[-1] == ' ' || end[-1] == '\t'))
      end--;
    value += value[len] == ',' ? len + 1 : len;
    if (end <= name) /* an empty element (RFC 9110 section 5.6.1) */
      continue;
    enum cpool__coding_kind kind = cpool__coding_named(name, (size_t) (end - name));
    if (kind == CPOOL__CODING_UNKNOWN)
      codings->unknown = true;
    if (kind == CPOOL__CODING_UNKNOWN || kind == CPOOL__CODING_IDENTITY)
      continue;
    if (codings->count < CPOOL__DECODE_CODINGS)
      codings->kinds[codings->count] = kind;
    if (codings->count <= CPOOL__DECODE_CODINGS)
      codings->count++;
  }
}

struct cpool__decode *cpool__decode_new(const struct cpool__codings *codings, int64_t max_ratio)
{
  size_t stages = (size_t) codings->count;
  struct cpool__decode *decode = cpool__malloc(sizeof *decode + stages * sizeof(struct stage));
  if (decode == NULL)
    return NULL;
  *decode = (struct cpool__decode){.max_ratio = max_ratio, .count = codings->count};
  for (size_t i = 0; i < stages; i++) {
    memset(&decode->stages[i], 0, offsetof(struct stage, piece));
    decode->stages[i].in = decode->stages[i].piece;
  }
  for (size_t i = 0; i < stages; i++) {
    if (cpool__coding_open(&decode->stages[i].coding, codings->kinds[stages - 1 - i]) != CPOOL__CODING_OK) {
      cpool__decode_free(decode);
      return NULL;
    }
  }
  return decode;
}

static bool over_ratio(const struct cpool__decode *decode, uint64_t made)
{
  return made > CPOOL__DECODE_FREE_BYTES && made / (uint64_t) decode->max_ratio >= decode->taken_bytes &&
         made > decode->taken_bytes * (uint64_t) decode->max_ratio;
}

/* The next piece of this stage, out of what it has or the stage before makes. */
static enum cpool__decode_result pull(struct cpool__decode *decode, int at, size_t *made)
{
  struct stage *stage = &decode->stages[at];
  for (;;) {
    size_t before = stage->in_len;
    enum cpool__coding_result result =
        cpool__coding_step(&stage->coding, &stage->in, &stage->in_len, stage->piece, sizeof stage->piece, made);
    if (result != CPOOL__CODING_OK)
      return result == CPOOL__CODING_NO_MEMORY ? CPOOL__DECODE_NO_MEMORY : CPOOL__DECODE_MALFORMED;
    if (at == 0)
      decode->taken_bytes += before - stage->in_len;
    stage->made_bytes += *made;
    if (over_ratio(decode, stage->made_bytes))
      return CPOOL__DECODE_OVER_RATIO;
    if (*made > 0 || at == 0)
      return CPOOL__DECODE_OK;
    enum cpool__decode_result earlier = pull(decode, at - 1, made);
    if (earlier != CPOOL__DECODE_OK || *made == 0)
      return earlier;
    stage->in = decode->stages[at - 1].piece;
    stage->in_len = *made;
  }
}

enum cpool__decode_result cpool__decode_step(struct cpool__decode *decode, const char **in, size_t *in_len,
                                             const char **out, size_t *made)
{
  struct stage *first = &decode->stages[0], *last = &decode->stages[decode->count - 1];
  first->in = (const unsigned char *) *in;
  first->in_len = *in_len;
  enum cpool__decode_result result = pull(decode, decode->count - 1, made);
  *in = (const char *) first->in;
  *in_len = first->in_len;
  *out = (const char *) last->piece;
  return result;
}

bool cpool__decode_complete(const struct cpool__decode *decode)
{
  for (int i = 0; i < decode->count; i++) {
    if (!cpool__coding_complete(&decode->stages[i].coding))
      return false;
  }
  return true;
}

void cpool__decode_free(struct cpool__decode *decode)
{
  if (decode == NULL)
    return;
  for (int i = 0; i < decode->count; i++)
    cpool__coding_close(&decode->stages[i].coding);
  cpool__free(decode);
}
