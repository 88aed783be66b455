/* board: what other threads may read of the names that a resolver knows */
#include "dns/board.h"

#include <string.h>

#include "dns/cache.h"

void cpool__dns_board_init(struct cpool__dns_board *board)
{
  pthread_mutex_init(&board->lock, NULL);
  cpool__list_init(&board->names);
  board->last_number = 0;
}

void cpool__dns_board_fini(struct cpool__dns_board *board)
{
  pthread_mutex_destroy(&board->lock);
}

void cpool__dns_board_add(struct cpool__dns_board *board, struct cpool__dns_name *name)
{
  pthread_mutex_lock(&board->lock);
  name->number = ++board->last_number;
  cpool__list_push_back(&board->names, &name->row_link);
  pthread_mutex_unlock(&board->lock);
}

void cpool__dns_board_remove(struct cpool__dns_board *board, struct cpool__dns_name *name)
{
  pthread_mutex_lock(&board->lock);
  cpool__link_remove(&name->row_link);
  pthread_mutex_unlock(&board->lock);
}

/* As many whole addresses as fit. */
static void add_addresses(cpool_dns_stats *row, const struct cpool__family_answer *answer)
{
  size_t len = strlen(row->addresses);
  for (int i = 0; i < answer->count; i++) {
    char text[CPOOL__ADDRESS_TEXT];
    cpool__address_host_text(&answer->addresses[i], text);
    size_t more = strlen(text) + (len > 0);
    row->address_count++;
    if (len + more >= sizeof row->addresses)
      continue;
    if (len > 0)
      row->addresses[len] = ' ';
    memcpy(row->addresses + len + (len > 0), text, strlen(text) + 1);
    len += more;
  }
}

/* Of both families; one without addresses counts only when there is no other. */
static void fill_row(const struct cpool__dns_name *name, uint64_t now_ms, int64_t stale_ms, cpool_dns_stats *row)
{
  bool found = false;
  memset(row, 0, sizeof *row);
  strncpy(row->name, name->text, sizeof row->name - 1);
  row->hits = atomic_load_explicit(&name->hits, memory_order_relaxed);
  row->failures = atomic_load_explicit(&name->failures, memory_order_relaxed);
  for (int pass = 0; pass < 2 && !found; pass++) {
    for (int i = CPOOL__FAMILIES - 1; i >= 0; i--) {
      const struct cpool__dns_known *known = &name->known[i];
      enum cpool__dns_state state = cpool__dns_known_state(known, now_ms, stale_ms);
      if (state == CPOOL__DNS_NOTHING || (pass == 0 && known->answer->answer.status != CPOOL_OK))
        continue;
      const struct cpool__freshness *fresh = &known->freshness;
      int64_t age_ms = now_ms > fresh->answered_ms ? (int64_t) (now_ms - fresh->answered_ms) : 0;
      int64_t left_ms = fresh->expires_ms > now_ms ? (int64_t) (fresh->expires_ms - now_ms) : 0;
      if (!found || age_ms > row->age_ms)
        row->age_ms = age_ms;
      if (!found || left_ms < row->ttl_left_ms)
        row->ttl_left_ms = left_ms;
      row->stale |= state == CPOOL__DNS_STALE;
      add_addresses(row, &known->answer->answer);
      found = true;
    }
  }
}

int32_t cpool__dns_board_read(struct cpool__dns_board *board, uint64_t *cursor, void *rows, size_t row_size,
                              int32_t max, uint64_t now_ms, int64_t stale_ms)
{
  int32_t count = 0;
  char *at = rows;
  pthread_mutex_lock(&board->lock);
  for (struct cpool__link *link = cpool__list_last(&board->names); link != NULL && count < max;
       link = cpool__list_prev(&board->names, link)) {
    const struct cpool__dns_name *name = cpool__container_of(link, struct cpool__dns_name, row_link);
    cpool_dns_stats row;
    if (*cursor != 0 && name->number >= *cursor)
      continue;
    fill_row(name, now_ms, stale_ms, &row);
    memset(at, 0, row_size);
    memcpy(at, &row, row_size < sizeof row ? row_size : sizeof row);
    at += row_size;
    *cursor = name->number;
    count++;
  }
  pthread_mutex_unlock(&board->lock);
  return count;
}
