/* conn: the record of one socket */
#include "http/conn.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "dns/peers.h"
#include "http/curl_loop.h"
#include "http/dispatch.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/tls.h"
#include "http/transfer.h"
#include "http/warm.h"
#include "pool/stock.h"

/* Which states may follow which, as bits. */
#ifndef NDEBUG
static const unsigned char legal[] = {
    [CPOOL__CONN_STOCK] = 1 << CPOOL__CONN_BUSY | 1 << CPOOL__CONN_GONE,
    [CPOOL__CONN_BUSY] = 1 << CPOOL__CONN_IDLE | 1 << CPOOL__CONN_CLOSING | 1 << CPOOL__CONN_GONE,
    [CPOOL__CONN_IDLE] = 1 << CPOOL__CONN_BUSY | 1 << CPOOL__CONN_CLOSING | 1 << CPOOL__CONN_GONE,
    [CPOOL__CONN_CLOSING] = 1 << CPOOL__CONN_GONE,
    [CPOOL__CONN_GONE] = 0,
};
#endif

static const char *reason_name(enum cpool__close_reason reason)
{
  static const char *const names[] = {"none",
#define NAME(name, field) #name,
                                      CPOOL__CLOSE_REASONS(NAME)
#undef NAME
  };
  return names[reason];
}

static void conn_move(struct cpool__conn *conn, enum cpool__conn_state to)
{
  static const char *const names[] = {"stock", "busy", "idle", "closing", "gone"};
  assert(legal[conn->state] & 1u << to);
  cpool__log(cpool__runtime_log(conn->pool->rt), CPOOL_LOG_DEBUG, "conn", "#%llu %s: %s -> %s",
             (unsigned long long) conn->number, conn->route->origin->key, names[conn->state], names[to]);
  conn->state = to;
  cpool__origin_touch(conn->route->origin);
}

uint64_t cpool__pool_random(cpool_http *pool)
{
  /* xorshift64*: spreads lifetimes, protects nothing */
  pool->random ^= pool->random >> 12;
  pool->random ^= pool->random << 25;
  pool->random ^= pool->random >> 27;
  return pool->random * UINT64_C(0x2545F4914F6CDD1D);
}

struct cpool__conn *cpool__conn_new(struct cpool__route *route)
{
  struct cpool__conn *conn = cpool__calloc(1, sizeof *conn);
  if (conn == NULL)
    return NULL;
  conn->pool = route->origin->pool;
  conn->route = route;
  cpool__list_init(&conn->streams);
  conn->fd = -1;
  conn->number = ++conn->pool->last_connection;
  conn->dns_us = conn->connect_us = CPOOL_OFF;
  cpool__route_use(route);
  return conn;
}

void cpool__count_opened(struct cpool__route *route)
{
  route->origin->pool->stats.now.opened++;
  route->origin->opened++;
  cpool__origin_touch(route->origin);
}

void cpool__count_closed(cpool_http *pool, enum cpool__close_reason reason)
{
  assert(reason != CPOOL__CLOSE_NONE); /* each has one */
  pool->stats.now.closed++;
  switch (reason) {
#define CASE(name, field)                                                                                              \
  case CPOOL__CLOSE_##name:                                                                                            \
    pool->stats.now.field++;                                                                                           \
    break;
    CPOOL__CLOSE_REASONS(CASE)
#undef CASE
  case CPOOL__CLOSE_NONE:
    break;
  }
  cpool__http_touch(pool);
}

static bool note_fd(cpool_http *pool, int fd)
{
  if (fd >= pool->conns_capacity) {
    int capacity = pool->conns_capacity == 0 ? 64 : pool->conns_capacity;
    while (capacity <= fd)
      capacity *= 2;
    struct cpool__conn **grown = cpool__realloc(pool->conns, (size_t) capacity * sizeof *grown);
    if (grown == NULL)
      return false;
    memset(grown + pool->conns_capacity, 0, (size_t) (capacity - pool->conns_capacity) * sizeof *grown);
    pool->conns = grown;
    pool->conns_capacity = capacity;
  }
  return true;
}

