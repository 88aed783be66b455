/* process: real servers (nginx, haproxy, dnsmasq, nghttpd) as children of the test, on free ports */
#ifndef CPOOL_SUPPORT_PROCESS_H
#define CPOOL_SUPPORT_PROCESS_H

#include "support/certs.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* One running child. It dies with the thread that started it, so start servers from the test's main thread. */
struct process;

/* All starts return once the server accepts connections on all its ports, or NULL with the reason and the child's
 * output on stderr. Options may be NULL: all zero. Ports are on 127.0.0.1. Waiting for a port costs one connection
 * or more, which a server's own counters show. */

struct nginx_options {
  int32_t workers;              /* 0: 1 */
  const char *cpu_affinity;     /* worker_cpu_affinity as nginx spells it, "10"; NULL: none */
  const struct certs *certs;    /* set: a TLS port as well, with the certificate `good` ... */
  const struct cert_pair *pair; /* ... or this one */
  const char *tls_protocols;    /* "TLSv1.2", "TLSv1.3"; NULL: both */
  bool verify_client;           /* TLS port: 400 without a client certificate of the CA */
  bool http2;                   /* TLS port: offer h2 */
  bool unix_listener;           /* also process_unix_path() */
  int64_t keepalive_timeout_ms; /* 0: nginx's 75 s; < 0: keep-alive off */
  int64_t keepalive_requests;   /* 0: nginx's 1000 */
  int64_t slow_bytes_per_s;     /* 0: 1024 */
  bool access_log;              /* DIR/access.log, its format is in servers.c */
  const char *server_lines;     /* more configuration inside server {}, NULL: none */
};

/*   /        "hello\n", a static file;    /ok   the same for every method, without a file
 *   /big     1 MiB, byte i is 'a' + i % 26
 *   /slow    /big at slow_bytes_per_s
 *   /stats   stub_status: connections and requests */
struct process *nginx_start(const struct nginx_options *options);

struct haproxy_options {
  uint16_t backend_port;      /* on 127.0.0.1 */
  const char *http_reuse;     /* never, safe, aggressive, always; NULL: safe */
  int64_t http_keep_alive_ms; /* idle client connections are closed after it; 0: 10 s */
  bool http_close;            /* "option httpclose": every connection is closed after one answer */
  int32_t max_connections;    /* 0: 2000 */
};
struct process *haproxy_start(const struct haproxy_options *options);

struct dnsmasq_options {
  const char *const *lines; /* dnsmasq options without dashes, NULL at the end: "address=/a.test/127.0.0.1",
                               "host-record=b.test,127.0.0.2,::1,60", "cname=c.test,b.test" */
  int32_t local_ttl_s;      /* for records without their own */
};
struct process *dnsmasq_start(const struct dnsmasq_options *options);

struct nghttpd_options {
  const struct certs *certs; /* NULL: cleartext HTTP/2 */
  int32_t max_streams;       /* per connection; 0: 100 */
};
/* Serves / ("hello\n") and /big (as nginx). */
struct process *nghttpd_start(const struct nghttpd_options *options);

uint16_t process_port(const struct process *process);         /* plain, or the only one */
uint16_t process_tls_port(const struct process *process);     /* nginx with certs */
const char *process_unix_path(const struct process *process); /* nginx with unix_listener */
const char *process_dir(const struct process *process);       /* config, logs, html/; gone after the stop */
pid_t process_pid(const struct process *process);

/* False when it does not run any more or the signal could not be sent. */
bool process_signal(struct process *process, int signal);

/* SIGTERM, SIGKILL when it lives 2 s on, reaped, directory removed. NULL is fine. */
void process_stop(struct process *process);

#endif
