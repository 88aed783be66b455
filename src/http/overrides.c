/* overrides: options of one host */
#include "http/overrides.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/options.h"
#include "core/structs.h"
#include "http/http_options.h"
#include "http/origin.h"
#include "http/pool.h"
#include "http/warm.h"

/* X(key): what may be overridden, beside warm_up_request: numbers. */
#define KEYS(X)                                                                                                        \
  X(max_connections_per_host)                                                                                          \
  X(max_connecting_per_host)                                                                                           \
  X(keepalive_timeout_ms)                                                                                              \
  X(max_lifetime_ms)                                                                                                   \
  X(max_requests_per_connection)                                                                                       \
  X(min_idle_per_host)

struct override {
  struct cpool__table_entry entry;
  cpool_http_options values; /* 0: not overridden; warm_up_request is the record's own, "": none */
  char origin[];
};

static const char warm_up_key[] = "warm_up_request";

/* The table is written by cpool_http_origin_set under options_lock; a message has the loop look at it. */
struct set_msg {
  struct cpool__msg msg;
  cpool_http *pool;
  bool warm; /* min_idle_per_host was set: the host is to be known from now on */
  char origin[];
};

int cpool__override_same(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct override *override = cpool__container_of(entry, const struct override, entry);
  return strlen(override->origin) == len && memcmp(override->origin, key, len) == 0;
}

static struct override *find(cpool_http *pool, const char *origin, size_t len)
{
  struct cpool__table_entry *entry = cpool__table_find(&pool->overrides, origin, len);
  return entry != NULL ? cpool__container_of(entry, struct override, entry) : NULL;
}

