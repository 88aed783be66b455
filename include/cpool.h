/* cpool.h: outbound HTTP through one pool, on one event loop.
 *
 *     cpool_http *pool = NULL;
 *     cpool_response *resp = NULL;
 *     if (cpool_http_new(&pool, NULL, NULL) != CPOOL_OK)                    // its own thread, default limits
 *       return 1;
 *     cpool_get(cpool_http_session(pool), "https://example.com/", &resp);    // waits
 *     if (resp != NULL) {                                                   // there whenever the call was not refused
 *       size_t len = 0;
 *       const void *body = cpool_response_body(resp, &len);
 *       printf("%d, %zu bytes\n", cpool_response_status(resp), len);
 *       fwrite(body, 1, len, stdout);
 *     }
 *     cpool_response_free(resp);
 *     cpool_http_close(pool, 1000);                                         // waits, then frees
 *
 * Conventions, once for the whole file
 *
 *   Result    Calls that return int give CPOOL_OK (0), or a count >= 0 where the comment says so, or a negative
 *             CPOOL_E... status. A refused call changed nothing; cpool_last_error tells the calling thread which
 *             argument was wrong. Each may also return CPOOL_EINVAL (a NULL or malformed argument) and CPOOL_EFORK
 *             (called in a forked child on an object of the parent); they are listed where there is more to say.
 *   Thread    Any thread may make any call, except where a comment says otherwise. The class stands in brackets:
 *             [posts] hands work to the loop and never waits, never calls back; [reads] copies a published snapshot;
 *             [waits] blocks, and returns CPOOL_EDEADLK on the loop thread of the pool it would wait for, or inside any
 *             callback of this library; [waits] for the loop: the loop does it, for its own thread, callbacks
 *             included, at once. No class (the _new and _free calls among them): any thread, also inside
 *             callbacks. Event callbacks run on the loop thread (those of log and allocator on any thread); every
 *             [posts] and [reads] call is legal inside them.
 *   Fork      Objects stay the parent's; a child makes its own. A callback that forks should end in the child with exec
 *             or _exit. When it returns there, the library does nothing more on the parent's loop: its own thread ends
 *             (the child then exits with 0, if it has no other), cpool_runtime_step is CPOOL_EFORK, a host's uv_run
 *             goes on without it.
 *   Strings   NUL-terminated UTF-8. CR, LF and other control bytes are refused in everything that reaches the wire.
 *             URLs are printable ASCII: percent-encode the rest, and write host names of other scripts as xn--.
 *   Time      `_ms` is milliseconds, `_us` microseconds, of the monotonic clock. `_bytes` is bytes, `_ratio` a share
 *             of 1.
 *   Zero      0 or NULL in an options field means the default; CPOOL_OFF (-1) means off or unlimited where the option
 *             allows it (docs/OPTIONS.md has the table). Values out of range are refused, never corrected.
 *   Size      A struct that the caller allocates begins with `size`. Call its _init macro (C) or _init_sized function
 *             (FFI) first: it zeroes the struct and records its size, by which old callers and new libraries
 *             understand each other.
 *   Memory    *copies*: the argument may go when the call returns. *borrows until X*: it must stay until X. *takes*: it
 *             belongs to the library when the call returns CPOOL_OK. *gives*: it belongs to the caller, who frees it.
 *             The argument of a free function may be NULL.
 *   Ends      A submit that returns an error never completes. One that returns CPOOL_OK ends in exactly one
 *             CPOOL_EVENT_RESPONSE, whatever happens: answer, failure, timeout, cancel, close of the pool. It is the
 *             last event of the request.
 *
 * Process-wide effects, all of them: libcurl and c-ares are initialised once; SIGPIPE is set to be ignored if nobody
 * handles it, and glibc's malloc is led to keep up to 8 MiB of freed memory instead of 128 KiB, unless the program has
 * set its thresholds (both by the first cpool_http_new); libwebsockets sets SIGPIPE to be ignored, initialises OpenSSL
 * and has its log level set to none (by cpool_ws_new); the allocator hook. Several runtimes, pools and managers live
 * side by side.
 */
#ifndef CPOOL_H
#define CPOOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CPOOL_VERSION_MAJOR 0
#define CPOOL_VERSION_MINOR 1
#define CPOOL_VERSION_PATCH 0

#if defined(__GNUC__)
#define CPOOL_API __attribute__((visibility("default")))
#define CPOOL_MUST_CHECK __attribute__((warn_unused_result))
#else
#define CPOOL_API
#define CPOOL_MUST_CHECK
#endif

#define CPOOL_OFF (-1) /* off or unlimited, in options that allow it */

/* --------------------------------------------------------------------------------------------------------- statuses */

/* X(name, value, text). Values never change their meaning; new ones are appended. */
#define CPOOL_STATUS_MAP(X)                                                                                            \
  X(CPOOL_OK, 0, "success")                                                                                            \
  X(CPOOL_EINVAL, -1, "an argument is missing, malformed or out of range")                                             \
  X(CPOOL_ENOMEM, -2, "out of memory")                                                                                 \
  X(CPOOL_ESTALE, -3, "the handle names a request or connection that has ended, or none")                              \
  X(CPOOL_EFULL, -4, "a limit on waiting work is reached")                                                             \
  X(CPOOL_EBUSY, -5, "the object is still in use")                                                                     \
  X(CPOOL_EDEADLK, -6, "a waiting call was made where it could never end")                                             \
  X(CPOOL_EFORK, -7, "the object belongs to the parent process")                                                       \
  X(CPOOL_ECLOSED, -8, "the pool, manager or connection is closing or closed")                                         \
  X(CPOOL_ESYSTEM, -9, "the operating system refused a resource")                                                      \
  X(CPOOL_ECANCELLED, -10, "the caller cancelled the request")                                                         \
  X(CPOOL_EAGAIN, -11, "no room at the moment: an event tells when to go on")                                          \
  X(CPOOL_EEXIST, -12, "the id is taken by another connection")                                                        \
  X(CPOOL_ENOTFOUND, -13, "no connection has that id")                                                                 \
  X(CPOOL_ETIMEOUT_ACQUIRE, -20, "no connection became free in time")                                                  \
  X(CPOOL_ETIMEOUT_CONNECT, -21, "the connection was not ready in time")                                               \
  X(CPOOL_ETIMEOUT_READ, -22, "the peer was silent for too long")                                                      \
  X(CPOOL_ETIMEOUT_TOTAL, -23, "the request took too long in all")                                                     \
  X(CPOOL_EDNS_NOTFOUND, -30, "the host name does not exist or has no address")                                        \
  X(CPOOL_EDNS_FAILED, -31, "the name servers gave no usable answer")                                                  \
  X(CPOOL_EADDRESS, -32, "the address policy forbids every address of the host")                                       \
  X(CPOOL_ECONNECT, -33, "no address of the host accepted a connection")                                               \
  X(CPOOL_ETLS_CONFIG, -40, "a certificate, key or CA file cannot be used")                                            \
  X(CPOOL_ETLS_VERIFY, -41, "the peer's certificate is not trusted")                                                   \
  X(CPOOL_ETLS_HANDSHAKE, -42, "the TLS handshake failed")                                                             \
  X(CPOOL_ERESET, -50, "the connection was lost before an answer began")                                               \
  X(CPOOL_ETRUNCATED, -51, "the connection was lost in the middle of the answer")                                      \
  X(CPOOL_EPROTOCOL, -52, "the peer does not speak valid HTTP")                                                        \
  X(CPOOL_EHEADERS_TOO_LARGE, -53, "the response headers exceed the cap")                                              \
  X(CPOOL_EBODY_TOO_LARGE, -54, "the response body exceeds the cap")                                                   \
  X(CPOOL_EREDIRECT, -55, "a redirect cannot be followed")                                                             \
  X(CPOOL_EENCODING, -56, "the coded body is malformed, or grows beyond the cap")                                      \
  X(CPOOL_EPROXY, -57, "the proxy made no tunnel to the host")                                                         \
  X(CPOOL_EREFUSED, -58, "the peer did not process the request")                                                       \
  X(CPOOL_EINTERNAL, -90, "libcurl failed in a way that has no other status")

enum cpool_status {
#define CPOOL_STATUS_ENUM(name, value, text) name = value,
  CPOOL_STATUS_MAP(CPOOL_STATUS_ENUM)
#undef CPOOL_STATUS_ENUM
};

/* Where a failure arose. */
enum cpool_layer {
  CPOOL_LAYER_NONE = 0,
  CPOOL_LAYER_CALLER = 1, /* an argument, or the caller's cancel */
  CPOOL_LAYER_POOL = 2,   /* limits, queue time, total time, close */
  CPOOL_LAYER_DNS = 3,
  CPOOL_LAYER_CONNECT = 4, /* TCP or unix socket */
  CPOOL_LAYER_TLS = 5,
  CPOOL_LAYER_HTTP = 6,
  CPOOL_LAYER_WS = 7,
  CPOOL_LAYER_SYSTEM = 8 /* memory, file descriptors */
};

enum cpool_error_flags {
  CPOOL_ERROR_RETRIABLE = 1,   /* the same request may succeed if it is sent again, and repeating it is safe */
  CPOOL_ERROR_NOTHING_SENT = 2 /* no byte of the request reached the peer */
};

typedef struct cpool_error {
  size_t size;
  int32_t status; /* enum cpool_status */
  int32_t layer;  /* enum cpool_layer */
  int32_t native; /* errno, c-ares or libcurl code behind it, for CPOOL_EPROXY the HTTP status or the
                     SOCKS5 reply (RFC 1928 section 6); 0: none */
  int32_t flags;  /* enum cpool_error_flags */
  char text[256]; /* one line for people: what failed, which value, what was allowed */
} cpool_error;

/* "0.1.0"; static. */
CPOOL_API const char *cpool_version(void);
/* "CPOOL_ETIMEOUT_CONNECT"; static; "CPOOL_E?" for a number that is no status. */
CPOOL_API const char *cpool_status_name(int status);
/* One sentence; static. */
CPOOL_API const char *cpool_status_text(int status);

CPOOL_API void cpool_error_init_sized(cpool_error *, size_t size);
#define cpool_error_init(p) cpool_error_init_sized((p), sizeof *(p))
/* Copies the detail of the last call that this thread made and that was refused; status CPOOL_OK if none was. */
CPOOL_API int cpool_last_error(cpool_error *out);

