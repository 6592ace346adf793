"""Runs all tests, and those that failed once more, alone.

    python3 tests/run.py CARGO OPTION...    with cargo-nextest where it is installed, else with `cargo test`
    python3 tests/run.py --cargo-test CARGO OPTION...      with `cargo test` in any case
    python3 tests/run.py --check [CARGO]    tries this program itself, with a package made up for that

The options, such as `--workspace`, are of both. A test that fails and then passes is reported as `FLAKY NAME` in the last
lines; one that fails twice fails the run. What cannot be run again by name fails the run at once: a build, a documentation
test, under `cargo test` a program that crashes, and any failure that is counted and not named. Under nextest each test has
a process and a time limit of its own (`.config/nextest.toml`), and a crash is the failure of one test. A run under nextest
that a signal cancels fails, and its last lines name each test that never ran, as `NEVER RAN NAME`.

The processes of journeys log into `target/journeys/TEST`; the folders that failed tests leave there are named at the end.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

# More than this is no bad luck.
MOST = 8


@dataclass
class Ran:
    """What a run came to."""

    status: int = 0
    # Each failed test as its harness names it.
    names: list = field(default_factory=list)
    passed: int = 0
    failed: int = 0
    # Something failed that is no test with a name.
    broken: str = ""
    # Each test that was to run and did not, because the run was cancelled.
    never_ran: list = field(default_factory=list)


def run(command, read=lambda line: None):
    """Runs a command and shows what it prints, which `read` is given line by line. Returns its exit status."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        read(line.rstrip())
    return process.wait()


class CargoTest:
    """`cargo test`: the tests of a program share a process, and what they print says what became of them."""

    FAILED = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. FAILED$")
    SUMMARY = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed;")
    # Cargo says so of a test program that ended by a signal, or by anything but its own verdict.
    CRASHED = re.compile(r"process didn't exit successfully: .*\((signal|exit status: (?!101\b))")

    def __init__(self, cargo, options):
        self.command = [*cargo, "test", *options, "--no-fail-fast"]

    def all(self):
        return self.ran(self.command)

    def passes(self, name, times):
        """Whether a test passes alone. The same name may stand in several programs: as many must pass as failed."""
        ran = self.ran([*self.command, "--", "--exact", name, "--test-threads", "1"])
        return ran.status == 0 and ran.passed >= times

    def ran(self, command):
        ran = Ran()
        ran.status = run(command, lambda line: self.read(ran, line))
        return ran

    def read(self, ran, line):
        name, summary = self.FAILED.match(line), self.SUMMARY.match(line)
        if name:
            ran.names.append(name.group(1))
        if summary:
            ran.passed += int(summary.group(1))
            ran.failed += int(summary.group(2))
        if self.CRASHED.search(line):
            ran.broken = "a test program crashed"


class Nextest:
    """cargo-nextest, which writes a report of its tests; it has no documentation tests, which `cargo test` then runs."""

    # Of a run in which tests failed, and nothing else.
    TESTS_FAILED = 100

    def __init__(self, cargo, options, target):
        self.command = [*cargo, "nextest", "run", *options, "--no-fail-fast"]
        self.listing = [*cargo, "nextest", "list", *options, "--message-format", "json"]
        self.documented = [*cargo, "test", *options, "--doc"]
        self.report = target / "nextest" / "default" / "junit.xml"

    @staticmethod
    def is_installed(cargo):
        return subprocess.run([*cargo, "nextest", "--version"], capture_output=True).returncode == 0

    def all(self):
        self.report.unlink(missing_ok=True)
        ran = Ran(run(self.command))
        if ran.status not in (0, self.TESTS_FAILED):
            return ran
        if self.report.exists():
            self.read(ran, self.report.read_text(), self.expected())
        if ran.never_ran:
            return ran
        documented = run(self.documented)
        if documented:
            ran.status, ran.broken = documented, "a documentation test failed"
        return ran

    def passes(self, name, _):
        """Whether a test passes alone; nextest fails where it finds no such test."""
        binary, test = name.split(" ", 1)
        return run([*self.command, "--test-threads", "1", "-E", f"binary_id(={binary}) & test(={test})"]) == 0

    def expected(self):
        """Each test that a run has to run: those that are ignored are not listed."""
        listed = json.loads(subprocess.run(self.listing, stdout=subprocess.PIPE, check=True).stdout)
        return [
            f"{binary} {name}"
            for binary, suite in listed["rust-suites"].items()
            for name, case in suite["testcases"].items()
            if case["filter-match"]["status"] == "matches"
        ]

    def read(self, ran, report, expected):
        root = ElementTree.fromstring(report)
        ran.failed = int(root.get("failures")) + int(root.get("errors"))
        reported = set()
        for case in root.iter("testcase"):
            name = f"{case.get('classname')} {case.get('name')}"
            reported.add(name)
            if case.find("failure") is not None or case.find("error") is not None:
                ran.names.append(name)
            else:
                ran.passed += 1
        ran.never_ran = [name for name in expected if name not in reported]


