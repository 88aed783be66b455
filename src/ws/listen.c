/* listen: sockets that clients come in by
 *
 * They are ours: a client is accepted when there is room for its handshake, counted by its address, and given to libwebsockets
 * then. Without room it waits in the kernel's backlog. */
#include "ws/listen.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"
#include "core/wait.h"
#include "dns/address.h"

enum { BACKLOG = 1024, ACCEPTS_AT_ONCE = 64, TRY_AGAIN_MS = 100, TEXT_BYTES = 8192, ADOPT_BYTES = 65536 };

/* ----------------------------------------------------------------------------------------------- clients by address */

struct address_count {
  struct cpool__table_entry entry;
  int32_t count;
  char text[CPOOL__ADDRESS_TEXT];
};

static int same(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct address_count *own = cpool__container_of(entry, const struct address_count, entry);
  return strlen(own->text) == len && memcmp(own->text, key, len) == 0;
}

cpool__table_equal_fn *const cpool__address_same = same;

static struct address_count *find(cpool_ws *ws, const char *text)
{
  struct cpool__table_entry *entry = cpool__table_find(&ws->addresses, text, strlen(text));
  return entry != NULL ? cpool__container_of(entry, struct address_count, entry) : NULL;
}

/* False: the address has as many as it may, or memory is short. */
static bool count_address(struct cpool__listener *listener, const char *text)
{
  cpool_ws *ws = listener->ws;
  struct address_count *own = find(ws, text);
  if (own != NULL && own->count >= listener->max_per_address)
    return false;
  if (own == NULL) {
    own = cpool__calloc(1, sizeof *own);
    if (own == NULL)
      return false;
    snprintf(own->text, sizeof own->text, "%s", text);
    if (cpool__table_insert(&ws->addresses, &own->entry, text, strlen(text)) != 0) {
      cpool__free(own);
      return false;
    }
  }
  own->count++;
  return true;
}

static void uncount_address(cpool_ws *ws, const char *text)
{
  struct address_count *own = find(ws, text);
  if (own == NULL || --own->count > 0)
    return;
  cpool__table_remove(&ws->addresses, &own->entry);
  cpool__free(own);
}

void cpool__listener_left(struct cpool__ws_conn *conn)
{
  char text[CPOOL__ADDRESS_TEXT];
  if (conn->listener == NULL || conn->listener->max_per_address == 0)
    return;
  cpool__address_host_text(&conn->remote, text);
  uncount_address(conn->ws, text);
}

/* ------------------------------------------------------------------------------------------------------------ accept */

