/* status: names and sentences, all from the one map in the public header */
#include <cpool.h>

#define TEXT_OF(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *cpool_version(void)
{
  return VERSION_TEXT(CPOOL_VERSION_MAJOR, CPOOL_VERSION_MINOR, CPOOL_VERSION_PATCH);
}

const char *cpool_status_name(int status)
{
  switch (status) {
#define NAME_CASE(name, value, text)                                                                                   \
  case value:                                                                                                          \
    return #name;
    CPOOL_STATUS_MAP(NAME_CASE)
#undef NAME_CASE
  default:
    return "CPOOL_E?";
  }
}

const char *cpool_status_text(int status)
{
  switch (status) {
#define TEXT_CASE(name, value, text)                                                                                   \
  case value:                                                                                                          \
    return text;
    CPOOL_STATUS_MAP(TEXT_CASE)
#undef TEXT_CASE
  default:
    return "not a status of this library";
  }
}
