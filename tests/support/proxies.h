/* proxies: real proxies (tinyproxy, microsocks, haproxy as the TLS side of one) as children of the test, on free ports */
#ifndef CPOOL_SUPPORT_PROXIES_H
#define CPOOL_SUPPORT_PROXIES_H

#include "support/certs.h"
#include "support/process.h"

/* As the starts of process.h. user NULL: no credentials are asked for. */
struct process *tinyproxy_start(const char *user,
                                const char *password); /* HTTP; DIR/proxy.log has a line per request */
struct process *microsocks_start(const char *user, const char *password); /* SOCKS5 */
/* TLS with this certificate, handed on to 127.0.0.1:backend_port without a look inside. */
struct process *tls_front_start(const struct cert_pair *pair, uint16_t backend_port);

#endif
