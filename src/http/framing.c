/* framing: Content-Length, Transfer-Encoding and Connection of a response */
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

/* A list of tokens (RFC 9110 section 5.6.1). */
static void note_connection(struct cpool__framing *framing, const char *value, size_t len)
{
  const char *end = value + len;
  while (value < end) {
    size_t token_len = 0;
    while (value + token_len < end && strchr(", \t", value[token_len]) == NULL)
      token_len++;
    if (token_len == 5 && strncasecmp(value, "close", token_len) == 0)
      framing->close = true;
    if (token_len == 10 && strncasecmp(value, "keep-alive", token_len) == 0)
      framing->keep_alive = true;
    value += token_len + 1;
  }
}

bool cpool__framing_line(struct cpool__framing *framing, const char *line, size_t len)
{
  size_t value_len;
  const char *value;
  switch (len == 0 ? 0 : line[0] | 0x20) {
  case 'h':
    if (len > 5 && memcmp(line, "HTTP/", 5) == 0) {
      cpool__framing_init(framing);
      framing->http_1 = len > 7 && memcmp(line + 5, "1.", 2) == 0;
      framing->http_1_0 = framing->http_1 && line[7] == '0';
    }
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
  value = value_of(line, len, "connection:", &value_len);
  if (value != NULL)
    note_connection(framing, value, value_len);
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

bool cpool__framing_last(const struct cpool__framing *framing, int status_code, bool head)
{
  bool no_body = head || status_code < 200 || status_code == 204 || status_code == 304;
  if (!framing->http_1)
    return false;
  return framing->close || (framing->http_1_0 && !framing->keep_alive) ||
         (!no_body && !framing->transfer_encoding && framing->content_length < 0);
}
