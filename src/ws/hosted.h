/* hosted: connections of the host's own context of libwebsockets, whose callbacks the host forwards. Loop thread only. */
#ifndef CPOOL_WS_HOSTED_H
#define CPOOL_WS_HOSTED_H

#include "ws/conn.h"

extern cpool__table_equal_fn *const cpool__hosted_same;

void cpool__hosted_left(struct cpool__ws_conn *conn); /* it has gone */

#endif
