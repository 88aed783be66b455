/* admission: what one acquire and release costs, and whether it costs more when 100 000 requests wait
 *
 * One operation is what a request costs the policy: it waits, gets a connection that fell idle, and gives it back. The
 * queue keeps its length: whoever is served waits again at once. Waiters are blocks of 512 bytes of their own, queued
 * in shuffled order, so that a long queue pays for its cold memory as real requests would. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "pool/admission.h"

enum {
  SHORT_QUEUE = 10,
  LONG_QUEUE = 100000,
  CONNECTIONS = 100,
  OPERATIONS = 200000, /* of one sample */
  SAMPLES = 21,
  BLOCK_BYTES = 512
};

#define REACH_US 0.5
#define REACH_RATIO 1.5

struct pool {
  struct cpool__admission adm;
  struct cpool__origin_policy origin;
  struct cpool__group group;
  struct cpool__place places[CONNECTIONS];
  struct cpool__waiter **waiters;
  int waiter_count;
  int turn; /* the connection that falls idle next */
};

static double cpu_us(void)
{
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double) now.tv_sec * 1e6 + (double) now.tv_nsec / 1e3;
}

static void give_up(const char *what)
{
  fprintf(stderr, "admission: %s\n", what);
  exit(2);
}

static struct pool *pool_new(int waiter_count)
{
  struct pool *pool = calloc(1, sizeof *pool);
  struct cpool__waiter **waiters = calloc((size_t) waiter_count, sizeof(struct cpool__waiter *));
  if (pool == NULL || waiters == NULL)
    give_up("out of memory");
  pool->waiters = waiters;
  pool->waiter_count = waiter_count;
  cpool__admission_init(&pool->adm, CONNECTIONS, CONNECTIONS);
  cpool__origin_policy_init(&pool->origin, CONNECTIONS);
  cpool__group_init(&pool->group, &pool->origin);
  for (int i = 0; i < waiter_count; i++) {
    waiters[i] = calloc(1, BLOCK_BYTES);
    if (waiters[i] == NULL)
      give_up("out of memory");
  }
  for (int i = waiter_count - 1; i > 0; i--) {
    int other = rand() % (i + 1);
    struct cpool__waiter *swapped = waiters[i];
    waiters[i] = waiters[other];
    waiters[other] = swapped;
  }
  for (int i = 0; i < CONNECTIONS; i++) {
    cpool__place_open(&pool->adm, &pool->places[i], &pool->group);
    cpool__place_busy(&pool->adm, &pool->places[i]);
  }
  for (int i = 0; i < waiter_count; i++)
    cpool__admission_wait(&pool->adm, waiters[i], &pool->group);
  if (cpool__admission_next(&pool->adm).kind != CPOOL__DECISION_NONE)
    give_up("somebody was served without a connection");
  return pool;
}

static void pool_free(struct pool *pool)
{
  for (int i = 0; i < pool->waiter_count; i++)
    free(pool->waiters[i]);
  free(pool->waiters);
  free(pool);
}

/* CPU time of one operation. */
static double sample_us(struct pool *pool)
{
  double started_us = cpu_us();
  for (int i = 0; i < OPERATIONS; i++) {
    cpool__place_idle(&pool->adm, &pool->places[pool->turn]);
    pool->turn = (pool->turn + 1) % CONNECTIONS;
    struct cpool__decision decision = cpool__admission_next(&pool->adm);
    if (decision.kind != CPOOL__DECISION_REUSE)
      give_up("nobody was served by an idle connection");
    cpool__admission_wait(&pool->adm, decision.waiter, &pool->group);
    if (cpool__admission_next(&pool->adm).kind != CPOOL__DECISION_NONE)
      give_up("more were served than connections fell idle");
  }
  return (cpu_us() - started_us) / OPERATIONS;
}

static int ascending(const void *a, const void *b)
{
  double left = *(const double *) a, right = *(const double *) b;
  return (left > right) - (left < right);
}

static double median(double *values, size_t count)
{
  qsort(values, count, sizeof *values, ascending);
  return values[count / 2];
}

/* Prints one line; 1 when missed. */
static int report(const char *question, double measured, double reach, const char *unit)
{
  int missed = !(measured <= reach);
  printf("%s|%.3f%s|<= %.1f%s|%s\n", question, measured, unit, reach, unit, missed ? "missed" : "ok");
  return missed;
}

int main(void)
{
  double short_us[SAMPLES], long_us[SAMPLES], ratio[SAMPLES];
  srand(1);
  struct pool *of_few = pool_new(SHORT_QUEUE), *of_many = pool_new(LONG_QUEUE);
  sample_us(of_few); /* a first round warms up */
  sample_us(of_many);
  for (int i = 0; i < SAMPLES; i++) {
    short_us[i] = sample_us(of_few);
    long_us[i] = sample_us(of_many);
    ratio[i] = long_us[i] / short_us[i];
  }
  pool_free(of_few);
  pool_free(of_many);

  int missed = 0;
  printf("question|measured|reach|verdict\n");
  missed |= report("CPU of one acquire and release, 10 waiting", median(short_us, SAMPLES), REACH_US, " us");
  missed |= report("CPU of one acquire and release, 100000 waiting", median(long_us, SAMPLES), REACH_US, " us");
  missed |= report("the second against the first", median(ratio, SAMPLES), REACH_RATIO, "");
  return missed;
}
