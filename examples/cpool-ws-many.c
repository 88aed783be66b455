/* cpool-ws-many: opens many WebSocket connections, holds them, and shows how they are and what memory one takes
 *
 *     cpool-ws-many -n 10000 ws://127.0.0.1:9000/
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <cpool.h>

#include "fetch_bar.h"

enum { SPARE_FDS = 600, STEP_MS = 50 };

static const char usage[] =
    "usage: cpool-ws-many [options] URL\n"
    "\n"
    "Opens N WebSocket connections to a ws:// or wss:// URL, holds them, and prints how they are.\n"
    "\n"
    "  -n N               connections (100)\n"
    "  --hold SECONDS     how long to hold them (0); an interrupt ends it earlier\n"
    "  --interval MS      silence of the server after which it is pinged (60000)\n"
    "  --ca FILE          trust these certificates (PEM) instead of the system's\n"
    "  --insecure         trust any certificate\n"
    "  --help             print this\n"
    "\n"
    "The exit status is 0 when all were open at once.\n";

struct command_line {
  cpool_ws_connect_options connect;
  int32_t count;
  int64_t hold_s, interval_ms;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
  (void) number;
  interrupted = 1;
}

static int print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "cpool-ws-many: %s: %s: %s\n", what, cpool_status_name(err.status), err.text);
  return 1;
}

static void on_event(const cpool_event *event)
{
  static int told;
  if (event->kind == CPOOL_EVENT_WS_DISCONNECTED && event->status != CPOOL_OK && told++ == 0)
    fprintf(stderr, "\nthe first failure: %s: %s\n", cpool_status_name(event->status), (const char *) event->data);
}

static int read_number(const char *text, int64_t least, int64_t most, int64_t *out)
{
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < least || value > most)
    return -1;
  *out = value;
  return 0;
}

/* 0, or the exit status with which it ends. */
static int read_options(int argc, char **argv, struct command_line *line)
{
  static const struct option options[] = {{"hold", required_argument, NULL, 'o'},
                                          {"interval", required_argument, NULL, 'i'},
                                          {"ca", required_argument, NULL, 'c'},
                                          {"insecure", no_argument, NULL, 'k'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  int option, wrong = 0;
  int64_t count = 100;
  *line = (struct command_line){.interval_ms = 60000};
  cpool_ws_connect_options_init(&line->connect);
  while ((option = getopt_long(argc, argv, "n:", options, NULL)) != -1) {
    switch (option) {
    case 'n':
      wrong |= read_number(optarg, 1, 1000000, &count);
      break;
    case 'o':
      wrong |= read_number(optarg, 0, 1000000, &line->hold_s);
      break;
    case 'i':
      wrong |= read_number(optarg, 1, 86400000, &line->interval_ms);
      break;
    case 'c':
      line->connect.ca_file = optarg;
      break;
    case 'k':
      line->connect.tls_verify = CPOOL_OFF;
      break;
    case 'h':
      fputs(usage, stdout);
      exit(0);
    default:
      wrong = 1;
    }
  }
  line->count = (int32_t) count;
  if (wrong == 0 && optind + 1 == argc) {
    line->connect.url = argv[optind];
    return 0;
  }
  fputs(usage, stderr);
  return 2;
}

/* The soft limit on descriptors is often 1024. */
static void raise_fd_limit(int32_t connections)
{
  struct rlimit limit;
  rlim_t needed = (rlim_t) connections + SPARE_FDS;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed)
    return;
  limit.rlim_cur = needed < limit.rlim_max ? needed : limit.rlim_max;
  (void) setrlimit(RLIMIT_NOFILE, &limit);
}

static long long heap_bytes(void)
{
  struct mallinfo2 info = mallinfo2();
  return (long long) (info.uordblks + info.hblkhd);
}

static void sleep_ms(long ms)
{
  struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  (void) nanosleep(&time, NULL);
}

static cpool_ws_stats read_stats(cpool_ws *ws)
{
  cpool_ws_stats stats;
  cpool_ws_stats_init(&stats);
  (void) cpool_ws_stats_get(ws, &stats);
  return stats;
}

/* Asks for all of them; how many were taken. */
static int32_t begin(cpool_ws *ws, const struct command_line *line)
{
  char id[32];
  for (int32_t i = 0; i < line->count; i++) {
    snprintf(id, sizeof id, "many-%d", (int) i);
    if (cpool_ws_connect(ws, id, &line->connect, NULL) != CPOOL_OK) {
      print_error("connecting");
      return i;
    }
  }
  return line->count;
}

/* Until all are open, none is left, or an interrupt. */
static int64_t wait_for_all(cpool_ws *ws, int32_t count)
{
  struct fetch_bar bar;
  cpool_ws_stats stats;
  fetch_bar_start(&bar);
  for (;;) {
    stats = read_stats(ws);
    fetch_bar_update(&bar, stats.total_connections, count, (int64_t) stats.dials_failed);
    if (stats.total_connections == count || stats.closed == (uint64_t) count || interrupted)
      break;
    sleep_ms(STEP_MS);
  }
  fetch_bar_end(&bar, stats.total_connections, count, (int64_t) stats.dials_failed);
  return stats.total_connections;
}

static void print_health(cpool_ws *ws, double seconds, double bytes)
{
  cpool_ws_stats stats = read_stats(ws);
  cpool_ws_health health;
  cpool_ws_health_init(&health);
  if (cpool_ws_health_check(ws, &health) != CPOOL_OK)
    print_error("the health check");
  printf("open %lld, waiting %lld, dialling %lld; dials %llu, failed %llu, disconnects %llu\n",
         (long long) stats.total_connections, (long long) stats.waiting_connections,
         (long long) stats.handshaking_connections, (unsigned long long) stats.dials,
         (unsigned long long) stats.dials_failed, (unsigned long long) stats.disconnects);
  printf("health check: %lld checked, %lld pinged, %lld removed\n", (long long) health.checked,
         (long long) health.pinged, (long long) health.removed);
  printf("%.2f s; %.0f bytes of memory for each connection\n", seconds, bytes);
}

int main(int argc, char **argv)
{
  struct command_line line;
  int status = read_options(argc, argv, &line);
  if (status != 0)
    return status;
  raise_fd_limit(line.count);
  signal(SIGINT, on_signal);
  signal(SIGTERM, on_signal);

  cpool_ws *ws;
  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.on_event = on_event;
  options.max_connections = line.count;
  options.health_check_interval_ms = line.interval_ms;
  if (cpool_ws_new(&ws, NULL, &options) != CPOOL_OK)
    return print_error("setting up");
  long long heap = heap_bytes();
  int64_t began_us = fetch_now_us();
  int32_t count = begin(ws, &line);
  int64_t open = count > 0 ? wait_for_all(ws, count) : 0;
  double seconds = (double) (fetch_now_us() - began_us) / 1e6;
  double bytes = open > 0 ? (double) (heap_bytes() - heap) / (double) open : 0;
  for (int64_t ms = 0; ms < line.hold_s * 1000 && !interrupted; ms += STEP_MS)
    sleep_ms(STEP_MS);
  if (count > 0)
    print_health(ws, seconds, bytes);
  if (cpool_ws_close(ws, 5000) != CPOOL_OK)
    print_error("closing");
  return open == line.count ? 0 : 1;
}
