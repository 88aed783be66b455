/* dial_error: what a failed dial tells its owner */
#include "dns/dial_error.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"

enum { MAY_REPEAT = CPOOL_ERROR_RETRIABLE | CPOOL_ERROR_NOTHING_SENT, REASON_TEXT = 128 };

/* "connection refused": as strerror, but in the middle of a line. */
static void errno_text(int number, char out[REASON_TEXT])
{
  char buffer[REASON_TEXT];
  snprintf(out, REASON_TEXT, "%s", strerror_r(number, buffer, sizeof buffer));
  if (isupper((unsigned char) out[0]) && islower((unsigned char) out[1]))
    out[0] = (char) tolower((unsigned char) out[0]);
}

void cpool__dial_error_system(struct cpool__dial *dial, int number)
{
  char reason[REASON_TEXT];
  errno_text(number, reason);
  cpool__error_set(&dial->result.error, CPOOL_ESYSTEM, CPOOL_LAYER_SYSTEM, number, MAY_REPEAT,
                   "%.100s:%u: no socket: %s", dial->host, (unsigned) dial->port, reason);
}

void cpool__dial_error_memory(struct cpool__dial *dial)
{
  cpool__error_set(&dial->result.error, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, MAY_REPEAT, "%.200s:%u: out of memory",
                   dial->host, (unsigned) dial->port);
}

static void connect_failed(struct cpool__dial *dial)
{
  char reason[REASON_TEXT], address[CPOOL__ADDRESS_TEXT], place[48] = "";
  errno_text(dial->last_errno, reason);
  cpool__address_text(&dial->last_address, address);
  if (dial->tried_count > 1)
    snprintf(place, sizeof place, ", last of %d addresses", dial->tried_count);
  cpool__error_set(&dial->result.error, CPOOL_ECONNECT, CPOOL_LAYER_CONNECT, dial->last_errno, MAY_REPEAT,
                   "%.100s:%u: %.50s (%s%s)", dial->host, (unsigned) dial->port, reason, address, place);
}

static void address_forbidden(struct cpool__dial *dial)
{
  char address[CPOOL__ADDRESS_TEXT];
  cpool__address_host_text(&dial->last_address, address);
  cpool__error_set(&dial->result.error, CPOOL_EADDRESS, CPOOL_LAYER_CONNECT, 0, CPOOL_ERROR_NOTHING_SENT,
                   "%.100s:%u: the address policy allows public addresses only (%s, last of %d)", dial->host,
                   (unsigned) dial->port, address, dial->refused_count);
}

/* A failed family leaves open whether the name has an address: only two plain "none" make NOTFOUND. */
static void dns_failed(struct cpool__dial *dial)
{
  const struct cpool__family_answer *v6 = cpool__lookup_answer(&dial->lookup, CPOOL__FAMILY_V6);
  const struct cpool__family_answer *v4 = cpool__lookup_answer(&dial->lookup, CPOOL__FAMILY_V4);
  if (v6->status == CPOOL_ENOMEM || v4->status == CPOOL_ENOMEM) {
    cpool__dial_error_memory(dial);
  } else if (v6->status == CPOOL_ESYSTEM || v4->status == CPOOL_ESYSTEM) {
    cpool__dial_error_system(dial, v4->status == CPOOL_ESYSTEM ? v4->native : v6->native);
  } else if (v6->status == CPOOL_EDNS_FAILED || v4->status == CPOOL_EDNS_FAILED) {
    int native = v4->status == CPOOL_EDNS_FAILED ? v4->native : v6->native;
    cpool__error_set(&dial->result.error, CPOOL_EDNS_FAILED, CPOOL_LAYER_DNS, native, MAY_REPEAT,
                     "%.200s: the name servers gave no usable answer", dial->host);
  } else {
    cpool__error_set(&dial->result.error, CPOOL_EDNS_NOTFOUND, CPOOL_LAYER_DNS, v4->native, CPOOL_ERROR_NOTHING_SENT,
                     "%.200s: no such host name, or it has no address", dial->host);
  }
}

void cpool__dial_error_fill(struct cpool__dial *dial)
{
  if (dial->tried_count > 0)
    connect_failed(dial);
  else if (dial->refused_count > 0)
    address_forbidden(dial);
  else
    dns_failed(dial);
}
