"""The Autobahn suite as a function: which cases, against which server, and what it says about each of them."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "tests/autobahn/setup.sh"
REQUIREMENTS = ROOT / "tests/autobahn/requirements.txt"
FOLDER = ROOT / "target/autobahn"

# What the suite calls its groups, and how many cases each has: 517.
GROUPS = {
    1: ("Framing", 16),
    2: ("Pings and pongs", 11),
    3: ("Reserved bits", 7),
    4: ("Opcodes", 10),
    5: ("Fragmentation", 20),
    6: ("UTF-8", 145),
    7: ("Close handshake", 37),
    9: ("Limits and performance", 54),
    10: ("Automatic fragmentation", 1),
    12: ("Compression, different payloads", 90),
    13: ("Compression, different parameters", 126),
}

# What a gateway needs for it. Messages have up to 16 MiB, and 4 MiB come in 65,536 fragments.
SETTINGS = {"MESSAGE_BYTES_MAX": "16MiB", "OUTBOX_BYTES_MAX": "17MiB", "ECHO": "on"}

# INFORMATIONAL is what the suite says where RFC 6455 leaves the choice to the server. NON-STRICT is not good enough.
GOOD = ("OK", "INFORMATIONAL")


@dataclass(frozen=True)
class Result:
    """What the suite says about one case."""

    case: str
    # What it does, in the suite's words.
    about: str
    behavior: str
    # Of the end of the connection.
    behavior_close: str
    # Of both, in the suite's words.
    reason: str

    @property
    def good(self) -> bool:
        return self.behavior in GOOD and self.behavior_close in GOOD

    @property
    def group(self) -> int:
        return int(self.case.partition(".")[0])

    @property
    def verdict(self) -> str:
        """One word: the worse of the two."""
        for behavior in (self.behavior, self.behavior_close):
            if behavior not in GOOD:
                return behavior
        return "OK" if self.behavior == self.behavior_close == "OK" else "INFORMATIONAL"

    def __str__(self) -> str:
        return f"{self.case}: {self.behavior}, its close {self.behavior_close}: {self.reason}"


class SuiteError(Exception):
    """The suite itself did not do what was asked of it."""


def set_up(patience: float) -> Path:
    """Installs the suite if it is not there yet, within `patience` seconds; the program to run it with."""
    try:
        done = subprocess.run([SETUP, FOLDER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        raise SuiteError(f"{SETUP} took longer than {patience:.0f} s; see {FOLDER}.log") from None
    if done.returncode != 0:
        raise SuiteError(done.stdout)
    return FOLDER / "wstest"


def run(wstest: Path, url: str, cases: list[str], folder: Path, patience: float) -> list[Result]:
    """Tries `cases`, such as `5.*` or `9.1.1`, on the echo at `url`, leaving the suite's reports in `folder`.

    Within `patience` seconds, else a SuiteError. A case during which the server could not be reached is not among the results.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report"
    index = report / "index.json"
    index.unlink(missing_ok=True)
    specification = folder / "specification.json"
    specification.write_text(
        json.dumps(
            {
                "outdir": str(report),
                "options": {"failByDrop": False},
                "servers": [{"agent": "moongate", "url": url}],
                "cases": cases,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    command = [wstest, "-m", "fuzzingclient", "-s", specification]
    with open(folder / "log", "w") as log:
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, timeout=patience)
        except subprocess.TimeoutExpired:
            raise SuiteError(f"{' '.join(cases)} took longer than {patience:.0f} s; see {folder}/log") from None
    if done.returncode != 0 or not index.exists():
        raise SuiteError(f"the suite ended with {done.returncode}; see {folder}/log")
    agents = json.loads(index.read_text())
    return sorted((read(report, case, found) for case, found in agents.get("moongate", {}).items()), key=in_order)


def run_side_by_side(wstest: Path, url: str, jobs: list[str], folder: Path, patience: float, workers: int) -> list[Result]:
    """`run` for each of `jobs`, `workers` at a time: the suite uses one processor, and it is slower than its server."""

    def one(cases: str) -> list[Result]:
        results = run(wstest, url, [cases], folder / cases.replace("*", "all"), patience)
        print(f"  {cases:7} {sum(result.good for result in results)} of {len(results)}", flush=True)
        return results

    with ThreadPoolExecutor(workers) as pool:
        return sorted((result for results in pool.map(one, jobs) for result in results), key=in_order)


def read(report: Path, case: str, found: dict) -> Result:
    details = json.loads((report / found["reportfile"]).read_text())
    reason = plain(f"{details['result']} {details['resultClose']}")
    return Result(case, plain(details["description"]), found["behavior"], found["behaviorClose"], reason)


def plain(text: str) -> str:
    """Without the suite's tags and line breaks."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def in_order(result: Result) -> tuple[int, ...]:
    return tuple(int(part) for part in result.case.split("."))
