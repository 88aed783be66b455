/* many: all URLs of the command line at once; the main thread takes the outcomes out of one queue
 *
 *     many http://127.0.0.1:8080/ http://127.0.0.1:8080/missing
 *
 * No callback and no lock: the loop thread does the network, this thread consumes. */
#include <stdio.h>

#include <cpool.h>

enum { BATCH = 32 };

static void print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "%s: %s: %s\n", what, cpool_status_name(err.status), err.text);
}

/* Returns 1 for an answer, 0 for a failure. */
static int print_outcome(const cpool_event *event)
{
  const char *url = event->user; /* as given to the submit */
  if (event->status != CPOOL_OK) {
    printf("%s: %s\n", url, cpool_status_text(event->status));
    return 0;
  }
  cpool_response_info info;
  cpool_response_info_init(&info);
  cpool_response_info_get(event->response, &info);
  printf("%s: HTTP %d in %lld us, %s connection\n", url, cpool_response_status(event->response),
         (long long) info.total_us, info.reused != 0 ? "reused" : "new");
  return 1;
}

int main(int argc, char **argv)
{
  int in_flight = 0, answered = 0;
  cpool_queue *q = NULL;
  cpool_http *pool = NULL;
  if (argc < 2) {
    fprintf(stderr, "usage: %s URL...\n", argv[0]);
    return 2;
  }
  if (cpool_queue_new(&q, NULL) != CPOOL_OK || cpool_http_new(&pool, NULL, NULL) != CPOOL_OK) {
    print_error("setting up");
    goto done;
  }

  for (int i = 1; i < argc; i++) {
    cpool_request req;
    cpool_request_init(&req);
    req.url = argv[i];
    req.queue = q;
    req.user = argv[i];
    if (cpool_submit(cpool_http_session(pool), &req, NULL) == CPOOL_OK)
      in_flight++; /* exactly one event will come for it */
    else
      print_error(argv[i]); /* none will */
  }

  while (in_flight > 0) {
    const cpool_event *events[BATCH];
    int count = cpool_queue_wait(q, events, BATCH, CPOOL_OFF); /* waits for one, takes what is there */
    if (count < 0) {
      print_error("cpool_queue_wait");
      break;
    }
    for (int i = 0; i < count; i++)
      answered += print_outcome(events[i]);
    cpool_queue_release(q, events, count); /* the responses end here; cpool_event_take_response would keep one */
    in_flight -= count;
  }

done:
  cpool_http_close(pool, 0);
  cpool_queue_free(q); /* after the pool, whose requests named it */
  return answered == argc - 1 ? 0 : 1;
}
