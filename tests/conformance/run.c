/* run: every case against a manager that echoes, and docs/CONFORMANCE.md, which has to say what comes of it
 *
 *   conformance DOCUMENT            compares
 *   conformance DOCUMENT --tls      the same over TLS
 *   conformance DOCUMENT --update   writes it
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cpool.h>
#include <libwebsockets.h>

#include "conformance/talk.h"
#include "support/certs.h"
#include "support/wait.h"

enum { RECEIVE_BYTES = 64 << 20, SEND_BYTES = 64 << 20 };

struct run {
  uint16_t port;
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
  "is "                                                                                                                \
  "delivered at the end of the turn, so that an answer to it is lost (RFC 6455 asks for none)"
static const struct deviation {
  const char *number, *reason;
  bool at_times; /* when what was written apart is read at once */
} deviations[] = {{"2.5", NO_CODE, false},   {"2.10", ONE_PONG, false}, {"2.11", ONE_PONG, true},
                  {"5.6", PONG_LATE, false}, {"5.7", PONG_LATE, true},  {"5.8", PONG_LATE, true},
                  {"5.19", ONE_PONG, false}, {"5.20", ONE_PONG, true},  {"7.1.1", ANSWER_LATE, false},
                  {"7.3.6", NO_CODE, false}};

static const char *const result_names[] = {"OK", "non-strict", "deviation"};

static const struct deviation *known(const char *number)
{
  for (size_t i = 0; i < sizeof deviations / sizeof *deviations; i++) {
    if (strcmp(deviations[i].number, number) == 0)
      return &deviations[i];
  }
  return NULL;
}

static void run_case(const struct conformance_case *one, void *ctx)
{
  struct run *run = ctx;
  struct conformance_talk talk;
  const struct deviation *why = known(one->number);
  int64_t began_ms = now_ms();
  conformance_talk(one, run->port, run->certs != NULL ? run->certs->ca_file : NULL, &talk);
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

static cpool_ws *server; /* of the echoes; set before there is a listener */

static void echo(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_WS_MESSAGE &&
      cpool_ws_send(server, event->source, event->ws_kind, event->data, event->len) != CPOOL_OK)
    support_die("an echo was refused");
}

static cpool_ws *start(struct run *run)
{
  cpool_ws *ws;
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
  if (cpool_ws_new(&ws, NULL, &options) != CPOOL_OK)
    support_die("no manager");
  server = ws;
  int port = cpool_ws_listen(ws, &listen);
  if (port <= 0)
    support_die("no listener");
  run->port = (uint16_t) port;
  return ws;
}

/* All of the document. The caller's. */
static char *describe(struct run *run, const char *rows)
{
  char *text = NULL;
  size_t len = 0;
  FILE *out = open_memstream(&text, &len);
  fprintf(
      out,
      "# Conformance\n\n"
      "The server side of the WebSocket manager, with libwebsockets %s, against %d cases numbered as in the Autobahn\n"
      "test suite (groups 1 to 7, 9 and 10; 12 and 13 are about compression, which is not offered). The cases are our\n"
      "own: `tests/conformance/cases.c`. The tests `conformance.server` and `conformance.server_tls` run them, plain\n"
      "and over TLS, and fail when this document, which the program writes with `--update`, says something else.\n\n"
      "%d cases deviate; words are explained in `tests/conformance/cases.h`.\n\n"
      "| case | wanted | why not |\n|---|---|---|\n%s\n"
      "Of what the suite does not ask, libwebsockets takes frames that are not masked (RFC 6455 section 5.1) and "
      "lengths\n"
      "that are longer than they need be (section 5.2), and no callback can see that; close codes 1012 to 1014 it "
      "turns\n"
      "into 1002. After an error that it finds itself it waits up to 5 s for an answer, whatever `close_timeout_ms` "
      "says.\n"
      "`tests/behaviour/test_ws_bad.c` and `test_ws_bad_heads.c` say what comes of these and other errors of peers.\n",
      lws_get_library_version(), run->count, run->deviations, rows);
  fclose(out);
  return text;
}

static bool equals_file(const char *path, const char *text)
{
  char *own = calloc(1, strlen(text) + 2);
  FILE *file = fopen(path, "r");
  bool equal =
      file != NULL && own != NULL && fread(own, 1, strlen(text) + 1, file) == strlen(text) && strcmp(own, text) == 0;
  if (file != NULL)
    fclose(file);
  free(own);
  return equal;
}

static bool write_document(const char *path, const char *text)
{
  FILE *file = fopen(path, "w");
  return file != NULL && fputs(text, file) >= 0 && fclose(file) == 0;
}

int main(int argc, char **argv)
{
  struct run run = {0};
  char *rows = NULL;
  size_t len = 0;
  if (argc < 2)
    return 2;
  bool update = argc > 2 && strcmp(argv[2], "--update") == 0;
  if (argc > 2 && strcmp(argv[2], "--tls") == 0)
    run.certs = certs_new();
  setvbuf(stdout, NULL, _IOLBF, 0);
  run.out = open_memstream(&rows, &len);
  cpool_ws *ws = start(&run);
  conformance_each(run_case, &run);
  fclose(run.out);
  if (cpool_ws_close(ws, 0) != CPOOL_OK)
    support_die("the manager does not close");
  char *text = describe(&run, rows);
  bool good = update ? write_document(argv[1], text) : equals_file(argv[1], text);
  bool explained = strstr(rows, "UNEXPLAINED") == NULL;
  printf("%d cases, %d deviations%s; libwebsockets %s; %s %s this\n", run.count, run.deviations,
         explained ? "" : ", not all of them known", lws_get_library_version(), argv[1],
         good ? "says" : "does NOT say");
  free(rows);
  free(text);
  certs_free(run.certs);
  return good && explained ? 0 : 1;
}
