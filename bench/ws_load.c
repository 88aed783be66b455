/* ws_load: the clients: each reads what there is, counts whole messages, and sends as many new ones */
#include "ws_load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

enum {
  AT_A_TIME = 64, /* handshakes */
  EVENTS = 256,
  READ_BYTES = 262144,
  HEAD_BYTES = 512,
  FRAME_HEAD = 10, /* most, of a server's frame */
  PATIENCE_US = 30 * 1000 * 1000,
  LOOK_AGAIN_MS = 1000,
  NARROW_BUFFER = 2048,
  NARROW_SEGMENT = 536
};

enum state { CONNECTING, ASKING, OPEN };

struct peer {
  int fd;
  enum state state;
  size_t out_at, out_left;        /* where in the frames it goes on, and how much is to go */
  unsigned char head[FRAME_HEAD]; /* of the frame that comes in */
  size_t head_len;
  uint64_t payload_left;
  size_t message_len; /* of the message so far */
};

static const char request[] = "GET / HTTP/1.1\r\n"
                              "Host: 127.0.0.1\r\n"
                              "Upgrade: websocket\r\n"
                              "Connection: Upgrade\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                              "Sec-WebSocket-Version: 13\r\n"
                              "\r\n";

static unsigned char read_buffer[READ_BYTES];

