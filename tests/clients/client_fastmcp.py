"""FastMCP as a client. See README.md for its argument and its output."""

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp import MCPError


async def call(client: Client, name: str, arguments: dict) -> dict:
    try:
        result = await client.call_tool(name, arguments, raise_on_error=False)
    except MCPError as error:
        return {"error": {"code": error.code, "message": error.message}}
    answer = {"text": "".join(part.text for part in result.content if part.type == "text")}
    return answer | {"is_error": True} if result.is_error else answer


async def main(order: dict) -> dict:
    transport = StreamableHttpTransport(order["url"], auth=order["bearer"])
    async with Client(transport, mode=order.get("mode", "auto")) as client:
        tools = [tool.name for tool in await client.list_tools()]
        calls = [await call(client, c["name"], c["arguments"]) for c in order["calls"]]
        return {"protocol": client.session.protocol_version, "tools": tools, "calls": calls}


print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
