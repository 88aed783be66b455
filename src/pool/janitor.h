/* janitor: when a connection has to go (idle time, lifetime, number of requests): arithmetic on times handed in */
#ifndef CPOOL_POOL_JANITOR_H
#define CPOOL_POOL_JANITOR_H

#include <stdbool.h>
#include <stdint.h>

struct cpool__janitor_rules {
  int64_t keepalive_timeout_ms;        /* -1: off */
  int64_t max_lifetime_ms;             /* -1: off */
  double max_lifetime_jitter_ratio;    /* 0..1; -1: off */
  int32_t max_requests_per_connection; /* -1: off */
};

/* What a connection tells about itself. */
struct cpool__janitor_life {
  uint64_t born_ms, dies_ms; /* dies: UINT64_MAX when its lifetime is unlimited */
  uint64_t idle_since_ms;
  uint32_t request_count;  /* begun on it */
  int64_t hint_timeout_ms; /* the server's Keep-Alive: timeout; -1: none */
  int64_t hint_max_count;  /* the request_count at which the server's Keep-Alive: max is used up; -1: none */
};

enum cpool__janitor_reason {
  CPOOL__JANITOR_KEEP,
  CPOOL__JANITOR_IDLE,
  CPOOL__JANITOR_LIFETIME,
  CPOOL__JANITOR_REQUESTS
};

/* `random` is any 64-bit random number: takes 0..jitter_ratio of the lifetime off. */
void cpool__janitor_born(struct cpool__janitor_life *life, const struct cpool__janitor_rules *rules, uint64_t now_ms,
                         uint64_t random);
/* The time at which an idle connection has to go (UINT64_MAX: never), and why in *reason. A server's hint is cut by a
 * second, or by half of one shorter than two: the request that is on its way when the server's timer ends must not meet
 * a closed connection. */
uint64_t cpool__janitor_idle_due(const struct cpool__janitor_life *life, const struct cpool__janitor_rules *rules,
                                 enum cpool__janitor_reason *reason);
/* Asked when a request begins (request_count already includes it): why the connection may not be used after it. */
enum cpool__janitor_reason cpool__janitor_last_use(const struct cpool__janitor_life *life,
                                                   const struct cpool__janitor_rules *rules, uint64_t now_ms);
/* Takes in a Keep-Alive field value ("timeout=5, max=100", RFC 2068 section 19.7.1.1) of the response to the latest
 * request; what is absent or malformed in it stays as it was, of repeated ones the smallest counts. */
void cpool__janitor_hint(struct cpool__janitor_life *life, const char *value, uint64_t len);

#endif
