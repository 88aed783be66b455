/* peers: what is known of each address and port that is dialled: how many connections there are, and whether a connect
 * failed lately. New connections go where there are fewest, and to failed ones last. Time is an argument. Loop thread. */
#ifndef CPOOL_DNS_PEERS_H
#define CPOOL_DNS_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/table.h"
#include "dns/address.h"

enum {
  CPOOL__PEERS_AVOID_MS = 30000, /* how long a failed connect counts */
  CPOOL__PEERS_AVOIDED = 1024    /* failures remembered; the oldest are forgotten first */
};

struct cpool__peer;

struct cpool__peers {
  struct cpool__table table;
  struct cpool__list failed; /* oldest failure first */
  int failed_count;
};

/* Less is better. */
struct cpool__peer_rank {
  bool failed;
  int open_count;
};

void cpool__peers_init(struct cpool__peers *peers);
void cpool__peers_fini(struct cpool__peers *peers);
/* A connection, or an attempt at one, begins; it ends with close. NULL: no memory, it is not counted. */
struct cpool__peer *cpool__peers_open(struct cpool__peers *peers, const struct cpool__address *address);
void cpool__peers_close(struct cpool__peers *peers, struct cpool__peer *peer); /* NULL is legal */
/* A connect failed, or was much slower than others. Without memory it is not remembered. */
void cpool__peers_failed(struct cpool__peers *peers, const struct cpool__address *address, uint64_t now_ms);
void cpool__peers_worked(struct cpool__peers *peers, const struct cpool__address *address);
struct cpool__peer_rank cpool__peers_rank(struct cpool__peers *peers, const struct cpool__address *address,
                                          uint64_t now_ms);
static inline bool cpool__peer_better(struct cpool__peer_rank a, struct cpool__peer_rank b)
{
  return a.failed != b.failed ? b.failed : a.open_count < b.open_count;
}

#endif
