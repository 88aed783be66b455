/* identity: a table from the bytes of the settings to their identity, counted by those who refer to it */
#include "http/identity.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "http/pool.h"
#include "http/proxy.h"

/* X(text field of the identity and of the session's options); the same of the session's proxies. */
#define OPTION_FIELDS(X)                                                                                               \
  X(ca_file)                                                                                                           \
  X(client_cert_file)                                                                                                  \
  X(client_key_file)                                                                                                   \
  X(client_key_password)                                                                                               \
  X(unix_socket_path)                                                                                                  \
  X(pinned_public_key)
#define PROXY_FIELDS(X)                                                                                                \
  X(http_proxy)                                                                                                        \
  X(https_proxy)                                                                                                       \
  X(http_proxy_userpwd)                                                                                                \
  X(https_proxy_userpwd)                                                                                               \
  X(no_proxy)
#define TEXT_FIELDS(X) OPTION_FIELDS(X) PROXY_FIELDS(X)

/* A key is FIXED_BYTES of numbers, then per text a length and its bytes with their NUL, so that the texts are used
 * where they stand. */
enum {
#define TEXT_INDEX(field) TEXT_##field,
  TEXT_FIELDS(TEXT_INDEX)
#undef TEXT_INDEX
      TEXTS,
  FIXED_BYTES = 4 * sizeof(int32_t),
  STACK_BYTES = 1024
};
static const uint32_t NO_TEXT = UINT32_MAX; /* as a length: not set */

struct texts {
  const char *at[TEXTS];
};

static struct texts texts_of(const cpool_session_options *options, const struct cpool__proxy_settings *proxies)
{
  struct texts texts;
#define TEXT_TAKE(field) texts.at[TEXT_##field] = options->field;
  OPTION_FIELDS(TEXT_TAKE)
#undef TEXT_TAKE
#define TEXT_TAKE(field) texts.at[TEXT_##field] = proxies->field;
  PROXY_FIELDS(TEXT_TAKE)
#undef TEXT_TAKE
  return texts;
}

static bool has_secret(const struct texts *texts)
{
  return texts->at[TEXT_client_key_password] != NULL || texts->at[TEXT_http_proxy_userpwd] != NULL ||
         texts->at[TEXT_https_proxy_userpwd] != NULL;
}

static size_t key_size(const struct texts *texts)
{
  size_t size = FIXED_BYTES + TEXTS * sizeof(uint32_t);
  for (int i = 0; i < TEXTS; i++)
    size += texts->at[i] == NULL ? 0 : strlen(texts->at[i]) + 1;
  return size;
}

static void key_write(char *out, const cpool_session_options *options, const struct texts *texts)
{
  const int32_t numbers[4] = {options->tls_verify == CPOOL_OFF ? 0 : 1, options->tls_min_version,
                              options->address_policy, options->http_version};
  memcpy(out, numbers, sizeof numbers);
  out += sizeof numbers;
  for (int i = 0; i < TEXTS; i++) {
    uint32_t len = texts->at[i] == NULL ? NO_TEXT : (uint32_t) strlen(texts->at[i]);
    memcpy(out, &len, sizeof len);
    out += sizeof len;
    if (len != NO_TEXT) {
      memcpy(out, texts->at[i], len + (size_t) 1);
      out += len + (size_t) 1;
    }
  }
}

/* The i-th text within a key, or NULL. */
static const char *key_text(const char *key, int i)
{
  const char *at = key + FIXED_BYTES;
  for (;; i--) {
    uint32_t len;
    memcpy(&len, at, sizeof len);
    at += sizeof len;
    if (i == 0)
      return len == NO_TEXT ? NULL : at;
    at += len == NO_TEXT ? 0 : len + (size_t) 1;
  }
}

static struct cpool__identity *identity_of(const struct cpool__table_entry *entry)
{
  return cpool__container_of(entry, struct cpool__identity, entry);
}

static int same_key(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct cpool__identity *identity = identity_of(entry);
  return identity->key_len == len && memcmp(identity->key, key, len) == 0;
}

static struct cpool__identity *identity_new(cpool_http *pool, const char *key, size_t key_len)
{
  struct cpool__identity *identity = cpool__calloc(1, sizeof *identity + key_len);
  if (identity == NULL)
    return NULL;
  char *own = (char *) (identity + 1);
  memcpy(own, key, key_len);
  int32_t numbers[4];
  memcpy(numbers, own, sizeof numbers);
  identity->pool = pool;
  identity->unused_msg.fn = cpool__identity_unused;
  identity->tls_verify = numbers[0] != 0;
  identity->tls_min_version = numbers[1];
  identity->address_policy = numbers[2];
  identity->http_version = numbers[3];
#define TEXT_GIVE(field) identity->field = key_text(own, TEXT_##field);
  TEXT_FIELDS(TEXT_GIVE)
#undef TEXT_GIVE
  identity->key_len = key_len;
  identity->key = own;
  return identity;
}

