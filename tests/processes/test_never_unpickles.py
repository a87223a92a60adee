"""Neither the scheduler nor the nanny unpickles anything, ever.

They run here under a guard: every way to unpickle raises when it is called from our code,
cloudpickle cannot be imported, and an audit hook ends the process at once when a pickle names a
class. Under it a cluster does what clusters do. Canaries travel in every place that takes an
object: whoever rebuilds one writes its pid down, and only workers and clients may.
"""

from __future__ import annotations

import importlib
import os
import pickle
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import zmq

from zcluster.client.client import Client
from zcluster.client.waiting import wait
from zcluster.delayed import delayed
from zcluster.errors import WorkerKilledError
from zcluster.protocol.messages import PROTOCOL, Hello

if TYPE_CHECKING:
    from tests.processes.conftest import Commands

pytestmark = pytest.mark.processes

Until = Callable[..., None]
ENDED_BY_GUARD = 99

GUARD = """
import _pickle, marshal, os, pickle, sys

def refuse(name, original):
    def refused(*arguments, **keywords):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] == "zcluster":
            sys.stderr.write(f"GUARD: {name} was called by {caller}\\n")
            os._exit(99)
        return original(*arguments, **keywords)
    return refused

for module in (pickle, _pickle, marshal):
    for name in ("load", "loads"):
        setattr(module, name, refuse(f"{module.__name__}.{name}", getattr(module, name)))
class Unpickler(pickle.Unpickler):
    def __init__(self, *arguments, **keywords):
        sys.stderr.write("GUARD: an Unpickler was made\\n")
        os._exit(99)
pickle.Unpickler = _pickle.Unpickler = pickle._Unpickler = Unpickler
sys.modules["cloudpickle"] = sys.modules["cloudpickle.cloudpickle"] = None

def audit(event, arguments):
    if event == "pickle.find_class":
        os.write(2, b"GUARD: a pickle was looked into\\n")
        os._exit(99)
sys.addaudithook(audit)
"""

SCHEDULER = GUARD + "from zcluster.cli.scheduler import main; sys.exit(main())"
NANNY = GUARD + "from zcluster.cli.worker import main; sys.exit(main())"


@pytest.fixture
def guarded(commands: Commands) -> Iterator[tuple[Commands, Client]]:
    """Return a scheduler and a nanny with two workers under guard, and a client."""
    commands.start_scheduler(program=("-c", SCHEDULER))
    commands.nodes["a"] = commands.start(
        *("-c", NANNY, f"--scheduler-file={commands.file}", "--name=a"),
        *("--nworkers=2", "--nthreads=1"),
    )
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(2, 20)
        yield commands, client
        assert commands.scheduler is not None
        assert commands.scheduler.poll() is None, commands.errors()
        assert commands.nodes["a"].poll() is None, commands.errors()
        assert "GUARD" not in commands.errors()


@pytest.mark.parametrize(
    "attempt",
    [
        "import zcluster.errors as m; m.p = pickle; exec('p.loads(p.dumps(1))', m.__dict__)",
        "import zcluster.errors as m; m.p = marshal; exec('p.loads(p.dumps(1))', m.__dict__)",
        "pickle.loads(pickle.dumps(OSError()))",
        "pickle.Unpickler(None)",
        "_pickle.Unpickler(None)",
    ],
)
def test_the_guard_bites(commands: Commands, attempt: str) -> None:
    process = commands.start("-c", f"{GUARD}\n{attempt}")
    assert process.wait(10) == ENDED_BY_GUARD, commands.errors()


# ------------------------------------------------------------------------ the canary


