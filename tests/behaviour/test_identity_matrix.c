/* identity_matrix: sessions that differ in one setting of their identity never meet on a connection
 *
 * nginx answers each request with the number of the connection that it came on. */
#include "support/peer_fixture.h"

#include "core/options.h"
#include "http/session.h"
#include "support/certs.h"
#include "support/fault_proxy.h"
#include "support/process.h"

enum {
  TEXT_BYTES = CERTS_PATH_BYTES + 32,
  RANDOM_SESSIONS = 48,
  RANDOM_REQUESTS = 4000,
  IN_FLIGHT = 24,
  DESCRIPTION_BYTES = 4096
};

struct matrix {
  struct certs *certs;
  struct process *nginx;
  struct fault_proxy *proxies[2];
  char ca_copy[TEXT_BYTES], cert_copy[TEXT_BYTES], key_copy[TEXT_BYTES], url[2][64], pins[200];
};

static struct matrix *matrix_of(struct peer *f)
{
  return f->extra;
}

static void copy_file(const char *from, const char *dir, const char *name, char *to)
{
  char data[8192];
  FILE *in = fopen(from, "r");
  assert_non_null(in);
  size_t len = fread(data, 1, sizeof data, in);
  fclose(in);
  snprintf(to, TEXT_BYTES, "%s/%s", dir, name);
  write_file(to, data, len);
}

static int setup(void **state)
{
  struct peer *f = peer_new();
  struct matrix *m = calloc(1, sizeof *m);
  assert_non_null(m);
  f->extra = m;
  m->certs = certs_new();
  m->nginx = nginx_start(&(struct nginx_options){.certs = m->certs,
                                                 .unix_listener = true,
                                                 .keepalive_requests = 100000,
                                                 .server_lines = "location = /who { return 200 $connection; }\n"
                                                                 "ssl_verify_client optional_no_ca;"});
  assert_non_null(m->nginx);
  for (int i = 0; i < 2; i++) {
    m->proxies[i] = fault_proxy_start(&(struct fault_proxy_options){0});
    snprintf(m->url[i], sizeof m->url[i], "http://127.0.0.1:%u", fault_proxy_port(m->proxies[i]));
  }
  copy_file(m->certs->ca_file, m->certs->dir, "ca-copy.pem", m->ca_copy);
  copy_file(m->certs->client.cert_file, m->certs->dir, "cert-copy.pem", m->cert_copy);
  copy_file(m->certs->client.key_file, m->certs->dir, "key-copy.pem", m->key_copy);
  snprintf(m->pins, sizeof m->pins, "%s;%s", m->certs->good.pin, m->certs->expired.pin);
  cpool_http_options options;
  cpool_http_options_init(&options);
  options.max_identities = 1000;
  options.max_connections = 300;
  peer_open_pool(f, &options);
  *state = f;
  return 0;
}

static int teardown(void **state)
{
  struct peer *f = *state;
  struct matrix *m = f->extra;
  peer_close_pool(f);
  for (int i = 0; i < 2; i++)
    fault_proxy_stop(m->proxies[i]);
  process_stop(m->nginx);
  certs_free(m->certs);
  free(m);
  peer_free(f);
  return 0;
}

/* ---- the settings, and values of each that all work with nginx */

struct setting {
  const char *key;
  const char *values[3]; /* "": not set */
  const char *needs[4];  /* other settings that it makes no sense without, and their values */
  bool plain;            /* for http hosts alone */
};

enum { MOST_SETTINGS = 20 };

