/* dns_message: reads one DNS question and writes the answer that a rule asks for */
#include "support/dns_message.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { HEADER_BYTES = 12, TYPE_CNAME = 5, TYPE_SOA = 6, TYPE_OPT = 41, CLASS_IN = 1, PLAIN_UDP_BYTES = 512 };
enum { RCODE_SERVFAIL = 2, RCODE_NXDOMAIN = 3, RCODE_REFUSED = 5 };
enum { FLAG_QR_AA = 0x84, FLAG_TC = 0x02, FLAG_RD = 0x01, FLAG_RA = 0x80 };

struct writer {
  uint8_t *out;
  size_t len; /* counts on beyond the limit, so that the caller sees the overflow */
};

static uint16_t get16(const uint8_t *from)
{
  return (uint16_t) (from[0] << 8 | from[1]);
}

static void put_bytes(struct writer *w, const void *data, size_t len)
{
  if (w->len + len <= DNS_MESSAGE_BYTES)
    memcpy(w->out + w->len, data, len);
  w->len += len;
}

static void put16(struct writer *w, uint32_t value)
{
  uint8_t bytes[2] = {(uint8_t) (value >> 8), (uint8_t) value};
  put_bytes(w, bytes, 2);
}

static void put32(struct writer *w, uint32_t value)
{
  put16(w, value >> 16);
  put16(w, value & 0xffff);
}

static void set16(struct writer *w, size_t at, size_t value)
{
  w->out[at] = (uint8_t) (value >> 8);
  w->out[at + 1] = (uint8_t) value;
}

/* "b.test" as labels; `len` cuts one name out of a list. */
static void put_name(struct writer *w, const char *name, size_t len)
{
  while (len > 0) {
    const char *dot = memchr(name, '.', len);
    size_t label_len = dot != NULL ? (size_t) (dot - name) : len;
    uint8_t count = (uint8_t) label_len;
    put_bytes(w, &count, 1);
    put_bytes(w, name, label_len);
    size_t used = label_len + (dot != NULL);
    name += used;
    len -= used;
  }
  put_bytes(w, "", 1);
}

bool dns_question_parse(const uint8_t *query, size_t len, struct dns_question *out)
{
  if (len < HEADER_BYTES || (query[2] & 0x80) != 0 || get16(query + 4) != 1)
    return false;
  size_t at = HEADER_BYTES, name_len = 0;
  for (;;) {
    if (at >= len || query[at] > 63)
      return false;
    size_t label_len = query[at++];
    if (label_len == 0)
      break;
    if (at + label_len > len || name_len + label_len + 2 > DNS_NAME_BYTES)
      return false;
    if (name_len > 0)
      out->name[name_len++] = '.';
    for (size_t i = 0; i < label_len; i++)
      out->name[name_len++] = (char) tolower(query[at + i]);
    at += label_len;
  }
  out->name[name_len] = '\0';
  if (at + 4 > len)
    return false;
  out->type = get16(query + at);
  out->end = at + 4;
  out->udp_bytes = PLAIN_UDP_BYTES;
  /* An EDNS record is the only thing that may follow: root name, OPT, and the size where the class would be. */
  if (get16(query + 10) > 0 && out->end + 11 <= len && query[out->end] == 0 &&
      get16(query + out->end + 1) == TYPE_OPT && get16(query + out->end + 3) > PLAIN_UDP_BYTES)
    out->udp_bytes = get16(query + out->end + 3);
  return true;
}

const struct dns_type_rule *dns_rule_of_type(const struct dns_rule *rule, uint16_t type)
{
  return type == DNS_TYPE_A ? &rule->a : type == DNS_TYPE_AAAA ? &rule->aaaa : NULL;
}

struct owner {
  const char *name; /* NULL: the question's, by a pointer to offset 12 */
  size_t len;
};

static void put_owner(struct writer *w, const struct owner *owner)
{
  if (owner->name == NULL)
    put16(w, 0xc000 | HEADER_BYTES);
  else
    put_name(w, owner->name, owner->len);
}

static void put_address(struct writer *w, const struct owner *owner, uint16_t type, uint32_t ttl_s, const void *address)
{
  size_t len = type == DNS_TYPE_A ? 4 : 16;
  put_owner(w, owner);
  put16(w, type);
  put16(w, CLASS_IN);
  put32(w, ttl_s);
  put16(w, (uint32_t) len);
  put_bytes(w, address, len);
}

/* Returns how many records it wrote; `owner` moves to the end of the chain. */
static size_t put_cnames(struct writer *w, const struct dns_rule *rule, struct owner *owner)
{
  size_t count = 0;
  for (const char *at = rule->cname; at != NULL && at[0] != '\0';) {
    size_t len = strcspn(at, " ");
    put_owner(w, owner);
    put16(w, TYPE_CNAME);
    put16(w, CLASS_IN);
    put32(w, rule->cname_ttl_s);
    size_t length_at = w->len;
    put16(w, 0);
    put_name(w, at, len);
    set16(w, length_at, w->len - length_at - 2);
    *owner = (struct owner){at, len};
    at += len + strspn(at + len, " ");
    count++;
  }
  return count;
}