/* Its address has left the answer for its name: an idle one goes, one in use with its last request. */
static void on_departed(struct cpool__tie *tie)
{
  struct cpool__conn *conn = cpool__container_of(tie, struct cpool__conn, tie);
  uint64_t now_ms = cpool__runtime_now_ms(conn->pool->rt);
  cpool__log(cpool__runtime_log(conn->pool->rt), CPOOL_LOG_INFO, "conn", "#%llu %s: its address has left the answer",
             (unsigned long long) conn->number, conn->route->origin->key);
  cpool__resolver_untie(conn->pool->resolver, tie);
  conn->departed = true;
  conn->life.dies_ms = now_ms;
  if (conn->state == CPOOL__CONN_IDLE || (conn->state == CPOOL__CONN_STOCK && cpool__timer_armed(&conn->timer)))
    cpool__idle_rules_changed(conn);
  else if (conn->state == CPOOL__CONN_BUSY && conn->http2)
    cpool__conn_drain(conn, CPOOL__CLOSE_ADDRESS);
}

bool cpool__conn_attach(struct cpool__conn *conn, int fd, const struct cpool__address *remote, struct cpool__peer *peer)
{
  cpool_http *pool = conn->pool;
  if (!note_fd(pool, fd))
    return false;
  if (cpool__poller_watch(cpool__runtime_poller(pool->rt), fd, 0, cpool__curl_socket_event, conn) != CPOOL_OK)
    return false;
  assert(pool->conns[fd] == NULL);
  struct stat now;
  conn->inode = fstat(fd, &now) == 0 ? now.st_ino : 0;
  pool->conns[fd] = conn;
  conn->fd = fd;
  if (remote != NULL) {
    struct cpool__address local = {0};
    local.len = sizeof local.sock;
    conn->remote = *remote;
    cpool__address_host_text(remote, conn->remote_host);
    if (getsockname(fd, &local.sock.any, &local.len) == 0)
      conn->local_port = cpool__address_port(&local);
    cpool__list_push_back(&pool->conns_by_port[conn->local_port & 255], &conn->port_link);
    conn->peer = peer;
    conn->tie.address = *remote;
    cpool__address_set_port(&conn->tie.address, 0);
    conn->tie.left = on_departed;
    if (!conn->route->origin->literal)
      cpool__resolver_tie(pool->resolver, &conn->tie, conn->route->origin->host);
  } else {
    conn->remote.sock.any.sa_family = AF_UNIX;
    conn->remote.len = sizeof conn->remote.sock.any.sa_family;
  }
  cpool__janitor_born(&conn->life, &conn->route->origin->rules, cpool__runtime_now_ms(pool->rt),
                      cpool__pool_random(pool));
  return true;
}

struct cpool__conn *cpool__conn_by_fd(cpool_http *pool, int fd)
{
  return fd >= 0 && fd < pool->conns_capacity ? pool->conns[fd] : NULL;
}

struct cpool__conn *cpool__conn_by_ends(cpool_http *pool, const char *remote_host, int remote_port, int local_port)
{
  struct cpool__list *list = &pool->conns_by_port[local_port & 255];
  for (struct cpool__link *link = cpool__list_first(list); link != NULL; link = cpool__list_next(list, link)) {
    struct cpool__conn *conn = cpool__container_of(link, struct cpool__conn, port_link);
    if (conn->local_port == local_port && cpool__address_port(&conn->remote) == remote_port &&
        strcmp(conn->remote_host, remote_host) == 0)
      return conn;
  }
  return NULL;
}

bool cpool__conn_tls_pending(const struct cpool__conn *conn)
{
  return (conn->tls != NULL && cpool__tls_pending(conn->tls)) ||
         (conn->outer_tls != NULL && cpool__tls_pending(conn->outer_tls));
}

void cpool__conn_begin(struct cpool__conn *conn, struct cpool__transfer *owner)
{
  if (conn->http2) { /* its place has counted the request */
    if (conn->state == CPOOL__CONN_IDLE) {
      cpool__idle_end(conn);
      conn_move(conn, CPOOL__CONN_BUSY);
    }
    cpool__list_push_back(&conn->streams, &owner->stream_link);
    return;
  }
  if (conn->state == CPOOL__CONN_IDLE || conn->state == CPOOL__CONN_STOCK) {
    cpool__idle_end(conn);
    if (conn->place.state != CPOOL__PLACE_BUSY)
      cpool__place_busy(&conn->pool->admission, &conn->place);
    conn_move(conn, CPOOL__CONN_BUSY);
  }
  conn->owner = owner;
}

