/* options: one table per options struct drives defaults, validation, text values and the generated docs/OPTIONS.md */
#ifndef CPOOL_CORE_OPTIONS_H
#define CPOOL_CORE_OPTIONS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum cpool__option_type {
  CPOOL__OPTION_INT32,
  CPOOL__OPTION_INT64,
  CPOOL__OPTION_DOUBLE,
  CPOOL__OPTION_TEXT,
  CPOOL__OPTION_CHOICE
};
enum cpool__option_flags {
  CPOOL__OPTION_LIVE = 1, /* cpool_http_reconfigure or cpool_ws_reconfigure may change it */
  CPOOL__OPTION_OFF = 2   /* CPOOL_OFF is legal */
};

/* A choice is an int32_t field with named values. */
struct cpool__choice {
  const char *name; /* NULL ends the array */
  int32_t value;
};

struct cpool__option {
  const char *key; /* the field's name; NULL ends the table */
  enum cpool__option_type type;
  size_t offset;
  const char *unit; /* "ms", "bytes", "" */
  double minimum, maximum,
      standard; /* exact in a double; a default that is off is -1. 0 is in range only when it is the default */
  const char *standard_text; /* how the document names the default where `standard` cannot; TEXT, NULL: none */
  const struct cpool__choice *choices;
  int flags;
  const char *meaning; /* one line */
};

struct cpool__option_table {
  const char *name; /* "http": in error texts and the document's headings */
  const struct cpool__option *options;
};

/* Replaces each 0 by its default and checks each value; a TEXT stays as it is (NULL included) and is refused when it
 * has control bytes. CPOOL_EINVAL (recorded: key, value, range; never a text, it may be a secret). `options` is the
 * library's own full-size copy. */
int cpool__options_resolve(const struct cpool__option_table *table, void *options);
/* Parses `value` into the field `key`. Numbers: decimal, nothing before or after them, at most 18 digits (DOUBLE:
 * 15, with or without a point); "off" where legal; choices by name. `caller_size` is the size of the caller's
 * struct: a field beyond it is unknown. CPOOL_EINVAL (recorded; nothing is changed). Text fields keep the pointer,
 * "" included. Elsewhere "" sets the default, and a 0 that is out of range is refused here (a caller who writes 0
 * does not mean the default). */
int cpool__options_set(const struct cpool__option_table *table, void *options, size_t caller_size, const char *key,
                       const char *value);
/* The first key that is not live and differs between two resolved structs (texts by content), or NULL. */
const char *cpool__options_frozen_change(const struct cpool__option_table *table, const void *in_force,
                                         const void *wanted);
/* Copies what is live, and writes nothing else: other threads may be reading that. */
void cpool__options_take_live(const struct cpool__option_table *table, void *to, const void *from);
const struct cpool__option *cpool__options_find(const struct cpool__option_table *table, const char *key);
/* The table as a Markdown section. */
void cpool__options_document(const struct cpool__option_table *table, FILE *out);

#endif
