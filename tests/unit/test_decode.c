/* decode: what was coded comes back, however it arrives, in bounded pieces; anything else ends with a word about it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "http/decode.h"
#include "support/coded.h"

enum { TEXT_BYTES = 100000, BOMB_BYTES = 8 * 1024 * 1024 };

static const char *const all[] = {"gzip", "deflate", "bare", "br", "zstd"};
#define EACH_CODING(name)                                                                                              \
  for (const char *const *at_ = all; at_ < all + sizeof all / sizeof *all; at_++)                                      \
    for (const char *name = *at_; name != NULL; name = NULL)                                                           \
      if (coded_has(name))

static struct cpool__codings codings_of(const char *value)
{
  struct cpool__codings codings = {.count = 0};
  cpool__codings_add(&codings, strcmp(value, "bare") == 0 ? "deflate" : value);
  return codings;
}

/* Neither all alike nor noise. */
static char *text_of(size_t len)
{
  char *text = malloc(len);
  uint32_t x = 1;
  assert_non_null(text);
  for (size_t i = 0; i < len; i++) {
    x = x * 1664525 + 1013904223;
    text[i] = (char) ('a' + (x >> 28));
  }
  return text;
}

struct got {
  char *data;
  size_t len, most; /* most: of one piece */
  enum cpool__decode_result result;
  bool complete;
};

/* Feeds the bytes in parts of `part`. Without `keep` only counts what comes. */
static struct got undo(const char *value, const void *data, size_t len, size_t part, int64_t max_ratio, bool keep)
{
  struct cpool__codings codings = codings_of(value);
  struct cpool__decode *decode = cpool__decode_new(&codings, max_ratio);
  struct got got = {.data = NULL};
  const char *in = data, *out;
  assert_non_null(decode);
  for (size_t at = 0; at < len && got.result == CPOOL__DECODE_OK; at += part) {
    size_t left = len - at < part ? len - at : part, made;
    in = (const char *) data + at;
    do {
      got.result = cpool__decode_step(decode, &in, &left, &out, &made);
      if (got.result != CPOOL__DECODE_OK)
        break;
      if (keep && made > 0) {
        got.data = realloc(got.data, got.len + made);
        assert_non_null(got.data);
        memcpy(got.data + got.len, out, made);
      }
      got.len += made;
      got.most = made > got.most ? made : got.most;
    } while (made > 0);
    assert_true(got.result != CPOOL__DECODE_OK || left == 0);
  }
  got.complete = got.result == CPOOL__DECODE_OK && cpool__decode_complete(decode);
  cpool__decode_free(decode);
  return got;
}

static void assert_comes_back(const char *value, const void *data, size_t len, size_t part, const char *text,
                              size_t text_len)
{
  struct got got = undo(value, data, len, part, 1000, true);
  assert_int_equal(got.result, CPOOL__DECODE_OK);
  assert_true(got.complete);
  assert_int_equal(got.len, text_len);
  assert_true(text_len == 0 || memcmp(got.data, text, text_len) == 0);
  assert_true(got.most <= CPOOL__DECODE_PIECE_BYTES);
  free(got.data);
}

static void what_was_coded_comes_back_in_parts_of_any_size(void **state)
{
  (void) state;
  static const size_t parts[] = {1, 2, 3, 7, 1000, 16384, SIZE_MAX / 2};
  char *text = text_of(TEXT_BYTES);
  EACH_CODING(name)
  {
    size_t len;
    void *data = coded(name, text, TEXT_BYTES, &len);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
      assert_comes_back(name, data, len, parts[i], text, TEXT_BYTES);
    free(data);
  }
  free(text);
}

static void an_empty_body_comes_back_coded_or_not(void **state)
{
  (void) state;
  EACH_CODING(name)
  {
    size_t len;
    void *data = coded(name, "", 0, &len);
    assert_comes_back(name, data, len, 1, "", 0);
    assert_comes_back(name, data, 0, 1, "", 0);
    free(data);
  }
}

static void several_codings_are_undone_in_turn(void **state)
{
  (void) state;
  char *text = text_of(TEXT_BYTES);
  static const char *const orders[][3] = {{"gzip", "br", "zstd"},
                                          {"zstd", "deflate", "gzip"},
                                          {"br", "br", "br"},
                                          {"gzip", "gzip", "deflate"}};
  for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
    if (!coded_has(orders[i][0]) || !coded_has(orders[i][1]) || !coded_has(orders[i][2]))
      continue;
    size_t first, second, third;
    char list[64];
    void *a = coded(orders[i][0], text, TEXT_BYTES, &first), *b = coded(orders[i][1], a, first, &second),
         *c = coded(orders[i][2], b, second, &third);
    snprintf(list, sizeof list, "%s, %s ,,\t%s", orders[i][0], orders[i][1], orders[i][2]);
    assert_comes_back(list, c, third, 1, text, TEXT_BYTES);
    assert_comes_back(list, c, third, 16384, text, TEXT_BYTES);
    free(a);
    free(b);
    free(c);
  }
  free(text);
}

