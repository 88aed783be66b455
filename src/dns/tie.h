/* tie: what ties a connection to the name that it was made by, for as long as it is open: the name is asked for again before
 * its answer ends, and the connection hears when its address has left the answer. Loop thread; time is an argument.
 *
 * Some name servers give a part of a host's addresses at a time, another one in each answer. Their addresses come back;
 * those of a host that has moved do not. So what is missing counts as left, until one that had left comes back within
 * CPOOL__TIE_LEFT_MS: from then on, for as long again after each return, nothing counts as left. An answer of as many
 * addresses as are kept may be cut, and shows nothing. */
#ifndef CPOOL_DNS_TIE_H
#define CPOOL_DNS_TIE_H

#include <stdbool.h>

#include "base/list.h"
#include "base/table.h"
#include "dns/address.h"
#include "dns/resolver.h"

enum { CPOOL__TIE_LEFT_MS = 600000, CPOOL__TIE_LEFT_COUNT = CPOOL__DNS_ADDRESSES };

struct cpool__tied;
struct cpool__left; /* which addresses of one family of a name have left; plain memory */

/* Embedded in the connection, zeroed before first use. */
struct cpool__tie {
  struct cpool__link link;
  struct cpool__tied *name;      /* NULL: not tied, or no memory */
  struct cpool__address address; /* port 0 */
  bool missing;                  /* in the answer that is being looked at */
  /* The answer of the name servers has the address no more. May end any tie. */
  void (*left)(struct cpool__tie *tie);
};

/* All names that something is tied to. */
struct cpool__ties {
  struct cpool__table names;
};

void cpool__ties_init(struct cpool__ties *ties);
void cpool__ties_fini(struct cpool__ties *ties); /* all are ended */
/* `text` as the cache has it; address and left are set. Without memory nothing is tied. */
void cpool__ties_add(struct cpool__ties *ties, struct cpool__tie *tie, const char *text);
void cpool__ties_remove(struct cpool__ties *ties, struct cpool__tie *tie); /* harmless when it is not tied */
bool cpool__ties_any(struct cpool__ties *ties, const char *text);
/* A new answer with addresses: tells those of the family whose address has left. *left is NULL at first, and made when
 * it is needed. */
void cpool__ties_answer(struct cpool__ties *ties, const char *text, enum cpool__family family,
                        const struct cpool__family_answer *answer, struct cpool__left **left, uint64_t now_ms);

#endif