static int settings_of(struct peer *f, struct setting *out)
{
  struct matrix *m = matrix_of(f);
  const struct cert_pair *client = &m->certs->client;
  const struct setting all[] = {
      {"tls_verify", {"on", "off"}, {0}, false},
      {"tls_min_version", {"1.2", "1.3"}, {0}, false},
      {"http_version", {"1.1", "2"}, {0}, false},
      {"ca_file", {m->certs->ca_file, m->ca_copy}, {0}, false},
      {"client_cert_file", {client->cert_file, m->cert_copy}, {"client_key_file", client->key_file}, false},
      {"client_key_file", {client->key_file, m->key_copy}, {"client_cert_file", client->cert_file}, false},
      {"client_key_password",
       {"", "one", "two"},
       {"client_cert_file", client->cert_file, "client_key_file", client->key_file},
       false},
      {"pinned_public_key", {"", m->certs->good.pin, m->pins}, {0}, false},
      {"proxy", {"", m->url[0], m->url[1]}, {0}, false},
      {"proxy_username", {"", "one", "two"}, {"proxy", m->url[0]}, false},
      {"proxy_password", {"", "one", "two"}, {"proxy", m->url[0], "proxy_username", "one"}, false},
      {"no_proxy", {"", "elsewhere.test", "127.0.0.1"}, {"proxy", m->url[0]}, false},
      {"unix_socket_path", {"", process_unix_path(m->nginx)}, {0}, true},
  };
  int count = 0;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (cpool__options_find(&cpool__session_option_table, all[i].key) != NULL)
      out[count++] = all[i];
  return count;
}

static void set(cpool_session_options *options, const char *key, const char *value)
{
  if (value != NULL && value[0] != '\0')
    assert_int_equal(cpool_session_options_set(options, key, value), CPOOL_OK);
}

static cpool_session *session_of(struct peer *f, const cpool_session_options *options)
{
  cpool_session *session = NULL;
  cpool_error error;
  cpool_error_init(&error);
  int rc = cpool_session_new(&session, f->pool, options);
  if (rc != CPOOL_OK && cpool_last_error(&error) == CPOOL_OK)
    print_error("%s\n", error.text);
  assert_int_equal(rc, CPOOL_OK);
  return session;
}

static const char *who(struct peer *f, bool tls)
{
  struct process *nginx = matrix_of(f)->nginx;
  return peer_text(f, "%s://127.0.0.1:%u/who", tls ? "https" : "http",
                   (unsigned) (tls ? process_tls_port(nginx) : process_port(nginx)));
}

/* ---- the matrix */

/* A setting that is in neither list has to be thought about: does it keep connections apart? */
static void every_setting_is_in_the_matrix_or_belongs_to_the_request(void **state)
{
  struct peer *f = *state;
  static const char *const of_the_request[] = {"base_url", "username", "password", "bearer_token", "max_redirects"};
  static const char *const apart[] = {"address_policy", "proxy_from_env"}; /* have cases of their own */
  struct setting settings[MOST_SETTINGS];
  int count = settings_of(f, settings);
  for (const struct cpool__option *option = cpool__session_option_table.options; option->key != NULL; option++) {
    bool known = false;
    for (int i = 0; i < count; i++)
      known |= strcmp(option->key, settings[i].key) == 0;
    for (size_t i = 0; i < sizeof of_the_request / sizeof *of_the_request; i++)
      known |= strcmp(option->key, of_the_request[i]) == 0;
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++)
      known |= strcmp(option->key, apart[i]) == 0;
    if (!known)
      fail_msg("%s: add it to settings_of, or to of_the_request", option->key);
  }
}

static void sessions_that_differ_in_one_setting_never_share_a_connection(void **state)
{
  struct peer *f = *state;
  struct setting settings[MOST_SETTINGS];
  int count = settings_of(f, settings);
  for (int i = 0; i < count; i++)
    for (int tls = 0; tls < (settings[i].plain ? 1 : 2); tls++) {
      cpool_session *sessions[3] = {0}, *twins[3] = {0};
      char seen[3][32];
      uint64_t numbers[3];
      int values = 0;
      for (; values < 3 && settings[i].values[values] != NULL; values++) {
        cpool_session_options options;
        cpool_session_options_init(&options);
        if (strcmp(settings[i].key, "ca_file") != 0)
          options.ca_file = matrix_of(f)->certs->ca_file;
        for (int k = 0; k < 4 && settings[i].needs[k] != NULL; k += 2)
          set(&options, settings[i].needs[k], settings[i].needs[k + 1]);
        set(&options, settings[i].key, settings[i].values[values]);
        sessions[values] = session_of(f, &options);
        twins[values] = session_of(f, &options);
        struct answer answer = peer_ask(f, &(struct ask){.session = sessions[values], .url = who(f, tls)});
        if (answer.status != CPOOL_OK || answer.code != 200 || answer.info.reused != 0)
          print_error("%s, value %d, %s\n", settings[i].key, values, tls ? "https" : "http");
        peer_is(answer, CPOOL_OK);
        assert_int_equal(answer.code, 200);
        assert_int_equal(answer.info.reused, 0);
        numbers[values] = answer.info.connection;
        snprintf(seen[values], sizeof seen[values], "%s", answer.body);
        for (int k = 0; k < values; k++)
          if (strcmp(seen[k], seen[values]) == 0 || numbers[k] == numbers[values])
            fail_msg("%s: values %d and %d share a connection", settings[i].key, k, values);
      }
      for (int k = 0; k < values; k++) { /* while connections of equal settings are the same, all of them being idle */
        struct answer answer = peer_ask(f, &(struct ask){.session = twins[k], .url = who(f, tls)});
        assert_string_equal(answer.body, seen[k]);
        assert_int_equal(answer.info.connection, numbers[k]);
      }
      for (int k = 0; k < values; k++) {
        cpool_session_free(sessions[k]);
        cpool_session_free(twins[k]);
      }
      peer_await(f, total_connections, 0); /* gone with their identities */
    }
}

