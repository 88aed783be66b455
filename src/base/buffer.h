/* buffer: bytes that grow up to a cap */
#ifndef CPOOL_BASE_BUFFER_H
#define CPOOL_BASE_BUFFER_H

#include <stddef.h>

struct cpool__buffer {
  char *data;
  size_t len, capacity;
};

enum cpool__buffer_result { CPOOL__BUFFER_OK, CPOOL__BUFFER_NO_MEMORY, CPOOL__BUFFER_OVER_CAP };

/* A zeroed struct is an empty buffer. Doubles; never holds more than `cap` bytes of data; unchanged on failure. */
enum cpool__buffer_result cpool__buffer_append(struct cpool__buffer *buffer, const void *data, size_t len, size_t cap);
/* Room for at least `capacity` bytes in all. */
enum cpool__buffer_result cpool__buffer_reserve(struct cpool__buffer *buffer, size_t capacity);
void cpool__buffer_fini(struct cpool__buffer *buffer); /* frees and zeroes */

#endif
