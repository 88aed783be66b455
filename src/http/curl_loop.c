/* curl_loop: one multi handle per identity on the runtime's epoll set and wheel
 *
 *   libcurl's socket wish   -> interest noted in the poller (applied once per turn)
 *   libcurl's timer wish    -> 0: kick_task in this turn; else a timer of the wheel. It is one-shot: forgotten by us before libcurl runs
 *   after libcurl ran       -> done_task takes the finished transfers out, never inside a callback of libcurl
 *   a connection retired    -> reap_task: a transfer that can use none makes libcurl drop the dead ones on the way to that host; behind it, as
 *                              a net, prune_timer: any transfer makes libcurl drop all dead ones, at most once a second
 */
#include "http/curl_loop.h"

#include <assert.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "http/conn.h"
#include "http/dispatch.h"
#include "http/http_options.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/transfer.h"
#include "http/warm.h"

/* libcurl looks at its idle connections when a transfer starts, at most once in 1000 ms. */
enum { PRUNE_AFTER_MS = 1001 };

enum { LOOKS_AT_FITTING_SINCE = 0x080600 };

/* What libcurl wants at once, again and again, without a socket or a request in between, it gets once a millisecond: 8.14 asks
 * for it as long as a transfer is paused whose connection the peer has ended. */
enum { KICKS_IN_A_ROW = 8 };

bool cpool__curl_since(unsigned int version)
{
  return curl_version_info(CURLVERSION_NOW)->version_num >= version;
}

static void look_at_unheard(struct cpool__curl *curl)
{
  struct cpool__link *link, *next;
  for (link = cpool__list_first(&curl->unheard); link != NULL; link = next) {
    struct cpool__conn *conn = cpool__container_of(link, struct cpool__conn, closing_link);
    next = cpool__list_next(&curl->unheard, link);
    if (conn->watch.heard)
      cpool__conn_heard(conn);
  }
}

