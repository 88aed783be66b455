/* response: lines from a hostile peer become clean names and values, within a cap that every byte counts against
 *
 * Names are tokens; a line without colon, with an empty or malformed name or with blanks before the colon is
 * ignored, since recipients disagree about what it means. In values each control byte but TAB becomes a blank (RFC
 * 9110 section 5.5), blanks around them are cut, and a folded line is joined by one blank (RFC 9112 section 5.2). An
 * interim answer (1xx) is forgotten when its head is complete. */
#include "http/response.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"
#include "http/header_list.h"
#include "http/hop.h"

static const size_t BELIEVED_BYTES =
    1024 * 1024; /* of a Content-Length: memory is taken for what arrived, not for what was announced */

/* Where the header of an index begins, so that a walk by index is not quadratic: index (32) | offset in head (32). A
 * hint of one word: any thread may replace it. */
static uint64_t mark_of(uint32_t index, size_t offset)
{
  return (uint64_t) index << 32 | (uint32_t) offset;
}

void cpool__response_init(struct cpool_response *resp)
{
  resp->queue_us = resp->dns_us = resp->connect_us = resp->tls_us = resp->first_byte_us = resp->total_us = CPOOL_OFF;
}

void cpool__response_fini(struct cpool_response *resp)
{
  cpool__buffer_fini(&resp->head);
  cpool__buffer_fini(&resp->body);
  cpool__buffer_fini(&resp->trailers);
  cpool__free(resp->error);
  resp->error = NULL;
  cpool__hops_free(resp->hops);
  resp->hops = NULL;
}

static void forget_head(struct cpool_response *resp)
{
  resp->status_code = resp->http_version = 0;
  resp->header_count = 0;
  resp->head_begun = resp->head_complete = resp->may_fold = resp->had_control = resp->decoded = false;
  resp->head.len = resp->trailers.len = 0;
  resp->trailer_count = 0;
  atomic_store_explicit(&resp->mark, 0, memory_order_relaxed);
}

void cpool__response_restart(struct cpool_response *resp)
{
  forget_head(resp);
  resp->head_bytes = 0;
  resp->body.len = 0;
  if (resp->body.data != NULL)
    resp->body.data[0] = '\0';
  resp->dns_us = resp->connect_us = resp->tls_us = resp->first_byte_us = CPOOL_OFF;
}

void cpool__response_next_hop(struct cpool_response *resp)
{
  cpool__response_restart(resp);
  cpool__buffer_fini(&resp->body);
  resp->reused = false;
  resp->connection = 0;
  resp->remote.len = 0;
  resp->queue_us = CPOOL_OFF;
}

/* ---- head ---- */

static bool is_blank(char byte)
{
  return byte == ' ' || byte == '\t';
}

static bool is_digit(char byte)
{
  return byte >= '0' && byte <= '9';
}

/* "HTTP/1.1 200 OK"; libcurl has checked it. */
static void status_line(struct cpool_response *resp, const char *line, size_t len)
{
  if (len < 5 || memcmp(line, "HTTP/", 5) != 0)
    return;
  size_t at = 5;
  int version = 0;
  for (; at < len && (is_digit(line[at]) || line[at] == '.') && version < 100; at++)
    version = line[at] == '.' ? version : version * 10 + (line[at] - '0');
  while (at < len && is_blank(line[at]))
    at++;
  if (len - at < 3 || !is_digit(line[at]) || !is_digit(line[at + 1]) || !is_digit(line[at + 2]))
    return;
  resp->head_begun = true;
  resp->http_version = version == 10 ? 10 : version == 2 || version == 20 ? 20 : 11;
  resp->status_code = (line[at] - '0') * 100 + (line[at + 1] - '0') * 10 + (line[at + 2] - '0');
}

static bool is_control(char byte)
{
  return (unsigned char) byte < 0x20 || byte == 0x7f;
}

/* Eight bytes at a time: below 0x20, or 0x7f. */
static bool has_control(const char *text, size_t len)
{
  const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
  uint64_t found = 0, word = 0;
  for (size_t at = 0; at < len; at += sizeof word) {
    size_t left = len - at;
    word = ones * ' ';
    memcpy(&word, text + at, left < sizeof word ? left : sizeof word);
    uint64_t seven = word & ~tops;
    found |= (~(seven + ones * 0x60) | (seven + ones)) & ~word & tops;
  }
  return found != 0;
}

