/* janitor: the earliest of several ends of a connection, and the reason that goes with it */
#include "pool/janitor.h"

#include <stddef.h>
#include <strings.h>

enum { HINT_MARGIN_MS = 1000 };

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

void cpool__janitor_born(struct cpool__janitor_life *life, const struct cpool__janitor_rules *rules, uint64_t now_ms,
                         uint64_t random)
{
  *life = (struct cpool__janitor_life){
      .born_ms = now_ms, .dies_ms = UINT64_MAX, .idle_since_ms = now_ms, .hint_timeout_ms = -1, .hint_max_count = -1};
  if (rules->max_lifetime_ms < 0)
    return;
  uint64_t lifetime_ms = (uint64_t) rules->max_lifetime_ms, cut_ms = 0;
  if (rules->max_lifetime_jitter_ratio > 0) {
    double share = (double) (random >> 11) * 0x1p-53; /* 0 <= share < 1, in all the bits that a double has */
    cut_ms = (uint64_t) ((double) lifetime_ms * rules->max_lifetime_jitter_ratio * share);
  }
  if (cut_ms > lifetime_ms) /* above 2^53 ms a double rounds, possibly up */
    cut_ms = lifetime_ms;
  life->dies_ms = add_saturating(now_ms, lifetime_ms - cut_ms);
}

static bool requests_used_up(const struct cpool__janitor_life *life, const struct cpool__janitor_rules *rules)
{
  int64_t count = life->request_count;
  return (rules->max_requests_per_connection >= 0 && count >= rules->max_requests_per_connection) ||
         (life->hint_max_count >= 0 && count >= life->hint_max_count);
}

uint64_t cpool__janitor_idle_due(const struct cpool__janitor_life *life, const struct cpool__janitor_rules *rules,
                                 enum cpool__janitor_reason *reason)
{
  /* The server's max may come with the very response after which the connection falls idle. */
  if (requests_used_up(life, rules)) {
    *reason = CPOOL__JANITOR_REQUESTS;
    return life->idle_since_ms;
  }

  uint64_t idle_due_ms = UINT64_MAX;
  if (rules->keepalive_timeout_ms >= 0)
    idle_due_ms = add_saturating(life->idle_since_ms, (uint64_t) rules->keepalive_timeout_ms);
  if (life->hint_timeout_ms >= 0) {
    uint64_t hint_ms = (uint64_t) life->hint_timeout_ms;
    uint64_t margin_ms = hint_ms / 2 < HINT_MARGIN_MS ? hint_ms / 2 : HINT_MARGIN_MS;
    uint64_t hint_due_ms = add_saturating(life->idle_since_ms, hint_ms - margin_ms);
    if (hint_due_ms < idle_due_ms)
      idle_due_ms = hint_due_ms;
  }

  uint64_t due_ms = idle_due_ms < life->dies_ms ? idle_due_ms : life->dies_ms;
  *reason = due_ms == UINT64_MAX    ? CPOOL__JANITOR_KEEP
            : due_ms == idle_due_ms ? CPOOL__JANITOR_IDLE
                                    : CPOOL__JANITOR_LIFETIME;
  return due_ms;
}

enum cpool__janitor_reason cpool__janitor_last_use(const struct cpool__janitor_life *life,
                                                   const struct cpool__janitor_rules *rules, uint64_t now_ms)
{
  if (requests_used_up(life, rules))
    return CPOOL__JANITOR_REQUESTS;
  if (life->dies_ms != UINT64_MAX && now_ms >= life->dies_ms)
    return CPOOL__JANITOR_LIFETIME;
  return CPOOL__JANITOR_KEEP;
}

/* ---- Keep-Alive ---- */

struct slice {
  const char *start, *end;
};

static bool is_space(char c)
{
  return c == ' ' || c == '\t';
}

static struct slice trim(struct slice text)
{
  while (text.start < text.end && is_space(*text.start))
    text.start++;
  while (text.start < text.end && is_space(text.end[-1]))
    text.end--;
  return text;
}

/* The part up to the separator or the end, trimmed; *rest begins behind it, or at the end. */
static struct slice cut_at(char separator, struct slice *rest)
{
  const char *at = rest->start;
  while (at < rest->end && *at != separator)
    at++;
  struct slice part = trim((struct slice){rest->start, at});
  rest->start = at < rest->end ? at + 1 : at;
  return part;
}

static bool is_named(struct slice text, const char *name, size_t len)
{
  return (size_t) (text.end - text.start) == len && strncasecmp(text.start, name, len) == 0;
}

/* Digits and nothing else, or -1; never above the maximum. */
static int64_t parse_count(struct slice text, int64_t maximum)
{
  int64_t count = 0;
  if (text.start == text.end)
    return -1;
  for (const char *at = text.start; at < text.end; at++) {
    if (*at < '0' || *at > '9')
      return -1;
    int digit = *at - '0';
    count = count > (maximum - digit) / 10 ? maximum : count * 10 + digit;
  }
  return count;
}

void cpool__janitor_hint(struct cpool__janitor_life *life, const char *value, uint64_t len)
{
  struct slice rest = {value, value + len};
  int64_t timeout_s = -1, max_count = -1;
  while (rest.start < rest.end) {
    struct slice number = cut_at(',', &rest);
    struct slice name = cut_at('=', &number);
    number = trim(number);
    int64_t *out = is_named(name, "timeout", 7) ? &timeout_s : is_named(name, "max", 3) ? &max_count : NULL;
    if (out == NULL)
      continue;
    int64_t count = parse_count(number, INT64_MAX / 1000);
    if (count >= 0 && (*out < 0 || count < *out)) /* of two, the one that is safe to believe */
      *out = count;
  }
  if (timeout_s >= 0)
    life->hint_timeout_ms = timeout_s * 1000;
  if (max_count >= 0)
    life->hint_max_count = (int64_t) life->request_count + max_count;
}
