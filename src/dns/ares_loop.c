/* ares_loop: the one bridge between c-ares and the loop: questions in, decoded answers out
 *
 * c-ares calls back from inside nearly every one of its functions. Here nothing but counting happens inside such a
 * call: channels are destroyed by a deferred task, and the user's function may not come back in. */
#include "dns/ares_loop.h"

#include <ares.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/list.h"
#include "base/memory.h"

enum {
  DNS_PORT = 53,
  SERVERS_MAX = 8,
  TRIES = 3, /* per server; c-ares doubles the time of each round: 1 + 2 + 4 */
  ROUNDS_SUM = 7,
  EDNS_BYTES = 1232,     /* fits any path without fragments (DNS flag day 2020) */
  RESOLV_CHECK_MS = 1000 /* resolv.conf is looked at once in this time */
};

struct channel {
  struct cpool__link link; /* among the retired ones */
  struct cpool__ares_loop *loop;
  ares_channel ares;
  struct cpool__timer timer;
  int question_count;
  int socket_errno; /* why there was no socket for a question since the last one was put; 0: there was */
};

struct cpool__ares_loop {
  cpool_runtime *rt;
  char *resolv_path;
  struct cpool__address servers[SERVERS_MAX];
  int server_count; /* 0: those of resolv.conf */
  int64_t timeout_ms;
  int open_errno; /* resolv.conf could not be opened for want of a descriptor, when the last channel was made; else 0 */
  struct channel *current; /* made with the first question */
  struct cpool__list retired;
  struct cpool__task sweep; /* destroys retired channels without questions */
  struct stat resolv;       /* zeroed: no file */
  uint64_t resolv_checked_ms;
};

struct question {
  struct channel *channel;
  cpool__ares_fn *fn;
  void *argument;
  int family; /* AF_... */
};

/* ---- sockets: made close-on-exec in one step, so that no fork of another thread can inherit one */

static void on_ready(void *owner, int fd, uint32_t events);

/* Of this process or machine: nothing that another server, or asking again, would mend. */
static bool is_shortage(int number)
{
  return number == EMFILE || number == ENFILE || number == ENOBUFS || number == ENOMEM;
}

/* Its record in the poller is made here, where it can still fail: c-ares does not hear of a failure to watch. */
static ares_socket_t socket_open(int family, int type, int protocol, void *user)
{
  struct channel *channel = user;
  int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd < 0 && is_shortage(errno))
    channel->socket_errno = errno;
  if (fd >= 0 && cpool__poller_watch(cpool__runtime_poller(channel->loop->rt), fd, 0, on_ready, channel) != CPOOL_OK) {
    close(fd);
    errno = channel->socket_errno = ENOMEM;
    return ARES_SOCKET_BAD;
  }
  return fd;
}

static int socket_close(ares_socket_t fd, void *user)
{
  struct channel *channel = user;
  cpool__poller_forget(cpool__runtime_poller(channel->loop->rt), fd);
  return close(fd);
}

static int socket_connect(ares_socket_t fd, const struct sockaddr *address, ares_socklen_t len, void *user)
{
  (void) user;
  return connect(fd, address, len);
}

static ares_ssize_t socket_receive(ares_socket_t fd, void *data, size_t size, int flags, struct sockaddr *from,
                                   ares_socklen_t *from_len, void *user)
{
  (void) user;
  return recvfrom(fd, data, size, flags, from, from_len);
}

static ares_ssize_t socket_send(ares_socket_t fd, const struct iovec *parts, int count, void *user)
{
  (void) user;
  struct msghdr message = {.msg_iov = (struct iovec *) (uintptr_t) parts, .msg_iovlen = (size_t) count};
  return sendmsg(fd, &message, MSG_NOSIGNAL); /* a server that closed its TCP end must not raise SIGPIPE */
}

static const struct ares_socket_functions socket_functions = {socket_open, socket_close, socket_connect, socket_receive,
                                                              socket_send};

/* ---- the channel on the loop */

static void on_due(struct cpool__timer *timer);

static void set_timer(struct channel *channel)
{
  struct timeval wait;
  if (ares_timeout(channel->ares, NULL, &wait) == NULL) {
    cpool__runtime_disarm(channel->loop->rt, &channel->timer);
    return;
  }
  /* Rounded up, so that the time is over when the timer fires. */
  uint64_t wait_ms = (uint64_t) wait.tv_sec * 1000 + (uint64_t) wait.tv_usec / 1000 + 1;
  cpool__runtime_arm(channel->loop->rt, &channel->timer, cpool__clock_us() / 1000 + wait_ms, on_due);
}

