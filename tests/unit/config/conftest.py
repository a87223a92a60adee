"""A configuration of the test's own: an empty folder and no variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from zcluster import config


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the user's folder of configuration, which is empty."""
    for name in list(os.environ):
        if name.startswith("ZCLUSTER_") and not name.startswith("ZCLUSTER_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    made = tmp_path / "home" / "zcluster"
    made.mkdir(parents=True)
    config.refresh()
    yield made
    monkeypatch.undo()
    config.refresh()
