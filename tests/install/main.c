/* main: the smallest user of an installed libcpool; C99 and C++ compile it too */
#include <stdio.h>
#include <string.h>

#include <cpool.h>

int main(void)
{
  char built[32];
  cpool_http *pool = NULL;
  snprintf(built, sizeof built, "%d.%d.%d", CPOOL_VERSION_MAJOR, CPOOL_VERSION_MINOR, CPOOL_VERSION_PATCH);
  if (strcmp(built, cpool_version()) != 0)
    return 1;
  if (cpool_http_new(&pool, NULL, NULL) != CPOOL_OK)
    return 2;
  return cpool_http_close(pool, 1000) == CPOOL_OK ? 0 : 3;
}
