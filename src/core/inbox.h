/* inbox: messages from any thread to a loop; lock-free, first in first out per sender, one wake-up per batch */
#ifndef CPOOL_CORE_INBOX_H
#define CPOOL_CORE_INBOX_H

#include <stdatomic.h>
#include <stdbool.h>

struct cpool__msg;
typedef void cpool__msg_fn(struct cpool__msg *msg); /* loop thread; may free the message */

struct cpool__msg {
  struct cpool__msg *next;
  cpool__msg_fn *fn;
};

/* A zeroed struct is an empty inbox. */
struct cpool__inbox {
  _Atomic(struct cpool__msg *) head; /* newest first */
};

/* Any thread. True when the inbox was empty: the caller wakes the loop. The message belongs to the loop from now on. */
bool cpool__inbox_push(struct cpool__inbox *inbox, struct cpool__msg *msg);
/* Any thread; another thread's push may be a moment old before it shows. */
bool cpool__inbox_empty(const struct cpool__inbox *inbox);
/* Loop thread: takes all, oldest first; NULL when there is none. */
struct cpool__msg *cpool__inbox_take(struct cpool__inbox *inbox);

#endif