/* All memory of the library's own comes from `fn(context, ptr, size)`: ptr NULL allocates, size 0 frees, else
 * reallocates; NULL means out of memory. It is called on any thread. fn NULL: the C library's, the default.
 * libcurl, c-ares, libuv, OpenSSL and zstd keep their own allocators. Before the first other call of the process; not
 * thread-safe. CPOOL_EBUSY: an object of the library exists. */
typedef void *cpool_realloc_fn(void *context, void *ptr, size_t size);
CPOOL_API int cpool_allocator_set(cpool_realloc_fn *fn, void *context);

/* ------------------------------------------------------------------------------------------------ types and handles */

typedef struct cpool_runtime cpool_runtime;   /* an event loop */
typedef struct cpool_queue cpool_queue;       /* completions, taken out in batches */
typedef struct cpool_http cpool_http;         /* the HTTP pool */
typedef struct cpool_session cpool_session;   /* request defaults and identity */
typedef struct cpool_response cpool_response; /* the outcome of one request */

/* A request in flight: loop | slot | generation. 0 names none; one that has ended is CPOOL_ESTALE. */
typedef uint64_t cpool_op;
typedef struct cpool_ws cpool_ws; /* the WebSocket manager */
/* A WebSocket connection, made the same way. */
typedef uint64_t cpool_conn;

struct uv_loop_s; /* libuv's uv_loop_t */
struct lws;       /* a connection of libwebsockets */

enum cpool_event_kind {
  CPOOL_EVENT_RESPONSE = 1,    /* the one final event of a request: status, response, user of the request */
  CPOOL_EVENT_HTTP_CLOSED = 2, /* the one final event of a pool: cpool_http_free is legal now; user of its options */
  CPOOL_EVENT_HEAD = 3,        /* CPOOL_REQUEST_STREAM: the head of the answer is complete, see `response` */
  CPOOL_EVENT_BODY = 4,        /* CPOOL_REQUEST_STREAM: the next `len` bytes of its body at `data` */
  CPOOL_EVENT_WRITABLE = 5,    /* CPOOL_REQUEST_UPLOAD: cpool_body_write may be called again after CPOOL_EAGAIN */
  CPOOL_EVENT_SSE = 6,         /* CPOOL_REQUEST_SSE: one event; see cpool_event_sse_get */
  /* Of a WebSocket connection, which is `source`; all but CPOOL_EVENT_WS_ACCEPT with its `conn_id` and `user`. */
  CPOOL_EVENT_WS_ACCEPT = 10,   /* a client asks: cpool_ws_accept or cpool_ws_refuse; cpool_event_upgrade_get */
  CPOOL_EVENT_WS_OPEN = 11,     /* messages can be sent and come; dialled: `data` is the server's subprotocol */
  CPOOL_EVENT_WS_MESSAGE = 12,  /* a whole message: `ws_kind`, `data`, `len` */
  CPOOL_EVENT_WS_DRAINED = 13,  /* after CPOOL_EAGAIN or a dropped message: half of its queue has room again */
  CPOOL_EVENT_WS_PING_DUE = 14, /* an external connection was silent for health_check_interval_ms */
  /* The one final event of a connection that was accepted, added or dialled and, with a queue, of each that had a
   * CPOOL_EVENT_WS_ACCEPT: `reason`, `close_code`, `data` is the peer's text; where a dial has failed, `status`, and why. */
  CPOOL_EVENT_WS_CLOSED = 15,
  CPOOL_EVENT_WS_MANAGER_CLOSED = 16, /* the one final event of a manager: cpool_ws_free is legal now */
  /* A dialled connection is down, or did not come up, and is dialled again in `retry_ms`: `reason`, `status` and
   * `data` (one line) say why. */
  CPOOL_EVENT_WS_DISCONNECTED = 17,
  CPOOL_EVENT_WS_PIECE = 18 /* stream_messages: the next `len` bytes of a message; the last has `more` 0 */
};

/* Made and owned by the library; valid until cpool_queue_release, or until the callback returns. Fields are only
 * appended. */
typedef struct cpool_event {
  int32_t kind;    /* enum cpool_event_kind; ignore those you do not know */
  int32_t status;  /* CPOOL_OK for any complete HTTP answer, 404 and 500 included; of a dial: why it failed */
  uint64_t source; /* the cpool_op or cpool_conn; 0 for events of pools and managers */
  void *user;      /* as given */
  /* CPOOL_EVENT_RESPONSE: not NULL until it is taken; dies with the event unless taken. CPOOL_EVENT_HEAD: the same
   * response, of which status, headers, URL and redirects can be read; what the end decides cannot be yet. */
  cpool_response *response;
  const void *data;    /* CPOOL_EVENT_BODY, CPOOL_EVENT_SSE and of WebSockets; as long as the event; then a NUL */
  size_t len;          /* of data, at least 1 in CPOOL_EVENT_BODY */
  const char *conn_id; /* of the connection, "" before it has one; NULL in events of no connection */
  int32_t ws_kind;     /* enum cpool_ws_kind */
  /* CPOOL_EVENT_WS_CLOSED, CPOOL_EVENT_WS_DISCONNECTED: */
  int32_t close_code;  /* RFC 6455 section 7.4; the first that was sent or came; 1005: none in the close frame, 1006: no
                          close frame. libwebsockets 4.1 turns 1012 to 1014 that come into 1002 */
  int32_t reason;      /* enum cpool_ws_reason */
  int32_t http_status; /* of the answer that refused the upgrade; 0: none came */
  int32_t more;        /* CPOOL_EVENT_WS_PIECE: 1: more of the message follows */
  int64_t retry_ms;    /* CPOOL_EVENT_WS_DISCONNECTED: until the next dial */
} cpool_event;

/* Runs on the loop thread; `event` is borrowed until it returns. */
typedef void cpool_event_fn(const cpool_event *event);

/* Gives the event's response to the caller, past the release of the event and the end of pool and queue; NULL when
 * there is none or it was taken already. On the consumer's thread, before the release. */
CPOOL_API cpool_response *cpool_event_take_response(const cpool_event *event);

/* ---------------------------------------------------------------------------------------------------------- runtime */

enum cpool_loop_mode {
  CPOOL_LOOP_THREAD = 1, /* a thread of its own, named, all signals blocked; the default */
  /* The caller's uv_loop_t: cpool_runtime_new, cpool_runtime_free and uv_run on one thread; pools may be made on any
   * thread. uv_run stays the caller's and returns when nothing is in flight: what other threads submit then waits for
   * the next. */
  CPOOL_LOOP_UV = 2,
  CPOOL_LOOP_MANUAL = 3 /* any foreign loop: watch cpool_runtime_fd, call cpool_runtime_step */
};

enum cpool_log_level { CPOOL_LOG_ERROR = 1, CPOOL_LOG_WARNING = 2, CPOOL_LOG_INFO = 3, CPOOL_LOG_DEBUG = 4 };

/* One line without newline, borrowed until the call returns. Any thread; must not call into the library. Secrets
 * (credentials, header values, bodies, query strings) are never in it. */
typedef void cpool_log_fn(void *user, int32_t level, const char *category, const char *line);

typedef struct cpool_runtime_options {
  size_t size;
  int32_t loop_mode;         /* enum cpool_loop_mode */
  int32_t log_level;         /* enum cpool_log_level: this and more severe; default CPOOL_LOG_WARNING */
  struct uv_loop_s *uv_loop; /* CPOOL_LOOP_UV: borrows until cpool_runtime_free and one more turn of the loop */
  const char *thread_name;   /* CPOOL_LOOP_THREAD: at most 15 bytes, default "cpool"; copies */
  cpool_log_fn *log;         /* NULL: silent */
  void *log_user;
} cpool_runtime_options;

CPOOL_API void cpool_runtime_options_init_sized(cpool_runtime_options *, size_t size);
#define cpool_runtime_options_init(p) cpool_runtime_options_init_sized((p), sizeof *(p))

/* Gives a runtime. options NULL: all defaults. *out is untouched on failure.
 * CPOOL_LOOP_UV: on the loop's thread. CPOOL_ENOMEM; CPOOL_ESYSTEM: no file descriptor or thread could be made. */
CPOOL_API int cpool_runtime_new(cpool_runtime **out, const cpool_runtime_options *options) CPOOL_MUST_CHECK;
/* Manual mode: a descriptor to poll for reading; readable when cpool_runtime_step has something to do, timers included.
 * Belongs to the runtime. CPOOL_EINVAL in the other modes. */
CPOOL_API int cpool_runtime_fd(cpool_runtime *);
/* Manual mode: does what is due and returns; waits for something to do at most max_wait_ms (0: not at all;
 * CPOOL_OFF: for ever). The thread that steps is the loop thread for the time of the call; one thread at a time.
 * CPOOL_EDEADLK: inside a callback. CPOOL_EBUSY: another thread is stepping. CPOOL_EINVAL: not manual mode. */
CPOOL_API int cpool_runtime_step(cpool_runtime *, int64_t max_wait_ms);
/* [waits] for the loop's thread in CPOOL_LOOP_THREAD mode; in no mode inside a callback (CPOOL_EDEADLK). In
 * CPOOL_LOOP_UV mode on the loop's thread, and the loop must turn once more before it is closed. CPOOL_EBUSY: a pool
 * on it is not freed yet. NULL is CPOOL_OK. */
CPOOL_API int cpool_runtime_free(cpool_runtime *);

/* ------------------------------------------------------------------------------------------------------------ queue */

typedef struct cpool_queue_options {
  size_t size;
  int64_t high_water_bytes; /* default 64 MiB, at least 4096 */
  int64_t low_water_bytes;  /* default half of the high mark; at most the high mark */
} cpool_queue_options;

CPOOL_API void cpool_queue_options_init_sized(cpool_queue_options *, size_t size);
#define cpool_queue_options_init(p) cpool_queue_options_init_sized((p), sizeof *(p))

/* Gives a queue; it serves any number of pools and runtimes. Events count their bytes (bodies, headers and
 * bookkeeping) until they are released: above the high mark the transfers that feed the queue stop reading and new
 * submits that name it get CPOOL_EFULL, until the count is at the low mark. Final events are never refused.
 * CPOOL_ENOMEM. */
CPOOL_API int cpool_queue_new(cpool_queue **out, const cpool_queue_options *options) CPOOL_MUST_CHECK;
/* A descriptor to poll for reading: readable while an event waits. The library drains it; wake-ups may be spurious.
 * Belongs to the queue. CPOOL_ESYSTEM: no descriptor left. */
