/* address: an IP address with its port, and which of them are public */
#ifndef CPOOL_DNS_ADDRESS_H
#define CPOOL_DNS_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct cpool__address {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } sock;
  socklen_t len; /* 0: none */
};

enum { CPOOL__ADDRESS_TEXT = 64 };

/* A literal without brackets, dotted quad or IPv6 without zone. */
bool cpool__address_parse(struct cpool__address *out, const char *literal, uint16_t port);
/* One of "192.0.2.1", "192.0.2.1:53", "::1", "[::1]", "[::1]:53", of `len` bytes; blanks around it are passed over. */
bool cpool__address_parse_with_port(struct cpool__address *out, const char *text, size_t len, uint16_t default_port);
/* An IPv4 address that an IPv6 socket shows as "::ffff:192.0.2.1" is one again. */
void cpool__address_unmap(struct cpool__address *address);
void cpool__address_set_port(struct cpool__address *address, uint16_t port);
uint16_t cpool__address_port(const struct cpool__address *address);
/* "192.0.2.1" or "2001:db8::1". */
void cpool__address_host_text(const struct cpool__address *address, char out[CPOOL__ADDRESS_TEXT]);
/* "192.0.2.1:443" or "[2001:db8::1]:443". */
void cpool__address_text(const struct cpool__address *address, char out[CPOOL__ADDRESS_TEXT]);
bool cpool__address_equal(const struct cpool__address *a, const struct cpool__address *b); /* port included */
/* False for every special-purpose range (IANA registries of RFC 6890): this host, loopback, private, shared (CGNAT),
 * link-local (with the metadata services), unique local, multicast, reserved, documentation, benchmarking, broadcast,
 * and IPv6 forms that carry an IPv4 address (mapped, compatible, NAT64 64:ff9b::/96 and 64:ff9b:1::/48, 6to4, Teredo). */
bool cpool__address_public(const struct cpool__address *address);

#endif
