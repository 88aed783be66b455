/* idle_order: bytes that are there before a submit are looked at before it is sent, step by step on a loop of the test's own */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <cpool.h>

#include "support/certs.h"
#include "support/fault_server.h"
#include "support/sessions.h"

enum { ROUNDS = 30 };

struct fixture {
  struct certs *certs;
  struct fault_server *plain, *tls;
  cpool_runtime *rt;
  cpool_http *pool;
  cpool_session *session;
};

static int set_up(void **state)
{
  static struct fixture f;
  cpool_runtime_options mode;
  f.certs = certs_new();
  f.plain = fault_server_start(&(struct fault_options){0});
  f.tls = fault_server_start(
      &(struct fault_options){.tls_cert_file = f.certs->good.cert_file, .tls_key_file = f.certs->good.key_file});
  assert_non_null(f.plain);
  assert_non_null(f.tls);
  cpool_runtime_options_init(&mode);
  mode.loop_mode = CPOOL_LOOP_MANUAL;
  assert_int_equal(cpool_runtime_new(&f.rt, &mode), CPOOL_OK);
  assert_int_equal(cpool_http_new(&f.pool, f.rt, NULL), CPOOL_OK);
  f.session = session_trusting(f.pool, f.certs->ca_file);
  *state = &f;
  return 0;
}

static int tear_down(void **state)
{
  struct fixture *f = *state;
  cpool_session_free(f->session);
  assert_int_equal(cpool_http_close(f->pool, 0), CPOOL_OK);
  assert_int_equal(cpool_runtime_free(f->rt), CPOOL_OK);
  fault_server_stop(f->plain);
  fault_server_stop(f->tls);
  certs_free(f->certs);
  return 0;
}

/* The status code of a GET, and whether its connection had been used before. */
static int get(struct fixture *f, bool tls, const char *path, int *reused)
{
  char url[128];
  cpool_response *resp = NULL;
  cpool_response_info info;
  snprintf(url, sizeof url, "%s://127.0.0.1:%d%s", tls ? "https" : "http",
           (int) fault_server_port(tls ? f->tls : f->plain), path);
  assert_int_equal(cpool_get(f->session, url, &resp), CPOOL_OK);
  cpool_response_info_init(&info);
  assert_int_equal(cpool_response_info_get(resp, &info), CPOOL_OK);
  *reused = info.reused;
  int code = cpool_response_status(resp);
  cpool_response_free(resp);
  return code;
}

static void rounds(struct fixture *f, bool tls)
{
  for (int i = 0; i < ROUNDS; i++) {
    int reused;
    assert_int_equal(get(f, tls, "/poison", &reused), 200);
    /* nothing steps the loop between here and the next submit */
    assert_true(fault_server_poison(tls ? f->tls : f->plain) >= 1);
    assert_int_equal(get(f, tls, "/status/201", &reused), 201);
    assert_int_equal(reused, 0);
    assert_int_equal(get(f, tls, "/ok", &reused), 200);
    assert_int_equal(reused, 1);
    assert_true(fault_server_drop_all(tls ? f->tls : f->plain) >= 1);
  }
}

static void bytes_before_the_submit_are_not_the_answer(void **state)
{
  rounds(*state, false);
}

static void bytes_before_the_submit_are_not_the_answer_over_tls(void **state)
{
  rounds(*state, true);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bytes_before_the_submit_are_not_the_answer),
      cmocka_unit_test(bytes_before_the_submit_are_not_the_answer_over_tls),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
