/* dial: from a host name to one connected TCP socket; addresses are raced (RFC 8305)
 *
 * The race is one step, `advance`, run when something changed: an answer came, the pace timer fired, an attempt
 * failed. It opens at most one socket that stays open. The dial ends in `win` or `fail`, each the last touch of the
 * dial. */
#include "dns/dial.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/error.h"
#include "dns/dial_error.h"
#include "dns/peers.h"

_Static_assert(CPOOL__DNS_ADDRESSES <= 32, "struct cpool__dial.tried has one bit per address");

static void advance(struct cpool__dial *dial);

/* ---- the addresses */

static bool family_ended(const struct cpool__dial *dial, int family)
{
  return dial->literal.len > 0 || cpool__lookup_answer(&dial->lookup, (enum cpool__family) family)->ended;
}

static int family_of_literal(const struct cpool__dial *dial)
{
  return dial->literal.sock.any.sa_family == AF_INET6 ? CPOOL__FAMILY_V6 : CPOOL__FAMILY_V4;
}

static int address_count(const struct cpool__dial *dial, int family)
{
  if (dial->literal.len > 0)
    return family == family_of_literal(dial) ? 1 : 0;
  return cpool__lookup_answer(&dial->lookup, (enum cpool__family) family)->count;
}

static struct cpool__address address_at(const struct cpool__dial *dial, int family, int index)
{
  struct cpool__address address =
      dial->literal.len > 0 ? dial->literal
                            : cpool__lookup_answer(&dial->lookup, (enum cpool__family) family)->addresses[index];
  cpool__address_set_port(&address, dial->port);
  return address;
}

static struct cpool__peers *peers_of(const struct cpool__dial *dial)
{
  return cpool__resolver_peers(dial->resolver);
}

static bool allowed(const struct cpool__dial *dial, const struct cpool__address *address)
{
  return dial->policy != CPOOL_ADDRESS_PUBLIC || cpool__address_public(address);
}

/* The best address of the family that was not tried and may be; forbidden ones are noted on the way. */
static bool find_in(struct cpool__dial *dial, int family, struct cpool__address *out, unsigned *bit)
{
  int count = family_ended(dial, family) ? address_count(dial, family) : 0;
  struct cpool__peer_rank best = {0};
  bool found = false;
  for (int i = 0; i < count; i++) {
    unsigned own = 1u << i;
    if ((dial->tried[family] & own) != 0)
      continue;
    struct cpool__address address = address_at(dial, family, i);
    if (!allowed(dial, &address)) {
      dial->tried[family] |= own;
      dial->refused_count++;
      dial->last_address = address;
      continue;
    }
    struct cpool__peer_rank rank = {0};
    if (count > 1)
      rank = cpool__peers_rank(peers_of(dial), &address, cpool__runtime_now_ms(dial->rt));
    if (found && !cpool__peer_better(rank, best))
      continue;
    found = true;
    best = rank;
    *out = address;
    *bit = own;
  }
  return found;
}

/* The next one to try, families in turn; not marked as tried yet. */
static bool find_next(struct cpool__dial *dial, struct cpool__address *out, int *family, unsigned *bit)
{
  *family = dial->next_family;
  if (find_in(dial, *family, out, bit))
    return true;
  *family = 1 - *family;
  return find_in(dial, *family, out, bit);
}

/* ---- the end */

static void close_attempt(struct cpool__dial_attempt *attempt)
{
  struct cpool__dial *dial = attempt->dial;
  int fd = attempt->fd;
  cpool__poller_forget(cpool__runtime_poller(dial->rt), fd);
  cpool__peers_close(peers_of(dial), attempt->peer);
  attempt->fd = -1;
  dial->open_count--;
  dial->place_held = false;
  dial->owner->closed(dial, fd);
  close(fd);
}

