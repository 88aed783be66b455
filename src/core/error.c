/* error: errors are filled in one place, and each thread remembers its last refused call */
#include "core/error.h"

#include <stdio.h>
#include <string.h>

#include "core/structs.h"

/* Static thread storage needs no destructor, and a refusal needs no memory. Status 0 until a call was refused. */
static _Thread_local cpool_error last_refusal;

/* Length without the sequence at the end whose remaining bytes were cut off. */
static size_t whole_utf8(const char *text, size_t len)
{
  size_t start = len;
  while (start > 0 && len - start < 3 && ((unsigned char) text[start - 1] & 0xc0) == 0x80)
    start--;
  if (start == 0)
    return len;
  unsigned char lead = (unsigned char) text[start - 1];
  size_t wanted = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
  size_t there = len - start + 1;
  return there < wanted ? start - 1 : len;
}

void cpool__line_format(char *out, size_t size, const char *format, va_list args)
{
  int len = vsnprintf(out, size, format, args);
  if (len < 0)
    out[0] = '\0';
  else if ((size_t) len >= size)
    out[whole_utf8(out, size - 1)] = '\0';
  for (char *at = out; *at != '\0'; at++) {
    if ((unsigned char) *at < 0x20 || *at == 0x7f)
      *at = '?';
  }
}

__attribute__((format(printf, 6, 0))) static void fill(cpool_error *err, int status, int layer, int native, int flags,
                                                       const char *format, va_list args)
{
  cpool_error filled = {.size = sizeof filled, .status = status, .layer = layer, .native = native, .flags = flags};
  cpool__line_format(filled.text, sizeof filled.text, format, args);
  *err = filled;
}

void cpool__error_set(cpool_error *err, int status, int layer, int native, int flags, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  fill(err, status, layer, native, flags, format, args);
  va_end(args);
}

int cpool__refuse(int status, int layer, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  fill(&last_refusal, status, layer, 0, CPOOL_ERROR_NOTHING_SENT, format, args);
  va_end(args);
  return status;
}

int cpool__refuse_with(const cpool_error *err)
{
  last_refusal = *err;
  last_refusal.size = sizeof last_refusal;
  return last_refusal.status;
}

int cpool_last_error(cpool_error *out)
{
  return cpool__struct_write(out, &last_refusal, sizeof last_refusal, "cpool_error");
}
