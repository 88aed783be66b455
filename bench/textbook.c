/* textbook: libcurl's multi interface driven by epoll, as its documentation shows it: the baseline
 *
 * curl_multi_socket_action, one epoll_ctl for each wish of the socket callback, the timer as the time-out of
 * epoll_wait. Lean where the documentation leaves the choice: easy handles are kept and get the URL again, no
 * time-outs, no options beyond those of a client that collects the answer. */
#include "textbook.h"

#include <stdint.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <curl/curl.h>

enum { EVENTS = 64 };

struct text {
  char *data;
  size_t len;
};

struct client {
  struct job job;
  CURLM *multi;
  int epoll_fd;
  double due_us; /* of libcurl's timer; < 0: none */
  long started_count, done_count;
  unsigned long long opened;
};

struct exchange {
  struct client *client;
  CURL *easy;
  struct text head, body;
};

static void append(struct text *text, const char *data, size_t len)
{
  char *grown = realloc(text->data, text->len + len + 1);
  if (grown == NULL)
    give_up("out of memory");
  memcpy(grown + text->len, data, len);
  text->data = grown;
  text->len += len;
  grown[text->len] = '\0';
}

static void clear(struct text *text)
{
  free(text->data);
  *text = (struct text){0};
}

static size_t on_head(char *data, size_t one, size_t len, void *user)
{
  struct exchange *exchange = user;
  append(&exchange->head, data, one * len);
  return one * len;
}

static size_t on_body(char *data, size_t one, size_t len, void *user)
{
  struct exchange *exchange = user;
  append(&exchange->body, data, one * len);
  return one * len;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *known)
{
  struct client *client = user;
  (void) easy;
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(client->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    curl_multi_assign(client->multi, fd, NULL);
    return 0;
  }
  struct epoll_event event = {.data.fd = fd};
  if ((what & CURL_POLL_IN) != 0)
    event.events |= EPOLLIN;
  if ((what & CURL_POLL_OUT) != 0)
    event.events |= EPOLLOUT;
  epoll_ctl(client->epoll_fd, known != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
  if (known == NULL)
    curl_multi_assign(client->multi, fd, client);
  return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *user)
{
  struct client *client = user;
  (void) multi;
  client->due_us = timeout_ms < 0 ? -1 : clock_as_us(CLOCK_MONOTONIC) + (double) timeout_ms * 1e3;
  return 0;
}

static void start(struct exchange *exchange)
{
  struct client *client = exchange->client;
  curl_easy_setopt(exchange->easy, CURLOPT_URL, client->job.url);
  if (curl_multi_add_handle(client->multi, exchange->easy) != CURLM_OK)
    give_up("curl_multi_add_handle");
  client->started_count++;
}

static void init_exchange(struct exchange *exchange, struct client *client)
{
  *exchange = (struct exchange){.client = client, .easy = curl_easy_init()};
  CURL *easy = exchange->easy;
  if (easy == NULL)
    give_up("curl_easy_init");
  curl_easy_setopt(easy, CURLOPT_PRIVATE, exchange);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                   client->job.http2 ? (long) CURL_HTTP_VERSION_2TLS : (long) CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_PIPEWAIT, client->job.http2 ? 1L : 0L); /* for the first connection to be known */
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
  if (client->job.ca_file != NULL)
    curl_easy_setopt(easy, CURLOPT_CAINFO, client->job.ca_file);
}

static void finish(struct exchange *exchange, CURLcode code)
{
  struct client *client = exchange->client;
  long status = 0, connects = 0;
  if (code != CURLE_OK)
    give_up("textbook: %s", curl_easy_strerror(code));
  curl_easy_getinfo(exchange->easy, CURLINFO_RESPONSE_CODE, &status);
  curl_easy_getinfo(exchange->easy, CURLINFO_NUM_CONNECTS, &connects);
  if (status != 200 || exchange->body.len != ANSWER_BYTES ||
      strcasestr(exchange->head.data, "\r\nContent-Length:") == NULL)
    give_up("textbook: a wrong answer");
  client->opened += (unsigned long long) connects;
  client->done_count++;
  clear(&exchange->head);
  clear(&exchange->body);
  curl_multi_remove_handle(client->multi, exchange->easy);
  if (client->started_count < client->job.count)
    start(exchange);
}

static void collect(struct client *client)
{
  CURLMsg *msg;
  int left;
  while ((msg = curl_multi_info_read(client->multi, &left)) != NULL) {
    struct exchange *exchange;
    CURLcode code = msg->data.result;
    curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **) &exchange);
    finish(exchange, code);
  }
}

static int wait_ms(const struct client *client)
{
  if (client->due_us < 0)
    return -1;
  double left_us = client->due_us - clock_as_us(CLOCK_MONOTONIC);
  return left_us <= 0 ? 0 : (int) (left_us / 1e3) + 1;
}

static void turn(struct client *client)
{
  struct epoll_event events[EVENTS];
  int running;
  int count = epoll_wait(client->epoll_fd, events, EVENTS, wait_ms(client));
  for (int i = 0; i < count; i++) {
    int bits = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
               (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    curl_multi_socket_action(client->multi, events[i].data.fd, bits, &running);
  }
  if (client->due_us >= 0 && clock_as_us(CLOCK_MONOTONIC) >= client->due_us) {
    client->due_us = -1;
    curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
  }
  collect(client);
}

int main(int argc, char **argv)
{
  struct client client = {.job = job_from(argc - 1, argv + 1), .due_us = -1};
  curl_global_init(CURL_GLOBAL_DEFAULT);
  client.multi = curl_multi_init();
  client.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct exchange *exchanges = calloc((size_t) client.job.in_flight, sizeof *exchanges);
  if (client.multi == NULL || client.epoll_fd < 0 || exchanges == NULL)
    give_up("textbook: cannot begin");
  curl_multi_setopt(client.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt(client.multi, CURLMOPT_SOCKETDATA, &client);
  curl_multi_setopt(client.multi, CURLMOPT_TIMERFUNCTION, on_timer);
  curl_multi_setopt(client.multi, CURLMOPT_TIMERDATA, &client);

  double began_us = process_cpu_us();
  for (int i = 0; i < client.job.in_flight; i++) {
    init_exchange(&exchanges[i], &client);
    start(&exchanges[i]);
  }
  while (client.done_count < client.job.count)
    turn(&client);
  print_result(process_cpu_us() - began_us, client.opened);

  for (int i = 0; i < client.job.in_flight; i++)
    curl_easy_cleanup(exchanges[i].easy);
  curl_multi_cleanup(client.multi);
  close(client.epoll_fd);
  free(exchanges);
  curl_global_cleanup();
  return 0;
}
