/* client: the same job as textbook.c, through the public header alone, on the caller's loop or through a queue */
#include "textbook.h"

#include <uv.h>

#include <cpool.h>

enum { BATCH = 64 };

struct client {
  struct job job;
  cpool_http *pool;
  cpool_session *session;
  cpool_queue *queue; /* NULL: callbacks */
  long started_count, done_count;
  double cpu_us; /* at the start; at the end of the last answer: what it all took */
  cpool_http_stats stats;
};

static void must(int status, const char *what)
{
  cpool_error error;
  cpool_error_init(&error);
  if (status == CPOOL_OK)
    return;
  cpool_last_error(&error);
  give_up("client: %s: %s: %s", what, cpool_status_name(status), error.text);
}

static void on_event(const cpool_event *event);

static void start(struct client *client)
{
  cpool_request request;
  cpool_request_init(&request);
  request.url = client->job.url;
  request.user = client;
  if (client->queue != NULL)
    request.queue = client->queue;
  else
    request.on_event = on_event;
  must(cpool_submit(client->session, &request, NULL), "submit");
  client->started_count++;
}

static void finish(struct client *client, const cpool_event *event)
{
  size_t len = 0;
  must(event->status, "answer");
  cpool_response_body(event->response, &len);
  if (cpool_response_status(event->response) != 200 || len != ANSWER_BYTES ||
      cpool_response_header(event->response, "content-length") == NULL)
    give_up("client: a wrong answer");
  client->done_count++;
  if (client->started_count < client->job.count)
    start(client);
}

static void stop_clock(struct client *client)
{
  client->cpu_us = process_cpu_us() - client->cpu_us;
}

static void on_event(const cpool_event *event)
{
  struct client *client = event->user;
  if (event->kind != CPOOL_EVENT_RESPONSE)
    return;
  finish(client, event);
  if (client->done_count < client->job.count)
    return;
  stop_clock(client);
  must(cpool_http_close_start(client->pool, 0), "close");
}

static void make_pool(struct client *client, cpool_runtime *runtime)
{
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.max_connections = options.max_connections_per_host = client->job.in_flight;
  options.user_agent = ""; /* the same bytes on the wire as the textbook's */
  must(cpool_http_new(&client->pool, runtime, &options), "http_new");
  cpool_session_options session;
  cpool_session_options_init(&session);
  session.ca_file = client->job.ca_file;
  session.http_version = client->job.http2 ? CPOOL_HTTP_2 : CPOOL_HTTP_1_1;
  must(cpool_session_new(&client->session, client->pool, &session), "session_new");
  cpool_http_stats_init(&client->stats);
}

static void start_all(struct client *client)
{
  client->cpu_us = process_cpu_us();
  for (int i = 0; i < client->job.in_flight; i++)
    start(client);
}

static void end_pool(struct client *client)
{
  must(cpool_http_stats_get(client->pool, &client->stats), "stats");
  cpool_session_free(client->session);
}

/* The host's own loop, on its own thread. */
static void run_callbacks(struct client *client)
{
  uv_loop_t loop;
  cpool_runtime *runtime = NULL;
  cpool_runtime_options options;
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_UV;
  options.uv_loop = &loop;
  uv_loop_init(&loop);
  must(cpool_runtime_new(&runtime, &options), "runtime_new");
  make_pool(client, runtime);
  start_all(client);
  uv_run(&loop, UV_RUN_DEFAULT); /* until the pool is closed */
  end_pool(client);
  cpool_http_free(client->pool);
  must(cpool_runtime_free(runtime), "runtime_free");
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
}

/* The library's thread does the work; this one submits and consumes. */
static void run_queue(struct client *client)
{
  const cpool_event *events[BATCH];
  must(cpool_queue_new(&client->queue, NULL), "queue_new");
  make_pool(client, NULL);
  start_all(client);
  while (client->done_count < client->job.count) {
    int count = cpool_queue_wait(client->queue, events, BATCH, CPOOL_OFF);
    if (count < 0)
      must(count, "queue_wait");
    for (int i = 0; i < count; i++)
      finish(client, events[i]);
    cpool_queue_release(client->queue, events, count);
  }
  stop_clock(client);
  end_pool(client);
  must(cpool_http_close(client->pool, 0), "close");
  must(cpool_queue_free(client->queue), "queue_free");
}

int main(int argc, char **argv)
{
  if (argc != 7)
    give_up("usage: callback|queue URL COUNT IN_FLIGHT CA_FILE|- 1|2");
  struct client client = {.job = job_from(argc - 2, argv + 2)};
  if (strcmp(argv[1], "queue") == 0)
    run_queue(&client);
  else
    run_callbacks(&client);
  print_result(client.cpu_us, (unsigned long long) client.stats.opened);
  return 0;
}
