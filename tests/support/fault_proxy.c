/* fault_proxy: a thread per client; blocking reads and writes that end when the stop shuts the sockets down */
#include "support/fault_proxy.h"

#include "support/blackhole.h"
#include "support/wait.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_BYTES = 16384, PIECE_BYTES = 16384 };

struct client {
  struct fault_proxy *proxy;
  struct client *next;
  pthread_t thread;
  int fd, target_fd; /* under the proxy's mutex; -1: closed, none */
  bool done;         /* under it; its thread has nothing left to do but be joined */
  SSL *tls;
};

struct fault_proxy {
  struct fault_proxy_options options;
  SSL_CTX *tls;
  int listen_fd, stop_pipe[2];
  uint16_t port;
  pthread_t acceptor;
  pthread_mutex_t mutex;
  struct client *clients;
  char asked[HEAD_BYTES + 1], shown[HEAD_BYTES + 1];
  _Atomic int64_t accepted, tunnels;
};

/* ---- bytes */

static long receive(struct client *client, void *data, size_t len)
{
  if (client->tls != NULL)
    return SSL_read(client->tls, data, (int) len);
  return (long) recv(client->fd, data, len, 0);
}

static bool receive_all(struct client *client, void *data, size_t len)
{
  char *at = data;
  while (len > 0) {
    long got = receive(client, at, len);
    if (got <= 0)
      return false;
    at += got;
    len -= (size_t) got;
  }
  return true;
}

static bool deliver(struct client *client, const void *data, size_t len)
{
  const char *at = data;
  while (len > 0) {
    long put =
        client->tls != NULL ? SSL_write(client->tls, at, (int) len) : (long) send(client->fd, at, len, MSG_NOSIGNAL);
    if (put <= 0)
      return false;
    at += put;
    len -= (size_t) put;
  }
  return true;
}

static bool deliver_text(struct client *client, const char *text)
{
  return deliver(client, text, strlen(text));
}

static void swallow(struct client *client)
{
  char scrap[1024];
  while (receive(client, scrap, sizeof scrap) > 0)
    continue;
}

static void reset(struct client *client)
{
  struct linger now = {.l_onoff = 1};
  setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* ---- the tunnel */

static int connect_target(struct client *client, uint16_t port)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (const struct sockaddr *) &address, sizeof address) != 0) {
    close(fd);
    fd = -1;
  }
  pthread_mutex_lock(&client->proxy->mutex);
  client->target_fd = fd;
  pthread_mutex_unlock(&client->proxy->mutex);
  return fd;
}

static void relay(struct client *client)
{
  char piece[PIECE_BYTES];
  atomic_fetch_add(&client->proxy->tunnels, 1);
  for (;;) {
    struct pollfd fds[2] = {{.fd = client->fd, .events = POLLIN}, {.fd = client->target_fd, .events = POLLIN}};
    bool held = client->tls != NULL && SSL_pending(client->tls) > 0;
    if (!held && poll(fds, 2, -1) < 0)
      return;
    if (held || fds[0].revents != 0) {
      long got = receive(client, piece, sizeof piece);
      if (got <= 0 || send(client->target_fd, piece, (size_t) got, MSG_NOSIGNAL) != got)
        return;
    }
    if (fds[1].revents != 0) {
      size_t len = 0;
      do {
        ssize_t got = recv(client->target_fd, piece + len, sizeof piece - len, 0);
        if (got <= 0)
          return;
        len += (size_t) got;
      } while (client->proxy->options.collect_ms > 0 && len < sizeof piece &&
               poll(&fds[1], 1, client->proxy->options.collect_ms) > 0);
      if (!deliver(client, piece, len))
        return;
    }
  }
}

/* ---- what it was asked */

static void note(struct client *client, const char *text)
{
  pthread_mutex_lock(&client->proxy->mutex);
  snprintf(client->proxy->asked, sizeof client->proxy->asked, "%s", text);
  pthread_mutex_unlock(&client->proxy->mutex);
}

