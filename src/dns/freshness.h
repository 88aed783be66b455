/* freshness: how long an answer is good, when it is asked for again, and how long it may stand in for one that cannot
 * be had. Times in, decisions out.
 *
 *        answered             ask again      expires              expires + stale
 *   ---------|--------------------|-------------|----------------------|------------>
 *                    fresh: served              | stale: served while the servers fail | over
 *
 * Asking again begins at about four fifths of the life, at random within a tenth of it, so that names learned together
 * are not asked for together. A try that fails is followed by the next after 1, 2, 4 .. 30 s. */
#ifndef CPOOL_DNS_FRESHNESS_H
#define CPOOL_DNS_FRESHNESS_H

#include <stdbool.h>
#include <stdint.h>

enum {
  CPOOL__FRESHNESS_AHEAD_MS = 1000, /* an answer with a shorter life is not asked for ahead of its end */
  CPOOL__FRESHNESS_RETRY_MS = 1000,
  CPOOL__FRESHNESS_RETRY_MAX_MS = 30000
};

struct cpool__freshness {
  uint64_t answered_ms, expires_ms;
  uint64_t ask_ms;       /* no need to ask again before */
  uint32_t failed_count; /* tries in a row */
};

enum cpool__freshness_state { CPOOL__FRESH, CPOOL__STALE, CPOOL__OVER };

/* `random` is any 64-bit random number. */
void cpool__freshness_answered(struct cpool__freshness *fresh, uint64_t now_ms, int64_t ttl_ms, uint64_t random);
/* A try to replace it failed, or takes so long that nobody should wait for it. */
void cpool__freshness_failed(struct cpool__freshness *fresh, uint64_t now_ms);
/* stale_ms: 0 or less: never stale. */
enum cpool__freshness_state cpool__freshness_at(const struct cpool__freshness *fresh, uint64_t now_ms,
                                                int64_t stale_ms);
/* It is time to ask again. */
bool cpool__freshness_due(const struct cpool__freshness *fresh, uint64_t now_ms);
/* The last try failed, and not long ago: whoever needs the answer does not wait for the next. */
bool cpool__freshness_failing(const struct cpool__freshness *fresh, uint64_t now_ms);

#endif
