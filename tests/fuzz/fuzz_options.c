/* fuzz_options: any key and value either lands in its own field and in its range, or is refused and changes nothing
 *
 * Input: the key, a newline, the value. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cpool.h>

#include "core/options.h"

struct options {
  size_t size;
  int32_t count, kind;
  int64_t time_ms;
  double share_ratio;
  const char *name;
};

static const struct cpool__choice kinds[] = {{"a", 1}, {"bb", 2}, {NULL, 0}};

static const struct cpool__option rows[] = {
    {"n", CPOOL__OPTION_INT32, offsetof(struct options, count), "", -5, 2147483647, 0, NULL, NULL, 0, "count"},
    {"k", CPOOL__OPTION_CHOICE, offsetof(struct options, kind), "", 0, 0, 2, NULL, kinds, CPOOL__OPTION_OFF, "kind"},
    {"t", CPOOL__OPTION_INT64, offsetof(struct options, time_ms), "ms", 10, 1e15, -1, NULL, NULL, CPOOL__OPTION_OFF,
     "time"},
    {"s", CPOOL__OPTION_DOUBLE, offsetof(struct options, share_ratio), "", 0.25, 4, 1, NULL, NULL, CPOOL__OPTION_OFF,
     "share"},
    {"x", CPOOL__OPTION_TEXT, offsetof(struct options, name), "", 0, 0, 0, NULL, NULL, 0, "name"},
    {.key = NULL},
};

static const struct cpool__option_table table = {"fuzz", rows};

static void must(int holds)
{
  if (!holds)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size > 4096)
    return 0;
  char *key = malloc(size + 2); /* of its exact size, so that a read beyond it shows */
  must(key != NULL);
  memcpy(key, data, size);
  key[size] = key[size + 1] = '\0';
  char *newline = strchr(key, '\n');
  char *value = newline == NULL ? key + size : newline + 1;
  if (newline != NULL)
    *newline = '\0';

  struct options options;
  memset(&options, 0, sizeof options);
  const struct options before = options;
  int status = cpool__options_set(&table, &options, sizeof options, key, value);
  must(status == CPOOL_OK || status == CPOOL_EINVAL);
  if (status == CPOOL_OK) {
    must(options.size == 0);
    must(options.count >= -5);
    must(options.kind == 0 || options.kind == 1 || options.kind == 2 || options.kind == CPOOL_OFF);
    must(options.time_ms == 0 || options.time_ms == CPOOL_OFF || options.time_ms >= 10);
    must((options.share_ratio >= 0 && options.share_ratio <= 4) || options.share_ratio <= CPOOL_OFF);
    must(options.name == NULL || options.name == value);
    must(cpool__options_resolve(&table, &options) == CPOOL_OK);
    const struct options resolved = options;
    must(cpool__options_resolve(&table, &options) == CPOOL_OK);
    must(cpool__options_frozen_change(&table, &resolved, &options) == NULL);
  } else {
    must(memcmp(&options, &before, sizeof options) == 0);
    cpool_error err;
    cpool_error_init(&err);
    must(cpool_last_error(&err) == CPOOL_OK && err.status == CPOOL_EINVAL &&
         memchr(err.text, '\0', sizeof err.text) != NULL);
    for (const char *at = err.text; *at != '\0'; at++)
      must((unsigned char) *at >= 0x20 && *at != 0x7f);
  }
  free(key);
  return 0;
}
