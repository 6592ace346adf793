"""An MCP server over WebSocket, by hand over the `websockets` library: `ws_server.py PORT [ERAS]`.

It speaks the `legacy` era, the `modern` one or `both`; `strict` is a legacy one that closes the connection on which it is sent what it
does not know. What it tells of changes, it tells on every connection.
"""

import asyncio
import json
import sys

import websockets

ERAS = sys.argv[2] if len(sys.argv) > 2 else "legacy"
TOOLS = ["ask", "echo", "era", "grow"]
CONNECTIONS = set()


async def say(connection, **message):
    await connection.send(json.dumps({"jsonrpc": "2.0", **message}))


def text(value):
    return {"content": [{"type": "text", "text": value}]}


async def call(connection, answers, name, arguments):
    if name == "echo":
        return text(arguments["text"])
    if name == "ask":
        params = {"message": "Who are you?", "requestedSchema": {"type": "object", "properties": {}}}
        answers["q"] = asyncio.get_running_loop().create_future()
        await say(connection, id="q", method="elicitation/create", params=params)
        return text(json.dumps(await answers["q"]))
    if name == "grow":
        TOOLS.append("grown")
        for other in CONNECTIONS:
            await say(other, method="notifications/tools/list_changed")
    return text(name)


async def answer(connection, answers, message):
    method, params = message.get("method"), message.get("params", {})
    modern = "io.modelcontextprotocol/protocolVersion" in params.get("_meta", {})
    if method == "server/discover" and ERAS in ("modern", "both"):
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": True}}}
    elif method == "subscriptions/listen" and modern:
        await say(connection, method="notifications/subscriptions/acknowledged", params={"notifications": {"toolsListChanged": True}})
        return
    elif method == "initialize" and ERAS != "modern":
        facts = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": True}}}
        result = {**facts, "serverInfo": {"name": "frames", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    elif method == "tools/call":
        if params["name"] == "era":
            result = text("modern" if modern else "legacy")
        else:
            result = await call(connection, answers, params["name"], params.get("arguments", {}))
    elif method == "ping":
        result = {}
    elif ERAS == "strict":
        await connection.close()
        return
    else:
        await say(connection, id=message["id"], error={"code": -32601, "message": f"no {method}"})
        return
    await say(connection, id=message["id"], result={**result, "resultType": "complete"} if modern else result)


async def serve(connection):
    assert connection.subprotocol == "mcp", connection.subprotocol
    CONNECTIONS.add(connection)
    answers, calls = {}, set()
    try:
        async for frame in connection:
            message = json.loads(frame)
            if "method" not in message:
                answers[message["id"]].set_result(message["result"])
            elif "id" in message:
                calls.add(asyncio.create_task(answer(connection, answers, message)))
    finally:
        CONNECTIONS.remove(connection)


async def main():
    async with websockets.serve(serve, "127.0.0.1", int(sys.argv[1]), subprotocols=["mcp"]):
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
