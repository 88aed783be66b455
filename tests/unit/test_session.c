/* test_session: what a session prepares, refuses, shares and wipes; on a pool of its any-thread parts alone */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <cpool.h>

#include "base/memory.h"
#include "http/http_options.h"
#include "http/pool.h"
#include "http/session.h"

enum { THREADS = 4, ROUNDS = 2000, LIMIT = 4 };

struct fixture {
  cpool_http *pool;
  cpool_runtime *rt;
  cpool_session_options options;
};

static int setup(void **state)
{
  struct fixture *f = calloc(1, sizeof *f);
  cpool_runtime_options options;
  cpool_runtime_options_init(&options);
  options.loop_mode = CPOOL_LOOP_MANUAL;
  cpool_http *pool = calloc(1, sizeof *pool);
  if (f == NULL || pool == NULL || cpool_runtime_new(&f->rt, &options) != CPOOL_OK)
    return -1;
  f->pool = pool;
  pool->rt = f->rt;
  atomic_init(&pool->refs, 1);
  cpool__fork_mark_init(&pool->fork_mark);
  pthread_mutex_init(&pool->options_lock, NULL);
  cpool__url_cache_init(&pool->urls);
  cpool__identities_init(&pool->identities, LIMIT);
  if (cpool__http_options_make(&pool->wanted, NULL) != CPOOL_OK ||
      cpool__session_make(&pool->session, pool, NULL) != CPOOL_OK)
    return -1;
  cpool_session_options_init(&f->options);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct fixture *f = *state;
  cpool_http *pool = f->pool;
  cpool__memory_hook(NULL, NULL);
  cpool__session_drop(pool->session);
  int left = pool->identities.count != 0 || atomic_load(&pool->refs) != 1 ||
             (atomic_load(&pool->inflight_count) & ~(uint32_t) CPOOL__CLOSING_BIT) != 0;
  cpool__identities_fini(&pool->identities);
  cpool__url_cache_fini(&pool->urls);
  cpool__http_options_fini(&pool->wanted);
  pthread_mutex_destroy(&pool->options_lock);
  cpool__fork_mark_fini(&pool->fork_mark);
  left |= cpool_runtime_free(f->rt) != CPOOL_OK;
  free(pool);
  free(f);
  return left;
}

static cpool_session *session_of(struct fixture *f)
{
  cpool_session *session = NULL;
  assert_int_equal(cpool_session_new(&session, f->pool, &f->options), CPOOL_OK);
  assert_non_null(session);
  return session;
}

static void is_refused(struct fixture *f, int status, const char *because)
{
  cpool_session *untouched = f->pool->session, *session = untouched;
  cpool_error err;
  cpool_error_init(&err);
  assert_int_equal(cpool_session_new(&session, f->pool, &f->options), status);
  assert_ptr_equal(session, untouched);
  cpool_last_error(&err);
  assert_int_equal(err.status, status);
  if (strstr(err.text, because) == NULL)
    fail_msg("refused with \"%s\", not \"%s\"", err.text, because);
  assert_null(strstr(err.text, "sesame"));
  cpool_session_options_init(&f->options);
}

/* The line of that name, or NULL. */
static const char *line_of(const cpool_session *session, const char *name)
{
  for (const struct curl_slist *node = session->headers.nodes; node != NULL; node = node->next) {
    if (strncmp(node->data, name, strlen(name)) == 0)
      return node->data;
  }
  return NULL;
}

static void the_default_session_sends_the_pools_user_agent(void **state)
{
  struct fixture *f = *state;
  cpool_session *session = cpool_http_session(f->pool);
  assert_ptr_equal(session, f->pool->session);
  assert_string_equal(line_of(session, "User-Agent"), "User-Agent: libcpool/0.1.0");
  assert_int_equal(session->headers.count, 1);
  assert_null(session->base.authority);
  assert_int_equal(session->base_path_len, 0);
  assert_true(session->identity->tls_verify);
  assert_int_equal(session->identity->tls_min_version, CPOOL_TLS_1_2);
  assert_int_equal(session->identity->address_policy, CPOOL_ADDRESS_ANY);
  assert_null(cpool_http_session(NULL));
}

static void the_default_session_cannot_be_freed(void **state)
{
  struct fixture *f = *state;
  cpool_session_free(cpool_http_session(f->pool));
  cpool_session_free(NULL);
  assert_int_equal(atomic_load(&f->pool->session->refs), 1);
}

