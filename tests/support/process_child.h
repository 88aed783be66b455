/* process_child: what the starters of the single servers share */
#ifndef CPOOL_SUPPORT_PROCESS_CHILD_H
#define CPOOL_SUPPORT_PROCESS_CHILD_H

#include "support/process.h"

#include <poll.h>
#include <stddef.h>

enum { PROCESS_PATH_BYTES = 512, PROCESS_TRIES = 5 };

struct process {
  pid_t pid; /* -1: not started */
  int pid_fd;
  char *dir;
  uint16_t port, tls_port; /* tls_port 0: none */
  char unix_path[108];     /* "": none */
};

/* With its directory, not yet running. */
struct process *process_new(void);
void process_write(const struct process *process, const char *name, const char *data, size_t len);

/* `argv` ends with NULL. True once all its listeners accept; false after printing why. */
bool process_run(struct process *process, const char *const *argv);

#endif
