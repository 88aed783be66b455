/* ws_peers: what becomes of peers that have vanished, and of the memory for thousands that do not read
 *
 * Peers are in processes of their own, made before this one has threads: each connects when it is told the port, and does
 * nothing more. One of them is stopped by a signal once it is open: its kernel goes on acknowledging, as a NAT's or a
 * proxy's would. */
#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cpool.h>

#include "support/wait.h"
#include "ws_load.h"

enum {
  TIMES = 3,
  SECOND_MS = 1000,
  VANISHED_MS = 2200,
  SILENT = 10000,
  QUICK_SILENT = 500,
  MESSAGES = 500,
  KIB = 1024,
  MIB = 1024 * KIB,
  CAP_BYTES = 64 * MIB,
  QUICK_CAP_BYTES = 3 * MIB,
  PATIENCE_MS = 60000
};

/* ------------------------------------------------------------------------------------------------------------ peers */

struct crowd {
  pid_t pid;
  int to;
};

static void be_crowd(int from, int count)
{
  struct fleet fleet;
  uint16_t port;
  char end;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (read(from, &port, sizeof port) != (ssize_t) sizeof port)
    _exit(0);
  fleet_init(&fleet, port, count);
  fleet.narrow = true;
  fleet_open(&fleet, count);
  while (read(from, &end, 1) < 0 && errno == EINTR)
    continue;
  fleet_close(&fleet);
  _exit(0);
}

static struct crowd crowd_new(int count)
{
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    give_up("ws_peers: no pipe");
  struct crowd crowd = {.pid = fork(), .to = ends[1]};
  if (crowd.pid < 0)
    give_up("ws_peers: no process");
  if (crowd.pid == 0) {
    close(ends[1]);
    be_crowd(ends[0], count);
  }
  close(ends[0]);
  return crowd;
}

static void crowd_open(const struct crowd *crowd, int port)
{
  uint16_t number = (uint16_t) port;
  if (write(crowd->to, &number, sizeof number) != (ssize_t) sizeof number)
    give_up("ws_peers: the peers are gone");
}

static void crowd_free(struct crowd *crowd)
{
  int status;
  kill(crowd->pid, SIGKILL);
  close(crowd->to);
  waitpid(crowd->pid, &status, 0);
}

/* ---------------------------------------------------------------------------------------------------------- manager */

static atomic_int open_count, closed_count, last_reason;
static _Atomic double closed_us;

static void on_event(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_WS_OPEN)
    atomic_fetch_add(&open_count, 1);
  if (event->kind != CPOOL_EVENT_WS_CLOSED)
    return;
  atomic_store(&closed_us, clock_as_us(CLOCK_MONOTONIC));
  atomic_store(&last_reason, event->reason);
  atomic_fetch_add(&closed_count, 1);
}

static cpool_ws *listen_with(cpool_ws_options *options, int *port)
{
  cpool_ws *ws = NULL;
  cpool_ws_listen_options listen;
  cpool_ws_listen_options_init(&listen);
  listen.decide = CPOOL_OFF;
  options->on_event = on_event;
  pin_to(SERVER_CPU); /* the loop's thread inherits it */
  if (cpool_ws_new(&ws, NULL, options) != CPOOL_OK || (*port = cpool_ws_listen(ws, &listen)) < 0)
    give_up("ws_peers: no listener");
  pin_to(CLIENT_CPU);
  atomic_store(&open_count, 0);
  atomic_store(&closed_count, 0);
  return ws;
}

static void end(cpool_ws *ws)
{
  if (cpool_ws_close(ws, 0) != CPOOL_OK)
    give_up("ws_peers: the manager does not close");
}

struct wanted {
  atomic_int *counter;
  int count;
};

static bool reached(void *ctx)
{
  const struct wanted *wanted = ctx;
  return atomic_load(wanted->counter) >= wanted->count;
}

static void wait_for(atomic_int *counter, int count, const char *what)
{
  struct wanted wanted = {counter, count};
  if (!wait_until(reached, &wanted, PATIENCE_MS))
    give_up("ws_peers: only %d of %d %s", atomic_load(counter), count, what);
}

/* ----------------------------------------------------------------------------------------------------------- vanished */

static double vanish_ms(struct crowd *one)
{
  cpool_ws_options options;
  int port;
  cpool_ws_options_init(&options);
  options.health_check_interval_ms = options.pong_timeout_ms = SECOND_MS;
  cpool_ws *ws = listen_with(&options, &port);
  crowd_open(one, port);
  wait_for(&open_count, 1, "are open");
  double stopped_us = clock_as_us(CLOCK_MONOTONIC);
  kill(one->pid, SIGSTOP);
  wait_for(&closed_count, 1, "are given up");
  if (atomic_load(&last_reason) != CPOOL_WS_NO_PONG)
    give_up("ws_peers: it ended for reason %d", atomic_load(&last_reason));
  end(ws);
  return (atomic_load(&closed_us) - stopped_us) / 1e3;
}

