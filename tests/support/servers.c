/* servers: the configurations of the real servers
 *
 * A free port can be taken by somebody else before the server binds it: each start tries again with new ports. */
#include "support/process_child.h"

#include "support/wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BIG_BYTES = 1024 * 1024 };

struct text {
  char *data;
  size_t len;
};

typedef bool start_fn(struct process *process, const void *options);

static struct process *start(start_fn *run, const void *options)
{
  for (int tries = 0; tries < PROCESS_TRIES; tries++) {
    struct process *process = process_new();
    if (run(process, options))
      return process;
    process_stop(process);
  }
  return NULL;
}

/* DIR/html with the files that every file server here has. */
static void write_html(const struct process *process)
{
  char dir[PROCESS_PATH_BYTES];
  snprintf(dir, sizeof dir, "%s/html", process->dir);
  if (mkdir(dir, 0755) != 0)
    support_die("cannot make %s", dir);
  char *big = malloc(BIG_BYTES);
  if (big == NULL)
    support_die("out of memory");
  for (int i = 0; i < BIG_BYTES; i++)
    big[i] = (char) ('a' + i % 26);
  process_write(process, "html/index.html", "hello\n", 6);
  process_write(process, "html/big", big, BIG_BYTES);
  free(big);
}

static void write_nginx_global(FILE *out, const struct process *process, const struct nginx_options *o)
{
  if (geteuid() == 0)
    fprintf(out, "user root;\n");
  fprintf(out, "daemon off;\npid %s/nginx.pid;\nerror_log %s/error.log;\n", process->dir, process->dir);
  fprintf(out, "worker_processes %d;\nworker_rlimit_nofile 8192;\n", o->workers != 0 ? o->workers : 1);
  if (o->cpu_affinity != NULL)
    fprintf(out, "worker_cpu_affinity %s;\n", o->cpu_affinity);
  fprintf(out, "events { worker_connections 4096; }\nhttp {\n");
  static const char *const temp_kinds[] = {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"};
  for (size_t i = 0; i < sizeof temp_kinds / sizeof temp_kinds[0]; i++)
    fprintf(out, "  %s_temp_path %s/%s;\n", temp_kinds[i], process->dir, temp_kinds[i]);
  if (o->access_log)
    fprintf(out,
            "  log_format plain '$connection $connection_requests \"$request\" $status $http_host $ssl_server_name "
            "$ssl_session_reused $body_bytes_sent';\n  access_log %s/access.log plain;\n",
            process->dir);
  else
    fprintf(out, "  access_log off;\n");
  if (o->keepalive_timeout_ms > 0)
    fprintf(out, "  keepalive_timeout %lldms;\n", (long long) o->keepalive_timeout_ms);
  else if (o->keepalive_timeout_ms < 0)
    fprintf(out, "  keepalive_timeout 0;\n");
  if (o->keepalive_requests > 0)
    fprintf(out, "  keepalive_requests %lld;\n", (long long) o->keepalive_requests);
}

static void write_nginx_server(FILE *out, const struct process *process, const struct nginx_options *o)
{
  fprintf(out, "  server {\n    listen 127.0.0.1:%u;\n", process->port);
  if (process->unix_path[0] != '\0')
    fprintf(out, "    listen unix:%s;\n", process->unix_path);
  if (o->certs != NULL) {
    const struct cert_pair *pair = o->pair != NULL ? o->pair : &o->certs->good;
    fprintf(out, "    listen 127.0.0.1:%u ssl%s;\n", process->tls_port, o->http2 ? " http2" : "");
    fprintf(out, "    ssl_certificate %s;\n    ssl_certificate_key %s;\n", pair->cert_file, pair->key_file);
    fprintf(out, "    ssl_protocols %s;\n", o->tls_protocols != NULL ? o->tls_protocols : "TLSv1.2 TLSv1.3");
    fprintf(out, "    ssl_session_cache shared:tests:1m;\n");
    if (o->verify_client)
      fprintf(out, "    ssl_client_certificate %s;\n    ssl_verify_client on;\n", o->certs->ca_file);
  }
  fprintf(out, "    root %s/html;\n    default_type text/plain;\n", process->dir);
  fprintf(out, "    client_max_body_size 0;\n    location = /ok { return 200 \"hello\\n\"; }\n");
  fprintf(out, "    location = /slow { alias %s/html/big; limit_rate %lld; }\n", process->dir,
          o->slow_bytes_per_s > 0 ? (long long) o->slow_bytes_per_s : 1024LL);
  fprintf(out, "    location = /stats { stub_status; }\n%s\n  }\n}\n", o->server_lines != NULL ? o->server_lines : "");
}

static FILE *open_text(struct text *text)
{
  FILE *out = open_memstream(&text->data, &text->len);
  if (out == NULL)
    support_die("out of memory");
  return out;
}

/* Writes the collected text as DIR/`name`, whose path goes to `path`. */
static void close_text(FILE *out, struct text *text, const struct process *process, const char *name, char *path)
{
  fclose(out);
  process_write(process, name, text->data, text->len);
  free(text->data);
  snprintf(path, PROCESS_PATH_BYTES, "%s/%s", process->dir, name);
}

static bool run_nginx(struct process *process, const void *options)
{
  const struct nginx_options *o = options;
  char config[PROCESS_PATH_BYTES], error_log[PROCESS_PATH_BYTES];
  struct text text = {0};
  process->port = unused_port();
  if (o->certs != NULL)
    process->tls_port = unused_port();
  if (o->unix_listener)
    snprintf(process->unix_path, sizeof process->unix_path, "%s/http.sock", process->dir);
  write_html(process);
  FILE *out = open_text(&text);
  write_nginx_global(out, process, o);
  write_nginx_server(out, process, o);
  close_text(out, &text, process, "nginx.conf", config);
  snprintf(error_log, sizeof error_log, "%s/error.log", process->dir);
  return process_run(process, (const char *const[]){"nginx", "-c", config, "-p", process->dir, "-e", error_log, NULL});
}

struct process *nginx_start(const struct nginx_options *options)
{
  static const struct nginx_options plain;
  return start(run_nginx, options != NULL ? options : &plain);
}

static bool run_haproxy(struct process *process, const void *options)
{
  const struct haproxy_options *o = options;
  char config[PROCESS_PATH_BYTES];
  struct text text = {0};
  process->port = unused_port();
  FILE *out = open_text(&text);
  fprintf(out, "global\n  maxconn %d\n  nbthread 1\n", o->max_connections != 0 ? o->max_connections : 2000);
  fprintf(out, "defaults\n  mode http\n  timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n");
  fprintf(out, "  timeout http-keep-alive %lldms\n",
          o->http_keep_alive_ms != 0 ? (long long) o->http_keep_alive_ms : 10000LL);
  fprintf(out, "  http-reuse %s\n", o->http_reuse != NULL ? o->http_reuse : "safe");
  if (o->http_close)
    fprintf(out, "  option httpclose\n");
  fprintf(out, "frontend tests\n  bind 127.0.0.1:%u\n  default_backend origin\n", process->port);
  fprintf(out, "backend origin\n  server one 127.0.0.1:%u\n", o->backend_port);
  close_text(out, &text, process, "haproxy.cfg", config);
  return process_run(process, (const char *const[]){"haproxy", "-db", "-f", config, NULL});
}

struct process *haproxy_start(const struct haproxy_options *options)
{
  static const struct haproxy_options plain;
  return start(run_haproxy, options != NULL ? options : &plain);
}

static bool run_dnsmasq(struct process *process, const void *options)
{
  const struct dnsmasq_options *o = options;
  char config[PROCESS_PATH_BYTES], file_option[PROCESS_PATH_BYTES + 16];
  struct text text = {0};
  process->port = unused_port();
  FILE *out = open_text(&text);
  /* Running as the caller keeps the parent-death signal, which a change of user would clear. */
  if (geteuid() == 0)
    fprintf(out, "user=root\ngroup=root\n");
  fprintf(out, "port=%u\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-poll\nno-hosts\npid-file=\n",
          process->port);
  fprintf(out, "local-ttl=%d\n", o->local_ttl_s);
  for (int i = 0; o->lines != NULL && o->lines[i] != NULL; i++)
    fprintf(out, "%s\n", o->lines[i]);
  close_text(out, &text, process, "dnsmasq.conf", config);
  snprintf(file_option, sizeof file_option, "--conf-file=%s", config);
  return process_run(process,
                     (const char *const[]){"dnsmasq", "--keep-in-foreground", "--log-facility=-", file_option, NULL});
}

struct process *dnsmasq_start(const struct dnsmasq_options *options)
{
  static const struct dnsmasq_options plain;
  return start(run_dnsmasq, options != NULL ? options : &plain);
}

static bool run_nghttpd(struct process *process, const void *options)
{
  const struct nghttpd_options *o = options;
  char port[16], html[PROCESS_PATH_BYTES], streams[32];
  process->port = unused_port();
  write_html(process);
  snprintf(port, sizeof port, "%u", process->port);
  snprintf(html, sizeof html, "%s/html", process->dir);
  snprintf(streams, sizeof streams, "--max-concurrent-streams=%d", o->max_streams != 0 ? o->max_streams : 100);
  const char *key = o->certs != NULL ? o->certs->good.key_file : "--no-tls";
  const char *cert = o->certs != NULL ? o->certs->good.cert_file : NULL;
  return process_run(process,
                     (const char *const[]){"nghttpd", "-a", "127.0.0.1", "-d", html, streams, port, key, cert, NULL});
}

struct process *nghttpd_start(const struct nghttpd_options *options)
{
  static const struct nghttpd_options plain;
  return start(run_nghttpd, options != NULL ? options : &plain);
}
