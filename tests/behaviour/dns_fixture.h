/* dns_fixture: a pool, a server, and the name server that leads from one to the other */
#ifndef CPOOL_BEHAVIOUR_DNS_FIXTURE_H
#define CPOOL_BEHAVIOUR_DNS_FIXTURE_H

#include "support/dns_server.h"
#include "support/peer_fixture.h"

struct dns {
  struct dns_server *server;
  char *dir, hosts[512], servers[32];
};

static inline struct dns_server *dns_of(struct peer *f)
{
  return ((struct dns *) f->extra)->server;
}

static inline cpool_http_options options_of(struct peer *f)
{
  struct dns *dns = f->extra;
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.dns_servers = dns->servers;
  options.dns_hosts_file = "/dev/null";
  return options;
}

static inline int setup(void **state)
{
  struct peer *f = peer_new();
  struct dns *dns = calloc(1, sizeof *dns);
  assert_non_null(dns);
  dns->server = dns_server_start(NULL, 0);
  assert_non_null(dns->server);
  dns->dir = temp_dir_new();
  snprintf(dns->hosts, sizeof dns->hosts, "%s/hosts", dns->dir);
  snprintf(dns->servers, sizeof dns->servers, "127.0.0.1:%u", dns_server_port(dns->server));
  f->extra = dns;
  f->server = fault_server_start(&(struct fault_options){0});
  assert_non_null(f->server);
  cpool_http_options options = options_of(f);
  peer_open_pool(f, &options);
  *state = f;
  return 0;
}

static inline int teardown(void **state)
{
  struct peer *f = *state;
  struct dns *dns = f->extra;
  peer_close_pool(f);
  dns_server_stop(dns->server);
  temp_dir_free(dns->dir);
  free(dns);
  peer_free(f);
  return 0;
}

static inline const char *url_of(struct peer *f, const char *host)
{
  return peer_text(f, "http://%s:%u/ok", host, fault_server_port(f->server));
}

#define dns_case(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