static void identity_free(struct cpool__identity *identity)
{
  assert(identity->curl == NULL);
  if (identity->client_key_password != NULL || identity->http_proxy_userpwd != NULL ||
      identity->https_proxy_userpwd != NULL)
    explicit_bzero(identity + 1, identity->key_len);
  cpool__free(identity);
}

void cpool__identities_init(struct cpool__identities *ids, int32_t limit)
{
  *ids = (struct cpool__identities){.limit = limit};
  pthread_mutex_init(&ids->lock, NULL);
  cpool__table_init(&ids->table, same_key);
}

void cpool__identities_fini(struct cpool__identities *ids)
{
  assert(ids->count == 0);
  struct cpool__table_entry *next;
  for (struct cpool__table_entry *entry = cpool__table_next(&ids->table, NULL); entry != NULL; entry = next) {
    next = cpool__table_next(&ids->table, entry);
    cpool__table_remove(&ids->table, entry);
    identity_free(identity_of(entry));
  }
  cpool__table_fini(&ids->table);
  pthread_mutex_destroy(&ids->lock);
}

/* Under the lock. */
static int take_locked(cpool_http *pool, const char *key, size_t key_len, struct cpool__identity **out)
{
  struct cpool__identities *ids = &pool->identities;
  struct cpool__table_entry *entry = cpool__table_find(&ids->table, key, key_len);
  struct cpool__identity *identity = entry == NULL ? NULL : identity_of(entry);
  if ((identity == NULL || identity->refs == 0) && ids->count >= ids->limit)
    return cpool__refuse(CPOOL_EFULL, CPOOL_LAYER_POOL,
                         "max_identities: %d different TLS, address, socket and proxy settings are in use already",
                         (int) ids->limit);
  if (identity == NULL) {
    identity = identity_new(pool, key, key_len);
    if (identity == NULL || cpool__table_insert(&ids->table, &identity->entry, identity->key, key_len) != 0) {
      if (identity != NULL)
        identity_free(identity);
      return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for an identity");
    }
  }
  if (identity->refs++ == 0)
    ids->count++;
  *out = identity;
  return CPOOL_OK;
}

int cpool__identity_take(cpool_http *pool, const cpool_session_options *options,
                         const struct cpool__proxy_settings *proxies, struct cpool__identity **out)
{
  char stack[STACK_BYTES];
  struct texts texts = texts_of(options, proxies);
  size_t len = key_size(&texts);
  char *key = len <= sizeof stack ? stack : cpool__malloc(len);
  if (key == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for an identity");
  key_write(key, options, &texts);

  pthread_mutex_lock(&pool->identities.lock);
  int status = take_locked(pool, key, len, out);
  pthread_mutex_unlock(&pool->identities.lock);

  if (has_secret(&texts))
    explicit_bzero(key, len);
  if (key != stack)
    cpool__free(key);
  return status;
}

/* Under the lock. Counts a message to the loop, which the close then waits for. Not while the pool closes: that
 * destroys the curl parts by itself, and may end before a message arrives. */
static bool may_post(cpool_http *pool)
{
  uint32_t count = atomic_load(&pool->inflight_count);
  do {
    if ((count & CPOOL__CLOSING_BIT) != 0)
      return false;
  } while (!atomic_compare_exchange_weak(&pool->inflight_count, &count, count + 1));
  return true;
}

void cpool__identity_drop(struct cpool__identity *identity)
{
  cpool_http *pool = identity->pool;
  struct cpool__identities *ids = &pool->identities;
  bool post = false;
  pthread_mutex_lock(&ids->lock);
  assert(identity->refs > 0);
  if (--identity->refs == 0) {
    ids->count--;
    /* A message on its way keeps it from being freed here. */
    if (identity->curl == NULL && !identity->unused_posted)
      cpool__identity_remove_locked(identity);
    else if (identity->curl != NULL && !identity->unused_posted)
      post = identity->unused_posted = may_post(pool);
  }
  pthread_mutex_unlock(&ids->lock);
  if (post)
    cpool__runtime_post(pool->rt, &identity->unused_msg);
}

void cpool__identity_remove_locked(struct cpool__identity *identity)
{
  assert(identity->refs == 0);
  cpool__table_remove(&identity->pool->identities.table, &identity->entry);
  identity_free(identity);
}
