/* stream: CPU of a long body against a bare easy handle with a write callback; memory while nobody reads
 *
 * Each run is a child that gets FILE_BYTES from nginx `file_count` times over one connection and looks at the lengths
 * alone; the parent never uses the library, so that all begin alike. The runs alternate, as in requests.c. */
#include "measure.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include <curl/curl.h>
#include <uv.h>

#include <cpool.h>

#include "support/process.h"
#include "support/wait.h"

enum {
  ROUNDS = 5,
  FILE_BYTES = 256 << 20,
  FILES = 4,
  SMALL_BYTES = 10 << 20,
  STREAMS = 1000,
  BATCH = 64,
  DEADLINE_MS = 60000,
  CHUNK_HEADER_BYTES = 8 /* of the C library, beyond what a block can hold */
};

struct job {
  char url[96];
  const char *ca_file;
  int left; /* files to get */
  long long bytes;
  double cpu_us;
  cpool_http *pool;
  cpool_session *session;
  cpool_queue *queue;
};

static int round_count = ROUNDS, file_count = FILES, stream_count = STREAMS;

static void must(int status, const char *what)
{
  if (status != CPOOL_OK)
    give_up("stream: %s: %s", what, cpool_status_name(status));
}

/* --------------------------------------------------------------------------------------------------------- the clients */

static size_t on_body(char *data, size_t one, size_t len, void *user)
{
  struct job *job = user;
  (void) data;
  job->bytes += (long long) (one * len);
  return one * len;
}

static void run_bare(struct job *job)
{
  curl_global_init(CURL_GLOBAL_DEFAULT);
  CURL *easy = curl_easy_init();
  curl_easy_setopt(easy, CURLOPT_URL, job->url);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, job);
  if (job->ca_file != NULL)
    curl_easy_setopt(easy, CURLOPT_CAINFO, job->ca_file);
  job->cpu_us = process_cpu_us();
  for (; job->left > 0; job->left--)
    if (curl_easy_perform(easy) != CURLE_OK)
      give_up("stream: the bare handle failed");
  job->cpu_us = process_cpu_us() - job->cpu_us;
  curl_easy_cleanup(easy);
  curl_global_cleanup();
}

static void on_event(const cpool_event *event);

static void start(struct job *job)
{
  cpool_request request;
  cpool_request_init(&request);
  request.url = job->url;
  request.flags = CPOOL_REQUEST_STREAM;
  request.user = job;
  request.queue = job->queue;
  request.on_event = job->queue == NULL ? on_event : NULL;
  must(cpool_submit(job->session, &request, NULL), "submit");
}

/* True at the end of the last file. */
static bool take(struct job *job, const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_BODY)
    job->bytes += (long long) event->len;
  if (event->kind != CPOOL_EVENT_RESPONSE)
    return false;
  must(event->status, "answer");
  if (--job->left > 0)
    start(job);
  return job->left == 0;
}

static void on_event(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_HTTP_CLOSED)
    return;
  struct job *job = event->user;
  if (event->kind == CPOOL_EVENT_BODY)
    (void) cpool_body_credit(job->pool, event->source, event->len); /* refused at the end, when none is needed */
  if (take(job, event))
    must(cpool_http_close_start(job->pool, 0), "close");
}

static void make_pool(struct job *job, cpool_runtime *runtime)
{
  must(cpool_http_new(&job->pool, runtime, NULL), "http_new");
  cpool_session_options session;
  cpool_session_options_init(&session);
  session.ca_file = job->ca_file;
  must(cpool_session_new(&job->session, job->pool, &session), "session_new");
  job->cpu_us = process_cpu_us();
  start(job);
}

static void run_callbacks(struct job *job)
{
  uv_loop_t loop;
  cpool_runtime *runtime = NULL;
  cpool_runtime_options options;
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_UV;
  options.uv_loop = &loop;
  uv_loop_init(&loop);
  must(cpool_runtime_new(&runtime, &options), "runtime_new");
  make_pool(job, runtime);
  uv_run(&loop, UV_RUN_DEFAULT); /* until the pool is closed */
  job->cpu_us = process_cpu_us() - job->cpu_us;
  cpool_session_free(job->session);
  cpool_http_free(job->pool);
  must(cpool_runtime_free(runtime), "runtime_free");
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
}

