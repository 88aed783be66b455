/* resolver: one lookup for many waiters, answers cached for as long as their records allow
 *
 *   lookup -- holds --> record per family (cache.h) <-- answers -- question (ares_loop.h)
 *
 * A record that ends moves its waits to the resolver's list `due`, and a task tells them: outside of c-ares, outside
 * of the caller's start, so that the function told may do anything, the end of the resolver included. An own timer
 * per question ends the waiting where c-ares goes on for longer (search domains, each with all tries); the late
 * answer is dropped then. */
#include "dns/resolver.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "dns/ares_loop.h"
#include "dns/cache.h"
#include "dns/hosts.h"

/* How long an answer "the servers failed" is kept: long enough that one bad name is not asked for in a tight loop,
 * too short to outlive an outage noticeably. */
enum { FAILURE_TTL_MS = 1000 };

enum { LABEL_MAX = 63, BOTH_TOLD = (1 << CPOOL__FAMILIES) - 1 };

struct cpool__resolver {
  cpool_runtime *rt;
  struct cpool__dns_options options; /* texts are not kept here */
  struct cpool__dns_cache cache;
  struct cpool__hosts hosts;
  struct cpool__ares_loop *ares;
  struct cpool__list due; /* cpool__lookup_wait whose record has ended */
  struct cpool__task tell;
  struct cpool__dns_stats stats;
  bool closing;
};

/* ---- life */

static void tell_due(struct cpool__task *task);

int cpool__resolver_new(struct cpool__resolver **out, cpool_runtime *rt, const struct cpool__dns_options *options)
{
  struct cpool__resolver *resolver = cpool__calloc(1, sizeof *resolver);
  if (resolver == NULL)
    return CPOOL_ENOMEM;
  resolver->rt = rt;
  resolver->options = *options;
  resolver->options.servers = resolver->options.hosts_file = NULL;
  resolver->tell.fn = tell_due;
  cpool__list_init(&resolver->due);
  cpool__dns_cache_init(&resolver->cache, options->max_entries);

  int status = cpool__hosts_init(&resolver->hosts, options->hosts_file != NULL ? options->hosts_file : "/etc/hosts");
  if (status == CPOOL_OK)
    status = cpool__ares_loop_new(&resolver->ares, rt, options->servers);
  if (status == CPOOL_EINVAL)
    status = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                           "dns_servers: \"%s\" is not a list of 1 to 8 numeric addresses such as %s", options->servers,
                           "\"127.0.0.1:5353,[::1]:53\"");
  if (status != CPOOL_OK) {
    cpool__resolver_free(resolver);
    return status;
  }
  cpool__ares_loop_set_timeout(resolver->ares, options->timeout_ms);
  *out = resolver;
  return CPOOL_OK;
}

void cpool__resolver_free(struct cpool__resolver *resolver)
{
  if (resolver == NULL)
    return;
  assert(cpool__list_empty(&resolver->due));
  resolver->closing = true;
  cpool__ares_loop_free(resolver->ares);
  cpool__dns_cache_fini(&resolver->cache);
  cpool__hosts_fini(&resolver->hosts);
  cpool__task_cancel(&resolver->tell);
  cpool__free(resolver);
}

void cpool__resolver_configure(struct cpool__resolver *resolver, const struct cpool__dns_options *options)
{
  resolver->options = *options;
  resolver->options.servers = resolver->options.hosts_file = NULL;
  cpool__dns_cache_set_max(&resolver->cache, options->max_entries);
  cpool__ares_loop_set_timeout(resolver->ares, options->timeout_ms);
}

const struct cpool__dns_stats *cpool__resolver_stats(const struct cpool__resolver *resolver)
{
  return &resolver->stats;
}

/* ---- answers */

static int64_t at_most(int64_t value, int64_t limit)
{
  return value < limit ? value : limit;
}

static int64_t lifetime_ms(const struct cpool__dns_options *options, int status, int64_t ttl_ms)
{
  if (options->ttl_max_ms <= 0)
    return 0;
  switch (status) {
  case CPOOL_OK:
    return at_most(ttl_ms < options->ttl_min_ms ? options->ttl_min_ms : ttl_ms, options->ttl_max_ms);
  case CPOOL_EDNS_NOTFOUND:
    return at_most(options->negative_ttl_ms, options->ttl_max_ms);
  case CPOOL_EDNS_FAILED:
    return at_most(at_most(options->negative_ttl_ms, FAILURE_TTL_MS), options->ttl_max_ms);
  default: /* memory or descriptors were short here: nothing that a name server said */
    return 0;
  }
}

