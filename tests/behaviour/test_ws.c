/* ws: connections that are accepted: let in, named, sent to, heard, closed; each ends in one event that says why */
#include "ws_fixture.h"

static int stop(void **state)
{
  (void) state;
  if (fixture.ws != NULL)
    ws_stop();
  fixture.react = NULL;
  return 0;
}

static void echo(const cpool_event *event)
{
  if (event->kind == CPOOL_EVENT_WS_MESSAGE)
    assert_int_equal(cpool_ws_send(fixture.ws, event->source, event->ws_kind, event->data, event->len), CPOOL_OK);
}

static void messages_come_back_as_they_went(void **state)
{
  (void) state;
  fixture.react = echo;
  ws_start_simple(CPOOL_OFF);
  struct ws_peer *peer = ws_peer_open(fixture.port, NULL);
  assert_int_equal(ws_peer_status(peer), 101);
  struct seen *seen = ws_next(CPOOL_EVENT_WS_OPEN);
  char id[32];
  snprintf(id, sizeof id, "%llu", (unsigned long long) seen->conn);
  assert_string_equal(seen->id, id);
  static const size_t lengths[] = {0, 1, 125, 126, 65520, 65521, 200000, 1000000};
  char *payload = malloc(1000000);
  assert_non_null(payload);
  for (size_t i = 0; i < 1000000; i++)
    payload[i] = (char) (i * 31);
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    assert_true(ws_peer_send(peer, WS_FIN | WS_BINARY, payload, lengths[i]));
    size_t got = 0;
    for (struct ws_frame frame = {0}; (frame.first & WS_FIN) == 0;) {
      frame = ws_peer_read_past_pings(peer, DEADLINE_MS);
      assert_int_equal(frame.first & 0x7F, got == 0 ? WS_BINARY : 0);
      assert_false(frame.masked);
      assert_in_range(got + frame.len, 0, lengths[i]);
      assert_memory_equal(frame.payload, payload + got, frame.len);
      got += frame.len;
    }
    assert_int_equal(got, lengths[i]);
    assert_int_equal(ws_next(CPOOL_EVENT_WS_MESSAGE)->len, lengths[i]);
  }
  free(payload);
  assert_true(ws_peer_send_close(peer, 1000, "done"));
  struct ws_frame frame = ws_peer_read(peer, DEADLINE_MS);
  assert_int_equal(ws_frame_code(&frame), 1000);
  assert_int_equal(ws_peer_read(peer, DEADLINE_MS).first, WS_END);
  ws_peer_free(peer);
  seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->reason, CPOOL_WS_BY_PEER);
  assert_int_equal(seen->close_code, 1000);
  assert_string_equal(seen->data, "done");
  ws_stop();
  ws_next(CPOOL_EVENT_WS_MANAGER_CLOSED);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(messages_come_back_as_they_went, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
