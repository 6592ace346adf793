"""The kinds of client, those on the Python SDK connected: its transports, and what its client notes of what it is told.

It knows the addresses of an edge and nothing of what is called.
"""

import json
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
import mcp.client.session
import mcp_types as types
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.message import SessionMessage
from websockets.asyncio.client import connect

MODERN = "2026-07-28"
handshakes = anyio.Lock()


@dataclass(frozen=True)
class Way:
    """One kind of client: how its messages travel, the revision it asks for, and the SDK it is on."""

    title: str
    transport: str
    revision: str
    sdk: str = "Python"

    @property
    def is_modern(self) -> bool:
        return self.revision == MODERN


# The order of the table's columns.
WAYS = [
    Way("SSE 2024-11-05", "sse", "2024-11-05"),
    Way("HTTP 2025-03-26", "http", "2025-03-26"),
    Way("HTTP 2025-06-18", "http", "2025-06-18"),
    Way("HTTP 2025-11-25", "http", "2025-11-25"),
    Way("HTTP 2026-07-28", "http", MODERN),
    Way("WebSocket", "ws", "2025-11-25"),
    Way("stdio", "stdio", "2025-11-25"),
    Way("TypeScript SSE", "sse", "2025-11-25", "TypeScript"),
    Way("TypeScript 2025-11-25", "http", "2025-11-25", "TypeScript"),
    Way("TypeScript 2026-07-28", "http", MODERN, "TypeScript"),
]


@dataclass(frozen=True)
class Place:
    """Where a server of the gateway is, and what it takes to be let in."""

    edge: str
    server: str
    bearer: str
    mcpctl: str
    config: str

    def url(self, scheme: str, path: str) -> str:
        return f"{scheme}://{self.edge}/servers/{self.server}/{path}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.bearer}"}


@dataclass
class Heard:
    """What a client was told or asked without having called for it."""

    logs: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    news: anyio.Event = field(default_factory=anyio.Event)

    async def until(self, true):
        """Waits until something holds of what was heard."""
        with anyio.fail_after(5):
            while not true():
                self.news = anyio.Event()
                await self.news.wait()

    async def log(self, params):
        self.logs.append(params.data)
        self.news.set()

    async def message(self, message):
        if method := getattr(message, "method", None):
            self.methods.append(method)
            self.news.set()

    @staticmethod
    async def elicit(_context, _params):
        return types.ElicitResult(action="accept", content={"name": "Ada"})

    @staticmethod
    async def sample(_context, _params):
        return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text="Paris"), model="m")

    @staticmethod
    async def roots(_context):
        return types.ListRootsResult(roots=[types.Root(uri="file:///home")])


@asynccontextmanager
async def client(way: Way, place: Place):
    """A connected client, and what it hears."""
    heard = Heard()
    async with transport(way, place) as streams:
        connected = Client(
            Given(streams),
            mode=MODERN if way.is_modern else "legacy",
            elicitation_callback=heard.elicit,
            sampling_callback=heard.sample,
            list_roots_callback=heard.roots,
            logging_callback=heard.log,
            log_level="info" if way.is_modern else None,
            message_handler=heard.message,
            client_info=types.Implementation(name=way.title, version="1"),
            cache=None,
        )
        async with AsyncExitStack() as stack:
            async with handshakes:
                # The SDK asks for the newest revision that it knows; an older client asks for its own.
                mcp.client.session.LATEST_HANDSHAKE_VERSION = way.revision
                await stack.enter_async_context(connected)
            yield connected, heard


class Given:
    """A transport that is connected already."""

    def __init__(self, streams):
        self.streams = streams

    async def __aenter__(self):
        return self.streams

    async def __aexit__(self, *_):
        return None


@asynccontextmanager
async def transport(way: Way, place: Place):
    match way.transport:
        case "http":
            async with create_mcp_http_client(headers=place.headers) as http:
                async with streamable_http_client(place.url("http", "mcp"), http_client=http) as streams:
                    yield streams
        case "sse":
            async with sse_client(place.url("http", "sse"), headers=place.headers) as streams:
                yield streams
        case "ws":
            async with websocket(place) as streams:
                yield streams
        case "stdio":
            env = os.environ | {"MCPCTL_CONFIG": place.config}
            host = StdioServerParameters(command=place.mcpctl, args=["connect", place.server], env=env)
            with open(os.devnull, "w") as talk:
                async with stdio_client(host, errlog=talk) as streams:
                    yield streams


@asynccontextmanager
async def websocket(place: Place):
    """The convention that the SDKs of the first generation had: subprotocol `mcp`, a message per text frame."""
    to_client, from_server = anyio.create_memory_object_stream(0)
    to_server, from_client = anyio.create_memory_object_stream(0)
    url = place.url("ws", "ws")
    async with connect(url, subprotocols=["mcp"], additional_headers=place.headers, max_size=8 << 20, proxy=None) as socket:

        async def receive():
            # What still comes when the client has left is nobody's.
            with suppress(anyio.BrokenResourceError):
                async with to_client:
                    async for frame in socket:
                        await to_client.send(SessionMessage(types.jsonrpc_message_adapter.validate_json(frame)))

        async def send():
            async for message in from_client:
                await socket.send(json.dumps(message.message.model_dump(by_alias=True, mode="json", exclude_unset=True)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            tasks.start_soon(send)
            yield from_server, to_server
            tasks.cancel_scope.cancel()