/* Cuts blanks, and what will become blanks, off both ends. */
static void trim(const char **text, size_t *len)
{
  while (*len > 0 && ((*text)[*len - 1] == ' ' || is_control((*text)[*len - 1])))
    (*len)--;
  while (*len > 0 && (**text == ' ' || is_control(**text))) {
    (*text)++;
    (*len)--;
  }
}

/* Where a line goes: to the head, or behind it to the trailers. */
static struct cpool__buffer *fields_of(struct cpool_response *resp)
{
  return resp->head_complete ? &resp->trailers : &resp->head;
}

/* The room that appends then find; the cap was checked against what arrived, which is at least as much. */
static bool field_room(struct cpool__buffer *fields, size_t len)
{
  size_t needed = fields->len + len, twice = fields->capacity * 2, least = 1024;
  if (needed <= fields->capacity)
    return true;
  least = needed > least ? needed : least;
  return cpool__buffer_reserve(fields, least > twice ? least : twice) == CPOOL__BUFFER_OK;
}

static void field_byte(struct cpool__buffer *fields, char byte)
{
  fields->data[fields->len++] = byte;
}

static void field_text(struct cpool__buffer *fields, const char *text, size_t len)
{
  memcpy(fields->data + fields->len, text, len);
  fields->len += len;
  field_byte(fields, '\0');
}

static void field_value(struct cpool_response *resp, struct cpool__buffer *fields, const char *value, size_t len)
{
  char *begin = fields->data + fields->len, *end = begin + len;
  field_text(fields, value, len);
  if (!has_control(begin, len))
    return;
  resp->had_control = true;
  for (char *at = begin; at < end; at++) {
    if (is_control(*at) && *at != '\t')
      *at = ' ';
  }
}

static enum cpool__response_result folded_line(struct cpool_response *resp, const char *line, size_t len)
{
  struct cpool__buffer *fields = fields_of(resp);
  trim(&line, &len);
  if (!resp->may_fold || len == 0)
    return CPOOL__RESPONSE_OK;
  if (!field_room(fields, len + 1))
    return CPOOL__RESPONSE_NO_MEMORY;
  fields->len--; /* the value's NUL; before it stands the value, or the name's NUL when that is empty */
  if (fields->data[fields->len - 1] != '\0')
    field_byte(fields, ' ');
  field_value(resp, fields, line, len);
  return CPOOL__RESPONSE_OK;
}

static enum cpool__response_result field_line(struct cpool_response *resp, const char *line, size_t len)
{
  const char *colon = memchr(line, ':', len);
  resp->may_fold = false;
  if (colon == NULL || !cpool__token_span_valid(line, (size_t) (colon - line)))
    return CPOOL__RESPONSE_OK;
  size_t name_len = (size_t) (colon - line), value_len = len - name_len - 1;
  const char *value = colon + 1;
  trim(&value, &value_len);
  struct cpool__buffer *fields = fields_of(resp);
  if (!field_room(fields, name_len + value_len + 2))
    return CPOOL__RESPONSE_NO_MEMORY;
  field_text(fields, line, name_len); /* a token: nothing to replace */
  field_value(resp, fields, value, value_len);
  if (resp->head_complete)
    resp->trailer_count++;
  else
    resp->header_count++;
  resp->may_fold = true;
  return CPOOL__RESPONSE_OK;
}

enum cpool__response_result cpool__response_head_line(struct cpool_response *resp, const char *line, size_t len,
                                                      size_t cap)
{
  if (resp->head_bytes > cap || len > cap - resp->head_bytes)
    return CPOOL__RESPONSE_OVER_CAP;
  resp->head_bytes += len;
  if (len > 0 && line[len - 1] == '\n')
    len--;
  if (len > 0 && line[len - 1] == '\r')
    len--;
  if (!resp->head_begun) {
    status_line(resp, line, len);
    return CPOOL__RESPONSE_OK;
  }
  if (len == 0) {
    resp->may_fold = false;
    if (resp->status_code >= 100 && resp->status_code <= 199)
      forget_head(resp);
    else
      resp->head_complete = true;
    return CPOOL__RESPONSE_OK;
  }
  return is_blank(line[0]) ? folded_line(resp, line, len) : field_line(resp, line, len);
}

