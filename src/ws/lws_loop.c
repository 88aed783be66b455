/* lws_loop: libwebsockets on the runtime's libuv loop
 *
 *   its timers         none is relied upon: on a foreign loop they fire with its next event
 *   LWS_WRITE_RAW      goes out as it is, on an upgraded connection too; what the kernel does not take it keeps, and
 *                      says WRITEABLE when that has gone. Documented nowhere: tests/unit/test_frame.c and the behaviour
 *                      tests hold it to that
 *   shutdown(2)        the one way to end a connection that works whatever it has buffered
 *   WSI_DESTROY        the one callback that ends every connection; it goes to the first protocol of the vhost
 *   lws_context_destroy   twice, with turns of the loop between: only the second one frees
 */
#include "ws/lws_loop.h"

#include <assert.h>
#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/runtime.h"
#include "dns/address.h"
#include "ws/lws_context.h"

enum {
  WRITE_AT_ONCE = 65536,
  HEAD_BYTES = 8192,
  REQUEST_BYTES = 16384,
  DESTROY_TURNS = 4,
  TIMEOUT_S = 3600, /* ours come first */
  LIST_BYTES = 127  /* of a header with a list: libwebsockets reads no longer ones */
};

static const lws_retry_bo_t no_pings; /* libwebsockets sends none, and ends nothing for silence */

static pthread_once_t once = PTHREAD_ONCE_INIT;
/* libwebsockets loads its plugins, and TLS, for all contexts of the process, without a lock. */
static pthread_mutex_t contexts = PTHREAD_MUTEX_INITIALIZER;
/* Those that cannot be freed, kept so that leak checkers find them; under the lock. */
static struct lws_context *stranded[256];
static size_t stranded_count;

static void init_process(void)
{
  lws_set_log_level(0, NULL); /* else it writes to standard error */
}

/* ----------------------------------------------------------------------------------------------------------- callback */

static const char *status_line(int status)
{
  switch (status) {
  case 400:
    return "400 Bad Request";
  case 401:
    return "401 Unauthorized";
  case 403:
    return "403 Forbidden";
  case 404:
    return "404 Not Found";
  case 409:
    return "409 Conflict";
  case 426:
    return "426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
  case 429:
    return "429 Too Many Requests";
  case 503:
    return "503 Service Unavailable\r\nRetry-After: 1";
  default:
    return NULL;
  }
}

static int refuse(struct lws *wsi, int status)
{
  char answer[256], other[32];
  const char *line = status_line(status);
  if (line == NULL) {
    snprintf(other, sizeof other, "%d Refused", status);
    line = other;
  }
  int len = snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", line);
  (void) lws_write(wsi, (unsigned char *) answer, (size_t) len, LWS_WRITE_RAW);
  return -1;
}

/* Whether one of the header's elements is the word, or, without one, the name of a protocol of the vhost's. */
static bool header_has(struct lws *wsi, enum lws_token_indexes token, const char *word)
{
  char text[LIST_BYTES], *save = NULL;
  if (lws_hdr_copy(wsi, text, sizeof text, token) <= 0)
    return false;
  for (char *at = strtok_r(text, ", \t", &save); at != NULL; at = strtok_r(NULL, ", \t", &save))
    if (word != NULL ? strcasecmp(at, word) == 0 : lws_vhost_name_to_protocol(lws_get_vhost(wsi), at) != NULL)
      return true;
  return false;
}

/* What libwebsockets lets through and RFC 6455 section 4.2.1 does not, and what it would drop without an answer later, when
 * the caller has been asked. */
