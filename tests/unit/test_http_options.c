/* test_http_options: the pool's table and resolved copy, and the snapshot of the statistics under a writer */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>

#include <cmocka.h>
#include <cpool.h>

#include "base/memory.h"
#include "http/http_options.h"
#include "http/http_stats.h"

enum { READERS = 3, SNAPSHOTS = 20000 };

static void defaults_are_those_of_the_header(void **state)
{
  (void) state;
  cpool_http_options made, empty;
  assert_int_equal(cpool__http_options_make(&made, NULL), CPOOL_OK);
  assert_int_equal(made.size, sizeof made);
  assert_int_equal(made.max_connections, 100);
  assert_int_equal(made.max_connections_per_host, 30);
  assert_int_equal(made.max_requests_per_connection, CPOOL_OFF);
  assert_int_equal(made.address_policy, CPOOL_ADDRESS_ANY);
  assert_int_equal(made.acquire_timeout_ms, 30000);
  assert_int_equal(made.total_timeout_ms, 60000);
  assert_int_equal(made.max_response_bytes, 64 * 1024 * 1024);
  assert_true(made.max_lifetime_jitter_ratio > 0.099 && made.max_lifetime_jitter_ratio < 0.101);
  assert_string_equal(made.user_agent, "libcpool/0.1.0");
  assert_null(made.dns_servers);
  cpool__http_options_fini(&made);
  cpool_http_options_init(&empty);
  assert_int_equal(cpool__http_options_make(&made, &empty), CPOOL_OK);
  assert_int_equal(made.max_pending, 10000);
  cpool__http_options_fini(&made);
}

static void every_field_but_three_has_a_row(void **state)
{
  (void) state;
  size_t covered = sizeof(size_t);
  for (const struct cpool__option *option = cpool__http_option_table.options; option->key != NULL; option++) {
    bool narrow = option->type == CPOOL__OPTION_INT32 || option->type == CPOOL__OPTION_CHOICE;
    covered += narrow ? 4 : 8;
    assert_non_null(option->unit);
    assert_non_null(option->meaning);
  }
  /* queue, on_event and user have none; dns_max_entries and min_idle_per_host leave gaps of four bytes */
  assert_int_equal(covered + 3 * sizeof(void *) + 8, sizeof(cpool_http_options));
}

static void a_resolved_copy_resolves_to_itself(void **state)
{
  (void) state;
  cpool_http_options first, second;
  assert_int_equal(cpool__http_options_make(&first, NULL), CPOOL_OK);
  assert_int_equal(cpool__http_options_make(&second, &first), CPOOL_OK);
  assert_null(cpool__options_frozen_change(&cpool__http_option_table, &first, &second));
  assert_string_equal(first.user_agent, second.user_agent);
  assert_ptr_not_equal(first.user_agent, second.user_agent);
  cpool__http_options_fini(&second);
  cpool__http_options_fini(&first);
}

static void texts_are_copied(void **state)
{
  (void) state;
  char servers[] = "127.0.0.1:53", agent[] = "";
  cpool_http_options options, made;
  cpool_http_options_init(&options);
  options.dns_servers = servers;
  options.dns_hosts_file = "/dev/null";
  options.user_agent = agent; /* none */
  assert_int_equal(cpool__http_options_make(&made, &options), CPOOL_OK);
  servers[0] = 'x';
  assert_string_equal(made.dns_servers, "127.0.0.1:53");
  assert_string_equal(made.dns_hosts_file, "/dev/null");
  assert_string_equal(made.user_agent, "");
  cpool__http_options_fini(&made);
}

static void is_refused(const cpool_http_options *options, const char *because)
{
  cpool_http_options made = {.max_pending = 77};
  cpool_error err;
  cpool_error_init(&err);
  assert_int_equal(cpool__http_options_make(&made, options), CPOOL_EINVAL);
  assert_int_equal(made.max_pending, 77);
  cpool_last_error(&err);
  assert_int_equal(err.status, CPOOL_EINVAL);
  if (strstr(err.text, because) == NULL)
    fail_msg("refused with \"%s\", not \"%s\"", err.text, because);
}

static void callback(const cpool_event *event)
{
  (void) event;
}

static void what_is_out_of_range_is_refused(void **state)
{
  (void) state;
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.max_connections = CPOOL_OFF;
  is_refused(&options, "http option max_connections: -1 is out of range 1..1000000");
  cpool_http_options_init(&options);
  options.max_pending = 16000001;
  is_refused(&options, "max_pending");
  cpool_http_options_init(&options);
  options.max_header_bytes = 255;
  is_refused(&options, "max_header_bytes");
  cpool_http_options_init(&options);
  options.address_policy = 3;
  is_refused(&options, "any, public");
  cpool_http_options_init(&options);
  options.total_timeout_ms = 86400001;
  is_refused(&options, "1..86400000 (or off)");
  cpool_http_options_init(&options);
  options.user_agent = "a\r\nX: y";
  is_refused(&options, "control byte");
  options.user_agent = NULL;
  options.dns_hosts_file = "";
  is_refused(&options, "dns_hosts_file");
  options.dns_hosts_file = NULL;
  options.dns_servers = "";
  is_refused(&options, "dns_servers");
  cpool_http_options_init(&options);
  int queue; /* only its address counts */
  options.queue = (cpool_queue *) (void *) &queue;
  options.on_event = callback;
  is_refused(&options, "queue and on_event are both set");
  options.size = 0;
  is_refused(&options, "call its _init first");
}

