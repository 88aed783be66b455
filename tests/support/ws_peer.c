/* ws_peer: a scripted WebSocket client or server */
#include "support/ws_peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>

#include "support/certs.h"
#include "support/raw_client.h"
#include "support/wait.h"

enum { CONNECT_MS = 5000, HEAD_MS = 20000, HEAD_BYTES = 16384, STEP_BYTES = 65536 };

struct ws_peer {
  int fd, status;
  bool server;
  SSL_CTX *context;
  SSL *tls;
  char head[HEAD_BYTES];
  unsigned char *bytes; /* received, not looked at */
  size_t len, capacity;
  unsigned char *payload;
  uint32_t mask;
};

/* More than 0: bytes; 0: the end; -1: an error, with errno; EAGAIN: nothing. */
static ssize_t get(struct ws_peer *peer, void *to, size_t max)
{
  if (peer->tls == NULL)
    return recv(peer->fd, to, max, MSG_DONTWAIT);
  ERR_clear_error();
  int got = SSL_read(peer->tls, to, (int) max);
  if (got > 0)
    return got;
  int error = SSL_get_error(peer->tls, got);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
    errno = EAGAIN;
  else if (error == SSL_ERROR_ZERO_RETURN || errno == 0 || error == SSL_ERROR_SSL)
    return 0;
  return -1;
}

/* Waits for more; 1, or WS_END, WS_RESET, WS_NOTHING. */
static int more(struct ws_peer *peer, int64_t end_ms)
{
  if (peer->capacity - peer->len < STEP_BYTES) {
    peer->capacity = peer->capacity * 2 + STEP_BYTES;
    peer->bytes = realloc(peer->bytes, peer->capacity);
    if (peer->bytes == NULL)
      support_die("no memory");
  }
  for (;;) {
    errno = 0;
    ssize_t got = get(peer, peer->bytes + peer->len, STEP_BYTES);
    if (got > 0) {
      peer->len += (size_t) got;
      return 1;
    }
    if (got == 0)
      return WS_END;
    if (errno != EAGAIN && errno != EINTR)
      return WS_RESET;
    int64_t left = end_ms - now_ms();
    if (left <= 0 || wait_fd(peer->fd, POLLIN, left) == 0)
      return WS_NOTHING;
  }
}

static void drop(struct ws_peer *peer, size_t len)
{
  memmove(peer->bytes, peer->bytes + len, peer->len - len);
  peer->len -= len;
}

bool ws_peer_send_raw(struct ws_peer *peer, const void *bytes, size_t len)
{
  const char *at = bytes;
  while (len > 0) {
    ssize_t put;
    if (peer->tls != NULL) {
      ERR_clear_error();
      put = SSL_write(peer->tls, at, (int) (len < STEP_BYTES ? len : STEP_BYTES));
      if (put <= 0 && SSL_get_error(peer->tls, (int) put) == SSL_ERROR_WANT_WRITE)
        errno = EAGAIN;
      else if (put <= 0)
        return false;
    } else {
      put = send(peer->fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (put < 0 && errno == EAGAIN) {
      if (wait_fd(peer->fd, POLLOUT, CONNECT_MS) == 0)
        return false;
      continue;
    }
    if (put < 0)
      return false;
    at += put;
    len -= (size_t) put;
  }
  return true;
}

static void shake_hands(struct ws_peer *peer, int (*step)(SSL *tls))
{
  SSL_set_fd(peer->tls, peer->fd);
  int64_t end_ms = now_ms() + HEAD_MS;
  int done;
  while ((done = step(peer->tls)) != 1) {
    int error = SSL_get_error(peer->tls, done);
    if (now_ms() > end_ms || (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE))
      return;
    wait_fd(peer->fd, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, HEAD_MS);
  }
}

static void begin_tls(struct ws_peer *peer, const char *ca_file)
{
  int on = 1; /* else the request waits for the answer to the end of the handshake, which has none */
  setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  peer->context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_verify(peer->context, SSL_VERIFY_PEER, NULL);
  SSL_CTX_load_verify_locations(peer->context, ca_file, NULL);
  peer->tls = SSL_new(peer->context);
  SSL_set1_host(peer->tls, "localhost");
  SSL_set_tlsext_host_name(peer->tls, "localhost");
  shake_hands(peer, SSL_connect);
}

static void read_head(struct ws_peer *peer)
{
  int64_t end_ms = now_ms() + HEAD_MS;
  for (;;) {
    unsigned char *end = peer->len >= 4 ? memmem(peer->bytes, peer->len, "\r\n\r\n", 4) : NULL;
    if (end != NULL) {
      size_t len = (size_t) (end - peer->bytes) + 4;
      snprintf(peer->head, sizeof peer->head, "%.*s", (int) len, (char *) peer->bytes);
      (void) sscanf(peer->head, "HTTP/1.%*d %d", &peer->status);
      drop(peer, len);
      return;
    }
    if (more(peer, end_ms) != 1)
      return;
  }
}

struct ws_peer *ws_peer_open(uint16_t port, const struct ws_peer_options *options)
{
  static const struct ws_peer_options standard;
  const struct ws_peer_options *how = options != NULL ? options : &standard;
  struct ws_peer *peer = calloc(1, sizeof *peer);
  char head[HEAD_BYTES];
  if (peer == NULL)
    support_die("no memory");
  peer->fd = raw_connect(how->address, port, CONNECT_MS);
  if (peer->fd < 0)
    support_die("ws_peer: no connection to port %u: %s", port, strerror(errno));
  peer->mask = 0x01020304u * (port | 1u);
  if (how->ca_file != NULL)
    begin_tls(peer, how->ca_file);
  snprintf(head, sizeof head,
           "GET %s HTTP/1.1\r\nHost: localhost:%u\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
           how->path != NULL ? how->path : "/", port, how->headers != NULL ? how->headers : "");
  const char *text = how->head != NULL ? how->head : head;
  if (ws_peer_send_raw(peer, text, strlen(text)))
    read_head(peer);
  return peer;
}

/* ---------------------------------------------------------------------------------------------------------- a server's */

int ws_peer_listen(const char *address, uint16_t *port)
{
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } name = {0};
  socklen_t len = sizeof name.v4;
  const char *text = address != NULL ? address : "127.0.0.1";
  name.v4.sin_family = AF_INET;
  if (inet_pton(AF_INET, text, &name.v4.sin_addr) != 1) {
    len = sizeof name.v6;
    name.v6.sin6_family = AF_INET6;
    if (inet_pton(AF_INET6, text, &name.v6.sin6_addr) != 1)
      support_die("ws_peer: %s is no address", text);
  }
  int fd = socket(name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, &name.any, len) != 0 || listen(fd, 128) != 0 || getsockname(fd, &name.any, &len) != 0)
    support_die("ws_peer: cannot listen: %s", strerror(errno));
  *port = ntohs(name.any.sa_family == AF_INET ? name.v4.sin_port : name.v6.sin6_port);
  return fd;
}

