/* cpool-ws-cat: a WebSocket connection on standard input and output: each line is a message, both ways
 *
 *     cpool-ws-cat [options] URL
 *
 * The main thread reads lines and sends them, and waits while the connection is down or its queue full; messages are written by
 * the callback, on the library's thread. What becomes of the connection is told on standard error. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cpool.h>

enum { HEADERS = 32, WAIT_S = 60 };

static const char usage[] =
    "usage: cpool-ws-cat [options] URL\n"
    "\n"
    "Sends each line of standard input as a text message to a ws:// or wss:// URL, and writes each\n"
    "message that comes as a line. At the end of its input it closes the connection, once no\n"
    "message has come for a second.\n"
    "\n"
    "  --header 'NAME: VALUE'  of the request for the upgrade; may be repeated\n"
    "  --subprotocols LIST     offered, with commas between\n"
    "  --ca FILE               trust these certificates (PEM) instead of the system's\n"
    "  --insecure              trust any certificate\n"
    "  --proxy URL             http://[USER:PASSWORD@]HOST:PORT\n"
    "  --binary                send binary messages\n"
    "  --once                  end when the connection does; else it is dialled again\n"
    "  --listen                go on at the end of the input, until the connection ends\n"
    "  --help                  print this\n"
    "\n"
    "The exit status is 0 when the connection ended with 1000 or 1001, or by us; else 1.\n";

/* What the callback and the main thread both look at. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int is_open, is_over, code;
static unsigned long message_count;

static int print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "cpool-ws-cat: %s: %s: %s\n", what, cpool_status_name(err.status), err.text);
  return 1;
}

static void tell_end(const cpool_event *event)
{
  const char *text = event->data != NULL ? event->data : "";
  if (event->status != CPOOL_OK)
    fprintf(stderr, "not connected: %s: %s", cpool_status_name(event->status), text);
  else
    fprintf(stderr, "closed, code %d%s%s", (int) event->close_code, *text != '\0' ? ": " : "", text);
  if (event->kind == CPOOL_EVENT_WS_DISCONNECTED)
    fprintf(stderr, "; again in %lld ms", (long long) event->retry_ms);
  fputc('\n', stderr);
}

static void on_event(const cpool_event *event)
{
  pthread_mutex_lock(&lock);
  switch (event->kind) {
  case CPOOL_EVENT_WS_OPEN:
    is_open = 1;
    break;
  case CPOOL_EVENT_WS_MESSAGE:
    message_count++;
    fwrite(event->data, 1, event->len, stdout);
    putchar('\n');
    fflush(stdout);
    break;
  case CPOOL_EVENT_WS_DISCONNECTED:
    is_open = 0;
    tell_end(event);
    break;
  case CPOOL_EVENT_WS_CLOSED:
    is_open = 0;
    is_over = 1;
    code = event->status != CPOOL_OK ? -1 : event->close_code;
    tell_end(event);
    break;
  default:
    break;
  }
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

struct command_line {
  cpool_ws_connect_options connect;
  cpool_header headers[HEADERS];
  char proxy[512], proxy_username[256], proxy_password[256];
  int32_t kind;
  int listen;
};

/* "Name: value", of which `text` is cut in two. */
static int read_header(struct command_line *line, char *text)
{
  char *colon = strchr(text, ':');
  if (colon == NULL || line->connect.header_count == HEADERS)
    return -1;
  *colon = '\0';
  line->headers[line->connect.header_count++] =
      (cpool_header){.name = text, .value = colon + 1 + strspn(colon + 1, " \t")};
  return 0;
}

/* Credentials are options of their own to the library. */
static int read_proxy(struct command_line *line, const char *text)
{
  const char *at = strrchr(text, '@'), *colon;
  if (strncmp(text, "http://", 7) != 0)
    return -1;
  snprintf(line->proxy, sizeof line->proxy, "http://%s", at != NULL ? at + 1 : text + 7);
  line->connect.proxy = line->proxy;
  if (at == NULL)
    return 0;
  colon = memchr(text + 7, ':', (size_t) (at - text - 7));
  snprintf(line->proxy_username, sizeof line->proxy_username, "%.*s", (int) ((colon != NULL ? colon : at) - text - 7),
           text + 7);
  line->connect.proxy_username = line->proxy_username;
  if (colon != NULL) {
    snprintf(line->proxy_password, sizeof line->proxy_password, "%.*s", (int) (at - colon - 1), colon + 1);
    line->connect.proxy_password = line->proxy_password;
  }
  return 0;
}

