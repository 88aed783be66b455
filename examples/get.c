/* get: one blocking GET, and what a failure tells
 *
 *     get http://127.0.0.1:8080/ */
#include <stdio.h>

#include <cpool.h>

/* A refused call leaves its reason with the thread that made it. */
static int refused(const char *call)
{
  cpool_error err;
  cpool_error_init(&err);
  cpool_last_error(&err);
  fprintf(stderr, "%s: %s: %s\n", call, cpool_status_name(err.status), err.text);
  return 1;
}

int main(int argc, char **argv)
{
  if (argc != 2) {
    fprintf(stderr, "usage: %s URL\n", argv[0]);
    return 2;
  }
  int result = 1;
  cpool_response *resp = NULL;
  cpool_http *pool = NULL;

  cpool_http_options options;
  cpool_http_options_init(&options); /* a field that stays 0 has its default */
  options.total_timeout_ms = 10000;
  if (cpool_http_new(&pool, NULL, &options) != CPOOL_OK) /* runtime NULL: a loop thread of its own */
    return refused("cpool_http_new");

  /* Three outcomes: refused (no response), failed (a response that knows why), answered (404 and 500 are answers too). */
  int status = cpool_get(cpool_http_session(pool), argv[1], &resp);
  if (resp == NULL) {
    refused("cpool_get");
    goto done;
  }
  if (status != CPOOL_OK) {
    cpool_error err;
    cpool_error_init(&err);
    cpool_response_error_get(resp, &err);
    fprintf(stderr, "%s: %s%s\n", cpool_status_name(status), err.text,
            (err.flags & CPOOL_ERROR_RETRIABLE) != 0 ? " (worth another try)" : "");
    goto done;
  }

  const char *type = cpool_response_header(resp, "Content-Type");
  size_t len = 0;
  const void *body = cpool_response_body(resp, &len);
  fprintf(stderr, "HTTP %d, %zu bytes of %s\n", cpool_response_status(resp), len, type != NULL ? type : "unknown type");
  fwrite(body, 1, len, stdout);
  result = 0;

done:
  cpool_response_free(resp);
  if (cpool_http_close(pool, 0) != CPOOL_OK) /* waits until the loop thread has ended */
    result = 1;
  return result;
}
