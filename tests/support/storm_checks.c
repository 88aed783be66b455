/* storm_checks: what the storm believes of an answer and of a snapshot, and how it tells its result */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/storm_parts.h"

/* NULL, or what does not. */
static const char *stats_trouble(const cpool_http_stats *st)
{
  uint64_t closed = st->closed_peer + st->closed_unsolicited + st->closed_idle + st->closed_lifetime +
                    st->closed_requests + st->closed_response + st->closed_error + st->closed_cancelled +
                    st->closed_evicted + st->closed_dial + st->closed_pool + st->closed_address;
  const int64_t gauges[] = {st->total_connections,   st->acquired_connections,
                            st->idle_connections,    st->connecting_connections,
                            st->closing_connections, st->pending_requests,
                            st->active_requests,     st->origins,
                            st->identities,          st->stream_bytes,
                            st->paused_requests};
  for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
    if (gauges[i] < 0)
      return "a negative gauge";
  if ((int64_t) (st->opened - st->closed) != st->total_connections + st->closing_connections)
    return "opened - closed";
  if (st->closed != closed)
    return "closed by reason";
  if (st->requests != st->succeeded + st->failed + (uint64_t) (st->pending_requests + st->active_requests))
    return "requests";
  if (st->total_connections != st->acquired_connections + st->idle_connections + st->connecting_connections)
    return "total_connections";
  if (st->failed < st->cancelled + st->timeout_acquire + st->timeout_connect + st->timeout_read + st->timeout_total)
    return "failed by reason";
  return st->curl_pending != 0 ? "curl_pending" : NULL;
}

void storm_check_stats(struct storm_thread *t, struct slot *slot)
{
  struct storm *s = t->s;
  struct life *life = slot->life;
  cpool_http_stats stats;
  cpool_origin_stats hosts[4];
  uint64_t cursor = 0;
  int count;
  cpool_http_stats_init(&stats);
  if (cpool_http_stats_get(slot->pool, &stats) != CPOOL_OK)
    return;
  atomic_fetch_add(&s->snapshots, 1);
  const char *trouble = stats_trouble(&stats);
  if (trouble != NULL)
    storm_trouble(
        s, &s->result->miscounted,
        "%s: opened %llu closed %llu total %lld (acquired %lld idle %lld connecting %lld) closing %lld; requests %llu "
        "ended %llu pending %lld active %lld; in libcurl %lld, limits %lld %lld, lowered %d",
        trouble, (unsigned long long) stats.opened, (unsigned long long) stats.closed,
        (long long) stats.total_connections, (long long) stats.acquired_connections, (long long) stats.idle_connections,
        (long long) stats.connecting_connections, (long long) stats.closing_connections,
        (unsigned long long) stats.requests, (unsigned long long) (stats.succeeded + stats.failed),
        (long long) stats.pending_requests, (long long) stats.active_requests, (long long) stats.curl_pending,
        (long long) stats.max_connections, (long long) stats.max_connections_per_host,
        (int) atomic_load(&life->lowered));
  if (stats.total_connections > atomic_load(&life->most_connections) ||
      (!atomic_load(&life->lowered) && stats.total_connections > stats.max_connections))
    storm_trouble(s, &s->result->limits, "%lld connections of %lld", (long long) stats.total_connections,
                  (long long) stats.max_connections);
  while ((count = cpool_http_origins_get(slot->pool, &cursor, hosts, sizeof *hosts, 4)) > 0)
    for (int i = 0; i < count; i++)
      if (hosts[i].total_connections > atomic_load(&life->most_per_host))
        storm_trouble(s, &s->result->limits, "%lld connections to %s", (long long) hosts[i].total_connections,
                      hosts[i].origin);
}

/* How long the body of the answer is; -1: any length. */
static int length_of(const struct storm_op *op)
{
  char text[32];
  switch ((enum storm_answer) op->answer) {
  case STORM_HELLO:
  case STORM_REDIRECTED:
    return 5;
  case STORM_BYTES:
    return op->number;
  case STORM_ECHO:
    return snprintf(text, sizeof text, "request %d", op->number);
  default:
    return -1;
  }
}

void storm_check_part(struct storm *s, struct storm_op *op, const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_HEAD) {
    atomic_fetch_add(&op->heads, 1);
    if (cpool_response_status(event->response) < 200)
      storm_trouble(s, &s->result->wrong, "a head without status");
  }
  if (event->kind != CPOOL_EVENT_BODY)
    return;
  int32_t at = atomic_fetch_add(&op->body_bytes, (int32_t) event->len);
  if (event->len == 0)
    storm_trouble(s, &s->result->wrong, "a piece without bytes");
  for (size_t i = 0; op->in_order && op->answer == STORM_BYTES && i < event->len; i++)
    if (((const char *) event->data)[i] != fault_pattern(at + (int64_t) i)) {
      storm_trouble(s, &s->result->wrong, "byte %lld of a stream is another one", (long long) at + (long long) i);
      return;
    }
}

