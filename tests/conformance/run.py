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
from gateway import Gateway, path_of
from processes import Failed, Process, eventually

HERE = Path(__file__).resolve().parent
TARGETS = {"direct": 0, "one-edge": 1, "three-edges": 3}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, required=True, help="the folder with our programs, such as target/debug")
    parser.add_argument("--results", type=Path, required=True, help="the folder for logs and results; emptied first")
    parser.add_argument("--tools", type=Path, default=HERE.parents[1] / ".tools" / "conformance", help="where setup.sh installed the suite")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this target; may be repeated")
    parser.add_argument("--suite", action="append", choices=[s.title for s in suite.SUITES], help="only this suite; may be repeated")
    parser.add_argument("--scenario", help="only this scenario")
    options = parser.parse_args()
    options.programs, options.results = options.programs.absolute(), options.results.absolute()
    return options


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
            for name in self.options.target or TARGETS:
                await self.one(name, url)

    async def one(self, name: str, fixture: str):
        """The suites against one target."""
        async with AsyncExitStack() as stack:
            try:
                target = await self.enter(stack, name, fixture)
            except Failed as error:
                self.trouble.append(f"{name}: {error}")
                self.rows.append((name, *("not run" for _ in self.suites)))
                return
            self.rows.append((name, *[await self.suite(name, each, target) for each in self.suites]))

    async def enter(self, stack: AsyncExitStack, name: str, fixture: str) -> suite.Target:
        if not TARGETS[name]:
            return suite.Target(fixture, str(self.options.programs / "examples" / "conformance-client"))
        gateway = await stack.enter_async_context(Gateway(self.options.programs, self.folder / name, TARGETS[name]))
        bearer = await gateway.expose("fixture", fixture)
        balancer = await stack.enter_async_context(Balancer(gateway.admin.edges, path_of("fixture"), bearer))
        # The suite splits the command at spaces.
        return suite.Target(balancer.url, f"{sys.executable} {HERE / 'client.py'} {gateway.file}")

    async def suite(self, name: str, each: suite.Suite, target: suite.Target) -> str:
        print(f"{name}: {each.title}", file=sys.stderr)
        results = self.folder / name / each.title.replace(" ", "-")
        try:
            findings = await suite.run(each, target, self.options.tools, results, self.options.scenario)
        except Failed as error:
            self.trouble.append(f"{name}: {each.title}: {error}")
            return "not run"
        if name == "direct":
            self.direct[each.title] = findings
        for line in findings.trouble(self.direct.get(each.title), may_skip=bool(each.clients)):
            self.trouble.append(f"{name}: {each.title}: {line}")
        return findings.summary()

    def report(self) -> str:
        table = [("scenarios (checks)", *(each.title for each in self.suites)), *self.rows]
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
