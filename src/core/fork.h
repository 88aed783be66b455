/* fork: tells without a system call whether an object still lives in the process that made it */
#ifndef CPOOL_CORE_FORK_H
#define CPOOL_CORE_FORK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* `page` is a mapping that the kernel zeroes in every forked child. Where it cannot be had (old kernel, no memory)
 * it is NULL and the process id is compared instead, at the price of a system call. */
struct cpool__fork_mark {
  volatile uint32_t *page;
  pid_t pid; /* for page NULL */
};

/* Never fails. */
void cpool__fork_mark_init(struct cpool__fork_mark *mark);
/* Also legal in a child, where it ends only the child's copy. */
void cpool__fork_mark_fini(struct cpool__fork_mark *mark);
/* Any thread, from init until fini. False in every forked child, however deep. A child of vfork or clone(CLONE_VM)
 * shares its parent's memory and counts as the parent. */
bool cpool__fork_mark_same_process(const struct cpool__fork_mark *mark);

#endif
