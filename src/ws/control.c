/* control: what callers ask of one connection: each call checks, and has the loop do it */
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/wait.h"
#include "ws/dialled.h"
#include "ws/stream.h"
#include "ws/topic.h"

enum { ID_BYTES = 255 };

struct command;
typedef int command_fn(struct cpool__ws_conn *conn, const struct command *command);

/* On the loop thread it is carried out where it stands; else a copy goes there, its text behind it. */
struct command {
  struct cpool__msg msg;
  command_fn *fn;
  struct cpool__ws_conn *conn;
  const char *text;
  void *user;
  int64_t number;
  struct cpool__frame *frame;
};

static void on_command(struct cpool__msg *msg)
{
  struct command *command = cpool__container_of(msg, struct command, msg);
  cpool_ws *ws = command->conn->ws;
  bool gone = cpool__ws_phase(command->conn) == CPOOL__WS_GONE;
  if (gone || command->fn(command->conn, command) != CPOOL_OK) /* it ended meanwhile */
    cpool__frame_drop(command->frame);
  cpool__ws_conn_drop(command->conn);
  cpool__free(command);
  cpool__ws_leave(ws);
}

static int post(const struct command *command)
{
  size_t len = command->text != NULL ? strlen(command->text) + 1 : 0;
  struct command *copy = cpool__malloc(sizeof *copy + len);
  if (copy == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a message to the loop");
  *copy = *command;
  copy->msg.fn = on_command;
  if (len > 0)
    copy->text = memcpy(copy + 1, command->text, len);
  cpool__ws_conn_hold(copy->conn);
  int rc = cpool__ws_post(copy->conn->ws, &copy->msg);
  if (rc != CPOOL_OK) {
    cpool__ws_conn_drop(copy->conn);
    cpool__free(copy);
  }
  return rc;
}

/* Takes the frame. */
static int carry_out(cpool_ws *ws, cpool_conn handle, struct command command)
{
  int rc = cpool__ws_usable(ws);
  command.conn = rc == CPOOL_OK ? cpool__ws_conn_borrow(ws, handle) : NULL;
  if (rc == CPOOL_OK && (command.conn == NULL || cpool__ws_phase(command.conn) == CPOOL__WS_GONE))
    rc = cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "the connection has ended");
  else if (rc == CPOOL_OK)
    rc = cpool__runtime_on_loop(ws->rt) ? command.fn(command.conn, &command) : post(&command);
  if (rc != CPOOL_OK)
    cpool__frame_drop(command.frame);
  if (command.conn != NULL)
    cpool__ws_conn_drop(command.conn);
  return rc;
}

int cpool__ws_check_id(const char *call, const char *id)
{
  size_t len = id != NULL ? strnlen(id, ID_BYTES + 1) : 0;
  if (len == 0 || len > ID_BYTES || !cpool__utf8_valid(id, len))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: an id has 1 to %d bytes of UTF-8", call, ID_BYTES);
  return CPOOL_OK;
}

int cpool__ws_refuse_place(const char *call, int status, const cpool_ws *ws, const char *id)
{
  switch (status) {
  case CPOOL_EEXIST:
    return cpool__refuse(status, CPOOL_LAYER_WS, "%s: the id %s is taken", call, id);
  case CPOOL_EFULL:
    return cpool__refuse(status, CPOOL_LAYER_WS, "%s: max_connections (%d) are there", call,
                         (int) ws->options.max_connections);
  default:
    return cpool__refuse(status, CPOOL_LAYER_SYSTEM, "%s: no memory", call);
  }
}

/* ------------------------------------------------------------------------------------------------------- the decision */

static int do_accept(struct cpool__ws_conn *conn, const struct command *command)
{
  cpool_ws *ws = conn->ws;
  bool inside = ws->deciding == conn;
  if ((!inside && cpool__ws_phase(conn) != CPOOL__WS_UNDECIDED) || conn->registered || conn->refuse_status != 0)
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "ws_accept: the connection is decided");
  int rc = cpool__ws_conn_register(conn, command->text, command->user);
  if (rc == CPOOL_OK && !inside)
    cpool__ws_conn_open(conn, NULL);
  if (rc != CPOOL_OK && !inside) {
    conn->user = command->user; /* the final event shall bring it back */
    cpool__ws_conn_close(conn, CPOOL_WS_REFUSED, 1008, NULL);
  }
  return rc == CPOOL_OK ? rc : cpool__ws_refuse_place("ws_accept", rc, ws, command->text);
}

