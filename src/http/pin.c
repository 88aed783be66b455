/* pin: the form of pinned public keys; libcurl compares them with the peer's key */
#include "http/pin.h"

#include <stdbool.h>
#include <string.h>
#include <cpool.h>

#include "core/error.h"

/* DIGEST_BYTES: base64 of 32 bytes, without the one '=' that follows. */
enum { DIGEST_BYTES = 43, PINS_BYTES = 4096 };

static bool digest_valid(const char *at)
{
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  /* The last digit holds four bits of the digest: its two others are 0, else it would equal no encoded digest. */
  return strspn(at, digits) == DIGEST_BYTES && (strchr(digits, at[DIGEST_BYTES - 1]) - digits) % 4 == 0 &&
         at[DIGEST_BYTES] == '=';
}

int cpool__pins_check(const char *pins)
{
  static const char prefix[] = "sha256//";
  if (pins == NULL)
    return CPOOL_OK;
  if (strlen(pins) > PINS_BYTES)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "session option pinned_public_key: longer than %d bytes",
                         PINS_BYTES);
  for (const char *at = pins;; at++) {
    if (strncmp(at, prefix, sizeof prefix - 1) != 0 || !digest_valid(at + sizeof prefix - 1))
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                           "session option pinned_public_key: at position %zu there is no \"sha256//\" with the base64 "
                           "of 32 bytes behind it",
                           (size_t) (at - pins));
    at += sizeof prefix - 1 + DIGEST_BYTES + 1;
    if (*at == '\0')
      return CPOOL_OK;
    if (*at != ';')
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                           "session option pinned_public_key: at position %zu neither ';' nor the end",
                           (size_t) (at - pins));
  }
}
