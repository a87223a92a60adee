"""The names of ``dask.base``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import zcluster
from zcluster import base


def test_they_are_those_of_the_package() -> None:
    """But for one, which Dask has here only."""
    for name in set(base.__all__) - {"normalize_token"}:
        assert getattr(base, name) is getattr(zcluster, name), name


def test_importing_the_package_is_enough() -> None:
    code = "import zcluster; print(len(zcluster.base.tokenize(1)))"
    root = Path(zcluster.__path__[0]).parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.stdout, done.stderr) == ("32\n", "")


def test_what_is_lazy() -> None:
    assert base.is_dask_collection(zcluster.delayed(1))
    assert not base.is_dask_collection([zcluster.delayed(1)])
