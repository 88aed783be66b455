/* sessions: options and a session in one line each, for tests that are about something else */
#ifndef CPOOL_SUPPORT_SESSIONS_H
#define CPOOL_SUPPORT_SESSIONS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <cpool.h>

static inline cpool_session_options session_options(void)
{
  cpool_session_options options;
  cpool_session_options_init(&options);
  return options;
}

/* One that has to come to be; the caller's. */
static inline cpool_session *session_open(cpool_http *pool, const cpool_session_options *options)
{
  cpool_session *session = NULL;
  cpool_error error;
  cpool_error_init(&error);
  int status = cpool_session_new(&session, pool, options);
  if (status != CPOOL_OK && cpool_last_error(&error) == CPOOL_OK)
    print_error("%s\n", error.text);
  assert_int_equal(status, CPOOL_OK);
  return session;
}

/* With all defaults but the authority that it trusts. */
static inline cpool_session *session_trusting(cpool_http *pool, const char *ca_file)
{
  cpool_session_options options = session_options();
  options.ca_file = ca_file;
  return session_open(pool, &options);
}

#endif
