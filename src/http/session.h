/* session: request defaults and an identity */
#ifndef CPOOL_HTTP_SESSION_H
#define CPOOL_HTTP_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <cpool.h>

#include "core/options.h"
#include "http/header_list.h"
#include "http/identity.h"
#include "web/url.h"

struct cpool_session {
  _Atomic uint32_t refs; /* the caller's one, and one per request in flight */
  cpool_http *pool;
  bool holds_pool; /* counted in pool->refs: all but the default one */
  struct cpool__identity *identity;
  struct cpool__identity *stream_identity; /* the same but for HTTP/1.1, for streamed requests; NULL: no need of it */
  struct cpool__url base;                  /* authority NULL: no base URL */
  char *base_path;                         /* without its last '/'; "" or begins with '/'; also base.target */
  size_t base_path_len;
  struct cpool__header_list headers; /* the caller's, User-Agent, Authorization */
  bool
      has_credentials; /* the last line of headers is its own Authorization: for the origin of base alone, if there is one */
  uint8_t max_redirects; /* 0: off */
  size_t block_bytes;    /* of the one block that holds all of it */
  bool has_secret;       /* the block is wiped before it is freed */
};

extern const struct cpool__option_table cpool__session_option_table;

/* As cpool_session_new (options NULL: all defaults), without looking at whether the pool is closing and without
 * counting in pool->refs: for the default session. Reads pool->wanted, urls and identities. */
int cpool__session_make(cpool_session **out, cpool_http *pool, const cpool_session_options *options);
void cpool__session_hold(cpool_session *session);
void cpool__session_drop(cpool_session *session);

#endif
