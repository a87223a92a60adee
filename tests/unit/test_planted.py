"""The wrong edits of `tests/planted` still apply, each, and leave a file that compiles."""

from __future__ import annotations

from pathlib import Path

import pytest

import zcluster
from tests.planted.bugs import BUGS, Bug

_ROOT = Path(zcluster.__file__).parent


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name.replace(" ", "-") for bug in BUGS])
def test_an_edit_applies_once(bug: Bug) -> None:
    text = (_ROOT / bug.file).read_text(encoding="utf-8")
    assert text.count(bug.old) == 1
    assert bug.new != bug.old
    compile(text.replace(bug.old, bug.new), bug.file, "exec")


def test_no_edit_is_there_twice() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert len({(bug.file, bug.old, bug.new) for bug in BUGS}) == len(BUGS)
