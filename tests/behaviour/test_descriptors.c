/* descriptors: when no file descriptor is left, each stage says just that, and goes on when there are some again */
#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

#include "support/dns_server.h"
#include "support/peer_fixture.h"

struct scarce {
  struct rlimit before;
  struct dns_server *dns;
  char *dir;
  char unix_path[64], hosts_path[64], servers[64];
  cpool_session *session;
};

/* Below it are the standard streams alone, so that no number that another thread gives back can be taken; and poll(),
 * which knows the limit too, still works for the few descriptors of a server here. */
enum { STANDARD_FDS = 3 };

static void take_descriptors(struct scarce *scarce)
{
  struct rlimit none = scarce->before;
  none.rlim_cur = STANDARD_FDS;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
}

static void give_descriptors(struct scarce *scarce)
{
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &scarce->before), 0);
}

/* hosts: the text of the hosts file. */
static void open_scarce(struct peer *f, const char *hosts)
{
  struct scarce *scarce = f->extra;
  write_file(scarce->hosts_path, hosts, strlen(hosts));
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.dns_servers = scarce->servers;
  options.dns_hosts_file = scarce->hosts_path;
  peer_open_pool(f, &options);
}

static int setup(void **state)
{
  struct peer *f = peer_new();
  struct scarce *scarce = calloc(1, sizeof *scarce);
  assert_non_null(scarce);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &scarce->before), 0);
  scarce->dir = temp_dir_new();
  snprintf(scarce->unix_path, sizeof scarce->unix_path, "%s/s", scarce->dir);
  snprintf(scarce->hosts_path, sizeof scarce->hosts_path, "%s/hosts", scarce->dir);
  scarce->dns = dns_server_start(NULL, 0);
  assert_non_null(scarce->dns);
  snprintf(scarce->servers, sizeof scarce->servers, "127.0.0.1:%u", (unsigned) dns_server_port(scarce->dns));
  f->extra = scarce;
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct peer *f = *state;
  struct scarce *scarce = f->extra;
  setrlimit(RLIMIT_NOFILE, &scarce->before);
  cpool_session_free(scarce->session);
  peer_close_pool(f);
  dns_server_stop(scarce->dns);
  temp_dir_free(scarce->dir);
  free(scarce);
  peer_free(f);
  return 0;
}

static void is_shortage(struct answer answer)
{
  peer_is(answer, CPOOL_ESYSTEM);
  assert_int_equal(answer.error.layer, CPOOL_LAYER_SYSTEM);
  assert_int_equal(answer.error.native, EMFILE);
  assert_int_equal(answer.error.flags, CPOOL_ERROR_NOTHING_SENT | CPOOL_ERROR_RETRIABLE);
}

/* The same request with and without descriptors. */
static void fails_then_works(struct peer *f, const struct ask *ask)
{
  struct scarce *scarce = f->extra;
  for (int i = 0; i < 3; i++) {
    take_descriptors(scarce);
    struct answer answer = peer_ask(f, ask);
    give_descriptors(scarce);
    is_shortage(answer);
    peer_is_200(peer_ask(f, ask), "hello"); /* at once: nothing of the failure is remembered */
    assert_true(fault_server_drop_all(f->server) >= 1);
    peer_await(f, total_connections, 0);
    peer_await(f, closing_connections, 0);
  }
}

static void tcp_says_so(void **state)
{
  struct peer *f = *state;
  open_scarce(f, "");
  f->server = fault_server_start(&(struct fault_options){0});
  assert_non_null(f->server);
  fails_then_works(f, &(struct ask){.url = "/ok"});
}

static void a_unix_socket_says_so(void **state)
{
  struct peer *f = *state;
  struct scarce *scarce = f->extra;
  open_scarce(f, "");
  f->server = fault_server_start(&(struct fault_options){.unix_path = scarce->unix_path});
  assert_non_null(f->server);
  cpool_session_options options = session_options();
  options.unix_socket_path = scarce->unix_path;
  scarce->session = session_open(f->pool, &options);
  fails_then_works(f, &(struct ask){.session = scarce->session, .url = "http://name.test/ok"});
}

/* `first`: of the pool's life, when c-ares is yet to read its files. */
static void a_name_says_so(struct peer *f, bool first)
{
  struct scarce *scarce = f->extra;
  open_scarce(f, "");
  f->server = fault_server_start(&(struct fault_options){0});
  assert_non_null(f->server);
  unsigned port = fault_server_port(f->server);
  dns_server_set_addresses(scarce->dns, "warm.test", "127.0.0.1", 60);
  dns_server_set_addresses(scarce->dns, "name.test", "127.0.0.1", 60);
  if (!first)
    peer_is_200(peer_get(f, peer_text(f, "http://warm.test:%u/ok", port)), "hello");
  take_descriptors(scarce);
  struct answer answer = peer_get(f, peer_text(f, "http://name.test:%u/ok", port));
  give_descriptors(scarce);
  is_shortage(answer);
  peer_is_200(peer_get(f, peer_text(f, "http://name.test:%u/ok", port)), "hello");
}

static void the_first_lookup_says_so_and_is_not_remembered(void **state)
{
  a_name_says_so(*state, true);
}

static void a_lookup_says_so_and_is_not_remembered(void **state)
{
  a_name_says_so(*state, false);
}

static void a_hosts_file_that_cannot_be_opened_is_not_an_empty_one(void **state)
{
  struct peer *f = *state;
  struct scarce *scarce = f->extra;
  open_scarce(f, "127.0.0.1 name.test\n");
  f->server = fault_server_start(&(struct fault_options){0});
  assert_non_null(f->server);
  unsigned port = fault_server_port(f->server);
  take_descriptors(scarce);
  struct answer answer = peer_get(f, peer_text(f, "http://name.test:%u/ok", port));
  give_descriptors(scarce);
  is_shortage(answer);
  peer_is_200(peer_get(f, peer_text(f, "http://name.test:%u/ok", port)), "hello");
  assert_int_equal(dns_server_queries(scarce->dns, "name.test", 0), 0);
}

#define scarce_case(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      scarce_case(tcp_says_so),
      scarce_case(a_unix_socket_says_so),
      scarce_case(the_first_lookup_says_so_and_is_not_remembered),
      scarce_case(a_lookup_says_so_and_is_not_remembered),
      scarce_case(a_hosts_file_that_cannot_be_opened_is_not_an_empty_one),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