void cpool__conn_share(struct cpool__conn *conn, struct cpool__transfer *first)
{
  conn->http2 = true;
  conn->owner = NULL;
  conn->heard_ms = cpool__runtime_now_ms(conn->pool->rt);
  cpool__tls_watch(conn->tls, &conn->watch, &first->curl->run_count);
  cpool__list_push_back(&conn->streams, &first->stream_link);
  cpool__list_push_back(&first->curl->unheard, &conn->closing_link);
}

void cpool__conn_heard(struct cpool__conn *conn)
{
  cpool_http *pool = conn->pool;
  if (!conn->place.fresh || conn->state != CPOOL__CONN_BUSY)
    return;
  cpool__link_remove(&conn->closing_link);
  cpool__place_known(&pool->admission, &conn->place, pool->options.max_streams_per_connection);
  if (conn->reason != CPOOL__CLOSE_NONE) /* drained by its first request */
    cpool__place_streams(&pool->admission, &conn->place, 0);
  cpool__http_touch(pool);
}

void cpool__conn_drain(struct cpool__conn *conn, enum cpool__close_reason reason)
{
  if (conn->reason == CPOOL__CLOSE_NONE)
    conn->reason = reason;
  if (conn->state == CPOOL__CONN_BUSY && !conn->place.fresh)
    cpool__place_streams(&conn->pool->admission, &conn->place, 0);
  cpool__http_touch(conn->pool);
}

void cpool__conn_leave(struct cpool__conn *conn, struct cpool__transfer *transfer, enum cpool__close_reason reason)
{
  cpool__link_remove(&transfer->stream_link);
  conn->begun_count -= transfer->begun ? 1 : 0;
  bool last = cpool__list_empty(&conn->streams);
  if (conn->state == CPOOL__CONN_GONE) {
    if (last)
      cpool__conn_free(conn, reason);
    return;
  }
  cpool__http_touch(conn->pool);
  cpool__conn_heard(conn);
  if (!last) {
    cpool__place_idle(&conn->pool->admission, &conn->place);
    return;
  }
  conn->life.idle_since_ms = cpool__runtime_now_ms(conn->pool->rt);
  cpool__conn_unreserve(conn);
  if (conn->reason != CPOOL__CLOSE_NONE)
    cpool__conn_retire(conn, conn->reason);
}

void cpool__conn_unreserve(struct cpool__conn *conn)
{
  assert(conn->state == CPOOL__CONN_BUSY);
  conn->owner = NULL;
  conn->pool->fell_idle = true;
  cpool__place_idle(&conn->pool->admission, &conn->place);
  conn_move(conn, CPOOL__CONN_IDLE);
  cpool__idle_begin(conn);
  cpool__http_touch(conn->pool);
}

void cpool__conn_end(struct cpool__conn *conn)
{
  cpool_http *pool = conn->pool;
  struct cpool__link *first = cpool__list_first(&conn->route->dialling);
  conn->owner = NULL;
  if (conn->state == CPOOL__CONN_BUSY)
    conn->life.idle_since_ms = cpool__runtime_now_ms(pool->rt);
  if (first != NULL && conn->state == CPOOL__CONN_BUSY && conn->in_curl && !cpool__idle_peek(conn)) {
    struct cpool__request *req = cpool__container_of(first, struct cpool__request, dial_link);
    struct cpool__dialling *dialling = req->dialling;
    if (!cpool__request_wants_new(req) && cpool__transfer_start(req, conn)) {
      cpool__dialling_orphan(dialling);
      return;
    }
  }
  if (conn->state == CPOOL__CONN_BUSY) {
    cpool__conn_unreserve(conn);
  } else { /* a dialled socket that nobody took */
    conn->waited = true;
    conn->place.raw = cpool__origin_encrypted(conn->route->origin);
    cpool__place_idle(&pool->admission, &conn->place);
    conn->life.idle_since_ms = cpool__runtime_now_ms(pool->rt);
    cpool__idle_begin(conn);
    cpool__http_touch(pool);
  }
}

