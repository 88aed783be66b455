/* wheel: millisecond timers, O(1) to arm and cancel (hashed hierarchical wheel); time is an argument, not read here */
#ifndef CPOOL_BASE_WHEEL_H
#define CPOOL_BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

enum { CPOOL__WHEEL_BITS = 6, CPOOL__WHEEL_SLOTS = 1 << CPOOL__WHEEL_BITS, CPOOL__WHEEL_LEVELS = 6 };

struct cpool__timer;
typedef void cpool__timer_fn(struct cpool__timer *timer);

struct cpool__timer {
  struct cpool__link link;
  uint64_t due_ms;
  cpool__timer_fn *fn;
  uint16_t slot; /* level * slots + slot, to clear the occupancy bit; UINT16_MAX in expired and overdue */
};

struct cpool__wheel {
  uint64_t now_ms; /* of the last advance; also what the functions see */
  bool advancing;
  uint64_t occupied[CPOOL__WHEEL_LEVELS];
  struct cpool__list slots[CPOOL__WHEEL_LEVELS][CPOOL__WHEEL_SLOTS];
  struct cpool__list expired; /* due, their functions not called yet */
  struct cpool__list overdue; /* armed for a time already past: called by the next advance */
};

void cpool__wheel_init(struct cpool__wheel *wheel, uint64_t now_ms);
/* A timer must be zeroed before its first use. */
static inline bool cpool__timer_armed(const struct cpool__timer *timer)
{
  return cpool__link_in(&timer->link);
}
/* Arms, or moves an armed one. A time already past fires at the next advance, be it one to the same millisecond; one
 * beyond the span (2^36 ms) is cut to it. */
void cpool__wheel_arm(struct cpool__wheel *wheel, struct cpool__timer *timer, uint64_t due_ms, cpool__timer_fn *fn);
/* Harmless when not armed. */
void cpool__wheel_cancel(struct cpool__wheel *wheel, struct cpool__timer *timer);
/* Calls the function of each timer due at `now_ms`, never before its time, each disarmed first, so that it may be armed
 * again or freed; the functions may arm and cancel any timer, also those that are due now, but not advance. What they
 * arm for the past fires at the next advance. In order of time, and of arming where the times are equal; those that
 * were already past when armed come first, in order of arming. A `now_ms` before the last one does nothing. Returns how
 * many fired. */
uint32_t cpool__wheel_advance(struct cpool__wheel *wheel, uint64_t now_ms);
/* When to advance next: UINT64_MAX when none is armed; the time of the last advance when a timer is due already; else
 * later than that and not later than the earliest timer. It may then be earlier than any (a cascade): advancing to it
 * is cheap and makes progress. O(levels). */
uint64_t cpool__wheel_next(const struct cpool__wheel *wheel);

#endif
