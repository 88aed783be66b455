/* redirect: the rules of a redirect (RFC 9110 section 15.4): what is followed, by which method, to which URL, with
 * which headers. Text in, text out. Any thread. */
#ifndef CPOOL_HTTP_REDIRECT_H
#define CPOOL_HTTP_REDIRECT_H

#include <stdbool.h>
#include <stddef.h>

enum {
  CPOOL__REDIRECT_LIMIT = 50,
  CPOOL__REDIRECT_URL_BYTES = 8192, /* of a URL that a peer chose: what RFC 9110 section 4.1 asks for, and a little */
  CPOOL__REDIRECT_BODY_BYTES = 64 * 1024 /* of the 3xx answer that is waited for, so that its connection can be kept */
};

/* 301, 302, 303, 307, 308. Not 300 (a choice for people), 304 (no redirect), 305 and 306 (obsolete). */
bool cpool__redirect_code(int status_code);
/* The next request is a GET without body. */
bool cpool__redirect_becomes_get(int status_code, const char *method);
/* Writes the URL that `location` names, seen from `base` (absolute, http or https, with its fragment), by RFC 3986
 * section 5.2. A fragment is inherited (RFC 9110 section 10.2.2), blanks and bytes above 0x7e are percent-encoded, an
 * empty path becomes "/". NULL: done; else why it is refused. What it lets through is still to be parsed: the authority
 * is only looked at for what must not be quoted. */
const char *cpool__redirect_resolve(char out[CPOOL__REDIRECT_URL_BYTES + 1], const char *base, const char *location);
/* A header that must not go to another origin than the first: it holds a credential, or is Host. */
bool cpool__redirect_confides(const char *name, size_t len);
/* A header about the body, which has gone. */
bool cpool__redirect_describes_body(const char *name, size_t len);

#endif
