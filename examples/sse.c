/* sse: prints the server-sent events of a URL, one a line, until the server says that there are no more
 *
 *     sse http://127.0.0.1:8080/events [LAST-EVENT-ID]
 *
 * The library asks again when the stream ends or breaks; Ctrl-C ends it. */
#include <signal.h>
#include <stdio.h>

#include <cpool.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
  (void) signal;
  interrupted = 1;
}

static int print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "%s: %s: %s\n", what, cpool_status_name(err.status), err.text);
  return 1;
}

static void print_event(const cpool_event *event)
{
  cpool_sse_event sse;
  cpool_sse_event_init(&sse);
  if (cpool_event_sse_get(event, &sse) != CPOOL_OK)
    return;
  printf("%s [%s] ", sse.type, sse.id);
  fwrite(sse.data, 1, sse.data_len, stdout);
  putchar('\n');
  fflush(stdout);
}

static int print_end(const char *url, const cpool_event *event)
{
  int code = cpool_response_status(event->response);
  if (event->status == CPOOL_ECANCELLED || (event->status == CPOOL_OK && code == 204))
    return 0;
  fprintf(stderr, "%s: %s, HTTP %d\n", url, cpool_status_text(event->status), code);
  return 1;
}

/* Until the final event. */
static int run(const char *url, cpool_http *pool, cpool_queue *q, cpool_op op)
{
  int result = -1;
  while (result < 0) {
    const cpool_event *event = NULL;
    if (interrupted)
      (void) cpool_cancel(pool, op); /* refused when it has just ended: that event comes next */
    if (cpool_queue_wait(q, &event, 1, 200) <= 0)
      continue;
    if (event->kind == CPOOL_EVENT_SSE)
      print_event(event);
    else if (event->kind == CPOOL_EVENT_RESPONSE)
      result = print_end(url, event);
    cpool_queue_release(q, &event, 1);
  }
  return result;
}

int main(int argc, char **argv)
{
  int result = 1;
  cpool_queue *q = NULL;
  cpool_http *pool = NULL;
  cpool_op op = 0;
  if (argc < 2 || argc > 3) {
    fprintf(stderr, "usage: %s URL [LAST-EVENT-ID]\n", argv[0]);
    return 2;
  }
  signal(SIGINT, on_interrupt);
  if (cpool_queue_new(&q, NULL) != CPOOL_OK || cpool_http_new(&pool, NULL, NULL) != CPOOL_OK) {
    print_error("setting up");
    goto done;
  }
  cpool_header last = {"Last-Event-ID", argc == 3 ? argv[2] : ""};
  cpool_request req;
  cpool_request_init(&req);
  req.url = argv[1];
  req.flags = CPOOL_REQUEST_SSE | CPOOL_REQUEST_DECOMPRESS;
  req.headers = &last;
  req.header_count = argc == 3 ? 1 : 0;
  req.queue = q;
  if (cpool_submit(cpool_http_session(pool), &req, &op) != CPOOL_OK)
    print_error(argv[1]);
  else
    result = run(argv[1], pool, q, op);

done:
  cpool_http_close(pool, 0);
  cpool_queue_free(q);
  return result;
}
