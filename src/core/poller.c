/* poller: a record per fd says what is wanted and what the epoll set holds; the two meet once per turn
 *
 *   watch, want   note the interest, link the record into the list of changed ones
 *   apply         one epoll_ctl for each record whose interest is not what the set holds
 *   poll          epoll_wait without waiting; an event counts only for the interest noted at this moment
 *   forget        the one change made at once: the fd is about to be closed
 *
 * An event carries its record's generation. It changes when an fd is forgotten, so that an event fetched for the fd's
 * earlier life is not taken for one of the next socket with the same number. */
#include "core/poller.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cpool.h>

#include "base/memory.h"

enum {
  BATCH = 256,     /* events per epoll_wait: 3 KiB of stack */
  MAX_BATCHES = 4, /* per poll: a flood of events leaves room for the timers and the inbox */
  FIRST_CAPACITY = 64,
  NOT_DIRTY = -2,
  LAST_DIRTY = -1
};

/* Reported by the kernel whether asked for or not. */
static const uint32_t ALWAYS = EPOLLERR | EPOLLHUP;

int cpool__poller_init(struct cpool__poller *poller)
{
  *poller = (struct cpool__poller){.first_dirty = LAST_DIRTY};
  poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  return poller->epoll_fd < 0 ? CPOOL_ESYSTEM : CPOOL_OK;
}

void cpool__poller_fini(struct cpool__poller *poller)
{
  if (poller->epoll_fd >= 0)
    close(poller->epoll_fd);
  cpool__free(poller->records);
  *poller = (struct cpool__poller){.epoll_fd = -1, .first_dirty = LAST_DIRTY};
}

/* NULL when the fd is not watched. */
static struct cpool__poller_record *find(struct cpool__poller *poller, int fd)
{
  if (fd < 0 || fd >= poller->capacity || poller->records[fd].fn == NULL)
    return NULL;
  return &poller->records[fd];
}

static void mark_dirty(struct cpool__poller *poller, int fd)
{
  struct cpool__poller_record *record = &poller->records[fd];
  if (record->next_dirty != NOT_DIRTY || record->want == record->have)
    return;
  record->next_dirty = poller->first_dirty;
  poller->first_dirty = fd;
}

static bool grow(struct cpool__poller *poller, int fd)
{
  int capacity = poller->capacity == 0 ? FIRST_CAPACITY : poller->capacity;
  while (capacity <= fd) {
    if (capacity > INT32_MAX / 2)
      return false;
    capacity *= 2;
  }
  struct cpool__poller_record *records = cpool__realloc(poller->records, (size_t) capacity * sizeof *records);
  if (records == NULL)
    return false;
  for (int i = poller->capacity; i < capacity; i++)
    records[i] = (struct cpool__poller_record){.next_dirty = NOT_DIRTY};
  poller->records = records;
  poller->capacity = capacity;
  return true;
}

int cpool__poller_watch(struct cpool__poller *poller, int fd, uint32_t want, cpool__poller_fn *fn, void *owner)
{
  assert(fd >= 0 && fn != NULL);
  if (fd >= poller->capacity && !grow(poller, fd))
    return CPOOL_ENOMEM;
  struct cpool__poller_record *record = &poller->records[fd];
  record->fn = fn;
  record->owner = owner;
  record->want = want;
  mark_dirty(poller, fd);
  return CPOOL_OK;
}

void cpool__poller_want(struct cpool__poller *poller, int fd, uint32_t want)
{
  struct cpool__poller_record *record = find(poller, fd);
  if (record == NULL)
    return;
  record->want = want;
  mark_dirty(poller, fd);
}

/* A dirty record stays in its list: apply finds it without a function and drops it. */
static void clear(struct cpool__poller_record *record)
{
  record->fn = NULL;
  record->owner = NULL;
  record->want = record->have = 0;
  record->generation++;
}

void cpool__poller_forget(struct cpool__poller *poller, int fd)
{
  struct cpool__poller_record *record = find(poller, fd);
  if (record == NULL)
    return;
  /* close() alone would not do: a forked child may share the open file, and the set would keep it. */
  if (record->have != 0)
    epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
  clear(record);
}

static int control(struct cpool__poller *poller, int op, int fd)
{
  const struct cpool__poller_record *record = &poller->records[fd];
  struct epoll_event event = {.events = record->want};
  event.data.u64 = (uint64_t) record->generation << 32 | (uint32_t) fd;
  return epoll_ctl(poller->epoll_fd, op, fd, &event) == 0 ? 0 : errno;
}

static void apply_one(struct cpool__poller *poller, int fd)
{
  struct cpool__poller_record *record = &poller->records[fd];
  if (record->fn == NULL || record->want == record->have)
    return;

  int error;
  if (record->want == 0) {
    error = control(poller, EPOLL_CTL_DEL, fd);
    if (error == ENOENT) /* closed and opened anew behind our back */
      error = 0;
  } else if (record->have == 0) {
    error = control(poller, EPOLL_CTL_ADD, fd);
    if (error == EEXIST)
      error = control(poller, EPOLL_CTL_MOD, fd);
  } else {
    error = control(poller, EPOLL_CTL_MOD, fd);
    if (error == ENOENT)
      error = control(poller, EPOLL_CTL_ADD, fd);
  }

  if (error == 0)
    record->have = record->want;
  else if (error == EBADF || error == EPERM) /* closed, or nothing that can be polled */
    clear(record);
  else /* memory or the user's limit on watches: asked again at the next turn, the owner's deadline is the net */
    mark_dirty(poller, fd);
}

void cpool__poller_apply(struct cpool__poller *poller)
{
  int fd = poller->first_dirty;
  poller->first_dirty = LAST_DIRTY;
  while (fd != LAST_DIRTY) {
    struct cpool__poller_record *record = &poller->records[fd];
    int next = record->next_dirty;
    record->next_dirty = NOT_DIRTY;
    apply_one(poller, fd);
    fd = next;
  }
}

static void dispatch(struct cpool__poller *poller, const struct epoll_event *event)
{
  int fd = (int) (event->data.u64 & UINT32_MAX);
  struct cpool__poller_record *record = find(poller, fd);
  if (record == NULL || record->generation != (uint32_t) (event->data.u64 >> 32) || record->want == 0)
    return;
  uint32_t events = event->events & (record->want | ALWAYS);
  if (events != 0)
    record->fn(record->owner, fd, events); /* may move the records */
}

int cpool__poller_poll(struct cpool__poller *poller)
{
  struct epoll_event events[BATCH];
  int total = 0;
  for (int batch = 0; batch < MAX_BATCHES; batch++) {
    int count = epoll_wait(poller->epoll_fd, events, BATCH, 0);
    for (int i = 0; i < count; i++)
      dispatch(poller, &events[i]);
    if (count > 0)
      total += count;
    if (count < BATCH)
      break;
  }
  return total;
}
