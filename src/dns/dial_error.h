/* dial_error: what a failed dial tells its owner */
#ifndef CPOOL_DNS_DIAL_ERROR_H
#define CPOOL_DNS_DIAL_ERROR_H

#include "dns/dial.h"

/* Each fills dial->result.error. Nothing was sent, in all cases. */

/* No socket could be made: errno. */
void cpool__dial_error_system(struct cpool__dial *dial, int number);
void cpool__dial_error_memory(struct cpool__dial *dial);
/* No address is left. The step that got furthest counts: connect, then policy, then DNS. The answers are still
 * readable. */
void cpool__dial_error_fill(struct cpool__dial *dial);

#endif