static void members_and_frames_follow_one_another(void **state)
{
  (void) state;
  static const char *const several[] = {"gzip", "zstd"};
  for (size_t i = 0; i < 2; i++) {
    if (!coded_has(several[i]))
      continue;
    size_t first, second, none;
    char *a = coded(several[i], "hello, ", 7, &first), *b = coded(several[i], "world", 5, &second),
         *c = coded(several[i], "", 0, &none), *both = malloc(first + none + second);
    memcpy(both, a, first);
    memcpy(both + first, c, none);
    memcpy(both + first + none, b, second);
    for (size_t part = 1; part < 40; part++)
      assert_comes_back(several[i], both, first + none + second, part, "hello, world", 12);
    free(a);
    free(b);
    free(c);
    free(both);
  }
}

static void data_that_ends_early_is_not_complete(void **state)
{
  (void) state;
  char *text = text_of(500);
  EACH_CODING(name)
  {
    size_t len;
    char *data = coded(name, text, 500, &len);
    for (size_t cut = 1; cut < len; cut++) {
      struct got got = undo(name, data, cut, 16384, 1000, false);
      assert_int_equal(got.result, CPOOL__DECODE_OK);
      assert_false(got.complete);
    }
    free(data);
  }
  free(text);
}

static void bytes_behind_the_end_are_malformed(void **state)
{
  (void) state;
  EACH_CODING(name)
  {
    size_t len;
    char *data = coded(name, "hello", 5, &len), *more = malloc(len + 8);
    memcpy(more, data, len);
    memset(more + len, 'x', 8);
    for (size_t part = 1; part < len + 8; part++)
      assert_int_equal(undo(name, more, len + 8, part, 1000, false).result, CPOOL__DECODE_MALFORMED);
    free(data);
    free(more);
  }
}

static void noise_is_malformed(void **state)
{
  (void) state;
  unsigned char noise[4096];
  uint32_t x = 7;
  for (size_t i = 0; i < sizeof noise; i++) {
    x = x * 1664525 + 1013904223;
    noise[i] = (unsigned char) (x >> 24);
  }
  noise[0] = 0xff; /* neither a magic number nor a block that raw deflate knows */
  EACH_CODING(name)
  {
    struct got got = undo(name, noise, sizeof noise, 100, 1000, false);
    assert_true(got.result == CPOOL__DECODE_MALFORMED || !got.complete);
    if (strcmp(name, "gzip") == 0 || strcmp(name, "zstd") == 0)
      assert_int_equal(got.result, CPOOL__DECODE_MALFORMED);
  }
}

static void a_wrong_check_sum_is_malformed(void **state)
{
  (void) state;
  size_t len;
  char *data = coded("gzip", "hello", 5, &len);
  data[len - 5] ^= 1; /* of the length behind the CRC; before it the CRC */
  assert_int_equal(undo("gzip", data, len, 1, 1000, false).result, CPOOL__DECODE_MALFORMED);
  free(data);
}

static void bombs_end_at_the_ratio(void **state)
{
  (void) state;
  EACH_CODING(name)
  {
    size_t len;
    char *data = coded_bomb(name, BOMB_BYTES, &len);
    assert_true(BOMB_BYTES / len > 500);
    struct got got = undo(name, data, len, 16384, 200, false);
    assert_int_equal(got.result, CPOOL__DECODE_OVER_RATIO);
    assert_true(got.len < BOMB_BYTES / 2);
    got = undo(name, data, len, 16384, INT64_MAX, false); /* no cap */
    assert_int_equal(got.result, CPOOL__DECODE_OK);
    assert_int_equal(got.len, BOMB_BYTES);
    assert_true(got.most <= CPOOL__DECODE_PIECE_BYTES);
    free(data);
  }
}

static void bombs_within_bombs_end_at_the_ratio(void **state)
{
  (void) state;
  EACH_CODING(name)
  {
    size_t inner_len, len;
    char *inner = coded_bomb(name, 4 * BOMB_BYTES, &inner_len), *data = coded(name, inner, inner_len, &len);
    char list[32];
    snprintf(list, sizeof list, "%s,%s", strcmp(name, "bare") == 0 ? "deflate" : name,
             strcmp(name, "bare") == 0 ? "deflate" : name);
    struct got got = undo(list, data, len, 16384, 200, false);
    assert_int_equal(got.result, CPOOL__DECODE_OVER_RATIO);
    assert_true(got.len <= 2 * CPOOL__DECODE_FREE_BYTES);
    free(inner);
    free(data);
  }
}

