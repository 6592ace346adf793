"""Runs the public conformance suite, and reads what it found."""

import asyncio
import json
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from processes import Failed

# Worse comes later; a scenario may report the same check several times, of which the worst counts.
STATUSES = ["SUCCESS", "INFO", "SKIPPED", "WARNING", "FAILURE"]


@dataclass(frozen=True)
class Suite:
    """One way to run the suite. With `clients`, it is the server, and tests a client scenario by scenario."""

    title: str
    package: str
    revision: str
    arguments: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()


SUITES = [
    Suite("0.1.16", "conformance-0.1", "", ("--suite", "all")),
    Suite("2025-11-25", "conformance-0.2", "2025-11-25", ("--requirements", "2025-11-25")),
    Suite("2026-07-28", "conformance-0.2", "2026-07-28", ("--requirements", "2026-07-28")),
    # The scenarios about OAuth are left to the tests of upstream authorization.
    Suite(
        "client 2025-11-25",
        "conformance-0.2",
        "2025-11-25",
        clients=("initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry", "json-schema-2020-12-preservation"),
    ),
    Suite(
        "client 2026-07-28",
        "conformance-0.2",
        "2026-07-28",
        clients=(
            "tools_call",
            "request-metadata",
            "http-standard-headers",
            "http-custom-headers",
            "http-invalid-tool-headers",
            "sep-2322-client-request-state",
            "json-schema-ref-no-deref",
            "json-schema-2020-12-preservation",
        ),
    ),
]


@dataclass
class Findings:
    """By scenario, then by check: the status and what was said about it."""

    checks: dict[str, dict[str, tuple[str, str]]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, scenario: str, check: dict):
        status, known = check["status"], self.checks[scenario].get(check["id"])
        if known is None or STATUSES.index(status) > STATUSES.index(known[0]):
            self.checks[scenario][check["id"]] = (status, check.get("errorMessage") or "")

    def passed(self) -> list[str]:
        return [name for name, checks in self.checks.items() if not any(s == "FAILURE" for s, _ in checks.values())]

    def summary(self) -> str:
        every = [status for checks in self.checks.values() for status, _ in checks.values()]
        return f"{len(self.passed())}/{len(self.checks)} ({every.count('SUCCESS')})"

    def trouble(self, direct: "Findings | None", may_skip: bool) -> list[str]:
        """One line for every check that failed, or that came out otherwise than direct.

        A client may skip checks of what it can be asked: the gateway asks who is there on nobody's behalf, and then
        declares nothing.
        """
        lines = []
        for scenario in sorted(self.checks.keys() | (direct.checks.keys() if direct else set())):
            here = self.checks.get(scenario, {})
            there = direct.checks.get(scenario, {}) if direct else here
            for check in sorted(here.keys() | there.keys()):
                status, said = here.get(check, ("missing", ""))
                expected = there.get(check, ("missing", ""))[0]
                # INFO narrates, and as it pleases.
                other = status != expected and "INFO" not in (status, expected)
                if status == "FAILURE" or (other and not (may_skip and status == "SKIPPED")):
                    lines.append(f"{scenario}: {check}: {status} (direct: {expected}) {said}".rstrip())
        return lines


@dataclass(frozen=True)
class Target:
    """What is tested: a server at a URL, and a client that is a command line."""

    url: str
    client: str


async def run(suite: Suite, target: Target, tools: Path, results: Path, scenario: str | None) -> Findings:
    """Runs it; the files it leaves in `results` say all that it saw."""
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    # A scenario of a client has a server of its own, so that all may run at once.
    commands = [[*arguments, "-o", str(results)] for arguments in command_lines(suite, target, scenario)]
    await asyncio.gather(*[execute(tools, suite.package, command, results / "output.txt") for command in commands])
    findings = read(results, "" if suite.clients else "server-")
    if not findings.checks and not scenario:
        raise Failed(f"the suite found nothing:\n{(results / 'output.txt').read_text()[-4000:]}")
    return findings


def command_lines(suite: Suite, target: Target, scenario: str | None) -> list[list[str]]:
    version = ["--spec-version", suite.revision] if suite.revision else []
    if suite.clients:
        wanted = [each for each in suite.clients if scenario in (None, each)]
        return [["client", "--command", target.client, "--scenario", each, *version] for each in wanted]
    what = ["--scenario", scenario, *version] if scenario else suite.arguments
    return [["server", "--url", target.url, *what]]


async def execute(tools: Path, package: str, arguments: list[str], log: Path):
    node = next(iter(sorted(tools.glob("node_modules/node-linux-*/bin/node"))), None)
    if node is None:
        raise Failed("Node is missing: run `tests/setup.sh conformance`")
    script = tools / "node_modules" / package / "dist" / "index.js"
    with log.open("a") as output:
        child = await asyncio.create_subprocess_exec(
            node, script, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
        await child.wait()


def read(results: Path, prefix: str) -> Findings:
    findings = Findings()
    for file in sorted(results.glob("*/checks.json")):
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", file.parent.name.removeprefix(prefix))
        for check in json.loads(file.read_text()):
            findings.add(scenario, check)
    return findings
