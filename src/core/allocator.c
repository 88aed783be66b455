/* allocator: the public hook */
#include "core/allocator.h"

#include <stdatomic.h>
#include <cpool.h>

#include "base/memory.h"
#include "core/error.h"

static _Atomic int object_count;

void cpool__objects_add(int delta)
{
  atomic_fetch_add(&object_count, delta);
}

int cpool_allocator_set(cpool_realloc_fn *fn, void *context)
{
  if (atomic_load(&object_count) > 0)
    return cpool__refuse(CPOOL_EBUSY, CPOOL_LAYER_CALLER, "allocator_set: objects of the library exist");
  cpool__memory_hook(fn, context);
  return CPOOL_OK;
}