static int check_head(struct lws *wsi)
{
  char text[64];
  if (lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) <= 0 || lws_hdr_total_length(wsi, WSI_TOKEN_HOST) <= 0 ||
      lws_hdr_fragment_length(wsi, WSI_TOKEN_HOST, 1) > 0 || !header_has(wsi, WSI_TOKEN_CONNECTION, "upgrade"))
    return 400;
  if (lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) > 0 && !header_has(wsi, WSI_TOKEN_PROTOCOL, NULL))
    return 400;
  if (lws_hdr_copy(wsi, text, sizeof text, WSI_TOKEN_HTTP) <= 0 || strcmp(text, "HTTP/1.1") != 0)
    return 400;
  if (lws_hdr_copy(wsi, text, sizeof text, WSI_TOKEN_VERSION) <= 0 || strcmp(text, "13") != 0)
    return 426;
  if (lws_hdr_copy(wsi, text, sizeof text, WSI_TOKEN_KEY) != 24 ||
      strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                   "abcdefghijklmnopqrstuvwxyz"
                   "0123456789+/") != 22 ||
      strcmp(text + 22, "==") != 0)
    return 400;
  return 0;
}

static void receive(struct lws *wsi, struct cpool__wire *wire, const struct cpool__wire_events *events, void *in,
                    size_t len)
{
  struct cpool__wire_piece piece = {.data = in,
                                    .len = len,
                                    .rest = lws_remaining_packet_payload(wsi),
                                    .text = !lws_frame_is_binary(wsi),
                                    .first = lws_is_first_fragment(wsi) != 0,
                                    .last = lws_is_final_fragment(wsi) != 0};
  events->received(wire, &piece);
}

/* The code of a close frame that libwebsockets made. */
static int own_close_code(struct lws *wsi)
{
  const unsigned char *payload = lws_get_close_payload(wsi);
  return lws_get_close_length(wsi) >= 2 && payload != NULL ? payload[0] << 8 | payload[1] : 0;
}

int cpool__wires_event(struct cpool__wires *wires, struct cpool__wire *wire, struct lws *wsi, int reason, void *in,
                       size_t len)
{
  const struct cpool__wire_events *events = wires->events;
  wire->wsi = wsi; /* the first callbacks come before the call that makes it returns */
  cpool__runtime_enter(wires->rt);
  switch (reason) {
  case LWS_CALLBACK_RAW_ADOPT: /* what becomes of the method CONNECT */
    return -1;
  case LWS_CALLBACK_HTTP: /* no upgrade */
    return refuse(wsi, 426);
  case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE: {
    int status = strcasecmp(in, "websocket") == 0 ? check_head(wsi) : 426;
    if (status == 0)
      status = events->upgrade(wire);
    return status != 0 ? refuse(wsi, status) : 0;
  }
  case LWS_CALLBACK_ESTABLISHED:
  case LWS_CALLBACK_CLIENT_ESTABLISHED:
    events->opened(wire);
    return 0;
  case LWS_CALLBACK_RECEIVE:
  case LWS_CALLBACK_CLIENT_RECEIVE:
    receive(wsi, wire, events, in, len);
    return 0;
  case LWS_CALLBACK_RECEIVE_PONG:
  case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
    events->pong(wire, in, len);
    return 0;
  case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
    return events->peer_closes(wire, in, len) ? 0 : -1;
  case LWS_CALLBACK_SERVER_WRITEABLE:
  case LWS_CALLBACK_CLIENT_WRITEABLE:
    events->writable(wire);
    return 0;
  case LWS_CALLBACK_CLOSED:
  case LWS_CALLBACK_CLIENT_CLOSED:
    events->failed(wire, own_close_code(wsi));
    return 0;
  case LWS_CALLBACK_WSI_DESTROY:
    wire->wsi = NULL;
    wire->ended = true;
    events->gone(wire);
    return 0;
  default:
    return cpool__wires_dial_event(wires, wire, wsi, reason, in, len);
  }
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *session, void *in, size_t len)
{
  struct cpool__wires *wires = wsi != NULL ? lws_context_user(lws_get_context(wsi)) : NULL;
  if (wires == NULL)
    return 0;
  struct cpool__wire *wire = lws_get_opaque_user_data(wsi);
  if (wire == NULL &&
      wires->adopting != NULL &&              /* with bytes that were read before all comes before that call returns */
      reason != LWS_CALLBACK_PROTOCOL_INIT) { /* of a gate that is made meanwhile, for a struct lws that is none */
    wire = wires->adopting;
    lws_set_opaque_user_data(wsi, wire);
  }
  if (wire == NULL)
    return reason == LWS_CALLBACK_HTTP ? -1 : 0;
  if (reason == LWS_CALLBACK_OPENSSL_PERFORM_SERVER_CERT_VERIFICATION)
    return wires->events->judge(wire, session, len != 0) ? 0 : 1;
  if (reason == LWS_CALLBACK_WSI_DESTROY)
    lws_set_opaque_user_data(wsi, NULL);
  return cpool__wires_event(wires, wire, wsi, (int) reason, in, len);
}

