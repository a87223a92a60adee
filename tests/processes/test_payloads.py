"""What travels: large and strange arguments, results, exceptions and modules."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zcluster.client.client import Client
from zcluster.client.cluster import LocalCluster
from zcluster.client.waiting import wait
from zcluster.errors import NotSerializable, ResultNotSerializable

if TYPE_CHECKING:
    from tests.processes.conftest import Commands

pytestmark = pytest.mark.processes

MIB = 1 << 20


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers that no test here ends."""
    with Client(n_workers=2, threads_per_worker=1) as made:
        yield made


def same_workers(client: Client) -> dict[str, int]:
    return {name: info["pid"] for name, info in client.scheduler_info()["workers"].items()}


# ------------------------------------------------------------------------- shared memory


def numbers(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64)


def every_second(array: np.ndarray) -> np.ndarray:
    return array[::2]


def filled(size: int, value: int) -> np.ndarray:
    return np.full(size, value % 251, dtype=np.uint8)


def checksum(array: np.ndarray) -> int:
    return int(array.sum(dtype=np.int64))


def let_pass(client: Client, total: int, size: int) -> None:
    """Make results of so many bytes in all, a few at a time, and check each."""
    for first in range(0, total // size, 4):
        some = client.map(filled, [size] * 4, range(first, first + 4), pure=False)
        sums = client.gather(client.map(checksum, some, pure=False))
        assert sums == [size * (number % 251) for number in range(first, first + 4)]


@pytest.mark.parametrize(
    ("store", "passing"),
    [
        (64 * MIB, 160 * MIB),
        pytest.param(1024 * MIB, 10_000 * MIB, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
)
def test_a_view_of_an_input_keeps_its_value_after_the_input_is_released(
    commands: Commands, store: int, passing: int
) -> None:
    commands.start_scheduler()
    commands.start_node("a", f"--store-limit={store}")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(1, 20)
        source = client.submit(numbers, 500_000)
        view = client.submit(every_second, source)
        here = client.submit(numbers, 600_000).result()  # mapped here, its future gone
        wait([view])
        view_here = view.result()
        source.release()
        let_pass(client, passing, 4 * MIB)
        expected = np.arange(0, 500_000, 2)
        assert (view.result() == expected).all()
        assert (view_here == expected).all()
        assert client.submit(checksum, view).result() == int(expected.sum())
        assert (here == np.arange(600_000)).all()


def write_into(array: np.ndarray) -> int:
    array[:] = -1
    return int(array.sum())


def test_a_task_that_writes_into_its_input_harms_nobody(client: Client) -> None:
    source = client.submit(numbers, 300_000)
    assert client.gather(client.map(write_into, [source] * 6, pure=False)) == [-300_000] * 6
    assert client.submit(checksum, source, pure=False).result() == sum(range(300_000))
    mine = source.result()
    mine[:] = 0
    assert checksum(source.result()) == sum(range(300_000))
    argument = np.ones(300_000)
    assert client.submit(write_into, argument, pure=False).result() == -300_000
    assert argument.sum() == 300_000


def test_an_argument_is_frozen_when_it_is_submitted(client: Client) -> None:
    small, large = [1, 2, 3], np.ones(200_000)
    futures = [client.submit(sum, small, pure=False), client.submit(checksum, large, pure=False)]
    small.clear()
    large[:] = 7
    assert client.gather(futures) == [6, 200_000]


def bytes_of(size: int) -> bytes:
    return b"\x07" * size


def size_and_ends(data: Any) -> tuple[int, int, int]:
    return len(data), data[0], data[-1]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["bytes", "array"])
def test_three_gibibytes_pass_in_both_directions(kind: str) -> None:
    size = 3 << 30
    with Client(n_workers=1, threads_per_worker=1, memory_limit="12GiB") as client:
        if kind == "bytes":
            result = client.submit(bytes_of, size)
        else:
            result = client.submit(filled, size, 7)
        assert client.submit(size_and_ends, result).result() == (size, 7, 7)
        value = result.result()
        assert size_and_ends(value) == (size, 7, 7)
        result.release()
        assert client.submit(size_and_ends, value, pure=False).result() == (size, 7, 7)


# ---------------------------------------------------------------------- what cannot travel


class Holder:
    def __init__(self, content: Any) -> None:
        self.content = content


def test_what_cannot_be_pickled_raises_at_submit_and_names_the_place(client: Client) -> None:
    bad = Holder({"deep": [1, threading.Lock()]})
    with pytest.raises(NotSerializable, match=r"content.*deep.*1.*lock"):
        client.submit(id, bad)
    with pytest.raises(NotSerializable, match="lock"):
        client.map(id, [1, threading.Lock()])
    lock = threading.Lock()
    with pytest.raises(NotSerializable, match="lock"):
        client.submit(lambda: lock)
    assert client.submit(abs, -1).result() == 1


def make_lock() -> object:
    return threading.Lock()


def count_up(stop: int) -> Iterator[int]:
    yield from range(stop)


def is_lock(value: Any) -> bool:
    return bool(value.acquire(blocking=False))


def test_a_result_that_cannot_be_pickled_serves_tasks_on_its_worker(client: Client) -> None:
    lock = client.submit(make_lock, pure=False)
    assert client.submit(is_lock, lock).result(10) is True
    assert client.submit(list, client.submit(count_up, 5, pure=False)).result(10) == [0, 1, 2, 3, 4]


def test_a_result_that_cannot_be_pickled_is_an_error_for_the_client(client: Client) -> None:
    with pytest.raises(ResultNotSerializable, match="lock"):
        client.submit(make_lock, pure=False).result(10)
    with pytest.raises(ResultNotSerializable, match="stays in the worker"):
        client.submit(count_up, 5, pure=False).result(10)


class Hostile:
    """Pickles well and raises when it is rebuilt."""

    def __reduce__(self) -> Any:
        return (_raise_here, ("cannot be rebuilt",))


def _raise_here(message: str) -> None:
    raise LookupError(message)


def make_hostile() -> object:
    return Hostile()


def test_a_result_that_cannot_be_rebuilt_raises_where_it_is_used(client: Client) -> None:
    bad = client.submit(make_hostile, pure=False)
    with pytest.raises(Exception, match="cannot be rebuilt"):
        bad.result(10)
    with pytest.raises(Exception, match="cannot be rebuilt"):
        client.submit(id, bad).result(10)
    assert client.submit(abs, -1, pure=False).result() == 1


# --------------------------------------------------------------------------- exceptions


class Unpicklable(ValueError):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class TwoArguments(KeyError):
    """Pickles, and cannot be rebuilt from its ``args``."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Mute(RuntimeError):
    def __str__(self) -> str:
        raise OSError("no words")

    __repr__ = __str__


def fail_with(kind: Any, *arguments: Any) -> None:
    raise kind(*arguments)


def fail_with_unpicklable() -> None:
    raise Unpicklable("holds a lock")


def recurse(depth: int) -> int:
    return recurse(depth + 1) + 1


def fail_from_cause() -> None:
    try:
        raise KeyError("absent")
    except KeyError as error:
        raise RuntimeError("the outer one") from error


def test_an_exception_that_cannot_be_pickled_still_says_what_it_was(client: Client) -> None:
    with pytest.raises(Exception, match="holds a lock") as caught:
        client.submit(fail_with_unpicklable, pure=False).result(10)
    assert "Unpicklable" in str(caught.value) + repr(caught.value)
    assert "fail_with_unpicklable" in str(caught.value)  # its traceback, as text
    with pytest.raises(Exception, match="first and second"):
        client.submit(fail_with, TwoArguments, "first", "second", pure=False).result(10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_without_words_is_told_by_its_type(client: Client) -> None:
    error = client.submit(fail_with, Mute, pure=False).exception(10)
    assert error is not None
    assert "Mute" in type(error).__name__ + "".join(map(str, error.args))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(SystemExit, (3,)), (KeyboardInterrupt, ()), (GeneratorExit, ()), (StopIteration, (1,))],
)
def test_exceptions_that_end_programs_end_only_the_task(
    client: Client, kind: type[BaseException], arguments: tuple[Any, ...]
) -> None:
    before = same_workers(client)
    with pytest.raises(kind) as caught:
        client.submit(fail_with, kind, *arguments, pure=False).result(10)
    assert caught.value.args == arguments
    assert client.gather(client.map(abs, [-1, -2, -3], pure=False)) == [1, 2, 3]
    assert same_workers(client) == before


@pytest.mark.parametrize(
    ("kind", "arguments", "fields"),
    [
        (UnicodeDecodeError, ("utf-8", b"\xff", 0, 1, "why"), ["encoding", "object", "reason"]),
        (SyntaxError, ("why", ("file.py", 3, 1, "a b")), ["msg", "filename", "lineno"]),
        (StopIteration, (7,), ["value"]),
        (SystemExit, (3,), ["code"]),
        (FileNotFoundError, (2, "why", "file.txt"), ["errno", "strerror", "filename"]),
    ],
)
def test_an_exception_keeps_what_its_class_keeps_outside_its_arguments(
    client: Client, kind: type[BaseException], arguments: tuple[Any, ...], fields: list[str]
) -> None:
    """A UnicodeDecodeError came back as an error without text or fields."""
    with pytest.raises(kind) as caught:
        client.submit(fail_with, kind, *arguments, pure=False).result(10)
    expected = kind(*arguments)
    assert str(caught.value) == str(expected)
    for name in fields:
        assert getattr(caught.value, name) == getattr(expected, name)


def leave_a_forked_child(code: Any) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == "return":
        return 0
    sys.exit(code)


@pytest.mark.parametrize(("code", "status"), [(0, 0), (3, 3), (None, 0), ("return", 0)])
def test_a_child_that_a_task_forks_ends_where_it_leaves_the_task(
    client: Client, code: Any, status: int
) -> None:
    """The child became a second worker that never ended, and its parent waited for it."""
    future = client.submit(leave_a_forked_child, code, pure=False)
    assert future.result(10) == status


def test_infinite_recursion_is_an_error_of_the_task(client: Client) -> None:
    before = same_workers(client)
    with pytest.raises(RecursionError):
        client.submit(recurse, 0, pure=False).result(10)
    assert same_workers(client) == before


def test_a_cause_and_a_remote_traceback_arrive(client: Client) -> None:
    with pytest.raises(RuntimeError, match="the outer one") as caught:
        client.submit(fail_from_cause, pure=False).result(10)
    assert isinstance(caught.value.__cause__, KeyError)
    frames = []
    trace = caught.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[-1] == "fail_from_cause"


def test_a_huge_exception_is_cut_and_marked(client: Client) -> None:
    error = client.submit(fail_with, ValueError, "x" * 5_000_000, pure=False).exception(10)
    assert isinstance(error, ValueError)
    assert 1000 < len(str(error)) < 300_000
    assert "left out" in str(error)


# ------------------------------------------------------------------------------- modules


def import_it(name: str) -> str:
    return str(__import__(name).__name__)


def test_a_module_that_is_missing_is_named_and_costs_no_worker(client: Client) -> None:
    before = same_workers(client)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_here"):
        client.submit(import_it, "no_such_module_here").result(10)
    assert same_workers(client) == before


def run_script(folder: Path, text: str, *arguments: str) -> str:
    (folder / "script.py").write_text(textwrap.dedent(text))
    run = subprocess.run(
        [sys.executable, "script.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_module_beside_the_script_is_imported_by_local_workers(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("import os\ndef where(x):\n    return x, os.getpid()\n")
    said = run_script(
        tmp_path,
        """
        import os
        from zcluster.distributed import Client
        import beside

        client = Client(n_workers=1, threads_per_worker=1)
        value, pid = client.submit(beside.where, 5).result(10)
        print(value, pid != os.getpid())
        client.close()
        """,
    )
    assert said == "5 True\n"


@pytest.mark.parametrize("host", ["", pytest.param("elsewhere", marks=pytest.mark.slow)])
def test_a_module_that_only_the_client_has_is_there_for_workers(
    commands: Commands, tmp_path: Path, host: str
) -> None:
    """On the client's host its paths are used; a client that is elsewhere ships the source."""
    package = tmp_path / "only_here"
    package.mkdir()
    (package / "__init__.py").write_text("from only_here.inner import double\n")
    (package / "inner.py").write_text(
        "def double(x):\n    return 2 * x\n\nclass Pair:\n    def __init__(self, a):\n"
        "        self.a = a\n"
    )
    commands.start_scheduler()
    commands.start_node("a")
    said = run_script(
        tmp_path,
        """
        import socket, sys
        if sys.argv[2]:
            socket.gethostname = lambda: sys.argv[2]
        from zcluster.distributed import Client
        import only_here
        from only_here.inner import Pair

        client = Client(scheduler_file=sys.argv[1])
        client.wait_for_workers(1, 20)
        print(client.submit(only_here.double, 21).result(10))
        print(client.submit(lambda pair: pair.a, Pair(7)).result(10))
        path = client.submit(lambda: __import__("only_here").__path__).result(10)
        print(any("only_here" in part for part in path))
        client.close()
        """,
        str(commands.file),
        host,
    )
    assert said == f"42\n7\n{not host}\n"


def test_a_local_cluster_imports_from_where_the_script_was_started() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster, Client(cluster) as client:
        assert client.submit(os.getcwd).result(10) == os.getcwd()
