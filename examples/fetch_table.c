/* fetch_table: the report for people */
#include "fetch_tally.h"

#include <stdio.h>

enum { CELL_BYTES = 32 };

/* Three or four digits in the unit that fits. */
static const char *duration(char out[CELL_BYTES], uint64_t us)
{
  if (us < 1000)
    snprintf(out, CELL_BYTES, "%llu us", (unsigned long long) us);
  else if (us < 1000000)
    snprintf(out, CELL_BYTES, us < 10000 ? "%.2f ms" : us < 100000 ? "%.1f ms" : "%.0f ms", (double) us / 1e3);
  else
    snprintf(out, CELL_BYTES, us < 10000000 ? "%.2f s" : "%.1f s", (double) us / 1e6);
  return out;
}

static const char *amount(char out[CELL_BYTES], uint64_t bytes)
{
  static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
  double value = (double) bytes;
  size_t unit = 0;
  for (; value >= 1000 && unit + 1 < sizeof units / sizeof units[0]; unit++)
    value /= 1000;
  snprintf(out, CELL_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return out;
}

/* Error texts may quote what a peer or a URL contained: control bytes stay off the terminal. */
static void print_text(const char *text)
{
  for (; *text != '\0'; text++)
    putchar((unsigned char) *text < 0x20 || *text == 0x7f ? '?' : *text);
}

static void print_failures(const struct fetch_tally *tally)
{
  printf("failed          %lld\n", (long long) tally->failed);
  for (int i = 0; i < tally->reason_count; i++) {
    const struct fetch_reason *reason = &tally->reasons[i];
    printf("  %10lld  %s", (long long) reason->count, reason->name);
    if (reason->text[0] != '\0') {
      printf(reason->count > 1 ? "  first: " : "  ");
      print_text(reason->text);
    }
    putchar('\n');
  }
}

static void print_phases(const struct fetch_result *result)
{
  static const struct {
    int32_t phase;
    const char *name;
  } rows[] = {
      {CPOOL_PHASE_QUEUE, "queue"},           {CPOOL_PHASE_DNS, "DNS"},
      {CPOOL_PHASE_CONNECT, "connect"},       {CPOOL_PHASE_TLS, "TLS"},
      {CPOOL_PHASE_FIRST_BYTE, "first byte"}, {CPOOL_PHASE_TOTAL, "total"},
  };
  printf("\n%-12s %10s %10s %10s %10s %10s\n", "", "count", "p50", "p90", "p99", "max");
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    const cpool_histogram *phase = &result->phases[rows[i].phase];
    char p50[CELL_BYTES], p90[CELL_BYTES], p99[CELL_BYTES], max[CELL_BYTES];
    if (phase->count == 0)
      printf("%-12s %10d %10s %10s %10s %10s\n", rows[i].name, 0, "-", "-", "-", "-");
    else
      printf("%-12s %10llu %10s %10s %10s %10s\n", rows[i].name, (unsigned long long) phase->count,
             duration(p50, phase->p50_us), duration(p90, phase->p90_us), duration(p99, phase->p99_us),
             duration(max, phase->max_us));
  }
}

void fetch_print_table(const struct fetch_result *result)
{
  const struct fetch_tally *tally = result->tally;
  const cpool_http_stats *stats = &result->stats;
  uint64_t sent = stats->requests + stats->redirects;
  char received[CELL_BYTES], cpu[CELL_BYTES], wall[CELL_BYTES];
  printf("requests        %lld in %s, %.0f per second; CPU time %s\n", (long long) tally->requests,
         duration(wall, (uint64_t) (result->wall_s * 1e6)),
         result->wall_s > 0 ? (double) tally->requests / result->wall_s : 0.0,
         duration(cpu, (uint64_t) (result->cpu_s * 1e6)));
  printf("answered        %lld with 2xx or 3xx\n", (long long) tally->ok);
  print_failures(tally);
  printf("sockets opened  %llu; %.1f %% of the requests reused one\n", (unsigned long long) stats->opened,
         sent != 0 ? 100.0 * (double) stats->reused / (double) sent : 0.0);
  if (stats->redirects != 0)
    printf("redirects       %llu\n", (unsigned long long) stats->redirects);
  printf("received        %s\n", amount(received, stats->bytes_received));
  print_phases(result);
}