int cpool_ws_accept(cpool_ws *ws, cpool_conn handle, const char *id, void *user)
{
  int rc = cpool__ws_check_id("ws_accept", id);
  if (rc != CPOOL_OK)
    return rc;
  return carry_out(ws, handle, (struct command){.fn = do_accept, .text = id, .user = user});
}

static int do_refuse(struct cpool__ws_conn *conn, const struct command *command)
{
  bool inside = conn->ws->deciding == conn;
  if ((!inside && cpool__ws_phase(conn) != CPOOL__WS_UNDECIDED) || conn->registered || conn->refuse_status != 0)
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "ws_refuse: the connection is decided");
  conn->refuse_status = command->number != 0 ? (int16_t) command->number : 403;
  if (!inside)
    cpool__ws_conn_close(conn, CPOOL_WS_REFUSED, 1008, NULL);
  return CPOOL_OK;
}

int cpool_ws_refuse(cpool_ws *ws, cpool_conn handle, int32_t http_status)
{
  if (http_status != 0 && (http_status < 400 || http_status > 599))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_refuse: http_status %d is out of range 400..599",
                         (int) http_status);
  return carry_out(ws, handle, (struct command){.fn = do_refuse, .number = http_status});
}

/* ----------------------------------------------------------------------------------------------------------- external */

struct external_call {
  cpool_ws *ws;
  const char *id;
  void *user;
  cpool_conn handle;
};

static int add_on_loop(void *arg)
{
  struct external_call *call = arg;
  cpool_ws *ws = call->ws;
  if (ws->life != CPOOL__WS_OPEN)
    return cpool__refuse(CPOOL_ECLOSED, CPOOL_LAYER_WS, "ws_add_external: the manager is closing");
  struct cpool__ws_conn *conn = cpool__ws_conn_new(ws, CPOOL__WS_HANDSHAKE);
  if (conn == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_add_external: no memory");
  conn->external = true;
  call->handle = conn->handle;
  int rc = cpool__ws_conn_register(conn, call->id, call->user);
  if (rc != CPOOL_OK) {
    conn->reason = CPOOL_WS_REFUSED;
    cpool__ws_conn_gone(conn);
    return cpool__ws_refuse_place("ws_add_external", rc, ws, call->id);
  }
  cpool__ws_conn_open(conn, NULL);
  return CPOOL_OK;
}

int cpool_ws_add_external(cpool_ws *ws, const char *id, void *user, cpool_conn *out)
{
  int rc = cpool__ws_usable(ws);
  if (rc == CPOOL_OK)
    rc = cpool__ws_check_id("ws_add_external", id);
  if (rc != CPOOL_OK)
    return rc;
  struct external_call call = {.ws = ws, .id = id, .user = user};
  rc = cpool__call(ws->rt, add_on_loop, &call);
  if (rc == CPOOL_OK && out != NULL)
    *out = call.handle;
  return rc;
}

static int do_touch(struct cpool__ws_conn *conn, const struct command *command)
{
  (void) command;
  cpool__ws_conn_heard(conn);
  return CPOOL_OK;
}

int cpool_ws_touch(cpool_ws *ws, cpool_conn handle)
{
  return carry_out(ws, handle, (struct command){.fn = do_touch});
}

/* ------------------------------------------------------------------------------------------------------------- credit */

static int do_credit(struct cpool__ws_conn *conn, const struct command *command)
{
  cpool__ws_stream_credit(conn, command->number);
  return CPOOL_OK;
}

int cpool_ws_credit(cpool_ws *ws, cpool_conn handle, size_t bytes)
{
  if (bytes == 0)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_credit: bytes is 0");
  return carry_out(ws, handle,
                   (struct command){.fn = do_credit, .number = bytes > INT64_MAX ? INT64_MAX : (int64_t) bytes});
}

/* ------------------------------------------------------------------------------------------------------------- topics */

static int do_subscribe(struct cpool__ws_conn *conn, const struct command *command)
{
  bool ends = cpool__ws_phase(conn) > CPOOL__WS_UP || conn->reason != 0;
  if (ends && !cpool__dialled_returns(conn))
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "ws_subscribe: the connection is closing");
  if (cpool__topic_join(conn, command->text, strlen(command->text)) != CPOOL_OK)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_subscribe: no memory");
  return CPOOL_OK;
}

