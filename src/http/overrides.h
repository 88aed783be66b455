/* overrides: options that cpool_http_origin_set gave to one host; they outlive the host's record */
#ifndef CPOOL_HTTP_OVERRIDES_H
#define CPOOL_HTTP_OVERRIDES_H

#include <cpool.h>

#include "base/table.h"

int cpool__override_same(const struct cpool__table_entry *entry, const void *key, size_t len); /* for pool->overrides */
/* Loop thread: replaces what is overridden for the host named by `key`. */
void cpool__overrides_apply(cpool_http *pool, const char *key, cpool_http_options *options);
void cpool__overrides_fini(cpool_http *pool);

#endif
