/* fetch_options: the command line of cpool-fetch */
#include "fetch_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fetch_input.h"

enum { METHOD_BYTES = 32 };

static const char usage[] =
    "usage: cpool-fetch [options] URL... | -\n"
    "\n"
    "Fetches URLs through one connection pool and reports how that went; bodies are counted, and kept with -o.\n"
    "With - the URLs are read from standard input, one a line.\n"
    "\n"
    "  -n N                 requests in all, spread over the URLs in turn (the number of URLs)\n"
    "  -c CONCURRENCY       requests in flight at a time (10)\n"
    "  -X METHOD            GET, or POST with -d\n"
    "  -H 'NAME: VALUE'     header; up to 64 times\n"
    "  -d BODY              body of each request; @FILE reads it, @- from standard input\n"
    "  -L, --location       follow up to 10 redirects of each request\n"
    "      --compressed     ask for compressed bodies, and decode them\n"
    "  -o FILE              write the body of the one request to FILE, - for standard output\n"
    "      --http2          offer HTTP/2 to https hosts\n"
    "      --cacert FILE    trust these certificates (PEM) instead of the system's\n"
    "      --proxy URL      go through this http, https or socks5 proxy\n"
    "      --proxy-user U:P with this user and password\n"
    "      --timeout MS     longest time of one request, waiting for a connection included (60000; with -o none)\n"
    "      --max-per-host N connections to one host (CONCURRENCY)\n"
    "      --json           print one JSON object\n"
    "  -h, --help           print this\n"
    "      --version        print the version of the library\n"
    "\n"
    "exit status: 0 all answers were 2xx or 3xx; 1 some were not; 2 bad usage; 130 interrupted\n";

enum {
  OPTION_CACERT = 256,
  OPTION_HTTP2,
  OPTION_COMPRESSED,
  OPTION_PROXY,
  OPTION_PROXY_USER,
  OPTION_TIMEOUT,
  OPTION_MAX_PER_HOST,
  OPTION_JSON,
  OPTION_HELP,
  OPTION_VERSION
};

static const struct option long_options[] = {
    {"cacert", required_argument, NULL, OPTION_CACERT},
    {"compressed", no_argument, NULL, OPTION_COMPRESSED},
    {"proxy", required_argument, NULL, OPTION_PROXY},
    {"proxy-user", required_argument, NULL, OPTION_PROXY_USER},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"max-per-host", required_argument, NULL, OPTION_MAX_PER_HOST},
    {"http2", no_argument, NULL, OPTION_HTTP2},
    {"json", no_argument, NULL, OPTION_JSON},
    {"location", no_argument, NULL, 'L'},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

__attribute__((format(printf, 1, 2))) static enum fetch_action bad_usage(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  fputs("cpool-fetch: ", stderr);
  vfprintf(stderr, format, args);
  va_end(args);
  fputs("\ntry cpool-fetch --help\n", stderr);
  return FETCH_EXIT_USAGE;
}

/* What getopt_long did not take. `option`: 0 for an unknown long one, the number of a known one with a value. */
static enum fetch_action bad_option(const char *text, int option)
{
  if (option == 0)
    return bad_usage("%s: unknown option", text);
  if (option < OPTION_CACERT && text[1] != '-')
    return bad_usage("unknown option -%c", option);
  return bad_usage("%.*s takes no value", (int) strcspn(text, "="), text);
}

/* Decimal digits only; -1 when the text is anything else or out of range. */
static int64_t parse_number(const char *text, int64_t maximum)
{
  int64_t value = 0;
  if (*text == '\0')
    return -1;
  for (; *text != '\0'; text++) {
    if (*text < '0' || *text > '9')
      return -1;
    value = value * 10 + (*text - '0');
    if (value > maximum)
      return -1;
  }
  return value;
}

static enum fetch_action set_number(int64_t *out, const char *option, const char *text, int64_t maximum)
{
  int64_t value = parse_number(text, maximum);
  if (value < 1)
    return bad_usage("%s %s: not a number from 1 to %lld", option, text, (long long) maximum);
  *out = value;
  return FETCH_RUN;
}

/* Cuts "Name: value" in place. */
static enum fetch_action add_header(struct fetch_options *out, char *text)
{
  char *colon = strchr(text, ':');
  if (colon == NULL || colon == text)
    return bad_usage("-H %s: not of the form 'Name: value'", text);
  if (out->header_count == FETCH_MAX_HEADERS)
    return bad_usage("-H %s: more than %d headers", text, FETCH_MAX_HEADERS);
  *colon = '\0';
  out->headers[out->header_count++] = (cpool_header){.name = text, .value = colon + 1 + strspn(colon + 1, " \t")};
  return FETCH_RUN;
}

static enum fetch_action set_body(struct fetch_options *out, const char *text)
{
  free(out->body);
  if (text[0] == '@') {
    out->body = fetch_read_all(text + 1, &out->body_len);
    return out->body != NULL ? FETCH_RUN : bad_usage("-d %s: %s", text, strerror(errno));
  }
  out->body = strdup(text);
  out->body_len = strlen(text);
  return out->body != NULL ? FETCH_RUN : bad_usage("out of memory");
}

/* Cuts "user:password" in place. */
static void set_proxy_user(struct fetch_options *out, char *text)
{
  char *colon = strchr(text, ':');
  if (colon != NULL)
    *colon = '\0';
  out->proxy_username = text;
  out->proxy_password = colon != NULL ? colon + 1 : NULL;
}

