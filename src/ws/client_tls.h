/* client_tls: how dialled connections prove servers, and themselves: one context of OpenSSL for all that ask for the same */
#ifndef CPOOL_WS_CLIENT_TLS_H
#define CPOOL_WS_CLIENT_TLS_H

#include <stdbool.h>
#include <cpool.h>

#include "base/list.h"

struct ssl_ctx_st;

struct cpool__client_tls {
  struct cpool__link link;
  struct ssl_ctx_st *context;
  struct cpool__gate *gate; /* loop thread; NULL: not made yet */
  bool verify;
  char *settings; /* what it was made of, as one text; has a password */
};

enum { CPOOL__CLIENT_TLS_MOST = 64, CPOOL__CLIENT_TLS_TEXT = 128 };

/* Of the resolved options. CPOOL_ETLS_CONFIG, CPOOL_ENOMEM (recorded). */
int cpool__client_tls_new(struct cpool__client_tls **out, const cpool_ws_connect_options *options);
void cpool__client_tls_free(struct cpool__client_tls *tls); /* NULL is legal */
/* Whether the same options made it. */
bool cpool__client_tls_fits(const struct cpool__client_tls *tls, const cpool_ws_connect_options *options);
/* Inside a verification of OpenSSL: whether the certificate that it looks at will do for the host. False: `text` says
 * why not. */
bool cpool__client_tls_judge(const struct cpool__client_tls *tls, const char *host, void *store_context, bool trusted,
                             char text[CPOOL__CLIENT_TLS_TEXT]);

#endif
