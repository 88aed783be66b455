/* test_poller: interest counts at once and is applied once; events of an earlier life of an fd are dropped */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cpool.h>

#include "core/poller.h"

enum { PAIRS = 300 }; /* more than one batch */

struct fixture {
  struct cpool__poller poller;
  int near[PAIRS], far[PAIRS]; /* both ends of socket pairs; -1: not open */
  int calls, last_fd;
  uint32_t last_events;
  void *last_owner;
  int victim, drop; /* what the callback forgets, or wants nothing of, or -1 */
};

static int setup(void **state)
{
  static struct fixture f;
  f = (struct fixture){.last_fd = -1, .victim = -1, .drop = -1};
  for (int i = 0; i < PAIRS; i++)
    f.near[i] = f.far[i] = -1;
  *state = &f;
  return cpool__poller_init(&f.poller);
}

static int teardown(void **state)
{
  struct fixture *f = *state;
  cpool__poller_fini(&f->poller);
  for (int i = 0; i < PAIRS; i++) {
    if (f->near[i] >= 0)
      close(f->near[i]);
    if (f->far[i] >= 0)
      close(f->far[i]);
  }
  return 0;
}

static void make_pair(struct fixture *f, int i)
{
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  f->near[i] = ends[0];
  f->far[i] = ends[1];
}

static void make_readable(struct fixture *f, int i)
{
  assert_int_equal(send(f->far[i], "x", 1, MSG_NOSIGNAL), 1);
}

static void on_event(void *owner, int fd, uint32_t events)
{
  struct fixture *f = owner;
  f->calls++;
  f->last_fd = fd;
  f->last_events = events;
  f->last_owner = owner;
  if (f->victim >= 0) {
    int victim = fd == f->near[0] ? f->near[1] : f->near[0];
    cpool__poller_forget(&f->poller, victim);
    close(victim);
    /* The lowest free number: the victim's. */
    int again = fcntl(f->far[2], F_DUPFD_CLOEXEC, victim);
    assert_int_equal(again, victim);
    assert_int_equal(cpool__poller_watch(&f->poller, victim, EPOLLIN, on_event, f), CPOOL_OK);
    f->victim = -1;
  }
  if (f->drop >= 0) {
    cpool__poller_want(&f->poller, fd == f->near[0] ? f->near[1] : f->near[0], 0);
    f->drop = -1;
  }
}

static void watch(struct fixture *f, int fd, uint32_t want)
{
  assert_int_equal(cpool__poller_watch(&f->poller, fd, want, on_event, f), CPOOL_OK);
}

static void nothing_is_registered_before_apply(void **state)
{
  struct fixture *f = *state;
  make_pair(f, 0);
  make_readable(f, 0);
  watch(f, f->near[0], EPOLLIN);
  assert_int_equal(cpool__poller_poll(&f->poller), 0);
  cpool__poller_apply(&f->poller);
  assert_int_equal(cpool__poller_poll(&f->poller), 1);
  assert_int_equal(f->calls, 1);
  assert_int_equal(f->last_fd, f->near[0]);
  assert_int_equal(f->last_events, EPOLLIN);
}

static void unread_data_is_reported_again(void **state)
{
  struct fixture *f = *state;
  make_pair(f, 0);
  make_readable(f, 0);
  watch(f, f->near[0], EPOLLIN);
  cpool__poller_apply(&f->poller);
  for (int i = 1; i <= 3; i++) {
    cpool__poller_poll(&f->poller);
    assert_int_equal(f->calls, i);
  }
}

static void interest_taken_back_silences_an_fd_before_apply(void **state)
{
  struct fixture *f = *state;
  make_pair(f, 0);
  make_readable(f, 0);
  watch(f, f->near[0], EPOLLIN);
  cpool__poller_apply(&f->poller);
  cpool__poller_want(&f->poller, f->near[0], 0);
  assert_int_equal(cpool__poller_poll(&f->poller), 1); /* still in the set */
  assert_int_equal(f->calls, 0);
  cpool__poller_apply(&f->poller);
  assert_int_equal(cpool__poller_poll(&f->poller), 0);
}

static void interest_that_flips_back_costs_no_system_call(void **state)
{
  struct fixture *f = *state;
  make_pair(f, 0);
  watch(f, f->near[0], EPOLLIN);
  cpool__poller_apply(&f->poller);
  cpool__poller_want(&f->poller, f->near[0], 0);
  cpool__poller_want(&f->poller, f->near[0], EPOLLIN | EPOLLOUT);
  cpool__poller_want(&f->poller, f->near[0], EPOLLIN);
  int epoll_fd = f->poller.epoll_fd;
  f->poller.epoll_fd = -1; /* a call would fail, and the fd be forgotten */
  cpool__poller_apply(&f->poller);
  f->poller.epoll_fd = epoll_fd;
  make_readable(f, 0);
  assert_int_equal(cpool__poller_poll(&f->poller), 1);
}

static void hang_up_is_reported_whatever_is_wanted(void **state)
{
  struct fixture *f = *state;
  make_pair(f, 0);
  watch(f, f->near[0], EPOLLPRI);
  cpool__poller_apply(&f->poller);
  close(f->far[0]);
  f->far[0] = -1;
  cpool__poller_poll(&f->poller);
  assert_int_equal(f->last_events, EPOLLHUP);
}

