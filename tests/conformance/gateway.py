"""A control plane and some edges, as separate processes, with one unprefixed server over one upstream."""

import asyncio
import json
import os
import secrets
import urllib.error
import urllib.request
from contextlib import AsyncExitStack
from pathlib import Path

from processes import Failed, Process, eventually, free_address

SERVER = "conformance"
REVISION = "2026-07-28"


class Gateway:
    """Ready for clients once it is entered."""

    def __init__(self, programs: Path, folder: Path, edges: int, upstream: str):
        self.programs, self.folder, self.count, self.upstream = programs, folder, edges, upstream
        self.edges: list[str] = []
        self.path = f"/servers/{SERVER}/mcp"

    async def __aenter__(self):
        self.folder.mkdir(parents=True)
        async with AsyncExitStack() as stack:
            await self.start(stack)
            self.stack = stack.pop_all()
        return self

    async def __aexit__(self, *error):
        await self.stack.aclose()

    async def start(self, stack: AsyncExitStack):
        await self.start_control(stack)
        await self.ctl("create", "upstream", "fixture", "--url", self.upstream)
        everything = [flag for kind in ("tool", "resource", "prompt") for flag in (f"--{kind}", "fixture/*")]
        await self.ctl("create", "server", SERVER, "--unprefixed", *everything)
        token = await self.ctl("create", "token", "suite", "--server", SERVER, "--no-save", "-o", "json")
        self.bearer = json.loads(token)["bearer"]
        join_token = (await self.ctl("create", "join-token")).strip()
        for index in range(self.count):
            await self.start_edge(stack, index, join_token)

    async def start_control(self, stack: AsyncExitStack):
        address, admin = free_address(), secrets.token_urlsafe(24)
        self.control = f"http://{address}"
        # JSON is YAML, too.
        context = {"currentContext": "c", "contexts": {"c": {"control": self.control, "adminToken": admin}}}
        (self.folder / "mcpctl.yaml").write_text(json.dumps(context))
        command = [self.program("trunkline-control-plane"), "--listen", address, "--data-dir", str(self.folder / "control")]
        process = await stack.enter_async_context(Process("control-plane", command, self.folder, {"TRUNKLINE_ADMIN_TOKEN": admin}))
        await eventually("the control plane answers", process, lambda: self.ctl("get", "edges", "-o", "json"))

    async def start_edge(self, stack: AsyncExitStack, index: int, join_token: str):
        address = free_address()
        command = [self.program("trunkline-edge-proxy"), "--listen", address, "--ops-listen", free_address()]
        command += ["--control-plane", self.control, "--edge-id", f"e{index}", "--data-dir", str(self.folder / f"edge{index}")]
        process = Process(f"edge{index}", command, self.folder, {"TRUNKLINE_JOIN_TOKEN": join_token})
        process = await stack.enter_async_context(process)
        await eventually(f"edge {index} serves the catalogue", process, lambda: asyncio.to_thread(self.lists_tools, address))
        self.edges.append(address)

    def program(self, name: str) -> str:
        return str(self.programs / name)

    async def ctl(self, *arguments: str) -> str:
        """Runs mcpctl, and returns what it printed."""
        env = os.environ | {"MCPCTL_CONFIG": str(self.folder / "mcpctl.yaml"), "NO_COLOR": "1"}
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(self.program("mcpctl"), *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=env)
        said, talk = await child.communicate()
        if child.returncode:
            raise Failed(f"mcpctl {' '.join(arguments)}: {talk.decode().strip()}")
        return said.decode()

    def lists_tools(self, address: str) -> bool:
        meta = {"io.modelcontextprotocol/protocolVersion": REVISION, "io.modelcontextprotocol/clientCapabilities": {}}
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
        headers = {
            "Authorization": f"Bearer {self.bearer}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": REVISION,
            "Mcp-Method": "tools/list",
        }
        post = urllib.request.Request(f"http://{address}{self.path}", json.dumps(request).encode(), headers)
        try:
            with urllib.request.urlopen(post, timeout=5) as answer:
                return b'"test_simple_text"' in answer.read()
        except urllib.error.HTTPError as error:
            raise Failed(f"{error.code}: {error.read().decode(errors='replace')}") from None
