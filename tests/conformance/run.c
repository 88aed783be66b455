/* run: every case against a manager that echoes, and docs/CONFORMANCE.md, which has to say what comes of it
 *
 *   conformance DOCUMENT server|client [tls]   compares the part of that role
 *   conformance DOCUMENT --update              runs both roles, plain, and writes it
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cpool.h>
#include <libwebsockets.h>

#include "conformance/talk.h"
#include "support/certs.h"
#include "support/wait.h"

enum { RECEIVE_BYTES = 64 << 20, SEND_BYTES = 64 << 20, OPEN_MS = 20000 };

/* The role of the manager. */
enum role { SERVER, CLIENT };

static const char *const role_names[] = {"server", "client"};

struct run {
  enum role role;
  cpool_ws *ws;
  int listener;        /* of the client's peers; -1 */
  uint16_t port;       /* that the peer, or the manager, connects to */
  struct certs *certs; /* NULL: plain */
  FILE *out;           /* the rows of the document */
  int count, deviations;
};

/* Why a case deviates. */
#define ONE_PONG "libwebsockets keeps one pong at a time and drops the pings that come before it is out"
#define PONG_LATE                                                                                                      \
  "libwebsockets sends its pong with the next turn of the loop, behind the echo (RFC 6455 sets no order)"
#define NO_CODE "libwebsockets ends the connection in its parser: its first callback comes when writing is shut down"
#define ANSWER_LATE                                                                                                    \
  "libwebsockets answers the close and ends the connection in the read that brings it; what that read brought before " \
  "is delivered at the end of the turn, so that an answer to it is lost (RFC 6455 asks for none)"

struct deviation {
  const char *number, *reason;
  bool at_times; /* when what was written apart is read at once */
};

static const struct deviation of_server[] = {
    {"2.5", NO_CODE, false},       {"2.10", ONE_PONG, false}, {"2.11", ONE_PONG, true},  {"5.6", PONG_LATE, false},
    {"5.7", PONG_LATE, true},      {"5.8", PONG_LATE, true},  {"5.19", ONE_PONG, false}, {"5.20", ONE_PONG, true},
    {"7.1.1", ANSWER_LATE, false}, {"7.3.6", NO_CODE, false}, {NULL, NULL, false}};
static const struct deviation of_client[] = {
    {"2.5", NO_CODE, false},   {"2.10", ONE_PONG, false},     {"2.11", ONE_PONG, true},  {"3.1", NO_CODE, false},
    {"3.2", NO_CODE, false},   {"3.3", NO_CODE, false},       {"3.4", NO_CODE, false},   {"3.5", NO_CODE, false},
    {"3.6", NO_CODE, false},   {"3.7", NO_CODE, false},       {"4.1.1", NO_CODE, false}, {"4.1.2", NO_CODE, false},
    {"4.1.3", NO_CODE, false}, {"4.1.4", NO_CODE, false},     {"4.1.5", NO_CODE, false}, {"4.2.1", NO_CODE, false},
    {"4.2.2", NO_CODE, false}, {"4.2.3", NO_CODE, false},     {"4.2.4", NO_CODE, false}, {"4.2.5", NO_CODE, false},
    {"5.1", NO_CODE, false},   {"5.2", NO_CODE, false},       {"5.6", PONG_LATE, false}, {"5.7", PONG_LATE, true},
    {"5.8", PONG_LATE, true},  {"5.9", NO_CODE, false},       {"5.10", NO_CODE, false},  {"5.11", NO_CODE, false},
    {"5.12", NO_CODE, false},  {"5.13", NO_CODE, false},      {"5.14", NO_CODE, false},  {"5.15", NO_CODE, false},
    {"5.16", NO_CODE, false},  {"5.17", NO_CODE, false},      {"5.18", NO_CODE, false},  {"5.19", ONE_PONG, false},
    {"5.20", ONE_PONG, true},  {"7.1.1", ANSWER_LATE, false}, {"7.3.6", NO_CODE, false}, {NULL, NULL, false}};
