/* sse: a line at a time, and of a line a span at a time
 *
 *   BOM    at the very beginning, once   -> NAME
 *   NAME   the field's name              -> BLANK at a colon, BOM's successor at the line's end
 *   BLANK  one blank before the value    -> VALUE
 *   VALUE  straight into its buffer      -> NAME at the line's end
 *
 * A line is never held as a line: names that are not known, and comments, are only counted. Bytes are passed on as they
 * are; whether they are UTF-8 is for whoever reads them. */
#include "http/sse.h"

#include <string.h>

static const unsigned char MARK[] = {0xef, 0xbb, 0xbf};

enum { RETRY_MOST_MS = 24 * 60 * 60 * 1000 };

static enum cpool__sse_field field_of(const struct cpool__sse *sse)
{
  static const struct {
    const char *name;
    enum cpool__sse_field field;
  } fields[] = {{"data", CPOOL__SSE_DATA},
                {"event", CPOOL__SSE_TYPE},
                {"id", CPOOL__SSE_ID},
                {"retry", CPOOL__SSE_RETRY}};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    if (sse->name_len == strlen(fields[i].name) && memcmp(sse->name, fields[i].name, sse->name_len) == 0)
      return fields[i].field;
  }
  return CPOOL__SSE_IGNORED;
}

static enum cpool__sse_result append(struct cpool__sse *sse, struct cpool__buffer *to, const char *bytes, size_t len)
{
  size_t id_len = sse->id_set ? sse->id.len : sse->last_id.len;
  size_t used = sse->data.len + sse->type.len + id_len + sse->new_id.len;
  size_t room = used > sse->cap ? 0 : sse->cap - used;
  if (len > room)
    return CPOOL__SSE_OVER_CAP;
  return cpool__buffer_append(to, bytes, len, sse->cap) == CPOOL__BUFFER_OK ? CPOOL__SSE_MORE : CPOOL__SSE_NO_MEMORY;
}

/* The name is complete: its field begins with an empty value. */
static void begin_value(struct cpool__sse *sse)
{
  sse->field = field_of(sse);
  switch (sse->field) {
  case CPOOL__SSE_TYPE:
    sse->type.len = 0;
    break;
  case CPOOL__SSE_ID:
    sse->new_id.len = 0;
    sse->id_bad = false;
    break;
  case CPOOL__SSE_RETRY:
    sse->retry_new = -1;
    break;
  default:
    break;
  }
}

static void retry_digits(struct cpool__sse *sse, const char *bytes, size_t len)
{
  for (size_t i = 0; i < len && sse->field == CPOOL__SSE_RETRY; i++) {
    if (bytes[i] < '0' || bytes[i] > '9')
      sse->field = CPOOL__SSE_IGNORED;
    else if (sse->retry_new < RETRY_MOST_MS)
      sse->retry_new = (sse->retry_new < 0 ? 0 : sse->retry_new) * 10 + (bytes[i] - '0');
  }
}

static enum cpool__sse_result value_bytes(struct cpool__sse *sse, const char *bytes, size_t len)
{
  switch (sse->field) {
  case CPOOL__SSE_DATA:
    return append(sse, &sse->data, bytes, len);
  case CPOOL__SSE_TYPE:
    return append(sse, &sse->type, bytes, len);
  case CPOOL__SSE_ID:
    sse->id_bad = sse->id_bad || memchr(bytes, '\0', len) != NULL;
    return append(sse, &sse->new_id, bytes, len); /* also then: the cap must not depend on where the bytes were cut */
  case CPOOL__SSE_RETRY:
    retry_digits(sse, bytes, len);
    break;
  case CPOOL__SSE_IGNORED:
    break;
  }
  return CPOOL__SSE_MORE;
}

static void name_bytes(struct cpool__sse *sse, const char *bytes, size_t len)
{
  size_t room = sizeof sse->name - sse->name_len, take = len < room ? len : room;
  memcpy(sse->name + sse->name_len, bytes, take);
  sse->name_len = (uint8_t) (sse->name_len + take);
}

static void swap(struct cpool__buffer *a, struct cpool__buffer *b)
{
  struct cpool__buffer old = *a;
  *a = *b;
  *b = old;
}

/* The end of a line that was not empty. */
static enum cpool__sse_result end_field(struct cpool__sse *sse)
{
  if (sse->place == CPOOL__SSE_NAME)
    begin_value(sse); /* the whole line is a name */
  switch (sse->field) {
  case CPOOL__SSE_DATA:
    sse->has_data = true;
    return append(sse, &sse->data, "\n", 1);
  case CPOOL__SSE_ID:
    if (!sse->id_bad) {
      swap(&sse->id, &sse->new_id);
      sse->id_set = true;
    }
    sse->new_id.len = 0;
    break;
  case CPOOL__SSE_RETRY:
    if (sse->retry_new >= 0)
      sse->retry_ms = sse->retry_new < RETRY_MOST_MS ? sse->retry_new : RETRY_MOST_MS;
    break;
  default:
    break;
  }
  return CPOOL__SSE_MORE;
}