static void keys_are_set_from_text(void **state)
{
  (void) state;
  cpool_http_options options;
  cpool_http_options_init(&options);
  assert_int_equal(cpool_http_options_set(&options, "max_connections", "7"), CPOOL_OK);
  assert_int_equal(cpool_http_options_set(&options, "max_connections_per_host", "off"), CPOOL_OK);
  assert_int_equal(cpool_http_options_set(&options, "address_policy", "public"), CPOOL_OK);
  assert_int_equal(cpool_http_options_set(&options, "max_lifetime_jitter_ratio", "0.25"), CPOOL_OK);
  assert_int_equal(cpool_http_options_set(&options, "max_response_bytes", "1099511627776"), CPOOL_OK);
  assert_int_equal(cpool_http_options_set(&options, "user_agent", "me/1"), CPOOL_OK);
  assert_int_equal(options.max_connections, 7);
  assert_int_equal(options.max_connections_per_host, CPOOL_OFF);
  assert_int_equal(options.address_policy, CPOOL_ADDRESS_PUBLIC);
  assert_true(options.max_lifetime_jitter_ratio > 0.2499 && options.max_lifetime_jitter_ratio < 0.2501);
  assert_int_equal(options.max_response_bytes, INT64_C(1) << 40);
  assert_string_equal(options.user_agent, "me/1");

  assert_int_equal(cpool_http_options_set(&options, "max_connections", "off"), CPOOL_EINVAL);
  assert_int_equal(cpool_http_options_set(&options, "max_connections", "0"), CPOOL_EINVAL);
  assert_int_equal(cpool_http_options_set(&options, "no_such", "1"), CPOOL_EINVAL);
  assert_int_equal(cpool_http_options_set(&options, "queue", "1"), CPOOL_EINVAL);
  assert_int_equal(cpool_http_options_set(NULL, "max_connections", "1"), CPOOL_EINVAL);
  assert_int_equal(options.max_connections, 7);
  options.size = 0;
  assert_int_equal(cpool_http_options_set(&options, "max_connections", "1"), CPOOL_EINVAL);
}

static void only_live_options_may_change(void **state)
{
  (void) state;
  static const char *const frozen[] = {"max_identities", "address_policy",       "dns_servers",    "dns_hosts_file",
                                       "user_agent",     "dns_resolv_conf_file", "warm_up_request"};
  size_t count = 0;
  for (const struct cpool__option *option = cpool__http_option_table.options; option->key != NULL; option++)
    count += (option->flags & CPOOL__OPTION_LIVE) == 0;
  assert_int_equal(count, sizeof frozen / sizeof frozen[0]);
  for (size_t i = 0; i < count; i++) {
    const struct cpool__option *option = cpool__options_find(&cpool__http_option_table, frozen[i]);
    assert_non_null(option);
    assert_int_equal(option->flags & CPOOL__OPTION_LIVE, 0);
  }
}

static void off_means_no_limit(void **state)
{
  (void) state;
  assert_int_equal(cpool__limit32(CPOOL_OFF), INT32_MAX);
  assert_int_equal(cpool__limit32(5), 5);
  assert_true(cpool__limit64(CPOOL_OFF) == INT64_MAX);
  assert_true(cpool__limit64(5) == 5);
}

static void other_parts_get_their_rules(void **state)
{
  (void) state;
  cpool_http_options options, made;
  struct cpool__janitor_rules rules;
  struct cpool__dns_options dns;
  cpool_http_options_init(&options);
  options.max_lifetime_ms = CPOOL_OFF;
  options.max_requests_per_connection = 9;
  options.ttl_dns_cache_ms = 500;
  options.dns_negative_ttl_ms = CPOOL_OFF;
  assert_int_equal(cpool__http_options_make(&made, &options), CPOOL_OK);
  cpool__http_janitor_rules(&made, &rules);
  assert_int_equal(rules.keepalive_timeout_ms, 30000);
  assert_int_equal(rules.max_lifetime_ms, -1);
  assert_int_equal(rules.max_requests_per_connection, 9);
  cpool__http_dns_options(&made, &dns);
  assert_int_equal(dns.ttl_max_ms, 500);
  assert_int_equal(dns.ttl_min_ms, 500); /* the longest use is stronger */
  assert_int_equal(dns.negative_ttl_ms, 0);
  assert_int_equal(dns.timeout_ms, 5000);
  assert_null(dns.servers);
  made.ttl_dns_cache_ms = CPOOL_OFF;
  cpool__http_dns_options(&made, &dns);
  assert_int_equal(dns.ttl_max_ms, 0);
  assert_int_equal(dns.ttl_min_ms, 0);
  cpool__http_options_fini(&made);
}

