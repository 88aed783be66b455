/* stats: what another thread pays to read the scalar statistics of a pool under load
 *
 * One thread keeps 64 requests in flight; the reader calls without pause on the other CPU, so that snapshots are
 * published while it copies. Its own CPU time is counted: waiting for the publisher would show in it, being preempted
 * does not. */
#include "measure.h"

#include <pthread.h>
#include <stdatomic.h>

#include <cpool.h>

#include "support/process.h"

enum { SAMPLES = 501, CALLS = 2000, QUICK_SAMPLES = 11, EVENTS = 64 };

#define REACH_US 1.0

struct load {
  cpool_http *pool;
  char url[64];
  atomic_bool stop;
};

static void submit(const struct load *load, cpool_queue *queue)
{
  cpool_request request;
  cpool_request_init(&request);
  request.url = load->url;
  request.queue = queue;
  if (cpool_submit(cpool_http_session(load->pool), &request, NULL) != CPOOL_OK)
    give_up("stats: a request was refused");
}

static void *keep_busy(void *user)
{
  struct load *load = user;
  const cpool_event *events[EVENTS];
  cpool_queue *queue = NULL;
  pin_to(CLIENT_CPU);
  if (cpool_queue_new(&queue, NULL) != CPOOL_OK)
    give_up("stats: no queue");
  for (int i = 0; i < IN_FLIGHT; i++)
    submit(load, queue);
  for (int in_flight = IN_FLIGHT; in_flight > 0;) {
    int count = cpool_queue_wait(queue, events, EVENTS, CPOOL_OFF);
    if (count < 0)
      give_up("stats: no events");
    in_flight -= count;
    cpool_queue_release(queue, events, count);
    for (; !atomic_load(&load->stop) && in_flight < IN_FLIGHT; in_flight++)
      submit(load, queue);
  }
  cpool_queue_free(queue);
  return NULL;
}

static double sample_us(cpool_http *pool, cpool_http_stats *stats)
{
  double began_us = clock_as_us(CLOCK_THREAD_CPUTIME_ID);
  for (int i = 0; i < CALLS; i++) {
    if (cpool_http_stats_get(pool, stats) != CPOOL_OK)
      give_up("stats: refused");
  }
  return (clock_as_us(CLOCK_THREAD_CPUTIME_ID) - began_us) / CALLS;
}

static uint64_t succeeded(cpool_http *pool, cpool_http_stats *stats)
{
  cpool_http_stats_get(pool, stats);
  return stats->succeeded;
}

int main(int argc, char **argv)
{
  size_t count = is_quick(argc, argv) ? QUICK_SAMPLES : SAMPLES;
  struct load load = {0};
  cpool_http_options options;
  cpool_http_stats stats;
  pthread_t thread;
  double us[SAMPLES];
  struct process *nginx = nginx_start(&(struct nginx_options){.cpu_affinity = "10", .keepalive_requests = 100000000});
  if (nginx == NULL)
    give_up("nginx does not start");
  snprintf(load.url, sizeof load.url, "http://127.0.0.1:%u/ok", process_port(nginx));

  cpool_http_options_init(&options);
  options.max_connections = options.max_connections_per_host = IN_FLIGHT;
  pin_to(CLIENT_CPU); /* the pool's thread inherits it */
  if (cpool_http_new(&load.pool, NULL, &options) != CPOOL_OK)
    give_up("stats: no pool");
  cpool_http_stats_init(&stats);
  pthread_create(&thread, NULL, keep_busy, &load);
  pin_to(SERVER_CPU);
  while (succeeded(load.pool, &stats) < IN_FLIGHT)
    sched_yield();

  uint64_t before = stats.succeeded;
  for (size_t i = 0; i < count; i++)
    us[i] = sample_us(load.pool, &stats);
  uint64_t meanwhile = succeeded(load.pool, &stats) - before;
  double middle_us = median(us, count);
  report("CPU of reading the statistics on another thread, under load", "<= 1.0 us",
         middle_us <= REACH_US && meanwhile > 0, "%.3f us (%.3f to %.3f); %llu requests meanwhile", middle_us, us[0],
         us[count - 1], (unsigned long long) meanwhile);

  atomic_store(&load.stop, true);
  pthread_join(thread, NULL);
  int status = cpool_http_close(load.pool, CPOOL_OFF);
  process_stop(nginx);
  return status == CPOOL_OK ? 0 : 1;
}
