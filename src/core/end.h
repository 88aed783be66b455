/* end: the closed event of a pool or manager, and those who wait for it; may outlive it */
#ifndef CPOOL_CORE_END_H
#define CPOOL_CORE_END_H

#include <cpool.h>

struct cpool__end;

/* Of its owner. */
enum cpool__end_state {
  CPOOL__END_OPEN,
  CPOOL__END_CLOSED,
  CPOOL__END_FREED /* before it was closed: it frees itself */
};

/* With two references: its owner's, and the event's. NULL: out of memory. */
struct cpool__end *cpool__end_new(void);
void cpool__end_unref(struct cpool__end *end);
/* Where the event goes: a queue, which is held from now on, a callback, or, both NULL, nowhere. */
void cpool__end_sink(struct cpool__end *end, int kind, cpool_queue *queue, cpool_event_fn *fn, void *user);
/* Loop thread: hands the event over, and lets the waiting go on; in its callback the owner may free itself. */
void cpool__end_deliver(struct cpool__end *end);
void cpool__end_skip(struct cpool__end *end); /* instead: there is nobody to hear of it */
/* Any thread that may wait, with a reference. */
void cpool__end_wait(struct cpool__end *end, cpool_runtime *rt);

#endif
