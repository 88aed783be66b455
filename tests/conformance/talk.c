/* talk: one case with one endpoint */
#include "conformance/talk.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "support/wait.h"
#include "support/ws_peer.h"

enum { ANSWER_MS = 20000, QUIET_MS = 2000, PLAIN_BYTES = 64, MASK = 0x5A };

/* -------------------------------------------------------------------------------------------------------------- words */

struct word {
  int first; /* byte of the frame */
  int times;
  unsigned char *payload;
  size_t len, piece; /* piece: payload of each frame; 0: all in one */
};

static int first_byte(const char **at)
{
  static const char letters[] = "ctb-----xpP"; /* by opcode */
  const char *word = *at;
  if (isxdigit((unsigned char) word[0]) && isxdigit((unsigned char) word[1])) {
    char digits[3] = {word[0], word[1]};
    *at += 2;
    return (int) strtol(digits, NULL, 16);
  }
  const char *letter = strchr(letters, *word);
  if (letter == NULL)
    support_die("no such word: %s", word);
  *at += 1;
  if (**at != '-')
    return WS_FIN | (int) (letter - letters);
  *at += 1;
  return (int) (letter - letters);
}

static void read_payload(struct word *word, const char *text, size_t len)
{
  if (*text == '*') {
    word->len = strtoul(text + 1, NULL, 10);
    word->payload = malloc(word->len);
    memset(word->payload, '*', word->len);
  } else if (*text == '#') {
    word->len = (len - 1) / 2;
    word->payload = malloc(word->len);
    for (size_t i = 0; i < word->len; i++)
      (void) sscanf(text + 1 + 2 * i, "%2hhx", &word->payload[i]);
  } else {
    word->len = len;
    word->payload = malloc(len);
    memcpy(word->payload, text, len);
  }
}

/* The next word; false: there is none. Its payload is the caller's. */
static bool next_word(const char **at, struct word *word)
{
  *at += strspn(*at, " ");
  if (**at == '\0')
    return false;
  *word = (struct word){.times = 1};
  size_t digits = strspn(*at, "0123456789");
  if (digits > 0 && (*at)[digits] == ':') {
    word->times = atoi(*at);
    *at += digits + 1;
  }
  word->first = first_byte(at);
  if (**at == '=') {
    size_t len = strcspn(*at + 1, " /");
    read_payload(word, *at + 1, len);
    *at += 1 + len;
  }
  if (**at == '/')
    word->piece = strtoul(*at + 1, NULL, 10);
  *at += strcspn(*at, " ");
  return true;
}

/* --------------------------------------------------------------------------------------------------------- what is said */

struct speech {
  bool masked;
  unsigned char *bytes;
  size_t len, capacity;
};

static void say_frame(struct speech *speech, int first, const unsigned char *payload, size_t len)
{
  if (speech->capacity < speech->len + len + 14) {
    speech->capacity = speech->capacity * 2 + len + 14;
    speech->bytes = realloc(speech->bytes, speech->capacity);
    if (speech->bytes == NULL)
      support_die("no memory");
  }
  unsigned char *at = speech->bytes + speech->len;
  *at++ = (unsigned char) first;
  int more = len <= 125 ? 0 : len <= 65535 ? 2 : 8;
  *at++ = (unsigned char) ((speech->masked ? 0x80 : 0) | (more == 0 ? len : more == 2 ? 126 : 127));
  while (more > 0)
    *at++ = (unsigned char) (len >> 8 * --more);
  if (speech->masked)
    at = (unsigned char *) memset(at, MASK, 4) + 4;
  for (size_t i = 0; i < len; i++)
    *at++ = speech->masked ? payload[i] ^ MASK : payload[i];
  speech->len = (size_t) (at - speech->bytes);
}

static void flush(struct ws_peer *peer, struct speech *speech, size_t cut)
{
  for (size_t at = 0, len; at < speech->len; at += len) {
    len = cut == 0 || speech->len - at < cut ? speech->len - at : cut;
    if (!ws_peer_send_raw(peer, speech->bytes + at, len))
      break; /* it has ended already: what is heard tells why */
  }
  speech->len = 0;
}

