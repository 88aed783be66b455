/* dns_server: a DNS server on loopback, UDP and TCP on one port: one thread polls both and sends answers when due */
#include "support/dns_server.h"

#include "support/blackhole.h"
#include "support/dns_message.h"
#include "support/wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TCP_MAX = 64, QUERY_MAX_BYTES = 4096, BIND_TRIES = 50 };

/* One TCP connection; its generation tells a delayed answer that the slot has a new owner. */
struct tcp_slot {
  int fd; /* -1: free */
  uint32_t generation;
  size_t in_len;
  uint8_t in[2 + QUERY_MAX_BYTES];
};

struct delayed {
  struct delayed *next;
  int64_t due_ms;
  int slot; /* -1: UDP to peer */
  uint32_t generation;
  struct sockaddr_storage peer;
  socklen_t peer_len;
  size_t len;
  uint8_t message[];
};

struct rule_entry {
  struct rule_entry *next;
  struct dns_rule rule; /* its strings belong to the entry */
};

struct query_count {
  struct query_count *next;
  uint16_t type;
  int64_t count;
  char name[DNS_NAME_BYTES];
};

struct dns_server {
  int udp_fd, tcp_fd, stop_fd;
  uint16_t port;
  pthread_t thread;
  bool runs;
  struct tcp_slot tcp[TCP_MAX]; /* the thread's */
  struct delayed *delayed;      /* the thread's */
  pthread_mutex_t mutex;        /* everything below */
  struct rule_entry *rules;
  struct query_count *counts;
  int64_t tcp_queries;
};

/* Rules and counts */

static char *copy_text(const char *text)
{
  char *copy = text != NULL ? strdup(text) : NULL;
  if (text != NULL && copy == NULL)
    support_die("out of memory");
  return copy;
}

static void rule_free(struct rule_entry *entry)
{
  free((char *) (uintptr_t) entry->rule.name);
  free((char *) (uintptr_t) entry->rule.cname);
  free((char *) (uintptr_t) entry->rule.a.addresses);
  free((char *) (uintptr_t) entry->rule.aaaa.addresses);
  free(entry);
}

static struct rule_entry **find_rule(struct dns_server *server, const char *name)
{
  struct rule_entry **at = &server->rules;
  while (*at != NULL && strcasecmp((*at)->rule.name, name) != 0)
    at = &(*at)->next;
  return at;
}

static void remove_rule(struct dns_server *server, const char *name)
{
  struct rule_entry **at = find_rule(server, name);
  struct rule_entry *entry = *at;
  if (entry == NULL)
    return;
  *at = entry->next;
  rule_free(entry);
}

void dns_server_set(struct dns_server *server, const struct dns_rule *rule)
{
  struct rule_entry *entry = calloc(1, sizeof *entry);
  if (entry == NULL)
    support_die("out of memory");
  entry->rule = *rule;
  entry->rule.name = copy_text(rule->name);
  entry->rule.cname = copy_text(rule->cname);
  entry->rule.a.addresses = copy_text(rule->a.addresses);
  entry->rule.aaaa.addresses = copy_text(rule->aaaa.addresses);
  pthread_mutex_lock(&server->mutex);
  remove_rule(server, rule->name);
  entry->next = server->rules;
  server->rules = entry;
  pthread_mutex_unlock(&server->mutex);
}

void dns_server_set_addresses(struct dns_server *server, const char *name, const char *addresses, uint32_t ttl_s)
{
  struct dns_type_rule typed = {.addresses = addresses, .ttl_s = ttl_s};
  dns_server_set(server, &(struct dns_rule){.name = name, .a = typed, .aaaa = typed});
}

void dns_server_remove(struct dns_server *server, const char *name)
{
  pthread_mutex_lock(&server->mutex);
  remove_rule(server, name);
  pthread_mutex_unlock(&server->mutex);
}

static void count_query(struct dns_server *server, const struct dns_question *question)
{
  struct query_count *entry = server->counts;
  while (entry != NULL && (entry->type != question->type || strcmp(entry->name, question->name) != 0))
    entry = entry->next;
  if (entry == NULL) {
    entry = calloc(1, sizeof *entry);
    if (entry == NULL)
      support_die("out of memory");
    entry->type = question->type;
    strcpy(entry->name, question->name);
    entry->next = server->counts;
    server->counts = entry;
  }
  entry->count++;
}

