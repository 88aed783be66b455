/* connect: what a caller asks to be dialled becomes a plan, and a connection that lives by it */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"
#include "core/wait.h"
#include "web/basic.h"
#include "web/headers.h"
#include "web/url.h"
#include "ws/dialled.h"

/* AUTHORITY_BYTES and PATH_BYTES: what libwebsockets has room for in its request. */
enum {
  AUTHORITY_BYTES = 119,
  PATH_BYTES = 1999,
  HEADERS_BYTES = 8192,
  SUBPROTOCOLS_BYTES = 1024,
  CREDENTIAL_BYTES = 1024
};

static int refuse(const char *text)
{
  return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_connect option %s", text);
}

/* ------------------------------------------------------------------------------------------------------------- checks */

static int check_texts(const cpool_ws_connect_options *own)
{
  const struct {
    const char *key, *value;
  } files[] = {{"ca_file", own->ca_file},
               {"client_cert_file", own->client_cert_file},
               {"client_key_file", own->client_key_file}};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    if (files[i].value != NULL && *files[i].value == '\0')
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_connect option %s: an empty name", files[i].key);
  if ((own->client_key_file != NULL || own->client_key_password != NULL) && own->client_cert_file == NULL)
    return refuse("client_key_file, client_key_password: not without client_cert_file");
  if ((own->proxy_username != NULL || own->proxy_password != NULL) && own->proxy == NULL)
    return refuse("proxy_username, proxy_password: not without proxy");
  if (own->proxy_username == NULL && own->proxy_password != NULL)
    return refuse("proxy_password: not without proxy_username");
  if (own->proxy_username != NULL &&
      (strchr(own->proxy_username, ':') != NULL || strlen(own->proxy_username) > CREDENTIAL_BYTES))
    return refuse("proxy_username: ':' is not allowed in it, nor more than 1024 bytes");
  if (own->proxy_password != NULL && strlen(own->proxy_password) > CREDENTIAL_BYTES)
    return refuse("proxy_password: longer than 1024 bytes");
  return CPOOL_OK;
}

/* Whether a list of names has this one before the place where it stands. */
static bool named_before(const char *list, const char *name, size_t len)
{
  for (const char *at = list + strspn(list, ", "); at < name; at += strspn(at, ", ")) {
    size_t own = strcspn(at, ", ");
    if (own == len && memcmp(at, name, len) == 0)
      return true;
    at += own;
  }
  return false;
}

/* Names with commas between (RFC 6455 section 4.1: tokens, none twice). */
static int check_subprotocols(const char *text)
{
  const char *at = text;
  if (text == NULL)
    return CPOOL_OK;
  if (strlen(text) > SUBPROTOCOLS_BYTES)
    return refuse("subprotocols: longer than 1024 bytes");
  for (;;) {
    at += strspn(at, " ");
    size_t len = strcspn(at, ", ");
    if (!cpool__token_span_valid(at, len))
      return refuse("subprotocols: not names with commas between");
    if (named_before(text, at, len))
      return refuse("subprotocols: a name is there twice");
    at += len;
    at += strspn(at, " ");
    if (*at == '\0')
      return CPOOL_OK;
    if (*at++ != ',')
      return refuse("subprotocols: not names with commas between");
  }
}

static int check_headers(const cpool_ws_connect_options *own, size_t *len)
{
  static const char reserved[] = "Sec-WebSocket-";
  int rc = cpool__headers_check(own->headers, own->header_count);
  if (rc != CPOOL_OK)
    return rc;
  *len = 0;
  for (size_t i = 0; i < own->header_count; i++) {
    const char *name = own->headers[i].name;
    size_t name_len = strlen(name), prefix = sizeof reserved - 1;
    if ((name_len >= prefix && cpool__names_equal(name, prefix, reserved, prefix)) ||
        cpool__names_equal(name, name_len, "Host", 4))
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "headers[%zu]: %.64s is set by the library alone", i,
                           name);
    *len += name_len + strlen(own->headers[i].value) + 4;
  }
  return *len <= HEADERS_BYTES ? CPOOL_OK : refuse("headers: longer than 8192 bytes in all");
}

