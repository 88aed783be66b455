/* fuzz_trace: a traceparent or tracestate that gets through is a clean header value, and is the same when it is read again */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
  if (!holds)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  char *text = malloc(2 * size + 2);
  if (text == NULL)
    return 0;
  if (size > 0)
    memcpy(text, data, size);
  text[size] = '\0';
  size_t len = strlen(text);
  bool parent = cpool__traceparent_valid(text), members = cpool__tracestate_valid(text);
  if (parent)
    must(len >= 55 && strspn(text, "0123456789abcdef-") >= 55);
  if (parent || members) {
    for (size_t i = 0; i < len; i++)
      must(text[i] == '\t' || (text[i] >= 0x20 && text[i] < 0x7f));
  }
  if (members && strchr(text, '=') != NULL) { /* keys differ: the same ones once more are too many */
    text[len] = ',';
    memcpy(text + len + 1, data, len);
    text[2 * len + 1] = '\0';
    must(!cpool__tracestate_valid(text));
  }
  free(text);
  return 0;
}