static void say_word(struct speech *speech, const struct word *word)
{
  size_t piece = word->piece != 0 ? word->piece : word->len;
  for (size_t at = 0;; at += piece) {
    bool last = word->len - at <= piece;
    int first = at == 0 ? word->first : word->first & 0xF0;
    say_frame(speech, last ? first : first & ~WS_FIN, word->payload + at, last ? word->len - at : piece);
    if (last)
      return;
  }
}

/* Whether a close frame was among it. */
static bool say(struct ws_peer *peer, const struct conformance_case *one)
{
  struct speech speech = {.masked = !ws_peer_is_server(peer)};
  struct word word;
  bool closes = false;
  for (const char *at = one->say; next_word(&at, &word);) {
    for (int i = 0; i < word.times; i++) {
      say_word(&speech, &word);
      if (one->cut == CUT_FRAMES)
        flush(peer, &speech, 0);
    }
    closes = closes || word.first == (WS_FIN | WS_CLOSE);
    free(word.payload);
  }
  flush(peer, &speech, one->cut > 0 ? (size_t) one->cut : 0);
  free(speech.bytes);
  return closes;
}

/* -------------------------------------------------------------------------------------------------------- what is heard */

struct notes {
  char *text; /* CONFORMANCE_TEXT bytes */
  char last[256];
  size_t last_at; /* where it begins in the text */
  int times;
  int count; /* of words, repeated ones too */
};

/* The same word again is counted. */
static void note(struct notes *notes, const char *word)
{
  notes->count++;
  notes->times = strcmp(word, notes->last) == 0 ? notes->times + 1 : 1;
  if (notes->times == 1)
    notes->last_at = strlen(notes->text);
  snprintf(notes->last, sizeof notes->last, "%s", word);
  char *at = notes->text + notes->last_at;
  size_t room = CONFORMANCE_TEXT - notes->last_at;
  const char *space = notes->last_at > 0 ? " " : "";
  if (notes->times > 1)
    snprintf(at, room, "%s%d:%s", space, notes->times, word);
  else
    snprintf(at, room, "%s%s", space, word);
}

static bool plain(const unsigned char *payload, size_t len)
{
  for (size_t i = 0; i < len; i++) {
    if (!isgraph(payload[i]) || payload[i] == '|' || payload[i] == '`')
      return false;
  }
  return len < PLAIN_BYTES && *payload != '*' && *payload != '#';
}

static bool filler(const unsigned char *payload, size_t len)
{
  return *payload == '*' && memcmp(payload, payload + 1, len - 1) == 0;
}

static void note_payload(struct notes *notes, int first, const unsigned char *payload, size_t len)
{
  char word[256];
  int used = first < 16 ? snprintf(word, sizeof word, "%c", "ctb-----xpP"[first])
                        : snprintf(word, sizeof word, "%02x", (unsigned) first);
  if (len > 0 && plain(payload, len))
    snprintf(word + used, sizeof word - (size_t) used, "=%.*s", (int) len, (const char *) payload);
  else if (len > 0 && filler(payload, len))
    snprintf(word + used, sizeof word - (size_t) used, "=*%zu", len);
  else if (len > 0) {
    used += snprintf(word + used, sizeof word - (size_t) used, "=#");
    for (size_t i = 0; i < len && (size_t) used + 3 < sizeof word; i++)
      used += snprintf(word + used, sizeof word - (size_t) used, "%02x", payload[i]);
  }
  note(notes, word);
}

/* The words of a text, as they are noted; and whether a close frame is among them. */
static bool note_words(struct notes *notes, const char *words)
{
  struct word word;
  bool closes = false;
  for (const char *at = words; *(at += strspn(at, " ")) != '\0';) {
    if (*at == 'x' && isdigit((unsigned char) at[1])) {
      char code[8];
      snprintf(code, sizeof code, "%.*s", (int) strcspn(at, " "), at);
      note(notes, code);
      at += strlen(code);
      closes = true;
      continue;
    }
    next_word(&at, &word);
    for (int i = 0; i < word.times; i++)
      note_payload(notes, word.first & 0x0F, word.payload, word.len);
    free(word.payload);
  }
  return closes;
}

