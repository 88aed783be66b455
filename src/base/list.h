/* list: an intrusive doubly linked list; a link knows whether it is in a list, and leaves it without knowing which */
#ifndef CPOOL_BASE_LIST_H
#define CPOOL_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct cpool__link {
  struct cpool__link *prev, *next; /* both NULL: in no list */
};

struct cpool__list {
  struct cpool__link head; /* ring: head.next is the first, head.prev the last */
};

#define cpool__container_of(ptr, type, member) ((type *) (void *) ((char *) (ptr) -offsetof(type, member)))

static inline void cpool__list_init(struct cpool__list *list)
{
  list->head.prev = list->head.next = &list->head;
}

static inline bool cpool__list_empty(const struct cpool__list *list)
{
  return list->head.next == &list->head;
}

static inline bool cpool__link_in(const struct cpool__link *link)
{
  return link->next != NULL;
}

static inline void cpool__list_insert_before(struct cpool__link *at, struct cpool__link *link)
{
  link->prev = at->prev;
  link->next = at;
  at->prev->next = link;
  at->prev = link;
}

static inline void cpool__list_push_back(struct cpool__list *list, struct cpool__link *link)
{
  cpool__list_insert_before(&list->head, link);
}

static inline void cpool__list_push_front(struct cpool__list *list, struct cpool__link *link)
{
  cpool__list_insert_before(list->head.next, link);
}

/* Harmless when the link is in no list. */
static inline void cpool__link_remove(struct cpool__link *link)
{
  if (link->next == NULL)
    return;
  link->prev->next = link->next;
  link->next->prev = link->prev;
  link->prev = link->next = NULL;
}

/* First, last, next or NULL. */
static inline struct cpool__link *cpool__list_first(const struct cpool__list *list)
{
  return cpool__list_empty(list) ? NULL : list->head.next;
}

static inline struct cpool__link *cpool__list_last(const struct cpool__list *list)
{
  return cpool__list_empty(list) ? NULL : list->head.prev;
}

static inline struct cpool__link *cpool__list_next(const struct cpool__list *list, const struct cpool__link *link)
{
  return link->next == &list->head ? NULL : link->next;
}

static inline struct cpool__link *cpool__list_prev(const struct cpool__list *list, const struct cpool__link *link)
{
  return link->prev == &list->head ? NULL : link->prev;
}

static inline struct cpool__link *cpool__list_pop_front(struct cpool__list *list)
{
  struct cpool__link *link = cpool__list_first(list);
  if (link != NULL)
    cpool__link_remove(link);
  return link;
}

/* Moves all of `from` to the end of `to`; `from` ends up empty. */
static inline void cpool__list_splice(struct cpool__list *to, struct cpool__list *from)
{
  if (cpool__list_empty(from))
    return;
  from->head.next->prev = to->head.prev;
  to->head.prev->next = from->head.next;
  from->head.prev->next = &to->head;
  to->head.prev = from->head.prev;
  cpool__list_init(from);
}

#endif