static void a_session_counts_as_a_reference_of_its_pool(void **state)
{
  struct fixture *f = *state;
  cpool_session *session = session_of(f);
  assert_int_equal(atomic_load(&f->pool->refs), 2);
  cpool__session_hold(session);
  cpool_session_free(session); /* a request still has it */
  assert_int_equal(atomic_load(&f->pool->refs), 2);
  cpool__session_drop(session);
  assert_int_equal(atomic_load(&f->pool->refs), 1);
}

static void a_base_url_becomes_origin_and_path(void **state)
{
  struct fixture *f = *state;
  static const char *const rows[][3] = {{"https://API.example.com", "https://api.example.com:443", ""},
                                        {"https://api.example.com/", "https://api.example.com:443", ""},
                                        {"http://api.example.com:81/v1/", "http://api.example.com:81", "/v1"},
                                        {"http://api.example.com:81/v1/x", "http://api.example.com:81", "/v1/x"}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    char text[64];
    strcpy(text, rows[i][0]);
    f->options.base_url = text;
    cpool_session *session = session_of(f);
    memset(text, 'x', sizeof text); /* it was copied */
    assert_string_equal(session->base.authority->origin, rows[i][1]);
    assert_string_equal(session->base_path, rows[i][2]);
    assert_int_equal(session->base_path_len, strlen(rows[i][2]));
    cpool_session_free(session);
  }
}

static void bad_base_urls_are_refused(void **state)
{
  struct fixture *f = *state;
  static const char *const rows[][2] = {{"https://u:sesame@h/", "user and password"},
                                        {"https://h/?q=sesame", "query or fragment"},
                                        {"https://h/#sesame", "query or fragment"},
                                        {"ftp://h/", "http://"},
                                        {"", "http://"},
                                        {"/v1", "http://"}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    f->options.base_url = rows[i][0];
    is_refused(f, CPOOL_EINVAL, rows[i][1]);
  }
}

/* RFC 7617 section 2 and 2.1; RFC 4648 section 10 for the paddings. */
static void basic_credentials_are_encoded_once(void **state)
{
  struct fixture *f = *state;
  static const char *const rows[][3] = {{"Aladdin", "open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
                                        {"test", "123\xc2\xa3", "dGVzdDoxMjPCow=="},
                                        {"", "", "Og=="},
                                        {"f", "", "Zjo="},
                                        {"fo", "", "Zm86"},
                                        {"foo", NULL, "Zm9vOg=="},
                                        {"\xff\xff", "\xff\xff\xff", "//86////"}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    f->options.username = rows[i][0];
    f->options.password = rows[i][1];
    cpool_session *session = session_of(f);
    char expected[64];
    snprintf(expected, sizeof expected, "Authorization: Basic %s", rows[i][2]);
    assert_string_equal(line_of(session, "Authorization"), expected);
    cpool_session_free(session);
  }
}

static void a_bearer_token_is_sent_as_it_is(void **state)
{
  struct fixture *f = *state;
  f->options.bearer_token = "abc.DEF-_~+/==";
  cpool_session *session = session_of(f);
  assert_string_equal(line_of(session, "Authorization"), "Authorization: Bearer abc.DEF-_~+/==");
  cpool_session_free(session);
}

static void bad_credentials_are_refused_and_never_repeated(void **state)
{
  struct fixture *f = *state;
  f->options.username = "sesame:x";
  is_refused(f, CPOOL_EINVAL, "username: ':'");
  f->options.username = "sesame\n";
  is_refused(f, CPOOL_EINVAL, "username");
  f->options.username = "a";
  f->options.password = "sesame\r";
  is_refused(f, CPOOL_EINVAL, "password");
  f->options.password = "sesame";
  is_refused(f, CPOOL_EINVAL, "password: not without username");
  f->options.username = "sesame";
  f->options.bearer_token = "sesame";
  is_refused(f, CPOOL_EINVAL, "bearer_token: not together with username");
  static const char *const tokens[] = {"", "sesame street", "sesame\x7f", "sesam\xc3\xa9", "sesame\n"};
  for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
    f->options.bearer_token = tokens[i];
    is_refused(f, CPOOL_EINVAL, "bearer_token");
  }
  const cpool_header header = {"authorization", "sesame"};
  f->options.headers = &header;
  f->options.header_count = 1;
  f->options.bearer_token = "sesame";
  is_refused(f, CPOOL_EINVAL, "Authorization is not allowed together with");
}