static int allowed;

static void *scarce(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  return allowed-- > 0 ? realloc(ptr, size) : NULL;
}

static void shortage_of_memory_is_told_and_leaks_nothing(void **state)
{
  (void) state;
  cpool_http_options options, made;
  cpool_http_options_init(&options);
  options.dns_servers = "127.0.0.1";
  options.dns_hosts_file = "/dev/null";
  cpool__memory_hook(scarce, NULL);
  int statuses[4];
  for (int i = 0; i < 4; i++) {
    allowed = i;
    statuses[i] = cpool__http_options_make(&made, &options);
    if (statuses[i] == CPOOL_OK)
      cpool__http_options_fini(&made);
  }
  cpool__memory_hook(NULL, NULL);
  for (int i = 0; i < 3; i++)
    assert_int_equal(statuses[i], CPOOL_ENOMEM);
  assert_int_equal(statuses[3], CPOOL_OK);
}

struct shared {
  struct cpool__http_stats stats;
  _Atomic bool stop;
};

struct reader {
  struct shared *shared;
  int torn, backwards;
};

static void *read_snapshots(void *arg)
{
  struct reader *reader = arg;
  uint64_t last = 0;
  for (int i = 0; i < SNAPSHOTS; i++) {
    cpool_http_stats now;
    cpool__http_stats_read(&reader->shared->stats, &now);
    const uint64_t n = now.requests;
    reader->torn += now.size != sizeof now || now.total_connections != (int64_t) n || now.bytes_received != n ||
                    now.opened != n || now.closed != n || now.dns_hits != n;
    reader->backwards += n < last;
    last = n;
  }
  return NULL;
}

static void *write_snapshots(void *arg)
{
  struct shared *shared = arg;
  for (uint64_t n = 1; !atomic_load(&shared->stop); n++) {
    cpool_http_stats *now = &shared->stats.now;
    now->total_connections = (int64_t) n;
    now->requests = now->opened = now->closed = now->dns_hits = now->bytes_received = n;
    cpool__http_stats_publish(&shared->stats);
  }
  return NULL;
}

static void every_snapshot_is_of_one_moment(void **state)
{
  (void) state;
  struct shared *shared = calloc(1, sizeof *shared);
  assert_non_null(shared);
  struct reader readers[READERS];
  pthread_t threads[READERS], writer;
  assert_int_equal(pthread_create(&writer, NULL, write_snapshots, shared), 0);
  for (int i = 0; i < READERS; i++) {
    readers[i] = (struct reader){.shared = shared};
    assert_int_equal(pthread_create(&threads[i], NULL, read_snapshots, &readers[i]), 0);
  }
  for (int i = 0; i < READERS; i++)
    pthread_join(threads[i], NULL);
  atomic_store(&shared->stop, true);
  pthread_join(writer, NULL);
  for (int i = 0; i < READERS; i++) {
    assert_int_equal(readers[i].torn, 0);
    assert_int_equal(readers[i].backwards, 0);
  }
  free(shared);
}

static void a_snapshot_has_every_counter(void **state)
{
  (void) state;
  struct cpool__http_stats *stats = calloc(1, sizeof *stats);
  assert_non_null(stats);
  cpool_http_stats out;
  cpool__http_stats_read(stats, &out);
  assert_int_equal(out.bytes_received, 0);
  uint64_t *words = (uint64_t *) (void *) &stats->now;
  for (size_t i = 1; i < sizeof stats->now / sizeof *words; i++)
    words[i] = i;
  stats->now.size = sizeof stats->now;
  cpool__http_stats_publish(stats);
  cpool__http_stats_read(stats, &out);
  assert_memory_equal(&out, &stats->now, sizeof out);
  free(stats);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults_are_those_of_the_header),
      cmocka_unit_test(every_field_but_three_has_a_row),
      cmocka_unit_test(a_resolved_copy_resolves_to_itself),
      cmocka_unit_test(texts_are_copied),
      cmocka_unit_test(what_is_out_of_range_is_refused),
      cmocka_unit_test(keys_are_set_from_text),
      cmocka_unit_test(only_live_options_may_change),
      cmocka_unit_test(off_means_no_limit),
      cmocka_unit_test(other_parts_get_their_rules),
      cmocka_unit_test(shortage_of_memory_is_told_and_leaks_nothing),
      cmocka_unit_test(every_snapshot_is_of_one_moment),
      cmocka_unit_test(a_snapshot_has_every_counter),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
