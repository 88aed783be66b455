/* address: an IP address with its port, and which of them are public
 *
 * Public is decided by prefix tables. IPv4: everything but the listed prefixes. IPv6: nothing but 2000::/3, the only
 * space given out for global unicast, less the listed prefixes. NAT64's 64:ff9b::/96 (RFC 6052) is outside of it: what a
 * translator does with the IPv4 address inside is not known here. */
#include "dns/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct prefix {
  uint8_t bytes[16];
  unsigned bits;
};

static const struct prefix ipv4_special[] = {
    {{0}, 8},                 /* this network, RFC 791 */
    {{10}, 8},                /* private, RFC 1918 */
    {{100, 64}, 10},          /* shared (CGNAT), RFC 6598 */
    {{127}, 8},               /* loopback, RFC 1122 */
    {{168, 63, 129, 16}, 32}, /* in no registry: a cloud's agent, that only its guests reach */
    {{169, 254}, 16},         /* link-local, RFC 3927, metadata services */
    {{172, 16}, 12},          /* private, RFC 1918 */
    {{192, 0, 0}, 24},        /* protocol assignments, RFC 6890 */
    {{192, 0, 2}, 24},        /* documentation, RFC 5737 */
    {{192, 31, 196}, 24},     /* AS112, RFC 7535 */
    {{192, 52, 193}, 24},     /* AMT, RFC 7450 */
    {{192, 88, 99}, 24},      /* 6to4 relay, RFC 7526 */
    {{192, 168}, 16},         /* private, RFC 1918 */
    {{192, 175, 48}, 24},     /* AS112, RFC 7534 */
    {{198, 18}, 15},          /* benchmarking, RFC 2544 */
    {{198, 51, 100}, 24},     /* documentation, RFC 5737 */
    {{203, 0, 113}, 24},      /* documentation, RFC 5737 */
    {{224}, 4},               /* multicast, RFC 5771 */
    {{240}, 4},               /* reserved, RFC 1112, and broadcast */
};

static const struct prefix ipv6_global = {{0x20}, 3};

