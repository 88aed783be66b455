/* basic: user and password as the credentials of Basic authentication (RFC 7617) */
#ifndef CPOOL_WEB_BASIC_H
#define CPOOL_WEB_BASIC_H

#include <stddef.h>

/* Of what cpool__basic_write writes, without its NUL. NULL is "". */
size_t cpool__basic_len(const char *username, const char *password);
void cpool__basic_write(char *out, const char *username, const char *password);

#endif
