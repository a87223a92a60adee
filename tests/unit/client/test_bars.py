"""Bars that waits draw by themselves."""

from __future__ import annotations

import io
import operator
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from zcluster import config
from zcluster.client import bars
from zcluster.client.bars import NotebookBar, TerminalBar, open_bar
from zcluster.client.client import Client
from zcluster.client.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def set_errors(monkeypatch: pytest.MonkeyPatch, file: io.StringIO | None) -> None:
    """Have bars find this as standard error; pytest puts its own in place before each test."""
    found = types.SimpleNamespace(stderr=file, modules=sys.modules)
    monkeypatch.setattr(bars, "sys", found)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error is a terminal, and patience is short."""
    made = Terminal()
    set_errors(monkeypatch, made)
    monkeypatch.setattr(bars, "PATIENCE", 0.01)
    monkeypatch.setattr(bars, "_REFRESH", 0.005)
    monkeypatch.setattr(bars, "_ASK", 0.01)
    return made


@pytest.fixture
def let_go_later(cluster: Any) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Hold calls until a condition is met, seen from another thread."""
    threads: list[threading.Thread] = []

    def start(condition: Callable[[], object]) -> None:
        cluster.is_holding = True

        def run() -> None:
            cluster.until(condition)
            cluster.let_go()

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(10)


def test_a_long_wait_shows_a_bar_that_goes_away(
    client: Client, terminal: Terminal, let_go_later: Any
) -> None:
    let_go_later(lambda: "0/30" in terminal.getvalue())
    assert client.gather(client.map(operator.neg, range(30))) == [-n for n in range(30)]
    last = terminal.getvalue().rstrip("\r").rpartition("\r")[2]
    assert last.strip() == "", "the line is left empty"


def test_a_short_wait_shows_nothing(
    client: Client, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bars, "PATIENCE", 10.0)
    client.gather(client.map(operator.neg, range(30)))
    assert terminal.getvalue() == ""


def test_one_result_of_much_work_shows_what_the_cluster_has_left(
    client: Client, cluster: Any, terminal: Terminal, let_go_later: Any
) -> None:
    counts = [{"ready": 90, "assigned": 10, "finished": 5}, {"ready": 20, "assigned": 10}]
    cluster.answers["progress"] = lambda _: counts.pop(0) if len(counts) > 1 else counts[0]
    let_go_later(lambda: "0/100" in terminal.getvalue() and "70/100" in terminal.getvalue())
    assert client.submit(abs, -1).result() == 1


def test_a_timeout_ends_the_bar(client: Client, cluster: Any, terminal: Terminal) -> None:
    cluster.is_holding = True
    future = client.submit(abs, -1)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.1)
    assert "0/1" in terminal.getvalue()
    assert terminal.getvalue().rstrip("\r").rpartition("\r")[2].strip() == ""


def test_an_error_ends_the_bar_and_is_raised(
    client: Client, terminal: Terminal, let_go_later: Any
) -> None:
    let_go_later(lambda: "0/2" in terminal.getvalue())
    with pytest.raises(ZeroDivisionError):
        client.gather(client.map(operator.truediv, [1, 1], [1, 0]))
    assert terminal.getvalue().rstrip("\r").rpartition("\r")[2].strip() == ""


@pytest.mark.parametrize("why", ["configuration", "no terminal", "no file", "another thread"])
def test_nobody_looks_and_nothing_is_drawn(
    client: Client,
    cluster: Any,
    terminal: Terminal,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(bars, "open_bar", lambda **_: drawn.append(1))
    if why == "no terminal":
        set_errors(monkeypatch, io.StringIO())
    elif why == "no file":
        set_errors(monkeypatch, None)
    cluster.is_holding = True
    future = client.submit(abs, -1)

    def wait() -> None:
        with pytest.raises(TimeoutError):
            future.result(timeout=0.05)

    if why == "another thread":
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(10)
    elif why == "configuration":
        with config.set({"progress": False}):
            wait()
    else:
        wait()
    assert drawn == []


def test_a_bar_can_be_asked_for_everywhere(
    client: Client, cluster: Any, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = io.StringIO()
    set_errors(monkeypatch, plain)
    cluster.is_holding = True
    with config.set({"progress": True}), pytest.raises(TimeoutError):
        client.submit(abs, -1).result(timeout=0.05)
    assert "0/1" in plain.getvalue()


# ------------------------------------------------------------------------- a notebook


class Shown:
    """The output of a cell: what a notebook does with what is displayed."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def update(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Stands for IPython with a kernel, which is not installed where the tests run."""
    shown = Shown()
    top: Any = types.ModuleType("IPython")
    top.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    display: Any = types.ModuleType("IPython.display")
    display.HTML = str

    def show(first: str, display_id: bool) -> Shown:
        assert display_id
        shown.update(first)
        return shown

    display.display = show
    monkeypatch.setitem(sys.modules, "IPython", top)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def test_a_notebook_shows_one_line_of_html_that_changes(client: Client, notebook: Shown) -> None:
    progress(client.map(operator.truediv, [1, 2, 3], [0, 1, 1]))
    assert notebook.texts[0] == ""
    assert '<progress value="0" max="3"' in notebook.texts[1]
    assert '<progress value="3" max="3"' in notebook.texts[-1]
    assert "3/3 tasks" in notebook.texts[-1]
    assert "1 failed" in notebook.texts[-1]


def test_a_bar_of_a_wait_is_cleared_in_a_notebook(notebook: Shown) -> None:
    with open_bar(keep=False) as bar:
        assert isinstance(bar, NotebookBar)
        bar.show(1, 2, 0)
    assert notebook.texts[-1] == ""


def test_a_file_is_a_terminal_also_in_a_notebook(notebook: Shown) -> None:
    with open_bar(io.StringIO()) as bar:
        assert isinstance(bar, TerminalBar)
    assert notebook.texts == []


def test_a_terminal_without_a_kernel_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    top: Any = types.ModuleType("IPython")
    top.get_ipython = lambda: None
    monkeypatch.setitem(sys.modules, "IPython", top)
    assert not bars.is_notebook()


@pytest.mark.parametrize(("file", "most"), [(io.StringIO(), 3), (Terminal(), 20)])
def test_what_is_no_terminal_gets_few_drawings(file: io.StringIO, most: int) -> None:
    with open_bar(file) as bar:
        for done in range(1001):
            bar.show(done, 1000, 0)
    assert 2 <= file.getvalue().count("/1000") <= most
    assert "1000/1000" in file.getvalue()


def test_a_line_that_ctrl_c_cut_short_is_taken_away_too() -> None:
    class CutShort(Terminal):
        is_cut = False

        def write(self, text: str) -> int:
            written = super().write(text)
            if "/7 [" in text and not self.is_cut:
                self.is_cut = True
                raise KeyboardInterrupt
            return written

    screen = CutShort()
    with pytest.raises(KeyboardInterrupt), open_bar(screen, keep=False) as bar:
        bar.show(1, 7, 0)
    line = ""
    for part in screen.getvalue().split("\r"):
        line = part + line[len(part) :]
    assert line.strip() == ""


def test_the_pace_counts_from_when_the_bar_began() -> None:
    screen = io.StringIO()
    with open_bar(screen) as bar:
        bar.show(900, 1000, 0)
        bar.show(900, 1000, 2)
    assert "900/1000" in screen.getvalue()
    assert "failed=2" in screen.getvalue()
    assert "?task/s" in screen.getvalue(), "none was done since"
