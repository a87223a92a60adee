"""The wheel holds what the checkout holds, launchers included, and nothing of the rest."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def files_in_wheel(folder: Path) -> set[str]:
    # From a copy: a build leaves `build/` behind, and takes deleted files back out of it.
    copy = folder / "copy"
    copy.mkdir()
    for name in ("zcluster", "launchers"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*command, str(folder), str(copy)], check=True)
    (wheel,) = folder.glob("zcluster-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_wheel_holds_the_tree(tmp_path: Path) -> None:
    """A folder missing from the package list is missing here, and only here."""
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "zcluster").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"zcluster/launchers/{path.name}" for path in (ROOT / "launchers").glob("*.*")}
    assert files_in_wheel(tmp_path) == expected
