"""`make protocol`: every kind of client calls every kind of upstream through a running gateway, row by row.

Exit 1 where a cell that should work does not, or one that cannot work does. `--write FILE` puts the table into FILE
between its two marks; `--check FILE` says whether it is what stands there.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import AsyncExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "conformance"))

import anyio  # noqa: E402
import typescript  # noqa: E402
from clients import WAYS, Place, Way, client  # noqa: E402
from gateway import Gateway  # noqa: E402
from limits import LIMITS, limit  # noqa: E402
from processes import Failed, Process, eventually, free_address  # noqa: E402
from rows import ROWS  # noqa: E402

# The order of the table's blocks: the title, and what server.py is told; one is server.mjs.
UPSTREAMS = {
    "legacy, HTTP": "http",
    "legacy, HTTP, TypeScript": "typescript",
    "legacy, HTTP+SSE": "sse",
    "legacy, stdio": "stdio",
    "modern": "modern",
    "both eras": "dual",
}
PATIENCE = 90
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, required=True, help="the folder with our programs, such as target/debug")
    parser.add_argument("--edges", type=int, default=2, help="clients and rows take turns on so many edges")
    parser.add_argument("--upstream", action="append", choices=UPSTREAMS, help="only this upstream; may be repeated")
    parser.add_argument("--client", action="append", choices=[way.title for way in WAYS], help="only this client; may be repeated")
    parser.add_argument("--row", action="append", choices=ROWS, help="only this row; may be repeated")
    parser.add_argument("--write", type=Path, help="put the table into this file")
    parser.add_argument("--check", type=Path, help="fail where the table in this file is another")
    parser.add_argument("--verbose", action="store_true", help="say how each cell failed at length")
    return parser.parse_args()


class Run:
    """What was asked for, and what was found: by upstream, row and client, `None` or why the cell does not work."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder = options, folder
        self.ways = [way for way in WAYS if not options.client or way.title in options.client]
        self.rows = {name: row for name, row in ROWS.items() if not options.row or name in options.row}
        self.found: dict[tuple[str, str, str], str | None] = {}

    async def all(self):
        async with AsyncExitStack() as stack:
            gateway = await stack.enter_async_context(Gateway(self.options.programs, self.folder / "gateway", self.options.edges))
            for title in self.options.upstream or UPSTREAMS:
                await self.upstream(stack, gateway, title)

    async def upstream(self, stack: AsyncExitStack, gateway: Gateway, title: str):
        kind = UPSTREAMS[title]
        try:
            url = await self.start(stack, kind)
            bearer = await gateway.expose(kind, url)
        except Failed as trouble:
            for row in self.rows:
                self.found |= {(title, row, way.title): str(trouble) for way in self.ways}
            return
        # The kinds of client take no notice of each other, so they may all come at once; but a process on stdio is one
        # session, and cannot say which of several clients it asks.
        turns = asyncio.Semaphore(1 if kind == "stdio" else len(self.ways))
        places = [self.place(gateway, number, kind, bearer) for number in range(len(self.ways))]
        await asyncio.gather(*[self.one(title, way, place, turns) for way, place in zip(self.ways, places)])

    async def start(self, stack: AsyncExitStack, kind: str) -> str:
        """Starts an upstream, and gives the URL to register."""
        server = [sys.executable, "-W", "ignore", str(HERE / "server.py"), kind]
        if kind == "typescript":
            server = ["node", str(HERE / "server.mjs")]
        if kind == "stdio":
            address = free_address()
            server = [str(self.options.programs / "mcpctl"), "expose", "--era", "legacy", "--listen", address, "--", *server]
        process = await stack.enter_async_context(Process(f"upstream-{kind}", server, self.folder))
        if kind == "stdio":
            return f"http://{address}/mcp"
        return await eventually(f"{kind} serves", process, lambda: first_line(process))

    def place(self, gateway: Gateway, number: int, server: str, bearer: str) -> Place:
        edge = gateway.admin.edges[number % len(gateway.admin.edges)]
        return Place(edge, server, bearer, str(self.options.programs / "mcpctl"), str(self.context(edge, server, bearer)))

    def context(self, edge: str, server: str, bearer: str) -> Path:
        """What `mcpctl connect` must know. JSON is YAML, too."""
        token = {"bearer": bearer, "servers": [server]}
        context = {"edge": f"http://{edge}", "tokens": {server: token}}
        file = self.folder / f"mcpctl-{server}-{edge.rpartition(':')[2]}.yaml"
        file.write_text(json.dumps({"currentContext": "c", "contexts": {"c": context}}))
        file.chmod(0o600)
        return file

    async def one(self, upstream: str, way: Way, place: Place, turns: asyncio.Semaphore):
        async with AsyncExitStack() as stack:
            child = await stack.enter_async_context(typescript.process(way, place)) if way.sdk == "TypeScript" else None
            for name, row in self.rows.items():
                began = time.monotonic()
                async with turns:
                    trouble = await (typescript.trouble(child, name, PATIENCE) if child else self.cell(row, way, place))
                self.found[upstream, name, way.title] = trouble
                said = f"{upstream} · {way.title} · {name}: {trouble or 'works'} ({time.monotonic() - began:.1f} s)"
                print(said, file=sys.stderr)

    async def cell(self, row, way: Way, place: Place) -> str | None:
        works = False
        try:
            with anyio.fail_after(PATIENCE):
                async with client(way, place) as (connected, heard):
                    await row(connected, heard, way)
                    works = True
        except Exception as error:
            # The SDK's streams break where something still arrives while the client leaves.
            if works:
                return None
            if self.options.verbose:
                traceback.print_exc()
            return innermost(error)
        return None

    def differences(self) -> list[str]:
        lines = []
        for (upstream, row, title), trouble in self.found.items():
            way = next(way for way in WAYS if way.title == title)
            number = limit(row, way, upstream)
            if number is None and trouble:
                lines.append(f"{upstream} · {title} · {row}: does not work: {trouble}")
            if number is not None and not trouble:
                lines.append(f"{upstream} · {title} · {row}: works, although: {LIMITS[number].reason}")
        return lines

    def table(self) -> str:
        return "\n\n".join([*[self.block(title) for title in UPSTREAMS], self.reasons()])

    def block(self, upstream: str) -> str:
        lines = [f"**Upstream: {upstream}**", "", f"| | {' | '.join(way.title for way in WAYS)} |", "|---" * (len(WAYS) + 1) + "|"]
        for row in ROWS:
            cells = [self.mark(limit(row, way, upstream)) for way in WAYS]
            lines.append(f"| {row} | {' | '.join(cells)} |")
        return "\n".join(lines)

    @staticmethod
    def mark(number: int | None) -> str:
        return "yes" if number is None else f"no ({number + 1})"

    @staticmethod
    def reasons() -> str:
        return "\n".join(f"{number}. {rule.reason}" for number, rule in enumerate(LIMITS, 1))


def innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:300]


async def first_line(process: Process) -> str:
    return process.said().partition("\n")[0]


def parts(file: Path) -> tuple[str, str, str]:
    before, _, rest = file.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    return before, table.strip(), after


def main() -> int:
    options = arguments()
    # The SDK warns of what newer revisions deprecate; the matrix is about all of them.
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="trunkline-matrix-") as folder:
        run = Run(options, Path(folder))
        try:
            asyncio.run(run.all())
        except Failed as error:
            print(error)
            return 1
        trouble = run.differences()
    if options.write and not trouble:
        before, _, after = parts(options.write)
        options.write.write_text(f"{before}{BEGIN}\n{run.table()}\n{END}{after}")
    if options.check and parts(options.check)[1] != run.table():
        trouble.append(f"{options.check} holds another table: run `make protocol`")
    works = sum(not trouble for trouble in run.found.values())
    print("\n".join([*trouble, f"{works} of {len(run.found)} cells work"]))
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
