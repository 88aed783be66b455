/* fault_life: the thread of one connection of the fault server: handshake, request after request, end */
#include "support/fault_conn.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Kicks: another thread lets a held or poisonous connection go on */

void fault_kick_arm(struct fault_conn *conn, enum fault_kick kick)
{
  struct fault_server *server = conn->server;
  if (conn->kick_fd < 0)
    conn->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  pthread_mutex_lock(&server->mutex);
  conn->kick = kick;
  conn->kick_order = server->kick_count++;
  pthread_mutex_unlock(&server->mutex);
  if (kick == FAULT_KICK_HOLD)
    atomic_fetch_add(&server->held, 1);
}

bool fault_kick_await(struct fault_conn *conn)
{
  enum fault_wake wake = fault_conn_wait(conn, POLLRDHUP, -1);
  return wake == FAULT_WAKE_KICK;
}

void fault_kick_done(struct fault_conn *conn)
{
  struct fault_server *server = conn->server;
  if (conn->kick_fd < 0)
    return;
  pthread_mutex_lock(&server->mutex);
  bool was_held = conn->kick == FAULT_KICK_HOLD;
  if (conn->kick_due) {
    server->kicks_due--;
    fault_silence(conn->kick_fd);
    pthread_cond_broadcast(&server->kicked);
  } else if (was_held) {
    atomic_fetch_sub(&server->held, 1);
  }
  conn->kick = FAULT_KICK_NONE;
  conn->kick_due = false;
  pthread_mutex_unlock(&server->mutex);
}

/* One connection */

void fault_count_request(struct fault_server *server, const char *method)
{
  static const char *const names[FAULT_METHODS] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", NULL};
  int i = 0;
  while (i < FAULT_OTHER && strcmp(names[i], method) != 0)
    i++;
  atomic_fetch_add(&server->by_method[i], 1);
  atomic_fetch_add(&server->requests, 1);
}

static void record_request(struct fault_server *server, const struct fault_request *request)
{
  char *head = strdup(request->head);
  char *body = malloc(request->body_len + 1);
  if (body != NULL && request->body_len > 0)
    memcpy(body, request->body, request->body_len);
  if (body != NULL)
    body[request->body_len] = '\0';
  pthread_mutex_lock(&server->mutex);
  free(server->last_head);
  free(server->last_body);
  server->last_head = head;
  server->last_body = body;
  server->last_body_len = body != NULL ? request->body_len : 0;
  pthread_mutex_unlock(&server->mutex);
}

static bool start_tls(struct fault_conn *conn)
{
  struct fault_server *server = conn->server;
  conn->ssl = SSL_new(server->tls);
  if (conn->ssl == NULL || SSL_set_fd(conn->ssl, conn->fd) != 1 || !fault_conn_handshake(conn))
    return false;
  const char *name = SSL_get_servername(conn->ssl, TLSEXT_NAMETYPE_host_name);
  atomic_fetch_add(&server->tls_handshakes, 1);
  if (SSL_session_reused(conn->ssl))
    atomic_fetch_add(&server->tls_resumed, 1);
  pthread_mutex_lock(&server->mutex);
  free(server->last_tls_name);
  server->last_tls_name = strdup(name != NULL ? name : "");
  pthread_mutex_unlock(&server->mutex);
  return true;
}

/* True: bytes of a request are there, or the peer's end. False: *end says what to do. */
static bool await_request(struct fault_conn *conn, enum fault_end *end)
{
  for (;;) {
    if (conn->in_len > 0 || (conn->ssl != NULL && SSL_pending(conn->ssl) > 0))
      return true;
    *end = FAULT_CUT;
    switch (fault_conn_wait(conn, POLLIN, conn->idle_end_ms)) {
    case FAULT_WAKE_READY:
      return true;
    case FAULT_WAKE_STOP:
      return false;
    case FAULT_WAKE_TIMEOUT:
      conn->idle_end_ms = -1;
      if (conn->idle_end != FAULT_KEEP) {
        *end = conn->idle_end;
        return false;
      }
      if (!fault_write_poison(conn))
        return false;
      break;
    case FAULT_WAKE_KICK: {
      bool written = fault_write_poison(conn);
      fault_kick_done(conn);
      if (!written)
        return false;
      break;
    }
    }
  }
}

static enum fault_end serve_one(struct fault_conn *conn)
{
  struct fault_server *server = conn->server;
  struct fault_request *request = &conn->request;
  enum fault_end end;
  if (!await_request(conn, &end))
    return end;
  fault_kick_done(conn);
  conn->idle_end_ms = -1;
  if (conn->next_unread)
    return FAULT_RESET;
  if (!fault_conn_read_head(conn))
    return FAULT_CUT;
  fault_count_request(server, request->method);
  const char *path = server->path != NULL ? server->path : request->path;
  if (conn->next_request != FAULT_KEEP || fault_path_wants_body(path)) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (request->expect_continue && !fault_conn_write(conn, go_on, strlen(go_on)))
      return FAULT_CUT;
    if (!fault_conn_read_body(conn))
      return FAULT_CUT;
  }
  record_request(server, request);
  if (conn->next_request != FAULT_KEEP)
    return conn->next_request;
  end = fault_path_serve(conn, path);
  return end == FAULT_KEEP && request->close ? FAULT_CLOSE : end;
}

static enum fault_end serve_garbled(struct fault_conn *conn)
{
  enum fault_end end = FAULT_CUT;
  return await_request(conn, &end) && fault_conn_read_more(conn) ? fault_path_serve(conn, "/garbage") : FAULT_CUT;
}

void *fault_conn_main(void *arg)
{
  struct fault_conn *conn = arg;
  struct fault_server *server = conn->server;
  enum fault_end end = FAULT_CUT;
  switch (server->options.behaviour) {
  case FAULT_BY_PATH:
    if (server->options.http2) {
      if (start_tls(conn))
        end = fault_h2_serve(conn);
    } else if (server->tls == NULL || start_tls(conn))
      do
        end = serve_one(conn);
      while (end == FAULT_KEEP);
    break;
  case FAULT_SILENT:
    (void) fault_conn_wait(conn, POLLRDHUP, -1);
    break;
  case FAULT_GARBAGE:
    end = serve_garbled(conn);
    break;
  case FAULT_ACCEPT_RESET:
    end = FAULT_RESET;
    break;
  case FAULT_ACCEPT_CLOSE:
  case FAULT_ACCEPT_NEVER:
    break;
  }
  fault_kick_done(conn);
  fault_h2_end(conn);
  fault_conn_close(conn, end);
  if (conn->kick_fd >= 0)
    close(conn->kick_fd);
  fault_request_fini(&conn->request);
  free(conn->in);
  atomic_store(&conn->done, true);
  fault_ring(server->reap_fd);
  return NULL;
}
