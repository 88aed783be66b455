/* tie: what ties a connection to the name that it was made by */
#include "dns/tie.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

struct cpool__left {
  struct {
    struct cpool__address address; /* len 0: none */
    uint64_t at_ms;
  } ring[CPOOL__TIE_LEFT_COUNT];
  unsigned next;
  uint64_t rotates_until_ms;
};

struct cpool__tied {
  struct cpool__table_entry entry;
  struct cpool__list ties;
  char text[];
};

static struct cpool__tied *tied_of(const struct cpool__table_entry *entry)
{
  return cpool__container_of(entry, struct cpool__tied, entry);
}

static int same_text(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct cpool__tied *name = tied_of(entry);
  return strlen(name->text) == len && memcmp(name->text, key, len) == 0;
}

static struct cpool__tied *find(struct cpool__ties *ties, const char *text)
{
  struct cpool__table_entry *entry = cpool__table_find(&ties->names, text, strlen(text));
  return entry != NULL ? tied_of(entry) : NULL;
}

void cpool__ties_init(struct cpool__ties *ties)
{
  cpool__table_init(&ties->names, same_text);
}

void cpool__ties_fini(struct cpool__ties *ties)
{
  assert(ties->names.count == 0);
  cpool__table_fini(&ties->names);
}

void cpool__ties_add(struct cpool__ties *ties, struct cpool__tie *tie, const char *text)
{
  assert(tie->name == NULL);
  struct cpool__tied *name = find(ties, text);
  if (name == NULL) {
    size_t len = strlen(text);
    name = cpool__calloc(1, sizeof *name + len + 1);
    if (name == NULL)
      return;
    memcpy(name->text, text, len + 1);
    cpool__list_init(&name->ties);
    if (cpool__table_insert(&ties->names, &name->entry, text, len) != 0) {
      cpool__free(name);
      return;
    }
  }
  tie->name = name;
  cpool__list_push_back(&name->ties, &tie->link);
}

void cpool__ties_remove(struct cpool__ties *ties, struct cpool__tie *tie)
{
  struct cpool__tied *name = tie->name;
  if (name == NULL)
    return;
  tie->name = NULL;
  cpool__link_remove(&tie->link);
  if (!cpool__list_empty(&name->ties))
    return;
  cpool__table_remove(&ties->names, &name->entry);
  cpool__free(name);
}

bool cpool__ties_any(struct cpool__ties *ties, const char *text)
{
  return find(ties, text) != NULL;
}

/* ---- who has left */

static bool has(const struct cpool__family_answer *answer, const struct cpool__address *address)
{
  for (int i = 0; i < answer->count; i++)
    if (cpool__address_equal(&answer->addresses[i], address))
      return true;
  return false;
}

/* One that had left is back: the addresses take turns. */
static void note_returns(struct cpool__left *left, const struct cpool__family_answer *answer, uint64_t now_ms)
{
  for (int i = 0; i < CPOOL__TIE_LEFT_COUNT; i++) {
    if (left->ring[i].address.len == 0 || !has(answer, &left->ring[i].address))
      continue;
    if (now_ms - left->ring[i].at_ms < CPOOL__TIE_LEFT_MS)
      left->rotates_until_ms = now_ms + CPOOL__TIE_LEFT_MS;
    left->ring[i].address.len = 0;
  }
}

static void note_left(struct cpool__left *left, const struct cpool__address *address, uint64_t now_ms)
{
  for (int i = 0; i < CPOOL__TIE_LEFT_COUNT; i++)
    if (left->ring[i].address.len > 0 && cpool__address_equal(&left->ring[i].address, address))
      return;
  left->ring[left->next].address = *address;
  left->ring[left->next].at_ms = now_ms;
  left->next = (left->next + 1) % CPOOL__TIE_LEFT_COUNT;
}

/* Marks those whose address is missing. */
static bool mark_missing(struct cpool__tied *name, enum cpool__family family, const struct cpool__family_answer *answer)
{
  int af = family == CPOOL__FAMILY_V6 ? AF_INET6 : AF_INET;
  bool any = false;
  for (struct cpool__link *link = cpool__list_first(&name->ties); link != NULL;
       link = cpool__list_next(&name->ties, link)) {
    struct cpool__tie *tie = cpool__container_of(link, struct cpool__tie, link);
    tie->missing = tie->address.sock.any.sa_family == af && !has(answer, &tie->address);
    any |= tie->missing;
  }
  return any;
}

/* One that is marked, not any more; NULL: none is. */
static struct cpool__tie *next_missing(const struct cpool__tied *name)
{
  for (struct cpool__link *link = cpool__list_first(&name->ties); link != NULL;
       link = cpool__list_next(&name->ties, link)) {
    struct cpool__tie *tie = cpool__container_of(link, struct cpool__tie, link);
    bool missing = tie->missing;
    tie->missing = false;
    if (missing)
      return tie;
  }
  return NULL;
}

void cpool__ties_answer(struct cpool__ties *ties, const char *text, enum cpool__family family,
                        const struct cpool__family_answer *answer, struct cpool__left **left, uint64_t now_ms)
{
  struct cpool__tied *name = find(ties, text);
  struct cpool__tie *tie;
  if (answer->count >= CPOOL__DNS_ADDRESSES)
    return;
  bool any = name != NULL && mark_missing(name, family, answer);
  if (any && *left == NULL)
    *left = cpool__calloc(1, sizeof **left); /* without memory rotation goes unseen */
  if (*left != NULL)
    note_returns(*left, answer, now_ms);
  bool rotates = *left != NULL && now_ms < (*left)->rotates_until_ms;
  while (name != NULL && (tie = next_missing(name)) != NULL) {
    if (*left != NULL)
      note_left(*left, &tie->address, now_ms);
    if (rotates)
      continue;
    tie->left(tie);
    name = find(ties, text); /* it goes with its last tie */
  }
}
