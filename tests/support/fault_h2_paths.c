/* fault_h2_paths: what the fault server does with an HTTP/2 stream for each path; the table of promises is in fault_h2.h */
#include "support/fault_h2_session.h"

#include "support/wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DATA_BYTES = 16384, BIG_BYTES = 1024 * 1024, FLOOD_FRAMES = 1000 };

/* What may be said in one go, one piece behind the other. */

static void put_head_with(struct h2_session *h2, int32_t id, const char *name, const char *value, int flags)
{
  uint8_t block[256];
  size_t len = h2_field(block, ":status", "200");
  if (name != NULL)
    len += h2_field(block + len, name, value);
  h2_put(h2, H2_HEADERS, flags | H2_END_HEADERS, id, block, len);
}

static void put_head(struct h2_session *h2, int32_t id, int64_t length)
{
  char text[24];
  snprintf(text, sizeof text, "%lld", (long long) length);
  put_head_with(h2, id, "content-length", text, 0);
}

static void put_lone_field(struct h2_session *h2, int32_t id, const char *name, const char *value)
{
  uint8_t block[256];
  h2_put(h2, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, id, block, h2_field(block, name, value));
}

static void put_text(struct h2_session *h2, int32_t id, const char *text, bool last)
{
  h2_put(h2, H2_DATA, last ? H2_END_STREAM : 0, id, text, strlen(text));
}

static void answer_hello(struct h2_session *h2, struct h2_stream *stream)
{
  put_head(h2, stream->id, 5);
  put_text(h2, stream->id, "hello", true);
  h2_forget(h2, stream);
}

static void reset(struct h2_session *h2, struct h2_stream *stream, uint32_t code)
{
  h2_put_u32(h2, H2_RST_STREAM, stream->id, code);
  h2_forget(h2, stream);
}

/* Answers */

static enum fault_end hello(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  answer_hello(h2, stream);
  return FAULT_KEEP;
}

static enum fault_end bytes(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  char block[DATA_BYTES];
  put_head(h2, stream->id, n);
  for (int64_t at = 0; at < n || n == 0;) {
    size_t len = n - at < DATA_BYTES ? (size_t) (n - at) : DATA_BYTES;
    for (size_t i = 0; i < len; i++)
      block[i] = fault_pattern(at + (int64_t) i);
    at += (int64_t) len;
    h2_put(h2, H2_DATA, at == n ? H2_END_STREAM : 0, stream->id, block, len);
    if (n == 0)
      break;
  }
  h2_forget(h2, stream);
  return FAULT_KEEP;
}

static void hold_stream(struct h2_session *h2, struct h2_stream *stream)
{
  stream->held = true;
  atomic_fetch_add(&h2->conn->server->held, 1);
}

static enum fault_end hold(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  hold_stream(h2, stream);
  return FAULT_KEEP;
}

static enum fault_end hold_body(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  put_head(h2, stream->id, 5);
  put_text(h2, stream->id, "hel", false);
  stream->body_begun = true;
  hold_stream(h2, stream);
  return FAULT_KEEP;
}

void h2_path_release(struct h2_session *h2, struct h2_stream *stream)
{
  if (stream->resets) {
    reset(h2, stream, stream->code);
    return;
  }
  if (!stream->body_begun) {
    answer_hello(h2, stream);
    return;
  }
  put_text(h2, stream->id, "lo", true);
  h2_forget(h2, stream);
}

static enum fault_end blackhole(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) h2;
  (void) stream;
  (void) n;
  return FAULT_KEEP;
}

static enum fault_end interim(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  uint8_t block[32];
  (void) n;
  h2_put(h2, H2_HEADERS, H2_END_HEADERS, stream->id, block, h2_field(block, ":status", "103"));
  answer_hello(h2, stream);
  return FAULT_KEEP;
}

static enum fault_end unknown(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  h2_put(h2, (enum h2_type) 0xfa, 0xff, stream->id, "whatever", 8);
  h2_put_setting(h2, (enum h2_setting) 0xfa, 1);
  answer_hello(h2, stream);
  return FAULT_KEEP;
}

/* One stream ends */

static enum fault_end refuse(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  if (atomic_fetch_add(&h2->conn->server->h2_refusals_by_path, 1) < n)
    reset(h2, stream, FAULT_H2_REFUSED_STREAM);
  else
    answer_hello(h2, stream);
  return FAULT_KEEP;
}

static enum fault_end rst(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  reset(h2, stream, (uint32_t) n);
  return FAULT_KEEP;
}

static enum fault_end rst_head(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  put_head(h2, stream->id, 10);
  stream->resets = true;
  stream->code = (uint32_t) n;
  hold_stream(h2, stream);
  return FAULT_KEEP;
}

