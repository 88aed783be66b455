/* fuzz_wheel: any order of arm, cancel and advance, against an array that is searched from end to end */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/wheel.h"

#define SPAN_MS (UINT64_C(1) << 36)

enum { ROWS = 16 };

struct row {
  struct cpool__timer timer;
  bool armed;
  uint64_t due_ms;
  uint8_t reply; /* what its function does: see fire */
};

static struct {
  struct cpool__wheel wheel;
  struct row rows[ROWS];
  uint64_t now_ms;
  uint32_t fired_count;
} m;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
  if (!holds)
    abort();
}

static void fire(struct cpool__timer *timer);

static void arm(struct row *row, uint64_t due_ms)
{
  cpool__wheel_arm(&m.wheel, &row->timer, due_ms, fire);
  row->armed = true;
  row->due_ms = due_ms > m.now_ms && due_ms - m.now_ms >= SPAN_MS ? m.now_ms + SPAN_MS - 1 : due_ms;
}

static void cancel(struct row *row)
{
  cpool__wheel_cancel(&m.wheel, &row->timer);
  row->armed = false;
}

static void fire(struct cpool__timer *timer)
{
  struct row *row = cpool__container_of(timer, struct row, timer);
  must(row->armed && row->due_ms <= m.now_ms && m.wheel.now_ms == m.now_ms);
  row->armed = false;
  m.fired_count++;
  struct row *other = &m.rows[row->reply % ROWS];
  if ((row->reply & 0xc0) == 0x40)
    cancel(other);
  else if ((row->reply & 0xc0) == 0x80)
    arm(other, m.now_ms + 1 + (uint64_t) (row->reply & 0x30) * 100);
}

static void advance(uint64_t now_ms)
{
  bool backwards = now_ms < m.now_ms;
  if (!backwards)
    m.now_ms = now_ms;
  m.fired_count = 0;
  uint32_t fired_count = cpool__wheel_advance(&m.wheel, now_ms);
  must(fired_count == m.fired_count && (!backwards || fired_count == 0));
  for (size_t i = 0; i < ROWS && !backwards; i++)
    must(!m.rows[i].armed || m.rows[i].due_ms > m.now_ms);
}

static void check(void)
{
  uint64_t earliest_ms = UINT64_MAX, next_ms = cpool__wheel_next(&m.wheel);
  for (size_t i = 0; i < ROWS; i++) {
    must(cpool__timer_armed(&m.rows[i].timer) == m.rows[i].armed);
    if (m.rows[i].armed && m.rows[i].due_ms < earliest_ms)
      earliest_ms = m.rows[i].due_ms;
  }
  must((next_ms == UINT64_MAX) == (earliest_ms == UINT64_MAX));
  must(earliest_ms <= m.now_ms ? next_ms == m.now_ms : next_ms > m.now_ms && next_ms <= earliest_ms);
}

/* Four bytes an operation: what and which row, the size of the span in bits, sixteen bits of it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  for (size_t i = 0; i < ROWS; i++)
    m.rows[i] = (struct row){0};
  m.now_ms = size > 0 ? (uint64_t) data[0] << 28 : 0;
  cpool__wheel_init(&m.wheel, m.now_ms);
  for (; size >= 4; data += 4, size -= 4) {
    struct row *row = &m.rows[data[0] % ROWS];
    uint64_t bits = (uint64_t) data[2] << 8 | data[3];
    unsigned shift = data[1] % 40;
    uint64_t span_ms = shift < 16 ? bits >> (16 - shift) : bits << (shift - 16);
    switch (data[0] >> 4 & 7) {
    case 0:
    case 1:
    case 2:
      row->reply = data[3];
      arm(row, m.now_ms + span_ms);
      break;
    case 3:
      arm(row, m.now_ms > span_ms ? m.now_ms - span_ms : 0);
      break;
    case 4:
      cancel(row);
      break;
    case 5:
      if (cpool__wheel_next(&m.wheel) != UINT64_MAX)
        advance(cpool__wheel_next(&m.wheel));
      break;
    case 6:
      advance(m.now_ms + span_ms);
      break;
    default:
      advance(m.now_ms > span_ms ? m.now_ms - span_ms : 0);
    }
    check();
  }
  return 0;
}
