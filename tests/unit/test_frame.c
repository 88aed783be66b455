/* frame: headers by length, pieces, close frames; what is UTF-8, and which close codes may be sent */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ws/frame.h"

/* Reads the frames back: the payload they carry. */
static size_t read_back(const struct cpool__frame *frame, int opcode, char *out)
{
  size_t at = 0, got = 0;
  for (int i = 0; at < frame->len; i++) {
    const unsigned char *bytes = frame->bytes + at;
    size_t len = cpool__frame_piece(frame, at);
    size_t head = bytes[1] < 126 ? 2 : 4;
    assert_in_range(len, head, frame->len - at);
    assert_int_equal(bytes[0] & 0x0F, i == 0 ? opcode : 0);
    assert_int_equal((bytes[0] & 0x80) != 0, at + len == frame->len);
    assert_int_equal(bytes[0] & 0x70, 0);
    assert_int_equal(bytes[1] & 0x80, 0); /* no mask */
    assert_in_range(len - head, 0, CPOOL__FRAME_PIECE);
    memcpy(out + got, bytes + head, len - head);
    got += len - head;
    at += len;
  }
  assert_int_equal(at, frame->len);
  return got;
}

static void frames_carry_what_they_were_given(void **state)
{
  (void) state;
  static const size_t lengths[] = {0, 1, 125, 126, 127, 65519, 65520, 65521, 65535, 65536, 131040, 131041, 1000000};
  char *payload = malloc(1000000), *back = malloc(1000000);
  assert_true(payload != NULL && back != NULL);
  for (size_t i = 0; i < 1000000; i++)
    payload[i] = (char) (i * 7);
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    _Atomic int64_t counter = 0;
    struct cpool__frame *frame = cpool__frame_new(2, payload, lengths[i], &counter);
    assert_non_null(frame);
    assert_int_equal(frame->payload_len, lengths[i]);
    assert_int_equal(counter, sizeof *frame + frame->len);
    assert_int_equal(read_back(frame, 2, back), lengths[i]);
    assert_memory_equal(back, payload, lengths[i]);
    cpool__frame_drop(cpool__frame_hold(frame));
    assert_true(counter > 0);
    cpool__frame_drop(frame);
    assert_int_equal(counter, 0);
  }
  free(payload);
  free(back);
}

static void close_frames(void **state)
{
  (void) state;
  struct cpool__frame *frame = cpool__frame_close(4001, "bye", 3);
  assert_non_null(frame);
  assert_int_equal(frame->len, 7);
  assert_memory_equal(frame->bytes,
                      "\x88\x05\x0f\xa1"
                      "bye",
                      7);
  cpool__frame_drop(frame);
  frame = cpool__frame_close(1005, NULL, 0);
  assert_non_null(frame);
  assert_memory_equal(frame->bytes, "\x88\x00", 2);
  assert_int_equal(frame->len, 2);
  cpool__frame_drop(frame);
}

static void close_codes(void **state)
{
  (void) state;
  for (int code = -1; code <= 70000; code++) {
    bool valid = (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
                 (code >= 3000 && code <= 4999);
    assert_int_equal(cpool__close_code_valid(code), valid);
  }
}

/* A decoder that is slow and plain. */
static bool is_utf8(const unsigned char *at, size_t len)
{
  for (size_t i = 0; i < len;) {
    unsigned lead = at[i];
    size_t more = lead < 0x80             ? 0
                  : (lead & 0xE0) == 0xC0 ? 1
                  : (lead & 0xF0) == 0xE0 ? 2
                  : (lead & 0xF8) == 0xF0 ? 3
                                          : 9;
    if (more == 9 || i + more >= len)
      return false;
    uint32_t value = more == 0 ? lead : lead & (0x3Fu >> more);
    for (size_t j = 1; j <= more; j++) {
      if ((at[i + j] & 0xC0) != 0x80)
        return false;
      value = value << 6 | (at[i + j] & 0x3F);
    }
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (value < least[more] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
      return false;
    i += more + 1;
  }
  return true;
}

static void utf8_is_told_from_what_is_none(void **state)
{
  (void) state;
  static const unsigned char bytes[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0,
                                        0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0,
                                        0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFE, 0xFF};
  enum { KINDS = sizeof bytes };
  for (size_t a = 0; a < KINDS; a++)
    for (size_t b = 0; b < KINDS; b++)
      for (size_t c = 0; c < KINDS; c++)
        for (size_t d = 0; d < KINDS; d++) {
          unsigned char text[] = {'x', bytes[a], bytes[b], bytes[c], bytes[d]};
          for (size_t len = 0; len <= sizeof text; len++)
            if (cpool__utf8_valid(text, len) != is_utf8(text, len))
              fail_msg("%02x %02x %02x %02x, %zu bytes", bytes[a], bytes[b], bytes[c], bytes[d], len);
        }
  char text[64];
  memset(text, 'a', sizeof text);
  for (size_t at = 0; at + 2 <= sizeof text; at++) { /* at each place of the words that are skipped */
    memcpy(text + at, "\xc3\xa4", 2);
    assert_true(cpool__utf8_valid(text, sizeof text));
    text[at + 1] = 'a';
    assert_false(cpool__utf8_valid(text, sizeof text));
    text[at] = 'a';
  }
  assert_true(cpool__utf8_valid(NULL, 0));
}

/* Whether some bytes behind it make it UTF-8. */
static bool can_become_utf8(const unsigned char *text, size_t len)
{
  static const unsigned char more[] = {0x80, 0x90, 0xA0, 0xBF}; /* of each range that the second byte can have */
  unsigned char all[16];
  memcpy(all, text, len);
  for (int count = 0; count <= 3; count++)
    for (int pick = 0; pick < 1 << 2 * count; pick++) {
      for (int i = 0; i < count; i++)
        all[len + (size_t) i] = more[pick >> 2 * i & 3];
      if (is_utf8(all, len + (size_t) count))
        return true;
    }
  return false;
}

static void utf8_in_parts_is_refused_at_the_first_wrong_byte(void **state)
{
  (void) state;
  static const unsigned char bytes[] = {0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1,
                                        0xC2, 0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF};
  enum { KINDS = sizeof bytes };
  for (size_t a = 0; a < KINDS; a++)
    for (size_t b = 0; b < KINDS; b++)
      for (size_t c = 0; c < KINDS; c++) {
        unsigned char text[] = {bytes[a], bytes[b], bytes[c]};
        for (size_t len = 0; len <= sizeof text; len++) {
          size_t whole = 99;
          bool good = cpool__utf8_part(text, len, &whole);
          if (good != can_become_utf8(text, len) || (good && !is_utf8(text, whole)) || (good && whole > len))
            fail_msg("%02x %02x %02x, %zu bytes: %d, %zu whole", bytes[a], bytes[b], bytes[c], len, good, whole);
          for (size_t most = whole + 1; good && most <= len; most++)
            assert_false(is_utf8(text, most));
        }
      }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(frames_carry_what_they_were_given),
      cmocka_unit_test(close_frames),
      cmocka_unit_test(close_codes),
      cmocka_unit_test(utf8_is_told_from_what_is_none),
      cmocka_unit_test(utf8_in_parts_is_refused_at_the_first_wrong_byte),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