/* Takes the socket. NULL: it has none of the limits' grace, or memory is short, or it is dead. */
static struct cpool__ws_conn *take_client(struct cpool__listener *listener, int fd, struct cpool__address *address,
                                          const void *data, size_t len)
{
  cpool_ws *ws = listener->ws;
  char text[CPOOL__ADDRESS_TEXT];
  int on = 1;
  (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* each turn writes all that it has at once */
  cpool__address_unmap(address);
  cpool__address_host_text(address, text);
  if (listener->max_per_address > 0 && !count_address(listener, text)) {
    close(fd);
    ws->now.refused_address++;
    cpool__ws_changed(ws);
    return NULL;
  }
  struct cpool__ws_conn *conn = cpool__ws_conn_new(ws, CPOOL__WS_HANDSHAKE);
  if (conn == NULL) {
    close(fd);
    if (listener->max_per_address > 0)
      uncount_address(ws, text);
    return NULL;
  }
  cpool__ws_conn_set_remote(conn, address);
  conn->listener = listener;
  conn->tls = listener->tls;
  conn->deadline_ms = conn->opened_ms + (uint64_t) ws->options.handshake_timeout_ms;
  cpool__ws_conn_hold(conn);
  if (!cpool__wire_adopt(&conn->wire, listener->gate, fd, data, len))
    cpool__ws_conn_gone(conn);
  bool alive = cpool__ws_phase(conn) != CPOOL__WS_GONE;
  if (alive)
    cpool__ws_watch(conn);
  cpool__ws_conn_drop(conn);
  return alive ? conn : NULL;
}

static bool room(const cpool_ws *ws)
{
  return ws->handshake_count - ws->dial_count + ws->undecided_count < ws->options.max_handshakes;
}

static void on_again(struct cpool__timer *timer)
{
  struct cpool__listener *listener = cpool__container_of(timer, struct cpool__listener, timer);
  if (listener->fd >= 0 && room(listener->ws))
    cpool__poller_want(cpool__runtime_poller(listener->ws->rt), listener->fd, EPOLLIN);
}

static void on_clients(void *owner, int fd, uint32_t events)
{
  struct cpool__listener *listener = owner;
  cpool_runtime *rt = listener->ws->rt;
  (void) events;
  for (int i = 0; i < ACCEPTS_AT_ONCE && room(listener->ws); i++) {
    struct cpool__address address = {.len = sizeof address.sock};
    int client = accept4(fd, &address.sock.any, &address.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client >= 0) {
      (void) take_client(listener, client, &address, NULL, 0);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      cpool__log(cpool__runtime_log(rt), CPOOL_LOG_WARNING, "ws", "accept: %s", strerror(errno));
      cpool__poller_want(cpool__runtime_poller(rt), fd, 0);
      cpool__runtime_arm(rt, &listener->timer, cpool__runtime_now_ms(rt) + TRY_AGAIN_MS, on_again);
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
  if (!room(listener->ws))
    cpool__poller_want(cpool__runtime_poller(rt), fd, 0);
}

void cpool__listeners_room(cpool_ws *ws)
{
  if (!room(ws))
    return;
  for (struct cpool__link *link = cpool__list_first(&ws->listeners); link != NULL;
       link = cpool__list_next(&ws->listeners, link)) {
    struct cpool__listener *listener = cpool__container_of(link, struct cpool__listener, link);
    if (listener->fd >= 0 && !cpool__timer_armed(&listener->timer))
      cpool__poller_want(cpool__runtime_poller(ws->rt), listener->fd, EPOLLIN);
  }
}

void cpool__listeners_stop(cpool_ws *ws)
{
  for (struct cpool__link *link = cpool__list_first(&ws->listeners); link != NULL;
       link = cpool__list_next(&ws->listeners, link)) {
    struct cpool__listener *listener = cpool__container_of(link, struct cpool__listener, link);
    if (listener->fd < 0)
      continue;
    cpool__runtime_disarm(ws->rt, &listener->timer);
    cpool__poller_forget(cpool__runtime_poller(ws->rt), listener->fd);
    close(listener->fd);
    listener->fd = -1;
  }
}

static void listener_free(struct cpool__listener *listener)
{
  cpool__free(listener->path);
  cpool__free(listener->origins);
  cpool__free(listener->header_text);
  cpool__free(listener->header_names);
  cpool__free(listener);
}

void cpool__listeners_free(cpool_ws *ws)
{
  for (struct cpool__link *link; (link = cpool__list_pop_front(&ws->listeners)) != NULL;)
    listener_free(cpool__container_of(link, struct cpool__listener, link));
}

/* -------------------------------------------------------------------------------------------------------- public call */

static int refuse_errno(const char *what, const char *address, int port, int error)
{
  cpool_error err;
  cpool__error_set(&err, CPOOL_ESYSTEM, CPOOL_LAYER_SYSTEM, error, 0, "ws_listen: %s:%d: %s: %s", address, port, what,
                   strerror(error));
  return cpool__refuse_with(&err);
}

/* The descriptor, or a status. */
static int open_socket(const cpool_ws_listen_options *options, int *port)
{
  const char *text = options->address != NULL ? options->address : "127.0.0.1";
  struct cpool__address address;
  int on = 1;
  if (!cpool__address_parse(&address, text, (uint16_t) options->port))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_listen: address %s is no IP address", text);
  int fd = socket(address.sock.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return refuse_errno("socket", text, options->port, errno);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, &address.sock.any, address.len) != 0 ||
      listen(fd, options->backlog > 0 ? options->backlog : BACKLOG) != 0) {
    int error = errno;
    close(fd);
    return refuse_errno("bind or listen", text, options->port, error);
  }
  address.len = sizeof address.sock;
  getsockname(fd, &address.sock.any, &address.len);
  *port = cpool__address_port(&address);
  return fd;
}

static int check_options(const cpool_ws_listen_options *own)
{
  const char *const texts[] = {own->address, own->tls_cert_file, own->tls_key_file, own->subprotocols,
                               own->path,    own->origins,       own->headers};
  if (own->port < 0 || own->port > 65535)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_listen: port %d is out of range 0..65535",
                         (int) own->port);
  if (own->backlog < 0 || own->max_per_address < 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_listen: %s is negative",
                         own->backlog < 0 ? "backlog" : "max_per_address");
  if ((own->tls_cert_file == NULL) != (own->tls_key_file == NULL))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_listen: tls_cert_file and tls_key_file go together");
  if (own->decide != 0 && own->decide != CPOOL_OFF)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_listen: decide %d is neither 0 nor off",
                         (int) own->decide);
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    for (const char *at = texts[i]; at != NULL && *at != '\0'; at++)
      if (iscntrl((unsigned char) *at) || at - texts[i] > TEXT_BYTES)
        return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                             "ws_listen: a text has control bytes or is longer than %d", (int) TEXT_BYTES);
  return CPOOL_OK;
}

