/* storm: the threads, the lives of the pools, and the account of what each request came to
 *
 *   workers     submit (to the queue or to a callback), cancel, make and free sessions, change limits, replace pools, anger servers
 *   consumers   take events out, pause, release in any order, keep some responses longer
 *   stepper     runs the manual runtime;  sampler  checks snapshots and counts the sockets of the process
 *
 * A slot holds one pool at a time, under a lock that is read to use the pool and written to replace it. Callbacks only try the lock, as
 * the thread that replaces a pool may wait for them. Each life of a pool keeps its own totals, compared with its statistics at the end.
 */
#include "support/storm.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/fault_h2.h"
#include "support/storm_parts.h"
#include "support/wait.h"

enum { BATCH = 16, SOCKET_FDS = 1024, LOOKS = 5 };

/* ------------------------------------------------------------------------------------------------------- small parts */

/* Before each block its size, in a unit that keeps the alignment. */
enum { HEAD_BYTES = 16 };

static void *count_memory(void *context, void *ptr, size_t size)
{
  struct storm *s = context;
  char *block = ptr == NULL ? NULL : (char *) ptr - HEAD_BYTES;
  size_t old = 0;
  if (block != NULL)
    memcpy(&old, block, sizeof old);
  if (size == 0) {
    atomic_fetch_sub(&s->bytes, (int64_t) old);
    atomic_fetch_sub(&s->blocks, 1);
    free(block);
    return NULL;
  }
  char *grown = realloc(block, size + HEAD_BYTES);
  if (grown == NULL)
    return NULL;
  memcpy(grown, &size, sizeof size);
  atomic_fetch_add(&s->bytes, (int64_t) size - (int64_t) old);
  atomic_fetch_add(&s->blocks, block == NULL);
  return grown + HEAD_BYTES;
}

uint64_t storm_random(struct storm_thread *t)
{
  t->random ^= t->random >> 12; /* xorshift64* */
  t->random ^= t->random << 25;
  t->random ^= t->random >> 27;
  return (t->random * UINT64_C(0x2545F4914F6CDD1D)) >> 16;
}

int storm_below(struct storm_thread *t, int bound)
{
  return (int) (storm_random(t) % (uint64_t) bound);
}

void storm_trouble(struct storm *s, int64_t *kind, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  pthread_mutex_lock(&s->lock);
  ++*kind;
  if (s->result->trouble[0] == '\0')
    vsnprintf(s->result->trouble, sizeof s->result->trouble, format, args);
  pthread_mutex_unlock(&s->lock);
  va_end(args);
}

/* Until something ended, at most so long. */
void storm_rest(struct storm *s, int64_t most_ms)
{
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += most_ms * 1000000;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_mutex_lock(&s->lock);
  atomic_fetch_add(&s->resting, 1);
  pthread_cond_timedwait(&s->news, &s->lock, &until);
  atomic_fetch_sub(&s->resting, 1);
  pthread_mutex_unlock(&s->lock);
}

static void pause_ms(struct storm *s, int64_t ms)
{
  for (int64_t until_ms = now_ms() + ms; now_ms() < until_ms;)
    storm_rest(s, until_ms - now_ms());
}

static void tell(struct storm *s)
{
  if (atomic_load(&s->resting) == 0)
    return;
  pthread_mutex_lock(&s->lock);
  pthread_cond_broadcast(&s->news);
  pthread_mutex_unlock(&s->lock);
}

/* ------------------------------------------------------------------------------------------------------------- events */

static void closed(struct life *life)
{
  cpool_http *pool = life->pool;
  bool free_here = life->free_at_event;
  if (free_here)
    cpool_http_free(pool);
  atomic_fetch_add(&life->closed_events, 1);
}