static int do_unsubscribe(struct cpool__ws_conn *conn, const struct command *command)
{
  cpool__topic_leave(conn, command->text, strlen(command->text));
  return CPOOL_OK;
}

int cpool_ws_subscribe(cpool_ws *ws, cpool_conn handle, const char *topic)
{
  int rc = cpool__topic_check("ws_subscribe", topic);
  return rc != CPOOL_OK ? rc : carry_out(ws, handle, (struct command){.fn = do_subscribe, .text = topic});
}

int cpool_ws_unsubscribe(cpool_ws *ws, cpool_conn handle, const char *topic)
{
  int rc = cpool__topic_check("ws_unsubscribe", topic);
  return rc != CPOOL_OK ? rc : carry_out(ws, handle, (struct command){.fn = do_unsubscribe, .text = topic});
}

/* ---------------------------------------------------------------------------------------------------------------- end */

static int do_remove(struct cpool__ws_conn *conn, const struct command *command)
{
  bool ends = conn->reason != 0 || cpool__ws_phase(conn) > CPOOL__WS_UP;
  if (ends && !cpool__dialled_returns(conn))
    return cpool__refuse(CPOOL_ESTALE, CPOOL_LAYER_CALLER, "ws_remove: the connection is closing");
  if (ends) {
    cpool__dialled_stop(conn, CPOOL_WS_BY_CALLER);
    cpool__frame_drop(command->frame);
    return CPOOL_OK;
  }
  cpool__ws_conn_close(conn, CPOOL_WS_BY_CALLER, (int) command->number, command->frame);
  return CPOOL_OK;
}

int cpool_ws_remove(cpool_ws *ws, cpool_conn handle, int32_t close_code, const char *text)
{
  size_t len = text != NULL ? strlen(text) : 0;
  int32_t code = close_code != 0 ? close_code : 1000;
  if (!cpool__close_code_valid(code) || code == 1002)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_remove: close_code %d must not be sent", (int) code);
  if (len > CPOOL__FRAME_CLOSE_TEXT || !cpool__utf8_valid(text, len))
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_remove: the text has at most 123 bytes of UTF-8");
  struct cpool__frame *frame = cpool__frame_close(code, text, len);
  if (frame == NULL)
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "ws_remove: no memory");
  return carry_out(ws, handle, (struct command){.fn = do_remove, .number = code, .frame = frame});
}

int cpool_ws_remove_id(cpool_ws *ws, const char *id, int32_t close_code, const char *text)
{
  cpool_conn handle;
  int rc = cpool_ws_find(ws, id, &handle);
  return rc == CPOOL_OK ? cpool_ws_remove(ws, handle, close_code, text) : rc;
}

static int do_expire(struct cpool__ws_conn *conn, const struct command *command)
{
  conn->expires_ms =
      command->number == CPOOL_OFF ? 0 : cpool__runtime_now_ms(conn->ws->rt) + (uint64_t) command->number;
  if ((cpool__ws_phase(conn) == CPOOL__WS_UP || cpool__ws_phase(conn) == CPOOL__WS_WAITING) && conn->reason == 0)
    cpool__ws_watch(conn);
  return CPOOL_OK;
}

int cpool_ws_expire(cpool_ws *ws, cpool_conn handle, int64_t after_ms)
{
  if (after_ms < CPOOL_OFF)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_expire: after_ms %lld is below -1 (off)",
                         (long long) after_ms);
  return carry_out(ws, handle, (struct command){.fn = do_expire, .number = after_ms});
}