int64_t dns_server_queries(struct dns_server *server, const char *name, uint16_t type)
{
  int64_t sum = 0;
  pthread_mutex_lock(&server->mutex);
  for (struct query_count *entry = server->counts; entry != NULL; entry = entry->next)
    if ((type == 0 || type == entry->type) && (name == NULL || strcasecmp(name, entry->name) == 0))
      sum += entry->count;
  pthread_mutex_unlock(&server->mutex);
  return sum;
}

int64_t dns_server_tcp_queries(struct dns_server *server)
{
  pthread_mutex_lock(&server->mutex);
  int64_t count = server->tcp_queries;
  pthread_mutex_unlock(&server->mutex);
  return count;
}

/* Answers */

static void tcp_close(struct tcp_slot *slot)
{
  close(slot->fd);
  slot->fd = -1;
  slot->generation++;
  slot->in_len = 0;
}

/* An answer over TCP is far smaller than the socket's buffer, so a short write means a dead peer. */
static void deliver(struct dns_server *server, const struct delayed *answer)
{
  if (answer->slot < 0) {
    (void) sendto(server->udp_fd, answer->message, answer->len, 0, (const struct sockaddr *) &answer->peer,
                  answer->peer_len);
    return;
  }
  struct tcp_slot *slot = &server->tcp[answer->slot];
  uint8_t prefix[2] = {(uint8_t) (answer->len >> 8), (uint8_t) answer->len};
  if (slot->fd < 0 || slot->generation != answer->generation)
    return;
  if (send(slot->fd, prefix, 2, MSG_NOSIGNAL | MSG_MORE) != 2 ||
      send(slot->fd, answer->message, answer->len, MSG_NOSIGNAL) != (ssize_t) answer->len)
    tcp_close(slot);
}

/* `to` tells where to; its message is not used. */
static void answer_query(struct dns_server *server, const uint8_t *query, size_t len, const struct delayed *to)
{
  struct dns_question question;
  bool tcp = to->slot >= 0;
  if (!dns_question_parse(query, len, &question))
    return;
  struct delayed *answer = malloc(sizeof *answer + DNS_MESSAGE_BYTES);
  if (answer == NULL)
    support_die("out of memory");
  *answer = *to;
  pthread_mutex_lock(&server->mutex);
  count_query(server, &question);
  server->tcp_queries += tcp;
  struct rule_entry *entry = *find_rule(server, question.name);
  if (entry == NULL)
    entry = *find_rule(server, "*");
  const struct dns_rule *rule = entry != NULL ? &entry->rule : NULL;
  const struct dns_type_rule *typed = rule != NULL ? dns_rule_of_type(rule, question.type) : NULL;
  int64_t delay_ms = typed != NULL ? typed->delay_ms : 0;
  bool closes = tcp && typed != NULL && typed->answer == DNS_TCP_CLOSED;
  answer->len = dns_answer_write(rule, &question, query, tcp, answer->message);
  pthread_mutex_unlock(&server->mutex);
  if (closes)
    tcp_close(&server->tcp[to->slot]);
  if (answer->len > 0 && delay_ms > 0) {
    answer->due_ms = now_ms() + delay_ms;
    answer->next = server->delayed;
    server->delayed = answer;
    return;
  }
  if (answer->len > 0)
    deliver(server, answer);
  free(answer);
}

static void read_udp(struct dns_server *server)
{
  uint8_t query[QUERY_MAX_BYTES];
  struct delayed to = {.slot = -1, .peer_len = sizeof to.peer};
  ssize_t len = recvfrom(server->udp_fd, query, sizeof query, 0, (struct sockaddr *) &to.peer, &to.peer_len);
  if (len > 0)
    answer_query(server, query, (size_t) len, &to);
}

static void read_tcp(struct dns_server *server, int index)
{
  struct tcp_slot *slot = &server->tcp[index];
  ssize_t got = recv(slot->fd, slot->in + slot->in_len, sizeof slot->in - slot->in_len, 0);
  if (got <= 0) {
    if (got == 0 || errno != EAGAIN)
      tcp_close(slot);
    return;
  }
  slot->in_len += (size_t) got;
  while (slot->fd >= 0 && slot->in_len >= 2) {
    size_t len = (size_t) (slot->in[0] << 8 | slot->in[1]);
    if (len > QUERY_MAX_BYTES) {
      tcp_close(slot);
      return;
    }
    if (slot->in_len < 2 + len)
      return;
    answer_query(server, slot->in + 2, len, &(struct delayed){.slot = index, .generation = slot->generation});
    if (slot->fd < 0)
      return;
    slot->in_len -= 2 + len;
    memmove(slot->in, slot->in + 2 + len, slot->in_len);
  }
}

