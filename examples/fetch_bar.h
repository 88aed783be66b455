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
/* Both draw at most ten times a second: requests, or bytes of one download, whose total may be unknown (-1). */
void fetch_bar_update(struct fetch_bar *bar, int64_t done, int64_t total, int64_t failed);
void fetch_bar_bytes(struct fetch_bar *bar, int64_t done, int64_t total);
/* Draw for the last time and end the line. */
void fetch_bar_end(struct fetch_bar *bar, int64_t done, int64_t total, int64_t failed);
void fetch_bar_end_bytes(struct fetch_bar *bar, int64_t done, int64_t total);

#endif
