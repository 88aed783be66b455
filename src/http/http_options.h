/* http_options: the pool's option table and the rules that it gives to other parts */
#ifndef CPOOL_HTTP_HTTP_OPTIONS_H
#define CPOOL_HTTP_HTTP_OPTIONS_H

#include <cpool.h>

#include "core/options.h"
#include "dns/resolver.h"
#include "pool/janitor.h"

extern const struct cpool__option_table cpool__http_option_table;

/* "METHOD target", see http/warm.h. CPOOL_EINVAL (recorded). */
enum { CPOOL__WARM_UP_BYTES = 512 };
int cpool__http_warm_up_check(const char *warm_up);
/* A resolved copy of the caller's options (NULL: defaults), its texts owned by it; user_agent is never NULL in it.
 * CPOOL_EINVAL, CPOOL_ENOMEM (both recorded); *out is untouched on failure. */
int cpool__http_options_make(cpool_http_options *out, const cpool_http_options *caller);
void cpool__http_options_fini(cpool_http_options *options); /* frees the texts */
/* CPOOL_OFF means no limit: INT32_MAX or INT64_MAX. */
int32_t cpool__limit32(int32_t value);
int64_t cpool__limit64(int64_t value);
void cpool__http_janitor_rules(const cpool_http_options *options, struct cpool__janitor_rules *out);
void cpool__http_dns_options(const cpool_http_options *options, struct cpool__dns_options *out);

#endif
