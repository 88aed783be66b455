/* stream_load: long and many streams: whole, in bounded memory, and those that are read are not slowed by those that are
 * not */
#include "support/stream_fixture.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include "support/process.h"

enum { WINDOW = 65536, STREAMS = 200, ROUND_BYTES = 1 << 20, MIB = 1 << 20 };

/* ---- the memory of the library */

static atomic_llong bytes_now, bytes_most;

static void *count_bytes(void *context, void *ptr, size_t size)
{
  (void) context;
  long long before = ptr == NULL ? 0 : (long long) malloc_usable_size(ptr);
  if (size == 0) {
    free(ptr);
    atomic_fetch_sub(&bytes_now, before);
    return NULL;
  }
  void *block = realloc(ptr, size);
  if (block == NULL)
    return NULL;
  long long change = (long long) malloc_usable_size(block) - before;
  long long now = atomic_fetch_add(&bytes_now, change) + change, most = atomic_load(&bytes_most);
  while (most < now && !atomic_compare_exchange_weak(&bytes_most, &most, now))
    continue;
  return block;
}

static int count_all(void **state)
{
  return cpool_allocator_set(count_bytes, NULL) == CPOOL_OK ? pool_warm_up(state) : -1;
}

static int count_none(void **state)
{
  (void) state;
  return cpool_allocator_set(NULL, NULL) == CPOOL_OK ? 0 : -1;
}

/* ---- files of nginx */

/* Byte i depends on i and on which MiB it is in, so that one that is lost, doubled or out of place is seen. */
static unsigned char byte_at(size_t at)
{
  return (unsigned char) (at * 31 + at / ROUND_BYTES * 7 + (at >> 9));
}

static void make_file(const struct process *nginx, const char *name, size_t bytes)
{
  static unsigned char part[ROUND_BYTES];
  char path[512];
  snprintf(path, sizeof path, "%s/html/%s", process_dir(nginx), name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  for (size_t at = 0; at < bytes; at += sizeof part) {
    for (size_t i = 0; i < sizeof part; i++)
      part[i] = byte_at(at + i);
    assert_int_equal(fwrite(part, 1, sizeof part, file), sizeof part);
  }
  assert_int_equal(fclose(file), 0);
}

/* Whether the piece is what is at `at` of such a file. */
static bool is_right(const cpool_event *event, size_t at)
{
  const unsigned char *data = event->data;
  for (size_t i = 0; i < event->len; i++)
    if (data[i] != byte_at(at + i))
      return false;
  return true;
}

static void a_long_body_is_whole_in_bounded_memory_however_slow_its_reader(void **state)
{
  enum { BYTES = 256 * MIB, PAUSES = 64 };
  struct pool_fixture *f = *state;
  struct process *nginx = nginx_start(NULL);
  assert_non_null(nginx);
  make_file(nginx, "long", BYTES);
  cpool_http_options options = pool_options();
  options.stream_window_bytes = WINDOW;
  open_pool(f, &options);
  cpool_request req = stream_of(f, "");
  req.url = url_at(process_port(nginx), "/long");
  atomic_store(&bytes_most, 0);
  long long before = atomic_load(&bytes_now);
  submit(f, &req);
  size_t at = 0, pause_at = 0;
  bool right = true, ended = false;
  int pauses = 0;
  while (!ended) {
    const cpool_event *events[4];
    int count = cpool_queue_wait(f->queue, events, 4, DEADLINE_MS);
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
      if (events[i]->kind == CPOOL_EVENT_BODY) {
        right = right && is_right(events[i], at);
        at += events[i]->len;
      }
      if (events[i]->kind == CPOOL_EVENT_RESPONSE) {
        assert_int_equal(events[i]->status, CPOOL_OK);
        ended = true;
      }
    }
    if (at >= pause_at && at < BYTES / 2) { /* until nothing moves any more */
      eventually(stats_of(f).paused_requests == 1);
      pause_at += BYTES / 2 / PAUSES;
      pauses++;
    }
    cpool_queue_release(f->queue, events, count);
  }
  assert_true(right);
  assert_int_equal(at, BYTES);
  assert_in_range(pauses, PAUSES / 2, PAUSES);
  assert_in_range(atomic_load(&bytes_most) - before, WINDOW / 2, 4 * WINDOW);
  process_stop(nginx);
}

/* ---- many */

struct stream {
  cpool_op op;
  size_t bytes;
  bool read, right;
  int ends, status;
  const cpool_event *kept[64]; /* of one that is not read */
  int kept_count;
};

