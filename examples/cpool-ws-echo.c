/* cpool-ws-echo: a WebSocket server that sends every message back; statistics at its end and on SIGUSR1
 *
 *     cpool-ws-echo --port 9000 [--tls CERT KEY] [--max N] [--json]
 *
 * All of it happens in one callback, on the library's thread; the main thread waits for signals. Ctrl-C closes all connections
 * with 1001, in at most two seconds. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cpool.h>

enum { DRAIN_MS = 2000, SPARE_FDS = 64 };

struct command_line {
  const char *address, *cert, *key;
  int32_t port, max;
  int json;
};

static cpool_ws *manager; /* for the callback; set before anybody can connect */

static const char usage[] = "usage: cpool-ws-echo --port PORT [options]\n"
                            "\n"
                            "Sends every WebSocket message back to its sender.\n"
                            "\n"
                            "  --port PORT      listen there; 0: any, which is printed\n"
                            "  --address IP     on this address (127.0.0.1)\n"
                            "  --tls CERT KEY   wss: certificate chain and key, PEM files\n"
                            "  --max N          connections at a time (1000); more are refused with 503\n"
                            "  --json           print the statistics as one JSON object a line\n"
                            "  --help           print this\n"
                            "\n"
                            "Statistics are printed at the end (SIGINT, SIGTERM) and on SIGUSR1.\n";

static int print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "cpool-ws-echo: %s: %s: %s\n", what, cpool_status_name(err.status), err.text);
  return 1;
}

static void on_event(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_WS_MESSAGE)
    /* refused when the client reads too slowly, or has just gone: then this message is not sent back */
    (void) cpool_ws_send(manager, event->source, event->ws_kind, event->data, event->len);
}

static void print_stats(int json)
{
  cpool_ws_stats stats;
  cpool_ws_stats_init(&stats);
  if (cpool_ws_stats_get(manager, &stats) != CPOOL_OK)
    return;
  const char *format = json
                           ? "{\"connections\": %lld, \"opened\": %llu, \"closed\": %llu, \"messages_received\": %llu, "
                             "\"bytes_received\": %llu, \"messages_sent\": %llu, \"bytes_sent\": %llu, "
                             "\"messages_dropped\": %llu, \"refused_full\": %llu, \"pings\": %llu}\n"
                           : "connections %lld, opened %llu, closed %llu\n"
                             "received %llu messages, %llu bytes; sent %llu messages, %llu bytes; dropped %llu\n"
                             "refused since full %llu; pings %llu\n";
  printf(format, (long long) stats.total_connections, (unsigned long long) stats.opened,
         (unsigned long long) stats.closed, (unsigned long long) stats.messages_received,
         (unsigned long long) stats.bytes_received, (unsigned long long) stats.messages_sent,
         (unsigned long long) stats.bytes_sent, (unsigned long long) stats.messages_dropped,
         (unsigned long long) stats.refused_full, (unsigned long long) stats.pings);
  fflush(stdout);
}

static int read_number(const char *text, int32_t most, int32_t *out)
{
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < 0 || value > most)
    return -1;
  *out = (int32_t) value;
  return 0;
}

/* 0, or the exit status with which it ends. */
static int read_options(int argc, char **argv, struct command_line *line)
{
  static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                          {"address", required_argument, NULL, 'a'},
                                          {"tls", required_argument, NULL, 't'},
                                          {"max", required_argument, NULL, 'm'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  int option, wrong = 0;
  *line = (struct command_line){.port = -1};
  while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
    switch (option) {
    case 'p':
      wrong |= read_number(optarg, 65535, &line->port);
      break;
    case 'a':
      line->address = optarg;
      break;
    case 't': /* has two arguments */
      line->cert = optarg;
      line->key = optind < argc ? argv[optind++] : NULL;
      wrong |= line->key == NULL;
      break;
    case 'm':
      wrong |= read_number(optarg, 16000000, &line->max) != 0 || line->max == 0;
      break;
    case 'j':
      line->json = 1;
      break;
    case 'h':
      fputs(usage, stdout);
      exit(0);
    default:
      wrong = 1;
    }
  }
  if (wrong == 0 && line->port >= 0 && optind == argc)
    return 0;
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

int main(int argc, char **argv)
{
  struct command_line line;
  int status = read_options(argc, argv, &line);
  if (status != 0)
    return status;
  raise_fd_limit(line.max > 0 ? line.max : 1000);

  sigset_t signals; /* blocked in all threads; the main one takes them out below */
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);

  cpool_ws_options options;
  cpool_ws_options_init(&options);
  options.max_connections = line.max;
  options.on_event = on_event;
  if (cpool_ws_new(&manager, NULL, &options) != CPOOL_OK)
    return print_error("setting up");

  cpool_ws_listen_options listen;
  cpool_ws_listen_options_init(&listen);
  listen.address = line.address;
  listen.port = line.port;
  listen.tls_cert_file = line.cert;
  listen.tls_key_file = line.key;
  listen.decide = CPOOL_OFF; /* everybody is let in */
  int port = cpool_ws_listen(manager, &listen);
  if (port < 0) {
    print_error("listening");
    (void) cpool_ws_close(manager, 0);
    return 1;
  }
  const char *address = line.address != NULL ? line.address : "127.0.0.1";
  int v6 = strchr(address, ':') != NULL;
  printf("listening on %s://%s%s%s:%d/\n", line.cert != NULL ? "wss" : "ws", v6 ? "[" : "", address, v6 ? "]" : "",
         port);
  fflush(stdout);

  int number;
  while (sigwait(&signals, &number) == 0 && number == SIGUSR1)
    print_stats(line.json);
  (void) cpool_ws_close_start(manager, DRAIN_MS);
  print_stats(line.json);
  return cpool_ws_close(manager, DRAIN_MS) == CPOOL_OK ? 0 : print_error("closing");
}