static enum fault_end rst_body(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  rst_head(h2, stream, n);
  put_text(h2, stream->id, "hello", false);
  return FAULT_KEEP;
}

static enum fault_end no_status(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  put_lone_field(h2, stream->id, "x-some", "header");
  h2_forget(h2, stream);
  return FAULT_KEEP;
}

static enum fault_end bad_status(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  put_lone_field(h2, stream->id, ":status", "abc");
  h2_forget(h2, stream);
  return FAULT_KEEP;
}

static enum fault_end bad_header(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  put_head_with(h2, stream->id, "X-Some", "header", H2_END_STREAM);
  h2_forget(h2, stream);
  return FAULT_KEEP;
}

static enum fault_end short_body(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  put_head(h2, stream->id, 10);
  put_text(h2, stream->id, "hello", true);
  h2_forget(h2, stream);
  return FAULT_KEEP;
}

static enum fault_end long_body(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  put_head(h2, stream->id, 5);
  put_text(h2, stream->id, "hellohello", true);
  h2_forget(h2, stream);
  return FAULT_KEEP;
}

static enum fault_end data_first(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  put_text(h2, stream->id, "hello", true);
  h2_forget(h2, stream);
  return FAULT_KEEP;
}

/* The connection ends, or should */

static enum fault_end goaway(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  int32_t id = stream->id;
  answer_hello(h2, stream);
  h2_put_goaway(h2, id, (uint32_t) n);
  return FAULT_KEEP;
}

static enum fault_end goaway_without(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  h2_forget(h2, stream);
  h2_put_goaway(h2, 0, (uint32_t) n);
  return FAULT_KEEP;
}

static enum fault_end end_by_reset(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) h2;
  (void) stream;
  (void) n;
  return FAULT_RESET;
}

static enum fault_end end_by_fin(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) h2;
  (void) stream;
  (void) n;
  return FAULT_CUT;
}

static enum fault_end garbage(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  char block[512];
  (void) stream;
  (void) n;
  for (size_t i = 0; i < sizeof block; i++)
    block[i] = (char) (i * 131 + 7);
  return h2_flush(h2) && fault_conn_write(h2->conn, block, sizeof block) ? FAULT_KEEP : FAULT_CUT;
}

static enum fault_end big_frame(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  char *block = calloc(1, BIG_BYTES);
  (void) n;
  if (block == NULL)
    support_die("out of memory");
  put_head(h2, stream->id, BIG_BYTES);
  h2_put(h2, H2_DATA, 0, stream->id, block, BIG_BYTES);
  free(block);
  return FAULT_KEEP;
}

static enum fault_end window_overflow(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) stream;
  (void) n;
  h2_put_u32(h2, H2_WINDOW_UPDATE, 0, INT32_MAX);
  return FAULT_KEEP;
}

static enum fault_end idle_stream(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  h2_put_u32(h2, H2_RST_STREAM, stream->id + 1000, FAULT_H2_CANCEL);
  return FAULT_KEEP;
}

static enum fault_end push(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  uint8_t payload[64] = {0, 0, 0, 2};
  (void) n;
  size_t len = 4 + h2_field(payload + 4, ":method", "GET");
  h2_put(h2, H2_PUSH_PROMISE, H2_END_HEADERS, stream->id, payload, len);
  return FAULT_KEEP;
}

static enum fault_end bad_hpack(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  h2_put(h2, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, stream->id, "\xc8", 1); /* entry 72; the fixed ones are 61 */
  return FAULT_KEEP;
}

/* Floods */

/* The same frame, until the connection ends. */
static enum fault_end flood(struct h2_session *h2, enum h2_type type, int32_t id, const void *payload, size_t len)
{
  fault_h2_end(h2->conn); /* it takes no orders any more */
  do
    for (int i = 0; i < FLOOD_FRAMES; i++)
      h2_put(h2, type, 0, id, payload, len);
  while (h2_flush(h2) && h2_read_some(h2));
  return FAULT_CUT;
}

static enum fault_end settings_flood(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) stream;
  (void) n;
  return flood(h2, H2_SETTINGS, 0, NULL, 0);
}

static enum fault_end ping_flood(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) stream;
  (void) n;
  return flood(h2, H2_PING, 0, "12345678", 8);
}

static enum fault_end empty_data(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  put_head(h2, stream->id, 10);
  return flood(h2, H2_DATA, stream->id, NULL, 0);
}

static enum fault_end reset_flood(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  (void) n;
  return flood(h2, H2_RST_STREAM, stream->id, "\0\0\0\x08", 4);
}

