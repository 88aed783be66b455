/* storm_load: what the storm asks of whom, and with which limits */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/certs.h"
#include "support/fault_h2.h"
#include "support/storm_parts.h"
#include "support/wait.h"

/* -------------------------------------------------------------------------------------------------------------- peers */

enum { HTTP2_STREAMS = 20 };

void storm_peers_start(struct storm *s)
{
  struct fault_options options = {.backlog = 0};
  for (int i = 0; i < STORM_SERVERS; i++) {
    s->servers[i] = fault_server_start(&options);
    if (s->servers[i] == NULL)
      support_die("storm: no server");
    s->ports[i] = fault_server_port(s->servers[i]);
  }
  for (int i = 0; i < STORM_SERVERS; i++) {
    char away[160];
    snprintf(away, sizeof away,
             "HTTP/1.1 307 Away\r\nLocation: http://127.0.0.1:%u/redirect/1\r\nContent-Length: 5\r\n\r\nmoved",
             s->ports[(i + 1) % STORM_SERVERS]);
    fault_server_answer(s->servers[i], "/away", away);
  }
  options.behaviour = FAULT_ACCEPT_RESET;
  s->resetting = fault_server_start(&options);
  options.behaviour = FAULT_GARBAGE;
  s->garbage = fault_server_start(&options);
  s->certs = certs_new();
  s->http2 = fault_server_start(&(struct fault_options){.http2 = true,
                                                        .h2_max_streams = HTTP2_STREAMS,
                                                        .tls_cert_file = s->certs->good.cert_file,
                                                        .tls_key_file = s->certs->good.key_file});
  s->hole = blackhole_start(NULL, 0);
  s->dns = dns_server_start(NULL, 0);
  s->refusing_fd = refusing_port_open(&s->refusing_port);
  if (s->resetting == NULL || s->garbage == NULL || s->http2 == NULL || s->hole == NULL || s->dns == NULL ||
      s->refusing_fd < 0)
    support_die("storm: no server");
  snprintf(s->dns_address, sizeof s->dns_address, "127.0.0.1:%u", dns_server_port(s->dns));
  dns_server_set_addresses(s->dns, "named.test", "127.0.0.1", 1);
  struct dns_rule silent = {.name = "silent.test", .a.answer = DNS_SILENT, .aaaa.answer = DNS_SILENT};
  struct dns_rule failing = {.name = "failing.test", .a.answer = DNS_SERVFAIL, .aaaa.answer = DNS_SERVFAIL};
  dns_server_set(s->dns, &silent);
  dns_server_set(s->dns, &failing);
}

bool storm_peers_quiet(void *storm)
{
  struct storm *s = storm;
  int64_t open = fault_server_open(s->resetting) + fault_server_open(s->garbage) + fault_server_open(s->http2);
  for (int i = 0; i < STORM_SERVERS; i++)
    open += fault_server_open(s->servers[i]);
  return open == 0;
}

void storm_peers_stop(struct storm *s)
{
  for (int i = 0; i < STORM_SERVERS; i++)
    fault_server_stop(s->servers[i]);
  fault_server_stop(s->resetting);
  fault_server_stop(s->garbage);
  fault_server_stop(s->http2);
  certs_free(s->certs);
  blackhole_stop(s->hole);
  dns_server_stop(s->dns);
  close(s->refusing_fd);
}

void storm_anger(struct storm_thread *t)
{
  int which = storm_below(t, STORM_SERVERS + 1);
  struct fault_server *server = which < STORM_SERVERS ? t->s->servers[which] : t->s->http2;
  if (storm_below(t, 2) == 0)
    fault_server_reset_all(server);
  else
    fault_server_drop_all(server);
}

/* ----------------------------------------------------------------------------------------------------------- requests */