static void take_some(struct pool_fixture *f, int64_t wait_ms)
{
  const cpool_event *events[16];
  int count = cpool_queue_wait(f->queue, events, 16, wait_ms);
  for (int i = 0; i < count; i++) {
    struct stream *stream = events[i]->user;
    bool keeps = false;
    if (events[i]->kind == CPOOL_EVENT_BODY) {
      stream->right = stream->right && is_right(events[i], stream->bytes);
      stream->bytes += events[i]->len;
      keeps = !stream->read && stream->kept_count < 64;
    }
    if (events[i]->kind == CPOOL_EVENT_RESPONSE) {
      stream->ends++;
      stream->status = events[i]->status;
    }
    if (keeps)
      stream->kept[stream->kept_count++] = events[i];
    else
      cpool_queue_release(f->queue, &events[i], 1);
  }
}

static int ended_count(const struct stream *streams, bool read)
{
  int count = 0;
  for (int i = 0; i < STREAMS; i++)
    count += streams[i].read == read && streams[i].ends > 0;
  return count;
}

static void give_back(struct pool_fixture *f, struct stream *stream)
{
  if (stream->kept_count > 0)
    cpool_queue_release(f->queue, stream->kept, stream->kept_count);
  stream->kept_count = 0;
  stream->read = true;
}

/* Every other one keeps its events until the others have ended; then they are read, too, or cancelled, or the pool is
 * closed. */
static void half_of_many_are_not_read(void **state, bool cancel, bool close)
{
  enum { BYTES = 2 * MIB };
  static struct stream streams[STREAMS];
  struct pool_fixture *f = *state;
  struct process *nginx = nginx_start(NULL);
  assert_non_null(nginx);
  make_file(nginx, "longish", BYTES);
  cpool_http_options options = pool_options();
  options.stream_window_bytes = WINDOW;
  options.max_connections = options.max_connections_per_host = STREAMS;
  open_pool(f, &options);
  for (int i = 0; i < STREAMS; i++) {
    streams[i] = (struct stream){.right = true, .read = i % 2 == 0};
    cpool_request req = stream_of(f, "");
    req.url = url_at(process_port(nginx), "/longish");
    req.user = &streams[i];
    streams[i].op = submit(f, &req);
  }
  int64_t until_ms = now_ms() + DEADLINE_MS;
  while (ended_count(streams, true) < STREAMS / 2) {
    assert_true(now_ms() < until_ms);
    take_some(f, 100);
  }
  while (stats_of(f).paused_requests < STREAMS / 2) {
    assert_true(now_ms() < until_ms);
    take_some(f, 1);
  }
  assert_int_equal(ended_count(streams, false), 0);
  assert_int_equal(stats_of(f).active_requests, STREAMS / 2);
  for (int i = 1; i < STREAMS; i += 2) {
    if (cancel)
      assert_int_equal(cpool_cancel(f->pool, streams[i].op), CPOOL_OK);
  }
  if (close)
    close_pool(f);
  if (!cancel && !close)
    for (int i = 1; i < STREAMS; i += 2)
      give_back(f, &streams[i]);
  until_ms = now_ms() + DEADLINE_MS;
  for (int ended = 0; ended < STREAMS;) {
    assert_true(now_ms() < until_ms);
    take_some(f, 100);
    ended = ended_count(streams, true) + ended_count(streams, false);
  }
  for (int i = 0; i < STREAMS; i++) {
    bool cut = i % 2 == 1 && (cancel || close);
    assert_int_equal(streams[i].ends, 1);
    assert_int_equal(streams[i].status, !cut ? CPOOL_OK : cancel ? CPOOL_ECANCELLED : CPOOL_ECLOSED);
    assert_true(streams[i].right);
    assert_true(cut ? streams[i].bytes < BYTES : streams[i].bytes == BYTES);
    give_back(f, &streams[i]);
  }
  if (f->pool != NULL)
    assert_balanced(f->pool);
  process_stop(nginx);
}

static void streams_that_are_read_go_on_beside_those_that_are_not(void **state)
{
  half_of_many_are_not_read(state, false, false);
}

static void streams_that_are_not_read_can_be_cancelled(void **state)
{
  half_of_many_are_not_read(state, true, false);
}

static void streams_that_are_not_read_do_not_hold_up_the_close(void **state)
{
  half_of_many_are_not_read(state, false, true);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      POOL_CASE(a_long_body_is_whole_in_bounded_memory_however_slow_its_reader),
      POOL_CASE(streams_that_are_read_go_on_beside_those_that_are_not),
      POOL_CASE(streams_that_are_not_read_can_be_cancelled),
      POOL_CASE(streams_that_are_not_read_do_not_hold_up_the_close),
  };
  return cmocka_run_group_tests(tests, count_all, count_none);
}