static void a_small_body_may_compress_as_it_likes(void **state)
{
  (void) state;
  EACH_CODING(name)
  {
    size_t len;
    char *data = coded_bomb(name, CPOOL__DECODE_FREE_BYTES, &len);
    struct got got = undo(name, data, len, 1, 1, false);
    assert_int_equal(got.result, CPOOL__DECODE_OK);
    assert_int_equal(got.len, CPOOL__DECODE_FREE_BYTES);
    free(data);
  }
}

static void names_are_read_as_a_list(void **state)
{
  (void) state;
  struct cpool__codings codings = codings_of(" GZip ,, x-gzip,identity,\tdeflate ");
  assert_int_equal(codings.count, 3);
  assert_false(codings.unknown);
  assert_int_equal(codings.kinds[0], CPOOL__CODING_GZIP);
  assert_int_equal(codings.kinds[2], CPOOL__CODING_DEFLATE);
  cpool__codings_add(&codings, "gzip");
  assert_true(codings.count > CPOOL__DECODE_CODINGS);
  codings = codings_of("gzip, compress");
  assert_true(codings.unknown);
  codings = codings_of("gzip;q=1");
  assert_true(codings.unknown);
  assert_int_equal(codings_of(" ,\t, ").count, 0);
  assert_int_equal(codings_of("identity").count, 0);
  assert_int_equal(cpool__coding_named("br", 2) != CPOOL__CODING_UNKNOWN, coded_has("br"));
  assert_int_equal(cpool__coding_named("zstd", 4) != CPOOL__CODING_UNKNOWN, coded_has("zstd"));
  assert_int_equal(strstr(cpool__codings_header(), "br") != NULL, coded_has("br"));
  assert_int_equal(strstr(cpool__codings_header(), "zstd") != NULL, coded_has("zstd"));
}

/* ---- memory */

static int64_t asked, failing, blocks;

static void *fallible(void *context, void *ptr, size_t size)
{
  (void) context;
  if (size == 0) {
    blocks--;
    free(ptr);
    return NULL;
  }
  if (++asked == failing)
    return NULL;
  blocks += ptr == NULL;
  return realloc(ptr, size);
}

static void want_of_memory_is_told_from_bad_data(void **state)
{
  (void) state;
  char *text = text_of(TEXT_BYTES);
  EACH_CODING(name)
  {
    size_t len;
    void *data = coded(name, text, TEXT_BYTES, &len);
    bool over = false;
    cpool__memory_hook(fallible, NULL);
    for (failing = 1; !over; failing++) {
      struct cpool__codings codings = codings_of(name);
      asked = blocks = 0;
      struct cpool__decode *decode = cpool__decode_new(&codings, 1000);
      const char *in = data, *out;
      size_t left = len, made = 1;
      enum cpool__decode_result result = decode != NULL ? CPOOL__DECODE_OK : CPOOL__DECODE_NO_MEMORY;
      while (result == CPOOL__DECODE_OK && made > 0)
        result = cpool__decode_step(decode, &in, &left, &out, &made);
      over = asked < failing;
      if (over)
        assert_int_equal(result, CPOOL__DECODE_OK);
      else
        assert_int_equal(result, CPOOL__DECODE_NO_MEMORY);
      cpool__decode_free(decode);
      assert_int_equal(blocks, 0);
    }
    cpool__memory_hook(NULL, NULL);
    free(data);
  }
  free(text);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_coded_comes_back_in_parts_of_any_size),
      cmocka_unit_test(an_empty_body_comes_back_coded_or_not),
      cmocka_unit_test(several_codings_are_undone_in_turn),
      cmocka_unit_test(members_and_frames_follow_one_another),
      cmocka_unit_test(data_that_ends_early_is_not_complete),
      cmocka_unit_test(bytes_behind_the_end_are_malformed),
      cmocka_unit_test(noise_is_malformed),
      cmocka_unit_test(a_wrong_check_sum_is_malformed),
      cmocka_unit_test(bombs_end_at_the_ratio),
      cmocka_unit_test(bombs_within_bombs_end_at_the_ratio),
      cmocka_unit_test(a_small_body_may_compress_as_it_likes),
      cmocka_unit_test(names_are_read_as_a_list),
      cmocka_unit_test(want_of_memory_is_told_from_bad_data),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
