/* ws_load: a fleet of WebSocket clients on one thread: raw sockets, epoll, frames written by hand */
#ifndef CPOOL_BENCH_WS_LOAD_H
#define CPOOL_BENCH_WS_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer;

/* Whatever does not come in time, or is not what was asked for, ends the program. */
struct fleet {
  uint16_t port; /* on 127.0.0.1 */
  bool narrow;   /* small receive buffers and segments, so that the kernels on both sides keep little */
  struct peer *peers;
  int count, most;
  int epoll_fd;

  /* the talk */
  unsigned char *frames; /* as many as may be in flight on one connection */
  size_t frames_len, frame_len, message_bytes;
  long to_start; /* messages; each that comes back starts one */
  long done_count;
};

void fleet_init(struct fleet *fleet, uint16_t port, int most);
/* Connects and upgrades `count` more, some at a time. */
void fleet_open(struct fleet *fleet, int count);
/* `count` messages in all go to a server that sends them back, with `in_flight` of them on each connection. */
void fleet_echo(struct fleet *fleet, int in_flight, size_t message_bytes, long count);
/* The first one sends a message, all get it; `count` times. Opcode 1: text, 2: binary. */
void fleet_publish(struct fleet *fleet, int opcode, size_t message_bytes, int count);
void fleet_close(struct fleet *fleet); /* with RSTs, so that no port stays taken */

/* The process and those that it starts. */
void raise_fd_limit(void);

#endif
