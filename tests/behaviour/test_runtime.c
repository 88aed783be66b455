/* test_runtime: in each mode of the loop, what is given to it runs, on the loop, in order and in time */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>

#include "behaviour/runtime_fixture.h"

/* --------------------------------------------------------------------------------------------------------- messages */

enum { SENDERS = 4, PER_SENDER = 25000 };

struct numbered {
  struct cpool__msg msg;
  struct flood *flood;
  int sender, number;
};

struct flood {
  struct fixture *f;
  struct numbered *msgs;
  pthread_t threads[SENDERS];
  atomic_int senders;
  int next[SENDERS], received, disorders;
  atomic_bool done;
};

static void on_numbered(struct cpool__msg *msg)
{
  struct numbered *numbered = cpool__container_of(msg, struct numbered, msg);
  struct flood *flood = numbered->flood;
  flood->disorders += numbered->number != flood->next[numbered->sender]++;
  if (++flood->received == SENDERS * PER_SENDER)
    atomic_store(&flood->done, true);
}

static void *send_all(void *arg)
{
  struct flood *flood = arg;
  int sender = atomic_fetch_add(&flood->senders, 1);
  for (int i = 0; i < PER_SENDER; i++) {
    struct numbered *numbered = &flood->msgs[sender * PER_SENDER + i];
    *numbered = (struct numbered){.msg.fn = on_numbered, .flood = flood, .sender = sender, .number = i};
    cpool__runtime_post(flood->f->rt, &numbered->msg);
  }
  return NULL;
}

static void posts_of_four_threads_all_arrive_in_order_per_sender(void **state)
{
  struct fixture *f = *state;
  struct flood flood = {.f = f, .msgs = calloc(SENDERS * PER_SENDER, sizeof(struct numbered))};
  assert_non_null(flood.msgs);
  for (int s = 0; s < SENDERS; s++)
    assert_int_equal(pthread_create(&flood.threads[s], NULL, send_all, &flood), 0);
  run_until(f, &flood.done);
  for (int s = 0; s < SENDERS; s++)
    pthread_join(flood.threads[s], NULL);
  assert_int_equal(flood.disorders, 0);
  free(flood.msgs);
}

struct place {
  bool on_loop, may_wait, manual;
  int step, fd, freed;
  char name[16];
  sigset_t blocked;
};

static void look_around(struct fixture *f, void *arg)
{
  struct place *place = arg;
  place->on_loop = cpool__runtime_on_loop(f->rt);
  place->may_wait = cpool__runtime_may_wait(f->rt);
  place->step = cpool_runtime_step(f->rt, 0);
  place->freed = cpool_runtime_free(f->rt);
  pthread_getname_np(pthread_self(), place->name, sizeof place->name);
  pthread_sigmask(SIG_SETMASK, NULL, &place->blocked);
}

static void messages_run_on_the_loop_where_nothing_may_wait(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(cpool__runtime_on_loop(f->rt), f->mode == UV);
  assert_int_equal(cpool__runtime_may_wait(f->rt), f->mode != UV);
  struct place place = {0};
  on_loop(f, look_around, &place);
  assert_true(place.on_loop);
  assert_false(place.may_wait);
  assert_int_equal(place.step, f->mode == MANUAL ? CPOOL_EDEADLK : CPOOL_EINVAL);
  assert_int_equal(place.freed, CPOOL_EDEADLK);
}

static void the_thread_is_named_and_takes_no_signals(void **state)
{
  struct fixture *f = *state;
  struct place place = {0};
  on_loop(f, look_around, &place);
  assert_string_equal(place.name, "cpool");
  assert_true(sigismember(&place.blocked, SIGTERM));
  assert_true(sigismember(&place.blocked, SIGCHLD));
  sigset_t mine;
  pthread_sigmask(SIG_SETMASK, NULL, &mine);
  assert_false(sigismember(&mine, SIGTERM));
}

static void a_batch_of_posts_costs_one_wake_up(void **state)
{
  struct fixture *f = *state;
  struct call calls[100];
  for (int i = 0; i < 100; i++) {
    call_init(&calls[i], f, do_nothing, NULL);
    post_from_another_thread(&calls[i]);
  }
  uint64_t wakes_before = f->rt->wake_count;
  run_until(f, &calls[99].done);
  assert_int_equal(f->rt->wake_count - wakes_before, 1);
}

