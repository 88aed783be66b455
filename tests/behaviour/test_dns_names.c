/* dns_names: hosts outlive their name servers, and what is known of each name can be read */
#include "dns_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "support/process.h"

static const char *close_url(struct peer *f, const char *host)
{
  return peer_text(f, "http://%s:%u/close", host, fault_server_port(f->server));
}

static bool row_of(struct peer *f, const char *name, cpool_dns_stats *out)
{
  uint64_t cursor = 0;
  while (cpool_http_dns_get(f->pool, &cursor, out, sizeof *out, 1) == 1)
    if (strcmp(out->name, name) == 0)
      return true;
  return false;
}

/* ---- name servers that are gone */

static void reopen(struct peer *f, struct process *dnsmasq, int64_t timeout_ms)
{
  struct dns *dns = f->extra;
  peer_close_pool(f);
  snprintf(dns->servers, sizeof dns->servers, "127.0.0.1:%u", (unsigned) process_port(dnsmasq));
  cpool_http_options options = options_of(f);
  options.ttl_dns_cache_ms = 1000;
  options.dns_timeout_ms = timeout_ms;
  peer_open_pool(f, &options);
}

/* New connections all the time, each of which needs the name. */
static int ask_for(struct peer *f, const char *host, int64_t for_ms)
{
  int count = 0;
  for (int64_t end = now_ms() + for_ms; now_ms() < end; count++) {
    cpool_response *resp = NULL;
    int status = cpool_get(cpool_http_session(f->pool), close_url(f, host), &resp);
    cpool_response_free(resp);
    assert_int_equal(status, CPOOL_OK);
  }
  return count;
}

static void a_host_in_use_is_served_through_an_outage_of_its_name_server(void **state)
{
  struct peer *f = *state;
  static const char *const lines[] = {"host-record=warm.test,127.0.0.1,60", "local=/test/", NULL};
  struct process *dnsmasq = dnsmasq_start(&(struct dnsmasq_options){.lines = lines, .local_ttl_s = 60});
  assert_non_null(dnsmasq);
  reopen(f, dnsmasq, 500);
  ask_for(f, "warm.test", 1500);
  assert_true(peer_stats(f).dns_refreshes > 0);
  assert_int_equal(peer_stats(f).dns_stale, 0);
  assert_true(process_signal(dnsmasq, SIGSTOP)); /* silent */
  ask_for(f, "warm.test", 2500);
  cpool_http_stats stats = peer_stats(f);
  assert_true(stats.dns_stale > 0);
  cpool_dns_stats row;
  assert_true(row_of(f, "warm.test", &row));
  assert_int_equal(row.stale, 1);
  assert_int_equal(row.ttl_left_ms, 0);
  assert_true(row.age_ms >= 1000 && row.failures > 0);
  assert_string_equal(row.addresses, "127.0.0.1");
  process_stop(dnsmasq); /* refused */
  ask_for(f, "warm.test", 1500);
  assert_int_equal(peer_stats(f).failed, 0);
  struct answer answer = peer_get(f, close_url(f, "cold.test"));
  peer_is(answer, CPOOL_EDNS_FAILED);
}

static bool is_fresh_again(void *ctx)
{
  struct peer *f = ctx;
  cpool_dns_stats row;
  peer_is_200(peer_get(f, close_url(f, "warm.test")), "hello");
  return row_of(f, "warm.test", &row) && row.stale == 0;
}

static void a_name_server_that_is_back_is_used_again(void **state)
{
  struct peer *f = *state;
  static const char *const lines[] = {"host-record=warm.test,127.0.0.1,60", "local=/test/", NULL};
  struct process *dnsmasq = dnsmasq_start(&(struct dnsmasq_options){.lines = lines, .local_ttl_s = 60});
  assert_non_null(dnsmasq);
  reopen(f, dnsmasq, 300);
  peer_is_200(peer_get(f, close_url(f, "warm.test")), "hello");
  assert_true(process_signal(dnsmasq, SIGSTOP));
  ask_for(f, "warm.test", 2000);
  assert_true(peer_stats(f).dns_stale > 0);
  assert_true(process_signal(dnsmasq, SIGCONT));
  assert_true(wait_until(is_fresh_again, f, PEER_DEADLINE_MS));
  process_stop(dnsmasq);
}

/* ---- rows */

static void each_name_has_a_row(void **state)
{
  struct peer *f = *state;
  dns_server_set_addresses(dns_of(f), "a.test", "127.0.0.1 127.0.0.2", 60);
  dns_server_set_addresses(dns_of(f), "b.test", "127.0.0.1", 30);
  peer_is_200(peer_get(f, close_url(f, "a.test")), "hello");
  for (int i = 0; i < 3; i++)
    peer_is_200(peer_get(f, close_url(f, "B.test")), "hello");
  peer_is(peer_get(f, close_url(f, "none.test")), CPOOL_EDNS_NOTFOUND);
  cpool_dns_stats rows[8];
  uint64_t cursor = 0;
  assert_int_equal(cpool_http_dns_get(f->pool, &cursor, rows, sizeof rows[0], 8), 3);
  assert_int_equal(cpool_http_dns_get(f->pool, &cursor, rows + 3, sizeof rows[0], 5), 0);
  assert_string_equal(rows[0].name, "none.test");
  assert_string_equal(rows[0].addresses, "");
  assert_int_equal(rows[0].address_count, 0);
  assert_string_equal(rows[1].name, "b.test");
  assert_string_equal(rows[1].addresses, "127.0.0.1");
  assert_in_range(rows[1].ttl_left_ms, 1, 30000);
  assert_in_range(rows[1].hits, 2, 4); /* no AAAA: asked for again now and then */
  assert_string_equal(rows[2].name, "a.test");
  assert_string_equal(rows[2].addresses, "127.0.0.1 127.0.0.2");
  assert_int_equal(rows[2].address_count, 2);
  assert_in_range(rows[2].ttl_left_ms, 30001, 60000);
  assert_in_range(rows[2].age_ms, 0, 30000);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(rows[i].stale, 0);
    assert_int_equal(rows[i].failures, 0);
  }
}