static void stop(struct cpool__dial *dial)
{
  dial->running = false;
  for (int i = 0; i < CPOOL__DIAL_RACE; i++)
    if (dial->attempts[i].fd >= 0)
      close_attempt(&dial->attempts[i]);
  assert(dial->open_count == 0);
  cpool__runtime_disarm(dial->rt, &dial->timer);
  cpool__task_cancel(&dial->task);
  cpool__lookup_cancel(&dial->lookup);
}

static void finish(struct cpool__dial *dial)
{
  stop(dial);
  if (dial->resolved_us != 0) {
    dial->result.dns_us = dial->literal.len > 0 ? 0 : (int64_t) (dial->resolved_us - dial->begun_us);
    dial->result.connect_us = (int64_t) (cpool__clock_us() - dial->resolved_us);
  } else {
    dial->result.dns_us = (int64_t) (cpool__clock_us() - dial->begun_us);
  }
  dial->owner->done(dial);
}

/* Those that began before the winner, and have not connected yet. */
static void note_slow(const struct cpool__dial *dial, uint64_t winner_begun_us)
{
  for (int i = 0; i < CPOOL__DIAL_RACE; i++)
    if (dial->attempts[i].fd >= 0 && dial->attempts[i].begun_us < winner_begun_us)
      cpool__peers_failed(peers_of(dial), &dial->attempts[i].address, cpool__runtime_now_ms(dial->rt));
}

static void win(struct cpool__dial_attempt *attempt)
{
  struct cpool__dial *dial = attempt->dial;
  cpool__poller_forget(cpool__runtime_poller(dial->rt), attempt->fd);
  dial->result.fd = attempt->fd;
  dial->result.address = attempt->address;
  dial->result.peer = attempt->peer;
  attempt->fd = -1;
  dial->open_count--;
  cpool__peers_worked(peers_of(dial), &attempt->address);
  note_slow(dial, attempt->begun_us);
  cpool__error_set(&dial->result.error, CPOOL_OK, CPOOL_LAYER_NONE, 0, 0, "%s", "");
  finish(dial);
}

static void fail_system(struct cpool__dial *dial, int number)
{
  cpool__dial_error_system(dial, number);
  finish(dial);
}

static void fail_memory(struct cpool__dial *dial)
{
  cpool__dial_error_memory(dial);
  finish(dial);
}

static void fail(struct cpool__dial *dial)
{
  cpool__dial_error_fill(dial);
  finish(dial);
}

/* ---- one attempt */

/* A connect to a port of this host on which nobody listens can meet itself, when the kernel picks that port for the
 * near end. */
static bool met_itself(const struct cpool__dial_attempt *attempt)
{
  struct cpool__address own;
  memset(&own, 0, sizeof own);
  own.len = sizeof own.sock;
  return getsockname(attempt->fd, &own.sock.any, &own.len) == 0 && cpool__address_equal(&own, &attempt->address);
}

static void attempt_failed(struct cpool__dial_attempt *attempt, int number)
{
  struct cpool__dial *dial = attempt->dial;
  dial->last_errno = number;
  dial->last_address = attempt->address;
  cpool__peers_failed(peers_of(dial), &attempt->address, cpool__runtime_now_ms(dial->rt));
  close_attempt(attempt);
}

static void on_connected(void *owner, int fd, uint32_t events)
{
  (void) events;
  struct cpool__dial_attempt *attempt = owner;
  struct cpool__dial *dial = attempt->dial;
  int number = 0;
  socklen_t len = sizeof number;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &len) != 0)
    number = errno;
  if (number == 0 && met_itself(attempt))
    number = ECONNREFUSED;
  if (number == 0) {
    win(attempt);
    return;
  }
  attempt_failed(attempt, number);
  cpool__runtime_disarm(dial->rt, &dial->timer); /* the next one at once */
  advance(dial);
}

enum opened {
  OPENED,
  OPEN_FAILED /* this address */,
  OPEN_REFUSED /* by the system, any address: errno */,
  OPEN_NO_MEMORY
};