class Canary:
    """Whoever rebuilds one appends its pid to a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (sing, (self.path,))


def sing(path: str) -> Canary:
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    return Canary(path)


class SingingError(Exception):
    def __init__(self, path: str) -> None:
        super().__init__("an error with a canary", Canary(path))


def take(*canaries: Any) -> int:
    return len(canaries)


def give(path: str, size: int) -> list[Any]:
    return [Canary(path), bytes(size)]


def throw(path: str) -> None:
    raise SingingError(path)


def test_a_canary_sings_in_workers_and_clients_alone(
    guarded: tuple[Commands, Client], tmp_path: Path
) -> None:
    commands, client = guarded
    path = str(tmp_path / "sung")
    canary = Canary(path)
    workers = {info["pid"] for info in client.scheduler_info()["workers"].values()}
    forbidden = {client.scheduler_info()["workers"]["a-0"]["nanny_pid"]}
    assert commands.scheduler is not None
    forbidden.add(commands.scheduler.pid)

    def sung() -> list[int]:
        pids = [int(line) for line in Path(path).read_text().split()]
        Path(path).write_text("")
        assert forbidden.isdisjoint(pids)
        return pids

    client.submit(lambda: take(canary), pure=False).result(10)  # in the function
    assert workers.issuperset(sung())
    client.submit(take, canary, [canary, bytes(200_000)], pure=False).result(10)  # in arguments
    assert workers.issuperset(sung())
    for size in (1, 200_000):  # in results, small and in the store, moved and not
        result = client.submit(give, path, size, pure=False)
        on_both = [client.submit(take, result, workers=name, pure=False) for name in ("a-0", "a-1")]
        client.gather(on_both)
        result.result(10)
        pids = sung()
        assert os.getpid() in pids
        assert workers | {os.getpid()} >= set(pids)
    error = client.submit(throw, path, pure=False).exception(10)  # in an exception
    assert error is not None
    assert "an error with a canary" in str(error)
    assert workers | {os.getpid()} >= set(sung())
    (scattered,) = client.scatter([canary], hash=False)
    client.submit(take, scattered, pure=False).result(10)
    assert workers | {os.getpid()} >= set(sung())
    say_hello_with(commands, pickle.dumps(canary))
    assert sung() == []


def say_hello_with(commands: Commands, blob: bytes) -> None:
    """Put a pickle into every place of a hello, and instead of it."""
    hello = Hello("client", PROTOCOL, "1", "3", blob, b"", 0, None, blob.decode("latin-1"))
    control = msgspec.msgpack.encode(hello)
    context: zmq.Context[Any] = zmq.Context()
    try:
        for frames in ([control], [blob], [control, blob], [blob, control]):
            stranger = context.socket(zmq.DEALER)
            stranger.setsockopt(zmq.LINGER, 1000)
            stranger.setsockopt(zmq.RCVTIMEO, 5000)
            stranger.connect(commands.address)
            stranger.send_multipart([struct.pack("<QQ", 0, 0) + frames[0], *frames[1:]])
            if frames == [control]:
                assert b"welcome" in stranger.recv_multipart()[0]
            stranger.close()
    finally:
        context.destroy(1000)


# --------------------------------------------------------------------- what clusters do


def add(*numbers: float) -> float:
    return sum(numbers)


def kill_me() -> None:
    os.abort()


def fill(size: int) -> np.ndarray:
    return np.ones(size)


def test_all_that_a_cluster_does_works_under_guard(
    guarded: tuple[Commands, Client], until: Until
) -> None:
    _, client = guarded
    # a map; a graph by hand; a lazy graph; a tree of futures
    assert client.gather(client.map(abs, range(-3000, 0))) == list(range(3000, 0, -1))
    graph = {"x": 1, "y": (add, "x", 2), "z": [(add, "y", "x"), "x"]}
    assert client.get(graph, ["y", "z"]) == [3, [4, 1]]
    assert delayed(add)(*[delayed(abs)(-number) for number in range(50)]).compute() == 1225
    level = client.map(abs, range(64))
    while len(level) > 1:
        level = [client.submit(add, *pair) for pair in zip(level[::2], level[1::2], strict=True)]
    assert level[0].result(10) == sum(range(64))
    # large results, between workers and here; large arguments; scattered data
    large = client.map(fill, [1_000_000] * 4, pure=False)
    assert client.submit(lambda parts: sum(part.sum() for part in parts), large).result(10) == 4e6
    assert client.gather(large)[3].sum() == 1e6
    assert client.submit(np.sum, np.ones(1_000_000)).result(10) == 1e6
    assert client.submit(np.sum, client.scatter(np.ones(100_000))).result(10) == 1e5
    # errors, killed workers, cancelled and released tasks, questions
    with pytest.raises(ZeroDivisionError):
        client.submit(divmod, 1, 0).result(10)
    with pytest.raises(WorkerKilledError):
        client.submit(kill_me, pure=False).result(20)
    some = client.map(abs, range(10_000, 10_500), pure=False)
    client.cancel(some[250:])
    wait(some[:250])
    assert client.who_has(large)
    assert client.story(level[0])
    assert client.explain(level[0])
    del large, level, some
    until(lambda: client.statistics()["rows"] < 100, 10, "the release of what was dropped")


def test_modules_that_only_the_client_has_travel_under_guard(
    guarded: tuple[Commands, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = guarded
    (tmp_path / "only_client_has.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)  # what lies in the working directory is the user's own
    module = importlib.import_module("only_client_has")
    assert client.submit(module.double, 4).result(10) == 8


def test_no_server_imports_what_unpickles() -> None:
    """What is not loaded is not called: cloudpickle is for clients and workers."""
    code = textwrap.dedent(
        """
        import sys
        import zcluster.servers.scheduler
        found = sorted({"cloudpickle", "zcluster.protocol.callables"} & set(sys.modules))
        print(found)
        """
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=20
    )
    assert run.stdout == "[]\n", run.stderr


class Keeper:
    def __init__(self, canary: Canary) -> None:
        self.canary = canary

    def give(self, *canaries: Any) -> list[Any]:
        return [self.canary, *canaries]


@pytest.mark.slow
def test_direct_calls_actors_and_uploads_work_under_guard(
    guarded: tuple[Commands, Client], tmp_path: Path
) -> None:
    commands, client = guarded
    path = str(tmp_path / "sung")
    canary = Canary(path)
    assert commands.scheduler is not None
    forbidden = {client.scheduler_info()["workers"]["a-0"]["nanny_pid"], commands.scheduler.pid}
    assert client.run(take, canary) == {"a-0": 1, "a-1": 1}
    assert client.run_on_scheduler(take, canary) == 1
    assert client.run_on_scheduler(give, path, 1)[1] == b"\0"
    with pytest.raises(SingingError):
        client.run_on_scheduler(throw, path)
    keeper = client.submit(Keeper, canary, actor=True).result(10)
    assert len(keeper.give(canary).result(10)) == 2
    module = tmp_path / "uploaded_under_guard.py"
    module.write_text("VALUE = 3\n")
    client.upload_file(module)
    client.restart()
    assert client.run(eval, "__import__('uploaded_under_guard').VALUE") == {"a-0": 3, "a-1": 3}
    assert forbidden.isdisjoint(int(line) for line in Path(path).read_text().split())
