/* ws: what a server on cpool_ws costs, against one on libwebsockets + libuv as its examples write it
 *
 * A round is a process of each (bench_ws_library, bench_ws_textbook, beside this program), one after the other on a CPU of its
 * own, under the same load, which this program makes on the other CPU. CPU is that of the server's process alone, all
 * threads, from the first message to the last. A ratio is of the two of one round; its median is quoted, with least and
 * most. */
#include "measure.h"

#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ws_load.h"

enum {
  ROUNDS = 5,
  FLEET_ROUNDS = 3,
  ECHO_CONNECTIONS = 200,
  ECHO_BYTES = 20,
  LARGE_CONNECTIONS = 8,
  KIB = 1024,
  FLEET = 10000,
  QUICK_FLEET = 1000,
  WARM_UP = 10, /* connections of a fleet, before it is measured */
  NODE_BYTES = 32,
  FRAME_BYTES = KIB + 64, /* a frame of 1 KB, and what is known of it */
  IDLE_BYTES = 2048
};

struct server {
  pid_t pid;
  clockid_t cpu;
  FILE *in, *out;
  uint16_t port;
};

struct series {
  double ours[ROUNDS], textbook[ROUNDS], ratio[ROUNDS];
};

static char here[PATH_MAX]; /* the directory of the programs */
static bool quick;
static size_t round_count = ROUNDS;

/* ------------------------------------------------------------------------------------------------------------ servers */

static void exec_server(const char *name, const char *task, int receive_buffer_bytes)
{
  char program[PATH_MAX + 32], bytes[12];
  snprintf(program, sizeof program, "%s/bench_ws_%s", here, name);
  snprintf(bytes, sizeof bytes, "%d", receive_buffer_bytes);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  pin_to(SERVER_CPU);
  execl(program, program, task, bytes, (char *) NULL);
  give_up("cannot run %s", program);
}

static struct server start(const char *name, const char *task, int receive_buffer_bytes)
{
  struct server server;
  int to[2], from[2];
  if (pipe(to) != 0 || pipe(from) != 0)
    give_up("no pipe");
  server.pid = fork();
  if (server.pid == 0) {
    dup2(to[0], STDIN_FILENO);
    dup2(from[1], STDOUT_FILENO);
    for (int i = 0; i < 2; i++) {
      close(to[i]);
      close(from[i]);
    }
    exec_server(name, task, receive_buffer_bytes);
  }
  close(to[0]);
  close(from[1]);
  server.in = fdopen(to[1], "w");
  server.out = fdopen(from[0], "r");
  if (server.pid < 0 || server.in == NULL || server.out == NULL || fscanf(server.out, "%hu", &server.port) != 1 ||
      clock_getcpuclockid(server.pid, &server.cpu) != 0)
    give_up("bench_ws_%s does not start", name);
  return server;
}

static void stop(struct server *server)
{
  int status;
  kill(server->pid, SIGKILL);
  waitpid(server->pid, &status, 0);
  fclose(server->in);
  fclose(server->out);
}

/* Of the library's server: its heap, and what the last text that was published has taken of it. */
struct heap {
  long long bytes, growth_bytes, counted_bytes;
};

static struct heap ask_heap(const struct server *server)
{
  struct heap heap;
  fputs("heap\n", server->in);
  fflush(server->in);
  if (fscanf(server->out, "%lld %lld %lld", &heap.bytes, &heap.growth_bytes, &heap.counted_bytes) != 3)
    give_up("a server does not answer");
  return heap;
}

static void note(struct series *series, size_t round, double ours, double textbook)
{
  series->ours[round] = ours;
  series->textbook[round] = textbook;
  series->ratio[round] = ours / textbook;
}

/* --------------------------------------------------------------------------------------------------------------- echo */

struct load {
  int connections, in_flight, receive_buffer_bytes;
  size_t message_bytes;
  long count;
};

/* Of one message. */
static double echo_us(const char *name, const struct load *load)
{
  struct fleet fleet;
  struct server server = start(name, "echo", load->receive_buffer_bytes);
  fleet_init(&fleet, server.port, load->connections);
  fleet_open(&fleet, load->connections);
  fleet_echo(&fleet, load->in_flight, load->message_bytes, load->connections * load->in_flight); /* warms up */
  double began_us = clock_as_us(server.cpu);
  fleet_echo(&fleet, load->in_flight, load->message_bytes, load->count);
  double us = (clock_as_us(server.cpu) - began_us) / (double) load->count;
  fleet_close(&fleet);
  stop(&server);
  return us;
}

static void measure_echo(const struct load *load, double reach, const char *question)
{
  struct series series;
  char reach_text[16];
  for (size_t i = 0; i < round_count; i++) {
    double textbook = echo_us("textbook", load);
    note(&series, i, echo_us("library", load), textbook);
  }
  double ratio = median(series.ratio, round_count);
  snprintf(reach_text, sizeof reach_text, "<= %.2f", reach);
  report(question, reach_text, ratio <= reach, "%.3f (%.3f to %.3f); %.2f us against %.2f us", ratio, series.ratio[0],
         series.ratio[round_count - 1], median(series.ours, round_count), median(series.textbook, round_count));
}