/* ---------------------------------------------------------------------------------------------------------- the plan */

struct parts {
  struct cpool__url url, proxy;
  size_t headers_len;
};

static void parts_free(struct parts *parts)
{
  cpool__authority_free(parts->url.owned);
  cpool__authority_free(parts->proxy.owned);
}

static int authority_text(char *out, size_t size, const struct cpool__authority *authority, bool with_port)
{
  bool v6 = strchr(authority->host, ':') != NULL;
  if (with_port || authority->port != (authority->tls ? 443 : 80))
    return snprintf(out, size, v6 ? "[%s]:%u" : "%s:%u", authority->host, (unsigned) authority->port);
  return snprintf(out, size, v6 ? "[%s]" : "%s", authority->host);
}

static int read_proxy(const cpool_ws_connect_options *own, struct parts *parts)
{
  if (own->proxy == NULL)
    return CPOOL_OK;
  int rc = cpool__url_parse_once(NULL, own->proxy, "proxy", &parts->proxy);
  if (rc != CPOOL_OK)
    return rc;
  if (parts->proxy.authority->tls)
    return refuse("proxy: only http:// proxies make tunnels for WebSockets");
  if (parts->proxy.target_len > 1 || (parts->proxy.target_len == 1 && *parts->proxy.target != '/'))
    return refuse("proxy: it has no path");
  return CPOOL_OK;
}

/* What of it can be wrong. The parts are to be freed in any case. */
static int read_parts(const cpool_ws_connect_options *own, struct parts *parts)
{
  char authority[512];
  int rc = own->url != NULL ? cpool__url_parse_ws(own->url, "url", &parts->url) : refuse("url: it is needed");
  if (rc == CPOOL_OK)
    rc = read_proxy(own, parts);
  if (rc == CPOOL_OK && authority_text(authority, sizeof authority, parts->url.authority, false) > AUTHORITY_BYTES)
    rc = refuse("url: host and port are longer than the 119 bytes that libwebsockets has room for");
  if (rc == CPOOL_OK && parts->url.target_len >= PATH_BYTES)
    rc = refuse("url: path and query are longer than the 1999 bytes that libwebsockets has room for");
  if (rc == CPOOL_OK)
    rc = check_texts(own);
  if (rc == CPOOL_OK)
    rc = check_subprotocols(own->subprotocols);
  if (rc == CPOOL_OK)
    rc = check_headers(own, &parts->headers_len);
  return rc;
}

/* All texts of a plan, one behind the other; with out NULL they are only counted. */
struct texts {
  char *at;
  size_t size;
};

static const char *put(struct texts *texts, const char *text, size_t len)
{
  char *out = texts->at;
  texts->size += len + 1;
  if (out == NULL)
    return NULL;
  memcpy(out, text, len);
  out[len] = '\0';
  texts->at += len + 1;
  return out;
}

static const char *put_headers(struct texts *texts, const cpool_ws_connect_options *own, size_t len)
{
  char *out = texts->at, *at = out;
  texts->size += len + 1;
  if (out == NULL)
    return NULL;
  for (size_t i = 0; i < own->header_count; i++)
    at = stpcpy(stpcpy(stpcpy(stpcpy(at, own->headers[i].name), ": "), own->headers[i].value), "\r\n");
  *at = '\0';
  texts->at = at + 1;
  return out;
}

