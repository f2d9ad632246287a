"""What every test here may ask for."""

from fixtures import gateway, shelf, start, topic  # noqa: F401
