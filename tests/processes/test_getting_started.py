"""The commands of the page for newcomers work as printed; its Python examples are doctests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

_PAGE = Path(__file__).parents[2] / "docs" / "getting-started.md"
#: The last line that each block of commands prints.
_LAST = (
    "The cluster has ended. Its code is zcluster/cli/demo.py.",
    "[3, 2, 1, 0, 1, 2]",
)


def blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", _PAGE.read_text(), re.DOTALL)


def test_every_block_is_python_or_commands_or_the_installation() -> None:
    text = _PAGE.read_text()
    kinds = re.findall(r"^```(\w+)$", text, re.MULTILINE)
    assert set(kinds) == {"python", "sh", "text"}
    assert re.findall(r"```text\n(.*?)```", text, re.DOTALL) == ["pip install .\n"]
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        assert block.startswith(">>> "), block
    assert len(blocks()) == len(_LAST)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(_LAST)))
def test_a_block_of_commands_works_as_printed(number: int, tmp_path: Path) -> None:
    commands = os.path.dirname(sys.executable)
    done = subprocess.run(
        ["bash", "-e", "-c", blocks()[number]],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=45,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == _LAST[number], done.stdout
    assert list(tmp_path.iterdir()) == []
