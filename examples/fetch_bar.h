/* fetch_bar: progress on standard error, only when that is a terminal */
#ifndef FETCH_BAR_H
#define FETCH_BAR_H

#include <stdint.h>

struct fetch_bar {
  int on;
  int64_t started_us, drawn_us;
};

int64_t fetch_now_us(void); /* monotonic */

void fetch_bar_start(struct fetch_bar *bar);
/* Draws at most ten times a second. */
void fetch_bar_update(struct fetch_bar *bar, int64_t done, int64_t total, int64_t failed);
/* Draws for the last time and ends the line. */
void fetch_bar_end(struct fetch_bar *bar, int64_t done, int64_t total, int64_t failed);

#endif
