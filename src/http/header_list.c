/* header_list: nodes first, their lines behind them, all in one block */
#include "http/header_list.h"

#include <string.h>

/* Length of the name that a line in libcurl's notation begins with. */
static size_t line_name_len(const char *line)
{
  return strcspn(line, ":;");
}

static bool list_has_name(const struct cpool__header_list *list, const char *name, size_t len)
{
  for (size_t i = 0; list != NULL && i < list->count; i++) {
    const char *line = list->nodes[i].data;
    if (cpool__names_equal(line, line_name_len(line), name, len))
      return true;
  }
  return false;
}

size_t cpool__headers_size(const struct cpool__header_list *base, const cpool_header *headers, size_t count,
                           const char *const *extra, size_t extra_count)
{
  size_t nodes = (base == NULL ? 0 : base->count) + count + extra_count;
  size_t bytes = nodes * sizeof(struct curl_slist) + (base == NULL ? 0 : base->bytes);
  for (size_t i = 0; i < count; i++)
    bytes += strlen(headers[i].name) + strlen(headers[i].value) + 3; /* ": " and NUL */
  for (size_t i = 0; i < extra_count; i++)
    bytes += strlen(extra[i]) + 1;
  return bytes;
}

struct layout {
  struct cpool__header_list *list;
  char *at; /* where the next line's text goes */
};

/* Adds "left" "between" "right" as one line. */
static void add_line(struct layout *layout, const char *left, size_t left_len, const char *between, const char *right,
                     size_t right_len)
{
  struct cpool__header_list *list = layout->list;
  size_t between_len = strlen(between), len = left_len + between_len + right_len;
  memcpy(layout->at, left, left_len);
  memcpy(layout->at + left_len, between, between_len);
  memcpy(layout->at + left_len + between_len, right, right_len);
  layout->at[len] = '\0';
  list->nodes[list->count] = (struct curl_slist){.data = layout->at};
  if (list->count > 0)
    list->nodes[list->count - 1].next = &list->nodes[list->count];
  list->count++;
  list->bytes += len + 2;
  layout->at += len + 1;
}

void cpool__headers_build(struct cpool__header_list *out, void *memory, const struct cpool__header_list *base,
                          const cpool_header *headers, size_t count, const char *const *extra, size_t extra_count)
{
  size_t nodes = (base == NULL ? 0 : base->count) + count + extra_count;
  *out = (struct cpool__header_list){.nodes = memory};
  struct layout layout = {out, (char *) memory + nodes * sizeof(struct curl_slist)};
  for (size_t i = 0; base != NULL && i < base->count; i++) {
    const char *line = base->nodes[i].data;
    if (!cpool__headers_find_span(headers, count, line, line_name_len(line)))
      add_line(&layout, line, strlen(line), "", "", 0);
  }
  for (size_t i = 0; i < count; i++) {
    const char *value = headers[i].value;
    value += strspn(value, " \t"); /* libcurl takes a value of blanks for none, which would suppress the header */
    size_t name_len = strlen(headers[i].name), value_len = strlen(value);
    add_line(&layout, headers[i].name, name_len, value_len == 0 ? ";" : ": ", value, value_len);
  }
  for (size_t i = 0; i < extra_count; i++) {
    size_t name_len = line_name_len(extra[i]);
    if (!cpool__headers_find_span(headers, count, extra[i], name_len) && !list_has_name(base, extra[i], name_len))
      add_line(&layout, extra[i], strlen(extra[i]), "", "", 0);
  }
  if (out->count == 0)
    out->nodes = NULL;
}
