/* redirect: rules, from text to text
 *
 * Resolution keeps to RFC 3986 section 5.2.2, strictly: "http:path" names no host, and a backslash is no slash. What
 * browsers forgive is forgiven where it cannot change the host: blanks and bytes above 0x7e behind the authority are
 * percent-encoded. */
#include "http/redirect.h"

#include <stdint.h>
#include <string.h>

#include "http/header_list.h"

bool cpool__redirect_code(int status_code)
{
  return status_code == 301 || status_code == 302 || status_code == 303 || status_code == 307 || status_code == 308;
}

bool cpool__redirect_becomes_get(int status_code, const char *method)
{
  if (status_code == 303)
    return strcmp(method, "HEAD") != 0;
  return (status_code == 301 || status_code == 302) && strcmp(method, "POST") == 0;
}

/* ---- resolution ---- */

struct span {
  const char *at; /* NULL: not there, which differs from empty */
  size_t len;
};

struct reference { /* RFC 3986 appendix B */
  struct span scheme, authority, path, query, fragment;
};

static bool is_letter(char byte)
{
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

static size_t scheme_len(const char *text)
{
  size_t len = 0;
  if (!is_letter(text[0]))
    return 0;
  while (is_letter(text[len]) || (text[len] >= '0' && text[len] <= '9') || text[len] == '+' || text[len] == '-' ||
         text[len] == '.')
    len++;
  return text[len] == ':' ? len : 0;
}

static struct reference split(const char *text)
{
  struct reference ref = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
  size_t scheme = scheme_len(text);
  if (scheme > 0) {
    ref.scheme = (struct span){text, scheme};
    text += scheme + 1;
  }
  if (text[0] == '/' && text[1] == '/') {
    ref.authority = (struct span){text + 2, strcspn(text + 2, "/?#")};
    text += 2 + ref.authority.len;
  }
  ref.path = (struct span){text, strcspn(text, "?#")};
  text += ref.path.len;
  if (*text == '?') {
    ref.query = (struct span){text + 1, strcspn(text + 1, "#")};
    text += 1 + ref.query.len;
  }
  if (*text == '#')
    ref.fragment = (struct span){text + 1, strlen(text + 1)};
  return ref;
}

struct writer {
  char *out;
  size_t len;
  bool full;
};

static void put_byte(struct writer *to, char byte)
{
  if (to->len == CPOOL__REDIRECT_URL_BYTES)
    to->full = true;
  else
    to->out[to->len++] = byte;
}

static void put(struct writer *to, const char *text, size_t len)
{
  for (size_t i = 0; i < len; i++)
    put_byte(to, text[i]);
}

static void put_encoded(struct writer *to, struct span text)
{
  static const char digits[] = "0123456789ABCDEF";
  for (size_t i = 0; i < text.len; i++) {
    unsigned char byte = (unsigned char) text.at[i];
    if (byte > 0x20 && byte < 0x7f) {
      put_byte(to, (char) byte);
    } else {
      put_byte(to, '%');
      put_byte(to, digits[byte >> 4]);
      put_byte(to, digits[byte & 15]);
    }
  }
}

/* RFC 3986 section 5.2.4, in place; the path begins with '/'. */
static size_t remove_dots(char *path, size_t len)
{
  size_t kept = 0;
  for (size_t at = 0, end; at < len; at = end) {
    for (end = at + 1; end < len && path[end] != '/'; end++)
      ;
    bool one = end - at == 2 && path[at + 1] == '.';
    bool two = end - at == 3 && path[at + 1] == '.' && path[at + 2] == '.';
    if (!one && !two) {
      memmove(path + kept, path + at, end - at);
      kept += end - at;
      continue;
    }
    while (two && kept > 0 && path[--kept] != '/')
      ;
    if (end == len) /* what follows "." or ".." is empty, and is there */
      path[kept++] = '/';
  }
  return kept;
}

/* The path of the reference, or what it becomes behind the base's (section 5.2.3). */
static void put_path(struct writer *to, const struct reference *base, const struct reference *ref, bool merge)
{
  size_t begin = to->len;
  if (merge && ref->path.at[0] != '/') {
    size_t upto = base->path.len;
    while (upto > 0 && base->path.at[upto - 1] != '/')
      upto--;
    put_encoded(to, (struct span){base->path.at, upto});
  }
  if (to->len == begin && ref->path.at[0] != '/')
    put_byte(to, '/');
  put_encoded(to, ref->path);
  if (!to->full)
    to->len = begin + remove_dots(to->out + begin, to->len - begin);
}

static bool is_scheme(struct span scheme, const char *name)
{
  return cpool__names_equal(scheme.at, scheme.len, name, strlen(name));
}

static bool authority_clean(struct span authority)
{
  for (size_t i = 0; i < authority.len; i++) {
    if ((unsigned char) authority.at[i] <= 0x20 || (unsigned char) authority.at[i] >= 0x7f)
      return false;
  }
  return true;
}

static const char *refusal(const char *location, const struct reference *base, const struct reference *ref)
{
  for (const char *at = location; *at != '\0'; at++) {
    if ((unsigned char) *at < 0x20 || *at == 0x7f)
      return "Location has a control byte";
  }
  if (ref->scheme.at != NULL && !is_scheme(ref->scheme, "http") && !is_scheme(ref->scheme, "https"))
    return "the scheme of Location is neither http nor https";
  if (ref->authority.at == NULL ? ref->scheme.at != NULL : ref->authority.len == 0)
    return "Location names no host";
  if (ref->authority.at != NULL && !authority_clean(ref->authority))
    return "the host of Location is not printable ASCII";
  if (ref->authority.at != NULL && memchr(ref->authority.at, '@', ref->authority.len) != NULL)
    return "Location has a user or password";
  if (ref->scheme.at != NULL && is_scheme(ref->scheme, "http") && is_scheme(base->scheme, "https"))
    return "it leads from https to http";
  return NULL;
}

const char *cpool__redirect_resolve(char out[CPOOL__REDIRECT_URL_BYTES + 1], const char *base_url, const char *location)
{
  struct reference base = split(base_url), ref = split(location);
  struct writer to = {out, 0, false};
  const char *why = refusal(location, &base, &ref);
  if (why != NULL)
    return why;
  struct span scheme = ref.scheme.at != NULL ? ref.scheme : base.scheme;
  struct span authority = ref.authority.at != NULL ? ref.authority : base.authority;
  bool same_path = ref.authority.at == NULL && ref.path.len == 0;
  struct span query = same_path && ref.query.at == NULL ? base.query : ref.query;
  struct span fragment = ref.fragment.at != NULL ? ref.fragment : base.fragment;
  put(&to, scheme.at, scheme.len);
  put(&to, "://", 3);
  put(&to, authority.at, authority.len);
  if (same_path)
    put_encoded(&to, base.path);
  else
    put_path(&to, &base, &ref, ref.authority.at == NULL);
  if (query.at != NULL) {
    put_byte(&to, '?');
    put_encoded(&to, query);
  }
  if (fragment.at != NULL) {
    put_byte(&to, '#');
    put_encoded(&to, fragment);
  }
  if (to.full)
    return "the URL is too long";
  out[to.len] = '\0';
  return NULL;
}

/* ---- headers ---- */

static bool is_one_of(const char *name, size_t len, const char *const *list)
{
  for (; *list != NULL; list++) {
    if (cpool__names_equal(name, len, *list, strlen(*list)))
      return true;
  }
  return false;
}

static bool contains(const char *name, size_t len, const char *word)
{
  size_t word_len = strlen(word);
  for (size_t at = 0; at + word_len <= len; at++) {
    if (cpool__names_equal(name + at, word_len, word, word_len))
      return true;
  }
  return false;
}

bool cpool__redirect_confides(const char *name, size_t len)
{
  /* Authorization, X-Auth-Key, Cookie and their like; and what services call their own: X-Api-Key,
   * Private-Token, X-Amz-Security-Token, Ocp-Apim-Subscription-Key ... */
  static const char *const words[] = {"auth",   "cookie",     "token",     "secret",  "password",
                                      "apikey", "credential", "signature", "session", NULL};
  static const char *const harmless[] = {"Idempotency-Key", NULL};
  static const char *const host[] = {"Host", NULL};
  if (is_one_of(name, len, host))
    return true;
  for (size_t i = 0; words[i] != NULL; i++) {
    if (contains(name, len, words[i]))
      return true;
  }
  bool key = len >= 4 && cpool__names_equal(name + len - 4, 4, "-key", 4);
  return key && !is_one_of(name, len, harmless);
}

bool cpool__redirect_describes_body(const char *name, size_t len)
{
  static const char *const names[] = {"Digest", "Repr-Digest", "Last-Modified", "Expect",
                                      NULL}; /* RFC 9110 section 15.4 */
  static const char content[] = "Content-";
  size_t content_len = sizeof content - 1;
  return (len > content_len && cpool__names_equal(name, content_len, content, content_len)) ||
         is_one_of(name, len, names);
}
