/* brake: a request whose consumer has enough stops reading: it waits at the marks of its queue, its stream or the pool.
 * Loop thread. */
#ifndef CPOOL_HTTP_BRAKE_H
#define CPOOL_HTTP_BRAKE_H

#include <stdbool.h>

struct cpool__request;
struct cpool__transfer;

/* Who holds it back; none but one at a time. */
enum cpool__brake { CPOOL__BRAKE_OFF, CPOOL__BRAKE_QUEUE, CPOOL__BRAKE_STREAM, CPOOL__BRAKE_POOL };

/* Before a piece of the body is taken: true when it must wait. The transfer is paused then, and resumes by itself. */
bool cpool__brake_check(struct cpool__transfer *transfer);
/* The transfer of the request ends, or goes on. */
void cpool__brake_off(struct cpool__request *req);
void cpool__brake_init(struct cpool__request *req);

#endif
