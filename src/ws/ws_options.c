/* ws_options: the option tables of managers and of dials */
#include <stdint.h>

#include "core/error.h"
#include "core/structs.h"
#include "ws/manager.h"

enum { DAY_MS = 24 * 60 * 60 * 1000 };

#define FIELD(name) .key = #name, .offset = offsetof(cpool_ws_options, name)
#define COUNT(name, low, high) FIELD(name), .type = CPOOL__OPTION_INT32, .unit = "", .minimum = (low), .maximum = (high)
#define MS(name, low) FIELD(name), .type = CPOOL__OPTION_INT64, .unit = "ms", .minimum = (low), .maximum = DAY_MS
#define BYTES(name, low, high)                                                                                         \
  FIELD(name), .type = CPOOL__OPTION_INT64, .unit = "bytes", .minimum = (low), .maximum = (high)

static const struct cpool__choice duplicate_choices[] = {{"reject", CPOOL_WS_REJECT},
                                                         {"replace", CPOOL_WS_REPLACE},
                                                         {NULL, 0}};
static const struct cpool__choice overflow_choices[] = {{"refuse", CPOOL_WS_OVERFLOW_REFUSE},
                                                        {"drop_oldest", CPOOL_WS_OVERFLOW_DROP_OLDEST},
                                                        {"drop_newest", CPOOL_WS_OVERFLOW_DROP_NEWEST},
                                                        {"close", CPOOL_WS_OVERFLOW_CLOSE},
                                                        {NULL, 0}};

static const struct cpool__choice switch_choices[] = {{"on", 1}, {"off", CPOOL_OFF}, {NULL, 0}};

/* max_connections stays below the 2^24 slots of a handle. */
static const struct cpool__option option_rows[] = {
    {COUNT(max_connections, 1, 16000000), .standard = 1000, .flags = CPOOL__OPTION_LIVE,
     .meaning = "in the registry; more are refused before the upgrade, with 503"},
    {COUNT(max_handshakes, 1, 1000000), .standard = 256, .flags = CPOOL__OPTION_LIVE,
     .meaning = "connections that are not open yet; more wait in the kernel's backlog. As many are dialled at a time"},
    {FIELD(on_duplicate), .type = CPOOL__OPTION_CHOICE, .unit = "", .standard = CPOOL_WS_REJECT,
     .choices = duplicate_choices, .flags = CPOOL__OPTION_LIVE,
     .meaning = "who gets an id that is taken: reject leaves it, replace closes the old one"},
    {FIELD(on_overflow), .type = CPOOL__OPTION_CHOICE, .unit = "", .standard = CPOOL_WS_OVERFLOW_REFUSE,
     .choices = overflow_choices, .flags = CPOOL__OPTION_LIVE,
     .meaning = "what happens to a message for which its connection's queue has no room"},
    {MS(health_check_interval_ms, 1), .standard = 60000, .flags = CPOOL__OPTION_OFF | CPOOL__OPTION_LIVE,
     .meaning = "silence of the peer after which it is pinged"},
    {MS(pong_timeout_ms, 1), .standard = 10000, .flags = CPOOL__OPTION_OFF | CPOOL__OPTION_LIVE,
     .meaning = "from a ping until anything comes; then the connection is cut"},
    {MS(connection_timeout_ms, 1), .standard = 300000, .flags = CPOOL__OPTION_OFF | CPOOL__OPTION_LIVE,
     .meaning = "longest silence of the peer, pinged or not"},
    {MS(handshake_timeout_ms, 1), .standard = 10000, .flags = CPOOL__OPTION_LIVE,
     .meaning = "from the accept of a socket, or the start of a dial, until the connection is open"},
    {MS(close_timeout_ms, 1), .standard = 5000, .flags = CPOOL__OPTION_LIVE,
     .meaning = "from the wish to close until the end; then it is cut"},
    {BYTES(max_message_bytes, 1, 1073741824), .standard = 1048576, .flags = CPOOL__OPTION_OFF | CPOOL__OPTION_LIVE,
     .meaning = "of a message that is received; off is legal with stream_messages alone"},
    {BYTES(max_send_queue_bytes, 1, 1073741824), .standard = 1048576, .flags = CPOOL__OPTION_LIVE,
     .meaning = "of messages that wait to be sent on one connection"},
    {COUNT(max_send_queue_messages, 1, 1000000), .standard = 10000, .flags = CPOOL__OPTION_LIVE,
     .meaning = "messages that wait to be sent on one connection"},
    {COUNT(receive_buffer_bytes, 128, 1048576), .standard = 192,
     .meaning = "of each connection; a small one is paid in reads of large messages"},
    {BYTES(max_queued_bytes, 65536, 1099511627776), .standard = 67108864, .flags = CPOOL__OPTION_LIVE,
     .meaning = "memory of messages that wait, of all connections; above it the one with the most is cut"},
    {FIELD(dns_servers), .type = CPOOL__OPTION_TEXT, .unit = "", .standard_text = "the system's",
     .meaning = "of dials: addresses with ports: `127.0.0.1:5353,[::1]:53`"},
    {FIELD(dns_hosts_file), .type = CPOOL__OPTION_TEXT, .unit = "", .standard_text = "/etc/hosts",
     .meaning = "of dials: names that need no query"},
    {FIELD(stream_messages), .type = CPOOL__OPTION_CHOICE, .unit = "", .standard = CPOOL_OFF, .choices = switch_choices,
     .meaning = "whether messages come in pieces, as they are read, or whole"},
    {BYTES(stream_window_bytes, 4096, 1073741824), .standard = 256 * 1024, .flags = CPOOL__OPTION_LIVE,
     .meaning = "of the pieces of one connection that are with the caller; above it that connection is not read"},
    {.key = NULL},
};