static void headers_of_its_own_replace_the_user_agent(void **state)
{
  struct fixture *f = *state;
  char value[] = "mine/1";
  const cpool_header headers[] = {{"Accept", "text/*"}, {"user-agent", value}, {"X-Empty", ""}};
  f->options.headers = headers;
  f->options.header_count = 3;
  cpool_session *session = session_of(f);
  value[0] = '?';
  assert_int_equal(session->headers.count, 3);
  assert_string_equal(session->headers.nodes[0].data, "Accept: text/*");
  assert_string_equal(session->headers.nodes[1].data, "user-agent: mine/1");
  assert_string_equal(session->headers.nodes[2].data, "X-Empty;");
  cpool_session_free(session);
  f->options.headers = NULL;
  is_refused(f, CPOOL_EINVAL, "header_count of 3");
}

static void bad_headers_are_refused(void **state)
{
  struct fixture *f = *state;
  const cpool_header bad = {"X", "sesame\r\nY: z"};
  f->options.headers = &bad;
  f->options.header_count = 1;
  is_refused(f, CPOOL_EINVAL, "headers[0]");
}

static void files_must_make_sense_together(void **state)
{
  struct fixture *f = *state;
  char path[128];
  f->options.client_key_file = "key.pem";
  is_refused(f, CPOOL_EINVAL, "client_key_file: not without client_cert_file");
  f->options.client_key_password = "sesame";
  is_refused(f, CPOOL_EINVAL, "client_key_password: not without client_cert_file");
  f->options.ca_file = "";
  is_refused(f, CPOOL_EINVAL, "ca_file: an empty name");
  memset(path, 'p', sizeof path);
  path[108] = '\0';
  f->options.unix_socket_path = path;
  is_refused(f, CPOOL_EINVAL, "unix_socket_path: longer than 107 bytes");
  path[107] = '\0';
  f->options.unix_socket_path = path;
  cpool_session *session = session_of(f);
  assert_string_equal(session->identity->unix_socket_path, path);
  cpool_session_free(session);
}

static void choices_are_checked(void **state)
{
  struct fixture *f = *state;
  f->options.tls_verify = 2;
  is_refused(f, CPOOL_EINVAL, "tls_verify");
  f->options.tls_min_version = 11;
  is_refused(f, CPOOL_EINVAL, "1.2, 1.3");
  f->options.address_policy = CPOOL_OFF;
  is_refused(f, CPOOL_EINVAL, "address_policy");
}

static void options_are_set_from_text(void **state)
{
  struct fixture *f = *state;
  assert_int_equal(cpool_session_options_set(&f->options, "tls_verify", "off"), CPOOL_OK);
  assert_int_equal(cpool_session_options_set(&f->options, "tls_min_version", "1.3"), CPOOL_OK);
  assert_int_equal(cpool_session_options_set(&f->options, "address_policy", "public"), CPOOL_OK);
  assert_int_equal(cpool_session_options_set(&f->options, "bearer_token", "sesame"), CPOOL_OK);
  assert_int_equal(cpool_session_options_set(&f->options, "headers", "A: b"), CPOOL_EINVAL);
  assert_int_equal(cpool_session_options_set(&f->options, "tls_verify", "maybe"), CPOOL_EINVAL);
  assert_int_equal(cpool_session_options_set(NULL, "tls_verify", "on"), CPOOL_EINVAL);
  assert_int_equal(f->options.tls_verify, CPOOL_OFF);
  cpool_session *session = session_of(f);
  assert_false(session->identity->tls_verify);
  assert_int_equal(session->identity->tls_min_version, CPOOL_TLS_1_3);
  assert_int_equal(session->identity->address_policy, CPOOL_ADDRESS_PUBLIC);
  cpool_session_free(session);
}

static void every_field_but_headers_and_size_has_a_key(void **state)
{
  (void) state;
  size_t covered = sizeof(size_t) + 2 * sizeof(size_t); /* size, headers, header_count */
  for (const struct cpool__option *option = cpool__session_option_table.options; option->key != NULL; option++) {
    covered += option->type == CPOOL__OPTION_TEXT ? sizeof(char *) : sizeof(int32_t);
    assert_non_null(option->unit);
    assert_non_null(option->meaning);
  }
  assert_int_equal(covered + 2 * 4, sizeof(cpool_session_options)); /* three choices and the last one leave gaps */
}

