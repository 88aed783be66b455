/* ws_registry: ids found, added and removed, few and many; and what the health sweep of many costs
 *
 * Connections are external ones: registry and sweep are the same for all, and these need no sockets. This thread is the
 * loop's; CPU is that of the thread. Ids are looked up in an order of their own, so that a
 * million of them pay for their cold memory.
 *
 *   registry   a round finds, removes and adds BATCH ids; what the callback of their events costs comes behind the call
 *   sweep      BATCH are added in a millisecond of their own, and so fall due together, an interval later; until then and
 *              from then on a turn of the loop is made each millisecond and looked at */
#include "measure.h"

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include <cpool.h>

#include "core/loop.h"
#include "core/wait.h"

enum {
  FEW = 1000,
  MANY = 1000000,
  QUICK_MANY = 20000,
  BATCH = 1000,
  ROUNDS = 1001, /* with few */
  ROUNDS_MANY = 101,
  QUICK_ROUNDS = 5,
  WARM_UP = 10, /* a round for so many that count */
  TIMES = 4,    /* with many it may cost so many times as much */
  ID_BYTES = 24,
  NS = 1000000,
  SPACING_MS = 2, /* between two batches */
  INTERVAL_MS = 4500,
  QUICK_INTERVAL_MS = 500,
  LATE_MS = 20000, /* all should be due long before */
  TICKS = 65536,
  PLACE_WORDS = 31,
  COLD_STEP = 618033, /* shares no divisor with the counts, so that the walk meets every place */
  COLD_LOOKS = 100000
};

static const double FIND_US = 0.10, ADD_US = 0.30, REMOVE_US = 0.30, FIND_ELSEWHERE_US = 0.50, LONGEST_US = 1000,
                    IDLE_TICK_US = 5, DUE_TICK_US = 2000;

struct registry {
  uv_loop_t loop;
  cpool_runtime *rt;
  cpool_ws *ws;
  int count;
  char (*ids)[ID_BYTES];
  cpool_conn *handles;
  uint32_t random;
  int batch[BATCH];                /* those of this round */
  char batch_ids[BATCH][ID_BYTES]; /* their ids and handles, which a caller has at hand */
  cpool_conn batch_handles[BATCH];
  double us; /* of the last job, without events */
  double longest_us;
};

static long ping_count;
static bool closed;

static void on_event(const cpool_event *event)
{
  closed |= event->kind == CPOOL_EVENT_WS_MANAGER_CLOSED;
  ping_count += event->kind == CPOOL_EVENT_WS_PING_DUE;
}

static double thread_us(void)
{
  return clock_as_us(CLOCK_THREAD_CPUTIME_ID);
}

/* Each number below `most` about as often. */
static int draw(struct registry *registry, int most)
{
  registry->random = registry->random * 1664525u + 1013904223u;
  return (int) ((uint64_t) registry->random * (uint64_t) most >> 32);
}

/* Different ones, in no order. */
static void draw_batch(struct registry *registry)
{
  int step = registry->count / BATCH;
  for (int i = 0; i < BATCH; i++)
    registry->batch[i] = i * step + draw(registry, step);
  for (int i = BATCH - 1; i > 0; i--) {
    int with = draw(registry, i + 1), kept = registry->batch[i];
    registry->batch[i] = registry->batch[with];
    registry->batch[with] = kept;
  }
  for (int i = 0; i < BATCH; i++) {
    memcpy(registry->batch_ids[i], registry->ids[registry->batch[i]], ID_BYTES);
    registry->batch_handles[i] = registry->handles[registry->batch[i]];
  }
}

