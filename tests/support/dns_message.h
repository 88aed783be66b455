/* dns_message: reads one DNS question and writes the answer that a rule asks for */
#ifndef CPOOL_SUPPORT_DNS_MESSAGE_H
#define CPOOL_SUPPORT_DNS_MESSAGE_H

#include "support/dns_server.h"

#include <stddef.h>

enum { DNS_NAME_BYTES = 256, DNS_MESSAGE_BYTES = 65535 };

struct dns_question {
  uint16_t type;
  size_t end;                /* offset behind the question in the query */
  size_t udp_bytes;          /* what the asker takes over UDP */
  char name[DNS_NAME_BYTES]; /* lower case, dotted, no final dot */
};

bool dns_question_parse(const uint8_t *query, size_t len, struct dns_question *out);

/* Writes the answer into `out` (DNS_MESSAGE_BYTES) and returns its length; 0: stay silent. `rule` NULL: NXDOMAIN. */
size_t dns_answer_write(const struct dns_rule *rule, const struct dns_question *question, const uint8_t *query,
                        bool tcp, uint8_t *out);

/* The part of a rule that answers `type`; NULL for other types. */
const struct dns_type_rule *dns_rule_of_type(const struct dns_rule *rule, uint16_t type);

#endif
