/* fuzz_table: any order of insert, remove and shortage of memory, against a plain array of who is in */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/memory.h"
#include "base/table.h"

enum { ITEMS = 512 };

struct item {
  struct cpool__table_entry entry;
  uint16_t key;
  bool in, met;
};

static struct item items[ITEMS];
static struct cpool__table table;
static bool refuse;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
  if (!holds)
    abort();
}

static void *hook(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  return refuse ? NULL : realloc(ptr, size);
}

static struct item *item_of(struct cpool__table_entry *entry)
{
  return cpool__container_of(entry, struct item, entry);
}

static int same_key(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct item *item = cpool__container_of(entry, const struct item, entry);
  return len == sizeof item->key && memcmp(&item->key, key, len) == 0;
}

static void toggle(struct item *item)
{
  if (item->in) {
    cpool__table_remove(&table, &item->entry);
    item->in = false;
  } else {
    bool first = table.buckets == NULL;
    item->in = cpool__table_insert(&table, &item->entry, &item->key, sizeof item->key) == 0;
    must(item->in || (first && refuse));
  }
  struct cpool__table_entry *found = cpool__table_find(&table, &item->key, sizeof item->key);
  must(found == (item->in ? &item->entry : NULL));
}

/* Meets all that are in, once each; removes each one behind it when asked. */
static void walk(bool removing)
{
  size_t in = 0, met = 0;
  for (size_t i = 0; i < ITEMS; i++) {
    items[i].met = false;
    in += items[i].in;
  }
  must(in == table.count);
  struct cpool__table_entry *next;
  for (struct cpool__table_entry *entry = cpool__table_next(&table, NULL); entry != NULL; entry = next) {
    next = cpool__table_next(&table, entry);
    struct item *item = item_of(entry);
    must(item->in && !item->met);
    item->met = true;
    met++;
    if (removing)
      toggle(item);
  }
  must(met == in && (!removing || table.count == 0));
}

/* Two bytes an operation: what, and with which item or how many from it on. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  cpool__memory_hook(hook, NULL);
  cpool__table_init(&table, same_key);
  table.key[0] = table.key[1] = 1; /* the same input takes the same path */
  refuse = false;
  for (size_t i = 0; i < ITEMS; i++)
    items[i] = (struct item){.key = (uint16_t) i};
  for (; size >= 2; data += 2, size -= 2) {
    size_t at = (data[0] & 1u) << 8 | data[1];
    switch (data[0] >> 1 & 7) {
    case 0:
      refuse = (data[1] & 1) != 0;
      break;
    case 1:
      for (size_t i = 0; i < 48; i++)
        toggle(&items[(at + i) % ITEMS]);
      break;
    case 2:
      walk(false);
      break;
    case 3:
      walk(data[1] > 200);
      break;
    default:
      toggle(&items[at]);
    }
  }
  walk(true);
  cpool__table_fini(&table);
  return 0;
}