static void measure_echoes(void)
{
  struct load load = {ECHO_CONNECTIONS, 1, 0, ECHO_BYTES, quick ? 2000 : 60000};
  measure_echo(
      &load, 0.65,
      "server's CPU of an echo of 20 bytes against textbook libwebsockets + libuv, 200 connections, 1 in flight");
  load.in_flight = 16;
  load.count = quick ? 6400 : 80000;
  measure_echo(&load, 0.25, "the same, 16 in flight on each");
  load = (struct load){LARGE_CONNECTIONS, 1, 4 * KIB, 64 * KIB, quick ? 80 : 5000};
  measure_echo(&load, 1.10, "the same, 64 KB, 8 connections, 1 in flight, receive buffers of 4096 bytes");
  load.message_bytes = KIB * KIB;
  load.count = quick ? 8 : 300;
  measure_echo(&load, 1.10, "the same, 1 MB");
}

/* -------------------------------------------------------------------------------------------------------------- fleets */

struct fleet_result {
  double accept_us, receiver_us;      /* of one */
  double idle_bytes;                  /* of one connection */
  double counted_bytes, growth_bytes; /* of one receiver, beside the frame */
};

static struct fleet_result run_fleet(const char *name, int count)
{
  const int publishes = quick ? 2 : 10;
  bool ours = strcmp(name, "library") == 0;
  struct fleet_result result = {0};
  struct fleet fleet;
  struct server server = start(name, "publish", 0);
  long long idle = 0;
  fleet_init(&fleet, server.port, count + WARM_UP);
  fleet_open(&fleet, WARM_UP);
  if (ours)
    idle = ask_heap(&server).bytes;
  double began_us = clock_as_us(server.cpu);
  fleet_open(&fleet, count);
  result.accept_us = (clock_as_us(server.cpu) - began_us) / count;
  if (ours)
    result.idle_bytes = (double) (ask_heap(&server).bytes - idle) / count;

  fleet_publish(&fleet, 1, KIB, 1); /* measures the heap */
  if (ours) {
    struct heap heap = ask_heap(&server);
    result.counted_bytes = (double) (heap.counted_bytes - FRAME_BYTES) / (count + WARM_UP);
    result.growth_bytes = (double) (heap.growth_bytes - FRAME_BYTES) / (count + WARM_UP);
  }
  began_us = clock_as_us(server.cpu);
  fleet_publish(&fleet, 2, KIB, publishes);
  result.receiver_us = (clock_as_us(server.cpu) - began_us) / publishes / (count + WARM_UP);
  fleet_close(&fleet);
  stop(&server);
  return result;
}

static void measure_fleets(void)
{
  struct series publish, accept;
  double idle[ROUNDS], counted[ROUNDS], growth[ROUNDS];
  char question[192];
  int count = quick ? QUICK_FLEET : FLEET;
  size_t rounds = quick ? 1 : FLEET_ROUNDS, last = rounds - 1;
  for (size_t i = 0; i < rounds; i++) {
    struct fleet_result textbook = run_fleet("textbook", count), ours = run_fleet("library", count);
    note(&publish, i, ours.receiver_us, textbook.receiver_us);
    note(&accept, i, 1e6 / ours.accept_us, 1e6 / textbook.accept_us);
    idle[i] = ours.idle_bytes;
    counted[i] = ours.counted_bytes;
    growth[i] = ours.growth_bytes;
  }
  double ratio = median(publish.ratio, rounds);
  snprintf(question, sizeof question,
           "server's CPU of publishing 1 KB to %d connections, for each, against lws_callback_on_writable and a write",
           count);
  report(question, "<= 0.65", ratio <= 0.65, "%.3f (%.3f to %.3f); %.2f us against %.2f us", ratio, publish.ratio[0],
         publish.ratio[last], median(publish.ours, rounds), median(publish.textbook, rounds));
  double bytes = median(counted, rounds), grown = median(growth, rounds);
  report("memory of that message for each receiver, beside one frame, nothing sent yet", "<= 32 bytes",
         bytes <= NODE_BYTES, "%.1f bytes as the manager counts them; the heap grew by %.1f bytes (%.1f to %.1f)",
         bytes, grown, growth[0], growth[last]);
  bytes = median(idle, rounds);
  snprintf(question, sizeof question, "memory of an idle accepted connection, %d of them, libwebsockets' included",
           count);
  report(question, "<= 2048 bytes", bytes <= IDLE_BYTES, "%.0f bytes (%.0f to %.0f)", bytes, idle[0], idle[last]);
  ratio = median(accept.ratio, rounds);
  snprintf(question, sizeof question, "connections accepted and upgraded in a second of the server's CPU, up to %d",
           count);
  report(question, ">= 0.95", ratio >= 0.95, "%.3f (%.3f to %.3f); %.0f against %.0f", ratio, accept.ratio[0],
         accept.ratio[last], median(accept.ours, rounds), median(accept.textbook, rounds));
}

int main(int argc, char **argv)
{
  quick = is_quick(argc, argv);
  if (quick)
    round_count = 1;
  ssize_t len = readlink("/proc/self/exe", here, sizeof here - 1);
  if (len < 0)
    give_up("/proc is not there");
  here[len] = '\0';
  dirname(here);
  raise_fd_limit();
  pin_to(CLIENT_CPU);
  measure_echoes();
  measure_fleets();
  return 0;
}
