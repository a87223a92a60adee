"""The doctor's report: its lines, its exit status, and what it asks of workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zcluster.cli import checks, doctor
from zcluster.cli.checks import FAIL, OK, WARN, Finding
from zcluster.cli.main import main
from zcluster.cli.version import versions


@pytest.mark.parametrize(
    ("levels", "status", "last"),
    [
        ([OK, WARN], 0, "nothing here stands in the way"),
        ([OK, FAIL, WARN, FAIL], 1, "2 of these will not work"),
    ],
)
def test_the_status_says_whether_something_will_not_work(
    levels: list[str],
    status: int,
    last: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ZCLUSTER_SCHEDULER_FILE", raising=False)
    findings = [Finding(level, "it", "is so") for level in levels]
    monkeypatch.setattr(checks, "machine_findings", lambda: iter(findings))
    assert main(["doctor"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines == [*(f"{level:<4}  it: is so" for level in levels), last]


def test_a_shared_folder_is_tried_when_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZCLUSTER_SCHEDULER_FILE", raising=False)
    monkeypatch.setattr(checks, "machine_findings", lambda: iter(()))
    assert main(["doctor", "--shared", str(tmp_path)]) == 0
    assert f"OK    folder {tmp_path}: writes" in capsys.readouterr().out
    assert main(["doctor", "--shared", str(tmp_path / "none")]) == 2


class Answers:
    """A client whose workers answer as they are told to."""

    def __init__(self, answers: dict[str, Callable[[], Any]]) -> None:
        self.answers = answers

    def overview(self) -> dict[str, Any]:
        workers = [{"name": name} for name in self.answers]
        return {
            "address": "ipc:///s",
            "clients": 1,
            "nodes": [{"host": "h", "workers": workers}],
        }

    def submit(self, function: object, *, workers: list[str], **_: object) -> Any:
        answer = self.answers[workers[0]]

        class Future:
            def result(self, timeout: float) -> Any:
                return answer()

        return Future()


def test_workers_are_compared_with_this_process() -> None:
    def late() -> Any:
        raise TimeoutError

    def broken() -> Any:
        raise ModuleNotFoundError("No module named 'zcluster.cli'")

    ours = versions()
    client: Any = Answers(
        {
            "same": lambda: ours,
            "old": lambda: ours | {"Python": "3.9.1"},
            "odd": lambda: ours | {"NumPy": "1.26.0"},
            "late": late,
            "broken": broken,
        }
    )
    found = {
        finding.title: (finding.level, finding.sentence)
        for finding in doctor.cluster_findings(client, 3)
    }
    assert found["scheduler"] == (OK, "answers at ipc:///s")
    assert found["worker same"] == (OK, "on h, same versions as here")
    assert found["worker old"][0] == FAIL
    assert f"Python is 3.9.1 there and {ours['Python']} here" in found["worker old"][1]
    assert found["worker odd"][0] == WARN
    assert found["worker late"][0] == WARN
    assert "within 3 s" in found["worker late"][1]
    assert found["worker broken"][0] == FAIL
    assert "No module named" in found["worker broken"][1]


def test_a_cluster_without_workers_says_what_to_do() -> None:
    client: Any = Answers({})
    assert [finding.level for finding in doctor.cluster_findings(client, 3)] == [OK, WARN]