CPOOL_API int cpool_queue_fd(cpool_queue *);
/* [waits] at most timeout_ms (0: not at all; CPOOL_OFF: for ever) and returns the number of events put into
 * `events` (at most max, which is at least 1), oldest first; 0 on time-out or wake. Any number of threads. With 0 ms
 * it is legal inside callbacks, and a result below max means that the queue was emptied. It turns no loop and knows
 * none: on the thread of a manual or UV loop that feeds the queue call it with 0 ms, any other wait there is in vain.
 * CPOOL_EDEADLK: inside a callback, and timeout_ms is not 0. */
CPOOL_API int cpool_queue_wait(cpool_queue *, const cpool_event **events, int32_t max, int64_t timeout_ms);
/* Ends the life of `count` events that cpool_queue_wait returned. Each exactly once, in any order, on any thread. */
CPOOL_API void cpool_queue_release(cpool_queue *, const cpool_event *const *events, int32_t count);
/* Lets one waiting (or else the next) cpool_queue_wait return 0 early. */
CPOOL_API void cpool_queue_wake(cpool_queue *);
/* Releases what still waits and frees; responses that were taken stay. CPOOL_EBUSY: a request in flight or a pool
 * names it, events that were taken out are not released, or a thread waits in it. NULL is CPOOL_OK. */
CPOOL_API int cpool_queue_free(cpool_queue *);

/* -------------------------------------------------------------------------------------------------------- HTTP pool */

enum cpool_address_policy {
  CPOOL_ADDRESS_ANY = 1,   /* the default */
  CPOOL_ADDRESS_PUBLIC = 2 /* loopback, private, link-local, shared, mapped, NAT64, other special ranges are refused */
};

enum cpool_tls_version { CPOOL_TLS_1_2 = 12, CPOOL_TLS_1_3 = 13 };

enum cpool_http_version { CPOOL_HTTP_1_1 = 11, CPOOL_HTTP_2 = 20 };

/* Meaning, range, default and whether live: docs/OPTIONS.md, made from the same table that checks the values.
 * *Host* means scheme + host + port (+ unix socket path or proxy), summed over identities and addresses. */
typedef struct cpool_http_options {
  size_t size;
  int32_t max_connections; /* sockets open at a time */
  int32_t max_connections_per_host;
  int32_t max_pending;    /* requests waiting for a connection */
  int32_t max_closing;    /* sockets shut down but not yet closed */
  int32_t max_origins;    /* hosts remembered; one without requests in flight makes room for a new one */
  int32_t max_identities; /* different TLS, address and proxy settings among the sessions in use */
  int32_t max_requests_per_connection;
  int32_t address_policy;           /* enum cpool_address_policy; default of the sessions */
  int64_t acquire_timeout_ms;       /* submit until dispatch */
  int64_t connect_timeout_ms;       /* dispatch until TLS is done; DNS and a proxy's tunnel included */
  int64_t sock_read_timeout_ms;     /* longest silence while sending or receiving */
  int64_t total_timeout_ms;         /* submit until the final event */
  int64_t keepalive_timeout_ms;     /* longest idle time of a connection; a server's shorter hint is obeyed */
  int64_t max_lifetime_ms;          /* longest life of a connection; it ends when idle or after its response */
  double max_lifetime_jitter_ratio; /* share of max_lifetime_ms taken off at random */
  int64_t race_delay_ms;            /* between two addresses of one host (RFC 8305) */
  int64_t max_response_bytes;       /* body */
  int64_t max_header_bytes;         /* status line and headers of one response */
  int64_t ttl_dns_cache_ms;         /* longest use of a DNS answer; its own TTL when shorter */
  int64_t dns_min_ttl_ms;           /* shortest use of a DNS answer */
  int64_t dns_negative_ttl_ms;      /* use of the answer "no such name" */
  int64_t dns_timeout_ms;           /* one name, all tries */
  int32_t dns_max_entries;          /* names remembered */
  const char *dns_servers;          /* "127.0.0.1:5353,[::1]:53"; NULL: the system's */
  const char *dns_hosts_file;       /* NULL: /etc/hosts */
  const char *user_agent;           /* NULL: "libcpool/VERSION"; "": none */
  cpool_queue *queue;               /* pool events; not together with on_event; borrows until the closed event */
  cpool_event_fn *on_event;
  void *user;
  int64_t stream_window_bytes;  /* of one streamed body, either way, on its way between the library and its consumer */
  int64_t max_stream_bytes;     /* the same of all streamed responses of the pool together */
  int64_t max_decompress_ratio; /* of a decoded body to what was received of it, beyond its first 64 KiB */
  int32_t max_connecting_per_host;    /* connections being made at a time, TLS handshakes included */
  int32_t max_streams_per_connection; /* requests on one HTTP/2 connection; a server's lower limit is learned */
  int64_t max_sse_event_bytes;        /* data, type and id of one server-sent event */
  int64_t sse_retry_ms;             /* until a stream of events that ended is asked for again, unless its server says */
  int64_t dns_stale_ms;             /* use of a DNS answer past its end while the name servers give none (RFC 8767) */
  const char *dns_resolv_conf_file; /* NULL: /etc/resolv.conf; where dns_servers is NULL */
  int32_t min_idle_per_host;        /* connections kept ahead of requests, see below */
  const char *warm_up_request;      /* "HEAD /path", see below; NULL: none */
} cpool_http_options;

CPOOL_API void cpool_http_options_init_sized(cpool_http_options *, size_t size);
#define cpool_http_options_init(p) cpool_http_options_init_sized((p), sizeof *(p))
/* Sets one field from text: a number in the key's unit, "off", or a choice of the table; "" sets a number back to its
 * default. Text values: borrows until cpool_http_new or cpool_http_reconfigure returns. CPOOL_EINVAL: unknown key, or a
 * value that does not parse or is out of range. */
CPOOL_API int cpool_http_options_set(cpool_http_options *, const char *key, const char *value);

/* Gives a pool. runtime NULL: a private one with its own thread, freed with the pool. options NULL: all defaults;
 * copies. *out is untouched on failure. CPOOL_EINVAL names the option; CPOOL_ENOMEM; CPOOL_ESYSTEM. */
CPOOL_API int cpool_http_new(cpool_http **out, cpool_runtime *, const cpool_http_options *options) CPOOL_MUST_CHECK;
/* [reads] The values in force, defaults filled in; text fields whose default is the system's stay NULL. Strings belong
 * to the pool. */
CPOOL_API int cpool_http_options_get(cpool_http *, cpool_http_options *out);
/* [posts] Puts live options into force, all or nothing; 0 fields go back to their defaults, so begin with
 * cpool_http_options_get. A lower limit lets surplus connections finish, then retires them; timeouts apply to
 * requests submitted afterwards. queue, on_event and user are not changed. CPOOL_EINVAL: a bad value, or a change
 * to an option that is not live. CPOOL_ECLOSED; CPOOL_ENOMEM. */
CPOOL_API int cpool_http_reconfigure(cpool_http *, const cpool_http_options *options) CPOOL_MUST_CHECK;
/* [posts] Overrides one option for one host, "https://example.com:8443" (default port implied), now and after the
 * host was forgotten. Keys: max_connections_per_host, max_connecting_per_host, keepalive_timeout_ms,
 * max_lifetime_ms, max_requests_per_connection, min_idle_per_host, warm_up_request ("off": none). A
 * min_idle_per_host that is set so makes the host known, and warm, before any request. value NULL: the pool's value
 * again. The cost does not grow with the number of hosts. CPOOL_EINVAL: origin, key or value; CPOOL_EFULL:
 * max_origins hosts have overrides, and this one has none; CPOOL_ECLOSED; CPOOL_ENOMEM. */
CPOOL_API int cpool_http_origin_set(cpool_http *, const char *origin, const char *key, const char *value);

/* Connections ahead of requests. With min_idle_per_host a host has at least so many connections that a request can
 * take at once: idle ones, and HTTP/2 ones with streams to spare. From its first request on, or from
 * cpool_http_origin_set, what is missing is made, within all limits and never at another host's expense: for the
 * identity (TLS settings, proxy) that asked last, at first that of the pool's default session. They count as open,
 * as acquired in a TLS handshake, and as idle when they are ready; they end as idle ones do, and are replaced.
 * - http: connected, to the host or to its proxy.
 * - https, HTTP/2: TLS with the host is done as well, and a proxy's tunnel before it.
 * - https, HTTP/1.1: as http; where warm_up_request is set, TLS is done too, and that request was answered.
 * - unix sockets: none are made, a connect there takes no time.
 * warm_up_request is "GET /path", "HEAD /path" or "OPTIONS *": sent without headers of any session, answered by any
 * status; the answer is thrown away, and one of more than 64 KiB ends the connection. It is in no count of requests. At
 * most half of max_connecting_per_host are made ahead at a time. After one that could not be made, or that the peer
 * ended within five seconds, the next is tried after 100 ms, then twice as long each time up to 30 s, less a random
 * part, and one at a time until a request has used one. Nothing is made while the pool closes. */

/* Addresses. A host's connections are spread over the addresses of its name: the next one goes where the fewest are
 * open, and to one whose connect failed within the last 30 s only after all others. While any is open the name is asked
 * for again before its answer ends; connections to an address that is missing from a new answer end, idle ones at once,
 * others with their last request (closed_address), unless the addresses of the name are seen to take turns. */

/* [posts] Refuses new submits, lets requests in flight finish for drain_ms (0: none; CPOOL_OFF: for ever), then
 * ends them with CPOOL_ECLOSED and closes all connections. Ends in one CPOOL_EVENT_HTTP_CLOSED, after all final
 * events. Again: an earlier deadline counts. */
CPOOL_API int cpool_http_close_start(cpool_http *, int64_t drain_ms);
/* Frees a pool after its CPOOL_EVENT_HTTP_CLOSED, also inside that callback. Before it: closes without drain in the
 * background and sends no CPOOL_EVENT_HTTP_CLOSED; events of requests still come, and the runtime and the queues stay
 * CPOOL_EBUSY until it is done (a uv or manual loop has to be turned for that). Sessions may be freed before or after,
 * responses that were taken stay. */
CPOOL_API void cpool_http_free(cpool_http *);
/* [waits] cpool_http_close_start, its event, cpool_http_free. In manual mode it steps the loop. The
 * CPOOL_EVENT_HTTP_CLOSED is delivered as well if the pool has a place for it. CPOOL_EDEADLK: on the loop thread;
 * nothing was done. NULL is CPOOL_OK. */
CPOOL_API int cpool_http_close(cpool_http *, int64_t drain_ms);

/* ------------------------------------------------------------------------------------------------------- statistics */

