/* talk: one case with one endpoint: says its words as a client, and writes down what is heard */
#ifndef CPOOL_CONFORMANCE_TALK_H
#define CPOOL_CONFORMANCE_TALK_H

#include <stdint.h>

#include "conformance/cases.h"

enum conformance_result { CONFORMANCE_OK, CONFORMANCE_LENIENT, CONFORMANCE_DEVIATION };

enum { CONFORMANCE_TEXT = 1024 };

struct conformance_talk {
  enum conformance_result result;
  char wanted[CONFORMANCE_TEXT],
      heard[CONFORMANCE_TEXT]; /* words; a connection that ends without a close frame: "cut" */
};

/* `ca_file`: over TLS; NULL: plain. */
void conformance_talk(const struct conformance_case *one, uint16_t port, const char *ca_file,
                      struct conformance_talk *out);

#endif
