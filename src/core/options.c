/* options: each option is one row of a table, and everything that handles options walks that table
 *
 * A number lives in its field as int32_t, int64_t or double and passes through here as struct number. Integers are
 * never taken through a double; the bounds of the table are exact in both. Text is parsed and printed by hand: the
 * decimal point of strtod and printf follows the locale of the host program. */
#include "core/options.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <cpool.h>

#include "core/error.h"

enum { INTEGER_DIGITS = 18, REAL_DIGITS = 15, NUMBER_BYTES = 48, LIST_BYTES = 160 };

struct number {
  int64_t integer;
  double real; /* DOUBLE only */
};

static size_t width_of(const struct cpool__option *option)
{
  switch (option->type) {
  case CPOOL__OPTION_INT32:
  case CPOOL__OPTION_CHOICE:
    return sizeof(int32_t);
  case CPOOL__OPTION_INT64:
    return sizeof(int64_t);
  case CPOOL__OPTION_DOUBLE:
    return sizeof(double);
  default:
    return sizeof(char *);
  }
}

static struct number field_get(const struct cpool__option *option, const void *options)
{
  const char *field = (const char *) options + option->offset;
  struct number number = {0, 0};
  if (option->type == CPOOL__OPTION_INT64) {
    memcpy(&number.integer, field, sizeof number.integer);
  } else if (option->type == CPOOL__OPTION_DOUBLE) {
    memcpy(&number.real, field, sizeof number.real);
  } else {
    int32_t narrow;
    memcpy(&narrow, field, sizeof narrow);
    number.integer = narrow;
  }
  return number;
}

/* The value is in the field's range. */
static void field_set(const struct cpool__option *option, void *options, struct number number)
{
  char *field = (char *) options + option->offset;
  if (option->type == CPOOL__OPTION_INT64) {
    memcpy(field, &number.integer, sizeof number.integer);
  } else if (option->type == CPOOL__OPTION_DOUBLE) {
    memcpy(field, &number.real, sizeof number.real);
  } else {
    int32_t narrow = (int32_t) number.integer;
    memcpy(field, &narrow, sizeof narrow);
  }
}

static const char *text_get(const struct cpool__option *option, const void *options)
{
  const char *text;
  memcpy(&text, (const char *) options + option->offset, sizeof text);
  return text;
}

static struct number standard_of(const struct cpool__option *option)
{
  bool real = option->type == CPOOL__OPTION_DOUBLE;
  return (struct number){real ? 0 : (int64_t) option->standard, real ? option->standard : 0};
}

static bool is_zero(struct number number)
{
  return number.integer == 0 && !(number.real < 0 || number.real > 0) && number.real == number.real;
}

static const struct cpool__choice *choice_by_value(const struct cpool__option *option, int64_t value)
{
  const struct cpool__choice *choice = option->choices;
  while (choice->name != NULL && choice->value != value)
    choice++;
  return choice->name == NULL ? NULL : choice;
}

/* Whether a value other than the 0 for "default" may stand in the field. */
static bool in_range(const struct cpool__option *option, struct number number)
{
  if (option->type == CPOOL__OPTION_DOUBLE) {
    if ((option->flags & CPOOL__OPTION_OFF) != 0 && number.real >= CPOOL_OFF && number.real <= CPOOL_OFF)
      return true;
    return number.real >= option->minimum && number.real <= option->maximum; /* not so for NaN */
  }
  if ((option->flags & CPOOL__OPTION_OFF) != 0 && number.integer == CPOOL_OFF)
    return true;
  if (option->type == CPOOL__OPTION_CHOICE)
    return choice_by_value(option, number.integer) != NULL;
  return number.integer >= (int64_t) option->minimum && number.integer <= (int64_t) option->maximum;
}

/* At most six decimals; far out of every range only the magnitude. */
static void print_number(char *out, size_t size, const struct cpool__option *option, struct number number)
{
  double real = number.real;
  if (option->type != CPOOL__OPTION_DOUBLE) {
    snprintf(out, size, "%" PRId64, number.integer);
  } else if (!(real > -1e12 && real < 1e12)) {
    snprintf(out, size, "%.0e", real); /* infinities and NaN too; without decimals there is no decimal point */
  } else {
    int64_t millionths = (int64_t) (real * 1e6 + (real < 0 ? -0.5 : 0.5));
    uint64_t whole = (uint64_t) (millionths < 0 ? -millionths : millionths);
    snprintf(out, size, "%s%" PRIu64 ".%06u", millionths < 0 ? "-" : "", whole / 1000000, (unsigned) (whole % 1000000));
    size_t len = strlen(out);
    while (out[len - 1] == '0')
      len--;
    out[out[len - 1] == '.' ? len - 1 : len] = '\0';
  }
}

