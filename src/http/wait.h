/* wait: a blocking call waits for the loop, or, in manual mode, steps it */
#ifndef CPOOL_HTTP_WAIT_H
#define CPOOL_HTTP_WAIT_H

#include <pthread.h>
#include <stdbool.h>
#include <cpool.h>

/* Any thread that may wait. Returns once *done, which is set under `lock` with a broadcast of `cond`. */
void cpool__wait(cpool_runtime *rt, pthread_mutex_t *lock, pthread_cond_t *cond, const bool *done);

#endif