static void set_cork(const struct cpool__conn *conn, int on)
{
  (void) setsockopt(conn->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

void cpool__curl_cork(struct cpool__curl *curl, struct cpool__conn *conn)
{
  if (curl->untouched_count == 0 || cpool__link_in(&conn->corked_link))
    return;
  set_cork(conn, 1);
  cpool__list_push_back(&curl->corked, &conn->corked_link);
}

static void uncork(struct cpool__curl *curl)
{
  for (struct cpool__link *link; (link = cpool__list_pop_front(&curl->corked)) != NULL;)
    set_cork(cpool__container_of(link, struct cpool__conn, corked_link), 0);
}

static void run(struct cpool__curl *curl, int fd, int mask)
{
  int running;
  curl->run_count++;
  curl_multi_socket_action(curl->multi, fd, mask, &running);
  uncork(curl);
  look_at_unheard(curl);
  cpool__curl_check_done(curl);
}

static void kick(struct cpool__task *task)
{
  struct cpool__curl *curl = cpool__container_of(task, struct cpool__curl, kick_task);
  curl->kick_count++;
  run(curl, CURL_SOCKET_TIMEOUT, 0);
}

static void on_timer(struct cpool__timer *timer)
{
  struct cpool__curl *curl = cpool__container_of(timer, struct cpool__curl, timer);
  cpool__runtime_defer(curl->pool->rt, &curl->kick_task);
}

static int timer_wish(CURLM *multi, long timeout_ms, void *user)
{
  struct cpool__curl *curl = user;
  cpool_runtime *rt = curl->pool->rt;
  (void) multi;
  if (timeout_ms == 0 && curl->kick_count >= KICKS_IN_A_ROW)
    timeout_ms = 1;
  if (timeout_ms == 0)
    cpool__runtime_defer(rt, &curl->kick_task);
  else
    cpool__task_cancel(&curl->kick_task);
  if (timeout_ms > 0)
    cpool__runtime_arm(rt, &curl->timer, cpool__runtime_now_ms(rt) + (uint64_t) timeout_ms, on_timer);
  else
    cpool__runtime_disarm(rt, &curl->timer);
  return 0;
}

static uint32_t interest(int what)
{
  return (what & CURL_POLL_IN ? (uint32_t) EPOLLIN : 0) | (what & CURL_POLL_OUT ? (uint32_t) EPOLLOUT : 0);
}

static int curl_mask(uint32_t events)
{
  return (events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
         (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
}

void cpool__curl_socket_event(void *owner, int fd, uint32_t events)
{
  struct cpool__conn *conn = owner;
  if (conn->http2 && conn->state == CPOOL__CONN_BUSY) {
    struct cpool__curl *curl = conn->route->identity->curl;
    curl->kick_count = 0;
    run(curl, fd, curl_mask(events));
  } else if (conn->owner == NULL) {
    cpool__idle_event(conn);
  } else if (conn->owner->paused &&
             (events & EPOLLOUT) == 0) { /* an error cannot be masked, but by being out of the set */
    cpool__poller_want(cpool__runtime_poller(conn->pool->rt), fd, 0);
  } else if (conn->in_curl) {
    /* libcurl shows a header when its line is whole: its bytes are signs of life before */
    if (conn->owner->req != NULL)
      conn->owner->req->activity_ms = cpool__runtime_now_ms(conn->pool->rt);
    conn->owner->curl->kick_count = 0;
    run(conn->owner->curl, fd, curl_mask(events));
  }
}

/* A socket that is none of ours; no libcurl that was tried makes one. */
static void foreign_event(void *owner, int fd, uint32_t events)
{
  run(owner, fd, curl_mask(events));
}

static int socket_wish(CURL *easy, curl_socket_t fd, int what, void *user, void *unused)
{
  struct cpool__curl *curl = user;
  struct cpool__poller *poller = cpool__runtime_poller(curl->pool->rt);
  struct cpool__conn *conn = cpool__conn_by_fd(curl->pool, fd);
  struct cpool__transfer *transfer = NULL;
  (void) unused;
  if (conn == NULL) {
    if (what == CURL_POLL_REMOVE)
      cpool__poller_forget(poller, fd);
    else
      (void) cpool__poller_watch(poller, fd, interest(what), foreign_event, curl);
    return 0;
  }
  if (conn->state == CPOOL__CONN_CLOSING)
    return 0;
  if (what == CURL_POLL_REMOVE) {
    /* the transfer is over or paused. Over: the fd stays watched, as the next request wants the same and an idle one is watched by us */
    cpool__poller_want(poller, fd, conn->owner != NULL && conn->owner->paused ? 0 : EPOLLIN);
    return 0;
  }
  if (easy != NULL)
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &transfer);
  if (transfer != NULL && transfer->conn != conn && transfer->req != NULL)
    cpool__transfer_uses(transfer, conn);
  cpool__poller_want(poller, fd, interest(what));
  return 0;
}

static void collect_done(struct cpool__task *task)
{
  struct cpool__curl *curl = cpool__container_of(task, struct cpool__curl, done_task);
  CURLMsg *msg;
  int left;
  while ((msg = curl_multi_info_read(curl->multi, &left)) != NULL) {
    struct cpool__transfer *transfer = NULL;
    if (msg->msg != CURLMSG_DONE)
      continue;
    CURLcode code = msg->data.result; /* the message dies with the handle's removal */
    curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **) &transfer);
    cpool__transfer_done(transfer, code);
  }
}

void cpool__curl_check_done(struct cpool__curl *curl)
{
  cpool__runtime_defer(curl->pool->rt, &curl->done_task);
}

static bool pruner_ready(struct cpool__curl *curl)
{
  if (curl->pruner == NULL)
    curl->pruner = cpool__transfer_new(curl);
  return curl->pruner != NULL && !cpool__link_in(&curl->pruner->link);
}

static void drop_reaped(struct cpool__curl *curl)
{
  if (curl->reaped != NULL)
    cpool__route_unuse(curl->reaped);
  curl->reaped = NULL;
}

static void start_pruner(struct cpool__curl *curl)
{
  curl->pruner->touched = true;
  curl->kick_count = 0;
  if (curl_multi_add_handle(curl->multi, curl->pruner->easy) == CURLM_OK)
    cpool__list_push_back(&curl->active, &curl->pruner->link);
  else
    drop_reaped(curl);
}

static void prune(struct cpool__timer *timer);

static void prune_soon(struct cpool__curl *curl)
{
  cpool_runtime *rt = curl->pool->rt;
  if ((curl->closing_count > 0 || !cpool__list_empty(&curl->unread)) && !cpool__timer_armed(&curl->prune_timer))
    cpool__runtime_arm(rt, &curl->prune_timer, cpool__runtime_now_ms(rt) + PRUNE_AFTER_MS, prune);
}

/* The net: any transfer that starts makes libcurl look at all its idle connections, if it has not done so for a second. */
static void prune(struct cpool__timer *timer)
{
  struct cpool__curl *curl = cpool__container_of(timer, struct cpool__curl, prune_timer);
  if (curl->closing_count == 0 && cpool__list_empty(&curl->unread))
    return;
  if (pruner_ready(curl)) {
    CURL *easy = curl->pruner->easy;
    curl_easy_setopt(easy, CURLOPT_CURLU, NULL);
    curl_easy_setopt(easy, CURLOPT_CONNECT_TO, NULL);
    cpool__transfer_set_proxy(curl->pruner, NULL, NULL);
    memset(&curl->pruner->connect_address, 0, sizeof curl->pruner->connect_address);
    curl_easy_setopt(easy, CURLOPT_URL, "http://127.0.0.1:9/"); /* never reached: OPENSOCKET refuses */
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    start_pruner(curl);
  }
  prune_soon(curl);
}

/* A connection over TLS that libcurl 8 is closing waits for the peer's goodbye: it is told that the socket has ended. False: that was all it
 * needed. */
static bool still_there(struct cpool__curl *curl, const struct cpool__conn *conn)
{
  int fd = conn->fd;
  uint64_t number = conn->number;
  run(curl, fd, CURL_CSELECT_IN | CURL_CSELECT_OUT);
  conn = cpool__conn_by_fd(curl->pool, fd);
  return conn != NULL && conn->number == number;
}

/* The quick way: a transfer to the same host and address makes libcurl look at each idle connection that leads there, and close what is
 * dead, before it looks whether one fits. None does: the transfer asks for another kind of address than any connection was made with.
 * From 8.6 on it looks only at those that fit; so they have to, and there must be none that is alive, also none in use: libcurl may have
 * it idle already when we have not collected its transfer yet. Else the net has to do. */
static void reap(struct cpool__task *task)
{
  struct cpool__curl *curl = cpool__container_of(task, struct cpool__curl, reap_task);
  bool fitting = cpool__curl_since(LOOKS_AT_FITTING_SINCE);
  if (cpool__list_empty(&curl->closing) || !pruner_ready(curl))
    return;
  struct cpool__conn *conn =
      cpool__container_of(cpool__list_pop_front(&curl->closing), struct cpool__conn, closing_link);
  if (fitting && (conn->route->origin->policy.place_count > 0 || !still_there(curl, conn))) {
    cpool__runtime_defer(curl->pool->rt, task);
    return;
  }
  CURL *easy = curl->pruner->easy;
  curl_easy_setopt(easy, CURLOPT_CURLU, conn->route->origin->url);
  if (fitting || conn->route->origin->proxy == CPOOL__PROXY_NONE)
    cpool__transfer_set_route(curl->pruner, conn->route);
  else /* a tunnel is filed under the host at its end; the proxy's name would be looked up for that kind of address */
    cpool__transfer_set_proxy(curl->pruner, "http://127.0.0.1:9", NULL);
  cpool__transfer_set_address(curl->pruner, conn);
  curl_easy_setopt(easy, CURLOPT_IPRESOLVE, fitting ? (long) CURL_IPRESOLVE_WHATEVER : (long) CURL_IPRESOLVE_V6);
  curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 0L);
  curl->reaped = conn->route; /* its URL must outlive the transfer, the connection will not */
  cpool__route_use(curl->reaped);
  start_pruner(curl);
}

