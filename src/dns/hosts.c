/* hosts: the addresses that a hosts file gives to names (hosts(5)), read again when the file has changed
 *
 * A line is: address, names, comment; fields end at blanks, '#' ends the line, CR is a blank. The map is built beside
 * the one in force and replaces it when it is whole. A file is known by device, inode, size and modification time. */
#include "dns/hosts.h"

#include <cpool.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/list.h"
#include "base/memory.h"

enum { NAME_MAX_BYTES = 253 };

static struct cpool__hosts_name *name_of(const struct cpool__table_entry *entry)
{
  return cpool__container_of(entry, struct cpool__hosts_name, entry);
}

static int same_name(const struct cpool__table_entry *entry, const void *key, size_t len)
{
  const struct cpool__hosts_name *name = name_of(entry);
  return name->len == len && memcmp(name->name, key, len) == 0;
}

void cpool__hosts_map_init(struct cpool__hosts_map *map)
{
  cpool__table_init(&map->names, same_name);
  map->first = NULL;
}

void cpool__hosts_map_fini(struct cpool__hosts_map *map)
{
  cpool__table_fini(&map->names);
  while (map->first != NULL) {
    struct cpool__hosts_name *name = map->first;
    map->first = name->next;
    cpool__free(name->addresses);
    cpool__free(name);
  }
}

const struct cpool__hosts_name *cpool__hosts_map_find(struct cpool__hosts_map *map, const char *name)
{
  struct cpool__table_entry *entry = cpool__table_find(&map->names, name, strlen(name));
  return entry == NULL ? NULL : name_of(entry);
}

static int add_address(struct cpool__hosts_name *name, const struct cpool__address *address)
{
  for (int i = 0; i < name->count; i++)
    if (cpool__address_equal(&name->addresses[i], address))
      return CPOOL_OK;
  if (name->count == CPOOL__HOSTS_ADDRESSES)
    return CPOOL_OK;
  if ((name->count & (name->count - 1)) == 0) { /* full at 0, 1, 2, 4 ... */
    size_t capacity = name->count == 0 ? 1 : 2 * (size_t) name->count;
    struct cpool__address *addresses = cpool__realloc(name->addresses, capacity * sizeof *addresses);
    if (addresses == NULL)
      return CPOOL_ENOMEM;
    name->addresses = addresses;
  }
  name->addresses[name->count++] = *address;
  return CPOOL_OK;
}

static int add(struct cpool__hosts_map *map, const char *field, size_t len, const struct cpool__address *address)
{
  char key[NAME_MAX_BYTES];
  if (len > 0 && field[len - 1] == '.')
    len--;
  if (len == 0 || len > sizeof key)
    return CPOOL_OK;
  for (size_t i = 0; i < len; i++)
    key[i] = (char) (field[i] >= 'A' && field[i] <= 'Z' ? field[i] + ('a' - 'A') : field[i]);

  struct cpool__table_entry *entry = cpool__table_find(&map->names, key, len);
  if (entry != NULL)
    return add_address(name_of(entry), address);
  struct cpool__hosts_name *name = cpool__calloc(1, sizeof *name + len);
  if (name == NULL)
    return CPOOL_ENOMEM;
  name->len = len;
  memcpy(name->name, key, len);
  if (cpool__table_insert(&map->names, &name->entry, key, len) != 0) {
    cpool__free(name);
    return CPOOL_ENOMEM;
  }
  name->next = map->first;
  map->first = name;
  return add_address(name, address);
}

/* NUL counts as a blank, so that junk cannot hide in a field. */
static bool blank(char c)
{
  return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v' || c == '\0';
}

/* The next field of the line in [*at, end); false when there is none. */
static bool next_field(const char **at, const char *end, const char **field, size_t *len)
{
  const char *p = *at;
  while (p < end && blank(*p))
    p++;
  *field = p;
  while (p < end && !blank(*p))
    p++;
  *at = p;
  *len = (size_t) (p - *field);
  return *len > 0;
}

static int parse_line(struct cpool__hosts_map *map, const char *line, const char *end)
{
  const char *comment = memchr(line, '#', (size_t) (end - line));
  if (comment != NULL)
    end = comment;

  const char *field;
  size_t len;
  if (!next_field(&line, end, &field, &len))
    return CPOOL_OK;
  char literal[CPOOL__ADDRESS_TEXT];
  struct cpool__address address;
  if (len >= sizeof literal)
    return CPOOL_OK;
  memcpy(literal, field, len);
  literal[len] = '\0';
  if (!cpool__address_parse(&address, literal, 0))
    return CPOOL_OK;

  int status = CPOOL_OK;
  while (status == CPOOL_OK && next_field(&line, end, &field, &len))
    status = add(map, field, len, &address);
  return status;
}