static void accept_tcp(struct dns_server *server)
{
  int fd = accept4(server->tcp_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0)
    return;
  for (int i = 0; i < TCP_MAX; i++)
    if (server->tcp[i].fd < 0) {
      server->tcp[i].fd = fd;
      return;
    }
  close(fd);
}

/* Returns how long to wait for the next one: a poll timeout. */
static int deliver_due(struct dns_server *server)
{
  int64_t now = now_ms(), next_ms = INT64_MAX;
  for (struct delayed **at = &server->delayed; *at != NULL;) {
    struct delayed *answer = *at;
    if (answer->due_ms <= now) {
      *at = answer->next;
      deliver(server, answer);
      free(answer);
      continue;
    }
    if (answer->due_ms < next_ms)
      next_ms = answer->due_ms;
    at = &answer->next;
  }
  return next_ms == INT64_MAX ? -1 : next_ms - now > INT_MAX ? INT_MAX : (int) (next_ms - now);
}

static void *dns_main(void *arg)
{
  struct dns_server *server = arg;
  struct pollfd fds[3 + TCP_MAX];
  for (;;) {
    int timeout_ms = deliver_due(server);
    fds[0] = (struct pollfd){.fd = server->stop_fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = server->udp_fd, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = server->tcp_fd, .events = POLLIN};
    for (int i = 0; i < TCP_MAX; i++)
      fds[3 + i] = (struct pollfd){.fd = server->tcp[i].fd, .events = POLLIN};
    if (poll(fds, 3 + TCP_MAX, timeout_ms) < 0)
      continue;
    if (fds[0].revents != 0)
      return NULL;
    if (fds[1].revents != 0)
      read_udp(server);
    for (int i = 0; i < TCP_MAX; i++)
      if (fds[3 + i].revents != 0 && server->tcp[i].fd == fds[3 + i].fd)
        read_tcp(server, i);
    if (fds[2].revents != 0)
      accept_tcp(server);
  }
}

/* Start, stop */

/* UDP on the port that TCP got; false: somebody else has it. */
static bool bind_udp(struct dns_server *server)
{
  struct sockaddr_storage addr;
  socklen_t len = sizeof addr;
  if (getsockname(server->tcp_fd, (struct sockaddr *) &addr, &len) != 0)
    return false;
  server->udp_fd = socket(addr.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (server->udp_fd >= 0 && bind(server->udp_fd, (struct sockaddr *) &addr, len) == 0)
    return true;
  if (server->udp_fd >= 0)
    close(server->udp_fd);
  server->udp_fd = -1;
  return false;
}

struct dns_server *dns_server_start(const char *address, uint16_t port)
{
  struct dns_server *server = calloc(1, sizeof *server);
  if (server == NULL)
    return NULL;
  for (int i = 0; i < TCP_MAX; i++)
    server->tcp[i].fd = -1;
  server->udp_fd = -1;
  server->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  pthread_mutex_init(&server->mutex, NULL);
  for (int tries = 0; tries < (port != 0 ? 1 : BIND_TRIES) && server->udp_fd < 0; tries++) {
    server->port = port;
    server->tcp_fd = listen_on(address, &server->port, SOMAXCONN);
    if (server->tcp_fd >= 0 && !bind_udp(server)) {
      close(server->tcp_fd);
      server->tcp_fd = -1;
    }
  }
  if (server->udp_fd >= 0) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    server->runs = pthread_create(&server->thread, NULL, dns_main, server) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  if (server->runs)
    return server;
  fprintf(stderr, "dns_server: cannot start: %s\n", strerror(errno));
  dns_server_stop(server);
  return NULL;
}

uint16_t dns_server_port(const struct dns_server *server)
{
  return server->port;
}

void dns_server_stop(struct dns_server *server)
{
  if (server == NULL)
    return;
  uint64_t one = 1;
  (void) !write(server->stop_fd, &one, sizeof one);
  if (server->runs)
    pthread_join(server->thread, NULL);
  for (int i = 0; i < TCP_MAX; i++)
    if (server->tcp[i].fd >= 0)
      close(server->tcp[i].fd);
  for (struct delayed *answer; (answer = server->delayed) != NULL; free(answer))
    server->delayed = answer->next;
  for (struct rule_entry *entry; (entry = server->rules) != NULL; rule_free(entry))
    server->rules = entry->next;
  for (struct query_count *entry; (entry = server->counts) != NULL; free(entry))
    server->counts = entry->next;
  if (server->tcp_fd >= 0)
    close(server->tcp_fd);
  if (server->udp_fd >= 0)
    close(server->udp_fd);
  close(server->stop_fd);
  pthread_mutex_destroy(&server->mutex);
  free(server);
}
