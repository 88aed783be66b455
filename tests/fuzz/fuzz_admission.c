/* fuzz_admission: bytes become calls; every decision, count and list is checked against what brute force says
 *
 * The shadow keeps only what the caller knows: who waits since when, and which place is in which state since when. All
 * rules are written down again as loops over that. test_admission.c drives the same model with random bytes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/admission.h"
#include "pool/stock.h"

enum {
  ORIGINS = 4,
  GROUPS_EACH = 3,
  GROUPS = ORIGINS * GROUPS_EACH,
  WAITERS = 20,
  PLACES = 12,
  LIMIT_MAX = 6,
  STREAMS_MAX = 5
};

struct model {
  struct cpool__admission adm;
  struct cpool__origin_policy origins[ORIGINS];
  struct cpool__group groups[GROUPS];
  struct cpool__waiter waiters[WAITERS];
  struct cpool__place places[PLACES];
  /* the shadow */
  int64_t arrived_at[WAITERS]; /* less is earlier; 0: does not wait */
  int64_t idle_at[PLACES];     /* since when it can take a request; less is longer ago */
  int64_t useful_at[PLACES];   /* those that can: less is to be used later, below 0 those that were never used */
  int streams[PLACES];         /* requests on it */
  bool connecting[PLACES], ahead[PLACES];
  struct cpool__group *last_group[ORIGINS]; /* of the last to arrive */
  int wanted[ORIGINS];
  bool held[ORIGINS], failed[ORIGINS];
  bool limits_moved;
  int64_t clock, front_clock, back_clock;
  int closing_count;
  const uint8_t *bytes;
  size_t left;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition) ((condition) ? (void) 0 : give_up(#condition, __LINE__))

__attribute__((noreturn)) static void give_up(const char *condition, int line)
{
  fprintf(stderr, "fuzz_admission.c:%d: not so: %s\n", line, condition);
  abort();
}

static unsigned draw(struct model *m, unsigned below)
{
  if (m->left == 0)
    return 0;
  m->left--;
  return *m->bytes++ % below;
}

static int origin_index(const struct model *m, const struct cpool__group *group)
{
  return (int) (group->origin - m->origins);
}

/* ---- What the shadow says ---- */

struct view { /* of one origin */
  int place_count, idle_count, busy_count, shared_count, waiting_count, connecting_count, ahead_count;
  bool capped;  /* no further connection may be begun to be made */
  int head;     /* waiter; -1: none */
  int head_use; /* the most recently used place of the head's group that can take a request; -1: none */
};

static bool takes_requests(const struct cpool__place *place)
{
  return place->state == CPOOL__PLACE_IDLE || place->state == CPOOL__PLACE_SHARED;
}

static struct view view_of(const struct model *m, int org)
{
  struct view view = {.head = -1, .head_use = -1};
  for (int i = 0; i < WAITERS; i++) {
    if (m->arrived_at[i] == 0 || origin_index(m, m->waiters[i].group) != org)
      continue;
    view.waiting_count++;
    if (view.head < 0 || m->arrived_at[i] < m->arrived_at[view.head])
      view.head = i;
  }
  for (int i = 0; i < PLACES; i++) {
    const struct cpool__place *place = &m->places[i];
    if (place->state == CPOOL__PLACE_NONE || origin_index(m, place->group) != org)
      continue;
    view.place_count++;
    view.busy_count += place->state == CPOOL__PLACE_BUSY || place->state == CPOOL__PLACE_SHARED;
    view.shared_count += place->state == CPOOL__PLACE_SHARED;
    view.connecting_count += m->connecting[i];
    view.ahead_count += m->ahead[i];
    if (!takes_requests(place))
      continue;
    view.idle_count += place->state == CPOOL__PLACE_IDLE;
    if (view.head >= 0 && place->group == m->waiters[view.head].group &&
        (view.head_use < 0 || m->useful_at[i] > m->useful_at[view.head_use]))
      view.head_use = i;
  }
  view.capped = view.connecting_count >= m->origins[org].connecting_limit;
  if (view.capped && view.head_use >= 0 && m->places[view.head_use].raw)
    view.head_use = -1;
  return view;
}

/* One connection learns for all that wait: whether it can carry them. */
static bool learns(const struct model *m, int waiter)
{
  const struct cpool__group *group = m->waiters[waiter].group;
  return group->multiplex && group->fresh_count > 0;
}

static int length_of(const struct cpool__list *list)
{
  int count = 0;
  for (const struct cpool__link *link = cpool__list_first(list); link != NULL; link = cpool__list_next(list, link)) {
    CHECK(link->next->prev == link && link->prev->next == link);
    count++;
  }
  return count;
}

static void check_places(const struct model *m)
{
  int fresh[GROUPS] = {0}, usable[GROUPS] = {0};
  for (int i = 0; i < PLACES; i++) {
    const struct cpool__place *place = &m->places[i];
    if (place->state == CPOOL__PLACE_NONE)
      continue;
    CHECK(place->stream_count == m->streams[i]);
    CHECK((place->state == CPOOL__PLACE_IDLE || place->state == CPOOL__PLACE_DIALLING) == (m->streams[i] == 0));
    if (m->streams[i] > 0)
      CHECK((place->state == CPOOL__PLACE_SHARED) == (m->streams[i] < place->stream_limit));
    fresh[place->group - m->groups] += place->fresh;
    usable[place->group - m->groups] += takes_requests(place);
  }
  for (int i = 0; i < GROUPS; i++)
    CHECK(m->groups[i].fresh_count == fresh[i] && length_of(&m->groups[i].idle) == usable[i]);
}

static void check_counts(const struct model *m)
{
  const struct cpool__admission *adm = &m->adm;
  int place_count = 0, idle_count = 0, busy_count = 0, waiting_count = 0, spare_count = 0, listed[4] = {0};
  for (int org = 0; org < ORIGINS; org++) {
    const struct cpool__origin_policy *origin = &m->origins[org];
    struct view view = view_of(m, org);
    CHECK(origin->place_count == view.place_count && origin->idle_count == view.idle_count);
    CHECK(origin->busy_count == view.busy_count && origin->waiting_count == view.waiting_count);
    CHECK(origin->connecting_count == view.connecting_count && origin->stock.ahead_count == view.ahead_count);
    CHECK(origin->shared_count == view.shared_count);
    CHECK(origin->stock.wanted > 0 || !cpool__link_in(&origin->stock.link));
    CHECK(length_of(&origin->waiters) == view.waiting_count && length_of(&origin->idle) == view.idle_count);
    CHECK(cpool__link_in(&origin->link) == (origin->state != CPOOL__ORIGIN_QUIET));
    CHECK(view.waiting_count > 0 || view.place_count > 0 || origin->state == CPOOL__ORIGIN_QUIET);
    for (int i = 0; i < CPOOL__AHEAD; i++)
      if (origin->latest[i] != NULL)
        CHECK(cpool__link_in(&origin->latest[i]->link) && origin->latest[i]->group->origin == origin);
    listed[origin->state]++;
    place_count += view.place_count;
    idle_count += view.idle_count;
    busy_count += view.busy_count;
    waiting_count += view.waiting_count;
    spare_count += view.waiting_count == 0 ? view.idle_count : 0;
  }
  CHECK(adm->place_count == place_count && adm->idle_count == idle_count && adm->busy_count == busy_count);
  CHECK(adm->waiting_count == waiting_count && adm->spare_count == spare_count);
  CHECK(adm->closing_count == m->closing_count && length_of(&adm->idle) == idle_count);
  CHECK(length_of(&adm->ready) == listed[CPOOL__ORIGIN_READY]);
  CHECK(length_of(&adm->starved) == listed[CPOOL__ORIGIN_STARVED]);
  CHECK(length_of(&adm->hungry) == listed[CPOOL__ORIGIN_HUNGRY]);
  check_places(m);
}

/* ---- Whether a decision is one that the rules allow ---- */

static int oldest_idle(const struct model *m, int org) /* -1: of all */
{
  int oldest = -1;
  for (int i = 0; i < PLACES; i++)
    if (m->places[i].state == CPOOL__PLACE_IDLE && (org < 0 || origin_index(m, m->places[i].group) == org) &&
        (oldest < 0 || m->idle_at[i] < m->idle_at[oldest]))
      oldest = i;
  return oldest;
}

/* What a place serves before it is somebody else's turn. */
static bool turn_is_over(const struct cpool__place *place)
{
  return place->turn_count >= (uint32_t) place->stream_limit * CPOOL__TURN_REQUESTS;
}

static void check_evict(const struct model *m, int victim)
{
  const struct cpool__admission *adm = &m->adm;
  CHECK(m->places[victim].state == CPOOL__PLACE_IDLE);
  int org = origin_index(m, m->places[victim].group);
  struct view own = view_of(m, org);
  bool is_oldest = victim == oldest_idle(m, -1);
  CHECK(is_oldest || victim == oldest_idle(m, org));
  if (adm->place_count > adm->limit) {
    CHECK(is_oldest);
    return;
  }
  if (own.place_count > m->origins[org].limit)
    return;
  CHECK(adm->closing_count < adm->closing_limit);

  bool full = adm->place_count == adm->limit, wanted = false, due = false;
  for (int other = 0; other < ORIGINS; other++) {
    struct view view = view_of(m, other);
    if (view.head < 0)
      continue;
    bool below = view.place_count < m->origins[other].limit;
    wanted |= view.head_use < 0 && (below ? full : other == org);
    due |= full && view.head_use < 0 && below &&
           (view.place_count <= own.place_count - 2 ||
            (view.place_count == 0 && turn_is_over(&m->places[own.head_use < 0 ? victim : own.head_use])));
  }
  CHECK(wanted);
  /* The only place that its own first waiter could use goes to an origin whose turn it is, and to no other, unless it
   * is the one longest idle and of use to nobody else. */
  if (own.head_use == victim)
    CHECK(due && adm->spare_count == 0);
}

static void check_none(const struct model *m)
{
  const struct cpool__admission *adm = &m->adm;
  CHECK(adm->place_count <= adm->limit || adm->idle_count == 0);
  for (int org = 0; org < ORIGINS; org++) {
    struct view view = view_of(m, org);
    bool below = view.place_count < m->origins[org].limit;
    bool closing_holds = adm->closing_count >= adm->closing_limit;
    CHECK(view.place_count <= m->origins[org].limit || view.idle_count == 0);
    CHECK(m->origins[org].state != CPOOL__ORIGIN_READY);
    if (view.head < 0)
      continue;
    if (view.head_use >= 0) { /* a shared place that runs out, for another origin's turn or a lowered limit */
      const struct cpool__place *use = &m->places[view.head_use];
      CHECK(use->state == CPOOL__PLACE_SHARED && (turn_is_over(use) || m->limits_moved));
      continue;
    }
    if (view.capped || learns(m, view.head))
      continue;
    if (below)
      CHECK(closing_holds || (adm->place_count >= adm->limit && adm->idle_count == 0));
    else
      CHECK(closing_holds || view.idle_count == 0);
  }
}

/* ---- Calls ---- */

static int open_at(struct model *m, struct cpool__group *group)
{
  for (int i = 0; i < PLACES; i++) {
    if (m->places[i].state != CPOOL__PLACE_NONE)
      continue;
    CHECK(!view_of(m, origin_index(m, group)).capped);
    cpool__place_open(&m->adm, &m->places[i], group);
    m->connecting[i] = true;
    m->places[i].raw = draw(m, 2) != 0;
    return i;
  }
  give_up("fewer places are open than any limit", __LINE__);
}

static void close_place(struct model *m, struct cpool__place *place, bool closing)
{
  m->streams[place - m->places] = 0;
  m->closing_count += closing && place->state != CPOOL__PLACE_NONE;
  cpool__place_close(&m->adm, place, closing);
  m->connecting[place - m->places] = m->ahead[place - m->places] = false;
}

static bool decide(struct model *m)
{
  struct cpool__place before[PLACES];
  memcpy(before, m->places, sizeof before);
  struct cpool__decision decision = cpool__admission_next(&m->adm);
  struct view view = {0};
  struct cpool__group *group = NULL;
  if (decision.waiter != NULL) {
    int chosen = (int) (decision.waiter - m->waiters);
    group = decision.waiter->group;
    view = view_of(m, origin_index(m, group)); /* still with the waiter */
    CHECK(view.head == chosen && !cpool__link_in(&decision.waiter->link));
    m->arrived_at[chosen] = 0;
  }
  switch (decision.kind) {
  case CPOOL__DECISION_NONE:
    check_none(m);
    break;
  case CPOOL__DECISION_REUSE: {
    int used = (int) (decision.place - m->places);
    CHECK(takes_requests(&before[used]) &&
          (before[used].stream_count == 0 || before[used].stream_count < before[used].stream_limit));
    CHECK(!before[used].raw || !view.capped);
    m->connecting[used] |= before[used].raw;
    CHECK(decision.place->group == group && decision.place->turn_count == before[used].turn_count + 1);
    for (int i = 0; i < PLACES; i++)
      CHECK(i == used || !takes_requests(&m->places[i]) || m->places[i].group != group ||
            m->useful_at[i] < m->useful_at[used]);
    m->streams[used]++;
    m->idle_at[used] = m->useful_at[used] = ++m->clock;
    break;
  }
  case CPOOL__DECISION_OPEN:
    CHECK(view.head_use < 0 && !(group->multiplex && group->fresh_count > 0));
    CHECK(m->adm.place_count < m->adm.limit && group->origin->place_count < group->origin->limit);
    CHECK(m->adm.closing_count < m->adm.closing_limit);
    if (draw(m, 16) != 0) /* else the caller had no memory for it */
      (void) open_at(m, group);
    break;
  case CPOOL__DECISION_EVICT:
    check_evict(m, (int) (decision.place - m->places));
    close_place(m, decision.place, draw(m, 4) != 0);
    break;
  }
  check_counts(m);
  return decision.kind != CPOOL__DECISION_NONE;
}

static void wait_or_leave(struct model *m, unsigned op)
{
  unsigned i = draw(m, WAITERS);
  struct cpool__group *group = &m->groups[draw(m, GROUPS)];
  if (op == 0 || (op == 1 && m->arrived_at[i] != 0)) {
    cpool__admission_leave(&m->adm, &m->waiters[i]);
    m->arrived_at[i] = 0;
  } else if (m->arrived_at[i] != 0) {
    return;
  } else if (op == 1) {
    cpool__admission_wait_first(&m->adm, &m->waiters[i], group);
    m->arrived_at[i] = --m->front_clock;
  } else {
    cpool__admission_wait(&m->adm, &m->waiters[i], group);
    m->arrived_at[i] = ++m->clock;
    m->last_group[origin_index(m, group)] = group;
  }
}

static void turn_place(struct model *m, unsigned op)
{
  unsigned first = draw(m, PLACES);
  struct cpool__place *place = &m->places[first];
  for (unsigned i = 0; i < PLACES && place->state == CPOOL__PLACE_NONE; i++)
    place = &m->places[(first + i) % PLACES];
  if (place->state == CPOOL__PLACE_NONE)
    return;
  int i = (int) (place - m->places);
  bool used = place->state == CPOOL__PLACE_BUSY || place->state == CPOOL__PLACE_SHARED;
  bool unused = false;
  int *streams = &m->streams[i];
  if (op == 0) {
    close_place(m, place, draw(m, 2) != 0);
    return;
  }
  if (used && op == 1 && place->fresh) {
    cpool__place_known(&m->adm, place, 1 + (int32_t) draw(m, STREAMS_MAX));
    m->connecting[i] = false;
  } else if (used && op == 1) {
    cpool__place_streams(&m->adm, place, (int32_t) draw(m, STREAMS_MAX));
  } else if (used && op == 2 && *streams < STREAMS_MAX) { /* chosen by somebody else, full or not */
    cpool__place_busy(&m->adm, place);
    ++*streams;
  } else if (used || (place->state == CPOOL__PLACE_DIALLING && op == 1)) {
    unused = place->state == CPOOL__PLACE_DIALLING || m->ahead[i];
    cpool__place_idle(&m->adm, place);
    *streams -= used;
    m->connecting[i] = m->ahead[i] = false;
  } else if (place->state == CPOOL__PLACE_DIALLING || (op == 1 && !place->raw)) {
    cpool__place_busy(&m->adm, place);
    ++*streams;
  } else {
    return;
  }
  m->idle_at[i] = ++m->clock;
  m->useful_at[i] = unused && place->state == CPOOL__PLACE_IDLE ? --m->back_clock : m->clock;
  if (place->state == CPOOL__PLACE_IDLE && place->stream_limit == 0) /* it was on its way out */
    close_place(m, place, draw(m, 2) != 0);
}

/* ---- Stock ---- */

static bool is_short(const struct model *m, int org)
{
  struct view view = view_of(m, org);
  int pace = m->failed[org] ? 1 : (int) (((int64_t) m->origins[org].connecting_limit + 1) / 2);
  return m->wanted[org] > 0 && m->last_group[org] != NULL && !m->held[org] && view.head < 0 &&
         view.idle_count + view.shared_count + view.ahead_count < m->wanted[org] &&
         view.place_count < m->origins[org].limit && view.connecting_count < pace &&
         m->adm.place_count < m->adm.limit && m->adm.closing_count < m->adm.closing_limit;
}

static bool stock(struct model *m)
{
  struct cpool__group *group = cpool__stock_next(&m->adm);
  if (group == NULL) {
    for (int org = 0; org < ORIGINS; org++)
      CHECK(!is_short(m, org));
    return false;
  }
  CHECK(is_short(m, origin_index(m, group)) && m->last_group[origin_index(m, group)] == group);
  int i = open_at(m, group);
  cpool__place_ahead(&m->adm, &m->places[i], true);
  m->ahead[i] = true;
  check_counts(m);
  return true;
}

static void turn_stock(struct model *m)
{
  int org = (int) draw(m, ORIGINS);
  struct cpool__origin_policy *origin = &m->origins[org];
  switch (draw(m, 5)) {
  case 0:
    m->wanted[org] = (int) draw(m, LIMIT_MAX + 1);
    cpool__stock_want(&m->adm, origin, m->wanted[org]);
    break;
  case 1: {
    bool waits = cpool__stock_failed(origin, draw(m, 256)) > 0;
    CHECK(waits == (m->wanted[org] > 0 && !m->held[org]));
    m->held[org] |= waits;
    m->failed[org] |= waits;
    break;
  }
  case 2:
    cpool__stock_release(&m->adm, origin);
    m->held[org] = false;
    break;
  case 3:
    cpool__stock_proved(&m->adm, origin);
    m->failed[org] = false;
    break;
  case 4:
    cpool__stock_forget(&m->groups[org * GROUPS_EACH]);
    if (m->last_group[org] == &m->groups[org * GROUPS_EACH])
      m->last_group[org] = NULL;
    break;
  }
}

static void try_open(struct model *m)
{
  unsigned i = draw(m, PLACES);
  struct cpool__group *group = &m->groups[draw(m, GROUPS)];
  const struct cpool__admission *adm = &m->adm;
  if (m->places[i].state != CPOOL__PLACE_NONE)
    return;
  bool may = adm->place_count < adm->limit && group->origin->place_count < group->origin->limit &&
             adm->closing_count < adm->closing_limit && !view_of(m, origin_index(m, group)).capped;
  bool wanted = false;
  for (int org = 0; org < ORIGINS; org++) {
    struct view view = view_of(m, org);
    wanted |= view.head >= 0 && view.head_use < 0 && view.place_count < m->origins[org].limit && !view.capped &&
              !learns(m, view.head);
  }
  bool opened = cpool__place_try_open(&m->adm, &m->places[i], group);
  m->connecting[i] = opened;
  CHECK(!opened || (may && !wanted));
  CHECK(opened || !may || adm->waiting_count > 0 || !cpool__list_empty(&adm->ready));
}

static void step(struct model *m)
{
  unsigned op = draw(m, 36);
  if (op < 10)
    wait_or_leave(m, op);
  else if (op < 18)
    turn_place(m, op - 10);
  else if (op < 22)
    decide(m);
  else if (op < 26)
    while (decide(m))
      continue;
  else if (op < 29 && m->closing_count > 0) {
    cpool__admission_closed(&m->adm);
    m->closing_count--;
  } else if (op == 29)
    try_open(m);
  else if (op == 30) {
    m->limits_moved = true;
    cpool__admission_limits(&m->adm, 1 + (int32_t) draw(m, LIMIT_MAX), 1 + (int32_t) draw(m, LIMIT_MAX));
  } else if (op == 31) {
    m->limits_moved = true;
    cpool__origin_limit(&m->adm, &m->origins[draw(m, ORIGINS)], 1 + (int32_t) draw(m, LIMIT_MAX),
                        draw(m, 2) != 0 ? INT32_MAX : 1 + (int32_t) draw(m, LIMIT_MAX));
  } else if (op == 32)
    turn_stock(m);
  else if (op >= 33)
    while (decide(m) || stock(m))
      continue;
  check_counts(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct model *m = calloc(1, sizeof *m);
  CHECK(m != NULL);
  m->bytes = data;
  m->left = size;
  cpool__admission_init(&m->adm, 1 + (int32_t) draw(m, LIMIT_MAX), 1 + (int32_t) draw(m, LIMIT_MAX));
  for (int i = 0; i < ORIGINS; i++)
    cpool__origin_policy_init(&m->origins[i], 1 + (int32_t) draw(m, LIMIT_MAX));
  for (int i = 0; i < GROUPS; i++)
    cpool__group_init(&m->groups[i], &m->origins[i / GROUPS_EACH]);
  while (m->left > 0)
    step(m);
  while (decide(m))
    continue;

  /* Whatever the state, an end of everything leaves nothing behind. */
  for (int i = 0; i < WAITERS; i++) {
    cpool__admission_leave(&m->adm, &m->waiters[i]);
    m->arrived_at[i] = 0;
  }
  for (int i = 0; i < PLACES; i++)
    close_place(m, &m->places[i], false);
  for (int i = 0; i < ORIGINS; i++)
    cpool__stock_want(&m->adm, &m->origins[i], 0);
  check_counts(m);
  CHECK(cpool__list_empty(&m->adm.short_of_stock));
  free(m);
  return 0;
}
