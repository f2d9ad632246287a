"""What a gateway costs and what it keeps: processor time, memory, and what has not come home."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway import Gateway, until
from test_control import samples, total

KIB, MIB = 1024, 1024 * 1024


@contextmanager
def running(**settings: str | None) -> Iterator[Gateway]:
    """A gateway for as long as the block, which must be in good health at the end of it."""
    gateway = Gateway(**settings)
    try:
        yield gateway
        assert gateway.stop() == 0, gateway.log
        gateway.check_sound()
    finally:
        gateway.kill()


def cpu_seconds(gateway: Gateway) -> float:
    """Processor time that all its threads have had so far (proc_pid_schedstat(5): nanoseconds, first of three)."""
    tasks = Path(f"/proc/{gateway.pid}/task")
    return sum(int((tasks / task / "schedstat").read_text().split()[0]) for task in os.listdir(tasks)) / 1e9


def resident_bytes(gateway: Gateway) -> int:
    """What it holds of the machine's memory, without the program's own text and what is mapped from files."""
    for line in Path(f"/proc/{gateway.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * KIB
    raise AssertionError("no RssAnon")


def gauge(gateway: Gateway, name: str, *labels: str) -> float:
    """One metric's sum over all shards."""
    return total(samples(gateway), name, *labels)


GONE = [
    "connections", "slots_used", "subscriptions", "outbox_bytes", "outboxes_dirty", "memory_bytes", "lanes_unread", "lanes_waiting",
]  # fmt: skip


def check_all_came_home(gateway: Gateway, buffers: int, files: int, kept_bytes: int = 0):
    """N2, N7, K4: no slot, subscription, byte, lease or descriptor stays behind once everybody has left.

    `buffers` is how many receive buffers all shards have together, `files` how many were open before anybody came, and
    `kept_bytes` how much memory is kept for whoever comes next.
    """

    def left_behind() -> dict[str, float]:
        found = samples(gateway)
        left = {name: total(found, name) for name in GONE}
        # What topics said last is kept for a while, and the runs it was written into.
        history = total(found, "history_bytes") + total(found, "replay_bytes")
        left["memory_bytes"] = max(0, left["memory_bytes"] - history - kept_bytes)
        left["receive buffers lent"] = buffers - total(found, "receive_buffers_free")
        # The one that asks for the metrics is open while it does, and may be for a moment afterwards.
        left["open files"] = max(0, gateway.open_files() - files - 1)
        return {name: count for name, count in left.items() if count}

    try:
        until("everything to come home", lambda: not left_behind())
    except AssertionError as waited:
        raise AssertionError(f"{waited}: left behind is {left_behind()}") from None
