/* proxy_fixture: a pool, an http and an https host, a scripted proxy before them, and a count of the system's resolver */
#ifndef CPOOL_SUPPORT_PROXY_FIXTURE_H
#define CPOOL_SUPPORT_PROXY_FIXTURE_H

#include "support/peer_fixture.h"

#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>

#include "support/certs.h"
#include "support/fault_proxy.h"

/* libcurl's resolver is this function of the C library: what the program defines itself is called in its place. */
static _Atomic int resolver_calls;

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
  void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
  memcpy(&real, &symbol, sizeof real);
  atomic_fetch_add(&resolver_calls, 1);
  return real(name, service, hints, out);
}

struct proxied {
  struct certs *certs;
  struct fault_server *secure; /* https; the http one is the peer's */
  struct fault_proxy *proxy;
};

static inline struct proxied *proxied_of(struct peer *f)
{
  return f->extra;
}

/* Names: proxy.test, six.test and both.test are known to the pool, whose name server answers nobody; a.test to the proxy
 * alone. */
static inline void proxied_open_pool(struct peer *f, cpool_http_options *options)
{
  char hosts[CERTS_PATH_BYTES + 16];
  cpool_http_options plain;
  cpool_http_options_init(&plain);
  if (options == NULL)
    options = &plain;
  snprintf(hosts, sizeof hosts, "%s/hosts", proxied_of(f)->certs->dir);
  static const char names[] = "127.0.0.1 proxy.test\n::1 six.test\n127.0.0.9 both.test\n127.0.0.1 both.test\n";
  write_file(hosts, names, sizeof names - 1);
  options->dns_hosts_file = hosts;
  options->dns_servers = "127.0.0.1:9";
  options->dns_timeout_ms = 200;
  peer_close_pool(f);
  peer_open_pool(f, options);
}

static inline int proxied_setup(void **state)
{
  struct peer *f = peer_new();
  struct proxied *p = calloc(1, sizeof *p);
  assert_non_null(p);
  p->certs = certs_new_with("DNS:proxy.test,DNS:six.test,DNS:both.test");
  f->extra = p;
  f->server = fault_server_start(&(struct fault_options){0});
  p->secure = fault_server_start(
      &(struct fault_options){.tls_cert_file = p->certs->good.cert_file, .tls_key_file = p->certs->good.key_file});
  assert_non_null(f->server);
  assert_non_null(p->secure);
  proxied_open_pool(f, NULL);
  atomic_store(&resolver_calls, 0);
  *state = f;
  return 0;
}

static inline int proxied_teardown(void **state)
{
  struct peer *f = *state;
  struct proxied *p = f->extra;
  int calls = atomic_load(&resolver_calls);
  peer_close_pool(f);
  fault_proxy_stop(p->proxy);
  fault_server_stop(p->secure);
  certs_free(p->certs);
  free(p);
  peer_free(f);
  assert_int_equal(calls, 0); /* in no case */
  return 0;
}

static inline struct fault_proxy *proxied_start(struct peer *f, struct fault_proxy_options options)
{
  struct proxied *p = proxied_of(f);
  fault_proxy_stop(p->proxy);
  p->proxy = fault_proxy_start(&options);
  return p->proxy;
}

static inline struct fault_proxy *proxied_start_tls(struct peer *f, const struct cert_pair *pair,
                                                    struct fault_proxy_options options)
{
  options.tls_cert_file = pair->cert_file;
  options.tls_key_file = pair->key_file;
  return proxied_start(f, options);
}

static inline cpool_session_options proxied_options(struct peer *f, const char *scheme, const char *host)
{
  cpool_session_options options;
  cpool_session_options_init(&options);
  options.ca_file = proxied_of(f)->certs->ca_file;
  options.proxy = peer_text(f, "%s://%s:%u", scheme, host, fault_proxy_port(proxied_of(f)->proxy));
  return options;
}

static inline cpool_session *proxied_session(struct peer *f, const cpool_session_options *options)
{
  cpool_session *session = NULL;
  cpool_error error;
  cpool_error_init(&error);
  int status = cpool_session_new(&session, f->pool, options);
  if (status != CPOOL_OK && cpool_last_error(&error) == CPOOL_OK)
    print_error("%s\n", error.text);
  assert_int_equal(status, CPOOL_OK);
  return session;
}

/* The session of a proxy of that kind at 127.0.0.1. */
static inline cpool_session *proxied_by(struct peer *f, const char *scheme)
{
  cpool_session_options options = proxied_options(f, scheme, "127.0.0.1");
  return proxied_session(f, &options);
}

static inline const char *proxied_url(struct peer *f, bool tls, const char *path)
{
  return peer_text(f, "%s://a.test:%u%s", tls ? "https" : "http",
                   fault_server_port(tls ? proxied_of(f)->secure : f->server), path);
}

static inline struct answer proxied_ask(struct peer *f, cpool_session *session, bool tls, const char *path)
{
  return peer_ask(f, &(struct ask){.session = session, .url = proxied_url(f, tls, path)});
}

static inline struct answer proxied_post(struct peer *f, cpool_session *session, bool tls, const char *path)
{
  return peer_ask(f, &(struct ask){.session = session,
                                   .method = "POST",
                                   .url = proxied_url(f, tls, path),
                                   .body = "x",
                                   .body_len = 1});
}

#define proxied_case(test) cmocka_unit_test_setup_teardown(test, proxied_setup, proxied_teardown)

#endif
