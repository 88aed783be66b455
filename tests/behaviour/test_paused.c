/* paused: what was held back for a full queue and fails when reading resumes ends its request at once; a queue is free
 * the moment its last event is
 *
 * The pool runs in manual mode, so that between two steps the test may look whether the transfer is paused. */
#include "support/pool_fixture.h"

#include <sys/resource.h>

#include "http/pool.h"
#include "http/request.h"
#include "http/transfer.h"

enum {
  HIGH_BYTES = 4096,
  FILLER_BYTES = 8000,
  CAP_BYTES = 3,
  SILENCE_MS = 8000, /* sock_read_timeout_ms: an end by it is not at once */
  AT_ONCE_MS = 2000,
  HELD_MS = 200,
  BUSY_MS = 100, /* more processor time than this within HELD_MS is a loop that spins */
  ROUNDS = 5000,
  CLOSE_ROUNDS = 1000
};

/* ------------------------------------------------------------------------------------------------------------- memory */

static struct {
  atomic_bool armed; /* the next new block is refused */
  _Atomic int refused_count;
} memory;

static void *fallible(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  if (ptr == NULL && atomic_exchange(&memory.armed, false)) {
    atomic_fetch_add(&memory.refused_count, 1);
    return NULL;
  }
  return realloc(ptr, size);
}

static int group_setup(void **state)
{
  return cpool_allocator_set(fallible, NULL) == CPOOL_OK ? pool_warm_up(state) : -1;
}

/* ------------------------------------------------------------------------------------------------------------ fixture */

static cpool_runtime *runtime;

static int setup(void **state)
{
  if (pool_setup(state) != 0)
    return -1;
  struct pool_fixture *f = *state;
  cpool_runtime_options runtime_options;
  cpool_runtime_options_init(&runtime_options);
  runtime_options.loop_mode = CPOOL_LOOP_MANUAL;
  cpool_queue_options marks;
  cpool_queue_options_init(&marks);
  marks.high_water_bytes = HIGH_BYTES;
  marks.low_water_bytes = 1;
  cpool_http_options options = pool_options();
  options.max_connections_per_host = 1;
  options.sock_read_timeout_ms = SILENCE_MS;
  if (cpool_queue_free(f->queue) != CPOOL_OK || cpool_queue_new(&f->queue, &marks) != CPOOL_OK ||
      cpool_runtime_new(&runtime, &runtime_options) != CPOOL_OK)
    return -1;
  return cpool_http_new(&f->pool, runtime, &options);
}

static int teardown(void **state)
{
  struct pool_fixture *f = *state;
  const cpool_event *event = NULL;
  int64_t deadline_ms = now_ms() + DEADLINE_MS;
  atomic_store(&memory.armed, false);
  if (cpool_http_close_start(f->pool, 0) != CPOOL_OK)
    return -1;
  while (cpool_http_close(f->pool, 0) != CPOOL_OK && now_ms() < deadline_ms)
    cpool_runtime_step(runtime, 1);
  f->pool = NULL;
  int status = cpool_runtime_free(runtime);
  while (cpool_queue_wait(f->queue, &event, 1, 0) == 1)
    cpool_queue_release(f->queue, &event, 1);
  return pool_teardown(state) == 0 ? status : -1;
}

