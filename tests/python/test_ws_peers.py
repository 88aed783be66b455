"""The WebSocket examples against the clients of Python's websockets library: many at once, each in its own way.

Run by ctest with CPOOL_EXAMPLES, the folder of the programs, and, for wss, openssl in the path.
"""

import asyncio
import os
import random
import signal
import socket
import ssl
import subprocess
import tempfile
import unittest

import websockets

EXAMPLES = os.environ["CPOOL_EXAMPLES"]
ECHO = ["cpool-ws-echo", "--port", "0"]
DEADLINE_S = 30


class Server:
    """The program on a free port; it ends with the test, whatever becomes of that."""

    def __init__(self, test, *arguments):
        command = [f"{EXAMPLES}/{arguments[0]}", *arguments[1:]]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        test.addCleanup(self.end)
        self.url = next(word for word in self.process.stdout.readline().split() if word.startswith("ws"))

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, output


async def talk(url, number, context=None):
    generator = random.Random(number)
    async with websockets.connect(url, ssl=context, max_size=None, compression=None, ping_interval=None) as peer:
        for _ in range(10):
            size = generator.choice([0, 1, 125, 126, 1000, 65535, 65536, 200000])
            text = "".join(generator.choice("aäα€😀") for _ in range(size % 5000))
            await peer.send(text)
            assert await peer.recv() == text
            binary = generator.randbytes(size)
            await peer.send(binary)
            assert await peer.recv() == binary
            parts = [generator.randbytes(generator.randrange(300)) for _ in range(generator.randrange(1, 6))]
            await peer.send(parts)  # one message in several frames
            assert await peer.recv() == b"".join(parts)
        await asyncio.wait_for(await peer.ping(b"here?"), DEADLINE_S)
        await peer.close(code=3000 + number % 1000, reason="done")
        assert peer.close_code == 3000 + number % 1000, peer.close_code


class Echo(unittest.TestCase):
    def run_all(self, coroutine):
        asyncio.run(asyncio.wait_for(coroutine, DEADLINE_S))

    def test_a_hundred_clients_at_once(self):
        server = Server(self, *ECHO)

        async def all_of_them():
            await asyncio.gather(*(talk(server.url, number) for number in range(100)))

        self.run_all(all_of_them())
        status, output = server.stop()
        self.assertEqual(status, 0)
        self.assertIn("received 3000 messages", output)

    def test_over_tls(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key = f"{folder}/cert.pem", f"{folder}/key.pem"
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-keyout", key, "-out", cert, "-days", "1", "-subj", "/CN=localhost",
                 "-addext", "subjectAltName=IP:127.0.0.1"],
                check=True, capture_output=True)
            context = ssl.create_default_context(cafile=cert)
            server = Server(self, *ECHO, "--tls", cert, key)

            async def some():
                await asyncio.gather(*(talk(server.url, number, context) for number in range(10)))

            self.run_all(some())
            self.assertEqual(server.stop()[0], 0)

    def test_more_than_the_limit_are_refused_with_503(self):
        server = Server(self, *ECHO, "--max", "3")

        async def four():
            peers = [await websockets.connect(server.url) for _ in range(3)]
            with self.assertRaises(websockets.exceptions.InvalidStatusCode) as refused:
                await websockets.connect(server.url)
            self.assertEqual(refused.exception.status_code, 503)
            for peer in peers:
                await peer.close()
            await talk(server.url, 4)

        self.run_all(four())
        self.assertEqual(server.stop()[0], 0)

    def test_a_drain_says_goodbye(self):
        server = Server(self, *ECHO)

        async def wait_for_the_end():
            peer = await websockets.connect(server.url)
            server.process.send_signal(signal.SIGTERM)
            with self.assertRaises(websockets.exceptions.ConnectionClosed):
                await peer.recv()
            self.assertEqual(peer.close_code, 1001)

        self.run_all(wait_for_the_end())
        self.assertEqual(server.process.wait(DEADLINE_S), 0)


