/* backlog: what one connection still has to send: frames in order, control frames ahead of messages */
#ifndef CPOOL_WS_BACKLOG_H
#define CPOOL_WS_BACKLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "ws/frame.h"

/* One pointer more than the frame that all receivers share. */
struct cpool__backlog_node {
  struct cpool__backlog_node *next;
  struct cpool__frame *frame;
};

struct cpool__backlog {
  struct cpool__backlog_node *first, *last;                 /* messages */
  struct cpool__backlog_node *control_first, *control_last; /* at the next end of a frame */
  size_t offset;                                            /* of the first message: so much of it is gone */
};

enum { CPOOL__BACKLOG_NODE_BYTES = 32 }; /* what a frame in one more backlog takes */

/* A frame's place in one backlog; takes the reference on success. NULL: out of memory. Counted where the frame is. */
struct cpool__backlog_node *cpool__backlog_node_new(struct cpool__frame *frame);
void cpool__backlog_node_free(struct cpool__backlog_node *node);
/* A zeroed struct is empty. */
void cpool__backlog_add(struct cpool__backlog *backlog, struct cpool__backlog_node *node);
/* The next whole frame and its length; NULL: none. It is not changed until cpool__backlog_sent says that it has gone. */
const unsigned char *cpool__backlog_next(const struct cpool__backlog *backlog, size_t *len);
/* The frame of cpool__backlog_next has gone. The payload's length of a message whose last frame it was; else -1. */
int64_t cpool__backlog_sent(struct cpool__backlog *backlog);
/* Drops the oldest message none of which has gone; its payload's length, or -1: there is none. */
int64_t cpool__backlog_drop_oldest(struct cpool__backlog *backlog);
/* Drops all; how many messages, and in *bytes their payloads. */
int32_t cpool__backlog_clear(struct cpool__backlog *backlog, int64_t *bytes);
static inline bool cpool__backlog_empty(const struct cpool__backlog *backlog)
{
  return backlog->first == NULL && backlog->control_first == NULL;
}

#endif
