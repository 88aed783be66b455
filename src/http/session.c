/* session: what can be prepared once is prepared: identity, base URL, and the header lines of every request
 *
 * One block holds the session, its base path, its header list and, behind them, the lines that the list was made
 * from. It is wiped as a whole before it is freed when it holds credentials. */
#include "http/session.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"
#include "http/pin.h"
#include "http/pool.h"
#include "http/proxy.h"
#include "http/redirect.h"
#include "web/basic.h"

enum { UNIX_PATH_BYTES = 107 }; /* sun_path without its NUL */

#define FIELD(name) .key = #name, .offset = offsetof(cpool_session_options, name), .unit = ""

static const struct cpool__choice switch_choices[] = {{"on", 1}, {"off", CPOOL_OFF}, {NULL, 0}};
static const struct cpool__choice version_choices[] = {{"1.2", CPOOL_TLS_1_2}, {"1.3", CPOOL_TLS_1_3}, {NULL, 0}};
static const struct cpool__choice http_choices[] = {{"1.1", CPOOL_HTTP_1_1}, {"2", CPOOL_HTTP_2}, {NULL, 0}};
static const struct cpool__choice policy_choices[] = {{"any", CPOOL_ADDRESS_ANY},
                                                      {"public", CPOOL_ADDRESS_PUBLIC},
                                                      {NULL, 0}};

static const struct cpool__option option_rows[] = {
    {FIELD(base_url), .type = CPOOL__OPTION_TEXT,
     .meaning =
         "http(s) URL without query; a final `/` is ignored; request URLs that begin with `/` or `?` are appended "
         "to its path (not resolved as in RFC 3986)"},
    {FIELD(username), .type = CPOOL__OPTION_TEXT,
     .meaning = "sent as Authorization: Basic, to the origin of base_url alone when there is one; without `:`"},
    {FIELD(password), .type = CPOOL__OPTION_TEXT, .meaning = "only with username"},
    {FIELD(bearer_token), .type = CPOOL__OPTION_TEXT,
     .meaning = "sent as Authorization: Bearer, to the origin of base_url alone when there is one; visible ASCII; not "
                "together with username"},
    {FIELD(tls_verify), .type = CPOOL__OPTION_CHOICE, .standard = 1, .choices = switch_choices,
     .meaning = "off accepts any certificate of a host; that of an https proxy is verified in any case"},
    {FIELD(tls_min_version), .type = CPOOL__OPTION_CHOICE, .standard = CPOOL_TLS_1_2, .choices = version_choices,
     .meaning = "oldest TLS version that is spoken"},
    {FIELD(address_policy), .type = CPOOL__OPTION_CHOICE, .standard = CPOOL_ADDRESS_ANY, .standard_text = "the pool's",
     .choices = policy_choices, .meaning = "which addresses may be connected to"},
    {FIELD(ca_file), .type = CPOOL__OPTION_TEXT, .standard_text = "the system's",
     .meaning = "PEM file of trusted certificates, for hosts and https proxies"},
    {FIELD(client_cert_file), .type = CPOOL__OPTION_TEXT, .meaning = "PEM file of the client certificate"},
    {FIELD(client_key_file), .type = CPOOL__OPTION_TEXT, .standard_text = "in client_cert_file",
     .meaning = "PEM file of its key"},
    {FIELD(client_key_password), .type = CPOOL__OPTION_TEXT, .meaning = "of the key"},
    {FIELD(unix_socket_path), .type = CPOOL__OPTION_TEXT,
     .meaning = "connect to this unix socket, at most 107 bytes; the URL's host is only a name then"},
    {FIELD(pinned_public_key), .type = CPOOL__OPTION_TEXT,
     .meaning = "`sha256//BASE64`, several with `;` between: https peers must have one of these public keys"},
    {FIELD(max_redirects), .type = CPOOL__OPTION_INT32, .minimum = 1, .maximum = CPOOL__REDIRECT_LIMIT,
     .standard = CPOOL_OFF, .flags = CPOOL__OPTION_OFF,
     .meaning = "redirects that a request follows, one after another; off: 3xx answers are delivered as they are"},
    {FIELD(proxy), .type = CPOOL__OPTION_TEXT,
     .meaning =
         "`http://`, `https://` or `socks5://`, host, port (else 80, 443, 1080): requests go through its tunnel, "
         "which resolves their host names"},
    {FIELD(proxy_username), .type = CPOOL__OPTION_TEXT,
     .meaning = "for the proxy alone, as Basic or RFC 1929; without `:` unless for SOCKS5"},
    {FIELD(proxy_password), .type = CPOOL__OPTION_TEXT, .meaning = "only with proxy_username"},
    {FIELD(no_proxy), .type = CPOOL__OPTION_TEXT,
     .meaning = "hosts without proxy, `,` between: `*`, a name (and all below it), an address, a block `10.0.0.0/8`; "
                "`:port` limits a name or address"},
    {FIELD(proxy_from_env), .type = CPOOL__OPTION_CHOICE, .standard = CPOOL_OFF, .choices = switch_choices,
     .meaning = "what proxy and no_proxy do not say is read from http_proxy (lower case alone), https_proxy, all_proxy "
                "and no_proxy when the session is made"},
    {FIELD(http_version), .type = CPOOL__OPTION_CHOICE, .standard = CPOOL_HTTP_1_1, .choices = http_choices,
     .meaning = "2: https hosts are offered HTTP/2 and asked in the version that they choose"},
    {.key = NULL},
};

