/* resolver: one lookup for many waiters; answers kept, renewed, and served beyond their time when need be
 *
 *   lookup -- holds --> record per family (cache.h) <-- answers -- question (ares_loop.h)
 *
 * A record that ends moves its waits to the resolver's list `due`, and a task tells them: outside of c-ares, outside
 * of the caller's start, so that the function told may do anything, the end of the resolver included. An own timer
 * per question ends the waiting where c-ares goes on for longer (search domains, each with all tries); the late
 * answer is dropped then.
 *
 * What a lookup finds known of a family, and what happens:
 *
 *   good                        it is served; when it is time to ask again, that happens in the background
 *   stale, servers fail         it is served; the next try happens in the background, when it is due (freshness.h)
 *   stale, not tried yet        the lookup asks, and is served the stale answer if that fails or takes STALE_WAIT_MS
 *   nothing                     the lookup asks and waits
 *
 * The timer of a known answer asks again ahead of its end, if it was used since the last time. While a question is
 * under way the same timer ends the wait of those whom the stale answer can serve. */
#include "dns/resolver.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "dns/ares_loop.h"
#include "dns/board.h"
#include "dns/cache.h"
#include "dns/host_name.h"
#include "dns/hosts.h"
#include "dns/peers.h"
#include "dns/tie.h"

enum {
  /* How long an answer "the servers failed" is kept: long enough that one bad name is not asked for in a tight loop,
   * too short to outlive an outage noticeably. */
  FAILURE_TTL_MS = 1000,
  STALE_WAIT_MS = 1800, /* the client response timer that RFC 8767 section 5 recommends */
  BOTH_TOLD = (1 << CPOOL__FAMILIES) - 1
};

struct cpool__resolver {
  cpool_runtime *rt;
  struct cpool__dns_options options; /* texts are not kept here */
  struct cpool__dns_cache cache;
  struct cpool__hosts hosts;
  struct cpool__ares_loop *ares;
  struct cpool__dns_board *board;
  struct cpool__list due; /* cpool__lookup_wait whose record has ended */
  struct cpool__task tell;
  struct cpool__ties ties;
  struct cpool__peers peers;
  struct cpool__dns_stats stats;
  uint64_t random; /* jitter only */
  bool closing;
};

/* ---- life */

static void tell_due(struct cpool__task *task);

static struct cpool__resolver *resolver_of(struct cpool__dns_cache *cache)
{
  return cpool__container_of(cache, struct cpool__resolver, cache);
}

static void on_name_added(struct cpool__dns_cache *cache, struct cpool__dns_name *name)
{
  if (resolver_of(cache)->board != NULL)
    cpool__dns_board_add(resolver_of(cache)->board, name);
}

static void on_name_removed(struct cpool__dns_cache *cache, struct cpool__dns_name *name)
{
  struct cpool__resolver *resolver = resolver_of(cache);
  for (int family = 0; family < CPOOL__FAMILIES; family++)
    cpool__runtime_disarm(resolver->rt, &name->known[family].timer);
  if (resolver->board != NULL)
    cpool__dns_board_remove(resolver->board, name);
}

int cpool__resolver_new(struct cpool__resolver **out, cpool_runtime *rt, const struct cpool__dns_options *options,
                        struct cpool__dns_board *board)
{
  struct cpool__resolver *resolver = cpool__calloc(1, sizeof *resolver);
  if (resolver == NULL)
    return CPOOL_ENOMEM;
  resolver->rt = rt;
  resolver->options = *options;
  resolver->options.servers = resolver->options.resolv_conf = resolver->options.hosts_file = NULL;
  resolver->board = board;
  resolver->random = cpool__clock_us() | 1;
  resolver->tell.fn = tell_due;
  cpool__list_init(&resolver->due);
  cpool__ties_init(&resolver->ties);
  cpool__peers_init(&resolver->peers);
  cpool__dns_cache_init(&resolver->cache, options->max_entries);
  resolver->cache.added = on_name_added;
  resolver->cache.removed = on_name_removed;

