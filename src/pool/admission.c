/* admission: every waiter with its origin, every origin in the list that says what it waits for
 *
 *            wait, idle, close                       own limit binds, no own place idle; no waiter
 *   QUIET ----------------------> READY --------------------------------------------------> QUIET
 *                                 ^   |  no room, no idle place to evict, or too many sockets closing
 *                    idle, close  |   v
 *                           STARVED, HUNGRY
 *
 * cpool__admission_next looks at one origin after the other until one yields a decision:
 *
 *   1. the starved, oldest first, if there is room: they have the least, and waited for it
 *   2. the ready, in turns of one waiter each
 *   3. the starved, then the hungry, if there is room or an idle place that none of the ready wants
 *
 * Step 3 is why no wake-up is lost: parked origins need no event of their own, they are looked at whenever the last
 * ready one is gone and anything is left to give. Why it ends: a look either yields a decision or moves the origin out
 * of READY or of the parked lists, and in step 3 it parks nobody again. Hence the cost of a look is paid by the event
 * that made the origin ready, or by the one look that parked it.
 *
 * What a parked origin may rely on: no place of its first waiter's group is idle, since whatever changes that makes the
 * origin ready. */
#include "pool/admission.h"

#include <assert.h>
#include <stddef.h>

#include "pool/stock.h"

static struct cpool__origin_policy *first_origin(const struct cpool__list *list)
{
  struct cpool__link *link = cpool__list_first(list);
  return link == NULL ? NULL : cpool__container_of(link, struct cpool__origin_policy, link);
}

static struct cpool__waiter *first_waiter(const struct cpool__origin_policy *origin)
{
  struct cpool__link *link = cpool__list_first(&origin->waiters);
  return link == NULL ? NULL : cpool__container_of(link, struct cpool__waiter, link);
}

/* To the end of the state's list, also when it is in it. */
static void move(struct cpool__admission *adm, struct cpool__origin_policy *origin, enum cpool__origin_state to)
{
  struct cpool__list *const lists[] = {[CPOOL__ORIGIN_QUIET] = NULL,
                                       [CPOOL__ORIGIN_READY] = &adm->ready,
                                       [CPOOL__ORIGIN_STARVED] = &adm->starved,
                                       [CPOOL__ORIGIN_HUNGRY] = &adm->hungry};
  assert(to != CPOOL__ORIGIN_STARVED || origin->place_count == 0);
  assert(to == CPOOL__ORIGIN_QUIET || to == CPOOL__ORIGIN_READY || origin->waiting_count > 0);
  cpool__link_remove(&origin->link);
  origin->state = to;
  if (lists[to] != NULL)
    cpool__list_push_back(lists[to], &origin->link);
}

static void move_to_front(struct cpool__admission *adm, struct cpool__origin_policy *origin)
{
  cpool__link_remove(&origin->link);
  origin->state = CPOOL__ORIGIN_READY;
  assert(adm->ready.head.next->prev != NULL); /* a ring; static analysis does not see it */
  cpool__list_push_front(&adm->ready, &origin->link);
}

static void park(struct cpool__admission *adm, struct cpool__origin_policy *origin)
{
  move(adm, origin, origin->place_count == 0 ? CPOOL__ORIGIN_STARVED : CPOOL__ORIGIN_HUNGRY);
}

static bool has_surplus(const struct cpool__origin_policy *origin)
{
  return origin->place_count > origin->limit && origin->idle_count > 0;
}

/* After a change that may let the origin go on: a surplus goes before anything else. */
static void rouse(struct cpool__admission *adm, struct cpool__origin_policy *origin)
{
  if (has_surplus(origin))
    move_to_front(adm, origin);
  else if (origin->waiting_count == 0)
    move(adm, origin, CPOOL__ORIGIN_QUIET);
  else if (origin->state != CPOOL__ORIGIN_READY)
    move(adm, origin, CPOOL__ORIGIN_READY);
}

void cpool__admission_init(struct cpool__admission *adm, int32_t limit, int32_t closing_limit)
{
  assert(limit > 0 && closing_limit > 0);
  *adm = (struct cpool__admission){.limit = limit, .closing_limit = closing_limit};
  cpool__list_init(&adm->ready);
  cpool__list_init(&adm->starved);
  cpool__list_init(&adm->hungry);
  cpool__list_init(&adm->idle);
  cpool__list_init(&adm->short_of_stock);
}

void cpool__origin_policy_init(struct cpool__origin_policy *origin, int32_t limit)
{
  assert(limit > 0);
  *origin = (struct cpool__origin_policy){.limit = limit, .connecting_limit = INT32_MAX};
  cpool__list_init(&origin->waiters);
  cpool__list_init(&origin->idle);
}