const struct cpool__option_table cpool__session_option_table = {"session", option_rows};

int cpool_session_options_set(cpool_session_options *options, const char *key, const char *value)
{
  if (options == NULL || options->size < sizeof options->size)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_session_options: %s",
                         options == NULL ? "NULL" : "its size field is not set; call its _init first");
  return cpool__options_set(&cpool__session_option_table, options, options->size, key, value);
}

/* ---- validation ---- */

static int refuse(const char *text)
{
  return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "session option %s", text);
}

static bool is_visible_ascii(const char *text)
{
  for (; *text != '\0'; text++) {
    if (*text <= 0x20 || *text >= 0x7f)
      return false;
  }
  return true;
}

static int check_credentials(const cpool_session_options *own)
{
  if (own->username != NULL && own->bearer_token != NULL)
    return refuse("bearer_token: not together with username");
  if (own->username == NULL && own->password != NULL)
    return refuse("password: not without username");
  if (own->username != NULL && strchr(own->username, ':') != NULL)
    return refuse("username: ':' is not allowed in it");
  if (own->bearer_token != NULL && (own->bearer_token[0] == '\0' || !is_visible_ascii(own->bearer_token)))
    return refuse("bearer_token: must be visible ASCII without blanks, and not empty");
  if ((own->username != NULL && strlen(own->username) > CPOOL__HEAD_MAX_BYTES / 4) ||
      (own->password != NULL && strlen(own->password) > CPOOL__HEAD_MAX_BYTES / 4) ||
      (own->bearer_token != NULL && strlen(own->bearer_token) > CPOOL__HEAD_MAX_BYTES / 2))
    return refuse("username, password or bearer_token: too long for a request");
  if ((own->username != NULL || own->bearer_token != NULL) &&
      cpool__headers_find(own->headers, own->header_count, "Authorization"))
    return refuse("headers: Authorization is not allowed together with username or bearer_token");
  return CPOOL_OK;
}

static int check_files(const cpool_session_options *own)
{
  const struct {
    const char *key, *name;
  } files[] = {{"ca_file", own->ca_file},
               {"client_cert_file", own->client_cert_file},
               {"client_key_file", own->client_key_file},
               {"unix_socket_path", own->unix_socket_path}};
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    if (files[i].name != NULL &&
        files[i].name[0] == '\0') /* more likely a setting that got lost than a wish for the default */
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "session option %s: an empty name", files[i].key);
  }
  if (own->client_key_file != NULL && own->client_cert_file == NULL)
    return refuse("client_key_file: not without client_cert_file");
  if (own->client_key_password != NULL && own->client_cert_file == NULL)
    return refuse("client_key_password: not without client_cert_file");
  if (own->unix_socket_path != NULL && strlen(own->unix_socket_path) > UNIX_PATH_BYTES)
    return refuse("unix_socket_path: longer than 107 bytes");
  return CPOOL_OK;
}

