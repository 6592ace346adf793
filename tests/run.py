"""Runs all tests, and those that failed once more, alone.

    python3 tests/run.py COMMAND...       COMMAND is `cargo test` with its options
    python3 tests/run.py --check          tries this program itself

A test that fails and then passes is reported as `FLAKY NAME` in the last lines; one that fails twice fails the run. A
command that fails without naming a test (it does not compile, a test binary crashes) fails the run at once.
"""

import re
import subprocess
import sys

FAILED = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. FAILED$")
# More than this is no bad luck.
MOST = 8


def run(command):
    """Runs a command, shows what it prints, and returns its exit status and the tests that failed."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    failed = []
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        match = FAILED.match(line.rstrip())
        if match and match.group(1) not in failed:
            failed.append(match.group(1))
    return process.wait(), failed


def crashed(failed):
    return not failed or len(failed) > MOST


def verdict(command, run=run):
    """The exit status of the whole, and the lines to end with."""
    status, failed = run(command)
    if status == 0:
        return 0, []
    if crashed(failed):
        return status, [f"{len(failed)} tests failed; none is run again"]
    ends, lines = 0, []
    for name in failed:
        print(f"\nrunning {name} once more, alone", flush=True)
        again, _ = run([*command, "--", "--exact", name, "--test-threads", "1"])
        lines.append(f"FLAKY {name}" if again == 0 else f"FAILED TWICE {name}")
        ends = ends or again
    return ends, lines


def check():
    """Fails when a flaky test, a broken one, or a build that fails is not told apart."""
    ran = []

    def faked(results):
        results = iter(results)

        def fake(command):
            ran.append(command)
            return next(results)

        return fake

    assert verdict(["t"], faked([(0, [])])) == (0, [])
    assert verdict(["t"], faked([(101, ["a::b"]), (0, [])])) == (0, ["FLAKY a::b"])
    assert ran[-1] == ["t", "--", "--exact", "a::b", "--test-threads", "1"]
    assert verdict(["t"], faked([(101, ["a", "b"]), (101, ["a"]), (0, [])])) == (101, ["FAILED TWICE a", "FLAKY b"])
    assert verdict(["t"], faked([(101, [])])) == (101, ["0 tests failed; none is run again"])
    names = [str(n) for n in range(MOST + 1)]
    assert verdict(["t"], faked([(101, names)])) == (101, [f"{MOST + 1} tests failed; none is run again"])
    echo = "print('test x::y ... FAILED'); print('test z ... ok'); raise SystemExit(3)"
    assert run([sys.executable, "-c", echo]) == (3, ["x::y"])


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        check()
        print("tests/run.py tells flaky tests from broken ones")
        sys.exit(0)
    status, lines = verdict(sys.argv[1:])
    print("\n".join(lines), flush=True)
    sys.exit(status)