/* False: out of memory. */
static bool copy_headers(struct cpool__listener *listener, const char *text)
{
  int count = 0;
  if (text == NULL)
    return true;
  for (const char *at = text; *at != '\0'; at++)
    count += *at == ',' ? 1 : 0;
  listener->header_text = cpool__strdup(text);
  listener->header_names = cpool__calloc((size_t) count + 1, sizeof *listener->header_names);
  if (listener->header_text == NULL || listener->header_names == NULL)
    return false;
  for (char *at = listener->header_text; *at != '\0'; at++)
    *at = (char) tolower((unsigned char) *at);
  char *save = NULL;
  for (char *name = strtok_r(listener->header_text, ", \t", &save); name != NULL; name = strtok_r(NULL, ", \t", &save))
    listener->header_names[listener->header_count++] = name;
  return true;
}

static struct cpool__listener *listener_new(cpool_ws *ws, const cpool_ws_listen_options *options)
{
  struct cpool__listener *listener = cpool__calloc(1, sizeof *listener);
  if (listener == NULL)
    return NULL;
  listener->ws = ws;
  listener->fd = -1;
  listener->tls = options->tls_cert_file != NULL;
  listener->decide = options->decide;
  listener->max_per_address = options->max_per_address;
  listener->path = cpool__strdup(options->path);
  listener->origins = cpool__strdup(options->origins);
  if ((options->path != NULL && listener->path == NULL) || (options->origins != NULL && listener->origins == NULL) ||
      !copy_headers(listener, options->headers)) {
    listener_free(listener);
    return NULL;
  }
  return listener;
}

struct listen_call {
  cpool_ws *ws;
  const cpool_ws_listen_options *options;
  int fd, port;
};