static void mark_tried(struct cpool__dial *dial, int family, unsigned bit)
{
  dial->tried[family] |= bit;
  dial->tried_count += !dial->second_round;
  dial->next_family = 1 - family;
}

static enum opened open_attempt(struct cpool__dial *dial, const struct cpool__address *address, int family,
                                unsigned bit)
{
  struct cpool__dial_attempt *attempt = dial->attempts;
  while (attempt->fd >= 0)
    attempt++;
  assert(attempt < dial->attempts + CPOOL__DIAL_RACE);

  int fd = socket(address->sock.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  if (fd < 0 && (errno == EAFNOSUPPORT || errno == EPROTONOSUPPORT || errno == EACCES || errno == EPERM)) {
    dial->last_errno = errno;
    dial->last_address = *address;
    mark_tried(dial, family, bit);
    return OPEN_FAILED;
  }
  if (fd < 0)
    return OPEN_REFUSED;
  int on = 1;
  (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (cpool__poller_watch(cpool__runtime_poller(dial->rt), fd, EPOLLOUT, on_connected, attempt) != CPOOL_OK) {
    close(fd);
    return OPEN_NO_MEMORY;
  }
  mark_tried(dial, family, bit);
  attempt->address = *address;
  attempt->family = family;
  attempt->bit = bit;
  attempt->fd = fd;
  attempt->peer = cpool__peers_open(peers_of(dial), address);
  attempt->begun_us = cpool__clock_us();
  dial->open_count++;
  dial->place_held = false;
  dial->owner->opened(dial, fd);
  /* Also when it connects at once, the end comes through the poller: a connected socket is writable. */
  if (connect(fd, &address->sock.any, address->len) == 0 || errno == EINPROGRESS || errno == EINTR)
    return OPENED;
  attempt_failed(attempt, errno);
  return OPEN_FAILED;
}

/* ---- the race */

static void on_pace(struct cpool__timer *timer)
{
  advance(cpool__container_of(timer, struct cpool__dial, timer));
}

static void set_pace(struct cpool__dial *dial)
{
  if (dial->race_delay_ms >= 0)
    cpool__runtime_arm(dial->rt, &dial->timer, cpool__clock_us() / 1000 + (uint64_t) dial->race_delay_ms, on_pace);
}

/* Only in the first round: it may have been the only good address, and merely slow. */
static void give_up_oldest(struct cpool__dial *dial)
{
  struct cpool__dial_attempt *oldest = NULL;
  for (int i = 0; i < CPOOL__DIAL_RACE; i++) {
    struct cpool__dial_attempt *attempt = &dial->attempts[i];
    if (attempt->fd >= 0 && (oldest == NULL || attempt->begun_us < oldest->begun_us))
      oldest = attempt;
  }
  assert(oldest != NULL);
  dial->given_up[oldest->family] |= oldest->bit;
  attempt_failed(oldest, ETIMEDOUT);
}

/* When all else failed, what was given up for want of a place is tried again, and nothing is given up any more. */
static bool begin_second_round(struct cpool__dial *dial)
{
  if (dial->given_up[CPOOL__FAMILY_V6] == 0 && dial->given_up[CPOOL__FAMILY_V4] == 0)
    return false;
  for (int family = 0; family < CPOOL__FAMILIES; family++) {
    dial->tried[family] &= ~dial->given_up[family];
    dial->given_up[family] = 0;
  }
  dial->second_round = true;
  return true;
}

static bool place_for_another(struct cpool__dial *dial)
{
  if (dial->open_count == 0)
    return true;
  if (dial->open_count < CPOOL__DIAL_RACE && (dial->place_held || dial->owner->grant(dial))) {
    dial->place_held = true; /* until a socket is there: making one may fail */
    return true;
  }
  return false;
}

static bool room_for_another(struct cpool__dial *dial)
{
  if (place_for_another(dial))
    return true;
  if (dial->second_round)
    return false;
  give_up_oldest(dial); /* its place went back to the owner with it */
  return place_for_another(dial);
}

/* Opens the next address. False: the race stands still until something happens, or the dial has ended. */
static bool step(struct cpool__dial *dial)
{
  struct cpool__address address;
  int family;
  unsigned bit;
  if (!find_next(dial, &address, &family, &bit)) {
    if (dial->open_count > 0 || !family_ended(dial, CPOOL__FAMILY_V6) || !family_ended(dial, CPOOL__FAMILY_V4))
      return false;
    if (begin_second_round(dial))
      return true;
    fail(dial);
    return false;
  }
  if (!room_for_another(dial)) {
    set_pace(dial);
    return false;
  }
  if (dial->resolved_us == 0)
    dial->resolved_us = cpool__clock_us();
  switch (open_attempt(dial, &address, family, bit)) {
  case OPENED:
    set_pace(dial);
    return false;
  case OPEN_FAILED:
    return true;
  case OPEN_REFUSED:
    if (dial->open_count > 0)
      set_pace(dial); /* what is open may still win; this address gets another chance then */
    else
      fail_system(dial, errno);
    return false;
  case OPEN_NO_MEMORY:
    if (dial->open_count > 0)
      set_pace(dial);
    else
      fail_memory(dial);
    return false;
  }
  return false;
}

static void advance(struct cpool__dial *dial)
{
  while (step(dial))
    continue;
}

/* ---- the answers */

static void on_patience_over(struct cpool__timer *timer)
{
  struct cpool__dial *dial = cpool__container_of(timer, struct cpool__dial, timer);
  dial->patient = false;
  advance(dial);
}

/* An answer came. Before the race: begin it, or be patient for the preferred family. In the race: join, at the pace
 * that is set. */
static void on_lookup(struct cpool__lookup *lookup)
{
  struct cpool__dial *dial = cpool__container_of(lookup, struct cpool__dial, lookup);
  int first = dial->next_family;
  if (dial->resolved_us != 0) {
    if (!cpool__timer_armed(&dial->timer) && (dial->race_delay_ms >= 0 || dial->open_count == 0))
      advance(dial);
    return;
  }
  bool other_usable = family_ended(dial, 1 - first) && address_count(dial, 1 - first) > 0;
  if (!family_ended(dial, first) && other_usable) {
    if (!dial->patient) {
      dial->patient = true;
      cpool__runtime_arm(dial->rt, &dial->timer, cpool__clock_us() / 1000 + CPOOL__DIAL_V6_PATIENCE_MS,
                         on_patience_over);
    }
    return;
  }
  dial->patient = false;
  cpool__runtime_disarm(dial->rt, &dial->timer);
  advance(dial);
}

static void begin_literal(struct cpool__task *task)
{
  advance(cpool__container_of(task, struct cpool__dial, task));
}

/* ---- the calls */

int cpool__dial_start(struct cpool__dial *dial)
{
  assert(!dial->running);
  dial->result.fd = -1;
  dial->result.peer = NULL;
  dial->begun_us = cpool__clock_us();
  dial->next_family = dial->prefer_family == AF_INET ? CPOOL__FAMILY_V4 : CPOOL__FAMILY_V6;
  dial->task.fn = begin_literal;
  for (int i = 0; i < CPOOL__DIAL_RACE; i++) {
    dial->attempts[i].dial = dial;
    dial->attempts[i].fd = -1;
  }
  if (cpool__address_parse(&dial->literal, dial->host, dial->port)) {
    cpool__runtime_defer(dial->rt, &dial->task);
  } else {
    int status = cpool__lookup_start(dial->resolver, &dial->lookup, dial->host, on_lookup);
    if (status != CPOOL_OK)
      return status;
  }
  dial->running = true;
  return CPOOL_OK;
}

void cpool__dial_cancel(struct cpool__dial *dial)
{
  if (dial->running)
    stop(dial);
}
