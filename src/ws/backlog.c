/* backlog: what one connection still has to send */
#include "ws/backlog.h"

#include "base/memory.h"

static bool is_control(const struct cpool__frame *frame)
{
  return (frame->opcode & 8) != 0;
}

static void count(const struct cpool__frame *frame, int64_t bytes)
{
  if (frame->counter != NULL)
    atomic_fetch_add_explicit(frame->counter, bytes, memory_order_relaxed);
}

struct cpool__backlog_node *cpool__backlog_node_new(struct cpool__frame *frame)
{
  struct cpool__backlog_node *node = cpool__malloc(sizeof *node);
  if (node == NULL)
    return NULL;
  *node = (struct cpool__backlog_node){.frame = frame};
  count(frame, CPOOL__BACKLOG_NODE_BYTES);
  return node;
}

void cpool__backlog_node_free(struct cpool__backlog_node *node)
{
  count(node->frame, -CPOOL__BACKLOG_NODE_BYTES);
  cpool__frame_drop(node->frame);
  cpool__free(node);
}

void cpool__backlog_add(struct cpool__backlog *backlog, struct cpool__backlog_node *node)
{
  bool control = is_control(node->frame);
  struct cpool__backlog_node **first = control ? &backlog->control_first : &backlog->first;
  struct cpool__backlog_node **last = control ? &backlog->control_last : &backlog->last;
  if (*first == NULL)
    *first = node;
  else
    (*last)->next = node;
  *last = node;
}

const unsigned char *cpool__backlog_next(const struct cpool__backlog *backlog, size_t *len)
{
  const struct cpool__backlog_node *node = backlog->control_first;
  size_t offset = 0;
  if (node == NULL) {
    node = backlog->first;
    offset = backlog->offset;
  }
  if (node == NULL)
    return NULL;
  *len = cpool__frame_piece(node->frame, offset);
  return node->frame->bytes + offset;
}

/* Takes the first message, or the one behind it, out. */
static int64_t take_out(struct cpool__backlog *backlog, struct cpool__backlog_node *before)
{
  struct cpool__backlog_node *node = before == NULL ? backlog->first : before->next;
  int64_t len = (int64_t) node->frame->payload_len;
  if (before == NULL)
    backlog->first = node->next;
  else
    before->next = node->next;
  if (backlog->last == node)
    backlog->last = before;
  cpool__backlog_node_free(node);
  return len;
}

int64_t cpool__backlog_sent(struct cpool__backlog *backlog)
{
  struct cpool__backlog_node *control = backlog->control_first;
  if (control != NULL) {
    backlog->control_first = control->next;
    cpool__backlog_node_free(control);
    return -1;
  }
  const struct cpool__frame *frame = backlog->first->frame;
  backlog->offset += cpool__frame_piece(frame, backlog->offset);
  if (backlog->offset < frame->len)
    return -1;
  backlog->offset = 0;
  return take_out(backlog, NULL);
}

int64_t cpool__backlog_drop_oldest(struct cpool__backlog *backlog)
{
  struct cpool__backlog_node *begun = backlog->offset > 0 ? backlog->first : NULL;
  if (begun != NULL ? begun->next == NULL : backlog->first == NULL)
    return -1;
  return take_out(backlog, begun);
}

int32_t cpool__backlog_clear(struct cpool__backlog *backlog, int64_t *bytes)
{
  int32_t count = 0;
  *bytes = 0;
  struct cpool__backlog_node *lists[] = {backlog->control_first, backlog->first};
  for (int i = 0; i < 2; i++)
    for (struct cpool__backlog_node *node = lists[i], *next; node != NULL; node = next) {
      next = node->next;
      if (i == 1) {
        count++;
        *bytes += (int64_t) node->frame->payload_len;
      }
      cpool__backlog_node_free(node);
    }
  *backlog = (struct cpool__backlog){0};
  return count;
}
