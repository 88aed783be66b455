"""The WebSocket examples against Node's ws, as client and server, and against a page in Chromium.

Run by ctest with CPOOL_EXAMPLES, the folder of the programs. What is not installed is skipped.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

import websockets

EXAMPLES = os.environ["CPOOL_EXAMPLES"]
NODE_MODULES = "/usr/share/nodejs"
DEADLINE_S = 60

has_node_ws = shutil.which("node") and os.path.isdir(f"{NODE_MODULES}/ws")
chromium = shutil.which("chromium")

NODE_CLIENT = """
const WebSocket = require('ws');
const assert = require('assert');
const peer = new WebSocket(process.argv[1], {perMessageDeflate: process.argv[2] === 'deflate'});
const say = ['hello', 'äα€😀'.repeat(5000), Buffer.alloc(70000, 7), Buffer.alloc(0), ''];
let heard = 0, ponged = false;
peer.on('open', () => {
  assert.strictEqual(peer.extensions, '');
  peer.ping('here?');
  for (const one of say) peer.send(one);
  peer.send('in ', {fin: false});
  peer.send('three ', {fin: false});
  peer.send('parts', {fin: true});
});
peer.on('pong', (data) => { assert.strictEqual(data.toString(), 'here?'); ponged = true; });
peer.on('message', (data, binary) => {
  const wanted = heard < say.length ? say[heard] : 'in three parts';
  assert.strictEqual(binary, Buffer.isBuffer(wanted));
  assert.ok(Buffer.compare(data, Buffer.from(wanted)) === 0);
  if (++heard > say.length) peer.close(3123, 'enough');
});
peer.on('close', (code, reason) => {
  assert.strictEqual(code, 3123);
  assert.ok(ponged && heard === say.length + 1);
  console.log('all is well');
});
"""

NODE_SERVER = """
const {WebSocketServer} = require('ws');
const server = new WebSocketServer({port: 0, host: '127.0.0.1', perMessageDeflate: true,
                                    handleProtocols: (offered) => offered.has('chat') ? 'chat' : false});
server.on('listening', () => console.log(server.address().port));
server.on('connection', (peer, request) => {
  peer.send(`${request.url} ${request.headers['x-token']} ${peer.protocol}`);
  peer.ping();
  peer.on('message', (data, binary) => {
    if (data.toString() === 'leave') peer.close(1001, 'as you like');
    else peer.send(data, {binary});
  });
});
process.stdin.on('data', () => {}).on('end', () => process.exit(0));
"""

# Chats, and tells the second server all that it has heard.
PAGE = """<!doctype html><title>chat</title><script>
const report = new WebSocket('%(report)s');
report.onopen = () => {
  const room = new WebSocket('%(room)s');
  room.onopen = () => room.send('hello from a page, äα€😀');
  room.onmessage = (event) => report.send('heard ' + event.data);
  room.onclose = (event) => report.send(`closed ${event.code} ${event.wasClean}`);
};
</script>"""


class Program:
    """It ends with the test, whatever becomes of that."""

    def __init__(self, test, command, **options):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        test.addCleanup(self.end)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def node_environment():
    return {**os.environ, "NODE_PATH": NODE_MODULES}


@unittest.skipUnless(has_node_ws, "node or its ws is not installed")
class NodeWs(unittest.TestCase):
    def test_as_a_client(self):
        server = Program(self, [f"{EXAMPLES}/cpool-ws-echo", "--port", "0"])
        url = next(word for word in server.process.stdout.readline().split() if word.startswith("ws"))
        for extension in ("none", "deflate"):  # which is offered, and not taken
            result = subprocess.run(["node", "-e", NODE_CLIENT, url, extension], env=node_environment(), text=True,
                                    capture_output=True, timeout=DEADLINE_S)
            self.assertEqual(result.stdout, "all is well\n", result.stderr)

    def test_as_a_server(self):
        server = Program(self, ["node", "-e", NODE_SERVER], env=node_environment())
        port = server.process.stdout.readline().strip()
        cat = subprocess.run(
            [f"{EXAMPLES}/cpool-ws-cat", "--subprotocols", "soap, chat", "--header", "X-Token: secret", "--once",
             f"ws://127.0.0.1:{port}/some/path?and=query"],
            input="one\ntwo äα€😀\nleave\n", capture_output=True, text=True, timeout=DEADLINE_S)
        self.assertEqual(cat.stdout, "/some/path?and=query secret chat\none\ntwo äα€😀\n", cat.stderr)
        self.assertIn("closed, code 1001: as you like", cat.stderr)
        self.assertEqual(cat.returncode, 0)


@unittest.skipUnless(chromium, "chromium is not installed")
class Chromium(unittest.TestCase):
    def test_a_page_chats_and_is_closed_by_a_drain(self):
        server = Program(self, [f"{EXAMPLES}/chat", "0"])
        url = next(word for word in server.process.stdout.readline().split() if word.startswith("ws"))
        base = url.removesuffix("ROOM?NAME")
        heard = asyncio.run(asyncio.wait_for(self.chat(server, base), DEADLINE_S))
        self.assertEqual(heard[:2], ["heard page: came in", "heard page: hello from a page, äα€😀"])
        self.assertIn("heard anna: good night", heard)
        self.assertEqual(heard[-1], "closed 1001 true")

    async def chat(self, server, base):
        heard, changed = [], asyncio.Condition()

        async def listen(peer, *path):
            async for message in peer:
                async with changed:
                    heard.append(message)
                    changed.notify_all()

        async def wait_for(text):
            async with changed:
                await changed.wait_for(lambda: any(text in one for one in heard))

        async with websockets.serve(listen, "127.0.0.1", 0) as reports:
            port = reports.sockets[0].getsockname()[1]
            with tempfile.TemporaryDirectory() as folder:
                page = f"{folder}/page.html"
                with open(page, "w", encoding="utf-8") as out:
                    out.write(PAGE % {"report": f"ws://127.0.0.1:{port}/", "room": f"{base}garden?page"})
                browser = Program(self, [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                                         "--disable-dev-shm-usage", f"--user-data-dir={folder}/profile",
                                         "--remote-debugging-port=0", f"file://{page}"], stderr=subprocess.DEVNULL)
                await wait_for("hello from a page")
                anna = await websockets.connect(f"{base}garden?anna")
                await anna.send("good night")
                await wait_for("good night")
                server.process.send_signal(signal.SIGTERM)
                await wait_for("closed")
                await anna.close()
                browser.end()
        return heard


if __name__ == "__main__":
    unittest.main()