static void measure_vanished(struct crowd *peers, int times)
{
  double ms[TIMES];
  for (int i = 0; i < times; i++) {
    ms[i] = vanish_ms(&peers[i]);
    crowd_free(&peers[i]);
  }
  double middle_ms = median(ms, (size_t) times);
  report("a peer stops: from then until its connection is given up, interval and pong deadline 1 s, longest",
         "<= 2.2 s", ms[times - 1] <= VANISHED_MS, "%.3f s (median %.3f, of %d)", ms[times - 1] / 1e3, middle_ms / 1e3,
         times);
}

/* ------------------------------------------------------------------------------------------------------------- silent */

static int64_t heap_bytes(void)
{
  struct mallinfo2 info = mallinfo2();
  return (int64_t) (info.uordblks + info.hblkhd);
}

struct most {
  int64_t queued_bytes, heap_bytes;
};

static cpool_ws_stats look(cpool_ws *ws, struct most *most)
{
  cpool_ws_stats stats;
  cpool_ws_stats_init(&stats);
  if (cpool_ws_stats_get(ws, &stats) != CPOOL_OK)
    give_up("ws_peers: no statistics");
  most->queued_bytes = stats.queued_bytes > most->queued_bytes ? stats.queued_bytes : most->queued_bytes;
  return stats;
}

static void look_at_heap(struct most *most)
{
  int64_t heap = heap_bytes();
  most->heap_bytes = heap > most->heap_bytes ? heap : most->heap_bytes;
}

struct publishing {
  cpool_ws *ws;
  struct most *most;
  uint64_t count;
};

static bool published(void *ctx)
{
  struct publishing *publishing = ctx;
  return look(publishing->ws, publishing->most).published >= publishing->count;
}

/* One at a time, so that what waits is in the queues of connections and not on its way there. The heap is looked at while the
 * loop is at work on each and behind it. */
static void publish(cpool_ws *ws, struct most *most, int count)
{
  static const char message[KIB];
  struct publishing publishing = {ws, most, 0};
  for (int i = 0; i < count; i++) {
    publishing.count++;
    if (cpool_ws_publish(ws, NULL, CPOOL_WS_BINARY, message, sizeof message) != CPOOL_OK)
      give_up("ws_peers: message %d is refused", i);
    look_at_heap(most);
    if (!wait_until(published, &publishing, PATIENCE_MS))
      give_up("ws_peers: message %d is not taken up", i);
    look_at_heap(most);
  }
}

static void measure_silent(struct crowd *crowd, int count, int64_t cap_bytes)
{
  cpool_ws_options options;
  int port;
  char question[160], reach[32];
  cpool_ws_options_init(&options);
  options.max_connections = options.max_handshakes = count;
  options.max_queued_bytes = cap_bytes;
  cpool_ws *ws = listen_with(&options, &port);
  crowd_open(crowd, port);
  wait_for(&open_count, count, "are open");

  int64_t idle_bytes = heap_bytes();
  struct most most = {0};
  publish(ws, &most, MESSAGES);
  cpool_ws_stats stats = look(ws, &most);
  double cap = (double) cap_bytes / MIB, queued = (double) most.queued_bytes / MIB,
         grown = (double) (most.heap_bytes - idle_bytes) / MIB;
  snprintf(question, sizeof question,
           "1 KB published %d times to %d peers that do not read, max_queued_bytes %.0f MB: most that was queued",
           MESSAGES, count, cap);
  snprintf(reach, sizeof reach, "<= %.1f MB", cap);
  report(question, reach, queued <= cap, "%.2f MB; %llu of them cut", queued,
         (unsigned long long) stats.closed_overflow);
  snprintf(reach, sizeof reach, "<= %.1f MB", cap * 1.1);
  report("the same: most by which the heap grew", reach, grown <= cap * 1.1, "%.2f MB", grown);
  end(ws);
}

int main(int argc, char **argv)
{
  bool quick = is_quick(argc, argv);
  int times = quick ? 1 : TIMES, silent = quick ? QUICK_SILENT : SILENT;
  struct crowd stopped[TIMES];
  raise_fd_limit();
  pin_to(CLIENT_CPU);
  for (int i = 0; i < times; i++)
    stopped[i] = crowd_new(1);
  struct crowd crowd = crowd_new(silent);
  measure_vanished(stopped, times);
  measure_silent(&crowd, silent, quick ? QUICK_CAP_BYTES : CAP_BYTES);
  crowd_free(&crowd);
  return 0;
}
