/* proxy_result: how the making of a tunnel goes: what the proxy answers, and what its failures mean. Loop thread only. */
#ifndef CPOOL_HTTP_PROXY_RESULT_H
#define CPOOL_HTTP_PROXY_RESULT_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <cpool.h>

struct cpool__request;
struct cpool__transfer;

/* A line of the head with which the proxy answers CONNECT. False: the head is too large, libcurl has to give up. */
bool cpool__proxy_head_line(struct cpool__transfer *transfer, const char *line, size_t len);
/* libcurl reads the answer byte by byte, until it ends or there is no more for the moment: a proxy that sends faster than
 * it reads would hold the loop for ever. While `on`, libcurl asks for each byte whether to go on. */
void cpool__proxy_watch(struct cpool__transfer *transfer, bool on);
/* The tunnel of a new connection stands, and the request is about to be sent through it. */
void cpool__proxy_tunnel_used(struct cpool__transfer *transfer);
/* What the request waits for when it has a connection to a proxy and, as far as that can be told, no tunnel yet; else
 * NULL. */
const char *cpool__proxy_waits(const struct cpool__request *req);
/* Whether the transfer, which has ended with this code, ended for want of a tunnel. */
bool cpool__proxy_failed(const struct cpool__transfer *transfer, CURLcode code);
/* Why. CPOOL_EPROXY, or, where an https proxy's own handshake failed, a status of TLS; nothing was sent. */
void cpool__proxy_outcome(struct cpool__transfer *transfer, CURLcode code, cpool_error *error);

#endif