void storm_event(const cpool_event *event)
{
  struct storm *s;
  if (event->kind == CPOOL_EVENT_HTTP_CLOSED) {
    struct life *life = event->user;
    s = life->storm;
    closed(life);
  } else if (event->kind != CPOOL_EVENT_RESPONSE) {
    struct storm_op *op = event->user;
    s = op->life->storm;
    if (atomic_load(&op->ends) > 0 && op->in_order)
      storm_trouble(s, &s->result->wrong, "a piece came after the end");
    storm_check_part(s, op, event);
    return;
  } else {
    struct storm_op *op = event->user;
    s = op->life->storm;
    if (atomic_fetch_add(&op->ends, 1) > 0)
      storm_trouble(s, &s->result->doubled, "a request ended twice, now with %s", cpool_status_name(event->status));
    if (event->source != op->op)
      storm_trouble(s, &s->result->wrong, "an event names another request");
    storm_check_response(s, op, event);
    if (event->status == CPOOL_OK) {
      atomic_fetch_add(&op->life->succeeded, 1);
      atomic_store(&op->answered, 1);
    }
    atomic_fetch_add(&s->by_status[-event->status & 127], 1);
    atomic_fetch_add(&s->ended, 1);
  }
  tell(s);
}

/* What the lock keeps it from giving back, the next piece does, or the time-out. */
static void give_credit(const cpool_event *event)
{
  struct storm_op *op = event->user;
  struct storm *s = op->life->storm;
  struct slot *slot = &s->slots[op->slot];
  if (pthread_rwlock_tryrdlock(&slot->lock) != 0)
    return;
  int rc = slot->life == op->life && slot->pool != NULL
               ? cpool_body_credit(slot->pool, event->source, op->number % 4 == 0 ? 1 : SIZE_MAX)
               : CPOOL_OK;
  pthread_rwlock_unlock(&slot->lock);
  if (rc != CPOOL_OK && rc != CPOOL_ESTALE)
    storm_trouble(s, &s->result->wrong, "credit: %s", cpool_status_name(rc));
}

/* On the loop: the calls that are legal there. */
void storm_callback(const cpool_event *event)
{
  struct storm_op *op = event->user;
  bool response = event->kind == CPOOL_EVENT_RESPONSE;
  struct slot *slot = NULL;
  struct storm_thread t;
  if (event->kind == CPOOL_EVENT_BODY)
    give_credit(event);
  if (response) {
    slot = &op->life->storm->slots[op->slot];
    t = (struct storm_thread){.s = op->life->storm,
                              .random = event->source * 2654435761u + op->life->storm->options->seed + 1};
  }
  storm_event(event);
  if (slot == NULL || storm_below(&t, 16) != 0 || pthread_rwlock_tryrdlock(&slot->lock) != 0)
    return;
  if (slot->pool != NULL) {
    storm_check_stats(&t, slot);
    storm_submit(&t, slot, cpool_http_session(slot->pool), NULL, storm_callback);
    storm_cancel(&t, slot);
  }
  pthread_rwlock_unlock(&slot->lock);
}

