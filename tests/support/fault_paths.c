/* fault_paths: what the fault server does for each path; the table of promises is in fault_server.h */
#include "support/fault_conn.h"

#include "support/wait.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HELLO "hello"
#define OK_HEAD "HTTP/1.1 200 OK\r\n"
#define HELLO_ANSWER OK_HEAD "Content-Length: 5\r\n\r\n" HELLO
#define POISON "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned"

struct path_args {
  int64_t n, m; /* the numbers of /name/n/m, or their defaults */
  bool n_given;
  enum fault_end end;
};

static enum fault_end keep(bool written)
{
  return written ? FAULT_KEEP : FAULT_CUT;
}

static bool is_head(const struct fault_conn *conn)
{
  return strcmp(conn->request.method, "HEAD") == 0;
}

__attribute__((format(printf, 2, 3))) static bool put(struct fault_conn *conn, const char *format, ...)
{
  char text[4096];
  va_list args;
  va_start(args, format);
  int len = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return len > 0 && (size_t) len < sizeof text && fault_conn_write(conn, text, (size_t) len);
}

/* `headers` holds whole lines or is "". One write, so that no peer sees half an answer by accident. */
static bool reply(struct fault_conn *conn, const char *status, const char *headers, const void *body, size_t len)
{
  const char *closing = conn->request.close ? "Connection: close\r\n" : "";
  char *all = NULL;
  int head_len = asprintf(&all, "HTTP/1.1 %s\r\n%s%sContent-Length: %zu\r\n\r\n", status, headers, closing, len);
  if (head_len < 0)
    return false;
  bool written = false;
  size_t body_len = is_head(conn) ? 0 : len;
  char *grown = realloc(all, (size_t) head_len + body_len + 1);
  if (grown != NULL) {
    all = grown;
    if (body_len > 0)
      memcpy(all + head_len, body, body_len);
    written = fault_conn_write(conn, all, (size_t) head_len + body_len);
  }
  free(all);
  return written;
}

static bool hello(struct fault_conn *conn, const char *status, const char *headers)
{
  return reply(conn, status, headers, HELLO, strlen(HELLO));
}

/* Pattern bytes [from, from + len). */
static bool put_pattern(struct fault_conn *conn, int64_t from, int64_t len)
{
  char block[16 * 1024];
  while (len > 0) {
    size_t now = len < (int64_t) sizeof block ? (size_t) len : sizeof block;
    for (size_t i = 0; i < now; i++)
      block[i] = fault_pattern(from + (int64_t) i);
    if (!fault_conn_write(conn, block, now))
      return false;
    from += (int64_t) now;
    len -= (int64_t) now;
  }
  return true;
}

static void fill_garbage(char *out, size_t len)
{
  uint32_t x = 0x9e3779b9;
  for (size_t i = 0; i < len; i++) {
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    out[i] = (char) (x & 0xff);
  }
  out[0] = '\x01'; /* no start of "HTTP/" nor of a TLS record */
}

/* Answers */

static enum fault_end serve_ok(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  return keep(hello(conn, "200 OK", ""));
}

static enum fault_end serve_bytes(struct fault_conn *conn, const struct path_args *args)
{
  const char *closing = conn->request.close ? "Connection: close\r\n" : "";
  return keep(put(conn, "HTTP/1.1 200 OK\r\n%sContent-Length: %lld\r\n\r\n", closing, (long long) args->n) &&
              (is_head(conn) || put_pattern(conn, 0, args->n)));
}