/* All but tunnelling; true when the client is done with. `ok` is the answer of a proxy that agrees. */
static bool misbehave(struct client *client, const char *ok)
{
  char piece[PIECE_BYTES];
  switch (client->proxy->options.behaviour) {
  case PROXY_SILENT:
    swallow(client);
    return true;
  case PROXY_GARBAGE:
    for (int i = 0; i < 512; i++)
      piece[i] = (char) (128 + i * 7 % 120);
    deliver(client, piece, 512);
    return true;
  case PROXY_CLOSES:
    return true;
  case PROXY_RESETS:
    reset(client);
    return true;
  case PROXY_CLOSES_MIDWAY:
    deliver(client, ok, client->proxy->options.socks ? 1 : 20);
    return true;
  case PROXY_ENDLESS_HEADERS:
    for (bool alive = deliver_text(client, "HTTP/1.1 200 OK\r\n"); alive;)
      alive = deliver_text(client, "X-Filler: abcdefghijklmnopqrstuvwxyz\r\n");
    return true;
  case PROXY_ENDLESS_LINE:
    memset(piece, 'a', sizeof piece);
    for (bool alive = deliver_text(client, "HTTP/1.1 200 OK\r\nX-Filler: "); alive;)
      alive = deliver(client, piece, sizeof piece);
    return true;
  case PROXY_ENDLESS_BODY:
    memset(piece, 'a', sizeof piece);
    for (bool alive = deliver_text(client, "HTTP/1.1 407 No\r\nContent-Length: 1000000000000\r\n\r\n"); alive;)
      alive = deliver(client, piece, sizeof piece);
    return true;
  default:
    return false;
  }
}

/* ---- HTTP */

static bool authorized(const struct fault_proxy_options *o, const char *head)
{
  char plain[256], encoded[384], wanted[512];
  if (o->user == NULL)
    return true;
  int len = snprintf(plain, sizeof plain, "%s:%s", o->user, o->password);
  EVP_EncodeBlock((unsigned char *) encoded, (const unsigned char *) plain, len);
  snprintf(wanted, sizeof wanted, "\r\nProxy-Authorization: Basic %s\r\n", encoded);
  return strstr(head, wanted) != NULL;
}