static enum fault_end endless_body(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  static const char block[DATA_BYTES];
  (void) n;
  put_head_with(h2, stream->id, NULL, NULL, 0);
  return flood(h2, H2_DATA, stream->id, block, sizeof block);
}

static enum fault_end continuation_flood(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  uint8_t block[64];
  (void) n;
  h2_put(h2, H2_HEADERS, 0, stream->id, block, h2_field(block, ":status", "200"));
  return flood(h2, H2_CONTINUATION, stream->id, block, h2_field(block, "x-some", "header"));
}

static enum fault_end huge_header(struct h2_session *h2, struct h2_stream *stream, int64_t n)
{
  char *value = malloc((size_t) n + 1);
  uint8_t *block = malloc((size_t) n + 64);
  if (value == NULL || block == NULL)
    support_die("out of memory");
  memset(value, 'x', (size_t) n);
  value[n] = '\0';
  size_t len = h2_field(block, ":status", "200");
  len += h2_field(block + len, "x-huge", value);
  for (size_t at = 0; at < len; at += DATA_BYTES) {
    size_t part = len - at < DATA_BYTES ? len - at : DATA_BYTES;
    h2_put(h2, at == 0 ? H2_HEADERS : H2_CONTINUATION, at + part == len ? H2_END_HEADERS : 0, stream->id, block + at,
           part);
  }
  put_text(h2, stream->id, "hello", true);
  free(value);
  free(block);
  h2_forget(h2, stream);
  return FAULT_KEEP;
}

/* Which */

static const struct path {
  const char *name; /* "/name" or "/name/N" */
  bool at_once;     /* when the head is there, not when all is */
  enum fault_end (*serve)(struct h2_session *h2, struct h2_stream *stream, int64_t n);
  int64_t n;
} PATHS[] = {
    {"/ok", false, hello, 0},
    {"/bytes", false, bytes, 5},
    {"/hold", false, hold, 0},
    {"/hold-body", false, hold_body, 0},
    {"/blackhole", false, blackhole, 0},
    {"/early", true, hello, 0},
    {"/interim", false, interim, 0},
    {"/unknown", false, unknown, 0},
    {"/refuse", true, refuse, INT64_MAX},
    {"/rst", true, rst, FAULT_H2_INTERNAL_ERROR},
    {"/rst-head", true, rst_head, FAULT_H2_INTERNAL_ERROR},
    {"/rst-body", true, rst_body, FAULT_H2_INTERNAL_ERROR},
    {"/no-status", true, no_status, 0},
    {"/bad-status", true, bad_status, 0},
    {"/bad-header", true, bad_header, 0},
    {"/short", true, short_body, 0},
    {"/long", true, long_body, 0},
    {"/data-first", true, data_first, 0},
    {"/goaway", false, goaway, FAULT_H2_NO_ERROR},
    {"/goaway-without", true, goaway_without, FAULT_H2_NO_ERROR},
    {"/reset", false, end_by_reset, 0},
    {"/fin", false, end_by_fin, 0},
    {"/garbage", true, garbage, 0},
    {"/big-frame", true, big_frame, 0},
    {"/window-overflow", true, window_overflow, 0},
    {"/idle-stream", true, idle_stream, 0},
    {"/push", true, push, 0},
    {"/bad-hpack", true, bad_hpack, 0},
    {"/settings-flood", true, settings_flood, 0},
    {"/ping-flood", true, ping_flood, 0},
    {"/empty-data", true, empty_data, 0},
    {"/reset-flood", true, reset_flood, 0},
    {"/continuation-flood", true, continuation_flood, 0},
    {"/endless-body", true, endless_body, 0},
    {"/huge-header", true, huge_header, BIG_BYTES},
};

static enum fault_end serve(struct h2_session *h2, struct h2_stream *stream, bool at_once)
{
  for (size_t i = 0; i < sizeof PATHS / sizeof PATHS[0]; i++) {
    const struct path *path = &PATHS[i];
    size_t len = strlen(path->name);
    if (strncmp(stream->path, path->name, len) != 0 || (stream->path[len] != '\0' && stream->path[len] != '/'))
      continue;
    if (path->at_once != at_once)
      return FAULT_KEEP;
    int64_t n = stream->path[len] == '/' ? strtoll(stream->path + len + 1, NULL, 10) : path->n;
    return path->serve(h2, stream, n);
  }
  if (!at_once) {
    put_lone_field(h2, stream->id, ":status", "404");
    h2_forget(h2, stream);
  }
  return FAULT_KEEP;
}

enum fault_end h2_path_begin(struct h2_session *h2, struct h2_stream *stream)
{
  return serve(h2, stream, true);
}

enum fault_end h2_path_answer(struct h2_session *h2, struct h2_stream *stream)
{
  return serve(h2, stream, false);
}
