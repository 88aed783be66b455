/* redial: whether a dialled connection is dialled again, and when. Time and chance are arguments. */
#ifndef CPOOL_WS_REDIAL_H
#define CPOOL_WS_REDIAL_H

#include <stdbool.h>
#include <stdint.h>

enum { CPOOL__REDIAL_STOPS = 16, CPOOL__REDIAL_NEVER = -1 };

struct cpool__redial {
  int64_t base_ms, most_ms, stable_ms; /* base_ms CPOOL_OFF: never */
  int32_t max_attempts;                /* CPOOL_OFF: any number */
  int32_t ends;                        /* since a connection was stable: so often the delay has doubled */
  int32_t failures;                    /* dials in a row that opened nothing */
  int stop_count;
  struct {
    uint16_t from, to;
  } stops[CPOOL__REDIAL_STOPS]; /* close codes */
};

/* "1000, 4000-4999"; "" is none, NULL what it is by default. CPOOL_OK or CPOOL_EINVAL (recorded). */
int cpool__redial_stops(struct cpool__redial *redial, const char *text);
bool cpool__redial_stops_at(const struct cpool__redial *redial, int close_code);
/* A status that refuses the upgrade for good. */
bool cpool__redial_refused(int http_status);
/* One that may pass; the dial, which has failed, is not counted yet. */
bool cpool__redial_again(const struct cpool__redial *redial, bool opened);
/* A connection has ended that was open for so long, or (negative) a dial. From now until the next, and not before
 * at_least_ms. */
int64_t cpool__redial_next(struct cpool__redial *redial, int64_t open_ms, int64_t at_least_ms, uint64_t chance);

#endif