static int64_t busy_ms(void)
{
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

/* Steps for so long; the processor time of it. */
static int64_t step_for(int64_t duration_ms)
{
  int64_t end_ms = now_ms() + duration_ms, before_ms = busy_ms(), left_ms;
  while ((left_ms = end_ms - now_ms()) > 0)
    assert_int_equal(cpool_runtime_step(runtime, left_ms), CPOOL_OK);
  return busy_ms() - before_ms;
}

static const cpool_event *step_to_event(struct pool_fixture *f, int64_t limit_ms)
{
  const cpool_event *event = NULL;
  int64_t deadline_ms = now_ms() + limit_ms;
  while (cpool_queue_wait(f->queue, &event, 1, 0) == 0) {
    if (now_ms() > deadline_ms)
      fail_msg("no event within %d ms", (int) limit_ms);
    assert_int_equal(cpool_runtime_step(runtime, 10), CPOOL_OK);
  }
  return event;
}

static bool is_paused(struct pool_fixture *f, cpool_op op)
{
  struct cpool__request *req = cpool__ids_get(&f->pool->ids, op);
  return req != NULL && req->transfer != NULL && req->transfer->paused;
}

/* Answers with more than CAP_BYTES, in each way in which a body can end. */
static const char *const answers[] = {"/bytes/5",      "/chunked/5",     "/close",           "/http10",
                                      "/trailers",     "/bytes/3000000", "/chunked/1000000", "/endless-body",
                                      "/reset-midbody" /* while it is held back the connection dies */};

/* The first request's event fills the queue; the second, behind it on the same connection or the next, is then held
 * back at the first piece of its body. Reading resumes with the release of the event. */
static void held_back_piece_fails(struct pool_fixture *f, const char *path, int64_t cap_bytes, int wanted)
{
  char filler_path[32];
  snprintf(filler_path, sizeof filler_path, "/bytes/%d", FILLER_BYTES);
  cpool_request req = request_of(f, path);
  req.max_response_bytes = cap_bytes;
  ask(f, filler_path);
  cpool_op op = submit(f, &req);
  const cpool_event *filler = step_to_event(f, DEADLINE_MS);
  int64_t deadline_ms = now_ms() + DEADLINE_MS;
  while (!is_paused(f, op)) {
    if (now_ms() > deadline_ms)
      fail_msg("%s: is not held back", path);
    assert_int_equal(cpool_runtime_step(runtime, 10), CPOOL_OK);
  }
  int64_t held_busy_ms = step_for(HELD_MS);
  assert_true(is_paused(f, op));
  if (held_busy_ms > BUSY_MS)
    fail_msg("%s: %d ms of work while held back", path, (int) held_busy_ms);

  int refused_before = atomic_load(&memory.refused_count);
  atomic_store(&memory.armed, wanted == CPOOL_ENOMEM);
  int64_t resumed_busy_ms = busy_ms();
  cpool_queue_release(f->queue, &filler, 1);
  const cpool_event *event = step_to_event(f, AT_ONCE_MS);
  resumed_busy_ms = busy_ms() - resumed_busy_ms;
  if (event->status != wanted)
    fail_msg("%s: ended with %s, not %s", path, cpool_status_name(event->status), cpool_status_name(wanted));
  assert_true(event->source == op);
  assert_int_equal(atomic_load(&memory.refused_count), refused_before + (wanted == CPOOL_ENOMEM));
  if (resumed_busy_ms > BUSY_MS)
    fail_msg("%s: %d ms of work until the end", path, (int) resumed_busy_ms);
  cpool_queue_release(f->queue, &event, 1);
  int64_t after_busy_ms = step_for(HELD_MS);
  if (after_busy_ms > BUSY_MS)
    fail_msg("%s: %d ms of work after the end", path, (int) after_busy_ms);
}

/* The connection is spent, the pool is not. */
static void goes_on(struct pool_fixture *f)
{
  ask(f, "/ok");
  const cpool_event *event = step_to_event(f, DEADLINE_MS);
  assert_int_equal(event->status, CPOOL_OK);
  cpool_queue_release(f->queue, &event, 1);
  assert_balanced(f->pool);
}

static void a_held_back_piece_over_the_cap_ends_its_request_at_once(void **state)
{
  struct pool_fixture *f = *state;
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    held_back_piece_fails(f, answers[i], CAP_BYTES, CPOOL_EBODY_TOO_LARGE);
    goes_on(f);
  }
}

static void a_held_back_piece_without_memory_ends_its_request_at_once(void **state)
{
  struct pool_fixture *f = *state;
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    held_back_piece_fails(f, answers[i], 0, CPOOL_ENOMEM);
    goes_on(f);
  }
}

/* -------------------------------------------------------------------------------------------------- the queue's end */

static const cpool_event *wait_for_event(cpool_queue *queue)
{
  const cpool_event *event = NULL;
  assert_int_equal(cpool_queue_wait(queue, &event, 1, DEADLINE_MS), 1);
  return event;
}

static void a_queue_may_be_freed_right_after_its_last_event(void **state)
{
  struct pool_fixture *f = *state;
  open_pool(f, NULL);
  for (int round = 0; round < ROUNDS; round++) {
    cpool_queue *queue = NULL;
    assert_int_equal(cpool_queue_new(&queue, NULL), CPOOL_OK);
    cpool_request req = request_of(f, "/ok");
    req.queue = queue;
    submit(f, &req);
    const cpool_event *event = wait_for_event(queue);
    cpool_queue_release(queue, &event, 1);
    assert_int_equal(cpool_queue_free(queue), CPOOL_OK);
  }
}

static void a_queue_may_be_freed_right_after_the_closed_event(void **state)
{
  (void) state;
  cpool_runtime *rt = NULL;
  assert_int_equal(cpool_runtime_new(&rt, NULL), CPOOL_OK);
  for (int round = 0; round < CLOSE_ROUNDS; round++) {
    cpool_http_options options = pool_options();
    cpool_http *pool = NULL;
    assert_int_equal(cpool_queue_new(&options.queue, NULL), CPOOL_OK);
    assert_int_equal(cpool_http_new(&pool, rt, &options), CPOOL_OK);
    assert_int_equal(cpool_http_close_start(pool, 0), CPOOL_OK);
    const cpool_event *event = wait_for_event(options.queue);
    assert_int_equal(event->kind, CPOOL_EVENT_HTTP_CLOSED);
    cpool_queue_release(options.queue, &event, 1);
    assert_int_equal(cpool_queue_free(options.queue), CPOOL_OK);
    cpool_http_free(pool);
  }
  assert_int_equal(cpool_runtime_free(rt), CPOOL_OK);
}

#define HELD_CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      HELD_CASE(a_held_back_piece_over_the_cap_ends_its_request_at_once),
      HELD_CASE(a_held_back_piece_without_memory_ends_its_request_at_once),
      POOL_CASE(a_queue_may_be_freed_right_after_its_last_event),
      POOL_CASE(a_queue_may_be_freed_right_after_the_closed_event),
  };
  return cmocka_run_group_tests(tests, group_setup, NULL);
}
