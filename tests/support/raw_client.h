/* raw_client: a blocking socket with deadlines that shows a test exactly what a server sends, and how it ends */
#ifndef CPOOL_SUPPORT_RAW_CLIENT_H
#define CPOOL_SUPPORT_RAW_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum raw_end { RAW_FIN, RAW_RESET, RAW_OPEN /* the deadline passed first */ };

/* `address` numeric, NULL: 127.0.0.1. Returns the fd, or -1 with errno (ETIMEDOUT at the deadline). */
int raw_connect(const char *address, uint16_t port, int64_t timeout_ms);
int raw_connect_unix(const char *path);

bool raw_send(int fd, const char *text);

/* Reads until the end, the deadline, or until `max` bytes are there (0: no such limit). *text is the caller's, always
 * set and NUL-terminated. */
enum raw_end raw_read(int fd, size_t max, int64_t timeout_ms, char **text, size_t *len);

/* Sends "METHOD PATH HTTP/1.1" with a Host and reads one answer with Content-Length (default 0): its status, or -1.
 * `body` (at least 64 bytes) receives the start of the body; NULL: not wanted. */
int raw_request(int fd, const char *method, const char *path, char *body, size_t body_bytes);

#endif
