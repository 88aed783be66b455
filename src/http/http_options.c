/* http_options: the pool's option table, and the resolved copy that the pool lives by */
#include "http/http_options.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "core/error.h"
#include "core/structs.h"

enum { DAY_MS = 24 * 60 * 60 * 1000, USER_AGENT_BYTES = 4096 };

#define FIELD(name) .key = #name, .offset = offsetof(cpool_http_options, name)
#define COUNT(name, low, high) FIELD(name), .type = CPOOL__OPTION_INT32, .unit = "", .minimum = (low), .maximum = (high)
#define MS(name, low) FIELD(name), .type = CPOOL__OPTION_INT64, .unit = "ms", .minimum = (low), .maximum = DAY_MS
#define BYTES(name, low, high)                                                                                         \
  FIELD(name), .type = CPOOL__OPTION_INT64, .unit = "bytes", .minimum = (low), .maximum = (high)

static const struct cpool__choice policy_choices[] = {{"any", CPOOL_ADDRESS_ANY},
                                                      {"public", CPOOL_ADDRESS_PUBLIC},
                                                      {NULL, 0}};

/* max_pending stays below the 2^24 slots of a handle. */
static const struct cpool__option option_rows[] = {
    {COUNT(max_connections, 1, 1000000), .standard = 100, .flags = CPOOL__OPTION_LIVE,
     .meaning = "sockets open at a time"},
    {COUNT(max_connections_per_host, 1, 1000000), .standard = 30, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "of these, to one scheme, host and port"},
    {COUNT(max_pending, 1, 16000000), .standard = 10000, .flags = CPOOL__OPTION_LIVE,
     .meaning = "requests that wait for a connection; more are refused"},
    {COUNT(max_closing, 1, 1000000), .standard = 100, .flags = CPOOL__OPTION_LIVE,
     .meaning = "sockets shut down but not yet closed; at it no new ones are opened"},
    {COUNT(max_origins, 1, 1000000), .standard = 1000, .flags = CPOOL__OPTION_LIVE, .meaning = "hosts remembered"},
    {COUNT(max_identities, 1, 10000), .standard = 64,
     .meaning =
         "different TLS, address, socket and proxy settings among the sessions in use, the default session's included"},
    {COUNT(max_requests_per_connection, 1, INT32_MAX), .standard = CPOOL_OFF,
     .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF, .meaning = "then it is closed after the response"},
    {FIELD(address_policy), .type = CPOOL__OPTION_CHOICE, .unit = "", .standard = CPOOL_ADDRESS_ANY,
     .choices = policy_choices,
     .meaning =
         "which addresses sessions may connect to, unless they say otherwise; public refuses special-purpose ranges"},
    {MS(acquire_timeout_ms, 1), .standard = 30000, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "submit until dispatch"},
    {MS(connect_timeout_ms, 1), .standard = 10000, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "dispatch until TLS is done; DNS and a proxy's tunnel included"},
    {MS(sock_read_timeout_ms, 1), .standard = 30000, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "longest silence while sending or receiving"},
    {MS(total_timeout_ms, 1), .standard = 60000, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "submit until the final event"},
    {MS(keepalive_timeout_ms, 1), .standard = 30000, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "longest idle time of a connection; a shorter Keep-Alive hint of the server is obeyed"},
    {MS(max_lifetime_ms, 1), .standard = 3600000, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "longest life of a connection; it ends when idle or after its response"},
    {FIELD(max_lifetime_jitter_ratio), .type = CPOOL__OPTION_DOUBLE, .unit = "", .minimum = 0.001, .maximum = 1,
     .standard = 0.1, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "share of max_lifetime_ms taken off at random"},
    {FIELD(race_delay_ms), .type = CPOOL__OPTION_INT64, .unit = "ms", .minimum = 10, .maximum = 5000, .standard = 300,
     .flags = CPOOL__OPTION_LIVE, .meaning = "between the connects to two addresses of one host (RFC 8305)"},
    {BYTES(max_response_bytes, 1, 1099511627776), .standard = 64 * 1024 * 1024,
     .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF, .meaning = "body of one response"},
    {BYTES(max_header_bytes, 256, 256 * 1024), .standard = 64 * 1024, .flags = CPOOL__OPTION_LIVE,
     .meaning = "status lines, headers and trailers of one response"},
    {MS(ttl_dns_cache_ms, 1), .standard = 300000, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "longest use of a DNS answer, its own TTL when shorter; off: nothing is remembered"},
    {MS(dns_min_ttl_ms, 1), .standard = 1000, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "shortest use of a DNS answer, within ttl_dns_cache_ms"},
    {MS(dns_negative_ttl_ms, 1), .standard = 5000, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "use of the answer \"no such name\""},
    {FIELD(dns_timeout_ms), .type = CPOOL__OPTION_INT64, .unit = "ms", .minimum = 100, .maximum = 60000,
     .standard = 5000, .flags = CPOOL__OPTION_LIVE, .meaning = "one name, all tries"},
    {COUNT(dns_max_entries, 1, 1000000), .standard = 1000, .flags = CPOOL__OPTION_LIVE, .meaning = "names remembered"},
    {FIELD(dns_servers), .type = CPOOL__OPTION_TEXT, .unit = "", .standard_text = "the system's",
     .meaning = "addresses with ports: `127.0.0.1:5353,[::1]:53`"},
    {FIELD(dns_hosts_file), .type = CPOOL__OPTION_TEXT, .unit = "", .standard_text = "/etc/hosts",
     .meaning = "names that need no query"},
    {MS(dns_stale_ms, 1), .standard = 3600000, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "use of a DNS answer past its end while the name servers give none; off: never"},
    {FIELD(dns_resolv_conf_file), .type = CPOOL__OPTION_TEXT, .unit = "", .standard_text = "/etc/resolv.conf",
     .meaning = "names the name servers when dns_servers does not; read again when it has changed"},
    {FIELD(user_agent), .type = CPOOL__OPTION_TEXT, .unit = "", .standard_text = "libcpool/VERSION",
     .meaning = "sent unless the session or request sets its own; empty: none"},
    {BYTES(stream_window_bytes, 4096, 1073741824), .standard = 256 * 1024, .flags = CPOOL__OPTION_LIVE,
     .meaning = "of one streamed body, either way, between the library and its consumer; above it the transfer waits"},
    {BYTES(max_stream_bytes, 65536, 1099511627776), .standard = 64 * 1024 * 1024, .flags = CPOOL__OPTION_LIVE,
     .meaning = "the same of all streamed responses together; above it each waits with its next piece"},
    {FIELD(max_decompress_ratio), .type = CPOOL__OPTION_INT64, .unit = "", .minimum = 1, .maximum = 1000000,
     .standard = 200, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "bytes of a decoded body for each byte received, beyond its first 64 KiB"},
    {COUNT(max_connecting_per_host, 1, 1000000), .standard = 32, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "connections to one host that are being made at a time, TLS handshakes included; more wait for these"},
    {COUNT(max_streams_per_connection, 1, 1000), .standard = 100, .flags = CPOOL__OPTION_LIVE,
     .meaning = "requests at a time on one HTTP/2 connection; a server's lower limit is learned"},
    {BYTES(max_sse_event_bytes, 1024, 1073741824), .standard = 1024 * 1024, .flags = CPOOL__OPTION_LIVE,
     .meaning = "data, type and id of one server-sent event; also one line of the stream"},
    {MS(sse_retry_ms, 100), .standard = 3000, .flags = CPOOL__OPTION_LIVE,
     .meaning = "from the end of a stream of events until it is asked for again, unless the server says otherwise"},
    {COUNT(min_idle_per_host, 1, 1000), .standard = CPOOL_OFF, .flags = CPOOL__OPTION_LIVE | CPOOL__OPTION_OFF,
     .meaning = "connections to each host that requests can take at once: what is missing is made ahead of them"},
    {FIELD(warm_up_request), .type = CPOOL__OPTION_TEXT, .unit = "", .standard_text = "none",
     .meaning = "`HEAD /path`: sent on https connections that are made ahead and do not speak HTTP/2"},
    {.key = NULL},
};