static enum fault_end serve_chunked(struct fault_conn *conn, const struct path_args *args)
{
  enum { CHUNK_BYTES = 1000 };
  if (!put(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
    return FAULT_CUT;
  if (is_head(conn))
    return FAULT_KEEP;
  for (int64_t at = 0; at < args->n; at += CHUNK_BYTES) {
    int64_t len = args->n - at < CHUNK_BYTES ? args->n - at : CHUNK_BYTES;
    if (!put(conn, "%llx\r\n", (long long) len) || !put_pattern(conn, at, len) || !put(conn, "\r\n"))
      return FAULT_CUT;
  }
  return keep(put(conn, "0\r\n\r\n"));
}

static enum fault_end serve_trailers(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  return keep(put(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n\r\n"
                        "5\r\n" HELLO "\r\n0\r\nX-Trailer: end\r\n\r\n"));
}

static enum fault_end serve_delay(struct fault_conn *conn, const struct path_args *args)
{
  return keep(fault_conn_pause(conn, args->n) && hello(conn, "200 OK", ""));
}

static enum fault_end serve_hold(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  fault_kick_arm(conn, FAULT_KICK_HOLD);
  bool written = fault_kick_await(conn) && hello(conn, "200 OK", "");
  fault_kick_done(conn);
  return keep(written);
}

static enum fault_end serve_hold_body(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  fault_kick_arm(conn, FAULT_KICK_HOLD);
  bool written =
      put(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel") && fault_kick_await(conn) && put(conn, "lo");
  fault_kick_done(conn);
  return keep(written);
}

static enum fault_end serve_status(struct fault_conn *conn, const struct path_args *args)
{
  char status[48];
  snprintf(status, sizeof status, "%lld Scripted", (long long) args->n);
  if (args->n == 204 || args->n == 304 || args->n < 200)
    return keep(put(conn, "HTTP/1.1 %s\r\n\r\n", status));
  return keep(hello(conn, status, ""));
}

static enum fault_end serve_echo(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  return keep(reply(conn, "200 OK", "", conn->request.body, conn->request.body_len));
}

static enum fault_end serve_echo_head(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  return keep(reply(conn, "200 OK", "Content-Type: text/plain\r\n", conn->request.head, strlen(conn->request.head)));
}

static enum fault_end serve_early_413(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  conn->request.close = true;
  return hello(conn, "413 Content Too Large", "") ? FAULT_LINGER : FAULT_CUT;
}

static enum fault_end redirect(struct fault_conn *conn, int64_t status, const char *to)
{
  char line[48], location[1100];
  snprintf(line, sizeof line, "%lld Elsewhere", (long long) status);
  snprintf(location, sizeof location, "Location: %s\r\n", to);
  return keep(reply(conn, line, location, "", 0));
}

static enum fault_end serve_redirect(struct fault_conn *conn, const struct path_args *args)
{
  char to[48] = "/ok";
  if (args->n < 300 && args->n > 0)
    snprintf(to, sizeof to, "/redirect/%lld", (long long) args->n - 1);
  return redirect(conn, args->n < 300 ? 302 : args->n, to);
}

static enum fault_end serve_redirect_to(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  return redirect(conn, 302, conn->request.query);
}

static enum fault_end serve_close(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  conn->request.close = true;
  return hello(conn, "200 OK", "") ? FAULT_CLOSE : FAULT_CUT;
}

static enum fault_end serve_http10(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  return put(conn, "HTTP/1.0 200 OK\r\n\r\n%s", is_head(conn) ? "" : HELLO) ? FAULT_CLOSE : FAULT_CUT;
}

static enum fault_end serve_keepalive_hint(struct fault_conn *conn, const struct path_args *args)
{
  char header[64];
  snprintf(header, sizeof header, "Connection: keep-alive\r\nKeep-Alive: timeout=%lld\r\n", (long long) args->n);
  return keep(hello(conn, "200 OK", header));
}

/* Slow */

static bool drip(struct fault_conn *conn, const char *text, size_t len, int64_t each_ms)
{
  for (size_t i = 0; i < len; i++)
    if (!fault_conn_pause(conn, each_ms) || !fault_conn_write(conn, text + i, 1))
      return false;
  return true;
}

static enum fault_end serve_drip(struct fault_conn *conn, const struct path_args *args)
{
  if (!put(conn, "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n\r\n", (long long) args->m))
    return FAULT_CUT;
  for (int64_t i = 0; i < args->m; i++) {
    char byte = fault_pattern(i);
    if (!drip(conn, &byte, 1, args->n))
      return FAULT_CUT;
  }
  return FAULT_KEEP;
}

static enum fault_end serve_drip_header(struct fault_conn *conn, const struct path_args *args)
{
  static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
  return keep(drip(conn, text, strlen(text), args->n) && put(conn, HELLO));
}

static enum fault_end serve_blackhole(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  (void) fault_conn_wait(conn, POLLRDHUP, -1);
  return FAULT_CUT;
}

/* Malformed or hostile */

static enum fault_end serve_garbage(struct fault_conn *conn, const struct path_args *args)
{
  char bytes[512];
  (void) args;
  fill_garbage(bytes, sizeof bytes);
  (void) fault_conn_write(conn, bytes, sizeof bytes);
  return FAULT_CUT;
}

static enum fault_end serve_endless_headers(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  bool written = put(conn, "HTTP/1.1 200 OK\r\n");
  for (uint64_t i = 0; written; i++)
    written = put(conn, "X-Endless-%llu: 0123456789012345678901234567890123456789\r\n", (unsigned long long) i);
  return FAULT_CUT;
}

static enum fault_end serve_endless_body(struct fault_conn *conn, const struct path_args *args)
{
  (void) args;
  bool written = put(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
  for (int64_t at = 0; written; at += 26000)
    written = put_pattern(conn, at, 26000);
  return FAULT_CUT;
}

static enum fault_end serve_huge_header(struct fault_conn *conn, const struct path_args *args)
{
  return keep(put(conn, "HTTP/1.1 200 OK\r\nX-Huge: ") && put_pattern(conn, 0, args->n) &&
              put(conn, "\r\nContent-Length: 5\r\n\r\n" HELLO));
}

/* After a correct answer */

bool fault_write_poison(struct fault_conn *conn)
{
  return fault_conn_write(conn, POISON, strlen(POISON));
}

static enum fault_end serve_extra_record(struct fault_conn *conn, const struct path_args *args)
{
  static const char text[] = HELLO_ANSWER POISON;
  static const unsigned char unfinished[32] = {23, 3, 3, 64, 0}; /* application data, 16 KiB of it */
  int64_t first = args->n < (int64_t) strlen(text) ? args->n : (int64_t) strlen(text);
  size_t raw = args->m < (int64_t) sizeof unfinished ? (size_t) args->m : sizeof unfinished;
  if (!fault_conn_write(conn, text, (size_t) first) || !fault_conn_write(conn, text + first, strlen(text + first)))
    return FAULT_CUT;
  if (raw > 0)
    (void) send(conn->fd, unfinished, raw, MSG_NOSIGNAL);
  return FAULT_KEEP;
}

static enum fault_end serve_poison(struct fault_conn *conn, const struct path_args *args)
{
  if (!args->n_given)
    fault_kick_arm(conn, FAULT_KICK_POISON);
  if (!hello(conn, "200 OK", ""))
    return FAULT_CUT;
  if (args->n_given) {
    conn->idle_end = FAULT_KEEP;
    conn->idle_end_ms = now_ms() + args->n;
  }
  return FAULT_KEEP;
}

static enum fault_end serve_then_idle(struct fault_conn *conn, const struct path_args *args)
{
  if (!hello(conn, "200 OK", ""))
    return FAULT_CUT;
  conn->idle_end = args->end;
  conn->idle_end_ms = now_ms() + args->n;
  return FAULT_KEEP;
}

static enum fault_end serve_then_next(struct fault_conn *conn, const struct path_args *args)
{
  conn->next_request = args->end;
  conn->next_unread = args->n != 0;
  return keep(hello(conn, "200 OK", ""));
}

static const struct path {
  const char *name;
  enum fault_end (*serve)(struct fault_conn *conn, const struct path_args *args); /* NULL: `text` is the answer */
  int64_t n, m;                                                                   /* defaults */
  const char *text;
  enum fault_end end; /* behind `text`; for serve, the end it arranges */
} paths[] = {
    {"/ok", .serve = serve_ok},
    {"/bytes", .serve = serve_bytes, .n = 5},
    {"/chunked", .serve = serve_chunked, .n = 5},
    {"/trailers", .serve = serve_trailers},
    {"/delay", .serve = serve_delay, .n = 100},
    {"/hold", .serve = serve_hold},
    {"/hold-body", .serve = serve_hold_body},
    {"/status", .serve = serve_status, .n = 200},
    {"/204", .text = "HTTP/1.1 204 No Content\r\n\r\n"},
    {"/304", .text = "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n"},
    {"/head-with-length", .serve = serve_bytes, .n = 12345},
    {"/echo", .serve = serve_echo},
    {"/echo-head", .serve = serve_echo_head},
    {"/continue", .text = "HTTP/1.1 100 Continue\r\n\r\n" HELLO_ANSWER},
    {"/interim", .text = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" HELLO_ANSWER},
    {"/early-413", .serve = serve_early_413},
    {"/redirect", .serve = serve_redirect, .n = 302},
    {"/redirect-to", .serve = serve_redirect_to},
    {"/redirect-loop", .text = "HTTP/1.1 302 Elsewhere\r\nLocation: /redirect-loop\r\nContent-Length: 0\r\n\r\n"},
    {"/no-reason", .text = "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n" HELLO},
    {"/folded-header", .text = OK_HEAD "X-Folded: one\r\n two\r\nContent-Length: 5\r\n\r\n" HELLO},
    {"/close", .serve = serve_close},
    {"/http10", .serve = serve_http10},
    {"/keepalive-hint", .serve = serve_keepalive_hint, .n = 1},
    {"/drip", .serve = serve_drip, .n = 10, .m = 10},
    {"/drip-header", .serve = serve_drip_header, .n = 10},
    {"/blackhole", .serve = serve_blackhole},
    {"/reset-before-answer", .text = "", .end = FAULT_RESET},
    {"/fin-before-answer", .text = "", .end = FAULT_CUT},
    {"/reset-midbody", .text = OK_HEAD "Content-Length: 10\r\n\r\n" HELLO, .end = FAULT_RESET},
    {"/fin-midbody", .text = OK_HEAD "Content-Length: 10\r\n\r\n" HELLO, .end = FAULT_CUT},
    {"/fin-midheader", .text = OK_HEAD "Content-Le", .end = FAULT_CUT},
    {"/lying-length", .text = OK_HEAD "Content-Length: 1000000000000000\r\n\r\n" HELLO HELLO, .end = FAULT_CUT},
    {"/garbage", .serve = serve_garbage},
    {"/endless-headers", .serve = serve_endless_headers},
    {"/endless-body", .serve = serve_endless_body},
    {"/huge-header", .serve = serve_huge_header, .n = 1024 * 1024},
    {"/bad-chunk", .text = OK_HEAD "Transfer-Encoding: chunked\r\n\r\nzz\r\n" HELLO "\r\n0\r\n\r\n"},
    {"/extra-bytes", .text = HELLO_ANSWER POISON},
    {"/extra-record", .serve = serve_extra_record, .n = sizeof OK_HEAD "Content-Length: 5\r\n\r\n" - 1},
    {"/poison", .serve = serve_poison},
    {"/close-idle", .serve = serve_then_idle, .end = FAULT_CLOSE},
    {"/reset-idle", .serve = serve_then_idle, .end = FAULT_RESET},
    {"/reset-on-reuse", .serve = serve_then_next, .end = FAULT_RESET},
    {"/fin-on-reuse", .serve = serve_then_next, .end = FAULT_CUT},
    {"/reset-on-reuse-unread", .serve = serve_then_next, .n = 1, .end = FAULT_RESET},
};

static const struct path *find_path(const char *path, const char **rest)
{
  static const struct path unknown = {"", .text = "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n" HELLO};
  size_t name_len = path[0] == '\0' ? 0 : 1 + strcspn(path + 1, "/?");
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
    if (strlen(paths[i].name) == name_len && strncmp(paths[i].name, path, name_len) == 0) {
      *rest = path + name_len;
      return &paths[i];
    }
  *rest = "";
  return &unknown;
}

/* Where the body of the last answer in `text` begins. */
static const char *last_body(const char *text)
{
  const char *body = text + strlen(text);
  for (const char *at = text; (at = strstr(at, "\r\n\r\n")) != NULL; body = at)
    at += 4;
  return body;
}

bool fault_path_wants_body(const char *path)
{
  const char *rest;
  return find_path(path, &rest)->serve != serve_early_413;
}

/* The text is the caller's; NULL: none is set for the path. */
static char *scripted(struct fault_server *server, const char *path, size_t *len, bool *held)
{
  char *text = NULL;
  pthread_mutex_lock(&server->mutex);
  for (const struct fault_script *script = server->scripts; script != NULL; script = script->next)
    if (strcmp(script->path, path) == 0) {
      text = malloc(script->len + 1);
      if (text == NULL)
        support_die("out of memory");
      memcpy(text, script->text, script->len + 1);
      *len = script->len;
      *held = script->held;
    }
  pthread_mutex_unlock(&server->mutex);
  return text;
}

static enum fault_end serve_scripted(struct fault_conn *conn, const char *text, size_t len, bool held)
{
  const char *end = is_head(conn) ? strstr(text, "\r\n\r\n") : NULL;
  if (end != NULL)
    len = (size_t) (end - text) + 4;
  if (held)
    fault_kick_arm(conn, FAULT_KICK_HOLD);
  bool written = (!held || fault_kick_await(conn)) && fault_conn_write(conn, text, len);
  if (held)
    fault_kick_done(conn);
  return keep(written);
}

enum fault_end fault_path_serve(struct fault_conn *conn, const char *path)
{
  const char *rest;
  bool held = false;
  size_t len = 0;
  char *text = scripted(conn->server, path, &len, &held);
  if (text != NULL) {
    enum fault_end scripted_end = serve_scripted(conn, text, len, held);
    free(text);
    return scripted_end;
  }
  const struct path *found = find_path(path, &rest);
  struct path_args args = {.n = found->n, .m = found->m, .end = found->end};
  char *end;
  if (rest[0] == '/' && rest[1] >= '0' && rest[1] <= '9') {
    args.n = strtoll(rest + 1, &end, 10);
    args.n_given = true;
    if (end[0] == '/' && end[1] >= '0' && end[1] <= '9')
      args.m = strtoll(end + 1, NULL, 10);
  }
  if (found->serve != NULL)
    return found->serve(conn, &args);
  const char *body = is_head(conn) ? last_body(found->text) : found->text + strlen(found->text);
  bool written = fault_conn_write(conn, found->text, (size_t) (body - found->text));
  return written ? found->end : FAULT_CUT;
}
