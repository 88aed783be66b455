/* fetch_file: the body of an answer as a file, which has its name only when it is complete */
#ifndef FETCH_FILE_H
#define FETCH_FILE_H

#include <stddef.h>

struct fetch_file {
  int fd;     /* -1: none */
  char *name; /* where it goes in the end; NULL: written in place (a pipe, a device, standard output) */
  char *part; /* what it is called until then */
};

/* "-" is standard output; what is printed there afterwards goes to standard error. A regular file is written beside the
 * name and takes it with fetch_file_keep: one of that name stays as it is until then. -1: errno tells why. */
int fetch_file_open(struct fetch_file *file, const char *name);
int fetch_file_write(struct fetch_file *file, const void *data, size_t len);
int fetch_file_keep(struct fetch_file *file);
/* Leaves nothing behind, unless it was kept. {-1, NULL, NULL} is legal. */
void fetch_file_drop(struct fetch_file *file);

#endif