static const struct deviation *const deviations[] = {of_server, of_client};

static const char *const result_names[] = {"OK", "non-strict", "deviation"};

static const struct deviation *known(enum role role, const char *number)
{
  for (const struct deviation *one = deviations[role]; one->number != NULL; one++) {
    if (strcmp(one->number, number) == 0)
      return one;
  }
  return NULL;
}

/* A peer of the manager, whose handshake is done. */
static struct ws_peer *open_peer(struct run *run)
{
  if (run->role == SERVER)
    return ws_peer_open(run->port,
                        &(struct ws_peer_options){.ca_file = run->certs != NULL ? run->certs->ca_file : NULL});
  char url[64], id[16];
  cpool_ws_connect_options options;
  cpool_ws_connect_options_init(&options);
  snprintf(url, sizeof url, "%s://localhost:%u/", run->certs != NULL ? "wss" : "ws", run->port);
  snprintf(id, sizeof id, "%d", run->count);
  options.url = url;
  options.ca_file = run->certs != NULL ? run->certs->ca_file : NULL;
  options.reconnect_ms = CPOOL_OFF;
  if (cpool_ws_connect(run->ws, id, &options, NULL) != CPOOL_OK)
    support_die("no dial");
  struct ws_peer *peer =
      ws_peer_accept(run->listener, &(struct ws_accept_options){.pair = run->certs != NULL ? &run->certs->good : NULL},
                     OPEN_MS);
  if (peer == NULL)
    support_die("nobody has come");
  return peer;
}

static void run_case(const struct conformance_case *one, void *ctx)
{
  struct run *run = ctx;
  struct conformance_talk talk;
  const struct deviation *why = known(run->role, one->number);
  int64_t began_ms = now_ms();
  conformance_talk(one, open_peer(run), &talk);
  run->count++;
  printf("%-8s %-10s %5d ms", one->number, result_names[talk.result], (int) (now_ms() - began_ms));
  if (talk.result != CONFORMANCE_OK)
    printf("  heard: %s, wanted: %s", talk.heard, talk.wanted);
  printf("\n");
  if (talk.result != CONFORMANCE_DEVIATION && (why == NULL || !why->at_times))
    return;
  run->deviations++;
  fprintf(run->out, "| %s | `%s` | %s%s |\n", one->number, talk.wanted, why != NULL ? why->reason : "UNEXPLAINED",
          why != NULL && why->at_times ? "; not always: it depends on what is read at once" : "");
}

static cpool_ws *echoing; /* set before it has connections */

static void echo(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_WS_MESSAGE &&
      cpool_ws_send(echoing, event->source, event->ws_kind, event->data, event->len) != CPOOL_OK)
    support_die("an echo was refused");
}

static void start(struct run *run)
{
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  options.max_message_bytes = RECEIVE_BYTES;
  options.max_send_queue_bytes = SEND_BYTES;
  options.max_send_queue_messages = 100000;
  options.on_event = echo;
  listen.decide = CPOOL_OFF;
  if (run->certs != NULL) {
    listen.tls_cert_file = run->certs->good.cert_file;
    listen.tls_key_file = run->certs->good.key_file;
  }
  if (cpool_ws_new(&run->ws, NULL, &options) != CPOOL_OK)
    support_die("no manager");
  echoing = run->ws;
  run->listener = -1;
  if (run->role == CLIENT) {
    run->listener = ws_peer_listen(NULL, &run->port);
    return;
  }
  int port = cpool_ws_listen(run->ws, &listen);
  if (port <= 0)
    support_die("no listener");
  run->port = (uint16_t) port;
}