static void end_record(struct cpool__resolver *resolver, struct cpool__dns_record *record, int status, int native,
                       const struct cpool__ares_answer *found)
{
  cpool__runtime_disarm(resolver->rt, &record->timer);
  record->owner = NULL;
  int count = found != NULL && status == CPOOL_OK ? found->count : 0;
  cpool__dns_record_answer(record, status, native, count > 0 ? found->addresses : NULL, count);
  int64_t ttl_ms = lifetime_ms(&resolver->options, record->answer.status, found != NULL ? found->ttl_ms : 0);
  if (!cpool__list_empty(&record->waits)) {
    cpool__list_splice(&resolver->due, &record->waits);
    cpool__runtime_defer(resolver->rt, &resolver->tell);
  }
  cpool__dns_cache_answered(&resolver->cache, record, cpool__runtime_now_ms(resolver->rt), ttl_ms);
}

/* The question's reference to the record ends here, whether it is still waited for or not. */
static void on_answer(void *argument, const struct cpool__ares_answer *answer)
{
  struct cpool__dns_record *record = argument;
  if (!record->answer.ended) {
    assert(record->owner != NULL);
    end_record(record->owner, record, answer->status, answer->native, answer);
  }
  cpool__dns_record_drop(record);
}

static void on_timeout(struct cpool__timer *timer)
{
  struct cpool__dns_record *record = cpool__container_of(timer, struct cpool__dns_record, timer);
  end_record(record->owner, record, CPOOL_EDNS_FAILED, 0, NULL);
}

static void tell_due(struct cpool__task *task)
{
  struct cpool__resolver *resolver = cpool__container_of(task, struct cpool__resolver, tell);
  struct cpool__list batch; /* what becomes due meanwhile is for the next run, so that this one ends */
  cpool__list_init(&batch);
  cpool__list_splice(&batch, &resolver->due);
  struct cpool__link *link;
  while ((link = cpool__list_pop_front(&batch)) != NULL) {
    struct cpool__lookup_wait *wait = cpool__container_of(link, struct cpool__lookup_wait, link);
    struct cpool__lookup *lookup = wait->lookup;
    lookup->told |= 1u << (wait - lookup->waits);
    if (lookup->told == BOTH_TOLD && lookup->records[CPOOL__FAMILY_V6]->answer.status != CPOOL_OK &&
        lookup->records[CPOOL__FAMILY_V4]->answer.status != CPOOL_OK)
      lookup->resolver->stats.failures++;
    /* From here on lookup and resolver may be gone; if the resolver is, nothing is left in the batch. */
    lookup->fn(lookup);
  }
}

/* ---- where an answer comes from; each gives the lookup its record, with a reference, or CPOOL_ENOMEM */

static int give_known(struct cpool__lookup *lookup, enum cpool__family family, int status, int native,
                      const struct cpool__address *addresses, int count)
{
  struct cpool__dns_record *record = cpool__dns_record_new("", family);
  if (record == NULL)
    return CPOOL_ENOMEM;
  cpool__dns_record_answer(record, status, native, addresses, count);
  lookup->records[family] = record;
  return record->answer.status == CPOOL_ENOMEM ? CPOOL_ENOMEM : CPOOL_OK;
}

static int give_from_hosts(struct cpool__lookup *lookup, enum cpool__family family,
                           const struct cpool__hosts_name *name)
{
  struct cpool__address addresses[CPOOL__DNS_ADDRESSES];
  int af = family == CPOOL__FAMILY_V6 ? AF_INET6 : AF_INET;
  int count = 0;
  for (int i = 0; i < name->count && count < CPOOL__DNS_ADDRESSES; i++)
    if (name->addresses[i].sock.any.sa_family == af)
      addresses[count++] = name->addresses[i];
  return give_known(lookup, family, count > 0 ? CPOOL_OK : CPOOL_EDNS_NOTFOUND, 0, addresses, count);
}

static int give_loopback(struct cpool__lookup *lookup, enum cpool__family family)
{
  struct cpool__address address;
  bool parsed = cpool__address_parse(&address, family == CPOOL__FAMILY_V6 ? "::1" : "127.0.0.1", 0);
  assert(parsed);
  return give_known(lookup, family, parsed ? CPOOL_OK : CPOOL_EDNS_NOTFOUND, 0, &address, 1);
}

static int give_from_query(struct cpool__resolver *resolver, struct cpool__lookup *lookup, enum cpool__family family,
                           const char *name, bool *sent)
{
  uint64_t now_ms = cpool__runtime_now_ms(resolver->rt);
  struct cpool__dns_record *record = cpool__dns_cache_find(&resolver->cache, name, family, now_ms);
  if (record != NULL) {
    cpool__dns_record_hold(record);
    lookup->records[family] = record;
    return CPOOL_OK;
  }
  record = cpool__dns_record_new(name, family);
  if (record == NULL)
    return CPOOL_ENOMEM;
  lookup->records[family] = record;
  if (cpool__dns_cache_add(&resolver->cache, record) == CPOOL_ENOMEM) /* CPOOL_EFULL: asked for without the cache */
    return CPOOL_ENOMEM;

  record->owner = resolver;
  if (resolver->options.timeout_ms > 0)
    cpool__runtime_arm(resolver->rt, &record->timer, cpool__clock_us() / 1000 + (uint64_t) resolver->options.timeout_ms,
                       on_timeout);
  cpool__dns_record_hold(record); /* the question's */
  int native = 0;
  int status = cpool__ares_loop_ask(resolver->ares, name, family, on_answer, record, &native);
  if (status != CPOOL_OK) {
    end_record(resolver, record, status, native, NULL);
    cpool__dns_record_drop(record);
  } else {
    *sent = true;
  }
  return status == CPOOL_ENOMEM ? CPOOL_ENOMEM : CPOOL_OK;
}

