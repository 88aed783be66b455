/* download: a URL into a file, piece by piece, with a progress bar
 *
 *     download http://127.0.0.1:8080/big big
 *
 * However long the answer is, only stream_window_bytes of it are in memory: when the disk is slow, the server waits. The
 * file is written beside its name and takes it when it is whole. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cpool.h>

struct download {
  FILE *file;
  int code, error; /* of HTTP; errno of a write that failed */
  long long size, done, drawn;
};

static int print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "%s: %s: %s\n", what, cpool_status_name(err.status), err.text);
  return 1;
}

static void draw(struct download *dl)
{
  static const char cells[] = "==================================================";
  if (dl->done - dl->drawn < dl->size / 100 + 65536 && dl->done != dl->size)
    return;
  dl->drawn = dl->done;
  int half = dl->size > 0 ? (int) (50 * dl->done / dl->size) : 0; /* of the percentage */
  fprintf(stderr, "\r[%-50.*s] %3d %%  %lld bytes", half, cells, 2 * half, dl->done);
}

/* Returns 0 when the download makes no sense any more. */
static int take(struct download *dl, const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_HEAD) {
    const char *length = cpool_response_header(event->response, "Content-Length");
    dl->code = cpool_response_status(event->response);
    dl->size = length != NULL ? strtoll(length, NULL, 10) : -1;
    return dl->code == 200;
  }
  if (event->kind != CPOOL_EVENT_BODY || dl->code != 200 || dl->error != 0)
    return 1;
  if (fwrite(event->data, 1, event->len, dl->file) != event->len)
    dl->error = errno;
  dl->done += (long long) event->len;
  if (isatty(STDERR_FILENO))
    draw(dl);
  return dl->error == 0;
}

/* Until the final event. Returns its status. */
static int run(struct download *dl, cpool_http *pool, cpool_queue *q, cpool_op op)
{
  for (;;) {
    const cpool_event *event = NULL;
    if (cpool_queue_wait(q, &event, 1, CPOOL_OFF) <= 0)
      continue;
    int ended = event->kind == CPOOL_EVENT_RESPONSE, status = event->status;
    if (!take(dl, event))
      (void) cpool_cancel(pool, op);   /* refused when it has just ended: that event comes next */
    cpool_queue_release(q, &event, 1); /* gives room for more of the body */
    if (ended)
      return status;
  }
}

int main(int argc, char **argv)
{
  int result = 1;
  cpool_queue *q = NULL;
  cpool_http *pool = NULL;
  cpool_op op = 0;
  struct download dl = {.size = -1};
  char part[4096];
  if (argc != 3 || snprintf(part, sizeof part, "%s.part", argv[2]) >= (int) sizeof part) {
    fprintf(stderr, "usage: %s URL FILE\n", argv[0]);
    return 2;
  }

  cpool_http_options options;
  cpool_http_options_init(&options);
  options.total_timeout_ms = CPOOL_OFF; /* as long as it goes on: sock_read_timeout_ms ends a silence */
  if (cpool_queue_new(&q, NULL) != CPOOL_OK || cpool_http_new(&pool, NULL, &options) != CPOOL_OK) {
    print_error("setting up");
    goto done;
  }
  dl.file = fopen(part, "wb");
  if (dl.file == NULL) {
    perror(part);
    goto done;
  }
  cpool_request req;
  cpool_request_init(&req);
  req.url = argv[1];
  req.flags = CPOOL_REQUEST_STREAM;
  req.max_redirects = 10;
  req.queue = q;
  if (cpool_submit(cpool_http_session(pool), &req, &op) != CPOOL_OK) {
    print_error(argv[1]);
    goto done;
  }

  int status = run(&dl, pool, q, op);
  if (isatty(STDERR_FILENO))
    fputc('\n', stderr);
  if (fclose(dl.file) != 0 && dl.error == 0)
    dl.error = errno;
  dl.file = NULL;
  if (dl.error != 0)
    fprintf(stderr, "%s: %s\n", part, strerror(dl.error));
  else if (dl.code != 0 && dl.code != 200)
    fprintf(stderr, "%s: HTTP %d\n", argv[1], dl.code);
  else if (status != CPOOL_OK)
    fprintf(stderr, "%s: %s\n", argv[1], cpool_status_text(status));
  else if (rename(part, argv[2]) != 0)
    perror(argv[2]);
  else
    result = 0;

done:
  if (dl.file != NULL)
    fclose(dl.file);
  if (result != 0)
    remove(part);
  cpool_http_close(pool, 0);
  cpool_queue_free(q);
  return result;
}
