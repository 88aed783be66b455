/* session: what making and freeing a session costs, on a pool with its own thread */
#include "measure.h"

#include <cpool.h>

enum { ROUNDS = 21, SESSIONS = 20000, QUICK_SESSIONS = 500, WARM_UP = 1000 };

#define REACH_US 2.0

static void make_and_free(cpool_http *pool, const cpool_session_options *options, int count)
{
  for (int i = 0; i < count; i++) {
    cpool_session *session = NULL;
    if (cpool_session_new(&session, pool, options) != CPOOL_OK)
      give_up("session: a session was refused");
    cpool_session_free(session);
  }
}

/* Process time, so that work handed to the loop's thread counts as well. */
static void measure(cpool_http *pool, const cpool_session_options *options, int count, const char *question)
{
  double us[ROUNDS];
  make_and_free(pool, options, WARM_UP);
  for (int round = 0; round < ROUNDS; round++) {
    double began_us = process_cpu_us();
    make_and_free(pool, options, count);
    us[round] = (process_cpu_us() - began_us) / count;
  }
  double middle_us = median(us, ROUNDS);
  report(question, "<= 2.0 us", middle_us <= REACH_US, "%.2f us (%.2f to %.2f)", middle_us, us[0], us[ROUNDS - 1]);
}

int main(int argc, char **argv)
{
  static const cpool_header headers[] = {{"X-Tenant", "blue"}, {"Accept", "application/json"}};
  int count = is_quick(argc, argv) ? QUICK_SESSIONS : SESSIONS;
  cpool_http *pool = NULL;
  pin_to(CLIENT_CPU);
  if (cpool_http_new(&pool, NULL, NULL) != CPOOL_OK)
    give_up("session: no pool");
  measure(pool, NULL, count, "CPU of session new and free, no options");

  cpool_session_options options;
  cpool_session_options_init(&options);
  options.base_url = "https://api.example.com/v1";
  options.headers = headers;
  options.header_count = sizeof headers / sizeof headers[0];
  options.bearer_token = "0123456789abcdef0123456789abcdef";
  measure(pool, &options, count, "CPU of session new and free, base URL, two headers, bearer token");
  return cpool_http_close(pool, 0) == CPOOL_OK ? 0 : 1;
}