/* An empty line: the event is complete, if there is one. */
static enum cpool__sse_result end_event(struct cpool__sse *sse, struct cpool__sse_text *event)
{
  sse->shown = true; /* in either case the next one begins empty, and the id counts */
  if (sse->id_set)
    swap(&sse->id, &sse->last_id);
  sse->id_set = false;
  if (!sse->has_data)
    return CPOOL__SSE_MORE;
  *event = (struct cpool__sse_text){.data = sse->data.data,
                                    .data_len = sse->data.len - 1, /* without the last LF */
                                    .type = sse->type.data,
                                    .type_len = sse->type.len,
                                    .id = sse->last_id.data,
                                    .id_len = sse->last_id.len};
  return CPOOL__SSE_EVENT;
}

static enum cpool__sse_result end_line(struct cpool__sse *sse, struct cpool__sse_text *event)
{
  bool empty = sse->line_len == 0;
  enum cpool__sse_result result = empty ? end_event(sse, event) : end_field(sse);
  sse->place = CPOOL__SSE_NAME;
  sse->name_len = 0;
  sse->line_len = 0;
  return result;
}

/* Whether the first bytes are the mark that is to be skipped; those that only looked like it are part of a name. */
static void skip_mark(struct cpool__sse *sse, const char **in, size_t *len)
{
  while (*len > 0 && sse->bom_len < sizeof MARK && (unsigned char) **in == MARK[sse->bom_len]) {
    sse->bom_len++;
    (*in)++;
    (*len)--;
  }
  if (sse->bom_len < sizeof MARK && *len == 0)
    return;
  if (sse->bom_len < sizeof MARK) {
    name_bytes(sse, (const char *) MARK, sse->bom_len);
    sse->line_len = sse->bom_len;
  }
  sse->place = CPOOL__SSE_NAME;
}

/* Bytes of one line without its end, at least one. Takes those of one place. */
static enum cpool__sse_result line_bytes(struct cpool__sse *sse, const char *bytes, size_t len, size_t *taken)
{
  const char *colon;
  *taken = len;
  switch (sse->place) {
  case CPOOL__SSE_NAME:
    colon = memchr(bytes, ':', len);
    name_bytes(sse, bytes, colon != NULL ? (size_t) (colon - bytes) : len);
    if (colon == NULL)
      return CPOOL__SSE_MORE;
    begin_value(sse);
    sse->place = CPOOL__SSE_BLANK;
    *taken = (size_t) (colon - bytes) + 1;
    return CPOOL__SSE_MORE;
  case CPOOL__SSE_BLANK:
    sse->place = CPOOL__SSE_VALUE;
    *taken = bytes[0] == ' ' ? 1 : 0;
    return CPOOL__SSE_MORE;
  default:
    return value_bytes(sse, bytes, len);
  }
}

static void forget_event(struct cpool__sse *sse)
{
  sse->data.len = sse->type.len = 0;
  sse->has_data = sse->shown = false;
}

/* Up to the end of the line, or of what is there. */
static size_t span_of(const char *bytes, size_t len)
{
  size_t span = 0;
  while (span < len && bytes[span] != '\n' && bytes[span] != '\r')
    span++;
  return span;
}

enum cpool__sse_result cpool__sse_feed(struct cpool__sse *sse, const char **in, size_t *len,
                                       struct cpool__sse_text *event)
{
  enum cpool__sse_result result = CPOOL__SSE_MORE;
  if (sse->place == CPOOL__SSE_BOM)
    skip_mark(sse, in, len);
  while (*len > 0 && result == CPOOL__SSE_MORE) {
    if (sse->shown)
      forget_event(sse);
    size_t taken = 1;
    char byte = **in;
    if (byte == '\n' && sse->after_cr) {
      sse->after_cr = false;
    } else if (byte == '\n' || byte == '\r') {
      sse->after_cr = byte == '\r';
      result = end_line(sse, event);
    } else {
      size_t span = span_of(*in, *len);
      sse->after_cr = false;
      result = line_bytes(sse, *in, span, &taken);
      sse->line_len += taken;
      if (result == CPOOL__SSE_MORE && sse->line_len > sse->cap)
        result = CPOOL__SSE_OVER_CAP;
    }
    *in += taken;
    *len -= taken;
  }
  return result;
}

void cpool__sse_restart(struct cpool__sse *sse)
{
  forget_event(sse);
  sse->place = CPOOL__SSE_BOM;
  sse->after_cr = false;
  sse->name_len = sse->bom_len = 0;
  sse->line_len = 0;
  sse->new_id.len = 0;
  sse->id_set = false;
}

void cpool__sse_fini(struct cpool__sse *sse)
{
  cpool__buffer_fini(&sse->data);
  cpool__buffer_fini(&sse->type);
  cpool__buffer_fini(&sse->id);
  cpool__buffer_fini(&sse->last_id);
  cpool__buffer_fini(&sse->new_id);
}
