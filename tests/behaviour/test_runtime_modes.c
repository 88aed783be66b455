/* test_runtime_modes: manners on a host's loop, and a descriptor that tells a foreign loop everything */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>

#include "behaviour/runtime_fixture.h"

/* ------------------------------------------------------------------------------------------------------ host's loop */

static void uv_run_returns_when_nothing_is_live(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(uv_run(&f->uv, UV_RUN_DEFAULT), 0);
  struct call call;
  call_init(&call, f, do_nothing, NULL);
  cpool__runtime_post(f->rt, &call.msg);
  assert_int_equal(uv_run(&f->uv, UV_RUN_DEFAULT), 0);
  assert_true(atomic_load(&call.done)); /* but not before what was posted on its thread has run */
}

struct kept {
  struct fixture *f;
  struct cpool__timer timer;
  bool fired;
};

static void end_work(struct cpool__timer *timer)
{
  struct kept *kept = cpool__container_of(timer, struct kept, timer);
  kept->fired = true;
  cpool__runtime_keep(kept->f->rt, -1);
}

static void begin_work(struct fixture *f, void *arg)
{
  struct kept *kept = arg;
  cpool__runtime_keep(f->rt, 1);
  cpool__runtime_arm(f->rt, &kept->timer, cpool__runtime_now_ms(f->rt) + 40, end_work);
}

static void uv_run_goes_on_while_work_is_in_flight(void **state)
{
  struct fixture *f = *state;
  struct kept kept = {.f = f};
  struct call call;
  call_init(&call, f, begin_work, &kept);
  cpool__runtime_post(f->rt, &call.msg);
  assert_int_equal(uv_run(&f->uv, UV_RUN_DEFAULT), 0);
  assert_true(kept.fired);
}

static void an_armed_timer_alone_does_not_hold_uv_run(void **state)
{
  struct fixture *f = *state;
  struct kept kept = {.f = f};
  cpool__runtime_arm(f->rt, &kept.timer, cpool__clock_us() / 1000 + 3600 * 1000, end_work);
  int64_t before_ms = now_ms();
  assert_int_equal(uv_run(&f->uv, UV_RUN_DEFAULT), 0);
  assert_in_range(now_ms() - before_ms, 0, 60 * 1000);
  assert_false(kept.fired);
  cpool__runtime_disarm(f->rt, &kept.timer);
}

static void be_slow(struct fixture *f, void *arg)
{
  (void) f;
  uint64_t until_us = cpool__clock_us() + *(const uint64_t *) arg;
  while (cpool__clock_us() < until_us)
    ;
}

/* libuv reckons its sleep from the start of the iteration, and the slow turn runs between that and the sleep. */
static void a_slow_turn_does_not_make_armed_timers_late(void **state)
{
  struct fixture *f = *state;
  uv_timer_stop(&f->pulse); /* it would cut the sleep short */
  uint64_t slow_us = 20000, best_us = UINT64_MAX;
  for (int i = 0; i < 5 && best_us >= slow_us / 2; i++) {
    struct kept kept = {.f = f};
    struct call begin, slow;
    call_init(&begin, f, begin_work, &kept);
    cpool__runtime_post(f->rt, &begin.msg);
    uint64_t begun_us = cpool__clock_us();
    uv_run(&f->uv, UV_RUN_NOWAIT);
    assert_true(atomic_load(&begin.done));
    call_init(&slow, f, be_slow, &slow_us);
    cpool__runtime_post(f->rt, &slow.msg);
    assert_int_equal(uv_run(&f->uv, UV_RUN_DEFAULT), 0);
    assert_true(kept.fired);
    uint64_t late_us = cpool__clock_us() - begun_us - 40000;
    if (late_us < best_us)
      best_us = late_us;
  }
  assert_in_range(best_us, 0, slow_us / 2);
}

struct hosted {
  struct fixture *f;
  struct call call;
  bool posted;
};

static void post_in_prepare(uv_prepare_t *prepare)
{
  struct hosted *hosted = prepare->data;
  if (!hosted->posted)
    cpool__runtime_post(hosted->f->rt, &hosted->call.msg);
  hosted->posted = true;
  uv_prepare_stop(prepare);
}

static void a_post_just_before_the_host_waits_is_not_left_lying(void **state)
{
  struct fixture *f = *state;
  /* The pulse would save the post; libuv runs prepare callbacks in reverse order of their start: ours goes first. */
  uv_timer_stop(&f->pulse);
  uv_prepare_stop(&f->rt->prepare);
  struct hosted hosted = {.f = f};
  call_init(&hosted.call, f, do_nothing, NULL);
  uv_prepare_t prepare;
  uv_prepare_init(&f->uv, &prepare);
  prepare.data = &hosted;
  uv_prepare_start(&prepare, post_in_prepare);
  uv_prepare_cb ours = f->rt->prepare.prepare_cb;
  uv_prepare_start(&f->rt->prepare, ours);
  uv_run(&f->uv, UV_RUN_DEFAULT);
  assert_true(hosted.posted);
  assert_true(atomic_load(&hosted.call.done));
  uv_close((uv_handle_t *) &prepare, NULL);
  uv_run(&f->uv, UV_RUN_DEFAULT);
}