static void *consume(void *arg)
{
  struct storm_thread *t = arg;
  struct storm *s = t->s;
  cpool_response *kept[BATCH] = {NULL};
  while (!atomic_load(&s->stop_consumers)) {
    const cpool_event *events[BATCH];
    int count = cpool_queue_wait(s->queue, events, 1 + storm_below(t, BATCH), 20);
    if (storm_below(t, 200) == 0)
      pause_ms(s, 1 + storm_below(t, 20));
    for (int i = 0; i < count; i++) {
      storm_event(events[i]);
      if (storm_below(t, 4) == 0) {
        cpool_response **place = &kept[storm_below(t, BATCH)];
        cpool_response_free(*place);
        *place = cpool_event_take_response(events[i]);
      }
    }
    for (int i = count - 1; i >= 0; i--)
      cpool_queue_release(s->queue, &events[i], 1);
  }
  for (int i = 0; i < BATCH; i++)
    cpool_response_free(kept[i]);
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------ threads */

static void session_change(struct storm_thread *t, struct slot *slot)
{
  cpool_session **session = &slot->sessions[t->number];
  cpool_session_free(*session);
  *session = NULL;
  if (storm_session_new(t, session, slot->pool))
    atomic_fetch_add(&t->s->sessions, 1);
}

static void *work(void *arg)
{
  struct storm_thread *t = arg;
  struct storm *s = t->s;
  while (atomic_load(&s->next_op) < s->options->requests && now_ms() < s->load_until_ms) {
    struct slot *slot = &s->slots[storm_below(t, STORM_SLOTS)];
    int dice = storm_below(t, 10000);
    if (dice < s->replace_share) {
      storm_pool_replace(t, slot);
      continue;
    }
    bool refused = false;
    pthread_rwlock_rdlock(&slot->lock);
    if (slot->pool != NULL) {
      cpool_session *own = slot->sessions[t->number];
      cpool_session *session = own != NULL && storm_below(t, 2) == 0 ? own : cpool_http_session(slot->pool);
      if (dice < 100)
        session_change(t, slot);
      else if (dice < 200)
        storm_reconfigure(t, slot);
      else if (dice < 300)
        storm_anger(t);
      else if (dice < 900)
        storm_cancel(t, slot);
      else
        refused = !storm_submit(t, slot, session, storm_below(t, 2) == 0 ? s->queue : NULL, storm_callback);
    }
    pthread_rwlock_unlock(&slot->lock);
    if (refused)
      pause_ms(s, 1 + storm_below(t, 3));
  }
  return NULL;
}

static void *step(void *arg)
{
  struct storm_thread *t = arg;
  while (!atomic_load(&t->s->stop_stepper))
    (void) cpool_runtime_step(t->s->manual, 20); /* EBUSY: a close steps it */
  return NULL;
}

/* Sockets of this process that lead to the servers and were not shut down; by server, and of all. */
static void count_sockets(struct storm *s, int *by_server, int *total)
{
  memset(by_server, 0, STORM_SERVERS * sizeof *by_server);
  *total = 0;
  for (int fd = 0; fd < SOCKET_FDS; fd++) {
    struct sockaddr_in peer = {0};
    socklen_t peer_len = sizeof peer;
    struct tcp_info info;
    socklen_t info_len = sizeof info;
    /* without the C library: other threads own the descriptors and may close them at any time */
    if (syscall(SYS_getpeername, fd, &peer, &peer_len) != 0 || peer.sin_family != AF_INET ||
        syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &info_len) != 0 ||
        (info.tcpi_state != TCP_ESTABLISHED && info.tcpi_state != TCP_CLOSE_WAIT))
      continue;
    for (int i = 0; i < STORM_SERVERS; i++)
      if (ntohs(peer.sin_port) == s->ports[i]) {
        by_server[i]++;
        ++*total;
      }
  }
}

static void bounds(struct storm *s, int *all, int *host)
{
  int sum = 0, host_sum = 0;
  for (int i = 0; i < STORM_SLOTS; i++) {
    sum += atomic_load(&s->slots[i].most) + atomic_load(&s->slots[i].ghosts);
    host_sum += atomic_load(&s->slots[i].most_per_host) + atomic_load(&s->slots[i].ghosts_per_host);
  }
  *all = sum > *all ? sum : *all;
  *host = host_sum > *host ? host_sum : *host;
}

/* Sockets come and go during one count, so that only what several counts in a row say is believed. */
static void check_sockets(struct storm *s)
{
  int by_server[STORM_SERVERS], total, over_total = 0, over_host = 0, most = 0;
  for (int look = 0; look < LOOKS; look++) {
    int all = 0, host = 0;
    bounds(s, &all, &host);
    count_sockets(s, by_server, &total);
    bounds(s, &all, &host);
    bool above = false;
    for (int i = 0; i < STORM_SERVERS; i++) {
      above |= by_server[i] > host * (i == 0 ? 2 : 1); /* the first server has two names */
      most = by_server[i] > most ? by_server[i] : most;
    }
    over_total += total > all;
    over_host += above;
    if (over_total <= look && over_host <= look)
      return;
  }
  storm_trouble(s, &s->result->limits, "%d sockets open, %d to one server: above the limits", total, most);
}

static void *sample(void *arg)
{
  struct storm_thread *t = arg;
  struct storm *s = t->s;
  while (!atomic_load(&s->stop_sampler)) {
    struct slot *slot = &s->slots[storm_below(t, STORM_SLOTS)];
    if (pthread_rwlock_tryrdlock(&slot->lock) == 0) {
      if (slot->pool != NULL)
        storm_check_stats(t, slot);
      pthread_rwlock_unlock(&slot->lock);
    }
    check_sockets(s);
    fault_server_release(s->servers[storm_below(t, STORM_SERVERS)], 4);
    if (storm_below(t, 4) == 0)
      fault_h2_release(s->http2);
    storm_rest(s, 5);
    if (now_ms() >= s->report_ms) {
      s->report_ms = now_ms() + 10000;
      if (s->options->requests > 100000)
        fprintf(stderr, "storm: %lld ended\n", (long long) atomic_load(&s->ended));
    }
  }
  return NULL;
}

