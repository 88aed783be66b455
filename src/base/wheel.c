/* wheel: six rings of 64 slots; a timer sinks from ring to ring as its time comes near
 *
 * Read times as numbers in base 64. A timer lies on the level of the highest digit in which its time differs from
 * now, in the slot of that digit:
 *
 *   level   0       1       2        3         4         5
 *   slot    1 ms    64 ms   4.1 s    4.4 min   4.7 h     12.4 days
 *   ring    64 ms   4.1 s   4.4 min  4.7 h     12.4 d    2.2 years
 *
 * Hence all timers of one level are due before any of a higher one, and on a level below the top all occupied slots
 * lie after the digit of now. Only the top ring wraps: the slot of now's own digit is there the one furthest away.
 *
 * Advancing jumps from one occupied slot to the next, whatever lies between costs nothing: at the start of a slot of
 * level 0 its timers are due, at the start of a higher one its timers are placed anew, each lower than before. Timers
 * of one millisecond stay in the order in which they were armed, since a slot sinks before anything can be armed below
 * it.
 *
 * What is due is collected first and called after, so that the functions meet a wheel at rest. Timers that are armed
 * for a time already past wait in `overdue`, apart from `expired`, which is being emptied: a function that arms
 * itself again without delay does not hold the loop. */
#include "base/wheel.h"

#include <assert.h>
#include <stddef.h>

enum { SLOT_MASK = CPOOL__WHEEL_SLOTS - 1, TOP = CPOOL__WHEEL_LEVELS - 1, NO_SLOT = UINT16_MAX };

static const uint64_t SPAN_MS = UINT64_C(1) << (CPOOL__WHEEL_BITS * CPOOL__WHEEL_LEVELS);

void cpool__wheel_init(struct cpool__wheel *wheel, uint64_t now_ms)
{
  wheel->now_ms = now_ms;
  wheel->advancing = false;
  for (int level = 0; level < CPOOL__WHEEL_LEVELS; level++) {
    wheel->occupied[level] = 0;
    for (int slot = 0; slot < CPOOL__WHEEL_SLOTS; slot++)
      cpool__list_init(&wheel->slots[level][slot]);
  }
  cpool__list_init(&wheel->expired);
  cpool__list_init(&wheel->overdue);
}

/* For a time after now. */
static void place(struct cpool__wheel *wheel, struct cpool__timer *timer)
{
  assert(timer->due_ms > wheel->now_ms && timer->due_ms - wheel->now_ms < SPAN_MS);
  unsigned highest_bit = 63u - (unsigned) __builtin_clzll(timer->due_ms ^ wheel->now_ms);
  unsigned level = highest_bit / CPOOL__WHEEL_BITS;
  if (level > TOP) /* the ring's end lies between now and then */
    level = TOP;
  unsigned slot = (unsigned) (timer->due_ms >> (CPOOL__WHEEL_BITS * level)) & SLOT_MASK;
  timer->slot = (uint16_t) (level * CPOOL__WHEEL_SLOTS + slot);
  wheel->occupied[level] |= UINT64_C(1) << slot;
  cpool__list_push_back(&wheel->slots[level][slot], &timer->link);
}

void cpool__wheel_arm(struct cpool__wheel *wheel, struct cpool__timer *timer, uint64_t due_ms, cpool__timer_fn *fn)
{
  assert(fn != NULL);
  cpool__wheel_cancel(wheel, timer);
  timer->fn = fn;
  if (due_ms <= wheel->now_ms) {
    timer->due_ms = due_ms;
    timer->slot = NO_SLOT;
    cpool__list_push_back(&wheel->overdue, &timer->link);
    return;
  }
  timer->due_ms = due_ms - wheel->now_ms < SPAN_MS ? due_ms : wheel->now_ms + (SPAN_MS - 1);
  place(wheel, timer);
}

void cpool__wheel_cancel(struct cpool__wheel *wheel, struct cpool__timer *timer)
{
  if (!cpool__timer_armed(timer))
    return;
  cpool__link_remove(&timer->link);
  if (timer->slot == NO_SLOT)
    return;
  unsigned level = timer->slot / CPOOL__WHEEL_SLOTS, slot = timer->slot % CPOOL__WHEEL_SLOTS;
  if (cpool__list_empty(&wheel->slots[level][slot]))
    wheel->occupied[level] &= ~(UINT64_C(1) << slot);
}

/* The occupied slot that starts first: its level, and its start time in `*start_ms`; -1 when the wheel is empty. */
static int first_slot(const struct cpool__wheel *wheel, uint64_t *start_ms)
{
  for (int level = 0; level < CPOOL__WHEEL_LEVELS; level++) {
    uint64_t occupied = wheel->occupied[level];
    if (occupied == 0)
      continue;
    /* Turned so that bit 0 is the slot after now's: its index is then the distance in slots, less one. */
    int shift = CPOOL__WHEEL_BITS * level;
    uint64_t now_slot = wheel->now_ms >> shift;
    unsigned turn = (unsigned) (now_slot + 1) & SLOT_MASK;
    uint64_t turned = turn == 0 ? occupied : occupied >> turn | occupied << (CPOOL__WHEEL_SLOTS - turn);
    *start_ms = (now_slot + 1 + (unsigned) __builtin_ctzll(turned)) << shift;
    return level;
  }
  return -1;
}

/* Empties the slot of this level that starts now. */
static void open_slot(struct cpool__wheel *wheel, int level)
{
  unsigned slot = (unsigned) (wheel->now_ms >> (CPOOL__WHEEL_BITS * level)) & SLOT_MASK;
  struct cpool__list *list = &wheel->slots[level][slot];
  wheel->occupied[level] &= ~(UINT64_C(1) << slot);
  struct cpool__link *link;
  while ((link = cpool__list_pop_front(list)) != NULL) {
    struct cpool__timer *timer = cpool__container_of(link, struct cpool__timer, link);
    if (timer->due_ms > wheel->now_ms) {
      place(wheel, timer);
    } else {
      timer->slot = NO_SLOT;
      cpool__list_push_back(&wheel->expired, &timer->link);
    }
  }
}

uint32_t cpool__wheel_advance(struct cpool__wheel *wheel, uint64_t now_ms)
{
  assert(!wheel->advancing && "a timer's function must not advance the wheel that calls it");
  if (now_ms < wheel->now_ms)
    return 0;
  wheel->advancing = true;

  cpool__list_splice(&wheel->expired, &wheel->overdue);
  uint64_t start_ms;
  int level;
  while ((level = first_slot(wheel, &start_ms)) >= 0 && start_ms <= now_ms) {
    wheel->now_ms = start_ms;
    open_slot(wheel, level);
  }
  wheel->now_ms = now_ms;

  uint32_t fired_count = 0;
  struct cpool__link *link;
  while ((link = cpool__list_pop_front(&wheel->expired)) != NULL) {
    struct cpool__timer *timer = cpool__container_of(link, struct cpool__timer, link);
    fired_count++;
    timer->fn(timer); /* may free the timer */
  }
  wheel->advancing = false;
  return fired_count;
}

uint64_t cpool__wheel_next(const struct cpool__wheel *wheel)
{
  if (!cpool__list_empty(&wheel->overdue) || !cpool__list_empty(&wheel->expired))
    return wheel->now_ms;
  uint64_t start_ms;
  return first_slot(wheel, &start_ms) >= 0 ? start_ms : UINT64_MAX;
}