/* On a host's loop, or stepped by hand: then any thread can be another one while it is not stepped. */
static void open_registry(struct registry *registry, int mode, int most, int64_t interval_ms)
{
  cpool_runtime_options runtime;
  cpool_ws_options options;
  *registry = (struct registry){.random = 1, .ids = calloc((size_t) most, ID_BYTES)};
  registry->handles = calloc((size_t) most, sizeof *registry->handles);
  cpool_runtime_options_init(&runtime);
  runtime.loop_mode = mode;
  runtime.uv_loop = mode == CPOOL_LOOP_UV ? &registry->loop : NULL;
  cpool_ws_options_init(&options);
  options.max_connections = most;
  options.health_check_interval_ms = interval_ms;
  options.pong_timeout_ms = options.connection_timeout_ms = CPOOL_OFF;
  options.on_event = on_event;
  if (registry->ids == NULL || registry->handles == NULL || uv_loop_init(&registry->loop) != 0 ||
      cpool_runtime_new(&registry->rt, &runtime) != CPOOL_OK ||
      cpool_ws_new(&registry->ws, registry->rt, &options) != CPOOL_OK)
    give_up("ws_registry: no registry");
  for (int i = 0; i < most; i++)
    snprintf(registry->ids[i], ID_BYTES, "client-%07d", i);
}

static void turn(struct registry *registry)
{
  if (registry->rt->mode == CPOOL_LOOP_UV)
    uv_run(&registry->loop, UV_RUN_NOWAIT);
  else
    (void) cpool_runtime_step(registry->rt, 0);
}

static void close_registry(struct registry *registry)
{
  int rc = cpool_ws_close_start(registry->ws, 0);
  double until_us = clock_as_us(CLOCK_MONOTONIC) + LATE_MS * 1e3;
  while (rc == CPOOL_OK && !closed && clock_as_us(CLOCK_MONOTONIC) < until_us)
    turn(registry);
  if (!closed)
    give_up("ws_registry: it does not close");
  closed = false;
  cpool_ws_free(registry->ws);
  turn(registry);
  if (cpool_runtime_free(registry->rt) != CPOOL_OK)
    give_up("ws_registry: its runtime is not free");
  uv_run(&registry->loop, UV_RUN_DEFAULT);
  uv_loop_close(&registry->loop);
  free(registry->ids);
  free(registry->handles);
}

/* ------------------------------------------------------------------------------------------------- on the loop's thread */

static void add_one(struct registry *registry, const char *id, cpool_conn *handle)
{
  if (cpool_ws_add_external(registry->ws, id, NULL, handle) != CPOOL_OK)
    give_up("ws_registry: %s is not added", id);
}

/* The next BATCH new ones, each timed by itself. */
static int grow(void *arg)
{
  struct registry *registry = arg;
  for (int i = 0; i < BATCH; i++) {
    double began_us = thread_us();
    add_one(registry, registry->ids[registry->count], &registry->handles[registry->count]);
    double us = thread_us() - began_us;
    registry->count++;
    if (us > registry->longest_us)
      registry->longest_us = us;
  }
  return CPOOL_OK;
}

static int find_batch(void *arg)
{
  struct registry *registry = arg;
  double began_us = thread_us();
  for (int i = 0; i < BATCH; i++) {
    cpool_conn found;
    if (cpool_ws_find(registry->ws, registry->batch_ids[i], &found) != CPOOL_OK || found != registry->batch_handles[i])
      give_up("ws_registry: %s is not found", registry->batch_ids[i]);
  }
  registry->us = thread_us() - began_us;
  return CPOOL_OK;
}

static int remove_batch(void *arg)
{
  struct registry *registry = arg;
  double began_us = thread_us();
  for (int i = 0; i < BATCH; i++)
    if (cpool_ws_remove(registry->ws, registry->batch_handles[i], 0, NULL) != CPOOL_OK)
      give_up("ws_registry: %s is not removed", registry->batch_ids[i]);
  registry->us = thread_us() - began_us;
  return CPOOL_OK;
}

static int add_batch(void *arg)
{
  struct registry *registry = arg;
  double began_us = thread_us();
  for (int i = 0; i < BATCH; i++)
    add_one(registry, registry->batch_ids[i], &registry->batch_handles[i]);
  registry->us = thread_us() - began_us;
  for (int i = 0; i < BATCH; i++)
    registry->handles[registry->batch[i]] = registry->batch_handles[i];
  return CPOOL_OK;
}

/* ----------------------------------------------------------------------------------------------------------- registry */

