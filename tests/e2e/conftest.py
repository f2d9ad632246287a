"""What every test here may ask for."""

from fixtures import gateway, shelf, start, topic  # noqa: F401


def pytest_terminal_summary(terminalreporter):
    """What failed before it passed is shown all the same: it is a race that somebody has to mend."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"FAILED, and was run again: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)
