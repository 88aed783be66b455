/* board: what other threads may read of the names that a resolver knows. The loop takes its lock when a name comes, goes
 * or gets another answer, not when one is looked up. */
#ifndef CPOOL_DNS_BOARD_H
#define CPOOL_DNS_BOARD_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <cpool.h>

#include "base/list.h"

struct cpool__dns_name;

struct cpool__dns_board {
  pthread_mutex_t lock;
  struct cpool__list names; /* by number, ascending */
  uint64_t last_number;
};

void cpool__dns_board_init(struct cpool__dns_board *board);
void cpool__dns_board_fini(struct cpool__dns_board *board);
/* Loop thread. */
void cpool__dns_board_add(struct cpool__dns_board *board, struct cpool__dns_name *name);
void cpool__dns_board_remove(struct cpool__dns_board *board, struct cpool__dns_name *name);
/* Any thread: newest first, those below *cursor (0: all). */
int32_t cpool__dns_board_read(struct cpool__dns_board *board, uint64_t *cursor, void *rows, size_t row_size,
                              int32_t max, uint64_t now_ms, int64_t stale_ms);

#endif