static void rows_may_be_shorter_and_pages_small(void **state)
{
  struct peer *f = *state;
  dns_server_set_addresses(dns_of(f), "*", "127.0.0.1", 60);
  for (int i = 0; i < 5; i++)
    peer_is_200(peer_get(f, close_url(f, peer_text(f, "n%d.test", i))), "hello");
  uint64_t cursor = 0;
  for (int i = 4; i >= 0; i--) {
    char row[256], expected[32];
    assert_int_equal(cpool_http_dns_get(f->pool, &cursor, (cpool_dns_stats *) (void *) row, sizeof row, 1), 1);
    snprintf(expected, sizeof expected, "n%d.test", i);
    assert_string_equal(row, expected);
  }
  cpool_dns_stats row;
  assert_int_equal(cpool_http_dns_get(f->pool, &cursor, &row, sizeof row, 1), 0);
  cursor = 0;
  assert_int_equal(cpool_http_dns_get(f->pool, &cursor, &row, 255, 1), CPOOL_EINVAL);
  assert_int_equal(cpool_http_dns_get(f->pool, &cursor, &row, sizeof row, 0), CPOOL_EINVAL);
  assert_int_equal(cpool_http_dns_get(f->pool, NULL, &row, sizeof row, 1), CPOOL_EINVAL);
  assert_int_equal(cpool_http_dns_get(f->pool, &cursor, NULL, sizeof row, 1), CPOOL_EINVAL);
  assert_int_equal(cpool_http_dns_get(NULL, &cursor, &row, sizeof row, 1), CPOOL_EINVAL);
}

static void many_addresses_are_cut_at_a_whole_one_and_counted(void **state)
{
  struct peer *f = *state;
  char addresses[1024] = "127.0.0.1";
  for (int i = 2; i <= 20; i++)
    snprintf(addresses + strlen(addresses), sizeof addresses - strlen(addresses),
             " fd00:1111:2222:3333:4444:5555:6666:%x", 0x7000 + i);
  dns_server_set_addresses(dns_of(f), "many.test", addresses, 60);
  cpool_session_options options;
  cpool_session_options_init(&options);
  options.address_policy = CPOOL_ADDRESS_PUBLIC; /* nothing is dialled */
  cpool_session *session = NULL;
  assert_int_equal(cpool_session_new(&session, f->pool, &options), CPOOL_OK);
  peer_is(peer_ask(f, &(struct ask){.session = session, .url = close_url(f, "many.test")}), CPOOL_EADDRESS);
  cpool_dns_stats row;
  assert_true(row_of(f, "many.test", &row));
  assert_int_equal(row.address_count, 20);
  size_t len = strlen(row.addresses);
  assert_in_range(len, 400, sizeof row.addresses - 1);
  assert_memory_equal(row.addresses, "127.0.0.1 fd00:", 15);
  assert_int_equal((len - 9) % 40, 0); /* each of the others has 39 bytes and a blank */
  cpool_session_free(session);
}

struct reader {
  cpool_http *pool;
  _Atomic bool stop;
  _Atomic int64_t rows;
};

static void *read_rows(void *argument)
{
  struct reader *reader = argument;
  while (!atomic_load(&reader->stop)) {
    cpool_dns_stats rows[4];
    uint64_t cursor = 0;
    int count;
    while ((count = cpool_http_dns_get(reader->pool, &cursor, rows, sizeof rows[0], 4)) > 0)
      atomic_fetch_add(&reader->rows, count);
  }
  return NULL;
}

static void rows_are_read_on_any_thread_during_traffic(void **state)
{
  struct peer *f = *state;
  peer_close_pool(f);
  cpool_http_options options = options_of(f);
  options.dns_max_entries = 5;
  options.ttl_dns_cache_ms = 20;
  peer_open_pool(f, &options);
  dns_server_set_addresses(dns_of(f), "*", "127.0.0.1 127.0.0.2", 60);
  struct reader reader = {.pool = f->pool};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, read_rows, &reader), 0);
  for (int i = 0; i < 200; i++)
    peer_is_200(peer_get(f, close_url(f, peer_text(f, "n%d.test", i % 10))), "hello");
  atomic_store(&reader.stop, true);
  for (int i = 0; i < 2; i++)
    pthread_join(threads[i], NULL);
  assert_true(atomic_load(&reader.rows) > 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      dns_case(a_host_in_use_is_served_through_an_outage_of_its_name_server),
      dns_case(a_name_server_that_is_back_is_used_again),
      dns_case(each_name_has_a_row),
      dns_case(rows_may_be_shorter_and_pages_small),
      dns_case(many_addresses_are_cut_at_a_whole_one_and_counted),
      dns_case(rows_are_read_on_any_thread_during_traffic),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
