/* buffer: growth by doubling, with every sum checked before it is made */
#include "base/buffer.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"

enum { SMALLEST_BYTES = 256 }; /* saves the first few doublings of a body or a header block */

enum cpool__buffer_result cpool__buffer_reserve(struct cpool__buffer *buffer, size_t capacity)
{
  if (capacity <= buffer->capacity)
    return CPOOL__BUFFER_OK;
  char *data = cpool__realloc(buffer->data, capacity);
  if (data == NULL)
    return CPOOL__BUFFER_NO_MEMORY;
  buffer->data = data;
  buffer->capacity = capacity;
  return CPOOL__BUFFER_OK;
}

enum cpool__buffer_result cpool__buffer_append(struct cpool__buffer *buffer, const void *data, size_t len, size_t cap)
{
  if (buffer->len > cap || len > cap - buffer->len)
    return CPOOL__BUFFER_OVER_CAP;
  if (len == 0) /* data may be NULL then, which memcpy must not see */
    return CPOOL__BUFFER_OK;

  size_t needed = buffer->len + len; /* <= cap: cannot overflow */
  if (needed > buffer->capacity) {
    size_t capacity = buffer->capacity > SIZE_MAX / 2 ? SIZE_MAX : buffer->capacity * 2;
    if (capacity < SMALLEST_BYTES)
      capacity = SMALLEST_BYTES;
    if (capacity < needed)
      capacity = needed;
    if (capacity > cap)
      capacity = cap;
    enum cpool__buffer_result result = cpool__buffer_reserve(buffer, capacity);
    if (result != CPOOL__BUFFER_OK)
      return result;
  }
  memcpy(buffer->data + buffer->len, data, len);
  buffer->len = needed;
  return CPOOL__BUFFER_OK;
}

void cpool__buffer_fini(struct cpool__buffer *buffer)
{
  cpool__free(buffer->data);
  *buffer = (struct cpool__buffer){0};
}
