/* log: one line to the caller's sink, or nothing at all */
#include "core/log.h"

#include <stdarg.h>

#include "core/error.h"

enum { LINE_BYTES = 512 };

void cpool__log(const struct cpool__log *log, int32_t level, const char *category, const char *format, ...)
{
  if (log->fn == NULL || level > log->level)
    return;
  char line[LINE_BYTES];
  va_list args;
  va_start(args, format);
  cpool__line_format(line, sizeof line, format, args);
  va_end(args);
  log->fn(log->user, level, category, line);
}
