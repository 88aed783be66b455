/* inbox: a stack that any thread pushes to with one compare-and-swap, taken whole by the loop and turned around
 *
 * Nobody pops a single message, so that a message's address may come back while a push looks at it (ABA) without harm:
 * whatever `head` is at the moment of the swap is what the new message must point to. */
#include "core/inbox.h"

#include <stddef.h>

bool cpool__inbox_push(struct cpool__inbox *inbox, struct cpool__msg *msg)
{
  struct cpool__msg *head = atomic_load_explicit(&inbox->head, memory_order_relaxed);
  do {
    msg->next = head;
  } while (
      !atomic_compare_exchange_weak_explicit(&inbox->head, &head, msg, memory_order_release, memory_order_relaxed));
  return head == NULL; /* the message itself may be gone already */
}

bool cpool__inbox_empty(const struct cpool__inbox *inbox)
{
  return atomic_load_explicit(&inbox->head, memory_order_relaxed) == NULL;
}

struct cpool__msg *cpool__inbox_take(struct cpool__inbox *inbox)
{
  if (cpool__inbox_empty(inbox))
    return NULL;
  struct cpool__msg *newest = atomic_exchange_explicit(&inbox->head, NULL, memory_order_acquire);
  struct cpool__msg *oldest = NULL;
  while (newest != NULL) {
    struct cpool__msg *next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  return oldest;
}
