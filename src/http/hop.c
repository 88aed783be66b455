/* hop: from a 3xx answer to the next request
 *
 * Everything that the next host must know is made before the first one is left, in one block; so a redirect that is
 * refused, or for which there is no memory or no room among the hosts, ends the request with its last answer still in
 * the response. Headers are only ever taken away: what was dropped at one hop does not come back at a later one. */
#include "http/hop.h"

#include <string.h>
#include <cpool.h>

#include "base/memory.h"
#include "base/table.h"
#include "core/error.h"
#include "http/pool.h"
#include "http/redirect.h"
#include "http/request.h"
#include "http/session.h"

struct plan {
  struct cpool__hop *hop;
  struct cpool__url url;
  const char *url_text, *target;
  struct cpool__header_list headers;
  bool foreign; /* to another origin than before */
  bool get;     /* as a GET, without body */
};

bool cpool__hop_due(const struct cpool__request *req)
{
  const struct cpool_response *resp = &req->resp;
  if (req->max_redirects == 0 || !resp->head_complete || !cpool__redirect_code(resp->status_code))
    return false;
  const char *location = cpool_response_header(resp, "Location");
  return location != NULL && location[0] != '\0';
}

static const char *method_of(const struct cpool__request *req)
{
  static const char *const implied[] = {"GET", "HEAD", "POST", "PUT"}; /* by kind */
  return req->method != NULL ? req->method : implied[req->kind];
}

/* The same request again has the same number, any other one another, as good as surely. */
static uint64_t print_of(const struct cpool__request *req, const struct cpool__authority *authority, const char *target,
                         size_t target_len, bool get)
{
  const uint64_t *key = req->pool->urls.key;
  const uint64_t parts[] = {cpool__siphash(key, authority->origin, strlen(authority->origin)),
                            cpool__siphash(key, target, target_len), get};
  return cpool__siphash(key, parts, sizeof parts);
}

/* A request can change to a GET but once: the method is told by whether it has. */
static bool seen(const struct cpool__request *req, uint64_t print)
{
  for (const struct cpool__hop *hop = req->resp.hops; hop != NULL; hop = hop->earlier) {
    if (hop->from_print == print)
      return true;
  }
  return false;
}

static bool is_dropped(const struct plan *plan, const char *line)
{
  size_t len = strcspn(line, ":;");
  return (plan->foreign && cpool__redirect_confides(line, len)) ||
         (plan->get && cpool__redirect_describes_body(line, len));
}

/* The lines stay where they are, in the blocks of request and session; only the list is new. */
static void filter(const struct cpool__request *req, struct plan *plan, struct curl_slist *nodes)
{
  struct cpool__header_list *out = &plan->headers;
  *out = (struct cpool__header_list){.nodes = nodes};
  for (const struct curl_slist *node = req->headers.nodes; node != NULL; node = node->next) {
    if (is_dropped(plan, node->data))
      continue;
    if (out->count > 0)
      nodes[out->count - 1].next = &nodes[out->count];
    nodes[out->count++] = (struct curl_slist){.data = node->data};
    out->bytes += strlen(node->data) + 2;
  }
  if (out->count == 0)
    out->nodes = NULL;
}

/* One block: the record, header nodes, the URL, and the target again when a fragment follows it there. */
static bool lay_out(struct cpool__request *req, struct plan *plan, const char *url_text)
{
  size_t url_size = strlen(url_text) + 1, target_size = plan->url.target_len + 1;
  bool apart = plan->url.target[plan->url.target_len] != '\0', filtered = plan->foreign || plan->get;
  size_t nodes_at = cpool__align_up(sizeof *plan->hop);
  size_t url_at = nodes_at + (filtered ? req->headers.count * sizeof(struct curl_slist) : 0);
  size_t bytes = url_at + url_size + (apart ? target_size : 0);
  char *block = cpool__malloc(bytes);
  if (block == NULL)
    return false;
  plan->hop = (struct cpool__hop *) (void *) block;
  *plan->hop = (struct cpool__hop){.earlier = req->resp.hops,
                                   .from_url = req->resp.url,
                                   .from_status = req->resp.status_code,
                                   .number = req->resp.hops == NULL ? 1 : req->resp.hops->number + 1,
                                   .bytes = bytes};
  plan->url_text = memcpy(block + url_at, url_text, url_size);
  plan->target = plan->url_text + (plan->url.target - url_text);
  if (apart) {
    char *target = block + url_at + url_size;
    memcpy(target, plan->url.target, target_size - 1);
    target[target_size - 1] = '\0';
    plan->target = target;
  }
  plan->headers = req->headers;
  if (filtered)
    filter(req, plan, (struct curl_slist *) (void *) (block + nodes_at));
  return true;
}

/* Two of them that differ are two readings of one answer. */
static const char *location_of(const struct cpool_response *resp, const char **why)
{
  const char *location = NULL, *name, *value;
  for (size_t i = 0; i < resp->header_count; i++) {
    cpool_response_header_at(resp, i, &name, &value);
    if (!cpool__names_equal(name, strlen(name), "Location", 8))
      continue;
    if (location != NULL && strcmp(location, value) != 0)
      *why = "there are two Locations, and they differ";
    if (location == NULL)
      location = value;
  }
  if (resp->had_control && strchr(location, ' ') != NULL)
    *why = "Location may have had a control byte"; /* each has become a blank */
  return location;
}

