/* wait: a blocking call waits for the loop, or, in manual mode, steps it */
#ifndef CPOOL_CORE_WAIT_H
#define CPOOL_CORE_WAIT_H

#include <pthread.h>
#include <stdbool.h>
#include <cpool.h>

/* Any thread that may wait. Returns once *done, which is set under `lock` with a broadcast of `cond`. */
void cpool__wait(cpool_runtime *rt, pthread_mutex_t *lock, pthread_cond_t *cond, const bool *done);
/* Runs fn(arg) on the loop thread and returns what it returns, with what it recorded for cpool_last_error: at once on
 * that thread, else when the loop has come to it. CPOOL_EDEADLK (recorded): inside a callback of another loop. */
int cpool__call(cpool_runtime *rt, int (*fn)(void *arg), void *arg);

#endif