static void on_due(struct cpool__timer *timer)
{
  struct channel *channel = cpool__container_of(timer, struct channel, timer);
  ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  set_timer(channel);
}

static void on_ready(void *owner, int fd, uint32_t events)
{
  struct channel *channel = owner;
  bool failed = (events & (EPOLLERR | EPOLLHUP)) != 0;
  ares_socket_t readable = failed || (events & EPOLLIN) != 0 ? fd : ARES_SOCKET_BAD;
  ares_socket_t writable = failed || (events & EPOLLOUT) != 0 ? fd : ARES_SOCKET_BAD;
  ares_process_fd(channel->ares, readable, writable);
  set_timer(channel);
}

/* c-ares says that it is interested, or (neither) that it is about to close the socket. */
static void on_interest(void *data, ares_socket_t fd, int readable, int writable)
{
  struct channel *channel = data;
  struct cpool__poller *poller = cpool__runtime_poller(channel->loop->rt);
  uint32_t want = (readable ? (uint32_t) EPOLLIN : 0) | (writable ? (uint32_t) EPOLLOUT : 0);
  if (want == 0)
    cpool__poller_forget(poller, fd);
  else
    (void) cpool__poller_watch(poller, fd, want, on_ready, channel); /* it has its record */
}

static int library_status = ARES_ENOTINITIALIZED;

static void init_library(void)
{
  library_status = ares_library_init(ARES_LIB_INIT_ALL);
}

static int use_servers(struct cpool__ares_loop *loop, ares_channel ares)
{
  struct ares_addr_port_node nodes[SERVERS_MAX];
  memset(nodes, 0, sizeof nodes);
  for (int i = 0; i < loop->server_count; i++) {
    const struct cpool__address *server = &loop->servers[i];
    nodes[i].next = i + 1 < loop->server_count ? &nodes[i + 1] : NULL;
    nodes[i].family = server->sock.any.sa_family;
    if (nodes[i].family == AF_INET)
      nodes[i].addr.addr4 = server->sock.v4.sin_addr;
    else
      memcpy(&nodes[i].addr.addr6, &server->sock.v6.sin6_addr, sizeof nodes[i].addr.addr6);
    nodes[i].udp_port = nodes[i].tcp_port = cpool__address_port(server);
  }
  return ares_set_servers_ports(ares, nodes);
}

/* As many as resolv.conf names, at least 1. */
static int count_servers(ares_channel ares)
{
  struct ares_addr_port_node *servers = NULL;
  int count = 0;
  if (ares_get_servers_ports(ares, &servers) == ARES_SUCCESS)
    for (struct ares_addr_port_node *at = servers; at != NULL; at = at->next)
      count++;
  if (servers != NULL)
    ares_free_data(servers);
  return count > 0 ? count : 1;
}

static int init_channel(struct channel *channel, int server_count)
{
  char lookups[] = "b"; /* the hosts file is read elsewhere, without blocking once per question */
  struct ares_options options = {
      .flags = ARES_FLAG_EDNS | ARES_FLAG_NOALIASES, /* NOALIASES: no $HOSTALIASES file */
      .tries = TRIES,
      .lookups = lookups,
      .sock_state_cb = on_interest,
      .sock_state_cb_data = channel,
      .ednspsz = EDNS_BYTES,
      .resolvconf_path = channel->loop->resolv_path,
  };
  int mask = ARES_OPT_FLAGS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB | ARES_OPT_EDNSPSZ |
             ARES_OPT_NOROTATE | ARES_OPT_RESOLVCONF;
  if (channel->loop->timeout_ms > 0) {
    int64_t round_ms = channel->loop->timeout_ms / (ROUNDS_SUM * server_count);
    options.timeout = round_ms < 1 ? 1 : round_ms > 60000 ? 60000 : (int) round_ms;
    mask |= ARES_OPT_TIMEOUTMS;
  }
  int native = ares_init_options(&channel->ares, &options, mask);
  if (native == ARES_SUCCESS)
    ares_set_socket_functions(channel->ares, &socket_functions, channel);
  return native;
}