/* ---------------------------------------------------------------------------------------------------------- the whole */

static void thread_start(struct storm *s, struct storm_thread *t, int number, void *(*fn)(void *) )
{
  *t = (struct storm_thread){.s = s,
                             .number = number,
                             .random = (s->options->seed + 1) * UINT64_C(0x9E3779B97F4A7C15) + (uint64_t) number};
  t->random |= 1;
  if (fn != NULL && pthread_create(&t->thread, NULL, fn, t) != 0)
    support_die("storm: no thread");
}

static bool all_ended(void *arg)
{
  struct storm *s = arg;
  return atomic_load(&s->ended) >= atomic_load(&s->accepted);
}

static bool runtime_gone(void *arg)
{
  cpool_runtime **rt = arg;
  (void) cpool_runtime_step(*rt, 0); /* manual mode: what is still closing needs turns */
  return cpool_runtime_free(*rt) == CPOOL_OK;
}

static bool queue_gone(void *arg)
{
  return cpool_queue_free(*(cpool_queue **) arg) == CPOOL_OK;
}

static bool nothing_left(void *arg)
{
  struct storm *s = arg;
  return atomic_load(&s->blocks) == 0 && open_fd_count() <= s->fds_before && thread_count() <= s->threads_before;
}

static void account(struct storm *s)
{
  struct storm_result *r = s->result;
  for (int64_t i = 0; i < s->op_capacity; i++) {
    const struct storm_op *op = &s->ops[i];
    if (op->accepted && atomic_load(&op->ends) == 0)
      storm_trouble(s, &r->lost, "request %lld never ended", (long long) i);
    else if (!op->accepted && atomic_load(&op->ends) > 0)
      storm_trouble(s, &r->doubled, "a refused submit ended");
    const char *trouble = storm_stream_trouble(op);
    if (trouble != NULL)
      storm_trouble(s, &r->wrong, "request %lld: %s", (long long) i, trouble);
  }
  for (int i = 0; i < STORM_SLOTS; i++)
    for (struct life *life = s->slots[i].lives; life < s->slots[i].next_life; life++) {
      if (atomic_load(&life->closed_events) != (life->wants_event ? 1 : 0))
        storm_trouble(s, &r->closes, "%d closed events of a pool", atomic_load(&life->closed_events));
      if (life->compared && life->stats_succeeded != atomic_load(&life->succeeded))
        storm_trouble(s, &r->miscounted, "a pool counts %lld successes, its events say %lld",
                      (long long) life->stats_succeeded, (long long) atomic_load(&life->succeeded));
    }
  for (size_t i = 0; i < sizeof r->by_status / sizeof *r->by_status; i++)
    r->by_status[i] = atomic_load(&s->by_status[i]);
  r->accepted = atomic_load(&s->accepted);
  r->refused = atomic_load(&s->refused);
  r->succeeded = r->by_status[0];
  r->failed = atomic_load(&s->ended) - r->by_status[0];
  r->cancels = atomic_load(&s->cancels);
  r->pools = atomic_load(&s->pools);
  r->sessions = atomic_load(&s->sessions);
  r->reconfigures = atomic_load(&s->reconfigures);
  r->snapshots = atomic_load(&s->snapshots);
  struct fault_h2_counts http2;
  fault_h2_counts(s->http2, &http2);
  r->streams = http2.streams;
  r->leaked_bytes = atomic_load(&s->bytes);
  r->leaked_blocks = atomic_load(&s->blocks);
  r->leaked_fds = open_fd_count() - s->fds_before;
  r->leaked_threads = thread_count() - s->threads_before;
}