const struct cpool__option_table cpool__http_option_table = {"http", option_rows};

int cpool_http_options_set(cpool_http_options *options, const char *key, const char *value)
{
  if (options == NULL || options->size < sizeof options->size)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "cpool_http_options: %s",
                         options == NULL ? "NULL" : "its size field is not set; call its _init first");
  return cpool__options_set(&cpool__http_option_table, options, options->size, key, value);
}

int cpool__http_warm_up_check(const char *warm_up)
{
  static const char *const methods[] = {"GET /", "HEAD /", "OPTIONS /", "OPTIONS *"};
  const char *target = NULL;
  for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
    if (strncmp(warm_up, methods[i], strlen(methods[i])) == 0)
      target = warm_up + strlen(methods[i]) - 1;
  bool valid = target != NULL && strlen(warm_up) < CPOOL__WARM_UP_BYTES && (target[0] == '/' || target[1] == '\0');
  for (const char *at = target; valid && *at != '\0'; at++)
    valid = *at > ' ' && *at <= '~' && *at != '#';
  if (!valid)
    return cpool__refuse(
        CPOOL_EINVAL, CPOOL_LAYER_CALLER,
        "http option warm_up_request: \"%.64s\" is no GET, HEAD or OPTIONS with a target below %d bytes", warm_up,
        CPOOL__WARM_UP_BYTES);
  return CPOOL_OK;
}