/* ---- body ---- */

/* Room for `len` bytes more and the NUL. */
static bool body_room(struct cpool_response *resp, size_t len, size_t cap, int64_t expected)
{
  struct cpool__buffer *body = &resp->body;
  size_t needed = body->len + len + 1; /* <= cap + 1 */
  if (needed <= body->capacity)
    return true;
  size_t capacity = body->capacity > cap / 2 ? cap + 1 : body->capacity * 2;
  if (body->capacity == 0 && expected > 0) {
    size_t believed = expected < (int64_t) BELIEVED_BYTES ? (size_t) expected : BELIEVED_BYTES;
    capacity = (believed < cap ? believed : cap) + 1;
  }
  return cpool__buffer_reserve(body, capacity > needed ? capacity : needed) == CPOOL__BUFFER_OK;
}

enum cpool__response_result cpool__response_body_data(struct cpool_response *resp, const void *data, size_t len,
                                                      size_t cap, int64_t expected)
{
  if (cap > SIZE_MAX / 2)
    cap = SIZE_MAX / 2; /* so that the sums below cannot overflow */
  assert(resp->body.len <= cap);
  bool over = len > cap - resp->body.len;
  if (over)
    len = cap - resp->body.len;
  if (len > 0) {
    if (!body_room(resp, len, cap, expected))
      return CPOOL__RESPONSE_NO_MEMORY;
    memcpy(resp->body.data + resp->body.len, data, len);
    resp->body.len += len;
    resp->body.data[resp->body.len] = '\0';
  }
  return over ? CPOOL__RESPONSE_OVER_CAP : CPOOL__RESPONSE_OK;
}

void cpool__response_fail(struct cpool_response *resp, const cpool_error *error)
{
  resp->status = error->status;
  if (resp->error == NULL)
    resp->error = cpool__malloc(sizeof *resp->error);
  if (resp->error != NULL) {
    *resp->error = *error;
    resp->error->size = sizeof *resp->error;
  }
}

size_t cpool__response_bytes(const struct cpool_response *resp)
{
  return resp->head.capacity + resp->body.capacity + resp->trailers.capacity +
         (resp->error == NULL ? 0 : sizeof *resp->error) + cpool__hops_bytes(resp->hops);
}

/* ---- public calls ---- */

static bool is_open(const struct cpool_response *resp)
{
  return atomic_load_explicit(&resp->open, memory_order_acquire);
}

static int refuse_open(const char *call)
{
  return cpool__refuse(CPOOL_EBUSY, CPOOL_LAYER_CALLER, "%s: the response has not ended", call);
}

int cpool_response_status(const cpool_response *resp)
{
  return resp == NULL || !resp->head_complete ? 0 : resp->status_code;
}

int cpool_response_decoded(const cpool_response *resp)
{
  return resp != NULL && resp->decoded;
}

const void *cpool_response_body(const cpool_response *resp, size_t *len)
{
  size_t body_len = resp == NULL || is_open(resp) ? 0 : resp->body.len;
  if (len != NULL)
    *len = body_len;
  if (resp == NULL)
    return NULL;
  return body_len == 0 ? "" : resp->body.data;
}

/* The text behind this one. */
static const char *next_text(const char *text)
{
  return text + strlen(text) + 1;
}

static const char *find_field(const struct cpool__buffer *fields, uint32_t count, const char *name)
{
  size_t len = strlen(name);
  const char *at = fields->data;
  for (uint32_t i = 0; i < count; i++) {
    size_t name_len = strlen(at);
    const char *value = at + name_len + 1;
    if (cpool__names_equal(at, name_len, name, len))
      return value;
    at = next_text(value);
  }
  return NULL;
}

const char *cpool_response_header(const cpool_response *resp, const char *name)
{
  return resp == NULL || name == NULL ? NULL : find_field(&resp->head, resp->header_count, name);
}

const char *cpool_response_trailer(const cpool_response *resp, const char *name)
{
  return resp == NULL || name == NULL || is_open(resp) ? NULL : find_field(&resp->trailers, resp->trailer_count, name);
}

