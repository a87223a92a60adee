"""Plant one wrong edit at a time and see how soon the simulation finds it.

``python tests/planted/run.py`` takes up to the time that CI gives the simulation for each edit,
and most are found within a second or two. It prints what each took, and at the end the share that
was found. An edit that is never found shows code that is not needed, or an invariant that is
missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zcluster

# By its path: the script is run as it is, and tests are no package.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.planted.bugs import BUGS, Bug

#: What CI gives: so many schedules, or so many seconds, whatever ends first.
SCHEDULES, SECONDS = 3000, 60.0


def plant(bug: Bug, folder: Path) -> None:
    """Copy the package into a folder, with the edit.

    Raises
    ------
    ValueError
        If the text to replace does not stand there exactly once.
    """
    source = Path(zcluster.__file__).parent
    shutil.copytree(source, folder / "zcluster", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "zcluster" / bug.file
    text = path.read_text(encoding="utf-8")
    if text.count(bug.old) != 1:
        raise ValueError(
            f"{bug.name!r} does not apply: its text stands {text.count(bug.old)} times in "
            f"{bug.file}, expected once"
        )
    path.write_text(text.replace(bug.old, bug.new), encoding="utf-8")


def hunt(bug: Bug | None, seconds: float, jobs: int) -> tuple[str, float]:
    """Simulate with an edit planted; return the first line of what was found, and the time."""
    with tempfile.TemporaryDirectory(prefix="zc-planted-") as name:
        folder = Path(name)
        if bug is not None:
            plant(bug, folder)
        command = [sys.executable, "-m", "zcluster.testing", "--schedules", str(SCHEDULES)]
        command += ["--seconds", str(seconds), "--jobs", str(jobs), "--first", "--no-shrink"]
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        begun = time.monotonic()
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        spent = time.monotonic() - begun
    if done.returncode == 0:
        return "", spent
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "seed" in line]
    return (lines or ["it did not run: " + done.stderr.strip()[-200:]])[0].strip(), spent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each edit, at most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="edits whose name has these words")
    options = parser.parse_args()
    chosen = [bug for bug in BUGS if options.only in bug.name]
    complaint, _ = hunt(None, min(5.0, options.seconds), options.jobs)
    if complaint:
        print(f"the simulation fails without any edit: {complaint}")
        return 2
    missed = []
    for bug in chosen:
        found, spent = hunt(bug, options.seconds, options.jobs)
        if not found:
            missed.append(bug)
        print(f"{'found' if found else 'MISSED':6} {spent:5.1f} s  {bug.name}  {found}", flush=True)
    share = 100 * (1 - len(missed) / max(1, len(chosen)))
    print(f"{len(chosen) - len(missed)} of {len(chosen)} found ({share:.0f} %)")
    return 0 if share >= 90 else 1


if __name__ == "__main__":
    sys.exit(main())
