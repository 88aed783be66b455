/* hop: one redirect that is followed: a request leaves the host that answered and waits at the next one, as a new one
 * would. Loop thread, but for what a response tells of it. */
#ifndef CPOOL_HTTP_HOP_H
#define CPOOL_HTTP_HOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpool__request;

/* Made when a redirect is followed, kept as long as the response. Header nodes, URL and target lie behind it. */
struct cpool__hop {
  struct cpool__hop *earlier; /* NULL: this was the first */
  const char *from_url;       /* whose answer led here: the earlier one's URL, or the request's own */
  uint64_t from_print;        /* of method, origin and target there */
  int32_t from_status;        /* 301 ... */
  int32_t number;             /* from 1 */
  size_t bytes;               /* of this block */
};

/* The answer's head is complete, and the request goes on from it or ends with CPOOL_EREDIRECT: nobody waits for its
 * body. */
bool cpool__hop_due(const struct cpool__request *req);
/* The answer that is due has ended: on to the next host, or to the end. */
void cpool__hop_follow(struct cpool__request *req);
size_t cpool__hops_bytes(const struct cpool__hop *last); /* NULL is legal, here and below */
void cpool__hops_free(struct cpool__hop *last);

#endif
