/* fetch_input: whole files, and the URLs in them */
#ifndef FETCH_INPUT_H
#define FETCH_INPUT_H

#include <stddef.h>

/* All bytes of a file, "-" for standard input, with a NUL behind them that *len does not count. NULL: errno tells why. */
char *fetch_read_all(const char *path, size_t *len);

struct fetch_list {
  char **items;
  size_t count, room;
};

/* Both give 0, or -1 when out of memory. The items stay the caller's. */
int fetch_list_add(struct fetch_list *list, char *item);
/* Cuts text into lines in place and adds those that are not blank, without blanks and CR at their ends. */
int fetch_list_add_lines(struct fetch_list *list, char *text, size_t len);

#endif
