/* redial: exponential backoff with full jitter: the delay is drawn from all of the time that it might be, so that those who
 * lost a server together do not come back together */
#include "ws/redial.h"

#include <stdlib.h>
#include <string.h>
#include <cpool.h>

#include "core/error.h"

enum { CODE_LOW = 1000, CODE_HIGH = 4999, DOUBLINGS = 30, WAIT_MOST_MS = 24 * 60 * 60 * 1000 };

/* Going away, and what a server may recover from, are not among them; 1002 is not, since some libraries say it for
 * "try again later". */
static const char standard_stops[] = "1000, 1003, 1007-1010";

static const char *read_code(const char *at, uint16_t *out)
{
  char *end;
  long code = *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : -1;
  if (code < CODE_LOW || code > CODE_HIGH)
    return NULL;
  *out = (uint16_t) code;
  return end;
}

/* False: not all of it is codes, or they are too many. */
static bool read_stops(struct cpool__redial *redial, const char *at)
{
  for (; *(at += strspn(at, ", ")) != '\0'; redial->stop_count++) {
    uint16_t from, to;
    if (redial->stop_count == CPOOL__REDIAL_STOPS || (at = read_code(at, &from)) == NULL)
      return false;
    to = from;
    if (*at == '-' && (at = read_code(at + 1, &to)) == NULL)
      return false;
    if (to < from || (*at != '\0' && *at != ',' && *at != ' '))
      return false;
    redial->stops[redial->stop_count].from = from;
    redial->stops[redial->stop_count].to = to;
  }
  return true;
}

int cpool__redial_stops(struct cpool__redial *redial, const char *text)
{
  redial->stop_count = 0;
  if (read_stops(redial, text != NULL ? text : standard_stops))
    return CPOOL_OK;
  return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                       "ws_connect option stop_codes: not up to %d codes of 1000 to 4999, as in \"1000, 4000-4999\"",
                       CPOOL__REDIAL_STOPS);
}

bool cpool__redial_stops_at(const struct cpool__redial *redial, int close_code)
{
  for (int i = 0; i < redial->stop_count; i++)
    if (close_code >= redial->stops[i].from && close_code <= redial->stops[i].to)
      return true;
  return false;
}

bool cpool__redial_refused(int http_status)
{
  return http_status >= 300 && http_status < 500 && http_status != 408 && http_status != 425 && http_status != 429;
}

bool cpool__redial_again(const struct cpool__redial *redial, bool opened)
{
  if (redial->base_ms == CPOOL_OFF)
    return false;
  return opened || redial->max_attempts == CPOOL_OFF || redial->failures + 1 < redial->max_attempts;
}

int64_t cpool__redial_next(struct cpool__redial *redial, int64_t open_ms, int64_t at_least_ms, uint64_t chance)
{
  redial->failures = open_ms < 0 ? redial->failures + 1 : 0;
  if (open_ms >= redial->stable_ms)
    redial->ends = 0;
  int64_t most = redial->base_ms;
  for (int i = 0; i < redial->ends && most < redial->most_ms; i++)
    most *= 2;
  if (most > redial->most_ms)
    most = redial->most_ms;
  if (redial->ends < DOUBLINGS)
    redial->ends++;
  int64_t delay = (int64_t) (chance % ((uint64_t) most + 1));
  if (at_least_ms > WAIT_MOST_MS)
    at_least_ms = WAIT_MOST_MS;
  return at_least_ms > 0 ? at_least_ms + delay : delay;
}
