"""Fails when a crate that we build has a licence we may not ship, or is one we decided never to link.

Reads `cargo tree` alone, so it needs no network and no tool of its own.
"""

import re
import subprocess
import sys

ALLOWED = {
    "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CDLA-Permissive-2.0",
    "ISC", "MIT", "MIT-0", "0BSD", "BSL-1.0", "Unicode-3.0", "Unlicense", "Zlib",
}
# One crypto library (aws-lc-rs), no OpenSSL, and nothing with RUSTSEC-2023-0071.
FORBIDDEN = {"ring", "openssl-sys", "native-tls", "rsa"}


def allowed(expression: str) -> bool:
    """Evaluates an SPDX expression: `OR` and the old `/` need one side, `AND` needs both."""
    expression = expression.replace("/", " OR ")
    python = re.sub(
        r"[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.-]+)?",
        lambda m: {"OR": "or", "AND": "and"}.get(m[0]) or str(m[0] in ALLOWED),
        expression,
    )
    return bool(eval(python, {"__builtins__": {}}))


def main() -> int:
    # Not `cargo metadata`: it also lists optional dependencies that no feature turns on.
    command = ["cargo", "tree", "--locked", "--workspace", "--edges", "normal,build,dev", "--prefix", "none"]
    tree = subprocess.run([*command, "--format", "{p}|{l}"], check=True, capture_output=True, text=True).stdout
    crates = sorted({line.removesuffix(" (*)") for line in tree.splitlines() if line})
    problems = []
    for crate in crates:
        label, licence = crate.split("|", 1)
        if label.split()[0] in FORBIDDEN:
            problems.append(f"{label}: must not be linked")
        if not licence:
            problems.append(f"{label}: has no licence field")
        elif not allowed(licence):
            problems.append(f"{label}: licence `{licence}` is not on the list")
    print("\n".join(problems) or f"licences: {len(crates)} crates, all fine")
    return 1 if problems else 0


sys.exit(main())
