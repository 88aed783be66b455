/* proxies: the configurations of the real proxies */
#include "support/proxies.h"

#include "support/process_child.h"
#include "support/wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PEM_BYTES = 16384 };

struct want {
  const char *user, *password;
  const struct cert_pair *pair;
  uint16_t backend_port;
};

typedef bool run_fn(struct process *process, const struct want *want);

static struct process *start(run_fn *run, struct want want)
{
  for (int tries = 0; tries < PROCESS_TRIES; tries++) {
    struct process *process = process_new();
    process->port = unused_port();
    if (run(process, &want))
      return process;
    process_stop(process);
  }
  return NULL;
}

static bool run_tinyproxy(struct process *process, const struct want *want)
{
  char text[2048], config[PROCESS_PATH_BYTES], credentials[512] = "";
  if (want->user != NULL)
    snprintf(credentials, sizeof credentials, "BasicAuth %s %s\n", want->user, want->password);
  /* without ConnectPort lines every port may be connected to */
  int len = snprintf(text, sizeof text,
                     "Port %u\nListen 127.0.0.1\nTimeout 60\nMaxClients 500\nAllow 127.0.0.1\n"
                     "LogFile \"%s/proxy.log\"\nLogLevel Connect\n%s",
                     (unsigned) process->port, process->dir, credentials);
  process_write(process, "tinyproxy.conf", text, (size_t) len);
  snprintf(config, sizeof config, "%s/tinyproxy.conf", process->dir);
  return process_run(process, (const char *const[]){"tinyproxy", "-d", "-c", config, NULL});
}

struct process *tinyproxy_start(const char *user, const char *password)
{
  return start(run_tinyproxy, (struct want){.user = user, .password = password});
}

static bool run_microsocks(struct process *process, const struct want *want)
{
  char port[16];
  snprintf(port, sizeof port, "%u", (unsigned) process->port);
  return process_run(process,
                     (const char *const[]){"microsocks", "-i", "127.0.0.1", "-p", port,
                                           want->user != NULL ? "-u" : NULL, want->user, "-P", want->password, NULL});
}

struct process *microsocks_start(const char *user, const char *password)
{
  return start(run_microsocks, (struct want){.user = user, .password = password});
}

static size_t read_pem(const char *path, char *out)
{
  FILE *in = fopen(path, "r");
  if (in == NULL)
    support_die("cannot read %s", path);
  size_t len = fread(out, 1, PEM_BYTES, in);
  fclose(in);
  return len;
}

static bool run_tls_front(struct process *process, const struct want *want)
{
  char pem[2 * PEM_BYTES], text[1024], config[PROCESS_PATH_BYTES];
  size_t pem_len = read_pem(want->pair->cert_file, pem);
  pem_len += read_pem(want->pair->key_file, pem + pem_len);
  process_write(process, "front.pem", pem, pem_len);
  int len = snprintf(text, sizeof text,
                     "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 2s\n  timeout client 60s\n"
                     "  timeout server 60s\nfrontend tests\n  bind 127.0.0.1:%u ssl crt %s/front.pem\n"
                     "  default_backend proxy\nbackend proxy\n  server one 127.0.0.1:%u\n",
                     (unsigned) process->port, process->dir, (unsigned) want->backend_port);
  process_write(process, "haproxy.cfg", text, (size_t) len);
  snprintf(config, sizeof config, "%s/haproxy.cfg", process->dir);
  return process_run(process, (const char *const[]){"haproxy", "-db", "-f", config, NULL});
}

struct process *tls_front_start(const struct cert_pair *pair, uint16_t backend_port)
{
  return start(run_tls_front, (struct want){.pair = pair, .backend_port = backend_port});
}
