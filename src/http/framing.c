/* framing: Content-Length and Transfer-Encoding of a response */
#include "http/framing.h"

#include <string.h>
#include <strings.h>

enum { DIGITS = 18 }; /* of a length that fits */

void cpool__framing_init(struct cpool__framing *framing)
{
  *framing = (struct cpool__framing){.content_length = -1};
}

/* The value of the line when it is the field `name` ("name:"), its blanks cut off; else NULL. */
static const char *value_of(const char *line, size_t len, const char *name, size_t *value_len)
{
  size_t name_len = strlen(name);
  if (len < name_len || strncasecmp(line, name, name_len) != 0)
    return NULL;
  const char *begin = line + name_len, *end = line + len;
  while (begin < end && (*begin == ' ' || *begin == '\t'))
    begin++;
  while (end > begin && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r' || end[-1] == '\n'))
    end--;
  *value_len = (size_t) (end - begin);
  return begin;
}

static int64_t parse_length(const char *value, size_t len)
{
  int64_t length = 0;
  if (len == 0 || len > DIGITS)
    return -1;
  for (size_t i = 0; i < len; i++) {
    if (value[i] < '0' || value[i] > '9')
      return -1;
    length = length * 10 + (value[i] - '0');
  }
  return length;
}

bool cpool__framing_line(struct cpool__framing *framing, const char *line, size_t len)
{
  size_t value_len;
  const char *value;
  switch (len == 0 ? 0 : line[0] | 0x20) {
  case 'h':
    if (len > 5 && memcmp(line, "HTTP/", 5) == 0)
      cpool__framing_init(framing);
    return true;
  case 't':
    if (value_of(line, len, "transfer-encoding:", &value_len) != NULL)
      framing->transfer_encoding = true;
    return true;
  case 'c':
    break;
  default:
    return true;
  }
  value = value_of(line, len, "content-length:", &value_len);
  if (value == NULL)
    return true;
  int64_t length = parse_length(value, value_len);
  if (length < 0 || (framing->content_length >= 0 && framing->content_length != length))
    return false;
  framing->content_length = length;
  return true;
}

bool cpool__framing_doubtful(const struct cpool__framing *framing, int status_code)
{
  if (framing->transfer_encoding && framing->content_length >= 0)
    return true;
  return status_code == 204 && (framing->transfer_encoding || framing->content_length > 0);
}
