/* cpool-fetch: many requests with a fixed number in flight, and a report; a load tool in small
 *
 * One loop: fill the free slots with submits, wait for events, free their slots. The network runs on the library's thread. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cpool.h>

#include "fetch_bar.h"
#include "fetch_file.h"
#include "fetch_options.h"
#include "fetch_tally.h"

enum { BATCH = 256, WAIT_MS = 100, SPARE_FDS = 64, LEAST_CONNECTIONS = 100 };

struct fetch {
  struct fetch_options options;
  cpool_queue *q;
  cpool_http *pool;
  cpool_session *session;
  cpool_op *ops;       /* one per slot; 0: free. Needed for the cancel only */
  int32_t *free_slots; /* a stack */
  int32_t free_count;
  int64_t submitted;        /* refused ones included */
  struct fetch_file output; /* of -o */
  int output_error;         /* the errno for which it could not be written */
  int64_t output_bytes;
  int64_t output_size; /* as announced; -1: it was not */
  int senseless;       /* the library refused the very first request of a command line */
  struct fetch_tally tally;
  struct fetch_bar bar;
};

static volatile sig_atomic_t interrupted; /* the signal's number */

static void on_signal(int number)
{
  interrupted = number;
}

/* The loop looks at `interrupted` at least every WAIT_MS. A second signal ends the program at once. */
static void catch_signals(void)
{
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  action.sa_flags = (int) SA_RESETHAND;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}

/* The soft limit on descriptors is often 1024. What cannot be had shows as failed requests. */
static void raise_fd_limit(int32_t needed)
{
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= (rlim_t) needed)
    return;
  limit.rlim_cur =
      limit.rlim_max == RLIM_INFINITY || limit.rlim_max > (rlim_t) needed ? (rlim_t) needed : limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/* More than are ever in use at a time: with several hosts a request need not close another host's idle connection. */
static int32_t max_connections(const struct fetch_options *options)
{
  int32_t twice = 2 * options->concurrency;
  return twice > LEAST_CONNECTIONS ? twice : LEAST_CONNECTIONS;
}

static void print_refusal(void)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "cpool-fetch: %s\n", err.text);
}

/* Returns the exit status: 0, 2 when the library refused an option, 1 when it lacked a resource. */
static int fetch_start(struct fetch *fetch)
{
  const struct fetch_options *options = &fetch->options;
  int32_t concurrency = options->concurrency;
  int status = CPOOL_ENOMEM;
  cpool_http_options http;
  cpool_session_options session;

  fetch->ops = calloc((size_t) concurrency, sizeof *fetch->ops);
  fetch->free_slots = calloc((size_t) concurrency, sizeof *fetch->free_slots);
  if (fetch->ops == NULL || fetch->free_slots == NULL) {
    fprintf(stderr, "cpool-fetch: %s\n", cpool_status_text(status));
    return 1;
  }
  for (int32_t slot = 0; slot < concurrency; slot++)
    fetch->free_slots[fetch->free_count++] = slot;

  status = cpool_queue_new(&fetch->q, NULL);
  if (status != CPOOL_OK)
    goto refused;
  cpool_http_options_init(&http);
  http.queue = fetch->q; /* for the event that ends the pool */
  http.max_connections = max_connections(options);
  http.max_connections_per_host = options->max_per_host != 0 ? options->max_per_host : concurrency;
  http.max_pending = concurrency;
  if (options->timeout_ms != 0) { /* one limit instead of three that could be shorter */
    http.total_timeout_ms = options->timeout_ms;
    http.acquire_timeout_ms = CPOOL_OFF;
    http.sock_read_timeout_ms = CPOOL_OFF;
  }
  status = cpool_http_new(&fetch->pool, NULL, &http);
  if (status != CPOOL_OK)
    goto refused;
  cpool_session_options_init(&session);
  session.headers = options->headers;
  session.header_count = options->header_count;
  session.ca_file = options->ca_file;
  session.proxy = options->proxy;
  session.proxy_username = options->proxy_username;
  session.proxy_password = options->proxy_password;
  session.http_version = options->http2 ? CPOOL_HTTP_2 : 0;
  session.max_redirects = options->location ? FETCH_MAX_REDIRECTS : 0;
  status = cpool_session_new(&fetch->session, fetch->pool, &session);
  if (status != CPOOL_OK)
    goto refused;
  return 0;

refused:
  print_refusal();
  return status == CPOOL_EINVAL ? 2 : 1;
}

