/* cases: what a peer says to an echoing endpoint, by the numbers of the Autobahn test suite, and what RFC 6455 has it hear
 *
 * Both are texts of words, one a frame. A word of what is said:
 *
 *   t  b  c  p  P  x     text, binary, continuation, ping, pong, close; or two hex digits: the whole first byte
 *   -                    behind the letter: the frame is not the last of its message
 *   =text  =#hex  =*n    payload; the last is n bytes '*'
 *   /n                   the payload goes in a message of frames of n bytes
 *   n:                   before it all: n times
 *
 * and of what is heard: whole messages and control frames in the same notation, close frames as `x` and the code.
 */
#ifndef CPOOL_CONFORMANCE_CASES_H
#define CPOOL_CONFORMANCE_CASES_H

#include <stddef.h>

struct conformance_case {
  char number[16];
  const char *say;
  const char *
      strict; /* NULL: the echo of what is said. Without a close frame the peer closes with 1000, and so it is answered */
  const char *lenient[2]; /* also right, though not the best; NULL: nothing */
  long cut;               /* bytes of each write; 0: all in one; CUT_FRAMES: one frame each */
};

enum { CUT_FRAMES = -1 };

typedef void conformance_fn(const struct conformance_case *one, void *ctx);
void conformance_each(conformance_fn *fn, void *ctx);

#endif
