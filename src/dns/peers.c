/* peers: what is known of each address and port that is dialled; one without connections and failures is forgotten */
#include "dns/peers.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

enum { KEY_BYTES = 19 }; /* family, port, address */

struct cpool__peer {
  struct cpool__table_entry entry;
  struct cpool__link failed_link;
  uint64_t failed_until_ms;
  int open_count;
  unsigned char key[KEY_BYTES];
};

static void make_key(const struct cpool__address *address, unsigned char key[KEY_BYTES])
{
  uint16_t port = cpool__address_port(address);
  memset(key, 0, KEY_BYTES);
  memcpy(key + 1, &port, sizeof port);
  if (address->sock.any.sa_family == AF_INET6) {
    key[0] = 6;
    memcpy(key + 3, &address->sock.v6.sin6_addr, 16);
  } else {
    key[0] = 4;
    memcpy(key + 3, &address->sock.v4.sin_addr, 4);
  }
}

static struct cpool__peer *peer_of(const struct cpool__table_entry *entry)
{
  return cpool__container_of(entry, struct cpool__peer, entry);
}

static int same_key(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  return len == KEY_BYTES && memcmp(peer_of(entry)->key, key, len) == 0;
}

static struct cpool__peer *find(struct cpool__peers *peers, const struct cpool__address *address)
{
  unsigned char key[KEY_BYTES];
  make_key(address, key);
  struct cpool__table_entry *entry = cpool__table_find(&peers->table, key, sizeof key);
  return entry != NULL ? peer_of(entry) : NULL;
}

static struct cpool__peer *find_or_make(struct cpool__peers *peers, const struct cpool__address *address)
{
  struct cpool__peer *peer = find(peers, address);
  if (peer != NULL)
    return peer;
  peer = cpool__calloc(1, sizeof *peer);
  if (peer == NULL)
    return NULL;
  make_key(address, peer->key);
  if (cpool__table_insert(&peers->table, &peer->entry, peer->key, sizeof peer->key) != 0) {
    cpool__free(peer);
    return NULL;
  }
  return peer;
}

static void tidy(struct cpool__peers *peers, struct cpool__peer *peer)
{
  if (peer->open_count > 0 || cpool__link_in(&peer->failed_link))
    return;
  cpool__table_remove(&peers->table, &peer->entry);
  cpool__free(peer);
}

static void forgive(struct cpool__peers *peers, struct cpool__peer *peer)
{
  if (!cpool__link_in(&peer->failed_link))
    return;
  cpool__link_remove(&peer->failed_link);
  peers->failed_count--;
  tidy(peers, peer);
}

/* Those whose time is over, and the oldest of too many. */
static void forgive_old(struct cpool__peers *peers, uint64_t now_ms)
{
  struct cpool__link *first;
  while ((first = cpool__list_first(&peers->failed)) != NULL) {
    struct cpool__peer *peer = cpool__container_of(first, struct cpool__peer, failed_link);
    if (peers->failed_count <= CPOOL__PEERS_AVOIDED && peer->failed_until_ms > now_ms)
      return;
    forgive(peers, peer);
  }
}

void cpool__peers_init(struct cpool__peers *peers)
{
  cpool__table_init(&peers->table, same_key);
  cpool__list_init(&peers->failed);
  peers->failed_count = 0;
}

void cpool__peers_fini(struct cpool__peers *peers)
{
  struct cpool__table_entry *entry = cpool__table_next(&peers->table, NULL);
  while (entry != NULL) {
    struct cpool__peer *peer = peer_of(entry);
    entry = cpool__table_next(&peers->table, entry);
    cpool__table_remove(&peers->table, &peer->entry);
    cpool__free(peer);
  }
  cpool__table_fini(&peers->table);
}

struct cpool__peer *cpool__peers_open(struct cpool__peers *peers, const struct cpool__address *address)
{
  struct cpool__peer *peer = find_or_make(peers, address);
  if (peer != NULL)
    peer->open_count++;
  return peer;
}

void cpool__peers_close(struct cpool__peers *peers, struct cpool__peer *peer)
{
  if (peer == NULL)
    return;
  assert(peer->open_count > 0);
  peer->open_count--;
  tidy(peers, peer);
}

void cpool__peers_failed(struct cpool__peers *peers, const struct cpool__address *address, uint64_t now_ms)
{
  struct cpool__peer *peer = find_or_make(peers, address);
  if (peer == NULL)
    return;
  if (cpool__link_in(&peer->failed_link))
    cpool__link_remove(&peer->failed_link);
  else
    peers->failed_count++;
  peer->failed_until_ms = now_ms + CPOOL__PEERS_AVOID_MS;
  cpool__list_push_back(&peers->failed, &peer->failed_link);
  forgive_old(peers, now_ms);
}

void cpool__peers_worked(struct cpool__peers *peers, const struct cpool__address *address)
{
  struct cpool__peer *peer = find(peers, address);
  if (peer != NULL)
    forgive(peers, peer);
}

struct cpool__peer_rank cpool__peers_rank(struct cpool__peers *peers, const struct cpool__address *address,
                                          uint64_t now_ms)
{
  forgive_old(peers, now_ms);
  struct cpool__peer *peer = find(peers, address);
  if (peer == NULL)
    return (struct cpool__peer_rank){0};
  return (struct cpool__peer_rank){.failed = cpool__link_in(&peer->failed_link), .open_count = peer->open_count};
}