/* Gauges are int64_t, counters since the pool was made uint64_t. In every snapshot:
 * opened - closed == total_connections + closing_connections; closed is the sum of the closed_* fields;
 * requests == succeeded + failed + pending_requests + active_requests. */
typedef struct cpool_http_stats {
  size_t size;
  int64_t total_connections;      /* open sockets, dialled ones included, those shut down not */
  int64_t acquired_connections;   /* of these: in use by a request */
  int64_t idle_connections;       /* of these: kept alive without a request */
  int64_t connecting_connections; /* of these: being connected, or connected and not used yet */
  int64_t closing_connections;    /* shut down, not yet closed */
  int64_t pending_requests;       /* waiting for a connection */
  int64_t active_requests;        /* dispatched and not ended */
  int64_t max_connections, max_connections_per_host, max_pending; /* in force */
  int64_t origins;                                                /* hosts remembered */
  int64_t identities;                                             /* identities in use */
  int64_t curl_pending; /* requests held back inside libcurl; 0 for HTTP/1.1 */
  uint64_t requests;    /* accepted by submit */
  uint64_t succeeded;   /* complete HTTP answers of any status code */
  uint64_t failed;      /* ended otherwise; cancelled and timed out ones included */
  uint64_t refused;     /* submits that returned an error */
  uint64_t cancelled, timeout_acquire, timeout_connect, timeout_read, timeout_total; /* of the failed */
  uint64_t repeated;           /* attempts after the first, when a reused connection proved dead */
  uint64_t repeat_refused;     /* attempts not made since repeating was not safe */
  uint64_t opened, closed;     /* sockets */
  uint64_t reused;             /* requests that began on a connection used before */
  uint64_t closed_peer;        /* by the peer while idle */
  uint64_t closed_unsolicited; /* the peer sent bytes while idle */
  uint64_t closed_idle;        /* keepalive_timeout_ms or the server's hint */
  uint64_t closed_lifetime;    /* max_lifetime_ms */
  uint64_t closed_requests;    /* max_requests_per_connection or the server's hint */
  uint64_t closed_response;    /* the response ended the connection (Connection: close, HTTP/1.0) */
  uint64_t closed_error;       /* the exchange failed */
  uint64_t closed_cancelled;   /* the request on it was cancelled or timed out */
  uint64_t closed_evicted;     /* idle, and its place was needed or its limit was lowered */
  uint64_t closed_dial;        /* never carried a request: failed, lost a race */
  uint64_t closed_pool;        /* the pool closed */
  uint64_t dns_hits, dns_misses, dns_failures;
  uint64_t bytes_sent, bytes_received; /* HTTP heads and bodies, TLS overhead excluded */
  uint64_t tls_resumed;                /* new https connections that took up a TLS session of an earlier one */
  uint64_t redirects;      /* followed: each is one request more to a host, but none more in the counters above */
  int64_t stream_bytes;    /* of streamed responses and their events, with their consumers */
  int64_t paused_requests; /* of the active: held back, since their consumers have enough */
  uint64_t bytes_decoded;  /* of bodies with content codings, after decoding */
  uint64_t sse_events;     /* delivered */
  uint64_t sse_reconnects; /* streams asked for again: each is one request more to a host, but none more above */
  uint64_t dns_stale; /* lookups given an answer past its end since the name servers gave none; hits or misses too */
  uint64_t dns_refreshes;  /* questions (A and AAAA apart) put so that the answer for a name in use does not end */
  uint64_t closed_address; /* its address has left the answer for its name */
} cpool_http_stats;

CPOOL_API void cpool_http_stats_init_sized(cpool_http_stats *, size_t size);
#define cpool_http_stats_init(p) cpool_http_stats_init_sized((p), sizeof *(p))
/* [reads] One consistent snapshot, at most one turn of the loop old; an event may be delivered before the turn that
 * made it ends. Between the closed event and cpool_http_free: the final totals. */
CPOOL_API int cpool_http_stats_get(cpool_http *, cpool_http_stats *out);

enum cpool_http_phase {
  CPOOL_PHASE_QUEUE = 0,      /* submit until dispatch, or until the end without one; every request and redirect */
  CPOOL_PHASE_DNS = 1,        /* names resolved, cache hits included; new connections */
  CPOOL_PHASE_CONNECT = 2,    /* TCP; new connections */
  CPOOL_PHASE_TLS = 3,        /* new https connections, through a proxy its tunnel included */
  CPOOL_PHASE_FIRST_BYTE = 4, /* request begun until the first byte of the answer */
  CPOOL_PHASE_TOTAL = 5,      /* submit until the end; every request */
  CPOOL_PHASES = 6
};

typedef struct cpool_histogram {
  size_t size;
  uint64_t count, sum_us, max_us, p50_us, p90_us, p99_us, p999_us; /* percentiles at most 1/16 too high */
} cpool_histogram;

CPOOL_API void cpool_histogram_init_sized(cpool_histogram *, size_t size);
#define cpool_histogram_init(p) cpool_histogram_init_sized((p), sizeof *(p))
/* [reads] Times of one phase since the pool was made. */
CPOOL_API int cpool_http_histogram_get(cpool_http *, int32_t phase, cpool_histogram *out);

typedef struct cpool_origin_stats {
  /* "https://example.com:8443", then " via /path" (a unix socket) or " via http://proxy:3128"; cut to fit */
  char origin[304];
  int64_t total_connections, acquired_connections, idle_connections, connecting_connections;
  int64_t pending_requests, max_connections;
  uint64_t requests, succeeded, failed, opened, reused;
} cpool_origin_stats;

/* [reads] Copies at most max rows (at least 1) of row_size bytes each, and returns how many. Begin with *cursor 0 and
 * call until it returns 0; newest hosts first. Hosts that come or go meanwhile may be missed; none appears twice. */
CPOOL_API int cpool_http_origins_get(cpool_http *, uint64_t *cursor, cpool_origin_stats *rows, size_t row_size,
                                     int32_t max);

/* One name that the name servers were asked for; both its families. */
typedef struct cpool_dns_stats {
  char name[256];
  char addresses[512];   /* "192.0.2.1 2001:db8::1", as many as fit; "": none known */
  int64_t address_count; /* all of them */
  int64_t age_ms;        /* since the (older) answer came */
  int64_t ttl_left_ms;   /* until it ends (the earlier end); 0: over */
  int64_t stale;         /* 1: past its end, kept for as long as dns_stale_ms in case the name servers fail */
  uint64_t hits;         /* answers given without waiting, A and AAAA apart */
  uint64_t failures;     /* questions that the name servers did not answer */
} cpool_dns_stats;

/* [reads] As cpool_http_origins_get, of the names remembered (at most dns_max_entries). */
CPOOL_API int cpool_http_dns_get(cpool_http *, uint64_t *cursor, cpool_dns_stats *rows, size_t row_size, int32_t max);

/* ---------------------------------------------------------------------------------------------------------- session */

typedef struct cpool_header {
  const char *name;  /* a token (RFC 9110 section 5.1) */
  const char *value; /* field content (RFC 9110 section 5.5); "" is sent as an empty value */
} cpool_header;

/* Sessions with equal TLS, address, socket and proxy settings share connections; others never do. Base URL, headers and
 * credentials belong to the request and do not keep connections apart. */
typedef struct cpool_session_options {
  size_t size;
  const char *base_url;        /* http(s) URL without query; a final '/' is ignored; request URLs that begin with "/" or
                                  "?" are appended to its path (not resolved as in RFC 3986) */
  const cpool_header *headers; /* sent with each request that does not set the same name */
  size_t header_count;
  /* Credentials go to the origin of base_url alone; without base_url to every host that a request names. */
  const char *username, *password; /* Authorization: Basic (RFC 7617); ':' and control bytes refused in the name */
  const char *bearer_token;        /* Authorization: Bearer (RFC 6750); not together with username */
  int32_t tls_verify;              /* CPOOL_OFF: accept any certificate of a host, not of a proxy */
  int32_t tls_min_version;         /* enum cpool_tls_version; default CPOOL_TLS_1_2 */
  int32_t address_policy;          /* enum cpool_address_policy; default: the pool's */
  const char *ca_file;             /* PEM; NULL: the system's */
  const char *client_cert_file;    /* PEM */
  const char *client_key_file;     /* PEM; NULL: in client_cert_file */
  const char *client_key_password;
  const char *unix_socket_path; /* connect here; the URL's host is only a name then */
  /* "sha256//BASE64;sha256//BASE64": an https peer whose public key has none of these digests is refused
   * (CPOOL_ETLS_VERIFY), also with tls_verify off (RFC 7469 section 2.4 says how the digest is made) */
  const char *pinned_public_key;
  int32_t max_redirects; /* default CPOOL_OFF; see cpool_request */
  /* 1: what `proxy` and `no_proxy` do not say is read now, by getenv, from http_proxy (lower case alone), https_proxy
   * and HTTPS_PROXY, all_proxy and ALL_PROXY, no_proxy and NO_PROXY; credentials may stand in these URLs. */
  int32_t proxy_from_env;
  /* "http://host:port", "https://host:port" or "socks5://host:port" (also socks5h://, the same); without port 80, 443,
   * 1080. Requests go through a tunnel that it makes (CONNECT, RFC 1928), http ones too. It resolves their host names,
   * which the address policy does not see then: that judges the proxy's own address, and addresses in URLs. */
  const char *proxy;
  /* For the proxy alone: Basic (RFC 7617), for SOCKS5 at most 255 bytes each (RFC 1929). Not in its URL. */
  const char *proxy_username, *proxy_password;
  /* Hosts without proxy, with commas between: "*"; a name, for itself and all below it; an address; a block such as
   * "10.0.0.0/8". ":port" behind a name or address limits it to that port. */
  const char *no_proxy;
  /* enum cpool_http_version; default CPOOL_HTTP_1_1. CPOOL_HTTP_2: https hosts are offered HTTP/2 (by ALPN, RFC 9113
   * section 3.2), and are asked in the version that they choose. Requests share connections then, up to
   * max_streams_per_connection each; those with CPOOL_REQUEST_STREAM, CPOOL_REQUEST_UPLOAD or CPOOL_REQUEST_SSE have
   * one of their own, in HTTP/1.1, and so has everything through a unix socket. http URLs are always asked in
   * HTTP/1.1. */
  int32_t http_version;
} cpool_session_options;

CPOOL_API void cpool_session_options_init_sized(cpool_session_options *, size_t size);
#define cpool_session_options_init(p) cpool_session_options_init_sized((p), sizeof *(p))
/* As cpool_http_options_set; headers have no key. Text: borrows until cpool_session_new returns. */
CPOOL_API int cpool_session_options_set(cpool_session_options *, const char *key, const char *value);

