"""What the Autobahn suite, which others wrote, says about frames, Closes and compression.

Among it: 4 MiB in 65,536 fragments (O1), limits and windows as it wants them (O2), and a Close inside a message (O3).
Here are the groups that are quick, and a few cases of the others; `make autobahn` runs all 517.
"""

import pytest

from gateway import Gateway
from suite import GROUPS, SETTINGS, Result, run, set_up

# The first of these tests installs the suite where it is not: a minute, or some on a busy machine.
pytestmark = pytest.mark.timeout(1200)

PATIENCE = 300.0

WHOLE = (1, 2, 3, 4, 5, 6, 7, 10)
SOME = {
    # Messages of 1 MiB in one frame, 4 MiB in 65,536 to 4,096 fragments, 1 MiB in chops of 64 bytes, 1,000 of 16 to 256 bytes.
    "9 limits": ["9.1.3", "9.2.3", "9.3.1", "9.3.2", "9.3.3", "9.4.1", "9.5.1", "9.6.1", "9.7.1", "9.7.3", "9.8.1", "9.8.3"],
    # The shortest messages and those of 1 KiB, of each kind of payload.
    "12 compressed": [f"12.{part}.{case}" for part in range(1, 6) for case in (1, 2, 7)],
    # The same for each set of parameters in the offer.
    "13 offers": [f"13.{part}.{case}" for part in range(1, 8) for case in (1, 2, 7)],
}


@pytest.fixture(scope="module")
def wstest():
    return set_up(900.0)


@pytest.fixture(scope="module")
def echo():
    """The URL of a gateway's echo, with the limits that the suite needs."""
    gateway = Gateway(**SETTINGS)
    try:
        yield gateway.ws("/echo")
        assert gateway.stop() == 0, gateway.log
        gateway.check_sound()
    finally:
        gateway.kill()


def check_all_good(results: list[Result], count: int):
    bad = [result for result in results if not result.good]
    assert not bad, "\n".join(map(str, bad))
    assert len(results) == count, [result.case for result in results]


@pytest.mark.parametrize("group", WHOLE)
def test_group(wstest, echo, tmp_path, group):
    check_all_good(run(wstest, echo, [f"{group}.*"], tmp_path, PATIENCE), GROUPS[group][1])


@pytest.mark.parametrize("cases", SOME.values(), ids=SOME.keys())
def test_some_of(wstest, echo, tmp_path, cases):
    check_all_good(run(wstest, echo, cases, tmp_path, PATIENCE), len(cases))


def test_the_suite_says_what_is_wrong(wstest, start, tmp_path):
    """With a limit that one of two cases keeps to, without an echo, and with nobody there."""
    short = start(MESSAGE_BYTES_MAX="128B")
    kept, broken = run(wstest, short.ws("/echo"), ["1.1.2", "1.1.6"], tmp_path, PATIENCE)
    assert kept.good and kept.verdict == "OK"
    assert not broken.good and str(broken).startswith("1.1.6: FAILED, its close ")
    (refused,) = run(wstest, start(ECHO="off").ws("/echo"), ["1.1.2"], tmp_path, PATIENCE)
    assert not refused.good and "handshake was never completed" in refused.reason
    assert short.stop() == 0
    assert run(wstest, short.ws("/echo"), ["1.1.2"], tmp_path, PATIENCE) == []


@pytest.mark.parametrize(
    ("behavior", "close", "verdict", "good"),
    [
        ("OK", "OK", "OK", True),
        ("INFORMATIONAL", "OK", "INFORMATIONAL", True),
        ("OK", "INFORMATIONAL", "INFORMATIONAL", True),
        ("NON-STRICT", "OK", "NON-STRICT", False),
        ("UNIMPLEMENTED", "OK", "UNIMPLEMENTED", False),
        ("OK", "UNCLEAN", "UNCLEAN", False),
        ("INFORMATIONAL", "WRONG CODE", "WRONG CODE", False),
    ],
)
def test_nothing_but_ok_and_informational_is_good(behavior, close, verdict, good):
    result = Result("1.1.1", "", behavior, close, "")
    assert (result.verdict, result.good) == (verdict, good)