static struct channel *channel_new(struct cpool__ares_loop *loop, int *native)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, init_library);
  *native = library_status;
  if (library_status != ARES_SUCCESS)
    return NULL;

  struct channel *channel = cpool__calloc(1, sizeof *channel);
  *native = ARES_ENOMEM;
  if (channel == NULL)
    return NULL;
  channel->loop = loop;
  /* c-ares takes a file that it cannot open for none, and would go on with 127.0.0.1 for the life of the channel */
  int fd = open(loop->resolv_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
    loop->open_errno = errno;
    cpool__free(channel);
    return NULL;
  }
  if (fd >= 0)
    close(fd);
  *native = init_channel(channel, loop->server_count > 0 ? loop->server_count : 1);
  if (*native == ARES_SUCCESS && loop->server_count > 0) {
    *native = use_servers(loop, channel->ares);
    if (*native != ARES_SUCCESS)
      ares_destroy(channel->ares);
  } else if (*native == ARES_SUCCESS) {
    /* The time of a try is an option of the making, the number of servers is known only afterwards. */
    int server_count = count_servers(channel->ares);
    if (server_count > 1) {
      ares_destroy(channel->ares);
      *native = init_channel(channel, server_count);
    }
  }
  if (*native == ARES_SUCCESS)
    return channel;
  cpool__free(channel);
  return NULL;
}

static void channel_free(struct channel *channel)
{
  if (channel == NULL)
    return;
  ares_destroy(channel->ares); /* answers its questions */
  assert(channel->question_count == 0);
  cpool__runtime_disarm(channel->loop->rt, &channel->timer);
  cpool__link_remove(&channel->link);
  cpool__free(channel);
}

static void sweep(struct cpool__task *task)
{
  struct cpool__ares_loop *loop = cpool__container_of(task, struct cpool__ares_loop, sweep);
  struct cpool__link *link = cpool__list_first(&loop->retired);
  while (link != NULL) {
    struct channel *channel = cpool__container_of(link, struct channel, link);
    link = cpool__list_next(&loop->retired, link);
    if (channel->question_count == 0)
      channel_free(channel);
  }
}

static void retire_current(struct cpool__ares_loop *loop)
{
  if (loop->current == NULL)
    return;
  cpool__list_push_back(&loop->retired, &loop->current->link);
  loop->current = NULL;
  cpool__runtime_defer(loop->rt, &loop->sweep);
}

/* ---- answers */

static int status_of(int native, bool any)
{
  switch (native) {
  case ARES_SUCCESS:
    return any ? CPOOL_OK : CPOOL_EDNS_NOTFOUND;
  case ARES_ENODATA:
  case ARES_ENOTFOUND:
  case ARES_EBADNAME:
    return CPOOL_EDNS_NOTFOUND;
  case ARES_ENOMEM:
    return CPOOL_ENOMEM;
  default:
    return CPOOL_EDNS_FAILED;
  }
}

static void add_node(struct cpool__ares_answer *answer, const struct ares_addrinfo_node *node)
{
  struct cpool__address address;
  memset(&address, 0, sizeof address);
  if (answer->count == CPOOL__DNS_ADDRESSES || node->ai_addrlen > sizeof address.sock)
    return;
  memcpy(&address.sock, node->ai_addr, node->ai_addrlen);
  address.len = node->ai_addrlen;
  cpool__address_set_port(&address, 0);
  for (int i = 0; i < answer->count; i++)
    if (cpool__address_equal(&answer->addresses[i], &address))
      return;
  answer->addresses[answer->count++] = address;
}

/* A TTL with its highest bit set counts as 0 (RFC 2181 section 8). */
static void shorten(int64_t *shortest_s, int ttl_s)
{
  int64_t ttl = ttl_s < 0 ? 0 : ttl_s;
  if (*shortest_s < 0 || ttl < *shortest_s)
    *shortest_s = ttl;
}

static void on_answer(void *argument, int native, int timeouts, struct ares_addrinfo *info)
{
  (void) timeouts;
  struct question question = *(struct question *) argument;
  cpool__free(argument);

  struct cpool__ares_answer answer = {.native = native};
  int64_t shortest_s = -1;
  if (native == ARES_SUCCESS && info != NULL) {
    for (const struct ares_addrinfo_node *node = info->nodes; node != NULL; node = node->ai_next) {
      if (node->ai_family != question.family)
        continue;
      shorten(&shortest_s, node->ai_ttl);
      add_node(&answer, node);
    }
    for (const struct ares_addrinfo_cname *cname = info->cnames; cname != NULL; cname = cname->next)
      shorten(&shortest_s, cname->ttl);
  }
  if (info != NULL)
    ares_freeaddrinfo(info);
  answer.ttl_ms = shortest_s < 0 ? 0 : shortest_s * 1000;
  answer.status = status_of(native, answer.count > 0);
  int number = question.channel->socket_errno;
  if (answer.status == CPOOL_EDNS_FAILED && native != ARES_EDESTRUCTION && number != 0) {
    answer.status = number == ENOMEM ? CPOOL_ENOMEM : CPOOL_ESYSTEM;
    answer.native = number == ENOMEM ? ARES_ENOMEM : number;
  }

  struct channel *channel = question.channel;
  channel->question_count--;
  if (channel->question_count == 0 && channel != channel->loop->current && native != ARES_EDESTRUCTION)
    cpool__runtime_defer(channel->loop->rt, &channel->loop->sweep);
  question.fn(question.argument, &answer);
}

