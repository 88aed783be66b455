/* fetch_tally: counts outcomes, failures by reason */
#include "fetch_tally.h"

#include <stdio.h>
#include <string.h>

/* Out of room, the last reason collects the rest. */
static struct fetch_reason *find_reason(struct fetch_tally *tally, const char *name)
{
  for (int i = 0; i < tally->reason_count; i++) {
    if (strcmp(tally->reasons[i].name, name) == 0)
      return &tally->reasons[i];
  }
  if (tally->reason_count == FETCH_MAX_REASONS)
    return &tally->reasons[FETCH_MAX_REASONS - 1];
  struct fetch_reason *reason = &tally->reasons[tally->reason_count++];
  snprintf(reason->name, sizeof reason->name, "%s", tally->reason_count < FETCH_MAX_REASONS ? name : "other");
  return reason;
}

static void count_failure(struct fetch_tally *tally, const char *name, const char *text)
{
  struct fetch_reason *reason = find_reason(tally, name);
  tally->requests++;
  tally->failed++;
  if (reason->count++ == 0)
    snprintf(reason->text, sizeof reason->text, "%s", text);
}

int fetch_tally_counts(const cpool_response *resp)
{
  int http_status = cpool_response_status(resp);
  return http_status >= 200 && http_status <= 399;
}

void fetch_tally_event(struct fetch_tally *tally, const cpool_event *event)
{
  if (event->status != CPOOL_OK) {
    cpool_error err;
    cpool_error_init(&err);
    cpool_response_error_get(event->response, &err);
    count_failure(tally, cpool_status_name(event->status), err.text);
  } else if (!fetch_tally_counts(event->response)) { /* a complete answer all the same: for the library a success */
    char name[FETCH_REASON_BYTES];
    snprintf(name, sizeof name, "HTTP %d", cpool_response_status(event->response));
    count_failure(tally, name, "");
  } else {
    tally->requests++;
    tally->ok++;
  }
}

void fetch_tally_refused(struct fetch_tally *tally, int status, const char *url)
{
  cpool_error err;
  char text[FETCH_TEXT_BYTES];
  cpool_error_init(&err);
  cpool_last_error(&err);
  snprintf(text, sizeof text, "%.60s refused: %.180s", url, err.text);
  count_failure(tally, cpool_status_name(status), text);
}
