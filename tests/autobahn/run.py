#!/usr/bin/env python3
"""Runs the Autobahn suite against the program and says how each group went; exits with 1 unless every case is good.

usage: run.py [--write docs/conformance.md] [CASES ...], such as `run.py '5.*' 9.1.1`; without CASES all 517.
It tests MOONGATE_BIN, or else target/checked/moongate.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "e2e"))

from gateway import Gateway, binary
from suite import FOLDER, GROUPS, REQUIREMENTS, ROOT, SETTINGS, Result, SuiteError, run_side_by_side, set_up

# Enough for a slow machine; the suite's own timers end a case that hangs.
PATIENCE = 3600.0

# All 517 in pieces, the longest first.
PIECES = [
    *(f"12.{part}.*" for part in (3, 5, 2)),
    *(f"13.{part}.*" for part in (3, 5, 2, 4, 1, 7, 6)),
    *(f"12.{part}.*" for part in (4, 1)),
    *(f"{group}.*" for group in (9, 6, 7, 5, 4, 3, 2, 1, 10)),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", help="such as '5.*' or 9.1.1; all without any")
    parser.add_argument("--write", type=Path, metavar="FILE", help="where to write the page; all cases only")
    arguments = parser.parse_args()
    if arguments.write and arguments.cases:
        parser.error("--write is for all cases")

    wstest = set_up(PATIENCE)
    # Before anyone commits something else.
    tested = version()
    began = time.monotonic()
    gateway = Gateway(**SETTINGS)
    try:
        with tempfile.TemporaryDirectory(prefix="cases-", dir=FOLDER.parent) as folder:
            jobs = arguments.cases or PIECES
            results = run_side_by_side(wstest, gateway.ws("/echo"), jobs, Path(folder), PATIENCE, os.cpu_count() or 1)
        code = gateway.stop()
    finally:
        gateway.kill()
    if code != 0 or "panicked" in gateway.log:
        raise SuiteError(f"the gateway ended with {code}:\n{gateway.log}")
    seconds = time.monotonic() - began

    rows = table(results)
    print("\n".join(aligned(rows)))
    bad = [result for result in results if not result.good]
    for result in bad:
        print(result)
    missing = 0 if arguments.cases else sum(count for _, count in GROUPS.values()) - len(results)
    if missing:
        print(f"{missing} cases have no result: the gateway could not be reached")
    if arguments.write:
        arguments.write.write_text(page(results, rows, missing, tested, seconds))
    good = len(results) - len(bad)
    print(f"{good} of {len(results) + missing} cases are good, in {seconds:.0f} s")
    return 0 if results and not bad and not missing else 1


def table(results: list[Result]) -> list[list[str]]:
    """A head, a row for each group that was tried, and their sum. Verdicts that nobody got have no column, but OK has."""
    seen = {result.verdict for result in results}
    verdicts = ["OK", *sorted(seen - {"OK"}, key=lambda verdict: (verdict != "INFORMATIONAL", verdict))]
    rows = [["group", "about", "cases", *verdicts]]
    for group, (about, _) in GROUPS.items():
        counts = Counter(result.verdict for result in results if result.group == group)
        if counts:
            rows.append([str(group), about, str(counts.total()), *(str(counts[verdict]) for verdict in verdicts)])
    counts = Counter(result.verdict for result in results)
    rows.append(["all", "", str(counts.total()), *(str(counts[verdict]) for verdict in verdicts)])
    return rows


def aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def page(results: list[Result], rows: list[list[str]], missing: int, tested: str, seconds: float) -> str:
    """The page for people, in Markdown."""
    good = sum(result.good for result in results)
    release = re.search(r"autobahntestsuite==(\S+)", REQUIREMENTS.read_text())[1]
    lines = [
        "# Conformance",
        "",
        f"What the [Autobahn test suite](https://github.com/crossbario/autobahn-testsuite) {release} says about Moongate's",
        "WebSockets: RFC 6455, and permessage-deflate (RFC 7692). `make autobahn` repeats this and writes this page.",
        "",
        f"**{good} of {len(results) + missing} cases are good.**",
        "",
        "| | |",
        "|---|---|",
        f"| when | {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, in {seconds / 60:.0f} minutes |",
        f"| what | {tested} |",
        f"| where | Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs |",
        f"| settings | {', '.join(f'`MOONGATE_{name}={value}`' for name, value in SETTINGS.items())} |",
        "",
        "## By group",
        "",
        *markdown(rows),
        "",
        "`OK` means that what came back, and how the connection ended, are what the suite wants. `INFORMATIONAL` is its word",
        "where the RFC leaves the choice to the server. Any other word, `NON-STRICT` among them, makes `make autobahn` fail.",
    ]
    odd = [result for result in results if result.verdict != "OK"]
    if odd:
        lines += ["", "## The others", ""]
        lines += markdown([
            ["case", "what it does", "verdict", "why"],
            *([result.case, result.about, result.verdict, result.reason] for result in odd),
        ])
    lines += [
        "",
        "## How to repeat it",
        "",
        "    make autobahn                                 # all of it, and this page",
        "    python3 tests/autobahn/run.py '5.*' 9.1.1     # some",
        "",
        "The suite runs on Python 2.7, which [setup.sh](../tests/autobahn/setup.sh) unpacks into `target/autobahn`. `make test`",
        "runs groups 1 to 7 and 10 whole, and some of 9, 12 and 13. What the suite never tries, such as broken requests,",
        "unmasked frames, lengths near 2^63 and floods, has tests of our own in [tests/e2e](../tests/e2e).",
        "",
    ]
    return "\n".join(lines)


def markdown(rows: list[list[str]]) -> list[str]:
    head, *rest = (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
    return [head, "|" + "---|" * len(rows[0]), *rest]


def version() -> str:
    """The program's own word, and the commit, with a note where the code is not what was committed."""
    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    commit = git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return said
    changed = git("status", "--porcelain", "--", "crates", "Cargo.toml", "Cargo.lock")
    return f"{said}, commit {commit}{' and changes that are not committed' if changed else ''}"


def git(*arguments: str) -> str:
    """What git says, or nothing where there is none."""
    try:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SuiteError as error:
        sys.exit(f"{error}")