void cpool__group_init(struct cpool__group *group, struct cpool__origin_policy *origin)
{
  *group = (struct cpool__group){.origin = origin};
  cpool__list_init(&group->idle);
}

/* ---- Waiters ---- */

/* In a long queue the next waiter's memory is cold, and its address stands in memory just as cold: one miss after the
 * other, several times what all else costs. So each waiter is told the address of one that comes well after it, to be
 * fetched when it is served itself. */
static void note_arrival(struct cpool__origin_policy *origin, struct cpool__waiter *waiter)
{
  struct cpool__waiter **latest = &origin->latest[origin->arrival_count++ % CPOOL__AHEAD];
  if (*latest != NULL)
    (*latest)->ahead = waiter;
  *latest = waiter;
}

/* Whoever has been told of another one is not among the latest any more. */
static void forget_arrival(struct cpool__origin_policy *origin, const struct cpool__waiter *waiter)
{
  for (uint32_t i = 1; waiter->ahead == NULL && i <= CPOOL__AHEAD; i++) {
    struct cpool__waiter **latest = &origin->latest[(origin->arrival_count - i) % CPOOL__AHEAD];
    if (*latest == waiter) {
      *latest = NULL;
      return;
    }
  }
}

static void fetch_ahead(const struct cpool__waiter *waiter)
{
  if (waiter->ahead == NULL)
    return;
  __builtin_prefetch(waiter->ahead, 1);
  __builtin_prefetch((const char *) waiter->ahead + sizeof *waiter - 1, 1); /* it may lie on two cache lines */
}

static void count_in(struct cpool__admission *adm, struct cpool__origin_policy *origin)
{
  if (origin->waiting_count == 0)
    adm->spare_count -= origin->idle_count;
  origin->waiting_count++;
  adm->waiting_count++;
}

static void take_out(struct cpool__admission *adm, struct cpool__waiter *waiter)
{
  struct cpool__origin_policy *origin = waiter->group->origin;
  forget_arrival(origin, waiter);
  cpool__link_remove(&waiter->link);
  adm->waiting_count--;
  origin->waiting_count--;
  if (origin->waiting_count == 0)
    adm->spare_count += origin->idle_count;
  cpool__stock_changed(adm, origin);
}

void cpool__admission_wait(struct cpool__admission *adm, struct cpool__waiter *waiter, struct cpool__group *group)
{
  struct cpool__origin_policy *origin = group->origin;
  assert(!cpool__link_in(&waiter->link));
  waiter->group = group;
  cpool__list_push_back(&origin->waiters, &waiter->link);
  waiter->ahead = NULL;
  origin->stock.group = group;
  note_arrival(origin, waiter);
  count_in(adm, origin);
  if (origin->waiting_count == 1)
    rouse(adm, origin);
}

void cpool__admission_wait_first(struct cpool__admission *adm, struct cpool__waiter *waiter, struct cpool__group *group)
{
  struct cpool__origin_policy *origin = group->origin;
  assert(!cpool__link_in(&waiter->link));
  waiter->group = group;
  cpool__list_push_front(&origin->waiters, &waiter->link);
  waiter->ahead = NULL;
  count_in(adm, origin);
  rouse(adm, origin); /* it may have use for what the one behind it had not */
}

void cpool__admission_leave(struct cpool__admission *adm, struct cpool__waiter *waiter)
{
  if (!cpool__link_in(&waiter->link))
    return;
  struct cpool__origin_policy *origin = waiter->group->origin;
  bool was_first = first_waiter(origin) == waiter;
  take_out(adm, waiter);
  /* A new first waiter may have use for a place that the old one had not. Without an idle place it has the same
   * prospects, and the origin keeps its turn. */
  if (origin->waiting_count == 0 ||
      (was_first && (origin->idle_count > 0 || origin->shared_count > 0 || waiter->group->multiplex)))
    rouse(adm, origin);
}

/* ---- Decisions ---- */

static const struct cpool__decision NONE = {.kind = CPOOL__DECISION_NONE};

static struct cpool__decision evict(struct cpool__link *lru_link)
{
  return (struct cpool__decision){.kind = CPOOL__DECISION_EVICT,
                                  .place = cpool__container_of(lru_link, struct cpool__place, lru_link)};
}

static struct cpool__decision evict_own(struct cpool__origin_policy *origin)
{
  struct cpool__link *link = cpool__list_first(&origin->idle);
  return evict(&cpool__container_of(link, struct cpool__place, own_link)->lru_link);
}

