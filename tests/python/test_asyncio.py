"""The queue API from Python: ctypes and asyncio, the standard library only; CPOOL_LIBRARY names libcpool.so"""

import asyncio
import ctypes
import os
import sys
import unittest

from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p, sizeof

ECANCELLED, ETIMEOUT_TOTAL, REQUESTS = -10, -23, 1000


class HttpOptions(Structure):  # a caller may know only the first fields: `size` says so
    _fields_ = [("size", c_size_t), ("max_connections", c_int32), ("max_connections_per_host", c_int32)]


class Request(Structure):
    _fields_ = [("size", c_size_t), ("method", c_char_p), ("url", c_char_p), ("headers", c_void_p),
                ("header_count", c_size_t), ("body", c_void_p), ("body_len", c_size_t), ("flags", c_int32),
                ("acquire_timeout_ms", c_int64), ("connect_timeout_ms", c_int64), ("sock_read_timeout_ms", c_int64),
                ("total_timeout_ms", c_int64), ("max_response_bytes", c_int64), ("queue", c_void_p),
                ("on_event", c_void_p), ("user", c_void_p)]


class Event(Structure):
    _fields_ = [("kind", c_int32), ("status", c_int32), ("source", c_uint64), ("user", c_void_p),
                ("response", c_void_p)]


lib = ctypes.CDLL(os.environ.get("CPOOL_LIBRARY", "libcpool.so.0"))
lib.cpool_status_name.restype = c_char_p
lib.cpool_http_session.restype = lib.cpool_response_body.restype = c_void_p
lib.cpool_queue_wait.argtypes = [c_void_p, POINTER(POINTER(Event)), c_int32, c_int64]
lib.cpool_cancel.argtypes = [c_void_p, c_uint64]
for name in ("cpool_queue_fd", "cpool_queue_free", "cpool_http_session", "cpool_response_status"):
    getattr(lib, name).argtypes = [c_void_p]


def check(status):
    if status < 0:
        raise OSError(lib.cpool_status_name(status).decode())
    return status


class Pool:
    """Futures that are resolved on asyncio's own thread: no callback ever comes from a foreign one."""

    def __init__(self, loop):
        self.loop, self.futures, self.queue, self.http = loop, {}, c_void_p(), c_void_p()
        options = HttpOptions()
        lib.cpool_http_options_init_sized(byref(options), c_size_t(sizeof(options)))
        options.max_connections = options.max_connections_per_host = 50
        check(lib.cpool_queue_new(byref(self.queue), None))
        check(lib.cpool_http_new(byref(self.http), None, byref(options)))
        self.session = c_void_p(lib.cpool_http_session(self.http))
        self.fd = check(lib.cpool_queue_fd(self.queue))
        loop.add_reader(self.fd, self.drain)

    def get(self, url, timeout_ms=0):
        request, op = Request(), c_uint64()
        lib.cpool_request_init_sized(byref(request), c_size_t(sizeof(request)))
        request.url, request.queue, request.total_timeout_ms = url.encode(), self.queue, timeout_ms
        check(lib.cpool_submit(self.session, byref(request), byref(op)))
        self.futures[op.value] = future = self.loop.create_future()
        return op, future

    def drain(self):
        events = (POINTER(Event) * 64)()
        count = check(lib.cpool_queue_wait(self.queue, events, 64, 0))
        for event in (events[i].contents for i in range(count)):
            length = c_size_t()
            body = lib.cpool_response_body(c_void_p(event.response), byref(length))
            outcome = (event.status, lib.cpool_response_status(event.response), ctypes.string_at(body, length.value))
            self.futures.pop(event.source).set_result(outcome)
        lib.cpool_queue_release(self.queue, events, c_int32(count))

    def close(self):
        self.loop.remove_reader(self.fd)
        check(lib.cpool_http_close(self.http, c_int64(0)))
        check(lib.cpool_queue_free(self.queue))


class AsyncioTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.peers = []
        self.server = await asyncio.start_server(self.origin, "127.0.0.1", 0)
        self.base = "http://127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
        self.pool = Pool(asyncio.get_running_loop())

    async def asyncTearDown(self):
        self.pool.close()
        self.server.close()
        await asyncio.wait_for(asyncio.gather(*self.peers, return_exceptions=True), 20)

    async def origin(self, reader, writer):
        """Answers each GET with its path; /silent never. Were the client to block the loop, both would hang."""
        self.peers.append(asyncio.current_task())
        try:
            while line := await reader.readline():
                path = line.split()[1]
                while (await reader.readline()).strip():
                    pass
                if path != b"/silent":
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))
        finally:
            writer.close()

    async def outcome(self, future):
        return await asyncio.wait_for(future, 20)

    async def test_a_thousand_concurrent_gets_resolve_their_own_futures(self):
        futures = [self.pool.get(f"{self.base}/{i}")[1] for i in range(REQUESTS)]
        outcomes = await asyncio.wait_for(asyncio.gather(*futures), 20)
        self.assertEqual(outcomes, [(0, 200, b"/%d" % i) for i in range(REQUESTS)])
        self.assertEqual(self.pool.futures, {})

    async def test_a_cancelled_request_ends_as_cancelled(self):
        op, future = self.pool.get(self.base + "/silent")
        check(lib.cpool_cancel(self.pool.http, op))
        self.assertEqual(await self.outcome(future), (ECANCELLED, 0, b""))

    async def test_a_request_ends_at_its_timeout(self):
        future = self.pool.get(self.base + "/silent", timeout_ms=50)[1]
        self.assertEqual(await self.outcome(future), (ETIMEOUT_TOTAL, 0, b""))

    async def test_a_refused_call_leaves_no_future(self):
        with self.assertRaisesRegex(OSError, "CPOOL_EINVAL"):
            self.pool.get("ftp://127.0.0.1/")
        self.assertEqual(self.pool.futures, {})


if __name__ == "__main__":
    unittest.main(verbosity=2, argv=sys.argv)