/* The pool's default session, without base URL or headers; belongs to the pool. NULL only for a NULL pool. */
CPOOL_API cpool_session *cpool_http_session(cpool_http *);
/* Gives a session; cheap. copies. *out is untouched on failure. Files are read when the first connection needs
 * them: a bad one ends requests with CPOOL_ETLS_CONFIG. CPOOL_EINVAL names the option, or the environment variable;
 * CPOOL_EFULL: max_identities; CPOOL_ECLOSED; CPOOL_ENOMEM. */
CPOOL_API int cpool_session_new(cpool_session **out, cpool_http *,
                                const cpool_session_options *options) CPOOL_MUST_CHECK;
/* Requests in flight keep what they need. */
CPOOL_API void cpool_session_free(cpool_session *);

/* --------------------------------------------------------------------------------------------------------- requests */

enum cpool_request_flags {
  CPOOL_REQUEST_REPEATABLE = 1, /* may be sent twice although its method is not idempotent */
  /* The answer comes in pieces: one CPOOL_EVENT_HEAD, CPOOL_EVENT_BODY for each piece, and the CPOOL_EVENT_RESPONSE
   * with an empty body, in this order. A request that fails before the head is complete has only the last, and so
   * has one whose redirect cannot be followed; an answer that is followed has none. Not for cpool_perform.
   * max_response_bytes counts only if the request sets it. */
  CPOOL_REQUEST_STREAM = 2,
  /* The body comes by cpool_body_write: body is NULL, body_len its exact length or 0 for unknown (chunked, RFC 9112
   * section 7.1). The method, if NULL, is POST. Follows no redirect. Not for cpool_perform. */
  CPOOL_REQUEST_UPLOAD = 4,
  /* Sends Accept-Encoding with what this build decodes (gzip, deflate, and br and zstd where it was made with them),
   * unless request or session set that header, and decodes what has such a Content-Encoding, up to 3 of them (RFC
   * 9110 section 8.4). A body with another coding among them, of 206, or of a redirect that is followed stays as it
   * is: cpool_response_decoded tells. Headers are shown as received: Content-Encoding and Content-Length tell of the
   * coded body, as bytes_received does; max_response_bytes counts the decoded one. Data that is malformed, ends
   * early, has bytes behind its end (but further gzip members or zstd frames) or grows beyond max_decompress_ratio,
   * and more than 3 codings, end with CPOOL_EENCODING; a zstd window above 8 MiB is malformed (RFC 9659). What was
   * decoded before then is delivered. */
  CPOOL_REQUEST_DECOMPRESS = 8,
  /* Server-sent events (WHATWG HTML section 9.2): implies CPOOL_REQUEST_STREAM, but comes as CPOOL_EVENT_SSE, one
   * for each event, and the final CPOOL_EVENT_RESPONSE; there is no CPOOL_EVENT_HEAD. Accept and Cache-Control are
   * sent for it unless request or session set them. Not for cpool_perform.
   * - An answer that is not 200 with Content-Type text/event-stream ends the request, as its response; the body, within
   *   max_response_bytes, is there.
   * - When a stream ends or breaks, the request is sent again, as a new one with acquire, connect and read times of its
   *   own: after sse_retry_ms, or what the server's `retry` says (at least 100 ms), and up to a fifth longer; with the
   *   Last-Event-ID that came last, in the place of the caller's. Tries that reach no stream are repeated, each after
   *   twice the time, up to 16 times the first. The first one is not, nor is what time does not mend: it ends with its
   *   failure. So do cancel, total_timeout_ms (which counts only if the request sets it), the close of the pool, and an
   *   event or line above max_sse_event_bytes (CPOOL_EBODY_TOO_LARGE).
   * - A request that is not safe to repeat (see cpool_submit) and one with sse_reconnect off end with their stream.
   * - sock_read_timeout_ms bounds the silence between two events or comments; a stream that is silent longer breaks. */
  CPOOL_REQUEST_SSE = 16
};

typedef struct cpool_request {
  size_t size;
  const char *method; /* a token; NULL: GET, or POST with a body. CONNECT is refused */
  const char *url;    /* http or https; see base_url. User and password are refused, the fragment is not sent */
  const cpool_header *headers; /* not those of framing and connection: Content-Length, Transfer-Encoding, Connection,
                                  Keep-Alive, Proxy-Connection, Proxy-Authorization, Upgrade, TE, Trailer, Expect */
  size_t header_count;
  const void *body;
  size_t body_len;
  int32_t flags;                                                                          /* enum cpool_request_flags */
  int64_t acquire_timeout_ms, connect_timeout_ms, sock_read_timeout_ms, total_timeout_ms; /* 0: the pool's */
  int64_t max_response_bytes;                                                             /* 0: the pool's */
  cpool_queue *queue; /* the final event's place: this or on_event; borrows until the event is released */
  cpool_event_fn *on_event;
  void *user;
  /* 301, 302, 303, 307 and 308 with a Location are followed, at most so many in a row (50); 0: the session's;
   * CPOOL_OFF: the 3xx answer is delivered.
   * - 303 turns all methods but HEAD, 301 and 302 turn POST into a GET without body and without the headers that
   *   describe one; else method and body stay (RFC 9110 section 15.4).
   * - Location is resolved by RFC 3986; one that is missing or empty makes the answer the final one. Other schemes
   *   than http and https, user and password, control bytes, URLs above 8192 bytes, two Locations that differ, https
   *   to http, one redirect too many and a request that was made before end with CPOOL_EREDIRECT; the response then
   *   has the last answer.
   * - At another scheme, host or port the Host header and all that look like credentials are dropped: names with auth,
   *   cookie, token, secret, password, apikey, credential, signature or session in them, or -key at the end
   *   (but Idempotency-Key). They do not come back, not even for a redirect back.
   * - Each is a new request under the same session, to an address of its own, which the address policy has to allow.
   *   acquire, connect and read times begin anew, total_timeout_ms covers all. */
  int32_t max_redirects;
  /* W3C Trace Context: headers of these names, checked: CPOOL_EINVAL when malformed, among headers as well, or
   * tracestate without traceparent. They replace the session's, and go as they are with each repeat and redirect, also
   * to other origins: ids are no secrets. NULL: none. */
  const char *traceparent, *tracestate;
  int64_t stream_window_bytes; /* 0: the pool's */
  int32_t sse_reconnect;       /* CPOOL_OFF: the end of a stream of events is the end of the request */
} cpool_request;

CPOOL_API void cpool_request_init_sized(cpool_request *, size_t size);
#define cpool_request_init(p) cpool_request_init_sized((p), sizeof *(p))

/* [posts] Starts a request; copies. *out (may be NULL) is set before the request can complete. Ends in one
 * CPOOL_EVENT_RESPONSE.
 * When a reused connection turns out to be dead, the request is sent again if nothing of it had been sent, or if its
 * method is idempotent (RFC 9110 section 9.2.2), it has an Idempotency-Key header or CPOOL_REQUEST_REPEATABLE; else it
 * ends with CPOOL_ERESET. So it is, over HTTP/2, with a stream that the peer refused or left unprocessed (RFC 9113
 * sections 6.8 and 8.7); else CPOOL_EREFUSED (with libcurl 7 CPOOL_ERESET when it was alone on its connection).
 * CPOOL_EINVAL names the field; CPOOL_EFULL: max_pending requests wait, or the queue is above its high mark;
 * CPOOL_ECLOSED; CPOOL_ENOMEM. As the event's status CPOOL_EFULL means that the host is new while max_origins others
 * have requests in flight or connections being made. */
CPOOL_API int cpool_submit(cpool_session *, const cpool_request *, cpool_op *out) CPOOL_MUST_CHECK;
/* [posts] Asks for the end of a request: CPOOL_ECANCELLED, unless it ends otherwise before. CPOOL_ESTALE: it has
 * ended; CPOOL_ENOMEM. */
CPOOL_API int cpool_cancel(cpool_http *, cpool_op op);

/* Streams. While more than stream_window_bytes of a streamed body are with its consumer, its transfer stops reading,
 * and goes on at half of them; with max_stream_bytes of all streams of the pool, and with the marks of the queue, it
 * is the same. Each event counts somewhat more than its bytes: the memory that it takes. A body that is held back
 * keeps its connection, which is its own, runs no sock_read_timeout_ms, and slows no other stream; total_timeout_ms
 * goes on, and covers all of a stream. Bytes are with the consumer from CPOOL_EVENT_BODY until the release of the
 * event; with on_event until cpool_body_credit gives them back. */

/* [posts] With on_event: `bytes` of the streamed body have been consumed. More than is out counts as all of it.
 * CPOOL_EINVAL: bytes is 0; CPOOL_ESTALE: the request has ended, though its last events may still be on their way:
 * there is nothing left to give; CPOOL_ENOMEM. Harmless for a request with a queue. */
CPOOL_API int cpool_body_credit(cpool_http *, cpool_op op, size_t bytes);

/* [posts] The next part of the body of a request with CPOOL_REQUEST_UPLOAD; copies all of it or nothing. `last` not
 * 0: the body ends with it; data may be NULL then, with len 0. From the submit on; what is written before the
 * request has a connection waits. Threads may take turns, in the order of their calls.
 * CPOOL_EAGAIN: stream_window_bytes or more wait to be sent; one CPOOL_EVENT_WRITABLE comes when half of them have
 * been. CPOOL_EINVAL: no upload, nothing to write, bytes behind the last one, more bytes than body_len or an end
 * before it. CPOOL_ESTALE: the request has ended, perhaps since the answer came early: its final event tells.
 * CPOOL_ENOMEM.
 * While the caller has nothing to send, sock_read_timeout_ms does not run. A request whose body has begun to go out is
 * never sent again: it ends with CPOOL_ERESET where another one would be repeated. */
CPOOL_API int cpool_body_write(cpool_http *, cpool_op op, const void *data, size_t len, int32_t last);

typedef struct cpool_sse_event {
  size_t size;
  const char *id;   /* of this event, or the last one before it that had one; "": none. Sent as Last-Event-ID */
  const char *type; /* "message" unless the server said otherwise */
  const void *data; /* lines with LF between; bytes as received, meant to be UTF-8; followed by a NUL */
  size_t data_len;  /* may be 0 */
  size_t bytes;     /* that the event counts: with on_event, what cpool_body_credit gives back */
} cpool_sse_event;