/* The first waiter of the origin goes on, on the place, or on one to be opened. */
static struct cpool__decision serve(struct cpool__admission *adm, struct cpool__origin_policy *origin,
                                    struct cpool__place *place)
{
  struct cpool__waiter *waiter = first_waiter(origin);
  assert((place != NULL && !place->raw) || origin->connecting_count < origin->connecting_limit);
  fetch_ahead(waiter);
  take_out(adm, waiter);
  if (place != NULL)
    cpool__place_busy(adm, place);
  move(adm, origin, origin->waiting_count > 0 ? CPOOL__ORIGIN_READY : CPOOL__ORIGIN_QUIET);
  return (struct cpool__decision){.kind = place != NULL ? CPOOL__DECISION_REUSE : CPOOL__DECISION_OPEN,
                                  .waiter = waiter,
                                  .place = place};
}

static bool closing_holds(const struct cpool__admission *adm)
{
  return adm->closing_count >= adm->closing_limit;
}

/* One connection finds out for all that wait whether it can carry several requests. */
static bool is_learning(const struct cpool__group *group)
{
  return group->multiplex && group->fresh_count > 0;
}

/* The first hungry origin, if it has at least two places fewer than `share`. If not, another one is asked next time:
 * the list is in order of parking, and the one with the fewest places may be anywhere in it. */
static struct cpool__origin_policy *hungrier(struct cpool__admission *adm, int32_t share)
{
  struct cpool__origin_policy *origin = first_origin(&adm->hungry);
  if (origin == NULL)
    return NULL;
  if (origin->place_count <= share - 2 && origin->place_count < origin->limit &&
      origin->connecting_count < origin->connecting_limit && !is_learning(first_waiter(origin)->group))
    return origin;
  move(adm, origin, CPOOL__ORIGIN_HUNGRY);
  return NULL;
}

/* Whether the origin, whose next waiter could use the idle place, has to give one up. Who gets it: a starved origin by
 * step 1 of cpool__admission_next, a hungry one by going to the front. */
static bool turn_is_over(struct cpool__admission *adm, const struct cpool__origin_policy *origin,
                         const struct cpool__place *place)
{
  if (adm->place_count < adm->limit || adm->spare_count > 0 || closing_holds(adm))
    return false;
  if (place->state == CPOOL__PLACE_SHARED) /* it has to run out first; what it carries at a time is one turn */
    return !cpool__list_empty(&adm->starved) &&
           place->turn_count >= (uint32_t) place->stream_limit * CPOOL__TURN_REQUESTS;
  if (!cpool__list_empty(&adm->starved))
    return origin->place_count >= 2 || place->turn_count >= (uint32_t) place->stream_limit * CPOOL__TURN_REQUESTS;
  struct cpool__origin_policy *due = hungrier(adm, origin->place_count);
  if (due != NULL)
    move_to_front(adm, due);
  return due != NULL;
}

/* NONE: nothing to do for this origin now, and it is where it belongs. */
static struct cpool__decision look(struct cpool__admission *adm, struct cpool__origin_policy *origin)
{
  if (has_surplus(origin))
    return evict_own(origin);
  if (origin->waiting_count == 0) { /* its surplus was put to use before it could be evicted */
    move(adm, origin, CPOOL__ORIGIN_QUIET);
    return NONE;
  }

  struct cpool__group *group = first_waiter(origin)->group;
  struct cpool__link *idle_link = cpool__list_first(&group->idle);
  bool connecting_limit_binds = origin->connecting_count >= origin->connecting_limit;
  /* the raw ones are the last: where the first is one, all are */
  if (idle_link != NULL &&
      !(connecting_limit_binds && cpool__container_of(idle_link, struct cpool__place, idle_link)->raw)) {
    struct cpool__place *place = cpool__container_of(idle_link, struct cpool__place, idle_link);
    bool shared = place->state == CPOOL__PLACE_SHARED;
    if (!turn_is_over(adm, origin, place) &&
        !(shared && (origin->place_count > origin->limit || adm->place_count > adm->limit)))
      return serve(adm, origin, place);
    if (!shared)
      return evict_own(origin);
    move(adm, origin, CPOOL__ORIGIN_QUIET); /* until the place has run out */
    return NONE;
  }
  if (is_learning(group) || connecting_limit_binds) {
    move(adm, origin, CPOOL__ORIGIN_QUIET);
    return NONE;
  }