int cpool_response_trailer_at(const cpool_response *resp, size_t index, const char **name, const char **value)
{
  if (resp == NULL || is_open(resp) || index >= resp->trailer_count)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                         "cpool_response_trailer_at: %s%zu is not below trailer_count",
                         resp == NULL ? "the response is NULL; " : "", index);
  const char *at = resp->trailers.data;
  for (size_t i = 0; i < index; i++)
    at = next_text(next_text(at));
  if (name != NULL)
    *name = at;
  if (value != NULL)
    *value = next_text(at);
  return CPOOL_OK;
}

int cpool_response_header_at(const cpool_response *resp, size_t index, const char **name, const char **value)
{
  if (resp == NULL || index >= resp->header_count)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_response_header_at: %s%zu is not below header_count",
                         resp == NULL ? "the response is NULL; " : "", index);
  _Atomic uint64_t *hint = &((struct cpool_response *) resp)->mark; /* responses are never in read-only memory */
  uint64_t mark = atomic_load_explicit(hint, memory_order_relaxed);
  uint32_t i = (uint32_t) (mark >> 32);
  const char *at = resp->head.data + (uint32_t) mark;
  if (i > index) {
    i = 0;
    at = resp->head.data;
  }
  for (; i < index; i++)
    at = next_text(next_text(at));
  atomic_store_explicit(hint, mark_of(i, (size_t) (at - resp->head.data)), memory_order_relaxed);
  if (name != NULL)
    *name = at;
  if (value != NULL)
    *value = next_text(at);
  return CPOOL_OK;
}

const char *cpool_response_url(const cpool_response *resp)
{
  return resp == NULL ? NULL : resp->url;
}

int cpool_response_redirect_at(const cpool_response *resp, size_t index, int32_t *status, const char **url)
{
  const struct cpool__hop *hop = resp == NULL ? NULL : resp->hops;
  if (hop == NULL || index >= (size_t) hop->number)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_response_redirect_at: %s%zu is not below redirects",
                         resp == NULL ? "the response is NULL; " : "", index);
  while ((size_t) hop->number > index + 1)
    hop = hop->earlier;
  if (status != NULL)
    *status = hop->from_status;
  if (url != NULL)
    *url = hop->from_url;
  return CPOOL_OK;
}

int cpool_response_info_get(const cpool_response *resp, cpool_response_info *out)
{
  if (resp == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_response_info_get: the response is NULL");
  if (is_open(resp))
    return refuse_open("cpool_response_info_get");
  cpool_response_info info = {
      .size = sizeof info,
      .http_version = resp->head_complete ? resp->http_version : 0,
      .reused = resp->reused,
      .attempts = resp->attempts,
      .header_count = (int32_t) resp->header_count,
      .connection = resp->connection,
      .queue_us = resp->queue_us,
      .dns_us = resp->dns_us,
      .connect_us = resp->connect_us,
      .tls_us = resp->tls_us,
      .first_byte_us = resp->first_byte_us,
      .total_us = resp->total_us,
      .bytes_sent = resp->bytes_sent,
      .bytes_received = resp->bytes_received,
      .trailer_count = (int32_t) resp->trailer_count,
      .redirects = resp->hops == NULL ? 0 : resp->hops->number,
  };
  if (resp->remote.len > 0 && resp->remote.sock.any.sa_family == AF_UNIX)
    strcpy(info.remote_address, "unix");
  else if (resp->remote.len > 0)
    cpool__address_text(&resp->remote, info.remote_address);
  return cpool__struct_write(out, &info, sizeof info, "cpool_response_info");
}

int cpool_response_error_get(const cpool_response *resp, cpool_error *out)
{
  if (resp == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_response_error_get: the response is NULL");
  if (is_open(resp))
    return refuse_open("cpool_response_error_get");
  cpool_error error = {.size = sizeof error};
  if (resp->error != NULL)
    error = *resp->error;
  else if (resp->status != CPOOL_OK)
    cpool__error_set(&error, resp->status, CPOOL_LAYER_NONE, 0, 0, "%s", cpool_status_text(resp->status));
  return cpool__struct_write(out, &error, sizeof error, "cpool_error");
}