CPOOL_API void cpool_sse_event_init_sized(cpool_sse_event *, size_t size);
#define cpool_sse_event_init(p) cpool_sse_event_init_sized((p), sizeof *(p))
/* What a CPOOL_EVENT_SSE brings; its texts live as long as the event. CPOOL_EINVAL: another kind. */
CPOOL_API int cpool_event_sse_get(const cpool_event *event, cpool_sse_event *out);

/* [waits] Submit and wait; queue, on_event and user must be unset. Gives *out, also on failure; it stays NULL only
 * when the call was refused. Returns the status of the final event, or why it was refused: as cpool_submit, and
 * CPOOL_EDEADLK. In manual mode it steps. */
CPOOL_API int cpool_perform(cpool_session *, const cpool_request *, cpool_response **out);
/* [waits] cpool_perform of a GET. */
CPOOL_API int cpool_get(cpool_session *, const char *url, cpool_response **out);

/* --------------------------------------------------------------------------------------------------------- response */

/* After redirects attempts, total_us and the bytes are those of all requests, the rest is of the last. */
typedef struct cpool_response_info {
  size_t size;
  int32_t http_version; /* 10, 11 or 20; 0: no answer */
  int32_t reused;       /* 1: the connection had carried a request before */
  int32_t attempts;     /* times the request was begun on a connection; 0: never dispatched */
  int32_t header_count;
  uint64_t connection; /* number of the connection in this pool, from 1; 0: none */
  /* as enum cpool_http_phase; CPOOL_OFF: did not happen, or was done before the request came */
  int64_t queue_us, dns_us, connect_us, tls_us, first_byte_us, total_us;
  uint64_t bytes_sent, bytes_received;
  char remote_address[64]; /* "192.0.2.1:443", "[2001:db8::1]:443" or "unix", a proxy's where there is one; "": none */
  int32_t redirects;       /* followed */
  int32_t trailer_count;
} cpool_response_info;

CPOOL_API void cpool_response_info_init_sized(cpool_response_info *, size_t size);
#define cpool_response_info_init(p) cpool_response_info_init_sized((p), sizeof *(p))

/* A response is not changed after its event; any thread may read it, one at a time may free it. Pointers live until
 * cpool_response_free (or the release of the event that it was not taken from). Of the response of a CPOOL_EVENT_HEAD
 * body, trailers, info and error come with the end: until then the first is empty, the second are none, and the calls
 * for the last two return CPOOL_EBUSY. */

/* HTTP status code; 0 when no complete head arrived, or resp is NULL. */
CPOOL_API int cpool_response_status(const cpool_response *);
/* The body, and its length in *len (may be NULL). Never NULL for a response, and followed by a NUL that is not
 * counted. What had arrived when the request failed is there too; not what exceeds a cap. */
CPOOL_API const void *cpool_response_body(const cpool_response *, size_t *len);
/* 1: the body is given without its content codings, see CPOOL_REQUEST_DECOMPRESS; else 0. From CPOOL_EVENT_HEAD on. */
CPOOL_API int cpool_response_decoded(const cpool_response *);
/* Value of the first header of that name (case does not matter), or NULL. */
CPOOL_API const char *cpool_response_header(const cpool_response *, const char *name);
/* Headers in order of arrival. CPOOL_EINVAL: index is not below header_count. */
CPOOL_API int cpool_response_header_at(const cpool_response *, size_t index, const char **name, const char **value);
/* The same for trailers, the fields behind a chunked body (RFC 9112 section 7.1.2); within max_header_bytes together
 * with the head. They are the peer's afterthoughts: nothing here acts on them. */
CPOOL_API const char *cpool_response_trailer(const cpool_response *, const char *name);
CPOOL_API int cpool_response_trailer_at(const cpool_response *, size_t index, const char **name, const char **value);
/* The URL that the response is of: the request's, with base_url before it, or after redirects the last one's. With its
 * fragment, which a redirect inherits (RFC 9110 section 10.2.2). NULL for a NULL response. */
CPOOL_API const char *cpool_response_url(const cpool_response *);
/* Redirects that were followed, in order: the URL that answered, and its status code; either may be NULL. CPOOL_EINVAL:
 * index is not below redirects of the info. */
CPOOL_API int cpool_response_redirect_at(const cpool_response *, size_t index, int32_t *status, const char **url);
CPOOL_API int cpool_response_info_get(const cpool_response *, cpool_response_info *out);
/* Why the request failed; status CPOOL_OK when it did not. */
CPOOL_API int cpool_response_error_get(const cpool_response *, cpool_error *out);
CPOOL_API void cpool_response_free(cpool_response *);

/* ------------------------------------------------------------------------------------------------ WebSocket manager */

enum cpool_ws_kind {
  CPOOL_WS_TEXT = 1, /* UTF-8, checked both ways */
  CPOOL_WS_BINARY = 2,
  CPOOL_WS_PING = 9 /* at most 125 bytes; what the peer answers counts as life */
};

enum cpool_ws_duplicate {
  CPOOL_WS_REJECT = 1, /* the id stays with the connection that has it; the default */
  CPOOL_WS_REPLACE = 2 /* the new one gets it at once, the old one is closed with 4001, which it need not hear */
};

enum cpool_ws_overflow { /* what a message that has no room in its connection's queue means */
                         CPOOL_WS_OVERFLOW_REFUSE = 1,      /* it is not taken: CPOOL_EAGAIN; the default */
                         CPOOL_WS_OVERFLOW_DROP_OLDEST = 2, /* those that wait longest go, as many as it takes */
                         CPOOL_WS_OVERFLOW_DROP_NEWEST = 3, /* it goes itself, with CPOOL_OK */
                         CPOOL_WS_OVERFLOW_CLOSE = 4        /* the connection is cut with 1008 */
};

/* Why a connection ended. Each end has one; the counts of cpool_ws_stats add up to `closed`. */
enum cpool_ws_reason {
  CPOOL_WS_BY_PEER = 1,    /* its close frame */
  CPOOL_WS_BY_CALLER = 2,  /* cpool_ws_remove */
  CPOOL_WS_LOST = 3,       /* end or reset of the connection without a close frame */
  CPOOL_WS_NO_PONG = 4,    /* pong_timeout_ms */
  CPOOL_WS_IDLE = 5,       /* connection_timeout_ms */
  CPOOL_WS_EXPIRED = 6,    /* cpool_ws_expire */
  CPOOL_WS_PROTOCOL = 7,   /* the peer broke RFC 6455: 1002 or 1007 */
  CPOOL_WS_TOO_BIG = 8,    /* a message above max_message_bytes: 1009 */
  CPOOL_WS_OVERFLOW = 9,   /* its queue was full (CPOOL_WS_OVERFLOW_CLOSE), or the largest above max_queued_bytes */
  CPOOL_WS_REPLACED = 10,  /* another one got its id */
  CPOOL_WS_REFUSED = 11,   /* not accepted, in time or at all, its id taken or not valid, or the registry full; dialled:
                              an HTTP status that says not to come again */
  CPOOL_WS_HANDSHAKE = 12, /* handshake_timeout_ms, no valid upgrade, or TLS failed; dialled: or not connected at all */
  CPOOL_WS_NO_MEMORY = 13,
  CPOOL_WS_MANAGER = 14 /* the manager closed: 1001 */
};

/* Meaning, range, default and whether live: docs/OPTIONS.md. */
typedef struct cpool_ws_options {
  size_t size;
  int32_t max_connections;          /* in the registry; more are refused with 503 before the upgrade */
  int32_t max_handshakes;           /* connections that are not open yet; more wait in the listener's backlog. As many
                                       may be dialled at a time; more wait for these */
  int32_t on_duplicate;             /* enum cpool_ws_duplicate */
  int32_t on_overflow;              /* enum cpool_ws_overflow */
  int64_t health_check_interval_ms; /* silence of the peer after which it is pinged */
  int64_t pong_timeout_ms;          /* from a ping until anything comes; then the connection is cut */
  int64_t connection_timeout_ms;    /* longest silence of the peer, pinged or not */
  int64_t handshake_timeout_ms;     /* from the accept until the connection is open, the decision included; of a dial,
                                       DNS, proxy and TLS included */
  int64_t close_timeout_ms;         /* from the wish to close until the end; then the connection is cut */
  int64_t max_message_bytes;        /* received */
  int64_t max_send_queue_bytes;     /* of one connection, not handed to the kernel yet */
  int32_t max_send_queue_messages;
  int32_t receive_buffer_bytes; /* of one connection; a small one is paid in reads of large messages */
  int64_t max_queued_bytes;     /* of all connections; above it the largest queue is cut off with its connection */
  cpool_queue *queue;           /* all events; exactly one of queue and on_event; borrows until the closed event */
  cpool_event_fn *on_event;
  void *user;                  /* of CPOOL_EVENT_WS_MANAGER_CLOSED, and of connections that were given none */
  const char *dns_servers;     /* for dials, as in cpool_http_options */
  const char *dns_hosts_file;  /* the same */
  int32_t stream_messages;     /* 1: messages come as CPOOL_EVENT_WS_PIECE; CPOOL_OFF, the default: whole */
  int64_t stream_window_bytes; /* of one connection's pieces that are with the caller */
} cpool_ws_options;

CPOOL_API void cpool_ws_options_init_sized(cpool_ws_options *, size_t size);
#define cpool_ws_options_init(p) cpool_ws_options_init_sized((p), sizeof *(p))
/* As cpool_http_options_set; text: borrows until cpool_ws_new returns. */
CPOOL_API int cpool_ws_options_set(cpool_ws_options *, const char *key, const char *value);

/* [waits] for the loop, on its own thread not. Gives a manager. runtime NULL: a private one with its own thread, freed
 * with the manager. copies. *out is untouched on failure. CPOOL_EINVAL names the option; CPOOL_ENOMEM; CPOOL_ESYSTEM:
 * no descriptors, or libwebsockets has no libuv plugin (Debian: libwebsockets-evlib-uv). */
CPOOL_API int cpool_ws_new(cpool_ws **out, cpool_runtime *, const cpool_ws_options *options) CPOOL_MUST_CHECK;
/* [reads] The values in force, defaults filled in. Texts belong to the manager. CPOOL_EINVAL: NULL, or
 * struct_size; CPOOL_EFORK. */
