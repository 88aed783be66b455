/* lws_dial: connected sockets for libwebsockets, which connects its own and takes none
 *
 * It is asked to connect to a unix socket of ours, the dock, whose backlog is full: such a connect stays pending, and the
 * descriptor is already in its tables. The socket that is connected then takes that descriptor's place (dup3), before the loop looks at it,
 * and libwebsockets sees its connect succeed. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"
#include "core/error.h"
#include "ws/lws_context.h"

enum { AUTOBIND_BYTES = 6 /* of the name: a NUL and five digits, unix(7) */, TIMES = 16 };

/* ---------------------------------------------------------------------------------------------------------- the dock */

void cpool__dock_close(struct cpool__dock *dock)
{
  if (dock->fd > 0)
    close(dock->fd);
  if (dock->filler > 0)
    close(dock->filler);
  dock->fd = dock->filler = 0;
}

/* Listens, and is connected to so often that no further connect gets through. */
static bool fill(struct cpool__dock *dock)
{
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  socklen_t len = sizeof name;
  if (bind(dock->fd, (struct sockaddr *) &name, sizeof name.sun_family) != 0 ||
      getsockname(dock->fd, (struct sockaddr *) &name, &len) != 0 ||
      len != offsetof(struct sockaddr_un, sun_path) + AUTOBIND_BYTES || listen(dock->fd, 0) != 0 ||
      connect(dock->filler, (struct sockaddr *) &name, len) != 0)
    return false;
  snprintf(dock->name, sizeof dock->name, "+@%.*s", AUTOBIND_BYTES - 1, name.sun_path + 1);
  return true;
}

static bool dock_ready(struct cpool__dock *dock)
{
  if (dock->fd > 0)
    return true;
  dock->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  dock->filler = dock->fd > 0 ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
  if (dock->filler > 0 && fill(dock))
    return true;
  int error = errno;
  cpool__dock_close(dock);
  errno = error;
  return false;
}

/* ------------------------------------------------------------------------------------------------------------- dials */

int cpool__gate_new_client(struct cpool__gate **out, struct cpool__wires *wires, void *ssl_context)
{
  struct lws_context_creation_info info = {.options = ssl_context != NULL ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0,
                                           .provided_client_ssl_ctx = ssl_context};
  int rc = cpool__gate_make(out, wires, NULL, &info);
  if (rc == CPOOL_OK)
    (*out)->tls = ssl_context != NULL;
  return rc;
}

/* False: `to` is still what it was. */
static bool take_place(int fd, int to)
{
  for (int i = 0; i < TIMES; i++) {
    if (dup3(fd, to, O_CLOEXEC) >= 0)
      return true;
    if (errno != EINTR && errno != EBUSY)
      break;
  }
  return false;
}

int cpool__wire_dial(struct cpool__wire *wire, struct cpool__gate *gate, int fd,
                     const struct cpool__wire_request *request)
{
  struct cpool__wires *wires = gate->wires;
  int on = 1;
  if (!dock_ready(&wires->dock)) {
    close(fd);
    return CPOOL_ESYSTEM;
  }
  struct lws_client_connect_info info = {.context = wires->context,
                                         .vhost = gate->vhost,
                                         .address = wires->dock.name,
                                         .path = request->path,
                                         .host = request->host,
                                         .protocol = request->subprotocols,
                                         .ssl_connection =
                                             (gate->tls ? LCCSCF_USE_SSL | LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK : 0) |
                                             LCCSCF_HTTP_NO_FOLLOW_REDIRECT,
                                         .alpn = "http/1.1",
                                         .ietf_version_or_minus_one = -1,
                                         .retry_and_idle_policy = NULL};
  struct lws *wsi = lws_client_connect_via_info(&info);
  if (wsi == NULL) {
    close(fd);
    return CPOOL_ENOMEM;
  }
  (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  bool taken = take_place(fd, lws_get_socket_fd(wsi));
  close(fd);
  if (!taken) { /* it has no owner, and goes by itself */
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    return CPOOL_ESYSTEM;
  }
  lws_set_opaque_user_data(wsi, wire);
  wire->wsi = wsi;
  return CPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------------- callbacks */

static int64_t retry_after(struct lws *wsi)
{
  char text[32];
  if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_RETRY_AFTER) <= 0 ||
      lws_hdr_copy(wsi, text, sizeof text, WSI_TOKEN_HTTP_RETRY_AFTER) <= 0 ||
      strspn(text, "0123456789") != strlen(text))
    return -1; /* a date is none of a stranger's clock */
  return strtoll(text, NULL, 10);
}

static void unanswered(struct cpool__wires *wires, struct cpool__wire *wire, struct lws *wsi, const char *text,
                       size_t len)
{
  char own[128];
  int status = (int) lws_http_client_http_response(wsi);
  snprintf(own, sizeof own, "%.*s", (int) (len < sizeof own ? len : sizeof own - 1), text);
  wires->events->unanswered(wire, status, status != 0 ? retry_after(wsi) : -1, own);
}

int cpool__wires_dial_event(struct cpool__wires *wires, struct cpool__wire *wire, struct lws *wsi, int reason, void *in,
                            size_t len)
{
  char subprotocol[128];
  switch (reason) {
  case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER: {
    char **at = in;
    *at += wires->events->ask(wire, *at, len);
    return 0;
  }
  case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
    if (lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) <= 0 ||
        lws_hdr_copy(wsi, subprotocol, sizeof subprotocol, WSI_TOKEN_PROTOCOL) < 0)
      subprotocol[0] = '\0';
    wires->events->answered(wire, subprotocol);
    return 0;
  case LWS_CALLBACK_CLIENT_HTTP_REDIRECT:
    return 1; /* never followed */
  case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
    unanswered(wires, wire, wsi, in != NULL ? in : "", in != NULL ? len : 0);
    return 0;
  case LWS_CALLBACK_CLOSED_CLIENT_HTTP:
    unanswered(wires, wire, wsi, "", 0);
    return 0;
  default:
    return 0;
  }
}