const struct cpool__option_table cpool__ws_option_table = {"ws", option_rows};

int cpool__ws_options_make(cpool_ws_options *own, const cpool_ws_options *options)
{
  *own = (cpool_ws_options){.size = sizeof *own};
  int rc = options != NULL ? cpool__struct_read(own, sizeof *own, options, "cpool_ws_options") : CPOOL_OK;
  if (rc == CPOOL_OK)
    rc = cpool__options_resolve(&cpool__ws_option_table, own);
  if (rc == CPOOL_OK && own->max_message_bytes == CPOOL_OFF && own->stream_messages != 1)
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                       "ws option max_message_bytes: off is legal with stream_messages alone");
  if (rc == CPOOL_OK && ((own->dns_servers != NULL && *own->dns_servers == '\0') ||
                         (own->dns_hosts_file != NULL && *own->dns_hosts_file == '\0')))
    rc = cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                       "ws option dns_servers, dns_hosts_file: an empty text; /dev/null has no hosts");
  return rc;
}

int cpool_ws_options_set(cpool_ws_options *options, const char *key, const char *value)
{
  if (options == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_options_set: options is NULL");
  return cpool__options_set(&cpool__ws_option_table, options, options->size, key, value);
}

/* --------------------------------------------------------------------------------------------------------------- dials */

#undef FIELD
#define FIELD(name) .key = #name, .offset = offsetof(cpool_ws_connect_options, name)
#define TEXT(name) FIELD(name), .type = CPOOL__OPTION_TEXT, .unit = ""

static const struct cpool__choice version_choices[] = {{"1.2", CPOOL_TLS_1_2}, {"1.3", CPOOL_TLS_1_3}, {NULL, 0}};
static const struct cpool__choice policy_choices[] = {{"any", CPOOL_ADDRESS_ANY},
                                                      {"public", CPOOL_ADDRESS_PUBLIC},
                                                      {NULL, 0}};

static const struct cpool__option connect_rows[] = {
    {TEXT(url), .standard_text = "needed", .meaning = "ws:// or wss://, without user and password"},
    {TEXT(subprotocols), .meaning = "offered: `chat, soap`"},
    {FIELD(tls_verify), .type = CPOOL__OPTION_CHOICE, .unit = "", .standard = 1, .choices = switch_choices,
     .meaning = "check the server's certificate and the name in it"},
    {FIELD(tls_min_version), .type = CPOOL__OPTION_CHOICE, .unit = "", .standard = CPOOL_TLS_1_2,
     .choices = version_choices, .meaning = "lowest version that is spoken"},
    {FIELD(address_policy), .type = CPOOL__OPTION_CHOICE, .unit = "", .standard = CPOOL_ADDRESS_ANY,
     .choices = policy_choices,
     .meaning = "which addresses may be connected to; public refuses special-purpose ranges. With a proxy: its own"},
    {TEXT(ca_file), .standard_text = "the system's", .meaning = "PEM: certificates that are trusted"},
    {TEXT(client_cert_file), .meaning = "PEM: shown to servers that ask"},
    {TEXT(client_key_file), .standard_text = "in client_cert_file", .meaning = "PEM"},
    {TEXT(client_key_password), .meaning = "of the key"},
    {TEXT(proxy), .meaning = "`http://host:port`: asked for a tunnel"},
    {TEXT(proxy_username), .meaning = "sent to the proxy as Basic; without `:`"},
    {TEXT(proxy_password), .meaning = "only with proxy_username"},
    {MS(reconnect_ms, 1), .standard = 1000, .flags = CPOOL__OPTION_OFF,
     .meaning = "longest delay before the first dial after an end; it doubles with each. off: one dial only"},
    {MS(max_reconnect_ms, 1), .standard = 60000, .meaning = "where it stops to double"},
    {MS(stable_ms, 1), .standard = 30000, .meaning = "so long a connection is open until the delay begins anew"},
    {COUNT(max_attempts, 1, 1000000), .standard = CPOOL_OFF, .flags = CPOOL__OPTION_OFF,
     .meaning = "dials in a row that may fail; then the connection ends"},
    {TEXT(stop_codes), .standard_text = "1000, 1003, 1007-1010",
     .meaning = "close codes of the peer after which it is not dialled again: `1000, 4000-4999`"},
    {.key = NULL},
};

const struct cpool__option_table cpool__ws_connect_option_table = {"ws_connect", connect_rows};

int cpool_ws_connect_options_set(cpool_ws_connect_options *options, const char *key, const char *value)
{
  if (options == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "ws_connect_options_set: options is NULL");
  return cpool__options_set(&cpool__ws_connect_option_table, options, options->size, key, value);
}