/* Inside ipv6_global. */
static const struct prefix ipv6_special[] = {
    {{0x20, 0x01}, 23},                         /* protocol assignments, RFC 2928: Teredo, benchmarking, ORCHID ... */
    {{0x20, 0x01, 0x0d, 0xb8}, 32},             /* documentation, RFC 3849 */
    {{0x20, 0x02}, 16},                         /* 6to4, RFC 3056 */
    {{0x26, 0x20, 0x00, 0x4f, 0x80, 0x00}, 48}, /* AS112, RFC 7534 */
    {{0x3f, 0xff}, 20},                         /* documentation, RFC 9637 */
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

bool cpool__address_parse(struct cpool__address *out, const char *literal, uint16_t port)
{
  struct cpool__address address;
  memset(&address, 0, sizeof address);
  if (inet_pton(AF_INET, literal, &address.sock.v4.sin_addr) == 1) {
    address.sock.v4.sin_family = AF_INET;
    address.len = sizeof address.sock.v4;
  } else {
    memset(&address, 0, sizeof address);
    if (inet_pton(AF_INET6, literal, &address.sock.v6.sin6_addr) != 1)
      return false;
    address.sock.v6.sin6_family = AF_INET6;
    address.len = sizeof address.sock.v6;
  }
  cpool__address_set_port(&address, port);
  *out = address;
  return true;
}

bool cpool__address_parse_with_port(struct cpool__address *out, const char *text, size_t len, uint16_t default_port)
{
  char literal[CPOOL__ADDRESS_TEXT];
  while (len > 0 && *text == ' ') {
    text++;
    len--;
  }
  while (len > 0 && text[len - 1] == ' ')
    len--;
  if (len == 0 || len >= sizeof literal)
    return false;
  memcpy(literal, text, len);
  literal[len] = '\0';

  char *host = literal, *port_text = NULL;
  if (literal[0] == '[') {
    char *end = strchr(literal, ']');
    if (end == NULL || (end[1] != '\0' && end[1] != ':'))
      return false;
    host = literal + 1;
    port_text = end[1] == ':' ? end + 2 : NULL;
    *end = '\0';
    if (strchr(host, ':') == NULL)
      return false;
  } else {
    char *colon = strchr(literal, ':');
    if (colon != NULL && strchr(colon + 1, ':') == NULL) {
      *colon = '\0';
      port_text = colon + 1;
    }
  }
  unsigned long port = default_port;
  if (port_text != NULL) {
    if (port_text[0] == '\0' || strlen(port_text) > 5 || strspn(port_text, "0123456789") != strlen(port_text))
      return false;
    port = strtoul(port_text, NULL, 10);
  }
  return port >= 1 && port <= UINT16_MAX && cpool__address_parse(out, host, (uint16_t) port);
}

void cpool__address_unmap(struct cpool__address *address)
{
  const struct sockaddr_in6 *v6 = &address->sock.v6;
  if (address->sock.any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
    return;
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = v6->sin6_port};
  memcpy(&v4.sin_addr, &v6->sin6_addr.s6_addr[12], sizeof v4.sin_addr);
  address->sock.v4 = v4;
  address->len = sizeof v4;
}

void cpool__address_set_port(struct cpool__address *address, uint16_t port)
{
  if (address->sock.any.sa_family == AF_INET)
    address->sock.v4.sin_port = htons(port);
  else
    address->sock.v6.sin6_port = htons(port);
}

uint16_t cpool__address_port(const struct cpool__address *address)
{
  return ntohs(address->sock.any.sa_family == AF_INET ? address->sock.v4.sin_port : address->sock.v6.sin6_port);
}

void cpool__address_host_text(const struct cpool__address *address, char out[CPOOL__ADDRESS_TEXT])
{
  const char *text = NULL;
  if (address->sock.any.sa_family == AF_INET)
    text = inet_ntop(AF_INET, &address->sock.v4.sin_addr, out, CPOOL__ADDRESS_TEXT);
  else if (address->sock.any.sa_family == AF_INET6)
    text = inet_ntop(AF_INET6, &address->sock.v6.sin6_addr, out, CPOOL__ADDRESS_TEXT);
  if (text == NULL)
    out[0] = '\0';
}

void cpool__address_text(const struct cpool__address *address, char out[CPOOL__ADDRESS_TEXT])
{
  char host[INET6_ADDRSTRLEN] = ""; /* 46 bytes; with brackets, colon and port it stays below 64 */
  if (address->sock.any.sa_family == AF_INET6) {
    (void) inet_ntop(AF_INET6, &address->sock.v6.sin6_addr, host, sizeof host);
    snprintf(out, CPOOL__ADDRESS_TEXT, "[%s]:%u", host, (unsigned) cpool__address_port(address));
  } else if (address->sock.any.sa_family == AF_INET) {
    (void) inet_ntop(AF_INET, &address->sock.v4.sin_addr, host, sizeof host);
    snprintf(out, CPOOL__ADDRESS_TEXT, "%s:%u", host, (unsigned) cpool__address_port(address));
  } else {
    out[0] = '\0';
  }
}

bool cpool__address_equal(const struct cpool__address *a, const struct cpool__address *b)
{
  if (a->sock.any.sa_family != b->sock.any.sa_family || cpool__address_port(a) != cpool__address_port(b))
    return false;
  if (a->sock.any.sa_family == AF_INET)
    return a->sock.v4.sin_addr.s_addr == b->sock.v4.sin_addr.s_addr;
  return memcmp(&a->sock.v6.sin6_addr, &b->sock.v6.sin6_addr, sizeof a->sock.v6.sin6_addr) == 0;
}

static bool inside(const uint8_t *bytes, const struct prefix *prefix)
{
  unsigned whole = prefix->bits / 8, rest = prefix->bits % 8;
  if (memcmp(bytes, prefix->bytes, whole) != 0)
    return false;
  return rest == 0 || (bytes[whole] ^ prefix->bytes[whole]) >> (8 - rest) == 0;
}

static bool inside_any(const uint8_t *bytes, const struct prefix *prefixes, size_t count)
{
  for (size_t i = 0; i < count; i++)
    if (inside(bytes, &prefixes[i]))
      return true;
  return false;
}

static bool ipv4_public(const uint8_t bytes[4])
{
  return !inside_any(bytes, ipv4_special, COUNT_OF(ipv4_special));
}

bool cpool__address_public(const struct cpool__address *address)
{
  if (address->sock.any.sa_family == AF_INET)
    return ipv4_public((const uint8_t *) &address->sock.v4.sin_addr);
  if (address->sock.any.sa_family != AF_INET6)
    return false;
  const uint8_t *bytes = address->sock.v6.sin6_addr.s6_addr;
  return inside(bytes, &ipv6_global) && !inside_any(bytes, ipv6_special, COUNT_OF(ipv6_special));
}