static void the_pools_address_policy_is_the_default(void **state)
{
  struct fixture *f = *state;
  f->pool->wanted.address_policy = CPOOL_ADDRESS_PUBLIC;
  cpool_session *session = session_of(f);
  assert_int_equal(session->identity->address_policy, CPOOL_ADDRESS_PUBLIC);
  f->options.address_policy = CPOOL_ADDRESS_ANY;
  cpool_session *other = session_of(f);
  assert_int_equal(other->identity->address_policy, CPOOL_ADDRESS_ANY);
  cpool_session_free(other);
  cpool_session_free(session);
}

static void equal_settings_share_an_identity_others_never(void **state)
{
  struct fixture *f = *state;
  const cpool_header header = {"X", "y"};
  f->options.base_url = "https://h/"; /* none of these keeps connections apart */
  f->options.headers = &header;
  f->options.header_count = 1;
  f->options.username = "u";
  f->options.tls_verify = 1;
  f->options.tls_min_version = CPOOL_TLS_1_2;
  cpool_session *same = session_of(f);
  assert_ptr_equal(same->identity, f->pool->session->identity);
  assert_int_equal(f->pool->identities.count, 1);
  cpool_session_free(same);

  cpool_session *sessions[3];
  for (int i = 0; i < 3; i++) { /* the same bytes in other fields */
    cpool_session_options_init(&f->options);
    f->options.client_cert_file = i == 0 ? "ab" : "a";
    f->options.client_key_file = i == 0 ? NULL : i == 1 ? "b" : "bc";
    f->options.client_key_password = i == 1 ? "c" : NULL;
    sessions[i] = session_of(f);
    assert_ptr_not_equal(sessions[i]->identity, f->pool->session->identity);
  }
  assert_ptr_not_equal(sessions[0]->identity, sessions[1]->identity);
  assert_ptr_not_equal(sessions[1]->identity, sessions[2]->identity);
  assert_string_equal(sessions[1]->identity->client_cert_file, "a");
  assert_string_equal(sessions[1]->identity->client_key_file, "b");
  assert_string_equal(sessions[1]->identity->client_key_password, "c");
  assert_null(sessions[1]->identity->ca_file);
  for (int i = 0; i < 3; i++)
    cpool_session_free(sessions[i]);
  assert_int_equal(f->pool->identities.count, 1);
  assert_int_equal(f->pool->identities.table.count, 1);
}

static void identities_in_use_are_limited(void **state)
{
  struct fixture *f = *state;
  cpool_session *sessions[LIMIT];
  char path[2] = "a";
  for (int i = 0; i < LIMIT - 1; i++, path[0]++) {
    f->options.unix_socket_path = path;
    sessions[i] = session_of(f);
  }
  f->options.unix_socket_path = path;
  is_refused(f, CPOOL_EFULL, "max_identities: 4 different");
  f->options.unix_socket_path = "a"; /* one of those in use */
  sessions[LIMIT - 1] = session_of(f);
  cpool_session_free(sessions[1]);
  f->options.unix_socket_path = path;
  sessions[1] = session_of(f);
  for (int i = 0; i < LIMIT; i++)
    cpool_session_free(sessions[i]);
}

static void a_long_path_is_part_of_the_identity(void **state)
{
  struct fixture *f = *state;
  char path[3000];
  memset(path, 'p', sizeof path);
  path[sizeof path - 1] = '\0';
  f->options.ca_file = path;
  cpool_session *one = session_of(f), *two = session_of(f);
  assert_ptr_equal(one->identity, two->identity);
  path[sizeof path - 2] = 'q';
  cpool_session *three = session_of(f);
  assert_ptr_not_equal(one->identity, three->identity);
  cpool_session_free(one);
  cpool_session_free(two);
  cpool_session_free(three);
}

static void an_identity_with_a_curl_part_waits_for_the_loop(void **state)
{
  struct fixture *f = *state;
  int part; /* stands for what the loop made; nobody looks into it while a session refers to the identity */
  f->options.unix_socket_path = "a";
  cpool_session *session = session_of(f);
  struct cpool__identity *identity = session->identity;
  identity->curl = (struct cpool__curl *) (void *) &part;
  cpool_session_free(session);
  assert_true(identity->unused_posted);
  assert_int_equal(atomic_load(&f->pool->inflight_count), 1);
  assert_int_equal(f->pool->identities.count, 1);
  assert_int_equal(f->pool->identities.table.count, 2);
  session = session_of(f); /* taken up again before the loop looked */
  assert_ptr_equal(session->identity, identity);
  assert_int_equal(f->pool->identities.count, 2);
  assert_int_equal(cpool_runtime_step(f->rt, 0), CPOOL_OK);
  assert_false(identity->unused_posted);
  assert_int_equal(atomic_load(&f->pool->inflight_count), 0);
  assert_ptr_equal(identity->curl, &part);
  identity->curl = NULL;
  cpool_session_free(session);
  assert_int_equal(f->pool->identities.table.count, 1);
}

