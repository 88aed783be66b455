/* fault_server: an HTTP/1.1 server on loopback that misbehaves on request: one acceptor, one thread per connection
 *
 * Every socket is non-blocking and every wait also polls stop_fd, so that a stop ends all threads at once. A
 * connection's thread alone reads, writes and closes its fd; others only shut it down, under the mutex. A thread's end
 * rings reap_fd and the acceptor joins it. */
#include "support/fault_server.h"

#include "support/blackhole.h"
#include "support/fault_conn.h"
#include "support/wait.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, STACK_BYTES = 512 * 1024, POISON_WAIT_MS = 1000 };

void fault_ring(int fd)
{
  uint64_t one = 1;
  (void) !write(fd, &one, sizeof one);
}

void fault_silence(int fd)
{
  uint64_t count;
  (void) !read(fd, &count, sizeof count);
}

/* All connections */

/* Joins and frees the ended connections, or all of them. */
static void reap(struct fault_server *server, bool all)
{
  struct fault_conn *ended = NULL;
  pthread_mutex_lock(&server->mutex);
  for (struct fault_conn **at = &server->conns; *at != NULL;) {
    struct fault_conn *conn = *at;
    if (!all && !atomic_load(&conn->done)) {
      at = &conn->next;
      continue;
    }
    *at = conn->next;
    conn->next = ended;
    ended = conn;
  }
  pthread_mutex_unlock(&server->mutex);
  while (ended != NULL) {
    struct fault_conn *conn = ended;
    ended = conn->next;
    pthread_join(conn->thread, NULL);
    free(conn);
  }
}

/* Called with all signals blocked, so that the new thread has them blocked too. */
static bool start_conn(struct fault_server *server, int fd)
{
  int on = 1;
  pthread_attr_t attr;
  struct fault_conn *conn = calloc(1, sizeof *conn);
  if (conn == NULL)
    return false;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  conn->server = server;
  conn->fd = fd;
  conn->kick_fd = -1;
  conn->idle_end_ms = -1;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  pthread_mutex_lock(&server->mutex);
  bool started = pthread_create(&conn->thread, &attr, fault_conn_main, conn) == 0;
  if (started) {
    conn->next = server->conns;
    server->conns = conn;
  }
  pthread_mutex_unlock(&server->mutex);
  pthread_attr_destroy(&attr);
  if (!started)
    free(conn);
  return started;
}

static void accept_one(struct fault_server *server)
{
  int32_t max = server->options.max_connections != 0 ? server->options.max_connections : CONNECTIONS_MAX;
  int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0)
    return;
  atomic_fetch_add(&server->accepted, 1);
  int64_t open = atomic_fetch_add(&server->open, 1) + 1;
  if (open > atomic_load(&server->most_open)) /* only this thread raises it */
    atomic_store(&server->most_open, open);
  if (open > max || !start_conn(server, fd)) {
    atomic_fetch_sub(&server->open, 1);
    close(fd);
  }
}

static void *acceptor_main(void *arg)
{
  struct fault_server *server = arg;
  struct pollfd fds[3] = {{.fd = server->stop_fd, .events = POLLIN},
                          {.fd = server->reap_fd, .events = POLLIN},
                          {.fd = server->listen_fd, .events = POLLIN}};
  for (;;) {
    if (poll(fds, 3, -1) < 0)
      continue;
    if (fds[0].revents != 0)
      return NULL;
    if (fds[1].revents != 0) {
      fault_silence(server->reap_fd);
      reap(server, false);
    }
    if (fds[2].revents != 0)
      accept_one(server);
  }
}

static int32_t end_all(struct fault_server *server, bool reset)
{
  int32_t count = 0;
  pthread_mutex_lock(&server->mutex);
  for (struct fault_conn *conn = server->conns; conn != NULL; conn = conn->next) {
    if (conn->fd < 0)
      continue;
    /* Dissolving the association of a connected TCP socket sends a RST; a close would have to wait for the owner.
     * The bare system call, because ThreadSanitizer takes every connect() for the birth of a new fd. */
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    if (!reset || server->options.unix_path != NULL || syscall(SYS_connect, conn->fd, &nowhere, sizeof nowhere) != 0)
      shutdown(conn->fd, SHUT_RDWR);
    count++;
  }
  pthread_mutex_unlock(&server->mutex);
  return count;
}