static void a_stricter_address_policy_uses_no_connection_of_a_looser_one(void **state)
{
  struct peer *f = *state;
  for (int i = 0; i < 3; i++) {
    cpool_session_options options;
    cpool_session_options_init(&options);
    options.ca_file = matrix_of(f)->certs->ca_file;
    options.proxy = i < 2 ? NULL : matrix_of(f)->url[0];
    cpool_session *loose = session_of(f, &options);
    options.address_policy = CPOOL_ADDRESS_PUBLIC;
    cpool_session *strict = session_of(f, &options);
    peer_is(peer_ask(f, &(struct ask){.session = loose, .url = who(f, i == 1)}), CPOOL_OK);
    peer_is(peer_ask(f, &(struct ask){.session = strict, .url = who(f, i == 1)}), CPOOL_EADDRESS);
    cpool_session_free(loose);
    cpool_session_free(strict);
  }
}

static void the_environment_s_proxies_are_as_good_as_named_ones(void **state)
{
  struct peer *f = *state;
  uint64_t numbers[3];
  cpool_session *sessions[3];
  for (int i = 0; i < 3; i++) {
    cpool_session_options options;
    cpool_session_options_init(&options);
    options.proxy_from_env = 1;
    setenv("http_proxy", matrix_of(f)->url[i % 2], 1);
    sessions[i] = session_of(f, &options);
    unsetenv("http_proxy"); /* it was read once */
    numbers[i] = peer_ask(f, &(struct ask){.session = sessions[i], .url = who(f, false)}).info.connection;
  }
  assert_int_not_equal(numbers[0], numbers[1]);
  assert_int_equal(numbers[0], numbers[2]);
  for (int i = 0; i < 3; i++)
    cpool_session_free(sessions[i]);
}

/* ---- by chance */

struct crowd {
  cpool_session *sessions[RANDOM_SESSIONS];
  int kinds[RANDOM_SESSIONS]; /* the first session with the same settings */
  int owners[65536];          /* by nginx's number: kind + 1 */
  uint64_t seed;
};