void raise_fd_limit(void)
{
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
    give_up("getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
    give_up("setrlimit");
}

void fleet_init(struct fleet *fleet, uint16_t port, int most)
{
  *fleet = (struct fleet){.port = port, .most = most, .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
  fleet->peers = calloc((size_t) most, sizeof *fleet->peers);
  if (fleet->peers == NULL || fleet->epoll_fd < 0)
    give_up("no fleet");
}

void fleet_close(struct fleet *fleet)
{
  const struct linger reset = {.l_onoff = 1};
  for (int i = 0; i < fleet->count; i++) {
    setsockopt(fleet->peers[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fleet->peers[i].fd);
  }
  close(fleet->epoll_fd);
  free(fleet->frames);
  free(fleet->peers);
  *fleet = (struct fleet){.epoll_fd = -1};
}

/* ---------------------------------------------------------------------------------------------------------- handshake */

static void begin(struct fleet *fleet)
{
  struct peer *peer = &fleet->peers[fleet->count++];
  struct sockaddr_in to = {.sin_family = AF_INET,
                           .sin_port = htons(fleet->port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = peer};
  const int on = 1, buffer = NARROW_BUFFER, segment = NARROW_SEGMENT;
  peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (peer->fd < 0)
    give_up("socket %d: %s", fleet->count, strerror(errno));
  setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (fleet->narrow) {
    setsockopt(peer->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    setsockopt(peer->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
  }
  if ((connect(peer->fd, (struct sockaddr *) &to, sizeof to) != 0 && errno != EINPROGRESS) ||
      epoll_ctl(fleet->epoll_fd, EPOLL_CTL_ADD, peer->fd, &event) != 0)
    give_up("connect %d: %s", fleet->count, strerror(errno));
}

/* Whether it is open now. The server says nothing behind its answer. */
static bool shake(struct peer *peer)
{
  char answer[HEAD_BYTES];
  if (peer->state == CONNECTING) {
    ssize_t sent = send(peer->fd, request, sizeof request - 1, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN)
      return false;
    if (sent != (ssize_t) sizeof request - 1)
      give_up("a request cannot be sent: %s", strerror(errno));
    peer->state = ASKING;
  }
  ssize_t len = recv(peer->fd, answer, sizeof answer, 0);
  if (len < 0 && errno == EAGAIN)
    return false;
  if (len < 12 || memcmp(answer, "HTTP/1.1 101", 12) != 0 || memcmp(answer + len - 4, "\r\n\r\n", 4) != 0)
    give_up("no upgrade: %.*s", len > 0 ? (int) len : 0, answer);
  peer->state = OPEN;
  return true;
}

static int wait_events(struct fleet *fleet, struct epoll_event *events, double until_us)
{
  if (clock_as_us(CLOCK_MONOTONIC) > until_us)
    give_up("the server does not go on: %ld messages came", fleet->done_count);
  return epoll_wait(fleet->epoll_fd, events, EVENTS, LOOK_AGAIN_MS);
}

void fleet_open(struct fleet *fleet, int count)
{
  struct epoll_event events[EVENTS];
  double until_us = clock_as_us(CLOCK_MONOTONIC) + PATIENCE_US;
  int open = 0, begun = 0;
  if (fleet->count + count > fleet->most)
    give_up("a fleet of %d at most", fleet->most);
  while (open < count) {
    for (; begun < count && begun - open < AT_A_TIME; begun++)
      begin(fleet);
    int ready = wait_events(fleet, events, until_us);
    for (int i = 0; i < ready; i++) {
      struct peer *peer = events[i].data.ptr;
      open += peer->state != OPEN && shake(peer);
    }
  }
}

/* --------------------------------------------------------------------------------------------------------------- talk */

/* `copies` masked frames, one behind the other. */
static void make_frames(struct fleet *fleet, int opcode, size_t message_bytes, int copies)
{
  static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
  size_t head = message_bytes <= 125 ? 2 : message_bytes <= 65535 ? 4 : 10;
  fleet->message_bytes = message_bytes;
  fleet->frame_len = head + sizeof mask + message_bytes;
  fleet->frames_len = fleet->frame_len * (size_t) copies;
  free(fleet->frames);
  fleet->frames = malloc(fleet->frames_len);
  if (fleet->frames == NULL)
    give_up("out of memory");
  for (int i = 0; i < copies; i++) {
    unsigned char *at = fleet->frames + fleet->frame_len * (size_t) i;
    *at++ = (unsigned char) (0x80 | opcode);
    *at++ = (unsigned char) (0x80 | (head == 2 ? message_bytes : head == 4 ? 126 : 127));
    for (size_t byte = head - 2; byte > 0; byte--)
      *at++ = (unsigned char) (message_bytes >> (8 * (byte - 1)));
    memcpy(at, mask, sizeof mask);
    at += sizeof mask;
    for (size_t byte = 0; byte < message_bytes; byte++)
      *at++ = (unsigned char) (('a' + byte % 26) ^ mask[byte % 4]);
  }
}

static void flush(struct fleet *fleet, struct peer *peer)
{
  while (peer->out_left > 0) {
    size_t len = fleet->frames_len - peer->out_at;
    if (len > peer->out_left)
      len = peer->out_left;
    ssize_t sent = send(peer->fd, fleet->frames + peer->out_at, len, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN)
      return;
    if (sent < 0)
      give_up("a message cannot be sent: %s", strerror(errno));
    peer->out_at = (peer->out_at + (size_t) sent) % fleet->frame_len;
    peer->out_left -= (size_t) sent;
  }
}

/* The header's length as far as it is known: at least 2. */
static size_t head_bytes(const struct peer *peer)
{
  if (peer->head_len < 2 || peer->head[1] < 126)
    return 2;
  return peer->head[1] == 126 ? 4 : 10;
}

static void head_complete(struct peer *peer)
{
  uint64_t len = peer->head[1];
  if (peer->head_len > 2) {
    len = 0;
    for (size_t i = 2; i < peer->head_len; i++)
      len = len << 8 | peer->head[i];
  }
  int opcode = peer->head[0] & 0x0f;
  if (opcode > 2)
    give_up("a frame of kind %d", opcode);
  peer->payload_left = len;
  peer->message_len += len;
}

static int parse(struct fleet *fleet, struct peer *peer, const unsigned char *at, size_t len)
{
  int messages = 0;
  while (len > 0) {
    if (peer->head_len < head_bytes(peer)) {
      peer->head[peer->head_len++] = *at++;
      len--;
      if (peer->head_len < head_bytes(peer))
        continue;
      head_complete(peer);
    } else {
      size_t some = peer->payload_left < len ? (size_t) peer->payload_left : len;
      peer->payload_left -= some;
      at += some;
      len -= some;
    }
    if (peer->payload_left > 0)
      continue;
    peer->head_len = 0;
    if ((peer->head[0] & 0x80) == 0)
      continue;
    if (peer->message_len != fleet->message_bytes)
      give_up("a message of %zu bytes came back", peer->message_len);
    peer->message_len = 0;
    messages++;
  }
  return messages;
}

static void work(struct fleet *fleet, struct peer *peer)
{
  ssize_t len;
  do {
    len = recv(peer->fd, read_buffer, sizeof read_buffer, 0);
    if (len == 0 || (len < 0 && errno != EAGAIN))
      give_up("the server has closed a connection");
    int messages = len > 0 ? parse(fleet, peer, read_buffer, (size_t) len) : 0;
    fleet->done_count += messages;
    if (messages > fleet->to_start)
      messages = (int) fleet->to_start;
    fleet->to_start -= messages;
    peer->out_left += (size_t) messages * fleet->frame_len;
    flush(fleet, peer);
  } while (len == (ssize_t) sizeof read_buffer); /* more will be an edge of its own */
}

static void talk(struct fleet *fleet, long count)
{
  struct epoll_event events[EVENTS];
  double until_us = clock_as_us(CLOCK_MONOTONIC) + PATIENCE_US;
  while (fleet->done_count < count) {
    int ready = wait_events(fleet, events, until_us);
    for (int i = 0; i < ready; i++)
      work(fleet, events[i].data.ptr);
  }
}

static void start(struct fleet *fleet, struct peer *peer, int messages)
{
  peer->out_left = (size_t) messages * fleet->frame_len;
  flush(fleet, peer);
}

void fleet_echo(struct fleet *fleet, int in_flight, size_t message_bytes, long count)
{
  make_frames(fleet, 2, message_bytes, in_flight);
  fleet->done_count = 0;
  fleet->to_start = count - (long) fleet->count * in_flight;
  if (fleet->to_start < 0)
    give_up("too few messages for so many in flight");
  for (int i = 0; i < fleet->count; i++)
    start(fleet, &fleet->peers[i], in_flight);
  talk(fleet, count);
}

void fleet_publish(struct fleet *fleet, int opcode, size_t message_bytes, int count)
{
  make_frames(fleet, opcode, message_bytes, 1);
  fleet->to_start = 0;
  for (int i = 0; i < count; i++) {
    fleet->done_count = 0;
    start(fleet, &fleet->peers[0], 1);
    talk(fleet, fleet->count);
  }
}
