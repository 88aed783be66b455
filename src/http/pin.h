/* pin: the public keys that a session accepts of its https peers, in libcurl's notation */
#ifndef CPOOL_HTTP_PIN_H
#define CPOOL_HTTP_PIN_H

/* "sha256//" and the padded base64 of 32 bytes, once or more, ';' between; NULL is legal. CPOOL_OK or CPOOL_EINVAL
 * (recorded). Anything else libcurl would take for the name of a file, or for a key that no peer has. */
int cpool__pins_check(const char *pins);

#endif