static void serve_http(struct client *client)
{
  const struct fault_proxy_options *o = &client->proxy->options;
  static const char ok[] = "HTTP/1.1 200 Connection established\r\n\r\n";
  char head[HEAD_BYTES + 1], answer[256], *rest;
  size_t len = 0;
  unsigned port;
  do {
    if (len == HEAD_BYTES || !receive_all(client, head + len, 1))
      return;
    head[++len] = '\0';
  } while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0);
  note(client, head);
  if (misbehave(client, ok))
    return;
  if (o->behaviour == PROXY_REFUSES || !authorized(o, head)) {
    int code = o->behaviour == PROXY_REFUSES ? o->code : 407;
    char challenge[128] = "";
    if (code == 407)
      snprintf(challenge, sizeof challenge, "Proxy-Authenticate: %s\r\n",
               o->challenge != NULL ? o->challenge : "Basic realm=\"test\"");
    snprintf(answer, sizeof answer, "HTTP/1.1 %d No\r\n%sContent-Length: 3\r\nConnection: close\r\n\r\nno\n", code,
             challenge);
    deliver_text(client, answer);
    return;
  }
  const char *colon = strrchr(strtok_r(head + strlen("CONNECT "), " ", &rest), ':');
  if (colon == NULL || sscanf(colon, ":%u", &port) != 1 || connect_target(client, (uint16_t) port) < 0) {
    deliver_text(client, "HTTP/1.1 502 Bad gateway\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  if (o->behaviour == PROXY_TALKS_ON)
    deliver_text(client, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nearly");
  else
    deliver_text(client, ok);
  if (o->behaviour != PROXY_CLOSES_TUNNEL)
    relay(client);
}

/* ---- SOCKS5 (RFC 1928, RFC 1929) */

static bool socks_login(struct client *client, char *login, size_t size)
{
  const struct fault_proxy_options *o = &client->proxy->options;
  unsigned char hello[2], methods[255], lens[2];
  char user[256] = "", password[256] = "";
  if (!receive_all(client, hello, 2) || hello[0] != 5 || !receive_all(client, methods, hello[1]))
    return false;
  bool offered = memchr(methods, 2, hello[1]) != NULL;
  if (misbehave(client, "\5\0"))
    return false;
  if (o->user == NULL)
    return deliver(client, "\5\0", 2);
  if (!offered) {
    deliver(client, "\5\377", 2);
    return false;
  }
  if (!deliver(client, "\5\2", 2) || !receive_all(client, lens, 2) || !receive_all(client, user, lens[1]) ||
      !receive_all(client, lens, 1) || !receive_all(client, password, lens[0]))
    return false;
  snprintf(login, size, " %s:%s", user, password);
  bool right = strcmp(user, o->user) == 0 && strcmp(password, o->password) == 0;
  return deliver(client, right ? "\1\0" : "\1\1", 2) && right;
}

static void serve_socks(struct client *client)
{
  const struct fault_proxy_options *o = &client->proxy->options;
  unsigned char ask[4], len = 0, port[2], reply[10] = {5, 0, 0, 1};
  char host[256] = "", login[600] = "", text[1024];
  if (!socks_login(client, login, sizeof login)) {
    note(client, login);
    return;
  }
  if (!receive_all(client, ask, 4))
    return;
  unsigned char raw[16];
  if (ask[3] == 3) {
    if (!receive_all(client, &len, 1) || !receive_all(client, host, len))
      return;
  } else {
    if (!receive_all(client, raw, ask[3] == 4 ? 16 : 4))
      return;
    inet_ntop(ask[3] == 4 ? AF_INET6 : AF_INET, raw, host, sizeof host);
  }
  if (!receive_all(client, port, 2))
    return;
  uint16_t number = (uint16_t) (port[0] << 8 | port[1]);
  snprintf(text, sizeof text, "SOCKS5 %s:%u%s", host, (unsigned) number, login);
  note(client, text);
  reply[1] = (unsigned char) (o->behaviour == PROXY_REFUSES ? o->code : connect_target(client, number) < 0 ? 5 : 0);
  if (deliver(client, reply, sizeof reply) && reply[1] == 0 && o->behaviour != PROXY_CLOSES_TUNNEL)
    relay(client);
}

/* ---- life */

static void *client_main(void *arg)
{
  struct client *client = arg;
  struct fault_proxy *proxy = client->proxy;
  if (proxy->tls != NULL) {
    client->tls = SSL_new(proxy->tls);
    SSL_set_fd(client->tls, client->fd);
  }
  if (client->tls == NULL || SSL_accept(client->tls) == 1) {
    if (proxy->options.socks)
      serve_socks(client);
    else
      serve_http(client);
  }
  if (client->tls != NULL)
    SSL_shutdown(client->tls);
  pthread_mutex_lock(&proxy->mutex);
  close(client->fd);
  if (client->target_fd >= 0)
    close(client->target_fd);
  client->fd = client->target_fd = -1;
  SSL_free(client->tls);
  client->done = true;
  pthread_mutex_unlock(&proxy->mutex);
  return NULL;
}

/* Their stacks would add up. */
static void reap(struct fault_proxy *proxy)
{
  struct client **at = &proxy->clients;
  pthread_mutex_lock(&proxy->mutex);
  while (*at != NULL) {
    struct client *client = *at;
    if (!client->done) {
      at = &client->next;
      continue;
    }
    *at = client->next;
    pthread_join(client->thread, NULL); /* it has let go of the mutex already, or is about to return */
    free(client);
  }
  pthread_mutex_unlock(&proxy->mutex);
}

static void *acceptor_main(void *arg)
{
  struct fault_proxy *proxy = arg;
  for (;;) {
    struct pollfd fds[2] = {{.fd = proxy->listen_fd, .events = POLLIN}, {.fd = proxy->stop_pipe[0], .events = POLLIN}};
    if (poll(fds, 2, -1) < 0)
      continue;
    if (fds[1].revents != 0)
      return NULL;
    int fd = accept4(proxy->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
      continue;
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL)
      support_die("fault_proxy: out of memory");
    client->proxy = proxy;
    client->fd = fd;
    client->target_fd = -1;
    reap(proxy);
    atomic_fetch_add(&proxy->accepted, 1);
    pthread_mutex_lock(&proxy->mutex);
    client->next = proxy->clients;
    proxy->clients = client;
    if (pthread_create(&client->thread, NULL, client_main, client) != 0)
      support_die("fault_proxy: no thread");
    pthread_mutex_unlock(&proxy->mutex);
  }
}

struct fault_proxy *fault_proxy_start(const struct fault_proxy_options *options)
{
  struct fault_proxy *proxy = calloc(1, sizeof *proxy);
  if (proxy == NULL || pipe(proxy->stop_pipe) != 0)
    support_die("fault_proxy: out of memory or descriptors");
  proxy->options = *options;
  proxy->listen_fd = listen_on(options->address, &proxy->port, 1024);
  if (proxy->listen_fd < 0)
    support_die("fault_proxy: cannot listen");
  if (options->tls_cert_file != NULL) {
    proxy->tls = SSL_CTX_new(TLS_server_method());
    if (proxy->tls == NULL || SSL_CTX_use_certificate_chain_file(proxy->tls, options->tls_cert_file) != 1 ||
        SSL_CTX_use_PrivateKey_file(proxy->tls, options->tls_key_file, SSL_FILETYPE_PEM) != 1)
      support_die("fault_proxy: the certificate cannot be used");
  }
  pthread_mutex_init(&proxy->mutex, NULL);
  if (pthread_create(&proxy->acceptor, NULL, acceptor_main, proxy) != 0)
    support_die("fault_proxy: no thread");
  return proxy;
}

uint16_t fault_proxy_port(const struct fault_proxy *proxy)
{
  return proxy->port;
}

void fault_proxy_drop_all(struct fault_proxy *proxy)
{
  pthread_mutex_lock(&proxy->mutex);
  for (struct client *client = proxy->clients; client != NULL; client = client->next)
    if (client->fd >= 0)
      shutdown(client->fd, SHUT_RDWR);
  pthread_mutex_unlock(&proxy->mutex);
}

void fault_proxy_stop(struct fault_proxy *proxy)
{
  if (proxy == NULL)
    return;
  close(proxy->stop_pipe[1]);
  pthread_join(proxy->acceptor, NULL);
  close(proxy->listen_fd);
  close(proxy->stop_pipe[0]);
  pthread_mutex_lock(&proxy->mutex);
  for (struct client *client = proxy->clients; client != NULL; client = client->next) {
    if (client->fd >= 0)
      shutdown(client->fd, SHUT_RDWR);
    if (client->target_fd >= 0)
      shutdown(client->target_fd, SHUT_RDWR);
  }
  pthread_mutex_unlock(&proxy->mutex);
  for (struct client *client = proxy->clients, *next; client != NULL; client = next) {
    next = client->next;
    pthread_join(client->thread, NULL);
    free(client);
  }
  SSL_CTX_free(proxy->tls);
  pthread_mutex_destroy(&proxy->mutex);
  free(proxy);
}

int64_t fault_proxy_accepted(struct fault_proxy *proxy)
{
  return atomic_load(&proxy->accepted);
}

int64_t fault_proxy_tunnels(struct fault_proxy *proxy)
{
  return atomic_load(&proxy->tunnels);
}

const char *fault_proxy_asked(struct fault_proxy *proxy)
{
  pthread_mutex_lock(&proxy->mutex);
  memcpy(proxy->shown, proxy->asked, sizeof proxy->shown);
  pthread_mutex_unlock(&proxy->mutex);
  return proxy->shown;
}
