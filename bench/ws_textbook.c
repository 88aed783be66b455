/* ws_textbook: the same server as libwebsockets' examples write it: the baseline
 *
 *   bench_ws_textbook echo|publish RECEIVE_BUFFER_BYTES (0: 1024, as in the examples)
 *
 * A message is put into its receivers' lists, lws_callback_on_writable is asked for, and each WRITEABLE writes one. Messages
 * are whole before they are sent on, which the examples leave to the reader. Lean where they leave the choice: one copy of a
 * message for all receivers, memory for all of it as soon as its length is known, up to 64 KB in one write to the kernel
 * (the examples': the receive buffer), no compression, no log. Prints its port, and runs until it is killed. */
#include "measure.h"

#include <libwebsockets.h>
#include <uv.h>

enum { EXAMPLES_RECEIVE_BYTES = 1024, WRITE_AT_ONCE = 65536 };

struct message {
  int refs;
  enum lws_write_protocol kind;
  size_t len, capacity;
  unsigned char bytes[]; /* LWS_PRE for the header, then the payload */
};

struct waiting {
  struct waiting *next;
  struct message *message;
};

struct session {
  struct session *next; /* of all */
  struct lws *wsi;
  struct waiting *first, **last;
  struct message *incoming;
};

static struct session *sessions;
static bool publishes;

static void *need(void *block)
{
  if (block == NULL)
    give_up("ws_textbook: out of memory");
  return block;
}

static void drop(struct message *message)
{
  if (message != NULL && --message->refs == 0)
    free(message);
}

static void add(struct session *session, struct message *message)
{
  struct waiting *waiting = need(malloc(sizeof *waiting));
  *waiting = (struct waiting){.message = message};
  message->refs++;
  *session->last = waiting;
  session->last = &waiting->next;
  lws_callback_on_writable(session->wsi);
}

static void take_out(struct session *session)
{
  struct waiting *waiting = session->first;
  session->first = waiting->next;
  if (session->first == NULL)
    session->last = &session->first;
  drop(waiting->message);
  free(waiting);
}

static void receive(struct session *session, const void *data, size_t len)
{
  struct message *message = session->incoming;
  size_t rest = lws_remaining_packet_payload(session->wsi), have = message != NULL ? message->len : 0;
  if (message == NULL || have + len > message->capacity) {
    message = need(realloc(message, sizeof *message + LWS_PRE + have + len + rest));
    if (session->incoming == NULL)
      *message = (struct message){.refs = 1};
    message->capacity = have + len + rest;
    session->incoming = message;
  }
  if (lws_is_first_fragment(session->wsi))
    message->kind = lws_frame_is_binary(session->wsi) ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
  memcpy(message->bytes + LWS_PRE + have, data, len);
  message->len += len;
  if (!lws_is_final_fragment(session->wsi))
    return;
  session->incoming = NULL;
  if (!publishes)
    add(session, message);
  for (struct session *to = publishes ? sessions : NULL; to != NULL; to = to->next)
    add(to, message);
  drop(message);
}

static int write_one(struct session *session)
{
  if (session->first == NULL)
    return 0;
  struct message *message = session->first->message;
  if (lws_write(session->wsi, message->bytes + LWS_PRE, message->len, message->kind) < (int) message->len)
    return -1;
  take_out(session);
  if (session->first != NULL)
    lws_callback_on_writable(session->wsi);
  return 0;
}

static void begin(struct session *session, struct lws *wsi)
{
  *session = (struct session){.next = sessions, .wsi = wsi, .last = &session->first};
  sessions = session;
}

static void end(struct session *session)
{
  struct session **at = &sessions;
  while (*at != session)
    at = &(*at)->next;
  *at = session->next;
  while (session->first != NULL)
    take_out(session);
  drop(session->incoming);
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
  struct session *session = user;
  switch (reason) {
  case LWS_CALLBACK_ESTABLISHED:
    begin(session, wsi);
    return 0;
  case LWS_CALLBACK_RECEIVE:
    receive(session, in, len);
    return 0;
  case LWS_CALLBACK_SERVER_WRITEABLE:
    return write_one(session);
  case LWS_CALLBACK_CLOSED:
    end(session);
    return 0;
  default:
    return 0;
  }
}

int main(int argc, char **argv)
{
  uv_loop_t loop;
  if (argc != 3)
    give_up("usage: echo|publish RECEIVE_BUFFER_BYTES");
  publishes = strcmp(argv[1], "publish") == 0;
  int receive_bytes = atoi(argv[2]);
  uv_loop_init(&loop);
  lws_set_log_level(0, NULL);

  void *loops[] = {&loop};
  const struct lws_protocols protocols[] = {{.name = "bench",
                                             .callback = on_lws,
                                             .per_session_data_size = sizeof(struct session),
                                             .rx_buffer_size =
                                                 receive_bytes > 0 ? (size_t) receive_bytes : EXAMPLES_RECEIVE_BYTES,
                                             .tx_packet_size = WRITE_AT_ONCE},
                                            {.name = NULL}};
  const struct lws_context_creation_info info = {.port = 0,
                                                 .iface = "127.0.0.1",
                                                 .protocols = protocols,
                                                 .options = LWS_SERVER_OPTION_LIBUV,
                                                 .gid = -1,
                                                 .uid = -1,
                                                 .foreign_loops = loops};
  struct lws_context *context = lws_create_context(&info);
  if (context == NULL)
    give_up("ws_textbook: no context");
  printf("%d\n", lws_get_vhost_listen_port(lws_get_vhost_by_name(context, "default")));
  fflush(stdout);
  return uv_run(&loop, UV_RUN_DEFAULT);
}