def beyond_repair(ran):
    """Why a run that failed is not mended by running tests again; None where it may be."""
    if ran.broken:
        return ran.broken
    if not ran.failed:
        return "it failed without a failed test"
    if len(ran.names) != ran.failed:
        return f"{ran.failed} tests failed, and {len(ran.names)} of them can be run again by name"
    if ran.failed > MOST:
        return f"{ran.failed} tests failed"
    return None


def verdict(harness):
    """The exit status of the whole, and the lines to end with."""
    first = harness.all()
    if first.never_ran:
        return first.status or 1, [f"NEVER RAN {name}" for name in first.never_ran]
    if first.status == 0:
        return 0, []
    why = beyond_repair(first)
    if why:
        return first.status, [f"{why}; nothing is run again"]
    ends, lines = 0, []
    for name in dict.fromkeys(first.names):
        print(f"\nrunning {name} once more, alone", flush=True)
        passed = harness.passes(name, first.names.count(name))
        lines.append(f"FLAKY {name}" if passed else f"FAILED TWICE {name}")
        ends = ends if passed else first.status
    return ends, lines


def target_of(cargo):
    """The target directory of the workspace that this is run in."""
    said = subprocess.run([*cargo, "metadata", "--no-deps", "--format-version", "1"], stdout=subprocess.PIPE, check=True)
    return Path(json.loads(said.stdout)["target_directory"])


def test(cargo, options, plain=False):
    """Runs the tests of the workspace that this is run in. The exit status, and the lines to end with."""
    target = target_of(cargo)
    journeys = target / "journeys"
    shutil.rmtree(journeys, ignore_errors=True)
    harness = CargoTest(cargo, options) if plain or not Nextest.is_installed(cargo) else Nextest(cargo, options, target)
    status, lines = verdict(harness)
    logs = sorted(journeys.iterdir()) if journeys.exists() else []
    return status, [*lines, *(f"logs of a failed test: {folder}" for folder in logs)]


def check_verdicts():
    """Fails when flaky tests, broken ones, and what cannot be run again are not told apart, by what is printed."""
    cargo_test = CargoTest(["cargo"], [])

    def printed(status, *lines):
        ran = Ran(status)
        for line in lines:
            cargo_test.read(ran, line)
        return ran

    def summary(passed, failed):
        word = "FAILED" if failed else "ok"
        return f"test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"

    def ends(*results):
        commands, results, harness = [], iter(results), CargoTest(["cargo"], [])
        harness.ran = lambda command: commands.append(command) or next(results)
        status, lines = verdict(harness)
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


