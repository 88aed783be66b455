/* fork: a page that the kernel wipes in children is the mark of the process that made it */
#include "core/fork.h"

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MADE_HERE = 0x6370 }; /* anything but the 0 that a child reads */

static size_t page_bytes(void)
{
  return (size_t) sysconf(_SC_PAGESIZE);
}

void cpool__fork_mark_init(struct cpool__fork_mark *mark)
{
  mark->page = NULL;
  mark->pid = getpid();
  void *page = mmap(NULL, page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED)
    return;
  if (madvise(page, page_bytes(), MADV_WIPEONFORK) != 0) { /* before Linux 4.14, or an emulator */
    munmap(page, page_bytes());
    return;
  }
  mark->page = page;
  *mark->page = MADE_HERE;
}

void cpool__fork_mark_fini(struct cpool__fork_mark *mark)
{
  if (mark->page != NULL)
    munmap((void *) (uintptr_t) mark->page, page_bytes());
  mark->page = NULL;
  mark->pid = 0;
}

bool cpool__fork_mark_same_process(const struct cpool__fork_mark *mark)
{
  return mark->page != NULL ? *mark->page == MADE_HERE : getpid() == mark->pid;
}
