/* stock: how many connections an origin keeps ahead of its requests, and when one more is to be made. As admission, which
 * it is a part of: integers in, decisions out.
 *
 * An origin wants a number of places that can take a request at once: idle ones, shared ones, and those that are being
 * connected for nobody (`ahead`). One that has fewer gets another one
 *   - while nobody waits at it: what opens then is a waiter's;
 *   - within all limits, and without any eviction: stock is made of room that is left over, and whoever waits may have
 *     it evicted;
 *   - at half of connecting_limit, so that those who cannot wait find room beside it;
 *   - one at a time as long as the last failures are not made up for, and none while they are waited out.
 *
 * Stock is made for the group that waited last. */
#ifndef CPOOL_POOL_STOCK_H
#define CPOOL_POOL_STOCK_H

#include "pool/admission.h"

enum {
  CPOOL__STOCK_WAIT_MS = 100,       /* after the first failure; doubled with each further one */
  CPOOL__STOCK_WAIT_MAX_MS = 30000, /* less up to half of it, at random */
  CPOOL__STOCK_STABLE_MS = 5000     /* unused connections that a peer ends later than this are no failures */
};

/* To be asked when cpool__admission_next has said NONE. The group for which a place has to be opened at once, and marked
 * by cpool__place_ahead; NULL: none. */
struct cpool__group *cpool__stock_next(struct cpool__admission *adm);
/* So many places are wanted; 0: none, and the origin is in no list because of them. */
void cpool__stock_want(struct cpool__admission *adm, struct cpool__origin_policy *origin, int32_t wanted);
/* The group before any waiter came; no effect afterwards. */
void cpool__stock_begin(struct cpool__admission *adm, struct cpool__group *group);
/* The group is going to be freed. */
void cpool__stock_forget(struct cpool__group *group);
/* Whether the place is being connected for nobody; one that falls idle or is closed is not any more. */
void cpool__place_ahead(struct cpool__admission *adm, struct cpool__place *place, bool ahead);
/* Something changed at the origin: it may be short of stock. */
void cpool__stock_changed(struct cpool__admission *adm, struct cpool__origin_policy *origin);

/* One could not be made, or ended unused and too early. The time in ms after which cpool__stock_release is to be called;
 * 0: that is under way already, or nothing is wanted. `random` is any 64-bit random number. */
int64_t cpool__stock_failed(struct cpool__origin_policy *origin, uint64_t random);
void cpool__stock_release(struct cpool__admission *adm, struct cpool__origin_policy *origin);
/* One served a request, or lasted. */
void cpool__stock_proved(struct cpool__admission *adm, struct cpool__origin_policy *origin);

#endif
