/* wait: a blocking call waits for the loop, or, in manual mode, steps it */
#include "core/wait.h"

#include <time.h>

#include "core/error.h"
#include "core/inbox.h"
#include "core/runtime.h"

enum { OTHER_STEPPER_MS = 10 }; /* manual mode, another thread steps: it may stop doing so without a word */

void cpool__wait(cpool_runtime *rt, pthread_mutex_t *lock, pthread_cond_t *cond, const bool *done)
{
  pthread_mutex_lock(lock);
  while (!*done) {
    if (!cpool__runtime_is_manual(rt)) {
      pthread_cond_wait(cond, lock);
      continue;
    }
    pthread_mutex_unlock(lock);
    int rc = cpool_runtime_step(rt, CPOOL_OFF);
    pthread_mutex_lock(lock);
    if (rc < 0 && !*done) {
      struct timespec until;
      clock_gettime(CLOCK_REALTIME, &until);
      until.tv_nsec += OTHER_STEPPER_MS * 1000000L;
      until.tv_sec += until.tv_nsec / 1000000000L;
      until.tv_nsec %= 1000000000L;
      pthread_cond_timedwait(cond, lock, &until);
    }
  }
  pthread_mutex_unlock(lock);
}

struct call {
  struct cpool__msg msg;
  pthread_mutex_t lock;
  pthread_cond_t cond;
  bool done;
  int (*fn)(void *arg);
  void *arg;
  int result;
  cpool_error error;
};

static void on_call(struct cpool__msg *msg)
{
  struct call *call = cpool__container_of(msg, struct call, msg);
  int result = call->fn(call->arg);
  pthread_mutex_lock(&call->lock);
  call->result = result;
  if (result < 0)
    (void) cpool_last_error(&call->error);
  call->done = true;
  pthread_cond_broadcast(&call->cond);
  pthread_mutex_unlock(&call->lock); /* the call is its caller's from here on */
}

int cpool__call(cpool_runtime *rt, int (*fn)(void *arg), void *arg)
{
  if (cpool__runtime_on_loop(rt))
    return fn(arg);
  if (!cpool__runtime_may_wait(rt))
    return cpool__refuse(CPOOL_EDEADLK, CPOOL_LAYER_CALLER, "would wait for another loop inside a callback");
  struct call call = {.msg.fn = on_call,
                      .lock = PTHREAD_MUTEX_INITIALIZER,
                      .cond = PTHREAD_COND_INITIALIZER,
                      .fn = fn,
                      .arg = arg,
                      .error.size = sizeof call.error};
  cpool__runtime_post(rt, &call.msg);
  cpool__wait(rt, &call.lock, &call.cond, &call.done);
  return call.result < 0 ? cpool__refuse_with(&call.error) : call.result;
}
