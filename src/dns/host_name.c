/* host_name: letters, digits, '-', '_' and '.', in labels of 1 to 63 bytes (RFC 1123 section 2.1, and '_' as it is met) */
#include "dns/host_name.h"

#include <string.h>

enum { LABEL_MAX = 63 };

bool cpool__host_name_normalise(const char *name, char out[CPOOL__DNS_NAME_BYTES + 1])
{
  size_t len = strlen(name), label_len = 0;
  if (len > 0 && name[len - 1] == '.')
    len--;
  if (len == 0 || len > CPOOL__DNS_NAME_BYTES)
    return false;
  for (size_t i = 0; i < len; i++) {
    char c = name[i];
    if (c >= 'A' && c <= 'Z')
      c = (char) (c + ('a' - 'A'));
    if (c == '.') {
      if (label_len == 0)
        return false;
      label_len = 0;
    } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
      if (++label_len > LABEL_MAX)
        return false;
    } else {
      return false;
    }
    out[i] = c;
  }
  out[len] = '\0';
  return label_len > 0;
}

bool cpool__host_name_is_local(const char *name)
{
  static const char localhost[] = "localhost";
  size_t len = strlen(name), tail = sizeof localhost - 1;
  if (len < tail || strcmp(name + len - tail, localhost) != 0)
    return false;
  return len == tail || name[len - tail - 1] == '.';
}
