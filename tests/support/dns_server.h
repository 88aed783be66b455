/* dns_server: a DNS server on loopback, UDP and TCP on one port, that answers each name by the book or against it */
#ifndef CPOOL_SUPPORT_DNS_SERVER_H
#define CPOOL_SUPPORT_DNS_SERVER_H

#include <stdbool.h>
#include <stdint.h>

enum dns_answer {
  DNS_ADDRESSES, /* what the rule lists; with nothing listed NOERROR without records */
  DNS_NXDOMAIN,
  DNS_SERVFAIL,
  DNS_REFUSED,
  DNS_SILENT,    /* nothing at all */
  DNS_GARBAGE,   /* the right id, then bytes that are no message */
  DNS_WRONG_ID,  /* a correct answer to another question */
  DNS_TRUNCATED, /* over UDP: TC and no records, whatever the size; over TCP as DNS_ADDRESSES */
  DNS_TCP_CLOSED /* TC over UDP; the TCP connection is closed without an answer */
};

enum { DNS_TYPE_A = 1, DNS_TYPE_AAAA = 28 };

/* What one type of one name gets. */
struct dns_type_rule {
  enum dns_answer answer;
  const char *addresses; /* numeric, separated by spaces: "127.0.0.1 127.0.0.2"; NULL: none */
  int32_t made_count;    /* so many more made ones: 10.0.0.1, 10.0.0.2 ... or fd00::1, fd00::2 ... */
  uint32_t ttl_s;
  int64_t delay_ms;
};

struct dns_rule {
  const char *name;  /* without final dot, any case; "*": every name without a rule */
  const char *cname; /* "b.test c.test": name -> b.test -> c.test, which owns the addresses; NULL: none */
  uint32_t cname_ttl_s;
  uint32_t negative_ttl_s; /* > 0: an SOA with this minimum goes with NXDOMAIN and with empty answers */
  struct dns_type_rule a, aaaa;
};

struct dns_server;

/* `address` is numeric, NULL: 127.0.0.1; `port` 0: a free one. A name without a rule is NXDOMAIN; other types than A
 * and AAAA get an empty answer. Answers over 512 bytes, or over what the query's EDNS record allows, are truncated on
 * UDP. NULL: could not be started, the reason is on stderr. */
struct dns_server *dns_server_start(const char *address, uint16_t port);
uint16_t dns_server_port(const struct dns_server *server);
void dns_server_stop(struct dns_server *server);

/* Any thread, at any time; copies the rule. set replaces the rule of that name; an answer already delayed keeps its
 * old content. */
void dns_server_set(struct dns_server *server, const struct dns_rule *rule);
void dns_server_remove(struct dns_server *server, const char *name);
/* Short form: `addresses` may mix A and AAAA. */
void dns_server_set_addresses(struct dns_server *server, const char *name, const char *addresses, uint32_t ttl_s);

/* Queries seen since the start: `name` NULL counts all names, `type` 0 all types. Counted before the answer leaves. */
int64_t dns_server_queries(struct dns_server *server, const char *name, uint16_t type);
int64_t dns_server_tcp_queries(struct dns_server *server);

#endif