static void make_objects(struct storm *s, struct storm_thread *own)
{
  cpool_runtime_options runtime;
  cpool_queue_options queue;
  cpool_queue_options_init(&queue);
  queue.high_water_bytes = 128 * 1024;
  cpool_runtime_options_init(&runtime);
  runtime.loop_mode = CPOOL_LOOP_MANUAL;
  if (cpool_queue_new(&s->queue, &queue) != CPOOL_OK || cpool_runtime_new(&s->shared, NULL) != CPOOL_OK ||
      cpool_runtime_new(&s->manual, &runtime) != CPOOL_OK)
    support_die("storm: no runtime");
  s->slots[1].runtime = s->shared;
  s->slots[2].runtime = s->manual;
  for (int i = 0; i < STORM_SLOTS; i++) {
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&s->slots[i].lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&s->slots[i].replacing, NULL);
    s->slots[i].lives = calloc(STORM_LIVES, sizeof *s->slots[i].lives);
    s->slots[i].next_life = s->slots[i].lives;
    storm_pool_new(own, &s->slots[i], false);
  }
}

void storm_run(const struct storm_options *options, struct storm_result *out)
{
  struct storm *s = calloc(1, sizeof *s);
  struct storm_thread own, workers[STORM_WORKERS], consumers[STORM_CONSUMERS], stepper, sampler;
  pthread_condattr_t attr;
  cpool_runtime *warm_rt = NULL;
  cpool_http *warm = NULL;
  int64_t began_ms = now_ms();
  memset(out, 0, sizeof *out);
  if (cpool_runtime_new(&warm_rt, NULL) != CPOOL_OK || cpool_http_new(&warm, warm_rt, NULL) != CPOOL_OK ||
      cpool_http_close(warm, 0) != CPOOL_OK || cpool_runtime_free(warm_rt) != CPOOL_OK)
    support_die(
        "storm: no pool"); /* what libuv, libcurl and OpenSSL keep for good is there before descriptors are counted */
  s->options = options;
  s->result = out;
  s->op_capacity = options->requests + 1000;
  s->ops = calloc((size_t) s->op_capacity, sizeof *s->ops);
  s->replace_share = 6;
  s->load_until_ms = began_ms + options->deadline_ms;
  s->report_ms = began_ms + 10000;
  pthread_mutex_init(&s->lock, NULL);
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&s->news, &attr);
  pthread_condattr_destroy(&attr);
  storm_peers_start(s);
  s->threads_before = thread_count();
  s->fds_before = open_fd_count();
  if (cpool_allocator_set(count_memory, s) != CPOOL_OK)
    support_die("storm: the library is in use");

  thread_start(s, &own, 99, NULL);
  make_objects(s, &own);
  for (int i = 0; i < STORM_CONSUMERS; i++)
    thread_start(s, &consumers[i], 20 + i, consume);
  thread_start(s, &stepper, 30, step);
  thread_start(s, &sampler, 31, sample);
  for (int i = 0; i < STORM_WORKERS; i++)
    thread_start(s, &workers[i], i, work);

  for (int i = 0; i < STORM_WORKERS; i++)
    pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < STORM_SLOTS; i++) {
    (void) storm_pool_end(&own, &s->slots[i]);
    pthread_rwlock_unlock(&s->slots[i].lock);
  }
  wait_until(all_ended, s, STORM_DEADLINE_MS);
  atomic_store(&s->stop_sampler, true);
  pthread_join(sampler.thread, NULL);
  atomic_store(&s->stop_stepper, true);
  pthread_join(stepper.thread, NULL);
  out->unfree = !wait_until(runtime_gone, &s->manual, STORM_DEADLINE_MS) ||
                !wait_until(runtime_gone, &s->shared, STORM_DEADLINE_MS);
  atomic_store(&s->stop_consumers, true);
  for (int i = 0; i < STORM_CONSUMERS; i++)
    pthread_join(consumers[i].thread, NULL);
  out->unfree |= !wait_until(queue_gone, &s->queue, STORM_DEADLINE_MS);
  wait_until(storm_peers_quiet, s, STORM_DEADLINE_MS);
  wait_until(nothing_left, s, STORM_DEADLINE_MS / 3);
  account(s);
  out->elapsed_ms = now_ms() - began_ms;
  if (out->unfree)
    return; /* what still runs refers to the storm */
  cpool_allocator_set(NULL, NULL);
  storm_peers_stop(s);
  for (int i = 0; i < STORM_SLOTS; i++) {
    pthread_rwlock_destroy(&s->slots[i].lock);
    pthread_mutex_destroy(&s->slots[i].replacing);
    free(s->slots[i].lives);
  }
  pthread_cond_destroy(&s->news);
  pthread_mutex_destroy(&s->lock);
  free(s->ops);
  free(s);
}
