/* topic: sets of connections by name; a membership is in the list of its topic and in that of its connection */
#include "ws/topic.h"

#include <string.h>

#include "base/memory.h"
#include "core/error.h"

enum { NAME_BYTES = 255 };

struct topic {
  struct cpool__table_entry entry;
  struct cpool__list members;
  size_t name_len;
  char name[];
};

struct membership {
  struct cpool__link of_topic, of_conn;
  struct topic *topic;
  struct cpool__ws_conn *conn;
};

static int same(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct topic *topic = cpool__container_of(entry, const struct topic, entry);
  return topic->name_len == len && memcmp(topic->name, key, len) == 0;
}

cpool__table_equal_fn *const cpool__topic_same = same;

int cpool__topic_check(const char *call, const char *name)
{
  size_t len = name != NULL ? strnlen(name, NAME_BYTES + 1) : 0;
  if (len == 0 || len > NAME_BYTES)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: a topic has 1 to %d bytes", call, NAME_BYTES);
  return CPOOL_OK;
}

static struct topic *find(cpool_ws *ws, const char *name, size_t len)
{
  struct cpool__table_entry *entry = cpool__table_find(&ws->topics, name, len);
  return entry != NULL ? cpool__container_of(entry, struct topic, entry) : NULL;
}

static struct topic *topic_new(cpool_ws *ws, const char *name, size_t len)
{
  struct topic *topic = cpool__malloc(sizeof *topic + len);
  if (topic == NULL)
    return NULL;
  *topic = (struct topic){.name_len = len};
  memcpy(topic->name, name, len);
  cpool__list_init(&topic->members);
  if (cpool__table_insert(&ws->topics, &topic->entry, name, len) != 0) {
    cpool__free(topic);
    return NULL;
  }
  ws->topic_count++;
  cpool__ws_changed(ws);
  return topic;
}

static void free_unused(cpool_ws *ws, struct topic *topic)
{
  if (!cpool__list_empty(&topic->members))
    return;
  cpool__table_remove(&ws->topics, &topic->entry);
  cpool__free(topic);
  ws->topic_count--;
  cpool__ws_changed(ws);
}

/* A connection is in few topics, a topic has many connections. */
static struct membership *membership_of(const struct cpool__ws_conn *conn, const struct topic *topic)
{
  for (struct cpool__link *link = cpool__list_first(&conn->memberships); link != NULL;
       link = cpool__list_next(&conn->memberships, link)) {
    struct membership *own = cpool__container_of(link, struct membership, of_conn);
    if (own->topic == topic)
      return own;
  }
  return NULL;
}

int cpool__topic_join(struct cpool__ws_conn *conn, const char *name, size_t len)
{
  cpool_ws *ws = conn->ws;
  struct topic *topic = find(ws, name, len);
  if (topic != NULL && membership_of(conn, topic) != NULL)
    return CPOOL_OK;
  struct membership *own = cpool__malloc(sizeof *own);
  if (own != NULL && topic == NULL)
    topic = topic_new(ws, name, len);
  if (own == NULL || topic == NULL) {
    cpool__free(own);
    return CPOOL_ENOMEM;
  }
  *own = (struct membership){.topic = topic, .conn = conn};
  cpool__list_push_back(&topic->members, &own->of_topic);
  cpool__list_push_back(&conn->memberships, &own->of_conn);
  return CPOOL_OK;
}

static void end(cpool_ws *ws, struct membership *own)
{
  struct topic *topic = own->topic;
  cpool__link_remove(&own->of_topic);
  cpool__link_remove(&own->of_conn);
  cpool__free(own);
  free_unused(ws, topic);
}

void cpool__topic_leave(struct cpool__ws_conn *conn, const char *name, size_t len)
{
  struct topic *topic = find(conn->ws, name, len);
  struct membership *own = topic != NULL ? membership_of(conn, topic) : NULL;
  if (own != NULL)
    end(conn->ws, own);
}

void cpool__topic_leave_all(struct cpool__ws_conn *conn)
{
  for (struct cpool__link *link; (link = cpool__list_first(&conn->memberships)) != NULL;)
    end(conn->ws, cpool__container_of(link, struct membership, of_conn));
}

void cpool__topic_each(cpool_ws *ws, const char *name, size_t len, void (*fn)(struct cpool__ws_conn *conn, void *arg),
                       void *arg)
{
  struct topic *topic = find(ws, name, len);
  if (topic == NULL)
    return;
  struct cpool__link *link = cpool__list_first(&topic->members);
  while (link != NULL) { /* the topic goes with its last member: nothing of it is looked at behind that one's call */
    struct cpool__link *next = cpool__list_next(&topic->members, link);
    fn(cpool__container_of(link, struct membership, of_topic)->conn, arg);
    link = next;
  }
}