  bool own_limit_binds = origin->place_count >= origin->limit;
  if (own_limit_binds && origin->idle_count == 0) {
    move(adm, origin, CPOOL__ORIGIN_QUIET);
    return NONE;
  }
  if (closing_holds(adm)) {
    park(adm, origin);
    return NONE;
  }
  if (own_limit_binds)
    return evict_own(origin);
  if (adm->place_count < adm->limit) {
    struct cpool__origin_policy *due = hungrier(adm, origin->place_count + 1);
    return serve(adm, due != NULL ? due : origin, NULL);
  }

  struct cpool__link *lru_link = cpool__list_first(&adm->idle);
  if (lru_link != NULL) {
    const struct cpool__origin_policy *owner =
        cpool__container_of(lru_link, struct cpool__place, lru_link)->group->origin;
    /* A ready owner may want it for itself; what it leaves is there when the ready list is empty. */
    if (owner == origin || owner->state != CPOOL__ORIGIN_READY)
      return evict(lru_link);
  }
  park(adm, origin);
  return NONE;
}

static struct cpool__origin_policy *choose(const struct cpool__admission *adm)
{
  bool room = adm->place_count < adm->limit && !closing_holds(adm);
  struct cpool__origin_policy *ready = first_origin(&adm->ready);
  struct cpool__origin_policy *starved = first_origin(&adm->starved);
  if (room && starved != NULL && (ready == NULL || !has_surplus(ready)))
    return starved;
  if (ready != NULL)
    return ready;
  if (!room && (adm->idle_count == 0 || closing_holds(adm)))
    return NULL;
  return starved != NULL ? starved : first_origin(&adm->hungry);
}

struct cpool__decision cpool__admission_next(struct cpool__admission *adm)
{
  if (adm->place_count > adm->limit && adm->idle_count > 0)
    return evict(cpool__list_first(&adm->idle));
  struct cpool__origin_policy *origin;
  while ((origin = choose(adm)) != NULL) {
    struct cpool__decision decision = look(adm, origin);
    if (decision.kind != CPOOL__DECISION_NONE)
      return decision;
  }
  return NONE;
}

/* ---- Places ---- */

static void count_idle(struct cpool__admission *adm, struct cpool__origin_policy *origin, int32_t change)
{
  adm->idle_count += change;
  origin->idle_count += change;
  if (origin->waiting_count == 0)
    adm->spare_count += change;
}

static void count_busy(struct cpool__admission *adm, struct cpool__origin_policy *origin, int32_t change)
{
  adm->busy_count += change;
  origin->busy_count += change;
}

/* Out of the lists and counts of its state. */
static void unsettle(struct cpool__admission *adm, struct cpool__place *place)
{
  struct cpool__origin_policy *origin = place->group->origin;
  cpool__stock_changed(adm, origin);
  switch (place->state) {
  case CPOOL__PLACE_IDLE:
    cpool__link_remove(&place->idle_link);
    cpool__link_remove(&place->lru_link);
    cpool__link_remove(&place->own_link);
    count_idle(adm, origin, -1);
    break;
  case CPOOL__PLACE_SHARED:
    cpool__link_remove(&place->idle_link);
    origin->shared_count--;
    count_busy(adm, origin, -1);
    break;
  case CPOOL__PLACE_BUSY:
    count_busy(adm, origin, -1);
    break;
  case CPOOL__PLACE_DIALLING:
  case CPOOL__PLACE_NONE:
    break;
  }
}

/* Into those of the state that its number of requests gives it. */
static void settle(struct cpool__admission *adm, struct cpool__place *place)
{
  struct cpool__origin_policy *origin = place->group->origin;
  if (place->stream_count == 0) {
    place->state = CPOOL__PLACE_IDLE;
    cpool__list_push_front(&place->group->idle, &place->idle_link);
    cpool__list_push_back(&adm->idle, &place->lru_link);
    cpool__list_push_back(&origin->idle, &place->own_link);
    count_idle(adm, origin, 1);
    return;
  }
  count_busy(adm, origin, 1);
  if (place->stream_count < place->stream_limit) {
    place->state = CPOOL__PLACE_SHARED;
    cpool__list_push_front(&place->group->idle, &place->idle_link);
    origin->shared_count++;
  } else {
    place->state = CPOOL__PLACE_BUSY;
  }
}

static void connected(struct cpool__place *place)
{
  place->group->origin->connecting_count -= place->connecting ? 1 : 0;
  place->connecting = false;
}

static void not_fresh(struct cpool__place *place)
{
  connected(place);
  place->group->fresh_count -= place->fresh ? 1 : 0;
  place->fresh = false;
}