static void print_bound(char *out, size_t size, const struct cpool__option *option, double bound)
{
  bool real = option->type == CPOOL__OPTION_DOUBLE;
  print_number(out, size, option, (struct number){real ? 0 : (int64_t) bound, real ? bound : 0});
}

/* "1..100 (or off)" or "any, public" */
static void print_allowed(char *out, size_t size, const struct cpool__option *option)
{
  size_t len = 0;
  out[0] = '\0';
  if (option->type == CPOOL__OPTION_CHOICE) {
    for (const struct cpool__choice *choice = option->choices; choice->name != NULL && len < size; choice++)
      len += (size_t) snprintf(out + len, size - len, "%s%s", len == 0 ? "" : ", ", choice->name);
  } else {
    char minimum[NUMBER_BYTES], maximum[NUMBER_BYTES];
    print_bound(minimum, sizeof minimum, option, option->minimum);
    print_bound(maximum, sizeof maximum, option, option->maximum);
    len = (size_t) snprintf(out, size, "%s..%s", minimum, maximum);
  }
  if ((option->flags & CPOOL__OPTION_OFF) != 0 && len < size)
    snprintf(out + len, size - len, " (or off)");
}

static int refuse_value(const struct cpool__option_table *table, const struct cpool__option *option, const char *value)
{
  char allowed[LIST_BYTES];
  print_allowed(allowed, sizeof allowed, option);
  return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s option %s: %.40s %s %s", table->name, option->key, value,
                       option->type == CPOOL__OPTION_CHOICE ? "is none of" : "is out of range", allowed);
}

static int check_text(const struct cpool__option_table *table, const struct cpool__option *option, const char *text)
{
  for (const char *at = text; at != NULL && *at != '\0'; at++) {
    if ((unsigned char) *at < 0x20 || *at == 0x7f)
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                           "%s option %s: the text has a control byte at position %zu", table->name, option->key,
                           (size_t) (at - text));
  }
  return CPOOL_OK;
}

int cpool__options_resolve(const struct cpool__option_table *table, void *options)
{
  for (const struct cpool__option *option = table->options; option->key != NULL; option++) {
    if (option->type == CPOOL__OPTION_TEXT) {
      int status = check_text(table, option, text_get(option, options));
      if (status != CPOOL_OK)
        return status;
      continue;
    }
    struct number number = field_get(option, options);
    if (is_zero(number)) {
      number = standard_of(option);
      assert(in_range(option, number));
      field_set(option, options, number);
    } else if (!in_range(option, number)) {
      char value[NUMBER_BYTES];
      print_number(value, sizeof value, option, number);
      return refuse_value(table, option, value);
    }
  }
  return CPOOL_OK;
}

/* -?digits(.digits)? and nothing else; the point only where `decimals` is there to get the digits after it. */
static bool parse_digits(const char *text, int max_digits, int64_t *digits, int *decimals)
{
  bool negative = *text == '-';
  int count = 0, after = -1;
  int64_t value = 0;
  for (text += negative; *text != '\0'; text++) {
    if (*text == '.' && decimals != NULL && after < 0 && count > 0) {
      after = 0;
      continue;
    }
    if (*text < '0' || *text > '9' || ++count > max_digits)
      return false;
    value = value * 10 + (*text - '0');
    after += after >= 0;
  }
  if (count == 0 || after == 0)
    return false;
  *digits = negative ? -value : value;
  if (decimals != NULL)
    *decimals = after < 0 ? 0 : after;
  return true;
}

static bool parse_value(const struct cpool__option *option, const char *text, struct number *out)
{
  if ((option->flags & CPOOL__OPTION_OFF) != 0 && strcmp(text, "off") == 0) {
    *out = (struct number){CPOOL_OFF, option->type == CPOOL__OPTION_DOUBLE ? CPOOL_OFF : 0};
    return true;
  }
  if (option->type == CPOOL__OPTION_CHOICE) {
    for (const struct cpool__choice *choice = option->choices; choice->name != NULL; choice++) {
      if (strcmp(choice->name, text) == 0) {
        *out = (struct number){choice->value, 0};
        return true;
      }
    }
    return false;
  }
  *out = (struct number){0, 0};
  if (option->type != CPOOL__OPTION_DOUBLE)
    return parse_digits(text, INTEGER_DIGITS, &out->integer, NULL);
  int64_t digits;
  int decimals;
  if (!parse_digits(text, REAL_DIGITS, &digits, &decimals))
    return false;
  double scale = 1;
  while (decimals-- > 0)
    scale *= 10;
  out->real = (double) digits / scale; /* both exact, so the quotient is the nearest double */
  return true;
}

