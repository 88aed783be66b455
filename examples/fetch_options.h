/* fetch_options: what cpool-fetch was asked to do */
#ifndef FETCH_OPTIONS_H
#define FETCH_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include <cpool.h>

enum { FETCH_MAX_HEADERS = 64, FETCH_MAX_CONCURRENCY = 100000, FETCH_MAX_REDIRECTS = 10 };

struct fetch_options {
  int64_t requests;     /* in all, spread over the URLs in turn */
  int32_t concurrency;  /* at most `requests` */
  int32_t max_per_host; /* 0: as many as the concurrency */
  int64_t timeout_ms;   /* 0: the library's defaults */
  const char *method;   /* NULL: GET, or POST with a body */
  const char *ca_file;  /* NULL: the system's */
  const char *proxy;    /* NULL: none */
  const char *proxy_username, *proxy_password;
  const char *output; /* file for the body of the one request, "-": standard output; NULL: bodies are only counted */
  int json;
  int http2;      /* offer it to https hosts */
  int location;   /* follow redirects */
  int compressed; /* ask for coded bodies, and decode them */
  cpool_header headers[FETCH_MAX_HEADERS];
  size_t header_count;
  char *body; /* NULL: none */
  size_t body_len;
  char **urls; /* at least one */
  size_t url_count;
  char *text; /* of the URLs that came from standard input */
};

enum fetch_action { FETCH_RUN, FETCH_EXIT_OK, FETCH_EXIT_USAGE };

/* Prints what is to be said (help, version, one reason). To be freed in every case; argv must stay. */
enum fetch_action fetch_options_parse(struct fetch_options *out, int argc, char **argv);
void fetch_options_free(struct fetch_options *options);

#endif