const char *storm_stream_trouble(const struct storm_op *op)
{
  int heads = atomic_load(&op->heads), bytes = atomic_load(&op->body_bytes);
  if (!op->streamed)
    return heads > 0 || bytes > 0 ? "pieces of what is no stream" : NULL;
  if (heads > 1 || (heads == 0 && bytes > 0))
    return "a stream has not one head";
  if (!atomic_load(&op->answered))
    return NULL;
  if (heads == 0)
    return "a complete answer had no head";
  return length_of(op) >= 0 && length_of(op) != bytes ? "a complete stream has not all its bytes" : NULL;
}

static bool answer_right(const struct storm_op *op, const cpool_response *resp)
{
  size_t len = 0;
  const char *body = cpool_response_body(resp, &len);
  char expected[32];
  if (op->streamed)
    return len == 0;
  switch ((enum storm_answer) op->answer) {
  case STORM_HELLO:
  case STORM_REDIRECTED:
    return len == 5 && memcmp(body, "hello", 5) == 0;
  case STORM_BYTES:
    for (size_t i = 0; i < len; i++)
      if (body[i] != fault_pattern((int64_t) i))
        return false;
    return len == (size_t) op->number;
  case STORM_ECHO:
    snprintf(expected, sizeof expected, "request %d", op->number);
    return strcmp(body, expected) == 0;
  default:
    return true;
  }
}

void storm_check_response(struct storm *s, const struct storm_op *op, const cpool_event *event)
{
  cpool_error error;
  cpool_error_init(&error);
  if (event->response == NULL || cpool_response_error_get(event->response, &error) != CPOOL_OK ||
      error.status != event->status) {
    storm_trouble(s, &s->result->wrong, "the event says %s, its response something else",
                  cpool_status_name(event->status));
    return;
  }
  switch (event->status) {
  case CPOOL_OK:
    if (!answer_right(op, event->response))
      storm_trouble(s, &s->result->wrong, "request %d has got another answer than its own: \"%.40s\"", op->number,
                    (const char *) cpool_response_body(event->response, NULL));
    return;
  case CPOOL_EINVAL:
  case CPOOL_ENOMEM:
  case CPOOL_ESTALE:
  case CPOOL_EBUSY:
  case CPOOL_EDEADLK:
  case CPOOL_EFORK:
  case CPOOL_ESYSTEM:
  case CPOOL_EINTERNAL:
    storm_trouble(s, &s->result->wrong, "a request ended with %s: %s", cpool_status_name(event->status), error.text);
    return;
  default:
    return;
  }
}

/* ------------------------------------------------------------------------------------------------------------- result */

bool storm_clean(const struct storm_result *r)
{
  return r->lost == 0 && r->doubled == 0 && r->wrong == 0 && r->miscounted == 0 && r->limits == 0 && r->closes == 0 &&
         r->leaked_bytes == 0 && r->leaked_blocks == 0 && r->leaked_fds == 0 && r->leaked_threads == 0 && !r->unfree;
}

void storm_print(const struct storm_result *r)
{
  printf("accepted %lld, refused %lld, succeeded %lld, failed %lld, cancels %lld, pools %lld, sessions %lld, "
         "reconfigures %lld, "
         "snapshots %lld, HTTP/2 streams %lld, %.1f s\n",
         (long long) r->accepted, (long long) r->refused, (long long) r->succeeded, (long long) r->failed,
         (long long) r->cancels, (long long) r->pools, (long long) r->sessions, (long long) r->reconfigures,
         (long long) r->snapshots, (long long) r->streams, (double) r->elapsed_ms / 1000);
  for (int i = 0; i < (int) (sizeof r->by_status / sizeof *r->by_status); i++)
    if (r->by_status[i] > 0)
      printf("  %-24s %lld\n", cpool_status_name(-i), (long long) r->by_status[i]);
  printf("lost %lld, doubled %lld, wrong %lld, miscounted %lld, limits %lld, closes %lld, leaked: %lld bytes in %lld "
         "blocks, %lld fds, "
         "%lld threads%s\n",
         (long long) r->lost, (long long) r->doubled, (long long) r->wrong, (long long) r->miscounted,
         (long long) r->limits, (long long) r->closes, (long long) r->leaked_bytes, (long long) r->leaked_blocks,
         (long long) r->leaked_fds, (long long) r->leaked_threads, r->unfree ? ", objects that cannot be freed" : "");
  if (r->trouble[0] != '\0')
    printf("first trouble: %s\n", r->trouble);
}

uint64_t storm_seed(const char *text)
{
  struct timespec now;
  if (text != NULL)
    return strtoull(text, NULL, 0);
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}