/* ------------------------------------------------------------------------------------------------------------ tasks */

static void a_task_runs_once_in_its_turn_and_late_ones_last(void **state)
{
  struct fixture *f = *state;
  struct chores chores = {0};
  on_loop(f, give_chores, &chores);
  run_until(f, &chores.done);
  assert_int_equal(chores.once_count, 1);
  assert_int_equal(chores.late_count, 1);
  assert_int_equal(chores.cancelled_count, 0);
  assert_int_equal(chores.once_turn, chores.deferred_turn);
  assert_int_equal(chores.late_turn, chores.deferred_turn);
  assert_true(chores.once_order < chores.late_order);
}

static void get_turn_count(struct fixture *f, void *arg)
{
  *(uint64_t *) arg = f->rt->turn_count;
}

static void a_task_that_defers_itself_goes_on_over_many_turns(void **state)
{
  struct fixture *f = *state;
  struct chores chores = {0};
  uint64_t before, after;
  on_loop(f, get_turn_count, &before);
  on_loop(f, give_chores, &chores);
  run_until(f, &chores.done);
  on_loop(f, get_turn_count, &after);
  assert_int_equal(chores.again_count, 100);
  assert_in_range(after - before, 100 / 8, 200);
}

/* ----------------------------------------------------------------------------------------------------------- timers */

static void timers_fire_in_time_and_never_early(void **state)
{
  struct fixture *f = *state;
  struct alarms all = {.f = f};
  on_loop(f, arm_all, &all);
  run_until(f, &all.done);
  uint64_t earliest_late_us = UINT64_MAX;
  for (int i = 0; i < TIMERS; i++) {
    assert_true(all.alarms[i].fired_us >= all.alarms[i].due_ms * 1000);
    uint64_t late_us = all.alarms[i].fired_us - all.alarms[i].due_ms * 1000;
    assert_in_range(late_us, 0, 1000 * 1000); /* a machine under load */
    if (late_us < earliest_late_us && i != 6)
      earliest_late_us = late_us;
  }
  assert_in_range(earliest_late_us, 0, 5000); /* the rule, met at least once */
  assert_int_equal(all.cancelled_fired, 0);
}

/* A turn that itself takes long, then a short timer: libuv's cached time is old by then. */
static void arm_after_long_work(struct fixture *f, void *arg)
{
  struct alarms *all = arg;
  uint64_t until_us = cpool__clock_us() + 60000;
  while (cpool__clock_us() < until_us)
    ;
  struct alarm *alarm = &all->alarms[0];
  alarm->all = all;
  all->fired = TIMERS - 1;
  alarm->due_ms = cpool__clock_us() / 1000 + 30;
  cpool__runtime_arm(f->rt, &alarm->timer, alarm->due_ms, on_alarm);
}

static void long_work_before_the_wait_does_not_delay_timers(void **state)
{
  struct fixture *f = *state;
  uint64_t best_us = UINT64_MAX;
  for (int i = 0; i < 5 && best_us > 20000; i++) {
    struct alarms all = {.f = f};
    on_loop(f, arm_after_long_work, &all);
    run_until(f, &all.done);
    assert_true(all.alarms[0].fired_us >= all.alarms[0].due_ms * 1000);
    uint64_t late_us = all.alarms[0].fired_us - all.alarms[0].due_ms * 1000;
    if (late_us < best_us)
      best_us = late_us;
  }
  assert_in_range(best_us, 0, 20000);
}

/* --------------------------------------------------------------------------------------------------------- delivery */

struct parcel {
  struct cpool__event event;
  atomic_int called, released;
};

static atomic_bool parcel_released;

static void on_parcel_event(const cpool_event *event)
{
  struct parcel *parcel = event->user;
  atomic_store(&parcel->called, atomic_load(&parcel->released) == 0 && cpool__callback_depth > 0 ? 1 : 100);
}

static void release_parcel(struct cpool__event *event)
{
  atomic_fetch_add(&cpool__container_of(event, struct parcel, event)->released, 1);
  atomic_store(&parcel_released, true);
}

static void deliver_to_callback(struct fixture *f, void *arg)
{
  struct parcel *parcel = arg;
  parcel->event.event.user = parcel;
  parcel->event.fn = on_parcel_event;
  parcel->event.release = release_parcel;
  cpool__runtime_deliver(f->rt, &parcel->event);
}

