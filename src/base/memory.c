/* memory: the one place that reaches the C library's allocator, or the hook in its stead */
#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Set once before any other use of the library, read by every thread from then on: no lock. NULL: the C library's. */
static cpool__realloc_fn *hook;
static void *hook_context;

void cpool__memory_hook(cpool__realloc_fn *fn, void *context)
{
  hook = fn;
  hook_context = fn == NULL ? NULL : context;
}

void *cpool__realloc(void *ptr, size_t size)
{
  if (size == 0)
    size = 1; /* to the hook 0 means free; to realloc(3) it means whatever the platform chose */
  return hook != NULL ? hook(hook_context, ptr, size) : realloc(ptr, size);
}

void *cpool__malloc(size_t size)
{
  return cpool__realloc(NULL, size);
}

void *cpool__calloc(size_t count, size_t size)
{
  if (size != 0 && count > SIZE_MAX / size)
    return NULL;
  size_t total = count * size;
  if (hook == NULL) /* large blocks come zeroed from the kernel, page by page as they are touched */
    return calloc(1, total == 0 ? 1 : total);
  void *ptr = cpool__realloc(NULL, total);
  if (ptr != NULL)
    memset(ptr, 0, total);
  return ptr;
}

void cpool__free(void *ptr)
{
  if (ptr == NULL)
    return;
  if (hook != NULL)
    hook(hook_context, ptr, 0);
  else
    free(ptr);
}

char *cpool__strdup(const char *text)
{
  if (text == NULL)
    return NULL;
  size_t size = strlen(text) + 1;
  char *copy = cpool__malloc(size);
  if (copy != NULL)
    memcpy(copy, text, size);
  return copy;
}
