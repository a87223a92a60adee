"""Whole scripts in Dask's spelling, run with nothing but their imports changed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

_PROGRAMS = Path(__file__).parents[1] / "programs"
#: What each prints, under Dask as well as here.
_PRINTED = {
    "dask_word_count": """\
[('the', 5), ('cat', 3), ('a', 2)]
[7, 4, 2]
True AttributeError
""",
    "dask_search": """\
tried 400
top near 3 -1
""",
    "dask_etl": """\
4 1450
9 1215
{'files': 4, 'sum': 1450}
cannot read none.txt
{'a': 0, 'b': [1, 5]}
""",
    "dask_local": """\
sum 36
sum 36
tasks 15
(1, 2, 3)
15 [1, 12]
not set
""",
    "dask_together": """\
27
True
100 [10, 20, 30, 40]
True
[1, 3] 3
2
('answer',) 42
""",
}
_BAR = re.compile(r"^.*\[[# ]*\].*$\n?", re.MULTILINE)


def test_every_script_is_run() -> None:
    assert {path.stem for path in _PROGRAMS.glob("dask_*.py")} == set(_PRINTED)


@pytest.mark.parametrize("name", _PRINTED)
def test_a_script_of_dask_runs_here(name: str, tmp_path: Path) -> None:
    source = (_PROGRAMS / f"{name}.py").read_text()
    script = tmp_path / f"{name}.py"
    script.write_text(with_our_imports(source))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=45,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = _BAR.sub("", done.stdout.replace("\r", "\n")).splitlines()
    assert [line for line in lines if line.strip()] == _PRINTED[name].splitlines()
    assert "Traceback" not in done.stderr


def with_our_imports(source: str) -> str:
    """Return a script whose import lines, and only these, name this package.

    ``import dask`` becomes ``import zcluster as dask``: the lines that use it stay as they are.
    """
    for old, new in (
        (r"^(\s*)from (dask\.)?distributed import", r"\1from zcluster.distributed import"),
        (r"^(\s*)from dask\b", r"\1from zcluster"),
        (r"^(\s*)import dask$", r"\1import zcluster as dask"),
        (r"^(\s*)import dask\.(\w+)$", r"\1import zcluster.\2"),
    ):
        source = re.sub(old, new, source, flags=re.MULTILINE)
    return source
