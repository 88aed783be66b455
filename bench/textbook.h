/* textbook: what the two clients that are compared have in common: their arguments and their one line of output
 *
 *   bench_textbook URL COUNT IN_FLIGHT CA_FILE|- 1|2
 *   bench_client   callback|queue URL COUNT IN_FLIGHT CA_FILE|- 1|2
 *
 * Both get URL COUNT times with IN_FLIGHT requests at a time over HTTP/1.1 or HTTP/2, send the same bytes, keep the connections, collect head
 * and body of each answer in memory of its own, look at status, length and one header, and print: CPU in us,
 * connections opened. */
#ifndef CPOOL_BENCH_TEXTBOOK_H
#define CPOOL_BENCH_TEXTBOOK_H

#include "measure.h"

struct job {
  const char *url;
  long count;
  int in_flight;
  const char *ca_file; /* NULL: the system's */
  bool http2;
};

enum { ANSWER_BYTES = 6 /* "hello\n" */ };

static inline struct job job_from(int argc, char **argv)
{
  if (argc != 5)
    give_up("usage: URL COUNT IN_FLIGHT CA_FILE|- 1|2");
  struct job job = {.url = argv[0],
                    .count = atol(argv[1]),
                    .in_flight = atoi(argv[2]),
                    .ca_file = strcmp(argv[3], "-") == 0 ? NULL : argv[3],
                    .http2 = strcmp(argv[4], "2") == 0};
  if (job.count < 1 || job.in_flight < 1)
    give_up("COUNT and IN_FLIGHT must be positive");
  if (job.in_flight > job.count)
    job.in_flight = (int) job.count;
  return job;
}

static inline void print_result(double cpu_us, unsigned long long opened)
{
  printf("%.0f %llu\n", cpu_us, opened);
}

#endif
