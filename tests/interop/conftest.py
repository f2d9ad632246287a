"""The gateways of the end-to-end tests, and their modules."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

pytest.register_assert_rewrite("client", "test_clients")

from fixtures import gateway, start, topic  # noqa: E402, F401
