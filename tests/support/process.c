/* process: a real server as a child: started, waited for until it accepts, stopped and reaped by its pid */
#include "support/process_child.h"

#include "support/raw_client.h"
#include "support/wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_DEADLINE_MS = 10 * 1000, TERM_DEADLINE_MS = 2000 };

struct process *process_new(void)
{
  struct process *process = calloc(1, sizeof *process);
  if (process == NULL)
    support_die("out of memory");
  process->dir = temp_dir_new();
  process->pid = process->pid_fd = -1;
  return process;
}

void process_write(const struct process *process, const char *name, const char *data, size_t len)
{
  char path[PROCESS_PATH_BYTES];
  snprintf(path, sizeof path, "%s/%s", process->dir, name);
  write_file(path, data, len);
}

/* In the child, between fork and exec: system calls only. Servers end their workers on SIGTERM, hence that signal. */
static void become(const char *const *argv, const char *sbin_path, int log_fd, pid_t parent)
{
  sigset_t none;
  sigemptyset(&none);
  if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent)
    _exit(127);
  signal(SIGPIPE, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, NULL);
  int in_fd = open("/dev/null", O_RDONLY);
  if (in_fd < 0 || dup2(in_fd, 0) < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0)
    _exit(127);
  close_range(3, ~0U, 0);
  execvp(argv[0], (char *const *) (uintptr_t) argv);
  execv(sbin_path, (char *const *) (uintptr_t) argv);
  (void) !write(2, "not installed\n", 14);
  _exit(127);
}

static void print_log(const struct process *process, const char *name)
{
  char line[512], path[PROCESS_PATH_BYTES];
  snprintf(path, sizeof path, "%s/output.log", process->dir);
  FILE *log = fopen(path, "re");
  fprintf(stderr, "%s did not start; it said:\n", name);
  while (log != NULL && fgets(line, sizeof line, log) != NULL)
    fprintf(stderr, "  %s", line);
  if (log != NULL)
    fclose(log);
}

static bool accepts(uint16_t port)
{
  struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
  addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool accepted = fd >= 0 && connect(fd, (struct sockaddr *) &addr, sizeof addr) == 0;
  if (fd >= 0)
    close(fd);
  return accepted;
}

static bool accepts_unix(const char *path)
{
  int fd = raw_connect_unix(path);
  if (fd >= 0)
    close(fd);
  return fd >= 0;
}

static bool has_ended(const struct process *process)
{
  return wait_fd(process->pid_fd, POLLIN, 0) != 0;
}

static bool is_ready_or_ended(void *ctx)
{
  struct process *process = ctx;
  return has_ended(process) || (accepts(process->port) && (process->tls_port == 0 || accepts(process->tls_port)) &&
                                (process->unix_path[0] == '\0' || accepts_unix(process->unix_path)));
}

bool process_run(struct process *process, const char *const *argv)
{
  char path[PROCESS_PATH_BYTES], sbin_path[PROCESS_PATH_BYTES];
  pid_t parent = getpid();
  snprintf(sbin_path, sizeof sbin_path, "/usr/sbin/%s", argv[0]); /* not in every user's PATH */
  snprintf(path, sizeof path, "%s/output.log", process->dir);
  int log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (log_fd < 0)
    support_die("cannot write %s: %s", path, strerror(errno));
  process->pid = fork();
  if (process->pid == 0)
    become(argv, sbin_path, log_fd, parent);
  close(log_fd);
  if (process->pid < 0)
    support_die("cannot fork: %s", strerror(errno));
  process->pid_fd = pidfd_open(process->pid, 0);
  if (process->pid_fd < 0)
    support_die("no pidfd: %s", strerror(errno));
  if (wait_until(is_ready_or_ended, process, READY_DEADLINE_MS) && !has_ended(process))
    return true;
  print_log(process, argv[0]);
  return false;
}

void process_stop(struct process *process)
{
  if (process == NULL)
    return;
  if (process->pid > 0) {
    (void) kill(process->pid, SIGTERM);
    if (wait_fd(process->pid_fd, POLLIN, TERM_DEADLINE_MS) == 0)
      (void) kill(process->pid, SIGKILL);
    while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    close(process->pid_fd);
  }
  temp_dir_free(process->dir);
  free(process);
}

bool process_signal(struct process *process, int signal)
{
  return !has_ended(process) && kill(process->pid, signal) == 0;
}

uint16_t process_port(const struct process *process)
{
  return process->port;
}

uint16_t process_tls_port(const struct process *process)
{
  return process->tls_port;
}

const char *process_unix_path(const struct process *process)
{
  return process->unix_path;
}

const char *process_dir(const struct process *process)
{
  return process->dir;
}

pid_t process_pid(const struct process *process)
{
  return process->pid;
}
