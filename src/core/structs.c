/* structs: sized structs cross the ABI here: an older caller's is short, a newer caller's long */
#include "core/structs.h"

#include <stdint.h>
#include <string.h>
#include <cpool.h>

#include "core/error.h"

/* Larger than a struct of any version: a size beyond it was never initialised, and must not be read to its end. */
enum { SIZE_LIMIT_BYTES = 65536 };

static size_t size_of(const void *caller)
{
  size_t size;
  memcpy(&size, caller, sizeof size);
  return size;
}

/* CPOOL_OK when the caller's struct can be used at all. */
static int check_size(const void *caller, const char *what)
{
  if (caller == NULL)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: NULL", what);
  size_t size = size_of(caller);
  if (size < sizeof(size_t) || size > SIZE_LIMIT_BYTES)
    return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER, "%s: its size field says %zu; call its _init first", what,
                         size);
  return CPOOL_OK;
}

int cpool__struct_read(void *own, size_t own_size, const void *caller, const char *what)
{
  int status = check_size(caller, what);
  if (status != CPOOL_OK)
    return status;
  size_t size = size_of(caller);
  const unsigned char *bytes = caller;
  for (size_t at = own_size; at < size; at++) {
    if (bytes[at] != 0)
      return cpool__refuse(CPOOL_EINVAL, CPOOL_LAYER_CALLER,
                           "%s: a field at byte %zu is set that version %s does not know", what, at, cpool_version());
  }
  memset(own, 0, own_size);
  memcpy(own, caller, size < own_size ? size : own_size);
  memcpy(own, &own_size, sizeof own_size);
  return CPOOL_OK;
}

int cpool__struct_write(void *caller, const void *own, size_t own_size, const char *what)
{
  int status = check_size(caller, what);
  if (status != CPOOL_OK)
    return status;
  size_t size = size_of(caller);
  if (size > own_size)
    size = own_size;
  memcpy((char *) caller + sizeof(size_t), (const char *) own + sizeof(size_t), size - sizeof(size_t));
  return CPOOL_OK;
}

static void init_sized(void *caller, size_t size)
{
  if (caller == NULL || size < sizeof(size_t))
    return;
  memset(caller, 0, size);
  memcpy(caller, &size, sizeof size);
}

void cpool_error_init_sized(cpool_error *err, size_t size)
{
  init_sized(err, size);
}

void cpool_runtime_options_init_sized(cpool_runtime_options *options, size_t size)
{
  init_sized(options, size);
}

void cpool_queue_options_init_sized(cpool_queue_options *options, size_t size)
{
  init_sized(options, size);
}

void cpool_http_options_init_sized(cpool_http_options *options, size_t size)
{
  init_sized(options, size);
}

void cpool_http_stats_init_sized(cpool_http_stats *stats, size_t size)
{
  init_sized(stats, size);
}

void cpool_histogram_init_sized(cpool_histogram *histogram, size_t size)
{
  init_sized(histogram, size);
}

void cpool_session_options_init_sized(cpool_session_options *options, size_t size)
{
  init_sized(options, size);
}

void cpool_request_init_sized(cpool_request *req, size_t size)
{
  init_sized(req, size);
}

void cpool_sse_event_init_sized(cpool_sse_event *event, size_t size)
{
  init_sized(event, size);
}

void cpool_response_info_init_sized(cpool_response_info *info, size_t size)
{
  init_sized(info, size);
}

void cpool_ws_options_init_sized(cpool_ws_options *options, size_t size)
{
  init_sized(options, size);
}

void cpool_ws_listen_options_init_sized(cpool_ws_listen_options *options, size_t size)
{
  init_sized(options, size);
}

void cpool_ws_upgrade_init_sized(cpool_ws_upgrade *upgrade, size_t size)
{
  init_sized(upgrade, size);
}

void cpool_ws_health_init_sized(cpool_ws_health *health, size_t size)
{
  init_sized(health, size);
}

void cpool_ws_stats_init_sized(cpool_ws_stats *stats, size_t size)
{
  init_sized(stats, size);
}

void cpool_ws_info_init_sized(cpool_ws_info *info, size_t size)
{
  init_sized(info, size);
}

void cpool_ws_connect_options_init_sized(cpool_ws_connect_options *options, size_t size)
{
  init_sized(options, size);
}

void cpool_ws_adopt_options_init_sized(cpool_ws_adopt_options *options, size_t size)
{
  init_sized(options, size);
}
