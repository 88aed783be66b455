/* transfer_result: what libcurl's words mean: success, a failure with its status, or a reason to send the request again */
#ifndef CPOOL_HTTP_TRANSFER_RESULT_H
#define CPOOL_HTTP_TRANSFER_RESULT_H

#include <curl/curl.h>
#include <stdbool.h>
#include <cpool.h>

struct cpool__conn;
struct cpool__transfer;

struct cpool__outcome {
  bool repeat;       /* not ended: to be sent again */
  cpool_error error; /* status CPOOL_OK: success */
};

/* libcurl begins to send on `conn`. */
void cpool__transfer_begun(struct cpool__transfer *transfer, struct cpool__conn *conn, bool reused);
/* Takes bytes, version and times over into the response: before the handle leaves the multi. */
void cpool__transfer_measure(struct cpool__transfer *transfer);
/* The failure by libcurl's code. `subject` begins the text; `tls`: a handshake may have failed. */
void cpool__transfer_classify(struct cpool__transfer *transfer, CURLcode code, bool tls, const char *subject,
                              cpool_error *error);
/* Judges the end, and measures. */
void cpool__transfer_outcome(struct cpool__transfer *transfer, CURLcode code, bool tls, struct cpool__outcome *out);

#endif
