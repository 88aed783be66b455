/* fault_h2_session: one HTTP/2 connection of the fault server, as its frames and its behaviours share it */
#ifndef CPOOL_SUPPORT_FAULT_H2_SESSION_H
#define CPOOL_SUPPORT_FAULT_H2_SESSION_H

#include "support/fault_conn.h"
#include "support/fault_h2.h"

#include <nghttp2/nghttp2.h>

enum h2_type {
  H2_DATA,
  H2_HEADERS,
  H2_PRIORITY,
  H2_RST_STREAM,
  H2_SETTINGS,
  H2_PUSH_PROMISE,
  H2_PING,
  H2_GOAWAY,
  H2_WINDOW_UPDATE,
  H2_CONTINUATION
};

enum h2_flag { H2_END_STREAM = 1, H2_ACK = 1, H2_END_HEADERS = 4, H2_PADDED = 8, H2_WITH_PRIORITY = 32 };

enum h2_setting { H2_MAX_STREAMS = 3, H2_INITIAL_WINDOW = 4 };

struct h2_stream {
  struct h2_stream *next; /* in order of opening */
  int32_t id;
  char path[256];
  bool whole; /* the request has come to its end */
  bool held, body_begun;
  bool resets; /* with the code, once it is let go */
  uint32_t code;
};

struct h2_session {
  struct fault_conn *conn;
  nghttp2_hd_inflater *inflater;
  struct h2_stream *streams; /* not ended yet */
  int32_t stream_count, max_streams, last_stream /* of a GOAWAY */;
  char *out; /* frames on their way: one write takes them all */
  size_t out_len, out_cap;
};

/* fault_h2.c: frames. What is put goes out with the flush, which is false when the connection or the server has ended. */
void h2_put(struct h2_session *h2, enum h2_type type, int flags, int32_t stream, const void *payload, size_t len);
void h2_put_u32(struct h2_session *h2, enum h2_type type, int32_t stream, uint32_t value);
void h2_put_setting(struct h2_session *h2, enum h2_setting setting, uint32_t value);
void h2_put_goaway(struct h2_session *h2, int32_t last_stream, uint32_t code);
bool h2_flush(struct h2_session *h2);
/* What the peer has sent is read; it waits for nothing. */
bool h2_read_some(struct h2_session *h2);
/* Ends the stream here; its memory is gone. */
void h2_forget(struct h2_session *h2, struct h2_stream *stream);

/* One field of a header block, as a literal that enters no table. Returns its length. */
size_t h2_field(uint8_t *to, const char *name, const char *value);

/* fault_h2_paths.c: the head of a request is there, or all of it. */
enum fault_end h2_path_begin(struct h2_session *h2, struct h2_stream *stream);
enum fault_end h2_path_answer(struct h2_session *h2, struct h2_stream *stream);
void h2_path_release(struct h2_session *h2, struct h2_stream *stream);

#endif
