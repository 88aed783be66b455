/* poll_loop: manual mode, the pool as one descriptor among others in a plain poll() loop
 *
 *     poll_loop http://127.0.0.1:8080/
 *     (echo http://127.0.0.1:8080/; echo http://127.0.0.1:8080/missing) | poll_loop -
 *
 * With `-` it fetches each line of standard input as it arrives; the end of the input ends the program when all answers
 * are there. The same two lines, watch cpool_runtime_fd and call cpool_runtime_step, fit epoll, glib, asyncio or any other
 * loop. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cpool.h>

struct app {
  cpool_http *pool;
  char input[4096];
  size_t input_len;
  int reading; /* standard input is still open */
  int in_flight, failed;
};

static void print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "%s: %s: %s\n", what, cpool_status_name(err.status), err.text);
}

/* Runs inside cpool_runtime_step, on the thread that called it. */
static void on_response(const cpool_event *event)
{
  struct app *app = event->user;
  app->in_flight--;
  if (event->status == CPOOL_OK) {
    printf("HTTP %d\n", cpool_response_status(event->response));
  } else {
    printf("%s\n", cpool_status_text(event->status));
    app->failed++;
  }
}

static void fetch(struct app *app, const char *url)
{
  cpool_request req;
  cpool_request_init(&req);
  req.url = url; /* copied by the submit */
  req.on_event = on_response;
  req.user = app;
  if (cpool_submit(cpool_http_session(app->pool), &req, NULL) == CPOOL_OK) {
    app->in_flight++;
  } else {
    print_error(url);
    app->failed++;
  }
}

/* Fetches every whole line, and at the end of the input what is left. */
static void read_input(struct app *app)
{
  ssize_t got = read(STDIN_FILENO, app->input + app->input_len, sizeof app->input - 1 - app->input_len);
  if (got < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  app->reading = got > 0;
  app->input_len += got > 0 ? (size_t) got : 0;
  app->input[app->input_len] = '\0';
  char *line = app->input, *end;
  while ((end = strchr(line, '\n')) != NULL) {
    *end = '\0';
    if (*line != '\0')
      fetch(app, line);
    line = end + 1;
  }
  app->input_len = strlen(line);
  if (app->input_len > 0 && (!app->reading || app->input_len == sizeof app->input - 1)) {
    fetch(app, line);
    app->input_len = 0;
  }
  memmove(app->input, line, app->input_len);
}

int main(int argc, char **argv)
{
  struct app app = {.failed = 0};
  cpool_runtime *rt = NULL;
  int result = 1;
  if (argc != 2) {
    fprintf(stderr, "usage: %s URL | -\n", argv[0]);
    return 2;
  }
  cpool_runtime_options options;
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_MANUAL;
  if (cpool_runtime_new(&rt, &options) != CPOOL_OK || cpool_http_new(&app.pool, rt, NULL) != CPOOL_OK) {
    print_error("setting up");
    goto done;
  }
  app.reading = strcmp(argv[1], "-") == 0;
  if (!app.reading)
    fetch(&app, argv[1]);

  while (app.reading || app.in_flight > 0) {
    struct pollfd fds[2] = {
        {.fd = cpool_runtime_fd(rt), .events = POLLIN}, /* readable for timers too: no timeout to compute */
        {.fd = app.reading ? STDIN_FILENO : -1, .events = POLLIN},
    };
    if (poll(fds, 2, -1) < 0) {
      if (errno == EINTR)
        continue;
      perror("poll");
      goto done;
    }
    if (fds[0].revents != 0 && cpool_runtime_step(rt, 0) < 0) { /* 0: does what is due and comes back */
      print_error("cpool_runtime_step");
      goto done;
    }
    if (fds[1].revents != 0)
      read_input(&app);
  }
  result = app.failed == 0 ? 0 : 1;

done:
  cpool_http_close(app.pool, 0); /* steps the loop itself */
  cpool_runtime_free(rt);
  return result;
}
