/* memory: every allocation of the library goes through these, so that the allocator hook sees all of them */
#ifndef CPOOL_BASE_MEMORY_H
#define CPOOL_BASE_MEMORY_H

#include <stdalign.h>
#include <stddef.h>

/* The functions in force, set once by cpool_allocator_set; the C library's until then. */
typedef void *cpool__realloc_fn(void *context, void *ptr, size_t size);

/* Each returns NULL when memory is short; a size of 0 is asked as 1. The calloc form zeroes and refuses an overflow. */
void *cpool__malloc(size_t size);
void *cpool__calloc(size_t count, size_t size);
void *cpool__realloc(void *ptr, size_t size);
void cpool__free(void *ptr);           /* NULL is legal */
char *cpool__strdup(const char *text); /* NULL in, NULL out */

/* Where in a block of several objects the next one may begin. */
static inline size_t cpool__align_up(size_t size)
{
  return (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
}

/* One function does it all: size 0 frees, ptr NULL allocates. NULL restores the C library's. */
void cpool__memory_hook(cpool__realloc_fn *fn, void *context);

#endif