struct greedy {
  struct cpool__msg msg;
  struct fixture *f;
  int count;
  bool stop;
};

static void post_again(struct cpool__msg *msg)
{
  struct greedy *greedy = cpool__container_of(msg, struct greedy, msg);
  greedy->count++;
  if (!greedy->stop)
    cpool__runtime_post(greedy->f->rt, msg);
}

static void stop_greed(uv_timer_t *timer)
{
  ((struct greedy *) timer->data)->stop = true;
}

static void a_message_that_always_posts_again_leaves_the_host_its_share(void **state)
{
  struct fixture *f = *state;
  struct greedy greedy = {.msg.fn = post_again, .f = f};
  uv_timer_t timer;
  uv_timer_init(&f->uv, &timer);
  timer.data = &greedy;
  uv_timer_start(&timer, stop_greed, 20, 0);
  uint64_t turns_before = f->rt->turn_count;
  cpool__runtime_post(f->rt, &greedy.msg);
  uv_run(&f->uv, UV_RUN_DEFAULT); /* for ever, if the timer never gets its turn */
  assert_true(greedy.stop);
  assert_true((uint64_t) greedy.count <= (f->rt->turn_count - turns_before) * 8);
  uv_close((uv_handle_t *) &timer, NULL);
  uv_run(&f->uv, UV_RUN_DEFAULT);
}

static void *free_elsewhere(void *arg)
{
  struct fixture *f = arg;
  return (void *) (intptr_t) cpool_runtime_free(f->rt);
}

static void another_thread_cannot_free_a_runtime_on_a_hosts_loop(void **state)
{
  struct fixture *f = *state;
  pthread_t thread;
  void *status;
  assert_int_equal(pthread_create(&thread, NULL, free_elsewhere, f), 0);
  pthread_join(thread, &status);
  assert_int_equal((intptr_t) status, CPOOL_EINVAL);
}

/* ------------------------------------------------------------------------------------------------------ manual mode */

static bool readable(struct fixture *f, int64_t timeout_ms)
{
  int fd = cpool_runtime_fd(f->rt);
  assert_true(fd >= 0);
  return (wait_fd(fd, POLLIN, timeout_ms) & POLLIN) != 0;
}

/* Until nothing is left to do. */
static void step_until_quiet(struct fixture *f)
{
  int64_t deadline_ms = now_ms() + DEADLINE_MS;
  while (readable(f, 0) && now_ms() < deadline_ms)
    assert_int_equal(cpool_runtime_step(f->rt, 0), CPOOL_OK);
  assert_false(readable(f, 0));
}

/* The foreign loop's part: wait for the descriptor, then one step. */
static void wait_and_step(struct fixture *f)
{
  assert_true(readable(f, DEADLINE_MS));
  assert_int_equal(cpool_runtime_step(f->rt, 0), CPOOL_OK);
}

static void the_descriptor_is_readable_for_posts(void **state)
{
  struct fixture *f = *state;
  assert_false(readable(f, 0));
  for (int i = 0; i < 3; i++) {
    struct call call;
    call_init(&call, f, do_nothing, NULL);
    cpool__runtime_post(f->rt, &call.msg);
    wait_and_step(f);
    assert_true(atomic_load(&call.done));
    step_until_quiet(f);

    call_init(&call, f, do_nothing, NULL);
    post_from_another_thread(&call);
    wait_and_step(f);
    assert_true(atomic_load(&call.done));
    step_until_quiet(f);
  }
}

static void the_descriptor_is_readable_for_due_timers(void **state)
{
  struct fixture *f = *state;
  struct alarms all = {.f = f};
  struct call call;
  call_init(&call, f, arm_all, &all);
  cpool__runtime_post(f->rt, &call.msg);
  int64_t deadline_ms = now_ms() + DEADLINE_MS;
  while (!atomic_load(&all.done) && now_ms() < deadline_ms)
    wait_and_step(f);
  assert_int_equal(all.fired, TIMERS);
  step_until_quiet(f);
}

static void the_descriptor_is_readable_for_sockets(void **state)
{
  struct fixture *f = *state;
  struct door door;
  open_door(f, &door);
  step_until_quiet(f);
  for (int i = 0; i < 3; i++) {
    atomic_store(&door.rung, false);
    eventfd_write(door.fd, 1);
    wait_and_step(f);
    assert_true(atomic_load(&door.rung));
    step_until_quiet(f);
  }
  close_door(f, &door);
}

