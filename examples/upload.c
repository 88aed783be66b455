/* upload: a file, or standard input, as the body of a PUT, piece by piece
 *
 *     upload big http://127.0.0.1:8080/big
 *     tar c directory | upload - http://127.0.0.1:8080/archive
 *
 * At a full window cpool_body_write takes nothing and says so; one event tells when there is room. So what is in memory
 * is a window and a piece, whatever the length. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cpool.h>

struct upload {
  FILE *file;
  cpool_http *pool;
  cpool_op op;
  size_t len;
  int last;         /* what is in `piece` is the end */
  int done, failed; /* no more is to be written; because of us */
  char piece[65536];
};

static int print_error(const char *what)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "%s: %s: %s\n", what, cpool_status_name(err.status), err.text);
  return 1;
}

/* Writes until the window is full or the file ends. */
static void write_some(struct upload *up)
{
  while (!up->done) {
    if (up->len == 0 && !up->last) {
      up->len = fread(up->piece, 1, sizeof up->piece, up->file);
      up->last = feof(up->file);
      if (ferror(up->file) != 0) {
        perror("reading");
        up->done = up->failed = 1;
        break;
      }
    }
    int status = cpool_body_write(up->pool, up->op, up->piece, up->len, up->last);
    if (status == CPOOL_EAGAIN)
      return;                                           /* CPOOL_EVENT_WRITABLE will come; the piece is still ours */
    if (status != CPOOL_OK && status != CPOOL_ESTALE) { /* ESTALE: an answer came early, its event is next */
      print_error("cpool_body_write");                  /* a file that grew or shrank among others */
      up->failed = 1;
    }
    up->len = 0;
    up->done = up->last || status != CPOOL_OK;
  }
  if (up->failed)
    (void) cpool_cancel(up->pool, up->op); /* or the server would take it for the whole */
}

static int print_answer(const cpool_event *event)
{
  size_t len = 0;
  const char *body = cpool_response_body(event->response, &len);
  int code = cpool_response_status(event->response);
  if (event->status != CPOOL_OK) {
    fprintf(stderr, "%s\n", cpool_status_text(event->status));
    return 1;
  }
  fprintf(stderr, "HTTP %d\n", code);
  fwrite(body, 1, len, stdout);
  return code >= 200 && code < 300 ? 0 : 1;
}

int main(int argc, char **argv)
{
  int result = 1;
  cpool_queue *q = NULL;
  static struct upload up;
  struct stat file;
  if (argc != 3) {
    fprintf(stderr, "usage: %s FILE|- URL\n", argv[0]);
    return 2;
  }
  up.file = strcmp(argv[1], "-") == 0 ? stdin : fopen(argv[1], "rb");
  if (up.file == NULL || fstat(fileno(up.file), &file) != 0) {
    perror(argv[1]);
    goto done;
  }
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.total_timeout_ms = CPOOL_OFF;
  if (cpool_queue_new(&q, NULL) != CPOOL_OK || cpool_http_new(&up.pool, NULL, &options) != CPOOL_OK) {
    print_error("setting up");
    goto done;
  }

  cpool_request req;
  cpool_request_init(&req);
  req.method = "PUT";
  req.url = argv[2];
  req.flags = CPOOL_REQUEST_UPLOAD;
  req.body_len = S_ISREG(file.st_mode) ? (size_t) file.st_size : 0; /* 0: unknown, sent chunked */
  req.queue = q;
  if (cpool_submit(cpool_http_session(up.pool), &req, &up.op) != CPOOL_OK) {
    print_error(argv[2]);
    goto done;
  }
  for (int ended = 0; !ended;) {
    const cpool_event *event = NULL;
    write_some(&up);
    if (cpool_queue_wait(q, &event, 1, CPOOL_OFF) <= 0)
      continue;
    if (event->kind == CPOOL_EVENT_RESPONSE) { /* it may come before all is written */
      ended = 1;
      result = print_answer(event);
    }
    cpool_queue_release(q, &event, 1);
  }

done:
  if (up.file != NULL && up.file != stdin)
    fclose(up.file);
  cpool_http_close(up.pool, 0);
  cpool_queue_free(q);
  return result;
}
