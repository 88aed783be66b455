/* no_proxy: the hosts that a session reaches without its proxy
 *
 * The list is read anew for each request of such a session: it is short, and nothing else needs it. */
#include "http/no_proxy.h"

#include <string.h>
#include <strings.h>
#include <cpool.h>

#include "core/error.h"
#include "dns/address.h"

enum { HOST_BYTES = 253 };

struct entry {
  const char *text; /* as it stands in the list: for errors */
  size_t text_len;
  bool all;
  const char *name; /* without leading and closing dots; NULL: an address, or all */
  size_t name_len;
  struct cpool__address address;
  int bits;      /* of the block; -1: the address alone */
  uint16_t port; /* 0: any */
};

/* 1..`most`, at most five digits, to the end. */
static bool read_number(const char *text, size_t len, unsigned least, unsigned most, unsigned *out)
{
  unsigned value = 0;
  if (len == 0 || len > 5)
    return false;
  for (size_t i = 0; i < len; i++) {
    if (text[i] < '0' || text[i] > '9')
      return false;
    value = value * 10 + (unsigned) (text[i] - '0');
  }
  *out = value;
  return value >= least && value <= most;
}

static bool read_address(struct cpool__address *out, const char *text, size_t len)
{
  char literal[CPOOL__ADDRESS_TEXT];
  if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
    text++;
    len -= 2;
  }
  if (len == 0 || len >= sizeof literal)
    return false;
  memcpy(literal, text, len);
  literal[len] = '\0';
  return cpool__address_parse(out, literal, 0);
}

static bool name_valid(const char *name, size_t len)
{
  if (len == 0 || len > HOST_BYTES || name[0] == '.')
    return false;
  for (size_t i = 0; i < len; i++) {
    char byte = name[i];
    if (!(byte == '-' || byte == '_' || byte == '.' || (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
          (byte >= 'A' && byte <= 'Z')) ||
        (byte == '.' && i > 0 && name[i - 1] == '.'))
      return false;
  }
  return true;
}

static bool read_block(struct entry *out, const char *text, size_t len, const char *slash)
{
  unsigned bits;
  if (!read_address(&out->address, text, (size_t) (slash - text)))
    return false;
  unsigned most = out->address.sock.any.sa_family == AF_INET6 ? 128 : 32;
  if (!read_number(slash + 1, len - (size_t) (slash + 1 - text), 0, most, &bits))
    return false;
  out->bits = (int) bits;
  return true;
}

static bool read_name(struct entry *out, const char *text, size_t len)
{
  if (len > 1 && text[0] == '*' && text[1] == '.') {
    text++;
    len--;
  }
  if (len > 0 && text[0] == '.') {
    text++;
    len--;
  }
  if (len > 0 && text[len - 1] == '.')
    len--;
  out->name = text;
  out->name_len = len;
  return name_valid(text, len);
}

static bool read_entry(struct entry *out, const char *text, size_t len)
{
  *out = (struct entry){.text = text, .text_len = len, .bits = -1};
  const char *slash = memchr(text, '/', len);
  if (len == 1 && text[0] == '*') {
    out->all = true;
    return true;
  }
  if (slash != NULL)
    return read_block(out, text, len, slash);
  if (read_address(&out->address, text, len))
    return true;
  const char *bracket = memchr(text, ']', len);
  const char *from = bracket != NULL ? bracket : text;
  const char *colon = memchr(from, ':', len - (size_t) (from - text));
  if (colon != NULL) {
    unsigned port;
    if (!read_number(colon + 1, len - (size_t) (colon + 1 - text), 1, UINT16_MAX, &port))
      return false;
    out->port = (uint16_t) port;
    len = (size_t) (colon - text);
  }
  return read_address(&out->address, text, len) || (bracket == NULL && read_name(out, text, len));
}

/* The next entry at *at, which moves behind it. -1: malformed; 0: the end. */
static int next_entry(const char **at, struct entry *out)
{
  static const char between[] = ", \t";
  *at += strspn(*at, between);
  size_t len = strcspn(*at, between);
  if (len == 0)
    return 0;
  const char *text = *at;
  *at += len;
  return read_entry(out, text, len) ? 1 : -1;
}

int cpool__no_proxy_check(const char *list, const char *what)
{
  struct entry entry;
  const char *at = list;
  int rc;
  if (strlen(list) > CPOOL__NO_PROXY_BYTES)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: longer than %d bytes", what, CPOOL__NO_PROXY_BYTES);
  while ((rc = next_entry(&at, &entry)) > 0)
    continue;
  if (rc < 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                         "%s: \"%.*s\" is no host name, no address, no block of addresses and not \"*\"", what,
                         entry.text_len > 100 ? 100 : (int) entry.text_len, entry.text);
  return CPOOL_OK;
}

/* Whether the first `bits` are equal. */
static bool same_bits(const unsigned char *a, const unsigned char *b, int bits)
{
  int whole = bits / 8, rest = bits % 8;
  return memcmp(a, b, (size_t) whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0);
}

static bool address_matches(const struct entry *entry, const struct cpool__address *target)
{
  bool v6 = target->sock.any.sa_family == AF_INET6;
  if (entry->address.sock.any.sa_family != target->sock.any.sa_family)
    return false;
  const void *a =
      v6 ? (const void *) &entry->address.sock.v6.sin6_addr : (const void *) &entry->address.sock.v4.sin_addr;
  const void *b = v6 ? (const void *) &target->sock.v6.sin6_addr : (const void *) &target->sock.v4.sin_addr;
  return same_bits(a, b, entry->bits >= 0 ? entry->bits : v6 ? 128 : 32);
}

/* The target's host ends in the entry's name, at the start of a label. */
static bool name_matches(const struct entry *entry, const char *host)
{
  size_t len = strlen(host);
  if (len > 0 && host[len - 1] == '.')
    len--;
  if (len < entry->name_len || strncasecmp(host + len - entry->name_len, entry->name, entry->name_len) != 0)
    return false;
  return len == entry->name_len || host[len - entry->name_len - 1] == '.';
}

bool cpool__no_proxy_match(const char *list, const struct cpool__authority *target)
{
  struct entry entry;
  struct cpool__address address;
  bool literal = cpool__address_parse(&address, target->host, 0);
  while (next_entry(&list, &entry) > 0) {
    if (entry.port != 0 && entry.port != target->port)
      continue;
    if (entry.all || (entry.name != NULL ? !literal && name_matches(&entry, target->host)
                                         : literal && address_matches(&entry, &address)))
      return true;
  }
  return false;
}
