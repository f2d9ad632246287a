"""The promise of the front page: 15,000 subscribers all get every message."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(900)
def test_fifteen_thousand_subscribers_hear_every_message():
    script = Path(__file__).with_name("fifteen_thousand.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=840)
    assert done.returncode == 0, done.stderr[-5000:]
    print(done.stdout)