bool cpool__wires_forwarded(int reason)
{
  return reason == LWS_CALLBACK_RECEIVE || reason == LWS_CALLBACK_RECEIVE_PONG ||
         reason == LWS_CALLBACK_SERVER_WRITEABLE || reason == LWS_CALLBACK_WS_PEER_INITIATED_CLOSE ||
         reason == LWS_CALLBACK_CLOSED || reason == LWS_CALLBACK_WSI_DESTROY;
}

bool cpool__wire_host(struct cpool__wire *wire, struct lws *wsi)
{
  if (lws_get_network_wsi(wsi) != wsi)
    return false;
  wire->wsi = wsi;
  return true;
}

/* ------------------------------------------------------------------------------------------------------------ context */

struct handles {
  struct cpool__wires *wires;
  int skip, count;
};

static void count_handle(uv_handle_t *handle, void *ctx)
{
  (void) handle;
  ((struct handles *) ctx)->count++;
}

/* Handles are walked in the order in which they were made. */
static void note_handle(uv_handle_t *handle, void *ctx)
{
  struct handles *handles = ctx;
  struct cpool__wires *wires = handles->wires;
  if (handles->count++ < handles->skip || wires->handle_count == CPOOL__LWS_HANDLES)
    return;
  wires->handles[wires->handle_count++] = handle;
  if (handle->type == UV_POLL)
    wires->pipe = handle;
}