static void run_queue(struct job *job)
{
  const cpool_event *events[BATCH];
  must(cpool_queue_new(&job->queue, NULL), "queue_new");
  make_pool(job, NULL);
  for (bool ended = false; !ended;) {
    int count = cpool_queue_wait(job->queue, events, BATCH, CPOOL_OFF);
    for (int i = 0; i < count; i++)
      ended = take(job, events[i]) || ended;
    cpool_queue_release(job->queue, events, count);
  }
  job->cpu_us = process_cpu_us() - job->cpu_us;
  cpool_session_free(job->session);
  must(cpool_http_close(job->pool, 0), "close");
  must(cpool_queue_free(job->queue), "queue_free");
}

/* ------------------------------------------------------------------------------------------------------------- CPU */

/* In ns for each byte. */
static double run(void (*client)(struct job *), const struct job *job)
{
  struct job own = *job;
  int ends[2], status = 0;
  if (pipe(ends) != 0)
    give_up("no pipe");
  pid_t child = fork();
  if (child == 0) {
    pin_to(CLIENT_CPU);
    client(&own);
    if (own.bytes != (long long) file_count * FILE_BYTES || write(ends[1], &own.cpu_us, sizeof own.cpu_us) < 0)
      give_up("stream: %lld bytes have come", own.bytes);
    _exit(0);
  }
  close(ends[1]);
  if (child < 0 || read(ends[0], &own.cpu_us, sizeof own.cpu_us) != sizeof own.cpu_us)
    give_up("stream: a client ended without a result");
  close(ends[0]);
  if (waitpid(child, &status, 0) != child || status != 0)
    give_up("stream: a client failed after its result");
  return own.cpu_us * 1e3 / ((double) file_count * FILE_BYTES);
}

static void report_ratio(const char *question, double *ratios, double *each, double *bare)
{
  double ratio = median(ratios, (size_t) round_count);
  report(question, "<= 1.10", ratio <= 1.10, "%.3f (%.3f to %.3f); %.3f ns against %.3f ns", ratio, ratios[0],
         ratios[round_count - 1], median(each, (size_t) round_count), median(bare, (size_t) round_count));
}

static void measure_cpu(const struct job *job, const char *const questions[2])
{
  double bare[ROUNDS], callbacks[ROUNDS], queue[ROUNDS], first[ROUNDS], second[ROUNDS];
  for (int i = 0; i < round_count; i++) {
    bare[i] = run(run_bare, job);
    callbacks[i] = run(run_callbacks, job);
    queue[i] = run(run_queue, job);
    first[i] = callbacks[i] / bare[i];
    second[i] = queue[i] / bare[i];
  }
  report_ratio(questions[0], first, callbacks, bare);
  report_ratio(questions[1], second, queue, bare);
}

/* ---------------------------------------------------------------------------------------------------------- memory */

static atomic_llong bytes_now, bytes_most;

static void *count_bytes(void *context, void *ptr, size_t size)
{
  (void) context;
  long long before = ptr == NULL ? 0 : (long long) malloc_usable_size(ptr) + CHUNK_HEADER_BYTES;
  if (size == 0) {
    free(ptr);
    atomic_fetch_sub(&bytes_now, before);
    return NULL;
  }
  void *block = realloc(ptr, size);
  if (block == NULL)
    return NULL;
  long long change = (long long) malloc_usable_size(block) + CHUNK_HEADER_BYTES - before;
  long long now = atomic_fetch_add(&bytes_now, change) + change, most = atomic_load(&bytes_most);
  while (most < now && !atomic_compare_exchange_weak(&bytes_most, &most, now))
    continue;
  return block;
}

static bool all_wait(void *pool)
{
  cpool_http_stats stats;
  cpool_http_stats_init(&stats);
  must(cpool_http_stats_get(pool, &stats), "stats");
  return stats.paused_requests == stream_count;
}