/* Reads, completes and checks the caller's options; *user_agent belongs to the pool. */
static int resolve(cpool_session_options *own, const char **user_agent, cpool_http *pool,
                   const cpool_session_options *options)
{
  *own = (cpool_session_options){.size = sizeof *own};
  int status = options == NULL ? CPOOL_OK : cpool__struct_read(own, sizeof *own, options, "cpool_session_options");
  if (status != CPOOL_OK)
    return status;
  /* Neither of the two is live, and the text stays where it is as long as the pool. */
  pthread_mutex_lock(&pool->options_lock);
  if (own->address_policy == 0)
    own->address_policy = pool->wanted.address_policy;
  *user_agent = pool->wanted.user_agent;
  pthread_mutex_unlock(&pool->options_lock);

  status = cpool__options_resolve(&cpool__session_option_table, own);
  if (status == CPOOL_OK)
    status = cpool__headers_check(own->headers, own->header_count);
  if (status == CPOOL_OK)
    status = check_credentials(own);
  if (status == CPOOL_OK)
    status = check_files(own);
  if (status == CPOOL_OK)
    status = cpool__pins_check(own->pinned_public_key);
  return status;
}

/* ---- lines of its own ---- */

static size_t text_len(const char *text)
{
  return text == NULL ? 0 : strlen(text);
}

/* Appends text and NUL; the start of what follows. */
static char *put(char *at, const char *left, const char *right)
{
  at = stpcpy(stpcpy(at, left), right);
  return at + 1;
}

static const char agent_name[] = "User-Agent: ", basic_name[] = "Authorization: Basic ",
                  bearer_name[] = "Authorization: Bearer ";

/* Lines that the session adds to the caller's headers. */
struct own_lines {
  const char *lines[2];
  size_t count;
};

/* Upper bound of what own_lines_write writes. */
static size_t own_lines_size(const cpool_session_options *own, const char *user_agent)
{
  return sizeof agent_name + text_len(user_agent) + sizeof bearer_name + text_len(own->bearer_token) +
         cpool__basic_len(own->username, own->password);
}

static void own_lines_write(struct own_lines *out, char *at, const cpool_session_options *own, const char *user_agent)
{
  *out = (struct own_lines){.count = 0};
  if (user_agent != NULL && user_agent[0] != '\0') {
    out->lines[out->count++] = at;
    at = put(at, agent_name, user_agent);
  }
  if (own->bearer_token != NULL) {
    out->lines[out->count++] = at;
    put(at, bearer_name, own->bearer_token);
  } else if (own->username != NULL) {
    out->lines[out->count++] = at;
    cpool__basic_write(stpcpy(at, basic_name), own->username, own->password);
  }
}

/* ---- make and unmake ---- */

/* Parses base_url into *base; its path, without one '/' at the end, stays in the caller's text. */
static int parse_base(struct cpool__url *base, cpool_http *pool, const char *base_url)
{
  *base = (struct cpool__url){.target = ""};
  if (base_url == NULL)
    return CPOOL_OK;
  int status = cpool__url_parse(&pool->urls, base_url, "base_url", base);
  if (status != CPOOL_OK)
    return status;
  if (strpbrk(base->target, "?#") != NULL) {
    cpool__authority_free(base->owned);
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                         "base_url: a query or fragment is not allowed, paths are appended to it");
  }
  if (base->target_len > 0 && base->target[base->target_len - 1] == '/')
    base->target_len--;
  return CPOOL_OK;
}

/* Lays everything out in one block. NULL: out of memory. */
static cpool_session *session_new(const cpool_session_options *own, const char *user_agent,
                                  const struct cpool__url *base)
{
  /* The lines' lengths are known before they exist; the list is sized for as many bytes of them. */
  size_t lines_size = own_lines_size(own, user_agent);
  size_t list_size =
      cpool__headers_size(NULL, own->headers, own->header_count, NULL, 0) + 2 * sizeof(struct curl_slist) + lines_size;
  size_t list_at = cpool__align_up(sizeof(cpool_session)), path_at = list_at + cpool__align_up(list_size);
  size_t lines_at = path_at + base->target_len + 1, size = lines_at + lines_size;
  char *block = cpool__malloc(size);
  if (block == NULL)
    return NULL;

  cpool_session *session = (cpool_session *) (void *) block;
  *session = (cpool_session){.base = *base,
                             .base_path = block + path_at,
                             .base_path_len = base->target_len,
                             .block_bytes = size,
                             .max_redirects = (uint8_t) (own->max_redirects == CPOOL_OFF ? 0 : own->max_redirects),
                             .has_credentials = own->username != NULL || own->bearer_token != NULL,
                             .has_secret = own->username != NULL || own->bearer_token != NULL ||
                                           cpool__headers_find(own->headers, own->header_count, "Authorization")};
  memcpy(session->base_path, base->target, base->target_len);
  session->base_path[base->target_len] = '\0';
  session->base.target = session->base_path;
  struct own_lines lines;
  own_lines_write(&lines, block + lines_at, own, user_agent);
  cpool__headers_build(&session->headers, block + list_at, NULL, own->headers, own->header_count, lines.lines,
                       lines.count);
  atomic_init(&session->refs, 1);
  return session;
}