  int status = cpool__hosts_init(&resolver->hosts, options->hosts_file != NULL ? options->hosts_file : "/etc/hosts");
  if (status == CPOOL_OK)
    status = cpool__ares_loop_new(&resolver->ares, rt, options->servers, options->resolv_conf);
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
  cpool__ties_fini(&resolver->ties);
  cpool__peers_fini(&resolver->peers);
  cpool__task_cancel(&resolver->tell);
  cpool__free(resolver);
}

void cpool__resolver_configure(struct cpool__resolver *resolver, const struct cpool__dns_options *options)
{
  resolver->options = *options;
  resolver->options.servers = resolver->options.resolv_conf = resolver->options.hosts_file = NULL;
  cpool__dns_cache_set_max(&resolver->cache, options->max_entries);
  cpool__ares_loop_set_timeout(resolver->ares, options->timeout_ms);
}

void cpool__resolver_tie(struct cpool__resolver *resolver, struct cpool__tie *tie, const char *name)
{
  char key[CPOOL__DNS_NAME_BYTES + 1];
  if (cpool__host_name_normalise(name, key))
    cpool__ties_add(&resolver->ties, tie, key);
}

void cpool__resolver_untie(struct cpool__resolver *resolver, struct cpool__tie *tie)
{
  cpool__ties_remove(&resolver->ties, tie);
}

struct cpool__peers *cpool__resolver_peers(struct cpool__resolver *resolver)
{
  return &resolver->peers;
}

const struct cpool__dns_stats *cpool__resolver_stats(const struct cpool__resolver *resolver)
{
  return &resolver->stats;
}