/* 0, or the exit status with which it ends. */
static int read_options(int argc, char **argv, struct command_line *line)
{
  static const struct option options[] = {
      {"header", required_argument, NULL, 'H'}, {"subprotocols", required_argument, NULL, 's'},
      {"ca", required_argument, NULL, 'c'},     {"insecure", no_argument, NULL, 'k'},
      {"proxy", required_argument, NULL, 'x'},  {"binary", no_argument, NULL, 'b'},
      {"once", no_argument, NULL, 'o'},         {"listen", no_argument, NULL, 'l'},
      {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
  int option, wrong = 0;
  *line = (struct command_line){.kind = CPOOL_WS_TEXT};
  cpool_ws_connect_options_init(&line->connect);
  line->connect.headers = line->headers;
  while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
    switch (option) {
    case 'H':
      wrong |= read_header(line, optarg);
      break;
    case 's':
      line->connect.subprotocols = optarg;
      break;
    case 'c':
      line->connect.ca_file = optarg;
      break;
    case 'k':
      line->connect.tls_verify = CPOOL_OFF;
      break;
    case 'x':
      wrong |= read_proxy(line, optarg);
      break;
    case 'b':
      line->kind = CPOOL_WS_BINARY;
      break;
    case 'o':
      line->connect.reconnect_ms = CPOOL_OFF;
      break;
    case 'l':
      line->listen = 1;
      break;
    case 'h':
      fputs(usage, stdout);
      exit(0);
    default:
      wrong = 1;
    }
  }
  if (wrong == 0 && optind + 1 == argc) {
    line->connect.url = argv[optind];
    return 0;
  }
  fputs(usage, stderr);
  return 2;
}

/* For so long, or until it is over or, if that is asked for, open. 0: it is over. */
static int wait_for(int seconds, int until_open)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += seconds;
  pthread_mutex_lock(&lock);
  while (!is_over && !(until_open && is_open) && pthread_cond_timedwait(&changed, &lock, &until) != ETIMEDOUT)
    continue;
  int over = is_over;
  pthread_mutex_unlock(&lock);
  return !over;
}

/* Until nothing more comes. */
static void wait_for_quiet(void)
{
  unsigned long before, now = 0;
  (void) wait_for(WAIT_S, 1);
  do {
    before = now;
    (void) wait_for(1, 0);
    pthread_mutex_lock(&lock);
    now = message_count;
    pthread_mutex_unlock(&lock);
  } while (now != before);
}

/* Every line, however long the connection takes, or room in its queue. */
static void send_lines(cpool_ws *ws, cpool_conn conn, int32_t kind)
{
  char *line = NULL;
  size_t size = 0;
  ssize_t len;
  while ((len = getline(&line, &size, stdin)) > 0) {
    if (line[len - 1] == '\n')
      len--;
    int rc = wait_for(WAIT_S, 1) ? cpool_ws_send(ws, conn, kind, line, (size_t) len) : CPOOL_ECLOSED;
    while (rc == CPOOL_EAGAIN && wait_for(1, 0))
      rc = cpool_ws_send(ws, conn, kind, line, (size_t) len);
    if (rc == CPOOL_ESTALE || rc == CPOOL_ECLOSED || rc == CPOOL_EAGAIN)
      break; /* it is over, or soon */
    if (rc != CPOOL_OK)
      print_error("a line was not sent");
  }
  free(line);
}

int main(int argc, char **argv)
{
  struct command_line line;
  cpool_ws *ws;
  cpool_ws_options options;
  cpool_conn conn;
  int status = read_options(argc, argv, &line);
  if (status != 0)
    return status;
  signal(SIGPIPE, SIG_IGN);
  cpool_ws_options_init(&options);
  options.on_event = on_event;
  if (cpool_ws_new(&ws, NULL, &options) != CPOOL_OK)
    return print_error("setting up");
  if (cpool_ws_connect(ws, "cat", &line.connect, &conn) != CPOOL_OK) {
    status = print_error("connecting");
    (void) cpool_ws_close(ws, 0);
    return status;
  }
  send_lines(ws, conn, line.kind);
  if (!line.listen) {
    wait_for_quiet();
    (void) cpool_ws_remove(ws, conn, 1000, NULL); /* what was sent goes out before */
  }
  while (wait_for(WAIT_S, 0))
    continue;
  (void) cpool_ws_close(ws, 0);
  return code == 1000 || code == 1001 ? 0 : 1;
}