static void session_free(cpool_session *session)
{
  cpool__authority_free(session->base.owned);
  if (session->has_secret)
    explicit_bzero(session, session->block_bytes);
  cpool__free(session);
}

/* Streams keep off connections that others use: libcurl holds megabytes back for one that is paused there. */
static int take_identities(cpool_session *session, cpool_http *pool, const cpool_session_options *options,
                           const struct cpool__proxy_settings *proxies)
{
  cpool_session_options own = *options;
  if (own.unix_socket_path != NULL)
    own.http_version = CPOOL_HTTP_1_1;
  int status = cpool__identity_take(pool, &own, proxies, &session->identity);
  if (status != CPOOL_OK || own.http_version == CPOOL_HTTP_1_1)
    return status;
  own.http_version = CPOOL_HTTP_1_1;
  status = cpool__identity_take(pool, &own, proxies, &session->stream_identity);
  if (status != CPOOL_OK)
    cpool__identity_drop(session->identity);
  return status;
}

int cpool__session_make(cpool_session **out, cpool_http *pool, const cpool_session_options *options)
{
  cpool_session_options own;
  const char *user_agent;
  struct cpool__url base;
  int status = resolve(&own, &user_agent, pool, options);
  if (status != CPOOL_OK)
    return status;
  status = parse_base(&base, pool, own.base_url);
  if (status != CPOOL_OK)
    return status;
  cpool_session *session = session_new(&own, user_agent, &base);
  if (session == NULL) {
    cpool__authority_free(base.owned);
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for a session");
  }
  struct cpool__proxy_settings proxies;
  status = cpool__proxy_settings_make(&proxies, pool, &own);
  if (status == CPOOL_OK) {
    status = take_identities(session, pool, &own, &proxies);
    cpool__proxy_settings_fini(&proxies);
  }
  if (status != CPOOL_OK) {
    session_free(session);
    return status;
  }
  session->pool = pool;
  *out = session;
  return CPOOL_OK;
}

void cpool__session_hold(cpool_session *session)
{
  uint32_t refs = atomic_fetch_add_explicit(&session->refs, 1, memory_order_relaxed);
  assert(refs > 0);
  (void) refs;
}

void cpool__session_drop(cpool_session *session)
{
  uint32_t refs = atomic_fetch_sub_explicit(&session->refs, 1, memory_order_acq_rel);
  assert(refs > 0);
  if (refs > 1)
    return;
  cpool_http *pool = session->pool;
  bool holds_pool = session->holds_pool;
  cpool__identity_drop(session->identity);
  if (session->stream_identity != NULL)
    cpool__identity_drop(session->stream_identity);
  session_free(session);
  if (holds_pool)
    cpool__http_unref(pool); /* the last touch of the pool */
}

/* ---- public calls ---- */

cpool_session *cpool_http_session(cpool_http *pool)
{
  return pool == NULL ? NULL : pool->session;
}

int cpool_session_new(cpool_session **out, cpool_http *pool, const cpool_session_options *options)
{
  if (out == NULL || pool == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_session_new: the %s is NULL",
                         out == NULL ? "out pointer" : "pool");
  int status = cpool__http_usable(pool);
  if (status != CPOOL_OK)
    return status;
  cpool_session *session;
  status = cpool__session_make(&session, pool, options);
  if (status != CPOOL_OK)
    return status;
  atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
  session->holds_pool = true;
  *out = session;
  return CPOOL_OK;
}

void cpool_session_free(cpool_session *session)
{
  /* In a forked child the locks may be held by threads that do not exist there. */
  if (session == NULL || !session->holds_pool || cpool__http_readable(session->pool) != CPOOL_OK)
    return;
  cpool__session_drop(session);
}