CPOOL_API int cpool_ws_options_get(cpool_ws *, cpool_ws_options *out);
/* [posts] Puts live options into force, all or nothing; 0 fields go back to their defaults, so begin with
 * cpool_ws_options_get. What is sent meets the new limits when this returns, all else soon after. A lower limit ends no
 * connection and drops no message by itself, but for max_queued_bytes, which cuts those with the most; fewer
 * connections, and shorter queues, come about in time. New health_check_interval_ms and connection_timeout_ms count
 * from when a peer was last heard of; a handshake, ping or close that is under way keeps the time that it was given.
 * A new max_message_bytes holds for the message that is coming in. queue, on_event and user are not changed.
 * CPOOL_EINVAL: a bad value, or a change to an option that is not live; CPOOL_ECLOSED; CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_reconfigure(cpool_ws *, const cpool_ws_options *options) CPOOL_MUST_CHECK;
/* [posts] Refuses whatever is new, sends every connection what it is owed and then 1001, spread over the first half
 * of drain_ms (0: at once), cuts what is left at its end (CPOOL_OFF: sends at once, and cuts nothing), and frees all. Ends
 * in one CPOOL_EVENT_WS_MANAGER_CLOSED, after all other events. Again: an earlier deadline counts. */
CPOOL_API int cpool_ws_close_start(cpool_ws *, int64_t drain_ms);
/* Frees a manager after its CPOOL_EVENT_WS_MANAGER_CLOSED, also inside that callback. Before it: closes at once in the
 * background and sends no CPOOL_EVENT_WS_MANAGER_CLOSED; events of connections still come, and the runtime and the queue
 * stay CPOOL_EBUSY until it is done. NULL is harmless. */
CPOOL_API void cpool_ws_free(cpool_ws *);
/* [waits] cpool_ws_close_start, its event, cpool_ws_free. In manual mode it steps the loop. CPOOL_EDEADLK: on the loop
 * thread; nothing was done. NULL is CPOOL_OK. */
CPOOL_API int cpool_ws_close(cpool_ws *, int64_t drain_ms);

typedef struct cpool_ws_listen_options {
  size_t size;
  const char *address;       /* "127.0.0.1", "::"; NULL: "127.0.0.1" */
  int32_t port;              /* 0: any */
  int32_t backlog;           /* 0: 1024 */
  const char *tls_cert_file; /* PEM with its chain; with tls_key_file: wss */
  const char *tls_key_file;
  const char *subprotocols; /* "chat, soap": the client's first that is among them is chosen; who offers others alone
                               is refused with 400; NULL: none */
  const char *path;         /* the only one that is let in; NULL: any */
  const char *origins;      /* "https://example.com, null": Origin headers let in; requests without one are too.
                                  NULL: any */
  const char *headers;      /* "authorization, x-user": kept for cpool_event_upgrade_header, beside those of browsers */
  int32_t max_per_address;  /* connections from one address; 0: no limit */
  /* 0: CPOOL_EVENT_WS_ACCEPT comes before the upgrade, by on_event, and is decided inside; a refusal is an HTTP
   * answer. Managers with a queue: the client is upgraded first, nothing of it is delivered before cpool_ws_accept,
   * and a refusal is a close frame with 1008.
   * CPOOL_OFF: everybody is let in, with an id that is the handle in decimal; there is no CPOOL_EVENT_WS_ACCEPT. */
  int32_t decide;
} cpool_ws_listen_options;

CPOOL_API void cpool_ws_listen_options_init_sized(cpool_ws_listen_options *, size_t size);
#define cpool_ws_listen_options_init(p) cpool_ws_listen_options_init_sized((p), sizeof *(p))
/* [waits] for the loop, on its own thread not. Listens until the manager closes; copies. Returns the port.
 * CPOOL_EINVAL; CPOOL_ESYSTEM: the address cannot be had, `native` says why; CPOOL_ETLS_CONFIG; CPOOL_ECLOSED;
 * CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_listen(cpool_ws *, const cpool_ws_listen_options *options);

/* What a client asks for. Texts live as long as the event; "" where there is none. */
typedef struct cpool_ws_upgrade {
  size_t size;
  const char *path, *query; /* decoded by libwebsockets: path normalised, parameters joined by '&' */
  const char *host, *origin;
  const char *subprotocols;   /* as offered */
  const char *remote_address; /* "192.0.2.1:443", "[2001:db8::1]:443" */
  int32_t tls;
} cpool_ws_upgrade;

CPOOL_API void cpool_ws_upgrade_init_sized(cpool_ws_upgrade *, size_t size);
#define cpool_ws_upgrade_init(p) cpool_ws_upgrade_init_sized((p), sizeof *(p))
/* CPOOL_EINVAL: no CPOOL_EVENT_WS_ACCEPT. */
CPOOL_API int cpool_event_upgrade_get(const cpool_event *, cpool_ws_upgrade *out);
/* Host, Origin, User-Agent, Cookie, Authorization, X-Forwarded-For and those that the listener keeps; NULL: not
 * sent. Of repeated ones the first, or all with commas between. */
CPOOL_API const char *cpool_event_upgrade_header(const cpool_event *, const char *name);

/* The answers to CPOOL_EVENT_WS_ACCEPT. By callback inside of it, at once; else [posts], and `user` comes back with
 * CPOOL_EVENT_WS_CLOSED at the latest. `id`: 1 to 255 bytes of UTF-8; copies. Without one of the two answers a callback
 * refuses with 403; so it does, unless another id is tried, when the id is taken (CPOOL_WS_REJECT) or the registry is
 * full; with a queue the close code is 1008 then. CPOOL_EINVAL: the id; CPOOL_ESTALE: it has gone or is decided; by
 * callback also CPOOL_EEXIST and CPOOL_EFULL; CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_accept(cpool_ws *, cpool_conn, const char *id, void *user);
/* http_status: 400 to 599, 0: 403. */
CPOOL_API int cpool_ws_refuse(cpool_ws *, cpool_conn, int32_t http_status);

typedef struct cpool_ws_adopt_options {
  size_t size;
  const void *data; /* that was read from the socket already; copies */
  size_t len;       /* at most 65536 */
  int32_t port;     /* of a listener without TLS: its filters, subprotocols and `decide` hold; 0: those of a listener
                       that is given none */
} cpool_ws_adopt_options;

CPOOL_API void cpool_ws_adopt_options_init_sized(cpool_ws_adopt_options *, size_t size);
#define cpool_ws_adopt_options_init(p) cpool_ws_adopt_options_init_sized((p), sizeof *(p))
/* [waits] for the loop, on its own thread not. A socket that the caller has accepted, before its upgrade is
 * answered; no TLS. Takes fd on CPOOL_OK alone; it goes on as with a listener; *out is 0 when it has ended already.
 * CPOOL_EINVAL: fd is no connected TCP socket, or port; CPOOL_EFULL: max_handshakes; CPOOL_ESYSTEM; CPOOL_ECLOSED;
 * CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_adopt(cpool_ws *, int fd, const cpool_ws_adopt_options *options, cpool_conn *out);

/* A connection that is dialled, and dialled again when it is down: after a delay that is drawn from 0 to reconnect_ms, which
 * doubles with each failure, up to max_reconnect_ms, and begins anew once a connection was open for stable_ms. Meaning,
 * range and default: docs/OPTIONS.md. */
typedef struct cpool_ws_connect_options {
  size_t size;
  const char *url;             /* "wss://example.com:8443/path?query" */
  const cpool_header *headers; /* of the upgrade request; also Origin and Authorization; at most 8192 bytes */
  size_t header_count;
  const char *subprotocols; /* "chat, soap": offered */
  void *user;
  int32_t tls_verify;           /* CPOOL_OFF: accept any certificate */
  int32_t tls_min_version;      /* enum cpool_tls_version */
  int32_t address_policy;       /* enum cpool_address_policy; of the proxy when there is one */
  const char *ca_file;          /* PEM; NULL: the system's */
  const char *client_cert_file; /* PEM */
  const char *client_key_file;  /* PEM; NULL: in client_cert_file */
  const char *client_key_password;
  const char *proxy; /* "http://host:port": a tunnel is asked for (CONNECT, RFC 9110 section 9.3.6) */
  const char *proxy_username, *proxy_password;
  int64_t reconnect_ms; /* CPOOL_OFF: one dial only */
  int64_t max_reconnect_ms;
  int64_t stable_ms;
  int32_t max_attempts; /* failures in a row, then it ends; CPOOL_OFF: never */
  /* "1000, 4000-4999": the peer's close codes after which it is not dialled again; NULL: 1000, 1003, 1007 to 1010. An
   * upgrade that is refused with a status of 300 to 499, but 408, 425 and 429, ends it too. */
  const char *stop_codes;
} cpool_ws_connect_options;

CPOOL_API void cpool_ws_connect_options_init_sized(cpool_ws_connect_options *, size_t size);
#define cpool_ws_connect_options_init(p) cpool_ws_connect_options_init_sized((p), sizeof *(p))
/* As cpool_http_options_set; headers and user have no key. Text: borrows until cpool_ws_connect returns. */
CPOOL_API int cpool_ws_connect_options_set(cpool_ws_connect_options *, const char *key, const char *value);
/* [waits] for the loop, on its own thread not. The connection has its id, its place in the registry and its handle from
 * now on until it ends; topics can be subscribed to at once, and stay. Each time it is up there is a
 * CPOOL_EVENT_WS_OPEN, each time it is down, or was not reached, a CPOOL_EVENT_WS_DISCONNECTED, and one
 * CPOOL_EVENT_WS_CLOSED when it is not dialled again: after cpool_ws_remove, cpool_ws_expire, a replacement, the
 * manager's close, a stop code, a refusal, max_attempts. What it was owed when it went down is dropped. Copies.
 * `status` of a dial that failed: CPOOL_EDNS_NOTFOUND, CPOOL_EDNS_FAILED, CPOOL_EADDRESS, CPOOL_ECONNECT, CPOOL_EPROXY,
 * CPOOL_ETLS_VERIFY, CPOOL_ETLS_HANDSHAKE, CPOOL_ETIMEOUT_CONNECT, CPOOL_ERESET, CPOOL_EPROTOCOL, CPOOL_EREFUSED with
 * http_status, CPOOL_ESYSTEM, CPOOL_ENOMEM; it is CPOOL_OK where the connection was open. All of these are tried again,
 * certificates and names included, but for refusals; a Retry-After is waited for.
 * TLS of the same settings is prepared once and kept. CPOOL_EINVAL names the option; CPOOL_ETLS_CONFIG: a file;
 * CPOOL_EEXIST; CPOOL_EFULL: max_connections, or 64 different TLS settings; CPOOL_ECLOSED; CPOOL_ESYSTEM;
 * CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_connect(cpool_ws *, const char *id, const cpool_ws_connect_options *options, cpool_conn *out);

/* A connection that the caller's own context of libwebsockets has accepted: on the loop thread of the manager, in or
 * after LWS_CALLBACK_ESTABLISHED, by HTTP/1.1. From then on the manager alone writes, pings and closes, and the
 * caller forwards LWS_CALLBACK_RECEIVE, _RECEIVE_PONG, _SERVER_WRITEABLE, _WS_PEER_INITIATED_CLOSE and _CLOSED of
 * its protocol, and _WSI_DESTROY, which goes to the first protocol of the vhost, to cpool_ws_lws_event. Its vhost
 * should leave pings to the manager: a retry_and_idle_policy of zeros. CPOOL_EINVAL: id, another thread, or HTTP/2;
 * CPOOL_EEXIST: the id, or the connection, is there; CPOOL_EFULL; CPOOL_ECLOSED; CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_add(cpool_ws *, const char *id, void *user, struct lws *wsi, cpool_conn *out);
/* Inside the caller's callback: returns what that has to return. 0 for what is not the manager's, or not forwarded. */
CPOOL_API int cpool_ws_lws_event(cpool_ws *, struct lws *wsi, int32_t reason, void *in, size_t len);

