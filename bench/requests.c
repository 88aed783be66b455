/* requests: CPU of one request and connections opened, against the textbook: callbacks, queue, TLS, HTTP/2
 *
 * Each run is a process of its own (bench_client or bench_textbook, beside this program), so that neither inherits the
 * other's heap and caches. The runs alternate: what disturbs the machine for a minute disturbs both. A ratio is of two
 * runs that followed one another; its median is quoted, with least and most. */
#include "measure.h"

#include <libgen.h>
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/process.h"

enum { ROUNDS = 5, QUICK_ROUNDS = 1, COUNT = 200000, QUICK_COUNT = 2000, KEEP_ALIVE_REQUESTS = 100000000 };

struct result {
  double cpu_us; /* of one request */
  unsigned long long opened;
};

struct series {
  double cpu_us[ROUNDS], ratio[ROUNDS];
  unsigned long long most_opened;
};

static char here[PATH_MAX]; /* the directory of the programs */
static long request_count = COUNT;
static size_t round_count = ROUNDS;

/* mode NULL: the textbook. */
static void exec_client(const char *mode, const char *url, const char *ca_file, const char *version)
{
  char program[PATH_MAX + 32], count[24], in_flight[12];
  snprintf(program, sizeof program, "%s/bench_%s", here, mode == NULL ? "textbook" : "client");
  snprintf(count, sizeof count, "%ld", request_count);
  snprintf(in_flight, sizeof in_flight, "%d", IN_FLIGHT);
  const char *ca = ca_file != NULL ? ca_file : "-";
  pin_to(CLIENT_CPU);
  if (mode == NULL)
    execl(program, program, url, count, in_flight, ca, version, (char *) NULL);
  else
    execl(program, program, mode, url, count, in_flight, ca, version, (char *) NULL);
  give_up("cannot run %s", program);
}

static struct result run(const char *mode, const char *url, const char *ca_file, const char *version)
{
  struct result result;
  int ends[2], status = 0;
  if (pipe(ends) != 0)
    give_up("no pipe");
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    exec_client(mode, url, ca_file, version);
  }
  close(ends[1]);
  FILE *in = fdopen(ends[0], "r");
  if (child < 0 || in == NULL || fscanf(in, "%lf %llu", &result.cpu_us, &result.opened) != 2)
    give_up("a client ended without a result");
  fclose(in);
  if (waitpid(child, &status, 0) != child || status != 0)
    give_up("a client failed after its result");
  result.cpu_us /= (double) request_count;
  return result;
}

static void note(struct series *series, size_t round, struct result result, struct result textbook)
{
  series->cpu_us[round] = result.cpu_us;
  series->ratio[round] = result.cpu_us / textbook.cpu_us;
  if (result.opened > series->most_opened)
    series->most_opened = result.opened;
}

static void report_ratio(const char *question, struct series *series, struct series *textbook, double reach)
{
  char reach_text[16];
  snprintf(reach_text, sizeof reach_text, "<= %.2f", reach);
  double ratio = median(series->ratio, round_count);
  report(question, reach_text, ratio <= reach, "%.3f (%.3f to %.3f); %.1f us against %.1f us", ratio, series->ratio[0],
         series->ratio[round_count - 1], median(series->cpu_us, round_count), median(textbook->cpu_us, round_count));
}

static void report_opened(const char *what, const struct series *series, const struct series *textbook, int most)
{
  char question[128], reach[16];
  snprintf(question, sizeof question, "connections opened for %ld requests, %d in flight, %s", request_count, IN_FLIGHT,
           what);
  snprintf(reach, sizeof reach, "<= %d", most);
  report(question, reach, series->most_opened <= (unsigned) most, "%llu (textbook %llu)", series->most_opened,
         textbook->most_opened);
}

static void measure_plain(const char *url)
{
  struct series textbook = {0}, callback = {0}, queue = {0};
  for (size_t i = 0; i < round_count; i++) {
    struct result first = run(NULL, url, NULL, "1");
    note(&textbook, i, first, first);
    note(&callback, i, run("callback", url, NULL, "1"), first);
    note(&queue, i, run("queue", url, NULL, "1"), first);
  }
  report_ratio("CPU of a request against textbook libcurl + epoll, callbacks on the host's loop", &callback, &textbook,
               0.85);
  report_ratio("the same, queue and the library's own thread", &queue, &textbook, 0.95);
  if (queue.most_opened > callback.most_opened)
    callback.most_opened = queue.most_opened;
  report_opened("plain", &callback, &textbook, IN_FLIGHT);
}

static void measure_tls(const char *url, const char *ca_file, bool http2)
{
  struct series textbook = {0}, callback = {0};
  const char *version = http2 ? "2" : "1";
  for (size_t i = 0; i < round_count; i++) {
    struct result first = run(NULL, url, ca_file, version);
    note(&textbook, i, first, first);
    note(&callback, i, run("callback", url, ca_file, version), first);
  }
  report_ratio(http2 ? "the same, over HTTP/2, against the textbook with CURLOPT_PIPEWAIT"
                     : "the same, callbacks over TLS 1.3",
               &callback, &textbook, 0.90);
  report_opened(http2 ? "HTTP/2" : "TLS", &callback, &textbook, http2 ? 1 : IN_FLIGHT);
}

int main(int argc, char **argv)
{
  char url[64];
  if (is_quick(argc, argv)) {
    request_count = QUICK_COUNT;
    round_count = QUICK_ROUNDS;
  }
  ssize_t len = readlink("/proc/self/exe", here, sizeof here - 1);
  if (len < 0)
    give_up("/proc is not there");
  here[len] = '\0';
  dirname(here);

  struct certs *certs = certs_new();
  struct process *nginx = nginx_start(&(struct nginx_options){.cpu_affinity = "10",
                                                              .certs = certs,
                                                              .http2 = true,
                                                              .tls_protocols = "TLSv1.3",
                                                              .keepalive_timeout_ms = 600000,
                                                              .keepalive_requests = KEEP_ALIVE_REQUESTS});
  if (nginx == NULL)
    give_up("nginx does not start");
  snprintf(url, sizeof url, "http://127.0.0.1:%u/ok", process_port(nginx));
  measure_plain(url);
  snprintf(url, sizeof url, "https://127.0.0.1:%u/ok", process_tls_port(nginx));
  measure_tls(url, certs->ca_file, false);
  measure_tls(url, certs->ca_file, true);
  process_stop(nginx);
  certs_free(certs);
  return 0;
}