int cpool__options_set(const struct cpool__option_table *table, void *options, size_t caller_size, const char *key,
                       const char *value)
{
  if (key == NULL || value == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s options: the %s is NULL", table->name,
                         key == NULL ? "key" : "value");
  const struct cpool__option *option = cpool__options_find(table, key);
  if (option == NULL || option->offset + width_of(option) > caller_size)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s options have no key \"%.64s\"%s", table->name, key,
                         option == NULL ? "" : " in a struct of this size");
  if (option->type == CPOOL__OPTION_TEXT) {
    int status = check_text(table, option, value);
    if (status == CPOOL_OK)
      memcpy((char *) options + option->offset, &value, sizeof value);
    return status;
  }
  struct number number = {0, 0};
  if (value[0] != '\0') {
    bool parsed = parse_value(option, value, &number);
    if (!parsed && option->type != CPOOL__OPTION_CHOICE)
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s option %s: \"%.40s\" is no %s%s", table->name,
                           option->key, value, option->type == CPOOL__OPTION_DOUBLE ? "decimal number" : "whole number",
                           (option->flags & CPOOL__OPTION_OFF) != 0 ? " (or off)" : "");
    if (!parsed || !in_range(option, number))
      return refuse_value(table, option, value);
    assert(!is_zero(number) || is_zero(standard_of(option)));
  }
  field_set(option, options, number);
  return CPOOL_OK;
}

const char *cpool__options_frozen_change(const struct cpool__option_table *table, const void *in_force,
                                         const void *wanted)
{
  for (const struct cpool__option *option = table->options; option->key != NULL; option++) {
    if ((option->flags & CPOOL__OPTION_LIVE) != 0)
      continue;
    bool same;
    if (option->type == CPOOL__OPTION_TEXT) {
      const char *old = text_get(option, in_force), *new = text_get(option, wanted);
      same = old == new || (old != NULL && new != NULL &&strcmp(old, new) == 0);
    } else { /* resolved numbers: neither NaN nor a second zero */
      same = memcmp((const char *) in_force + option->offset, (const char *) wanted + option->offset,
                    width_of(option)) == 0;
    }
    if (!same)
      return option->key;
  }
  return NULL;
}

void cpool__options_take_live(const struct cpool__option_table *table, void *to, const void *from)
{
  for (const struct cpool__option *option = table->options; option->key != NULL; option++)
    if ((option->flags & CPOOL__OPTION_LIVE) != 0)
      memcpy((char *) to + option->offset, (const char *) from + option->offset, width_of(option));
}

const struct cpool__option *cpool__options_find(const struct cpool__option_table *table, const char *key)
{
  const struct cpool__option *option = table->options;
  while (option->key != NULL && strcmp(option->key, key) != 0)
    option++;
  return option->key == NULL ? NULL : option;
}

static void print_standard(char *out, size_t size, const struct cpool__option *option)
{
  struct number standard = standard_of(option);
  const struct cpool__choice *choice =
      option->type == CPOOL__OPTION_CHOICE ? choice_by_value(option, standard.integer) : NULL;
  if (option->standard_text != NULL)
    snprintf(out, size, "%s", option->standard_text);
  else if (option->type == CPOOL__OPTION_TEXT)
    snprintf(out, size, "none");
  else if (choice != NULL)
    snprintf(out, size, "%s", choice->name);
  else if ((option->flags & CPOOL__OPTION_OFF) != 0 && option->standard < 0)
    snprintf(out, size, "off");
  else
    print_number(out, size, option, standard);
}

void cpool__options_document(const struct cpool__option_table *table, FILE *out)
{
  fprintf(out, "## %s options\n\n| key | unit | default | allowed | live | meaning |\n|---|---|---|---|---|---|\n",
          table->name);
  for (const struct cpool__option *option = table->options; option->key != NULL; option++) {
    char standard[LIST_BYTES], allowed[LIST_BYTES] = "text";
    print_standard(standard, sizeof standard, option);
    if (option->type != CPOOL__OPTION_TEXT)
      print_allowed(allowed, sizeof allowed, option);
    fprintf(out, "| `%s` | %s | %s | %s | %s | %s |\n", option->key, option->unit, standard, allowed,
            (option->flags & CPOOL__OPTION_LIVE) != 0 ? "yes" : "no", option->meaning);
  }
  fputc('\n', out);
}
