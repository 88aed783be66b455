/* fuzz_response: any lines in any order leave a head of tokens and clean values, within the cap */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cpool.h>

#include "http/header_list.h"
#include "http/response.h"

enum { CAP = 4096, BODY_CAP = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
  if (!holds)
    abort();
}

static void check(const struct cpool_response *resp)
{
  const char *name, *value;
  size_t bytes = 0;
  for (size_t i = 0; i < resp->header_count; i++) {
    must(cpool_response_header_at(resp, i, &name, &value) == CPOOL_OK);
    must(cpool__token_valid(name));
    for (const char *at = value; *at != '\0'; at++)
      must(((unsigned char) *at >= 0x20 || *at == '\t') && *at != 0x7f);
    must(value[0] != ' ' && (value[0] == '\0' || value[strlen(value) - 1] != ' '));
    must(cpool_response_header(resp, name) != NULL);
    bytes += strlen(name) + strlen(value) + 2;
  }
  must(cpool_response_header_at(resp, resp->header_count, &name, &value) == CPOOL_EINVAL);
  must(bytes == resp->head.len && bytes <= CAP + 1);
  size_t len;
  const char *body = cpool_response_body(resp, &len);
  must(len <= BODY_CAP && body[len] == '\0');
  must(cpool_response_status(resp) >= 0 && cpool_response_status(resp) <= 999);
}

/* A byte with the length of the piece that follows; 0xf0 and above: a piece of the body, a restart, or a look at it
 * all. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct cpool_response resp;
  memset(&resp, 0, sizeof resp);
  cpool__response_init(&resp);
  while (size > 0) {
    uint8_t what = *data++;
    size--;
    if (what == 0xff) {
      cpool__response_restart(&resp);
      continue;
    }
    if (what >= 0xf8) {
      check(&resp);
      continue;
    }
    size_t len = what >= 0xf0 ? (size_t) (what - 0xf0) * 40 : what;
    if (len > size)
      len = size;
    char *piece = malloc(len + 1); /* ends where the piece does, for the sanitizer */
    if (piece == NULL)
      break;
    char *at = piece + 1;
    memcpy(at, data, len);
    if (what >= 0xf0)
      cpool__response_body_data(&resp, at, len, BODY_CAP, what == 0xf0 ? -1 : INT64_MAX);
    else
      cpool__response_head_line(&resp, at, len, CAP);
    free(piece);
    data += len;
    size -= len;
  }
  check(&resp);
  cpool__response_fini(&resp);
  return 0;
}