static int want(char *text, const struct conformance_case *one, const char *words, bool said_close)
{
  struct notes notes = {.text = text};
  *text = '\0';
  bool closes = note_words(&notes, words != NULL ? words : one->say);
  int count = notes.count;
  if (!closes && !said_close)
    note(&notes, "x1000");
  return count;
}

struct message {
  unsigned char *bytes;
  size_t len, capacity;
  int opcode;
};

static void gather(struct message *message, const struct ws_frame *frame)
{
  if (message->capacity < message->len + frame->len) {
    message->capacity = message->capacity * 2 + frame->len;
    message->bytes = realloc(message->bytes, message->capacity);
    if (message->bytes == NULL)
      support_die("no memory");
  }
  if (frame->len > 0)
    memcpy(message->bytes + message->len, frame->payload, frame->len);
  message->len += frame->len;
}

enum heard { HEARD, QUIET, OVER /* a close frame, or the end */ };

/* Hears one frame. */
static enum heard hear(struct ws_peer *peer, struct notes *notes, struct message *message, int64_t timeout_ms)
{
  struct ws_frame frame = ws_peer_read(peer, timeout_ms);
  int opcode = frame.first & 0x0F;
  char word[16];
  if (frame.first < 0)
    return frame.first == WS_NOTHING ? QUIET : OVER;
  if (frame.first == (WS_FIN | WS_CLOSE)) {
    snprintf(word, sizeof word, "x%d", ws_frame_code(&frame));
    note(notes, word);
    return OVER;
  }
  bool wrong = (frame.first & 0x70) != 0 || frame.masked != ws_peer_is_server(peer);
  if (wrong || opcode >= WS_CLOSE) {
    note_payload(notes, frame.first == (WS_FIN | opcode) && !wrong ? opcode : frame.first, frame.payload, frame.len);
    return HEARD;
  }
  if (opcode != 0)
    message->opcode = opcode;
  gather(message, &frame);
  if ((frame.first & WS_FIN) != 0) {
    note_payload(notes, message->opcode, message->bytes, message->len);
    message->len = 0;
  }
  return HEARD;
}

static void hear_all(struct ws_peer *peer, struct notes *notes, int count, bool said_close)
{
  struct message message = {0};
  enum heard last = HEARD;
  int64_t end_ms = now_ms() + ANSWER_MS;
  while (last == HEARD && notes->count < count)
    last = hear(peer, notes, &message, QUIET_MS);
  if (!said_close)
    ws_peer_send_close(peer, 1000, NULL);
  while (last != OVER && now_ms() < end_ms)
    last = hear(peer, notes, &message, end_ms - now_ms());
  if (notes->last[0] != 'x')
    note(notes, last == OVER ? "cut" : "silence");
  shutdown(ws_peer_fd(peer), SHUT_WR); /* both have said it: libwebsockets would wait 5 s where its parser has failed */
  struct ws_frame frame;               /* behind the close frame nothing comes but the end */
  while ((frame = ws_peer_read(peer, ANSWER_MS)).first >= 0)
    note(notes, "more");
  if (frame.first == WS_NOTHING && last == OVER)
    note(notes, "silence");
  free(message.bytes);
}

static enum conformance_result judge(const struct conformance_case *one, const struct conformance_talk *talk,
                                     bool said_close)
{
  char lenient[CONFORMANCE_TEXT];
  if (strcmp(talk->heard, talk->wanted) == 0)
    return CONFORMANCE_OK;
  for (size_t i = 0; i < sizeof one->lenient / sizeof *one->lenient && one->lenient[i] != NULL; i++) {
    want(lenient, one, one->lenient[i], said_close);
    if (strcmp(talk->heard, lenient) == 0)
      return CONFORMANCE_LENIENT;
  }
  return CONFORMANCE_DEVIATION;
}

void conformance_talk(const struct conformance_case *one, struct ws_peer *peer, struct conformance_talk *out)
{
  *out = (struct conformance_talk){.result = CONFORMANCE_DEVIATION};
  struct notes notes = {.text = out->heard};
  bool said_close = say(peer, one);
  hear_all(peer, &notes, want(out->wanted, one, one->strict, said_close), said_close);
  ws_peer_free(peer);
  out->result = judge(one, out, said_close);
}