/* The part of the document about the role; the caller's. *explained: all deviations are known. */
static char *run_all(enum role role, struct certs *certs, bool *explained)
{
  struct run run = {.role = role, .certs = certs};
  char *rows = NULL, *text = NULL;
  size_t rows_len = 0, text_len = 0;
  run.out = open_memstream(&rows, &rows_len);
  start(&run);
  conformance_each(run_case, &run);
  fclose(run.out);
  if (cpool_ws_close(run.ws, 0) != CPOOL_OK)
    support_die("the manager does not close");
  if (run.listener >= 0)
    close(run.listener);
  FILE *out = open_memstream(&text, &text_len);
  fprintf(out,
          "## As a %s\n\n"
          "%d of %d cases deviate with libwebsockets %s.\n\n"
          "| case | wanted | why not |\n|---|---|---|\n%s\n",
          role_names[role], run.deviations, run.count, lws_get_library_version(), rows);
  fclose(out);
  *explained = strstr(rows, "UNEXPLAINED") == NULL;
  printf("%s: %d cases, %d deviations%s\n", role_names[role], run.count, run.deviations,
         *explained ? "" : ", not all of them known");
  free(rows);
  return text;
}

static const char head[] =
    "# Conformance\n\n"
    "The WebSocket manager against cases numbered as in the Autobahn test suite (groups 1 to 7, 9 and 10; 12 and 13 "
    "are\n"
    "about compression, which is not offered), as a server and, dialled, as a client. The cases are our own:\n"
    "`tests/conformance/cases.c`; `tests/conformance/cases.h` explains their words. The tests `conformance.server`,\n"
    "`conformance.client` and the same with `_tls` run them, plain and over TLS, and fail when this document, which "
    "the\n"
    "program writes with `--update`, says something else.\n\n";

static const char foot[] =
    "## Besides\n\n"
    "Of what the suite does not ask, libwebsockets takes client frames that are not masked and server frames that are\n"
    "(RFC 6455 section 5.1), and lengths that are longer than they need be (section 5.2), and no callback can see "
    "that;\n"
    "close codes 1012 to 1014 it turns into 1002. After an error that it finds itself it waits up to 5 s for an "
    "answer,\n"
    "whatever `close_timeout_ms` says. Where such an error is found on a dialled connection, `close_code` of its last\n"
    "event is 1002, whatever code was sent.\n"
    "`tests/behaviour/test_ws_bad.c` and `test_ws_bad_heads.c` say what comes of these and other errors of peers.\n";

static char *read_document(const char *path)
{
  char *text = NULL;
  size_t size = 0;
  FILE *file = fopen(path, "r");
  ssize_t len = file != NULL ? getdelim(&text, &size, '\0', file) : -1;
  if (file != NULL)
    fclose(file);
  if (len >= 0)
    return text;
  free(text);
  return NULL;
}

static int update(const char *path)
{
  bool explained[2];
  char *parts[2] = {run_all(SERVER, NULL, &explained[0]), run_all(CLIENT, NULL, &explained[1])};
  FILE *file = fopen(path, "w");
  bool written = file != NULL && fprintf(file, "%s%s%s%s", head, parts[0], parts[1], foot) > 0 && fclose(file) == 0;
  free(parts[0]);
  free(parts[1]);
  return written && explained[0] && explained[1] ? 0 : 1;
}

static int compare(const char *path, enum role role, bool tls)
{
  bool explained;
  struct certs *certs = tls ? certs_new() : NULL;
  char *part = run_all(role, certs, &explained), *document = read_document(path);
  bool says = document != NULL && strncmp(document, head, sizeof head - 1) == 0 && strstr(document, part) != NULL &&
              strstr(document, foot) != NULL;
  printf("%s %s this\n", path, says ? "says" : "does NOT say");
  free(part);
  free(document);
  certs_free(certs);
  return says && explained ? 0 : 1;
}

int main(int argc, char **argv)
{
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc == 3 && strcmp(argv[2], "--update") == 0)
    return update(argv[1]);
  for (int role = SERVER; argc > 2 && role <= CLIENT; role++)
    if (strcmp(argv[2], role_names[role]) == 0)
      return compare(argv[1], (enum role) role, argc > 3);
  fputs("usage: conformance DOCUMENT server|client [tls], or --update\n", stderr);
  return 2;
}