static const char *put_tunnel(struct texts *texts, const cpool_ws_connect_options *own, const char *target)
{
  enum { FIXED = 128 };
  size_t size = FIXED + 2 * strlen(target) + cpool__basic_len(own->proxy_username, own->proxy_password);
  char *out = texts->at;
  texts->size += size;
  if (out == NULL)
    return NULL;
  char *at = out + sprintf(out, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", target, target);
  if (own->proxy_username != NULL) {
    at = stpcpy(at, "Proxy-Authorization: Basic ");
    cpool__basic_write(at, own->proxy_username, own->proxy_password);
    at = stpcpy(at + strlen(at), "\r\n");
  }
  stpcpy(at, "\r\n");
  texts->at = out + size;
  return out;
}

static void put_all(struct cpool__dial_plan *plan, struct texts *texts, const cpool_ws_connect_options *own,
                    const struct parts *parts)
{
  const struct cpool__authority *authority = parts->url.authority, *proxy = parts->proxy.authority;
  char with_port[512], shown[512], path[PATH_BYTES + 1];
  authority_text(with_port, sizeof with_port, authority, true);
  authority_text(shown, sizeof shown, authority, false);
  snprintf(path, sizeof path, "%s%.*s", *parts->url.target == '/' ? "" : "/", (int) parts->url.target_len,
           parts->url.target);
  plan->server = put(texts, authority->host, strlen(authority->host));
  plan->host = proxy != NULL ? put(texts, proxy->host, strlen(proxy->host)) : plan->server;
  plan->authority = put(texts, shown, strlen(shown));
  plan->path = put(texts, path, strlen(path));
  if (own->subprotocols != NULL)
    plan->subprotocols = put(texts, own->subprotocols, strlen(own->subprotocols));
  plan->headers = put_headers(texts, own, parts->headers_len);
  if (proxy != NULL)
    plan->tunnel = put_tunnel(texts, own, with_port);
}

static int plan_new(struct cpool__dial_plan **out, const cpool_ws_connect_options *own, const struct parts *parts)
{
  struct cpool__dial_plan none = {0};
  struct texts texts = {0};
  put_all(&none, &texts, own, parts);
  struct cpool__dial_plan *plan = cpool__calloc(1, sizeof *plan + texts.size);
  if (plan == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_connect: no memory");
  texts.at = (char *) (plan + 1);
  plan->bytes = sizeof *plan + texts.size;
  put_all(plan, &texts, own, parts);
  plan->tls = parts->url.authority->tls;
  plan->port = own->proxy != NULL ? parts->proxy.authority->port : parts->url.authority->port;
  plan->address_policy = own->address_policy;
  plan->headers_len = parts->headers_len;
  plan->redial = (struct cpool__redial){.base_ms = own->reconnect_ms,
                                        .most_ms = own->max_reconnect_ms,
                                        .stable_ms = own->stable_ms,
                                        .max_attempts = own->max_attempts};
  int rc = cpool__redial_stops(&plan->redial, own->stop_codes);
  if (rc != CPOOL_OK) {
    cpool__dial_plan_free(plan);
    return rc;
  }
  *out = plan;
  return CPOOL_OK;
}

void cpool__dial_plan_free(struct cpool__dial_plan *plan)
{
  if (plan != NULL)
    explicit_bzero(plan, plan->bytes); /* it may hold credentials */
  cpool__free(plan);
}

/* ---------------------------------------------------------------------------------------------------------- TLS, once */

/* Any thread: reading all certificates of the system takes milliseconds. */
static int find_tls(cpool_ws *ws, const cpool_ws_connect_options *own, struct cpool__client_tls **out)
{
  int rc = CPOOL_OK;
  pthread_mutex_lock(&ws->client_tls_lock);
  for (struct cpool__link *link = cpool__list_first(&ws->client_tls); link != NULL && *out == NULL;
       link = cpool__list_next(&ws->client_tls, link)) {
    struct cpool__client_tls *tls = cpool__container_of(link, struct cpool__client_tls, link);
    if (cpool__client_tls_fits(tls, own))
      *out = tls;
  }
  if (*out == NULL && ws->client_tls_count == CPOOL__CLIENT_TLS_MOST)
    rc = cpool__refuse(CPOOL_EFULL, CPOOL_LAYER_WS, "ws_connect: there are %d different TLS settings already",
                       CPOOL__CLIENT_TLS_MOST);
  else if (*out == NULL)
    rc = cpool__client_tls_new(out, own);
  if (rc == CPOOL_OK && (*out)->link.next == NULL) {
    cpool__list_push_back(&ws->client_tls, &(*out)->link);
    ws->client_tls_count++;
  }
  pthread_mutex_unlock(&ws->client_tls_lock);
  return rc;
}

/* -------------------------------------------------------------------------------------------------------- public call */

struct connect_call {
  cpool_ws *ws;
  const char *id;
  void *user;
  struct cpool__dial_plan *plan; /* NULL: the connection has it */
  cpool_conn handle;
};

static int make_gate(cpool_ws *ws, const struct cpool__dial_plan *plan)
{
  struct cpool__gate **gate = plan->tls ? &plan->client_tls->gate : &ws->plain_gate;
  if (*gate != NULL)
    return CPOOL_OK;
  return cpool__gate_new_client(gate, ws->wires, plan->tls ? plan->client_tls->context : NULL);
}

static int connect_on_loop(void *arg)
{
  struct connect_call *call = arg;
  cpool_ws *ws = call->ws;
  if (ws->life != CPOOL__WS_OPEN)
    return cpool__refuse(CPOOL_ECLOSED, CPOOL_LAYER_WS, "ws_connect: the manager is closing");
  int rc = make_gate(ws, call->plan);
  if (rc != CPOOL_OK)
    return rc;
  struct cpool__dialled *dialled = cpool__calloc(1, sizeof *dialled);
  struct cpool__ws_conn *conn = dialled != NULL ? cpool__ws_conn_new(ws, CPOOL__WS_WAITING) : NULL;
  if (conn == NULL) {
    cpool__free(dialled);
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_connect: no memory");
  }
  dialled->conn = conn;
  dialled->plan = call->plan;
  dialled->opened_ms = dialled->retry_after_s = -1;
  conn->dialled = dialled;
  conn->tls = call->plan->tls;
  call->plan = NULL;
  call->handle = conn->handle;
  rc = cpool__ws_conn_register(conn, call->id, call->user);
  if (rc != CPOOL_OK) {
    dialled->stopped = true;
    conn->reason = CPOOL_WS_REFUSED;
    cpool__ws_conn_gone(conn);
    return cpool__ws_refuse_place("ws_connect", rc, ws, call->id);
  }
  cpool__runtime_enter(ws->rt);
  cpool__dialled_begin(conn);
  return CPOOL_OK;
}

int cpool_ws_connect(cpool_ws *ws, const char *id, const cpool_ws_connect_options *options, cpool_conn *out)
{
  cpool_ws_connect_options own = {.size = sizeof own};
  struct parts parts = {0};
  struct connect_call call = {.ws = ws, .id = id};
  struct cpool__client_tls *tls = NULL;
  int rc = cpool__ws_usable(ws);
  if (rc == CPOOL_OK)
    rc = cpool__ws_check_id("ws_connect", id);
  if (rc == CPOOL_OK && options == NULL)
    rc = refuse("url: it is needed");
  if (rc == CPOOL_OK)
    rc = cpool__struct_read(&own, sizeof own, options, "cpool_ws_connect_options");
  if (rc == CPOOL_OK)
    rc = cpool__options_resolve(&cpool__ws_connect_option_table, &own);
  if (rc != CPOOL_OK)
    return rc;
  rc = read_parts(&own, &parts);
  if (rc == CPOOL_OK)
    rc = plan_new(&call.plan, &own, &parts);
  if (rc == CPOOL_OK && call.plan->tls)
    rc = find_tls(ws, &own, &tls);
  if (rc == CPOOL_OK) {
    call.plan->client_tls = tls;
    call.user = own.user;
    rc = cpool__call(ws->rt, connect_on_loop, &call);
  }
  if (rc == CPOOL_OK && out != NULL)
    *out = call.handle;
  cpool__dial_plan_free(call.plan);
  parts_free(&parts);
  return rc;
}
