/* fuzz_hosts: any bytes as a hosts file; what is found must have come from the text */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cpool.h>

#include "dns/hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether `name` stands in the text, case aside. */
static int mentioned(const uint8_t *data, size_t size, const char *name, size_t len)
{
  for (size_t at = 0; at + len <= size; at++) {
    size_t i = 0;
    while (i < len) {
      char c = (char) data[at + i];
      if ((c >= 'A' && c <= 'Z' ? (char) (c + ('a' - 'A')) : c) != name[i])
        break;
      i++;
    }
    if (i == len)
      return 1;
  }
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct cpool__hosts_map map;
  cpool__hosts_map_init(&map);
  int status = cpool__hosts_map_parse(&map, (const char *) data, size);
  if (status != CPOOL_OK)
    abort();
  size_t count = 0;
  for (const struct cpool__hosts_name *name = map.first; name != NULL; name = name->next) {
    count++;
    if (name->count < 1 || name->count > CPOOL__HOSTS_ADDRESSES || name->len < 1 || name->len > 253)
      abort();
    if (memchr(name->name, '\n', name->len) != NULL || memchr(name->name, '#', name->len) != NULL)
      abort();
    char key[254];
    memcpy(key, name->name, name->len);
    key[name->len] = '\0';
    if (strlen(key) != name->len || cpool__hosts_map_find(&map, key) != name ||
        !mentioned(data, size, name->name, name->len))
      abort();
  }
  if (count != map.names.count)
    abort();
  cpool__hosts_map_fini(&map);
  return 0;
}
