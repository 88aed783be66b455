/* fetch_input: whole files, and the URLs in them */
#include "fetch_input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *fetch_read_all(const char *path, size_t *len)
{
  FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
  size_t room = 4096;
  char *data = NULL;
  int error = 0;
  if (file == NULL)
    return NULL;
  *len = 0;
  for (;;) {
    char *grown = realloc(data, room);
    if (grown == NULL) {
      error = ENOMEM;
      break;
    }
    data = grown;
    *len += fread(data + *len, 1, room - 1 - *len, file);
    if (ferror(file) != 0) { /* a directory opens, and fails here */
      error = errno;
      break;
    }
    if (feof(file) != 0)
      break;
    room *= 2;
  }
  if (file != stdin)
    fclose(file);
  if (error != 0) {
    free(data);
    errno = error;
    return NULL;
  }
  data[*len] = '\0';
  return data;
}

int fetch_list_add(struct fetch_list *list, char *item)
{
  if (list->count == list->room) {
    size_t room = list->room != 0 ? list->room * 2 : 64;
    char **grown = realloc(list->items, room * sizeof *grown);
    if (grown == NULL)
      return -1;
    list->items = grown;
    list->room = room;
  }
  list->items[list->count++] = item;
  return 0;
}

static int is_blank(char c)
{
  return c == ' ' || c == '\t' || c == '\r';
}

int fetch_list_add_lines(struct fetch_list *list, char *text, size_t len)
{
  for (char *line = text, *end = text + len; line < end;) {
    char *stop = memchr(line, '\n', (size_t) (end - line));
    char *next = stop != NULL ? stop + 1 : end;
    char *last = stop != NULL ? stop : end;
    while (line < last && is_blank(*line))
      line++;
    while (last > line && is_blank(last[-1]))
      last--;
    /* A NUL would cut the URL to another one; as a control byte the library refuses it. */
    for (char *at = line; (at = memchr(at, '\0', (size_t) (last - at))) != NULL;)
      *at = '\1';
    *last = '\0';
    if (line < last && fetch_list_add(list, line) != 0)
      return -1;
    line = next;
  }
  return 0;
}