int cpool__wires_new(struct cpool__wires **out, cpool_runtime *rt, const struct cpool__wire_events *events,
                     int receive_buffer_bytes)
{
  struct cpool__wires *wires = cpool__calloc(1, sizeof *wires);
  if (wires == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_new: no memory");
  pthread_once(&once, init_process);
  wires->rt = rt;
  wires->events = events;
  wires->receive_buffer_bytes = receive_buffer_bytes;
  void *loops[] = {cpool__runtime_uv_loop(rt)};
  struct lws_context_creation_info info = {
      .port = CONTEXT_PORT_NO_LISTEN,
      .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT |
                 LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME,
      .gid = -1,
      .uid = -1,
      .max_http_header_data = HEAD_BYTES,
      .timeout_secs = TIMEOUT_S,
      .pt_serv_buf_size = (unsigned) (receive_buffer_bytes > REQUEST_BYTES ? receive_buffer_bytes : REQUEST_BYTES),
      .foreign_loops = loops,
      .user = wires,
  };
  struct handles before = {0}, made = {.wires = wires};
  uv_walk(loops[0], count_handle, &before);
  pthread_mutex_lock(&contexts);
  wires->context = lws_create_context(&info);
  pthread_mutex_unlock(&contexts);
  made.skip = before.count;
  uv_walk(loops[0], note_handle, &made);
  if (wires->context == NULL) {
    cpool__free(wires);
    return cpool__refuse(CPOOL_ESYSTEM, CPOOL_LAYER_SYSTEM,
                         "ws_new: libwebsockets makes no context: its libuv plugin (Debian: libwebsockets-evlib-uv), "
                         "memory or descriptors are missing");
  }
  cpool__runtime_guest(rt, 1);
  *out = wires;
  return CPOOL_OK;
}

static void gate_free(struct cpool__gate *gate)
{
  if (gate == NULL)
    return;
  cpool__free(gate->protocols);
  cpool__free(gate->names);
  cpool__free(gate);
}

static void destroy(struct cpool__wires *wires)
{
  pthread_mutex_lock(&contexts);
  lws_context_destroy(wires->context);
  pthread_mutex_unlock(&contexts);
}

static void ignore_close(uv_handle_t *handle)
{
  (void) handle;
}

/* The first destroy closes the descriptor of the context's pipe, and libuv's word that the pipe's handle is closed, turns
 * later, has libwebsockets close that number again, whoever has it by then. So the number is taken at once, for that second
 * close. Where another thread was faster it must not come: the word is kept back, and what the context has left stays. */
static void keep_number(struct cpool__wires *wires, int number)
{
  if (wires->pipe == NULL || number < 0 || !uv_is_closing(wires->pipe))
    return;
  int plug = fcntl(uv_backend_fd(cpool__runtime_uv_loop(wires->rt)), F_DUPFD_CLOEXEC, number);
  if (plug == number)
    return;
  if (plug >= 0)
    close(plug);
  wires->stranded = true;
  pthread_mutex_lock(&contexts);
  stranded[stranded_count++ % (sizeof stranded / sizeof *stranded)] = wires->context;
  pthread_mutex_unlock(&contexts);
  wires->pipe->close_cb = ignore_close;
  for (int i = 0; i < wires->handle_count; i++)
    if (!uv_is_closing(wires->handles[i]))
      uv_close(wires->handles[i], NULL);
}

static void destroy_first(struct cpool__wires *wires)
{
  uv_os_fd_t number = -1;
  if (wires->pipe == NULL || uv_fileno(wires->pipe, &number) != 0)
    number = -1;
  destroy(wires);
  keep_number(wires, number);
}

static void on_turn(struct cpool__timer *timer)
{
  struct cpool__wires *wires = cpool__container_of(timer, struct cpool__wires, timer);
  cpool_runtime *rt = wires->rt;
  if (--wires->turns_left > 0) {
    cpool__runtime_arm(rt, timer, cpool__runtime_now_ms(rt) + 1, on_turn);
    return;
  }
  if (!wires->stranded)
    destroy(wires);
  cpool__dock_close(&wires->dock);
  for (struct cpool__gate *gate = wires->gates, *next; gate != NULL; gate = next) {
    next = gate->next;
    if (wires->stranded)
      cpool__free(gate); /* its protocols stay with the context */
    else
      gate_free(gate);
  }
  void (*done)(void *user) = wires->done;
  void *user = wires->user;
  cpool__free(wires);
  cpool__runtime_guest(rt, -1);
  done(user);
}

void cpool__wires_free(struct cpool__wires *wires, void (*done)(void *user), void *user)
{
  wires->done = done;
  wires->user = user;
  wires->turns_left = DESTROY_TURNS;
  destroy_first(wires);
  cpool__runtime_arm(wires->rt, &wires->timer, cpool__runtime_now_ms(wires->rt) + 1, on_turn);
}

/* -------------------------------------------------------------------------------------------------------------- gates */

static size_t count_names(const char *names)
{
  size_t count = 1;
  for (; names != NULL && *names != '\0'; names++)
    count += *names == ',' ? 1 : 0;
  return names == NULL ? 0 : count;
}

static bool list_protocols(struct cpool__gate *gate, const struct cpool__wires *wires, const char *subprotocols)
{
  size_t count = count_names(subprotocols);
  gate->protocols = cpool__calloc(count + 2, sizeof *gate->protocols);
  gate->names = cpool__strdup(subprotocols);
  if (gate->protocols == NULL || (subprotocols != NULL && gate->names == NULL))
    return false;
  struct lws_protocols standard = {.name = "", /* for those who offer none */
                                   .callback = on_lws,
                                   .rx_buffer_size = (size_t) wires->receive_buffer_bytes,
                                   .tx_packet_size = WRITE_AT_ONCE};
  struct lws_protocols *next = gate->protocols;
  *next++ = standard;
  char *save = NULL;
  for (char *name = count > 0 ? strtok_r(gate->names, ", \t", &save) : NULL; name != NULL;
       name = strtok_r(NULL, ", \t", &save)) {
    *next = standard;
    next++->name = name;
  }
  return true;
}

int cpool__gate_make(struct cpool__gate **out, struct cpool__wires *wires, const char *subprotocols,
                     struct lws_context_creation_info *info)
{
  struct cpool__gate *gate = cpool__calloc(1, sizeof *gate);
  if (gate == NULL || !list_protocols(gate, wires, subprotocols)) {
    gate_free(gate);
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a listener or a dial");
  }
  info->port = CONTEXT_PORT_NO_LISTEN_SERVER;
  info->vhost_name = "cpool";
  info->protocols = gate->protocols;
  info->options |= LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME;
  info->alpn = "http/1.1";
  info->retry_and_idle_policy = &no_pings;
  info->timeout_secs = info->timeout_secs_ah_idle = info->connect_timeout_secs = TIMEOUT_S;
  gate->wires = wires;
  gate->vhost = lws_create_vhost(wires->context, info);
  if (gate->vhost == NULL) {
    gate_free(gate);
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a listener or a dial");
  }
  gate->next = wires->gates;
  wires->gates = gate;
  *out = gate;
  return CPOOL_OK;
}

int cpool__gate_new(struct cpool__gate **out, struct cpool__wires *wires, const char *cert_file, const char *key_file,
                    const char *subprotocols)
{
  struct lws_context_creation_info info = {.options = cert_file != NULL ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0,
                                           .ssl_cert_filepath = cert_file,
                                           .ssl_private_key_filepath = key_file};
  int rc = cpool__gate_make(out, wires, subprotocols, &info);
  if (rc == CPOOL_OK)
    (*out)->tls = cert_file != NULL;
  else if (cert_file != NULL)
    rc = cpool__refuse(CPOOL_ETLS_CONFIG, CPOOL_LAYER_TLS, "ws_listen: tls_cert_file or tls_key_file cannot be used");
  return rc;
}

static struct lws *adopt(struct cpool__wire *wire, struct cpool__gate *gate, int fd, const void *data, size_t len)
{
  if (len > 0) {
    gate->wires->adopting = wire;
    struct lws *wsi = lws_adopt_socket_vhost_readbuf(gate->vhost, fd, data, len);
    gate->wires->adopting = NULL;
    return wsi;
  }
  lws_adopt_desc_t what = {.vh = gate->vhost,
                           .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP | (gate->tls ? LWS_ADOPT_ALLOW_SSL : 0),
                           .fd.sockfd = fd,
                           .opaque = wire};
  return lws_adopt_descriptor_vhost_via_info(&what);
}

bool cpool__wire_adopt(struct cpool__wire *wire, struct cpool__gate *gate, int fd, const void *data, size_t len)
{
  struct stat before, now;
  bool known = fstat(fd, &before) == 0;
  struct lws *wsi = adopt(wire, gate, fd, data, len);
  if (wsi != NULL && !wire->ended)
    wire->wsi = wsi;
  if (wsi != NULL)
    return true;
  /* It ends it at once, without a word, or in the next turn, when the handshake fails at its first bytes. */
  return wire->ended || (known && fstat(fd, &now) == 0 && now.st_ino == before.st_ino);
}

/* -------------------------------------------------------------------------------------------------------------- wires */

static int copy_token(struct lws *wsi, enum lws_token_indexes token, char *out, size_t size)
{
  int len = lws_hdr_total_length(wsi, token) > 0 ? lws_hdr_copy(wsi, out, (int) size, token) : -1;
  if (len < 0)
    out[0] = '\0';
  return len;
}

/* The parameters come one by one: libwebsockets has split them. */
static int copy_query(struct lws *wsi, char *out, size_t size)
{
  size_t used = 0;
  out[0] = '\0';
  for (int i = 0; lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_URI_ARGS) > 0; i++) {
    size_t at = used + (i > 0 ? 1 : 0);
    if (at + 1 >= size)
      break;
    int len = lws_hdr_copy_fragment(wsi, out + at, (int) (size - at), WSI_TOKEN_HTTP_URI_ARGS, i);
    if (len < 0)
      break;
    if (i > 0)
      out[used] = '&';
    used = at + (size_t) len;
  }
  out[used] = '\0';
  return (int) used;
}