static void the_descriptor_stays_readable_while_work_is_left_over(void **state)
{
  struct fixture *f = *state;
  struct chores chores = {0};
  struct call call;
  call_init(&call, f, give_chores, &chores);
  cpool__runtime_post(f->rt, &call.msg);
  int64_t deadline_ms = now_ms() + DEADLINE_MS;
  while (!atomic_load(&chores.done) && now_ms() < deadline_ms)
    wait_and_step(f);
  assert_int_equal(chores.again_count, 100);
  step_until_quiet(f);
}

static void a_step_waits_no_longer_than_it_may(void **state)
{
  struct fixture *f = *state;
  int64_t before_ms = now_ms();
  assert_int_equal(cpool_runtime_step(f->rt, 30), CPOOL_OK);
  assert_in_range(now_ms() - before_ms, 29, 10 * 1000);
  before_ms = now_ms();
  for (int i = 0; i < 100; i++)
    assert_int_equal(cpool_runtime_step(f->rt, 0), CPOOL_OK);
  assert_in_range(now_ms() - before_ms, 0, 10 * 1000);
}

static void a_step_for_ever_ends_when_it_has_done_something(void **state)
{
  struct fixture *f = *state;
  struct alarms all = {.f = f};
  struct call call;
  call_init(&call, f, arm_all, &all);
  cpool__runtime_post(f->rt, &call.msg);
  assert_int_equal(cpool_runtime_step(f->rt, CPOOL_OFF), CPOOL_OK);
  assert_true(atomic_load(&call.done));
  while (!atomic_load(&all.done))
    assert_int_equal(cpool_runtime_step(f->rt, CPOOL_OFF), CPOOL_OK);
}

struct stepper {
  struct fixture *f;
  pthread_t thread;
  atomic_bool inside, go_on;
  int status;
};

static void block(struct fixture *f, void *arg)
{
  (void) f;
  struct stepper *stepper = arg;
  atomic_store(&stepper->inside, true);
  wait_until(flag_set, &stepper->go_on, DEADLINE_MS);
}

static void *step_elsewhere(void *arg)
{
  struct stepper *stepper = arg;
  stepper->status = cpool_runtime_step(stepper->f->rt, 0);
  return NULL;
}

static void one_thread_steps_at_a_time(void **state)
{
  struct fixture *f = *state;
  struct stepper stepper = {.f = f};
  struct call call;
  call_init(&call, f, block, &stepper);
  cpool__runtime_post(f->rt, &call.msg);
  assert_int_equal(pthread_create(&stepper.thread, NULL, step_elsewhere, &stepper), 0);
  assert_true(wait_until(flag_set, &stepper.inside, DEADLINE_MS));
  assert_int_equal(cpool_runtime_step(f->rt, 0), CPOOL_EBUSY);
  assert_int_equal(cpool_runtime_free(f->rt), CPOOL_EBUSY);
  assert_false(cpool__runtime_on_loop(f->rt));
  atomic_store(&stepper.go_on, true);
  pthread_join(stepper.thread, NULL);
  assert_int_equal(stepper.status, CPOOL_OK);
  assert_int_equal(cpool_runtime_step(f->rt, 0), CPOOL_OK); /* and then this one may */
}

static void only_manual_mode_has_a_descriptor_and_steps(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(cpool_runtime_fd(f->rt), CPOOL_EINVAL);
  assert_int_equal(cpool_runtime_step(f->rt, 0), CPOOL_EINVAL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      IN(UV, uv_run_returns_when_nothing_is_live),
      IN(UV, uv_run_goes_on_while_work_is_in_flight),
      IN(UV, an_armed_timer_alone_does_not_hold_uv_run),
      IN(UV, a_slow_turn_does_not_make_armed_timers_late),
      IN(UV, a_post_just_before_the_host_waits_is_not_left_lying),
      IN(UV, a_message_that_always_posts_again_leaves_the_host_its_share),
      IN(UV, another_thread_cannot_free_a_runtime_on_a_hosts_loop),
      IN(MANUAL, the_descriptor_is_readable_for_posts),
      IN(MANUAL, the_descriptor_is_readable_for_due_timers),
      IN(MANUAL, the_descriptor_is_readable_for_sockets),
      IN(MANUAL, the_descriptor_stays_readable_while_work_is_left_over),
      IN(MANUAL, a_step_waits_no_longer_than_it_may),
      IN(MANUAL, a_step_for_ever_ends_when_it_has_done_something),
      IN(MANUAL, one_thread_steps_at_a_time),
      IN(THREAD, only_manual_mode_has_a_descriptor_and_steps),
      IN(UV, only_manual_mode_has_a_descriptor_and_steps),
  };
  return cmocka_run_group_tests(tests, warm_up, NULL);
}
