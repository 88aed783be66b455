/* observe: the calls that read what the loop has published */
#include <string.h>

#include "core/error.h"
#include "core/structs.h"
#include "http/http_stats.h"
#include "http/origin.h"
#include "http/pool.h"

int cpool_http_stats_get(cpool_http *pool, cpool_http_stats *out)
{
  cpool_http_stats own;
  if (pool == NULL || out == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "stats_get: pool and out are needed");
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  cpool__http_stats_read(&pool->stats, &own);
  own.stream_bytes = cpool__budget_bytes(pool->stream_budget); /* consumers release on threads of their own */
  own.refused = atomic_load_explicit(&pool->refused_count, memory_order_relaxed);
  return cpool__struct_write(out, &own, sizeof own, "http stats");
}

int cpool_http_histogram_get(cpool_http *pool, int32_t phase, cpool_histogram *out)
{
  if (pool == NULL || out == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "histogram_get: pool and out are needed");
  if (phase < 0 || phase >= CPOOL_PHASES)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "histogram_get: phase %d is not in 0..%d", (int) phase,
                         CPOOL_PHASES - 1);
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  const struct cpool__histogram *from = &pool->stats.phases[phase];
  cpool_histogram own = {
      .size = sizeof own,
      .count = atomic_load_explicit(&from->count, memory_order_relaxed),
      .sum_us = atomic_load_explicit(&from->sum_us, memory_order_relaxed),
      .max_us = atomic_load_explicit(&from->max_us, memory_order_relaxed),
      .p50_us = cpool__histogram_percentile(from, 0.5),
      .p90_us = cpool__histogram_percentile(from, 0.9),
      .p99_us = cpool__histogram_percentile(from, 0.99),
      .p999_us = cpool__histogram_percentile(from, 0.999),
  };
  return cpool__struct_write(out, &own, sizeof own, "histogram");
}

int cpool_http_origins_get(cpool_http *pool, uint64_t *cursor, cpool_origin_stats *rows, size_t row_size, int32_t max)
{
  if (pool == NULL || cursor == NULL || rows == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "origins_get: pool, cursor and rows are needed");
  if (max < 1)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "origins_get: max %d is below 1", (int) max);
  if (row_size < sizeof rows->origin)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "origins_get: row_size %zu is too small", row_size);
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  int32_t count = 0;
  char *at = (char *) rows;
  /* Newest first: a host that is forgotten and met again gets a higher number, behind the cursor. So none appears
   * twice, and a pass ends however fast hosts come. */
  pthread_mutex_lock(&pool->origins_lock);
  for (struct cpool__link *link = cpool__list_last(&pool->origins_list); link != NULL && count < max;
       link = cpool__list_prev(&pool->origins_list, link)) {
    struct cpool__origin *org = cpool__container_of(link, struct cpool__origin, link);
    cpool_origin_stats row = {0};
    uint64_t words[CPOOL__ORIGIN_WORDS];
    if (*cursor != 0 && org->number >= *cursor)
      continue;
    strncpy(row.origin, org->key, sizeof row.origin - 1);
    for (int i = 0; i < CPOOL__ORIGIN_WORDS; i++)
      words[i] = atomic_load_explicit(&org->row[i], memory_order_relaxed);
    memcpy((char *) &row + sizeof row.origin, words, sizeof words);
    memset(at, 0, row_size);
    memcpy(at, &row, row_size < sizeof row ? row_size : sizeof row);
    at += row_size;
    *cursor = org->number;
    count++;
  }
  pthread_mutex_unlock(&pool->origins_lock);
  return count;
}

int cpool_http_dns_get(cpool_http *pool, uint64_t *cursor, cpool_dns_stats *rows, size_t row_size, int32_t max)
{
  if (pool == NULL || cursor == NULL || rows == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "dns_get: pool, cursor and rows are needed");
  if (max < 1)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "dns_get: max %d is below 1", (int) max);
  if (row_size < sizeof rows->name)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "dns_get: row_size %zu is too small", row_size);
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  return cpool__dns_board_read(&pool->names, cursor, rows, row_size, max, cpool__clock_us() / 1000,
                               atomic_load_explicit(&pool->dns_stale_ms, memory_order_relaxed));
}