/* Fills the free slots. */
static void submit_some(struct fetch *fetch)
{
  const struct fetch_options *options = &fetch->options;
  while (fetch->free_count > 0 && fetch->submitted < options->requests && !interrupted) {
    int32_t slot = fetch->free_slots[fetch->free_count - 1];
    char *url = options->urls[(size_t) fetch->submitted % options->url_count];
    cpool_request req;
    cpool_request_init(&req);
    req.method = options->method;
    req.url = url;
    req.body = options->body;
    req.body_len = options->body_len;
    req.flags = options->compressed ? CPOOL_REQUEST_DECOMPRESS : 0;
    req.queue = fetch->q;
    req.user = &fetch->ops[slot];
    if (options->output != NULL) { /* a long download is no failure: silence is */
      req.flags |= CPOOL_REQUEST_STREAM;
      req.total_timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : CPOOL_OFF;
    }
    int status = cpool_submit(fetch->session, &req, &fetch->ops[slot]);
    /* Large bodies fill the queue up to its high mark: go on when the events in it are released. */
    if (status == CPOOL_EFULL && fetch->free_count < options->concurrency)
      return;
    if (status == CPOOL_EINVAL && fetch->submitted == 0 && options->text == NULL) {
      print_refusal();
      fetch->senseless = 1;
      return;
    }
    fetch->submitted++;
    if (status == CPOOL_OK)
      fetch->free_count--;
    else
      fetch_tally_refused(&fetch->tally, status, url);
    if (options->output == NULL)
      fetch_bar_update(&fetch->bar, fetch->tally.requests, options->requests, fetch->tally.failed);
  }
}

static void cancel_all(struct fetch *fetch)
{
  for (int32_t slot = 0; slot < fetch->options.concurrency; slot++) {
    if (fetch->ops[slot] != 0)
      cpool_cancel(fetch->pool, fetch->ops[slot]); /* stale when it has just ended: as well */
  }
}

/* A piece of the body of -o. One that cannot be written ends the request. */
static void write_output(struct fetch *fetch, const cpool_event *event)
{
  if (fetch->output_error != 0)
    return;
  if (fetch_file_write(&fetch->output, event->data, event->len) != 0) {
    fetch->output_error = errno;
    cancel_all(fetch);
  }
  fetch->output_bytes += (int64_t) event->len;
  fetch_bar_bytes(&fetch->bar, fetch->output_bytes, fetch->output_size);
}

static void begin_output(struct fetch *fetch, const cpool_response *resp)
{
  const char *length = cpool_response_header(resp, "Content-Length");
  int coded = cpool_response_header(resp, "Content-Encoding") != NULL; /* may become longer on its way here */
  fetch->output_size = length != NULL && !coded ? strtoll(length, NULL, 10) : -1;
  if (!fetch_tally_counts(resp)) /* an error page is not what was asked for */
    fetch_file_drop(&fetch->output);
}

/* The final one of a request: its slot is free. */
static void take_end(struct fetch *fetch, const cpool_event *event)
{
  cpool_op *op = event->user;
  fetch_tally_event(&fetch->tally, event);
  *op = 0;
  fetch->free_slots[fetch->free_count++] = (int32_t) (op - fetch->ops);
  if (fetch->output.fd >= 0 && fetch->tally.ok > 0 && fetch->output_error == 0 && fetch_file_keep(&fetch->output) != 0)
    fetch->output_error = errno;
}

static void take_event(struct fetch *fetch, const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_HEAD)
    begin_output(fetch, event->response);
  else if (event->kind == CPOOL_EVENT_BODY && fetch->output.fd >= 0)
    write_output(fetch, event);
  else if (event->kind == CPOOL_EVENT_RESPONSE)
    take_end(fetch, event);
}