static double resident_mib(void)
{
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1)
    give_up("stream: /proc is not there");
  fclose(file);
  return (double) pages * (double) sysconf(_SC_PAGESIZE) / (1 << 20);
}

static void measure_memory(struct job *job)
{
  const cpool_event *events[BATCH];
  cpool_queue_options marks;
  cpool_queue_options_init(&marks);
  marks.high_water_bytes = 1 << 30; /* those of the pool are what holds */
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.max_connections = options.max_connections_per_host = stream_count;
  must(cpool_allocator_set(count_bytes, NULL), "allocator_set");
  must(cpool_queue_new(&job->queue, &marks), "queue_new");
  must(cpool_http_new(&job->pool, NULL, &options), "http_new");
  job->session = cpool_http_session(job->pool);
  must(cpool_http_options_get(job->pool, &options), "options_get");
  double before = resident_mib(), limit = (double) options.max_stream_bytes * 1.2;
  for (int i = 0; i < stream_count; i++)
    start(job);
  if (!wait_until(all_wait, job->pool, DEADLINE_MS))
    give_up("stream: the streams do not all come to wait");
  double most = (double) atomic_load(&bytes_most);
  report("memory while 1000 streams of 10 MiB wait for a consumer that does not read, without libcurl's",
         "<= 76.8 MiB (max_stream_bytes + 20 %)", most <= limit, "%.1f MiB (the process has grown by %.1f MiB)",
         most / (1 << 20), resident_mib() - before);
  job->left = stream_count;
  for (bool ended = false; !ended;) { /* and none is stuck */
    int count = cpool_queue_wait(job->queue, events, BATCH, CPOOL_OFF);
    for (int i = 0; i < count; i++) {
      job->bytes += events[i]->kind == CPOOL_EVENT_BODY ? (long long) events[i]->len : 0;
      if (events[i]->kind == CPOOL_EVENT_RESPONSE) {
        must(events[i]->status, "answer");
        ended = --job->left == 0;
      }
    }
    cpool_queue_release(job->queue, events, count);
  }
  if (job->bytes != (long long) stream_count * SMALL_BYTES)
    give_up("stream: %lld bytes have come", job->bytes);
  must(cpool_http_close(job->pool, 0), "close");
  must(cpool_queue_free(job->queue), "queue_free");
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void make_file(const struct process *nginx, const char *name, off_t bytes)
{
  char path[512];
  snprintf(path, sizeof path, "%s/html/%s", process_dir(nginx), name);
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0 || ftruncate(fd, bytes) != 0)
    give_up("stream: cannot make %s", path);
  close(fd);
}

static void raise_fd_limit(void)
{
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
  static const char *const plain[2] = {"CPU of a byte of a streamed GB against a bare easy handle, callbacks",
                                       "the same, queue and the library's own thread"};
  static const char *const tls[2] = {"CPU of a byte of a streamed GB over TLS 1.3, callbacks",
                                     "the same, queue and the library's own thread, over TLS 1.3"};
  if (is_quick(argc, argv)) {
    round_count = file_count = 1;
    stream_count = 300;
  }
  raise_fd_limit();
  struct job job = {.left = file_count};
  struct certs *certs = certs_new();
  struct process *nginx =
      nginx_start(&(struct nginx_options){.cpu_affinity = "10", .certs = certs, .tls_protocols = "TLSv1.3"});
  if (nginx == NULL)
    give_up("nginx does not start");
  make_file(nginx, "long", FILE_BYTES);
  make_file(nginx, "longish", SMALL_BYTES);
  snprintf(job.url, sizeof job.url, "http://127.0.0.1:%u/long", process_port(nginx));
  measure_cpu(&job, plain);
  snprintf(job.url, sizeof job.url, "https://127.0.0.1:%u/long", process_tls_port(nginx));
  job.ca_file = certs->ca_file;
  measure_cpu(&job, tls);
  snprintf(job.url, sizeof job.url, "http://127.0.0.1:%u/longish", process_port(nginx));
  job.ca_file = NULL;
  pin_to(CLIENT_CPU);
  measure_memory(&job);
  process_stop(nginx);
  certs_free(certs);
  return 0;
}
