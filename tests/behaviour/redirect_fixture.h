/* redirect_fixture: one server that is many hosts (127.0.0.0/8), scripted 3xx answers, requests that follow them */
#ifndef REDIRECT_FIXTURE_H
#define REDIRECT_FIXTURE_H

#include "support/pool_fixture.h"

enum { LIMIT = 10 };

static inline int redirect_setup(void **state)
{
  if (pool_setup(state) != 0)
    return -1;
  struct pool_fixture *f = *state;
  fault_server_stop(f->server);
  f->server = fault_server_start(&(struct fault_options){.address = "0.0.0.0"});
  return f->server != NULL ? 0 : -1;
}

#define REDIRECT_CASE(name) cmocka_unit_test_setup_teardown(name, redirect_setup, pool_teardown)

/* One of many texts that live long enough for a call. Host 1 is 127.0.0.1. */
static inline const char *on_host(struct pool_fixture *f, int host, const char *path)
{
  static _Thread_local char texts[16][2048];
  static _Thread_local unsigned next;
  char *text = texts[next++ % 16];
  snprintf(text, sizeof texts[0], "http://127.0.0.%d:%u%s", host, (unsigned) fault_server_port(f->server), path);
  return text;
}

/* The path answers with this code and Location on every host. */
static inline void moved(struct pool_fixture *f, const char *path, int code, const char *location)
{
  char text[4096];
  int len = snprintf(text, sizeof text, "HTTP/1.1 %d Elsewhere\r\nLocation: %s\r\nContent-Length: 5\r\n\r\nmoved", code,
                     location);
  assert_in_range(len, 1, sizeof text - 1);
  fault_server_answer(f->server, path, text);
}

static inline cpool_session *following(struct pool_fixture *f, int32_t max_redirects)
{
  cpool_session_options options = session_options();
  options.max_redirects = max_redirects;
  cpool_session *session = session_open(f->pool, &options);
  return session;
}

/* A GET from host 1 that follows up to LIMIT redirects. */
static inline cpool_request follow(struct pool_fixture *f, const char *path)
{
  cpool_request req = request_to(f, on_host(f, 1, path));
  req.max_redirects = LIMIT;
  return req;
}

static inline struct outcome end_of(struct pool_fixture *f, const cpool_request *req)
{
  cpool_op op = submit(f, req);
  struct outcome out = take(f);
  assert_true(out.op == op);
  return out;
}

/* Ended like this; the response is the caller's still. */
#define assert_ended(out, wanted_status, wanted_code)                                                                  \
  do {                                                                                                                 \
    cpool_error error_ = error_of(out);                                                                                \
    if ((out)->status != (wanted_status) || cpool_response_status((out)->resp) != (wanted_code))                       \
      fail_msg("%s, HTTP %d at %s: %s", cpool_status_name((out)->status), cpool_response_status((out)->resp),          \
               cpool_response_url((out)->resp), error_.text);                                                          \
    assert_int_equal(error_.status, wanted_status);                                                                    \
  } while (0)

static inline void assert_named(const struct outcome *out, const char *culprit)
{
  cpool_error error = error_of(out);
  if (strstr(error.text, culprit) == NULL)
    fail_msg("\"%s\" does not name \"%s\"", error.text, culprit);
}

static inline bool server_holds(void *server)
{
  struct fault_counts counts;
  fault_server_counts(server, &counts);
  return counts.held > 0;
}

static inline void await_held(struct pool_fixture *f)
{
  assert_true(wait_until(server_holds, f->server, DEADLINE_MS));
}

static inline bool last_head_has(struct pool_fixture *f, const char *line)
{
  char *head = fault_server_last_head(f->server);
  bool there = strstr(head, line) != NULL;
  free(head);
  return there;
}

#endif