/* Takes events out until none is in flight and nothing is left to submit. */
static void run(struct fetch *fetch)
{
  const struct fetch_options *options = &fetch->options;
  int cancelled = 0;
  for (;;) {
    submit_some(fetch);
    if (fetch->free_count == options->concurrency &&
        (fetch->submitted == options->requests || interrupted || fetch->senseless))
      return;
    const cpool_event *events[BATCH];
    int count = cpool_queue_wait(fetch->q, events, BATCH, WAIT_MS);
    for (int i = 0; i < count; i++)
      take_event(fetch, events[i]);
    if (count > 0)
      cpool_queue_release(fetch->q, events, count);
    if (interrupted && !cancelled) {
      cancelled = 1;
      cancel_all(fetch);
    }
    if (options->output == NULL)
      fetch_bar_update(&fetch->bar, fetch->tally.requests, options->requests, fetch->tally.failed);
  }
}

/* After the pool's last event its numbers stand still. */
static void wait_for_close(struct fetch *fetch)
{
  cpool_session_free(fetch->session);
  fetch->session = NULL;
  if (cpool_http_close_start(fetch->pool, 0) != CPOOL_OK)
    return;
  const cpool_event *event = NULL;
  while (cpool_queue_wait(fetch->q, &event, 1, CPOOL_OFF) == 0)
    ;
  if (event != NULL)
    cpool_queue_release(fetch->q, &event, 1);
}

static double cpu_time_s(void)
{
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int report(struct fetch *fetch, double wall_s)
{
  struct fetch_result result = {.tally = &fetch->tally, .wall_s = wall_s};
  cpool_http_stats_init(&result.stats);
  cpool_http_stats_get(fetch->pool, &result.stats);
  for (int32_t phase = 0; phase < CPOOL_PHASES; phase++) {
    cpool_histogram_init(&result.phases[phase]);
    cpool_http_histogram_get(fetch->pool, phase, &result.phases[phase]);
  }
  result.cpu_s = cpu_time_s();
  if (!fetch->options.json) {
    fetch_print_table(&result);
  } else if (fetch_print_json(&result) != 0) {
    fprintf(stderr, "cpool-fetch: %s\n", cpool_status_text(CPOOL_ENOMEM));
    return 1;
  }
  if (fflush(stdout) != 0) {
    fprintf(stderr, "cpool-fetch: standard output: %s\n", strerror(errno));
    return 1;
  }
  return fetch->tally.failed == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
  struct fetch fetch = {.output = {-1, NULL, NULL}, .output_size = -1};
  int result = 0;
  enum fetch_action action = fetch_options_parse(&fetch.options, argc, argv);
  if (action != FETCH_RUN) {
    result = action == FETCH_EXIT_OK ? 0 : 2;
    goto done;
  }
  catch_signals();
  raise_fd_limit(max_connections(&fetch.options) + SPARE_FDS);
  if (fetch.options.output != NULL && fetch_file_open(&fetch.output, fetch.options.output) != 0) {
    fprintf(stderr, "cpool-fetch: -o %s: %s\n", fetch.options.output, strerror(errno));
    result = 2;
    goto done;
  }
  result = fetch_start(&fetch);
  if (result != 0)
    goto done;

  fetch_bar_start(&fetch.bar);
  int64_t started_us = fetch_now_us();
  run(&fetch);
  if (fetch.senseless) {
    result = 2;
    goto done;
  }
  double wall_s = (double) (fetch_now_us() - started_us) / 1e6;
  if (fetch.options.output == NULL)
    fetch_bar_end(&fetch.bar, fetch.tally.requests, fetch.options.requests, fetch.tally.failed);
  else
    fetch_bar_end_bytes(&fetch.bar, fetch.output_bytes, fetch.output_size);
  wait_for_close(&fetch);
  result = report(&fetch, wall_s);
  if (fetch.output_error != 0) {
    fprintf(stderr, "cpool-fetch: -o %s: %s\n", fetch.options.output, strerror(fetch.output_error));
    result = 1;
  }
  if (interrupted)
    result = 128 + interrupted;

done:
  cpool_session_free(fetch.session);
  cpool_http_close(fetch.pool, 0); /* waits unless it is closed already; then nothing names the queue any more */
  cpool_queue_free(fetch.q);
  free(fetch.free_slots);
  free(fetch.ops);
  fetch_file_drop(&fetch.output);
  fetch_options_free(&fetch.options);
  return result;
}
