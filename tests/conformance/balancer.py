"""A round-robin HTTP proxy without stickiness: every request goes to the next target, over a connection of its own.

It adds the bearer that the conformance client cannot send, and speaks of the targets' own addresses where the client
spoke of this proxy's, so that checks of Host and Origin see what they would see directly. It knows nothing of MCP.
"""

import asyncio
import itertools

HEAD_LIMIT = 256 * 1024
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "upgrade"}


class Balancer:
    """Listens on a free port of 127.0.0.1 while it is entered."""

    def __init__(self, targets: list[str], path: str, bearer: str):
        self.targets = itertools.cycle(targets)
        self.path = path
        self.bearer = bearer
        self.exchanges: set[asyncio.Task] = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0, limit=HEAD_LIMIT)
        self.address = "127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
        self.url = f"http://{self.address}/mcp"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for exchange in self.exchanges:
            exchange.cancel()
        await asyncio.gather(*self.exchanges, return_exceptions=True)

    def accept(self, reader, writer):
        exchange = asyncio.ensure_future(self.serve(reader, writer))
        self.exchanges.add(exchange)
        exchange.add_done_callback(self.exchanges.discard)

    async def serve(self, reader, writer):
        try:
            await self.exchange(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # Either side may hang up at any time.
        finally:
            writer.close()

    async def exchange(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        target = next(self.targets)
        host, port = target.split(":")
        from_target, to_target = await asyncio.open_connection(host, int(port), limit=HEAD_LIMIT)
        try:
            to_target.write(self.rewrite(head, target))
            async for piece in body(reader, head[1:]):
                to_target.write(piece)
            await to_target.drain()
            await until_first(copy(from_target, writer), end_of(reader))
        finally:
            to_target.close()

    def rewrite(self, head: list[str], target: str) -> bytes:
        method, path, version = head[0].split(" ", 2)
        lines = [f"{method} {path.replace('/mcp', self.path, 1)} {version}"]
        for line in head[1:]:
            name = line.split(":", 1)[0].lower()
            if name in HOP_BY_HOP:
                continue
            if name in ("host", "origin"):
                line = line.replace(self.address, target).replace(self.local_name(self.address), self.local_name(target))
            lines.append(line)
        lines += [f"Authorization: Bearer {self.bearer}", "Connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1")

    @staticmethod
    def local_name(address: str) -> str:
        return "localhost:" + address.rsplit(":", 1)[1]


async def body(reader, headers: list[str]):
    """The bytes of a request's body, framed as they came."""
    fields = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in headers)}
    if "chunked" in fields.get("transfer-encoding", "").lower():
        while True:
            size = await reader.readuntil(b"\r\n")
            yield size + await reader.readexactly(int(size.split(b";")[0], 16) + 2)
            if int(size.split(b";")[0], 16) == 0:
                return
    elif length := int(fields.get("content-length", 0)):
        yield await reader.readexactly(length)


async def copy(reader, writer):
    while piece := await reader.read(64 * 1024):
        writer.write(piece)
        await writer.drain()


async def end_of(reader):
    while await reader.read(64 * 1024):
        pass


async def until_first(*work):
    """Runs all until one is done: an answer that ends, or a client that leaves."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
