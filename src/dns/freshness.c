/* freshness: how long an answer is good, when it is asked for again, and how long it may stand in */
#include "dns/freshness.h"

static uint64_t add_saturating(uint64_t a, int64_t b)
{
  uint64_t plus = b < 0 ? 0 : (uint64_t) b;
  return a > UINT64_MAX - plus ? UINT64_MAX : a + plus;
}

void cpool__freshness_answered(struct cpool__freshness *fresh, uint64_t now_ms, int64_t ttl_ms, uint64_t random)
{
  int64_t ahead_ms = 0;
  if (ttl_ms >= CPOOL__FRESHNESS_AHEAD_MS)
    ahead_ms = ttl_ms / 20 * 3 + (int64_t) (random % (uint64_t) (ttl_ms / 10 + 1)); /* 15 to 25 % */
  fresh->answered_ms = now_ms;
  fresh->expires_ms = add_saturating(now_ms, ttl_ms);
  fresh->ask_ms = add_saturating(now_ms, ttl_ms - ahead_ms);
  fresh->failed_count = 0;
}

void cpool__freshness_failed(struct cpool__freshness *fresh, uint64_t now_ms)
{
  int64_t wait_ms = CPOOL__FRESHNESS_RETRY_MS;
  for (uint32_t i = 0; i < fresh->failed_count && wait_ms < CPOOL__FRESHNESS_RETRY_MAX_MS; i++)
    wait_ms *= 2;
  if (wait_ms > CPOOL__FRESHNESS_RETRY_MAX_MS)
    wait_ms = CPOOL__FRESHNESS_RETRY_MAX_MS;
  fresh->ask_ms = add_saturating(now_ms, wait_ms);
  if (fresh->failed_count < UINT32_MAX)
    fresh->failed_count++;
}

enum cpool__freshness_state cpool__freshness_at(const struct cpool__freshness *fresh, uint64_t now_ms, int64_t stale_ms)
{
  if (now_ms < fresh->expires_ms)
    return CPOOL__FRESH;
  return now_ms < add_saturating(fresh->expires_ms, stale_ms) ? CPOOL__STALE : CPOOL__OVER;
}

bool cpool__freshness_due(const struct cpool__freshness *fresh, uint64_t now_ms)
{
  return now_ms >= fresh->ask_ms;
}

bool cpool__freshness_failing(const struct cpool__freshness *fresh, uint64_t now_ms)
{
  return fresh->failed_count > 0 && now_ms < add_saturating(fresh->ask_ms, CPOOL__FRESHNESS_RETRY_MAX_MS);
}
