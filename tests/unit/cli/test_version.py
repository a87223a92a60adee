"""What a report of a problem should say is plain text, so that workers can send theirs."""

from __future__ import annotations

import platform

from zcluster.cli.version import versions
from zcluster.version import __version__


def test_versions_are_those_of_this_process() -> None:
    found = versions()
    assert found["zcluster"] == __version__
    assert found["Python"] == platform.python_version()
    assert all(type(text) is str and text for text in found.values())
