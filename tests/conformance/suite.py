"""Runs the public conformance suite against a URL, and reads what it found."""

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
    """One way to run the suite."""

    title: str
    package: str
    arguments: tuple[str, ...]


SUITES = [
    Suite("0.1.16, all", "conformance-0.1", ("--suite", "all")),
    Suite("2025-11-25", "conformance-0.2", ("--requirements", "2025-11-25")),
    Suite("2026-07-28", "conformance-0.2", ("--requirements", "2026-07-28")),
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
        return f"{len(self.passed())}/{len(self.checks)} ({every.count('SUCCESS')} checks)"

    def worse_than(self, direct: "Findings | None") -> list[str]:
        """One line for every check that failed, or came out otherwise than direct."""
        lines = []
        scenarios = sorted(self.checks.keys() | (direct.checks.keys() if direct else set()))
        for scenario in scenarios:
            here, there = self.checks.get(scenario, {}), (direct.checks.get(scenario, {}) if direct else {})
            for check in sorted(here.keys() | there.keys()):
                status, said = here.get(check, ("missing", ""))
                expected = there.get(check, (status, ""))[0] if direct else "SUCCESS"
                # `incoming-sse-event` and its like only narrate.
                if status == "FAILURE" or (direct and status != expected and "INFO" not in (status, expected)):
                    lines.append(f"{scenario}: {check}: {status} (direct: {expected}) {said}".rstrip())
        return lines


async def run(suite: Suite, url: str, tools: Path, results: Path, scenario: str | None) -> Findings:
    """Runs it; the files it leaves in `results` say all that it saw."""
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    node = next(iter(sorted(tools.glob("node_modules/node-linux-*/bin/node"))), None)
    if node is None:
        raise Failed("Node is missing: run `tests/setup.sh conformance`")
    script = tools / "node_modules" / suite.package / "dist" / "index.js"
    arguments = ["--scenario", scenario, *(("--spec-version", suite.title) if suite.package.endswith("2") else ())]
    command = [node, script, "server", "--url", url, *(arguments if scenario else suite.arguments), "-o", results]
    with (results / "output.txt").open("w") as output:
        child = await asyncio.create_subprocess_exec(*map(str, command), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output)
        await child.wait()
    findings = read(results)
    if not findings.checks:
        raise Failed(f"the suite found nothing:\n{(results / 'output.txt').read_text()[-4000:]}")
    return findings


def read(results: Path) -> Findings:
    findings = Findings()
    for file in sorted(results.glob("server-*/checks.json")):
        scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[\d-]+Z$", "", file.parent.name)
        for check in json.loads(file.read_text()):
            findings.add(scenario, check)
    return findings