int32_t fault_server_drop_all(struct fault_server *server)
{
  return end_all(server, false);
}

int32_t fault_server_reset_all(struct fault_server *server)
{
  return end_all(server, true);
}

static int32_t kick(struct fault_server *server, enum fault_kick kind, int32_t max)
{
  int32_t kicked = 0;
  pthread_mutex_lock(&server->mutex);
  for (; kicked < max; kicked++) {
    struct fault_conn *first = NULL;
    for (struct fault_conn *conn = server->conns; conn != NULL; conn = conn->next)
      if (conn->kick == kind && !conn->kick_due && (first == NULL || conn->kick_order < first->kick_order))
        first = conn;
    if (first == NULL)
      break;
    first->kick_due = true;
    server->kicks_due++;
    if (kind == FAULT_KICK_HOLD)
      atomic_fetch_sub(&server->held, 1);
    fault_ring(first->kick_fd);
  }
  while (server->kicks_due > 0)
    pthread_cond_wait(&server->kicked, &server->mutex);
  pthread_mutex_unlock(&server->mutex);
  return kicked;
}

int32_t fault_server_poison(struct fault_server *server)
{
  int64_t until_ms = now_ms() + POISON_WAIT_MS;
  int32_t reached;
  while ((reached = kick(server, FAULT_KICK_POISON, INT32_MAX)) == 0 && now_ms() < until_ms)
    poll(NULL, 0, 1); /* its answer is out, but it has not come to wait for the poison yet */
  return reached;
}

int32_t fault_server_release(struct fault_server *server, int32_t max)
{
  return kick(server, FAULT_KICK_HOLD, max);
}

/* Start, counts, stop */

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                           unsigned int in_len, void *arg)
{
  const char *wanted = ((const struct fault_options *) arg)->http2 ? "\x02h2" : "\x08http/1.1";
  (void) ssl;
  int chosen = SSL_select_next_proto((unsigned char **) (uintptr_t) out, out_len, (const unsigned char *) wanted,
                                     (unsigned int) strlen(wanted), in, in_len);
  return chosen == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static SSL_CTX *make_tls(struct fault_options *options)
{
  SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
  if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, options->tls_cert_file) != 1 ||
      SSL_CTX_use_PrivateKey_file(tls, options->tls_key_file, SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_set_min_proto_version(tls, options->tls_min_version) != 1 ||
      SSL_CTX_set_max_proto_version(tls, options->tls_max_version) != 1 ||
      SSL_CTX_set_session_id_context(tls, (const unsigned char *) "fault", 5) != 1 ||
      (options->tls_client_ca_file != NULL &&
       SSL_CTX_load_verify_locations(tls, options->tls_client_ca_file, NULL) != 1)) {
    SSL_CTX_free(tls);
    return NULL;
  }
  if (options->tls_client_ca_file != NULL)
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_alpn_select_cb(tls, choose_protocol, options);
  return tls;
}

static int listen_unix(const char *path, int backlog)
{
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof addr.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(addr.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd >= 0 && bind(fd, (struct sockaddr *) &addr, sizeof addr) == 0 && listen(fd, backlog) == 0)
    return fd;
  if (fd >= 0)
    close(fd);
  return -1;
}