static enum fetch_action set_method(struct fetch_options *out, const char *text)
{
  /* a token, RFC 9110 section 5.6.2 */
  static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  if (text[0] == '\0' || text[strspn(text, token)] != '\0' || strlen(text) > METHOD_BYTES)
    return bad_usage("-X %s: not a method", text);
  if (strcmp(text, "CONNECT") == 0)
    return bad_usage("-X CONNECT: not available");
  out->method = text;
  return FETCH_RUN;
}

/* What shows at a glance; the library looks closer, and its word comes with the first request. */
static int is_http_url(const char *text)
{
  size_t scheme_len = strncasecmp(text, "https://", 8) == 0 ? 8 : strncasecmp(text, "http://", 7) == 0 ? 7 : 0;
  return scheme_len != 0 && strcspn(text + scheme_len, "/?#") > 0;
}

/* Those of the command line are typed, and checked at once. A line of a list that is no URL is a failed request. */
static enum fetch_action add_urls(struct fetch_options *out, char **urls, int count)
{
  struct fetch_list list = {NULL, 0, 0};
  enum fetch_action action = FETCH_RUN;
  for (int i = 0; i < count && action == FETCH_RUN; i++) {
    if (strcmp(urls[i], "-") != 0) {
      if (!is_http_url(urls[i]))
        action = bad_usage("%s: not an http or https URL", urls[i]);
      else if (fetch_list_add(&list, urls[i]) != 0)
        action = bad_usage("out of memory");
    } else if (out->text != NULL) {
      action = bad_usage("-: standard input can be read once only");
    } else {
      size_t len = 0;
      out->text = fetch_read_all("-", &len);
      if (out->text == NULL || fetch_list_add_lines(&list, out->text, len) != 0)
        action = bad_usage("-: %s", strerror(errno));
    }
  }
  out->urls = list.items;
  out->url_count = list.count;
  if (action == FETCH_RUN && list.count == 0)
    action = bad_usage(count == 0 ? "no URL" : "no URL on standard input");
  return action;
}

/* 0, or an errno. */
static int unreadable(const char *path)
{
  struct stat status;
  if (access(path, R_OK) != 0 || stat(path, &status) != 0)
    return errno;
  return S_ISDIR(status.st_mode) ? EISDIR : 0;
}

static enum fetch_action check(struct fetch_options *out, const char *body_text, int64_t requests, int64_t concurrency)
{
  if (body_text != NULL && out->text != NULL && strcmp(body_text, "@-") == 0)
    return bad_usage("-d @-: standard input has the URLs");
  int error = out->ca_file != NULL ? unreadable(out->ca_file) : 0;
  if (error != 0)
    return bad_usage("--cacert %s: %s", out->ca_file, strerror(error));
  if (out->output != NULL && (requests > 1 || out->url_count > 1))
    return bad_usage("-o %s: for one request only", out->output);
  out->requests = requests != 0 ? requests : (int64_t) out->url_count;
  out->concurrency = (int32_t) (concurrency < out->requests ? concurrency : out->requests);
  return FETCH_RUN;
}

enum fetch_action fetch_options_parse(struct fetch_options *out, int argc, char **argv)
{
  enum fetch_action action = FETCH_RUN;
  const char *body_text = NULL;
  int64_t requests = 0, concurrency = 10, max_per_host = 0;
  int option;
  memset(out, 0, sizeof *out);
  opterr = 0; /* the messages are ours, one line each */
  while (action == FETCH_RUN && (option = getopt_long(argc, argv, ":n:c:X:H:d:Lo:h", long_options, NULL)) != -1) {
    switch (option) {
    case 'n':
      action = set_number(&requests, "-n", optarg, 1000000000000);
      break;
    case 'c':
      action = set_number(&concurrency, "-c", optarg, FETCH_MAX_CONCURRENCY);
      break;
    case 'X':
      action = set_method(out, optarg);
      break;
    case 'H':
      action = add_header(out, optarg);
      break;
    case 'd':
      body_text = optarg;
      action = set_body(out, optarg);
      break;
    case 'L':
      out->location = 1;
      break;
    case 'o':
      out->output = optarg;
      break;
    case OPTION_CACERT:
      out->ca_file = optarg;
      break;
    case OPTION_COMPRESSED:
      out->compressed = 1;
      break;
    case OPTION_PROXY:
      out->proxy = optarg;
      break;
    case OPTION_PROXY_USER:
      set_proxy_user(out, optarg);
      break;
    case OPTION_TIMEOUT:
      action = set_number(&out->timeout_ms, "--timeout", optarg, 86400000);
      break;
    case OPTION_MAX_PER_HOST:
      action = set_number(&max_per_host, "--max-per-host", optarg, 1000000);
      break;
    case OPTION_HTTP2:
      out->http2 = 1;
      break;
    case OPTION_JSON:
      out->json = 1;
      break;
    case 'h':
    case OPTION_HELP:
      fputs(usage, stdout);
      return FETCH_EXIT_OK;
    case OPTION_VERSION:
      printf("cpool-fetch %s\n", cpool_version());
      return FETCH_EXIT_OK;
    case ':':
      action = bad_usage("%s needs a value", argv[optind - 1]);
      break;
    default:
      action = bad_option(argv[optind - 1], optopt);
    }
  }
  out->max_per_host = (int32_t) max_per_host;
  if (action == FETCH_RUN)
    action = add_urls(out, argv + optind, argc - optind);
  if (action == FETCH_RUN)
    action = check(out, body_text, requests, concurrency);
  return action;
}

void fetch_options_free(struct fetch_options *options)
{
  free(options->body);
  free(options->urls);
  free(options->text);
}
