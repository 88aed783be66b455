/* error: what went wrong, in one struct, and the thread-local record of the last refused call */
#ifndef CPOOL_CORE_ERROR_H
#define CPOOL_CORE_ERROR_H

#include <stdarg.h>
#include <stddef.h>
#include <cpool.h>

/* One line for people into `out` (size > 0): cut to fit, never inside a UTF-8 sequence; control bytes become '?'. */
void cpool__line_format(char *out, size_t size, const char *format, va_list args) __attribute__((format(printf, 3, 0)));
/* Fills all of *err (size included); the text is made by cpool__line_format. Arguments may point into *err. */
void cpool__error_set(cpool_error *err, int status, int layer, int native, int flags, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
/* Records the refusal of a public call for cpool_last_error and returns `status`. */
int cpool__refuse(int status, int layer, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same from a filled error. */
int cpool__refuse_with(const cpool_error *err);

#endif
