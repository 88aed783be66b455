/* overrides: options that cpool_http_origin_set gave to one host; they outlive the host's record */
#ifndef CPOOL_HTTP_OVERRIDES_H
#define CPOOL_HTTP_OVERRIDES_H

#include <cpool.h>

#include "base/table.h"
#include "http/http_options.h"

int cpool__override_same(const struct cpool__table_entry *entry, const void *key, size_t len); /* for pool->overrides */
/* Loop thread: replaces what is overridden for the host named by `key`. */
void cpool__overrides_apply(cpool_http *pool, const char *key, cpool_http_options *options);
/* Loop thread: the warm-up request of that host; "": none. */
void cpool__overrides_warm_up(cpool_http *pool, const char *key, char out[CPOOL__WARM_UP_BYTES]);
void cpool__overrides_fini(cpool_http *pool);

#endif
