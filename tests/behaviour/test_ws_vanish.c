/* ws_vanish: peers whose packets are dropped, in network namespaces of the test's own: nobody says that they are gone */
#include "ws_fixture.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { INTERVAL_MS = 300, PONG_MS = 300, PORT = 9321 };

#define NEAR "10.83.0.1"
#define FAR "10.83.0.2"

/* The far side: a process in a namespace of its own, which does as it is told by single bytes. */
struct far {
  pid_t pid;
  int tell, hear;
};

static bool run(const char *format, int number)
{
  char command[256];
  snprintf(command, sizeof command, format, number);
  return system(command) == 0;
}

static void say(int fd, char what)
{
  if (write(fd, &what, 1) != 1)
    support_die("ws_vanish: nobody hears");
}

static bool hear(int fd, char what)
{
  char got = 0;
  return read(fd, &got, 1) == 1 && got == what;
}

/* Connects, and is a good client until its link is down. */
static void be_far(int hears, int tells)
{
  say(tells, unshare(CLONE_NEWNET) == 0 ? 'u' : '-');
  if (!hear(hears, 'a') || !run("ip addr add " FAR "/24 dev far && ip link set far up", 0))
    _exit(1);
  say(tells, 'a');
  if (!hear(hears, 'c'))
    _exit(1);
  struct ws_peer *peer = ws_peer_open(PORT, &(struct ws_peer_options){.address = NEAR});
  say(tells, ws_peer_status(peer) == 101 ? 'c' : '-');
  struct ws_frame ping = ws_peer_read(peer, DEADLINE_MS);
  if (ping.first != (WS_FIN | WS_PING) || !ws_peer_send(peer, WS_FIN | WS_PONG, ping.payload, ping.len))
    _exit(1);
  if (!run("ip link set far down", 0))
    _exit(1);
  say(tells, 'v');
  (void) hear(hears, 'q'); /* its socket stays open: no end and no reset is sent */
  _exit(0);
}

/* False: not allowed, or no tools: nothing was begun. */
static bool begin(struct far *far)
{
  int to[2], from[2];
  if (system("ip -V >/dev/null 2>&1") != 0 || unshare(CLONE_NEWNET) != 0)
    return false;
  assert_int_equal(pipe(to), 0);
  assert_int_equal(pipe(from), 0);
  fflush(stdout);
  far->pid = fork();
  assert_true(far->pid >= 0);
  if (far->pid == 0) {
    close(to[1]);
    close(from[0]);
    be_far(to[0], from[1]);
  }
  close(to[0]);
  close(from[1]);
  far->tell = to[1];
  far->hear = from[0];
  return hear(far->hear, 'u') && run("ip link add near type veth peer name far netns %d 2>/dev/null", (int) far->pid) &&
         run("ip addr add " NEAR "/24 dev near && ip link set near up && ip link set lo up", 0);
}

static void end(struct far *far)
{
  if (far->pid <= 0)
    return;
  close(far->tell);
  close(far->hear);
  kill(far->pid, SIGKILL);
  waitpid(far->pid, NULL, 0);
}

static void a_peer_whose_packets_are_dropped_is_gone_in_time(void **state)
{
  (void) state;
  struct far far = {0};
  if (!begin(&far)) {
    end(&far);
    print_message("no network namespaces here\n");
    skip();
  }
  cpool_ws_options options;
  cpool_ws_listen_options listen;
  cpool_ws_options_init(&options);
  cpool_ws_listen_options_init(&listen);
  options.health_check_interval_ms = INTERVAL_MS;
  options.pong_timeout_ms = PONG_MS;
  listen.decide = CPOOL_OFF;
  listen.address = NEAR;
  listen.port = PORT;
  say(far.tell, 'a');
  assert_true(hear(far.hear, 'a'));
  ws_start(&options, NULL);
  ws_listen(&listen);
  say(far.tell, 'c');
  assert_true(hear(far.hear, 'c'));
  cpool_conn conn = ws_next(CPOOL_EVENT_WS_OPEN)->conn;
  assert_true(hear(far.hear, 'v'));
  int64_t vanished_ms = now_ms();
  assert_int_equal(cpool_ws_send(fixture.ws, conn, CPOOL_WS_TEXT, "into the void", 13), CPOOL_OK);
  struct seen *seen = ws_next(CPOOL_EVENT_WS_CLOSED);
  assert_int_equal(seen->reason, CPOOL_WS_NO_PONG);
  assert_int_equal(seen->close_code, 1006);
  assert_in_range(now_ms() - vanished_ms, 0, INTERVAL_MS + PONG_MS + 1000);
  ws_stop();
  end(&far);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_peer_whose_packets_are_dropped_is_gone_in_time)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
