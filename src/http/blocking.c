/* blocking: the calls that submit and wait */
#include <pthread.h>
#include <stdatomic.h>

#include "core/error.h"
#include "core/runtime.h"
#include "core/structs.h"
#include "core/wait.h"
#include "http/pool.h"
#include "http/session.h"

struct call {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  bool done;
  int status;
  cpool_response *resp;
};

static void on_done(const cpool_event *event)
{
  struct call *call = event->user;
  pthread_mutex_lock(&call->lock);
  call->resp = cpool_event_take_response(event);
  call->status = event->status;
  call->done = true;
  pthread_cond_broadcast(&call->cond);
  pthread_mutex_unlock(&call->lock);
}

int cpool_perform(cpool_session *session, const cpool_request *request, cpool_response **out)
{
  cpool_request own;
  struct call call = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
  if (session == NULL || request == NULL || out == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "perform: session, request and out are needed");
  *out = NULL;
  int rc = cpool__http_usable(session->pool);
  if (rc == CPOOL_OK)
    rc = cpool__struct_read(&own, sizeof own, request, "request");
  if (rc != CPOOL_OK)
    return rc;
  if (own.queue != NULL || own.on_event != NULL || own.user != NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                         "perform: queue, on_event and user of the request must be unset");
  if ((own.flags & (CPOOL_REQUEST_STREAM | CPOOL_REQUEST_UPLOAD | CPOOL_REQUEST_SSE)) != 0)
    return cpool__refuse(
        CPOOL_EINVAL, CPOOL_LAYER_CALLER,
        "perform: CPOOL_REQUEST_STREAM, CPOOL_REQUEST_UPLOAD and CPOOL_REQUEST_SSE need a queue or on_event");
  cpool_runtime *rt = session->pool->rt;
  if (!cpool__runtime_may_wait(rt))
    return cpool__refuse(CPOOL_EDEADLK, CPOOL_LAYER_CALLER, "perform: would wait for the thread that it runs on");
  own.on_event = on_done;
  own.user = &call;
  rc = cpool_submit(session, &own, NULL);
  if (rc != CPOOL_OK)
    return rc;
  cpool__wait(rt, &call.lock, &call.cond, &call.done);
  pthread_mutex_destroy(&call.lock);
  pthread_cond_destroy(&call.cond);
  *out = call.resp;
  return call.status;
}

int cpool_get(cpool_session *session, const char *url, cpool_response **out)
{
  cpool_request request;
  cpool_request_init(&request);
  request.url = url;
  return cpool_perform(session, &request, out);
}