struct samples {
  double find[ROUNDS], remove[ROUNDS], add[ROUNDS], remove_all[ROUNDS], add_all[ROUNDS];
};

/* Of one id: *all_us with its share of the turn and of its events. */
static double run(struct registry *registry, int (*job)(void *), double *all_us)
{
  double began_us = thread_us();
  (void) cpool__call(registry->rt, job, registry);
  if (all_us != NULL)
    *all_us = (thread_us() - began_us) / BATCH;
  return registry->us / BATCH;
}

/* One look at memory that nobody looked at lately, where the last look said: what a look-up among so many costs at least. */
static double cold_look_us(int count)
{
  struct place {
    uint64_t next, others[PLACE_WORDS];
  } *places = calloc((size_t) count, sizeof *places);
  uint64_t at = 0;
  if (places == NULL)
    give_up("ws_registry: out of memory");
  for (uint64_t i = 0; i < (uint64_t) count; i++)
    places[i].next = (i + COLD_STEP) % (uint64_t) count;
  double began_us = thread_us();
  for (int i = 0; i < COLD_LOOKS; i++)
    at = places[at].next;
  double us = (thread_us() - began_us) / COLD_LOOKS;
  bool arrived = at == (uint64_t) COLD_LOOKS * COLD_STEP % (uint64_t) count;
  free(places);
  return arrived ? us : 0;
}

static void report_cost(const char *what, int count, double reach_us, double *us, double *all_us, int rounds)
{
  char question[128], reach[32];
  int times = count > FEW ? TIMES : 1;
  double middle_us = median(us, (size_t) rounds);
  snprintf(question, sizeof question, "CPU of %s, %d ids, on the loop's thread", what, count);
  snprintf(reach, sizeof reach, "<= %.2f us", reach_us * times);
  if (all_us == NULL)
    report(question, reach, middle_us <= reach_us * times, "%.3f us (%.3f to %.3f); one look at cold memory: %.3f us",
           middle_us, us[0], us[rounds - 1], cold_look_us(count));
  else
    report(question, reach, middle_us <= reach_us * times, "%.3f us (%.3f to %.3f); its event: %.3f us", middle_us,
           us[0], us[rounds - 1], median(all_us, (size_t) rounds) - middle_us);
}

static void measure_registry(struct registry *registry, int rounds)
{
  static struct samples samples;
  for (int i = -rounds / WARM_UP; i < rounds; i++) {
    int at = i < 0 ? 0 : i;
    draw_batch(registry);
    samples.find[at] = run(registry, find_batch, NULL);
    samples.remove[at] = run(registry, remove_batch, &samples.remove_all[at]);
    samples.add[at] = run(registry, add_batch, &samples.add_all[at]);
  }
  report_cost("finding", registry->count, FIND_US, samples.find, NULL, rounds);
  report_cost("adding", registry->count, ADD_US, samples.add, samples.add_all, rounds);
  report_cost("removing", registry->count, REMOVE_US, samples.remove, samples.remove_all, rounds);
}

/* This thread is the loop's only while it steps. */
static void measure_elsewhere(struct registry *registry, int rounds)
{
  double us[ROUNDS];
  char question[128], reach[32];
  int times = registry->count > FEW ? TIMES : 1;
  for (int i = 0; i < rounds; i++) {
    draw_batch(registry);
    (void) find_batch(registry);
    us[i] = registry->us / BATCH;
  }
  double middle_us = median(us, (size_t) rounds);
  snprintf(question, sizeof question, "CPU of finding, %d ids, on another thread", registry->count);
  snprintf(reach, sizeof reach, "<= %.2f us", FIND_ELSEWHERE_US * times);
  report(question, reach, middle_us <= FIND_ELSEWHERE_US * times, "%.3f us (%.3f to %.3f)", middle_us, us[0],
         us[rounds - 1]);
}

static void grow_to(struct registry *registry, int count)
{
  while (registry->count < count)
    (void) cpool__call(registry->rt, grow, registry);
}

/* -------------------------------------------------------------------------------------------------------------- sweep */

