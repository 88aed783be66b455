/* certs: a throw-away certificate authority and the leaf certificates, right and wrong, that TLS tests need */
#include "support/certs.h"

#include "support/wait.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOOD_NAMES "DNS:localhost,DNS:a.test,DNS:b.test,DNS:c.test,DNS:*.origin.test,IP:127.0.0.1,IP:127.0.0.2,IP:::1"

enum { DAY_S = 24 * 60 * 60 };

struct signer {
  EVP_PKEY *key;
  X509 *cert;
};

struct leaf_spec {
  const char *common_name;
  const char *names;           /* subjectAltName; NULL: none */
  const char *usage;           /* extendedKeyUsage; NULL: a CA */
  long start_s, end_s;         /* from now */
  const struct signer *issuer; /* NULL: itself */
};

static void must(int ok, const char *what)
{
  if (!ok) {
    ERR_print_errors_fp(stderr);
    support_die("certificates: %s failed", what);
  }
}

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
  X509V3_CTX ctx;
  X509V3_set_ctx_nodb(&ctx);
  X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
  must(extension != NULL && X509_add_ext(cert, extension, -1) == 1, value);
  X509_EXTENSION_free(extension);
}

static struct signer make_cert(const struct leaf_spec *spec)
{
  static long serial; /* certificates of one issuer must differ; made on the test's thread only */
  struct signer made = {EVP_EC_gen("P-256"), X509_new()};
  must(made.key != NULL && made.cert != NULL, "key");
  X509 *cert = made.cert;
  X509 *issuer = spec->issuer != NULL ? spec->issuer->cert : cert;
  must(X509_set_version(cert, 2), "version");
  must(ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial), "serial");
  must(X509_gmtime_adj(X509_getm_notBefore(cert), spec->start_s) != NULL, "start");
  must(X509_gmtime_adj(X509_getm_notAfter(cert), spec->end_s) != NULL, "end");
  must(X509_set_pubkey(cert, made.key), "public key");
  X509_NAME *subject = X509_get_subject_name(cert);
  must(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *) spec->common_name, -1, -1, 0),
       "name");
  must(X509_set_issuer_name(cert, X509_get_subject_name(issuer)), "issuer");
  if (spec->usage == NULL) {
    add_extension(cert, issuer, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(cert, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
  } else {
    add_extension(cert, issuer, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(cert, issuer, NID_key_usage, "critical,digitalSignature");
    add_extension(cert, issuer, NID_ext_key_usage, spec->usage);
  }
  if (spec->names != NULL)
    add_extension(cert, issuer, NID_subject_alt_name, spec->names);
  add_extension(cert, issuer, NID_subject_key_identifier, "hash");
  must(X509_sign(cert, spec->issuer != NULL ? spec->issuer->key : made.key, EVP_sha256()) > 0, "signature");
  return made;
}

static void signer_fini(struct signer *signer)
{
  X509_free(signer->cert);
  EVP_PKEY_free(signer->key);
}

static void write_cert(const char *path, X509 *cert)
{
  FILE *file = fopen(path, "we");
  must(file != NULL && PEM_write_X509(file, cert), path);
  fclose(file);
}

static void set_path(char *out, const char *dir, const char *name, const char *suffix)
{
  int len = snprintf(out, CERTS_PATH_BYTES, "%s/%s.%s", dir, name, suffix);
  must(len > 0 && len < CERTS_PATH_BYTES, "path");
}

static void set_pin(char *out, size_t out_bytes, EVP_PKEY *key)
{
  unsigned char *der = NULL;
  unsigned char digest[SHA256_DIGEST_LENGTH], text[48];
  int len = i2d_PUBKEY(key, &der);
  must(len > 0, "public key");
  SHA256(der, (size_t) len, digest);
  OPENSSL_free(der);
  EVP_EncodeBlock(text, digest, sizeof digest);
  snprintf(out, out_bytes, "sha256//%s", (const char *) text);
}

static void make_pair(struct cert_pair *pair, const char *dir, const char *name, const struct leaf_spec *spec)
{
  struct signer made = make_cert(spec);
  set_path(pair->cert_file, dir, name, "crt");
  set_path(pair->key_file, dir, name, "key");
  write_cert(pair->cert_file, made.cert);
  FILE *file = fopen(pair->key_file, "we");
  must(file != NULL && PEM_write_PrivateKey(file, made.key, NULL, NULL, 0, NULL, NULL), "key file");
  fclose(file);
  set_pin(pair->pin, sizeof pair->pin, made.key);
  signer_fini(&made);
}

struct certs *certs_new(void)
{
  return certs_new_with(NULL);
}

struct certs *certs_new_with(const char *more_names)
{
  char *names = NULL;
  must(asprintf(&names, GOOD_NAMES "%s%s", more_names != NULL ? "," : "", more_names != NULL ? more_names : "") > 0,
       "names");
  struct certs *certs = calloc(1, sizeof *certs);
  must(certs != NULL, "memory");
  certs->dir = temp_dir_new();
  struct signer ca =
      make_cert(&(struct leaf_spec){.common_name = "libcpool test CA", .start_s = -2 * DAY_S, .end_s = 30 * DAY_S});
  struct signer other =
      make_cert(&(struct leaf_spec){.common_name = "another test CA", .start_s = -2 * DAY_S, .end_s = 30 * DAY_S});
  set_path(certs->ca_file, certs->dir, "ca", "crt");
  set_path(certs->other_ca_file, certs->dir, "other-ca", "crt");
  write_cert(certs->ca_file, ca.cert);
  write_cert(certs->other_ca_file, other.cert);

  struct leaf_spec good = {.common_name = "localhost",
                           .names = names,
                           .usage = "serverAuth",
                           .start_s = -DAY_S,
                           .end_s = 30 * DAY_S,
                           .issuer = &ca};
  struct leaf_spec wrong_name = good, expired = good, self_signed = good, client = good;
  wrong_name.common_name = "elsewhere.invalid";
  wrong_name.names = "DNS:elsewhere.invalid";
  expired.start_s = -2 * DAY_S;
  expired.end_s = -DAY_S;
  self_signed.issuer = NULL;
  client.common_name = "client";
  client.names = NULL;
  client.usage = "clientAuth";
  make_pair(&certs->good, certs->dir, "good", &good);
  make_pair(&certs->wrong_name, certs->dir, "wrong-name", &wrong_name);
  make_pair(&certs->expired, certs->dir, "expired", &expired);
  make_pair(&certs->self_signed, certs->dir, "self-signed", &self_signed);
  make_pair(&certs->client, certs->dir, "client", &client);
  signer_fini(&ca);
  signer_fini(&other);
  free(names);
  return certs;
}

void certs_free(struct certs *certs)
{
  if (certs == NULL)
    return;
  temp_dir_free(certs->dir);
  free(certs);
}
