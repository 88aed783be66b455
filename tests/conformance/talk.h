/* talk: one case with one endpoint: says its words to it, and writes down what is heard */
#ifndef CPOOL_CONFORMANCE_TALK_H
#define CPOOL_CONFORMANCE_TALK_H

#include "conformance/cases.h"
#include "support/ws_peer.h"

enum conformance_result { CONFORMANCE_OK, CONFORMANCE_LENIENT, CONFORMANCE_DEVIATION };

enum { CONFORMANCE_TEXT = 1024 };

struct conformance_talk {
  enum conformance_result result;
  char wanted[CONFORMANCE_TEXT],
      heard[CONFORMANCE_TEXT]; /* words; a connection that ends without a close frame: "cut" */
};

/* Takes the peer, a client or a server, whose handshake is done. */
void conformance_talk(const struct conformance_case *one, struct ws_peer *peer, struct conformance_talk *out);

#endif