/* [waits] for the loop, on its own thread not. A connection whose socket is another library's: it takes part in
 * registry, sweep and statistics. The caller tells of life by cpool_ws_touch, pings at CPOOL_EVENT_WS_PING_DUE, and
 * closes its socket at CPOOL_EVENT_WS_CLOSED. It is there when this returns. CPOOL_EINVAL; CPOOL_EEXIST; CPOOL_EFULL;
 * CPOOL_ECLOSED; CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_add_external(cpool_ws *, const char *id, void *user, cpool_conn *out);
/* [posts] It showed life. CPOOL_ESTALE. */
CPOOL_API int cpool_ws_touch(cpool_ws *, cpool_conn);

/* Messages in pieces. With stream_messages every message comes as one CPOOL_EVENT_WS_PIECE or several, in order, and
 * there is no CPOOL_EVENT_WS_MESSAGE. A piece is what was read at once, at most 16 KiB; it has nothing to do with the
 * peer's frames. A short message is mostly one piece with `more` 0, an empty one always; a last piece may have `len` 0.
 * Each has the message's `ws_kind`. Texts are checked over all of them, but a piece may end inside a UTF-8 sequence.
 * max_message_bytes holds for the message: 1009 comes as soon as it is known to be longer, with some pieces out;
 * CPOOL_OFF is legal here. When the connection ends in the middle of a message, CPOOL_EVENT_WS_CLOSED comes without a
 * piece with `more` 0, and what was read last of it may be missing.
 * While more than stream_window_bytes are with the caller, this connection alone is not read, so that its peer has to
 * wait, and goes on at half of them. What was being read still comes: up to receive_buffer_bytes or 16 KiB more. Each
 * piece counts somewhat more than its bytes: the memory that it takes. Bytes are with the caller from
 * CPOOL_EVENT_WS_PIECE until the release of the event; with on_event until cpool_ws_credit gives them back.
 * A connection that is not read, for this or for the marks of the queue, can be sent to and closed; its peer's pings
 * are answered, and its end is seen, when reading goes on. Until then it is not pinged and does not count as silent. A
 * close by cpool_ws_remove or cpool_ws_close_start drops what it has not read. */

/* [posts] With on_event: `bytes` of pieces have been consumed. More than is out counts as all of it. CPOOL_EINVAL:
 * bytes is 0; CPOOL_ESTALE: the connection has ended: there is nothing left to give; CPOOL_ENOMEM. Harmless for a
 * manager with a queue. */
CPOOL_API int cpool_ws_credit(cpool_ws *, cpool_conn, size_t bytes);

/* [reads] CPOOL_ENOTFOUND. */
CPOOL_API int cpool_ws_find(cpool_ws *, const char *id, cpool_conn *out);

/* [posts] Copies. Sent in order, pings ahead of messages. CPOOL_OK: it is in the connection's queue, and comes to the
 * peer unless the connection ends before. CPOOL_EINVAL: kind, a text that is no UTF-8, or more than
 * max_send_queue_bytes; CPOOL_EAGAIN: no room, see CPOOL_WS_OVERFLOW_REFUSE, or no CPOOL_EVENT_WS_OPEN yet; CPOOL_EFULL:
 * twice max_queued_bytes wait, the loop is behind; CPOOL_ESTALE; CPOOL_ECLOSED: it is closing; CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_send(cpool_ws *, cpool_conn, int32_t kind, const void *data, size_t len);
/* The same by id; CPOOL_ENOTFOUND. */
CPOOL_API int cpool_ws_send_id(cpool_ws *, const char *id, int32_t kind, const void *data, size_t len);

/* [posts] Topics: 1 to 255 bytes; one is there while it has members. A connection that ends leaves all. CPOOL_EINVAL;
 * CPOOL_ESTALE; CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_subscribe(cpool_ws *, cpool_conn, const char *topic);
CPOOL_API int cpool_ws_unsubscribe(cpool_ws *, cpool_conn, const char *topic);
/* [posts] One message to all members (topic NULL: to all that are open), one copy for all of them. Waits for nobody:
 * with a member that has no room on_overflow decides, as with cpool_ws_send, but that refusing means dropping.
 * CPOOL_EINVAL; CPOOL_EFULL, as with cpool_ws_send; CPOOL_ECLOSED; CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_publish(cpool_ws *, const char *topic, int32_t kind, const void *data, size_t len);

/* [posts] Its id is free at once. What it is owed goes out, then a close frame with code (1000, 1001, 1003, 1007 to
 * 1014, 3000 to 4999; 0: 1000) and text (at most 123 bytes of UTF-8; may be NULL), and CPOOL_EVENT_WS_CLOSED comes
 * when the peer has answered or close_timeout_ms is over. CPOOL_EINVAL; CPOOL_ESTALE; CPOOL_ENOMEM. */
CPOOL_API int cpool_ws_remove(cpool_ws *, cpool_conn, int32_t close_code, const char *text);
CPOOL_API int cpool_ws_remove_id(cpool_ws *, const char *id, int32_t close_code, const char *text);
/* [posts] From then on it ends with 1008 and CPOOL_WS_EXPIRED; ms from now, CPOOL_OFF: never, the default. */
CPOOL_API int cpool_ws_expire(cpool_ws *, cpool_conn, int64_t after_ms);

typedef struct cpool_ws_health {
  size_t size;
  int64_t checked, pinged, removed;
} cpool_ws_health;

CPOOL_API void cpool_ws_health_init_sized(cpool_ws_health *, size_t size);
#define cpool_ws_health_init(p) cpool_ws_health_init_sized((p), sizeof *(p))
/* [waits] Looks at every connection now: those that should have gone go, those not heard of since the last ping or
 * check are pinged. `out` NULL: [posts], and waits for nothing. */
CPOOL_API int cpool_ws_health_check(cpool_ws *, cpool_ws_health *out);

/* Gauges are int64_t, counters since the manager was made uint64_t. In every snapshot:
 * opened - closed == total_connections + handshaking_connections + closing_connections + waiting_connections; closed is
 * the sum of the closed_* fields. A dialled connection is one, however often it is dialled. */
typedef struct cpool_ws_stats {
  size_t size;
  int64_t total_connections;       /* open, in the registry */
  int64_t handshaking_connections; /* accepted by the kernel or being dialled, not open yet */
  int64_t closing_connections;     /* their sockets still open; in the registry only those that come back */
  int64_t max_connections;         /* in force */
  int64_t waiting_connections;     /* dialled: down, until they are dialled again */
  int64_t topics, queued_bytes, queued_messages, paused_connections;
  uint64_t opened, closed; /* connections of any state */
  uint64_t closed_by_peer, closed_by_caller, closed_lost, closed_no_pong, closed_idle, closed_expired, closed_protocol,
      closed_too_big, closed_overflow, closed_replaced, closed_refused, closed_handshake, closed_no_memory,
      closed_manager;
  uint64_t messages_received, bytes_received; /* of messages */
  uint64_t messages_sent, bytes_sent;         /* handed to the kernel, or libwebsockets on the way there */
  uint64_t messages_dropped;                  /* by on_overflow, or unsent when their connection ended */
  uint64_t pings, pongs, published;           /* pings that were sent; pongs that answered one; calls to publish */
  uint64_t refused_full, refused_path, refused_origin; /* of closed_refused */
  uint64_t refused_address;                            /* max_per_address: before there was a connection */
  uint64_t dials, dials_failed, disconnects;           /* begun; not opened; CPOOL_EVENT_WS_DISCONNECTED */
} cpool_ws_stats;

CPOOL_API void cpool_ws_stats_init_sized(cpool_ws_stats *, size_t size);
#define cpool_ws_stats_init(p) cpool_ws_stats_init_sized((p), sizeof *(p))
/* [reads] One consistent snapshot, at most one turn of the loop old. Until cpool_ws_free. */
CPOOL_API int cpool_ws_stats_get(cpool_ws *, cpool_ws_stats *out);

enum cpool_ws_state {
  CPOOL_WS_HANDSHAKING = 1,
  CPOOL_WS_UNDECIDED = 2,
  CPOOL_WS_OPENED = 3,
  CPOOL_WS_CLOSING = 4,
  CPOOL_WS_WAITING = 5 /* dialled, and down: until it is dialled again */
};

typedef struct cpool_ws_info {
  size_t size;
  int32_t state; /* enum cpool_ws_state */
  int32_t tls;
  int64_t age_ms, silent_ms; /* since the accept; since the peer was last heard of */
  int64_t round_trip_us;     /* of the last ping that was answered; CPOOL_OFF: none yet */
  int64_t queued_bytes, queued_messages;
  uint64_t messages_received, bytes_received, messages_sent, bytes_sent;
  char remote_address[64];
} cpool_ws_info;

CPOOL_API void cpool_ws_info_init_sized(cpool_ws_info *, size_t size);
#define cpool_ws_info_init(p) cpool_ws_info_init_sized((p), sizeof *(p))
/* [reads] CPOOL_ESTALE. */
CPOOL_API int cpool_ws_get(cpool_ws *, cpool_conn, cpool_ws_info *out);
/* [reads] Ids of open connections, each followed by a NUL, as many as fit; returns how many, 0 at the end. *cursor
 * is 0 at first. One that is there from the first call to the last is met exactly once. CPOOL_EINVAL: the next id does
 * not fit. */
CPOOL_API int cpool_ws_ids(cpool_ws *, uint64_t *cursor, char *buffer, size_t len);

#ifdef __cplusplus
}
#endif

#endif /* CPOOL_H */
