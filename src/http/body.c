/* body: from libcurl's pieces to the caller's
 *
 * A decoded stream may be held back in the middle of a piece that inflates to megabytes, a stream of events in the middle
 * of a piece with thousands of them. libcurl keeps a piece that is
 * not taken and offers it again, the same bytes first, perhaps more behind them; so what has been taken of it is
 * a number, and the next offer is taken up from there. Nothing is copied, and nothing decoded waits but what the marks
 * allow and one piece. */
#include "http/body.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#include "http/decode.h"
#include "http/events.h"
#include "http/hop.h"
#include "http/http_options.h"
#include "http/pool.h"
#include "http/redirect.h"
#include "http/request.h"
#include "http/stream.h"
#include "http/transfer.h"

static bool refuse_encoding(struct cpool__transfer *transfer, const char *fault)
{
  transfer->encoding_fault = fault;
  cpool__transfer_give_up(transfer, CPOOL__ABORT_ENCODING);
  return false;
}

/* HEAD, 204 and 304 have no body; what 206 brings is a part of the coded one, which cannot be decoded by itself. */
static bool to_be_decoded(const struct cpool__request *req)
{
  int code = req->resp.status_code;
  return req->decompress && req->kind != CPOOL__KIND_HEAD && code != 204 && code != 206 && code != 304;
}

bool cpool__body_begin(struct cpool__transfer *transfer)
{
  struct cpool__request *req = transfer->req;
  struct cpool__codings codings = {.count = 0};
  const char *name, *value;
  cpool__body_forget(req);
  if (req->events != NULL)
    cpool__events_begin(req);
  if (!to_be_decoded(req))
    return true;
  for (size_t i = 0; i < req->resp.header_count; i++) {
    cpool_response_header_at(&req->resp, i, &name, &value);
    if (strcasecmp(name, "Content-Encoding") == 0)
      cpool__codings_add(&codings, value);
  }
  if (codings.count == 0 || codings.unknown)
    return true;
  if (codings.count > CPOOL__DECODE_CODINGS)
    return refuse_encoding(transfer, "more than 3 codings");
  req->decode = cpool__decode_new(&codings, cpool__limit64(req->pool->options.max_decompress_ratio));
  if (req->decode == NULL) {
    cpool__transfer_give_up(transfer, CPOOL__ABORT_MEMORY);
    return false;
  }
  req->resp.decoded = true;
  return true;
}

void cpool__body_forget(struct cpool__request *req)
{
  cpool__decode_free(req->decode);
  req->decode = NULL;
  req->body_skip = req->body_rest_len = 0;
}

const char *cpool__body_end_fault(const struct cpool__request *req)
{
  return req->decode != NULL && !cpool__decode_complete(req->decode) ? "it ends early" : NULL;
}

/* ----------------------------------------------------------------------------------------------------- where it goes */

static bool to_stream(struct cpool__transfer *transfer, const char *data, size_t len)
{
  switch (cpool__stream_piece(transfer->req, data, len)) {
  case CPOOL__STREAM_OK:
    return true;
  case CPOOL__STREAM_NO_MEMORY:
    cpool__transfer_give_up(transfer, CPOOL__ABORT_MEMORY);
    return false;
  case CPOOL__STREAM_OVER_CAP:
    break;
  }
  cpool__transfer_give_up(transfer, CPOOL__ABORT_BODY);
  return false;
}

static bool collect(struct cpool__transfer *transfer, const char *data, size_t len, int64_t cap, int64_t expected,
                    enum cpool__transfer_abort over)
{
  switch (cpool__response_body_data(&transfer->req->resp, data, len, (size_t) cap, expected)) {
  case CPOOL__RESPONSE_OK:
    return true;
  case CPOOL__RESPONSE_NO_MEMORY:
    cpool__transfer_give_up(transfer, CPOOL__ABORT_MEMORY);
    return false;
  case CPOOL__RESPONSE_OVER_CAP:
    break;
  }
  cpool__transfer_give_up(transfer, over);
  return false;
}

enum given { GIVEN_ALL, GIVEN_HELD, GIVEN_UP };

