/* ws_hosted: a server of libwebsockets as it may exist already, whose WebSocket connections are given to a manager
 *
 *     ws_hosted 9000
 *
 * The program owns the libuv loop, the context of libwebsockets, its listener and its callback. Both live on the one loop. From
 * cpool_ws_add on the manager sends, pings and closes; the callback only forwards. Each message goes back to its sender, and
 * "all ..." to everybody. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libwebsockets.h>
#include <uv.h>

#include <cpool.h>

static cpool_ws *manager;
static uv_loop_t loop;
static int client_count;

static int print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "ws_hosted: %s: %s: %s\n", what, cpool_status_name(err.status), err.text);
  return 1;
}

/* The manager's events. */
static void on_event(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_WS_MESSAGE && event->len > 4 && memcmp(event->data, "all ", 4) == 0)
    (void) cpool_ws_publish(manager, NULL, event->ws_kind, event->data, event->len);
  else if (event->kind == CPOOL_EVENT_WS_MESSAGE)
    (void) cpool_ws_send(manager, event->source, event->ws_kind, event->data, event->len);
  else if (event->kind == CPOOL_EVENT_WS_CLOSED)
    printf("%s has gone, code %d\n", event->conn_id, (int) event->close_code);
  else if (event->kind == CPOOL_EVENT_WS_MANAGER_CLOSED)
    uv_stop(&loop);
  fflush(stdout);
}

/* The program's own callback of libwebsockets. */
static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *session, void *in, size_t len)
{
  char id[32];
  (void) session;
  switch (reason) {
  case LWS_CALLBACK_ESTABLISHED:
    snprintf(id, sizeof id, "client-%d", ++client_count);
    if (cpool_ws_add(manager, id, NULL, wsi, NULL) == CPOOL_OK)
      return 0;
    print_error(id);
    return -1;
  case LWS_CALLBACK_RECEIVE:
  case LWS_CALLBACK_RECEIVE_PONG:
  case LWS_CALLBACK_SERVER_WRITEABLE:
  case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
  case LWS_CALLBACK_CLOSED:
  case LWS_CALLBACK_WSI_DESTROY:
    return manager != NULL ? cpool_ws_lws_event(manager, wsi, (int32_t) reason, in, len) : 0;
  default:
    return lws_callback_http_dummy(wsi, reason, session, in, len);
  }
}

static const lws_retry_bo_t no_pings; /* the manager's are enough */

static const struct lws_protocols protocols[] = {{.name = "http", .callback = on_lws}, {.name = NULL}};

static struct lws_context *start_server(int port)
{
  void *loops[] = {&loop};
  struct lws_context_creation_info info = {.port = port,
                                           .iface = "127.0.0.1",
                                           .protocols = protocols,
                                           .options = LWS_SERVER_OPTION_LIBUV,
                                           .retry_and_idle_policy = &no_pings,
                                           .foreign_loops = loops};
  lws_set_log_level(LLL_ERR, NULL);
  return lws_create_context(&info);
}

/* The manager says goodbye to all of its connections, while the loop goes on. */
static void on_signal(uv_signal_t *handle, int number)
{
  (void) handle;
  (void) number;
  if (cpool_ws_close_start(manager, 1000) != CPOOL_OK)
    print_error("closing");
}

int main(int argc, char **argv)
{
  uv_signal_t interrupt, terminate;
  cpool_runtime *rt = NULL;
  cpool_runtime_options runtime_options;
  cpool_ws_options options;
  int port = argc == 2 ? atoi(argv[1]) : 0;
  if (port <= 0 || port > 65535) {
    fprintf(stderr, "usage: ws_hosted PORT\n");
    return 2;
  }
  uv_loop_init(&loop);
  cpool_runtime_options_init(&runtime_options);
  runtime_options.loop_mode = CPOOL_LOOP_UV;
  runtime_options.uv_loop = &loop;
  cpool_ws_options_init(&options);
  options.on_event = on_event;
  if (cpool_runtime_new(&rt, &runtime_options) != CPOOL_OK || cpool_ws_new(&manager, rt, &options) != CPOOL_OK)
    return print_error("setting up");
  struct lws_context *context = start_server(port);
  if (context == NULL) {
    fprintf(stderr, "ws_hosted: libwebsockets does not listen on port %d\n", port);
    return 1;
  }
  uv_signal_init(&loop, &interrupt);
  uv_signal_init(&loop, &terminate);
  uv_signal_start(&interrupt, on_signal, SIGINT);
  uv_signal_start(&terminate, on_signal, SIGTERM);
  printf("listening on ws://127.0.0.1:%d/\n", port);
  fflush(stdout);
  uv_run(&loop, UV_RUN_DEFAULT); /* until the manager has closed */

  cpool_ws_free(manager);
  manager = NULL;
  uv_close((uv_handle_t *) &interrupt, NULL);
  uv_close((uv_handle_t *) &terminate, NULL);
  lws_context_destroy(context); /* once, then its handles close in turns of the loop, and again: the second one frees */
  uv_run(&loop, UV_RUN_DEFAULT);
  lws_context_destroy(context);
  cpool_runtime_free(rt);
  uv_run(&loop, UV_RUN_DEFAULT);
  return uv_loop_close(&loop) == 0 ? 0 : 1;
}
