/* poller: one epoll set per loop; interest is noted at once and applied once per turn, so that an fd whose interest
 * flips within a turn costs no system call. Level-triggered. Loop thread only. */
#ifndef CPOOL_CORE_POLLER_H
#define CPOOL_CORE_POLLER_H

#include <stddef.h>
#include <stdint.h>

/* `events` are EPOLL* bits. The function may watch, want and forget any fd. */
typedef void cpool__poller_fn(void *owner, int fd, uint32_t events);

struct cpool__poller_record {
  cpool__poller_fn *fn; /* NULL: not watched */
  void *owner;
  uint32_t want, have; /* have: what the epoll set holds; 0: not in it */
  uint32_t generation; /* travels with each event: events of an fd's earlier life are dropped */
  int32_t next_dirty;  /* fd of the next changed record, -1: last, -2: not in the list */
};

struct cpool__poller {
  int epoll_fd;
  struct cpool__poller_record *records; /* by fd */
  int capacity, first_dirty;
};

int cpool__poller_init(struct cpool__poller *poller); /* CPOOL_OK or CPOOL_ESYSTEM */
void cpool__poller_fini(struct cpool__poller *poller);
/* Begins to watch, or gives a watched fd a new function and owner. `want` 0 is legal: noted, not in the set.
 * CPOOL_OK or CPOOL_ENOMEM. */
int cpool__poller_watch(struct cpool__poller *poller, int fd, uint32_t want, cpool__poller_fn *fn, void *owner);
/* Changes the interest of a watched fd; harmless for another one. 0 takes it out of the set (HUP and ERR cannot be
 * masked otherwise). */
void cpool__poller_want(struct cpool__poller *poller, int fd, uint32_t want);
/* Before the fd is closed: out of the set at once, events on their way are dropped. Harmless when not watched. */
void cpool__poller_forget(struct cpool__poller *poller, int fd);
/* Applies the noted changes. ENOENT on a change adds, EEXIST on an addition changes, EBADF and EPERM forget; a change
 * that fails for want of memory or watches is tried again by the next apply. */
void cpool__poller_apply(struct cpool__poller *poller);
/* Fetches what is ready without waiting and calls the functions, for what is wanted at that moment. Returns the number
 * of events fetched, dropped ones included. */
int cpool__poller_poll(struct cpool__poller *poller);

#endif
