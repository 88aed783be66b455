/* log: one line to the caller's sink, or nothing at all */
#ifndef CPOOL_CORE_LOG_H
#define CPOOL_CORE_LOG_H

#include <cpool.h>

struct cpool__log {
  cpool_log_fn *fn; /* NULL: silent */
  void *user;
  int32_t level;
};

/* Formats (cut at 512 bytes, control bytes replaced) only when the level is wanted. */
void cpool__log(const struct cpool__log *log, int32_t level, const char *category, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
