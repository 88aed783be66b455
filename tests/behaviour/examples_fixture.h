/* examples_fixture: runs an example as a child, with its input, output and exit status in the test's hands */
#ifndef CPOOL_BEHAVIOUR_EXAMPLES_FIXTURE_H
#define CPOOL_BEHAVIOUR_EXAMPLES_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/fault_server.h"
#include "support/wait.h"

enum { RUN_MS = 20000, MAX_ARGS = 24, PATH_BYTES = 512, TEXT_BYTES = 256 };

struct fixture {
  struct fault_server *server;
  char base[64];
  char *dir; /* of the children's input and output */
  pid_t pid; /* -1: none runs */
  char *out, *err;
  char text[8][TEXT_BYTES]; /* room for URLs, see url() */
};

static char *read_text(struct fixture *f, const char *name)
{
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/%s", f->dir, name);
  FILE *file = fopen(path, "rb");
  char *text = NULL;
  size_t len = 0, got = 0;
  if (file == NULL)
    support_die("cannot read %s", path);
  do {
    text = realloc(text, len + 4097);
    if (text == NULL)
      support_die("out of memory");
    got = fread(text + len, 1, 4096, file);
    len += got;
  } while (got > 0);
  text[len] = '\0';
  fclose(file);
  return text;
}

static void redirect(struct fixture *f, const char *name, int fd, int flags)
{
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/%s", f->dir, name);
  int file = open(path, flags | O_CLOEXEC, 0600);
  if (file < 0 || dup2(file, fd) < 0)
    _exit(126);
}

/* args: NULL at the end. input: NULL for none. stderr_fd: -1 for the file. */
static void start(struct fixture *f, const char *name, const char *const *args, const char *input, int stderr_fd)
{
  char program[PATH_BYTES], path[PATH_BYTES];
  char *argv[MAX_ARGS] = {program};
  snprintf(program, sizeof program, "%s/%s", CPOOL_EXAMPLES_DIR, name);
  for (int i = 0; args[i] != NULL; i++) {
    if (i + 2 >= MAX_ARGS)
      support_die("more than %d arguments", MAX_ARGS);
    argv[i + 1] = (char *) args[i];
  }
  snprintf(path, sizeof path, "%s/in", f->dir);
  write_file(path, input != NULL ? input : "", input != NULL ? strlen(input) : 0);
  f->pid = fork();
  if (f->pid < 0)
    support_die("cannot fork");
  if (f->pid == 0) {
    redirect(f, "in", STDIN_FILENO, O_RDONLY);
    redirect(f, "out", STDOUT_FILENO, O_WRONLY | O_CREAT | O_TRUNC);
    if (stderr_fd < 0)
      redirect(f, "err", STDERR_FILENO, O_WRONLY | O_CREAT | O_TRUNC);
    else
      dup2(stderr_fd, STDERR_FILENO);
    execv(program, argv);
    _exit(127);
  }
}

struct ending {
  struct fixture *f;
  int status;
};

static bool has_ended(void *arg)
{
  struct ending *ending = arg;
  if (waitpid(ending->f->pid, &ending->status, WNOHANG) != ending->f->pid)
    return false;
  ending->f->pid = -1;
  return true;
}

/* The exit status; 1000 + the signal that ended it; -1 when it still runs after RUN_MS. Then out and err are there. */
static int end(struct fixture *f)
{
  struct ending ending = {.f = f};
  if (!wait_until(has_ended, &ending, RUN_MS))
    return -1;
  free(f->out);
  free(f->err);
  f->out = read_text(f, "out");
  f->err = read_text(f, "err");
  return WIFEXITED(ending.status) ? WEXITSTATUS(ending.status) : 1000 + WTERMSIG(ending.status);
}

/* RUN(f, "get", URL): runs it to its end. */
#define RUN(f, ...) run_with_input((f), NULL, (const char *const[]){__VA_ARGS__, NULL})
#define RUN_INPUT(f, input, ...) run_with_input((f), (input), (const char *const[]){__VA_ARGS__, NULL})

static int run_with_input(struct fixture *f, const char *input, const char *const *args)
{
  start(f, args[0], args + 1, input, -1);
  return end(f);
}

/* A URL of the server; eight are valid at a time. */
static const char *url(struct fixture *f, const char *path)
{
  static int next;
  char *text = f->text[next++ % 8];
  snprintf(text, TEXT_BYTES, "%s%s", f->base, path);
  return text;
}

static void start_server(struct fixture *f, const struct fault_options *options)
{
  fault_server_stop(f->server);
  f->server = fault_server_start(options);
  if (f->server == NULL)
    support_die("the server did not start");
  bool tls = options->tls_cert_file != NULL;
  snprintf(f->base, sizeof f->base, "%s://127.0.0.1:%u", tls ? "https" : "http", fault_server_port(f->server));
}

static int set_up(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL)
    return -1;
  f->pid = -1;
  f->dir = temp_dir_new();
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/err", f->dir);
  write_file(path, "", 0);
  start_server(f, &(struct fault_options){0});
  *state = f;
  return 0;
}

static int tear_down(void **state)
{
  struct fixture *f = *state;
  if (f->pid > 0) {
    kill(f->pid, SIGKILL);
    waitpid(f->pid, NULL, 0);
  }
  fault_server_stop(f->server);
  temp_dir_free(f->dir);
  free(f->out);
  free(f->err);
  free(f);
  return 0;
}

#endif