static int listen_on_loop(void *arg)
{
  struct listen_call *call = arg;
  cpool_ws *ws = call->ws;
  const cpool_ws_listen_options *options = call->options;
  if (ws->life != CPOOL__WS_OPEN)
    return cpool__refuse(CPOOL_ECLOSED, CPOOL_LAYER_WS, "ws_listen: the manager is closing");
  struct cpool__listener *listener = listener_new(ws, options);
  if (listener == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_listen: no memory");
  int rc =
      cpool__gate_new(&listener->gate, ws->wires, options->tls_cert_file, options->tls_key_file, options->subprotocols);
  if (rc == CPOOL_OK &&
      cpool__poller_watch(cpool__runtime_poller(ws->rt), call->fd, EPOLLIN, on_clients, listener) != CPOOL_OK)
    rc = cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_listen: no memory");
  if (rc != CPOOL_OK) {
    listener_free(listener);
    return rc;
  }
  listener->fd = call->fd;
  listener->port = call->port;
  cpool__list_push_back(&ws->listeners, &listener->link);
  cpool__runtime_enter(ws->rt); /* a turn puts it into the epoll set */
  cpool__ws_changed(ws);
  return CPOOL_OK;
}

int cpool_ws_listen(cpool_ws *ws, const cpool_ws_listen_options *options)
{
  cpool_ws_listen_options own = {.size = sizeof own};
  int port = 0, rc = cpool__ws_usable(ws);
  if (rc == CPOOL_OK && options != NULL)
    rc = cpool__struct_read(&own, sizeof own, options, "cpool_ws_listen_options");
  if (rc == CPOOL_OK)
    rc = check_options(&own);
  if (rc != CPOOL_OK)
    return rc;
  struct listen_call call = {.ws = ws, .options = &own, .fd = open_socket(&own, &port)};
  if (call.fd < 0)
    return call.fd;
  call.port = port;
  rc = cpool__call(ws->rt, listen_on_loop, &call);
  if (rc == CPOOL_OK)
    return port;
  close(call.fd);
  return rc;
}

/* ------------------------------------------------------------------------------------- sockets that the caller accepted */

struct adopt_call {
  cpool_ws *ws;
  const cpool_ws_adopt_options *options;
  struct cpool__address address;
  int fd;
  cpool_conn handle;
};

static struct cpool__listener *find_listener(cpool_ws *ws, int32_t port)
{
  for (struct cpool__link *link = cpool__list_first(&ws->listeners); link != NULL;
       link = cpool__list_next(&ws->listeners, link)) {
    struct cpool__listener *listener = cpool__container_of(link, struct cpool__listener, link);
    if (listener->port == port && !listener->tls)
      return listener;
  }
  return NULL;
}

/* One that listens to nothing. */
static int make_unbound(cpool_ws *ws, struct cpool__listener **out)
{
  static const cpool_ws_listen_options none;
  struct cpool__listener *listener = listener_new(ws, &none);
  if (listener == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_adopt: no memory");
  int rc = cpool__gate_new(&listener->gate, ws->wires, NULL, NULL, NULL);
  if (rc != CPOOL_OK) {
    listener_free(listener);
    return rc;
  }
  cpool__list_push_back(&ws->listeners, &listener->link);
  *out = listener;
  return CPOOL_OK;
}

static int adopt_on_loop(void *arg)
{
  struct adopt_call *call = arg;
  cpool_ws *ws = call->ws;
  struct cpool__listener *listener = find_listener(ws, call->options->port);
  if (ws->life != CPOOL__WS_OPEN)
    return cpool__refuse(CPOOL_ECLOSED, CPOOL_LAYER_WS, "ws_adopt: the manager is closing");
  if (listener == NULL && call->options->port != 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_adopt: port %d has no listener without TLS",
                         (int) call->options->port);
  if (!room(ws))
    return cpool__refuse(CPOOL_EFULL, CPOOL_LAYER_WS, "ws_adopt: max_handshakes (%d) are under way",
                         (int) ws->options.max_handshakes);
  int rc = listener == NULL ? make_unbound(ws, &listener) : CPOOL_OK;
  if (rc != CPOOL_OK)
    return rc;
  int fd = fcntl(call->fd, F_DUPFD_CLOEXEC, 0); /* the caller's stays until it is sure that it is taken */
  if (fd < 0)
    return cpool__refuse(CPOOL_ESYSTEM, CPOOL_LAYER_SYSTEM, "ws_adopt: %s", strerror(errno));
  cpool__runtime_enter(ws->rt);
  struct cpool__ws_conn *conn = take_client(listener, fd, &call->address, call->options->data, call->options->len);
  if (conn != NULL)
    call->handle = conn->handle;
  return CPOOL_OK;
}

int cpool_ws_adopt(cpool_ws *ws, int fd, const cpool_ws_adopt_options *options, cpool_conn *out)
{
  cpool_ws_adopt_options own = {.size = sizeof own};
  struct adopt_call call = {.ws = ws, .options = &own, .fd = fd, .address.len = sizeof call.address.sock};
  int rc = cpool__ws_usable(ws), flags = fcntl(fd, F_GETFL), type = 0;
  socklen_t type_len = sizeof type;
  if (rc == CPOOL_OK && options != NULL)
    rc = cpool__struct_read(&own, sizeof own, options, "cpool_ws_adopt_options");
  if (rc != CPOOL_OK)
    return rc;
  if ((own.data == NULL && own.len > 0) || own.len > ADOPT_BYTES || own.port < 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_adopt: data, len or port is out of range");
  if (flags < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) != 0 || type != SOCK_STREAM ||
      getpeername(fd, &call.address.sock.any, &call.address.len) != 0 ||
      (call.address.sock.any.sa_family != AF_INET && call.address.sock.any.sa_family != AF_INET6))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_adopt: %d is no connected TCP socket", fd);
  (void) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  rc = cpool__call(ws->rt, adopt_on_loop, &call);
  if (rc != CPOOL_OK) {
    (void) fcntl(fd, F_SETFL, flags);
    return rc;
  }
  close(fd);
  if (out != NULL)
    *out = call.handle;
  return CPOOL_OK;
}
