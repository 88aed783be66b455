/* ares_loop: the one bridge between c-ares and the loop: questions in, decoded answers out. Loop thread only.
 *
 * c-ares reads its timeouts and resolv.conf when a channel is made. A change to either gives the questions that
 * follow a new channel; the old one is destroyed when its last question is answered. A single question cannot be
 * taken back. */
#ifndef CPOOL_DNS_ARES_LOOP_H
#define CPOOL_DNS_ARES_LOOP_H

#include <stdint.h>

#include "core/runtime.h"
#include "dns/address.h"
#include "dns/resolver.h"

struct cpool__ares_loop;

struct cpool__ares_answer {
  int status; /* CPOOL_OK (count > 0), CPOOL_EDNS_NOTFOUND, CPOOL_EDNS_FAILED, CPOOL_ENOMEM, CPOOL_ESYSTEM */
  int native; /* c-ares code; errno for CPOOL_ESYSTEM */
  int count;
  int64_t ttl_ms;                                        /* the shortest of all records, aliases included */
  struct cpool__address addresses[CPOOL__DNS_ADDRESSES]; /* port 0, in the order of the answer, none twice */
};

/* Once per question, possibly from inside cpool__ares_loop_ask; must neither ask nor free the loop. */
typedef void cpool__ares_fn(void *argument, const struct cpool__ares_answer *answer);

/* "127.0.0.1:5353,[::1]:53"; port 53 where none is given. CPOOL_OK, CPOOL_EINVAL, CPOOL_ENOMEM. servers NULL: those
 * of the file resolv_conf, NULL: /etc/resolv.conf. Copies. */
int cpool__ares_loop_new(struct cpool__ares_loop **out, cpool_runtime *rt, const char *servers,
                         const char *resolv_conf);
/* Answers what is still open with CPOOL_EDNS_FAILED. NULL is legal. */
void cpool__ares_loop_free(struct cpool__ares_loop *loop);
/* For all tries of one question together; 0 or less: c-ares' own. For the questions that follow. */
void cpool__ares_loop_set_timeout(struct cpool__ares_loop *loop, int64_t timeout_ms);
/* CPOOL_OK: `fn` has been or will be called. CPOOL_ENOMEM, CPOOL_EDNS_FAILED (*native: c-ares code) or CPOOL_ESYSTEM
 * (*native: errno): it will not. */
int cpool__ares_loop_ask(struct cpool__ares_loop *loop, const char *name, enum cpool__family family, cpool__ares_fn *fn,
                         void *argument, int *native);

#endif