/* ---- the loop's side */

static bool parse_servers(struct cpool__ares_loop *loop, const char *text)
{
  for (;;) {
    size_t len = strcspn(text, ",");
    if (loop->server_count == SERVERS_MAX ||
        !cpool__address_parse_with_port(&loop->servers[loop->server_count], text, len, DNS_PORT))
      return false;
    loop->server_count++;
    if (text[len] == '\0')
      return true;
    text += len + 1;
  }
}

int cpool__ares_loop_new(struct cpool__ares_loop **out, cpool_runtime *rt, const char *servers, const char *resolv_conf)
{
  struct cpool__ares_loop *loop = cpool__calloc(1, sizeof *loop);
  if (loop == NULL)
    return CPOOL_ENOMEM;
  loop->rt = rt;
  loop->sweep.fn = sweep;
  cpool__list_init(&loop->retired);
  if (servers != NULL && !parse_servers(loop, servers)) {
    cpool__free(loop);
    return CPOOL_EINVAL;
  }
  loop->resolv_path = cpool__strdup(resolv_conf != NULL ? resolv_conf : "/etc/resolv.conf");
  if (loop->resolv_path == NULL) {
    cpool__free(loop);
    return CPOOL_ENOMEM;
  }
  *out = loop;
  return CPOOL_OK;
}

void cpool__ares_loop_free(struct cpool__ares_loop *loop)
{
  if (loop == NULL)
    return;
  channel_free(loop->current);
  struct cpool__link *link;
  while ((link = cpool__list_first(&loop->retired)) != NULL)
    channel_free(cpool__container_of(link, struct channel, link));
  cpool__task_cancel(&loop->sweep);
  cpool__free(loop->resolv_path);
  cpool__free(loop);
}

void cpool__ares_loop_set_timeout(struct cpool__ares_loop *loop, int64_t timeout_ms)
{
  if (timeout_ms == loop->timeout_ms)
    return;
  loop->timeout_ms = timeout_ms;
  retire_current(loop);
}

static void follow_resolv_conf(struct cpool__ares_loop *loop)
{
  uint64_t now_ms = cpool__runtime_now_ms(loop->rt);
  if (loop->server_count > 0 || (loop->current != NULL && now_ms - loop->resolv_checked_ms < RESOLV_CHECK_MS))
    return;
  struct stat st;
  if (stat(loop->resolv_path, &st) != 0)
    memset(&st, 0, sizeof st);
  if (st.st_ino != loop->resolv.st_ino || st.st_dev != loop->resolv.st_dev || st.st_size != loop->resolv.st_size ||
      st.st_mtim.tv_sec != loop->resolv.st_mtim.tv_sec || st.st_mtim.tv_nsec != loop->resolv.st_mtim.tv_nsec)
    retire_current(loop);
  loop->resolv = st;
  loop->resolv_checked_ms = now_ms;
}

int cpool__ares_loop_ask(struct cpool__ares_loop *loop, const char *name, enum cpool__family family, cpool__ares_fn *fn,
                         void *argument, int *native)
{
  follow_resolv_conf(loop);
  loop->open_errno = 0;
  if (loop->current == NULL)
    loop->current = channel_new(loop, native);
  struct channel *channel = loop->current;
  if (channel == NULL && loop->open_errno != 0) {
    *native = loop->open_errno;
    return CPOOL_ESYSTEM;
  }
  if (channel == NULL)
    return *native == ARES_ENOMEM ? CPOOL_ENOMEM : CPOOL_EDNS_FAILED;

  struct question *question = cpool__malloc(sizeof *question);
  *native = ARES_ENOMEM;
  if (question == NULL)
    return CPOOL_ENOMEM;
  int af = family == CPOOL__FAMILY_V6 ? AF_INET6 : AF_INET;
  *question = (struct question){.channel = channel, .fn = fn, .argument = argument, .family = af};
  channel->question_count++;
  channel->socket_errno = 0;
  const struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT, .ai_family = af};
  ares_getaddrinfo(channel->ares, name, NULL, &hints, on_answer, question);
  set_timer(channel);
  *native = ARES_SUCCESS;
  return CPOOL_OK;
}