static unsigned below(struct crowd *crowd, unsigned limit)
{
  crowd->seed ^= crowd->seed >> 12;
  crowd->seed ^= crowd->seed << 25;
  crowd->seed ^= crowd->seed >> 27;
  return (unsigned) ((crowd->seed * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % limit;
}

/* All that was set, as one text. */
static void describe(const cpool_session_options *options, char out[DESCRIPTION_BYTES])
{
  size_t len = 0;
  out[0] = '\0';
  for (const struct cpool__option *option = cpool__session_option_table.options; option->key != NULL; option++) {
    const char *field = (const char *) options + option->offset, *text;
    int32_t number;
    memcpy(&text, field, sizeof text);
    memcpy(&number, field, sizeof number);
    if (option->type == CPOOL__OPTION_TEXT && text != NULL)
      len += (size_t) snprintf(out + len, DESCRIPTION_BYTES - len, "%s=%s\n", option->key, text);
    else if (option->type != CPOOL__OPTION_TEXT)
      len += (size_t) snprintf(out + len, DESCRIPTION_BYTES - len, "%s=%d\n", option->key, number);
    assert_true(len < DESCRIPTION_BYTES);
  }
}

/* Each setting has any of its values; what it cannot do without comes along. */
static void fill(struct peer *f, struct crowd *crowd)
{
  struct setting settings[MOST_SETTINGS];
  static char descriptions[RANDOM_SESSIONS][DESCRIPTION_BYTES];
  int count = settings_of(f, settings);
  for (int i = 0; i < RANDOM_SESSIONS; i++) {
    cpool_session_options options;
    cpool_session_options_init(&options);
    options.ca_file = matrix_of(f)->certs->ca_file;
    for (int k = 0; k < count; k++) {
      if (settings[k].plain)
        continue;
      unsigned values = settings[k].values[2] != NULL ? 3 : 2;
      unsigned chosen = below(crowd, 3) > 0 ? 0 : below(crowd, values);
      if (chosen == 0)
        continue;
      for (int n = 0; n < 4 && settings[k].needs[n] != NULL; n += 2)
        set(&options, settings[k].needs[n], settings[k].needs[n + 1]);
      set(&options, settings[k].key, settings[k].values[chosen]);
    }
    if (options.proxy_username == NULL) /* the proxy's name came along with a password alone */
      options.proxy_password = NULL;
    crowd->sessions[i] = session_of(f, &options);
    describe(&options, descriptions[i]);
    crowd->kinds[i] = i;
    for (int k = 0; k < i && crowd->kinds[i] == i; k++)
      if (strcmp(descriptions[k], descriptions[i]) == 0)
        crowd->kinds[i] = crowd->kinds[k];
  }
}

static void thousands_of_requests_never_meet_on_a_foreign_connection(void **state)
{
  struct peer *f = *state;
  struct crowd *crowd = calloc(1, sizeof *crowd);
  assert_non_null(crowd);
  crowd->seed = 20240517;
  fill(f, crowd);
  int started = 0, kinds = 0, reused = 0;
  for (int i = 0; i < RANDOM_SESSIONS; i++)
    kinds += crowd->kinds[i] == i;
  assert_in_range(kinds, 10, RANDOM_SESSIONS);
  while (started < RANDOM_REQUESTS) {
    int of[IN_FLIGHT];
    cpool_op ops[IN_FLIGHT];
    for (int i = 0; i < IN_FLIGHT; i++, started++) {
      of[i] = (int) below(crowd, RANDOM_SESSIONS);
      ops[i] = peer_start(f, &(struct ask){.session = crowd->sessions[of[i]], .url = who(f, below(crowd, 2) == 1)});
    }
    for (int i = 0; i < IN_FLIGHT; i++) {
      const cpool_event *event = NULL;
      assert_int_equal(cpool_queue_wait(f->queue, &event, 1, PEER_DEADLINE_MS), 1);
      assert_int_equal(event->status, CPOOL_OK);
      assert_int_equal(cpool_response_status(event->response), 200);
      int at = 0;
      while (at < IN_FLIGHT && ops[at] != event->source)
        at++;
      assert_true(at < IN_FLIGHT);
      long number = strtol(cpool_response_body(event->response, NULL), NULL, 10);
      assert_in_range(number, 1, 65535);
      int kind = crowd->kinds[of[at]];
      if (crowd->owners[number] != 0 && crowd->owners[number] != kind + 1)
        fail_msg("connection %ld carried requests of sessions %d and %d", number, crowd->owners[number] - 1, kind);
      reused += crowd->owners[number] != 0;
      crowd->owners[number] = kind + 1;
      cpool_queue_release(f->queue, &event, 1);
    }
  }
  assert_true(reused > RANDOM_REQUESTS / 2);
  for (int i = 0; i < RANDOM_SESSIONS; i++)
    cpool_session_free(crowd->sessions[i]);
  free(crowd);
}

#define matrix_case(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
  const struct CMUnitTest tests[] = {
      matrix_case(every_setting_is_in_the_matrix_or_belongs_to_the_request),
      matrix_case(sessions_that_differ_in_one_setting_never_share_a_connection),
      matrix_case(a_stricter_address_policy_uses_no_connection_of_a_looser_one),
      matrix_case(the_environment_s_proxies_are_as_good_as_named_ones),
      matrix_case(thousands_of_requests_never_meet_on_a_foreign_connection),
  };
  return cmocka_run_group_tests(tests, peer_warm_up, NULL);
}
