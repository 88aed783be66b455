/* fault_h2: what the fault server does when it speaks HTTP/2 (RFC 9113), frame by frame, with no library to keep it honest
 *
 * Chosen by `http2` of struct fault_options, over TLS only. The path says what happens to a stream; faults come as soon as the head of
 * the request is there, answers when all of it is. N, CODE are decimal; a missing one has the default in brackets. The
 * server obeys no window of its peer, opens its own ones unless told otherwise, and sends all that belongs together in one
 * record.
 *
 * Answers
 *   /ok                   200 "hello"
 *   /bytes/N              N fault_pattern() bytes, with their length [5]
 *   /hold                 "hello" once fault_h2_release lets it go
 *   /hold-body            head and "hel" at once, "lo" once fault_h2_release lets it go
 *   /blackhole            never
 *   /early                "hello" before the body is read
 *   /interim  /unknown    103 first; a frame of a type that nobody knows, and an unknown setting, first: both legal
 * One stream ends
 *   /refuse/N             RST_STREAM REFUSED_STREAM for the first N such streams [all]; "hello" for later ones
 *   /rst/CODE             RST_STREAM instead of an answer [2, INTERNAL_ERROR]
 *   /rst-head/CODE        the same after the head of the answer, once fault_h2_release lets it go
 *   /rst-body/CODE        the same after half of the promised 10 bytes
 *   /no-status            a head without :status;  /bad-status: ":status: abc";  /bad-header: a name in upper case
 *   /short /long          an end after 5 bytes of a promised 10; 10 bytes of promised 5
 *   /data-first           a body without a head
 * The connection ends, or should
 *   /goaway/CODE          GOAWAY behind the answer [0, NO_ERROR]; the stream is the last one
 *   /goaway-without/CODE  GOAWAY with no stream processed, no answer
 *   /reset  /fin          RST, FIN of the socket
 *   /garbage              512 bytes that are no frames
 *   /big-frame            DATA of 1 MiB in one frame
 *   /window-overflow      WINDOW_UPDATE beyond 2^31-1
 *   /idle-stream          RST_STREAM of a stream that was never opened
 *   /push                 PUSH_PROMISE
 *   /bad-hpack            a head that points into an empty table
 * Floods, until the peer ends the connection
 *   /settings-flood  /ping-flood  /empty-data  /reset-flood    frames of a few bytes; what the peer answers is read
 *   /continuation-flood   a head that never ends;  /endless-body: DATA
 *   /huge-header/N        one field of N bytes [1 MiB], in as many frames as that takes; then "hello"
 */
#ifndef CPOOL_SUPPORT_FAULT_H2_H
#define CPOOL_SUPPORT_FAULT_H2_H

#include "support/fault_server.h"

enum fault_h2_code {
  FAULT_H2_NO_ERROR = 0,
  FAULT_H2_PROTOCOL_ERROR = 1,
  FAULT_H2_INTERNAL_ERROR = 2,
  FAULT_H2_REFUSED_STREAM = 7,
  FAULT_H2_CANCEL = 8,
  FAULT_H2_ENHANCE_YOUR_CALM = 11
};

/* On all connections open now; they return how many, after the bytes were handed to the kernel. */

/* Held streams go on, oldest first. */
int32_t fault_h2_release(struct fault_server *server);
/* Streams above `last_stream` are ignored from then on. The connection stays open: its end is the peer's to choose. */
int32_t fault_h2_goaway(struct fault_server *server, int32_t last_stream, uint32_t code);
/* A new SETTINGS_MAX_CONCURRENT_STREAMS; see h2_max_streams of struct fault_options. */
int32_t fault_h2_max_streams(struct fault_server *server, uint32_t limit);
int32_t fault_h2_ping(struct fault_server *server);

struct fault_h2_counts {
  int64_t streams, refused_streams;   /* opened by clients; thereof above the limit */
  int64_t pings_acknowledged, resets; /* what clients sent */
};
void fault_h2_counts(struct fault_server *server, struct fault_h2_counts *out);

#endif