int cpool__hosts_map_parse(struct cpool__hosts_map *map, const char *text, size_t len)
{
  int status = CPOOL_OK;
  const char *end = text + len;
  while (status == CPOOL_OK && text < end) {
    const char *line_end = memchr(text, '\n', (size_t) (end - text));
    if (line_end == NULL)
      line_end = end;
    status = parse_line(map, text, line_end);
    text = line_end < end ? line_end + 1 : end;
  }
  return status;
}

/* ---- the file */

int cpool__hosts_init(struct cpool__hosts *hosts, const char *path)
{
  *hosts = (struct cpool__hosts){.path = cpool__strdup(path)};
  cpool__hosts_map_init(&hosts->map);
  return hosts->path == NULL ? CPOOL_ENOMEM : CPOOL_OK;
}

void cpool__hosts_fini(struct cpool__hosts *hosts)
{
  cpool__hosts_map_fini(&hosts->map);
  cpool__free(hosts->path);
  hosts->path = NULL;
}

static bool same_file(const struct cpool__hosts *hosts, const struct stat *st)
{
  return hosts->seen.present && hosts->seen.size == (int64_t) st->st_size &&
         hosts->seen.inode == (uint64_t) st->st_ino && hosts->seen.device == (uint64_t) st->st_dev &&
         hosts->seen.mtime_s == (int64_t) st->st_mtim.tv_sec && hosts->seen.mtime_ns == (int64_t) st->st_mtim.tv_nsec;
}

static void replace(struct cpool__hosts *hosts, struct cpool__hosts_map *map)
{
  struct cpool__hosts_map old = hosts->map;
  hosts->map = *map;
  cpool__hosts_map_fini(&old);
}

static void forget_file(struct cpool__hosts *hosts)
{
  struct cpool__hosts_map empty;
  cpool__hosts_map_init(&empty);
  replace(hosts, &empty);
  hosts->seen.present = false;
}

/* At most the cap; a line cut by it is dropped. -1: a read error. */
static ssize_t read_capped(int fd, char *text, size_t cap)
{
  size_t len = 0;
  while (len < cap) {
    ssize_t got = read(fd, text + len, cap - len);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return -1;
    if (got == 0)
      return (ssize_t) len;
    len += (size_t) got;
  }
  const char *last = memrchr(text, '\n', len);
  return last == NULL ? 0 : last + 1 - text;
}

static int load(struct cpool__hosts *hosts)
{
  int status = CPOOL_OK;
  char *text = NULL;
  struct cpool__hosts_map map;
  cpool__hosts_map_init(&map);

  struct stat st;
  int fd = open(hosts->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* non-blocking: the path may have become a FIFO */
  if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
    hosts->open_errno = errno;
    status = CPOOL_ESYSTEM;
    goto done;
  }
  if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
    goto done;
  size_t cap = st.st_size < CPOOL__HOSTS_CAP_BYTES ? (size_t) st.st_size + 1 : (size_t) CPOOL__HOSTS_CAP_BYTES;
  text = cpool__malloc(cap);
  if (text == NULL) {
    status = CPOOL_ENOMEM;
    goto done;
  }
  ssize_t len = read_capped(fd, text, cap);
  if (len < 0)
    goto done;
  status = cpool__hosts_map_parse(&map, text, (size_t) len);
  if (status != CPOOL_OK)
    goto done;

  replace(hosts, &map);
  cpool__hosts_map_init(&map);
  hosts->seen.present = true;
  hosts->seen.size = (int64_t) st.st_size;
  hosts->seen.inode = (uint64_t) st.st_ino;
  hosts->seen.device = (uint64_t) st.st_dev;
  hosts->seen.mtime_s = (int64_t) st.st_mtim.tv_sec;
  hosts->seen.mtime_ns = (int64_t) st.st_mtim.tv_nsec;

done:
  cpool__free(text);
  if (fd >= 0)
    close(fd);
  cpool__hosts_map_fini(&map);
  return status;
}

static int refresh(struct cpool__hosts *hosts, uint64_t now_ms)
{
  if (hosts->checked && now_ms - hosts->checked_ms < CPOOL__HOSTS_CHECK_MS)
    return CPOOL_OK;
  struct stat st;
  int status = CPOOL_OK;
  if (stat(hosts->path, &st) == 0) {
    if (!S_ISREG(st.st_mode))
      forget_file(hosts);
    else if (!same_file(hosts, &st))
      status = load(hosts);
  } else if (errno == ENOENT || errno == ENOTDIR) {
    forget_file(hosts);
  }
  if (status == CPOOL_OK) {
    hosts->checked = true;
    hosts->checked_ms = now_ms;
  }
  /* without a descriptor the next lookup tries again, and goes by what was read before, if anything was */
  return status == CPOOL_ESYSTEM && hosts->seen.present ? CPOOL_OK : status;
}

int cpool__hosts_find(struct cpool__hosts *hosts, const char *name, uint64_t now_ms,
                      const struct cpool__hosts_name **out)
{
  int status = refresh(hosts, now_ms);
  if (status == CPOOL_OK)
    *out = cpool__hosts_map_find(&hosts->map, name);
  return status;
}
