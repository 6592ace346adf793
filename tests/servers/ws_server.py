"""An MCP server over WebSocket, by hand over the `websockets` library: `ws_server.py PORT`.

What it tells of changes, it tells on every connection.
"""

import asyncio
import json
import sys

import websockets

TOOLS = ["ask", "echo", "grow"]
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
    if method == "initialize":
        facts = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": True}}}
        result = {**facts, "serverInfo": {"name": "frames", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    elif method == "tools/call":
        result = await call(connection, answers, params["name"], params.get("arguments", {}))
    elif method == "ping":
        result = {}
    else:
        await say(connection, id=message["id"], error={"code": -32601, "message": f"no {method}"})
        return
    await say(connection, id=message["id"], result=result)


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