void cpool__curl_closing(struct cpool__curl *curl, struct cpool__conn *conn)
{
  curl->closing_count++;
  cpool__list_push_back(&curl->closing, &conn->closing_link);
  cpool__runtime_defer(curl->pool->rt, &curl->reap_task);
  prune_soon(curl);
}

void cpool__curl_unread(struct cpool__curl *curl, struct cpool__conn *conn)
{
  cpool__poller_want(cpool__runtime_poller(curl->pool->rt), conn->fd, 0);
  if (!cpool__link_in(&conn->closing_link))
    cpool__list_push_back(&curl->unread, &conn->closing_link);
  prune_soon(curl);
}

void cpool__curl_pruned(struct cpool__curl *curl)
{
  /* what is still unread says so again */
  for (struct cpool__link *link; (link = cpool__list_pop_front(&curl->unread)) != NULL;)
    cpool__poller_want(cpool__runtime_poller(curl->pool->rt),
                       cpool__container_of(link, struct cpool__conn, closing_link)->fd, EPOLLIN);
  drop_reaped(curl);
  cpool__runtime_defer(curl->pool->rt, &curl->reap_task);
}

void cpool__curl_configure(struct cpool__curl *curl)
{
  /* A net below our own limits. Sockets that are shut down but not closed yet still count for libcurl, and while new ones are held
   * back for max_closing every open one may still be shut down. */
  const cpool_http_options *options = &curl->pool->options;
  curl_multi_setopt(curl->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long) options->max_streams_per_connection);
  int64_t most = 2 * (int64_t) cpool__limit32(options->max_connections) + options->max_closing;
  long cap = (long) (most > INT_MAX ? INT_MAX : most);
  if (cap <= curl->cap) /* never lower: what is above a lowered limit still has to be carried */
    return;
  curl->cap = cap;
  curl_multi_setopt(curl->multi, CURLMOPT_MAXCONNECTS, cap);
  curl_multi_setopt(curl->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, cap);
  curl_multi_setopt(curl->multi, CURLMOPT_MAX_HOST_CONNECTIONS, cap);
}

