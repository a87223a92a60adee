"""The progress bar."""

from __future__ import annotations

import io
import operator

import pytest

from zcluster.client import bars
from zcluster.client.client import Client
from zcluster.client.progress import progress


def test_the_bar_is_full_when_all_are_done(client: Client) -> None:
    futures = client.map(operator.neg, range(30))
    screen = io.StringIO()
    progress(futures, file=screen)
    assert "30/30" in screen.getvalue()
    assert "failed" not in screen.getvalue()
    assert all(future.done() for future in futures)


def test_failures_are_counted_and_not_raised(client: Client) -> None:
    screen = io.StringIO()
    progress(client.map(operator.truediv, [1, 2, 3], [0, 1, 0]), file=screen)
    assert "3/3" in screen.getvalue()
    assert "failed=2" in screen.getvalue()


def test_text_may_be_asked_for_in_a_notebook(
    client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bars, "is_notebook", lambda: True)
    progress(client.map(operator.neg, range(3)), notebook=False)
    assert "3/3" in capsys.readouterr().err


def test_nothing_to_wait_for_ends_at_once(client: Client) -> None:
    progress(file=io.StringIO())