int cpool__wire_field(struct cpool__wire *wire, enum cpool__wire_field field, char *out, size_t size)
{
  switch (field) {
  case CPOOL__WIRE_PATH:
    return copy_token(wire->wsi, WSI_TOKEN_GET_URI, out, size);
  case CPOOL__WIRE_QUERY:
    return copy_query(wire->wsi, out, size);
  case CPOOL__WIRE_SUBPROTOCOLS:
    return copy_token(wire->wsi, WSI_TOKEN_PROTOCOL, out, size);
  }
  return -1;
}

int cpool__wire_header(struct cpool__wire *wire, const char *name, char *out, size_t size)
{
  static const struct {
    const char *name;
    enum lws_token_indexes token;
  } known[] = {{"host", WSI_TOKEN_HOST},
               {"origin", WSI_TOKEN_ORIGIN},
               {"user-agent", WSI_TOKEN_HTTP_USER_AGENT},
               {"cookie", WSI_TOKEN_HTTP_COOKIE},
               {"authorization", WSI_TOKEN_HTTP_AUTHORIZATION},
               {"x-forwarded-for", WSI_TOKEN_X_FORWARDED_FOR},
               {"x-real-ip", WSI_TOKEN_HTTP_X_REAL_IP},
               {"x-auth-token", WSI_TOKEN_X_AUTH_TOKEN},
               {"accept-language", WSI_TOKEN_HTTP_ACCEPT_LANGUAGE},
               {"referer", WSI_TOKEN_HTTP_REFERER},
               {"via", WSI_TOKEN_HTTP_VIA}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strcmp(name, known[i].name) == 0)
      return copy_token(wire->wsi, known[i].token, out, size);
  char with_colon[128];
  int name_len = snprintf(with_colon, sizeof with_colon, "%s:", name);
  out[0] = '\0';
  if (name_len >= (int) sizeof with_colon || lws_hdr_custom_length(wire->wsi, with_colon, name_len) < 0)
    return -1;
  int len = lws_hdr_custom_copy(wire->wsi, out, (int) size, with_colon, name_len);
  if (len < 0)
    out[0] = '\0';
  return len;
}

