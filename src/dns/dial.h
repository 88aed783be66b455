/* dial: from a host name to one connected TCP socket; addresses are raced (RFC 8305). Loop thread only.
 *
 *   resolve -> IPv6 first; 50 ms of patience for it when IPv4 came first -> connect the first address
 *   -> every race_delay_ms, or at once when an attempt fails, connect the next one, families in turn, in each the one with
 *      the fewest connections first, and those that failed lately last (peers.h), if the owner grants a place; when none is granted the oldest attempt is given up for it
 *   -> the first that connects wins, the others are closed
 *
 * When every other address has failed, those given up are tried once more, one at a time. An attempt ends by its
 * connect(2), or with the dial, whose time the owner limits. */
#ifndef CPOOL_DNS_DIAL_H
#define CPOOL_DNS_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <cpool.h>

#include "base/wheel.h"
#include "core/runtime.h"
#include "dns/address.h"
#include "dns/resolver.h"

enum { CPOOL__DIAL_RACE = 4, CPOOL__DIAL_V6_PATIENCE_MS = 50 };

struct cpool__dial;

/* The owner's side. `grant` is asked before each socket beyond the first that is open at a time. A granted place is
 * taken by the next opened; when making the socket fails it stays granted, without being asked for again, until the
 * next opened, closed or done. Every socket is reported by opened and, unless it is handed over by done, by closed
 * (before the fd is closed). The calls come from the loop, never from inside cpool__dial_start; closed also from inside
 * cpool__dial_cancel. grant, opened and closed must not start, cancel or free a dial. */
struct cpool__dial_owner {
  bool (*grant)(struct cpool__dial *dial);
  void (*opened)(struct cpool__dial *dial, int fd);
  void (*closed)(struct cpool__dial *dial, int fd);
  void (*done)(struct cpool__dial *dial); /* once; result filled; the dial may be freed inside */
};

struct cpool__peer;

struct cpool__dial_result {
  int fd; /* connected, non-blocking, close-on-exec, in no epoll set, now the owner's; -1 on failure */
  struct cpool__peer *peer; /* with the fd: the owner's, for cpool__peers_close; NULL without memory */
  struct cpool__address address;
  int64_t dns_us;     /* start until the first connect; 0 for a literal */
  int64_t connect_us; /* first connect until the winner's end, lost attempts included; 0: none was begun */
  /* CPOOL_OK, or CPOOL_EDNS_NOTFOUND, CPOOL_EDNS_FAILED, CPOOL_EADDRESS, CPOOL_ECONNECT (native: errno of the last
   * attempt), CPOOL_ESYSTEM (native: errno), CPOOL_ENOMEM. */
  cpool_error error;
};

struct cpool__dial_attempt {
  struct cpool__dial *dial;
  struct cpool__address address;
  int fd; /* -1: free */
  struct cpool__peer *peer;
  int family; /* with bit: its place in `tried` */
  unsigned bit;
  uint64_t begun_us;
};

struct cpool__dial {
  cpool_runtime *rt;
  struct cpool__resolver *resolver;
  const struct cpool__dial_owner *owner;
  const char *host; /* borrowed until done or cancel */
  uint16_t port;
  int32_t policy;        /* enum cpool_address_policy */
  int64_t race_delay_ms; /* negative: the next address only when one failed */
  int prefer_family;     /* AF_INET: an earlier dial of this host found IPv6 dead; else 0 */
  struct cpool__dial_result result;
  /* private */
  struct cpool__lookup lookup;
  struct cpool__address literal; /* len 0: the host is a name */
  struct cpool__timer timer;     /* patience, then the pace of the race */
  struct cpool__task task;
  struct cpool__dial_attempt attempts[CPOOL__DIAL_RACE];
  struct cpool__address last_address; /* of last_errno */
  uint64_t begun_us, resolved_us;     /* resolved: 0 until the race began */
  unsigned tried[CPOOL__FAMILIES];    /* bits: addresses of the answer already tried, or forbidden */
  unsigned given_up[CPOOL__FAMILIES]; /* of these: closed unanswered for want of a place */
  int next_family, open_count, tried_count, last_errno;
  int refused_count; /* addresses that the policy forbade */
  bool running, patient, second_round;
  bool place_held; /* granted, and no socket opened or closed since */
};

/* The fields before `private` are set by the caller, the rest zeroed; a dial that is over may be zeroed and used
 * again. No DNS for a literal, which stands without brackets. CPOOL_OK or CPOOL_ENOMEM. */
int cpool__dial_start(struct cpool__dial *dial);
/* Closes what is open (reported by closed); no call follows afterwards. Harmless when not running. */
void cpool__dial_cancel(struct cpool__dial *dial);

#endif