static int check_texts(const cpool_http_options *own)
{
  if (own->dns_servers != NULL && own->dns_servers[0] == '\0')
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "http option dns_servers: an empty text");
  if (own->dns_hosts_file != NULL && own->dns_hosts_file[0] == '\0')
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                         "http option dns_hosts_file: an empty name; /dev/null has no hosts");
  if (own->dns_resolv_conf_file != NULL && own->dns_resolv_conf_file[0] == '\0')
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "http option dns_resolv_conf_file: an empty name");
  if (own->user_agent != NULL && strlen(own->user_agent) > USER_AGENT_BYTES)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "http option user_agent: longer than %d bytes",
                         USER_AGENT_BYTES);
  return own->warm_up_request != NULL && own->warm_up_request[0] != '\0'
             ? cpool__http_warm_up_check(own->warm_up_request)
             : CPOOL_OK;
}

int cpool__http_options_make(cpool_http_options *out, const cpool_http_options *caller)
{
  cpool_http_options own = {.size = sizeof own};
  int status = caller == NULL ? CPOOL_OK : cpool__struct_read(&own, sizeof own, caller, "cpool_http_options");
  if (status == CPOOL_OK && own.queue != NULL && own.on_event != NULL)
    status = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                           "http options: queue and on_event are both set; events can go to one");
  if (status == CPOOL_OK)
    status = cpool__options_resolve(&cpool__http_option_table, &own);
  if (status == CPOOL_OK)
    status = check_texts(&own);
  if (status != CPOOL_OK)
    return status;

  char standard_agent[64] = "libcpool/";
  strncat(standard_agent, cpool_version(), sizeof standard_agent - sizeof "libcpool/");
  if (own.user_agent == NULL)
    own.user_agent = standard_agent;
  const cpool_http_options given = own;
  own.dns_servers = cpool__strdup(given.dns_servers);
  own.dns_hosts_file = cpool__strdup(given.dns_hosts_file);
  own.dns_resolv_conf_file = cpool__strdup(given.dns_resolv_conf_file);
  own.user_agent = cpool__strdup(given.user_agent);
  own.warm_up_request = cpool__strdup(given.warm_up_request);
  if ((given.dns_servers != NULL && own.dns_servers == NULL) ||
      (given.dns_hosts_file != NULL && own.dns_hosts_file == NULL) ||
      (given.dns_resolv_conf_file != NULL && own.dns_resolv_conf_file == NULL) || own.user_agent == NULL ||
      (given.warm_up_request != NULL && own.warm_up_request == NULL)) {
    cpool__http_options_fini(&own);
    return cpool__refuse(CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, "no memory for the pool's options");
  }
  *out = own;
  return CPOOL_OK;
}

void cpool__http_options_fini(cpool_http_options *options)
{
  cpool__free((char *) options->dns_servers);
  cpool__free((char *) options->dns_hosts_file);
  cpool__free((char *) options->dns_resolv_conf_file);
  cpool__free((char *) options->user_agent);
  cpool__free((char *) options->warm_up_request);
  options->dns_servers = options->dns_hosts_file = options->dns_resolv_conf_file = options->user_agent =
      options->warm_up_request = NULL;
}

int32_t cpool__limit32(int32_t value)
{
  return value == CPOOL_OFF ? INT32_MAX : value;
}

int64_t cpool__limit64(int64_t value)
{
  return value == CPOOL_OFF ? INT64_MAX : value;
}

void cpool__http_janitor_rules(const cpool_http_options *options, struct cpool__janitor_rules *out)
{
  *out = (struct cpool__janitor_rules){
      .keepalive_timeout_ms = options->keepalive_timeout_ms,
      .max_lifetime_ms = options->max_lifetime_ms,
      .max_lifetime_jitter_ratio = options->max_lifetime_jitter_ratio,
      .max_requests_per_connection = options->max_requests_per_connection,
  };
}

/* A time during which nothing is remembered is 0 to the resolver. */
static int64_t memory_ms(int64_t value)
{
  return value == CPOOL_OFF ? 0 : value;
}

void cpool__http_dns_options(const cpool_http_options *options, struct cpool__dns_options *out)
{
  *out = (struct cpool__dns_options){
      .ttl_max_ms = memory_ms(options->ttl_dns_cache_ms),
      .ttl_min_ms = memory_ms(options->dns_min_ttl_ms),
      .negative_ttl_ms = memory_ms(options->dns_negative_ttl_ms),
      .timeout_ms = options->dns_timeout_ms,
      .stale_ms = memory_ms(options->dns_stale_ms),
      .max_entries = options->dns_max_entries,
      .servers = options->dns_servers,
      .resolv_conf = options->dns_resolv_conf_file,
      .hosts_file = options->dns_hosts_file,
  };
  if (out->ttl_min_ms > out->ttl_max_ms)
    out->ttl_min_ms = out->ttl_max_ms;
}
