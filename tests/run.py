"""Runs all tests, and those that failed once more, alone.

    python3 tests/run.py COMMAND...       COMMAND is `cargo test` with its options
    python3 tests/run.py --check          tries this program itself

A test that fails and then passes is reported as `FLAKY NAME` in the last lines; one that fails twice fails the run. What
cannot be run again by name fails the run at once: a build, a test program that crashes, a documentation test, and any
failure that the summaries count and no line names.
"""

import re
import subprocess
import sys
from dataclasses import dataclass, field

FAILED = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. FAILED$")
SUMMARY = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed;")
# Cargo says so of a test program that ended by a signal, or by anything but its own verdict.
CRASHED = re.compile(r"process didn't exit successfully: .*\((signal|exit status: (?!101\b))")
# More than this is no bad luck.
MOST = 8


@dataclass
class Ran:
    """What a run came to."""

    status: int = 0
    names: list = field(default_factory=list)
    passed: int = 0
    failed: int = 0
    crashed: bool = False

    def read(self, line):
        name, summary = FAILED.match(line), SUMMARY.match(line)
        if name:
            self.names.append(name.group(1))
        if summary:
            self.passed += int(summary.group(1))
            self.failed += int(summary.group(2))
        self.crashed = self.crashed or CRASHED.search(line) is not None


def run(command):
    """Runs a command, shows what it prints, and reads what became of its tests."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    ran = Ran()
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        ran.read(line.rstrip())
    ran.status = process.wait()
    return ran


def beyond_repair(ran):
    """Why a run that failed is not mended by running tests again; None where it may be."""
    if ran.crashed:
        return "a test program crashed"
    if not ran.failed:
        return "it failed without a failed test"
    if len(ran.names) != ran.failed:
        return f"{ran.failed} tests failed, and {len(ran.names)} of them can be run again by name"
    if ran.failed > MOST:
        return f"{ran.failed} tests failed"
    return None


def verdict(command, run=run):
    """The exit status of the whole, and the lines to end with."""
    first = run(command)
    if first.status == 0:
        return 0, []
    why = beyond_repair(first)
    if why:
        return first.status, [f"{why}; nothing is run again"]
    ends, lines = 0, []
    for name in dict.fromkeys(first.names):
        print(f"\nrunning {name} once more, alone", flush=True)
        again = run([*command, "--", "--exact", name, "--test-threads", "1"])
        # The same name may stand in several programs: as many must pass as failed.
        passed = again.status == 0 and again.passed >= first.names.count(name)
        lines.append(f"FLAKY {name}" if passed else f"FAILED TWICE {name}")
        ends = ends if passed else first.status
    return ends, lines


def check():
    """Fails when flaky tests, broken ones, and what cannot be run again are not told apart."""

    def printed(status, *lines):
        ran = Ran(status)
        for line in lines:
            ran.read(line)
        return ran

    def summary(passed, failed):
        word = "FAILED" if failed else "ok"
        return f"test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"

    def ends(*results):
        commands, results = [], iter(results)
        status, lines = verdict(["t"], lambda command: commands.append(command) or next(results))
        return status, lines, len(commands)

    a, b = "test a::b ... FAILED", "test c ... FAILED"
    none, one = printed(0, summary(0, 0)), printed(0, summary(1, 0))
    failed = printed(101, a, summary(3, 1))
    again = printed(101, a, summary(0, 1))
    assert ends(printed(0, summary(4, 0))) == (0, [], 1)
    assert ends(failed, one) == (0, ["FLAKY a::b"], 2)
    assert ends(failed, again) == (101, ["FAILED TWICE a::b"], 2)
    assert ends(printed(101, a, b, summary(0, 2)), again, one) == (101, ["FAILED TWICE a::b", "FLAKY c"], 3)
    # A second run that runs nothing proves nothing, nor does one of two tests of the same name.
    assert ends(failed, none) == (101, ["FAILED TWICE a::b"], 2)
    assert ends(printed(101, a, summary(0, 1), a, summary(0, 1)), one) == (101, ["FAILED TWICE a::b"], 2)
    killed = "  process didn't exit successfully: `x` (signal: 6, SIGABRT: process abort signal)"
    ended = "  process didn't exit successfully: `x` (exit status: 2)"
    verdict_of_its_own = "  process didn't exit successfully: `x` (exit status: 101)"
    documented = "test src/splice.rs - splice (line 11) ... FAILED"
    broken = "test a::b ... a log line FAILED"
    many = [line for n in range(MOST + 1) for line in (f"test t{n} ... FAILED", summary(0, 1))]
    for lines in (
        [a, summary(3, 1), killed],
        [a, summary(3, 1), ended],
        [a, summary(3, 1), documented, summary(0, 1)],
        [a, broken, summary(3, 2)],
        [],
        many,
    ):
        status, said, runs = ends(printed(101, *lines))
        assert (status, len(said), runs) == (101, 1, 1), lines
    assert ends(printed(101, a, summary(3, 1), verdict_of_its_own), one)[0] == 0
    program = f"print({a!r}); print({summary(3, 1)!r}); raise SystemExit(3)"
    ran = run([sys.executable, "-c", program])
    assert (ran.status, ran.names, ran.passed, ran.failed) == (3, ["a::b"], 3, 1)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        check()
        print("tests/run.py tells flaky tests from broken ones")
        sys.exit(0)
    status, lines = verdict(sys.argv[1:])
    print("\n".join(lines), flush=True)
    sys.exit(status)