/* ---- lookups */

/* Lower case, without the dot at the end. False: no host name. */
static bool normalise(const char *name, char out[CPOOL__DNS_NAME_BYTES + 1])
{
  size_t len = strlen(name), label_len = 0;
  if (len > 0 && name[len - 1] == '.')
    len--;
  if (len == 0 || len > CPOOL__DNS_NAME_BYTES)
    return false;
  for (size_t i = 0; i < len; i++) {
    char c = name[i];
    if (c >= 'A' && c <= 'Z')
      c = (char) (c + ('a' - 'A'));
    if (c == '.') {
      if (label_len == 0)
        return false;
      label_len = 0;
    } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
      if (++label_len > LABEL_MAX)
        return false;
    } else {
      return false;
    }
    out[i] = c;
  }
  out[len] = '\0';
  return label_len > 0;
}

static bool is_localhost(const char *name)
{
  static const char localhost[] = "localhost";
  size_t len = strlen(name), tail = sizeof localhost - 1;
  if (len < tail || strcmp(name + len - tail, localhost) != 0)
    return false;
  return len == tail || name[len - tail - 1] == '.';
}

static void drop_records(struct cpool__lookup *lookup)
{
  for (int family = 0; family < CPOOL__FAMILIES; family++) {
    struct cpool__dns_record *record = lookup->records[family];
    lookup->records[family] = NULL;
    cpool__dns_record_drop(record);
  }
}

int cpool__lookup_start(struct cpool__resolver *resolver, struct cpool__lookup *lookup, const char *name,
                        cpool__lookup_fn *fn)
{
  assert(!resolver->closing && lookup->records[0] == NULL && lookup->records[1] == NULL);
  *lookup = (struct cpool__lookup){.fn = fn, .resolver = resolver};

  char key[CPOOL__DNS_NAME_BYTES + 1];
  const struct cpool__hosts_name *hosts_name = NULL;
  int status = CPOOL_OK;
  bool valid = normalise(name, key), sent = false;
  if (valid)
    status = cpool__hosts_find(&resolver->hosts, key, cpool__runtime_now_ms(resolver->rt), &hosts_name);
  bool unread = status == CPOOL_ESYSTEM; /* the name servers must not be asked for what the file may say */
  if (unread)
    status = CPOOL_OK;
  for (int i = 0; i < CPOOL__FAMILIES && status == CPOOL_OK; i++) {
    enum cpool__family family = (enum cpool__family) i; /* IPv6 is asked for first (RFC 8305 section 3) */
    if (!valid)
      status = give_known(lookup, family, CPOOL_EDNS_NOTFOUND, 0, NULL, 0);
    else if (unread)
      status = give_known(lookup, family, CPOOL_ESYSTEM, resolver->hosts.open_errno, NULL, 0);
    else if (hosts_name != NULL)
      status = give_from_hosts(lookup, family, hosts_name);
    else if (is_localhost(key))
      status = give_loopback(lookup, family);
    else
      status = give_from_query(resolver, lookup, family, key, &sent);
  }
  if (status != CPOOL_OK) {
    drop_records(lookup);
    return status;
  }

  for (int i = 0; i < CPOOL__FAMILIES; i++) {
    struct cpool__lookup_wait *wait = &lookup->waits[i];
    wait->lookup = lookup;
    if (lookup->records[i]->answer.ended) {
      cpool__list_push_back(&resolver->due, &wait->link);
      cpool__runtime_defer(resolver->rt, &resolver->tell);
    } else {
      cpool__list_push_back(&lookup->records[i]->waits, &wait->link);
    }
  }
  if (sent)
    resolver->stats.misses++;
  else
    resolver->stats.hits++;
  return CPOOL_OK;
}

void cpool__lookup_cancel(struct cpool__lookup *lookup)
{
  for (int i = 0; i < CPOOL__FAMILIES; i++)
    cpool__link_remove(&lookup->waits[i].link);
  drop_records(lookup);
}

const struct cpool__family_answer *cpool__lookup_answer(const struct cpool__lookup *lookup, enum cpool__family family)
{
  assert(lookup->records[family] != NULL);
  return &lookup->records[family]->answer;
}
