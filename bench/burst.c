/* burst: many requests at once on a host with connections made ahead of them, against the same burst on a cold one
 *
 * A round is a new pool: it is warm, or not, the burst is submitted, its end awaited. The oldest requests, as many as there
 * are warm connections (HTTP/2: all), must find theirs made: neither a connect nor a TLS handshake is in their times.
 * Meanwhile the statistics are read all the time for the connections that are being made. */
#include "measure.h"

#include <stdint.h>

#include <cpool.h>

#include "support/certs.h"
#include "support/process.h"

enum { ROUNDS = 15, QUICK_ROUNDS = 2, BURST = 500, WARM = 100, CAP = 32, TAKEN = 64, PATIENCE_US = 20 * 1000 * 1000 };

struct server {
  const char *url, *ca_file;
  int32_t http_version;
};

struct result {
  double us;
  int waited;     /* requests that should have found a connection made, and did not */
  int64_t making; /* connections, the most at a time */
};

static cpool_http_stats stats_of(cpool_http *pool)
{
  cpool_http_stats stats;
  cpool_http_stats_init(&stats);
  if (cpool_http_stats_get(pool, &stats) != CPOOL_OK)
    give_up("burst: no statistics");
  return stats;
}

static void submit(cpool_session *session, cpool_queue *q, const char *url, int count)
{
  for (intptr_t i = 0; i < count; i++) {
    cpool_request req;
    cpool_request_init(&req);
    req.url = url;
    req.queue = q;
    req.user = (void *) i;
    if (cpool_submit(session, &req, NULL) != CPOOL_OK)
      give_up("burst: a submit was refused");
  }
}

/* Whether its connection was still to be made. */
static bool made_one(const cpool_response *resp)
{
  cpool_response_info info;
  cpool_response_info_init(&info);
  if (cpool_response_info_get(resp, &info) != CPOOL_OK)
    give_up("burst: no info");
  return info.connect_us != CPOOL_OFF || info.tls_us != CPOOL_OFF;
}

static struct result take(cpool_http *pool, cpool_queue *q, int count, int warm_count)
{
  struct result result = {0};
  double until_us = clock_as_us(CLOCK_MONOTONIC) + PATIENCE_US;
  for (int done = 0; done < count;) {
    const cpool_event *events[TAKEN];
    int got = cpool_queue_wait(q, events, TAKEN, 0);
    for (int i = 0; i < got; i++) {
      if (events[i]->status != CPOOL_OK)
        give_up("burst: %s", cpool_status_name(events[i]->status));
      result.waited += (intptr_t) events[i]->user < warm_count && made_one(events[i]->response);
    }
    if (got > 0)
      cpool_queue_release(q, events, got);
    done += got;
    int64_t making = stats_of(pool).connecting_connections;
    result.making = making > result.making ? making : result.making;
    if (clock_as_us(CLOCK_MONOTONIC) > until_us)
      give_up("burst: %d of %d answers", done, count);
    sched_yield(); /* the loop's thread has the same CPU */
  }
  return result;
}

static void await_warm(cpool_http *pool)
{
  double until_us = clock_as_us(CLOCK_MONOTONIC) + PATIENCE_US;
  for (;;) {
    cpool_http_stats stats = stats_of(pool);
    if (stats.idle_connections >= WARM && stats.idle_connections == stats.total_connections)
      return;
    if (clock_as_us(CLOCK_MONOTONIC) > until_us)
      give_up("burst: %lld connections are warm", (long long) stats.idle_connections);
    sched_yield();
  }
}

static struct result run(const struct server *server, bool warm)
{
  cpool_http_options options;
  cpool_session_options session_options;
  cpool_http *pool = NULL;
  cpool_session *session = NULL;
  cpool_queue *q = NULL;
  cpool_http_options_init(&options);
  cpool_session_options_init(&session_options);
  options.max_connections = options.max_connections_per_host = 2 * WARM;
  options.max_connecting_per_host = CAP;
  options.min_idle_per_host = warm ? WARM : 0;
  session_options.ca_file = server->ca_file;
  session_options.http_version = server->http_version;
  if (cpool_queue_new(&q, NULL) != CPOOL_OK || cpool_http_new(&pool, NULL, &options) != CPOOL_OK ||
      cpool_session_new(&session, pool, &session_options) != CPOOL_OK)
    give_up("burst: setting up");
  if (warm) {
    submit(session, q, server->url, 1);
    (void) take(pool, q, 1, 0);
    await_warm(pool);
  }
  uint64_t opened = stats_of(pool).opened;
  double began_us = clock_as_us(CLOCK_MONOTONIC);
  submit(session, q, server->url, BURST);
  bool shared = server->http_version == CPOOL_HTTP_2;
  struct result result = take(pool, q, BURST, !warm ? 0 : shared ? BURST : WARM);
  result.us = clock_as_us(CLOCK_MONOTONIC) - began_us;
  if (shared) { /* handshakes under way are in no gauge of their own: all that were begun are not less */
    opened = stats_of(pool).opened - opened;
    result.making = (int64_t) opened;
  }
  cpool_session_free(session);
  if (cpool_http_close(pool, 0) != CPOOL_OK || cpool_queue_free(q) != CPOOL_OK)
    give_up("burst: taking down");
  return result;
}

static void measure(const struct server *server, const char *question, int rounds)
{
  double warm_us[ROUNDS], cold_us[ROUNDS];
  int waited = 0;
  int64_t making = 0;
  for (int i = 0; i < rounds; i++) {
    struct result warm = run(server, true);
    cold_us[i] = run(server, false).us;
    warm_us[i] = warm.us;
    waited += warm.waited;
    making = warm.making > making ? warm.making : making;
  }
  double warm_median = median(warm_us, (size_t) rounds), cold_median = median(cold_us, (size_t) rounds);
  report(question, "0, <= 32", waited == 0 && making <= CAP,
         "%d, %lld; the burst took %.1f ms (%.1f to %.1f), on a cold host %.1f ms (%.1f to %.1f)", waited,
         (long long) making, warm_median / 1e3, warm_us[0] / 1e3, warm_us[rounds - 1] / 1e3, cold_median / 1e3,
         cold_us[0] / 1e3, cold_us[rounds - 1] / 1e3);
}

int main(int argc, char **argv)
{
  int rounds = is_quick(argc, argv) ? QUICK_ROUNDS : ROUNDS;
  char url[64];
  struct certs *certs = certs_new();
  struct process *nginx = nginx_start(&(struct nginx_options){.cpu_affinity = "10", .certs = certs, .http2 = true});
  if (nginx == NULL)
    give_up("burst: nginx does not start");
  pin_to(CLIENT_CPU);
  snprintf(url, sizeof url, "http://127.0.0.1:%u/ok", process_port(nginx));
  measure(&(struct server){.url = url, .http_version = CPOOL_HTTP_1_1},
          "burst of 500 requests on a host with 100 warm connections: requests that waited for a connect while one was "
          "free, connects in flight; plain",
          rounds);
  snprintf(url, sizeof url, "https://127.0.0.1:%u/ok", process_tls_port(nginx));
  measure(&(struct server){.url = url, .ca_file = certs->ca_file, .http_version = CPOOL_HTTP_2}, "the same, HTTP/2",
          rounds);
  process_stop(nginx);
  certs_free(certs);
  return 0;
}
