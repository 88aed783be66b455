/* uv_loop: requests with callbacks on a libuv loop that the program owns and runs
 *
 *     uv_loop http://127.0.0.1:8080/ http://127.0.0.1:8080/
 *
 * Everything happens on the main thread. The library never runs or stops the loop, and holds it open only while work is
 * in flight: uv_run returns by itself. */
#include <stdio.h>

#include <uv.h>

#include <cpool.h>

struct app {
  cpool_http *pool;
  uv_timer_t tick; /* the host's own work, to show that the loop stays free for it */
  int in_flight, answered, ticks;
};

static void print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "%s: %s: %s\n", what, cpool_status_name(err.status), err.text);
}

static void on_tick(uv_timer_t *timer)
{
  struct app *app = timer->data;
  app->ticks++;
}

/* Asks for the end; on_pool_event gets it. Never waits: a callback of the loop must not. */
static void finish(struct app *app)
{
  uv_close((uv_handle_t *) &app->tick, NULL);
  cpool_http_close_start(app->pool, 0);
}

static void on_response(const cpool_event *event)
{
  struct app *app = event->user;
  if (event->status == CPOOL_OK) {
    size_t len = 0;
    cpool_response_body(event->response, &len);
    printf("HTTP %d, %zu bytes\n", cpool_response_status(event->response), len);
    app->answered++;
  } else {
    printf("%s\n", cpool_status_text(event->status));
  }
  if (--app->in_flight == 0)
    finish(app);
}

static void on_pool_event(const cpool_event *event)
{
  struct app *app = event->user;
  if (event->kind != CPOOL_EVENT_HTTP_CLOSED)
    return;
  cpool_http_free(app->pool);
  app->pool = NULL;
}

int main(int argc, char **argv)
{
  struct app app = {.pool = NULL};
  uv_loop_t loop;
  cpool_runtime *rt = NULL;
  if (argc < 2) {
    fprintf(stderr, "usage: %s URL...\n", argv[0]);
    return 2;
  }
  if (uv_loop_init(&loop) != 0)
    return 1;

  cpool_runtime_options runtime_options;
  cpool_runtime_options_init(&runtime_options);
  runtime_options.loop_mode = CPOOL_LOOP_UV;
  runtime_options.uv_loop = &loop;
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.on_event = on_pool_event;
  options.user = &app;
  if (cpool_runtime_new(&rt, &runtime_options) != CPOOL_OK || cpool_http_new(&app.pool, rt, &options) != CPOOL_OK) {
    print_error("setting up");
    goto done;
  }
  uv_timer_init(&loop, &app.tick);
  app.tick.data = &app;
  uv_timer_start(&app.tick, on_tick, 0, 1);

  for (int i = 1; i < argc; i++) {
    cpool_request req;
    cpool_request_init(&req);
    req.url = argv[i];
    req.on_event = on_response; /* runs in uv_run, never inside this submit */
    req.user = &app;
    if (cpool_submit(cpool_http_session(app.pool), &req, NULL) == CPOOL_OK)
      app.in_flight++;
    else
      print_error(argv[i]);
  }
  if (app.in_flight == 0)
    finish(&app);
  uv_run(&loop, UV_RUN_DEFAULT);
  fprintf(stderr, "the timer of the host ran %d times meanwhile\n", app.ticks);

done:
  cpool_runtime_free(rt);
  uv_run(&loop, UV_RUN_DEFAULT); /* the runtime's handles are closed in one more turn */
  if (uv_loop_close(&loop) != 0)
    return 1;
  return app.answered == argc - 1 ? 0 : 1;
}
