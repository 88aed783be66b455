/* allocator: the public hook, and the count of objects that forbids to change it */
#ifndef CPOOL_CORE_ALLOCATOR_H
#define CPOOL_CORE_ALLOCATOR_H

/* Any thread: a runtime or queue comes (+1) or is gone (-1). Pools live on runtimes. */
void cpool__objects_add(int delta);

#endif
