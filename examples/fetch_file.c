/* fetch_file: the body of an answer as a file, which has its name only when it is complete */
#include "fetch_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_stdout(struct fetch_file *file)
{
  file->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  return file->fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ? -1 : 0;
}

/* With the rights that open would give it. */
static int open_part(struct fetch_file *file)
{
  mode_t mask = umask(0);
  umask(mask);
  file->fd = mkostemp(file->part, O_CLOEXEC);
  return file->fd < 0 ? -1 : fchmod(file->fd, 0666 & ~mask);
}

int fetch_file_open(struct fetch_file *file, const char *name)
{
  static const char ending[] = ".XXXXXX";
  struct stat status;
  *file = (struct fetch_file){-1, NULL, NULL};
  if (strcmp(name, "-") == 0)
    return open_stdout(file);
  int there = stat(name, &status) == 0;
  if (there && S_ISDIR(status.st_mode)) {
    errno = EISDIR;
    return -1;
  }
  if (there && !S_ISREG(status.st_mode)) {
    file->fd = open(name, O_WRONLY | O_CLOEXEC);
    return file->fd < 0 ? -1 : 0;
  }
  file->name = there ? realpath(name, NULL) : strdup(name); /* a symbolic link stays one */
  file->part = file->name != NULL ? malloc(strlen(file->name) + sizeof ending) : NULL;
  if (file->part == NULL)
    return -1;
  strcpy(file->part, file->name);
  strcat(file->part, ending);
  return open_part(file);
}

int fetch_file_write(struct fetch_file *file, const void *data, size_t len)
{
  const char *at = data;
  while (len > 0) {
    ssize_t written = write(file->fd, at, len);
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0)
      return -1;
    at += written;
    len -= (size_t) written;
  }
  return 0;
}

int fetch_file_keep(struct fetch_file *file)
{
  int fd = file->fd;
  file->fd = -1;
  if (close(fd) != 0 || (file->name != NULL && rename(file->part, file->name) != 0))
    return -1;
  free(file->part);
  file->part = NULL;
  return 0;
}

void fetch_file_drop(struct fetch_file *file)
{
  if (file->fd >= 0)
    close(file->fd);
  if (file->part != NULL)
    unlink(file->part);
  free(file->part);
  free(file->name);
  *file = (struct fetch_file){-1, NULL, NULL};
}