static void copy_key(cpool_http_options *to, const cpool_http_options *from, const char *key)
{
#define COPY(name)                                                                                                     \
  if (strcmp(key, #name) == 0)                                                                                         \
    to->name = from->name;
  KEYS(COPY)
#undef COPY
}

static bool empty(const cpool_http_options *values)
{
#define IS_SET(name) || values->name != 0
  return values->warm_up_request == NULL && !(false KEYS(IS_SET));
#undef IS_SET
}

/* `key` as the name of a host goes: one behind a unix socket or a proxy by its name alone. Under options_lock. */
static struct override *find_host(cpool_http *pool, const char *key)
{
  const char *via = strstr(key, " via ");
  return find(pool, key, via != NULL ? (size_t) (via - key) : strlen(key));
}

void cpool__overrides_apply(cpool_http *pool, const char *key, cpool_http_options *options)
{
  pthread_mutex_lock(&pool->options_lock);
  const struct override *override = find_host(pool, key);
#define APPLY(name)                                                                                                    \
  if (override != NULL && override->values.name != 0)                                                                  \
    options->name = override->values.name;
  KEYS(APPLY)
#undef APPLY
  pthread_mutex_unlock(&pool->options_lock);
}

void cpool__overrides_warm_up(cpool_http *pool, const char *key, char out[CPOOL__WARM_UP_BYTES])
{
  pthread_mutex_lock(&pool->options_lock);
  const struct override *override = find_host(pool, key);
  const char *text = override != NULL && override->values.warm_up_request != NULL ? override->values.warm_up_request
                                                                                  : pool->options.warm_up_request;
  snprintf(out, CPOOL__WARM_UP_BYTES, "%s", text != NULL ? text : "");
  pthread_mutex_unlock(&pool->options_lock);
}

static void on_set(struct cpool__msg *msg)
{
  struct set_msg *set = cpool__container_of(msg, struct set_msg, msg);
  cpool_http *pool = set->pool;
  if (pool->state != CPOOL__HTTP_CLOSED)
    cpool__origins_configure_named(pool, set->origin);
  if (pool->state == CPOOL__HTTP_OPEN && set->warm)
    cpool__warm_begin(pool, set->origin);
  cpool__free(set);
  cpool__http_leave_on_loop(pool);
}

/* Parses the value through the pool's own table; *name is the table's own text of the key. */
static int parse(const char *key, const char *value, const char **name, cpool_http_options *values)
{
  const struct cpool__option *option =
      strcmp(key, warm_up_key) == 0 ? cpool__options_find(&cpool__http_option_table, key) : NULL;
#define FIND(name)                                                                                                     \
  if (strcmp(key, #name) == 0)                                                                                         \
    option = cpool__options_find(&cpool__http_option_table, key);
  KEYS(FIND)
#undef FIND
  if (option == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "origin_set: key %.64s cannot be set for one host", key);
  *name = option->key;
  if (value == NULL || (option->type == CPOOL__OPTION_TEXT && value[0] == '\0'))
    return CPOOL_OK;
  if (option->type == CPOOL__OPTION_TEXT) {
    bool off = strcmp(value, "off") == 0;
    values->warm_up_request = off ? "" : value;
    return off ? CPOOL_OK : cpool__http_warm_up_check(value);
  }
  return cpool__options_set(&cpool__http_option_table, values, sizeof *values, key, value);
}

static void record_free(struct override *override)
{
  if (override != NULL)
    cpool__free((char *) override->values.warm_up_request);
  cpool__free(override);
}

/* Takes the text over. */
static void set_key(struct override *override, const char *key, cpool_http_options *values)
{
  if (strcmp(key, warm_up_key) != 0) {
    copy_key(&override->values, values, key);
    return;
  }
  cpool__free((char *) override->values.warm_up_request);
  override->values.warm_up_request = values->warm_up_request;
  values->warm_up_request = NULL;
}

/* Under options_lock. Takes *made when the host has no record yet, and a record that became empty away. */
static int change(cpool_http *pool, struct override **made, const char *key, cpool_http_options *values)
{
  size_t len = strlen((*made)->origin);
  struct override *override = find(pool, (*made)->origin, len);
  if (override == NULL) {
    if (empty(values))
      return CPOOL_OK;
    if (pool->overrides.count >= (size_t) atomic_load_explicit(&pool->max_overrides, memory_order_relaxed))
      return cpool__refuse(CPOOL_EFULL, CPOOL_LAYER_POOL, "origin_set: max_origins hosts have options of their own");
    if (cpool__table_insert(&pool->overrides, &(*made)->entry, (*made)->origin, len) != 0)
      return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "origin_set: no memory");
    override = *made;
    *made = NULL;
  }
  set_key(override, key, values);
  if (empty(&override->values)) {
    cpool__table_remove(&pool->overrides, &override->entry);
    record_free(override);
  }
  return CPOOL_OK;
}

int cpool_http_origin_set(cpool_http *pool, const char *origin, const char *key, const char *value)
{
  struct cpool__url url = {0};
  struct set_msg *set = NULL;
  struct override *made = NULL;
  cpool_http_options given = {0}, values = {0};
  size_t len;
  if (pool == NULL || origin == NULL || key == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "origin_set: pool, origin and key are needed");
  int rc = cpool__http_usable(pool);
  if (rc == CPOOL_OK)
    rc = cpool__url_parse(&pool->urls, origin, "origin", &url);
  if (rc != CPOOL_OK)
    return rc;
  if (url.target_len > 1 || (url.target_len == 1 && url.target[0] != '/')) {
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "origin_set: origin has a path or query");
    goto done;
  }
  rc = parse(key, value, &key, &given);
  if (rc != CPOOL_OK)
    goto done;
  values = given;
  values.warm_up_request = cpool__strdup(given.warm_up_request);
  len = strlen(url.authority->origin);
  set = cpool__calloc(1, sizeof *set + len + 1);
  made = cpool__calloc(1, sizeof *made + len + 1);
  if (set == NULL || made == NULL || (given.warm_up_request != NULL && values.warm_up_request == NULL)) {
    rc = cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "origin_set: no memory");
    goto done;
  }
  memcpy(made->origin, url.authority->origin, len);
  memcpy(set->origin, url.authority->origin, len);
  rc = cpool__http_enter(pool);
  if (rc != CPOOL_OK)
    goto done;
  pthread_mutex_lock(&pool->options_lock);
  rc = change(pool, &made, key, &values);
  pthread_mutex_unlock(&pool->options_lock);
  if (rc == CPOOL_OK) {
    set->pool = pool;
    set->warm = values.min_idle_per_host > 0;
    set->msg.fn = on_set;
    cpool__runtime_post(pool->rt, &set->msg);
    set = NULL;
  } else {
    cpool__http_leave(pool);
  }

done:
  cpool__free((char *) values.warm_up_request);
  cpool__free(made);
  cpool__free(set);
  cpool__authority_free(url.owned);
  return rc;
}

void cpool__overrides_fini(cpool_http *pool)
{
  struct cpool__table_entry *entry = cpool__table_next(&pool->overrides, NULL), *next;
  for (; entry != NULL; entry = next) {
    next = cpool__table_next(&pool->overrides, entry);
    record_free(cpool__container_of(entry, struct override, entry));
  }
  cpool__table_fini(&pool->overrides);
}
