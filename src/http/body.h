/* body: what becomes of the bytes of an answer's body: decoded if asked for, then streamed, collected, or let go */
#ifndef CPOOL_HTTP_BODY_H
#define CPOOL_HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>

struct cpool__request;
struct cpool__transfer;

/* The head is complete, and its body is for the caller. False: the transfer was given up. */
bool cpool__body_begin(struct cpool__transfer *transfer);
/* The next bytes as libcurl gives them; returns what its write callback is to return: also to pause. */
size_t cpool__body_take(struct cpool__transfer *transfer, const char *data, size_t len);
/* The answer is over: was it all of its coded body? Why not, or NULL. */
const char *cpool__body_end_fault(const struct cpool__request *req);
/* The request ends, or begins anew. */
void cpool__body_forget(struct cpool__request *req);

#endif
