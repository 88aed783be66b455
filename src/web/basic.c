/* basic: user and password as the credentials of Basic authentication */
#include "web/basic.h"

#include <stdint.h>
#include <string.h>

/* Base64 (RFC 4648 section 4) in pieces, since user, colon and password stand in different texts. */
struct base64 {
  char *out;
  uint32_t bits;
  int bit_count; /* in bits, not written yet: 0, 2 or 4 between calls */
};

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64_add(struct base64 *encoder, const char *text)
{
  for (; *text != '\0'; text++) {
    encoder->bits = (encoder->bits << 8 | (unsigned char) *text) & 0xffff;
    encoder->bit_count += 8;
    for (; encoder->bit_count >= 6; encoder->bit_count -= 6)
      *encoder->out++ = base64_digits[encoder->bits >> (encoder->bit_count - 6) & 63];
  }
}

static void base64_end(struct base64 *encoder)
{
  if (encoder->bit_count > 0) {
    *encoder->out++ = base64_digits[encoder->bits << (6 - encoder->bit_count) & 63];
    for (; encoder->bit_count < 6; encoder->bit_count += 2)
      *encoder->out++ = '=';
  }
  *encoder->out++ = '\0';
}

size_t cpool__basic_len(const char *username, const char *password)
{
  size_t len = (username == NULL ? 0 : strlen(username)) + (password == NULL ? 0 : strlen(password));
  return (len + 3) / 3 * 4; /* with the colon, rounded up */
}

void cpool__basic_write(char *out, const char *username, const char *password)
{
  struct base64 encoder = {.out = out};
  base64_add(&encoder, username == NULL ? "" : username);
  base64_add(&encoder, ":");
  base64_add(&encoder, password == NULL ? "" : password);
  base64_end(&encoder);
}