/* Weight, path, what a complete answer holds. A path that ends with '/' gets a number. */
static const struct row {
  int weight;
  const char *path;
  enum storm_answer answer;
  int most; /* of the number */
} rows[] = {
    {160, "/ok", STORM_HELLO, 0},
    {150, "/bytes/", STORM_BYTES, 3000},
    {20, "/bytes/", STORM_BYTES, 60000},
    {120, "/chunked/", STORM_BYTES, 3000},
    {120, "/echo", STORM_ECHO, 0},
    {30, "/delay/", STORM_HELLO, 5},
    {40, "/close", STORM_HELLO, 0},
    {15, "/http10", STORM_HELLO, 0},
    {20, "/status/404", STORM_HELLO, 0},
    {10, "/204", STORM_ANY, 0},
    {10, "/interim", STORM_HELLO, 0},
    {10, "/keepalive-hint/1", STORM_HELLO, 0},
    {30, "/redirect/", STORM_REDIRECTED, 4},
    {30, "/away", STORM_REDIRECTED, 0}, /* to the next server */
    {20, "/reset-before-answer", STORM_ANY, 0},
    {15, "/fin-before-answer", STORM_ANY, 0},
    {20, "/reset-midbody", STORM_ANY, 0},
    {15, "/fin-midbody", STORM_ANY, 0},
    {10, "/fin-midheader", STORM_ANY, 0},
    {15, "/close-idle/", STORM_HELLO, 3},
    {15, "/reset-idle/", STORM_HELLO, 3},
    {15, "/reset-on-reuse", STORM_HELLO, 0},
    {10, "/fin-on-reuse", STORM_HELLO, 0},
    {10, "/reset-on-reuse-unread", STORM_HELLO, 0},
    {15, "/extra-bytes", STORM_HELLO, 0},
    {10, "/bad-chunk", STORM_ANY, 0},
    {10, "/garbage", STORM_ANY, 0},
    {5, "/lying-length", STORM_ANY, 0},
    {2, "/endless-body", STORM_ANY, 0},
    {2, "/huge-header/", STORM_ANY, 200000},
    {6, "/drip/1/4", STORM_ANY, 0},
    {10, "/hold", STORM_HELLO, 0},
    {6, "/hold-body", STORM_HELLO, 0},
    {12, "/blackhole", STORM_ANY, 0},
};

/* The same of the server that speaks HTTP/2, see fault_h2.h. */
static const struct row http2_rows[] = {
    {400, "/ok", STORM_HELLO, 0},
    {180, "/bytes/", STORM_BYTES, 3000},
    {60, "/bytes/", STORM_BYTES, 60000},
    {20, "/interim", STORM_HELLO, 0},
    {20, "/unknown", STORM_HELLO, 0},
    {80, "/hold", STORM_HELLO, 0},
    {30, "/hold-body", STORM_HELLO, 0},
    {30, "/refuse", STORM_ANY, 0},
    {30, "/rst/", STORM_ANY, 13},
    {15, "/rst-head", STORM_ANY, 0},
    {15, "/rst-body", STORM_ANY, 0},
    {10, "/no-status", STORM_ANY, 0},
    {10, "/short", STORM_ANY, 0},
    {20, "/goaway", STORM_HELLO, 0},
    {10, "/goaway-without", STORM_ANY, 0},
    {10, "/reset", STORM_ANY, 0},
    {10, "/fin", STORM_ANY, 0},
    {6, "/garbage", STORM_ANY, 0},
    {6, "/big-frame", STORM_ANY, 0},
    {6, "/bad-hpack", STORM_ANY, 0},
    {4, "/ping-flood", STORM_ANY, 0},
    {4, "/endless-body", STORM_ANY, 0},
    {4, "/huge-header/", STORM_ANY, 200000},
    {12, "/blackhole", STORM_ANY, 0},
};

static const struct row *pick_row(struct storm_thread *t, bool http2)
{
  static const int total = 1000; /* about the sum; the rest is the first row */
  const struct row *from = http2 ? http2_rows : rows;
  size_t count = http2 ? sizeof http2_rows / sizeof *http2_rows : sizeof rows / sizeof *rows;
  int at = storm_below(t, total);
  for (size_t i = 0; i < count; i++) {
    at -= from[i].weight;
    if (at < 0)
      return &from[i];
  }
  return from;
}

static void pick_host(struct storm_thread *t, char *out, size_t size)
{
  struct storm *s = t->s;
  int dice = storm_below(t, 1000);
  if (dice < 880)
    snprintf(out, size, "http://127.0.0.1:%u", s->ports[storm_below(t, STORM_SERVERS)]);
  else if (dice < 930)
    snprintf(out, size, "http://named.test:%u", s->ports[0]);
  else if (dice < 945)
    snprintf(out, size, "http://127.0.0.1:%u", s->refusing_port);
  else if (dice < 955)
    snprintf(out, size, "http://127.0.0.1:%u", blackhole_port(s->hole));
  else if (dice < 970)
    snprintf(out, size, "http://unknown%d.test", storm_below(t, 4));
  else if (dice < 975)
    snprintf(out, size, "http://silent.test");
  else if (dice < 980)
    snprintf(out, size, "http://failing.test");
  else if (dice < 990)
    snprintf(out, size, "http://127.0.0.1:%u", fault_server_port(s->resetting));
  else if (dice < 995)
    snprintf(out, size, "http://127.0.0.1:%u", fault_server_port(s->garbage));
  else
    snprintf(out, size, "https://127.0.0.1:%u", fault_server_port(s->garbage));
}

