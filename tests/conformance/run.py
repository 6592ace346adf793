"""`make conformance`: the public MCP conformance suite against our fixture, direct and through the gateway.

Every scenario must pass, and every check must come out through the gateway as it does direct. Expected failures: none.
"""

import argparse
import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import suite
from balancer import Balancer
from gateway import Gateway
from processes import Failed, Process, eventually

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {"direct": 0, "one-edge": 1, "three-edges": 3}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, required=True, help="the folder with our programs, such as target/debug")
    parser.add_argument("--results", type=Path, required=True, help="the folder for logs and results; emptied first")
    parser.add_argument("--tools", type=Path, default=ROOT / ".tools" / "conformance", help="where setup.sh installed the suite")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this target; may be repeated")
    parser.add_argument("--suite", action="append", choices=[s.title for s in suite.SUITES], help="only this suite; may be repeated")
    parser.add_argument("--scenario", help="only this scenario")
    return parser.parse_args()


class Run:
    """What was asked for, and what was found."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.folder = options.results / time.strftime("%Y%m%d-%H%M%S")
        self.suites = [s for s in suite.SUITES if not options.suite or s.title in options.suite]
        self.direct: dict[str, suite.Findings] = {}
        self.rows: list[tuple[str, ...]] = []
        self.trouble: list[str] = []

    async def all(self):
        self.folder.mkdir(parents=True)
        fixture = Process("fixture", [str(self.options.programs / "examples" / "conformance-server")], self.folder)
        async with fixture:
            url = await eventually("the fixture serves", fixture, lambda: first_line(fixture))
            for target in self.options.target or TARGETS:
                await self.one(target, url)

    async def one(self, target: str, fixture: str):
        """The suites against one target."""
        async with AsyncExitStack() as stack:
            try:
                url = await self.enter(stack, target, fixture)
            except Failed as error:
                self.trouble.append(f"{target}: {error}")
                self.rows.append((target, *("not run" for _ in self.suites)))
                return
            cells = [await self.suite(target, each, url) for each in self.suites]
            self.rows.append((target, *cells))

    async def enter(self, stack: AsyncExitStack, target: str, fixture: str) -> str:
        if not TARGETS[target]:
            return fixture
        gateway = Gateway(self.options.programs, self.folder / target, TARGETS[target], fixture)
        await stack.enter_async_context(gateway)
        balancer = await stack.enter_async_context(Balancer(gateway.edges, gateway.path, gateway.bearer))
        return balancer.url

    async def suite(self, target: str, each: suite.Suite, url: str) -> str:
        print(f"{target}: {each.title}", file=sys.stderr)
        results = self.folder / target / each.title.replace(", ", "-")
        try:
            findings = await suite.run(each, url, self.options.tools, results, self.options.scenario)
        except Failed as error:
            self.trouble.append(f"{target}: {each.title}: {error}")
            return "not run"
        if target == "direct":
            self.direct[each.title] = findings
        for line in findings.worse_than(self.direct.get(each.title) if target != "direct" else None):
            self.trouble.append(f"{target}: {each.title}: {line}")
        return findings.summary()

    def report(self) -> str:
        table = [("target", *(each.title for each in self.suites)), *self.rows]
        widths = [max(map(len, column)) for column in zip(*table)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
        return "\n".join([*lines, "", *self.trouble, f"Logs and results: {self.folder}"])


async def first_line(process: Process) -> str:
    return process.said().partition("\n")[0]


def main() -> int:
    run = Run(arguments())
    try:
        asyncio.run(run.all())
    except Failed as error:
        run.trouble.append(str(error))
    print(run.report())
    return 1 if run.trouble else 0


if __name__ == "__main__":
    sys.exit(main())
