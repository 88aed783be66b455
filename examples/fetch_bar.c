/* fetch_bar: progress on standard error, only when that is a terminal */
#include "fetch_bar.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { INTERVAL_US = 100000, NARROWEST_BAR = 10, WIDEST_BAR = 60 };

int64_t fetch_now_us(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void fetch_bar_start(struct fetch_bar *bar)
{
  bar->on = isatty(STDERR_FILENO);
  bar->started_us = fetch_now_us();
  bar->drawn_us = bar->started_us - INTERVAL_US;
}

/* At most ten times a second. */
static int is_due(struct fetch_bar *bar)
{
  int64_t now_us = fetch_now_us();
  if (!bar->on || now_us - bar->drawn_us < INTERVAL_US)
    return 0;
  bar->drawn_us = now_us;
  return 1;
}

static double per_second(const struct fetch_bar *bar, double amount)
{
  double elapsed_s = (double) (bar->drawn_us - bar->started_us) / 1e6;
  return elapsed_s > 0 ? amount / elapsed_s : 0;
}

static void draw(double share, const char *text)
{
  struct winsize size;
  char cells[WIDEST_BAR + 1];
  int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  int width = columns - (int) strlen(text) - 12; /* brackets, percentage, blanks */
  width = width < NARROWEST_BAR ? NARROWEST_BAR : width > WIDEST_BAR ? WIDEST_BAR : width;
  int full = (int) (share * width);
  memset(cells, '=', (size_t) full);
  memset(cells + full, ' ', (size_t) (width - full));
  cells[width] = '\0';
  /* The escape sequence clears what an earlier, longer line left. */
  fprintf(stderr, "\r[%s] %3d %%  %s\033[K", cells, (int) (100 * share), text);
}

void fetch_bar_update(struct fetch_bar *bar, int64_t done, int64_t total, int64_t failed)
{
  char text[120];
  if (!is_due(bar))
    return;
  snprintf(text, sizeof text, "%lld/%lld  %.0f/s  %lld failed", (long long) done, (long long) total,
           per_second(bar, (double) done), (long long) failed);
  draw((double) done / (double) total, text);
}

void fetch_bar_bytes(struct fetch_bar *bar, int64_t done, int64_t total)
{
  char text[120];
  if (!is_due(bar))
    return;
  double rate = per_second(bar, (double) done / 1e6);
  if (total < 0) {
    fprintf(stderr, "\r%.1f MB  %.1f MB/s\033[K", (double) done / 1e6, rate);
    return;
  }
  snprintf(text, sizeof text, "%.1f of %.1f MB  %.1f MB/s", (double) done / 1e6, (double) total / 1e6, rate);
  draw(total == 0 || done > total ? 1 : (double) done / (double) total, text);
}

void fetch_bar_end(struct fetch_bar *bar, int64_t done, int64_t total, int64_t failed)
{
  if (!bar->on)
    return;
  bar->drawn_us = 0;
  fetch_bar_update(bar, done, total, failed);
  fputc('\n', stderr);
}

void fetch_bar_end_bytes(struct fetch_bar *bar, int64_t done, int64_t total)
{
  if (!bar->on)
    return;
  bar->drawn_us = 0;
  fetch_bar_bytes(bar, done, total);
  fputc('\n', stderr);
}