struct fault_server *fault_server_start(const struct fault_options *options)
{
  struct fault_server *server = calloc(1, sizeof *server);
  if (server == NULL)
    return NULL;
  server->options = *options;
  server->port = options->port;
  server->path = options->path != NULL ? strdup(options->path) : NULL;
  server->unix_path = options->unix_path != NULL ? strdup(options->unix_path) : NULL;
  server->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  server->reap_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  pthread_mutex_init(&server->mutex, NULL);
  pthread_cond_init(&server->kicked, NULL);
  int backlog = options->backlog != 0 ? options->backlog : SOMAXCONN;
  server->listen_fd = options->unix_path != NULL ? listen_unix(options->unix_path, backlog)
                                                 : listen_on(options->address, &server->port, backlog);
  if (server->listen_fd < 0) {
    fprintf(stderr, "fault_server: cannot listen: %s\n", strerror(errno));
    goto failed;
  }
  if (options->tls_cert_file != NULL && (server->tls = make_tls(&server->options)) == NULL) {
    fprintf(stderr, "fault_server: TLS refused %s\n", options->tls_cert_file);
    goto failed;
  }
  if (options->behaviour != FAULT_ACCEPT_NEVER) {
    /* No signal of the test's may land here; and SIGPIPE from OpenSSL's plain write stays pending, unheard. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    server->acceptor_runs = pthread_create(&server->acceptor, NULL, acceptor_main, server) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!server->acceptor_runs)
      goto failed;
  }
  return server;
failed:
  fault_server_stop(server);
  return NULL;
}

uint16_t fault_server_port(const struct fault_server *server)
{
  return server->port;
}

void fault_server_counts(struct fault_server *server, struct fault_counts *out)
{
  *out = (struct fault_counts){.accepted = atomic_load(&server->accepted),
                               .open = atomic_load(&server->open),
                               .most_open = atomic_load(&server->most_open),
                               .tls_handshakes = atomic_load(&server->tls_handshakes),
                               .tls_resumed = atomic_load(&server->tls_resumed),
                               .requests = atomic_load(&server->requests),
                               .held = atomic_load(&server->held)};
  for (int i = 0; i < FAULT_METHODS; i++)
    out->by_method[i] = atomic_load(&server->by_method[i]);
}

int64_t fault_server_requests(struct fault_server *server)
{
  return atomic_load(&server->requests);
}

int64_t fault_server_open(struct fault_server *server)
{
  return atomic_load(&server->open);
}

static char *last_text(struct fault_server *server, char *const *from)
{
  pthread_mutex_lock(&server->mutex);
  char *copy = strdup(*from != NULL ? *from : "");
  pthread_mutex_unlock(&server->mutex);
  return copy;
}

char *fault_server_last_head(struct fault_server *server)
{
  return last_text(server, &server->last_head);
}

char *fault_server_last_tls_name(struct fault_server *server)
{
  return last_text(server, &server->last_tls_name);
}

char *fault_server_last_body(struct fault_server *server, size_t *len)
{
  pthread_mutex_lock(&server->mutex);
  size_t body_len = server->last_body_len;
  char *copy = calloc(1, body_len + 1);
  if (copy != NULL && body_len > 0)
    memcpy(copy, server->last_body, body_len);
  pthread_mutex_unlock(&server->mutex);
  if (len != NULL)
    *len = body_len;
  return copy;
}

static void script(struct fault_server *server, const char *path, const void *bytes, size_t len, bool held)
{
  struct fault_script *found;
  char *text = malloc(len + 1);
  if (text == NULL)
    support_die("out of memory");
  memcpy(text, bytes, len);
  text[len] = '\0';
  pthread_mutex_lock(&server->mutex);
  for (found = server->scripts; found != NULL && strcmp(found->path, path) != 0; found = found->next)
    ;
  if (found == NULL) {
    found = calloc(1, sizeof *found);
    if (found == NULL || (found->path = strdup(path)) == NULL)
      support_die("out of memory");
    found->next = server->scripts;
    server->scripts = found;
  }
  free(found->text);
  found->text = text;
  found->len = len;
  found->held = held;
  pthread_mutex_unlock(&server->mutex);
}

void fault_server_answer(struct fault_server *server, const char *path, const char *text)
{
  script(server, path, text, strlen(text), false);
}

void fault_server_answer_bytes(struct fault_server *server, const char *path, const void *bytes, size_t len)
{
  script(server, path, bytes, len, false);
}

void fault_server_answer_held(struct fault_server *server, const char *path, const char *text)
{
  script(server, path, text, strlen(text), true);
}

static void scripts_free(struct fault_script *scripts)
{
  while (scripts != NULL) {
    struct fault_script *next = scripts->next;
    free(scripts->path);
    free(scripts->text);
    free(scripts);
    scripts = next;
  }
}

void fault_server_stop(struct fault_server *server)
{
  if (server == NULL)
    return;
  fault_ring(server->stop_fd);
  if (server->acceptor_runs)
    pthread_join(server->acceptor, NULL);
  reap(server, true);
  if (server->listen_fd >= 0)
    close(server->listen_fd);
  if (server->unix_path != NULL)
    (void) unlink(server->unix_path);
  SSL_CTX_free(server->tls);
  close(server->stop_fd);
  close(server->reap_fd);
  pthread_mutex_destroy(&server->mutex);
  pthread_cond_destroy(&server->kicked);
  free(server->path);
  free(server->unix_path);
  free(server->last_head);
  free(server->last_body);
  free(server->last_tls_name);
  scripts_free(server->scripts);
  free(server);
}
