/* fuzz_sse: a stream of events has the same events however it is cut, and none is larger than the cap */
#include <stdlib.h>
#include <string.h>

#include "http/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CAP = 512 };

static void must(bool holds)
{
  if (!holds)
    abort();
}

static uint64_t mix(uint64_t hash, const char *text, size_t len)
{
  for (size_t i = 0; i < len; i++)
    hash = (hash ^ (unsigned char) text[i]) * UINT64_C(0x100000001b3);
  return hash * 31 + len;
}

/* A number that all events of the stream decide. */
static uint64_t read_all(const char *bytes, size_t len, size_t part, bool *over)
{
  struct cpool__sse sse = {.cap = CAP, .retry_ms = -1};
  uint64_t hash = 1;
  *over = false;
  for (size_t at = 0; at < len && !*over; at += part) {
    const char *in = bytes + at;
    size_t left = len - at < part ? len - at : part;
    while (left > 0 && !*over) {
      struct cpool__sse_text event;
      enum cpool__sse_result result = cpool__sse_feed(&sse, &in, &left, &event);
      must(result != CPOOL__SSE_NO_MEMORY);
      *over = result == CPOOL__SSE_OVER_CAP;
      if (result != CPOOL__SSE_EVENT)
        continue;
      must(event.data_len + event.type_len + event.id_len <= CAP);
      must(event.id_len == 0 || memchr(event.id, '\0', event.id_len) == NULL);
      hash = mix(mix(mix(hash, event.data, event.data_len), event.type, event.type_len), event.id, event.id_len);
    }
  }
  hash = hash * 31 + (uint64_t) sse.retry_ms;
  cpool__sse_fini(&sse);
  return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2)
    return 0;
  bool over_parts, over_whole;
  uint64_t parts = read_all((const char *) data + 1, size - 1, data[0] % 17 + 1u, &over_parts);
  uint64_t whole = read_all((const char *) data + 1, size - 1, size, &over_whole);
  must(over_parts == over_whole);
  must(over_whole || parts == whole);
  return 0;
}