static void begin_server_tls(struct ws_peer *peer, const struct ws_accept_options *how)
{
  peer->context = SSL_CTX_new(TLS_server_method());
  if (SSL_CTX_use_certificate_chain_file(peer->context, how->pair->cert_file) != 1 ||
      SSL_CTX_use_PrivateKey_file(peer->context, how->pair->key_file, SSL_FILETYPE_PEM) != 1)
    support_die("ws_peer: the certificate cannot be used");
  if (how->client_ca_file != NULL) {
    SSL_CTX_load_verify_locations(peer->context, how->client_ca_file, NULL);
    SSL_CTX_set_verify(peer->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  }
  peer->tls = SSL_new(peer->context);
  shake_hands(peer, SSL_accept);
}

/* Of RFC 6455 section 4.2.2. */
static void accept_key(const char *request, char out[32])
{
  unsigned char digest[SHA_DIGEST_LENGTH];
  char text[128];
  const char *key = strcasestr(request, "\r\nSec-WebSocket-Key: ");
  int len = snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key != NULL ? key + 21 : "");
  SHA1((unsigned char *) text, (size_t) len, digest);
  EVP_EncodeBlock((unsigned char *) out, digest, sizeof digest);
}

struct ws_peer *ws_peer_accept(int listener, const struct ws_accept_options *options, int64_t timeout_ms)
{
  static const struct ws_accept_options standard;
  const struct ws_accept_options *how = options != NULL ? options : &standard;
  char key[32], answer[HEAD_BYTES];
  if (wait_fd(listener, POLLIN, timeout_ms) == 0)
    return NULL;
  struct ws_peer *peer = calloc(1, sizeof *peer);
  if (peer == NULL)
    support_die("no memory");
  peer->server = true;
  peer->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (peer->fd < 0)
    support_die("ws_peer: accept: %s", strerror(errno));
  if (how->pair != NULL)
    begin_server_tls(peer, how);
  read_head(peer);
  accept_key(peer->head, key);
  snprintf(answer, sizeof answer,
           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Accept: %s\r\n%s\r\n",
           key, how->headers != NULL ? how->headers : "");
  const char *text = how->answer != NULL ? how->answer : answer;
  if (peer->head[0] != '\0' && *text != '\0')
    (void) ws_peer_send_raw(peer, text, strlen(text));
  return peer;
}

const char *ws_peer_request(const struct ws_peer *peer)
{
  return peer->head;
}

int ws_peer_status(const struct ws_peer *peer)
{
  return peer->status;
}

const char *ws_peer_head(const struct ws_peer *peer)
{
  return peer->head;
}

bool ws_peer_is_server(const struct ws_peer *peer)
{
  return peer->server;
}

