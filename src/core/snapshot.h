/* snapshot: words that one thread writes and any thread reads as they were at one moment
 *
 * A sequence lock: the writer never waits, a reader may have to read again. The words are atomic for the standard's sake; on
 * x86 reading and writing them are plain moves. */
#ifndef CPOOL_CORE_SNAPSHOT_H
#define CPOOL_CORE_SNAPSHOT_H

#include <stdatomic.h>
#include <stdint.h>

/* The one writer. `sequence` is 0 at first. */
void cpool__snapshot_write(_Atomic uint32_t *sequence, _Atomic uint64_t *words, const void *from, int count);
/* Any thread: a consistent copy of `count` words. */
void cpool__snapshot_read(_Atomic uint32_t *sequence, _Atomic uint64_t *words, void *to, int count);

#endif
