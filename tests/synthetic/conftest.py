"""Fixtures of the data tests that these tests use, too."""

from tests.data.conftest import frame_set  # noqa: F401
