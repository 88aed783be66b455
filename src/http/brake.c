/* brake: pause at a mark, resume at the other
 *
 *   a piece arrives, a mark is exceeded   -> a waiter at that mark; the transfer is paused
 *   the low mark is reached               -> the waiter's message: the transfer is resumed, libcurl offers the piece again
 *   the transfer ends before              -> the waiter is taken back, or its message arrives late and finds nothing
 *
 * The message holds the request, since it may arrive after the end. Until it has, there can be no second one: a transfer
 * that is to pause meanwhile (after a redirect) relies on it. */
#include "http/brake.h"

#include <assert.h>

#include "core/queue.h"
#include "http/conn.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/stream.h"
#include "http/transfer.h"

static bool wait_at(struct cpool__request *req, enum cpool__brake brake)
{
  switch (brake) {
  case CPOOL__BRAKE_STREAM:
    return cpool__budget_pause(req->stream->window, &req->brake_waiter);
  case CPOOL__BRAKE_POOL:
    return cpool__budget_pause(req->stream->pool, &req->brake_waiter);
  case CPOOL__BRAKE_QUEUE:
    return cpool__queue_pause(req->event.queue, &req->brake_waiter);
  case CPOOL__BRAKE_OFF:
    break;
  }
  return false;
}

static bool take_back(struct cpool__request *req)
{
  switch (req->brake) {
  case CPOOL__BRAKE_STREAM:
    return cpool__budget_unpause(req->stream->window, &req->brake_waiter);
  case CPOOL__BRAKE_POOL:
    return cpool__budget_unpause(req->stream->pool, &req->brake_waiter);
  case CPOOL__BRAKE_QUEUE:
    return cpool__queue_unpause(req->event.queue, &req->brake_waiter);
  case CPOOL__BRAKE_OFF:
    break;
  }
  return false;
}

static enum cpool__brake needed(const struct cpool__request *req)
{
  if (req->stream != NULL && cpool__water_above(&req->stream->window->water))
    return CPOOL__BRAKE_STREAM;
  if (req->stream != NULL && cpool__water_above(&req->stream->pool->water))
    return CPOOL__BRAKE_POOL;
  return req->event.queue != NULL && cpool__queue_above(req->event.queue) ? CPOOL__BRAKE_QUEUE : CPOOL__BRAKE_OFF;
}

bool cpool__brake_check(struct cpool__transfer *transfer)
{
  struct cpool__request *req = transfer->req;
  enum cpool__brake brake;
  if (transfer->conn != NULL && transfer->conn->http2)
    return false; /* collected, within its cap: to let it wait would cost more memory than to take it */
  assert(req->brake == CPOOL__BRAKE_OFF);
  do { /* a mark may be reached between the look and the wait: look again */
    brake = needed(req);
    if (brake == CPOOL__BRAKE_OFF)
      return false;
    req->brake_waiter.runtime = req->pool->rt;
  } while (!req->brake_posted && !wait_at(req, brake));
  if (!req->brake_posted) {
    atomic_fetch_add_explicit(&req->refs, 1, memory_order_relaxed); /* until the message arrives or is taken back */
    req->brake = brake;
  }
  transfer->paused = true;
  req->pool->stats.now.paused_requests++;
  cpool__http_touch(req->pool);
  /* libcurl says nothing of a socket that it read from without waiting for it, and the bytes behind this piece would
   * wake the loop for as long as it is held back. */
  if (transfer->conn != NULL && transfer->conn->fd >= 0 && !transfer->conn->http2)
    cpool__poller_want(cpool__runtime_poller(req->pool->rt), transfer->conn->fd, 0);
  return true;
}

void cpool__brake_off(struct cpool__request *req)
{
  if (req->brake == CPOOL__BRAKE_OFF)
    return;
  bool waited = take_back(req);
  req->brake = CPOOL__BRAKE_OFF;
  if (waited)
    cpool__request_unref(req); /* the message will not come */
  else
    req->brake_posted = true;
}

static void on_low_water(struct cpool__msg *msg)
{
  struct cpool__request *req = cpool__container_of(msg, struct cpool__request, brake_waiter.msg);
  req->brake_posted = false;
  req->brake = CPOOL__BRAKE_OFF;
  if (req->state == CPOOL__REQUEST_ACTIVE && req->transfer != NULL && req->transfer->paused)
    cpool__transfer_resume(req->transfer);
  cpool__request_unref(req);
}

void cpool__brake_init(struct cpool__request *req)
{
  req->brake_waiter.msg.fn = on_low_water;
}
