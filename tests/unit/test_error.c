/* test_error: a refused call is remembered by its own thread, in one clean line */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <cpool.h>

#include "core/error.h"

static cpool_error last(void)
{
  cpool_error err;
  cpool_error_init(&err);
  assert_int_equal(cpool_last_error(&err), CPOOL_OK);
  return err;
}

/* Must run first: nothing was refused yet. */
static void nothing_is_remembered_before_the_first_refusal(void **state)
{
  (void) state;
  cpool_error err = last();
  assert_int_equal(err.status, CPOOL_OK);
  assert_string_equal(err.text, "");
  assert_int_equal(err.size, sizeof err);
}

static void refusal_is_remembered_and_returned(void **state)
{
  (void) state;
  assert_int_equal(cpool__refuse(CPOOL_EFULL, CPOOL_LAYER_POOL, "%d of %d wait", 3, 3), CPOOL_EFULL);
  cpool_error err = last();
  assert_int_equal(err.status, CPOOL_EFULL);
  assert_int_equal(err.layer, CPOOL_LAYER_POOL);
  assert_int_equal(err.native, 0);
  assert_string_equal(err.text, "3 of 3 wait");
}

static void filled_error_is_refused_whole(void **state)
{
  (void) state;
  cpool_error err;
  cpool__error_set(&err, CPOOL_ESYSTEM, CPOOL_LAYER_SYSTEM, 24, CPOOL_ERROR_RETRIABLE, "no descriptor");
  assert_int_equal(err.size, sizeof err);
  assert_int_equal(cpool__refuse_with(&err), CPOOL_ESYSTEM);
  cpool_error got = last();
  assert_memory_equal(&got, &err, sizeof err);
}

static void control_bytes_never_reach_the_line(void **state)
{
  (void) state;
  cpool_error err;
  cpool__error_set(&err, CPOOL_EINVAL, CPOOL_LAYER_CALLER, 0, 0, "key %s", "a\r\nb\x7f\tc\x1b[1m\xc3\xbc");
  assert_string_equal(err.text, "key a??b??c?[1m\xc3\xbc");
}

/* Shifts sequences of each length over the edge, so that the cut falls on each of their bytes. */
static void long_line_is_cut_between_characters(void **state)
{
  (void) state;
  static const char *const characters[] = {"x", "\xc3\xbc", "\xe2\x82\xac", "\xf0\x9f\x99\x82"};
  for (size_t kind = 0; kind < 4; kind++) {
    for (int shift = 0; shift < 4; shift++) {
      char text[600] = "";
      memset(text, 'a', (size_t) shift);
      while (strlen(text) < 400)
        strcat(text, characters[kind]);
      cpool_error err;
      cpool__error_set(&err, CPOOL_EINVAL, CPOOL_LAYER_CALLER, 0, 0, "%s", text);
      size_t len = strlen(err.text), width = strlen(characters[kind]);
      assert_true(len < sizeof err.text && len + width >= sizeof err.text);
      assert_int_equal((len - (size_t) shift) % width, 0);
      assert_memory_equal(err.text, text, len);
    }
  }
}

static void text_may_quote_the_error_it_replaces(void **state)
{
  (void) state;
  cpool_error err;
  cpool__error_set(&err, CPOOL_ECONNECT, CPOOL_LAYER_CONNECT, 111, 0, "refused");
  cpool__error_set(&err, err.status, err.layer, err.native, err.flags, "host a: %s", err.text);
  assert_string_equal(err.text, "host a: refused");
  assert_int_equal(err.native, 111);
}

static void *refuse_elsewhere(void *arg)
{
  cpool_error *seen = arg;
  cpool_error_init(seen);
  cpool_last_error(seen); /* before: this thread's, nothing */
  cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "the other thread");
  return NULL;
}

static void each_thread_has_its_own(void **state)
{
  (void) state;
  cpool__refuse(CPOOL_EBUSY, CPOOL_LAYER_CALLER, "this thread");
  pthread_t thread;
  cpool_error seen;
  assert_int_equal(pthread_create(&thread, NULL, refuse_elsewhere, &seen), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(seen.status, CPOOL_OK);
  cpool_error mine = last();
  assert_int_equal(mine.status, CPOOL_EBUSY);
  assert_string_equal(mine.text, "this thread");
}

static void older_caller_gets_what_fits(void **state)
{
  (void) state;
  cpool__refuse(CPOOL_EBUSY, CPOOL_LAYER_CALLER, "text");
  struct {
    cpool_error err;
  } box;
  memset(&box, 0x5a, sizeof box);
  cpool_error_init_sized(&box.err, offsetof(cpool_error, native));
  assert_int_equal(cpool_last_error(&box.err), CPOOL_OK);
  assert_int_equal(box.err.status, CPOOL_EBUSY);
  assert_int_equal(box.err.layer, CPOOL_LAYER_CALLER);
  assert_int_equal(box.err.native, 0x5a5a5a5a);
  assert_int_equal(cpool_last_error(NULL), CPOOL_EINVAL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_is_remembered_before_the_first_refusal),
      cmocka_unit_test(refusal_is_remembered_and_returned),
      cmocka_unit_test(filled_error_is_refused_whole),
      cmocka_unit_test(control_bytes_never_reach_the_line),
      cmocka_unit_test(long_line_is_cut_between_characters),
      cmocka_unit_test(text_may_quote_the_error_it_replaces),
      cmocka_unit_test(each_thread_has_its_own),
      cmocka_unit_test(older_caller_gets_what_fits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
