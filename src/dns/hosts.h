/* hosts: the addresses that a hosts file gives to names (hosts(5)), read again when the file has changed. Loop thread
 * only. */
#ifndef CPOOL_DNS_HOSTS_H
#define CPOOL_DNS_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/table.h"
#include "dns/address.h"

enum {
  CPOOL__HOSTS_CAP_BYTES = 1 << 20, /* the rest of a longer file is not read: it blocks the loop while it is read */
  CPOOL__HOSTS_CHECK_MS = 1000,     /* the file is looked at once in this time */
  CPOOL__HOSTS_ADDRESSES = 64       /* kept per name */
};

struct cpool__hosts_name {
  struct cpool__table_entry entry;
  struct cpool__hosts_name *next;   /* all names of a file */
  struct cpool__address *addresses; /* port 0; both families in the order of the file, none twice */
  int count;
  size_t len;
  char name[]; /* lower case, no trailing dot, not terminated */
};

/* What one text says. */
struct cpool__hosts_map {
  struct cpool__table names;
  struct cpool__hosts_name *first;
};

struct cpool__hosts {
  char *path;
  struct cpool__hosts_map map;
  struct {
    bool present;
    int64_t mtime_s, mtime_ns, size;
    uint64_t device, inode;
  } seen; /* of the file that the map was made from */
  bool checked;
  int open_errno; /* of the last CPOOL_ESYSTEM */
  uint64_t checked_ms;
};

void cpool__hosts_map_init(struct cpool__hosts_map *map);
void cpool__hosts_map_fini(struct cpool__hosts_map *map);
/* Adds what `text` says. Lines that make no sense are passed over. CPOOL_OK or CPOOL_ENOMEM (part of it is in the map
 * then). */
int cpool__hosts_map_parse(struct cpool__hosts_map *map, const char *text, size_t len);
/* NULL: not in it. `name` is in lower case without trailing dot. */
const struct cpool__hosts_name *cpool__hosts_map_find(struct cpool__hosts_map *map, const char *name);

/* CPOOL_OK or CPOOL_ENOMEM; the path is copied, the file not touched. */
int cpool__hosts_init(struct cpool__hosts *hosts, const char *path);
void cpool__hosts_fini(struct cpool__hosts *hosts);
/* out: valid until the next find, NULL when the file does not name it. A file that is missing or no regular file is
 * an empty one; one that cannot be opened or read just now leaves in force what was read before. CPOOL_OK,
 * CPOOL_ENOMEM, or CPOOL_ESYSTEM (hosts->open_errno): no descriptor was left to read it and nothing was read before. */
int cpool__hosts_find(struct cpool__hosts *hosts, const char *name, uint64_t now_ms,
                      const struct cpool__hosts_name **out);

#endif
