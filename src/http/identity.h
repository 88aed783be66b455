/* identity: what keeps connections apart: TLS settings, client certificate, address policy, unix socket, proxy. One libcurl
 * multi handle each, so that a wrong match is impossible. Made and counted on any thread under the pool's lock; its
 * libcurl part belongs to the loop thread. */
#ifndef CPOOL_HTTP_IDENTITY_H
#define CPOOL_HTTP_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>
#include <pthread.h>
#include <cpool.h>

#include "base/list.h"
#include "base/table.h"
#include "core/runtime.h"

struct cpool__curl; /* curl_loop.h: the multi and what drives it */
struct cpool__proxy_settings;

struct cpool__identity {
  struct cpool__table_entry entry;
  cpool_http *pool;
  uint32_t refs;                /* sessions and requests; under the lock */
  struct cpool__msg unused_msg; /* posted when the last reference goes while `curl` exists */
  bool unused_posted;           /* under the lock: at most one such message is on its way */
  /* settings; texts within the same block, NULL when not set */
  bool tls_verify;
  int32_t tls_min_version, address_policy, http_version;
  const char *ca_file, *client_cert_file, *client_key_file, *client_key_password, *unix_socket_path, *pinned_public_key;
  const char *http_proxy, *https_proxy, *http_proxy_userpwd, *https_proxy_userpwd, *no_proxy; /* proxy.h */
  size_t key_len;
  const char *key; /* all settings, length-prefixed: equal keys are equal identities */
  /* loop thread */
  struct cpool__curl *curl; /* NULL until a request needs it. Set and cleared under the lock: drop reads it there */
};

struct cpool__identities {
  pthread_mutex_t lock;
  struct cpool__table table;
  int32_t limit, count; /* count: with refs > 0 */
};

void cpool__identities_init(struct cpool__identities *ids, int32_t limit);
void cpool__identities_fini(struct cpool__identities *ids); /* frees what is left: no references, no curl part */
/* Finds or makes the identity of these (resolved) session options and proxies, with one reference more. CPOOL_EFULL,
 * CPOOL_ENOMEM (both recorded). */
int cpool__identity_take(cpool_http *pool, const cpool_session_options *options,
                         const struct cpool__proxy_settings *proxies, struct cpool__identity **out);
/* The last one removes it: at once when it has no curl part, else the loop is asked to; while the pool closes it
 * stays until cpool__identities_fini. */
void cpool__identity_drop(struct cpool__identity *identity);
/* Loop thread, under the lock, refs and curl gone and no message on its way: out of the table, wiped and freed. */
void cpool__identity_remove_locked(struct cpool__identity *identity);
/* The message's function (curl_loop.c; the message counts in pool->inflight_count): destroys the curl part while
 * refs is 0, then, under the lock, clears unused_posted and removes when refs is still 0. unused_posted stays set
 * until that last look: a session that comes and goes meanwhile then neither posts nor frees. */
void cpool__identity_unused(struct cpool__msg *msg);

#endif
