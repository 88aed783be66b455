/* stock: the list of origins that may be short of stock, and what each of them lacks
 *
 * An origin enters the list with any change of its own, and leaves it when it is looked at and lacks nothing or may not go
 * on for a reason of its own. What holds back all of them, the total and the closing limit, ends the look and keeps the
 * list. So each look is paid by a change. */
#include "pool/stock.h"

#include <assert.h>
#include <stddef.h>

void cpool__stock_changed(struct cpool__admission *adm, struct cpool__origin_policy *origin)
{
  if (origin->stock.wanted > 0 && !cpool__link_in(&origin->stock.link))
    cpool__list_push_back(&adm->short_of_stock, &origin->stock.link);
}

static bool is_short(const struct cpool__origin_policy *origin)
{
  const struct cpool__stock *stock = &origin->stock;
  int32_t pace = stock->failure_count > 0 ? 1 : origin->connecting_limit / 2 + origin->connecting_limit % 2;
  return stock->group != NULL && !stock->held && origin->waiting_count == 0 &&
         origin->idle_count + origin->shared_count + stock->ahead_count < stock->wanted &&
         origin->place_count < origin->limit && origin->connecting_count < pace;
}

struct cpool__group *cpool__stock_next(struct cpool__admission *adm)
{
  struct cpool__link *link;
  while (adm->place_count < adm->limit && adm->closing_count < adm->closing_limit &&
         (link = cpool__list_pop_front(&adm->short_of_stock)) != NULL) {
    struct cpool__stock *stock = cpool__container_of(link, struct cpool__stock, link);
    struct cpool__origin_policy *origin = cpool__container_of(stock, struct cpool__origin_policy, stock);
    if (!is_short(origin))
      continue;
    cpool__list_push_back(&adm->short_of_stock, link); /* by turns */
    return stock->group;
  }
  return NULL;
}

void cpool__stock_want(struct cpool__admission *adm, struct cpool__origin_policy *origin, int32_t wanted)
{
  assert(wanted >= 0);
  origin->stock.wanted = wanted;
  if (wanted == 0)
    cpool__link_remove(&origin->stock.link);
  cpool__stock_changed(adm, origin);
}

void cpool__stock_begin(struct cpool__admission *adm, struct cpool__group *group)
{
  if (group->origin->stock.group == NULL)
    group->origin->stock.group = group;
  cpool__stock_changed(adm, group->origin);
}

void cpool__stock_forget(struct cpool__group *group)
{
  if (group->origin->stock.group == group)
    group->origin->stock.group = NULL;
}

void cpool__place_ahead(struct cpool__admission *adm, struct cpool__place *place, bool ahead)
{
  struct cpool__origin_policy *origin = place->group->origin;
  if (place->ahead == ahead)
    return;
  place->ahead = ahead;
  origin->stock.ahead_count += ahead ? 1 : -1;
  cpool__stock_changed(adm, origin);
}

int64_t cpool__stock_failed(struct cpool__origin_policy *origin, uint64_t random)
{
  struct cpool__stock *stock = &origin->stock;
  if (stock->held || stock->wanted == 0)
    return 0;
  int64_t wait_ms = CPOOL__STOCK_WAIT_MS;
  for (uint32_t i = 0; i < stock->failure_count && wait_ms < CPOOL__STOCK_WAIT_MAX_MS; i++)
    wait_ms *= 2;
  if (wait_ms > CPOOL__STOCK_WAIT_MAX_MS)
    wait_ms = CPOOL__STOCK_WAIT_MAX_MS;
  stock->failure_count++;
  stock->held = true;
  return wait_ms - (int64_t) (random % (uint64_t) (wait_ms / 2));
}

void cpool__stock_release(struct cpool__admission *adm, struct cpool__origin_policy *origin)
{
  origin->stock.held = false;
  cpool__stock_changed(adm, origin);
}

void cpool__stock_proved(struct cpool__admission *adm, struct cpool__origin_policy *origin)
{
  if (origin->stock.failure_count == 0)
    return;
  origin->stock.failure_count = 0;
  cpool__stock_changed(adm, origin);
}
