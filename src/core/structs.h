/* structs: sized structs cross the ABI here: an older caller's is short, a newer caller's long */
#ifndef CPOOL_CORE_STRUCTS_H
#define CPOOL_CORE_STRUCTS_H

#include <stddef.h>

/* Copies the caller's struct, whose first member is its size_t size, into `own` (own_size bytes): missing fields
 * become 0, own's size field becomes own_size. CPOOL_EINVAL (recorded; `what` names the struct): the size is 0 or
 * too small for the size field itself, or bytes beyond own_size are not 0 (fields that this library does not know). */
int cpool__struct_read(void *own, size_t own_size, const void *caller, const char *what);
/* Copies min(caller's size, own_size) bytes out, leaving the caller's size field as it was. CPOOL_EINVAL (recorded)
 * when the size is too small. */
int cpool__struct_write(void *caller, const void *own, size_t own_size, const char *what);

#endif