/* In one part or two; now and then it never ends. */
static void write_body(struct storm_thread *t, cpool_http *pool, cpool_op op, const char *body)
{
  size_t len = strlen(body), first = (size_t) storm_below(t, (int) len - 1);
  int last = storm_below(t, 20) != 0;
  int rc = first > 0 ? cpool_body_write(pool, op, body, first, 0) : CPOOL_OK;
  if (rc == CPOOL_OK)
    rc = cpool_body_write(pool, op, body + first, len - first - (size_t) !last, last);
  if (rc != CPOOL_OK && rc != CPOOL_ESTALE)
    storm_trouble(t->s, &t->s->result->wrong, "body_write: %s", cpool_status_name(rc));
}

bool storm_submit(struct storm_thread *t, struct slot *slot, cpool_session *session, cpool_queue *queue,
                  cpool_event_fn *fn)
{
  struct storm *s = t->s;
  char url[160], host[64], body[32];
  if (atomic_load(&s->next_op) >= s->options->requests)
    return false;
  int64_t index = atomic_fetch_add(&s->next_op, 1);
  if (index >= s->op_capacity)
    return false;
  struct storm_op *op = &s->ops[index];
  bool http2 = slot->http2 != NULL && storm_below(t, 4) == 0;
  if (http2)
    session = slot->http2;
  const struct row *row = pick_row(t, http2);
  cpool_request request;
  cpool_request_init(&request);
  op->life = slot->life;
  op->slot = (uint8_t) (slot - s->slots);
  op->answer = (uint8_t) row->answer;
  op->number = (int32_t) index;
  if (http2)
    snprintf(host, sizeof host, "https://127.0.0.1:%u", fault_server_port(s->http2));
  else
    pick_host(t, host, sizeof host);
  if (row->most > 0) {
    op->number = 1 + storm_below(t, row->most);
    snprintf(url, sizeof url, "%s%s%d", host, row->path, op->number);
  } else {
    snprintf(url, sizeof url, "%s%s", host, row->path);
  }
  request.url = url;
  if (row->answer == STORM_ECHO) {
    request.body = body;
    request.body_len = (size_t) snprintf(body, sizeof body, "request %d", op->number);
    request.method = storm_below(t, 2) == 0 ? "PUT" : NULL;
    request.flags = storm_below(t, 4) == 0 ? CPOOL_REQUEST_REPEATABLE : 0;
  }
  bool upload = row->answer == STORM_ECHO && storm_below(t, 3) == 0;
  if (upload) {
    request.flags = CPOOL_REQUEST_UPLOAD;
    request.body = NULL;
    if (storm_below(t, 2) == 0)
      request.body_len = 0; /* in chunks */
  }
  if (http2 && storm_below(t, 3) == 0) {
    request.body = "body";
    request.body_len = 4;
  }
  if (row->answer == STORM_REDIRECTED) {
    request.max_redirects = 1 + storm_below(t, 6);
    request.body = "body";
    request.body_len = storm_below(t, 3) == 0 ? 4 : 0;
  }
  if (storm_below(t, 8) == 0)
    request.total_timeout_ms = 1 + storm_below(t, 30);
  if (storm_below(t, 8) == 0)
    request.acquire_timeout_ms = 1 + storm_below(t, 20);
  request.connect_timeout_ms = 2 + storm_below(t, 40);
  request.sock_read_timeout_ms = 2 + storm_below(t, 40);
  request.max_response_bytes = storm_below(t, 10) == 0 ? 2000 : 0;
  if (storm_below(t, 4) == 0) {
    request.flags |= CPOOL_REQUEST_STREAM;
    op->streamed = 1;
    op->in_order = queue == NULL;
    if (row->answer == STORM_ANY)
      request.max_response_bytes = 100000; /* some have no end */
  }
  request.queue = queue;
  request.on_event = queue == NULL ? fn : NULL;
  request.user = op;
  int rc = cpool_submit(session, &request, &op->op);
  if (rc == CPOOL_OK) {
    op->accepted = 1;
    atomic_fetch_add(&slot->life->accepted, 1);
    atomic_fetch_add(&s->accepted, 1);
    atomic_store(&slot->recent[index % STORM_RECENT], op->op);
    if (upload)
      write_body(t, slot->pool, op->op, body);
    return true;
  }
  atomic_fetch_add(&slot->life->refused, 1);
  atomic_fetch_add(&s->refused, 1);
  if (rc != CPOOL_EFULL && rc != CPOOL_ECLOSED)
    storm_trouble(s, &s->result->wrong, "submit: %s", cpool_status_name(rc));
  return false;
}