class Chat(unittest.TestCase):
    def test_a_room_hears_what_one_says(self):
        server = Server(self, "chat", "0")
        base = server.url.removesuffix("ROOM?NAME")

        async def two_rooms():
            anna = await websockets.connect(f"{base}garden?anna")
            self.assertEqual(await anna.recv(), "anna: came in")
            other = await websockets.connect(f"{base}cellar?carl")
            bert = await websockets.connect(f"{base}garden?bert")
            self.assertEqual(await anna.recv(), "bert: came in")
            self.assertEqual(await bert.recv(), "bert: came in")
            await bert.send("hello")
            self.assertEqual(await anna.recv(), "bert: hello")
            twin = await websockets.connect(f"{base}garden?anna")  # the name is taken
            with self.assertRaises(websockets.exceptions.ConnectionClosed):
                await twin.recv()
            self.assertEqual(twin.close_code, 1008)
            await bert.close()
            self.assertEqual(await anna.recv(), "bert: went away")
            self.assertEqual(await other.recv(), "carl: came in")
            await anna.close()
            await other.close()

        asyncio.run(asyncio.wait_for(two_rooms(), DEADLINE_S))
        self.assertEqual(server.stop()[0], 0)


class Cat(unittest.TestCase):
    """cpool-ws-cat against a server of Python's websockets."""

    def cat(self, url, lines, *options):
        return subprocess.run([f"{EXAMPLES}/cpool-ws-cat", *options, url], input=lines, capture_output=True, text=True,
                              timeout=DEADLINE_S)

    def serve(self, handler, client, **options):
        """Runs the client, in a thread, against the handler."""

        async def both():
            async with websockets.serve(handler, "127.0.0.1", 0, compression=None, **options) as server:
                port = server.sockets[0].getsockname()[1]
                return await asyncio.get_running_loop().run_in_executor(None, client, port)

        return asyncio.run(asyncio.wait_for(both(), DEADLINE_S))

    @staticmethod
    async def echo(peer, *path):
        async for message in peer:
            await peer.send(message)

    def test_lines_go_and_come_back(self):
        lines = "".join(f"line {number} äα€😀\n" for number in range(1000))
        result = self.serve(self.echo, lambda port: self.cat(f"ws://127.0.0.1:{port}/", lines))
        self.assertEqual(result.stdout, lines)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_what_is_asked_for(self):
        seen = {}

        async def look(peer, *path):
            seen.update(path=peer.path, token=peer.request_headers["X-Token"], subprotocol=peer.subprotocol)
            await peer.close(code=1001, reason="seen")

        result = self.serve(look, lambda port: self.cat(f"ws://127.0.0.1:{port}/a/b?c=d", "", "--header", "X-Token: t",
                                                        "--subprotocols", "soap, chat", "--once"), subprotocols=["chat"])
        self.assertEqual(seen, {"path": "/a/b?c=d", "token": "t", "subprotocol": "chat"})
        self.assertIn("closed, code 1001: seen", result.stderr)

    def test_it_comes_back_after_a_restart(self):
        times = []

        async def first_ends(peer, *path):
            times.append(1)
            if len(times) == 1:
                await peer.close(code=1011)
            else:
                await self.echo(peer)

        result = self.serve(first_ends, lambda port: self.cat(f"ws://127.0.0.1:{port}/", "after all\n"))
        self.assertIn("closed, code 1011; again in", result.stderr)
        self.assertEqual(len(times), 2)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_refused_connection_is_told(self):
        result = self.cat("ws://127.0.0.1:1/", "lost\n", "--once")
        self.assertIn("CPOOL_ECONNECT", result.stderr)
        self.assertEqual(result.returncode, 1)


class Many(unittest.TestCase):
    def test_all_are_open_and_answer(self):
        server = Server(self, *ECHO)
        result = subprocess.run([f"{EXAMPLES}/cpool-ws-many", "-n", "300", server.url], capture_output=True, text=True,
                                timeout=DEADLINE_S)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("open 300,", result.stdout)
        self.assertIn("300 checked", result.stdout)
        self.assertEqual(server.stop()[0], 0)


class Hosted(unittest.TestCase):
    def test_connections_of_the_programs_own_server(self):
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            port = holder.getsockname()[1]
        server = Server(self, "ws_hosted", str(port))

        async def clients():
            first, second = await websockets.connect(server.url), await websockets.connect(server.url)
            await first.send("mine")
            self.assertEqual(await first.recv(), "mine")
            await second.send("all of you")
            self.assertEqual(await first.recv(), "all of you")
            self.assertEqual(await second.recv(), "all of you")
            await first.close(code=3001)
            server.process.send_signal(signal.SIGTERM)
            with self.assertRaises(websockets.exceptions.ConnectionClosed):
                await second.recv()
            self.assertEqual(second.close_code, 1001)

        asyncio.run(asyncio.wait_for(clients(), DEADLINE_S))
        self.assertEqual(server.process.wait(DEADLINE_S), 0)


if __name__ == "__main__":
    unittest.main()
