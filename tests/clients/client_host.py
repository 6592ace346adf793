"""A host: the Python `mcp` SDK, connected as an entry of a host's file says. See README.md for its argument and its output."""

import asyncio
import json
import os
import re
import sys
import tomllib
from contextlib import AsyncExitStack
from pathlib import Path

import yaml
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

VARIABLE = re.compile(r"\$\{(?:env:)?([A-Z_]+)\}")


def read(path: Path) -> dict:
    text = path.read_text()
    if path.suffix == ".toml":
        return tomllib.loads(text)
    return yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)


def headers(entry: dict) -> dict:
    if variable := entry.get("bearer_token_env_var"):
        return {"Authorization": f"Bearer {os.environ[variable]}"}
    value = lambda text: VARIABLE.sub(lambda found: os.environ[found[1]], text)
    return {name: value(text) for name, text in entry.get("headers", {}).items()}


async def main(order: dict) -> dict:
    entry = read(Path(order["file"]))[order["at"]][order["name"]]
    url = next((entry[name] for name in ("url", "httpUrl", "serverUrl", "uri") if name in entry), None)
    async with AsyncExitStack() as stack:
        if url:
            http = await stack.enter_async_context(create_mcp_http_client(headers=headers(entry)))
            transport = streamable_http_client(url, http_client=http)
        else:
            command, env = entry.get("command") or entry["cmd"], entry.get("env") or entry["envs"]
            transport = StdioServerParameters(command=command, args=entry["args"], env=env)
        client = await stack.enter_async_context(Client(transport))
        result = await client.call_tool(order["call"]["name"], order["call"]["arguments"])
        return {"text": "".join(part.text for part in result.content if part.type == "text")}


print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
