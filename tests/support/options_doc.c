/* options_doc: prints docs/OPTIONS.md from the tables that check the values */
#include <stdio.h>

#include "core/queue.h"
#include "http/http_options.h"
#include "http/session.h"
#include "ws/manager.h"

int main(void)
{
  fputs(
      "# Options\n\n"
      "Each section is one options struct of `cpool.h`; a key is a field of it, and what the struct's `_options_set` "
      "call takes as text where it has\n"
      "one. This file is printed by the program `options_doc` from the tables that the library checks values "
      "against.\n\n"
      "A field that is 0 or NULL means the default. `off` is `CPOOL_OFF` (-1) in the struct: no limit, or not at "
      "all. A value that is not allowed is\n"
      "refused with `CPOOL_EINVAL`, never corrected. *Live* options of a pool can be changed by "
      "`cpool_http_reconfigure`, those of a manager (ws) by `cpool_ws_reconfigure`; nothing of a dial (ws_connect), a\n"
      "queue or a session can be changed after it was made.\n\n",
      stdout);
  cpool__options_document(&cpool__http_option_table, stdout);
  cpool__options_document(&cpool__session_option_table, stdout);
  cpool__options_document(&cpool__ws_option_table, stdout);
  cpool__options_document(&cpool__ws_connect_option_table, stdout);
  cpool__options_document(&cpool__queue_option_table, stdout);
  return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
