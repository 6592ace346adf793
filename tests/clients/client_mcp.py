"""The Python `mcp` SDK as a client, over Streamable HTTP or HTTP+SSE. See README.md for its argument and its output."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from mcp import MCPError
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client


async def call(client: Client, name: str, arguments: dict) -> dict:
    try:
        result = await client.call_tool(name, arguments)
    except MCPError as error:
        return {"error": {"code": error.code, "message": error.message}}
    answer = {"text": "".join(part.text for part in result.content if part.type == "text")}
    return answer | {"is_error": True} if result.is_error else answer


async def main(order: dict) -> dict:
    headers = {"Authorization": f"Bearer {order['bearer']}"}
    async with AsyncExitStack() as stack:
        if order.get("transport") == "sse":
            transport = sse_client(order["url"], headers=headers)
        else:
            http = await stack.enter_async_context(create_mcp_http_client(headers=headers))
            transport = streamable_http_client(order["url"], http_client=http)
        client = await stack.enter_async_context(Client(transport, mode=order.get("mode", "auto")))
        tools, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            tools += [tool.name for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                break
        calls = [await call(client, c["name"], c["arguments"]) for c in order["calls"]]
        return {"protocol": client.session.protocol_version, "tools": tools, "calls": calls}


print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