/* Events one by one, until there is none left or a mark is exceeded. */
static enum given give_events(struct cpool__transfer *transfer, const char **data, size_t *len)
{
  while (*len > 0) {
    switch (cpool__events_take(transfer->req, data, len)) {
    case CPOOL__SSE_MORE:
      break;
    case CPOOL__SSE_EVENT:
      if (cpool__brake_check(transfer))
        return GIVEN_HELD;
      break;
    case CPOOL__SSE_OVER_CAP:
      cpool__transfer_give_up(transfer, CPOOL__ABORT_EVENT);
      return GIVEN_UP;
    case CPOOL__SSE_NO_MEMORY:
      cpool__transfer_give_up(transfer, CPOOL__ABORT_MEMORY);
      return GIVEN_UP;
    }
  }
  return GIVEN_ALL;
}

static bool is_open(const struct cpool__request *req)
{
  return req->events != NULL && req->events->open;
}

/* A decoded piece, or what is left of one. */
static enum given give_decoded(struct cpool__transfer *transfer, const char **data, size_t *len)
{
  struct cpool__request *req = transfer->req;
  if (is_open(req))
    return give_events(transfer, data, len);
  size_t all = *len;
  *len = 0;
  if (req->stream == NULL || req->events != NULL)
    return collect(transfer, *data, all, req->max_response_bytes, -1, CPOOL__ABORT_BODY) ? GIVEN_ALL : GIVEN_UP;
  if (!to_stream(transfer, *data, all))
    return GIVEN_UP;
  return cpool__brake_check(transfer) ? GIVEN_HELD : GIVEN_ALL;
}

/* The next decoded piece becomes what is left to give. False: given up. */
static bool decode_more(struct cpool__transfer *transfer, const char **in, size_t *in_len)
{
  struct cpool__request *req = transfer->req;
  switch (cpool__decode_step(req->decode, in, in_len, &req->body_rest, &req->body_rest_len)) {
  case CPOOL__DECODE_OK:
    req->pool->stats.now.bytes_decoded += req->body_rest_len;
    return true;
  case CPOOL__DECODE_NO_MEMORY:
    cpool__transfer_give_up(transfer, CPOOL__ABORT_MEMORY);
    return false;
  case CPOOL__DECODE_MALFORMED:
    return refuse_encoding(transfer, "it is malformed");
  case CPOOL__DECODE_OVER_RATIO:
    break;
  }
  return refuse_encoding(transfer, "it grows beyond max_decompress_ratio");
}

static enum given give(struct cpool__transfer *transfer, const char **in, size_t *in_len)
{
  struct cpool__request *req = transfer->req;
  if (req->decode == NULL)
    return give_events(transfer, in, in_len);
  for (;;) {
    if (req->body_rest_len == 0 && !decode_more(transfer, in, in_len))
      return GIVEN_UP;
    if (req->body_rest_len == 0)
      return GIVEN_ALL;
    enum given given = give_decoded(transfer, &req->body_rest, &req->body_rest_len);
    if (given != GIVEN_ALL)
      return given;
  }
}

/* Takes the piece with all that comes of it, or notes how much of it has been taken when it has to wait. */
static size_t take_partly(struct cpool__transfer *transfer, const char *data, size_t len)
{
  struct cpool__request *req = transfer->req;
  if (req->body_skip > len) { /* offered again in smaller parts */
    req->body_skip -= len;
    return len;
  }
  const char *in = data + req->body_skip;
  size_t in_len = len - req->body_skip;
  enum given given = give(transfer, &in, &in_len);
  req->body_skip = given == GIVEN_HELD ? len - in_len : 0;
  return given == GIVEN_ALL ? len : given == GIVEN_HELD ? CURL_WRITEFUNC_PAUSE : 0;
}

size_t cpool__body_take(struct cpool__transfer *transfer, const char *data, size_t len)
{
  struct cpool__request *req = transfer->req;
  curl_off_t expected = -1, cap = req->max_response_bytes;
  enum cpool__transfer_abort over = CPOOL__ABORT_BODY;
  if (cpool__hop_due(req)) {
    over = CPOOL__ABORT_REDIRECT;
    cap = cap < CPOOL__REDIRECT_BODY_BYTES ? cap : CPOOL__REDIRECT_BODY_BYTES;
  } else if (req->decode != NULL || is_open(req)) {
    return take_partly(transfer, data, len);
  } else if (req->stream != NULL && req->events == NULL) {
    return to_stream(transfer, data, len) ? len : 0;
  }
  if (req->resp.body.data == NULL)
    curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &expected);
  if (req->kind != CPOOL__KIND_HEAD && expected > cap)
    return cpool__transfer_give_up(transfer, over);
  return collect(transfer, data, len, cap, expected, over) ? len : 0;
}