int cpool__wire_fd(struct cpool__wire *wire)
{
  return wire->wsi != NULL ? lws_get_socket_fd(wire->wsi) : -1;
}

bool cpool__wire_write(struct cpool__wire *wire, const unsigned char *frames, size_t len)
{
  if (lws_write(wire->wsi, (unsigned char *) (uintptr_t) frames, len, LWS_WRITE_RAW) < 0)
    return false;
  if (lws_partial_buffered(wire->wsi))
    lws_callback_on_writable(wire->wsi);
  return true;
}

bool cpool__wire_full(struct cpool__wire *wire)
{
  return lws_partial_buffered(wire->wsi) != 0;
}

void cpool__wire_pause(struct cpool__wire *wire, bool on)
{
  if (wire->wsi != NULL)
    lws_rx_flow_control(wire->wsi, on ? 0 : 1);
}

void cpool__wire_cut(struct cpool__wire *wire)
{
  int fd = cpool__wire_fd(wire);
  if (fd >= 0)
    shutdown(fd, SHUT_RDWR);
}

bool cpool__wire_tls(struct cpool__wire *wire)
{
  return lws_is_ssl(wire->wsi) != 0;
}

void cpool__wire_remote(struct cpool__wire *wire, struct cpool__address *out)
{
  *out = (struct cpool__address){.len = sizeof out->sock};
  if (getpeername(cpool__wire_fd(wire), &out->sock.any, &out->len) == 0 &&
      (out->sock.any.sa_family == AF_INET || out->sock.any.sa_family == AF_INET6))
    cpool__address_unmap(out);
  else
    out->len = 0;
}