static size_t put_addresses(struct writer *w, const struct dns_type_rule *rule, uint16_t type,
                            const struct owner *owner)
{
  int family = type == DNS_TYPE_A ? AF_INET : AF_INET6;
  size_t count = 0;
  for (const char *at = rule->addresses; at != NULL && at[0] != '\0';) {
    char text[INET6_ADDRSTRLEN];
    uint8_t address[16];
    size_t len = strcspn(at, " ");
    snprintf(text, sizeof text, "%.*s", (int) len, at);
    if (inet_pton(family, text, address) == 1) { /* the other family's addresses are for the other type */
      put_address(w, owner, type, rule->ttl_s, address);
      count++;
    }
    at += len + strspn(at + len, " ");
  }
  for (int32_t i = 1; i <= rule->made_count; i++, count++) {
    uint8_t v4[4] = {10, 0, (uint8_t) (i >> 8), (uint8_t) i};
    uint8_t v6[16] = {0xfd, [14] = (uint8_t) (i >> 8), [15] = (uint8_t) i};
    put_address(w, owner, type, rule->ttl_s, type == DNS_TYPE_A ? v4 : v6);
  }
  return count;
}

static void put_soa(struct writer *w, uint32_t negative_ttl_s)
{
  put_bytes(w, "", 1); /* the root owns it */
  put16(w, TYPE_SOA);
  put16(w, CLASS_IN);
  put32(w, negative_ttl_s);
  put16(w, 2 + 5 * 4);
  put_bytes(w, "\0", 2); /* root as primary and as mailbox */
  for (int i = 0; i < 4; i++)
    put32(w, 1);
  put32(w, negative_ttl_s);
}

static void write_header(struct writer *w, const struct dns_question *question, const uint8_t *query, int rcode)
{
  uint8_t flags[2] = {(uint8_t) (FLAG_QR_AA | (query[2] & FLAG_RD)), (uint8_t) (FLAG_RA | rcode)};
  put_bytes(w, query, 2);
  put_bytes(w, flags, 2);
  put16(w, 1);
  put16(w, 0);
  put32(w, 0);
  put_bytes(w, query + HEADER_BYTES, question->end - HEADER_BYTES); /* the asker's spelling, case and all */
}

size_t dns_answer_write(const struct dns_rule *rule, const struct dns_question *question, const uint8_t *query,
                        bool tcp, uint8_t *out)
{
  static const struct dns_type_rule none;
  const struct dns_type_rule *typed = rule == NULL ? NULL : dns_rule_of_type(rule, question->type);
  if (typed == NULL)
    typed = &none;
  enum dns_answer answer = rule == NULL ? DNS_NXDOMAIN : typed->answer;
  struct writer w = {.out = out};
  size_t answers = 0;
  bool truncated = !tcp && (answer == DNS_TRUNCATED || answer == DNS_TCP_CLOSED);
  switch (answer) {
  case DNS_SILENT:
    return 0;
  case DNS_GARBAGE:
    put_bytes(&w, query, 2);
    put_bytes(&w, "\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\xc0\x0c\xc0\x0e garbage", 22);
    return w.len;
  case DNS_TCP_CLOSED:
    if (tcp)
      return 0;
    write_header(&w, question, query, 0);
    break;
  case DNS_NXDOMAIN:
    write_header(&w, question, query, RCODE_NXDOMAIN);
    break;
  case DNS_SERVFAIL:
    write_header(&w, question, query, RCODE_SERVFAIL);
    break;
  case DNS_REFUSED:
    write_header(&w, question, query, RCODE_REFUSED);
    break;
  case DNS_ADDRESSES:
  case DNS_WRONG_ID:
  case DNS_TRUNCATED:
    write_header(&w, question, query, 0);
    if (truncated)
      break;
    struct owner owner = {0};
    if (rule != NULL)
      answers = put_cnames(&w, rule, &owner);
    size_t addresses = put_addresses(&w, typed, question->type, &owner);
    answers += addresses;
    if (addresses == 0 && rule != NULL && rule->negative_ttl_s > 0)
      answer = DNS_NXDOMAIN; /* from here on: an answer that carries the SOA */
    break;
  }
  if (answer == DNS_NXDOMAIN && rule != NULL && rule->negative_ttl_s > 0) {
    put_soa(&w, rule->negative_ttl_s);
    out[9] = 1;
  }
  size_t limit = tcp ? DNS_MESSAGE_BYTES : question->udp_bytes;
  if (truncated || w.len > limit) {
    out[2] |= FLAG_TC;
    out[9] = 0;
    return question->end;
  }
  set16(&w, 6, answers);
  if (answer == DNS_WRONG_ID)
    out[0] ^= 0x55;
  return w.len;
}
