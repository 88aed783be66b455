/* closing: a connection that gave up its place is closed at once, so that hosts can take turns on few places */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cpool.h>

#include "support/fault_server.h"
#include "support/wait.h"

enum { HOSTS = 60, LIMIT_MS = 10000 };

struct fixture {
  char *dir;
  char hosts_file[256];
  struct fault_server *server;
  cpool_http *pool;
};

static int set_up(void **state)
{
  static struct fixture f;
  char *text = NULL;
  size_t len = 0;
  f.dir = temp_dir_new();
  snprintf(f.hosts_file, sizeof f.hosts_file, "%s/hosts", f.dir);
  FILE *hosts = open_memstream(&text, &len);
  for (int i = 0; i < HOSTS; i++)
    fprintf(hosts, "127.0.0.1 h%d.test\n", i);
  fclose(hosts);
  write_file(f.hosts_file, text, len);
  free(text);
  f.server = fault_server_start(&(struct fault_options){0});
  assert_non_null(f.server);
  *state = &f;
  return 0;
}

static int tear_down(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(cpool_http_close(f->pool, 0), CPOOL_OK);
  fault_server_stop(f->server);
  temp_dir_free(f->dir);
  return 0;
}

/* One place, and one socket at most that is shut down and not closed. */
static void open_narrow_pool(struct fixture *f)
{
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.max_connections = 1;
  options.max_closing = 1;
  options.dns_hosts_file = f->hosts_file;
  assert_int_equal(cpool_http_new(&f->pool, NULL, &options), CPOOL_OK);
}

static void get(struct fixture *f, int host)
{
  char url[128];
  cpool_response *resp = NULL;
  snprintf(url, sizeof url, "http://h%d.test:%d/ok", host, (int) fault_server_port(f->server));
  assert_int_equal(cpool_get(cpool_http_session(f->pool), url, &resp), CPOOL_OK);
  assert_int_equal(cpool_response_status(resp), 200);
  cpool_response_free(resp);
}

static void hosts_take_turns_without_waiting_for_sockets_to_close(void **state)
{
  struct fixture *f = *state;
  cpool_http_stats stats;
  int64_t begun_ms = now_ms();
  open_narrow_pool(f);
  for (int i = 0; i < HOSTS; i++)
    get(f, i);
  /* libcurl by itself lets go of a dead connection once a second: a minute for these */
  assert_true(now_ms() - begun_ms < LIMIT_MS);
  cpool_http_stats_init(&stats);
  assert_int_equal(cpool_http_stats_get(f->pool, &stats), CPOOL_OK);
  assert_int_equal(stats.opened, HOSTS);
  assert_true(stats.closed_evicted >= HOSTS - 2);
}

static void closing_one_leaves_the_others_of_its_host(void **state)
{
  struct fixture *f = *state;
  cpool_http_options options;
  cpool_http_stats stats;
  cpool_http_options_init(&options);
  options.dns_hosts_file = f->hosts_file;
  options.max_connections = 8;
  assert_int_equal(cpool_http_new(&f->pool, NULL, &options), CPOOL_OK);
  /* each host keeps one of eight places; every further one takes the place of the least recently used */
  for (int round = 0; round < 3; round++)
    for (int i = 0; i < 8; i++)
      get(f, i);
  for (int i = 8; i < 12; i++)
    get(f, i);
  for (int i = 4; i < 12; i++)
    get(f, i);
  cpool_http_stats_init(&stats);
  assert_int_equal(cpool_http_stats_get(f->pool, &stats), CPOOL_OK);
  assert_int_equal(stats.opened, 12);
  assert_int_equal(stats.closed_evicted, stats.closed);
  assert_int_equal(stats.failed, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(hosts_take_turns_without_waiting_for_sockets_to_close, set_up, tear_down),
      cmocka_unit_test_setup_teardown(closing_one_leaves_the_others_of_its_host, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