static void an_event_reaches_its_callback_and_is_released_after_it(void **state)
{
  struct fixture *f = *state;
  struct parcel parcel = {0};
  atomic_store(&parcel_released, false);
  on_loop(f, deliver_to_callback, &parcel);
  run_until(f, &parcel_released);
  assert_int_equal(atomic_load(&parcel.called), 1);
  assert_int_equal(atomic_load(&parcel.released), 1);
}

enum { PARCELS = 30, QUEUES = 3 };

struct post_office {
  cpool_queue *queues[QUEUES];
  struct parcel parcels[PARCELS];
};

static void deliver_to_queues(struct fixture *f, void *arg)
{
  struct post_office *office = arg;
  for (int i = 0; i < PARCELS; i++) {
    struct parcel *parcel = &office->parcels[i];
    parcel->event.event.source = (uint64_t) i;
    parcel->event.event.user = parcel;
    parcel->event.queue = office->queues[i % QUEUES];
    parcel->event.release = release_parcel;
    cpool__queue_hold(parcel->event.queue);
    cpool__runtime_deliver(f->rt, &parcel->event);
  }
}

static void events_reach_their_queues_in_order(void **state)
{
  struct fixture *f = *state;
  static struct post_office office;
  memset(&office, 0, sizeof office);
  for (int q = 0; q < QUEUES; q++)
    assert_int_equal(cpool_queue_new(&office.queues[q], NULL), CPOOL_OK);
  on_loop(f, deliver_to_queues, &office);
  on_loop(f, do_nothing, NULL); /* a turn later the queues are filled and dropped */
  for (int q = 0; q < QUEUES; q++) {
    const cpool_event *events[PARCELS];
    assert_int_equal(cpool_queue_wait(office.queues[q], events, PARCELS, 0), PARCELS / QUEUES);
    for (int i = 0; i < PARCELS / QUEUES; i++)
      assert_int_equal(events[i]->source, i * QUEUES + q);
    cpool_queue_release(office.queues[q], events, PARCELS / QUEUES);
    assert_int_equal(cpool_queue_free(office.queues[q]), CPOOL_OK);
  }
  for (int i = 0; i < PARCELS; i++)
    assert_int_equal(atomic_load(&office.parcels[i].released), 1);
}

/* ---------------------------------------------------------------------------------------------------------- sockets */

static void a_ready_socket_is_served(void **state)
{
  struct fixture *f = *state;
  struct door door;
  open_door(f, &door);
  for (int i = 0; i < 3; i++) {
    atomic_store(&door.rung, false);
    eventfd_write(door.fd, 1);
    run_until(f, &door.rung);
  }
  close_door(f, &door);
}

static void a_socket_that_was_ready_first_is_served_before_the_message(void **state)
{
  struct fixture *f = *state;
  struct door door;
  open_door(f, &door);
  for (int i = 0; i < 200; i++) {
    door.order = 0;
    eventfd_write(door.fd, 1);
    on_loop(f, note_message, &door);
    assert_int_equal(door.rung_order, 1);
    assert_int_equal(door.message_order, 2);
  }
  close_door(f, &door);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      IN_ALL(posts_of_four_threads_all_arrive_in_order_per_sender),
      IN_ALL(messages_run_on_the_loop_where_nothing_may_wait),
      IN(THREAD, the_thread_is_named_and_takes_no_signals),
      IN(UV, a_batch_of_posts_costs_one_wake_up),
      IN(MANUAL, a_batch_of_posts_costs_one_wake_up),
      IN_ALL(a_task_runs_once_in_its_turn_and_late_ones_last),
      IN_ALL(a_task_that_defers_itself_goes_on_over_many_turns),
      IN_ALL(timers_fire_in_time_and_never_early),
      IN_ALL(long_work_before_the_wait_does_not_delay_timers),
      IN_ALL(an_event_reaches_its_callback_and_is_released_after_it),
      IN_ALL(events_reach_their_queues_in_order),
      IN_ALL(a_ready_socket_is_served),
      IN_ALL(a_socket_that_was_ready_first_is_served_before_the_message),
  };
  return cmocka_run_group_tests(tests, warm_up, NULL);
}