# A package whose tests fail as files beside it say.
MANIFEST = '[package]\nname = "made-up"\nversion = "0.1.0"\nedition = "2024"\n[workspace]\n'
LIBRARY = """
/// ```
/// assert!(!std::path::Path::new("documented").exists());
/// ```
pub fn documented() {}
"""
TESTS = """
use std::fs::{create_dir_all, exists, remove_file};

#[test]
fn steady() {}

#[test]
fn flaky() {
    if remove_file("flaky").is_ok() {
        create_dir_all("target/journeys/flaky").unwrap();
        panic!("this once");
    }
}

#[test]
fn broken() {
    assert!(!exists("broken").unwrap());
}

#[test]
fn crashes() {
    if remove_file("crashes").is_ok() {
        std::process::abort();
    }
}

#[test]
fn hangs() {
    if remove_file("hangs").is_ok() {
        std::thread::sleep(std::time::Duration::from_secs(1_000));
    }
}

#[test]
fn interrupts() {
    if remove_file("interrupts").is_ok() {
        let parent = std::os::unix::process::parent_id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &parent]).status().unwrap().success());
        std::thread::sleep(std::time::Duration::from_secs(1_000));
    }
}
"""
TIME_LIMIT = """
[[profile.default.overrides]]
filter = "test(=hangs)"
slow-timeout = { period = "1s", terminate-after = 1 }
"""


def check_runs(cargo, folder):
    """Fails when a made-up package is not judged right by cargo and, where it is installed, by nextest."""
    for path, text in (("Cargo.toml", MANIFEST), ("src/lib.rs", LIBRARY), ("tests/all.rs", TESTS)):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    ours = Path(__file__).resolve().parent.parent / ".config" / "nextest.toml"
    (folder / ".config").mkdir()
    (folder / ".config" / "nextest.toml").write_text(ours.read_text() + TIME_LIMIT)

    def ends(plain, *files):
        for name in files:
            Path(name).touch()
        status, lines = test(cargo, ["--workspace", "--offline"], plain)
        for name in files:
            Path(name).unlink(missing_ok=True)
        return status, sorted(lines)

    logs = f"logs of a failed test: {folder / 'target' / 'journeys' / 'flaky'}"
    plain = True
    assert ends(plain) == (0, [])
    assert ends(plain, "flaky", "broken") == (101, ["FAILED TWICE broken", "FLAKY flaky", logs])
    assert ends(plain, "crashes") == (101, ["a test program crashed; nothing is run again"])
    assert ends(plain, "documented")[0] == 101
    if not Nextest.is_installed(cargo):
        return "`cargo test`"
    nextest = False
    assert ends(nextest) == (0, [])
    flaky = [f"FLAKY made-up::all {name}" for name in ("crashes", "flaky", "hangs")]
    assert ends(nextest, "flaky", "crashes", "hangs") == (0, [*flaky, logs])
    assert ends(nextest, "broken") == (100, ["FAILED TWICE made-up::all broken"])
    # One test at a time, in the order of their names: `steady` is the last.
    os.environ["NEXTEST_TEST_THREADS"] = "1"
    assert ends(nextest, "flaky", "interrupts") == (100, ["NEVER RAN made-up::all steady", logs])
    del os.environ["NEXTEST_TEST_THREADS"]
    assert ends(nextest, "documented") == (101, ["a documentation test failed; nothing is run again"])
    (folder / "src" / "lib.rs").write_text("no Rust")
    assert ends(nextest) == (101, ["it failed without a failed test; nothing is run again"])
    return "`cargo test` and nextest"


def check(cargo):
    check_verdicts()
    os.environ.pop("CARGO_TARGET_DIR", None)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        judged = check_runs(cargo, Path(folder).resolve())
        os.chdir("/")
    print(f"tests/run.py tells flaky tests, broken ones and those that never ran apart, with {judged}")


def main(arguments):
    if arguments[:1] == ["--check"]:
        check(arguments[1:] or ["cargo"])
        return 0
    plain = arguments[:1] == ["--cargo-test"]
    arguments = arguments[plain:]
    first = next((n for n, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    status, lines = test(arguments[:first], arguments[first:], plain)
    print("\n".join(lines), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
