/* blackhole: a port that swallows connects: they neither finish nor fail until the kernel gives up after minutes */
#ifndef CPOOL_SUPPORT_BLACKHOLE_H
#define CPOOL_SUPPORT_BLACKHOLE_H

#include <stdint.h>

struct blackhole;

/* A listener with a full accept queue, so that the kernel drops every SYN. `address` is numeric loopback,
 * NULL: 127.0.0.1; `port` 0: a free one. NULL: could not be set up, the reason is on stderr. */
struct blackhole *blackhole_start(const char *address, uint16_t port);
uint16_t blackhole_port(const struct blackhole *hole);
void blackhole_stop(struct blackhole *hole);

/* Numeric address and port as a stream listener: non-blocking, close-on-exec, reusable. Sets *port to the one in use.
 * -1: errno tells why. */
int listen_on(const char *address, uint16_t *port, int backlog);

#endif
