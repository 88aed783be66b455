/* proxy: which proxy a session's requests go through, read from its options or, when asked, from the environment
 *
 *   option or variable -> cpool__proxy_settings, canonical texts -> part of the identity's key
 *   identity + target  -> cpool__proxy_for: the URL of the proxy to use, or none
 *
 * Every target is reached through a tunnel: CONNECT (RFC 9110 section 9.3.6) at an HTTP proxy, RFC 1928 at a SOCKS5 one.
 * The target's name is the proxy's to resolve; the proxy's own is ours. */
#ifndef CPOOL_HTTP_PROXY_H
#define CPOOL_HTTP_PROXY_H

#include <stdint.h>
#include <cpool.h>

#include "http/identity.h"
#include "web/url.h"

enum cpool__proxy_kind { CPOOL__PROXY_NONE, CPOOL__PROXY_HTTP, CPOOL__PROXY_HTTPS, CPOOL__PROXY_SOCKS5 };

/* CPOOL__PROXY_URL_BYTES: scheme, the longest host in brackets, port. CREDENTIAL_BYTES: of user or password. */
enum { CPOOL__PROXY_URL_BYTES = 320, CPOOL__PROXY_HOST_BYTES = 256, CPOOL__PROXY_CREDENTIAL_BYTES = 1024 };

/* What a session's options say, completed. Each text is NULL when there is none. */
struct cpool__proxy_settings {
  char *http_proxy, *https_proxy;                 /* for targets of that scheme: "http://host:port", "socks5h://..." */
  char *http_proxy_userpwd, *https_proxy_userpwd; /* "user:password", each percent-encoded as libcurl wants it */
  char *no_proxy;
};

/* Reads the proxy options of a session (checked by their table) and, when they ask for it, the environment. CPOOL_EINVAL
 * (recorded: names the option or variable, never quotes it) or CPOOL_ENOMEM (recorded); nothing is to be freed then. */
int cpool__proxy_settings_make(struct cpool__proxy_settings *out, cpool_http *pool,
                               const cpool_session_options *options);
void cpool__proxy_settings_fini(struct cpool__proxy_settings *settings); /* wipes */

/* The URL of the proxy through which the identity reaches this target; NULL: it connects by itself. */
const char *cpool__proxy_for(const struct cpool__identity *identity, const struct cpool__authority *target);
/* Its parts again; the host without brackets. */
enum cpool__proxy_kind cpool__proxy_split(const char *url, char host[CPOOL__PROXY_HOST_BYTES], uint16_t *port);

#endif
