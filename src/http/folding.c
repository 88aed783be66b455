/* folding: a head whose first field is the continuation of none is refused before libcurl stores it */
#include "http/folding.h"

bool cpool__folding_piece(struct cpool__folding *folding, const char *piece, size_t len)
{
  if (len == 0)
    return true;
  bool begins = !folding->inside_line;
  folding->inside_line = piece[len - 1] != '\n';
  if (!begins)
    return true;
  if (piece[0] == '\r' || piece[0] == '\n') { /* the end of a head; another may follow an interim or a proxy's answer */
    folding->inside_head = false;
    return true;
  }
  if (!folding->inside_head) { /* the first line is not stored */
    folding->inside_head = true;
    return true;
  }
  if (!folding->stored && (piece[0] == ' ' || piece[0] == '\t'))
    return false;
  folding->stored = true;
  return true;
}
