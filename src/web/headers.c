/* headers: what header fields may be; names are compared as ASCII, whatever the locale */
#include "web/headers.h"

#include <stdint.h>
#include <string.h>

#include "core/error.h"

static unsigned char lower(char byte)
{
  return (unsigned char) (byte >= 'A' && byte <= 'Z' ? byte - 'A' + 'a' : byte);
}

bool cpool__names_equal(const char *a, size_t a_len, const char *b, size_t b_len)
{
  if (a_len != b_len)
    return false;
  for (size_t at = 0; at < a_len; at++) {
    if (lower(a[at]) != lower(b[at]))
      return false;
  }
  return true;
}

/* tchar of RFC 9110 section 5.6.2: one bit per ASCII character, from 0x20 on */
static bool is_tchar(char byte)
{
  /* ! # $ % & ' * + - . 0-9 | A-Z ^ _ | ` a-z | ~ */
  static const uint32_t tchars[] = {0x03ff6cfa, 0xc7fffffe, 0x57ffffff};
  unsigned at = (unsigned char) byte - 0x20u;
  return at < 0x60 && (tchars[at / 32] >> at % 32 & 1) != 0;
}

bool cpool__token_span_valid(const char *text, size_t len)
{
  for (size_t at = 0; at < len; at++) {
    if (!is_tchar(text[at]))
      return false;
  }
  return len > 0;
}

bool cpool__token_valid(const char *text)
{
  return cpool__token_span_valid(text, strlen(text));
}

/* These describe the connection or the framing, which the library decides. */
static bool is_reserved(const char *name, size_t len)
{
  static const char *const reserved[] = {"content-length",   "transfer-encoding",
                                         "connection",       "keep-alive",
                                         "proxy-connection", "proxy-authorization",
                                         "upgrade",          "te",
                                         "trailer",          "expect"};
  for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
    if (cpool__names_equal(name, len, reserved[i], strlen(reserved[i])))
      return true;
  }
  return false;
}

static bool value_valid(const char *value, size_t *len)
{
  const char *at = value;
  for (; *at != '\0'; at++) {
    unsigned char byte = (unsigned char) *at;
    if ((byte < 0x20 && byte != '\t') || byte == 0x7f)
      return false;
  }
  *len = (size_t) (at - value);
  return true;
}

int cpool__headers_check(const cpool_header *headers, size_t count)
{
  size_t bytes = 0;
  if (headers == NULL && count > 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "headers: NULL, with a header_count of %zu", count);
  for (size_t i = 0; i < count; i++) {
    const char *name = headers[i].name;
    size_t value_len;
    if (name == NULL || headers[i].value == NULL)
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "headers[%zu]: its %s is NULL", i,
                           name == NULL ? "name" : "value");
    size_t name_len = strlen(name);
    if (!cpool__token_span_valid(name, name_len))
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "headers[%zu]: the name \"%.64s\" is not a token", i,
                           name);
    if (is_reserved(name, name_len))
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "headers[%zu]: %s is set by the library alone", i, name);
    if (!value_valid(headers[i].value, &value_len))
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "headers[%zu]: the value of %.64s has a control byte", i,
                           name);
    if (name_len > CPOOL__HEAD_MAX_BYTES || value_len > CPOOL__HEAD_MAX_BYTES)
      bytes = (size_t) CPOOL__HEAD_MAX_BYTES + 1;
    else
      bytes += name_len + value_len + 4; /* ": " and CRLF */
    if (bytes > CPOOL__HEAD_MAX_BYTES)
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                           "headers: longer than %d bytes in all, reached at headers[%zu] (%.64s)",
                           CPOOL__HEAD_MAX_BYTES, i, name);
  }
  return CPOOL_OK;
}

bool cpool__headers_find_span(const cpool_header *headers, size_t count, const char *name, size_t len)
{
  for (size_t i = 0; i < count; i++) {
    if (lower(headers[i].name[0]) == lower(name[0]) &&
        cpool__names_equal(headers[i].name, strlen(headers[i].name), name, len))
      return true;
  }
  return false;
}

bool cpool__headers_find(const cpool_header *headers, size_t count, const char *name)
{
  return cpool__headers_find_span(headers, count, name, strlen(name));
}
