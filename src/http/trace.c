/* trace: W3C Trace Context, section 3.2.2 (traceparent) and 3.3.1 (tracestate), as what is passed on has to be
 *
 *   traceparent  version "-" trace-id (32) "-" parent-id (16) "-" flags (2), lower-case hexadecimal; no id is all zero;
 *                version ff does not exist; what follows in a version above 00 begins with "-"
 *   tracestate   at most 32 of key "=" value, with "," between; keys differ; a member may be empty */
#include "http/trace.h"

#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "http/header_list.h"

enum { PARENT_BYTES = 55, MEMBERS = 32, KEY_BYTES = 256, TENANT_BYTES = 241, SYSTEM_BYTES = 14, VALUE_BYTES = 256 };

/* ---- traceparent ---- */

/* `count` hexadecimal digits. */
static bool is_hex(const char *text, size_t count)
{
  return strspn(text, "0123456789abcdef") >= count;
}

static bool is_zero(const char *text, size_t count)
{
  return strspn(text, "0") >= count;
}

static bool is_printable(const char *text)
{
  for (; *text != '\0'; text++) {
    if (*text <= 0x20 || *text >= 0x7f)
      return false;
  }
  return true;
}

bool cpool__traceparent_valid(const char *text)
{
  const char *trace = text + 3, *parent = text + 36, *flags = text + 53;
  if (strlen(text) < PARENT_BYTES || !is_hex(text, 2) || text[2] != '-' || !is_hex(trace, 32) || text[35] != '-' ||
      !is_hex(parent, 16) || text[52] != '-' || !is_hex(flags, 2))
    return false;
  if (is_zero(trace, 32) || is_zero(parent, 16) || memcmp(text, "ff", 2) == 0)
    return false;
  if (text[PARENT_BYTES] == '\0')
    return true;
  return memcmp(text, "00", 2) != 0 && text[PARENT_BYTES] == '-' && is_printable(text);
}

/* ---- tracestate ---- */

struct span {
  const char *at;
  size_t len;
};

static bool is_lower(char byte)
{
  return byte >= 'a' && byte <= 'z';
}

static bool is_digit(char byte)
{
  return byte >= '0' && byte <= '9';
}

static bool is_key_text(const char *text, size_t len)
{
  for (size_t i = 0; i < len; i++) {
    if (!is_lower(text[i]) && !is_digit(text[i]) && memchr("_-*/", text[i], 4) == NULL)
      return false;
  }
  return true;
}

/* "key", or "tenant@system". */
static bool key_valid(struct span key)
{
  const char *at = key.len > 0 ? memchr(key.at, '@', key.len) : NULL;
  if (at == NULL)
    return key.len > 0 && key.len <= KEY_BYTES && is_lower(key.at[0]) && is_key_text(key.at, key.len);
  size_t tenant = (size_t) (at - key.at), system = key.len - tenant - 1;
  return tenant > 0 && tenant <= TENANT_BYTES && (is_lower(key.at[0]) || is_digit(key.at[0])) &&
         is_key_text(key.at, tenant) && system > 0 && system <= SYSTEM_BYTES && is_lower(at[1]) &&
         is_key_text(at + 1, system);
}

/* Its last byte is no blank: those at the end are not part of it. */
static bool value_valid(struct span value)
{
  for (size_t i = 0; i < value.len; i++) {
    if (value.at[i] < 0x20 || value.at[i] > 0x7e || value.at[i] == '=' || value.at[i] == ',')
      return false;
  }
  return value.len > 0 && value.len <= VALUE_BYTES;
}

static struct span trim(const char *text, size_t len)
{
  while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
    len--;
  while (len > 0 && (*text == ' ' || *text == '\t')) {
    text++;
    len--;
  }
  return (struct span){text, len};
}

static bool among(struct span key, const struct span *keys, size_t count)
{
  for (size_t i = 0; i < count; i++) {
    if (keys[i].len == key.len && memcmp(keys[i].at, key.at, key.len) == 0)
      return true;
  }
  return false;
}

bool cpool__tracestate_valid(const char *text)
{
  struct span keys[MEMBERS];
  size_t count = 0;
  for (;; text++) {
    size_t len = strcspn(text, ",");
    struct span member = trim(text, len);
    if (member.len > 0) {
      const char *equals = memchr(member.at, '=', member.len);
      if (equals == NULL || count == MEMBERS)
        return false;
      struct span key = {member.at, (size_t) (equals - member.at)}, value = {equals + 1, member.len - key.len - 1};
      if (!key_valid(key) || !value_valid(value) || among(key, keys, count))
        return false;
      keys[count++] = key;
    }
    text += len;
    if (*text == '\0')
      return true;
  }
}

/* ---- beside the other headers ---- */

static int refuse(const char *name, const char *why)
{
  return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "request: %s %s", name, why);
}

static int check(const cpool_request *request)
{
  if (request->traceparent == NULL)
    return refuse("tracestate", "is set without traceparent");
  if (!cpool__traceparent_valid(request->traceparent))
    return refuse("traceparent", "is malformed (W3C Trace Context section 3.2.2)");
  if (cpool__headers_find(request->headers, request->header_count, "traceparent"))
    return refuse("traceparent", "is set, and among headers as well");
  if (request->tracestate == NULL)
    return CPOOL_OK;
  if (!cpool__tracestate_valid(request->tracestate))
    return refuse("tracestate", "is malformed (W3C Trace Context section 3.3.1)");
  if (cpool__headers_find(request->headers, request->header_count, "tracestate"))
    return refuse("tracestate", "is set, and among headers as well");
  return CPOOL_OK;
}

int cpool__trace_add(struct cpool__trace_headers *out, cpool_request *request)
{
  out->many = NULL;
  if (request->traceparent == NULL && request->tracestate == NULL)
    return CPOOL_OK;
  int rc = check(request);
  if (rc != CPOOL_OK)
    return rc;
  size_t count = request->header_count;
  cpool_header *all = out->few;
  if (count + 2 > CPOOL__TRACE_STACK)
    all = out->many = cpool__malloc((count + 2) * sizeof *all);
  if (all == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a request");
  if (count > 0)
    memcpy(all, request->headers, count * sizeof *all);
  all[count++] = (cpool_header){"traceparent", request->traceparent};
  if (request->tracestate != NULL && request->tracestate[0] != '\0')
    all[count++] = (cpool_header){"tracestate", request->tracestate};
  request->headers = all;
  request->header_count = count;
  return CPOOL_OK;
}

void cpool__trace_fini(struct cpool__trace_headers *headers)
{
  cpool__free(headers->many);
}