void cpool__place_open(struct cpool__admission *adm, struct cpool__place *place, struct cpool__group *group)
{
  struct cpool__origin_policy *origin = group->origin;
  assert(place->state == CPOOL__PLACE_NONE);
  assert(adm->place_count < adm->limit && origin->place_count < origin->limit);
  assert(origin->state != CPOOL__ORIGIN_STARVED);
  place->group = group;
  place->state = CPOOL__PLACE_DIALLING;
  place->turn_count = 0;
  place->stream_count = 0;
  place->stream_limit = 1;
  place->fresh = place->connecting = true;
  place->ahead = place->raw = false;
  group->fresh_count++;
  origin->connecting_count++;
  adm->place_count++;
  origin->place_count++;
}

bool cpool__place_try_open(struct cpool__admission *adm, struct cpool__place *place, struct cpool__group *group)
{
  if (adm->place_count >= adm->limit || group->origin->place_count >= group->origin->limit || closing_holds(adm) ||
      group->origin->connecting_count >= group->origin->connecting_limit || !cpool__list_empty(&adm->ready) ||
      !cpool__list_empty(&adm->starved) || !cpool__list_empty(&adm->hungry))
    return false;
  cpool__place_open(adm, place, group);
  return true;
}

void cpool__place_busy(struct cpool__admission *adm, struct cpool__place *place)
{
  assert(place->state != CPOOL__PLACE_NONE);
  unsettle(adm, place);
  if (place->raw && !place->connecting) {
    place->connecting = true;
    place->group->origin->connecting_count++;
  }
  place->raw = false;
  place->stream_count++;
  place->turn_count++;
  settle(adm, place);
}

void cpool__place_idle(struct cpool__admission *adm, struct cpool__place *place)
{
  struct cpool__origin_policy *origin = place->group->origin;
  assert(place->state != CPOOL__PLACE_NONE && place->state != CPOOL__PLACE_IDLE);
  bool unused = place->ahead || place->state == CPOOL__PLACE_DIALLING;
  unsettle(adm, place);
  connected(place);
  cpool__place_ahead(adm, place, false);
  place->stream_count -= place->state != CPOOL__PLACE_DIALLING ? 1 : 0;
  settle(adm, place);
  if (unused && place->state == CPOOL__PLACE_IDLE) {
    cpool__link_remove(&place->idle_link);
    cpool__list_push_back(&place->group->idle, &place->idle_link);
  }
  rouse(adm, origin);
}

void cpool__place_known(struct cpool__admission *adm, struct cpool__place *place, int32_t stream_limit)
{
  assert(stream_limit > 0);
  not_fresh(place);
  place->group->multiplex = stream_limit > 1;
  cpool__place_streams(adm, place, stream_limit);
}

void cpool__place_streams(struct cpool__admission *adm, struct cpool__place *place, int32_t stream_limit)
{
  assert(place->state == CPOOL__PLACE_BUSY || place->state == CPOOL__PLACE_SHARED);
  unsettle(adm, place);
  place->stream_limit = stream_limit;
  settle(adm, place);
  rouse(adm, place->group->origin);
}

void cpool__place_close(struct cpool__admission *adm, struct cpool__place *place, bool closing)
{
  if (place->state == CPOOL__PLACE_NONE)
    return;
  struct cpool__origin_policy *origin = place->group->origin;
  unsettle(adm, place);
  not_fresh(place);
  cpool__place_ahead(adm, place, false);
  place->state = CPOOL__PLACE_NONE;
  place->group = NULL;
  adm->place_count--;
  origin->place_count--;
  if (closing)
    adm->closing_count++;
  rouse(adm, origin);
}

void cpool__admission_closed(struct cpool__admission *adm)
{
  assert(adm->closing_count > 0);
  adm->closing_count--;
}

/* ---- Limits ---- */

void cpool__admission_limits(struct cpool__admission *adm, int32_t limit, int32_t closing_limit)
{
  assert(limit > 0 && closing_limit > 0);
  adm->limit = limit;
  adm->closing_limit = closing_limit;
}

void cpool__origin_limit(struct cpool__admission *adm, struct cpool__origin_policy *origin, int32_t limit,
                         int32_t connecting_limit)
{
  assert(limit > 0 && connecting_limit > 0);
  origin->limit = limit;
  origin->connecting_limit = connecting_limit;
  /* A starved origin has no place, so that no limit of its own can matter to it. */
  if (origin->state != CPOOL__ORIGIN_STARVED)
    rouse(adm, origin);
  cpool__stock_changed(adm, origin);
}
