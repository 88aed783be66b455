/* wait: time, waiting on a condition with a deadline, scratch directories, ports and counts that every test needs */
#ifndef CPOOL_SUPPORT_WAIT_H
#define CPOOL_SUPPORT_WAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Monotonic clock. */
int64_t now_ms(void);
int64_t now_us(void);

/* Asks `holds(ctx)` about once a millisecond, always at least once, until it is true (returns true) or `timeout_ms` is
 * over (returns false). The condition is the proof; the pace between two looks is not. */
typedef bool wait_fn(void *ctx);
bool wait_until(wait_fn *holds, void *ctx, int64_t timeout_ms);

/* poll(2) for one fd, restarted after signals. Returns the revents, 0 at the deadline. */
short wait_fd(int fd, short events, int64_t timeout_ms);

/* One line on stderr, then abort: for a machine that cannot run the test at all. */
__attribute__((noreturn, format(printf, 1, 2))) void support_die(const char *format, ...);

/* A new empty directory under $TMPDIR or /tmp; free removes it with all that is in it. The string is the caller's. */
char *temp_dir_new(void);
void temp_dir_free(char *dir);

/* Writes one file, replacing it. */
void write_file(const char *path, const void *data, size_t len);

/* A loopback port that was free a moment ago (TCP and UDP), for a server that must be told its port. */
uint16_t unused_port(void);

/* A loopback port (127.0.0.1) on which every connect is refused for as long as the returned fd is open: it is bound and
 * never listens, so nobody else can take it. */
int refusing_port_open(uint16_t *port);

/* Of this process. open_fd_count does not count the fd it looks with. */
int32_t open_fd_count(void);
int32_t thread_count(void);

#endif
