"""One server on the Python SDK that offers every row of the matrix, as one of the kinds of upstream there are.

`server.py stdio` talks on its standard streams. `server.py http|sse|modern|dual` serves a free port of 127.0.0.1 and
prints the URL. It knows nothing of a gateway.
"""

import asyncio
import contextlib
import socket
import sys

import anyio
import mcp_types as types
import uvicorn
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventStore, EventMessage
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.subscriptions import ResourceUpdated, ToolsListChanged
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

MODERN = "2026-07-28"
BIG = 1_000_000
WATCHED = "memo://watched"
FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TOOLS = ["echo", "progress", "log", "elicit", "sample", "roots", "slow", "fate", "grow", "touch", "big", "fail", "refuse"]


def said(text: str, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=is_error)


class Rows:
    """What the tools do, and what they remember between calls."""

    def __init__(self):
        self.bus = InMemorySubscriptionBus()
        self.names = list(TOOLS)
        self.sessions: dict[int, object] = {}
        self.fates: dict[str, str] = {}

    def server(self) -> Server:
        return Server(
            "matrix",
            version="1",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=self.list_resources,
            on_read_resource=self.read_resource,
            on_subscribe_resource=self.subscribe,
            on_unsubscribe_resource=self.subscribe,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
            on_completion=self.complete,
            on_set_logging_level=self.set_level,
            on_subscriptions_listen=ListenHandler(self.bus),
        )

    async def list_tools(self, ctx, _params):
        self.sessions[id(ctx.session._connection)] = ctx.session
        tools = [types.Tool(name=name, description=name, input_schema={"type": "object"}) for name in self.names]
        return types.ListToolsResult(tools=tools, ttl_ms=0, cache_scope="private")

    async def call_tool(self, ctx, params):
        name, arguments = params.name, params.arguments or {}
        match name:
            case "echo":
                return said(arguments["text"])
            case "progress":
                for done in (1, 2, 3):
                    await ctx.session.report_progress(done, 3, f"step {done}")
                return said("done")
            case "log":
                await ctx.session.send_log_message("warning", "watch out", "matrix", related_request_id=ctx.request_id)
                return said("logged")
            case "elicit" | "sample" | "roots":
                return await self.ask(ctx, params, name)
            case "slow":
                self.fates[arguments["key"]] = "running"
                try:
                    await anyio.sleep(60)
                except anyio.get_cancelled_exc_class():
                    self.fates[arguments["key"]] = "cancelled"
                    raise
                return said("too late")
            case "fate":
                return said(self.fates.get(arguments["key"], "unknown"))
            case "grow":
                self.names.append(f"grown{len(self.names)}")
                await self.bus.publish(ToolsListChanged())
                await self.tell(lambda session: session.send_tool_list_changed())
                return said(self.names[-1])
            case "touch":
                await self.bus.publish(ResourceUpdated(uri=WATCHED))
                await self.tell(lambda session: session.send_resource_updated(WATCHED))
                return said("touched")
            case "big":
                return said("x" * BIG)
            case "fail":
                return said("it went wrong", is_error=True)
            case "refuse":
                raise MCPError(code=-31999, message="refused", data={"why": "matrix"})
            case _ if name in self.names:
                return said(name)
        raise MCPError(code=types.INVALID_PARAMS, message=f"unknown tool: {name}")

    async def ask(self, ctx, params, name: str):
        """Asks the client in the way of its era: in the middle of the call, or by giving the call back."""
        request = self.question(name)
        if ctx.protocol_version == MODERN:
            answer = (params.input_responses or {}).get("q")
            if answer is None:
                return types.InputRequiredResult(input_requests={"q": request}, request_state="asked")
            if params.request_state != "asked":
                raise MCPError(code=types.INVALID_PARAMS, message="the state did not come back")
        else:
            kind = {"elicit": types.ElicitResult, "sample": types.CreateMessageResult, "roots": types.ListRootsResult}[name]
            metadata = ServerMessageMetadata(related_request_id=ctx.request_id)
            answer = await ctx.session.send_request(request, kind, metadata=metadata)
        match name:
            case "elicit":
                return said(f"{answer.action} {answer.content['name']}")
            case "sample":
                return said(answer.content.text)
            case _:
                return said(" ".join(str(root.uri) for root in answer.roots))

    @staticmethod
    def question(name: str):
        match name:
            case "elicit":
                return types.ElicitRequest(params=types.ElicitRequestFormParams(message="Who?", requested_schema=FORM))
            case "sample":
                message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="Capital?"))
                return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=10))
            case _:
                return types.ListRootsRequest()

    async def tell(self, notify):
        for key, session in list(self.sessions.items()):
            try:
                await notify(session)
            except Exception:  # Whoever has gone hears nothing.
                self.sessions.pop(key, None)

    async def list_resources(self, _ctx, _params):
        resource = types.Resource(uri=WATCHED, name="watched")
        return types.ListResourcesResult(resources=[resource], ttl_ms=0, cache_scope="private")

    async def read_resource(self, _ctx, params):
        content = types.TextResourceContents(uri=params.uri, text="memo")
        return types.ReadResourceResult(contents=[content], ttl_ms=0, cache_scope="private")

    async def subscribe(self, ctx, _params):
        self.sessions[id(ctx.session._connection)] = ctx.session
        return types.EmptyResult()

    async def list_prompts(self, _ctx, _params):
        argument = types.PromptArgument(name="city")
        prompt = types.Prompt(name="travel", arguments=[argument])
        return types.ListPromptsResult(prompts=[prompt], ttl_ms=0, cache_scope="private")

    async def get_prompt(self, _ctx, _params):
        message = types.PromptMessage(role="user", content=types.TextContent(type="text", text="Go!"))
        return types.GetPromptResult(messages=[message])

    async def complete(self, _ctx, params):
        cities = [city for city in ("lima", "lisbon", "oslo") if city.startswith(params.argument.value)]
        return types.CompleteResult(completion=types.Completion(values=cities, total=len(cities), has_more=False))

    async def set_level(self, _ctx, _params):
        return types.EmptyResult()