static void a_watched_fd_takes_a_new_owner(void **state)
{
  struct fixture *f = *state;
  make_pair(f, 0);
  watch(f, f->near[0], EPOLLIN);
  cpool__poller_apply(&f->poller);
  struct fixture other = {.victim = -1, .drop = -1};
  assert_int_equal(cpool__poller_watch(&f->poller, f->near[0], EPOLLIN, on_event, &other), CPOOL_OK);
  make_readable(f, 0);
  cpool__poller_poll(&f->poller);
  assert_int_equal(f->calls, 0);
  assert_int_equal(other.calls, 1);
}

static void a_forgotten_fd_is_out_of_the_set_at_once(void **state)
{
  struct fixture *f = *state;
  make_pair(f, 0);
  watch(f, f->near[0], EPOLLIN);
  cpool__poller_apply(&f->poller);
  int copy = dup(f->near[0]); /* as in a forked child: close alone would leave it in the set */
  cpool__poller_forget(&f->poller, f->near[0]);
  close(f->near[0]);
  f->near[0] = -1;
  make_readable(f, 0);
  assert_int_equal(cpool__poller_poll(&f->poller), 0);
  close(copy);
}

static void want_and_forget_of_strangers_are_harmless(void **state)
{
  struct fixture *f = *state;
  cpool__poller_want(&f->poller, 5, EPOLLIN);
  cpool__poller_want(&f->poller, 100000, EPOLLIN);
  cpool__poller_forget(&f->poller, 100000);
  cpool__poller_forget(&f->poller, -1);
  cpool__poller_apply(&f->poller);
  assert_int_equal(cpool__poller_poll(&f->poller), 0);
}

static void an_event_of_the_earlier_life_of_an_fd_is_dropped(void **state)
{
  struct fixture *f = *state;
  for (int i = 0; i < 3; i++)
    make_pair(f, i);
  for (int i = 0; i < 2; i++) {
    make_readable(f, i);
    watch(f, f->near[i], EPOLLIN);
  }
  cpool__poller_apply(&f->poller);
  f->victim = 1; /* the first callback replaces the other fd by one of the same number, silent */
  assert_int_equal(cpool__poller_poll(&f->poller), 2);
  assert_int_equal(f->calls, 1);
  cpool__poller_apply(&f->poller);
  f->calls = 0;
  cpool__poller_poll(&f->poller);
  assert_int_equal(f->calls, 1); /* the one that was left alone */
}

static void an_event_is_dropped_when_an_earlier_one_of_its_batch_took_the_interest(void **state)
{
  struct fixture *f = *state;
  for (int i = 0; i < 2; i++) {
    make_pair(f, i);
    make_readable(f, i);
    watch(f, f->near[i], EPOLLIN);
  }
  cpool__poller_apply(&f->poller);
  f->drop = 1;
  assert_int_equal(cpool__poller_poll(&f->poller), 2);
  assert_int_equal(f->calls, 1);
}

static void an_fd_closed_and_opened_anew_unseen_is_added_again(void **state)
{
  struct fixture *f = *state;
  make_pair(f, 0);
  make_pair(f, 1);
  int fd = f->near[0];
  watch(f, fd, EPOLLIN);
  cpool__poller_apply(&f->poller);
  assert_int_equal(dup2(f->near[1], fd), fd); /* the set loses the old one */
  make_readable(f, 1);
  cpool__poller_want(&f->poller, fd, EPOLLIN | EPOLLRDHUP);
  cpool__poller_apply(&f->poller);
  assert_int_equal(cpool__poller_poll(&f->poller), 1);
  assert_int_equal(f->last_fd, fd);
}

static void a_closed_fd_is_forgotten(void **state)
{
  struct fixture *f = *state;
  make_pair(f, 0);
  int fd = f->near[0];
  watch(f, fd, EPOLLIN);
  close(fd);
  f->near[0] = -1;
  cpool__poller_apply(&f->poller);
  assert_null(f->poller.records[fd].fn);
}

static void a_flood_of_ready_fds_is_served_in_one_poll(void **state)
{
  struct fixture *f = *state;
  for (int i = 0; i < PAIRS; i++) {
    make_pair(f, i);
    make_readable(f, i);
    watch(f, f->near[i], EPOLLIN);
  }
  cpool__poller_apply(&f->poller);
  assert_in_range(cpool__poller_poll(&f->poller), PAIRS, 4 * 256);
  assert_in_range(f->calls, PAIRS, 4 * 256);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(nothing_is_registered_before_apply),
      CASE(unread_data_is_reported_again),
      CASE(interest_taken_back_silences_an_fd_before_apply),
      CASE(interest_that_flips_back_costs_no_system_call),
      CASE(hang_up_is_reported_whatever_is_wanted),
      CASE(a_watched_fd_takes_a_new_owner),
      CASE(a_forgotten_fd_is_out_of_the_set_at_once),
      CASE(want_and_forget_of_strangers_are_harmless),
      CASE(an_event_of_the_earlier_life_of_an_fd_is_dropped),
      CASE(an_event_is_dropped_when_an_earlier_one_of_its_batch_took_the_interest),
      CASE(an_fd_closed_and_opened_anew_unseen_is_added_again),
      CASE(a_closed_fd_is_forgotten),
      CASE(a_flood_of_ready_fds_is_served_in_one_poll),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