/* Into *url, without leaving a trace of a name that a peer chose, and none in the caller's last error either. */
static int parse(struct cpool__request *req, const char *text, struct cpool__url *url, cpool_error *error)
{
  cpool_error last = {.size = sizeof last};
  cpool_last_error(&last);
  int rc = cpool__url_parse_once(&req->pool->urls, text, "Location", url);
  error->size = sizeof *error;
  cpool_last_error(error);
  cpool__refuse_with(&last);
  return rc;
}

static bool refuse(struct cpool__request *req, cpool_error *error, const char *why)
{
  int32_t number = req->resp.hops == NULL ? 1 : req->resp.hops->number + 1;
  cpool__error_set(error, CPOOL_EREDIRECT, CPOOL_LAYER_HTTP, 0, 0, "%.90s: redirect %d (HTTP %d): %s",
                   req->route->origin->key, (int) number, (int) req->resp.status_code, why); /* it may lie in *error */
  return false;
}

/* What comes next. False: nothing, and *error says why; nothing is left to be freed. */
static bool make_plan(struct cpool__request *req, struct plan *plan, cpool_error *error)
{
  char text[CPOOL__REDIRECT_URL_BYTES + 1];
  const struct cpool__hop *last = req->resp.hops;
  const char *why = NULL, *location = location_of(&req->resp, &why);
  if (why == NULL && last != NULL && last->number >= req->max_redirects)
    why = "max_redirects is reached";
  if (why == NULL)
    why = cpool__redirect_resolve(text, req->resp.url, location);
  if (why != NULL)
    return refuse(req, error, why);
  int rc = parse(req, text, &plan->url, error);
  if (rc != CPOOL_OK)
    return rc == CPOOL_ENOMEM ? false : refuse(req, error, error->text);
  plan->get = cpool__redirect_becomes_get(req->resp.status_code, method_of(req)) &&
              (req->kind != CPOOL__KIND_GET || req->method != NULL);
  plan->foreign = strcmp(plan->url.authority->origin, req->authority->origin) != 0;
  uint64_t here = print_of(req, req->authority, req->target, strlen(req->target), req->became_get);
  uint64_t there =
      print_of(req, plan->url.authority, plan->url.target, plan->url.target_len, req->became_get || plan->get);
  if (there == here || seen(req, there)) {
    refuse(req, error, "a loop: the same request was made before");
  } else if (plan->url.target_len + req->headers.bytes > CPOOL__HEAD_MAX_BYTES) {
    refuse(req, error, "the URL is too long");
  } else if (lay_out(req, plan, text)) {
    plan->hop->from_print = here;
    return true;
  } else {
    cpool__error_set(error, CPOOL_ENOMEM, CPOOL_LAYER_SYSTEM, 0, 0, "no memory for a redirect");
  }
  cpool__authority_free(plan->url.owned);
  return false;
}

static void commit(struct cpool__request *req, const struct plan *plan)
{
  cpool__authority_free(req->owned_authority);
  req->authority = plan->url.authority;
  req->owned_authority = plan->url.owned;
  req->target = plan->target;
  req->headers = plan->headers;
  req->resp.url = plan->url_text;
  req->resp.hops = plan->hop;
  if (!plan->get)
    return;
  req->became_get = true;
  req->kind = CPOOL__KIND_GET;
  req->method = NULL;
  req->repeatable = true;
  req->body_len = 0;
  cpool__free(req->body);
  req->body = NULL;
}

void cpool__hop_follow(struct cpool__request *req)
{
  struct plan plan = {.hop = NULL};
  struct cpool__route *route;
  cpool_error error;
  if (!make_plan(req, &plan, &error)) {
    if (req->stream != NULL)
      cpool__buffer_fini(&req->resp.body); /* no piece of it was sent, and none is in the end of a stream */
    cpool__request_finish(req, &error);
    return;
  }
  cpool__request_leave_host(req, true); /* first: its place among max_origins may be the one that the next host needs */
  int rc = cpool__route_get(req->pool, plan.url.authority, cpool__request_identity(req), &route);
  if (rc != CPOOL_OK) {
    cpool__authority_free(plan.url.owned);
    cpool__free(plan.hop);
    cpool__request_fail_host(req, rc);
    return;
  }
  commit(req, &plan);
  req->pool->stats.now.redirects++;
  cpool__request_next_host(req, route);
}

size_t cpool__hops_bytes(const struct cpool__hop *last)
{
  size_t bytes = 0;
  for (; last != NULL; last = last->earlier)
    bytes += last->bytes;
  return bytes;
}

void cpool__hops_free(struct cpool__hop *last)
{
  while (last != NULL) {
    struct cpool__hop *earlier = last->earlier;
    cpool__free(last);
    last = earlier;
  }
}
