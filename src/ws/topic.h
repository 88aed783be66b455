/* topic: sets of connections by name. Loop thread, but for the check. */
#ifndef CPOOL_WS_TOPIC_H
#define CPOOL_WS_TOPIC_H

#include "ws/conn.h"

extern cpool__table_equal_fn *const cpool__topic_same;

/* Any thread: CPOOL_OK or CPOOL_EINVAL (recorded). */
int cpool__topic_check(const char *call, const char *name);
/* CPOOL_OK, also when it is a member already, or CPOOL_ENOMEM (not recorded). */
int cpool__topic_join(struct cpool__ws_conn *conn, const char *name, size_t len);
void cpool__topic_leave(struct cpool__ws_conn *conn, const char *name, size_t len);
void cpool__topic_leave_all(struct cpool__ws_conn *conn);
/* Calls fn for each member, which may leave then. */
void cpool__topic_each(cpool_ws *ws, const char *name, size_t len, void (*fn)(struct cpool__ws_conn *conn, void *arg),
                       void *arg);

#endif