static void the_loop_frees_an_identity_that_stays_unused(void **state)
{
  struct fixture *f = *state;
  int part;
  f->options.unix_socket_path = "a";
  cpool_session *session = session_of(f);
  struct cpool__identity *identity = session->identity;
  identity->curl = (struct cpool__curl *) (void *) &part;
  cpool_session_free(session);
  pthread_mutex_lock(&f->pool->identities.lock);
  identity->curl = NULL; /* cleared up on another way */
  pthread_mutex_unlock(&f->pool->identities.lock);
  session = session_of(f);
  cpool_session_free(session); /* must not free it: the message is on its way */
  assert_int_equal(f->pool->identities.table.count, 2);
  assert_int_equal(cpool_runtime_step(f->rt, 0), CPOOL_OK);
  assert_int_equal(f->pool->identities.table.count, 1);
}

static void while_the_pool_closes_the_loop_is_not_asked(void **state)
{
  struct fixture *f = *state;
  int part;
  f->options.unix_socket_path = "a";
  cpool_session *session = session_of(f);
  struct cpool__identity *identity = session->identity;
  identity->curl = (struct cpool__curl *) (void *) &part;
  atomic_fetch_or(&f->pool->inflight_count, CPOOL__CLOSING_BIT);
  cpool_session_free(session);
  assert_false(identity->unused_posted);
  assert_int_equal(f->pool->identities.count, 1);
  assert_int_equal(f->pool->identities.table.count, 2); /* fini frees it */
  identity->curl = NULL;
}

static void a_closing_pool_makes_no_sessions(void **state)
{
  struct fixture *f = *state;
  cpool_session *session = session_of(f);
  atomic_store(&f->pool->closing, true);
  is_refused(f, CPOOL_ECLOSED, "clos");
  cpool_session_free(session);
}

static void in_a_forked_child_nothing_is_touched(void **state)
{
  struct fixture *f = *state;
  cpool_session *session = session_of(f);
  pthread_mutex_lock(&f->pool->identities.lock); /* as another thread might at the moment of the fork */
  pid_t child = fork();
  if (child == 0) {
    cpool_session *out = NULL;
    alarm(20);
    cpool_session_free(session);
    int status = cpool_session_new(&out, f->pool, NULL);
    _exit(status == CPOOL_EFORK && out == NULL && atomic_load(&session->refs) == 1 ? 0 : 1);
  }
  pthread_mutex_unlock(&f->pool->identities.lock);
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  cpool_session_free(session);
}

static void missing_arguments_are_refused(void **state)
{
  struct fixture *f = *state;
  cpool_session *session = NULL;
  assert_int_equal(cpool_session_new(NULL, f->pool, NULL), CPOOL_EINVAL);
  assert_int_equal(cpool_session_new(&session, NULL, NULL), CPOOL_EINVAL);
  f->options.size = 0;
  is_refused(f, CPOOL_EINVAL, "call its _init first");
  assert_int_equal(cpool_session_new(&session, f->pool, NULL), CPOOL_OK);
  cpool_session_free(session);
}

/* Allocations until they fail; blocks that are freed must not hold the secret any more. */
static int allowed, dirty;

static void *watch(void *context, void *ptr, size_t size)
{
  static const char secret[] = "sesame", encoded[] = "c2VzYW1l";
  (void) context;
  if (size > 0) {
    size_t *block = allowed-- > 0 ? malloc(sizeof(max_align_t) + size) : NULL;
    if (block == NULL || ptr != NULL) /* none of what is under test grows a block */
      return NULL;
    *block = size;
    return (char *) block + sizeof(max_align_t);
  }
  char *block = (char *) ptr - sizeof(max_align_t);
  size_t len = *(size_t *) (void *) block;
  dirty += memmem(ptr, len, secret, sizeof secret - 1) != NULL || memmem(ptr, len, encoded, sizeof encoded - 1) != NULL;
  free(block);
  return NULL;
}

