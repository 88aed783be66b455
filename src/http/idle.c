/* idle: the watch over connections without a request: whatever the peer does on one ends it, and so does its time
 *
 * A byte on an idle HTTP/1 connection is either the end of the connection or an answer that nobody asked for; handed to the next request it would be
 * that request's response. Over TLS the outer record type tells nothing since TLS 1.3, so any readable connection goes. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "http/conn.h"
#include "http/curl_loop.h"
#include "http/pool.h"

static void on_time(struct cpool__timer *timer)
{
  struct cpool__conn *conn = cpool__container_of(timer, struct cpool__conn, timer);
  enum cpool__janitor_reason why;
  uint64_t due = cpool__janitor_idle_due(&conn->life, &conn->route->origin->rules, &why);
  if (conn->in_curl && conn->route->identity->curl->idle_count > CPOOL__IDLE_PER_IDENTITY) {
    cpool__conn_retire(conn, CPOOL__CLOSE_EVICTED);
    return;
  }
  if (due > cpool__runtime_now_ms(conn->pool->rt)) { /* it was used meanwhile, or the rules changed */
    if (due != UINT64_MAX)
      cpool__runtime_arm(conn->pool->rt, timer, due, on_time);
    return;
  }
  cpool__conn_retire(conn, why == CPOOL__JANITOR_LIFETIME   ? cpool__conn_lifetime_reason(conn)
                           : why == CPOOL__JANITOR_REQUESTS ? CPOOL__CLOSE_REQUESTS
                                                            : CPOOL__CLOSE_IDLE);
}

void cpool__idle_begin(struct cpool__conn *conn)
{
  enum cpool__janitor_reason why;
  uint64_t due = cpool__janitor_idle_due(&conn->life, &conn->route->origin->rules, &why);
  cpool__poller_want(cpool__runtime_poller(conn->pool->rt), conn->fd, EPOLLIN);
  if (conn->in_curl && ++conn->route->identity->curl->idle_count > CPOOL__IDLE_PER_IDENTITY)
    due = 0;
  if (due != UINT64_MAX)
    cpool__runtime_arm(conn->pool->rt, &conn->timer, due, on_time);
}

void cpool__idle_rules_changed(struct cpool__conn *conn)
{
  cpool__runtime_arm(conn->pool->rt, &conn->timer, cpool__runtime_now_ms(conn->pool->rt), on_time);
}

void cpool__idle_end(struct cpool__conn *conn)
{
  if (conn->state == CPOOL__CONN_IDLE)
    cpool__link_remove(&conn->closing_link); /* among the unread */
  if (conn->state == CPOOL__CONN_IDLE && conn->in_curl)
    conn->route->identity->curl->idle_count--;
  cpool__runtime_disarm(conn->pool->rt, &conn->timer);
}

/* What a peek finds: 0 nothing, 1 bytes, -1 the end or an error. */
static int look(int fd)
{
  char byte;
  ssize_t got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got > 0)
    return 1;
  return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

void cpool__idle_event(struct cpool__conn *conn)
{
  int found = look(conn->fd);
  if (found == 0)
    return;
  if (found > 0 && conn->http2) { /* settings, pings: legal on an idle connection, and not to be read here */
    cpool__curl_unread(conn->route->identity->curl, conn);
    return;
  }
  if (found > 0)
    cpool__log(cpool__runtime_log(conn->pool->rt), CPOOL_LOG_INFO, "conn",
               "#%llu %s: bytes on an idle connection, retired", (unsigned long long) conn->number,
               conn->route->origin->key);
  cpool__conn_retire(conn, cpool__idle_verdict(conn));
}

bool cpool__idle_peek(const struct cpool__conn *conn)
{
  return look(conn->fd) != 0;
}

enum cpool__close_reason cpool__idle_verdict(const struct cpool__conn *conn)
{
  /* over TLS the bytes are most often the peer's goodbye */
  return !cpool__origin_encrypted(conn->route->origin) && look(conn->fd) > 0 ? CPOOL__CLOSE_UNSOLICITED
                                                                             : CPOOL__CLOSE_PEER;
}