int cpool__curl_get(struct cpool__identity *identity, struct cpool__curl **out)
{
  cpool_http *pool = identity->pool;
  if (identity->curl != NULL) {
    *out = identity->curl;
    return CPOOL_OK;
  }
  struct cpool__curl *curl = cpool__calloc(1, sizeof *curl);
  if (curl == NULL)
    return CPOOL_ENOMEM;
  curl->multi = curl_multi_init();
  if (curl->multi == NULL) {
    cpool__free(curl);
    return CPOOL_ENOMEM;
  }
  curl->pool = pool;
  curl->identity = identity;
  cpool__list_init(&curl->active);
  cpool__list_init(&curl->free);
  cpool__list_init(&curl->routes);
  curl->kick_task.fn = kick;
  curl->done_task.fn = collect_done;
  curl->reap_task.fn = reap;
  cpool__list_init(&curl->closing);
  cpool__list_init(&curl->unread);
  cpool__list_init(&curl->unheard);
  cpool__list_init(&curl->corked);
  curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, socket_wish);
  curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, curl);
  curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, timer_wish);
  curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, curl);
  curl_multi_setopt(curl->multi, CURLMOPT_PIPELINING,
                    identity->http_version == CPOOL_HTTP_2 ? CURLPIPE_MULTIPLEX : CURLPIPE_NOTHING);
  cpool__curl_configure(curl);
  cpool__list_push_back(&pool->identities_used, &curl->link);
  pthread_mutex_lock(&pool->identities.lock);
  identity->curl = curl;
  pthread_mutex_unlock(&pool->identities.lock);
  *out = curl;
  return CPOOL_OK;
}

static void free_transfers(struct cpool__list *list)
{
  struct cpool__link *link;
  while ((link = cpool__list_first(list)) != NULL)
    cpool__transfer_free(cpool__container_of(link, struct cpool__transfer, link));
}

void cpool__curl_free(struct cpool__curl *curl, int reason)
{
  cpool_http *pool = curl->pool;
  struct cpool__link *link, *next;
  for (link = cpool__list_first(&pool->dials); link != NULL; link = next) {
    struct cpool__dialling *dialling = cpool__container_of(link, struct cpool__dialling, link);
    next = cpool__list_next(&pool->dials, link);
    if (dialling->route->identity == curl->identity)
      cpool__dialling_cancel(dialling);
  }
  cpool__warm_stop(curl);
  if (curl->pruner != NULL)
    cpool__transfer_free(curl->pruner);
  drop_reaped(curl);
  assert(cpool__list_empty(&curl->active));
  free_transfers(&curl->free);
  for (int fd = 0; fd < pool->conns_capacity; fd++) {
    struct cpool__conn *conn = pool->conns[fd];
    if (conn == NULL || conn->route->identity != curl->identity)
      continue;
    if (conn->reason == CPOOL__CLOSE_NONE)
      conn->reason = (enum cpool__close_reason) reason;
    if (!conn->in_curl)
      cpool__conn_gone(conn);
  }
  curl_multi_cleanup(curl->multi); /* its connections end in our close callback */
  cpool__tls_sessions_fini(&curl->tls_sessions);
  for (link = cpool__list_first(&curl->routes); link != NULL; link = next) {
    next = cpool__list_next(&curl->routes, link);
    cpool__route_free(cpool__container_of(link, struct cpool__route, identity_link));
  }
  cpool__runtime_disarm(pool->rt, &curl->timer);
  cpool__runtime_disarm(pool->rt, &curl->prune_timer);
  cpool__task_cancel(&curl->kick_task);
  cpool__task_cancel(&curl->done_task);
  cpool__task_cancel(&curl->reap_task);
  cpool__link_remove(&curl->link);
  pthread_mutex_lock(&pool->identities.lock);
  curl->identity->curl = NULL;
  pthread_mutex_unlock(&pool->identities.lock);
  cpool__free(curl);
}

void cpool__identity_unused(struct cpool__msg *msg)
{
  struct cpool__identity *identity = cpool__container_of(msg, struct cpool__identity, unused_msg);
  cpool_http *pool = identity->pool;
  pthread_mutex_lock(&pool->identities.lock);
  while (identity->refs == 0 &&
         identity->curl != NULL) { /* a session may take it up again, and let go again, meanwhile */
    pthread_mutex_unlock(&pool->identities.lock);
    cpool__curl_free(identity->curl, CPOOL__CLOSE_EVICTED);
    pthread_mutex_lock(&pool->identities.lock);
  }
  identity->unused_posted = false;
  if (identity->refs == 0)
    cpool__identity_remove_locked(identity);
  pthread_mutex_unlock(&pool->identities.lock);
  cpool__http_leave_on_loop(pool);
}