const char *ws_peer_server_name(const struct ws_peer *peer)
{
  return peer->tls != NULL ? SSL_get_servername(peer->tls, TLSEXT_NAMETYPE_host_name) : NULL;
}

int ws_peer_fd(const struct ws_peer *peer)
{
  return peer->fd;
}

void ws_peer_free(struct ws_peer *peer)
{
  if (peer == NULL)
    return;
  SSL_free(peer->tls);
  SSL_CTX_free(peer->context);
  close(peer->fd);
  free(peer->bytes);
  free(peer->payload);
  free(peer);
}

void ws_peer_reset(struct ws_peer *peer)
{
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  ws_peer_free(peer);
}

bool ws_peer_send(struct ws_peer *peer, int first, const void *payload, size_t len)
{
  unsigned char *frame = malloc(len + 14), *at = frame, mask[4], masked = peer->server ? 0 : 0x80;
  if (frame == NULL)
    support_die("no memory");
  peer->mask = peer->mask * 1664525u + 1013904223u;
  memcpy(mask, &peer->mask, sizeof mask);
  *at++ = (unsigned char) first;
  if (len <= 125) {
    *at++ = (unsigned char) (masked | len);
  } else {
    int bytes = len <= 65535 ? 2 : 8;
    *at++ = (unsigned char) (masked | (bytes == 2 ? 126 : 127));
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
      *at++ = (unsigned char) ((uint64_t) len >> shift);
  }
  if (masked) {
    memcpy(at, mask, sizeof mask);
    at += sizeof mask;
  } else {
    memset(mask, 0, sizeof mask);
  }
  for (size_t i = 0; i < len; i++)
    *at++ = ((const unsigned char *) payload)[i] ^ mask[i % 4];
  bool sent = ws_peer_send_raw(peer, frame, (size_t) (at - frame));
  free(frame);
  return sent;
}

bool ws_peer_send_text(struct ws_peer *peer, const char *text)
{
  return ws_peer_send(peer, WS_FIN | WS_TEXT, text, strlen(text));
}

bool ws_peer_send_close(struct ws_peer *peer, int code, const char *text)
{
  unsigned char payload[125] = {(unsigned char) (code >> 8), (unsigned char) code};
  size_t len = text != NULL ? strlen(text) : 0;
  memcpy(payload + 2, text != NULL ? text : "", len);
  return ws_peer_send(peer, WS_FIN | WS_CLOSE, payload, code == 0 ? 0 : len + 2);
}

/* The length of the header at hand, and of the payload; 0: more bytes are needed. */
static size_t parse(const struct ws_peer *peer, size_t *len)
{
  if (peer->len < 2)
    return 0;
  size_t head = 2, bytes = 0;
  *len = peer->bytes[1] & 0x7F;
  if (*len >= 126) {
    bytes = *len == 126 ? 2 : 8;
    if (peer->len < head + bytes)
      return 0;
    *len = 0;
    for (size_t i = 0; i < bytes; i++)
      *len = *len << 8 | peer->bytes[2 + i];
  }
  head += bytes + ((peer->bytes[1] & 0x80) != 0 ? 4 : 0);
  return peer->len >= head + *len ? head : 0;
}

struct ws_frame ws_peer_read(struct ws_peer *peer, int64_t timeout_ms)
{
  int64_t end_ms = now_ms() + timeout_ms;
  size_t head, len = 0;
  while ((head = parse(peer, &len)) == 0) {
    int got = more(peer, end_ms);
    if (got != 1)
      return (struct ws_frame){.first = got};
  }
  struct ws_frame frame = {.first = peer->bytes[0], .masked = (peer->bytes[1] & 0x80) != 0, .len = len};
  free(peer->payload);
  peer->payload = malloc(len + 1);
  if (peer->payload == NULL)
    support_die("no memory");
  memcpy(peer->payload, peer->bytes + head, len);
  for (size_t i = 0; frame.masked && i < len; i++)
    peer->payload[i] ^= peer->bytes[head - 4 + i % 4];
  peer->payload[len] = '\0';
  frame.payload = peer->payload;
  drop(peer, head + len);
  return frame;
}

struct ws_frame ws_peer_read_past_pings(struct ws_peer *peer, int64_t timeout_ms)
{
  int64_t end_ms = now_ms() + timeout_ms;
  for (;;) {
    struct ws_frame frame = ws_peer_read(peer, end_ms - now_ms());
    if (frame.first != (WS_FIN | WS_PING))
      return frame;
    ws_peer_send(peer, WS_FIN | WS_PONG, frame.payload, frame.len);
  }
}

int ws_frame_code(const struct ws_frame *frame)
{
  if (frame->first != (WS_FIN | WS_CLOSE))
    return -1;
  return frame->len < 2 ? 1005 : frame->payload[0] << 8 | frame->payload[1];
}
