/* storm: random work by many threads on several pools and hostile peers, with every request followed to its one end */
#ifndef CPOOL_SUPPORT_STORM_H
#define CPOOL_SUPPORT_STORM_H

#include <stdbool.h>
#include <stdint.h>

struct storm_options {
  uint64_t seed;
  int64_t requests;    /* accepted submits, about */
  int64_t deadline_ms; /* then the load stops early; what was accepted must still end */
};

/* What happened, then what must be 0. */
struct storm_result {
  int64_t accepted, refused, succeeded, failed, cancels, pools, sessions, reconfigures, snapshots, elapsed_ms;
  int64_t streams;        /* of HTTP/2, as the server counts them */
  int64_t by_status[128]; /* ended with CPOOL_OK - index */

  int64_t lost;       /* accepted, never ended */
  int64_t doubled;    /* ended again, or never accepted */
  int64_t wrong;      /* an answer to another question, another handle, a status that makes no sense */
  int64_t miscounted; /* snapshots whose numbers do not add up; pools whose totals are not those of their events */
  int64_t limits;     /* moments with more sockets than the limits allow */
  int64_t closes;     /* pools whose closed event came not once, or not in time */
  int64_t leaked_bytes, leaked_blocks, leaked_fds, leaked_threads;
  bool unfree;       /* a runtime or the queue stayed in use */
  char trouble[256]; /* the first of these in words; "" */
};

/* Must be the only user of the library meanwhile: it sets the allocator hook. */
void storm_run(const struct storm_options *options, struct storm_result *out);
/* One line per kind of trouble and of end, to stdout. */
void storm_print(const struct storm_result *result);
bool storm_clean(const struct storm_result *result);

/* "0x1234" or "99" from the command line or environment; NULL: from the clock. */
uint64_t storm_seed(const char *text);

#endif