static void secrets_are_wiped_and_shortage_of_memory_is_told(void **state)
{
  struct fixture *f = *state;
  char long_path[2000];
  memset(long_path, 'p', sizeof long_path);
  long_path[sizeof long_path - 1] = '\0';
  int status = CPOOL_ENOMEM, tries = 0;
  cpool_session *warm;
  f->options.base_url = "http://warm/";
  warm = session_of(f); /* the tables have their memory, the URL is in the cache */
  cpool_session_free(warm);
  dirty = 0;
  cpool__memory_hook(watch, NULL);
  for (; status == CPOOL_ENOMEM && tries < 10; tries++) {
    cpool_session *session = NULL;
    allowed = tries;
    cpool_session_options_init(&f->options);
    f->options.base_url = "http://warm/";
    f->options.username = "aaa";
    f->options.password = "xxsesame"; /* "aaa:xx" fills whole groups of three: "sesame" is encoded as such */
    f->options.client_cert_file = "cert";
    f->options.client_key_password = "sesame";
    f->options.ca_file = long_path;
    status = cpool_session_new(&session, f->pool, &f->options);
    if (status == CPOOL_OK) {
      dirty -=
          line_of(session, "Authorization") == NULL || strstr(line_of(session, "Authorization"), "c2VzYW1l") == NULL
              ? 100
              : 0;
      cpool_session_free(session);
    }
  }
  cpool__memory_hook(NULL, NULL);
  assert_int_equal(status, CPOOL_OK);
  assert_int_equal(tries, 4); /* 0 to 3: the session, the key, the identity */
  assert_int_equal(dirty, 0);

  cpool_header header = {"Authorization", "sesame"};
  cpool_session_options_init(&f->options);
  f->options.headers = &header;
  f->options.header_count = 1;
  allowed = 10;
  cpool__memory_hook(watch, NULL);
  cpool_session *session = NULL;
  status = cpool_session_new(&session, f->pool, &f->options);
  cpool_session_free(session);
  cpool__memory_hook(NULL, NULL);
  assert_int_equal(status, CPOOL_OK);
  assert_int_equal(dirty, 0);
}

struct worker {
  struct fixture *f;
  int failures;
};

static void *make_and_free(void *arg)
{
  struct worker *worker = arg;
  for (int i = 0; i < ROUNDS; i++) {
    cpool_session_options options;
    cpool_session *session = NULL;
    cpool_session_options_init(&options);
    options.base_url = i % 3 == 0 ? "http://one/" : "https://two/x";
    options.unix_socket_path = i % 2 == 0 ? "a" : NULL;
    if (cpool_session_new(&session, worker->f->pool, &options) != CPOOL_OK) {
      worker->failures++;
      continue;
    }
    cpool__session_hold(session);
    cpool_session_free(session);
    cpool__session_drop(session);
  }
  return NULL;
}

static void any_thread_may_make_and_free_sessions(void **state)
{
  struct fixture *f = *state;
  pthread_t threads[THREADS];
  struct worker workers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (struct worker){f, 0};
    assert_int_equal(pthread_create(&threads[i], NULL, make_and_free, &workers[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(workers[i].failures, 0);
  }
  assert_int_equal(f->pool->identities.count, 1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      CASE(the_default_session_sends_the_pools_user_agent),
      CASE(the_default_session_cannot_be_freed),
      CASE(a_session_counts_as_a_reference_of_its_pool),
      CASE(a_base_url_becomes_origin_and_path),
      CASE(bad_base_urls_are_refused),
      CASE(basic_credentials_are_encoded_once),
      CASE(a_bearer_token_is_sent_as_it_is),
      CASE(bad_credentials_are_refused_and_never_repeated),
      CASE(headers_of_its_own_replace_the_user_agent),
      CASE(bad_headers_are_refused),
      CASE(files_must_make_sense_together),
      CASE(choices_are_checked),
      CASE(options_are_set_from_text),
      CASE(every_field_but_headers_and_size_has_a_key),
      CASE(the_pools_address_policy_is_the_default),
      CASE(equal_settings_share_an_identity_others_never),
      CASE(identities_in_use_are_limited),
      CASE(a_long_path_is_part_of_the_identity),
      CASE(an_identity_with_a_curl_part_waits_for_the_loop),
      CASE(the_loop_frees_an_identity_that_stays_unused),
      CASE(while_the_pool_closes_the_loop_is_not_asked),
      CASE(a_closing_pool_makes_no_sessions),
      CASE(in_a_forked_child_nothing_is_touched),
      CASE(missing_arguments_are_refused),
      CASE(secrets_are_wiped_and_shortage_of_memory_is_told),
      CASE(any_thread_may_make_and_free_sessions),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
