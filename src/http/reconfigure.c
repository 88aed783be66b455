/* reconfigure: options of a living pool, read and changed */

#include "base/memory.h"
#include "core/error.h"
#include "core/options.h"
#include "core/structs.h"
#include "http/curl_loop.h"
#include "http/http_options.h"
#include "http/origin.h"
#include "http/pool.h"
#include "http/stream.h"

struct change_msg {
  struct cpool__msg msg;
  cpool_http *pool;
  cpool_http_options options;
};

int cpool_http_options_get(cpool_http *pool, cpool_http_options *out)
{
  if (pool == NULL || out == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "options_get: pool and out are needed");
  int rc = cpool__http_readable(pool);
  if (rc != CPOOL_OK)
    return rc;
  pthread_mutex_lock(&pool->options_lock);
  cpool_http_options own = pool->wanted;
  pthread_mutex_unlock(&pool->options_lock);
  return cpool__struct_write(out, &own, sizeof own, "http options");
}

/* The rest, texts among it, is read without a lock on any thread. */
static void take_live(cpool_http_options *to, const cpool_http_options *from)
{
  cpool__options_take_live(&cpool__http_option_table, to, from);
}

static void on_change(struct cpool__msg *msg)
{
  struct change_msg *change = cpool__container_of(msg, struct change_msg, msg);
  cpool_http *pool = change->pool;
  struct cpool__dns_options dns;
  if (pool->state != CPOOL__HTTP_CLOSED) {
    take_live(&pool->options, &change->options);
    cpool__admission_limits(&pool->admission, cpool__limit32(pool->options.max_connections), pool->options.max_closing);
    cpool__origins_configure(pool);
    for (struct cpool__link *link = cpool__list_first(&pool->identities_used); link != NULL;
         link = cpool__list_next(&pool->identities_used, link))
      cpool__curl_configure(cpool__container_of(link, struct cpool__curl, link));
    cpool__budget_marks(pool->stream_budget, pool->options.max_stream_bytes,
                        cpool__stream_low(pool->options.max_stream_bytes));
    cpool__http_dns_options(&pool->options, &dns);
    cpool__resolver_configure(pool->resolver, &dns);
    cpool__http_touch(pool);
  }
  cpool__free(change);
  cpool__http_leave_on_loop(pool);
}

int cpool_http_reconfigure(cpool_http *pool, const cpool_http_options *options)
{
  struct change_msg *change = NULL;
  if (pool == NULL || options == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "reconfigure: pool and options are needed");
  int rc = cpool__http_usable(pool);
  if (rc != CPOOL_OK)
    return rc;
  change = cpool__calloc(1, sizeof *change);
  if (change == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "reconfigure: no memory");
  rc = cpool__http_options_make(&change->options, options);
  if (rc != CPOOL_OK)
    goto done;
  pthread_mutex_lock(&pool->options_lock);
  const char *frozen = cpool__options_frozen_change(&cpool__http_option_table, &pool->wanted, &change->options);
  cpool__http_options_fini(&change->options);
  if (frozen != NULL) {
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "reconfigure: http option %s is not live", frozen);
  } else if ((rc = cpool__http_enter(pool)) == CPOOL_OK) {
    take_live(&pool->wanted, &change->options);
    cpool__http_options_publish(pool);
    change->pool = pool;
    change->msg.fn = on_change;
    cpool__runtime_post(pool->rt,
                        &change->msg); /* under the lock: changes reach the loop in the order in which they show */
    change = NULL;
  }
  pthread_mutex_unlock(&pool->options_lock);

done:
  cpool__free(change);
  return rc;
}
