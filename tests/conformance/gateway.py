"""A control plane and some edges, as separate processes, and how to put an upstream behind them."""

import asyncio
import json
import os
import secrets
import time
import urllib.error
import urllib.request
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from processes import PATIENCE, Failed, Process, eventually, free_address

REVISION = "2026-07-28"
# The upstreams are on this machine.
EGRESS = {"TRUNKLINE_EGRESS_ALLOW": "loopback"}


@dataclass
class Admin:
    """What it takes to administer a running gateway; it can be handed to another process as a file."""

    programs: str
    config: str
    edges: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, file: Path) -> "Admin":
        return cls(**json.loads(file.read_text()))

    def save(self, file: Path):
        file.write_text(json.dumps(asdict(self)))

    async def ctl(self, *arguments: str) -> str:
        """Runs mcpctl, and returns what it printed."""
        env = os.environ | {"MCPCTL_CONFIG": self.config, "NO_COLOR": "1"}
        pipe, program = asyncio.subprocess.PIPE, Path(self.programs) / "mcpctl"
        child = await asyncio.create_subprocess_exec(
            program, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=env
        )
        said, talk = await child.communicate()
        if child.returncode:
            raise Failed(f"mcpctl {' '.join(arguments)}: {talk.decode().strip()}")
        return said.decode()

    async def expose(self, name: str, upstream: str, *options: str) -> str:
        """Registers an upstream and a server with everything of it, unprefixed; gives a bearer for the server."""
        await self.ctl("create", "upstream", name, "--url", upstream, *options)
        everything = [flag for kind in ("tool", "resource", "prompt") for flag in (f"--{kind}", f"{name}/*")]
        await self.ctl("create", "server", name, "--unprefixed", *everything)
        token = await self.ctl("create", "token", name, "--server", name, "--no-save", "-o", "json")
        return json.loads(token)["bearer"]

    async def withdraw(self, name: str):
        for noun in ("token", "server", "upstream"):
            await self.ctl("delete", noun, name)


def path_of(server: str) -> str:
    return f"/servers/{server}/mcp"


async def serves(edge: str, server: str, bearer: str, some: str) -> bool:
    """Whether an edge lists the tools of a server, with `some` among them; an error says why not."""
    return some.encode() in await asyncio.to_thread(list_tools, edge, server, bearer)


def list_tools(edge: str, server: str, bearer: str) -> bytes:
    meta = {"io.modelcontextprotocol/protocolVersion": REVISION, "io.modelcontextprotocol/clientCapabilities": {}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    headers = {
        "Authorization": f"Bearer {bearer}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": "tools/list",
    }
    post = urllib.request.Request(f"http://{edge}{path_of(server)}", json.dumps(request).encode(), headers)
    try:
        with urllib.request.urlopen(post, timeout=5) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise Failed(f"{error.code}: {error.read().decode(errors='replace')}") from None


class Gateway:
    """Running while it is entered."""

    def __init__(self, programs: Path, folder: Path, edges: int):
        self.programs, self.folder, self.count = programs, folder, edges
        self.admin = Admin(str(programs), str(folder / "mcpctl.yaml"))
        self.operations: list[str] = []

    async def __aenter__(self):
        self.folder.mkdir(parents=True)
        async with AsyncExitStack() as stack:
            await self.start_control(stack)
            join_token = (await self.admin.ctl("create", "join-token", "--max-uses", "0")).strip()
            for index in range(self.count):
                await self.start_edge(stack, index, join_token)
            for edge in self.operations:
                await until_acquainted(edge, self.count - 1)
            self.stack = stack.pop_all()
        self.admin.save(self.file)
        return self

    async def __aexit__(self, *_):
        await self.stack.aclose()

    @property
    def file(self) -> Path:
        return self.folder / "admin.json"

    async def start_control(self, stack: AsyncExitStack):
        address, admin_token = free_address(), secrets.token_urlsafe(24)
        self.control = f"http://{address}"
        # JSON is YAML, too.
        context = {"currentContext": "c", "contexts": {"c": {"control": self.control, "adminToken": admin_token}}}
        Path(self.admin.config).write_text(json.dumps(context))
        command = [str(self.programs / "trunkline-control-plane"), "--listen", address]
        command += ["--data-dir", str(self.folder / "control")]
        process = Process("control-plane", command, self.folder, {"TRUNKLINE_ADMIN_TOKEN": admin_token, **EGRESS})
        await stack.enter_async_context(process)
        await eventually("the control plane answers", process, lambda: self.admin.ctl("get", "edges", "-o", "json"))

    async def start_edge(self, stack: AsyncExitStack, index: int, join_token: str):
        address, operations = free_address(), free_address()
        command = [str(self.programs / "trunkline-edge-proxy"), "--listen", address, "--ops-listen", operations]
        command += ["--sibling-listen", "127.0.0.1:0", "--control-plane", self.control, "--edge-id", f"e{index}"]
        command += ["--data-dir", str(self.folder / f"edge{index}")]
        process = Process(f"edge{index}", command, self.folder, {"TRUNKLINE_JOIN_TOKEN": join_token, **EGRESS})
        await stack.enter_async_context(process)
        await eventually(f"edge {index} listens", process, lambda: connects(address))
        self.admin.edges.append(address)
        self.operations.append(operations)

    async def expose(self, name: str, upstream: str) -> str:
        """Puts an upstream behind every edge; gives the bearer."""
        bearer = await self.admin.expose(name, upstream)
        for edge in self.admin.edges:
            await until_served(edge, name, bearer)
        return bearer


async def until_acquainted(operations: str, others: int):
    """Waits until an edge knows so many others: sessions are shared from then on."""
    wanted = f"trunkline_edge_sibling_known {others}"
    for _ in range(200):
        if wanted in (await asyncio.to_thread(metrics, operations)).splitlines():
            return
        await asyncio.sleep(0.05)
    raise Failed(f"the edge at {operations} does not get to know {others} others")


def metrics(operations: str) -> str:
    with urllib.request.urlopen(f"http://{operations}/metrics", timeout=5) as answer:
        return answer.read().decode()


async def until_served(edge: str, server: str, bearer: str, some: str = '"inputSchema"'):
    """Waits until an edge serves a server, with some tool unless `some` says otherwise."""
    end, trouble = time.monotonic() + PATIENCE, "it lists no tools"
    while time.monotonic() < end:
        try:
            if await serves(edge, server, bearer, some):
                return
        except (OSError, Failed) as error:
            trouble = error
        await asyncio.sleep(0.05)
    raise Failed(f"edge {edge} does not serve {server}: {trouble}")


async def connects(address: str) -> bool:
    host, port = address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    return True
