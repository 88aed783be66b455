/* fetch_tally: what came of the requests; failures are counted by reason, so that a million of them print as a few lines */
#ifndef FETCH_TALLY_H
#define FETCH_TALLY_H

#include <stdint.h>

#include <cpool.h>

enum { FETCH_REASON_BYTES = 40, FETCH_TEXT_BYTES = 256, FETCH_MAX_REASONS = 64 };

struct fetch_reason {
  char name[FETCH_REASON_BYTES]; /* "HTTP 404", "CPOOL_ECONNECT" */
  char text[FETCH_TEXT_BYTES];   /* of the first failure that had it; "" for HTTP */
  int64_t count;
};

struct fetch_tally {
  int64_t requests, ok, failed; /* requests == ok + failed */
  struct fetch_reason reasons[FETCH_MAX_REASONS];
  int reason_count;
};

/* Whether an answer is one of those that are asked for: 2xx or 3xx. */
int fetch_tally_counts(const cpool_response *resp);
void fetch_tally_event(struct fetch_tally *tally, const cpool_event *event);
/* For a submit that this thread just made and that returned `status`. */
void fetch_tally_refused(struct fetch_tally *tally, int status, const char *url);

/* The finished run, as both reports print it. */
struct fetch_result {
  const struct fetch_tally *tally;
  cpool_http_stats stats;
  cpool_histogram phases[CPOOL_PHASES]; /* by enum cpool_http_phase */
  double wall_s, cpu_s;                 /* cpu_s: of this process, all threads */
};

void fetch_print_table(const struct fetch_result *result);
/* 0, or -1 when out of memory. */
int fetch_print_json(const struct fetch_result *result);

#endif