void storm_cancel(struct storm_thread *t, struct slot *slot)
{
  cpool_op op = atomic_load(&slot->recent[storm_below(t, STORM_RECENT)]);
  if (op == 0)
    return;
  int rc = cpool_cancel(slot->pool, op);
  if (rc == CPOOL_OK)
    atomic_fetch_add(&t->s->cancels, 1);
  else if (rc != CPOOL_ESTALE && rc != CPOOL_ECLOSED)
    storm_trouble(t->s, &t->s->result->wrong, "cancel: %s", cpool_status_name(rc));
}

/* ------------------------------------------------------------------------------------------------- limits, sessions */

static void pick_limits(struct storm_thread *t, cpool_http_options *out)
{
  out->max_connections = 2 + storm_below(t, 14);
  out->max_connections_per_host = 1 + storm_below(t, 6);
  out->min_idle_per_host = storm_below(t, 2) == 0 ? CPOOL_OFF : 1 + storm_below(t, 3);
  out->max_connecting_per_host = storm_below(t, 2) == 0 ? CPOOL_OFF : 1 + storm_below(t, 3);
  out->max_pending = 20 + storm_below(t, 60);
  out->max_closing = 2 + storm_below(t, 8);
  out->max_origins = 4 + storm_below(t, 8);
  out->max_requests_per_connection = storm_below(t, 2) == 0 ? CPOOL_OFF : 1 + storm_below(t, 50);
  out->keepalive_timeout_ms = 1 + storm_below(t, 100);
  out->max_lifetime_ms = 20 + storm_below(t, 500);
  out->stream_window_bytes = 4096 << storm_below(t, 5);
  out->max_stream_bytes = 65536 << storm_below(t, 3);
}

void storm_pool_options(struct storm_thread *t, cpool_http_options *out)
{
  cpool_http_options_init(out);
  pick_limits(t, out);
  out->max_identities = 2 + storm_below(t, 3);
  out->acquire_timeout_ms = 300;
  out->total_timeout_ms = 1000;
  out->ttl_dns_cache_ms = 1 + storm_below(t, 1000);
  out->dns_negative_ttl_ms = 1 + storm_below(t, 100);
  out->dns_min_ttl_ms = 1;
  out->dns_max_entries = 2 + storm_below(t, 4);
  out->dns_timeout_ms = 200;
  out->dns_servers = t->s->dns_address;
  out->dns_hosts_file = "/dev/null";
}

static void raise_to(_Atomic int *most, int value)
{
  int known = atomic_load(most);
  while (known < value && !atomic_compare_exchange_weak(most, &known, value))
    continue;
}

void storm_reconfigure(struct storm_thread *t, struct slot *slot)
{
  cpool_http_options options;
  cpool_http_options_init(&options);
  if (cpool_http_options_get(slot->pool, &options) != CPOOL_OK)
    return;
  pick_limits(t, &options);
  atomic_store(&slot->life->lowered, true);
  raise_to(&slot->life->most_connections, options.max_connections);
  raise_to(&slot->life->most_per_host, options.max_connections_per_host);
  raise_to(&slot->most, options.max_connections);
  raise_to(&slot->most_per_host, options.max_connections_per_host);
  int rc = cpool_http_reconfigure(slot->pool, &options);
  if (rc == CPOOL_OK)
    atomic_fetch_add(&t->s->reconfigures, 1);
  else if (rc != CPOOL_ECLOSED)
    storm_trouble(t->s, &t->s->result->wrong, "reconfigure: %s", cpool_status_name(rc));
}

bool storm_session_new(struct storm_thread *t, cpool_session **out, cpool_http *pool)
{
  static const cpool_header headers[] = {{"X-Storm", "yes"}};
  cpool_session_options options;
  cpool_session_options_init(&options);
  options.headers = headers;
  options.header_count = (size_t) storm_below(t, 2);
  options.bearer_token = storm_below(t, 2) == 0 ? "secret" : NULL;
  int kind = storm_below(t, 8);
  options.address_policy = kind == 0 ? CPOOL_ADDRESS_PUBLIC : 0;
  options.tls_verify = kind == 1 || kind == 2 ? CPOOL_OFF : 0;
  int rc = cpool_session_new(out, pool, &options);
  if (rc != CPOOL_OK && rc != CPOOL_EFULL && rc != CPOOL_ECLOSED)
    storm_trouble(t->s, &t->s->result->wrong, "session_new: %s", cpool_status_name(rc));
  return rc == CPOOL_OK;
}