class Events(EventStore):
    """Keeps every event of every stream, so that a stream that broke off can be gone on with."""

    def __init__(self):
        self.kept: list[tuple[str, object]] = []

    async def store_event(self, stream_id, message):
        self.kept.append((stream_id, message))
        return str(len(self.kept))

    async def replay_events_after(self, last_event_id, send_callback):
        stream = self.kept[int(last_event_id) - 1][0]
        for number, (stream_id, message) in enumerate(self.kept[int(last_event_id) :], int(last_event_id) + 1):
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


class OneEra:
    """Refuses the requests of one era, as servers do that never heard of it, or no longer know it."""

    def __init__(self, app, only: str):
        self.app, self.only = app, only

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            version = dict(scope["headers"]).get(b"mcp-protocol-version", b"").decode()
            if self.only == "http" and version >= MODERN:
                return await refusal(-32000, "Bad Request: Server not initialized")(scope, receive, send)
            if self.only == "modern" and version < MODERN:
                if scope["method"] != "POST":
                    return await Response(status_code=405)(scope, receive, send)
                answer = refusal(-32022, "unsupported protocol version", {"supported": [MODERN], "requested": version})
                return await answer(scope, receive, send)
        await self.app(scope, receive, send)


def refusal(code: int, message: str, data: dict | None = None) -> JSONResponse:
    error = {"code": code, "message": message} | ({"data": data} if data else {})
    return JSONResponse({"jsonrpc": "2.0", "id": "server-error", "error": error}, status_code=400)


ALL = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)


async def serve_stdio(rows: Rows):
    server = rows.server()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options(ALL))


def sse_app(rows: Rows) -> Starlette:
    server, transport = rows.server(), SseServerTransport("/messages/")

    async def events(request):
        async with transport.connect_sse(request.scope, request.receive, request._send) as (read, write):
            await server.run(read, write, server.create_initialization_options(ALL))
        return Response()

    return Starlette(routes=[Route("/sse", events), Mount("/messages/", app=transport.handle_post_message)])


def http_app(rows: Rows, kind: str):
    server = rows.server()
    # What it tells of is fixed where the SDK builds the options for a session.
    options = server.create_initialization_options
    server.create_initialization_options = lambda notifications=None, *rest, **more: options(notifications or ALL, *rest, **more)
    app = server.streamable_http_app(event_store=Events(), retry_interval=100)
    return OneEra(app, kind)


async def serve_http(rows: Rows, kind: str):
    listener = socket.create_server(("127.0.0.1", 0))
    app = sse_app(rows) if kind == "sse" else http_app(rows, kind)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    path = "/sse" if kind == "sse" else "/mcp"
    print(f"http://127.0.0.1:{listener.getsockname()[1]}{path}", flush=True)
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    kind = sys.argv[1]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve_stdio(Rows()) if kind == "stdio" else serve_http(Rows(), kind))
