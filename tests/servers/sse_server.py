"""An MCP server over HTTP+SSE (2024-11-05), with the Python SDK's own transport: `sse_server.py PORT`."""

import sys

from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

server = MCPServer("old-python")


class Answer(BaseModel):
    """What is asked for."""

    name: str


@server.tool()
def echo(text: str) -> str:
    """Says what it is told."""
    return text


@server.tool()
async def ask(context: Context) -> str:
    """Asks who calls."""
    answer = await context.elicit("Who are you?", Answer)
    return f"{answer.action}: {answer.data.name if answer.action == 'accept' else ''}"


@server.tool()
async def count(context: Context) -> str:
    """Tells of its progress."""
    for step in (1, 2, 3):
        await context.report_progress(step, 3)
    return "counted"


server.run(transport="sse", port=int(sys.argv[1]))
