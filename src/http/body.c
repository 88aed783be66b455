/* body: from libcurl's pieces to the caller's
 *
 * A decoded stream may be held back in the middle of a piece that inflates to megabytes. libcurl keeps a piece that is
 * not taken and offers it again, the same bytes first, perhaps more behind them; so what the decoder has taken of it is
 * a number, and the next offer is taken up from there. Nothing is copied, and nothing decoded waits but what the marks
 * allow and one piece. */
#include "http/body.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#include "http/decode.h"
#include "http/hop.h"
#include "http/http_options.h"
#include "http/pool.h"
#include "http/redirect.h"
#include "http/request.h"
#include "http/stream.h"
#include "http/transfer.h"

static size_t give_up(struct cpool__transfer *transfer, enum cpool__transfer_abort why)
{
  transfer->abort = why;
  return 0;
}

static bool refuse_encoding(struct cpool__transfer *transfer, const char *fault)
{
  transfer->encoding_fault = fault;
  give_up(transfer, CPOOL__ABORT_ENCODING);
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
    give_up(transfer, CPOOL__ABORT_MEMORY);
    return false;
  }
  req->resp.decoded = true;
  return true;
}

void cpool__body_forget(struct cpool__request *req)
{
  cpool__decode_free(req->decode);
  req->decode = NULL;
  req->decode_skip = 0;
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
    give_up(transfer, CPOOL__ABORT_MEMORY);
    return false;
  case CPOOL__STREAM_OVER_CAP:
    break;
  }
  give_up(transfer, CPOOL__ABORT_BODY);
  return false;
}

static bool collect(struct cpool__transfer *transfer, const char *data, size_t len, int64_t cap, int64_t expected,
                    enum cpool__transfer_abort over)
{
  switch (cpool__response_body_data(&transfer->req->resp, data, len, (size_t) cap, expected)) {
  case CPOOL__RESPONSE_OK:
    return true;
  case CPOOL__RESPONSE_NO_MEMORY:
    give_up(transfer, CPOOL__ABORT_MEMORY);
    return false;
  case CPOOL__RESPONSE_OVER_CAP:
    break;
  }
  give_up(transfer, over);
  return false;
}

static bool decoded(struct cpool__transfer *transfer, const char *data, size_t len)
{
  struct cpool__request *req = transfer->req;
  req->pool->stats.now.bytes_decoded += len;
  return req->stream != NULL ? to_stream(transfer, data, len)
                             : collect(transfer, data, len, req->max_response_bytes, -1, CPOOL__ABORT_BODY);
}

/* Takes the piece, all that comes of it included, or returns how much has been taken when it has to wait. */
static size_t decode(struct cpool__transfer *transfer, const char *data, size_t len)
{
  struct cpool__request *req = transfer->req;
  const char *in = data, *out;
  size_t in_len = len, made = 0;
  if (req->decode_skip > len) { /* offered again in smaller parts */
    req->decode_skip -= len;
    return len;
  }
  in += req->decode_skip;
  in_len -= req->decode_skip;
  for (;;) {
    switch (cpool__decode_step(req->decode, &in, &in_len, &out, &made)) {
    case CPOOL__DECODE_OK:
      break;
    case CPOOL__DECODE_NO_MEMORY:
      return give_up(transfer, CPOOL__ABORT_MEMORY);
    case CPOOL__DECODE_MALFORMED:
      refuse_encoding(transfer, "it is malformed");
      return 0;
    case CPOOL__DECODE_OVER_RATIO:
      refuse_encoding(transfer, "it grows beyond max_decompress_ratio");
      return 0;
    }
    if (made == 0)
      break;
    if (!decoded(transfer, out, made))
      return 0;
    if (req->stream != NULL && cpool__brake_check(transfer)) {
      req->decode_skip = len - in_len;
      return CURL_WRITEFUNC_PAUSE;
    }
  }
  req->decode_skip = 0;
  return len;
}

size_t cpool__body_take(struct cpool__transfer *transfer, const char *data, size_t len)
{
  struct cpool__request *req = transfer->req;
  curl_off_t expected = -1, cap = req->max_response_bytes;
  enum cpool__transfer_abort over = CPOOL__ABORT_BODY;
  if (cpool__hop_due(req)) {
    over = CPOOL__ABORT_REDIRECT;
    cap = cap < CPOOL__REDIRECT_BODY_BYTES ? cap : CPOOL__REDIRECT_BODY_BYTES;
  } else if (req->decode != NULL) {
    return decode(transfer, data, len);
  } else if (req->stream != NULL) {
    return to_stream(transfer, data, len) ? len : 0;
  }
  if (req->resp.body.data == NULL)
    curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &expected);
  if (req->kind != CPOOL__KIND_HEAD && expected > cap)
    return give_up(transfer, over);
  return collect(transfer, data, len, cap, expected, over) ? len : 0;
}
