/* stream_fixture: a consumer of streamed answers: takes events, checks their order, adds up what came */
#ifndef CPOOL_SUPPORT_STREAM_FIXTURE_H
#define CPOOL_SUPPORT_STREAM_FIXTURE_H

#include "support/pool_fixture.h"

/* What has come of one stream. */
struct got {
  int heads, ends;
  int status, code; /* of the end; of HTTP */
  size_t bytes;
  bool as_pattern; /* so far the bytes are fault_pattern's */
  cpool_response *resp;
};

static inline cpool_request stream_of(struct pool_fixture *f, const char *path)
{
  cpool_request req = request_of(f, path);
  req.flags = CPOOL_REQUEST_STREAM;
  return req;
}

/* One event of the stream, in its place. */
static inline void note(struct got *got, const cpool_event *event)
{
  assert_int_equal(got->ends, 0);
  switch (event->kind) {
  case CPOOL_EVENT_HEAD:
    assert_int_equal(got->heads++, 0);
    assert_int_equal(event->status, CPOOL_OK);
    assert_null(cpool_event_take_response(event));
    got->code = cpool_response_status(event->response);
    assert_true(got->code >= 200);
    got->as_pattern = true;
    break;
  case CPOOL_EVENT_BODY:
    assert_int_equal(got->heads, 1);
    assert_true(event->len > 0);
    for (size_t i = 0; i < event->len; i++)
      if (((const char *) event->data)[i] != fault_pattern((int64_t) (got->bytes + i)))
        got->as_pattern = false;
    got->bytes += event->len;
    break;
  case CPOOL_EVENT_RESPONSE:
    got->ends = 1;
    got->status = event->status;
    got->resp = cpool_event_take_response(event);
    break;
  default:
    fail_msg("an event of kind %d", (int) event->kind);
  }
}

/* The next event of the queue. */
static inline const cpool_event *next_event(struct pool_fixture *f)
{
  const cpool_event *event = NULL;
  assert_int_equal(cpool_queue_wait(f->queue, &event, 1, DEADLINE_MS), 1);
  return event;
}

/* Takes all of the one stream that is there. Its response is the caller's. */
static inline struct got drain(struct pool_fixture *f)
{
  struct got got = {0};
  while (got.ends == 0) {
    const cpool_event *event = next_event(f);
    note(&got, event);
    cpool_queue_release(f->queue, &event, 1);
  }
  return got;
}

/* The stream ends like that. */
#define expect_stream(f, wanted_status, wanted_bytes)                                                                  \
  do {                                                                                                                 \
    struct got got_ = drain(f);                                                                                        \
    if (got_.status != (wanted_status))                                                                                \
      print_error("%s, not %s\n", cpool_status_name(got_.status), cpool_status_name(wanted_status));                   \
    assert_int_equal(got_.status, wanted_status);                                                                      \
    assert_int_equal(got_.bytes, wanted_bytes);                                                                        \
    cpool_response_free(got_.resp);                                                                                    \
  } while (0)

#endif
