/* certs: a throw-away certificate authority and the leaf certificates, right and wrong, that TLS tests need */
#ifndef CPOOL_SUPPORT_CERTS_H
#define CPOOL_SUPPORT_CERTS_H

enum { CERTS_PATH_BYTES = 256 };

struct cert_pair {
  char cert_file[CERTS_PATH_BYTES]; /* PEM */
  char key_file[CERTS_PATH_BYTES];  /* PEM, P-256, no passphrase */
  char pin[64];                     /* "sha256//<base64>" of the public key, as libcurl spells pins */
};

struct certs {
  char *dir;                            /* holds everything; gone after certs_free */
  char ca_file[CERTS_PATH_BYTES];       /* signs all pairs below but self_signed */
  char other_ca_file[CERTS_PATH_BYTES]; /* signs nothing */
  struct cert_pair good;        /* localhost, a.test, b.test, c.test, *.origin.test, 127.0.0.1, 127.0.0.2, ::1 */
  struct cert_pair wrong_name;  /* elsewhere.invalid only */
  struct cert_pair expired;     /* names of good; ended yesterday */
  struct cert_pair self_signed; /* names of good; its own issuer */
  struct cert_pair client;      /* CN=client, for client authentication */
};

/* A few milliseconds. Aborts with a message when libcrypto refuses, so it never returns NULL. */
struct certs *certs_new(void);
/* `more_names` ("DNS:x.example,IP:127.0.0.3") are added to the names of good. A wildcard needs two labels behind it:
 * clients refuse "*.test". */
struct certs *certs_new_with(const char *more_names);
void certs_free(struct certs *certs);

#endif