static void sleep_to(int64_t at_ms)
{
  struct timespec until = {.tv_sec = at_ms / 1000, .tv_nsec = at_ms % 1000 * NS};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static int64_t clock_ms(void)
{
  return (int64_t) (clock_as_us(CLOCK_MONOTONIC) / 1000);
}

struct ticks {
  double idle[TICKS], due[TICKS];
  size_t idle_count, due_count;
  double longest_us; /* of all turns, also those in which the wheel sorts what comes up */
};

static void tick(struct registry *registry, struct ticks *ticks)
{
  long pings = ping_count;
  uint64_t turns = registry->rt->turn_count;
  cpool__runtime_enter(registry->rt); /* a turn is made although nothing is due */
  double began_us = thread_us();
  turn(registry);
  double us = thread_us() - began_us;
  if (registry->rt->turn_count == turns)
    give_up("ws_registry: no turn was made");
  ticks->longest_us = us > ticks->longest_us ? us : ticks->longest_us;
  if (ping_count == pings && ticks->idle_count < TICKS)
    ticks->idle[ticks->idle_count++] = us;
  else if (ping_count - pings == BATCH && ticks->due_count < TICKS)
    ticks->due[ticks->due_count++] = us;
}

static void measure_sweep(int count, int64_t interval_ms)
{
  static struct ticks ticks;
  struct registry registry;
  char question[128];
  ping_count = 0;
  open_registry(&registry, CPOOL_LOOP_UV, count, interval_ms);
  for (int64_t at_ms = clock_ms() + 1; registry.count < count; at_ms += SPACING_MS) {
    sleep_to(at_ms);
    turn(&registry);
    (void) cpool__call(registry.rt, grow, &registry);
  }
  int64_t end_ms = clock_ms() + LATE_MS;
  for (int64_t at_ms = clock_ms(); ping_count < count; at_ms = clock_ms() + 1) {
    sleep_to(at_ms);
    if (at_ms > end_ms)
      give_up("ws_registry: only %ld fell due", ping_count);
    tick(&registry, &ticks);
  }
  if (ticks.idle_count == 0 || ticks.due_count == 0)
    give_up("ws_registry: no turn had nothing, or a batch, to do");
  double us = median(ticks.idle, ticks.idle_count);
  snprintf(question, sizeof question, "CPU of a turn of the loop, %d connections, no health check due", count);
  report(question, "<= 5 us", us <= IDLE_TICK_US, "%.2f us (p90 %.2f, longest %.0f); %zu turns", us,
         ticks.idle[ticks.idle_count * 9 / 10], ticks.idle[ticks.idle_count - 1], ticks.idle_count);
  us = median(ticks.due, ticks.due_count);
  report("the same, 1000 due", "<= 2000 us", us <= DUE_TICK_US,
         "%.0f us (p90 %.0f, longest %.0f); %zu turns; longest of all %.0f us", us, ticks.due[ticks.due_count * 9 / 10],
         ticks.due[ticks.due_count - 1], ticks.due_count, ticks.longest_us);
  close_registry(&registry);
}

int main(int argc, char **argv)
{
  bool quick = is_quick(argc, argv);
  int rounds = quick ? QUICK_ROUNDS : ROUNDS, rounds_many = quick ? QUICK_ROUNDS : ROUNDS_MANY;
  int many = quick ? QUICK_MANY : MANY;
  struct registry registry;
  pin_to(CLIENT_CPU);
  open_registry(&registry, CPOOL_LOOP_MANUAL, many, CPOOL_OFF);
  grow_to(&registry, FEW);
  measure_registry(&registry, rounds);
  measure_elsewhere(&registry, rounds);
  grow_to(&registry, many);
  measure_registry(&registry, rounds_many);
  measure_elsewhere(&registry, rounds_many);
  report("the longest call among those that added them", "<= 1000 us", registry.longest_us <= LONGEST_US, "%.1f us",
         registry.longest_us);
  close_registry(&registry);
  measure_sweep(many, quick ? QUICK_INTERVAL_MS : INTERVAL_MS);
  return 0;
}
