/* storm: does anything get lost, doubled, leaked or out of bounds in a million random requests?
 *
 *     bench_storm [SEED [REQUESTS]] */
#include <stdio.h>
#include <stdlib.h>

#include "support/storm.h"

enum { REQUESTS = 1000000, LOAD_MS = 9 * 60 * 1000 };

int main(int argc, char **argv)
{
  struct storm_options options = {.seed = storm_seed(argc > 1 ? argv[1] : NULL),
                                  .requests = REQUESTS,
                                  .deadline_ms = LOAD_MS};
  struct storm_result r;
  if (argc > 2)
    options.requests = atoll(argv[2]);
  fprintf(stderr, "storm: seed %llu\n", (unsigned long long) options.seed);
  storm_run(&options, &r);
  int64_t operations = r.accepted + r.refused;
  bool ok = storm_clean(&r) && operations >= options.requests;
  storm_print(&r);
  int64_t leaked = r.leaked_blocks + r.leaked_fds + r.leaked_threads + r.unfree;
  printf("question|measured|reach|verdict\n");
  printf("random storms, %lld operations|lost %lld, double %lld, leaked %lld, limit breaches %lld|0|%s\n",
         (long long) operations, (long long) r.lost, (long long) r.doubled, (long long) leaked, (long long) r.limits,
         ok ? "ok" : "missed");
  return ok ? 0 : 1;
}
