/* host_name: what is a host name, and which of them mean this host */
#ifndef CPOOL_DNS_HOST_NAME_H
#define CPOOL_DNS_HOST_NAME_H

#include <stdbool.h>

enum { CPOOL__DNS_NAME_BYTES = 253 };

/* Lower case, without the dot at the end. False: no host name. */
bool cpool__host_name_normalise(const char *name, char out[CPOOL__DNS_NAME_BYTES + 1]);
/* "localhost" and its subdomains (RFC 6761 section 6.3); the name is normalised. */
bool cpool__host_name_is_local(const char *name);

#endif
