/* no_proxy: the hosts that a session reaches without its proxy
 *
 *   list  = entry { "," entry }, blanks around entries and empty ones passed over
 *   entry = "*"                           every host
 *         | [ "." | "*." ] name [":"port] the name itself and every name below it
 *         | address [":"port]             that address, written in the URL; IPv6 in brackets when a port follows
 *         | address "/" bits              the addresses of that block
 *
 * Names are never resolved for this: a name matches names, an address addresses. */
#ifndef CPOOL_HTTP_NO_PROXY_H
#define CPOOL_HTTP_NO_PROXY_H

#include <stdbool.h>

#include "web/url.h"

enum { CPOOL__NO_PROXY_BYTES = 16 * 1024 };

/* CPOOL_OK or CPOOL_EINVAL (recorded; `what` names where the list comes from). */
int cpool__no_proxy_check(const char *list, const char *what);
/* `list` has passed the check. */
bool cpool__no_proxy_match(const char *list, const struct cpool__authority *target);

#endif
