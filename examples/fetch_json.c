/* fetch_json: the report for programs, one object on one line */
#include "fetch_tally.h"

#include <stdio.h>

#include <cjson/cJSON.h>

static void add_number(cJSON *object, const char *key, double value, int *failed)
{
  if (cJSON_AddNumberToObject(object, key, value) == NULL)
    *failed = 1;
}

static void add_phase(cJSON *object, const char *key, const cpool_histogram *phase, int *failed)
{
  cJSON *times = cJSON_AddObjectToObject(object, key);
  add_number(times, "count", (double) phase->count, failed);
  add_number(times, "p50", (double) phase->p50_us / 1e3, failed);
  add_number(times, "p90", (double) phase->p90_us / 1e3, failed);
  add_number(times, "p99", (double) phase->p99_us / 1e3, failed);
  add_number(times, "max", (double) phase->max_us / 1e3, failed);
}

int fetch_print_json(const struct fetch_result *result)
{
  static const struct {
    int32_t phase;
    const char *key;
  } phases[] = {
      {CPOOL_PHASE_TOTAL, "latency_ms"},   {CPOOL_PHASE_QUEUE, "queue_ms"}, {CPOOL_PHASE_DNS, "dns_ms"},
      {CPOOL_PHASE_CONNECT, "connect_ms"}, {CPOOL_PHASE_TLS, "tls_ms"},     {CPOOL_PHASE_FIRST_BYTE, "first_byte_ms"},
  };
  const struct fetch_tally *tally = result->tally;
  char *text = NULL;
  int failed = 0;
  cJSON *root = cJSON_CreateObject(); /* cJSON takes a NULL object, and fails then */
  add_number(root, "requests", (double) tally->requests, &failed);
  add_number(root, "ok", (double) tally->ok, &failed);
  add_number(root, "failed", (double) tally->failed, &failed);
  cJSON *errors = cJSON_AddObjectToObject(root, "errors");
  cJSON *texts = cJSON_AddObjectToObject(root, "error_texts");
  for (int i = 0; i < tally->reason_count; i++) {
    const struct fetch_reason *reason = &tally->reasons[i];
    add_number(errors, reason->name, (double) reason->count, &failed);
    if (reason->text[0] != '\0' && cJSON_AddStringToObject(texts, reason->name, reason->text) == NULL)
      failed = 1;
  }
  add_number(root, "opened", (double) result->stats.opened, &failed);
  add_number(root, "reused", (double) result->stats.reused, &failed);
  add_number(root, "redirects", (double) result->stats.redirects, &failed);
  add_number(root, "bytes", (double) result->stats.bytes_received, &failed);
  add_number(root, "wall_s", result->wall_s, &failed);
  add_number(root, "cpu_s", result->cpu_s, &failed);
  for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++)
    add_phase(root, phases[i].key, &result->phases[phases[i].phase], &failed);
  if (!failed && texts != NULL)
    text = cJSON_PrintUnformatted(root);
  if (text != NULL)
    puts(text);
  cJSON_free(text);
  cJSON_Delete(root);
  return text != NULL ? 0 : -1;
}