void cpool__conn_retire(struct cpool__conn *conn, enum cpool__close_reason reason)
{
  cpool_http *pool = conn->pool;
  assert(conn->state == CPOOL__CONN_IDLE || conn->state == CPOOL__CONN_STOCK);
  cpool__idle_end(conn);
  conn->reason = reason;
  if (conn->waited)
    cpool__warm_lost(conn);
  if (!conn->in_curl) {
    cpool__conn_gone(conn);
    return;
  }
  /* libcurl asks a socket by a peek whether it is alive: nothing may be left to read */
  char scrap[4096];
  shutdown(conn->fd, SHUT_RDWR);
  if (conn->outer_tls != NULL)
    cpool__tls_drain(conn->outer_tls);
  if (conn->tls != NULL)
    cpool__tls_drain(conn->tls);
  while (recv(conn->fd, scrap, sizeof scrap, MSG_DONTWAIT) > 0)
    continue;
  cpool__poller_forget(cpool__runtime_poller(pool->rt), conn->fd);
  cpool__place_close(&pool->admission, &conn->place, true);
  conn_move(conn, CPOOL__CONN_CLOSING);
  cpool__curl_closing(conn->route->identity->curl, conn);
  cpool__http_touch(pool);
}

static void leave_tables(struct cpool__conn *conn)
{
  cpool_http *pool = conn->pool;
  /* its place goes with the record, at the end of the transfer: a request that waits for a full listener keeps it */
  bool unconnected = conn->unix_socket && conn->owner != NULL && conn->life.request_count == 0;
  cpool__idle_end(conn);
  if (conn->waited) /* before its place is free: another one is not to be made at once */
    cpool__warm_lost(conn);
  cpool__link_remove(&conn->closing_link);
  cpool__link_remove(&conn->corked_link);
  if (conn->state == CPOOL__CONN_CLOSING) {
    conn->route->identity->curl->closing_count--;
    cpool__admission_closed(&pool->admission);
  } else if (conn->place.state != CPOOL__PLACE_NONE && !unconnected) {
    cpool__place_close(&pool->admission, &conn->place, false);
  }
  cpool__resolver_untie(pool->resolver, &conn->tie);
  cpool__peers_close(cpool__resolver_peers(pool->resolver), conn->peer);
  conn->peer = NULL;
  cpool__link_remove(&conn->port_link);
  cpool__poller_forget(cpool__runtime_poller(pool->rt), conn->fd);
  pool->conns[conn->fd] = NULL;
  conn->tls = conn->outer_tls = NULL;
  conn_move(conn, CPOOL__CONN_GONE);
  pool->gone_count++;
  cpool__http_touch(pool);
}

void cpool__conn_vanished(struct cpool__conn *conn)
{
  struct stat now;
  if (fstat(conn->fd, &now) == 0 && now.st_ino == conn->inode) /* not closed after all */
    close(conn->fd);
  leave_tables(conn);
}

void cpool__conn_gone(struct cpool__conn *conn)
{
  int fd = conn->fd;
  bool unused = conn->state == CPOOL__CONN_IDLE || (conn->http2 && conn->begun_count == 0) ||
                (conn->state == CPOOL__CONN_BUSY && conn->in_curl && conn->owner != NULL && !conn->owner->confirmed);
  if (unused && conn->reason == CPOOL__CLOSE_NONE) /* libcurl found it dead before our watch did */
    conn->reason = cpool__idle_verdict(conn);
  leave_tables(conn);
  close(fd);
  if (conn->owner == NULL && cpool__list_empty(&conn->streams))
    /* in libcurl's cache, not known as dead to us: it found the end, or needed the room, before our watch did */
    cpool__conn_free(conn, CPOOL__CLOSE_PEER);
}

void cpool__conn_free(struct cpool__conn *conn, enum cpool__close_reason reason)
{
  cpool_http *pool = conn->pool;
  if (conn->fd >= 0) {
    assert(conn->state == CPOOL__CONN_GONE);
    pool->gone_count--;
    if (conn->reason != CPOOL__CLOSE_NONE)
      reason = conn->reason;
    cpool__log(cpool__runtime_log(pool->rt), CPOOL_LOG_DEBUG, "conn", "#%llu %s: closed after %u requests: %s",
               (unsigned long long) conn->number, conn->route->origin->key, (unsigned) conn->life.request_count,
               reason_name(reason));
    cpool__count_closed(pool, reason);
  }
  if (conn->place.state != CPOOL__PLACE_NONE)
    cpool__place_close(&pool->admission, &conn->place, false);
  cpool__runtime_disarm(pool->rt, &conn->timer);
  cpool__route_unuse(conn->route);
  cpool__free(conn);
  cpool__http_touch(pool);
}