static uint64_t next_random(struct cpool__resolver *resolver)
{
  /* xorshift64*: spreads questions, protects nothing */
  resolver->random ^= resolver->random >> 12;
  resolver->random ^= resolver->random << 25;
  resolver->random ^= resolver->random >> 27;
  return resolver->random * UINT64_C(0x2545F4914F6CDD1D);
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

/* Of the servers, or here: no answer that could replace another. */
static bool is_failure(const struct cpool__dns_record *record)
{
  return record->answer.ended && record->answer.status != CPOOL_OK && record->answer.status != CPOOL_EDNS_NOTFOUND;
}

static void lock_board(struct cpool__resolver *resolver)
{
  if (resolver->board != NULL)
    pthread_mutex_lock(&resolver->board->lock);
}

static void unlock_board(struct cpool__resolver *resolver)
{
  if (resolver->board != NULL)
    pthread_mutex_unlock(&resolver->board->lock);
}

static void count(_Atomic uint64_t *counter)
{
  /* one writer */
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

static void count_stale(struct cpool__lookup *lookup)
{
  if (!lookup->stale)
    lookup->resolver->stats.stale++;
  lookup->stale = true;
}

static void tell_waits(struct cpool__resolver *resolver, struct cpool__dns_record *record)
{
  if (cpool__list_empty(&record->waits))
    return;
  cpool__list_splice(&resolver->due, &record->waits);
  cpool__runtime_defer(resolver->rt, &resolver->tell);
}

/* Who waits for `asked` gets the older answer instead. */
static void serve_older(struct cpool__resolver *resolver, struct cpool__dns_record *asked,
                        struct cpool__dns_record *older, bool stale)
{
  for (struct cpool__link *link = cpool__list_first(&asked->waits); link != NULL;
       link = cpool__list_next(&asked->waits, link)) {
    struct cpool__lookup *lookup = cpool__container_of(link, struct cpool__lookup_wait, link)->lookup;
    cpool__dns_record_hold(older);
    lookup->records[asked->family] = older;
    if (stale)
      count_stale(lookup);
    asked->references--; /* not the last: the question, or the caller, holds one */
  }
  assert(asked->references > 0);
  tell_waits(resolver, asked);
}

static void on_refresh_time(struct cpool__timer *timer);

/* Something was asked, or answered: the timer says when to look again. */
static void set_timer(struct cpool__resolver *resolver, struct cpool__dns_known *known)
{
  bool ahead = known->answer != NULL && known->answer->answer.status == CPOOL_OK &&
               known->freshness.expires_ms - known->freshness.answered_ms >= CPOOL__FRESHNESS_AHEAD_MS;
  if (known->asked == NULL && ahead)
    cpool__runtime_arm(resolver->rt, &known->timer, known->freshness.ask_ms, on_refresh_time);
  else
    cpool__runtime_disarm(resolver->rt, &known->timer);
}

static void end_record(struct cpool__resolver *resolver, struct cpool__dns_record *record, int status, int native,
                       const struct cpool__ares_answer *found)
{
  struct cpool__dns_name *name = record->name;
  uint64_t now_ms = cpool__runtime_now_ms(resolver->rt);
  cpool__runtime_disarm(resolver->rt, &record->timer);
  record->owner = NULL;
  int found_count = found != NULL && status == CPOOL_OK ? found->count : 0;
  cpool__dns_record_answer(record, status, native, found_count > 0 ? found->addresses : NULL, found_count);
  if (name == NULL) {
    tell_waits(resolver, record);
    return;
  }

  struct cpool__dns_known *known = &name->known[record->family];
  int64_t ttl_ms = lifetime_ms(&resolver->options, record->answer.status, found != NULL ? found->ttl_ms : 0);
  if (is_failure(record))
    count(&name->failures);
  lock_board(resolver);
  bool kept = cpool__dns_known_answered(known, now_ms, ttl_ms, resolver->options.stale_ms, next_random(resolver));
  unlock_board(resolver);
  if (kept)
    serve_older(resolver, record, known->answer,
                cpool__dns_known_state(known, now_ms, resolver->options.stale_ms) == CPOOL__DNS_STALE);
  else
    tell_waits(resolver, record);
  set_timer(resolver, known);
  if (record->answer.status == CPOOL_OK && known->answer == record) /* one that is not kept shows nothing */
    cpool__ties_answer(&resolver->ties, name->text, record->family, &record->answer, &known->left, now_ms);
  cpool__dns_name_tidy(name);
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

/* ---- questions */

/* The record, not asked before, has one reference: the caller's. An answer may come from inside. */
static int ask(struct cpool__resolver *resolver, struct cpool__dns_record *record, const char *text)
{
  int native = 0;
  record->owner = resolver;
  if (resolver->options.timeout_ms > 0)
    cpool__runtime_arm(resolver->rt, &record->timer, cpool__clock_us() / 1000 + (uint64_t) resolver->options.timeout_ms,
                       on_timeout);
  cpool__dns_record_hold(record); /* the question's */
  int status = cpool__ares_loop_ask(resolver->ares, text, record->family, on_answer, record, &native);
  if (status != CPOOL_OK) {
    end_record(resolver, record, status, native, NULL);
    cpool__dns_record_drop(record);
  }
  return status;
}

/* Asks for nobody. */
static void refresh(struct cpool__resolver *resolver, struct cpool__dns_known *known)
{
  struct cpool__dns_name *name = known->name;
  known->used = false;
  struct cpool__dns_record *record = cpool__dns_record_new((enum cpool__family)(known - name->known));
  if (record == NULL) { /* as a try that failed */
    lock_board(resolver);
    cpool__freshness_failed(&known->freshness, cpool__runtime_now_ms(resolver->rt));
    unlock_board(resolver);
    set_timer(resolver, known);
    return;
  }
  resolver->stats.refreshes++;
  cpool__dns_known_ask(known, record);
  set_timer(resolver, known);
  (void) ask(resolver, record, name->text);
  cpool__dns_record_drop(record);
}

/* An answer that nobody used since the last time, and that no connection was made by, is left to end. */
static void on_refresh_time(struct cpool__timer *timer)
{
  struct cpool__dns_known *known = cpool__container_of(timer, struct cpool__dns_known, timer);
  struct cpool__resolver *resolver = resolver_of(known->name->cache);
  if (known->used || cpool__ties_any(&resolver->ties, known->name->text))
    refresh(resolver, known);
}

static void on_stale_wait_over(struct cpool__timer *timer)
{
  struct cpool__dns_known *known = cpool__container_of(timer, struct cpool__dns_known, timer);
  struct cpool__resolver *resolver = resolver_of(known->name->cache);
  uint64_t now_ms = cpool__runtime_now_ms(resolver->rt);
  if (known->asked == NULL || cpool__dns_known_state(known, now_ms, resolver->options.stale_ms) == CPOOL__DNS_NOTHING)
    return;
  lock_board(resolver);
  cpool__freshness_failed(&known->freshness, now_ms); /* nobody else is to wait for it */
  unlock_board(resolver);
  serve_older(resolver, known->asked, known->answer, true);
}

/* ---- where an answer comes from; each gives the lookup its record, with a reference, or CPOOL_ENOMEM */

static int give_known(struct cpool__lookup *lookup, enum cpool__family family, int status, int native,
                      const struct cpool__address *addresses, int count_of)
{
  struct cpool__dns_record *record = cpool__dns_record_new(family);
  if (record == NULL)
    return CPOOL_ENOMEM;
  cpool__dns_record_answer(record, status, native, addresses, count_of);
  lookup->records[family] = record;
  return record->answer.status == CPOOL_ENOMEM ? CPOOL_ENOMEM : CPOOL_OK;
}

static int give_from_hosts(struct cpool__lookup *lookup, enum cpool__family family,
                           const struct cpool__hosts_name *name)
{
  struct cpool__address addresses[CPOOL__DNS_ADDRESSES];
  int af = family == CPOOL__FAMILY_V6 ? AF_INET6 : AF_INET;
  int found = 0;
  for (int i = 0; i < name->count && found < CPOOL__DNS_ADDRESSES; i++)
    if (name->addresses[i].sock.any.sa_family == af)
      addresses[found++] = name->addresses[i];
  return give_known(lookup, family, found > 0 ? CPOOL_OK : CPOOL_EDNS_NOTFOUND, 0, addresses, found);
}

static int give_loopback(struct cpool__lookup *lookup, enum cpool__family family)
{
  struct cpool__address address;
  bool parsed = cpool__address_parse(&address, family == CPOOL__FAMILY_V6 ? "::1" : "127.0.0.1", 0);
  assert(parsed);
  return give_known(lookup, family, parsed ? CPOOL_OK : CPOOL_EDNS_NOTFOUND, 0, &address, 1);
}

/* Asked without the cache, which is full of questions. */
static int give_uncached(struct cpool__resolver *resolver, struct cpool__lookup *lookup, enum cpool__family family,
                         const char *text, bool *sent)
{
  struct cpool__dns_record *record = cpool__dns_record_new(family);
  if (record == NULL)
    return CPOOL_ENOMEM;
  lookup->records[family] = record;
  int status = ask(resolver, record, text);
  *sent |= status == CPOOL_OK;
  return status == CPOOL_ENOMEM ? CPOOL_ENOMEM : CPOOL_OK;
}

static void give_answer(struct cpool__lookup *lookup, struct cpool__dns_known *known, bool stale)
{
  cpool__dns_record_hold(known->answer);
  lookup->records[known->answer->family] = known->answer;
  known->used = true;
  count(&known->name->hits);
  if (stale)
    count_stale(lookup);
}

/* A question for this lookup. CPOOL_OK: it was sent. On failure the name may be gone, unless something of it may still
 * be served. */
static int give_asked(struct cpool__resolver *resolver, struct cpool__lookup *lookup, struct cpool__dns_known *known)
{
  struct cpool__dns_name *name = known->name;
  struct cpool__dns_record *record = cpool__dns_record_new((enum cpool__family)(known - name->known));
  if (record == NULL)
    return CPOOL_ENOMEM;
  lookup->records[record->family] = record;
  known->used = false;
  cpool__dns_known_ask(known, record);
  set_timer(resolver, known);
  return ask(resolver, record, name->text);
}

static int give_from_cache(struct cpool__resolver *resolver, struct cpool__lookup *lookup, enum cpool__family family,
                           struct cpool__dns_name *name, bool *sent)
{
  struct cpool__dns_known *known = &name->known[family];
  uint64_t now_ms = cpool__runtime_now_ms(resolver->rt);
  enum cpool__dns_state state = cpool__dns_known_state(known, now_ms, resolver->options.stale_ms);
  bool stale = state == CPOOL__DNS_STALE;
  if (state == CPOOL__DNS_GOOD || (stale && cpool__freshness_failing(&known->freshness, now_ms))) {
    bool again = known->asked == NULL && known->answer->answer.status == CPOOL_OK &&
                 cpool__freshness_due(&known->freshness, now_ms);
    give_answer(lookup, known, stale);
    if (again)
      refresh(resolver, known);
    return CPOOL_OK;
  }

  if (known->asked != NULL) {
    cpool__dns_record_hold(known->asked);
    lookup->records[family] = known->asked;
    known->used = true;
  } else {
    int status = give_asked(resolver, lookup, known);
    struct cpool__dns_record *record = lookup->records[family];
    *sent |= status == CPOOL_OK;
    if (stale && (record == NULL || is_failure(record))) {
      cpool__dns_record_drop(record);
      give_answer(lookup, known, true);
      return CPOOL_OK;
    }
    if (status == CPOOL_ENOMEM || record->answer.ended) /* the name may be gone */
      return status == CPOOL_ENOMEM ? CPOOL_ENOMEM : CPOOL_OK;
  }
  if (stale && !cpool__timer_armed(&known->timer))
    cpool__runtime_arm(resolver->rt, &known->timer, cpool__clock_us() / 1000 + STALE_WAIT_MS, on_stale_wait_over);
  return CPOOL_OK;
}

/* Both families. */
static int give_from_servers(struct cpool__resolver *resolver, struct cpool__lookup *lookup, const char *text,
                             bool *sent)
{
  int status = CPOOL_OK;
  for (int i = 0; i < CPOOL__FAMILIES && status == CPOOL_OK; i++) { /* IPv6 is asked for first (RFC 8305 section 3) */
    enum cpool__family family = (enum cpool__family) i;
    struct cpool__dns_name *name = NULL; /* looked for again: a question that fails may let it go */
    status = cpool__dns_cache_get(&resolver->cache, text, &name);
    if (status == CPOOL_EFULL)
      status = give_uncached(resolver, lookup, family, text, sent);
    if (name == NULL)
      continue;
    if (i == 0)
      lookup->turn = name->turn++;
    status = give_from_cache(resolver, lookup, family, name, sent);
  }
  return status;
}

/* ---- lookups */

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
  bool valid = cpool__host_name_normalise(name, key), sent = false, known = true;
  if (valid)
    status = cpool__hosts_find(&resolver->hosts, key, cpool__runtime_now_ms(resolver->rt), &hosts_name);
  bool unread = status == CPOOL_ESYSTEM; /* the name servers must not be asked for what the file may say */
  if (unread)
    status = CPOOL_OK;
  for (int i = 0; i < CPOOL__FAMILIES && status == CPOOL_OK && known; i++) {
    enum cpool__family family = (enum cpool__family) i;
    if (!valid)
      status = give_known(lookup, family, CPOOL_EDNS_NOTFOUND, 0, NULL, 0);
    else if (unread)
      status = give_known(lookup, family, CPOOL_ESYSTEM, resolver->hosts.open_errno, NULL, 0);
    else if (hosts_name != NULL)
      status = give_from_hosts(lookup, family, hosts_name);
    else if (cpool__host_name_is_local(key))
      status = give_loopback(lookup, family);
    else
      known = false;
  }
  if (status == CPOOL_OK && !known)
    status = give_from_servers(resolver, lookup, key, &sent);
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
