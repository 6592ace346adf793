"""Clients on the TypeScript SDK: one process of `client.mjs` for all the rows of a client and an upstream."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

from clients import Place, Way

CLIENT = Path(__file__).with_name("client.mjs")


@asynccontextmanager
async def process(way: Way, place: Place):
    order = {
        "generation": 2 if way.is_modern else 1,
        "transport": way.transport,
        "url": place.url("http", "sse" if way.transport == "sse" else "mcp"),
        "headers": place.headers,
    }
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec("node", CLIENT, json.dumps(order), stdin=pipe, stdout=pipe)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def trouble(child: asyncio.subprocess.Process, row: str, patience: float) -> str | None:
    """Why a row does not work."""
    if child.returncode is not None:
        return f"the client ended with {child.returncode}"
    child.stdin.write(f"{row}\n".encode())
    try:
        line = await asyncio.wait_for(child.stdout.readline(), patience)
    except TimeoutError:
        child.kill()
        return f"the client says nothing for {patience:.0f} s"
    return json.loads(line) if line else "the client has ended"
