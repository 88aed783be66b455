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

void fetch_bar_update(struct fetch_bar *bar, int64_t done, int64_t total, int64_t failed)
{
  if (!bar->on)
    return;
  int64_t now_us = fetch_now_us();
  if (now_us - bar->drawn_us < INTERVAL_US)
    return;
  bar->drawn_us = now_us;

  struct winsize size;
  char text[120], cells[WIDEST_BAR + 1];
  double elapsed_s = (double) (now_us - bar->started_us) / 1e6;
  int text_len = snprintf(text, sizeof text, "%lld/%lld  %.0f/s  %lld failed", (long long) done, (long long) total,
                          elapsed_s > 0 ? (double) done / elapsed_s : 0.0, (long long) failed);
  int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  int width = columns - text_len - 12; /* brackets, percentage, blanks */
  width = width < NARROWEST_BAR ? NARROWEST_BAR : width > WIDEST_BAR ? WIDEST_BAR : width;
  int full = (int) ((double) done / (double) total * width);
  memset(cells, '=', (size_t) full);
  memset(cells + full, ' ', (size_t) (width - full));
  cells[width] = '\0';
  /* The escape sequence clears what an earlier, longer line left. */
  fprintf(stderr, "\r[%s] %3d %%  %s\033[K", cells, (int) (100.0 * (double) done / (double) total), text);
}

void fetch_bar_end(struct fetch_bar *bar, int64_t done, int64_t total, int64_t failed)
{
  if (!bar->on)
    return;
  bar->drawn_us = 0;
  fetch_bar_update(bar, done, total, failed);
  fputc('\n', stderr);
}
